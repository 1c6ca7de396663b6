//! What happens on a WebSocket, without a clock, randomness or a socket: bytes, events and `now` go in, bytes and
//! decisions come out. `now` is always the time since an epoch of the caller's choice.
//!
//! | layer | module | turns |
//! |---|---|---|
//! | frames | [`frame`] | bytes into headers and pieces of payload, masks untouched |
//! | messages | [`message`] | pieces into whole messages, checked |
//! | compression | [`deflate`] | offers into an agreement, messages into smaller ones |
//! | the session | [`session`] | messages and time into open, closing, closed, and one [`Ending`](saywhy_codes::Ending) |
//! | the envelope | [`envelope`] | text into `{type, data, meta}` and back |
//! | the retry contract | [`retry`] | endings into what a client does next |

// No panic is reachable from the network.
#![warn(clippy::unwrap_used, clippy::expect_used)]

pub mod deflate;
pub mod envelope;
pub mod frame;
pub mod limits;
pub mod message;
pub mod retry;
pub mod session;
mod violation;

pub use deflate::Compression;
pub use limits::{Limits, Meter};
pub use session::{Farewell, Session};
pub use violation::Violation;
