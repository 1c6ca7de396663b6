//! `saywhy token make` and `saywhy token check`: a token for the asking, and why one is refused.

use crate::check::{colour, data};
use crate::config::{self, Complaint, Config, TokenAlgorithm, escape};
use crate::keys;
use clap::{Args, Subcommand};
use jiff::{SpanRelativeTo, Timestamp};
use saywhy::{TokenFault, TokenKey, TokenKeys, TokenProblem, TokenSigner};
use serde_json::{Map, Value, json};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What is done with a token.
#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Sign a token and print it, and nothing else, to standard output
    Make(MakeArgs),
    /// Say whether a token is good, what it says, or why it is refused
    Check(CheckArgs),
}

/// The key, for which there are several places: the first that is given counts.
#[derive(Debug, Args)]
struct KeyArgs {
    /// A key: the secret of HS256, else PEM; to sign it is the private one
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// What the key is for
    #[arg(long, value_name = "NAME", default_value = "HS256", requires = "key")]
    algorithm: TokenAlgorithm,
    /// The configuration, with its [token]
    #[arg(long, value_name = "FILE", env = "SAYWHY_CONFIG")]
    config: Option<PathBuf>,
}

/// What `saywhy token make` takes.
#[derive(Debug, Args)]
#[command(
    after_help = "The key is that of --key, of SAYWHY_TOKEN_SECRET, or hs256_secret of the configuration, whose \
    issuer and audience are claimed too. Exit codes: 0 there is a token, 2 there is not."
)]
pub(crate) struct MakeArgs {
    #[command(flatten)]
    key: KeyArgs,
    /// Whose it is
    #[arg(long, value_name = "IDENTITY")]
    sub: String,
    /// How long it is good for, such as `90s`, `15m`, `1h` or `7d`
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = time, allow_hyphen_values = true)]
    expires_in: i64,
    /// A room and what it permits there: `lobby=join,send`. As often as there are rooms
    #[arg(long, value_name = "ROOM=PERMISSIONS", value_parser = room)]
    room: Vec<(String, Vec<String>)>,
    /// Another claim: `name=value`, where a value that is JSON is taken as such
    #[arg(long, value_name = "NAME=VALUE", value_parser = claim)]
    claim: Vec<(String, Value)>,
    /// The name of the key, for the header
    #[arg(long, value_name = "NAME")]
    kid: Option<String>,
}

/// What `saywhy token check` takes.
#[derive(Debug, Args)]
#[command(
    after_help = "The keys are that of --key, or SAYWHY_TOKEN_SECRET and those of the configuration. Exit codes: 0 \
    the token is good, 1 it is not, 2 it cannot be checked."
)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    key: KeyArgs,
    /// The token; without one, or with `-`, it is read from standard input, where other users of the machine cannot see it
    token: Option<String>,
}

/// Why there is no answer.
type Unable = Complaint;

/// Runs the command.
pub(crate) fn run(command: &TokenCommand) -> ExitCode {
    let outcome = match command {
        TokenCommand::Make(args) => make(args).map(|token| {
            data(&token);
            ExitCode::SUCCESS
        }),
        TokenCommand::Check(args) => check(args).map(|refused| match refused {
            None => ExitCode::SUCCESS,
            Some(complaint) => {
                complain(&complaint);
                ExitCode::from(1)
            }
        }),
    };
    outcome.unwrap_or_else(|unable| {
        complain(&unable);
        ExitCode::from(2)
    })
}

fn complain(complaint: &Complaint) {
    eprint!("{}", config::render("error:", complaint, colour()));
}

// ---- make -------------------------------------------------------------------------------------------------------

fn make(args: &MakeArgs) -> Result<String, Unable> {
    let configured = configured(&args.key)?;
    let signer = signer(&args.key, configured.as_ref())?;
    let signer = if let Some(kid) = &args.kid { signer.id(kid) } else { signer };
    signer.sign(&claims(args, configured.as_ref())).map_err(|cause| {
        Complaint::new(format!("the token was not signed: {}", cause.chain()), "is it the key of that algorithm?")
    })
}

fn signer(args: &KeyArgs, configured: Option<&config::TokenKeys>) -> Result<TokenSigner, Unable> {
    if let Some(path) = &args.key {
        let text = read_key(path)?;
        let algorithm = args.algorithm.into();
        let text = if args.algorithm == TokenAlgorithm::Hs256 { text.trim_end() } else { &text };
        return TokenSigner::read(algorithm, text).map_err(|invalid| {
            let hint = format!("to sign with {algorithm} one takes the private key, or the secret of HS256");
            Complaint::new(format!("{} is no key to sign with: {invalid}", path.display()), hint)
        });
    }
    let secret = configured.and_then(|token| token.hs256_secret.as_ref());
    let signer = secret.map(|secret| TokenSigner::hs256(secret.expose().as_bytes()));
    signer.ok_or_else(|| {
        let hint =
            "give --key with the private key and its --algorithm, set SAYWHY_TOKEN_SECRET, or --config with a secret";
        Complaint::new("there is no key to sign with", hint)
    })
}

fn claims(args: &MakeArgs, configured: Option<&config::TokenKeys>) -> Value {
    let now = seconds_now();
    let mut claims = Map::new();
    claims.insert("sub".to_owned(), json!(args.sub));
    claims.insert("iat".to_owned(), json!(now));
    claims.insert("exp".to_owned(), json!(now.saturating_add_signed(args.expires_in)));
    let asked = |of: fn(&config::TokenKeys) -> Option<&String>| configured.and_then(of).map(|text| json!(text));
    claims.extend(asked(|token| token.issuer.as_ref()).map(|issuer| ("iss".to_owned(), issuer)));
    claims.extend(asked(|token| token.audience.as_ref()).map(|audience| ("aud".to_owned(), audience)));
    if !args.room.is_empty() {
        let rooms: Map<_, _> = args.room.iter().map(|(room, permissions)| (room.clone(), json!(permissions))).collect();
        claims.insert("rooms".to_owned(), Value::Object(rooms));
    }
    claims.extend(args.claim.iter().cloned());
    Value::Object(claims)
}

/// `15m`, as jiff reads it; a day has 24 hours.
fn time(text: &str) -> Result<i64, String> {
    let words = "a time is a number and a unit, such as 90s, 15m, 1h or 7d";
    let span: jiff::Span = text.parse().map_err(|_| words.to_owned())?;
    let duration = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| words.to_owned())?;
    Ok(duration.as_secs())
}

const PERMISSIONS: [&str; 5] = ["join", "send", "history", "members", "manage"];

fn room(text: &str) -> Result<(String, Vec<String>), String> {
    let (room, permissions) = text.split_once('=').ok_or("a room is written as lobby=join,send")?;
    let permissions: Vec<_> = permissions.split(',').map(str::to_owned).collect();
    match permissions.iter().find(|permission| !PERMISSIONS.contains(&permission.as_str())) {
        Some(unknown) => Err(format!("there is no permission {unknown:?}: they are {}", PERMISSIONS.join(", "))),
        None => Ok((room.to_owned(), permissions)),
    }
}

fn claim(text: &str) -> Result<(String, Value), String> {
    let (name, value) =
        text.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or("a claim is written as name=value")?;
    Ok((name.to_owned(), serde_json::from_str(value).unwrap_or_else(|_| json!(value))))
}

// ---- check ------------------------------------------------------------------------------------------------------

/// Prints the claims of a token that is good; or says why it is not.
fn check(args: &CheckArgs) -> Result<Option<Complaint>, Unable> {
    let keys = checking(&args.key)?;
    let token = match args.token.as_deref() {
        Some(token) if token != "-" => token.to_owned(),
        _ => read_token()?,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime
        .map_err(|error| Complaint::new(format!("failed to start: {error}"), "is the machine out of open files?"))?;
    match runtime.block_on(keys.verify::<Value>(Some(token.trim()))) {
        Ok(verified) => {
            let left = verified.token.expires.saturating_sub(seconds_now());
            let (user, at) = (escape(&verified.token.subject), date(verified.token.expires));
            data(&format!("good: it is of {user:?} and expires in {}, at {at}", length(left)));
            data(&format!("{:#}", verified.claims));
            Ok(None)
        }
        Err(TokenProblem::Unavailable { cause, .. }) => {
            Err(Complaint::new(format!("the token cannot be checked: {}", cause.chain()), "is token.jwks_url right?"))
        }
        Err(problem) => Ok(Some(explain(problem))),
    }
}

fn checking(args: &KeyArgs) -> Result<TokenKeys, Unable> {
    let configured = configured(args)?;
    if let Some(path) = &args.key {
        let read = config::token_key(args.algorithm.into(), &read_key(path)?);
        let key: TokenKey = read.map_err(|complaint| Complaint {
            message: format!("{}: {}", path.display(), complaint.message),
            ..complaint
        })?;
        let keys = TokenKeys::none().key(key);
        return Ok(if let Some(token) = &configured { keys::asking(keys, token) } else { keys });
    }
    let Some(token) = configured else {
        let hint = "give --key with its --algorithm, set SAYWHY_TOKEN_SECRET, or --config with a [token]";
        return Err(Complaint::new("there is no key to check with", hint));
    };
    let (what, hint) = keys::NO_CERTIFICATES;
    let keys = keys::of(&token, None).map_err(|error| Complaint::new(format!("{what}: {error}"), hint))?;
    Ok(keys.0)
}

/// In plain words, and with what to do.
fn explain(problem: TokenProblem) -> Complaint {
    let complaint = |message: String, hint: &str| Complaint::new(message, hint);
    match problem {
        TokenProblem::Missing => {
            complaint("there is no token".to_owned(), "give it as an argument, or on standard input")
        }
        TokenProblem::Expired { at, .. } => {
            let ago = length(seconds_now().saturating_sub(at));
            complaint(
                format!("it expired {ago} ago, at {}", date(at)),
                "get a new one; `exp` is when a token ends, in seconds since 1970",
            )
        }
        TokenProblem::Revoked { .. } => complaint("it was revoked".to_owned(), "get a new one"),
        TokenProblem::Unavailable { cause, .. } => complaint(cause.chain(), "is token.jwks_url right?"),
        TokenProblem::Invalid(fault) => explain_fault(&fault),
    }
}

fn explain_fault(fault: &TokenFault) -> Complaint {
    let shown = |value: &Value| if value.is_null() { "missing".to_owned() } else { value.to_string() };
    let (message, hint) = match fault {
        TokenFault::Malformed(what) => (
            format!("it is malformed: {what}"),
            "a token is three parts of base64url with dots between: was it cut, or wrapped over lines?".to_owned(),
        ),
        TokenFault::Algorithm { found } => (
            format!("its algorithm {found:?} is not allowed: there is no key for it"),
            "a key is for one algorithm only; a [[token.key]] with that `algorithm` adds one".to_owned(),
        ),
        TokenFault::UnknownKey { id } => (
            format!("it names the key {:?}, and there is none", id.as_deref().unwrap_or_default()),
            "a [[token.key]] with that `kid`, or one without, would be tried; is token.jwks_url that of its issuer?"
                .to_owned(),
        ),
        TokenFault::Signature => (
            "it was signed with another key, or changed afterwards".to_owned(),
            "do the one who signs and the one who checks have keys that go together, of the same deployment?"
                .to_owned(),
        ),
        TokenFault::NotYet { from } => (
            format!("it is not good before {}, in {}", date(*from), length(from.saturating_sub(seconds_now()))),
            "`nbf` is when a token begins: does the clock of its issuer go right?".to_owned(),
        ),
        TokenFault::Issuer { found, wanted } => (
            format!("its issuer is {}, wanted {:?}", shown(found), wanted.as_deref().unwrap_or_default()),
            "`iss` of the token and `issuer` of [token] have to be the same, letter by letter".to_owned(),
        ),
        TokenFault::Audience { found, wanted } => (
            format!("its audience is {}, wanted {:?}", shown(found), wanted.as_deref().unwrap_or_default()),
            "`aud` of the token has to contain `audience` of [token]".to_owned(),
        ),
        TokenFault::Claim(claim) => {
            (format!("its claim {claim:?} is missing, or of the wrong kind"), claim_hint(claim).to_owned())
        }
        TokenFault::Claims { line, column } => (
            format!("its claims are not what they have to be, at line {line} column {column}"),
            "claims are an object: `sub` is text, `exp` a number".to_owned(),
        ),
        other => (other.to_string(), "please report it".to_owned()),
    };
    Complaint::new(message, hint)
}

fn claim_hint(claim: &str) -> &'static str {
    match claim {
        "exp" => "`exp` is a number, in seconds since 1970: a token without an end is not taken",
        "sub" => "`sub` is text: the identity that a connection belongs to",
        "aud" => "`audience` of [token] asks for it",
        "iss" => "`issuer` of [token] asks for it",
        _ => "PROTOCOL.md has the claims of a token",
    }
}

// ---- both -------------------------------------------------------------------------------------------------------

/// `[token]` of the configuration, with the secret of the environment on top of it.
fn configured(args: &KeyArgs) -> Result<Option<config::TokenKeys>, Unable> {
    Config::token(args.config.as_deref()).map_err(|failure| {
        let file = args.config.as_deref().unwrap_or(Path::new("")).display();
        let first = failure.render(false);
        let first = first.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
        Complaint::new(first, format!("`saywhy check {file}` has all of it"))
    })
}

fn read_key(path: &Path) -> Result<String, Unable> {
    std::fs::read_to_string(path).map_err(|error| {
        Complaint::new(
            format!("cannot read the key in {}: {error}", path.display()),
            "the path is relative to the current folder",
        )
    })
}

/// Bytes of standard input: more than any token, less than a mistake.
const INPUT_MOST: u64 = 64 * 1024;

fn read_token() -> Result<String, Unable> {
    let mut token = String::new();
    let read = io::stdin().take(INPUT_MOST).read_to_string(&mut token);
    read.map_err(|error| Complaint::new(format!("cannot read standard input: {error}"), "a token is text"))?;
    Ok(token)
}

fn seconds_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn date(seconds: u64) -> String {
    let at = UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).and_then(|at| Timestamp::try_from(at).ok());
    at.map_or_else(|| format!("{seconds} s after 1970"), |at| at.to_string())
}

/// In its largest unit.
fn length(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_rooms_and_claims_are_read_as_they_are_written() {
        let seconds = ["90s", "15m", "1h", "7d", "1h 30m", "-3m"].map(|text| time(text).unwrap());
        assert_eq!(seconds, [90, 900, 3_600, 604_800, 5_400, -180]);
        assert!(time("soon").is_err() && time("5").is_err());
        assert_eq!(room("lobby=join,send").unwrap(), ("lobby".into(), vec!["join".into(), "send".into()]));
        assert!(room("lobby").is_err() && room("lobby=jion").unwrap_err().contains("\"jion\""));
        assert_eq!(claim("n=7").unwrap(), ("n".into(), json!(7)));
        assert_eq!(claim("n=a=b").unwrap(), ("n".into(), json!("a=b")));
        assert!(claim("=x").is_err());
        assert_eq!([0, 59, 60, 3_599, 7_200, 200_000].map(length), ["0 s", "59 s", "1 min", "59 min", "2 h", "2 d"]);
    }
}
