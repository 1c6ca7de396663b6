//! The handshake of a page of another site.

use crate::probe::judge::NOTHING;
use crate::probe::{Finding, Outcome, Scenario, Try, Verdict};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "handshake/foreign-origin",
    title: "the handshake of a page of another site",
    expects: "a refusal",
    why: "WebSockets have no same-origin policy: with cookies, any page could speak in the name of whoever looks at it.",
    source: "RFC 6455 §10.2",
    fix: "Compare Origin with a list of your own.",
    run: |t| Box::pin(run(t)),
};

async fn run(t: &Try<'_>) -> Outcome {
    let (mut peer, ask, head) = t.ask(|ask| ask.set("Origin", "https://elsewhere.example")).await?;
    Ok(match head {
        Ok(head) if ask.is_accepted_by(&head) => {
            let ended = peer.read_to_end().await;
            match &ended.close {
                Some(_) => Finding::new(Verdict::Pass, ended.got(), ended.browser()),
                None => Finding::new(Verdict::NonStrict, "101: any page may connect", "onopen"),
            }
        }
        Ok(head) => Finding::new(Verdict::Pass, format!("HTTP {}", head.status), NOTHING),
        Err(heard) => Finding::new(Verdict::NonStrict, format!("no answer: {heard:?}"), NOTHING),
    })
}
