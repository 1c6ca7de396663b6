//! The Rust contenders: `bench-peers <contender> <echo|refuse|limited|deflate> <address>`, on one thread, until it is
//! killed. `limited` is `echo` with messages of at most 64 KiB, for `conformance/violations` and `bench/floods`, which
//! break more than that; `deflate` is the same with permessage-deflate.
//!
//! Each is written the way its own documentation writes it. Where a crate can put messages together before it writes,
//! that is used; every socket has `TCP_NODELAY`.

mod fastwebsockets;
mod saywhy;
mod soketto;
mod tokio_websockets;
mod tungstenite;

use futures_util::{FutureExt as _, Sink, SinkExt as _, Stream, StreamExt as _};
use std::io;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::unconstrained;

/// Messages that are sent back at once.
const BATCH: usize = 1024;
/// Places for messages that an idle connection keeps.
const KEPT: usize = 4;
/// Bytes of a message, for `limited`.
const LIMIT: usize = 64 * 1024;

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [contender, work, address] = &args[..] else { return Err(usage()) };
    let listener = TcpListener::bind(address).await?;
    match (contender.as_str(), work.as_str()) {
        ("saywhy", "echo" | "refuse") => saywhy::serve(listener).await,
        ("saywhy", "limited") => saywhy::serve_limited(listener).await,
        ("saywhy", "deflate") => saywhy::serve_compressed(listener).await,
        ("saywhy-unmetered", "limited") => saywhy::serve_unmetered(listener).await,
        ("saywhy-unmetered", "deflate") => saywhy::serve_unmetered_compressed(listener).await,
        ("fastwebsockets", "echo") => each(listener, fastwebsockets::serve).await,
        ("fastwebsockets", "limited") => each(listener, fastwebsockets::serve_limited).await,
        ("soketto", "limited") => each(listener, soketto::serve_limited).await,
        ("tokio-websockets", "echo") => each(listener, tokio_websockets::serve).await,
        ("tokio-websockets", "limited") => each(listener, tokio_websockets::serve_limited).await,
        ("tungstenite", "echo") => each(listener, tungstenite::serve).await,
        ("tungstenite-4k", "echo") => each(listener, tungstenite::serve_with_small_buffer).await,
        ("tungstenite", "limited") => each(listener, tungstenite::serve_limited).await,
        ("tungstenite", "refuse") => each(listener, tungstenite::refuse).await,
        _ => Err(usage()),
    }
}

fn usage() -> io::Error {
    io::Error::other("usage: bench-peers CONTENDER echo|refuse|limited|deflate ADDRESS")
}

async fn each<F>(listener: TcpListener, serve: impl Fn(TcpStream) -> F) -> io::Result<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    loop {
        let (tcp, _) = listener.accept().await?;
        tcp.set_nodelay(true)?;
        // As the examples of two of the three do it.
        tokio::spawn(unconstrained(serve(tcp)));
    }
}

/// Sends back the data messages that have arrived, with one flush. They are collected first, because
/// tokio-websockets writes what it was given as soon as it is asked for the next message.
async fn echo<W, M, E>(mut ws: W, is_data: fn(&M) -> bool)
where
    W: Stream<Item = Result<M, E>> + Sink<M, Error = E> + Unpin,
{
    let mut batch = Vec::new();
    while let Some(Ok(first)) = ws.next().await {
        batch.push(first);
        while let Some(Some(Ok(message))) = ws.next().now_or_never() {
            batch.push(message);
            if batch.len() == BATCH {
                break;
            }
        }
        for message in batch.drain(..).filter(is_data) {
            if ws.feed(message).await.is_err() {
                return;
            }
        }
        if ws.flush().await.is_err() {
            return;
        }
        if batch.capacity() > KEPT {
            batch = Vec::new();
        }
    }
}

/// As [`echo`], but to the end of the stream, not to its first error: some crates write the Close that answers a breach
/// when they are asked for more.
async fn echo_past_errors<W, M, E>(mut ws: W, is_data: fn(&M) -> bool)
where
    W: Stream<Item = Result<M, E>> + Sink<M, Error = E> + Unpin,
{
    while let Some(next) = ws.next().await {
        if let Ok(message) = next
            && is_data(&message)
            && ws.send(message).await.is_err()
        {
            return;
        }
    }
}
