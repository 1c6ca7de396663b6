//! An answer as a screen, for somebody who is tired; and as JSON, for programs.

use super::finding::{Answer, By, Match, is_status};
use super::knowledge::{Blame, Dialect, Entry, Knowledge, STANDARD};
use crate::config::Paint;
use serde_json::{Value, json};
use std::fmt::Write;

/// Columns of a line: what a terminal has at least, and an eye reads at most.
const COLUMNS: usize = 80;

/// The verdict first; then who, why and what to do.
pub(super) fn of(answer: &Answer, paint: Paint) -> String {
    let mut out = String::new();
    match (answer.by, answer.matches.as_slice()) {
        (By::Number(number), matches) => numbers(&mut out, number, matches, paint),
        (By::Name | By::Text, [first, others @ ..]) => {
            in_full(&mut out, first, paint);
            if let (Some(number), false) = (first.number, answer.number.is_empty()) {
                out.push('\n');
                numbers(&mut out, number, &answer.number, paint);
            }
            briefly(&mut out, "The same in other programs:", others, paint);
        }
        (By::Name | By::Text, []) => {}
    }
    out
}

/// The same as an object.
pub(super) fn json(what: &str, answer: &Answer) -> Value {
    let all = |matches: &[Match]| matches.iter().map(as_object).collect::<Vec<_>>();
    let by = match answer.by {
        By::Number(_) => "number",
        By::Name => "name",
        By::Text => "text",
    };
    json!({ "query": what, "found": true, "by": by, "matches": all(&answer.matches), "number": all(&answer.number) })
}

fn as_object(found: &Match) -> Value {
    json!({
        "dialect": found.dialect.name, "title": found.dialect.title, "name": found.entry.name,
        "code": found.number, "codes": found.entry.codes,
        "meaning": found.entry.meaning(found.number), "note": found.note, "blame": found.entry.blame,
        "why": found.entry.why, "do": found.entry.do_, "seen": found.entry.sight, "source": found.entry.source,
    })
}

/// All dialects, or all that one of them says.
pub(super) fn list(knowledge: &Knowledge, only_one: bool, paint: Paint) -> String {
    let mut out = String::new();
    if only_one {
        for (_, entry) in knowledge.entries() {
            let heading = format!("{}{}", numbers_of(entry), entry.name);
            let _ = writeln!(out, "{}", paint.bold(&heading));
            let number = entry.codes.first().or(entry.ranges.first().map(|(first, _)| first));
            paragraph(&mut out, "", 4, &entry.meaning(number.copied()).replace("{code}", "N").replace("{status}", "N"));
        }
    } else {
        for dialect in &knowledge.dialects {
            let _ = writeln!(out, "{:<18}{:>3}  {}", dialect.name, dialect.entries.len(), dialect.title);
        }
    }
    out
}

fn numbers_of(entry: &Entry) -> String {
    let codes = entry.codes.iter().map(u16::to_string);
    let ranges = entry.ranges.iter().map(
        |(first, last)| {
            if first == last { first.to_string() } else { format!("{first}-{last}") }
        },
    );
    let all: Vec<_> = codes.chain(ranges).chain(entry.token.clone()).collect();
    if all.is_empty() { String::new() } else { format!("{} ", all.join(", ")) }
}

/// One in full where it is what everybody means by the number; else all of them briefly.
fn numbers(out: &mut String, number: u16, matches: &[Match], paint: Paint) {
    let [first, others @ ..] = matches else { return };
    let is_everybodys = first.dialect.name == STANDARD && first.entry.codes.contains(&number);
    if is_everybodys || is_status(number) || others.is_empty() {
        in_full(out, first, paint);
        briefly(out, &format!("{number} elsewhere:"), others, paint);
    } else {
        let verdict =
            format!("{number} means what its server says it does: {} have it. Whose server is it?", count(matches));
        let _ = writeln!(out, "{}\n", paint.bold(&verdict));
        rows(out, matches, paint);
        let _ = writeln!(out, "\n{} `saywhy explain {number} --dialect NAME` tells one in full", paint.hint());
    }
}

fn count(matches: &[Match]) -> String {
    let mut dialects: Vec<_> = matches.iter().map(|found| found.dialect.name).collect();
    dialects.dedup();
    format!("{} dialects", dialects.len())
}

fn in_full(out: &mut String, found: &Match, paint: Paint) {
    let Match { dialect, entry, number, note } = found;
    let number_in_front = number.filter(|_| !entry.is_frame() && entry.says_no_number());
    let label = number_in_front.map_or(String::new(), |number| format!("{number}: "));
    let verdict = wrapped(&format!("{label}{}", entry.meaning(*number)), COLUMNS);
    for line in verdict {
        let _ = writeln!(out, "{}", paint.bold(&line));
    }
    let name = if entry.token.is_some() || !entry.codes.is_empty() { numbers_of(entry) } else { String::new() };
    let _ = writeln!(out);
    if !entry.is_frame() {
        heading(out, "who", &[who(entry)], paint);
        heading(out, "why", &entry.why, paint);
        heading(out, "do", &entry.do_, paint);
        heading(out, "seen", entry.sight.as_slice(), paint);
    }
    let note = note.as_ref().map_or(String::new(), |note| format!("; {note}"));
    heading(out, "where", &[format!("{}: {name}{}{note}", dialect.title, entry.name)], paint);
    if !entry.is_frame() {
        heading(out, "from", std::slice::from_ref(&entry.source), paint);
    }
}

fn who(entry: &Entry) -> String {
    let words = entry.blame.iter().map(|blame| match blame {
        Blame::Client => "the client",
        Blame::Server => "the server",
        Blame::Proxy => "a proxy in between",
        Blame::Network => "the network",
        Blame::Nobody => "nobody",
    });
    words.collect::<Vec<_>>().join(", else ")
}

/// Texts beside their heading; of several, each with its number.
fn heading(out: &mut String, name: &str, texts: &[String], paint: Paint) {
    for (at, text) in texts.iter().enumerate() {
        let number = if texts.len() == 1 { String::new() } else { format!("{}. ", at + 1) };
        let head = format!("  {:<6}{number}", if at == 0 { name } else { "" });
        let mut lines = String::new();
        paragraph(&mut lines, &head, head.len(), text);
        // Colours take no columns, so they are put on afterwards.
        out.push_str(&if at == 0 { lines.replacen(name, &paint.name(name), 1) } else { lines });
    }
}

fn briefly(out: &mut String, title: &str, matches: &[Match], paint: Paint) {
    if !matches.is_empty() {
        let _ = writeln!(out, "\n{title}");
        rows(out, matches, paint);
    }
}

fn rows(out: &mut String, matches: &[Match], paint: Paint) {
    for found in matches {
        let Match { dialect, entry, number, note } = found;
        let note = note.as_ref().map_or(String::new(), |note| format!(" ({note})"));
        let text = format!("{}: {}{note}", entry.name, entry.meaning(*number));
        let mut lines = String::new();
        paragraph(&mut lines, &format!("  {:<11} ", dialect.name), 14, &text);
        out.push_str(&lines.replacen(dialect.name, &paint.name(dialect.name), 1));
    }
}

/// A text behind a heading, with its further lines below its first.
fn paragraph(out: &mut String, head: &str, indent: usize, text: &str) {
    let first = format!("{head:<indent$}");
    for (at, line) in wrapped(text, COLUMNS - indent).iter().enumerate() {
        let _ = if at == 0 { writeln!(out, "{first}{line}") } else { writeln!(out, "{:indent$}{line}", "") };
    }
}

/// A text as lines, broken between words. A longer word has a line of its own.
fn wrapped(text: &str, columns: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let Some(line) = lines.last_mut() else { continue };
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= columns {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

/// What is asked of those who found nothing.
pub(super) fn meant(nearest: &[(&Dialect, &Entry)]) -> String {
    let names = nearest.iter().map(|(dialect, entry)| format!("`{}` ({})", entry.name, dialect.name));
    format!("did you mean {}?", names.collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_between_words() {
        assert_eq!(wrapped("a bb ccc dddd", 6), ["a bb", "ccc", "dddd"]);
        assert_eq!(wrapped("a unbreakable b", 4), ["a", "unbreakable", "b"]);
        assert_eq!(wrapped("", 4), [""]);
    }
}
