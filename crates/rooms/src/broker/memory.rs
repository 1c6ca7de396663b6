//! The broker for one machine: logs in memory, gone with the process.

use super::{
    Answer, Broker, BrokerError, Entry, Extent, IDEMPOTENCY_WINDOW, IdempotencyKey, Position, Publication, Replay,
    RoomState, Signal, Sink, Subscription, recover,
};
use std::collections::{HashMap, VecDeque, hash_map};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

/// How much a [`MemoryBroker`] keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryLimits {
    /// Rooms, open and closed. One more is refused.
    pub rooms: usize,
    /// Entries in the history of a room. The oldest go first, here and below.
    pub history_entries: usize,
    /// Bytes in the history of a room, counting bodies and senders.
    pub history_bytes: usize,
    /// How long an entry is handed out; `None` for ever.
    pub history_age: Option<Duration>,
    /// Idempotency keys in a room. Where more are used within [`IDEMPOTENCY_WINDOW`], the oldest is forgotten early.
    pub keys: usize,
}

impl Default for MemoryLimits {
    /// 100,000 rooms; 256 entries and 1 MiB in each, of any age; 4,096 keys, which also make about 1 MiB.
    fn default() -> Self {
        Self { rooms: 100_000, history_entries: 256, history_bytes: 1 << 20, history_age: None, keys: 4_096 }
    }
}

/// Rooms in the memory of this process.
///
/// Every [`Answer`] is there at once. Sinks are called by the publisher, under the lock of the room: that is what makes
/// the order total. Rooms do not wait for each other.
///
/// ```
/// use saywhy_rooms::broker::{Broker, BrokerError, MemoryBroker, Publication, Replay};
/// # async fn example() -> Result<(), BrokerError> {
/// let broker = MemoryBroker::default();
/// broker.open("lobby").await?;
/// let (body, at) = (r#"{"text":"hello"}"#.into(), std::time::SystemTime::now());
/// let hello = Publication { from: "alice".into(), body, at, idempotency_key: None };
/// let position = broker.publish("lobby", hello.clone()).await?;
/// broker.publish("lobby", hello).await?;
/// let Replay::Whole { entries, .. } = broker.read("lobby", Some(position), 100).await? else { panic!() };
/// assert_eq!(entries.len(), 1); // the second one
/// # Ok(())
/// # }
/// # use std::{pin::pin, task::{Context, Poll, Waker}};
/// # let answer = pin!(example()).poll(&mut Context::from_waker(Waker::noop()));
/// # assert!(matches!(answer, Poll::Ready(Ok(()))));
/// ```
pub struct MemoryBroker {
    limits: MemoryLimits,
    now: Box<dyn Fn() -> Instant + Send + Sync>,
    random: Box<dyn Fn() -> u64 + Send + Sync>,
    /// Held only to look up, add or take out a room, never together with the lock of a room.
    rooms: RwLock<HashMap<Arc<str>, Arc<Room>>>,
}

type Room = Mutex<Log>;

impl MemoryBroker {
    /// A broker without rooms.
    pub fn new(limits: MemoryLimits) -> Self {
        Self::with(limits, Instant::now, rand::random)
    }

    /// A broker with a clock and a source of random numbers of your own, for tests.
    ///
    /// Recovery is as safe as the numbers are random: two equal ones can hide a loss.
    pub fn with(
        limits: MemoryLimits,
        now: impl Fn() -> Instant + Send + Sync + 'static,
        random: impl Fn() -> u64 + Send + Sync + 'static,
    ) -> Self {
        Self { limits, now: Box::new(now), random: Box::new(random), rooms: RwLock::default() }
    }

    /// Frees what is too old. A room does that by itself when it is used: call this now and then for the quiet ones.
    pub fn sweep(&self) {
        let rooms: Vec<_> = self.rooms.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        for room in rooms {
            let mut log = lock(&room);
            log.forget((self.now)(), &self.limits);
            log.kept.shrink_to_fit();
            log.keys.shrink_to_fit();
        }
    }

    fn find(&self, name: &str) -> Option<Arc<Room>> {
        self.rooms.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    fn find_or_add(&self, name: &str) -> Result<Arc<Room>, BrokerError> {
        if let Some(room) = self.find(name) {
            return Ok(room);
        }
        let mut rooms = self.rooms.write().unwrap_or_else(PoisonError::into_inner);
        let full = rooms.len() >= self.limits.rooms;
        match rooms.entry(name.into()) {
            hash_map::Entry::Occupied(found) => Ok(found.get().clone()),
            hash_map::Entry::Vacant(_) if full => Err(BrokerError::TooManyRooms),
            hash_map::Entry::Vacant(place) => {
                Ok(place.insert(Arc::new(Mutex::new(Log::begin((self.random)())))).clone())
            }
        }
    }

    /// Does something with the log of a room that is there.
    fn with_log<T>(&self, name: &str, act: impl FnOnce(&mut Log) -> Result<T, BrokerError>) -> Result<T, BrokerError> {
        let room = self.find(name).ok_or(BrokerError::Absent)?;
        let mut log = lock(&room);
        // Another thread may have removed the room since it was found.
        if log.state == RoomState::Absent { Err(BrokerError::Absent) } else { act(&mut log) }
    }
}

impl Default for MemoryBroker {
    fn default() -> Self {
        Self::new(MemoryLimits::default())
    }
}

impl fmt::Debug for MemoryBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryBroker").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl Broker for MemoryBroker {
    fn open<'a>(&'a self, room: &'a str) -> Answer<'a, ()> {
        Answer::now(self.find_or_add(room).map(|room| lock(&room).turn(RoomState::Open)))
    }

    fn close<'a>(&'a self, room: &'a str) -> Answer<'a, ()> {
        Answer::now(self.with_log(room, |log| {
            log.turn(RoomState::Closed);
            Ok(())
        }))
    }

    fn remove<'a>(&'a self, room: &'a str) -> Answer<'a, ()> {
        let taken = self.rooms.write().unwrap_or_else(PoisonError::into_inner).remove(room);
        Answer::now(taken.ok_or(BrokerError::Absent).map(|room| lock(&room).turn(RoomState::Absent)))
    }

    fn state<'a>(&'a self, room: &'a str) -> Answer<'a, RoomState> {
        Answer::now(Ok(self.find(room).map_or(RoomState::Absent, |room| lock(&room).state)))
    }

    fn publish<'a>(&'a self, room: &'a str, publication: Publication) -> Answer<'a, Position> {
        Answer::now(self.with_log(room, |log| log.publish(publication, (self.random)(), (self.now)(), &self.limits)))
    }

    fn list<'a>(&'a self, after: Option<&'a str>, limit: usize) -> Answer<'a, Vec<(Arc<str>, RoomState)>> {
        let mut rooms: Vec<_> = self.rooms.read().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect();
        rooms.retain(|room| after.is_none_or(|after| &**room > after));
        rooms.sort_unstable();
        rooms.truncate(limit);
        let state = |room: &str| self.find(room).map_or(RoomState::Absent, |room| lock(&room).state);
        Answer::now(Ok(rooms.into_iter().map(|room| (Arc::clone(&room), state(&room))).collect()))
    }

    fn read<'a>(&'a self, room: &'a str, since: Option<Position>, limit: usize) -> Answer<'a, Replay> {
        Answer::now(self.with_log(room, |log| {
            log.forget((self.now)(), &self.limits);
            Ok(match since {
                Some(since) => log.since(since, limit),
                None => log.newest(limit),
            })
        }))
    }

    fn top<'a>(&'a self, room: &'a str) -> Answer<'a, Position> {
        Answer::now(self.with_log(room, |log| Ok(log.top)))
    }

    fn subscribe<'a>(&'a self, room: &'a str, sink: Arc<dyn Sink>) -> Answer<'a, Subscription> {
        let Some(found) = self.find(room) else { return Answer::now(Err(BrokerError::Absent)) };
        let mut log = lock(&found);
        if log.state == RoomState::Absent {
            return Answer::now(Err(BrokerError::Absent));
        }
        let id = log.add(sink);
        let room = Arc::downgrade(&found);
        Answer::now(Ok(Subscription::new(log.top, move || {
            let sink = room.upgrade().and_then(|room| lock(&room).take(id));
            drop(sink); // outside the lock: a sink may do anything when it is dropped
        })))
    }
}

/// A panic in a sink poisons the lock of its room. The entry was in the log before, so the log is still whole.
fn lock(room: &Room) -> MutexGuard<'_, Log> {
    room.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The log of a room, with those who hear it.
struct Log {
    /// `Absent` once the room was removed, for those who had found it before.
    state: RoomState,
    top: Position,
    /// Without gaps, the newest at `top`.
    kept: VecDeque<Kept>,
    kept_bytes: usize,
    /// Why the entry that was removed last went.
    expired: bool,
    keys: Keys,
    sinks: Vec<(u64, Arc<dyn Sink>)>,
    next_sink: u64,
}

struct Kept {
    entry: Entry,
    at: Instant,
}

impl Kept {
    fn bytes(&self) -> usize {
        self.entry.body.len() + self.entry.from.len()
    }
}

impl Log {
    fn begin(epoch: u64) -> Self {
        Self {
            state: RoomState::Open,
            top: Position::start(epoch),
            kept: VecDeque::new(),
            kept_bytes: 0,
            expired: false,
            keys: Keys::default(),
            sinks: Vec::new(),
            next_sink: 0,
        }
    }

    fn publish(
        &mut self,
        publication: Publication,
        tag: u64,
        now: Instant,
        limits: &MemoryLimits,
    ) -> Result<Position, BrokerError> {
        let Publication { from, body, at, idempotency_key } = publication;
        self.forget(now, limits);
        let key = idempotency_key.map(|key| (from.clone(), key));
        if let Some(first) = key.as_ref().and_then(|key| self.keys.get(key)) {
            return Ok(first);
        }
        if self.state != RoomState::Open {
            return Err(BrokerError::Closed);
        }
        let position = Position { offset: self.top.offset + 1, tag, ..self.top };
        let kept = Kept { entry: Entry { position, from, body, at }, at: now };
        self.kept_bytes += kept.bytes();
        self.kept.push_back(kept);
        self.top = position;
        if let Some(key) = key {
            self.keys.remember(key, position, now);
        }
        if let Some(Kept { entry, .. }) = self.kept.back() {
            for (_, sink) in &self.sinks {
                sink.deliver(entry);
            }
        }
        self.forget(now, limits);
        Ok(position)
    }

    fn since(&self, since: Position, limit: usize) -> Replay {
        let run = self.kept_from(since.offset).map(|kept| kept.entry.position);
        let log = Extent { top: self.top, first: self.first(), expired: self.expired };
        match recover(since, log, limit, run) {
            Ok(()) => self.whole(self.kept_from(since.offset.saturating_add(1))),
            Err(reason) => Replay::Lost { reason, top: self.top },
        }
    }

    fn newest(&self, limit: usize) -> Replay {
        self.whole(self.kept.iter().skip(self.kept.len().saturating_sub(limit)))
    }

    fn whole<'a>(&self, kept: impl Iterator<Item = &'a Kept>) -> Replay {
        Replay::Whole { entries: kept.map(|kept| kept.entry.clone()).collect(), top: self.top }
    }

    fn first(&self) -> u64 {
        self.top.offset + 1 - self.kept.len() as u64
    }

    fn kept_from(&self, offset: u64) -> impl Iterator<Item = &Kept> {
        let before = offset.saturating_sub(self.first());
        self.kept.iter().skip(usize::try_from(before).unwrap_or(usize::MAX))
    }

    /// Lets go of what is too old or too much.
    fn forget(&mut self, now: Instant, limits: &MemoryLimits) {
        while let Some(oldest) = self.kept.front() {
            let expired = limits.history_age.is_some_and(|age| now.saturating_duration_since(oldest.at) >= age);
            let crowded = self.kept.len() > limits.history_entries || self.kept_bytes > limits.history_bytes;
            if !expired && !crowded {
                break;
            }
            self.expired = expired;
            self.kept_bytes -= oldest.bytes();
            self.kept.pop_front();
        }
        self.keys.forget(now, limits.keys);
    }

    /// Opens, closes or ends the room. One that has ended stays so: whoever found it before came first.
    fn turn(&mut self, state: RoomState) {
        if self.state == state || self.state == RoomState::Absent {
            return;
        }
        self.state = state;
        let signal = match state {
            RoomState::Open => Signal::Opened,
            RoomState::Closed => Signal::Closed,
            RoomState::Absent => Signal::Removed,
        };
        for (_, sink) in &self.sinks {
            sink.signal(signal);
        }
    }

    fn add(&mut self, sink: Arc<dyn Sink>) -> u64 {
        let id = self.next_sink;
        self.next_sink += 1;
        self.sinks.push((id, sink));
        id
    }

    fn take(&mut self, id: u64) -> Option<Arc<dyn Sink>> {
        let at = self.sinks.iter().position(|(other, _)| *other == id)?;
        Some(self.sinks.remove(at).1)
    }
}

/// A key counts for its sender only: nobody can silence another by guessing their keys.
type Key = (Arc<str>, IdempotencyKey);

/// The publications that can be told from their repetitions.
#[derive(Default)]
struct Keys {
    first: HashMap<Key, Position>,
    /// Oldest first.
    order: VecDeque<(Instant, Key)>,
}

impl Keys {
    fn get(&self, key: &Key) -> Option<Position> {
        self.first.get(key).copied()
    }

    fn remember(&mut self, key: Key, position: Position, now: Instant) {
        self.first.insert(key.clone(), position);
        self.order.push_back((now, key));
    }

    fn forget(&mut self, now: Instant, limit: usize) {
        while let Some((since, key)) = self.order.front() {
            if self.order.len() <= limit && now.saturating_duration_since(*since) < IDEMPOTENCY_WINDOW {
                break;
            }
            self.first.remove(key);
            self.order.pop_front();
        }
    }

    fn shrink_to_fit(&mut self) {
        self.first.shrink_to_fit();
        self.order.shrink_to_fit();
    }
}
