//! Keys that somebody else publishes (RFC 7517 §5): fetched when they are needed, by one request at a time, and kept
//! when they cannot be fetched again.
//!
//! | the keys are | and a token fits one | and a token fits none |
//! |---|---|---|
//! | not there yet | – | fetched, and the token waits; within the pause after a failure: unavailable |
//! | there | the token is checked | fetched again, and the token waits; within the pause: unknown key |
//! | older than `refresh` | checked, and fetched meanwhile | the same |
//! | older than twice that | fetched, and the token waits; when that fails, checked with what is there | the same |

use super::key::{TokenAlgorithm, TokenKey};
use crate::fetch::{Fetch, FetchError, FetchLimits};
use http::Uri;
use jsonwebtoken::jwk::Jwk;
use saywhy_codes::Cause;
use serde::Deserialize;
use serde_json::Value;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{fmt, io};
use tokio::sync::watch;
use tokio::time::Instant;

/// Where keys are published, and how often to look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwksSettings {
    /// `https://…`, or `http://…` on the same machine.
    pub url: Uri,
    /// What a key there may be for. A shared secret is never taken from there.
    pub algorithms: Vec<TokenAlgorithm>,
    /// After this the keys are looked at anew.
    pub refresh: Duration,
    /// Between two looks for a key that is not there, and after one that failed.
    pub pause: Duration,
    /// For one look.
    pub timeout: Duration,
}

impl JwksSettings {
    /// The keys at this address, as often as most would.
    pub fn new(url: Uri) -> Self {
        Self {
            url,
            algorithms: TokenAlgorithm::PUBLIC.to_vec(),
            refresh: Duration::from_secs(600),
            pause: Duration::from_secs(30),
            timeout: Duration::from_secs(5),
        }
    }
}

/// Bytes of a set of keys.
const SET_BYTES: usize = 256 * 1024;
/// Keys of one set. The others are not looked at.
const SET_KEYS: usize = 64;
/// A server that has no keys yet looks for them at least this often.
const FIRST_PAUSE: Duration = Duration::from_secs(5);

/// Keys that are published somewhere.
pub struct Jwks {
    settings: JwksSettings,
    fetch: Fetch,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    keys: Option<Arc<[TokenKey]>>,
    /// When they were fetched.
    fetched: Option<Instant>,
    /// When they were last looked for, and how that went.
    looked: Option<(Instant, Result<(), Arc<NoKeys>>)>,
    /// Somebody looks right now; closed when that is done.
    looking: Option<watch::Receiver<()>>,
}

/// The keys cannot be had at present.
#[derive(Debug)]
pub(super) struct Unavailable {
    /// When to ask again.
    pub(super) retry: Duration,
    pub(super) cause: Cause,
}

impl Jwks {
    /// Looks for nothing yet.
    ///
    /// # Errors
    /// With an `https` address, when the machine has no certificates to trust.
    pub fn new(settings: JwksSettings) -> io::Result<Self> {
        Ok(Self { fetch: Fetch::for_scheme(&settings.url)?, settings, state: Mutex::default() })
    }

    /// Where it looks, and how often.
    pub fn settings(&self) -> &JwksSettings {
        &self.settings
    }

    /// Looks for the keys before somebody needs them, and says in the log when there are none.
    pub fn begin(self: &Arc<Self>) {
        self.look(&mut self.lock());
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics with the lock held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The keys that a token may have been signed with, at most so many.
    pub(super) async fn find(
        self: &Arc<Self>,
        algorithm: TokenAlgorithm,
        id: Option<&str>,
        most: usize,
    ) -> Result<Vec<TokenKey>, Unavailable> {
        if !self.settings.algorithms.contains(&algorithm) {
            return Ok(Vec::new());
        }
        let looking = {
            let mut state = self.lock();
            let found = state.fitting(algorithm, id, most);
            let age = state.fetched.map(|at| at.elapsed()).unwrap_or_default();
            let old = age >= self.settings.refresh;
            let looking = if old || found.is_empty() { self.look(&mut state) } else { None };
            if !found.is_empty() && age < 2 * self.settings.refresh {
                return Ok(found);
            }
            looking
        };
        if let Some(mut looking) = looking {
            // It is closed, and never says anything.
            let _ = looking.changed().await;
        }
        let state = self.lock();
        let found = state.fitting(algorithm, id, most);
        match &state.looked {
            // A key that is not there may be among those that could not be fetched.
            Some((at, Err(cause))) if found.is_empty() => {
                let retry = self.pause(&state).saturating_sub(at.elapsed()).max(Duration::from_secs(1));
                Err(Unavailable { retry, cause: Cause::new(Arc::clone(cause)) })
            }
            _ => Ok(found),
        }
    }

    fn pause(&self, state: &State) -> Duration {
        if state.keys.is_some() { self.settings.pause } else { self.settings.pause.min(FIRST_PAUSE) }
    }

    /// Looks for the keys, unless that was done a moment ago. Whoever needs the outcome can wait for it, and need not.
    fn look(self: &Arc<Self>, state: &mut State) -> Option<watch::Receiver<()>> {
        if state.looking.is_some() {
            return state.looking.clone();
        }
        let pause = self.pause(state);
        if state.looked.as_ref().is_some_and(|(at, _)| at.elapsed() < pause) {
            return None;
        }
        let (done, looking) = watch::channel(());
        state.looking = Some(looking.clone());
        let jwks = Arc::clone(self);
        // A task of its own: a client that goes away takes nothing from the others that wait.
        tokio::spawn(async move {
            let outcome = jwks.fetch().await;
            jwks.looked(outcome);
            drop(done);
        });
        Some(looking)
    }

    async fn fetch(&self) -> Result<Arc<[TokenKey]>, NoKeys> {
        let JwksSettings { url, timeout, algorithms, .. } = &self.settings;
        let limits = FetchLimits { time: *timeout, bytes: SET_BYTES };
        let body = self.fetch.get(url, "application/jwk-set+json, application/json", limits).await;
        let set: Set = serde_json::from_slice(&body.map_err(NoKeys::Fetch)?).map_err(NoKeys::NoSet)?;
        // One at a time: a key of a kind that is not known here takes nothing from the others.
        let keys = set.keys.into_iter().take(SET_KEYS).filter_map(|key| serde_json::from_value::<Jwk>(key).ok());
        let keys: Arc<[TokenKey]> = keys.filter_map(|jwk| TokenKey::of_jwk(&jwk, algorithms)).collect();
        if keys.is_empty() { Err(NoKeys::None) } else { Ok(keys) }
    }

    fn looked(&self, outcome: Result<Arc<[TokenKey]>, NoKeys>) {
        let now = Instant::now();
        let mut state = self.lock();
        state.looking = None;
        // The query may hold what nobody else should know.
        let url =
            format!("{}{}", self.settings.url.authority().map_or("", |host| host.as_str()), self.settings.url.path());
        match outcome {
            Ok(keys) => {
                let again = matches!(state.looked, Some((_, Err(_))));
                let count = keys.len();
                (state.keys, state.fetched, state.looked) = (Some(keys), Some(now), Some((now, Ok(()))));
                drop(state);
                if again {
                    tracing::info!(url, keys = count, "the keys of tokens were fetched again");
                } else {
                    tracing::debug!(url, keys = count, "the keys of tokens were fetched");
                }
            }
            Err(error) => {
                let (keeps, hint) = (state.keys.is_some(), error.hint());
                let private = Cause::new(Arc::new(error));
                state.looked = Some((now, Err(Arc::new(NoKeys::Before(private.clone())))));
                let pause = self.pause(&state);
                drop(state);
                let (private, retry_ms) = (private.chain(), pause.as_millis() as u64);
                if keeps {
                    tracing::warn!(
                        url,
                        private,
                        retry_ms,
                        "the keys of tokens could not be fetched, those that are there are kept; hint: {hint}"
                    );
                } else {
                    tracing::error!(
                        url,
                        private,
                        retry_ms,
                        "the keys of tokens could not be fetched: tokens are refused with overloaded until they are; hint: {hint}"
                    );
                }
            }
        }
    }
}

impl State {
    fn fitting(&self, algorithm: TokenAlgorithm, id: Option<&str>, most: usize) -> Vec<TokenKey> {
        let keys = self.keys.iter().flat_map(|keys| keys.iter());
        keys.filter(|key| key.fits(algorithm, id)).take(most).cloned().collect()
    }
}

impl fmt::Debug for Jwks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jwks").field("settings", &self.settings).finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<Value>,
}

/// Why there are no keys.
#[derive(Debug)]
enum NoKeys {
    Fetch(FetchError),
    NoSet(serde_json::Error),
    None,
    /// It was so the last time.
    Before(Cause),
}

impl NoKeys {
    fn hint(&self) -> &'static str {
        match self {
            Self::Fetch(FetchError::Connection(_)) => {
                "is token.jwks_url right, and does this machine trust its certificate? SSL_CERT_FILE names others to trust"
            }
            Self::Fetch(_) => "open token.jwks_url on this machine: it has to answer 200 with the keys",
            Self::NoSet(_) => "token.jwks_url has to answer {\"keys\": […]}: is it the page about the keys instead?",
            Self::None => "none of them is a key for signatures of an algorithm in token.jwks_algorithms",
            Self::Before(_) => "see the line before",
        }
    }
}

impl fmt::Display for NoKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fetch(_) => f.write_str("the keys could not be fetched"),
            // Errors of JSON quote what they did not expect.
            Self::NoSet(error) => {
                write!(f, "the answer is no set of keys, at line {} column {}", error.line(), error.column())
            }
            Self::None => f.write_str("there is no key that could be used"),
            Self::Before(cause) => f.write_str(&cause.chain()),
        }
    }
}

impl std::error::Error for NoKeys {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Fetch(error) => Some(error),
            Self::NoSet(_) | Self::None | Self::Before(_) => None,
        }
    }
}
