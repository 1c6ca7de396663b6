//! What RFC 6455 §4.2.1 asks of a client, over the wire: whoever breaks it is told which rule, in HTTP, and never 101.

mod support;

use axum::Router;
use axum::routing::any;
use saywhy::{Admission, HttpLimits, Settings};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use support::*;
use tokio::sync::Notify;

/// Lets everyone in whose handshake is valid.
fn open_door() -> Router {
    desk(&Desk::default())
}

/// A valid handshake without the header `without`, and with the lines `with`.
fn changed(without: &str, with: &str) -> String {
    let valid = handshake("/ws", BROWSER);
    let kept = valid.lines().filter(|line| without.is_empty() || !line.starts_with(without));
    let kept: String = kept.take_while(|line| !line.is_empty()).map(|line| format!("{line}\r\n")).collect();
    format!("{kept}{with}\r\n")
}

#[test]
fn t20_every_must_is_checked_and_its_breach_is_named() {
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let version = "Sec-WebSocket-Version: 13\r\n";
    // What is left out, what is put in, the status, and the rule.
    let cases = [
        ("GET", "", "no request"),
        ("Host", "", "one Host header"),
        ("", "Host: other.test\r\n", "one Host header"),
        ("Upgrade", "", "Upgrade header must say websocket"),
        ("Upgrade", "Upgrade: h2c\r\n", "Upgrade header must say websocket"),
        ("Upgrade", "Upgrade: websockets\r\n", "Upgrade header must say websocket"),
        ("Connection", "", "Connection header must say upgrade"),
        ("Connection", "Connection: keep-alive\r\n", "Connection header must say upgrade"),
        ("Sec-WebSocket-Key", "", "Sec-WebSocket-Key"),
        ("Sec-WebSocket-Key", "Sec-WebSocket-Key: c2hvcnQ=\r\n", "Sec-WebSocket-Key"),
        ("Sec-WebSocket-Key", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ\r\n", "Sec-WebSocket-Key"),
        ("Sec-WebSocket-Key", "Sec-WebSocket-Key: ????????????????????????\r\n", "Sec-WebSocket-Key"),
        ("Sec-WebSocket-Key", "Sec-WebSocket-Key: \r\n", "Sec-WebSocket-Key"),
        ("", key, "Sec-WebSocket-Key"),
        ("Sec-WebSocket-Version", "", "Only version 13"),
        ("Sec-WebSocket-Version", "Sec-WebSocket-Version: 8\r\n", "Only version 13"),
        ("Sec-WebSocket-Version", "Sec-WebSocket-Version: 13, 8\r\n", "Only version 13"),
        ("Sec-WebSocket-Version", "Sec-WebSocket-Version: 013\r\n", "Only version 13"),
        ("", version, "Only version 13"),
        ("", "Content-Length: 5\r\n", "no body"),
        ("", "Transfer-Encoding: chunked\r\n", "no body"),
        ("", "Sec-WebSocket-Protocol: a, a\r\n", "list of different tokens"),
        ("", "Sec-WebSocket-Protocol: a\r\nSec-WebSocket-Protocol: a\r\n", "list of different tokens"),
        ("", "Sec-WebSocket-Protocol: two words\r\n", "list of different tokens"),
        ("", "Sec-WebSocket-Protocol: a,,b\r\n", "list of different tokens"),
        ("", "Sec-WebSocket-Protocol: \r\n", "list of different tokens"),
    ];
    house(Settings::default(), open_door(), async |house| {
        for (without, with, rule) in cases.into_iter().skip(1) {
            let mut client = house.ask_raw(&changed(without, with)).await;
            let (head, problem) = client.problem().await;
            let detail = problem["detail"].as_str().unwrap();
            assert!(detail.contains(rule), "without {without:?}, with {with:?}: {detail}");
            assert_eq!(problem["name"], "bad_request");
            let wrong_version = rule == "Only version 13";
            assert_eq!(head.status, if wrong_version { 426 } else { 400 }, "{detail}");
            assert_eq!(problem["status"], head.status);
            assert_eq!(head.get("sec-websocket-version"), if wrong_version { "13" } else { "" });
            let ending = house.ending().await;
            assert_eq!((ending.get("stage"), ending.get("cause")), ("handshake", "bad_request"));
            assert_eq!(problem["request_id"], ending.get("connection_id"));
        }
    });
}

#[test]
fn other_methods_and_versions_of_http_are_named_too() {
    let cases = [
        ("POST /ws HTTP/1.1", "A WebSocket handshake is a GET"),
        ("HEAD /ws HTTP/1.1", ""),
        ("GET /ws HTTP/1.0", "A WebSocket handshake needs HTTP/1.1"),
    ];
    house(Settings::default(), open_door(), async |house| {
        for (line, rule) in cases {
            let mut client = house.ask_raw(&changed("GET", "").replacen("", &format!("{line}\r\n"), 1)).await;
            if rule.is_empty() {
                assert_eq!(client.head().await.status, 400, "{line}");
            } else {
                let (head, problem) = client.problem().await;
                assert_eq!(head.status, 400, "{line}");
                assert!(problem["detail"].as_str().unwrap().starts_with(rule), "{line}: {problem}");
            }
        }
    });
}

#[test]
fn what_the_rfc_allows_is_accepted() {
    let cases = [
        ("", ""),
        ("Upgrade", "Upgrade: WebSocket\r\n"),
        ("Upgrade", "Upgrade: h2c, websocket\r\n"),
        ("Connection", "Connection: keep-alive, UPGRADE\r\n"),
        ("Connection", "Connection: keep-alive\r\nConnection: upgrade\r\n"),
        ("", "Content-Length: 0\r\n"),
        ("", "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"),
        ("", "Sec-WebSocket-Protocol: saywhy.v1\r\nSec-WebSocket-Protocol: mqtt\r\n"),
    ];
    house(Settings::default(), open_door(), async |house| {
        for (without, with) in cases {
            let mut client = house.ask_raw(&changed(without, with)).await;
            let head = client.head().await;
            assert_eq!(head.status, 101, "{without} {with}");
            assert_eq!(head.get("sec-websocket-accept"), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
            assert_eq!((head.get("upgrade"), head.get("connection")), ("websocket", "Upgrade"));
            assert_eq!(head.get("sec-websocket-extensions"), "", "none is spoken");
            assert_eq!(client.message().await["type"], "ready");
            client.leave().await;
        }
    });
}

/// What follows such a request could be taken for another one by somebody in between.
#[test]
fn t21_an_upgrade_with_a_body_is_refused_and_its_connection_closed() {
    let smuggled = "GET /ws HTTP/1.1\r\nHost: app.test\r\n\r\n";
    let bodies = [
        format!("Content-Length: {}\r\n\r\n{smuggled}", smuggled.len()),
        format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{smuggled}\r\n0\r\n\r\n", smuggled.len()),
        "Content-Length: 5\r\n\r\n".to_owned(),
    ];
    house(Settings::default(), open_door(), async |house| {
        for body in bodies {
            let request = changed("", "").trim_end().to_owned() + "\r\n" + &body;
            let mut client = house.ask_raw(&request).await;
            let (head, _) = client.problem().await;
            assert_eq!((head.status, head.get("connection")), (400, "close"), "{body:?}");
            assert!(matches!(client.next().await, Seen::Fin | Seen::Reset), "{body:?}");
        }
    });
}

#[test]
fn a_refused_handshake_is_http_even_for_a_browser() {
    house(Settings::default(), open_door(), async |house| {
        for headers in [BROWSER, &[("Sec-Fetch-Mode", "websocket")], &[("Origin", "http://evil.test")]] {
            let request = handshake("/ws", headers).replace("Version: 13", "Version: 8");
            let (head, _) = house.ask_raw(&request).await.problem().await;
            assert_eq!((head.status, head.get("sec-websocket-version")), (426, "13"));
        }
    });
}

#[test]
fn the_handshake_may_come_byte_by_byte_and_frames_right_behind_it() {
    house(Settings::default(), open_door(), async |house| {
        let request = handshake("/ws", BROWSER);
        let (first, rest) = request.split_at(1);
        let mut client = house.ask_raw(first).await;
        for byte in rest.as_bytes() {
            client.raw(&[*byte]).await;
        }
        assert_eq!(client.head().await.status, 101);
        assert_eq!(client.message().await["type"], "ready");
        client.leave().await;

        let echo = r#"{"type":"echo","data":{"text":"early"},"meta":{"request_id":"1"}}"#;
        let mut wire = handshake("/ws", BROWSER).into_bytes();
        wire.extend(wire_text(echo));
        wire.extend(wire_text(echo));
        let mut client = house.ask_raw("").await;
        client.raw(&wire).await;
        assert_eq!(client.head().await.status, 101);
        assert_eq!(client.message().await["type"], "ready");
        for _ in 0..2 {
            assert_eq!(client.message().await["data"], json!({ "text": "early" }));
        }
        client.leave().await;
    });
}

#[test]
fn a_websocket_may_follow_other_requests_on_a_connection() {
    house(Settings::default(), open_door(), async |house| {
        let plain = "GET /nothing HTTP/1.1\r\nHost: app.test\r\n\r\n";
        // Two at once, then another after a refusal in HTTP.
        let mut client = house.raw((plain.to_owned() + plain).as_bytes()).await;
        for _ in 0..2 {
            assert_eq!(client.head().await.status, 404);
        }
        let mut client = house.ask("/nothing", PROGRAM).await;
        assert_eq!(client.problem().await.0.status, 404);
        house.another();
        client.raw(handshake("/ws", PROGRAM).as_bytes()).await;
        assert_eq!(client.head().await.status, 101);
        assert_eq!(client.message().await["type"], "ready");
        client.leave().await;
    });
}

/// T15. The head never becomes a request, so there is nothing to refuse, and no ending.
#[test]
fn a_head_that_is_too_big_is_431() {
    house(Settings::default(), open_door(), async |house| {
        let long = "x".repeat(20_000);
        let many = "X-Filler: 1\r\n".repeat(200);
        for headers in [format!("X-Filler: {long}\r\n"), many] {
            let request = handshake("/ws", BROWSER).trim_end().to_owned() + "\r\n" + &headers + "\r\n";
            let mut client = house.raw(request.as_bytes()).await;
            assert_eq!(client.head().await.status, 431);
        }
    });
}

#[test]
fn a_head_that_is_not_whole_at_its_deadline_is_told_so_and_silence_is_not() {
    let limits = HttpLimits { head: Duration::from_millis(20), ..HttpLimits::default() };
    house_with(Front::Listening(limits.into()), Settings::default(), open_door(), async |house| {
        for beginning in ["GET /ws HTTP/1.1\r\nHost: app.test\r\n", "G", "\r", "PRI * HTTP/2.0\r\n"] {
            let mut client = house.raw(beginning.as_bytes()).await;
            let (head, problem) = client.problem().await;
            assert_eq!((head.status, head.get("connection")), (408, "close"), "{beginning:?}");
            assert_eq!(problem["name"], "timeout");
            assert_eq!(problem["detail"], "The request did not arrive in time");
            assert_eq!(client.next().await, Seen::Fin);
        }
        // Browsers connect ahead of need, and would take a 408 for the answer to what they ask next.
        let mut client = house.raw(b"").await;
        assert_eq!(client.next().await, Seen::Fin);
        // The same between two requests.
        let mut client = house.raw(b"GET /nowhere HTTP/1.1\r\nHost: app.test\r\n\r\n").await;
        assert_eq!(client.head().await.status, 404);
        assert_eq!(client.next().await, Seen::Fin);
        let mut client = house.raw(b"GET /nowhere HTTP/1.1\r\nHost: app.test\r\n\r\nGET").await;
        assert_eq!(client.head().await.status, 404);
        assert_eq!(client.problem().await.0.status, 408);
    });
}

/// T18: what has asked and waits to ask again holds a connection as much as what has not asked.
#[test]
fn t18_connections_with_nothing_going_on_are_limited_in_number() {
    let limits = HttpLimits { waiting_per_address: 1, ..HttpLimits::default() };
    let (asked, ends) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (asks, ended) = (Arc::clone(&asked), Arc::clone(&ends));
    let slowly = any(async move || {
        asks.notify_one();
        ended.notified().await;
    });
    let router = open_door().route("/slow", slowly);
    house_with(Front::Listening(limits.into()), Settings::default(), router, async |house| {
        let mut slow = house.raw(b"GET /slow HTTP/1.1\r\nHost: app.test\r\n\r\n").await;
        asked.notified().await;
        // What goes on takes no place, so there is one.
        let mut kept = house.raw(b"GET /nowhere HTTP/1.1\r\nHost: app.test\r\n\r\n").await;
        let head = kept.head().await;
        assert_eq!((head.status, head.get("connection")), (404, ""));
        let mut crowd = house.raw(b"").await;
        let (head, problem) = crowd.problem().await;
        assert_eq!((head.status, problem["name"].as_str()), (503, Some("overloaded")));
        assert_eq!(crowd.next().await, Seen::Fin);
        // And none for what is over: it has its answer, and may not ask again.
        ends.notify_one();
        let head = slow.head().await;
        assert_eq!((head.status, head.get("connection")), (200, "close"));
        assert_eq!(slow.next().await, Seen::Fin);
        // A session needs none, nor does it when it begins.
        let mut session = kept;
        house.another();
        session.raw(handshake("/ws", BROWSER).as_bytes()).await;
        assert_eq!(session.head().await.status, 101);
        assert_eq!(session.message().await["type"], "ready");
        let mut next = house.raw(b"GET /nowhere HTTP/1.1\r\nHost: app.test\r\n\r\n").await;
        assert_eq!(next.head().await.status, 404);
        session.leave().await;
    });
}

/// T15: what arrives one byte at a time costs as much as it would at once, and is gone at the deadline.
#[test]
fn a_head_of_16_kib_may_come_one_byte_at_a_time() {
    house(Settings::default(), open_door(), async |house| {
        let padding = format!("X-Filler: {}\r\n", "x".repeat(150)).repeat(90);
        let request = handshake("/ws", &[]).trim_end().to_owned() + "\r\n" + &padding + "\r\n";
        assert!((14 * 1024..16 * 1024).contains(&request.len()), "{}", request.len());
        let mut client = house.ask_raw("").await;
        for byte in request.as_bytes() {
            client.raw(&[*byte]).await;
            tokio::task::yield_now().await;
        }
        assert_eq!(client.head().await.status, 101);
        assert_eq!(client.message().await["type"], "ready");
        client.leave().await;
    });
}

#[test]
fn garbage_is_no_websocket() {
    house(Settings::default(), open_door(), async |house| {
        for garbage in
            ["\r\n\r\n\r\n", "GET\r\n\r\n", "\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n", "GET /ws HTTP/9.9\r\n\r\n"]
        {
            let mut client = house.raw(garbage.as_bytes()).await;
            client.half_close().await;
            while client.fill().await.is_ok_and(|read| read > 0) {}
        }
    });
}

// ---- tokens -----------------------------------------------------------------------------------------------------

#[test]
fn a_token_may_come_from_four_places_and_the_first_stands() {
    let router = Router::new().route(
        "/ws",
        any(async |admission: Admission| {
            let known = match admission.token() {
                Some("SECRET-7f3a-token-1") => "one",
                Some("SECRET-7f3a-token-2") => "two",
                Some(_) => "another",
                None => "none",
            };
            admission.identify(known)?;
            Ok::<_, saywhy::Refusal>(admission.accept(|session| session.serve(Desk::default())))
        }),
    );
    let one = "SECRET-7f3a-token-1";
    let two = "SECRET-7f3a-token-2";
    let query = |token: &str| format!("/ws?a=b&access_token={token}&c=d");
    let offer = |token: &str| ("Sec-WebSocket-Protocol", format!("saywhy.v1, saywhy.bearer.{token}"));
    let bearer = |token: &str| ("Authorization", format!("bearer {token}"));
    let cookie = |token: &str| ("Cookie", format!("theme=dark; session={token}; x=y"));
    let cases = [
        ("/ws".to_owned(), vec![], "none"),
        ("/ws".to_owned(), vec![offer(one)], "one"),
        ("/ws".to_owned(), vec![bearer(one)], "one"),
        (query(one), vec![], "one"),
        (query("SECRET%2D7f3a-token-1"), vec![], "one"),
        ("/ws".to_owned(), vec![cookie(one)], "one"),
        ("/ws".to_owned(), vec![bearer(two), offer(one)], "one"),
        (query(two), vec![bearer(one)], "one"),
        (query(one), vec![cookie(two)], "one"),
        ("/ws".to_owned(), vec![("Authorization", format!("Basic {one}"))], "none"),
        ("/ws".to_owned(), vec![("Cookie", format!("sessions={one}"))], "none"),
    ];
    house(Settings { token_cookie: Some("session".into()), ..Settings::default() }, router, async |house| {
        for (target, headers, user) in cases {
            let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let mut client = house.ask(&target, &headers).await;
            let head = client.head().await;
            assert_eq!(head.status, 101, "{target} {headers:?}");
            let ready = client.message().await;
            assert_eq!(ready["data"]["user"], user, "{target} {headers:?}");
            client.leave().await;
            let ending = house.ending().await;
            assert_eq!((ending.get("path"), ending.get("user")), (r#""/ws""#, user));
        }
    });
}
