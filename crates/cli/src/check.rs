//! `saywhy check`: everything that is wrong with a configuration, in one run; and `saywhy schema`.

use crate::config::{self, Config, Failure, Report};
use clap::Args;
use serde_json::{Value, json};
use std::io::{IsTerminal, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

/// What `saywhy check` takes.
#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 the file is right, 1 it has problems, 2 it cannot be read.")]
pub(crate) struct CheckArgs {
    /// The configuration
    #[arg(value_name = "FILE", default_value = "saywhy.toml")]
    file: PathBuf,
    /// Print one JSON object to standard output instead
    #[arg(long)]
    json: bool,
}

/// Checks a file.
pub(crate) fn check(args: &CheckArgs) -> ExitCode {
    let outcome = config::read(&args.file);
    if args.json {
        data(&format!("{:#}", as_json(args, &outcome)));
    } else {
        print(args, &outcome);
    }
    outcome.map_or_else(|failure| failure.exit_code(), |_| ExitCode::SUCCESS)
}

/// Prints the JSON Schema of the configuration.
pub(crate) fn schema() -> ExitCode {
    data(&format!("{:#}", config::schema()));
    ExitCode::SUCCESS
}

/// A line of data. Whoever closed the pipe has read enough.
pub(crate) fn data(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Whether standard error is a terminal that wants colours: <https://no-color.org>.
pub(crate) fn colour() -> bool {
    wants_colour(&std::io::stderr())
}

/// Whether a stream is a terminal that wants colours.
pub(crate) fn wants_colour(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

fn print(args: &CheckArgs, outcome: &Result<Config, Failure>) {
    match outcome {
        Ok(config) => {
            data(&format!("{}: ok, {}", config::escape(&args.file.display().to_string()), summary(config)));
            if let Some(complaint) = config.unservable() {
                eprint!(
                    "{}",
                    config::render("warning: as it stands `saywhy serve` will not start:", &complaint, colour())
                );
            }
        }
        Err(failure) => eprint!("{}", failure.render(colour())),
    }
}

fn as_json(args: &CheckArgs, outcome: &Result<Config, Failure>) -> Value {
    let about = |complaint: &config::Complaint| json!([{ "message": complaint.message, "hint": complaint.hint }]);
    let problems = match outcome {
        Ok(_) => json!([]),
        Err(Failure::Problems(report)) => Report::json(report),
        Err(Failure::Unreadable(complaint) | Failure::Unservable(complaint)) => about(complaint),
    };
    let warnings = outcome.as_ref().ok().and_then(Config::unservable).map_or(json!([]), |complaint| about(&complaint));
    json!({ "file": args.file.display().to_string(), "ok": outcome.is_ok(), "problems": problems, "warnings": warnings })
}

fn summary(config: &Config) -> String {
    let mut parts = vec![match config.routes.len() {
        0 => "1 route, the default: rooms at /ws".to_owned(),
        routes => count(routes, "route"),
    }];
    parts.extend((!config.errors.is_empty()).then(|| count(config.errors.len(), "error") + " of your own"));
    parts.extend((!config.dialects.is_empty()).then(|| count(config.dialects.len(), "dialect") + " of your own"));
    parts.join(", ")
}

fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}
