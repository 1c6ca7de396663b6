//! Which server, and how it is spoken to.

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// What carries the bytes.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

/// The server that is probed.
#[derive(Clone)]
pub struct Target {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// As it stands in `Host`.
    pub(crate) authority: String,
    pub(crate) path: String,
    tls: Option<Arc<ClientConfig>>,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) subprotocols: Vec<String>,
    /// How long something that has to happen may take.
    pub(crate) patience: Duration,
}

/// Why a URL is none of a server that can be probed.
#[derive(Debug)]
pub struct InvalidTarget(String);

impl fmt::Display for InvalidTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for InvalidTarget {}

impl Target {
    /// `ws://…` or `wss://…`, with the certificates that the machine trusts.
    ///
    /// # Errors
    /// When it is no such URL, or the machine has no certificates to trust.
    pub fn new(url: &str) -> Result<Self, InvalidTarget> {
        let wrong = |why: &str| InvalidTarget(format!("not the URL of a WebSocket: {why}"));
        let uri: http::Uri = url.parse().map_err(|_| wrong("it cannot be read"))?;
        let secure = match uri.scheme_str() {
            Some("ws") => false,
            Some("wss") => true,
            _ => return Err(wrong("it begins with ws:// or wss://")),
        };
        let authority = uri.authority().ok_or_else(|| wrong("it names no host"))?;
        if authority.as_str().contains('@') {
            return Err(wrong("it holds a password; use a header"));
        }
        let host = authority.host();
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host).to_owned();
        Ok(Self {
            host,
            port: authority.port_u16().unwrap_or(if secure { 443 } else { 80 }),
            authority: authority.as_str().to_owned(),
            path: uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
            tls: if secure { Some(trusting_the_machine()?) } else { None },
            headers: Vec::new(),
            subprotocols: vec![SAYWHY_V1.to_owned()],
            patience: Duration::from_secs(2),
        })
    }

    /// With this header in every valid handshake, such as a cookie or a token.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Offering these subprotocols instead of `saywhy.v1`.
    #[must_use]
    pub fn subprotocols(mut self, offered: Vec<String>) -> Self {
        self.subprotocols = offered;
        self
    }

    /// How long something that has to happen may take. 2 s without it.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    pub(crate) async fn dial(&self) -> io::Result<Box<dyn Duplex>> {
        let connecting = async {
            let tcp = TcpStream::connect((&*self.host, self.port)).await?;
            tcp.set_nodelay(true)?;
            let Some(tls) = &self.tls else { return Ok(Box::new(tcp) as Box<dyn Duplex>) };
            let name = ServerName::try_from(self.host.clone()).map_err(io::Error::other)?;
            Ok(Box::new(TlsConnector::from(Arc::clone(tls)).connect(name, tcp).await?) as Box<dyn Duplex>)
        };
        timeout(self.patience.max(Duration::from_secs(5)), connecting)
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }
}

/// What offers the envelope, and readable refusals.
pub(crate) const SAYWHY_V1: &str = "saywhy.v1";

fn trusting_the_machine() -> Result<Arc<ClientConfig>, InvalidTarget> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(InvalidTarget("no certificates to trust were found on this machine".to_owned()));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|error| InvalidTarget(error.to_string()))?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Neither headers nor query: they may hold a token.
        f.debug_struct("Target").field("host", &self.host).field("port", &self.port).finish_non_exhaustive()
    }
}
