//! The bytes: joins a session machine to a connection. The only place that reads, writes and waits.
//!
//! Input is read into a buffer of the thread and decoded in place, as many frames as arrived; what they lead to is
//! written with one call. A connection whose output is stuck is not read.

use crate::buffers::{Input, Output};
use crate::clock::{self, instant, now, since_epoch};
use crate::stream::Io;
use bytes::BufMut as _;
use saywhy_codes::{EndCause, Ending, Loss, SeenClose};
use saywhy_proto::Session as Machine;
use saywhy_proto::session::{State, Step};
use std::io::ErrorKind;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::ReadBuf;
use tokio::time::{Sleep, sleep_until};
use tokio_util::io::poll_read_buf;

/// Frames are put together up to about this size before they are written.
pub(crate) const BATCH_BYTES: usize = 64 * 1024;

/// Bytes that are read after our Close, to find the peer's behind what it had sent already. Who sends more is not read.
const MOST_THROWN_AWAY: u32 = 16 * 1024 * 1024;

/// A machine and the connection that it speaks over.
pub(crate) struct Link {
    io: Io,
    pub(crate) machine: Machine,
    input: Option<Box<Input>>,
    pub(crate) out: Output,
    timer: Option<Pin<Box<Sleep>>>,
    /// When it rings for the task that polls now. Until then nobody looks at it: it is far away in memory.
    rings: Option<Duration>,
    /// Bytes that came after our Close.
    thrown_away: u32,
    /// Nothing can be written any more. What has arrived before that is read all the same: a Close may be among it.
    broken: bool,
    /// Whoever hears knows that it ends.
    ends: bool,
    recorded: bool,
}

/// Whose link it is.
pub(crate) trait Owner {
    /// Moves what waits to be said to the end of the batch. Whether that is all of it.
    fn gather(&mut self, link: &mut Link, cx: &mut Context<'_>, now: Duration) -> bool;

    /// Whether what has arrived has to wait.
    fn is_busy(&self) -> bool {
        false
    }

    /// Takes the record, once.
    fn ended(&mut self, ending: Ending);
}

/// Who hears what arrives.
pub(crate) trait Hear<O: Owner> {
    /// What comes of it.
    type Heard;

    /// Takes some of the bytes, and says how many.
    fn hear(&mut self, link: &mut Link, owner: &O, bytes: &mut [u8], now: Duration) -> (usize, Option<Self::Heard>);

    /// Whether there is room for what comes of more.
    fn has_room(&self) -> bool {
        true
    }

    /// Whether it hears also while what the link has to say is stuck: for those who answer nothing themselves.
    fn hears_while_blocked(&self) -> bool {
        false
    }

    /// The ending has begun, with the peer's Close or without.
    fn ends(&mut self, cause: EndCause, received: Option<&SeenClose>, now: Duration) {
        let _ = (cause, received, now);
    }
}

impl Link {
    /// `early` arrived before; `held` is to be written first.
    pub(crate) fn new(io: Io, machine: Machine, early: Vec<u8>, held: Vec<u8>) -> Self {
        Self {
            io,
            machine,
            input: Input::of(early),
            out: Output::of(held),
            timer: None,
            rings: None,
            thrown_away: 0,
            broken: false,
            ends: false,
            recorded: false,
        }
    }

    /// Another task polls now: the timer has to ring for that one.
    pub(crate) fn moved(&mut self) {
        self.rings = None;
    }

    /// Whether the end has been reached and recorded.
    pub(crate) fn is_over(&self) -> bool {
        self.recorded || self.machine.state() == State::Closed
    }

    /// Messages wait while their handler works. Once the ending has begun they are dropped, but the peer's Close is not.
    fn is_paused<O: Owner, H: Hear<O>>(&self, owner: &O, hear: &H) -> bool {
        (owner.is_busy() || !hear.has_room()) && matches!(self.machine.state(), State::Connecting | State::Open)
    }

    /// Reads until `hear` makes something of it; `None` when the connection has ended. Cancel-safe.
    pub(crate) fn poll<O: Owner, H: Hear<O>>(
        &mut self,
        cx: &mut Context<'_>,
        owner: &mut O,
        hear: &mut H,
    ) -> Poll<Option<H::Heard>> {
        let mut now = now();
        loop {
            if !self.is_paused(owner, hear)
                && let Some(result) = self.decode(owner, hear, now)
            {
                return Poll::Ready(Some(result));
            }
            let blocked = self.poll_write(cx, owner, now).is_pending();
            if !self.ends
                && let Some((cause, received)) = self.machine.ending()
            {
                self.ends = true;
                hear.ends(cause, received, now);
            }
            match self.machine.step() {
                Step::Continue => {}
                Step::Finish => {
                    self.io.end(cx, self.machine.limits().close);
                    self.record(owner);
                    return Poll::Ready(None);
                }
                Step::Abandon => {
                    self.record(owner);
                    return Poll::Ready(None);
                }
            }
            let paused = self.is_paused(owner, hear);
            // Never read a connection whose output is stuck: what it asks for would pile up here.
            let unread = paused || (blocked && !hear.hears_while_blocked());
            if !unread && (self.input.is_some() || self.poll_read(cx).is_ready()) {
                now = clock::now();
                continue;
            }
            // Who has no room will have some, or end.
            let waits = paused && !owner.is_busy();
            if self.broken && !waits && self.machine.state() != State::Closed {
                self.lose(Loss::Reset);
                continue;
            }
            // After all that has arrived was read: who was late is us, perhaps, and the peer's Pong is there already.
            if self.poll_deadline(cx, now, unread).is_pending() {
                // A buffer of the thread's does not wait.
                self.input = self.input.take().and_then(Input::shrink);
                return Poll::Pending;
            }
            now = clock::now();
            self.machine.expire(now);
        }
    }

    /// Decodes what has arrived until `hear` makes something of it, or so much is to be written that it has to leave
    /// first: a few bytes may ask for a lot.
    fn decode<O: Owner, H: Hear<O>>(&mut self, owner: &O, hear: &mut H, now: Duration) -> Option<H::Heard> {
        let mut input = self.input.take()?;
        while input.at < input.end {
            let is_full = self.out.len() >= BATCH_BYTES && !hear.hears_while_blocked();
            if is_full || self.is_paused(owner, hear) {
                self.input = Some(input);
                return None;
            }
            let (taken, heard) = hear.hear(self, owner, &mut input.buffer[input.at..input.end], now);
            input.at += taken;
            if heard.is_some() {
                self.input = Some(input);
                return heard;
            }
        }
        input.give_back();
        None
    }

    /// Writes all there is to write; pending when the peer does not take it.
    fn poll_write<O: Owner>(&mut self, cx: &mut Context<'_>, owner: &mut O, now: Duration) -> Poll<()> {
        let mut progress = false;
        loop {
            let is_all = owner.gather(self, cx, now);
            if self.broken {
                self.out.clear();
                return Poll::Ready(());
            }
            if self.out.is_empty() {
                self.out.clear();
                return self.poll_flush(cx, progress, now);
            }
            while !self.out.is_empty() {
                match self.out.poll_write(self.io.get(), cx) {
                    Poll::Ready(Ok(0) | Err(_)) => {
                        self.broken = true;
                        self.out.clear();
                        return Poll::Ready(());
                    }
                    Poll::Ready(Ok(_)) => progress = true,
                    Poll::Pending => {
                        self.out.settle();
                        self.machine.wrote(true, progress || self.io.took(), now);
                        return Poll::Pending;
                    }
                }
            }
            if is_all {
                return self.poll_flush(cx, progress, now);
            }
        }
    }

    /// What TLS has taken is not on its way yet.
    fn poll_flush(&mut self, cx: &mut Context<'_>, progress: bool, now: Duration) -> Poll<()> {
        let flushed = self.io.poll_flush(cx);
        let took = self.io.took();
        match flushed {
            Poll::Ready(Ok(())) => self.machine.wrote(false, true, now),
            Poll::Ready(Err(_)) => self.broken = true,
            Poll::Pending => {
                self.machine.wrote(true, progress || took, now);
                return Poll::Pending;
            }
        }
        Poll::Ready(())
    }

    fn lose(&mut self, loss: Loss) {
        self.out.clear();
        self.machine.lost(loss);
    }

    /// The error of a reset is told once: a write may have had it.
    fn end_of_input(&mut self) {
        if self.broken { self.lose(Loss::Reset) } else { self.machine.end_of_input() }
    }

    /// FIN without a close_notify is an end of input like any other: frames say themselves whether they are whole, and
    /// a Close whether it came.
    fn unreadable(&mut self, error: &std::io::Error) {
        match error.kind() {
            ErrorKind::UnexpectedEof => self.end_of_input(),
            _ => self.lose(Loss::Reset),
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let io = self.io.get();
        let Some((place, most)) = self.machine.place() else { return self.poll_read_input(cx) };
        match ready!(poll_read_buf(io, cx, &mut place.limit(most))) {
            Ok(0) => self.end_of_input(),
            Ok(read) => self.machine.read_into_place(read, now()),
            Err(error) => self.unreadable(&error),
        }
        Poll::Ready(())
    }

    fn poll_read_input(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.thrown_away >= MOST_THROWN_AWAY {
            // It has our Close, and time until the deadline, which wakes us.
            return Poll::Pending;
        }
        let mut input = Input::spare();
        let most = self.machine.first_read().min(input.buffer.len());
        let mut buffer = ReadBuf::new(&mut input.buffer[..most]);
        let polled = self.io.get().poll_read(cx, &mut buffer);
        let read = buffer.filled().len();
        match polled {
            Poll::Pending => {
                input.give_back();
                return Poll::Pending;
            }
            Poll::Ready(Err(error)) => self.unreadable(&error),
            Poll::Ready(Ok(())) if read == 0 => self.end_of_input(),
            Poll::Ready(Ok(())) => {
                if self.machine.state() == State::Closing {
                    self.thrown_away = self.thrown_away.saturating_add(read as u32);
                }
                input.end = read;
                self.input = Some(input);
                return Poll::Ready(());
            }
        }
        input.give_back();
        Poll::Ready(())
    }

    /// Ready when the machine's deadline has come. The timer is moved only when it rings, or rings too late.
    fn poll_deadline(&mut self, cx: &mut Context<'_>, now: Duration, unread: bool) -> Poll<()> {
        let Some(mut deadline) = self.machine.deadline() else { return Poll::Pending };
        if unread {
            // Nothing is read by our own choice, which is no silence of the peer's.
            self.machine.not_reading(now);
            deadline = self.machine.deadline().unwrap_or(deadline);
        }
        if deadline <= now {
            return Poll::Ready(());
        }
        if self.rings.is_some_and(|rings| now < rings && rings <= deadline) {
            return Poll::Pending;
        }
        let at = instant(deadline);
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(at)));
        if timer.deadline() > at || timer.is_elapsed() {
            timer.as_mut().reset(at);
        }
        if timer.as_mut().poll(cx).is_ready() {
            // It was set for an earlier deadline that has moved since.
            timer.as_mut().reset(at);
            ready!(timer.as_mut().poll(cx));
        }
        self.rings = Some(since_epoch(timer.deadline()));
        Poll::Pending
    }

    /// Gives the record to its owner. The first time counts.
    pub(crate) fn record<O: Owner>(&mut self, owner: &mut O) {
        if !std::mem::replace(&mut self.recorded, true) {
            owner.ended(self.machine.take_ending(now()));
        }
    }
}
