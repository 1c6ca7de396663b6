//! No Sec-WebSocket-Key.

use crate::probe::judge;
use crate::probe::{Outcome, Scenario, Try};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "handshake/no-key",
    title: "no Sec-WebSocket-Key",
    expects: "400",
    why: "Without the key nothing proves that the server has read the handshake.",
    source: "RFC 6455 §4.2.1",
    fix: "Refuse it with 400.",
    run: |t| Box::pin(run(t)),
};

async fn run(t: &Try<'_>) -> Outcome {
    let (_peer, _, head) = t.ask(|ask| ask.without("Sec-WebSocket-Key")).await?;
    Ok(judge::refused(&head, &[400]))
}
