//! One direction of a connection: frames in, bytes out, no sooner and no faster than they may.

use crate::fault::Side;
use crate::fault::line::Piece;
use saywhy_codes::Role;
use saywhy_proto::frame::{FrameReader, Header, MAX_HEADER, Piece as FramePiece};
use std::collections::VecDeque;
use std::time::Duration;

/// Bytes that wait here while the source is read on.
const QUEUE_BYTES: usize = 1024 * 1024;
/// Between two slices, so that each is a packet of its own.
const SLICE_TIME: Duration = Duration::from_millis(1);
/// A limited rate is that of writes so far apart.
const RATE_TIME: Duration = Duration::from_millis(20);

/// What goes to one side.
pub(crate) struct Lane {
    reader: Reader,
    /// An unfinished header, which is kept back until it can be judged.
    head: Vec<u8>,
    current: Option<(Header, u64)>,
    is_in_message: bool,
    /// What came for this side since the handshake, whatever became of it.
    pub(crate) bytes: u64,
    /// Whole ones.
    pub(crate) messages: u64,
    queue: VecDeque<Chunk>,
    queued_bytes: usize,
    /// How long what comes now is held up.
    pub(crate) delay: Duration,
    /// When the last of the queue is due: nothing overtakes.
    last_due: Duration,
    pub(crate) bytes_per_s: Option<u64>,
    pub(crate) slice_bytes: Option<usize>,
    free_at: Duration,
}

enum Reader {
    Frames(FrameReader),
    /// It is no WebSocket, or breaks its rules by itself: bytes.
    Opaque,
}

struct Chunk {
    due: Duration,
    bytes: Vec<u8>,
    written: usize,
}

/// What is next in the bytes of a lane.
pub(crate) enum Next<'a> {
    /// A part of a frame.
    Piece(Piece<'a>),
    /// Bytes without a meaning.
    Bytes(Vec<u8>),
    /// A header that is not whole yet.
    Nothing,
}

impl Lane {
    pub(crate) fn new(to: Side) -> Self {
        let sender = match to {
            Side::Client => Role::Server,
            Side::Server => Role::Client,
        };
        Self {
            reader: Reader::Frames(FrameReader::new(sender)),
            head: Vec::new(),
            current: None,
            is_in_message: false,
            bytes: 0,
            messages: 0,
            queue: VecDeque::new(),
            queued_bytes: 0,
            delay: Duration::ZERO,
            last_due: Duration::ZERO,
            bytes_per_s: None,
            slice_bytes: None,
            free_at: Duration::ZERO,
        }
    }

    /// From now on it is bytes.
    pub(crate) fn stop_reading(&mut self) {
        self.reader = Reader::Opaque;
        self.current = None;
    }

    pub(crate) fn allow_compression(&mut self) {
        if let Reader::Frames(reader) = &mut self.reader {
            reader.allow_compression();
        }
    }

    /// What is next in `bytes`, and how many of them it took. A frame that breaks the rules makes bytes of all that follows.
    pub(crate) fn next<'a>(&mut self, bytes: &'a mut [u8], head: &'a mut Vec<u8>) -> (usize, Next<'a>) {
        let Reader::Frames(reader) = &mut self.reader else {
            let mut all = self.unfinished_head();
            all.extend_from_slice(bytes);
            return (bytes.len(), Next::Bytes(all));
        };
        // Which of them are a header is known only when they were taken, and then the payload is borrowed.
        let start = bytes.get(..MAX_HEADER).unwrap_or(bytes).to_vec();
        match reader.next(bytes) {
            Err(_) => {
                // Asked again, it hands out bytes.
                self.stop_reading();
                (0, Next::Nothing)
            }
            Ok((taken, None)) => {
                self.head.extend(start.iter().take(taken));
                (taken, Next::Nothing)
            }
            Ok((taken, Some(piece))) => {
                self.head.extend(start.iter().take(taken - piece.payload.len()));
                *head = std::mem::take(&mut self.head);
                let (is_last, is_data) = (piece.is_last(), !piece.header.opcode.is_control());
                let FramePiece { header, is_first, offset, payload } = piece;
                let begins_message = is_data && is_first && !self.is_in_message;
                let ends_message = is_data && is_last && header.fin;
                if is_data {
                    self.is_in_message = !ends_message;
                }
                self.current = (!is_last).then(|| (header, offset + payload.len() as u64));
                let piece = Piece {
                    header,
                    head,
                    payload,
                    offset,
                    is_first,
                    is_last,
                    begins_message,
                    ends_message,
                    fate: Default::default(),
                };
                (taken, Next::Piece(piece))
            }
        }
    }

    /// What of a header has come, when no more of it will be waited for.
    pub(crate) fn unfinished_head(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.head)
    }

    /// Whether a frame of a message has passed by half, and not as a whole.
    pub(crate) fn is_past_half(&self) -> bool {
        self.current.is_some_and(|(header, passed)| !header.opcode.is_control() && passed >= header.len / 2)
    }

    /// Whether a message, or a frame, has begun to pass and not ended.
    pub(crate) fn is_in_message(&self) -> bool {
        self.current.is_some() || self.is_in_message
    }

    /// Bytes are on their way from now on.
    pub(crate) fn push(&mut self, bytes: &[u8], now: Duration) {
        if bytes.is_empty() {
            return;
        }
        let due = (now + self.delay).max(self.last_due);
        self.last_due = due;
        self.queued_bytes += bytes.len();
        match self.queue.back_mut() {
            Some(last) if last.due == due => last.bytes.extend_from_slice(bytes),
            _ => self.queue.push_back(Chunk { due, bytes: bytes.to_vec(), written: 0 }),
        }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.queued_bytes >= QUEUE_BYTES
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// What may be written now.
    pub(crate) fn due(&self, now: Duration) -> Option<&[u8]> {
        let front = self.queue.front().filter(|front| front.due <= now && self.free_at <= now)?;
        let most = self.write_bytes().min(front.bytes.len() - front.written);
        front.bytes.get(front.written..front.written + most)
    }

    /// So much of it was.
    pub(crate) fn wrote(&mut self, bytes: usize, now: Duration) {
        let Some(front) = self.queue.front_mut() else { return };
        front.written += bytes;
        self.queued_bytes = self.queued_bytes.saturating_sub(bytes);
        if front.written >= front.bytes.len() {
            self.queue.pop_front();
        }
        if self.slice_bytes.is_some() {
            self.free_at = now + SLICE_TIME;
        }
        if let Some(rate) = self.bytes_per_s {
            let takes = Duration::from_nanos((bytes as u64).saturating_mul(1_000_000_000) / rate.max(1));
            self.free_at = self.free_at.max(now + takes);
        }
    }

    /// When something may be written, if something waits.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        self.queue.front().map(|front| front.due.max(self.free_at))
    }

    /// Bytes of a write.
    fn write_bytes(&self) -> usize {
        let rate = self.bytes_per_s.map_or(usize::MAX, |rate| {
            usize::try_from(rate.saturating_mul(RATE_TIME.as_millis() as u64) / 1_000).unwrap_or(usize::MAX)
        });
        self.slice_bytes.unwrap_or(usize::MAX).min(rate).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Writes of a lane and when they were made, as soon as they could be.
    fn writes(lane: &mut Lane) -> Vec<(u64, usize)> {
        let mut all = Vec::new();
        while let Some(at) = lane.deadline() {
            let bytes = lane.due(at).unwrap().len();
            lane.wrote(bytes, at);
            all.push((at.as_millis() as u64, bytes));
        }
        all
    }

    #[test]
    fn nothing_overtakes_what_was_held_up() {
        let mut lane = Lane::new(Side::Client);
        lane.delay = ms(500);
        lane.push(b"slow", ms(0));
        lane.delay = ms(0);
        lane.push(b"fast", ms(1));
        assert_eq!(lane.due(ms(499)), None);
        assert_eq!(lane.due(ms(500)), Some(b"slowfast".as_slice()));
    }

    #[test]
    fn slices_and_a_rate() {
        let mut lane = Lane::new(Side::Client);
        lane.slice_bytes = Some(2);
        lane.push(b"12345", ms(0));
        assert_eq!(writes(&mut lane), [(0, 2), (1, 2), (2, 1)]);
        let mut lane = Lane::new(Side::Client);
        lane.bytes_per_s = Some(1_000);
        lane.push(&[0; 50], ms(0));
        assert_eq!(writes(&mut lane), [(0, 20), (20, 20), (40, 10)]);
        let mut slowest = Lane::new(Side::Client);
        slowest.bytes_per_s = Some(1);
        slowest.push(b"ab", ms(0));
        assert_eq!(writes(&mut slowest), [(0, 1), (1_000, 1)]);
    }

    #[test]
    fn who_is_full_is_not_read() {
        let mut lane = Lane::new(Side::Client);
        lane.push(&vec![0; QUEUE_BYTES], ms(0));
        assert!(lane.is_full());
        lane.wrote(1, ms(0));
        assert!(!lane.is_full() && !lane.is_empty());
    }
}
