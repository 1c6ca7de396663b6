//! POST instead of GET.

use crate::probe::judge;
use crate::probe::peer::Ask;
use crate::probe::{Outcome, Scenario, Try};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "handshake/post",
    title: "POST instead of GET",
    expects: "405 or 400",
    why: "Only GET opens a WebSocket over HTTP/1.1.",
    source: "RFC 6455 §4.2.1",
    fix: "Refuse other methods.",
    run: |t| Box::pin(run(t)),
};

async fn run(t: &Try<'_>) -> Outcome {
    let (_peer, _, head) = t.ask(|ask| Ask { method: "POST".to_owned(), ..ask }.set("Content-Length", "0")).await?;
    Ok(judge::refused(&head, &[400, 404, 405, 426]))
}
