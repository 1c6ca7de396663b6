//! Sends back what it hears: the server that `conformance/autobahn` tests.
//!
//! `cargo run --release -p saywhy --example echo -- 127.0.0.1:3000 [MESSAGE_BYTES]`. The limits are those of production
//! but for two: Autobahn sends messages of 16 MiB, and a thousand of them as fast as they come back. It offers compression in all its
//! forms, so all of it is on.

use axum::Router;
use axum::response::Response;
use axum::routing::any;
use saywhy::{Admission, Compression, Gate, Limits, Settings};
use std::sync::Arc;
use tokio::net::TcpListener;

async fn echo(admission: Admission) -> Response {
    admission.accept(|session| session.each(|message| Some(message)))
}

fn settings(message_bytes: usize) -> Settings {
    let limits = Limits { message_bytes, messages_per_s: 0, ..Limits::default() };
    // Autobahn expects to hear its own words and no others.
    let compression = Compression { context_takeover: true, min_bytes: 0, ..Compression::default() };
    Settings { envelope: false, limits: Arc::new(limits), compression: Some(compression), ..Settings::default() }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    let message_bytes = std::env::args().nth(2).map_or(16 * 1024 * 1024, |bytes| bytes.parse().expect("MESSAGE_BYTES"));
    let listener = TcpListener::bind(address).await?;
    let gate = Gate::new(settings(message_bytes));
    saywhy::serve(listener, Router::new().fallback(any(echo)).layer(gate), std::future::pending()).await
}
