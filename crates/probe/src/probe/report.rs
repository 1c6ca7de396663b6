//! What was found, for people and for programs.

use crate::probe::{Tried, Verdict};
use serde_json::{Value, json};
use std::fmt::Write as _;

/// How many there are of each verdict, in words: `41 pass, 2 fail`.
pub fn summary(tried: &[Tried]) -> String {
    let count = |verdict| tried.iter().filter(|one| one.finding.verdict == verdict).count();
    let counts = Verdict::ALL.iter().map(|verdict| (count(*verdict), verdict)).filter(|(count, _)| *count > 0);
    counts.map(|(count, verdict)| format!("{count} {verdict}")).collect::<Vec<_>>().join(", ")
}

/// One JSON document: `url`, `seed`, `summary`, and for each scenario what it is, what was expected and what was found.
pub fn json(url: &str, seed: u64, tried: &[Tried]) -> Value {
    let scenarios: Vec<_> = tried
        .iter()
        .map(|Tried { scenario, finding, transcript, took }| {
            json!({
                "id": scenario.id,
                "title": scenario.title,
                "verdict": finding.verdict.label(),
                "expected": scenario.expects,
                "got": finding.got,
                "browser": finding.browser,
                "why": scenario.why,
                "source": scenario.source,
                "fix": scenario.fix,
                "took_ms": u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
                "transcript": transcript,
            })
        })
        .collect();
    let counts: serde_json::Map<_, _> = Verdict::ALL
        .iter()
        .map(|verdict| {
            let count = tried.iter().filter(|one| one.finding.verdict == *verdict).count();
            (verdict.label().to_owned(), count.into())
        })
        .collect();
    json!({ "url": url, "seed": seed, "counts": counts, "scenarios": scenarios })
}

/// A document in the format of JUnit, which every CI reads.
pub fn junit(url: &str, tried: &[Tried], is_failure: impl Fn(Verdict) -> bool) -> String {
    let failures = tried.iter().filter(|one| is_failure(one.finding.verdict)).count();
    let skipped = tried.iter().filter(|one| one.finding.verdict == Verdict::Skipped).count();
    let mut xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuite name=\"saywhy probe {}\" tests=\"{}\" failures=\"{failures}\" skipped=\"{skipped}\">\n",
        escaped(url),
        tried.len()
    );
    for Tried { scenario, finding, took, .. } in tried {
        let (group, name) = scenario.id.split_once('/').unwrap_or(("", scenario.id));
        let _ = write!(xml, "  <testcase classname=\"{group}\" name=\"{name}\" time=\"{:.3}\"", took.as_secs_f64());
        let got = escaped(&finding.got);
        let _ = match finding.verdict {
            Verdict::Skipped => writeln!(xml, "><skipped message=\"{got}\"/></testcase>"),
            verdict if is_failure(verdict) => writeln!(
                xml,
                "><failure type=\"{verdict}\" message=\"{got}\">expected {}\nwhy: {}\nsource: {}\nfix: {}</failure></testcase>",
                escaped(scenario.expects),
                escaped(scenario.why),
                escaped(scenario.source),
                escaped(scenario.fix)
            ),
            _ => writeln!(xml, "/>"),
        };
    }
    xml.push_str("</testsuite>\n");
    xml
}

/// A table in Markdown.
pub fn markdown(url: &str, tried: &[Tried]) -> String {
    let mut text = format!(
        "# `{url}`\n\n{}\n\n| scenario | verdict | what it did | a browser sees |\n|---|---|---|---|\n",
        summary(tried)
    );
    for Tried { scenario, finding, .. } in tried {
        let cell = |text: &str| text.replace('|', "\\|").replace(['\n', '\r'], " ");
        let verdict = match finding.verdict {
            verdict @ (Verdict::Fail | Verdict::NonStrict) => format!("**{verdict}**"),
            verdict => verdict.to_string(),
        };
        let _ =
            writeln!(text, "| `{}` | {verdict} | {} | {} |", scenario.id, cell(&finding.got), cell(&finding.browser));
    }
    text
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\n' => out.push_str("&#10;"),
            // XML 1.0 has no such characters.
            c if c.is_control() => out.push('\u{FFFD}'),
            c => out.push(c),
        }
    }
    out
}
