//! A path that does not exist.

use crate::probe::judge::NOTHING;
use crate::probe::peer::Ask;
use crate::probe::{Finding, Outcome, Scenario, Try, Verdict};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "handshake/unknown-path",
    title: "a path that does not exist",
    expects: "a refusal, with a reason that a browser can read",
    why: "A mistyped path is the most frequent mistake, and looks like a server that is down.",
    source: "RFC 6455 §4.2.2",
    fix: "Refuse unknown paths; for browsers, accept and close with a reason.",
    run: |t| Box::pin(run(t)),
};

async fn run(t: &Try<'_>) -> Outcome {
    let path = "/there-is-no-such-path-here";
    let (mut peer, ask, head) = t.ask(|ask| Ask { path: path.to_owned(), ..ask }).await?;
    Ok(match head {
        Ok(head) if ask.is_accepted_by(&head) => {
            let ended = peer.read_to_end().await;
            let verdict = if ended.close.is_some() { Verdict::Pass } else { Verdict::Info };
            Finding::new(verdict, ended.got(), ended.browser())
        }
        Ok(head) if (400..500).contains(&head.status) => {
            Finding::new(Verdict::NonStrict, format!("HTTP {}, which a browser cannot read", head.status), NOTHING)
        }
        Ok(head) => Finding::new(Verdict::Fail, format!("HTTP {}", head.status), NOTHING),
        Err(heard) => Finding::new(Verdict::Fail, format!("no answer: {heard:?}"), NOTHING),
    })
}
