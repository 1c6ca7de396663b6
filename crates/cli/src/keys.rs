//! The keys of a configuration, as tokens are checked with them.

use crate::config;
use saywhy::{Jwks, JwksSettings, TokenKey, TokenKeys};
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// What to do when there are no certificates to trust.
pub(crate) const NO_CERTIFICATES: (&str, &str) = (
    "failed to find certificates to trust, for token.jwks_url",
    "install the package ca-certificates, or let SSL_CERT_FILE name a file with certificates to trust",
);

/// All keys of `[token]`, and those that are published, which are looked for when a token needs them.
///
/// # Errors
/// When this machine has no certificates, and keys are published under `https`.
pub(crate) fn of(token: &config::TokenKeys) -> io::Result<(TokenKeys, Option<Arc<Jwks>>)> {
    let mut keys = TokenKeys::none();
    if let Some(secret) = &token.hs256_secret {
        keys = keys.key(TokenKey::hs256(secret.expose().as_bytes()));
    }
    for key in token.keys.iter().filter_map(|key| key.read.clone()) {
        keys = keys.key(key);
    }
    let published = published(token)?;
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

fn published(token: &config::TokenKeys) -> io::Result<Option<Arc<Jwks>>> {
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
    Ok(Some(Arc::new(Jwks::new(settings)?)))
}
