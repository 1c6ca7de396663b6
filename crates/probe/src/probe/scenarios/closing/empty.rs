//! A Close without a code.

use crate::probe::judge;
use crate::probe::{Outcome, Scenario, Try};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "closing/empty",
    title: "a Close without a code",
    expects: "a Close without a code, then the end of the connection",
    why: "`close()` without arguments sends it.",
    source: "RFC 6455 §5.5.1",
    fix: "Answer with an empty Close.",
    run: |t| Box::pin(run(t)),
};

async fn run(t: &Try<'_>) -> Outcome {
    let mut peer = t.open().await?;
    let close = peer.close(&Vec::<u8>::new());
    peer.write(&close).await;
    let ended = peer.read_to_end().await;
    Ok(judge::closed(&ended, None))
}
