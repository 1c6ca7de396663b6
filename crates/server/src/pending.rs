//! A connection that asked for an upgrade and waits for the decision.

use crate::house::Visit;
use crate::incoming::Underway;
use axum_core::body::Body;
use axum_core::response::Response;
use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use http::{Extensions, HeaderMap, HeaderValue, StatusCode};
use hyper::upgrade::OnUpgrade;
use saywhy_codes::{EndCause, Loss};
use saywhy_proto::deflate::Agreed;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::task::AbortHandle;

/// A connection whose handshake is valid and about which nothing is decided yet.
pub(crate) struct Pending {
    pub(crate) upgrade: OnUpgrade,
    /// That something goes on on the connection that it is a stream of.
    pub(crate) underway: Option<Underway>,
    pub(crate) visit: Unanswered,
    /// The client can read a message and a Close, and nothing else.
    pub(crate) close_form: bool,
    /// What the route wants to run, once it has let the connection in.
    pub(crate) accepted: Option<Begin>,
    /// It is let in to bring its token first.
    pub(crate) asks: bool,
    /// What was agreed about compression, should the connection be let in.
    pub(crate) agreed: Option<Agreed>,
    /// More headers of the answer, should it be let in.
    pub(crate) headers: Option<Box<HeaderMap>>,
    /// `Sec-WebSocket-Accept`; HTTP/2 has none.
    pub(crate) accept: Option<String>,
    /// The subprotocol of the answer.
    pub(crate) protocol: Option<String>,
}

pub(crate) type Begin = Box<dyn FnOnce(Box<Pending>) -> AbortHandle + Send>;

/// A connection that asked for an upgrade and has no answer yet. Dropped like that, because the client was gone, it has
/// its ending all the same.
pub(crate) struct Unanswered {
    /// `None` once it has its answer.
    visit: Option<Visit>,
}

impl Unanswered {
    pub(crate) fn new(visit: Visit) -> Self {
        Self { visit: Some(visit) }
    }

    /// It has its answer: what comes of it is someone else's to say.
    pub(crate) fn answered(mut self) -> Visit {
        self.visit.take().unwrap_or_else(|| unreachable!("taken once, by value"))
    }
}

impl Deref for Unanswered {
    type Target = Visit;
    fn deref(&self) -> &Visit {
        self.visit.as_ref().unwrap_or_else(|| unreachable!("it is there until the value is consumed"))
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        if let Some(visit) = &self.visit {
            visit.never_open(EndCause::Lost(Loss::Eof), None);
        }
    }
}

impl Pending {
    /// Gives it to a gate further in, as if nobody had looked at it.
    pub(crate) fn hand_over(self, extensions: &mut Extensions) {
        drop(self.visit.answered());
        extensions.insert(self.upgrade);
        if let Some(underway) = self.underway {
            extensions.insert(underway);
        }
    }

    /// The status of a yes: RFC 6455 §4.2.2, and RFC 8441 §5 for HTTP/2.
    pub(crate) fn yes(&self) -> StatusCode {
        if self.accept.is_some() { StatusCode::SWITCHING_PROTOCOLS } else { StatusCode::OK }
    }

    /// The answer of someone who is let in. A refusal agrees on no extensions.
    pub(crate) fn welcome(&self) -> Response {
        let mut response = self.switching_protocols();
        // Names and numbers, so it is a header value.
        if let Some(Ok(agreed)) = self.agreed.map(|agreed| HeaderValue::from_str(&agreed.to_string())) {
            response.headers_mut().insert(SEC_WEBSOCKET_EXTENSIONS, agreed);
        }
        if let Some(headers) = &self.headers {
            response.headers_mut().extend(headers.iter().map(|(name, value)| (name.clone(), value.clone())));
        }
        response
    }

    /// RFC 6455 §4.2.2, RFC 8441 §5.
    pub(crate) fn switching_protocols(&self) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.yes();
        let headers = response.headers_mut();
        // Base64 and tokens are visible ASCII, so both are header values.
        if let Some(Ok(accept)) = self.accept.as_deref().map(HeaderValue::from_str) {
            headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
            headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
        }
        if let Some(Ok(protocol)) = self.protocol.as_deref().map(HeaderValue::from_str) {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, protocol);
        }
        response
    }
}

/// Where a pending connection waits for the decision: the gate, the admission and its drop all look here.
pub(crate) type Slot = Arc<Mutex<Option<Box<Pending>>>>;

pub(crate) fn lock(slot: &Slot) -> MutexGuard<'_, Option<Box<Pending>>> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}
