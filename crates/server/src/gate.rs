//! The gate in front of WebSocket routes: the order of admission, and every "no" made readable.
//!
//! ```text
//! request → handshake valid? → origin → draining → rates → connections → [the route's own checks] → ready
//! ```

use crate::admission::Admission;
use crate::connection::{Asked, Connection};
use crate::handshake::{self, Handshake, Invalid, SAYWHY_V1};
use crate::house::{House, NotIn, Visit};
use crate::incoming::Underway;
use crate::observe;
use crate::origin;
use crate::outbox::Outbox;
use crate::panic::caught;
use crate::pending::{Begin, Pending, Slot, Unanswered, lock};
use crate::places::Full;
use crate::proxies::Source;
use crate::rates::TooOften;
use crate::refusal::Refusal;
use crate::settings::{RefusalForm, Settings};
use crate::token::TokenProblem;
use axum_core::response::{IntoResponse as _, Response};
use http::header::{CONNECTION, ORIGIN};
use http::{HeaderMap, HeaderValue, Request, StatusCode, Version};
use hyper::upgrade::OnUpgrade;
use saywhy_codes::catalogue::{
    BAD_REQUEST, FORBIDDEN, INTERNAL_ERROR, NOT_FOUND, OVERLOADED, RATE_LIMITED, REPLACED, SERVICE_RESTART,
};
use saywhy_proto::deflate::Agreed;
use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::time::timeout;
use tower_layer::Layer;
use tower_service::Service;
use uuid::Uuid;

/// Who connected, as the server that accepted the TCP connection saw it: put it into the request's extensions.
/// [`serve`](crate::serve) does.
#[derive(Clone, Copy, Debug)]
pub struct PeerAddr(pub SocketAddr);

/// A [`tower_layer::Layer`] in front of WebSocket routes. Requests that ask for no WebSocket pass it untouched.
///
/// Every answer behind it that is not an acceptance becomes a refusal that its reader can read: a [`Refusal`], an
/// HTTP error of any other middleware (by its status), an [`Admission`] that was dropped, a panic.
#[derive(Clone)]
pub struct Gate {
    settings: Arc<Settings>,
    house: Arc<House>,
}

impl Gate {
    /// The first gate of a server.
    pub fn new(settings: Settings) -> Self {
        observe::begin();
        let house = Arc::new(House::new(&settings));
        Self { settings: Arc::new(settings), house }
    }

    /// Another gate of the same server: its own settings, but drained with the others, and sharing their counts.
    #[must_use]
    pub fn with(&self, settings: Settings) -> Self {
        Self { settings: Arc::new(settings), house: Arc::clone(&self.house) }
    }

    /// Goes by the rates of this gate from now on, in the whole server. One that has changed begins to count anew; everything
    /// else in its settings holds for those who come to this gate.
    pub fn set(&self) {
        self.house.set_rates(&self.settings);
    }

    /// How it treats connections.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The sessions that are open behind all gates of the server.
    pub fn sessions(&self) -> Vec<Outbox> {
        self.house.sessions()
    }

    /// The session of this id.
    pub fn session(&self, id: Uuid) -> Option<Outbox> {
        self.house.session(id)
    }

    pub(crate) fn house(&self) -> &Arc<House> {
        &self.house
    }
}

impl Gate {
    pub(crate) fn visit(&self, asked: Asked, json: bool) -> Visit {
        Visit::new(Arc::clone(&self.house), Connection::new(Arc::clone(&self.settings), asked, json))
    }
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate").field("settings", self.settings()).finish_non_exhaustive()
    }
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
        if !handshake::asks_for_websocket(&request) {
            return Box::pin(self.inner.call(request));
        }
        // A gate further out has not decided yet: this one knows the route better, and takes over.
        if let Some(outer) = request.extensions_mut().remove::<Admission>()
            && let Some(pending) = outer.take_pending()
        {
            pending.hand_over(request.extensions_mut());
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

/// Lets a connection in, with the answer that says so.
fn begin_session(pending: Box<Pending>, begin: Begin, response: Response) -> Response {
    let connection = Arc::clone(pending.visit.connection());
    let entered =
        if pending.asks { pending.visit.enter_to_be_asked().map(|()| Vec::new()) } else { pending.visit.enter() };
    let older = match entered {
        Ok(older) => older,
        Err(not_in) => return pending.refuse(not_in.into()),
    };
    // A drain that began meanwhile finds the session, or is seen here.
    if let Some(retry) = pending.visit.house().draining() {
        return pending.refuse(Refusal::new(SERVICE_RESTART.message().retry(retry)));
    }
    older.iter().for_each(|older| older.close_now(REPLACED));
    let _ = connection.task.set(begin(pending));
    response
}

impl From<NotIn> for Refusal {
    fn from(not_in: NotIn) -> Self {
        match not_in {
            NotIn::Revoked => TokenProblem::Revoked { subject: None }.into(),
            NotIn::Replacing(wait) => Self::new(
                RATE_LIMITED
                    .say("Connections of this identity keep taking each other's place: is it signed in twice?")
                    .retry_after(wait, wait / 2)
                    .detail("reason", "replacing"),
            ),
            NotIn::Unauthenticated(Full::All) => Self::new(OVERLOADED.say("Too many connections have no token yet")),
            NotIn::Unauthenticated(Full::Address) => Self::new(
                RATE_LIMITED.say("Too many connections from your address have no token yet").retry(OVERLOADED.retry),
            ),
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
        (Ok(response), Some(begin)) if response.status() == pending.yes() => {
            return begin_session(pending, begin, response);
        }
        (Err(cause), _) => Refusal::new(INTERNAL_ERROR).because(cause),
        (Ok(response), _) => match (Refusal::of_answer(&response), response.status()) {
            (Some(refusal), _) => refusal,
            // The path is served, but not as a WebSocket.
            (None, status) if !pending.visit.was_extracted() => {
                Refusal::new(NOT_FOUND.say("There is no WebSocket at this path"))
                    .because(format!("the route answered {status}"))
            }
            (None, _) => Refusal::new(INTERNAL_ERROR).because("the admission was dropped undecided"),
        },
    };
    pending.refuse(refusal)
}

/// For the operator, when an address has reached its share.
const SHARED_ADDRESS: &str =
    "the limit of an address; hint: if it is a proxy of yours, all of its clients share the limit";

impl Gate {
    /// The checks before the route's own, cheapest first. What passes waits in the slot.
    fn admit<B>(&self, request: &mut Request<B>) -> Result<Slot, Box<Response>> {
        let handshake = handshake::check(request);
        let upgrade = request.extensions_mut().remove::<OnUpgrade>();
        let underway = request.extensions_mut().remove::<Underway>();
        let (handshake, upgrade) = match (handshake, upgrade) {
            (Ok(handshake), Some(upgrade)) => (handshake, upgrade),
            (Err(invalid), _) => return Err(Box::new(self.refuse_handshake(request, invalid))),
            (Ok(_), None) => return Err(Box::new(self.refuse_handshake(request, Invalid::HttpVersion))),
        };
        let Handshake { accept, protocols, bearer, extensions } = handshake;
        let close_form = self.reads_closes(request.headers(), &protocols);
        let settings = self.settings();
        let spoken = |protocol: &&String| *protocol == SAYWHY_V1 || settings.subprotocols.contains(protocol);
        let chosen = protocols.iter().find(spoken);
        let unknown = chosen.is_none() && !protocols.is_empty() && !settings.any_subprotocol;
        // A refusal selects what it does not speak: otherwise the browser fails the connection itself.
        let protocol = chosen.or_else(|| protocols.iter().find(|p| !handshake::is_token_like(p))).cloned();
        let json = settings.envelope && protocol.as_deref().is_none_or(|protocol| protocol == SAYWHY_V1);
        let visit = Unanswered::new(self.visit(Asked::of(request), json));
        let agreed = settings.compression.as_ref().and_then(|ours| Agreed::answer(&extensions, ours));
        let pending = Box::new(Pending {
            upgrade,
            underway,
            visit,
            close_form,
            accepted: None,
            asks: false,
            agreed,
            headers: None,
            accept,
            protocol,
        });

        let secure = request.extensions().get::<Source>().and_then(|source| source.secure);
        if !origin::is_allowed(request.headers(), secure, &settings.origins) {
            // And nothing else: to a foreign page a refusal must not tell what is here.
            return Err(Box::new(pending.refuse(Refusal::new(FORBIDDEN.say("Pages of this origin may not connect")))));
        }
        if let Some(retry) = self.house.draining() {
            return Err(Box::new(pending.refuse(Refusal::new(SERVICE_RESTART.message().retry(retry)))));
        }
        if unknown {
            let words = "None of the subprotocols on offer is spoken here";
            return Err(Box::new(pending.refuse(Refusal::new(BAD_REQUEST.say(words)))));
        }
        if let Err(too_often) = self.house.connects(pending.visit.peer) {
            let refusal = match too_often {
                TooOften::Everyone => Refusal::new(OVERLOADED).because("clients connect faster than they may"),
                TooOften::Address(wait) => {
                    let error = RATE_LIMITED.say("Your address asks for connections too often");
                    Refusal::new(error.retry_after(wait, wait)).because(SHARED_ADDRESS)
                }
            };
            return Err(Box::new(pending.refuse(refusal)));
        }
        if let Err(full) = pending.visit.reserve() {
            let refusal = match full {
                Full::All => Refusal::new(OVERLOADED).because("there are as many connections as there may be"),
                Full::Address => {
                    let error = RATE_LIMITED.say("Too many connections from your address");
                    Refusal::new(error.retry(OVERLOADED.retry)).because(SHARED_ADDRESS)
                }
            };
            return Err(Box::new(pending.refuse(refusal)));
        }
        let admission = Admission::new(request, pending, bearer);
        let slot = admission.slot();
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
    fn refuse_handshake<B>(&self, request: &Request<B>, invalid: Invalid) -> Response {
        let status = match invalid {
            Invalid::Version => StatusCode::UPGRADE_REQUIRED,
            _ => StatusCode::BAD_REQUEST,
        };
        let refusal = Refusal::new(BAD_REQUEST.say(invalid.message())).status(status);
        let connection = Connection::new(Arc::clone(&self.settings), Asked::of(request), false);
        let mut response = refusal.http(Some(connection.id.simple().to_string()));
        if request.version() != Version::HTTP_2 {
            // What follows a broken handshake, such as a body, could be taken for another request.
            response.headers_mut().append(CONNECTION, HeaderValue::from_static("close"));
        }
        observe::refused_handshake(&connection, invalid.message());
        response
    }
}
