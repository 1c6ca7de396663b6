//! `saywhy check` on every file of `tests/config`, `saywhy schema`, and the documentation made from it.
//!
//! `UPDATE=1 cargo test -p saywhy-cli --test check` writes down what is said now; then read the difference.

use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The configuration that the project promises, word for word.
const EXAMPLE: &str = r#"listen = "127.0.0.1:8080"
[[route]]
path = "/ws"                 # longest prefix wins
rooms = {}                   # or: upstream = "ws://127.0.0.1:9000"
origins = ["https://app.example"]
refuse = "auto"              # auto | close | http
dialect = "app"              # app | iana | policy | http | graphql-ws | a [[dialect]] of one's own
[[error]]                    # a row of one's own
name = "room_full"
code = 4100
http = 409
retry = "backoff"
message = "The room is full"
"#;

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

fn cases() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config")
}

/// Runs the binary where the cases are, without anything from the environment of the test.
fn saywhy(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_saywhy"));
    command.args(arguments).current_dir(cases()).env_clear().output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Compares with a file, or writes it when told to. An empty text has no file.
fn assert_same(path: &Path, text: &str) {
    let there = std::fs::read_to_string(path).unwrap_or_default();
    if there == text {
        return;
    }
    assert!(
        std::env::var_os("UPDATE").is_some(),
        "{} is not what is said now:\n{text}\nhint: UPDATE=1",
        path.display()
    );
    if text.is_empty() { std::fs::remove_file(path).unwrap() } else { std::fs::write(path, text).unwrap() }
}

fn names() -> Vec<String> {
    let files = std::fs::read_dir(cases()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    files.filter_map(|name| name.strip_suffix(".toml").map(str::to_owned)).collect()
}

#[test]
fn every_case_is_answered_as_written_down() {
    assert!(names().len() >= 25);
    for name in names() {
        let output = saywhy(&["check", &format!("{name}.toml")]);
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        assert_same(&cases().join(format!("{name}.stdout")), &stdout);
        assert_same(&cases().join(format!("{name}.stderr")), &stderr);
        assert_eq!(output.status.code(), Some(if stdout.is_empty() { 1 } else { 0 }), "{name}");
        // A failure ends with a hint, and nothing of the file reaches the terminal unescaped.
        let complaints = stderr.matches(" error: ").count() + stderr.matches("warning: ").count();
        assert_eq!(
            complaints,
            stderr
                .matches(
                    "
hint: "
                )
                .count(),
            "{name}: {stderr}"
        );
        assert!(!stderr.contains(|c: char| c.is_control() && c != '\n' || c == '\u{202e}'), "{name}: {stderr}");
        assert!(!stderr.contains("hunter") && !stderr.contains("correct horse"), "{name} shows a secret: {stderr}");
    }
}

#[test]
fn no_answer_is_left_over() {
    let names: BTreeSet<_> = names().into_iter().collect();
    for entry in std::fs::read_dir(cases()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        assert!(path.is_dir() || names.contains(&name), "{} belongs to no case", path.display());
    }
}

#[test]
fn the_example_of_the_project_is_right_word_for_word() {
    assert_eq!(std::fs::read_to_string(cases().join("example.toml")).unwrap(), EXAMPLE);
    let output = saywhy(&["check", "example.toml"]);
    assert_eq!(text(&output.stdout), "example.toml: ok, 1 route, 1 error of your own\n");
    assert!(output.stderr.is_empty());
}

#[test]
fn every_key_of_the_schema_stands_in_the_case_that_has_them_all() {
    let whole = std::fs::read_to_string(cases().join("whole.toml")).unwrap();
    for (table, key, _) in keys(&schema()) {
        // Two exclude each other, and the upstream has a case of its own.
        let elsewhere = ["hs256_secret", "upstream"].contains(&key.as_str());
        let there = whole.contains(&format!("{key} = ")) || whole.contains(&format!("{key}]"));
        assert!(elsewhere || there, "`{key}` of {table} is not in whole.toml");
    }
}

#[test]
fn exit_codes_and_json_are_as_documented() {
    let missing = saywhy(&["check", "no-such-file.toml"]);
    assert_eq!(missing.status.code(), Some(2));
    assert!(text(&missing.stderr).starts_with("error: cannot read no-such-file.toml: "), "{}", text(&missing.stderr));
    assert!(text(&missing.stderr).contains("\nhint: "));
    assert_eq!(saywhy(&["check", "--no-such-flag"]).status.code(), Some(2));

    let json = |name: &str| {
        let output = saywhy(&["check", "--json", name]);
        assert!(output.stderr.is_empty());
        (output.status.code(), serde_json::from_slice::<Value>(&output.stdout).unwrap())
    };
    let (code, good) = json("example.toml");
    assert_eq!((code, &good["ok"], good["problems"].as_array().map(Vec::len)), (Some(0), &Value::Bool(true), Some(0)));
    let (code, bad) = json("unknown_keys.toml");
    assert_eq!((code, &bad["ok"]), (Some(1), &Value::Bool(false)));
    let first = serde_json::json!({
        "line": 1, "column": 1, "end_line": 1, "end_column": 7,
        "message": "the file has no key `lissen`", "hint": "did you mean `listen`?",
    });
    assert_eq!(bad["problems"][0], first);
    let (code, warned) = json("public.toml");
    assert_eq!((code, warned["warnings"].as_array().map(Vec::len)), (Some(0), Some(1)));
    assert_eq!(json("no-such-file.toml").0, Some(2));
}

#[test]
fn a_flag_is_above_the_environment_and_the_environment_above_the_file() {
    // Addresses that others can reach, so that nothing starts and each is named in the refusal.
    let serve = |variables: &[(&str, &str)], arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_saywhy"));
        let command = command.arg("serve").args(arguments).current_dir(cases()).env_clear();
        let output = command.envs(variables.iter().copied()).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        text(&output.stderr)
    };
    let (file, variable) = (["--config", "public.toml"], ("SAYWHY_LISTEN", "0.0.0.0:1"));
    assert!(serve(&[], &file).starts_with("error: 0.0.0.0:8080 can be reached"), "the file");
    assert!(serve(&[variable], &file).starts_with("error: 0.0.0.0:1 can be reached"), "the environment");
    let flag = [&file[..], &["--listen", "0.0.0.0:2"]].concat();
    assert!(serve(&[variable], &flag).starts_with("error: 0.0.0.0:2 can be reached"), "the flag");
    let short = serve(&[("SAYWHY_TOKEN_SECRET", "hunter2")], &[]);
    assert!(short.starts_with("error: SAYWHY_TOKEN_SECRET: the secret has 7 characters"), "{short}");
    assert!(serve(&[("SAYWHY_REFUSE", "politely")], &[]).contains("auto, close, http"));
}

#[test]
fn the_checked_in_schema_is_not_stale() {
    assert_same(&project("docs/saywhy.schema.json"), &text(&saywhy(&["schema"]).stdout));
}

#[test]
fn what_a_client_sees_is_a_row_of_the_catalogue() {
    let catalogue = saywhy_codes::Catalogue::builtin();
    for (table, key, schema) in keys(&schema()) {
        if let Some(row) = schema["x-client-sees"].as_str() {
            assert!(catalogue.by_name(row).is_some(), "`{key}` of {table} ends in {row}, which is no row");
        }
    }
}

#[test]
fn the_documentation_has_every_key() {
    let path = project("docs/config.md");
    let there = std::fs::read_to_string(&path).unwrap();
    let (start, end) = ("<!-- keys: made from the schema -->\n", "<!-- /keys -->\n");
    let (before, rest) = there.split_once(start).expect("docs/config.md has no place for the keys");
    let (_, after) = rest.split_once(end).expect("the place for the keys has no end");
    assert_same(&path, &format!("{before}{start}{}{end}{after}", tables(&schema())));
    let there = std::fs::read_to_string(&path).unwrap();
    for (table, key, _) in keys(&schema()) {
        assert!(there.contains(&format!("`{key}`")), "`{key}` of {table} is not in docs/config.md");
    }
}

#[test]
fn what_the_documentation_shows_is_what_happens() {
    let docs = std::fs::read_to_string(project("docs/config.md")).unwrap();
    let blocks = |language: &str| {
        let start = format!("```{language}\n");
        let blocks: Vec<_> =
            docs.split(&start).skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect();
        blocks
    };
    let check = |toml: &str| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        std::fs::write(folder.join("saywhy.toml"), toml).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_saywhy"));
        command.args(["check", "saywhy.toml"]).current_dir(folder).env_clear().output().unwrap()
    };
    assert_eq!(blocks("toml")[0], EXAMPLE);
    assert!(blocks("toml").iter().all(|toml| check(toml).status.success()));
    let wrong = check(&EXAMPLE.replace("origins", "orgins"));
    assert_eq!(blocks("console"), [format!("$ saywhy check saywhy.toml\n{}", text(&wrong.stderr))]);
}

fn schema() -> Value {
    serde_json::from_slice(&saywhy(&["schema"]).stdout).unwrap()
}

/// The tables in the order in which one meets them.
const TABLES: [&str; 17] = [
    "",
    "[tls]",
    "[proxies]",
    "[token]",
    "[[token.key]]",
    "[api]",
    "[limits]",
    "[drain]",
    "[log]",
    "[[route]]",
    "[route.rooms]",
    "[route.rooms.history]",
    "[route.compression]",
    "[route.check]",
    "[route.relay]",
    "[[error]]",
    "[[dialect]]",
];

/// Every key as (header of its table, name, schema). The limits of a route are in `[limits]`.
fn keys(schema: &Value) -> Vec<(String, String, Value)> {
    fn collect(header: &str, schema: &Value, keys: &mut Vec<(String, String, Value)>) {
        for (key, schema) in schema["properties"].as_object().into_iter().flatten() {
            keys.push((header.to_owned(), key.clone(), schema.clone()));
            let path = format!("{}.{key}", header.trim_matches(['[', ']']));
            let path = path.trim_start_matches('.');
            match schema["type"].as_str() {
                _ if path == "route.limits" => {}
                Some("array") => collect(&format!("[[{path}]]"), &schema["items"], keys),
                _ => collect(&format!("[{path}]"), schema, keys),
            }
        }
    }
    let mut all = Vec::new();
    collect("", schema, &mut all);
    assert!(all.iter().all(|(header, ..)| TABLES.contains(&header.as_str())), "a table is missing in TABLES");
    all
}

/// The tables of the documentation.
fn tables(schema: &Value) -> String {
    let mut out = String::new();
    for table in TABLES {
        let title = if table.is_empty() { "At the top of the file".to_owned() } else { format!("`{table}`") };
        let _ = writeln!(
            out,
            "\n### {title}\n\n| key | meaning | takes | default | a client sees |\n|---|---|---|---|---|"
        );
        for (_, key, schema) in keys(schema).into_iter().filter(|(header, ..)| header == table) {
            let meaning = schema["description"].as_str().unwrap_or_else(|| panic!("`{key}` of {table} has no meaning"));
            let row = schema["x-client-sees"].as_str();
            let sees = row.map_or(String::new(), |row| format!("[`{row}`](../catalogue/{row}.md)"));
            let _ = writeln!(out, "| `{key}` | {meaning} | {} | {} | {sees} |", takes(&key, &schema), default(&schema));
        }
    }
    out.push('\n');
    out
}

fn takes(key: &str, schema: &Value) -> String {
    let described = schema["oneOf"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|word| Some(format!("`{}`: {}", word["const"].as_str()?, word["description"].as_str()?)));
    let words =
        schema["enum"].as_array().into_iter().flatten().filter_map(|word| Some(format!("`{}`", word.as_str()?)));
    let words: Vec<_> = words.chain(described).collect();
    if !words.is_empty() {
        return words.join("<br>");
    }
    match schema["type"].as_str().unwrap_or_default() {
        "integer" => {
            let (min, max) = (schema["minimum"].as_i64().unwrap(), schema["maximum"].as_i64().unwrap());
            let unit = match key.rsplit('_').next().unwrap() {
                "ms" => " ms",
                "bytes" => " bytes",
                _ => "",
            };
            format!("{min} to {max}{unit}")
        }
        "boolean" => "`true` or `false`".to_owned(),
        "array" if schema["items"]["type"] == "object" => "tables".to_owned(),
        "array" => format!("list of {}", format(&schema["items"])),
        "object" => "a table".to_owned(),
        _ => match schema["minLength"].as_u64() {
            Some(least @ 2..) => format!("text of {least} characters or more"),
            _ => format(schema).to_owned(),
        },
    }
}

fn format(schema: &Value) -> &'static str {
    match schema["format"].as_str() {
        Some("socket-address") => "IP address and port",
        Some("origin") => "`scheme://host[:port]`",
        Some("network") => "networks, such as `10.0.0.0/8`",
        Some("path") => "path",
        Some("jwks-url") => "`https://` URL",
        Some("http-url") => "`http://` or `https://` URL",
        Some("upstream") => "`ws://` or `wss://` URL",
        Some("room") => "names",
        Some("dialect-name") => "1 to 64 of `a-z0-9-_`",
        Some("public-text") | None => "text",
        Some(other) => panic!("nothing says what {other} is"),
    }
}

fn default(schema: &Value) -> String {
    if schema["default"].is_null() { "–".to_owned() } else { format!("`{}`", schema["default"]) }
}
