//! A server to be unkind to, over real TCP; the client that is: raw bytes out, frames in, in their order; and what the
//! server's operator sees meanwhile.
//!
//! Everything runs on one thread: a test that has seen what the server wrote knows that the server waits again, and
//! log and metrics belong to one test. Nothing sleeps.

// Each test file uses its own part of it, and is a crate of its own.
#![allow(dead_code, unreachable_pub, unused_imports)]

mod client;
mod desk;
mod http2;
mod operator;
mod tls;

pub use client::{Client, Head, Seen, wire, wire_text};
pub use desk::{Desk, desk, row};
pub use http2::{Frame, Http2, connect};
pub use operator::{Line, Log};
pub use tls::Certificate;

use axum::Router;
use operator::Counters;
use saywhy::{Gate, Listening, Rate, Settings};
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tracing_subscriber::layer::SubscriberExt as _;

/// What must never be on the wire: everything private that a test plants contains it.
pub const SECRET: &str = "SECRET-7f3a";
/// What must not even be in the log.
pub const TOKEN: &str = "SECRET-7f3a-token";

/// The page that may connect: of the same origin as the server.
pub const BROWSER: &[(&str, &str)] = &[("Origin", "http://app.test")];
/// A server-side program, which can read HTTP.
pub const PROGRAM: &[(&str, &str)] = &[];

/// Not the address that clients have by default.
pub const OTHER_ADDRESS: &str = "127.0.0.2";

/// What serves the router.
#[derive(Clone, Debug)]
pub enum Front {
    Saywhy,
    /// With TLS, limits or proxies.
    Listening(Listening),
    /// `axum::serve`: without the peer's address, and with the 101 in a packet of its own.
    Axum,
}

/// A server with a gate, and what came of it.
pub struct House {
    pub gate: Gate,
    pub log: Log,
    pub addr: SocketAddr,
    /// WebSockets that were asked for.
    asked: Cell<usize>,
    /// Endings that a test has looked at.
    told: Cell<usize>,
    heard: Rc<RefCell<Vec<u8>>>,
    stop: Cell<Option<oneshot::Sender<()>>>,
}

/// Runs `test` against `router` behind a gate. Afterwards, whatever the test did, each WebSocket that was asked for
/// has one ending, none is unexplained, no task is left, and nothing private was heard.
pub fn house(settings: Settings, router: Router, test: impl AsyncFnOnce(&House)) {
    house_with(Front::Saywhy, settings, router, test);
}

pub fn house_with(front: Front, settings: Settings, router: Router, test: impl AsyncFnOnce(&House)) {
    let (log, counters) = (Log::default(), Counters::default());
    let _tracing = tracing::subscriber::set_default(tracing_subscriber::registry().with(log.clone()));
    let _metrics = metrics::set_default_local_recorder(&counters);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(run(front, settings, router, test, log, &counters));
}

/// As [`house`], with a server on threads of its own. Log and metrics belong to the process then: one such test in each.
pub fn house_on_threads(threads: usize, settings: Settings, router: Router, test: impl AsyncFnOnce(&House)) {
    let (log, counters) = (Log::default(), &*Box::leak(Box::<Counters>::default()));
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(log.clone())).unwrap();
    metrics::set_global_recorder(counters).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build().unwrap();
    runtime.block_on(run(Front::Saywhy, settings, router, test, log, counters));
}

async fn run(
    front: Front,
    settings: Settings,
    router: Router,
    test: impl AsyncFnOnce(&House),
    log: Log,
    counters: &Counters,
) {
    let house = House::open(front, settings, router, log).await;
    let run = tokio::time::timeout(Duration::from_secs(30), async {
        test(&house).await;
        house.closed(counters).await;
    });
    if run.await.is_err() {
        let (asked, told) = (house.asked.get(), endings(&house.log.lines()).count());
        panic!("the test hangs; {told} endings of {asked}; the log ends with:\n{}", house.log);
    }
}

impl House {
    async fn open(front: Front, settings: Settings, router: Router, log: Log) -> Self {
        let gate = Gate::new(settings);
        let router = router.layer(gate.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async {
            let _ = stopped.await;
        };
        match front {
            Front::Saywhy => drop(tokio::spawn(saywhy::serve(listener, router, stopped))),
            Front::Listening(listening) => drop(tokio::spawn(saywhy::serve_with(listening, listener, router, stopped))),
            Front::Axum => {
                let served = axum::serve(listener, router).with_graceful_shutdown(stopped);
                drop(tokio::spawn(async move { served.await }));
            }
        }
        let stop = Cell::new(Some(stop));
        Self { gate, log, addr, asked: Cell::new(0), told: Cell::new(0), heard: Rc::default(), stop }
    }

    /// Sends `bytes` on a connection of its own.
    pub async fn raw(&self, bytes: &[u8]) -> Client {
        let tcp = TcpStream::connect(self.addr).await.unwrap();
        let mut client = Client::new(tcp, Rc::clone(&self.heard));
        client.raw(bytes).await;
        client
    }

    /// A connection over TLS, of which these protocols are offered.
    pub async fn tls(&self, certificate: &Certificate, protocols: &[&str]) -> Client {
        let tcp = TcpStream::connect(self.addr).await.unwrap();
        let tls = certificate.connect(tcp, protocols).await.unwrap();
        Client::over(tls, Rc::clone(&self.heard))
    }

    /// The same, with some bytes before TLS.
    pub async fn tls_after(&self, before: &[u8], certificate: &Certificate) -> Client {
        let mut tcp = TcpStream::connect(self.addr).await.unwrap();
        tcp.write_all(before).await.unwrap();
        let tls = certificate.connect(tcp, &[]).await.unwrap();
        Client::over(tls, Rc::clone(&self.heard))
    }

    /// A connection that speaks HTTP/2.
    pub async fn http2(&self) -> Http2 {
        Http2::new(TcpStream::connect(self.addr).await.unwrap(), Rc::clone(&self.heard)).await
    }

    /// The same over TLS.
    pub async fn http2_tls(&self, certificate: &Certificate) -> Http2 {
        let tcp = TcpStream::connect(self.addr).await.unwrap();
        let tls = certificate.connect(tcp, &["h2", "http/1.1"]).await.unwrap();
        assert_eq!(tls.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        Http2::new(tls, Rc::clone(&self.heard)).await
    }

    /// One more WebSocket is asked for.
    pub fn another(&self) {
        self.asked.set(self.asked.get() + 1);
    }

    /// Sends a request that asks for a WebSocket, however badly.
    pub async fn ask_raw(&self, request: &str) -> Client {
        self.another();
        self.raw(request.as_bytes()).await
    }

    /// Sends a valid opening handshake with some more headers.
    pub async fn ask(&self, target: &str, headers: &[(&str, &str)]) -> Client {
        self.ask_raw(&handshake(target, headers)).await
    }

    /// The same from another address.
    pub async fn ask_from(&self, address: &str, target: &str, headers: &[(&str, &str)]) -> Client {
        self.another();
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(address.parse().unwrap(), 0)).unwrap();
        let tcp = socket.connect(self.addr).await.unwrap();
        let mut client = Client::new(tcp, Rc::clone(&self.heard));
        client.raw(handshake(target, headers).as_bytes()).await;
        client
    }

    /// A session that is open: `ready` was heard.
    pub async fn open_session(&self, target: &str) -> Client {
        let mut client = self.ask(target, PROGRAM).await;
        let head = client.head().await;
        assert_eq!(head.status, 101, "{head:?}");
        let ready = client.message().await;
        assert_eq!(ready["type"], "ready", "{ready}");
        client.id = ready["data"]["connection_id"].as_str().unwrap().to_owned();
        client
    }

    /// The next ending that this test has not looked at.
    pub async fn ending(&self) -> Line {
        let next = self.told.get();
        self.told.set(next + 1);
        self.log.until(|lines| endings(lines).nth(next).cloned()).await
    }

    /// Tells the server to stop.
    pub fn stop(&self) {
        let _ = self.stop.take().map(|stop| stop.send(()));
    }

    async fn closed(&self, counters: &Counters) {
        self.log.until(|lines| (endings(lines).count() >= self.asked.get()).then_some(())).await;
        self.stop();
        // No task of the server is left, so no second ending can come.
        while Handle::current().metrics().num_alive_tasks() > 0 {
            tokio::task::yield_now().await;
        }
        let lines = self.log.lines();
        let mut ids: Vec<&str> = endings(&lines).map(|line| line.get("connection_id")).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), self.asked.get(), "one ending each:\n{}", self.log);
        assert_eq!(endings(&lines).count(), self.asked.get(), "one ending each:\n{}", self.log);
        assert_eq!(counters.sum("saywhy_endings_total"), self.asked.get() as u64, "one metric each");
        assert_eq!(counters.sum("saywhy_unexplained_endings_total"), 0, "{}", self.log);
        assert!(self.gate.sessions().is_empty(), "nobody is left");
        let secret = self.heard.borrow().windows(SECRET.len()).any(|bytes| bytes == SECRET.as_bytes());
        assert!(!secret, "something private was on the wire");
        let token = lines.iter().find(|line| line.to_string().contains(TOKEN));
        assert!(token.is_none(), "a token is in the log: {}", token.unwrap());
    }
}

fn endings(lines: &[Line]) -> impl Iterator<Item = &Line> {
    lines.iter().filter(|line| line.target == "saywhy::ending")
}

/// A valid opening handshake with some more headers.
pub fn handshake(target: &str, headers: &[(&str, &str)]) -> String {
    let mut request = format!(
        "GET {target} HTTP/1.1\r\nHost: app.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    );
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request + "\r\n"
}

/// Without limits on those who come, and are refused, again and again from one address.
pub fn tireless() -> Settings {
    Settings {
        connects_per_address: Rate::NONE,
        refusals_per_address: Rate::NONE,
        failed_tokens: 0,
        ..Settings::default()
    }
}

/// Limits with some of them changed.
pub fn limits(change: impl FnOnce(&mut saywhy::Limits)) -> Settings {
    let mut limits = saywhy::Limits::default();
    change(&mut limits);
    Settings { limits: Arc::new(limits), ..Settings::default() }
}
