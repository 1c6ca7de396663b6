//! What carries the bytes: a TCP connection, TLS on one, or whatever else the HTTP library upgraded.

use crate::incoming::{Activity, Underway};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;

/// A connection as it was accepted.
#[derive(Debug)]
pub(crate) enum Wire {
    Tcp(TcpStream),
    Tls(Box<TlsStream<Below>>),
}

impl Wire {
    pub(crate) fn get(&mut self) -> Pin<&mut dyn Duplex> {
        match self {
            Self::Tcp(tcp) => Pin::new(tcp),
            Self::Tls(tls) => Pin::new(tls),
        }
    }
}

/// The TCP connection below TLS, which notes that it took something: what TLS has taken from us may wait in it still.
#[derive(Debug)]
pub(crate) struct Below {
    tcp: TcpStream,
    took: bool,
}

impl Below {
    pub(crate) fn new(tcp: TcpStream) -> Self {
        Self { tcp, took: false }
    }

    fn note(&mut self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.took |= matches!(written, Poll::Ready(Ok(1..)));
        written
    }
}

impl AsyncRead for Below {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_read(cx, buf)
    }
}

impl AsyncWrite for Below {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.tcp).poll_write(cx, bytes);
        self.note(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.tcp).poll_write_vectored(cx, slices);
        self.note(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

/// A connection that holds back an answer of 101 until its session takes it over, so that the 101 and the first
/// message leave in one packet. Whoever else reads or writes it after a 101 finds that nothing is held.
pub(crate) struct Corked {
    wire: Wire,
    /// What was read before it was known what it is.
    early: Vec<u8>,
    held: Vec<u8>,
    /// Who wants to know that something was written.
    watch: Option<Arc<Activity>>,
}

impl Corked {
    pub(crate) fn new(wire: Wire, early: Vec<u8>) -> Self {
        Self { wire, early, held: Vec::new(), watch: None }
    }

    /// Tells `activity` when something is written.
    pub(crate) fn watched(self, activity: Arc<Activity>) -> Self {
        Self { watch: Some(activity), ..self }
    }

    /// Lets go of what is held: someone other than our session speaks now.
    fn poll_uncork(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.held.is_empty() {
            let written = ready!(self.wire.get().poll_write(cx, &self.held))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.held.drain(..written);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Corked {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_uncork(cx))?;
        if !self.early.is_empty() {
            let now = self.early.len().min(buf.remaining());
            buf.put_slice(&self.early[..now]);
            self.early.drain(..now);
            if self.early.is_empty() {
                self.early = Vec::new();
            }
            return Poll::Ready(Ok(()));
        }
        self.wire.get().poll_read(cx, buf)
    }
}

impl AsyncWrite for Corked {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        // hyper writes the head of an answer with one call.
        if self.held.is_empty() && bytes.starts_with(b"HTTP/1.1 101 ") {
            self.held.extend_from_slice(bytes);
            return Poll::Ready(Ok(bytes.len()));
        }
        ready!(self.poll_uncork(cx))?;
        let written = ready!(self.wire.get().poll_write(cx, bytes))?;
        if let Some(watch) = &self.watch {
            watch.touch();
        }
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.wire.get().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_uncork(cx))?;
        self.wire.get().poll_shutdown(cx)
    }
}

/// A stream that waits for the peer's END_STREAM costs less than a session that waits for its Close: it may take so many
/// times as long.
const ENDING_TIMES: u32 = 10;

/// Anything that carries bytes both ways.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

/// What carries the bytes of a session.
pub(crate) enum Io {
    Tcp(TcpStream),
    Tls(Box<TlsStream<Below>>),
    /// A stream of an HTTP/2 connection, which stands while there is one.
    Stream(Box<(TokioIo<Upgraded>, Underway)>),
    Other(Box<dyn Duplex>),
}

impl Io {
    /// Takes a connection over from hyper: the connection, what arrived early, and what is still to be written.
    /// `underway` is what an HTTP/2 connection goes by.
    pub(crate) fn from_hyper(upgraded: Upgraded, underway: Option<Underway>) -> (Self, Vec<u8>, Vec<u8>) {
        let upgraded = match upgraded.downcast::<TokioIo<Corked>>() {
            Ok(parts) => {
                let Corked { wire, early, held, .. } = parts.io.into_inner();
                let io = match wire {
                    Wire::Tcp(tcp) => Self::Tcp(tcp),
                    Wire::Tls(tls) => Self::Tls(tls),
                };
                return (io, [parts.read_buf.into(), early].concat(), held);
            }
            Err(upgraded) => upgraded,
        };
        match upgraded.downcast::<TokioIo<TcpStream>>() {
            Ok(parts) => (Self::Tcp(parts.io.into_inner()), parts.read_buf.into(), Vec::new()),
            Err(upgraded) => {
                let io = TokioIo::new(upgraded);
                let io = match underway {
                    Some(underway) => Self::Stream(Box::new((io, underway))),
                    None => Self::Other(Box::new(io)),
                };
                (io, Vec::new(), Vec::new())
            }
        }
    }

    pub(crate) fn get(&mut self) -> Pin<&mut dyn Duplex> {
        match self {
            Self::Tcp(tcp) => Pin::new(tcp),
            Self::Tls(tls) => Pin::new(tls),
            Self::Stream(stream) => Pin::new(&mut stream.0),
            Self::Other(other) => Pin::new(other),
        }
    }

    /// Passes on what was taken and not sent yet. A TCP connection keeps nothing back.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(_) => Poll::Ready(Ok(())),
            Self::Tls(_) | Self::Stream(_) | Self::Other(_) => self.get().poll_flush(cx),
        }
    }

    /// Whether the network took something since this was last asked, where that is another thing than a write that was.
    pub(crate) fn took(&mut self) -> bool {
        match self {
            Self::Tls(tls) => std::mem::take(&mut tls.get_mut().0.took),
            Self::Tcp(_) | Self::Stream(_) | Self::Other(_) => false,
        }
    }

    /// Ends our side, after all that was written: close_notify, where there is TLS, and FIN; or END_STREAM. What cannot
    /// be done at once is done behind the session's back, for at most `time`.
    pub(crate) fn end(&mut self, cx: &mut Context<'_>, time: Duration) {
        let is_done = self.get().poll_shutdown(cx).is_ready();
        if is_done && !matches!(self, Self::Stream(_)) {
            return;
        }
        let mut io = std::mem::replace(self, Self::Other(Box::new(tokio::io::empty())));
        let rest = async move {
            timeout(time, io.get().shutdown()).await??;
            if let Self::Stream(stream) = io {
                let (mut stream, underway) = *stream;
                // Nothing goes on in it any more that its connection would have to stand for.
                let place = underway.ending();
                drop(underway);
                if let Some(_place) = place {
                    // Let go of before the peer's END_STREAM, it is reset (NO_ERROR, RFC 9113 §8.1), and what a blocked
                    // page has not read of it is lost.
                    timeout(time * ENDING_TIMES, tokio::io::copy(&mut stream, &mut tokio::io::sink())).await??;
                }
            }
            io::Result::Ok(())
        };
        // Whoever does not take it until then is not told.
        tokio::spawn(rest);
    }
}
