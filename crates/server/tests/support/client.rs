//! A client that does as it is told, and no more: it answers nothing by itself.

use saywhy_codes::Role;
use saywhy_proto::frame::{self, Header, Opcode};
use serde_json::Value;
use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;

const KEY: [u8; 4] = [0x5A, 0xC3, 0x0F, 0x96];

/// What arrived. A connection ends with `Fin` or `Reset`.
#[derive(Clone, Debug, PartialEq)]
pub enum Seen {
    Text(Value),
    Binary(Vec<u8>),
    /// The payload of a compressed message.
    Compressed(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    /// 1005 stands for a Close without a code.
    Close(u16, String),
    Fin,
    Reset,
}

/// The head of an HTTP answer.
#[derive(Debug)]
pub struct Head {
    pub status: u16,
    pub(super) headers: Vec<(String, String)>,
}

impl Head {
    /// A header; empty where there is none.
    pub fn get(&self, name: &str) -> &str {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map_or("", |(_, value)| value)
    }

    pub fn text(&self) -> String {
        self.headers.iter().map(|(key, value)| format!("{key}: {value}\n")).collect()
    }
}

/// An error, and the Close that followed it.
#[derive(Debug)]
pub struct LastWord {
    pub error: Value,
    pub code: u16,
    pub reason: String,
}

/// What carries the bytes.
pub trait Duplex: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Duplex for T {}

enum Io {
    Tcp(TcpStream),
    Other(Box<dyn Duplex>),
}

impl Io {
    fn get(&mut self) -> Pin<&mut dyn Duplex> {
        match self {
            Self::Tcp(tcp) => Pin::new(tcp),
            Self::Other(other) => Pin::new(other),
        }
    }
}

/// One connection.
pub struct Client {
    /// As `ready` told it.
    pub id: String,
    io: Io,
    input: Vec<u8>,
    heard: Rc<RefCell<Vec<u8>>>,
    closed: bool,
}

impl Client {
    pub(super) fn new(tcp: TcpStream, heard: Rc<RefCell<Vec<u8>>>) -> Self {
        tcp.set_nodelay(true).unwrap();
        Self { id: String::new(), io: Io::Tcp(tcp), input: Vec::new(), heard, closed: false }
    }

    /// Over something else than TCP.
    pub(super) fn over(io: impl Duplex + 'static, heard: Rc<RefCell<Vec<u8>>>) -> Self {
        Self { id: String::new(), io: Io::Other(Box::new(io)), input: Vec::new(), heard, closed: false }
    }

    // ---- out -----------------------------------------------------------------------------------------------

    pub async fn raw(&mut self, bytes: &[u8]) {
        self.send_raw(bytes).await.unwrap();
    }

    pub async fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.io.get().write_all(bytes).await?;
        self.io.get().flush().await
    }

    pub async fn frame(&mut self, fin: bool, opcode: Opcode, payload: &[u8]) {
        self.raw(&wire(fin, opcode, payload)).await;
    }

    pub async fn text(&mut self, text: impl ToString) {
        self.frame(true, Opcode::Text, text.to_string().as_bytes()).await;
    }

    /// Sends a Close; 1005 is one without a code.
    pub async fn close(&mut self, code: u16, reason: &str) {
        let payload = if code == 1005 { Vec::new() } else { [&code.to_be_bytes(), reason.as_bytes()].concat() };
        self.frame(true, Opcode::Close, &payload).await;
    }

    /// Sends FIN, and can still read.
    pub async fn half_close(&mut self) {
        self.io.get().shutdown().await.unwrap();
    }

    /// Sends RST.
    pub fn reset(self) {
        let Io::Tcp(tcp) = self.io else { panic!("only TCP has an RST") };
        tcp.set_zero_linger().unwrap();
    }

    // ---- in ------------------------------------------------------------------------------------------------

    /// Reads once; how many bytes have arrived.
    pub async fn fill(&mut self) -> io::Result<usize> {
        self.input.reserve(64 * 1024);
        let read = self.io.get().read_buf(&mut self.input).await?;
        self.heard.borrow_mut().extend_from_slice(&self.input[self.input.len() - read..]);
        Ok(read)
    }

    /// Whether these bytes are among what has arrived and was not taken.
    pub fn has(&self, bytes: &[u8]) -> bool {
        self.input.windows(bytes.len()).any(|window| window == bytes)
    }

    /// The head of the answer, which tells an HTTP answer from a WebSocket.
    pub async fn head(&mut self) -> Head {
        let end = loop {
            if let Some(at) = self.input.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            assert_ne!(self.fill().await.unwrap(), 0, "no answer, but {:?}", String::from_utf8_lossy(&self.input));
        };
        let head = String::from_utf8(self.input.drain(..end).collect()).unwrap();
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines.filter_map(|line| line.split_once(": ")).map(|(key, value)| (key.into(), value.into()));
        Head { status, headers: headers.collect() }
    }

    /// The answer in HTTP, with its body of JSON.
    pub async fn problem(&mut self) -> (Head, Value) {
        let head = self.head().await;
        assert_eq!(head.get("content-type"), "application/problem+json", "{head:?}");
        let length: usize = head.get("content-length").parse().unwrap();
        while self.input.len() < length {
            assert_ne!(self.fill().await.unwrap(), 0, "a body of {length} bytes");
        }
        let body = self.input.drain(..length).collect::<Vec<u8>>();
        (head, serde_json::from_slice(&body).unwrap())
    }

    /// All that comes until the end, as JSON.
    pub async fn body(mut self) -> Value {
        while self.fill().await.unwrap() > 0 {}
        serde_json::from_slice(&self.input).unwrap()
    }

    /// The next frame, or the end.
    pub async fn next(&mut self) -> Seen {
        loop {
            if let Some(seen) = self.take_frame() {
                assert!(!self.closed, "{seen:?} follows the Close");
                self.closed = matches!(seen, Seen::Close(..));
                return seen;
            }
            match self.fill().await {
                Ok(0) if self.input.is_empty() => return Seen::Fin,
                Ok(0) => panic!("cut inside a frame"),
                Ok(_) => {}
                Err(_) => return Seen::Reset,
            }
        }
    }

    fn take_frame(&mut self) -> Option<Seen> {
        let (header, used) = Header::parse(&self.input, Role::Server, true).expect("a server sends legal frames")?;
        let end = used + header.len as usize;
        if self.input.len() < end {
            return None;
        }
        let payload = self.input.drain(..end).skip(used).collect::<Vec<u8>>();
        assert!(header.fin, "our servers do not fragment");
        Some(match header.opcode {
            Opcode::Text | Opcode::Binary if header.compressed => Seen::Compressed(payload),
            Opcode::Text => {
                let text = String::from_utf8(payload).unwrap();
                Seen::Text(serde_json::from_str(&text).unwrap_or(Value::String(text)))
            }
            Opcode::Binary => Seen::Binary(payload),
            Opcode::Ping => Seen::Ping(payload),
            Opcode::Pong => Seen::Pong(payload),
            Opcode::Close if payload.is_empty() => Seen::Close(1005, String::new()),
            Opcode::Close => {
                let code = u16::from_be_bytes([payload[0], payload[1]]);
                Seen::Close(code, String::from_utf8(payload[2..].to_vec()).unwrap())
            }
            Opcode::Continuation => panic!("nothing to continue"),
        })
    }

    /// The next frame, which is a message.
    pub async fn message(&mut self) -> Value {
        match self.next().await {
            Seen::Text(message) => message,
            other => panic!("{other:?} instead of a message"),
        }
    }

    /// Sends a message and reads what comes back.
    pub async fn request(&mut self, text: impl ToString) -> Value {
        self.text(text).await;
        self.message().await
    }

    /// All that comes until the end.
    pub async fn rest(&mut self) -> Vec<Seen> {
        let mut all = Vec::new();
        loop {
            all.push(self.next().await);
            if matches!(all.last(), Some(Seen::Fin | Seen::Reset)) {
                return all;
            }
        }
    }

    /// There is nothing to read, not even an end, however long the server is given to run.
    pub async fn is_quiet(&mut self) {
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
        assert!(self.input.is_empty());
        let io = &mut self.io;
        let waits = poll_fn(|cx| Poll::Ready(io.get().poll_read(cx, &mut ReadBuf::new(&mut [0])).is_pending()));
        assert!(waits.await, "the server does not wait");
    }

    /// The last word, as RFC 6455 §7.1.1 and browsers need it: an error that says that it is fatal, one Close with its
    /// words, then the server waits for our Close, and then its FIN comes.
    pub async fn last_word(&mut self) -> LastWord {
        let word = self.error_and_close().await;
        self.is_quiet().await;
        self.close(word.code, "").await;
        assert_eq!(self.next().await, Seen::Fin, "after our Close");
        word
    }

    /// An error that says that it is fatal, and a Close with its words.
    pub async fn error_and_close(&mut self) -> LastWord {
        let error = self.message().await;
        assert_eq!(error["type"], "error", "{error}");
        assert_eq!(error["data"]["fatal"], true, "{error}");
        assert!(error["meta"]["request_id"].is_string(), "{error}");
        let Seen::Close(code, reason) = self.next().await else { panic!("no Close after {error}") };
        let words = error["data"]["message"].as_str().unwrap();
        assert_eq!(reason, words[..words.floor_char_boundary(123)], "the reason is the message");
        LastWord { error, code, reason }
    }

    /// Closes as a client that is done, and reads to the end.
    pub async fn leave(mut self) {
        self.close(1000, "").await;
        let last = self.rest().await;
        let end = last.len() - 2;
        assert_eq!(last[end..], [Seen::Close(1000, String::new()), Seen::Fin]);
    }
}

/// A frame of a client.
pub fn wire(fin: bool, opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    Header { fin, compressed: false, opcode, mask: Some(KEY), len: payload.len() as u64 }.write(&mut out);
    let start = out.len();
    out.extend_from_slice(payload);
    frame::mask(&mut out[start..], KEY, 0);
    out
}

/// A text message of a client.
pub fn wire_text(text: &str) -> Vec<u8> {
    wire(true, Opcode::Text, text.as_bytes())
}
