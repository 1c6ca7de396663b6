//! The configuration of `saywhy serve`: flags > environment > file > defaults.
//!
//! The types say everything once: what a key means, its default and its range. The JSON Schema is derived from them, the
//! file is checked against that schema, and the tables of `docs/config.md` are made from it.
//!
//! | step | where |
//! |---|---|
//! | what a file can say | here |
//! | the types as a JSON Schema | `schema.rs` |
//! | a file against the schema, at its lines and columns | `shape.rs` |
//! | what no schema can say: one key against another | `rules.rs` |
//! | file to `Config`, or to a report of every problem | `read.rs`, `problem.rs` |
//! | flags and environment on top | `args.rs` |

mod args;
mod problem;
mod read;
mod rules;
mod schema;
mod shape;
mod values;

pub(crate) use args::ServeArgs;
pub(crate) use problem::{Failure, Paint, Report, escape, render};
pub(crate) use read::read;
pub(crate) use rules::token_key;
pub(crate) use schema::schema;
pub(crate) use values::{Complaint, HttpUrl, JwksUrl, Network, Origin, RoomName, RoutePath, Secret, Upstream};

use clap::ValueEnum;
use saywhy_codes::{Catalogue, Dialect};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

/// How `saywhy serve` works. Every key has a default, so an empty file is a configuration too.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct Config {
    /// The address that clients connect to. Anything but a loopback address needs a `[token]` key, or `token = "none"`
    /// on every route.
    #[schemars(extend("format" = "socket-address"))]
    pub(crate) listen: SocketAddr,
    /// The certificate of that address: `wss://`, and HTTP/2 for those that can. Without this table it speaks plain HTTP.
    pub(crate) tls: Option<TlsFiles>,
    /// Proxies in front of the server that are believed about where a connection comes from. By default none is.
    pub(crate) proxies: Proxies,
    /// The HTTP API for back ends: publish, close a room, remove someone, list. Without this table there is none.
    pub(crate) api: Option<Api>,
    /// The keys that tokens are checked with. Without this table, on a loopback address, the server is in development
    /// mode and mints tokens itself.
    pub(crate) token: Option<TokenKeys>,
    /// What clients may use up. Those of a route take precedence over these.
    pub(crate) limits: Limits,
    /// How the server stops.
    pub(crate) drain: Drain,
    /// The log, on standard error.
    pub(crate) log: Log,
    /// What is served at which path. Without any there is one route: rooms at `/ws`.
    #[serde(rename = "route")]
    pub(crate) routes: Vec<Route>,
    /// Rows of your own in the catalogue of errors.
    #[serde(rename = "error")]
    pub(crate) errors: Vec<ErrorRow>,
    /// Dialects of your own: which close code stands for which row.
    #[serde(rename = "dialect")]
    pub(crate) dialect_rows: Vec<DialectRow>,
    /// The dialects that those rows are.
    #[serde(skip)]
    pub(crate) dialects: Vec<Dialect>,
    /// The built-in rows and those of `[[error]]`.
    #[serde(skip)]
    pub(crate) catalogue: Catalogue,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            tls: None,
            proxies: Proxies::default(),
            api: None,
            token: None,
            limits: Limits::default(),
            drain: Drain::default(),
            log: Log::default(),
            routes: Vec::new(),
            errors: Vec::new(),
            dialect_rows: Vec::new(),
            dialects: Vec::new(),
            catalogue: Catalogue::builtin(),
        }
    }
}

impl Config {
    /// Whether tokens can be checked with a key of the operator's own.
    pub(crate) fn has_token_key(&self) -> bool {
        self.token
            .as_ref()
            .is_some_and(|token| token.hs256_secret.is_some() || !token.keys.is_empty() || token.jwks_url.is_some())
    }

    /// Whether the server is for its own machine only, and may mint the tokens that it accepts.
    pub(crate) fn is_development(&self) -> bool {
        self.listen.ip().is_loopback() && self.token.is_none()
    }

    /// What `route` asks of its clients: what it says itself, else a token; but an upstream asks for its own.
    pub(crate) fn token_policy(&self, route: &Route) -> TokenPolicy {
        route.token.unwrap_or(match route.target {
            Target::Rooms(_) => TokenPolicy::Required,
            Target::Upstream(_) => TokenPolicy::None,
        })
    }
}

/// A certificate and its key, in PEM. They are read again when they change, and on SIGHUP; connections stay. What cannot
/// be used then is logged, and the old ones are kept.
#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) struct TlsFiles {
    /// The server's own certificate, then those up to the root; the path is relative to the folder of the configuration.
    pub(crate) certificate_file: PathBuf,
    /// The private key of the first certificate; the path is relative to the folder of the configuration.
    pub(crate) key_file: PathBuf,
}

/// Who is believed about where a connection comes from.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct Proxies {
    /// Where they connect from. The address that counts, for limits and in the log, is the last one that is none of these.
    pub(crate) trusted: Vec<Network>,
    /// Whether they begin each connection with a header of the PROXY protocol, version 1 or 2. One of theirs without it is
    /// ended.
    pub(crate) proxy_protocol: bool,
    /// The header in which they say who connected to them. Others are not looked at, as they may be a client's own.
    pub(crate) header: ForwardedHeader,
}

/// The header in which a proxy says who connected to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ForwardedHeader {
    /// And `X-Forwarded-Proto`, for the scheme.
    #[default]
    XForwardedFor,
    /// RFC 7239, `for` and `proto`.
    Forwarded,
    /// None is looked at.
    None,
}

/// The HTTP API for back ends.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("not" = { "required": ["key", "key_file"] }))]
pub(crate) struct Api {
    /// The address of the API.
    #[schemars(extend("format" = "socket-address"))]
    pub(crate) listen: SocketAddr,
    /// What callers send as `Authorization: Bearer`. Better kept in `key_file` or in `SAYWHY_API_KEY`.
    #[schemars(length(min = "API_KEY_LEAST"))]
    pub(crate) key: Option<Secret>,
    /// A file that holds nothing but the key; the path is relative to the folder of the configuration.
    pub(crate) key_file: Option<PathBuf>,
}

/// Characters of an API key.
const API_KEY_LEAST: usize = 16;

impl Default for Api {
    fn default() -> Self {
        Self { listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8081)), key: None, key_file: None }
    }
}

/// How tokens (JSON Web Tokens) are checked. A token is good when any of the keys says so.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("not" = { "required": ["hs256_secret", "hs256_secret_file"] }))]
pub(crate) struct TokenKeys {
    /// The secret of HS256. Better kept in `hs256_secret_file` or in `SAYWHY_TOKEN_SECRET`.
    #[schemars(length(min = "HS256_SECRET_LEAST"), extend("x-client-sees" = "unauthorized"))]
    pub(crate) hs256_secret: Option<Secret>,
    /// A file that holds nothing but the secret; the path is relative to the folder of the configuration.
    #[schemars(extend("x-client-sees" = "unauthorized"))]
    pub(crate) hs256_secret_file: Option<PathBuf>,
    /// More keys, each for one algorithm.
    #[serde(rename = "key")]
    pub(crate) keys: Vec<TokenKey>,
    /// Where somebody else publishes keys (JWKS): `https`, or `http` on this machine. As long as they cannot be fetched
    /// for the first time, tokens are refused with `overloaded`; later those that are there are kept.
    #[schemars(extend("x-client-sees" = "unauthorized"))]
    pub(crate) jwks_url: Option<JwksUrl>,
    /// What a published key may be for. A shared secret is never taken from there.
    #[schemars(extend("x-client-sees" = "unauthorized"))]
    pub(crate) jwks_algorithms: Vec<PublicAlgorithm>,
    /// After this the published keys are looked at anew.
    #[schemars(range(min = 1_000, max = 86_400_000), extend("x-client-sees" = "unauthorized"))]
    pub(crate) jwks_refresh_ms: u32,
    /// Between two looks for a published key that is not there, and after a look that failed.
    #[schemars(range(min = 1_000, max = 3_600_000), extend("x-client-sees" = "overloaded"))]
    pub(crate) jwks_pause_ms: u32,
    /// For one look at the published keys.
    #[schemars(range(min = 100, max = 60_000), extend("x-client-sees" = "overloaded"))]
    pub(crate) jwks_timeout_ms: u32,
    /// What `iss` has to be. Without it any issuer is accepted.
    #[schemars(length(min = 1), extend("x-client-sees" = "unauthorized"))]
    pub(crate) issuer: Option<String>,
    /// What `aud` has to contain. Without it any audience is accepted.
    #[schemars(length(min = 1), extend("x-client-sees" = "unauthorized"))]
    pub(crate) audience: Option<String>,
}

impl Default for TokenKeys {
    fn default() -> Self {
        Self {
            hs256_secret: None,
            hs256_secret_file: None,
            keys: Vec::new(),
            jwks_url: None,
            jwks_algorithms: vec![PublicAlgorithm::Rs256, PublicAlgorithm::Es256, PublicAlgorithm::EdDsa],
            jwks_refresh_ms: 600_000,
            jwks_pause_ms: 30_000,
            jwks_timeout_ms: 5_000,
            issuer: None,
            audience: None,
        }
    }
}

/// A key that tokens are checked with. It is for its algorithm only, whatever a token says of itself.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(extend("not" = { "required": ["key", "file"] }))]
pub(crate) struct TokenKey {
    /// How tokens are signed with it.
    pub(crate) algorithm: TokenAlgorithm,
    /// The public key in PEM, or the secret of HS256. Better kept in `file`.
    pub(crate) key: Option<Secret>,
    /// A file that holds nothing but that; the path is relative to the folder of the configuration.
    pub(crate) file: Option<PathBuf>,
    /// The key is for tokens that name it so, or name none. Without it, for tokens with any name.
    #[schemars(length(min = 1))]
    pub(crate) kid: Option<String>,
    /// The key, read.
    #[serde(skip)]
    pub(crate) read: Option<saywhy::TokenKey>,
}

/// How a token is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema, ValueEnum)]
pub(crate) enum TokenAlgorithm {
    /// A shared secret of 32 characters or more. Whoever checks with it can sign, too.
    #[serde(rename = "HS256")]
    #[value(name = "HS256")]
    Hs256,
    /// RSA, of 2048 bits or more.
    #[serde(rename = "RS256")]
    #[value(name = "RS256")]
    Rs256,
    /// ECDSA on P-256.
    #[serde(rename = "ES256")]
    #[value(name = "ES256")]
    Es256,
    /// Ed25519.
    #[serde(rename = "EdDSA")]
    #[value(name = "EdDSA")]
    EdDsa,
}

impl From<TokenAlgorithm> for saywhy::TokenAlgorithm {
    fn from(algorithm: TokenAlgorithm) -> Self {
        match algorithm {
            TokenAlgorithm::Hs256 => Self::Hs256,
            TokenAlgorithm::Rs256 => Self::Rs256,
            TokenAlgorithm::Es256 => Self::Es256,
            TokenAlgorithm::EdDsa => Self::EdDsa,
        }
    }
}

/// How a token is signed with what has a public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub(crate) enum PublicAlgorithm {
    /// RSA, of 2048 bits or more.
    #[serde(rename = "RS256")]
    Rs256,
    /// ECDSA on P-256.
    #[serde(rename = "ES256")]
    Es256,
    /// Ed25519.
    #[serde(rename = "EdDSA")]
    EdDsa,
}

impl From<PublicAlgorithm> for saywhy::TokenAlgorithm {
    fn from(algorithm: PublicAlgorithm) -> Self {
        match algorithm {
            PublicAlgorithm::Rs256 => Self::Rs256,
            PublicAlgorithm::Es256 => Self::Es256,
            PublicAlgorithm::EdDsa => Self::EdDsa,
        }
    }
}

/// RFC 7518 §3.2: a key for HS256 is at least as long as its hash.
const HS256_SECRET_LEAST: usize = 32;

/// What the clients of the whole server may use up.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct Limits {
    /// Those that a route can set for itself.
    #[serde(flatten)]
    pub(crate) session: SessionLimits,
    /// Bytes of an opening handshake, and of one message before `ready`.
    #[schemars(range(min = 1_024, max = 1_048_576), extend("x-client-sees" = "message_too_big"))]
    pub(crate) handshake_bytes: u32,
    /// From the connection to `ready`. A request that is not there by then is answered with HTTP 408.
    #[schemars(range(min = 100, max = 300_000), extend("x-client-sees" = "timeout"))]
    pub(crate) handshake_ms: u32,
    /// Requests and WebSockets at once in one HTTP/2 connection; a client waits with more. With 0 HTTP/2 is not spoken.
    #[schemars(range(max = 10_000))]
    pub(crate) http2_streams: u32,
    /// Connections at once; each WebSocket is one, those in one HTTP/2 connection too.
    #[schemars(range(min = 1, max = 10_000_000), extend("x-client-sees" = "overloaded"))]
    pub(crate) connections: u32,
    /// Connections at once from one address; for IPv6 from one /64.
    #[schemars(range(min = 1, max = 10_000_000), extend("x-client-sees" = "rate_limited"))]
    pub(crate) connections_per_address: u32,
    /// Connections that are asked for in a second, by everyone, in the long run; 0 is no limit.
    #[schemars(range(max = 1_000_000), extend("x-client-sees" = "overloaded"))]
    pub(crate) connects_per_s: u32,
    /// Those at once.
    #[schemars(range(max = 1_000_000), extend("x-client-sees" = "overloaded"))]
    pub(crate) connect_burst: u32,
    /// Connections that one address (for IPv6 one /64) asks for in a second, in the long run; 0 is no limit.
    #[schemars(range(max = 1_000_000), extend("x-client-sees" = "rate_limited"))]
    pub(crate) address_connects_per_s: u32,
    /// Those at once.
    #[schemars(range(max = 1_000_000), extend("x-client-sees" = "rate_limited"))]
    pub(crate) address_connect_burst: u32,
    /// Connections that one identity asks for in a second, in the long run; 0 is no limit.
    #[schemars(range(max = 1_000_000), extend("x-client-sees" = "rate_limited"))]
    pub(crate) identity_connects_per_s: u32,
    /// Those at once.
    #[schemars(range(max = 1_000_000), extend("x-client-sees" = "rate_limited"))]
    pub(crate) identity_connect_burst: u32,
    /// Connections on which nothing goes on, neither a request nor a WebSocket: those that have not said what they want yet,
    /// and those that are kept for another request. Past it the next are turned away with HTTP 503.
    #[schemars(range(min = 1, max = 10_000_000), extend("x-client-sees" = "overloaded"))]
    pub(crate) waiting: u32,
    /// Those of one address (for IPv6 one /64), unless it is a trusted proxy's.
    #[schemars(range(min = 1, max = 10_000_000), extend("x-client-sees" = "overloaded"))]
    pub(crate) waiting_per_address: u32,
    /// Refusals in the form `close` that one address gets in a second without waiting; 0 is no limit. The next come later
    /// and later, and in the end as plain HTTP 503.
    #[schemars(range(max = 1_000_000), extend("x-client-sees" = "overloaded"))]
    pub(crate) address_refusals_per_s: u32,
    /// Those at once.
    #[schemars(range(max = 1_000_000), extend("x-client-sees" = "overloaded"))]
    pub(crate) address_refusal_burst: u32,
    /// How long such a refusal is held back at most.
    #[schemars(range(max = 60_000))]
    pub(crate) refusal_delay_ms: u32,
    /// Refused connections that wait for their client's Close at once. Past it refusals are plain HTTP 503.
    #[schemars(range(max = 10_000_000), extend("x-client-sees" = "overloaded"))]
    pub(crate) lingering: u32,
    /// Those of one address.
    #[schemars(range(max = 10_000_000), extend("x-client-sees" = "overloaded"))]
    pub(crate) lingering_per_address: u32,
    /// Connections at once that were let in to bring their token in the first message, and have not yet.
    #[schemars(range(min = 1, max = 10_000_000), extend("x-client-sees" = "overloaded"))]
    pub(crate) unauthenticated: u32,
    /// The same from one address; for IPv6 from one /64.
    #[schemars(range(min = 1, max = 10_000_000), extend("x-client-sees" = "rate_limited"))]
    pub(crate) unauthenticated_per_address: u32,
    /// Tokens in a minute that are not good, from one address (for IPv6 from one /64) and of one identity. Past it no
    /// token of the address is looked at for a while; 0 is no limit.
    #[schemars(range(max = 1_000_000), extend("x-client-sees" = "rate_limited"))]
    pub(crate) failed_tokens: u32,
    /// Revocations at once. Past it the API refuses another one.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub(crate) revocations: u32,
    /// How long a revocation is kept at most. Tokens that are good for longer could outlive theirs.
    #[schemars(range(min = 1_000, max = 4_000_000_000_u32), extend("x-client-sees" = "unauthorized"))]
    pub(crate) revocation_ms: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            session: SessionLimits::default(),
            handshake_bytes: 16 * 1024,
            handshake_ms: 10_000,
            http2_streams: 100,
            connections: 100_000,
            connections_per_address: 64,
            connects_per_s: 0,
            connect_burst: 0,
            address_connects_per_s: 20,
            address_connect_burst: 200,
            identity_connects_per_s: 5,
            identity_connect_burst: 50,
            waiting: 10_000,
            waiting_per_address: 256,
            address_refusals_per_s: 1,
            address_refusal_burst: 20,
            refusal_delay_ms: 3_000,
            lingering: 2_000,
            lingering_per_address: 64,
            unauthenticated: 10_000,
            unauthenticated_per_address: 16,
            failed_tokens: 30,
            revocations: 100_000,
            revocation_ms: 86_400_000,
        }
    }
}

/// What the clients of one route may use up.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct SessionLimits {
    /// Bytes of one message of a client, over all of its fragments.
    #[schemars(range(min = 256, max = 67_108_864), extend("x-client-sees" = "message_too_big"))]
    pub(crate) message_bytes: u32,
    /// Messages of one client in a second, in the long run.
    #[schemars(range(min = 1, max = 1_000_000), extend("x-client-sees" = "rate_limited"))]
    pub(crate) messages_per_s: u32,
    /// Messages of one client at once.
    #[schemars(range(min = 1, max = 1_000_000), extend("x-client-sees" = "rate_limited"))]
    pub(crate) message_burst: u32,
    /// The error budget: errors that one connection is answered before it is ended. One is forgiven every ten seconds.
    #[schemars(range(min = 1, max = 1_000_000), extend("x-client-sees" = "policy_violation"))]
    pub(crate) errors: u32,
    /// Bytes that wait for one client to read them.
    #[schemars(range(min = 4_096, max = 1_073_741_824), extend("x-client-sees" = "slow_consumer"))]
    pub(crate) outbound_bytes: u32,
    /// Messages that wait for one client to read them.
    #[schemars(range(min = 16, max = 1_000_000), extend("x-client-sees" = "slow_consumer"))]
    pub(crate) outbound_messages: u32,
    /// Without progress on a write. A client that reads nothing at all is cut off and sees 1006.
    #[schemars(range(min = 100, max = 600_000))]
    pub(crate) write_ms: u32,
    /// From our Close to the client's; past it the connection is ended.
    #[schemars(range(min = 100, max = 60_000))]
    pub(crate) close_ms: u32,
    /// Between Pings; a client from which nothing was read for two of these is gone.
    #[schemars(range(min = 100, max = 3_600_000), extend("x-client-sees" = "timeout"))]
    pub(crate) heartbeat_ms: u32,
    /// Without a message from the client; 0 is for ever.
    #[schemars(range(max = 604_800_000), extend("x-client-sees" = "going_away"))]
    pub(crate) idle_ms: u32,
    /// Connections at once of one identity.
    #[schemars(range(min = 1, max = 10_000_000), extend("x-client-sees" = "rate_limited"))]
    pub(crate) connections_per_identity: u32,
    /// Times in a minute that a connection of an identity takes the place of the one before, where there may be one only.
    /// Past it the newcomer is refused instead; 0 is no limit.
    #[schemars(range(max = 1_000_000), extend("x-client-sees" = "rate_limited"))]
    pub(crate) replacements: u32,
    /// Rooms that one connection has joined at once.
    #[schemars(range(min = 1, max = 100_000), extend("x-client-sees" = "invalid_action"))]
    pub(crate) rooms_per_connection: u32,
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self {
            message_bytes: 64 * 1024,
            messages_per_s: 50,
            message_burst: 100,
            errors: 20,
            outbound_bytes: 1024 * 1024,
            outbound_messages: 4_096,
            write_ms: 10_000,
            close_ms: 3_000,
            heartbeat_ms: 25_000,
            idle_ms: 0,
            connections_per_identity: 16,
            replacements: 5,
            rooms_per_connection: 64,
        }
    }
}

/// How the server stops: Ctrl-C or SIGTERM.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct Drain {
    /// Over how long clients are told to come back, each at a time of its own.
    #[schemars(range(max = 3_600_000), extend("x-client-sees" = "service_restart"))]
    pub(crate) window_ms: u32,
    /// After it, what is still connected is cut off and counted.
    #[schemars(range(max = 3_600_000), extend("x-client-sees" = "service_restart"))]
    pub(crate) deadline_ms: u32,
}

impl Default for Drain {
    fn default() -> Self {
        // Kubernetes kills after 30 s.
        Self { window_ms: 10_000, deadline_ms: 25_000 }
    }
}

/// The log.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct Log {
    /// For people or for machines.
    pub(crate) format: LogFormat,
    /// How much is told.
    pub(crate) level: LogLevel,
}

/// How a line of the log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// Words and fields.
    #[default]
    Text,
    /// One JSON object.
    Json,
}

/// The least severe line that is logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogLevel {
    /// Our own failures.
    Error,
    /// And what an operator should look into.
    Warn,
    /// And one line for each connection.
    #[default]
    Info,
    /// And one line for each message.
    Debug,
    /// And everything else.
    Trace,
}

/// What is served at a path and everything below it.
#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) struct Route {
    /// The longest path that fits a request is its route.
    #[schemars(extend("x-client-sees" = "not_found"))]
    pub(crate) path: RoutePath,
    /// What stands behind it.
    #[serde(flatten)]
    pub(crate) target: Target,
    /// The pages that may connect. Without any, only pages of the server's own origin.
    #[serde(default)]
    #[schemars(extend("x-client-sees" = "forbidden"))]
    pub(crate) origins: Vec<Origin>,
    /// How a connection is refused.
    #[serde(default)]
    pub(crate) refuse: Refuse,
    /// The close codes that clients know: `app`, `iana`, `policy`, `http`, `graphql-ws`, or a `[[dialect]]`.
    #[serde(default = "app", rename = "dialect")]
    pub(crate) dialect_name: String,
    /// The dialect of that name.
    #[serde(skip)]
    pub(crate) dialect: Dialect,
    /// Whether a token is asked for. Without this key it is required, but in front of an upstream; in development mode the
    /// server mints them.
    #[schemars(extend("x-client-sees" = "unauthorized"))]
    pub(crate) token: Option<TokenPolicy>,
    /// Whether a client that brings no token may do so in its first message, within `handshake_ms`.
    #[serde(default)]
    #[schemars(extend("x-client-sees" = "timeout"))]
    pub(crate) token_in_first_message: bool,
    /// Whether a new connection of an identity replaces the one before.
    #[serde(default)]
    #[schemars(extend("x-client-sees" = "replaced"))]
    pub(crate) one_per_identity: bool,
    /// Compression of messages (permessage-deflate), for clients that offer it. Without this table there is none.
    pub(crate) compression: Option<Compression>,
    /// The application's own check, asked over HTTP after all others. Without this table there is none.
    pub(crate) check: Option<Check>,
    /// How the upstream is treated, where there is one.
    #[serde(default)]
    pub(crate) relay: Relay,
    /// Limits of this route's own.
    #[serde(default)]
    #[schemars(transform = schema::inherited)]
    pub(crate) limits: SessionLimits,
}

fn app() -> String {
    Dialect::App.name().to_owned()
}

impl Route {
    fn to(path: &str, target: Target, limits: &SessionLimits) -> Result<Self, Complaint> {
        Ok(Self {
            path: path.parse()?,
            target,
            origins: Vec::new(),
            refuse: Refuse::default(),
            dialect_name: app(),
            dialect: Dialect::App,
            token: None,
            token_in_first_message: false,
            one_per_identity: false,
            compression: None,
            check: None,
            relay: Relay::default(),
            limits: limits.clone(),
        })
    }
}

/// What stands behind a route.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Target {
    /// Rooms of this server.
    Rooms(Rooms),
    /// The back end that connections are relayed to.
    Upstream(Upstream),
}

/// How an upstream is treated.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct Relay {
    /// More upstreams, each as good as the first: connections are shared out among them, and those that cannot be reached
    /// come last.
    pub(crate) more: Vec<Upstream>,
    /// From a client's request to the upstream's answer.
    #[schemars(range(min = 10, max = 60_000), extend("x-client-sees" = "gateway_timeout"))]
    pub(crate) answer_ms: u32,
    /// Bytes of a message of the upstream's. Nothing of it is kept, it is passed on as it comes.
    #[schemars(range(min = 1, max = 4_294_967_295_u32), extend("x-client-sees" = "bad_gateway"))]
    pub(crate) message_bytes: u32,
    /// Whether clients are told the upstream's own words about a 4xx: a body in JSON with `message`, `error`, `detail` or
    /// `reason`, of which 200 characters.
    pub(crate) reasons: bool,
}

impl Default for Relay {
    fn default() -> Self {
        Self { more: Vec::new(), answer_ms: 8_000, message_bytes: 64 * 1024 * 1024, reasons: false }
    }
}

/// How messages are compressed (RFC 7692).
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct Compression {
    /// Whether messages may refer to those before. It takes fewer bytes on the wire, up to 350 KiB of memory for each
    /// connection, and what goes to a room is compressed for each member.
    pub(crate) context_takeover: bool,
    /// How far back a message may refer, as a power of two in bytes.
    #[schemars(range(min = 9, max = 15))]
    pub(crate) window_bits: u8,
    /// 1 is fastest, 9 takes the fewest bytes.
    #[schemars(range(min = 1, max = 9))]
    pub(crate) level: u8,
    /// Bytes below which a message is sent as it is.
    #[schemars(range(max = 67_108_864))]
    pub(crate) min_bytes: u32,
}

impl Default for Compression {
    fn default() -> Self {
        Self { context_takeover: false, window_bits: 15, level: 6, min_bytes: 256 }
    }
}

/// Who is asked whether a connection may come in: a POST with `connection_id`, `path`, and where they are known `user` and
/// `address`, in JSON. Any 2xx lets it in; a 4xx or a 5xx refuses it, after the time that a `Retry-After` asks for.
#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) struct Check {
    /// Where to ask.
    #[schemars(extend("x-client-sees" = "bad_gateway"))]
    pub(crate) url: HttpUrl,
    /// How long to wait for the answer.
    #[serde(default = "check_timeout_ms")]
    #[schemars(range(min = 10, max = 60_000), extend("default" = 2_000, "x-client-sees" = "gateway_timeout"))]
    pub(crate) timeout_ms: u32,
    /// Questions at once.
    #[serde(default = "check_at_once")]
    #[schemars(range(min = 1, max = 1_000_000), extend("default" = 256, "x-client-sees" = "overloaded"))]
    pub(crate) at_once: u32,
}

fn check_timeout_ms() -> u32 {
    2_000
}

fn check_at_once() -> u32 {
    256
}

/// The rooms of a route.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct Rooms {
    /// The rooms that are open from the start.
    pub(crate) open: Vec<RoomName>,
    /// How the others come into being.
    #[schemars(extend("x-client-sees" = "not_found"))]
    pub(crate) create: Create,
    /// Whether members see who is there, comes and goes.
    pub(crate) presence: bool,
    /// What a room keeps for those who come back. The oldest goes first.
    pub(crate) history: History,
    /// Rooms that are open at once.
    #[schemars(range(min = 1, max = 10_000_000), extend("x-client-sees" = "overloaded"))]
    pub(crate) max_rooms: u32,
}

impl Default for Rooms {
    fn default() -> Self {
        Self {
            open: vec![RoomName::lobby()],
            create: Create::default(),
            presence: true,
            history: History::default(),
            max_rooms: 100_000,
        }
    }
}

/// How rooms come into being.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Create {
    /// By `open_room` of someone who may manage, or by the API.
    #[default]
    Manage,
    /// By the first to join.
    Join,
}

/// What a room keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct History {
    /// Messages of one room; 0 keeps none.
    #[schemars(range(max = 1_000_000), extend("x-client-sees" = "history_lost"))]
    pub(crate) entries: u32,
    /// Bytes of one room; 0 keeps none.
    #[schemars(range(max = 1_073_741_824), extend("x-client-sees" = "history_lost"))]
    pub(crate) bytes: u32,
}

impl Default for History {
    fn default() -> Self {
        Self { entries: 256, bytes: 1024 * 1024 }
    }
}

/// How a connection is refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Refuse {
    /// `close` for browsers and for clients that offer `saywhy.v1`, `http` for the others.
    #[default]
    Auto,
    /// Accept, say why, close: the only answer that a browser can read.
    Close,
    /// An HTTP status and a problem document.
    Http,
}

/// Whether a token is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum TokenPolicy {
    /// No one enters without a token.
    Required,
    /// A token is checked where there is one; without one a client is nobody in particular.
    Optional,
    /// Tokens are not looked at.
    None,
}

/// A row of your own in the catalogue.
#[derive(Debug, Deserialize, JsonSchema)]
#[expect(dead_code, reason = "the schema is made from the fields; rules.rs reads the file, where the places are")]
pub(crate) struct ErrorRow {
    /// What people search for: snake_case, at most 64 characters.
    pub(crate) name: String,
    /// `data.code` of the message, and the close code in the dialect `app`.
    #[schemars(range(min = 4_100, max = 4_899))]
    pub(crate) code: u16,
    /// The HTTP status that says the same.
    #[schemars(range(min = 400, max = 599))]
    pub(crate) http: u16,
    /// What a client should do.
    #[schemars(extend("enum" = ["never", "now", "backoff", "after", "reauthenticate"]))]
    pub(crate) retry: String,
    /// With `retry = "after"`: how long to wait.
    #[schemars(range(max = 86_400_000), extend("default" = 1_000))]
    pub(crate) retry_after_ms: Option<u32>,
    /// With `retry = "after"`: how much to add at most, at random.
    #[schemars(range(max = 86_400_000), extend("default" = 1_000))]
    pub(crate) spread_ms: Option<u32>,
    /// The public words: at most 123 bytes, so that they fit a Close frame.
    #[schemars(extend("format" = "public-text"))]
    pub(crate) message: String,
}

/// A dialect of your own.
#[derive(Debug, Deserialize, JsonSchema)]
#[expect(dead_code, reason = "the schema is made from the fields; rules.rs reads the file, where the places are")]
pub(crate) struct DialectRow {
    /// What `dialect` of a route calls it.
    #[schemars(extend("format" = "dialect-name"))]
    pub(crate) name: String,
    /// The dialect that has the codes of all other rows.
    #[schemars(extend("enum" = Dialect::NAMES))]
    pub(crate) like: String,
    /// Whether the error message is sent before the Close. Without this key it is as `like` has it.
    pub(crate) message: Option<bool>,
    /// Rows of the catalogue by name, and their close codes.
    #[serde(default)]
    pub(crate) codes: BTreeMap<String, u16>,
}
