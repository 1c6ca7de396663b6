//! A Ping with a payload.

use crate::probe::{Finding, Outcome, Scenario, Try, Verdict};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "liveness/ping",
    title: "a Ping with a payload",
    expects: "a Pong with the same payload",
    why: "It is how proxies and clients find out that the server lives.",
    source: "RFC 6455 §5.5.3",
    fix: "Answer with what came.",
    run: |t| Box::pin(run(t)),
};

async fn run(t: &Try<'_>) -> Outcome {
    let mut peer = t.open().await?;
    Ok(match t.lives(&mut peer).await {
        true => Finding::new(Verdict::Pass, "a Pong with the same payload", "nothing: browsers do not show it"),
        false => Finding::new(Verdict::Fail, "no such Pong", "nothing: the connection looks dead to a proxy"),
    })
}
