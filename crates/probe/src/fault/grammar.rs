//! Faults as they are written: `cut=rst,after=20msg,p=0.1`.
//!
//! A list with commas. The name of a fault begins one, the name of a parameter belongs to the fault before it; no name is both.
//! In double quotes a comma is text.

use crate::fault::when::{Amount, When};
use crate::fault::{Fault, To};
use crate::faults;
use serde::Serialize;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A fault of the list: what it is called, what it does, and what clients see of it.
#[derive(Serialize)]
pub struct Entry {
    /// Its name.
    pub name: &'static str,
    /// Which part of a connection's life it is about.
    pub kind: Kind,
    /// What may stand behind the name.
    pub value: &'static str,
    /// What it does.
    pub about: &'static str,
    /// Whom it meets when nothing else is said.
    pub to: To,
    /// The parameters that it takes, besides `for`.
    pub parameters: &'static [&'static str],
    /// It, as it can be written, and what is seen of it then.
    pub examples: &'static [Example],
    #[serde(skip)]
    pub(crate) read: fn(&mut Args) -> Result<Make, Complaint>,
}

/// Which part of a connection's life a fault is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The opening handshake.
    Handshake,
    /// How fast bytes pass.
    Pace,
    /// One moment.
    Moment,
    /// Frames, as they pass.
    Frames,
}

/// A fault as it can be written.
#[derive(Debug, Serialize)]
pub struct Example {
    /// The text.
    pub fault: &'static str,
    /// What clients see of it.
    pub seen: Seen,
}

/// What three clients see of a fault, in the session of `docs/faults.md`. A test holds each.
#[derive(Debug, Serialize)]
pub struct Seen {
    /// A page in Chromium.
    pub chromium: &'static str,
    /// A page in Firefox.
    pub firefox: &'static str,
    /// Node with the package `ws`.
    pub ws: &'static str,
}

impl Seen {
    /// All see the same.
    pub(crate) const fn by_all(seen: &'static str) -> Self {
        Self { chromium: seen, firefox: seen, ws: seen }
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What is wrong with a text, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Complaint {
    /// A sentence without its full stop.
    #[serde(rename = "error")]
    pub message: String,
    /// What to do.
    pub hint: String,
}

impl Complaint {
    pub(crate) fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hint: hint.into() }
    }
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.message, self.hint)
    }
}

impl std::error::Error for Complaint {}

/// Makes the fault anew for each connection.
pub(crate) type Make = Arc<dyn Fn() -> Fault + Send + Sync>;

pub(crate) fn make(fault: impl Fn() -> Fault + Send + Sync + 'static) -> Make {
    Arc::new(fault)
}

/// A fault as somebody wrote it: what, when, to whom.
pub struct Spec {
    /// As it was written.
    pub text: String,
    /// What it is.
    pub entry: &'static Entry,
    pub(crate) to: To,
    pub(crate) when: When,
    /// What the path of a request begins with.
    path: Option<String>,
    make: Make,
}

impl Spec {
    /// Whether it is for connections to this path.
    pub(crate) fn is_for(&self, path: &str) -> bool {
        self.path.as_deref().is_none_or(|prefix| path.starts_with(prefix))
    }

    /// For a connection.
    pub(crate) fn make(&self) -> Fault {
        (self.make)()
    }

    /// For how long nobody is let in after it, if it is a fault of that kind.
    pub(crate) fn down(&self) -> Option<Duration> {
        match self.make() {
            Fault::Moment(moment) => moment.down(),
            Fault::Handshake(_) | Fault::Frames(_) | Fault::Pace(_) => None,
        }
    }
}

impl fmt::Debug for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Spec").field(&self.text).finish()
    }
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Bytes of one text, and faults in it.
const TEXT_BYTES: usize = 4 * 1024;
const FAULTS_MOST: usize = 64;

/// Reads a list of faults.
///
/// # Errors
/// What is wrong first, with the nearest right name where a name is not known.
pub fn parse(text: &str) -> Result<Vec<Arc<Spec>>, Complaint> {
    if text.len() > TEXT_BYTES {
        return Err(Complaint::new(format!("a fault has at most {TEXT_BYTES} bytes"), "write several"));
    }
    let mut all: Vec<Args> = Vec::new();
    for item in items(text)? {
        if let Some(entry) = faults::ALL.iter().find(|entry| entry.name == item.name) {
            all.push(Args::new(entry, item));
        } else if is_parameter(&item.name) {
            let hint = format!("write it behind the fault that it is about: cut=rst,{}", item.source);
            let args = all.last_mut();
            args.ok_or_else(|| Complaint::new(format!("`{}` stands before any fault", item.name), hint))?.add(item)?;
        } else {
            return Err(unknown(&item.name, all.last().map(|args| args.entry)));
        }
    }
    if all.len() > FAULTS_MOST {
        return Err(Complaint::new(format!("there are more than {FAULTS_MOST} faults"), "leave some out"));
    }
    all.into_iter().map(|args| args.read().map(Arc::new)).collect()
}

fn is_parameter(name: &str) -> bool {
    name == "for" || faults::ALL.iter().any(|entry| entry.parameters.contains(&name))
}

fn unknown(name: &str, entry: Option<&Entry>) -> Complaint {
    if name.is_empty() {
        return Complaint::new("there is a comma too many, or nothing", "a fault is written as cut=rst,after=5s");
    }
    let parameters = entry.map(|entry| entry.parameters).unwrap_or_default().iter().copied();
    let known = faults::ALL.iter().map(|entry| entry.name).chain(parameters).chain(["for"]);
    let message = match entry {
        Some(entry) => format!("there is no fault `{name}`, and `{}` has no parameter of that name", entry.name),
        None => format!("there is no fault `{name}`"),
    };
    Complaint::new(
        message,
        similar(name, known).map_or_else(
            || "`saywhy fault --list` has all of them".to_owned(),
            |better| format!("did you mean `{better}`?"),
        ),
    )
}

/// The word that was probably meant.
fn similar<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let likeness = known.into_iter().map(|known| (strsim::normalized_damerau_levenshtein(word, known), known));
    let best = likeness.filter(|(likeness, _)| *likeness >= 0.6).max_by(|(a, _), (b, _)| a.total_cmp(b));
    best.map(|(_, known)| known)
}

/// `name=value`, or a name alone.
struct Item {
    name: String,
    value: Option<String>,
    source: String,
}

fn items(text: &str) -> Result<Vec<Item>, Complaint> {
    let mut parts = vec![(String::new(), String::new())];
    let mut is_quoted = false;
    for c in text.chars() {
        if c == ',' && !is_quoted {
            parts.push(Default::default());
        } else if let Some((plain, source)) = parts.last_mut() {
            source.push(c);
            if c == '"' {
                is_quoted = !is_quoted;
            } else {
                plain.push(c);
            }
        }
    }
    if is_quoted {
        return Err(Complaint::new("a quote is not closed", "close it with another \""));
    }
    let item = |(plain, source): (String, String)| {
        let (name, value) = match plain.split_once('=') {
            Some((name, value)) => (name.trim().to_owned(), Some(value.trim().to_owned())),
            None => (plain.trim().to_owned(), None),
        };
        Item { name, value, source: source.trim().to_owned() }
    };
    Ok(parts.into_iter().map(item).collect())
}

/// What stands behind the name of a fault, for the fault to read.
pub(crate) struct Args {
    entry: &'static Entry,
    source: String,
    value: Option<String>,
    parameters: Vec<(String, Option<String>)>,
    /// When it is due. A fault may have a word in it.
    pub(crate) when: When,
}

impl Args {
    fn new(entry: &'static Entry, item: Item) -> Self {
        Self { entry, source: item.source, value: item.value, parameters: Vec::new(), when: When::default() }
    }

    fn add(&mut self, item: Item) -> Result<(), Complaint> {
        let name = &item.name;
        if !self.entry.parameters.contains(&name.as_str()) && name != "for" {
            let takes = self.entry.parameters.join(", ");
            let hint = format!("it takes: {takes}{}for", if takes.is_empty() { "" } else { ", " });
            return Err(Complaint::new(format!("`{}` takes no `{name}`", self.entry.name), hint));
        }
        if self.parameters.iter().any(|(known, _)| known == name) {
            return Err(Complaint::new(format!("`{name}` is there twice"), "leave one out"));
        }
        self.source.extend([",", &item.source]);
        self.parameters.push((item.name, item.value));
        Ok(())
    }

    fn read(mut self) -> Result<Spec, Complaint> {
        self.when.after = self.parse("after", amount)?;
        self.when.at = self.parse("at", duration)?;
        self.when.every = self.parse("every", amount)?;
        self.when.p = self.parse("p", probability)?;
        self.when.times = self.parse("times", |text| text.parse().map_err(|_| "a number, such as 3".to_owned()))?;
        if self.when.after.is_some() && self.when.at.is_some() {
            let hint = "`after` goes by each connection's own clock, `at` by that of the proxy: leave one out";
            return Err(Complaint::new("`after` and `at` are both there", hint));
        }
        let is_zero =
            |amount: &Amount| matches!(amount, Amount::Time(Duration::ZERO) | Amount::Bytes(0) | Amount::Messages(0));
        if self.when.every.as_ref().is_some_and(is_zero) {
            return Err(Complaint::new("`every` is 0", "it is a time, bytes or messages: every=5s"));
        }
        if self.when.at.is_some() && matches!(self.when.every, Some(Amount::Bytes(_) | Amount::Messages(_))) {
            return Err(Complaint::new("`every` behind `at` is not a time", "write every=5s, or leave out `at`"));
        }
        let to = self.parse("to", to)?.unwrap_or(self.entry.to);
        let path = self.parse("for", |text| match text.starts_with('/') {
            true => Ok(text.to_owned()),
            false => Err("how a path begins, such as /ws".to_owned()),
        })?;
        let make = (self.entry.read)(&mut self)?;
        if let Some(value) = &self.value {
            let hint = self.usage();
            return Err(Complaint::new(format!("`{}` takes no value, and there is {value:?}", self.entry.name), hint));
        }
        Ok(Spec { text: self.source, entry: self.entry, to, when: self.when, path, make })
    }

    fn usage(&self) -> String {
        format!("it is written as {}{}", self.entry.name, self.entry.value)
    }

    /// The value, which has to be there.
    pub(crate) fn value(&mut self) -> Result<String, Complaint> {
        let value = self.value.take().filter(|value| !value.is_empty());
        value.ok_or_else(|| Complaint::new(format!("`{}` needs a value", self.entry.name), self.usage()))
    }

    /// The value, as `read` has it.
    pub(crate) fn value_as<T>(&mut self, read: impl Fn(&str) -> Option<T>) -> Result<T, Complaint> {
        let value = self.value()?;
        read(&value).ok_or_else(|| Complaint::new(format!("`{}` cannot be {value:?}", self.entry.name), self.usage()))
    }

    /// The value, as `read` has it, if there is one.
    pub(crate) fn optional_value<T>(&mut self, read: impl Fn(&str) -> Option<T>) -> Result<Option<T>, Complaint> {
        if self.value.is_none() { Ok(None) } else { self.value_as(read).map(Some) }
    }

    /// What is wrong with the value, in words of the fault's own.
    pub(crate) fn wrong(&self, message: impl Into<String>, hint: impl Into<String>) -> Complaint {
        Complaint::new(format!("`{}`: {}", self.entry.name, message.into()), hint)
    }

    /// Whether a parameter without a value is there.
    pub(crate) fn flag(&self, name: &str) -> Result<bool, Complaint> {
        match self.parameters.iter().find(|(known, _)| known == name) {
            Some((_, Some(_))) => {
                Err(Complaint::new(format!("`{name}` takes no value"), format!("write `{name}` alone")))
            }
            Some((_, None)) => Ok(true),
            None => Ok(false),
        }
    }

    /// A parameter, as `read` has it; its error is what it should have been.
    pub(crate) fn parse<T>(
        &self,
        name: &str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<T>, Complaint> {
        let Some((_, value)) = self.parameters.iter().find(|(known, _)| known == name) else { return Ok(None) };
        let value = value.as_deref().unwrap_or_default();
        let wrong = |wanted| Complaint::new(format!("`{name}` cannot be {value:?}"), format!("it is {wanted}"));
        read(value).map(Some).map_err(wrong)
    }
}

// ---- values -----------------------------------------------------------------------------------------------------

/// The longest time that can be written: a day.
const TIME_MOST: Duration = Duration::from_secs(24 * 60 * 60);

/// `200ms`, `5s`, `2m`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = number_and_unit(text).ok_or(TIME)?;
    let time = match unit {
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        "m" => Duration::from_secs(number.saturating_mul(60)),
        _ => return Err(TIME.to_owned()),
    };
    if time > TIME_MOST { Err("a time of at most a day".to_owned()) } else { Ok(time) }
}

const TIME: &str = "a time, such as 200ms, 5s or 2m";

/// `10B`, `10kB`, `1MB`.
pub(crate) fn bytes(text: &str) -> Option<u64> {
    let (number, unit) = number_and_unit(text)?;
    match unit {
        "B" => Some(number),
        "kB" => number.checked_mul(1_000),
        "MB" => number.checked_mul(1_000_000),
        _ => None,
    }
}

fn amount(text: &str) -> Result<Amount, String> {
    let messages = number_and_unit(text).filter(|(_, unit)| *unit == "msg").map(|(number, _)| Amount::Messages(number));
    let amount = messages.or_else(|| bytes(text).map(Amount::Bytes)).or_else(|| duration(text).ok().map(Amount::Time));
    amount.ok_or_else(|| "a time, bytes or messages, such as 5s, 10kB or 20msg".to_owned())
}

/// A number of at most ten digits, and what stands behind it.
fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let number = &text[..text.len() - unit.len()];
    (number.len() <= 10).then(|| number.parse().ok())?.map(|number| (number, unit))
}

fn probability(text: &str) -> Result<f64, String> {
    let p = text.parse().ok().filter(|p| (0.0..=1.0).contains(p));
    p.ok_or_else(|| "a probability from 0 to 1, such as 0.1".to_owned())
}

fn to(text: &str) -> Result<To, String> {
    match text {
        "client" => Ok(To::Client),
        "server" => Ok(To::Server),
        "both" => Ok(To::Both),
        _ => Err("whom it meets: client, server or both".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn error(text: &str) -> String {
        let complaint = parse(text).unwrap_err();
        format!("{}\n{}", complaint.message, complaint.hint)
    }

    #[test]
    fn a_name_begins_a_fault_and_a_parameter_belongs_to_it() {
        let specs = parse("latency=200ms..500ms, cut=rst,after=20msg,p=0.1,duplicate").unwrap();
        let texts: Vec<_> = specs.iter().map(|spec| &*spec.text).collect();
        assert_eq!(texts, ["latency=200ms..500ms", "cut=rst,after=20msg,p=0.1", "duplicate"]);
        assert_eq!(specs[1].when.after, Some(Amount::Messages(20)));
        assert_eq!(specs[1].when.p, Some(0.1));
    }

    #[test]
    fn no_name_is_a_fault_and_a_parameter() {
        for entry in &ALL {
            assert!(!is_parameter(entry.name), "{}", entry.name);
        }
    }

    use crate::faults::ALL;

    #[test]
    fn every_example_can_be_read_and_is_of_its_fault() {
        for entry in &ALL {
            assert!(!entry.examples.is_empty(), "{}", entry.name);
            for example in entry.examples {
                let specs = parse(example.fault).unwrap_or_else(|error| panic!("{}: {error}", example.fault));
                assert_eq!(specs.len(), 1);
                assert_eq!((specs[0].entry.name, &*specs[0].text), (entry.name, example.fault));
                let kind = match specs[0].make() {
                    Fault::Handshake(_) => Kind::Handshake,
                    Fault::Moment(_) => Kind::Moment,
                    Fault::Frames(_) => Kind::Frames,
                    Fault::Pace(_) => Kind::Pace,
                };
                assert_eq!(kind, entry.kind, "{}", entry.name);
            }
        }
    }

    #[test]
    fn quotes_keep_a_comma() {
        let specs = parse(r#"close=4003:"Sorry, not now",duplicate"#).unwrap();
        assert_eq!(specs[0].text, r#"close=4003:"Sorry, not now""#);
        assert_eq!(specs.len(), 2);
    }

    #[test]
    fn what_is_wrong_and_what_to_do() {
        for (text, said) in [
            ("latnecy=5s", "there is no fault `latnecy`\ndid you mean `latency`?"),
            (
                "cut=rst,aftre=5s",
                "there is no fault `aftre`, and `cut` has no parameter of that name\ndid you mean `after`?",
            ),
            ("xyz", "there is no fault `xyz`\n`saywhy fault --list` has all of them"),
            ("", "there is a comma too many, or nothing\na fault is written as cut=rst,after=5s"),
            (
                "after=5s",
                "`after` stands before any fault\nwrite it behind the fault that it is about: cut=rst,after=5s",
            ),
            ("refuse=503,after=5s", "`refuse` takes no `after`\nit takes: body, retry-after, p, times, for"),
            ("cut=rst,p=2", "`p` cannot be \"2\"\nit is a probability from 0 to 1, such as 0.1"),
            ("cut=rst,after=5", "`after` cannot be \"5\"\nit is a time, bytes or messages, such as 5s, 10kB or 20msg"),
            ("cut=rst,after=5s,after=6s", "`after` is there twice\nleave one out"),
            ("cut=rst,every=0s", "`every` is 0\nit is a time, bytes or messages: every=5s"),
            ("cut=rst,at=1s,every=1msg", "`every` behind `at` is not a time\nwrite every=5s, or leave out `at`"),
            ("cut=rst,to=me", "`to` cannot be \"me\"\nit is whom it meets: client, server or both"),
            ("cut=rst,inside=1", "`inside` takes no value\nwrite `inside` alone"),
            ("cut=rst,for=ws", "`for` cannot be \"ws\"\nit is how a path begins, such as /ws"),
            ("duplicate=2", "`duplicate` takes no value, and there is \"2\"\nit is written as duplicate"),
            ("cut", "`cut` needs a value\nit is written as cut=fin|rst|silence|half-open"),
            ("cut=often", "`cut` cannot be \"often\"\nit is written as cut=fin|rst|silence|half-open"),
            ("close=4003:\"a", "a quote is not closed\nclose it with another \""),
        ] {
            assert_eq!(error(text), said, "{text}");
        }
        assert!(error("cut=rst,after=5s,at=5s").starts_with("`after` and `at` are both there\n"));
    }

    #[test]
    fn numbers_and_units() {
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(
            [bytes("10B"), bytes("10kB"), bytes("2MB"), bytes("10")],
            [Some(10), Some(10_000), Some(2_000_000), None]
        );
        for wrong in ["", "s", "-1s", "1.5s", "5 s", "5h", "99999999999ms", "9999m"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_written_is_read_or_complained_about(text in ".{0,60}", list in "((cut|latency|refuse|close|after|every|p|at|for|times|body)=?[a-z0-9.:\"]{0,6},?){0,6}") {
            for text in [text, list] {
                if let Err(complaint) = parse(&text) {
                    prop_assert!(!complaint.message.is_empty() && !complaint.hint.is_empty());
                }
            }
        }
    }
}
