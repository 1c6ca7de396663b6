//! An empty text.

use crate::probe::judge;
use crate::probe::{Outcome, Scenario, Try};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "messages/empty",
    title: "an empty text",
    expects: "the session goes on",
    why: "Empty messages are messages.",
    source: "RFC 6455 §5.6",
    fix: "Do not parse what is not there; answer an error, and go on.",
    run: |t| Box::pin(run(t)),
};

async fn run(t: &Try<'_>) -> Outcome {
    let mut peer = t.open().await?;
    let empty = peer.text("");
    peer.write(&empty).await;
    Ok(judge::goes_on(t.lives(&mut peer).await, "an empty text"))
}
