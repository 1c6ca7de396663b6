//! Replays `conformance/retry.json`; `conformance/README.md` explains the format.

use saywhy_codes::{Observed, Role};
use saywhy_proto::retry::{Because, Decision, Event, RetryMachine, Said, Source, read_retry};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

#[test]
fn every_vector_is_answered_as_expected() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance/retry.json");
    let vectors: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let mut names = BTreeSet::new();
    for vector in &vectors {
        let name = vector["name"].as_str().unwrap();
        assert!(names.insert(name), "two vectors are called {name}");
        let mut retry = RetryMachine::default();
        for (i, step) in vector["steps"].as_array().unwrap().iter().enumerate() {
            let now = Duration::from_millis(step["now_ms"].as_u64().unwrap());
            let random = step["random"].as_f64().unwrap_or(0.0);
            let answer = retry.handle(now, event(&step["event"]), random);
            assert_eq!(answer.map_or(Value::Null, decision), step["expect"], "{name}, step {i}: {}", vector["why"]);
        }
    }
}

fn event(event: &Value) -> Event<'_> {
    match event["type"].as_str().unwrap() {
        "started" => Event::Started,
        "open" => Event::Open,
        "ready" => Event::Ready,
        "error" => Event::Error { said: said(&event["data"]), fatal: event["data"]["fatal"] == true },
        "goodbye" => Event::Goodbye(said(&event["data"])),
        "ended" => Event::Ended(observed(event["code"].as_u64().unwrap().try_into().unwrap())),
        "token_renewed" => Event::TokenRenewed,
        "token_failed" => Event::TokenFailed,
        unknown => panic!("unknown event {unknown}"),
    }
}

fn said(data: &Value) -> Said<'_> {
    Said {
        code: data["code"].as_u64().unwrap().try_into().unwrap(),
        name: data["name"].as_str(),
        retry: data["retry"]
            .as_str()
            .and_then(|word| read_retry(word, data["retry_after_ms"].as_u64(), data["spread_ms"].as_u64())),
    }
}

/// A vector has the number that a browser reports.
fn observed(code: u16) -> Observed {
    match code {
        1005 => Observed::NoStatus,
        1006 => Observed::Abnormal,
        1015 => Observed::TlsHandshake,
        code => Observed::from_wire(Some(code), Role::Server),
    }
}

fn decision(decision: Decision) -> Value {
    match decision {
        Decision::Wait { delay, attempt, because } => {
            let delay_ms = u64::try_from(delay.as_millis()).unwrap();
            json!({ "decision": "wait", "delay_ms": delay_ms, "attempt": attempt, "because": reason(because) })
        }
        Decision::Reauthenticate { because } => json!({ "decision": "reauthenticate", "because": reason(because) }),
        Decision::GiveUp { because } => json!({ "decision": "give_up", "because": reason(because) }),
    }
}

fn reason(because: Because) -> Value {
    let source = match because.source {
        Source::Message => "message",
        Source::Goodbye => "goodbye",
        Source::CloseCode => "close_code",
        Source::Class => "class",
    };
    let row = because.row.map(|row| row.name);
    json!({ "source": source, "code": because.code, "row": row, "retry": because.retry.as_str() })
}
