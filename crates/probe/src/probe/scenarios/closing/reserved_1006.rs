//! A Close with 1006, which may not be sent.

use crate::probe::judge;
use crate::probe::peer::code;
use crate::probe::{Outcome, Scenario, Try};
use saywhy_codes::CloseCode;

pub(super) const SCENARIO: Scenario = Scenario {
    id: "closing/reserved-1006",
    title: "a Close with 1006, which may not be sent",
    expects: "Close 1002",
    why: "1006 is what an endpoint reports when there was no Close.",
    source: "RFC 6455 §5.5.1 and §7.4",
    fix: "Judge the payload of a Close like any other.",
    run: |t| Box::pin(run(t)),
};

async fn run(t: &Try<'_>) -> Outcome {
    let ended = t.after(|peer| peer.close(&code(1_006, b""))).await?;
    Ok(judge::violated(&ended, &[CloseCode::PROTOCOL_ERROR.as_u16()]))
}
