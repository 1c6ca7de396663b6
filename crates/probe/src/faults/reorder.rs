//! Two messages in the wrong order.

use super::{FRAMES, MESSAGE_BYTES};
use crate::fault::{Args, Complaint, Entry, Example, Fault, Frames, Kind, Make, Piece, Seen, To, make};
use saywhy_proto::frame::{Header, Opcode};

pub(super) const ENTRY: Entry = Entry {
    name: "reorder",
    kind: Kind::Frames,
    value: "",
    about: "a message of at most 1 MiB waits until the next has passed",
    to: To::Client,
    parameters: FRAMES,
    examples: &[Example { fault: "reorder,after=1msg,times=1", seen: Seen::by_all("2 1 3, 1000") }],
    read,
};

fn read(_: &mut Args) -> Result<Make, Complaint> {
    Ok(make(|| Fault::Frames(Box::new(Reorder::default()))))
}

#[derive(Default)]
struct Reorder {
    /// The message that waits.
    held: Vec<u8>,
    /// It is under way, and too long to be kept.
    is_too_long: bool,
}

impl Frames for Reorder {
    fn concerns(&self, header: &Header) -> bool {
        // One at a time.
        !header.opcode.is_control() && self.held.is_empty()
    }

    fn pass(&mut self, piece: &mut Piece<'_>, struck: bool) {
        if piece.header.opcode.is_control() {
            if piece.header.opcode == Opcode::Close && piece.is_first {
                // There is no next one.
                piece.fate.before.append(&mut self.held);
            }
        } else if struck {
            self.hold(piece);
        } else if piece.ends_message {
            piece.fate.behind.append(&mut self.held);
        }
    }
}

impl Reorder {
    fn hold(&mut self, piece: &mut Piece<'_>) {
        if piece.begins_message {
            self.is_too_long = false;
        }
        if self.is_too_long {
            return;
        }
        if self.held.len() + piece.payload.len() > MESSAGE_BYTES {
            self.is_too_long = true;
            piece.fate.before.append(&mut self.held);
            return;
        }
        self.held.extend_from_slice(piece.head);
        self.held.extend_from_slice(piece.payload);
        piece.fate.is_gone = true;
    }
}
