//! One WebSocket connection of the load.

use mio::net::TcpStream;
use saywhy_codes::Role;
use saywhy_proto::frame::{self, FrameReader, Opcode, Piece};
use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::rc::Rc;

/// The key of RFC 6455 §1.3 and what it is answered with. Nothing is hidden from anyone here.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
/// And one mask for all.
pub(crate) const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];
const MAX_HEAD: usize = 16 * 1024;

/// The opening handshake, with more headers if need be.
pub(crate) fn request(host: SocketAddr, path: &str, more: &str) -> Rc<[u8]> {
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n{more}\r\n"
    );
    request.into_bytes().into()
}

/// A masked data frame.
pub(crate) fn data(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    frame::write(opcode, payload, Some(MASK), &mut out);
    out
}

pub(crate) struct Client {
    pub(crate) tcp: TcpStream,
    /// The answer to the handshake, while it is not whole.
    head: Option<Vec<u8>>,
    frames: FrameReader,
    /// What the socket did not take, and how much of the first it did.
    waiting: VecDeque<Rc<[u8]>>,
    written: usize,
    pub(crate) ended: bool,
}

impl Client {
    pub(crate) fn new(tcp: TcpStream) -> Self {
        let (head, frames) = (Some(Vec::new()), FrameReader::new(Role::Server));
        Self { tcp, head, frames, waiting: VecDeque::new(), written: 0, ended: false }
    }

    /// Whether the handshake is done.
    pub(crate) fn is_open(&self) -> bool {
        self.head.is_none()
    }

    /// Sends it when the connection is there.
    pub(crate) fn send_later(&mut self, bytes: Rc<[u8]>) {
        self.waiting.push_back(bytes);
    }

    pub(crate) fn send(&mut self, bytes: &Rc<[u8]>) -> io::Result<()> {
        if !self.waiting.is_empty() {
            self.waiting.push_back(Rc::clone(bytes));
            return Ok(());
        }
        let mut written = 0;
        while written < bytes.len() {
            match self.tcp.write(&bytes[written..]) {
                Ok(more) => written += more,
                Err(error) if is_later(&error) => {
                    self.written = written;
                    self.waiting.push_back(Rc::clone(bytes));
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Goes on with what waits.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        while let Some(bytes) = self.waiting.front() {
            match self.tcp.write(&bytes[self.written..]) {
                Ok(more) if self.written + more == bytes.len() => {
                    self.waiting.pop_front();
                    self.written = 0;
                }
                Ok(more) => self.written += more,
                Err(error) if is_later(&error) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads what is there, by way of `buffer`, and hands out the pieces of data frames and of a Close. With `to_end`
    /// the server has ended its side, and no event follows.
    pub(crate) fn receive(
        &mut self,
        buffer: &mut [u8],
        to_end: bool,
        mut take: impl FnMut(&Piece<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        loop {
            let read = match self.tcp.read(buffer) {
                Ok(0) => {
                    self.ended = true;
                    return Ok(());
                }
                Ok(read) => read,
                Err(error) if is_later(&error) => return Ok(()),
                Err(error) => return Err(error),
            };
            let mut rest = &mut buffer[..read];
            if let Some(head) = &mut self.head {
                head.extend_from_slice(rest);
                let Some(end) = head.windows(4).position(|four| four == b"\r\n\r\n") else {
                    if head.len() > MAX_HEAD {
                        return Err(io::Error::other("the answer to the handshake has no end"));
                    }
                    continue;
                };
                let after = head.len() - (end + 4);
                check_head(&head[..end])?;
                self.head = None;
                let start = read - after;
                rest = &mut buffer[start..read];
            }
            self.pieces(rest, &mut take)?;
            if read < buffer.len() && !to_end {
                // A short read: what comes later is another event.
                return Ok(());
            }
        }
    }

    fn pieces(&mut self, bytes: &mut [u8], take: &mut impl FnMut(&Piece<'_>) -> io::Result<()>) -> io::Result<()> {
        let mut at = 0;
        while at < bytes.len() {
            let next = self.frames.next(&mut bytes[at..]);
            let (taken, piece) = next.map_err(|rule| io::Error::other(format!("the server broke a rule: {rule:?}")))?;
            at += taken;
            let Some(piece) = piece else { continue };
            match piece.header.opcode {
                // Heartbeats have no payload; a Pong for one whose payload is cut in two would be wrong, and is seen.
                Opcode::Ping if piece.is_last() => {
                    let mut pong = Vec::new();
                    frame::write(Opcode::Pong, piece.payload, Some(MASK), &mut pong);
                    self.send(&pong.into())?;
                }
                Opcode::Ping | Opcode::Pong => {}
                Opcode::Text | Opcode::Binary | Opcode::Continuation | Opcode::Close => take(&piece)?,
            }
        }
        Ok(())
    }
}

fn check_head(head: &[u8]) -> io::Result<()> {
    let head = String::from_utf8_lossy(head);
    if head.starts_with("HTTP/1.1 101 ") && head.contains(ACCEPT) {
        return Ok(());
    }
    Err(io::Error::other(format!("no upgrade: {}", head.lines().next().unwrap_or_default())))
}

pub(crate) fn is_later(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected)
}
