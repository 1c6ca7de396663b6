//! The bytes: joins a session machine to a connection. The only place that reads, writes and waits.
//!
//! Input is read into a buffer of the thread and decoded in place, as many frames as arrived; what they lead to is
//! written with one call. A connection whose output is stuck is not read.

use crate::buffers::{Input, Output};
use crate::clock::{self, instant, now, since_epoch};
use crate::closing::Voice;
use crate::connection::Connection;
use crate::house::Visit;
use crate::stream::Io;
use bytes::BufMut as _;
use pin_project_lite::pin_project;
use saywhy_codes::Loss;
use saywhy_proto::message::Message;
use saywhy_proto::session::{Delivery, Sent, State, Step};
use saywhy_proto::{Farewell, Session as Machine, envelope};
use std::future::{Future, poll_fn};
use std::io::ErrorKind;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::ReadBuf;
use tokio::time::{Sleep, sleep_until};
use tokio_util::io::poll_read_buf;

/// Frames of the outbox are put together up to about this size before they are written.
const BATCH_BYTES: usize = 64 * 1024;

/// Bytes that are read after our Close, to find the peer's behind what it had sent already. Who sends more is not read.
const MOST_THROWN_AWAY: u32 = 16 * 1024 * 1024;

/// One connection with its machine. Dropping it before the end records the ending all the same.
pub(crate) struct Driver {
    io: Io,
    machine: Machine,
    visit: Visit,
    input: Option<Box<Input>>,
    out: Output,
    timer: Option<Pin<Box<Sleep>>>,
    /// When it rings for the task that polls now. Until then nobody looks at it: it is far away in memory.
    rings: Option<Duration>,
    /// A handler works on a message: no other is read, and no last word but an urgent one goes out before its reply.
    busy: bool,
    recorded: bool,
    /// Bytes that came after our Close.
    thrown_away: u32,
}

/// What a sync callback may do while messages are decoded: write at once, into the batch.
pub(crate) struct Reply<'a> {
    pub(crate) connection: &'a Connection,
    machine: &'a mut Machine,
    out: &'a mut Output,
}

impl Reply<'_> {
    pub(crate) fn send(&mut self, message: Message<'_>) -> bool {
        match self.machine.send_owned(message, self.out.tail()) {
            Sent::Whole => true,
            Sent::Apart(payload) => {
                self.out.append(payload);
                true
            }
            Sent::Not => false,
        }
    }

    pub(crate) fn text(&mut self, text: &str) -> bool {
        self.send(Message::Text(text.into()))
    }

    /// Answers a `ping` of the envelope.
    pub(crate) fn pong(&mut self, request_id: Option<&str>) {
        if self.connection.json {
            let pong = envelope::message("pong", &serde_json::Map::new(), request_id, &jiff::Timestamp::now());
            // Nothing in it that could not be serialised.
            self.text(&pong.unwrap_or_default());
        }
    }

    pub(crate) fn fault(&mut self) {
        self.machine.fault(now());
    }

    pub(crate) fn close(&mut self, farewell: Farewell) {
        self.machine.close(farewell, now());
    }
}

pin_project! {
    /// A handler's work, while its connection is kept alive. No `async fn`: that would hold the work twice.
    pub(crate) struct During<'a, F> {
        driver: &'a mut Driver,
        #[pin]
        work: F,
    }

    impl<F> PinnedDrop for During<'_, F> {
        fn drop(this: Pin<&mut Self>) {
            this.project().driver.busy = false;
        }
    }
}

impl<F: Future> Future for During<'_, F> {
    type Output = Option<F::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        match this.work.poll(cx) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending => this.driver.poll_busy(cx).map(|()| None),
        }
    }
}

impl Driver {
    /// A server's end. `early` arrived with the request; `held` is to be written first. Boxed, because futures hold what
    /// they are given more than once.
    pub(crate) fn new(io: Io, early: Vec<u8>, held: Vec<u8>, visit: Visit) -> Box<Self> {
        let machine = Machine::server(Arc::clone(&visit.settings.limits), visit.started);
        Box::new(Self {
            io,
            machine,
            visit,
            input: Input::of(early),
            out: Output::of(held),
            timer: None,
            rings: None,
            busy: false,
            recorded: false,
            thrown_away: 0,
        })
    }

    pub(crate) fn connection(&self) -> &Arc<Connection> {
        self.visit.connection()
    }

    pub(crate) fn visit(&self) -> &Visit {
        &self.visit
    }

    pub(crate) fn machine(&mut self) -> &mut Machine {
        &mut self.machine
    }

    /// Writes at once, into the batch that leaves with the next write.
    pub(crate) fn reply(&mut self) -> Reply<'_> {
        Reply { connection: &self.visit, machine: &mut self.machine, out: &mut self.out }
    }

    /// Reads until `take` makes something of a message; `None` when the connection has ended. Cancel-safe.
    pub(crate) async fn next<R>(
        &mut self,
        mut take: impl FnMut(Delivery<'_>, &mut Reply<'_>) -> Option<R>,
    ) -> Option<R> {
        poll_fn(|cx| self.poll_next(cx, &mut take)).await
    }

    /// Begins to end a connection that its owner has let go of, perhaps in the midst of a handler's work. What others
    /// asked for comes first.
    pub(crate) fn let_go(&mut self, farewell: Farewell) {
        self.busy = false;
        let asked = self.visit.take_farewell();
        self.machine.close(asked.unwrap_or(farewell), now());
    }

    /// Runs to the end, whatever the peer still says.
    pub(crate) async fn finish(&mut self) {
        let _: Option<()> = self.next(|_, _| None).await;
    }

    /// Lets a handler work while the connection is kept alive: output, heartbeats and deadlines, but no input.
    /// `None` when the connection ended before the handler did.
    pub(crate) fn during<F: Future>(&mut self, work: F) -> During<'_, F> {
        During { driver: self, work }
    }

    /// Keeps the connection alive while a handler waits; ready when there is none any more.
    fn poll_busy(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.busy {
            // Only a handler that really waits gets here: most are done at the first poll.
            self.busy = true;
            self.input = self.input.take().and_then(Input::shrink);
        }
        self.poll_next(cx, &mut |_, _| None::<()>).map(|_| ())
    }

    /// Messages wait while a handler works. Once the ending has begun they are dropped, but the peer's Close is not.
    fn is_paused(&self) -> bool {
        self.busy && matches!(self.machine.state(), State::Connecting | State::Open)
    }

    fn poll_next<R>(
        &mut self,
        cx: &mut Context<'_>,
        take: &mut impl FnMut(Delivery<'_>, &mut Reply<'_>) -> Option<R>,
    ) -> Poll<Option<R>> {
        let mut now = now();
        loop {
            if !self.is_paused()
                && let Some(result) = self.decode(take, now)
            {
                return Poll::Ready(Some(result));
            }
            let blocked = self.poll_write(cx, now).is_pending();
            match self.machine.step() {
                Step::Continue => {}
                Step::Finish => {
                    self.io.end(cx, self.visit.settings.limits.close);
                    self.record();
                    return Poll::Ready(None);
                }
                Step::Abandon => {
                    self.record();
                    return Poll::Ready(None);
                }
            }
            // Never read a connection whose output is stuck: what it asks for would pile up here.
            if !self.is_paused() && !blocked && (self.input.is_some() || self.poll_read(cx).is_ready()) {
                now = clock::now();
                continue;
            }
            // After all that has arrived was read: who was late is us, perhaps, and the peer's Pong is there already.
            if self.poll_deadline(cx, now, blocked).is_pending() {
                return Poll::Pending;
            }
            now = clock::now();
            self.machine.expire(now);
        }
    }

    /// Decodes what has arrived until `take` makes something of it, or so much is to be written that it has to leave
    /// first: a few bytes may ask for a lot.
    fn decode<R>(
        &mut self,
        take: &mut impl FnMut(Delivery<'_>, &mut Reply<'_>) -> Option<R>,
        now: Duration,
    ) -> Option<R> {
        let mut input = self.input.take()?;
        while input.at < input.end {
            if self.out.len() >= BATCH_BYTES {
                self.input = Some(input);
                return None;
            }
            let (taken, delivery) = self.machine.receive(&mut input.buffer[input.at..input.end], now);
            input.at += taken;
            let Some(delivery) = delivery else { continue };
            let mut reply = Reply { connection: &self.visit, machine: &mut self.machine, out: &mut self.out };
            if let Some(result) = take(delivery, &mut reply) {
                self.input = Some(input);
                return Some(result);
            }
        }
        input.give_back();
        None
    }

    /// Writes all there is to write; pending when the peer does not take it.
    fn poll_write(&mut self, cx: &mut Context<'_>, now: Duration) -> Poll<()> {
        let mut progress = false;
        loop {
            let is_all = self.gather(cx, now);
            if self.out.is_empty() {
                self.out.clear();
                return self.poll_flush(cx, progress, now);
            }
            while !self.out.is_empty() {
                match self.out.poll_write(self.io.get(), cx) {
                    Poll::Ready(Ok(0) | Err(_)) => {
                        self.lose(Loss::Reset);
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
            Poll::Ready(Err(_)) => self.lose(Loss::Reset),
            Poll::Pending => {
                self.machine.wrote(true, progress || took, now);
                return Poll::Pending;
            }
        }
        Poll::Ready(())
    }

    /// Moves what waits in the outbox, and what the protocol has to say, to the end of the batch. Whether that is all.
    fn gather(&mut self, cx: &mut Context<'_>, now: Duration) -> bool {
        let (mut queue, is_same_task) = self.visit.queue(cx);
        if !is_same_task {
            self.rings = None;
        }
        if let Some(at) = queue.expires.take() {
            self.machine.expires(at, now);
        }
        if let Some(farewell) = queue.farewell.take() {
            self.machine.close(*farewell, now);
        }
        if self.out.is_under_way() {
            // A batch is under way; only whole frames may follow it, and they can wait.
            return false;
        }
        while self.out.len() < BATCH_BYTES && self.machine.accepts_data() {
            let Some(frame) = queue.pop() else { break };
            self.machine.send_shared(&frame, self.out.tail());
        }
        if !self.machine.accepts_data() {
            queue.clear();
        }
        let is_empty = queue.is_empty();
        drop(queue);
        if self.machine.has_something_to_say() {
            self.machine.transmit(is_empty && !self.busy, &Voice(&self.visit), now, self.out.tail());
        }
        is_empty && !self.machine.has_something_to_say()
    }

    fn lose(&mut self, loss: Loss) {
        self.out.clear();
        self.machine.lost(loss);
    }

    /// FIN without a close_notify is an end of input like any other: frames say themselves whether they are whole, and
    /// a Close whether it came.
    fn unreadable(&mut self, error: &std::io::Error) {
        match error.kind() {
            ErrorKind::UnexpectedEof => self.machine.end_of_input(),
            _ => self.lose(Loss::Reset),
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let io = self.io.get();
        let Some((place, most)) = self.machine.place() else { return self.poll_read_input(cx) };
        match ready!(poll_read_buf(io, cx, &mut place.limit(most))) {
            Ok(0) => self.machine.end_of_input(),
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
            Poll::Ready(Ok(())) if read == 0 => self.machine.end_of_input(),
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
    fn poll_deadline(&mut self, cx: &mut Context<'_>, now: Duration, blocked: bool) -> Poll<()> {
        let Some(mut deadline) = self.machine.deadline() else { return Poll::Pending };
        if self.is_paused() || blocked {
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

    fn record(&mut self) {
        if !std::mem::replace(&mut self.recorded, true) {
            self.visit.ended(self.machine.take_ending(now()));
        }
    }

    /// Whether the end has been reached and recorded.
    pub(crate) fn is_over(&self) -> bool {
        self.recorded || self.machine.state() == State::Closed
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.record();
    }
}
