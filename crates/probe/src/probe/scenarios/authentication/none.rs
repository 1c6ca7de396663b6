//! A handshake without a token or a cookie, as a signed-out page makes it.

use crate::probe::judge::NOTHING;
use crate::probe::{Finding, Outcome, Scenario, Try, Verdict};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "authentication/none",
    title: "a handshake without a token or a cookie, as a signed-out page makes it",
    expects: "in, or a refusal that a browser can read",
    why: "1006 is what a page sees of a 401: it cannot tell it from a server that is down.",
    source: "PROTOCOL.md, refusals",
    fix: "Accept, say why, and close with a code; or, for other clients, 401 with a body.",
    run: |t| Box::pin(run(t)),
};

async fn run(t: &Try<'_>) -> Outcome {
    let page = format!("http://{}", t.target.authority);
    let (mut peer, ask, head) =
        t.ask(|ask| ask.without("Authorization").without("Cookie").set("Origin", &page)).await?;
    Ok(match head {
        Ok(head) if ask.is_accepted_by(&head) => {
            let ended = peer.read_to_end().await;
            match &ended.close {
                Some((Some(_), reason)) if reason.is_empty() && ended.messages.is_empty() => {
                    Finding::new(Verdict::NonStrict, ended.got(), ended.browser())
                }
                Some(_) => Finding::new(Verdict::Pass, ended.got(), ended.browser()),
                None => Finding::new(Verdict::Info, "101: nobody has to sign in", "onopen"),
            }
        }
        Ok(head) => {
            Finding::new(Verdict::NonStrict, format!("HTTP {}, which a browser cannot read", head.status), NOTHING)
        }
        Err(heard) => Finding::new(Verdict::Fail, format!("no answer: {heard:?}"), NOTHING),
    })
}
