//! Peers that mean harm, over real sockets, against the real binary: what it holds is measured from outside, as the
//! resident memory of its process. Each test has the number of its lesson: what broke other servers, in advisories.
//!
//! Memory is what many connections, or many fragments, take together: what the allocator and the kernel's counters
//! are off by is then little beside it. Before a test measures, it has done once what it measures, so that what
//! belongs to threads and not to connections is there.

#[path = "hostile/peer.rs"]
mod peer;
#[path = "hostile/server.rs"]
mod server;

use peer::*;
use saywhy_proto::Violation;
use saywhy_proto::frame::Opcode;
use server::*;
use std::thread;
use std::time::{Duration, Instant};

/// Many connections from this one machine.
const CROWD: &str = "connections_per_address = 10_000";
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
    println!("t01: {before:?}, then {after:?}");
    assert!(after.peak < before.resident + 4 * MIB, "{before:?}, then {after:?}");
    assert!(after.reserved < before.reserved + 64 * MIB, "{before:?}, then {after:?}");
}

#[test]
fn t02_memory_follows_the_bytes_that_arrived_and_not_those_that_were_declared() {
    let most = 64 * MIB;
    for (limit, declared) in [(64 * KIB, 1 << 30), (most, 1 << 30), (most, most)] {
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
        println!("t02: limit {limit}, declared {declared}: {before:?}, then {after:?}");
        assert!(after.peak < before.resident + 64 * MIB, "{before:?}, then {after:?}");
        assert!(after.reserved < before.reserved + 512 * MIB, "{before:?}, then {after:?}");
        // What arrived is held, and seen to be.
        assert!(declared > limit || after.resident >= before.resident + 1_000 * KIB, "{before:?}, then {after:?}");
    }
}

#[test]
fn t03_the_size_limit_is_cumulative_over_fragments_compressed_or_not() {
    let server = Server::start("", &format!("{OPEN}\n[route.compression]"));
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
    println!("t04: a million of {size}: {before:?}, then {after:?}");
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
    println!("t05: {before:?}, then {after:?}");
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
    println!("t05: {before:?}, then {after:?}");
    assert!(after.peak < before.resident + MIB, "{before:?}, then {after:?}");
}
