//! Everything that a peer can do wrong on the wire, by name.

use saywhy_codes::catalogue::{INVALID_PAYLOAD, MESSAGE_TOO_BIG, POLICY_VIOLATION, PROTOCOL_ERROR, TIMEOUT};
use saywhy_codes::{ErrorCode, ErrorMessage};

/// A rule of RFC 6455, or a limit of ours, that a peer broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// A reserved bit is set and no extension gives it a meaning (§5.2).
    ReservedBit,
    /// An opcode of 3–7 or 11–15 (§5.2).
    UnknownOpcode(u8),
    /// A client did not mask a frame (§5.1).
    Unmasked,
    /// A server masked a frame (§5.1).
    Masked,
    /// A control frame is fragmented (§5.5).
    FragmentedControl,
    /// A control frame has more than 125 bytes of payload (§5.5).
    LongControl,
    /// The length could have been written in fewer bytes (§5.2).
    LengthNotMinimal,
    /// The most significant bit of a 64-bit length is set (§5.2).
    LengthTooLarge,
    /// A continuation without a message to continue (§5.4).
    NothingToContinue,
    /// A new message before the last one was finished (§5.4).
    UnfinishedMessage,
    /// A Close with one byte of payload (§5.5.1).
    CloseOneByte,
    /// A Close with a code that may not be sent (§7.4).
    CloseCode(u16),
    /// A Close whose reason is not UTF-8 (§5.5.1).
    CloseReasonNotUtf8,
    /// A text message that is not UTF-8 (§8.1).
    TextNotUtf8,
    /// A compressed message that cannot be inflated (RFC 7692 §7.2.2).
    Deflate,
    /// A compressed message before `ready`.
    DeflateEarly,
    /// A message past the limit, counted over all of its fragments (§10.4).
    TooBig,
    /// A message whose last fragment did not come in time.
    Unfinished,
    /// Pings and Pongs past the limit.
    ControlFlood,
}

impl Violation {
    /// The row of the catalogue.
    pub fn error(self) -> ErrorCode {
        match self {
            Self::ReservedBit
            | Self::UnknownOpcode(_)
            | Self::Unmasked
            | Self::Masked
            | Self::FragmentedControl
            | Self::LongControl
            | Self::LengthNotMinimal
            | Self::LengthTooLarge
            | Self::NothingToContinue
            | Self::UnfinishedMessage
            | Self::CloseOneByte
            | Self::CloseCode(_) => PROTOCOL_ERROR,
            Self::CloseReasonNotUtf8 | Self::TextNotUtf8 | Self::Deflate => INVALID_PAYLOAD,
            Self::TooBig => MESSAGE_TOO_BIG,
            Self::Unfinished => TIMEOUT,
            Self::DeflateEarly | Self::ControlFlood => POLICY_VIOLATION,
        }
    }

    /// What was wrong, for the peer: it fits a close reason.
    pub fn message(self) -> ErrorMessage {
        let error = self.error();
        match self {
            Self::ReservedBit => error.say("A reserved bit is set without an extension (RFC 6455 section 5.2)"),
            Self::UnknownOpcode(opcode) => {
                error.say("The opcode is unknown (RFC 6455 section 5.2)").detail("opcode", i64::from(opcode))
            }
            Self::Unmasked => error.say("A client must mask its frames (RFC 6455 section 5.1)"),
            Self::Masked => error.say("A server must not mask its frames (RFC 6455 section 5.1)"),
            Self::FragmentedControl => error.say("A control frame must not be fragmented (RFC 6455 section 5.5)"),
            Self::LongControl => error.say("A control frame has at most 125 bytes (RFC 6455 section 5.5)"),
            Self::LengthNotMinimal => {
                error.say("A length must be written in as few bytes as it takes (RFC 6455 section 5.2)")
            }
            Self::LengthTooLarge => error.say("A length must not have its highest bit set (RFC 6455 section 5.2)"),
            Self::NothingToContinue => error.say("There is no message to continue (RFC 6455 section 5.4)"),
            Self::UnfinishedMessage => {
                error.say("A message began before the last one was finished (RFC 6455 section 5.4)")
            }
            Self::CloseOneByte => error.say("A Close has no payload or at least two bytes (RFC 6455 section 5.5.1)"),
            Self::CloseCode(_) => error.say("That close code must not be sent (RFC 6455 section 7.4)"),
            Self::CloseReasonNotUtf8 => error.say("A close reason must be UTF-8 (RFC 6455 section 5.5.1)"),
            Self::TextNotUtf8 => error.say("A text message must be UTF-8 (RFC 6455 section 8.1)"),
            Self::Deflate => error.say("A compressed message cannot be inflated (RFC 7692 section 7.2.2)"),
            Self::DeflateEarly => error.say("No message may be compressed before the connection is ready"),
            Self::TooBig => error.say("The message is bigger than is taken here"),
            Self::Unfinished => error.say("A message was begun and not finished in time"),
            Self::ControlFlood => error.say("Too many pings and pongs"),
        }
    }
}
