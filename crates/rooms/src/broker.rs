//! Brokers: where the log of each room is kept, and how its entries reach the nodes.
//!
//! | broker | for |
//! |---|---|
//! | [`MemoryBroker`] | one machine; the default |
//!
//! A broker numbers the entries of a room and keeps the newest of them; every node that serves the room hears each entry
//! once, in order. A client that comes back names its [`Position`] and gets everything after it, or is told why not:
//! [`recover`] is the one rule for that.

mod answer;
mod memory;
mod position;
mod publication;
mod recovery;

pub use answer::Answer;
pub use memory::{MemoryBroker, MemoryLimits};
pub use position::{InvalidPosition, Position};
pub use publication::{Entry, IdempotencyKey, InvalidKey, Publication};
pub use recovery::{Extent, LostReason, recover};

use saywhy_codes::Cause;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// How long a publication with an [`IdempotencyKey`] is remembered.
pub const IDEMPOTENCY_WINDOW: Duration = Duration::from_secs(5 * 60);

/// The store of all rooms, as seen from one node.
///
/// Which one serves is a line of the configuration, read when the process runs. So the trait can be used as
/// `Arc<dyn Broker>`, and neither rooms nor the server carry a type parameter for it. Trait objects rule out
/// `async fn`, and a boxed future for each message would make the memory broker pay for the network that it does not
/// have: an [`Answer`] is a future that is boxed only when there is something to wait for.
///
/// An operation may take effect before its answer is awaited, and takes effect at most once also when the answer is
/// dropped. Between two that one task starts one after the other, without waiting, there is no order.
///
/// # Errors
/// Every operation can fail with [`BrokerError::Unavailable`]; it then may or may not have taken effect. The rest is
/// said at each.
pub trait Broker: Send + Sync + 'static {
    /// Opens a room: begins its log when it is absent, goes on with it when it is closed.
    ///
    /// # Errors
    /// [`BrokerError::TooManyRooms`] when it is absent and there is no place for it.
    fn open<'a>(&'a self, room: &'a str) -> Answer<'a, ()>;

    /// Closes a room: nothing can be published until it is opened again. Its log stays, and can be read.
    ///
    /// # Errors
    /// [`BrokerError::Absent`].
    fn close<'a>(&'a self, room: &'a str) -> Answer<'a, ()>;

    /// Forgets a room and its log, and ends its subscriptions. Opened again, it begins a new epoch.
    ///
    /// # Errors
    /// [`BrokerError::Absent`].
    fn remove<'a>(&'a self, room: &'a str) -> Answer<'a, ()>;

    /// Whether a room is open, closed or absent.
    fn state<'a>(&'a self, room: &'a str) -> Answer<'a, RoomState>;

    /// The names that come after `after`, in order, at most `limit` of them, and whether each is open or closed. For
    /// people who look at what is there; it may cost as much as there are rooms.
    fn list<'a>(&'a self, after: Option<&'a str>, limit: usize) -> Answer<'a, Vec<(Arc<str>, RoomState)>>;

    /// Appends an entry to the log of an open room, and answers with its position. The subscribers hear it before or
    /// after that.
    ///
    /// A publication whose [`IdempotencyKey`] the same sender used in this room within [`IDEMPOTENCY_WINDOW`] is not
    /// appended: the answer is the position of the first, also when the room was closed since.
    ///
    /// # Errors
    /// [`BrokerError::Absent`], [`BrokerError::Closed`]. After [`BrokerError::Unavailable`] the same publication with
    /// the same key can be tried again.
    fn publish<'a>(&'a self, room: &'a str, publication: Publication) -> Answer<'a, Position>;

    /// Everything after `since`, if that is at most `limit` entries and [`recover`] grants it; without `since`, the
    /// newest entries, at most `limit`.
    ///
    /// # Errors
    /// [`BrokerError::Absent`].
    fn read<'a>(&'a self, room: &'a str, since: Option<Position>, limit: usize) -> Answer<'a, Replay>;

    /// The position of the newest entry, or [`Position::start`].
    ///
    /// # Errors
    /// [`BrokerError::Absent`].
    fn top<'a>(&'a self, room: &'a str) -> Answer<'a, Position>;

    /// Lets `sink` hear a room, open or closed, from [`Subscription::start`] on, until the subscription is dropped.
    ///
    /// # Errors
    /// [`BrokerError::Absent`].
    fn subscribe<'a>(&'a self, room: &'a str, sink: Arc<dyn Sink>) -> Answer<'a, Subscription>;
}

/// What hears a room on this node: usually the room's own object.
///
/// A broker calls it from wherever an entry appeared, one call at a time for each subscription. It may hold a lock on
/// the room meanwhile: a sink must not block, must not panic, and must not call the broker or drop a subscription.
/// Anything that takes time belongs into a bounded queue behind it.
pub trait Sink: Send + Sync {
    /// The next entry. Its position [follows](Position::follows) that of the one before, or the subscription's start,
    /// or the `top` of the [`Signal::Lost`] in between.
    fn deliver(&self, entry: &Entry);

    /// Something other than an entry, in its place among the entries.
    fn signal(&self, signal: Signal);
}

/// What a [`Sink`] is told besides entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// The room was closed, here or on another node: no entries until it is opened.
    Closed,
    /// The closed room was opened.
    Opened,
    /// The room was forgotten. This is the last that the subscription hears.
    Removed,
    /// The broker cannot be reached: nothing can be published, and entries may be late.
    Degraded,
    /// The broker is back, and nothing was lost.
    Restored,
    /// Entries were lost to this node, so its members have to be told: those that follow come after `top`. Ends what
    /// [`Signal::Degraded`] began.
    Lost {
        /// Why.
        reason: LostReason,
        /// Where the entries that follow go on.
        top: Position,
    },
}

/// A [`Sink`] that hears a room. Drop it to end that: once `drop` has returned, the sink is not called any more.
///
/// The broker keeps the sink alive until then, so a subscription that is kept inside its own sink never ends.
#[must_use = "the sink hears the room only as long as the subscription lives"]
pub struct Subscription {
    start: Position,
    end: Option<Box<dyn FnOnce() + Send + Sync>>,
}

impl Subscription {
    /// For those who write brokers: a subscription from `start` on, and what ends it.
    pub fn new(start: Position, end: impl FnOnce() + Send + Sync + 'static) -> Self {
        Self { start, end: Some(Box::new(end)) }
    }

    /// The position after which the sink hears everything. What is up to here must be [read](Broker::read): a read that
    /// begins after the subscription was answered reaches at least this far, and may repeat what the sink heard since.
    pub fn start(&self) -> Position {
        self.start
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if let Some(end) = self.end.take() {
            end();
        }
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").field("start", &self.start).finish_non_exhaustive()
    }
}

/// Whether a room takes entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RoomState {
    /// It does.
    Open,
    /// It does not, but it has a log.
    Closed,
    /// There is no such room.
    Absent,
}

/// What [`Broker::read`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replay {
    /// All that was asked for, oldest first, without gaps.
    Whole {
        /// The entries; the last of them is at `top`, unless there are none.
        entries: Vec<Entry>,
        /// The position of the newest entry of the log.
        top: Position,
    },
    /// The position asked for cannot be resumed from.
    Lost {
        /// Why.
        reason: LostReason,
        /// Where the log is now: from here one can start anew.
        top: Position,
    },
}

/// Why a broker did not do it.
#[derive(Debug)]
pub enum BrokerError {
    /// There is no such room.
    Absent,
    /// The room is closed.
    Closed,
    /// As many rooms as there may be are there already.
    TooManyRooms,
    /// The store behind the broker cannot be reached, or answered nonsense. The cause is for the log only.
    Unavailable(Cause),
}

impl fmt::Display for BrokerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Absent => "there is no such room",
            Self::Closed => "the room is closed",
            Self::TooManyRooms => "there are too many rooms",
            Self::Unavailable(_) => "the broker is unavailable",
        })
    }
}

impl std::error::Error for BrokerError {}
