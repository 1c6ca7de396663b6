//! A machine and its socket: what one session reads, writes and waits for.

use crate::error::{Close, Error};
use rand::Rng as _;
use saywhy_codes::{CloseCode, CloseFrame, CloseReason, EndCause, Loss, Role};
use saywhy_proto::message::Message;
use saywhy_proto::session::{Mute, Step};
use saywhy_proto::{Farewell, Limits, Session};
use std::future::{Future as _, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// What carries the bytes: TCP, or TLS over it.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

/// Read at a time.
const READ_BYTES: usize = 16 * 1024;

/// A whole message.
#[derive(Debug)]
pub(crate) enum Heard {
    Text(String),
    Binary(Vec<u8>),
}

pub(crate) struct Socket {
    io: Box<dyn Duplex>,
    machine: Session,
    /// What has arrived and was not looked at yet, from `looked` on.
    input: Vec<u8>,
    looked: usize,
    /// What is to be written, from `written` on.
    out: Vec<u8>,
    written: usize,
    timer: Pin<Box<Sleep>>,
    epoch: Instant,
    /// How it ended, once it has.
    over: Option<Error>,
}

impl Socket {
    /// `early` is what arrived behind the answer to the handshake.
    pub(crate) fn new(io: Box<dyn Duplex>, early: Vec<u8>, limits: Arc<Limits>) -> Self {
        let epoch = Instant::now();
        // RFC 6455 §5.3: keys that nobody can predict.
        let machine = Session::client(limits, || rand::rng().next_u32().to_ne_bytes(), Duration::ZERO);
        let timer = Box::pin(sleep_until(epoch));
        Self { io, machine, input: early, looked: 0, out: Vec::new(), written: 0, timer, epoch, over: None }
    }

    /// How old it is.
    pub(crate) fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    /// It is open: from here on its messages may be as long as the limits say.
    pub(crate) fn ready(&mut self) {
        self.machine.ready(self.now());
    }

    /// Puts a message behind what is to be written; false when it is too late for one.
    pub(crate) fn send(&mut self, message: &Message<'_>) -> bool {
        self.machine.send(message, &mut self.out)
    }

    /// Bytes that wait to be written.
    pub(crate) fn backlog(&self) -> usize {
        self.out.len() - self.written
    }

    /// Begins the closing handshake: it is over when [`Self::hear`] says so.
    ///
    /// # Errors
    /// `cannot_connect` on a code that a client may not send.
    pub(crate) fn close(&mut self, code: u16, reason: &str) -> Result<(), Error> {
        let code = CloseCode::new(code, Role::Client).map_err(|_| Error::unsendable(code))?;
        let frame = CloseFrame { code, reason: CloseReason::cut(reason) };
        self.machine.close(Farewell::close(Some(frame)), self.now());
        Ok(())
    }

    /// Whether it is too late for another message.
    pub(crate) fn is_closing(&self) -> bool {
        self.over.is_some() || !self.machine.accepts_data()
    }

    /// It is over, and that is why, unless it was before.
    pub(crate) fn give_up(&mut self, why: Error) -> Error {
        self.over.get_or_insert(why).clone()
    }

    /// The next message; the same error from the end on. Writes what is to be written meanwhile. Cancel-safe.
    ///
    /// `None` as soon as fewer bytes than `below` wait to be written, when there were more.
    pub(crate) async fn hear(&mut self, below: usize) -> Result<Option<Heard>, Error> {
        let had_more = self.backlog() >= below;
        poll_fn(|cx| self.poll_hear(cx, if had_more { below } else { 0 })).await
    }

    fn poll_hear(&mut self, cx: &mut Context<'_>, below: usize) -> Poll<Result<Option<Heard>, Error>> {
        if let Some(error) = &self.over {
            return Poll::Ready(Err(error.clone()));
        }
        loop {
            if let Some(heard) = self.decode() {
                return Poll::Ready(Ok(Some(heard)));
            }
            let now = self.now();
            if self.machine.deadline().is_some_and(|deadline| deadline <= now) {
                self.machine.expire(now);
            }
            // The last word waits until what is in front of it has left.
            let is_empty = self.backlog() == 0;
            self.machine.transmit(is_empty, &Mute, now, &mut self.out);
            self.write(cx, now);
            if self.backlog() == 0 && self.machine.has_something_to_say() && !is_empty {
                continue;
            }
            if self.machine.step() != Step::Continue {
                return Poll::Ready(Err(self.ended()));
            }
            if self.backlog() < below {
                return Poll::Ready(Ok(None));
            }
            if self.read(cx).is_ready() {
                continue;
            }
            let Some(deadline) = self.machine.deadline() else { return Poll::Pending };
            self.timer.as_mut().reset(self.epoch + deadline);
            if self.timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    fn decode(&mut self) -> Option<Heard> {
        while self.looked < self.input.len() {
            let now = self.now();
            let (taken, delivery) = self.machine.receive(&mut self.input[self.looked..], now);
            self.looked += taken;
            if let Some(delivery) = delivery {
                return Some(match delivery.message {
                    Message::Text(text) => Heard::Text(text.into_owned()),
                    Message::Binary(bytes) => Heard::Binary(bytes.into_owned()),
                });
            }
            if taken == 0 {
                break;
            }
        }
        self.input.drain(..self.looked);
        self.looked = 0;
        None
    }

    fn write(&mut self, cx: &mut Context<'_>, now: Duration) {
        let mut progress = false;
        while self.written < self.out.len() {
            match Pin::new(&mut self.io).poll_write(cx, &self.out[self.written..]) {
                Poll::Ready(Ok(bytes)) if bytes > 0 => {
                    self.written += bytes;
                    progress = true;
                }
                Poll::Ready(_) => return self.machine.lost(Loss::Reset),
                Poll::Pending => break,
            }
        }
        let waits = self.written < self.out.len();
        if !waits {
            self.out.clear();
            self.written = 0;
            // TLS may hold some of it back.
            if let Poll::Ready(Err(_)) = Pin::new(&mut self.io).poll_flush(cx) {
                return self.machine.lost(Loss::Reset);
            }
        }
        self.machine.wrote(waits, progress, now);
    }

    fn read(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut space = [std::mem::MaybeUninit::uninit(); READ_BYTES];
        let mut buffer = ReadBuf::uninit(&mut space);
        match ready!(Pin::new(&mut self.io).poll_read(cx, &mut buffer)) {
            Ok(()) if buffer.filled().is_empty() => self.machine.end_of_input(),
            Ok(()) => self.input.extend_from_slice(buffer.filled()),
            Err(_) => self.machine.lost(Loss::Reset),
        }
        Poll::Ready(())
    }

    fn ended(&mut self) -> Error {
        let ending = self.machine.take_ending(self.now());
        let error = match (ending.received, ending.cause) {
            (Some(close), _) => {
                Error::closed(Close { code: close.code.as_u16(), reason: close.reason.as_str().to_owned() })
            }
            (None, EndCause::Lost(Loss::Eof)) => Error::lost("The server ended the connection without a Close"),
            (None, EndCause::Lost(Loss::Reset)) => Error::lost("The connection was broken off"),
            (None, EndCause::Lost(Loss::WriteTimedOut)) => Error::lost("The server takes nothing any more"),
            (None, EndCause::Error(row)) => Error::lost(format!("The connection was given up: {}", row.message)),
            (None, EndCause::Finished | EndCause::PeerClosed | EndCause::Unexplained) => {
                Error::lost("The server did not answer the Close")
            }
        };
        self.over = Some(error.clone());
        error
    }
}
