//! What RFC 6455 forbids on the wire: each breach is named in a message and a Close, and the session ends.

mod support;

use saywhy::{Admission, Message, Settings};
use saywhy_proto::frame::{Header, Opcode};
use serde_json::json;
use std::time::Duration;
use support::*;

const LIMIT: usize = 1_000;

fn settings() -> Settings {
    limits(|limits| limits.message_bytes = LIMIT)
}

/// A header of a client, byte by byte: masked with zeros, so that a payload needs no mask.
fn head(first: u8, second: u8, rest: &[u8]) -> Vec<u8> {
    [&[first, second], rest, &[0; 4]].concat()
}

fn close(payload: &[u8]) -> Vec<u8> {
    wire(true, Opcode::Close, payload)
}

/// Those after which the peer's Close can still be found.
#[test]
fn a_breach_that_keeps_the_frames_apart_waits_for_our_close() {
    let part = |opcode, payload: &[u8]| wire(false, opcode, payload);
    let end = |opcode, payload: &[u8]| wire(true, opcode, payload);
    let cases = [
        (end(Opcode::Continuation, b"x"), 1002, "There is no message to continue (RFC 6455 section 5.4)"),
        (part(Opcode::Continuation, b""), 1002, "There is no message to continue (RFC 6455 section 5.4)"),
        (
            [part(Opcode::Text, b"a"), end(Opcode::Text, b"b")].concat(),
            1002,
            "A message began before the last one was finished (RFC 6455 section 5.4)",
        ),
        (
            [part(Opcode::Binary, b"a"), part(Opcode::Text, b"b")].concat(),
            1002,
            "A message began before the last one was finished (RFC 6455 section 5.4)",
        ),
        (end(Opcode::Text, &[0xFF]), 1007, "A text message must be UTF-8 (RFC 6455 section 8.1)"),
        (end(Opcode::Text, b"a\xE2\x82"), 1007, "A text message must be UTF-8 (RFC 6455 section 8.1)"),
        (end(Opcode::Text, b"\xED\xA0\x80"), 1007, "A text message must be UTF-8 (RFC 6455 section 8.1)"),
        (end(Opcode::Text, b"\xC0\xAF"), 1007, "A text message must be UTF-8 (RFC 6455 section 8.1)"),
        // Named at the fragment where it is certain, not at the end of the message.
        (
            [part(Opcode::Text, b"a\xF4"), part(Opcode::Continuation, b"\x90")].concat(),
            1007,
            "A text message must be UTF-8 (RFC 6455 section 8.1)",
        ),
        (end(Opcode::Text, &[b'x'; LIMIT + 1]), 1009, "The message is bigger than is taken here"),
        (end(Opcode::Binary, &[0; LIMIT + 1]), 1009, "The message is bigger than is taken here"),
        (
            [part(Opcode::Text, &[b'x'; LIMIT]), end(Opcode::Continuation, b"x")].concat(),
            1009,
            "The message is bigger than is taken here",
        ),
        (
            (0..=LIMIT).flat_map(|n| part(if n == 0 { Opcode::Text } else { Opcode::Continuation }, b"x")).collect(),
            1009,
            "The message is bigger than is taken here",
        ),
        // A control frame inside does not start the count anew.
        (
            [part(Opcode::Text, &[b'x'; LIMIT]), end(Opcode::Pong, b""), end(Opcode::Continuation, b"x")].concat(),
            1009,
            "The message is bigger than is taken here",
        ),
    ];
    house(settings(), desk(&Desk::default()), async |house| {
        for (bytes, code, words) in cases {
            let mut client = house.open_session("/ws").await;
            client.raw(&bytes).await;
            let word = client.last_word().await;
            assert_eq!((word.code, &*word.reason), (code, words));
            assert_eq!(word.error["data"]["code"], code);
            let details = if code == 1009 { json!({ "limit_bytes": LIMIT }) } else { json!(null) };
            assert_eq!(word.error["data"].get("details").unwrap_or(&json!(null)), &details);
            let ending = house.ending().await;
            let name = word.error["data"]["name"].as_str().unwrap();
            assert_eq!((ending.get("cause"), ending.get("confirmed")), (name, "true"), "{words}");
        }
    });
}

/// A header that breaks a rule still says how long its frame is, so our Close is found behind it.
#[test]
fn a_broken_header_is_named_and_waits_for_our_close() {
    let with = |head: Vec<u8>, payload: usize| [head, vec![0; payload]].concat();
    let cases = [
        (head(0xC1, 0x80, &[]), "A reserved bit is set without an extension (RFC 6455 section 5.2)"),
        (head(0xA1, 0x80, &[]), "A reserved bit is set without an extension (RFC 6455 section 5.2)"),
        (head(0x91, 0x80, &[]), "A reserved bit is set without an extension (RFC 6455 section 5.2)"),
        (head(0x83, 0x80, &[]), "The opcode is unknown (RFC 6455 section 5.2)"),
        (head(0x8B, 0x80, &[]), "The opcode is unknown (RFC 6455 section 5.2)"),
        (vec![0x81, 0x01, b'x'], "A client must mask its frames (RFC 6455 section 5.1)"),
        (head(0x09, 0x80, &[]), "A control frame must not be fragmented (RFC 6455 section 5.5)"),
        (with(head(0x89, 0xFE, &[0, 126]), 126), "A control frame has at most 125 bytes (RFC 6455 section 5.5)"),
        (
            with(head(0x81, 0xFE, &[0, 5]), 5),
            "A length must be written in as few bytes as it takes (RFC 6455 section 5.2)",
        ),
        (
            with(head(0x81, 0xFF, &[0, 0, 0, 0, 0, 0, 1, 0]), 256),
            "A length must be written in as few bytes as it takes (RFC 6455 section 5.2)",
        ),
    ];
    house(settings(), desk(&Desk::default()), async |house| {
        for (bytes, words) in cases {
            let mut client = house.open_session("/ws").await;
            client.raw(&bytes).await;
            let word = client.last_word().await;
            assert_eq!((word.code, &*word.reason), (1002, words));
            let ending = house.ending().await;
            assert_eq!((ending.get("cause"), ending.get("confirmed")), ("protocol_error", "true"), "{words}");
        }
    });
}

/// A Close that breaks a rule ends it as well; and behind a length that no peer can send there is only the end.
#[test]
fn a_broken_close_and_an_impossible_length_are_named_and_wait_for_the_end() {
    let cases = [
        (vec![0x88, 0x00], "A client must mask its frames (RFC 6455 section 5.1)"),
        (head(0x08, 0x80, &[]), "A control frame must not be fragmented (RFC 6455 section 5.5)"),
        (head(0x88, 0xFE, &[0, 126]), "A control frame has at most 125 bytes (RFC 6455 section 5.5)"),
        (
            head(0x81, 0xFF, &[0x80, 0, 0, 0, 0, 0, 0, 0]),
            "A length must not have its highest bit set (RFC 6455 section 5.2)",
        ),
        (head(0x81, 0xFF, &[0xFF; 8]), "A length must not have its highest bit set (RFC 6455 section 5.2)"),
    ];
    house(settings(), desk(&Desk::default()), async |house| {
        for (bytes, words) in cases {
            let mut client = house.open_session("/ws").await;
            client.raw(&bytes).await;
            client.half_close().await;
            let seen = client.rest().await;
            assert!(seen.contains(&Seen::Close(1002, words.into())), "{seen:?}");
            assert_eq!(seen.last(), Some(&Seen::Fin));
            assert_eq!(house.ending().await.get("cause"), "protocol_error", "{words}");
        }
    });
}

/// T01, T05: what is declared is judged when the header is there, and costs nothing.
#[test]
fn a_length_that_is_too_big_is_refused_before_a_byte_of_it_arrives() {
    house(settings(), desk(&Desk::default()), async |house| {
        for len in [LIMIT as u64 + 1, 65_536, (1 << 31) - 1, 1 << 31, 1 << 32, (1 << 63) - 1] {
            let mut client = house.open_session("/ws").await;
            let mut bytes = Vec::new();
            Header { fin: true, compressed: false, opcode: Opcode::Text, mask: Some([1; 4]), len }.write(&mut bytes);
            client.raw(&bytes).await;
            let word = client.error_and_close().await;
            assert_eq!((word.code, &word.error["data"]["name"]), (1009, &json!("message_too_big")), "{len}");
            client.half_close().await;
            assert_eq!(client.next().await, Seen::Fin);
        }
    });
}

#[test]
fn what_is_within_the_limit_passes_however_it_is_cut() {
    let text = "é".repeat(40);
    let echo = json!({ "type": "echo", "data": { "text": text }, "meta": { "request_id": "1" } }).to_string();
    house(settings(), desk(&Desk::default()), async |house| {
        let mut client = house.open_session("/ws").await;
        for size in [1, 2, 3, 7, 64, 1_000] {
            let mut wire_bytes = Vec::new();
            let mut opcode = Opcode::Text;
            for part in echo.as_bytes().chunks(size) {
                wire_bytes.extend(wire(false, opcode, part));
                wire_bytes.extend(wire(true, Opcode::Pong, b"in between"));
                opcode = Opcode::Continuation;
            }
            wire_bytes.extend(wire(true, Opcode::Continuation, b""));
            // In pieces that have nothing to do with the frames.
            for piece in wire_bytes.chunks(11) {
                client.raw(piece).await;
            }
            assert_eq!(client.message().await["data"]["text"], text, "{size}");
        }
        let exact = "x".repeat(LIMIT);
        assert_eq!(client.request(&exact).await["data"]["name"], "bad_request", "not too big");
        client.leave().await;
    });
}

/// T04: fragments are put together, not counted.
#[test]
fn a_hundred_thousand_empty_fragments_are_one_message() {
    house(settings(), desk(&Desk::default()), async |house| {
        let mut client = house.open_session("/ws").await;
        client.frame(false, Opcode::Text, br#"{"type":"#).await;
        client.raw(&wire(false, Opcode::Continuation, b"").repeat(100_000)).await;
        client.frame(true, Opcode::Continuation, br#""ping"}"#).await;
        assert_eq!(client.message().await["type"], "pong");
        client.leave().await;
    });
}

#[test]
fn a_message_that_is_not_finished_in_time_is_timeout() {
    let settings = limits(|limits| limits.message = Duration::from_millis(20));
    house(settings, desk(&Desk::default()), async |house| {
        for bytes in [wire(false, Opcode::Text, b"{"), vec![0x81], wire(true, Opcode::Text, &[b'x'; 50])[..20].to_vec()]
        {
            let mut client = house.open_session("/ws").await;
            client.raw(&bytes).await;
            let word = client.error_and_close().await;
            assert_eq!((word.code, &*word.reason), (3008, "A message was begun and not finished in time"));
            client.half_close().await;
            assert_eq!(client.next().await, Seen::Fin);
        }
    });
}

// ---- pings ------------------------------------------------------------------------------------------------------

#[test]
fn a_ping_is_answered_with_its_own_bytes() {
    house(settings(), desk(&Desk::default()), async |house| {
        let mut client = house.open_session("/ws").await;
        for payload in [&b""[..], b"x", &[0xFF; 125]] {
            client.frame(true, Opcode::Ping, payload).await;
            assert_eq!(client.next().await, Seen::Pong(payload.to_vec()));
        }
        // Between fragments, and cut anywhere.
        client.frame(false, Opcode::Text, br#"{"type":"#).await;
        for byte in wire(true, Opcode::Ping, b"inside") {
            client.raw(&[byte]).await;
        }
        assert_eq!(client.next().await, Seen::Pong(b"inside".to_vec()));
        client.frame(true, Opcode::Continuation, br#""ping"}"#).await;
        assert_eq!(client.message().await["type"], "pong");
        client.leave().await;
    });
}

/// RFC 6455 §5.5.3.
#[test]
fn of_a_burst_of_pings_the_latest_is_answered() {
    house(settings(), desk(&Desk::default()), async |house| {
        let mut client = house.open_session("/ws").await;
        let burst: Vec<u8> = (0..100_u8).flat_map(|n| wire(true, Opcode::Ping, &[n])).collect();
        client.raw(&burst).await;
        let mut answers = 0;
        loop {
            answers += 1;
            match client.next().await {
                Seen::Pong(payload) if payload == [99] => break,
                Seen::Pong(_) => {}
                other => panic!("{other:?}"),
            }
        }
        assert!(answers <= 100);
        client.leave().await;
    });
}

#[test]
fn a_flood_of_control_frames_is_a_policy_violation() {
    let settings = limits(|limits| (limits.messages_per_s, limits.message_burst) = (1, 2));
    house(settings, desk(&Desk::default()), async |house| {
        for opcode in [Opcode::Ping, Opcode::Pong] {
            let mut client = house.open_session("/ws").await;
            let flood: Vec<u8> = (0..1_000).flat_map(|_| wire(true, opcode, b"")).collect();
            client.raw(&flood).await;
            let seen = loop {
                match client.next().await {
                    Seen::Pong(_) => {}
                    seen => break seen,
                }
            };
            assert!(matches!(seen, Seen::Text(error) if error["data"]["name"] == "policy_violation"));
            assert_eq!(client.next().await, Seen::Close(1008, "Too many pings and pongs".into()));
            client.close(1008, "").await;
            assert_eq!(client.next().await, Seen::Fin);
        }
    });
}

// ---- the peer's Close -------------------------------------------------------------------------------------------

#[test]
fn a_close_is_answered_with_its_own_code_and_an_illegal_one_with_1002() {
    let code = |code: u16, reason: &[u8]| close(&[&code.to_be_bytes(), reason].concat());
    let bad_code = "That close code must not be sent (RFC 6455 section 7.4)";
    // What is sent, what is answered, and the cause.
    let cases = [
        (close(b""), 1005, "", "peer_closed"),
        (code(1000, b""), 1000, "", "peer_closed"),
        (code(1001, b"tab closed"), 1001, "", "peer_closed"),
        (code(1003, b""), 1003, "", "peer_closed"),
        (code(1008, &[b'x'; 123]), 1008, "", "peer_closed"),
        (code(1014, b""), 1014, "", "peer_closed"),
        (code(3000, b""), 3000, "", "peer_closed"),
        (code(3999, b""), 3999, "", "peer_closed"),
        (code(4000, "grüß".as_bytes()), 4000, "", "peer_closed"),
        (code(4999, b""), 4999, "", "peer_closed"),
        // A client's to say, and not ours to repeat.
        (code(1010, b"permessage-deflate"), 1000, "", "peer_closed"),
        (code(0, b""), 1002, bad_code, "protocol_error"),
        (code(999, b""), 1002, bad_code, "protocol_error"),
        (code(1004, b""), 1002, bad_code, "protocol_error"),
        (code(1005, b""), 1002, bad_code, "protocol_error"),
        (code(1006, b""), 1002, bad_code, "protocol_error"),
        (code(1015, b""), 1002, bad_code, "protocol_error"),
        (code(1016, b""), 1002, bad_code, "protocol_error"),
        (code(2999, b""), 1002, bad_code, "protocol_error"),
        (code(5000, b""), 1002, bad_code, "protocol_error"),
        (code(65_535, b""), 1002, bad_code, "protocol_error"),
        (
            close(b"\x03"),
            1002,
            "A Close has no payload or at least two bytes (RFC 6455 section 5.5.1)",
            "protocol_error",
        ),
        (code(1000, b"\xFF"), 1007, "A close reason must be UTF-8 (RFC 6455 section 5.5.1)", "invalid_payload"),
    ];
    house(limits(|limits| limits.close = Duration::from_secs(3_600)), desk(&Desk::default()), async |house| {
        for (bytes, answer, reason, cause) in cases {
            let mut client = house.open_session("/ws").await;
            client.raw(&bytes).await;
            assert_eq!(client.rest().await, [Seen::Close(answer, reason.into()), Seen::Fin], "{bytes:?}");
            let ending = house.ending().await;
            assert_eq!((ending.get("cause"), ending.get("confirmed")), (cause, "true"), "{bytes:?}");
            assert_eq!(ending.get("sent"), answer.to_string());
        }
    });
}

#[test]
fn a_close_may_stand_between_fragments_and_ends_everything_behind_it() {
    house(settings(), desk(&Desk::default()), async |house| {
        let mut client = house.open_session("/ws").await;
        let echo = wire_text(r#"{"type":"echo","data":{"text":"too late"},"meta":{"request_id":"1"}}"#);
        let bytes = [wire(false, Opcode::Text, b"{"), close(&1000_u16.to_be_bytes()), echo, vec![0xFF; 100]].concat();
        client.raw(&bytes).await;
        assert_eq!(client.rest().await, [Seen::Close(1000, String::new()), Seen::Fin]);
        assert_eq!(house.ending().await.get("cause"), "peer_closed");
    });
}

#[test]
fn requests_before_a_close_in_the_same_packet_are_still_answered() {
    house(settings(), desk(&Desk::default()), async |house| {
        let mut client = house.open_session("/ws").await;
        let echo = wire_text(r#"{"type":"echo","data":{"text":"in time"},"meta":{"request_id":"1"}}"#);
        client.raw(&[echo, close(&1000_u16.to_be_bytes())].concat()).await;
        assert_eq!(client.message().await["data"]["text"], "in time");
        assert_eq!(client.rest().await, [Seen::Close(1000, String::new()), Seen::Fin]);
    });
}

// ---- a subprotocol of the application's own ---------------------------------------------------------------------

#[test]
fn in_a_foreign_subprotocol_a_breach_is_a_close_only() {
    let settings = Settings { subprotocols: vec!["mqtt".into()], ..settings() };
    let echo = async |admission: Admission| {
        admission.accept(async |mut session| {
            while let Some(Message::Binary(bytes)) = session.next().await {
                session.send(Message::Binary(bytes));
            }
        })
    };
    let router = axum::Router::new().route("/ws", axum::routing::any(echo));
    house(settings, router, async |house| {
        let cases = [
            (wire(true, Opcode::Text, &[0xFF]), 1007, "A text message must be UTF-8 (RFC 6455 section 8.1)"),
            (wire(true, Opcode::Binary, &[0; LIMIT + 1]), 1009, "The message is bigger than is taken here"),
        ];
        for (bytes, code, words) in cases {
            let mut client = house.ask("/ws", &[("Sec-WebSocket-Protocol", "mqtt")]).await;
            assert_eq!(client.head().await.get("sec-websocket-protocol"), "mqtt");
            client.frame(true, Opcode::Binary, b"hello").await;
            assert_eq!(client.next().await, Seen::Binary(b"hello".to_vec()), "no ready came before it");
            client.raw(&bytes).await;
            assert_eq!(client.next().await, Seen::Close(code, words.into()));
            client.is_quiet().await;
            client.close(code, "").await;
            assert_eq!(client.next().await, Seen::Fin);
        }
    });
}
