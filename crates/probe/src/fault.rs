//! A proxy that breaks connections on purpose, so that clients can be tested.
//!
//! ```text
//!            ┌────────────────────── line ──────────────────────┐
//!  client ◄──┤ leg   lane to the client   ◄── frames ◄──     leg ├──► server
//!            │       ──► frames ──►   lane to the server         │
//!            └──────────────────────────────────────────────────┘
//! ```
//!
//! A [`Spec`] is a fault as somebody wrote it. A line is one connection: it takes bytes and the time, and has bytes, times
//! and endings; it knows no socket, and all its decisions come from a seed. The legs are its sockets.
//!
//! | | |
//! |---|---|
//! | `grammar.rs` `when.rs` | `cut=rst,after=20msg,p=0.1` → [`Spec`]; when it is due |
//! | `line.rs` `lane.rs` | one connection; one direction of it |
//! | `draws.rs` | chance, from the seed |
//! | `head.rs` | the heads of the handshake, which pass byte for byte |
//! | `proxy.rs` `leg.rs` | [`Proxy`]: accepts, dials, and carries the bytes |
//! | `journal.rs` `control.rs` | what was done; the HTTP API |
//!
//! What each fault does stands in a file of its own, in `faults/`.

mod control;
mod draws;
mod grammar;
mod head;
mod journal;
mod lane;
mod leg;
mod line;
mod proxy;
mod when;

pub use crate::faults::ALL;
pub use grammar::{Complaint, Entry, Example, Kind, Seen, Spec, parse};
pub use leg::{InvalidUpstream, Upstream};
pub use proxy::{Proxy, Settings};

pub(crate) use draws::Draws;
pub(crate) use grammar::{Args, Make, bytes, duration, make};
pub(crate) use line::Piece;
pub(crate) use when::Amount;

use saywhy_proto::frame::Header;
use serde::Serialize;
use std::time::Duration;

/// One end of a connection, as the proxy sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// Who connected to the proxy.
    Client,
    /// Whom the proxy connected to.
    Server,
}

impl Side {
    /// Both of them.
    pub const BOTH: [Self; 2] = [Self::Client, Self::Server];

    /// The other end.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

/// Whom a fault meets: the one to whom what it spoils was going.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum To {
    /// What goes to the client.
    Client,
    /// What goes to the server.
    Server,
    /// Either.
    Both,
}

impl To {
    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
            Self::Both => "both",
        }
    }

    pub(crate) fn has(self, side: Side) -> bool {
        match self {
            Self::Both => true,
            Self::Client => side == Side::Client,
            Self::Server => side == Side::Server,
        }
    }
}

/// What a fault does, in the part of a connection's life that it is about.
pub(crate) enum Fault {
    /// Answers the opening handshake in the server's place.
    Handshake(Answer),
    /// Does something at one moment.
    Moment(Box<dyn Moment>),
    /// Has its way with frames as they pass.
    Frames(Box<dyn Frames>),
    /// Slows down what passes, from some moment on.
    Pace(Pace),
}

/// What becomes of a handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// These bytes, and the end.
    Refuse(Vec<u8>),
    /// Nothing; for so long, or as long as the client waits.
    Stall(Option<Duration>),
}

/// A fault of one moment.
pub(crate) trait Moment: Send {
    /// Where in what passes it can happen.
    fn place(&self) -> Place {
        Place::BetweenMessages
    }

    /// What happens.
    fn strike(&mut self) -> Effect;

    /// For how long after it nobody is let in.
    fn down(&self) -> Option<Duration> {
        None
    }
}

/// Where in what passes a moment can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// At any byte.
    Anywhere,
    /// Where a frame has begun and not ended.
    InsideFrame,
    /// Where neither a frame nor a message of several frames is under way.
    BetweenMessages,
}

/// What happens at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// These bytes are written: to the client, to the server.
    Write([Vec<u8>; 2]),
    /// The connection is cut.
    Cut(Cut),
    /// The client is sent this Close, as if by the server, which is left. Then its own is waited for, or nothing.
    Close { frame: Vec<u8>, abrupt: bool },
}

/// How a connection is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// TCP ends in order, without a Close.
    Fin,
    /// TCP is reset.
    Reset,
    /// Nothing passes any more, and nobody is told.
    Silence,
    /// One end is gone, and the other is not told.
    HalfOpen,
}

/// A fault of frames.
pub(crate) trait Frames: Send {
    /// Whether it is about frames like this one. Of a message in several frames the first is asked about.
    fn concerns(&self, header: &Header) -> bool;

    /// The control frame, or the message, that begins now is one that it strikes.
    fn strike(&mut self, _draws: &mut Draws) {}

    /// What becomes of the next part of a frame; `struck` says whether it belongs to one that it strikes.
    fn pass(&mut self, piece: &mut Piece<'_>, struck: bool);
}

/// How fast bytes pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// Each frame is held up for a time between these.
    Delay(Duration, Duration),
    /// Bytes per second.
    Rate(u64),
    /// Bytes of a write.
    Slice(usize),
}

/// A frame that is wrong in some way, for each side: what it is made from is right, `wrong` makes it wrong.
pub(crate) fn forge(right: impl Fn(Option<[u8; 4]>, &mut Vec<u8>), wrong: impl Fn(&mut Vec<u8>)) -> Effect {
    Effect::Write([None, Some(KEY)].map(|key| {
        let mut frame = Vec::new();
        right(key, &mut frame);
        wrong(&mut frame);
        frame
    }))
}

/// What frames to the server are masked with that no client wrote: that of the example in RFC 6455 §5.7.
pub(crate) const KEY: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];
