//! `saywhy explain`: what a code, a name or the words of a program mean, who is to blame and what to do. It asks nobody.

mod finding;
mod knowledge;
mod screen;
mod words;

use crate::check::{colour, data, wants_colour};
use crate::config::{self, Complaint, Paint};
use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser};
use finding::Nearest;
use knowledge::Knowledge;
use serde_json::json;
use std::io::Read as _;
use std::process::ExitCode;

/// What `saywhy explain` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:

  saywhy explain 1006
  saywhy explain 502
  saywhy explain rate_limited
  saywhy explain 4004 --dialect discord
  saywhy explain \"WebSocket connection to 'wss://x/' failed: Unexpected response code: 403\"
  saywhy explain websocket: close 1006 unexpected EOF
  tail -1 /var/log/haproxy.log | saywhy explain -

Case, quotes, URLs and ids do not matter. A number that several programs use is told for each of them.
Exit codes: 0 it is explained; 1 nothing is known, and the nearest three are named; 2 usage.")]
pub(crate) struct ExplainArgs {
    /// A close code, an HTTP status, a name, or the text of an error as it was printed; - reads it from standard input
    #[arg(required_unless_present = "list", allow_negative_numbers = true)]
    what: Vec<String>,
    /// Ask one program only
    #[arg(long, value_name = "NAME", value_parser = dialects(), hide_possible_values = true)]
    dialect: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// List the programs that are known, or with --dialect all that one of them says
    #[arg(long, conflicts_with_all = ["what", "json"])]
    list: bool,
}

fn dialects() -> PossibleValuesParser {
    knowledge::names().map(|(name, aliases)| PossibleValue::new(name).aliases(aliases)).collect::<Vec<_>>().into()
}

/// Bytes of a question: more than any error, less than a log.
const QUESTION_MOST: u64 = 16 * 1024;

/// Explains.
pub(crate) fn run(args: &ExplainArgs) -> ExitCode {
    match answer(args) {
        Ok(exit_code) => exit_code,
        Err(complaint) => {
            complain(&complaint);
            ExitCode::from(2)
        }
    }
}

fn complain(complaint: &Complaint) {
    eprint!("{}", config::render("error:", complaint, colour()));
}

fn answer(args: &ExplainArgs) -> Result<ExitCode, Complaint> {
    let all = Knowledge::load().map_err(|error| Complaint::new(error, "please report it"))?;
    let paint = Paint::new(wants_colour(&std::io::stdout()));
    let dialect = args.dialect.as_deref().map(canonical);
    let knowledge = match dialect {
        Some(name) => all.only(name),
        None => all,
    };
    if args.list {
        data(screen::list(&knowledge, dialect.is_some(), paint).trim_end());
        return Ok(ExitCode::SUCCESS);
    }
    let what = question(args)?;
    match finding::find(&knowledge, &what) {
        Ok(answer) => {
            if args.json {
                data(&format!("{:#}", screen::json(&what, &answer)));
            } else {
                data(screen::of(&answer, paint).trim_end());
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(Nearest(nearest)) => {
            if args.json {
                let nearest =
                    nearest.iter().map(|(dialect, entry)| json!({ "dialect": dialect.name, "name": entry.name }));
                let nearest: Vec<_> = nearest.collect();
                data(&format!("{:#}", json!({ "query": what, "found": false, "nearest": nearest })));
            } else {
                complain(&Complaint::new(unknown(&what, dialect), screen::meant(&nearest)));
            }
            Ok(ExitCode::from(1))
        }
    }
}

/// The name that a dialect is kept under.
fn canonical(name: &str) -> &'static str {
    let is_it = |(known, aliases): &(&'static str, &[&str])| *known == name || aliases.contains(&name);
    knowledge::names().find(is_it).map_or(knowledge::SAYWHY, |(known, _)| known)
}

fn unknown(what: &str, dialect: Option<&str>) -> String {
    let first: String = what.trim().chars().take(60).collect();
    let more = if first.len() < what.trim().len() { "…" } else { "" };
    let of = dialect.map_or(String::new(), |dialect| format!(" of {dialect}"));
    format!("nothing{of} is known of \"{first}{more}\"")
}

fn question(args: &ExplainArgs) -> Result<String, Complaint> {
    let mut what = args.what.join(" ");
    if what == "-" {
        what.clear();
        let read = std::io::stdin().take(QUESTION_MOST).read_to_string(&mut what);
        read.map_err(|error| Complaint::new(format!("cannot read standard input: {error}"), "a question is text"))?;
    }
    what.truncate(what.floor_char_boundary(usize::try_from(QUESTION_MOST).unwrap_or(usize::MAX)));
    if what.trim().is_empty() {
        let hint = "give a code, a name or the text of an error; `saywhy explain --list` names what is known";
        return Err(Complaint::new("there is nothing to explain", hint));
    }
    Ok(what)
}
