//! A request without what it needs.

use crate::probe::judge;
use crate::probe::{Finding, Outcome, Scenario, Try};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "messages/missing-field",
    title: "a request without what it needs",
    expects: "an error that says which field, and the session goes on",
    why: "The most frequent mistake of who writes a client.",
    source: "PROTOCOL.md, an open session",
    fix: "Answer bad_request and name the field.",
    run: |t| Box::pin(run(t)),
};

async fn run(t: &Try<'_>) -> Outcome {
    if !t.known.speaks {
        return Err(Finding::skipped("the server does not speak the envelope"));
    }
    let mut peer = t.open().await?;
    let missing = peer.text(r#"{"type":"join","data":{},"meta":{"request_id":"probe"}}"#);
    peer.write(&missing).await;
    judge::answered(&mut peer, "bad_request").await
}
