//! A mask where there must be none, and none where there must be one.

use super::MOMENT;
use crate::fault::{Args, Complaint, Effect, Entry, Example, Fault, KEY, Kind, Make, Moment, Seen, To, forge, make};
use saywhy_proto::frame::{self, Opcode};

pub(super) const ENTRY: Entry = Entry {
    name: "masked",
    kind: Kind::Moment,
    value: "",
    about: "a masked message is written, which no server may send; with `to=server` one without a mask, which no client may",
    to: To::Client,
    parameters: MOMENT,
    examples: &[Example {
        fault: "masked",
        seen: Seen { chromium: "1 2 3, 1006", firefox: "1 2 3 ? 4, still open", ws: "1 2 3, 1006" },
    }],
    read,
};

fn read(_: &mut Args) -> Result<Make, Complaint> {
    Ok(make(|| Fault::Moment(Box::new(Masked))))
}

struct Masked;

impl Moment for Masked {
    fn strike(&mut self) -> Effect {
        let other = |key: Option<[u8; 4]>| if key.is_some() { None } else { Some(KEY) };
        forge(|key, out| frame::write(Opcode::Text, b"?", other(key), out), |_| {})
    }
}
