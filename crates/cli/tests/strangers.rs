//! Peers that never get in, or not yet, against the real binary: what they cost, and that nobody else notices. Each test
//! has the number of a lesson that others paid for. `SAYWHY_STRANGERS=100000` makes crowds of that size.

#[path = "hostile/peer.rs"]
#[allow(dead_code, reason = "written for another test too")]
mod peer;
#[path = "hostile/server.rs"]
#[allow(dead_code, reason = "written for another test too")]
mod server;

use peer::*;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use saywhy_proto::frame::Opcode;
use server::*;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const OPEN: &str = "token = 'none'";
const CLOSED: &str = "token = 'required'\nrefuse = 'close'";

fn crowd(usual: usize) -> usize {
    std::env::var("SAYWHY_STRANGERS").map_or(usual, |size| size.parse().expect("SAYWHY_STRANGERS is a number"))
}

/// What each of a crowd does, many at a time.
fn each_of(size: usize, act: impl Fn(usize) + Sync) {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..64 {
            scope.spawn(|| {
                while let n = next.fetch_add(1, Ordering::Relaxed)
                    && n < size
                {
                    act(n);
                }
            });
        }
    });
}

// ---- handshakes that come to nothing ----------------------------------------------------------------------------

/// A peer, and how far it goes before it gives up.
type Aborts = fn(&Server);

const ABORTS: [(&str, Aborts); 8] = [
    ("resets at once", |server| Peer::connect(server.at).reset()),
    ("leaves at once", |server| {
        let mut peer = Peer::connect(server.at);
        peer.half_close();
        peer.ends();
    }),
    ("resets inside the head", |server| {
        let mut peer = Peer::connect(server.at);
        peer.send(&request("").as_bytes()[..60]);
        peer.reset();
    }),
    ("leaves inside the head", |server| {
        let mut peer = Peer::connect(server.at);
        peer.send(&request("").as_bytes()[..60]);
        peer.half_close();
        peer.ends();
    }),
    ("has a bad key", |server| {
        let mut peer = Peer::connect(server.at);
        peer.send(request("").replace("dGhlIHNhbXBsZSBub25jZQ==", "short").as_bytes());
        assert!(peer.head().starts_with("HTTP/1.1 400 "));
        peer.ends();
    }),
    ("is refused, and resets", |server| {
        let mut peer = Peer::connect(server.at);
        peer.send(request("").as_bytes());
        peer.head();
        peer.reset();
    }),
    ("is refused, and leaves", |server| {
        let mut peer = Peer::connect(server.at);
        peer.send(request("").as_bytes());
        peer.head();
        peer.half_close();
        peer.ends();
    }),
    ("is refused, and says nothing", |server| {
        let mut peer = Peer::connect(server.at);
        peer.send(request("").as_bytes());
        peer.head();
        peer.end();
    }),
];

#[test]
fn t17_handshakes_that_are_aborted_leave_nothing_behind() {
    let server = Server::start(&format!("{CROWD}\nclose_ms = 100"), CLOSED);
    let size = crowd(400);
    // What is kept for later, such as buffers of threads, is there already.
    for (_, abort) in ABORTS {
        each_of(100, |_| abort(&server));
    }
    let settled = || server.descriptors() <= server.idle_descriptors();
    until("the first are gone", settled);
    let before = server.memory();
    for (what, abort) in ABORTS {
        each_of(size, |_| abort(&server));
        until("every descriptor is closed", settled);
        eprintln!("t17: {size} that {what}: {:?}", server.memory());
    }
    let after = server.memory();
    assert!(after.resident <= before.resident + 8 * MIB, "{before:?}, then {after:?}");
    // Those of the last three asked, whole, and were refused: each has its ending.
    let refused = server.metric("saywhy_endings_total{stage=\"admission\"");
    assert_eq!(refused as usize, 3 * (size + 100));
    assert_eq!(server.metric("saywhy_unexplained_endings_total"), 0);
}

#[test]
fn t17_the_count_of_descriptors_sees_a_connection() {
    let server = Server::start("", OPEN);
    let before = server.descriptors();
    let peer = Peer::ready(&server);
    assert!(server.descriptors() > before);
    peer.leave();
    until("it is gone", || server.descriptors() == before);
}

// ---- peers that keep the server waiting -------------------------------------------------------------------------

#[test]
fn t18_peers_that_stall_cost_little_and_are_gone_at_their_deadline() {
    let size = crowd(800);
    let head = request("");
    let asks = "token = 'required'\ntoken_in_first_message = true";
    let stages: [(&str, &[u8]); 6] = [
        ("no byte", b""),
        ("half a request line", &head.as_bytes()[..6]),
        ("half of the headers", &head.as_bytes()[..head.len() / 2]),
        ("all but the last byte", &head.as_bytes()[..head.len() - 1]),
        ("no first message", head.as_bytes()),
        ("half of a first message", &[head.as_bytes(), &text(&ping(60))[..30]].concat()),
    ];
    for (what, bytes) in stages {
        // Enough for all of them to be there together.
        let route = if bytes.len() < head.len() { OPEN } else { asks };
        let server = Server::start(&format!("{CROWD}\nhandshake_ms = {}", 3_000 + size), route);
        Peer::connect(server.at).ends_after(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let before = server.memory();
        let mut stalled: Vec<_> = (0..size).map(|_| Peer::connect(server.at)).collect();
        stalled.iter_mut().for_each(|peer| peer.send(bytes));
        server.has_read();
        let during = server.memory();
        let each = during.resident.saturating_sub(before.resident) / size as u64;
        eprintln!("t18: {what}: {each} bytes for each of {size}");
        assert!(each <= 16 * KIB, "{what}: {each} bytes each");
        // Nobody else notices.
        Peer::connect(server.at).ends_after(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        if route == OPEN {
            Peer::ready(&server).leave();
        }
        let gone = Instant::now();
        stalled.iter_mut().for_each(Peer::ends);
        eprintln!("t18: {what}: all gone after another {:?}", gone.elapsed());
        until("every descriptor is closed", || server.descriptors() <= server.idle_descriptors());
    }
}

#[test]
fn t18_those_who_have_not_said_what_they_want_are_limited_in_number() {
    let server = Server::start("waiting = 4\nwaiting_per_address = 3", OPEN);
    let other = |server: &Server| Peer::connect_from([127, 0, 0, 9], server.at);
    let begun = request("");
    let begun = &begun.as_bytes()[..begun.len() - 1];
    let stall = |mut peer: Peer| {
        peer.send(begun);
        peer
    };
    let turned_away = |mut peer: Peer| {
        peer.send(begun);
        let head = peer.head();
        assert!(head.starts_with("HTTP/1.1 503 ") && head.contains("retry-after: 5"), "{head}");
        peer.half_close();
        peer.ends();
    };
    let mut here: Vec<_> = (0..3).map(|_| stall(Peer::connect(server.at))).collect();
    server.has_read();
    turned_away(Peer::connect(server.at));
    let there = stall(other(&server));
    server.has_read();
    turned_away(other(&server));
    // Who goes on makes room.
    let mut first = here.remove(0);
    first.send(b"\n");
    assert!(first.head().starts_with("HTTP/1.1 101 "));
    Peer::ready(&server).leave();
    drop((here, there));
}

// ---- a storm ----------------------------------------------------------------------------------------------------

struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn t18_a_storm_of_refusals_harms_nobody_who_is_in() {
    let size = crowd(4_000);
    let talkers = (size / 50).clamp(50, 1_000);
    let server = Server::start(&format!("{CROWD}\nlingering = 200"), "token = 'optional'");
    let is_over = AtomicBool::new(false);
    let (ready, answered) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let mut latencies = [Vec::new(), Vec::new()];
    let mut probe = Peer::ready(&server);
    thread::scope(|scope| {
        // Whatever fails, nobody talks on for ever.
        let _over = Ends(&is_over);
        for _ in 0..4 {
            scope.spawn(|| {
                let mut talking: Vec<_> = (0..talkers / 4).map(|_| Peer::ready(&server)).collect();
                ready.fetch_add(talking.len(), Ordering::Relaxed);
                while !is_over.load(Ordering::Relaxed) {
                    for peer in &mut talking {
                        peer.is_heard();
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                    // Some words in a second are enough of a talk. Nothing comes meanwhile but a Ping, perhaps.
                    talking[0].hears_within(Duration::from_millis(200));
                }
                // No one was dropped.
                talking.into_iter().for_each(Peer::leave);
            });
        }
        until("all talk", || ready.load(Ordering::Relaxed) == talkers / 4 * 4);
        let mut measure = |during: &mut Vec<Duration>| {
            for _ in 0..100 {
                let start = Instant::now();
                probe.is_heard();
                during.push(start.elapsed());
                probe.hears_within(Duration::from_millis(5));
            }
        };
        measure(&mut latencies[0]);
        let [structured, plain] = [(); 2].map(|()| AtomicUsize::new(0));
        thread::scope(|scope| {
            scope.spawn(|| {
                each_of(size, |_| {
                    let mut peer = Peer::connect(server.at);
                    // No token, but one that is no token: the route refuses it.
                    let headers = "Origin: http://saywhy.test\r\nAuthorization: Bearer nonsense\r\n";
                    peer.send(request(headers).as_bytes());
                    let head = peer.head();
                    if head.starts_with("HTTP/1.1 101 ") {
                        let word = peer.last_word();
                        assert_eq!((word.name(), word.code), ("unauthorized", 4003));
                        peer.send(&close());
                        peer.end();
                        structured.fetch_add(1, Ordering::Relaxed);
                    } else {
                        assert!(head.starts_with("HTTP/1.1 503 ") && head.contains("retry-after: "), "{head}");
                        plain.fetch_add(1, Ordering::Relaxed);
                    }
                });
            });
            measure(&mut latencies[1]);
        });
        let [structured, plain] = [structured, plain].map(AtomicUsize::into_inner);
        eprintln!("t18: of {size} refusals {structured} had a message and a Close, {plain} were 503 with Retry-After");
        assert_eq!(structured + plain, size);
    });
    for (when, during) in ["before", "during"].iter().zip(&mut latencies) {
        during.sort_unstable();
        let (median, most) = (during[during.len() / 2], during[during.len() - 1]);
        eprintln!("t18: {when}: a Pong took {median:?} in the middle, {most:?} at most");
    }
    eprintln!("t18: {} answers to {talkers} who talked", answered.load(Ordering::Relaxed));
    assert_eq!(server.metric("saywhy_endings_total{stage=\"session\",cause=\"timeout\""), 0);
    assert_eq!(server.metric("saywhy_unexplained_endings_total"), 0);
}

#[test]
fn t18_of_a_flood_after_a_refusal_so_much_is_read_and_no_more() {
    let server = Server::start("close_ms = 2_000", CLOSED);
    let mut peer = Peer::connect(server.at);
    peer.send(request("").as_bytes());
    assert!(peer.head().starts_with("HTTP/1.1 101 "));
    assert_eq!(peer.last_word().name(), "unauthorized");
    let message = piece(true, Opcode::Binary, &[0; 60_000]);
    let mut taken = 0;
    while peer.try_send(&message) {
        taken += message.len() as u64;
    }
    eprintln!("t18: {taken} bytes after the Close until the connection was over");
    // What the system holds for both sides comes on top.
    assert!((10 * MIB..40 * MIB).contains(&taken), "{taken}");
    let ending = &server.endings(1)[0];
    assert_eq!((&ending["cause"], &ending["confirmed"]), (&"unauthorized".into(), &false.into()));
}

// ---- anything ---------------------------------------------------------------------------------------------------

/// A valid handshake with something done to it.
fn mutant(random: &mut SmallRng) -> Vec<u8> {
    let mut bytes =
        request("Origin: http://saywhy.test\r\nSec-WebSocket-Extensions: permessage-deflate\r\n").into_bytes();
    for _ in 0..random.random_range(1..6) {
        let at = random.random_range(0..bytes.len());
        match random.random_range(0..5) {
            0 => bytes[at] = random.random(),
            1 => bytes.truncate(at.max(1)),
            2 => {
                let some: Vec<u8> = (0..random.random_range(1..40)).map(|_| random.random()).collect();
                bytes.splice(at..at, some);
            }
            3 => {
                let line = bytes[..at].iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
                let repeated = bytes[line..at].to_vec();
                bytes.splice(line..line, [&repeated[..], b"\r\n"].concat());
            }
            _ => {
                bytes.splice(at..at, b"\r\n\r\n".to_owned());
            }
        }
    }
    bytes
}

#[test]
fn t22_no_handshake_and_nothing_like_one_panics_the_server() {
    let server = Server::start(CROWD, OPEN);
    each_of(crowd(3_000), |n| {
        let mut random = SmallRng::seed_from_u64(n as u64);
        let mut peer = Peer::connect(server.at);
        peer.try_send(&mutant(&mut random));
        peer.try_send(&piece(true, Opcode::Text, b"what?"));
        peer.half_close();
        peer.ends();
    });
    Peer::ready(&server).leave();
    until("no session is left", || server.api("GET", "/connections", "")["total"] == 0);
    // A panic would be an error in the log, and the server is dropped with none.
    assert_eq!(server.metric("saywhy_unexplained_endings_total"), 0);
}
