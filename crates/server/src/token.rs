//! Tokens: JSON Web Tokens (RFC 7519), checked before anything is spent on their bearer.

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use saywhy_codes::catalogue::UNAUTHORIZED;
use saywhy_codes::{Cause, ErrorMessage};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;

/// The keys that tokens are checked with, and which tokens they are good for.
pub struct TokenKeys {
    decoding: DecodingKey,
    encoding: EncodingKey,
    validation: Validation,
}

impl TokenKeys {
    /// HS256 with a shared secret (RFC 7518 §3.2). No other algorithm is accepted, whatever a token says of itself.
    pub fn hs256(secret: &[u8]) -> Self {
        let mut validation = Validation::new(Algorithm::HS256);
        // A token that has just expired would only be let in to be ended at once.
        validation.leeway = 0;
        validation.validate_aud = false;
        validation.validate_nbf = true;
        validation.set_required_spec_claims(&["exp", "sub"]);
        Self { decoding: DecodingKey::from_secret(secret), encoding: EncodingKey::from_secret(secret), validation }
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

    /// The claims of a token.
    ///
    /// # Errors
    /// [`TokenProblem`] says what a client may know of it; the rest is for the log.
    pub fn verify<C: DeserializeOwned>(&self, token: Option<&str>) -> Result<C, TokenProblem> {
        let token = token.filter(|token| !token.is_empty()).ok_or(TokenProblem::Missing)?;
        match decode(token, &self.decoding, &self.validation) {
            Ok(token) => Ok(token.claims),
            Err(error) if matches!(error.kind(), ErrorKind::ExpiredSignature) => Err(TokenProblem::Expired),
            Err(error) => Err(TokenProblem::Invalid(cause(error))),
        }
    }

    /// A token with these claims.
    ///
    /// # Errors
    /// When the claims cannot be serialised.
    pub fn sign<C: Serialize>(&self, claims: &C) -> Result<String, Cause> {
        encode(&Header::new(Algorithm::HS256), claims, &self.encoding).map_err(Cause::new)
    }
}

/// Why a token is not valid, without a word of it: errors of JSON quote what they did not expect.
fn cause(error: jsonwebtoken::errors::Error) -> Cause {
    match error.kind() {
        ErrorKind::Json(json) => {
            let (line, column) = (json.line(), json.column());
            Cause::from(format!("its header or its claims are not those of a token, at line {line} column {column}"))
        }
        _ => Cause::new(error),
    }
}

impl fmt::Debug for TokenKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenKeys(…)")
    }
}

/// Why a token does not let its bearer in.
#[derive(Debug)]
pub enum TokenProblem {
    /// There is none.
    Missing,
    /// It expired.
    Expired,
    /// It is malformed, of another issuer, or signed with another key. Which of them is for the log only.
    Invalid(Cause),
}

impl TokenProblem {
    /// For the client, and for the log.
    pub fn explain(self) -> (ErrorMessage, Option<Cause>) {
        let (words, reason, cause) = match self {
            Self::Missing => ("A token is needed: sign in", "token_missing", None),
            Self::Expired => ("Your token has expired: sign in again", "token_expired", None),
            Self::Invalid(cause) => ("Your token is not valid: sign in again", "token_invalid", Some(cause)),
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn reason(keys: &TokenKeys, token: Option<&str>) -> &'static str {
        match keys.verify::<Value>(token) {
            Ok(_) => "ok",
            Err(TokenProblem::Missing) => "missing",
            Err(TokenProblem::Expired) => "expired",
            Err(TokenProblem::Invalid(_)) => "invalid",
        }
    }

    #[test]
    fn only_what_was_signed_here_and_is_still_good_passes() {
        let keys = TokenKeys::hs256(b"0123456789abcdef0123456789abcdef");
        let sign = |claims: Value| keys.sign(&claims).unwrap();
        let good = sign(json!({ "sub": "alice", "exp": 4_000_000_000_u64 }));
        assert_eq!(reason(&keys, Some(&good)), "ok");
        assert_eq!(reason(&keys, None), "missing");
        assert_eq!(reason(&keys, Some("")), "missing");
        assert_eq!(reason(&keys, Some(&sign(json!({ "sub": "alice", "exp": 1_000 })))), "expired");
        assert_eq!(reason(&keys, Some(&sign(json!({ "exp": 4_000_000_000_u64 })))), "invalid", "nobody's");
        assert_eq!(reason(&keys, Some(&sign(json!({ "sub": "alice" })))), "invalid", "for ever");
        assert_eq!(reason(&keys, Some("garbage")), "invalid");
        let (head, rest) = good.split_once('.').unwrap();
        assert_eq!(reason(&keys, Some(&format!("{head}x.{rest}"))), "invalid");
        // {"alg":"none"}
        let none = format!("eyJhbGciOiJub25lIn0.{}.", rest.split_once('.').unwrap().0);
        assert_eq!(reason(&keys, Some(&none)), "invalid");
        let other = TokenKeys::hs256(b"another secret of at least 32 bytes");
        assert_eq!(reason(&other, Some(&good)), "invalid");
        let strict = TokenKeys::hs256(b"0123456789abcdef0123456789abcdef").issuer("us").audience("ws");
        assert_eq!(reason(&strict, Some(&good)), "invalid");
        let addressed = sign(json!({ "sub": "alice", "exp": 4_000_000_000_u64, "iss": "us", "aud": ["ws"] }));
        assert_eq!(reason(&strict, Some(&addressed)), "ok");
        assert_eq!(format!("{keys:?}"), "TokenKeys(…)");
    }
}
