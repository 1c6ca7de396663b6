//! A WebSocket client that is told why: readable refusals, retries as the server asks, rooms that survive reconnects.
//!
//! ```no_run
//! # async fn run() -> Result<(), saywhy_client::Error> {
//! use saywhy_client::{Client, Connect, Event};
//! use serde_json::json;
//!
//! let (chat, mut events) = Client::start(Connect::to("wss://example.com/ws")?.token("eyJ…"));
//! chat.ready().await?; //                                       refused for good: an Error that says why
//! if let Err(error) = chat.request("join", &json!({ "room": "lobby" })).await {
//!     eprintln!("{error}"); //                                  recoverable: still connected
//! }
//! while let Some(event) = events.next().await {
//!     match event {
//!         Event::Message(message) => println!("{}: {}", message.from, message.body),
//!         Event::Waiting { cause, delay, .. } => eprintln!("{cause}; trying again in {delay:?}"),
//!         _ => {}
//!     }
//! }
//! println!("{}", chat.closed().await); //                       why it is over
//! # Ok(()) }
//! ```
//!
//! | | |
//! |---|---|
//! | [`Connect`] | where to, with what token, over which TLS; [`open`](Connect::open) makes one connection |
//! | [`Connection`] | one session: read it with [`next`](Connection::next), which also answers Pings and keeps its deadlines |
//! | [`Client`] | one connection after the other, as the [retry contract](saywhy_proto::retry) has it, with rooms that are resumed |
//! | [`Error`] | what went wrong, who says so, and what to do about it |
//!
//! Everything from the server is bounded: [`Connect::limits`]. Nothing of it is believed without being looked at.

// No panic is reachable from the network.
#![warn(clippy::unwrap_used, clippy::expect_used)]

mod client;
mod connect;
mod connection;
mod error;
mod pace;
mod rooms;
mod seat;
mod socket;
mod wire;

pub use client::{Client, Event, Events, Sending, State};
pub use connect::{Connect, TokenReason};
pub use connection::{Connection, Incoming};
pub use error::{Close, Error, Source};
pub use wire::{Position, Ready, RoomMessage, RoomNews};

pub use saywhy_codes::Retry;
pub use saywhy_proto::Limits;
