//! How connections are treated.

use crate::origin::Origin;
use saywhy_codes::Dialect;
use saywhy_proto::{Compression, Limits};
use std::sync::Arc;
use std::time::Duration;

/// Which encoding a refusal takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RefusalForm {
    /// `close` for browsers and for clients that offer `saywhy.v1`, `http` for everyone else.
    #[default]
    Auto,
    /// 101, a message, and a Close.
    Close,
    /// An HTTP status and `application/problem+json`.
    Http,
}

/// How often something may happen (GCRA).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// In a second, in the long run; 0 is no limit.
    pub per_s: u32,
    /// At once.
    pub burst: u32,
}

impl Rate {
    /// No limit.
    pub const NONE: Self = Self { per_s: 0, burst: 0 };
}

/// How a gate treats the connections that pass it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The encoding of refusals.
    pub refuse: RefusalForm,
    /// The close codes that this route's clients know.
    pub dialect: Dialect,
    /// The pages that may connect, besides those of the same origin.
    pub origins: Vec<Origin>,
    /// Subprotocols that the application speaks, besides `saywhy.v1`. They get Closes and no messages of ours.
    pub subprotocols: Vec<String>,
    /// Whether any subprotocol may be on offer: which one is spoken is somebody else's to say, such as an upstream's.
    pub any_subprotocol: bool,
    /// Whether the envelope is spoken: `ready`, error messages, `goodbye`. Without it peers get Closes only.
    pub envelope: bool,
    /// The cookie that carries a token, if one may.
    pub token_cookie: Option<String>,
    /// A newer connection of an identity ends the older one with `replaced`.
    pub one_per_identity: bool,
    /// How often in a minute it does, before the newer one is refused instead: two that take each other's place would go
    /// on for ever. `rate_limited`; 0 means no limit.
    pub replacements: u32,
    /// What a session may take.
    pub limits: Arc<Limits>,
    /// Compression of messages (permessage-deflate, RFC 7692), for clients that offer it; `None` declines.
    pub compression: Option<Compression>,
    /// Bytes that may be queued for a peer: `slow_consumer`.
    pub outbound_bytes: usize,
    /// Messages that may be queued for a peer: `slow_consumer`.
    pub outbound_messages: usize,
    /// Connections at once: `overloaded`.
    pub connections: usize,
    /// Connections at once from one address (a /64 in IPv6): `rate_limited`.
    pub connections_per_address: usize,
    /// Connections at once of one identity: `rate_limited`.
    pub connections_per_identity: usize,
    /// Connections that ask to come in: `overloaded`. Of the first gate of a server, as all that follows.
    pub connects: Rate,
    /// Those from one address: `rate_limited`.
    pub connects_per_address: Rate,
    /// Those of one identity: `rate_limited`.
    pub connects_per_identity: Rate,
    /// Refusals with a Close that one address gets at once. The next come later and later, and in the end as plain 503.
    pub refusals_per_address: Rate,
    /// How long such a Close is held back at most.
    pub refusal_delay: Duration,
    /// Connections at once that have not brought their token yet: `overloaded`.
    pub unauthenticated: usize,
    /// The same from one address (a /64 in IPv6): `rate_limited`.
    pub unauthenticated_per_address: usize,
    /// Tokens that are not good, in a minute, from one address (a /64 in IPv6) and of one identity: `rate_limited`. 0
    /// means no limit.
    pub failed_tokens: u32,
    /// Revocations at once.
    pub revocations: usize,
    /// How long a revocation is kept at most, which is how long a token is good for at most.
    pub revocation: Duration,
    /// Refused connections that wait for the peer's Close at once; past it refusals are plain 503.
    pub lingering: usize,
    /// Those from one address.
    pub lingering_per_address: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            refuse: RefusalForm::Auto,
            dialect: Dialect::App,
            origins: Vec::new(),
            subprotocols: Vec::new(),
            any_subprotocol: false,
            envelope: true,
            token_cookie: None,
            one_per_identity: false,
            replacements: 5,
            limits: Arc::new(Limits::default()),
            compression: None,
            outbound_bytes: 1024 * 1024,
            outbound_messages: 4_096,
            connections: 100_000,
            connections_per_address: 64,
            connections_per_identity: 16,
            connects: Rate::NONE,
            connects_per_address: Rate { per_s: 20, burst: 200 },
            connects_per_identity: Rate { per_s: 5, burst: 50 },
            refusals_per_address: Rate { per_s: 1, burst: 20 },
            refusal_delay: Duration::from_secs(3),
            unauthenticated: 10_000,
            unauthenticated_per_address: 16,
            failed_tokens: 30,
            revocations: 100_000,
            revocation: Duration::from_secs(24 * 60 * 60),
            lingering: 2_000,
            lingering_per_address: 64,
        }
    }
}
