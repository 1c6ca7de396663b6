//! One session, from `ready` to its last word. It knows nothing of other connections, nor whether there will be one.

use crate::error::{Close, Error};
use crate::socket::{Heard, Socket};
use crate::wire::{self, Ready, RoomMessage, RoomNews, Said, Wire};
use saywhy_proto::message::Message;
use serde::Serialize;
use serde_json::Value;
use std::borrow::Cow;
use std::fmt;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// From a fatal error to the end of the connection. The server's own deadline is 3 s.
const LAST_WORD: Duration = Duration::from_secs(5);

/// What comes from the server.
#[derive(Clone, Debug)]
pub enum Incoming {
    /// The answer to the request of this id.
    Answer {
        /// What [`Connection::request`] returned.
        id: String,
        /// `data` of the `ok`, or what was wrong: recoverable, unless it says that it is fatal.
        answer: Result<Value, Error>,
    },
    /// Something was said in a room.
    Message(RoomMessage),
    /// Somebody came to a room.
    Joined {
        /// Where.
        room: String,
        /// Who.
        member: String,
    },
    /// Somebody left a room.
    Left {
        /// Where.
        room: String,
        /// Who.
        member: String,
    },
    /// Something happened to a room.
    Room {
        /// Which.
        room: String,
        /// What.
        news: RoomNews,
    },
    /// An error that answers no request. A fatal one is told with how the connection ended.
    Error(Error),
    /// The server is about to end the connection, as for a restart.
    Goodbye(Error),
    /// The token runs out: a request `authenticate` with a new one renews the session in place.
    AuthExpiring(Duration),
    /// A message of an application's own.
    Other {
        /// Its `type`.
        kind: String,
        /// Its `data`.
        data: Value,
    },
    /// Text that is no envelope; from a plain server all text.
    Text(String),
    /// A binary message.
    Binary(Vec<u8>),
}

/// A connection that is open. Read it: only [`next`](Self::next) writes, answers Pings and keeps deadlines.
///
/// Dropped, it is gone without a word; [`close`](Self::close) says one.
pub struct Connection {
    socket: Socket,
    ready: Ready,
    protocol: Option<String>,
    plain: bool,
    last_id: u64,
    /// The last fatal error.
    fatal: Option<Said>,
    /// The last goodbye.
    goodbye: Option<Said>,
    is_closing: bool,
    /// When a Close has to follow the last word.
    over_by: Option<Instant>,
}

impl Connection {
    /// Waits until it is open.
    pub(crate) async fn begin(
        socket: Socket,
        protocol: Option<String>,
        plain: bool,
        (by, within): (Instant, Duration),
    ) -> Result<Self, Error> {
        let (fatal, goodbye) = (None, None);
        let ready = Ready::default();
        let mut connection =
            Self { socket, ready, protocol, plain, last_id: 0, fatal, goodbye, is_closing: false, over_by: None };
        if plain {
            connection.socket.ready();
            return Ok(connection);
        }
        loop {
            let heard = match timeout_at(by, connection.hear(0)).await {
                Ok(Ok(heard)) => heard,
                Ok(Err(end)) => return Err(connection.ended(end)),
                Err(_) => return Err(connection.ended(Error::not_ready(within))),
            };
            // What comes before `ready` is the last word of a refusal, or a server that says no `ready`.
            let Some(Heard::Text(text)) = heard else { continue };
            match Wire::read(&text) {
                Some(Wire::Ready(ready)) => {
                    connection.ready = ready;
                    connection.socket.ready();
                    return Ok(connection);
                }
                Some(Wire::Error(said)) if said.fatal => connection.last_word(said),
                Some(Wire::Goodbye(said)) => connection.goodbye = Some(said),
                _ => {}
            }
        }
    }

    /// What the server said when it was open.
    pub fn ready(&self) -> &Ready {
        &self.ready
    }

    /// The subprotocol that the server selected of those on offer.
    pub fn protocol(&self) -> Option<&str> {
        self.protocol.as_deref()
    }

    /// Asks for something, and returns the id that the [`Incoming::Answer`] will have. It leaves with the next call of
    /// [`next`](Self::next).
    ///
    /// # Errors
    /// `bad_request` on data that is not JSON, `message_too_big` where the server said what it takes, `closed` when it is too
    /// late.
    pub fn request(&mut self, kind: &str, data: &(impl Serialize + ?Sized)) -> Result<String, Error> {
        let data = serde_json::to_string(data).map_err(Error::not_json)?;
        self.last_id += 1;
        let id = self.last_id.to_string();
        self.send_text(&wire::request(kind, &data, Some(&id)))?;
        Ok(id)
    }

    /// Sends text as it is: to a plain server, or a request that was made elsewhere.
    ///
    /// # Errors
    /// `message_too_big` where the server said what it takes, `closed` when it is too late.
    pub fn send_text(&mut self, text: &str) -> Result<(), Error> {
        self.send(&Message::Text(Cow::Borrowed(text)), text.len())
    }

    /// Sends a binary message.
    ///
    /// # Errors
    /// As [`send_text`](Self::send_text).
    pub fn send_binary(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.send(&Message::Binary(Cow::Borrowed(bytes)), bytes.len())
    }

    fn send(&mut self, message: &Message<'_>, bytes: usize) -> Result<(), Error> {
        if self.ready.message_bytes > 0 && bytes > self.ready.message_bytes {
            return Err(Error::too_big(bytes));
        }
        self.socket.send(message).then_some(()).ok_or_else(Error::closed_here)
    }

    /// Bytes that wait to be written: who sends much looks at it, and waits with
    /// [`next_or_drained`](Self::next_or_drained) before sending more.
    pub fn backlog(&self) -> usize {
        self.socket.backlog()
    }

    /// A last word was said, by either side: nothing that is sent now will be answered.
    pub fn is_ending(&self) -> bool {
        self.is_closing || self.socket.is_closing() || self.fatal.is_some() || self.goodbye.is_some()
    }

    /// What comes next. Cancel-safe.
    ///
    /// # Errors
    /// How it ended, the same from then on: the server's last word, else its Close, else that there was none.
    pub async fn next(&mut self) -> Result<Incoming, Error> {
        loop {
            if let Some(incoming) = self.next_or_drained(0).await? {
                return Ok(incoming);
            }
        }
    }

    /// What comes next; or `None` as soon as fewer bytes than `below` wait to be written, when there were more: time to send
    /// some more. Cancel-safe.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub async fn next_or_drained(&mut self, below: usize) -> Result<Option<Incoming>, Error> {
        loop {
            let heard = match self.hear(below).await {
                Ok(Some(heard)) => heard,
                Ok(None) => return Ok(None),
                Err(end) => return Err(self.ended(end)),
            };
            if self.is_closing {
                continue;
            }
            let text = match heard {
                Heard::Binary(bytes) => return Ok(Some(Incoming::Binary(bytes))),
                Heard::Text(text) => text,
            };
            if self.plain {
                return Ok(Some(Incoming::Text(text)));
            }
            let Some(message) = Wire::read(&text) else { return Ok(Some(Incoming::Text(text))) };
            if let Some(incoming) = self.understood(message) {
                return Ok(Some(incoming));
            }
        }
    }

    async fn hear(&mut self, below: usize) -> Result<Option<Heard>, Error> {
        let Some(by) = self.over_by else { return self.socket.hear(below).await };
        match timeout_at(by, self.socket.hear(below)).await {
            Ok(heard) => heard,
            Err(_) => Err(self.socket.give_up(Error::lost("No Close came after the last word"))),
        }
    }

    fn last_word(&mut self, said: Said) {
        self.fatal = Some(said);
        self.over_by.get_or_insert_with(|| Instant::now() + LAST_WORD);
    }

    fn understood(&mut self, message: Wire) -> Option<Incoming> {
        Some(match message {
            Wire::Ok { id, data } => Incoming::Answer { id, answer: Ok(data) },
            Wire::Error(said) => {
                let error = Error::said(&said, None);
                let id = said.request_id.clone();
                if said.fatal {
                    self.last_word(said);
                }
                match id.filter(|id| self.is_ours(id)) {
                    Some(id) => Incoming::Answer { id, answer: Err(error) },
                    // It is told with how the connection ended.
                    None if error.is_fatal() => return None,
                    None => Incoming::Error(error),
                }
            }
            Wire::Goodbye(said) => {
                let error = Error::said(&said, None);
                self.goodbye = Some(said);
                Incoming::Goodbye(error)
            }
            Wire::Message(message) => Incoming::Message(message),
            Wire::Member { room, member, is_in: true } => Incoming::Joined { room, member },
            Wire::Member { room, member, is_in: false } => Incoming::Left { room, member },
            Wire::News { room, news } => Incoming::Room { room, news },
            Wire::AuthExpiring(left) => Incoming::AuthExpiring(left),
            Wire::Other { kind, data } => Incoming::Other { kind, data },
            Wire::Ready(_) | Wire::Pong => return None,
        })
    }

    /// Ids of requests are numbers that were given here.
    fn is_ours(&self, id: &str) -> bool {
        id.parse::<u64>().is_ok_and(|id| (1..=self.last_id).contains(&id))
    }

    /// The id of the next request.
    pub(crate) fn next_id(&mut self) -> String {
        self.last_id += 1;
        self.last_id.to_string()
    }

    /// How long the connection is there.
    pub(crate) fn now(&self) -> Duration {
        self.socket.now()
    }

    /// Says Close, and waits until the server has, or has had its time. `code` is 1000 or 3000 to 4999 by custom; of `reason`
    /// 123 bytes are sent.
    ///
    /// # Errors
    /// `cannot_connect` on a code that nobody may send; the connection goes on then.
    pub async fn close(&mut self, code: u16, reason: &str) -> Result<Option<Close>, Error> {
        self.begin_close(code, reason)?;
        loop {
            if let Err(end) = self.next().await {
                return Ok(end.close().cloned());
            }
        }
    }

    pub(crate) fn begin_close(&mut self, code: u16, reason: &str) -> Result<(), Error> {
        self.socket.close(code, reason)?;
        self.is_closing = true;
        Ok(())
    }

    /// The server's last word, or else how the socket ended.
    fn ended(&self, end: Error) -> Error {
        match self.fatal.as_ref().or(self.goodbye.as_ref()) {
            Some(said) if !self.is_closing => Error::last_word(said, end.close().cloned()),
            _ => end,
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("ready", &self.ready).finish_non_exhaustive()
    }
}
