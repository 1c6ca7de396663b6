//! Texts as words, and how much of a known text is in one that somebody pasted.
//!
//! What differs from one message to the next does not count: case, quotes, punctuation, URLs, addresses, ids. Words that
//! many messages have count little, rare ones much.

use std::collections::{HashMap, HashSet};
use std::ops::RangeInclusive;

/// Words of a pasted text that are looked at.
const WORDS_MOST: usize = 400;
/// Texts of so many words are looked through for typing errors. One or two are a name, and more are a log.
const TYPED: RangeInclusive<usize> = 3..=40;

/// A word of a text.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Word {
    /// In lower case.
    Letters(String),
    /// A number.
    Number(u32),
}

/// A word of a known text.
#[derive(Clone, Debug, PartialEq)]
enum Wanted {
    Letters(String),
    Number(u32),
    /// `{code}`: a close code.
    Code,
    /// `{status}`: an HTTP status.
    Status,
    /// `{n}`: any number.
    Any,
}

/// How well a known text is found in another.
#[derive(Clone, Copy, Debug)]
pub(super) struct Likeness {
    /// Which known text.
    pub(super) pattern: usize,
    /// What is there, less what is missing or in between: the more, the more special the text.
    pub(super) score: f32,
    /// From 0 to 1: how much of the known text, or of the other, is common to both.
    pub(super) share: f32,
    /// The `{code}` or `{status}` in it.
    pub(super) number: Option<u16>,
    /// Whether it is good enough to be told.
    pub(super) is_found: bool,
}

/// The known texts.
#[derive(Debug)]
pub(super) struct Texts {
    patterns: Vec<Vec<Wanted>>,
    /// In how many of them a word is.
    known: HashMap<String, f32>,
}

impl Texts {
    /// Of these patterns, which are numbered in their order.
    pub(super) fn new<'a>(patterns: impl Iterator<Item = &'a str>) -> Self {
        let patterns: Vec<Vec<Wanted>> = patterns.map(wanted).collect();
        let mut known = HashMap::new();
        for pattern in &patterns {
            let letters = pattern.iter().filter_map(|word| match word {
                Wanted::Letters(letters) => Some(letters),
                Wanted::Number(_) | Wanted::Code | Wanted::Status | Wanted::Any => None,
            });
            for word in letters.collect::<HashSet<_>>() {
                *known.entry(word.clone()).or_insert(0.0) += 1.0;
            }
        }
        Self { patterns, known }
    }

    /// How each pattern is found in a text, the best first. Those that have nothing in common with it are left out.
    pub(super) fn compare(&self, text: &str) -> Vec<Likeness> {
        let words = self.corrected(words(text));
        let all: f32 = words.iter().map(|word| self.weight_of(word)).sum();
        let is_near = |pattern: &[Wanted]| {
            let common = pattern.iter().filter(|wanted| words.iter().any(|word| fits(wanted, word)));
            let common: f32 = common.map(|wanted| self.weight(wanted)).sum();
            common > 0.4 * all || common > 0.4 * self.full(pattern)
        };
        let near = self.patterns.iter().enumerate().filter(|(_, pattern)| is_near(pattern));
        let mut found: Vec<_> = near.map(|(index, pattern)| self.align(index, pattern, &words, all)).collect();
        found.sort_by(|a, b| b.score.total_cmp(&a.score));
        found
    }

    /// Words that nobody knows, as the known ones that they were probably meant to be.
    fn corrected(&self, mut words: Vec<Word>) -> Vec<Word> {
        if !TYPED.contains(&words.len()) {
            return words;
        }
        for word in &mut words {
            let Word::Letters(letters) = word else { continue };
            if letters.len() < 5 || self.known.contains_key(letters) {
                continue;
            }
            let most = if letters.len() < 8 { 1 } else { 2 };
            let near = self.known.keys().filter(|known| known.len().abs_diff(letters.len()) <= most);
            let near = near.map(|known| (strsim::damerau_levenshtein(letters, known), known));
            if let Some((_, known)) = near.filter(|(distance, _)| *distance <= most).min() {
                letters.clone_from(known);
            }
        }
        words
    }

    /// The best way to lay a pattern over a part of a text: what is missing costs, and what is in between.
    fn align(&self, index: usize, pattern: &[Wanted], words: &[Word], all: f32) -> Likeness {
        #[derive(Clone, Copy, Default)]
        struct Way {
            score: f32,
            matched: f32,
            number: Option<u16>,
        }
        let mut above = vec![Way::default(); words.len() + 1];
        for wanted in pattern {
            let weight = self.weight(wanted);
            let missing = |way: Way| Way { score: way.score - 0.5 * weight, ..way };
            let mut row = vec![missing(above[0])];
            for (at, word) in words.iter().enumerate() {
                let mut best = missing(above[at + 1]);
                let before = row[at];
                if before.score - 0.3 > best.score {
                    best = Way { score: before.score - 0.3, ..before };
                }
                let way = above[at];
                if fits(wanted, word) && way.score + weight > best.score {
                    let number = match (wanted, word) {
                        (Wanted::Code | Wanted::Status, Word::Number(number)) => u16::try_from(*number).ok(),
                        _ => None,
                    };
                    let (score, matched) = (way.score + weight, way.matched + weight);
                    best = Way { score, matched, number: way.number.or(number) };
                }
                row.push(best);
            }
            above = row;
        }
        let best = above.into_iter().max_by(|a, b| a.score.total_cmp(&b.score)).unwrap_or_default();
        let full = self.full(pattern);
        let of_pattern = (best.score + 0.5 * (full - best.matched)) / full.max(1.0);
        let of_text = best.matched / all.max(1.0);
        let needs_number = pattern.iter().any(|word| matches!(word, Wanted::Code | Wanted::Status));
        let is_whole = of_pattern >= 0.72 && best.matched >= 4.5;
        let is_part = of_text >= 0.85 && of_pattern >= 0.2 && best.matched >= 8.0;
        Likeness {
            pattern: index,
            score: best.score,
            share: of_pattern.max(of_text * 0.9).clamp(0.0, 1.0),
            number: best.number,
            is_found: (is_whole || is_part) && (!needs_number || best.number.is_some()),
        }
    }

    fn full(&self, pattern: &[Wanted]) -> f32 {
        pattern.iter().map(|word| self.weight(word)).sum()
    }

    /// A word that is in one pattern only weighs most, one that is in many next to nothing.
    fn weight(&self, wanted: &Wanted) -> f32 {
        match wanted {
            Wanted::Letters(letters) => self.rarity(letters),
            Wanted::Number(_) => 2.0,
            Wanted::Code | Wanted::Status => 3.0,
            Wanted::Any => 0.2,
        }
    }

    fn weight_of(&self, word: &Word) -> f32 {
        match word {
            Word::Letters(letters) => self.rarity(letters),
            Word::Number(_) => 0.5,
        }
    }

    fn rarity(&self, letters: &str) -> f32 {
        let patterns = self.patterns.len() as f32;
        let weight = ((patterns + 1.0) / self.known.get(letters).copied().unwrap_or(1.0)).ln();
        if letters.len() <= 2 { weight * 0.5 } else { weight }
    }
}

fn fits(wanted: &Wanted, word: &Word) -> bool {
    match (wanted, word) {
        (Wanted::Letters(wanted), Word::Letters(word)) => wanted == word,
        (Wanted::Number(wanted), Word::Number(word)) => wanted == word,
        (Wanted::Code, Word::Number(number)) => (1000..=65_535).contains(number),
        (Wanted::Status, Word::Number(number)) => (100..=599).contains(number),
        (Wanted::Any, Word::Number(_)) => true,
        _ => false,
    }
}

fn wanted(pattern: &str) -> Vec<Wanted> {
    // Names that no text has, so that they stay words of their own.
    let pattern = pattern.replace("{code}", " saywhycode ").replace("{status}", " saywhystatus ");
    let words = words(&pattern.replace("{n}", " saywhyany ")).into_iter();
    let wanted = words.map(|word| match word {
        Word::Number(number) => Wanted::Number(number),
        Word::Letters(letters) => match letters.as_str() {
            "saywhycode" => Wanted::Code,
            "saywhystatus" => Wanted::Status,
            "saywhyany" => Wanted::Any,
            _ => Wanted::Letters(letters),
        },
    });
    wanted.collect()
}

/// The words of a text: no URLs, no addresses, no ids, no quotes.
pub(super) fn words(text: &str) -> Vec<Word> {
    let chunks = text.split_whitespace().filter(|chunk| !is_address(chunk));
    let parts = chunks.flat_map(|chunk| chunk.split(|c: char| !(c.is_alphanumeric() || c == '_' || is_apostrophe(c))));
    let words = parts.map(|part| part.replace(is_apostrophe, "").to_lowercase());
    let words = words.filter(|word| !word.is_empty() && !is_id(word));
    words.map(|word| word.parse().map_or(Word::Letters(word), Word::Number)).take(WORDS_MOST).collect()
}

fn is_apostrophe(c: char) -> bool {
    matches!(c, '\'' | '\u{2019}')
}

/// A URL, or an IP address with or without a port.
fn is_address(chunk: &str) -> bool {
    let numeric =
        |c: char| c.is_ascii_digit() || matches!(c, '.' | ':' | '[' | ']' | ',' | ';' | '-' | '>' | '(' | ')');
    chunk.contains("://") || (chunk.matches('.').count() >= 3 && chunk.chars().all(numeric))
}

/// A word of digits and letters that means nothing: an id, a hash, a time.
fn is_id(word: &str) -> bool {
    let digits = word.chars().filter(char::is_ascii_digit).count();
    word.len() >= 8 && digits >= 3 && digits < word.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letters(text: &str) -> String {
        let word = |word: &Word| match word {
            Word::Letters(letters) => letters.clone(),
            Word::Number(number) => format!("#{number}"),
        };
        words(text).iter().map(word).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn what_differs_from_one_message_to_the_next_is_left_out() {
        assert_eq!(
            letters(
                "WebSocket connection to 'wss://x.example/a?b=403' failed: Error: Can\u{2019}t read 01a1f9278aa27314"
            ),
            "websocket connection to failed error cant read"
        );
        assert_eq!(
            letters("read tcp 127.0.0.1:80->10.0.0.1:5: i/o timeout (os error 110)"),
            "read tcp i o timeout os error #110"
        );
        assert_eq!(words(&"a ".repeat(1_000)).len(), WORDS_MOST);
    }

    #[test]
    fn the_more_special_text_wins_and_brings_its_number() {
        let texts = Texts::new(
            ["connection failed", "connection failed: Unexpected response code: {status}", "bad apple"].into_iter(),
        );
        let found = texts.compare("a connection failed: unexpected response code: 403!");
        assert_eq!((found[0].pattern, found[0].number, found[0].is_found), (1, Some(403), true));
        assert!(
            texts
                .compare("connection failed: Unexpected response code: none")
                .iter()
                .all(|found| found.pattern != 1 || !found.is_found)
        );
    }

    #[test]
    fn typing_errors_are_forgiven_and_strangers_are_not() {
        let texts = Texts::new(["session identifier unknown", "transport refused politely"].into_iter());
        assert!(!texts.compare("sesion identifer unkown").is_empty());
        assert!(texts.compare("seasoning of turnips").iter().all(|found| !found.is_found));
    }
}
