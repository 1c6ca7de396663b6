//! Keys: each is good for one algorithm, whatever a token says of itself.

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, encode};
use saywhy_codes::Cause;
use serde::Serialize;
use std::fmt;
use std::str::FromStr;

/// How a token is signed (RFC 7518 §3.1, RFC 8037 §3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TokenAlgorithm {
    /// HMAC with SHA-256: who checks can sign too.
    Hs256,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
}

impl TokenAlgorithm {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Hs256, Self::Rs256, Self::Es256, Self::EdDsa];
    /// Those with a public key, which can come from elsewhere.
    pub const PUBLIC: [Self; 3] = [Self::Rs256, Self::Es256, Self::EdDsa];

    /// Its name in a token.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
        }
    }

    pub(super) fn wire(self) -> Algorithm {
        match self {
            Self::Hs256 => Algorithm::HS256,
            Self::Rs256 => Algorithm::RS256,
            Self::Es256 => Algorithm::ES256,
            Self::EdDsa => Algorithm::EdDSA,
        }
    }
}

impl fmt::Display for TokenAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for TokenAlgorithm {
    type Err = InvalidKey;
    fn from_str(name: &str) -> Result<Self, InvalidKey> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name).ok_or(InvalidKey::Algorithm)
    }
}

/// A key that tokens are checked with, by one algorithm.
#[derive(Clone)]
pub struct TokenKey {
    pub(super) algorithm: TokenAlgorithm,
    pub(super) decoding: DecodingKey,
    id: Option<Box<str>>,
}

impl TokenKey {
    /// A shared secret for HS256.
    pub fn hs256(secret: &[u8]) -> Self {
        Self { algorithm: TokenAlgorithm::Hs256, decoding: DecodingKey::from_secret(secret), id: None }
    }

    /// The secret of HS256, or the public key of any other algorithm in PEM.
    ///
    /// # Errors
    /// [`InvalidKey`] when it is no key of that algorithm. A PEM is no secret for HS256: it is public.
    pub fn read(algorithm: TokenAlgorithm, text: &str) -> Result<Self, InvalidKey> {
        let pem = text.trim_start().starts_with("-----BEGIN");
        if algorithm == TokenAlgorithm::Hs256 {
            return if pem { Err(InvalidKey::PublicSecret) } else { Ok(Self::hs256(text.as_bytes())) };
        }
        if !pem {
            return Err(InvalidKey::NoPem);
        }
        if text.contains("PRIVATE KEY") {
            return Err(InvalidKey::Private);
        }
        let bytes = text.as_bytes();
        let decoding = match algorithm {
            TokenAlgorithm::Hs256 => Ok(DecodingKey::from_secret(bytes)),
            TokenAlgorithm::Rs256 => DecodingKey::from_rsa_pem(bytes),
            TokenAlgorithm::Es256 => DecodingKey::from_ec_pem(bytes),
            TokenAlgorithm::EdDsa => DecodingKey::from_ed_pem(bytes),
        };
        let decoding = decoding.map_err(|_| InvalidKey::OtherKind(algorithm))?;
        // What a PEM holds is looked at here, not at the first token.
        let jwk = Jwk::from_decoding_key(&decoding, None).map_err(|_| InvalidKey::OtherKind(algorithm))?;
        judge(algorithm, &jwk)?;
        Ok(Self { algorithm, decoding, id: None })
    }

    /// A key of a set (RFC 7517), when it is one for signatures, of an algorithm among `allowed`. Never a secret: whoever
    /// can read the set could sign with it.
    pub(super) fn of_jwk(jwk: &Jwk, allowed: &[TokenAlgorithm]) -> Option<Self> {
        let common = &jwk.common;
        let algorithm = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => TokenAlgorithm::Rs256,
            AlgorithmParameters::EllipticCurve(_) => TokenAlgorithm::Es256,
            AlgorithmParameters::OctetKeyPair(_) => TokenAlgorithm::EdDsa,
            _ => return None,
        };
        let named = common.key_algorithm.is_none_or(|named| named == algorithm.wire().into());
        let signs = common.public_key_use.as_ref().is_none_or(|one| *one == PublicKeyUse::Signature);
        let verifies = common.key_operations.as_ref().is_none_or(|all| all.contains(&KeyOperations::Verify));
        if !allowed.contains(&algorithm) || !named || !signs || !verifies || judge(algorithm, jwk).is_err() {
            return None;
        }
        let decoding = DecodingKey::from_jwk(jwk).ok()?;
        Some(Self { algorithm, decoding, id: common.key_id.as_deref().map(Into::into) })
    }

    /// Is only for tokens that name this `kid`, or none.
    #[must_use]
    pub fn id(mut self, id: &str) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Whether a token of this algorithm and `kid` may have been signed with it.
    pub(super) fn fits(&self, algorithm: TokenAlgorithm, id: Option<&str>) -> bool {
        self.algorithm == algorithm && (id.is_none() || self.id.is_none() || self.id.as_deref() == id)
    }
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenKey").field("algorithm", &self.algorithm).field("id", &self.id).finish_non_exhaustive()
    }
}

/// Bytes of the shortest RSA modulus: 2048 bits (RFC 7518 §3.3).
const RSA_BYTES: usize = 256;

fn judge(algorithm: TokenAlgorithm, jwk: &Jwk) -> Result<(), InvalidKey> {
    match (algorithm, &jwk.algorithm) {
        (TokenAlgorithm::Rs256, AlgorithmParameters::RSA(rsa)) => {
            // Base64: four characters for three bytes.
            if rsa.n.len() * 3 / 4 < RSA_BYTES { Err(InvalidKey::ShortRsa) } else { Ok(()) }
        }
        (TokenAlgorithm::Es256, AlgorithmParameters::EllipticCurve(ec)) if ec.curve == EllipticCurve::P256 => Ok(()),
        (TokenAlgorithm::EdDsa, AlgorithmParameters::OctetKeyPair(okp)) if okp.curve == EllipticCurve::Ed25519 => {
            Ok(())
        }
        _ => Err(InvalidKey::OtherKind(algorithm)),
    }
}

/// Why something is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidKey {
    /// There is no such algorithm here.
    Algorithm,
    /// A public key, which everyone may know, in the place of a secret.
    PublicSecret,
    /// It is not in PEM.
    NoPem,
    /// It is the private key, which belongs to whoever signs.
    Private,
    /// It is no private key, which is what signs.
    NotPrivate,
    /// It is a key, perhaps, but none of this algorithm.
    OtherKind(TokenAlgorithm),
    /// Fewer than 2048 bits.
    ShortRsa,
}

impl fmt::Display for InvalidKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Algorithm => f.write_str("the algorithms are HS256, RS256, ES256 and EdDSA"),
            Self::PublicSecret => f.write_str("this is a key in PEM, which is no secret for HS256"),
            Self::NoPem => f.write_str("this is not a key in PEM: `-----BEGIN PUBLIC KEY-----`"),
            Self::Private => f.write_str("this is the private key, which only whoever signs may have"),
            Self::NotPrivate => f.write_str("this is no private key in PEM: `-----BEGIN PRIVATE KEY-----`"),
            Self::OtherKind(algorithm) => write!(f, "this is no public key for {algorithm}"),
            Self::ShortRsa => f.write_str("this RSA key has fewer than 2048 bits"),
        }
    }
}

impl std::error::Error for InvalidKey {}

/// What tokens are signed with.
pub struct TokenSigner {
    header: Header,
    encoding: EncodingKey,
}

impl TokenSigner {
    /// Signs with a shared secret.
    pub fn hs256(secret: &[u8]) -> Self {
        Self { header: Header::new(Algorithm::HS256), encoding: EncodingKey::from_secret(secret) }
    }

    /// Signs with the secret of HS256, or the private key of any other algorithm in PEM (PKCS #8).
    ///
    /// # Errors
    /// [`InvalidKey`] when it is no key of that algorithm.
    pub fn read(algorithm: TokenAlgorithm, text: &str) -> Result<Self, InvalidKey> {
        let bytes = text.as_bytes();
        let encoding = match algorithm {
            TokenAlgorithm::Hs256 if text.trim_start().starts_with("-----BEGIN") => {
                return Err(InvalidKey::PublicSecret);
            }
            TokenAlgorithm::Hs256 => Ok(EncodingKey::from_secret(bytes)),
            // Some public keys are only found out when they are to sign.
            _ if !text.contains("PRIVATE KEY") => return Err(InvalidKey::NotPrivate),
            TokenAlgorithm::Rs256 => EncodingKey::from_rsa_pem(bytes),
            TokenAlgorithm::Es256 => EncodingKey::from_ec_pem(bytes),
            TokenAlgorithm::EdDsa => EncodingKey::from_ed_pem(bytes),
        };
        let encoding = encoding.map_err(|_| InvalidKey::OtherKind(algorithm))?;
        Ok(Self { header: Header::new(algorithm.wire()), encoding })
    }

    /// Names the key in its tokens.
    #[must_use]
    pub fn id(mut self, id: &str) -> Self {
        self.header.kid = Some(id.to_owned());
        self
    }

    /// A token with these claims.
    ///
    /// # Errors
    /// When the claims cannot be serialised, or the key cannot sign.
    pub fn sign<C: Serialize>(&self, claims: &C) -> Result<String, Cause> {
        encode(&self.header, claims, &self.encoding).map_err(Cause::new)
    }
}

impl fmt::Debug for TokenSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenSigner").field("algorithm", &self.header.alg).finish_non_exhaustive()
    }
}
