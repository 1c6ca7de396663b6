//! `saywhy explain` on texts as programs print them, and the documentation that shows it.
//!
//! `UPDATE=1 cargo test -p saywhy-cli --test explain` writes down what is said now; then read the difference.

use serde::Deserialize;
use serde_json::{Value, json};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

#[derive(Deserialize)]
struct Corpus {
    text: Vec<Text>,
    nothing: Vec<Nothing>,
}

/// What a program prints, and what has to be found.
#[derive(Deserialize)]
struct Text {
    from: String,
    text: String,
    finds: String,
    number: Option<u16>,
}

/// What nobody knows.
#[derive(Deserialize)]
struct Nothing {
    text: String,
}

fn corpus() -> Corpus {
    toml::from_str(include_str!("explain/corpus.toml")).unwrap()
}

fn saywhy(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_saywhy")).args(arguments).env_clear().output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// What is said to a person, with exit code 0 and nothing on standard error.
fn said(arguments: &[&str]) -> String {
    let output = saywhy(arguments);
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()), "{arguments:?}");
    text(&output.stdout)
}

fn explained(what: &str) -> Value {
    let output = saywhy(&["explain", "--json", "--", what]);
    assert!(output.stderr.is_empty(), "{what}: {}", text(&output.stderr));
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(if answer["found"] == true { 0 } else { 1 }), "{what}");
    answer
}

fn name(found: &Value) -> String {
    format!("{}/{}", found["dialect"].as_str().unwrap_or("-"), found["name"].as_str().unwrap_or("-"))
}

/// `dialect/name` of what was found first.
fn first(answer: &Value) -> String {
    name(&answer["matches"][0])
}

fn names(found: &Value) -> Vec<String> {
    found.as_array().unwrap().iter().map(name).collect()
}

#[test]
fn what_programs_print_is_found() {
    let corpus = corpus();
    assert!(corpus.text.len() >= 120 && corpus.text.iter().all(|text| !text.from.is_empty()));
    let mut wrong = Vec::new();
    for Text { text, finds, number, .. } in corpus.text {
        let answer = explained(&text);
        let code = answer["matches"][0]["code"].as_u64();
        if first(&answer) != finds || number.is_some_and(|number| code != Some(number.into())) {
            wrong.push(format!("{text}\n   wanted {finds} {number:?}, found {} {code:?}", first(&answer)));
        }
        if number.is_some() {
            assert!(!answer["number"].as_array().unwrap().is_empty(), "{text}: the number is not explained");
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_nobody_knows_is_not_found() {
    let texts = corpus().nothing;
    assert!(texts.len() >= 20);
    for Nothing { text } in texts {
        let answer = explained(&text);
        assert_eq!(first(&answer), "-/-", "{text}");
        assert_eq!(answer["nearest"].as_array().map(Vec::len), Some(3), "{text}");
    }
}

#[test]
fn it_is_lenient_about_how_one_asks() {
    for way in [
        "1006",
        " 1006 ",
        "\"1006\"",
        "code 1006",
        "Close Code: 1006",
        "close-code=1006",
        "abnormal closure",
        "AbnormalClosure",
    ] {
        assert_eq!(first(&explained(way)), "websocket/abnormal_closure", "{way}");
    }
    for way in ["rate_limited", "Rate-Limited", "rateLimited", "RATE LIMITED", "'rate_limited'"] {
        assert_eq!(first(&explained(way)), "saywhy/rate_limited", "{way}");
    }
    let (joined, apart) =
        ("websocket: close 1006 unexpected EOF", ["websocket:", "close", "1006", "unexpected", "EOF"]);
    assert_eq!(said(&["explain", joined]), said(&[&["explain"], &apart[..]].concat()));
}

#[test]
fn a_number_is_told_for_all_who_have_it_and_ours_come_first() {
    let all = [
        "saywhy/not_found",
        "pusher/application_does_not_exist",
        "discord/unknown_opcode",
        "twitch/client_sent_inbound_traffic",
        "centrifugo/custom_reconnect_range",
    ];
    assert_eq!(names(&explained("4001")["matches"]), all);
    assert_eq!(
        names(&explained("1001")["matches"]),
        ["websocket/going_away", "saywhy/going_away", "cloudflare/dns_resolution_error", "aws/api_gateway_limits"]
    );
    // Ours in another dialect of ours, and as an HTTP status.
    let unauthorized = &explained("4401")["matches"][0];
    assert_eq!(
        (name(unauthorized), &unauthorized["note"]),
        ("saywhy/unauthorized".to_owned(), &json!("on a route with the dialect http or graphql-ws"))
    );
    assert_eq!(names(&explained("530")["matches"]), ["cloudflare/origin_error", "saywhy/internal_error"]);
    assert_eq!(names(&explained("418")["matches"]), ["saywhy/bad_request"]);
    // What nobody has registered belongs to a range.
    assert_eq!(first(&explained("4321")), "websocket/private_range");
    assert_eq!(first(&explained("2000")), "websocket/not_a_close_code");
    assert!(said(&["explain", "4004", "--dialect", "discord"]).starts_with("4004: The bot's token is wrong"));
    assert!(said(&["explain", "4004", "--dialect", "discord.js"]).starts_with("4004: The bot's token is wrong"));
}

#[test]
fn every_row_of_the_catalogue_is_explained_by_its_page() {
    for row in saywhy_codes::Catalogue::builtin().rows() {
        let found = &explained(row.name)["matches"][0];
        let said = (name(found), &found["why"][0], &found["do"][0], &found["seen"]);
        let page = &row.page;
        assert_eq!(
            said,
            (format!("saywhy/{row}"), &json!(page.why), &json!(page.what_to_do), &json!(page.what_you_see))
        );
    }
}

#[test]
fn json_has_the_fields_that_are_documented_and_no_others() {
    let docs = include_str!("../../../docs/explain.md");
    let (_, docs) = docs.split_once("## For programs").unwrap();
    let (table, prose) = docs.split_once("Each match has").unwrap();
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let answer = explained("websocket: close 4403: bye");
    assert_eq!(keys(&answer), ["by", "found", "matches", "number", "query"]);
    assert!(keys(&answer).iter().all(|key| table.contains(&format!("\n| `{key}` |"))), "{table}");
    let fields =
        ["blame", "code", "codes", "dialect", "do", "meaning", "name", "note", "seen", "source", "title", "why"];
    for found in [&answer["matches"][0], &answer["number"][0]] {
        assert_eq!(keys(found), fields);
        assert!(fields.iter().all(|field| prose.contains(&format!("`{field}`"))), "{prose}");
    }
    assert_eq!(keys(&explained("turnips")), ["found", "nearest", "query"]);
}

#[test]
fn exit_codes_and_complaints_are_as_documented() {
    let unknown = saywhy(&["explain", "rate_limitet"]);
    assert_eq!((unknown.status.code(), text(&unknown.stdout)), (Some(1), String::new()));
    let words = "error: nothing is known of \"rate_limitet\"\nhint: did you mean `rate_limited` (saywhy), ";
    assert!(text(&unknown.stderr).starts_with(words), "{}", text(&unknown.stderr));

    let other = saywhy(&["explain", "4321", "--dialect", "twitch"]);
    assert_eq!(other.status.code(), Some(1));
    assert!(text(&other.stderr).starts_with("error: nothing of twitch is known of \"4321\"\n"));

    for arguments in [&["explain"][..], &["explain", " "], &["explain", "1006", "--dialect", "tiwtch"]] {
        let usage = saywhy(arguments);
        assert_eq!((usage.status.code(), text(&usage.stdout)), (Some(2), String::new()), "{arguments:?}");
        assert!(!usage.stderr.is_empty());
    }
    // Nothing of a question reaches the terminal unescaped.
    let hostile = saywhy(&["explain", "\u{1b}[2J\u{202e}turnip"]);
    assert!(!text(&hostile.stderr).contains(['\u{1b}', '\u{202e}']), "{}", text(&hostile.stderr));
}

#[test]
fn standard_input_is_read_and_not_for_ever() {
    let ask = |question: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_saywhy"));
        let command = command.args(["explain", "-"]).env_clear().stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        // It may have ended without reading any of it.
        let _ = child.stdin.take().unwrap().write_all(question.as_bytes());
        child.wait_with_output().unwrap()
    };
    assert_eq!(text(&ask("websocket: bad handshake\n").stdout), said(&["explain", "websocket: bad handshake"]));
    assert_eq!(ask("").status.code(), Some(2));
    assert_eq!(ask(&"turnips é ".repeat(100_000)).status.code(), Some(1));
}

#[test]
fn an_answer_fits_a_terminal() {
    for what in ["1006", "4003", "403", "cD", "unauthorized", "Error: Unexpected server response: 403"] {
        for line in said(&["explain", what]).lines() {
            assert!(line.chars().count() <= 80, "{what}: {line}");
        }
    }
}

#[test]
fn everything_is_listed() {
    let all = said(&["explain", "--list"]);
    assert!(all.lines().count() >= 28 && all.starts_with("saywhy "), "{all}");
    for line in all.lines() {
        let (name, rest) = line.split_once(' ').unwrap();
        let entries: usize = rest.split_whitespace().next().unwrap().parse().unwrap();
        let listed = said(&["explain", "--list", "--dialect", name]);
        let headings = listed.lines().filter(|line| !line.starts_with(' ')).count();
        assert_eq!(headings, entries, "{name}: {listed}");
    }
}

#[test]
fn shells_complete_every_command_and_dialect() {
    for shell in ["bash", "zsh", "fish"] {
        let script = said(&["completions", shell]);
        for word in ["serve", "check", "token", "connect", "explain", "completions", "dialect", "centrifugo"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
    assert_eq!(saywhy(&["completions", "cmd.exe"]).status.code(), Some(2));
    let mut bash = Command::new("bash").arg("-n").stdin(Stdio::piped()).spawn().unwrap();
    bash.stdin.take().unwrap().write_all(said(&["completions", "bash"]).as_bytes()).unwrap();
    assert!(bash.wait().unwrap().success());
}

#[test]
fn the_documentation_shows_what_is_said() {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/explain.md");
    let there = std::fs::read_to_string(&path).unwrap();
    let start = "```console\n$ saywhy ";
    let mut parts = there.split(start);
    let mut now = parts.next().unwrap().to_owned();
    let mut shown = 0;
    for part in parts {
        let (command, rest) = part.split_once('\n').unwrap();
        let (_, after) = rest.split_once("```").unwrap();
        let quoted = command.split_once('"').map(|(before, quoted)| (before.trim(), quoted.trim_end_matches('"')));
        let arguments: Vec<&str> = match quoted {
            Some((before, quoted)) => before.split(' ').chain([quoted]).collect(),
            None => command.split(' ').collect(),
        };
        now.push_str(&format!("{start}{command}\n{}```{after}", said(&arguments)));
        shown += 1;
    }
    assert_eq!(shown, 3);
    let (open, close) = ("<!-- dialects: made by the command -->\n", "<!-- /dialects -->");
    let (before, rest) = now.split_once(open).unwrap();
    let (_, after) = rest.split_once(close).unwrap();
    let now = format!("{before}{open}\n```text\n{}```\n\n{close}{after}", said(&["explain", "--list"]));
    if now != there {
        assert!(std::env::var_os("UPDATE").is_some(), "docs/explain.md is not what is said now\nhint: UPDATE=1");
        std::fs::write(&path, now).unwrap();
    }
}
