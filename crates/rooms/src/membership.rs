//! Being in a room: dropped is left.

use crate::room::Room;
use crate::service::Rooms;
use std::sync::Arc;
use uuid::Uuid;

/// One session in one room.
pub(crate) struct Membership {
    rooms: Rooms,
    room: Arc<Room>,
    id: Uuid,
}

impl Membership {
    pub(crate) fn new(rooms: Rooms, room: Arc<Room>, id: Uuid) -> Self {
        Self { rooms, room, id }
    }

    pub(crate) fn room(&self) -> &Arc<Room> {
        &self.room
    }

    /// Nothing is heard there any more: the room was removed.
    pub(crate) fn is_over(&self) -> bool {
        self.room.is_over()
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.room.leave(self.id);
        self.rooms.leave(&self.room);
    }
}
