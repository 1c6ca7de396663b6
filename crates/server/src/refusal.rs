//! Refusing a connection: one cause, and an encoding for each kind of reader. Nothing else makes a refusing answer.

use crate::clock::now;
use crate::driver::Driver;
use crate::pending::Pending;
use crate::rates::Patience;
use crate::stream::Io;
use axum_core::body::Body;
use axum_core::response::{IntoResponse, Response};
use http::header::{CONNECTION, CONTENT_TYPE, LOCATION, RETRY_AFTER, SEC_WEBSOCKET_VERSION, UPGRADE, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use saywhy_codes::catalogue::{BAD_GATEWAY, BAD_REQUEST, OVERLOADED};
use saywhy_codes::{Catalogue, Cause, EndCause, ErrorMessage, Retry};
use saywhy_proto::Farewell;
use saywhy_proto::envelope::Details;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// A connection is refused: the public side, and the private one for the log.
///
/// As a response it is HTTP with `application/problem+json` (RFC 9457). Behind a [`Gate`](crate::Gate) it takes the
/// form that its reader can read.
#[derive(Clone, Debug)]
pub struct Refusal {
    error: ErrorMessage,
    cause: Option<Cause>,
    status: StatusCode,
}

/// On the 101 of a refusal: which row it is, so that monitoring by header still works.
const SAYWHY_REFUSED: HeaderName = HeaderName::from_static("saywhy-refused");

impl Refusal {
    /// Refuses with an error.
    pub fn new(error: impl Into<ErrorMessage>) -> Self {
        let error = error.into();
        let status = StatusCode::from_u16(error.error().http).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self { error, cause: None, status }
    }

    /// Adds the private side.
    #[must_use]
    pub fn because(mut self, cause: impl Into<Cause>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// Other words for the same error. They are public.
    #[must_use]
    pub fn say(mut self, message: impl Into<std::borrow::Cow<'static, str>>) -> Self {
        self.error = self.error.say(message);
        self
    }

    /// A more exact status than the row's, for the `http` form.
    pub fn status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// The public side.
    pub fn error(&self) -> &ErrorMessage {
        &self.error
    }

    /// The same for one that was let in to bring its token.
    pub(crate) fn farewell(self) -> Farewell {
        Farewell { private: self.cause, ..Farewell::error(self.error) }
    }

    /// The refusal that a route's answer stands for, if it is one: a [`Refusal`], or any other middleware's error.
    pub(crate) fn of_answer(response: &Response) -> Option<Self> {
        if let Some(refusal) = response.extensions().get::<Arc<Self>>() {
            return Some((**refusal).clone());
        }
        let status = response.status();
        if !(status.is_redirection() || status.is_client_error() || status.is_server_error()) {
            return None;
        }
        let refusal =
            Self::new(said_in_http(status, response.headers())).because(format!("the route answered {status}"));
        // A redirection has nowhere to lead a WebSocket: it is a mistake of the request.
        Some(if status.is_redirection() { refusal } else { refusal.status(status) })
    }

    /// The refusal that another server's answer to an opening handshake stands for, when it was no 101. `details` have its
    /// status, and where it redirects to: nobody follows.
    ///
    /// What is neither a redirection nor an error is no answer to a handshake: `bad_gateway`, and not to be tried again.
    pub fn of_upstream(status: StatusCode, headers: &HeaderMap) -> Self {
        let cause = format!("the upstream answered {status}");
        if !(status.is_redirection() || status.is_client_error() || status.is_server_error()) {
            let error = BAD_GATEWAY.say("The upstream's answer is none to a WebSocket handshake").retry(Retry::Never);
            let error = error.detail("source", "upstream").detail("http_status", status.as_u16());
            return Self::new(error).because(cause);
        }
        let mut error =
            said_in_http(status, headers).detail("source", "upstream").detail("http_status", status.as_u16());
        if error.error() == BAD_REQUEST {
            // The row's own words are about a message.
            error = error.say("The server did not accept the request");
        }
        if !status.is_redirection() {
            return Self::new(error).because(cause).status(status);
        }
        // A redirection has nowhere to lead a WebSocket: it is a mistake of the request.
        match headers.get(LOCATION).and_then(|location| location.to_str().ok()) {
            Some(location) => Self::new(error.detail("location", cut(location))),
            None => Self::new(error),
        }
        .because(cause)
    }

    /// The `http` form.
    pub(crate) fn http(&self, request_id: Option<String>) -> Response {
        let mut response = Response::new(Body::from(self.problem(request_id).to_string()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(Ok(seconds)) = self.retry_after().map(|seconds| HeaderValue::from_str(&seconds.to_string())) {
            headers.insert(RETRY_AFTER, seconds);
        }
        if self.status == StatusCode::UNAUTHORIZED {
            // RFC 9110 §15.5.2, RFC 6750 §3: what to come back with.
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if self.status == StatusCode::UPGRADE_REQUIRED {
            // RFC 6455 §4.2.2 and RFC 9110 §15.5.22, §7.8.
            headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
            headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        }
        response
    }

    /// The `http` form as HTTP/1.1 has it, for a connection of which no request was heard. Nothing follows it.
    pub(crate) fn written(&self) -> Vec<u8> {
        let problem = self.problem(None).to_string();
        let retry_after = self.retry_after().map_or_else(String::new, |s| format!("{RETRY_AFTER}: {s}\r\n"));
        format!(
            "HTTP/1.1 {}\r\ncontent-type: application/problem+json\r\ncontent-length: {}\r\n{retry_after}\
             connection: close\r\n\r\n{problem}",
            self.status,
            problem.len()
        )
        .into_bytes()
    }

    /// Whole seconds, rounded up; a crowd is spread by what each reader adds, so the spread is left out.
    fn retry_after(&self) -> Option<u128> {
        match self.error.retry_policy() {
            Retry::After { delay, spread } => {
                Some(delay.as_millis().div_ceil(1_000).max(u128::from(spread.as_millis() > 0)))
            }
            Retry::Never | Retry::Now | Retry::Backoff | Retry::Reauthenticate => None,
        }
    }

    fn problem(&self, request_id: Option<String>) -> Value {
        let row = self.error.error();
        let mut problem = json!({
            "type": format!("urn:saywhy:error:{}", row.name),
            "title": row.message,
            "status": self.status.as_u16(),
            "detail": self.error.message(),
            "code": row.code,
            "name": row.name,
            "retry": self.error.retry_policy().as_str(),
        });
        if let Retry::After { delay, spread } = self.error.retry_policy() {
            problem["retry_after_ms"] = json!(delay.as_millis() as u64);
            problem["spread_ms"] = json!(spread.as_millis() as u64);
        }
        if let Some(id) = request_id {
            problem["request_id"] = json!(id);
        }
        if !self.error.details().is_empty() {
            problem["details"] = json!(Details(self.error.details()));
        }
        problem
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = self.http(None);
        // For the gate in front, which knows who reads it.
        response.extensions_mut().insert(Arc::new(self));
        response
    }
}

/// The error that somebody else's refusal in HTTP stands for.
pub(crate) fn said_in_http(status: StatusCode, headers: &HeaderMap) -> ErrorMessage {
    let error = Catalogue::by_http_status(status.as_u16()).message();
    match retry_after(headers) {
        Some(delay) => error.retry_after(delay, delay / 2),
        None => error,
    }
}

/// As much of somebody else's words as is passed on.
fn cut(words: &str) -> String {
    words.chars().take(MOST_WORDS).collect()
}

/// Characters of somebody else's words that are passed on.
const MOST_WORDS: usize = 256;

/// What another middleware asks its clients to wait, in seconds (RFC 9110 §10.2.3), or a day at most; a date is not
/// looked at.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds: u64 = headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds.min(24 * 60 * 60)))
}

impl Pending {
    /// Refuses in the form that the client can read.
    pub(crate) fn refuse(self: Box<Self>, refusal: Refusal) -> Response {
        // It needs its place no more: those that linger have a limit of their own.
        self.visit.leave();
        if !self.close_form {
            return self.refuse_http(&refusal);
        }
        let (house, peer) = (self.visit.house(), self.visit.peer);
        // Whom there is no time for, and whom there is no place for, gets the cheap form: try again later.
        let instead = |why: &str| {
            let row = refusal.error.error();
            let cheap = Refusal { error: OVERLOADED.message(), status: StatusCode::SERVICE_UNAVAILABLE, cause: None };
            cheap.because(format!("{row}, and {why}"))
        };
        let delay = match house.refused(peer) {
            Patience::Now => Duration::ZERO,
            Patience::Later(wait) => wait,
            Patience::No(wait) => {
                let mut busy = instead("its address comes back at once after each refusal");
                busy.error = busy.error.retry_after(wait, wait);
                return self.refuse_http(&busy);
            }
        };
        let Some(linger) = house.linger(peer, &self.visit.settings) else {
            return self.refuse_http(&instead("too many linger"));
        };
        let mut response = self.switching_protocols();
        if let Ok(name) = HeaderValue::from_str(refusal.error.error().name) {
            response.headers_mut().insert(SAYWHY_REFUSED, name);
        }
        tokio::spawn(async move {
            let Self { upgrade, underway, visit, .. } = *self;
            let Refusal { error, cause, .. } = refusal;
            let upgraded = upgrade.await;
            if !delay.is_zero() {
                // The 101 waits with the rest: a page that comes back as soon as it is closed comes back later.
                tokio::time::sleep(delay).await;
            }
            let visit = visit.answered();
            match upgraded {
                Ok(upgraded) => {
                    let (io, early, held) = Io::from_hyper(upgraded, underway);
                    let mut driver = Driver::new(io, early, held, visit);
                    // RFC 6455 §7.1.1, as browsers need it: message, Close, then wait for theirs, then FIN.
                    driver.machine().close(Farewell { private: cause, ..Farewell::error(error) }, now());
                    driver.finish().await;
                }
                Err(_) => visit.never_open(EndCause::Error(error.error()), cause),
            }
            drop(linger);
        });
        response
    }

    /// Refuses in HTTP.
    pub(crate) fn refuse_http(self, refusal: &Refusal) -> Response {
        let visit = self.visit.answered();
        let response = refusal.http(Some(visit.id.simple().to_string()));
        visit.never_open(EndCause::Error(refusal.error.error()), refusal.cause.clone());
        response
    }
}
