//! Compressed messages, inflated by ours and by an implementation that shares no code with it: the same content and
//! the same verdict, wherever the bytes are cut.

use miniz_oxide::deflate::core::{CompressorOxide, create_comp_flags_from_zip_params};
use miniz_oxide::deflate::stream::deflate;
use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress, inflate_flags as flags};
use miniz_oxide::{MZFlush, MZStatus};
use saywhy_codes::catalogue::{INVALID_PAYLOAD, MESSAGE_TOO_BIG};
use saywhy_codes::{EndCause, Loss};
use saywhy_proto::deflate::{Agreed, Compression, extensions};
use saywhy_proto::frame::{Header, Opcode};
use saywhy_proto::message::Message;
use saywhy_proto::{Limits, Session};
use std::sync::Arc;
use std::time::Duration;

/// Bytes in a message: few, so that it is often reached.
pub const LIMIT: usize = 1_000;
/// Bytes of a message in one input of the fuzzer.
const MOST: usize = 255;

/// A message as it is sent.
#[derive(Clone, Debug)]
pub struct Sent {
    /// Whether it is marked as compressed.
    pub compressed: bool,
    /// Its payload, by fragments; at least one.
    pub fragments: Vec<Vec<u8>>,
}

/// What was made of the messages: the content of those that arrived, and what was wrong with the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// In their order.
    pub messages: Vec<Vec<u8>>,
    /// `None` when all of them arrived.
    pub wrong: Option<Wrong>,
}

/// What can be wrong with a compressed message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// It cannot be inflated.
    Broken,
    /// It passes the limit.
    TooBig,
    /// It passes the limit, and cannot be inflated any further: which of the two is said is open.
    Either,
}

/// Runs an input: a byte about the connection, then messages. Of each a byte says how it is made and fragmented, and
/// the next how long it is.
pub fn run(input: &[u8]) {
    let Some((&how, mut rest)) = input.split_first() else { return };
    let mut messages = Vec::new();
    while let [op, len, more @ ..] = rest {
        let (payload, after) = more.split_at(more.len().min((*len).into()));
        rest = after;
        // Bytes that are no stream at all, the beginning of one, or one that is in order.
        let payload = if op & 0x20 == 0 { payload.to_vec() } else { deflated(payload, op >> 5) };
        let cut = payload.len().min(MOST).div_ceil(usize::from(op % 4) + 1).max(1);
        let mut fragments: Vec<_> = payload.chunks(cut).take(4).map(<[u8]>::to_vec).collect();
        if fragments.is_empty() {
            fragments.push(Vec::new());
        }
        messages.push(Sent { compressed: op & 0x10 == 0, fragments });
    }
    compare(&messages, how & 1 == 1);
}

/// As RFC 7692 §7.2.1 has it, by the other implementation.
pub fn deflated(payload: &[u8], level: u8) -> Vec<u8> {
    let mut compressor = CompressorOxide::new(create_comp_flags_from_zip_params(level.into(), -15, 0));
    let mut out = vec![0; payload.len() + 1_024];
    let done = deflate(&mut compressor, payload, &mut out, MZFlush::Sync);
    assert_eq!((done.status, done.bytes_consumed), (Ok(MZStatus::Ok), payload.len()));
    out.truncate(done.bytes_written - TAIL.len());
    out
}

/// Compares what both make of the same messages.
pub fn compare(messages: &[Sent], takes_over: bool) {
    let theirs = theirs(messages, takes_over);
    let wire = wire(messages);
    for step in [1, 7, wire.len().max(1)] {
        let ours = ours(&wire, takes_over, step);
        let agree = agree(&ours, &theirs) || takes_an_unfinished_block(&ours, &theirs, messages, takes_over);
        assert!(agree, "in steps of {step} we {ours:?}, they {theirs:?} of {messages:02X?}");
    }
}

/// What ours makes of messages that arrive at once.
pub fn heard(messages: &[Sent], takes_over: bool) -> Heard {
    ours(&wire(messages), takes_over, usize::MAX)
}

/// The one difference that is known: with context takeover the stream goes on, so that ours cannot ask it whether a
/// message ends inside the header of a block. What there is of the message is delivered then, and nothing that was not
/// in it; the next one shows that something was wrong.
pub fn takes_an_unfinished_block(ours: &Heard, theirs: &Heard, messages: &[Sent], takes_over: bool) -> bool {
    let n = theirs.messages.len();
    if !takes_over
        || theirs.wrong != Some(Wrong::Broken)
        || ours.messages.len() <= n
        || ours.messages[..n] != theirs.messages
    {
        return false;
    }
    // Between blocks one that is not compressed is understood, whatever it is padded with, and one that refers to it.
    (0..32).any(|padding| {
        let block = [&[padding << 3, 0x05, 0x00, 0xFA, 0xFF][..], b"Hello", &[0x00]].concat();
        let again = vec![0xF2, 0x00, 0x11, 0x00, 0x00];
        let next = [block, again].map(|payload| Sent { compressed: true, fragments: vec![payload] });
        let heard = heard(&[&messages[..=n], &next].concat(), true);
        heard.messages.get(n + 1..) != Some(&[b"Hello".to_vec(), b"Hello".to_vec()])
    })
}

/// Whether two say the same.
pub fn agree(ours: &Heard, theirs: &Heard) -> bool {
    ours.messages == theirs.messages
        && (ours.wrong == theirs.wrong || theirs.wrong == Some(Wrong::Either) && ours.wrong.is_some())
}

// ---- ours -----------------------------------------------------------------------------------------------------

fn wire(messages: &[Sent]) -> Vec<u8> {
    let mut wire = Vec::new();
    for Sent { compressed, fragments } in messages {
        for (n, payload) in fragments.iter().enumerate() {
            let (is_first, fin) = (n == 0, n == fragments.len() - 1);
            let opcode = if is_first { Opcode::Binary } else { Opcode::Continuation };
            let (compressed, len) = (*compressed && is_first, payload.len() as u64);
            Header { fin, compressed, opcode, mask: Some([0; 4]), len }.write(&mut wire);
            wire.extend_from_slice(payload);
        }
    }
    wire
}

/// What our session makes of bytes that come `step` at a time.
fn ours(wire: &[u8], takes_over: bool, step: usize) -> Heard {
    let now = Duration::from_secs(1);
    let limits = Limits { message_bytes: LIMIT, messages_per_s: 0, ..Limits::default() };
    let ours = Compression { context_takeover: takes_over, ..Compression::default() };
    let offers = extensions("permessage-deflate").expect("a list");
    let mut session = Session::server(Arc::new(limits), now);
    session.compress(Agreed::answer(&offers, &ours).expect("an answer"), &ours);
    session.ready(now);
    let mut messages = Vec::new();
    for chunk in wire.to_vec().chunks_mut(step) {
        let mut rest = chunk;
        while !rest.is_empty() {
            let (taken, delivery) = session.receive(rest, now);
            if let Some(Message::Binary(bytes)) = delivery.map(|delivery| delivery.message) {
                messages.push(bytes.into_owned());
            }
            rest = &mut rest[taken..];
        }
    }
    session.lost(Loss::Eof);
    let wrong = match session.take_ending(now).cause {
        EndCause::Lost(_) => None,
        EndCause::Error(row) if row == INVALID_PAYLOAD => Some(Wrong::Broken),
        EndCause::Error(row) if row == MESSAGE_TOO_BIG => Some(Wrong::TooBig),
        other => panic!("{other:?}"),
    };
    Heard { messages, wrong }
}

// ---- theirs ---------------------------------------------------------------------------------------------------

const TAIL: [u8; 4] = [0x00, 0x00, 0xFF, 0xFF];
/// An empty block, marked as the last.
const LAST_BLOCK: [u8; 5] = [0x01, 0x00, 0x00, 0xFF, 0xFF];
/// So much more than the limit is inflated, to see whether it would have gone wrong soon.
const BEYOND: usize = 16 * 1024;

/// A stream of compressed messages.
struct Theirs {
    stream: DecompressorOxide,
    /// All that it has inflated, from where it began: a message cannot refer to what is not there.
    out: Vec<u8>,
    has_ended: bool,
}

impl Theirs {
    fn new() -> Self {
        Self { stream: DecompressorOxide::new(), out: Vec::new(), has_ended: false }
    }

    /// The content of a message.
    fn message(&mut self, payload: &[u8]) -> Result<Vec<u8>, Wrong> {
        let (mut content, mut nothing) = (Vec::new(), Vec::new());
        // What is left out of a message is an empty block (RFC 7692 §7.2.1): it adds nothing to the content.
        let is_whole = self.inflate(payload, &mut content)
            && (self.has_ended || self.inflate(&TAIL, &mut nothing) && nothing.is_empty())
            && (self.has_ended || self.is_between_blocks());
        match (content.len() > LIMIT, is_whole) {
            (false, true) => Ok(content),
            (false, false) => Err(Wrong::Broken),
            (true, true) => Err(Wrong::TooBig),
            (true, false) => Err(Wrong::Either),
        }
    }

    /// Whether an empty block could follow, and the end.
    fn is_between_blocks(&self) -> bool {
        let mut then = Self { stream: self.stream.clone(), out: self.out.clone(), has_ended: false };
        let mut nothing = Vec::new();
        then.inflate(&LAST_BLOCK, &mut nothing) && then.has_ended && nothing.is_empty()
    }

    /// Appends what `bytes` inflate to; false when they do not.
    fn inflate(&mut self, mut bytes: &[u8], content: &mut Vec<u8>) -> bool {
        loop {
            if self.has_ended {
                if bytes.is_empty() {
                    return true;
                }
                *self = Self::new();
            }
            let start = self.out.len();
            self.out.resize(start + LIMIT + BEYOND, 0);
            let flags = flags::TINFL_FLAG_HAS_MORE_INPUT | flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
            let (status, consumed, produced) = decompress(&mut self.stream, bytes, &mut self.out, start, flags);
            self.out.truncate(start + produced);
            content.extend_from_slice(&self.out[start..]);
            bytes = &bytes[consumed..];
            match status {
                TINFLStatus::Done => self.has_ended = true,
                TINFLStatus::NeedsMoreInput => return true,
                // Too big by far, whatever comes.
                TINFLStatus::HasMoreOutput => return true,
                _ => return false,
            }
        }
    }
}

fn theirs(sent: &[Sent], takes_over: bool) -> Heard {
    let mut stream = Theirs::new();
    let mut messages = Vec::new();
    for Sent { compressed, fragments } in sent {
        let payload = fragments.concat();
        let content = match compressed {
            true => stream.message(&payload),
            false if payload.len() > LIMIT => Err(Wrong::TooBig),
            false => Ok(payload),
        };
        match content {
            Ok(content) => messages.push(content),
            Err(wrong) => return Heard { messages, wrong: Some(wrong) },
        }
        if !takes_over {
            stream = Theirs::new();
        }
    }
    Heard { messages, wrong: None }
}
