//! Where in a room's log a reader stands.

use std::fmt;
use std::str::FromStr;

/// A place in the log of a room: right after the entry that a client saw last.
///
/// The offset alone would not do: a store that restarts from an older snapshot gives old offsets to new entries. The
/// tag, random per entry, tells them apart.
///
/// On the wire it is a string, `epoch:offset:tag`, which clients keep and hand back without looking into it. A string,
/// because a JSON number loses digits past 2⁵³ in a browser.
///
/// ```
/// use saywhy_rooms::broker::Position;
/// let position = Position { epoch: 0xfeed, offset: 42, tag: 7 };
/// assert_eq!(position.to_string(), "000000000000feed:42:0000000000000007");
/// assert_eq!("000000000000feed:42:0000000000000007".parse(), Ok(position));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Position {
    /// Which log: random, drawn when the log of the room began.
    pub epoch: u64,
    /// Which entry: 1, 2, 3… without gaps; 0 is before the first.
    pub offset: u64,
    /// Which entry really: random, drawn for each; 0 at offset 0.
    pub tag: u64,
}

impl Position {
    /// The length of the longest position on the wire, in bytes.
    pub const MAX_BYTES: usize = HEX_DIGITS + 1 + 20 + 1 + HEX_DIGITS;

    /// Before everything in the log `epoch`.
    pub const fn start(epoch: u64) -> Self {
        Self { epoch, offset: 0, tag: 0 }
    }

    /// Whether the entry at `self` comes straight after the one at `earlier`, in the same log.
    pub fn follows(self, earlier: Self) -> bool {
        self.epoch == earlier.epoch && earlier.offset.checked_add(1) == Some(self.offset)
    }
}

const HEX_DIGITS: usize = 16;

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}:{}:{:016x}", self.epoch, self.offset, self.tag)
    }
}

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Position({self})")
    }
}

impl FromStr for Position {
    type Err = InvalidPosition;

    /// Reads what [`Display`](fmt::Display) wrote, and no other spelling of it.
    fn from_str(text: &str) -> Result<Self, InvalidPosition> {
        if text.len() > Self::MAX_BYTES {
            return Err(InvalidPosition::TooLong);
        }
        let mut parts = text.split(':');
        let (Some(epoch), Some(offset), Some(tag), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(InvalidPosition::Shape);
        };
        let epoch = hex(epoch).ok_or(InvalidPosition::Epoch)?;
        let offset = decimal(offset).ok_or(InvalidPosition::Offset)?;
        let tag = hex(tag).filter(|&tag| offset > 0 || tag == 0).ok_or(InvalidPosition::Tag)?;
        Ok(Self { epoch, offset, tag })
    }
}

/// The standard library's parsers also take a sign and upper case: the bytes are checked first.
fn hex(digits: &str) -> Option<u64> {
    let strict = digits.len() == HEX_DIGITS && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if strict { u64::from_str_radix(digits, 16).ok() } else { None }
}

fn decimal(digits: &str) -> Option<u64> {
    let strict = digits.bytes().all(|byte| byte.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
    if strict { digits.parse().ok() } else { None }
}

/// Why a text is not a [`Position`]: the client did not hand back what it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidPosition {
    /// More than [`Position::MAX_BYTES`] bytes.
    TooLong,
    /// Not three parts with colons between them.
    Shape,
    /// The epoch is not 16 lower-case hex digits.
    Epoch,
    /// The offset is not a decimal number of 64 bits without leading zeros.
    Offset,
    /// The tag is not 16 lower-case hex digits, or not 0 at offset 0.
    Tag,
}

impl fmt::Display for InvalidPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLong => "a position is at most 54 bytes",
            Self::Shape => "a position is epoch:offset:tag",
            Self::Epoch => "the epoch of a position is 16 lower-case hex digits",
            Self::Offset => "the offset of a position is a decimal number without leading zeros",
            Self::Tag => "the tag of a position is 16 lower-case hex digits, all 0 at offset 0",
        })
    }
}

impl std::error::Error for InvalidPosition {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_was_written_reads_back(epoch: u64, offset in 1..=u64::MAX, tag: u64) {
            for position in [Position { epoch, offset, tag }, Position::start(epoch)] {
                let text = position.to_string();
                prop_assert!(text.len() <= Position::MAX_BYTES);
                prop_assert_eq!(text.parse(), Ok(position));
            }
        }

        #[test]
        fn there_is_one_spelling(text in "[0-9a-fA-F+: -]{0,56}|[0-9a-f]{15,17}:[+]?[0-9]{0,21}:[0-9a-f]{15,17}") {
            if let Ok(position) = text.parse::<Position>() {
                prop_assert_eq!(position.to_string(), text);
            }
        }
    }

    #[test]
    fn what_follows_is_next_in_the_same_log() {
        let third = Position { epoch: 7, offset: 3, tag: 30 };
        assert!(Position { offset: 4, tag: 0, ..third }.follows(third));
        for other in [third, Position { offset: 5, ..third }, Position { epoch: 8, offset: 4, tag: 0 }] {
            assert!(!other.follows(third));
        }
        assert!(!Position::start(7).follows(Position { offset: u64::MAX, ..third }));
    }

    #[test]
    fn anything_else_is_refused_with_the_part_at_fault() {
        let zeros = "0000000000000000";
        for (text, fault) in [
            (String::new(), InvalidPosition::Shape),
            (zeros.into(), InvalidPosition::Shape),
            (format!("{zeros}:1:{zeros}:"), InvalidPosition::Shape),
            (format!("{zeros}:1:{zeros}").replacen('0', "A", 1), InvalidPosition::Epoch),
            (format!("+{}:1:{zeros}", &zeros[1..]), InvalidPosition::Epoch),
            (format!("{}:1:{zeros}", &zeros[1..]), InvalidPosition::Epoch),
            (format!("{zeros}::{zeros}"), InvalidPosition::Offset),
            (format!("{zeros}:01:{zeros}"), InvalidPosition::Offset),
            (format!("{zeros}:+1:{zeros}"), InvalidPosition::Offset),
            (format!("{zeros}:-1:{zeros}"), InvalidPosition::Offset),
            (format!("{zeros}:18446744073709551616:{zeros}"), InvalidPosition::Offset),
            (format!("{zeros}:1:{}", &zeros[1..]), InvalidPosition::Tag),
            (format!("{zeros}:0:{}1", &zeros[1..]), InvalidPosition::Tag),
            (format!("{zeros}:1:{zeros} "), InvalidPosition::Tag),
            ("0".repeat(55), InvalidPosition::TooLong),
        ] {
            assert_eq!(text.parse::<Position>(), Err(fault), "{text}");
        }
        assert_eq!(Position { epoch: 0, offset: u64::MAX, tag: 0 }.to_string().len(), Position::MAX_BYTES);
        assert!(InvalidPosition::TooLong.to_string().contains(&Position::MAX_BYTES.to_string()));
    }
}
