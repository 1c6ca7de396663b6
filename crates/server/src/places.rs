//! Places that are limited in number, in all and for each address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many take a place, and from where.
#[derive(Debug, Default)]
pub(crate) struct Places(Mutex<Taken>);

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    addresses: HashMap<IpAddr, usize>,
}

/// A place, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    places: Arc<Places>,
    network: Option<IpAddr>,
}

/// Which share is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// That of everyone.
    All,
    /// That of this address.
    Address,
}

impl Places {
    fn lock(&self) -> MutexGuard<'_, Taken> {
        // Nothing in here panics with the lock held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place, if fewer than `all` are taken, and fewer than `each` from the network of `peer`.
    pub(crate) fn take(self: &Arc<Self>, peer: Option<IpAddr>, all: usize, each: usize) -> Result<Place, Full> {
        let network = peer.map(network);
        let mut taken = self.lock();
        if taken.all >= all {
            return Err(Full::All);
        }
        if let Some(network) = network {
            let count = taken.addresses.get(&network).copied().unwrap_or_default();
            if count >= each {
                return Err(Full::Address);
            }
            taken.addresses.insert(network, count + 1);
        }
        taken.all += 1;
        drop(taken);
        Ok(Place { places: Arc::clone(self), network })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        taken.all -= 1;
        if let Some(network) = &self.network {
            one_less(&mut taken.addresses, network);
        }
    }
}

/// Counts one less, and forgets what is counted no more.
pub(crate) fn one_less<K, Q>(counts: &mut HashMap<K, usize>, key: &Q)
where
    K: std::borrow::Borrow<Q> + Eq + std::hash::Hash,
    Q: Eq + std::hash::Hash + ?Sized,
{
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

/// Whoever has one address of an IPv6 /64 has all of them.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
        IpAddr::V4(v4) => IpAddr::V4(v4),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(address: &str) -> IpAddr {
        address.parse().unwrap()
    }

    #[test]
    fn an_ipv6_network_counts_as_one() {
        let network = |text: &str| network(address(text)).to_string();
        assert_eq!(network("2001:db8::1"), network("2001:db8::ffff:0:0:2"));
        assert_ne!(network("2001:db8::1"), network("2001:db8:0:1::1"));
        assert_eq!(network("::ffff:192.0.2.1"), "192.0.2.1");
    }

    #[test]
    fn a_place_is_free_again_when_it_is_left() {
        let places = Arc::<Places>::default();
        let [here, there] = ["192.0.2.1", "192.0.2.2"].map(|text| Some(address(text)));
        let first = places.take(here, 3, 2).unwrap();
        let _second = places.take(here, 3, 2).unwrap();
        assert!(matches!(places.take(here, 3, 2), Err(Full::Address)), "its share is taken");
        let third = places.take(there, 3, 2).unwrap();
        assert!(matches!(places.take(there, 3, 2), Err(Full::All)), "all are taken");
        drop((first, third));
        let _again = places.take(here, 3, 2).unwrap();
        assert_eq!(places.lock().addresses.len(), 1, "who has left is forgotten");
    }
}
