//! A Close with 1005, which may not be sent.

use crate::probe::judge;
use crate::probe::peer::code;
use crate::probe::{Outcome, Scenario, Try};
use saywhy_codes::CloseCode;

pub(super) const SCENARIO: Scenario = Scenario {
    id: "closing/reserved-1005",
    title: "a Close with 1005, which may not be sent",
    expects: "Close 1002",
    why: "1005 is what an endpoint reports when there was no code.",
    source: "RFC 6455 §5.5.1 and §7.4",
    fix: "Judge the payload of a Close like any other.",
    run: |t| Box::pin(run(t)),
};

async fn run(t: &Try<'_>) -> Outcome {
    let ended = t.after(|peer| peer.close(&code(1_005, b""))).await?;
    Ok(judge::violated(&ended, &[CloseCode::PROTOCOL_ERROR.as_u16()]))
}
