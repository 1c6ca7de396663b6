//! A bit that flips.

use super::FRAMES;
use crate::fault::{Args, Complaint, Draws, Entry, Example, Fault, Frames, Kind, Make, Piece, Seen, To, make};
use saywhy_proto::frame::Header;

pub(super) const ENTRY: Entry = Entry {
    name: "corrupt",
    kind: Kind::Frames,
    value: "",
    about: "the lowest bit of one byte of a message flips; which byte is drawn",
    to: To::Client,
    parameters: FRAMES,
    examples: &[Example { fault: "corrupt,after=2msg,times=1", seen: Seen::by_all("1 ? 3, 1000") }],
    read,
};

fn read(_: &mut Args) -> Result<Make, Complaint> {
    Ok(make(|| Fault::Frames(Box::new(Corrupt::default()))))
}

#[derive(Default)]
struct Corrupt {
    /// How far into the payload it is, from 0 up to 1.
    place: f64,
}

impl Frames for Corrupt {
    fn concerns(&self, header: &Header) -> bool {
        !header.opcode.is_control()
    }

    fn strike(&mut self, draws: &mut Draws) {
        self.place = draws.next();
    }

    fn pass(&mut self, piece: &mut Piece<'_>, struck: bool) {
        // In the first frame of the message, which is all of it for most.
        let is_first_frame = piece.header.opcode != saywhy_proto::frame::Opcode::Continuation;
        if !struck || !is_first_frame || piece.header.opcode.is_control() {
            return;
        }
        let byte = (self.place * piece.header.len as f64) as u64;
        let here = byte.checked_sub(piece.offset).and_then(|here| usize::try_from(here).ok());
        if let Some(byte) = here.and_then(|here| piece.payload.get_mut(here)) {
            // Masked or not, and ASCII stays ASCII.
            *byte ^= 1;
        }
    }
}
