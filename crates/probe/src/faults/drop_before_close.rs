//! The last word is lost: TCP is reset just before it.

use super::FRAMES;
use crate::fault::{Args, Complaint, Entry, Example, Fault, Frames, Kind, Make, Piece, Seen, To, make};
use saywhy_proto::frame::{Header, Opcode};

pub(super) const ENTRY: Entry = Entry {
    name: "drop-before-close",
    kind: Kind::Frames,
    value: "",
    about: "where a Close is about to pass, TCP is reset instead",
    to: To::Client,
    parameters: FRAMES,
    examples: &[Example { fault: "drop-before-close", seen: Seen::by_all("1 2 3, 1006") }],
    read,
};

fn read(_: &mut Args) -> Result<Make, Complaint> {
    Ok(make(|| Fault::Frames(Box::new(DropBeforeClose))))
}

struct DropBeforeClose;

impl Frames for DropBeforeClose {
    fn concerns(&self, header: &Header) -> bool {
        header.opcode == Opcode::Close
    }

    fn pass(&mut self, piece: &mut Piece<'_>, struck: bool) {
        piece.fate.is_gone |= struck;
        piece.fate.is_reset |= struck;
    }
}
