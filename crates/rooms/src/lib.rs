//! Rooms over WebSocket: join, send, history, presence, permissions; with positions from which a client resumes
//! without loss, or is told why it cannot.
//!
//! ```text
//!  Member (one per session) ──► Rooms ──► Broker: the log of each room
//!     └─ Membership ─┐                       │ entries, in order
//!                    ▼                       ▼
//!                   Room (one per node) ◄── Sink: encodes once, queues for each member, waits for none
//! ```

// No panic is reachable from the network.
#![warn(clippy::unwrap_used, clippy::expect_used)]

pub mod api;
pub mod broker;
mod claims;
mod member;
mod membership;
mod room;
mod service;

pub use claims::{Claims, Permission};
pub use member::{Authenticate, Authenticated, Member};
pub use service::{Create, Rooms, RoomsSettings};
