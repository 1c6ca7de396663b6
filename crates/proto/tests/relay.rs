//! Two machines with a relay between them, which is two machines more: what goes in comes out, however the wire is cut.

use proptest::prelude::*;
use saywhy_codes::catalogue::BAD_GATEWAY;
use saywhy_codes::{CloseFrame, Dialect, EndCause, ErrorMessage, Observed};
use saywhy_proto::frame::{self, Header, Opcode};
use saywhy_proto::message::Message;
use saywhy_proto::session::{Mute, Passing, Phrase, State};
use saywhy_proto::{Farewell, Limits, Session};
use std::sync::Arc;
use std::time::Duration;

const NOW: Duration = Duration::from_secs(5);
const KEY: [u8; 4] = [9, 8, 7, 6];

/// Says an error in a message and in a Close.
struct Wordy;

impl Phrase for Wordy {
    fn farewell(&self, error: &ErrorMessage, _: Option<&str>) -> (Option<String>, CloseFrame) {
        let close = CloseFrame { code: Dialect::App.close_code(error.error()), reason: error.reason() };
        (Some(error.message().to_owned()), close)
    }

    fn expiring(&self, _: Duration) -> Option<String> {
        None
    }
}

fn limits(message_bytes: usize) -> Arc<Limits> {
    Arc::new(Limits { message_bytes, early_message_bytes: message_bytes, messages_per_s: 0, ..Limits::default() })
}

fn server(relays: bool) -> Session {
    let mut session = Session::server(limits(1 << 20), NOW);
    session.ready(NOW);
    if relays {
        session.relays(false);
    }
    session
}

fn client(relays: bool) -> Session {
    let mut session = Session::client(limits(1 << 20), || KEY, NOW);
    session.ready(NOW);
    if relays {
        session.relays(false);
    }
    session
}

/// What `bytes`, in steps of `step`, become on the other side of a relay.
fn relay(from: &mut Session, to: &mut Session, bytes: &[u8], step: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for chunk in bytes.chunks(step) {
        let mut chunk = chunk.to_vec();
        let mut at = 0;
        while at < chunk.len() {
            let (taken, passing) = from.receive_passing(&mut chunk[at..], NOW);
            assert!(taken > 0 || passing.is_some() || from.state() != State::Open, "no progress");
            at += taken;
            match passing {
                Some(Passing::Piece(piece)) => assert!(to.pass(&piece, &mut out)),
                Some(Passing::Run(bytes)) => assert!(to.pass_run(bytes, &mut out)),
                Some(Passing::TooFast(..)) => panic!("no rate is set"),
                None => {}
            }
            if from.state() != State::Open {
                return out;
            }
        }
    }
    out
}

fn heard(session: &mut Session, mut bytes: Vec<u8>) -> Vec<Message<'static>> {
    let (mut at, mut messages) = (0, Vec::new());
    while at < bytes.len() {
        let (taken, delivery) = session.receive(&mut bytes[at..], NOW);
        at += taken;
        messages.extend(delivery.map(|delivery| match delivery.message {
            Message::Text(text) => Message::Text(text.into_owned().into()),
            Message::Binary(bytes) => Message::Binary(bytes.into_owned().into()),
        }));
    }
    messages
}

fn messages() -> impl Strategy<Value = Vec<Message<'static>>> {
    let text = "\\PC{0,60}".prop_map(|text| Message::Text(text.into()));
    let binary = prop::collection::vec(any::<u8>(), 0..300).prop_map(|bytes| Message::Binary(bytes.into()));
    prop::collection::vec(prop_oneof![text, binary], 0..6)
}

/// Messages in fragments of `fragment` bytes.
fn fragmented(messages: &[Message<'_>], fragment: usize, mask: Option<[u8; 4]>) -> Vec<u8> {
    let mut wire = Vec::new();
    for message in messages {
        let (opcode, payload) = match message {
            Message::Text(text) => (Opcode::Text, text.as_bytes()),
            Message::Binary(bytes) => (Opcode::Binary, &**bytes),
        };
        let count = payload.len().div_ceil(fragment).max(1);
        for nth in 0..count {
            let part = &payload[nth * fragment..payload.len().min((nth + 1) * fragment)];
            let opcode = if nth == 0 { opcode } else { Opcode::Continuation };
            let fin = nth + 1 == count;
            Header { fin, compressed: false, opcode, mask, len: part.len() as u64 }.write(&mut wire);
            let start = wire.len();
            wire.extend_from_slice(part);
            if let Some(key) = mask {
                frame::mask(&mut wire[start..], key, 0);
            }
        }
    }
    wire
}

proptest! {
    #[test]
    fn what_a_client_says_comes_out_as_it_went_in(messages in messages(), fragment in 1usize..80, step in 1usize..120) {
        let wire = fragmented(&messages, fragment, Some([1, 2, 3, 4]));
        let out = relay(&mut server(true), &mut client(true), &wire, step);
        prop_assert_eq!(heard(&mut server(false), out), messages);
    }

    #[test]
    fn what_an_upstream_says_comes_out_as_it_went_in(messages in messages(), fragment in 1usize..80, step in 1usize..120) {
        let wire = fragmented(&messages, fragment, None);
        let out = relay(&mut client(true), &mut server(true), &wire, step);
        prop_assert_eq!(heard(&mut client(false), out), messages);
    }

    /// Wherever it is cut, what has been passed on ends with a whole frame, and the last word can be heard behind it.
    #[test]
    fn a_close_can_follow_at_any_time(messages in messages(), fragment in 1usize..80, cut: prop::sample::Index, step in 1usize..120) {
        let wire = fragmented(&messages, fragment, None);
        let wire = &wire[..if wire.is_empty() { 0 } else { cut.index(wire.len()) }];
        let (mut from, mut to) = (client(true), server(true));
        let mut out = relay(&mut from, &mut to, wire, step);
        to.close(Farewell::error(BAD_GATEWAY.say("The upstream is gone")), NOW);
        to.transmit(true, &Wordy, NOW, &mut out);
        let mut peer = client(false);
        let words = heard(&mut peer, out);
        let (cause, received) = peer.ending().expect("it has heard a Close");
        prop_assert_eq!(cause, EndCause::PeerClosed);
        let received = received.expect("it has heard a Close");
        prop_assert_eq!(received.code.as_u16(), 1014);
        prop_assert_eq!(received.reason.as_str(), "The upstream is gone");
        // The message stands there unless one that was begun is in its way.
        let told = words.last() == Some(&Message::Text("The upstream is gone".into()));
        prop_assert!(told || words.len() < messages.len());
    }

    #[test]
    fn no_bytes_make_it_panic(bytes: Vec<u8>, step in 1usize..9) {
        relay(&mut client(true), &mut server(true), &bytes, step);
        relay(&mut server(true), &mut client(true), &bytes, step);
    }
}

#[test]
fn text_of_an_upstream_is_judged_and_a_client_s_is_not_looked_at() {
    for step in [1, 2, 100] {
        let broken = [0x01, 0x01, 0xE2, 0x80, 0x01, 0x41];
        let (mut from, mut to) = (client(true), server(true));
        relay(&mut from, &mut to, &broken, step);
        assert_eq!(from.state(), State::Closing, "step {step}");
        let mut masked = Vec::new();
        frame::write(Opcode::Text, &[0xFF], Some(KEY), &mut masked);
        let out = relay(&mut server(true), &mut client(true), &masked, step);
        assert_eq!(out, masked, "as it came");
    }
}

#[test]
fn compressed_messages_go_on_as_they_are_where_that_was_agreed_on() {
    let wire = [0xC1, 0x02, 0xFF, 0xFF, 0x41, 0x02, 0x01, 0x02, 0x80, 0x01, 0x03];
    let agreed = |mut session: Session| {
        session.relays(true);
        session
    };
    let out = relay(&mut agreed(client(false)), &mut agreed(server(false)), &wire, 100);
    assert_eq!(out, wire);
    // In parts only the first says that it is compressed.
    let out = relay(&mut agreed(client(false)), &mut agreed(server(false)), &wire[..4], 3);
    assert_eq!(out, [0x41, 0x01, 0xFF, 0x80, 0x01, 0xFF]);
    let mut from = client(true);
    relay(&mut from, &mut server(true), &wire, 100);
    assert_eq!(from.state(), State::Closing, "nobody agreed");
}

#[test]
fn a_message_is_too_big_by_its_headers_alone() {
    let mut from = Session::client(limits(100), || KEY, NOW);
    from.ready(NOW);
    from.relays(false);
    let mut wire = Vec::new();
    Header { fin: false, compressed: false, opcode: Opcode::Binary, mask: None, len: 60 }.write(&mut wire);
    wire.extend([0; 60]);
    Header { fin: true, compressed: false, opcode: Opcode::Continuation, mask: None, len: 41 }.write(&mut wire);
    let out = relay(&mut from, &mut server(true), &wire, 1_000);
    assert_eq!(out.len(), 62, "what was in bounds has gone on");
    assert_eq!(from.state(), State::Closing);
    // The peer hears why.
    let mut said = Vec::new();
    from.transmit(true, &Mute, NOW, &mut said);
    let mut peer = server(false);
    heard(&mut peer, said);
    let (_, close) = peer.ending().unwrap();
    assert!(matches!(close.unwrap().code, Observed::Code(code) if code.as_u16() == 1009));
}
