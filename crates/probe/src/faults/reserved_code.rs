//! A Close with a code that nobody may send.

use crate::fault::{Args, Complaint, Effect, Entry, Example, Fault, Kind, Make, Moment, Seen, To, forge, make};
use saywhy_codes::Observed;
use saywhy_proto::frame::{self, Opcode};

pub(super) const ENTRY: Entry = Entry {
    name: "reserved-code",
    kind: Kind::Moment,
    value: "[=CODE]",
    about: "a Close with this code is written, whether it may be sent or not; without one it is 1006",
    to: To::Client,
    parameters: super::MOMENT,
    examples: &[Example { fault: "reserved-code=1006", seen: Seen::by_all("1 2 3, 1006") }],
    read,
};

fn read(args: &mut Args) -> Result<Make, Complaint> {
    let code = args.optional_value(|text| text.parse::<u16>().ok())?.unwrap_or(Observed::Abnormal.as_u16());
    Ok(make(move || Fault::Moment(Box::new(ReservedCode(code)))))
}

struct ReservedCode(u16);

impl Moment for ReservedCode {
    fn strike(&mut self) -> Effect {
        forge(|key, out| frame::write(Opcode::Close, &self.0.to_be_bytes(), key, out), |_| {})
    }
}
