//! A Pong that nobody asked for.

use crate::probe::judge;
use crate::probe::peer::PONG;
use crate::probe::{Outcome, Scenario, Try};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "liveness/pong",
    title: "a Pong that nobody asked for",
    expects: "nothing, and the session goes on",
    why: "A one-way heartbeat: clients may send it.",
    source: "RFC 6455 §5.5.3",
    fix: "Ignore it.",
    run: |t| Box::pin(run(t)),
};

async fn run(t: &Try<'_>) -> Outcome {
    let mut peer = t.open().await?;
    let pong = peer.frame(0x80 | PONG, b"unasked");
    peer.write(&pong).await;
    Ok(judge::goes_on(t.lives(&mut peer).await, "a Pong that nobody asked for"))
}
