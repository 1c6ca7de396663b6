//! A Close with a reason of 123 bytes, the longest there is.

use crate::probe::judge;
use crate::probe::peer::code;
use crate::probe::{Outcome, Scenario, Try};
use saywhy_codes::CloseCode;

pub(super) const SCENARIO: Scenario = Scenario {
    id: "closing/long-reason",
    title: "a Close with a reason of 123 bytes, the longest there is",
    expects: "Close 1000",
    why: "An answer that repeats the reason must not get longer than a control frame.",
    source: "RFC 6455 §5.5",
    fix: "Answer with the code only.",
    run: |t| Box::pin(run(t)),
};

async fn run(t: &Try<'_>) -> Outcome {
    let reason = [b'x'; 123];
    let ended = t.after(|peer| peer.close(&code(CloseCode::NORMAL.as_u16(), &reason))).await?;
    Ok(judge::closed(&ended, Some(&[CloseCode::NORMAL.as_u16()])))
}
