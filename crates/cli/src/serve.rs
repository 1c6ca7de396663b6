//! `saywhy serve`: from a configuration to a server that says what it does, and stops gracefully.

use crate::check;
use crate::config::{Config, LogFormat, LogLevel};
use crate::dev;
use crate::keys;
use crate::routes::{self, Served};
use axum::Router;
use axum::routing::get;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use saywhy::catalogue::NOT_FOUND;
use saywhy::{Catalogue, Drained, Gate, Listening, Refusal, Tls, TokenKeys, TokenSigner};
use saywhy_rooms::Rooms;
use saywhy_rooms::api::Api;
use std::fmt;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tracing::Level;

/// Where the HTTP API stands.
const API: &str = "/api/v1";

/// How often the files of the certificate are looked at.
const CERTIFICATE_LOOK: Duration = Duration::from_secs(2);

/// Serves until told to stop.
pub(crate) fn run(config: Config) -> ExitCode {
    start_log(&config);
    log_panics();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed("failed to start", &error, "is the machine out of threads or of open files?"),
    };
    runtime.block_on(serve(&config))
}

async fn serve(config: &Config) -> ExitCode {
    let signals = match Signals::new() {
        Ok(signals) => signals,
        Err(error) => return failed("failed to listen for signals", &error, "is the machine out of open files?"),
    };
    let tls = match config.tls.as_ref().map(|tls| Tls::from_files(&tls.certificate_file, &tls.key_file)).transpose() {
        Ok(tls) => tls,
        Err(problem) => return failed("failed to set up TLS", &problem, problem.hint()),
    };
    let listener = match TcpListener::bind(config.listen).await {
        Ok(listener) => listener,
        Err(error) => return failed(&format!("failed to listen on {}", config.listen), &error, hint(&error)),
    };
    let api_listener = match &config.api {
        Some(api) => match TcpListener::bind(api.listen).await {
            Ok(listener) => Some(listener),
            Err(error) => return failed(&format!("failed to listen on {}", api.listen), &error, hint(&error)),
        },
        None => None,
    };
    let metrics = match PrometheusBuilder::new().install_recorder() {
        Ok(metrics) => metrics,
        Err(error) => return failed("failed to start the metrics", &error, "is something else counting already?"),
    };
    let keys = match token_keys(config) {
        Ok(keys) => keys,
        Err(error) => {
            let (what, hint) = keys::NO_CERTIFICATES;
            return failed(what, &error, hint);
        }
    };
    if let Some(tls) = tls.clone() {
        match signal(SignalKind::hangup()) {
            Ok(hangup) => drop(tokio::spawn(keep_certificate(tls, hangup))),
            Err(error) => return failed("failed to listen for signals", &error, "is the machine out of open files?"),
        }
    }
    let server = match Server::new(config, tls, keys, metrics).await {
        Ok(server) => server,
        Err(error) => {
            let (_, hint) = keys::NO_CERTIFICATES;
            return failed("failed to find certificates to trust, for the check of a route", &error, hint);
        }
    };
    match server.announce(&listener, api_listener.as_ref()) {
        Ok(()) => {}
        // Whoever started us does not read what we say; we serve all the same.
        Err(error) => tracing::debug!(%error, "standard output is closed"),
    }
    server.run(listener, api_listener, signals).await
}

struct Server<'a> {
    config: &'a Config,
    tls: Option<Tls>,
    house: Gate,
    routes: Vec<Served>,
    /// What development mode mints tokens with.
    signer: Arc<TokenSigner>,
    catalogue: Arc<Catalogue>,
    api_key: String,
    metrics: PrometheusHandle,
}

impl<'a> Server<'a> {
    async fn new(
        config: &'a Config,
        tls: Option<Tls>,
        (keys, signer): (TokenKeys, TokenSigner),
        metrics: PrometheusHandle,
    ) -> io::Result<Self> {
        let house = routes::house(config);
        let (keys, signer) = (Arc::new(keys), Arc::new(signer));
        let mut served = Vec::new();
        for route in &config.routes {
            served.push(Served::new(route, config.token_policy(route), &keys, &house).await?);
        }
        if config.is_development() {
            dev::furnish(&served).await;
        }
        let configured = config.api.as_ref().and_then(|api| api.key.as_ref());
        let api_key = configured.map_or_else(dev::secret, |key| key.expose().to_owned());
        let catalogue = Arc::new(config.catalogue.clone());
        Ok(Self { config, tls, house, routes: served, signer, catalogue, api_key, metrics })
    }

    /// Data on standard output, one `key value` per line, for scripts; talk on standard error, for people.
    fn announce(&self, listener: &TcpListener, api: Option<&TcpListener>) -> io::Result<()> {
        let at = listener.local_addr()?;
        let (http, ws) = self.schemes();
        let mut out = io::stdout().lock();
        if self.has_page() {
            writeln!(out, "page {http}://{at}/")?;
        }
        for route in &self.routes {
            writeln!(out, "route {ws}://{at}{}", route.path)?;
        }
        match api {
            Some(api) => writeln!(out, "api http://{}{API}", api.local_addr()?)?,
            None if self.has_own_api() => writeln!(out, "api {http}://{at}{API}")?,
            None => {}
        }
        if self.has_own_api() {
            writeln!(out, "api-key {}", self.api_key)?;
        }
        writeln!(out, "ready")?;
        out.flush()?;
        self.greet(at);
        Ok(())
    }

    /// Whether the page of development mode is there: for rooms, and where nothing else is.
    fn has_page(&self) -> bool {
        let is_free = self.routes.iter().all(|route| route.path != "/");
        self.config.is_development() && is_free && self.routes.iter().any(|route| route.rooms().is_some())
    }

    /// Whether development mode has an API: it is about rooms.
    fn has_own_api(&self) -> bool {
        self.config.is_development() && self.routes.iter().any(|route| route.rooms().is_some())
    }

    fn schemes(&self) -> (&'static str, &'static str) {
        if self.tls.is_some() { ("https", "wss") } else { ("http", "ws") }
    }

    fn greet(&self, at: SocketAddr) {
        if !self.has_page() {
            return;
        }
        let (http, _) = self.schemes();
        match self.config.log.format {
            LogFormat::Json => tracing::warn!("development mode: whoever reaches {at} can mint tokens"),
            LogFormat::Text => self.talk(format_args!(
                "\n  DEVELOPMENT MODE: whoever reaches {at} can mint tokens. This machine only.\n  \
                 Open {http}://{at}/ to see what a refused WebSocket can say.\n  \
                 For production, give it a [token] key: saywhy serve --config saywhy.toml\n  \
                 Ctrl-C drains and stops.\n"
            )),
        }
    }

    /// To the person at the terminal; to a machine that reads our log it is a line of that.
    fn talk(&self, words: fmt::Arguments<'_>) {
        match self.config.log.format {
            LogFormat::Json => tracing::info!("{words}"),
            // Unlike `eprintln!`, without a panic when nobody listens any more.
            LogFormat::Text => drop(writeln!(io::stderr(), "{words}")),
        }
    }

    async fn run(self, listener: TcpListener, api_listener: Option<TcpListener>, mut signals: Signals) -> ExitCode {
        let (stop, stopped) = watch::channel(());
        let until = |mut stopped: watch::Receiver<()>| async move {
            let _ = stopped.changed().await;
        };
        let limits = routes::http_limits(self.config);
        let service = self.service(api_listener.is_none());
        let listening = Listening { limits, tls: self.tls.clone(), proxies: routes::proxies(self.config) };
        let main = tokio::spawn(saywhy::serve_with(listening, listener, service, until(stopped.clone())));
        let api = api_listener.map(|listener| {
            tokio::spawn(saywhy::serve_with(limits, listener, self.api_service(), until(stopped.clone())))
        });
        signals.next().await;
        let code = tokio::select! {
            code = self.drain() => code,
            () = signals.next() => {
                self.talk(format_args!("stopped at once: {} sessions were cut", self.house.sessions().len()));
                ExitCode::from(130)
            }
        };
        drop(stop);
        drop(stopped);
        for server in [Some(main), api].into_iter().flatten() {
            if let Ok(Err(error)) = server.await {
                tracing::error!(%error, "a listener failed");
            }
        }
        code
    }

    async fn drain(&self) -> ExitCode {
        let plan = routes::drain_plan(self.config);
        let sessions = self.house.sessions().len();
        let deadline = plan.deadline;
        self.talk(format_args!("draining {sessions} sessions, for at most {deadline:?}; Ctrl-C again stops at once"));
        let Drained { sessions, cut } = self.house.drain(plan).await;
        // One that was being let in when it began is among those that were cut only.
        let left = sessions.saturating_sub(cut);
        self.talk(format_args!("drained: {left} sessions left by themselves, {cut} were cut"));
        ExitCode::SUCCESS
    }

    /// Everything that stands on the main address.
    fn service(&self, with_api: bool) -> Router {
        let mut rest = Router::new();
        let root_is_free = self.routes.iter().all(|route| route.path != "/");
        if self.config.is_development() && root_is_free {
            rest =
                rest.merge(dev::router(&self.house, &self.routes, &self.signer, &self.catalogue, &self.api_key, API));
        }
        if self.config.is_development() && (with_api || root_is_free) {
            rest = rest.nest(API, self.api().router());
        }
        if root_is_free {
            rest = rest.fallback(|| async { Refusal::new(NOT_FOUND.say("There is nothing at this path")) });
        }
        // An unknown path is refused as readably as a known one.
        let mut rest = rest.layer(self.house.clone());
        if self.config.is_development() && root_is_free {
            rest = rest.merge(dev::usual(&self.house));
        }
        self.routes.iter().fold(rest, |all, route| all.merge(route.router()))
    }

    /// The rooms of the first route are at `/rooms`; those of every route at `/at/<path>/rooms`.
    fn api(&self) -> ApiRoutes<'_> {
        ApiRoutes { routes: &self.routes, house: &self.house, catalogue: &self.catalogue, key: &self.api_key }
    }

    fn api_service(&self) -> Router {
        let metrics = self.metrics.clone();
        Router::new()
            .nest(API, self.api().router())
            .route("/metrics", get(move || std::future::ready(metrics.render())))
            .fallback(|| async { Refusal::new(NOT_FOUND.say("The API has no such path; it begins at /api/v1")) })
    }
}

struct ApiRoutes<'a> {
    routes: &'a [Served],
    house: &'a Gate,
    catalogue: &'a Arc<Catalogue>,
    key: &'a str,
}

impl ApiRoutes<'_> {
    fn router(&self) -> Router {
        let api =
            |rooms: &Rooms| Api::new(rooms.clone(), self.house.clone(), Arc::clone(self.catalogue), self.key).router();
        let with_rooms = || self.routes.iter().filter_map(|route| Some((&*route.path, route.rooms()?)));
        let mut all = with_rooms().next().map_or_else(Router::new, |(_, rooms)| api(rooms));
        for (path, rooms) in with_rooms().filter(|(path, _)| *path != "/") {
            all = all.nest(&format!("/at{path}"), api(rooms));
        }
        all
    }
}

/// The keys of the configuration, and what development mode signs with, which nothing accepts elsewhere.
fn token_keys(config: &Config) -> io::Result<(TokenKeys, TokenSigner)> {
    let secret = dev::secret();
    let signer = TokenSigner::hs256(secret.as_bytes());
    let Some(token) = &config.token else { return Ok((TokenKeys::hs256(secret.as_bytes()), signer)) };
    let (keys, published) = keys::of(token)?;
    if let Some(published) = published {
        // Whether they can be had is in the log before anybody needs them.
        published.begin();
    }
    Ok((keys, signer))
}

/// Takes a new certificate when its files change, and when it is told to. What cannot be used is not taken.
async fn keep_certificate(tls: Tls, mut hangup: Signal) {
    let mut looks = tokio::time::interval(CERTIFICATE_LOOK);
    loop {
        tokio::select! {
            _ = looks.tick() => {
                if !tls.has_changed() {
                    continue;
                }
            }
            _ = hangup.recv() => {}
        }
        match tls.reload() {
            Ok(()) => tracing::info!("new connections get the certificate that was read now"),
            Err(problem) => {
                let hint = problem.hint();
                tracing::error!(%problem, hint, "the certificate was not changed: the one before is kept");
            }
        }
    }
}

/// Ctrl-C, and what a supervisor sends. Made before the server says that it is ready: a signal that nobody listens for
/// yet would end it without a word.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

fn start_log(config: &Config) {
    let level = match config.log.level {
        LogLevel::Error => Level::ERROR,
        LogLevel::Warn => Level::WARN,
        LogLevel::Info => Level::INFO,
        LogLevel::Debug => Level::DEBUG,
        LogLevel::Trace => Level::TRACE,
    };
    let log = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(io::stderr)
        .with_ansi(check::colour())
        // It would tell standard error that standard error is gone, and panic.
        .log_internal_errors(false);
    match config.log.format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().flatten_event(true).with_current_span(false).with_span_list(false).init(),
    }
}

/// A panic is a line of the log like any other, not a page of text in the middle of it.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let words = panic.payload_as_str().unwrap_or("without words");
        let place = panic.location().map(ToString::to_string);
        tracing::error!(place, words, "panicked");
    }));
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "something else listens there: stop it, or choose another with --listen",
        io::ErrorKind::PermissionDenied => "ports below 1024 need a privilege: choose another with --listen",
        io::ErrorKind::AddrNotAvailable => "this machine has no such address: choose another with --listen",
        _ => "choose another address with --listen",
    }
}

fn failed(what: &str, error: &dyn std::error::Error, hint: &str) -> ExitCode {
    eprintln!("error: {what}: {error}\nhint: {hint}");
    ExitCode::FAILURE
}
