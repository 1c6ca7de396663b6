//! The last word: which message and which Close stand for an error on this connection. Nothing else makes a Close.

use crate::connection::Connection;
use jiff::Timestamp;
use saywhy_codes::catalogue::SERVICE_RESTART;
use saywhy_codes::{CloseCode, CloseFrame, CloseReason, ErrorMessage, Observed, SeenClose};
use saywhy_proto::envelope::{self, ErrorData};
use saywhy_proto::session::Phrase;
use std::time::Duration;

/// How a server words its endings on one connection.
pub(crate) struct Voice<'a>(pub(crate) &'a Connection);

impl Phrase for Voice<'_> {
    fn farewell(&self, error: &ErrorMessage, request_id: Option<&str>) -> (Option<String>, CloseFrame) {
        let dialect = &self.0.settings.dialect;
        let close = CloseFrame { code: dialect.close_code(error.error()), reason: error.reason() };
        let restarts = error.error() == SERVICE_RESTART && self.0.is_ready();
        // Nobody who talks to an upstream knows of goodbyes.
        if !dialect.sends_message() || !self.0.speaks_json() || (restarts && self.0.is_relayed()) {
            return (None, close);
        }
        // An ending that no request led to is found under the connection's own id.
        let own = self.0.id.simple().to_string();
        let id = request_id.unwrap_or(&own);
        let message = if restarts { goodbye(error, id) } else { envelope::error(error, true, id, &Timestamp::now()) };
        (Some(message), close)
    }

    fn expiring(&self, left: Duration) -> Option<String> {
        let data = serde_json::json!({ "expires_in_ms": left.as_millis() as u64 });
        self.0
            .speaks_json()
            .then(|| envelope::message("auth_expiring", &data, None, &Timestamp::now()).unwrap_or_default())
    }
}

/// A Close that says nothing but its code.
pub(crate) fn bare(code: CloseCode) -> CloseFrame {
    CloseFrame { code, reason: CloseReason::EMPTY }
}

/// A Close in words of our own.
pub(crate) fn worded(code: CloseCode, words: &'static str) -> CloseFrame {
    CloseFrame { code, reason: CloseReason::cut(words) }
}

/// A Close that one side said, for the other. An empty one stays empty.
pub(crate) fn passed_on(close: &SeenClose) -> Option<CloseFrame> {
    match close.code {
        Observed::Code(code) => Some(CloseFrame { code, reason: close.reason.clone() }),
        // What only its sender's role may not say.
        Observed::Illegal(_) => Some(bare(CloseCode::NORMAL)),
        Observed::NoStatus | Observed::Abnormal | Observed::TlsHandshake => None,
    }
}

/// What goes before a planned Close: no fault of anyone's, so no `error`.
fn goodbye(error: &ErrorMessage, id: &str) -> String {
    let data = ErrorData { error, fatal: true };
    envelope::message("goodbye", &data, Some(id), &Timestamp::now()).unwrap_or_default()
}
