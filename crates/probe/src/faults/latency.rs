//! A long way.

use super::PACE;
use crate::fault::{Args, Complaint, Entry, Example, Fault, Kind, Make, Pace, Seen, To, duration, make};
use std::time::Duration;

pub(super) const ENTRY: Entry = Entry {
    name: "latency",
    kind: Kind::Pace,
    value: "=TIME|=LEAST..MOST",
    about: "each frame, and each half of the handshake, is held up for so long; nothing overtakes",
    to: To::Both,
    parameters: PACE,
    examples: &[Example { fault: "latency=5ms..50ms", seen: Seen::by_all("1 2 3, 1000") }],
    read,
};

fn read(args: &mut Args) -> Result<Make, Complaint> {
    let (least, most) = args.value_as(times)?;
    Ok(make(move || Fault::Pace(Pace::Delay(least, most))))
}

fn times(text: &str) -> Option<(Duration, Duration)> {
    match text.split_once("..") {
        None => duration(text).ok().map(|time| (time, time)),
        Some((least, most)) => {
            let times = (duration(least).ok()?, duration(most).ok()?);
            (times.0 <= times.1).then_some(times)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_or_two() {
        let ms = Duration::from_millis;
        assert_eq!(times("200ms"), Some((ms(200), ms(200))));
        assert_eq!(times("200ms..1s"), Some((ms(200), ms(1_000))));
        assert_eq!([times("2s..1s"), times(".."), times("200")], [None, None, None]);
    }
}
