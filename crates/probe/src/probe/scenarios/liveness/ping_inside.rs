//! A Ping between two fragments.

use crate::probe::judge;
use crate::probe::peer::TEXT;
use crate::probe::{Outcome, Scenario, Try};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "liveness/ping-inside",
    title: "a Ping between two fragments",
    expects: "a Pong, before the message is whole",
    why: "Else a long message looks like a dead connection.",
    source: "RFC 6455 §5.4",
    fix: "Handle control frames as they come.",
    run: |t| Box::pin(run(t)),
};

async fn run(t: &Try<'_>) -> Outcome {
    let mut peer = t.open().await?;
    let begun = peer.frame(TEXT, b"pro");
    peer.write(&begun).await;
    Ok(judge::goes_on(t.lives(&mut peer).await, "a Ping inside a message"))
}
