//! Who is here: counted when they ask to come in, found and told to go when they are; and whether anyone may come in.

use crate::connection::Connection;
use crate::observe;
use crate::outbox::Outbox;
use crate::rates::Rates;
use crate::settings::Settings;
use saywhy_codes::{Cause, EndCause, Ending, Retry};
use std::collections::HashMap;
use std::net::IpAddr;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use uuid::Uuid;

/// What all gates of a server share.
pub(crate) struct House {
    pub(crate) rates: Rates,
    tables: Mutex<Tables>,
    /// No new connections are let in, and when they may come back.
    draining: Mutex<Option<Retry>>,
    /// Refused connections that wait for the peer's Close, in all and by address.
    lingering: Mutex<(usize, HashMap<IpAddr, usize>)>,
}

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

impl House {
    /// An empty one, with the rates of these settings.
    pub(crate) fn new(settings: &Settings) -> Self {
        let rates = Rates::new(settings);
        Self { rates, tables: Mutex::default(), draining: Mutex::default(), lingering: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Tables> {
        // Nothing in here panics with the lock held.
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sessions that are open.
    pub(crate) fn count(&self) -> usize {
        self.lock().sessions
    }

    pub(crate) fn session(&self, id: Uuid) -> Option<Outbox> {
        self.lock().places.get(&id)?.session.clone().map(Outbox)
    }

    pub(crate) fn sessions(&self) -> Vec<Outbox> {
        self.lock().sessions().cloned().map(Outbox).collect()
    }

    /// Counts a connection for its identity; false when that has `limit` connections already.
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

    /// When new connections may come back, if they are refused at present.
    pub(crate) fn draining(&self) -> Option<Retry> {
        *self.draining.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn begin_draining(&self, retry: Retry) {
        *self.draining.lock().unwrap_or_else(PoisonError::into_inner) = Some(retry);
    }

    fn lingering(&self) -> MutexGuard<'_, (usize, HashMap<IpAddr, usize>)> {
        self.lingering.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place among the refused connections that wait for the peer's Close, if there is one left.
    pub(crate) fn linger(self: &Arc<Self>, peer: Option<IpAddr>, settings: &Settings) -> Option<Lingering> {
        let peer = peer.map(network);
        let (all, addresses) = &mut *self.lingering();
        if *all >= settings.lingering {
            return None;
        }
        if let Some(peer) = peer {
            let count = addresses.get(&peer).copied().unwrap_or_default();
            if count >= settings.lingering_per_address {
                return None;
            }
            addresses.insert(peer, count + 1);
        }
        *all += 1;
        Some(Lingering { house: Arc::clone(self), peer })
    }
}

/// A place among the refused connections that wait for the peer's Close.
pub(crate) struct Lingering {
    house: Arc<House>,
    peer: Option<IpAddr>,
}

impl Drop for Lingering {
    fn drop(&mut self) {
        let (all, addresses) = &mut *self.house.lingering();
        *all -= 1;
        if let Some(peer) = &self.peer {
            one_less(addresses, peer);
        }
    }
}

/// A connection and the house that it came to: dropped, it takes up no room there.
pub(crate) struct Visit {
    house: Arc<House>,
    connection: Arc<Connection>,
}

impl Visit {
    pub(crate) fn new(house: Arc<House>, connection: Connection) -> Self {
        Self { house, connection: Arc::new(connection) }
    }

    pub(crate) fn house(&self) -> &Arc<House> {
        &self.house
    }

    pub(crate) fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// Counts it, as it asks to come in: at once, so that a burst cannot pass a limit together.
    pub(crate) fn reserve(&self) -> Result<(), Full> {
        let settings = &self.connection.settings;
        let mut tables = self.house.lock();
        if tables.places.len() >= settings.connections {
            return Err(Full::House);
        }
        if let Some(peer) = self.connection.peer.map(network) {
            let count = tables.addresses.get(&peer).copied().unwrap_or_default();
            if count >= settings.connections_per_address {
                return Err(Full::Address);
            }
            tables.addresses.insert(peer, count + 1);
        }
        tables.places.insert(self.connection.id, Place::default());
        Ok(())
    }

    /// Lets it in; where an identity may have one connection only, the older ones are the answer.
    pub(crate) fn enter(&self) -> Vec<Outbox> {
        let connection = &self.connection;
        let mut tables = self.house.lock();
        let older = match (connection.settings.one_per_identity, connection.user.get()) {
            // Only where it is asked for: it looks at every session.
            (true, Some(user)) => {
                let theirs = |other: &&Arc<Connection>| other.user.get() == Some(user) && other.path == connection.path;
                tables.sessions().filter(theirs).cloned().collect()
            }
            _ => Vec::new(),
        };
        tables.places.entry(connection.id).or_default().session = Some(Arc::clone(connection));
        tables.sessions += 1;
        older.into_iter().map(Outbox).collect()
    }

    /// Gives back what it was counted for. Twice is once.
    pub(crate) fn leave(&self) {
        let mut tables = self.house.lock();
        let Some(place) = tables.places.remove(&self.connection.id) else { return };
        tables.sessions -= usize::from(place.session.is_some());
        if let Some(peer) = self.connection.peer.map(network) {
            one_less(&mut tables.addresses, &peer);
        }
        if let Some(user) = self.connection.user.get().filter(|_| place.identified) {
            one_less(&mut tables.users, &**user);
        }
    }

    /// Leaves, and says how it ended: once.
    pub(crate) fn ended(&self, ending: Ending) {
        self.leave();
        self.connection.ended();
        observe::ended(&self.connection, &ending);
    }

    /// The same for one that no session machine saw: there was no 101, or nobody to read it.
    pub(crate) fn never_open(&self, cause: EndCause, private: Option<Cause>) {
        self.ended(observe::never_open(&self.connection, cause, private));
    }
}

impl Deref for Visit {
    type Target = Connection;
    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.leave();
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
pub(crate) fn network(address: IpAddr) -> IpAddr {
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
