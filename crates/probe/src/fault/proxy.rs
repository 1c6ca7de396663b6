//! The proxy: accepts clients, dials the server for each, and carries the bytes between them.

use crate::fault::head::{self, HEAD_BYTES, Malformed, Request, Rewrite};
use crate::fault::journal::{Happened, Journal};
use crate::fault::leg::{Leg, Upstream};
use crate::fault::line::Line;
use crate::fault::{Answer, Side, Spec};
use crate::faults::refusal;
use http::StatusCode;
use serde::Serialize;
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout};

/// Connections at a time. More wait to be accepted.
const CONNECTIONS_MOST: usize = 1_024;
/// For the head of a request.
const REQUEST_TIME: Duration = Duration::from_secs(30);
/// For a client to take its refusal, and for connections to end when the proxy stops.
const LAST_WORD_TIME: Duration = Duration::from_secs(4);
/// Commands that wait for a connection.
const COMMANDS_MOST: usize = 64;

/// What the proxy stands in front of, and what it changes of its own accord.
#[derive(Debug)]
pub struct Settings {
    /// The server.
    pub upstream: Upstream,
    /// What requests say as `Host`, instead of what the client says.
    pub host: Option<String>,
    /// What requests say as `Origin`, where they say one.
    pub origin: Option<String>,
    /// No compression is offered to the server.
    pub no_compression: bool,
    /// What all decisions come from.
    pub seed: u64,
}

/// A proxy that breaks connections. Its clones are the same proxy.
#[derive(Clone)]
pub struct Proxy(pub(crate) Arc<House>);

/// What the connections of a proxy share.
pub(crate) struct House {
    upstream: Upstream,
    rewrite: Rewrite,
    pub(crate) seed: u64,
    started: Instant,
    pub(crate) journal: Journal,
    faults: Mutex<Vec<Arc<Spec>>>,
    /// Told by the API to be down until then.
    down_until: Mutex<Duration>,
    connections: Mutex<BTreeMap<u64, Present>>,
    last: AtomicU64,
}

/// A connection that is there.
struct Present {
    from: SocketAddr,
    path: String,
    since: Duration,
    counts: Arc<[AtomicU64; 4]>,
    commands: mpsc::Sender<Command>,
}

enum Command {
    Break(Vec<Arc<Spec>>),
    Heal,
}

/// A connection that is there, as the API shows it.
#[derive(Serialize)]
pub(crate) struct Shown {
    id: u64,
    from: SocketAddr,
    path: String,
    since_ms: u64,
    bytes_to_client: u64,
    messages_to_client: u64,
    bytes_to_server: u64,
    messages_to_server: u64,
}

impl Proxy {
    /// A proxy with these faults.
    pub fn new(settings: Settings, faults: Vec<Arc<Spec>>) -> Self {
        let Settings { upstream, host, origin, no_compression, seed } = settings;
        Self(Arc::new(House {
            upstream,
            rewrite: Rewrite { host, origin, no_compression },
            seed,
            started: Instant::now(),
            journal: Journal::new(),
            faults: Mutex::new(faults),
            down_until: Mutex::default(),
            connections: Mutex::default(),
            last: AtomicU64::new(0),
        }))
    }

    /// Takes clients until `stopped`, then ends what is there.
    pub async fn serve(&self, listener: TcpListener, stopped: impl Future<Output = ()>) {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MOST));
        let (stop, stopping) = watch::channel(());
        let mut tasks = JoinSet::new();
        let accept = async {
            loop {
                let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
                let Ok((client, from)) = listener.accept().await else {
                    // Out of open files, most likely: some will be free again.
                    sleep(Duration::from_millis(100)).await;
                    continue;
                };
                while tasks.try_join_next().is_some() {}
                let connection = Connection::new(Arc::clone(&self.0), from);
                let stopping = stopping.clone();
                tasks.spawn(async move {
                    connection.run(client, stopping).await;
                    drop(place);
                });
            }
        };
        tokio::select! {
            () = accept => {}
            () = stopped => {}
        }
        drop(listener);
        drop(stop);
        let _ = timeout(LAST_WORD_TIME, async { while tasks.join_next().await.is_some() {} }).await;
    }

    /// How many connections are there.
    pub fn connections(&self) -> usize {
        self.0.connections().len()
    }
}

impl House {
    /// By the clock of the proxy.
    pub(crate) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    pub(crate) fn faults(&self) -> Vec<Arc<Spec>> {
        lock(&self.faults).clone()
    }

    /// For connections to come.
    pub(crate) fn set_faults(&self, faults: Vec<Arc<Spec>>) {
        *lock(&self.faults) = faults;
    }

    /// No faults any more, also for those that are there.
    pub(crate) fn heal(&self) {
        self.set_faults(Vec::new());
        *lock(&self.down_until) = Duration::ZERO;
        for present in self.connections().values() {
            let _ = present.commands.try_send(Command::Heal);
        }
    }

    /// Breaks one connection, or all. The number of those that were told.
    pub(crate) fn break_now(&self, connection: Option<u64>, faults: &[Arc<Spec>]) -> usize {
        if let (None, Some(down)) = (connection, faults.iter().filter_map(|spec| spec.down()).max()) {
            *lock(&self.down_until) = self.now() + down;
        }
        let connections = self.connections();
        let meant = connections.iter().filter(|(id, _)| connection.is_none_or(|wanted| wanted == **id));
        meant.filter(|(_, present)| present.commands.try_send(Command::Break(faults.to_vec())).is_ok()).count()
    }

    pub(crate) fn shown(&self) -> Vec<Shown> {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let shown = |(id, present): (&u64, &Present)| {
            let [a, b, c, d] = [0, 1, 2, 3].map(|at| present.counts[at].load(Ordering::Relaxed));
            Shown {
                id: *id,
                from: present.from,
                path: present.path.clone(),
                since_ms: ms(present.since),
                bytes_to_client: a,
                messages_to_client: b,
                bytes_to_server: c,
                messages_to_server: d,
            }
        };
        self.connections().iter().map(shown).collect()
    }

    fn connections(&self) -> MutexGuard<'_, BTreeMap<u64, Present>> {
        lock(&self.connections)
    }

    /// For how long nobody is let in from now on.
    fn down_for(&self, faults: &[Arc<Spec>], now: Duration) -> Option<Duration> {
        let scheduled = faults.iter().filter_map(|spec| Some(spec.when.last(now)? + spec.down()?));
        let until = scheduled.chain([*lock(&self.down_until)]).max()?;
        until.checked_sub(now).filter(|left| !left.is_zero())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One client, from its first byte to its last.
struct Connection {
    house: Arc<House>,
    id: u64,
    from: SocketAddr,
}

impl Connection {
    fn new(house: Arc<House>, from: SocketAddr) -> Self {
        let id = house.last.fetch_add(1, Ordering::Relaxed) + 1;
        Self { house, id, from }
    }

    async fn run(self, mut client: TcpStream, mut stopping: watch::Receiver<()>) {
        // Kept to the end, so that it is seen and can be told something.
        let begun = tokio::select! {
            begun = self.begin(&mut client) => begun,
            _ = stopping.changed() => None,
        };
        let Some((server, line, listed, commands)) = begun else { return };
        let mut carrying = Carrying {
            house: &self.house,
            listed: &listed,
            line,
            legs: [Leg::new(client), server],
            commands,
            timer: Box::pin(sleep_until(self.house.started)),
        };
        let carried = tokio::select! {
            carried = carrying.run() => Some(carried),
            _ = stopping.changed() => None,
        };
        let carried = match carried {
            Some(carried) => carried,
            None => {
                carrying.line.leave(self.house.now());
                carrying.run().await
            }
        };
        if carried.is_err() {
            tracing::warn!(target: "saywhy::fault", connection = self.id, "the server's answer is no HTTP");
        }
    }

    /// Up to where the server was asked; `None`: there is nothing to carry.
    async fn begin(&self, client: &mut TcpStream) -> Option<(Leg, Line, Listed, mpsc::Receiver<Command>)> {
        let (request, bytes) = self.request(client).await?;
        let (head, early) = bytes.split_at_checked(request.len)?;
        let (sender, commands) = mpsc::channel(COMMANDS_MOST);
        let listed = Listed::new(Arc::clone(&self.house), self.id, self.from, &request.path, sender);
        let mut line = Line::new(self.house.seed, self.id);
        if request.is_handshake {
            self.shake_hands(client, &mut line, &request).await?;
        } else {
            line.stop_reading();
        }
        let server = match self.house.upstream.dial().await {
            Ok(server) => server,
            Err(error) => {
                let (connection, upstream) = (self.id, &self.house.upstream);
                tracing::warn!(target: "saywhy::fault", connection, ?upstream, %error, "the server cannot be reached");
                let body = "saywhy fault: the server behind this proxy cannot be reached\n";
                answer(client, &refusal(StatusCode::BAD_GATEWAY, None, body)).await;
                return None;
            }
        };
        let now = self.house.now();
        line.request(&self.house.rewrite.head(head), now);
        line.receive(Side::Client, &mut early.to_vec(), now).ok()?;
        Some((server, line, listed, commands))
    }

    async fn request(&self, client: &mut TcpStream) -> Option<(Request, Vec<u8>)> {
        let mut bytes = Vec::new();
        let whole = timeout(REQUEST_TIME, async {
            loop {
                let mut part = [0; 4 * 1024];
                let read = client.read(&mut part).await.ok().filter(|read| *read > 0)?;
                bytes.extend_from_slice(&part[..read]);
                match head::request(&bytes) {
                    Ok(None) if bytes.len() < HEAD_BYTES => {}
                    Ok(request) => return request,
                    Err(Malformed) => return None,
                }
            }
        });
        let request = whole.await.ok().flatten();
        if request.is_none() && !bytes.is_empty() {
            let (status, body) = if bytes.len() < HEAD_BYTES {
                (StatusCode::BAD_REQUEST, "saywhy fault: this is no whole request of HTTP/1.1\n")
            } else {
                (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "saywhy fault: a head has at most 16 KiB here\n")
            };
            answer(client, &refusal(status, None, body)).await;
        }
        request.map(|request| (request, bytes))
    }

    /// What the faults make of the handshake; `None`: it does not pass.
    async fn shake_hands(&self, client: &mut TcpStream, line: &mut Line, request: &Request) -> Option<()> {
        let (house, now) = (&self.house, self.house.now());
        let faults: Vec<_> = house.faults().into_iter().filter(|spec| spec.is_for(&request.path)).collect();
        if let Some(left) = house.down_for(&faults, now) {
            // In whole seconds, and not too soon.
            let after = Duration::from_secs(left.as_secs() + 1);
            answer(client, &refusal(StatusCode::SERVICE_UNAVAILABLE, Some(after), "restarting\n")).await;
            return None;
        }
        let what = line.handshake(&faults, now);
        for done in line.take_done() {
            house.journal.record(self.id, now, Happened::Fault(&done));
        }
        match what {
            None => Some(()),
            Some(Answer::Refuse(bytes)) => {
                answer(client, &bytes).await;
                None
            }
            Some(Answer::Stall(time)) => {
                let mut nothing = [0; 1];
                let wait =
                    async { if let Some(time) = time { sleep(time).await } else { std::future::pending().await } };
                tokio::select! {
                    () = wait => Some(()),
                    // Whoever waits says nothing: it left.
                    _ = client.peek(&mut nothing) => None,
                }
            }
        }
    }
}

/// An answer, and the end: what still comes is taken, as unread bytes would reset the connection.
async fn answer(client: &mut TcpStream, bytes: &[u8]) {
    let told = timeout(LAST_WORD_TIME, async {
        client.write_all(bytes).await?;
        client.shutdown().await?;
        let mut rest = [0; 4 * 1024];
        while client.read(&mut rest).await? > 0 {}
        std::io::Result::Ok(())
    });
    let _ = told.await;
}

/// A place in the list of connections.
struct Listed {
    house: Arc<House>,
    id: u64,
    counts: Arc<[AtomicU64; 4]>,
}

impl Listed {
    fn new(house: Arc<House>, id: u64, from: SocketAddr, path: &str, commands: mpsc::Sender<Command>) -> Self {
        let (counts, since) = (Arc::<[AtomicU64; 4]>::default(), house.now());
        house.journal.record(id, since, Happened::Connected { path });
        let present = Present { from, path: path.to_owned(), since, counts: Arc::clone(&counts), commands };
        house.connections().insert(id, present);
        Self { house, id, counts }
    }

    fn count(&self, line: &Line) {
        let [client, server] = Side::BOTH.map(|side| line.count(side));
        for (at, count) in [client.0, client.1, server.0, server.1].into_iter().enumerate() {
            self.counts[at].store(count, Ordering::Relaxed);
        }
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.house.connections().remove(&self.id);
        let [bytes_to_client, bytes_to_server] = [0, 2].map(|at| self.counts[at].load(Ordering::Relaxed));
        let ended = Happened::Ended { bytes_to_client, bytes_to_server };
        self.house.journal.record(self.id, self.house.now(), ended);
    }
}

/// A line and its sockets.
struct Carrying<'a> {
    house: &'a House,
    listed: &'a Listed,
    line: Line,
    legs: [Leg; 2],
    commands: mpsc::Receiver<Command>,
    timer: Pin<Box<Sleep>>,
}

impl Carrying<'_> {
    /// To the end. Cancel-safe.
    async fn run(&mut self) -> Result<(), Malformed> {
        poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Malformed>> {
        loop {
            let now = self.house.now();
            while let Poll::Ready(Some(command)) = self.commands.poll_recv(cx) {
                match command {
                    Command::Break(faults) => faults.into_iter().for_each(|spec| self.line.add(spec, now)),
                    Command::Heal => self.line.heal(),
                }
            }
            self.line.expire(now);
            let mut moved = false;
            for (leg, side) in self.legs.iter_mut().zip(Side::BOTH) {
                moved |= leg.poll(cx, &mut self.line, side, now)?;
            }
            self.listed.count(&self.line);
            for done in self.line.take_done() {
                self.house.journal.record(self.listed.id, now, Happened::Fault(&done));
            }
            if self.line.is_over(now) {
                return Poll::Ready(Ok(()));
            }
            if moved {
                continue;
            }
            let deadline = self.line.deadline(now).and_then(|deadline| self.house.started.checked_add(deadline));
            let Some(deadline) = deadline else { return Poll::Pending };
            self.timer.as_mut().reset(deadline);
            if self.timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::parse;

    #[test]
    fn nobody_is_let_in_for_a_while_after_each_restart() {
        let upstream = "ws://127.0.0.1:1".parse().unwrap();
        let settings = Settings { upstream, host: None, origin: None, no_compression: false, seed: 7 };
        let house = Proxy::new(settings, Vec::new()).0;
        let faults = parse("restart=3s,every=30s,cut=rst").unwrap();
        let down = |s| house.down_for(&faults, Duration::from_secs(s)).map(|left| left.as_secs());
        assert_eq!([0, 29, 30, 32, 33, 59, 61].map(down), [None, None, Some(3), Some(1), None, None, Some(2)]);
        assert_eq!(house.down_for(&parse("restart,at=5s").unwrap(), Duration::from_secs(5)), None);
    }
}
