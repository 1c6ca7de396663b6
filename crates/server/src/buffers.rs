//! Bytes on their way in and out. Buffers belong to threads and are borrowed while there is something in them: an idle
//! connection holds none.

use crate::stream::Duplex;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// Read buffers are this large.
const INPUT_BYTES: usize = 64 * 1024;
/// Write buffers that are kept for later are at most this large.
const OUTPUT_BYTES: usize = 128 * 1024;
/// A thread keeps this many of each kind for later.
const SPARE_BUFFERS: usize = 4;
/// So many pieces leave with one write.
const SLICES: usize = 16;

thread_local! {
    #[expect(clippy::vec_box, reason = "they come and go as boxes")]
    static SPARE_INPUTS: RefCell<Vec<Box<Input>>> = const { RefCell::new(Vec::new()) };
    static SPARE_OUTPUTS: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Bytes that arrived and are not decoded yet.
pub(crate) struct Input {
    pub(crate) buffer: Box<[u8]>,
    pub(crate) at: usize,
    pub(crate) end: usize,
}

impl Input {
    /// An empty one, to be read into.
    pub(crate) fn spare() -> Box<Self> {
        let spare = SPARE_INPUTS.with_borrow_mut(Vec::pop);
        spare.unwrap_or_else(|| Box::new(Self { buffer: vec![0; INPUT_BYTES].into(), at: 0, end: 0 }))
    }

    /// These bytes, if there are any.
    pub(crate) fn of(bytes: Vec<u8>) -> Option<Box<Self>> {
        let end = bytes.len();
        (end > 0).then(|| Box::new(Self { buffer: bytes.into(), at: 0, end }))
    }

    /// To the thread, for the next that reads.
    pub(crate) fn give_back(mut self: Box<Self>) {
        if self.buffer.len() == INPUT_BYTES {
            (self.at, self.end) = (0, 0);
            SPARE_INPUTS.with_borrow_mut(|spare| {
                if spare.len() < SPARE_BUFFERS {
                    spare.push(self);
                }
            });
        }
    }

    /// Keeps only what is not decoded, when it has to wait and the buffer does not.
    pub(crate) fn shrink(self: Box<Self>) -> Option<Box<Self>> {
        if self.buffer.len() != INPUT_BYTES {
            return Some(self);
        }
        let rest = Self::of(self.buffer[self.at..self.end].to_vec());
        self.give_back();
        rest
    }
}

/// Bytes that are to be written, in order: small frames put together, long payloads as they are.
#[derive(Default)]
pub(crate) struct Output {
    /// What small frames are appended to.
    tail: Vec<u8>,
    /// What goes before it.
    #[expect(clippy::box_collection, reason = "eight bytes of a connection that has none, not 32")]
    ahead: Option<Box<VecDeque<Vec<u8>>>>,
    /// How much of the first of all these is written.
    written: usize,
}

impl Output {
    /// Begins with what was written elsewhere.
    pub(crate) fn of(tail: Vec<u8>) -> Self {
        Self { tail, ahead: None, written: 0 }
    }

    /// What small frames are appended to.
    pub(crate) fn tail(&mut self) -> &mut Vec<u8> {
        if self.tail.capacity() == 0 {
            self.tail = SPARE_OUTPUTS.with_borrow_mut(Vec::pop).unwrap_or_default();
        }
        &mut self.tail
    }

    /// Appends without copying.
    pub(crate) fn append(&mut self, payload: Vec<u8>) {
        let ahead = self.ahead.get_or_insert_default();
        if !self.tail.is_empty() {
            ahead.push_back(std::mem::take(&mut self.tail));
        }
        ahead.push_back(payload);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.tail.is_empty() && self.ahead.is_none()
    }

    /// Bytes that are not written.
    pub(crate) fn len(&self) -> usize {
        let ahead = self.ahead.as_ref().map_or(0, |ahead| ahead.iter().map(Vec::len).sum());
        ahead + self.tail.len() - self.written
    }

    /// Whether a frame may be in the midst of being written.
    pub(crate) fn is_under_way(&self) -> bool {
        self.written > 0
    }

    /// Writes with one call what the connection takes.
    pub(crate) fn poll_write(&mut self, io: Pin<&mut dyn Duplex>, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let written = match &self.ahead {
            None => ready!(io.poll_write(cx, &self.tail[self.written..]))?,
            Some(ahead) => {
                let mut slices = [IoSlice::new(&[]); SLICES];
                let mut count = 0;
                for (slice, bytes) in slices.iter_mut().zip(ahead.iter().chain([&self.tail])) {
                    let from = if count == 0 { self.written } else { 0 };
                    *slice = IoSlice::new(&bytes[from..]);
                    count += 1;
                }
                ready!(io.poll_write_vectored(cx, &slices[..count]))?
            }
        };
        self.advance(written);
        Poll::Ready(Ok(written))
    }

    fn advance(&mut self, mut written: usize) {
        while let Some(ahead) = &mut self.ahead {
            let Some(first) = ahead.front() else {
                self.ahead = None;
                break;
            };
            let left = first.len() - self.written;
            if written < left {
                self.written += written;
                return;
            }
            written -= left;
            self.written = 0;
            ahead.pop_front().into_iter().for_each(give_back);
        }
        self.written += written;
        if self.written == self.tail.len() {
            self.clear();
        }
    }

    /// The connection takes no more for now: what waits is kept in as little memory as it needs.
    pub(crate) fn settle(&mut self) {
        self.tail.shrink_to_fit();
    }

    /// Drops what is not written.
    pub(crate) fn clear(&mut self) {
        self.ahead = None;
        self.written = 0;
        give_back(std::mem::take(&mut self.tail));
    }
}

/// To the thread, for the next that writes.
fn give_back(mut buffer: Vec<u8>) {
    if buffer.capacity() > 0 && buffer.capacity() <= OUTPUT_BYTES {
        buffer.clear();
        SPARE_OUTPUTS.with_borrow_mut(|spare| {
            if spare.len() < SPARE_BUFFERS {
                spare.push(buffer);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

    /// Takes `step` bytes at a time, from one piece or several.
    struct Narrow {
        step: usize,
        took: Vec<u8>,
        calls: usize,
    }

    impl AsyncRead for Narrow {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    impl AsyncWrite for Narrow {
        fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            slices: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).take(self.step).collect();
            self.calls += 1;
            self.took.extend(&bytes);
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn everything_is_written_once_and_in_order_however_little_is_taken_at_a_time() {
        for step in [1, 2, 3, 7, 100, 1_000] {
            let mut io = Narrow { step, took: Vec::new(), calls: 0 };
            let mut cx = Context::from_waker(std::task::Waker::noop());
            let mut output = Output::of(b"held ".to_vec());
            output.tail().extend(b"small ");
            output.append(b"long one ".to_vec());
            output.append(b"long two ".to_vec());
            output.tail().extend(b"small again");
            let whole = b"held small long one long two small again";
            assert_eq!(output.len(), whole.len());
            while !output.is_empty() {
                let left = output.len();
                let Poll::Ready(Ok(written)) = output.poll_write(Pin::new(&mut io), &mut cx) else { panic!() };
                assert_eq!(output.len(), left - written);
                output.settle();
            }
            assert_eq!(io.took, whole);
            assert!(io.calls == whole.len().div_ceil(step) && !output.is_under_way() && output.tail.capacity() == 0);
        }
    }
}
