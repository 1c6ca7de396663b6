//! Frames: headers judged before their payload, and payload handed on as it arrives (RFC 6455 §5).

use crate::violation::Violation;
use saywhy_codes::{CloseFrame, Role};

/// What a frame is for (RFC 6455 §5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    /// Goes on with the message that was begun.
    Continuation,
    /// Begins a text message.
    Text,
    /// Begins a binary message.
    Binary,
    /// Closes.
    Close,
    /// Asks for a Pong.
    Ping,
    /// Answers a Ping, or says that the sender is alive.
    Pong,
}

impl Opcode {
    fn parse(bits: u8) -> Result<Self, Violation> {
        Ok(match bits {
            0x0 => Self::Continuation,
            0x1 => Self::Text,
            0x2 => Self::Binary,
            0x8 => Self::Close,
            0x9 => Self::Ping,
            0xA => Self::Pong,
            unknown => return Err(Violation::UnknownOpcode(unknown)),
        })
    }

    fn bits(self) -> u8 {
        match self {
            Self::Continuation => 0x0,
            Self::Text => 0x1,
            Self::Binary => 0x2,
            Self::Close => 0x8,
            Self::Ping => 0x9,
            Self::Pong => 0xA,
        }
    }

    /// Whether it is a control frame: short, never fragmented (RFC 6455 §5.5).
    pub fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// The longest header: two bytes, 64 bits of length and a mask.
pub const MAX_HEADER: usize = 14;
/// The longest payload of a control frame (RFC 6455 §5.5).
pub const MAX_CONTROL: usize = 125;

const FIN: u8 = 0x80;
const RSV: u8 = 0x70;
const RSV1: u8 = 0x40;
const MASK: u8 = 0x80;

/// What stands before a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Whether the message ends with this frame.
    pub fin: bool,
    /// The first reserved bit: the message that begins here is compressed (RFC 7692 §6).
    pub compressed: bool,
    /// What it is for.
    pub opcode: Opcode,
    /// How the payload is masked, if it is.
    pub mask: Option<[u8; 4]>,
    /// Bytes of payload. Only what has arrived is ever allocated.
    pub len: u64,
}

impl Header {
    /// Reads a header and its length in bytes from the start of `bytes`; `None` when more bytes are needed.
    /// Each byte is judged as soon as it is there. `may_compress` says whether permessage-deflate was agreed on.
    ///
    /// # Errors
    /// The rule that `sender` broke.
    pub fn parse(bytes: &[u8], sender: Role, may_compress: bool) -> Result<Option<(Self, usize)>, Violation> {
        let Some(&first) = bytes.first() else { return Ok(None) };
        let opcode = Opcode::parse(first & 0x0F);
        // RFC 7692 §6.1: only the first frame of a data message says that it is compressed.
        let may_compress = may_compress && matches!(opcode, Ok(Opcode::Text | Opcode::Binary));
        let compressed = first & RSV1 != 0;
        if first & RSV != 0 && (first & RSV != RSV1 || !may_compress) {
            return Err(Violation::ReservedBit);
        }
        let opcode = opcode?;
        let fin = first & FIN != 0;
        if opcode.is_control() && !fin {
            return Err(Violation::FragmentedControl);
        }
        let Some(&second) = bytes.get(1) else { return Ok(None) };
        match (sender, second & MASK != 0) {
            (Role::Client, false) => return Err(Violation::Unmasked),
            (Role::Server, true) => return Err(Violation::Masked),
            (Role::Client, true) | (Role::Server, false) => {}
        }
        let short = second & 0x7F;
        if opcode.is_control() && short as usize > MAX_CONTROL {
            return Err(Violation::LongControl);
        }
        let Some((len, after_len)) = length(short, bytes) else { return Ok(None) };
        if len >> 63 != 0 {
            return Err(Violation::LengthTooLarge);
        }
        if (after_len == 4 && len < 126) || (after_len == 10 && len <= u64::from(u16::MAX)) {
            return Err(Violation::LengthNotMinimal);
        }
        if sender == Role::Server {
            return Ok(Some((Self { fin, compressed, opcode, mask: None, len }, after_len)));
        }
        let Some(mask) = mask_key(after_len, bytes) else { return Ok(None) };
        Ok(Some((Self { fin, compressed, opcode, mask: Some(mask), len }, after_len + 4)))
    }

    /// As [`Header::parse`], without judging: whatever breaks a rule still has a length, so that the next frame can be
    /// found. An unknown opcode counts as binary.
    fn skim(bytes: &[u8]) -> Option<(Self, usize)> {
        let (first, second) = (bytes.first()?, bytes.get(1)?);
        let (len, after_len) = length(second & !MASK, bytes)?;
        let mask = if second & MASK == 0 { None } else { Some(mask_key(after_len, bytes)?) };
        let opcode = Opcode::parse(first & 0x0F).unwrap_or(Opcode::Binary);
        let header = Self { fin: first & FIN != 0, compressed: false, opcode, mask, len };
        Some((header, after_len + if mask.is_some() { 4 } else { 0 }))
    }

    /// Appends the header to `out`.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.push(self.opcode.bits() | if self.fin { FIN } else { 0 } | if self.compressed { RSV1 } else { 0 });
        let mask = if self.mask.is_some() { MASK } else { 0 };
        if self.len < 126 {
            out.push(mask | self.len as u8);
        } else if let Ok(len) = u16::try_from(self.len) {
            out.push(mask | 126);
            out.extend_from_slice(&len.to_be_bytes());
        } else {
            out.push(mask | 127);
            out.extend_from_slice(&self.len.to_be_bytes());
        }
        if let Some(key) = self.mask {
            out.extend_from_slice(&key);
        }
    }
}

/// The length that `short` announces, and where it ends in the header.
fn length(short: u8, header: &[u8]) -> Option<(u64, usize)> {
    Some(match short {
        126 => (u64::from(u16::from_be_bytes(header.get(2..4)?.try_into().ok()?)), 4),
        127 => (u64::from_be_bytes(header.get(2..10)?.try_into().ok()?), 10),
        short => (u64::from(short), 2),
    })
}

fn mask_key(at: usize, header: &[u8]) -> Option<[u8; 4]> {
    header.get(at..at + 4)?.try_into().ok()
}

/// Appends a whole, unfragmented frame to `out`, masked with `key` where the sender is a client.
pub fn write(opcode: Opcode, payload: &[u8], key: Option<[u8; 4]>, out: &mut Vec<u8>) {
    write_message(opcode, payload, false, key, out);
}

/// As [`write()`], of a payload that may be compressed already.
pub(crate) fn write_message(opcode: Opcode, payload: &[u8], compressed: bool, key: Option<[u8; 4]>, out: &mut Vec<u8>) {
    out.reserve(MAX_HEADER + payload.len());
    Header { fin: true, compressed, opcode, mask: key, len: payload.len() as u64 }.write(out);
    let start = out.len();
    out.extend_from_slice(payload);
    if let Some(key) = key {
        mask(&mut out[start..], key, 0);
    }
}

/// Appends a Close frame to `out`; `None` is a Close without a code.
pub fn write_close(close: Option<&CloseFrame>, key: Option<[u8; 4]>, out: &mut Vec<u8>) {
    let mut payload = [0; MAX_CONTROL];
    let len = match close {
        None => 0,
        Some(CloseFrame { code, reason }) => {
            let reason = reason.as_str().as_bytes();
            payload[..2].copy_from_slice(&code.as_u16().to_be_bytes());
            payload[2..2 + reason.len()].copy_from_slice(reason);
            2 + reason.len()
        }
    };
    write(Opcode::Close, &payload[..len], key, out);
}

/// How many bytes the first `count` frames of these take. There are as many, whole.
pub(crate) fn length_of(bytes: &[u8], count: u32) -> usize {
    let mut end = 0;
    for _ in 0..count {
        let Some((header, used)) = bytes.get(end..).and_then(Header::skim) else { break };
        end += used + header.len as usize;
    }
    end.min(bytes.len())
}

/// The key that masks a frame's payload from byte `offset` on as `key` masks the whole (RFC 6455 §5.3).
pub(crate) fn key_at(mut key: [u8; 4], offset: u64) -> [u8; 4] {
    key.rotate_left((offset % 4) as usize);
    key
}

/// Masks or unmasks `payload`, whose first byte is byte `offset` of its frame (RFC 6455 §5.3).
pub fn mask(payload: &mut [u8], key: [u8; 4], offset: u64) {
    let shift = (offset % 4) as u32 * 8;
    let key = u32::from_le_bytes(key).rotate_right(shift);
    let wide = u64::from(key) << 32 | u64::from(key);
    // Eight bytes at a time, as numbers: the compiler makes vector instructions of this, and not of a loop over bytes.
    let (words, rest) = payload.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_le_bytes(*word) ^ wide).to_le_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(wide.to_le_bytes()) {
        *byte ^= key;
    }
}

/// Takes bytes as they arrive and hands out payload with its mask on, piece by piece.
///
/// A relay reads here; [`message::Decoder`](crate::message::Decoder) makes messages of the pieces. While no frame
/// is under way it holds nothing but an unfinished header.
#[derive(Debug)]
pub struct FrameReader {
    sender: Role,
    may_compress: bool,
    is_judging: bool,
    /// An unfinished header.
    head: [u8; MAX_HEADER],
    head_len: u8,
    /// The frame whose payload is under way, and how much of it has been handed out.
    current: Option<(Header, u64)>,
}

/// A part of a frame's payload, still masked.
#[derive(Debug, PartialEq, Eq)]
pub struct Piece<'a> {
    /// The frame that it belongs to.
    pub header: Header,
    /// Whether the frame begins here.
    pub is_first: bool,
    /// Where in the frame's payload it starts.
    pub offset: u64,
    /// The bytes, as they arrived.
    pub payload: &'a mut [u8],
}

impl Piece<'_> {
    /// Whether the frame ends here.
    pub fn is_last(&self) -> bool {
        self.offset + self.payload.len() as u64 == self.header.len
    }

    /// Takes the mask off.
    pub fn unmask(&mut self) {
        if let Some(key) = self.header.mask {
            mask(self.payload, key, self.offset);
        }
    }
}

impl FrameReader {
    /// A reader of what an endpoint in role `sender` sends.
    pub fn new(sender: Role) -> Self {
        Self { sender, may_compress: false, is_judging: true, head: [0; MAX_HEADER], head_len: 0, current: None }
    }

    /// permessage-deflate was agreed on: data messages may be marked as compressed.
    pub fn allow_compression(&mut self) {
        self.may_compress = true;
    }

    /// The next piece in `bytes`, and how many of the bytes it took. Call it again with the rest until all are taken.
    /// A frame is announced as soon as its header is there, if need be with a piece of no bytes, so that it can be
    /// judged before its payload.
    ///
    /// # Errors
    /// The rule that the sender broke. Nothing was taken then, and nothing else will come of these bytes unless the
    /// reader stops judging.
    pub fn next<'a>(&mut self, bytes: &'a mut [u8]) -> Result<(usize, Option<Piece<'a>>), Violation> {
        let (taken, header, offset, is_first) = match self.current.take() {
            Some((header, offset)) => (0, header, offset, false),
            None => match self.header(bytes)? {
                (used, Some(header)) => (used, header, 0, true),
                (used, None) => return Ok((used, None)),
            },
        };
        let available = (bytes.len() - taken) as u64;
        let end = taken + available.min(header.len - offset) as usize;
        let piece = Piece { header, is_first, offset, payload: &mut bytes[taken..end] };
        if !piece.is_last() {
            self.current = Some((header, offset + piece.payload.len() as u64));
        }
        Ok((end, Some(piece)))
    }

    fn header(&mut self, bytes: &[u8]) -> Result<(usize, Option<Header>), Violation> {
        let had = usize::from(self.head_len);
        if had == 0 {
            // The common case: the header is there in one piece.
            if let Some((header, used)) = self.parse(bytes)? {
                return Ok((used, Some(header)));
            }
        }
        let more = bytes.len().min(MAX_HEADER - had);
        self.head[had..had + more].copy_from_slice(&bytes[..more]);
        match self.parse(&self.head[..had + more])? {
            Some((header, used)) => {
                self.head_len = 0;
                // What was kept was not yet a header, so the header ends within the new bytes.
                Ok((used - had, Some(header)))
            }
            None => {
                self.head_len = (had + more) as u8;
                Ok((more, None))
            }
        }
    }

    pub(crate) fn parse(&self, bytes: &[u8]) -> Result<Option<(Header, usize)>, Violation> {
        if self.is_judging { Header::parse(bytes, self.sender, self.may_compress) } else { Ok(Header::skim(bytes)) }
    }

    /// From now on only tells frames apart: a sender that broke a rule may still say Close.
    pub(crate) fn stop_judging(&mut self) {
        self.is_judging = false;
    }

    pub(crate) fn is_judging(&self) -> bool {
        self.is_judging
    }

    /// The frame whose payload is under way, and how much of it has come.
    pub(crate) fn current(&self) -> Option<(Header, u64)> {
        self.current
    }

    /// So much of its payload, and not all of it, was read past this reader.
    pub(crate) fn pass(&mut self, bytes: u64) {
        if let Some((_, offset)) = &mut self.current {
            *offset += bytes;
        }
    }

    /// Whether a frame has begun and not ended.
    pub fn is_inside_frame(&self) -> bool {
        self.head_len > 0 || self.current.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEY: [u8; 4] = [1, 2, 3, 4];

    fn parse(bytes: &[u8]) -> Result<Option<(Header, usize)>, Violation> {
        Header::parse(bytes, Role::Client, false)
    }

    #[test]
    fn a_header_is_judged_at_the_first_byte_that_is_wrong() {
        assert_eq!(parse(&[0xC1]), Err(Violation::ReservedBit));
        assert_eq!(parse(&[0x83]), Err(Violation::UnknownOpcode(3)));
        assert_eq!(parse(&[0x8F]), Err(Violation::UnknownOpcode(15)));
        assert_eq!(parse(&[0x09]), Err(Violation::FragmentedControl));
        assert_eq!(parse(&[0x81, 0x01]), Err(Violation::Unmasked));
        assert_eq!(parse(&[0x89, 0xFE]), Err(Violation::LongControl));
        assert_eq!(parse(&[0x81, 0xFE, 0, 125]), Err(Violation::LengthNotMinimal));
        assert_eq!(parse(&[0x81, 0xFF, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF]), Err(Violation::LengthNotMinimal));
        assert_eq!(parse(&[0x81, 0xFF, 0x80, 0, 0, 0, 0, 0, 0, 0]), Err(Violation::LengthTooLarge));
        assert_eq!(Header::parse(&[0x81, 0x81], Role::Server, false), Err(Violation::Masked));
    }

    #[test]
    fn only_the_first_frame_of_a_data_message_may_be_compressed() {
        let parse = |first: u8| Header::parse(&[first, 0], Role::Server, true).map(|found| found.unwrap().0.compressed);
        assert_eq!(parse(0xC1), Ok(true));
        assert_eq!(parse(0x42), Ok(true));
        assert_eq!(parse(0x81), Ok(false));
        for first in [0xC0, 0xC8, 0xC9, 0xCA, 0xC3, 0xA1, 0xE1, 0x91] {
            assert_eq!(parse(first), Err(Violation::ReservedBit), "{first:x}");
        }
    }

    proptest! {
        #[test]
        fn headers_round_trip(
            fin: bool,
            compressed: bool,
            len in prop_oneof![0u64..200, 65_000u64..66_000, 0..(1u64 << 63)],
            key: Option<[u8; 4]>,
        ) {
            let header = Header { fin, compressed, opcode: Opcode::Binary, mask: key, len };
            let mut out = Vec::new();
            header.write(&mut out);
            let sender = if key.is_some() { Role::Client } else { Role::Server };
            prop_assert_eq!(Header::parse(&out, sender, true), Ok(Some((header, out.len()))));
            for cut in 0..out.len() {
                prop_assert_eq!(Header::parse(&out[..cut], sender, true), Ok(None));
            }
        }

        #[test]
        fn pieces_add_up_wherever_the_bytes_are_cut(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..5),
            cuts in prop::collection::vec(1usize..40, 1..200),
        ) {
            let mut wire = Vec::new();
            for payload in &payloads {
                write(Opcode::Binary, payload, Some(KEY), &mut wire);
            }
            let mut reader = FrameReader::new(Role::Client);
            let (mut whole, mut current) = (Vec::new(), Vec::new());
            let mut cuts = cuts.into_iter().cycle();
            let mut rest = &mut wire[..];
            while !rest.is_empty() {
                let size = cuts.next().unwrap().min(rest.len());
                let (now, later) = rest.split_at_mut(size);
                let mut at = 0;
                while at < now.len() {
                    let (used, piece) = reader.next(&mut now[at..]).unwrap();
                    at += used;
                    if let Some(mut piece) = piece {
                        piece.unmask();
                        current.extend_from_slice(piece.payload);
                        if piece.is_last() {
                            whole.push(std::mem::take(&mut current));
                        }
                    }
                }
                rest = later;
            }
            prop_assert_eq!(whole, payloads);
            prop_assert!(!reader.is_inside_frame());
        }

        #[test]
        fn masking_is_bytewise_and_its_own_inverse(mut bytes: Vec<u8>, key: [u8; 4], offset in 0u64..9) {
            let expected: Vec<u8> =
                bytes.iter().enumerate().map(|(i, b)| b ^ key[(i + offset as usize) % 4]).collect();
            let before = bytes.clone();
            mask(&mut bytes, key, offset);
            prop_assert_eq!(&bytes, &expected);
            mask(&mut bytes, key, offset);
            prop_assert_eq!(bytes, before);
        }
    }
}
