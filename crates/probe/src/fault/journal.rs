//! What happened, one JSON object for each thing, in memory and in the log.

use crate::fault::line::Done;
use serde::Serialize;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// Lines that are kept.
const LINES_MOST: usize = 10_000;

/// Something that happened to a connection.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub(crate) enum Happened<'a> {
    /// Its request arrived.
    Connected { path: &'a str },
    /// A fault struck.
    Fault(&'a Done),
    /// It is over. What came for each side.
    Ended { bytes_to_client: u64, bytes_to_server: u64 },
}

#[derive(Serialize)]
struct Record<'a> {
    seq: u64,
    /// Since the proxy was started.
    at_ms: u64,
    connection: u64,
    #[serde(flatten)]
    happened: Happened<'a>,
}

/// The last things that happened.
pub(crate) struct Journal {
    kept: Mutex<Kept>,
    /// The number of the last line.
    last: watch::Sender<u64>,
}

#[derive(Default)]
struct Kept {
    lines: VecDeque<Arc<str>>,
    last: u64,
}

impl Journal {
    pub(crate) fn new() -> Self {
        Self { kept: Mutex::default(), last: watch::Sender::new(0) }
    }

    pub(crate) fn record(&self, connection: u64, at: Duration, happened: Happened<'_>) {
        log(connection, &happened);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let seq = kept.last + 1;
        let at_ms = u64::try_from(at.as_millis()).unwrap_or(u64::MAX);
        // A record has no map with keys that are no text, so it can be written.
        let Ok(line) = serde_json::to_string(&Record { seq, at_ms, connection, happened }) else { return };
        kept.last = seq;
        if kept.lines.len() == LINES_MOST {
            kept.lines.pop_front();
        }
        kept.lines.push_back((line + "\n").into());
        drop(kept);
        self.last.send_replace(seq);
    }

    /// The lines with a number above `after`, as far as they are kept, and the number of the last.
    pub(crate) fn since(&self, after: u64) -> (Vec<Arc<str>>, u64) {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let new = usize::try_from(kept.last.saturating_sub(after)).unwrap_or(usize::MAX).min(kept.lines.len());
        (kept.lines.range(kept.lines.len() - new..).cloned().collect(), kept.last)
    }

    /// Hears of every new line.
    pub(crate) fn news(&self) -> watch::Receiver<u64> {
        self.last.subscribe()
    }
}

fn log(connection: u64, happened: &Happened<'_>) {
    match happened {
        Happened::Connected { path } => tracing::info!(target: "saywhy::fault", connection, path, "connected"),
        Happened::Fault(Done { fault, to, bytes, messages, draws }) => {
            let (fault, to) = (fault.as_str(), to.as_str());
            let draws = (!draws.is_empty()).then(|| tracing::field::debug(draws));
            tracing::info!(target: "saywhy::fault", connection, fault, to, bytes, messages, draws, "struck");
        }
        Happened::Ended { bytes_to_client, bytes_to_server } => {
            tracing::info!(target: "saywhy::fault", connection, bytes_to_client, bytes_to_server, "ended");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connected(journal: &Journal, connection: u64) {
        journal.record(connection, Duration::from_millis(7), Happened::Connected { path: "/ws" });
    }

    #[test]
    fn a_line_for_each_thing_and_only_the_new_ones() {
        let journal = Journal::new();
        connected(&journal, 1);
        let done = crate::fault::line::Done {
            fault: "cut=rst".to_owned(),
            to: crate::fault::To::Client,
            bytes: 9,
            messages: 1,
            draws: vec![0.5],
        };
        journal.record(1, Duration::ZERO, Happened::Fault(&done));
        journal.record(1, Duration::ZERO, Happened::Ended { bytes_to_client: 9, bytes_to_server: 0 });
        let (lines, last) = journal.since(0);
        assert_eq!(
            lines.concat(),
            concat!(
                r#"{"seq":1,"at_ms":7,"connection":1,"event":"connected","path":"/ws"}"#,
                "\n",
                r#"{"seq":2,"at_ms":0,"connection":1,"event":"fault","fault":"cut=rst","to":"client","bytes":9,"messages":1,"draws":[0.5]}"#,
                "\n",
                r#"{"seq":3,"at_ms":0,"connection":1,"event":"ended","bytes_to_client":9,"bytes_to_server":0}"#,
                "\n",
            )
        );
        assert_eq!(last, 3);
        assert_eq!(journal.since(2).0.len(), 1);
        assert_eq!(journal.since(3).0.len(), 0);
    }

    #[test]
    fn only_so_many_are_kept() {
        let journal = Journal::new();
        for n in 0..LINES_MOST as u64 + 5 {
            connected(&journal, n);
        }
        let (lines, last) = journal.since(0);
        assert_eq!((lines.len(), last), (LINES_MOST, LINES_MOST as u64 + 5));
        assert!(lines[0].starts_with(r#"{"seq":6,"#));
    }
}
