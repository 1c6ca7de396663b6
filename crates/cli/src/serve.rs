//! `saywhy serve`: from a configuration to a server that says what it does, and stops gracefully.

use crate::check;
use crate::config::{Config, LogFormat, LogLevel, ServeArgs};
use crate::routes;
use crate::setup::{API, Current, Run, Setup};
use metrics_exporter_prometheus::PrometheusBuilder;
use saywhy::{Drained, Listening, Tls};
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

/// How often the files of the certificate are looked at.
const CERTIFICATE_LOOK: Duration = Duration::from_secs(2);

/// Serves until told to stop. `args` are where the configuration comes from, should it be read again.
pub(crate) fn run(config: Config, args: ServeArgs) -> ExitCode {
    start_log(config.log.level, config.log.format);
    log_panics();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed("failed to start", &error, "is the machine out of threads or of open files?"),
    };
    runtime.block_on(serve(config, args))
}

async fn serve(config: Config, args: ServeArgs) -> ExitCode {
    let tls = match config.tls.as_ref().map(|tls| Tls::from_files(&tls.certificate_file, &tls.key_file)).transpose() {
        Ok(tls) => tls,
        Err(problem) => return failed("failed to set up TLS", &problem, problem.hint()),
    };
    // Without anything to read again, SIGHUP is what it usually is: the terminal is gone.
    let rereads = tls.is_some() || args.config.is_some();
    let signals = match Signals::new(rereads) {
        Ok(signals) => signals,
        Err(error) => return failed("failed to listen for signals", &error, "is the machine out of open files?"),
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
    let run = Arc::new(Run::new(&config, metrics));
    let setup = match Setup::new(config, run).await {
        Ok(setup) => setup,
        Err(unserved) => return failed(unserved.what, &unserved.error, unserved.hint),
    };
    let (main, api) = (Current::new(setup.service()), Current::new(setup.api_service()));
    let mut server = Server { setup, args, tls, main, api };
    match server.announce(&listener, api_listener.as_ref()) {
        Ok(()) => {}
        // Whoever started us does not read what we say; we serve all the same.
        Err(error) => tracing::debug!(%error, "standard output is closed"),
    }
    server.run(listener, api_listener, signals).await
}

struct Server {
    setup: Setup,
    args: ServeArgs,
    tls: Option<Tls>,
    main: Current,
    api: Current,
}

impl Server {
    /// Data on standard output, one `key value` per line, for scripts; talk on standard error, for people.
    fn announce(&self, listener: &TcpListener, api: Option<&TcpListener>) -> io::Result<()> {
        let at = listener.local_addr()?;
        let (http, ws) = self.schemes();
        let mut out = io::stdout().lock();
        if self.setup.has_page() {
            writeln!(out, "page {http}://{at}/")?;
        }
        for route in &self.setup.routes {
            writeln!(out, "route {ws}://{at}{}", route.path)?;
        }
        match api {
            Some(api) => writeln!(out, "api http://{}{API}", api.local_addr()?)?,
            None if self.setup.has_own_api() => writeln!(out, "api {http}://{at}{API}")?,
            None => {}
        }
        if self.setup.has_own_api() {
            writeln!(out, "api-key {}", self.setup.api_key())?;
        }
        writeln!(out, "ready")?;
        out.flush()?;
        self.greet(at);
        Ok(())
    }

    fn schemes(&self) -> (&'static str, &'static str) {
        if self.tls.is_some() { ("https", "wss") } else { ("http", "ws") }
    }

    fn greet(&self, at: SocketAddr) {
        if !self.setup.has_page() {
            return;
        }
        let (http, _) = self.schemes();
        match self.setup.config.log.format {
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
        match self.setup.config.log.format {
            LogFormat::Json => tracing::info!("{words}"),
            // Unlike `eprintln!`, without a panic when nobody listens any more.
            LogFormat::Text => drop(writeln!(io::stderr(), "{words}")),
        }
    }

    async fn run(
        &mut self,
        listener: TcpListener,
        api_listener: Option<TcpListener>,
        mut signals: Signals,
    ) -> ExitCode {
        let (stop, stopped) = watch::channel(());
        let until = |mut stopped: watch::Receiver<()>| async move {
            let _ = stopped.changed().await;
        };
        let limits = routes::http_limits(&self.setup.config);
        let proxies = routes::proxies(&self.setup.config);
        let listening = Listening { limits, tls: self.tls.clone(), proxies };
        let (main, api) = (self.main.clone(), self.api.clone());
        let main = tokio::spawn(saywhy::serve_with(listening, listener, main, until(stopped.clone())));
        let api = api_listener
            .map(|listener| tokio::spawn(saywhy::serve_with(limits, listener, api, until(stopped.clone()))));
        let mut looks = tokio::time::interval(CERTIFICATE_LOOK);
        loop {
            tokio::select! {
                told = signals.next() => match told {
                    Told::Stop => break,
                    Told::ReadAgain => {
                        self.renew_certificate();
                        self.read_again().await;
                    }
                },
                _ = looks.tick() => {
                    if self.tls.as_ref().is_some_and(Tls::has_changed) {
                        self.renew_certificate();
                    }
                }
            }
        }
        let code = tokio::select! {
            code = self.drain() => code,
            () = signals.stop() => {
                let sessions = self.setup.house.sessions().len();
                self.talk(format_args!("stopped at once: {sessions} sessions were cut"));
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

    /// Takes what the file says now, all of it or nothing. Sessions go on as they began.
    async fn read_again(&mut self) {
        let Some(file) = &self.args.config else { return };
        let file = file.display().to_string();
        let config = match Config::load(&self.args) {
            Ok(config) => config,
            Err(failure) => {
                let problems = failure.render(false);
                let hint = "saywhy check says where";
                return tracing::error!(
                    file,
                    problems,
                    hint,
                    "the configuration was not taken: the one before is kept"
                );
            }
        };
        if config.is_development() != self.setup.config.is_development() {
            let hint = "restart it: from then on other tokens are good";
            return tracing::error!(file, hint, "development mode cannot be turned on or off in a run");
        }
        let fixed = self.setup.fixed_changes(&config);
        let ready = match self.setup.next(config).await {
            Ok(ready) => ready,
            Err(unserved) => {
                let (what, error, hint) = (unserved.what, unserved.error, unserved.hint);
                return tracing::error!(file, %error, what, hint, "the configuration was not taken: the one before is kept");
            }
        };
        self.setup = ready.set(&self.main, &self.api);
        let next = &self.setup;
        let routes: Vec<_> = next.routes.iter().map(|route| &*route.path).collect();
        let (routes, sessions) = (routes.join(" "), next.house.sessions().len());
        if !fixed.is_empty() {
            let (unchanged, hint) = (fixed.join(", "), "restart it for these");
            tracing::warn!(file, unchanged, hint, "a part of the configuration cannot be changed in a run");
        }
        tracing::info!(
            file,
            routes,
            sessions,
            "new connections get the configuration that was read now; sessions go on"
        );
    }

    /// What cannot be used is not taken.
    fn renew_certificate(&self) {
        let Some(tls) = &self.tls else { return };
        match tls.reload() {
            Ok(()) => tracing::info!("new connections get the certificate that was read now"),
            Err(problem) => {
                let hint = problem.hint();
                tracing::error!(%problem, hint, "the certificate was not changed: the one before is kept");
            }
        }
    }

    async fn drain(&self) -> ExitCode {
        let plan = routes::drain_plan(&self.setup.config);
        let sessions = self.setup.house.sessions().len();
        let deadline = plan.deadline;
        self.talk(format_args!("draining {sessions} sessions, for at most {deadline:?}; Ctrl-C again stops at once"));
        let Drained { sessions, cut } = self.setup.house.drain(plan).await;
        // One that was being let in when it began is among those that were cut only.
        let left = sessions.saturating_sub(cut);
        self.talk(format_args!("drained: {left} sessions left by themselves, {cut} were cut"));
        ExitCode::SUCCESS
    }
}

/// Ctrl-C, what a supervisor sends, and what asks to read everything again. Made before the server says that it is ready: a signal that nobody listens for
/// yet would end it without a word.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Option<Signal>,
}

enum Told {
    Stop,
    ReadAgain,
}

impl Signals {
    pub(crate) fn new(rereads: bool) -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: rereads.then(|| signal(SignalKind::hangup())).transpose()?,
        })
    }

    async fn next(&mut self) -> Told {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => Told::Stop,
            _ = self.terminate.recv() => Told::Stop,
            _ = hangup => Told::ReadAgain,
        }
    }

    pub(crate) async fn stop(&mut self) {
        while !matches!(self.next().await, Told::Stop) {}
    }
}

/// Begins the log, on standard error.
pub(crate) fn start_log(level: LogLevel, format: LogFormat) {
    let level = match level {
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
    match format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().flatten_event(true).with_current_span(false).with_span_list(false).init(),
    }
}

/// A panic is a line of the log like any other, not a page of text in the middle of it.
pub(crate) fn log_panics() {
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

pub(crate) fn failed(what: &str, error: &dyn std::error::Error, hint: &str) -> ExitCode {
    eprintln!("error: {what}: {error}\nhint: {hint}");
    ExitCode::FAILURE
}
