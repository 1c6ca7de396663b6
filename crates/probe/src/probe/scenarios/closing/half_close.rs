//! A client that ends its side without a Close.

use crate::probe::peer::Heard;
use crate::probe::{Finding, Outcome, Scenario, Try, Verdict};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "closing/half-close",
    title: "a client that ends its side without a Close",
    expects: "the connection ends",
    why: "A connection that only one side believes in is memory that is never given back.",
    source: "RFC 6455 §7.1.4",
    fix: "Take the end of input for the end of the session.",
    run: |t| Box::pin(run(t)),
};

async fn run(t: &Try<'_>) -> Outcome {
    let mut peer = t.open().await?;
    peer.fin().await;
    let ended = peer.read_to_end().await;
    let verdict = if matches!(ended.how, Some(Heard::Silence)) { Verdict::Fail } else { Verdict::Pass };
    Ok(Finding::new(verdict, ended.got(), ended.browser()))
}
