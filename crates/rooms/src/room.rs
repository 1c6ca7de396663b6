//! A room on this node: who is in it, and what they hear. It never waits for a member.

use crate::broker::{Entry, Position, Signal, Sink};
use saywhy::catalogue::HISTORY_LOST;
use saywhy::{Encoded, Outbox};
use serde::Serialize;
use serde_json::json;
use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use uuid::Uuid;

/// What is kept for a member while what it missed is read; past it the member has to start anew.
const JOINING_ENTRIES: usize = 1_024;
const JOINING_BYTES: usize = 1024 * 1024;

/// Hears the broker for all members of this node.
pub(crate) struct Room {
    name: Arc<str>,
    presence: bool,
    seats: Mutex<HashMap<Uuid, Seat>>,
    /// The log that it hears is no more. Whoever joins hears another, in another room.
    is_over: AtomicBool,
}

struct Seat {
    outbox: Outbox,
    user: Arc<str>,
    hears: Hears,
}

enum Hears {
    /// Everything, as it comes.
    Live,
    /// Nothing yet: what it missed is being read, and what comes meanwhile waits here.
    Joining(Box<Waiting>),
    /// So much came meanwhile that it does not fit.
    Overrun,
}

impl Seat {
    fn is_live(&self) -> bool {
        matches!(self.hears, Hears::Live)
    }
}

/// Entries for a member that still reads what it missed, bounded in number and in bytes.
#[derive(Default)]
struct Waiting {
    entries: Vec<Entry>,
    bytes: usize,
}

impl Waiting {
    fn takes(&self, entry: &Entry) -> bool {
        self.entries.len() < JOINING_ENTRIES && self.bytes + entry.body.len() <= JOINING_BYTES
    }

    fn push(&mut self, entry: &Entry) {
        self.bytes += entry.body.len();
        self.entries.push(entry.clone());
    }
}

/// Why a member could not be seated.
pub(crate) enum Unseated {
    /// Too much was said while it came in.
    Overrun,
    /// The room was removed while it came in.
    Removed,
}

impl Room {
    pub(crate) fn new(name: Arc<str>, presence: bool) -> Self {
        Self { name, presence, seats: Mutex::default(), is_over: AtomicBool::new(false) }
    }

    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The room was removed: nobody is in it any more, nor ever again.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Seat>> {
        // Nothing in here panics with the lock held.
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who is here, each once.
    pub(crate) fn members(&self) -> BTreeSet<Arc<str>> {
        self.lock().values().filter(|seat| seat.is_live()).map(|seat| Arc::clone(&seat.user)).collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// Keeps a place for a member that reads what it missed.
    pub(crate) fn reserve(&self, outbox: &Outbox, user: &Arc<str>) {
        let hears = Hears::Joining(Box::default());
        self.lock().insert(outbox.id(), Seat { outbox: outbox.clone(), user: Arc::clone(user), hears });
    }

    /// Lets a member hear `missed`, then what came while that was read, then everything.
    pub(crate) fn seat(&self, id: Uuid, missed: &[Entry], top: Position) -> Result<(), Unseated> {
        let mut seats = self.lock();
        let Some(seat) = seats.get_mut(&id).filter(|_| !self.is_over()) else { return Err(Unseated::Removed) };
        let Hears::Joining(waiting) = &mut seat.hears else { return Err(Unseated::Overrun) };
        let waiting = std::mem::take(waiting);
        seat.hears = Hears::Live;
        // What was read is there up to `top`; the rest came after.
        let newer = waiting.entries.iter().filter(|e| e.position.epoch != top.epoch || e.position.offset > top.offset);
        let messages: Vec<_> = missed.iter().chain(newer).map(|entry| self.message(entry)).collect();
        // All or nothing: a part would end the session as a slow one's, and the next attempt in the same way.
        // Gone is no news: the session is ending, and will leave.
        if seat.outbox.push_all(&messages) == Ok(false) {
            seat.hears = Hears::Overrun;
            return Err(Unseated::Overrun);
        }
        let user = Arc::clone(&seat.user);
        // One that still joins has told nobody, and may yet fail.
        if self.presence && seats.values().filter(|other| other.is_live() && other.user == user).count() == 1 {
            self.tell_all_but(&seats, Some(&user), "joined", &json!({ "room": self.name, "member": user }));
        }
        Ok(())
    }

    pub(crate) fn leave(&self, id: Uuid) {
        let mut seats = self.lock();
        let Some(seat) = seats.remove(&id) else { return };
        let (user, was_here) = (&seat.user, seat.is_live());
        if self.presence && was_here && !seats.values().any(|other| other.is_live() && other.user == *user) {
            self.tell_all_but(&seats, Some(user), "left", &json!({ "room": self.name, "member": user }));
        }
    }

    fn tell_all_but<T: Serialize>(
        &self,
        seats: &HashMap<Uuid, Seat>,
        not: Option<&Arc<str>>,
        kind: &'static str,
        data: &T,
    ) {
        match Encoded::message(kind, data) {
            Ok(message) => {
                for seat in seats.values().filter(|seat| not != Some(&seat.user)) {
                    let _ = seat.outbox.push(&message);
                }
            }
            Err(error) => tracing::error!(kind, %error, "message not serialised"),
        }
    }

    /// Written by hand, because `body` is JSON already.
    fn message(&self, entry: &Entry) -> Encoded {
        let mut text = String::with_capacity(entry.body.len() + 256);
        text.push_str(r#"{"type":"message","data":"#);
        self.write_data(entry, &mut text);
        text.push_str(r#","meta":{"timestamp":""#);
        let _ = write!(text, "{}", timestamp(entry));
        text.push_str("\"}}");
        Encoded::text(&text)
    }

    /// The `data` of a message: also what a list of them is made of.
    pub(crate) fn write_data(&self, entry: &Entry, out: &mut String) {
        let Position { epoch, offset, tag } = entry.position;
        let _ = write!(
            out,
            r#"{{"room":{},"position":{{"epoch":"{epoch:016x}","offset":{offset},"tag":"{tag:016x}"}},"from":{},"body":{}}}"#,
            quoted(&self.name),
            quoted(&entry.from),
            // The broker was given JSON text.
            std::str::from_utf8(&entry.body).unwrap_or("null"),
        );
    }
}

pub(crate) fn timestamp(entry: &Entry) -> jiff::Timestamp {
    jiff::Timestamp::try_from(entry.at).unwrap_or(jiff::Timestamp::UNIX_EPOCH)
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

impl Sink for Room {
    fn deliver(&self, entry: &Entry) {
        // Encoded at most once, and only if someone listens.
        let mut message = None;
        for seat in self.lock().values_mut() {
            match &mut seat.hears {
                Hears::Live => {
                    let _ = seat.outbox.push(message.get_or_insert_with(|| self.message(entry)));
                }
                Hears::Joining(waiting) if waiting.takes(entry) => waiting.push(entry),
                Hears::Joining(_) | Hears::Overrun => seat.hears = Hears::Overrun,
            }
        }
    }

    fn signal(&self, signal: Signal) {
        let mut seats = self.lock();
        let room = json!({ "room": self.name });
        match signal {
            Signal::Closed => self.tell_all_but(&seats, None, "room_closed", &room),
            Signal::Removed => {
                self.tell_all_but(&seats, None, "room_closed", &room);
                self.is_over.store(true, Ordering::Relaxed);
                seats.clear();
            }
            Signal::Opened => self.tell_all_but(&seats, None, "room_opened", &room),
            Signal::Degraded => self.tell_all_but(&seats, None, "degraded", &room),
            Signal::Restored => self.tell_all_but(&seats, None, "restored", &room),
            Signal::Lost { reason, .. } => {
                let lost =
                    HISTORY_LOST.message().detail("room", self.name.to_string()).detail("reason", reason.as_str());
                seats.values().for_each(|seat| seat.outbox.tell(&lost));
            }
        }
    }
}
