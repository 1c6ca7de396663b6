//! A Close of one byte.

use crate::probe::judge;
use crate::probe::{Outcome, Scenario, Try};
use saywhy_codes::CloseCode;

pub(super) const SCENARIO: Scenario = Scenario {
    id: "closing/one-byte",
    title: "a Close of one byte",
    expects: "Close 1002",
    why: "A code has two bytes.",
    source: "RFC 6455 §5.5.1 and §7.4",
    fix: "Judge the payload of a Close like any other.",
    run: |t| Box::pin(run(t)),
};

async fn run(t: &Try<'_>) -> Outcome {
    let ended = t.after(|peer| peer.close(&[3])).await?;
    Ok(judge::violated(&ended, &[CloseCode::PROTOCOL_ERROR.as_u16()]))
}
