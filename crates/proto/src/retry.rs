//! When to connect again: the client's side of the retry contract, without clock, randomness or I/O.
//!
//! One [`RetryMachine`] per logical connection. The shell feeds it what happens and does what it answers.
//! A cell is the next state and, after a slash, the answer; `·` is neither. *Live* is an attempt under way or a session.
//!
//! | fed                        | Waiting (at first) | Live                 | Renewing         | Over |
//! |----------------------------|--------------------|----------------------|------------------|------|
//! | `Started`                  | Live               | Live, a new one      | Live             | ·    |
//! | `Open`, `Error` not fatal  | ·                  | ·                    | ·                | ·    |
//! | `Ready`                    | ·                  | notes the first time | ·                | ·    |
//! | `Error` fatal, `Goodbye`   | ·                  | notes the last of each | ·              | ·    |
//! | `Ended`                    | ·                  | see below            | ·                | ·    |
//! | `TokenRenewed`             | ·                  | ·                    | Waiting / wait 0 | ·    |
//! | `TokenFailed`              | ·                  | ·                    | Waiting / wait B | ·    |
//!
//! On `Ended` the first of these decides: the last fatal message, the last goodbye, the close code's row, its class
//! (1000 and unknown 4xxx `never`, others and 1006 `backoff`). *First* and *again* are counted since the last
//! session that was ready for 5 s; `open` alone forgets nothing. *n* is the number of endings since then.
//!
//! | it asks for      | first                                                | again                    |
//! |------------------|------------------------------------------------------|--------------------------|
//! | `never`          | Over / give up                                       |                          |
//! | `now`            | Waiting / wait 0                                     | Waiting / wait B         |
//! | `backoff`        | Waiting / wait B = U(0, min(30 s, 1 s × 2ⁿ⁻¹))       | Waiting / wait B         |
//! | `after`          | Waiting / wait A = delay + U(0, spread), at most 1 h | Waiting / wait max(A, B) |
//! | `reauthenticate` | Renewing / reauthenticate                            | Over / give up           |
//!
//! What this promises to a server: between two sessions that lasted, a client comes back sooner than backoff would at
//! most three times, once for each of `now`, `after` and `reauthenticate`. It does not promise a pause, since full
//! jitter may draw 0: a server that ends each connection at once and in the same way is contacted at most 5 times in
//! 20 s by a client that always draws the longest wait, 6 times by one that always draws the middle, and 6 times on
//! average by a crowd.

use saywhy_codes::catalogue::CUSTOM_CODES;
use saywhy_codes::{Catalogue, CloseCode, Dialect, ErrorCode, Observed, Retry, registration};
use std::mem::replace;
use std::time::Duration;

/// The numbers of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// The longest first wait of `backoff`: 1 s.
    pub backoff_base: Duration,
    /// By how much the longest wait grows with each attempt: 2.
    pub backoff_factor: u32,
    /// The longest wait of `backoff`: 30 s.
    pub backoff_cap: Duration,
    /// The longest wait that a server can ask for, its spread included: 1 h.
    pub after_cap: Duration,
    /// For how long a session has to be ready before the attempts that led to it are forgotten: 5 s.
    pub lasting: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            backoff_base: Duration::from_secs(1),
            backoff_factor: 2,
            backoff_cap: Duration::from_secs(30),
            after_cap: Duration::from_secs(60 * 60),
            lasting: Duration::from_secs(5),
        }
    }
}

impl RetryPolicy {
    /// The longest wait of `backoff` before the given attempt; 1 is the first after a session that lasted.
    pub fn backoff_ceiling(&self, attempt: u32) -> Duration {
        let growth = self.backoff_factor.saturating_pow(attempt.saturating_sub(1));
        self.backoff_base.saturating_mul(growth).min(self.backoff_cap)
    }

    fn backoff(&self, attempt: u32, random: f64) -> Duration {
        part(self.backoff_ceiling(attempt), random)
    }

    /// The spread is what is cut, not the sum: else a crowd that was told "within a day" comes back in one instant.
    fn after(&self, delay: Duration, spread: Duration, random: f64) -> Duration {
        let delay = delay.min(self.after_cap);
        delay.saturating_add(part(spread.min(self.after_cap - delay), random))
    }
}

/// A random part of `span`, in whole milliseconds: `floor(random × span)`. A NaN is 0.
fn part(span: Duration, random: f64) -> Duration {
    Duration::from_millis((span.as_millis() as f64 * random.clamp(0.0, 1.0)) as u64)
}

/// What happened to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// An attempt to connect began. What the connection before it was told is forgotten.
    Started,
    /// The opening handshake succeeded, which proves nothing: refusals come after it.
    Open,
    /// The server said `ready`, or whatever proves as much where it speaks another protocol.
    Ready,
    /// The server sent an `error`, or answered the handshake with an HTTP error, which is always fatal.
    Error {
        /// Its `data`.
        said: Said<'a>,
        /// `data.fatal`: whether a Close follows. When the server does not say, `false`.
        fatal: bool,
    },
    /// The server sent a `goodbye`.
    Goodbye(Said<'a>),
    /// The connection ended, or never came to be: [`Observed::Abnormal`] for all that the network does.
    Ended(Observed),
    /// A new token is there.
    TokenRenewed,
    /// There is no new token, as when its issuer cannot be reached. The old one gets one more try.
    TokenFailed,
}

/// What an `error` or a `goodbye` says about trying again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Said<'a> {
    /// `code`.
    pub code: u16,
    /// `name`, where it has one.
    pub name: Option<&'a str>,
    /// `retry` and its numbers, see [`read_retry`]. Without it the catalogue's row of that name decides, or of that
    /// code when there is no name.
    pub retry: Option<Retry>,
}

/// Reads `retry` and its numbers, in milliseconds. `None` for a word that is no policy.
///
/// `after` without a spread has none; without a delay, it waits as [`Retry`]'s `FromStr` says.
pub fn read_retry(word: &str, retry_after_ms: Option<u64>, spread_ms: Option<u64>) -> Option<Retry> {
    match (word.parse().ok()?, retry_after_ms) {
        (Retry::After { .. }, Some(delay_ms)) => Some(Retry::after_ms(delay_ms, spread_ms.unwrap_or(0))),
        (retry, _) => Some(retry),
    }
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Connect after a delay.
    Wait {
        /// How long to wait, in whole milliseconds; may be zero.
        delay: Duration,
        /// How many attempts this makes since a session lasted; 1 is the first.
        attempt: u32,
        /// Why.
        because: Because,
    },
    /// Get a new token, then feed [`Event::TokenRenewed`] or [`Event::TokenFailed`].
    Reauthenticate {
        /// Why.
        because: Because,
    },
    /// Never connect again. The machine answers nothing from now on.
    GiveUp {
        /// Why. A `retry` of `reauthenticate` means that a new token was refused like the old one.
        because: Because,
    },
}

/// Why: who decided, and what they asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Because {
    /// Who decided.
    pub source: Source,
    /// The code of the message, of the goodbye, or of the Close.
    pub code: u16,
    /// The row that the code or the name belongs to, where the catalogue has one.
    pub row: Option<ErrorCode>,
    /// What was asked for, which need not be what is done: the second `now` waits.
    pub retry: Retry,
}

/// Who decided, in the order in which they are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The last fatal error message.
    Message,
    /// The last goodbye.
    Goodbye,
    /// The catalogue's row of the close code.
    CloseCode,
    /// What holds for all close codes of its kind.
    Class,
}

/// Decides whether and when a client connects again.
///
/// ```
/// use saywhy_codes::Observed;
/// use saywhy_proto::retry::{Decision, Event, RetryMachine};
/// use std::time::Duration;
///
/// let mut retry = RetryMachine::default();
/// assert_eq!(retry.handle(Duration::ZERO, Event::Started, 0.5), None);
/// let decision = retry.handle(Duration::from_secs(1), Event::Ended(Observed::Abnormal), 0.5);
/// assert!(matches!(decision, Some(Decision::Wait { delay, attempt: 1, .. }) if delay == Duration::from_millis(500)));
/// ```
#[derive(Clone, Debug, Default)]
pub struct RetryMachine {
    policy: RetryPolicy,
    catalogue: Catalogue,
    state: State,
    /// Endings since a session lasted.
    attempt: u32,
    spent: Spent,
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    #[default]
    Waiting,
    Live(Live),
    Renewing(Because),
    Over,
}

#[derive(Clone, Copy, Debug, Default)]
struct Live {
    ready_at: Option<Duration>,
    fatal: Option<Because>,
    goodbye: Option<Because>,
}

/// What is granted once between two sessions that lasted.
#[derive(Clone, Copy, Debug, Default)]
struct Spent {
    now: bool,
    after: bool,
    token: bool,
}

impl RetryMachine {
    /// A machine that has not connected yet. `catalogue` gives close codes their meaning.
    pub fn new(policy: RetryPolicy, catalogue: Catalogue) -> Self {
        Self { policy, catalogue, ..Self::default() }
    }

    /// Takes note of an event and answers what to do, when there is something to decide.
    ///
    /// `now` is the time since any fixed moment and never goes back; `random` is evenly distributed in [0, 1), new
    /// with each call.
    pub fn handle(&mut self, now: Duration, event: Event<'_>, random: f64) -> Option<Decision> {
        match (self.state, event) {
            (State::Over, _) => None,
            (_, Event::Started) => self.live(Live::default()),
            (State::Live(live), Event::Ready) => self.live(Live { ready_at: live.ready_at.or(Some(now)), ..live }),
            (State::Live(live), Event::Error { said, fatal: true }) => {
                self.live(Live { fatal: self.understood(Source::Message, said).or(live.fatal), ..live })
            }
            (State::Live(live), Event::Goodbye(said)) => {
                self.live(Live { goodbye: self.understood(Source::Goodbye, said).or(live.goodbye), ..live })
            }
            (State::Live(live), Event::Ended(close)) => Some(self.ended(live, now, close, random)),
            (State::Renewing(because), Event::TokenRenewed) => Some(self.wait(Duration::ZERO, because)),
            (State::Renewing(because), Event::TokenFailed) => {
                Some(self.wait(self.policy.backoff(self.attempt, random), because))
            }
            (State::Waiting | State::Live(_) | State::Renewing(_), _) => None,
        }
    }

    fn live(&mut self, live: Live) -> Option<Decision> {
        self.state = State::Live(live);
        None
    }

    /// `None` when neither the words nor the catalogue say anything about trying again.
    fn understood(&self, source: Source, said: Said<'_>) -> Option<Because> {
        let row = match said.name {
            Some(name) => self.catalogue.by_name(name),
            None => self.catalogue.by_code(said.code),
        };
        let retry = said.retry.or(row.map(|row| row.retry))?;
        Some(Because { source, code: said.code, row, retry })
    }

    fn ended(&mut self, live: Live, now: Duration, close: Observed, random: f64) -> Decision {
        if live.ready_at.is_some_and(|since| now.saturating_sub(since) >= self.policy.lasting) {
            self.attempt = 0;
            self.spent = Spent::default();
        }
        self.attempt = self.attempt.saturating_add(1);
        let because = live.fatal.or(live.goodbye).unwrap_or_else(|| self.meaning(close));
        let backoff = self.policy.backoff(self.attempt, random);
        match because.retry {
            Retry::Never => self.give_up(because),
            Retry::Now if !replace(&mut self.spent.now, true) => self.wait(Duration::ZERO, because),
            Retry::Now | Retry::Backoff => self.wait(backoff, because),
            Retry::After { delay, spread } => {
                let asked = self.policy.after(delay, spread, random);
                // A server that says "in 0 s" each time must not be stormed either.
                let floor = if replace(&mut self.spent.after, true) { backoff } else { Duration::ZERO };
                self.wait(asked.max(floor), because)
            }
            Retry::Reauthenticate if !replace(&mut self.spent.token, true) => {
                self.state = State::Renewing(because);
                Decision::Reauthenticate { because }
            }
            Retry::Reauthenticate => self.give_up(because),
        }
    }

    fn wait(&mut self, delay: Duration, because: Because) -> Decision {
        self.state = State::Waiting;
        Decision::Wait { delay, attempt: self.attempt, because }
    }

    fn give_up(&mut self, because: Because) -> Decision {
        self.state = State::Over;
        Decision::GiveUp { because }
    }

    /// What a Close means by itself. `iana` adds the registered codes 3000 and 3003 to those of `app`.
    fn meaning(&self, close: Observed) -> Because {
        let Observed::Code(code) = close else {
            return Because { source: Source::Class, code: close.as_u16(), row: None, retry: Retry::Backoff };
        };
        let known_as = |dialect: Dialect| self.catalogue.rows().find(|row| dialect.row_close_code(*row) == Some(code));
        let row = known_as(Dialect::App).or_else(|| known_as(Dialect::Iana));
        let (source, retry) = match row {
            Some(row) => (Source::CloseCode, row.retry),
            None if code == CloseCode::NORMAL || is_private(code) => (Source::Class, Retry::Never),
            None => (Source::Class, Retry::Backoff),
        };
        Because { source, code: code.as_u16(), row, retry }
    }
}

/// 4000–4999: an application's own. Who does not know such a code must not take it for "come again".
fn is_private(code: CloseCode) -> bool {
    code.registration() == registration(*CUSTOM_CODES.start())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use saywhy_codes::Role::Server;

    const LONGEST: f64 = 1.0 - f64::EPSILON;
    const STORM: usize = 100;

    fn said(retry: Retry) -> Said<'static> {
        Said { retry: Some(retry), ..Said::default() }
    }

    /// How often a server is contacted in 20 s when it says `ready` and at once ends the connection, each time.
    fn contacts(message: Option<Event<'_>>, close: Observed, mut random: impl FnMut() -> f64) -> usize {
        let (mut retry, mut now) = (RetryMachine::default(), Duration::ZERO);
        for contacts in 1..STORM {
            for event in [Event::Started, Event::Open, Event::Ready].into_iter().chain(message) {
                assert_eq!(retry.handle(now, event, random()), None);
            }
            let mut decision = retry.handle(now, Event::Ended(close), random());
            if matches!(decision, Some(Decision::Reauthenticate { .. })) {
                decision = retry.handle(now, Event::TokenRenewed, random());
            }
            match decision {
                Some(Decision::Wait { delay, .. }) if now + delay < Duration::from_secs(20) => now += delay,
                _ => return contacts,
            }
        }
        STORM
    }

    #[test]
    fn a_server_that_accepts_and_closes_is_not_stormed() {
        for code in 0..=u16::MAX {
            let close = Observed::from_wire(Some(code).filter(|code| *code != 1005), Server);
            let most = match RetryMachine::default().meaning(close).retry {
                Retry::Never => 1..=1,
                Retry::Reauthenticate => 2..=2,
                Retry::Now | Retry::Backoff | Retry::After { .. } => 2..=5,
            };
            assert!(most.contains(&contacts(None, close, || LONGEST)), "{close}");
            assert!(contacts(None, close, || 0.5) <= 6, "{close}");
        }
        for retry in [Retry::Now, Retry::after_ms(0, 0), Retry::after_ms(1, 1)] {
            let message = Some(Event::Error { said: said(retry), fatal: true });
            assert_eq!(contacts(message, Observed::Abnormal, || LONGEST), 5, "{retry}");
            assert_eq!(contacts(message, Observed::Abnormal, || 0.5), 6, "{retry}");
        }
    }

    /// With full jitter one client cannot promise a number. A crowd can: these are the same draws on every run.
    #[test]
    fn nor_by_a_crowd_that_draws_at_random() {
        let mut state = 0_u64;
        let mut random = || {
            // Knuth's MMIX generator; the upper bits are the good ones.
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 11) as f64 / (1_u64 << 53) as f64
        };
        let each: Vec<_> = (0..10_000).map(|_| contacts(None, Observed::Abnormal, &mut random)).collect();
        let mean = each.iter().sum::<usize>() as f64 / 10_000.0;
        assert!((5.5..6.5).contains(&mean), "{mean}");
        assert!(each.iter().all(|contacts| (5..=12).contains(contacts)));
    }

    #[test]
    fn extremes_do_not_overflow_and_a_clock_that_goes_back_forgets_nothing() {
        let mut retry = RetryMachine { attempt: u32::MAX, ..RetryMachine::default() };
        retry.handle(Duration::MAX, Event::Started, 0.0);
        retry.handle(Duration::MAX, Event::Ready, 0.0);
        let decision = retry.handle(Duration::ZERO, Event::Ended(Observed::Abnormal), LONGEST);
        let longest = Duration::from_millis(29_999);
        assert!(matches!(decision, Some(Decision::Wait { delay, attempt: u32::MAX, .. }) if delay == longest));
        let endless = RetryPolicy { backoff_cap: Duration::MAX, after_cap: Duration::MAX, ..RetryPolicy::default() };
        assert!(endless.backoff(u32::MAX, 1.0) > longest);
        assert_eq!(endless.after(Duration::MAX, Duration::MAX, 1.0), Duration::MAX);
        assert_eq!(endless.backoff(0, f64::NAN), Duration::ZERO);
        assert_eq!(RetryPolicy::default().backoff(1, 1e9), Duration::from_secs(1));
    }

    #[test]
    fn a_row_of_the_user_s_own_counts() {
        let mut catalogue = Catalogue::builtin();
        let row = catalogue.add_read("room_full", 4100, 409, Retry::Backoff, "The room is full").unwrap();
        let because = RetryMachine::new(RetryPolicy::default(), catalogue).meaning(Observed::Code(row.close.unwrap()));
        assert_eq!(because, Because { source: Source::CloseCode, code: 4100, row: Some(row), retry: Retry::Backoff });
    }

    fn any_event() -> impl Strategy<Value = Event<'static>> {
        let words = || proptest::sample::select(vec![Retry::Never, Retry::Now, Retry::Backoff, Retry::Reauthenticate]);
        let after =
            || (any::<u64>(), any::<u64>(), 0..64).prop_map(|(a, b, small)| Retry::after_ms(a >> small, b >> small));
        let any_said = || prop_oneof![words(), after()].prop_map(said);
        prop_oneof![
            3 => Just(Event::Started),
            2 => Just(Event::Ready),
            2 => (any_said(), any::<bool>()).prop_map(|(said, fatal)| Event::Error { said, fatal }),
            1 => any_said().prop_map(Event::Goodbye),
            3 => prop_oneof![Just(1011), Just(4003), Just(1013), any::<u16>()]
                .prop_map(|code| Event::Ended(Observed::from_wire(Some(code), Server))),
            1 => proptest::sample::select(&[Event::Open, Event::TokenRenewed, Event::TokenFailed][..]),
        ]
    }

    proptest! {
        #[test]
        fn whatever_happens_the_bounds_hold(
            steps in proptest::collection::vec((0..7_000_u64, any_event(), 0.0..1.0), 0..100),
        ) {
            let policy = RetryPolicy::default();
            let (mut retry, mut now) = (RetryMachine::default(), Duration::ZERO);
            // Since a session lasted: waits that were shorter than backoff's, and requests for a token.
            let (mut over, mut hurried, mut renewals) = (false, 0, 0);
            let (mut live, mut ready_at) = (false, None);
            for (pause_ms, event, random) in steps {
                now += Duration::from_millis(pause_ms);
                let decision = retry.handle(now, event, random);
                prop_assert!(!over || decision.is_none(), "after giving up: {decision:?}");
                match event {
                    Event::Started => (live, ready_at) = (true, None),
                    Event::Ready if live && ready_at.is_none() => ready_at = Some(now),
                    Event::Ended(_) => {
                        if live && ready_at.is_some_and(|since| now - since >= policy.lasting) {
                            (hurried, renewals) = (0, 0);
                        }
                        live = false;
                    }
                    _ => {}
                }
                match decision {
                    Some(Decision::Wait { delay, attempt, because }) => {
                        let backoff = policy.backoff(attempt, random);
                        prop_assert!(backoff <= policy.backoff_ceiling(attempt) && backoff < policy.backoff_cap);
                        match because.retry {
                            Retry::After { .. } => prop_assert!(delay <= policy.after_cap),
                            _ => prop_assert!(delay == Duration::ZERO || delay == backoff),
                        }
                        hurried += usize::from(delay < backoff);
                    }
                    Some(Decision::Reauthenticate { .. }) => renewals += 1,
                    Some(Decision::GiveUp { .. }) => over = true,
                    None => {}
                }
                prop_assert!(hurried <= 3 && renewals <= 1);
            }
        }
    }
}
