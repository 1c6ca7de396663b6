//! A client that is gone in the middle of its head.

use crate::probe::peer::Ask;
use crate::probe::{Finding, Outcome, Scenario, Try, Verdict};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "handshake/aborted",
    title: "a client that is gone in the middle of its head",
    expects: "nothing: the next one is served",
    why: "Clients go away at every moment, and so do load balancers' checks.",
    source: "RFC 9112 §9.5",
    fix: "Read with errors in mind: a reset while a head is read is no exception.",
    run: |t| Box::pin(run(t)),
};

async fn run(t: &Try<'_>) -> Outcome {
    for part in [1, 40, 120] {
        let mut peer = t.dial().await?;
        let head = Ask::valid(t.target, &mut peer.rng).bytes();
        peer.write(&head[..part.min(head.len())]).await;
    }
    // What is left to see is whether the server is still there.
    Ok(Finding::new(Verdict::Pass, "the next connection is served", "nothing"))
}
