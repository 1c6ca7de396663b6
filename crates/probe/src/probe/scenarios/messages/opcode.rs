//! An opcode that there is not.

use crate::probe::judge;
use crate::probe::{Outcome, Scenario, Try};
use saywhy_codes::CloseCode;

pub(super) const SCENARIO: Scenario = Scenario {
    id: "messages/opcode",
    title: "an opcode that there is not",
    expects: "Close 1002",
    why: "What it means is not known.",
    source: "RFC 6455 §5.2",
    fix: "Fail the connection.",
    run: |t| Box::pin(run(t)),
};

async fn run(t: &Try<'_>) -> Outcome {
    let ended = t.after(|peer| peer.frame(0x80 | 0x3, b"hello")).await?;
    Ok(judge::violated(&ended, &[CloseCode::PROTOCOL_ERROR.as_u16()]))
}
