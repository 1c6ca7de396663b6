//! Close codes: which may be sent, which can only be observed, and who registered them.

use std::fmt;

/// Which end of a connection an endpoint is (RFC 6455 §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Sent the opening handshake; masks what it sends.
    Client,
    /// Answered the opening handshake.
    Server,
}

/// A code that may stand in a Close frame: never a reserved one, never one outside 1000–4999.
///
/// ```
/// use saywhy_codes::{CloseCode, Role};
/// assert!(CloseCode::new(1006, Role::Server).is_err()); // an observation, not something to say
/// assert!(CloseCode::new(1010, Role::Server).is_err()); // clients only
/// assert_eq!(CloseCode::new(4003, Role::Server)?.as_u16(), 4003);
/// # Ok::<(), saywhy_codes::Unsendable>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CloseCode(u16);

impl CloseCode {
    /// 1000: the purpose of the connection has been fulfilled.
    pub const NORMAL: Self = Self(1000);
    /// 1001: a server going down, or a browser navigating away.
    pub const GOING_AWAY: Self = Self(1001);
    /// 1002: the peer broke the protocol.
    pub const PROTOCOL_ERROR: Self = Self(1002);
    /// 1003: a kind of data that this endpoint cannot accept.
    pub const UNSUPPORTED_DATA: Self = Self(1003);
    /// 1007: data that does not fit the type of its message, such as text that is not UTF-8.
    pub const INVALID_PAYLOAD: Self = Self(1007);
    /// 1008: the generic code, when no other fits.
    pub const POLICY_VIOLATION: Self = Self(1008);
    /// 1009: a message that is too big to process.
    pub const MESSAGE_TOO_BIG: Self = Self(1009);
    /// 1011: the server met an unexpected condition.
    pub const INTERNAL_ERROR: Self = Self(1011);
    /// 1012: the service restarts.
    pub const SERVICE_RESTART: Self = Self(1012);
    /// 1013: try again later.
    pub const TRY_AGAIN_LATER: Self = Self(1013);
    /// 1014: a gateway got an invalid answer from its upstream.
    pub const BAD_GATEWAY: Self = Self(1014);
    /// 3000: registered as Unauthorized, like HTTP 401.
    pub const UNAUTHORIZED: Self = Self(3000);
    /// 3003: registered as Forbidden, like HTTP 403.
    pub const FORBIDDEN: Self = Self(3003);
    /// 3008: registered as Timeout, like HTTP 408.
    pub const TIMEOUT: Self = Self(3008);

    /// The code, if an endpoint in `role` may send it.
    ///
    /// # Errors
    /// [`Unsendable`] for a reserved code, for one outside 1000–4999, and for 1010 from a server.
    pub const fn new(code: u16, role: Role) -> Result<Self, Unsendable> {
        match code {
            1010 if matches!(role, Role::Server) => Err(Unsendable { code, why: Why::ClientsOnly }),
            1000..=1003 | 1007..=1014 | 3000..=4999 => Ok(Self(code)),
            1004..=1006 | 1015 => Err(Unsendable { code, why: Why::Reserved }),
            1016..=2999 => Err(Unsendable { code, why: Why::FutureUse }),
            0..=999 | 5000..=u16::MAX => Err(Unsendable { code, why: Why::OutOfRange }),
        }
    }

    /// A code of the private range, 4000–4999, checked at compile time in a `const`.
    ///
    /// # Panics
    /// When `code` is outside 4000–4999.
    pub const fn private(code: u16) -> Self {
        assert!(4000 <= code && code <= 4999, "a private close code is 4000..=4999");
        Self(code)
    }

    /// The number on the wire.
    pub const fn as_u16(self) -> u16 {
        self.0
    }

    /// What the registry says of this code.
    pub fn registration(self) -> &'static Registration {
        registration(self.0)
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CloseCode({})", self.0)
    }
}

/// Why a number is not a [`CloseCode`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsendable {
    code: u16,
    why: Why,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    Reserved,
    ClientsOnly,
    FutureUse,
    OutOfRange,
}

impl Unsendable {
    /// The number that was refused.
    pub const fn code(self) -> u16 {
        self.code
    }
}

impl fmt::Display for Unsendable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = match self.why {
            Why::Reserved => "is reserved: an endpoint may report it, never send it (RFC 6455 §7.4.1)",
            Why::ClientsOnly => "is for clients only (RFC 6455 §7.4.1)",
            Why::FutureUse => "is kept for later versions of the protocol and for extensions (RFC 6455 §7.4.2)",
            Why::OutOfRange => "is outside 1000..=4999, the codes that a Close frame can carry",
        };
        write!(f, "close code {} {why}", self.code)
    }
}

impl std::error::Error for Unsendable {}

/// What an endpoint saw, which need not be anything that may be said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Observed {
    /// A Close with a legal code.
    Code(CloseCode),
    /// 1005: a Close without a code.
    NoStatus,
    /// 1006: no Close at all.
    Abnormal,
    /// 1015: the TLS handshake failed.
    TlsHandshake,
    /// A Close with a code that its sender may not use.
    Illegal(u16),
}

impl Observed {
    /// What a Close frame from a peer in role `sender` carried; `None` is a Close with an empty payload.
    pub fn from_wire(code: Option<u16>, sender: Role) -> Self {
        match code.map(|code| (code, CloseCode::new(code, sender))) {
            None => Self::NoStatus,
            Some((_, Ok(code))) => Self::Code(code),
            Some((code, Err(_))) => Self::Illegal(code),
        }
    }

    /// The number as an endpoint reports it locally.
    pub const fn as_u16(self) -> u16 {
        match self {
            Self::Code(code) => code.as_u16(),
            Self::NoStatus => 1005,
            Self::Abnormal => 1006,
            Self::TlsHandshake => 1015,
            Self::Illegal(code) => code,
        }
    }
}

impl fmt::Display for Observed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_u16().fmt(f)
    }
}

/// Who may put a code into a Close frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SentBy {
    /// Either end.
    Both,
    /// Clients only.
    Clients,
    /// No one: an endpoint reports it locally, or it has no meaning yet.
    Nobody,
}

/// A row of the number space of close codes.
#[derive(Debug, PartialEq, Eq)]
pub struct Registration {
    /// The first code of the row.
    pub first: u16,
    /// The last code of the row; the same as `first` but for ranges.
    pub last: u16,
    /// The name in IANA's "WebSocket Close Code Number" registry, where there is one.
    pub name: Option<&'static str>,
    /// What the code means, in a sentence.
    pub meaning: &'static str,
    /// Whether the code is reserved: reported locally, never sent.
    pub reserved: bool,
    /// Who may send it.
    pub sent_by: SentBy,
    /// The HTTP status that says the same, where there is one.
    pub http: Option<u16>,
}

/// The whole number space, 0–65535, in order and without gaps.
///
/// Source: IANA, "WebSocket Protocol Registries"; RFC 6455 §7.4.
pub fn registry() -> &'static [Registration] {
    &REGISTRY
}

/// The row that `code` belongs to.
pub fn registration(code: u16) -> &'static Registration {
    let after = REGISTRY.partition_point(|row| row.first <= code);
    // The first row starts at 0, so there is always one at or before `code`.
    &REGISTRY[after - 1]
}

const fn row(code: u16, name: &'static str, meaning: &'static str, http: Option<u16>) -> Registration {
    Registration { first: code, last: code, name: Some(name), meaning, reserved: false, sent_by: SentBy::Both, http }
}

const fn reserved(code: u16, name: Option<&'static str>, meaning: &'static str) -> Registration {
    Registration { first: code, last: code, name, meaning, reserved: true, sent_by: SentBy::Nobody, http: None }
}

const fn range(first: u16, last: u16, meaning: &'static str, sent_by: SentBy) -> Registration {
    Registration { first, last, name: None, meaning, reserved: false, sent_by, http: None }
}

static REGISTRY: [Registration; 27] = [
    range(0, 999, "not used", SentBy::Nobody),
    row(1000, "Normal Closure", "the purpose of the connection has been fulfilled", None),
    row(1001, "Going Away", "the server is going down, or the browser navigated away", None),
    row(1002, "Protocol error", "a malformed frame, or one that the protocol does not allow here", Some(400)),
    row(1003, "Unsupported Data", "a kind of data that the endpoint cannot accept, such as binary", Some(415)),
    reserved(1004, None, "reserved; a meaning might be defined in the future"),
    reserved(1005, Some("No Status Rcvd"), "the Close carried no code; reported locally, never sent"),
    reserved(1006, Some("Abnormal Closure"), "there was no Close: refused, cut, or lost; reported locally, never sent"),
    row(
        1007,
        "Invalid frame payload data",
        "data that does not fit its message, such as text that is not UTF-8",
        Some(400),
    ),
    row(1008, "Policy Violation", "the generic code, when no other fits", Some(403)),
    row(1009, "Message Too Big", "a message that is too big to process", Some(413)),
    Registration {
        first: 1010,
        last: 1010,
        name: Some("Mandatory Ext."),
        meaning: "the client needs an extension that the server did not negotiate",
        reserved: false,
        sent_by: SentBy::Clients,
        http: None,
    },
    row(1011, "Internal Error", "the server met an unexpected condition", Some(500)),
    row(1012, "Service Restart", "the service restarts", Some(503)),
    row(1013, "Try Again Later", "a temporary condition, such as too much load", Some(503)),
    row(1014, "Bad gateway", "a gateway got an invalid answer from its upstream", Some(502)),
    reserved(1015, Some("TLS handshake"), "the TLS handshake failed; reported locally, never sent"),
    range(1016, 2999, "for later versions of the protocol and for extensions", SentBy::Nobody),
    row(3000, "Unauthorized", "the endpoint must be authorized first", Some(401)),
    range(3001, 3002, "unassigned; registered at IANA, first come first served", SentBy::Both),
    row(3003, "Forbidden", "the endpoint is authorized but lacks the permission", Some(403)),
    range(3004, 3007, "unassigned; registered at IANA, first come first served", SentBy::Both),
    row(3008, "Timeout", "the endpoint took too long to respond", Some(408)),
    range(3009, 3999, "unassigned; registered at IANA, first come first served", SentBy::Both),
    range(4000, 4999, "private use: the application gives it a meaning", SentBy::Both),
    range(5000, 5000, "a data.code of this catalogue; too large for a Close frame", SentBy::Nobody),
    range(5001, u16::MAX, "invalid on the wire", SentBy::Nobody),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_registry_covers_every_number_once() {
        let mut next = 0_u32;
        for row in registry() {
            assert_eq!(u32::from(row.first), next, "gap or overlap before {row:?}");
            next = u32::from(row.last) + 1;
        }
        assert_eq!(next, 1 << 16);
    }

    #[test]
    fn only_what_the_registry_lets_a_role_send_can_be_held() {
        for code in 0..=u16::MAX {
            let row = registration(code);
            assert!((row.first..=row.last).contains(&code));
            assert_eq!(CloseCode::new(code, Role::Client).is_ok(), row.sent_by != SentBy::Nobody, "{code}");
            assert_eq!(CloseCode::new(code, Role::Server).is_ok(), row.sent_by == SentBy::Both, "{code}");
        }
    }

    #[test]
    fn what_was_observed_keeps_its_number() {
        for (wire, seen) in [(None, 1005), (Some(999), 999), (Some(1006), 1006), (Some(4003), 4003)] {
            assert_eq!(Observed::from_wire(wire, Role::Client).as_u16(), seen);
        }
        assert_eq!(Observed::from_wire(Some(1010), Role::Server), Observed::Illegal(1010));
        assert_eq!(
            CloseCode::new(1006, Role::Client).unwrap_err().to_string(),
            "close code 1006 is reserved: an endpoint may report it, never send it (RFC 6455 §7.4.1)"
        );
    }
}
