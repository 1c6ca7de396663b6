//! Pongs that never arrive: whoever pings takes the other for dead.

use super::FRAMES;
use crate::fault::{Args, Complaint, Entry, Example, Fault, Frames, Kind, Make, Piece, Seen, To, make};
use saywhy_proto::frame::{Header, Opcode};

pub(super) const ENTRY: Entry = Entry {
    name: "no-pong",
    kind: Kind::Frames,
    value: "",
    about: "Pongs are swallowed: whoever pings takes the other for dead, and ends the connection",
    to: To::Both,
    parameters: FRAMES,
    examples: &[Example { fault: "no-pong", seen: Seen::by_all("1 2 3, 3008 No heartbeat was answered") }],
    read,
};

fn read(_: &mut Args) -> Result<Make, Complaint> {
    Ok(make(|| Fault::Frames(Box::new(NoPong))))
}

struct NoPong;

impl Frames for NoPong {
    fn concerns(&self, header: &Header) -> bool {
        header.opcode == Opcode::Pong
    }

    fn pass(&mut self, piece: &mut Piece<'_>, struck: bool) {
        piece.fate.is_gone |= struck;
    }
}
