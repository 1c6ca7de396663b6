//! A client that is gone before its answer.

use crate::probe::peer::Ask;
use crate::probe::{Finding, Outcome, Scenario, Try, Verdict};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "handshake/gone-at-once",
    title: "a client that is gone before its answer",
    expects: "nothing: the next one is served",
    why: "A server that writes its 101, or its refusal, to a connection that was reset must not fall over: some do.",
    source: "RFC 6455 §4.2.2",
    fix: "Listen for errors on the socket before you write to it.",
    run: |t| Box::pin(run(t)),
};

async fn run(t: &Try<'_>) -> Outcome {
    for _ in 0..5 {
        let mut peer = t.dial().await?;
        let head = Ask::valid(t.target, &mut peer.rng).bytes();
        peer.write(&head).await;
    }
    Ok(Finding::new(Verdict::Pass, "the next connection is served", "nothing"))
}
