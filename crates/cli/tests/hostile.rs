//! Peers that mean harm, over real sockets, against the real binary: what it holds is measured from outside, as the
//! resident memory of its process. Each test has the number of its lesson: what broke other servers, in advisories.
//!
//! Memory is what many connections, or many fragments, take together: what the allocator and the kernel's counters
//! are off by is then little beside it. Before a test measures, it has done once what it measures, so that what
//! belongs to threads and not to connections is there.

#[path = "hostile/http2.rs"]
mod http2;
#[path = "hostile/peer.rs"]
#[allow(dead_code, reason = "written for another test too")]
mod peer;
#[path = "hostile/server.rs"]
#[allow(dead_code, reason = "written for another test too")]
mod server;

use http2::*;
use peer::*;
use saywhy_proto::Violation;
use saywhy_proto::frame::Opcode;
use server::*;
use std::thread;
use std::time::{Duration, Instant};

const OPEN: &str = "token = 'none'";

// ---- the meters can fail --------------------------------------------------------------------------------------

#[test]
fn the_memory_meter_sees_what_is_touched_and_what_is_only_reserved() {
    let before = Memory::of(std::process::id());
    let mut block = Vec::<u8>::with_capacity(64 * MIB as usize);
    let reserved = Memory::of(std::process::id());
    assert!(reserved.reserved >= before.reserved + 64 * MIB, "{before:?}, then {reserved:?}");
    block.resize(64 * MIB as usize, 1);
    let touched = Memory::of(std::process::id());
    assert!(touched.resident >= before.resident + 60 * MIB, "{before:?}, then {touched:?}");
    assert!(touched.peak >= touched.resident);
}

#[test]
fn the_cpu_meter_sees_a_busy_loop() {
    let before = cpu(std::process::id());
    until("100 ms of computing", || cpu(std::process::id()) >= before + Duration::from_millis(100));
}

// ---- frames and messages --------------------------------------------------------------------------------------

#[test]
fn t01_a_length_of_64_bits_is_refused_at_once_and_nothing_allocated() {
    let server = Server::start(CROWD, OPEN);
    let lengths = [
        ((1 << 31) - 1, "message_too_big", 1009),
        (1 << 31, "message_too_big", 1009),
        (1 << 32, "message_too_big", 1009),
        ((1 << 63) - 1, "message_too_big", 1009),
        (1 << 63, "protocol_error", 1002),
        (u64::MAX, "protocol_error", 1002),
    ];
    let crowd: Vec<_> = (0..300).map(|_| Peer::ready(&server)).collect();
    server.forget_peak();
    let before = server.memory();
    for (n, mut peer) in crowd.into_iter().enumerate() {
        let (length, name, code) = lengths[n % lengths.len()];
        // The header is all that is sent.
        peer.send(&header(true, if n % 4 < 2 { Opcode::Text } else { Opcode::Binary }, length));
        let word = peer.last_word();
        assert_eq!((word.name(), word.code), (name, code), "{length}");
    }
    let after = server.memory();
    eprintln!("t01: {before:?}, then {after:?}");
    assert!(after.peak < before.resident + 4 * MIB, "{before:?}, then {after:?}");
    assert!(after.reserved < before.reserved + 64 * MIB, "{before:?}, then {after:?}");
}

#[test]
fn t02_memory_follows_the_bytes_that_arrived_and_not_those_that_were_declared() {
    let most = 64 * MIB;
    // The first two as it is shipped.
    for (limit, declared) in [(64 * KIB, 1 << 30), (64 * KIB, 64 * KIB), (most, 1 << 30), (most, most)] {
        let server = Server::start(&format!("{CROWD}\nmessage_bytes = {limit}\noutbound_bytes = {}", 2 * most), OPEN);
        let mut crowd: Vec<_> = (0..1_000).map(|_| Peer::ready(&server)).collect();
        server.forget_peak();
        let before = server.memory();
        for peer in &mut crowd {
            peer.send(&header(true, Opcode::Binary, declared));
            if declared <= limit {
                // It begins to arrive, so that there is something to keep.
                peer.send(&[0x5A; 1024]);
            } else {
                assert_eq!(peer.last_word().code, 1009);
            }
        }
        server.has_read();
        let after = server.memory();
        eprintln!("t02: limit {limit}, declared {declared}: {before:?}, then {after:?}");
        // A megabyte arrives at most; 64 MiB is what the lesson allows, and more than the shipped limit a thousand times.
        let most_held = if declared == limit { 16 * MIB } else { 64 * MIB };
        assert!(after.peak < before.resident + most_held, "{before:?}, then {after:?}");
        assert!(after.reserved < before.reserved + 512 * MIB, "{before:?}, then {after:?}");
        // What arrived is held, and seen to be.
        assert!(declared > limit || after.resident >= before.resident + 1_000 * KIB, "{before:?}, then {after:?}");
    }
}

#[test]
fn t03_the_size_limit_is_cumulative_over_fragments_compressed_or_not() {
    let server = Server::start("", COMPRESSION);
    let limit = 64 * KIB as usize;
    for compressed in [false, true] {
        for (len, fits) in [(limit, true), (limit + 1, false), (2 * limit, false)] {
            let mut peer = Peer::compressed(&server);
            let payload = if compressed { deflated(&ping(len)) } else { ping(len) };
            let pieces: Vec<_> = payload.chunks(payload.len() / 7).collect();
            for (n, bytes) in pieces.iter().enumerate() {
                let opcode = if n == 0 { Opcode::Text } else { Opcode::Continuation };
                let fin = n == pieces.len() - 1;
                // The server may have had enough before the end.
                peer.try_send(&part(fin, opcode, compressed && n == 0, bytes));
            }
            if fits {
                assert!(matches!(peer.next(), Seen::Text(answer) if answer["type"] == "pong"), "{compressed}");
                peer.leave();
            } else {
                let word = peer.last_word();
                assert_eq!((word.name(), word.code), ("message_too_big", 1009), "{len}, compressed: {compressed}");
            }
        }
    }
}

/// Sends a message in a million fragments on each of a few connections, and says what is held of them all, for each.
fn a_million_fragments(server: &Server, size: usize) -> u64 {
    let message = ping((1_000_000 * size).max(100));
    let mut crowd: Vec<_> = (0..4).map(|_| Peer::ready(server)).collect();
    for peer in &mut crowd {
        peer.send(&piece(false, Opcode::Text, &message[..1]));
        peer.is_heard();
    }
    server.forget_peak();
    let before = server.memory();
    thread::scope(|scope| {
        for peer in &mut crowd {
            let (message, rest) = (&message, message.len() - 1);
            scope.spawn(move || {
                let mut at = 1;
                for fragments in [1_000; 1_000] {
                    let wire: Vec<_> = (0..fragments)
                        .flat_map(|_| {
                            let end = (at + size).min(rest);
                            piece(false, Opcode::Continuation, &message[std::mem::replace(&mut at, end)..end])
                        })
                        .collect();
                    peer.send(&wire);
                }
                peer.is_heard();
                peer.send(&piece(false, Opcode::Continuation, &message[at..rest]));
                peer.is_heard();
            });
        }
    });
    let after = server.memory();
    eprintln!("t04: a million of {size}: {before:?}, then {after:?}");
    // It was one message all the time: it is answered once it ends.
    for mut peer in crowd {
        peer.send(&piece(true, Opcode::Continuation, &message[message.len() - 1..]));
        assert!(matches!(peer.next(), Seen::Text(answer) if answer["type"] == "pong"));
    }
    after.peak.saturating_sub(before.resident) / 4
}

#[test]
fn t04_a_million_fragments_take_no_more_than_the_message() {
    let server = Server::start("", OPEN);
    let each = a_million_fragments(&server, 0);
    assert!(each <= 64 * KIB + 64 * KIB, "{each} bytes for a million fragments of nothing");
    let server = Server::start("message_bytes = 1_048_576", OPEN);
    let each = a_million_fragments(&server, 1);
    assert!(each <= MIB + 64 * KIB, "{each} bytes for a million fragments of a byte");
    assert!(each > 500 * KIB, "what was held was not measured");
}

#[test]
fn t04_an_unfinished_message_has_a_deadline() {
    let server = Server::start("", OPEN);
    // Is refused after 30 s, which no key of the configuration changes.
    let begun = [
        piece(false, Opcode::Text, b"{"),
        header(true, Opcode::Text, 10),
        text(b"0123456789")[..9].to_vec(),
        vec![0x81],
    ];
    let mut crowd: Vec<_> = begun.iter().map(|_| Peer::ready(&server)).collect();
    for (peer, bytes) in crowd.iter_mut().zip(&begun) {
        peer.send(bytes);
    }
    // And one that never stops to send: fragments of nothing, and Pings in between.
    let mut busy = Peer::ready(&server);
    busy.send(&begun[0]);
    let start = Instant::now();
    while !busy.hears_within(Duration::from_millis(200)) {
        assert!(start.elapsed() < Duration::from_secs(60), "it may go on for ever");
        busy.send(&[piece(false, Opcode::Continuation, b""), piece(true, Opcode::Pong, b"")].concat());
    }
    for mut peer in crowd.into_iter().chain([busy]) {
        let word = peer.last_word();
        assert_eq!((word.name(), word.code), ("timeout", 3008));
        assert_eq!(word.reason, b"A message was begun and not finished in time");
    }
}

#[test]
fn t05_a_frame_is_judged_before_its_payload_is_there() {
    let server = Server::start(CROWD, OPEN);
    let openings: [(&[u8], Violation); 14] = [
        (&[0xC1], Violation::ReservedBit),
        (&[0xA1], Violation::ReservedBit),
        (&[0x92], Violation::ReservedBit),
        (&[0x83], Violation::UnknownOpcode(3)),
        (&[0x8B], Violation::UnknownOpcode(11)),
        (&[0x08], Violation::FragmentedControl),
        (&[0x09], Violation::FragmentedControl),
        (&[0x0A], Violation::FragmentedControl),
        (&[0x81, 0x05], Violation::Unmasked),
        (&[0x89, 0xFE], Violation::LongControl),
        (&[0x8A, 0xFF], Violation::LongControl),
        (&[0x81, 0xFE, 0, 5], Violation::LengthNotMinimal),
        (&[0x80, 0x85, 1, 2, 3, 4], Violation::NothingToContinue),
        (&[0x81, 0xFE, 0xFF, 0xFF, 1, 2, 3, 4, b'x'], Violation::TooBig),
    ];
    for (bytes, violation) in openings {
        // 65,535 bytes fit, with another before them they do not.
        let before = if violation == Violation::TooBig { &b"{}"[..] } else { b"" };
        let mut peer = Peer::ready(&server);
        if !before.is_empty() {
            peer.send(&piece(false, Opcode::Text, before));
            peer.send(&[0x80]);
            peer.send(&bytes[1..]);
        } else {
            peer.send(bytes);
        }
        let word = peer.last_word();
        assert_eq!(word.name(), violation.error().get().name, "{bytes:02x?}");
        assert_eq!(word.reason, violation.message().message().as_bytes(), "{bytes:02x?}");
    }
    // Negative control: what is in order is not answered before its payload is there.
    let mut peer = Peer::ready(&server);
    let message = text(&ping(100));
    peer.send(&message[..6]);
    server.has_read();
    assert!(!peer.hears_within(Duration::from_millis(100)));
    peer.send(&message[6..]);
    assert!(matches!(peer.next(), Seen::Text(answer) if answer["type"] == "pong"));
}

#[test]
fn t05_a_million_pongs_leave_memory_flat_and_are_too_many() {
    let pongs: Vec<u8> = (0..1_000).flat_map(|_| piece(true, Opcode::Pong, b"unasked")).collect();
    // As it is shipped: the connection ends, and what follows is thrown away.
    let server = Server::start("", OPEN);
    let mut peer = Peer::ready(&server);
    let before = server.memory();
    // The server may have dropped it before they are all sent.
    (0..1_000).all(|_| peer.try_send(&pongs));
    let word = peer.last_word();
    assert_eq!((word.name(), word.code), ("policy_violation", 1008));
    assert_eq!(word.reason, b"Too many pings and pongs");
    let after = server.memory();
    eprintln!("t05: {before:?}, then {after:?}");
    assert!(after.peak < before.resident + MIB, "{before:?}, then {after:?}");
    // And where every one of them is let through.
    let server = Server::start("messages_per_s = 1_000_000\nmessage_burst = 1_000_000", OPEN);
    let mut peer = Peer::ready(&server);
    peer.send(&pongs);
    peer.is_heard();
    let before = server.memory();
    (0..1_000).for_each(|_| peer.send(&pongs));
    peer.is_heard();
    let after = server.memory();
    eprintln!("t05: {before:?}, then {after:?}");
    assert!(after.peak < before.resident + MIB, "{before:?}, then {after:?}");
}

// ---- what is sent to a peer -------------------------------------------------------------------------------------

/// A back end says so much to the room that neither the kernel nor a queue of a megabyte can hold it.
fn publish(server: &Server, messages: usize, bytes: usize) {
    let body = format!(r#"{{"body":"{}"}}"#, "x".repeat(bytes));
    for _ in 0..messages {
        server.api("POST", "/rooms/lobby/messages", &body);
    }
}

fn crowd_that_does_not_read(server: &Server, n: usize) -> Vec<Peer> {
    (0..n).map(|_| Peer::connect_narrow(server.at).enter("").join()).collect()
}

#[test]
fn t06_what_waits_for_a_peer_is_bounded_in_bytes() {
    let server = Server::start("write_ms = 1_000", OPEN);
    publish(&server, 20, 60_000);
    let crowd = crowd_that_does_not_read(&server, 10);
    server.forget_peak();
    let before = server.memory();
    publish(&server, 500, 60_000);
    let after = server.memory();
    eprintln!("t06: 30 MB for each of 10: {before:?}, then {after:?}");
    assert!(after.peak < before.resident + 10 * MIB, "{before:?}, then {after:?}");
    for ending in server.endings(crowd.len()) {
        assert_eq!(ending["cause"], "slow_consumer", "{ending}");
    }
}

#[test]
fn t06_what_waits_for_a_peer_is_bounded_in_messages() {
    let server = Server::start("outbound_messages = 64\noutbound_bytes = 1_073_741_824\nwrite_ms = 1_000", OPEN);
    let crowd = crowd_that_does_not_read(&server, 2);
    // What the kernel takes, and some more.
    publish(&server, 200, 60_000);
    for ending in server.endings(crowd.len()) {
        assert_eq!(ending["cause"], "slow_consumer", "{ending}");
    }
}

#[test]
fn t06_a_slow_peer_that_reads_in_the_end_is_told() {
    let server = Server::start("", OPEN);
    let mut slow = crowd_that_does_not_read(&server, 1).remove(0);
    publish(&server, 200, 60_000);
    let word = slow.last_word();
    assert_eq!((word.name(), word.code), ("slow_consumer", 4007));
    // Negative control: nothing but not reading is held against it.
    let server = Server::start("", OPEN);
    let mut quick = Peer::ready(&server).join();
    for _ in 0..200 {
        publish(&server, 1, 60_000);
        assert!(matches!(quick.next(), Seen::Text(message) if message["type"] == "message"));
    }
    quick.leave();
    assert_eq!(server.endings(1)[0]["cause"], "peer_closed");
}

/// A queue that holds all that is published, so that time alone ends it.
const PATIENT: &str = "outbound_bytes = 67_108_864";

#[test]
fn t07_a_peer_with_a_zero_window_is_gone_at_the_write_deadline() {
    let server = Server::start(&format!("{PATIENT}\nwrite_ms = 500"), OPEN);
    let patient = Server::start(&format!("{PATIENT}\nwrite_ms = 600_000"), OPEN);
    let _stuck = crowd_that_does_not_read(&patient, 1);
    publish(&patient, 200, 60_000);
    let mut crowd = crowd_that_does_not_read(&server, 1);
    publish(&server, 200, 60_000);
    let ending = &server.endings(1)[0];
    assert_eq!((&ending["cause"], &ending["sent"]), (&"write_timed_out".into(), &serde_json::Value::Null));
    crowd[0].end();
    // Negative control: where the deadline is far, the same peer is still there.
    assert_eq!(patient.ended(), 0);
}

/// Peers that break a rule and then do not do their part of the closing handshake.
fn crowd_that_does_not_close(server: &Server) -> Vec<Peer> {
    let wrong = [0x83, 0x80, 1, 2, 3, 4];
    let mut silent = Peer::ready(server);
    silent.send(&wrong);
    let mut half_said = Peer::ready(server);
    half_said.send(&header(true, Opcode::Continuation, 0));
    half_said.send(&close()[..5]);
    let mut stuck = crowd_that_does_not_read(server, 1).remove(0);
    publish(server, 200, 60_000);
    stuck.send(&wrong);
    vec![silent, half_said, stuck]
}

#[test]
fn t08_the_closing_handshake_has_a_deadline() {
    let server = Server::start(&format!("{PATIENT}\nclose_ms = 500\nwrite_ms = 500"), OPEN);
    let patient = Server::start(&format!("{PATIENT}\nclose_ms = 60_000\nwrite_ms = 600_000"), OPEN);
    let _waits = crowd_that_does_not_close(&patient);
    let mut crowd = crowd_that_does_not_close(&server);
    // And one that talks on, whatever it was told.
    let mut talks = Peer::ready(&server);
    talks.send(&header(true, Opcode::Continuation, 0));
    assert_eq!(talks.last_word().code, 1002);
    let start = Instant::now();
    while talks.try_send(&piece(true, Opcode::Ping, b"")) {
        assert!(start.elapsed() < SOON, "it may go on for ever");
        thread::yield_now();
    }
    for ending in server.endings(4) {
        assert_eq!(ending["confirmed"], false, "{ending}");
        assert!(ending["cause"] == "protocol_error" || ending["cause"] == "write_timed_out", "{ending}");
    }
    crowd.iter_mut().for_each(Peer::end);
    assert_eq!(patient.ended(), 0, "where the deadlines are far, the same peers are still there");
}

/// The longest beginning that fits a Close.
fn fits(words: &str) -> &str {
    let end = (0..=words.len().min(123)).rev().find(|end| words.is_char_boundary(*end)).unwrap();
    &words[..end]
}

#[test]
fn t09_the_bytes_of_a_reason_are_exactly_those_that_were_given() {
    let server = Server::start("", OPEN);
    let mut words: Vec<String> = (1..=130).rev().map(|len| "0123456789".repeat(13)[..len].to_owned()).collect();
    words.extend((118..=126).map(|len| "x".repeat(len) + "ü"));
    words.extend(["Grüße \u{1F44B} \"quoted\" \\ back".to_owned(), "\u{1F44B}".repeat(40)]);
    for words in words {
        let mut peer = Peer::ready(&server);
        let kick = serde_json::json!({ "message": words }).to_string();
        server.api("DELETE", &format!("/connections/{}", peer.id), &kick);
        let word = peer.last_word();
        assert_eq!((word.name(), word.code), ("kicked", 4008));
        assert_eq!(String::from_utf8(word.reason).unwrap(), fits(&words));
        peer.leave();
    }
    // A peer's own reason does not come back, nor anything in its place.
    let mut peer = Peer::ready(&server);
    peer.send(&piece(true, Opcode::Close, &[&4321_u16.to_be_bytes(), "mine".repeat(30).as_bytes()].concat()));
    assert_eq!(peer.next(), Seen::Close(4321_u16.to_be_bytes().to_vec()));
}

/// Where the sources make a client, and what is passed as the source of its keys.
fn clients(sources: &str) -> Vec<&str> {
    let calls = sources.split("::client(").skip(1);
    // The second of three arguments; the first is a call at most.
    calls.filter_map(|call| call.split(", ").find(|argument| !argument.contains("imits"))).collect()
}

#[test]
fn t10_clients_mask_with_keys_that_nobody_can_predict() {
    let crates = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut found = 0;
    for file in ["server/src/testing.rs", "server/examples/echo_client.rs"] {
        let sources = std::fs::read_to_string(crates.join(file)).unwrap();
        let keys = clients(&sources);
        assert!(keys.iter().all(|keys| *keys == "rand::random"), "{file}: {keys:?}");
        found += keys.len();
    }
    assert_eq!(found, 2, "where clients are made has changed");
    assert_eq!(clients("Session::client(Arc::new(limits), || [1, 2], now)"), ["|| [1"]);

    // And each frame has a key of its own.
    let mut machine = saywhy_proto::Session::client(Default::default(), rand::random, Duration::ZERO);
    machine.ready(Duration::ZERO);
    let mut keys = std::collections::HashSet::new();
    for _ in 0..1_000 {
        let mut wire = Vec::new();
        machine.send(&saywhy_proto::message::Message::Text("x".into()), &mut wire);
        let header = saywhy_proto::frame::Header::parse(&wire, saywhy_codes::Role::Client, false);
        keys.insert(header.unwrap().unwrap().0.mask.unwrap());
    }
    // One in 8,600 runs has two that are the same.
    assert!(keys.len() >= 998, "{} keys for 1,000 frames", keys.len());
}

// ---- the ends of connections ------------------------------------------------------------------------------------

/// Breaks an exchange at every byte of it, in each way; how many of the handshakes were whole.
fn broken_everywhere(server: &Server, waits: bool) -> usize {
    let head = request("");
    let exchange = [head.as_bytes(), &text(&ping(60)), &close()].concat();
    let (mut opened, ways) = (0, [(false, false), (false, true), (true, false), (true, true)]);
    for (at, (byte_by_byte, resets)) in (0..=exchange.len()).flat_map(|at| ways.map(|way| (at, way))) {
        let mut peer = Peer::connect(server.at);
        let step = if byte_by_byte { 1 } else { exchange.len() };
        // After its Close the server may be gone first.
        exchange[..at].chunks(step).all(|bytes| peer.try_send(bytes));
        if at >= head.len() {
            opened += 1;
            if waits {
                peer.head();
            }
        }
        if resets {
            peer.reset();
        } else {
            peer.half_close();
            peer.ends();
        }
    }
    opened
}

#[test]
fn t11_whatever_byte_a_connection_breaks_at_it_ends_and_has_an_ending() {
    let server = Server::start(CROWD, OPEN);
    let opened = broken_everywhere(&server, true);
    for ending in server.endings(opened) {
        let cause = ending["cause"].as_str().unwrap();
        assert!(["lost_eof", "lost_reset", "peer_closed"].contains(&cause), "{ending}");
    }
    assert_eq!(server.metric("saywhy_endings_total"), opened as u64, "one for each, and no more");
    // Those that do not even wait for an answer may be gone before their handshake is read.
    broken_everywhere(&server, false);
    until("no session is left", || server.api("GET", "/connections", "")["total"] == 0);
    assert_eq!(server.metric("saywhy_unexplained_endings_total"), 0);
    // What is left behind would compute while nothing happens.
    let mut witness = Peer::ready(&server);
    let before = server.cpu();
    assert!(!witness.hears_within(Duration::from_secs(1)));
    let idle = server.cpu() - before;
    eprintln!("t11: {opened} endings, then {idle:?} of computing in an idle second");
    assert!(idle <= Duration::from_millis(100), "{idle:?} in an idle second");
}

/// The peer is gone before the server reads a byte of its handshake, which is whole.
fn gone_before_it_is_read(break_off: fn(Peer)) {
    let server = Server::start("", OPEN);
    let mut peer = Peer::connect(server.at);
    server.stopped(|| {
        peer.send(request("").as_bytes());
        break_off(peer);
    });
    assert_eq!(server.endings(1).len(), 1);
}

#[test]
fn t11_a_handshake_that_was_half_closed_before_it_was_read_has_an_ending_too() {
    gone_before_it_is_read(|mut peer| peer.half_close());
}

#[test]
fn t11_a_handshake_that_was_reset_before_it_was_read_has_an_ending_too() {
    gone_before_it_is_read(Peer::reset);
}

// ---- compression ------------------------------------------------------------------------------------------------

const COMPRESSION: &str = "token = 'none'\n[route.compression]";

#[test]
fn t12_inflating_stops_at_the_limit() {
    let server = Server::start(CROWD, COMPRESSION);
    let bomb = squeezed_zeros(64 * MIB as usize);
    assert!(bomb.len() < 72 * KIB as usize && 64 * MIB as usize / bomb.len() > 900, "{}", bomb.len());
    let frame = part(true, Opcode::Binary, true, &bomb);
    // What belongs to threads and not to connections is there after the first.
    let mut first = Peer::compressed(&server);
    first.send(&frame);
    assert_eq!(first.last_word().code, 1009);
    let mut crowd: Vec<_> = (0..64).map(|_| Peer::compressed(&server)).collect();
    server.forget_peak();
    let before = server.memory();
    thread::scope(|scope| {
        for peer in &mut crowd {
            scope.spawn(|| {
                peer.send(&frame);
                let word = peer.last_word();
                assert_eq!((word.name(), word.code), ("message_too_big", 1009));
            });
        }
    });
    let after = server.memory();
    eprintln!("t12: 64 bombs of 64 MiB: {before:?}, then {after:?}");
    let each = after.peak.saturating_sub(before.resident) / 64;
    assert!(each <= 64 * KIB + 64 * KIB, "{each} bytes for each bomb");
}

#[test]
fn t12_what_is_inflated_and_held_is_within_the_limit() {
    let server = Server::start(CROWD, COMPRESSION);
    let almost = deflated(&vec![0; 60 * KIB as usize]);
    let mut crowd: Vec<_> = (0..64).map(|_| Peer::compressed(&server)).collect();
    server.forget_peak();
    let before = server.memory();
    for peer in &mut crowd {
        peer.send(&part(false, Opcode::Binary, true, &almost));
        peer.is_heard();
    }
    let after = server.memory();
    eprintln!("t12: 64 x 60 KiB held: {before:?}, then {after:?}");
    let each = after.peak.saturating_sub(before.resident) / 64;
    assert!(each <= 64 * KIB + 64 * KIB, "{each} bytes for each");
    assert!(each >= 60 * KIB, "what was held was not measured");
}

#[test]
fn t12_nothing_is_inflated_before_ready() {
    // Whoever has no token is refused, and its connection lingers: here for long enough to be looked at.
    let server = Server::start(&format!("{CROWD}\nclose_ms = 60_000"), "token = 'required'\n[route.compression]");
    let bomb = part(true, Opcode::Binary, true, &squeezed_zeros(64 * MIB as usize));
    let attack = [request(DEFLATE).as_bytes(), &bomb].concat();
    let mut warm = Peer::connect(server.at);
    warm.send(&attack);
    warm.head();
    assert_eq!(warm.last_word().name(), "unauthorized");
    server.forget_peak();
    let before = server.memory();
    let crowd: Vec<_> = (0..64)
        .map(|_| {
            let mut peer = Peer::connect(server.at);
            peer.send(&attack);
            peer.head();
            assert_eq!(peer.last_word().name(), "unauthorized");
            peer
        })
        .collect();
    server.has_read();
    let after = server.memory();
    eprintln!("t12: 64 bombs before ready: {before:?}, then {after:?}");
    assert!(after.peak < before.resident + 64 * 32 * KIB, "{before:?}, then {after:?}");
    drop(crowd);
}

#[test]
fn t13_extension_parameters_out_of_range_are_declined() {
    let server = Server::start(CROWD, COMPRESSION);
    let answer = |offer: &str| {
        let mut peer = Peer::connect(server.at);
        peer.send(request(&format!("Sec-WebSocket-Extensions: {offer}\r\n")).as_bytes());
        peer.head()
    };
    for parameters in [
        "server_max_window_bits",
        "server_max_window_bits=7",
        "server_max_window_bits=8",
        "server_max_window_bits=16",
        "server_max_window_bits=010",
        "server_max_window_bits=4294967306",
        "server_max_window_bits=99999999999999999999999999",
        "server_max_window_bits=-10",
        "server_max_window_bits=1.0",
        "client_max_window_bits=7",
        "client_max_window_bits=16",
        "client_max_window_bits=1000",
        "server_no_context_takeover=1",
        "client_no_context_takeover=false",
        "unknown",
        "client_max_window_bits; client_max_window_bits",
        "server_no_context_takeover; server_no_context_takeover",
    ] {
        let head = answer(&format!("permessage-deflate; {parameters}"));
        assert!(head.starts_with("HTTP/1.1 101 "), "{parameters}: {head}");
        assert!(!head.contains("sec-websocket-extensions"), "{parameters}: {head}");
    }
    // What is no list of extensions is no handshake.
    let too_many = "a, ".repeat(40);
    for offer in ["permessage-deflate; =1", "permessage-deflate; a=\"", "a b", ";", "a;;b", too_many.as_str()] {
        let head = answer(offer);
        assert!(head.starts_with("HTTP/1.1 400 "), "{offer}: {head}");
    }
    // Negative control: what is in range is agreed on.
    for parameters in ["", "; server_max_window_bits=9", "; client_max_window_bits=15", "; client_max_window_bits"] {
        let head = answer(&format!("permessage-deflate{parameters}"));
        assert!(head.contains("sec-websocket-extensions: permessage-deflate"), "{parameters}: {head}");
    }
}

// ---- handshakes -----------------------------------------------------------------------------------------------

#[test]
fn t15_a_head_may_come_one_byte_at_a_time_and_is_gone_at_the_deadline() {
    let server = Server::start(&format!("{CROWD}\nhandshake_ms = 3_000"), OPEN);
    let head = request(&format!("X-Filler: {}\r\n", "x".repeat(150)).repeat(90));
    assert!((14 * 1024..16 * 1024).contains(&head.len()));
    // That no byte of it is looked at twice, `incoming.rs` tests by itself.
    let mut peer = Peer::connect(server.at);
    for byte in head.as_bytes() {
        peer.send(&[*byte]);
    }
    assert!(peer.head().starts_with("HTTP/1.1 101 "));
    peer.leave();

    server.forget_peak();
    let before = server.memory();
    let mut crowd: Vec<_> = (0..300).map(|_| Peer::connect(server.at)).collect();
    let short = &head.as_bytes()[..head.len() - 2];
    for bytes in short.chunks(512) {
        for peer in &mut crowd {
            peer.try_send(bytes);
        }
    }
    for peer in &mut crowd {
        let head = peer.head();
        assert!(head.starts_with("HTTP/1.1 408 ") && head.contains("connection: close"), "{head}");
        peer.ends();
    }
    let after = server.memory();
    eprintln!("t15: {before:?}, then {after:?}");
    assert!(after.peak < before.resident + 300 * 64 * KIB, "{before:?}, then {after:?}");
    // One that is whole is let in all the same.
    Peer::ready(&server).leave();
}

#[test]
fn t15_more_headers_or_bytes_than_there_may_be_are_refused_at_once() {
    let server = Server::start(CROWD, OPEN);
    for headers in ["X-Filler: 1\r\n".repeat(101), format!("X-Filler: {}\r\n", "x".repeat(17 * 1024))] {
        let mut peer = Peer::connect(server.at);
        peer.try_send(request(&headers).as_bytes());
        assert!(peer.head().starts_with("HTTP/1.1 431 "));
    }
}

// ---- HTTP/2 ---------------------------------------------------------------------------------------------------

/// Floods the server with connections, one after the other, each with what `attack` sends for as long as it is taken;
/// meanwhile another client is served, and memory stays where it was.
fn flood(name: &str, reads: bool, attack: impl Fn(&mut Flooder) + Sync) {
    let server = Server::start(CROWD, OPEN);
    // Once before, for what belongs to threads.
    attack(&mut Flooder::connect(&server, reads));
    Peer::ready(&server).leave();
    server.forget_peak();
    let before = server.memory();
    let (mut rounds, start) = (0, Instant::now());
    thread::scope(|scope| {
        let flooding = scope.spawn(|| {
            while start.elapsed() < flood_time() {
                attack(&mut Flooder::connect(&server, reads));
            }
        });
        while !flooding.is_finished() || rounds == 0 {
            let mut peer = Peer::ready(&server);
            peer.is_heard();
            peer.leave();
            rounds += 1;
        }
    });
    let after = server.memory();
    eprintln!("t34: {name}: another was served {rounds} times; {before:?}, then {after:?}");
    assert!(after.peak < before.resident + 64 * MIB, "{before:?}, then {after:?}");
}

/// How long each flood lasts: `SAYWHY_FLOOD_S` seconds.
fn flood_time() -> Duration {
    let seconds = std::env::var("SAYWHY_FLOOD_S").map(|s| s.parse().expect("SAYWHY_FLOOD_S is a number"));
    Duration::from_secs(seconds.unwrap_or(1))
}
/// Frames of one kind in one connection, if the server takes so many.
const FRAMES: u32 = 20_000;

fn streams() -> impl Iterator<Item = u32> {
    (1..2 * FRAMES).step_by(2)
}

#[test]
fn t34_rapid_reset() {
    for fields in [connect(), get()] {
        flood("rapid reset", true, |flooder| {
            for stream in streams() {
                let request = frame(HEADERS, END_HEADERS, stream, &fields);
                // CANCEL.
                if !flooder.send(&[request, frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])].concat()) {
                    break;
                }
            }
        });
    }
}

#[test]
fn t34_made_you_reset() {
    // What a server answers with a reset of its own, an increment that is too large; and one of 0, which ends it all.
    for increment in [[0, 0, 0, 0], [0x7f, 0xff, 0xff, 0xff]] {
        flood("made you reset", true, |flooder| {
            for stream in streams() {
                let request = frame(HEADERS, END_HEADERS, stream, &connect());
                if !flooder.send(&[request, frame(WINDOW_UPDATE, 0, stream, &increment)].concat()) {
                    break;
                }
            }
        });
    }
}

#[test]
fn t34_continuation() {
    let field = field("x-filler", &"x".repeat(120)).repeat(100);
    for (name, payload) in [("full", &field[..]), ("empty", &[])] {
        flood(&format!("continuation, {name}"), true, |flooder| {
            flooder.send(&frame(HEADERS, 0, 1, &connect()));
            for _ in 0..FRAMES {
                if !flooder.send(&frame(CONTINUATION, 0, 1, payload)) {
                    break;
                }
            }
        });
    }
}

/// A request with a field of 4,000 bytes that is kept in the table, and then named by a byte each time (RFC 7541 §6.2.1).
fn named_again(times: usize) -> Vec<u8> {
    let long = [&[0x40, 8][..], b"x-filler", &[0x7f, 0xa1, 0x1e], &[b'x'; 4_000]].concat();
    [connect(), long, vec![0xbe; times]].concat()
}

#[test]
fn t34_a_field_that_is_named_again_and_again() {
    // 14 KiB stand for 40 MiB.
    let block = named_again(10_000);
    flood("HPACK", true, |flooder| {
        for stream in streams() {
            if !flooder.send(&frame(HEADERS, END_HEADERS, stream, &block)) {
                break;
            }
        }
    });
}

#[test]
fn t34_empty_data() {
    for (name, payload) in [("empty", &[][..]), ("a byte", &[0x89])] {
        flood(&format!("data, {name}"), true, |flooder| {
            flooder.send(&frame(HEADERS, END_HEADERS, 1, &connect()));
            for _ in 0..FRAMES {
                if !flooder.send(&frame(DATA, 0, 1, payload)) {
                    break;
                }
            }
            flooder.send(&frame(DATA, END_STREAM, 1, &[]));
        });
    }
}

#[test]
fn t34_pings_and_settings_whose_answers_are_read_or_not() {
    for reads in [true, false] {
        for (name, one) in
            [("ping", frame(PING, 0, 0, &[7; 8])), ("settings", frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0x40, 0]))]
        {
            let many = one.repeat(1_000);
            flood(&format!("{name}, read: {reads}"), reads, |flooder| {
                for _ in 0..FRAMES / 100 {
                    if !flooder.send(&many) {
                        break;
                    }
                }
            });
        }
    }
}

#[test]
fn t34_sessions_that_are_opened_and_not_read() {
    // As many streams as there may be, each of which asks for more than its window holds.
    flood("sessions", false, |flooder| {
        for stream in streams().take(200) {
            flooder.send(&frame(HEADERS, END_HEADERS, stream, &connect()));
            let pings = text(br#"{"type":"ping","data":{},"meta":{"request_id":"1"}}"#).repeat(90);
            if !flooder.send(&frame(DATA, 0, stream, &pings)) {
                break;
            }
        }
    });
}

/// The control of all of these: what they send is what it claims to be, and goes as far as a session.
#[test]
fn t34_frames_by_hand_open_a_session_and_end_it() {
    let server = Server::start(CROWD, OPEN);
    for fields in [connect(), named_again(2)] {
        let mut flooder = Flooder::connect(&server, false);
        flooder.send(&frame(HEADERS, END_HEADERS, 1, &fields));
        flooder.hears(br#"{"type":"ready""#);
        flooder.send(&frame(RST_STREAM, 0, 1, &[0, 0, 0, 8]));
    }
    let endings = server.endings(2);
    assert!(endings.iter().all(|ending| ending["http"] == "2" && ending["stage"] == "session"), "{endings:?}");
    // And a flood is ended by the server: GOAWAY, ENHANCE_YOUR_CALM.
    let mut flooder = Flooder::connect(&server, false);
    for stream in streams() {
        let request = frame(HEADERS, END_HEADERS, stream, &connect());
        if !flooder.send(&[request, frame(WINDOW_UPDATE, 0, stream, &[0x7f, 0xff, 0xff, 0xff])].concat()) {
            break;
        }
    }
    flooder.hears(&[7, 0, 0, 0, 0, 0]);
    flooder.hears(&11_u32.to_be_bytes());
}
