//! A peer that writes frames of HTTP/2 by hand (RFC 9113 §4.1), whatever the server says to them.

use crate::server::{SOON, Server};
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::Duration;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// A server that does not take what is sent has stopped reading, and that is an answer too.
const STUCK: Duration = Duration::from_millis(500);

/// A frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A field as it is, kept in no table (RFC 7541 §6.2.2). Both are short.
pub(crate) fn field(name: &str, value: &str) -> Vec<u8> {
    assert!(name.len() < 127 && value.len() < 127);
    [&[0, name.len() as u8], name.as_bytes(), &[value.len() as u8], value.as_bytes()].concat()
}

fn request(method: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let pseudo = [(":method", method), (":scheme", "http"), (":path", "/ws"), (":authority", "saywhy.test")];
    pseudo.iter().chain(more).flat_map(|(name, value)| field(name, value)).collect()
}

/// The fields of an extended CONNECT.
pub(crate) fn connect() -> Vec<u8> {
    request("CONNECT", &[(":protocol", "websocket"), ("sec-websocket-version", "13")])
}

/// Those of a plain request.
pub(crate) fn get() -> Vec<u8> {
    request("GET", &[])
}

/// One connection.
pub(crate) struct Flooder {
    tcp: TcpStream,
    heard: Vec<u8>,
}

impl Flooder {
    /// Says hello. Whatever comes is read and thrown away, or not read at all.
    pub(crate) fn connect(server: &Server, reads: bool) -> Self {
        let tcp = TcpStream::connect(server.at).unwrap();
        tcp.set_write_timeout(Some(STUCK)).unwrap();
        if reads {
            let mut from = tcp.try_clone().unwrap();
            thread::spawn(move || while from.read(&mut [0; 64 * 1024]).is_ok_and(|read| read > 0) {});
        }
        let mut flooder = Self { tcp, heard: Vec::new() };
        flooder.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        flooder.send(&frame(SETTINGS, 0, 0, &[]));
        flooder
    }

    /// Waits until these bytes come.
    pub(crate) fn hears(&mut self, bytes: &[u8]) {
        self.tcp.set_read_timeout(Some(SOON)).unwrap();
        while !self.heard.windows(bytes.len()).any(|window| window == bytes) {
            let mut buffer = [0; 16 * 1024];
            let read = self.tcp.read(&mut buffer).unwrap();
            assert_ne!(read, 0, "it never came: {}", self.heard.escape_ascii());
            self.heard.extend(&buffer[..read]);
        }
    }

    /// Whether the server takes it.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> bool {
        self.tcp.write_all(bytes).is_ok()
    }
}

impl Drop for Flooder {
    fn drop(&mut self) {
        let _ = self.tcp.shutdown(Shutdown::Both);
    }
}
