//! permessage-deflate (RFC 7692) over real sockets: agreed on where it was turned on and offered, used from `ready` on,
//! and no way around the limits.

mod support;

use axum::Router;
use flate2::{Compress, Decompress, FlushCompress, FlushDecompress};
use saywhy::{Compression, Encoded, Settings};
use saywhy_proto::frame::{Header, Opcode};
use serde_json::{Value, json};
use support::*;

const OFFER: (&str, &str) = ("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits");
const ALONE: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
const LIMIT: usize = 10_000;

fn settings(context_takeover: bool) -> Settings {
    let compression = Compression { context_takeover, ..Compression::default() };
    Settings { compression: Some(compression), ..limits(|limits| limits.message_bytes = LIMIT) }
}

/// A client that may compress, and has heard `ready`.
async fn open(house: &House) -> Client {
    let mut client = house.ask("/ws", &[OFFER]).await;
    assert!(client.head().await.get("sec-websocket-extensions").starts_with("permessage-deflate"));
    assert_eq!(client.message().await["type"], "ready");
    client
}

fn compress(stream: &mut Compress, text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 64);
    stream.compress_vec(text, &mut out, FlushCompress::Sync).unwrap();
    assert!(out.ends_with(&[0, 0, 0xFF, 0xFF]));
    out.truncate(out.len() - 4);
    out
}

fn fresh() -> Compress {
    Compress::new(flate2::Compression::best(), false)
}

fn inflate(stream: &mut Decompress, payload: &[u8]) -> Value {
    let mut out = Vec::with_capacity(100 * LIMIT);
    let whole = [payload, &[0, 0, 0xFF, 0xFF]].concat();
    stream.decompress_vec(&whole, &mut out, FlushDecompress::Sync).unwrap();
    serde_json::from_slice(&out).unwrap()
}

/// A compressed frame, masked with zeros.
fn wire_compressed(fin: bool, opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    Header { fin, compressed: true, opcode, mask: Some([0; 4]), len: payload.len() as u64 }.write(&mut out);
    [&out, payload].concat()
}

fn echo(text: &str) -> String {
    json!({ "type": "echo", "data": { "text": text }, "meta": { "request_id": "1" } }).to_string()
}

fn compressed(seen: Seen) -> Vec<u8> {
    let Seen::Compressed(payload) = seen else { panic!("not compressed: {seen:?}") };
    payload
}

fn at_the_desk(settings: Settings, test: impl AsyncFnOnce(&House)) {
    house(settings, desk(&Desk::default()), test);
}

#[test]
fn it_is_agreed_on_only_where_it_is_on_and_offered() {
    at_the_desk(settings(false), async |house| {
        for (offers, answer) in [
            (&[OFFER][..], ALONE),
            (&[("Sec-WebSocket-Extensions", "x-other"), OFFER], ALONE),
            (&[("Sec-WebSocket-Extensions", "permessage-deflate; unknown")], ""),
            (&[("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits=7")], ""),
            (PROGRAM, ""),
        ] {
            let mut client = house.ask("/ws", offers).await;
            assert_eq!(client.head().await.get("sec-websocket-extensions"), answer, "{offers:?}");
            assert_eq!(client.message().await["type"], "ready");
            client.leave().await;
        }
        // What is no list of extensions is no handshake.
        let broken = ("Sec-WebSocket-Extensions", "permessage-deflate;;");
        let (head, problem) = house.ask("/ws", &[broken]).await.problem().await;
        assert_eq!((head.status, &problem["name"]), (400, &json!("bad_request")));
    });
    at_the_desk(Settings::default(), async |house| {
        let mut client = house.ask("/ws", &[OFFER]).await;
        assert_eq!(client.head().await.get("sec-websocket-extensions"), "");
        client.message().await;
        client.leave().await;
    });
}

#[test]
fn a_refusal_agrees_on_nothing() {
    house(settings(true), Router::new(), async |house| {
        let mut client = house.ask("/no/such/path", &[OFFER, BROWSER[0]]).await;
        let head = client.head().await;
        assert_eq!((head.status, head.get("sec-websocket-extensions")), (101, ""));
        assert_eq!(client.last_word().await.error["data"]["name"], "not_found");
    });
}

#[test]
fn long_messages_are_compressed_both_ways_and_short_ones_are_not() {
    let words = "the same again and ".repeat(100);
    at_the_desk(settings(false), async |house| {
        let mut client = open(house).await;
        for _ in 0..2 {
            client.raw(&wire_compressed(true, Opcode::Text, &compress(&mut fresh(), echo(&words).as_bytes()))).await;
            let payload = compressed(client.next().await);
            assert!(payload.len() < 300, "{} bytes", payload.len());
            // Without context takeover each can be read by itself.
            assert_eq!(inflate(&mut Decompress::new(false), &payload)["data"]["text"], words);
        }
        client.text(echo("short, and not compressed")).await;
        assert_eq!(client.message().await["data"]["text"], "short, and not compressed");
        client.leave().await;
    });
}

#[test]
fn with_context_takeover_messages_refer_to_those_before() {
    let words: String = (0..400).map(|i| format!("{} ", i * 7_919 % 1_000)).collect();
    at_the_desk(settings(true), async |house| {
        let mut client = open(house).await;
        let (mut ours, mut theirs, mut sizes) = (fresh(), Decompress::new(false), Vec::new());
        for _ in 0..3 {
            // In two fragments, of which only the first says that the message is compressed.
            let payload = compress(&mut ours, echo(&words).as_bytes());
            let (first, rest) = payload.split_at(payload.len() / 2);
            client.raw(&wire_compressed(false, Opcode::Text, first)).await;
            client.frame(true, Opcode::Continuation, rest).await;
            let answer = compressed(client.next().await);
            sizes.push(answer.len());
            assert_eq!(inflate(&mut theirs, &answer)["data"]["text"], words);
        }
        assert!(sizes[1] < sizes[0] / 2 && sizes[2] < sizes[0] / 2, "{sizes:?}");
        client.leave().await;
    });
}

#[test]
fn what_goes_to_many_is_right_for_each() {
    for takes_over in [false, true] {
        at_the_desk(settings(takes_over), async |house| {
            let (mut compressing, mut plain) = (open(house).await, house.open_session("/ws").await);
            let text = json!({ "type": "news", "data": "all of it ".repeat(100) }).to_string();
            let news = Encoded::text(&text);
            let mut theirs = Decompress::new(false);
            for _ in 0..3 {
                house.gate.sessions().iter().for_each(|session| session.push(&news).unwrap());
                assert_eq!(plain.message().await.to_string(), text);
                let payload = compressed(compressing.next().await);
                if !takes_over {
                    theirs = Decompress::new(false);
                }
                assert_eq!(inflate(&mut theirs, &payload).to_string(), text);
            }
            compressing.leave().await;
            plain.leave().await;
        });
    }
}

#[test]
fn no_message_inflates_past_the_limit() {
    at_the_desk(settings(false), async |house| {
        // Exactly the limit is fine, also where compressing makes it longer.
        let padding = "é".repeat((LIMIT - echo("").len()) / 2);
        let fits = echo(&padding);
        assert!(fits.len() == LIMIT || fits.len() == LIMIT - 1);
        let mut client = open(house).await;
        let stored = compress(&mut Compress::new(flate2::Compression::none(), false), fits.as_bytes());
        assert!(stored.len() > fits.len());
        client.raw(&wire_compressed(true, Opcode::Text, &stored)).await;
        assert_eq!(inflate(&mut Decompress::new(false), &compressed(client.next().await))["type"], "ok");

        let bomb = compress(&mut fresh(), &vec![b' '; 10_000_000]);
        assert!(bomb.len() < LIMIT, "{} bytes", bomb.len());
        client.raw(&wire_compressed(true, Opcode::Text, &bomb)).await;
        let word = client.error_and_close().await;
        assert_eq!((word.code, &word.error["data"]["name"]), (1009, &json!("message_too_big")));
        client.close(1009, "").await;
        client.rest().await;
    });
}

#[test]
fn breaches_have_names() {
    let hello = compress(&mut fresh(), b"hello");
    let cases = [
        (
            wire_compressed(true, Opcode::Text, &[0xFF; 20]),
            1007,
            "A compressed message cannot be inflated (RFC 7692 section 7.2.2)",
        ),
        (
            wire_compressed(true, Opcode::Text, &compress(&mut fresh(), &[0xFF])),
            1007,
            "A text message must be UTF-8 (RFC 6455 section 8.1)",
        ),
        (
            [wire_compressed(false, Opcode::Text, &hello), wire_compressed(true, Opcode::Continuation, b"")].concat(),
            1002,
            "A reserved bit is set without an extension (RFC 6455 section 5.2)",
        ),
        (
            wire_compressed(true, Opcode::Ping, b""),
            1002,
            "A reserved bit is set without an extension (RFC 6455 section 5.2)",
        ),
    ];
    for (bytes, code, reason) in cases {
        at_the_desk(settings(true), async |house| {
            let mut client = open(house).await;
            client.raw(&bytes).await;
            let word = client.error_and_close().await;
            assert_eq!((word.code, &*word.reason), (code, reason));
            client.close(code, "").await;
            client.rest().await;
        });
    }
}
