//! A Ping of 126 bytes.

use crate::probe::judge;
use crate::probe::peer::PING;
use crate::probe::{Outcome, Scenario, Try};
use saywhy_codes::CloseCode;

pub(super) const SCENARIO: Scenario = Scenario {
    id: "messages/long-control",
    title: "a Ping of 126 bytes",
    expects: "Close 1002",
    why: "Control frames have at most 125 bytes, so that they need no buffer.",
    source: "RFC 6455 §5.5",
    fix: "Fail the connection at the header.",
    run: |t| Box::pin(run(t)),
};

async fn run(t: &Try<'_>) -> Outcome {
    let ended = t.after(|peer| peer.frame(0x80 | PING, &[b'x'; 126])).await?;
    Ok(judge::violated(&ended, &[CloseCode::PROTOCOL_ERROR.as_u16()]))
}
