//! What is right and what is not, where many scenarios ask the same.

use crate::probe::peer::{CLOSE, Ended, Head, Heard, Peer};
use crate::probe::{Finding, Outcome, Verdict};
use serde_json::Value;

/// What a page sees of a handshake that fails.
pub(crate) const NOTHING: &str = "onclose 1006, without a reason";

/// A handshake that has to be refused. `status` are the right ones.
pub(crate) fn refused(head: &Result<Head, Heard>, right: &[u16]) -> Finding {
    match head {
        Ok(head) if right.contains(&head.status) => {
            Finding::new(Verdict::Pass, format!("HTTP {}", head.status), NOTHING)
        }
        Ok(head) if (400..500).contains(&head.status) => {
            Finding::new(Verdict::NonStrict, format!("HTTP {}", head.status), NOTHING)
        }
        Ok(head) => Finding::new(
            Verdict::Fail,
            format!("HTTP {}", head.status),
            if head.status == 101 { "onopen" } else { NOTHING },
        ),
        Err(Heard::Silence) => Finding::new(Verdict::Fail, "no answer", NOTHING),
        Err(_) => Finding::new(Verdict::NonStrict, "the connection was ended without an answer", NOTHING),
    }
}

/// A session that broke the protocol, and has to end with one of these codes.
pub(crate) fn violated(ended: &Ended, codes: &[u16]) -> Finding {
    let verdict = match (&ended.close, &ended.how) {
        _ if ended.after_close > 0 => Verdict::Fail,
        (Some((Some(code), _)), Some(Heard::Silence)) if codes.contains(code) => Verdict::NonStrict,
        (Some((Some(code), _)), _) if codes.contains(code) => Verdict::Pass,
        (Some(_), _) => Verdict::NonStrict,
        (None, Some(Heard::Silence) | None) => Verdict::Fail,
        // It ends, and nobody is told why.
        (None, Some(_)) => Verdict::NonStrict,
    };
    Finding::new(verdict, ended.got(), ended.browser())
}

/// A closing handshake that a client began, whose answer has one of these codes; `None` is a Close without a code.
pub(crate) fn closed(ended: &Ended, codes: Option<&[u16]>) -> Finding {
    let is_right = match &ended.close {
        Some((code, _)) => code.map_or(codes.is_none(), |code| codes.is_some_and(|codes| codes.contains(&code))),
        None => false,
    };
    let verdict = match &ended.how {
        _ if ended.after_close > 0 => Verdict::Fail,
        _ if ended.close.is_none() => Verdict::Fail,
        // Chromium waits two seconds for it, and then cuts.
        Some(Heard::Silence) | None => Verdict::NonStrict,
        Some(_) if is_right => Verdict::Pass,
        Some(_) => Verdict::NonStrict,
    };
    Finding::new(verdict, ended.got(), ended.browser())
}

/// An error of this name, in the envelope, that does not end the session.
pub(crate) async fn answered(peer: &mut Peer, name: &str) -> Outcome {
    let open = "nothing: the connection stays open";
    loop {
        let frame = match peer.next().await {
            Heard::Frame(frame) if frame.opcode() == CLOSE => {
                return Ok(Finding::new(Verdict::Fail, format!("Close {:?}", frame.close()), "onclose"));
            }
            Heard::Frame(frame) => frame,
            heard => return Ok(Finding::new(Verdict::Fail, format!("no answer: {heard:?}"), open)),
        };
        let Ok(said) = serde_json::from_slice::<Value>(&frame.payload) else { continue };
        if said.get("type").and_then(Value::as_str) != Some("error") {
            continue;
        }
        let is = said.pointer("/data/name").and_then(Value::as_str) == Some(name);
        let fatal = said.pointer("/data/fatal") == Some(&Value::Bool(true));
        let verdict = if is && !fatal { Verdict::Pass } else { Verdict::Fail };
        return Ok(Finding::new(verdict, String::from_utf8_lossy(&frame.payload), open));
    }
}

/// A session that has to go on.
pub(crate) fn goes_on(lives: bool, got: &str) -> Finding {
    match lives {
        true => {
            Finding::new(Verdict::Pass, format!("{got}, and the session goes on"), "nothing: the connection stays open")
        }
        false => {
            Finding::new(Verdict::Fail, format!("{got}, and the session does not answer a Ping any more"), NOTHING)
        }
    }
}
