//! A text that ends within a character, over two fragments.

use crate::probe::judge;
use crate::probe::peer::TEXT;
use crate::probe::{Outcome, Scenario, Try};
use saywhy_codes::CloseCode;

pub(super) const SCENARIO: Scenario = Scenario {
    id: "messages/half-a-character",
    title: "a text that ends within a character, over two fragments",
    expects: "Close 1007",
    why: "Each fragment may end within a character; the message may not.",
    source: "RFC 6455 §8.1",
    fix: "Check UTF-8 over fragments.",
    run: |t| Box::pin(run(t)),
};

async fn run(t: &Try<'_>) -> Outcome {
    let ended = t.after(|peer| [peer.frame(TEXT, b"caf\xc3"), peer.frame(0x80, b"")].concat()).await?;
    Ok(judge::violated(&ended, &[CloseCode::INVALID_PAYLOAD.as_u16()]))
}
