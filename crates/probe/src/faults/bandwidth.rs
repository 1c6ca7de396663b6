//! A thin line.

use super::PACE;
use crate::fault::{Args, Complaint, Entry, Example, Fault, Kind, Make, Pace, Seen, To, bytes, make};

pub(super) const ENTRY: Entry = Entry {
    name: "bandwidth",
    kind: Kind::Pace,
    value: "=BYTES/s",
    about: "so many bytes pass in a second, in each direction",
    to: To::Both,
    parameters: PACE,
    examples: &[Example { fault: "bandwidth=20kB/s", seen: Seen::by_all("1 2 3, 1000") }],
    read,
};

fn read(args: &mut Args) -> Result<Make, Complaint> {
    let rate = args.value_as(|text| bytes(text.strip_suffix("/s")?).filter(|rate| *rate > 0))?;
    Ok(make(move || Fault::Pace(Pace::Rate(rate))))
}
