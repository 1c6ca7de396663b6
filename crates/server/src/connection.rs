//! All that is known of one connection besides its socket and its machine: who it is, and what waits to be sent to it.

use crate::clock::{instant, now};
use crate::gate::PeerAddr;
use crate::handshake::SAYWHY_V1;
use crate::proxies::Source;
use crate::settings::Settings;
use http::{Request, Version};
use saywhy_proto::Farewell;
use saywhy_proto::message::Shared;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Waker};
use std::time::Duration;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use uuid::Uuid;

/// One connection.
pub(crate) struct Connection {
    pub(crate) id: Uuid,
    pub(crate) settings: Arc<Settings>,
    pub(crate) path: Box<str>,
    pub(crate) peer: Option<IpAddr>,
    /// It is a stream of an HTTP/2 connection.
    pub(crate) http2: bool,
    /// It came over TLS, where that is known.
    pub(crate) secure: Option<bool>,
    /// Messages of the envelope may be sent; a foreign subprotocol gets Closes only.
    pub(crate) json: bool,
    /// When the upgrade was asked for.
    pub(crate) started: Duration,
    pub(crate) user: OnceLock<Box<str>>,
    /// The handler took the admission into its hands.
    extracted: AtomicBool,
    /// `ready` was said.
    ready: AtomicBool,
    /// What is said on it is between the client and an upstream.
    relayed: AtomicBool,
    /// They speak a foreign subprotocol, as it turned out.
    foreign: AtomicBool,
    /// What runs the session, once it was let in.
    pub(crate) task: OnceLock<AbortHandle>,
    queue: Mutex<Queue>,
}

/// What of a request is known of its connection.
pub(crate) struct Asked {
    pub(crate) path: Box<str>,
    pub(crate) peer: Option<IpAddr>,
    pub(crate) http2: bool,
    pub(crate) secure: Option<bool>,
}

impl Asked {
    pub(crate) fn of<B>(request: &Request<B>) -> Self {
        let peer = request.extensions().get::<PeerAddr>().map(|peer| peer.0.ip());
        let secure = request.extensions().get::<Source>().and_then(|source| source.secure);
        Self { path: request.uri().path().into(), peer, http2: request.version() == Version::HTTP_2, secure }
    }
}

#[derive(Default)]
pub(crate) struct Queue {
    /// The next to be sent, in a place of its own: most often there is no other.
    first: Option<Arc<Shared>>,
    #[expect(clippy::box_collection, reason = "eight bytes of a connection that has none, not 32")]
    rest: Option<Box<VecDeque<Arc<Shared>>>>,
    bytes: u32,
    pub(crate) farewell: Option<Box<Farewell>>,
    /// Until when the peer may stay, when that has changed.
    pub(crate) expires: Option<Duration>,
    /// No more is taken: the ending has begun.
    pub(crate) ended: bool,
    waker: Option<Waker>,
}

impl Queue {
    pub(crate) fn pop(&mut self) -> Option<Arc<Shared>> {
        let frame = self.first.take()?;
        self.bytes -= bytes_of(&frame);
        self.first = self.rest.as_mut().and_then(|rest| rest.pop_front());
        if self.first.is_none() {
            // An idle connection holds no buffer.
            self.rest = None;
        }
        Some(frame)
    }

    pub(crate) fn push(&mut self, frame: Arc<Shared>) {
        self.bytes += bytes_of(&frame);
        match self.first {
            None => self.first = Some(frame),
            Some(_) => self.rest.get_or_insert_default().push_back(frame),
        }
    }

    pub(crate) fn has_room(&self, frames: usize, bytes: usize, settings: &Settings) -> bool {
        self.len() + frames <= settings.outbound_messages
            && self.bytes as usize + bytes <= settings.outbound_bytes.min(u32::MAX as usize)
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

/// What is queued is within a limit of 4 GiB, as a queue counts.
fn bytes_of(frame: &Shared) -> u32 {
    u32::try_from(frame.len()).unwrap_or(u32::MAX)
}

impl Connection {
    /// One whose upgrade is asked for now.
    pub(crate) fn new(settings: Arc<Settings>, asked: Asked, json: bool) -> Self {
        let Asked { path, peer, http2, secure } = asked;
        Self {
            id: Uuid::now_v7(),
            settings,
            path,
            peer,
            http2,
            secure,
            json,
            started: now(),
            user: OnceLock::new(),
            extracted: AtomicBool::new(false),
            ready: AtomicBool::new(false),
            relayed: AtomicBool::new(false),
            foreign: AtomicBool::new(false),
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

    /// What is said on it is between the client and an upstream from now on.
    pub(crate) fn relayed(&self, protocol: Option<&str>) {
        self.relayed.store(true, Ordering::Relaxed);
        self.foreign.store(protocol.is_some_and(|protocol| protocol != SAYWHY_V1), Ordering::Relaxed);
    }

    /// Whether messages of ours may be sent on it.
    pub(crate) fn speaks_json(&self) -> bool {
        self.json && !self.foreign.load(Ordering::Relaxed)
    }

    pub(crate) fn is_relayed(&self) -> bool {
        self.relayed.load(Ordering::Relaxed)
    }

    /// When `ready` has to be said.
    pub(crate) fn ready_by(&self) -> Instant {
        instant(self.started + self.settings.limits.ready)
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
    pub(crate) fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn wake(mut queue: MutexGuard<'_, Queue>) {
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
