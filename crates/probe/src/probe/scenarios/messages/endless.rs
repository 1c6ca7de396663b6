//! Fragments without an end, 64 MiB of them.

use crate::probe::judge;
use crate::probe::peer::BINARY;
use crate::probe::{Finding, Outcome, Scenario, Try, Verdict};
use saywhy_codes::CloseCode;

pub(super) const SCENARIO: Scenario = Scenario {
    id: "messages/endless",
    title: "fragments without an end, 64 MiB of them",
    expects: "Close 1009 before all of it is there",
    why: "A limit for each frame is none for a message.",
    source: "RFC 6455 §10.4",
    fix: "Limit a message over all of its fragments.",
    run: |t| Box::pin(run(t)),
};

async fn run(t: &Try<'_>) -> Outcome {
    let mut peer = t.open().await?;
    let first = peer.frame(BINARY, &[0; 1024]);
    let next = peer.frame(0, &[0; 64 * 1024]);
    let mut taken = peer.write(&first).await;
    for _ in 0..1024 {
        taken = taken && peer.write(&next).await;
        if !taken {
            break;
        }
    }
    let ended = peer.read_to_end().await;
    if ended.close.is_none() && taken {
        return Ok(Finding::new(Verdict::NonStrict, "64 MiB of one message were taken", ended.browser()));
    }
    // What was under way is reset by a server that does not read on, and its Close is lost with it.
    Ok(judge::violated(&ended, &[CloseCode::MESSAGE_TOO_BIG.as_u16()]))
}
