//! What a handler decides about an error: refuse, reply, or close. No `?` decides it by accident.

use crate::refusal::Refusal;
use saywhy_codes::{Cause, ErrorMessage};

/// What a handler returns when it cannot do what was asked.
///
/// There is deliberately no `From<E: Error>`: a bare `?` on a foreign error does not compile where the author owes a
/// decision.
///
/// ```compile_fail,E0277
/// # use saywhy::Failure;
/// fn amount(text: &str) -> Result<u32, Failure> {
///     Ok(text.parse()?)
/// }
/// ```
/// ```
/// # use saywhy::{Explain, Failure, catalogue::BAD_REQUEST};
/// fn amount(text: &str) -> Result<u32, Failure> {
///     Ok(text.parse::<u32>().or_reply(BAD_REQUEST.say("The amount is not a number"))?)
/// }
/// assert!(matches!(amount("1e9"), Err(Failure::Reply { error, .. }) if error.message() == "The amount is not a number"));
/// ```
#[derive(Debug)]
pub enum Failure {
    /// The client is told, and the session goes on.
    Reply {
        /// For the client.
        error: ErrorMessage,
        /// For the log.
        cause: Option<Cause>,
    },
    /// The client is told, and the session ends.
    Close {
        /// For the client.
        error: ErrorMessage,
        /// For the log.
        cause: Option<Cause>,
    },
}

impl Failure {
    /// The client is told, and the session goes on.
    pub fn reply(error: impl Into<ErrorMessage>) -> Self {
        Self::Reply { error: error.into(), cause: None }
    }

    /// The client is told, and the session ends.
    pub fn close(error: impl Into<ErrorMessage>) -> Self {
        Self::Close { error: error.into(), cause: None }
    }
}

/// Turns "there is none" and "it failed" into a decision, with a public side and a private one.
///
/// On a `Result` the error becomes the private cause: it reaches the log, never the peer.
pub trait Explain<T> {
    /// Refuses the connection.
    ///
    /// # Errors
    /// [`Refusal`], when there is no value.
    fn or_refuse(self, error: impl Into<ErrorMessage>) -> Result<T, Refusal>;

    /// Tells the client and goes on.
    ///
    /// # Errors
    /// [`Failure::Reply`], when there is no value.
    fn or_reply(self, error: impl Into<ErrorMessage>) -> Result<T, Failure>;

    /// Tells the client and ends the session.
    ///
    /// # Errors
    /// [`Failure::Close`], when there is no value.
    fn or_close(self, error: impl Into<ErrorMessage>) -> Result<T, Failure>;
}

impl<T> Explain<T> for Option<T> {
    fn or_refuse(self, error: impl Into<ErrorMessage>) -> Result<T, Refusal> {
        self.ok_or_else(|| Refusal::new(error))
    }

    fn or_reply(self, error: impl Into<ErrorMessage>) -> Result<T, Failure> {
        self.ok_or_else(|| Failure::reply(error))
    }

    fn or_close(self, error: impl Into<ErrorMessage>) -> Result<T, Failure> {
        self.ok_or_else(|| Failure::close(error))
    }
}

impl<T, E: Into<Cause>> Explain<T> for Result<T, E> {
    fn or_refuse(self, error: impl Into<ErrorMessage>) -> Result<T, Refusal> {
        self.map_err(|cause| Refusal::new(error).because(cause))
    }

    fn or_reply(self, error: impl Into<ErrorMessage>) -> Result<T, Failure> {
        self.map_err(|cause| Failure::Reply { error: error.into(), cause: Some(cause.into()) })
    }

    fn or_close(self, error: impl Into<ErrorMessage>) -> Result<T, Failure> {
        self.map_err(|cause| Failure::Close { error: error.into(), cause: Some(cause.into()) })
    }
}
