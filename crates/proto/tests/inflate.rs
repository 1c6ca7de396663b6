//! T14: what ours inflates, compared with an implementation that shares no code with it. How they are compared stands
//! in `fuzz/src/inflate.rs`, which the fuzzer uses too.

#[path = "../../../fuzz/src/inflate.rs"]
#[allow(dead_code, unreachable_pub, reason = "written for another crate, the fuzzer's")]
mod inflate;

use inflate::{Heard, LIMIT, Sent, Wrong, agree, compare, deflated};
use proptest::prelude::*;
use saywhy_codes::Role;
use saywhy_proto::deflate::{Agreed, Compression, extensions};
use saywhy_proto::frame::Header;
use saywhy_proto::message::Message;
use saywhy_proto::{Limits, Session};
use std::sync::Arc;
use std::time::Duration;

/// What our clients compress, message by message; `None` where one is sent as it is.
fn ours(messages: &[Vec<u8>], takes_over: bool, level: u8) -> Vec<Sent> {
    let ours = Compression { context_takeover: takes_over, level, min_bytes: 0, ..Compression::default() };
    let agreed = Agreed::answer(&extensions("permessage-deflate").unwrap(), &ours).unwrap();
    let mut session = Session::client(Arc::new(Limits::default()), || [0; 4], Duration::ZERO);
    session.compress(agreed, &ours);
    session.ready(Duration::ZERO);
    let mut compress = |message: &Vec<u8>| {
        let mut wire = Vec::new();
        assert!(session.send(&Message::Binary(message.into()), &mut wire));
        let (header, used) = Header::parse(&wire, Role::Client, true).unwrap().unwrap();
        Sent { compressed: header.compressed, fragments: vec![wire[used..].to_vec()] }
    };
    messages.iter().map(&mut compress).collect()
}

/// What the other implementation compresses, each message by itself.
fn theirs(messages: &[Vec<u8>], level: u8) -> Vec<Sent> {
    let sent = |message: &Vec<u8>| Sent { compressed: true, fragments: vec![deflated(message, level)] };
    messages.iter().map(sent).collect()
}

/// Words that repeat, and noise that does not; now and then more than the limit.
fn message() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        3 => "[ab]{0,300}".prop_map(String::into_bytes),
        2 => prop::collection::vec(any::<u8>(), 0..300),
        2 => (prop::collection::vec(any::<u8>(), 1..20), 0usize..60).prop_map(|(words, n)| words.repeat(n)),
        1 => Just(vec![0; LIMIT]),
        1 => Just(vec![0; 40 * LIMIT]),
    ]
}

/// What happens to a message on its way.
#[derive(Clone, Debug)]
enum Harm {
    None,
    Flip(prop::sample::Index, u8),
    Cut(prop::sample::Index),
    Insert(prop::sample::Index, Vec<u8>),
    Append(Vec<u8>),
}

fn harm() -> impl Strategy<Value = Harm> {
    let bytes = || prop::collection::vec(any::<u8>(), 1..8);
    prop_oneof![
        4 => Just(Harm::None),
        2 => (any::<prop::sample::Index>(), 0u8..8).prop_map(|(at, bit)| Harm::Flip(at, bit)),
        1 => any::<prop::sample::Index>().prop_map(Harm::Cut),
        1 => (any::<prop::sample::Index>(), bytes()).prop_map(|(at, bytes)| Harm::Insert(at, bytes)),
        1 => bytes().prop_map(Harm::Append),
    ]
}

impl Harm {
    fn to(&self, payload: &mut Vec<u8>) {
        match self {
            Self::Flip(at, bit) if !payload.is_empty() => {
                let at = at.index(payload.len());
                payload[at] ^= 1 << bit;
            }
            Self::Cut(at) => payload.truncate(at.index(payload.len() + 1)),
            Self::Insert(at, bytes) => {
                let at = at.index(payload.len() + 1);
                payload.splice(at..at, bytes.iter().copied());
            }
            Self::Append(bytes) => payload.extend(bytes),
            Self::None | Self::Flip(..) => {}
        }
    }
}

/// The same message in pieces.
fn fragmented(sent: Sent, cut: usize) -> Sent {
    let mut fragments: Vec<_> = sent.fragments.concat().chunks(cut).map(<[u8]>::to_vec).collect();
    if fragments.is_empty() {
        fragments.push(Vec::new());
    }
    Sent { fragments, ..sent }
}

proptest! {
    #[test]
    fn t14_what_either_compresses_both_inflate_to_the_same(
        messages in prop::collection::vec((message(), harm(), 1usize..300), 1..6),
        takes_over: bool,
        by_us: bool,
        level in 0u8..10,
    ) {
        let contents: Vec<_> = messages.iter().map(|(content, ..)| content.clone()).collect();
        let mut sent = if by_us { ours(&contents, takes_over, level) } else { theirs(&contents, level) };
        for (sent, (_, harm, cut)) in sent.iter_mut().zip(&messages) {
            harm.to(&mut sent.fragments[0]);
            *sent = fragmented(sent.clone(), *cut);
        }
        compare(&sent, takes_over);
    }

    #[test]
    fn t14_bytes_that_are_no_stream_are_refused_by_both(payload in prop::collection::vec(any::<u8>(), 0..200), takes_over: bool) {
        compare(&[Sent { compressed: true, fragments: vec![payload] }], takes_over);
    }
}

/// What is in order arrives as it was: agreeing on the wrong content would not do.
#[test]
fn t14_what_was_compressed_is_what_arrives() {
    let contents: Vec<Vec<u8>> = (2..7).map(|n| b"to be or not to be, ".repeat(n)).collect();
    for takes_over in [false, true] {
        for sent in [ours(&contents, takes_over, 6), theirs(&contents, 6)] {
            assert!(sent.iter().all(|sent| sent.compressed));
            assert_eq!(inflate::heard(&sent, takes_over), Heard { messages: contents.clone(), wrong: None });
        }
    }
}

/// Messages that end inside a block.
const CUT_OFF: [&[u8]; 3] = [
    // One that is not compressed, of twenty bytes.
    &[0x00, 0x14, 0x00, 0xEB, 0xFF, b'H', b'e'],
    // "Hello", without its last byte or with a bit of it turned.
    &[0xF2, 0x48, 0xCD, 0xC9, 0xC9],
    &[0xF2, 0x48, 0xCD, 0xC9, 0xC9, 0x27, 0x00],
];

#[test]
fn t14_a_message_that_ends_inside_a_block_is_broken() {
    for payload in CUT_OFF {
        let sent = Sent { compressed: true, fragments: vec![payload.to_vec()] };
        let heard = inflate::heard(&[sent], false);
        assert_eq!(heard, Heard { messages: vec![], wrong: Some(Wrong::Broken) }, "{payload:02x?}");
    }
}

/// Negative control: what differs is seen to differ.
#[test]
fn the_comparison_sees_what_differs() {
    let heard =
        |messages: &[&[u8]], wrong| Heard { messages: messages.iter().map(|one| one.to_vec()).collect(), wrong };
    let same = heard(&[b"a"], None);
    assert!(agree(&same, &same));
    for other in [heard(&[b"b"], None), heard(&[], None), heard(&[b"a"], Some(Wrong::Broken))] {
        assert!(!agree(&same, &other) && !agree(&other, &same), "{other:?}");
    }
    assert!(!agree(&heard(&[], Some(Wrong::TooBig)), &heard(&[], Some(Wrong::Broken))));
    assert!(agree(&heard(&[], Some(Wrong::TooBig)), &heard(&[], Some(Wrong::Either))));
    assert!(!agree(&heard(&[], None), &heard(&[], Some(Wrong::Either))));
}
