//! A text that is not UTF-8.

use crate::probe::judge;
use crate::probe::peer::TEXT;
use crate::probe::{Outcome, Scenario, Try};
use saywhy_codes::CloseCode;

pub(super) const SCENARIO: Scenario = Scenario {
    id: "messages/not-utf-8",
    title: "a text that is not UTF-8",
    expects: "Close 1007",
    why: "What is delivered would be something else than what was sent, or an exception in the handler.",
    source: "RFC 6455 §8.1",
    fix: "Fail the connection with 1007.",
    run: |t| Box::pin(run(t)),
};

async fn run(t: &Try<'_>) -> Outcome {
    let ended = t.after(|peer| peer.frame(0x80 | TEXT, b"caf\xe9")).await?;
    Ok(judge::violated(&ended, &[CloseCode::INVALID_PAYLOAD.as_u16()]))
}
