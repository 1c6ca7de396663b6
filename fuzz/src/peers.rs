//! The same bytes, read by three: ours, tungstenite and tokio-websockets. They have to deliver the same messages and
//! come to the same verdict, but for the differences that are listed here.

use futures_core::Stream;
use saywhy_codes::catalogue::{INVALID_PAYLOAD, MESSAGE_TOO_BIG, PROTOCOL_ERROR};
use saywhy_codes::{EndCause, ErrorCode, Loss, Observed, Role, SeenClose};
use saywhy_proto::message::{Decoder, Item, Message};
use saywhy_proto::{Limits, Session, Violation};
use std::io::{self, Read, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Bytes in a message: few, so that it is often reached.
pub const LIMIT: usize = 300;

/// What one of them made of the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// What was delivered, in its order.
    pub said: Vec<Said>,
    /// How it ended.
    pub verdict: Verdict,
}

/// A message, or what is to be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// Bytes, as one of the others delivers text that is none.
    Text(Vec<u8>),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong,
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Not: more may come.
    Open,
    /// By a Close that may be sent.
    Closed(Option<(u16, String)>),
    ProtocolError,
    InvalidPayload,
    TooBig,
}

/// One of the other two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    Tungstenite,
    TokioWebsockets,
}

/// Compares what `receiver` makes of bytes, wherever they are cut.
pub fn compare(wire: &[u8], receiver: Role) {
    let (ours, found) = ours(wire, receiver, 1);
    for step in [7, wire.len().max(1)] {
        assert_eq!(self::ours(wire, receiver, step).0, ours, "in steps of {step}");
    }
    assert_eq!(session(wire, receiver), ours, "the session and its decoder");
    for peer in [Peer::Tungstenite, Peer::TokioWebsockets] {
        let theirs = theirs(peer, wire, receiver);
        match agreement(peer, wire, &ours, found, &theirs) {
            Agreement::Same | Agreement::Known(_) => {}
            // Then it is said later.
            Agreement::Waits => {
                let finished = finished(wire);
                assert!(finished.len() > wire.len(), "{peer:?} or we wait for more than a frame: {wire:02X?}");
                compare(&finished, receiver);
            }
            Agreement::No => panic!("{receiver:?} reads {wire:02X?}: we {ours:?} for {found:?}, {peer:?} {theirs:?}"),
        }
    }
}

/// How far one of them agrees with us.
#[derive(Debug, PartialEq, Eq)]
pub enum Agreement {
    Same,
    /// They wait for the rest of a frame that we have judged already, or we for that of one that they have.
    Waits,
    /// A difference that has a name.
    Known(&'static str),
    No,
}

/// How far `peer` agrees.
pub fn agreement(peer: Peer, wire: &[u8], ours: &Heard, found: Option<Found>, theirs: &Heard) -> Agreement {
    if theirs == ours {
        return Agreement::Same;
    }
    let case = Case { peer, ours, found, theirs };
    if let Some(known) = DIFFERENCES.iter().find(|difference| (difference.applies)(&case)) {
        return Agreement::Known(known.name);
    }
    let they_wait = case.they_say(&Verdict::Open) && found.is_some_and(|found| found.is_unfinished);
    let we_wait = ours.verdict == Verdict::Open && ours.said == theirs.said && ends_inside_a_frame(wire);
    if they_wait || we_wait { Agreement::Waits } else { Agreement::No }
}

// ---- differences ----------------------------------------------------------------------------------------------

/// A difference that is known: where it may be met, and the bytes that show it.
pub struct Difference {
    /// What they do otherwise.
    pub name: &'static str,
    applies: fn(&Case<'_>) -> bool,
    /// Who reads what, to see it.
    pub shown_by: (Peer, Role, &'static [u8]),
    /// What they make of it.
    pub theirs: Verdict,
    /// What we make of it.
    pub ours: Verdict,
}

/// What we and one of them made of the same bytes.
struct Case<'a> {
    peer: Peer,
    ours: &'a Heard,
    found: Option<Found>,
    theirs: &'a Heard,
}

/// A violation, and the frame that it is in.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    violation: Violation,
    /// What the frame declares, where its header is there.
    declares: Option<u64>,
    /// Whether more of the frame is to come.
    is_unfinished: bool,
}

impl Case<'_> {
    fn violation(&self) -> Option<Violation> {
        self.found.map(|found| found.violation)
    }

    fn declares(&self) -> Option<u64> {
        self.found.and_then(|found| found.declares)
    }

    /// They come to `verdict` at the same place.
    fn they_say(&self, verdict: &Verdict) -> bool {
        self.theirs.said == self.ours.said && self.theirs.verdict == *verdict
    }

    /// They go on where we have ended.
    fn they_go_on(&self) -> bool {
        self.theirs.said.starts_with(&self.ours.said)
    }
}

use Peer::{TokioWebsockets, Tungstenite};

/// All that are known.
pub const DIFFERENCES: [Difference; 7] = [
    Difference {
        name: "1014, registered since 2019, is no close code to tungstenite",
        applies: |case| {
            let is_1014 = matches!(case.ours.verdict, Verdict::Closed(Some((1014, _))));
            case.peer == Tungstenite && is_1014 && case.they_say(&Verdict::ProtocolError)
        },
        shown_by: (Tungstenite, Role::Client, &[0x88, 2, 0x03, 0xF6]),
        ours: Verdict::Closed(Some((1014, String::new()))),
        theirs: Verdict::ProtocolError,
    },
    Difference {
        name: "tungstenite takes lengths in more bytes than they need, in control frames too",
        applies: |case| {
            let not_minimal = match case.violation() {
                Some(Violation::LengthNotMinimal) => true,
                // To us it is too long as soon as its length needs more than a byte.
                Some(Violation::LongControl) => case.declares().is_some_and(|len| len < 126),
                _ => false,
            };
            case.peer == Tungstenite && not_minimal && case.they_go_on()
        },
        shown_by: (Tungstenite, Role::Client, &[0x81, 126, 0, 1, b'x']),
        ours: Verdict::ProtocolError,
        theirs: Verdict::Open,
    },
    Difference {
        name: "a length of 2^63 or more is against the rules to us, and too big to both others",
        applies: |case| case.violation() == Some(Violation::LengthTooLarge) && case.they_say(&Verdict::TooBig),
        shown_by: (TokioWebsockets, Role::Client, &[0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 0]),
        ours: Verdict::ProtocolError,
        theirs: Verdict::TooBig,
    },
    Difference {
        name: "tungstenite judges the length of a frame before all else but its opcode",
        applies: |case| {
            let declares_too_much = case.declares().is_some_and(|len| len > LIMIT as u64);
            let protocol = case.ours.verdict == Verdict::ProtocolError;
            case.peer == Tungstenite && protocol && declares_too_much && case.they_say(&Verdict::TooBig)
        },
        shown_by: (Tungstenite, Role::Client, &[0x89, 126, 0x10, 0]),
        ours: Verdict::ProtocolError,
        theirs: Verdict::TooBig,
    },
    Difference {
        name: "tungstenite judges the words of a Close before its code",
        applies: |case| {
            let code = matches!(case.violation(), Some(Violation::CloseCode(_)));
            case.peer == Tungstenite && code && case.they_say(&Verdict::InvalidPayload)
        },
        shown_by: (Tungstenite, Role::Client, &[0x88, 3, 0x03, 0xED, 0xFF]),
        ours: Verdict::ProtocolError,
        theirs: Verdict::InvalidPayload,
    },
    Difference {
        name: "tokio-websockets judges the text of a fragment before the length of the message",
        applies: |case| {
            let too_big = case.violation() == Some(Violation::TooBig);
            case.peer == TokioWebsockets && too_big && case.they_say(&Verdict::InvalidPayload)
        },
        shown_by: (TokioWebsockets, Role::Client, &{
            // 200 bytes of a text, and 126 more, of which the last is wrong.
            let mut wire = [b'x'; 4 + 200 + 4 + 126];
            [wire[0], wire[1], wire[2], wire[3]] = [0x01, 126, 0, 200];
            [wire[204], wire[205], wire[206], wire[207]] = [0x80, 126, 0, 126];
            wire[wire.len() - 1] = 0xFF;
            wire
        }),
        ours: Verdict::TooBig,
        theirs: Verdict::InvalidPayload,
    },
    Difference {
        name: "tokio-websockets delivers text that ends inside a character, if its last fragment is empty",
        applies: |case| {
            let not_utf8 = case.violation() == Some(Violation::TextNotUtf8);
            let next = case.theirs.said.get(case.ours.said.len());
            let invalid = matches!(next, Some(Said::Text(text)) if std::str::from_utf8(text).is_err());
            case.peer == TokioWebsockets && not_utf8 && invalid && case.they_go_on()
        },
        shown_by: (TokioWebsockets, Role::Client, &[0x01, 1, 0xE2, 0x80, 0]),
        ours: Verdict::InvalidPayload,
        theirs: Verdict::Open,
    },
];

// ---- the three ------------------------------------------------------------------------------------------------

/// What our decoder makes of bytes that come `step` at a time.
pub fn ours(wire: &[u8], receiver: Role, step: usize) -> (Heard, Option<Found>) {
    let mut decoder = Decoder::new(other(receiver), LIMIT);
    let mut said = Vec::new();
    for (n, chunk) in wire.to_vec().chunks_mut(step).enumerate() {
        let mut rest = chunk;
        while !rest.is_empty() {
            let (taken, item) = decoder.next(rest);
            let wrong = match item {
                Ok(None) => None,
                Ok(Some(Item::Message(Message::Text(text)))) => {
                    said.push(Said::Text(text.into_owned().into_bytes()));
                    None
                }
                Ok(Some(Item::Message(Message::Binary(bytes)))) => {
                    said.push(Said::Binary(bytes.into_owned()));
                    None
                }
                Ok(Some(Item::Ping(payload))) => {
                    said.push(Said::Ping(payload.into_owned()));
                    None
                }
                Ok(Some(Item::Pong)) => {
                    said.push(Said::Pong);
                    None
                }
                Ok(Some(Item::Piece(_) | Item::Run(..))) => unreachable!("nothing is passed on"),
                Ok(Some(Item::Close(close, None))) => return (Heard { said, verdict: closed(&close) }, None),
                Ok(Some(Item::Close(_, Some(violation)))) | Err(violation) => Some(violation),
            };
            if let Some(violation) = wrong {
                return (Heard { said, verdict: class(violation.error()) }, Some(found(violation, wire, n * step)));
            }
            rest = &mut rest[taken..];
        }
    }
    (Heard { said, verdict: Verdict::Open }, None)
}

/// What our session makes of them; Pings and Pongs are its own affair.
fn session(wire: &[u8], receiver: Role) -> Heard {
    let now = Duration::from_secs(1);
    let limits = Arc::new(Limits { message_bytes: LIMIT, messages_per_s: 0, ..Limits::default() });
    let mut session = match receiver {
        Role::Server => Session::server(limits, now),
        Role::Client => Session::client(limits, || [4, 3, 2, 1], now),
    };
    session.ready(now);
    let mut messages = Vec::new();
    let mut bytes = wire.to_vec();
    let mut rest = &mut bytes[..];
    while !rest.is_empty() {
        let (taken, delivery) = session.receive(rest, now);
        messages.extend(delivery.map(|delivery| match delivery.message {
            Message::Text(text) => Said::Text(text.into_owned().into_bytes()),
            Message::Binary(bytes) => Said::Binary(bytes.into_owned()),
        }));
        rest = &mut rest[taken..];
    }
    session.lost(Loss::Eof);
    let ending = session.take_ending(now);
    let verdict = match ending.cause {
        EndCause::Lost(Loss::Eof) => Verdict::Open,
        EndCause::PeerClosed => closed(&ending.received.expect("it was received")),
        EndCause::Error(error) => class(error),
        other => panic!("{other:?}"),
    };
    // The rest is the decoder's to compare.
    let (mut heard, _) = ours(wire, receiver, 1);
    let is_message = |said: &Said| matches!(said, Said::Text(_) | Said::Binary(_));
    assert_eq!(
        heard.said.iter().filter(|said| is_message(said)).collect::<Vec<_>>(),
        messages.iter().collect::<Vec<_>>()
    );
    heard.verdict = verdict;
    heard
}

fn closed(close: &SeenClose) -> Verdict {
    let code = (close.code != Observed::NoStatus).then(|| close.code.as_u16());
    Verdict::Closed(code.map(|code| (code, close.reason.as_str().to_owned())))
}

fn class(error: ErrorCode) -> Verdict {
    let classes = [
        (PROTOCOL_ERROR, Verdict::ProtocolError),
        (INVALID_PAYLOAD, Verdict::InvalidPayload),
        (MESSAGE_TOO_BIG, Verdict::TooBig),
    ];
    let class = classes.into_iter().find(|(row, _)| *row == error);
    class.unwrap_or_else(|| panic!("{error} is no verdict about bytes")).1
}

fn other(role: Role) -> Role {
    match role {
        Role::Server => Role::Client,
        Role::Client => Role::Server,
    }
}

/// What one of the others makes of them.
pub fn theirs(peer: Peer, wire: &[u8], receiver: Role) -> Heard {
    match peer {
        Peer::Tungstenite => tungstenite(wire, receiver),
        Peer::TokioWebsockets => tokio_websockets(wire, receiver),
    }
}

fn tungstenite(wire: &[u8], receiver: Role) -> Heard {
    use tungstenite::protocol::{CloseFrame, Role as Theirs, WebSocketConfig};
    use tungstenite::{Error, Message, WebSocket, protocol::frame::coding::CloseCode};

    let limit = Some(LIMIT);
    let config = WebSocketConfig::default().read_buffer_size(1024).max_message_size(limit).max_frame_size(limit);
    let role = if receiver == Role::Server { Theirs::Server } else { Theirs::Client };
    let mut socket = WebSocket::from_raw_socket(Memory(wire), role, Some(config));
    let mut said = Vec::new();
    let verdict = loop {
        match socket.read() {
            Ok(Message::Text(text)) => said.push(Said::Text(text.as_str().as_bytes().to_vec())),
            Ok(Message::Binary(bytes)) => said.push(Said::Binary(bytes.to_vec())),
            Ok(Message::Ping(payload)) => said.push(Said::Ping(payload.to_vec())),
            Ok(Message::Pong(_)) => said.push(Said::Pong),
            // This is how it says that the code was wrong.
            Ok(Message::Close(Some(CloseFrame { code: CloseCode::Protocol, reason })))
                if reason.as_str() == "Protocol violation" =>
            {
                break Verdict::ProtocolError;
            }
            Ok(Message::Close(close)) => {
                break Verdict::Closed(close.map(|close| (close.code.into(), close.reason.as_str().to_owned())));
            }
            Ok(Message::Frame(frame)) => panic!("{frame} was read"),
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => break Verdict::Open,
            Err(Error::Protocol(_)) => break Verdict::ProtocolError,
            Err(Error::Utf8(_)) => break Verdict::InvalidPayload,
            Err(Error::Capacity(_)) => break Verdict::TooBig,
            Err(error) => panic!("{error}"),
        }
    };
    Heard { said, verdict }
}

/// Bytes that have arrived, and no more; what is written goes nowhere.
struct Memory<'a>(&'a [u8]);

impl Read for Memory<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.0.is_empty() { Err(io::ErrorKind::WouldBlock.into()) } else { self.0.read(buf) }
    }
}

impl Write for Memory<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn tokio_websockets(wire: &[u8], receiver: Role) -> Heard {
    use tokio_websockets::{ClientBuilder, Error, Limits, ServerBuilder, proto::ProtocolError};

    let limits = Limits::default().max_payload_len(Some(LIMIT));
    let memory = tokio::io::join(wire, tokio::io::sink());
    let mut socket = match receiver {
        Role::Server => ServerBuilder::new().limits(limits).serve(memory),
        Role::Client => ClientBuilder::new().limits(limits).take_over(memory),
    };
    let mut cx = Context::from_waker(Waker::noop());
    let mut said = Vec::new();
    let verdict = loop {
        match Pin::new(&mut socket).poll_next(&mut cx) {
            Poll::Pending => panic!("bytes in memory are always ready"),
            Poll::Ready(None) => break Verdict::Open,
            Poll::Ready(Some(Ok(message))) if message.is_close() => {
                let close = (!message.as_payload().is_empty()).then(|| message.as_close()).flatten();
                break Verdict::Closed(close.map(|(code, reason)| (code.into(), reason.to_owned())));
            }
            Poll::Ready(Some(Ok(message))) => {
                let payload = message.as_payload().to_vec();
                said.push(match () {
                    () if message.is_text() => Said::Text(payload),
                    () if message.is_binary() => Said::Binary(payload),
                    () if message.is_ping() => Said::Ping(payload),
                    () => Said::Pong,
                });
            }
            // The end of the bytes, in the middle of a frame.
            Poll::Ready(Some(Err(Error::Io(_)))) => break Verdict::Open,
            Poll::Ready(Some(Err(Error::Protocol(ProtocolError::InvalidUtf8)))) => break Verdict::InvalidPayload,
            Poll::Ready(Some(Err(Error::Protocol(_)))) => break Verdict::ProtocolError,
            Poll::Ready(Some(Err(Error::PayloadTooLong { .. }))) => break Verdict::TooBig,
            Poll::Ready(Some(Err(error))) => panic!("{error}"),
        }
    };
    Heard { said, verdict }
}

// ---- frames, whatever is wrong with them ----------------------------------------------------------------------

fn found(violation: Violation, wire: &[u8], at: usize) -> Found {
    let mut start = 0;
    loop {
        let Some((header, len)) = header(&wire[start..]) else {
            return Found { violation, declares: None, is_unfinished: true };
        };
        let end = len.saturating_add((start + header) as u64);
        if end > at as u64 {
            return Found { violation, declares: Some(len), is_unfinished: end > wire.len() as u64 };
        }
        start = end as usize;
    }
}

fn ends_inside_a_frame(wire: &[u8]) -> bool {
    let mut rest = wire;
    while !rest.is_empty() {
        let Some((header, len)) = header(rest) else { return true };
        let end = header.saturating_add(usize::try_from(len).unwrap_or(usize::MAX));
        let Some(later) = rest.get(end..) else { return true };
        rest = later;
    }
    false
}

/// The length of a header, and of the payload that it declares.
fn header(bytes: &[u8]) -> Option<(usize, u64)> {
    let second = *bytes.get(1)?;
    let (start, digits) = match second & 0x7F {
        126 => (4, bytes.get(2..4)?),
        127 => (10, bytes.get(2..10)?),
        _ => (2, &bytes[1..2]),
    };
    let len = match digits {
        [_] => u64::from(second & 0x7F),
        digits => digits.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)),
    };
    let header = start + if second & 0x80 == 0 { 0 } else { 4 };
    (bytes.len() >= header).then_some((header, len))
}

/// The same, with zeros up to the end of the frame in which it stops, or of its header where that says it all.
fn finished(wire: &[u8]) -> Vec<u8> {
    let mut wire = wire.to_vec();
    let mut start = 0;
    loop {
        match header(&wire[start..]) {
            None => wire.push(0),
            Some((_, len)) if len > LIMIT as u64 => return wire,
            Some((header, len)) if start + header + len as usize >= wire.len() => {
                wire.resize(start + header + len as usize, 0);
                return wire;
            }
            Some((header, len)) => start += header + len as usize,
        }
    }
}
