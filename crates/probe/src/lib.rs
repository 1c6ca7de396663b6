//! How WebSocket clients and servers take trouble.
//!
//! [`probe`] tries everything that may go wrong on a server. [`fault`] is a proxy that breaks the connections of any client to any server, on purpose and in the same way again.

// No panic is reachable from the network.
#![warn(clippy::unwrap_used, clippy::expect_used)]

pub mod fault;
mod faults;
pub mod probe;
