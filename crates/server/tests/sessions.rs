//! Sessions: what a handler decides, what a client gets wrong, and panics.

mod support;

#[allow(dead_code)]
#[path = "../examples/journeys.rs"]
mod journeys;

use axum::Router;
use axum::routing::any;
use saywhy::catalogue::{KICKED, NOT_FOUND, OVERLOADED, RATE_LIMITED};
use saywhy::{Admission, CloseCode, Gone, Message, Session, Settings};
use saywhy_codes::Role;
use saywhy_proto::frame::Opcode;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use support::*;
use tokio::sync::Notify;

fn request(kind: &str, data: Value) -> Value {
    json!({ "type": kind, "data": data, "meta": { "request_id": "abc-123" } })
}

// ---- the journeys of the examples -------------------------------------------------------------------------------

#[test]
fn journey_1_refuse_or_accept_with_reasons() {
    house(Settings::default(), journeys::router(), async |house| {
        // The target, the offer, and the refusal.
        let cases = [
            ("/ws?content_id=1", "saywhy.v1", "unauthorized", "Sign in and try again"),
            ("/ws?content_id=1", "saywhy.v1, saywhy.bearer.bad-token", "unauthorized", "Sign in and try again"),
            ("/ws?content_id=2", "saywhy.v1, saywhy.bearer.alice", "not_found", "invalid or non-existing contentId"),
            ("/ws", "saywhy.v1, saywhy.bearer.alice", "bad_request", "The message could not be understood"),
        ];
        for (target, offer, name, words) in cases {
            let mut client = house.ask(target, &[("Sec-WebSocket-Protocol", offer)]).await;
            assert_eq!(client.head().await.get("saywhy-refused"), name, "{target} {offer}");
            assert_eq!(client.last_word().await.reason, words, "{target} {offer}");
        }
        let offer = [BROWSER[0], ("Sec-WebSocket-Protocol", "saywhy.v1, saywhy.bearer.alice")];
        let mut client = house.ask("/ws?content_id=1", &offer).await;
        assert_eq!(client.head().await.get("sec-websocket-protocol"), "saywhy.v1");
        assert_eq!(client.message().await["type"], "ready");
        client.leave().await;
    });
}

#[test]
fn journey_2_recoverable_or_fatal() {
    house(Settings::default(), journeys::router(), async |house| {
        let mut client = house.open_session("/ws?content_id=1&access_token=alice").await;
        let reply = client.request(request("say", json!({ "room": "nowhere", "text": "hello" }))).await;
        assert_eq!(
            reply["data"],
            json!({
                "code": 4001, "message": "Room not found", "name": "not_found", "fatal": false, "retry": "never"
            })
        );
        assert_eq!(reply["meta"]["request_id"], "abc-123");
        let reply = client.request(request("say", json!({ "room": "lobby", "text": "hello" }))).await;
        assert_eq!((&reply["type"], &reply["data"]), (&json!("ok"), &json!(5)));
        let long = "x".repeat(2_000);
        let reply = client.request(request("say", json!({ "room": "lobby", "text": long }))).await;
        assert_eq!((&reply["data"]["name"], &reply["data"]["fatal"]), (&json!("overloaded"), &json!(false)));
        let reply = client.request(request("pay", json!({ "amount": 60 }))).await;
        assert_eq!(reply["data"], 40);
        client.text(request("pay", json!({ "amount": 60 }))).await;
        let word = client.last_word().await;
        assert_eq!((&word.error["data"]["code"], word.code), (&json!(5000), 1011));
        assert_eq!(word.error["meta"]["request_id"], "abc-123");
        let ending = house.ending().await;
        assert_eq!(ending.get("private"), "UPDATE ledger: CHECK constraint failed");
    });
}

// ---- what a handler decides -------------------------------------------------------------------------------------

#[test]
fn a_reply_keeps_the_session_and_a_close_ends_it_for_every_row() {
    house(limits(|limits| limits.errors = 0), desk(&Desk::default()), async |house| {
        let mut client = house.open_session("/ws").await;
        for row in saywhy::catalogue::BUILTIN {
            let reply = client.request(request("reply", json!({ "row": row.name }))).await;
            assert_eq!(reply["type"], "error");
            assert_eq!((&reply["data"]["name"], &reply["data"]["fatal"]), (&json!(row.name), &json!(false)));
            assert_eq!((&reply["data"]["code"], &reply["meta"]["request_id"]), (&json!(row.code), &json!("abc-123")));
        }
        client.leave().await;
        assert_eq!(house.ending().await.get("cause"), "peer_closed");
        for row in saywhy::catalogue::BUILTIN {
            let mut client = house.open_session("/ws").await;
            client.text(request("close", json!({ "row": row.name }))).await;
            if row.name == "service_restart" {
                assert_eq!(client.message().await["type"], "goodbye");
                assert!(matches!(client.next().await, Seen::Close(1012, _)));
                client.close(1012, "").await;
                assert_eq!(client.next().await, Seen::Fin);
            } else {
                let word = client.last_word().await;
                assert_eq!(word.error["data"]["name"], row.name);
                assert_eq!(word.error["meta"]["request_id"], "abc-123");
            }
            let ending = house.ending().await;
            assert_eq!((ending.get("cause"), ending.get("stage")), (row.name, "session"));
            assert!(ending.get("private").contains(SECRET));
        }
    });
}

#[test]
fn the_cause_of_a_reply_is_in_the_log_under_the_client_s_own_id() {
    house(Settings::default(), desk(&Desk::default()), async |house| {
        let mut client = house.open_session("/ws").await;
        client.request(request("reply", json!({ "row": "internal_error" }))).await;
        let lines = house.log.lines();
        let line = lines.iter().find(|line| line.target == "saywhy::error").unwrap();
        assert_eq!((line.get("request_id"), line.get("name")), ("abc-123", "internal_error"));
        assert!(line.get("private").contains(SECRET) && line.get("connection_id") == client.id);
        client.leave().await;
    });
}

#[test]
fn an_answer_is_sent_where_one_is_asked_for_and_an_error_always() {
    house(Settings::default(), desk(&Desk::default()), async |house| {
        let mut client = house.open_session("/ws").await;
        client.text(json!({ "type": "echo", "data": { "text": "unasked" } })).await;
        client.text(json!({ "type": "reply", "data": { "row": "forbidden" } })).await;
        let error = client.message().await;
        assert_eq!(error["data"]["name"], "forbidden", "nothing came before it");
        assert_eq!(error["meta"]["request_id"].as_str().unwrap().len(), 32, "one of the server's own");
        let pong = client.request(r#"{"type":"ping"}"#).await;
        assert_eq!((&pong["type"], &pong["data"]), (&json!("pong"), &json!({})));
        assert_eq!(pong["meta"].get("request_id"), None);
        let pong = client.request(request("ping", json!({}))).await;
        assert_eq!(pong["meta"]["request_id"], "abc-123");
        client.leave().await;
    });
}

#[test]
fn many_requests_in_one_packet_are_answered_in_order() {
    house(Settings::default(), desk(&Desk::default()), async |house| {
        let mut client = house.open_session("/ws").await;
        let mut wire = Vec::new();
        for n in 0..60 {
            wire.extend(wire_text(&request("count", json!({ "n": n })).to_string()));
        }
        client.raw(&wire).await;
        for n in 0..60 {
            assert_eq!(client.message().await["data"]["n"], n);
        }
        client.leave().await;
    });
}

#[test]
fn a_failure_on_open_ends_the_session() {
    house(Settings::default(), desk(&Desk::default()), async |house| {
        let mut client = house.open_session("/fails-on-open").await;
        let word = client.last_word().await;
        assert_eq!((&word.error["data"]["name"], word.code), (&json!("invalid_action"), 4002));
        let ending = house.ending().await;
        assert_eq!((ending.get("cause"), ending.get("stage")), ("invalid_action", "session"));
        assert!(ending.get("private").contains(SECRET));
    });
}

#[test]
fn ready_says_what_the_client_needs_to_know() {
    let settings = limits(|limits| (limits.message_bytes, limits.messages_per_s, limits.message_burst) = (9_000, 7, 8));
    house(settings, desk(&Desk::default()), async |house| {
        let mut client = house.ask("/ws?user=alice", PROGRAM).await;
        client.head().await;
        let ready = client.message().await;
        let id = ready["data"]["connection_id"].as_str().unwrap();
        assert_eq!(house.gate.sessions()[0].id().simple().to_string(), id);
        assert_eq!(
            ready["data"],
            json!({
                "connection_id": id, "user": "alice", "heartbeat_ms": 25_000,
                "limits": { "message_bytes": 9_000, "messages_per_s": 7, "message_burst": 8 }
            })
        );
        client.leave().await;
    });
}

// ---- panics -----------------------------------------------------------------------------------------------------

/// A session without a handler, whose client names the way it ends.
async fn improvise(mut session: Session) {
    while let Some(Message::Text(words)) = session.next().await {
        match &*words {
            "panic" => panic!("{SECRET} in a raw session"),
            "drop" => return,
            "close" => return session.close(NOT_FOUND.say("gone")).await,
            "leave" => return session.leave(CloseCode::new(4_321, Role::Server).ok()).await,
            "leave without a word" => return session.leave(None).await,
            "abandon" => return session.abandon(),
            _ => drop(session.send(Message::Text(words))),
        }
    }
}

fn raw_sessions() -> Router {
    let each = |session: Session| {
        session.each(|message| match message {
            Message::Text(words) if words == "panic" => panic!("{SECRET} in each"),
            echo => Some(echo),
        })
    };
    let stray = |_: Session| -> std::future::Ready<()> { panic!("{SECRET} before the session began") };
    Router::new()
        .route("/raw", any(async |admission: Admission| admission.accept(improvise)))
        .route("/each", any(async move |admission: Admission| admission.accept(each)))
        .route("/stray", any(async move |admission: Admission| admission.accept(stray)))
        .merge(desk(&Desk::default()))
}

#[test]
fn a_panic_is_5000_and_then_1011_wherever_it_happens() {
    let panic = request("panic", json!({})).to_string();
    // The path, what is sent, and the id of the request that is to blame.
    let cases = [
        ("/ws", &*panic, Some("abc-123"), "on_message"),
        ("/panics-on-open", "", None, "on_open"),
        ("/raw", "panic", None, "raw session"),
        ("/each", "panic", None, "each"),
        ("/stray", "", None, "before the session began"),
    ];
    house(Settings::default(), raw_sessions(), async |house| {
        for (path, sent, request_id, place) in cases {
            let mut client = house.ask(path, BROWSER).await;
            assert_eq!(client.head().await.status, 101);
            if path != "/stray" {
                assert_eq!(client.message().await["type"], "ready");
            }
            if !sent.is_empty() {
                client.text(sent).await;
            }
            let word = client.last_word().await;
            assert_eq!((&word.error["data"]["code"], word.code), (&json!(5000), 1011), "{place}");
            assert_eq!(word.reason, "Something went wrong on our side");
            let ending = house.ending().await;
            let id = request_id.unwrap_or(ending.get("connection_id"));
            assert_eq!(word.error["meta"]["request_id"], id, "{place}");
            assert_eq!((ending.get("cause"), ending.get("confirmed")), ("internal_error", "true"), "{place}");
            // The operator reads the panic's own words, next to the id of the connection.
            let lines = house.log.lines();
            let of_it = lines.iter().filter(|line| line.get("connection_id") == ending.get("connection_id"));
            let words: Vec<_> = of_it.map(|line| line.get("private")).collect();
            assert!(words.iter().any(|words| words.contains(place)), "{place}: {words:?}");
        }
    });
}

// ---- sessions without a handler ---------------------------------------------------------------------------------

#[test]
fn a_raw_session_echoes_and_ends_as_it_likes() {
    house(Settings::default(), raw_sessions(), async |house| {
        for path in ["/raw", "/each"] {
            let mut client = house.open_session(path).await;
            client.text("one").await;
            client.text("two").await;
            assert_eq!(client.message().await, "one");
            assert_eq!(client.message().await, "two");
            client.leave().await;
            assert_eq!(house.ending().await.get("cause"), "peer_closed");
        }
        let mut client = house.open_session("/each").await;
        client.frame(true, Opcode::Binary, &[0, 159, 146, 150]).await;
        assert_eq!(client.next().await, Seen::Binary(vec![0, 159, 146, 150]));
        client.leave().await;
        assert_eq!(house.ending().await.get("cause"), "peer_closed");

        let mut client = house.open_session("/raw").await;
        client.text("drop").await;
        assert_eq!(client.next().await, Seen::Close(1000, String::new()));
        client.is_quiet().await;
        client.close(1000, "").await;
        assert_eq!(client.next().await, Seen::Fin);
        assert_eq!(house.ending().await.get("cause"), "finished");

        let mut client = house.open_session("/raw").await;
        client.text("close").await;
        let word = client.last_word().await;
        assert_eq!((&*word.reason, word.code), ("gone", 4001));
        assert_eq!(house.ending().await.get("cause"), "not_found");

        for (sent, code) in [("leave", 4_321), ("leave without a word", 1005)] {
            let mut client = house.open_session("/raw").await;
            client.text(sent).await;
            assert_eq!(client.next().await, Seen::Close(code, String::new()));
            client.is_quiet().await;
            client.close(1000, "").await;
            assert_eq!(client.next().await, Seen::Fin);
            assert_eq!(house.ending().await.get("cause"), "finished");
        }
        let mut client = house.open_session("/raw").await;
        let outbox = house.gate.sessions().pop().unwrap();
        client.text("abandon").await;
        assert!(matches!(client.next().await, Seen::Fin | Seen::Reset), "as rude servers do");
        let ending = house.ending().await;
        assert_eq!((ending.get("sent"), ending.get("private")), ("", "abandoned by the application"));
        assert_eq!(outbox.send("anyone?", &()), Err(Gone));
    });
}

#[test]
fn nothing_is_said_before_ready() {
    let ws = async |admission: Admission| {
        admission.accept(async |mut session: Session| {
            session.outbox().send("queued", &()).unwrap();
            session.send(Message::Text("said".into()));
            session.next().await;
        })
    };
    house(Settings::default(), Router::new().route("/ws", any(ws)), async |house| {
        let mut client = house.open_session("/ws").await;
        assert_eq!(client.message().await, "said");
        assert_eq!(client.message().await["type"], "queued");
    });
}

#[test]
fn without_the_envelope_a_session_is_closes_only() {
    house(Settings { envelope: false, ..Settings::default() }, raw_sessions(), async |house| {
        let mut client = house.ask("/raw", PROGRAM).await;
        client.head().await;
        client.text("hello").await;
        assert_eq!(client.next().await, Seen::Text(json!("hello")), "and no ready before it");
        house.gate.sessions()[0].tell(&OVERLOADED.message());
        client.text("close").await;
        assert_eq!(client.next().await, Seen::Close(4001, "gone".into()));
        client.close(1000, "").await;
        assert_eq!(client.next().await, Seen::Fin);
        let mut client = house.ask("/no/such/path", BROWSER).await;
        assert_eq!(client.head().await.get("saywhy-refused"), "not_found");
        assert!(matches!(client.next().await, Seen::Close(4001, _)));
    });
}

#[test]
fn others_may_tell_a_client_of_an_error_that_it_survives() {
    house(Settings::default(), desk(&Desk::default()), async |house| {
        let mut client = house.open_session("/ws").await;
        house.gate.sessions()[0].tell(&OVERLOADED.say("The room is slow today"));
        let error = client.message().await;
        assert_eq!((&error["data"]["name"], &error["data"]["fatal"]), (&json!("overloaded"), &json!(false)));
        client.leave().await;
    });
}

#[test]
fn a_session_that_never_begins_is_closed_at_the_ready_deadline() {
    let stuck = async |admission: Admission| {
        admission.accept(|session| async move {
            std::future::pending::<()>().await;
            drop(session);
        })
    };
    let router = Router::new().route("/ws", any(stuck));
    house(limits(|limits| limits.ready = Duration::from_millis(20)), router, async |house| {
        let mut client = house.ask("/ws", BROWSER).await;
        assert_eq!(client.head().await.status, 101);
        let word = client.last_word().await;
        assert_eq!((&*word.reason, word.code), ("The connection was not ready in time", 3008));
        let ending = house.ending().await;
        assert_eq!((ending.get("cause"), ending.get("stage")), ("timeout", "admission"));
    });
}

/// A `select!` or a time limit around `serve` drops a handler in the midst of its work.
#[test]
fn a_session_that_is_dropped_while_its_handler_works_still_says_goodbye() {
    let (at, stop) = (Desk::default(), Arc::new(Notify::new()));
    let (handler, stopped) = (at.clone(), Arc::clone(&stop));
    let ws = async move |admission: Admission| {
        admission.accept(async move |session| {
            tokio::select! {
                () = session.serve(handler) => {}
                () = stopped.notified() => {}
            }
        })
    };
    house(Settings::default(), Router::new().route("/ws", any(ws)), async |house| {
        let mut client = house.open_session("/ws").await;
        client.text(request("wait", json!({}))).await;
        at.waits.notified().await;
        stop.notify_one();
        assert_eq!(client.next().await, Seen::Close(1000, String::new()));
        client.close(1000, "").await;
        assert_eq!(client.next().await, Seen::Fin);
        assert_eq!(house.ending().await.get("cause"), "finished");
    });
}

#[test]
fn what_others_ask_for_is_said_even_when_the_session_is_dropped_before_it_looks() {
    let at = Desk::default();
    let Desk { waits, go, .. } = at.clone();
    let ws = async move |admission: Admission| {
        admission.accept(async move |mut session: Session| {
            session.ready();
            waits.notify_one();
            go.notified().await;
        })
    };
    house(Settings::default(), Router::new().route("/ws", any(ws)), async |house| {
        let mut client = house.ask("/ws", PROGRAM).await;
        at.waits.notified().await;
        house.gate.sessions()[0].close_now(KICKED.say("Read the rules"));
        at.go.notify_one();
        client.head().await;
        client.message().await;
        let word = client.last_word().await;
        assert_eq!((&*word.reason, word.code), ("Read the rules", 4008));
        assert_eq!(house.ending().await.get("cause"), "kicked");
    });
}

// ---- what a client gets wrong -----------------------------------------------------------------------------------

#[test]
fn a_mistake_is_explained_under_its_id_and_the_session_lives() {
    let settings = limits(|limits| {
        limits.message_bytes = 2 * 1024 * 1024;
        limits.errors = 0;
    });
    let id = r#""meta":{"request_id":"abc-123"}"#;
    let deep = |open: &str, core: &str, close: &str| open.repeat(100_000) + core + &close.repeat(100_000);
    let known = |what: &str| (what.to_owned(), "abc-123");
    let unknown = |what: &str| (what.to_owned(), "");
    let of = |kind: &str, data: &str| format!(r#"{{"type":"{kind}","data":{data},{id}}}"#);
    // What is sent, what is answered, and under which id.
    let cases = [
        (String::new(), unknown("The message is not JSON")),
        ("nonsense".into(), unknown("The message is not JSON")),
        (format!(r#"{{"type":"echo","data":{{"text":"x,{id}}}"#), known("The message is not JSON")),
        (format!(r#"{{"type":"echo","data":{{"text":NaN}},{id}}}"#), known("The message is not JSON")),
        (format!(r#"{{"type":"echo","data":{{}},{id}}} trailing"#), known("The message is not JSON")),
        (format!("[{{{id}}}]"), known("The message is not an object of type, data and meta")),
        (format!(r#"{{"type":7,{id}}}"#), known("The message is not an object of type, data and meta")),
        (format!(r#"{{"type":"a","type":"b",{id}}}"#), known("The message is not an object of type, data and meta")),
        (format!("{{{id}}}"), known("The message has no type")),
        (
            r#"{"type":"echo","meta":{"request_id":""}}"#.into(),
            unknown("meta.request_id is 1 to 64 visible ASCII characters"),
        ),
        (
            r#"{"type":"echo","meta":{"request_id":"é"}}"#.into(),
            unknown("meta.request_id is 1 to 64 visible ASCII characters"),
        ),
        (r#"{"type":"echo","meta":{"request_id":7}}"#.into(), unknown("meta.request_id is not a string")),
        (r#"["echo",{},{}]"#.into(), unknown("The message is not an object of type, data and meta")),
        (of("shout", "{}"), known("That type of message is not known here")),
        (of("__proto__", "{}"), known("That type of message is not known here")),
        (of("", "{}"), known("That type of message is not known here")),
        (of("echo", "{}"), known("A field is missing: data.text")),
        (of("echo", "null"), known("A field is missing: data.text")),
        (of("echo", "[]"), known("data is not what this type of message takes")),
        (of("echo", r#"{"text":7}"#), known("data.text is not what this type of message takes")),
        (of("echo", r#"{"text":"\ud800"}"#), known("data.text is not what this type of message takes")),
        (of("count", r#"{"n":-1}"#), known("data.n is not what this type of message takes")),
        (of("count", r#"{"n":1.5}"#), known("data.n is not what this type of message takes")),
        (of("count", r#"{"n":99999999999999999999999999}"#), known("data.n is not what this type of message takes")),
        (
            of("count", &format!(r#"{{"n":{}}}"#, "9".repeat(50_000))),
            known("data.n is not what this type of message takes"),
        ),
        (of("count", r#"{"n":1,"ratio":1e999999}"#), known("data.ratio is not what this type of message takes")),
        (of("any", &format!(r#"{{"value":{}}}"#, deep("[", "", "]"))), known("data.value")),
        (of("any", &format!(r#"{{"value":{}}}"#, deep(r#"{"a":"#, "0", "}"))), known("data.value")),
        (of("echo", &deep("[", "", "]")), known("data is not what this type of message takes")),
        (deep("[", "", ""), unknown("The message is not")),
        (deep("{\"type\":", "", ""), unknown("The message is not")),
    ];
    house(settings, desk(&Desk::default()), async |house| {
        let mut client = house.open_session("/ws").await;
        for (sent, (what, id)) in cases {
            let shown = &sent[..sent.floor_char_boundary(80)];
            let error = client.request(&sent).await;
            let data = &error["data"];
            assert_eq!((&error["type"], &data["name"]), (&json!("error"), &json!("bad_request")), "{shown}: {error}");
            assert_eq!((&data["fatal"], &data["code"]), (&json!(false), &json!(4000)), "{shown}");
            assert!(data["message"].as_str().unwrap().starts_with(&what), "{shown}: {error}");
            if id.is_empty() {
                assert_eq!(error["meta"]["request_id"].as_str().unwrap().len(), 32, "{shown}");
            } else {
                assert_eq!(error["meta"]["request_id"], id, "{shown}");
            }
            assert!(error.to_string().len() < 1_000, "{shown}: what was sent does not come back");
        }
        let reply = client.request(request("echo", json!({ "text": "still here" }))).await;
        assert_eq!(reply["data"]["text"], "still here");
        client.leave().await;
    });
}

#[test]
fn details_name_the_field_or_the_type_at_fault() {
    house(Settings::default(), desk(&Desk::default()), async |house| {
        let mut client = house.open_session("/ws").await;
        let error = client.request(request("echo", json!({}))).await;
        assert_eq!(error["data"]["details"], json!({ "field": "data.text" }));
        let error = client.request(request("count", json!({ "n": "x" }))).await;
        assert_eq!(error["data"]["details"], json!({ "field": "data.n" }));
        let error = client.request(request("a\u{1b}[31m\r\nb", json!({}))).await;
        assert_eq!(error["data"]["details"], json!({ "type": "a[31mb" }), "nothing that a terminal obeys");
        let error = client.request(request(&"x".repeat(10_000), json!({}))).await;
        assert_eq!(error["data"]["details"]["type"].as_str().unwrap().len(), 64);
        client.leave().await;
    });
}

#[test]
fn binary_on_a_route_of_json_is_unsupported_data() {
    house(Settings::default(), desk(&Desk::default()), async |house| {
        let mut client = house.open_session("/ws").await;
        client.frame(true, Opcode::Binary, b"{}").await;
        let word = client.last_word().await;
        assert_eq!((word.code, &*word.reason), (1003, "Binary messages are not accepted here"));
        assert_eq!(house.ending().await.get("cause"), "unsupported_data");
    });
}

#[test]
fn past_the_error_budget_the_session_ends_with_policy_violation() {
    house(limits(|limits| limits.errors = 3), desk(&Desk::default()), async |house| {
        let mut client = house.open_session("/ws").await;
        // Our own faults are not held against the client.
        for _ in 0..10 {
            let error = client.request(request("reply", json!({ "row": "internal_error" }))).await;
            assert_eq!(error["data"]["name"], "internal_error");
        }
        for _ in 0..3 {
            assert_eq!(client.request("nonsense").await["data"]["fatal"], false);
        }
        let last = client.request("nonsense").await;
        assert_eq!((&last["data"]["name"], &last["data"]["fatal"]), (&json!("bad_request"), &json!(false)));
        let word = client.last_word().await;
        assert_eq!((word.code, &*word.reason), (1008, "Too many errors: the last one used up the budget"));
        assert_eq!(house.ending().await.get("cause"), "policy_violation");
    });
}

#[test]
fn what_comes_too_fast_is_refused_with_a_time_and_then_ends_it() {
    let settings = limits(|limits| (limits.messages_per_s, limits.message_burst, limits.errors) = (1, 5, 4));
    house(settings, raw_sessions(), async |house| {
        for path in ["/ws", "/raw", "/each"] {
            let mut client = house.open_session(path).await;
            let echo = request("echo", json!({ "text": "x" })).to_string();
            let mut wire = Vec::new();
            (0..40).for_each(|_| wire.extend(wire_text(&echo)));
            client.raw(&wire).await;
            let mut seen = Vec::new();
            let code = loop {
                match client.next().await {
                    Seen::Text(message) => seen.push(message),
                    Seen::Close(code, _) => break code,
                    other => panic!("{other:?}"),
                }
            };
            let last = seen.pop().unwrap();
            assert_eq!((&last["data"]["name"], code), (&json!("policy_violation"), 1008), "{path}");
            let refused: Vec<_> = seen.iter().filter(|message| message["type"] == "error").collect();
            assert_eq!(
                (seen.len() - refused.len(), refused.len()),
                (5, 5),
                "{path}: the burst, and the budget and one"
            );
            for error in refused {
                assert_eq!(
                    (&error["data"]["name"], &error["data"]["retry"]),
                    (&json!(RATE_LIMITED.name), &json!("after"))
                );
                assert!((1..=1_000).contains(&error["data"]["retry_after_ms"].as_u64().unwrap()), "{error}");
                assert_eq!(error["meta"]["request_id"], "abc-123", "{path}");
            }
            client.close(1000, "").await;
            assert_eq!(client.next().await, Seen::Fin);
        }
    });
}
