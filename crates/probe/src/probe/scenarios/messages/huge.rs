//! A message that says it has a terabyte.

use crate::probe::judge;
use crate::probe::peer::BINARY;
use crate::probe::{Finding, Outcome, Scenario, Try, Verdict};
use saywhy_codes::CloseCode;

pub(super) const SCENARIO: Scenario = Scenario {
    id: "messages/huge",
    title: "a message that says it has a terabyte",
    expects: "Close 1009, at once, and no memory for it",
    why: "Whoever allocates what was declared can be ended with ten bytes.",
    source: "RFC 6455 §7.4.1 and §10.4",
    fix: "Compare the declared length with your limit before anything is allocated.",
    run: |t| Box::pin(run(t)),
};

async fn run(t: &Try<'_>) -> Outcome {
    let ended = t
        .after(|peer| {
            let mut bytes = peer.header(0x80 | BINARY, 1 << 40);
            bytes[1] |= 0x80;
            bytes.extend([1, 2, 3, 4]);
            bytes.extend([0; 64]);
            bytes
        })
        .await?;
    // In the middle of a frame there is no Close that the server could wait for: that it said one counts.
    let said = ended.close.as_ref().and_then(|(code, _)| *code) == Some(CloseCode::MESSAGE_TOO_BIG.as_u16());
    match said {
        true => Ok(Finding::new(Verdict::Pass, ended.got(), ended.browser())),
        false => Ok(judge::violated(&ended, &[])),
    }
}
