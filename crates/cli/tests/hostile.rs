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
use saywhy_proto::frame::Opcode;
use server::*;

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
    until("100 ms of computing", || cpu(std::process::id()) >= before + std::time::Duration::from_millis(100));
}

// ---- frames and messages --------------------------------------------------------------------------------------

#[test]
fn t01_a_length_of_64_bits_is_refused_at_once_and_nothing_allocated() {
    let server = Server::start(CROWD, OPEN);
    let lengths = [
        (u64::from(u32::MAX) >> 1, "message_too_big", 1009),
        (1 << 31, "message_too_big", 1009),
        (1 << 32, "message_too_big", 1009),
        (u64::MAX >> 1, "message_too_big", 1009),
        (1 << 63, "protocol_error", 1002),
        (u64::MAX, "protocol_error", 1002),
    ];
    let crowd: Vec<_> = lengths.iter().flat_map(|length| (0..50).map(move |_| (Peer::ready(&server), length))).collect();
    let before = server.memory();
    for (mut peer, (length, name, code)) in crowd {
        for opcode in [Opcode::Text, Opcode::Binary] {
            // The second is only sent, not judged: the first has ended it.
            let _ = std::io::Write::write_all(&mut peer.tcp, &header(true, opcode, *length));
        }
        let word = peer.last_word();
        assert_eq!((word.name(), word.code), (*name, *code), "{length}");
    }
    let after = server.memory();
    assert!(after.peak < before.resident + 4 * MIB, "{before:?}, then {after:?}");
    assert!(after.reserved < before.reserved + 64 * MIB, "{before:?}, then {after:?}");
}

/// Memory that a thousand connections take for headers that declare `length`, of which a little arrives.
fn declared(server: &Server, length: u64, arrives: usize) -> (Memory, Memory, Vec<Peer>) {
    let mut crowd: Vec<_> = (0..1_000).map(|_| Peer::ready(server)).collect();
    let before = server.memory();
    for peer in &mut crowd {
        peer.send(&header(true, Opcode::Text, length));
        // Refused already, perhaps.
        let _ = std::io::Write::write_all(&mut peer.tcp, &vec![0x5A; arrives]);
    }
    (before, server.memory(), crowd)
}

#[test]
fn t02_memory_follows_the_bytes_that_arrived_and_not_those_that_were_declared() {
    let server = Server::start(CROWD, OPEN);
    let (before, _, crowd) = declared(&server, 1 << 30, 0);
    for mut peer in crowd {
        assert_eq!(peer.last_word().code, 1009);
    }
    let after = server.memory();
    println!("1000 x 1 GiB declared: {before:?}, then {after:?}");
    assert!(after.peak < before.resident + 64 * MIB, "{before:?}, then {after:?}");
}
