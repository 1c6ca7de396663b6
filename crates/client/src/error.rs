//! What went wrong, in one shape, whoever says so.

use crate::wire::Said;
use saywhy_codes::catalogue::{HISTORY_LOST, MESSAGE_TOO_BIG};
use saywhy_codes::{Catalogue, ErrorCode, Observed, Retry, Role};
use saywhy_proto::retry::{self, Because, Decision, Event, RetryMachine};
use serde_json::{Map, Value};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A refusal, a recoverable error or an ending, and what to do about it. Cheap to clone.
///
/// Its `Display` is a sentence: `unauthorized: Sign in and try again (4003, request 01a1f9…)`.
#[derive(Clone)]
pub struct Error(Arc<Facts>);

/// What is known of an error.
#[derive(Clone, Debug)]
struct Facts {
    name: String,
    message: String,
    source: Source,
    code: Option<u16>,
    retry: Retry,
    /// What the server said about trying again, which may be nothing.
    asked: Option<Retry>,
    fatal: bool,
    request_id: Option<String>,
    close: Option<Close>,
    status: Option<u16>,
    body: Option<String>,
    details: Map<String, Value>,
    cause: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

/// Who said it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The server, in a message.
    Server,
    /// The server, in its Close and nowhere else.
    Close,
    /// The server, in an answer to the handshake that is no 101.
    Http,
    /// Nobody: the network, or its silence.
    Network,
    /// This client.
    Client,
}

/// A Close as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Close {
    /// Its code; 1005 when it had none.
    pub code: u16,
    /// Its reason, which may be empty.
    pub reason: String,
}

impl Error {
    fn of(name: impl Into<String>, message: impl Into<String>, source: Source) -> Self {
        Self(Arc::new(Facts {
            name: name.into(),
            message: message.into(),
            source,
            code: None,
            retry: Retry::Never,
            asked: None,
            fatal: false,
            request_id: None,
            close: None,
            status: None,
            body: None,
            details: Map::new(),
            cause: None,
        }))
    }

    fn with(mut self, change: impl FnOnce(&mut Facts)) -> Self {
        change(Arc::make_mut(&mut self.0));
        self
    }

    /// Stable, and what people search for: a name of the catalogue, or one of this client's own: `connection_lost`,
    /// `not_ready`, `not_a_websocket`, `cannot_connect`, `closed`, `no_answer`, `queue_full`, `token_unavailable`,
    /// `bad_answer`.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// For people.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Who says so. (`std::error::Error::source` is [what is behind it](Self::cause).)
    pub fn said_by(&self) -> Source {
        self.0.source
    }

    /// The number of the catalogue, or that of the Close; `None` where this client speaks.
    pub fn code(&self) -> Option<u16> {
        self.0.code
    }

    /// Whether to try again, and when.
    pub fn retry(&self) -> Retry {
        self.0.retry
    }

    /// Whether the connection ended with it.
    pub fn is_fatal(&self) -> bool {
        self.0.fatal
    }

    /// What the operator finds it by.
    pub fn request_id(&self) -> Option<&str> {
        self.0.request_id.as_deref()
    }

    /// The Close that came with it, where one came.
    pub fn close(&self) -> Option<&Close> {
        self.0.close.as_ref()
    }

    /// The HTTP status of a handshake that was refused in HTTP.
    pub fn status(&self) -> Option<u16> {
        self.0.status
    }

    /// The body of such an answer, where it is text: its first 64 KiB.
    pub fn body(&self) -> Option<&str> {
        self.0.body.as_deref()
    }

    /// Public, structured, chosen by the application.
    pub fn details(&self) -> &Map<String, Value> {
        &self.0.details
    }

    /// What is behind it, where that is an error of the system, of TLS or of HTTP.
    pub fn cause(&self) -> Option<&(dyn std::error::Error + Send + Sync + 'static)> {
        self.0.cause.as_deref()
    }

    /// The row of the catalogue that it stands for.
    pub fn row(&self) -> Option<ErrorCode> {
        Catalogue::builtin().by_name(&self.0.name)
    }

    /// For the developer: what to do about it. Empty where nothing is known that the message does not say.
    pub fn help(&self) -> &'static str {
        match (self.0.name.as_str(), self.row()) {
            (_, Some(row)) => row.page.what_to_do,
            ("connection_lost", _) if self.0.cause.is_some() => {
                "Is the server running, and can it be reached from here?"
            }
            ("not_ready", _) => "Is it a server of another kind? Then connect to it as a plain one",
            ("connection_lost", _) if self.0.fatal => {
                "The network, a proxy or the server went away without a Close: the server's log has the cause, if it is there"
            }
            ("cannot_connect", _) => "Check the URL, and what the machine says about the connection: `cause`",
            ("token_unavailable", _) => "The function that was given as the source of tokens failed",
            ("queue_full", _) => "Wait for answers before you ask for more",
            _ => "",
        }
    }

    // ---- how they come about ---------------------------------------------------------------------------------

    /// A server's last word, and the Close after it, where one came.
    pub(crate) fn last_word(said: &Said, close: Option<Close>) -> Self {
        Self::said(said, close).with(|facts| facts.fatal = true)
    }

    /// That code is not a client's to send.
    pub(crate) fn unsendable(code: u16) -> Self {
        Self::of("cannot_connect", format!("{code} may not be sent in a Close"), Source::Client)
    }

    /// A server's words, in a message. `close` is what came after it, if it was the last word.
    pub(crate) fn said(said: &Said, close: Option<Close>) -> Self {
        let row = said.row();
        let name = said.name.clone().or(row.map(|row| row.name.to_owned())).unwrap_or_else(|| "unnamed".to_owned());
        let message = match &*said.message {
            "" => row.map_or("", |row| row.message).to_owned(),
            words => words.to_owned(),
        };
        Self::of(name, message, Source::Server).with(|facts| {
            facts.code = said.code;
            facts.asked = said.retry;
            facts.retry = said.retry.or(row.map(|row| row.retry)).unwrap_or(Retry::Never);
            facts.fatal = said.fatal || close.is_some();
            facts.request_id = said.request_id.clone();
            facts.details = said.details.clone();
            facts.close = close;
        })
    }

    /// A Close before which nothing was said.
    pub(crate) fn closed(close: Close) -> Self {
        let because = meaning(&close);
        let row = because.and_then(|because| because.row);
        let message = match (&*close.reason, row) {
            ("", Some(row)) => row.message.to_owned(),
            ("", None) => format!("The server closed the connection ({})", close.code),
            (reason, _) => reason.to_owned(),
        };
        Self::of(row.map_or("closed", |row| row.name), message, Source::Close).with(|facts| {
            facts.code = Some(close.code);
            facts.retry = because.map_or(Retry::Backoff, |because| because.retry);
            facts.fatal = true;
            facts.close = Some(close);
        })
    }

    /// The handshake was answered in HTTP.
    pub(crate) fn refused(status: u16, said: Said, body: Option<String>) -> Self {
        let row = said.row().unwrap_or_else(|| Catalogue::by_http_status(status));
        let name = said.name.clone().unwrap_or_else(|| row.name.to_owned());
        let message = if said.message.is_empty() { row.message.to_owned() } else { said.message.clone() };
        Self::of(name, message, Source::Http).with(|facts| {
            facts.code = Some(said.code.unwrap_or(row.code));
            facts.asked = said.retry;
            facts.retry = said.retry.unwrap_or(row.retry);
            facts.fatal = true;
            facts.status = Some(status);
            facts.body = body;
            facts.request_id = said.request_id.clone();
            facts.details = said.details;
        })
    }

    pub(crate) fn lost(message: impl Into<String>) -> Self {
        Self::of("connection_lost", message, Source::Network).with(|facts| {
            facts.code = Some(Observed::Abnormal.as_u16());
            facts.retry = Retry::Backoff;
            facts.fatal = true;
        })
    }

    /// It was not open in time.
    pub(crate) fn not_ready(within: Duration) -> Self {
        let words = format!("It was not ready within {within:?}");
        Self::lost(words).with(|facts| "not_ready".clone_into(&mut facts.name))
    }

    /// The connection went while a request was under way.
    pub(crate) fn unanswered() -> Self {
        let words = "The connection was lost before the answer came: nobody knows whether it was done";
        Self::lost(words).with(|facts| facts.fatal = false)
    }

    /// It cannot be had now, and perhaps later.
    pub(crate) fn unreachable(message: &str, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::lost(message).because(cause)
    }

    /// It cannot even be tried: the same again would fail in the same way.
    pub(crate) fn cannot_connect(message: impl Into<String>) -> Self {
        Self::of("cannot_connect", message, Source::Client).with(|facts| facts.fatal = true)
    }

    /// Whether it is that, whatever a server calls its own errors.
    pub(crate) fn is_final(&self) -> bool {
        self.0.source == Source::Client && self.0.name == "cannot_connect"
    }

    /// What answers is no WebSocket server, at least not now: it may be a page that says that one is coming.
    pub(crate) fn not_a_websocket(status: u16, message: String) -> Self {
        Self::of("not_a_websocket", message, Source::Http).with(|facts| {
            facts.status = Some(status);
            facts.retry = Retry::Backoff;
            facts.asked = Some(Retry::Backoff);
            facts.fatal = true;
        })
    }

    pub(crate) fn no_token(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        let error = Self::of("token_unavailable", "There is no token to connect with", Source::Client);
        error.with(|facts| facts.retry = Retry::Backoff).because(cause)
    }

    pub(crate) fn closed_here() -> Self {
        Self::of("closed", "The connection was closed here", Source::Client).with(|facts| facts.fatal = true)
    }

    pub(crate) fn no_answer(ms: u128) -> Self {
        Self::of("no_answer", format!("No answer came within {ms} ms"), Source::Client)
            .with(|facts| facts.retry = Retry::Backoff)
    }

    pub(crate) fn queue_full() -> Self {
        Self::of("queue_full", "Too much is waiting to be sent", Source::Client)
            .with(|facts| facts.retry = Retry::Backoff)
    }

    pub(crate) fn too_big(bytes: usize) -> Self {
        let words = format!("The message has {bytes} bytes, and the server takes fewer");
        Self::of("message_too_big", words, Source::Client).with(|facts| facts.code = Some(MESSAGE_TOO_BIG.code))
    }

    pub(crate) fn not_json(cause: serde_json::Error) -> Self {
        Self::of("bad_request", "The data is not JSON", Source::Client).because(cause)
    }

    pub(crate) fn bad_answer(kind: &str) -> Self {
        Self::of("bad_answer", format!("The server's answer is not what {kind} is answered with"), Source::Client)
    }

    pub(crate) fn history_lost() -> Self {
        let words = "Messages are missing: the server went on without them";
        Self::of("history_lost", words, Source::Client).with(|facts| facts.code = Some(HISTORY_LOST.code))
    }

    /// With what the retry contract made of it.
    pub(crate) fn decided(self, retry: Retry) -> Self {
        self.with(|facts| facts.retry = retry)
    }

    /// What a server's words ask for, for the retry machine; `None` where there were none.
    pub(crate) fn asks(&self) -> Option<retry::Said<'_>> {
        let is_said = matches!(self.0.source, Source::Server | Source::Http);
        let Facts { name, code, asked, .. } = &*self.0;
        is_said.then(|| retry::Said { code: code.unwrap_or_default(), name: Some(name), retry: *asked })
    }

    pub(crate) fn because(self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        let cause: Box<dyn std::error::Error + Send + Sync> = cause.into();
        self.with(|facts| facts.cause = Some(cause.into()))
    }
}

/// What a Close means by itself: the retry contract has one place.
fn meaning(close: &Close) -> Option<Because> {
    let mut machine = RetryMachine::default();
    machine.handle(Duration::ZERO, Event::Started, 0.0);
    let ended = Event::Ended(Observed::from_wire(Some(close.code), Role::Server));
    Some(match machine.handle(Duration::ZERO, ended, 0.0)? {
        Decision::Wait { because, .. } | Decision::Reauthenticate { because } | Decision::GiveUp { because } => because,
    })
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Facts { name, message, code, request_id, cause, .. } = &*self.0;
        write!(f, "{name}: {message}")?;
        if let Some(cause) = cause {
            write!(f, ": {cause}")?;
        }
        match (code, request_id) {
            (Some(code), Some(id)) => write!(f, " ({code}, request {id})"),
            (Some(code), None) => write!(f, " ({code})"),
            (None, _) => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.cause.as_deref().map(|cause| cause as &(dyn std::error::Error + 'static))
    }
}
