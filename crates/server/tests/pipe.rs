//! `testing::pipe`: what its documentation promises to those who test with it.

mod support;

use saywhy::catalogue::{KICKED, NOT_FOUND, SLOW_CONSUMER};
use saywhy::testing::{pipe, pipe_with};
use saywhy::{DrainPlan, Drained, EndCause, Message, Session, Settings};
use serde_json::{Value, json};
use std::time::Duration;
use support::{Desk, SECRET, limits};

fn request(kind: &str, data: Value) -> String {
    json!({ "type": kind, "data": data, "meta": { "request_id": "1" } }).to_string()
}

#[tokio::test]
async fn a_client_speaks_to_a_handler() {
    let mut client = pipe(|session| session.serve(Desk::default()));
    assert_eq!(client.next().await.unwrap()["type"], "ready");
    client.send(&request("echo", json!({ "text": "hello" }))).await;
    assert_eq!(client.next().await.unwrap()["data"], json!({ "text": "hello" }));
    client.send(&request("reply", json!({ "row": "not_found" }))).await;
    assert_eq!(client.next().await.unwrap()["data"]["fatal"], false);
    let gate = client.gate().clone();
    gate.sessions()[0].send("message", &json!("from elsewhere")).unwrap();
    assert_eq!(client.next().await.unwrap()["data"], "from elsewhere");
    let ending = client.leave().await;
    assert_eq!((ending.cause, ending.confirmed), (EndCause::Finished, true));
    assert!(gate.sessions().is_empty());
}

#[tokio::test]
async fn a_client_hears_why_and_then_nothing() {
    // What is sent, the message, and the Close.
    let cases = [
        (request("close", json!({ "row": "not_found" })), "not_found", 4001),
        (request("panic", json!({})), "internal_error", 1011),
    ];
    for (sent, name, code) in cases {
        let mut client = pipe(|session| session.serve(Desk::default()));
        client.next().await;
        client.send(&sent).await;
        let error = client.next().await.unwrap();
        assert_eq!((&error["data"]["name"], &error["data"]["fatal"]), (&json!(name), &json!(true)));
        assert!(!error.to_string().contains(SECRET));
        assert_eq!(client.next().await, None);
        client.send("into the void").await;
        assert_eq!(client.next().await, None);
        let ending = client.ending().await;
        assert_eq!((ending.cause, ending.confirmed), (EndCause::PeerClosed, true));
        assert_eq!(ending.received.unwrap().code.as_u16(), code);
    }
}

#[tokio::test]
async fn settings_are_one_s_own() {
    let mut client = pipe_with(limits(|limits| limits.message_bytes = 100), |session| session.serve(Desk::default()));
    assert_eq!(client.next().await.unwrap()["data"]["limits"]["message_bytes"], 100);
    client.send(&"x".repeat(101)).await;
    assert_eq!(client.next().await.unwrap()["data"]["name"], "message_too_big");
    assert_eq!(client.ending().await.received.unwrap().code.as_u16(), 1009);

    let silent = Settings { envelope: false, ..Settings::default() };
    let mut client = pipe_with(silent, |session| session.each(|message| Some(message)));
    client.send("7").await;
    assert_eq!(client.next().await, Some(json!(7)), "and no ready before it");

    let few = Settings { outbound_messages: 10, ..Settings::default() };
    let mut client = pipe_with(few, |session| session.serve(Desk::default()));
    client.next().await;
    let outbox = client.gate().sessions().pop().unwrap();
    while outbox.send("message", &()).is_ok() {}
    assert_eq!(client.next().await.unwrap()["data"]["code"], SLOW_CONSUMER.code);
    assert_eq!(client.next().await, None);
}

#[tokio::test]
async fn a_session_of_one_s_own_and_a_kick_and_a_drain() {
    let echo = async |mut session: Session| {
        while let Some(Message::Text(words)) = session.next().await {
            session.send(Message::Text(words));
        }
    };
    let mut client = pipe(echo);
    client.next().await;
    client.send("7").await;
    assert_eq!(client.next().await, Some(json!(7)));
    client.gate().sessions()[0].close_now(KICKED.say("out"));
    assert_eq!(client.next().await.unwrap()["data"]["message"], "out");
    assert_eq!(client.ending().await.received.unwrap().code.as_u16(), 4008);

    let mut client = pipe(echo);
    client.next().await;
    let gate = client.gate().clone();
    let (drained, ending) = tokio::join!(gate.drain(DrainPlan::default()), client.ending());
    assert_eq!(drained, Drained { sessions: 1, cut: 0 });
    assert_eq!(ending.received.unwrap().code.as_u16(), 1012);

    let client = pipe(async |session: Session| session.close(NOT_FOUND).await);
    assert_eq!(client.ending().await.received.unwrap().code.as_u16(), 4001);
    let client = pipe(async |session: Session| drop(session));
    assert_eq!(client.ending().await.received.unwrap().code.as_u16(), 1000);
}

/// The clock is the test's own: an hour of heartbeats takes no time.
#[tokio::test(start_paused = true)]
async fn time_is_virtual_when_the_test_says_so() {
    let mut client = pipe(|session| session.serve(Desk::default()));
    client.next().await;
    let hour = tokio::time::timeout(Duration::from_secs(3_600), client.next()).await;
    assert!(hour.is_err(), "alive, and nothing to say: {hour:?}");
    client.gate().sessions()[0].expires_in(Duration::from_secs(60));
    let expiring = client.next().await.unwrap();
    assert_eq!((&expiring["type"], &expiring["data"]["expires_in_ms"]), (&json!("auth_expiring"), &json!(30_000)));
    let expired = client.next().await.unwrap();
    assert_eq!(
        (&expired["data"]["name"], &expired["data"]["details"]["reason"]),
        (&json!("unauthorized"), &json!("token_expired"))
    );
    assert_eq!(client.ending().await.received.unwrap().code.as_u16(), 4003);
}

/// A server that waits for its output does not read, so it hears no Pong; that is no silence of the client's.
#[tokio::test(start_paused = true)]
async fn a_client_that_reads_slowly_is_not_taken_for_a_dead_one() {
    let mut client = pipe(|session| session.serve(Desk::default()));
    client.next().await;
    let outbox = client.gate().sessions().pop().unwrap();
    let page = "x".repeat(60_000);
    for n in 0..16 {
        outbox.send("page", &json!({ "n": n, "page": page })).unwrap();
    }
    for n in 0..16 {
        tokio::time::advance(Duration::from_secs(8)).await;
        assert_eq!(client.next().await.unwrap()["data"]["n"], n);
    }
    client.send(&request("ping", json!({}))).await;
    assert_eq!(client.next().await.unwrap()["type"], "pong");
}
