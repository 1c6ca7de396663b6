//! A reserved bit without an extension.

use crate::probe::judge;
use crate::probe::peer::TEXT;
use crate::probe::{Outcome, Scenario, Try};
use saywhy_codes::CloseCode;

pub(super) const SCENARIO: Scenario = Scenario {
    id: "messages/reserved-bit",
    title: "a reserved bit without an extension",
    expects: "Close 1002",
    why: "The bit belongs to an extension that was not agreed on.",
    source: "RFC 6455 §5.2",
    fix: "Fail the connection.",
    run: |t| Box::pin(run(t)),
};

async fn run(t: &Try<'_>) -> Outcome {
    let ended = t.after(|peer| peer.frame(0x80 | 0x20 | TEXT, b"hello")).await?;
    Ok(judge::violated(&ended, &[CloseCode::PROTOCOL_ERROR.as_u16()]))
}
