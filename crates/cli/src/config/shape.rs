//! A parsed file against the JSON Schema: which keys there are, of which type, in which range.
//!
//! Only the keywords that `schema.rs` makes are known here; a test sees to it that there are no others.

use super::problem::{Problems, similar};
use super::rules;
use super::values::{Complaint, FORMATS, Secret};
use serde_json::Value;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Checks a whole file.
pub(super) fn check(schema: &Value, file: &DeTable<'_>, problems: &mut Problems) {
    Shape { root: schema, problems }.table("the file", schema, file, &(0..0));
}

struct Shape<'a> {
    root: &'a Value,
    problems: &'a mut Problems,
}

impl Shape<'_> {
    fn value(&mut self, key: &str, schema: &Value, value: &Spanned<DeValue<'_>>) {
        let span = value.span();
        match (type_of(schema), value.get_ref()) {
            ("object", DeValue::Table(table)) => self.table(&format!("`{key}`"), schema, table, &span),
            ("array", DeValue::Array(items)) => items.iter().for_each(|item| self.item(key, &schema["items"], item)),
            ("integer", DeValue::Integer(_)) => self.judge(span, integer(key, schema, rules::integer(value))),
            ("string", DeValue::String(text)) => self.judge(span, string(key, schema, text)),
            ("boolean", DeValue::Boolean(_)) => {}
            (_, found) => self.problems.add(span, wrong_type(key, schema, found)),
        }
    }

    /// One of a list; one of an array of tables has no name of its own.
    fn item(&mut self, key: &str, schema: &Value, item: &Spanned<DeValue<'_>>) {
        match (type_of(schema), item.get_ref()) {
            ("object", DeValue::Table(table)) => self.table(&format!("this `[[{key}]]`"), schema, table, &item.span()),
            _ => self.value(key, schema, item),
        }
    }

    fn judge(&mut self, span: Range<usize>, judgement: Result<(), Complaint>) {
        if let Err(complaint) = judgement {
            self.problems.add(span, complaint);
        }
    }

    fn table(&mut self, name: &str, schema: &Value, table: &DeTable<'_>, span: &Range<usize>) {
        for (key, value) in table.iter() {
            match (&schema["properties"][key.get_ref().as_ref()], &schema["additionalProperties"]) {
                (Value::Null, any @ Value::Object(_)) => self.value(key.get_ref(), any, value),
                (Value::Null, _) => self.problems.add(key.span(), self.unknown(key.get_ref(), name, schema)),
                (known, _) => self.value(key.get_ref(), known, value),
            }
        }
        self.missing(name, schema, table, span);
        self.one_of(name, schema, table, span);
        self.not_both(name, schema, table);
    }

    fn unknown(&self, key: &str, name: &str, schema: &Value) -> Complaint {
        let known = schema["properties"].as_object().into_iter().flatten().map(|(key, _)| key.as_str());
        let known: Vec<_> = known.collect();
        let better = similar(key, known.iter().copied());
        let hint = match home(self.root, key, "") {
            Some(home) if home.is_empty() => {
                format!("`{key}` belongs at the top of the file, before the first `[table]`")
            }
            Some(home) => format!("`{key}` belongs in `{home}`"),
            None => format!("its keys are {}", known.join(", ")),
        };
        Complaint::new(format!("{name} has no key `{key}`"), hint).did_you_mean(better)
    }

    fn missing(&mut self, name: &str, schema: &Value, table: &DeTable<'_>, span: &Range<usize>) {
        let missing: Vec<_> = strings(&schema["required"]).filter(|key| !table.contains_key(*key)).collect();
        if let [first, ..] = missing.as_slice() {
            let message = format!("{name} has no `{}`", missing.join("`, no `"));
            self.problems.add(span.clone(), Complaint::new(message, about(first, &schema["properties"][first])));
        }
    }

    /// `oneOf` as it stands for keys of which there is exactly one.
    fn one_of(&mut self, name: &str, schema: &Value, table: &DeTable<'_>, span: &Range<usize>) {
        let halves = schema["oneOf"].as_array().into_iter().flatten();
        let keys: Vec<_> = halves.flat_map(|half| strings(&half["required"])).collect();
        match places(table, &keys).as_slice() {
            [] if !keys.is_empty() => {
                let message = format!("{name} has neither `{}`", keys.join("` nor `"));
                let hint = "`rooms = {}` is a route with rooms as they come";
                self.problems.add(span.clone(), Complaint::new(message, hint));
            }
            [_, second, ..] => {
                let message = format!("{name} has both `{}`", keys.join("` and `"));
                let hint = "two routes, each with a path of its own, can have one each";
                self.problems.add(second.clone(), Complaint::new(message, hint));
            }
            _ => {}
        }
    }

    /// `not` as it stands for keys of which there is one at most.
    fn not_both(&mut self, name: &str, schema: &Value, table: &DeTable<'_>) {
        let keys: Vec<_> = strings(&schema["not"]["required"]).collect();
        if let [_, second, ..] = places(table, &keys).as_slice() {
            let message = format!("{name} has both `{}`", keys.join("` and `"));
            let hint = "keep the file: a configuration is no place for secrets";
            self.problems.add(second.clone(), Complaint::new(message, hint));
        }
    }
}

/// Where those of the keys stand that are there, in the order of the file.
fn places(table: &DeTable<'_>, keys: &[&str]) -> Vec<Range<usize>> {
    let mut there: Vec<_> =
        keys.iter().filter_map(|key| table.get_key_value(*key)).map(|(key, _)| key.span()).collect();
    there.sort_by_key(|span| span.start);
    there
}

/// The table that has a key of this name, as its header is written.
fn home(schema: &Value, key: &str, path: &str) -> Option<String> {
    let tables = schema["properties"].as_object()?;
    if tables.contains_key(key) {
        return Some(path.to_owned());
    }
    tables.iter().find_map(|(name, schema)| {
        let below = if path.is_empty() { name.clone() } else { format!("{}.{name}", path.trim_matches(['[', ']'])) };
        match type_of(schema) {
            "array" => home(&schema["items"], key, &format!("[[{below}]]")),
            _ => home(schema, key, &format!("[{below}]")),
        }
    })
}

fn type_of(schema: &Value) -> &str {
    // A choice of words has no type of its own.
    schema["type"].as_str().unwrap_or(if schema["oneOf"].is_array() { "string" } else { "" })
}

fn strings(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// What helps with a wrong value when there is no better one to suggest: the default, else the meaning.
fn about(key: &str, schema: &Value) -> String {
    match (&schema["default"], schema["description"].as_str()) {
        (Value::Null | Value::Object(_), Some(meaning)) => format!("`{key}`: {meaning}"),
        (Value::Null | Value::Object(_), None) => "`docs/config.md` has the meaning of every key".to_owned(),
        (default, _) => format!("the default is {default}"),
    }
}

fn integer(key: &str, schema: &Value, number: Option<i64>) -> Result<(), Complaint> {
    let (min, max) = (schema["minimum"].as_i64().unwrap_or(i64::MIN), schema["maximum"].as_i64().unwrap_or(i64::MAX));
    match number {
        Some(number) if (min..=max).contains(&number) => Ok(()),
        _ => Err(Complaint::new(format!("`{key}` is a number from {min} to {max}"), about(key, schema))),
    }
}

fn string(key: &str, schema: &Value, text: &str) -> Result<(), Complaint> {
    let described = schema["oneOf"].as_array().into_iter().flatten().filter_map(|word| word["const"].as_str());
    let words: Vec<_> = strings(&schema["enum"]).chain(described).collect();
    if !words.is_empty() && !words.contains(&text) {
        let complaint = Complaint::new(format!("`{key}` is one of {}", words.join(", ")), about(key, schema));
        return Err(complaint.did_you_mean(similar(text, words)));
    }
    let least = schema["minLength"].as_u64().and_then(|least| usize::try_from(least).ok()).unwrap_or(0);
    if schema["writeOnly"] == true {
        return Secret::new(text, least).map(drop);
    }
    if text.chars().count() < least {
        return Err(Complaint::new(format!("`{key}` is not empty"), about(key, schema)));
    }
    let format = FORMATS.iter().find(|(name, _)| schema["format"] == *name);
    format.map_or(Ok(()), |(_, check)| check(text))
}

fn wrong_type(key: &str, schema: &Value, found: &DeValue<'_>) -> Complaint {
    let found = match found {
        DeValue::String(_) => "text",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    };
    let (expected, hint) = match type_of(schema) {
        "integer" => (format!("a whole number{}", unit(key)), about(key, schema)),
        "string" => ("text in quotes".to_owned(), about(key, schema)),
        "boolean" => ("true or false, without quotes".to_owned(), about(key, schema)),
        "array" if schema["items"]["type"] == "object" => ("a list of tables".to_owned(), format!("write `[[{key}]]`")),
        "array" => ("a list".to_owned(), format!("write `{key} = [\"…\"]`")),
        _ => ("a table".to_owned(), format!("write `{key} = {{ … }}`")),
    };
    Complaint::new(format!("`{key}` takes {expected}, and this is {found}"), hint)
}

/// The unit that a name ends in.
fn unit(key: &str) -> &'static str {
    match key.rsplit('_').next() {
        Some("ms") => " of milliseconds",
        Some("bytes") => " of bytes",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is checked above, and what only describes.
    const KEYWORDS: [&str; 20] = [
        "type",
        "properties",
        "additionalProperties",
        "required",
        "items",
        "oneOf",
        "not",
        "enum",
        "const",
        "minimum",
        "maximum",
        "minLength",
        "format",
        "writeOnly",
        "title",
        "description",
        "default",
        "$schema",
        "x-client-sees",
        "x-unit",
    ];

    fn walk(schema: &Value) {
        for (keyword, value) in schema.as_object().into_iter().flatten() {
            assert!(KEYWORDS.contains(&keyword.as_str()), "`{keyword}` is in the schema, and nothing checks it");
            match keyword.as_str() {
                "properties" => value.as_object().into_iter().flatten().for_each(|(_, schema)| walk(schema)),
                "oneOf" => value.as_array().into_iter().flatten().for_each(walk),
                "items" | "additionalProperties" | "not" => walk(value),
                "format" => assert!(FORMATS.iter().any(|(name, _)| value == name), "nothing checks the format {value}"),
                _ => {}
            }
        }
    }

    #[test]
    fn every_keyword_and_format_of_the_schema_is_checked() {
        walk(&super::super::schema());
    }
}
