//! A peer that sends whatever it likes, over a plain socket.

use crate::server::{SOON, Server};
use saywhy_proto::frame::{self, Header, Opcode};
use serde_json::Value;
use socket2::{Domain, SockRef, Socket, Type};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const KEY: [u8; 4] = [0x5A, 0xC3, 0x0F, 0x99];

/// A connection, and what has arrived of it.
pub struct Peer {
    pub tcp: TcpStream,
    input: Vec<u8>,
}

/// What came, and was no Ping.
#[derive(Debug, PartialEq)]
pub enum Seen {
    Text(Value),
    Pong(Vec<u8>),
    Close(Vec<u8>),
    /// The end of the connection, in good order or not.
    End,
}

/// How the server ended it.
#[derive(Debug)]
pub struct LastWord {
    pub error: Value,
    pub code: u16,
    pub reason: Vec<u8>,
}

impl LastWord {
    /// The row that was said.
    pub fn name(&self) -> &str {
        self.error["data"]["name"].as_str().unwrap()
    }
}

/// The request of an opening handshake, with more headers.
pub fn request(headers: &str) -> String {
    format!(
        "GET /ws HTTP/1.1\r\nHost: saywhy.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Protocol: saywhy.v1\r\n{headers}\r\n"
    )
}

pub const DEFLATE: &str = "Sec-WebSocket-Extensions: permessage-deflate\r\n";

impl Peer {
    /// A connection over which nothing was said.
    pub fn connect(at: SocketAddr) -> Self {
        Self::over(TcpStream::connect(at).unwrap())
    }

    /// As [`Peer::connect`]; the system takes next to nothing for a peer that does not read.
    pub fn connect_narrow(at: SocketAddr) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        socket.connect(&at.into()).unwrap();
        Self::over(socket.into())
    }

    fn over(tcp: TcpStream) -> Self {
        tcp.set_read_timeout(Some(SOON)).unwrap();
        tcp.set_write_timeout(Some(SOON)).unwrap();
        tcp.set_nodelay(true).unwrap();
        Self { tcp, input: Vec::new() }
    }

    /// A session that is ready.
    pub fn ready(server: &Server) -> Self {
        Self::connect(server.at).enter("")
    }

    /// As [`Peer::ready`], with permessage-deflate.
    pub fn compressed(server: &Server) -> Self {
        let mut peer = Self::connect(server.at);
        peer.send(request(DEFLATE).as_bytes());
        let head = peer.head();
        assert!(head.contains("sec-websocket-extensions: permessage-deflate"), "{head}");
        peer.is_ready();
        peer
    }

    /// The opening handshake, up to `ready`.
    pub fn enter(mut self, headers: &str) -> Self {
        self.send(request(headers).as_bytes());
        let head = self.head();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        self.is_ready();
        self
    }

    fn is_ready(&mut self) {
        assert!(matches!(self.next(), Seen::Text(message) if message["type"] == "ready"));
    }

    /// Joins the room that is open from the start.
    pub fn join(mut self) -> Self {
        self.send(&text(br#"{"type":"join","data":{"room":"lobby"},"meta":{"request_id":"1"}}"#));
        loop {
            match self.next() {
                Seen::Text(message) if message["type"] == "ok" => return self,
                Seen::Text(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) {
        self.tcp.write_all(bytes).unwrap();
    }

    /// The head of the answer.
    pub fn head(&mut self) -> String {
        loop {
            if let Some(end) = self.input.windows(4).position(|four| four == b"\r\n\r\n") {
                let rest = self.input.split_off(end + 4);
                return String::from_utf8(std::mem::replace(&mut self.input, rest)).unwrap();
            }
            assert!(self.more().unwrap() > 0, "no answer: {:?}", String::from_utf8_lossy(&self.input));
        }
    }

    fn more(&mut self) -> io::Result<usize> {
        let mut buffer = [0; 16 * 1024];
        let read = self.tcp.read(&mut buffer)?;
        self.input.extend_from_slice(&buffer[..read]);
        Ok(read)
    }

    /// What comes next. Pings are passed over.
    pub fn next(&mut self) -> Seen {
        loop {
            while let Some((opcode, payload)) = self.frame() {
                return match opcode {
                    Opcode::Text => Seen::Text(serde_json::from_slice(&payload).unwrap()),
                    Opcode::Pong => Seen::Pong(payload),
                    Opcode::Close => Seen::Close(payload),
                    Opcode::Ping => continue,
                    Opcode::Binary | Opcode::Continuation => panic!("{opcode:?}"),
                };
            }
            match self.more() {
                Ok(0) => return Seen::End,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Seen::End,
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn frame(&mut self) -> Option<(Opcode, Vec<u8>)> {
        let (header, used) = Header::parse(&self.input, saywhy_codes::Role::Server, false).unwrap()?;
        let end = used + header.len as usize;
        let payload = self.input.get(used..end)?.to_vec();
        self.input.drain(..end);
        Some((header.opcode, payload))
    }

    /// Reads on to the Close, and says what was said.
    pub fn last_word(&mut self) -> LastWord {
        let mut error = Value::Null;
        loop {
            match self.next() {
                Seen::Text(message) if message["type"] == "error" && message["data"]["fatal"] == true => error = message,
                Seen::Text(_) | Seen::Pong(_) => {}
                Seen::Close(payload) => {
                    let code = u16::from_be_bytes([payload[0], payload[1]]);
                    return LastWord { error, code, reason: payload[2..].to_vec() };
                }
                Seen::End => panic!("ended without a Close, after {error}"),
            }
        }
    }

    /// Reads on to the end of the connection.
    pub fn end(&mut self) {
        while self.next() != Seen::End {}
    }

    /// Says Close, and reads on to the end.
    pub fn leave(mut self) {
        self.send(&close());
        self.end();
    }

    /// Ends the connection with an RST.
    pub fn reset(self) {
        SockRef::from(&self.tcp).set_linger(Some(Duration::ZERO)).unwrap();
    }
}

// ---- frames ---------------------------------------------------------------------------------------------------

/// A header of a data frame that declares `len`.
pub fn header(fin: bool, opcode: Opcode, len: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    Header { fin, compressed: false, opcode, mask: Some(KEY), len }.write(&mut bytes);
    bytes
}

/// A frame, masked.
pub fn piece(fin: bool, opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    part(fin, opcode, false, payload)
}

/// A frame whose message is marked as compressed.
pub fn squeezed(fin: bool, opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    part(fin, opcode, true, payload)
}

fn part(fin: bool, opcode: Opcode, compressed: bool, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    Header { fin, compressed, opcode, mask: Some(KEY), len: payload.len() as u64 }.write(&mut bytes);
    let start = bytes.len();
    bytes.extend_from_slice(payload);
    frame::mask(&mut bytes[start..], KEY, 0);
    bytes
}

/// A text message in one frame.
pub fn text(payload: &[u8]) -> Vec<u8> {
    piece(true, Opcode::Text, payload)
}

/// A Close: 1000.
pub fn close() -> Vec<u8> {
    piece(true, Opcode::Close, &1000_u16.to_be_bytes())
}

/// A `ping` of the envelope that is exactly this long.
pub fn ping(len: usize) -> Vec<u8> {
    let (before, after) = (&br#"{"type":"ping","data":{"x":""#[..], &br#""}}"#[..]);
    let filling = vec![b'x'; len - before.len() - after.len()];
    [before, &filling, after].concat()
}
