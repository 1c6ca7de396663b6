//! What carries the bytes: a TCP connection, or whatever else the HTTP library upgraded.

use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// A TCP connection that holds back an answer of 101 until its session takes it over, so that the 101 and the first
/// message leave in one packet. Whoever else reads or writes it after a 101 finds that nothing is held.
#[derive(Debug)]
pub(crate) struct Corked {
    tcp: TcpStream,
    held: Vec<u8>,
}

impl Corked {
    pub(crate) fn new(tcp: TcpStream) -> Self {
        Self { tcp, held: Vec::new() }
    }
}

impl Corked {
    /// Lets go of what is held: someone other than our session speaks now.
    fn poll_uncork(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.held.is_empty() {
            let written = ready!(Pin::new(&mut self.tcp).poll_write(cx, &self.held))?;
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
        Pin::new(&mut self.tcp).poll_read(cx, buf)
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
        Pin::new(&mut self.tcp).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_uncork(cx))?;
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

/// Anything that carries bytes both ways.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

pub(crate) enum Io {
    Tcp(TcpStream),
    Other(Box<dyn Duplex>),
}

impl Io {
    /// Takes a connection over from hyper: the connection, what arrived early, and what is still to be written.
    pub(crate) fn from_hyper(upgraded: Upgraded) -> (Self, Vec<u8>, Vec<u8>) {
        let upgraded = match upgraded.downcast::<TokioIo<Corked>>() {
            Ok(parts) => {
                let Corked { tcp, held } = parts.io.into_inner();
                return (Self::Tcp(tcp), parts.read_buf.into(), held);
            }
            Err(upgraded) => upgraded,
        };
        match upgraded.downcast::<TokioIo<TcpStream>>() {
            Ok(parts) => (Self::Tcp(parts.io.into_inner()), parts.read_buf.into(), Vec::new()),
            Err(upgraded) => (Self::Other(Box::new(TokioIo::new(upgraded))), Vec::new(), Vec::new()),
        }
    }

    pub(crate) fn get(&mut self) -> Pin<&mut dyn Duplex> {
        match self {
            Self::Tcp(tcp) => Pin::new(tcp),
            Self::Other(other) => Pin::new(other),
        }
    }
}
