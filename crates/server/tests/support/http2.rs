//! A client that speaks HTTP/2, and keeps note of every frame of the server's.

use super::client::{Client, Duplex, Head};
use bytes::Bytes;
use h2::client::SendRequest;
use h2::{RecvStream, SendStream};
use http::Request;
use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A frame of the server's (RFC 9113 §4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub len: usize,
}

impl Frame {
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const RST_STREAM: u8 = 3;
    pub const GOAWAY: u8 = 7;
    pub const END_STREAM: u8 = 1;
}

/// One connection.
pub struct Http2 {
    pub requests: SendRequest<Bytes>,
    said: Arc<Mutex<Vec<u8>>>,
    heard: Rc<RefCell<Vec<u8>>>,
}

impl Http2 {
    pub async fn new(io: impl Duplex + Send + 'static, heard: Rc<RefCell<Vec<u8>>>) -> Self {
        let said = Arc::<Mutex<Vec<u8>>>::default();
        let tee = Tee { io, said: Arc::clone(&said) };
        let (requests, connection) = h2::client::handshake(tee).await.unwrap();
        tokio::spawn(connection);
        let mut requests = requests.ready().await.unwrap();
        // Until the server's settings are here, nobody knows that it takes an extended CONNECT.
        while !requests.is_extended_connect_protocol_enabled() {
            tokio::task::yield_now().await;
            requests = requests.ready().await.unwrap();
        }
        Self { requests, said, heard }
    }

    /// A request as it is, with what came of it: the head, and the stream both ways.
    pub async fn send(&mut self, request: Request<()>, end: bool) -> (Head, SendStream<Bytes>, RecvStream) {
        let (response, send) = self.requests.send_request(request, end).unwrap();
        let (parts, receive) = response.await.unwrap().into_parts();
        let text = |value: &http::HeaderValue| value.to_str().unwrap().to_owned();
        let headers = parts.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
        (Head { status: parts.status.as_u16(), headers }, send, receive)
    }

    /// An extended CONNECT with some more headers (RFC 8441).
    pub async fn ask(&mut self, target: &str, headers: &[(&str, &str)]) -> (Head, Client) {
        let (head, send, receive) = self.send(connect("websocket", target, headers), false).await;
        (head, Client::over(Stream { send, receive, rest: Bytes::new() }, Rc::clone(&self.heard)))
    }

    /// The frames that have come.
    pub fn frames(&self) -> Vec<Frame> {
        let said = self.said.lock().unwrap();
        let mut rest = &said[..];
        let mut frames = Vec::new();
        while let [a, b, c, kind, flags, s, t, u, v, after @ ..] = rest {
            let len = u32::from_be_bytes([0, *a, *b, *c]) as usize;
            let stream = u32::from_be_bytes([*s, *t, *u, *v]);
            let Some(after) = after.get(len..) else { break };
            frames.push(Frame { kind: *kind, flags: *flags, stream, len });
            rest = after;
        }
        frames
    }

    /// The frames of a kind.
    pub fn count(&self, kind: u8) -> usize {
        self.frames().iter().filter(|frame| frame.kind == kind).count()
    }
}

/// The request of an extended CONNECT.
pub fn connect(protocol: &'static str, target: &str, headers: &[(&str, &str)]) -> Request<()> {
    let mut request = Request::connect(format!("http://app.test{target}")).version(http::Version::HTTP_2);
    request = request.extension(h2::ext::Protocol::from_static(protocol));
    request = request.header("sec-websocket-version", "13");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap()
}

/// A stream as a connection: END_STREAM is its FIN.
struct Stream {
    send: SendStream<Bytes>,
    receive: RecvStream,
    rest: Bytes,
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while self.rest.is_empty() {
            match ready!(self.receive.poll_data(cx)) {
                None => return Poll::Ready(Ok(())),
                Some(bytes) => self.rest = bytes.map_err(io::Error::other)?,
            }
        }
        let now = self.rest.len().min(buf.remaining());
        let bytes = self.rest.split_to(now);
        buf.put_slice(&bytes);
        self.receive.flow_control().release_capacity(now).map_err(io::Error::other)?;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.send.send_data(Bytes::copy_from_slice(bytes), false).map_err(io::Error::other)?;
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.send.send_data(Bytes::new(), true).map_err(io::Error::other)?;
        Poll::Ready(Ok(()))
    }
}

/// Notes what is read.
struct Tee<T> {
    io: T,
    said: Arc<Mutex<Vec<u8>>>,
}

impl<T: AsyncRead + Unpin> AsyncRead for Tee<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        self.said.lock().unwrap().extend_from_slice(&buf.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Tee<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
