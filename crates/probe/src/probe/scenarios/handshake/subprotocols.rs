//! Subprotocols that nobody speaks.

use crate::probe::judge::NOTHING;
use crate::probe::{Finding, Outcome, Scenario, Try, Verdict};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "handshake/subprotocols",
    title: "subprotocols that nobody speaks",
    expects: "none of them selected, or a refusal",
    why: "A server that selects what was not understood speaks a language that it does not know; one that selects what was not offered is dropped by every browser.",
    source: "RFC 6455 §4.2.2",
    fix: "Select one of those on offer that you speak, or none.",
    run: |t| Box::pin(run(t)),
};

async fn run(t: &Try<'_>) -> Outcome {
    let offered = "no-one-speaks-this, nor-this";
    let (_peer, ask, head) = t.ask(|ask| ask.set("Sec-WebSocket-Protocol", offered)).await?;
    Ok(match head {
        Ok(head) if ask.is_accepted_by(&head) => match head.header("sec-websocket-protocol") {
            None => Finding::new(Verdict::Pass, "101, none selected", "Chromium: onclose 1006; Firefox: onopen"),
            Some(chosen) if offered.split(", ").any(|one| one == chosen) => {
                Finding::new(Verdict::Info, format!("101 with `{chosen}`"), "onopen")
            }
            Some(chosen) => {
                Finding::new(Verdict::Fail, format!("101 with `{chosen}`, which was not on offer"), NOTHING)
            }
        },
        Ok(head) => Finding::new(Verdict::Pass, format!("HTTP {}", head.status), NOTHING),
        Err(heard) => Finding::new(Verdict::Fail, format!("no answer: {heard:?}"), NOTHING),
    })
}
