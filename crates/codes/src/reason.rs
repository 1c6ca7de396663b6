//! The words of a Close frame.

use crate::close::CloseCode;
use std::borrow::Cow;
use std::fmt;

/// Why a connection is closed: UTF-8 text of at most [`CloseReason::MAX_BYTES`] bytes.
///
/// A reason of 124 bytes makes browsers report 1006 and lose the message before it, so the type cannot hold one.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct CloseReason(Cow<'static, str>);

impl CloseReason {
    /// A control frame carries 125 bytes (RFC 6455 §5.5), of which the code takes two.
    pub const MAX_BYTES: usize = 123;

    /// No words at all.
    pub const EMPTY: Self = Self(Cow::Borrowed(""));

    /// A literal, checked at compile time when it stands in a `const`.
    ///
    /// ```
    /// use saywhy_codes::CloseReason;
    /// const BYE: CloseReason = CloseReason::literal("see you tomorrow");
    /// ```
    /// ```compile_fail
    /// # use saywhy_codes::CloseReason;
    /// const TOO_LONG: CloseReason = CloseReason::literal(concat!(
    ///     "0123456789012345678901234567890123456789012345678901234567890123",
    ///     "0123456789012345678901234567890123456789012345678901234567890123"));
    /// ```
    ///
    /// # Panics
    /// When the text is longer than 123 bytes.
    pub const fn literal(text: &'static str) -> Self {
        assert!(text.len() <= Self::MAX_BYTES, "a close reason is at most 123 bytes");
        Self(Cow::Borrowed(text))
    }

    /// Exactly these words.
    ///
    /// # Errors
    /// [`ReasonTooLong`] past 123 bytes.
    pub fn new(text: impl Into<Cow<'static, str>>) -> Result<Self, ReasonTooLong> {
        let text = text.into();
        if text.len() <= Self::MAX_BYTES { Ok(Self(text)) } else { Err(ReasonTooLong { bytes: text.len() }) }
    }

    /// As many of these words as fit, cut at a character boundary. Control characters become spaces: a reason
    /// ends up in other people's logs.
    pub fn cut(text: &str) -> Self {
        let end = text.floor_char_boundary(Self::MAX_BYTES);
        let text = &text[..end];
        if text.contains(char::is_control) {
            // A control character is at least one byte and a space is one, so this cannot grow.
            Self(Cow::Owned(text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()))
        } else {
            Self(Cow::Owned(text.to_owned()))
        }
    }

    /// The words.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Quoted and escaped: a peer's words may hold terminal control sequences.
impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

impl fmt::Debug for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CloseReason({:?})", self.as_str())
    }
}

/// A text was too long for a Close frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReasonTooLong {
    /// Its length.
    pub bytes: usize,
}

impl fmt::Display for ReasonTooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a close reason of {} bytes is longer than {}", self.bytes, CloseReason::MAX_BYTES)
    }
}

impl std::error::Error for ReasonTooLong {}

/// What a Close frame that we send says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloseFrame {
    /// The code.
    pub code: CloseCode,
    /// The words.
    pub reason: CloseReason,
}

impl fmt::Display for CloseFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        if self.reason.is_empty() { Ok(()) } else { write!(f, " {}", self.reason) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_cut_reason_fits_and_is_a_prefix(text in ".{0,200}") {
            let reason = CloseReason::cut(&text);
            prop_assert!(reason.as_str().len() <= CloseReason::MAX_BYTES);
            prop_assert!(!reason.as_str().contains(char::is_control));
            let same = reason.as_str().chars().zip(text.chars()).all(|(a, b)| a == b || (a == ' ' && b.is_control()));
            prop_assert!(same);
            // Nothing is cut that would have fitted.
            let kept = reason.as_str().chars().count();
            if let Some(next) = text.chars().nth(kept) {
                let original: usize = text.chars().take(kept).map(char::len_utf8).sum();
                prop_assert!(original + next.len_utf8() > CloseReason::MAX_BYTES);
            }
        }
    }

    #[test]
    fn exactly_123_bytes_fit() {
        let text = "é".repeat(61) + "x";
        assert_eq!(text.len(), 123);
        assert_eq!(CloseReason::new(text.clone()).unwrap().as_str(), text);
        assert_eq!(CloseReason::new(text + "y"), Err(ReasonTooLong { bytes: 124 }));
        assert_eq!(CloseReason::cut(&("x".to_owned() + &"é".repeat(100))).as_str().len(), 123);
        assert_eq!(CloseReason::cut(&"é".repeat(100)).as_str().len(), 122);
    }

    #[test]
    fn peer_text_is_escaped_for_a_terminal() {
        let reason = CloseReason::new("\u{1b}[2Jgone\r\n\u{202e}").unwrap();
        assert_eq!(reason.to_string(), r#""\u{1b}[2Jgone\r\n\u{202e}""#);
    }
}
