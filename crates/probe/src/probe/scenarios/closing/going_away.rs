//! A Close with 1001, as a browser sends it when a page is left.

use crate::probe::judge;
use crate::probe::peer::code;
use crate::probe::{Outcome, Scenario, Try};
use saywhy_codes::CloseCode;

pub(super) const SCENARIO: Scenario = Scenario {
    id: "closing/going-away",
    title: "a Close with 1001, as a browser sends it when a page is left",
    expects: "Close 1001, then the end of the connection",
    why: "The most frequent Close there is.",
    source: "RFC 6455 §5.5.1",
    fix: "Answer with the code that came.",
    run: |t| Box::pin(run(t)),
};

async fn run(t: &Try<'_>) -> Outcome {
    let mut peer = t.open().await?;
    let close = peer.close(&code(CloseCode::GOING_AWAY.as_u16(), b""));
    peer.write(&close).await;
    let ended = peer.read_to_end().await;
    Ok(judge::closed(&ended, Some(&[CloseCode::GOING_AWAY.as_u16(), CloseCode::NORMAL.as_u16()])))
}
