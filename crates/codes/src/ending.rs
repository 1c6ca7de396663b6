//! How a connection ended: the record that operators read.

use crate::catalogue::ErrorCode;
use crate::close::Observed;
use crate::reason::{CloseFrame, CloseReason};
use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// One per connection that asked for an upgrade, whatever happened to it.
///
/// Its `Display` is a sentence for an operator:
/// `refused with unauthorized after 12 ms: we sent 4003 "Token expired" and the peer confirmed`.
#[derive(Debug)]
pub struct Ending {
    /// How far the connection had come.
    pub stage: Stage,
    /// Why it ended.
    pub cause: EndCause,
    /// The id that the peer was told, where it is not the connection's own.
    pub request_id: Option<String>,
    /// What went wrong inside, for the log only.
    pub private: Option<Cause>,
    /// The Close frame that we sent, if one was written.
    pub sent: Option<SeenClose>,
    /// The Close frame that the peer sent, if one arrived.
    pub received: Option<SeenClose>,
    /// Whose Close frame came first, where there was one.
    pub first_close: Option<Party>,
    /// Whether both Close frames were exchanged.
    pub confirmed: bool,
    /// From the request for an upgrade to the end.
    pub lived: Duration,
}

impl Ending {
    /// Who began to end it.
    pub fn began(&self) -> Party {
        self.cause.began()
    }

    /// The close code that the peer's application reports: 1006 when it got no Close from us and sent none.
    pub fn seen_by_peer(&self) -> Observed {
        match (&self.first_close, &self.sent, &self.received) {
            (Some(Party::Peer), _, Some(received)) => received.code,
            (_, Some(sent), _) => sent.code,
            (_, None, Some(received)) => received.code,
            (_, None, None) => Observed::Abnormal,
        }
    }
}

/// How far a connection had come when it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// It was refused, or vanished, before `ready`.
    Admission,
    /// It was open.
    Session,
}

/// Why a connection ended. Every value but `Unexplained` is an explanation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndCause {
    /// We ended it with a row of the catalogue.
    Error(ErrorCode),
    /// The application was done with it.
    Finished,
    /// The peer sent a Close.
    PeerClosed,
    /// The connection broke.
    Lost(Loss),
    /// Nobody recorded a cause: a defect, to be driven to zero.
    Unexplained,
}

impl EndCause {
    /// Who began to end it.
    pub fn began(self) -> Party {
        match self {
            Self::Error(_) | Self::Finished | Self::Unexplained => Party::Us,
            Self::PeerClosed => Party::Peer,
            Self::Lost(Loss::WriteTimedOut) => Party::Us,
            Self::Lost(Loss::Eof | Loss::Reset) => Party::Peer,
        }
    }

    /// A short stable word for a metric's label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Error(error) => error.get().name,
            Self::Finished => "finished",
            Self::PeerClosed => "peer_closed",
            Self::Lost(Loss::Eof) => "lost_eof",
            Self::Lost(Loss::Reset) => "lost_reset",
            Self::Lost(Loss::WriteTimedOut) => "write_timed_out",
            Self::Unexplained => "unexplained",
        }
    }
}

/// How a connection broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Loss {
    /// The peer ended its side without a Close.
    Eof,
    /// The connection was reset, or the network reported an error.
    Reset,
    /// The peer took nothing off us until the write deadline.
    WriteTimedOut,
}

/// One of the two ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Party {
    /// This endpoint.
    Us,
    /// The other one.
    Peer,
}

/// A Close frame that was seen on the wire, in either direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenClose {
    /// Its code, or what stands for none.
    pub code: Observed,
    /// Its words.
    pub reason: CloseReason,
}

impl From<CloseFrame> for SeenClose {
    fn from(close: CloseFrame) -> Self {
        Self { code: Observed::Code(close.code), reason: close.reason }
    }
}

impl fmt::Display for SeenClose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        if self.reason.is_empty() { Ok(()) } else { write!(f, " {}", self.reason) }
    }
}

/// The private side of an error: for the operator's log, with no way to a peer.
///
/// It cannot be serialised or turned into an [`ErrorMessage`](crate::ErrorMessage).
/// ```compile_fail
/// # use saywhy_codes::{Cause, catalogue::NOT_FOUND};
/// let cause = Cause::from("relation \"users\" does not exist");
/// NOT_FOUND.say(cause);
/// ```
#[derive(Clone)]
pub struct Cause(Arc<dyn Error + Send + Sync>);

impl Cause {
    /// Keeps an error and its sources.
    pub fn new(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(Arc::from(error.into()))
    }
}

impl<E: Into<Box<dyn Error + Send + Sync>>> From<E> for Cause {
    fn from(error: E) -> Self {
        Self::new(error)
    }
}

/// The whole chain, in one line, escaped.
impl fmt::Debug for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cause({:?})", self.chain())
    }
}

impl Cause {
    /// The error and its sources, outermost first, joined by colons.
    pub fn chain(&self) -> String {
        let mut chain = self.0.to_string();
        let mut source = self.0.source();
        while let Some(error) = source {
            chain.push_str(": ");
            chain.push_str(&error.to_string());
            source = error.source();
        }
        chain
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.stage, self.cause) {
            (Stage::Admission, EndCause::Error(error)) => write!(f, "refused with {error}")?,
            (Stage::Admission, EndCause::Lost(_)) => f.write_str("lost before it was ready")?,
            (Stage::Session, EndCause::Error(error)) => write!(f, "ended by us with {error}")?,
            (Stage::Session, EndCause::Lost(_)) => f.write_str("lost")?,
            (_, EndCause::Finished) => f.write_str("ended by us, done")?,
            (_, EndCause::PeerClosed) => f.write_str("closed by the peer")?,
            (_, EndCause::Unexplained) => f.write_str("ended without an explanation")?,
        }
        write!(f, " after {}: ", Lived(self.lived))?;
        match (&self.sent, &self.received, self.first_close) {
            (Some(sent), Some(received), Some(Party::Peer)) => {
                write!(f, "the peer sent {received} and we sent {sent}")
            }
            (Some(sent), Some(_), _) => write!(f, "we sent {sent} and the peer confirmed"),
            (Some(sent), None, _) => write!(f, "we sent {sent} and the peer did not answer"),
            (None, Some(received), _) => write!(f, "the peer sent {received} and we could not answer"),
            (None, None, _) => match self.cause {
                EndCause::Lost(Loss::Eof) => f.write_str("the peer ended the connection without a Close"),
                EndCause::Lost(Loss::Reset) => f.write_str("the connection was reset without a Close"),
                EndCause::Lost(Loss::WriteTimedOut) => f.write_str("the peer took nothing until the write deadline"),
                _ => f.write_str("no Close in either direction"),
            },
        }
    }
}

struct Lived(Duration);

impl fmt::Display for Lived {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_millis() {
            ms @ 0..1_000 => write!(f, "{ms} ms"),
            ms @ 1_000..60_000 => write!(f, "{}.{} s", ms / 1_000, ms % 1_000 / 100),
            ms @ 60_000..3_600_000 => write!(f, "{} min {} s", ms / 60_000, ms % 60_000 / 1_000),
            ms => write!(f, "{} h {} min", ms / 3_600_000, ms % 3_600_000 / 60_000),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CloseCode;
    use crate::catalogue::{RATE_LIMITED, UNAUTHORIZED};

    fn ending(stage: Stage, cause: EndCause) -> Ending {
        Ending {
            stage,
            cause,
            request_id: None,
            private: None,
            sent: None,
            received: None,
            first_close: None,
            confirmed: false,
            lived: Duration::from_millis(1_250),
        }
    }

    #[test]
    fn it_reads_like_a_sentence() {
        let close = |code, reason| SeenClose::from(CloseFrame { code, reason: CloseReason::cut(reason) });
        let from_peer = |code, reason| SeenClose { code, reason: CloseReason::cut(reason) };
        let mut refused = ending(Stage::Admission, EndCause::Error(UNAUTHORIZED));
        refused.lived = Duration::from_millis(12);
        refused.sent = Some(close(CloseCode::private(4003), "Token expired"));
        refused.first_close = Some(Party::Us);
        assert_eq!(
            refused.to_string(),
            r#"refused with unauthorized after 12 ms: we sent 4003 "Token expired" and the peer did not answer"#
        );
        refused.received = Some(from_peer(Observed::Code(CloseCode::private(4003)), ""));
        assert_eq!(
            refused.to_string(),
            r#"refused with unauthorized after 12 ms: we sent 4003 "Token expired" and the peer confirmed"#
        );
        assert_eq!(refused.seen_by_peer().as_u16(), 4003);

        let mut left = ending(Stage::Session, EndCause::PeerClosed);
        left.received = Some(from_peer(Observed::NoStatus, ""));
        left.sent = Some(close(CloseCode::NORMAL, ""));
        left.first_close = Some(Party::Peer);
        assert_eq!(left.to_string(), "closed by the peer after 1.2 s: the peer sent 1005 and we sent 1000");
        assert_eq!(left.began(), Party::Peer);

        let lost = ending(Stage::Session, EndCause::Lost(Loss::Eof));
        assert_eq!(lost.to_string(), "lost after 1.2 s: the peer ended the connection without a Close");
        assert_eq!(lost.seen_by_peer(), Observed::Abnormal);
        let lost = ending(Stage::Admission, EndCause::Lost(Loss::Reset));
        assert_eq!(lost.to_string(), "lost before it was ready after 1.2 s: the connection was reset without a Close");
        let stuck = ending(Stage::Session, EndCause::Lost(Loss::WriteTimedOut));
        assert_eq!(stuck.to_string(), "lost after 1.2 s: the peer took nothing until the write deadline");
        let mut limited = ending(Stage::Session, EndCause::Error(RATE_LIMITED));
        limited.lived = Duration::from_secs(3_725);
        assert_eq!(limited.to_string(), "ended by us with rate_limited after 1 h 2 min: no Close in either direction");
        let defect = ending(Stage::Session, EndCause::Unexplained);
        assert_eq!(defect.to_string(), "ended without an explanation after 1.2 s: no Close in either direction");
        let done = ending(Stage::Session, EndCause::Finished);
        assert_eq!(done.to_string(), "ended by us, done after 1.2 s: no Close in either direction");
    }

    #[test]
    fn a_cause_keeps_its_chain_for_the_log() {
        let io = std::io::Error::other("disk gone");
        assert_eq!(Cause::new(io).chain(), "disk gone");
        assert_eq!(format!("{:?}", Cause::from("line\none")), r#"Cause("line\none")"#);
    }
}
