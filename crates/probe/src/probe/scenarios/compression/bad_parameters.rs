//! An offer of compression with a parameter that there is not.

use crate::probe::judge::NOTHING;
use crate::probe::{Finding, Outcome, Scenario, Try, Verdict};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "compression/bad-parameters",
    title: "an offer of compression with a parameter that there is not",
    expects: "101 without it",
    why: "An offer that is not understood is declined, not refused and not accepted.",
    source: "RFC 7692 §7.1",
    fix: "Decline offers that you do not understand.",
    run: |t| Box::pin(run(t)),
};

async fn run(t: &Try<'_>) -> Outcome {
    let offer = "permessage-deflate; no_such_parameter";
    let (_peer, ask, head) = t.ask(|ask| ask.set("Sec-WebSocket-Extensions", offer)).await?;
    Ok(match head {
        Ok(head) if ask.is_accepted_by(&head) => match head.header("sec-websocket-extensions") {
            None => Finding::new(Verdict::Pass, "101, declined", "onopen"),
            Some(agreed) => Finding::new(Verdict::Fail, format!("101 with `{agreed}`"), NOTHING),
        },
        Ok(head) => Finding::new(Verdict::NonStrict, format!("HTTP {}", head.status), NOTHING),
        Err(heard) => Finding::new(Verdict::Fail, format!("no answer: {heard:?}"), NOTHING),
    })
}
