//! A peer that sends whatever it likes, over a plain socket.

use crate::server::{SOON, Server};
use miniz_oxide::deflate::core::{CompressorOxide, create_comp_flags_from_zip_params};
use miniz_oxide::deflate::stream::deflate;
use miniz_oxide::{MZFlush, MZStatus};
use saywhy_proto::frame::{self, Header, Opcode};
use serde_json::Value;
use socket2::{Domain, SockRef, Socket, Type};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

const KEY: [u8; 4] = [0x5A, 0xC3, 0x0F, 0x99];

/// A connection, and what has arrived of it.
pub(crate) struct Peer {
    tcp: TcpStream,
    input: Vec<u8>,
    /// As `ready` said.
    pub(crate) id: String,
}

/// What came, and was no Ping.
#[derive(Debug, PartialEq)]
pub(crate) enum Seen {
    Text(Value),
    Pong(Vec<u8>),
    Close(Vec<u8>),
    /// The end of the connection, in good order or not.
    End,
}

/// How the server ended it.
#[derive(Debug)]
pub(crate) struct LastWord {
    pub(crate) error: Value,
    pub(crate) code: u16,
    pub(crate) reason: Vec<u8>,
}

impl LastWord {
    /// The row that was said.
    pub(crate) fn name(&self) -> &str {
        self.error["data"]["name"].as_str().unwrap()
    }
}

/// The request of an opening handshake, with more headers.
pub(crate) fn request(headers: &str) -> String {
    format!(
        "GET /ws HTTP/1.1\r\nHost: saywhy.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Protocol: saywhy.v1\r\n{headers}\r\n"
    )
}

pub(crate) const DEFLATE: &str = "Sec-WebSocket-Extensions: permessage-deflate\r\n";

impl Peer {
    /// A connection over which nothing was said.
    pub(crate) fn connect(at: SocketAddr) -> Self {
        Self::over(TcpStream::connect(at).unwrap())
    }

    /// As [`Peer::connect`]; the system takes next to nothing for a peer that does not read.
    pub(crate) fn connect_narrow(at: SocketAddr) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        socket.connect(&at.into()).unwrap();
        Self::over(socket.into())
    }

    /// As [`Peer::connect`], from another address of this machine.
    pub(crate) fn connect_from(from: [u8; 4], at: SocketAddr) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((from, 0)).into()).unwrap();
        socket.connect(&at.into()).unwrap();
        Self::over(socket.into())
    }

    fn over(tcp: TcpStream) -> Self {
        tcp.set_read_timeout(Some(SOON)).unwrap();
        tcp.set_write_timeout(Some(SOON)).unwrap();
        tcp.set_nodelay(true).unwrap();
        Self { tcp, input: Vec::new(), id: String::new() }
    }

    /// A session that is ready.
    pub(crate) fn ready(server: &Server) -> Self {
        Self::connect(server.at).enter("")
    }

    /// As [`Peer::ready`], with permessage-deflate.
    pub(crate) fn compressed(server: &Server) -> Self {
        let mut peer = Self::connect(server.at);
        peer.send(request(DEFLATE).as_bytes());
        let head = peer.head();
        assert!(head.contains("sec-websocket-extensions: permessage-deflate"), "{head}");
        peer.is_ready();
        peer
    }

    /// The opening handshake, up to `ready`.
    pub(crate) fn enter(mut self, headers: &str) -> Self {
        self.send(request(headers).as_bytes());
        let head = self.head();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        self.is_ready();
        self
    }

    fn is_ready(&mut self) {
        let Seen::Text(message) = self.next() else { panic!("it is not ready") };
        assert_eq!(message["type"], "ready");
        self.id = message["data"]["connection_id"].as_str().unwrap().to_owned();
    }

    /// Joins the room that is open from the start.
    pub(crate) fn join(mut self) -> Self {
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
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.tcp.write_all(bytes).unwrap();
    }

    /// Sends bytes to a server that may have ended the connection by now; whether it has not.
    pub(crate) fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.tcp.write_all(bytes).is_ok()
    }

    /// Ends our side only.
    pub(crate) fn half_close(&mut self) {
        // It may be over already.
        let _ = self.tcp.shutdown(Shutdown::Write);
    }

    /// The server has taken all that was sent: it answers a Ping after it.
    pub(crate) fn is_heard(&mut self) {
        self.send(&piece(true, Opcode::Ping, b"heard?"));
        assert_eq!(self.next(), Seen::Pong(b"heard?".to_vec()));
    }

    /// Waits for this long; whether something has come.
    pub(crate) fn hears_within(&mut self, time: Duration) -> bool {
        self.tcp.set_read_timeout(Some(time)).unwrap();
        let heard = self.more();
        self.tcp.set_read_timeout(Some(SOON)).unwrap();
        heard.is_ok()
    }

    /// The head of the answer.
    pub(crate) fn head(&mut self) -> String {
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
    pub(crate) fn next(&mut self) -> Seen {
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
    pub(crate) fn last_word(&mut self) -> LastWord {
        let mut error = Value::Null;
        loop {
            match self.next() {
                Seen::Text(message) if message["type"] == "error" && message["data"]["fatal"] == true => {
                    error = message
                }
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
    pub(crate) fn end(&mut self) {
        while self.next() != Seen::End {}
    }

    /// Reads whatever comes, up to the end of the connection.
    pub(crate) fn ends(&mut self) {
        while self.more().is_ok_and(|read| read > 0) {}
    }

    /// Says this, and reads on to the end.
    pub(crate) fn ends_after(mut self, bytes: &[u8]) {
        self.send(bytes);
        self.ends();
    }

    /// Says Close, and reads on to the end.
    pub(crate) fn leave(mut self) {
        self.send(&close());
        self.end();
    }

    /// Ends the connection with an RST.
    pub(crate) fn reset(self) {
        SockRef::from(&self.tcp).set_linger(Some(Duration::ZERO)).unwrap();
    }
}

// ---- frames ---------------------------------------------------------------------------------------------------

/// A header of a data frame that declares `len`.
pub(crate) fn header(fin: bool, opcode: Opcode, len: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    Header { fin, compressed: false, opcode, mask: Some(KEY), len }.write(&mut bytes);
    bytes
}

/// A frame, masked.
pub(crate) fn piece(fin: bool, opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    part(fin, opcode, false, payload)
}

/// As [`piece`], of a message that may be marked as compressed.
pub(crate) fn part(fin: bool, opcode: Opcode, compressed: bool, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    Header { fin, compressed, opcode, mask: Some(KEY), len: payload.len() as u64 }.write(&mut bytes);
    let start = bytes.len();
    bytes.extend_from_slice(payload);
    frame::mask(&mut bytes[start..], KEY, 0);
    bytes
}

/// A bomb: this many zeros.
pub(crate) fn squeezed_zeros(len: usize) -> Vec<u8> {
    deflated(&vec![0; len])
}

/// As RFC 7692 has it: flushed, and without the four bytes that every message ends with.
pub(crate) fn deflated(payload: &[u8]) -> Vec<u8> {
    let mut compressor = CompressorOxide::new(create_comp_flags_from_zip_params(9, -15, 0));
    let mut out = vec![0; payload.len() + 1024];
    let done = deflate(&mut compressor, payload, &mut out, MZFlush::Sync);
    assert_eq!((done.status, done.bytes_consumed), (Ok(MZStatus::Ok), payload.len()));
    out.truncate(done.bytes_written - 4);
    out
}

/// A text message in one frame.
pub(crate) fn text(payload: &[u8]) -> Vec<u8> {
    piece(true, Opcode::Text, payload)
}

/// A Close: 1000.
pub(crate) fn close() -> Vec<u8> {
    piece(true, Opcode::Close, &1000_u16.to_be_bytes())
}

/// A `ping` of the envelope that is exactly this long.
pub(crate) fn ping(len: usize) -> Vec<u8> {
    let (before, after) = (&br#"{"type":"ping","data":{"x":""#[..], &br#""}}"#[..]);
    let filling = vec![b'x'; len - before.len() - after.len()];
    [before, &filling, after].concat()
}
