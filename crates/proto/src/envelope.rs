//! The envelope: `{type, data, meta}` in both directions.

use saywhy_codes::{Detail, ErrorMessage, Retry};
use serde::de::IgnoredAny;
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// A message from a client, its `data` not yet looked into.
#[derive(Debug)]
pub struct Envelope<'a> {
    /// `type`.
    pub kind: Cow<'a, str>,
    /// `data`, as it was written; `{}` when there was none.
    pub data: &'a RawValue,
    /// `meta.request_id`, where the client wants a reply.
    pub request_id: Option<Cow<'a, str>>,
}

/// A message that is no envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// The client's `request_id`, where one could be read all the same.
    pub request_id: Option<String>,
    /// What is wrong, for the client to read.
    pub what: &'static str,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what)
    }
}

impl std::error::Error for Malformed {}

/// The longest `request_id`, in characters, which are visible ASCII.
pub const MAX_REQUEST_ID: usize = 64;

#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<Text<'a>>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    meta: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Meta<'a> {
    #[serde(borrow)]
    request_id: Option<Text<'a>>,
}

/// A string, borrowed where it holds no escapes.
#[derive(Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'a> Envelope<'a> {
    /// Reads an envelope.
    ///
    /// # Errors
    /// [`Malformed`], with the client's `request_id` whenever it can still be read out of the text.
    pub fn parse(text: &'a str) -> Result<Self, Malformed> {
        let malformed = |what| Malformed { request_id: recover_request_id(text), what };
        const NO_ENVELOPE: &str = "The message is not an object of type, data and meta";
        let no_json = |is_json: bool| malformed(if is_json { NO_ENVELOPE } else { "The message is not JSON" });
        // An array of the same values would do for serde, and for no other implementation.
        if !is_object(text) {
            return Err(no_json(serde_json::from_str::<IgnoredAny>(text).is_ok()));
        }
        let wire: Wire<'a> = serde_json::from_str(text).map_err(|error| no_json(error.is_data()))?;
        let meta: Option<Meta<'a>> = wire.meta.filter(|meta| is_object(meta.get())).map_or(Ok(None), |meta| {
            serde_json::from_str(meta.get()).map(Some).map_err(|_| malformed("meta.request_id is not a string"))
        })?;
        if wire.meta.is_some() && meta.is_none() {
            return Err(malformed(NO_ENVELOPE));
        }
        let request_id = meta.and_then(|meta| meta.request_id).map(|id| id.0);
        if request_id.as_ref().is_some_and(|id| !is_request_id(id)) {
            let what = "meta.request_id is 1 to 64 visible ASCII characters";
            return Err(Malformed { request_id: None, what });
        }
        let Some(Text(kind)) = wire.kind else {
            let request_id = request_id.map(Cow::into_owned);
            return Err(Malformed { request_id, what: "The message has no type" });
        };
        Ok(Self { kind, data: wire.data.unwrap_or_else(empty), request_id })
    }
}

fn is_object(json: &str) -> bool {
    json.trim_start().starts_with('{')
}

fn empty<'a>() -> &'a RawValue {
    // A constant that is valid JSON.
    const EMPTY: &str = "{}";
    serde_json::from_str(EMPTY).unwrap_or(RawValue::NULL)
}

fn is_request_id(id: &str) -> bool {
    (1..=MAX_REQUEST_ID).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic())
}

/// The last thing in `text` that looks like a `request_id`: `meta` comes last by convention, and an id that is
/// found in the wrong place only labels an error.
fn recover_request_id(text: &str) -> Option<String> {
    let (_, after) = text.rsplit_once("\"request_id\"")?;
    let value = after.trim_start().strip_prefix(':')?.trim_start().strip_prefix('"')?;
    let id = &value[..value.find('"')?];
    (is_request_id(id) && !id.contains('\\')).then(|| id.to_owned())
}

/// What a server sends: `type`, `data` and, in a reply, the `request_id`.
pub fn message<T: Serialize + ?Sized>(
    kind: &str,
    data: &T,
    request_id: Option<&str>,
    timestamp: &dyn fmt::Display,
) -> Result<String, serde_json::Error> {
    serde_json::to_string(&Outgoing { kind, data, meta: OutgoingMeta { request_id, timestamp: Shown(timestamp) } })
}

#[derive(Serialize)]
struct Outgoing<'a, T: ?Sized> {
    #[serde(rename = "type")]
    kind: &'a str,
    data: &'a T,
    meta: OutgoingMeta<'a>,
}

#[derive(Serialize)]
struct OutgoingMeta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
    timestamp: Shown<'a>,
}

struct Shown<'a>(&'a dyn fmt::Display);

impl Serialize for Shown<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self.0)
    }
}

/// The error message. `fatal` is true exactly when a Close follows.
pub fn error(error: &ErrorMessage, fatal: bool, request_id: &str, timestamp: &dyn fmt::Display) -> String {
    let data = ErrorData { error, fatal };
    // Strings, numbers and flags always serialise; an empty text would be a defect that the tests below catch.
    message("error", &data, Some(request_id), timestamp).unwrap_or_default()
}

/// The `data` of an error message, and of a `goodbye`.
#[derive(Debug)]
pub struct ErrorData<'a> {
    /// What is said.
    pub error: &'a ErrorMessage,
    /// Whether a Close follows.
    pub fatal: bool,
}

impl Serialize for ErrorData<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let row = self.error.error();
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("code", &row.code)?;
        map.serialize_entry("message", self.error.message())?;
        map.serialize_entry("name", row.name)?;
        map.serialize_entry("fatal", &self.fatal)?;
        let retry = self.error.retry_policy();
        map.serialize_entry("retry", retry.as_str())?;
        if let Retry::After { delay, spread } = retry {
            map.serialize_entry("retry_after_ms", &delay.as_millis())?;
            if !spread.is_zero() {
                map.serialize_entry("spread_ms", &spread.as_millis())?;
            }
        }
        if !self.error.details().is_empty() {
            map.serialize_entry("details", &Details(self.error.details()))?;
        }
        map.end()
    }
}

/// The structured facts of an error, as an object.
#[derive(Debug)]
pub struct Details<'a>(pub &'a [(&'static str, Detail)]);

impl Serialize for Details<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, value) in self.0 {
            match value {
                Detail::Text(text) => map.serialize_entry(key, text)?,
                Detail::Number(number) => map.serialize_entry(key, number)?,
                Detail::Flag(flag) => map.serialize_entry(key, flag)?,
            }
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use saywhy_codes::catalogue::{NOT_FOUND, RATE_LIMITED};

    #[test]
    fn an_envelope_is_read_without_looking_into_its_data() {
        let text = r#"{"type":"send","data":{"room":"lobby","body":[1, 2]},"meta":{"request_id":"abc-123","x":1}}"#;
        let envelope = Envelope::parse(text).unwrap();
        assert_eq!(envelope.kind, "send");
        assert_eq!(envelope.data.get(), r#"{"room":"lobby","body":[1, 2]}"#);
        assert_eq!(envelope.request_id.as_deref(), Some("abc-123"));
        let bare = Envelope::parse(r#"{"type":"ping"}"#).unwrap();
        assert_eq!((bare.data.get(), bare.request_id), ("{}", None));
    }

    #[test]
    fn the_request_id_is_recovered_from_what_is_malformed() {
        let id = |text| Envelope::parse(text).unwrap_err();
        let cut = id(r#"{"type":"send","data":{"room":"lob,"meta":{"request_id":"abc-123"}}"#);
        assert_eq!((cut.request_id.as_deref(), cut.what), (Some("abc-123"), "The message is not JSON"));
        let list = id(r#"[{"request_id": "q7"}]"#);
        assert_eq!(list.request_id.as_deref(), Some("q7"));
        assert_eq!(list.what, "The message is not an object of type, data and meta");
        for array in [r#"["ping",{},{"request_id":"q8"}]"#, r#"["four",6,"",""]"#, r#"{"type":"ping","meta":["q8"]}"#] {
            assert_eq!(id(array).what, "The message is not an object of type, data and meta");
        }
        let no_type = id(r#"{"meta":{"request_id":"a"}}"#);
        assert_eq!((no_type.request_id.as_deref(), no_type.what), (Some("a"), "The message has no type"));
        assert_eq!(id("nonsense").request_id, None);
        assert_eq!(id(r#"{"meta":{"request_id":"two words"}}"#).request_id, None);
        assert_eq!(
            id(r#"{"type":"x","meta":{"request_id":""}}"#).what,
            "meta.request_id is 1 to 64 visible ASCII characters"
        );
        assert_eq!(id("{\"type\":\"x\",\"meta\":{\"request_id\":\"a\u{1b}").request_id, None);
    }

    #[test]
    fn the_error_message_is_that_of_the_contract() {
        let message = error(&NOT_FOUND.say("Room not found"), false, "abc-123", &"2025-08-04T12:00:00Z");
        assert_eq!(
            message,
            r#"{"type":"error","data":{"code":4001,"message":"Room not found","name":"not_found","fatal":false,"retry":"never"},"meta":{"request_id":"abc-123","timestamp":"2025-08-04T12:00:00Z"}}"#
        );
        let limited = RATE_LIMITED.message().detail("limit", 50_i64).detail("unit", "messages_per_s");
        assert!(error(&limited, true, "a", &0).contains(
            r#""fatal":true,"retry":"after","retry_after_ms":1000,"spread_ms":500,"details":{"limit":50,"unit":"messages_per_s"}}"#
        ));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,60}", around in "[{}\\[\\]\":,a-z_]{0,60}") {
            let _ = Envelope::parse(&text);
            let _ = Envelope::parse(&around);
            let _ = Envelope::parse(&format!("{around}\"request_id\"{text}"));
        }

        #[test]
        fn an_id_that_stands_last_is_found_in_any_wreck(id in "[!-~&&[^\"\\\\]]{1,64}", wreck in "[^\"]{0,40}") {
            let text = format!("{{{wreck} \"meta\": {{\"request_id\" : \"{id}\"");
            prop_assert_eq!(Envelope::parse(&text).unwrap_err().request_id, Some(id));
        }
    }
}
