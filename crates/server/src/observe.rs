//! What operators see: one log line and one metric for each ending, and nothing that is secret in either.

use crate::clock::now;
use crate::connection::Connection;
use saywhy_codes::{Cause, EndCause, Ending, ErrorMessage, Stage};
use tracing::{error, info, warn};

/// Endings, by `stage` and `cause`.
const ENDINGS: &str = "saywhy_endings_total";
/// Endings that nobody explained: the number to drive to zero.
const UNEXPLAINED: &str = "saywhy_unexplained_endings_total";

/// Makes the count known while it is 0: an alarm needs something to rise from.
pub(crate) fn begin() {
    metrics::counter!(UNEXPLAINED).absolute(0);
}

/// Records an ending.
pub(crate) fn ended(connection: &Connection, ending: &Ending) {
    let stage = match ending.stage {
        Stage::Admission => "admission",
        Stage::Session => "session",
    };
    metrics::counter!(ENDINGS, "stage" => stage, "cause" => ending.cause.label()).increment(1);
    let private = ending.private.as_ref().map(Cause::chain);
    macro_rules! line {
        ($level:ident) => {
            $level!(
                target: "saywhy::ending",
                connection_id = %connection.id.simple(),
                request_id = ending.request_id,
                path = ?connection.path,
                user = connection.user.get().map(|user| &**user),
                peer = connection.peer.map(tracing::field::display),
                http = http(connection),
                stage,
                cause = ending.cause.label(),
                http_status = http_status(ending.cause),
                sent = ending.sent.as_ref().map(|close| close.code.as_u16()),
                received = ending.received.as_ref().map(|close| close.code.as_u16()),
                confirmed = ending.confirmed,
                lived_ms = ending.lived.as_millis() as u64,
                private = private.as_deref(),
                "{ending}",
            )
        };
    }
    match ending.cause {
        EndCause::Unexplained => {
            metrics::counter!(UNEXPLAINED).increment(1);
            line!(error);
        }
        EndCause::Error(row) if row.http == 500 => line!(error),
        EndCause::Error(_) | EndCause::Finished | EndCause::PeerClosed | EndCause::Lost(_) => line!(info),
    }
}

/// The HTTP status that says the same, for monitoring that goes by those.
fn http_status(cause: EndCause) -> Option<u16> {
    match cause {
        EndCause::Error(row) => Some(row.http),
        EndCause::Finished | EndCause::PeerClosed | EndCause::Lost(_) | EndCause::Unexplained => None,
    }
}

/// The version of HTTP that it began with.
fn http(connection: &Connection) -> &'static str {
    if connection.http2 { "2" } else { "1.1" }
}

/// An ending that no session machine saw.
pub(crate) fn never_open(connection: &Connection, cause: EndCause, private: Option<Cause>) -> Ending {
    let lived = now().saturating_sub(connection.started);
    let (stage, confirmed) = (Stage::Admission, false);
    let (request_id, sent, received, first_close) = (None, None, None, None);
    Ending { stage, cause, request_id, private, sent, received, first_close, confirmed, lived }
}

/// A request that asked for a WebSocket and was none: it never became a connection of ours.
pub(crate) fn refused_handshake(connection: &Connection, why: &'static str) {
    metrics::counter!(ENDINGS, "stage" => "handshake", "cause" => "bad_request").increment(1);
    info!(
        target: "saywhy::ending",
        connection_id = %connection.id.simple(),
        path = ?connection.path,
        peer = connection.peer.map(tracing::field::display),
        http = http(connection),
        stage = "handshake",
        cause = "bad_request",
        "refused with bad_request: {why}",
    );
}

/// An error that a client was told of while its session went on.
pub(crate) fn replied(connection: &Connection, request_id: &str, error: &ErrorMessage, cause: Option<&Cause>) {
    metrics::counter!("saywhy_errors_total", "name" => error.error().get().name).increment(1);
    let private = cause.map(Cause::chain);
    // What is our fault, or has a cause that only the log may hold, is worth a line by default.
    if error.error().http >= 500 || private.is_some() {
        warn!(
            target: "saywhy::error",
            connection_id = %connection.id.simple(),
            request_id,
            name = error.error().get().name,
            private = private.as_deref(),
            "replied with an error"
        );
    } else {
        info!(
            target: "saywhy::error",
            connection_id = %connection.id.simple(),
            request_id,
            name = error.error().get().name,
            "replied with an error"
        );
    }
}

/// A handler panicked; the client is told `internal_error`.
pub(crate) fn panicked(connection: &Connection, request_id: Option<&str>, cause: &Cause) {
    let private = cause.chain();
    error!(target: "saywhy::error", connection_id = %connection.id.simple(), request_id, private, "a handler panicked");
}
