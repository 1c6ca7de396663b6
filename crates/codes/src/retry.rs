//! What a client should do after an error.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Whether to try again, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// The same attempt fails again.
    Never,
    /// At once.
    Now,
    /// Later and later, by the client's own schedule.
    Backoff,
    /// After `delay` and a random part of `spread`, so that a crowd does not come back at once.
    After {
        /// How long to wait at least.
        delay: Duration,
        /// How much to add at most, evenly distributed.
        spread: Duration,
    },
    /// Get a new token, then try once.
    Reauthenticate,
}

impl Retry {
    /// `after` with a delay and a spread in milliseconds.
    pub const fn after_ms(delay_ms: u64, spread_ms: u64) -> Self {
        Self::After { delay: Duration::from_millis(delay_ms), spread: Duration::from_millis(spread_ms) }
    }

    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::Now => "now",
            Self::Backoff => "backoff",
            Self::After { .. } => "after",
            Self::Reauthenticate => "reauthenticate",
        }
    }
}

impl fmt::Display for Retry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Retry {
    type Err = UnknownRetry;

    /// Reads the word on the wire; `after` without numbers waits a second and spreads over another.
    fn from_str(word: &str) -> Result<Self, UnknownRetry> {
        Ok(match word {
            "never" => Self::Never,
            "now" => Self::Now,
            "backoff" => Self::Backoff,
            "after" => Self::after_ms(1_000, 1_000),
            "reauthenticate" => Self::Reauthenticate,
            _ => return Err(UnknownRetry),
        })
    }
}

/// A word that is no retry policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownRetry;

impl fmt::Display for UnknownRetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a retry policy is one of never, now, backoff, after, reauthenticate")
    }
}

impl std::error::Error for UnknownRetry {}
