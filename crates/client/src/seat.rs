//! One room, as this client has heard it: every message once and in order, whatever reconnects.
//!
//! A seat moves forward by the messages that were taken, never by what a join is answered with: after a resume, the
//! messages up to there are still under way. One that does not follow on the last is not taken; what is missing is asked
//! for by joining from there once more.

use crate::wire::Position;

/// What to do with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Take,
    /// Pass it over.
    Skip,
    /// Pass it over, and join again from where one is.
    Repair,
    /// Take it, though messages before it are lost.
    Lost,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Join {
    Fresh,
    Resume,
}

#[derive(Debug, Default)]
pub(crate) struct Seat {
    /// Of the last message that was taken; `None` until there is a place to go on from.
    pub(crate) position: Option<Position>,
    /// Whether a join was ever answered with `ok`: only then is it this client's business to come back.
    pub(crate) is_granted: bool,
    /// The join that is under way.
    join: Option<Join>,
    /// Where the log was when the last resume was granted: up to there messages are on their way.
    top: Option<Position>,
    /// Messages had to be passed over because nobody reads.
    is_behind: bool,
    /// The server has said that it lost entries, so the next message need not follow.
    may_jump: bool,
    /// Where a gap was found last. A server that leaves it when asked again has lost what was there.
    gap_at: Option<Position>,
}

impl Seat {
    /// A join is being sent, from now on or from `since`.
    pub(crate) fn joining(&mut self, since: Option<Position>) {
        self.join = Some(if since.is_some() { Join::Resume } else { Join::Fresh });
        if since.is_some() {
            self.position = since;
        }
        self.top = None;
        self.is_behind = false;
    }

    pub(crate) fn joined(&mut self, position: Position) {
        let is_ahead = |last: &Position| last.epoch == position.epoch && last.offset >= position.offset;
        if self.join == Some(Join::Resume) {
            self.top = Some(position);
        } else if !self.position.as_ref().is_some_and(is_ahead) {
            // Messages may come ahead of the answer.
            self.position = Some(position);
        }
        self.join = None;
        self.is_granted = true;
    }

    /// The join was not even looked at, which changes nothing.
    pub(crate) fn not_joined(&mut self) {
        self.join = None;
    }

    /// The server lost entries, and one is still in the room.
    pub(crate) fn may_jump(&mut self) {
        self.may_jump = true;
    }

    /// Messages were passed over, and can be asked for now.
    pub(crate) fn is_behind(&self) -> bool {
        self.is_behind && self.join.is_none()
    }

    /// Decides about the message at a position. Without space for it, it is asked for again later.
    pub(crate) fn receive(&mut self, position: &Position, has_space: bool) -> Verdict {
        if self.is_behind {
            return Verdict::Skip;
        }
        let verdict = self.judge(position);
        match verdict {
            Verdict::Skip => return verdict,
            Verdict::Repair => {
                self.gap_at = self.position.clone();
                return verdict;
            }
            Verdict::Take | Verdict::Lost => {}
        }
        if !has_space {
            self.is_behind = true;
            return Verdict::Skip;
        }
        self.position = Some(position.clone());
        self.may_jump = false;
        verdict
    }

    fn judge(&self, Position { epoch, offset, .. }: &Position) -> Verdict {
        let may_be_anything = self.position.is_none() || self.join == Some(Join::Fresh) || self.may_jump;
        let Some(last) = self.position.as_ref().filter(|last| last.epoch == *epoch) else {
            return if may_be_anything { Verdict::Take } else { Verdict::Lost };
        };
        if *offset <= last.offset {
            return Verdict::Skip;
        }
        if *offset == last.offset + 1 || may_be_anything {
            return Verdict::Take;
        }
        // Sent before the join that is being answered: it comes once more, in its turn.
        let is_under_way = |top: &Position| top.epoch == *epoch && *offset <= top.offset;
        if self.join == Some(Join::Resume) || self.top.as_ref().is_some_and(is_under_way) {
            return Verdict::Skip;
        }
        if self.gap_at.as_ref() == Some(last) { Verdict::Lost } else { Verdict::Repair }
    }
}

#[cfg(test)]
mod tests {
    use super::Verdict::{Lost, Repair, Skip, Take};
    use super::*;

    fn at(offset: u64) -> Position {
        Position { epoch: "e".to_owned(), offset, tag: String::new() }
    }

    fn all(seat: &mut Seat, offsets: &[u64]) -> Vec<Verdict> {
        offsets.iter().map(|offset| seat.receive(&at(*offset), true)).collect()
    }

    fn joined(offset: u64) -> Seat {
        let mut seat = Seat::default();
        seat.joining(None);
        seat.joined(at(offset));
        seat
    }

    #[test]
    fn each_once_and_in_order() {
        assert_eq!(all(&mut joined(4), &[5, 6, 6, 5, 7]), [Take, Take, Skip, Skip, Take]);
    }

    #[test]
    fn a_gap_is_asked_for_once_and_then_it_is_lost() {
        let mut seat = joined(4);
        assert_eq!(all(&mut seat, &[5, 7]), [Take, Repair]);
        seat.joining(seat.position.clone());
        assert_eq!(all(&mut seat, &[8]), [Skip], "it comes again");
        seat.joined(at(8));
        assert_eq!(all(&mut seat, &[7, 8, 9]), [Skip, Skip, Lost]);
        assert_eq!(all(&mut seat, &[10]), [Take]);
    }

    #[test]
    fn a_resume_moves_by_its_messages() {
        let mut seat = joined(4);
        seat.joining(Some(at(4)));
        seat.joined(at(6));
        assert_eq!(seat.position, Some(at(4)));
        assert_eq!(all(&mut seat, &[5, 6, 7]), [Take, Take, Take]);
    }

    #[test]
    fn what_nobody_reads_is_asked_for_later() {
        let mut seat = joined(4);
        assert_eq!(seat.receive(&at(5), false), Skip);
        assert!(seat.is_behind());
        assert_eq!(all(&mut seat, &[6]), [Skip]);
        seat.joining(seat.position.clone());
        seat.joined(at(6));
        assert_eq!(all(&mut seat, &[5, 6]), [Take, Take]);
    }

    #[test]
    fn a_new_log_is_a_loss_unless_it_was_announced() {
        let other = Position { epoch: "f".to_owned(), ..at(1) };
        assert_eq!(joined(4).receive(&other, true), Lost);
        let mut seat = joined(4);
        seat.may_jump();
        assert_eq!(seat.receive(&other, true), Take);
    }
}
