//! The application's own check, asked over HTTP: the last one before `ready`.

use crate::applicant::Applicant;
use crate::fetch::{Fetch, FetchError, FetchLimits};
use crate::refusal::{Refusal, said_in_http};
use http::Uri;
use saywhy_codes::Cause;
use saywhy_codes::catalogue::{BAD_GATEWAY, GATEWAY_TIMEOUT, OVERLOADED};
use serde_json::json;
use std::fmt;
use std::io;
use std::time::Duration;
use tokio::sync::Semaphore;

/// Who is asked whether a connection may come in.
///
/// It is sent a POST with a JSON object: `connection_id`, `path`, and where they are known `user` and `address`. Any 2xx
/// lets the connection in. A 4xx or a 5xx refuses it, as the row that stands for the status, after the time that a
/// `Retry-After` asks for. Whatever else happens is a `bad_gateway` or a `gateway_timeout`. What the answer says is not
/// read: its words are for nobody.
pub struct Check {
    fetch: Fetch,
    url: Uri,
    limits: FetchLimits,
    at_once: Semaphore,
}

/// The body of an answer has to end within so much, or the connection to who was asked is not used again.
const BODY_BYTES: usize = 16 * 1024;

impl Check {
    /// Asks at `url`, waits for so long, and asks about so many at once.
    ///
    /// # Errors
    /// When `url` is `https` and the machine has no certificates to trust.
    pub fn new(url: Uri, time: Duration, at_once: usize) -> io::Result<Self> {
        let limits = FetchLimits { time, bytes: BODY_BYTES };
        let at_once = Semaphore::new(at_once.min(Semaphore::MAX_PERMITS));
        Ok(Self { fetch: Fetch::for_scheme(&url)?, url, limits, at_once })
    }

    /// Asks about one. Cancel-safe: the question is dropped.
    ///
    /// # Errors
    /// The refusal that the answer stands for, or that there is none.
    pub async fn ask(&self, applicant: &Applicant) -> Result<(), Refusal> {
        let Ok(_place) = self.at_once.try_acquire() else {
            return Err(Refusal::new(OVERLOADED).because("the application is asked about as many as it may be at once"));
        };
        let mut question = json!({ "connection_id": applicant.id().simple().to_string(), "path": applicant.path() });
        if let Some(user) = applicant.user() {
            question["user"] = json!(user);
        }
        if let Some(address) = applicant.peer() {
            question["address"] = json!(address);
        }
        let answer = self.fetch.post(&self.url, question.to_string(), self.limits).await;
        let (status, headers) = answer.map_err(unanswered)?;
        if status.is_success() {
            return Ok(());
        }
        if !status.is_client_error() && !status.is_server_error() {
            let cause = format!("the application's check answered {status}; hint: it has to be a 2xx, a 4xx or a 5xx");
            return Err(Refusal::new(BAD_GATEWAY).because(cause));
        }
        let error =
            said_in_http(status, &headers).detail("http_status", status.as_u16()).detail("source", "application");
        Err(Refusal::new(error).because(format!("the application's check answered {status}")))
    }
}

/// By every way in which there is no answer.
fn unanswered(error: FetchError) -> Refusal {
    let row = match &error {
        FetchError::TooLate(_) => GATEWAY_TIMEOUT,
        FetchError::Request(_)
        | FetchError::Connection(_)
        | FetchError::Body(_)
        | FetchError::TooLong(_)
        | FetchError::Status(_) => BAD_GATEWAY,
    };
    Refusal::new(row).because(format!("the application's check did not answer: {}", Cause::new(error).chain()))
}

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Check").field("url", &self.url).field("limits", &self.limits).finish_non_exhaustive()
    }
}
