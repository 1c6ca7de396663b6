//! A compressed frame where no compression was agreed on.

use crate::probe::judge;
use crate::probe::peer::TEXT;
use crate::probe::{Outcome, Scenario, Try};
use saywhy_codes::CloseCode;

pub(super) const SCENARIO: Scenario = Scenario {
    id: "messages/compressed",
    title: "a compressed frame where no compression was agreed on",
    expects: "Close 1002",
    why: "It would be delivered as it is, which is not what was said.",
    source: "RFC 7692 §6",
    fix: "Fail the connection.",
    run: |t| Box::pin(run(t)),
};

async fn run(t: &Try<'_>) -> Outcome {
    let ended = t.after(|peer| peer.frame(0x80 | 0x40 | TEXT, b"\x02\x00")).await?;
    Ok(judge::violated(&ended, &[CloseCode::PROTOCOL_ERROR.as_u16()]))
}
