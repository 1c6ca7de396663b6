//! The handle by which anyone may send to a session, and end it.

use crate::clock::now;
use crate::connection::Connection;
use saywhy_codes::ErrorMessage;
use saywhy_codes::catalogue::SLOW_CONSUMER;
use saywhy_proto::message::{Message, Shared};
use saywhy_proto::{Farewell, envelope};
use serde::Serialize;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
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
        if !queue.has_room(1, frame.len(), &self.0.settings) {
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
        if !queue.has_room(messages.len(), bytes, &self.0.settings) {
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
        if !self.0.speaks_json() {
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
