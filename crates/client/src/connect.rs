//! Where to, with what, and the opening handshake.

use crate::connection::Connection;
use crate::error::Error;
use crate::socket::{Duplex, Socket};
use crate::wire::Said;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{
    AUTHORIZATION, CONNECTION, HOST, LOCATION, RETRY_AFTER, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS,
    SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rand::RngExt as _;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use saywhy_codes::Retry;
use saywhy_proto::Limits;
use sha1::{Digest as _, Sha1};
use std::fmt;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;

/// RFC 6455 §1.3.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// What offers the envelope, and readable refusals.
const SAYWHY_V1: &str = "saywhy.v1";
/// Bytes of the head of an answer.
const HEAD_BYTES: usize = 16 * 1024;
/// Bytes of the body of a refusal, and the time that they may take.
const BODY_BYTES: usize = 64 * 1024;
const BODY_TIME: Duration = Duration::from_secs(3);

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Token = Pin<Box<dyn Future<Output = Result<String, BoxError>> + Send>>;

/// Why a token is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenReason {
    /// To connect.
    Connect,
    /// The last one was refused.
    Refused,
    /// The last one runs out.
    Expiring,
}

/// Where tokens come from.
#[derive(Clone)]
pub(crate) struct TokenSource(Arc<dyn Fn(TokenReason) -> Token + Send + Sync>);

impl TokenSource {
    pub(crate) async fn ask(&self, reason: TokenReason) -> Result<String, Error> {
        (self.0)(reason).await.map_err(Error::no_token)
    }
}

/// Where to connect, and how.
#[derive(Clone)]
pub struct Connect {
    uri: Uri,
    host: String,
    port: u16,
    secure: bool,
    headers: HeaderMap,
    subprotocols: Vec<String>,
    plain: bool,
    tls: Option<Arc<ClientConfig>>,
    limits: Arc<Limits>,
    pub(crate) within: Duration,
    pub(crate) token: Option<TokenSource>,
}

impl Connect {
    /// To `ws://…` or `wss://…`.
    ///
    /// # Errors
    /// `cannot_connect` when `url` is no such URL.
    pub fn to(url: &str) -> Result<Self, Error> {
        let wrong = |why: &str| Error::cannot_connect(format!("not the URL of a WebSocket: {why}"));
        let uri: Uri = url.parse().map_err(|error| wrong("it cannot be read").because(error))?;
        let secure = match uri.scheme_str() {
            Some("ws") => false,
            Some("wss") => true,
            _ => return Err(wrong("it begins with ws:// or wss://")),
        };
        let authority = uri.authority().ok_or_else(|| wrong("it names no host"))?;
        if authority.as_str().contains('@') {
            // It would be in every log on the way.
            return Err(wrong("it holds a password; use `header` or `token`"));
        }
        let bare = authority.host();
        let host = bare.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(bare).to_owned();
        let port = authority.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let limits = Limits {
            message_bytes: 1024 * 1024,
            early_message_bytes: 64 * 1024,
            // A server is as fast as it is.
            messages_per_s: 0,
            ready: Duration::from_secs(30),
            ..Limits::default()
        };
        Ok(Self {
            uri,
            host,
            port,
            secure,
            headers: HeaderMap::new(),
            subprotocols: Vec::new(),
            plain: false,
            tls: None,
            limits: Arc::new(limits),
            within: Duration::from_secs(30),
            token: None,
        })
    }

    /// With this token, as `Authorization: Bearer`.
    #[must_use]
    pub fn token(self, token: impl Into<String>) -> Self {
        let token = token.into();
        self.token_from(move |_| std::future::ready(Ok::<_, std::convert::Infallible>(token.clone())))
    }

    /// With tokens from a function, which is asked once to connect, and again only when one was refused or runs out.
    #[must_use]
    pub fn token_from<F, R, E>(mut self, token: F) -> Self
    where
        F: Fn(TokenReason) -> R + Send + Sync + 'static,
        R: Future<Output = Result<String, E>> + Send + 'static,
        E: Into<BoxError>,
    {
        self.token = Some(TokenSource(Arc::new(move |reason| {
            let asked = token(reason);
            Box::pin(async move { asked.await.map_err(Into::into) })
        })));
        self
    }

    /// With a header of one's own in the handshake.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.append(name, value);
        self
    }

    /// To a server of any kind: it is open as soon as the handshake is, and its messages come as they are. `subprotocols`
    /// are offered.
    #[must_use]
    pub fn plain(mut self, subprotocols: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.plain = true;
        self.subprotocols = subprotocols.into_iter().map(Into::into).collect();
        self
    }

    /// With other limits of what the server may send, and of how long it may take.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = Arc::new(limits);
        self
    }

    /// Trusting the certificates in a file, in PEM, and no others.
    ///
    /// # Errors
    /// `cannot_connect` when the file cannot be read, or holds none.
    pub fn trusting(self, file: impl AsRef<Path>) -> Result<Self, Error> {
        let wrong = |error| Error::cannot_connect("The certificates to trust cannot be read").because(error);
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(file).map_err(|error| wrong(error.to_string()))? {
            let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
            roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
        }
        Ok(self.tls(trusts(roots)?))
    }

    /// With a configuration of TLS of one's own.
    #[must_use]
    pub fn tls(mut self, tls: Arc<ClientConfig>) -> Self {
        self.tls = Some(tls);
        self
    }

    /// How long it may take from the first packet to `ready`. 30 s without it.
    #[must_use]
    pub fn within(mut self, within: Duration) -> Self {
        self.within = within;
        self
    }

    /// Makes one connection, and resolves when it is open: when the server says `ready`, or to a plain server at the end of
    /// the handshake. Dropped before, the connection is gone.
    ///
    /// # Errors
    /// The refusal, in whichever form it came; `connection_lost` when there is no connection to be had, with the cause;
    /// `cannot_connect` when the same again would fail in the same way; `token_unavailable`.
    pub async fn open(&self) -> Result<Connection, Error> {
        let token = match &self.token {
            Some(source) => Some(source.ask(TokenReason::Connect).await?),
            None => None,
        };
        self.open_with(token.as_deref()).await
    }

    pub(crate) async fn open_with(&self, token: Option<&str>) -> Result<Connection, Error> {
        let by = Instant::now() + self.within;
        let handshake = timeout_at(by, self.handshake(token)).await;
        let (socket, protocol) = handshake.unwrap_or_else(|_| Err(Error::not_ready(self.within)))?;
        Connection::begin(socket, protocol, self.plain, (by, self.within)).await
    }

    async fn handshake(&self, token: Option<&str>) -> Result<(Socket, Option<String>), Error> {
        let at = (&*self.host, self.port);
        let tcp =
            TcpStream::connect(at).await.map_err(|error| Error::unreachable("The server cannot be reached", error))?;
        // Frames are put together before they are written, so waiting for more would only delay them.
        let _ = tcp.set_nodelay(true);
        if !self.secure {
            return self.ask(tcp, token).await;
        }
        let config = self.tls.clone().map_or_else(trusting_the_machine, Ok)?;
        let name = ServerName::try_from(self.host.clone())
            .map_err(|error| Error::cannot_connect("The host is no name that a certificate can have").because(error))?;
        let tls = TlsConnector::from(config).connect(name, tcp).await;
        let tls = tls.map_err(|error| Error::unreachable("There is no TLS with the server", error))?;
        self.ask(tls, token).await
    }

    async fn ask<T: Duplex + 'static>(&self, io: T, token: Option<&str>) -> Result<(Socket, Option<String>), Error> {
        let broken = |error| Error::unreachable("The server did not answer the handshake", error);
        let key = STANDARD.encode(rand::rng().random::<[u8; 16]>());
        let request = self.request(&key, token)?;
        let mut http = http1::Builder::new();
        let connecting = http.max_buf_size(HEAD_BYTES).handshake(TokioIo::new(io)).await;
        let (mut sender, connection) = connecting.map_err(broken)?;
        let driven = Driven(tokio::spawn(connection.with_upgrades()).abort_handle());
        let mut answer = sender.send_request(request).await.map_err(broken)?;
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(refused(answer).await);
        }
        self.is_valid(answer.headers(), &key).map_err(|wrong| {
            let status = StatusCode::SWITCHING_PROTOCOLS.as_u16();
            Error::not_a_websocket(status, format!("The server's answer to the handshake is not valid: {wrong}"))
        })?;
        let protocol = answer.headers().get(SEC_WEBSOCKET_PROTOCOL).and_then(|chosen| chosen.to_str().ok());
        let protocol = protocol.map(str::to_owned);
        let upgraded = hyper::upgrade::on(&mut answer).await.map_err(broken)?;
        drop(driven);
        match upgraded.downcast::<TokioIo<T>>() {
            Ok(parts) => {
                let (io, early) = (Box::new(parts.io.into_inner()), parts.read_buf.into());
                Ok((Socket::new(io, early, Arc::clone(&self.limits)), protocol))
            }
            Err(_) => Err(Error::cannot_connect("The upgraded connection is of another kind")),
        }
    }

    fn offers(&self) -> Vec<&str> {
        let ours = (!self.plain).then_some(SAYWHY_V1);
        ours.into_iter().chain(self.subprotocols.iter().map(String::as_str)).collect()
    }

    fn request(&self, key: &str, token: Option<&str>) -> Result<Request<Empty<Bytes>>, Error> {
        let path = self.uri.path_and_query().map_or("/", |path| path.as_str());
        let authority = self.uri.authority().map_or("", |authority| authority.as_str());
        let mut request = Request::get(path)
            .header(HOST, authority)
            .header(UPGRADE, "websocket")
            .header(CONNECTION, "Upgrade")
            .header(SEC_WEBSOCKET_KEY, key)
            .header(SEC_WEBSOCKET_VERSION, "13");
        let offers = self.offers();
        if !offers.is_empty() {
            request = request.header(SEC_WEBSOCKET_PROTOCOL, offers.join(", "));
        }
        if let Some(token) = token {
            // Not the error of the library, which would hold the token.
            let mut value = HeaderValue::try_from(format!("Bearer {token}"))
                .map_err(|_| Error::cannot_connect("The token has characters that no token may have"))?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        let mut request = request
            .body(Empty::new())
            .map_err(|error| Error::cannot_connect("The handshake cannot be written").because(error))?;
        request.headers_mut().extend(self.headers.clone());
        Ok(request)
    }

    /// RFC 6455 §4.1. We offer no extension.
    fn is_valid(&self, headers: &HeaderMap, key: &str) -> Result<(), &'static str> {
        let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        let has = |name: HeaderName, word: &str| {
            headers
                .get_all(name)
                .iter()
                .filter_map(|value| value.to_str().ok())
                .any(|value| value.split(',').any(|item| item.trim().eq_ignore_ascii_case(word)))
        };
        let accept = STANDARD.encode(Sha1::new().chain_update(key).chain_update(GUID).finalize());
        match () {
            () if !has(UPGRADE, "websocket") => Err("no `Upgrade: websocket`"),
            () if !has(CONNECTION, "upgrade") => Err("no `Connection: Upgrade`"),
            () if text(SEC_WEBSOCKET_ACCEPT) != Some(&accept) => Err("`Sec-WebSocket-Accept` is not that of our key"),
            () if headers.contains_key(SEC_WEBSOCKET_EXTENSIONS) => Err("an extension that was not on offer"),
            () if text(SEC_WEBSOCKET_PROTOCOL).is_some_and(|chosen| !self.offers().contains(&chosen)) => {
                Err("a subprotocol that was not on offer")
            }
            () => Ok(()),
        }
    }
}

impl fmt::Debug for Connect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Neither query nor headers: they may hold a token.
        let Self { secure, host, port, plain, .. } = self;
        let scheme = if *secure { "wss" } else { "ws" };
        let at = format_args!("{scheme}://{host}:{port}{}", self.uri.path()).to_string();
        f.debug_struct("Connect").field("to", &at).field("plain", plain).finish_non_exhaustive()
    }
}

/// hyper's side of the handshake, which ends with it.
struct Driven(tokio::task::AbortHandle);

impl Drop for Driven {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What an answer says that is no 101, as far as it says something.
async fn refused(answer: Response<Incoming>) -> Error {
    let (head, body) = answer.into_parts();
    if !(head.status.is_client_error() || head.status.is_server_error()) {
        let to = head.headers.get(LOCATION).and_then(|to| to.to_str().ok());
        // A query comes along, and may hold a token.
        let to = to.and_then(|to| to.split(['?', '#']).next()).map(|to| format!(", and points to {to}"));
        let status = head.status.as_u16();
        let words = format!("The server answers with {status}{}: is the path right?", to.unwrap_or_default());
        return Error::not_a_websocket(status, words);
    }
    let body = timeout(BODY_TIME, Limited::new(body, BODY_BYTES).collect()).await.ok().and_then(Result::ok);
    let body = body.and_then(|body| String::from_utf8(body.to_bytes().into()).ok()).filter(|body| !body.is_empty());
    let document = body.as_ref().and_then(|body| serde_json::from_str(body).ok());
    let mut said = document.map(|document| Said::read(&document, None)).unwrap_or_default();
    let after = head.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    said.retry = said.retry.or(after.map(|s: u64| Retry::after_ms(s.saturating_mul(1_000), 0)));
    Error::refused(head.status.as_u16(), said, body)
}

fn trusting_the_machine() -> Result<Arc<ClientConfig>, Error> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    trusts(roots)
}

fn trusts(roots: RootCertStore) -> Result<Arc<ClientConfig>, Error> {
    if roots.is_empty() {
        return Err(Error::cannot_connect(
            "No certificates to trust were found: install ca-certificates, or name a file in SSL_CERT_FILE",
        ));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::cannot_connect("There is no TLS on this machine").because(error))?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let shown = |url: &str| Connect::to(url).map(|connect| format!("{connect:?}"));
        assert_eq!(
            shown("wss://a/b?access_token=secret").unwrap(),
            "Connect { to: \"wss://a:443/b\", plain: false, .. }"
        );
        for wrong in ["http://a", "ws:/a", "ws://user:word@a", "a", "ws://a b"] {
            let error = shown(wrong).unwrap_err();
            assert_eq!(error.name(), "cannot_connect", "{wrong}");
            assert!(!error.to_string().contains("word@"), "{error}");
        }
    }

    #[test]
    fn a_token_that_is_none_is_not_shown() {
        let connect = Connect::to("ws://a").unwrap();
        let error = connect.request("key", Some("secret\n")).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("secret"));
    }
}
