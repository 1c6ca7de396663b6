//! Closes that never arrive.

use super::FRAMES;
use crate::fault::{Args, Complaint, Entry, Example, Fault, Frames, Kind, Make, Piece, Seen, To, make};
use saywhy_proto::frame::{Header, Opcode};

pub(super) const ENTRY: Entry = Entry {
    name: "no-close",
    kind: Kind::Frames,
    value: "",
    about: "Closes are swallowed: what comes of it is the end of TCP, when the server ends it",
    to: To::Client,
    parameters: FRAMES,
    examples: &[Example { fault: "no-close", seen: Seen::by_all("1 2 3, 1006") }],
    read,
};

fn read(_: &mut Args) -> Result<Make, Complaint> {
    Ok(make(|| Fault::Frames(Box::new(NoClose))))
}

struct NoClose;

impl Frames for NoClose {
    fn concerns(&self, header: &Header) -> bool {
        header.opcode == Opcode::Close
    }

    fn pass(&mut self, piece: &mut Piece<'_>, struck: bool) {
        piece.fate.is_gone |= struck;
    }
}
