//! A Ping in two fragments.

use crate::probe::judge;
use crate::probe::peer::PING;
use crate::probe::{Outcome, Scenario, Try};
use saywhy_codes::CloseCode;

pub(super) const SCENARIO: Scenario = Scenario {
    id: "messages/fragmented-control",
    title: "a Ping in two fragments",
    expects: "Close 1002",
    why: "Control frames are not fragmented.",
    source: "RFC 6455 §5.5",
    fix: "Fail the connection.",
    run: |t| Box::pin(run(t)),
};

async fn run(t: &Try<'_>) -> Outcome {
    let ended = t.after(|peer| [peer.frame(PING, b"a"), peer.frame(0x80, b"b")].concat()).await?;
    Ok(judge::violated(&ended, &[CloseCode::PROTOCOL_ERROR.as_u16()]))
}
