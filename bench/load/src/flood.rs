//! One client that means harm, for a time or a number of bytes, while another goes on as before: what the server
//! remembers of it, in resident memory, and how the two connections fare.

mod attacker;
mod witness;

use crate::client::{self, MASK};
use crate::{Target, usage};
use attacker::Attacker;
use clap::{Args, ValueEnum};
use flate2::{Compress, Compression, FlushCompress};
use saywhy_proto::frame::{self, Opcode};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};
use witness::Witness;

#[derive(Args)]
pub(crate) struct Settings {
    #[arg(value_enum)]
    kind: Kind,
    /// It floods for so long at most.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// And sends so much at most.
    #[arg(long, default_value_t = 256)]
    mib: u64,
    /// The largest message that the server takes.
    #[arg(long, default_value_t = 64 * 1024)]
    message_bytes: usize,
    /// Connections of the floods that take many.
    #[arg(long, default_value_t = 1_000)]
    connections: usize,
    /// The other client waits so long for an echo.
    #[arg(long, default_value_t = 10.0)]
    patience_s: f64,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Pings, and never a read.
    PingsUnread,
    Pings,
    Pongs,
    /// One message in fragments of a byte.
    Fragments,
    /// One message in fragments of nothing.
    EmptyFragments,
    /// Many connections that announce the largest message, less a byte because not all take the limit itself, and
    /// send its first byte.
    DeclaredLimit,
    /// The same with a gibibyte.
    DeclaredGib,
    /// Messages to be echoed, and never a read.
    EchoUnread,
    /// Messages that are a thousand times as long when they are inflated.
    Bombs,
    /// Many connections whose handshake comes a byte at a time and has no end.
    Handshakes,
}

struct Script {
    /// What is sent.
    bytes: Vec<u8>,
    /// From here on it is sent over and over, if there is anything.
    again: usize,
    /// Bytes that are written at once.
    step: usize,
    /// Whether answers are read meanwhile.
    reads: bool,
}

impl Script {
    /// What follows `at`.
    fn next(&self, at: usize) -> &[u8] {
        &self.bytes[at..self.bytes.len().min(at + self.step)]
    }

    fn advance(&self, at: usize, by: usize) -> usize {
        let at = at + by;
        if at == self.bytes.len() { self.again } else { at }
    }
}

const CHUNK: usize = 64 * 1024;
/// The most that a control frame holds (RFC 6455 §5.5).
const CONTROL: usize = 125;
const OFFER: &str = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
const BOMB: usize = 60 << 20;
const HANDSHAKE: Duration = Duration::from_secs(10);
/// For the end of a connection that has been talked to for long enough.
const SILENCE: Duration = Duration::from_secs(1);
const LAST_WORD: Duration = Duration::from_secs(15);
const BREATH: Duration = Duration::from_millis(1);

pub(crate) fn run(target: &Target, settings: &Settings) -> io::Result<Value> {
    let mut witness = Witness::enter(target, Duration::from_secs_f64(settings.patience_s))?;
    // What belongs to the server and not to a connection is there after the first.
    witness.echo()?;
    let mut attackers = (0..connections(settings))
        .map(|_| Attacker::connect(target.address, handshake(settings.kind, target).as_deref()))
        .collect::<io::Result<Vec<_>>>()?;
    let script = script(settings, target.address);
    let before = usage::forget_peak(target.pid)?;
    let (flood, echoes) = thread::scope(|scope| {
        let (done, is_done) = mpsc::channel();
        let attackers = &mut attackers;
        let flood = scope.spawn(move || {
            let flood = flood(attackers, &script, settings);
            // Nobody waits for it any more when the witness has failed.
            let _ = done.send(());
            flood
        });
        let echoes = witness.echo_until(&is_done);
        (flood.join(), echoes)
    });
    let (sent, took) = flood.map_err(|_| io::Error::other("the flood panicked"))??;
    hear_out(&mut attackers)?;
    let peak = usage::peak(target.pid)?;
    Ok(json!({
        "before_bytes": before,
        "grown_bytes": peak.saturating_sub(before),
        "sent_bytes": sent,
        "flood_s": took.as_secs_f64(),
        "ends": ends(&attackers),
        "echoes": echoes.as_ref().ok(),
        "witness": echoes.as_ref().map_or_else(ToString::to_string, |_| "heard".to_owned()),
    }))
}

fn connections(settings: &Settings) -> usize {
    match settings.kind {
        Kind::DeclaredLimit | Kind::DeclaredGib | Kind::Handshakes => settings.connections,
        _ => 1,
    }
}

/// The whole request, where the flood comes after it.
fn handshake(kind: Kind, target: &Target) -> Option<Vec<u8>> {
    let offer = if kind == Kind::Bombs { OFFER } else { "" };
    (kind != Kind::Handshakes).then(|| client::request(target.address, &target.path, offer).to_vec())
}

fn script(settings: &Settings, host: SocketAddr) -> Script {
    let begun = |opcode| framed(0, opcode, b"x");
    let declared = |length| [header(0x80, Opcode::Binary, length), vec![b'x']].concat();
    let (first, unit) = match settings.kind {
        Kind::PingsUnread | Kind::Pings => (vec![], framed(0x80, Opcode::Ping, &[b'x'; CONTROL])),
        Kind::Pongs => (vec![], framed(0x80, Opcode::Pong, &[b'x'; CONTROL])),
        Kind::Fragments => (begun(Opcode::Binary), begun(Opcode::Continuation)),
        Kind::EmptyFragments => (begun(Opcode::Binary), framed(0, Opcode::Continuation, b"")),
        Kind::DeclaredLimit => (declared(settings.message_bytes as u64 - 1), vec![]),
        Kind::DeclaredGib => (declared(1 << 30), vec![]),
        Kind::EchoUnread => (vec![], client::data(Opcode::Binary, &vec![b'x'; settings.message_bytes / 2])),
        // RSV1: it is compressed.
        Kind::Bombs => (vec![], framed(0x80 | 0x40, Opcode::Binary, &bomb())),
        Kind::Handshakes => (unfinished(host), b"x".to_vec()),
    };
    let step = if settings.kind == Kind::Handshakes { 1 } else { CHUNK };
    let reads = !matches!(settings.kind, Kind::PingsUnread | Kind::EchoUnread);
    // So much of it that hardly a write is shorter than a step.
    let over_and_over = unit.repeat(8 * step.div_ceil(unit.len().max(1)));
    Script { again: first.len(), bytes: [first, over_and_over].concat(), step, reads }
}

fn framed(flags: u8, opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut masked = payload.to_vec();
    frame::mask(&mut masked, MASK, 0);
    [header(flags, opcode, payload.len() as u64), masked].concat()
}

fn header(flags: u8, opcode: Opcode, length: u64) -> Vec<u8> {
    let mut out = Vec::new();
    let header =
        frame::Header { fin: flags & 0x80 != 0, compressed: flags & 0x40 != 0, opcode, len: length, mask: Some(MASK) };
    header.write(&mut out);
    out
}

fn bomb() -> Vec<u8> {
    let mut out = Vec::with_capacity(BOMB / 500);
    let deflated =
        Compress::new(Compression::best(), false).compress_vec(&vec![0; BOMB], &mut out, FlushCompress::Sync);
    // The room is twice what zeros take.
    assert!(deflated.is_ok() && out.len() < out.capacity(), "the bomb has no room");
    // RFC 7692 §7.2.1: without the empty block at its end.
    out.truncate(out.len() - 4);
    out
}

/// A request up to the value of its last header.
fn unfinished(host: SocketAddr) -> Vec<u8> {
    let mut request = client::request(host, "/", "X-More: ").to_vec();
    request.truncate(request.len() - 2);
    request
}

/// Sends until it is enough, or nobody is left; bytes, and how long it took.
fn flood(attackers: &mut [Attacker], script: &Script, settings: &Settings) -> io::Result<(u64, Duration)> {
    let (start, most) = (Instant::now(), settings.mib << 20);
    let mut sent = 0;
    while start.elapsed().as_secs_f64() < settings.seconds
        && sent < most
        && attackers.iter().any(Attacker::is_connected)
    {
        let mut idle = true;
        for attacker in &mut *attackers {
            let written = attacker.write(script)?;
            idle &= written == 0;
            sent += written;
            if script.reads {
                idle &= !attacker.read()?;
            }
        }
        if idle {
            thread::sleep(BREATH);
        }
    }
    Ok((sent, start.elapsed()))
}

/// Reads what was not read so far, until nothing more comes.
fn hear_out(attackers: &mut [Attacker]) -> io::Result<()> {
    let start = Instant::now();
    let mut heard = start;
    while heard.elapsed() < SILENCE && start.elapsed() < LAST_WORD && attackers.iter().any(Attacker::is_connected) {
        let mut idle = true;
        for attacker in &mut *attackers {
            idle &= !attacker.read()?;
        }
        if idle {
            thread::sleep(BREATH);
        } else {
            heard = Instant::now();
        }
    }
    Ok(())
}

/// Reads the answer to a handshake that is taken. Byte by byte: what follows it is a frame.
fn read_head(tcp: &mut TcpStream) -> io::Result<String> {
    tcp.set_read_timeout(Some(HANDSHAKE))?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        tcp.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
    if !head.starts_with("http/1.1 101 ") {
        return Err(io::Error::other(format!("no upgrade: {}", head.lines().next().unwrap_or_default())));
    }
    Ok(head)
}

/// How many ended how.
fn ends(attackers: &[Attacker]) -> BTreeMap<String, usize> {
    let mut ends = BTreeMap::new();
    for attacker in attackers {
        *ends.entry(attacker.end()).or_default() += 1;
    }
    ends
}
