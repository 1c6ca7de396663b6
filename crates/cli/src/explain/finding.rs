//! From what somebody asks to what is known of it.

use super::knowledge::{Dialect, Entry, HTTP, Knowledge, SAYWHY, STANDARD};
use super::words::{Likeness, Texts, Word, words};
use saywhy_codes::{Catalogue, Dialect as CloseDialect, ErrorCode};

/// What was found.
#[derive(Debug)]
pub(super) struct Answer<'a> {
    /// By what.
    pub(super) by: By,
    /// The best first.
    pub(super) matches: Vec<Match<'a>>,
    /// What is known of the number in a text.
    pub(super) number: Vec<Match<'a>>,
}

/// By what something was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    /// A code, a status.
    Number(u16),
    /// Its name.
    Name,
    /// Words of a program.
    Text,
}

/// Something that is known.
#[derive(Debug)]
pub(super) struct Match<'a> {
    /// Whose it is.
    pub(super) dialect: &'a Dialect,
    /// What it is.
    pub(super) entry: &'a Entry,
    /// For which number.
    pub(super) number: Option<u16>,
    /// What else is to be said.
    pub(super) note: Option<String>,
}

/// Nothing was found; these are the nearest.
#[derive(Debug)]
pub(super) struct Nearest<'a>(pub(super) Vec<(&'a Dialect, &'a Entry)>);

/// How many of the nearest are told.
const NEAREST: usize = 3;

/// Finds what is known of a question.
///
/// # Errors
/// [`Nearest`] when that is nothing.
pub(super) fn find<'a>(knowledge: &'a Knowledge, what: &str) -> Result<Answer<'a>, Nearest<'a>> {
    let what = what.trim().trim_matches(['"', '\'', '`', '\u{201c}', '\u{201d}']).trim();
    if let Some(number) = bare_number(what) {
        let matches = by_number(knowledge, number);
        if !matches.is_empty() {
            return Ok(Answer { by: By::Number(number), matches, number: Vec::new() });
        }
    }
    let mut matches = by_name(knowledge, what);
    let by_text = by_text(knowledge, what);
    if matches.is_empty() {
        return by_text;
    }
    // Words that one has for a name may be what another prints.
    for found in by_text.into_iter().flat_map(|answer| answer.matches) {
        if !found.entry.is_vague && !matches.iter().any(|there| std::ptr::eq(there.entry, found.entry)) {
            matches.push(found);
        }
    }
    Ok(Answer { by: By::Name, matches, number: Vec::new() })
}

// ---- numbers ------------------------------------------------------------------------------------------------------

/// Words that may stand around a number and change nothing.
const AROUND: [&str; 17] = [
    "close",
    "code",
    "closed",
    "codes",
    "error",
    "status",
    "http",
    "https",
    "websocket",
    "ws",
    "wss",
    "event",
    "the",
    "with",
    "what",
    "is",
    "closecode",
];

/// The number, if that is all of the question.
fn bare_number(what: &str) -> Option<u16> {
    let words = words(what);
    let mut numbers = words.iter().filter_map(|word| match word {
        Word::Number(number) => Some(*number),
        Word::Letters(_) => None,
    });
    let (first, second) = (numbers.next()?, numbers.next());
    let is_around = |word: &Word| matches!(word, Word::Letters(letters) if AROUND.contains(&letters.as_str()));
    let all_around = words.iter().filter(|word| matches!(word, Word::Letters(_))).all(is_around);
    (all_around && second.is_none()).then(|| u16::try_from(first).ok()).flatten()
}

/// All that a number means, the standard first where it has a meaning of its own, else ours.
fn by_number(knowledge: &Knowledge, number: u16) -> Vec<Match<'_>> {
    let in_dialect = |dialect: &'_ Dialect| dialect.by_number(number).len();
    let is_range = |entry: &Entry| !entry.codes.contains(&number);
    let exact = knowledge.entries().any(|(_, entry)| entry.codes.contains(&number));
    let mut matches = Vec::new();
    for dialect in knowledge.dialects.iter().filter(|dialect| in_dialect(dialect) > 0) {
        for entry in dialect.by_number(number) {
            // What is said of a range is of use where nobody says more.
            if !(exact && is_range(entry) && dialect.name == STANDARD) {
                matches.push(Match { dialect, entry, number: Some(number), note: None });
            }
        }
    }
    matches.extend(ours_elsewhere(knowledge, number));
    if is_status(number) {
        matches.retain(|found| found.dialect.name != STANDARD || !exact && knowledge.dialects.len() == 1);
    }
    // A registered code means to all what it means to the standard.
    let rank = |found: &Match<'_>| match found.dialect.name {
        STANDARD | HTTP if !is_range(found.entry) => 0,
        SAYWHY if found.number.is_some() => 1,
        _ if !is_range(found.entry) => 2,
        SAYWHY | STANDARD => 3,
        _ => 4,
    };
    matches.sort_by_key(rank);
    matches
}

pub(super) fn is_status(number: u16) -> bool {
    (100..600).contains(&number)
}

/// Our rows for a number that is none of their own: closes of our other dialects, and statuses of HTTP.
fn ours_elsewhere(knowledge: &Knowledge, number: u16) -> Vec<Match<'_>> {
    let Some(dialect) = knowledge.dialects.iter().find(|dialect| dialect.name == SAYWHY) else { return Vec::new() };
    if !dialect.by_number(number).is_empty() {
        return Vec::new();
    }
    let entry_of = |row: ErrorCode| dialect.entries.iter().find(|entry| entry.name == row.name);
    if is_status(number) {
        if number < 300 {
            return Vec::new();
        }
        let row = Catalogue::by_http_status(number);
        let note = Some(format!("an answer with HTTP {number} reads as {row}, {}", row.code));
        return entry_of(row).map(|entry| Match { dialect, entry, number: None, note }).into_iter().collect();
    }
    let mut matches = Vec::new();
    for row in Catalogue::builtin().rows() {
        let says = |dialect: &&CloseDialect| dialect.row_close_code(row).is_some_and(|code| code.as_u16() == number);
        let dialects: Vec<_> = CloseDialect::BUILTIN.into_iter().filter(|dialect| says(&dialect)).collect();
        let names: Vec<_> = dialects.iter().map(CloseDialect::name).collect();
        if let (false, Some(entry)) = (names.is_empty(), entry_of(row)) {
            let note = Some(format!("on a route with the dialect {}", names.join(" or ")));
            matches.push(Match { dialect, entry, number: Some(number), note });
        }
    }
    matches
}

// ---- names --------------------------------------------------------------------------------------------------------

fn by_name<'a>(knowledge: &'a Knowledge, what: &str) -> Vec<Match<'a>> {
    let by_token = |is_it: &dyn Fn(&str) -> bool| -> Vec<Match<'a>> {
        let found = knowledge.entries().filter(|(_, entry)| entry.token.as_deref().is_some_and(is_it));
        found.map(|(dialect, entry)| Match { dialect, entry, number: None, note: None }).collect()
    };
    let exact = by_token(&|token| is_token(what, token));
    if !exact.is_empty() {
        return exact;
    }
    let plain = plain(what);
    if plain.is_empty() || what.contains([':', '"', '{']) {
        return Vec::new();
    }
    let named = knowledge.entries().filter(|(_, entry)| self::plain(&entry.name) == plain);
    let mut matches: Vec<_> =
        named.map(|(dialect, entry)| Match { dialect, entry, number: None, note: None }).collect();
    if matches.is_empty() && what.len() == 2 {
        matches = by_token(&|token| token.eq_ignore_ascii_case(what));
    }
    matches
}

/// Letters and digits only, as `io server disconnect`, `IoServerDisconnect` and `io_server_disconnect` have in common.
fn plain(text: &str) -> String {
    text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// Two letters, or four where the others are about cookies.
fn is_token(what: &str, token: &str) -> bool {
    let cookies = |rest: &str| {
        let mut letters = rest.chars();
        let first = letters.next().is_some_and(|c| "NIDVEOU-".contains(c));
        first && letters.next().is_some_and(|c| "NIUPRD-".contains(c)) && letters.next().is_none()
    };
    what.strip_prefix(token).is_some_and(|rest| rest.is_empty() || cookies(rest))
}

// ---- texts --------------------------------------------------------------------------------------------------------

fn by_text<'a>(knowledge: &'a Knowledge, what: &str) -> Result<Answer<'a>, Nearest<'a>> {
    if let Some((dialect, entry)) = log_line(knowledge, what) {
        let matches = vec![Match { dialect, entry, number: None, note: None }];
        return Ok(Answer { by: By::Text, matches, number: Vec::new() });
    }
    let patterns: Vec<_> = knowledge
        .entries()
        .flat_map(|(dialect, entry)| entry.says.iter().map(move |says| (dialect, entry, says.as_str())))
        .collect();
    let texts = Texts::new(patterns.iter().map(|(_, _, says)| *says));
    let mut compared = texts.compare(what);
    // What is around many other words gives way to them.
    let worth = |likeness: &Likeness| {
        if patterns[likeness.pattern].1.is_vague { likeness.score * 0.6 } else { likeness.score }
    };
    compared.sort_by(|a, b| worth(b).total_cmp(&worth(a)));
    let best = compared.iter().find(|likeness| likeness.is_found);
    let Some(best) = best else {
        let mut near: Vec<_> =
            knowledge.entries().map(|(dialect, entry)| (by_letters(what, entry), dialect, entry)).collect();
        near.extend(compared.iter().map(|likeness| {
            let (dialect, entry, _) = patterns[likeness.pattern];
            (f64::from(likeness.share), dialect, entry)
        }));
        return Err(nearest(near));
    };
    let mut matches: Vec<Match<'a>> = Vec::new();
    for likeness in compared.iter().filter(|likeness| likeness.is_found && worth(likeness) >= 0.97 * worth(best)) {
        let (dialect, entry, _) = patterns[likeness.pattern];
        let says_more = entry.is_vague && matches.iter().any(|there| !there.entry.is_vague);
        if !says_more && !matches.iter().any(|there| std::ptr::eq(there.entry, entry)) {
            matches.push(Match { dialect, entry, number: likeness.number, note: None });
        }
    }
    let number = best.number.map(|number| by_number(knowledge, number)).unwrap_or_default();
    Ok(Answer { by: By::Text, matches, number })
}

/// A line of a log that has the four letters among other words.
fn log_line<'a>(knowledge: &'a Knowledge, what: &str) -> Option<(&'a Dialect, &'a Entry)> {
    let candidates: Vec<_> = what.split_whitespace().filter(|word| word.len() == 4).collect();
    let tells = |entry: &Entry| {
        let token = entry.token.as_deref().filter(|token| *token != "--");
        token.is_some_and(|token| candidates.iter().any(|word| is_token(word, token)))
    };
    let is_line = what.split_whitespace().nth(5).is_some();
    knowledge.entries().find(|(_, entry)| is_line && tells(entry))
}

fn by_letters(what: &str, entry: &Entry) -> f64 {
    let what: String = plain(what).chars().take(64).collect();
    let name = strsim::normalized_damerau_levenshtein(&what, &plain(&entry.name));
    let codes = entry.codes.iter().map(|code| strsim::normalized_damerau_levenshtein(&what, &code.to_string()) * 0.9);
    codes.fold(name, f64::max)
}

fn nearest<'a>(mut near: Vec<(f64, &'a Dialect, &'a Entry)>) -> Nearest<'a> {
    near.sort_by(|(a, ..), (b, ..)| b.total_cmp(a));
    let mut found: Vec<(&Dialect, &Entry)> = Vec::new();
    for (_, dialect, entry) in near {
        let is_new = found.iter().all(|(_, there)| there.name != entry.name);
        if found.len() < NEAREST && is_new {
            found.push((dialect, entry));
        }
    }
    Nearest(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn whatever_is_asked_is_answered(what in "(\\PC{0,30}|[a-zA-Z0-9 :.'{}-]{0,200}|websocket: close [0-9]{1,12}.{0,20})") {
            let knowledge = Knowledge::load().unwrap();
            match find(&knowledge, &what) {
                Ok(answer) => prop_assert!(!answer.matches.is_empty()),
                Err(Nearest(near)) => prop_assert_eq!(near.len(), NEAREST),
            }
        }
    }

    #[test]
    fn every_known_text_finds_itself() {
        let knowledge = Knowledge::load().unwrap();
        let mut strangers = Vec::new();
        for (dialect, entry) in knowledge.entries() {
            for says in &entry.says {
                let says = says.replace("{code}", "4321").replace("{status}", "403").replace("{n}", "7");
                let is_there = |found: &Match| std::ptr::eq(found.entry, entry);
                let found = find(&knowledge, &says).is_ok_and(|answer| {
                    // A number with nothing around it needs no frame.
                    answer.matches.iter().any(is_there) || entry.is_frame() && matches!(answer.by, By::Number(_))
                });
                if !found {
                    strangers.push(format!("{}/{}: {says}", dialect.name, entry.name));
                }
            }
        }
        assert!(strangers.is_empty(), "{strangers:#?}");
    }

    #[test]
    fn letters_of_a_log_line_count_in_a_log_line_only() {
        let knowledge = Knowledge::load().unwrap();
        let name = |what: &str| find(&knowledge, what).map(|answer| answer.matches[0].entry.name.clone()).ok();
        assert_eq!(name("GET /ws 101 2750 - - cD-- 1/1/1/1/0 0/0").as_deref(), Some("client_timeout"));
        assert_eq!(name("GET /ws 101 2750 - - CD-- 1/1/1/1/0 0/0").as_deref(), Some("client_aborted"));
        assert_eq!(name("cDxy"), None);
        assert!(is_token("sH--", "sH") && is_token("sH", "sH") && !is_token("sHAT", "sH") && !is_token("SH--", "sH"));
    }
}
