//! A bit that only an extension could give a meaning.

use super::MOMENT;
use crate::fault::{Args, Complaint, Effect, Entry, Example, Fault, Kind, Make, Moment, Seen, To, forge, make};
use saywhy_proto::frame::{self, Opcode};

pub(super) const ENTRY: Entry = Entry {
    name: "rsv",
    kind: Kind::Moment,
    value: "",
    about: "a frame with the second reserved bit set is written",
    to: To::Client,
    parameters: MOMENT,
    examples: &[Example { fault: "rsv", seen: Seen::by_all("1 2 3, 1006") }],
    read,
};

fn read(_: &mut Args) -> Result<Make, Complaint> {
    Ok(make(|| Fault::Moment(Box::new(Rsv))))
}

struct Rsv;

impl Moment for Rsv {
    fn strike(&mut self) -> Effect {
        // The second: the first is that of permessage-deflate.
        forge(
            |key, out| frame::write(Opcode::Text, b"?", key, out),
            |frame| {
                if let Some(first) = frame.first_mut() {
                    *first |= 0x20;
                }
            },
        )
    }
}
