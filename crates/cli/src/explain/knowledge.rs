//! What is known, as data: a file for each dialect beside this one, and Saywhy's own rows from its catalogue.

use saywhy_codes::catalogue::{
    BAD_GATEWAY, GATEWAY_TIMEOUT, GOING_AWAY, HISTORY_LOST, KICKED, REPLACED, SERVICE_RESTART, SLOW_CONSUMER, TIMEOUT,
};
use saywhy_codes::{Catalogue, Dialect as CloseDialect, ErrorCode, registration};
use serde::{Deserialize, Serialize};

/// Ours.
pub(super) const SAYWHY: &str = "saywhy";

/// The standard: its codes mean the same to all the others.
pub(super) const STANDARD: &str = "websocket";

/// What answers to a handshake mean to everybody.
pub(super) const HTTP: &str = "http";

/// Each dialect: its name, what else it is called, its file. In the order in which answers are shown.
const FILES: &[(&str, &[&str], &str)] = &[
    (STANDARD, &["rfc6455", "iana", "standard"], include_str!("websocket.toml")),
    (HTTP, &["status", "handshake"], include_str!("http.toml")),
    ("network", &["os", "tcp", "tls", "dns", "errno"], include_str!("network.toml")),
    ("chromium", &["chrome", "edge", "electron", "opera"], include_str!("chromium.toml")),
    ("firefox", &["gecko", "mozilla"], include_str!("firefox.toml")),
    ("safari", &["webkit", "ios", "urlsession"], include_str!("safari.toml")),
    ("ws", &["node-ws", "wscat"], include_str!("ws.toml")),
    ("undici", &["node", "nodejs"], include_str!("undici.toml")),
    ("gorilla", &["go", "fiber"], include_str!("gorilla.toml")),
    ("coder", &["nhooyr"], include_str!("coder.toml")),
    ("tungstenite", &["tokio-tungstenite", "rust"], include_str!("tungstenite.toml")),
    ("websockets", &["python", "uvicorn", "fastapi", "starlette", "sanic"], include_str!("websockets.toml")),
    ("aiohttp", &[], include_str!("aiohttp.toml")),
    ("websocket-client", &["wsdump"], include_str!("websocket-client.toml")),
    ("nginx", &["ingress-nginx", "openresty"], include_str!("nginx.toml")),
    ("haproxy", &[], include_str!("haproxy.toml")),
    ("cloudflare", &["cf"], include_str!("cloudflare.toml")),
    ("aws", &["alb", "elb", "apigateway"], include_str!("aws.toml")),
    ("graphql-ws", &["graphql", "graphql-transport-ws", "apollo"], include_str!("graphql-ws.toml")),
    ("socket.io", &["socketio", "engine.io"], include_str!("socketio.toml")),
    ("signalr", &["aspnet", "blazor"], include_str!("signalr.toml")),
    ("phoenix", &["elixir", "liveview"], include_str!("phoenix.toml")),
    ("pusher", &["reverb", "soketi", "sockudo", "laravel"], include_str!("pusher.toml")),
    ("centrifugo", &["centrifuge"], include_str!("centrifugo.toml")),
    ("discord", &["discord.js"], include_str!("discord.toml")),
    ("twitch", &["eventsub"], include_str!("twitch.toml")),
    ("slack", &["socket-mode"], include_str!("slack.toml")),
];

/// The names of all dialects, ours first, and by what else they are called.
pub(super) fn names() -> impl Iterator<Item = (&'static str, &'static [&'static str])> {
    let others = FILES.iter().map(|(name, aliases, _)| (*name, *aliases));
    std::iter::once((SAYWHY, &["ours"] as &[_])).chain(others)
}

/// Everything that is known.
#[derive(Debug)]
pub(super) struct Knowledge {
    /// Ours first.
    pub(super) dialects: Vec<Dialect>,
}

/// What one program says, or all that speak one protocol.
#[derive(Debug)]
pub(super) struct Dialect {
    /// By which people ask for it.
    pub(super) name: &'static str,
    /// For people.
    pub(super) title: String,
    /// What it says.
    pub(super) entries: Vec<Entry>,
}

/// One thing that can be said.
#[derive(Debug)]
pub(super) struct Entry {
    /// In snake_case, unique in its dialect.
    pub(super) name: String,
    /// Numbers that mean it: close codes, HTTP statuses, or the dialect's own.
    pub(super) codes: Vec<u16>,
    /// Numbers that mean it where no other entry has them.
    pub(super) ranges: Vec<(u16, u16)>,
    /// Letters that mean it, where case counts.
    pub(super) token: Option<String>,
    /// How programs print it, with `{code}`, `{status}` and `{n}` for numbers.
    pub(super) says: Vec<String>,
    /// What happened, in a sentence; what the registry says of the number where there is none.
    meaning: Option<String>,
    /// Who is at fault, the most likely first.
    pub(super) blame: Vec<Blame>,
    /// Why it happens, the most likely first. Empty where the number in the text says all.
    pub(super) why: Vec<String>,
    /// What to do, in order.
    pub(super) do_: Vec<String>,
    /// How it is seen, where that is known.
    pub(super) sight: Option<String>,
    /// Whether its words are around many others, which say more.
    pub(super) is_vague: bool,
    /// Who says so.
    pub(super) source: String,
}

/// Who is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Blame {
    /// The one who connected: its code, its token, its URL.
    Client,
    /// The one who was connected to, and what is behind it.
    Server,
    /// What stands between by intention: a proxy, a load balancer, a CDN.
    Proxy,
    /// What stands between by necessity.
    Network,
    /// It is no fault.
    Nobody,
}

impl Knowledge {
    /// Reads all of it.
    ///
    /// # Errors
    /// Which file is wrong, and how; a test sees to it that none is.
    pub(super) fn load() -> Result<Self, String> {
        let mut dialects = vec![ours()];
        for (name, _, text) in FILES {
            dialects.push(read(name, text).map_err(|error| format!("explain/{name}: {error}"))?);
        }
        Ok(Self { dialects })
    }

    /// Leaves one dialect only.
    pub(super) fn only(mut self, name: &str) -> Self {
        self.dialects.retain(|dialect| dialect.name == name);
        self
    }

    /// All entries, with their dialects.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&Dialect, &Entry)> {
        self.dialects.iter().flat_map(|dialect| dialect.entries.iter().map(move |entry| (dialect, entry)))
    }
}

impl Dialect {
    /// The entries that a number means. A range counts where nothing else has the number.
    pub(super) fn by_number(&self, number: u16) -> Vec<&Entry> {
        let exact: Vec<_> = self.entries.iter().filter(|entry| entry.codes.contains(&number)).collect();
        if !exact.is_empty() {
            return exact;
        }
        let within = |entry: &&Entry| entry.ranges.iter().any(|(first, last)| (*first..=*last).contains(&number));
        self.entries.iter().filter(within).collect()
    }
}

impl Entry {
    /// What happened, for this number.
    pub(super) fn meaning(&self, number: Option<u16>) -> String {
        let number = number.or(self.codes.first().copied());
        match (&self.meaning, number) {
            (Some(meaning), Some(number)) => {
                meaning.replace("{code}", &number.to_string()).replace("{status}", &number.to_string())
            }
            (Some(meaning), None) => meaning.clone(),
            (None, Some(number)) => sentence(registration(number).meaning),
            (None, None) => String::new(),
        }
    }

    /// Whether its meaning leaves the number to whoever shows it.
    pub(super) fn says_no_number(&self) -> bool {
        self.meaning.as_ref().is_none_or(|meaning| !meaning.contains('{'))
    }

    /// Whether it is a frame for a number, which says all.
    pub(super) fn is_frame(&self) -> bool {
        self.why.is_empty()
    }
}

fn sentence(fragment: &str) -> String {
    let mut letters = fragment.chars();
    letters.next().map_or(String::new(), |first| format!("{}{}.", first.to_uppercase(), letters.as_str()))
}

// ---- the files ----------------------------------------------------------------------------------------------------

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    title: String,
    source: String,
    entry: Vec<Row>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    /// Left out where the registry of close codes has one.
    name: Option<String>,
    #[serde(default)]
    codes: Vec<u16>,
    #[serde(default)]
    ranges: Vec<(u16, u16)>,
    token: Option<String>,
    #[serde(default)]
    says: Vec<String>,
    meaning: Option<String>,
    blame: Vec<Blame>,
    #[serde(default)]
    why: Vec<String>,
    #[serde(default, rename = "do")]
    do_: Vec<String>,
    #[serde(default)]
    vague: bool,
    source: Option<String>,
}

fn read(name: &'static str, text: &str) -> Result<Dialect, String> {
    let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
    let entries = file.entry.into_iter().map(|row| {
        let registered = row.codes.first().and_then(|code| registration(*code).name).map(snake_case);
        let name = row.name.or(registered).ok_or("an entry has no name")?;
        let source = row.source.unwrap_or_else(|| file.source.clone());
        let Row { codes, ranges, token, says, meaning, blame, why, do_, vague: is_vague, .. } = row;
        Ok(Entry { name, codes, ranges, token, says, meaning, blame, why, do_, sight: None, is_vague, source })
    });
    Ok(Dialect { name, title: file.title, entries: entries.collect::<Result<_, &str>>()? })
}

fn snake_case(name: &str) -> String {
    let words = name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("_").to_ascii_lowercase()
}

// ---- ours ---------------------------------------------------------------------------------------------------------

fn ours() -> Dialect {
    let entries = Catalogue::builtin().rows().map(of_row).collect();
    Dialect { name: SAYWHY, title: "Saywhy".to_owned(), entries }
}

fn of_row(row: ErrorCode) -> Entry {
    let mut codes = vec![row.code];
    codes.extend(CloseDialect::App.row_close_code(row).map(|code| code.as_u16()).filter(|code| *code != row.code));
    let mut says =
        vec![row.message.to_owned(), format!("\"name\":\"{row}\""), format!("refused with {row}"), format!("{row}:")];
    // Words of everyday's life are no sign of ours.
    says.retain(|text| row.name.contains('_') || text != &format!("{row}:"));
    Entry {
        name: row.name.to_owned(),
        codes,
        ranges: Vec::new(),
        token: None,
        says,
        meaning: Some(format!("{}.", row.message)),
        blame: blame(row),
        why: vec![row.page.why.to_owned()],
        do_: vec![row.page.what_to_do.to_owned()],
        sight: Some(row.page.what_you_see.to_owned()),
        is_vague: false,
        source: format!("catalogue/{row}.md"),
    }
}

/// A status of HTTP says who is at fault, but for these.
fn blame(row: ErrorCode) -> Vec<Blame> {
    if [SERVICE_RESTART, GOING_AWAY, REPLACED, KICKED].contains(&row) {
        vec![Blame::Nobody]
    } else if row == TIMEOUT {
        vec![Blame::Network, Blame::Client]
    } else if row == SLOW_CONSUMER {
        vec![Blame::Client, Blame::Network]
    } else if [BAD_GATEWAY, GATEWAY_TIMEOUT, HISTORY_LOST].contains(&row) || row.http >= 500 {
        vec![Blame::Server]
    } else {
        vec![Blame::Client]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn everything_is_there_and_can_be_shown() {
        let knowledge = Knowledge::load().unwrap();
        for dialect in &knowledge.dialects {
            let mut names = BTreeSet::new();
            assert!(!dialect.title.is_empty() && !dialect.entries.is_empty(), "{}", dialect.name);
            for entry in &dialect.entries {
                let place = format!("{}/{}", dialect.name, entry.name);
                assert!(names.insert(&entry.name), "{place} is there twice");
                assert_eq!(snake_case(&entry.name), entry.name, "{place}");
                assert!(!entry.source.is_empty() && !entry.blame.is_empty(), "{place}");
                assert_eq!(entry.why.is_empty(), entry.do_.is_empty(), "{place}");
                let reached =
                    entry.codes.len() + entry.ranges.len() + entry.says.len() + usize::from(entry.token.is_some());
                assert!(reached > 0, "{place} can be asked for by name only");
                let sentences =
                    [entry.meaning(Some(1006))].into_iter().chain(entry.why.clone()).chain(entry.do_.clone());
                for text in sentences {
                    assert!(text.len() > 2 && !text.contains(char::is_control), "{place}: {text:?}");
                }
                if entry.is_frame() {
                    let counts = |says: &String| says.contains("{code}") || says.contains("{status}");
                    assert!(entry.says.iter().all(counts), "{place} says nothing, and has no number that would");
                }
            }
        }
    }

    #[test]
    fn a_number_has_one_meaning_in_a_dialect_but_where_ours_share_one() {
        for dialect in Knowledge::load().unwrap().dialects {
            for number in 0..=u16::MAX {
                let found = dialect.by_number(number).len();
                assert!(found <= 1 || dialect.name == SAYWHY && found == 2, "{}: {number}", dialect.name);
            }
        }
    }

    #[test]
    fn every_close_code_and_every_row_is_known() {
        let knowledge = Knowledge::load().unwrap();
        let standard = knowledge.dialects.iter().find(|dialect| dialect.name == STANDARD).unwrap();
        assert!((0..=u16::MAX).filter(|number| *number != 5000).all(|number| !standard.by_number(number).is_empty()));
        for row in Catalogue::builtin().rows() {
            assert!(knowledge.dialects[0].by_number(row.code).iter().any(|entry| entry.name == row.name));
        }
    }

    #[test]
    fn a_file_that_is_wrong_is_refused() {
        let entry = "title = \"t\"\nsource = \"s\"\n[[entry]]\nblame = [\"client\"]\n";
        assert!(read("t", &format!("{entry}name = \"n\"")).is_ok());
        assert_eq!(read("t", entry).unwrap_err(), "an entry has no name");
        assert!(read("t", &entry.replace("client", "wind")).unwrap_err().contains("wind"));
        assert!(read("t", &format!("{entry}name = \"n\"\nwhom = 1")).unwrap_err().contains("whom"));
    }

    #[test]
    fn names_of_dialects_are_told_apart() {
        let all: Vec<_> = names().flat_map(|(name, aliases)| aliases.iter().copied().chain([name])).collect();
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
    }
}
