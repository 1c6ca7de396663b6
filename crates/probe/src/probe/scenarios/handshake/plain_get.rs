//! A plain GET, as a person or a health check makes it.

use crate::probe::judge;
use crate::probe::{Outcome, Scenario, Try};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "handshake/plain-get",
    title: "a plain GET, as a person or a health check makes it",
    expects: "426 Upgrade Required, or another 4xx",
    why: "A person who opens the URL, and a proxy that dropped Upgrade, are told what is missing; a 200 or a 500 hides it.",
    source: "RFC 9110 §15.5.22",
    fix: "Answer 426 with `Upgrade: websocket`.",
    run: |t| Box::pin(run(t)),
};

async fn run(t: &Try<'_>) -> Outcome {
    let (_peer, _, head) = t
        .ask(|ask| {
            ask.without("Upgrade").without("Connection").without("Sec-WebSocket-Key").without("Sec-WebSocket-Version")
        })
        .await?;
    Ok(judge::refused(&head, &[426, 400, 404]))
}
