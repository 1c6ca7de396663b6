//! A deploy: everybody is sent away at once, and for a while nobody is let in.

use super::close;
use crate::fault::{
    Amount, Args, Complaint, Effect, Entry, Example, Fault, Kind, Make, Moment, Seen, To, duration, make,
};
use saywhy_codes::{CloseCode, CloseReason};
use std::time::Duration;

pub(super) const ENTRY: Entry = Entry {
    name: "restart",
    kind: Kind::Moment,
    value: "[=TIME]",
    about: "every connection is closed with 1012 (Service Restart) at the same moment, and for so long whoever comes is answered \
            with 503",
    to: To::Client,
    parameters: &["at", "every"],
    examples: &[Example { fault: "restart=1s", seen: Seen::by_all("1 2 3, 1012 restarting") }],
    read,
};

const REASON: CloseReason = CloseReason::literal("restarting");

fn read(args: &mut Args) -> Result<Make, Complaint> {
    let down = args.optional_value(|text| duration(text).ok())?;
    // All at once is by the clock of the proxy.
    match (args.when.at, args.when.every) {
        (None, Some(Amount::Time(every))) => args.when.at = Some(every),
        (None, Some(_)) => return Err(args.wrong("`every` is not a time", "write restart=3s,every=30s")),
        (_, None) | (Some(_), _) => {}
    }
    let frame = close::written(CloseCode::SERVICE_RESTART, REASON);
    Ok(make(move || Fault::Moment(Box::new(Restart { frame: frame.clone(), down }))))
}

struct Restart {
    frame: Vec<u8>,
    down: Option<Duration>,
}

impl Moment for Restart {
    fn strike(&mut self) -> Effect {
        Effect::Close { frame: self.frame.clone(), abrupt: false }
    }

    fn down(&self) -> Option<Duration> {
        self.down
    }
}
