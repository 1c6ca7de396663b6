//! What the machines call `now`, and what the runtime calls it.

use std::sync::OnceLock;
use std::time::Duration;
use tokio::time::Instant;

/// Time since the process began to look at the clock.
pub(crate) fn now() -> Duration {
    since_epoch(Instant::now())
}

/// A moment of the machines' as the runtime has it.
pub(crate) fn instant(at: Duration) -> Instant {
    epoch() + at
}

/// And the other way round.
pub(crate) fn since_epoch(at: Instant) -> Duration {
    at.saturating_duration_since(epoch())
}

fn epoch() -> Instant {
    static EPOCH: OnceLock<Instant> = OnceLock::new();
    *EPOCH.get_or_init(Instant::now)
}
