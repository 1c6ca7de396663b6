//! WebSocket over HTTP/2 (RFC 8441): the same gate, the same refusals, and the last word at the end of the stream.

mod support;

use http::Request;
use saywhy::{DrainPlan, HttpLimits, Listening, RefusalForm, Settings};
use serde_json::json;
use std::time::Duration;
use support::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const PAGE: &[(&str, &str)] = &[("Origin", "http://app.test"), ("Sec-WebSocket-Protocol", "saywhy.v1")];

async fn ask(house: &House, http2: &mut Http2, target: &str, headers: &[(&str, &str)]) -> (Head, Client) {
    house.another();
    http2.ask(target, headers).await
}

/// Behaves to the end: after the server's END_STREAM its own, and then nothing is reset.
async fn behave(http2: &Http2, client: &mut Client) {
    client.half_close().await;
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
    assert_eq!(http2.count(Frame::RST_STREAM), 0, "{:?}", http2.frames());
}

#[test]
fn a_session_and_a_refusal_in_one_connection() {
    house(Settings::default(), desk(&Desk::default()), async |house| {
        let mut http2 = house.http2().await;
        let (head, mut client) = ask(house, &mut http2, "/ws", PAGE).await;
        assert_eq!((head.status, head.get("sec-websocket-protocol")), (200, "saywhy.v1"));
        assert!(head.get("sec-websocket-accept").is_empty() && head.get("upgrade").is_empty(), "{head:?}");
        assert_eq!(client.message().await["type"], "ready");
        client.text(json!({ "type": "echo", "data": { "text": "hello" }, "meta": { "request_id": "1" } })).await;
        assert_eq!(client.message().await["data"]["text"], "hello");

        // Another one beside it is refused.
        let (head, mut refused) = ask(house, &mut http2, "/nowhere", PAGE).await;
        assert_eq!((head.status, head.get("saywhy-refused")), (200, "not_found"));
        let word = refused.last_word().await;
        assert_eq!((word.code, &*word.reason), (4001, "There is nothing of that name"));
        behave(&http2, &mut refused).await;
        assert_eq!(house.ending().await.get("confirmed"), "true");

        client.text(json!({ "type": "echo", "data": { "text": "still here" }, "meta": { "request_id": "2" } })).await;
        assert_eq!(client.message().await["data"]["text"], "still here");
        client.close(1000, "").await;
        assert_eq!(client.next().await, Seen::Close(1000, String::new()));
        assert_eq!(client.next().await, Seen::Fin);
        behave(&http2, &mut client).await;
    });
}

#[test]
fn the_stream_ends_only_after_the_peer_s_close() {
    house(Settings::default(), desk(&Desk::default()), async |house| {
        let mut http2 = house.http2().await;
        let (_, mut client) = ask(house, &mut http2, "/nowhere", PAGE).await;
        let word = client.error_and_close().await;
        client.is_quiet().await;
        let ended = |http2: &Http2| {
            let data = |frame: &&Frame| frame.kind == Frame::DATA && frame.flags & Frame::END_STREAM != 0;
            http2.frames().iter().filter(data).count()
        };
        assert_eq!(ended(&http2), 0);
        client.close(word.code, "").await;
        assert_eq!(client.next().await, Seen::Fin);
        assert_eq!(ended(&http2), 1);
        behave(&http2, &mut client).await;
    });
    // Whoever does not end its side is waited for, and then let go of: so a reset would have been seen above.
    let settings = limits(|limits| limits.close = Duration::from_millis(30));
    house(settings, desk(&Desk::default()), async |house| {
        let mut http2 = house.http2().await;
        let (_, mut client) = ask(house, &mut http2, "/nowhere", PAGE).await;
        let word = client.error_and_close().await;
        client.close(word.code, "").await;
        assert_eq!(client.next().await, Seen::Fin);
        assert_eq!(house.ending().await.get("confirmed"), "true");
        while http2.count(Frame::RST_STREAM) == 0 {
            tokio::task::yield_now().await;
        }
        drop(client);
    });
}

/// As Firefox does: to it a stream is over with the server's END_STREAM, and its own never comes.
#[test]
fn streams_that_a_client_never_ends_use_up_none_for_those_that_come_after() {
    let limits = HttpLimits { streams: 20, ..HttpLimits::default() };
    house_with(Front::Listening(limits.into()), tireless(), desk(&Desk::default()), async |house| {
        let mut http2 = house.http2().await;
        let mut all = Vec::new();
        for _ in 0..60 {
            let (head, mut client) = ask(house, &mut http2, "/nowhere", PAGE).await;
            assert_eq!(head.get("saywhy-refused"), "not_found");
            client.last_word().await;
            // Dropped, it would be reset.
            all.push(client);
        }
        assert!(http2.count(Frame::RST_STREAM) >= 40, "{:?}", http2.frames());
    });
}

#[test]
fn a_program_reads_http() {
    house(Settings::default(), desk(&Desk::default()), async |house| {
        let mut http2 = house.http2().await;
        let (head, client) = ask(house, &mut http2, "/nowhere", &[]).await;
        let problem = client.body().await;
        assert_eq!((head.status, head.get("content-type")), (404, "application/problem+json"));
        assert_eq!((problem["name"].as_str(), problem["code"].as_u64()), (Some("not_found"), Some(4001)));
        assert_eq!(house.ending().await.get("connection_id"), problem["request_id"].as_str().unwrap());
    });
    let settings = Settings { refuse: RefusalForm::Close, ..Settings::default() };
    house(settings, desk(&Desk::default()), async |house| {
        let mut http2 = house.http2().await;
        let (head, mut client) = ask(house, &mut http2, "/nowhere", &[]).await;
        assert_eq!(head.status, 200);
        client.last_word().await;
    });
}

#[test]
fn what_is_no_handshake_is_refused_in_http() {
    house(Settings::default(), desk(&Desk::default()), async |house| {
        let mut http2 = house.http2().await;
        // The wrong version.
        let mut request = connect("websocket", "/ws", PAGE);
        request.headers_mut().insert("sec-websocket-version", "8".parse().unwrap());
        house.another();
        assert_eq!(http2.send(request, false).await.0.status, 426);
        // The same subprotocol twice.
        let (head, _) = ask(house, &mut http2, "/ws", &[("sec-websocket-protocol", "a, a")]).await;
        assert_eq!(head.status, 400);
        // A handshake of HTTP/1.1, as far as HTTP/2 allows one.
        house.another();
        let request = Request::get("http://app.test/ws").header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(http2.send(request.body(()).unwrap(), true).await.0.status, 400);
        // No WebSocket, and no proxy either.
        let other = connect("connect-udp", "/ws", &[]);
        assert_eq!(http2.send(other, false).await.0.status, 501);
        let proxy = Request::connect("http://other.test:80").body(()).unwrap();
        assert_eq!(http2.send(proxy, false).await.0.status, 501);
        // A plain request.
        let plain = Request::get("http://app.test/ws").body(()).unwrap();
        assert_eq!(http2.send(plain, true).await.0.status, 426);
        assert_eq!(http2.count(Frame::GOAWAY), 0);
    });
}

#[test]
fn more_fields_than_there_may_be_are_refused() {
    house(Settings::default(), desk(&Desk::default()), async |house| {
        let mut http2 = house.http2().await;
        let long = "x".repeat(20_000);
        let (head, ..) = http2.send(connect("websocket", "/ws", &[("x-filler", &long)]), false).await;
        assert_eq!(head.status, 431);
        // The connection stands.
        let (head, client) = ask(house, &mut http2, "/ws", PAGE).await;
        assert_eq!(head.status, 200);
        client.leave().await;
    });
}

#[test]
fn the_origin_is_that_of_the_authority() {
    house(Settings::default(), desk(&Desk::default()), async |house| {
        let mut http2 = house.http2().await;
        let (head, mut client) = ask(house, &mut http2, "/ws", &[("Origin", "http://evil.test")]).await;
        assert_eq!(head.get("saywhy-refused"), "forbidden");
        client.last_word().await;
        // A Host beside it does not stand for it.
        let headers = [("Origin", "http://evil.test"), ("Host", "evil.test")];
        let (head, mut client) = ask(house, &mut http2, "/ws", &headers).await;
        assert_eq!(head.get("saywhy-refused"), "forbidden");
        client.last_word().await;
    });
}

#[test]
fn over_tls_it_is_agreed_on() {
    let certificate = Certificate::new();
    let listening = Listening { tls: Some(certificate.tls()), ..Listening::default() };
    house_with(Front::Listening(listening), Settings::default(), desk(&Desk::default()), async |house| {
        let mut http2 = house.http2_tls(&certificate).await;
        let (head, mut client) = ask(house, &mut http2, "/ws", &[("Origin", "https://app.test")]).await;
        assert_eq!(head.status, 200);
        assert_eq!(client.message().await["type"], "ready");
        client.leave().await;
    });
    // Where it is not spoken, HTTP/1.1 is.
    let limits = HttpLimits { streams: 0, ..HttpLimits::default() };
    let front = Front::Listening(Listening { limits, tls: Some(certificate.tls()), ..Listening::default() });
    house_with(front, Settings::default(), desk(&Desk::default()), async |house| {
        house.another();
        let mut client = house.tls(&certificate, &["h2", "http/1.1"]).await;
        client.raw(handshake("/ws", &[]).as_bytes()).await;
        assert_eq!(client.head().await.status, 101);
        client.leave().await;
    });
}

#[test]
fn long_messages_go_both_ways_and_compressed_ones_too() {
    house(Settings::default(), desk(&Desk::default()), async |house| {
        let mut http2 = house.http2().await;
        let (_, mut client) = ask(house, &mut http2, "/ws", &[]).await;
        client.message().await;
        for n in 0..4 {
            let repeat =
                json!({ "type": "repeat", "data": { "times": 1_000_000 }, "meta": { "request_id": n.to_string() } });
            client.text(repeat).await;
        }
        for n in 0..4 {
            let answer = client.message().await;
            assert_eq!(answer["meta"]["request_id"], n.to_string());
            assert_eq!(answer["data"].as_str().unwrap().len(), 1_000_000);
        }
        let long = "y".repeat(60_000);
        client.text(json!({ "type": "echo", "data": { "text": long }, "meta": { "request_id": "l" } })).await;
        assert_eq!(client.message().await["data"]["text"], long);
        client.leave().await;
    });
    let settings = Settings { compression: Some(saywhy::Compression::default()), ..Settings::default() };
    house(settings, desk(&Desk::default()), async |house| {
        let mut http2 = house.http2().await;
        let offer = [("sec-websocket-extensions", "permessage-deflate")];
        let (head, client) = ask(house, &mut http2, "/ws", &offer).await;
        assert!(head.get("sec-websocket-extensions").starts_with("permessage-deflate"), "{head:?}");
        client.leave().await;
    });
}

#[test]
fn a_reader_that_stopped_is_cut_at_the_write_deadline_and_the_others_are_not() {
    let settings = limits(|limits| limits.write = Duration::from_millis(100));
    house(settings, desk(&Desk::default()), async |house| {
        let mut http2 = house.http2().await;
        let (_, mut other) = ask(house, &mut http2, "/ws", &[]).await;
        let (_, mut client) = ask(house, &mut http2, "/ws", &[]).await;
        other.message().await;
        for n in 0..40 {
            client
                .text(json!({ "type": "repeat", "data": { "times": 60_000 }, "meta": { "request_id": n.to_string() } }))
                .await;
        }
        let ending = house.ending().await;
        assert_eq!(ending.get("cause"), "write_timed_out", "{ending}");
        // Until now it took all that the client allows the connection.
        drop(client);
        other.text(json!({ "type": "echo", "data": { "text": "still here" }, "meta": { "request_id": "1" } })).await;
        assert_eq!(other.message().await["data"]["text"], "still here");
        other.leave().await;
    });
}

#[test]
fn a_client_that_resets_or_vanishes_has_an_ending() {
    house(Settings::default(), desk(&Desk::default()), async |house| {
        let mut http2 = house.http2().await;
        let (_, mut client) = ask(house, &mut http2, "/ws", &[]).await;
        client.message().await;
        // Dropped, it is reset with CANCEL.
        drop(client);
        assert_eq!(house.ending().await.get("stage"), "session");
        let (_, mut client) = ask(house, &mut http2, "/ws", &[]).await;
        client.message().await;
        client.half_close().await;
        assert_eq!(house.ending().await.get("cause"), "lost_eof");
        // The connection ends, with all that is in it.
        let (_, mut first) = ask(house, &mut http2, "/ws", &[]).await;
        let (_, mut second) = ask(house, &mut http2, "/ws", &[]).await;
        first.message().await;
        second.message().await;
        drop((http2, first, second, client));
        assert_eq!(house.ending().await.get("stage"), "session");
        assert_eq!(house.ending().await.get("stage"), "session");
    });
}

#[test]
fn limits_count_sessions_and_not_connections() {
    let settings = Settings { connections_per_address: 2, ..Settings::default() };
    house(settings, desk(&Desk::default()), async |house| {
        let mut http2 = house.http2().await;
        let (_, first) = ask(house, &mut http2, "/ws", &[]).await;
        let (_, second) = ask(house, &mut http2, "/ws", &[]).await;
        let (head, third) = ask(house, &mut http2, "/ws", &[]).await;
        assert_eq!(head.status, 429);
        assert_eq!(third.body().await["name"], "rate_limited");
        first.leave().await;
        second.leave().await;
    });
}

#[test]
fn a_drain_ends_the_sessions_and_then_the_connection() {
    house(Settings::default(), desk(&Desk::default()), async |house| {
        let mut http2 = house.http2().await;
        let (_, mut client) = ask(house, &mut http2, "/ws", PAGE).await;
        client.message().await;
        let gate = house.gate.clone();
        let plan = DrainPlan { window: Duration::from_millis(10), ..DrainPlan::default() };
        let drain = tokio::spawn(async move { gate.drain(plan).await });
        let goodbye = client.message().await;
        assert_eq!((goodbye["type"].as_str(), goodbye["data"]["code"].as_u64()), (Some("goodbye"), Some(1012)));
        let Seen::Close(1012, _) = client.next().await else { panic!("no Close after {goodbye}") };
        client.close(1012, "").await;
        assert_eq!(client.next().await, Seen::Fin);
        drain.await.unwrap();
        // Until it stops, it says why nobody comes in.
        let (head, mut late) = ask(house, &mut http2, "/ws", PAGE).await;
        assert_eq!(head.get("saywhy-refused"), "service_restart");
        late.last_word().await;
        house.stop();
        while http2.count(Frame::GOAWAY) == 0 {
            tokio::task::yield_now().await;
        }
    });
}

#[test]
fn an_idle_connection_is_ended_and_one_with_a_session_is_not() {
    let limits = HttpLimits { head: Duration::from_millis(500), ..HttpLimits::default() };
    house_with(Front::Listening(limits.into()), Settings::default(), desk(&Desk::default()), async |house| {
        let mut http2 = house.http2().await;
        let (_, mut client) = ask(house, &mut http2, "/ws", &[]).await;
        client.message().await;
        // Another connection, idle, sees its end while this one stands.
        let idle = house.http2().await;
        while idle.count(Frame::GOAWAY) == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(http2.count(Frame::GOAWAY), 0);
        client.text(json!({ "type": "echo", "data": { "text": "still here" }, "meta": { "request_id": "1" } })).await;
        assert_eq!(client.message().await["data"]["text"], "still here");
        client.leave().await;
        while http2.count(Frame::GOAWAY) == 0 {
            tokio::task::yield_now().await;
        }
        // Nothing but the beginning of the preface, and then nothing.
        let mut silent = TcpStream::connect(house.addr).await.unwrap();
        silent.write_all(b"PRI * HTTP/2.0\r\n\r\n").await.unwrap();
        let mut said = Vec::new();
        silent.read_to_end(&mut said).await.unwrap();
        assert!(!said.starts_with(b"HTTP/1"), "{said:?}");
    });
}

/// T18: a connection that has said which HTTP it speaks has said nothing yet.
#[test]
fn t18_connections_without_a_stream_are_limited_in_number() {
    let limits = HttpLimits { waiting_per_address: 1, ..HttpLimits::default() };
    house_with(Front::Listening(limits.into()), Settings::default(), desk(&Desk::default()), async |house| {
        let mut http2 = house.http2().await;
        let (head, mut client) = ask(house, &mut http2, "/ws", PAGE).await;
        assert_eq!(head.status, 200);
        assert_eq!(client.message().await["type"], "ready");
        // A session takes no place, so there is one.
        let _waits = house.http2().await;
        let mut crowd = house.raw(b"").await;
        assert_eq!(crowd.head().await.status, 503);
        // And none for a connection whose last session is over.
        assert_eq!(http2.count(Frame::GOAWAY), 0);
        client.close(1000, "").await;
        assert_eq!(client.next().await, Seen::Close(1000, String::new()));
        assert_eq!(client.next().await, Seen::Fin);
        client.half_close().await;
        while http2.count(Frame::GOAWAY) == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(house.ending().await.get("confirmed"), "true");
    });
}
