//! A file, read: either a configuration that can be relied on, or a report of everything that is wrong with it.

use super::problem::{Failure, Problems};
use super::values::Complaint;
use super::{API_KEY_LEAST, Config, HS256_SECRET_LEAST, rules, schema, shape};
use serde::Deserialize;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Deserializer, Error};

/// Bytes of a configuration.
const FILE_MOST: u64 = 1024 * 1024;

/// Reads and checks a file.
///
/// # Errors
/// [`Failure::Unreadable`] when there is nothing to check, [`Failure::Problems`] when the check fails.
pub(crate) fn read(path: &Path) -> Result<Config, Failure> {
    let name = path.display().to_string();
    let bytes = bytes_of(path).map_err(|err| {
        let hint = "the path is relative to the current folder";
        Failure::Unreadable(Complaint::new(format!("cannot read {name}: {err}"), hint))
    })?;
    let (text, mut problems) = match String::from_utf8(bytes) {
        Ok(text) => (text.trim_start_matches('\u{feff}').to_owned(), Problems::default()),
        Err(err) => not_utf8(&err),
    };
    let folder = path.parent().unwrap_or(Path::new(""));
    let config = if problems.is_empty() { parse(&text, folder, &mut problems) } else { None };
    config.ok_or_else(|| Failure::Problems(problems.report(&name, text)))
}

fn bytes_of(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_MOST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_MOST {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than 1 MiB"));
    }
    Ok(bytes)
}

fn not_utf8(err: &std::string::FromUtf8Error) -> (String, Problems) {
    let mut problems = Problems::default();
    let at = err.utf8_error().valid_up_to();
    problems.add(at..at + 3, Complaint::new("the file is not UTF-8 here", "save it as UTF-8"));
    // The first replacement character stands where the first wrong byte was.
    (String::from_utf8_lossy(err.as_bytes()).into_owned(), problems)
}

/// The configuration, or `None` and a reason among the problems.
fn parse(text: &str, folder: &Path, problems: &mut Problems) -> Option<Config> {
    let (mut tree, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        syntax(text, errors, problems);
        return None;
    }
    let found = rules::check(text, tree.get_ref(), folder, problems);
    let mut mistakes = Problems::default();
    shape::check(&schema(), tree.get_ref(), &mut mistakes);
    problems.add_more(mistakes);
    if !problems.is_empty() {
        return None;
    }
    inherit_limits(tree.get_mut());
    match Config::deserialize(Deserializer::from(tree)) {
        Ok(config) => resolved(config, found, folder).map_err(|complaint| problems.add(0..0, complaint)).ok(),
        // The schema comes from the same types, so this says that they contradict each other.
        Err(err) => {
            let hint = "`saywhy check` should have said it better: please report it";
            problems.add(err.span().unwrap_or_default(), Complaint::new(err.message(), hint));
            None
        }
    }
}

/// What the parser stumbled over: the first of each line, as the others follow from it.
fn syntax(text: &str, mut errors: Vec<Error>, problems: &mut Problems) {
    let start = |err: &Error| text.floor_char_boundary(err.span().unwrap_or_default().start);
    let line = |err: &Error| text[..start(err)].matches('\n').count();
    errors.sort_by_key(start);
    errors.dedup_by_key(|err| line(err));
    for err in errors {
        let value = text.split('\n').nth(line(&err)).and_then(|line| line.split_once('='));
        let bare = value.is_some_and(|(_, value)| value.trim_start().starts_with(char::is_alphanumeric));
        let hint = match err.message() {
            "duplicate key" => "a key stands once, and so does a `[table]`; a `[[table]]` may stand more often",
            _ if bare => "text stands in quotes",
            _ => "the file is TOML: https://toml.io/en/v1.0.0",
        };
        let message = err.message().trim_end_matches(", expected nothing");
        problems.add(err.span().unwrap_or_default(), Complaint::new(message, hint));
    }
}

/// Gives each route the limits of the server, but for those of its own.
fn inherit_limits(file: &mut DeTable<'_>) {
    let Some(server) = file.get("limits").and_then(|value| value.get_ref().as_table()).cloned() else { return };
    let Some(DeValue::Array(routes)) = file.get_mut("route").map(Spanned::get_mut) else { return };
    for route in routes.iter_mut() {
        let DeValue::Table(route) = route.get_mut() else { continue };
        let mut limits = server.clone();
        if let Some(own) = route.get("limits").and_then(|value| value.get_ref().as_table()) {
            limits.extend(own.clone());
        }
        route.remove("limits");
        route.insert(Spanned::new(0..0, "limits".into()), Spanned::new(0..0, DeValue::Table(limits)));
    }
}

/// With the names in it looked up and the files in it read.
fn resolved(mut config: Config, found: rules::Found, folder: &Path) -> Result<Config, Complaint> {
    config.catalogue = found.catalogue;
    for route in &mut config.routes {
        route.dialect = rules::known_dialect(&route.dialect_name, &found.dialects)?;
    }
    config.dialects = found.dialects;
    if let Some(tls) = &mut config.tls {
        for file in [&mut tls.certificate_file, &mut tls.key_file] {
            *file = folder.join(&file);
        }
    }
    if let Some(api) = &mut config.api
        && let Some(file) = &api.key_file
    {
        api.key = Some(rules::read_secret(&folder.join(file), API_KEY_LEAST)?);
    }
    if let Some(token) = &mut config.token
        && let Some(file) = &token.hs256_secret_file
    {
        token.hs256_secret = Some(rules::read_secret(&folder.join(file), HS256_SECRET_LEAST)?);
    }
    for key in config.token.iter_mut().flat_map(|token| &mut token.keys) {
        let text = match (&key.file, &key.key) {
            (Some(file), _) => rules::read_file(&folder.join(file))?,
            (None, key) => key.as_ref().map_or_else(String::new, |key| key.expose().to_owned()),
        };
        let read = rules::token_key(key.algorithm.into(), &text)?;
        key.read = Some(if let Some(kid) = &key.kid { read.id(kid) } else { read });
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WHOLE: &str = include_str!("../../tests/config/whole.toml");
    const PUT: [&str; 14] = ["", "\"", "0", "-1", "]", "}", "\n", "[", "=", "é", "\u{0}", "true", "#", "errors = 1\n"];

    proptest! {
        /// Whatever a file says, it is either a configuration or has problems that can be shown; and what the schema
        /// and the rules let pass is what the types can hold.
        #[test]
        fn no_file_is_too_much(at in 0..WHOLE.len(), cut in 0..40_usize, put in prop::sample::select(&PUT[..])) {
            let at = WHOLE.floor_char_boundary(at);
            let end = WHOLE.floor_char_boundary((at + cut).min(WHOLE.len()));
            let text = format!("{}{put}{}", &WHOLE[..at], &WHOLE[end..]);
            let mut problems = Problems::default();
            let config = parse(&text, &Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config"), &mut problems);
            prop_assert_eq!(config.is_some(), problems.is_empty());
            let report = problems.report("x.toml", text);
            prop_assert!(!report.to_string().contains("please report it"), "{report}");
            prop_assert!(report.json().is_array());
        }
    }
}
