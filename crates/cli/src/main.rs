//! The `saywhy` binary: WebSockets that say why.

// No panic is reachable from the network.
#![warn(clippy::unwrap_used, clippy::expect_used)]

mod check;
mod config;
mod connect;
mod dev;
mod explain;
mod fault;
mod keys;
mod probe;
mod routes;
mod serve;
mod setup;
mod token;

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use std::process::ExitCode;

/// WebSockets that say why: every connection that is refused, limited, cut, replaced or restarted tells its client what
/// happened, whether to try again and when; and tells its operator the cause, under the same id.
#[derive(Parser)]
#[command(version, after_help = "Without a command it serves, in development mode: open the page that it names.")]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Serve rooms over WebSocket; without a configuration in development mode, with a page to try things on
    Serve(Box<config::ServeArgs>),
    /// Check a configuration: every problem with its line, column and a hint
    Check(check::CheckArgs),
    /// Sign a token, or say why one is refused
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Talk to any WebSocket server, from a terminal or a pipe, and say how it ended
    Connect(Box<connect::ConnectArgs>),
    /// What a close code, an HTTP status, a name or the text of an error means, who is to blame, and what to do
    Explain(explain::ExplainArgs),
    /// Break connections on purpose: a proxy in front of a server, to test its clients with
    Fault(Box<fault::FaultArgs>),
    /// Try everything that may go wrong on a server: what it does, whether that is right, what a browser sees
    Probe(Box<probe::ProbeArgs>),
    /// Print the JSON Schema of the configuration
    Schema,
    /// Print what makes a shell complete these commands
    #[command(after_help = "\
Examples:

  bash  saywhy completions bash > ~/.local/share/bash-completion/completions/saywhy
  zsh   saywhy completions zsh > \"${fpath[1]}/_saywhy\"
  fish  saywhy completions fish > ~/.config/fish/completions/saywhy.fish")]
    Completions {
        /// Which shell
        shell: Shell,
    },
}

fn main() -> ExitCode {
    let command = Cli::parse().command.unwrap_or_else(|| Command::Serve(Box::default()));
    match command {
        Command::Serve(args) => match config::Config::load(&args) {
            Ok(config) => serve::run(config, *args),
            Err(failure) => {
                eprint!("{}", failure.render(check::colour()));
                failure.exit_code()
            }
        },
        Command::Check(args) => check::check(&args),
        Command::Token(command) => token::run(&command),
        Command::Connect(args) => connect::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Fault(args) => fault::run(&args),
        Command::Probe(args) => probe::run(&args),
        Command::Schema => check::schema(),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "saywhy", &mut script);
            check::data(&String::from_utf8_lossy(&script));
            ExitCode::SUCCESS
        }
    }
}
