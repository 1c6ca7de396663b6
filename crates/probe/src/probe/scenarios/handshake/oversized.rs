//! A head of 256 KiB.

use crate::probe::judge;
use crate::probe::{Outcome, Scenario, Try};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "handshake/oversized",
    title: "a head of 256 KiB",
    expects: "431 or 400, without reading all of it",
    why: "A head without a limit is memory that anyone can take.",
    source: "RFC 6585 §5",
    fix: "Limit the head to some kilobytes, and answer 431.",
    run: |t| Box::pin(run(t)),
};

async fn run(t: &Try<'_>) -> Outcome {
    let long = "x".repeat(256 * 1024);
    let (_peer, _, head) = t.ask(|ask| ask.set("X-Long", &long)).await?;
    Ok(judge::refused(&head, &[400, 413, 431]))
}
