//! The connection is cut.

use crate::fault::{Args, Complaint, Cut, Effect, Entry, Example, Fault, Kind, Make, Moment, Place, Seen, To, make};

pub(super) const ENTRY: Entry = Entry {
    name: "cut",
    kind: Kind::Moment,
    value: "=fin|rst|silence|half-open",
    about: "TCP ends (fin), is reset (rst), passes nothing any more as if a cable was pulled (silence), or the server is gone \
            and the client is not told (half-open); `inside`: in the middle of a frame",
    to: To::Both,
    parameters: &["inside", "after", "at", "every", "p", "times", "to"],
    examples: &[
        Example { fault: "cut=fin", seen: Seen::by_all("1 2 3, 1006") },
        Example { fault: "cut=rst", seen: Seen::by_all("1 2 3, 1006") },
        Example { fault: "cut=fin,inside,to=client", seen: Seen::by_all("1 2 3, 1006") },
        Example { fault: "cut=silence", seen: Seen::by_all("1 2 3, nothing") },
        Example { fault: "cut=half-open", seen: Seen::by_all("1 2 3, nothing") },
    ],
    read,
};

fn read(args: &mut Args) -> Result<Make, Complaint> {
    let cut = args.value_as(|text| match text {
        "fin" => Some(Cut::Fin),
        "rst" => Some(Cut::Reset),
        "silence" => Some(Cut::Silence),
        "half-open" => Some(Cut::HalfOpen),
        _ => None,
    })?;
    let place = if args.flag("inside")? { Place::InsideFrame } else { Place::Anywhere };
    Ok(make(move || Fault::Moment(Box::new(Cutting { cut, place }))))
}

struct Cutting {
    cut: Cut,
    place: Place,
}

impl Moment for Cutting {
    fn place(&self) -> Place {
        self.place
    }

    fn strike(&mut self) -> Effect {
        Effect::Cut(self.cut)
    }
}
