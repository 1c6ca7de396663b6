//! Accepting TCP connections, until told to stop.

use crate::incoming::{self, Front};
use crate::proxies::Proxies;
use crate::tls::Tls;
use axum_core::body::Body;
use axum_core::response::Response;
use http::Request;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tower_service::Service;

/// How connections are taken.
#[derive(Clone, Debug, Default)]
pub struct Listening {
    /// What the head of a request may take, and an HTTP connection.
    pub limits: HttpLimits,
    /// The certificate of this address. Without one it speaks plain HTTP.
    pub tls: Option<Tls>,
    /// Who is believed about where a connection comes from. By default nobody.
    pub proxies: Proxies,
}

impl From<HttpLimits> for Listening {
    fn from(limits: HttpLimits) -> Self {
        Self { limits, ..Self::default() }
    }
}

/// What the head of a request may take, and an HTTP connection.
#[derive(Clone, Copy, Debug)]
pub struct HttpLimits {
    /// From the connection, through PROXY header and TLS, to the last byte of the head: 408 past it. And how long an HTTP
    /// connection may stand with nothing going on.
    pub head: Duration,
    /// Bytes of the head: 431 past it. At least 8 KiB.
    pub head_bytes: usize,
    /// Headers: 431 past it.
    pub headers: usize,
    /// Connections on which nothing goes on, neither a request nor a session, such as those whose first head has not come
    /// yet: 503 past it for the next, and those that stand end instead of waiting for another request.
    pub waiting: usize,
    /// Those from one address (a /64 in IPv6), unless it is a trusted proxy's.
    pub waiting_per_address: usize,
    /// Requests and WebSockets at once in one HTTP/2 connection: a client that keeps to RFC 9113 opens no more. With 0
    /// HTTP/2 is not spoken.
    pub streams: u32,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(10),
            head_bytes: 16 * 1024,
            headers: 100,
            waiting: 10_000,
            waiting_per_address: 256,
            streams: 100,
        }
    }
}

/// How long to wait when the process has no descriptor left for one more connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long HTTP connections may take to say goodbye when the server stops.
const GOODBYE: Duration = Duration::from_secs(1);

/// Serves HTTP/1.1 and HTTP/2 with WebSockets until `stop` is done; then takes no more connections, gives those that
/// stand a moment to end, and returns. Sessions go on by themselves: end them with [`Gate::drain`](crate::Gate::drain)
/// first.
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
    serve_with(Listening::default(), listener, service, stop).await
}

/// As [`serve`], with limits of your own, TLS, or proxies in front.
///
/// ```no_run
/// # async fn run(app: axum::Router) -> Result<(), Box<dyn std::error::Error>> {
/// use saywhy::{Listening, Tls};
///
/// let listening = Listening { tls: Some(Tls::from_files("cert.pem", "key.pem")?), ..Listening::default() };
/// let listener = tokio::net::TcpListener::bind("0.0.0.0:443").await?;
/// saywhy::serve_with(listening, listener, app, std::future::pending()).await?;
/// # Ok(()) }
/// ```
///
/// # Errors
/// As [`serve`].
pub async fn serve_with<S>(
    listening: impl Into<Listening>,
    listener: TcpListener,
    service: S,
    stop: impl Future<Output = ()>,
) -> io::Result<()>
where
    S: Service<Request<Body>, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    let front = Arc::new(Front::new(listening.into()));
    let mut stop = pin!(stop);
    // Each connection holds a receiver for as long as it lasts.
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
                tokio::spawn(incoming::connection(Arc::clone(&front), tcp, peer, service.clone(), stopped.clone()));
            }
            Err(error) => {
                tracing::warn!(%error, "accept failed; hint: is the limit of open files too low? (ulimit -n)");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop((listener, stopped));
    let _ = stopping.send(());
    // What is left then, a session that nobody drained, goes on without us.
    let _ = tokio::time::timeout(GOODBYE, stopping.closed()).await;
    Ok(())
}
