//! Draining: everyone is told when to come back, and what is under way is finished.

mod support;

use axum::Router;
use axum::routing::any;
use saywhy::{Admission, DrainPlan, Drained, Refusal, Session, Settings};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use support::*;
use tokio::sync::Notify;

const PLAN: DrainPlan = DrainPlan {
    retry_after: Duration::from_millis(1_000),
    window: Duration::from_millis(5_000),
    deadline: Duration::from_secs(60),
};
const AT_ONCE: DrainPlan = DrainPlan { deadline: Duration::ZERO, ..PLAN };

/// A goodbye and the Close 1012 behind it; the `data` of the goodbye.
async fn goodbye(client: &mut Client) -> Value {
    let message = client.message().await;
    assert_eq!(message["type"], "goodbye", "{message}");
    let data = message["data"].clone();
    assert_eq!(
        (&data["code"], &data["name"], &data["retry"]),
        (&json!(1012), &json!("service_restart"), &json!("after"))
    );
    assert_eq!((&data["fatal"], &message["meta"]["request_id"]), (&json!(true), &json!(client.id)));
    assert_eq!(client.next().await, Seen::Close(1012, "The service is restarting".into()));
    client.close(1012, "").await;
    assert_eq!(client.next().await, Seen::Fin);
    data
}

#[test]
fn each_session_is_told_a_time_of_its_own_within_the_window() {
    house(Settings::default(), desk(&Desk::default()), async |house| {
        let mut clients = Vec::new();
        for _ in 0..10 {
            clients.push(house.open_session("/ws").await);
        }
        let told = async {
            let mut told = BTreeSet::new();
            for client in &mut clients {
                let data = goodbye(client).await;
                assert_eq!(data["spread_ms"], 500, "so that nobody's time meets another's");
                told.insert(data["retry_after_ms"].as_u64().unwrap());
            }
            told
        };
        let (drained, told) = tokio::join!(house.gate.drain(PLAN), told);
        assert_eq!(drained, Drained { sessions: 10, cut: 0 });
        assert_eq!(told, (0..10).map(|place| 1_000 + 500 * place).collect());
        for _ in 0..10 {
            let ending = house.ending().await;
            assert_eq!((ending.get("cause"), ending.get("confirmed")), ("service_restart", "true"));
        }
    });
}

#[test]
fn a_server_that_drains_refuses_with_a_time_to_come_back() {
    house(Settings::default(), desk(&Desk::default()), async |house| {
        assert_eq!(house.gate.drain(PLAN).await, Drained { sessions: 0, cut: 0 });
        let mut client = house.ask("/ws", BROWSER).await;
        assert_eq!(client.head().await.get("saywhy-refused"), "service_restart");
        let word = client.last_word().await;
        assert_eq!((word.code, &word.error["data"]["retry"]), (1012, &json!("after")));
        assert_eq!(
            (&word.error["data"]["retry_after_ms"], &word.error["data"]["spread_ms"]),
            (&json!(1_000), &json!(5_000))
        );
        let (head, problem) = house.ask("/ws", PROGRAM).await.problem().await;
        assert_eq!((head.status, head.get("retry-after")), (503, "1"));
        assert_eq!(problem["name"], "service_restart");
        // What is no WebSocket is not the gate's business.
        assert_eq!(house.raw(b"GET /x HTTP/1.1\r\nHost: app.test\r\n\r\n").await.head().await.status, 404);
    });
}

#[test]
fn what_is_under_way_is_finished_and_answered_first() {
    let at = Desk::default();
    house(Settings::default(), desk(&at), async |house| {
        let mut client = house.open_session("/ws").await;
        client.text(json!({ "type": "wait", "data": {}, "meta": { "request_id": "abc-123" } })).await;
        at.waits.notified().await;
        let session = house.gate.sessions().pop().unwrap();
        session.send("message", &json!("queued before")).unwrap();
        let heard = async {
            assert_eq!(client.message().await["data"], "queued before");
            client.is_quiet().await;
            at.go.notify_one();
            let reply = client.message().await;
            assert_eq!((&reply["data"], &reply["meta"]["request_id"]), (&json!("waited"), &json!("abc-123")));
            goodbye(&mut client).await
        };
        let (drained, _) = tokio::join!(house.gate.drain(PLAN), heard);
        assert_eq!(drained, Drained { sessions: 1, cut: 0 });
        assert!(session.send("message", &()).is_err());
    });
}

#[test]
fn one_that_is_decided_upon_while_draining_is_refused() {
    let (asked, decide) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (ask, decided) = (Arc::clone(&asked), Arc::clone(&decide));
    let ws = async move |admission: Admission| {
        ask.notify_one();
        decided.notified().await;
        Ok::<_, Refusal>(admission.accept(|session| session.serve(Desk::default())))
    };
    house(Settings::default(), Router::new().route("/ws", any(ws)), async |house| {
        let mut client = house.ask("/ws", BROWSER).await;
        asked.notified().await;
        assert_eq!(house.gate.drain(AT_ONCE).await, Drained { sessions: 0, cut: 0 });
        decide.notify_one();
        assert_eq!(client.head().await.get("saywhy-refused"), "service_restart");
        assert_eq!(client.last_word().await.error["data"]["retry_after_ms"], 1_000);
    });
}

/// A handler and a session of its own, neither of which ever ends.
#[test]
fn at_the_deadline_the_rest_is_cut_and_counted_and_told_all_the_same() {
    let at = Desk::default();
    let began = Arc::new(Notify::new());
    let begins = Arc::clone(&began);
    let raw = async move |admission: Admission| {
        admission.accept(async move |mut session: Session| {
            session.next().await;
            begins.notify_one();
            std::future::pending::<()>().await;
        })
    };
    let router = desk(&at).route("/raw", any(raw));
    house(Settings::default(), router, async |house| {
        let mut stuck = house.open_session("/ws").await;
        stuck.text(json!({ "type": "wait", "data": {} })).await;
        at.waits.notified().await;
        let mut raw = house.open_session("/raw").await;
        raw.text("begin").await;
        began.notified().await;
        let _idle = house.open_session("/ws").await;
        // Who only does not confirm in time is cut, too.
        assert_eq!(house.gate.drain(AT_ONCE).await, Drained { sessions: 3, cut: 3 });
        goodbye(&mut stuck).await;
        goodbye(&mut raw).await;
        for _ in 0..2 {
            assert_eq!(house.ending().await.get("cause"), "service_restart");
        }
    });
}

#[test]
fn a_drain_that_nobody_waits_for_goes_on() {
    house(Settings::default(), desk(&Desk::default()), async |house| {
        let mut client = house.open_session("/ws").await;
        tokio::select! {
            biased;
            _ = house.gate.drain(PLAN) => panic!("a client is still there"),
            () = std::future::ready(()) => {}
        }
        goodbye(&mut client).await;
    });
}

#[test]
fn who_closes_during_a_drain_is_answered_as_ever() {
    house(Settings::default(), desk(&Desk::default()), async |house| {
        let client = house.open_session("/ws").await;
        let vanished = house.open_session("/ws").await;
        let leaving = async {
            vanished.reset();
            let mut client = client;
            assert_eq!(client.message().await["type"], "goodbye");
            client.close(1001, "").await;
            assert_eq!(client.rest().await, [Seen::Close(1012, "The service is restarting".into()), Seen::Fin]);
        };
        let (drained, ()) = tokio::join!(house.gate.drain(PLAN), leaving);
        assert_eq!(drained, Drained { sessions: 2, cut: 0 });
    });
}
