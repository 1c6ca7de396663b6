//! A token that is none.

use crate::probe::judge::NOTHING;
use crate::probe::peer::Ask;
use crate::probe::{Finding, Outcome, Scenario, Try, Verdict};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "authentication/garbage",
    title: "a token that is none",
    expects: "a refusal that a browser can read; no 500",
    why: "A token from a stranger is the most hostile text there is.",
    source: "RFC 6750 §3.1",
    fix: "Catch what the parser of tokens throws.",
    run: |t| Box::pin(run(t)),
};

async fn run(t: &Try<'_>) -> Outcome {
    let page = format!("http://{}", t.target.authority);
    let ask = |ask: Ask| ask.set("Authorization", "Bearer ..%00..").set("Origin", &page);
    let (mut peer, ask, head) = t.ask(ask).await?;
    Ok(match head {
        Ok(head) if ask.is_accepted_by(&head) => {
            let ended = peer.read_to_end().await;
            let verdict = if ended.close.is_some() { Verdict::Pass } else { Verdict::Info };
            Finding::new(verdict, ended.got(), ended.browser())
        }
        Ok(head) if head.status >= 500 => Finding::new(Verdict::Fail, format!("HTTP {}", head.status), NOTHING),
        Ok(head) => {
            Finding::new(Verdict::NonStrict, format!("HTTP {}, which a browser cannot read", head.status), NOTHING)
        }
        Err(heard) => Finding::new(Verdict::Fail, format!("no answer: {heard:?}"), NOTHING),
    })
}
