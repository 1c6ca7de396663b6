//! A version that there is not.

use crate::probe::judge;
use crate::probe::{Outcome, Scenario, Try};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "handshake/version",
    title: "a version that there is not",
    expects: "426 with Sec-WebSocket-Version: 13",
    why: "A client of another version learns which one to speak.",
    source: "RFC 6455 §4.2.2 and §4.4",
    fix: "Answer 426 and name 13.",
    run: |t| Box::pin(run(t)),
};

async fn run(t: &Try<'_>) -> Outcome {
    let (_peer, _, head) = t.ask(|ask| ask.set("Sec-WebSocket-Version", "12")).await?;
    Ok(judge::refused(&head, &[426, 400]))
}
