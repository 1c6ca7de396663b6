//! Resident memory of a connection that says nothing.

use crate::Target;
use crate::client;
use crate::crowd::Crowd;
use crate::echo::Echo;
use crate::usage;
use clap::Args;
use serde_json::{Value, json};
use std::io;
use std::rc::Rc;
use std::time::Duration;

#[derive(Args)]
pub(crate) struct Settings {
    #[arg(long, default_value_t = 10_000)]
    connections: usize,
    /// Each has one message of so many bytes echoed before it falls silent.
    #[arg(long, default_value_t = 64)]
    bytes: usize,
    /// Those that come first and do not count: they make the server allocate what it allocates once.
    #[arg(long, default_value_t = 200)]
    first: usize,
    /// How long it has to let go of what it needs no more.
    #[arg(long, default_value_t = 1_000)]
    settle_ms: u64,
}

/// So many have their message under way at once.
const ACTIVE: usize = 64;

pub(crate) fn run(target: &Target, settings: &Settings) -> io::Result<Value> {
    let mut crowd = Crowd::new(target.address)?;
    let request = client::request(target.address, &target.path, "");
    let mut echo = Echo::new(1, settings.bytes, false, true);
    let mut resident = Vec::new();
    for count in [settings.first, settings.first + settings.connections] {
        let had = crowd.clients.len();
        crowd.open(count, |_| Rc::clone(&request), &mut echo)?;
        for client in had..count {
            echo.join(client);
        }
        echo.start(ACTIVE, &mut crowd.clients)?;
        while !echo.is_quiet() {
            crowd.turn(&mut echo)?;
        }
        std::thread::sleep(Duration::from_millis(settings.settle_ms));
        resident.push(usage::resident(target.pid)?);
    }
    let [before, after] = resident[..] else { return Err(io::Error::other("two stages")) };
    Ok(json!({
        "units": settings.connections,
        "bytes": after.saturating_sub(before) as f64 / settings.connections as f64,
        "resident_before": before,
        "resident_after": after,
        "attempts": echo.sent,
        "returned": echo.sent,
        "under_way": 0,
    }))
}
