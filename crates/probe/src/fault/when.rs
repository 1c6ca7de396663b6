//! When a fault is due: after so much time, bytes or messages, and again after as much.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// How far a connection has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Amount {
    /// Since it was open.
    Time(Duration),
    Bytes(u64),
    Messages(u64),
}

/// When a fault is due, as it was written.
#[derive(Debug, Default)]
pub(crate) struct When {
    /// How far into a connection.
    pub(crate) after: Option<Amount>,
    /// By the clock of the proxy, for all connections at once.
    pub(crate) at: Option<Duration>,
    /// And again each time.
    pub(crate) every: Option<Amount>,
    /// How probable it is then.
    pub(crate) p: Option<f64>,
    /// How often it happens, over all connections.
    pub(crate) times: Option<u32>,
    happened: AtomicU32,
}

impl When {
    /// Whether it may happen once more; then it has.
    pub(crate) fn once_more(&self) -> bool {
        let Some(times) = self.times else { return true };
        let more = |happened: u32| (happened < times).then(|| happened + 1);
        self.happened.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    /// The last time before `now`, by the clock of the proxy, at which it was due for all connections at once.
    pub(crate) fn last(&self, now: Duration) -> Option<Duration> {
        let at = self.at.filter(|at| *at <= now)?;
        let Some(Amount::Time(every)) = self.every.filter(|_| now > at) else { return Some(at) };
        let past = (now - at).as_nanos().checked_rem(every.as_nanos())?;
        Some(now.saturating_sub(Duration::from_nanos(u64::try_from(past).ok()?)))
    }
}

/// How far one direction of a connection is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Since it was open.
    pub(crate) time: Duration,
    pub(crate) bytes: u64,
    pub(crate) messages: u64,
}

/// When it is due next in one connection.
#[derive(Debug)]
pub(crate) struct Schedule {
    next: Option<Amount>,
    every: Option<Amount>,
}

impl Schedule {
    /// For a connection that is as far as `so_far`, and was opened at `opened` by the clock of the proxy.
    pub(crate) fn new(when: &When, so_far: Progress, opened: Duration) -> Self {
        let next = match (when.after, when.at) {
            (Some(after), _) => Some(so_far.plus(after)),
            (None, Some(at)) => at.checked_sub(opened).map(Amount::Time).or_else(|| {
                let Some(Amount::Time(every)) = when.every else { return None };
                let last = when.last(opened)?;
                Some(Amount::Time((last + every).saturating_sub(opened)))
            }),
            (None, None) => Some(when.every.map_or(Amount::Time(so_far.time), |every| so_far.plus(every))),
        };
        Self { next, every: when.every }
    }

    /// As [`Self::new`], for a fault of frames: the third message is struck as it begins, when two are whole.
    pub(crate) fn of_frames(when: &When, so_far: Progress, opened: Duration) -> Self {
        let mut schedule = Self::new(when, so_far, opened);
        if let (None, None, Some(Amount::Messages(messages))) = (when.after, when.at, &mut schedule.next) {
            *messages = messages.saturating_sub(1);
        }
        schedule
    }

    pub(crate) fn is_due(&self, progress: Progress) -> bool {
        match self.next {
            Some(Amount::Time(time)) => progress.time >= time,
            Some(Amount::Bytes(bytes)) => progress.bytes >= bytes,
            Some(Amount::Messages(messages)) => progress.messages >= messages,
            None => false,
        }
    }

    /// It was due: the next time is the first that is still to come.
    pub(crate) fn advance(&mut self, progress: Progress) {
        self.next = match (self.next, self.every) {
            (Some(Amount::Time(at)), Some(Amount::Time(every))) => {
                Some(Amount::Time(if at + every > progress.time { at + every } else { progress.time + every }))
            }
            (Some(Amount::Bytes(at)), Some(Amount::Bytes(every))) => {
                Some(Amount::Bytes((at + every).max(progress.bytes + 1)))
            }
            (Some(Amount::Messages(at)), Some(Amount::Messages(every))) => {
                Some(Amount::Messages((at + every).max(progress.messages + 1)))
            }
            // The first time was said in another measure.
            (Some(_), Some(every)) => Some(progress.plus(every)),
            (_, None) | (None, _) => None,
        };
    }

    /// Whether nothing is said of how often.
    pub(crate) fn is_standing(&self) -> bool {
        self.every.is_none()
    }

    /// The time since the connection was open, if it is about time.
    pub(crate) fn time(&self) -> Option<Duration> {
        match self.next {
            Some(Amount::Time(time)) => Some(time),
            Some(Amount::Bytes(_) | Amount::Messages(_)) | None => None,
        }
    }

    /// How many bytes may pass before it is due, if it is about bytes.
    pub(crate) fn bytes_left(&self, progress: Progress) -> Option<u64> {
        match self.next {
            Some(Amount::Bytes(bytes)) => Some(bytes.saturating_sub(progress.bytes)),
            Some(Amount::Time(_) | Amount::Messages(_)) | None => None,
        }
    }
}

impl Progress {
    fn plus(self, amount: Amount) -> Amount {
        match amount {
            Amount::Time(time) => Amount::Time(self.time.saturating_add(time)),
            Amount::Bytes(bytes) => Amount::Bytes(self.bytes.saturating_add(bytes)),
            Amount::Messages(messages) => Amount::Messages(self.messages.saturating_add(messages)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn due(when: &When, opened: Duration, messages: u64) -> Vec<u64> {
        let mut schedule = Schedule::new(when, Progress::default(), opened);
        let mut found = Vec::new();
        for n in 0..messages {
            let progress = Progress { time: s(n), bytes: n * 10, messages: n };
            if schedule.is_due(progress) {
                schedule.advance(progress);
                found.push(n);
            }
        }
        found
    }

    #[test]
    fn due_after_and_every() {
        let when = |after, at, every| When { after, at, every, ..When::default() };
        let (messages, time) = (Amount::Messages, |n| Amount::Time(s(n)));
        assert_eq!(due(&when(None, None, None), s(0), 9), [0]);
        assert_eq!(due(&when(Some(messages(3)), None, None), s(0), 9), [3]);
        assert_eq!(due(&when(None, None, Some(messages(3))), s(0), 9), [3, 6]);
        assert_eq!(due(&when(Some(messages(1)), None, Some(messages(3))), s(0), 9), [1, 4, 7]);
        assert_eq!(due(&when(Some(Amount::Bytes(25)), None, Some(time(4))), s(0), 9), [3, 7]);
        // By the clock of the proxy: it was 10 when the connection was opened.
        assert_eq!(due(&when(None, Some(s(12)), None), s(10), 9), [2]);
        assert_eq!(due(&when(None, Some(s(5)), None), s(10), 9), [0_u64; 0]);
        assert_eq!(due(&when(None, Some(s(4)), Some(time(4))), s(10), 9), [2, 6]);
    }

    #[test]
    fn who_comes_late_is_due_once() {
        let when = When { every: Some(Amount::Time(s(1))), ..When::default() };
        let mut schedule = Schedule::new(&when, Progress::default(), s(0));
        let late = Progress { time: s(100), ..Progress::default() };
        assert!(schedule.is_due(late));
        schedule.advance(late);
        assert!(!schedule.is_due(late));
        assert_eq!(schedule.time(), Some(s(101)));
    }

    #[test]
    fn the_last_time_for_all() {
        let when = When { at: Some(s(10)), every: Some(Amount::Time(s(5))), ..When::default() };
        let last = [9, 10, 14, 15, 29].map(|now| when.last(s(now)).map(|at| at.as_secs()));
        assert_eq!(last, [None, Some(10), Some(10), Some(15), Some(25)]);
    }

    #[test]
    fn so_often_in_all() {
        let when = When { times: Some(2), ..When::default() };
        assert_eq!([(); 3].map(|()| when.once_more()), [true, true, false]);
        assert!(When::default().once_more());
    }
}
