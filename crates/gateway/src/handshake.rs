//! The opening handshake with an upstream: the client's request, rewritten, and what makes an answer valid
//! (RFC 6455 §4.1).

use crate::dial::{Connected, Socket};
use crate::{Options, translate};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{
    CONNECTION, CONTENT_LENGTH, HOST, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, TRANSFER_ENCODING, UPGRADE,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rand::RngExt as _;
use saywhy::{Admission, Refusal, Upstream};
use saywhy_codes::catalogue::BAD_REQUEST;
use saywhy_proto::deflate;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

/// The head of an upstream's answer.
const HEAD_BYTES: usize = 16 * 1024;
/// Bytes of a refusal's body that are looked at.
const BODY_BYTES: usize = 4 * 1024;

/// How long to wait for it: the status is known.
const BODY_TIME: Duration = Duration::from_secs(1);

/// What goes upstream of a client's request.
pub(crate) struct Offer {
    request: Request<Empty<Bytes>>,
    protocols: Vec<String>,
    /// permessage-deflate is on offer.
    deflate: bool,
    accept: String,
}

/// Of the connection to us, not of the request (RFC 9110 §7.6.1); or written anew.
const OURS: [&str; 24] = [
    "connection",
    "content-length",
    "expect",
    "forwarded",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "saywhy-connection-id",
    "sec-websocket-accept",
    "sec-websocket-extensions",
    "sec-websocket-key",
    "sec-websocket-protocol",
    "sec-websocket-version",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-real-ip",
];

impl Offer {
    pub(crate) fn of(asked: &Parts, admission: &Admission) -> Result<Self, Refusal> {
        if !is_normal(asked.uri.path()) {
            // Whose path it is depends on who reads it.
            return Err(Refusal::new(BAD_REQUEST.say("The path is not in its normal form")));
        }
        let mut headers = for_the_other_side(&asked.headers, &[]);
        let mut set = |name: HeaderName, value: &str| {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name, value);
            }
        };
        let key = STANDARD.encode(rand::rng().random::<[u8; 16]>());
        set(CONNECTION, "Upgrade");
        set(UPGRADE, "websocket");
        set(SEC_WEBSOCKET_VERSION, "13");
        set(SEC_WEBSOCKET_KEY, &key);
        let protocols: Vec<_> = items(&asked.headers, &SEC_WEBSOCKET_PROTOCOL)
            .into_iter()
            .filter(|item| !saywhy::carries_token(item))
            .collect();
        if !protocols.is_empty() {
            set(SEC_WEBSOCKET_PROTOCOL, &protocols.join(", "));
        }
        let compression: Vec<_> =
            asked.headers.get_all(SEC_WEBSOCKET_EXTENSIONS).iter().filter_map(only_deflate).collect();
        if !compression.is_empty() {
            set(SEC_WEBSOCKET_EXTENSIONS, &compression.join(", "));
        }
        if let Some(address) = admission.peer() {
            set(HeaderName::from_static("x-forwarded-for"), &address.to_string());
        }
        if let Some(secure) = admission.is_secure() {
            set(HeaderName::from_static("x-forwarded-proto"), if secure { "https" } else { "http" });
        }
        set(HeaderName::from_static("saywhy-connection-id"), &admission.id().simple().to_string());
        if let Some(host) = asked.headers.get(HOST) {
            // Servers compare it with the origin.
            headers.insert(HOST, host.clone());
            headers.insert(HeaderName::from_static("x-forwarded-host"), host.clone());
        }
        let mut request = Request::new(Empty::new());
        *request.method_mut() = Method::GET;
        *request.uri_mut() = asked.uri.clone();
        *request.headers_mut() = headers;
        let accept = saywhy::accept_of(&key);
        Ok(Self { request, protocols, deflate: !compression.is_empty(), accept })
    }

    /// Asks for what is below the route, below `path`, where there is one; else for what the client asks for.
    fn below(&mut self, path: Option<&str>, route: &str) -> Result<(), Refusal> {
        let asked = self.request.uri();
        let target = match path {
            None => asked.path_and_query().map_or("/".to_owned(), ToString::to_string),
            Some(path) => {
                let rest = asked.path().strip_prefix(route.trim_end_matches('/')).unwrap_or_default();
                let query = asked.query().map_or(String::new(), |query| format!("?{query}"));
                format!("{path}{rest}{query}")
            }
        };
        *self.request.uri_mut() = target.parse::<Uri>().map_err(|_| Refusal::new(BAD_REQUEST))?;
        Ok(())
    }

    /// The subprotocol that an answer selects, and the headers that are for the client; or what is wrong with it.
    fn answered(&self, answer: &HeaderMap) -> Result<Answer, &'static str> {
        let check = |right: bool, wrong: &'static str| if right { Ok(()) } else { Err(wrong) };
        check(single(answer, &UPGRADE).is_some_and(|upgrade| upgrade.eq_ignore_ascii_case("websocket")), "Upgrade")?;
        check(lists(answer, &CONNECTION).iter().any(|item| item == "upgrade"), "Connection")?;
        check(single(answer, &SEC_WEBSOCKET_ACCEPT) == Some(&*self.accept), "Sec-WebSocket-Accept")?;
        check(!answer.contains_key(TRANSFER_ENCODING) && !answer.contains_key(CONTENT_LENGTH), "a body")?;
        let protocol = match answer.contains_key(SEC_WEBSOCKET_PROTOCOL) {
            false => None,
            true => {
                let protocol = single(answer, &SEC_WEBSOCKET_PROTOCOL).unwrap_or_default();
                check(self.protocols.iter().any(|offered| offered == protocol), "Sec-WebSocket-Protocol")?;
                Some(protocol.to_owned())
            }
        };
        let mut headers = for_the_other_side(answer, &NOT_FOR_CLIENTS);
        if let Some(header) = answer.get(SEC_WEBSOCKET_EXTENSIONS) {
            let list = single(answer, &SEC_WEBSOCKET_EXTENSIONS).unwrap_or_default();
            let elements = deflate::extensions(list).unwrap_or_default();
            let right = matches!(&*elements, [element] if element.is_deflate() && self.deflate);
            check(right, "Sec-WebSocket-Extensions")?;
            headers.insert(SEC_WEBSOCKET_EXTENSIONS, header.clone());
        }
        Ok((protocol, headers))
    }
}

/// The subprotocol, and the headers that are for the client.
type Answer = (Option<String>, HeaderMap);

/// What an upstream says of itself, and what our own answer has.
const NOT_FOR_CLIENTS: [&str; 3] = ["date", "saywhy-refused", "server"];

/// The headers of one side that the other gets: none of the connection's own, and none that are ours to say.
fn for_the_other_side(all: &HeaderMap, but: &[&str]) -> HeaderMap {
    let named = lists(all, &CONNECTION);
    let mut headers = HeaderMap::new();
    for (name, value) in all {
        // Some servers take `_` for `-`: what is ours must not come by another name.
        let plain = name.as_str().replace('_', "-");
        if OURS.binary_search(&&*plain).is_err()
            && !but.contains(&&*plain)
            && !named.iter().any(|item| item == name.as_str())
        {
            headers.append(name.clone(), value.clone());
        }
    }
    headers
}

/// A path that every server takes for the same one: without `.` and `..`, however they are written. Some unescape before
/// they take a path apart, and some leave out what follows a `;`.
fn is_normal(path: &str) -> bool {
    let plain =
        path.to_ascii_lowercase().replace("%2f", "/").replace("%5c", "\\").replace("%3b", ";").replace("%2e", ".");
    let dots = |segment: &str| matches!(segment.split(';').next(), Some("." | ".."));
    path.starts_with('/') && !plain.contains('\\') && !plain.split('/').any(dots)
}

/// The offers of permessage-deflate in a header; another extension would change what we relay.
fn only_deflate(header: &HeaderValue) -> Option<String> {
    let offers = header.to_str().ok()?;
    let offers: Vec<_> = offers.split(',').map(str::trim).filter(|offer| is_deflate(offer)).collect();
    (!offers.is_empty()).then(|| offers.join(", "))
}

fn is_deflate(offer: &str) -> bool {
    matches!(&*deflate::extensions(offer).unwrap_or_default(), [element] if element.is_deflate())
}

fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    if values.next().is_some() { None } else { value.to_str().ok().map(str::trim) }
}

fn items(headers: &HeaderMap, name: &HeaderName) -> Vec<String> {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|list| list.split(',')).map(|item| item.trim().to_owned()).filter(|item| !item.is_empty()).collect()
}

fn lists(headers: &HeaderMap, name: &HeaderName) -> Vec<String> {
    items(headers, name).into_iter().map(|item| item.to_ascii_lowercase()).collect()
}

/// Ends the HTTP connection with the handshake, unless it has become something else.
struct Driven(AbortHandle);

impl Drop for Driven {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Asks, and has an upstream when it says yes. The connection is never used for anything else.
pub(crate) async fn ask(connected: Connected<'_>, mut offer: Offer, options: &Options) -> Result<Upstream, Refusal> {
    let limits = Arc::clone(&options.limits);
    offer.below(connected.backend.path(), &options.route)?;
    match connected.io {
        Socket::Tcp(tcp) => {
            let (tcp, early, (protocol, headers)) = open(tcp, offer, options).await?;
            Ok(Upstream::tcp(tcp, early, limits).answered(protocol, headers))
        }
        Socket::Tls(tls) => {
            let (tls, early, (protocol, headers)) = open::<TlsStream<TcpStream>>(*tls, offer, options).await?;
            Ok(Upstream::over(tls, early, limits).answered(protocol, headers))
        }
    }
}

async fn open<T>(io: T, mut offer: Offer, options: &Options) -> Result<(T, Vec<u8>, Answer), Refusal>
where
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let mut http = http1::Builder::new();
    let connecting = http.max_buf_size(HEAD_BYTES).handshake(TokioIo::new(io)).await;
    let (mut sender, connection) = connecting.map_err(|error| translate::broken(&error))?;
    let driven = Driven(tokio::spawn(connection.with_upgrades()).abort_handle());
    let request = std::mem::take(&mut offer.request);
    let mut answer = sender.send_request(request).await.map_err(|error| translate::broken(&error))?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(refused(answer, options).await);
    }
    let answered = offer.answered(answer.headers()).map_err(|wrong| {
        translate::nonsense("The upstream's answer to the handshake is not valid").because(format!("its 101: {wrong}"))
    })?;
    let upgraded = hyper::upgrade::on(&mut answer).await.map_err(|error| translate::broken(&error))?;
    drop(driven);
    match upgraded.downcast::<TokioIo<T>>() {
        Ok(parts) => Ok((parts.io.into_inner(), parts.read_buf.into(), answered)),
        Err(_) => Err(translate::none()),
    }
}

async fn refused(answer: Response<Incoming>, options: &Options) -> Refusal {
    let (head, body) = answer.into_parts();
    let body = match options.reasons && head.status.is_client_error() {
        true => timeout(BODY_TIME, Limited::new(body, BODY_BYTES).collect()).await.ok().and_then(Result::ok),
        false => None,
    };
    translate::refused(head.status, &head.headers, body.map(http_body_util::Collected::to_bytes).as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ours_is_sorted() {
        assert!(OURS.is_sorted() && OURS.contains(&"forwarded"));
    }

    #[test]
    fn paths() {
        for normal in ["/", "/ws", "/ws/a..b/.hidden", "/a%2Fb", "/%7Euser"] {
            assert!(is_normal(normal), "{normal}");
        }
        for other in [
            "/ws/../admin",
            "/ws/%2e%2E/admin",
            "/./ws",
            "/ws/.",
            "/ws/.%2e",
            "/a\\b",
            "/a%5Cb",
            "*",
            "",
            "/ws/..;/admin",
            "/ws/..%2Fadmin",
            "/ws/%2e%2e%2fadmin",
            "/ws/..%3bx/admin",
        ] {
            assert!(!is_normal(other), "{other}");
        }
    }

    #[test]
    fn only_compression_is_offered() {
        let only = |header: &'static str| only_deflate(&HeaderValue::from_static(header));
        assert_eq!(
            only("x-foo, permessage-deflate; client_max_window_bits, bar; a=1").as_deref(),
            Some("permessage-deflate; client_max_window_bits")
        );
        assert_eq!(only("x-foo"), None);
    }
}
