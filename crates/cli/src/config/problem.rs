//! The problems of a file: where, what, and what to do; for people and as JSON.

use super::values::Complaint;
use serde_json::{Value, json};
use std::fmt::{self, Write};
use std::ops::Range;
use std::process::ExitCode;

/// Why there is no configuration to go by.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The file cannot be read at all.
    Unreadable(Complaint),
    /// The file can be read, and this is wrong with it.
    Problems(Report),
    /// File, environment and flags are right each, and together nothing that can be served.
    Unservable(Complaint),
}

impl Failure {
    /// What the process ends with: 1 when a file has problems, 2 when there is nothing to go by.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Problems(_) => 1,
            Self::Unreadable(_) | Self::Unservable(_) => 2,
        })
    }

    /// For people, ending in a line feed.
    pub(crate) fn render(&self, colour: bool) -> String {
        match self {
            Self::Problems(report) => report.render(colour),
            Self::Unreadable(complaint) | Self::Unservable(complaint) => {
                render(&Paint(colour).red("error:"), complaint, colour)
            }
        }
    }
}

/// A complaint that is about no place in a file.
pub(crate) fn render(kind: &str, complaint: &Complaint, colour: bool) -> String {
    format!("{kind} {}\n{} {}\n", escape(&complaint.message), Paint(colour).hint(), escape(&complaint.hint))
}

/// Problems that are shown to a person at once.
const SHOWN_MOST: usize = 100;

/// Everything that is wrong with one file, in its order.
#[derive(Debug)]
pub(crate) struct Report {
    file: String,
    text: String,
    problems: Vec<Problem>,
}

/// What is wrong at one place.
#[derive(Debug)]
struct Problem {
    /// Bytes of the file.
    span: Range<usize>,
    complaint: Complaint,
}

/// The problems found so far.
#[derive(Debug, Default)]
pub(super) struct Problems(Vec<Problem>);

impl Problems {
    pub(super) fn add(&mut self, span: Range<usize>, complaint: Complaint) {
        self.0.push(Problem { span, complaint });
    }

    /// Adds those of another judge, but not about a place that was judged already.
    pub(super) fn add_more(&mut self, others: Self) {
        let judged = self.0.len();
        for other in others.0 {
            if !self.0[..judged].iter().any(|problem| problem.span == other.span) {
                self.0.push(other);
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn report(mut self, file: &str, text: String) -> Report {
        self.0.sort_by_key(|problem| problem.span.start);
        Report { file: file.to_owned(), text, problems: self.0 }
    }
}

impl Report {
    /// Each problem as an object: `line` and `column` count from 1, columns in characters.
    pub(crate) fn json(&self) -> Value {
        self.problems
            .iter()
            .map(|Problem { span, complaint }| {
                let (start, end) = (self.place(span.start), self.place(span.end));
                json!({
                    "line": start.line, "column": start.column, "end_line": end.line, "end_column": end.column,
                    "message": complaint.message, "hint": complaint.hint,
                })
            })
            .collect()
    }

    /// For people: `file:line:column: error: …`, the line with the place underlined, and a hint.
    pub(crate) fn render(&self, colour: bool) -> String {
        let paint = Paint(colour);
        let mut out = String::new();
        for Problem { span, complaint } in self.problems.iter().take(SHOWN_MOST) {
            let place = self.place(span.start);
            let at = format!("{}:{}:{}:", escape(&self.file), place.line, place.column);
            let (shown, caret) = self.underlined(&place, span);
            let (gutter, number) = (" ".repeat(place.line.to_string().len()), place.line);
            let _ = writeln!(out, "{} {} {}", paint.bold(&at), paint.red("error:"), escape(&complaint.message));
            let _ = writeln!(out, "{gutter} |\n{number} | {shown}\n{gutter} | {}", paint.red(&caret));
            let _ = writeln!(out, "{} {}", paint.hint(), escape(&complaint.hint));
        }
        if self.problems.len() > SHOWN_MOST {
            let _ = writeln!(out, "and {} more", self.problems.len() - SHOWN_MOST);
        }
        out
    }

    fn place(&self, offset: usize) -> Place {
        let offset = self.text.floor_char_boundary(offset);
        let start = self.text[..offset].rfind('\n').map_or(0, |newline| newline + 1);
        Place {
            line: self.text[..offset].matches('\n').count() + 1,
            column: self.text[start..offset].chars().count() + 1,
            start,
        }
    }

    /// The line as a terminal may show it, and carets under the part that is meant.
    fn underlined(&self, place: &Place, span: &Range<usize>) -> (String, String) {
        let lines: Vec<_> = self.text.split('\n').collect();
        let line = masked(&lines, place.line - 1);
        let cut = |offset: usize| line.floor_char_boundary(offset.saturating_sub(place.start).min(line.len()));
        let (before, meant) = line.split_at(cut(span.start));
        let width = escape(&meant[..cut(span.end).saturating_sub(before.len())]).chars().count();
        (escape(line.trim_end()), format!("{}{}", " ".repeat(escape(before).chars().count()), "^".repeat(width.max(1))))
    }
}

/// Without colours.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

/// A position of the file.
struct Place {
    line: usize,
    column: usize,
    /// Where the line starts.
    start: usize,
}

/// The colours of a terminal, or none.
#[derive(Clone, Copy)]
pub(crate) struct Paint(bool);

impl Paint {
    pub(crate) fn new(colour: bool) -> Self {
        Self(colour)
    }

    fn ansi(&self, code: &str, text: &str) -> String {
        if self.0 { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    pub(crate) fn bold(&self, text: &str) -> String {
        self.ansi("1", text)
    }

    fn red(&self, text: &str) -> String {
        self.ansi("1;31", text)
    }

    /// What stands for something.
    pub(crate) fn name(&self, text: &str) -> String {
        self.ansi("36", text)
    }

    pub(crate) fn hint(&self) -> String {
        self.ansi("1;36", "hint:")
    }
}

/// Text of a file as a terminal may show it: no control sequences, nothing invisible, no change of direction.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\t' => out.push(' '),
            '"' | '\'' | '\\' => out.push(c),
            _ => out.extend(c.escape_debug()),
        }
    }
    out
}

/// A line without what may be a secret: reports end up in the logs of a CI.
///
/// This goes by the text alone, so that it also holds for a file that cannot be parsed and for a misspelt key.
fn masked(lines: &[&str], number: usize) -> String {
    let line = lines[number];
    let from = match secret_value(line) {
        None if !line.contains('=') && !line.trim_start().starts_with('[') => {
            // No key of its own, so it may go on with a value of several lines.
            let above = lines[..number].iter().rfind(|line| line.contains('='));
            above.and_then(|above| secret_value(above)).map(|_| 0)
        }
        from => from,
    };
    match from {
        // Neither the secret nor its length.
        Some(from) => format!("{} ***", &line[..from]),
        None => line.to_owned(),
    }
}

/// Where on the line the value of a secret key begins, or the user name and password of a URL.
fn secret_value(line: &str) -> Option<usize> {
    let key = line.match_indices('=').map(|(at, _)| at).find(|at| is_secret_key(&line[..*at], &line[at + 1..]));
    let user = line.find("://").filter(|at| line[*at..].contains('@')).map(|at| at + "://".len());
    key.map(|at| at + 1).into_iter().chain(user).min()
}

/// Whether `before` ends in a key whose value nobody should see, or in something that was meant to be one.
fn is_secret_key(before: &str, value: &str) -> bool {
    let end = |c: char| c.is_whitespace() || "\"'".contains(c);
    let key = before.trim_end_matches(end).rsplit(|c: char| end(c) || "{,.".contains(c)).next().unwrap_or_default();
    let key = key.to_ascii_lowercase();
    if key.ends_with("_file") {
        return false;
    }
    // `token = "required"` is one thing, and `token = "eyJhbGciOiJIUzI1NiJ9…"` is another.
    let grown =
        ["token", "api"].contains(&key.as_str()) && value.trim_start().starts_with(['"', '\'']) && value.len() > 20;
    let told = ["secret", "key", "pass", "cred"].iter().any(|word| key.contains(word));
    told || grown || similar(&key, ["key", "hs256_secret"]).is_some()
}

/// The word that was probably meant.
pub(super) fn similar<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|known| (strsim::normalized_damerau_levenshtein(word, known), known))
        .filter(|(likeness, _)| *likeness >= 0.6)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_secret_of_the_schema_is_masked_and_nothing_else() {
        fn keys(schema: &Value, secrets: &mut Vec<(String, bool)>) {
            for (key, schema) in schema["properties"].as_object().into_iter().flatten() {
                // A list of tables has a header, and no value on its line.
                if schema["items"]["type"] != "object" {
                    secrets.push((key.clone(), schema["writeOnly"] == true));
                }
                keys(schema, secrets);
                keys(&schema["items"], secrets);
            }
        }
        let mut all = Vec::new();
        keys(&crate::config::schema(), &mut all);
        assert_eq!(all.iter().filter(|(_, secret)| *secret).count(), 3, "{all:?}");
        for (key, secret) in all {
            assert_eq!(is_secret_key(&key, ""), secret, "{key}");
        }
    }

    #[test]
    fn a_secret_is_masked_however_it_is_written() {
        for (text, masked_line) in [
            ("key = \"hunter2\"", "key = ***"),
            ("api.key=\"hunter2\"", "api.key= ***"),
            ("\"key\" = 'hunter2", "\"key\" = ***"),
            ("kye = \"hunter2\"", "kye = ***"),
            ("HS256-Secret = hunter2", "HS256-Secret = ***"),
            ("api = { listen = \"x\", key = \"hunter2\" }", "api = { listen = \"x\", key = ***"),
            ("key = \"\"\"\nhunter2", " ***"),
            ("token = \"0123456789abcdef0123456789abcdef\"", "token = ***"),
            ("upstream = \"ws://me:hunter2@back\"", "upstream = \"ws:// ***"),
            ("key_file = \"f\"", "key_file = \"f\""),
            ("listen = \"x\"", "listen = \"x\""),
            ("token = \"none\"", "token = \"none\""),
            ("key = \"hunter2\"\n[route]", "[route]"),
        ] {
            let lines: Vec<_> = text.split('\n').collect();
            assert_eq!(masked(&lines, lines.len() - 1), masked_line);
        }
    }

    #[test]
    fn nothing_of_a_file_moves_the_cursor() {
        assert_eq!(escape("a\u{1b}[2J\u{202e}\t\"\\é\r"), "a\\u{1b}[2J\\u{202e} \"\\é\\r");
    }
}
