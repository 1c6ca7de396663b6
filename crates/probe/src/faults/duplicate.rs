//! A message that arrives twice.

use super::{FRAMES, MESSAGE_BYTES};
use crate::fault::{Args, Complaint, Entry, Example, Fault, Frames, Kind, Make, Piece, Seen, To, make};
use saywhy_proto::frame::Header;

pub(super) const ENTRY: Entry = Entry {
    name: "duplicate",
    kind: Kind::Frames,
    value: "",
    about: "a message of at most 1 MiB passes twice",
    to: To::Client,
    parameters: FRAMES,
    examples: &[Example { fault: "duplicate,after=1msg", seen: Seen::by_all("1 1 2 2 3 3, 1000") }],
    read,
};

fn read(_: &mut Args) -> Result<Make, Complaint> {
    Ok(make(|| Fault::Frames(Box::new(Duplicate::default()))))
}

#[derive(Default)]
struct Duplicate {
    copy: Vec<u8>,
}

impl Frames for Duplicate {
    fn concerns(&self, header: &Header) -> bool {
        !header.opcode.is_control()
    }

    fn pass(&mut self, piece: &mut Piece<'_>, struck: bool) {
        if !struck || piece.header.opcode.is_control() {
            return;
        }
        if piece.begins_message {
            self.copy.clear();
        }
        if self.copy.len() <= MESSAGE_BYTES {
            self.copy.extend_from_slice(piece.head);
            self.copy.extend_from_slice(piece.payload);
        }
        if piece.ends_message {
            let copy = std::mem::take(&mut self.copy);
            if copy.len() <= MESSAGE_BYTES {
                piece.fate.behind.extend(copy);
            }
        }
    }
}
