//! Everything that may go wrong with a WebSocket server, tried on one: what it does, whether that is right, and what a page
//! in a browser would have seen of it.
//!
//! ```text
//! probe.rs ─► scenarios/*/*.rs ─► peer.rs ── bytes ──► the server
//!     │             │ what was heard
//!     │             ▼
//!     │          judge.rs ─► verdict.rs
//!     ▼
//! report.rs
//! ```
//!
//! Every scenario is a file: what it does, what is expected, why that matters and where it is written.

mod judge;
mod peer;
pub mod report;
mod scenarios;
mod target;
mod verdict;

pub use target::{InvalidTarget, Target};
pub use verdict::{Finding, Verdict};

use peer::{Ask, Ended, Frame, Head, Heard, PING, PONG, Peer, TEXT, Transcript};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use serde_json::Value;
use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use target::SAYWHY_V1;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

/// So many scenarios run at a time.
const AT_ONCE: usize = 4;
/// The longest that one may take, whatever happens.
const LONGEST: Duration = Duration::from_secs(30);
/// How often a session is asked for, and the pause in between, where a server has had enough for the moment.
const PATIENT_TIMES: u32 = 10;
const PAUSE: Duration = Duration::from_millis(500);
/// For a sign of life.
const LONG_PATIENCE: Duration = Duration::from_secs(10);

/// Something that may go wrong.
pub struct Scenario {
    /// Its group and its name: `handshake/bad-version`.
    pub id: &'static str,
    /// What is done, in a few words.
    pub title: &'static str,
    /// What the server should do.
    pub expects: &'static str,
    /// Why that matters.
    pub why: &'static str,
    /// Where it is written.
    pub source: &'static str,
    /// What to do about it when the server does not.
    pub fix: &'static str,
    pub(crate) run: for<'a> fn(&'a Try<'a>) -> Pin<Box<dyn Future<Output = Outcome> + Send + 'a>>,
}

impl fmt::Debug for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scenario").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Scenario {
    /// The part of its id before the `/`.
    pub fn group(&self) -> &'static str {
        self.id.split('/').next().unwrap_or(self.id)
    }
}

/// All there are, in the order in which they are reported.
pub fn all() -> impl Iterator<Item = &'static Scenario> {
    scenarios::all()
}

/// Either way it is what was found; an `Err` is found on the way, such as that nobody is there.
pub(crate) type Outcome = Result<Finding, Finding>;

/// What became of one scenario.
#[derive(Clone, Debug)]
pub struct Tried {
    /// Which.
    pub scenario: &'static Scenario,
    /// What was found.
    pub finding: Finding,
    /// What went over the wire.
    pub transcript: String,
    /// How long it took.
    pub took: Duration,
}

/// Tries scenarios on a server.
#[derive(Clone, Debug)]
pub struct Probe {
    target: Target,
    seed: u64,
}

/// What is known of a server before it is probed.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    /// A valid handshake gets a session, as far as the prober may have one.
    pub(crate) lets_in: bool,
    /// It speaks the envelope, and says `ready`.
    pub(crate) speaks: bool,
    /// What it sends back when it hears "probe", if that is what it does.
    pub(crate) echoes: bool,
    /// What it said to a valid handshake instead of 101.
    pub(crate) refusal: String,
}

impl Probe {
    /// The same seed does the same things.
    pub fn new(target: Target, seed: u64) -> Self {
        Self { target, seed }
    }

    /// Tries them, a few at a time, and tells of each as soon as it is done; the answer has them in their order.
    ///
    /// # Errors
    /// When the server cannot be reached at all, with the reason.
    pub async fn run(
        &self,
        scenarios: Vec<&'static Scenario>,
        mut tell: impl FnMut(&Tried),
    ) -> Result<Vec<Tried>, std::io::Error> {
        let known = Arc::new(self.look().await?);
        let (mut waiting, mut under_way, mut done) = (VecDeque::from(scenarios.clone()), JoinSet::new(), Vec::new());
        loop {
            while under_way.len() < AT_ONCE
                && let Some(scenario) = waiting.pop_front()
            {
                let (probe, known) = (self.clone(), Arc::clone(&known));
                under_way.spawn(async move { probe.one(scenario, &known).await });
            }
            match under_way.join_next().await {
                Some(Ok(result)) => {
                    tell(&result);
                    done.push(result);
                }
                // A scenario that panics is our own defect, and is not to look like the server's.
                Some(Err(error)) => return Err(std::io::Error::other(error)),
                None => break,
            }
        }
        done.sort_by_key(|result: &Tried| scenarios.iter().position(|scenario| scenario.id == result.scenario.id));
        Ok(done)
    }

    /// What kind of server it is.
    async fn look(&self) -> std::io::Result<Known> {
        let mut peer = Peer::dial(&self.target, self.seed, Transcript::default()).await?;
        let mut known = Known { lets_in: false, speaks: false, echoes: false, refusal: String::new() };
        let ask = Ask::valid(&self.target, &mut peer.rng);
        peer.write(&ask.bytes()).await;
        let head = match peer.head().await {
            Ok(head) if ask.is_accepted_by(&head) => head,
            Ok(head) => {
                known.refusal = format!("HTTP {}", head.status);
                return Ok(known);
            }
            Err(heard) => {
                known.refusal = format!("{heard:?}");
                return Ok(known);
            }
        };
        // Some select whatever is on offer: only who says `ready` speaks it.
        if head.header("sec-websocket-protocol") == Some(SAYWHY_V1) {
            match peer.next().await {
                Heard::Frame(frame) => {
                    known.speaks = is(&frame, "ready");
                    (known.lets_in, known.refusal) =
                        (known.speaks, String::from_utf8_lossy(&frame.payload).into_owned());
                    return Ok(known);
                }
                Heard::Silence => {}
                heard => {
                    known.refusal = format!("{heard:?}");
                    return Ok(known);
                }
            }
        }
        let probe = peer.text("probe");
        peer.write(&probe).await;
        loop {
            match peer.next().await {
                Heard::Frame(frame) if frame.opcode() == peer::CLOSE => {
                    known.refusal = format!("Close {:?}", frame.close());
                    return Ok(known);
                }
                Heard::Frame(frame) if frame.payload == b"probe" => {
                    (known.lets_in, known.echoes) = (true, true);
                    return Ok(known);
                }
                Heard::Frame(_) => {}
                Heard::Silence => {
                    known.lets_in = true;
                    return Ok(known);
                }
                Heard::Eof | Heard::Reset => return Ok(known),
            }
        }
    }

    async fn one(&self, scenario: &'static Scenario, known: &Known) -> Tried {
        let mut hasher = DefaultHasher::new();
        (self.seed, scenario.id).hash(&mut hasher);
        let attempt = Try { target: &self.target, known, seed: hasher.finish(), transcript: Transcript::default() };
        let began = Instant::now();
        let found = timeout(LONGEST, (scenario.run)(&attempt)).await;
        let mut finding = match found {
            Ok(Ok(finding) | Err(finding)) => finding,
            Err(_) => Finding::new(Verdict::Fail, format!("nothing was decided in {LONGEST:?}"), "nothing"),
        };
        if finding.verdict != Verdict::Unreachable && !attempt.is_alive().await {
            finding =
                Finding::new(Verdict::Fail, format!("{}; and then the server was gone", finding.got), finding.browser);
        }
        Tried { scenario, finding, transcript: attempt.transcript.text(), took: began.elapsed() }
    }
}

/// Whether it is a message of this type.
fn is(frame: &Frame, kind: &str) -> bool {
    let message: Option<Value> = serde_json::from_slice(&frame.payload).ok();
    message.is_some_and(|message| message.get("type").and_then(Value::as_str) == Some(kind))
}

/// One scenario, under way.
pub(crate) struct Try<'a> {
    pub(crate) target: &'a Target,
    pub(crate) known: &'a Known,
    seed: u64,
    transcript: Transcript,
}

impl Try<'_> {
    /// A connection on which nothing was said yet.
    pub(crate) async fn dial(&self) -> Result<Peer, Finding> {
        Peer::dial(self.target, self.seed, self.transcript.clone()).await.map_err(|error| {
            Finding::new(Verdict::Unreachable, format!("no connection: {error}"), "onclose 1006, without a reason")
        })
    }

    /// The answer to a handshake. A server that wants the prober to be slower gets its way.
    pub(crate) async fn ask(&self, change: impl Fn(Ask) -> Ask) -> Result<(Peer, Ask, Result<Head, Heard>), Finding> {
        for _ in 1..PATIENT_TIMES {
            let (peer, ask, head) = self.ask_once(&change).await?;
            if !matches!(&head, Ok(Head { status: 429 | 503, .. })) {
                return Ok((peer, ask, head));
            }
            sleep(PAUSE).await;
        }
        self.ask_once(&change).await
    }

    async fn ask_once(&self, change: impl Fn(Ask) -> Ask) -> Result<(Peer, Ask, Result<Head, Heard>), Finding> {
        let mut peer = self.dial().await?;
        let ask = change(Ask::valid(self.target, &mut peer.rng));
        peer.write(&ask.bytes()).await;
        let head = peer.head().await;
        Ok((peer, ask, head))
    }

    /// A session, ready to be talked to; without one the scenario is skipped. A server that wants the prober to be slower gets
    /// its way.
    pub(crate) async fn open(&self) -> Result<Peer, Finding> {
        if !self.known.lets_in {
            return Err(Finding::skipped(format!("the server lets nobody in without more: {}", self.known.refusal)));
        }
        for _ in 0..PATIENT_TIMES {
            let (mut peer, ask, head) = self.ask(|ask| ask).await?;
            match head {
                Ok(head) if ask.is_accepted_by(&head) && !self.known.speaks => return Ok(peer),
                Ok(head) if ask.is_accepted_by(&head) => match peer.next().await {
                    Heard::Frame(frame) if is(&frame, "ready") => return Ok(peer),
                    _ => sleep(PAUSE).await,
                },
                Ok(_) | Err(_) => sleep(PAUSE).await,
            }
        }
        Err(Finding::skipped("a valid handshake was not accepted any more: is there a limit that the prober meets?"))
    }

    /// A session that was given these bytes, to its end.
    pub(crate) async fn after(&self, bytes: impl FnOnce(&mut Peer) -> Vec<u8>) -> Result<Ended, Finding> {
        let mut peer = self.open().await?;
        let bytes = bytes(&mut peer);
        peer.write(&bytes).await;
        Ok(peer.read_to_end().await)
    }

    /// Whether a session answers a Ping: the one sign of life that every server gives.
    pub(crate) async fn lives(&self, peer: &mut Peer) -> bool {
        let ping = peer.frame(0x80 | PING, b"alive?");
        peer.write(&ping).await;
        loop {
            match peer.next().await {
                Heard::Frame(frame) if frame.opcode() == PONG && frame.payload == b"alive?" => return true,
                Heard::Frame(frame) if frame.opcode() == peer::CLOSE => return false,
                Heard::Frame(_) => {}
                Heard::Eof | Heard::Reset | Heard::Silence => return false,
            }
        }
    }

    /// Whether the server still answers a handshake, in whatever way. One that has had enough of the prober may take its time.
    async fn is_alive(&self) -> bool {
        let target = self.target.clone().patience(self.target.patience.max(LONG_PATIENCE));
        let Ok(mut peer) = Peer::dial(&target, self.seed, Transcript::default()).await else { return false };
        let ask = Ask::valid(&target, &mut StdRng::seed_from_u64(self.seed));
        peer.write(&ask.bytes()).await;
        peer.head().await.is_ok()
    }
}

/// FIN and text.
pub(crate) const WHOLE_TEXT: u8 = 0x80 | TEXT;
