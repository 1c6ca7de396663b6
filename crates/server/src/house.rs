//! Who is here: counted when they ask to come in, found and told to go when they are; and whether anyone may come in.

use crate::clock::now;
use crate::connection::Connection;
use crate::observe;
use crate::outbox::Outbox;
use crate::places::{Full, Place, Places, network, one_less};
use crate::rates::{Patience, Rates, TooOften};
use crate::revocation::{NotRevoked, Revocation, Revocations, Revoked, seconds_now};
use crate::settings::Settings;
use crate::tally::Tally;
use crate::token::Registered;
use saywhy_codes::{Cause, EndCause, Ending, Retry};
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;
use uuid::Uuid;

/// What all gates of a server share.
pub(crate) struct House {
    rates: RwLock<Rates>,
    tables: Mutex<Tables>,
    /// No new connections are let in, and when they may come back.
    draining: Mutex<Option<Retry>>,
    /// Refused connections that wait for the peer's Close.
    lingering: Arc<Places>,
    /// Connections that were let in to bring their token, and have not yet.
    unauthenticated: Arc<Places>,
}

#[derive(Default)]
struct Tables {
    /// Everyone who asked to come in.
    guests: HashMap<Uuid, Guest>,
    addresses: HashMap<IpAddr, usize>,
    /// The connections of each identity.
    users: HashMap<Box<str>, Ids>,
    /// Those of each token that has an id.
    tokens: HashMap<Box<str>, Ids>,
    /// How many were let in.
    sessions: usize,
    revocations: Revocations,
    failures: Tally,
    /// By path and identity.
    replacements: Tally,
}

/// Where tokens come from that are not good.
#[derive(Hash)]
enum Source<'a> {
    Address(IpAddr),
    User(&'a str),
}

/// A connection that takes up room.
#[derive(Default)]
struct Guest {
    /// It was let in.
    session: Option<Arc<Connection>>,
    /// Most have none, and take no room for it.
    papers: Option<Box<Papers>>,
}

/// What there is to know of a connection's token.
#[derive(Default)]
struct Papers {
    /// Its id.
    token: Option<Box<str>>,
    /// When it was issued.
    issued: Option<u64>,
    /// It was revoked before the connection was let in.
    revoked: bool,
    /// The connection was let in to bring it, and has not yet.
    asked: Option<Place>,
}

impl Guest {
    fn is_asked(&self) -> bool {
        self.papers.as_ref().is_some_and(|papers| papers.asked.is_some())
    }

    fn is_revoked(&self) -> bool {
        self.papers.as_ref().is_some_and(|papers| papers.revoked)
    }
}

impl Tables {
    fn sessions(&self) -> impl Iterator<Item = &Arc<Connection>> {
        self.guests.values().filter_map(|guest| guest.session.as_ref())
    }

    /// Which of an identity's connections on this path give way to another one, unless they have too often.
    fn replaced_by(&mut self, connection: &Connection) -> Result<Vec<Outbox>, NotIn> {
        let (true, Some(user)) = (connection.settings.one_per_identity, connection.user.get()) else {
            return Ok(Vec::new());
        };
        let theirs = self.users.get(&**user).into_iter().flat_map(Ids::iter).filter(|id| **id != connection.id);
        let sessions = theirs.filter_map(|id| self.guests.get(id)?.session.as_ref());
        let older: Vec<_> = sessions.filter(|other| other.path == connection.path).cloned().map(Outbox).collect();
        if !older.is_empty() {
            let key = (&connection.path, user);
            self.replacements.count(key, connection.settings.replacements, now()).map_err(NotIn::Replacing)?;
        }
        Ok(older)
    }
}

/// Why a connection that a route lets in stays outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotIn {
    /// Its token was revoked in the meantime.
    Revoked,
    /// Its identity's connections take each other's place again and again; this long it is too often.
    Replacing(Duration),
    /// So many have not brought their token yet.
    Unauthenticated(Full),
}

/// Why a connection is not that of an identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotTheirs {
    /// The identity has as many as it may.
    Full,
    /// What was issued to it is revoked.
    Revoked,
}

impl House {
    /// An empty one, with the rates of these settings.
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            rates: RwLock::new(Rates::new(settings)),
            tables: Mutex::default(),
            draining: Mutex::default(),
            lingering: Arc::default(),
            unauthenticated: Arc::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Tables> {
        // Nothing in here panics with the lock held.
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // No guard leaves: whoever held one while asking again would wait for whoever waits to change them.

    /// As [`Rates::connects`].
    pub(crate) fn connects(&self, peer: Option<IpAddr>) -> Result<(), TooOften> {
        self.rates.read().unwrap_or_else(PoisonError::into_inner).connects(peer)
    }

    /// As [`Rates::identifies`].
    pub(crate) fn identifies(&self, user: &str) -> Result<(), Duration> {
        self.rates.read().unwrap_or_else(PoisonError::into_inner).identifies(user)
    }

    /// As [`Rates::refused`].
    pub(crate) fn refused(&self, peer: Option<IpAddr>) -> Patience {
        self.rates.read().unwrap_or_else(PoisonError::into_inner).refused(peer)
    }

    /// Goes by the rates of these settings from now on. Those that are as they were go on counting.
    pub(crate) fn set_rates(&self, settings: &Settings) {
        self.rates.write().unwrap_or_else(PoisonError::into_inner).change(settings);
    }

    /// Sessions that are open.
    pub(crate) fn count(&self) -> usize {
        self.lock().sessions
    }

    /// The session of this id, unless it has not brought its token yet: nothing may be sent to that.
    pub(crate) fn session(&self, id: Uuid) -> Option<Outbox> {
        let tables = self.lock();
        let guest = tables.guests.get(&id).filter(|guest| !guest.is_asked())?;
        guest.session.clone().map(Outbox)
    }

    /// The sessions, without those that have not brought their token yet.
    pub(crate) fn sessions(&self) -> Vec<Outbox> {
        let tables = self.lock();
        let known = tables.guests.values().filter(|guest| !guest.is_asked());
        known.filter_map(|guest| guest.session.clone()).map(Outbox).collect()
    }

    /// All of them, to be ended.
    pub(crate) fn everyone(&self) -> Vec<Outbox> {
        self.lock().sessions().cloned().map(Outbox).collect()
    }

    /// Counts a connection for its identity, which may have `limit` of them.
    pub(crate) fn identify(&self, connection: &Connection, user: &str, limit: usize) -> Result<(), NotTheirs> {
        let mut tables = self.lock();
        let tables = &mut *tables;
        let count = tables.users.get(user).map_or(0, Ids::len);
        let is_counted = tables.users.get(user).is_some_and(|ids| ids.iter().any(|id| *id == connection.id));
        let Some(guest) = tables.guests.get(&connection.id).filter(|_| !is_counted) else {
            return Ok(());
        };
        let issued = guest.papers.as_ref().and_then(|papers| papers.issued);
        if tables.revocations.cover_user(user, issued, seconds_now()) {
            return Err(NotTheirs::Revoked);
        }
        if count >= limit {
            return Err(NotTheirs::Full);
        }
        remember(&mut tables.users, user, connection.id);
        Ok(())
    }

    // ---- tokens --------------------------------------------------------------------------------------------

    /// Notes whose token a connection has, from now on; false when it is revoked.
    pub(crate) fn hold(&self, connection: &Connection, token: &Registered) -> bool {
        let mut tables = self.lock();
        if tables.revocations.cover(token, seconds_now()) {
            return false;
        }
        let Some(guest) = tables.guests.get_mut(&connection.id) else { return true };
        // Most tokens say neither, and take no room for it.
        if guest.papers.is_some() || token.id.is_some() || token.issued.is_some() {
            let papers = guest.papers.get_or_insert_default();
            papers.issued = token.issued;
            if let Some(before) = std::mem::replace(&mut papers.token, token.id.clone()) {
                forget(&mut tables.tokens, &before, connection.id);
            }
        }
        if let Some(id) = &token.id {
            remember(&mut tables.tokens, id, connection.id);
        }
        true
    }

    /// Revokes, and says whose sessions have to end.
    pub(crate) fn revoke(&self, revocation: Revocation, most: usize) -> Result<Vec<Outbox>, NotRevoked> {
        let mut tables = self.lock();
        let tables = &mut *tables;
        let theirs = match &revocation.revoked {
            Revoked::User(user) => tables.users.get(user.as_str()),
            Revoked::Token(id) => tables.tokens.get(id.as_str()),
        };
        tables.revocations.add(revocation, most)?;
        let mut sessions = Vec::new();
        for id in theirs.into_iter().flat_map(Ids::iter) {
            let Some(guest) = tables.guests.get_mut(id) else { continue };
            // One that still waits for the decision is turned away when that is made.
            guest.papers.get_or_insert_default().revoked = true;
            sessions.extend(guest.session.clone().map(Outbox));
        }
        Ok(sessions)
    }

    pub(crate) fn revocations(&self, after: Option<&Revoked>, most: usize) -> Vec<Revocation> {
        self.lock().revocations.list(after, most, seconds_now())
    }

    pub(crate) fn restore(&self, revoked: &Revoked) -> bool {
        self.lock().revocations.remove(revoked)
    }

    /// How long no token of this connection's address is looked at, because too many were not good.
    pub(crate) fn may_not_try(&self, connection: &Connection) -> Option<Duration> {
        let peer = connection.peer.map(network)?;
        self.lock().failures.wait(Source::Address(peer), now())
    }

    /// A token was not good. How long to wait, when it was one too many of its identity; too many of an address are
    /// turned away before they are looked at.
    pub(crate) fn failed(&self, connection: &Connection, user: Option<&str>) -> Option<Duration> {
        let most = connection.settings.failed_tokens;
        let mut tables = self.lock();
        if let Some(peer) = connection.peer.map(network) {
            // It counts; what it comes to is asked for at the next one.
            let _ = tables.failures.count(Source::Address(peer), most, now());
        }
        tables.failures.count(Source::User(user?), most, now()).err()
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
        self.lingering.take(peer, settings.lingering, settings.lingering_per_address).ok()
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
            return Err(Full::All);
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
    pub(crate) fn enter(&self) -> Result<Vec<Outbox>, NotIn> {
        let connection = &self.connection;
        let mut tables = self.house.lock();
        if tables.guests.get(&connection.id).is_some_and(Guest::is_revoked) {
            return Err(NotIn::Revoked);
        }
        let older = tables.replaced_by(connection)?;
        tables.guests.entry(connection.id).or_default().session = Some(Arc::clone(connection));
        tables.sessions += 1;
        Ok(older)
    }

    /// Lets it in to bring its token, and for nothing else.
    pub(crate) fn enter_to_be_asked(&self) -> Result<(), NotIn> {
        let (connection, settings) = (&self.connection, &self.connection.settings);
        let (all, each) = (settings.unauthenticated, settings.unauthenticated_per_address);
        let place = self.house.unauthenticated.take(connection.peer, all, each).map_err(NotIn::Unauthenticated)?;
        let mut tables = self.house.lock();
        tables.sessions += 1;
        let guest = tables.guests.entry(connection.id).or_default();
        guest.session = Some(Arc::clone(connection));
        guest.papers.get_or_insert_default().asked = Some(place);
        Ok(())
    }

    /// It has brought its token, and the route lets it stay.
    pub(crate) fn authenticated(&self) -> Result<Vec<Outbox>, NotIn> {
        let mut tables = self.house.lock();
        if tables.guests.get(&self.connection.id).is_some_and(Guest::is_revoked) {
            return Err(NotIn::Revoked);
        }
        // Until it is sure to stay, nothing can be sent to it.
        let older = tables.replaced_by(&self.connection)?;
        if let Some(papers) = tables.guests.get_mut(&self.connection.id).and_then(|guest| guest.papers.as_mut()) {
            papers.asked = None;
        }
        Ok(older)
    }

    /// Gives back what it was counted for. Twice is once.
    pub(crate) fn leave(&self) {
        let mut tables = self.house.lock();
        let Some(guest) = tables.guests.remove(&self.connection.id) else { return };
        tables.sessions -= usize::from(guest.session.is_some());
        if let Some(peer) = self.connection.peer.map(network) {
            one_less(&mut tables.addresses, &peer);
        }
        if let Some(user) = self.connection.user.get() {
            forget(&mut tables.users, user, self.connection.id);
        }
        if let Some(token) = guest.papers.and_then(|papers| papers.token) {
            forget(&mut tables.tokens, &token, self.connection.id);
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

/// The connections under one key. Most often there is one, which takes no room of its own.
enum Ids {
    One(Uuid),
    #[expect(clippy::box_collection, reason = "24 bytes of an identity that has one connection, not 48")]
    Many(Box<HashSet<Uuid>>),
}

impl Ids {
    fn len(&self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::Many(ids) => ids.len(),
        }
    }

    fn iter(&self) -> impl Iterator<Item = &Uuid> {
        let (one, many) = match self {
            Self::One(id) => (Some(id), None),
            Self::Many(ids) => (None, Some(ids.iter())),
        };
        one.into_iter().chain(many.into_iter().flatten())
    }
}

fn remember(index: &mut HashMap<Box<str>, Ids>, key: &str, connection: Uuid) {
    match index.get_mut(key) {
        None => drop(index.insert(key.into(), Ids::One(connection))),
        Some(Ids::Many(ids)) => drop(ids.insert(connection)),
        Some(one) => *one = Ids::Many(Box::new(one.iter().copied().chain([connection]).collect())),
    }
}

fn forget(index: &mut HashMap<Box<str>, Ids>, key: &str, connection: Uuid) {
    let is_last = match index.get_mut(key) {
        Some(Ids::One(id)) => *id == connection,
        Some(Ids::Many(ids)) => {
            ids.remove(&connection);
            ids.is_empty()
        }
        None => false,
    };
    if is_last {
        index.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_holds_what_is_there_and_nothing_else() {
        let (a, b, c) = (Uuid::now_v7(), Uuid::now_v7(), Uuid::now_v7());
        let mut index = HashMap::new();
        let held = |index: &HashMap<Box<str>, Ids>| {
            let mut ids: Vec<_> = index.get("x").into_iter().flat_map(Ids::iter).copied().collect();
            ids.sort();
            assert_eq!(index.get("x").map_or(0, Ids::len), ids.len());
            ids
        };
        for (id, now) in [(a, vec![a]), (b, vec![a, b]), (b, vec![a, b]), (c, vec![a, b, c])] {
            remember(&mut index, "x", id);
            assert_eq!(held(&index), now);
        }
        for (id, now) in [(b, vec![a, c]), (b, vec![a, c]), (a, vec![c]), (c, vec![])] {
            forget(&mut index, "x", id);
            assert_eq!(held(&index), now);
        }
        assert!(index.is_empty());
        remember(&mut index, "x", a);
        forget(&mut index, "x", b);
        assert_eq!(held(&index), [a]);
        forget(&mut index, "y", a);
        forget(&mut index, "x", a);
        assert!(index.is_empty());
    }
}
