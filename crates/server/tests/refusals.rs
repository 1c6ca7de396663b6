//! Refusals, in both forms: every row, every dialect, every place where a "no" comes from.

mod support;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::{any, get};
use saywhy::catalogue::{BUILTIN, INTERNAL_ERROR, NOT_FOUND, OVERLOADED, UNAUTHORIZED};
use saywhy::{
    Admission, CatalogueEntry, CustomDialect, Dialect, ErrorCode, Gate, Rate, Refusal, RefusalForm, Retry, Settings,
};
use serde_json::{Value, json};
use std::io::{Read as _, Write as _};
use std::sync::Arc;
use std::time::Duration;
use support::*;

const FULL: ErrorCode =
    ErrorCode::of(&CatalogueEntry::custom("room_full", 4100, 409, Retry::Backoff, "The room is full"));

fn rows() -> impl Iterator<Item = ErrorCode> {
    BUILTIN.iter().copied().chain([FULL])
}

/// A route that refuses with the row in its path, for a reason that nobody may read.
fn refusing() -> Router {
    let refuse = async |admission: Admission, Path(name): Path<String>| -> Refusal {
        let row = rows().find(|row| row.name == name).unwrap();
        admission.refuse(row).because(format!("SELECT '{SECRET}'"))
    };
    Router::new().route("/{row}", any(refuse))
}

fn dialects() -> Vec<Dialect> {
    let own = CustomDialect::new("own", Dialect::Iana).code("unauthorized", 4999).unwrap();
    Dialect::BUILTIN.into_iter().chain([Dialect::Custom(Arc::new(own))]).collect()
}

/// The `data` that stands for a row.
fn data(row: ErrorCode) -> Value {
    let mut data = json!({
        "code": row.code, "message": row.message, "name": row.name, "fatal": true, "retry": row.retry.as_str(),
    });
    if let Retry::After { delay, spread } = row.retry {
        data["retry_after_ms"] = json!(delay.as_millis() as u64);
        data["spread_ms"] = json!(spread.as_millis() as u64);
    }
    data
}

#[test]
fn every_row_in_every_dialect_is_a_message_and_a_close() {
    for dialect in dialects() {
        let settings = Settings { dialect: dialect.clone(), ..Settings::default() };
        house(settings, refusing(), async |house| {
            for row in rows() {
                let mut client = house.ask(&format!("/{row}"), BROWSER).await;
                let head = client.head().await;
                assert_eq!((head.status, head.get("saywhy-refused")), (101, row.name), "{dialect:?}");
                let code = dialect.close_code(row).as_u16();
                let ending = if dialect.sends_message() {
                    let word = client.last_word().await;
                    assert_eq!((word.code, &*word.reason), (code, row.message), "{dialect:?}");
                    let meta = &word.error["meta"];
                    assert_eq!(word.error, json!({ "type": "error", "data": data(row), "meta": meta }));
                    assert!(meta["timestamp"].as_str().unwrap().ends_with('Z'), "{meta}");
                    let ending = house.ending().await;
                    assert_eq!(meta["request_id"], ending.get("connection_id"));
                    ending
                } else {
                    assert_eq!(client.next().await, Seen::Close(code, row.message.into()));
                    client.is_quiet().await;
                    client.close(code, "").await;
                    assert_eq!(client.next().await, Seen::Fin);
                    house.ending().await
                };
                assert_eq!(ending.get("cause"), row.name);
                assert_eq!((ending.get("stage"), ending.get("confirmed")), ("admission", "true"));
                assert_eq!((ending.get("sent"), ending.get("received")), (&*code.to_string(), &*code.to_string()));
                assert!(ending.get("private").contains(SECRET), "the operator may read it");
            }
        });
    }
}

/// A thread that reads as soon as there is anything sees all of it, or it was not one write.
#[test]
fn the_101_the_message_and_the_close_leave_in_one_write() {
    house(tireless(), refusing(), async |house| {
        let addr = house.addr;
        for _ in 0..100 {
            house.another();
            let first = tokio::task::spawn_blocking(move || {
                let mut tcp = std::net::TcpStream::connect(addr).unwrap();
                tcp.write_all(handshake("/forbidden", BROWSER).as_bytes()).unwrap();
                let mut first = [0; 4_096];
                let read = tcp.read(&mut first).unwrap();
                String::from_utf8_lossy(&first[..read]).into_owned()
            });
            let first = first.await.unwrap();
            assert!(first.starts_with("HTTP/1.1 101 ") && first.ends_with("You may not do that"), "{first}");
        }
    });
}

#[test]
fn every_row_is_a_problem_for_a_program() {
    house(Settings::default(), refusing(), async |house| {
        for row in rows() {
            let mut client = house.ask(&format!("/{row}"), PROGRAM).await;
            let (head, problem) = client.problem().await;
            let ending = house.ending().await;
            assert_eq!(head.status, row.http);
            assert_eq!(head.get("www-authenticate"), if row.http == 401 { "Bearer" } else { "" });
            let mut expected = json!({
                "type": format!("urn:saywhy:error:{row}"), "title": row.message, "status": row.http,
                "detail": row.message, "code": row.code, "name": row.name, "retry": row.retry.as_str(),
                "request_id": ending.get("connection_id"),
            });
            let mut seconds = String::new();
            if let Retry::After { delay, spread } = row.retry {
                expected["retry_after_ms"] = json!(delay.as_millis() as u64);
                expected["spread_ms"] = json!(spread.as_millis() as u64);
                seconds = delay.as_secs().to_string();
            }
            assert_eq!(problem, expected);
            assert_eq!(head.get("retry-after"), seconds, "{row}");
            assert_eq!((ending.get("cause"), ending.get("stage")), (row.name, "admission"));
            assert!(ending.get("private").contains(SECRET));
        }
    });
}

#[test]
fn the_form_is_the_one_that_the_client_can_read() {
    use RefusalForm::{Auto, Close, Http};
    let cases = [
        (Auto, BROWSER.to_vec(), 101),
        (Auto, vec![("Sec-Fetch-Mode", "websocket")], 101),
        (Auto, vec![("Sec-WebSocket-Protocol", "saywhy.v1")], 101),
        (Auto, vec![("Sec-WebSocket-Protocol", "chat, saywhy.v1")], 101),
        (Auto, PROGRAM.to_vec(), 404),
        (Auto, vec![("Sec-Fetch-Mode", "navigate")], 404),
        (Close, PROGRAM.to_vec(), 101),
        (Http, BROWSER.to_vec(), 404),
        (Http, vec![("Sec-WebSocket-Protocol", "saywhy.v1")], 404),
    ];
    for (refuse, headers, status) in cases {
        house(Settings { refuse, ..Settings::default() }, refusing(), async |house| {
            let mut client = house.ask("/not_found", &headers).await;
            assert_eq!(client.head().await.status, status, "{refuse:?} {headers:?}");
        });
    }
}

#[test]
fn a_client_that_does_not_answer_is_closed_at_the_deadline() {
    let settings = limits(|limits| limits.close = Duration::from_millis(20));
    house(settings, refusing(), async |house| {
        let mut client = house.ask("/forbidden", BROWSER).await;
        client.head().await;
        client.error_and_close().await;
        assert_eq!(client.next().await, Seen::Fin);
        let ending = house.ending().await;
        assert_eq!((ending.get("confirmed"), ending.get("received")), ("false", ""));
    });
}

#[test]
fn a_refused_client_that_leaves_without_a_close_ends_it_too() {
    house(limits(|limits| limits.close = Duration::from_secs(3_600)), refusing(), async |house| {
        let mut client = house.ask("/forbidden", BROWSER).await;
        client.head().await;
        client.error_and_close().await;
        client.half_close().await;
        assert_eq!(client.next().await, Seen::Fin);
        let ending = house.ending().await;
        assert_eq!((ending.get("cause"), ending.get("confirmed")), ("forbidden", "false"));

        let mut client = house.ask("/forbidden", BROWSER).await;
        client.head().await;
        client.reset();
        assert_eq!(house.ending().await.get("cause"), "forbidden");
    });
}

#[test]
fn words_of_the_application_are_cut_for_the_close_only() {
    let words = "é".repeat(100);
    let router = Router::new().route(
        "/ws",
        any(async move |admission: Admission| -> Refusal {
            admission.refuse(NOT_FOUND.say("é".repeat(100)).detail("room", "lobby").retry(Retry::Now))
        }),
    );
    house(Settings::default(), router, async |house| {
        let mut client = house.ask("/ws", BROWSER).await;
        client.head().await;
        let word = client.last_word().await;
        assert_eq!((word.reason.len(), word.reason.chars().count()), (122, 61));
        assert_eq!(word.error["data"]["message"], words);
        assert_eq!(word.error["data"]["details"], json!({ "room": "lobby" }));
        assert_eq!(word.error["data"]["retry"], "now");
        let (_, problem) = house.ask("/ws", PROGRAM).await.problem().await;
        assert_eq!((&problem["detail"], &problem["details"]), (&json!(words), &json!({ "room": "lobby" })));
        assert_eq!(problem["title"], NOT_FOUND.message);
    });
}

#[test]
fn t32_a_reason_with_control_characters_cannot_split_anything() {
    let router = Router::new().route(
        "/ws",
        any(async |admission: Admission| -> Refusal { admission.refuse(NOT_FOUND.say("a\r\nSet-Cookie: b\0")) }),
    );
    house(Settings::default(), router, async |house| {
        let mut client = house.ask("/ws", BROWSER).await;
        assert_eq!(client.head().await.get("set-cookie"), "");
        client.message().await;
        assert_eq!(client.next().await, Seen::Close(4001, "a  Set-Cookie: b ".into()));
        let (head, _) = house.ask("/ws", PROGRAM).await.problem().await;
        assert_eq!(head.get("set-cookie"), "");
    });
}

// ---- subprotocols -----------------------------------------------------------------------------------------------

#[test]
fn one_offered_subprotocol_is_selected_and_never_one_like_a_token() {
    // What is offered, what is selected, and whether the envelope is spoken.
    let cases = [
        ("saywhy.v1", "saywhy.v1", true),
        ("saywhy.v1, saywhy.bearer.SECRET-7f3a-token", "saywhy.v1", true),
        ("saywhy.bearer.SECRET-7f3a-token, saywhy.v1", "saywhy.v1", true),
        ("graphql-transport-ws, saywhy.v1", "saywhy.v1", true),
        ("own.v2, saywhy.v1", "own.v2", false),
        ("graphql-transport-ws", "graphql-transport-ws", false),
        ("mqtt, graphql-ws", "mqtt", false),
        ("saywhy.bearer.SECRET-7f3a-token", "", true),
        ("Saywhy.Bearer.SECRET-7f3a-token", "", true),
        ("base64url.bearer.authorization.k8s.io.SECRET-7f3a-token", "", true),
        ("eyJhbGciOiJIUzI1NiJ9.SECRET-7f3a-token", "", true),
        ("base64url.bearer.authorization.k8s.io.SECRET-7f3a-token, mqtt", "mqtt", false),
    ];
    let settings = Settings { subprotocols: vec!["own.v2".into()], ..Settings::default() };
    house(settings, refusing(), async |house| {
        for (offered, selected, envelope) in cases {
            let headers = [BROWSER[0], ("Sec-WebSocket-Protocol", offered)];
            let mut client = house.ask("/unauthorized", &headers).await;
            let head = client.head().await;
            assert_eq!((head.status, head.get("sec-websocket-protocol")), (101, selected), "{offered}");
            assert!(!head.text().contains(TOKEN), "{offered}");
            if envelope {
                client.last_word().await;
            } else {
                let close = client.next().await;
                assert!(matches!(close, Seen::Close(4000 | 4003, _)), "Close only: {close:?}");
                client.is_quiet().await;
            }
        }
    });
}

#[test]
fn subprotocols_that_nobody_speaks_are_refused_before_the_route_is_asked() {
    house(Settings::default(), refusing(), async |house| {
        let mut client = house.ask("/unauthorized", &[("Sec-WebSocket-Protocol", "mqtt")]).await;
        let (head, problem) = client.problem().await;
        assert_eq!((head.status, &problem["name"]), (400, &json!("bad_request")));
        assert_eq!(problem["detail"], "None of the subprotocols on offer is spoken here");
    });
}

// ---- origins ----------------------------------------------------------------------------------------------------

#[test]
fn a_foreign_page_learns_nothing_but_that_it_is_foreign() {
    let settings = Settings { origins: vec!["https://friend.test".parse().unwrap()], ..Settings::default() };
    house(settings, refusing(), async |house| {
        let foreign = [
            "http://evil.test",
            "https://app.test.evil.test",
            "http://app.test:81",
            "http://friend.test",
            "null",
            "",
            "http://app.test, http://evil.test",
            "chrome-extension://abc",
        ];
        for origin in foreign {
            // Whatever is behind the path, and whether or not there is anything.
            for path in ["/unauthorized", "/not_found", "/no/such/path"] {
                let mut client = house.ask(path, &[("Origin", origin)]).await;
                assert_eq!(client.head().await.get("saywhy-refused"), "forbidden", "{origin}");
                let word = client.last_word().await;
                assert_eq!((word.code, &*word.reason), (4004, "Pages of this origin may not connect"), "{origin}");
                assert_eq!(word.error["data"].get("details"), None);
            }
        }
        for origin in ["https://friend.test", "http://app.test", "HTTP://APP.TEST:80"] {
            let mut client = house.ask("/unauthorized", &[("Origin", origin)]).await;
            assert_eq!(client.head().await.get("saywhy-refused"), "unauthorized", "{origin}");
        }
    });
}

#[test]
fn a_foreign_page_is_told_so_even_while_draining() {
    house(Settings::default(), refusing(), async |house| {
        house.gate.drain(saywhy::DrainPlan::default()).await;
        let mut client = house.ask("/unauthorized", &[("Origin", "http://evil.test")]).await;
        assert_eq!(client.head().await.get("saywhy-refused"), "forbidden");
    });
}

// ---- what is not a refusal of the application's own making ------------------------------------------------------

#[test]
fn every_way_to_say_no_is_readable() {
    let router = Router::new()
        .route("/dropped", any(async |admission: Admission| drop(admission)))
        .route(
            "/kept",
            any(async |State(shelf): State<Shelf>, admission: Admission| shelf.0.lock().unwrap().push(admission)),
        )
        .route("/panics", any(async |_: Admission| -> () { panic!("{SECRET} at admission") }))
        .route("/panics-before", any(async || -> () { panic!("{SECRET} before admission") }))
        .route("/401", any(async || (StatusCode::UNAUTHORIZED, format!("{SECRET}: no such user"))))
        .route("/404", any(async || StatusCode::NOT_FOUND))
        .route("/408", any(async || StatusCode::REQUEST_TIMEOUT))
        .route("/418", any(async || StatusCode::IM_A_TEAPOT))
        .route("/429", any(async || StatusCode::TOO_MANY_REQUESTS))
        .route("/500", any(async || (StatusCode::INTERNAL_SERVER_ERROR, format!("{SECRET} in a stack trace"))))
        .route("/502", any(async || StatusCode::BAD_GATEWAY))
        .route("/503", any(async || StatusCode::SERVICE_UNAVAILABLE))
        .route("/504", any(async || StatusCode::GATEWAY_TIMEOUT))
        .route("/101", any(async |_: Admission| StatusCode::SWITCHING_PROTOCOLS))
        .route("/302", any(async || (StatusCode::FOUND, [("location", "/elsewhere")])))
        .route("/200", any(async || "plain text"))
        .route("/200-with", any(async |_: Admission| "plain text"))
        .route("/get", get(async || "for people"))
        .route("/refused", any(async |_: Admission| Refusal::new(UNAUTHORIZED).into_response()))
        .route("/no-extractor", any(async || Refusal::new(OVERLOADED)))
        .with_state(Shelf::default());
    // The path, the status in HTTP, the row.
    let cases = [
        ("/dropped", 500, "internal_error"),
        ("/kept", 500, "internal_error"),
        ("/panics", 500, "internal_error"),
        ("/panics-before", 500, "internal_error"),
        ("/401", 401, "unauthorized"),
        ("/404", 404, "not_found"),
        ("/408", 408, "timeout"),
        ("/418", 418, "bad_request"),
        ("/429", 429, "rate_limited"),
        ("/500", 500, "internal_error"),
        ("/502", 502, "bad_gateway"),
        ("/503", 503, "overloaded"),
        ("/504", 504, "gateway_timeout"),
        ("/101", 500, "internal_error"),
        ("/302", 400, "bad_request"),
        ("/200", 404, "not_found"),
        ("/200-with", 500, "internal_error"),
        ("/get", 404, "not_found"),
        ("/refused", 401, "unauthorized"),
        ("/no-extractor", 503, "overloaded"),
        ("/no/such/path", 404, "not_found"),
        ("/", 404, "not_found"),
    ];
    house(Settings::default(), router, async |house| {
        for (path, status, name) in cases {
            let mut client = house.ask(path, BROWSER).await;
            let head = client.head().await;
            assert_eq!((head.status, head.get("saywhy-refused")), (101, name), "{path}");
            assert_eq!(client.last_word().await.error["data"]["name"], name, "{path}");
            let (head, problem) = house.ask(path, PROGRAM).await.problem().await;
            assert_eq!((head.status, &problem["name"]), (status, &json!(name)), "{path}");
            assert_eq!(problem["status"], status, "{path}");
            for _ in 0..2 {
                assert_eq!(house.ending().await.get("cause"), name, "{path}");
            }
        }
    });
}

#[test]
fn the_time_that_another_middleware_asks_for_is_passed_on() {
    let router = Router::new()
        .route("/seconds", any(async || (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "30")])))
        .route(
            "/date",
            any(async || (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "Fri, 31 Dec 2027 23:59:59 GMT")])),
        )
        .route("/for-ever", any(async || (StatusCode::FORBIDDEN, [("retry-after", "18446744073709551615")])));
    house(Settings::default(), router, async |house| {
        for (path, after_ms) in [("/seconds", 30_000), ("/date", 1_000), ("/for-ever", u64::MAX)] {
            let mut client = house.ask(path, BROWSER).await;
            client.head().await;
            let data = client.last_word().await.error["data"].take();
            assert_eq!(data["retry"], "after", "{path}");
            if after_ms < u64::MAX {
                assert_eq!(data["retry_after_ms"], after_ms, "{path}");
                let (head, problem) = house.ask(path, PROGRAM).await.problem().await;
                assert_eq!(head.get("retry-after"), (after_ms / 1_000).to_string(), "{path}");
                assert_eq!(problem["retry_after_ms"], after_ms, "{path}");
            }
        }
    });
}

#[test]
fn a_route_that_does_not_decide_in_time_is_overloaded() {
    let undecided = async |admission: Admission| -> Refusal {
        std::future::pending::<()>().await;
        admission.refuse(NOT_FOUND)
    };
    let settings = limits(|limits| limits.ready = Duration::from_millis(20));
    house(settings, Router::new().route("/ws", any(undecided)), async |house| {
        let mut client = house.ask("/ws", BROWSER).await;
        assert_eq!(client.head().await.get("saywhy-refused"), "overloaded");
        assert_eq!(client.last_word().await.code, 1013);
        let (head, problem) = house.ask("/ws", PROGRAM).await.problem().await;
        assert_eq!((head.status, &problem["name"]), (503, &json!("overloaded")));
        assert_eq!(house.ending().await.get("private"), "the route did not decide in time");
    });
}

/// Where a handler may leave an admission to be forgotten.
#[derive(Clone, Default)]
struct Shelf(Arc<std::sync::Mutex<Vec<Admission>>>);

#[test]
fn an_admission_that_was_answered_accepts_nothing_more() {
    let shelf = Shelf::default();
    let keep = async |State(shelf): State<Shelf>, admission: Admission| shelf.0.lock().unwrap().push(admission);
    let router = Router::new().route("/ws", any(keep)).with_state(shelf.clone());
    house(Settings::default(), router, async |house| {
        let (head, _) = house.ask("/ws", PROGRAM).await.problem().await;
        assert_eq!(head.status, 500);
        let late = shelf.0.lock().unwrap().pop().unwrap().accept(|session| async { drop(session) });
        assert_eq!(late.status(), 500);
    });
}

#[test]
fn a_panic_after_accepting_is_explained_to_the_browser() {
    let router = Router::new().route(
        "/ws",
        any(async |admission: Admission| -> () {
            let _answer = admission.accept(|session| session.serve(Desk::default()));
            panic!("{SECRET} after accept");
        }),
    );
    house(Settings::default(), router, async |house| {
        let mut client = house.ask("/ws", BROWSER).await;
        assert_eq!(client.head().await.get("saywhy-refused"), "internal_error");
        assert_eq!(client.last_word().await.code, 1011);
        let ending = house.ending().await;
        assert_eq!((ending.get("stage"), ending.get("cause")), ("admission", "internal_error"));
        assert!(ending.get("private").contains("after accept"));
    });
}

#[test]
fn a_plain_request_is_not_touched_and_on_a_websocket_it_is_426() {
    let router = refusing().route("/text", get(async || "for people")).layer(Gate::new(Settings::default()));
    house(Settings::default(), router, async |house| {
        let mut client = house.raw(b"GET /text HTTP/1.1\r\nHost: app.test\r\n\r\n").await;
        let head = client.head().await;
        assert_eq!((head.status, head.get("content-length")), (200, "10"));

        for method in ["GET", "POST", "PUT"] {
            let request = format!("{method} /forbidden HTTP/1.1\r\nHost: app.test\r\n\r\n");
            let (head, problem) = house.raw(request.as_bytes()).await.problem().await;
            assert_eq!((head.status, head.get("upgrade")), (426, "websocket"), "{method}");
            assert_eq!(head.get("sec-websocket-version"), "13");
            assert_eq!((&problem["name"], &problem["status"]), (&json!("bad_request"), &json!(426)));
            assert_eq!(problem["detail"], "This is a WebSocket: connect with ws:// or wss://");
        }
    });
}

#[test]
fn without_a_gate_everything_is_refused_and_the_log_says_so() {
    let router = refusing();
    let log = support::Log::default();
    let _tracing = tracing::subscriber::set_default(tracing_subscriber::layer::SubscriberExt::with(
        tracing_subscriber::registry(),
        log.clone(),
    ));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut request = axum::http::Request::get("/forbidden").body(axum::body::Body::empty()).unwrap();
    request.headers_mut().insert("upgrade", "websocket".parse().unwrap());
    let answer = runtime.block_on(async { tower_service::Service::call(&mut router.into_service(), request).await });
    assert_eq!(answer.unwrap().status(), 500);
    assert!(log.to_string().contains("no Gate in front of this route"));
}

#[test]
fn past_the_limit_of_lingering_refusals_are_plain_503() {
    let settings = Settings { lingering: 2, ..Settings::default() };
    house(settings, refusing(), async |house| {
        let mut lingering = Vec::new();
        for _ in 0..2 {
            let mut client = house.ask("/forbidden", BROWSER).await;
            assert_eq!(client.head().await.status, 101);
            client.error_and_close().await;
            lingering.push(client);
        }
        for _ in 0..3 {
            let (head, problem) = house.ask("/forbidden", BROWSER).await.problem().await;
            assert_eq!((head.status, head.get("retry-after")), (503, "5"));
            assert_eq!(problem["name"], OVERLOADED.name);
        }
        // A place is free again as soon as one has confirmed.
        let mut first = lingering.remove(0);
        first.close(1000, "").await;
        assert_eq!(first.next().await, Seen::Fin);
        assert_eq!(house.ask("/forbidden", BROWSER).await.head().await.status, 101);
    });
}

#[test]
fn an_address_has_a_share_of_those_who_linger() {
    let settings = Settings { lingering_per_address: 1, ..Settings::default() };
    house(settings, refusing(), async |house| {
        let mut first = house.ask("/forbidden", BROWSER).await;
        first.head().await;
        first.error_and_close().await;
        let (head, _) = house.ask("/forbidden", BROWSER).await.problem().await;
        assert_eq!((head.status, head.get("retry-after")), (503, "5"));
        let mut other = house.ask_from(OTHER_ADDRESS, "/forbidden", BROWSER).await;
        other.head().await;
        other.last_word().await;
        first.close(1000, "").await;
        assert_eq!(first.next().await, Seen::Fin);
        assert_eq!(house.ask("/forbidden", BROWSER).await.head().await.status, 101);
    });
}

#[test]
fn who_comes_back_at_once_gets_its_close_later_and_later_and_then_plain_503() {
    let refusals_per_address = Rate { per_s: 2, burst: 1 };
    let settings = Settings { refusals_per_address, refusal_delay: Duration::from_secs(1), ..Settings::default() };
    house(settings, refusing(), async |house| {
        let mut first = house.ask("/forbidden", BROWSER).await;
        first.head().await;
        first.last_word().await;
        let mut later = house.ask("/forbidden", BROWSER).await;
        let mut much_later = house.ask("/forbidden", BROWSER).await;
        let (head, problem) = house.ask("/forbidden", BROWSER).await.problem().await;
        assert_eq!((head.status, head.get("retry-after"), &problem["name"]), (503, "2", &json!("overloaded")));
        let ending = house.log.until(|lines| lines.iter().find(|line| line.get("cause") == "overloaded").cloned());
        assert!(ending.await.get("private").contains("forbidden, and its address comes back at once"));
        // Someone else is refused as ever, and so is a program of the same address.
        let mut other = house.ask_from(OTHER_ADDRESS, "/forbidden", BROWSER).await;
        other.head().await;
        other.last_word().await;
        assert_eq!(house.ask("/forbidden", PROGRAM).await.problem().await.0.status, 403);
        // Those who wait learn all of it in the end.
        for client in [&mut later, &mut much_later] {
            assert_eq!(client.head().await.status, 101);
            assert_eq!(client.last_word().await.code, 4004);
        }
        let lived = |lines: &[Line]| {
            let endings = lines.iter().filter(|line| line.get("cause") == "forbidden" && line.get("sent") == "4004");
            let mut ms: Vec<u64> = endings.map(|line| line.get("lived_ms").parse().unwrap()).collect();
            ms.sort_unstable();
            (ms.len() == 4).then_some(ms)
        };
        let ms = house.log.until(lived).await;
        assert!(ms[2] >= 400 && ms[3] >= 900, "{ms:?}");
    });
}

#[test]
fn an_internal_error_at_admission_is_5000_and_then_1011() {
    house(Settings::default(), refusing(), async |house| {
        let mut client = house.ask("/internal_error", BROWSER).await;
        client.head().await;
        let word = client.last_word().await;
        assert_eq!((&word.error["data"]["code"], word.code), (&json!(5000), 1011));
        assert_eq!(word.reason, INTERNAL_ERROR.message);
    });
}
