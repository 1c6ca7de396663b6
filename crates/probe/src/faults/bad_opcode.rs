//! A frame of a kind that there is not.

use super::MOMENT;
use crate::fault::{Args, Complaint, Effect, Entry, Example, Fault, Kind, Make, Moment, Seen, To, forge, make};
use saywhy_proto::frame::{self, Opcode};

pub(super) const ENTRY: Entry = Entry {
    name: "bad-opcode",
    kind: Kind::Moment,
    value: "",
    about: "a frame with opcode 3, which is not defined, is written",
    to: To::Client,
    parameters: MOMENT,
    examples: &[Example { fault: "bad-opcode", seen: Seen::by_all("1 2 3, 1006") }],
    read,
};

fn read(_: &mut Args) -> Result<Make, Complaint> {
    Ok(make(|| Fault::Moment(Box::new(BadOpcode))))
}

struct BadOpcode;

impl Moment for BadOpcode {
    fn strike(&mut self) -> Effect {
        forge(
            |key, out| frame::write(Opcode::Binary, b"?", key, out),
            |frame| {
                if let Some(first) = frame.first_mut() {
                    *first |= 0x03;
                }
            },
        )
    }
}
