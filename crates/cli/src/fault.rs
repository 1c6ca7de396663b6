//! `saywhy fault`: a proxy that breaks connections on purpose, so that clients can be tested.

use crate::check::{colour, data};
use crate::config::{self, Complaint, LogFormat, LogLevel};
use crate::serve::{self, Signals};
use clap::Args;
use saywhy_probe::fault::{ALL, Entry, Proxy, Seen, Settings, Spec, Upstream, parse};
use serde_json::json;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use tokio::net::TcpListener;

/// What `saywhy fault` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
A fault is a name, perhaps with a value, and what follows it says when and for whom:

  --fault cut=rst,after=20msg          the 20th message is the last thing that arrives
  --fault refuse=503,times=3           the first three handshakes are refused
  --fault latency=200ms..500ms,lose,p=0.01
                                       two: everything is slow, and one message in a hundred is lost
  --fault restart=3s,every=30s         a deploy every half minute, which takes three seconds

  after=5s|10kB|20msg  how far into a connection     p=0.1          how probable, each time
  every=5s|10kB|20msg  and again each time           times=3        how often, over all connections
  at=30s               by the clock of the proxy     to=client|server|both
  for=/ws              only for paths that begin so

  saywhy fault --upstream ws://127.0.0.1:8080/ws --fault duplicate,p=0.1 --seed 7
  saywhy fault --upstream wss://example.com --host example.com --control 127.0.0.1:8091
  curl -X POST 127.0.0.1:8091/connections/all/fault -d '\"close=1012\"'
  curl -N '127.0.0.1:8091/events?follow'

Standard output has `listening URL`, `control URL`, `seed N` and `ready`; standard error a line for all that is done. The
same seed makes the same decisions for connections that come in the same order. docs/faults.md has recipes, and
--list what clients see of each fault. Exit codes: 0 stopped by a signal, 1 it cannot listen, 2 usage.")]
pub(crate) struct FaultArgs {
    /// The server: ws:// or wss://. Requests keep their path; a path here is only printed again
    #[arg(long, value_name = "URL", required_unless_present = "list")]
    upstream: Option<String>,
    /// Where clients connect
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8090")]
    listen: SocketAddr,
    /// What to break: see below. As often as there is something
    #[arg(long, value_name = "FAULT")]
    fault: Vec<String>,
    /// Where all decisions come from [default: random]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// An HTTP API to break things while it runs. It has no key, so it is for this machine
    #[arg(long, value_name = "ADDRESS")]
    control: Option<SocketAddr>,
    /// What the server is told as Host, instead of what the client says
    #[arg(long, value_name = "HOST")]
    host: Option<http::HeaderValue>,
    /// What the server is told as Origin, where the client has one
    #[arg(long, value_name = "ORIGIN")]
    origin: Option<http::HeaderValue>,
    /// Offer no compression to the server: with a context, one lost message would spoil those after it
    #[arg(long)]
    no_compression: bool,
    /// How what is done is written
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    log_format: LogFormat,
    /// Print all faults, and what clients see of each
    #[arg(long)]
    list: bool,
    /// With --list: as JSON
    #[arg(long, requires = "list")]
    json: bool,
}

/// Runs the command.
pub(crate) fn run(args: &FaultArgs) -> ExitCode {
    if args.list {
        data(if args.json { format!("{:#}", json!(ALL)) } else { list() }.trim_end());
        return ExitCode::SUCCESS;
    }
    let (settings, faults) = match read(args) {
        Ok(read) => read,
        Err(complaint) => {
            eprint!("{}", config::render("error:", &complaint, colour()));
            return ExitCode::from(2);
        }
    };
    serve::start_log(LogLevel::Info, args.log_format);
    serve::log_panics();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            return serve::failed("failed to start", &error, "is the machine out of threads or of open files?");
        }
    };
    runtime.block_on(proxy(args, settings, faults))
}

fn read(args: &FaultArgs) -> Result<(Settings, Vec<Arc<Spec>>), Complaint> {
    let url = args.upstream.as_deref().unwrap_or_default();
    let upstream: Upstream = url.parse().map_err(|wrong| {
        Complaint::new(format!("--upstream is not where a server is: {wrong}"), "such as ws://127.0.0.1:8080/ws")
    })?;
    let mut faults = Vec::new();
    for text in &args.fault {
        faults.extend(parse(text).map_err(|complaint| Complaint::new(complaint.message, complaint.hint))?);
    }
    let text = |value: &http::HeaderValue| value.to_str().map(str::to_owned);
    let wrong = |_| Complaint::new("--host and --origin are visible ASCII", "such as --host example.com");
    let settings = Settings {
        upstream,
        host: args.host.as_ref().map(text).transpose().map_err(wrong)?,
        origin: args.origin.as_ref().map(text).transpose().map_err(wrong)?,
        no_compression: args.no_compression,
        seed: args.seed.unwrap_or_else(|| u64::from(rand::random::<u32>())),
    };
    Ok((settings, faults))
}

async fn proxy(args: &FaultArgs, settings: Settings, faults: Vec<Arc<Spec>>) -> ExitCode {
    let mut signals = match Signals::new(false) {
        Ok(signals) => signals,
        Err(error) => {
            return serve::failed("failed to listen for signals", &error, "is the machine out of open files?");
        }
    };
    let listener = match listen(args.listen, "--listen").await {
        Ok(listener) => listener,
        Err(code) => return code,
    };
    let control = match args.control {
        Some(at) => match listen(at, "--control").await {
            Ok(listener) => Some(listener),
            Err(code) => return code,
        },
        None => None,
    };
    let (seed, path) = (settings.seed, settings.upstream.path().to_owned());
    let proxy = Proxy::new(settings, faults);
    if let Err(error) = announce(&listener, control.as_ref(), seed, &path) {
        // Whoever started us does not read what we say; we break things all the same.
        tracing::debug!(%error, "standard output is closed");
    }
    let api = control.map(|listener| {
        let proxy = proxy.clone();
        tokio::spawn(async move { proxy.control(listener).await })
    });
    proxy.serve(listener, signals.stop()).await;
    if let Some(api) = api {
        api.abort();
    }
    ExitCode::SUCCESS
}

async fn listen(at: SocketAddr, flag: &str) -> Result<TcpListener, ExitCode> {
    TcpListener::bind(at).await.map_err(|error| {
        let hint = format!("choose another address with {flag}");
        serve::failed(&format!("failed to listen on {at}"), &error, &hint)
    })
}

fn announce(listener: &TcpListener, control: Option<&TcpListener>, seed: u64, path: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "listening ws://{}{path}", listener.local_addr()?)?;
    if let Some(control) = control {
        writeln!(out, "control http://{}", control.local_addr()?)?;
    }
    writeln!(out, "seed {seed}\nready")?;
    out.flush()
}

// ---- --list -----------------------------------------------------------------------------------------------------

fn list() -> String {
    let mut out = "\
What clients see: a page connects, sends three messages and hears each back, \"1 2 3\"; then it closes, and sees \"1000\".
The faults of one moment come when it has heard the third, and it sends a fourth. \"nothing\": not even an end.
"
    .to_owned();
    for entry in &ALL {
        // Writing to a string does not fail.
        let _ = write!(out, "\n{}{}\n{}{}\n", entry.name, entry.value, wrapped(entry.about), takes(entry));
        for example in entry.examples {
            let _ = writeln!(out, "    {:<34} {}", example.fault, seen(&example.seen));
        }
    }
    out
}

fn takes(entry: &Entry) -> String {
    let all: Vec<_> = entry.parameters.iter().copied().chain(["for"]).collect();
    format!("    takes {}", all.join(", "))
}

fn seen(seen: &Seen) -> String {
    let Seen { chromium, firefox, ws } = seen;
    if chromium == firefox && firefox == ws {
        (*chromium).to_owned()
    } else if chromium == firefox {
        format!("{chromium}; Node's ws: {ws}")
    } else {
        format!("Chromium: {chromium}; Firefox: {firefox}; Node's ws: {ws}")
    }
}

/// In lines of 100 characters or fewer, set in.
fn wrapped(text: &str) -> String {
    let (mut out, mut width) = (String::new(), 0);
    for word in text.split_whitespace() {
        if width == 0 || width + word.len() > 95 {
            out.push_str(if width == 0 { "    " } else { "\n    " });
            width = 0;
        } else {
            out.push(' ');
        }
        out.push_str(word);
        width += word.len() + 1;
    }
    out + "\n"
}
