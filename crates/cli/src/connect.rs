//! `saywhy connect`: a client for a terminal and for pipes, that always says how it ended.

use crate::check::{colour, data};
use crate::config::{self, Complaint, escape};
use clap::Args;
use saywhy_client::{Close, Connect, Connection, Error, Incoming, Source};
use serde_json::{Map, Value, json};
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

/// What offers the envelope, and readable refusals.
const SAYWHY_V1: &str = "saywhy.v1";
/// Lines of standard input that wait to be sent.
const LINES: usize = 64;
/// Bytes that wait for the network before more lines are read.
const BACKLOG_BYTES: usize = 1024 * 1024;

/// How it went, for scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// Closed by us, or by the server with 1000.
    Done = 0,
    /// The server ended it in another way, or the network did.
    Failed = 1,
    /// It could not even be tried.
    Usage = 2,
    /// There is no connection to be had.
    Unreachable = 3,
    /// The server said no.
    Refused = 4,
    /// It was not open in time.
    TimedOut = 5,
    /// Ctrl-C.
    Interrupted = 130,
}

/// What `saywhy connect` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Each line of standard input is sent as a message, each message that comes is a line of standard output; everything
else is said on standard error. On a terminal a line that begins with / is a command: /help lists them.

  saywhy connect ws://127.0.0.1:8080/ws --token-file alice.jwt --join lobby
  echo '{\"type\":\"ping\"}' | saywhy connect ws://127.0.0.1:8080/ws --token-file alice.jwt
  saywhy connect wss://example.com/graphql --protocol graphql-transport-ws --header 'Cookie: id=1'

SAYWHY_CONNECT_TOKEN holds a token, too. Exit codes: 0 closed here, or by the server with 1000; 1 the server ended it with
another code, or the network did; 2 usage; 3 unreachable; 4 refused; 5 not open in time; 130 interrupted.")]
pub(crate) struct ConnectArgs {
    /// ws:// or wss://
    url: String,
    /// A file with the token, which is sent as Authorization: Bearer
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// A header of the handshake: `Name: value`. As often as there are some
    #[arg(long, value_name = "HEADER", value_parser = header)]
    header: Vec<(http::HeaderName, http::HeaderValue)>,
    /// The page to be: some servers take no connection without an Origin
    #[arg(long, value_name = "ORIGIN")]
    origin: Option<http::HeaderValue>,
    /// A subprotocol to offer instead of saywhy.v1. As often as there are some
    #[arg(long, value_name = "NAME")]
    protocol: Vec<String>,
    /// Offer no subprotocol
    #[arg(long, conflicts_with = "protocol")]
    plain: bool,
    /// Join this room as soon as it is open. As often as there are some
    #[arg(long, value_name = "ROOM")]
    join: Vec<String>,
    /// Trust the certificates in this file, in PEM, and no others
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// How long it may take until it is open
    #[arg(long, value_name = "MS", default_value_t = 10_000)]
    timeout_ms: u64,
    /// When standard input has ended: close once nothing has come for so long
    #[arg(long, value_name = "MS", default_value_t = 1_000)]
    linger_ms: u64,
    /// Print every event as a JSON object on a line of its own
    #[arg(long)]
    json: bool,
}

fn header(text: &str) -> Result<(http::HeaderName, http::HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("a header is `Name: value`")?;
    let name = name.trim().parse().map_err(|_| "that is not the name of a header")?;
    let mut value: http::HeaderValue = value.trim().parse().map_err(|_| "a header has visible characters only")?;
    value.set_sensitive(true);
    Ok((name, value))
}

/// Connects, and talks until it is over.
pub(crate) fn run(args: &ConnectArgs) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("failed to start: {error}"), "is the machine out of open files?"),
    };
    let outcome = match runtime.block_on(talk(args)) {
        Ok(outcome) => outcome,
        Err(complaint) => {
            eprint!("{}", config::render("error:", &complaint, colour()));
            Outcome::Usage
        }
    };
    ExitCode::from(outcome as u8)
}

fn fail(what: &str, hint: &str) -> ExitCode {
    eprint!("{}", config::render("error:", &Complaint::new(what, hint), colour()));
    ExitCode::from(Outcome::Failed as u8)
}

async fn talk(args: &ConnectArgs) -> Result<Outcome, Complaint> {
    let connect = target(args)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| {
        Complaint::new(format!("failed to listen for Ctrl-C: {error}"), "is the machine out of open files?")
    })?;
    let shown = Shown { json: args.json, terminal: io::stdout().is_terminal() };
    let opened = tokio::select! {
        opened = connect.open() => opened,
        _ = interrupt.recv() => {
            shown.note("interrupted before it was open");
            return Ok(Outcome::Interrupted);
        }
    };
    match opened {
        Ok(connection) => {
            let mut talk = Talk { connection, shown, args, is_open: false, said: None, id: 0 };
            Ok(talk.run(&mut interrupt).await)
        }
        Err(error) => {
            let (what, outcome) = match (error.said_by(), error.name()) {
                (_, "not_ready") => ("too late", Outcome::TimedOut),
                (Source::Network, _) => ("unreachable", Outcome::Unreachable),
                (Source::Client, _) => ("not tried", Outcome::Usage),
                (Source::Http | Source::Server | Source::Close, _) => ("refused", Outcome::Refused),
            };
            shown.ended(what, &error);
            Ok(outcome)
        }
    }
}

fn target(args: &ConnectArgs) -> Result<Connect, Complaint> {
    let usage = |error: Error| Complaint::new(error.to_string(), "saywhy connect --help shows how it is called");
    let offered = match (args.plain, args.protocol.is_empty()) {
        (true, _) => Vec::new(),
        (false, true) => vec![SAYWHY_V1.to_owned()],
        (false, false) => args.protocol.clone(),
    };
    // What it says is looked at here, and shown as it is.
    let mut connect = Connect::to(&args.url).map_err(usage)?.plain(offered);
    connect = connect.within(Duration::from_millis(args.timeout_ms));
    for (name, value) in args.header.iter().cloned() {
        connect = connect.header(name, value);
    }
    if let Some(origin) = &args.origin {
        connect = connect.header(http::header::ORIGIN, origin.clone());
    }
    if let Some(file) = &args.ca {
        connect = connect.trusting(file).map_err(usage)?;
    }
    let token = match &args.token_file {
        Some(file) => Some(std::fs::read_to_string(file).map_err(|error| {
            let what = format!("the token cannot be read: {}: {error}", escape(&file.display().to_string()));
            Complaint::new(what, "`saywhy token make` makes one")
        })?),
        None => std::env::var("SAYWHY_CONNECT_TOKEN").ok(),
    };
    Ok(match token {
        Some(token) => connect.token(token.trim()),
        None => connect,
    })
}

// ---- the conversation --------------------------------------------------------------------------------------------

struct Talk<'a> {
    connection: Connection,
    shown: Shown,
    args: &'a ConnectArgs,
    /// The server said `ready`, or speaks something else.
    is_open: bool,
    /// Its last fatal error.
    said: Option<Value>,
    id: u32,
}

/// What a line of standard input asks for.
enum Ask {
    Send(String),
    Binary(Vec<u8>),
    Close(u16, String),
    Help,
    Wrong(&'static str),
}

impl Talk<'_> {
    async fn run(&mut self, interrupt: &mut Signal) -> Outcome {
        let speaks = self.connection.protocol() == Some(SAYWHY_V1);
        self.shown.open(self.connection.protocol());
        if !speaks {
            self.opened();
        }
        let ready_by = Instant::now() + Duration::from_millis(self.args.timeout_ms);
        let mut lines = lines();
        let (mut has_input, mut outcome, mut quiet_since) = (true, Outcome::Done, Instant::now());
        loop {
            let backlog = self.connection.backlog();
            let is_ready = self.is_open && backlog < BACKLOG_BYTES;
            // When there is nothing more to come, all of it has to leave.
            let wanted = if has_input { BACKLOG_BYTES } else { 1 };
            let quiet = quiet_since + Duration::from_millis(self.args.linger_ms);
            tokio::select! {
                incoming = self.connection.next_or_drained(wanted) => match incoming {
                    Ok(incoming) => {
                        quiet_since = Instant::now();
                        incoming.into_iter().for_each(|incoming| self.heard(incoming));
                    }
                    Err(end) => return self.ended(&end),
                },
                line = lines.recv(), if is_ready && has_input => match line {
                    Some(Ok(line)) => {
                        if let Some((code, reason)) = self.asked(&line) {
                            return self.close(code, &reason, outcome, interrupt).await;
                        }
                    }
                    Some(Err(what)) => {
                        self.shown.note(&format!("error: {what}"));
                        (has_input, outcome, quiet_since) = (false, Outcome::Failed, Instant::now());
                    }
                    None => (has_input, quiet_since) = (false, Instant::now()),
                },
                () = sleep_until(quiet), if self.is_open && !has_input && backlog == 0 => {
                    return self.close(NORMAL, "", outcome, interrupt).await;
                }
                () = sleep_until(ready_by), if !self.is_open => {
                    self.shown.note("the server did not say `ready` in time; hint: --plain talks to a server of another kind");
                    return self.close(NORMAL, "", Outcome::TimedOut, interrupt).await;
                }
                _ = interrupt.recv() => return self.close(NORMAL, "", Outcome::Interrupted, interrupt).await,
            }
        }
    }

    fn heard(&mut self, incoming: Incoming) {
        match incoming {
            Incoming::Binary(bytes) => self.shown.binary(&bytes),
            // It is a plain connection: nothing is understood, everything is text.
            Incoming::Text(text) => {
                self.shown.text(&text);
                let Ok(message) = serde_json::from_str::<Value>(&text) else { return };
                match message.get("type").and_then(Value::as_str) {
                    Some("ready") if !self.is_open => self.opened(),
                    Some("error" | "goodbye") if message.pointer("/data/fatal") == Some(&Value::Bool(true)) => {
                        self.said = Some(message);
                    }
                    _ => {}
                }
            }
            _ => {}
        }
    }

    fn opened(&mut self) {
        self.is_open = true;
        for room in &self.args.join {
            self.id += 1;
            let join =
                json!({ "type": "join", "data": { "room": room }, "meta": { "request_id": self.id.to_string() } });
            let _ = self.connection.send_text(&join.to_string());
        }
    }

    /// What is to be closed with, if that is what the line asks for.
    fn asked(&mut self, line: &str) -> Option<(u16, String)> {
        let ask = if io::stdin().is_terminal() { ask(line, &mut self.id) } else { Ask::Send(line.to_owned()) };
        let sent = match ask {
            Ask::Send(text) => self.connection.send_text(&text),
            Ask::Binary(bytes) => self.connection.send_binary(&bytes),
            Ask::Close(code, reason) => return Some((code, reason)),
            Ask::Help => {
                self.shown.note(COMMANDS);
                Ok(())
            }
            Ask::Wrong(why) => {
                self.shown.note(why);
                Ok(())
            }
        };
        if let Err(error) = sent {
            self.shown.note(&error.to_string());
        }
        None
    }

    async fn close(&mut self, code: u16, reason: &str, outcome: Outcome, interrupt: &mut Signal) -> Outcome {
        let closed = tokio::select! {
            closed = self.connection.close(code, reason) => closed,
            _ = interrupt.recv() => return Outcome::Interrupted,
        };
        match closed {
            Ok(close) => {
                self.shown.closed_here(code, reason, close.as_ref());
                match self.connection.backlog() {
                    0 => outcome,
                    unsent => {
                        self.shown.note(&format!("{unsent} bytes were not taken by the server in time"));
                        Outcome::Failed
                    }
                }
            }
            Err(error) => {
                self.shown.note(&error.to_string());
                Outcome::Usage
            }
        }
    }

    fn ended(&self, end: &Error) -> Outcome {
        // A refusal in the `close` form comes after the 101.
        let what = if self.is_open { "closed" } else { "refused" };
        self.shown.ended_after(what, end, self.said.as_ref());
        match (self.is_open, end.close()) {
            (false, Some(_)) => Outcome::Refused,
            (false, None) => Outcome::Failed,
            (true, Some(Close { code: NORMAL, .. })) => Outcome::Done,
            (true, _) => Outcome::Failed,
        }
    }
}

const NORMAL: u16 = saywhy::CloseCode::NORMAL.as_u16();

const COMMANDS: &str = "\
/join ROOM            join a room
/say ROOM TEXT        say something in it
/leave ROOM           leave it
/ping                 ask whether the server lives
/binary HEX           send bytes
/close [CODE [WHY]]   end it, with 1000 by default
//…                   send a line that begins with /
everything else       is sent as it is";

/// What a line on a terminal asks for.
fn ask(line: &str, id: &mut u32) -> Ask {
    let Some(command) = line.strip_prefix('/') else { return Ask::Send(line.to_owned()) };
    if command.starts_with('/') {
        return Ask::Send(command.to_owned());
    }
    let (command, rest) = command.split_once(' ').unwrap_or((command, ""));
    let rest = rest.trim();
    let mut request = |kind: &str, data: Value| {
        *id += 1;
        Ask::Send(json!({ "type": kind, "data": data, "meta": { "request_id": id.to_string() } }).to_string())
    };
    match (command, rest) {
        ("help", _) => Ask::Help,
        ("ping", _) => request("ping", json!({})),
        ("join" | "leave", "") => Ask::Wrong("which room? /join ROOM, /leave ROOM"),
        ("join" | "leave", room) => request(command, json!({ "room": room })),
        ("say", rest) => match rest.split_once(' ') {
            // What people call saying is the request `send`.
            Some((room, body)) => request("send", json!({ "room": room, "body": body })),
            None => Ask::Wrong("what, and where? /say ROOM TEXT"),
        },
        ("binary", hex) => match bytes(hex) {
            Some(bytes) => Ask::Binary(bytes),
            None => Ask::Wrong("bytes are pairs of hex digits: /binary 00 ff"),
        },
        ("close", "") => Ask::Close(NORMAL, String::new()),
        ("close", rest) => {
            let (code, reason) = rest.split_once(' ').unwrap_or((rest, ""));
            match code.parse() {
                Ok(code) => Ask::Close(code, reason.to_owned()),
                Err(_) => Ask::Wrong("a code is a number: /close 4000 done here"),
            }
        }
        _ => Ask::Wrong("there is no such command; /help lists them, and // sends a line that begins with /"),
    }
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = hex.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let pairs = digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
    if digits.len().is_multiple_of(2) { pairs.collect() } else { None }
}

/// Lines of standard input, from a thread of their own: nothing else can wait for them and for the network.
fn lines() -> mpsc::Receiver<Result<String, String>> {
    let (sender, lines) = mpsc::channel(LINES);
    std::thread::spawn(move || {
        for (number, line) in (1..).zip(io::stdin().lock().lines()) {
            let line = line.map_err(|error| format!("line {number} of standard input cannot be sent: {error}"));
            let is_last = line.is_err();
            if sender.blocking_send(line).is_err() || is_last {
                return;
            }
        }
    });
    lines
}

// ---- what is shown -----------------------------------------------------------------------------------------------

#[derive(Clone, Copy)]
struct Shown {
    json: bool,
    terminal: bool,
}

impl Shown {
    fn event(self, event: &str, mut facts: Value) {
        facts["event"] = event.replace(' ', "_").into();
        data(&facts.to_string());
    }

    /// For people only. Unlike `eprintln!`, without a panic when nobody listens any more.
    fn note(self, words: &str) {
        let _ = writeln!(io::stderr(), "{words}");
    }

    fn open(self, protocol: Option<&str>) {
        if self.json {
            return self.event("open", json!({ "protocol": protocol }));
        }
        match protocol {
            Some(protocol) => self.note(&format!("open: 101, subprotocol {}", escape(protocol))),
            None => self.note("open: 101, no subprotocol"),
        }
    }

    fn text(self, text: &str) {
        if self.json {
            self.event("message", json!({ "text": text }));
        } else if self.terminal {
            data(&escape(text));
        } else {
            data(text);
        }
    }

    fn binary(self, bytes: &[u8]) {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        if self.json {
            self.event("message", json!({ "hex": hex }));
        } else {
            data(&format!("binary, {} bytes: {hex}", bytes.len()));
        }
    }

    fn closed_here(self, code: u16, reason: &str, answer: Option<&Close>) {
        if self.json {
            let answered = answer.map(|close| json!({ "code": close.code, "reason": close.reason }));
            return self.event("closed", json!({ "by": "us", "code": code, "reason": reason, "answer": answered }));
        }
        match answer {
            Some(close) => self.note(&format!("closed here: {code}, and the server answered {}", close.code)),
            None => self.note(&format!("closed here: {code}, and the server did not answer")),
        }
    }

    fn ended(self, what: &str, error: &Error) {
        self.ended_after(what, error, None);
    }

    /// All that is known of an ending: code, reason, status, body, what it means and what to do.
    fn ended_after(self, what: &str, error: &Error, said: Option<&Value>) {
        let named = said.and_then(|said| said.pointer("/data/name")).and_then(Value::as_str).unwrap_or(error.name());
        let id = said.and_then(|said| said.pointer("/meta/request_id")).and_then(Value::as_str).or(error.request_id());
        let retry = said.and_then(|said| said.pointer("/data/retry")).and_then(Value::as_str);
        let retry = retry.unwrap_or(error.retry().as_str());
        if self.json {
            let by = match error.said_by() {
                Source::Network => "network",
                Source::Client => "us",
                Source::Server | Source::Close | Source::Http => "server",
            };
            let facts = [
                ("by", Some(by.into())),
                ("name", Some(named.into())),
                ("message", Some(error.message().into())),
                ("code", error.close().map(|close| close.code.into())),
                ("reason", error.close().map(|close| close.reason.clone().into())),
                ("status", error.status().map(Value::from)),
                ("body", error.body().map(Value::from)),
                ("retry", Some(retry.into())),
                ("request_id", id.map(Value::from)),
                ("cause", error.cause().map(|cause| cause.to_string().into())),
            ];
            let facts: Map<_, _> =
                facts.into_iter().filter_map(|(name, fact)| Some((name.to_owned(), fact?))).collect();
            return self.event(what, Value::Object(facts));
        }
        let mut words = vec![match (error.close(), error.status()) {
            (Some(close), _) => {
                let reason =
                    if close.reason.is_empty() { String::new() } else { format!(" \"{}\"", escape(&close.reason)) };
                // That it was closed is said already.
                let named = if named == "closed" { String::new() } else { format!(", {}", escape(named)) };
                format!("{what}: {}{reason}{named}", close.code)
            }
            (None, Some(status)) => format!("{what}: HTTP {status}, {}", escape(named)),
            (None, None) => format!("{what}: {}", escape(&error.to_string())),
        }];
        if let Some(body) = error.body() {
            words.extend(body.lines().map(|line| format!("  {}", escape(line))));
        }
        if let Some(id) = id {
            words.push(format!("request id: {}", escape(id)));
        }
        words.push(format!("try again: {retry}"));
        if !error.help().is_empty() {
            words.push(format!("hint: {}", error.help()));
        }
        self.note(&words.join("\n"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(line: &str) -> String {
        match ask(line, &mut 0) {
            Ask::Send(text) => text,
            Ask::Binary(bytes) => format!("{bytes:?}"),
            Ask::Close(code, reason) => format!("{code} {reason}"),
            Ask::Help => "help".to_owned(),
            Ask::Wrong(why) => format!("wrong: {why}"),
        }
    }

    #[test]
    fn commands() {
        assert_eq!(sent("hello /there"), "hello /there");
        assert_eq!(sent("//join"), "/join");
        assert_eq!(sent("/join lobby"), r#"{"data":{"room":"lobby"},"meta":{"request_id":"1"},"type":"join"}"#);
        let said = r#"{"data":{"body":"two \"words\"","room":"lobby"},"meta":{"request_id":"1"},"type":"send"}"#;
        assert_eq!(sent("/say lobby two \"words\""), said);
        assert_eq!(sent("/binary 00 fF"), "[0, 255]");
        assert_eq!(sent("/close"), "1000 ");
        assert_eq!(sent("/close 4001 not here"), "4001 not here");
        for wrong in ["/", "/nonsense", "/join", "/say lobby", "/binary 0", "/binary xx", "/close now"] {
            assert!(sent(wrong).starts_with("wrong: "), "{wrong}");
        }
    }

    #[test]
    fn headers() {
        let (name, value) = header("Cookie: a=b: c").unwrap();
        assert_eq!((name.as_str(), value.to_str().unwrap()), ("cookie", "a=b: c"));
        for wrong in ["Cookie", "Coo kie: 1", "a: b\nc: d"] {
            assert!(header(wrong).is_err(), "{wrong}");
        }
    }
}
