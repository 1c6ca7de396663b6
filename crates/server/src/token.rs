//! Tokens: JSON Web Tokens (RFC 7519), checked before anything is spent on their bearer.

mod jwks;
mod key;

pub use jwks::{Jwks, JwksSettings};
pub use key::{InvalidKey, TokenAlgorithm, TokenKey, TokenSigner};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Validation, decode};
use saywhy_codes::catalogue::{OVERLOADED, UNAUTHORIZED};
use saywhy_codes::{Cause, ErrorMessage};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;
use serde_json::value::RawValue;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The longest token that is looked at, in bytes.
pub const TOKEN_BYTES: usize = 16 * 1024;

/// A token without `kid` is tried with so many keys at most: each costs a signature.
const TRIES: usize = 4;
/// Clocks of issuers may be so far ahead, in seconds.
const AHEAD_S: u64 = 5;
/// The longest `jti` by which a token can be revoked, in bytes.
pub(crate) const TOKEN_ID_BYTES: usize = 256;

/// The keys that tokens are checked with, and which tokens they are good for.
pub struct TokenKeys {
    keys: Vec<TokenKey>,
    published: Option<Arc<Jwks>>,
    validation: Validation,
}

/// A token that is good: signed with one of the keys, in its time, for us.
#[derive(Clone, Debug)]
pub struct Verified<C> {
    /// What the application reads of it.
    pub claims: C,
    /// What everyone reads of it.
    pub token: Registered,
}

/// The registered claims of a token (RFC 7519 §4.1) that matter here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registered {
    /// `sub`: whose it is.
    pub subject: String,
    /// `exp`: when it expires, in seconds since 1970.
    pub expires: u64,
    /// `iat`: when it was issued, in seconds since 1970.
    pub issued: Option<u64>,
    /// `jti`: by which it can be revoked. One that is no text, or longer than 256 bytes, is none.
    pub id: Option<Box<str>>,
}

impl TokenKeys {
    /// No keys, so no token is good yet.
    pub fn none() -> Self {
        let mut validation = Validation::default();
        // A token that has just expired would only be let in to be ended at once: what is forgiven is taken back. One
        // that is not valid yet may be so for a clock that is a little behind.
        (validation.leeway, validation.reject_tokens_expiring_in_less_than) = (AHEAD_S, AHEAD_S);
        validation.validate_aud = false;
        validation.validate_nbf = true;
        validation.set_required_spec_claims(&["exp", "sub"]);
        Self { keys: Vec::new(), published: None, validation }
    }

    /// HS256 with a shared secret (RFC 7518 §3.2). No other algorithm is accepted, whatever a token says of itself.
    pub fn hs256(secret: &[u8]) -> Self {
        Self::none().key(TokenKey::hs256(secret))
    }

    /// Accepts what was signed with this key, too.
    #[must_use]
    pub fn key(mut self, key: TokenKey) -> Self {
        self.keys.push(key);
        self
    }

    /// Accepts what was signed with a key that is published there, too.
    #[must_use]
    pub fn published(mut self, keys: Arc<Jwks>) -> Self {
        self.published = Some(keys);
        self
    }

    /// Asks for this `iss`.
    #[must_use]
    pub fn issuer(mut self, issuer: &str) -> Self {
        self.validation.set_issuer(&[issuer]);
        self.validation.required_spec_claims.insert("iss".to_owned());
        self
    }

    /// Asks for this `aud`.
    #[must_use]
    pub fn audience(mut self, audience: &str) -> Self {
        self.validation.set_audience(&[audience]);
        self.validation.validate_aud = true;
        self.validation.required_spec_claims.insert("aud".to_owned());
        self
    }

    /// Checks a token. Waits only where keys have to be fetched for it.
    ///
    /// # Errors
    /// [`TokenProblem`] says what a client may know of it; the rest is for the log.
    pub async fn verify<C: DeserializeOwned>(&self, token: Option<&str>) -> Result<Verified<C>, TokenProblem> {
        let token = token.filter(|token| !token.is_empty()).ok_or(TokenProblem::Missing)?;
        let head = Head::read(token)?;
        let Ok(algorithm) = head.alg.parse::<TokenAlgorithm>() else { return Err(TokenFault::algorithm(&head).into()) };
        let id = head.kid.as_deref();
        let own = self.keys.iter().filter(|key| key.fits(algorithm, id)).take(TRIES);
        if let Some(verdict) = self.decide(token, algorithm, own) {
            return verdict;
        }
        let published = match &self.published {
            Some(published) => published.find(algorithm, id, TRIES).await?,
            None => Vec::new(),
        };
        if let Some(verdict) = self.decide(token, algorithm, published.iter()) {
            return verdict;
        }
        let own = self.keys.iter().any(|key| key.fits(algorithm, id));
        let known = self.keys.iter().any(|key| key.fits(algorithm, None));
        Err(match (own || !published.is_empty(), known || self.published.is_some()) {
            (true, _) => TokenFault::Signature.into(),
            (false, true) if id.is_some() => TokenFault::UnknownKey { id: head.kid.as_deref().map(short) }.into(),
            (false, _) => TokenFault::algorithm(&head).into(),
        })
    }

    /// What the first of the keys says that the token was signed with, if it was with any.
    fn decide<'k, C: DeserializeOwned>(
        &self,
        token: &str,
        algorithm: TokenAlgorithm,
        keys: impl Iterator<Item = &'k TokenKey>,
    ) -> Option<Result<Verified<C>, TokenProblem>> {
        let mut validation = self.validation.clone();
        validation.algorithms = vec![algorithm.wire()];
        for key in keys {
            return Some(match decode::<Box<RawValue>>(token, &key.decoding, &validation) {
                Ok(token) => verified(&token.claims),
                Err(error) if *error.kind() == ErrorKind::InvalidSignature => continue,
                Err(error) => Err(self.problem(token, key, error)),
            });
        }
        None
    }

    /// What is wrong with a token. Its signature is right, if its claims are what is wrong.
    fn problem(&self, token: &str, key: &TokenKey, error: jsonwebtoken::errors::Error) -> TokenProblem {
        // The same without a look at the claims, to tell of them.
        let mut lax = Validation::new(key.algorithm.wire());
        (lax.validate_exp, lax.validate_aud) = (false, false);
        lax.required_spec_claims.clear();
        let claims = decode::<Value>(token, &key.decoding, &lax).map_or(Value::Null, |token| token.claims);
        let wanted = |set: Option<&std::collections::HashSet<String>>| set.and_then(|set| set.iter().next().cloned());
        let subject = claims["sub"].as_str().map(str::to_owned);
        let fault = match error.into_kind() {
            ErrorKind::ExpiredSignature => {
                return TokenProblem::Expired { at: seconds(&claims["exp"]).unwrap_or_default(), subject };
            }
            ErrorKind::ImmatureSignature => TokenFault::NotYet { from: seconds(&claims["nbf"]).unwrap_or_default() },
            ErrorKind::InvalidIssuer => {
                TokenFault::Issuer { found: claims["iss"].clone(), wanted: wanted(self.validation.iss.as_ref()) }
            }
            ErrorKind::InvalidAudience => {
                TokenFault::Audience { found: claims["aud"].clone(), wanted: wanted(self.validation.aud.as_ref()) }
            }
            ErrorKind::MissingRequiredClaim(claim) | ErrorKind::InvalidClaimFormat(claim) => TokenFault::Claim(claim),
            ErrorKind::Base64(_) => TokenFault::Malformed("its signature is not base64url"),
            ErrorKind::Json(json) => TokenFault::Claims { line: json.line(), column: json.column() },
            other => TokenFault::Other(Cause::new(jsonwebtoken::errors::new_error(other))),
        };
        fault.into()
    }
}

fn verified<C: DeserializeOwned>(claims: &RawValue) -> Result<Verified<C>, TokenProblem> {
    let unreadable = |error: serde_json::Error| TokenFault::Claims { line: error.line(), column: error.column() };
    let all: RegisteredClaims = serde_json::from_str(claims.get()).map_err(unreadable)?;
    let expires = seconds(&all.exp).ok_or_else(|| TokenFault::Claim("exp".to_owned()))?;
    let id = all.jti.as_str().filter(|id| (1..=TOKEN_ID_BYTES).contains(&id.len())).map(Into::into);
    let token = Registered { subject: all.sub, expires, issued: seconds(&all.iat), id };
    Ok(Verified { claims: serde_json::from_str(claims.get()).map_err(unreadable)?, token })
}

#[derive(Deserialize)]
struct RegisteredClaims {
    sub: String,
    exp: Value,
    #[serde(default)]
    iat: Value,
    #[serde(default)]
    jti: Value,
}

/// A NumericDate, which may have a fraction (RFC 7519 §2).
fn seconds(date: &Value) -> Option<u64> {
    date.as_u64().or_else(|| date.as_f64().filter(|date| *date >= 0.0).map(|date| date as u64))
}

impl fmt::Debug for TokenKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenKeys(…)")
    }
}

/// The header of a token (RFC 7515 §4.1), as far as it decides who looks at the rest.
#[derive(Deserialize)]
struct Head {
    alg: String,
    kid: Option<String>,
    /// What a reader has to understand, and we do not.
    crit: Option<IgnoredAny>,
}

impl Head {
    fn read(token: &str) -> Result<Self, TokenFault> {
        let malformed = |what| Err(TokenFault::Malformed(what));
        if token.len() > TOKEN_BYTES {
            return malformed("it is longer than 16 KiB");
        }
        let parts: Vec<_> = token.splitn(4, '.').collect();
        let [header, _, signature] = parts[..] else { return malformed("it has not three parts with dots between") };
        let Ok(header) = URL_SAFE_NO_PAD.decode(header) else { return malformed("its header is not base64url") };
        let Ok(head) = serde_json::from_slice::<Self>(&header) else {
            return malformed("its header is not an object with `alg`");
        };
        if head.crit.is_some() {
            return malformed("its header has `crit`, which asks for what is not known here");
        }
        if signature.is_empty() && head.alg != "none" {
            return malformed("it has no signature");
        }
        Ok(head)
    }
}

/// Why a token does not let its bearer in.
#[derive(Debug)]
pub enum TokenProblem {
    /// There is none.
    Missing,
    /// It expired.
    Expired {
        /// In seconds since 1970.
        at: u64,
        /// Whose it was.
        subject: Option<String>,
    },
    /// It was revoked, or its identity was.
    Revoked {
        /// Whose it was.
        subject: Option<String>,
    },
    /// It is malformed, of another issuer, or signed with another key. Which of them is for the log only.
    Invalid(TokenFault),
    /// The keys to check it with cannot be had at present.
    Unavailable {
        /// When to try again.
        retry: Duration,
        /// For the log.
        cause: Cause,
    },
}

/// What is wrong with a token that is not valid. For its maker and for the log; a peer is not told.
#[derive(Debug)]
#[non_exhaustive]
pub enum TokenFault {
    /// It is no token.
    Malformed(&'static str),
    /// It was signed in a way for which there is no key.
    Algorithm {
        /// What it says of itself.
        found: String,
    },
    /// It names a key that is not there.
    UnknownKey {
        /// `kid`.
        id: Option<String>,
    },
    /// It was signed with another key, or changed afterwards.
    Signature,
    /// It is not valid yet.
    NotYet {
        /// `nbf`, in seconds since 1970.
        from: u64,
    },
    /// It is of another issuer.
    Issuer {
        /// `iss`.
        found: Value,
        /// What it has to be.
        wanted: Option<String>,
    },
    /// It is for another audience.
    Audience {
        /// `aud`.
        found: Value,
        /// What it has to contain.
        wanted: Option<String>,
    },
    /// A claim is missing, or no date where it should be one.
    Claim(String),
    /// Its claims are not those that are read here.
    Claims {
        /// Where in their JSON.
        line: usize,
        /// Where in their JSON.
        column: usize,
    },
    /// What only the library knows.
    Other(Cause),
}

impl TokenFault {
    fn algorithm(head: &Head) -> Self {
        Self::Algorithm { found: short(&head.alg) }
    }
}

/// What a token may say of its signature (RFC 7518 §3.1, RFC 8037, RFC 8812).
const ALGORITHMS: [&str; 15] = [
    "none", "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512",
    "ES256K", "EdDSA",
];

/// A token's own words, no longer than a name is.
fn short(words: &str) -> String {
    words.chars().take(64).collect()
}

/// For the log, and so without a word of the token: its algorithm only where that is a name that there is.
impl fmt::Display for TokenFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(what) => f.write_str(what),
            Self::Algorithm { found } => match ALGORITHMS.iter().find(|name| found == *name) {
                Some(name) => write!(f, "there is no key for its algorithm {name}"),
                None => f.write_str("there is no such algorithm as it says"),
            },
            Self::UnknownKey { .. } => f.write_str("it names a key that is not there"),
            Self::Signature => f.write_str("it was signed with another key, or changed afterwards"),
            Self::NotYet { from } => write!(f, "it is not valid before {from}"),
            Self::Issuer { .. } => f.write_str("it is of another issuer"),
            Self::Audience { .. } => f.write_str("it is for another audience"),
            Self::Claim(claim) => write!(f, "its claim {claim:?} is missing or of the wrong kind"),
            Self::Claims { line, column } => {
                write!(f, "its claims are not those of a token, at line {line} column {column}")
            }
            Self::Other(_) => f.write_str("it cannot be checked"),
        }
    }
}

impl std::error::Error for TokenFault {}

impl From<TokenFault> for TokenProblem {
    fn from(fault: TokenFault) -> Self {
        Self::Invalid(fault)
    }
}

impl From<jwks::Unavailable> for TokenProblem {
    fn from(jwks::Unavailable { retry, cause }: jwks::Unavailable) -> Self {
        Self::Unavailable { retry, cause }
    }
}

impl TokenProblem {
    /// Whether it speaks against the one who brought it.
    pub(crate) fn is_failure(&self) -> bool {
        match self {
            Self::Missing | Self::Unavailable { .. } => false,
            Self::Expired { .. } | Self::Revoked { .. } | Self::Invalid(_) => true,
        }
    }

    /// Whose token it is, where its signature says so.
    pub(crate) fn subject(&self) -> Option<&str> {
        match self {
            Self::Expired { subject, .. } | Self::Revoked { subject } => subject.as_deref(),
            Self::Missing | Self::Invalid(_) | Self::Unavailable { .. } => None,
        }
    }

    /// For the client, and for the log.
    pub fn explain(self) -> (ErrorMessage, Option<Cause>) {
        let (words, reason, cause) = match self {
            Self::Missing => ("A token is needed: sign in", "token_missing", None),
            Self::Expired { .. } => ("Your token has expired: sign in again", "token_expired", None),
            Self::Revoked { .. } => ("Your token was revoked: sign in again", "token_revoked", None),
            Self::Invalid(TokenFault::Other(cause)) => {
                ("Your token is not valid: sign in again", "token_invalid", Some(cause))
            }
            Self::Invalid(fault) => {
                ("Your token is not valid: sign in again", "token_invalid", Some(Cause::new(fault)))
            }
            Self::Unavailable { retry, cause } => {
                let error = OVERLOADED.say("Tokens cannot be checked at the moment: try again later");
                return (error.retry_after(retry, retry / 2).detail("reason", "keys_unavailable"), Some(cause));
            }
        };
        (UNAUTHORIZED.say(words).detail("reason", reason), cause)
    }
}

impl From<TokenProblem> for crate::Refusal {
    fn from(problem: TokenProblem) -> Self {
        let (error, cause) = problem.explain();
        let refusal = Self::new(error);
        match cause {
            Some(cause) => refusal.because(cause),
            None => refusal,
        }
    }
}

impl From<TokenProblem> for crate::Failure {
    /// Whoever brings a token that is not good does not stay; what is our fault is no reason to go.
    fn from(problem: TokenProblem) -> Self {
        let ends = !matches!(problem, TokenProblem::Unavailable { .. });
        let (error, cause) = problem.explain();
        if ends { Self::Close { error, cause } } else { Self::Reply { error, cause } }
    }
}
