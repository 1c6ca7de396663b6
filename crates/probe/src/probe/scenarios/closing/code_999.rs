//! A Close with 999.

use crate::probe::judge;
use crate::probe::peer::code;
use crate::probe::{Outcome, Scenario, Try};
use saywhy_codes::CloseCode;

pub(super) const SCENARIO: Scenario = Scenario {
    id: "closing/code-999",
    title: "a Close with 999",
    expects: "Close 1002",
    why: "There are no codes below 1000.",
    source: "RFC 6455 §5.5.1 and §7.4",
    fix: "Judge the payload of a Close like any other.",
    run: |t| Box::pin(run(t)),
};

async fn run(t: &Try<'_>) -> Outcome {
    let ended = t.after(|peer| peer.close(&code(999, b""))).await?;
    Ok(judge::violated(&ended, &[CloseCode::PROTOCOL_ERROR.as_u16()]))
}
