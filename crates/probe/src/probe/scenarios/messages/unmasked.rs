//! A frame without a mask.

use crate::probe::judge;
use crate::probe::{Outcome, Scenario, Try, WHOLE_TEXT};
use saywhy_codes::CloseCode;

pub(super) const SCENARIO: Scenario = Scenario {
    id: "messages/unmasked",
    title: "a frame without a mask",
    expects: "Close 1002",
    why: "An unmasked frame could be taken for a request by a cache in between.",
    source: "RFC 6455 §5.1",
    fix: "Fail the connection.",
    run: |t| Box::pin(run(t)),
};

async fn run(t: &Try<'_>) -> Outcome {
    let ended = t.after(|peer| peer.unmasked(WHOLE_TEXT, b"hello")).await?;
    Ok(judge::violated(&ended, &[CloseCode::PROTOCOL_ERROR.as_u16()]))
}
