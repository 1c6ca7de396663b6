//! A Close with 4321.

use crate::probe::judge;
use crate::probe::peer::code;
use crate::probe::{Outcome, Scenario, Try};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "closing/private",
    title: "a Close with 4321",
    expects: "Close 4321, then the end of the connection",
    why: "Applications have codes of their own, and both ends have to agree on which one it was.",
    source: "RFC 6455 §5.5.1",
    fix: "Answer with the code that came.",
    run: |t| Box::pin(run(t)),
};

async fn run(t: &Try<'_>) -> Outcome {
    let mut peer = t.open().await?;
    let close = peer.close(&code(4_321, b"mine"));
    peer.write(&close).await;
    let ended = peer.read_to_end().await;
    Ok(judge::closed(&ended, Some(&[4_321])))
}
