//! T35, T37: nothing private reaches a peer, and no token a log, wherever something fails. What was planted is looked
//! for in all that was ever heard and logged, at the end of every test of this crate; here it is planted everywhere.

mod support;

use axum::Router;
use axum::extract::{FromRequestParts, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use saywhy::catalogue::{INTERNAL_ERROR, NOT_FOUND, OVERLOADED, UNAUTHORIZED};
use saywhy::{Admission, Explain, Failure, Handler, Outbox, Rate, Refusal, Session, Settings};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Value, json};
use std::error::Error;
use std::fmt;
use support::*;

/// An error of a database, with the error of a file behind it.
#[derive(Debug)]
struct Database(std::io::Error);

impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ERROR: duplicate key value violates unique constraint \"{SECRET}_pkey\" (SQLSTATE 23505)")
    }
}

impl Error for Database {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

fn failed() -> Result<(), Database> {
    Err(Database(std::io::Error::other(format!("/srv/{SECRET}/users.db: permission denied"))))
}

// ---- admission --------------------------------------------------------------------------------------------------

/// An extractor that fails in its own way.
struct Broken;

impl<S: Sync> FromRequestParts<S> for Broken {
    type Rejection = Response;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Response> {
        match parts.uri.path() {
            "/extractor-panics" => panic!("{SECRET} in an extractor"),
            _ => {
                Err((StatusCode::BAD_REQUEST, [("x-debug", SECRET)], format!("{SECRET} in a rejection"))
                    .into_response())
            }
        }
    }
}

async fn middleware(request: Request, next: Next) -> Response {
    match request.uri().path() {
        "/middleware-panics" => panic!("{SECRET} in a middleware"),
        "/middleware-fails" => {
            (StatusCode::INTERNAL_SERVER_ERROR, [("x-debug", SECRET)], format!("{SECRET} in its body")).into_response()
        }
        "/middleware-redirects" => (StatusCode::FOUND, [("location", format!("/login?{SECRET}"))]).into_response(),
        "/middleware-replaces" => {
            next.run(request).await;
            (StatusCode::BAD_GATEWAY, format!("{SECRET} from upstream")).into_response()
        }
        _ => next.run(request).await,
    }
}

fn failing_admissions() -> Router {
    Router::new()
        .route("/cause", any(async |admission: Admission| admission.refuse(NOT_FOUND).because(failed().unwrap_err())))
        .route(
            "/or-refuse",
            any(async |admission: Admission| {
                failed().or_refuse(UNAUTHORIZED)?;
                Ok::<_, Refusal>(admission.accept(|session| session.serve(Fragile)))
            }),
        )
        .route("/panics", any(async |_: Admission| -> () { panic!("{SECRET}") }))
        .route(
            "/panics-with-a-value",
            any(async |_: Admission| -> () { std::panic::panic_any(Database(std::io::Error::other(SECRET))) }),
        )
        .route(
            "/panics-after-accept",
            any(async |admission: Admission| -> () {
                let _answer = admission.accept(|session| session.serve(Fragile));
                panic!("{SECRET}")
            }),
        )
        .route("/extractor-panics", any(async |_: Broken, _: Admission| ()))
        .route("/extractor-rejects", any(async |_: Broken, _: Admission| ()))
        .route("/dropped", any(async |_: Admission| SECRET))
        .route("/body", any(async || (StatusCode::INTERNAL_SERVER_ERROR, [("x-debug", SECRET)], SECRET)))
        .route(
            "/middleware-replaces",
            any(async |admission: Admission| admission.accept(|session| session.serve(Fragile))),
        )
        .layer(from_fn(middleware))
}

const ADMISSIONS: [&str; 14] = [
    "/cause",
    "/or-refuse",
    "/panics",
    "/panics-with-a-value",
    "/panics-after-accept",
    "/extractor-panics",
    "/extractor-rejects",
    "/dropped",
    "/body",
    "/middleware-panics",
    "/middleware-fails",
    "/middleware-redirects",
    "/middleware-replaces",
    "/no/such/path",
];

#[test]
fn nothing_private_leaves_a_refusal() {
    house(Settings::default(), failing_admissions(), async |house| {
        for path in ADMISSIONS {
            let mut client = house.ask(path, BROWSER).await;
            let head = client.head().await;
            assert_eq!(head.status, 101, "{path}");
            client.last_word().await;
            let (head, problem) = house.ask(path, PROGRAM).await.problem().await;
            assert!(head.status >= 400 && problem["name"].is_string(), "{path}");
            assert_eq!((head.get("x-debug"), head.get("location")), ("", ""), "{path}");
        }
        // The operator reads the whole chain.
        let lines = house.log.lines();
        let cause = lines.iter().find(|line| line.get("path") == r#""/or-refuse""#).unwrap().get("private");
        assert!(cause.contains("SQLSTATE 23505") && cause.ends_with("users.db: permission denied"), "{cause}");
    });
}

/// T35: with each token in each of its places, whatever happens then.
#[test]
fn a_token_is_neither_told_nor_logged() {
    let settings =
        || Settings { token_cookie: Some("session".into()), refusals_per_address: Rate::NONE, ..Settings::default() };
    let queries = [format!("?access_token={TOKEN}"), format!("?a=b&access_token={}", TOKEN.replace('-', "%2D"))];
    let headers = [
        ("Authorization", format!("Bearer {TOKEN}")),
        ("Cookie", format!("session={TOKEN}")),
        ("Sec-WebSocket-Protocol", format!("saywhy.v1, saywhy.bearer.{TOKEN}")),
        ("Sec-WebSocket-Protocol", format!("saywhy.bearer.{TOKEN}")),
        ("Sec-WebSocket-Protocol", format!("bearer.{TOKEN}")),
        ("X-Access-Token", TOKEN.to_owned()),
    ];
    let router = || failing_admissions().merge(desk(&Desk::default())).route("/shown", any(shown));
    house(settings(), router(), async |house| {
        let mut requests = Vec::new();
        for path in ADMISSIONS.iter().chain(&["/ws", "/panics-on-open", "/shown"]) {
            requests.extend(queries.iter().map(|query| handshake(&format!("{path}{query}"), BROWSER)));
            requests.extend(headers.iter().map(|(name, value)| handshake(path, &[BROWSER[0], (*name, value)])));
        }
        // And in handshakes that are none, or of a foreign page.
        for (name, value) in &headers {
            let foreign = [("Origin", "http://evil.test"), (*name, value)];
            requests.push(handshake(&format!("/ws{}", queries[0]), &foreign));
            requests
                .push(handshake(&format!("/ws{}", queries[0]), &[(*name, value)]).replace("Version: 13", "Version: 8"));
        }
        for request in requests {
            let mut client = house.ask_raw(&request).await;
            client.head().await;
            client.half_close().await;
            while client.fill().await.is_ok_and(|read| read > 0) {}
        }
        assert!(house.log.lines().len() > 100);
    });
}

/// An application that logs what it has at hand.
async fn shown(admission: Admission) -> Response {
    tracing::info!(?admission, gate = ?admission.id(), "asked");
    admission.accept(async |session| {
        tracing::info!(?session, outbox = ?session.outbox(), "begun");
        session.serve(Fragile).await;
    })
}

// ---- sessions ---------------------------------------------------------------------------------------------------

/// A handler whose every part can fail.
struct Fragile;

#[derive(Deserialize)]
#[serde(tag = "type", content = "data", rename_all = "snake_case")]
enum Command {
    Reply {},
    Close {},
    Panic {},
    PanicWithAValue {},
    Answer { with: String },
    Read { value: Picky },
    Push {},
}

/// Refuses to be read, with words of its own.
struct Picky;

impl<'de> Deserialize<'de> for Picky {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match &*String::deserialize(deserializer)? {
            "panic" => panic!("{SECRET} while reading"),
            _ => Err(serde::de::Error::custom(format!("{SECRET} is the only value that I take"))),
        }
    }
}

/// Refuses to be written.
struct Answer(String);

impl Serialize for Answer {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        match &*self.0 {
            "panic" => panic!("{SECRET} while writing"),
            _ => Err(serde::ser::Error::custom(format!("{SECRET} cannot be written"))),
        }
    }
}

impl Handler for Fragile {
    type Command = Command;
    type Event = Answer;

    async fn on_open(&mut self, outbox: &Outbox) -> Result<(), Failure> {
        // Not sent, and only logged.
        assert!(outbox.send("message", &Answer("error".into())).is_err());
        Ok(())
    }

    async fn on_message(&mut self, command: Command) -> Result<Answer, Failure> {
        match command {
            Command::Reply {} => failed().or_reply(OVERLOADED)?,
            Command::Close {} => failed().or_close(INTERNAL_ERROR)?,
            Command::Panic {} => panic!("{SECRET}"),
            Command::PanicWithAValue {} => std::panic::panic_any(failed()),
            Command::Push {} | Command::Read { value: Picky } => {}
            Command::Answer { with } => return Ok(Answer(with)),
        }
        Ok(Answer("error".into()))
    }
}

#[test]
fn nothing_private_leaves_a_session() {
    let raw = async |admission: Admission| {
        admission.accept(async |mut session: Session| {
            session.next().await;
            panic!("{SECRET}");
        })
    };
    let fragile = async |admission: Admission| admission.accept(|session| session.serve(Fragile));
    let router = Router::new().route("/ws", any(fragile)).route("/raw", any(raw));
    let request = |kind: &str, data: Value| json!({ "type": kind, "data": data, "meta": { "request_id": "abc-123" } });
    // What is sent, what is answered, and whether that is the end.
    let cases = [
        ("/ws", request("reply", json!({})), "overloaded", false),
        ("/ws", request("close", json!({})), "internal_error", true),
        ("/ws", request("panic", json!({})), "internal_error", true),
        ("/ws", request("panic_with_a_value", json!({})), "internal_error", true),
        ("/ws", request("answer", json!({ "with": "error" })), "internal_error", false),
        ("/ws", request("answer", json!({ "with": "panic" })), "internal_error", true),
        ("/ws", request("read", json!({ "value": "error" })), "bad_request", false),
        ("/ws", request("read", json!({ "value": "panic" })), "internal_error", true),
        ("/raw", request("anything", json!({})), "internal_error", true),
    ];
    house(Settings::default(), router, async |house| {
        for (path, sent, name, fatal) in cases {
            let mut client = house.open_session(path).await;
            client.text(&sent).await;
            if fatal {
                let word = client.last_word().await;
                assert_eq!((&word.error["data"]["name"], word.code), (&json!(name), 1011), "{sent}");
            } else {
                let error = client.message().await;
                assert_eq!((&error["data"]["name"], &error["data"]["fatal"]), (&json!(name), &json!(false)), "{sent}");
                assert_eq!(error["meta"]["request_id"], "abc-123");
                client.leave().await;
            }
            // It was there to be leaked: the operator reads it.
            let id = house.ending().await.get("connection_id").to_owned();
            let lines = house.log.lines();
            let mine = lines.iter().filter(|line| line.get("connection_id").replace('-', "") == id);
            let private = mine.filter(|line| line.to_string().contains(SECRET)).count();
            assert!(private > 0 || name == "bad_request", "{sent}");
        }
    });
}
