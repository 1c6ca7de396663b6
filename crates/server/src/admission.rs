//! A connection that asks to be let in. Exactly one decision is made about it.

use crate::applicant::Applicant;
use crate::driver::Driver;
use crate::pending::{self, Pending, Slot};
use crate::refusal::Refusal;
use crate::relay::{Relay, Upstream};
use crate::session::{self, Session};
use crate::stream::Io;
use crate::token::TokenProblem;
use axum_core::extract::FromRequestParts;
use axum_core::response::{IntoResponse, Response};
use http::header::{AUTHORIZATION, COOKIE};
use http::request::Parts;
use http::{Request, StatusCode};
use saywhy_codes::ErrorMessage;
use saywhy_codes::catalogue::{BAD_REQUEST, INTERNAL_ERROR};
use std::fmt;
use std::future::Future;
use std::ops::Deref;
use std::sync::{Arc, Mutex};

/// A connection whose handshake is valid, from an origin that may connect. [`Admission::accept`] or
/// [`Admission::refuse`] it; dropped undecided, it is refused with `internal_error`.
///
/// It is an axum extractor. Behind no [`Gate`](crate::Gate) it refuses everything, and says so in the log.
#[derive(Clone)]
pub struct Admission {
    slot: Slot,
    applicant: Applicant,
}

/// What is known of who asks, and the checks that the house makes.
impl Deref for Admission {
    type Target = Applicant;
    fn deref(&self) -> &Applicant {
        &self.applicant
    }
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
        let applicant = Applicant { house, connection, token: token.map(Into::into) };
        Self { slot: Arc::new(Mutex::new(Some(pending))), applicant }
    }

    /// Where its connection waits for the decision.
    pub(crate) fn slot(&self) -> Slot {
        Arc::clone(&self.slot)
    }

    pub(crate) fn take_pending(&self) -> Option<Box<Pending>> {
        pending::lock(&self.slot).take()
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

    /// Lets the connection in to bring its token in the first message, `authenticate`, before the deadline for `ready`
    /// ([`Limits::ready`](crate::Limits::ready)), and then does what `decide` says: refuses after all, or runs the session
    /// that it returns. Until then nothing is sent to the connection, and it is heard for nothing else.
    ///
    /// Without the envelope there is no message to ask with: such a client is refused.
    ///
    /// ```
    /// # use saywhy::{Admission, Message, Refusal, TokenKeys};
    /// # use axum::response::Response;
    /// # use std::sync::Arc;
    /// async fn ws(admission: Admission, keys: Arc<TokenKeys>) -> Result<Response, Refusal> {
    ///     Ok(admission.ask_for_token(async move |applicant| {
    ///         let _claims: serde_json::Value = applicant.authenticate(&keys).await?;
    ///         Ok(|session: saywhy::Session| session.each(|message| Some(message)))
    ///     }))
    /// }
    /// ```
    pub fn ask_for_token<D, W, F, R>(self, decide: D) -> Response
    where
        D: FnOnce(Applicant) -> W + Send + 'static,
        W: Future<Output = Result<F, Refusal>> + Send + 'static,
        F: FnOnce(Session) -> R + Send + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        if !self.applicant.connection.json {
            return Refusal::from(TokenProblem::Missing).into_response();
        }
        let mut slot = pending::lock(&self.slot);
        let Some(pending) = &mut *slot else {
            return Refusal::new(INTERNAL_ERROR).into_response();
        };
        let (decide, applicant) = (Box::new(decide), self.applicant.clone());
        pending.asks = true;
        pending.accepted = Some(Box::new(|pending| tokio::spawn(ask(pending, applicant, decide)).abort_handle()));
        pending.welcome()
    }

    /// Lets the connection in and joins it to an upstream, which has let it in already: what either says the other hears,
    /// and when one of them is gone the other is told. To a client the upstream's own Close is passed on as it is; whatever
    /// else ends the upstream is a `bad_gateway`.
    pub fn relay(self, upstream: Upstream) -> Response {
        let mut slot = pending::lock(&self.slot);
        let Some(pending) = &mut *slot else {
            return Refusal::new(INTERNAL_ERROR).into_response();
        };
        self.applicant.connection.relayed(upstream.protocol.as_deref());
        pending.protocol = upstream.protocol.clone();
        // Compression is between the two ends.
        pending.agreed = None;
        pending.headers = Some(Box::new(upstream.headers.clone()));
        let upstream = Box::new(upstream);
        pending.accepted = Some(Box::new(|pending| tokio::spawn(join(pending, upstream)).abort_handle()));
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
        session::run(Session::new(driver), session).await;
    }
}

async fn join(pending: Box<Pending>, upstream: Box<Upstream>) {
    // A box of its own, so that the relay's future keeps nothing of it.
    let Some(relay) = Box::pin(joined(pending, upstream)).await else { return };
    relay.await;
}

async fn joined(pending: Box<Pending>, upstream: Box<Upstream>) -> Option<Relay> {
    Some(Relay::new(upgraded(pending).await?, *upstream))
}

async fn ask<D, W, F, R>(pending: Box<Pending>, applicant: Applicant, decide: Box<D>)
where
    D: FnOnce(Applicant) -> W + Send + 'static,
    W: Future<Output = Result<F, Refusal>> + Send + 'static,
    F: FnOnce(Session) -> R + Send + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    // A box of its own, so that the session's future keeps nothing of it.
    let Some((session, begin)) = Box::pin(asked(pending, applicant, decide)).await else { return };
    session::run(session, begin).await;
}

async fn asked<D, W, F>(pending: Box<Pending>, applicant: Applicant, decide: Box<D>) -> Option<(Session, Box<F>)>
where
    D: FnOnce(Applicant) -> W + Send + 'static,
    W: Future<Output = Result<F, Refusal>> + Send + 'static,
{
    let driver = upgraded(pending).await?;
    Session::new(driver).ask(applicant, decide).await
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
            admission.applicant.connection.extracted();
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
