//! The same behind plain `axum::serve`, which knows nothing of us: the 101 leaves by itself, and bytes come through
//! hyper's own wrapper.

mod support;

use axum::Router;
use axum::routing::any;
use saywhy::catalogue::{BUILTIN, KICKED};
use saywhy::{Admission, DrainPlan, Refusal, Settings};
use saywhy_proto::frame::Opcode;
use serde_json::{Value, json};
use std::time::Duration;
use support::*;

fn plain(settings: Settings, router: Router, test: impl AsyncFnOnce(&House)) {
    house_with(Front::Axum, settings, router, test);
}

fn request(kind: &str, data: Value) -> Value {
    json!({ "type": kind, "data": data, "meta": { "request_id": "abc-123" } })
}

#[test]
fn refusals_take_both_forms() {
    let refuse = async |admission: Admission| -> Refusal {
        let name = admission.path()[1..].to_owned();
        admission.refuse(row(&name)).because(format!("SELECT '{SECRET}'"))
    };
    let panics = async |_: Admission| -> () { panic!("{SECRET}") };
    let router = Router::new().route("/panics", any(panics)).route("/{row}", any(refuse));
    plain(Settings::default(), router, async |house| {
        for row in BUILTIN {
            let mut client = house.ask(&format!("/{row}"), BROWSER).await;
            assert_eq!(client.head().await.get("saywhy-refused"), row.name);
            let word = client.last_word().await;
            assert_eq!((&word.error["data"]["name"], &*word.reason), (&json!(row.name), row.message));
            let (head, problem) = house.ask(&format!("/{row}"), PROGRAM).await.problem().await;
            assert_eq!((head.status, &problem["name"]), (row.http, &json!(row.name)));
        }
        for (path, name) in [("/panics", "internal_error"), ("/no/such/path", "not_found")] {
            let mut client = house.ask(path, BROWSER).await;
            assert_eq!(client.head().await.get("saywhy-refused"), name);
            client.last_word().await;
        }
        let request = handshake("/panics", BROWSER).replace("Version: 13", "Version: 8");
        assert_eq!(house.ask_raw(&request).await.problem().await.0.status, 426);
    });
}

#[test]
fn a_session_lives_and_ends_as_ever() {
    plain(limits(|limits| limits.message_bytes = 1_000), desk(&Desk::default()), async |house| {
        // Frames right behind the handshake.
        let mut client = house.ask_raw("").await;
        let echo = wire_text(&request("echo", json!({ "text": "early" })).to_string());
        client.raw(&[handshake("/ws", BROWSER).as_bytes(), &echo].concat()).await;
        assert_eq!(client.head().await.status, 101);
        assert_eq!(client.message().await["type"], "ready");
        assert_eq!(client.message().await["data"]["text"], "early");
        assert_eq!(client.request(request("reply", json!({ "row": "not_found" }))).await["data"]["fatal"], false);
        assert_eq!(client.request("nonsense").await["data"]["name"], "bad_request");
        client.frame(true, Opcode::Ping, b"?").await;
        assert_eq!(client.next().await, Seen::Pong(b"?".to_vec()));
        client.leave().await;

        for (sent, code) in [
            (wire_text(&request("panic", json!({})).to_string()), 1011),
            (wire_text(&request("close", json!({ "row": "forbidden" })).to_string()), 4004),
            (wire_text(&"x".repeat(1_001)), 1009),
            (wire(true, Opcode::Text, &[0xFF]), 1007),
            (wire(true, Opcode::Continuation, b""), 1002),
        ] {
            let mut client = house.open_session("/ws").await;
            client.raw(&sent).await;
            assert_eq!(client.last_word().await.code, code);
        }
        let mut client = house.open_session("/ws").await;
        client.close(4_321, "mine").await;
        assert_eq!(client.rest().await, [Seen::Close(4_321, String::new()), Seen::Fin]);
    });
}

#[test]
fn others_can_send_and_end_and_drain() {
    plain(Settings::default(), desk(&Desk::default()), async |house| {
        let mut kicked = house.open_session("/ws").await;
        let outbox = house.gate.sessions().pop().unwrap();
        outbox.send("message", &json!("hello")).unwrap();
        assert_eq!(kicked.message().await["data"], "hello");
        outbox.close_now(KICKED);
        assert_eq!(kicked.last_word().await.code, 4008);

        let mut client = house.open_session("/ws").await;
        let heard = async {
            assert_eq!(client.message().await["type"], "goodbye");
            assert!(matches!(client.next().await, Seen::Close(1012, _)));
            client.close(1012, "").await;
            assert_eq!(client.next().await, Seen::Fin);
        };
        let (drained, ()) = tokio::join!(house.gate.drain(DrainPlan::default()), heard);
        assert_eq!((drained.sessions, drained.cut), (1, 0));
    });
}

#[test]
fn a_client_that_vanishes_or_does_not_answer_has_its_ending() {
    let settings = limits(|limits| limits.close = Duration::from_millis(20));
    plain(settings, desk(&Desk::default()), async |house| {
        house.open_session("/ws").await.reset();
        assert_eq!(house.ending().await.get("cause"), "lost_reset");
        drop(house.open_session("/ws").await);
        assert_eq!(house.ending().await.get("cause"), "lost_eof");
        let mut client = house.open_session("/ws").await;
        house.gate.sessions()[0].close(KICKED);
        client.error_and_close().await;
        assert_eq!(client.next().await, Seen::Fin);
        assert_eq!(house.ending().await.get("confirmed"), "false");
    });
}
