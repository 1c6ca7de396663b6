//! What one session may take, and how long each wait may last.

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The limits of a session. What a peer sees when it reaches one is said beside each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of payload in one message, over all of its fragments: `message_too_big`.
    pub message_bytes: usize,
    /// Bytes of payload in one message before `ready`: `message_too_big`.
    pub early_message_bytes: usize,
    /// Messages a second, in the long run: `rate_limited`. 0 means no limit.
    pub messages_per_s: u32,
    /// Messages at once: `rate_limited`.
    pub message_burst: u32,
    /// Errors that may be answered before the session ends: `policy_violation`. One is forgiven every ten seconds. 0 means
    /// no limit.
    pub errors: u32,
    /// From the upgrade to `ready`: `timeout`.
    pub ready: Duration,
    /// From the first byte of a message to its last: `timeout`.
    pub message: Duration,
    /// Between Pings; nothing read for two of these: `timeout`. Zero means no heartbeat.
    pub heartbeat: Duration,
    /// Without a message from the peer: `going_away`. Zero means no limit.
    pub idle: Duration,
    /// Without progress on a write: cut, as there is no way left to say anything.
    pub write: Duration,
    /// From our Close to the peer's: the connection is ended.
    pub close: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes: 64 * 1024,
            early_message_bytes: 8 * 1024,
            messages_per_s: 50,
            message_burst: 100,
            errors: 20,
            ready: Duration::from_secs(10),
            message: Duration::from_secs(30),
            heartbeat: Duration::from_secs(25),
            idle: Duration::ZERO,
            write: Duration::from_secs(10),
            close: Duration::from_secs(3),
        }
    }
}

/// How long it takes until one spent error is forgiven.
const FORGIVEN_EVERY: Duration = Duration::from_secs(10);
/// Control frames may come this much more often than messages: they cost less, and libraries ping eagerly.
const CONTROL_FACTOR: u32 = 4;

impl Limits {
    pub(crate) fn message_meter(&self, now: Duration) -> Option<Meter> {
        Meter::per_second(self.messages_per_s, self.message_burst, now)
    }

    pub(crate) fn control_meter(&self, now: Duration) -> Option<Meter> {
        let more = |n: u32| n.saturating_mul(CONTROL_FACTOR);
        Meter::per_second(more(self.messages_per_s), more(self.message_burst), now)
    }

    pub(crate) fn error_meter(&self, now: Duration) -> Option<Meter> {
        Meter::new(Quota::with_period(FORGIVEN_EVERY)?.allow_burst(NonZeroU32::new(self.errors)?), now)
    }
}

/// A rate limit (GCRA) whose clock is set by hand.
#[derive(Debug)]
pub struct Meter(RateLimiter<NotKeyed, InMemoryState, HandSet, NoOpMiddleware<Duration>>);

#[derive(Debug)]
struct HandSet(AtomicU64);

impl Clock for HandSet {
    type Instant = Duration;
    fn now(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }
}

impl HandSet {
    fn set(&self, now: Duration) {
        // 584 years fit.
        self.0.store(u64::try_from(now.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

impl Meter {
    fn new(quota: Quota, now: Duration) -> Option<Self> {
        let clock = HandSet(AtomicU64::new(0));
        clock.set(now);
        Some(Self(RateLimiter::direct_with_clock(quota, clock)))
    }

    /// So many at once, and as many again in this time; `None` is no limit.
    pub fn burst(most: u32, per: Duration, now: Duration) -> Option<Self> {
        let burst = NonZeroU32::new(most)?;
        Self::new(Quota::with_period(per / most)?.allow_burst(burst), now)
    }

    fn per_second(rate: u32, burst: u32, now: Duration) -> Option<Self> {
        let rate = NonZeroU32::new(rate)?;
        Self::new(Quota::per_second(rate).allow_burst(NonZeroU32::new(burst).unwrap_or(rate)), now)
    }

    /// Lets one through.
    ///
    /// # Errors
    /// How long to wait for the next.
    pub fn check(&self, now: Duration) -> Result<(), Duration> {
        self.0.clock().set(now);
        self.0.check().map_err(|not_until| not_until.wait_time_from(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_meter_lets_the_burst_through_and_then_the_rate() {
        let start = Duration::from_secs(1_000);
        let meter = Meter::per_second(10, 3, start).unwrap();
        for _ in 0..3 {
            assert_eq!(meter.check(start), Ok(()));
        }
        assert_eq!(meter.check(start), Err(Duration::from_millis(100)));
        assert_eq!(meter.check(start + Duration::from_millis(100)), Ok(()));
        assert!(meter.check(start + Duration::from_millis(150)).is_err());
        assert!(Meter::per_second(0, 3, start).is_none());
    }

    #[test]
    fn an_error_is_forgiven_after_a_while() {
        let meter = Limits { errors: 1, ..Limits::default() }.error_meter(Duration::ZERO).unwrap();
        assert_eq!(meter.check(Duration::ZERO), Ok(()));
        assert!(meter.check(Duration::from_secs(9)).is_err());
        assert_eq!(meter.check(Duration::from_secs(10)), Ok(()));
    }
}
