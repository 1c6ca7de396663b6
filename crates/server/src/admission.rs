//! A connection that asks to be let in. Exactly one decision is made about it.

use crate::connection::Connection;
use crate::house::House;
use crate::pending::{self, Pending, Slot};
use crate::refusal::Refusal;
use crate::session::{self, Session};
use crate::stream::Io;
use crate::transport::Driver;
use axum_core::extract::FromRequestParts;
use axum_core::response::{IntoResponse, Response};
use http::header::{AUTHORIZATION, COOKIE};
use http::request::Parts;
use http::{Request, StatusCode};
use saywhy_codes::ErrorMessage;
use saywhy_codes::catalogue::{BAD_REQUEST, INTERNAL_ERROR, RATE_LIMITED};
use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use uuid::Uuid;

/// A connection whose handshake is valid, from an origin that may connect. [`Admission::accept`] or
/// [`Admission::refuse`] it; dropped undecided, it is refused with `internal_error`.
///
/// It is an axum extractor. Behind no [`Gate`](crate::Gate) it refuses everything, and says so in the log.
#[derive(Clone)]
pub struct Admission {
    slot: Slot,
    house: Arc<House>,
    connection: Arc<Connection>,
    token: Option<Arc<str>>,
}

impl Admission {
    pub(crate) fn new<B>(request: &Request<B>, pending: Box<Pending>, bearer: Option<String>) -> Self {
        let connection = Arc::clone(pending.visit.connection());
        let house = Arc::clone(pending.visit.house());
        let settings = &connection.settings;
        let token = bearer
            .or_else(|| from_authorization(request))
            .or_else(|| from_query(request))
            .or_else(|| from_cookie(request, settings.token_cookie.as_deref()?));
        Self { slot: Arc::new(Mutex::new(Some(pending))), house, connection, token: token.map(Into::into) }
    }

    /// Where its connection waits for the decision.
    pub(crate) fn slot(&self) -> Slot {
        Arc::clone(&self.slot)
    }

    pub(crate) fn take_pending(&self) -> Option<Box<Pending>> {
        pending::lock(&self.slot).take()
    }

    /// The id by which the client and the operator know this connection.
    pub fn id(&self) -> Uuid {
        self.connection.id
    }

    /// The token, from whichever place the client put it: an offered subprotocol `saywhy.bearer.…`,
    /// `Authorization: Bearer`, the query parameter `access_token`, or the configured cookie.
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// The path that was asked for, without its query.
    pub fn path(&self) -> &str {
        &self.connection.path
    }

    /// Where the connection comes from, when the server said so.
    pub fn peer(&self) -> Option<IpAddr> {
        self.connection.peer
    }

    /// Says whose connection it is. The first identity stands.
    ///
    /// # Errors
    /// `rate_limited` when the identity has as many connections as it may, or asks for them too often; with
    /// [`Settings::one_per_identity`](crate::Settings::one_per_identity) the older ones end with `replaced` instead, when this one is let in.
    pub fn identify(&self, user: &str) -> Result<(), Refusal> {
        let user = self.connection.user.get_or_init(|| user.into());
        if let Err(wait) = self.house.rates.identifies(user) {
            let error = RATE_LIMITED.say("The same identity asks for connections too often");
            return Err(Refusal::new(error.retry_after(wait, wait)));
        }
        let settings = &self.connection.settings;
        let limit = if settings.one_per_identity { usize::MAX } else { settings.connections_per_identity };
        if !self.house.identify(&self.connection, user, limit) {
            return Err(Refusal::new(RATE_LIMITED.say("Too many connections of the same identity")));
        }
        Ok(())
    }

    /// Lets the connection in: answers 101, and when the route has done so runs `session` on a task of its own.
    ///
    /// When the future ends before the session does, or panics, the client is told so.
    pub fn accept<F, R>(self, session: F) -> Response
    where
        F: FnOnce(Session) -> R + Send + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let mut slot = pending::lock(&self.slot);
        let Some(pending) = &mut *slot else {
            // The gate answered already: this admission outlived its handler.
            return Refusal::new(INTERNAL_ERROR).into_response();
        };
        // Begun by the gate: what goes wrong before the route has answered can still be a refusal that says so.
        // The session is boxed, because the future would hold it for as long as the connection lives.
        let session = Box::new(session);
        pending.accepted = Some(Box::new(|pending| tokio::spawn(run(pending, session)).abort_handle()));
        pending.welcome()
    }

    /// Does not let it in.
    pub fn refuse(self, error: impl Into<ErrorMessage>) -> Refusal {
        Refusal::new(error)
    }
}

async fn run<F, R>(pending: Box<Pending>, session: Box<F>)
where
    F: FnOnce(Session) -> R + Send + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    // Without a driver, the client was gone before the 101 could be written.
    if let Some(driver) = upgraded(pending).await {
        session::run(driver, session).await;
    }
}

/// A future of its own, so that a connection's keeps nothing of it.
async fn upgraded(pending: Box<Pending>) -> Option<Box<Driver>> {
    let Pending { upgrade, underway, visit, agreed, .. } = *pending;
    let upgraded = upgrade.await.ok()?;
    let visit = visit.answered();
    let settings = Arc::clone(&visit.settings);
    let (io, early, held) = Io::from_hyper(upgraded, underway);
    let mut driver = Driver::new(io, early, held, visit);
    if let (Some(agreed), Some(ours)) = (agreed, &settings.compression) {
        driver.machine().compress(agreed, ours);
    }
    Some(driver)
}

impl<S: Sync> FromRequestParts<S> for Admission {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Refusal> {
        if let Some(admission) = parts.extensions.remove::<Self>() {
            admission.connection.extracted();
            return Ok(admission);
        }
        if crate::handshake::asks(&parts.method, &parts.headers, &parts.extensions) {
            tracing::error!(path = parts.uri.path(), "no Gate in front of this route; hint: add .layer(Gate::new(…))");
            return Err(Refusal::new(INTERNAL_ERROR));
        }
        let words = "This is a WebSocket: connect with ws:// or wss://";
        Err(Refusal::new(BAD_REQUEST.say(words)).status(StatusCode::UPGRADE_REQUIRED))
    }
}

/// Without the token.
impl fmt::Debug for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admission").field("id", &self.id()).field("path", &self.path()).finish_non_exhaustive()
    }
}

fn from_authorization<B>(request: &Request<B>) -> Option<String> {
    let value = request.headers().get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
}

fn from_query<B>(request: &Request<B>) -> Option<String> {
    let query = request.uri().query()?.as_bytes();
    form_urlencoded::parse(query).find(|(key, _)| key == "access_token").map(|(_, token)| token.into_owned())
}

fn from_cookie<B>(request: &Request<B>, name: &str) -> Option<String> {
    let cookies = request.headers().get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    cookies.flat_map(|line| line.split(';')).find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        (key.trim() == name).then(|| value.trim().to_owned())
    })
}
