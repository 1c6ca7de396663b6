//! What waits to be sent to one peer, and the handle by which anyone may add to it.

use crate::gate::{Gate, Settings};
use crate::transport::{instant, now};
use saywhy_codes::ErrorMessage;
use saywhy_codes::catalogue::SLOW_CONSUMER;
use saywhy_proto::message::{Message, Shared};
use saywhy_proto::{Farewell, envelope};
use serde::Serialize;
use std::collections::VecDeque;
use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Waker};
use std::time::Duration;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use uuid::Uuid;

/// A message that is encoded once and sent to many.
#[derive(Clone, Debug)]
pub struct Encoded(Arc<Shared>);

impl Encoded {
    /// A text message, ready for the wire.
    pub fn text(text: &str) -> Self {
        Self(Arc::new(Shared::new(&Message::Text(text.into()))))
    }

    /// A message of the envelope without a `request_id`.
    ///
    /// # Errors
    /// When `data` cannot be serialised.
    pub fn message<T: Serialize + ?Sized>(kind: &str, data: &T) -> Result<Self, serde_json::Error> {
        envelope::message(kind, data, None, &jiff::Timestamp::now()).map(|text| Self::text(&text))
    }
}

/// A handle to one session: sends to it and ends it, from anywhere and without waiting. Cheap to clone.
#[derive(Clone)]
pub struct Outbox(pub(crate) Arc<Connection>);

/// All that is known of one connection besides its socket and its machine.
pub(crate) struct Connection {
    pub(crate) id: Uuid,
    pub(crate) gate: Gate,
    pub(crate) path: Box<str>,
    pub(crate) peer: Option<IpAddr>,
    /// Messages of the envelope may be sent; a foreign subprotocol gets Closes only.
    pub(crate) json: bool,
    /// When the upgrade was asked for.
    pub(crate) started: Duration,
    pub(crate) user: OnceLock<Box<str>>,
    /// The handler took the admission into its hands.
    extracted: AtomicBool,
    /// `ready` was said.
    ready: AtomicBool,
    /// What runs the session, once it was let in.
    pub(crate) task: OnceLock<AbortHandle>,
    queue: Mutex<Queue>,
}

#[derive(Default)]
pub(crate) struct Queue {
    /// The next to be sent, in a place of its own: most often there is no other.
    first: Option<Arc<Shared>>,
    #[expect(clippy::box_collection, reason = "eight bytes of a connection that has none, not 32")]
    rest: Option<Box<VecDeque<Arc<Shared>>>>,
    bytes: usize,
    pub(crate) farewell: Option<Box<Farewell>>,
    /// Until when the peer may stay, when that has changed.
    pub(crate) expires: Option<Duration>,
    /// No more is taken: the ending has begun.
    ended: bool,
    waker: Option<Waker>,
}

impl Queue {
    pub(crate) fn pop(&mut self) -> Option<Arc<Shared>> {
        let frame = self.first.take()?;
        self.bytes -= frame.len();
        self.first = self.rest.as_mut().and_then(|rest| rest.pop_front());
        if self.first.is_none() {
            // An idle connection holds no buffer.
            self.rest = None;
        }
        Some(frame)
    }

    fn push(&mut self, frame: Arc<Shared>) {
        self.bytes += frame.len();
        match self.first {
            None => self.first = Some(frame),
            Some(_) => self.rest.get_or_insert_default().push_back(frame),
        }
    }

    fn has_room(&self, frames: usize, bytes: usize, settings: &Settings) -> bool {
        self.len() + frames <= settings.outbound_messages && self.bytes + bytes <= settings.outbound_bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.rest.as_ref().map_or(0, |rest| rest.len())
    }

    pub(crate) fn clear(&mut self) {
        (self.first, self.rest) = (None, None);
        self.bytes = 0;
        self.ended = true;
    }
}

impl Connection {
    pub(crate) fn new(gate: Gate, path: Box<str>, peer: Option<IpAddr>, json: bool, started: Duration) -> Self {
        Self {
            id: Uuid::now_v7(),
            gate,
            path,
            peer,
            json,
            started,
            user: OnceLock::new(),
            extracted: AtomicBool::new(false),
            ready: AtomicBool::new(false),
            task: OnceLock::new(),
            queue: Mutex::default(),
        }
    }

    pub(crate) fn extracted(&self) {
        self.extracted.store(true, Ordering::Relaxed);
    }

    pub(crate) fn was_extracted(&self) -> bool {
        self.extracted.load(Ordering::Relaxed)
    }

    /// Says that the session is open; false when that was said before.
    pub(crate) fn ready(&self) -> bool {
        !self.ready.swap(true, Ordering::Relaxed)
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    /// When `ready` has to be said.
    pub(crate) fn ready_by(&self) -> Instant {
        instant(self.started + self.gate.settings().limits.ready)
    }

    /// The queue, for the driver, which is woken when more comes; and whether it was so before.
    pub(crate) fn queue(&self, cx: &Context<'_>) -> (MutexGuard<'_, Queue>, bool) {
        let mut queue = self.lock();
        let is_same = queue.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
        if !is_same {
            queue.waker = Some(cx.waker().clone());
        }
        (queue, is_same)
    }

    /// A thread that panicked with the lock held left the queue whole: each change to it is one statement.
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(mut queue: MutexGuard<'_, Queue>) {
        let waker = queue.waker.take();
        drop(queue);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// What others asked for as an ending, if the driver has not taken it yet.
    pub(crate) fn take_farewell(&self) -> Option<Farewell> {
        self.lock().farewell.take().map(|farewell| *farewell)
    }

    /// It is over: whoever still holds an outbox keeps nothing but the handle.
    pub(crate) fn ended(&self) {
        self.lock().clear();
    }

    pub(crate) fn close(&self, farewell: Farewell) {
        let mut queue = self.lock();
        if !queue.ended {
            queue.ended = true;
            queue.farewell = Some(Box::new(farewell));
            Self::wake(queue);
        }
    }
}

/// The session takes no more: it is ending, or has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;

impl fmt::Display for Gone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the session takes no more messages")
    }
}

impl std::error::Error for Gone {}

impl Outbox {
    /// The connection's id, as `ready` told it to the client.
    pub fn id(&self) -> Uuid {
        self.0.id
    }

    /// Whom the session belongs to, once that is known.
    pub fn user(&self) -> Option<&str> {
        self.0.user.get().map(|user| &**user)
    }

    /// The path that was asked for, without its query.
    pub fn path(&self) -> &str {
        &self.0.path
    }

    /// Queues a message. It never waits: a peer for whom too much is queued already ends with `slow_consumer`,
    /// and its last word goes out ahead of the queue.
    ///
    /// # Errors
    /// [`Gone`] when the session is ending; the message is dropped.
    pub fn push(&self, message: &Encoded) -> Result<(), Gone> {
        let mut queue = self.0.lock();
        if queue.ended {
            return Err(Gone);
        }
        let frame = &message.0;
        if !queue.has_room(1, frame.len(), self.0.gate.settings()) {
            queue.clear();
            queue.farewell = Some(Box::new(Farewell::error(SLOW_CONSUMER).urgent()));
            Connection::wake(queue);
            return Err(Gone);
        }
        queue.push(frame.clone());
        Connection::wake(queue);
        Ok(())
    }

    /// Queues all of these, or none: `Ok(false)` when they do not fit, which is no fault of the peer's.
    ///
    /// # Errors
    /// [`Gone`] when the session is ending.
    pub fn push_all(&self, messages: &[Encoded]) -> Result<bool, Gone> {
        let bytes = messages.iter().map(|message| message.0.len()).sum();
        let mut queue = self.0.lock();
        if queue.ended {
            return Err(Gone);
        }
        if !queue.has_room(messages.len(), bytes, self.0.gate.settings()) {
            return Ok(false);
        }
        messages.iter().for_each(|message| queue.push(message.0.clone()));
        Connection::wake(queue);
        Ok(true)
    }

    /// Queues a message of the envelope.
    ///
    /// # Errors
    /// [`Gone`] when the session is ending, or `data` cannot be serialised, which is logged.
    pub fn send<T: Serialize + ?Sized>(&self, kind: &str, data: &T) -> Result<(), Gone> {
        match Encoded::message(kind, data) {
            Ok(message) => self.push(&message),
            Err(error) => {
                tracing::error!(connection_id = %self.0.id, kind, %error, "message not serialised");
                Err(Gone)
            }
        }
    }

    /// Tells the peer of an error that no request of its led to, and that its session survives. In a foreign
    /// subprotocol nothing is said.
    pub fn tell(&self, error: &ErrorMessage) {
        if !self.0.json {
            return;
        }
        let id = Uuid::now_v7().simple().to_string();
        // Gone is no news: the session is ending, and was told why.
        let _ = self.push(&Encoded::text(&envelope::error(error, false, &id, &jiff::Timestamp::now())));
    }

    /// Ends the session with an error, after what is queued. The first ending stands.
    pub fn close(&self, error: impl Into<ErrorMessage>) {
        self.0.close(Farewell::error(error));
    }

    /// Ends the session with an error, ahead of what is queued.
    pub fn close_now(&self, error: impl Into<ErrorMessage>) {
        self.0.close(Farewell::error(error).urgent());
    }

    /// Lets the peer stay for this long from now: it is told `auth_expiring` in time, and then ends with
    /// `unauthorized`, unless this is called again.
    pub fn expires_in(&self, left: Duration) {
        let mut queue = self.0.lock();
        queue.expires = Some(now() + left);
        Connection::wake(queue);
    }
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox").field("id", &self.0.id).finish_non_exhaustive()
    }
}
