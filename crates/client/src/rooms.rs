//! The rooms that a client is in, and where it is in each.

use crate::error::Error;
use crate::seat::{Seat, Verdict};
use crate::wire::{Position, RoomMessage};
use std::collections::HashMap;

/// What to do about a message of a room.
#[derive(Debug)]
pub(crate) enum Heard {
    /// It is the reader's.
    Take(RoomMessage),
    /// It is, though messages before it are lost.
    TakeAfterLoss(RoomMessage),
    /// It has been, or comes again.
    Nothing,
    /// Join again from where one is.
    Rejoin(String),
}

#[derive(Debug, Default)]
pub(crate) struct Rooms {
    seats: HashMap<String, Seat>,
}

impl Rooms {
    /// Somebody's join is being sent.
    pub(crate) fn joining(&mut self, room: &str, since: Option<Position>) {
        self.seats.entry(room.to_owned()).or_default().joining(since);
    }

    /// A join of our own is to be sent: from where?
    pub(crate) fn rejoining(&mut self, room: &str) -> Option<Position> {
        let seat = self.seats.get_mut(room)?;
        let since = seat.position.clone();
        seat.joining(since.clone());
        since
    }

    pub(crate) fn joined(&mut self, room: &str, position: Position) {
        if let Some(seat) = self.seats.get_mut(room) {
            seat.joined(position);
        }
    }

    /// A join was answered with an error. Where one was, one still is, unless the server had begun.
    pub(crate) fn refused(&mut self, room: &str, error: &Error) {
        let had_not_begun = matches!(error.name(), "bad_request" | "forbidden" | "rate_limited");
        match self.seats.get_mut(room) {
            Some(seat) if seat.is_granted && had_not_begun => seat.not_joined(),
            _ => self.left(room),
        }
    }

    pub(crate) fn left(&mut self, room: &str) {
        self.seats.remove(room);
    }

    /// Entries of a room were lost to the server; one is still in it.
    pub(crate) fn may_jump(&mut self, room: &str) {
        if let Some(seat) = self.seats.get_mut(room) {
            seat.may_jump();
        }
    }

    /// There is no place to go on from any more.
    pub(crate) fn forget_position(&mut self, room: &str) -> bool {
        self.seats.get_mut(room).is_some_and(|seat| seat.position.take().is_some())
    }

    pub(crate) fn is_in(&self, room: &str) -> bool {
        self.seats.contains_key(room)
    }

    pub(crate) fn hear(&mut self, message: RoomMessage, has_space: bool) -> Heard {
        let Some(seat) = self.seats.get_mut(&message.room) else { return Heard::Nothing };
        match seat.receive(&message.position, has_space) {
            Verdict::Take => Heard::Take(message),
            Verdict::Lost => Heard::TakeAfterLoss(message),
            Verdict::Skip => Heard::Nothing,
            Verdict::Repair => Heard::Rejoin(message.room),
        }
    }

    /// Those to come back to over a new connection. A join that was never answered is sent again by itself.
    pub(crate) fn granted(&mut self) -> Vec<String> {
        self.seats.retain(|_, seat| seat.is_granted);
        self.seats.keys().cloned().collect()
    }

    /// Those of which messages were passed over while nobody read.
    pub(crate) fn behind(&self) -> Vec<String> {
        self.seats.iter().filter(|(_, seat)| seat.is_behind()).map(|(room, _)| room.clone()).collect()
    }
}
