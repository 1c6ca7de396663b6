//! Each case of `conformance/violations` over a real socket: the code, the reason, the message before it where one can
//! still be sent, and the end.

#[path = "../../../conformance/violations/cases.rs"]
mod cases;
mod support;

use axum::Router;
use axum::response::Response;
use axum::routing::any;
use cases::{Case, Cases};
use saywhy::{Admission, Settings};
use saywhy_codes::Role;
use saywhy_proto::frame::Opcode;
use serde_json::Value;
use support::*;

const PROBE: &[u8] = b"still there?";

fn settings(cases: &Cases) -> Settings {
    limits(|limits| limits.message_bytes = cases.message_bytes)
}

#[test]
fn a_client_hears_what_was_wrong_in_a_message_and_a_close() {
    let cases = Cases::read();
    house(settings(&cases), desk(&Desk::default()), async |house| {
        for case in cases.of(Role::Client) {
            let mut client = house.open_session("/ws").await;
            let error = play(case, &mut client).await;
            let told = error.as_ref().map(|error| (&error["name"], &error["message"]));
            let row = case.answer.row.as_ref().map(|row| Value::from(&**row));
            let words = Value::from(&*case.answer.reason);
            assert_eq!(told, row.as_ref().map(|row| (row, &words)), "{}", case.name);
        }
    });
}

#[test]
fn without_the_envelope_a_client_hears_it_in_the_close() {
    let echo =
        async |admission: Admission| -> Response { admission.accept(|session| session.each(|message| Some(message))) };
    let cases = Cases::read();
    let settings = Settings { envelope: false, ..settings(&cases) };
    house(settings, Router::new().route("/ws", any(echo)), async |house| {
        for case in cases.of(Role::Client) {
            let mut client = house.ask("/ws", PROGRAM).await;
            client.head().await;
            assert_eq!(play(case, &mut client).await, None, "{}", case.name);
        }
    });
}

#[test]
#[should_panic = "a reason that is wrong"]
fn another_reason_is_noticed() {
    let cases = Cases::read();
    let mut case = cases.of(Role::Client).next().unwrap().clone();
    case.answer.reason = "a reason that is wrong".to_owned();
    house(settings(&cases), desk(&Desk::default()), async |house| {
        let mut client = house.open_session("/ws").await;
        play(&case, &mut client).await;
    });
}

/// Sends the case and looks at all that comes of it, to the end. The fatal error before the Close, if there was one.
async fn play(case: &Case, client: &mut Client) -> Option<Value> {
    client.raw(&case.bytes(Role::Client)).await;
    if case.answer.goes_on {
        return goes_on(case, client).await;
    }
    let (error, close) = last_word(client).await;
    let (code, reason) = (case.answer.code.unwrap_or(1005), case.answer.reason.clone());
    assert_eq!(close, Seen::Close(code, reason), "{}", case.name);
    if !case.closes() {
        client.is_quiet().await;
        if case.is_cut() { client.half_close().await } else { client.close(code, "").await }
    }
    assert_eq!(client.next().await, Seen::Fin, "{}", case.name);
    error
}

/// What comes up to the Close: answers that are not fatal are passed over.
async fn last_word(client: &mut Client) -> (Option<Value>, Seen) {
    let mut error = None;
    loop {
        match client.next().await {
            Seen::Text(message) if message["data"]["fatal"] == true => error = Some(message["data"].clone()),
            Seen::Text(_) | Seen::Pong(_) => assert_eq!(error, None, "something follows the last message"),
            end => return (error, end),
        }
    }
}

async fn goes_on(case: &Case, client: &mut Client) -> Option<Value> {
    client.frame(true, Opcode::Ping, PROBE).await;
    loop {
        match client.next().await {
            Seen::Pong(payload) if payload == PROBE => break,
            Seen::Text(_) | Seen::Pong(_) => {}
            other => panic!("{}: {other:?}", case.name),
        }
    }
    client.close(1000, "").await;
    assert_eq!(client.rest().await, [Seen::Close(1000, String::new()), Seen::Fin], "{}", case.name);
    None
}
