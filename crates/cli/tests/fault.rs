//! `saywhy fault --list`, and the table of `docs/faults.md` made from it.
//!
//! `UPDATE=1 cargo test -p saywhy-cli --test fault` writes down what is said now; then read the difference.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

fn list(arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_saywhy"));
    let output = command.args(["fault", "--list"]).args(arguments).env_clear().output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty());
    String::from_utf8(output.stdout).unwrap()
}

fn entries() -> Vec<Value> {
    serde_json::from_str(&list(&["--json"])).unwrap()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap()
}

fn document() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/faults.md")
}

const KINDS: [(&str, &str); 4] = [
    ("handshake", "The handshake"),
    ("pace", "How fast bytes pass"),
    ("moment", "One moment"),
    ("frames", "Frames as they pass"),
];

fn table() -> String {
    let cell = |text: &str| text.replace('|', "\\|");
    let mut out = String::new();
    for (kind, title) in KINDS {
        out += &format!(
            "\n**{title}**\n\n| fault | | example | Chromium | Firefox | Node `ws` |\n|---|---|---|---|---|---|\n"
        );
        for entry in entries().iter().filter(|entry| text(entry, "kind") == kind) {
            for (at, example) in entry["examples"].as_array().unwrap().iter().enumerate() {
                let name = format!("`{}{}`", text(entry, "name"), text(entry, "value"));
                let (name, about) =
                    if at == 0 { (cell(&name), cell(text(entry, "about"))) } else { Default::default() };
                let [chromium, firefox, ws] =
                    ["chromium", "firefox", "ws"].map(|client| text(&example["seen"], client));
                let fault = cell(text(example, "fault"));
                out += &format!("| {name} | {about} | `{fault}` | {chromium} | {firefox} | {ws} |\n");
            }
        }
    }
    out
}

#[test]
fn the_document_has_the_table_as_it_is_now() {
    let there = std::fs::read_to_string(document()).unwrap();
    let (before, rest) = there.split_once("`just generate` -->\n").unwrap();
    let (_, after) = rest.split_once("<!-- /faults -->").unwrap();
    let now = format!("{before}`just generate` -->\n{}\n<!-- /faults -->{after}", table());
    if now != there {
        assert!(std::env::var_os("UPDATE").is_some(), "docs/faults.md is not what is listed now\nhint: UPDATE=1");
        std::fs::write(document(), now).unwrap();
    }
}

#[test]
fn the_list_has_every_fault_and_what_is_seen_of_it() {
    let shown = list(&[]);
    let entries = entries();
    assert!(entries.len() >= 20);
    for entry in &entries {
        assert!(shown.contains(&format!("\n{}{}\n", text(entry, "name"), text(entry, "value"))), "{entry}");
        for example in entry["examples"].as_array().unwrap() {
            assert!(shown.contains(&format!("    {}", text(example, "fault"))), "{example}");
        }
    }
    let widest = shown.lines().map(|line| line.chars().count()).max();
    assert!(widest <= Some(120), "{widest:?}");
}

/// Every fault that is listed belongs to a part of the table.
#[test]
fn no_kind_is_forgotten() {
    for entry in entries() {
        assert!(KINDS.iter().any(|(kind, _)| *kind == text(&entry, "kind")), "{entry}");
    }
}
