//! How often something happened, by who did it: past so many times in a while it is too much. As in `rates.rs`, those who
//! did it are told apart by 16 bits, so that what is held is bounded and nothing has to be looked for to make room.

use saywhy_proto::Meter;
use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hash};
use std::time::Duration;

/// In this time, what was done is forgiven.
const WINDOW: Duration = Duration::from_secs(60);

/// Counts by who did it.
#[derive(Default)]
pub(crate) struct Tally {
    hasher: RandomState,
    entries: HashMap<u16, Entry>,
}

struct Entry {
    meter: Meter,
    /// Until then it is too much.
    until: Duration,
}

impl Tally {
    fn key(&self, who: impl Hash) -> u16 {
        self.hasher.hash_one(who) as u16
    }

    /// How long it is too much yet.
    pub(crate) fn wait(&self, who: impl Hash, now: Duration) -> Option<Duration> {
        self.entries.get(&self.key(who))?.until.checked_sub(now).filter(|wait| !wait.is_zero())
    }

    /// It happened again. `most` in a minute are allowed; 0 is no limit.
    pub(crate) fn count(&mut self, who: impl Hash, most: u32, now: Duration) -> Result<(), Duration> {
        let key = self.key(who);
        let Some(meter) = Meter::burst(most, WINDOW, now) else { return Ok(()) };
        let entry = self.entries.entry(key).or_insert(Entry { meter, until: Duration::ZERO });
        entry.meter.check(now).inspect_err(|wait| entry.until = now + *wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn past_so_many_in_a_minute_it_is_too_much_and_then_less_so() {
        let mut tally = Tally::default();
        for _ in 0..3 {
            assert_eq!(tally.wait("a", S), None);
            assert_eq!(tally.count("a", 3, S), Ok(()));
        }
        assert_eq!(tally.wait("a", S), None, "as many as are allowed");
        assert_eq!(tally.count("a", 3, S), Err(20 * S));
        assert_eq!(
            (tally.wait("a", S), tally.wait("a", 11 * S), tally.wait("a", 21 * S)),
            (Some(20 * S), Some(10 * S), None)
        );
        assert_eq!(tally.count("a", 3, 21 * S), Ok(()));
        assert_eq!(tally.count("c", 0, S), Ok(()), "no limit");
    }

    #[test]
    fn it_holds_no_more_however_many_they_are() {
        let mut tally = Tally::default();
        for who in 0..200_000 {
            let _ = tally.count(who, 1, S);
        }
        assert!(tally.entries.len() <= 1 << 16, "{}", tally.entries.len());
    }
}
