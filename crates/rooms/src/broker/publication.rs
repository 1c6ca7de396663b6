//! What goes into a log, and what comes out.

use super::Position;
use bytes::Bytes;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::SystemTime;

/// What somebody says in a room. How long it may be is decided before it gets here.
#[derive(Clone, Debug)]
pub struct Publication {
    /// Who says it.
    pub from: Arc<str>,
    /// What: JSON, serialised. It is kept as long as the history, so it must not be a slice of a larger read buffer,
    /// which would be kept with it.
    pub body: Bytes,
    /// When, by the clock of the node that it was said to.
    pub at: SystemTime,
    /// The same key again is the same publication again.
    pub idempotency_key: Option<IdempotencyKey>,
}

/// A publication that has its place in a log. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The place.
    pub position: Position,
    /// Who said it.
    pub from: Arc<str>,
    /// What: JSON, serialised.
    pub body: Bytes,
    /// When.
    pub at: SystemTime,
}

/// A name that a sender gives to a publication, so that it can be sent again without being said twice: 1 to 64 visible
/// ASCII characters. Keys of different senders, or in different rooms, have nothing to do with each other.
///
/// ```
/// use saywhy_rooms::broker::IdempotencyKey;
/// assert_eq!("3f1c-7".parse::<IdempotencyKey>()?.as_str(), "3f1c-7");
/// assert!("two words".parse::<IdempotencyKey>().is_err());
/// # Ok::<(), saywhy_rooms::broker::InvalidKey>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct IdempotencyKey(Arc<str>);

impl IdempotencyKey {
    /// The longest key, in bytes.
    pub const MAX_BYTES: usize = 64;

    /// The key as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for IdempotencyKey {
    type Err = InvalidKey;

    fn from_str(key: &str) -> Result<Self, InvalidKey> {
        let fits = (1..=Self::MAX_BYTES).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic());
        if fits { Ok(Self(key.into())) } else { Err(InvalidKey) }
    }
}

/// A text that is no [`IdempotencyKey`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidKey;

impl fmt::Display for InvalidKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an idempotency key is 1 to 64 visible ASCII characters")
    }
}

impl std::error::Error for InvalidKey {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_short_and_visible() {
        for fits in ["a", "~!", &"x".repeat(64)] {
            assert_eq!(fits.parse::<IdempotencyKey>().unwrap().as_str(), fits);
        }
        for other in ["", " ", "a b", "é", "a\n", "\u{7f}", &"x".repeat(65)] {
            assert_eq!(other.parse::<IdempotencyKey>(), Err(InvalidKey), "{other:?}");
        }
    }
}
