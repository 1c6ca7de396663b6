//! A client that writes whatever bytes it likes, and keeps what it saw.

use crate::probe::target::{Duplex, Target};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use saywhy_codes::Observed;
use saywhy_proto::frame;
use sha1::{Digest as _, Sha1};
use std::fmt::{self, Write as _};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, timeout};

/// RFC 6455 §1.3.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Bytes of a head, of a body, and of all frames that are kept.
const HEAD_BYTES: usize = 32 * 1024;
const BODY_BYTES: usize = 64 * 1024;
const KEPT_BYTES: usize = 4 * 1024 * 1024;
/// Bytes of a transcript.
const TRANSCRIPT_BYTES: usize = 16 * 1024;

/// An answer in HTTP.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Head {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// A frame of the server, whatever it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) first: u8,
    pub(crate) masked: bool,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    pub(crate) fn opcode(&self) -> u8 {
        self.first & 0x0F
    }

    /// Code and reason, of a Close.
    pub(crate) fn close(&self) -> (Option<u16>, String) {
        let code = self.payload.get(..2).and_then(|code| code.try_into().ok()).map(u16::from_be_bytes);
        (code, String::from_utf8_lossy(self.payload.get(2..).unwrap_or_default()).into_owned())
    }
}

pub(crate) const TEXT: u8 = 0x1;
pub(crate) const BINARY: u8 = 0x2;
pub(crate) const CLOSE: u8 = 0x8;
pub(crate) const PING: u8 = 0x9;
pub(crate) const PONG: u8 = 0xA;

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    Frame(Frame),
    /// The end of the connection, in good order.
    Eof,
    /// It was reset.
    Reset,
    /// Nothing, for as long as one waits.
    Silence,
}

/// How a connection ended, or did not.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ended {
    /// Texts and binaries before the Close.
    pub(crate) messages: Vec<String>,
    /// Code and reason; the first, if there were several.
    pub(crate) close: Option<(Option<u16>, String)>,
    /// What came after the Close and should not have.
    pub(crate) after_close: usize,
    pub(crate) how: Option<Heard>,
    pub(crate) pongs: usize,
}

impl Ended {
    /// What a page would report.
    pub(crate) fn browser(&self) -> String {
        match (&self.close, &self.how) {
            (Some((code, reason)), _) => {
                let code = code.unwrap_or(Observed::NoStatus.as_u16());
                if reason.is_empty() { format!("onclose {code}") } else { format!("onclose {code} \"{reason}\"") }
            }
            (None, Some(Heard::Silence)) => "nothing: the connection stays open".to_owned(),
            (None, _) => "onclose 1006, without a reason".to_owned(),
        }
    }

    /// In words.
    pub(crate) fn got(&self) -> String {
        let how = match &self.how {
            Some(Heard::Eof) => "then the end of the connection",
            Some(Heard::Reset) => "then a reset",
            _ => "and the connection stays open",
        };
        let messages = match self.messages.as_slice() {
            [] => String::new(),
            [one] => format!("a message ({}), ", cut(one)),
            all => format!("{} messages, ", all.len()),
        };
        match &self.close {
            Some((Some(code), reason)) if reason.is_empty() => format!("{messages}Close {code}, {how}"),
            Some((Some(code), reason)) => format!("{messages}Close {code} \"{reason}\", {how}"),
            Some((None, _)) => format!("{messages}an empty Close, {how}"),
            None => format!("{messages}no Close, {how}"),
        }
    }
}

fn cut(text: &str) -> String {
    let short: String = text.chars().take(80).collect();
    if short.len() < text.len() { format!("{short}…") } else { short }
}

/// What the handshake asks for, to be changed at will.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) key: String,
}

impl Ask {
    /// A handshake in which nothing is wrong.
    pub(crate) fn valid(target: &Target, rng: &mut StdRng) -> Self {
        let key = STANDARD.encode(rng.random::<[u8; 16]>());
        let mut headers: Vec<(String, String)> = [
            ("Host", &*target.authority),
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Key", &key),
            ("Sec-WebSocket-Version", "13"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        if !target.subprotocols.is_empty() {
            headers.push(("Sec-WebSocket-Protocol".to_owned(), target.subprotocols.join(", ")));
        }
        headers.extend(target.headers.iter().cloned());
        Self { method: "GET".to_owned(), path: target.path.clone(), headers, key }
    }

    #[must_use]
    pub(crate) fn set(mut self, name: &str, value: &str) -> Self {
        self.headers.retain(|(header, _)| !header.eq_ignore_ascii_case(name));
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    #[must_use]
    pub(crate) fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(header, _)| !header.eq_ignore_ascii_case(name));
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.path);
        for (name, value) in &self.headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        head.push_str("\r\n");
        head.into_bytes()
    }

    /// Whether an answer accepts exactly this.
    pub(crate) fn is_accepted_by(&self, head: &Head) -> bool {
        let accept = STANDARD.encode(Sha1::new().chain_update(&self.key).chain_update(GUID).finalize());
        head.status == 101 && head.header("sec-websocket-accept") == Some(&accept)
    }
}

pub(crate) struct Peer {
    io: Box<dyn Duplex>,
    input: Vec<u8>,
    ended: Option<Heard>,
    pub(crate) rng: StdRng,
    patience: Duration,
    transcript: Transcript,
    began: Instant,
}

/// What went over the wire, both ways, of all connections of a scenario.
#[derive(Clone, Debug, Default)]
pub(crate) struct Transcript(Arc<Mutex<String>>);

impl Transcript {
    pub(crate) fn text(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn add(&self, line: fmt::Arguments<'_>) {
        let mut text = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if text.len() < TRANSCRIPT_BYTES {
            let _ = writeln!(text, "{line}");
        }
    }
}

impl Peer {
    pub(crate) async fn dial(target: &Target, seed: u64, transcript: Transcript) -> io::Result<Self> {
        let io = target.dial().await?;
        Ok(Self {
            io,
            input: Vec::new(),
            ended: None,
            rng: StdRng::seed_from_u64(seed),
            patience: target.patience,
            transcript,
            began: Instant::now(),
        })
    }

    fn note(&mut self, arrow: &str, bytes: &[u8]) {
        let ms = self.began.elapsed().as_millis();
        let shown = &bytes[..bytes.len().min(256)];
        let rest = bytes.len() - shown.len();
        let more = if rest > 0 { format!(" … and {rest} bytes more") } else { String::new() };
        self.transcript.add(format_args!("{ms:>5} ms {arrow} {}{more}", shown.escape_ascii()));
    }

    /// False when the server takes nothing any more.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> bool {
        self.note("→", bytes);
        let written = timeout(self.patience, async {
            self.io.write_all(bytes).await?;
            self.io.flush().await
        });
        matches!(written.await, Ok(Ok(())))
    }

    /// Our side ends: half-closed.
    pub(crate) async fn fin(&mut self) {
        self.note("→", b"(FIN)");
        let _ = timeout(self.patience, self.io.shutdown()).await;
    }

    /// Reads some more; how it ended where it did.
    async fn more(&mut self, until: Instant) -> Result<(), Heard> {
        if let Some(ended) = &self.ended {
            return Err(ended.clone());
        }
        let mut buffer = vec![0; 16 * 1024];
        let read = tokio::time::timeout_at(until, self.io.read(&mut buffer)).await;
        let ended = match read {
            Err(_) => return Err(Heard::Silence),
            Ok(Ok(0)) => Heard::Eof,
            Ok(Ok(bytes)) => {
                self.note("←", &buffer[..bytes]);
                if self.input.len() < KEPT_BYTES {
                    self.input.extend_from_slice(&buffer[..bytes]);
                }
                return Ok(());
            }
            // TLS that ends without its own goodbye.
            Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => Heard::Eof,
            Ok(Err(_)) => Heard::Reset,
        };
        self.note("←", if ended == Heard::Eof { b"(FIN)" } else { b"(RST)" });
        self.ended = Some(ended.clone());
        Err(ended)
    }

    /// The head of an answer, and its body as far as it says how long that is.
    pub(crate) async fn head(&mut self) -> Result<Head, Heard> {
        let until = Instant::now() + self.patience;
        let end = loop {
            if let Some(at) = self.input.windows(4).position(|window| window == b"\r\n\r\n") {
                break at;
            }
            if self.input.len() > HEAD_BYTES {
                return Err(Heard::Silence);
            }
            self.more(until).await?;
        };
        let text = String::from_utf8_lossy(&self.input[..end]).into_owned();
        self.input.drain(..end + 4);
        let mut lines = text.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|status| status.parse().ok());
        let headers = lines.filter_map(|line| line.split_once(':'));
        let headers = headers.map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned())).collect();
        let mut head = Head { status: status.unwrap_or(0), headers, body: String::new() };
        if head.status == 101 {
            return Ok(head);
        }
        let length = head.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(BODY_BYTES);
        while self.input.len() < length.min(BODY_BYTES) {
            if self.more(until).await.is_err() {
                break;
            }
        }
        head.body = String::from_utf8_lossy(&self.input[..self.input.len().min(length)]).into_owned();
        Ok(head)
    }

    /// A frame with this first byte: FIN, reserved bits, opcode.
    pub(crate) fn frame(&mut self, first: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = self.header(first, payload.len() as u64);
        let key: [u8; 4] = self.rng.random();
        bytes[1] |= 0x80;
        bytes.extend(key);
        let start = bytes.len();
        bytes.extend_from_slice(payload);
        frame::mask(&mut bytes[start..], key, 0);
        bytes
    }

    /// The same without a mask, which a client may not send.
    pub(crate) fn unmasked(&self, first: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = self.header(first, payload.len() as u64);
        bytes.extend_from_slice(payload);
        bytes
    }

    /// A header that declares so many bytes, in as few as that takes.
    pub(crate) fn header(&self, first: u8, len: u64) -> Vec<u8> {
        let mut bytes = vec![first];
        match len {
            0..=125 => bytes.push(len as u8),
            126..=0xFFFF => {
                bytes.push(126);
                bytes.extend((len as u16).to_be_bytes());
            }
            _ => {
                bytes.push(127);
                bytes.extend(len.to_be_bytes());
            }
        }
        bytes
    }

    pub(crate) fn text(&mut self, text: &str) -> Vec<u8> {
        self.frame(0x80 | TEXT, text.as_bytes())
    }

    pub(crate) fn close(&mut self, payload: &[u8]) -> Vec<u8> {
        self.frame(0x80 | CLOSE, payload)
    }

    /// The next frame, or that there is none.
    pub(crate) async fn next(&mut self) -> Heard {
        self.next_until(Instant::now() + self.patience).await
    }

    async fn next_until(&mut self, until: Instant) -> Heard {
        loop {
            if let Some(frame) = self.take() {
                return Heard::Frame(frame);
            }
            if let Err(ended) = self.more(until).await {
                return ended;
            }
        }
    }

    fn take(&mut self) -> Option<Frame> {
        let (&first, &second) = (self.input.first()?, self.input.get(1)?);
        let (len, mut at) = match second & 0x7F {
            126 => (u64::from(u16::from_be_bytes(self.input.get(2..4)?.try_into().ok()?)), 4),
            127 => (u64::from_be_bytes(self.input.get(2..10)?.try_into().ok()?), 10),
            short => (u64::from(short), 2),
        };
        let masked = second & 0x80 != 0;
        let key: Option<[u8; 4]> = if masked { Some(self.input.get(at..at + 4)?.try_into().ok()?) } else { None };
        at += if masked { 4 } else { 0 };
        let end = at.checked_add(usize::try_from(len).ok()?)?;
        let mut payload = self.input.get(at..end)?.to_vec();
        if let Some(key) = key {
            frame::mask(&mut payload, key, 0);
        }
        self.input.drain(..end);
        Some(Frame { first, masked, payload })
    }

    /// Reads on to the end, answering a Close as a client does, or until nothing comes any more.
    pub(crate) async fn read_to_end(&mut self) -> Ended {
        let mut ended = Ended::default();
        let mut until = Instant::now() + self.patience;
        loop {
            match self.next_until(until).await {
                Heard::Frame(frame) if ended.close.is_some() => {
                    ended.after_close += 1;
                    drop(frame);
                }
                Heard::Frame(frame) => match frame.opcode() {
                    CLOSE => {
                        ended.close = Some(frame.close());
                        let echo = self.close(frame.payload.get(..2).unwrap_or_default());
                        self.write(&echo).await;
                        // A server has to end the connection now.
                        until = Instant::now() + self.patience;
                    }
                    PING => {
                        let pong = self.frame(0x80 | PONG, &frame.payload);
                        self.write(&pong).await;
                    }
                    PONG => ended.pongs += 1,
                    _ => ended.messages.push(String::from_utf8_lossy(&frame.payload).into_owned()),
                },
                how => {
                    ended.how = Some(how);
                    return ended;
                }
            }
        }
    }
}

/// A Close's payload.
pub(crate) fn code(code: u16, reason: &[u8]) -> Vec<u8> {
    [&code.to_be_bytes(), reason].concat()
}
