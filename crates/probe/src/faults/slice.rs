//! Frames that arrive in crumbs.

use super::PACE;
use crate::fault::{Args, Complaint, Entry, Example, Fault, Kind, Make, Pace, Seen, To, make};

pub(super) const ENTRY: Entry = Entry {
    name: "slice",
    kind: Kind::Pace,
    value: "=BYTES",
    about: "each write has at most so many bytes, and there is one in a millisecond",
    to: To::Both,
    parameters: PACE,
    examples: &[Example { fault: "slice=3", seen: Seen::by_all("1 2 3, 1000") }],
    read,
};

fn read(args: &mut Args) -> Result<Make, Complaint> {
    let bytes = args.value_as(|text| text.parse().ok().filter(|bytes| *bytes > 0))?;
    Ok(make(move || Fault::Pace(Pace::Slice(bytes))))
}
