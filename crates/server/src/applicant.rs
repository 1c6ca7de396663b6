//! Who asks to come in: what is known of one, and the checks that the house makes for a route.

use crate::connection::Connection;
use crate::failure::Failure;
use crate::gate::Gate;
use crate::house::{House, NotTheirs};
use crate::outbox::Outbox;
use crate::refusal::Refusal;
use crate::token::{TokenKeys, TokenProblem};
use saywhy_codes::catalogue::{FORBIDDEN, RATE_LIMITED};
use saywhy_codes::{Cause, ErrorMessage};
use serde::de::DeserializeOwned;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// Who asks to come in, as an [`Admission`](crate::Admission), or in the first message of a connection that
/// [`Admission::ask_for_token`](crate::Admission::ask_for_token) has let in for that.
#[derive(Clone)]
pub struct Applicant {
    pub(crate) house: Arc<House>,
    pub(crate) connection: Arc<Connection>,
    pub(crate) token: Option<Arc<str>>,
}

impl Applicant {
    /// The id by which the client and the operator know this connection.
    pub fn id(&self) -> Uuid {
        self.connection.id
    }

    /// The token, from whichever place the client put it: an offered subprotocol `saywhy.bearer.…`,
    /// `Authorization: Bearer`, the query parameter `access_token`, the configured cookie, or the first message.
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// Whose connection it is, once that was said.
    pub fn user(&self) -> Option<&str> {
        self.connection.user.get().map(|user| &**user)
    }

    /// The path that was asked for, without its query.
    pub fn path(&self) -> &str {
        &self.connection.path
    }

    /// Where the connection comes from, when the server said so.
    pub fn peer(&self) -> Option<IpAddr> {
        self.connection.peer
    }

    /// How long the decision about it may still take: past it the gate decides.
    pub fn time_left(&self) -> Duration {
        self.connection.ready_by().saturating_duration_since(tokio::time::Instant::now())
    }

    /// Whether it comes over TLS: over ours, or as a trusted proxy says. `None` when nobody can tell.
    pub fn is_secure(&self) -> Option<bool> {
        self.connection.secure
    }

    /// Checks its token, and says whose connection it is. What the application reads of the token is the answer.
    ///
    /// # Errors
    /// `unauthorized` when the token is missing, not good or revoked. `rate_limited` when its address has brought too many
    /// that were not ([`Settings::failed_tokens`](crate::Settings::failed_tokens)), before it is looked at, and as
    /// [`Applicant::identify`] says. `overloaded` when it cannot be checked at present.
    pub async fn authenticate<C: DeserializeOwned>(&self, keys: &TokenKeys) -> Result<C, Refusal> {
        if let Some(wait) = self.house.may_not_try(&self.connection) {
            return Err(Refusal::new(too_many_failures(wait)));
        }
        match check(&self.house, &self.connection, keys, self.token()).await {
            Ok((claims, subject)) => {
                self.identify(&subject)?;
                Ok(claims)
            }
            Err(problem) => Err(match failed(&self.house, &self.connection, &problem) {
                Some(error) => refusal(error, problem.explain().1),
                None => problem.into(),
            }),
        }
    }

    /// Says whose connection it is. The first identity stands.
    ///
    /// # Errors
    /// `rate_limited` when the identity has as many connections as it may, or asks for them too often; with
    /// [`Settings::one_per_identity`](crate::Settings::one_per_identity) the older ones end with `replaced` instead, when
    /// this one is let in. `unauthorized` when the identity is revoked.
    pub fn identify(&self, user: &str) -> Result<(), Refusal> {
        let user = self.connection.user.get_or_init(|| user.into());
        if let Err(wait) = self.house.identifies(user) {
            let error = RATE_LIMITED.say("The same identity asks for connections too often");
            return Err(Refusal::new(error.retry_after(wait, wait)));
        }
        let settings = &self.connection.settings;
        let limit = if settings.one_per_identity { usize::MAX } else { settings.connections_per_identity };
        self.house.identify(&self.connection, user, limit).map_err(|not_theirs| match not_theirs {
            NotTheirs::Full => Refusal::new(RATE_LIMITED.say("Too many connections of the same identity")),
            NotTheirs::Revoked => TokenProblem::Revoked { subject: None }.into(),
        })
    }
}

impl Gate {
    /// Checks the token that a session presents to stay longer, and has it stay. What the application reads of the token
    /// is the answer.
    ///
    /// # Errors
    /// A token that is missing, not good or revoked ends the session. One of somebody else, one too many from this address
    /// and one that cannot be checked at present change nothing.
    pub async fn renew<C: DeserializeOwned>(
        &self,
        session: &Outbox,
        keys: &TokenKeys,
        token: &str,
    ) -> Result<C, Failure> {
        let (house, connection) = (self.house(), &session.0);
        if let Some(wait) = house.may_not_try(connection) {
            return Err(Failure::reply(too_many_failures(wait)));
        }
        let verified = match keys.verify::<C>(Some(token)).await {
            Ok(verified) if session.user() != Some(&verified.token.subject) => {
                return Err(Failure::reply(FORBIDDEN.say("That token is of another identity")));
            }
            Ok(verified) if house.hold(connection, &verified.token) => verified,
            Ok(verified) => return Err(revoked(house, connection, verified.token.subject).into()),
            Err(problem) => {
                failed(house, connection, &problem);
                return Err(problem.into());
            }
        };
        session
            .expires_in(Duration::from_secs(verified.token.expires.saturating_sub(crate::revocation::seconds_now())));
        Ok(verified.claims)
    }
}

/// The claims of a token that is good and not revoked, and whose it is.
async fn check<C: DeserializeOwned>(
    house: &House,
    connection: &Connection,
    keys: &TokenKeys,
    token: Option<&str>,
) -> Result<(C, String), TokenProblem> {
    let verified = keys.verify::<C>(token).await?;
    if house.hold(connection, &verified.token) {
        return Ok((verified.claims, verified.token.subject));
    }
    Err(TokenProblem::Revoked { subject: Some(verified.token.subject) })
}

fn revoked(house: &House, connection: &Connection, subject: String) -> TokenProblem {
    let problem = TokenProblem::Revoked { subject: Some(subject) };
    failed(house, connection, &problem);
    problem
}

/// Counts a token that is not good; the error, when it is one too many of its identity.
fn failed(house: &House, connection: &Connection, problem: &TokenProblem) -> Option<ErrorMessage> {
    if !problem.is_failure() {
        return None;
    }
    house.failed(connection, problem.subject()).map(too_many_failures)
}

fn too_many_failures(wait: Duration) -> ErrorMessage {
    let error = RATE_LIMITED.say("Too many tokens that were not good: wait a little");
    error.retry_after(wait, wait / 2).detail("reason", "failed_tokens")
}

fn refusal(error: ErrorMessage, cause: Option<Cause>) -> Refusal {
    let refusal = Refusal::new(error);
    match cause {
        Some(cause) => refusal.because(cause),
        None => refusal,
    }
}

/// Without the token.
impl fmt::Debug for Applicant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Applicant").field("id", &self.id()).field("path", &self.path()).finish_non_exhaustive()
    }
}
