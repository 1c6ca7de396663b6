//! Text that is no JSON.

use crate::probe::judge;
use crate::probe::{Outcome, Scenario, Try};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "messages/malformed-json",
    title: "text that is no JSON",
    expects: "an error that says so, and the session goes on",
    why: "One bad message of one client is no reason to end a session, let alone the process.",
    source: "PROTOCOL.md, an open session",
    fix: "Catch what the parser throws, and answer it.",
    run: |t| Box::pin(run(t)),
};

async fn run(t: &Try<'_>) -> Outcome {
    let mut peer = t.open().await?;
    let bad = peer.text("{\"type\": ");
    peer.write(&bad).await;
    if !t.known.speaks {
        return Ok(judge::goes_on(t.lives(&mut peer).await, "text that is no JSON"));
    }
    judge::answered(&mut peer, "bad_request").await
}
