//! Connection without Upgrade.

use crate::probe::judge;
use crate::probe::{Outcome, Scenario, Try};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "handshake/no-upgrade",
    title: "Connection without Upgrade",
    expects: "400 or 426",
    why: "Some proxies drop one of the two headers: who takes that for a WebSocket speaks frames to an HTTP client.",
    source: "RFC 6455 §4.2.1",
    fix: "Ask for both headers.",
    run: |t| Box::pin(run(t)),
};

async fn run(t: &Try<'_>) -> Outcome {
    let (_peer, _, head) = t.ask(|ask| ask.without("Upgrade")).await?;
    Ok(judge::refused(&head, &[400, 404, 426]))
}
