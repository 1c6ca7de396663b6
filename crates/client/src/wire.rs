//! What a server says, read: the only parser. A server may be of a later version, or not ours at all, so what is not
//! understood is handed on as it is.

use saywhy_codes::{Catalogue, ErrorCode, Retry};
use saywhy_proto::retry;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::time::Duration;

/// A place in the log of a room. Keep it whole; only the server looks into it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Which log.
    pub epoch: String,
    /// The number of the entry in it.
    pub offset: u64,
    /// What tells two logs with one epoch apart.
    pub tag: String,
}

/// Something that was said in a room.
#[derive(Clone, Debug, PartialEq)]
pub struct RoomMessage {
    /// Where.
    pub room: String,
    /// The place right after it.
    pub position: Position,
    /// By whom.
    pub from: String,
    /// What.
    pub body: Value,
    /// When, by the server's clock (RFC 3339).
    pub timestamp: Option<String>,
}

/// What the server says when the connection is open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ready {
    /// What the operator finds the connection by.
    pub connection_id: Option<String>,
    /// Whom the server takes this client for.
    pub user: Option<String>,
    /// How often it sends a Ping; zero for never.
    pub heartbeat: Duration,
    /// Bytes of one message that it takes; 0 where it does not say.
    pub message_bytes: usize,
    /// Messages a second that it takes; 0 for no limit.
    pub messages_per_s: u32,
    /// Messages at once that it takes.
    pub message_burst: u32,
}

/// What happens to a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoomNews {
    /// Nothing can be said in it.
    Closed,
    /// It can again.
    Opened,
    /// The store behind it cannot be reached.
    Degraded,
    /// It can again, and nothing was lost.
    Restored,
}

/// The `data` of an `error` or a `goodbye`, as far as it can be read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Said {
    pub(crate) code: Option<u16>,
    pub(crate) name: Option<String>,
    pub(crate) message: String,
    pub(crate) fatal: bool,
    pub(crate) retry: Option<Retry>,
    pub(crate) details: Map<String, Value>,
    pub(crate) request_id: Option<String>,
}

impl Said {
    /// The row that it names; that of its code when it names none. An unknown name is somebody else's row.
    pub(crate) fn row(&self) -> Option<ErrorCode> {
        let catalogue = Catalogue::builtin();
        match &self.name {
            Some(name) => catalogue.by_name(name),
            None => self.code.and_then(|code| catalogue.by_code(code)),
        }
    }

    /// Reads `data`, or a problem document (RFC 9457), whose `detail` is the message.
    pub(crate) fn read(data: &Value, request_id: Option<String>) -> Self {
        let number = |name: &str| data.get(name).and_then(Value::as_u64);
        let text = |name: &str| data.get(name).and_then(Value::as_str).map(str::to_owned);
        let word = data.get("retry").and_then(Value::as_str);
        Self {
            code: number("code").and_then(|code| u16::try_from(code).ok()),
            name: text("name"),
            message: text("message").or_else(|| text("detail")).unwrap_or_default(),
            fatal: data.get("fatal").and_then(Value::as_bool).unwrap_or(false),
            retry: word.and_then(|word| retry::read_retry(word, number("retry_after_ms"), number("spread_ms"))),
            details: data.get("details").and_then(Value::as_object).cloned().unwrap_or_default(),
            request_id: request_id.or_else(|| text("request_id")),
        }
    }
}

/// A message of the server.
#[derive(Debug)]
pub(crate) enum Wire {
    Ready(Ready),
    Ok {
        id: String,
        data: Value,
    },
    Error(Said),
    Goodbye(Said),
    /// To a `ping` without an id.
    Pong,
    Message(RoomMessage),
    Member {
        room: String,
        member: String,
        is_in: bool,
    },
    News {
        room: String,
        news: RoomNews,
    },
    AuthExpiring(Duration),
    Other {
        kind: String,
        data: Value,
    },
}

#[derive(Deserialize)]
struct Envelope {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    data: Value,
    #[serde(default)]
    meta: Value,
}

impl Wire {
    /// `None` when it is no envelope.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let Envelope { kind, data, meta } = serde_json::from_str(text).ok()?;
        let meta_text = |name: &str| meta.get(name).and_then(Value::as_str).map(str::to_owned);
        let request_id = meta_text("request_id");
        let room = || data.get("room").and_then(Value::as_str).map(str::to_owned);
        let known = match (&*kind, request_id) {
            // A `pong` with an id is the answer to a `ping` that somebody asked for by id.
            ("ok" | "pong", Some(id)) => return Some(Self::Ok { id, data }),
            ("pong", None) => Some(Self::Pong),
            ("ready", _) => Some(Self::Ready(ready(&data))),
            ("error", id) => Some(Self::Error(Said::read(&data, id))),
            ("goodbye", id) => Some(Self::Goodbye(Said::read(&data, id))),
            ("message", _) => room_message(&data, meta_text("timestamp")).map(Self::Message),
            ("joined" | "left", _) => room().and_then(|room| {
                let member = data.get("member")?.as_str()?.to_owned();
                Some(Self::Member { room, member, is_in: kind == "joined" })
            }),
            ("room_closed", _) => room().map(|room| Self::News { room, news: RoomNews::Closed }),
            ("room_opened", _) => room().map(|room| Self::News { room, news: RoomNews::Opened }),
            ("degraded", _) => room().map(|room| Self::News { room, news: RoomNews::Degraded }),
            ("restored", _) => room().map(|room| Self::News { room, news: RoomNews::Restored }),
            ("auth_expiring", _) => {
                let ms = data.get("expires_in_ms").and_then(Value::as_u64).unwrap_or_default();
                Some(Self::AuthExpiring(Duration::from_millis(ms)))
            }
            _ => None,
        };
        Some(known.unwrap_or(Self::Other { kind, data }))
    }
}

fn ready(data: &Value) -> Ready {
    let text = |name: &str| data.get(name).and_then(Value::as_str).map(str::to_owned);
    let limit = |name: &str| data.pointer(&format!("/limits/{name}")).and_then(Value::as_u64).unwrap_or_default();
    Ready {
        connection_id: text("connection_id"),
        user: text("user"),
        heartbeat: Duration::from_millis(data.get("heartbeat_ms").and_then(Value::as_u64).unwrap_or_default()),
        message_bytes: usize::try_from(limit("message_bytes")).unwrap_or(usize::MAX),
        messages_per_s: u32::try_from(limit("messages_per_s")).unwrap_or(u32::MAX),
        message_burst: u32::try_from(limit("message_burst")).unwrap_or(u32::MAX),
    }
}

fn room_message(data: &Value, timestamp: Option<String>) -> Option<RoomMessage> {
    Some(RoomMessage {
        room: data.get("room")?.as_str()?.to_owned(),
        position: position(data)?,
        from: data.get("from")?.as_str()?.to_owned(),
        body: data.get("body").cloned().unwrap_or_default(),
        timestamp,
    })
}

/// `position` of an answer or of a message.
pub(crate) fn position(data: &Value) -> Option<Position> {
    Position::deserialize(data.get("position")?).ok()
}

/// The text of a request; `data` is JSON already.
pub(crate) fn request(kind: &str, data: &str, id: Option<&str>) -> String {
    let meta = id.map(|id| format!(r#","meta":{{"request_id":{}}}"#, Value::from(id))).unwrap_or_default();
    format!(r#"{{"type":{},"data":{data}{meta}}}"#, Value::from(kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_understood_and_what_is_not() {
        let read = |text: &str| format!("{:?}", Wire::read(text));
        assert!(read(r#"{"type":"ok","data":{"a":1},"meta":{"request_id":"7"}}"#).starts_with("Some(Ok { id: \"7\""));
        assert!(read(r#"{"type":"ok","data":{}}"#).starts_with("Some(Other"), "to nobody");
        assert_eq!(read(r#"{"type":"pong","data":{},"meta":{}}"#), "Some(Pong)");
        assert!(read(r#"{"type":"message","data":{"room":"a","from":"b","position":1}}"#).starts_with("Some(Other"));
        for none in ["", "[]", "1", r#"{"data":1}"#, r#"{"type":1}"#] {
            assert!(Wire::read(none).is_none(), "{none}");
        }
    }

    #[test]
    fn an_error_is_read_as_far_as_it_can_be() {
        let said = |data: &str| Said::read(&serde_json::from_str(data).unwrap(), None);
        let whole = said(r#"{"code":4005,"name":"rate_limited","retry":"after","retry_after_ms":10,"spread_ms":5}"#);
        assert_eq!(whole.retry, Some(Retry::after_ms(10, 5)));
        let strange = said(r#"{"code":-1,"name":5,"retry":"perhaps","details":[],"fatal":"yes"}"#);
        assert!(strange.code.is_none() && strange.name.is_none() && strange.retry.is_none() && !strange.fatal);
        assert_eq!(said(r#"{"detail":"from a problem document","request_id":"1"}"#).request_id.as_deref(), Some("1"));
    }

    #[test]
    fn a_request_is_json_whatever_its_names_are() {
        let text = request("a\"b", "{}", Some("1"));
        assert_eq!(text, r#"{"type":"a\"b","data":{},"meta":{"request_id":"1"}}"#);
    }
}
