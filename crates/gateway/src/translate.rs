//! What an upstream did, as the refusal that a client can read.

use crate::dial::Address;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use saywhy::Refusal;
use saywhy_codes::catalogue::{BAD_GATEWAY, GATEWAY_TIMEOUT, OVERLOADED};
use saywhy_codes::{ErrorMessage, Retry};
use serde_json::Value;
use std::io;
use std::time::Duration;

/// Where an upstream's own words may stand in a body of JSON.
const WORDS: [&str; 4] = ["message", "error", "detail", "reason"];
/// Characters of them that are passed on.
const MOST_WORDS: usize = 200;

fn of(error: ErrorMessage) -> ErrorMessage {
    error.detail("source", "upstream")
}

/// It said no, or something else that is no 101. `body` is what is passed on of its own words, if that is wished for.
pub(crate) fn refused(status: StatusCode, headers: &HeaderMap, body: Option<&Bytes>) -> Refusal {
    let refusal = Refusal::of_upstream(status, headers);
    match body.filter(|_| status.is_client_error()).and_then(|body| words(body)) {
        Some(words) => refusal.say(words),
        None => refusal,
    }
}

fn words(body: &[u8]) -> Option<String> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let words = WORDS.iter().find_map(|name| body.get(name)?.as_str())?;
    let words: String = words.chars().filter(|c| !c.is_control()).take(MOST_WORDS).collect();
    (!words.trim().is_empty()).then_some(words)
}

/// There is no connection.
pub(crate) fn unreachable(address: &Address, error: &io::Error) -> Refusal {
    let row = if error.kind() == io::ErrorKind::TimedOut { GATEWAY_TIMEOUT } else { BAD_GATEWAY };
    Refusal::new(of(row.say("The upstream cannot be reached"))).because(format!("{address}: {error}"))
}

/// There is nobody to ask.
pub(crate) fn none() -> Refusal {
    Refusal::new(of(BAD_GATEWAY.message())).because("the route has no upstream")
}

/// It did not answer in time.
pub(crate) fn too_late(time: Duration) -> Refusal {
    Refusal::new(of(GATEWAY_TIMEOUT.say("The upstream did not answer in time")))
        .because(format!("no answer in {time:?}"))
}

/// It broke off, or its answer is no HTTP.
pub(crate) fn broken(error: &hyper::Error) -> Refusal {
    if error.is_parse() || error.is_parse_too_large() || error.is_parse_status() {
        return nonsense("The upstream's answer is not HTTP").because(error.to_string());
    }
    Refusal::new(of(BAD_GATEWAY.say("The upstream broke off before it answered"))).because(error.to_string())
}

/// Its answer makes no sense, and the next one would not either.
pub(crate) fn nonsense(words: &'static str) -> Refusal {
    Refusal::new(of(BAD_GATEWAY.say(words).retry(Retry::Never)))
}

/// Whether another back end might have done better: this one broke off, or said 502, 503 or 504. What makes no sense may be
/// about this one request, such as a path with a page at it: nobody shall push a back end aside by asking for that.
pub(crate) fn is_its_fault(refusal: &Refusal) -> bool {
    let error = refusal.error();
    let is_nonsense = error.retry_policy() == Retry::Never;
    !is_nonsense && [BAD_GATEWAY, GATEWAY_TIMEOUT, OVERLOADED].contains(&error.error())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_taken_from_where_they_may_stand_and_cut() {
        assert_eq!(words(br#"{"error":"no such room"}"#).as_deref(), Some("no such room"));
        assert_eq!(words(br#"{"trace":"main.go:7","message":"a\nb"}"#).as_deref(), Some("ab"));
        let long = format!(r#"{{"detail":"{}"}}"#, "x".repeat(1_000));
        assert_eq!(words(long.as_bytes()).map(|words| words.len()), Some(MOST_WORDS));
        for none in [&b"no such room"[..], b"{}", b"[]", br#"{"error":{"message":"deep"}}"#, br#"{"error":" "}"#] {
            assert_eq!(words(none), None);
        }
    }

    #[test]
    fn every_status_has_its_row() {
        let rows = [
            (101, "bad_gateway"),
            (200, "bad_gateway"),
            (204, "bad_gateway"),
            (302, "bad_request"),
            (400, "bad_request"),
            (401, "unauthorized"),
            (403, "forbidden"),
            (404, "not_found"),
            (408, "timeout"),
            (409, "invalid_action"),
            (410, "not_found"),
            (413, "message_too_big"),
            (418, "bad_request"),
            (429, "rate_limited"),
            (500, "internal_error"),
            (502, "bad_gateway"),
            (503, "overloaded"),
            (504, "gateway_timeout"),
            (599, "internal_error"),
        ];
        for (status, name) in rows {
            let status = StatusCode::from_u16(status).unwrap();
            let refusal = refused(status, &HeaderMap::new(), None);
            assert_eq!(refusal.error().error().name, name, "{status}");
            assert_eq!(is_its_fault(&refusal), matches!(status.as_u16(), 502..=504), "{status}");
        }
    }
}
