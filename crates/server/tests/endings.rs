//! How sessions end: deadlines, clients that do not read, vanish or flood; and that each has one ending.

mod support;

use axum::Router;
use axum::routing::any;
use saywhy::catalogue::{KICKED, NOT_FOUND};
use saywhy::{Admission, Encoded, Gone, Outbox, Refusal, Settings};
use saywhy_proto::frame::Opcode;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use support::*;
use tokio::sync::Notify;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// The only session's outbox.
fn outbox(house: &House) -> Outbox {
    house.gate.sessions().pop().unwrap()
}

fn wait() -> Value {
    json!({ "type": "wait", "data": {}, "meta": { "request_id": "abc-123" } })
}

// ---- deadlines --------------------------------------------------------------------------------------------------

#[test]
fn a_client_that_answers_no_ping_ends_with_timeout() {
    house(limits(|limits| limits.heartbeat = ms(20)), desk(&Desk::default()), async |house| {
        let mut client = house.open_session("/ws").await;
        let error = loop {
            match client.next().await {
                Seen::Ping(_) => {}
                Seen::Text(error) => break error,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!((&error["data"]["name"], &error["data"]["retry"]), (&json!("timeout"), &json!("backoff")));
        assert_eq!(client.next().await, Seen::Close(3008, "No heartbeat was answered".into()));
        client.close(3008, "").await;
        assert_eq!(client.next().await, Seen::Fin);
        assert_eq!(house.ending().await.get("cause"), "timeout");
    });
}

#[test]
fn a_client_that_answers_pings_stays() {
    house(limits(|limits| limits.heartbeat = ms(200)), desk(&Desk::default()), async |house| {
        let mut client = house.open_session("/ws").await;
        for _ in 0..3 {
            assert_eq!(client.next().await, Seen::Ping(Vec::new()));
            client.frame(true, Opcode::Pong, b"").await;
        }
        client.leave().await;
    });
}

/// Whoever was stopped for a while, as virtual machines are, finds all deadlines past and all Pongs waiting.
#[test]
fn a_server_that_was_late_itself_does_not_blame_its_clients() {
    house(limits(|limits| limits.heartbeat = ms(30)), desk(&Desk::default()), async |house| {
        let mut client = house.open_session("/ws").await;
        assert_eq!(client.next().await, Seen::Ping(Vec::new()));
        client.frame(true, Opcode::Pong, b"").await;
        // Client and server share the thread: while this spins, the server does nothing.
        let stopped = Instant::now();
        while stopped.elapsed() < ms(120) {}
        assert_eq!(client.next().await, Seen::Ping(Vec::new()), "and not the end");
    });
}

#[test]
fn a_handler_may_think_for_longer_than_a_heartbeat() {
    let at = Desk::default();
    house(limits(|limits| limits.heartbeat = ms(50)), desk(&at), async |house| {
        let mut client = house.open_session("/ws").await;
        client.text(wait()).await;
        at.waits.notified().await;
        // It is not read while its handler works, so its silence means nothing.
        for _ in 0..5 {
            assert_eq!(client.next().await, Seen::Ping(Vec::new()));
        }
        at.go.notify_one();
        let reply = loop {
            match client.next().await {
                Seen::Ping(_) => client.frame(true, Opcode::Pong, b"").await,
                Seen::Text(reply) => break reply,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(reply["data"], "waited");
    });
}

#[test]
fn a_client_that_says_nothing_for_too_long_is_sent_away() {
    house(limits(|limits| limits.idle = ms(20)), desk(&Desk::default()), async |house| {
        let mut client = house.open_session("/ws").await;
        let word = client.last_word().await;
        assert_eq!((word.code, &*word.reason), (1001, "The connection was idle for too long"));
        assert_eq!(house.ending().await.get("cause"), "going_away");
    });
}

#[test]
fn a_session_whose_client_does_not_confirm_is_closed_at_the_deadline() {
    house(limits(|limits| limits.close = ms(20)), desk(&Desk::default()), async |house| {
        let mut client = house.open_session("/ws").await;
        outbox(house).close(NOT_FOUND.say("the room is gone"));
        client.error_and_close().await;
        assert_eq!(client.next().await, Seen::Fin);
        let ending = house.ending().await;
        assert_eq!((ending.get("cause"), ending.get("confirmed")), ("not_found", "false"));
        assert!(ending.get("message").ends_with(r#"we sent 4001 "the room is gone" and the peer did not answer"#));
    });
}

#[test]
fn a_handler_that_never_ends_does_not_keep_a_farewell_from_being_said() {
    let at = Desk::default();
    let settings = limits(|limits| (limits.write, limits.close) = (ms(10), ms(10)));
    house(settings, desk(&at), async |house| {
        let mut client = house.open_session("/ws").await;
        client.text(wait()).await;
        at.waits.notified().await;
        outbox(house).close(NOT_FOUND.say("closing time"));
        assert_eq!(client.error_and_close().await.reason, "closing time");
        assert_eq!(house.ending().await.get("sent"), "4001");
    });
}

// ---- clients that do not read -----------------------------------------------------------------------------------

/// Queues numbered messages until no more are taken; how many were.
async fn flood(outbox: &Outbox, yields: bool) -> usize {
    let filler = "x".repeat(10_000);
    let mut taken = 0;
    while outbox.send("message", &json!({ "n": taken, "filler": filler })).is_ok() {
        taken += 1;
        if yields {
            tokio::task::yield_now().await;
        }
    }
    taken
}

#[test]
fn a_client_that_does_not_read_hears_slow_consumer_after_whole_messages() {
    for (outbound_bytes, outbound_messages) in [(200_000, 4_096), (1024 * 1024, 10)] {
        let settings = Settings { outbound_bytes, outbound_messages, ..Settings::default() };
        house(settings, desk(&Desk::default()), async |house| {
            let mut client = house.open_session("/ws").await;
            let taken = flood(&outbox(house), true).await;
            assert!(taken > outbound_messages.min(20), "the network took some");
            let mut whole = 0;
            let last = loop {
                let message = client.message().await;
                if message["type"] == "error" {
                    break message;
                }
                assert_eq!(message["data"]["n"], whole, "in order, none missing");
                whole += 1;
            };
            assert!(whole <= taken, "what was queued is dropped");
            assert_eq!((&last["data"]["code"], &last["data"]["fatal"]), (&json!(4007), &json!(true)));
            assert_eq!(client.next().await, Seen::Close(4007, "You were not reading fast enough".into()));
            client.is_quiet().await;
            client.close(4007, "").await;
            assert_eq!(client.next().await, Seen::Fin);
            let ending = house.ending().await;
            assert_eq!((ending.get("cause"), ending.get("confirmed")), ("slow_consumer", "true"));
        });
    }
}

#[test]
fn a_queue_that_is_filled_at_once_is_dropped_for_the_last_word() {
    house(Settings::default(), desk(&Desk::default()), async |house| {
        let mut client = house.open_session("/ws").await;
        let outbox = outbox(house);
        assert!(flood(&outbox, false).await > 90);
        assert_eq!(outbox.send("message", &()), Err(Gone));
        assert_eq!(client.last_word().await.code, 4007);
    });
}

#[test]
fn slow_consumer_does_not_wait_for_a_handler() {
    let at = Desk::default();
    let patient =
        limits(|limits| (limits.write, limits.close) = (Duration::from_secs(3_600), Duration::from_secs(3_600)));
    house(patient, desk(&at), async |house| {
        let mut client = house.open_session("/ws").await;
        client.text(wait()).await;
        at.waits.notified().await;
        flood(&outbox(house), false).await;
        assert_eq!(client.last_word().await.code, 4007, "and our Close is read, though it works still");
        assert_eq!(house.ending().await.get("confirmed"), "true");
    });
}

/// T07.
#[test]
fn a_client_that_never_reads_is_cut_at_the_write_deadline() {
    let settings = Settings { outbound_bytes: 200_000, ..limits(|limits| limits.write = ms(20)) };
    house(settings, desk(&Desk::default()), async |house| {
        let _client = house.open_session("/ws").await;
        flood(&outbox(house), true).await;
        // Whichever it reaches first: the queue may still be filling when the deadline comes.
        assert!(matches!(house.ending().await.get("cause"), "slow_consumer" | "write_timed_out"));
    });
}

#[test]
fn nobody_writes_to_a_client_that_only_asks_and_never_reads() {
    let settings = limits(|limits| (limits.messages_per_s, limits.write) = (0, ms(50)));
    house(settings, desk(&Desk::default()), async |house| {
        let mut client = house.open_session("/ws").await;
        let text = "x".repeat(50_000);
        let echo =
            wire_text(&json!({ "type": "echo", "data": { "text": text }, "meta": { "request_id": "1" } }).to_string());
        // The server stops reading when its answers are stuck, so the client cannot send for ever.
        while client.send_raw(&echo).await.is_ok() {}
        assert_eq!(house.ending().await.get("cause"), "write_timed_out");
    });
}

/// T06: a few bytes that ask for a lot must not fill the memory with what nobody reads.
#[test]
fn nothing_more_is_done_for_a_client_before_it_has_taken_the_answers() {
    let at = Desk::default();
    let settings = limits(|limits| (limits.messages_per_s, limits.write) = (0, ms(100)));
    house(settings, desk(&at), async |house| {
        let mut client = house.open_session("/ws").await;
        let repeat = json!({ "type": "repeat", "data": { "times": 500_000 }, "meta": { "request_id": "1" } });
        // In one packet: half a gigabyte of answers.
        client.raw(&wire_text(&repeat.to_string()).repeat(700)).await;
        assert_eq!(house.ending().await.get("cause"), "write_timed_out");
        let asked = at.asked.load(Ordering::Relaxed);
        assert!(asked < 100, "what the network holds, and a little more: {asked}");
    });
}

// ---- floods -----------------------------------------------------------------------------------------------------

#[test]
fn a_client_that_floods_while_it_is_closed_still_gets_the_close_and_no_reset() {
    house(limits(|limits| limits.messages_per_s = 0), desk(&Desk::default()), async |house| {
        let mut client = house.open_session("/ws").await;
        // A frame is under way when the ending begins, and its rest comes after it.
        let frame = wire_text(&"x".repeat(60_000));
        let (begun, rest) = frame.split_at(30_000);
        client.raw(begun).await;
        outbox(house).close_now(KICKED);
        client.raw(rest).await;
        for _ in 0..100 {
            client.raw(&frame).await;
        }
        assert_eq!(client.last_word().await.code, 4008);
        let ending = house.ending().await;
        assert_eq!((ending.get("cause"), ending.get("confirmed")), ("kicked", "true"));
    });
}

#[test]
fn what_arrives_after_our_close_is_dropped() {
    house(Settings::default(), desk(&Desk::default()), async |house| {
        let mut client = house.open_session("/ws").await;
        outbox(house).close_now(KICKED);
        client.error_and_close().await;
        for bad in [wire_text(r#"{"type":"panic","data":{}}"#), wire_text("nonsense"), wire(true, Opcode::Ping, b"?")] {
            client.raw(&bad).await;
        }
        client.is_quiet().await;
        client.close(1000, "").await;
        assert_eq!(client.next().await, Seen::Fin);
        assert_eq!(house.ending().await.get("cause"), "kicked", "the first ending stands");
    });
}

#[test]
fn both_close_at_once() {
    house(Settings::default(), desk(&Desk::default()), async |house| {
        let mut client = house.open_session("/ws").await;
        outbox(house).close_now(KICKED);
        client.close(1000, "bye").await;
        let seen = client.rest().await;
        // Whichever the server saw first, there is one Close and then FIN.
        assert_eq!(seen.iter().filter(|seen| matches!(seen, Seen::Close(..))).count(), 1, "{seen:?}");
        assert_eq!(seen.last(), Some(&Seen::Fin));
        assert_eq!(house.ending().await.get("confirmed"), "true");
    });
}

// ---- clients that vanish ----------------------------------------------------------------------------------------

/// A way to vanish.
type Vanish = fn(Client);

/// And what each is called.
const WAYS: [(Vanish, &str); 2] = [(drop, "lost_eof"), (Client::reset, "lost_reset")];

#[test]
fn a_client_that_vanishes_is_lost_wherever_it_was() {
    let begun: [&[u8]; 5] =
        [b"", &[0x81], &[0x81, 0x85, 1, 2], &[0x81, 0x85, 0, 0, 0, 0, b'h'], &[0x01, 0x81, 0, 0, 0, 0, b'{']];
    house(Settings::default(), desk(&Desk::default()), async |house| {
        for bytes in begun {
            for (vanish, cause) in WAYS {
                let mut client = house.open_session("/ws").await;
                let outbox = outbox(house);
                client.raw(bytes).await;
                vanish(client);
                let ending = house.ending().await;
                assert_eq!((ending.get("cause"), ending.get("stage")), (cause, "session"), "{bytes:?}");
                assert_eq!(outbox.push(&Encoded::text("anyone?")), Err(Gone));
            }
        }
    });
}

#[test]
fn a_client_that_only_ends_its_own_side_is_lost_too_but_answered_first() {
    house(Settings::default(), desk(&Desk::default()), async |house| {
        let mut client = house.open_session("/ws").await;
        client.text(r#"{"type":"ping"}"#).await;
        client.half_close().await;
        assert_eq!(client.message().await["type"], "pong");
        assert_eq!(client.next().await, Seen::Fin);
        assert_eq!(house.ending().await.get("cause"), "lost_eof");
    });
}

#[test]
fn a_client_that_vanishes_while_its_handler_works_is_lost_when_it_is_done() {
    let at = Desk::default();
    house(Settings::default(), desk(&at), async |house| {
        for (vanish, _) in WAYS {
            let mut client = house.open_session("/ws").await;
            client.text(wait()).await;
            at.waits.notified().await;
            vanish(client);
            at.go.notify_one();
            assert!(house.ending().await.get("cause").starts_with("lost"));
        }
    });
}

/// Nothing is read while a handler works, but Pings are written, and nobody takes them.
#[test]
fn a_handler_that_never_ends_does_not_outlive_its_client() {
    let at = Desk::default();
    house(limits(|limits| limits.heartbeat = ms(20)), desk(&at), async |house| {
        let mut client = house.open_session("/ws").await;
        client.text(wait()).await;
        at.waits.notified().await;
        drop(client);
        assert_eq!(house.ending().await.get("cause"), "lost_reset");
    });
}

#[test]
fn a_client_that_vanishes_during_a_farewell_ends_with_its_cause() {
    house(Settings::default(), desk(&Desk::default()), async |house| {
        for (vanish, _) in WAYS {
            let mut client = house.open_session("/ws").await;
            outbox(house).close(NOT_FOUND);
            client.error_and_close().await;
            vanish(client);
            let ending = house.ending().await;
            assert_eq!((ending.get("cause"), ending.get("confirmed")), ("not_found", "false"));
        }
    });
}

#[test]
fn a_client_that_vanishes_before_it_is_decided_upon_has_an_ending() {
    let (asked, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (ask, gone) = (Arc::clone(&asked), Arc::clone(&go));
    let undecided = async move |admission: Admission| {
        ask.notify_one();
        gone.notified().await;
        Ok::<_, Refusal>(admission.accept(|session| session.serve(Desk::default())))
    };
    house(Settings::default(), Router::new().route("/ws", any(undecided)), async |house| {
        for headers in [BROWSER, PROGRAM] {
            for (vanish, _) in WAYS {
                let client = house.ask("/ws", headers).await;
                asked.notified().await;
                vanish(client);
                let ending = house.ending().await;
                assert_eq!((ending.get("stage"), ending.get("path")), ("admission", r#""/ws""#));
                assert!(ending.get("cause").starts_with("lost"), "{ending}");
            }
        }
        // A client that waits is let in as ever.
        let mut client = house.ask("/ws", BROWSER).await;
        asked.notified().await;
        go.notify_one();
        assert_eq!(client.head().await.status, 101);
    });
}

/// T11: at every byte of an exchange.
#[test]
fn a_connection_may_end_at_every_byte() {
    let head = handshake("/ws", BROWSER);
    let echo = json!({ "type": "echo", "data": { "text": "x" }, "meta": { "request_id": "1" } }).to_string();
    let whole =
        [head.as_bytes(), &wire_text(&echo), &wire(true, Opcode::Ping, b""), &wire(true, Opcode::Close, b"")].concat();
    house(Settings { connections_per_address: 10_000, ..Settings::default() }, desk(&Desk::default()), async |house| {
        for end in 0..whole.len() {
            for half in [true, false] {
                let mut client = house.raw(&whole[..end]).await;
                if end >= head.len() {
                    house.another();
                    assert_eq!(client.head().await.status, 101);
                }
                if half {
                    client.half_close().await;
                    // Whatever it says, it ends.
                    while client.fill().await.is_ok_and(|read| read > 0) {}
                } else {
                    client.reset();
                }
            }
        }
    });
}
