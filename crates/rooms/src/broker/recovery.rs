//! The rule by which every broker decides whether a client can go on where it stopped.

use super::Position;
use std::fmt;

/// What a log says of itself to a client that wants to resume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The position of the newest entry, whether or not that is still kept; [`Position::start`] when there was none.
    pub top: Position,
    /// The offset of the oldest entry that is kept; the one after the top's when none is.
    pub first: u64,
    /// Whether the entry before `first` went because of its age; else it made room for newer ones.
    pub expired: bool,
}

/// Whether a client that saw everything up to `since` can be given everything after it.
///
/// It can exactly when the entry that it saw last is still in the log at its offset with the same tag, and no more
/// than `limit` entries follow. Two positions need no entry: [`Position::start`] while nothing was removed, and the
/// log's top, after which there is nothing to miss.
///
/// `run` is what the log keeps from `since.offset` on, oldest first; it may stop after `limit + 1` entries. A log that
/// removes the oldest first has no holes, but an operator can make one: a run with a hole is refused like one that was
/// trimmed.
///
/// ```
/// use saywhy_rooms::broker::{Extent, LostReason, Position, recover};
/// let [one, two] = [1, 2].map(|offset| Position { epoch: 7, offset, tag: 100 + offset });
/// let log = Extent { top: two, first: 1, expired: false };
/// assert_eq!(recover(one, log, 10, [one, two]), Ok(()));
/// // The store was rolled back, and another entry took offset 1.
/// let never_seen_here = Position { tag: 999, ..one };
/// assert_eq!(recover(never_seen_here, log, 10, [one, two]), Err(LostReason::HistoryForked));
/// ```
///
/// # Errors
/// The reason for which the client has to start anew. There is no partial recovery.
pub fn recover(
    since: Position,
    log: Extent,
    limit: usize,
    run: impl IntoIterator<Item = Position>,
) -> Result<(), LostReason> {
    let Extent { top, first, expired } = log;
    let gone = if expired { LostReason::Expired } else { LostReason::Trimmed };
    if since.epoch != top.epoch {
        return Err(LostReason::EpochChanged);
    }
    if since == top {
        return Ok(());
    }
    if since.offset >= top.offset {
        return Err(LostReason::HistoryForked);
    }
    if since.offset.max(1) < first {
        return Err(gone);
    }
    let mut run = run.into_iter();
    let anchor = if since.offset == 0 { Some(Position::start(top.epoch)) } else { run.next() };
    match anchor {
        Some(anchor) if anchor == since => {}
        Some(anchor) if anchor.offset == since.offset => return Err(LostReason::HistoryForked),
        Some(_) | None => return Err(gone),
    }
    if top.offset - since.offset > limit as u64 {
        return Err(LostReason::TooManyMissed);
    }
    let last = run.try_fold(since, |last, next| next.follows(last).then_some(next));
    if last == Some(top) { Ok(()) } else { Err(gone) }
}

/// Why a client cannot go on where it stopped: `details.reason` of `history_lost`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LostReason {
    /// The entry that was seen last made room for newer ones.
    Trimmed,
    /// The entry that was seen last, or the whole log, went because of its age.
    Expired,
    /// The log is another one: the room, or the store behind it, began anew.
    EpochChanged,
    /// The entry that was seen last is not in this log: the store was rolled back.
    HistoryForked,
    /// Everything is there, but it is more than may be sent at once.
    TooManyMissed,
    /// The broker did not answer, so nobody can tell what was missed.
    BrokerUnavailable,
}

impl LostReason {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Trimmed,
        Self::Expired,
        Self::EpochChanged,
        Self::HistoryForked,
        Self::TooManyMissed,
        Self::BrokerUnavailable,
    ];

    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Trimmed => "trimmed",
            Self::Expired => "expired",
            Self::EpochChanged => "epoch_changed",
            Self::HistoryForked => "history_forked",
            Self::TooManyMissed => "too_many_missed",
            Self::BrokerUnavailable => "broker_unavailable",
        }
    }
}

impl fmt::Display for LostReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::Index;

    /// What can happen to a store.
    #[derive(Clone, Debug)]
    enum Event {
        Publish,
        Trim(usize),
        Expire(usize),
        Snapshot,
        RollBack,
        BeginAnew,
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            8 => Just(Event::Publish),
            2 => (0..4_usize).prop_map(Event::Trim),
            1 => (0..4_usize).prop_map(Event::Expire),
            1 => Just(Event::Snapshot),
            1 => Just(Event::RollBack),
            1 => Just(Event::BeginAnew),
        ]
    }

    /// A log that never forgets what it was, so that it knows the truth.
    #[derive(Clone)]
    struct Log {
        epoch: u64,
        past: Vec<Position>,
        first: u64,
        expired: bool,
    }

    impl Log {
        fn begin(epoch: u64) -> Self {
            Self { epoch, past: Vec::new(), first: 1, expired: false }
        }

        fn top(&self) -> Position {
            self.past.last().copied().unwrap_or(Position::start(self.epoch))
        }

        fn remove(&mut self, count: usize, expired: bool) {
            let count = (count as u64).min(self.top().offset + 1 - self.first);
            if count > 0 {
                (self.first, self.expired) = (self.first + count, expired);
            }
        }

        fn kept_from(&self, offset: u64) -> &[Position] {
            let from = offset.max(self.first).max(1) - 1;
            self.past.get(from as usize..).unwrap_or_default()
        }

        fn recover(&self, since: Position, limit: usize) -> Result<(), LostReason> {
            let extent = Extent { top: self.top(), first: self.first, expired: self.expired };
            recover(since, extent, limit, self.kept_from(since.offset).iter().copied())
        }
    }

    /// Plays the events and keeps everything that a client can ever have seen: where it stood, and all before it.
    fn play(events: Vec<Event>) -> (Log, Vec<(Position, Vec<Position>)>) {
        let mut log = Log::begin(1);
        let mut seen = vec![(log.top(), Vec::new())];
        let mut snapshot = log.clone();
        for (tag, event) in (1..).zip(events) {
            match event {
                Event::Publish => {
                    log.past.push(Position { epoch: log.epoch, offset: log.top().offset + 1, tag });
                    seen.push((log.top(), log.past.clone()));
                }
                Event::Trim(count) => log.remove(count, false),
                Event::Expire(count) => log.remove(count, true),
                Event::Snapshot => snapshot = log.clone(),
                Event::RollBack => log = snapshot.clone(),
                Event::BeginAnew => {
                    log = Log::begin(1 + tag);
                    seen.push((log.top(), Vec::new()));
                }
            }
        }
        (log, seen)
    }

    proptest! {
        #[test]
        fn it_grants_exactly_when_the_anchor_is_there_and_nothing_is_missing(
            events in vec(event(), 0..60),
            limit in 0..12_usize,
        ) {
            let (log, seen) = play(events);
            for (since, past) in seen {
                let same_past = since.epoch == log.epoch && log.past.starts_with(&past);
                let anchor_is_there = since == log.top() || since.offset.max(1) >= log.first;
                let missed = log.past.len().saturating_sub(past.len());
                let answer = log.recover(since, limit);
                if same_past && anchor_is_there && missed <= limit {
                    prop_assert_eq!(answer, Ok(()));
                    let rest = log.kept_from(since.offset + 1);
                    prop_assert_eq!([past.as_slice(), rest].concat(), log.past.as_slice(), "a gap, or a repetition");
                } else {
                    prop_assert!(answer.is_err(), "{since} was granted");
                }
                // Where the whole past is known, so is the reason.
                match answer {
                    Err(LostReason::EpochChanged) => prop_assert_ne!(since.epoch, log.epoch),
                    Err(LostReason::HistoryForked) => prop_assert!(!same_past),
                    Err(LostReason::TooManyMissed) => prop_assert!(same_past && anchor_is_there && missed > limit),
                    Err(reason @ (LostReason::Trimmed | LostReason::Expired)) => {
                        prop_assert!(!anchor_is_there);
                        prop_assert_eq!(reason == LostReason::Expired, log.expired);
                    }
                    Err(LostReason::BrokerUnavailable) => prop_assert!(false, "a rule needs no broker"),
                    Ok(()) => {}
                }
            }
        }

        #[test]
        fn a_hole_is_never_papered_over(length in 2..20_u64, since: Index, hole: Index) {
            let epoch = 7;
            let whole: Vec<_> = (1..=length).map(|offset| Position { epoch, offset, tag: !offset }).collect();
            let since = since.index(whole.len() - 1);
            let mut run = whole[since..].to_vec();
            run.remove(hole.index(run.len()));
            let log = Extent { top: whole[whole.len() - 1], first: 1, expired: false };
            prop_assert_eq!(recover(whole[since], log, 100, whole[since..].to_vec()), Ok(()));
            prop_assert_eq!(recover(whole[since], log, 100, run), Err(LostReason::Trimmed));
        }

        #[test]
        fn a_run_may_stop_after_one_more_than_the_limit(length in 1..20_u64, limit in 0..20_usize) {
            let epoch = 7;
            let whole: Vec<_> = (1..=length).map(|offset| Position { epoch, offset, tag: !offset }).collect();
            let log = Extent { top: whole[whole.len() - 1], first: 1, expired: false };
            for since in [Position::start(epoch), whole[0]] {
                let from = whole.iter().copied().filter(|entry| entry.offset >= since.offset);
                let (all, cut): (Vec<_>, Vec<_>) = (from.clone().collect(), from.take(limit + 1).collect());
                prop_assert_eq!(recover(since, log, limit, all), recover(since, log, limit, cut));
            }
        }
    }

    #[test]
    fn a_position_that_no_log_gave_is_a_fork() {
        let top = Position { epoch: 7, offset: 1, tag: 8 };
        let forged = Position { tag: 1, ..Position::start(7) };
        let log = Extent { top, first: 1, expired: false };
        assert_eq!(recover(forged, log, 10, [top]), Err(LostReason::HistoryForked));
        assert_eq!(recover(Position { offset: u64::MAX, ..top }, log, 10, []), Err(LostReason::HistoryForked));
        let expired = Extent { top, first: 2, expired: true };
        assert_eq!(recover(Position { tag: 1, ..top }, expired, 10, []), Err(LostReason::HistoryForked));
        let fresh = Extent { top: Position::start(7), ..log };
        assert_eq!(recover(forged, fresh, 10, []), Err(LostReason::HistoryForked));
    }

    #[test]
    fn every_reason_has_a_word_of_its_own() {
        let words: std::collections::BTreeSet<_> = LostReason::ALL.map(LostReason::as_str).into();
        assert_eq!(words.len(), LostReason::ALL.len());
    }
}
