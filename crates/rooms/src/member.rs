//! One session in the rooms: the messages of the protocol, and who may send which.

use crate::broker::{IdempotencyKey, Position, Publication};
use crate::claims::{Claims, Grants, Permission};
use crate::membership::Membership;
use crate::room::{Room, timestamp};
use crate::service::{Rooms, check_name, failure};
use saywhy::catalogue::{BAD_REQUEST, FORBIDDEN, INVALID_ACTION};
use saywhy::{Explain as _, Failure, Handler, Outbox};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::HashMap;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Checks a token that a session presents to stay longer.
pub type Authenticate = Arc<dyn Fn(Outbox, String) -> Authenticated + Send + Sync>;

/// What a token permits, or whether its bearer has to go.
pub type Authenticated = Pin<Box<dyn Future<Output = Result<Claims, Failure>> + Send>>;

/// The [`Handler`] of a session that was let in with these claims.
pub struct Member {
    rooms: Rooms,
    grants: Grants,
    /// When the token expires, in seconds since 1970.
    expires: u64,
    user: Arc<str>,
    authenticate: Authenticate,
    /// Set when the session opens, which is before the first message.
    outbox: Option<Outbox>,
    joined: HashMap<Arc<str>, Membership>,
}

/// What a client may send to rooms.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", content = "data", rename_all = "snake_case")]
pub enum Command {
    /// Hear a room, from now on or from where one stopped.
    #[allow(missing_docs)]
    Join { room: String, since: Option<WirePosition> },
    /// Hear it no more.
    #[allow(missing_docs)]
    Leave { room: String },
    /// Say something to it.
    #[allow(missing_docs)]
    Send { room: String, body: Box<RawValue>, idempotency_key: Option<String> },
    /// Read what was said.
    #[allow(missing_docs)]
    History { room: String, since: Option<WirePosition>, limit: Option<usize> },
    /// See who is there.
    #[allow(missing_docs)]
    Members { room: String },
    /// Let nothing more be said.
    #[allow(missing_docs)]
    CloseRoom { room: String },
    /// Let something be said, again or for the first time.
    #[allow(missing_docs)]
    OpenRoom { room: String },
    /// Stay longer.
    #[allow(missing_docs)]
    Authenticate { token: String },
}

/// A [`Position`] on the wire. Epoch and tag are hexadecimal text: a JSON number loses digits past 2⁵³ in a browser.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WirePosition {
    epoch: String,
    offset: u64,
    tag: String,
}

impl From<Position> for WirePosition {
    fn from(Position { epoch, offset, tag }: Position) -> Self {
        Self { epoch: format!("{epoch:016x}"), offset, tag: format!("{tag:016x}") }
    }
}

impl WirePosition {
    pub(crate) fn read(&self) -> Result<Position, Failure> {
        let text = format!("{}:{}:{}", self.epoch, self.offset, self.tag);
        let error = BAD_REQUEST.say("data.since is not a position of this server").detail("field", "data.since");
        text.parse().or_reply(error)
    }
}

/// What a client gets back as `data`.
#[derive(Debug, Serialize)]
#[serde(untagged)]
#[allow(missing_docs)]
pub enum Event {
    Joined {
        room: String,
        position: WirePosition,
        #[serde(skip_serializing_if = "Option::is_none")]
        members: Option<Vec<Arc<str>>>,
        recovered: bool,
    },
    Room {
        room: String,
    },
    Sent {
        position: WirePosition,
    },
    History {
        messages: Box<RawValue>,
        position: WirePosition,
    },
    Members {
        members: Vec<Arc<str>>,
    },
    Authenticated {
        expires_at: String,
    },
}

impl Rooms {
    /// The handler of a session that was let in with `claims`; `authenticate` checks what it presents to stay longer.
    pub fn member(&self, claims: Claims, authenticate: Authenticate) -> Member {
        let user = claims.sub.as_str().into();
        let (grants, expires) = (Grants::from(&claims), claims.exp);
        Member { rooms: self.clone(), grants, expires, user, authenticate, outbox: None, joined: HashMap::new() }
    }
}

impl Handler for Member {
    type Command = Command;
    type Event = Event;

    async fn on_open(&mut self, outbox: &Outbox) -> Result<(), Failure> {
        self.outbox = Some(outbox.clone());
        outbox.expires_in(left(self.expires));
        Ok(())
    }

    async fn on_message(&mut self, command: Command) -> Result<Event, Failure> {
        match command {
            Command::Join { room, since } => self.join(room, since).await,
            Command::Leave { room } => match self.joined.remove(&*room) {
                Some(membership) if !membership.is_over() => Ok(Event::Room { room }),
                Some(_) | None => Err(not_joined()),
            },
            Command::Send { room, body, idempotency_key } => self.send(&room, &body, idempotency_key).await,
            Command::History { room, since, limit } => self.history(&room, since, limit).await,
            Command::Members { room } => {
                self.may(&room, Permission::Members)?;
                self.rooms.broker().top(&room).await.map_err(failure)?;
                Ok(Event::Members { members: self.rooms.members(&room) })
            }
            Command::OpenRoom { room } => {
                self.may(&room, Permission::Manage)?;
                self.rooms.broker().open(&room).await.map_err(failure)?;
                Ok(Event::Room { room })
            }
            Command::CloseRoom { room } => {
                self.may(&room, Permission::Manage)?;
                self.rooms.broker().close(&room).await.map_err(failure)?;
                Ok(Event::Room { room })
            }
            Command::Authenticate { token } => self.authenticate(token).await,
        }
    }
}

impl Member {
    fn may(&self, room: &str, permission: Permission) -> Result<(), Failure> {
        check_name(room)?;
        if self.grants.permit(room, permission) {
            return Ok(());
        }
        Err(Failure::reply(FORBIDDEN.say("Your token does not permit that in this room")))
    }

    async fn join(&mut self, room: String, since: Option<WirePosition>) -> Result<Event, Failure> {
        self.may(&room, Permission::Join)?;
        let since = since.map(|since| since.read()).transpose()?;
        let Some(outbox) = self.outbox.clone() else { return Err(not_joined()) };
        // Joining again is leaving first: a client that lost count starts anew, or from where it says.
        self.joined.remove(&*room);
        self.joined.retain(|_, membership| !membership.is_over());
        if self.joined.len() >= self.rooms.settings().rooms_per_connection {
            return Err(Failure::reply(INVALID_ACTION.say("You are in as many rooms as one connection may be")));
        }
        let (membership, position) = self.rooms.join(&room, since, &outbox, &self.user).await?;
        let see = self.rooms.settings().presence && self.grants.permit(&room, Permission::Members);
        let members = see.then(|| self.rooms.members(&room));
        self.joined.insert(Arc::clone(membership.room().name()), membership);
        Ok(Event::Joined { room, position: position.into(), members, recovered: since.is_some() })
    }

    async fn send(&self, room: &str, body: &RawValue, key: Option<String>) -> Result<Event, Failure> {
        self.may(room, Permission::Send)?;
        let key: Option<IdempotencyKey> = match key {
            Some(key) => {
                let error = BAD_REQUEST.say("data.idempotency_key is 1 to 64 visible ASCII characters");
                Some(key.parse().or_reply(error.detail("field", "data.idempotency_key"))?)
            }
            None => None,
        };
        if self.joined.get(room).is_none_or(Membership::is_over) {
            // "Join it first" would be the wrong advice for a room that is not there.
            self.rooms.broker().top(room).await.map_err(failure)?;
            return Err(not_joined());
        }
        let from = Arc::clone(&self.user);
        let body = body.get().to_owned().into();
        let publication = Publication { from, body, at: SystemTime::now(), idempotency_key: key };
        let position = self.rooms.publish(room, publication).await?.into();
        Ok(Event::Sent { position })
    }

    async fn history(&self, room: &str, since: Option<WirePosition>, limit: Option<usize>) -> Result<Event, Failure> {
        self.may(room, Permission::History)?;
        let since = since.map(|since| since.read()).transpose()?;
        let limit = limit.unwrap_or(usize::MAX);
        let (entries, top) = self.rooms.history(room, since, limit).await?;
        let shape = Room::new(room.into(), false);
        let mut messages = String::from("[");
        for entry in &entries {
            if messages.len() > 1 {
                messages.push(',');
            }
            shape.write_data(entry, &mut messages);
            // The same object as in a message, and when it was said.
            messages.pop();
            messages.push_str(&format!(r#","timestamp":"{}"}}"#, timestamp(entry)));
        }
        messages.push(']');
        let messages = RawValue::from_string(messages).or_reply(saywhy::catalogue::INTERNAL_ERROR)?;
        Ok(Event::History { messages, position: top.into() })
    }

    async fn authenticate(&mut self, token: String) -> Result<Event, Failure> {
        let Some(outbox) = self.outbox.clone() else { return Err(not_joined()) };
        let claims = (self.authenticate)(outbox, token).await?;
        if claims.sub != *self.user {
            return Err(Failure::reply(FORBIDDEN.say("That token is of another identity")));
        }
        let expires_at = UNIX_EPOCH + Duration::from_secs(claims.exp);
        let expires_at = jiff::Timestamp::try_from(expires_at).unwrap_or(jiff::Timestamp::MAX).to_string();
        if let Some(outbox) = &self.outbox {
            outbox.expires_in(left(claims.exp));
        }
        (self.grants, self.expires) = (Grants::from(&claims), claims.exp);
        Ok(Event::Authenticated { expires_at })
    }
}

/// How long a token is still good for.
fn left(expires: u64) -> Duration {
    let expires = UNIX_EPOCH.checked_add(Duration::from_secs(expires));
    // A token without an end that a clock could show is good for longer than a session lasts.
    expires.map_or(Duration::from_secs(u32::MAX.into()), |at| at.duration_since(SystemTime::now()).unwrap_or_default())
}

fn not_joined() -> Failure {
    Failure::reply(INVALID_ACTION.say("Join the room first"))
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member").field("user", &self.user).finish_non_exhaustive()
    }
}
