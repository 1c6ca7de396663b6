//! Who is here: counted when they ask to come in, found and told to go when they are.

use crate::outbox::{Connection, Outbox};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use uuid::Uuid;

#[derive(Default)]
pub(crate) struct Live(Mutex<Tables>);

#[derive(Default)]
struct Tables {
    /// Everyone who asked to come in.
    places: HashMap<Uuid, Place>,
    addresses: HashMap<IpAddr, usize>,
    users: HashMap<Box<str>, usize>,
    /// How many were let in.
    sessions: usize,
}

/// A connection that takes up room.
#[derive(Default)]
struct Place {
    /// It was counted for its identity.
    identified: bool,
    /// It was let in.
    session: Option<Arc<Connection>>,
}

impl Tables {
    fn sessions(&self) -> impl Iterator<Item = &Arc<Connection>> {
        self.places.values().filter_map(|place| place.session.as_ref())
    }
}

/// Which count is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    House,
    Address,
}

impl Live {
    fn lock(&self) -> MutexGuard<'_, Tables> {
        // Nothing in here panics with the lock held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a connection that asks to come in: at once, so that a burst cannot pass a limit together.
    pub(crate) fn reserve(&self, connection: &Connection) -> Result<(), Full> {
        let settings = connection.gate.settings();
        let mut tables = self.lock();
        if tables.places.len() >= settings.connections {
            return Err(Full::House);
        }
        if let Some(peer) = connection.peer.map(network) {
            let count = tables.addresses.get(&peer).copied().unwrap_or_default();
            if count >= settings.connections_per_address {
                return Err(Full::Address);
            }
            tables.addresses.insert(peer, count + 1);
        }
        tables.places.insert(connection.id, Place::default());
        Ok(())
    }

    /// Counts it for its identity; false when that has `limit` connections already.
    pub(crate) fn identify(&self, connection: &Connection, user: &str, limit: usize) -> bool {
        let mut tables = self.lock();
        let count = tables.users.get(user).copied().unwrap_or_default();
        match tables.places.get_mut(&connection.id) {
            Some(Place { identified: true, .. }) | None => return true,
            Some(_) if count >= limit => return false,
            Some(place) => place.identified = true,
        }
        tables.users.insert(user.into(), count + 1);
        true
    }

    /// Lets it in; the sessions of the same identity that were there before are the answer.
    pub(crate) fn enter(&self, connection: &Arc<Connection>) -> Vec<Outbox> {
        let mut tables = self.lock();
        let older = match (connection.gate.settings().one_per_identity, connection.user.get()) {
            // Only where it is asked for: it looks at every session.
            (true, Some(user)) => tables.sessions().filter(|other| other.user.get() == Some(user)).cloned().collect(),
            _ => Vec::new(),
        };
        tables.places.entry(connection.id).or_default().session = Some(Arc::clone(connection));
        tables.sessions += 1;
        older.into_iter().map(Outbox).collect()
    }

    /// Gives back what it was counted for. Twice is once.
    pub(crate) fn leave(&self, connection: &Connection) {
        let mut tables = self.lock();
        let Some(place) = tables.places.remove(&connection.id) else { return };
        tables.sessions -= usize::from(place.session.is_some());
        if let Some(peer) = connection.peer.map(network) {
            one_less(&mut tables.addresses, &peer);
        }
        if let Some(user) = connection.user.get().filter(|_| place.identified) {
            one_less(&mut tables.users, &**user);
        }
    }

    /// Sessions that are open.
    pub(crate) fn count(&self) -> usize {
        self.lock().sessions
    }

    pub(crate) fn get(&self, id: Uuid) -> Option<Outbox> {
        self.lock().places.get(&id)?.session.clone().map(Outbox)
    }

    pub(crate) fn all(&self) -> Vec<Outbox> {
        self.lock().sessions().cloned().map(Outbox).collect()
    }
}

fn one_less<K, Q>(counts: &mut HashMap<K, usize>, key: &Q)
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
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) >> 64 << 64).into()),
        IpAddr::V4(v4) => IpAddr::V4(v4),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_network_counts_as_one() {
        let network = |address: &str| network(address.parse().unwrap()).to_string();
        assert_eq!(network("2001:db8::1"), network("2001:db8::ffff:0:0:2"));
        assert_ne!(network("2001:db8::1"), network("2001:db8:0:1::1"));
        assert_eq!(network("::ffff:192.0.2.1"), "192.0.2.1");
    }
}
