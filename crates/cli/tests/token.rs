//! `saywhy token make` and `saywhy token check`, word for word.

use serde_json::{Value, json};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn keys(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../server/tests/keys").join(name).display().to_string()
}

/// A file of this test.
fn file(name: &str, text: &str) -> String {
    let path: PathBuf = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

fn saywhy(arguments: &[&str], secret: &str, input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_saywhy"));
    command.arg("token").args(arguments).env_clear();
    if !secret.is_empty() {
        command.env("SAYWHY_TOKEN_SECRET", secret);
    }
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // It may have ended without reading any of it.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A token made with these arguments; it is all of standard output.
fn made(arguments: &[&str]) -> String {
    let output = saywhy(&[&["make"], arguments].concat(), SECRET, "");
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
    let stdout = text(&output.stdout);
    let token = stdout.strip_suffix('\n').unwrap();
    assert!(token.split('.').count() == 3 && !token.contains(char::is_whitespace), "{stdout}");
    token.to_owned()
}

/// The exit code, what is on standard output, and what on standard error.
fn checked(arguments: &[&str], token: &str) -> (i32, String, String) {
    let output = saywhy(&[&["check"], arguments].concat(), SECRET, token);
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

/// Why a token is refused, which ends with a hint.
fn refused(arguments: &[&str], token: &str) -> String {
    let (code, stdout, stderr) = checked(arguments, token);
    assert_eq!((code, &*stdout), (1, ""), "{stderr}");
    let lines: Vec<_> = stderr.lines().collect();
    assert!(lines.len() == 2 && lines[1].starts_with("hint: "), "{stderr}");
    assert!(token.is_empty() || !stderr.contains(token), "{stderr}");
    lines[0].strip_prefix("error: ").unwrap().to_owned()
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

#[test]
fn what_is_made_is_good_and_says_what_it_was_told_to() {
    let before = now();
    let token = made(&[
        "--sub",
        "alice",
        "--expires-in",
        "1h",
        "--room",
        "lobby=join,send",
        "--room",
        "team-*=join",
        "--claim",
        "jti=t1",
        "--claim",
        "level=7",
    ]);
    for arguments in [&[][..], &["-"], &[&token]] {
        let (code, stdout, stderr) = checked(arguments, &format!("{token}\n"));
        assert_eq!((code, &*stderr), (0, ""));
        let (verdict, claims) = stdout.split_once('\n').unwrap();
        assert!(verdict.starts_with("good: it is of \"alice\" and expires in "), "{verdict}");
        assert!(verdict.ends_with('Z'), "{verdict}");
        let claims: Value = serde_json::from_str(claims).unwrap();
        let (issued, expires) = (claims["iat"].as_u64().unwrap(), claims["exp"].as_u64().unwrap());
        assert!((before..=now()).contains(&issued) && expires == issued + 3_600);
        assert_eq!(claims["rooms"], json!({ "lobby": ["join", "send"], "team-*": ["join"] }));
        assert_eq!((&claims["jti"], &claims["level"]), (&json!("t1"), &json!(7)));
    }
}

#[test]
fn every_algorithm_signs_and_checks() {
    for (algorithm, name) in [("RS256", "rsa"), ("ES256", "ec"), ("EdDSA", "ed")] {
        let (private, public) = (keys(&format!("{name}.pem")), keys(&format!("{name}.pub.pem")));
        let token = made(&["--sub", "alice", "--key", &private, "--algorithm", algorithm, "--kid", "2026"]);
        let (code, stdout, stderr) = checked(&["--key", &public, "--algorithm", algorithm], &token);
        assert_eq!(code, 0, "{stderr}");
        assert!(stdout.starts_with("good: it is of \"alice\""), "{stdout}");
        assert_eq!(
            refused(&[], &token),
            format!("its algorithm \"{algorithm}\" is not allowed: there is no key for it")
        );
        let config = format!("[[token.key]]\nalgorithm = {algorithm:?}\nfile = {public:?}\nkid = \"2025\"\n");
        let config = file(&format!("{name}.toml"), &config);
        assert_eq!(refused(&["--config", &config], &token), "it names the key \"2026\", and there is none");
    }
}

#[test]
fn why_a_token_is_refused_is_said_in_plain_words() {
    let token = |arguments: &[&str]| made(&[&["--sub", "alice"], arguments].concat());
    assert!(refused(&[], &token(&["--expires-in", "-3m"])).starts_with("it expired 3 min ago, at 20"));
    let later = (now() + 7_300).to_string();
    let early = refused(&[], &token(&["--claim", &format!("nbf={later}")]));
    assert!(early.starts_with("it is not good before 20") && early.ends_with("Z, in 2 h"), "{early}");

    let good = token(&[]);
    let other = file("other.key", "another secret of at least 32 bytes\n");
    let another_key = "it was signed with another key, or changed afterwards";
    assert_eq!(refused(&["--key", &other], &good), another_key);
    let (head, rest) = good.split_once('.').unwrap();
    let (claims, signature) = rest.split_once('.').unwrap();
    assert_eq!(refused(&[], &format!("{head}.x{claims}.{signature}")), another_key);
    let none = "eyJhbGciOiJub25lIn0";
    assert_eq!(
        refused(&[], &format!("{none}.{claims}.")),
        "its algorithm \"none\" is not allowed: there is no key for it"
    );
    assert_eq!(refused(&[], "hello"), "it is malformed: it has not three parts with dots between");
    assert_eq!(refused(&[], &format!("!!.{claims}.{signature}")), "it is malformed: its header is not base64url");
    assert_eq!(refused(&[], &format!("{head}.{claims}.")), "it is malformed: it has no signature");
    assert_eq!(refused(&[], &"x".repeat(20_000)), "it is malformed: it is longer than 16 KiB");
    assert_eq!(refused(&[], ""), "there is no token");

    let config = file("strict.toml", "[token]\nissuer = \"https://login.example\"\naudience = \"chat\"\n");
    let strict = ["--config", &*config];
    // What is made from a configuration is good for it.
    assert_eq!(checked(&strict, &token(&strict)).0, 0);
    let of = |claim: &str| refused(&strict, &token(&[&strict[..], &["--claim", claim]].concat()));
    assert_eq!(of("aud=[\"api\",\"web\"]"), "its audience is [\"api\",\"web\"], wanted \"chat\"");
    assert_eq!(
        of("iss=https://evil.example"),
        "its issuer is \"https://evil.example\", wanted \"https://login.example\""
    );
    assert_eq!(of("aud=null"), "its claim \"aud\" is missing, or of the wrong kind");
    assert_eq!(refused(&[], &token(&["--claim", "exp=soon"])), "its claim \"exp\" is missing, or of the wrong kind");
    // What a token says of itself cannot command a terminal.
    let hostile = of("iss=\"\\u001b[2J\\u202e\"");
    assert!(!hostile.contains(['\u{1b}', '\u{202e}']), "{hostile}");
}

#[test]
fn without_a_key_there_is_no_answer() {
    let unable = |arguments: &[&str], secret: &str| {
        let output = saywhy(arguments, secret, "x");
        let stderr = text(&output.stderr);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{stderr}");
        assert!(stderr.contains("\nhint: "), "{stderr}");
        stderr
    };
    assert!(unable(&["check"], "").starts_with("error: there is no key to check with"));
    assert!(unable(&["make", "--sub", "a"], "").starts_with("error: there is no key to sign with"));
    assert!(unable(&["check"], "hunter2").starts_with("error: SAYWHY_TOKEN_SECRET: the secret has 7 characters"));
    let public = keys("rsa.pub.pem");
    let wrong = ["make", "--sub", "a", "--algorithm", "RS256", "--key", &public];
    let signed_with_it = unable(&wrong, "");
    assert!(signed_with_it.contains("the private key"), "{signed_with_it}");
    assert!(unable(&["check", "--key", &public], "").contains("no secret for HS256"));
    assert!(unable(&["check", "--key", &keys("rsa.pem"), "--algorithm", "RS256"], "").contains("the private key"));
    assert!(unable(&["check", "--key", "no-such-file"], "").contains("cannot read the key in no-such-file"));
    let broken = file("broken.toml", "[token]\nissure = \"x\"\n");
    assert!(unable(&["check", "--config", &broken], "").contains("has no key `issure`"));
    // Nobody listens there.
    let away = file("away.toml", "[token]\njwks_url = \"http://127.0.0.1:1/keys\"\n");
    let token = made(&["--sub", "a", "--key", &keys("ec.pem"), "--algorithm", "ES256"]);
    assert!(unable(&["check", "--config", &away, &token], "").starts_with("error: the token cannot be checked: "));
}
