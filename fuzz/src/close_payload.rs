//! The payload of a Close frame that we read, and the words of one that we write.

use super::script::Script;
use super::wire::{self, Written};
use saywhy_codes::{CloseCode, CloseFrame, CloseReason, Observed, Role};
use saywhy_proto::message::{Decoder, Item};
use saywhy_proto::session::{Mute, State};
use saywhy_proto::{Limits, Session, Violation, frame};
use std::sync::Arc;
use std::time::Duration;

/// Runs an input.
pub fn run(input: &[u8]) {
    let mut script = Script(input);
    let flags = script.byte();
    let payload = script.bytes(140);
    let (us, peer) = if flags & 1 == 0 { (Role::Server, Role::Client) } else { (Role::Client, Role::Server) };
    read(payload, us, peer);
    write(payload, us);
}

/// What a payload is, in the words of RFC 6455 §5.5.1 and §7.4.
#[derive(Debug, PartialEq)]
enum Verdict {
    Legal(Option<u16>, String),
    Wrong(Violation),
}

fn expected(payload: &[u8]) -> Verdict {
    let [high, low, reason @ ..] = payload else {
        return if payload.is_empty() {
            Verdict::Legal(None, String::new())
        } else {
            Verdict::Wrong(Violation::CloseOneByte)
        };
    };
    let code = u16::from(*high) * 256 + u16::from(*low);
    match String::from_utf8(reason.to_vec()) {
        _ if reason.len() > 123 => Verdict::Wrong(Violation::LongControl),
        _ if !wire::is_sendable(code, Role::Client) => Verdict::Wrong(Violation::CloseCode(code)),
        Err(_) => Verdict::Wrong(Violation::CloseReasonNotUtf8),
        Ok(reason) => Verdict::Legal(Some(code), reason),
    }
}

fn read(payload: &[u8], us: Role, peer: Role) {
    let mut bytes = vec![0x88];
    let mask = if peer == Role::Client { 0x80 } else { 0 };
    match payload.len() {
        len @ 0..126 => bytes.push(mask | len as u8),
        len => bytes.extend([mask | 126, 0, len as u8]),
    }
    if peer == Role::Client {
        bytes.extend([0; 4]);
    }
    bytes.extend(payload);
    let expected = expected(payload);
    for step in [bytes.len(), 1] {
        assert_eq!(decoded(&bytes, step, peer), expected);
    }

    // How the session answers. The last word after the peer's Close is a Close, with the reason in it.
    let now = Duration::from_secs(1);
    let limits = Arc::new(Limits::default());
    let mut session = match us {
        Role::Server => Session::server(limits, now),
        Role::Client => Session::client(limits, || [1, 2, 3, 4], now),
    };
    session.ready(now);
    let mut rest = &mut bytes[..];
    while !rest.is_empty() {
        let (taken, delivery) = session.receive(rest, now);
        assert!(delivery.is_none() && (taken > 0 || expected == Verdict::Wrong(Violation::LongControl)));
        rest = &mut rest[taken..];
    }
    assert_eq!(session.state(), State::Closing);
    let mut out = Vec::new();
    session.transmit(true, &Mute, now, &mut out);
    let mut said = wire::read(&out, us);
    let close = said.pop();
    assert!(said.is_empty(), "{said:?} before the answer to a Close");
    match &expected {
        Verdict::Legal(code, _) => {
            // 1010 is a client's to say, so a server acknowledges it with 1000.
            let echo = code.map(|code| if wire::is_sendable(code, us) { code } else { 1000 });
            assert_eq!(close, Some(Written::Close(echo.map(|code| (code, String::new())))));
        }
        Verdict::Wrong(violation) => {
            let Some(Written::Close(Some((code, reason)))) = close else { panic!("{close:?}") };
            assert_eq!(code, if *violation == Violation::CloseReasonNotUtf8 { 1007 } else { 1002 });
            assert_eq!(reason, violation.message().message(), "the whole sentence fits");
        }
    }
    session.end_of_input();
    let ending = session.take_ending(now);
    assert!(!ending.to_string().contains(char::is_control), "{ending}");
    let received = ending.received.map(|close| (close.code.as_u16(), close.reason.as_str().to_owned()));
    match expected {
        Verdict::Legal(code, reason) => assert_eq!(received, Some((code.unwrap_or(1005), reason))),
        Verdict::Wrong(Violation::CloseCode(code)) => assert_eq!(received.map(|close| close.0), Some(code)),
        Verdict::Wrong(_) => assert!(received.is_some()),
    }
}

fn decoded(bytes: &[u8], step: usize, sender: Role) -> Verdict {
    let mut decoder = Decoder::new(sender, 1000);
    for chunk in bytes.to_vec().chunks_mut(step) {
        let mut rest = chunk;
        while !rest.is_empty() {
            let (taken, item) = decoder.next(rest);
            match item {
                Ok(None) => rest = &mut rest[taken..],
                Ok(Some(Item::Close(close, None))) => {
                    let code = (close.code != Observed::NoStatus).then(|| close.code.as_u16());
                    return Verdict::Legal(code, close.reason.as_str().to_owned());
                }
                Ok(Some(Item::Close(_, Some(violation)))) | Err(violation) => return Verdict::Wrong(violation),
                Ok(Some(other)) => panic!("a Close was read as {other:?}"),
            }
        }
    }
    panic!("a whole Close was not read")
}

/// Any words, cut to a reason, arrive as they were cut.
fn write(payload: &[u8], us: Role) {
    let text = String::from_utf8_lossy(payload);
    let reason = CloseReason::cut(&text);
    let kept = reason.as_str();
    assert!(kept.len() <= 123 && !kept.contains(char::is_control));
    let same = kept.chars().zip(text.chars()).all(|(kept, was)| kept == was || (kept == ' ' && was.is_control()));
    assert!(same, "{kept:?} of {text:?}");
    let exact = CloseReason::new(text.to_string());
    assert_eq!(exact.is_ok(), text.len() <= 123);
    assert!(text.contains(char::is_control) || text.len() > 123 || kept == text, "{kept:?} of {text:?}");
    let code = payload.first_chunk().map_or(1000, |code| u16::from_be_bytes(*code));
    assert_eq!(CloseCode::new(code, us).is_ok(), wire::is_sendable(code, us));
    let Ok(code) = CloseCode::new(code, us) else { return };
    let mut out = Vec::new();
    let key = (us == Role::Client).then_some([9, 8, 7, 6]);
    frame::write_close(Some(&CloseFrame { code, reason: reason.clone() }), key, &mut out);
    assert_eq!(wire::read(&out, us), [Written::Close(Some((code.as_u16(), kept.to_owned())))]);
}
