//! No faster than the server takes messages, as it said in `ready`.

use crate::wire::Ready;
use std::time::Duration;

#[derive(Debug)]
pub(crate) struct Pace {
    per_s: f64,
    burst: f64,
    /// How many may be sent at once, as of `counted_at`.
    allowance: f64,
    counted_at: Duration,
}

impl Pace {
    pub(crate) fn new(ready: &Ready, now: Duration) -> Self {
        let burst = f64::from(ready.message_burst);
        Self { per_s: f64::from(ready.messages_per_s), burst, allowance: burst, counted_at: now }
    }

    /// How long to wait before the next message; zero for not at all.
    pub(crate) fn pause(&mut self, now: Duration) -> Duration {
        if self.per_s == 0.0 {
            return Duration::ZERO;
        }
        let earned = now.saturating_sub(self.counted_at).as_secs_f64() * self.per_s;
        // Half of the burst: what the network bunches together arrives at once.
        self.allowance = (self.allowance + earned).min((self.burst / 2.0).max(1.0));
        self.counted_at = now;
        if self.allowance >= 1.0 {
            Duration::ZERO
        } else {
            Duration::from_secs_f64((1.0 - self.allowance) / self.per_s)
        }
    }

    pub(crate) fn sent(&mut self) {
        self.allowance -= 1.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_the_rate() {
        let ready = Ready { messages_per_s: 10, message_burst: 4, ..Ready::default() };
        let mut pace = Pace::new(&ready, Duration::ZERO);
        let mut now = Duration::ZERO;
        let mut sent = 0;
        while now < Duration::from_secs(2) {
            match pace.pause(now) {
                Duration::ZERO => {
                    pace.sent();
                    sent += 1;
                }
                wait => now += wait,
            }
        }
        assert_eq!(sent, 2 + 19, "half of the burst at once, then one each tenth of a second");
        assert_eq!(Pace::new(&Ready::default(), now).pause(now), Duration::ZERO);
    }
}
