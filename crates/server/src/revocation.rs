//! Revocation: whose tokens are good no more, whatever they say of themselves.

use crate::gate::Gate;
use crate::token::{Registered, TOKEN_ID_BYTES};
use saywhy_codes::ErrorMessage;
use saywhy_codes::catalogue::UNAUTHORIZED;
use saywhy_proto::Farewell;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::time::{SystemTime, UNIX_EPOCH};

/// What is revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Revoked {
    /// All that was issued to this identity up to the second in which it was revoked; and what does not say when it was
    /// issued (`iat`).
    User(String),
    /// The one token of this id (`jti`).
    Token(String),
}

/// A revocation that is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// What is revoked.
    pub revoked: Revoked,
    /// Since when, in seconds since 1970.
    pub since: u64,
    /// How long it is kept, in seconds since 1970.
    pub until: u64,
}

/// Why something was not revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotRevoked {
    /// There is no room for another revocation.
    Full,
    /// It would have to be kept for longer than this many seconds, and would be forgotten too early.
    TooLong {
        /// [`Settings::revocation`](crate::Settings::revocation).
        most_s: u64,
    },
    /// That is no id of a token, or no identity: it is empty or longer than 256 bytes.
    NoId,
}

impl Gate {
    /// Ends every session of this identity, or with this token, with `unauthorized`, behind all gates of the server; and
    /// refuses it from now on, until `until` (in seconds since 1970) or as long as revocations are kept. Returns how
    /// long that is, and how many sessions it ended.
    ///
    /// # Errors
    /// [`NotRevoked`]; then nothing has changed.
    pub fn revoke(&self, revoked: Revoked, until: Option<u64>) -> Result<(Revocation, usize), NotRevoked> {
        let (Revoked::User(id) | Revoked::Token(id)) = &revoked;
        if id.is_empty() || id.len() > TOKEN_ID_BYTES {
            return Err(NotRevoked::NoId);
        }
        let (since, settings) = (seconds_now(), self.settings());
        let most_s = settings.revocation.as_secs();
        let until = until.unwrap_or(since.saturating_add(most_s));
        if until > since.saturating_add(most_s) {
            return Err(NotRevoked::TooLong { most_s });
        }
        let revocation = Revocation { revoked, since, until };
        let sessions = self.house().revoke(revocation.clone(), settings.revocations)?;
        for session in &sessions {
            // Ahead of what is queued: none of that is for them any more.
            session.0.close(Farewell::error(words()).urgent());
        }
        Ok((revocation, sessions.len()))
    }

    /// The revocations in force that come after this one, at most so many: identities first, each in the order of text.
    pub fn revocations(&self, after: Option<&Revoked>, most: usize) -> Vec<Revocation> {
        self.house().revocations(after, most)
    }

    /// Takes a revocation back; false when there is none. Sessions that it ended stay ended.
    pub fn restore(&self, revoked: &Revoked) -> bool {
        self.house().restore(revoked)
    }
}

fn words() -> ErrorMessage {
    UNAUTHORIZED.say("Your token was revoked: sign in again").detail("reason", "token_revoked")
}

pub(crate) fn seconds_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Those in force, each found by what it revokes.
#[derive(Default)]
pub(crate) struct Revocations {
    users: BTreeMap<Box<str>, Times>,
    tokens: BTreeMap<Box<str>, Times>,
}

#[derive(Clone, Copy)]
struct Times {
    since: u64,
    until: u64,
}

impl Revocations {
    /// Whether this token is revoked.
    pub(crate) fn cover(&self, token: &Registered, now: u64) -> bool {
        let one = token.id.as_ref().and_then(|id| self.tokens.get(id)).is_some_and(|times| now < times.until);
        one || self.cover_user(&token.subject, token.issued, now)
    }

    /// Whether an identity is, for what was issued then.
    pub(crate) fn cover_user(&self, user: &str, issued: Option<u64>, now: u64) -> bool {
        let times = self.users.get(user).filter(|times| now < times.until);
        times.is_some_and(|times| issued.is_none_or(|issued| issued <= times.since))
    }

    /// One more. What was revoked before is so at least as long.
    pub(crate) fn add(
        &mut self,
        Revocation { revoked, since, until }: Revocation,
        most: usize,
    ) -> Result<(), NotRevoked> {
        if self.users.len() + self.tokens.len() >= most {
            self.users.retain(|_, times| since < times.until);
            self.tokens.retain(|_, times| since < times.until);
        }
        let is_full = self.users.len() + self.tokens.len() >= most;
        let (all, id) = match revoked {
            Revoked::User(id) => (&mut self.users, id),
            Revoked::Token(id) => (&mut self.tokens, id),
        };
        match all.get_mut(&*id) {
            Some(times) => *times = Times { since, until: until.max(times.until) },
            None if is_full => return Err(NotRevoked::Full),
            None => drop(all.insert(id.into(), Times { since, until })),
        }
        Ok(())
    }

    pub(crate) fn remove(&mut self, revoked: &Revoked) -> bool {
        match revoked {
            Revoked::User(id) => self.users.remove(id.as_str()).is_some(),
            Revoked::Token(id) => self.tokens.remove(id.as_str()).is_some(),
        }
    }

    pub(crate) fn list(&self, after: Option<&Revoked>, most: usize, now: u64) -> Vec<Revocation> {
        let from = |id: &str| (Bound::Excluded(Box::<str>::from(id)), Bound::Unbounded);
        let all = (Bound::Unbounded, Bound::Unbounded);
        let (users, tokens) = match after {
            None => (Some(all.clone()), all),
            Some(Revoked::User(id)) => (Some(from(id)), all),
            Some(Revoked::Token(id)) => (None, from(id)),
        };
        let users = users.into_iter().flat_map(|range| self.users.range(range));
        let users = users.map(|(id, times)| (Revoked::User(id.to_string()), times));
        let tokens = self.tokens.range(tokens).map(|(id, times)| (Revoked::Token(id.to_string()), times));
        let listed = users.chain(tokens).filter(|(_, times)| now < times.until).take(most);
        listed.map(|(revoked, &Times { since, until })| Revocation { revoked, since, until }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(id: &str, since: u64, until: u64) -> Revocation {
        Revocation { revoked: Revoked::User(id.into()), since, until }
    }

    fn token(id: &str, since: u64, until: u64) -> Revocation {
        Revocation { revoked: Revoked::Token(id.into()), since, until }
    }

    #[test]
    fn what_was_issued_before_is_covered_and_what_came_after_is_not() {
        let mut all = Revocations::default();
        all.add(user("alice", 100, 200), 10).unwrap();
        all.add(token("t1", 100, 200), 10).unwrap();
        let of = |subject: &str, id: Option<&str>, issued| Registered {
            subject: subject.into(),
            expires: 1_000,
            issued,
            id: id.map(Into::into),
        };
        for (subject, id, issued, covered) in [
            ("alice", None, Some(99), true),
            ("alice", None, Some(100), true),
            ("alice", None, Some(101), false),
            ("alice", None, None, true),
            ("alice", Some("t1"), Some(150), true),
            ("bob", Some("t1"), Some(150), true),
            ("bob", Some("t2"), Some(1), false),
            ("t1", Some("alice"), None, false),
        ] {
            let token = of(subject, id, issued);
            assert_eq!(all.cover(&token, 150), covered, "{token:?}");
            assert!(!all.cover(&token, 200), "it is over");
        }
    }

    #[test]
    fn there_are_so_many_and_those_that_are_over_make_room() {
        let mut all = Revocations::default();
        all.add(user("a", 0, 10), 2).unwrap();
        all.add(token("a", 0, 20), 2).unwrap();
        assert_eq!(all.add(user("b", 1, 20), 2), Err(NotRevoked::Full));
        all.add(user("a", 5, 8), 2).unwrap();
        assert_eq!(all.list(None, 10, 6), [user("a", 5, 10), token("a", 0, 20)], "known before, and not shortened");
        all.add(user("b", 10, 30), 2).unwrap();
        assert_eq!(all.list(None, 10, 10), [user("b", 10, 30), token("a", 0, 20)]);
        assert_eq!(all.list(None, 1, 10), [user("b", 10, 30)]);
        assert_eq!(all.list(Some(&Revoked::User("b".into())), 10, 10), [token("a", 0, 20)]);
        assert_eq!(all.list(Some(&Revoked::Token("a".into())), 10, 10), []);
        assert!(all.remove(&Revoked::Token("a".into())) && !all.remove(&Revoked::Token("a".into())));
    }
}
