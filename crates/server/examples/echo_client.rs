//! Sends back what it hears, as a client: `conformance/autobahn` tests our client's side with it.
//!
//! `cargo run --release -p saywhy --example echo_client -- 127.0.0.1:9001`, where `wstest --mode fuzzingserver`
//! listens.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use saywhy::{EndCause, Ending, Limits, Message};
use saywhy_codes::Loss;
use saywhy_proto::deflate::{self, Agreed};
use saywhy_proto::session::{Mute, Step};
use saywhy_proto::{Compression, Session};
use sha1::{Digest as _, Sha1};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

/// Under this name the results are found.
const AGENT: &str = "saywhy-client";
/// Bytes of the answer to the handshake.
const MAX_HEAD: usize = 16 * 1024;

/// Runs all cases that the server has, and lets it write its report.
#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9001".to_owned());
    let mut count = 0;
    let told = Connection::open(&address, "/getCaseCount").await?.run(|message| {
        if let Message::Text(text) = message {
            count = text.parse().unwrap_or(0);
        }
        None
    });
    told.await;
    for case in 1..=count {
        let path = format!("/runCase?case={case}&agent={AGENT}");
        Connection::open(&address, &path).await?.run(|message| Some(message)).await;
    }
    let ending = Connection::open(&address, &format!("/updateReports?agent={AGENT}")).await?.run(|_| None).await;
    if ending.cause == EndCause::PeerClosed { Ok(()) } else { Err(io::Error::other(ending.to_string())) }
}

/// A client's end of a WebSocket.
struct Connection {
    tcp: TcpStream,
    machine: Session,
    /// What arrived and is not decoded.
    input: Vec<u8>,
    opened: Instant,
}

impl Connection {
    /// RFC 6455 §4.1.
    async fn open(address: &str, path: &str) -> io::Result<Self> {
        let mut tcp = TcpStream::connect(address).await?;
        tcp.set_nodelay(true)?;
        let key = BASE64_STANDARD.encode(rand::random::<[u8; 16]>());
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\
             Sec-WebSocket-Extensions: {}\r\n\r\n",
            Agreed::offer(&compression())
        );
        tcp.write_all(request.as_bytes()).await?;
        let mut input = Vec::with_capacity(64 * 1024);
        let end = loop {
            if let Some(end) = input.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            if input.len() > MAX_HEAD || tcp.read_buf(&mut input).await? == 0 {
                return Err(io::Error::other("that is no answer of HTTP"));
            }
        };
        let head: Vec<u8> = input.drain(..end).collect();
        let digest = Sha1::digest(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11"));
        let accept = format!("Sec-WebSocket-Accept: {}", BASE64_STANDARD.encode(digest));
        let head = String::from_utf8_lossy(&head);
        if !head.starts_with("HTTP/1.1 101 ") || !head.lines().any(|line| line.eq_ignore_ascii_case(&accept)) {
            return Err(io::Error::other(format!("no upgrade: {head}")));
        }
        let mut machine = Session::client(Arc::new(limits()), rand::random, Duration::ZERO);
        if let Some(agreed) = agreed(&head)? {
            machine.compress(agreed, &compression());
        }
        machine.ready(Duration::ZERO);
        Ok(Self { tcp, machine, input, opened: Instant::now() })
    }

    /// Sends back what `answer` makes of each message, to the end.
    async fn run(mut self, mut answer: impl for<'m> FnMut(Message<'m>) -> Option<Message<'m>>) -> Ending {
        let mut out = Vec::new();
        loop {
            let now = self.opened.elapsed();
            let mut at = 0;
            while at < self.input.len() {
                let (taken, delivery) = self.machine.receive(&mut self.input[at..], now);
                at += taken;
                if let Some(answer) = delivery.and_then(|delivery| answer(delivery.message)) {
                    self.machine.send(&answer, &mut out);
                }
            }
            self.input.clear();
            self.machine.transmit(true, &Mute, now, &mut out);
            match timeout(limits().write, self.tcp.write_all(&out)).await {
                Ok(Ok(())) => self.machine.wrote(false, true, self.opened.elapsed()),
                Ok(Err(_)) => self.machine.lost(Loss::Reset),
                Err(_) => self.machine.lost(Loss::WriteTimedOut),
            }
            out.clear();
            if self.machine.step() != Step::Continue {
                return self.machine.take_ending(self.opened.elapsed());
            }
            let left = self.machine.deadline().map_or(Duration::MAX, |at| at.saturating_sub(self.opened.elapsed()));
            match timeout(left, self.tcp.read_buf(&mut self.input)).await {
                Ok(Ok(0)) => self.machine.end_of_input(),
                Ok(Ok(_)) => {}
                Ok(Err(_)) => self.machine.lost(Loss::Reset),
                Err(_) => self.machine.expire(self.opened.elapsed()),
            }
        }
    }
}

/// Those of production, but that Autobahn's messages are bigger and come as fast as they are answered.
fn limits() -> Limits {
    Limits { message_bytes: 16 * 1024 * 1024, messages_per_s: 0, ..Limits::default() }
}

fn compression() -> Compression {
    Compression { context_takeover: true, min_bytes: 0, ..Compression::default() }
}

/// What the server answered about compression.
fn agreed(head: &str) -> io::Result<Option<Agreed>> {
    let lines = head.lines().filter_map(|line| line.split_once(':'));
    let lists = lines.filter(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-extensions"));
    let elements: Option<Vec<_>> = lists.map(|(_, list)| deflate::extensions(list)).collect();
    let elements = elements.ok_or_else(|| io::Error::other("that is no list of extensions"))?.concat();
    Agreed::answered(&elements, &compression()).map_err(io::Error::other)
}
