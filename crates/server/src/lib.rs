//! WebSockets that say why: refuse, accept, reply, close and drain, so that every client is told what happened,
//! whether to try again and when, and every operator the cause, under the same id.
//!
//! ```
//! use axum::{Router, routing::any, response::Response};
//! use saywhy::catalogue::UNAUTHORIZED;
//! use saywhy::{Admission, Explain, Failure, Gate, Handler, Refusal, Settings};
//!
//! struct Echo;
//!
//! #[derive(serde::Deserialize)]
//! #[serde(tag = "type", content = "data", rename_all = "snake_case")]
//! enum Command { Echo(String) }
//!
//! impl Handler for Echo {
//!     type Command = Command;
//!     type Event = String;
//!     async fn on_message(&mut self, Command::Echo(text): Command) -> Result<String, Failure> { Ok(text) }
//! }
//!
//! async fn ws(admission: Admission) -> Result<Response, Refusal> {
//!     admission.token().filter(|token| *token == "secret").or_refuse(UNAUTHORIZED)?;
//!     Ok(admission.accept(|session| session.serve(Echo)))
//! }
//!
//! let app: Router = Router::new().route("/ws", any(ws)).layer(Gate::new(Settings::default()));
//! ```
//!
//! [`Gate`] stands in front of the routes and turns every "no" behind it into a refusal that its reader can read:
//! a message and a Close for browsers, HTTP with `application/problem+json` for everyone else. Behind it, a
//! [`Handler`] says of each error whether the session goes on ([`Explain::or_reply`]) or ends ([`Explain::or_close`]).

// No panic is reachable from the network.
#![warn(clippy::unwrap_used, clippy::expect_used)]

mod admission;
mod applicant;
mod asking;
mod buffers;
mod check;
mod clock;
mod closing;
mod connection;
mod drain;
mod driver;
mod failure;
mod fetch;
mod gate;
mod handshake;
mod house;
mod incoming;
mod observe;
mod origin;
mod outbox;
mod panic;
mod pending;
mod places;
mod proxies;
mod rates;
mod refusal;
mod relay;
mod revocation;
mod serve;
mod session;
mod settings;
mod stream;
mod tally;
pub mod testing;
mod tls;
mod token;
mod transport;

pub use admission::Admission;
pub use applicant::Applicant;
pub use check::Check;
pub use drain::{DrainPlan, Drained};
pub use failure::{Explain, Failure};
pub use gate::{Gate, Gated, PeerAddr};
pub use handshake::{accept_of, carries_token};
pub use origin::{InvalidOrigin, Origin};
pub use outbox::{Encoded, Gone, Outbox};
pub use proxies::{ForwardedHeader, InvalidNetwork, Network, Proxies};
pub use refusal::Refusal;
pub use relay::Upstream;
pub use revocation::{NotRevoked, Revocation, Revoked};
pub use saywhy_codes::{
    Catalogue, CatalogueEntry, Cause, CloseCode, CustomDialect, Detail, Dialect, EndCause, Ending, ErrorCode,
    ErrorMessage, Retry, catalogue,
};
pub use saywhy_proto::message::Message;
pub use saywhy_proto::{Compression, Limits};
pub use serve::{HttpLimits, Listening, serve, serve_with};
pub use session::{Handler, Session};
pub use settings::{Rate, RefusalForm, Settings};
pub use tls::{Tls, TlsProblem};
pub use token::{
    InvalidKey, Jwks, JwksSettings, Registered, TOKEN_BYTES, TokenAlgorithm, TokenFault, TokenKey, TokenKeys,
    TokenProblem, TokenSigner, Verified,
};
