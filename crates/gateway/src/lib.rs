//! In front of any WebSocket back end, unmodified: what it refuses, and how it fails, its clients can read.
//!
//! ```text
//! admission ─► dial.rs ─► handshake.rs ──101──► saywhy: Admission::relay
//!              which one?   the request, rewritten
//!                 │            │ any other answer, or none
//!                 └────────────┴──► translate.rs ─► Refusal
//! ```
//!
//! The client's own 101 is written when the upstream's is there and valid. Until then nothing of the client's goes
//! upstream but its request, rewritten.

// No panic is reachable from the network.
#![warn(clippy::unwrap_used, clippy::expect_used)]

mod dial;
mod handshake;
mod translate;

pub use dial::Address;

use axum_core::response::Response;
use dial::Backend;
use handshake::Offer;
use http::request::Parts;
use rustls::ClientConfig;
use saywhy::{Admission, Limits, Refusal, Upstream};
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// How upstreams are treated.
#[derive(Clone, Debug)]
pub struct Options {
    /// The path of the route: an upstream with a path of its own has that instead.
    pub route: String,
    /// From the client's request to the upstream's answer: `gateway_timeout`.
    pub answer: Duration,
    /// What an upstream may take and send.
    pub limits: Arc<Limits>,
    /// Whether an upstream's own words about a refusal are passed on: those of a 4xx with a body in JSON, from the
    /// members `message`, `error`, `detail` or `reason`.
    pub reasons: bool,
}

/// The back ends behind one route.
pub struct Gateway {
    backends: Vec<Backend>,
    next: AtomicUsize,
    options: Options,
}

impl Gateway {
    /// In front of these, of which each is as good as the others.
    ///
    /// # Errors
    /// When one of them is `wss` and the machine has no certificates to trust.
    pub fn new(addresses: impl IntoIterator<Item = Address>, options: Options) -> io::Result<Self> {
        let mut tls = None;
        let mut backends = Vec::new();
        for address in addresses {
            let connector = match (address.is_secure(), &tls) {
                (false, _) => None,
                (true, Some(connector)) => Some(TlsConnector::clone(connector)),
                (true, None) => Some(tls.insert(trusting_the_machine()?).clone()),
            };
            backends.push(Backend::new(address, connector));
        }
        Ok(Self { backends, next: AtomicUsize::new(0), options })
    }

    /// Joins a connection to an upstream. `request` is what the client asked for.
    ///
    /// Cancel-safe: the upstream is let go of.
    ///
    /// # Errors
    /// The upstream's refusal, or that it cannot be reached, does not answer or answers nonsense; and `bad_request` for a
    /// path that means different things to different servers.
    pub async fn relay(&self, admission: Admission, request: &Parts) -> Result<Response, Refusal> {
        let offer = Offer::of(request, &admission)?;
        // The gate would only say that it took too long, and not who.
        let time = self.options.answer.min(admission.time_left().saturating_sub(MARGIN));
        let mut asked = None;
        let upstream = timeout(time, self.ask(offer, time, &mut asked)).await;
        // Who had less time than it should have is not to blame.
        let had_its_time = upstream.is_ok() || time == self.options.answer;
        let upstream = upstream.unwrap_or_else(|_| Err(translate::too_late(time)));
        match (asked, &upstream) {
            (Some(backend), Ok(_)) => backend.works(),
            (Some(backend), Err(refusal)) if had_its_time && translate::is_its_fault(refusal) => backend.ails(refusal),
            (Some(_), Err(_)) | (None, _) => {}
        }
        Ok(admission.relay(upstream?))
    }

    /// `asked` is the back end that was, as soon as there is one: it is not asked again, and no other is.
    async fn ask<'a>(
        &'a self,
        offer: Offer,
        time: Duration,
        asked: &mut Option<&'a Backend>,
    ) -> Result<Upstream, Refusal> {
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        let connected = dial::any(&self.backends, first, time).await?;
        *asked = Some(connected.backend);
        handshake::ask(connected, offer, &self.options).await
    }
}

/// What is left of the time for a decision when an upstream has used up the rest.
const MARGIN: Duration = Duration::from_millis(100);

fn trusting_the_machine() -> io::Result<TlsConnector> {
    let mut roots = rustls::RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "no certificates to trust were found on this machine"));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(io::Error::other)?.with_root_certificates(roots).with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateway")
            .field("backends", &self.backends)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}
