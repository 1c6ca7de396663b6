//! How connections are treated.

use crate::origin::Origin;
use saywhy_codes::Dialect;
use saywhy_proto::{Compression, Limits};
use std::sync::Arc;

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
    /// Whether the envelope is spoken: `ready`, error messages, `goodbye`. Without it peers get Closes only.
    pub envelope: bool,
    /// The cookie that carries a token, if one may.
    pub token_cookie: Option<String>,
    /// A newer connection of an identity ends the older one with `replaced`.
    pub one_per_identity: bool,
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
    /// Refused connections that wait for the peer's Close at once; past it refusals are plain 503.
    pub lingering: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            refuse: RefusalForm::Auto,
            dialect: Dialect::App,
            origins: Vec::new(),
            subprotocols: Vec::new(),
            envelope: true,
            token_cookie: None,
            one_per_identity: false,
            limits: Arc::new(Limits::default()),
            compression: None,
            outbound_bytes: 1024 * 1024,
            outbound_messages: 4_096,
            connections: 100_000,
            connections_per_address: 64,
            connections_per_identity: 16,
            lingering: 2_000,
        }
    }
}
