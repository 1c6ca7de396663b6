//! The sockets of a connection, and how they end.

use crate::fault::Side;
use crate::fault::head::Malformed;
use crate::fault::line::Line;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::str::FromStr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Where the server is.
#[derive(Clone)]
pub struct Upstream {
    host: String,
    port: u16,
    path: String,
    tls: Option<TlsConnector>,
}

/// Why a text is not where a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidUpstream(&'static str);

impl fmt::Display for InvalidUpstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for InvalidUpstream {}

impl FromStr for Upstream {
    type Err = InvalidUpstream;

    fn from_str(text: &str) -> Result<Self, InvalidUpstream> {
        let uri: http::Uri = text.parse().map_err(|_| InvalidUpstream("it is no URL"))?;
        let secure = match uri.scheme_str() {
            Some("ws") => false,
            Some("wss") => true,
            _ => return Err(InvalidUpstream("it begins with ws:// or wss://")),
        };
        let authority = uri.authority().ok_or(InvalidUpstream("it names no host"))?;
        if authority.as_str().contains('@') || uri.query().is_some() {
            return Err(InvalidUpstream("it holds a password or a query, which are the client's to send"));
        }
        let bare = authority.host();
        let host = bare.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(bare).to_owned();
        let port = authority.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let tls = if secure { Some(trusting_the_machine()?) } else { None };
        Ok(Self { host, port, path: uri.path().to_owned(), tls })
    }
}

impl Upstream {
    /// The path of the URL, which a client is told to use. It is not put into requests.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Connects.
    pub(crate) async fn dial(&self) -> io::Result<Leg> {
        let late = |_| io::Error::new(io::ErrorKind::TimedOut, "it took longer than 10 s");
        timeout(DIAL_TIME, async {
            let tcp = TcpStream::connect((&*self.host, self.port)).await?;
            let Some(connector) = &self.tls else { return Ok(Leg::new(tcp)) };
            let name = ServerName::try_from(self.host.clone()).map_err(io::Error::other)?;
            Ok(Leg::new(connector.connect(name, tcp).await?))
        })
        .await
        .map_err(late)?
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream").field("host", &self.host).field("port", &self.port).finish_non_exhaustive()
    }
}

const DIAL_TIME: Duration = Duration::from_secs(10);

fn trusting_the_machine() -> Result<TlsConnector, InvalidUpstream> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(InvalidUpstream(
            "no certificates to trust were found on this machine: install ca-certificates, or name a file in SSL_CERT_FILE",
        ));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|_| InvalidUpstream("there is no TLS on this machine"))?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()).into())
}

/// What carries the bytes.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {
    /// What is below.
    fn tcp(&self) -> &TcpStream;
}

impl Duplex for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }
}

impl Duplex for TlsStream<TcpStream> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref().0
    }
}

/// One of the two sockets of a connection; `None` when it is gone.
pub(crate) struct Leg(Option<Box<dyn Duplex>>);

/// Read at a time.
const READ_BYTES: usize = 16 * 1024;

impl Leg {
    pub(crate) fn new(io: impl Duplex + 'static) -> Self {
        // What is written leaves at once: slices and delays are the line's.
        let _ = io.tcp().set_nodelay(true);
        Self(Some(Box::new(io)))
    }

    /// Moves what can be moved between the socket and the line; whether something was.
    ///
    /// # Errors
    /// The server speaks no HTTP.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        line: &mut Line,
        side: Side,
        now: Duration,
    ) -> Result<bool, Malformed> {
        let wrote = self.write(cx, line, side, now);
        self.end(cx, line, side, now);
        Ok(wrote | self.read(cx, line, side, now)?)
    }

    fn write(&mut self, cx: &mut Context<'_>, line: &mut Line, side: Side, now: Duration) -> bool {
        let mut moved = false;
        while let (Some(io), Some(bytes)) = (&mut self.0, line.due(side, now)) {
            match Pin::new(&mut **io).poll_write(cx, bytes) {
                Poll::Ready(Ok(bytes)) if bytes > 0 => {
                    line.wrote(side, bytes, now);
                    moved = true;
                }
                Poll::Ready(_) => {
                    self.lose(line, side, now);
                    return true;
                }
                Poll::Pending => break,
            }
        }
        // TLS may hold some of it back.
        if let Some(io) = &mut self.0
            && let Poll::Ready(Err(_)) = Pin::new(&mut **io).poll_flush(cx)
        {
            self.lose(line, side, now);
        }
        moved
    }

    fn end(&mut self, cx: &mut Context<'_>, line: &mut Line, side: Side, now: Duration) {
        let Some(io) = &mut self.0 else { return };
        if line.wants_reset(side) {
            // Nothing lingers: what follows is a reset.
            let _ = io.tcp().set_zero_linger();
            self.lose(line, side, now);
        } else if line.wants_fin(side) {
            match Pin::new(&mut **io).poll_shutdown(cx) {
                Poll::Ready(Ok(())) => line.told_fin(side),
                Poll::Ready(Err(_)) => self.lose(line, side, now),
                Poll::Pending => {}
            }
        }
    }

    fn read(&mut self, cx: &mut Context<'_>, line: &mut Line, side: Side, now: Duration) -> Result<bool, Malformed> {
        let Some(io) = self.0.as_mut().filter(|_| line.reads(side)) else { return Ok(false) };
        let mut space = [std::mem::MaybeUninit::uninit(); READ_BYTES];
        let mut buffer = ReadBuf::uninit(&mut space);
        match Pin::new(&mut **io).poll_read(cx, &mut buffer) {
            Poll::Pending => return Ok(false),
            Poll::Ready(Ok(())) if buffer.filled().is_empty() => line.end_of_input(side, now),
            Poll::Ready(Ok(())) => line.receive(side, buffer.filled_mut(), now)?,
            Poll::Ready(Err(_)) => self.lose(line, side, now),
        }
        Ok(true)
    }

    fn lose(&mut self, line: &mut Line, side: Side, now: Duration) {
        self.0 = None;
        line.gone(side, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_server_is() {
        let at = |text: &str| text.parse::<Upstream>().map(|upstream| (upstream.host, upstream.port, upstream.path));
        assert_eq!(at("ws://[::1]:9000/ws"), Ok(("::1".to_owned(), 9000, "/ws".to_owned())));
        assert_eq!(at("ws://back"), Ok(("back".to_owned(), 80, "/".to_owned())));
        for wrong in ["http://a", "a:1", "", "ws://u:p@a", "ws://a/?token=x", "ws://a b"] {
            assert!(at(wrong).is_err(), "{wrong}");
        }
    }
}
