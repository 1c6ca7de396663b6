//! `bench-load`: puts a load on one server and says in one line of JSON what came of it, and what it cost the server.
//!
//! Every attempt is counted and every answer is checked. A window is measured after a warm-up, long enough for the
//! server to use a given time of its processor; cost is what `/proc` says of the server's processes at both its ends.

mod client;
mod crowd;
mod echo;
mod flood;
mod idle;
mod refusal;
mod rooms;
mod sources;
mod usage;
mod window;

use clap::{Args, Parser, Subcommand};
use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;

#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    work: Work,
}

/// Against whom, and for how long.
#[derive(Args, Clone)]
struct Target {
    /// The server.
    #[arg(long)]
    address: SocketAddr,
    /// Its process; its children count as well.
    #[arg(long)]
    pid: u32,
    /// What is asked for.
    #[arg(long, default_value = "/")]
    path: String,
    #[arg(long, default_value_t = 400)]
    warm_up_ms: u64,
    /// The window closes when the server has used so much processor time in it.
    #[arg(long, default_value_t = 1_000)]
    cpu_ms: u64,
    /// Or when it has been open for so long.
    #[arg(long, default_value_t = 6_000)]
    window_ms: u64,
}

#[derive(Subcommand)]
enum Work {
    /// Messages that come back.
    Echo {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        echo: echo::Settings,
    },
    /// Connections that are refused, one after the other in each of a few places.
    Refusal {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        refusal: refusal::Settings,
    },
    /// What one member of a room says to all.
    Rooms {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        rooms: rooms::Settings,
    },
    /// Resident memory of connections that had one message echoed and say nothing more.
    Idle {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        idle: idle::Settings,
    },
    /// A client that means harm: what it costs, how it ends, and whether another one notices.
    Flood {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        flood: flood::Settings,
    },
}

fn main() -> ExitCode {
    match run(Cli::parse().work) {
        Ok(result) => {
            println!("{result}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("bench-load: error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(work: Work) -> io::Result<serde_json::Value> {
    match work {
        Work::Echo { target, echo } => echo::run(&target, &echo),
        Work::Refusal { target, refusal } => refusal::run(&target, &refusal),
        Work::Rooms { target, rooms } => rooms::run(&target, &rooms),
        Work::Idle { target, idle } => idle::run(&target, &idle),
        Work::Flood { target, flood } => flood::run(&target, &flood),
    }
}
