//! Messages: frames put together, checked as they arrive, bounded over all of their fragments (RFC 6455 §5.4–5.6).

use crate::deflate::{self, Inflater};
use crate::frame::{self, FrameReader, Header, MAX_CONTROL, Opcode, Piece};
use crate::violation::Violation;
use saywhy_codes::{CloseCode, CloseReason, Observed, Role, SeenClose};
use std::borrow::Cow;
use std::sync::OnceLock;

/// A data message. Borrowed from the bytes that arrived where they hold it whole; nothing is copied then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// UTF-8 text.
    Text(Cow<'a, str>),
    /// Bytes.
    Binary(Cow<'a, [u8]>),
}

/// What a peer sent.
#[derive(Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// A data message, whole.
    Message(Message<'a>),
    /// A part of a data message, as it came: only of a decoder that [passes messages on](Decoder::pass_on).
    Piece(Piece<'a>),
    /// Whole data messages, each in one frame, as they came, and how many: of such a decoder, too.
    Run(&'a [u8], u32),
    /// A Ping, to be answered with the same bytes.
    Ping(Cow<'a, [u8]>),
    /// A Pong.
    Pong,
    /// A Close, and the rule that it broke itself, if it did.
    Close(SeenClose, Option<Violation>),
}

/// From here on a read of its own is cheaper than a copy.
const PLACE_BYTES: u64 = 32 * 1024;

/// What is read of a message that follows a long one, before its place is known.
const FIRST_BYTES: usize = 4 * 1024;

/// Makes messages of bytes. Between messages it holds no buffer.
#[derive(Debug)]
pub struct Decoder {
    frames: FrameReader,
    sender: Role,
    message_bytes: u32,
    /// Data frames are skipped, not kept: we have said Close and only wait for the peer's.
    discarding: bool,
    /// Data frames are handed on, not kept.
    passing: bool,
    data: Option<Box<Assembly>>,
    /// How long the last message was, if it did not come in one piece.
    before: u32,
    /// For compressed messages, once they were agreed on.
    inflater: Option<Box<Inflater>>,
    /// Compressed messages are a violation still.
    too_early: bool,
    /// The payload of a control frame that arrives in pieces.
    control: Option<Box<Control>>,
}

/// As much as a control frame may hold.
#[derive(Debug)]
struct Control {
    payload: [u8; MAX_CONTROL],
    len: usize,
}

impl Default for Control {
    fn default() -> Self {
        Self { payload: [0; MAX_CONTROL], len: 0 }
    }
}

impl Control {
    /// What is more than that is left out: only a sender that broke a rule sends it.
    fn push(&mut self, bytes: &[u8]) {
        let room = bytes.len().min(MAX_CONTROL - self.len);
        self.payload[self.len..self.len + room].copy_from_slice(&bytes[..room]);
        self.len += room;
    }

    fn bytes(&self) -> &[u8] {
        &self.payload[..self.len]
    }
}

impl Decoder {
    /// A decoder of what an endpoint in role `sender` sends, with at most `message_bytes` in one message, and 4 GiB.
    pub fn new(sender: Role, message_bytes: usize) -> Self {
        let frames = FrameReader::new(sender);
        Self {
            frames,
            sender,
            message_bytes: u32::try_from(message_bytes).unwrap_or(u32::MAX),
            discarding: false,
            passing: false,
            data: None,
            before: 0,
            inflater: None,
            too_early: false,
            control: None,
        }
    }

    /// From now on keeps nothing of data messages, and checks nothing of them.
    pub fn discard(&mut self) {
        self.discarding = true;
        self.data = None;
    }

    /// From now on hands data on in pieces, as they come, instead of making messages of them. They are judged all the same:
    /// their order, their length, and text, where it is neither masked nor compressed. `compressed` says whether
    /// permessage-deflate was agreed on; the limit is then about the bytes that are handed on.
    pub fn pass_on(&mut self, compressed: bool) {
        self.passing = true;
        if compressed {
            self.frames.allow_compression();
        }
    }

    /// Compressed messages were agreed on. They are inflated from [`Decoder::allow_compressed`] on.
    pub(crate) fn inflate_with(&mut self, inflater: Inflater) {
        self.frames.allow_compression();
        self.inflater = Some(Box::new(inflater));
        self.too_early = true;
    }

    /// The time for compressed messages has come.
    pub(crate) fn allow_compressed(&mut self) {
        self.too_early = false;
    }

    /// The limit.
    pub fn message_bytes(&self) -> usize {
        self.message_bytes as usize
    }

    /// Changes the limit, for the frames that begin from now on.
    pub fn set_message_bytes(&mut self, message_bytes: usize) {
        self.message_bytes = u32::try_from(message_bytes).unwrap_or(u32::MAX);
    }

    /// How much to read at once where a message may begin. Of a long one little is wanted that way: the rest goes to its
    /// [place](Decoder::place).
    pub fn first_read(&self) -> usize {
        if self.data.is_none() && u64::from(self.before) > PLACE_BYTES { FIRST_BYTES } else { usize::MAX }
    }

    /// Whether a message, or a frame, has begun and not ended.
    pub fn is_inside_message(&self) -> bool {
        self.data.is_some() || self.frames.is_inside_frame()
    }

    /// The next item in `bytes`, which are unmasked in place, and how many of the bytes were taken. Call it again
    /// with the rest until all are taken.
    ///
    /// A [`Violation`] in a header takes nothing: from there on only the peer's Close is looked for, and no more rules
    /// are broken. After any other, [`Decoder::discard`] does the same for data messages.
    pub fn next<'a>(&mut self, bytes: &'a mut [u8]) -> (usize, Result<Option<Item<'a>>, Violation>) {
        if self.passing
            && let (len @ 1.., count) = self.run(bytes)
        {
            return (len, Ok(Some(Item::Run(&bytes[..len], count))));
        }
        match self.frames.next(bytes) {
            Ok((taken, None)) => (taken, Ok(None)),
            Ok((taken, Some(piece))) if !self.frames.is_judging() => (taken, Ok(self.skim(piece))),
            Ok((taken, Some(piece))) if piece.header.opcode.is_control() => (taken, self.control(piece)),
            Ok((taken, Some(_))) if self.discarding => (taken, Ok(None)),
            Ok((taken, Some(piece))) if self.passing => (taken, self.pass(piece)),
            Ok((taken, Some(piece))) => (taken, self.data(piece)),
            Err(violation) => {
                self.discard();
                self.frames.stop_judging();
                (0, Err(violation))
            }
        }
    }

    /// Where the next bytes may be read to at once, without a copy: the end of this buffer, and so many at most. They
    /// are a part of a long binary frame, and never its end. Tell [`Decoder::read_into_place`] how many came.
    pub fn place(&mut self) -> Option<(&mut Vec<u8>, usize)> {
        let (header, offset) = self.frames.current()?;
        let coming = header.len - offset;
        // The first bytes come the other way: what is reserved goes by what has come.
        let is_long = coming > PLACE_BYTES && offset > 0 && !header.opcode.is_control();
        let data = self.data.as_mut().filter(|data| is_long && !data.compressed && self.frames.is_judging())?;
        let Content::Binary(all) = &mut data.content else { return None };
        if all.len() == all.capacity() {
            let room = Room { coming, before: self.before as usize, limit: self.message_bytes as usize };
            all.reserve_exact(room.growth(all.len(), all.capacity(), 1)?);
        }
        let most = (all.capacity() - all.len()).min(coming as usize - 1);
        Some((all, most))
    }

    /// So many bytes were read to the end of the buffer that [`Decoder::place`] gave.
    pub fn read_into_place(&mut self, bytes: usize) {
        let (Some((header, offset)), Some(data)) = (self.frames.current(), &mut self.data) else { return };
        let Content::Binary(all) = &mut data.content else { return };
        if let Some(key) = header.mask {
            let start = all.len() - bytes;
            frame::mask(&mut all[start..], key, offset);
        }
        self.frames.pass(bytes as u64);
    }

    /// Judges a data frame by its header: what its message has declared so far.
    fn declared(&self, header: Header) -> Result<u64, Violation> {
        let before = match (header.opcode, &self.data) {
            (Opcode::Continuation, None) => return Err(Violation::NothingToContinue),
            (Opcode::Continuation, Some(data)) => data.declared,
            (_, Some(_)) => return Err(Violation::UnfinishedMessage),
            (_, None) => 0,
        };
        let declared = before.saturating_add(header.len);
        let is_compressed = header.compressed || self.data.as_ref().is_some_and(|data| data.compressed);
        let most = self.message_bytes();
        let most = if is_compressed && !self.passing { deflated_most(most) } else { most };
        if declared > most as u64 {
            return Err(Violation::TooBig);
        }
        if header.compressed && self.too_early {
            return Err(Violation::DeflateEarly);
        }
        Ok(declared)
    }

    /// How many bytes at the beginning are whole messages in one frame each, with which nothing is wrong; and how many
    /// these are. What most connections say goes on like that at once.
    fn run(&self, bytes: &[u8]) -> (usize, u32) {
        if self.discarding || self.data.is_some() || self.frames.is_inside_frame() || !self.frames.is_judging() {
            return (0, 0);
        }
        let (mut end, mut count) = (0, 0);
        // What ends it is found again by those who look closer.
        while let Ok(Some((header, used))) = self.frames.parse(&bytes[end..]) {
            let rest = &bytes[end + used..];
            let is_whole = header.fin && header.len <= rest.len() as u64 && header.len <= u64::from(self.message_bytes);
            if !is_whole || header.opcode.is_control() || header.opcode == Opcode::Continuation {
                break;
            }
            let payload = &rest[..header.len as usize];
            let is_readable = header.opcode == Opcode::Text && header.mask.is_none() && !header.compressed;
            if is_readable && std::str::from_utf8(payload).is_err() {
                break;
            }
            end += used + payload.len();
            count += 1;
        }
        (end, count)
    }

    /// Hands a piece on. Whatever it belongs to has no more to it here than what judges the rest of it.
    fn pass<'a>(&mut self, piece: Piece<'a>) -> Result<Option<Item<'a>>, Violation> {
        let Header { fin, compressed, opcode, mask, .. } = piece.header;
        let ends = fin && piece.is_last();
        if piece.is_first {
            let declared = self.declared(piece.header)?;
            let is_readable = opcode == Opcode::Text && mask.is_none() && !compressed;
            match &mut self.data {
                Some(data) => data.declared = declared,
                None if ends => {
                    if is_readable && std::str::from_utf8(piece.payload).is_err() {
                        return Err(Violation::TextNotUtf8);
                    }
                    return Ok(Some(Item::Piece(piece)));
                }
                None => {
                    let content = Content::Passed(is_readable.then(Utf8::default));
                    self.data = Some(Box::new(Assembly { content, compressed, declared }));
                }
            }
        }
        // Without an assembly the message was refused before, and what is left of it is skipped.
        let Some(data) = &mut self.data else { return Ok(None) };
        if let Content::Passed(Some(text)) = &mut data.content {
            text.push(piece.payload, |_| ())?;
            if ends && !text.is_whole() {
                return Err(Violation::TextNotUtf8);
            }
        }
        if ends {
            self.data = None;
        }
        Ok(Some(Item::Piece(piece)))
    }

    fn data<'a>(&mut self, mut piece: Piece<'a>) -> Result<Option<Item<'a>>, Violation> {
        let Header { fin, compressed, opcode, len, .. } = piece.header;
        let coming = len - piece.offset;
        let ends = fin && piece.is_last();
        if piece.is_first {
            let declared = self.declared(piece.header)?;
            match &mut self.data {
                Some(data) => data.declared = declared,
                // The common case: a message in one frame, all of it there.
                None if ends && !compressed => {
                    self.before = 0;
                    piece.unmask();
                    return Message::whole(opcode, piece.payload).map(|message| Some(Item::Message(message)));
                }
                None => self.data = Some(Box::new(Assembly::new(opcode, compressed, declared))),
            }
        }
        piece.unmask();
        // Without an assembly the message was refused before, and what is left of it is skipped.
        let Some(data) = &mut self.data else { return Ok(None) };
        let room = Room { coming, before: self.before as usize, limit: self.message_bytes as usize };
        match self.inflater.as_mut().filter(|_| data.compressed) {
            None => data.push(piece.payload, room)?,
            Some(inflater) => {
                let mut take = |bytes: &[u8]| data.push(bytes, Room { coming: 0, before: 0, ..room });
                inflater.push(piece.payload, &mut take)?;
                if ends {
                    inflater.finish()?;
                }
            }
        }
        if !ends {
            return Ok(None);
        }
        let Some(data) = self.data.take() else { return Ok(None) };
        self.before = u32::try_from(data.len()).unwrap_or(0);
        data.finish().map(|message| Some(Item::Message(message)))
    }

    fn control<'a>(&mut self, mut piece: Piece<'a>) -> Result<Option<Item<'a>>, Violation> {
        piece.unmask();
        let opcode = piece.header.opcode;
        let payload = if piece.is_first && piece.is_last() {
            Cow::Borrowed(&*piece.payload)
        } else {
            self.control.get_or_insert_default().push(piece.payload);
            if !piece.is_last() {
                return Ok(None);
            }
            Cow::Owned(self.control.take().unwrap_or_default().bytes().to_vec())
        };
        Ok(Some(match opcode {
            Opcode::Close => close(&payload, self.sender),
            Opcode::Ping => Item::Ping(payload),
            Opcode::Pong | Opcode::Continuation | Opcode::Text | Opcode::Binary => Item::Pong,
        }))
    }

    /// The Close of a peer that broke a rule, however it is made: as much of it as a Close may hold.
    fn skim(&mut self, mut piece: Piece<'_>) -> Option<Item<'static>> {
        if piece.header.opcode != Opcode::Close {
            return None;
        }
        piece.unmask();
        self.control.get_or_insert_default().push(piece.payload);
        let is_last = piece.is_last();
        is_last.then(|| close(self.control.take().unwrap_or_default().bytes(), self.sender))
    }
}

/// RFC 6455 §5.5.1: nothing, or two bytes of code and a reason in UTF-8.
fn close(payload: &[u8], sender: Role) -> Item<'static> {
    let none = |code, violation| Item::Close(SeenClose { code, reason: CloseReason::EMPTY }, violation);
    let (code, reason) = match payload {
        [] => return none(Observed::NoStatus, None),
        [_] => return none(Observed::NoStatus, Some(Violation::CloseOneByte)),
        [a, b, reason @ ..] => (u16::from_be_bytes([*a, *b]), reason),
    };
    let observed = Observed::from_wire(Some(code), sender);
    // 1010 is for clients only, but from a server it is understood all the same (RFC 6455 §7.4.1).
    let illegal = CloseCode::new(code, Role::Client).err().map(|_| Violation::CloseCode(code));
    match std::str::from_utf8(reason).map(|reason| CloseReason::new(reason.to_owned())) {
        Ok(Ok(reason)) => Item::Close(SeenClose { code: observed, reason }, illegal),
        // A control frame holds no more than 125 bytes, so only the encoding can be at fault.
        Ok(Err(_)) | Err(_) => none(observed, illegal.or(Some(Violation::CloseReasonNotUtf8))),
    }
}

impl<'a> Message<'a> {
    fn whole(opcode: Opcode, payload: &'a [u8]) -> Result<Self, Violation> {
        if opcode == Opcode::Text {
            let text = std::str::from_utf8(payload).map_err(|_| Violation::TextNotUtf8)?;
            Ok(Self::Text(Cow::Borrowed(text)))
        } else {
            Ok(Self::Binary(Cow::Borrowed(payload)))
        }
    }

    pub(crate) fn parts(&self) -> (Opcode, &[u8]) {
        match self {
            Self::Text(text) => (Opcode::Text, text.as_bytes()),
            Self::Binary(bytes) => (Opcode::Binary, bytes),
        }
    }

    /// Bytes of payload.
    pub fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Binary(bytes) => bytes.len(),
        }
    }

    /// Whether there is no payload.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A message that a server frames once, and compresses once, for many sessions.
#[derive(Debug)]
pub struct Shared {
    wire: Box<[u8]>,
    opcode: Opcode,
    header_len: usize,
    compressed: OnceLock<Option<Box<[u8]>>>,
}

impl Shared {
    /// Frames a message.
    pub fn new(message: &Message<'_>) -> Self {
        let (opcode, payload) = message.parts();
        let mut wire = Vec::new();
        frame::write(opcode, payload, None, &mut wire);
        let header_len = wire.len() - payload.len();
        Self { wire: wire.into(), opcode, header_len, compressed: OnceLock::new() }
    }

    /// Bytes on the wire, without compression.
    pub fn len(&self) -> usize {
        self.wire.len()
    }

    /// Never: there is a header at least.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The frame.
    pub(crate) fn wire(&self) -> &[u8] {
        &self.wire
    }

    pub(crate) fn opcode(&self) -> Opcode {
        self.opcode
    }

    pub(crate) fn payload(&self) -> &[u8] {
        &self.wire[self.header_len..]
    }

    /// The frame with its payload compressed, at the level that is asked for first; `None` where that saves nothing.
    pub(crate) fn compressed(&self, level: u8) -> Option<&[u8]> {
        let compress = || {
            let payload = deflate::alone(self.payload(), level, deflate::SHARED_BITS)?;
            let mut wire = Vec::new();
            frame::write_message(self.opcode, &payload, true, None, &mut wire);
            Some(wire.into())
        };
        self.compressed.get_or_init(compress).as_deref()
    }
}

/// A message that has begun and not ended, in one buffer however many fragments it comes in.
#[derive(Debug)]
struct Assembly {
    content: Content,
    compressed: bool,
    /// What its frames have declared so far: this is what the limit is about, not what memory follows.
    declared: u64,
}

#[derive(Debug)]
enum Content {
    Text(String, Utf8),
    Binary(Vec<u8>),
    /// It is handed on; text is only looked at.
    Passed(Option<Utf8>),
}

impl Assembly {
    fn new(opcode: Opcode, compressed: bool, declared: u64) -> Self {
        let content = match opcode {
            Opcode::Text => Content::Text(String::new(), Utf8::default()),
            _ => Content::Binary(Vec::new()),
        };
        Self { content, compressed, declared }
    }

    /// Appends what belongs to the message, which the headers cannot bound where it was compressed.
    fn push(&mut self, bytes: &[u8], room: Room) -> Result<(), Violation> {
        if self.len() + bytes.len() > room.limit {
            return Err(Violation::TooBig);
        }
        match &mut self.content {
            Content::Binary(all) => {
                if let Some(more) = room.growth(all.len(), all.capacity(), bytes.len()) {
                    all.reserve_exact(more);
                }
                all.extend_from_slice(bytes);
                Ok(())
            }
            Content::Text(all, utf8) => utf8.push(bytes, |text| {
                if let Some(more) = room.growth(all.len(), all.capacity(), text.len()) {
                    all.reserve_exact(more);
                }
                all.push_str(text);
            }),
            Content::Passed(_) => Ok(()),
        }
    }

    fn len(&self) -> usize {
        match &self.content {
            Content::Binary(all) => all.len(),
            Content::Text(all, utf8) => all.len() + utf8.pending_len,
            Content::Passed(_) => 0,
        }
    }

    fn finish(self) -> Result<Message<'static>, Violation> {
        Ok(match self.content {
            Content::Binary(all) => Message::Binary(Cow::Owned(all)),
            Content::Text(all, utf8) if utf8.is_whole() => Message::Text(Cow::Owned(all)),
            Content::Text(..) => return Err(Violation::TextNotUtf8),
            Content::Passed(_) => Message::Binary(Cow::Borrowed(&[])),
        })
    }
}

/// The longest that a message of `limit` bytes becomes when it is compressed badly.
fn deflated_most(limit: usize) -> usize {
    limit.saturating_add(limit / 8).saturating_add(64)
}

/// A header is believed in steps: what is reserved is at most so many times what has come.
const BELIEVED_TIMES: usize = 4;

/// What goes into how much is reserved for a message.
#[derive(Clone, Copy)]
struct Room {
    /// What the frame still holds, by its header.
    coming: u64,
    /// What the peer's last message held: so much it is believed at once.
    before: usize,
    /// What a message may hold.
    limit: usize,
}

impl Room {
    /// How much to reserve so that a buffer of `len` takes `more`: what the frame declares, or doubling for fragments,
    /// but within what has come, now or before, and the limit.
    fn growth(self, len: usize, capacity: usize, more: usize) -> Option<usize> {
        let needed = len + more;
        if needed <= capacity {
            return None;
        }
        // At most the limit, by the header.
        let frame = len.saturating_add(self.coming as usize);
        let believed = frame.min(self.before.max(BELIEVED_TIMES * needed));
        Some(needed.max(believed).max(2 * capacity).min(self.limit.max(needed)) - len)
    }
}

/// Checks text as it arrives: the first byte that cannot belong to UTF-8 fails it.
#[derive(Debug, Default)]
struct Utf8 {
    /// The beginning of a character whose rest has not arrived.
    pending: [u8; 4],
    pending_len: usize,
}

impl Utf8 {
    /// Gives `take` what has become text.
    fn push(&mut self, mut bytes: &[u8], mut take: impl FnMut(&str)) -> Result<(), Violation> {
        while self.pending_len > 0 {
            let Some((&next, rest)) = bytes.split_first() else { return Ok(()) };
            bytes = rest;
            self.pending[self.pending_len] = next;
            self.pending_len += 1;
            self.settle(&mut take)?;
        }
        let (whole, begun) = bytes.split_at(bytes.len() - unfinished(bytes));
        take(std::str::from_utf8(whole).map_err(|_| Violation::TextNotUtf8)?);
        self.pending[..begun.len()].copy_from_slice(begun);
        self.pending_len = begun.len();
        if begun.is_empty() { Ok(()) } else { self.settle(&mut take) }
    }

    /// Hands on the pending character if it is whole; fails if it can never be.
    fn settle(&mut self, take: &mut impl FnMut(&str)) -> Result<(), Violation> {
        let pending = self.pending;
        match std::str::from_utf8(&pending[..self.pending_len]) {
            Ok(character) => {
                take(character);
                self.pending_len = 0;
                Ok(())
            }
            Err(error) if error.error_len().is_none() => Ok(()),
            Err(_) => Err(Violation::TextNotUtf8),
        }
    }

    fn is_whole(&self) -> bool {
        self.pending_len == 0
    }
}

/// How many bytes at the end begin a character without finishing it.
fn unfinished(bytes: &[u8]) -> usize {
    for back in 1..=bytes.len().min(3) {
        let needs = match bytes[bytes.len() - back] {
            0x80..=0xBF => continue,
            0xC0..=0xDF => 2,
            0xE0..=0xEF => 3,
            0xF0..=0xFF => 4,
            0x00..=0x7F => 1,
        };
        return if needs > back { back } else { 0 };
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEY: [u8; 4] = [0xA5, 0x5A, 0x0F, 0xF0];

    fn piece(fin: bool, opcode: Opcode, payload: &[u8], out: &mut Vec<u8>) {
        Header { fin, compressed: false, opcode, mask: Some(KEY), len: payload.len() as u64 }.write(out);
        let start = out.len();
        out.extend_from_slice(payload);
        frame::mask(&mut out[start..], KEY, 0);
    }

    /// Feeds `wire` in steps of `step` bytes; the items, as text, up to the first violation.
    fn decode(wire: &[u8], step: usize, limit: usize) -> Vec<String> {
        feed(wire, step, limit, false)
    }

    /// As [`decode`], and what is found after the violation.
    fn decode_on(wire: &[u8], step: usize, limit: usize) -> Vec<String> {
        feed(wire, step, limit, true)
    }

    fn feed(wire: &[u8], step: usize, limit: usize, goes_on: bool) -> Vec<String> {
        let mut decoder = Decoder::new(Role::Client, limit);
        let mut seen = Vec::new();
        for chunk in wire.chunks(step) {
            let mut chunk = chunk.to_vec();
            let mut at = 0;
            while at < chunk.len() {
                let (taken, item) = decoder.next(&mut chunk[at..]);
                at += taken;
                match item {
                    Ok(item) => {
                        assert!(taken > 0, "no progress");
                        seen.extend(item.map(|item| match item {
                            Item::Message(Message::Text(text)) => format!("text {text}"),
                            item => format!("{item:?}"),
                        }));
                    }
                    Err(violation) => {
                        seen.push(format!("{violation:?}"));
                        if !goes_on {
                            return seen;
                        }
                        decoder.discard();
                    }
                }
            }
        }
        seen
    }

    #[test]
    fn what_is_read_into_place_is_as_what_is_not() {
        let long: Vec<u8> = (0..700_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let mut wire = Vec::new();
        piece(false, Opcode::Binary, &long[..300_000], &mut wire);
        piece(true, Opcode::Ping, b"?", &mut wire);
        piece(true, Opcode::Continuation, &long[300_000..], &mut wire);
        piece(true, Opcode::Binary, &long[..50_000], &mut wire);
        for step in [1_000, 16_384, 65_536, 200_000] {
            let mut decoder = Decoder::new(Role::Client, 1_000_000);
            let (mut rest, mut messages, mut direct) = (&wire[..], Vec::new(), 0);
            while !rest.is_empty() {
                if let Some((place, most)) = decoder.place() {
                    let (now, later) = rest.split_at(most.min(step).min(rest.len()));
                    place.extend_from_slice(now);
                    decoder.read_into_place(now.len());
                    direct += now.len();
                    rest = later;
                    continue;
                }
                let (now, later) = rest.split_at(step.min(rest.len()));
                let mut now = now.to_vec();
                let mut at = 0;
                while at < now.len() {
                    let (taken, item) = decoder.next(&mut now[at..]);
                    at += taken;
                    if let Some(Item::Message(Message::Binary(message))) = item.unwrap() {
                        messages.push(message.into_owned());
                    }
                }
                rest = later;
            }
            assert_eq!(messages.len(), 2);
            assert!(messages[0] == long && messages[1] == long[..50_000], "step {step}");
            assert!(direct > 200_000, "{direct} of step {step}");
        }
    }

    #[test]
    fn a_header_is_believed_in_steps() {
        let big = 64 << 20;
        let mut wire = Vec::new();
        Header { fin: true, compressed: false, opcode: Opcode::Binary, mask: Some(KEY), len: big }.write(&mut wire);
        let mut decoder = Decoder::new(Role::Client, big as usize);
        decoder.next(&mut wire).1.unwrap();
        // A step is made for what arrives, so the first bytes come the other way.
        let mut first = [0; 1_000];
        decoder.next(&mut first).1.unwrap();
        let mut received = first.len();
        while received < 10 << 20 {
            let (place, most) = decoder.place().unwrap();
            assert!(place.capacity() <= BELIEVED_TIMES * (received + 1), "{} at {received}", place.capacity());
            let some = most.min(50_000);
            place.resize(place.len() + some, 0);
            received += some;
            decoder.read_into_place(some);
        }
    }

    #[test]
    fn a_peer_is_believed_as_much_as_it_has_sent_before() {
        let mut decoder = Decoder::new(Role::Client, 1 << 20);
        let mut say = |len: usize| {
            let mut wire = Vec::new();
            piece(true, Opcode::Binary, &vec![7; len], &mut wire);
            let first = decoder.first_read();
            let (mut at, mut capacities) = (0, Vec::new());
            let mut step = first.min(10_000);
            while at < wire.len() {
                if let Some((place, most)) = decoder.place() {
                    capacities.push(place.capacity());
                    let some = most.min(wire.len() - at);
                    place.extend_from_slice(&wire[at..at + some]);
                    decoder.read_into_place(some);
                    at += some;
                    continue;
                }
                let end = wire.len().min(at + step);
                step = 10_000;
                at += decoder.next(&mut wire[at..end]).0;
            }
            (first, capacities.first().copied())
        };
        let (first, reserved) = say(500_000);
        assert_eq!(first, usize::MAX);
        assert!(reserved.unwrap() < 50_000, "{reserved:?}");
        assert_eq!(say(500_000), (FIRST_BYTES, Some(500_000)));
        let (first, reserved) = say(900_000);
        assert_eq!((first, reserved), (FIRST_BYTES, Some(500_000)), "no more than it has sent");
        assert_eq!(say(9), (FIRST_BYTES, None));
        assert_eq!(say(9), (usize::MAX, None), "what is short is read with what follows it");
    }

    #[test]
    fn control_frames_may_stand_between_fragments() {
        let mut wire = Vec::new();
        piece(false, Opcode::Text, "grü".as_bytes(), &mut wire);
        piece(true, Opcode::Ping, b"?", &mut wire);
        piece(true, Opcode::Continuation, b"n", &mut wire);
        for step in 1..=wire.len() {
            assert_eq!(decode(&wire, step, 100), ["Ping([63])", "text grün"], "step {step}");
        }
    }

    #[test]
    fn the_order_of_fragments_is_kept() {
        let mut wire = Vec::new();
        piece(true, Opcode::Continuation, b"", &mut wire);
        assert_eq!(decode(&wire, 100, 100), ["NothingToContinue"]);
        wire.clear();
        piece(false, Opcode::Text, b"a", &mut wire);
        piece(true, Opcode::Binary, b"b", &mut wire);
        assert_eq!(decode(&wire, 100, 100), ["UnfinishedMessage"]);
    }

    #[test]
    fn the_limit_counts_all_fragments_and_judges_the_header_alone() {
        let mut wire = Vec::new();
        piece(false, Opcode::Binary, &[0; 60], &mut wire);
        piece(true, Opcode::Continuation, &[0; 41], &mut wire);
        // The last 41 bytes never arrive, and need not.
        let header_only = wire.len() - 41;
        assert_eq!(decode(&wire[..header_only], 100, 100), ["TooBig"]);
        let huge = [0x82, 0xFF, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0];
        assert_eq!(decode(&huge, 100, 100), ["TooBig"]);
    }

    #[test]
    fn text_fails_at_the_byte_that_is_wrong() {
        let mut wire = Vec::new();
        piece(false, Opcode::Text, &[b'a', 0xF4], &mut wire);
        piece(false, Opcode::Continuation, &[0x90], &mut wire);
        assert_eq!(decode(&wire, 100, 100), ["TextNotUtf8"], "no more than U+10FFFF, seen at the second byte");
        wire.clear();
        piece(true, Opcode::Text, &[b'a', 0xE2, 0x82], &mut wire);
        assert_eq!(decode(&wire, 3, 100), ["TextNotUtf8"], "ends inside a character");
    }

    #[test]
    fn a_close_is_read_strictly() {
        let close = |payload: &[u8]| {
            let mut wire = Vec::new();
            piece(true, Opcode::Close, payload, &mut wire);
            decode(&wire, 100, 100).remove(0)
        };
        assert!(close(b"").contains("NoStatus"));
        assert!(close(&[3]).contains("CloseOneByte"));
        assert!(close(&1006_u16.to_be_bytes()).contains("CloseCode(1006)"));
        assert!(close(&[0x0F, 0xA3, 0xFF]).contains("CloseReasonNotUtf8"));
        assert_eq!(
            close(&[0x0F, 0xA3, b'x']),
            r#"Close(SeenClose { code: Code(CloseCode(4003)), reason: CloseReason("x") }, None)"#
        );
    }

    #[test]
    fn a_refused_message_can_be_skipped_up_to_the_close() {
        let mut wire = Vec::new();
        piece(false, Opcode::Binary, &[7; 200], &mut wire);
        piece(false, Opcode::Continuation, &[7; 200], &mut wire);
        piece(true, Opcode::Close, &[], &mut wire);
        let mut decoder = Decoder::new(Role::Client, 100);
        let (at, item) = decoder.next(&mut wire[..50]);
        assert_eq!(item, Err(Violation::TooBig));
        decoder.discard();
        let mut rest = &mut wire[at..];
        loop {
            assert!(!rest.is_empty(), "the Close was not found");
            let (taken, item) = decoder.next(rest);
            if matches!(item, Ok(Some(Item::Close(..)))) {
                break;
            }
            assert_eq!(item, Ok(None));
            rest = &mut rest[taken..];
        }
    }

    #[test]
    fn after_a_broken_header_nothing_is_found_but_the_close() {
        let key = [0; 4];
        let broken = [
            ("ReservedBit", [&[0xC1, 0x82], &key[..], b"ab"].concat()),
            ("UnknownOpcode(3)", [&[0x83, 0x82], &key[..], b"ab"].concat()),
            ("Unmasked", vec![0x81, 0x02, b'a', b'b']),
            ("FragmentedControl", [&[0x09, 0x82], &key[..], b"ab"].concat()),
            ("LongControl", [&[0x89, 0xFE, 0, 126], &key[..], &[0x88; 126]].concat()),
            ("LengthNotMinimal", [&[0x81, 0xFE, 0, 2], &key[..], b"ab"].concat()),
        ];
        for (violation, mut wire) in broken {
            piece(true, Opcode::Ping, b"x", &mut wire);
            piece(true, Opcode::Text, &[0xFF], &mut wire);
            piece(true, Opcode::Close, &[0x0F, 0xA3, b'x'], &mut wire);
            for step in 1..=wire.len() {
                let seen = decode_on(&wire, step, 1_000);
                assert_eq!(seen.len(), 2, "{violation}, step {step}: {seen:?}");
                assert_eq!(seen[0], violation);
                assert!(seen[1].starts_with("Close(SeenClose { code: Code(CloseCode(4003))"), "{}", seen[1]);
            }
        }
    }

    #[test]
    fn a_close_that_breaks_a_rule_is_a_close_all_the_same() {
        let mut long = [&[0x88, 0xFE, 1, 0], &[0; 4][..], &1000_u16.to_be_bytes()].concat();
        long.extend([b'x'; 254]);
        let closes = [
            (vec![0x88, 0x00], "Unmasked", "NoStatus"),
            ([&[0x08, 0x80], &[0; 4][..]].concat(), "FragmentedControl", "NoStatus"),
            ([&[0xC8, 0x82], &[0; 4][..], &[0x03, 0xE8]].concat(), "ReservedBit", "Code(CloseCode(1000))"),
            (long, "LongControl", "Code(CloseCode(1000))"),
        ];
        for (wire, violation, code) in closes {
            for step in 1..=wire.len() {
                let seen = decode_on(&wire, step, 100);
                assert_eq!((seen.len(), &*seen[0]), (2, violation), "step {step}: {seen:?}");
                assert!(seen[1].starts_with(&format!("Close(SeenClose {{ code: {code}")), "{}", seen[1]);
            }
        }
    }

    proptest! {
        #[test]
        fn any_cut_of_any_text_is_the_same_text(
            text in "\\PC{0,80}",
            fragments in prop::collection::vec(0usize..12, 0..20),
            step in 1usize..50,
        ) {
            let bytes = text.as_bytes();
            let mut wire = Vec::new();
            let (mut at, mut opcode) = (0, Opcode::Text);
            for size in fragments {
                let end = (at + size).min(bytes.len());
                piece(false, opcode, &bytes[at..end], &mut wire);
                (at, opcode) = (end, Opcode::Continuation);
            }
            piece(true, opcode, &bytes[at..], &mut wire);
            prop_assert_eq!(decode(&wire, step, 1000), [format!("text {text}")]);
        }

        #[test]
        fn utf8_is_judged_as_the_standard_library_does(bytes: Vec<u8>, step in 1usize..5) {
            let mut wire = Vec::new();
            piece(true, Opcode::Text, &bytes, &mut wire);
            let expected = match std::str::from_utf8(&bytes) {
                Ok(text) => format!("text {text}"),
                Err(_) => "TextNotUtf8".to_owned(),
            };
            prop_assert_eq!(decode(&wire, step, 1000), [expected]);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>, step in 1usize..9) {
            decode_on(&bytes, step, 64);
        }
    }
}
