//! No, in HTTP, where a page cannot read it.

use crate::fault::{Answer, Args, Complaint, Entry, Example, Fault, Kind, Make, Seen, To, duration, make};
use http::StatusCode;
use std::time::Duration;

pub(super) const ENTRY: Entry = Entry {
    name: "refuse",
    kind: Kind::Handshake,
    value: "=STATUS",
    about: "the handshake is answered with this HTTP status; `body` and `retry-after=TIME` are what else it says",
    to: To::Client,
    parameters: &["body", "retry-after", "p", "times"],
    examples: &[Example {
        fault: "refuse=503,retry-after=5s",
        seen: Seen { chromium: "1006", firefox: "1006", ws: "HTTP 503, 1006" },
    }],
    read,
};

fn read(args: &mut Args) -> Result<Make, Complaint> {
    let status = args.value_as(|text| {
        let status = StatusCode::from_bytes(text.as_bytes()).ok()?;
        // An informational one would be followed by another.
        (!status.is_informational()).then_some(status)
    })?;
    let retry_after = args.parse("retry-after", duration)?;
    let body = args.parse("body", |text| Ok(text.to_owned()))?.unwrap_or_default();
    let answer = refusal(status, retry_after, &body);
    Ok(make(move || Fault::Handshake(Answer::Refuse(answer.clone()))))
}

/// The bytes of an answer that is none of the server's.
pub(crate) fn refusal(status: StatusCode, retry_after: Option<Duration>, body: &str) -> Vec<u8> {
    let phrase = status.canonical_reason().unwrap_or("Refused");
    let retry_after = retry_after.map(|time| format!("Retry-After: {}\r\n", time.as_secs().max(1))).unwrap_or_default();
    let (status, length) = (status.as_u16(), body.len());
    format!(
        "HTTP/1.1 {status} {phrase}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {length}\r\n\
         {retry_after}Connection: close\r\n\r\n{body}"
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_in_http() {
        let bytes = refusal(StatusCode::SERVICE_UNAVAILABLE, Some(Duration::from_secs(5)), "later");
        assert_eq!(
            String::from_utf8(bytes).unwrap(),
            "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 5\r\n\
             Retry-After: 5\r\nConnection: close\r\n\r\nlater"
        );
    }
}
