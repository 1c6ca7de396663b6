//! Two session machines joined by a wire with latency, in virtual time; and the properties that must hold whatever
//! happens to one.

use proptest::prelude::*;
use saywhy_codes::catalogue::{INTERNAL_ERROR, KICKED, SLOW_CONSUMER};
use saywhy_codes::{CloseCode, CloseFrame, CloseReason, Dialect, EndCause, Ending, ErrorMessage, Loss, Party, Role};
use saywhy_proto::deflate::{Agreed, extensions};
use saywhy_proto::frame::{self, Opcode};
use saywhy_proto::message::{Decoder, Item, Message};
use saywhy_proto::session::{Phrase, State, Step};
use saywhy_proto::{Compression, Farewell, Limits, Session, envelope};
use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

struct Plain;

impl Phrase for Plain {
    fn farewell(&self, error: &ErrorMessage, request_id: Option<&str>) -> (Option<String>, CloseFrame) {
        let message = envelope::error(error, true, request_id.unwrap_or("connection"), &"then");
        (Some(message), CloseFrame { code: Dialect::App.close_code(error.error()), reason: error.reason() })
    }

    fn expiring(&self, left: Duration) -> Option<String> {
        Some(format!("expiring in {left:?}"))
    }
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn text(words: &str) -> Message<'_> {
    Message::Text(Cow::Borrowed(words))
}

/// One end, with what it has received and what is on its way to it.
struct End {
    session: Session,
    received: Vec<String>,
    inbox: VecDeque<(Duration, Vec<u8>)>,
    /// The peer's FIN arrives at this time.
    fin: Option<Duration>,
    ending: Option<Ending>,
}

impl End {
    fn new(session: Session) -> Self {
        Self { session, received: Vec::new(), inbox: VecDeque::new(), fin: None, ending: None }
    }

    fn next_event(&self) -> Option<Duration> {
        let inbox = self.inbox.front().map(|(at, _)| *at);
        let waits = self.ending.is_none();
        [inbox, self.fin, self.session.deadline()].into_iter().flatten().min().filter(|_| waits)
    }

    fn run(&mut self, now: Duration) {
        while self.inbox.front().is_some_and(|(at, _)| *at <= now) {
            let (_, mut bytes) = self.inbox.pop_front().unwrap();
            let mut at = 0;
            while at < bytes.len() {
                let (taken, delivery) = self.session.receive(&mut bytes[at..], now);
                at += taken;
                if let Some(Message::Text(words)) = delivery.map(|delivery| delivery.message) {
                    self.received.push(words.into_owned());
                }
            }
        }
        if self.fin.is_some_and(|at| at <= now) && self.inbox.is_empty() {
            self.fin = None;
            self.session.end_of_input();
        }
        if self.session.deadline().is_some_and(|at| at <= now) {
            self.session.expire(now);
        }
    }
}

/// A server and a client, `latency` apart. A cut wire delivers nothing any more, not even an end.
struct Pair {
    server: End,
    client: End,
    latency: Duration,
    cut: bool,
    now: Duration,
}

impl Pair {
    fn new(limits: Limits, latency: Duration) -> Self {
        let limits = Arc::new(limits);
        let start = ms(5_000);
        let mut server = Session::server(Arc::clone(&limits), start);
        let mut client = Session::client(limits, || [7, 6, 5, 4], start);
        server.ready(start);
        client.ready(start);
        Self { server: End::new(server), client: End::new(client), latency, cut: false, now: start }
    }

    fn flush(&mut self) {
        for server_writes in [true, false] {
            let (from, to) = match server_writes {
                true => (&mut self.server, &mut self.client),
                false => (&mut self.client, &mut self.server),
            };
            if from.ending.is_some() {
                continue;
            }
            let mut out = Vec::new();
            from.session.transmit(true, &Plain, self.now, &mut out);
            if !out.is_empty() && !self.cut {
                to.inbox.push_back((self.now + self.latency, out));
            }
            from.session.wrote(false, true, self.now);
            if from.session.step() != Step::Continue {
                from.ending = Some(from.session.take_ending(self.now));
                to.fin = (!self.cut).then_some(self.now + self.latency);
            }
        }
    }

    fn say(&mut self, from_server: bool, words: &str) {
        let mut out = Vec::new();
        let (from, to) = match from_server {
            true => (&mut self.server, &mut self.client),
            false => (&mut self.client, &mut self.server),
        };
        if from.session.send(&text(words), &mut out) && !self.cut {
            to.inbox.push_back((self.now + self.latency, out));
        }
    }

    /// Runs until both ends are closed, or nothing will ever happen, or `until`.
    fn run(&mut self, until: Duration) {
        loop {
            self.flush();
            let next = [self.server.next_event(), self.client.next_event()].into_iter().flatten().min();
            match next {
                Some(at) if at <= until => {
                    self.now = self.now.max(at);
                    self.server.run(self.now);
                    self.client.run(self.now);
                }
                _ => return,
            }
        }
    }
}

#[test]
fn the_last_word_arrives_before_the_close_and_both_ends_agree() {
    let mut pair = Pair::new(Limits::default(), ms(80));
    pair.say(true, "hello");
    let farewell = Farewell::error(INTERNAL_ERROR).because("disk full").in_reply_to(Some("q1".into()));
    pair.server.session.close(farewell, pair.now);
    pair.say(false, "too late");
    pair.run(ms(60_000));
    let (server, client) = (pair.server.ending.unwrap(), pair.client.ending.unwrap());
    assert_eq!(pair.client.received.len(), 2);
    assert!(pair.client.received[1].contains(r#""code":5000"#) && pair.client.received[1].contains(r#""q1""#));
    assert_eq!(pair.server.received, [] as [&str; 0], "what arrives after the farewell is dropped");
    assert_eq!(
        server.to_string(),
        r#"ended by us with internal_error after 160 ms: we sent 1011 "Something went wrong on our side" and the peer confirmed"#
    );
    assert_eq!(server.private.unwrap().chain(), "disk full");
    assert_eq!(
        client.to_string(),
        r#"closed by the peer after 240 ms: the peer sent 1011 "Something went wrong on our side" and we sent 1011"#
    );
}

#[test]
fn both_close_at_once() {
    let mut pair = Pair::new(Limits::default(), ms(80));
    pair.server.session.close(Farewell::error(KICKED), pair.now);
    pair.client.session.close(Farewell::done(), pair.now);
    pair.run(ms(60_000));
    for ending in [pair.server.ending.unwrap(), pair.client.ending.unwrap()] {
        assert!(ending.confirmed, "{ending}");
        assert_eq!(ending.first_close, Some(Party::Us));
    }
}

#[test]
fn a_cut_wire_ends_both_with_timeout() {
    let mut pair = Pair::new(Limits::default(), ms(80));
    pair.run(ms(20_000));
    pair.cut = true;
    pair.run(ms(600_000));
    for ending in [pair.server.ending.unwrap(), pair.client.ending.unwrap()] {
        assert_eq!(ending.cause, EndCause::Error(saywhy_codes::catalogue::TIMEOUT), "{ending}");
        assert!(!ending.confirmed);
        assert!(ending.lived < Duration::from_secs(80), "{ending}");
    }
}

#[test]
fn an_end_that_was_late_itself_asks_before_it_gives_up() {
    let limits = Arc::new(Limits::default());
    let mut server = Session::server(Arc::clone(&limits), ms(0));
    server.ready(ms(0));
    let late = limits.heartbeat * 10;
    server.expire(late);
    assert_eq!((server.state(), server.deadline()), (State::Open, Some(late + limits.heartbeat)));
    server.expire(late + limits.heartbeat);
    assert_eq!(server.state(), State::Closing, "it was asked, and had a period to answer");
}

#[test]
fn heartbeats_keep_a_silent_pair_alive() {
    let mut pair = Pair::new(Limits::default(), ms(80));
    pair.run(Duration::from_secs(3_600));
    assert_eq!(pair.server.session.state(), State::Open);
    assert_eq!(pair.client.session.state(), State::Open);
}

#[test]
fn a_permission_that_runs_out_is_announced_and_can_be_renewed() {
    let mut pair = Pair::new(Limits::default(), ms(80));
    let start = pair.now;
    pair.server.session.expires(start + ms(60_000), start);
    pair.run(start + ms(31_000));
    assert_eq!(pair.client.received, ["expiring in 30s"]);
    pair.server.session.expires(start + ms(90_000), start + ms(40_000));
    pair.run(start + ms(600_000));
    assert_eq!(pair.client.received[1], "expiring in 25s", "half of the 50 s that were left");
    assert!(pair.client.received[2].contains("token_expired"));
    let ending = pair.server.ending.unwrap();
    assert_eq!(ending.cause, EndCause::Error(saywhy_codes::catalogue::UNAUTHORIZED));
    assert_eq!(ending.lived, ms(90_160));
}

#[test]
fn before_ready_there_is_a_deadline_and_a_small_limit() {
    let limits = Arc::new(Limits::default());
    let mut server = Session::server(Arc::clone(&limits), ms(0));
    let mut wire = Vec::new();
    frame::write(Opcode::Text, &vec![b'x'; limits.early_message_bytes + 1], Some([1; 4]), &mut wire);
    server.receive(&mut wire, ms(1));
    assert_eq!(server.state(), State::Closing);
    let mut out = Vec::new();
    server.transmit(true, &Plain, ms(1), &mut out);
    assert!(heard(&mut out)[0].contains(r#""limit_bytes":8192"#), "the limit that was reached, not that of later");
    let mut server = Session::server(limits, ms(0));
    assert_eq!(server.deadline(), Some(ms(10_000)));
    server.expire(ms(10_000));
    assert_eq!(server.state(), State::Closing);
    server.lost(Loss::Reset);
    assert_eq!(server.take_ending(ms(10_001)).cause, EndCause::Error(saywhy_codes::catalogue::TIMEOUT));
}

/// Both ends of a connection that agreed on compression.
fn compressing(ours: &Compression) -> (Session, Session) {
    let limits = Arc::new(Limits::default());
    let agreed = Agreed::answer(&extensions(&Agreed::offer(ours)).unwrap(), ours).unwrap();
    let mut server = Session::server(Arc::clone(&limits), ms(0));
    let mut client = Session::client(limits, || [7, 6, 5, 4], ms(0));
    server.compress(agreed, ours);
    client.compress(agreed, ours);
    (server, client)
}

#[test]
fn nothing_is_compressed_or_inflated_before_ready() {
    let ours = Compression { min_bytes: 0, ..Compression::default() };
    let words = "the same again and ".repeat(50);
    let (mut server, mut client) = compressing(&ours);
    let mut out = Vec::new();
    server.send(&text(&words), &mut out);
    assert!(out.len() > words.len(), "sent as it is");
    // A client that is ahead of the server's ready breaks a rule, and is told which.
    client.ready(ms(0));
    let mut wire = Vec::new();
    client.send(&text(&words), &mut wire);
    assert!(wire.len() < words.len() / 2 && wire[0] == 0xC1);
    server.receive(&mut wire, ms(1));
    assert_eq!(server.state(), State::Closing);
    let mut out = Vec::new();
    server.transmit(true, &Plain, ms(1), &mut out);
    assert!(heard(&mut out)[0].contains("No message may be compressed before the connection is ready"));
}

#[test]
fn what_one_end_compresses_the_other_hears() {
    for context_takeover in [false, true] {
        let (mut server, mut client) =
            compressing(&Compression { context_takeover, min_bytes: 0, ..Compression::default() });
        server.ready(ms(0));
        client.ready(ms(0));
        for words in ["a", "", &"grün and ".repeat(500), "a"] {
            let mut wire = Vec::new();
            server.send(&text(words), &mut wire);
            let (taken, delivery) = client.receive(&mut wire, ms(1));
            let said = delivery.map(|delivery| delivery.message == text(words));
            assert_eq!((said, taken), (Some(true), wire.len()));
            wire.clear();
            client.send(&text(words), &mut wire);
            let (taken, delivery) = server.receive(&mut wire, ms(1));
            let said = delivery.map(|delivery| delivery.message == text(words));
            assert_eq!((said, taken), (Some(true), wire.len()));
        }
    }
}

#[test]
fn a_peer_that_takes_nothing_is_gone_at_the_write_deadline() {
    let mut server = Session::server(Arc::new(Limits::default()), ms(0));
    server.ready(ms(0));
    server.wrote(true, false, ms(100));
    server.wrote(true, true, ms(5_000));
    server.wrote(true, false, ms(9_000));
    assert_eq!(server.deadline(), Some(ms(15_000)), "counted from the last progress");
    server.close(Farewell::error(SLOW_CONSUMER).urgent(), ms(10_000));
    server.expire(ms(15_000));
    assert_eq!(server.step(), Step::Abandon);
    assert_eq!(server.take_ending(ms(15_000)).cause, EndCause::Error(SLOW_CONSUMER));
}

#[test]
fn an_urgent_farewell_does_not_wait_for_the_backlog() {
    for (urgent, written) in [(true, true), (false, false)] {
        let mut server = Session::server(Arc::new(Limits::default()), ms(0));
        server.ready(ms(0));
        let farewell = Farewell::error(SLOW_CONSUMER);
        server.close(if urgent { farewell.urgent() } else { farewell }, ms(1));
        let mut out = Vec::new();
        server.transmit(false, &Plain, ms(2), &mut out);
        assert_eq!(!out.is_empty(), written);
        assert_eq!(server.accepts_data(), !urgent);
    }
}

#[test]
fn a_backlog_that_takes_too_long_does_not_cost_the_last_word() {
    let mut server = Session::server(Arc::new(Limits::default()), ms(0));
    server.ready(ms(0));
    server.close(Farewell::error(KICKED), ms(0));
    let mut out = Vec::new();
    server.transmit(false, &Plain, ms(0), &mut out);
    assert!(out.is_empty());
    server.expire(server.deadline().unwrap());
    server.transmit(false, &Plain, ms(10_000), &mut out);
    assert!(!out.is_empty() && !server.accepts_data());
    assert_eq!(server.deadline(), Some(ms(13_000)), "now only the peer's Close is waited for");
}

/// A server's session that is open, and what it has read.
fn open_after(wire: &mut [u8]) -> Session {
    let mut server = Session::server(Arc::new(Limits::default()), ms(0));
    server.ready(ms(0));
    feed(&mut server, wire, ms(1));
    server
}

/// What a client makes of `out`.
fn heard(out: &mut [u8]) -> Vec<String> {
    let mut client = Decoder::new(Role::Server, usize::MAX);
    let (mut at, mut heard) = (0, Vec::new());
    while at < out.len() {
        let is_pong = out[at] == 0x8A;
        let payload = out[at + 2..].to_vec();
        let (taken, item) = client.next(&mut out[at..]);
        heard.extend(item.expect("what we write is legal").map(|item| match item {
            Item::Pong if is_pong => format!("pong {}", String::from_utf8_lossy(&payload[..taken - 2])),
            Item::Close(close, _) => format!("close {} {}", close.code.as_u16(), close.reason.as_str()),
            Item::Message(Message::Text(text)) => text.into_owned(),
            item => format!("{item:?}"),
        }));
        at += taken;
    }
    heard
}

fn ping(payload: &str, wire: &mut Vec<u8>) {
    frame::write(Opcode::Ping, payload.as_bytes(), Some([1, 2, 3, 4]), wire);
}

#[test]
fn every_ping_is_answered_in_turn_while_the_peer_takes_the_answers() {
    let mut wire = Vec::new();
    for n in 0..10 {
        ping(&n.to_string(), &mut wire);
    }
    let mut server = open_after(&mut wire);
    let mut out = Vec::new();
    assert!(server.send(&text("an answer to what came after them"), &mut out));
    ping("last", &mut wire);
    feed(&mut server, &mut wire.split_off(wire.len() - 10), ms(2));
    server.transmit(true, &Plain, ms(2), &mut out);
    let pongs = (0..10).map(|n| format!("pong {n}"));
    let expected: Vec<_> = pongs.chain(["an answer to what came after them".into(), "pong last".into()]).collect();
    assert_eq!(heard(&mut out), expected);
}

#[test]
fn only_the_latest_ping_is_answered_when_the_peer_takes_nothing() {
    let mut server = open_after(&mut []);
    server.wrote(true, false, ms(1));
    let mut out = Vec::new();
    for n in 0..100 {
        let mut wire = Vec::new();
        ping(&n.to_string(), &mut wire);
        feed(&mut server, &mut wire, ms(2));
    }
    server.transmit(true, &Plain, ms(2), &mut out);
    assert_eq!(heard(&mut out), ["pong 99"]);
}

#[test]
fn pongs_that_nobody_fetches_do_not_pile_up() {
    let limits = Limits { messages_per_s: 0, ..Limits::default() };
    let mut server = Session::server(Arc::new(limits), ms(0));
    server.ready(ms(0));
    for _ in 0..100_000 {
        let mut wire = Vec::new();
        ping(&"x".repeat(125), &mut wire);
        feed(&mut server, &mut wire, ms(1));
    }
    let mut out = Vec::new();
    server.transmit(true, &Plain, ms(1), &mut out);
    assert!(out.len() < 5_000, "{}", out.len());
}

/// The peer's Close often follows its mistake so closely that both are read at once.
#[test]
fn a_close_that_comes_with_a_violation_is_answered_with_the_violation() {
    let text_of = |payload: &[u8]| {
        let mut wire = Vec::new();
        frame::write(Opcode::Text, payload, Some([1, 2, 3, 4]), &mut wire);
        wire
    };
    let cases = [
        (text_of(&[0xFF]), "close 1007 A text message must be UTF-8 (RFC 6455 section 8.1)"),
        (vec![0x83, 0x80, 0, 0, 0, 0], "close 1002 The opcode is unknown (RFC 6455 section 5.2)"),
        (vec![0x81, 0x01, b'x'], "close 1002 A client must mask its frames (RFC 6455 section 5.1)"),
    ];
    for (mut wire, expected) in cases {
        frame::write(Opcode::Close, &1000_u16.to_be_bytes(), Some([1, 2, 3, 4]), &mut wire);
        let mut server = open_after(&mut wire);
        let mut out = Vec::new();
        server.transmit(false, &Plain, ms(1), &mut out);
        assert_eq!(heard(&mut out), [expected]);
        server.wrote(false, true, ms(1));
        assert_eq!(server.step(), Step::Finish, "the peer has said Close, so there is nothing to wait for");
        let ending = server.take_ending(ms(1));
        assert!(matches!(ending.cause, EndCause::Error(_)) && ending.confirmed, "{ending}");
        assert_eq!(ending.received.map(|close| close.code.as_u16()), Some(1000));
    }
}

#[test]
fn a_server_that_says_1010_is_understood() {
    let mut client = Session::client(Arc::new(Limits::default()), || [7, 6, 5, 4], ms(0));
    client.ready(ms(0));
    let (mut wire, mut out) = (Vec::new(), Vec::new());
    frame::write(Opcode::Close, &1010_u16.to_be_bytes(), None, &mut wire);
    feed(&mut client, &mut wire, ms(1));
    client.transmit(true, &Plain, ms(1), &mut out);
    let ending = client.take_ending(ms(1));
    assert_eq!(ending.cause, EndCause::PeerClosed);
    assert_eq!(ending.sent.map(|close| close.code.as_u16()), Some(1010));
}

#[test]
fn the_close_after_a_broken_header_ends_the_wait() {
    let mut server = open_after(&mut [0xC1, 0x80]);
    let mut out = Vec::new();
    server.transmit(true, &Plain, ms(1), &mut out);
    server.wrote(false, true, ms(1));
    assert_eq!((server.state(), server.step()), (State::Closing, Step::Continue));
    let mut wire = [0; 4].to_vec();
    frame::write(Opcode::Close, &1002_u16.to_be_bytes(), Some([9; 4]), &mut wire);
    feed(&mut server, &mut wire, ms(2));
    assert_eq!(server.step(), Step::Finish);
    assert!(server.take_ending(ms(2)).confirmed);
}

/// Anything that can happen to a server's session.
#[derive(Clone, Debug)]
enum Happening {
    Bytes(Vec<u8>),
    Frame(u8, Vec<u8>),
    Send(String),
    Ready,
    Close(u8),
    Fault,
    Wrote(bool, bool),
    Transmit(bool),
    Wait(u64),
    Eof,
    Reset,
}

fn happening() -> impl Strategy<Value = Happening> {
    let frame = (0u8..16, prop::collection::vec(any::<u8>(), 0..130));
    prop_oneof![
        1 => prop::collection::vec(any::<u8>(), 0..40).prop_map(Happening::Bytes),
        6 => frame.prop_map(|(opcode, payload)| Happening::Frame(opcode, payload)),
        2 => "[a-z]{0,9}".prop_map(Happening::Send),
        1 => Just(Happening::Ready),
        1 => (0u8..6).prop_map(Happening::Close),
        2 => Just(Happening::Fault),
        3 => (any::<bool>(), any::<bool>()).prop_map(|(waits, progress)| Happening::Wrote(waits, progress)),
        4 => any::<bool>().prop_map(Happening::Transmit),
        3 => (0u64..40_000).prop_map(Happening::Wait),
        1 => Just(Happening::Eof),
        1 => Just(Happening::Reset),
    ]
}

fn apply(session: &mut Session, happening: Happening, now: &mut Duration, out: &mut Vec<u8>) {
    match happening {
        Happening::Bytes(mut bytes) => feed(session, &mut bytes, *now),
        Happening::Frame(opcode, payload) => {
            let mut wire = vec![0x80 | opcode];
            match payload.len() {
                len @ 0..126 => wire.push(0x80 | len as u8),
                len => wire.extend([0x80 | 126, (len >> 8) as u8, len as u8]),
            }
            wire.extend([0; 4]);
            wire.extend(payload);
            feed(session, &mut wire, *now);
        }
        Happening::Send(words) => {
            session.send(&text(&words), out);
        }
        Happening::Ready => session.ready(*now),
        Happening::Close(0) => session.close(Farewell::done(), *now),
        Happening::Close(1) => session.close(Farewell::close(None).urgent(), *now),
        Happening::Close(2) => session.close(Farewell::error(KICKED.say("x".repeat(2_000))), *now),
        Happening::Close(_) => session.close(Farewell::error(INTERNAL_ERROR).urgent(), *now),
        Happening::Fault => session.fault(*now),
        Happening::Wrote(waits, progress) => session.wrote(waits, progress, *now),
        Happening::Transmit(empty) => session.transmit(empty, &Plain, *now, out),
        Happening::Wait(wait) => {
            *now += ms(wait);
            session.expire(*now);
        }
        Happening::Eof => session.end_of_input(),
        Happening::Reset => session.lost(Loss::Reset),
    }
}

fn feed(session: &mut Session, bytes: &mut [u8], now: Duration) {
    let (mut at, mut idle) = (0, 0);
    while at < bytes.len() {
        let (taken, _) = session.receive(&mut bytes[at..], now);
        // A broken header takes nothing, once: from then on there is nothing to be broken.
        idle = if taken > 0 { 0 } else { idle + 1 };
        assert!(idle < 2, "no progress");
        at += taken;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn whatever_happens(happenings in prop::collection::vec(happening(), 0..40)) {
        let mut session = Session::server(Arc::new(Limits { errors: 3, ..Limits::default() }), ms(0));
        let (mut now, mut out) = (ms(0), Vec::new());
        let mut closing = false;
        for happening in happenings {
            let was_closed = session.state() == State::Closed;
            apply(&mut session, happening, &mut now, &mut out);
            prop_assert!(!was_closed || session.state() == State::Closed, "nothing leaves Closed");
            closing |= matches!(session.state(), State::Closing | State::Closed);
            prop_assert!(!closing || matches!(session.state(), State::Closing | State::Closed));
        }
        // It always reaches Closed: a close is asked for, and then only its own deadlines are served.
        session.close(Farewell::done(), now);
        for _ in 0..6 {
            session.transmit(false, &Plain, now, &mut out);
            if let Some(at) = session.deadline() {
                now = now.max(at);
                session.expire(now);
            }
        }
        prop_assert_eq!(session.state(), State::Closed);
        prop_assert!(session.step() != Step::Continue);

        // At most one Close, and nothing after it.
        let mut client = Decoder::new(Role::Server, usize::MAX);
        let (mut at, mut closes) = (0, 0);
        while at < out.len() {
            prop_assert_eq!(closes, 0, "something follows the Close");
            let (taken, item) = client.next(&mut out[at..]);
            at += taken;
            if let Some(Item::Close(close, violation)) = item.expect("what we write is legal") {
                closes += 1;
                prop_assert_eq!(violation, None);
                prop_assert!(close.reason.as_str().len() <= CloseReason::MAX_BYTES);
            }
        }

        // Every ending has a cause, and what it says was sent was written.
        let ending = session.take_ending(now);
        prop_assert!(ending.cause != EndCause::Unexplained, "{}", ending);
        prop_assert_eq!(ending.sent.is_some(), closes == 1);
        if let Some(sent) = ending.sent {
            prop_assert!(sent.code.as_u16() == 1005 || CloseCode::new(sent.code.as_u16(), Role::Server).is_ok());
        }
    }
}
