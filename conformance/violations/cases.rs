//! `cases.json` for the Rust tests, as bytes. README.md has the notation.

use saywhy_codes::Role;
use saywhy_proto::frame;
use serde::Deserialize;

/// Of RFC 6455 §5.7, so that a payload that was not unmasked is noticed.
const KEY: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Cases {
    /// The limit for which the cases about size are made.
    pub(crate) message_bytes: usize,
    cases: Vec<Case>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    pub(crate) name: String,
    #[serde(rename = "section")]
    _section: String,
    sender: Option<String>,
    send: Vec<Frame>,
    pub(crate) answer: Answer,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Frame {
    head: String,
    #[serde(default)]
    hex: String,
    #[serde(default)]
    text: String,
    times: Option<usize>,
    length: Option<String>,
    declares: Option<String>,
    masked: Option<bool>,
}

/// What is right: the session `goes_on`, or there is a Close.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Answer {
    #[serde(default)]
    pub(crate) goes_on: bool,
    /// `None` is a Close without one.
    pub(crate) code: Option<u16>,
    #[serde(default)]
    pub(crate) reason: String,
    /// The row of the error message that goes before the Close, where one can be sent.
    pub(crate) row: Option<String>,
}

impl Cases {
    pub(crate) fn read() -> Self {
        serde_json::from_str(include_str!("cases.json")).unwrap()
    }

    /// What an endpoint in role `sender` can do wrong.
    pub(crate) fn of(&self, sender: Role) -> impl Iterator<Item = &Case> {
        let name = match sender {
            Role::Client => "client",
            Role::Server => "server",
        };
        self.cases.iter().filter(move |case| case.sender.as_ref().is_none_or(|sender| sender == name))
    }
}

impl Case {
    pub(crate) fn bytes(&self, sender: Role) -> Vec<u8> {
        self.send.iter().flat_map(|frame| frame.bytes(sender)).collect()
    }

    /// A Close is among the frames.
    pub(crate) fn closes(&self) -> bool {
        self.send.iter().any(|frame| frame.head() & 0x0F == 8)
    }

    /// The last frame has no end, so that no Close can be found behind it.
    pub(crate) fn is_cut(&self) -> bool {
        self.send.last().is_some_and(|frame| frame.declares.is_some())
    }
}

impl Frame {
    fn head(&self) -> u8 {
        u8::from_str_radix(&self.head, 16).unwrap()
    }

    fn payload(&self) -> Vec<u8> {
        [hex(&self.hex), self.text.clone().into_bytes()].concat().repeat(self.times.unwrap_or(1))
    }

    fn bytes(&self, sender: Role) -> Vec<u8> {
        let mut payload = self.payload();
        let declares = self.declares.as_ref().map(|length| u64::from_str_radix(length, 16).unwrap());
        let length = declares.unwrap_or(payload.len() as u64);
        let mut length = length_bytes(length, self.length.as_deref());
        if !self.masked.unwrap_or(sender == Role::Client) {
            return [vec![self.head()], length, payload].concat();
        }
        length[0] |= 0x80;
        frame::mask(&mut payload, KEY, 0);
        [vec![self.head()], length, KEY.to_vec(), payload].concat()
    }
}

fn length_bytes(length: u64, bits: Option<&str>) -> Vec<u8> {
    match (bits, length) {
        (None, 0..126) => vec![length as u8],
        (Some("16"), _) | (None, 126..0x1_0000) => [&[126][..], &(length as u16).to_be_bytes()].concat(),
        _ => [&[127][..], &length.to_be_bytes()].concat(),
    }
}

fn hex(digits: &str) -> Vec<u8> {
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}
