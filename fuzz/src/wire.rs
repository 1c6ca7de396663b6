//! What we write, read with suspicion. It shares no code with what wrote it.

use saywhy_codes::Role;

/// A frame that we wrote.
#[derive(Debug, PartialEq, Eq)]
pub enum Written {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<(u16, String)>),
}

/// All frames in `bytes`, which `sender` wrote. Panics at whatever RFC 6455 does not let it write, and at what our
/// sessions never have a reason to.
pub fn read(mut bytes: &[u8], sender: Role) -> Vec<Written> {
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        let first = take(&mut bytes, 1)[0];
        assert_eq!(first & 0xF0, 0x80, "a fragment or a reserved bit");
        let second = take(&mut bytes, 1)[0];
        assert_eq!(second & 0x80 != 0, sender == Role::Client, "clients mask, servers do not (RFC 6455 section 5.1)");
        let len = match second & 0x7F {
            126 => number(take(&mut bytes, 2)),
            127 => number(take(&mut bytes, 8)),
            short => u64::from(short),
        };
        let form = match len {
            0..126 => 0,
            126..65_536 => 126,
            _ => 127,
        };
        assert!(form == 0 || second & 0x7F == form, "a length is written in as few bytes as it takes");
        let key: [u8; 4] = if sender == Role::Client { take(&mut bytes, 4).try_into().unwrap() } else { [0; 4] };
        let masked = take(&mut bytes, usize::try_from(len).unwrap());
        let payload: Vec<u8> = masked.iter().enumerate().map(|(i, byte)| byte ^ key[i % 4]).collect();
        assert!(first & 0x08 == 0 || payload.len() <= 125, "a long control frame");
        frames.push(match first & 0x0F {
            0x1 => Written::Text(String::from_utf8(payload).expect("a text that is not UTF-8")),
            0x2 => Written::Binary(payload),
            0x8 => Written::Close(close(&payload, sender)),
            0x9 => Written::Ping(payload),
            0xA => Written::Pong(payload),
            opcode => panic!("opcode {opcode}"),
        });
    }
    frames
}

fn close(payload: &[u8], sender: Role) -> Option<(u16, String)> {
    if payload.is_empty() {
        return None;
    }
    let code = u16::try_from(number(&payload[..2])).unwrap();
    assert!(is_sendable(code, sender), "close code {code}");
    let reason = String::from_utf8(payload[2..].to_vec()).expect("a reason that is not UTF-8");
    assert!(reason.len() <= 123 && !reason.contains(char::is_control), "reason {reason:?}");
    Some((code, reason))
}

/// RFC 6455 §7.4.2, and IANA's registry.
pub fn is_sendable(code: u16, sender: Role) -> bool {
    match code {
        1010 => sender == Role::Client,
        _ => [1000..=1003, 1007..=1014, 3000..=4999].iter().any(|range| range.contains(&code)),
    }
}

fn take<'a>(bytes: &mut &'a [u8], n: usize) -> &'a [u8] {
    let (taken, rest) = bytes.split_at_checked(n).expect("a whole frame");
    *bytes = rest;
    taken
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}
