//! A Sec-WebSocket-Key that is not 16 bytes.

use crate::probe::judge;
use crate::probe::{Outcome, Scenario, Try};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "handshake/short-key",
    title: "a Sec-WebSocket-Key that is not 16 bytes",
    expects: "400",
    why: "A key of another length comes from something that is no WebSocket client.",
    source: "RFC 6455 §4.2.1",
    fix: "Decode the key, and refuse it unless it has 16 bytes.",
    run: |t| Box::pin(run(t)),
};

async fn run(t: &Try<'_>) -> Outcome {
    let (_peer, _, head) = t.ask(|ask| ask.set("Sec-WebSocket-Key", "c2hvcnQ=")).await?;
    Ok(judge::refused(&head, &[400]))
}
