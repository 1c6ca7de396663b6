//! 300 messages in one go.

use crate::probe::peer::Heard;
use crate::probe::{Finding, Outcome, Scenario, Try, Verdict};

pub(super) const SCENARIO: Scenario = Scenario {
    id: "limits/burst",
    title: "300 messages in one go",
    expects: "all of them, or an error or a Close that says that it is too much",
    why: "A limit that nobody is told of looks like a server that loses messages.",
    source: "PROTOCOL.md, limits",
    fix: "Say rate_limited, or close with 1008, 1013 or a code of your own, with a reason.",
    run: |t| Box::pin(run(t)),
};

async fn run(t: &Try<'_>) -> Outcome {
    let mut peer = t.open().await?;
    let many: Vec<u8> = (0..300).flat_map(|n| peer.text(&format!("{{\"type\":\"ping\",\"data\":{n}}}"))).collect();
    peer.write(&many).await;
    let ended = peer.read_to_end().await;
    let limited = ended.messages.iter().filter(|message| message.contains("rate_limited")).count();
    let verdict = match (&ended.close, &ended.how) {
        (Some((Some(_), reason)), _) if !reason.is_empty() => Verdict::Pass,
        (Some(_), _) => Verdict::NonStrict,
        (None, Some(Heard::Silence)) => Verdict::Pass,
        (None, _) => Verdict::NonStrict,
    };
    let got = format!("{} answers, {limited} of them rate_limited; {}", ended.messages.len(), ended.got());
    Ok(Finding::new(verdict, got, ended.browser()))
}
