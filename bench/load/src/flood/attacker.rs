//! A connection that keeps to no rule, and remembers how it was ended.

use super::{OFFER, Script, read_head};
use crate::client::is_later;
use saywhy_codes::Role;
use saywhy_proto::frame::{FrameReader, Opcode};
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

const MAX_HEAD: usize = 16 * 1024;
const READ: usize = 64 * 1024;

pub(super) struct Attacker {
    tcp: TcpStream,
    /// How far it is in the script, and in the part of it that is repeated.
    written: usize,
    /// The answer to the handshake, while it is not whole.
    head: Option<Vec<u8>>,
    frames: FrameReader,
    /// The payload of a Close.
    close: Option<Vec<u8>>,
    /// The server has ended its side, and how.
    ended: Option<&'static str>,
}

impl Attacker {
    /// Connects and, if there is one, goes through with the `handshake`.
    pub(super) fn connect(to: SocketAddr, handshake: Option<&[u8]>) -> io::Result<Self> {
        let mut tcp = TcpStream::connect(to)?;
        let mut frames = FrameReader::new(Role::Server);
        tcp.set_nodelay(true)?;
        if let Some(request) = handshake {
            tcp.write_all(request)?;
            let head = read_head(&mut tcp)?;
            if head.contains("permessage-deflate") {
                frames.allow_compression();
            } else if String::from_utf8_lossy(request).contains(OFFER) {
                return Err(io::Error::other("the server declines to compress"));
            }
        }
        tcp.set_nonblocking(true)?;
        let head = handshake.is_none().then(Vec::new);
        Ok(Self { tcp, written: 0, head, frames, close: None, ended: None })
    }

    pub(super) fn is_connected(&self) -> bool {
        self.ended.is_none()
    }

    /// Sends what comes next, as much of it as the server takes: so many bytes. A server that ended its side or said
    /// Close is talked to all the same, until it resets the connection.
    pub(super) fn write(&mut self, script: &Script) -> io::Result<u64> {
        if self.ended == Some(RESET) {
            return Ok(0);
        }
        match self.tcp.write(script.next(self.written)) {
            Ok(bytes) => {
                self.written = script.advance(self.written, bytes);
                Ok(bytes as u64)
            }
            Err(error) => self.failed(&error).map(|()| 0),
        }
    }

    /// Reads what is there, once; whether there was anything.
    pub(super) fn read(&mut self) -> io::Result<bool> {
        if self.ended.is_some() {
            return Ok(false);
        }
        let mut buffer = [0; READ];
        match self.tcp.read(&mut buffer) {
            Ok(0) => self.ended = Some(FINISHED),
            Ok(read) => self.take(&mut buffer[..read])?,
            Err(error) => {
                self.failed(&error)?;
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What had arrived before a reset can still be read; a read that finds nothing more is then no FIN.
    fn failed(&mut self, error: &io::Error) -> io::Result<()> {
        use io::ErrorKind::{BrokenPipe, ConnectionReset};
        match error.kind() {
            _ if is_later(error) => {}
            ConnectionReset | BrokenPipe if self.ended.is_none() => {
                self.drain()?;
                self.ended = Some(RESET);
            }
            ConnectionReset | BrokenPipe => self.ended = Some(RESET),
            _ => return Err(io::Error::new(error.kind(), format!("the attacker: {error}"))),
        }
        Ok(())
    }

    fn drain(&mut self) -> io::Result<()> {
        let mut buffer = [0; READ];
        while let Ok(read @ 1..) = self.tcp.read(&mut buffer) {
            self.take(&mut buffer[..read])?;
        }
        Ok(())
    }

    fn take(&mut self, mut bytes: &mut [u8]) -> io::Result<()> {
        if let Some(head) = &mut self.head {
            // It never asked for more than that.
            head.extend_from_slice(&bytes[..bytes.len().min(MAX_HEAD - head.len())]);
            return Ok(());
        }
        while !bytes.is_empty() {
            let next = self.frames.next(bytes);
            let (taken, piece) = next.map_err(|rule| io::Error::other(format!("the server broke a rule: {rule:?}")))?;
            if let Some(piece) = piece
                && piece.header.opcode == Opcode::Close
            {
                self.close.get_or_insert_default().extend_from_slice(piece.payload);
            }
            bytes = &mut bytes[taken..];
        }
        Ok(())
    }

    /// In a word or two.
    pub(super) fn end(&self) -> String {
        let status = self.head.as_deref().and_then(status);
        match (&self.close, status, self.ended) {
            (Some(payload), ..) => close_code(payload),
            (None, Some(status), _) => format!("HTTP {status}"),
            (None, None, ended) => ended.unwrap_or("connected").to_owned(),
        }
    }
}

const FINISHED: &str = "FIN";
const RESET: &str = "RST";

fn close_code(payload: &[u8]) -> String {
    match payload {
        [a, b, ..] => u16::from_be_bytes([*a, *b]).to_string(),
        _ => "Close without a code".to_owned(),
    }
}

fn status(head: &[u8]) -> Option<&str> {
    std::str::from_utf8(head).ok()?.strip_prefix("HTTP/1.1 ")?.get(..3)
}
