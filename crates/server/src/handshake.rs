//! The opening handshake: what RFC 6455 §4.2.1 asks of a client, and what a server answers.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{
    CONNECTION, CONTENT_LENGTH, HOST, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, TRANSFER_ENCODING, UPGRADE,
};
use http::{Extensions, HeaderMap, HeaderName, Method, Request, Version};
use hyper::ext::Protocol;
use saywhy_proto::deflate::{self, Extension};
use sha1::{Digest, Sha1};

/// The subprotocol of Saywhy's envelope.
pub(crate) const SAYWHY_V1: &str = "saywhy.v1";
/// A token that is offered as a subprotocol starts with this. It is never selected: it would come back in a header.
const BEARER: &str = "saywhy.bearer.";
/// More subprotocols than this are not looked at.
const MAX_PROTOCOLS: usize = 32;
/// More extensions than this are not looked at.
const MAX_EXTENSIONS: usize = 32;

/// A valid opening handshake.
#[derive(Debug)]
pub(crate) struct Handshake {
    /// `Sec-WebSocket-Accept`; HTTP/2 has none.
    pub(crate) accept: Option<String>,
    /// The subprotocols on offer, in the client's order, without tokens.
    pub(crate) protocols: Vec<String>,
    /// The token among the subprotocols.
    pub(crate) bearer: Option<String>,
    /// The extensions on offer.
    pub(crate) extensions: Vec<Extension>,
}

/// What is wrong with a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Invalid {
    Method,
    HttpVersion,
    Host,
    Upgrade,
    Connection,
    Key,
    Version,
    Body,
    Protocol,
    Extensions,
}

impl Invalid {
    pub(crate) fn message(self) -> &'static str {
        match self {
            Self::Method => "A WebSocket handshake is a GET (RFC 6455 section 4.2.1)",
            Self::HttpVersion => "A WebSocket handshake needs HTTP/1.1 (RFC 6455 section 4.2.1)",
            Self::Host => "A WebSocket handshake has one Host header (RFC 6455 section 4.2.1)",
            Self::Upgrade => "The Upgrade header must say websocket (RFC 6455 section 4.2.1)",
            Self::Connection => "The Connection header must say upgrade (RFC 6455 section 4.2.1)",
            Self::Key => "Sec-WebSocket-Key must be 16 bytes in base64, once (RFC 6455 section 4.2.1)",
            Self::Version => "Only version 13 of the WebSocket protocol is spoken here (RFC 6455 section 4.2.1)",
            Self::Body => "A WebSocket handshake has no body",
            Self::Extensions => "Sec-WebSocket-Extensions must be a list of extensions (RFC 6455 section 9.1)",
            Self::Protocol => "Sec-WebSocket-Protocol must be a list of different tokens (RFC 6455 section 4.1)",
        }
    }
}

/// Whether a request asks for a WebSocket, however badly.
pub(crate) fn asks_for_websocket<B>(request: &Request<B>) -> bool {
    asks(request.method(), request.headers(), request.extensions())
}

/// As [`asks_for_websocket`], for a request in parts.
pub(crate) fn asks(method: &Method, headers: &HeaderMap, extensions: &Extensions) -> bool {
    let upgrade = headers.contains_key(SEC_WEBSOCKET_KEY) || lists(headers, &UPGRADE, "websocket");
    upgrade || is_extended_connect(method, extensions)
}

/// As HTTP/2 asks: RFC 8441 §4.
fn is_extended_connect(method: &Method, extensions: &Extensions) -> bool {
    let protocol = extensions.get::<Protocol>();
    *method == Method::CONNECT && protocol.is_some_and(|protocol| protocol.as_str() == "websocket")
}

/// Checks every MUST of RFC 6455 §4.2.1; for HTTP/2 those that RFC 8441 §5 leaves in force.
pub(crate) fn check<B>(request: &Request<B>) -> Result<Handshake, Invalid> {
    let headers = request.headers();
    let check = |right: bool, wrong: Invalid| if right { Ok(()) } else { Err(wrong) };
    let accept = if is_extended_connect(request.method(), request.extensions()) {
        check(single(headers, &SEC_WEBSOCKET_VERSION) == Some("13"), Invalid::Version)?;
        None
    } else {
        check(request.method() == Method::GET, Invalid::Method)?;
        check(request.version() == Version::HTTP_11, Invalid::HttpVersion)?;
        check(single(headers, &HOST).is_some() || request.uri().host().is_some(), Invalid::Host)?;
        check(lists(headers, &UPGRADE, "websocket"), Invalid::Upgrade)?;
        check(lists(headers, &CONNECTION, "upgrade"), Invalid::Connection)?;
        check(single(headers, &SEC_WEBSOCKET_VERSION) == Some("13"), Invalid::Version)?;
        let key = single(headers, &SEC_WEBSOCKET_KEY).ok_or(Invalid::Key)?;
        check(STANDARD.decode(key).is_ok_and(|nonce| nonce.len() == 16), Invalid::Key)?;
        Some(accept_of(key))
    };
    let no_body = headers.get(CONTENT_LENGTH).is_none_or(|length| length.as_bytes() == b"0");
    check(no_body && !headers.contains_key(TRANSFER_ENCODING), Invalid::Body)?;
    let (protocols, bearer) = protocols(headers)?;
    Ok(Handshake { accept, protocols, bearer, extensions: extensions(headers)? })
}

/// The `Sec-WebSocket-Accept` that answers a `Sec-WebSocket-Key` (RFC 6455 §4.2.2): the key and a constant, hashed.
pub fn accept_of(key: &str) -> String {
    let mut hash = Sha1::new();
    hash.update(key);
    hash.update("258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    STANDARD.encode(hash.finalize())
}

fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    if values.next().is_some() { None } else { value.to_str().ok() }
}

/// Whether the comma-separated list in a header has this token, in any case.
fn lists(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    items(headers, name).any(|item| item.is_some_and(|item| item.eq_ignore_ascii_case(token)))
}

/// The items of a comma-separated list; `None` stands for bytes that are no text.
fn items<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = Option<&'a str>> {
    // One after the other: a list of nothing but commas is no reason to make one.
    headers.get_all(name).iter().flat_map(|value| {
        let list = value.to_str().ok();
        let items = list.into_iter().flat_map(|list| list.split(',')).map(|item| Some(item.trim()));
        items.chain(list.is_none().then_some(None))
    })
}

fn protocols(headers: &HeaderMap) -> Result<(Vec<String>, Option<String>), Invalid> {
    let (mut protocols, mut bearer) = (Vec::new(), None);
    for (count, item) in items(headers, &SEC_WEBSOCKET_PROTOCOL).enumerate() {
        let item = item.filter(|item| is_token(item) && count < MAX_PROTOCOLS).ok_or(Invalid::Protocol)?;
        if let Some(token) = item.strip_prefix(BEARER) {
            bearer.get_or_insert_with(|| token.to_owned());
        } else if protocols.iter().any(|other| other == item) {
            return Err(Invalid::Protocol);
        } else {
            protocols.push(item.to_owned());
        }
    }
    Ok((protocols, bearer))
}

fn extensions(headers: &HeaderMap) -> Result<Vec<Extension>, Invalid> {
    let lists = headers.get_all(SEC_WEBSOCKET_EXTENSIONS).iter();
    let lists = lists.map(|list| deflate::extensions(list.to_str().ok()?).filter(|list| list.len() <= MAX_EXTENSIONS));
    let lists: Option<Vec<_>> = lists.collect();
    lists.map(|lists| lists.concat()).filter(|all| all.len() <= MAX_EXTENSIONS).ok_or(Invalid::Extensions)
}

/// RFC 9110 §5.6.2.
fn is_token(item: &str) -> bool {
    !item.is_empty() && item.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// Whether a subprotocol on offer is a token, for us to take: `saywhy.bearer.…`.
pub fn carries_token(protocol: &str) -> bool {
    protocol.starts_with(BEARER)
}

/// Whether a subprotocol looks as if it carried a secret: it must not come back in a header.
pub(crate) fn is_token_like(protocol: &str) -> bool {
    protocol.len() > 64 || protocol.to_ascii_lowercase().contains("bearer") || protocol.starts_with("eyJ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> http::request::Builder {
        Request::get("/ws")
            .header(HOST, "example.com")
            .header(UPGRADE, "WebSocket")
            .header(CONNECTION, "keep-alive, Upgrade")
            .header(SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ==")
            .header(SEC_WEBSOCKET_VERSION, "13")
    }

    fn without(name: HeaderName) -> Request<()> {
        let mut request = request().body(()).unwrap();
        request.headers_mut().remove(name);
        request
    }

    #[test]
    fn the_example_of_the_rfc() {
        let handshake = check(&request().body(()).unwrap()).unwrap();
        assert_eq!(handshake.accept.as_deref(), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    }

    #[test]
    fn every_must() {
        assert_eq!(check(&without(HOST)).unwrap_err(), Invalid::Host);
        assert_eq!(check(&without(UPGRADE)).unwrap_err(), Invalid::Upgrade);
        assert_eq!(check(&without(CONNECTION)).unwrap_err(), Invalid::Connection);
        assert_eq!(check(&without(SEC_WEBSOCKET_KEY)).unwrap_err(), Invalid::Key);
        assert_eq!(check(&without(SEC_WEBSOCKET_VERSION)).unwrap_err(), Invalid::Version);
        let bad = |name: HeaderName, value: &str| {
            let mut request = request().body(()).unwrap();
            request.headers_mut().insert(name, value.parse().unwrap());
            check(&request).unwrap_err()
        };
        assert_eq!(bad(SEC_WEBSOCKET_VERSION, "8"), Invalid::Version);
        assert_eq!(bad(SEC_WEBSOCKET_KEY, "c2hvcnQ="), Invalid::Key);
        assert_eq!(bad(CONTENT_LENGTH, "5"), Invalid::Body);
        assert_eq!(bad(TRANSFER_ENCODING, "chunked"), Invalid::Body);
        assert_eq!(bad(SEC_WEBSOCKET_PROTOCOL, "a, a"), Invalid::Protocol);
        assert_eq!(bad(SEC_WEBSOCKET_PROTOCOL, "a b"), Invalid::Protocol);
        let twice = request().header(SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ==").body(()).unwrap();
        assert_eq!(check(&twice).unwrap_err(), Invalid::Key);
        let post = request().method(Method::POST).body(()).unwrap();
        assert_eq!(check(&post).unwrap_err(), Invalid::Method);
        let old = request().version(Version::HTTP_10).body(()).unwrap();
        assert_eq!(check(&old).unwrap_err(), Invalid::HttpVersion);
    }

    #[test]
    fn what_http_2_asks_for() {
        let connect = |version: &str, protocol: &'static str| {
            let request = Request::connect("https://example.com/ws").version(Version::HTTP_2);
            let request = request.header(SEC_WEBSOCKET_VERSION, version).extension(Protocol::from_static(protocol));
            request.header(SEC_WEBSOCKET_PROTOCOL, "chat").body(()).unwrap()
        };
        let handshake = check(&connect("13", "websocket")).unwrap();
        assert_eq!((handshake.accept, handshake.protocols), (None, vec!["chat".to_owned()]));
        assert_eq!(check(&connect("8", "websocket")).unwrap_err(), Invalid::Version);
        assert!(!asks_for_websocket(&connect("13", "connect-udp")));
        assert!(!asks_for_websocket(&Request::connect("example.com:80").body(()).unwrap()));
    }

    /// What parsers do with a header shows in what they allocate: twice as long is twice as much at most, and little of it.
    #[test]
    fn t16_every_header_parser_is_linear() {
        let worst: [(HeaderName, &dyn Fn(usize) -> String); 12] = [
            (SEC_WEBSOCKET_PROTOCOL, &|n| ",".repeat(n)),
            (SEC_WEBSOCKET_PROTOCOL, &|n| "a,".repeat(n / 2)),
            (SEC_WEBSOCKET_PROTOCOL, &|n| format!("saywhy.bearer.{}", "x".repeat(n))),
            (SEC_WEBSOCKET_PROTOCOL, &|n| format!("a{}", " ".repeat(n))),
            (SEC_WEBSOCKET_EXTENSIONS, &|n| ",".repeat(n)),
            (SEC_WEBSOCKET_EXTENSIONS, &|n| format!("a{}", ";b".repeat(n / 2))),
            (SEC_WEBSOCKET_EXTENSIONS, &|n| format!("a;b=\"{}\"", "\\\\".repeat(n / 2))),
            (SEC_WEBSOCKET_EXTENSIONS, &|n| format!("a;b=\"{}", ",".repeat(n))),
            (CONNECTION, &|n| format!("{}upgrade", "x,".repeat(n / 2))),
            (UPGRADE, &|n| format!("{}websocket", ",".repeat(n))),
            (SEC_WEBSOCKET_KEY, &|n| "=".repeat(n)),
            (HOST, &|n| "[".repeat(n)),
        ];
        for (name, value) in worst {
            let cost = |n| {
                let mut request = request().body(()).unwrap();
                request.headers_mut().insert(&name, value(n).parse().unwrap());
                allocation_counter::measure(|| drop(check(&request))).bytes_total
            };
            let (half, whole) = (cost(4 * 1024), cost(8 * 1024));
            assert!(whole <= 2 * half + 512, "{name} {:?}…: {half}, then {whole} bytes", &value(8));
            assert!(whole < 64 * 8 * 1024, "{name} {:?}…: {whole} bytes", &value(8));
        }
    }

    #[test]
    fn a_token_among_the_subprotocols_is_not_one_of_them() {
        let offer = request()
            .header(SEC_WEBSOCKET_PROTOCOL, "saywhy.v1, saywhy.bearer.abc.def")
            .header(SEC_WEBSOCKET_PROTOCOL, "chat")
            .body(())
            .unwrap();
        let handshake = check(&offer).unwrap();
        assert_eq!(handshake.protocols, ["saywhy.v1", "chat"]);
        assert_eq!(handshake.bearer.as_deref(), Some("abc.def"));
        assert!(is_token_like("base64url.bearer.authorization.k8s.io.x") && !is_token_like("graphql-transport-ws"));
    }
}
