//! `saywhy probe`: everything that may go wrong, tried on a server.

use crate::check::{colour, data};
use crate::config::{self, Complaint, escape};
use clap::Args;
use saywhy_probe::probe::{self, Probe, Scenario, Target, Tried, Verdict, report};
use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// What `saywhy probe` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Only probe servers that are yours, or whose owners know of it.

  saywhy probe ws://127.0.0.1:9000
  saywhy probe wss://example.com/ws --token-file probe.jwt --strict --junit probe.xml
  saywhy probe ws://127.0.0.1:9000 --only closing,liveness/ping --verbose

Verdicts: pass; non-strict, permitted and worse for clients than it need be; fail; info; skipped; unreachable. Exit codes:
0 nothing failed (with --strict: nothing is non-strict either), 1 something did, 2 usage, 3 the server cannot be
reached, 130 interrupted.")]
pub(crate) struct ProbeArgs {
    /// ws:// or wss://
    #[arg(required_unless_present = "list")]
    url: Option<String>,
    /// Print the scenarios, with what each expects, and where that is written
    #[arg(long)]
    list: bool,
    /// Only these: ids, or the groups that they begin with
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    only: Vec<String>,
    /// Not these
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    skip: Vec<String>,
    /// Non-strict is failed, too
    #[arg(long)]
    strict: bool,
    /// A file with a token, which is sent as Authorization: Bearer
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// A header of valid handshakes: `Name: value`. As often as there are some
    #[arg(long, value_name = "HEADER", value_parser = header)]
    header: Vec<(String, String)>,
    /// A subprotocol to offer instead of saywhy.v1. As often as there are some
    #[arg(long, value_name = "NAME")]
    protocol: Vec<String>,
    /// How long something that has to happen may take
    #[arg(long, value_name = "MS", default_value_t = 2_000)]
    patience_ms: u64,
    /// The same seed does the same things
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// What went over the wire, below everything that is not a pass
    #[arg(long)]
    verbose: bool,
    /// Print the results as one JSON document instead
    #[arg(long)]
    json: bool,
    /// Write them for a CI
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Write them as a table in Markdown
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("a header is `Name: value`")?;
    let is_text = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic() || c == ' ');
    let (name, value) = (name.trim().to_owned(), value.trim().to_owned());
    if is_text(&name) && is_text(&value) {
        Ok((name, value))
    } else {
        Err("a header has visible characters only".to_owned())
    }
}

/// Probes a server, and says what was found.
pub(crate) fn run(args: &ProbeArgs) -> ExitCode {
    if args.list {
        list();
        return ExitCode::SUCCESS;
    }
    match prepared(args).and_then(|(probe, scenarios)| tried(args, &probe, scenarios)) {
        Ok(code) => code,
        Err(complaint) => {
            eprint!("{}", config::render("error:", &complaint, colour()));
            ExitCode::from(2)
        }
    }
}

fn list() {
    for Scenario { id, title, expects, source, .. } in probe::all() {
        data(&format!("{id:36} {title}\n{:36} expected: {expects} ({source})", ""));
    }
}

fn prepared(args: &ProbeArgs) -> Result<(Probe, Vec<&'static Scenario>), Complaint> {
    let url = args.url.as_deref().unwrap_or_default();
    let target =
        Target::new(url).map_err(|error| Complaint::new(error.to_string(), "for example ws://127.0.0.1:9000"))?;
    let mut target = target.patience(Duration::from_millis(args.patience_ms));
    if !args.protocol.is_empty() {
        target = target.subprotocols(args.protocol.clone());
    }
    for (name, value) in &args.header {
        target = target.header(name, value);
    }
    if let Some(file) = &args.token_file {
        let token = std::fs::read_to_string(file).map_err(|error| {
            let what = format!("the token cannot be read: {}: {error}", escape(&file.display().to_string()));
            Complaint::new(what, "`saywhy token make` makes one")
        })?;
        target = target.header("Authorization", &format!("Bearer {}", token.trim()));
    }
    let fits = |scenario: &Scenario, name: &str| scenario.id == name || scenario.group() == name;
    for name in args.only.iter().chain(&args.skip) {
        if !probe::all().any(|scenario| fits(scenario, name)) {
            let near = probe::all()
                .max_by(|a, b| strsim::jaro_winkler(a.id, name).total_cmp(&strsim::jaro_winkler(b.id, name)));
            let hint = near.map_or_else(String::new, |near| format!("did you mean `{}`? --list prints all", near.id));
            return Err(Complaint::new(format!("there is no scenario `{}`", escape(name)), hint));
        }
    }
    let is_in = |names: &[String], scenario: &Scenario| names.iter().any(|name| fits(scenario, name));
    let chosen = probe::all().filter(|one| args.only.is_empty() || is_in(&args.only, one));
    Ok((Probe::new(target, args.seed), chosen.filter(|one| !is_in(&args.skip, one)).collect()))
}

fn tried(args: &ProbeArgs, probe: &Probe, scenarios: Vec<&'static Scenario>) -> Result<ExitCode, Complaint> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime
        .map_err(|error| Complaint::new(format!("failed to start: {error}"), "is the machine out of open files?"))?;
    let url = args.url.as_deref().unwrap_or_default();
    let shown = Shown { args, total: scenarios.len(), is_terminal: io::stderr().is_terminal(), colour: colour() };
    let began = Instant::now();
    let mut done = 0;
    let running = probe.run(scenarios, |one| {
        done += 1;
        shown.one(one, done);
    });
    let outcome = runtime.block_on(async {
        tokio::select! {
            outcome = running => Some(outcome),
            _ = tokio::signal::ctrl_c() => None,
        }
    });
    let tried = match outcome {
        Some(Ok(tried)) => tried,
        Some(Err(error)) => {
            let complaint = Complaint::new(format!("the server cannot be reached: {error}"), "does it listen there?");
            eprint!("{}", config::render("error:", &complaint, colour()));
            return Ok(ExitCode::from(3));
        }
        None => return Ok(ExitCode::from(130)),
    };
    let is_failure = |verdict| match verdict {
        Verdict::Fail | Verdict::Unreachable => true,
        Verdict::NonStrict => args.strict,
        Verdict::Pass | Verdict::Info | Verdict::Skipped => false,
    };
    if let Some(file) = &args.junit {
        write(file, &report::junit(url, &tried, is_failure))?;
    }
    if let Some(file) = &args.markdown {
        write(file, &report::markdown(url, &tried))?;
    }
    if args.json {
        data(&format!("{:#}", report::json(url, args.seed, &tried)));
    } else {
        shown.worth_reading(&tried);
    }
    shown.end(&tried, began.elapsed());
    Ok(if tried.iter().any(|one| is_failure(one.finding.verdict)) { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

fn write(file: &PathBuf, text: &str) -> Result<(), Complaint> {
    std::fs::write(file, text).map_err(|error| {
        let what = format!("{} cannot be written: {error}", escape(&file.display().to_string()));
        Complaint::new(what, "choose another file")
    })
}

struct Shown<'a> {
    args: &'a ProbeArgs,
    total: usize,
    is_terminal: bool,
    colour: bool,
}

impl Shown<'_> {
    fn painted(&self, verdict: Verdict) -> String {
        let code = match verdict {
            Verdict::Pass => "32",
            Verdict::Fail | Verdict::Unreachable => "1;31",
            Verdict::NonStrict => "33",
            Verdict::Info | Verdict::Skipped => "2",
        };
        let word = format!("{verdict:11}");
        if self.colour { format!("\x1b[{code}m{word}\x1b[0m") } else { word }
    }

    /// A line as soon as it is known: on standard error, as the results are data.
    fn one(&self, Tried { scenario, finding, .. }: &Tried, done: usize) {
        let progress = if self.is_terminal { format!("{done:>3}/{} ", self.total) } else { String::new() };
        let got: String = escape(&finding.got).chars().take(100).collect();
        let _ = writeln!(io::stderr(), "{progress}{} {:32} {got}", self.painted(finding.verdict), scenario.id);
    }

    /// In full: what is not as it should be, and what to do about it.
    fn worth_reading(&self, tried: &[Tried]) {
        let mut text = String::new();
        let wanted =
            |one: &&Tried| matches!(one.finding.verdict, Verdict::Fail | Verdict::NonStrict | Verdict::Unreachable);
        for Tried { scenario, finding, transcript, .. } in tried.iter().filter(wanted) {
            let url = self.args.url.as_deref().unwrap_or_default();
            let _ = write!(
                text,
                "\n{} {}: {}\n  expected  {}\n  got       {}\n  a browser {}\n  why       {}\n  source    {}\n  fix       {}\n  again     saywhy probe {} --only {} --seed {} --verbose\n",
                finding.verdict,
                scenario.id,
                scenario.title,
                scenario.expects,
                escape(&finding.got),
                escape(&finding.browser),
                scenario.why,
                scenario.source,
                scenario.fix,
                // A query may hold a token.
                escape(url.split('?').next().unwrap_or(url)),
                scenario.id,
                self.args.seed,
            );
            if self.args.verbose {
                for line in transcript.lines() {
                    let _ = writeln!(text, "  | {}", redacted(line));
                }
            }
        }
        if !text.is_empty() {
            data(text.trim_end());
        }
    }

    fn end(&self, tried: &[Tried], took: Duration) {
        let words = format!("{} of {} scenarios in {:.1} s", report::summary(tried), tried.len(), took.as_secs_f64());
        let _ = writeln!(io::stderr(), "\n{words}");
    }
}

/// Without the values of the headers that hold secrets.
fn redacted(line: &str) -> String {
    let mut out = line.to_owned();
    for name in ["Authorization: ", "Cookie: ", "access_token="] {
        let mut from = 0;
        while let Some(at) = out[from..].find(name) {
            let start = from + at + name.len();
            let end = out[start..].find(['\\', '&', ' ']).map_or(out.len(), |end| start + end);
            let end =
                if name.ends_with(": ") { out[start..].find('\\').map_or(out.len(), |end| start + end) } else { end };
            out.replace_range(start..end, "***");
            from = start + 3;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_starred_out() {
        let line =
            r"0 ms → GET /?access_token=abc&x=1 HTTP/1.1\r\nAuthorization: Bearer abc def\r\nCookie: a=b; c=d\r\n";
        assert_eq!(
            redacted(line),
            r"0 ms → GET /?access_token=***&x=1 HTTP/1.1\r\nAuthorization: ***\r\nCookie: ***\r\n"
        );
    }

    #[test]
    fn ids_are_unique_and_begin_with_their_group() {
        let mut ids: Vec<_> = probe::all().map(|scenario| scenario.id).collect();
        let count = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), count);
        assert!(probe::all().all(|scenario| scenario.id.split('/').count() == 2 && !scenario.fix.is_empty()));
    }
}
