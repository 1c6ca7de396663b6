//! The session machine: all that can happen between the upgrade and the end, in one place.
//!
//! ```text
//!              ready()                close() · violation · deadline · the peer's Close
//!  Connecting ────────► Open ─────────────────────────────► Closing ─────────────► Closed
//!      │                  │                                    │                     ▲
//!      └──────────────────┴── lost() · end of input ───────────┴─────────────────────┘
//! ```
//!
//! | state | reads | writes | leaves when |
//! |---|---|---|---|
//! | Connecting | messages, under tighter limits | anything | `ready`, or any ending; `timeout` at the deadline |
//! | Open | messages | anything | any ending |
//! | Closing, Close not yet written | the peer's Close | the backlog, then the last word | the last word is written |
//! | Closing, Close written | the peer's Close | nothing | peer's Close or end of input; deadline |
//! | Closed | nothing | nothing | – |
//!
//! The shell reads and writes the socket, keeps the clock, and asks [`Session::step`] what to do next. At most one
//! Close is ever written and nothing after it; each session has exactly one [`Ending`].

use crate::deflate::{Agreed, Compression, Deflater, Inflater};
use crate::frame::{self, Header, Opcode, Piece};
use crate::limits::{Limits, Meter};
use crate::message::{Decoder, Item, Message, Shared};
use crate::violation::Violation;
use saywhy_codes::catalogue::{GOING_AWAY, POLICY_VIOLATION, TIMEOUT, UNAUTHORIZED};
use saywhy_codes::{
    Cause, CloseCode, CloseFrame, CloseReason, Dialect, EndCause, Ending, ErrorMessage, Loss, Observed, Party, Role,
    SeenClose, Stage,
};
use std::borrow::Cow;
use std::fmt;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

/// Where a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Upgraded, not yet `ready`.
    Connecting,
    /// Ready.
    Open,
    /// The ending has begun.
    Closing,
    /// Over.
    Closed,
}

/// How one side ends a session.
#[derive(Debug)]
pub struct Farewell {
    /// What is said.
    pub words: Words,
    /// What went wrong inside, for the record only.
    pub private: Option<Cause>,
    /// Whether it goes out ahead of what is queued, which is then dropped.
    pub urgent: bool,
}

/// What a farewell says.
#[derive(Debug)]
pub enum Words {
    /// An error: its message, where one can be sent, and the Close that stands for it.
    Error {
        /// The public side.
        error: ErrorMessage,
        /// The id under which peer and operator find it; the connection's own where there is no other.
        request_id: Option<String>,
    },
    /// A Close only; `None` is a Close without a code.
    Close(Option<CloseFrame>),
}

impl Farewell {
    /// Ends with an error, after what is queued.
    pub fn error(error: impl Into<ErrorMessage>) -> Self {
        Self { words: Words::Error { error: error.into(), request_id: None }, private: None, urgent: false }
    }

    /// Ends with a Close and nothing else, after what is queued.
    pub fn close(close: Option<CloseFrame>) -> Self {
        Self { words: Words::Close(close), private: None, urgent: false }
    }

    /// Ends as an application does that is done: 1000.
    pub fn done() -> Self {
        Self::close(Some(CloseFrame { code: CloseCode::NORMAL, reason: CloseReason::EMPTY }))
    }

    /// Ends a connection that was not `ready` in time.
    pub fn unready() -> Self {
        Self::error(TIMEOUT.say("The connection was not ready in time"))
    }

    /// Ends a connection that was let in to bring its token, and did not in time.
    pub fn without_token() -> Self {
        Self::error(TIMEOUT.say("No token came in time").detail("reason", "token_missing"))
    }

    /// Adds the private side.
    #[must_use]
    pub fn because(mut self, cause: impl Into<Cause>) -> Self {
        self.private = Some(cause.into());
        self
    }

    /// Adds the id of the request that led to it.
    #[must_use]
    pub fn in_reply_to(mut self, id: Option<String>) -> Self {
        if let Words::Error { request_id, .. } = &mut self.words {
            *request_id = id;
        }
        self
    }

    /// Sends it ahead of what is queued.
    #[must_use]
    pub fn urgent(mut self) -> Self {
        self.urgent = true;
        self
    }
}

/// How an endpoint words its errors: the one place that knows dialect, ids and the time of day.
pub trait Phrase {
    /// The message that goes before the Close, if one does, and the Close.
    fn farewell(&self, error: &ErrorMessage, request_id: Option<&str>) -> (Option<String>, CloseFrame);

    /// The message that says that the peer's permission to be here ends soon, if there is one.
    fn expiring(&self, left: Duration) -> Option<String>;
}

/// Words of an endpoint that says what was wrong in its Close and nowhere else, such as a client.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mute;

impl Phrase for Mute {
    fn farewell(&self, error: &ErrorMessage, _: Option<&str>) -> (Option<String>, CloseFrame) {
        (None, CloseFrame { code: Dialect::App.close_code(error.error()), reason: error.reason() })
    }

    fn expiring(&self, _: Duration) -> Option<String> {
        None
    }
}

/// The code with which a Close is answered; `None` is a Close without one.
fn echo(code: Observed, role: Role) -> Option<CloseFrame> {
    let code = match code {
        // 1010 is a client's to say; a server acknowledges it with 1000.
        Observed::Code(code) => CloseCode::new(code.as_u16(), role).unwrap_or(CloseCode::NORMAL),
        // Not its sender's to say, but understood.
        Observed::Illegal(code) => CloseCode::new(code, role).ok()?,
        Observed::NoStatus | Observed::Abnormal | Observed::TlsHandshake => return None,
    };
    Some(CloseFrame { code, reason: CloseReason::EMPTY })
}

/// A message, and whether it came too fast.
#[derive(Debug)]
pub struct Delivery<'a> {
    /// The message.
    pub message: Message<'a>,
    /// How long to wait until the next may come, when this one was too much. It is to be refused, not processed.
    pub over_limit: Option<Duration>,
}

/// What a relay takes from one side.
#[derive(Debug)]
pub enum Passing<'a> {
    /// A part of a message, as it came, for [`Session::pass`] of the other side.
    Piece(Piece<'a>),
    /// Whole messages, as they came, for [`Session::pass_run`] of the other side.
    Run(&'a [u8]),
    /// A message has begun too fast: those that came before it, whole, and how long it is until one may.
    TooFast(&'a [u8], Duration),
}

/// What became of a message that was to be sent.
#[derive(Debug, PartialEq, Eq)]
pub enum Sent {
    /// All of it was appended.
    Whole,
    /// Its header was appended, and this is the payload, to be written right after it.
    Apart(Vec<u8>),
    /// The session is ending.
    Not,
}

/// Payloads from this length on are not worth a copy.
const APART_BYTES: usize = 32 * 1024;

/// What the shell does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Go on: read, write, and wake at [`Session::deadline`].
    Continue,
    /// Both Closes are there, or ours was waited on for long enough: end the connection in good order.
    Finish,
    /// There is nothing left to wait for: drop the connection.
    Abandon,
}

/// One end of a WebSocket connection, from the upgrade to the end.
pub struct Session {
    role: Role,
    state: State,
    limits: Arc<Limits>,
    decoder: Decoder,
    /// Compresses, where that was agreed on.
    deflater: Option<Box<Deflater>>,
    /// The peer has said Close: what follows is not part of the protocol any more.
    deaf: bool,
    /// Keys for what a client sends; a server masks nothing.
    keys: Option<Box<dyn FnMut() -> [u8; 4] + Send>>,
    started: Stamp,
    last_read: Stamp,
    last_message: Stamp,
    next_ping: Option<Stamp>,
    unfinished_since: Option<Stamp>,
    /// When the peer's permission to be here ends, and when it is told, as long as it has not been.
    expires: Option<Expiry>,
    /// It is to be told now.
    expiring: bool,
    /// Something waits to be written and the peer takes nothing.
    stalled_since: Option<Stamp>,
    close_by: Option<Stamp>,
    /// Pongs that wait to be written, as frames.
    pongs: Vec<u8>,
    ping_due: bool,
    was_ready: bool,
    /// It is not ready because the peer's token is not there.
    awaits_token: bool,
    meters: Option<Box<Meters>>,
    errors: Option<Box<Meter>>,
    record: Option<Box<Record>>,
    /// Something was handed out by [`Session::transmit`] that the shell has not written yet.
    unwritten: bool,
    /// Both sides have had their say.
    complete: bool,
    /// A message that is passed on has begun to be written, and not ended: only control frames may stand in it.
    inside: bool,
    next: Step,
}

/// Made at the first message, so that a connection that only listens does not pay for it.
struct Meters {
    messages: Option<Meter>,
    control: Option<Meter>,
}

#[derive(Clone, Copy)]
struct Expiry {
    at: Stamp,
    warn_at: Option<Stamp>,
}

/// A moment in eight bytes, optional or not: a connection keeps many of them. 584 years of nanoseconds fit.
#[derive(Clone, Copy)]
struct Stamp(NonZeroU64);

impl From<Duration> for Stamp {
    fn from(at: Duration) -> Self {
        Self(
            u64::try_from(at.as_nanos())
                .ok()
                .and_then(|nanos| NonZeroU64::MIN.checked_add(nanos))
                .unwrap_or(NonZeroU64::MAX),
        )
    }
}

impl Stamp {
    fn get(self) -> Duration {
        Duration::from_nanos(self.0.get() - 1)
    }
}

/// Pongs that wait are at most about this long together.
const PONG_BYTES: usize = 4 * 1024;

/// How long before its end a peer is told of it; half the time that is left where that is less.
const EXPIRY_NOTICE: Duration = Duration::from_secs(30);

/// What the ending will say, as far as it is known.
#[derive(Default)]
struct Record {
    cause: Option<EndCause>,
    request_id: Option<String>,
    private: Option<Cause>,
    /// What is still to be said.
    farewell: Option<Farewell>,
    sent: Option<SeenClose>,
    received: Option<SeenClose>,
    first_close: Option<Party>,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("role", &self.role).field("state", &self.state).finish_non_exhaustive()
    }
}

impl Session {
    /// A server's end of a connection that was upgraded at `now`.
    pub fn server(limits: Arc<Limits>, now: Duration) -> Self {
        Self::new(Role::Server, None, limits, now)
    }

    /// A client's end, with a source of masking keys that nobody can predict (RFC 6455 §5.3).
    pub fn client(limits: Arc<Limits>, keys: impl FnMut() -> [u8; 4] + Send + 'static, now: Duration) -> Self {
        Self::new(Role::Client, Some(Box::new(keys)), limits, now)
    }

    fn new(role: Role, keys: Option<Box<dyn FnMut() -> [u8; 4] + Send>>, limits: Arc<Limits>, now: Duration) -> Self {
        let peer = match role {
            Role::Client => Role::Server,
            Role::Server => Role::Client,
        };
        Self {
            role,
            state: State::Connecting,
            decoder: Decoder::new(peer, limits.early_message_bytes.min(limits.message_bytes)),
            deflater: None,
            deaf: false,
            keys,
            started: now.into(),
            last_read: now.into(),
            last_message: now.into(),
            next_ping: (!limits.heartbeat.is_zero()).then(|| (now + limits.heartbeat).into()),
            unfinished_since: None,
            expires: None,
            expiring: false,
            stalled_since: None,
            close_by: None,
            pongs: Vec::new(),
            ping_due: false,
            was_ready: false,
            awaits_token: false,
            meters: None,
            errors: None,
            record: None,
            unwritten: false,
            complete: false,
            inside: false,
            next: Step::Continue,
            limits,
        }
    }

    /// The handshake agreed on permessage-deflate. Nothing is compressed or inflated before [`Session::ready`].
    pub fn compress(&mut self, agreed: Agreed, ours: &Compression) {
        let peer = match self.role {
            Role::Client => Role::Server,
            Role::Server => Role::Client,
        };
        self.decoder.inflate_with(Inflater::new(agreed, peer));
        self.deflater = Some(Box::new(Deflater::new(agreed, self.role, ours)));
    }

    /// From now on messages are not read but passed on to another session: [`Session::receive_passing`] and
    /// [`Session::pass`]. `compressed` says whether permessage-deflate was agreed on, by those whom they are from and for.
    pub fn relays(&mut self, compressed: bool) {
        self.decoder.pass_on(compressed);
    }

    /// What a session may take.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Why the session ends, once it does, and the peer's Close if one has come. Gone when the [`Ending`] is taken.
    pub fn ending(&self) -> Option<(EndCause, Option<&SeenClose>)> {
        let record = self.record.as_ref()?;
        Some((record.cause?, record.received.as_ref()))
    }

    /// Where the session is.
    pub fn state(&self) -> State {
        self.state
    }

    /// What the shell does next. After anything but [`Step::Continue`], take the [`Ending`].
    pub fn step(&self) -> Step {
        self.next
    }

    /// The server said `ready`: from here on the session is open.
    pub fn ready(&mut self, now: Duration) {
        if self.state == State::Connecting {
            self.state = State::Open;
            self.was_ready = true;
            self.last_message = now.into();
            self.decoder.set_message_bytes(self.limits.message_bytes);
            self.decoder.allow_compressed();
        }
    }

    /// Says whether it is the peer's token that the server waits for, so that the peer is told, should it be late.
    pub fn awaits_token(&mut self, awaits: bool) {
        self.awaits_token = awaits;
    }

    /// The peer may stay until `at`: it is told in time, and may be given longer by another call.
    pub fn expires(&mut self, at: Duration, now: Duration) {
        let left = at.saturating_sub(now);
        let warn_at = at.saturating_sub(EXPIRY_NOTICE.min(left / 2));
        self.expires = Some(Expiry { at: at.into(), warn_at: Some(warn_at.into()) });
        self.expiring = false;
    }

    // ---- input ---------------------------------------------------------------------------------------------

    /// Takes bytes that arrived, which are unmasked in place; says how many it took, and a message if one is whole.
    /// Call it again with the rest until all are taken.
    pub fn receive<'a>(&mut self, bytes: &'a mut [u8], now: Duration) -> (usize, Option<Delivery<'a>>) {
        match self.hear(bytes, now) {
            (taken, Some(Item::Message(message))) => (taken, self.message(message, now)),
            (taken, _) => (taken, None),
        }
    }

    /// As [`Session::receive`], of a session that [relays](Session::relays): nothing is unmasked or kept.
    pub fn receive_passing<'a>(&mut self, bytes: &'a mut [u8], now: Duration) -> (usize, Option<Passing<'a>>) {
        let (taken, item) = self.hear(bytes, now);
        let Some(item) = item.filter(|_| self.state != State::Closing) else { return (taken, None) };
        let (begun, passing) = match item {
            Item::Run(bytes, count) => (count, Passing::Run(bytes)),
            Item::Piece(piece) => {
                let begins = piece.is_first && piece.header.opcode != Opcode::Continuation;
                (u32::from(begins), Passing::Piece(piece))
            }
            Item::Message(_) | Item::Ping(_) | Item::Pong | Item::Close(..) => return (taken, None),
        };
        self.last_message = now.into();
        if let Some(meter) = self.meters(now).messages.as_ref() {
            for nth in 0..begun {
                if let Err(wait) = meter.check(now) {
                    let first = match passing {
                        Passing::Run(bytes) => &bytes[..frame::length_of(bytes, nth)],
                        Passing::Piece(_) | Passing::TooFast(..) => &[],
                    };
                    return (taken, Some(Passing::TooFast(first, wait)));
                }
            }
        }
        (taken, Some(passing))
    }

    /// Does what the protocol asks for, and hands on what is for the application.
    fn hear<'a>(&mut self, bytes: &'a mut [u8], now: Duration) -> (usize, Option<Item<'a>>) {
        self.last_read = now.into();
        if self.deaf || self.state == State::Closed {
            return (bytes.len(), None);
        }
        let (taken, item) = self.decoder.next(bytes);
        let item = match item {
            Ok(Some(Item::Ping(payload))) => {
                if self.control_allowed(now) {
                    self.pong(&payload);
                }
                None
            }
            Ok(Some(Item::Pong)) => {
                self.control_allowed(now);
                None
            }
            Ok(Some(Item::Close(close, violation))) => {
                self.peer_closed(close, violation, now);
                None
            }
            Ok(item) => item,
            Err(violation) => {
                self.violated(violation, now);
                None
            }
        };
        self.unfinished_since = match self.unfinished_since {
            _ if !self.decoder.is_inside_message() => None,
            None => Some(now.into()),
            since => since,
        };
        (taken, item)
    }

    /// Where the next bytes may be read to at once, without a copy, and how many at most; see [`Decoder::place`].
    pub fn place(&mut self) -> Option<(&mut Vec<u8>, usize)> {
        if self.deaf || matches!(self.state, State::Closing | State::Closed) { None } else { self.decoder.place() }
    }

    /// How much to read at once where there is no place; see [`Decoder::first_read`].
    pub fn first_read(&self) -> usize {
        self.decoder.first_read()
    }

    /// So many bytes were read to where [`Session::place`] said.
    pub fn read_into_place(&mut self, bytes: usize, now: Duration) {
        self.last_read = now.into();
        self.decoder.read_into_place(bytes);
    }

    fn message<'a>(&mut self, message: Message<'a>, now: Duration) -> Option<Delivery<'a>> {
        if self.state == State::Closing {
            return None;
        }
        self.last_message = now.into();
        let meter = self.meters(now).messages.as_ref();
        let over_limit = meter.and_then(|meter| meter.check(now).err());
        Some(Delivery { message, over_limit })
    }

    /// Answers a Ping, and all of them as long as the peer takes the answers; otherwise only the latest
    /// (RFC 6455 §5.5.3), so that they cannot pile up.
    fn pong(&mut self, payload: &[u8]) {
        if self.stalled_since.is_some() || self.pongs.len() >= PONG_BYTES {
            self.pongs.clear();
        }
        let key = self.key();
        frame::write(Opcode::Pong, payload, key, &mut self.pongs);
    }

    fn control_allowed(&mut self, now: Duration) -> bool {
        let allowed = self.meters(now).control.as_ref().is_none_or(|meter| meter.check(now).is_ok());
        if !allowed {
            self.violated(Violation::ControlFlood, now);
        }
        allowed
    }

    fn meters(&mut self, now: Duration) -> &Meters {
        let limits = &self.limits;
        self.meters.get_or_insert_with(|| {
            Box::new(Meters { messages: limits.message_meter(now), control: limits.control_meter(now) })
        })
    }

    fn violated(&mut self, violation: Violation, now: Duration) {
        self.decoder.discard();
        // Urgent: a peer that breaks the protocol gets its answer, not what was queued for it.
        let mut message = violation.message();
        if violation == Violation::TooBig {
            message = message.detail("limit_bytes", self.decoder.message_bytes() as i64);
        }
        self.close(Farewell::error(message).urgent(), now);
    }

    /// RFC 6455 §5.5.1: a Close is answered with a Close of the same code; an illegal one with 1002.
    fn peer_closed(&mut self, close: SeenClose, violation: Option<Violation>, now: Duration) {
        self.deaf = true;
        let echo = echo(close.code, self.role);
        let record = self.record();
        record.received = Some(close);
        if record.sent.is_some() {
            return self.both_closed();
        }
        record.first_close = Some(Party::Peer);
        if let Some(farewell) =
            record.farewell.as_mut().filter(|farewell| matches!(farewell.words, Words::Error { .. }))
        {
            // What went wrong before the Close came is still said, in the answer.
            farewell.urgent = true;
            return;
        }
        // The error is said in the Close alone: no message may follow the peer's Close.
        let (cause, farewell) = match violation {
            Some(violation) => (EndCause::Error(violation.error()), Farewell::error(violation.message())),
            None => (EndCause::PeerClosed, Farewell::close(echo)),
        };
        self.begin_closing(cause, farewell.urgent(), now);
    }

    /// The peer ended its side of the connection.
    pub fn end_of_input(&mut self) {
        let said = self.record.as_ref().is_some_and(|record| record.sent.is_some());
        if said { self.end(Step::Finish) } else { self.lost(Loss::Eof) }
    }

    /// The connection broke.
    pub fn lost(&mut self, loss: Loss) {
        if self.state != State::Closed {
            // A cause that was there before is why it broke; the loss only cut the farewell short.
            self.record().cause.get_or_insert(EndCause::Lost(loss));
            self.end(Step::Abandon);
        }
    }

    /// The shell does not read at present, by its own choice: the peer's silence means nothing.
    pub fn not_reading(&mut self, now: Duration) {
        self.last_read = now.into();
        self.unfinished_since = self.unfinished_since.map(|_| now.into());
    }

    // ---- ending --------------------------------------------------------------------------------------------

    /// Begins to end the session. The first farewell stands; later ones change nothing.
    pub fn close(&mut self, farewell: Farewell, now: Duration) {
        if matches!(self.state, State::Closing | State::Closed) {
            return;
        }
        let cause = match &farewell.words {
            Words::Error { error, .. } => EndCause::Error(error.error()),
            Words::Close(_) => EndCause::Finished,
        };
        self.begin_closing(cause, farewell, now);
    }

    /// Counts one error that the peer was told of; past the budget the session ends with `policy_violation`.
    pub fn fault(&mut self, now: Duration) {
        if self.errors.is_none() {
            self.errors = self.limits.error_meter(now).map(Box::new);
        }
        if self.errors.as_ref().is_some_and(|meter| meter.check(now).is_err()) {
            self.close(Farewell::error(POLICY_VIOLATION.say("Too many errors: the last one used up the budget")), now);
        }
    }

    fn begin_closing(&mut self, cause: EndCause, farewell: Farewell, now: Duration) {
        self.state = State::Closing;
        let record = self.record();
        record.cause = Some(cause);
        record.farewell = Some(farewell);
        self.decoder.discard();
        self.unfinished_since = None;
        // Bounds what goes before the Close; once the Close is written, only the peer's is waited for.
        self.close_by = Some((now + self.limits.write).into());
    }

    /// RFC 6455 §7.1.1: the server ends the TCP connection, at once; a client leaves that to the server.
    fn both_closed(&mut self) {
        self.complete = true;
        if self.role == Role::Server && !self.unwritten {
            self.end(Step::Finish);
        }
    }

    fn end(&mut self, step: Step) {
        self.state = State::Closed;
        self.next = step;
    }

    fn record(&mut self) -> &mut Record {
        self.record.get_or_insert_default()
    }

    /// The record of the ending, once, when the session is closed. A session that is given up before that is
    /// recorded as unexplained.
    pub fn take_ending(&mut self, now: Duration) -> Ending {
        let record = self.record.take().map_or_else(Record::default, |record| *record);
        let private = record.private.or_else(|| record.farewell.and_then(|farewell| farewell.private));
        Ending {
            stage: if self.was_ready { Stage::Session } else { Stage::Admission },
            cause: record.cause.unwrap_or(EndCause::Unexplained),
            request_id: record.request_id,
            private,
            confirmed: record.sent.is_some() && record.received.is_some(),
            sent: record.sent,
            received: record.received,
            first_close: record.first_close,
            lived: now.saturating_sub(self.started.get()),
        }
    }

    // ---- output --------------------------------------------------------------------------------------------

    /// Whether application data may still be written: before our Close, and not past the peer's.
    pub fn accepts_data(&self) -> bool {
        match self.state {
            State::Connecting | State::Open => true,
            State::Closing => {
                let farewell = self.record.as_ref().and_then(|record| record.farewell.as_ref());
                farewell.is_some_and(|farewell| !farewell.urgent)
            }
            State::Closed => false,
        }
    }

    /// Appends a data message to `out`, if one may still be written.
    pub fn send(&mut self, message: &Message<'_>, out: &mut Vec<u8>) -> bool {
        if !self.accepts_data() {
            return false;
        }
        // What is sent may be an answer, and a Ping may have come before the question.
        self.write_pongs(out);
        let (opcode, payload) = message.parts();
        self.write_data(opcode, payload, out);
        true
    }

    /// As [`Session::send`], but a long payload that the message owns is handed back instead of copied.
    pub fn send_owned(&mut self, message: Message<'_>, out: &mut Vec<u8>) -> Sent {
        if message.len() < APART_BYTES || self.deflater.is_some() {
            return if self.send(&message, out) { Sent::Whole } else { Sent::Not };
        }
        let (opcode, mut payload) = match message {
            Message::Text(Cow::Owned(text)) => (Opcode::Text, text.into_bytes()),
            Message::Binary(Cow::Owned(bytes)) => (Opcode::Binary, bytes),
            borrowed => return if self.send(&borrowed, out) { Sent::Whole } else { Sent::Not },
        };
        if !self.accepts_data() {
            return Sent::Not;
        }
        self.write_pongs(out);
        let mask = self.key();
        Header { fin: true, compressed: false, opcode, mask, len: payload.len() as u64 }.write(out);
        if let Some(key) = mask {
            frame::mask(&mut payload, key, 0);
        }
        Sent::Apart(payload)
    }

    /// Appends a message that goes to many, if one may still be written. For servers.
    pub fn send_shared(&mut self, message: &Shared, out: &mut Vec<u8>) -> bool {
        if !self.accepts_data() {
            return false;
        }
        let payload = message.payload();
        let Some(deflater) = self.deflater.as_ref().filter(|_| self.was_ready) else {
            out.extend_from_slice(message.wire());
            return true;
        };
        match deflater.takes_shared(payload.len()) {
            Some(level) => out.extend_from_slice(message.compressed(level).unwrap_or(message.wire())),
            None => self.write_data(message.opcode(), payload, out),
        }
        true
    }

    /// Appends a part of a message that came from elsewhere, as a frame of its own unless it is one already, with the mask
    /// that it has. So what is written ends with a whole frame at any time, and a Close may follow it. False when the
    /// session is ending.
    pub fn pass(&mut self, piece: &Piece<'_>, out: &mut Vec<u8>) -> bool {
        if !self.accepts_data() {
            return false;
        }
        let (header, ends) = (piece.header, piece.is_last());
        if piece.payload.is_empty() && !ends {
            // Announced; there is nothing to write yet.
            return true;
        }
        let theirs = header.mask.map(|key| frame::key_at(key, piece.offset));
        let mask = match self.role {
            Role::Client => theirs.or_else(|| self.key()),
            Role::Server => None,
        };
        let fin = header.fin && ends;
        let opcode = if self.inside { Opcode::Continuation } else { header.opcode };
        let compressed = header.compressed && !self.inside;
        Header { fin, compressed, opcode, mask, len: piece.payload.len() as u64 }.write(out);
        let start = out.len();
        out.extend_from_slice(piece.payload);
        for key in [theirs, mask].into_iter().flatten().filter(|_| theirs != mask) {
            frame::mask(&mut out[start..], key, 0);
        }
        self.inside = !fin;
        true
    }

    /// Whether a message that is passed on has begun to be written and not ended: no other may stand in it.
    pub fn is_inside_passing(&self) -> bool {
        self.inside
    }

    /// Appends whole messages that came from elsewhere, with the masks that they have. For what one role sends to another:
    /// a relay's ends have different ones. False when the session is ending.
    pub fn pass_run(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> bool {
        if self.accepts_data() {
            out.extend_from_slice(bytes);
            return true;
        }
        false
    }

    fn write_data(&mut self, opcode: Opcode, payload: &[u8], out: &mut Vec<u8>) {
        let key = self.key();
        let deflater = self.deflater.as_mut().filter(|_| self.was_ready);
        match deflater.and_then(|deflater| deflater.message(payload)) {
            Some(compressed) => frame::write_message(opcode, &compressed, true, key, out),
            None => frame::write(opcode, payload, key, out),
        }
    }

    fn write_pongs(&mut self, out: &mut Vec<u8>) {
        if !self.pongs.is_empty() {
            out.append(&mut std::mem::take(&mut self.pongs));
        }
    }

    fn key(&mut self) -> Option<[u8; 4]> {
        self.keys.as_mut().map(|keys| keys())
    }

    /// Whether [`Session::transmit`] has something to append, now or when the backlog is written.
    pub fn has_something_to_say(&self) -> bool {
        !self.pongs.is_empty() || self.ping_due || self.expiring || self.record.is_some()
    }

    /// Appends to `out` what the protocol itself has to say: a Pong, a Ping, and the last word, which waits until
    /// `backlog_is_empty` unless it is urgent. Call it after the application's data.
    pub fn transmit(&mut self, backlog_is_empty: bool, phrase: &dyn Phrase, now: Duration, out: &mut Vec<u8>) {
        if self.state == State::Closed || self.record.as_ref().is_some_and(|record| record.sent.is_some()) {
            return;
        }
        self.write_pongs(out);
        if std::mem::take(&mut self.ping_due) {
            let key = self.key();
            frame::write(Opcode::Ping, &[], key, out);
        }
        if !self.inside
            && std::mem::take(&mut self.expiring)
            && let Some(expiry) = &self.expires
            && let Some(message) = phrase.expiring(expiry.at.get().saturating_sub(now))
        {
            let key = self.key();
            frame::write(Opcode::Text, message.as_bytes(), key, out);
        }
        let waiting = self.record.as_mut().map(|record| &mut record.farewell);
        let due = |farewell: &mut Farewell| farewell.urgent || backlog_is_empty;
        if let Some(farewell) = waiting.and_then(|farewell| farewell.take_if(due)) {
            self.last_word(farewell, phrase, now, out);
        }
    }

    fn last_word(&mut self, farewell: Farewell, phrase: &dyn Phrase, now: Duration, out: &mut Vec<u8>) {
        self.unwritten = true;
        let received = self.record().received.is_some();
        let (message, close) = match farewell.words {
            Words::Error { error, request_id } => {
                let (message, close) = phrase.farewell(&error, request_id.as_deref());
                self.record().request_id = request_id;
                (message, Some(close))
            }
            Words::Close(close) => (None, close),
        };
        if let Some(message) = message.filter(|_| !received && !self.inside) {
            let key = self.key();
            frame::write(Opcode::Text, message.as_bytes(), key, out);
        }
        let key = self.key();
        frame::write_close(close.as_ref(), key, out);
        let record = self.record();
        record.private = farewell.private;
        record.sent =
            Some(close.map_or(SeenClose { code: Observed::NoStatus, reason: CloseReason::EMPTY }, Into::into));
        record.first_close.get_or_insert(Party::Us);
        self.close_by = Some((now + self.limits.close).into());
        if received {
            self.both_closed();
        }
    }

    /// Says how the last write went: whether something still waits to be written, and whether the peer took any.
    pub fn wrote(&mut self, waits: bool, progress: bool, now: Duration) {
        self.stalled_since = match self.stalled_since {
            _ if !waits => None,
            Some(since) if !progress => Some(since),
            _ => Some(now.into()),
        };
        self.unwritten &= waits;
        if self.complete {
            self.both_closed();
        }
    }

    // ---- time ----------------------------------------------------------------------------------------------

    /// When to call [`Session::expire`], unless something else happens before.
    pub fn deadline(&self) -> Option<Duration> {
        let limits = &self.limits;
        let stalled = self.stalled_since.map(|since| since.get() + limits.write);
        let next_ping = self.next_ping.map(Stamp::get);
        let open = match self.state {
            State::Closed => return None,
            State::Closing => [self.close_by.map(Stamp::get), None, None, None],
            State::Connecting => [Some(self.started.get() + limits.ready), next_ping, self.unfinished_by(), None],
            State::Open => {
                let idle = (!limits.idle.is_zero()).then(|| self.last_message.get() + limits.idle);
                [self.expires_by(), next_ping, self.unfinished_by(), idle]
            }
        };
        open.into_iter().chain([stalled]).flatten().min()
    }

    fn unfinished_by(&self) -> Option<Duration> {
        self.unfinished_since.map(|since| since.get() + self.limits.message)
    }

    /// What goes before the last word had its time: now it goes out ahead of that, or not at all.
    fn stop_waiting(&mut self, now: Duration) {
        match self.record.as_mut().and_then(|record| record.farewell.as_mut()) {
            Some(farewell) if !farewell.urgent => {
                farewell.urgent = true;
                self.close_by = Some((now + self.limits.close).into());
            }
            // Perhaps it was only slow: ended in good order, what was sent can still be read.
            _ => self.end(if self.is_said() { Step::Finish } else { Step::Abandon }),
        }
    }

    /// Our Close has left.
    fn is_said(&self) -> bool {
        !self.unwritten && self.record.as_ref().is_some_and(|record| record.sent.is_some())
    }

    fn expires_by(&self) -> Option<Duration> {
        self.expires.map(|expiry| expiry.warn_at.unwrap_or(expiry.at).get())
    }

    fn expire_permission(&mut self, now: Duration) {
        let Some(expiry) = &mut self.expires else { return };
        let at = expiry.at.get();
        if at > now {
            expiry.warn_at = None;
            self.expiring = true;
            return;
        }
        let error = UNAUTHORIZED.say("Your token has expired").detail("reason", "token_expired");
        self.close(Farewell::error(error), now);
    }

    /// Does what is due at `now`.
    pub fn expire(&mut self, now: Duration) {
        let due = |at: Option<Duration>| at.is_some_and(|at| at <= now);
        if self.state == State::Closed {
            return;
        }
        if due(self.stalled_since.map(|since| since.get() + self.limits.write)) {
            return self.lost(Loss::WriteTimedOut);
        }
        if self.state == State::Closing {
            if due(self.close_by.map(Stamp::get)) {
                self.stop_waiting(now);
            }
            return;
        }
        if due(self.unfinished_by()) {
            return self.violated(Violation::Unfinished, now);
        }
        if self.state == State::Connecting && due(Some(self.started.get() + self.limits.ready)) {
            let late = if self.awaits_token { Farewell::without_token() } else { Farewell::unready() };
            return self.close(late, now);
        }
        let idle = (!self.limits.idle.is_zero()).then(|| self.last_message.get() + self.limits.idle);
        if self.state == State::Open && due(idle) {
            return self.close(Farewell::error(GOING_AWAY.say("The connection was idle for too long")), now);
        }
        if self.state == State::Open && due(self.expires_by()) {
            self.expire_permission(now);
        }
        if let Some(next_ping) = self.next_ping.map(Stamp::get).filter(|at| self.state != State::Closing && *at <= now)
        {
            let heartbeat = self.limits.heartbeat;
            // Where we were late ourselves, the peer had no Ping to answer yet.
            let last_read = self.last_read.get();
            let was_asked = last_read < next_ping.saturating_sub(heartbeat);
            if was_asked && now.saturating_sub(last_read) >= 2 * heartbeat {
                return self.close(Farewell::error(TIMEOUT.say("No heartbeat was answered")).urgent(), now);
            }
            self.ping_due = true;
            self.next_ping = Some((now + heartbeat).into());
        }
    }
}
