//! What can be said on a WebSocket, and nothing else: no dependencies, no I/O.
//!
//! | to say | use |
//! |---|---|
//! | a code that may stand in a Close frame | [`CloseCode`] |
//! | what was seen, whether or not it may be said | [`Observed`] |
//! | why, in at most 123 bytes | [`CloseReason`] |
//! | an error with a name, a code and a retry policy | [`ErrorCode`], a row of the [`Catalogue`] |
//! | an error with its words, ready to be sent | [`ErrorMessage`] |
//! | the close code by which an existing client knows a row | [`Dialect`] |
//! | how a connection ended | [`Ending`] |

// No panic is reachable from the network.
#![warn(clippy::unwrap_used, clippy::expect_used)]

pub mod catalogue;
mod close;
mod dialect;
mod ending;
mod message;
pub mod pages;
mod reason;
mod retry;

pub use catalogue::{Catalogue, CatalogueEntry, Clash, ErrorCode};
pub use close::{CloseCode, Observed, Registration, Role, SentBy, Unsendable, registration, registry};
pub use dialect::{CustomDialect, Dialect, UnknownDialect};
pub use ending::{Cause, EndCause, Ending, Loss, Party, SeenClose, Stage};
pub use message::{Detail, ErrorMessage};
pub use reason::{CloseFrame, CloseReason, ReasonTooLong};
pub use retry::{Retry, UnknownRetry};
