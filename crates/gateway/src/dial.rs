//! Which back end, and the connection to it.

use crate::translate;
use rustls::pki_types::ServerName;
use saywhy::Refusal;
use std::fmt;
use std::io;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Where a back end listens: `ws://host:port` or `wss://host`, and perhaps a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    secure: bool,
    host: String,
    port: u16,
    /// What stands there for the path of the route, without a `/` at its end.
    path: Option<String>,
}

/// It is no such address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidAddress;

impl Address {
    /// Whether it is spoken to over TLS.
    pub fn is_secure(&self) -> bool {
        self.secure
    }
}

impl FromStr for Address {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        let uri: http::Uri = text.parse().map_err(|_| InvalidAddress)?;
        let secure = match uri.scheme_str() {
            Some("ws") => false,
            Some("wss") => true,
            _ => return Err(InvalidAddress),
        };
        let host = uri.host().filter(|host| !host.is_empty()).ok_or(InvalidAddress)?;
        if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) || uri.query().is_some() {
            return Err(InvalidAddress);
        }
        let path = match uri.path().trim_end_matches('/') {
            "" => None,
            path => Some(path.to_owned()),
        };
        let port = match (uri.port_u16(), secure) {
            (Some(port), _) => port,
            // A port that is no number is not there either.
            (None, _)
                if uri.authority().is_some_and(|authority| {
                    authority.as_str().rsplit(']').next().is_some_and(|a| a.contains(':'))
                }) =>
            {
                return Err(InvalidAddress);
            }
            (None, true) => 443,
            (None, false) => 80,
        };
        // An IPv6 address stands in brackets.
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        Ok(Self { secure, host: host.to_owned(), port, path })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.secure { "wss" } else { "ws" };
        let path = self.path.as_deref().unwrap_or_default();
        match self.host.contains(':') {
            true => write!(f, "{scheme}://[{}]:{}{path}", self.host, self.port),
            false => write!(f, "{scheme}://{}:{}{path}", self.host, self.port),
        }
    }
}

impl fmt::Display for InvalidAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an upstream is ws:// or wss://, a host, and perhaps a port")
    }
}

impl std::error::Error for InvalidAddress {}

/// One back end, and whether it did its work of late.
#[derive(Debug)]
pub(crate) struct Backend {
    address: Address,
    tls: Option<Tls>,
    /// Until when the others are asked first.
    avoid: Mutex<Option<Instant>>,
}

struct Tls(TlsConnector);

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

/// For so long a back end that could not be reached, or was of no use, comes last.
const AVOIDED: Duration = Duration::from_secs(5);

/// A connection that nothing was sent on yet, and where it leads.
pub(crate) struct Connected<'a> {
    pub(crate) io: Socket,
    pub(crate) backend: &'a Backend,
}

pub(crate) enum Socket {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Backend {
    pub(crate) fn new(address: Address, tls: Option<TlsConnector>) -> Self {
        Self { address, tls: tls.map(Tls), avoid: Mutex::default() }
    }

    async fn connect(&self) -> io::Result<Socket> {
        let tcp = TcpStream::connect((&*self.address.host, self.address.port)).await?;
        // Frames are put together before they are written, so waiting for more would only delay them.
        let _ = tcp.set_nodelay(true);
        let Some(Tls(tls)) = &self.tls else { return Ok(Socket::Tcp(tcp)) };
        let name = ServerName::try_from(self.address.host.clone()).map_err(io::Error::other)?;
        Ok(Socket::Tls(Box::new(tls.connect(name, tcp).await?)))
    }

    /// What stands for the path of the route there.
    pub(crate) fn path(&self) -> Option<&str> {
        self.address.path.as_deref()
    }

    /// It was reached, and is of no use: it does not answer, breaks off, or says itself that it cannot serve.
    pub(crate) fn ails(&self, refusal: &Refusal) {
        if !self.is_avoided() {
            let error = refusal.error().error();
            tracing::warn!(upstream = %self.address, %error, "an upstream does not do its work, and is asked last for a while");
        }
        self.avoid(Some(Instant::now() + AVOIDED));
    }

    pub(crate) fn works(&self) {
        self.avoid(None);
    }

    fn is_avoided(&self) -> bool {
        self.avoid.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|until| Instant::now() < until)
    }

    fn avoid(&self, until: Option<Instant>) {
        *self.avoid.lock().unwrap_or_else(PoisonError::into_inner) = until;
    }
}

/// A connection to any of them, beginning with the one at `first`. The next is tried as long as nothing was sent; each
/// gets its share of `time`.
pub(crate) async fn any(backends: &[Backend], first: usize, time: Duration) -> Result<Connected<'_>, Refusal> {
    let count = backends.len().max(1);
    let share = time / u32::try_from(count).unwrap_or(u32::MAX);
    let (head, tail) = backends.split_at((first % count).min(backends.len()));
    let (good, avoided): (Vec<_>, Vec<_>) = tail.iter().chain(head).partition(|backend| !backend.is_avoided());
    let mut refusal = None;
    for backend in good.into_iter().chain(avoided) {
        let connected = timeout(share, backend.connect()).await;
        let error = match connected {
            Ok(Ok(io)) => {
                return Ok(Connected { io, backend });
            }
            Ok(Err(error)) => error,
            Err(_) => io::ErrorKind::TimedOut.into(),
        };
        tracing::warn!(upstream = %backend.address, %error, "an upstream cannot be reached; hint: does it listen there?");
        backend.avoid(Some(Instant::now() + AVOIDED));
        refusal = Some(translate::unreachable(&backend.address, &error));
    }
    Err(refusal.unwrap_or_else(translate::none))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let address = |text: &str| text.parse::<Address>().map(|address| address.to_string());
        assert_eq!(address("ws://127.0.0.1:9000").as_deref(), Ok("ws://127.0.0.1:9000"));
        assert_eq!(address("wss://chat.example").as_deref(), Ok("wss://chat.example:443"));
        assert_eq!(address("ws://[::1]:9000").as_deref(), Ok("ws://[::1]:9000"));
        assert_eq!(address("ws://a/chat/").as_deref(), Ok("ws://a:80/chat"));
        for wrong in ["http://a", "ws://", "ws://user@a", "ws://a/?b", "a:80", "ws://a:port"] {
            assert_eq!(address(wrong), Err(InvalidAddress), "{wrong}");
        }
    }

    #[tokio::test]
    async fn who_cannot_be_reached_comes_last() {
        let here = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let backends = [&gone, &here].map(|listener| {
            let address = format!("ws://{}", listener.local_addr().unwrap());
            Backend::new(address.parse().unwrap(), None)
        });
        drop(gone);
        for first in 0..4 {
            assert!(any(&backends, first, Duration::from_secs(5)).await.is_ok());
        }
        assert!(backends[0].is_avoided() && !backends[1].is_avoided());
        drop(here);
        let refusal = any(&backends, 0, Duration::from_secs(5)).await.err().unwrap();
        assert_eq!(refusal.error().error().name, "bad_gateway");
    }
}
