//! The keys of a configuration, as tokens are checked with them.

use crate::config;
use saywhy::{Jwks, JwksSettings, TokenKey, TokenKeys};
use std::io;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

/// What to do when there are no certificates to trust.
pub(crate) const NO_CERTIFICATES: (&str, &str) = (
    "failed to find certificates to trust, for token.jwks_url",
    "install the package ca-certificates, or let SSL_CERT_FILE name a file with certificates to trust",
);

/// The keys that tokens are checked with at present. Whoever holds it checks with those of the last configuration that was
/// read, sessions that began before it too.
#[derive(Clone)]
pub(crate) struct Keyring(Arc<RwLock<Keys>>);

pub(crate) struct Keys {
    all: Arc<TokenKeys>,
    published: Option<Arc<Jwks>>,
}

impl Keyring {
    /// The keys of `[token]`, or else one that a token of development mode is signed with.
    ///
    /// # Errors
    /// As [`of`].
    pub(crate) fn new(token: Option<&config::TokenKeys>, development: &str) -> io::Result<Self> {
        let (all, published) = match token {
            Some(token) => of(token, None)?,
            None => (TokenKeys::hs256(development.as_bytes()), None),
        };
        Ok(Self(Arc::new(RwLock::new(Keys { all: Arc::new(all), published }))))
    }

    /// Looks for published keys now: whether they can be had is in the log before a token needs them.
    pub(crate) fn begin(&self) {
        if let Some(published) = &self.0.read().unwrap_or_else(PoisonError::into_inner).published {
            published.begin();
        }
    }

    pub(crate) fn current(&self) -> Arc<TokenKeys> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner).all)
    }

    /// The keys of `[token]` as it is now, to be [`set`](Self::set) when everything else is right, too.
    ///
    /// # Errors
    /// As [`of`].
    pub(crate) fn next(&self, token: &config::TokenKeys) -> io::Result<Keys> {
        let before = self.0.read().unwrap_or_else(PoisonError::into_inner).published.clone();
        let (all, published) = of(token, before)?;
        Ok(Keys { all: Arc::new(all), published })
    }

    pub(crate) fn set(&self, keys: Keys) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = keys;
        self.begin();
    }
}

/// All keys of `[token]`, and those that are published, which are looked for when a token needs them: `before` are those
/// that are there already, if they are published in the same place.
///
/// # Errors
/// When this machine has no certificates, and keys are published under `https`.
pub(crate) fn of(token: &config::TokenKeys, before: Option<Arc<Jwks>>) -> io::Result<(TokenKeys, Option<Arc<Jwks>>)> {
    let mut keys = TokenKeys::none();
    if let Some(secret) = &token.hs256_secret {
        keys = keys.key(TokenKey::hs256(secret.expose().as_bytes()));
    }
    for key in token.keys.iter().filter_map(|key| key.read.clone()) {
        keys = keys.key(key);
    }
    let published = published(token, before)?;
    if let Some(published) = &published {
        keys = keys.published(Arc::clone(published));
    }
    Ok((asking(keys, token), published))
}

/// The same keys for tokens of the issuer and audience of `[token]` only.
pub(crate) fn asking(mut keys: TokenKeys, token: &config::TokenKeys) -> TokenKeys {
    if let Some(issuer) = &token.issuer {
        keys = keys.issuer(issuer);
    }
    if let Some(audience) = &token.audience {
        keys = keys.audience(audience);
    }
    keys
}

fn published(token: &config::TokenKeys, before: Option<Arc<Jwks>>) -> io::Result<Option<Arc<Jwks>>> {
    // The configuration was checked: it is an address.
    let Some(url) = token.jwks_url.as_ref().and_then(|url| url.parse().ok()) else { return Ok(None) };
    let ms = |ms: u32| Duration::from_millis(ms.into());
    let settings = JwksSettings {
        algorithms: token.jwks_algorithms.iter().map(|algorithm| (*algorithm).into()).collect(),
        refresh: ms(token.jwks_refresh_ms),
        pause: ms(token.jwks_pause_ms),
        timeout: ms(token.jwks_timeout_ms),
        ..JwksSettings::new(url)
    };
    if let Some(before) = before.filter(|before| *before.settings() == settings) {
        return Ok(Some(before));
    }
    Ok(Some(Arc::new(Jwks::new(settings)?)))
}
