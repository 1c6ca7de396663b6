//! A Close with 1000.

use crate::probe::judge;
use crate::probe::peer::code;
use crate::probe::{Outcome, Scenario, Try};
use saywhy_codes::CloseCode;

pub(super) const SCENARIO: Scenario = Scenario {
    id: "closing/normal",
    title: "a Close with 1000",
    expects: "Close 1000, then the end of the connection",
    why: "A client that said goodbye waits for the answer: without one it reports 1006.",
    source: "RFC 6455 §5.5.1",
    fix: "Answer with the code that came.",
    run: |t| Box::pin(run(t)),
};

async fn run(t: &Try<'_>) -> Outcome {
    let mut peer = t.open().await?;
    let close = peer.close(&code(CloseCode::NORMAL.as_u16(), b"bye"));
    peer.write(&close).await;
    let ended = peer.read_to_end().await;
    Ok(judge::closed(&ended, Some(&[CloseCode::NORMAL.as_u16()])))
}
