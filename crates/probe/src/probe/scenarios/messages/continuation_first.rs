//! A continuation of nothing.

use crate::probe::judge;
use crate::probe::{Outcome, Scenario, Try};
use saywhy_codes::CloseCode;

pub(super) const SCENARIO: Scenario = Scenario {
    id: "messages/continuation-first",
    title: "a continuation of nothing",
    expects: "Close 1002",
    why: "There is no message that it could belong to.",
    source: "RFC 6455 §5.4",
    fix: "Fail the connection.",
    run: |t| Box::pin(run(t)),
};

async fn run(t: &Try<'_>) -> Outcome {
    let ended = t.after(|peer| peer.frame(0x80, b"hello")).await?;
    Ok(judge::violated(&ended, &[CloseCode::PROTOCOL_ERROR.as_u16()]))
}
