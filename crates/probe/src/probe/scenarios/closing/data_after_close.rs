//! A text after the Close.

use crate::probe::judge;
use crate::probe::peer::code;
use crate::probe::{Finding, Outcome, Scenario, Try, Verdict};
use saywhy_codes::CloseCode;

pub(super) const SCENARIO: Scenario = Scenario {
    id: "closing/data-after-close",
    title: "a text after the Close",
    expects: "nothing but the answer to the Close",
    why: "What follows a Close is not part of the conversation.",
    source: "RFC 6455 §5.5.1",
    fix: "Throw it away.",
    run: |t| Box::pin(run(t)),
};

async fn run(t: &Try<'_>) -> Outcome {
    let ended =
        t.after(|peer| [peer.close(&code(CloseCode::NORMAL.as_u16(), b"")), peer.text("too late")].concat()).await?;
    Ok(match ended.messages.is_empty() {
        true => judge::closed(&ended, Some(&[CloseCode::NORMAL.as_u16()])),
        false => Finding::new(Verdict::Fail, ended.got(), ended.browser()),
    })
}
