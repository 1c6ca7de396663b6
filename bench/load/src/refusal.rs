//! Refused connections: in each of a few places one after the other, from the connection to the end of both sides.

use crate::Target;
use crate::client::{self, MASK, is_later};
use crate::sources::Sources;
use crate::window::Window;
use clap::{Args, ValueEnum};
use mio::event::Event;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use saywhy_codes::Role;
use saywhy_proto::frame::{self, Header, Opcode};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::net::Shutdown;
use std::rc::Rc;
use std::time::{Duration, Instant};

#[derive(Args)]
pub(crate) struct Settings {
    /// How the server refuses.
    #[arg(long, value_enum)]
    form: Form,
    /// Sends what a browser sends, whatever the form.
    #[arg(long)]
    browser: bool,
    /// Connections at a time.
    #[arg(long, default_value_t = 64)]
    places: usize,
}

#[derive(Clone, Copy, ValueEnum)]
enum Form {
    /// 101, a message and a Close, which is answered; the server ends the connection.
    Close,
    /// 401; the client ends the connection, as browsers do.
    Http,
}

/// The close code of the refusal.
const CLOSE_CODE: u16 = 4003;
const TURN: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn run(target: &Target, settings: &Settings) -> io::Result<Value> {
    let more = if settings.browser {
        format!("Origin: http://{}\r\nSec-WebSocket-Protocol: saywhy.v1\r\n", target.address)
    } else {
        String::new()
    };
    let request = client::request(target.address, &target.path, &more);
    let (mut poll, mut events) = (Poll::new()?, Events::with_capacity(1024));
    let mut sources = Sources::new();
    let mut attempts = 0_u64;
    let mut begin = |poll: &Poll, place: usize| -> io::Result<Place> {
        attempts += 1;
        let mut tcp = sources.connect(target.address)?;
        poll.registry().register(&mut tcp, Token(place), Interest::READABLE | Interest::WRITABLE)?;
        Ok(Place { tcp, request: Some(Rc::clone(&request)), seen: Vec::new(), answered: false })
    };
    let mut places = (0..settings.places).map(|place| begin(&poll, place)).collect::<io::Result<Vec<_>>>()?;
    let mut refused = 0_u64;
    let mut failures: BTreeMap<String, u64> = BTreeMap::new();
    let mut window = Window::new(target)?;
    let mut progress = Instant::now();
    let measured = loop {
        if let Some(measured) = window.look(refused) {
            break measured;
        }
        poll.poll(&mut events, Some(TURN))?;
        if !events.is_empty() {
            progress = Instant::now();
        } else if progress.elapsed() > PATIENCE {
            return Err(io::Error::other("the server is silent"));
        }
        for event in &events {
            let index = event.token().0;
            match places[index].serve(event, settings.form) {
                Ok(false) => continue,
                Ok(true) => refused += 1,
                Err(error) => *failures.entry(error.to_string()).or_default() += 1,
            }
            places[index] = begin(&poll, index)?;
        }
    };
    let mut result = measured.json();
    let failed: u64 = failures.values().sum();
    result["attempts"] = json!(attempts);
    result["returned"] = json!(refused);
    result["failed"] = json!(failed);
    result["failures"] = json!(failures);
    result["under_way"] = json!(attempts - refused - failed);
    Ok(result)
}

/// A place, with the connection that is in it.
struct Place {
    tcp: TcpStream,
    /// Until it is sent.
    request: Option<Rc<[u8]>>,
    /// All that the server has said.
    seen: Vec<u8>,
    /// We have said our last.
    answered: bool,
}

impl Place {
    /// True when the connection is over, in good order.
    fn serve(&mut self, event: &Event, form: Form) -> io::Result<bool> {
        if event.is_writable()
            && let Some(request) = self.request.take()
        {
            if let Some(error) = self.tcp.take_error()? {
                return Err(error);
            }
            self.tcp.write_all(&request)?;
        }
        if !event.is_readable() && !event.is_read_closed() {
            return Ok(false);
        }
        let ended = self.read(event.is_read_closed())?;
        if !self.answered {
            match form {
                Form::Http if is_plain_no(&self.seen)? => {
                    self.answered = true;
                    if !ended {
                        self.tcp.shutdown(Shutdown::Write)?;
                    }
                }
                Form::Close if is_readable_no(&self.seen)? => {
                    self.answered = true;
                    let mut close = Vec::new();
                    frame::write(Opcode::Close, &CLOSE_CODE.to_be_bytes(), Some(MASK), &mut close);
                    self.tcp.write_all(&close)?;
                }
                Form::Http | Form::Close => {}
            }
        }
        match (ended, self.answered) {
            (true, false) => Err(io::Error::other("the server ended it before it had said why")),
            (ended, _) => Ok(ended),
        }
    }

    /// True at the end of what the server says.
    fn read(&mut self, to_end: bool) -> io::Result<bool> {
        let mut buffer = [0; 4096];
        loop {
            match self.tcp.read(&mut buffer) {
                Ok(0) => return Ok(true),
                Ok(read) => {
                    self.seen.extend_from_slice(&buffer[..read]);
                    if read < buffer.len() && !to_end {
                        return Ok(false);
                    }
                }
                Err(error) if is_later(&error) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
    }
}

/// Head and rest of an answer, when the head is whole.
fn split(seen: &[u8]) -> Option<(&str, &[u8])> {
    let end = seen.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    Some((std::str::from_utf8(&seen[..end]).ok()?, &seen[end..]))
}

/// Whether `seen` is a whole 401.
fn is_plain_no(seen: &[u8]) -> io::Result<bool> {
    let Some((head, body)) = split(seen) else { return Ok(false) };
    if !head.starts_with("HTTP/1.1 401 ") {
        return Err(wrong(head.lines().next().unwrap_or_default()));
    }
    let length = head.lines().filter_map(|line| line.split_once(':'));
    let mut length = length.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let length: usize = length.next().and_then(|(_, value)| value.trim().parse().ok()).unwrap_or_default();
    Ok(body.len() >= length)
}

/// Whether `seen` is a whole 101, text that names the error, and a Close that stands for it.
fn is_readable_no(seen: &[u8]) -> io::Result<bool> {
    let Some((head, mut rest)) = split(seen) else { return Ok(false) };
    if !head.starts_with("HTTP/1.1 101 ") {
        return Err(wrong(head.lines().next().unwrap_or_default()));
    }
    let mut explained = false;
    loop {
        let header = Header::parse(rest, Role::Server, false).map_err(|rule| wrong(&format!("{rule:?}")))?;
        let Some((header, at)) = header else { return Ok(false) };
        let Some(payload) = rest.get(at..at + header.len as usize) else { return Ok(false) };
        rest = &rest[at + payload.len()..];
        match (header.opcode, payload) {
            (Opcode::Text, text) => explained = text.windows(12).any(|words| words == b"unauthorized"),
            (Opcode::Close, [a, b, _, ..]) if explained && u16::from_be_bytes([*a, *b]) == CLOSE_CODE => {
                return Ok(true);
            }
            (Opcode::Close, _) => return Err(wrong("a Close without words, or with the wrong code")),
            (other, _) => return Err(wrong(&format!("{other:?}"))),
        }
    }
}

fn wrong(what: &str) -> io::Error {
    io::Error::other(format!("the server answered {what}"))
}
