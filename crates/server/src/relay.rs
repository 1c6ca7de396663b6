//! Two connections that are one: what a client says goes to an upstream, and back, frame by frame; and when one of them
//! ends, the other is told why.
//!
//! ```text
//!   client ── Driver: a server's end ──┐   Upwards ──►   ┌── Leg: a client's end ── upstream
//!                                      └── ◄── Downwards ┘
//! ```
//!
//! Nothing waits to be whole: a frame of which a part has come is passed on as a fragment of that part, so a Close can be
//! said at any time. Payload keeps the mask that it came with. Pings and Pongs belong to each side.

use crate::clock::now;
use crate::closing::{passed_on, worded};
use crate::driver::{Desk, Driver};
use crate::session::Session;
use crate::stream::{Duplex, Io};
use crate::transport::{BATCH_BYTES, Hear, Link, Owner};
use http::HeaderMap;
use http::header::SEC_WEBSOCKET_EXTENSIONS;
use rand::Rng as _;
use saywhy_codes::catalogue::{BAD_GATEWAY, INVALID_PAYLOAD, MESSAGE_TOO_BIG, RATE_LIMITED, SERVICE_RESTART, TIMEOUT};
use saywhy_codes::{CloseCode, EndCause, Ending, Loss, Observed, SeenClose};
use saywhy_proto::session::{Mute, Passing};
use saywhy_proto::{Farewell, Limits, Session as Machine};
use std::convert::Infallible;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// A connection to a server of WebSockets whose answer to our opening handshake was valid: all but what goes on in it.
/// Dropped, it is told that the client is gone.
pub struct Upstream {
    leg: Box<Leg>,
    /// The subprotocol that it selected, of those on offer.
    pub(crate) protocol: Option<String>,
    /// The headers of its answer that are for the client.
    pub(crate) headers: HeaderMap,
}

impl Upstream {
    /// Over TCP. `early` is what arrived behind the answer, `limits` are what the upstream may take.
    pub fn tcp(tcp: TcpStream, early: Vec<u8>, limits: Arc<Limits>) -> Self {
        Self::new(Io::Tcp(tcp), early, limits)
    }

    /// Over whatever else carries bytes, such as TLS.
    pub fn over<T>(io: T, early: Vec<u8>, limits: Arc<Limits>) -> Self
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let io: Box<dyn Duplex> = Box::new(io);
        Self::new(Io::Other(io), early, limits)
    }

    fn new(io: Io, early: Vec<u8>, limits: Arc<Limits>) -> Self {
        let now = now();
        let mut machine = Machine::client(limits, || rand::rng().next_u32().to_ne_bytes(), now);
        machine.relays(false);
        machine.ready(now);
        let leg = Box::new(Leg { link: Link::new(io, machine, early, Vec::new()), over: false });
        Self { leg, protocol: None, headers: HeaderMap::new() }
    }

    /// What it answered: the subprotocol that it selected, and the headers that the client gets with the 101. Among them may
    /// be `Sec-WebSocket-Extensions`, with permessage-deflate and nothing else.
    #[must_use]
    pub fn answered(mut self, protocol: Option<String>, headers: HeaderMap) -> Self {
        (self.protocol, self.headers) = (protocol, headers);
        self.leg.link.machine.relays(self.compresses());
        self
    }

    fn compresses(&self) -> bool {
        self.headers.contains_key(SEC_WEBSOCKET_EXTENSIONS)
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream").field("protocol", &self.protocol).finish_non_exhaustive()
    }
}

/// Our end of the connection to the upstream.
struct Leg {
    link: Link,
    over: bool,
}

impl Drop for Leg {
    /// Whatever let go of it: the upstream hears that, and why, as far as it is known.
    fn drop(&mut self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if self.over {
            return;
        }
        self.link.machine.close(gone("The client is gone"), now());
        let nobody = Machine::client(Arc::default(), || [0; 4], now());
        let end = Link::new(Io::Other(Box::new(tokio::io::empty())), nobody, Vec::new(), Vec::new());
        let mut link = std::mem::replace(&mut self.link, end);
        // Its timer would ring for a task that is gone.
        link.moved();
        runtime.spawn(async move { poll_fn(|cx| link.poll(cx, &mut Nobody, &mut Nothing)).await });
    }
}

/// There is nothing to say there but what is passed on, and nobody to tell how it ended but the other side.
struct Nobody;

impl Owner for Nobody {
    fn gather(&mut self, link: &mut Link, _: &mut Context<'_>, now: Duration) -> bool {
        let Link { machine, out, .. } = link;
        if out.is_under_way() {
            return false;
        }
        if machine.has_something_to_say() {
            machine.transmit(true, &Mute, now, out.tail());
        }
        !machine.has_something_to_say()
    }

    fn ended(&mut self, _: Ending) {}
}

/// Passes on what the client says.
struct Upwards<'a> {
    leg: &'a mut Leg,
}

impl Hear<Desk> for Upwards<'_> {
    type Heard = Infallible;

    fn hear(&mut self, client: &mut Link, _: &Desk, bytes: &mut [u8], now: Duration) -> (usize, Option<Infallible>) {
        let (taken, passing) = client.machine.receive_passing(bytes, now);
        let Link { machine, out, .. } = &mut self.leg.link;
        match passing {
            Some(Passing::Piece(piece)) => {
                machine.pass(&piece, out.tail());
            }
            Some(Passing::Run(bytes)) => {
                machine.pass_run(bytes, out.tail());
            }
            Some(Passing::TooFast(first, wait)) => {
                machine.pass_run(first, out.tail());
                // What is left out in the midst of a conversation breaks it: better to end it, and to say so.
                let error = RATE_LIMITED.say("You send messages too fast").retry_after(wait, wait);
                client.machine.close(Farewell::error(error), now);
            }
            None => {}
        }
        (taken, None)
    }

    fn has_room(&self) -> bool {
        self.leg.link.out.len() < BATCH_BYTES
    }

    fn hears_while_blocked(&self) -> bool {
        true
    }

    fn ends(&mut self, cause: EndCause, received: Option<&SeenClose>, now: Duration) {
        let farewell = match (cause, received) {
            (EndCause::PeerClosed, Some(close)) => Farewell::close(passed_on(close)),
            (EndCause::Lost(_), _) => gone("The client is gone"),
            (EndCause::Error(row), _) if row == TIMEOUT => gone("The client is gone"),
            (EndCause::Error(row), _) if row == SERVICE_RESTART => gone("The gateway restarts"),
            _ => gone("The gateway ended the connection"),
        };
        self.leg.link.machine.close(farewell, now);
    }
}

/// Passes on what the upstream says.
struct Downwards<'a> {
    client: &'a mut Driver,
    /// There is something new to be written.
    wrote: bool,
}

impl Hear<Nobody> for Downwards<'_> {
    type Heard = Infallible;

    fn hear(&mut self, leg: &mut Link, _: &Nobody, bytes: &mut [u8], now: Duration) -> (usize, Option<Infallible>) {
        let (taken, passing) = leg.machine.receive_passing(bytes, now);
        let Link { machine, out, .. } = self.client.link();
        match passing {
            Some(Passing::Piece(piece)) => {
                machine.pass(&piece, out.tail());
            }
            Some(Passing::Run(bytes)) => {
                machine.pass_run(bytes, out.tail());
            }
            // It has no rate.
            Some(Passing::TooFast(..)) | None => return (taken, None),
        }
        self.wrote = true;
        (taken, None)
    }

    fn has_room(&self) -> bool {
        self.client.has_room()
    }

    fn hears_while_blocked(&self) -> bool {
        true
    }

    fn ends(&mut self, cause: EndCause, received: Option<&SeenClose>, now: Duration) {
        self.client.machine().close(explain(cause, received), now);
        self.wrote = true;
    }
}

/// Whatever an upstream says, nobody is there.
struct Nothing;

impl Hear<Nobody> for Nothing {
    type Heard = Infallible;

    fn hear(&mut self, leg: &mut Link, _: &Nobody, bytes: &mut [u8], now: Duration) -> (usize, Option<Infallible>) {
        (leg.machine.receive_passing(bytes, now).0, None)
    }
}

/// What a client is told when its upstream is no more.
fn explain(cause: EndCause, received: Option<&SeenClose>) -> Farewell {
    let words = match (cause, received) {
        (EndCause::PeerClosed, Some(close)) => return Farewell::close(passed_on(close)),
        (EndCause::Error(row), Some(SeenClose { code: Observed::Illegal(code), .. })) => {
            let words = "The upstream closed with a code that may not be sent";
            let error = BAD_GATEWAY.say(words).detail("source", "upstream").detail("close_code", i64::from(*code));
            return Farewell::error(error).because(format!("the upstream's Close is {code}: {}", row.get().name));
        }
        (EndCause::Lost(Loss::Eof), _) => "The upstream ended the connection without a Close",
        (EndCause::Lost(Loss::Reset), _) => "The upstream broke the connection off",
        (EndCause::Lost(Loss::WriteTimedOut), _) => "The upstream did not take in time what was sent to it",
        (EndCause::Error(row), _) if row == TIMEOUT => "The upstream does not answer any more",
        (EndCause::Error(row), _) if row == INVALID_PAYLOAD => "The upstream sent text that is not UTF-8",
        (EndCause::Error(row), _) if row == MESSAGE_TOO_BIG => "The upstream sent a message that is too big",
        (EndCause::Error(_), _) => "The upstream broke the WebSocket protocol",
        (EndCause::PeerClosed | EndCause::Finished | EndCause::Unexplained, _) => "The upstream is gone",
    };
    Farewell::error(BAD_GATEWAY.say(words).detail("source", "upstream")).because(cause.label())
}

/// What an upstream is told when its client is no more.
fn gone(words: &'static str) -> Farewell {
    Farewell::close(Some(worded(CloseCode::GOING_AWAY, words)))
}

/// Two connections that are one, until both have ended. Dropped before, it says goodbye to the client.
pub(crate) struct Relay {
    session: Session,
    leg: Box<Leg>,
}

impl Relay {
    pub(crate) fn new(driver: Box<Driver>, upstream: Upstream) -> Self {
        let now = now();
        let compressed = upstream.compresses();
        let Upstream { leg, .. } = upstream;
        let mut session = Session::new(driver);
        let client = session.driver();
        client.connection().ready();
        client.machine().relays(compressed);
        client.machine().ready(now);
        Self { session, leg }
    }
}

impl Future for Relay {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Self { session, leg } = &mut *self;
        poll_relay(cx, session.driver(), leg)
    }
}

fn poll_relay(cx: &mut Context<'_>, client: &mut Driver, leg: &mut Leg) -> Poll<()> {
    loop {
        if !client.is_over() {
            // It hears nothing that would end it: when it is over, it says so itself.
            let _ = client.poll(cx, &mut Upwards { leg });
        }
        if client.is_over() {
            leg.link.machine.close(gone("The client is gone"), now());
        }
        let was_full = leg.link.out.len() >= BATCH_BYTES;
        let mut down = Downwards { client, wrote: false };
        if !leg.over {
            leg.over = leg.link.poll(cx, &mut Nobody, &mut down).is_ready();
        }
        let wrote = down.wrote;
        let made_room = was_full && leg.link.out.len() < BATCH_BYTES;
        match (client.is_over(), leg.over) {
            (true, true) => return Poll::Ready(()),
            (true, _) => return Poll::Pending,
            (false, _) if wrote || made_room => {}
            (false, _) => return Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt as _;
    use tokio::time::timeout;

    /// Its deadlines hold, although the task that polled it before is gone.
    #[tokio::test(start_paused = true)]
    async fn an_upstream_that_is_let_go_of_hears_so_and_is_not_waited_for_for_ever() {
        let (ours, mut theirs) = tokio::io::duplex(4_096);
        let limits = Limits { heartbeat: Duration::from_secs(1), close: Duration::from_secs(3), ..Limits::default() };
        let mut upstream = Upstream::over(ours, Vec::new(), Arc::new(limits));
        let polled = tokio::spawn(async move {
            poll_fn(|cx| {
                assert!(upstream.leg.link.poll(cx, &mut Nobody, &mut Nothing).is_pending());
                Poll::Ready(())
            })
            .await;
            upstream
        });
        drop(polled.await.unwrap());
        let mut said = Vec::new();
        timeout(Duration::from_secs(60), theirs.read_to_end(&mut said)).await.expect("it is ended").unwrap();
        assert_eq!(said[0], 0x88, "a Close and nothing else: {said:?}");
    }
}
