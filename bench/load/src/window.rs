//! The window of time that is measured.

use crate::Target;
use crate::usage::{self, Usage};
use serde_json::{Value, json};
use std::io;
use std::time::{Duration, Instant};

/// Warm-up, then the window.
pub(crate) struct Window {
    pids: Vec<u32>,
    /// When to look at the clock of the server next.
    next: Instant,
    cpu: Duration,
    length: Duration,
    open: Option<Open>,
}

#[derive(Clone, Copy)]
struct Open {
    at: Instant,
    units: u64,
    server: Usage,
    load: Usage,
}

/// Looking costs the load something.
const EVERY: Duration = Duration::from_millis(50);

impl Window {
    pub(crate) fn new(target: &Target) -> io::Result<Self> {
        let ms = Duration::from_millis;
        Ok(Self {
            pids: usage::tree(target.pid)?,
            next: Instant::now() + ms(target.warm_up_ms),
            cpu: ms(target.cpu_ms),
            length: ms(target.window_ms),
            open: None,
        })
    }

    /// What was measured, when the window closes; `units` is how many there have been so far.
    pub(crate) fn look(&mut self, units: u64) -> Option<Measured> {
        let now = Instant::now();
        if now < self.next {
            return None;
        }
        self.next = now + EVERY;
        let (server, load) = (usage::cpu(&self.pids), usage::cpu(&[std::process::id()]));
        let open = *self.open.get_or_insert(Open { at: now, units, server, load });
        let (server, load, wall) = (server.since(open.server), load.since(open.load), now - open.at);
        let done = server.total() >= self.cpu || wall >= self.length;
        done.then(|| Measured { units: units - open.units, wall, server, load })
    }
}

pub(crate) struct Measured {
    units: u64,
    wall: Duration,
    server: Usage,
    load: Usage,
}

impl Measured {
    pub(crate) fn json(&self) -> Value {
        let (units, wall_s) = (self.units as f64, self.wall.as_secs_f64());
        let per_unit = |time: Duration| time.as_micros() as f64 / units;
        json!({
            "units": self.units,
            "wall_s": wall_s,
            "cpu_us": per_unit(self.server.total()),
            "user_us": per_unit(self.server.user),
            "system_us": per_unit(self.server.system),
            "per_s": units / wall_s,
            // Shares of a core. What neither uses was waited, or taken by others.
            "server_share": self.server.total().as_secs_f64() / wall_s,
            "load_share": self.load.total().as_secs_f64() / wall_s,
        })
    }
}
