//! Keys: which algorithm each is for, several at once, and those that somebody else publishes.

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use saywhy::catalogue::{OVERLOADED, UNAUTHORIZED};
use saywhy::{
    InvalidKey, Jwks, JwksSettings, TokenAlgorithm, TokenFault, TokenKey, TokenKeys, TokenProblem, TokenSigner,
};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const RSA: (&str, &str) = (include_str!("keys/rsa.pem"), include_str!("keys/rsa.pub.pem"));
const RSA_OTHER: (&str, &str) = (include_str!("keys/rsa-other.pem"), include_str!("keys/rsa-other.pub.pem"));
const EC: (&str, &str) = (include_str!("keys/ec.pem"), include_str!("keys/ec.pub.pem"));
const ED: (&str, &str) = (include_str!("keys/ed.pem"), include_str!("keys/ed.pub.pem"));

use TokenAlgorithm::{EdDsa, Es256, Hs256, Rs256};

/// What each algorithm signs with, and what it is checked with.
const PAIRS: [(TokenAlgorithm, &str, &str); 4] =
    [(Hs256, SECRET, SECRET), (Rs256, RSA.0, RSA.1), (Es256, EC.0, EC.1), (EdDsa, ED.0, ED.1)];

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
}

fn good() -> Value {
    json!({ "sub": "alice", "exp": 4_000_000_000_u64 })
}

fn signed(algorithm: TokenAlgorithm, key: &str, claims: &Value) -> String {
    TokenSigner::read(algorithm, key).unwrap().sign(claims).unwrap()
}

fn named(algorithm: TokenAlgorithm, key: &str, id: &str) -> String {
    TokenSigner::read(algorithm, key).unwrap().id(id).sign(&good()).unwrap()
}

/// A token with this header, signed by nobody.
fn unsigned(header: Value, signature: &str) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.{signature}", part(&header), part(&good()))
}

async fn verdict(keys: &TokenKeys, token: &str) -> String {
    match keys.verify::<Value>(Some(token)).await {
        Ok(verified) => verified.token.subject,
        Err(TokenProblem::Invalid(fault)) => fault.to_string(),
        Err(other) => format!("{other:?}"),
    }
}

const OTHER_KEY: &str = "it was signed with another key, or changed afterwards";

const NO_SUCH_KEY: &str = "it names a key that is not there";

// ---- one key, one algorithm ---------------------------------------------------------------------------------------

#[test]
fn each_algorithm_takes_what_was_signed_by_it_and_nothing_else() {
    run(async {
        for (algorithm, _, public) in PAIRS {
            let keys = TokenKeys::none().key(TokenKey::read(algorithm, public).unwrap());
            for (other, private, _) in PAIRS {
                let expected = if other == algorithm {
                    "alice".to_owned()
                } else {
                    format!("there is no key for its algorithm {other}")
                };
                assert_eq!(verdict(&keys, &signed(other, private, &good())).await, expected, "{other} for {algorithm}");
            }
        }
    });
}

/// The public key is known to everyone, so it must not do as the secret of HS256, whatever a token says of itself.
#[test]
fn an_hs256_token_signed_with_the_public_key_is_refused() {
    run(async {
        for (algorithm, _, public) in &PAIRS[1..] {
            let keys = TokenKeys::none().key(TokenKey::read(*algorithm, public).unwrap());
            for secret in [public.as_bytes(), public.trim_end().as_bytes()] {
                let forged = TokenSigner::hs256(secret).sign(&good()).unwrap();
                assert_eq!(verdict(&keys, &forged).await, "there is no key for its algorithm HS256");
                // Negative control: with that secret, it would be a good token.
                assert_eq!(verdict(&TokenKeys::hs256(secret), &forged).await, "alice");
            }
            assert_eq!(TokenKey::read(Hs256, public).unwrap_err(), InvalidKey::PublicSecret);
        }
    });
}

#[test]
fn a_token_without_a_signature_is_refused_however_it_is_written() {
    run(async {
        let keys = PAIRS.iter().fold(TokenKeys::none(), |keys, (algorithm, _, public)| {
            keys.key(TokenKey::read(*algorithm, public).unwrap())
        });
        for alg in ["none", "None", "NONE", "nOnE", "", "HS512", "PS256", "RS1"] {
            for signature in ["", "AAAA"] {
                let verdict = verdict(&keys, &unsigned(json!({ "alg": alg }), signature)).await;
                let none = format!("there is no key for its algorithm {alg}");
                let unknown = "there is no such algorithm as it says";
                assert!([&*none, unknown, "it has no signature"].contains(&&*verdict), "{alg}: {verdict}");
            }
        }
        for alg in ["HS256", "RS256", "ES256", "EdDSA"] {
            assert_eq!(verdict(&keys, &unsigned(json!({ "alg": alg }), "")).await, "it has no signature");
            assert_eq!(verdict(&keys, &unsigned(json!({ "alg": alg }), "AAAA")).await, OTHER_KEY, "{alg}");
        }
        let crit = unsigned(json!({ "alg": "HS256", "crit": ["b64"], "b64": false }), "AAAA");
        assert!(verdict(&keys, &crit).await.contains("`crit`"));
        for (malformed, what) in [
            ("garbage", "three parts"),
            ("a.b", "three parts"),
            ("a.b.c.d", "three parts"),
            ("!.b.c", "not base64url"),
            ("e30.b.c", "not an object with `alg`"),
            ("WyJhbGciXQ.b.c", "not an object with `alg`"),
        ] {
            assert!(verdict(&keys, malformed).await.contains(what), "{malformed}");
        }
        assert!(verdict(&keys, &"a".repeat(16 * 1024 + 1)).await.contains("16 KiB"));
    });
}

#[test]
fn what_is_no_key_is_not_taken_for_one() {
    let read = |algorithm, text| TokenKey::read(algorithm, text).unwrap_err();
    assert_eq!(read(Rs256, "hunter2"), InvalidKey::NoPem);
    assert_eq!(read(Rs256, RSA.0), InvalidKey::Private);
    assert_eq!(read(Rs256, EC.1), InvalidKey::OtherKind(Rs256));
    assert_eq!(read(Es256, RSA.1), InvalidKey::OtherKind(Es256));
    assert_eq!(read(EdDsa, EC.1), InvalidKey::OtherKind(EdDsa));
    assert_eq!(read(Es256, include_str!("keys/ec-p384.pub.pem")), InvalidKey::OtherKind(Es256));
    assert_eq!(read(Rs256, include_str!("keys/rsa-short.pub.pem")), InvalidKey::ShortRsa);
    assert_eq!(read(Rs256, "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"), InvalidKey::OtherKind(Rs256));
    assert_eq!("RS512".parse::<TokenAlgorithm>().unwrap_err(), InvalidKey::Algorithm);
    assert_eq!(TokenSigner::read(Hs256, RSA.1).unwrap_err(), InvalidKey::PublicSecret);
    assert_eq!(TokenSigner::read(Rs256, RSA.1).unwrap_err(), InvalidKey::NotPrivate);
    assert_eq!(TokenSigner::read(Es256, RSA.0).unwrap_err(), InvalidKey::OtherKind(Es256));
}

// ---- several keys -------------------------------------------------------------------------------------------------

#[test]
fn of_several_keys_the_one_that_is_named_is_taken() {
    run(async {
        let key = |public: &str, id: &str| TokenKey::read(Rs256, public).unwrap().id(id);
        let keys = TokenKeys::hs256(SECRET.as_bytes()).key(key(RSA.1, "old")).key(key(RSA_OTHER.1, "new"));
        assert_eq!(verdict(&keys, &named(Rs256, RSA.0, "old")).await, "alice");
        assert_eq!(verdict(&keys, &named(Rs256, RSA_OTHER.0, "new")).await, "alice");
        assert_eq!(verdict(&keys, &named(Rs256, RSA.0, "new")).await, OTHER_KEY);
        assert_eq!(verdict(&keys, &named(Rs256, RSA.0, "lost")).await, NO_SUCH_KEY);
        // Without a name all are tried; a key without a name is for tokens of every name.
        assert_eq!(verdict(&keys, &signed(Rs256, RSA.0, &good())).await, "alice");
        assert_eq!(verdict(&keys, &signed(Rs256, RSA_OTHER.0, &good())).await, "alice");
        assert_eq!(verdict(&keys, &named(Hs256, SECRET, "whatever")).await, "alice");
        assert_eq!(verdict(&keys, &signed(Es256, EC.0, &good())).await, "there is no key for its algorithm ES256");
    });
}

#[test]
fn what_is_wrong_with_the_claims_is_known_to_the_log_and_not_to_the_client() {
    run(async {
        let keys = TokenKeys::hs256(SECRET.as_bytes()).issuer("us").audience("ws");
        let claims = json!({ "sub": "alice", "exp": 4_000_000_000_u64, "iss": "us", "aud": ["ws", "api"] });
        assert_eq!(verdict(&keys, &signed(Hs256, SECRET, &claims)).await, "alice");
        let cases = [
            ("exp", json!(1_000), "token_expired", "expired"),
            ("exp", json!("soon"), "token_invalid", "\"exp\""),
            ("exp", Value::Null, "token_invalid", "\"exp\""),
            ("sub", json!(7), "token_invalid", "\"sub\""),
            ("sub", Value::Null, "token_invalid", "\"sub\""),
            ("nbf", json!(3_999_999_999_u64), "token_invalid", "not valid before 3999999999"),
            ("iss", json!("them"), "token_invalid", "another issuer"),
            ("aud", json!("them"), "token_invalid", "another audience"),
            ("aud", Value::Null, "token_invalid", "\"aud\""),
        ];
        for (claim, value, reason, private) in cases {
            let mut claims = claims.clone();
            claims[claim] = value;
            let problem = keys.verify::<Value>(Some(&signed(Hs256, SECRET, &claims))).await.unwrap_err();
            let (error, cause) = problem.explain();
            assert_eq!((error.error(), error.details()), (UNAUTHORIZED, &[("reason", reason.into())][..]), "{claim}");
            let words = cause.map_or("expired".to_owned(), |cause| cause.chain());
            assert!(words.contains(private), "{claim}: {words}");
            assert!(!words.contains("them") && !error.message().contains("them"));
        }
        assert!(matches!(keys.verify::<Value>(None).await, Err(TokenProblem::Missing)));
        assert!(matches!(keys.verify::<Value>(Some("")).await, Err(TokenProblem::Missing)));
        // The application's own claims are read after ours.
        let unread = keys.verify::<Vec<u8>>(Some(&signed(Hs256, SECRET, &claims))).await.unwrap_err();
        assert!(matches!(unread, TokenProblem::Invalid(TokenFault::Claims { .. })));
    });
}

#[test]
fn the_claims_by_which_a_token_can_be_revoked_are_read() {
    run(async {
        let keys = TokenKeys::hs256(SECRET.as_bytes());
        let read = async |jti: Value, iat: Value| {
            let claims = json!({ "sub": "a", "exp": 4_000_000_000.5, "jti": jti, "iat": iat });
            let token = keys.verify::<Value>(Some(&signed(Hs256, SECRET, &claims))).await.unwrap().token;
            (token.id.map(String::from), token.issued, token.expires)
        };
        assert_eq!(
            read(json!("t1"), json!(1_700_000_000.9)).await,
            (Some("t1".into()), Some(1_700_000_000), 4_000_000_000)
        );
        assert_eq!(read(json!(7), json!("now")).await, (None, None, 4_000_000_000));
        assert_eq!(read(json!("x".repeat(257)), json!(-1)).await, (None, None, 4_000_000_000));
    });
}

// ---- published keys -----------------------------------------------------------------------------------------------

/// A server of keys that counts who asks, and answers what the test wants.
#[derive(Clone)]
struct Publisher {
    answer: Arc<Mutex<(StatusCode, String)>>,
    asked: Arc<AtomicUsize>,
    /// An answer waits for one of these.
    may_answer: Arc<Semaphore>,
    url: String,
}

impl Publisher {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let publisher = Self {
            answer: Arc::new(Mutex::new((StatusCode::OK, set(&[])))),
            asked: Arc::default(),
            may_answer: Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)),
            url: format!("http://{}/keys", listener.local_addr().unwrap()),
        };
        let own = publisher.clone();
        let answer = async move || {
            own.asked.fetch_add(1, Ordering::Relaxed);
            own.may_answer.acquire().await.unwrap().forget();
            let (status, body) = own.answer.lock().unwrap().clone();
            ([(header::LOCATION, "/elsewhere")], (status, body)).into_response()
        };
        let elsewhere = || async { set(&[jwk(Rs256, RSA.1, "one")]) };
        let router = Router::new().route("/keys", get(answer)).route("/elsewhere", get(elsewhere));
        tokio::spawn(async move { axum::serve(listener, router).await });
        publisher
    }

    fn answers(&self, status: StatusCode, body: impl Into<String>) {
        *self.answer.lock().unwrap() = (status, body.into());
    }

    fn publishes(&self, keys: &[Value]) {
        self.answers(StatusCode::OK, set(keys));
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    /// Its keys, looked at again as often as a token asks for it.
    fn keys(&self, change: impl FnOnce(&mut JwksSettings)) -> TokenKeys {
        let mut settings = JwksSettings::new(self.url.parse().unwrap());
        settings.pause = Duration::ZERO;
        change(&mut settings);
        TokenKeys::none().published(Arc::new(Jwks::new(settings).unwrap()))
    }
}

fn set(keys: &[Value]) -> String {
    json!({ "keys": keys }).to_string()
}

/// A public key as it is published. The library that reads it is not the one that writes it here: the parts are found by
/// hand in the PEM.
fn jwk(algorithm: TokenAlgorithm, public: &str, id: &str) -> Value {
    let base64: String = public.lines().filter(|line| !line.starts_with("-----")).collect();
    let der = base64::engine::general_purpose::STANDARD.decode(base64).unwrap();
    let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let last = |n: usize| &der[der.len() - n..];
    match algorithm {
        // … modulus, then 02 03 01 00 01.
        Rs256 => {
            json!({ "kty": "RSA", "kid": id, "use": "sig", "alg": "RS256", "n": part(&last(261)[..256]), "e": "AQAB" })
        }
        Es256 => json!({ "kty": "EC", "crv": "P-256", "kid": id, "x": part(&last(64)[..32]), "y": part(last(32)) }),
        EdDsa => json!({ "kty": "OKP", "crv": "Ed25519", "kid": id, "x": part(last(32)) }),
        Hs256 => json!({ "kty": "oct", "kid": id, "k": part(public.as_bytes()) }),
    }
}

#[test]
fn published_keys_of_every_kind_are_taken_but_no_secret() {
    run(async {
        let publisher = Publisher::start().await;
        let all: Vec<_> =
            PAIRS.iter().map(|(algorithm, _, public)| jwk(*algorithm, public, algorithm.name())).collect();
        publisher.publishes(&[&[json!({ "kty": "strange" }), json!(7)], &all[..]].concat());
        let keys = publisher.keys(|_| {});
        for (algorithm, private, _) in &PAIRS[1..] {
            assert_eq!(verdict(&keys, &named(*algorithm, private, algorithm.name())).await, "alice");
            assert_eq!(verdict(&keys, &signed(*algorithm, private, &good())).await, "alice");
        }
        // Whoever can read the set could sign with a secret in it.
        let everything = publisher.keys(|settings| settings.algorithms = TokenAlgorithm::ALL.to_vec());
        assert_ne!(verdict(&everything, &named(Hs256, SECRET, "HS256")).await, "alice");
        let only = publisher.keys(|settings| settings.algorithms = vec![Es256]);
        assert_eq!(verdict(&only, &named(Es256, EC.0, "ES256")).await, "alice");
        assert_ne!(verdict(&only, &named(Rs256, RSA.0, "RS256")).await, "alice");
        // What a key says of its own use holds.
        for (field, value) in [("use", json!("enc")), ("alg", json!("RS512")), ("key_ops", json!(["sign"]))] {
            let mut key = jwk(Rs256, RSA.1, "one");
            key[field] = value;
            publisher.publishes(&[key, jwk(Es256, EC.1, "other")]);
            assert_ne!(verdict(&publisher.keys(|_| {}), &named(Rs256, RSA.0, "one")).await, "alice", "{field}");
        }
    });
}

#[test]
fn a_hundred_tokens_at_once_ask_for_the_keys_once() {
    run(async {
        let publisher = Publisher::start().await;
        publisher.publishes(&[jwk(Rs256, RSA.1, "one")]);
        publisher.may_answer.forget_permits(Semaphore::MAX_PERMITS);
        let keys = Arc::new(publisher.keys(|_| {}));
        let token = named(Rs256, RSA.0, "one");
        let verify = |_| {
            let (keys, token) = (Arc::clone(&keys), token.clone());
            tokio::spawn(async move { verdict(&keys, &token).await })
        };
        let all: Vec<_> = (0..100).map(verify).collect();
        while publisher.asked() == 0 {
            tokio::task::yield_now().await;
        }
        // One of them goes away in the midst of it, and takes nothing from the others.
        all[0].abort();
        publisher.may_answer.add_permits(100);
        for one in all.into_iter().skip(1) {
            assert_eq!(one.await.unwrap(), "alice");
        }
        assert_eq!(publisher.asked(), 1);
        // Negative control: with keys that are old at once each asks.
        let forgetful = publisher.keys(|settings| settings.refresh = Duration::ZERO);
        assert_eq!(verdict(&forgetful, &token).await, "alice");
        assert_eq!(verdict(&forgetful, &token).await, "alice");
        assert_eq!(publisher.asked(), 3);
    });
}

#[test]
fn a_key_that_is_new_is_found_and_one_that_is_gone_is_forgotten() {
    run(async {
        let publisher = Publisher::start().await;
        publisher.publishes(&[jwk(Rs256, RSA.1, "one")]);
        let keys = publisher.keys(|_| {});
        let (old, new) = (named(Rs256, RSA.0, "one"), named(Rs256, RSA_OTHER.0, "two"));
        assert_eq!(verdict(&keys, &old).await, "alice");
        assert_eq!(verdict(&keys, &new).await, NO_SUCH_KEY);
        publisher.publishes(&[jwk(Rs256, RSA_OTHER.1, "two")]);
        assert_eq!(verdict(&keys, &new).await, "alice");
        assert_eq!(verdict(&keys, &old).await, NO_SUCH_KEY);
    });
}

#[test]
fn an_unknown_key_is_looked_for_once_in_a_while_only() {
    run(async {
        let publisher = Publisher::start().await;
        publisher.publishes(&[jwk(Rs256, RSA.1, "one")]);
        let keys = publisher.keys(|settings| settings.pause = Duration::from_secs(3_600));
        assert_eq!(verdict(&keys, &named(Rs256, RSA.0, "one")).await, "alice");
        for n in 0..100 {
            let stranger = named(Rs256, RSA_OTHER.0, &format!("stranger {n}"));
            assert_eq!(verdict(&keys, &stranger).await, NO_SUCH_KEY);
        }
        assert_eq!(publisher.asked(), 1);
    });
}

#[test]
fn keys_are_kept_when_they_cannot_be_fetched_again() {
    run(async {
        let publisher = Publisher::start().await;
        publisher.publishes(&[jwk(Rs256, RSA.1, "one")]);
        let keys = publisher.keys(|settings| settings.refresh = Duration::ZERO);
        let token = named(Rs256, RSA.0, "one");
        assert_eq!(verdict(&keys, &token).await, "alice");
        let errors = [
            (StatusCode::INTERNAL_SERVER_ERROR, String::new()),
            (StatusCode::OK, "<html>".to_owned()),
            (StatusCode::OK, set(&[])),
            (StatusCode::OK, format!("{}{}", set(&[jwk(Rs256, RSA_OTHER.1, "one")]), " ".repeat(256 * 1024))),
            (StatusCode::FOUND, String::new()),
        ];
        for (n, (status, body)) in errors.into_iter().enumerate() {
            publisher.answers(status, body);
            assert_eq!(verdict(&keys, &token).await, "alice", "{n}");
            assert_eq!(publisher.asked(), 2 + n, "it was asked, and its answer not taken");
        }
        // Of a key that is not there nobody knows now whether it is good.
        let problem = keys.verify::<Value>(Some(&named(Rs256, RSA.0, "two"))).await.unwrap_err();
        assert!(matches!(problem, TokenProblem::Unavailable { .. }), "{problem:?}");
    });
}

#[test]
fn without_any_keys_yet_a_client_is_told_to_come_back() {
    run(async {
        let publisher = Publisher::start().await;
        publisher.answers(StatusCode::SERVICE_UNAVAILABLE, "");
        let keys = publisher.keys(|settings| settings.pause = Duration::from_secs(3_600));
        let token = named(Rs256, RSA.0, "one");
        for _ in 0..10 {
            let problem = keys.verify::<Value>(Some(&token)).await.unwrap_err();
            let (error, cause) = problem.explain();
            assert_eq!((error.error(), error.retry_policy().as_str()), (OVERLOADED, "after"));
            assert_eq!(error.details(), [("reason", "keys_unavailable".into())]);
            let cause = cause.unwrap().chain();
            assert!(cause.contains("503") && !error.message().contains("503"), "{cause}");
        }
        assert_eq!(publisher.asked(), 1, "a failure is not repeated by everyone who comes");
        // A redirect leads nowhere, though there would be keys.
        publisher.answers(StatusCode::FOUND, "");
        let problem = publisher.keys(|_| {}).verify::<Value>(Some(&token)).await.unwrap_err();
        assert!(problem.explain().1.unwrap().chain().contains("redirects are not followed"));
        // An answer that does not come is not waited for.
        publisher.may_answer.forget_permits(Semaphore::MAX_PERMITS);
        let hasty = publisher.keys(|settings| settings.timeout = Duration::from_millis(10));
        let problem = hasty.verify::<Value>(Some(&token)).await.unwrap_err();
        assert!(problem.explain().1.unwrap().chain().contains("no answer within 10ms"));
        // Nobody listens there any more.
        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let settings = JwksSettings::new(format!("http://{gone}/").parse().unwrap());
        let keys = TokenKeys::none().published(Arc::new(Jwks::new(settings).unwrap()));
        let problem = keys.verify::<Value>(Some(&token)).await.unwrap_err();
        assert!(problem.explain().1.unwrap().chain().contains("no connection"));
        // Own keys are there all the same.
        let mixed = keys.key(TokenKey::hs256(SECRET.as_bytes()));
        assert_eq!(verdict(&mixed, &signed(Hs256, SECRET, &good())).await, "alice");
    });
}
