//! A server's end of one connection: what the application has to say, and what it makes of what arrives.

use crate::buffers::Output;
use crate::clock::now;
use crate::closing::Voice;
use crate::connection::Connection;
use crate::house::Visit;
use crate::stream::Io;
use crate::transport::{BATCH_BYTES, Hear, Link, Owner};
use pin_project_lite::pin_project;
use saywhy_codes::Ending;
use saywhy_proto::message::Message;
use saywhy_proto::session::{Delivery, Sent};
use saywhy_proto::{Farewell, Session as Machine, envelope};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

/// One connection with its machine. Dropping it before the end records the ending all the same.
pub(crate) struct Driver {
    link: Link,
    desk: Desk,
}

/// What a server's end knows besides.
pub(crate) struct Desk {
    visit: Visit,
    /// A handler works on a message: no other is read, and no last word but an urgent one goes out before its reply.
    busy: bool,
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
            this.project().driver.desk.busy = false;
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

/// Makes something of whole messages.
struct Messages<F>(F);

impl<R, F: FnMut(Delivery<'_>, &mut Reply<'_>) -> Option<R>> Hear<Desk> for Messages<F> {
    type Heard = R;

    fn hear(&mut self, link: &mut Link, desk: &Desk, bytes: &mut [u8], now: Duration) -> (usize, Option<R>) {
        let (taken, delivery) = link.machine.receive(bytes, now);
        let Some(delivery) = delivery else { return (taken, None) };
        let mut reply = Reply { connection: &desk.visit, machine: &mut link.machine, out: &mut link.out };
        (taken, (self.0)(delivery, &mut reply))
    }
}

impl Driver {
    /// A server's end. `early` arrived with the request; `held` is to be written first. Boxed, because futures hold what
    /// they are given more than once.
    pub(crate) fn new(io: Io, early: Vec<u8>, held: Vec<u8>, visit: Visit) -> Box<Self> {
        let machine = Machine::server(Arc::clone(&visit.settings.limits), visit.started);
        Box::new(Self { link: Link::new(io, machine, early, held), desk: Desk { visit, busy: false } })
    }

    pub(crate) fn connection(&self) -> &Arc<Connection> {
        self.desk.visit.connection()
    }

    pub(crate) fn visit(&self) -> &Visit {
        &self.desk.visit
    }

    pub(crate) fn machine(&mut self) -> &mut Machine {
        &mut self.link.machine
    }

    pub(crate) fn link(&mut self) -> &mut Link {
        &mut self.link
    }

    /// Whether it takes more to be written before some of it has left.
    pub(crate) fn has_room(&self) -> bool {
        self.link.out.len() < BATCH_BYTES
    }

    /// Writes at once, into the batch that leaves with the next write.
    pub(crate) fn reply(&mut self) -> Reply<'_> {
        Reply { connection: &self.desk.visit, machine: &mut self.link.machine, out: &mut self.link.out }
    }

    /// Reads until `hear` makes something of it; ready without anything when the connection has ended.
    pub(crate) fn poll<H: Hear<Desk>>(&mut self, cx: &mut Context<'_>, hear: &mut H) -> Poll<Option<H::Heard>> {
        self.link.poll(cx, &mut self.desk, hear)
    }

    /// Reads until `take` makes something of a message; `None` when the connection has ended. Cancel-safe.
    pub(crate) async fn next<R>(&mut self, take: impl FnMut(Delivery<'_>, &mut Reply<'_>) -> Option<R>) -> Option<R> {
        let mut messages = Messages(take);
        poll_fn(|cx| self.poll(cx, &mut messages)).await
    }

    /// Begins to end a connection that its owner has let go of, perhaps in the midst of a handler's work. What others
    /// asked for comes first.
    pub(crate) fn let_go(&mut self, farewell: Farewell) {
        self.desk.busy = false;
        let asked = self.desk.visit.take_farewell();
        self.link.machine.close(asked.unwrap_or(farewell), now());
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
        // Only a handler that really waits gets here: most are done at the first poll.
        self.desk.busy = true;
        self.poll(cx, &mut Messages(|_: Delivery<'_>, _: &mut Reply<'_>| None::<()>)).map(|_| ())
    }

    /// Whether the end has been reached and recorded.
    pub(crate) fn is_over(&self) -> bool {
        self.link.is_over()
    }
}

impl Owner for Desk {
    /// What waits in the outbox, and what the protocol has to say.
    fn gather(&mut self, link: &mut Link, cx: &mut Context<'_>, now: Duration) -> bool {
        let (mut queue, is_same_task) = self.visit.queue(cx);
        if !is_same_task {
            link.moved();
        }
        let Link { machine, out, .. } = link;
        if let Some(at) = queue.expires.take() {
            machine.expires(at, now);
        }
        if let Some(farewell) = queue.farewell.take() {
            machine.close(*farewell, now);
        }
        if out.is_under_way() {
            // A batch is under way; only whole frames may follow it, and they can wait.
            return false;
        }
        // Not into a message that is passed on and has not ended.
        while out.len() < BATCH_BYTES && machine.accepts_data() && !machine.is_inside_passing() {
            let Some(frame) = queue.pop() else { break };
            machine.send_shared(&frame, out.tail());
        }
        if !machine.accepts_data() {
            queue.clear();
        }
        let is_empty = queue.is_empty();
        drop(queue);
        if machine.has_something_to_say() {
            machine.transmit(is_empty && !self.busy, &Voice(&self.visit), now, out.tail());
        }
        is_empty && !machine.has_something_to_say()
    }

    fn is_busy(&self) -> bool {
        self.busy
    }

    fn ended(&mut self, ending: Ending) {
        self.visit.ended(ending);
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.link.record(&mut self.desk);
    }
}
