//! No Sec-WebSocket-Version.

use crate::probe::judge;
use crate::probe::{Outcome, Scenario, Try};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "handshake/no-version",
    title: "no Sec-WebSocket-Version",
    expects: "400 or 426",
    why: "It is no handshake of this protocol.",
    source: "RFC 6455 §4.2.1",
    fix: "Refuse it.",
    run: |t| Box::pin(run(t)),
};

async fn run(t: &Try<'_>) -> Outcome {
    let (_peer, _, head) = t.ask(|ask| ask.without("Sec-WebSocket-Version")).await?;
    Ok(judge::refused(&head, &[400, 426]))
}
