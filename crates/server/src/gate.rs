//! The gate in front of WebSocket routes: the order of admission, and every "no" made readable.
//!
//! ```text
//! request → handshake valid? → origin → draining, overload → connections → [the route's own checks] → ready
//! ```

use crate::admission::Admission;
use crate::drain::Draining;
use crate::handshake::{self, Handshake, Invalid, SAYWHY_V1};
use crate::live::{Full, Live};
use crate::observe;
use crate::origin::{self, Origin};
use crate::outbox::{Connection, Outbox};
use crate::panic::caught;
use crate::refusal::Refusal;
use crate::transport::now;
use axum_core::body::Body;
use axum_core::response::{IntoResponse as _, Response};
use http::header::{
    CONNECTION, ORIGIN, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_PROTOCOL, UPGRADE,
};
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use hyper::upgrade::OnUpgrade;
use saywhy_codes::catalogue::{
    BAD_REQUEST, FORBIDDEN, INTERNAL_ERROR, NOT_FOUND, OVERLOADED, RATE_LIMITED, REPLACED, SERVICE_RESTART,
};
use saywhy_codes::{Dialect, EndCause, Loss};
use saywhy_proto::deflate::Agreed;
use saywhy_proto::{Compression, Limits};
use std::convert::Infallible;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::ops::Deref;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tower_layer::Layer;
use tower_service::Service;
use uuid::Uuid;

/// Which encoding a refusal takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RefusalForm {
    /// `close` for browsers and for clients that offer `saywhy.v1`, `http` for everyone else.
    #[default]
    Auto,
    /// 101, a message, and a Close.
    Close,
    /// An HTTP status and `application/problem+json`.
    Http,
}

/// How a gate treats the connections that pass it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The encoding of refusals.
    pub refuse: RefusalForm,
    /// The close codes that this route's clients know.
    pub dialect: Dialect,
    /// The pages that may connect, besides those of the same origin.
    pub origins: Vec<Origin>,
    /// Subprotocols that the application speaks, besides `saywhy.v1`. They get Closes and no messages of ours.
    pub subprotocols: Vec<String>,
    /// Whether the envelope is spoken: `ready`, error messages, `goodbye`. Without it peers get Closes only.
    pub envelope: bool,
    /// The cookie that carries a token, if one may.
    pub token_cookie: Option<String>,
    /// A newer connection of an identity ends the older one with `replaced`.
    pub one_per_identity: bool,
    /// What a session may take.
    pub limits: Arc<Limits>,
    /// Compression of messages (permessage-deflate, RFC 7692), for clients that offer it; `None` declines.
    pub compression: Option<Compression>,
    /// Bytes that may be queued for a peer: `slow_consumer`.
    pub outbound_bytes: usize,
    /// Messages that may be queued for a peer: `slow_consumer`.
    pub outbound_messages: usize,
    /// Connections at once: `overloaded`.
    pub connections: usize,
    /// Connections at once from one address (a /64 in IPv6): `rate_limited`.
    pub connections_per_address: usize,
    /// Connections at once of one identity: `rate_limited`.
    pub connections_per_identity: usize,
    /// Refused connections that wait for the peer's Close at once; past it refusals are plain 503.
    pub lingering: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            refuse: RefusalForm::Auto,
            dialect: Dialect::App,
            origins: Vec::new(),
            subprotocols: Vec::new(),
            envelope: true,
            token_cookie: None,
            one_per_identity: false,
            limits: Arc::new(Limits::default()),
            compression: None,
            outbound_bytes: 1024 * 1024,
            outbound_messages: 4_096,
            connections: 100_000,
            connections_per_address: 64,
            connections_per_identity: 16,
            lingering: 2_000,
        }
    }
}

/// Who connected, as the server that accepted the TCP connection saw it: put it into the request's extensions.
/// [`serve`](crate::serve) does.
#[derive(Clone, Copy, Debug)]
pub struct PeerAddr(pub SocketAddr);

/// A [`tower_layer::Layer`] in front of WebSocket routes. Requests that ask for no WebSocket pass it untouched.
///
/// Every answer behind it that is not an acceptance becomes a refusal that its reader can read: a [`Refusal`], an
/// HTTP error of any other middleware (by its status), an [`Admission`] that was dropped, a panic.
#[derive(Clone)]
pub struct Gate(Arc<Inner>);

struct Inner {
    settings: Settings,
    house: Arc<House>,
}

/// What all gates of a server share.
pub(crate) struct House {
    pub(crate) live: Live,
    pub(crate) draining: Draining,
    lingering: AtomicUsize,
}

impl Gate {
    /// The first gate of a server.
    pub fn new(settings: Settings) -> Self {
        observe::begin();
        let house = House { live: Live::default(), draining: Draining::default(), lingering: AtomicUsize::new(0) };
        Self(Arc::new(Inner { settings, house: Arc::new(house) }))
    }

    /// Another gate of the same server: its own settings, but drained with the others, and sharing their counts.
    #[must_use]
    pub fn with(&self, settings: Settings) -> Self {
        Self(Arc::new(Inner { settings, house: Arc::clone(&self.0.house) }))
    }

    /// How it treats connections.
    pub fn settings(&self) -> &Settings {
        &self.0.settings
    }

    /// The sessions that are open behind all gates of the server.
    pub fn sessions(&self) -> Vec<Outbox> {
        self.house().live.all()
    }

    /// The session of this id.
    pub fn session(&self, id: Uuid) -> Option<Outbox> {
        self.house().live.get(id)
    }

    pub(crate) fn house(&self) -> &Arc<House> {
        &self.0.house
    }

    pub(crate) fn may_linger(&self) -> Option<Lingering> {
        let count = &self.house().lingering;
        let taken = count.fetch_add(1, Ordering::Relaxed);
        let lingering = Lingering(Arc::clone(self.house()));
        (taken < self.settings().lingering).then_some(lingering)
    }
}

/// A place among the refused connections that wait for the peer's Close.
pub(crate) struct Lingering(Arc<House>);

impl Drop for Lingering {
    fn drop(&mut self) {
        self.0.lingering.fetch_sub(1, Ordering::Relaxed);
    }
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate").field("settings", self.settings()).finish_non_exhaustive()
    }
}

/// A connection whose handshake is valid and about which nothing is decided yet.
pub(crate) struct Pending {
    pub(crate) upgrade: OnUpgrade,
    pub(crate) connection: Unanswered,
    /// The client can read a message and a Close, and nothing else.
    pub(crate) close_form: bool,
    /// What the route wants to run, once it has let the connection in.
    pub(crate) accepted: Option<Begin>,
    /// What was agreed about compression, should the connection be let in.
    pub(crate) agreed: Option<Agreed>,
    accept: String,
    protocol: Option<String>,
}

type Begin = Box<dyn FnOnce(Box<Pending>) -> AbortHandle + Send>;

/// A connection that asked for an upgrade and has no answer yet. Dropped like that, because the client was gone, it has
/// its ending all the same.
pub(crate) struct Unanswered {
    connection: Arc<Connection>,
    answered: bool,
}

impl Unanswered {
    pub(crate) fn answered(mut self) -> Arc<Connection> {
        self.answered = true;
        Arc::clone(&self.connection)
    }
}

impl Deref for Unanswered {
    type Target = Arc<Connection>;
    fn deref(&self) -> &Arc<Connection> {
        &self.connection
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        if !self.answered {
            observe::never_open(&self.connection, EndCause::Lost(Loss::Eof), None);
        }
    }
}

impl Pending {
    /// Gives it to a gate further in, as if nobody had looked at it.
    fn hand_over(self) -> OnUpgrade {
        let connection = self.connection.answered();
        connection.gate.house().live.leave(&connection);
        self.upgrade
    }

    /// Lets it in, with the answer that says so.
    fn begin(self: Box<Self>, begin: Begin, response: Response) -> Response {
        let connection = Arc::clone(&self.connection);
        let house = connection.gate.house();
        let older = house.live.enter(&connection);
        // A drain that began meanwhile finds the session, or is seen here.
        if let Some(retry) = house.draining.retry() {
            return self.refuse(Refusal::new(SERVICE_RESTART.message().retry(retry)));
        }
        if connection.gate.settings().one_per_identity {
            let same_route = older.iter().filter(|older| older.path() == &*connection.path);
            same_route.for_each(|older| older.close_now(REPLACED));
        }
        let _ = connection.task.set(begin(self));
        response
    }

    /// The answer of someone who is let in. A refusal agrees on no extensions.
    pub(crate) fn welcome(&self) -> Response {
        let mut response = self.switching_protocols();
        // Names and numbers, so it is a header value.
        if let Some(Ok(agreed)) = self.agreed.map(|agreed| HeaderValue::from_str(&agreed.to_string())) {
            response.headers_mut().insert(SEC_WEBSOCKET_EXTENSIONS, agreed);
        }
        response
    }

    /// RFC 6455 §4.2.2.
    pub(crate) fn switching_protocols(&self) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        // Base64 and tokens are visible ASCII, so both are header values.
        if let Ok(accept) = HeaderValue::from_str(&self.accept) {
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

impl<S> Layer<S> for Gate {
    type Service = Gated<S>;

    fn layer(&self, inner: S) -> Gated<S> {
        Gated { gate: self.clone(), inner }
    }
}

/// A service behind a [`Gate`].
#[derive(Clone, Debug)]
pub struct Gated<S> {
    gate: Gate,
    inner: S,
}

impl<S, B> Service<Request<B>> for Gated<S>
where
    S: Service<Request<B>, Response = Response, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        if !handshake::asks_for_websocket(request.headers()) {
            return Box::pin(self.inner.call(request));
        }
        // A gate further out has not decided yet: this one knows the route better, and takes over.
        if let Some(outer) = request.extensions_mut().remove::<Admission>()
            && let Some(pending) = outer.take_pending()
        {
            request.extensions_mut().insert(pending.hand_over());
        }
        match self.gate.admit(&mut request) {
            Ok(slot) => {
                let answer = self.inner.call(request);
                let time = self.gate.settings().limits.ready;
                Box::pin(async move {
                    let answer = timeout(time, caught(answer)).await.unwrap_or_else(|_| {
                        // Whoever waits is told to come back, instead of waiting for ever.
                        let slow = Refusal::new(OVERLOADED).because("the route did not decide in time");
                        Ok(Ok(slow.into_response()))
                    });
                    Ok(settle(&slot, answer))
                })
            }
            Err(refused) => Box::pin(std::future::ready(Ok(*refused))),
        }
    }
}

/// What is decided when the routes have answered.
fn settle(slot: &Slot, answer: Result<Result<Response, Infallible>, saywhy_codes::Cause>) -> Response {
    let answer = answer.map(|Ok(response)| response);
    let Some(mut pending) = lock(slot).take() else {
        // A gate further in took over, and has answered.
        return answer.unwrap_or_else(|cause| Refusal::new(INTERNAL_ERROR).because(cause).http(None));
    };
    let refusal = match (answer, pending.accepted.take()) {
        (Ok(response), Some(begin)) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
            return pending.begin(begin, response);
        }
        (Err(cause), _) => Refusal::new(INTERNAL_ERROR).because(cause),
        (Ok(response), _) => match (Refusal::of_answer(&response), response.status()) {
            (Some(refusal), _) => refusal,
            // The path is served, but not as a WebSocket.
            (None, status) if !pending.connection.was_extracted() => {
                Refusal::new(NOT_FOUND.say("There is no WebSocket at this path"))
                    .because(format!("the route answered {status}"))
            }
            (None, _) => Refusal::new(INTERNAL_ERROR).because("the admission was dropped undecided"),
        },
    };
    pending.refuse(refusal)
}

impl Gate {
    /// The checks before the route's own, cheapest first. What passes waits in the slot.
    fn admit<B>(&self, request: &mut Request<B>) -> Result<Slot, Box<Response>> {
        let handshake = handshake::check(request);
        let peer = request.extensions().get::<PeerAddr>().map(|peer| peer.0.ip());
        let upgrade = request.extensions_mut().remove::<OnUpgrade>();
        let (handshake, upgrade) = match (handshake, upgrade) {
            (Ok(handshake), Some(upgrade)) => (handshake, upgrade),
            (Err(invalid), _) => return Err(Box::new(self.refuse_handshake(request, peer, invalid))),
            (Ok(_), None) => return Err(Box::new(self.refuse_handshake(request, peer, Invalid::HttpVersion))),
        };
        let Handshake { accept, protocols, bearer, extensions } = handshake;
        let close_form = self.reads_closes(request.headers(), &protocols);
        let settings = self.settings();
        let spoken = |protocol: &&String| *protocol == SAYWHY_V1 || settings.subprotocols.contains(protocol);
        let chosen = protocols.iter().find(spoken);
        let unknown = chosen.is_none() && !protocols.is_empty();
        // A refusal selects what it does not speak: otherwise the browser fails the connection itself.
        let protocol = chosen.or_else(|| protocols.iter().find(|p| !handshake::is_token_like(p))).cloned();
        let json = settings.envelope && protocol.as_deref().is_none_or(|protocol| protocol == SAYWHY_V1);
        let path = request.uri().path().into();
        let connection = Arc::new(Connection::new(self.clone(), path, peer, json, now()));
        let connection = Unanswered { connection, answered: false };
        let agreed = settings.compression.as_ref().and_then(|ours| Agreed::answer(&extensions, ours));
        let pending = Box::new(Pending { upgrade, connection, close_form, accepted: None, agreed, accept, protocol });

        if !origin::is_allowed(request.headers(), &settings.origins) {
            // And nothing else: to a foreign page a refusal must not tell what is here.
            return Err(Box::new(pending.refuse(Refusal::new(FORBIDDEN.say("Pages of this origin may not connect")))));
        }
        if let Some(retry) = self.house().draining.retry() {
            return Err(Box::new(pending.refuse(Refusal::new(SERVICE_RESTART.message().retry(retry)))));
        }
        if unknown {
            let words = "None of the subprotocols on offer is spoken here";
            return Err(Box::new(pending.refuse(Refusal::new(BAD_REQUEST.say(words)))));
        }
        if let Err(full) = self.house().live.reserve(&pending.connection) {
            let error = match full {
                Full::House => OVERLOADED.message(),
                Full::Address => RATE_LIMITED.say("Too many connections from your address").retry(OVERLOADED.retry),
            };
            return Err(Box::new(pending.refuse(Refusal::new(error))));
        }
        let slot = Arc::new(Mutex::new(Some(pending)));
        let admission = Admission::new(request, Arc::clone(&slot), bearer, settings);
        request.extensions_mut().insert(admission);
        Ok(slot)
    }

    /// A browser sends `Origin`, or at least `Sec-Fetch-Mode`, and can read neither status nor body.
    fn reads_closes(&self, headers: &HeaderMap, protocols: &[String]) -> bool {
        match self.settings().refuse {
            RefusalForm::Close => true,
            RefusalForm::Http => false,
            RefusalForm::Auto => {
                headers.contains_key(ORIGIN)
                    || headers.get("sec-fetch-mode").is_some_and(|mode| mode == "websocket")
                    || protocols.iter().any(|protocol| protocol == SAYWHY_V1)
            }
        }
    }

    /// Without a valid handshake there is no 101, and so no Close.
    fn refuse_handshake<B>(&self, request: &Request<B>, peer: Option<IpAddr>, invalid: Invalid) -> Response {
        let status = match invalid {
            Invalid::Version => StatusCode::UPGRADE_REQUIRED,
            _ => StatusCode::BAD_REQUEST,
        };
        let refusal = Refusal::new(BAD_REQUEST.say(invalid.message())).status(status);
        let connection = Connection::new(self.clone(), request.uri().path().into(), peer, false, now());
        let mut response = refusal.http(Some(connection.id.simple().to_string()));
        // What follows a broken handshake, such as a body, could be taken for another request.
        response.headers_mut().append(CONNECTION, HeaderValue::from_static("close"));
        observe::refused_handshake(&connection, invalid.message());
        response
    }
}
