//! A Close whose reason is not UTF-8.

use crate::probe::judge;
use crate::probe::peer::code;
use crate::probe::{Outcome, Scenario, Try};
use saywhy_codes::CloseCode;

pub(super) const SCENARIO: Scenario = Scenario {
    id: "closing/reason-not-utf-8",
    title: "a Close whose reason is not UTF-8",
    expects: "Close 1007",
    why: "The reason is text, too.",
    source: "RFC 6455 §5.5.1 and §7.4",
    fix: "Judge the payload of a Close like any other.",
    run: |t| Box::pin(run(t)),
};

async fn run(t: &Try<'_>) -> Outcome {
    let ended = t.after(|peer| peer.close(&code(CloseCode::NORMAL.as_u16(), b"caf\xe9"))).await?;
    Ok(judge::violated(&ended, &[CloseCode::INVALID_PAYLOAD.as_u16()]))
}
