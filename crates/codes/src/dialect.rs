//! Which close code stands for a row, so that clients that exist already keep working.

use crate::catalogue::ErrorCode;
use crate::close::{CloseCode, Role, Unsendable};
use crate::retry::Retry;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// A mapping from rows of the catalogue to close codes, and whether a message goes before the Close.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    /// The row's own code; 5000 becomes 1011.
    #[default]
    App,
    /// Only codes that IANA has registered.
    Iana,
    /// 1008 for every row in 4000–4999; the standard codes stay.
    Policy,
    /// 4000 + the HTTP status; 1013 for 429 and 503; 1002 and 1007 stay.
    Http,
    /// The codes of the `graphql-transport-ws` subprotocol. Close only: its clients fail on a foreign message.
    GraphqlWs,
    /// One of the user's own.
    Custom(Arc<CustomDialect>),
}

impl Dialect {
    /// The names of the built-in dialects.
    pub const NAMES: [&'static str; 5] = ["app", "iana", "policy", "http", "graphql-ws"];

    /// The built-in dialects.
    pub const BUILTIN: [Self; 5] = [Self::App, Self::Iana, Self::Policy, Self::Http, Self::GraphqlWs];

    /// The close code by which this dialect's clients know `error`.
    ///
    /// A row that never ends a session has none; a handler that ends one with it all the same says 1008, "a
    /// generic status code that can be returned when there is no other more suitable" (RFC 6455 §7.4.1).
    pub fn close_code(&self, error: ErrorCode) -> CloseCode {
        self.row_close_code(error).unwrap_or(CloseCode::POLICY_VIOLATION)
    }

    /// As [`Dialect::close_code`], but `None` for a row that never ends a session.
    pub fn row_close_code(&self, error: ErrorCode) -> Option<CloseCode> {
        let own = error.close?;
        Some(match self {
            Self::App => own,
            Self::Iana => error.iana?,
            Self::Policy if own.as_u16() >= 4000 => CloseCode::POLICY_VIOLATION,
            Self::Policy => own,
            // What RFC 6455 itself is about keeps the code that it gives to it.
            Self::Http if own == CloseCode::PROTOCOL_ERROR || own == CloseCode::INVALID_PAYLOAD => own,
            Self::Http => match error.http {
                429 | 503 => CloseCode::TRY_AGAIN_LATER,
                status => CloseCode::private(4000 + status),
            },
            Self::GraphqlWs => graphql_ws(error, own),
            Self::Custom(dialect) => match dialect.codes.iter().find(|(name, _)| name == error.name) {
                Some((_, code)) => *code,
                None => dialect.otherwise.row_close_code(error)?,
            },
        })
    }

    /// Whether the error message is sent before the Close.
    pub fn sends_message(&self) -> bool {
        match self {
            Self::App | Self::Iana | Self::Policy | Self::Http => true,
            Self::GraphqlWs => false,
            Self::Custom(dialect) => dialect.message,
        }
    }

    /// The name by which the config knows it.
    pub fn name(&self) -> &str {
        match self {
            Self::App => "app",
            Self::Iana => "iana",
            Self::Policy => "policy",
            Self::Http => "http",
            Self::GraphqlWs => "graphql-ws",
            Self::Custom(dialect) => &dialect.name,
        }
    }
}

/// 4400, 4401, 4403, 4408, 4429 and 4500 are what its clients know; they stop at 1008 and come back after 1013.
fn graphql_ws(error: ErrorCode, own: CloseCode) -> CloseCode {
    match (own.as_u16(), error.http) {
        (_, 500) => CloseCode::private(4500),
        (1000..=1014, _) => own,
        (_, status @ (400 | 401 | 408 | 429)) => CloseCode::private(4000 + status),
        (_, 404) => CloseCode::private(4400),
        _ if error == crate::catalogue::FORBIDDEN => CloseCode::private(4403),
        _ if error.retry == Retry::Never => CloseCode::POLICY_VIOLATION,
        _ => CloseCode::TRY_AGAIN_LATER,
    }
}

impl FromStr for Dialect {
    type Err = UnknownDialect;

    fn from_str(name: &str) -> Result<Self, UnknownDialect> {
        Self::BUILTIN.into_iter().find(|dialect| dialect.name() == name).ok_or(UnknownDialect)
    }
}

/// A name that no built-in dialect has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownDialect;

impl fmt::Display for UnknownDialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a built-in dialect is one of {}", Dialect::NAMES.join(", "))
    }
}

impl std::error::Error for UnknownDialect {}

/// A dialect of the user's own: some rows by name, the others as another dialect has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CustomDialect {
    name: String,
    codes: Vec<(String, CloseCode)>,
    otherwise: Dialect,
    message: bool,
}

impl CustomDialect {
    /// A dialect that is like `otherwise` until rows are added.
    pub fn new(name: impl Into<String>, otherwise: Dialect) -> Self {
        let message = otherwise.sends_message();
        Self { name: name.into(), codes: Vec::new(), otherwise, message }
    }

    /// Gives a row a close code of its own.
    ///
    /// # Errors
    /// [`Unsendable`] when a server may not send the code.
    pub fn code(mut self, row: impl Into<String>, code: u16) -> Result<Self, Unsendable> {
        self.codes.push((row.into(), CloseCode::new(code, Role::Server)?));
        Ok(self)
    }

    /// Says whether the error message is sent before the Close.
    #[must_use]
    pub fn message(mut self, message: bool) -> Self {
        self.message = message;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::{self as rows, BUILTIN};

    fn code(dialect: &Dialect, row: ErrorCode) -> u16 {
        dialect.close_code(row).as_u16()
    }

    #[test]
    fn the_contract_s_examples() {
        assert_eq!(code(&Dialect::App, rows::UNAUTHORIZED), 4003);
        assert_eq!(code(&Dialect::App, rows::INTERNAL_ERROR), 1011);
        assert_eq!(code(&Dialect::Iana, rows::KICKED), 1008);
        assert_eq!(code(&Dialect::Policy, rows::BAD_REQUEST), 1008);
        assert_eq!(code(&Dialect::Policy, rows::SERVICE_RESTART), 1012);
        assert_eq!(code(&Dialect::Policy, rows::TIMEOUT), 3008);
        assert_eq!(code(&Dialect::Http, rows::UNAUTHORIZED), 4401);
        assert_eq!(code(&Dialect::Http, rows::RATE_LIMITED), 1013);
        assert_eq!(code(&Dialect::Http, rows::PROTOCOL_ERROR), 1002);
        assert_eq!(code(&Dialect::App, rows::HISTORY_LOST), 1008);
        assert_eq!(Dialect::App.row_close_code(rows::HISTORY_LOST), None);
    }

    #[test]
    fn graphql_ws_uses_its_own_codes_and_the_standard_ones_only() {
        for row in BUILTIN {
            let code = code(&Dialect::GraphqlWs, *row);
            assert!(matches!(code, 1000..=1014 | 4400 | 4401 | 4403 | 4408 | 4429 | 4500), "{row}: {code}");
        }
        assert_eq!(code(&Dialect::GraphqlWs, rows::TIMEOUT), 4408);
        assert_eq!(code(&Dialect::GraphqlWs, rows::KICKED), 1008);
        assert_eq!(code(&Dialect::GraphqlWs, rows::SLOW_CONSUMER), 1013);
        assert!(!Dialect::GraphqlWs.sends_message());
    }

    #[test]
    fn one_of_the_user_s_own_falls_back() {
        let own = CustomDialect::new("legacy", Dialect::Iana).code("not_found", 4404).unwrap();
        let own = Dialect::Custom(Arc::new(own));
        assert_eq!(code(&own, rows::NOT_FOUND), 4404);
        assert_eq!(code(&own, rows::UNAUTHORIZED), 3000);
        assert!(CustomDialect::new("bad", Dialect::App).code("not_found", 1006).is_err());
    }

    #[test]
    fn names_round_trip() {
        for dialect in Dialect::BUILTIN {
            assert_eq!(dialect.name().parse(), Ok(dialect.clone()));
        }
        assert_eq!("ap".parse::<Dialect>(), Err(UnknownDialect));
    }
}
