//! One session, and everything that can happen to it, in virtual time.
//!
//! The same happenings are run three times, with the bytes that arrive cut in three ways: not at all, one by one, and
//! at places that the input chooses. What comes of it has to be the same.

use super::script::{self, Script};
use super::wire::{self, Written};
use saywhy_codes::catalogue::{INTERNAL_ERROR, KICKED};
use saywhy_codes::{CloseCode, CloseFrame, CloseReason, Dialect, EndCause, ErrorMessage, Loss, Role};
use saywhy_proto::message::Message;
use saywhy_proto::session::{Phrase, State, Step};
use saywhy_proto::{Farewell, Limits, Session, envelope, frame};
use std::borrow::Cow;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

/// Memory that a session may hold past the limit of a message.
const SLACK_BYTES: usize = 64 * 1024;
/// Memory that a session may hold whatever it has received.
const SMALL_BYTES: usize = 8 * 1024;
/// As much as this arrives past the limit of a message, however often the input repeats itself.
const ARRIVES_BYTES: usize = 4 * 1024;
/// As many bytes come one by one, where they do; then it would take too long.
const SINGLE_BYTES: usize = 4 * 1024;

/// A promise to break on purpose, so that it shows that the checks can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// None: the session as it is.
    Nothing,
    /// Says Close twice.
    SecondClose,
    /// Says something after the Close.
    AfterTheClose,
    /// Has a reason of 124 bytes.
    LongReason,
    /// Reads a message otherwise when its last byte comes alone.
    CutMatters,
    /// Keeps all that it reads.
    Hoards,
    /// Takes none of the bytes that it is given.
    NoProgress,
    /// Its deadline stays where it is.
    BusyLoop,
    /// Panics at a Close with a reason.
    Panics,
}

impl Sabotage {
    /// All that break something.
    pub const ALL: [Self; 8] = [
        Self::SecondClose,
        Self::AfterTheClose,
        Self::LongReason,
        Self::CutMatters,
        Self::Hoards,
        Self::NoProgress,
        Self::BusyLoop,
        Self::Panics,
    ];

    /// The one that `SAYWHY_SABOTAGE` names, for `fuzz/run --control`.
    pub fn from_environment() -> Self {
        static NAMED: std::sync::OnceLock<Sabotage> = std::sync::OnceLock::new();
        *NAMED.get_or_init(|| match std::env::var("SAYWHY_SABOTAGE") {
            Err(_) => Self::Nothing,
            Ok(name) => Self::ALL.into_iter().find(|sabotage| format!("{sabotage:?}") == name).expect("its name"),
        })
    }
}

// ---- what happens ---------------------------------------------------------------------------------------------

enum Happening {
    Arrives(Vec<u8>),
    Waits(Duration),
    Transmits { backlog_is_empty: bool, waits: bool, progress: bool },
    Sends(usize),
    Ready,
    Closes(Goodbye),
    Faults,
    Expires(Duration),
    NotReading,
    EndOfInput,
    Lost,
}

enum Goodbye {
    Done,
    NoCode,
    Error(String),
    UrgentError,
    Chosen(u16, String),
}

impl Goodbye {
    fn farewell(&self, role: Role) -> Farewell {
        match self {
            Self::Done => Farewell::done(),
            Self::NoCode => Farewell::close(None).urgent(),
            Self::Error(words) => Farewell::error(KICKED.say(words.clone())).because("private"),
            Self::UrgentError => Farewell::error(INTERNAL_ERROR).in_reply_to(Some("q1".to_owned())).urgent(),
            Self::Chosen(code, reason) => {
                let code = CloseCode::new(*code, role).unwrap_or(CloseCode::NORMAL);
                Farewell::close(Some(CloseFrame { code, reason: CloseReason::cut(reason) }))
            }
        }
    }
}

/// Bytes on their way to the session. All that arrive without anything else between them arrive at once.
struct Arrivals {
    masked: bool,
    happenings: Vec<Happening>,
    last_frame: Vec<u8>,
    left: usize,
}

impl Arrivals {
    fn push(&mut self, bytes: &[u8]) {
        let bytes = &bytes[..bytes.len().min(self.left)];
        self.left -= bytes.len();
        match self.happenings.last_mut() {
            Some(Happening::Arrives(all)) => all.extend_from_slice(bytes),
            _ => self.happenings.push(Happening::Arrives(bytes.to_vec())),
        }
    }

    fn frame(&mut self, first: u8, payload: &[u8], key: [u8; 4]) {
        let mut wire = Vec::new();
        script::frame(first, payload, self.masked.then_some(key), &mut wire);
        self.push(&wire);
        self.last_frame = wire;
    }
}

fn happenings(script: &mut Script<'_>, role: Role, limits: &Limits) -> Vec<Happening> {
    let masked = role == Role::Server;
    let mut wire =
        Arrivals { masked, happenings: Vec::new(), last_frame: Vec::new(), left: limits.message_bytes + ARRIVES_BYTES };
    while let Some(op) = script.next() {
        let key = script::key(op);
        match op % 16 {
            0 => {
                let n = usize::from(script.byte());
                wire.push(script.bytes(n));
            }
            1..=4 => {
                let first = script.byte();
                let n = usize::from(script.byte());
                wire.frame(first, script.bytes(n), key);
            }
            5 => {
                let (first, n) = (script.byte(), [script.byte(), script.byte()]);
                let fill = [script.byte(), script.byte()];
                let n = usize::from(u16::from_le_bytes(n)) + 2;
                wire.frame(first, &fill.repeat(n / 2), [0; 4]);
            }
            6 => {
                let frame = std::mem::take(&mut wire.last_frame);
                for _ in 0..script.byte() {
                    wire.push(&frame);
                }
                wire.last_frame = frame;
            }
            7 => {
                let wait = u64::from(script.byte());
                wire.happenings.push(Happening::Waits(Duration::from_millis(wait * wait)));
            }
            8..=10 => wire.happenings.push(Happening::Transmits {
                backlog_is_empty: op & 0x10 == 0,
                waits: op & 0x20 != 0,
                progress: op & 0x40 == 0,
            }),
            11 => wire.happenings.push(Happening::Sends(usize::from(script.byte()))),
            12 => wire.happenings.push(Happening::Ready),
            13 => {
                let goodbye = match op >> 4 {
                    0..4 => Goodbye::Done,
                    4..6 => Goodbye::NoCode,
                    6..10 => Goodbye::Error(words(script)),
                    10..12 => Goodbye::UrgentError,
                    _ => {
                        let code = u16::from_be_bytes([script.byte(), script.byte()]);
                        Goodbye::Chosen(code, words(script))
                    }
                };
                wire.happenings.push(Happening::Closes(goodbye));
            }
            14 => wire.happenings.push(match op >> 4 {
                0..8 => Happening::Faults,
                8..12 => Happening::Expires(Duration::from_millis(u64::from(script.byte()) * 500)),
                _ => Happening::NotReading,
            }),
            _ => wire.happenings.push(if op & 0x10 == 0 { Happening::EndOfInput } else { Happening::Lost }),
        }
    }
    wire.happenings
}

fn words(script: &mut Script<'_>) -> String {
    let n = usize::from(script.byte());
    String::from_utf8_lossy(script.bytes(n)).into_owned()
}

fn limits(profile: u8) -> Limits {
    let flag = |bit: u8| profile & (1 << bit) != 0;
    let ms = Duration::from_millis;
    let message_bytes = [125, 1_000, 4_096, 65_536][usize::from(profile % 4)];
    Limits {
        message_bytes,
        early_message_bytes: 100,
        messages_per_s: if flag(2) { 5 } else { 0 },
        message_burst: 3,
        errors: 2,
        ready: ms(3_000),
        message: ms(5_000),
        heartbeat: if flag(3) { ms(1_000) } else { Duration::ZERO },
        idle: if flag(4) { ms(2_500) } else { Duration::ZERO },
        write: if flag(7) { Duration::ZERO } else { ms(2_000) },
        close: if flag(7) { Duration::ZERO } else { ms(1_000) },
    }
}

// ---- what comes of it -----------------------------------------------------------------------------------------

/// Runs an input against a session in `role`.
pub fn run(input: &[u8], role: Role, sabotage: Sabotage) {
    let mut script = Script(input);
    let (profile, seed) = (script.byte(), script.byte());
    let limits = Arc::new(limits(profile));
    let happenings = happenings(&mut script, role, &limits);
    let play = |cuts: Cuts| Play::new(role, &limits, profile, sabotage, cuts).finish(&happenings);
    let whole = play(Cuts::None);
    assert_eq!(play(Cuts::Everywhere(SINGLE_BYTES)), whole, "it matters that bytes arrive one by one");
    assert_eq!(play(Cuts::Some(u32::from(seed))), whole, "it matters where bytes are cut");
}

/// How bytes that arrive are cut.
#[derive(Clone, Copy)]
enum Cuts {
    None,
    Everywhere(usize),
    Some(u32),
}

impl Cuts {
    fn next(&mut self) -> usize {
        match self {
            Self::None => usize::MAX,
            Self::Everywhere(0) => 97,
            Self::Everywhere(left) => {
                *left -= 1;
                1
            }
            Self::Some(state) => {
                *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                // Mostly a few bytes, so that headers and characters are cut, and at times many.
                let bits = *state >> 20;
                if bits % 8 == 0 { 1 + bits as usize } else { 1 + bits as usize % 9 }
            }
        }
    }
}

/// All that can be told from outside.
#[derive(Debug, PartialEq)]
struct Outcome {
    seen: Vec<Seen>,
    wrote: Vec<u8>,
    ending: String,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Seen {
    Message { is_text: bool, len: usize, hash: u64, over_limit: Option<Duration> },
    After { state: State, step: Step, deadline: Option<Duration>, accepts_data: bool, wrote: usize },
}

struct Play {
    role: Role,
    session: Session,
    limits: Arc<Limits>,
    now: Duration,
    seen: Vec<Seen>,
    out: Vec<u8>,
    cuts: Cuts,
    /// Memory that the session has and has not given back.
    held: i64,
    received: usize,
    /// A broken header takes nothing, and is then passed over: there is one such call in a session.
    took_nothing: bool,
    sabotage: Sabotage,
    hoard: Vec<u8>,
}

impl Play {
    fn new(role: Role, limits: &Arc<Limits>, profile: u8, sabotage: Sabotage, cuts: Cuts) -> Self {
        let now = Duration::from_secs(1_000);
        let mut count = 0_u32;
        let keys = move || {
            count = count.wrapping_mul(0x9E37_79B9).wrapping_add(1);
            count.to_le_bytes()
        };
        let mut session = match role {
            Role::Server => Session::server(Arc::clone(limits), now),
            Role::Client => Session::client(Arc::clone(limits), keys, now),
        };
        if profile & 0x20 == 0 {
            session.ready(now);
        }
        let limits = Arc::clone(limits);
        let out = Vec::new();
        Self {
            role,
            session,
            limits,
            now,
            seen: Vec::new(),
            out,
            cuts,
            held: 0,
            received: 0,
            took_nothing: false,
            sabotage,
            hoard: Vec::new(),
        }
    }

    fn finish(mut self, happenings: &[Happening]) -> Outcome {
        let mut before = self.session.state();
        for happening in happenings {
            self.apply(happening);
            let after = self.session.state();
            assert!(rank(before) <= rank(after), "from {before:?} back to {after:?}");
            before = after;
            let waits_for_nothing = self.session.deadline().is_none();
            assert_eq!(after == State::Closed, self.session.step() != Step::Continue, "what to do next");
            assert!(after != State::Closed || waits_for_nothing, "a deadline after the end");
            self.seen.push(Seen::After {
                state: after,
                step: self.session.step(),
                deadline: self.session.deadline(),
                accepts_data: self.session.accepts_data(),
                wrote: self.out.len(),
            });
        }
        self.close();
        self.judge(happenings)
    }

    fn apply(&mut self, happening: &Happening) {
        match happening {
            Happening::Arrives(bytes) => self.arrive(&mut bytes.clone()),
            Happening::Waits(wait) => self.wait(*wait),
            Happening::Transmits { backlog_is_empty, waits, progress } => {
                self.transmit(*backlog_is_empty);
                self.session.wrote(*waits, *progress, self.now);
            }
            Happening::Sends(len) => {
                let message = Message::Binary(Cow::Owned(vec![7; *len]));
                self.measured(|session, _, out| _ = session.send(&message, out));
            }
            Happening::Ready => self.session.ready(self.now),
            Happening::Closes(goodbye) => {
                let role = self.role;
                self.measured(|session, now, _| session.close(goodbye.farewell(role), now));
            }
            Happening::Faults => self.measured(|session, now, _| session.fault(now)),
            Happening::Expires(left) => self.session.expires(self.now + *left, self.now),
            Happening::NotReading => self.session.not_reading(self.now),
            Happening::EndOfInput => self.session.end_of_input(),
            Happening::Lost => self.measured(|session, _, _| session.lost(Loss::Reset)),
        }
    }

    /// Keeps count of what the session keeps. What is written counts for the one who holds it.
    fn measured(&mut self, act: impl FnOnce(&mut Session, Duration, &mut Vec<u8>)) {
        let room = self.out.capacity();
        let Self { session, now, out, .. } = self;
        let memory = allocation_counter::measure(|| act(session, *now, out));
        self.held += memory.bytes_current - i64::try_from(self.out.capacity() - room).unwrap();
    }

    fn arrive(&mut self, bytes: &mut [u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let (mut now, later) = rest.split_at_mut(self.cuts.next().min(rest.len()));
            while !now.is_empty() {
                let taken = self.receive(now);
                assert!(taken <= now.len() && (taken > 0 || !self.took_nothing), "took {taken} of {} bytes", now.len());
                self.took_nothing |= taken == 0;
                now = &mut now[taken..];
            }
            rest = later;
        }
    }

    fn receive(&mut self, bytes: &mut [u8]) -> usize {
        let len = bytes.len();
        let before = self.session.state();
        let (mut taken, mut seen) = (0, None);
        let Self { session, sabotage, hoard, now, .. } = self;
        let memory = allocation_counter::measure(|| {
            if *sabotage == Sabotage::Hoards {
                hoard.extend_from_slice(&[0; 256]);
            }
            let (n, delivery) = session.receive(bytes, *now);
            taken = n;
            // A message goes back before the measurement ends: what is left is what the session keeps.
            seen = delivery.map(|delivery| seen_of(&delivery.message, delivery.over_limit));
        });
        self.received += taken;
        let peak = usize::try_from(self.held).unwrap() + usize::try_from(memory.bytes_max).unwrap();
        self.held += memory.bytes_current;
        // Memory follows what arrived, never what was declared: a buffer is four times that at most, and for the moment
        // in which it grows it is there twice.
        let limit = (self.limits.message_bytes + SLACK_BYTES).min(5 * self.received + SMALL_BYTES);
        assert!(peak <= limit, "holds {peak} bytes, where {limit} are the most");
        if let Some(mut seen) = seen {
            let limit = match before {
                State::Connecting => self.limits.early_message_bytes,
                State::Open => self.limits.message_bytes,
                State::Closing | State::Closed => panic!("a message after the farewell"),
            };
            if let Seen::Message { len: message_len, hash, .. } = &mut seen {
                assert!(*message_len <= limit, "a message of {message_len} bytes, where {limit} are the most");
                if *sabotage == Sabotage::CutMatters && len == 1 {
                    *hash = hash.wrapping_add(1);
                }
            }
            self.seen.push(seen);
        }
        if *sabotage == Sabotage::NoProgress && len == 3 { 0 } else { taken }
    }

    /// Time passes, and the session is served at its deadlines.
    fn wait(&mut self, wait: Duration) {
        let until = self.now + wait;
        let mut at_once = 0;
        while let Some(at) = self.session.deadline().filter(|at| *at <= until) {
            at_once = if at > self.now { 0 } else { at_once + 1 };
            assert!(at_once < 8, "a busy loop at {at:?}");
            self.now = self.now.max(at);
            if self.sabotage != Sabotage::BusyLoop {
                self.measured(|session, now, _| session.expire(now));
            }
        }
        self.now = until;
    }

    fn transmit(&mut self, backlog_is_empty: bool) {
        let (start, phrase) = (self.out.len(), Voice(self.role));
        self.measured(|session, now, out| session.transmit(backlog_is_empty, &phrase, now, out));
        self.tamper(start);
        let said = wire::read(&self.out[start..], self.role);
        let pongs = said.iter().filter(|frame| matches!(frame, Written::Pong(_))).count();
        assert!(pongs <= 4_096 / 2 + 1 && self.out.len() - start < 8_192, "{pongs} pongs piled up");
        assert!(said.iter().filter(|frame| matches!(frame, Written::Ping(_))).count() <= 1, "one Ping at a time");
    }

    /// Ends it, if nothing else has: it has to reach the end by its own deadlines.
    fn close(&mut self) {
        self.measured(|session, now, _| session.close(Farewell::done(), now));
        for _ in 0..6 {
            self.transmit(false);
            let Some(at) = self.session.deadline() else { break };
            self.now = self.now.max(at);
            self.measured(|session, now, _| session.expire(now));
        }
        assert_eq!(self.session.state(), State::Closed, "it does not end");
        assert!(self.session.step() != Step::Continue);
        let wrote = self.out.len();
        self.arrive(&mut [0x81, 0x81, 0, 0, 0, 0, b'x', 0x88, 0x80, 0, 0, 0, 0]);
        self.transmit(true);
        assert!(!self.session.send(&Message::Text(Cow::Borrowed("x")), &mut self.out));
        assert_eq!(self.out.len(), wrote, "something is written after the end");
    }

    fn judge(mut self, happenings: &[Happening]) -> Outcome {
        let ending = self.session.take_ending(self.now);
        assert!(ending.cause != EndCause::Unexplained, "{ending}");
        assert_eq!(ending.confirmed, ending.sent.is_some() && ending.received.is_some());
        let words = ending.to_string();
        assert!(!words.contains(char::is_control), "{words:?}");
        let said = wire::read(&self.out, self.role);
        let close = said.iter().position(|frame| matches!(frame, Written::Close(_)));
        assert!(close.is_none_or(|at| at + 1 == said.len()), "a Close, and then {:?}", said.last());
        // Only a connection that breaks, or that takes nothing in time, leaves it without a Close.
        let hindered = happenings.iter().any(|happening| match happening {
            Happening::EndOfInput | Happening::Lost | Happening::Waits(_) => true,
            Happening::Transmits { waits, .. } => *waits,
            _ => false,
        });
        assert!(hindered || close.is_some(), "it ended without a Close: {words}");
        if let (EndCause::Error(error), Some(sent)) = (ending.cause, &ending.sent) {
            assert_eq!(sent.code.as_u16(), Dialect::App.close_code(error).as_u16(), "{words}");
            assert!(error == KICKED || !sent.reason.is_empty(), "{words}");
        }
        // What the record says was sent is what stands on the wire.
        let sent = ending.sent.map(|close| (close.code.as_u16(), close.reason.as_str().to_owned()));
        let wrote = close.map(|at| match &said[at] {
            Written::Close(Some((code, reason))) => (*code, reason.clone()),
            _ => (1005, String::new()),
        });
        assert_eq!(sent, wrote);
        Outcome { seen: self.seen, wrote: self.out, ending: words }
    }

    fn tamper(&mut self, start: usize) {
        let Some(Written::Close(close)) = wire::read(&self.out[start..], self.role).pop() else { return };
        let key = (self.role == Role::Client).then_some([0; 4]);
        match self.sabotage {
            Sabotage::SecondClose => frame::write_close(None, key, &mut self.out),
            Sabotage::AfterTheClose => frame::write(frame::Opcode::Pong, &[], key, &mut self.out),
            Sabotage::LongReason => {
                self.out.truncate(start);
                let payload = [&[0x03, 0xE8], &[b'x'; 124][..]].concat();
                frame::write(frame::Opcode::Close, &payload, key, &mut self.out);
            }
            Sabotage::Panics => assert!(close.is_none_or(|(_, reason)| reason.is_empty()), "sabotaged"),
            Sabotage::Nothing | Sabotage::CutMatters | Sabotage::Hoards | Sabotage::NoProgress | Sabotage::BusyLoop => {
            }
        }
    }
}

fn rank(state: State) -> u8 {
    match state {
        State::Connecting => 0,
        State::Open => 1,
        State::Closing => 2,
        State::Closed => 3,
    }
}

fn seen_of(message: &Message<'_>, over_limit: Option<Duration>) -> Seen {
    let mut hasher = DefaultHasher::new();
    let (is_text, bytes) = match message {
        Message::Text(text) => (true, text.as_bytes()),
        Message::Binary(bytes) => (false, &**bytes),
    };
    bytes.hash(&mut hasher);
    assert!(!is_text || std::str::from_utf8(bytes).is_ok());
    Seen::Message { is_text, len: bytes.len(), hash: hasher.finish(), over_limit }
}

/// A server has a message for an error, a client only its Close.
struct Voice(Role);

impl Phrase for Voice {
    fn farewell(&self, error: &ErrorMessage, request_id: Option<&str>) -> (Option<String>, CloseFrame) {
        let message = envelope::error(error, true, request_id.unwrap_or("connection"), &"then");
        let close = CloseFrame { code: Dialect::App.close_code(error.error()), reason: error.reason() };
        ((self.0 == Role::Server).then_some(message), close)
    }

    fn expiring(&self, left: Duration) -> Option<String> {
        Some(format!("expiring in {left:?}"))
    }
}
