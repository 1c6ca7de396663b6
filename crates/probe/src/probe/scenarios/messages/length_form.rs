//! A length in more bytes than it needs.

use crate::probe::judge;
use crate::probe::{Outcome, Scenario, Try};
use saywhy_codes::CloseCode;

pub(super) const SCENARIO: Scenario = Scenario {
    id: "messages/length-form",
    title: "a length in more bytes than it needs",
    expects: "Close 1002",
    why: "There is one way to write a length; others get past filters.",
    source: "RFC 6455 §5.2",
    fix: "Fail the connection.",
    run: |t| Box::pin(run(t)),
};

async fn run(t: &Try<'_>) -> Outcome {
    let ended = t.after(|_| [&[0x81, 0x80 | 126, 0, 2, 0, 0, 0, 0][..], b"hi"].concat()).await?;
    Ok(judge::violated(&ended, &[CloseCode::PROTOCOL_ERROR.as_u16()]))
}
