//! Who is here: counted when they ask to come in, found and told to go when they are; and whether anyone may come in.

use crate::connection::Connection;
use crate::observe;
use crate::outbox::Outbox;
use crate::places::{Place, Places, network, one_less};
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
    /// Refused connections that wait for the peer's Close.
    lingering: Arc<Places>,
}

#[derive(Default)]
struct Tables {
    /// Everyone who asked to come in.
    guests: HashMap<Uuid, Guest>,
    addresses: HashMap<IpAddr, usize>,
    users: HashMap<Box<str>, usize>,
    /// How many were let in.
    sessions: usize,
}

/// A connection that takes up room.
#[derive(Default)]
struct Guest {
    /// It was counted for its identity.
    identified: bool,
    /// It was let in.
    session: Option<Arc<Connection>>,
}

impl Tables {
    fn sessions(&self) -> impl Iterator<Item = &Arc<Connection>> {
        self.guests.values().filter_map(|guest| guest.session.as_ref())
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
        Self { rates, tables: Mutex::default(), draining: Mutex::default(), lingering: Arc::default() }
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
        self.lock().guests.get(&id)?.session.clone().map(Outbox)
    }

    pub(crate) fn sessions(&self) -> Vec<Outbox> {
        self.lock().sessions().cloned().map(Outbox).collect()
    }

    /// Counts a connection for its identity; false when that has `limit` connections already.
    pub(crate) fn identify(&self, connection: &Connection, user: &str, limit: usize) -> bool {
        let mut tables = self.lock();
        let count = tables.users.get(user).copied().unwrap_or_default();
        match tables.guests.get_mut(&connection.id) {
            Some(Guest { identified: true, .. }) | None => return true,
            Some(_) if count >= limit => return false,
            Some(guest) => guest.identified = true,
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

    /// A place among the refused connections that wait for the peer's Close, if there is one left.
    pub(crate) fn linger(&self, peer: Option<IpAddr>, settings: &Settings) -> Option<Place> {
        self.lingering.take(peer, settings.lingering, settings.lingering_per_address)
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
        if tables.guests.len() >= settings.connections {
            return Err(Full::House);
        }
        if let Some(peer) = self.connection.peer.map(network) {
            let count = tables.addresses.get(&peer).copied().unwrap_or_default();
            if count >= settings.connections_per_address {
                return Err(Full::Address);
            }
            tables.addresses.insert(peer, count + 1);
        }
        tables.guests.insert(self.connection.id, Guest::default());
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
        tables.guests.entry(connection.id).or_default().session = Some(Arc::clone(connection));
        tables.sessions += 1;
        older.into_iter().map(Outbox).collect()
    }

    /// Gives back what it was counted for. Twice is once.
    pub(crate) fn leave(&self) {
        let mut tables = self.house.lock();
        let Some(guest) = tables.guests.remove(&self.connection.id) else { return };
        tables.sessions -= usize::from(guest.session.is_some());
        if let Some(peer) = self.connection.peer.map(network) {
            one_less(&mut tables.addresses, &peer);
        }
        if let Some(user) = self.connection.user.get().filter(|_| guest.identified) {
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
