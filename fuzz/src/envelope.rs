//! The text of a message, and the messages that are made of it.

use saywhy_codes::catalogue::{NOT_FOUND, RATE_LIMITED};
use saywhy_proto::envelope::{self, Envelope, MAX_REQUEST_ID, Malformed};
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// Runs an input.
pub fn run(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    match Envelope::parse(&text) {
        Ok(envelope) => {
            parsed(&envelope, &text);
            answered(&text, envelope.request_id.as_deref());
        }
        Err(malformed) => {
            refused(&malformed, &text);
            answered(&text, malformed.request_id.as_deref());
        }
    }
    sent(&text);
}

/// The keys of an object and their values; of keys that are there twice the last.
fn keys(text: &str) -> Option<BTreeMap<String, &RawValue>> {
    serde_json::from_str(text).ok()
}

/// The value of a key, if it is there and not null.
fn value<'a>(keys: &BTreeMap<String, &'a RawValue>, key: &str) -> Option<&'a str> {
    keys.get(key).map(|value| value.get()).filter(|value| *value != "null")
}

fn string(json: &str) -> Option<String> {
    serde_json::from_str(json).ok()
}

/// What was read is what stands there.
fn parsed(envelope: &Envelope<'_>, text: &str) {
    let keys = keys(text).expect("an object");
    assert_eq!(value(&keys, "type").and_then(string).as_deref(), Some(&*envelope.kind));
    assert_eq!(value(&keys, "data").unwrap_or("{}"), envelope.data.get());
    let meta = value(&keys, "meta").map(|meta| self::keys(meta).expect("an object"));
    let id = meta.and_then(|meta| value(&meta, "request_id").map(|id| string(id).expect("a string")));
    assert_eq!(envelope.request_id.as_deref(), id.as_deref());
    assert!(id.is_none_or(|id| is_request_id(&id)));
}

/// It was refused for what is wrong with it.
fn refused(malformed: &Malformed, text: &str) {
    if let Some(id) = &malformed.request_id {
        assert!(is_request_id(id), "{id:?}");
    }
    assert!(malformed.what.len() <= 123 && malformed.what.is_ascii());
    // To serde a number that is too large is no JSON.
    let is_json = || serde_json::from_str::<&RawValue>(text).is_ok() && serde_json::from_str::<Value>(text).is_ok();
    assert!(malformed.what != "The message is not JSON" || !is_json(), "{text}");
    // Keys that are there twice are refused, and not seen here.
    let named = ["type", "data", "meta", "request_id"];
    if text.contains('\\') || named.iter().any(|key| text.matches(key).count() > 1) {
        return;
    }
    let Some(keys) = keys(text) else { return };
    let has_type = value(&keys, "type").and_then(string).is_some();
    let meta = value(&keys, "meta").map_or(Some(BTreeMap::new()), self::keys);
    let has_id = meta.is_some_and(|meta| {
        value(&meta, "request_id").is_none_or(|id| string(id).is_some_and(|id| is_request_id(&id)))
    });
    assert!(!has_type || !has_id, "{:?} of {text}", malformed.what);
}

fn is_request_id(id: &str) -> bool {
    (1..=MAX_REQUEST_ID).contains(&id.len()) && id.chars().all(|c| ('!'..='~').contains(&c))
}

/// An error that quotes the text everywhere is one line of JSON, and says exactly that.
fn answered(text: &str, request_id: Option<&str>) {
    let error = NOT_FOUND.say(text.to_owned()).detail("quoted", text.to_owned()).detail("number", i64::MIN);
    for (error, fatal) in [(error, false), (RATE_LIMITED.message(), true)] {
        let message = envelope::error(&error, fatal, request_id.unwrap_or(text), &text);
        assert!(!message.contains(|c: char| c < ' '), "{message:?} is not one line");
        let value: Value = serde_json::from_str(&message).expect("an error message is JSON");
        assert_eq!(value["type"], "error");
        assert_eq!(value["data"]["fatal"], fatal);
        assert_eq!(value["data"]["message"], *error.message());
        assert_eq!(value["data"]["code"], error.error().get().code);
        assert_eq!(value["meta"]["request_id"], *request_id.unwrap_or(text));
        assert_eq!(value["meta"]["timestamp"], *text);
        if !fatal {
            assert!(text.starts_with(error.message()) && text.len().min(1021) <= error.message().len());
            assert_eq!(value["data"]["details"]["quoted"], *text);
            assert_eq!(value["data"]["details"]["number"], i64::MIN);
        }
        match Envelope::parse(&message) {
            Ok(envelope) => {
                assert_eq!((&*envelope.kind, envelope.request_id.as_deref()), ("error", request_id.or(Some(text))))
            }
            Err(malformed) => assert!(!is_request_id(request_id.unwrap_or(text)), "{malformed}"),
        }
    }
}

/// What one side sends the other reads.
fn sent(text: &str) {
    let id = is_request_id(text).then_some(text);
    let message = envelope::message(text, &[text], id, &0).expect("strings serialise");
    let envelope = Envelope::parse(&message).expect("an envelope of ours");
    assert_eq!((&*envelope.kind, envelope.request_id.as_deref()), (text, id));
    assert_eq!(serde_json::from_str::<Value>(envelope.data.get()).unwrap(), serde_json::json!([text]));
}
