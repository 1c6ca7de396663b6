//! Accepting TCP connections and speaking HTTP on them, until told to stop.

use crate::connection::Connection;
use crate::gate::PeerAddr;
use crate::handshake;
use crate::observe;
use crate::stream::Corked;
use axum_core::body::Body;
use axum_core::response::Response;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use saywhy_codes::{EndCause, Loss};
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tower_service::Service;

/// What the head of a request may take.
#[derive(Clone, Copy, Debug)]
pub struct HttpLimits {
    /// From the first byte to the last.
    pub head: Duration,
    /// Bytes of the head: 431 past it. At least 8 KiB.
    pub head_bytes: usize,
    /// Headers: 431 past it.
    pub headers: usize,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self { head: Duration::from_secs(10), head_bytes: 16 * 1024, headers: 100 }
    }
}

/// How long to wait when the process has no descriptor left for one more connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves HTTP/1.1 with WebSockets until `stop` is done; then takes no more connections and returns. Sessions go on
/// by themselves: end them with [`Gate::drain`](crate::Gate::drain) first.
///
/// With it, a refusal leaves in one packet: the 101 is held back until the session writes.
///
/// # Errors
/// None at present: a failed `accept` is logged and tried again.
pub async fn serve<S>(listener: TcpListener, service: S, stop: impl Future<Output = ()>) -> io::Result<()>
where
    S: Service<Request<Body>, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    serve_with(HttpLimits::default(), listener, service, stop).await
}

/// As [`serve`], with limits of your own.
///
/// # Errors
/// As [`serve`].
pub async fn serve_with<S>(
    limits: HttpLimits,
    listener: TcpListener,
    service: S,
    stop: impl Future<Output = ()>,
) -> io::Result<()>
where
    S: Service<Request<Body>, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    let mut stop = pin!(stop);
    let (stopping, stopped) = watch::channel(());
    loop {
        let accepted = tokio::select! {
            // Cancel-safe: a connection is accepted or it is not.
            accepted = listener.accept() => accepted,
            () = &mut stop => break,
        };
        match accepted {
            Ok((tcp, peer)) => {
                // Frames are put together before they are written, so waiting for more would only delay them.
                let _ = tcp.set_nodelay(true);
                tokio::spawn(connection(limits, tcp, PeerAddr(peer), service.clone(), stopped.clone()));
            }
            Err(error) => {
                tracing::warn!(%error, "accept failed; hint: is the limit of open files too low? (ulimit -n)");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(stopping);
    Ok(())
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
        let Some(request) = self.0.take().filter(|request| handshake::asks_for_websocket(request.headers())) else {
            return;
        };
        if handshake::check(&request).is_ok() {
            let peer = request.extensions().get::<PeerAddr>().map(|peer| peer.0.ip());
            let connection = Connection::new(Arc::default(), request.uri().path().into(), peer, false);
            let ending = observe::never_open(&connection, EndCause::Lost(Loss::Eof), None);
            observe::ended(&connection, &ending);
        }
    }
}

async fn connection<S>(limits: HttpLimits, tcp: TcpStream, peer: PeerAddr, service: S, mut stopped: watch::Receiver<()>)
where
    S: Service<Request<Body>, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    let answer = service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(peer);
        // A service that is always ready: axum's routers and our gates are.
        let mut service = service.clone();
        let unheard = Unheard(Some(request));
        async move { service.call(unheard.hear()).await }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new());
    http.header_read_timeout(limits.head).max_buf_size(limits.head_bytes.max(8 * 1024)).max_headers(limits.headers);
    let mut connection = pin!(http.serve_connection(TokioIo::new(Corked::new(tcp)), answer).with_upgrades());
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        _ = stopped.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        // A peer's mistake, or its disappearance, before there was a request.
        tracing::debug!(peer = %peer.0, error = &error as &dyn std::error::Error, "HTTP connection ended");
    }
}
