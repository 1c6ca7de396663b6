//! How often anyone may come, and how often be refused. Strangers are told apart by a number of 16 bits, so that what is
//! remembered of them is bounded however many they are: two share one by chance, and nobody by choice.

use crate::clock::now;
use crate::places::network;
use crate::settings::{Rate, Settings};
use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::HashMapStateStore;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use std::collections::HashMap;
use std::collections::hash_map::{Entry, RandomState};
use std::hash::{BuildHasher as _, Hash};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Who asks for a connection too often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TooOften {
    /// All together.
    Everyone,
    /// This address, which may come again after this.
    Address(Duration),
}

/// The rates of a house.
pub(crate) struct Rates {
    hasher: RandomState,
    numbers: Numbers,
    everyone: Option<RateLimiter<NotKeyed, InMemoryState, Monotonic, NoOpMiddleware<Duration>>>,
    addresses: Option<Keyed>,
    identities: Option<Keyed>,
    /// Refusals that a client had to be let in for.
    refusals: Option<Storm>,
}

/// What they are made of.
#[derive(Clone, Copy)]
struct Numbers {
    everyone: Rate,
    addresses: Rate,
    identities: Rate,
    refusals: (Rate, Duration),
}

type Keyed = RateLimiter<u16, HashMapStateStore<u16>, Monotonic, NoOpMiddleware<Duration>>;

/// The clock of everything else, so that all of it stands still together in tests.
#[derive(Clone, Copy, Debug)]
struct Monotonic;

impl Clock for Monotonic {
    type Instant = Duration;
    fn now(&self) -> Duration {
        now()
    }
}

fn quota(rate: Rate) -> Option<Quota> {
    let per_s = NonZeroU32::new(rate.per_s)?;
    Some(Quota::per_second(per_s).allow_burst(NonZeroU32::new(rate.burst).unwrap_or(per_s)))
}

impl Rates {
    pub(crate) fn new(settings: &Settings) -> Self {
        let keyed = |rate| Some(RateLimiter::new(quota(rate)?, HashMapStateStore::default(), Monotonic));
        let numbers = Numbers {
            everyone: settings.connects,
            addresses: settings.connects_per_address,
            identities: settings.connects_per_identity,
            refusals: (settings.refusals_per_address, settings.refusal_delay),
        };
        let Numbers { everyone, addresses, identities, refusals: (refusals, longest) } = numbers;
        Self {
            hasher: RandomState::new(),
            numbers,
            everyone: quota(everyone).map(|quota| RateLimiter::direct_with_clock(quota, Monotonic)),
            addresses: keyed(addresses),
            identities: keyed(identities),
            refusals: Storm::new(refusals, longest),
        }
    }

    /// Goes by other settings from now on. What has not changed goes on counting.
    pub(crate) fn change(&mut self, settings: &Settings) {
        let before = self.numbers;
        let Self { hasher: _, numbers, everyone, addresses, identities, refusals } = Self::new(settings);
        self.numbers = numbers;
        if before.everyone != numbers.everyone {
            self.everyone = everyone;
        }
        if before.addresses != numbers.addresses {
            self.addresses = addresses;
        }
        if before.identities != numbers.identities {
            self.identities = identities;
        }
        if before.refusals != numbers.refusals {
            self.refusals = refusals;
        }
    }

    fn key(&self, who: impl Hash) -> u16 {
        // The lowest 16 of 64 bits that only this process can predict.
        self.hasher.hash_one(who) as u16
    }

    /// Counts a connection that asks to come in.
    pub(crate) fn connects(&self, peer: Option<IpAddr>) -> Result<(), TooOften> {
        // The address first: who comes too often by itself takes nothing from the others.
        if let (Some(peer), Some(addresses)) = (peer.map(network), &self.addresses) {
            let answer = addresses.check_key(&self.key(peer));
            answer.map_err(|until| TooOften::Address(until.wait_time_from(now())))?;
        }
        let Some(everyone) = &self.everyone else { return Ok(()) };
        everyone.check().map_err(|_| TooOften::Everyone)
    }

    /// Counts a connection of an identity, or says how long it has to wait.
    pub(crate) fn identifies(&self, user: &str) -> Result<(), Duration> {
        let Some(identities) = &self.identities else { return Ok(()) };
        identities.check_key(&self.key(user)).map_err(|until| until.wait_time_from(now()))
    }

    /// Counts a refusal that its client was let in for.
    pub(crate) fn refused(&self, peer: Option<IpAddr>) -> Patience {
        match (peer, &self.refusals) {
            (Some(peer), Some(refusals)) => refusals.refused(self.key(network(peer)), now()),
            (None, _) | (_, None) => Patience::Now,
        }
    }
}

/// When a refused client gets its Close. Browsers slow down after handshakes that fail, but not after connections that
/// were opened and closed: one that comes back at once is slowed down by us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// It has been refused no more than anyone may.
    Now,
    /// It comes back too soon: so much later.
    Later(Duration),
    /// It does so again and again: only plain HTTP, and not before so long.
    No(Duration),
}

/// Refusals by address. GCRA with a difference: those that are too early are counted as well, up to a bound, so that
/// they have to wait longer and longer.
struct Storm {
    /// One refusal is forgiven in this time.
    period: Duration,
    /// What may be owed without waiting.
    free: Duration,
    /// The longest that a Close is held back.
    longest: Duration,
    /// When all refusals of an address are forgiven.
    forgiven: Mutex<HashMap<u16, Duration>>,
}

/// What one address can owe at most, in refusals, past those that are free and those that wait.
const MOST_OWED: u32 = 30;

impl Storm {
    fn new(rate: Rate, longest: Duration) -> Option<Self> {
        let period = Duration::from_secs(1).checked_div(rate.per_s)?;
        Some(Self { period, free: period.saturating_mul(rate.burst), longest, forgiven: Mutex::default() })
    }

    fn refused(&self, address: u16, now: Duration) -> Patience {
        let mut all = self.forgiven.lock().unwrap_or_else(PoisonError::into_inner);
        let most = self.free + self.longest + self.period * MOST_OWED;
        let owed = match all.entry(address) {
            Entry::Vacant(place) => *place.insert(now + self.period) - now,
            Entry::Occupied(mut place) => {
                let owed = (place.get().saturating_sub(now) + self.period).min(most);
                place.insert(now + owed);
                owed
            }
        };
        match owed.checked_sub(self.free).filter(|wait| !wait.is_zero()) {
            None => Patience::Now,
            Some(wait) if wait <= self.longest => Patience::Later(wait),
            Some(wait) => Patience::No(wait),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ADDRESS: u16 = 7;

    fn storm() -> Storm {
        Storm::new(Rate { per_s: 2, burst: 3 }, Duration::from_secs(1)).unwrap()
    }

    #[test]
    fn who_comes_back_at_once_waits_longer_and_longer_and_then_gets_no_close() {
        let (storm, now) = (storm(), Duration::from_secs(9));
        let all: Vec<_> = (0..6).map(|_| storm.refused(ADDRESS, now)).collect();
        let ms = Duration::from_millis;
        let later = [Patience::Later(ms(500)), Patience::Later(ms(1_000)), Patience::No(ms(1_500))];
        assert_eq!(all[..3], [Patience::Now; 3]);
        assert_eq!(all[3..], later);
        assert_eq!(storm.refused(ADDRESS + 1, now), Patience::Now, "another address");
        // Of six refusals three are forgiven meanwhile.
        assert_eq!(storm.refused(ADDRESS, now + ms(1_500)), Patience::Later(ms(500)));
    }

    #[test]
    fn a_rate_that_changes_counts_anew_and_the_others_go_on() {
        let rate = Rate { per_s: 1, burst: 1 };
        let settings = Settings { connects_per_address: rate, connects_per_identity: rate, ..Settings::default() };
        let mut rates = Rates::new(&settings);
        let peer = Some(IpAddr::from([192, 0, 2, 1]));
        let comes = |rates: &Rates| (rates.connects(peer).is_ok(), rates.identifies("alice").is_ok());
        assert_eq!([comes(&rates), comes(&rates)], [(true, true), (false, false)]);
        rates.change(&settings);
        assert_eq!(comes(&rates), (false, false));
        rates.change(&Settings { connects_per_identity: Rate { per_s: 1, burst: 2 }, ..settings });
        assert_eq!(comes(&rates), (false, true));
        rates.change(&Settings::default());
        assert_eq!(comes(&rates), (true, true));
    }

    #[test]
    fn none_are_counted_where_there_is_no_rate() {
        assert!(Storm::new(Rate { per_s: 0, burst: 3 }, Duration::ZERO).is_none());
    }

    proptest! {
        /// However long a storm was, it is over when everything that can be owed is forgiven; and a client that comes
        /// no more often than the rate never waits.
        #[test]
        fn a_storm_passes(refusals in 1usize..500, pause_ms in 500u64..5_000) {
            let (storm, mut now) = (storm(), Duration::from_secs(9));
            for _ in 0..refusals {
                storm.refused(ADDRESS, now);
            }
            now += storm.free + storm.longest + storm.period * MOST_OWED;
            for _ in 0..20 {
                prop_assert_eq!(storm.refused(ADDRESS, now), Patience::Now);
                now += Duration::from_millis(pause_ms);
            }
        }
    }
}
