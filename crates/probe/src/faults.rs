//! What there is to break: a file for each fault, in the order in which a connection meets them.

use crate::fault::Entry;

mod bad_opcode;
mod bad_utf8;
mod bandwidth;
mod close;
mod corrupt;
mod cut;
mod drop_before_close;
mod duplicate;
mod latency;
mod lose;
mod masked;
mod no_close;
mod no_pong;
mod refuse;
mod reorder;
mod reserved_code;
mod restart;
mod rsv;
mod slice;
mod stall_handshake;

pub(crate) use refuse::refusal;

/// Every fault.
pub static ALL: [Entry; 20] = [
    refuse::ENTRY,
    stall_handshake::ENTRY,
    latency::ENTRY,
    bandwidth::ENTRY,
    slice::ENTRY,
    cut::ENTRY,
    close::ENTRY,
    restart::ENTRY,
    drop_before_close::ENTRY,
    no_close::ENTRY,
    no_pong::ENTRY,
    lose::ENTRY,
    duplicate::ENTRY,
    reorder::ENTRY,
    corrupt::ENTRY,
    bad_utf8::ENTRY,
    bad_opcode::ENTRY,
    rsv::ENTRY,
    masked::ENTRY,
    reserved_code::ENTRY,
];

/// When a moment is.
const MOMENT: &[&str] = &["after", "at", "every", "p", "times", "to"];
/// Which frames are meant.
const FRAMES: &[&str] = &["after", "at", "every", "p", "times", "to"];
/// From when on bytes are slow.
const PACE: &[&str] = &["after", "at", "p", "to"];

/// A message of which more is not kept.
const MESSAGE_BYTES: usize = 1024 * 1024;
