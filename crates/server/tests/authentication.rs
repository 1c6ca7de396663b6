//! Tokens at the door, in the first message and in a session: who is heard for what, revocation, and those who keep trying.

mod support;

use axum::Router;
use axum::routing::any;
use saywhy::{
    Admission, Failure, Gate, Handler, Limits, NotRevoked, Outbox, Revoked, Session, Settings, TokenKeys, TokenSigner,
};
use saywhy_proto::frame::Opcode;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use support::*;

const KEY: &[u8] = b"0123456789abcdef0123456789abcdef";

fn token(claims: Value) -> String {
    let mut all = json!({ "sub": "alice", "exp": 4_000_000_000_u64, "secret": SECRET });
    all.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
    TokenSigner::hs256(KEY).sign(&all).unwrap()
}

fn bearer(claims: Value) -> String {
    format!("access_token={}", token(claims))
}

fn authenticate(token: &str) -> Value {
    json!({ "type": "authenticate", "data": { "token": token }, "meta": { "request_id": "first" } })
}

/// An application that says what it hears, and renews.
struct Renewing {
    gate: Gate,
    keys: Arc<TokenKeys>,
    outbox: Option<Outbox>,
}

#[derive(Deserialize)]
#[serde(tag = "type", content = "data", rename_all = "snake_case")]
enum Command {
    Echo { text: String },
    Authenticate { token: String },
}

impl Handler for Renewing {
    type Command = Command;
    type Event = Value;

    async fn on_open(&mut self, outbox: &Outbox) -> Result<(), Failure> {
        self.outbox = Some(outbox.clone());
        Ok(())
    }

    async fn on_message(&mut self, command: Command) -> Result<Value, Failure> {
        match command {
            Command::Echo { text } => Ok(json!(text)),
            Command::Authenticate { token } => {
                let session = self.outbox.as_ref().unwrap();
                self.gate.renew::<Value>(session, &self.keys, &token).await.map(|_| json!("renewed"))
            }
        }
    }
}

/// `/door` wants a token at the door, `/first` takes it in the first message; both in the house of `gate`, which the test
/// has too.
fn doors(settings: &Settings) -> (Router, Gate) {
    let gate = Gate::new(settings.clone());
    let keys = Arc::new(TokenKeys::hs256(KEY));
    let renewing = {
        let (gate, keys) = (gate.clone(), Arc::clone(&keys));
        move || Renewing { gate: gate.clone(), keys: Arc::clone(&keys), outbox: None }
    };
    let (at_door, in_first) = ((Arc::clone(&keys), renewing.clone()), (keys, renewing));
    let door = async move |admission: Admission| {
        admission.authenticate::<Value>(&at_door.0).await?;
        let handler = at_door.1();
        Ok::<_, saywhy::Refusal>(admission.accept(|session| session.serve(handler)))
    };
    let first = async move |admission: Admission| {
        let (keys, renewing) = in_first.clone();
        admission.ask_for_token(async move |applicant| {
            applicant.authenticate::<Value>(&keys).await?;
            Ok(move |session: Session| session.serve(renewing()))
        })
    };
    (Router::new().route("/door", any(door)).route("/first", any(first)).layer(gate.clone()), gate)
}

fn with_doors(settings: Settings, test: impl AsyncFnOnce(&House, &Gate)) {
    let (router, gate) = doors(&settings);
    house(settings, router, async |house| test(house, &gate).await);
}

async fn refused_at(house: &House, target: &str) -> (String, Value) {
    let (_, problem) = house.ask(target, PROGRAM).await.problem().await;
    (problem["name"].as_str().unwrap().to_owned(), problem)
}

/// A connection that was let in to bring its token.
async fn asked(house: &House) -> Client {
    let mut client = house.ask("/first", BROWSER).await;
    let head = client.head().await;
    assert_eq!((head.status, head.get("saywhy-refused")), (101, ""));
    client
}

// ---- the first message --------------------------------------------------------------------------------------------

#[test]
fn a_token_in_the_first_message_opens_the_session() {
    with_doors(Settings::default(), async |house, gate| {
        let mut client = asked(house).await;
        client.is_quiet().await;
        assert_eq!(client.request(json!({ "type": "ping" })).await["type"], "pong");
        assert!(gate.sessions().is_empty(), "nobody can send anything to it yet");
        // What comes with the token is heard after it.
        client.text(authenticate(&token(json!({})))).await;
        client.text(json!({ "type": "echo", "data": { "text": "hi" }, "meta": { "request_id": "2" } })).await;
        let ready = client.message().await;
        assert_eq!((&ready["type"], &ready["data"]["user"]), (&json!("ready"), &json!("alice")));
        assert_eq!(ready["meta"]["request_id"], "first");
        assert_eq!(client.message().await["data"], "hi");
        assert_eq!(gate.sessions().len(), 1);
        client.leave().await;
        assert_eq!(house.ending().await.get("stage"), "session");
        // One who brings it earlier is not asked.
        house.open_session(&format!("/door?{}", bearer(json!({})))).await.leave().await;
    });
}

/// T24: message × state, before `ready` on every kind of route: nothing but what is allowed is answered.
#[test]
fn t24_before_ready_nothing_is_answered_but_what_is_allowed() {
    let good = token(json!({}));
    let text = |value: Value| (Opcode::Text, value.to_string());
    let messages = [
        (text(json!({ "type": "ping" })), "pong", ""),
        (text(json!({ "type": "ping", "meta": { "request_id": "p" } })), "pong", ""),
        (text(authenticate(&good)), "ready", ""),
        (text(authenticate("garbage")), "unauthorized", "token_invalid"),
        (text(authenticate(&token(json!({ "exp": 1_000 })))), "unauthorized", "token_expired"),
        (text(authenticate("")), "unauthorized", "token_missing"),
        (text(json!({ "type": "authenticate" })), "bad_request", ""),
        (text(json!({ "type": "authenticate", "data": { "token": 7 } })), "bad_request", ""),
        (text(json!({ "type": "echo", "data": { "text": "hi" } })), "unauthorized", "token_missing"),
        (text(json!({ "type": "__proto__" })), "unauthorized", "token_missing"),
        (text(json!({ "type": "ready" })), "unauthorized", "token_missing"),
        (text(json!({ "data": {} })), "bad_request", ""),
        ((Opcode::Text, "not json".to_owned()), "bad_request", ""),
        ((Opcode::Text, String::new()), "bad_request", ""),
        ((Opcode::Binary, "x".to_owned()), "unsupported_data", ""),
        ((Opcode::Text, "x".repeat(8 * 1024 + 1)), "message_too_big", ""),
    ];
    with_doors(Settings { failed_tokens: 0, ..Settings::default() }, async |house, _| {
        for ((opcode, payload), expected, reason) in &messages {
            let mut client = asked(house).await;
            client.frame(true, *opcode, payload.as_bytes()).await;
            if matches!(*expected, "pong" | "ready") {
                assert_eq!(client.message().await["type"], *expected);
                client.leave().await;
                house.ending().await;
                continue;
            }
            let word = client.last_word().await;
            assert_eq!(word.error["data"]["name"], *expected, "{payload:.80}");
            let details = &word.error["data"]["details"]["reason"];
            assert_eq!(details.as_str().unwrap_or_default(), *reason, "{payload:.80}");
            let ending = house.ending().await;
            assert_eq!((ending.get("stage"), ending.get("cause")), ("admission", *expected), "{payload:.80}");
        }
        // A few pings are patience, more are something else.
        let mut client = asked(house).await;
        for _ in 0..8 {
            assert_eq!(client.request(json!({ "type": "ping" })).await["type"], "pong");
        }
        client.text(json!({ "type": "ping" })).await;
        assert_eq!(client.last_word().await.error["data"]["name"], "policy_violation");
        // Control frames are the protocol's.
        let mut client = asked(house).await;
        client.frame(true, Opcode::Ping, b"x").await;
        assert_eq!(client.next().await, Seen::Pong(b"x".to_vec()));
        client.leave().await;
    });
    // The same messages, to a route that has not decided, to one whose application is not ready, and to one that refuses:
    // no answer to any of them.
    let silent = Router::new()
        .route(
            "/undecided",
            any(async |_admission: Admission| std::future::pending::<axum::response::Response>().await),
        )
        .route(
            "/unready",
            any(async |admission: Admission| {
                admission.accept(|session| async move {
                    let _session = session;
                    std::future::pending::<()>().await;
                })
            }),
        )
        .route("/refused", any(async |admission: Admission| admission.refuse(saywhy::catalogue::FORBIDDEN)));
    let patient = Settings {
        limits: Arc::new(Limits { ready: Duration::from_millis(50), ..Limits::default() }),
        ..Settings::default()
    };
    house(patient, silent, async |house| {
        for (path, name) in [("/undecided", "overloaded"), ("/unready", "timeout"), ("/refused", "forbidden")] {
            for ((opcode, payload), ..) in &messages {
                let mut client = house.ask(path, BROWSER).await;
                client.frame(true, *opcode, payload.as_bytes()).await;
                client.head().await;
                assert_eq!(client.error_and_close().await.error["data"]["name"], name, "{path} {payload:.80}");
                client.close(1000, "").await;
                assert_eq!(client.next().await, Seen::Fin);
            }
        }
    });
}

#[test]
fn who_brings_no_token_in_time_is_told_so() {
    let limits = Limits { ready: Duration::from_millis(30), ..Limits::default() };
    with_doors(Settings { limits: Arc::new(limits), ..Settings::default() }, async |house, _| {
        let mut client = asked(house).await;
        let word = client.last_word().await;
        assert_eq!((word.code, &*word.reason), (3008, "No token came in time"));
        assert_eq!(word.error["data"]["details"]["reason"], "token_missing");
        let ending = house.ending().await;
        assert_eq!((ending.get("stage"), ending.get("cause")), ("admission", "timeout"));
    });
}

#[test]
fn t18_so_many_may_be_without_a_token_and_no_more() {
    let few = Settings { unauthenticated: 2, ..Settings::default() };
    let near = Settings { unauthenticated_per_address: 2, ..Settings::default() };
    for (settings, name) in [(few, "overloaded"), (near, "rate_limited")] {
        with_doors(settings, async |house, _| {
            let (mut first, second) = (asked(house).await, asked(house).await);
            let (refused, problem) = refused_at(house, "/first").await;
            assert_eq!((&*refused, &problem["retry"]), (name, &json!("after")));
            house.ending().await;
            // Who has a token is not among them, and neither is who has brought it, or who has gone.
            let with_token = house.open_session(&format!("/door?{}", bearer(json!({})))).await;
            first.text(authenticate(&token(json!({})))).await;
            assert_eq!(first.message().await["type"], "ready");
            let third = asked(house).await;
            assert_eq!(refused_at(house, "/first").await.0, name);
            second.leave().await;
            third.leave().await;
            let (fourth, fifth) = (asked(house).await, asked(house).await);
            for client in [with_token, first, fourth, fifth] {
                client.leave().await;
            }
        });
    }
}

#[test]
fn without_the_envelope_nobody_is_asked() {
    let settings = Settings { subprotocols: vec!["mqtt".to_owned()], ..Settings::default() };
    with_doors(settings, async |house, _| {
        let mut client = house.ask("/first", &[BROWSER[0], ("Sec-WebSocket-Protocol", "mqtt")]).await;
        assert_eq!(client.head().await.get("saywhy-refused"), "unauthorized");
        assert!(matches!(client.next().await, Seen::Close(4003, _)));
        client.close(4003, "").await;
        assert_eq!(client.next().await, Seen::Fin);
    });
}

#[test]
fn a_drain_reaches_those_who_are_asked_and_a_panic_tells_them_nothing() {
    let panics = async |admission: Admission| {
        admission.ask_for_token(async |_| -> Result<fn(Session) -> std::future::Ready<()>, _> { panic!("{SECRET}") })
    };
    house(Settings::default(), Router::new().route("/first", any(panics)), async |house| {
        let mut client = asked(house).await;
        client.text(authenticate("x")).await;
        let word = client.last_word().await;
        assert_eq!(
            (&word.error["data"]["name"], &word.error["meta"]["request_id"]),
            (&json!("internal_error"), &json!("first"))
        );
        assert!(house.ending().await.get("private").contains(SECRET));
        let mut client = asked(house).await;
        let plan = saywhy::DrainPlan { deadline: Duration::from_secs(20), ..saywhy::DrainPlan::default() };
        let (drained, word) = tokio::join!(house.gate.drain(plan), client.last_word());
        assert_eq!((word.error["data"]["name"].as_str(), word.code), (Some("service_restart"), 1012));
        assert_eq!(drained.cut, 0);
    });
}

// ---- revocation ---------------------------------------------------------------------------------------------------

/// T26: revocation closes every socket of the identity within a second, on every route, and no other.
#[test]
fn t26_revocation_closes_every_socket_of_the_identity() {
    with_doors(Settings { failed_tokens: 0, ..Settings::default() }, async |house, gate| {
        let door = |claims| format!("/door?{}", bearer(claims));
        let mut alices = vec![
            house.open_session(&door(json!({}))).await,
            house.open_session(&door(json!({ "iat": 1_000, "jti": "t1" }))).await,
        ];
        let mut first = asked(house).await;
        first.text(authenticate(&token(json!({ "iat": 1_000 })))).await;
        assert_eq!(first.message().await["type"], "ready");
        alices.push(first);
        let mut bob = house.open_session(&door(json!({ "sub": "bob", "jti": "t2" }))).await;
        let (revocation, ended) = gate.revoke(Revoked::User("alice".into()), None).unwrap();
        assert_eq!(ended, 3);
        assert_eq!(revocation.until - revocation.since, 24 * 60 * 60);
        let closed = tokio::time::timeout(Duration::from_secs(1), async {
            for alice in &mut alices {
                let word = alice.last_word().await;
                assert_eq!((&word.error["data"]["name"], word.code), (&json!("unauthorized"), 4003));
                assert_eq!(word.error["data"]["details"]["reason"], "token_revoked");
                assert_eq!(word.error["data"]["retry"], "reauthenticate");
            }
        });
        closed.await.expect("within a second");
        for _ in 0..3 {
            assert_eq!(house.ending().await.get("cause"), "unauthorized");
        }
        // What was issued before, or does not say when, is refused at the door and in the first message.
        for claims in [json!({}), json!({ "iat": 1_000 }), json!({ "iat": revocation.since })] {
            let (name, problem) = refused_at(house, &door(claims.clone())).await;
            assert_eq!((&*name, &problem["details"]["reason"]), ("unauthorized", &json!("token_revoked")));
            let mut client = asked(house).await;
            client.text(authenticate(&token(claims))).await;
            assert_eq!(client.last_word().await.error["data"]["details"]["reason"], "token_revoked");
        }
        // What was issued since then is good, and stays so.
        let mut alice = house.open_session(&door(json!({ "iat": revocation.since + 1 }))).await;
        // At renewal, the same.
        let request = |claims| json!({ "type": "authenticate", "data": { "token": token(claims) }, "meta": { "request_id": "r" } });
        assert_eq!(alice.request(request(json!({ "iat": revocation.since + 1 }))).await["data"], "renewed");
        alice.text(request(json!({}))).await;
        assert_eq!(alice.last_word().await.error["data"]["details"]["reason"], "token_revoked");
        // Nobody else was touched.
        let echo = json!({ "type": "echo", "data": { "text": "here" }, "meta": { "request_id": "e" } });
        assert_eq!(bob.request(echo).await["data"], "here");
        bob.leave().await;
        // Taken back, it is as if nothing had been.
        assert!(gate.restore(&Revoked::User("alice".into())));
        house.open_session(&door(json!({}))).await.leave().await;
    });
}

#[test]
fn one_token_is_revoked_by_its_id_also_when_it_came_by_renewal() {
    with_doors(Settings::default(), async |house, gate| {
        let door = |claims| format!("/door?{}", bearer(claims));
        let mut one = house.open_session(&door(json!({ "jti": "t1" }))).await;
        let mut other = house.open_session(&door(json!({ "jti": "t2" }))).await;
        let renew = |id: &str| json!({ "type": "authenticate", "data": { "token": token(json!({ "jti": id })) }, "meta": { "request_id": "r" } });
        assert_eq!(other.request(renew("t3")).await["data"], "renewed");
        // It has that one no more.
        assert_eq!(gate.revoke(Revoked::Token("t2".into()), None).unwrap().1, 0);
        assert_eq!(gate.revoke(Revoked::Token("t1".into()), None).unwrap().1, 1);
        assert_eq!(one.last_word().await.error["data"]["details"]["reason"], "token_revoked");
        assert_eq!(refused_at(house, &door(json!({ "jti": "t1" }))).await.0, "unauthorized");
        assert_eq!(gate.revoke(Revoked::Token("t3".into()), None).unwrap().1, 1);
        assert_eq!(other.last_word().await.error["data"]["details"]["reason"], "token_revoked");
        house.open_session(&door(json!({ "jti": "t4" }))).await.leave().await;
        // Bounded in size, number and time.
        assert_eq!(gate.revoke(Revoked::Token(String::new()), None), Err(NotRevoked::NoId));
        assert_eq!(gate.revoke(Revoked::User("x".repeat(257)), None), Err(NotRevoked::NoId));
        let late = gate.revocations(None, 1)[0].since + 2 * 24 * 60 * 60;
        assert_eq!(gate.revoke(Revoked::User("x".into()), Some(late)), Err(NotRevoked::TooLong { most_s: 86_400 }));
        assert_eq!(gate.revocations(None, 10).len(), 3);
    });
}

/// Between the check of a token and the moment when the route lets its bearer in.
#[test]
fn who_is_revoked_while_the_route_decides_is_not_let_in() {
    let gate = Gate::new(Settings::default());
    let revoking = gate.clone();
    let route = async move |admission: Admission| {
        admission.authenticate::<Value>(&TokenKeys::hs256(KEY)).await?;
        assert_eq!(revoking.revoke(Revoked::User("alice".into()), None).unwrap().1, 0);
        Ok::<_, saywhy::Refusal>(admission.accept(|session| session.each(|message| Some(message))))
    };
    let router = Router::new().route("/door", any(route)).layer(gate);
    house(Settings::default(), router, async |house| {
        let (name, problem) = refused_at(house, &format!("/door?{}", bearer(json!({})))).await;
        assert_eq!((&*name, &problem["details"]["reason"]), ("unauthorized", &json!("token_revoked")));
    });
}

// ---- those who keep trying ----------------------------------------------------------------------------------------

/// T19: failed authentications are rate-limited per address, before the token is looked at.
#[test]
fn t19_past_so_many_tokens_that_are_not_good_none_is_looked_at() {
    with_doors(Settings { failed_tokens: 3, ..Settings::default() }, async |house, _| {
        let mut before = house.open_session(&format!("/door?{}", bearer(json!({})))).await;
        for target in ["/door", "/door", "/door", "/door", "/door"] {
            assert_eq!(refused_at(house, target).await.0, "unauthorized", "without a token nothing was tried");
        }
        for _ in 0..4 {
            assert_eq!(refused_at(house, "/door?access_token=garbage").await.0, "unauthorized");
        }
        // Not even a good one is looked at now, at the door, in the first message, or to stay longer.
        let (name, problem) = refused_at(house, &format!("/door?{}", bearer(json!({})))).await;
        assert_eq!((&*name, &problem["details"]["reason"]), ("rate_limited", &json!("failed_tokens")));
        let wait = problem["retry_after_ms"].as_u64().unwrap();
        assert!((1..=20_000).contains(&wait), "{wait}");
        let mut client = asked(house).await;
        client.text(authenticate(&token(json!({})))).await;
        assert_eq!(client.last_word().await.error["data"]["name"], "rate_limited");
        let renew =
            json!({ "type": "authenticate", "data": { "token": token(json!({})) }, "meta": { "request_id": "r" } });
        let answer = before.request(renew).await;
        assert_eq!((&answer["data"]["name"], &answer["data"]["fatal"]), (&json!("rate_limited"), &json!(false)));
        before.leave().await;
    });
    // Negative control: without the limit, each is looked at.
    with_doors(Settings { failed_tokens: 0, ..Settings::default() }, async |house, _| {
        for _ in 0..10 {
            assert_eq!(refused_at(house, "/door?access_token=garbage").await.0, "unauthorized");
        }
        house.open_session(&format!("/door?{}", bearer(json!({})))).await.leave().await;
    });
}

/// Nobody can keep a person out by presenting that person's old tokens from elsewhere: a good token is still good.
#[test]
fn an_identity_whose_tokens_are_not_good_is_slowed_down_and_not_locked_out() {
    // `axum::serve` tells no addresses, so that only the identity counts.
    let settings = Settings { failed_tokens: 2, ..Settings::default() };
    let (router, _) = doors(&settings);
    house_with(Front::Axum, settings, router, async |house| {
        let old = format!("/door?{}", bearer(json!({ "exp": 1_000 })));
        for name in ["unauthorized", "unauthorized", "rate_limited", "rate_limited"] {
            assert_eq!(refused_at(house, &old).await.0, name);
        }
        assert_eq!(
            refused_at(house, &format!("/door?{}", bearer(json!({ "sub": "bob", "exp": 1_000 })))).await.0,
            "unauthorized"
        );
        house.open_session(&format!("/door?{}", bearer(json!({})))).await.leave().await;
    });
}

#[test]
fn two_that_keep_taking_each_other_s_place_are_stopped() {
    let settings = Settings { one_per_identity: true, replacements: 3, ..Settings::default() };
    with_doors(settings, async |house, _| {
        let door = format!("/door?{}", bearer(json!({})));
        let mut last = house.open_session(&door).await;
        for _ in 0..3 {
            let next = house.open_session(&door).await;
            assert_eq!(last.last_word().await.error["data"]["name"], "replaced");
            last = next;
        }
        let (name, problem) = refused_at(house, &door).await;
        assert_eq!((&*name, &problem["details"]["reason"]), ("rate_limited", &json!("replacing")));
        assert!((1..=20_000).contains(&problem["retry_after_ms"].as_u64().unwrap()), "{problem}");
        // In the first message too, where the path has an identity's connection of its own.
        let mut first = asked(house).await;
        first.text(authenticate(&token(json!({})))).await;
        assert_eq!(first.message().await["type"], "ready");
        let mut second = asked(house).await;
        second.text(authenticate(&token(json!({})))).await;
        assert_eq!(second.message().await["type"], "ready");
        assert_eq!(first.last_word().await.error["data"]["name"], "replaced");
        // The one that is there stays, and others come and go as they like.
        let echo = json!({ "type": "echo", "data": { "text": "here" }, "meta": { "request_id": "e" } });
        assert_eq!(last.request(echo).await["data"], "here");
        house.open_session(&format!("/door?{}", bearer(json!({ "sub": "bob" })))).await.leave().await;
        last.leave().await;
        second.leave().await;
        // Nobody is there to be replaced: no limit.
        for _ in 0..5 {
            house.open_session(&door).await.leave().await;
        }
    });
}
