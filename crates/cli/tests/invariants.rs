//! What is deliberately absent from the sources. ARCHITECTURE.md lists these; here they are held.

use std::fs;
use std::path::{Path, PathBuf};

fn crates() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The code of each source file of a crate: without comments, and up to its tests, which stand last.
fn sources(name: &str) -> Vec<(PathBuf, String)> {
    let mut folders = vec![crates().join(name).join("src")];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path, code(&text)));
            }
        }
    }
    assert!(!found.is_empty(), "no sources in {name}");
    found
}

fn code(text: &str) -> String {
    let before_tests = text.split("#[cfg(test)]").next().unwrap_or_default();
    before_tests.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// Numbers that look like a close code: 1000–1015, 3000–4999, 5000. Digits with `_` are sizes and times.
fn close_codes(code: &str) -> Vec<&str> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
    let numbers = code.split(|c: char| !word(c)).filter(|number| number.len() == 4);
    numbers.filter(|number| number.parse().is_ok_and(|n: u16| matches!(n, 1000..=1015 | 3000..=5000))).collect()
}

/// The code without its texts. `probe` has codes in many: what clients see of a fault, what an example looks like.
fn without_texts(code: &str) -> String {
    code.replace("'\"'", "").replace("\\\"", "").split('"').step_by(2).collect()
}

fn assert_absent(crate_names: &[&str], words: &[&str], but: &[&str], why: &str) {
    for name in crate_names {
        for (path, code) in sources(name) {
            let file = path.file_name().unwrap().to_str().unwrap();
            for word in words {
                assert!(but.contains(&file) || !code.contains(word), "{}: `{word}`: {why}", path.display());
            }
        }
    }
}

const ALL: [&str; 8] = ["codes", "proto", "server", "rooms", "gateway", "client", "probe", "cli"];

#[test]
fn codes_depends_on_nothing() {
    let manifest = fs::read_to_string(crates().join("codes/Cargo.toml")).unwrap();
    assert!(!manifest.lines().any(|line| line.trim() == "[dependencies]"), "crates/codes has dependencies");
}

#[test]
fn proto_reads_no_clock_no_randomness_and_no_socket() {
    let absent = ["Instant::now", "SystemTime", "rand::", "tokio", "std::net", "std::thread"];
    assert_absent(&["proto"], &absent, &[], "`now`, randomness and bytes are parameters");
}

#[test]
fn close_codes_are_named_only_in_the_catalogue_s_crate() {
    for name in ["proto", "server", "rooms", "gateway", "client"] {
        for (path, code) in sources(name) {
            let found = close_codes(&code);
            assert!(found.is_empty(), "{}: {found:?}: use the names of saywhy-codes", path.display());
        }
    }
}

#[test]
fn what_breaks_connections_takes_its_codes_from_there_too() {
    for (path, code) in sources("probe") {
        let found = close_codes(&without_texts(&code)).into_iter().map(str::to_owned).collect::<Vec<_>>();
        assert!(found.is_empty(), "{}: {found:?}: use the names of saywhy-codes", path.display());
    }
}

#[test]
fn one_file_makes_closes_and_one_makes_refusals() {
    let closes = ["CloseFrame {", "write_close"];
    assert_absent(
        &["server", "rooms", "gateway", "cli"],
        &closes,
        &["closing.rs", "testing.rs"],
        "only closing.rs makes a Close",
    );
    let refusals = ["from_static(\"application/problem+json", "RETRY_AFTER"];
    assert_absent(
        &["server", "rooms", "gateway", "cli"],
        &refusals,
        &["refusal.rs"],
        "only refusal.rs makes a refusing response",
    );
}

#[test]
fn a_room_awaits_nobody() {
    let (_, room) = sources("rooms").into_iter().find(|(path, _)| path.ends_with("room.rs")).unwrap();
    assert!(!room.contains(".await") && !room.contains("async "), "a room waits for no member");
}

#[test]
fn nothing_is_unsafe_or_unfinished() {
    assert_absent(&ALL, &["unsafe {", "todo!(", "unimplemented!("], &[], "not in this house");
}

/// The checks above can fail.
#[test]
fn the_checks_see_what_they_look_for() {
    let text = "let a = 4003; // 4004\n    // 4005\nlet b = 1_000 + 2000 + 10061;\n#[cfg(test)]\nmod tests { 4006 }";
    assert_eq!(close_codes(&code(text)), ["4003", "4004"]);
    assert_eq!(close_codes(&without_texts("a(4003, \"4004 \\\" 4005\", '\"', 4006)")), ["4003", "4006"]);
    let caught = std::panic::catch_unwind(|| assert_absent(&["proto"], &["fn receive"], &[], "it is there"));
    assert!(caught.is_err());
}
