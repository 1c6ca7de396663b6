//! How often something happened, by who did it: past so many times in a while it is too much.

use saywhy_proto::Meter;
use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

/// Those who are counted at once. One more takes the place of any other: to be forgotten, others have to come from as many
/// places in between.
const KEYS: usize = 65_536;
/// In this time, what was done is forgiven.
const WINDOW: Duration = Duration::from_secs(60);

/// Counts by key, and never holds more than so many keys.
pub(crate) struct Tally<K> {
    entries: HashMap<K, Entry>,
}

struct Entry {
    meter: Meter,
    /// Until then it is too much.
    until: Duration,
    last: Duration,
}

impl<K> Default for Tally<K> {
    fn default() -> Self {
        Self { entries: HashMap::new() }
    }
}

impl<K: Clone + Eq + Hash> Tally<K> {
    /// How long it is too much yet.
    pub(crate) fn wait<Q: Eq + Hash + ?Sized>(&self, key: &Q, now: Duration) -> Option<Duration>
    where
        K: Borrow<Q>,
    {
        let until = self.entries.get(key)?.until;
        (until > now).then(|| until - now)
    }

    /// It happened again. `most` in a minute are allowed; 0 is no limit.
    pub(crate) fn count(&mut self, key: K, most: u32, now: Duration) -> Result<(), Duration> {
        if !self.entries.contains_key(&key) {
            self.make_room(now);
        }
        let Some(meter) = Meter::burst(most, WINDOW, now) else { return Ok(()) };
        let entry = self.entries.entry(key).or_insert(Entry { meter, until: Duration::ZERO, last: now });
        entry.last = now;
        entry.meter.check(now).inspect_err(|wait| entry.until = now + *wait)
    }

    fn make_room(&mut self, now: Duration) {
        if self.entries.len() < KEYS {
            return;
        }
        self.entries.retain(|_, entry| entry.last + WINDOW > now);
        if self.entries.len() >= KEYS
            && let Some(any) = self.entries.keys().next().cloned()
        {
            self.entries.remove(&any);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn past_so_many_in_a_minute_it_is_too_much_and_then_less_so() {
        let mut tally = Tally::<&str>::default();
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
        assert_eq!(tally.wait("b", S), None);
        assert_eq!(tally.count("a", 3, 21 * S), Ok(()));
        assert_eq!(tally.count("b", 0, S), Ok(()), "no limit");
    }

    #[test]
    fn it_holds_so_many_keys_and_no_more() {
        let mut tally = Tally::<usize>::default();
        for key in 0..KEYS + 10 {
            assert_eq!(tally.count(key, 1, S), Ok(()));
        }
        assert_eq!(tally.entries.len(), KEYS);
        assert_eq!(tally.count(KEYS + 10, 1, 100 * S), Ok(()));
        assert_eq!(tally.entries.len(), 1, "those of before are forgiven");
    }
}
