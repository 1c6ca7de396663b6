//! The same bytes, read by ours, tungstenite and tokio-websockets: the same messages, and the same verdict. How they
//! are compared, and where they differ, stands in `fuzz/src/peers.rs`, which the fuzzer uses too.

#[path = "../../../fuzz/src/peers.rs"]
#[allow(unreachable_pub, reason = "written for another crate, the fuzzer's")]
mod peers;

use peers::{Agreement, DIFFERENCES, Heard, LIMIT, Peer, Said, Verdict, agreement, compare, ours, theirs};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use saywhy_codes::Role;

// ---- what is sent ---------------------------------------------------------------------------------------------

/// A frame, with everything in it that can be wrong.
#[derive(Clone, Debug)]
struct Frame {
    first: u8,
    is_masked: bool,
    key: [u8; 4],
    form: Form,
    /// The length that it declares, if it is not that of its payload.
    declares: Option<u64>,
    payload: Vec<u8>,
}

/// How a length is written.
#[derive(Clone, Copy, Debug)]
enum Form {
    Least,
    Bits16,
    Bits64,
}

impl Frame {
    fn new(fin: bool, opcode: u8, payload: &[u8]) -> Self {
        let first = opcode | if fin { 0x80 } else { 0 };
        let payload = payload.to_vec();
        Self { first, is_masked: false, key: [0; 4], form: Form::Least, declares: None, payload }
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.push(self.first);
        let mask = if self.is_masked { 0x80 } else { 0 };
        let len = self.declares.unwrap_or(self.payload.len() as u64);
        match (self.form, len) {
            (Form::Least, 0..126) => out.push(mask | len as u8),
            (Form::Least | Form::Bits16, 0..65_536) => {
                out.push(mask | 126);
                out.extend((len as u16).to_be_bytes());
            }
            _ => {
                out.push(mask | 127);
                out.extend(len.to_be_bytes());
            }
        }
        if self.is_masked {
            out.extend(self.key);
        }
        let key = if self.is_masked { self.key } else { [0; 4] };
        out.extend(self.payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
    }
}

/// What is said: legal, but for the sizes, the codes and now and then the text.
fn said() -> impl Strategy<Value = Vec<Frame>> {
    let text = "\\PC{0,60}".prop_map(String::into_bytes);
    let bytes = prop::collection::vec(any::<u8>(), 0..LIMIT + 30);
    let message = prop_oneof![
        6 => text.prop_map(|text| (1, text)),
        1 => bytes.clone().prop_map(|bytes| (1, bytes)),
        3 => bytes.prop_map(|bytes| (2, bytes)),
    ];
    let fragments = prop_oneof![2 => Just(vec![]), 3 => prop::collection::vec(0usize..40, 0..6)];
    let aside = prop::option::weighted(0.3, control());
    prop_oneof![
        6 => (message, fragments, aside).prop_map(|((opcode, payload), cuts, aside)| fragmented(opcode, &payload, &cuts, aside)),
        2 => control().prop_map(|frame| vec![frame]),
        1 => close().prop_map(|frame| vec![frame]),
    ]
}

fn fragmented(opcode: u8, payload: &[u8], cuts: &[usize], aside: Option<Frame>) -> Vec<Frame> {
    let (mut frames, mut rest, mut opcode) = (Vec::new(), payload, opcode);
    for cut in cuts {
        let (now, later) = rest.split_at((*cut).min(rest.len()));
        frames.push(Frame::new(false, opcode, now));
        (rest, opcode) = (later, 0);
    }
    frames.extend(aside.filter(|_| opcode == 0));
    frames.push(Frame::new(true, opcode, rest));
    frames
}

fn control() -> impl Strategy<Value = Frame> {
    let payload = prop_oneof![prop::collection::vec(any::<u8>(), 0..8), prop::collection::vec(any::<u8>(), 120..=125)];
    (9u8..=10, payload).prop_map(|(opcode, payload)| Frame::new(true, opcode, &payload))
}

fn close() -> impl Strategy<Value = Frame> {
    let code = prop_oneof![4 => Just(1000u16), 4 => 990u16..1020, 2 => 2_990u16..3_010, 2 => 4_990u16..5_010, 1 => any::<u16>()];
    let reason = prop_oneof![
        4 => "\\PC{0,20}".prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 0..=123),
    ];
    let payload = (code, reason).prop_map(|(code, reason)| [&code.to_be_bytes(), &reason[..]].concat());
    let payload = prop_oneof![8 => payload, 1 => Just(vec![]), 1 => Just(vec![3])];
    payload.prop_map(|payload| Frame::new(true, 8, &payload[..payload.len().min(125)]))
}

/// What goes wrong with it.
#[derive(Clone, Debug)]
enum Mutation {
    First(u8),
    Mask,
    Form(bool),
    Declares(u64),
    Payload(prop::sample::Index, u8),
    Empty,
    Drop,
    Repeat,
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let length =
        prop_oneof![0u64..400, Just(65_535), Just(65_536), (0u32..64).prop_map(|bit| 1 << bit), Just(u64::MAX)];
    prop_oneof![
        3 => (0u32..8).prop_map(|bit| Mutation::First(1 << bit)),
        1 => Just(Mutation::Mask),
        1 => any::<bool>().prop_map(Mutation::Form),
        1 => length.prop_map(Mutation::Declares),
        3 => (any::<prop::sample::Index>(), 1u8..).prop_map(|(at, bits)| Mutation::Payload(at, bits)),
        2 => Just(Mutation::Empty),
        1 => Just(Mutation::Drop),
        1 => Just(Mutation::Repeat),
    ]
}

fn mutate(frames: &mut Vec<Frame>, at: prop::sample::Index, mutation: Mutation) {
    if frames.is_empty() {
        return;
    }
    let at = at.index(frames.len());
    let frame = &mut frames[at];
    match mutation {
        Mutation::First(bits) => frame.first ^= bits,
        Mutation::Mask => frame.is_masked = !frame.is_masked,
        Mutation::Form(long) => frame.form = if long { Form::Bits64 } else { Form::Bits16 },
        Mutation::Declares(len) => frame.declares = Some(len),
        Mutation::Payload(at, bits) if !frame.payload.is_empty() => *at.get_mut(&mut frame.payload) ^= bits,
        Mutation::Payload(..) => {}
        Mutation::Empty => frame.payload.clear(),
        Mutation::Drop => {
            frames.remove(at);
        }
        Mutation::Repeat => {
            let again = frame.clone();
            frames.insert(at, again);
        }
    }
}

/// Bytes from a peer of `receiver`: mostly in order, with something wrong here and there, and cut off at times.
fn wire(receiver: Role) -> impl Strategy<Value = Vec<u8>> {
    let said = prop::collection::vec(said(), 0..6);
    let mutations = prop_oneof![
        1 => Just(vec![]),
        3 => prop::collection::vec((any::<prop::sample::Index>(), mutation()), 1..3),
    ];
    let cut = prop::option::weighted(0.2, any::<prop::sample::Index>());
    (said, mutations, any::<[u8; 4]>(), cut).prop_map(move |(said, mutations, key, cut)| {
        let mut frames: Vec<Frame> = said.into_iter().flatten().collect();
        for (i, frame) in frames.iter_mut().enumerate() {
            frame.is_masked = receiver == Role::Server;
            frame.key = key.map(|byte| byte.rotate_left(i as u32));
        }
        for (at, mutation) in mutations {
            mutate(&mut frames, at, mutation);
        }
        let mut wire = Vec::new();
        for frame in frames {
            frame.write(&mut wire);
        }
        if let Some(cut) = cut {
            wire.truncate(cut.index(wire.len() + 1));
        }
        wire
    })
}

// ---- what is heard --------------------------------------------------------------------------------------------

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn what_a_client_sends_is_the_same_to_all(wire in wire(Role::Server)) {
        compare(&wire, Role::Server);
    }

    #[test]
    fn what_a_server_sends_is_the_same_to_all(wire in wire(Role::Client)) {
        compare(&wire, Role::Client);
    }

    #[test]
    fn bytes_that_are_none_of_it_are_the_same_to_all(wire: Vec<u8>, is_server: bool) {
        compare(&wire, if is_server { Role::Server } else { Role::Client });
    }
}

/// A difference that has gone is one that nobody may be excused with any more.
#[test]
fn every_difference_is_still_there() {
    for difference in DIFFERENCES {
        let (peer, receiver, wire) = difference.shown_by;
        assert_eq!(theirs(peer, wire, receiver).verdict, difference.theirs, "{}", difference.name);
        assert_eq!(ours(wire, receiver, 1).0.verdict, difference.ours, "{}", difference.name);
        compare(wire, receiver);
    }
}

/// What is generated is not all thrown away at its first frame, and every verdict is come to.
#[test]
fn the_streams_are_worth_comparing() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let (mut messages, mut verdicts) = (0, Vec::new());
    for _ in 0..500 {
        let wire = wire(Role::Server).new_tree(&mut runner).unwrap().current();
        let (Heard { said, verdict }, _) = ours(&wire, Role::Server, 1);
        messages += said.iter().filter(|said| matches!(said, Said::Text(_) | Said::Binary(_))).count();
        verdicts.push(verdict);
    }
    assert!(messages > 250, "{messages} messages in 500 streams");
    let came_to = |is: fn(&Verdict) -> bool| verdicts.iter().filter(|verdict| is(verdict)).count();
    let counts = [
        came_to(|verdict| *verdict == Verdict::Open),
        came_to(|verdict| matches!(verdict, Verdict::Closed(_))),
        came_to(|verdict| *verdict == Verdict::ProtocolError),
        came_to(|verdict| *verdict == Verdict::InvalidPayload),
        came_to(|verdict| *verdict == Verdict::TooBig),
    ];
    assert!(counts.iter().all(|count| *count >= 10), "{counts:?}");
}

/// Negative control: whoever hears something else is noticed, and no name of another difference excuses it.
#[test]
fn a_difference_without_a_name_is_noticed() {
    let mut wire = Vec::new();
    for frame in [Frame::new(true, 1, b"a"), Frame::new(true, 2, b"b"), Frame::new(true, 8, &[0x0F, 0xA3])] {
        frame.write(&mut wire);
    }
    for peer in [Peer::Tungstenite, Peer::TokioWebsockets] {
        let (heard, found) = ours(&wire, Role::Client, 1);
        let other = |change: fn(&mut Heard)| {
            let mut theirs = theirs(peer, &wire, Role::Client);
            assert_eq!(agreement(peer, &wire, &heard, found, &theirs), Agreement::Same);
            change(&mut theirs);
            agreement(peer, &wire, &heard, found, &theirs)
        };
        assert_eq!(other(|theirs| theirs.said[1] = Said::Text(b"b".to_vec())), Agreement::No);
        assert_eq!(other(|theirs| theirs.said.push(Said::Pong)), Agreement::No);
        assert_eq!(other(|theirs| theirs.verdict = Verdict::Open), Agreement::No);
        assert_eq!(other(|theirs| theirs.verdict = Verdict::ProtocolError), Agreement::No);
        assert_eq!(other(|theirs| theirs.verdict = Verdict::Closed(None)), Agreement::No);
    }
}
