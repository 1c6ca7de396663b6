//! A server that takes the connection and says nothing.

use crate::fault::{Answer, Args, Complaint, Entry, Example, Fault, Kind, Make, Seen, To, duration, make};

pub(super) const ENTRY: Entry = Entry {
    name: "stall-handshake",
    kind: Kind::Handshake,
    value: "[=TIME]",
    about: "the handshake is not answered: for so long, or as long as the client waits",
    to: To::Client,
    parameters: &["p", "times"],
    examples: &[
        Example { fault: "stall-handshake", seen: Seen::by_all("nothing") },
        Example { fault: "stall-handshake=300ms", seen: Seen::by_all("1 2 3, 1000") },
    ],
    read,
};

fn read(args: &mut Args) -> Result<Make, Complaint> {
    let time = args.optional_value(|text| duration(text).ok())?;
    Ok(make(move || Fault::Handshake(Answer::Stall(time))))
}
