//! An open session, as the application sees it.

use crate::clock::now;
use crate::closing;
use crate::connection::Connection;
use crate::driver::{Driver, Reply};
use crate::failure::Failure;
use crate::observe;
use crate::outbox::Outbox;
use crate::panic::{Caught, called, caught};
use jiff::Timestamp;
use pin_project_lite::pin_project;
use saywhy_codes::catalogue::{BAD_REQUEST, HISTORY_LOST, INTERNAL_ERROR, RATE_LIMITED, UNSUPPORTED_DATA};
use saywhy_codes::{Cause, CloseCode, ErrorMessage};
use saywhy_proto::envelope::{self, Envelope, MAX_REQUEST_ID};
use saywhy_proto::message::Message;
use saywhy_proto::session::Delivery;
use saywhy_proto::{Farewell, Limits};
use serde::Serialize;
use serde::de::value::{MapAccessDeserializer, StrDeserializer};
use serde::de::{DeserializeOwned, DeserializeSeed, IntoDeserializer, MapAccess};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Sleep, sleep_until};
use uuid::Uuid;

/// What an application does with the messages of one session.
///
/// A client that sends a `meta.request_id` is answered `{"type":"ok","data":<event>}`, or with an error message. A
/// `ping` is answered without asking the handler. A panic ends the session with `internal_error`.
pub trait Handler: Send {
    /// What a client may send: an enum with `#[serde(tag = "type", content = "data")]`.
    type Command: DeserializeOwned + Send;
    /// What it gets back, as `data`.
    type Event: Serialize + Send;

    /// Runs once, when the client has been told `ready`.
    ///
    /// # Errors
    /// A [`Failure`] of either kind ends the session: there is no request to reply to.
    fn on_open(&mut self, outbox: &Outbox) -> impl Future<Output = Result<(), Failure>> + Send {
        let _ = outbox;
        async { Ok(()) }
    }

    /// Does what a client asks. Messages are handled one after the other; while this waits, what others send to the
    /// session still goes out, and the client's next messages wait.
    ///
    /// Dropped at its next `.await` when the connection ends before it is done.
    ///
    /// # Errors
    /// [`Failure`] says whether the session goes on.
    fn on_message(&mut self, command: Self::Command) -> impl Future<Output = Result<Self::Event, Failure>> + Send;
}

/// An accepted connection. Dropping it says goodbye: 1000, or `internal_error` while a panic unwinds.
pub struct Session {
    /// `None` only while dropping.
    driver: Option<Box<Driver>>,
}

/// A message with an owner, of a session without a [`Handler`].
#[derive(Debug)]
struct Request<C> {
    id: Option<String>,
    command: C,
}

impl Session {
    pub(crate) fn new(driver: Box<Driver>) -> Self {
        Self { driver: Some(driver) }
    }

    pub(crate) fn driver(&mut self) -> &mut Driver {
        match &mut self.driver {
            Some(driver) => driver,
            None => unreachable!("a session is used after its drop"),
        }
    }

    pub(crate) fn connection(&self) -> &Arc<Connection> {
        match &self.driver {
            Some(driver) => driver.connection(),
            None => unreachable!("a session is used after its drop"),
        }
    }

    /// The id by which the client and the operator know this connection.
    pub fn id(&self) -> Uuid {
        self.connection().id
    }

    /// A handle for others to send to this session, and to end it.
    pub fn outbox(&self) -> Outbox {
        Outbox(Arc::clone(self.connection()))
    }

    /// Says `ready`: from here on the connection is open. Done at the first [`Session::next`] or [`Session::send`] at
    /// the latest; to a foreign subprotocol nothing is said.
    pub fn ready(&mut self) {
        self.ready_in_reply_to(None);
    }

    pub(crate) fn ready_in_reply_to(&mut self, request_id: Option<&str>) {
        if !self.connection().ready() {
            return;
        }
        let connection = Arc::clone(self.connection());
        let driver = self.driver();
        driver.machine().ready(now());
        if connection.json {
            let data = Ready::of(&connection);
            // Plain data: it always serialises.
            let message = envelope::message("ready", &data, request_id, &Timestamp::now()).unwrap_or_default();
            driver.reply().text(&message);
        }
    }

    /// The next message; `None` when the session has ended. Messages that come too fast are refused before.
    /// Cancel-safe.
    pub async fn next(&mut self) -> Option<Message<'static>> {
        self.ready();
        self.driver()
            .next(|delivery, reply| match delivery {
                Delivery { over_limit: Some(wait), message } => {
                    refuse_rate(&message, wait, reply);
                    None
                }
                Delivery { message: Message::Text(text), .. } => Some(Message::Text(text.into_owned().into())),
                Delivery { message: Message::Binary(bytes), .. } => Some(Message::Binary(bytes.into_owned().into())),
            })
            .await
    }

    /// Calls `answer` with each message, borrowed from the bytes that arrived, until the session has ended. What it
    /// returns is sent back; many answers leave with one write. The way to go for work that never waits.
    pub async fn each(mut self, mut answer: impl for<'m> FnMut(Message<'m>) -> Option<Message<'m>> + Send) {
        self.ready();
        let _: Option<()> = self
            .driver()
            .next(|delivery, reply| {
                match delivery.over_limit {
                    Some(wait) => refuse_rate(&delivery.message, wait, reply),
                    None => {
                        if let Some(answer) = answer(delivery.message) {
                            reply.send(answer);
                        }
                    }
                }
                None
            })
            .await;
    }

    /// Sends a message with the next write, and never before `ready`; false when the session is ending.
    pub fn send(&mut self, message: Message<'_>) -> bool {
        self.ready();
        self.driver().reply().send(message)
    }

    /// Ends the session with an error, and waits until the client has heard it.
    pub async fn close(mut self, error: impl Into<ErrorMessage>) {
        self.end(Farewell::error(error)).await;
    }

    /// Ends the session with a bare Close, as servers do that do not say why: no message, no reason, and without
    /// `code` not even that.
    pub async fn leave(mut self, code: Option<CloseCode>) {
        let close = code.map(closing::bare);
        self.end(Farewell::close(close)).await;
    }

    /// Drops the connection without a word: the client sees 1006. For tests of clients.
    pub fn abandon(mut self) {
        if let Some(mut driver) = self.driver.take() {
            driver.machine().close(Farewell::close(None).because("abandoned by the application"), now());
        }
    }

    fn begin_end(&mut self, farewell: Farewell) {
        self.driver().machine().close(farewell, now());
    }

    pub(crate) async fn end(&mut self, farewell: Farewell) {
        self.begin_end(farewell);
        self.driver().finish().await;
    }

    /// Runs a handler until the session has ended.
    pub fn serve<H: Handler>(self, handler: H) -> impl Future<Output = ()> + Send {
        // Boxed, because futures hold what they are given more than once.
        self.handle(Box::new(handler))
    }

    async fn handle<H: Handler>(mut self, mut handler: Box<H>) {
        self.ready();
        let outbox = self.outbox();
        // The work of a handler has a place only while it is under way: an idle session is waiting for a message.
        let opening = Box::pin(caught(handler.on_open(&outbox)));
        let Some(opened) = self.driver().during(opening).await else { return };
        let mut goes_on = self.opened(opened);
        while goes_on {
            let Some(Request { id, command }) = self.driver().next(read).await else { return };
            let work = Box::pin(caught(handler.on_message(command)));
            let Some(done) = self.driver().during(work).await else { return };
            goes_on = self.handled(id, done);
        }
        self.driver().finish().await;
    }

    /// Whether the session goes on: nobody asked for anything that a failure could be a reply to.
    fn opened(&mut self, done: Result<Result<(), Failure>, Cause>) -> bool {
        match done {
            Ok(Ok(())) => return true,
            Ok(Err(Failure::Reply { error, cause } | Failure::Close { error, cause })) => {
                self.begin_end(Farewell { private: cause, ..Farewell::error(error) });
            }
            Err(panic) => self.explain_panic(panic, None),
        }
        false
    }

    /// Whether the session goes on after a message.
    fn handled<E: Serialize>(&mut self, id: Option<String>, done: Result<Result<E, Failure>, Cause>) -> bool {
        match done {
            Ok(Ok(event)) => self.answer(id.as_deref(), &event),
            Ok(Err(Failure::Reply { error, cause })) => {
                reply_error(id, &error, cause.as_ref(), &mut self.driver().reply());
            }
            Ok(Err(Failure::Close { error, cause })) => {
                self.begin_end(Farewell { private: cause, ..Farewell::error(error) }.in_reply_to(id));
                return false;
            }
            Err(panic) => {
                self.explain_panic(panic, id);
                return false;
            }
        }
        true
    }

    fn explain_panic(&mut self, panic: Cause, id: Option<String>) {
        observe::panicked(self.connection(), id.as_deref(), &panic);
        self.begin_end(Farewell { private: Some(panic), ..Farewell::error(INTERNAL_ERROR) }.in_reply_to(id));
    }

    /// A reply is sent where one was asked for.
    fn answer<E: Serialize>(&mut self, id: Option<&str>, event: &E) {
        let Some(id) = id.filter(|_| self.connection().json) else { return };
        match envelope::message("ok", event, Some(id), &Timestamp::now()) {
            Ok(message) => {
                self.driver().reply().text(&message);
            }
            Err(error) => {
                let (public, cause) = (INTERNAL_ERROR.message(), Cause::new(error));
                reply_error(Some(id.to_owned()), &public, Some(&cause), &mut self.driver().reply());
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let Some(mut driver) = self.driver.take() else { return };
        if driver.is_over() {
            return;
        }
        let farewell = if std::thread::panicking() {
            Farewell::error(INTERNAL_ERROR).because("the session's task panicked")
        } else {
            Farewell::done()
        };
        driver.let_go(farewell);
        // The last word needs someone to wait for the peer's. Without a runtime there is nobody, and the driver's own
        // drop records what was begun.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { driver.finish().await });
        }
    }
}

/// Runs a session as the application has it.
pub(crate) fn run<F, R>(open: Session, session: F) -> Running<R>
where
    F: FnOnce(Session) -> R,
    R: Future<Output = ()>,
{
    let connection = Arc::clone(open.connection());
    let work = called(|| session(open));
    let work = work.map(caught).inspect_err(|panic| observe::panicked(&connection, None, panic)).ok();
    Running { work, connection, timer: None }
}

pin_project! {
    /// A session that is not `ready` in time is dropped.
    pub(crate) struct Running<R> {
        // `None` when it panicked before it was a future.
        #[pin]
        work: Option<Caught<R>>,
        connection: Arc<Connection>,
        timer: Option<Pin<Box<Sleep>>>,
    }
}

impl<R: Future<Output = ()>> Future for Running<R> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        let Some(work) = this.work.as_pin_mut() else { return Poll::Ready(()) };
        if let Poll::Ready(done) = work.poll(cx) {
            // What is left of the session is dropped now, and its own drop tells the client; the log is told the words.
            if let Err(panic) = done {
                observe::panicked(this.connection, None, &panic);
            }
            return Poll::Ready(());
        }
        if this.connection.is_ready() {
            *this.timer = None;
            return Poll::Pending;
        }
        // Nearly all are ready at the first poll, and pay nothing for this.
        let timer = this.timer.get_or_insert_with(|| Box::pin(sleep_until(this.connection.ready_by())));
        ready!(timer.as_mut().poll(cx));
        this.connection.close(Farewell::unready());
        Poll::Ready(())
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("id", &self.id()).finish_non_exhaustive()
    }
}

// ---- what a client hears ---------------------------------------------------------------------------------------

#[derive(Serialize)]
struct Ready<'a> {
    connection_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    heartbeat_ms: u128,
    limits: ReadyLimits,
}

#[derive(Serialize)]
struct ReadyLimits {
    message_bytes: usize,
    messages_per_s: u32,
    message_burst: u32,
}

impl<'a> Ready<'a> {
    fn of(connection: &'a Connection) -> Self {
        let limits: &Limits = &connection.settings.limits;
        Self {
            connection_id: connection.id.simple().to_string(),
            user: connection.user.get().map(|user| &**user),
            heartbeat_ms: limits.heartbeat.as_millis(),
            limits: ReadyLimits {
                message_bytes: limits.message_bytes,
                messages_per_s: limits.messages_per_s,
                message_burst: limits.message_burst,
            },
        }
    }
}

fn reply_error(id: Option<String>, error: &ErrorMessage, cause: Option<&Cause>, reply: &mut Reply<'_>) {
    let id = id.unwrap_or_else(|| Uuid::now_v7().simple().to_string());
    observe::replied(reply.connection, &id, error, cause);
    if reply.connection.json {
        reply.text(&envelope::error(error, false, &id, &Timestamp::now()));
    }
    // What is our own fault is not held against the client, nor what a restart of ours made it ask in vain.
    if error.error().http < 500 && error.error() != HISTORY_LOST {
        reply.fault();
    }
}

fn refuse_rate(message: &Message<'_>, wait: Duration, reply: &mut Reply<'_>) {
    let error = RATE_LIMITED.message().retry_after(wait.max(Duration::from_millis(1)), wait / 2);
    if !reply.connection.json {
        return reply.close(Farewell::error(error));
    }
    let id = match message {
        Message::Text(text) => match Envelope::parse(text) {
            Ok(envelope) => envelope.request_id.map(Cow::into_owned),
            Err(malformed) => malformed.request_id,
        },
        Message::Binary(_) => None,
    };
    reply_error(id, &error, None, reply);
}

// ---- what a client says ----------------------------------------------------------------------------------------

/// Reads a command, or answers what is none.
fn read<C: DeserializeOwned>(delivery: Delivery<'_>, reply: &mut Reply<'_>) -> Option<Request<C>> {
    if let Some(wait) = delivery.over_limit {
        refuse_rate(&delivery.message, wait, reply);
        return None;
    }
    let Message::Text(text) = delivery.message else {
        reply.close(Farewell::error(UNSUPPORTED_DATA));
        return None;
    };
    let (id, error) = match Envelope::parse(&text) {
        Ok(Envelope { kind, request_id, .. }) if kind == "ping" => {
            reply.pong(request_id.as_deref());
            return None;
        }
        Ok(Envelope { kind, data, request_id }) => {
            let id = request_id.map(Cow::into_owned);
            match command(&kind, data) {
                Ok(command) => return Some(Request { id, command }),
                Err(error) => (id, error),
            }
        }
        Err(malformed) => (malformed.request_id, BAD_REQUEST.say(malformed.what)),
    };
    reply_error(id, &error, None, reply);
    None
}

/// Makes a command of `type` and `data`; what cannot be one is explained without a word of our own types.
fn command<C: DeserializeOwned>(kind: &str, data: &RawValue) -> Result<C, ErrorMessage> {
    let reached_data = Cell::new(false);
    let tagged = Tagged { kind: Some(kind), data: Some(data), reached_data: &reached_data };
    let deserializer = MapAccessDeserializer::new(tagged);
    serde_path_to_error::deserialize(deserializer).map_err(|error| {
        if !reached_data.get() {
            return BAD_REQUEST.say("That type of message is not known here").detail("type", shown(kind));
        }
        let words = error.inner().to_string();
        if let Some(field) = words.strip_prefix("missing field `").and_then(|rest| rest.split('`').next()) {
            // The path is that of the object that lacks it.
            let field = format!("{}.{field}", shown(&error.path().to_string()));
            return BAD_REQUEST.say(format!("A field is missing: {field}")).detail("field", field);
        }
        // The path says `data.room` or, for `data` as a whole, `data`.
        let path = shown(&error.path().to_string());
        BAD_REQUEST.say(format!("{path} is not what this type of message takes")).detail("field", path)
    })
}

/// A client's own words, short and without anything that a terminal would obey.
fn shown(words: &str) -> String {
    words.chars().filter(|c| !c.is_control()).take(MAX_REQUEST_ID).collect()
}

/// `type`, then `data`: in this order an adjacently tagged enum is read without being buffered.
struct Tagged<'a> {
    kind: Option<&'a str>,
    data: Option<&'a RawValue>,
    reached_data: &'a Cell<bool>,
}

impl<'de> MapAccess<'de> for Tagged<'de> {
    type Error = serde_json::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Self::Error> {
        let key = match (self.kind, self.data) {
            (Some(_), _) => "type",
            (None, Some(_)) => {
                self.reached_data.set(true);
                "data"
            }
            (None, None) => return Ok(None),
        };
        let key: StrDeserializer<'_, Self::Error> = key.into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Self::Error> {
        if let Some(kind) = self.kind.take() {
            let kind: StrDeserializer<'_, Self::Error> = kind.into_deserializer();
            return seed.deserialize(kind);
        }
        let data = self.data.take().map_or("null", RawValue::get);
        seed.deserialize(&mut serde_json::Deserializer::from_str(data))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(tag = "type", content = "data", rename_all = "snake_case")]
    enum Command {
        Say { room: String, at: Option<u32> },
        Leave {},
    }

    fn parse(kind: &str, data: &str) -> Result<Command, (String, String)> {
        let data: &RawValue = serde_json::from_str(data).unwrap();
        command(kind, data).map_err(|error| (error.message().to_owned(), format!("{:?}", error.details())))
    }

    #[test]
    fn a_command_is_read_or_its_fault_is_named() {
        assert_eq!(parse("say", r#"{"room":"a","at":3}"#), Ok(Command::Say { room: "a".into(), at: Some(3) }));
        assert_eq!(parse("leave", "{}"), Ok(Command::Leave {}));
        let words = |kind, data| parse(kind, data).unwrap_err().0;
        assert_eq!(words("shout", "{}"), "That type of message is not known here");
        assert_eq!(words("say", "{}"), "A field is missing: data.room");
        assert_eq!(words("say", r#"{"room":7}"#), "data.room is not what this type of message takes");
        assert_eq!(words("say", r#"{"room":"a","at":-1}"#), "data.at is not what this type of message takes");
        assert_eq!(words("say", "7"), "data is not what this type of message takes");
    }
}
