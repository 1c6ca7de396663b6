//! A message that never arrives.

use super::FRAMES;
use crate::fault::{Args, Complaint, Entry, Example, Fault, Frames, Kind, Make, Piece, Seen, To, make};
use saywhy_proto::frame::Header;

pub(super) const ENTRY: Entry = Entry {
    name: "lose",
    kind: Kind::Frames,
    value: "",
    about: "a message is swallowed",
    to: To::Client,
    parameters: FRAMES,
    examples: &[Example { fault: "lose,after=2msg,times=1", seen: Seen::by_all("1 3, 1000") }],
    read,
};

fn read(_: &mut Args) -> Result<Make, Complaint> {
    Ok(make(|| Fault::Frames(Box::new(Lose))))
}

struct Lose;

impl Frames for Lose {
    fn concerns(&self, header: &Header) -> bool {
        !header.opcode.is_control()
    }

    fn pass(&mut self, piece: &mut Piece<'_>, struck: bool) {
        piece.fate.is_gone |= struck;
    }
}
