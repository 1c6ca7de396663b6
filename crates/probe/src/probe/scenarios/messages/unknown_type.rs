//! A message of a type that there is not.

use crate::probe::judge;
use crate::probe::{Finding, Outcome, Scenario, Try};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "messages/unknown-type",
    title: "a message of a type that there is not",
    expects: "an error that says so, and the session goes on",
    why: "Clients of another version say what this one does not know.",
    source: "PROTOCOL.md, an open session",
    fix: "Answer bad_request with the request's id.",
    run: |t| Box::pin(run(t)),
};

async fn run(t: &Try<'_>) -> Outcome {
    if !t.known.speaks {
        return Err(Finding::skipped("the server does not speak the envelope"));
    }
    let mut peer = t.open().await?;
    let unknown = peer.text(r#"{"type":"no-such-type","data":{},"meta":{"request_id":"probe"}}"#);
    peer.write(&unknown).await;
    judge::answered(&mut peer, "bad_request").await
}
