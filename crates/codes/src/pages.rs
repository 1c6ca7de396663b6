//! The catalogue as files: `catalogue.json`, and one Markdown page per row.

use crate::catalogue::{BUILTIN, Catalogue, ErrorCode};
use crate::close::{SentBy, registry};
use crate::dialect::Dialect;
use crate::retry::Retry;
use std::fmt::Write;

/// The files that stand in `catalogue/`, as (file name, contents).
pub fn files() -> Vec<(String, String)> {
    let mut files = vec![("catalogue.json".to_owned(), json(&Catalogue::builtin())), ("README.md".to_owned(), index())];
    files.extend(BUILTIN.iter().map(|row| (format!("{row}.md"), page(*row))));
    files
}

/// The catalogue and the registry of close codes as JSON, for tools and other languages.
pub fn json(catalogue: &Catalogue) -> String {
    let mut out = String::from("{\n  \"rows\": [\n");
    let rows: Vec<_> = catalogue.rows().map(row_json).collect();
    out.push_str(&rows.join(",\n"));
    out.push_str("\n  ],\n  \"close_codes\": [\n");
    let codes: Vec<_> = registry().iter().map(registration_json).collect();
    out.push_str(&codes.join(",\n"));
    out.push_str("\n  ]\n}\n");
    out
}

fn row_json(row: ErrorCode) -> String {
    let mut close = Vec::new();
    for dialect in Dialect::BUILTIN {
        let code = dialect.row_close_code(row).map_or("null".to_owned(), |code| code.to_string());
        close.push(format!("{}: {code}", quote(dialect.name())));
    }
    let mut retry = format!("\"retry\": {}", quote(row.retry.as_str()));
    if let Retry::After { delay, spread } = row.retry {
        let _ = write!(retry, ", \"retry_after_ms\": {}, \"spread_ms\": {}", delay.as_millis(), spread.as_millis());
    }
    format!(
        "    {{ \"name\": {}, \"code\": {}, \"http\": {}, \"fatal\": {}, {retry},\n      \"message\": {},\n      \"close\": {{ {} }},\n      \
         \"what_to_do\": {},\n      \"why\": {},\n      \"what_you_see\": {} }}",
        quote(row.name),
        row.code,
        row.http,
        row.fatal,
        quote(row.message),
        close.join(", "),
        quote(row.page.what_to_do),
        quote(row.page.why),
        quote(row.page.what_you_see),
    )
}

fn registration_json(row: &crate::Registration) -> String {
    let sent_by = match row.sent_by {
        SentBy::Both => "both",
        SentBy::Clients => "clients",
        SentBy::Nobody => "nobody",
    };
    let http = row.http.map_or("null".to_owned(), |status| status.to_string());
    format!(
        "    {{ \"first\": {}, \"last\": {}, \"name\": {}, \"reserved\": {}, \"sent_by\": {}, \"http\": {http}, \"meaning\": {} }}",
        row.first,
        row.last,
        row.name.map_or("null".to_owned(), quote),
        row.reserved,
        quote(sent_by),
        quote(row.meaning),
    )
}

/// The prose of the catalogue is ASCII without control characters, so two escapes are enough (tested below).
fn quote(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn index() -> String {
    let mut out = String::from(
        "# The catalogue\n\nEvery error that a Saywhy server sends. Generated from `crates/codes`; `just generate` makes it anew.\n\n\
         | name | `data.code` | HTTP | Close `app` | `iana` | `policy` | `http` | `graphql-ws` | retry | fatal |\n\
         |---|--:|--:|--:|--:|--:|--:|--:|---|---|\n",
    );
    for row in BUILTIN {
        let _ = write!(out, "| [`{row}`]({row}.md) | {} | {} |", row.code, row.http);
        for dialect in Dialect::BUILTIN {
            let _ = write!(out, " {} |", dialect.row_close_code(*row).map_or("–".to_owned(), |code| code.to_string()));
        }
        let _ = writeln!(out, " {} | {} |", row.retry, fatal(*row));
    }
    out.push_str(
        "\n## The number space of close codes\n\n| code | name | who may send it | HTTP | meaning |\n|---|---|---|--:|---|\n",
    );
    for row in registry() {
        let code = if row.first == row.last { row.first.to_string() } else { format!("{}–{}", row.first, row.last) };
        let sent_by = match row.sent_by {
            SentBy::Both => "both ends",
            SentBy::Clients => "clients",
            SentBy::Nobody => "nobody",
        };
        let http = row.http.map_or("–".to_owned(), |status| status.to_string());
        let _ = writeln!(out, "| {code} | {} | {sent_by} | {http} | {} |", row.name.unwrap_or("–"), row.meaning);
    }
    out
}

fn fatal(row: ErrorCode) -> &'static str {
    if row.code > 4999 {
        "the handler decides"
    } else if row.fatal {
        "yes"
    } else {
        "no"
    }
}

/// The page of one row.
pub fn page(row: ErrorCode) -> String {
    let mut out = format!(
        "# `{row}`\n\n> {}\n\n| `data.code` | HTTP | retry | ends the session |\n|--:|--:|---|---|\n| {} | {} | {} | {} |\n\n",
        row.message,
        row.code,
        row.http,
        row.retry,
        fatal(row)
    );
    let _ = write!(
        out,
        "## What you should do\n{}\n\n## Why it happens\n{}\n\n## What you will see\n{}\n\n",
        row.page.what_to_do, row.page.why, row.page.what_you_see
    );
    let hints = match row.retry {
        Retry::After { delay, spread } => {
            format!(",\"retry_after_ms\":{},\"spread_ms\":{}", delay.as_millis(), spread.as_millis())
        }
        Retry::Never | Retry::Now | Retry::Backoff | Retry::Reauthenticate => String::new(),
    };
    let _ = write!(
        out,
        "```json\n{{\"type\":\"error\",\n \"data\":{{\"code\":{},\"message\":{},\"name\":\"{row}\",\"fatal\":{},\"retry\":\"{}\"{hints}}},\n \
         \"meta\":{{\"request_id\":\"abc-123\",\"timestamp\":\"2025-08-04T12:00:00Z\"}}}}\n```\n\n",
        row.code,
        quote(row.message),
        row.fatal,
        row.retry
    );
    out.push_str("| dialect | Close |\n|---|--:|\n");
    for dialect in Dialect::BUILTIN {
        let code = dialect.row_close_code(row).map_or("–".to_owned(), |code| code.to_string());
        let _ = writeln!(out, "| `{}` | {code} |", dialect.name());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prose_needs_no_other_escapes() {
        for row in BUILTIN {
            for text in [row.message, row.page.what_to_do, row.page.why, row.page.what_you_see] {
                assert!(!text.contains(char::is_control), "{row}");
                assert!(!text.is_empty(), "{row}");
            }
        }
    }
}
