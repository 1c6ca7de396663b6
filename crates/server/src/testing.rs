//! For your own tests: a session and its client, joined in memory, with real frames in between.

use crate::clock::now;
use crate::connection::Asked;
use crate::driver::Driver;
use crate::gate::Gate;
use crate::session::{self, Session};
use crate::settings::Settings;
use crate::stream::Io;
use saywhy_codes::Ending;
use saywhy_proto::message::Message;
use saywhy_proto::session::{Mute, Step};
use saywhy_proto::{Farewell, Limits, Session as Machine};
use serde_json::Value;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

/// Runs `session` as if a client had connected, and returns that client.
///
/// ```
/// # use saywhy::{Failure, Handler, catalogue::NOT_FOUND};
/// # struct Rooms;
/// # #[derive(serde::Deserialize)]
/// # #[serde(tag = "type", content = "data", rename_all = "snake_case")]
/// # enum Command { Join { room: String } }
/// # impl Handler for Rooms {
/// #     type Command = Command;
/// #     type Event = ();
/// #     async fn on_message(&mut self, _: Command) -> Result<(), Failure> { Err(Failure::reply(NOT_FOUND)) }
/// # }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let mut client = saywhy::testing::pipe(|session| session.serve(Rooms));
/// assert_eq!(client.next().await.unwrap()["type"], "ready");
/// client.send(r#"{"type":"join","data":{"room":"x"},"meta":{"request_id":"1"}}"#).await;
/// assert_eq!(client.next().await.unwrap()["data"]["name"], "not_found");
/// assert_eq!(client.leave().await.to_string().split(" after").next(), Some("ended by us, done"));
/// # }
/// ```
pub fn pipe<F, R>(session: F) -> Client
where
    F: FnOnce(Session) -> R + Send + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    pipe_with(Settings::default(), session)
}

/// As [`pipe`], with settings of your own.
pub fn pipe_with<F, R>(settings: Settings, session: F) -> Client
where
    F: FnOnce(Session) -> R + Send + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    let (near, far) = tokio::io::duplex(64 * 1024);
    let envelope = settings.envelope;
    let gate = Gate::new(settings);
    let visit = gate.visit(Asked { path: "/".into(), peer: None, http2: false, secure: None }, envelope);
    let connection = Arc::clone(visit.connection());
    // A house of its own has nobody who could be in the way.
    let _ = visit.enter();
    let driver = Driver::new(Io::Other(Box::new(far)), Vec::new(), Vec::new(), visit);
    let task = tokio::spawn(session::run(Session::new(driver), session)).abort_handle();
    let _ = connection.task.set(task);
    // The settings are those of the server: they must not keep the client from hearing what it says.
    let limits = Limits { message_bytes: usize::MAX, messages_per_s: 0, ..Limits::default() };
    let mut machine = Machine::client(Arc::new(limits), rand::random, now());
    machine.ready(now());
    Client { io: near, machine, gate, input: Vec::new() }
}

/// The other end of a [`pipe`].
pub struct Client {
    io: DuplexStream,
    machine: Machine,
    gate: Gate,
    input: Vec<u8>,
}

impl Client {
    /// The gate that the session came through: to drain it, or to find the session's outbox.
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Sends a text message. When the session has ended it does nothing.
    pub async fn send(&mut self, text: &str) {
        let mut out = Vec::new();
        self.machine.send(&Message::Text(text.into()), &mut out);
        self.write(out).await;
    }

    /// The next message; `None` when the session has ended.
    ///
    /// # Panics
    /// When the server sends what is not JSON.
    #[expect(clippy::expect_used, reason = "a test that fails is what it is for")]
    pub async fn next(&mut self) -> Option<Value> {
        loop {
            let mut at = 0;
            let mut found = None;
            while found.is_none() && at < self.input.len() {
                let (taken, delivery) = self.machine.receive(&mut self.input[at..], now());
                at += taken;
                if let Some(Message::Text(text)) = delivery.map(|delivery| delivery.message) {
                    found = Some(serde_json::from_str(&text).expect("the server sends JSON"));
                }
            }
            self.input.drain(..at);
            if found.is_some() {
                return found;
            }
            self.write(Vec::new()).await;
            if self.machine.step() != Step::Continue {
                return None;
            }
            let deadline = self.machine.deadline().unwrap_or(Duration::MAX).saturating_sub(now());
            match tokio::time::timeout(deadline, self.io.read_buf(&mut self.input)).await {
                Ok(Ok(0) | Err(_)) => self.machine.end_of_input(),
                Ok(Ok(_)) => {}
                Err(_) => self.machine.expire(now()),
            }
        }
    }

    /// Reads to the end, and says how it ended, as the client saw it.
    pub async fn ending(mut self) -> Ending {
        while self.next().await.is_some() {}
        self.machine.take_ending(now())
    }

    /// Closes, and says how that went.
    pub async fn leave(mut self) -> Ending {
        self.machine.close(Farewell::done(), now());
        self.ending().await
    }

    async fn write(&mut self, mut out: Vec<u8>) {
        self.machine.transmit(true, &Mute, now(), &mut out);
        if self.io.write_all(&out).await.is_err() {
            self.machine.lost(saywhy_codes::Loss::Reset);
        }
        self.machine.wrote(false, true, now());
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("state", &self.machine.state()).finish_non_exhaustive()
    }
}
