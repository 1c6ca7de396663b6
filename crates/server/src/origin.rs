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
        if authority.contains(['/', '@', '?', '#', '\\']) {
            return Err(InvalidOrigin);
        }
        let uri: Uri = text.parse().map_err(|_| InvalidOrigin)?;
        let host = uri.host().filter(|host| !host.is_empty()).ok_or(InvalidOrigin)?.to_ascii_lowercase();
        let scheme = scheme.to_ascii_lowercase();
        let port = match authority.get(host.len()..).ok_or(InvalidOrigin)? {
            "" => default_port(&scheme).ok_or(InvalidOrigin)?,
            rest => rest.strip_prefix(':').and_then(port_number).ok_or(InvalidOrigin)?,
        };
        Ok(Self { scheme, host, port })
    }
}

/// What is no port must not be taken for none.
fn port_number(port: &str) -> Option<u16> {
    port.bytes().all(|byte| byte.is_ascii_digit()).then(|| port.parse().ok())?
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

    const PASSES: bool = true;
    const STOPS: bool = false;

    /// T27. The server is asked for at a host, and its route lists `https://app.example`, `http://localhost:3000` and
    /// `https://xn--bcher-kva.example`.
    #[test]
    fn t27_only_exact_origins_pass() {
        let rows: &[(&str, &[&str], bool, &str)] = &[
            ("ws.example", &[], PASSES, "no page"),
            // Listed.
            ("ws.example", &["https://app.example"], PASSES, "as listed"),
            ("ws.example", &["HTTPS://APP.EXAMPLE"], PASSES, "in another case"),
            ("ws.example", &["https://app.example:443"], PASSES, "with the port that it has anyway"),
            ("ws.example", &["http://localhost:3000"], PASSES, "with a port"),
            ("ws.example", &["https://xn--bcher-kva.example"], PASSES, "an international name, as browsers send it"),
            // Listed, but for something.
            ("ws.example", &["http://app.example"], STOPS, "another scheme"),
            ("ws.example", &["wss://app.example"], STOPS, "a scheme that is no page's"),
            ("ws.example", &["https://app.example:8443"], STOPS, "another port"),
            ("ws.example", &["https://app.example:80"], STOPS, "the port of the other scheme"),
            ("ws.example", &["http://localhost"], STOPS, "without its port"),
            ("ws.example", &["http://localhost:30000"], STOPS, "a port that begins so"),
            ("ws.example", &["http://127.0.0.1:3000"], STOPS, "the same machine by another name"),
            ("ws.example", &["https://app.example."], STOPS, "a trailing dot is another host"),
            ("ws.example", &["https://app.example.evil.example"], STOPS, "a suffix"),
            ("ws.example", &["https://evil-app.example"], STOPS, "a prefix"),
            ("ws.example", &["https://evilapp.example"], STOPS, "a prefix without a hyphen"),
            ("ws.example", &["https://sub.app.example"], STOPS, "a subdomain"),
            ("ws.example", &["https://example"], STOPS, "the domain above"),
            ("ws.example", &["https://app_example"], STOPS, "a dot is a dot"),
            ("ws.example", &["https://appXexample"], STOPS, "and no pattern"),
            ("ws.example", &["https://xn--bcher-kv.example"], STOPS, "another international name"),
            // Tricks of the notation.
            ("ws.example", &["https://app.example@evil.example"], STOPS, "the listed one as a user name"),
            ("ws.example", &["https://user@app.example"], STOPS, "with a user name"),
            ("ws.example", &["https://app.example/"], STOPS, "with a path"),
            ("ws.example", &["https://app.example?"], STOPS, "with a query"),
            ("ws.example", &["https://app.example#"], STOPS, "with a fragment"),
            ("ws.example", &["https://app.example\\.evil.example"], STOPS, "with a backslash"),
            ("ws.example", &["https://app.example:"], STOPS, "an empty port"),
            ("ws.example", &["https://app.example:443443"], STOPS, "a port that is too large"),
            ("ws.example", &["https://app.example:+443"], STOPS, "a port with a sign"),
            ("ws.example", &["https://app.example:0443"], PASSES, "a number is a number"),
            ("ws.example", &["https://app.example https://evil.example"], STOPS, "a list, as RFC 6454 once had it"),
            ("ws.example", &["https://app.example,https://evil.example"], STOPS, "a list with a comma"),
            ("ws.example", &["app.example"], STOPS, "no scheme"),
            ("ws.example", &["//app.example"], STOPS, "nor here"),
            ("ws.example", &["https://"], STOPS, "no host"),
            ("ws.example", &["https://%61pp.example"], STOPS, "escaped"),
            ("ws.example", &["null"], STOPS, "a sandboxed page, or a file"),
            ("ws.example", &["NULL"], STOPS, "in any case"),
            ("ws.example", &[""], STOPS, "nothing"),
            ("ws.example", &["file://"], STOPS, "a file"),
            ("ws.example", &["chrome-extension://abcdef"], STOPS, "an extension"),
            ("ws.example", &["https://app.example", "https://app.example"], STOPS, "twice"),
            ("ws.example", &["https://app.example", "https://evil.example"], STOPS, "and another"),
            // Of the same origin as the server.
            ("ws.example", &["https://ws.example"], PASSES, "the same host"),
            ("ws.example", &["http://ws.example"], PASSES, "TLS may have ended before us"),
            ("ws.example:8443", &["https://ws.example:8443"], PASSES, "with its port"),
            ("ws.example:8443", &["https://ws.example"], STOPS, "another port of the same host"),
            ("ws.example", &["https://ws.example:8443"], STOPS, "and the other way round"),
            ("127.0.0.1:8080", &["http://127.0.0.1:8080"], PASSES, "an address"),
            ("127.0.0.1:8080", &["http://localhost:8080"], STOPS, "another name is another origin"),
            ("[::1]:8080", &["http://[::1]:8080"], PASSES, "an address of IPv6"),
            ("ws.example", &["https://ws.example.evil.example"], STOPS, "a suffix of the same host"),
        ];
        assert!(rows.len() >= 40);
        let listed = ["https://app.example", "http://localhost:3000", "https://xn--bcher-kva.example"];
        let listed = listed.map(|origin| origin.parse().unwrap());
        for (host, origins, passes, why) in rows {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, host.parse().unwrap());
            for origin in *origins {
                headers.append(ORIGIN, origin.parse().unwrap());
            }
            assert_eq!(is_allowed(&headers, None, &listed), *passes, "{origins:?} at {host}: {why}");
        }
        // What is no text is no origin.
        let mut headers = HeaderMap::new();
        headers.insert(ORIGIN, HeaderValue::from_bytes(b"https://b\xFCcher.example").unwrap());
        assert!(!is_allowed(&headers, None, &listed));
        // Where it is known whether the connection is secure, so must the page be.
        let mut headers = HeaderMap::from_iter([(HOST, HeaderValue::from_static("ws.example"))]);
        for (origin, secure) in [("https://ws.example", true), ("http://ws.example", false)] {
            headers.insert(ORIGIN, HeaderValue::from_static(origin));
            assert!(is_allowed(&headers, Some(secure), &[]) && !is_allowed(&headers, Some(!secure), &[]), "{origin}");
        }
    }
}
