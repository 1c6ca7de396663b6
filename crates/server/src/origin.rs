//! Origins: which pages may open a connection. WebSocket has no same-origin policy, so the server keeps one.

use http::Uri;
use http::header::{HOST, ORIGIN};
use http::{HeaderMap, HeaderValue};
use std::fmt;
use std::str::FromStr;

/// The origin of a page: scheme, host and port, compared exactly (RFC 6454 §4).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    scheme: String,
    host: String,
    port: u16,
}

/// A text that is no origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidOrigin;

impl fmt::Display for InvalidOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an origin is a scheme, a host and perhaps a port, such as https://app.example")
    }
}

impl std::error::Error for InvalidOrigin {}

impl FromStr for Origin {
    type Err = InvalidOrigin;

    fn from_str(text: &str) -> Result<Self, InvalidOrigin> {
        // Nothing but scheme://host[:port]: a user name, a path or even a closing slash is a trick or a mistake.
        let (scheme, authority) = text.split_once("://").ok_or(InvalidOrigin)?;
        if authority.contains(['/', '@', '?', '#', '\\']) || authority.ends_with(':') {
            return Err(InvalidOrigin);
        }
        let uri: Uri = text.parse().map_err(|_| InvalidOrigin)?;
        let host = uri.host().filter(|host| !host.is_empty()).ok_or(InvalidOrigin)?.to_ascii_lowercase();
        let scheme = scheme.to_ascii_lowercase();
        let port = uri.port_u16().or_else(|| default_port(&scheme)).ok_or(InvalidOrigin)?;
        Ok(Self { scheme, host, port })
    }
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" | "ws" => Some(80),
        "https" | "wss" => Some(443),
        _ => None,
    }
}

/// Whether the page behind a request may open a connection. Without an `Origin` it is no page. `secure` is whether the
/// request came over TLS, where that is known.
pub(crate) fn is_allowed(headers: &HeaderMap, secure: Option<bool>, allowed: &[Origin]) -> bool {
    let mut origins = headers.get_all(ORIGIN).iter();
    let Some(origin) = origins.next() else { return true };
    if origins.next().is_some() {
        return false;
    }
    let Some(origin) = text(origin).and_then(|origin| origin.parse::<Origin>().ok()) else { return false };
    allowed.contains(&origin) || is_same(&origin, secure, headers)
}

/// The page came from the host that it connects to. Behind a proxy that ends TLS, and is not trusted to say so, the
/// scheme is unknown here; so the port is compared as the page's scheme has it.
fn is_same(origin: &Origin, secure: Option<bool>, headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(HOST).and_then(text) else { return false };
    // Anyone on the way can be a page without TLS.
    if secure.is_some_and(|secure| secure != (origin.scheme == "https")) {
        return false;
    }
    format!("{}://{host}", origin.scheme).parse::<Origin>().is_ok_and(|same| same == *origin)
}

fn text(value: &HeaderValue) -> Option<&str> {
    value.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_exact_origins_pass() {
        let allowed: [Origin; 2] =
            ["https://app.example", "http://localhost:3000"].map(|origin| origin.parse().unwrap());
        let allowed = |host: &str, origins: &[&str]| {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, host.parse().unwrap());
            for origin in origins {
                headers.append(ORIGIN, origin.parse().unwrap());
            }
            is_allowed(&headers, None, &allowed)
        };
        for good in ["https://app.example", "HTTPS://APP.EXAMPLE", "https://app.example:443", "http://localhost:3000"] {
            assert!(allowed("ws.example", &[good]), "{good}");
        }
        for same in ["https://ws.example", "http://ws.example"] {
            assert!(allowed("ws.example", &[same]), "{same}");
        }
        assert!(allowed("127.0.0.1:8080", &["http://127.0.0.1:8080"]));
        assert!(allowed("[::1]:8080", &["http://[::1]:8080"]));
        assert!(allowed("ws.example", &[]), "not a page");
        for bad in [
            "null",
            "",
            "https://app.example.evil.example",
            "https://evilapp.example",
            "http://app.example",
            "https://app.example:8443",
            "https://app.example@evil.example",
            "https://app.example/",
            "https://app.example.",
            "https://ws.example:8443",
            "https://app.example:",
            "file://",
            "app.example",
        ] {
            assert!(!allowed("ws.example", &[bad]), "{bad}");
        }
        assert!(!allowed("ws.example", &["https://app.example", "https://app.example"]), "two headers");
        let mut headers = HeaderMap::from_iter([(HOST, HeaderValue::from_static("ws.example"))]);
        for (origin, secure) in [("https://ws.example", true), ("http://ws.example", false)] {
            headers.insert(ORIGIN, HeaderValue::from_static(origin));
            assert!(is_allowed(&headers, Some(secure), &[]) && !is_allowed(&headers, Some(!secure), &[]), "{origin}");
        }
        assert!(!allowed("127.0.0.1:8080", &["http://localhost:8080"]), "another name is another origin");
    }
}
