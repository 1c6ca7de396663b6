//! The catalogue of errors: every row that a Saywhy server can send, and the rows that users add.
//!
//! The table is data. `catalogue/catalogue.json`, the pages beside it and the TypeScript types are generated from it.

use crate::close::{self, CloseCode};
use crate::message::ErrorMessage;
use crate::retry::Retry;
use std::borrow::Cow;
use std::fmt;
use std::ops::{Deref, RangeInclusive};

/// An error that a peer can be told: a row of the catalogue.
#[derive(Debug)]
pub struct CatalogueEntry {
    /// The stable name, in snake_case: what people search for.
    pub name: &'static str,
    /// `data.code` of the message: a close code, or 5000.
    pub code: u16,
    /// The HTTP status that says the same.
    pub http: u16,
    /// The close code in the `app` dialect; `None` for a row that never ends a session.
    pub close: Option<CloseCode>,
    /// The close code in the `iana` dialect.
    pub iana: Option<CloseCode>,
    /// What a client should do.
    pub retry: Retry,
    /// Whether it ends the session unless the author of a handler decides otherwise.
    pub fatal: bool,
    /// The public words, unless the author of a handler has better ones.
    pub message: &'static str,
    /// What its page in the documentation says.
    pub page: Page,
}

/// The prose of a row's page.
#[derive(Debug)]
pub struct Page {
    /// What you should do.
    pub what_to_do: &'static str,
    /// Why it happens.
    pub why: &'static str,
    /// What you will see.
    pub what_you_see: &'static str,
}

/// The codes that users may give to rows of their own.
pub const CUSTOM_CODES: RangeInclusive<u16> = 4100..=4899;

impl CatalogueEntry {
    /// A row of your own. It ends a session only when a handler says so.
    ///
    /// ```
    /// use saywhy_codes::{CatalogueEntry, ErrorCode, Retry};
    /// const ROOM_FULL: ErrorCode = ErrorCode::of(&CatalogueEntry::custom(
    ///     "room_full", 4100, 409, Retry::Backoff, "The room is full",
    /// ));
    /// assert_eq!(ROOM_FULL.message().message(), "The room is full");
    /// ```
    ///
    /// Names and codes are checked against the others by [`Catalogue::add`].
    ///
    /// # Panics
    /// When `code` is outside 4100–4899 or `http` outside 400–599; at compile time in a `const`.
    pub const fn custom(
        name: &'static str,
        code: u16,
        http: u16,
        retry: Retry,
        message: &'static str,
    ) -> CatalogueEntry {
        assert!(
            *CUSTOM_CODES.start() <= code && code <= *CUSTOM_CODES.end(),
            "a row of your own has a code in 4100..=4899"
        );
        assert!(400 <= http && http <= 599, "an error has an HTTP status in 400..=599");
        CatalogueEntry {
            name,
            code,
            http,
            close: Some(CloseCode::private(code)),
            iana: Some(iana_equivalent(http)),
            retry,
            fatal: false,
            message,
            page: Page {
                what_to_do: "Ask the operator of the service: the row is their own.",
                why: "The application behind the service reported it.",
                what_you_see: "The message above, and where it ends the session the close code above.",
            },
        }
    }
}

/// The registered or standard close code that says the same as an HTTP status.
const fn iana_equivalent(http: u16) -> CloseCode {
    match http {
        401 => CloseCode::UNAUTHORIZED,
        403 => CloseCode::FORBIDDEN,
        408 => CloseCode::TIMEOUT,
        413 => CloseCode::MESSAGE_TOO_BIG,
        429 | 503 => CloseCode::TRY_AGAIN_LATER,
        502 | 504 => CloseCode::BAD_GATEWAY,
        500..=599 => CloseCode::INTERNAL_ERROR,
        _ => CloseCode::POLICY_VIOLATION,
    }
}

/// A handle to a row: cheap to copy, and all of the row's fields can be read through it.
#[derive(Clone, Copy)]
pub struct ErrorCode(&'static CatalogueEntry);

impl ErrorCode {
    /// The handle of a row. A code that has been sent must stay explainable, so rows live as long as the process.
    pub const fn of(row: &'static CatalogueEntry) -> Self {
        Self(row)
    }

    /// The row.
    pub const fn get(self) -> &'static CatalogueEntry {
        self.0
    }

    /// The error in words of your own. They are public: never put an internal error's text into them.
    #[must_use]
    pub fn say(self, message: impl Into<Cow<'static, str>>) -> ErrorMessage {
        ErrorMessage::new(self, message.into())
    }

    /// The error in the row's own words.
    #[must_use]
    pub fn message(self) -> ErrorMessage {
        self.say(self.0.message)
    }
}

impl Deref for ErrorCode {
    type Target = CatalogueEntry;
    fn deref(&self) -> &CatalogueEntry {
        self.0
    }
}

impl PartialEq for ErrorCode {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for ErrorCode {}

impl std::hash::Hash for ErrorCode {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl fmt::Debug for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ErrorCode({})", self.name)
    }
}

/// The row's name.
impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// The built-in rows and those of the user, with unique names and codes.
#[derive(Clone, Debug)]
pub struct Catalogue {
    rows: Vec<ErrorCode>,
}

impl Default for Catalogue {
    fn default() -> Self {
        Self::builtin()
    }
}

impl Catalogue {
    /// The rows that every Saywhy server has.
    pub fn builtin() -> Self {
        Self { rows: BUILTIN.to_vec() }
    }

    /// Adds a row.
    ///
    /// # Errors
    /// [`Clash`] when the name or the code is taken, or cannot be a row's.
    pub fn add(&mut self, row: ErrorCode) -> Result<(), Clash> {
        let name = row.name.to_owned();
        let snake = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if name.is_empty()
            || name.len() > 64
            || !name.chars().all(snake)
            || !name.starts_with(|c: char| c.is_ascii_lowercase())
        {
            return Err(Clash::Name { name });
        }
        if !(400..=599).contains(&row.http) {
            return Err(Clash::Http { name, http: row.http });
        }
        if let Some(holder) = self.rows.iter().find(|holder| holder.code == row.code) {
            return Err(Clash::CodeTaken { name, code: row.code, holder: holder.name });
        }
        if !CUSTOM_CODES.contains(&row.code) {
            return Err(Clash::CodeRange { name, code: row.code, registration: close::registration(row.code) });
        }
        if let Some(holder) = self.by_name(row.name) {
            return Err(Clash::NameTaken { name, code: row.code, holder: holder.code });
        }
        self.rows.push(row);
        Ok(())
    }

    /// Adds a row that was read at run time, and keeps it for the rest of the process.
    ///
    /// # Errors
    /// [`Clash`] as for [`Catalogue::add`].
    pub fn add_read(
        &mut self,
        name: &str,
        code: u16,
        http: u16,
        retry: Retry,
        message: &str,
    ) -> Result<ErrorCode, Clash> {
        if !CUSTOM_CODES.contains(&code) {
            let name = name.to_owned();
            return Err(match self.rows.iter().find(|holder| holder.code == code) {
                Some(holder) => Clash::CodeTaken { name, code, holder: holder.name },
                None => Clash::CodeRange { name, code, registration: close::registration(code) },
            });
        }
        if !(400..=599).contains(&http) {
            return Err(Clash::Http { name: name.to_owned(), http });
        }
        let (name, message) = (name.to_owned().leak(), message.to_owned().leak());
        let row = ErrorCode(Box::leak(Box::new(CatalogueEntry::custom(name, code, http, retry, message))));
        self.add(row)?;
        Ok(row)
    }

    /// All rows, the built-in ones first.
    pub fn rows(&self) -> impl Iterator<Item = ErrorCode> + '_ {
        self.rows.iter().copied()
    }

    /// The row of this name.
    pub fn by_name(&self, name: &str) -> Option<ErrorCode> {
        self.rows().find(|row| row.name == name)
    }

    /// The row of this `data.code`. 1014 reads as `bad_gateway`, which `gateway_timeout` shares it with.
    pub fn by_code(&self, code: u16) -> Option<ErrorCode> {
        self.rows().find(|row| row.code == code)
    }

    /// The row that an HTTP answer stands for, when a service said no in HTTP.
    pub fn by_http_status(status: u16) -> ErrorCode {
        match status {
            401 => UNAUTHORIZED,
            403 => FORBIDDEN,
            404 | 410 => NOT_FOUND,
            408 => TIMEOUT,
            409 => INVALID_ACTION,
            413 => MESSAGE_TOO_BIG,
            429 => RATE_LIMITED,
            502 => BAD_GATEWAY,
            503 => OVERLOADED,
            504 => GATEWAY_TIMEOUT,
            300..=499 => BAD_REQUEST,
            _ => INTERNAL_ERROR,
        }
    }
}

/// Why a row cannot be added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Clash {
    /// The name is not snake_case of 1–64 characters.
    Name {
        /// The name.
        name: String,
    },
    /// The HTTP status is not that of an error.
    Http {
        /// The row.
        name: String,
        /// Its status.
        http: u16,
    },
    /// The code is outside 4100–4899.
    CodeRange {
        /// The row.
        name: String,
        /// Its code.
        code: u16,
        /// Whose code it is.
        registration: &'static close::Registration,
    },
    /// Another row has the code.
    CodeTaken {
        /// The row.
        name: String,
        /// The code.
        code: u16,
        /// The row that has it.
        holder: &'static str,
    },
    /// Another row has the name.
    NameTaken {
        /// The name.
        name: String,
        /// The code that it was to have.
        code: u16,
        /// The code of the row that has the name.
        holder: u16,
    },
}

impl fmt::Display for Clash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name { name } => {
                write!(f, "error name {name:?} is not snake_case of 1 to 64 characters that starts with a letter")
            }
            Self::Http { name, http } => {
                write!(f, "error {name:?} has the HTTP status {http}, and an error has one in 400..=599")
            }
            Self::CodeRange { name, code, registration } => {
                write!(f, "error {name:?} has the code {code}, which is ")?;
                match registration.name {
                    Some(iana) => write!(f, "IANA's {iana:?}")?,
                    None => f.write_str(registration.meaning)?,
                }
                write!(f, "; rows of your own have 4100..=4899")
            }
            Self::CodeTaken { name, code, holder } => {
                write!(f, "error {name:?} has the code {code}, which is taken by {holder:?}")
            }
            Self::NameTaken { name, code, holder } => {
                write!(
                    f,
                    "error {name:?} with the code {code} has a name that is taken by the row with the code {holder}"
                )
            }
        }
    }
}

impl std::error::Error for Clash {}

const fn own(code: u16) -> Option<CloseCode> {
    Some(CloseCode::private(code))
}

macro_rules! catalogue {
    ($( $constant:ident { $($field:tt)* } )*) => {
        $(
            #[doc = concat!("The row `", stringify!($constant), "`, see its page in the catalogue.")]
            pub const $constant: ErrorCode = ErrorCode(&CatalogueEntry { $($field)* });
        )*
        /// The built-in rows, in the order of the documentation.
        pub const BUILTIN: &[ErrorCode] = &[$($constant),*];
    };
}

catalogue! {
    BAD_REQUEST {
        name: "bad_request", code: 4000, http: 400, close: own(4000), iana: Some(CloseCode::POLICY_VIOLATION),
        retry: Retry::Never, fatal: false, message: "The message could not be understood",
        page: Page {
            what_to_do: "Read the message and `details`: they name the field at fault. Correct what your client sends; the session is still open.",
            why: "The JSON is malformed, a field is missing or has the wrong type, or the `type` is unknown.",
            what_you_see: "An `error` message with the `request_id` of the message at fault. As a refusal: a query or a header of the handshake is wrong.",
        },
    }
    NOT_FOUND {
        name: "not_found", code: 4001, http: 404, close: own(4001), iana: Some(CloseCode::POLICY_VIOLATION),
        retry: Retry::Never, fatal: false, message: "There is nothing of that name",
        page: Page {
            what_to_do: "Check the name of the room or the path of the URL. A room has to be opened before it can be joined.",
            why: "The room, user, resource or path does not exist.",
            what_you_see: "An `error` message in reply, or a refusal when the path itself is unknown.",
        },
    }
    INVALID_ACTION {
        name: "invalid_action", code: 4002, http: 409, close: own(4002), iana: Some(CloseCode::POLICY_VIOLATION),
        retry: Retry::Never, fatal: false, message: "That is not possible in the present state",
        page: Page {
            what_to_do: "Join the room before you send to it; a closed room takes no messages until it is opened again.",
            why: "The action is known and permitted, but not in this state: the room is closed, or it was not joined.",
            what_you_see: "An `error` message in reply; the session is still open.",
        },
    }
    UNAUTHORIZED {
        name: "unauthorized", code: 4003, http: 401, close: own(4003), iana: Some(CloseCode::UNAUTHORIZED),
        retry: Retry::Reauthenticate, fatal: true, message: "Sign in and try again",
        page: Page {
            what_to_do: "Get a new token and connect once more. `details.reason` says what was wrong with the last one: `token_missing`, `token_invalid` or `token_expired`.",
            why: "The token is missing, malformed, signed with another key, or expired.",
            what_you_see: "A refusal, or the end of a session whose token ran out.",
        },
    }
    FORBIDDEN {
        name: "forbidden", code: 4004, http: 403, close: own(4004), iana: Some(CloseCode::FORBIDDEN),
        retry: Retry::Never, fatal: false, message: "You may not do that",
        page: Page {
            what_to_do: "Ask for the permission. A new token with the same claims is refused again. As a refusal: the page's origin is not in the route's `origins`.",
            why: "The token is good, but its claims do not permit the action; or a page of a foreign origin opened the connection.",
            what_you_see: "An `error` message in reply, or a refusal.",
        },
    }
    RATE_LIMITED {
        name: "rate_limited", code: 4005, http: 429, close: own(4005), iana: Some(CloseCode::TRY_AGAIN_LATER),
        retry: Retry::after_ms(1_000, 500), fatal: false, message: "Too many requests",
        page: Page {
            what_to_do: "Wait for `retry_after_ms`, then go on more slowly. The message that was refused was not processed.",
            why: "More messages, or more connection attempts, than the limit allows.",
            what_you_see: "An `error` message in reply to what was too much, or a refusal with `Retry-After`.",
        },
    }
    REPLACED {
        name: "replaced", code: 4006, http: 409, close: own(4006), iana: Some(CloseCode::POLICY_VIOLATION),
        retry: Retry::Never, fatal: true, message: "A newer connection took over",
        page: Page {
            what_to_do: "Do not reconnect by yourself: two tabs that do evict each other for ever. Let the person choose.",
            why: "The route allows one connection per identity, and a newer one of the same identity was opened.",
            what_you_see: "The end of the older session.",
        },
    }
    SLOW_CONSUMER {
        name: "slow_consumer", code: 4007, http: 503, close: own(4007), iana: Some(CloseCode::TRY_AGAIN_LATER),
        retry: Retry::Backoff, fatal: true, message: "You were not reading fast enough",
        page: Page {
            what_to_do: "Reconnect and resume from your last position. Do less in the message handler, or join fewer rooms.",
            why: "Messages for this client filled its outbound queue, because it did not read them.",
            what_you_see: "The end of the session, ahead of the messages that were still queued.",
        },
    }
    KICKED {
        name: "kicked", code: 4008, http: 403, close: own(4008), iana: Some(CloseCode::POLICY_VIOLATION),
        retry: Retry::Never, fatal: true, message: "You were removed",
        page: Page {
            what_to_do: "Do not reconnect by yourself. The message is the operator's own words.",
            why: "An operator or a moderator ended the session.",
            what_you_see: "The end of the session.",
        },
    }
    HISTORY_LOST {
        name: "history_lost", code: 4009, http: 410, close: None, iana: None,
        retry: Retry::Never, fatal: false, message: "That position is no longer kept",
        page: Page {
            what_to_do: "Join without `since`, and load what was missed from wherever you keep it. `details.reason` says why the position is gone.",
            why: "The log was trimmed, the server restarted without its log, or too much was missed.",
            what_you_see: "An `error` message in reply to `join` or `history`; never a recovery with a gap.",
        },
    }
    PROTOCOL_ERROR {
        name: "protocol_error", code: 1002, http: 400, close: Some(CloseCode::PROTOCOL_ERROR), iana: Some(CloseCode::PROTOCOL_ERROR),
        retry: Retry::Never, fatal: true, message: "The WebSocket protocol was broken",
        page: Page {
            what_to_do: "Read the reason: it names the rule and the section of RFC 6455. The fault is in the client's WebSocket library, or in something between.",
            why: "A frame that RFC 6455 does not allow, such as an unmasked one or a fragment out of order.",
            what_you_see: "The end of the session.",
        },
    }
    UNSUPPORTED_DATA {
        name: "unsupported_data", code: 1003, http: 415, close: Some(CloseCode::UNSUPPORTED_DATA), iana: Some(CloseCode::UNSUPPORTED_DATA),
        retry: Retry::Never, fatal: true, message: "Binary messages are not accepted here",
        page: Page {
            what_to_do: "Send text. In a browser, `send` makes a binary message of an ArrayBuffer or a Blob.",
            why: "A binary message came on a route that speaks JSON.",
            what_you_see: "The end of the session.",
        },
    }
    INVALID_PAYLOAD {
        name: "invalid_payload", code: 1007, http: 400, close: Some(CloseCode::INVALID_PAYLOAD), iana: Some(CloseCode::INVALID_PAYLOAD),
        retry: Retry::Never, fatal: true, message: "The text was not UTF-8",
        page: Page {
            what_to_do: "Send UTF-8, or send binary messages where the route takes them.",
            why: "A text message, or the reason of a Close, was not UTF-8 (RFC 6455 §8.1).",
            what_you_see: "The end of the session.",
        },
    }
    POLICY_VIOLATION {
        name: "policy_violation", code: 1008, http: 403, close: Some(CloseCode::POLICY_VIOLATION), iana: Some(CloseCode::POLICY_VIOLATION),
        retry: Retry::Never, fatal: true, message: "Too many errors",
        page: Page {
            what_to_do: "Look at the `error` messages before: each was counted. Correct the client before it connects again.",
            why: "The client used up its error budget, or abused the service.",
            what_you_see: "The end of the session.",
        },
    }
    MESSAGE_TOO_BIG {
        name: "message_too_big", code: 1009, http: 413, close: Some(CloseCode::MESSAGE_TOO_BIG), iana: Some(CloseCode::MESSAGE_TOO_BIG),
        retry: Retry::Never, fatal: true, message: "The message was too big",
        page: Page {
            what_to_do: "Send less at once. The limit is in the `limits` of `ready`, and in `details` of the error.",
            why: "A message, counted over all of its fragments, went past the route's limit.",
            what_you_see: "The end of the session.",
        },
    }
    TIMEOUT {
        name: "timeout", code: 3008, http: 408, close: Some(CloseCode::TIMEOUT), iana: Some(CloseCode::TIMEOUT),
        retry: Retry::Backoff, fatal: true, message: "Nothing was heard from you in time",
        page: Page {
            what_to_do: "Reconnect. If it happens often, look for a proxy or a phone that suspends the connection.",
            why: "No heartbeat was answered for two periods, a message was left unfinished, or no token came in time.",
            what_you_see: "The end of the session; often unseen, because the network is gone.",
        },
    }
    INTERNAL_ERROR {
        name: "internal_error", code: 5000, http: 500, close: Some(CloseCode::INTERNAL_ERROR), iana: Some(CloseCode::INTERNAL_ERROR),
        retry: Retry::Backoff, fatal: false, message: "Something went wrong on our side",
        page: Page {
            what_to_do: "Try again, and give the `request_id` to the operator: the cause is in the server's log beside it.",
            why: "The server met an error that nobody classified, or a handler panicked.",
            what_you_see: "A refusal, an `error` message, or the end of a session with 1011; never the cause itself.",
        },
    }
    SERVICE_RESTART {
        name: "service_restart", code: 1012, http: 503, close: Some(CloseCode::SERVICE_RESTART), iana: Some(CloseCode::SERVICE_RESTART),
        retry: Retry::after_ms(1_000, 5_000), fatal: true, message: "The service is restarting",
        page: Page {
            what_to_do: "Reconnect after `retry_after_ms` and a random part of `spread_ms`. Resume rooms from your last position.",
            why: "A deploy or a restart. Each session is told a time of its own, so that not all come back at once.",
            what_you_see: "`goodbye`, then the end of the session; or a refusal while the server drains.",
        },
    }
    OVERLOADED {
        name: "overloaded", code: 1013, http: 503, close: Some(CloseCode::TRY_AGAIN_LATER), iana: Some(CloseCode::TRY_AGAIN_LATER),
        retry: Retry::after_ms(5_000, 5_000), fatal: true, message: "Too busy at the moment",
        page: Page {
            what_to_do: "Reconnect after `retry_after_ms` and a random part of `spread_ms`.",
            why: "The server, or something behind it, has reached a limit.",
            what_you_see: "A refusal, or an `error` message.",
        },
    }
    BAD_GATEWAY {
        name: "bad_gateway", code: 1014, http: 502, close: Some(CloseCode::BAD_GATEWAY), iana: Some(CloseCode::BAD_GATEWAY),
        retry: Retry::Backoff, fatal: true, message: "The service behind this one failed",
        page: Page {
            what_to_do: "Reconnect. As an operator: look the `request_id` up, the cause names the upstream.",
            why: "The upstream could not be reached, broke off, or answered with nonsense.",
            what_you_see: "A refusal, or the end of a session.",
        },
    }
    GATEWAY_TIMEOUT {
        name: "gateway_timeout", code: 1014, http: 504, close: Some(CloseCode::BAD_GATEWAY), iana: Some(CloseCode::BAD_GATEWAY),
        retry: Retry::Backoff, fatal: true, message: "The service behind this one did not answer in time",
        page: Page {
            what_to_do: "Reconnect. As an operator: the upstream is overloaded, or its time-out is too short.",
            why: "The upstream did not answer in time. The code 1014 is shared with `bad_gateway`; the name tells them apart.",
            what_you_see: "A refusal, or the end of a session.",
        },
    }
    GOING_AWAY {
        name: "going_away", code: 1001, http: 503, close: Some(CloseCode::GOING_AWAY), iana: Some(CloseCode::GOING_AWAY),
        retry: Retry::Backoff, fatal: true, message: "The server is going away",
        page: Page {
            what_to_do: "Reconnect.",
            why: "The server stops and does not say that it comes back; or the session was idle for too long.",
            what_you_see: "The end of the session.",
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Dialect;

    #[test]
    fn names_and_codes_are_unique_but_for_gateway_timeout() {
        for (i, a) in BUILTIN.iter().enumerate() {
            for b in &BUILTIN[..i] {
                assert_ne!(a.name, b.name);
                assert!(a.code != b.code || a.name == "gateway_timeout", "{a} and {b} share {}", a.code);
            }
            assert!(a.message.len() <= crate::CloseReason::MAX_BYTES, "{a} does not fit a Close frame");
        }
        assert_eq!(Catalogue::builtin().by_code(1014), Some(BAD_GATEWAY));
    }

    #[test]
    fn a_clash_names_both_sides() {
        let mut catalogue = Catalogue::builtin();
        let full = catalogue.add_read("room_full", 4100, 409, Retry::Backoff, "The room is full").unwrap();
        assert_eq!(Dialect::App.close_code(full).as_u16(), 4100);
        let mut refused = |name: &str, code: u16, http: u16| {
            catalogue.add_read(name, code, http, Retry::Never, "no").unwrap_err().to_string()
        };
        assert_eq!(
            refused("crowded", 4100, 409),
            r#"error "crowded" has the code 4100, which is taken by "room_full""#
        );
        assert_eq!(refused("login", 4003, 401), r#"error "login" has the code 4003, which is taken by "unauthorized""#);
        assert_eq!(
            refused("room_full", 4101, 409),
            r#"error "room_full" with the code 4101 has a name that is taken by the row with the code 4100"#
        );
        assert_eq!(
            refused("login", 3000, 401),
            r#"error "login" has the code 3000, which is IANA's "Unauthorized"; rows of your own have 4100..=4899"#
        );
        assert_eq!(
            refused("gone", 1006, 401),
            r#"error "gone" has the code 1006, which is IANA's "Abnormal Closure"; rows of your own have 4100..=4899"#
        );
        assert_eq!(
            refused("Gone!", 4102, 401),
            r#"error name "Gone!" is not snake_case of 1 to 64 characters that starts with a letter"#
        );
        assert_eq!(
            refused("fine", 4102, 200),
            r#"error "fine" has the HTTP status 200, and an error has one in 400..=599"#
        );
    }

    #[test]
    fn every_http_status_is_a_row() {
        for status in 100..=999 {
            let row = Catalogue::by_http_status(status);
            assert!(BUILTIN.contains(&row));
        }
        assert_eq!(Catalogue::by_http_status(418), BAD_REQUEST);
        assert_eq!(Catalogue::by_http_status(599), INTERNAL_ERROR);
    }
}
