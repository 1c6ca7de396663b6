//! Ours: every message passes the frame layer, the limits and the session machine of production. Three limits are
//! higher than their defaults, because this load is not one client's: messages a second, bytes of a message, and
//! connections from one address. The meters run all the same.

use axum::Router;
use axum::response::Response;
use axum::routing::any;
use saywhy::catalogue::UNAUTHORIZED;
use saywhy::{Admission, Gate, Limits, Refusal, Settings};
use std::io;
use std::sync::Arc;
use tokio::net::TcpListener;

pub(crate) async fn serve(listener: TcpListener) -> io::Result<()> {
    let limits =
        Limits { message_bytes: 16 << 20, messages_per_s: 10_000_000, message_burst: 10_000_000, ..Limits::default() };
    let settings = Settings {
        // The peers say nothing of their own either.
        envelope: false,
        limits: Arc::new(limits),
        connections_per_address: usize::MAX,
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
