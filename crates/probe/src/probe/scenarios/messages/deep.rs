//! JSON that is 100,000 levels deep.

use crate::probe::{Finding, Outcome, Scenario, Try, Verdict};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "messages/deep",
    title: "JSON that is 100,000 levels deep",
    expects: "an error or an echo, and the server is still there",
    why: "Parsers that call themselves for each level run out of stack, and take the process with them.",
    source: "CVE-2022-2048 and its like",
    fix: "Limit the depth, as most parsers can.",
    run: |t| Box::pin(run(t)),
};

async fn run(t: &Try<'_>) -> Outcome {
    let mut peer = t.open().await?;
    let deep = "[".repeat(20_000);
    let deep = peer.text(&deep);
    peer.write(&deep).await;
    let lives = t.lives(&mut peer).await;
    let (verdict, browser) =
        if lives { (Verdict::Pass, "nothing: the connection stays open") } else { (Verdict::NonStrict, "onclose") };
    Ok(Finding::new(verdict, if lives { "the session goes on" } else { "the session ends" }, browser))
}
