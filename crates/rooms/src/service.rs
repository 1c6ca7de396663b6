//! All rooms, as one node serves them.

use crate::broker::{Broker, BrokerError, Entry, LostReason, Position, Publication, Replay, Subscription};
use crate::membership::Membership;
use crate::room::{Room, Unseated};
use saywhy::catalogue::{BAD_REQUEST, HISTORY_LOST, INVALID_ACTION, MESSAGE_TOO_BIG, NOT_FOUND, OVERLOADED};
use saywhy::{Cause, ErrorMessage, Failure, Outbox};
use std::collections::HashMap;
use std::collections::hash_map::Entry as Place;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How rooms come into being.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Create {
    /// Someone who may manage them opens them, or the HTTP API.
    #[default]
    Manage,
    /// Whoever joins first opens them.
    Join,
}

/// How rooms are.
#[derive(Clone, Debug)]
pub struct RoomsSettings {
    /// How they come into being.
    pub create: Create,
    /// Whether members see each other come and go.
    pub presence: bool,
    /// Rooms that one session may be in: `invalid_action`.
    pub rooms_per_connection: usize,
    /// Entries that are given at most to one that resumes, or asks for history.
    pub replay_entries: usize,
    /// Bytes of them. Less than a session's queue takes: who resumes would otherwise end as `slow_consumer`, each time.
    pub replay_bytes: usize,
    /// Bytes of one message: `message_too_big`.
    pub message_bytes: usize,
}

impl Default for RoomsSettings {
    fn default() -> Self {
        Self {
            create: Create::Manage,
            presence: true,
            rooms_per_connection: 64,
            replay_entries: 256,
            replay_bytes: 512 * 1024,
            message_bytes: 64 * 1024,
        }
    }
}

/// The service. Cheap to clone.
#[derive(Clone)]
pub struct Rooms {
    inner: Arc<Inner>,
    settings: Arc<RoomsSettings>,
}

struct Inner {
    broker: Arc<dyn Broker>,
    /// The rooms that have members here.
    here: Mutex<HashMap<Arc<str>, Here>>,
}

struct Here {
    room: Arc<Room>,
    memberships: usize,
    subscription: Subscription,
}

/// The longest name of a room, in bytes.
pub(crate) const MAX_NAME: usize = 128;

impl Rooms {
    /// Rooms whose logs are kept by `broker`.
    pub fn new(broker: Arc<dyn Broker>, settings: RoomsSettings) -> Self {
        Self { inner: Arc::new(Inner { broker, here: Mutex::default() }), settings: Arc::new(settings) }
    }

    /// The same rooms, with other settings for those who come from now on. Whether members see each other is decided when the
    /// first of them comes.
    #[must_use]
    pub fn with(&self, settings: RoomsSettings) -> Self {
        Self { inner: Arc::clone(&self.inner), settings: Arc::new(settings) }
    }

    /// How rooms are.
    pub fn settings(&self) -> &RoomsSettings {
        &self.settings
    }

    /// Where their logs are kept.
    pub fn broker(&self) -> &dyn Broker {
        &*self.inner.broker
    }

    /// Who is in a room on this node, in alphabetical order.
    pub fn members(&self, room: &str) -> Vec<Arc<str>> {
        let room = self.here().get(room).map(|here| Arc::clone(&here.room));
        room.map_or_else(Vec::new, |room| room.members().into_iter().collect())
    }

    fn here(&self) -> MutexGuard<'_, HashMap<Arc<str>, Here>> {
        // Nothing in here panics with the lock held.
        self.inner.here.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Joins: what was missed since `since`, if that can be had whole, then everything. Answers with the position
    /// from which on the member hears the room.
    pub(crate) async fn join(
        &self,
        name: &str,
        since: Option<Position>,
        outbox: &Outbox,
        user: &Arc<str>,
    ) -> Result<(Membership, Position), Failure> {
        let room = self.enter(name).await?;
        // From here on whatever fails leaves the room again.
        let membership = Membership::new(self.clone(), Arc::clone(&room), outbox.id());
        room.reserve(outbox, user);
        let (missed, top) = match since {
            Some(since) => self.missed(name, since).await?,
            None => (Vec::new(), self.broker().top(name).await.map_err(failure)?),
        };
        room.seat(outbox.id(), &missed, top).map_err(|why| match why {
            Unseated::Overrun => Failure::reply(lost(name, LostReason::TooManyMissed)),
            Unseated::Removed => failure(BrokerError::Absent),
        })?;
        Ok((membership, top))
    }

    async fn missed(&self, name: &str, since: Position) -> Result<(Vec<Entry>, Position), Failure> {
        self.read(name, Some(since), self.settings().replay_entries).await
    }

    /// The room on this node, subscribed to its log; counted, to be given back by [`Rooms::leave`].
    async fn enter(&self, name: &str) -> Result<Arc<Room>, Failure> {
        check_name(name)?;
        if let Some(here) = self.here().get_mut(name).filter(|here| !here.room.is_over()) {
            here.memberships += 1;
            return Ok(Arc::clone(&here.room));
        }
        let room = Arc::new(Room::new(name.into(), self.settings().presence));
        let subscription = self.subscribe(name, &room).await?;
        let mut all = self.here();
        let superfluous = match all.entry(Arc::clone(room.name())) {
            Place::Occupied(mut other) if !other.get().room.is_over() => {
                // Someone else was first while we subscribed.
                let here = other.get_mut();
                here.memberships += 1;
                (Arc::clone(&here.room), Some(subscription))
            }
            Place::Occupied(mut over) => {
                // The room was removed and has begun anew: what is left of it here is dead.
                let dead = over.insert(Here { room: Arc::clone(&room), memberships: 1, subscription });
                (room, Some(dead.subscription))
            }
            Place::Vacant(place) => {
                place.insert(Here { room: Arc::clone(&room), memberships: 1, subscription });
                (room, None)
            }
        };
        // A subscription ends by waiting for the room that it hears: never with the table locked.
        drop(all);
        Ok(superfluous.0)
    }

    async fn subscribe(&self, name: &str, room: &Arc<Room>) -> Result<Subscription, Failure> {
        let broker = self.broker();
        match broker.subscribe(name, Arc::clone(room) as _).await {
            Err(BrokerError::Absent) if self.settings().create == Create::Join => {
                broker.open(name).await.map_err(failure)?;
                broker.subscribe(name, Arc::clone(room) as _).await.map_err(failure)
            }
            answer => answer.map_err(failure),
        }
    }

    /// One membership less; the last one ends the subscription.
    pub(crate) fn leave(&self, room: &Arc<Room>) {
        let mut all = self.here();
        // A room that was removed may have a successor of the same name.
        let Some(here) = all.get_mut(room.name()).filter(|here| Arc::ptr_eq(&here.room, room)) else { return };
        here.memberships -= 1;
        let ended = if here.memberships == 0 { all.remove(room.name()) } else { None };
        drop(all);
        // Not with the table locked, see `enter`.
        if let Some(Here { subscription, room, .. }) = ended {
            debug_assert!(room.is_empty());
            drop(subscription);
        }
    }

    pub(crate) async fn publish(&self, name: &str, publication: Publication) -> Result<Position, Failure> {
        check_name(name)?;
        let bytes = publication.body.len() + publication.from.len();
        if bytes > self.settings().message_bytes {
            let limit = i64::try_from(self.settings().message_bytes).unwrap_or(i64::MAX);
            return Err(Failure::reply(MESSAGE_TOO_BIG.message().detail("limit_bytes", limit)));
        }
        self.broker().publish(name, publication).await.map_err(failure)
    }

    /// What was said after `since`, or the newest, oldest first.
    pub(crate) async fn history(
        &self,
        name: &str,
        since: Option<Position>,
        limit: usize,
    ) -> Result<(Vec<Entry>, Position), Failure> {
        check_name(name)?;
        self.read(name, since, limit.min(self.settings().replay_entries)).await
    }

    async fn read(&self, name: &str, since: Option<Position>, limit: usize) -> Result<(Vec<Entry>, Position), Failure> {
        match self.broker().read(name, since, limit).await.map_err(failure)? {
            Replay::Whole { mut entries, top } => {
                let first = newest_within(&entries, self.settings().replay_bytes);
                if first > 0 && since.is_some() {
                    return Err(Failure::reply(lost(name, LostReason::TooManyMissed)));
                }
                entries.drain(..first);
                Ok((entries, top))
            }
            Replay::Lost { reason, .. } => Err(Failure::reply(lost(name, reason))),
        }
    }
}

/// Where the newest entries begin that together take at most `bytes` on the wire.
fn newest_within(entries: &[Entry], bytes: usize) -> usize {
    let mut left = bytes;
    let fits = |entry: &&Entry| {
        let rest = left.checked_sub(entry.body.len() + entry.from.len() + ENVELOPE_BYTES);
        left = rest.unwrap_or_default();
        rest.is_some()
    };
    entries.len() - entries.iter().rev().take_while(fits).count()
}

/// About what a message has besides its body and its sender.
const ENVELOPE_BYTES: usize = 256;

impl fmt::Debug for Rooms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rooms").field("settings", self.settings()).finish_non_exhaustive()
    }
}

/// 1 to 128 bytes without control characters.
pub(crate) fn check_name(name: &str) -> Result<(), Failure> {
    if (1..=MAX_NAME).contains(&name.len()) && !name.contains(char::is_control) {
        return Ok(());
    }
    let error = BAD_REQUEST.say("A room's name has 1 to 128 bytes and no control characters");
    Err(Failure::reply(error.detail("field", "data.room")))
}

fn lost(room: &str, reason: LostReason) -> ErrorMessage {
    HISTORY_LOST.message().detail("room", room.to_owned()).detail("reason", reason.as_str())
}

/// What a broker's error is to a client. None of them ends a session.
pub(crate) fn failure(error: BrokerError) -> Failure {
    match error {
        BrokerError::Absent => Failure::reply(NOT_FOUND.say("Room not found")),
        BrokerError::Closed => Failure::reply(INVALID_ACTION.say("The room is closed")),
        BrokerError::TooManyRooms => Failure::Reply {
            error: OVERLOADED.say("There are too many rooms"),
            cause: Some(Cause::from("the broker's limit of rooms is reached; hint: raise max_rooms")),
        },
        BrokerError::Unavailable(cause) => {
            Failure::Reply { error: OVERLOADED.say("The room cannot be reached at the moment"), cause: Some(cause) }
        }
    }
}
