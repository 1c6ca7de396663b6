//! One connection, from TCP to its requests: PROXY header, TLS, HTTP/1.1 or HTTP/2, with one deadline over all of it.

use crate::connection::{Asked, Connection};
use crate::gate::PeerAddr;
use crate::handshake;
use crate::observe;
use crate::places::{Full, Place, Places};
use crate::proxies::{Proxies, Source, read_header};
use crate::refusal::Refusal;
use crate::serve::{HttpLimits, Listening};
use crate::stream::{Below, Corked, Duplex, Wire};
use axum_core::body::Body;
use axum_core::response::Response;
use http::header::{self, CONNECTION};
use http::{HeaderValue, Method, Request, StatusCode, Version};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use saywhy_codes::catalogue::{BAD_REQUEST, OVERLOADED, TIMEOUT};
use saywhy_codes::{EndCause, Loss};
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;
use tower_service::Service;

/// What all connections to one address have in common.
pub(crate) struct Front {
    limits: HttpLimits,
    tls: Option<TlsAcceptor>,
    proxies: Proxies,
    /// Connections on which nothing goes on, and those that are told that there are too many of them.
    waiting: Arc<Places>,
    turned_away: Arc<Places>,
}

/// What HTTP/2 begins with (RFC 9113 §3.4), as far as it looks like the head of a request.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\n";
/// A handshake record (RFC 8446 §5.1): what a client speaks TLS with begins with it, and no HTTP does.
const TLS_HANDSHAKE: u8 = 22;
/// What is read at once of a head.
const FIRST_READ: usize = 4 * 1024;
/// The protocol of RFC 7301 that is HTTP/2.
const H2: &[u8] = b"h2";
/// For how long, and how much, a connection is read whose request came too late: an RST would lose it the answer.
const LATE_READ: (Duration, u64) = (Duration::from_secs(1), 64 * 1024);

/// What one session may send before it is read. A connection may as many times as it may have streams, so that no session
/// can use up what the others need.
const STREAM_WINDOW: u32 = 32 * 1024;
/// What a connection may send at least, which is where HTTP/2 begins (RFC 9113 §6.9.2), and at most.
const CONNECTION_WINDOW: (u32, u32) = (64 * 1024, 16 * 1024 * 1024);
/// What hyper keeps to be written for one stream.
const STREAM_BUFFER: usize = 64 * 1024;
/// Streams that were reset before we looked at them (CVE-2023-44487), and that we reset ourselves (CVE-2025-8671): past
/// either the connection is ended.
const RESETS: (usize, usize) = (20, 100);

/// So many streams of a connection wait for the peer's END_STREAM after ours. Firefox sends none, and takes each for
/// ended: waiting for all of them would use up the streams that there may be.
const ENDING_STREAMS: usize = 8;

impl Front {
    pub(crate) fn new(listening: Listening) -> Self {
        let Listening { limits, tls, proxies } = listening;
        let protocols: &[&[u8]] = if limits.streams > 0 { &[H2, b"http/1.1"] } else { &[b"http/1.1"] };
        Self {
            limits,
            tls: tls.map(|tls| tls.acceptor(protocols)),
            proxies,
            waiting: Arc::default(),
            turned_away: Arc::default(),
        }
    }

    /// A place among those who wait.
    fn place(&self, places: &Arc<Places>, from: Option<IpAddr>) -> Result<Place, Full> {
        places.take(from, self.limits.waiting, self.limits.waiting_per_address)
    }
}

/// Serves a connection for as long as it speaks HTTP. A session that begins in HTTP/1.1 goes on without it.
pub(crate) async fn connection<S>(
    front: Arc<Front>,
    tcp: TcpStream,
    peer: SocketAddr,
    service: S,
    mut stopped: watch::Receiver<()>,
) where
    S: Service<Request<Body>, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    let begun = Instant::now();
    // A proxy's connections are those of many.
    let from = (!front.proxies.trusts(peer.ip())).then_some(peer.ip());
    let Ok(place) = front.place(&front.waiting, from) else {
        // Those who are told so take a place as well, or are not told; and without TLS there are no words for who wants it.
        let place = front.place(&front.turned_away, from).ok().filter(|_| front.tls.is_none());
        tracing::info!(%peer, told = place.is_some(), "too many connections on which nothing goes on");
        if place.is_some() {
            turn_away(Corked::new(Wire::Tcp(tcp), Vec::new()), &Refusal::new(OVERLOADED)).await;
        }
        return;
    };
    let arrived = tokio::select! {
        arrived = timeout_at(begun + front.limits.head, arrive(&front, tcp, peer)) => arrived,
        _ = stopped.changed() => return,
    };
    let arrived = match arrived {
        Ok(Ok(Some(arrived))) => arrived,
        Ok(Ok(None)) => return,
        Ok(Err(error)) => {
            tracing::debug!(%peer, %error, "a connection ended before there was a request");
            return;
        }
        Err(_) => {
            tracing::debug!(%peer, "a connection said too little in time");
            return;
        }
    };
    let arrived = match arrived.speaks {
        Speaks::Http2 => arrived,
        Speaks::Http1 | Speaks::PlainToTls => match whole_head(&front, arrived, begun, &mut stopped).await {
            Some(arrived) => arrived,
            None => return,
        },
    };
    let activity = Arc::new(Activity::new(Arc::clone(&front), from, place, begun));
    // Futures that differ in size: a connection holds the one that it needs.
    let conversation: Pin<Box<dyn Future<Output = ()> + Send>> = match arrived.speaks {
        Speaks::Http1 => Box::pin(http1(front, arrived, activity, service, stopped)),
        Speaks::Http2 => Box::pin(http2(front, arrived, activity, service, stopped)),
        Speaks::PlainToTls => Box::pin(http1(front, arrived, activity, TlsOnly, stopped)),
    };
    conversation.await;
}

// ---- up to the first request ------------------------------------------------------------------------------------

/// A connection of which it is known what it speaks.
struct Arrived {
    wire: Wire,
    /// What was read of it.
    early: Vec<u8>,
    source: Source,
    speaks: Speaks,
}

#[derive(Clone, Copy)]
enum Speaks {
    Http1,
    Http2,
    /// Plain HTTP, where there is a certificate.
    PlainToTls,
}

/// `None` when the peer was gone before it said anything.
async fn arrive(front: &Front, mut tcp: TcpStream, peer: SocketAddr) -> io::Result<Option<Arrived>> {
    let mut source = Source { addr: peer, secure: None };
    if front.proxies.proxy_protocol && front.proxies.trusts(peer.ip()) {
        match read_header(&mut tcp).await {
            Ok(client) => source.addr = client.unwrap_or(peer),
            // It may also be a probe that says nothing at all.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => {
                tracing::warn!(%peer, %error, "a proxy was cut off; hint: does it send the PROXY protocol, as [proxies] says?");
                return Ok(None);
            }
        }
    }
    match &front.tls {
        Some(tls) => {
            let mut first = [0];
            match tcp.peek(&mut first).await? {
                0 => Ok(None),
                _ if first == [TLS_HANDSHAKE] => {
                    // In boxes: whoever says nothing holds as little as can be.
                    let stream = Box::new(Box::pin(tls.accept(Below::new(tcp))).await?);
                    let speaks =
                        if stream.get_ref().1.alpn_protocol() == Some(H2) { Speaks::Http2 } else { Speaks::Http1 };
                    source.secure = Some(true);
                    Ok(Some(Arrived { wire: Wire::Tls(stream), early: Vec::new(), source, speaks }))
                }
                _ => Ok(Some(Arrived { wire: Wire::Tcp(tcp), early: Vec::new(), source, speaks: Speaks::PlainToTls })),
            }
        }
        None => Ok(Some(Arrived { wire: Wire::Tcp(tcp), early: Vec::new(), source, speaks: Speaks::Http1 })),
    }
}

/// Reads up to the end of the first head, or as much as may be of one: until then there is nothing to parse, and no buffer
/// but for what has come. Without TLS that is also how HTTP/2 shows itself. `None` when it is over.
async fn whole_head(
    front: &Front,
    mut arrived: Arrived,
    begun: Instant,
    stopped: &mut watch::Receiver<()>,
) -> Option<Arrived> {
    let Arrived { wire, early, source, .. } = &mut arrived;
    let reading = async {
        let mut seen = 0;
        while !has_empty_line(early, &mut seen) && early.len() < front.limits.head_bytes {
            if read_some(wire.get(), early).await? == 0 {
                // Perhaps it has only ended its side; whether that was a request is for the parser to say.
                break;
            }
        }
        io::Result::Ok(())
    };
    let read = tokio::select! {
        read = timeout_at(begun + front.limits.head, reading) => read,
        _ = stopped.changed() => return None,
    };
    match read {
        Ok(Ok(())) if early.is_empty() => None,
        Ok(Ok(())) => {
            if let Wire::Tcp(_) = arrived.wire
                && let Speaks::Http1 = arrived.speaks
                && arrived.early.starts_with(PREFACE)
                && front.limits.streams > 0
            {
                arrived.speaks = Speaks::Http2;
            }
            Some(arrived)
        }
        Ok(Err(error)) => {
            tracing::debug!(peer = %source.addr, %error, "a connection ended inside the head of a request");
            None
        }
        Err(_) => {
            // Whoever has said nothing, such as a browser that connects ahead of need, expects nothing.
            if !early.is_empty() {
                too_late(Corked::new(arrived.wire, arrived.early), arrived.source.addr).await;
            }
            None
        }
    }
}

/// Whether the head has ended: with an empty line (RFC 9112 §2.1), the bare LF of §2.2 included. What was `seen` before is
/// not looked at again, but for the end that may have begun there.
fn has_empty_line(head: &[u8], seen: &mut usize) -> bool {
    let from = seen.saturating_sub(END_BEGUN);
    *seen = head.len();
    let new = head.get(from..).unwrap_or_default();
    new.windows(2).any(|two| two == b"\n\n") || new.windows(3).any(|three| three == b"\n\r\n")
}

/// As much of an empty line as can be there before its last byte.
const END_BEGUN: usize = 2;

/// Appends what there is, of which nothing is reserved before it is there.
async fn read_some(mut from: Pin<&mut dyn Duplex>, to: &mut Vec<u8>) -> io::Result<usize> {
    std::future::poll_fn(|cx| {
        let mut some = [MaybeUninit::uninit(); FIRST_READ];
        let mut some = ReadBuf::uninit(&mut some);
        ready!(from.as_mut().poll_read(cx, &mut some))?;
        to.extend_from_slice(some.filled());
        Poll::Ready(Ok(some.filled().len()))
    })
    .await
}

// ---- requests ---------------------------------------------------------------------------------------------------

async fn http1<S>(
    front: Arc<Front>,
    arrived: Arrived,
    activity: Arc<Activity>,
    service: S,
    mut stopped: watch::Receiver<()>,
) where
    S: Service<Request<Body>, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    let Arrived { wire, early, source, .. } = arrived;
    let limits = front.limits;
    let mut http = http1::Builder::new();
    // The deadline is ours: it began before there was HTTP, and whoever misses it is told.
    http.timer(TokioTimer::new()).header_read_timeout(None);
    http.max_buf_size(limits.head_bytes.max(8 * 1024)).max_headers(limits.headers);
    let io = TokioIo::new(Corked::new(wire, early).watched(Arc::clone(&activity)));
    let watched = Arc::clone(&activity);
    let answer = service_fn(move |request| answer(&front.proxies, source, &watched, &service, request));
    let mut connection = http.serve_connection(io, answer).with_upgrades();
    let mut stops = false;
    let ended = loop {
        tokio::select! {
            // Cancel-safe: it is polled again, but for the last arm, which ends it.
            ended = &mut connection => break ended,
            _ = stopped.changed(), if !stops => {
                stops = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
            () = sleep_until(activity.next_look(limits.head)) => if activity.is_late(limits.head) {
                // Whoever has said nothing, such as a browser that connects ahead of need, expects nothing.
                let begun = connection.into_parts().filter(|parts| !parts.read_buf.is_empty());
                if let Some(io) = begun.map(|parts| parts.io.into_inner()) {
                    too_late(io, source.addr).await;
                }
                return;
            }
        }
    };
    if let Err(error) = ended {
        // A peer's mistake, or its disappearance, before there was a request.
        tracing::debug!(peer = %source.addr, error = &error as &dyn std::error::Error, "HTTP connection ended");
    }
}

async fn http2<S>(
    front: Arc<Front>,
    arrived: Arrived,
    activity: Arc<Activity>,
    service: S,
    mut stopped: watch::Receiver<()>,
) where
    S: Service<Request<Body>, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    let Arrived { wire, early, source, .. } = arrived;
    let limits = front.limits;
    let mut http = http2::Builder::new(TokioExecutor::new());
    http.timer(TokioTimer::new()).enable_connect_protocol();
    http.max_concurrent_streams(limits.streams);
    http.max_header_list_size(u32::try_from(limits.head_bytes).unwrap_or(u32::MAX));
    http.max_pending_accept_reset_streams(RESETS.0).max_local_error_reset_streams(RESETS.1);
    http.initial_stream_window_size(STREAM_WINDOW).max_send_buf_size(STREAM_BUFFER);
    let (least, most) = CONNECTION_WINDOW;
    http.initial_connection_window_size(STREAM_WINDOW.saturating_mul(limits.streams).clamp(least, most));
    let watched = Arc::clone(&activity);
    let answer = service_fn(move |request| answer(&front.proxies, source, &watched, &service, request));
    let mut connection = pin!(http.serve_connection(TokioIo::new(Corked::new(wire, early)), answer));
    let (mut stops, mut idle) = (false, false);
    let ended = loop {
        tokio::select! {
            // Cancel-safe, as above.
            ended = connection.as_mut() => break ended,
            _ = stopped.changed(), if !stops => {
                stops = true;
                connection.as_mut().graceful_shutdown();
            }
            () = activity.crowded.notified(), if !idle => {
                idle = true;
                connection.as_mut().graceful_shutdown();
            }
            () = sleep_until(activity.next_look(limits.head)) => if activity.is_late(limits.head) {
                if idle {
                    return;
                }
                // Streams that are being written to their end may be: GOAWAY, and as long again.
                idle = true;
                activity.touch();
                connection.as_mut().graceful_shutdown();
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(peer = %source.addr, error = &error as &dyn std::error::Error, "HTTP/2 connection ended");
    }
}

/// Gives a request to the service, with all that is known of where it came from.
fn answer<S>(
    proxies: &Proxies,
    source: Source,
    activity: &Arc<Activity>,
    service: &S,
    request: Request<Incoming>,
) -> impl Future<Output = Result<Response, Infallible>> + use<S>
where
    S: Service<Request<Body>, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    let activity = Arc::clone(activity);
    let underway = Underway::new(&activity);
    let mut request = request.map(Body::new);
    let version = request.version();
    let source = proxies.origin(source, request.headers());
    if let (Version::HTTP_2, Some(authority)) = (version, request.uri().authority()) {
        // RFC 9113 §8.3.1: it stands for Host, and takes precedence. An authority is visible ASCII.
        if let Ok(host) = HeaderValue::from_str(authority.as_str()) {
            request.headers_mut().insert(header::HOST, host);
        }
    }
    let extensions = request.extensions_mut();
    extensions.insert(PeerAddr(source.addr));
    extensions.insert(source);
    extensions.insert(underway.clone());
    // A service that is always ready: axum's routers and our gates are.
    let mut service = service.clone();
    let unheard = Unheard(Some(request));
    async move {
        let request = unheard.hear();
        let mut answer = if request.method() == Method::CONNECT && !handshake::asks_for_websocket(&request) {
            // RFC 9220 §3, and RFC 9110 §9.3.6: we are no proxy, and know no other protocol.
            let words = "CONNECT is for WebSockets only here (RFC 8441)";
            Ok(Refusal::new(BAD_REQUEST.say(words)).status(StatusCode::NOT_IMPLEMENTED).http(None))
        } else {
            service.call(request).await
        };
        drop(underway);
        if let Ok(answer) = &mut answer
            && version < Version::HTTP_2
            && answer.status() != StatusCode::SWITCHING_PROTOCOLS
            && activity.is_crowded()
        {
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        answer
    }
}

/// A request that no service has seen. Dropped like that, because the client was gone before its turn came, a valid
/// opening handshake has its ending all the same.
struct Unheard(Option<Request<Body>>);

impl Unheard {
    fn hear(mut self) -> Request<Body> {
        self.0.take().unwrap_or_else(|| unreachable!("taken once, by value"))
    }
}

impl Drop for Unheard {
    fn drop(&mut self) {
        let Some(request) = self.0.take().filter(handshake::asks_for_websocket) else { return };
        if handshake::check(&request).is_ok() {
            let connection = unhoused(&request);
            let ending = observe::never_open(&connection, EndCause::Lost(Loss::Eof), None);
            observe::ended(&connection, &ending);
        }
    }
}

/// A connection that came to no gate.
fn unhoused<B>(request: &Request<B>) -> Connection {
    Connection::new(Arc::default(), Asked::of(request), false)
}

/// Answers plain HTTP where there is a certificate.
#[derive(Clone)]
struct TlsOnly;

impl Service<Request<Body>> for TlsOnly {
    type Response = Response;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Infallible>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let words = "This port speaks TLS: connect with wss:// or https://";
        let mut id = None;
        if handshake::asks_for_websocket(&request) {
            let connection = unhoused(&request);
            observe::refused_handshake(&connection, words);
            id = Some(connection.id.simple().to_string());
        }
        let mut response = Refusal::new(BAD_REQUEST.say(words)).http(id);
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        std::future::ready(Ok(response))
    }
}

/// Says 408 to whoever has begun a request and did not end it in time.
async fn too_late(io: Corked, peer: SocketAddr) {
    tracing::debug!(%peer, "the head of a request did not arrive in time");
    turn_away(io, &Refusal::new(TIMEOUT.say("The request did not arrive in time"))).await;
}

/// Answers a connection that no request came of, and ends it.
async fn turn_away(mut io: Corked, refusal: &Refusal) {
    let (time, most) = LATE_READ;
    let goodbye = async {
        io.write_all(&refusal.written()).await?;
        io.shutdown().await?;
        tokio::io::copy(&mut io.take(most), &mut tokio::io::sink()).await
    };
    // It is told, or is not there to be told.
    let _ = timeout(time, goodbye).await;
}

// ---- what goes on -----------------------------------------------------------------------------------------------

/// What goes on on a connection. While nothing does it has one of the places for those who wait, or is ended.
pub(crate) struct Activity {
    front: Arc<Front>,
    /// Whose share its place is of.
    from: Option<IpAddr>,
    now: Mutex<Now>,
    /// There was no place left for it.
    crowded: Notify,
    /// Streams that wait for the peer's END_STREAM.
    ending: AtomicUsize,
}

#[derive(Debug)]
struct Now {
    /// Requests and sessions.
    open: usize,
    /// When there was last one, or a sign of life.
    since: Instant,
    place: Option<Place>,
}

impl Activity {
    fn new(front: Arc<Front>, from: Option<IpAddr>, place: Place, since: Instant) -> Self {
        let now = Mutex::new(Now { open: 0, since, place: Some(place) });
        Self { front, from, now, crowded: Notify::new(), ending: AtomicUsize::new(0) }
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        // Nothing in here panics with the lock held.
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It goes on: time is counted from now.
    pub(crate) fn touch(&self) {
        self.now().since = Instant::now();
    }

    fn begin(&self) {
        let mut now = self.now();
        now.open += 1;
        now.place = None;
    }

    fn end(&self) {
        let mut now = self.now();
        now.open -= 1;
        now.since = Instant::now();
        if now.open == 0 {
            now.place = self.front.place(&self.front.waiting, self.from).ok();
            if now.place.is_none() {
                self.crowded.notify_one();
            }
        }
    }

    /// Nothing goes on, and there was no place for that.
    fn is_crowded(&self) -> bool {
        let now = self.now();
        now.open == 0 && now.place.is_none()
    }

    fn due(&self, most: Duration) -> Option<Instant> {
        let now = self.now();
        (now.open == 0).then_some(now.since + most)
    }

    /// When to look whether it is late.
    fn next_look(&self, most: Duration) -> Instant {
        self.due(most).unwrap_or_else(|| Instant::now() + most)
    }

    fn is_late(&self, most: Duration) -> bool {
        self.due(most).is_some_and(|due| due <= Instant::now())
    }
}

/// A request that is being answered, or a session in a stream of HTTP/2: while there is one, its connection stands.
#[derive(Clone)]
pub(crate) struct Underway(Arc<Counted>);

struct Counted(Arc<Activity>);

impl Underway {
    fn new(activity: &Arc<Activity>) -> Self {
        activity.begin();
        Self(Arc::new(Counted(Arc::clone(activity))))
    }
}

impl Underway {
    /// A place among the streams that wait for the peer's END_STREAM, of which there are a few at most.
    pub(crate) fn ending(&self) -> Option<Ending> {
        let activity = &self.0.0;
        let taken = activity.ending.fetch_add(1, Ordering::Relaxed);
        let ending = Ending(Arc::clone(activity));
        (taken < ENDING_STREAMS).then_some(ending)
    }
}

/// A place among the streams that wait for the peer's END_STREAM.
pub(crate) struct Ending(Arc<Activity>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.ending.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_ends_with_an_empty_line_wherever_it_is_cut() {
        for (head, end) in [("GET / HTTP/1.1\r\nHost: a\r\n\r\nmore", 27), ("GET / HTTP/1.1\nHost: a\n\n", 24)] {
            for step in 1..=head.len() {
                let (mut seen, mut read) = (0, 0);
                let ended = loop {
                    if has_empty_line(&head.as_bytes()[..read], &mut seen) {
                        break read;
                    }
                    assert!(read < head.len(), "{head:?} in steps of {step} has no end");
                    read = head.len().min(read + step);
                };
                assert!((end..end + step).contains(&ended), "{head:?} in steps of {step}: {ended}");
            }
        }
    }

    #[test]
    fn t15_nothing_is_looked_at_twice_but_the_beginning_of_an_end() {
        // An empty line that was passed over before is not found again.
        let head = b"a\r\n\r\nbcdef";
        let mut seen = 7;
        assert!(!has_empty_line(head, &mut seen));
        assert_eq!(seen, head.len());
    }
}
