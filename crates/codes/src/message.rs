//! An error in the words that its reader may see.

use crate::catalogue::ErrorCode;
use crate::reason::CloseReason;
use crate::retry::Retry;
use std::borrow::Cow;
use std::time::Duration;

/// The public side of an error: what a peer is told. The private side is a [`Cause`](crate::Cause).
///
/// ```
/// use saywhy_codes::catalogue::{NOT_FOUND, UNAUTHORIZED};
/// let error = NOT_FOUND.say("Room not found").detail("room", "lobby");
/// assert_eq!(error.message(), "Room not found");
/// assert_eq!(UNAUTHORIZED.message().message(), "Sign in and try again");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorMessage {
    error: ErrorCode,
    message: Cow<'static, str>,
    retry: Retry,
    details: Vec<(&'static str, Detail)>,
}

impl ErrorMessage {
    /// A message is public text for a person: longer ones are cut at a character boundary.
    pub const MAX_BYTES: usize = 1024;

    pub(crate) fn new(error: ErrorCode, message: Cow<'static, str>) -> Self {
        let message = match message.floor_char_boundary(Self::MAX_BYTES) {
            end if end < message.len() => Cow::Owned(message[..end].to_owned()),
            _ => message,
        };
        Self { error, message, retry: error.retry, details: Vec::new() }
    }

    /// The same error in other words.
    #[must_use]
    pub fn say(self, message: impl Into<Cow<'static, str>>) -> Self {
        let Self { error, retry, details, .. } = self;
        Self { retry, details, ..Self::new(error, message.into()) }
    }

    /// Adds a public, structured fact, such as the field at fault.
    #[must_use]
    pub fn detail(mut self, key: &'static str, value: impl Into<Detail>) -> Self {
        self.details.push((key, value.into()));
        self
    }

    /// Says when to try again instead of what the row says.
    #[must_use]
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// Asks to try again after `delay` and a random part of `spread`.
    #[must_use]
    pub fn retry_after(self, delay: Duration, spread: Duration) -> Self {
        self.retry(Retry::After { delay, spread })
    }

    /// The row of the catalogue.
    pub fn error(&self) -> ErrorCode {
        self.error
    }

    /// The words.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What the client should do.
    pub fn retry_policy(&self) -> Retry {
        self.retry
    }

    /// The structured facts, in the order in which they were added.
    pub fn details(&self) -> &[(&'static str, Detail)] {
        &self.details
    }

    /// The words, as far as they fit into a Close frame.
    pub fn reason(&self) -> CloseReason {
        CloseReason::cut(&self.message)
    }
}

impl From<ErrorCode> for ErrorMessage {
    fn from(error: ErrorCode) -> Self {
        error.message()
    }
}

/// The value of a structured fact. Deliberately small: nothing nested, nothing serialised by accident.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Text.
    Text(Cow<'static, str>),
    /// A number.
    Number(i64),
    /// Yes or no.
    Flag(bool),
}

impl From<&'static str> for Detail {
    fn from(text: &'static str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

impl From<String> for Detail {
    fn from(text: String) -> Self {
        Self::Text(Cow::Owned(text))
    }
}

impl From<i64> for Detail {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl From<u16> for Detail {
    fn from(number: u16) -> Self {
        Self::Number(number.into())
    }
}

impl From<bool> for Detail {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}
