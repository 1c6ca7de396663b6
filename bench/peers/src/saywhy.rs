//! Ours: every message passes the frame layer, the limits and the session machine of production.

use axum::Router;
use axum::response::Response;
use axum::routing::any;
use saywhy::catalogue::UNAUTHORIZED;
use saywhy::{Admission, Compression, Gate, Limits, Rate, Refusal, Settings};
use std::io;
use std::sync::Arc;
use tokio::net::TcpListener;

/// Three limits are higher than their defaults, because this load is not one client's: messages a second, bytes of a
/// message, and connections from one address. The meters run all the same.
pub(crate) async fn serve(listener: TcpListener) -> io::Result<()> {
    serve_with(Limits { message_bytes: 16 << 20, ..unmetered() }, None, listener).await
}

/// As it is shipped, but for connections from one address.
pub(crate) async fn serve_limited(listener: TcpListener) -> io::Result<()> {
    serve_with(Limits::default(), None, listener).await
}

pub(crate) async fn serve_compressed(listener: TcpListener) -> io::Result<()> {
    serve_with(Limits::default(), Some(Compression::default()), listener).await
}

/// And without the limit on messages a second, which ends most floods before they cost anything.
pub(crate) async fn serve_unmetered(listener: TcpListener) -> io::Result<()> {
    serve_with(unmetered(), None, listener).await
}

pub(crate) async fn serve_unmetered_compressed(listener: TcpListener) -> io::Result<()> {
    serve_with(unmetered(), Some(Compression::default()), listener).await
}

fn unmetered() -> Limits {
    Limits { messages_per_s: 10_000_000, message_burst: 10_000_000, ..Limits::default() }
}

async fn serve_with(limits: Limits, compression: Option<Compression>, listener: TcpListener) -> io::Result<()> {
    let settings = Settings {
        // The peers say nothing of their own either.
        envelope: false,
        limits: Arc::new(limits),
        compression,
        connections_per_address: usize::MAX,
        connects_per_address: Rate::NONE,
        refusals_per_address: Rate::NONE,
        lingering_per_address: usize::MAX,
        ..Settings::default()
    };
    let gate = Gate::new(settings.clone());
    let refused = gate.with(Settings { envelope: true, ..settings });
    let echo = Router::new().route("/", any(echo)).layer(gate);
    let refuse = Router::new().route("/refused", any(refuse)).layer(refused);
    saywhy::serve(listener, echo.merge(refuse), std::future::pending()).await
}

async fn echo(admission: Admission) -> Response {
    admission.accept(|session| session.each(|message| Some(message)))
}

async fn refuse(admission: Admission) -> Refusal {
    admission.refuse(UNAUTHORIZED)
}
