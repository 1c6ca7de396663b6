//! Text that is no text.

use super::MOMENT;
use crate::fault::{Args, Complaint, Effect, Entry, Example, Fault, Kind, Make, Moment, Seen, To, forge, make};
use saywhy_proto::frame::{self, Opcode};

pub(super) const ENTRY: Entry = Entry {
    name: "bad-utf8",
    kind: Kind::Moment,
    value: "",
    about: "a text message that is not UTF-8 is written",
    to: To::Client,
    parameters: MOMENT,
    examples: &[Example { fault: "bad-utf8", seen: Seen::by_all("1 2 3, 1006") }],
    read,
};

fn read(_: &mut Args) -> Result<Make, Complaint> {
    Ok(make(|| Fault::Moment(Box::new(BadUtf8))))
}

struct BadUtf8;

impl Moment for BadUtf8 {
    fn strike(&mut self) -> Effect {
        // A sequence of two bytes whose second is none.
        forge(|key, out| frame::write(Opcode::Text, &[0xC3, 0x28], key, out), |_| {})
    }
}
