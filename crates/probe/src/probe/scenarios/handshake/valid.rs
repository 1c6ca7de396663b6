//! A handshake in which nothing is wrong.

use crate::probe::judge::NOTHING;
use crate::probe::{Finding, Outcome, Scenario, Try, Verdict};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "handshake/valid",
    title: "a handshake in which nothing is wrong",
    expects: "101 with the right Sec-WebSocket-Accept, or a refusal that a client can read",
    why: "Everything else is measured against this.",
    source: "RFC 6455 §4.2.2",
    fix: "Compute Sec-WebSocket-Accept from the key that came.",
    run: |t| Box::pin(run(t)),
};

async fn run(t: &Try<'_>) -> Outcome {
    let (_peer, ask, head) = t.ask(|ask| ask).await?;
    Ok(match head {
        Ok(head) if ask.is_accepted_by(&head) => Finding::new(Verdict::Pass, "101", "onopen"),
        Ok(head) if head.status == 101 => Finding::new(Verdict::Fail, "101 with a wrong Sec-WebSocket-Accept", NOTHING),
        Ok(head) => Finding::new(
            Verdict::Info,
            format!("HTTP {}: no valid handshake is accepted without more", head.status),
            NOTHING,
        ),
        Err(heard) => Finding::new(Verdict::Fail, format!("no answer: {heard:?}"), NOTHING),
    })
}
