//! What no schema can say: one key against another, names against the catalogue, files against the disk.
//!
//! The rules read the parsed file and not the types, so that a mistake of shape in one place hides no mistake in another.

use super::problem::{Problems, similar};
use super::values::{Complaint, Secret};
use super::{API_KEY_LEAST, Api, Config, Drain, HS256_SECRET_LEAST, SessionLimits};
use saywhy::{InvalidKey, Tls, TokenAlgorithm, TokenKey};
use saywhy_codes::catalogue::CUSTOM_CODES;
use saywhy_codes::{Catalogue, Clash, CustomDialect, Dialect, Retry};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// What the rules made of the tables that they understood.
pub(super) struct Found {
    /// With the rows of `[[error]]`.
    pub(super) catalogue: Catalogue,
    /// Those of `[[dialect]]`.
    pub(super) dialects: Vec<Dialect>,
}

/// Checks a whole file.
pub(super) fn check(text: &str, file: &DeTable<'_>, folder: &Path, problems: &mut Problems) -> Found {
    addresses(file, problems);
    tls(file, folder, problems);
    proxies(file, problems);
    secret_file(file, ("api", "key_file"), API_KEY_LEAST, folder, problems);
    secret_file(file, ("token", "hs256_secret_file"), HS256_SECRET_LEAST, folder, problems);
    token_keys(file, folder, problems);
    drain(file, problems);
    queue(file, None, problems);
    let catalogue = error_rows(file, problems);
    let dialects = dialect_rows(file, &catalogue, problems);
    routes(text, file, &dialects, problems);
    Found { catalogue, dialects }
}

fn addresses(file: &DeTable<'_>, problems: &mut Problems) {
    let Some((api, span)) = table(file, "api").and_then(|api| text_of(api, "listen")) else { return };
    let clients =
        text_of(file, "listen").map_or(Config::default().listen.to_string(), |(address, _)| address.to_owned());
    // Port 0 is a port of its own each time.
    if api == clients && !api.ends_with(":0") {
        let hint = format!("the default is `{}`", Api::default().listen);
        problems.add(span, Complaint::new("the API listens where the clients connect", hint));
    }
}

/// The files of the certificate, which have to be there and to belong together.
fn tls(file: &DeTable<'_>, folder: &Path, problems: &mut Problems) {
    let Some(tls) = table(file, "tls") else { return };
    let (certificate, key) = (text_of(tls, "certificate_file"), text_of(tls, "key_file"));
    let (Some((certificate, certificate_span)), Some((key, key_span))) = (certificate, key) else { return };
    let key = folder.join(key);
    if let Err(problem) = Tls::from_files(folder.join(certificate), &key) {
        let span = if problem.is_about_key(&key) { key_span } else { certificate_span };
        problems.add(span, Complaint::new(problem.to_string(), problem.hint()));
    }
}

/// Nobody is believed about anything.
fn proxies(file: &DeTable<'_>, problems: &mut Problems) {
    let Some(proxies) = table(file, "proxies") else { return };
    let some = proxies.get("trusted").and_then(|value| value.get_ref().as_array()).is_some_and(|list| !list.is_empty());
    let idle = ["proxy_protocol", "header"].iter().filter_map(|key| proxies.get_key_value(*key));
    for (key, _) in idle.filter(|(_, value)| !some && value.get_ref().as_bool() != Some(false)) {
        let message = format!("`{}` has no effect without `trusted`", key.get_ref());
        problems.add(
            key.span(),
            Complaint::new(message, "name the networks of your proxies, such as `trusted = [\"10.0.0.0/8\"]`"),
        );
    }
}

fn secret_file(
    file: &DeTable<'_>,
    (table_name, key): (&str, &str),
    least: usize,
    folder: &Path,
    problems: &mut Problems,
) {
    let Some((path, span)) = table(file, table_name).and_then(|table| text_of(table, key)) else { return };
    if let Err(complaint) = read_secret(&folder.join(path), least) {
        problems.add(span, complaint);
    }
}

/// The secret that a file holds, without the line feed at its end.
pub(super) fn read_secret(path: &Path, least: usize) -> Result<Secret, Complaint> {
    let text = std::fs::read_to_string(path).map_err(|err| {
        let hint = "the path is relative to the folder of the configuration";
        Complaint::new(format!("cannot read the secret in {}: {err}", path.display()), hint)
    })?;
    Secret::new(text.trim_end(), least)
}

fn token_keys(file: &DeTable<'_>, folder: &Path, problems: &mut Problems) {
    for key in table(file, "token").into_iter().flat_map(|token| tables(token, "key")) {
        let Some((algorithm, span)) = text_of(key, "algorithm") else { continue };
        let Ok(algorithm) = algorithm.parse::<TokenAlgorithm>() else { continue };
        let (read, span) = match (text_of(key, "file"), text_of(key, "key")) {
            (Some((path, span)), _) => {
                (read_file(&folder.join(path)).and_then(|text| token_key(algorithm, &text)), span)
            }
            (None, Some((text, span))) => (token_key(algorithm, text), span),
            (None, None) => {
                let hint = "`file` names a file with the public key in PEM, or with the secret of HS256";
                (Err(Complaint::new("this `[[token.key]]` has neither `file` nor `key`", hint)), span)
            }
        };
        if let Err(complaint) = read {
            problems.add(span, complaint);
        }
    }
}

/// A key as it stands in a file.
///
/// # Errors
/// When it is none of that algorithm, or a secret that is too short.
pub(crate) fn token_key(algorithm: TokenAlgorithm, text: &str) -> Result<TokenKey, Complaint> {
    if algorithm == TokenAlgorithm::Hs256 && !text.contains("-----BEGIN") {
        Secret::new(text.trim_end(), HS256_SECRET_LEAST)?;
        return TokenKey::read(algorithm, text.trim_end()).map_err(|invalid| key_complaint(invalid, algorithm));
    }
    TokenKey::read(algorithm, text).map_err(|invalid| key_complaint(invalid, algorithm))
}

/// What is wrong with a key, and what to do.
fn key_complaint(invalid: InvalidKey, algorithm: TokenAlgorithm) -> Complaint {
    let hint = match invalid {
        InvalidKey::Algorithm => "take the one that tokens are signed with".to_owned(),
        InvalidKey::PublicSecret => {
            "a public key goes with `RS256`, `ES256` or `EdDSA`, whichever it is for".to_owned()
        }
        InvalidKey::NoPem => "`openssl pkey -in private.pem -pubout` makes one of a private key".to_owned(),
        InvalidKey::NotPrivate => "whoever signs takes the private key".to_owned(),
        InvalidKey::Private => "`openssl pkey -in private.pem -pubout` makes the public key of it".to_owned(),
        InvalidKey::OtherKind(_) => format!("the key and `algorithm = \"{algorithm}\"` have to go together"),
        InvalidKey::ShortRsa => {
            "`openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:3072` makes a longer one".to_owned()
        }
    };
    Complaint::new(invalid.to_string(), hint)
}

/// A key that a file holds.
pub(super) fn read_file(path: &Path) -> Result<String, Complaint> {
    std::fs::read_to_string(path).map_err(|err| {
        let hint = "the path is relative to the folder of the configuration";
        Complaint::new(format!("cannot read the key in {}: {err}", path.display()), hint)
    })
}

fn drain(file: &DeTable<'_>, problems: &mut Problems) {
    let Some(drain) = table(file, "drain") else { return };
    let default = Drain::default();
    let window = number(drain, "window_ms");
    let deadline = number(drain, "deadline_ms");
    let window_ms = window.as_ref().map_or(default.window_ms.into(), |(ms, _)| *ms);
    let deadline_ms = deadline.as_ref().map_or(default.deadline_ms.into(), |(ms, _)| *ms);
    let Some((_, span)) = window.or(deadline) else { return };
    if window_ms > deadline_ms {
        let message = format!(
            "`window_ms` is {window_ms} and `deadline_ms` is {deadline_ms}: clients would be cut off before their time"
        );
        problems.add(span, Complaint::new(message, "the deadline is not before the end of the window"));
    }
}

/// The longest message has to fit the queue of the one who is to receive it.
fn queue(file: &DeTable<'_>, route: Option<&DeTable<'_>>, problems: &mut Problems) {
    let default = SessionLimits::default();
    let own = table(route.unwrap_or(file), "limits");
    let find = |key, default: u32| {
        let server = table(file, "limits").and_then(|limits| number(limits, key)).map_or(default.into(), |(n, _)| n);
        own.and_then(|limits| number(limits, key)).map_or((server, None), |(n, span)| (n, Some(span)))
    };
    let (message, message_span) = find("message_bytes", default.message_bytes);
    let (queue, queue_span) = find("outbound_bytes", default.outbound_bytes);
    let (Some(span), true) = (message_span.or(queue_span), message > queue) else { return };
    let message = format!(
        "`message_bytes` is {message} and `outbound_bytes` is {queue}: a message that may be sent would reach nobody"
    );
    problems.add(span, Complaint::new(message, "`outbound_bytes` is at least `message_bytes`"));
}

fn error_rows(file: &DeTable<'_>, problems: &mut Problems) -> Catalogue {
    let mut catalogue = Catalogue::builtin();
    for row in tables(file, "error") {
        retry_numbers(row, problems);
        let (Some((name, name_span)), Some((code, code_span))) = (text_of(row, "name"), number(row, "code")) else {
            continue;
        };
        let (http, http_span) = number(row, "http").unwrap_or((400, name_span.clone()));
        let (Ok(code), Ok(http)) = (u16::try_from(code), u16::try_from(http)) else { continue };
        let message = text_of(row, "message").map_or("", |(message, _)| message);
        if let Err(clash) = catalogue.add_read(name, code, http, retry(row), message) {
            let span = match clash {
                Clash::Name { .. } | Clash::NameTaken { .. } => name_span,
                Clash::Http { .. } => http_span,
                Clash::CodeRange { .. } | Clash::CodeTaken { .. } => code_span,
            };
            problems.add(span, clash_complaint(&clash, file, &catalogue));
        }
    }
    catalogue
}

fn clash_complaint(clash: &Clash, file: &DeTable<'_>, catalogue: &Catalogue) -> Complaint {
    let complaint = |hint: &str| Complaint::new(clash.to_string(), hint);
    match clash {
        Clash::Name { name } => {
            let snake = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
            let better: String = name.chars().map(snake).collect();
            complaint("for example `room_full`")
                .did_you_mean(Some(better.trim_matches('_')).filter(|better| !better.is_empty()))
        }
        Clash::Http { .. } => complaint("409 is a conflict, 422 a request that cannot be met, 503 a passing trouble"),
        Clash::NameTaken { .. } => complaint("names are what people search for: give the row one of its own"),
        Clash::CodeRange { .. } | Clash::CodeTaken { .. } => {
            let used: Vec<_> =
                tables(file, "error").filter_map(|row| number(row, "code")).map(|(code, _)| code).collect();
            let free = |code: &u16| catalogue.by_code(*code).is_none() && !used.contains(&(*code).into());
            match CUSTOM_CODES.clone().find(free) {
                Some(code) => complaint(&format!("{code} is free")),
                None => complaint("no code is free"),
            }
        }
    }
}

fn retry(row: &DeTable<'_>) -> Retry {
    let ms = |key| number(row, key).and_then(|(ms, _)| u64::try_from(ms).ok()).unwrap_or(1_000);
    match text_of(row, "retry").and_then(|(word, _)| word.parse().ok()) {
        Some(Retry::After { .. }) => Retry::after_ms(ms("retry_after_ms"), ms("spread_ms")),
        retry => retry.unwrap_or(Retry::Never),
    }
}

fn retry_numbers(row: &DeTable<'_>, problems: &mut Problems) {
    let Some((word, _)) = text_of(row, "retry").filter(|(word, _)| *word != "after") else { return };
    for (key, _) in ["retry_after_ms", "spread_ms"].iter().filter_map(|key| row.get_key_value(*key)) {
        let message = format!("`{}` has no effect with `retry = \"{word}\"`", key.get_ref());
        problems.add(key.span(), Complaint::new(message, "it goes with `retry = \"after\"`"));
    }
}

fn dialect_rows(file: &DeTable<'_>, catalogue: &Catalogue, problems: &mut Problems) -> Vec<Dialect> {
    let mut dialects = Vec::<Dialect>::new();
    for row in tables(file, "dialect") {
        let like = text_of(row, "like").and_then(|(name, _)| name.parse().ok()).unwrap_or_default();
        let (name, span) = text_of(row, "name").unwrap_or(("", 0..0));
        if !name.is_empty() && dialects.iter().any(|dialect| dialect.name() == name) {
            problems.add(span, Complaint::new(format!("there is a dialect `{name}` already"), "names are unique"));
        }
        let mut dialect = CustomDialect::new(name, like);
        if let Some(message) = row.get("message").and_then(|value| value.get_ref().as_bool()) {
            dialect = dialect.message(message);
        }
        dialects.push(Dialect::Custom(Arc::new(with_codes(dialect, file, row, catalogue, problems))));
    }
    dialects
}

/// The dialect with the codes of its row, where they can be sent and are of rows that there are.
fn with_codes(
    mut dialect: CustomDialect,
    file: &DeTable<'_>,
    row: &DeTable<'_>,
    catalogue: &Catalogue,
    problems: &mut Problems,
) -> CustomDialect {
    // A row that was not understood has a name all the same.
    let own = tables(file, "error").filter_map(|row| text_of(row, "name")).map(|(name, _)| name);
    let rows: Vec<_> = catalogue.rows().map(|row| row.name).chain(own).collect();
    for (name, value) in table(row, "codes").into_iter().flatten() {
        let (name, name_span) = (name.get_ref().as_ref(), name.span());
        if !rows.contains(&name) {
            let hint = "`saywhy explain` lists the rows; an `[[error]]` adds one";
            let complaint = Complaint::new(format!("the catalogue has no row `{name}`"), hint);
            problems.add(name_span, complaint.did_you_mean(similar(name, rows.iter().copied())));
        }
        let Some(code) = integer(value) else { continue };
        // A number that is too large for u16 is as unsendable as the largest.
        match dialect.clone().code(name, u16::try_from(code).unwrap_or(u16::MAX)) {
            Ok(with_code) => dialect = with_code,
            Err(unsendable) => {
                let hint = "4000 to 4999 are for private use";
                problems.add(value.span(), Complaint::new(unsendable.to_string(), hint));
            }
        }
    }
    dialect
}

fn routes(text: &str, file: &DeTable<'_>, dialects: &[Dialect], problems: &mut Problems) {
    let mut paths = BTreeMap::new();
    for route in tables(file, "route") {
        if let Some((path, span)) = text_of(route, "path") {
            let line = text[..span.start].matches('\n').count() + 1;
            if let Some(first) = paths.insert(path, line) {
                let message = format!("two routes have the path `{path}`: on line {first} and on line {line}");
                problems.add(
                    span,
                    Complaint::new(message, "one path is one route; the longest that fits a request is taken"),
                );
            }
        }
        if let Some((name, span)) = text_of(route, "dialect") {
            known_dialect(name, dialects).map(drop).unwrap_or_else(|complaint| problems.add(span, complaint));
        }
        // Nothing is queued for who is relayed to.
        if route.contains_key("limits") && !route.contains_key("upstream") {
            queue(file, Some(route), problems);
        }
        anonymous_identities(route, problems);
        needless_question(route, problems);
        upstream(route, problems);
    }
}

/// The dialect of this name.
pub(super) fn known_dialect(name: &str, own: &[Dialect]) -> Result<Dialect, Complaint> {
    let mut all = Dialect::BUILTIN.iter().chain(own);
    all.clone().find(|dialect| dialect.name() == name).cloned().ok_or_else(|| {
        let hint = format!("the built-in ones are {}; a `[[dialect]]` adds one", Dialect::NAMES.join(", "));
        let better = similar(name, all.by_ref().map(Dialect::name));
        Complaint::new(format!("there is no dialect `{name}`"), hint).did_you_mean(better)
    })
}

fn anonymous_identities(route: &DeTable<'_>, problems: &mut Problems) {
    let one = route.get_key_value("one_per_identity").filter(|(_, value)| value.get_ref().as_bool() == Some(true));
    let nobody = text_of(route, "token").is_some_and(|(policy, _)| policy == "none");
    if let (Some((key, _)), true) = (one, nobody) {
        let message = "`one_per_identity` has no effect with `token = \"none\"`: nobody has an identity";
        problems.add(key.span(), Complaint::new(message, "take `token = \"required\"`, or delete `one_per_identity`"));
    }
}

/// What passes through is between the client and the upstream.
fn upstream(route: &DeTable<'_>, problems: &mut Problems) {
    let has = |key: &str| route.get_key_value(key);
    if let (None, Some((key, _))) = (has("upstream"), has("relay")) {
        let message = "`relay` has no effect without `upstream`: nothing is relayed";
        problems.add(key.span(), Complaint::new(message, "give the route an `upstream`, or delete `relay`"));
    }
    if has("upstream").is_none() {
        return;
    }
    for (key, why) in [
        ("token_in_first_message", "the first message is for the upstream"),
        ("compression", "what is compressed is agreed on by the client and the upstream"),
    ] {
        if let Some((found, _)) = has(key) {
            let message = format!("`{key}` has no effect beside `upstream`: {why}");
            problems.add(found.span(), Complaint::new(message, format!("delete `{key}`")));
        }
    }
}

fn needless_question(route: &DeTable<'_>, problems: &mut Problems) {
    let asks = route.get_key_value("token_in_first_message");
    let asks = asks.filter(|(_, value)| value.get_ref().as_bool() == Some(true));
    let lenient = text_of(route, "token").filter(|(policy, _)| matches!(*policy, "none" | "optional"));
    if let (Some((key, _)), Some((policy, _))) = (asks, lenient) {
        let message = format!(
            "`token_in_first_message` has no effect with `token = \"{policy}\"`: who brings no token is let in"
        );
        problems.add(
            key.span(),
            Complaint::new(message, "take `token = \"required\"`, or delete `token_in_first_message`"),
        );
    }
}

fn table<'a, 'i>(table: &'a DeTable<'i>, key: &str) -> Option<&'a DeTable<'i>> {
    table.get(key)?.get_ref().as_table()
}

fn tables<'a, 'i>(table: &'a DeTable<'i>, key: &str) -> impl Iterator<Item = &'a DeTable<'i>> {
    let rows = table.get(key).and_then(|value| value.get_ref().as_array());
    rows.into_iter().flat_map(|rows| rows.iter()).filter_map(|row| row.get_ref().as_table())
}

fn text_of<'a>(table: &'a DeTable<'_>, key: &str) -> Option<(&'a str, Range<usize>)> {
    let value = table.get(key)?;
    Some((value.get_ref().as_str()?, value.span()))
}

fn number(table: &DeTable<'_>, key: &str) -> Option<(i64, Range<usize>)> {
    let value = table.get(key)?;
    Some((integer(value)?, value.span()))
}

/// The number, when it is one.
pub(super) fn integer(value: &Spanned<DeValue<'_>>) -> Option<i64> {
    let number = value.get_ref().as_integer()?;
    i64::from_str_radix(number.as_str(), number.radix()).ok()
}
