//! A second message inside a first.

use crate::probe::judge;
use crate::probe::peer::TEXT;
use crate::probe::{Outcome, Scenario, Try};
use saywhy_codes::CloseCode;

pub(super) const SCENARIO: Scenario = Scenario {
    id: "messages/interleaved",
    title: "a second message inside a first",
    expects: "Close 1002",
    why: "Fragments of two messages cannot be told apart.",
    source: "RFC 6455 §5.4",
    fix: "Fail the connection.",
    run: |t| Box::pin(run(t)),
};

async fn run(t: &Try<'_>) -> Outcome {
    let ended = t.after(|peer| [peer.frame(TEXT, b"one"), peer.frame(0x80 | TEXT, b"two")].concat()).await?;
    Ok(judge::violated(&ended, &[CloseCode::PROTOCOL_ERROR.as_u16()]))
}
