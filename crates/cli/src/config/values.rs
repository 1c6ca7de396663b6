//! The values that stand in quotes in the configuration: parsed once at the edge, by one function each.
//!
//! A wrong value gets the nearest right one as a suggestion: `normal` makes it, and what it does not change is right.

use saywhy_codes::{CloseReason, Dialect};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{Ipv6Addr, SocketAddr};
use std::ops::Deref;
use std::str::FromStr;

/// What is wrong with a value or a configuration, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Complaint {
    /// A sentence without its full stop.
    pub(crate) message: String,
    /// What to do. There is always something to do.
    pub(crate) hint: String,
}

impl Complaint {
    pub(crate) fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hint: hint.into() }
    }

    /// Where there is a better value, it is the hint.
    pub(super) fn did_you_mean(mut self, better: Option<impl fmt::Display>) -> Self {
        if let Some(better) = better {
            self.hint = format!("did you mean `{better}`?");
        }
        self
    }
}

/// On one line, for clap.
impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.message, self.hint)
    }
}

impl std::error::Error for Complaint {}

/// Judges a text.
type Check = fn(&str) -> Result<(), Complaint>;

/// The `format`s of the schema, and who judges them.
pub(super) const FORMATS: &[(&str, Check)] = &[
    ("socket-address", |text| socket_address(text).map(drop)),
    ("origin", origin),
    ("network", network),
    ("path", path),
    ("upstream", upstream),
    ("jwks-url", jwks_url),
    ("http-url", http_url),
    ("room", room),
    ("dialect-name", dialect_name),
    ("public-text", public_text),
];

macro_rules! checked_text {
    ($(#[$about:meta])* $name:ident, $format:literal, $check:ident) => {
        $(#[$about])*
        #[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
        #[serde(try_from = "String")]
        #[schemars(extend("format" = $format))]
        pub(crate) struct $name(String);

        impl Deref for $name {
            type Target = str;
            fn deref(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = Complaint;
            fn from_str(text: &str) -> Result<Self, Complaint> {
                $check(text).map(|()| Self(text.to_owned()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = Complaint;
            fn try_from(text: String) -> Result<Self, Complaint> {
                text.parse()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

checked_text! {
    /// The origin of a page, exactly as browsers send it: `scheme://host[:port]`.
    Origin, "origin", origin
}
checked_text! {
    /// A range of addresses: an IP address, and perhaps the number of its bits that count.
    Network, "network", network
}
checked_text! {
    /// The path of a route: it stands for itself and for everything below it.
    RoutePath, "path", path
}
checked_text! {
    /// The name of a room.
    RoomName, "room", room
}
checked_text! {
    /// The WebSocket URL of a back end.
    Upstream, "upstream", upstream
}

checked_text! {
    /// Where keys are published.
    JwksUrl, "jwks-url", jwks_url
}
checked_text! {
    /// Where somebody is asked over HTTP.
    HttpUrl, "http-url", http_url
}

impl RoomName {
    /// The room that is open unless the configuration says otherwise.
    pub(super) fn lobby() -> Self {
        Self("lobby".to_owned())
    }
}

/// Right when it is its own normal form, else `complaint` with the normal form as a suggestion.
fn expect(text: &str, normal: Option<String>, complaint: Complaint) -> Result<(), Complaint> {
    if normal.as_deref() == Some(text) { Ok(()) } else { Err(complaint.did_you_mean(normal)) }
}

/// An address to listen on.
pub(super) fn socket_address(text: &str) -> Result<SocketAddr, Complaint> {
    text.parse().map_err(|_| {
        let port = text.rsplit(':').next().filter(|port| port.parse::<u16>().is_ok());
        let local = text.starts_with("localhost") || text.starts_with(':') || Some(text) == port;
        let better = port.filter(|_| local).map(|port| format!("127.0.0.1:{port}"));
        Complaint::new(
            "an address to listen on is an IP address and a port",
            "for example `127.0.0.1:8080`; `0.0.0.0:8080` is for everyone",
        )
        .did_you_mean(better)
    })
}

fn origin(text: &str) -> Result<(), Complaint> {
    if text == "*" {
        return Err(Complaint::new(
            "there is no origin for all: any page could then act as the person who visits it",
            "list the origins of your own pages, such as `https://app.example`",
        ));
    }
    let complaint = Complaint::new(
        "an origin is what browsers send: `scheme://host[:port]` in lower case, without a path and without the default port",
        "for example `https://app.example`",
    );
    expect(text, normal_origin(text), complaint)
}

/// RFC 6454 §6.2, the ASCII serialization.
fn normal_origin(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once("://")?;
    let scheme = match scheme.to_ascii_lowercase().as_str() {
        "ws" => "http".to_owned(),
        "wss" => "https".to_owned(),
        scheme => scheme.to_owned(),
    };
    let letters = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "+-.".contains(c);
    if !scheme.starts_with(|c: char| c.is_ascii_lowercase()) || !scheme.chars().all(letters) {
        return None;
    }
    let authority = rest.split(['/', '?', '#']).next()?;
    match (host_and_port(authority.rsplit('@').next()?)?, scheme.as_str()) {
        ((host, None), _) | ((host, Some(80)), "http") | ((host, Some(443)), "https") => {
            Some(format!("{scheme}://{host}"))
        }
        ((host, Some(port)), _) => Some(format!("{scheme}://{host}:{port}")),
    }
}

/// The host in lower case, and the port.
fn host_and_port(authority: &str) -> Option<(String, Option<u16>)> {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port.parse().ok().filter(|port| *port != 0)?)),
        _ => (authority, None),
    };
    if let Some(v6) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        return Some((format!("[{}]", v6.parse::<Ipv6Addr>().ok()?), port));
    }
    let named = !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c));
    named.then(|| (host.to_ascii_lowercase(), port))
}

fn network(text: &str) -> Result<(), Complaint> {
    text.parse::<saywhy::Network>().map(drop).map_err(|_| {
        let everyone = matches!(text, "*" | "all");
        let hint = if everyone {
            "name the networks of your proxies: whoever is believed can be anyone"
        } else {
            "for example `10.0.0.0/8`, `2001:db8::/32` or `127.0.0.1`"
        };
        Complaint::new("a network is an IP address, and perhaps `/` and the number of its bits that count", hint)
    })
}

fn path(text: &str) -> Result<(), Complaint> {
    let complaint = Complaint::new(
        "a path starts with `/`, does not end with it, and has no `//`, `.`, `..`, `%`, `?` or `#`, nor `:` or `*` behind a `/`",
        "for example `/ws`; it stands for everything below it too",
    );
    expect(text, normal_path(text), complaint)
}

/// The characters of a path segment but for percent escapes (RFC 3986 §3.3): routes are matched after unescaping. A segment
/// that begins with `:` or `*` stands for any segment in many a router: a path has one meaning.
fn normal_path(text: &str) -> Option<String> {
    let pchar = |c: char| c.is_ascii_alphanumeric() || "-._~!$&'()*+,;=:@".contains(c);
    let segments: Vec<_> = text.split('/').filter(|segment| !matches!(*segment, "" | "." | "..")).collect();
    let is_plain = |segment: &&str| segment.chars().all(pchar) && !segment.starts_with([':', '*']);
    segments.iter().all(is_plain).then(|| format!("/{}", segments.join("/")))
}

fn upstream(text: &str) -> Result<(), Complaint> {
    let complaint = Complaint::new(
        "an upstream is `ws://host[:port][/path]` or `wss://…`, without a user name, a query and a fragment",
        "for example `ws://127.0.0.1:9000`",
    );
    expect(text, normal_upstream(text), complaint)
}

fn normal_upstream(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once("://").unwrap_or(("ws", text));
    let scheme = match scheme.to_ascii_lowercase().as_str() {
        "ws" | "http" => "ws",
        "wss" | "https" => "wss",
        _ => return None,
    };
    let rest = rest.split(['#', '?']).next()?;
    let (authority, target) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (host, port) = host_and_port(authority.rsplit('@').next()?)?;
    let port = port.map_or(String::new(), |port| format!(":{port}"));
    let visible = target.chars().all(|c| c.is_ascii_graphic());
    visible.then(|| format!("{scheme}://{host}{port}{target}"))
}

fn jwks_url(text: &str) -> Result<(), Complaint> {
    let complaint = Complaint::new(
        "keys are at `https://host[:port]/path`, or at `http://` on this machine: who is in between could give out keys of its own",
        "for example `https://login.example/.well-known/jwks.json`",
    );
    expect(text, normal_http_url(text, false), complaint)
}

fn http_url(text: &str) -> Result<(), Complaint> {
    let complaint = Complaint::new(
        "whom to ask is at `http://host[:port]/path` or `https://host[:port]/path`",
        "for example `http://127.0.0.1:9000/admit`",
    );
    expect(text, normal_http_url(text, true), complaint)
}

/// Without TLS only where it leaves this machine no more than `anywhere` allows.
fn normal_http_url(text: &str, anywhere: bool) -> Option<String> {
    let (scheme, rest) = text.split_once("://").unwrap_or((if anywhere { "http" } else { "https" }, text));
    let rest = rest.split('#').next()?;
    let (authority, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let (host, port) = host_and_port(authority.rsplit('@').next()?)?;
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let here = host == "localhost" || bare.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
    let scheme = match scheme.to_ascii_lowercase().as_str() {
        "http" if here || anywhere => "http",
        "http" | "https" => "https",
        _ => return None,
    };
    let port = port.map_or(String::new(), |port| format!(":{port}"));
    let visible = target.starts_with('/') && target.chars().all(|c| c.is_ascii_graphic());
    visible.then(|| format!("{scheme}://{host}{port}{target}"))
}

fn room(name: &str) -> Result<(), Complaint> {
    if (1..=128).contains(&name.len()) && !name.contains(char::is_control) {
        return Ok(());
    }
    Err(Complaint::new("the name of a room has 1 to 128 bytes and no control characters", "for example `lobby`"))
}

fn dialect_name(name: &str) -> Result<(), Complaint> {
    if Dialect::NAMES.contains(&name) {
        return Err(Complaint::new(format!("`{name}` is built in"), "give your dialect a name of its own"));
    }
    let letters = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(c);
    if name.len() <= 64 && name.starts_with(|c: char| c.is_ascii_lowercase()) && name.chars().all(letters) {
        return Ok(());
    }
    Err(Complaint::new(
        "the name of a dialect has 1 to 64 of `a-z0-9-_` and starts with a letter",
        "for example `legacy-app`",
    ))
}

/// Words that a peer is told, and that must fit a Close frame.
fn public_text(text: &str) -> Result<(), Complaint> {
    if text.is_empty() || text.contains(char::is_control) {
        return Err(Complaint::new(
            "a message says something, on one line",
            "it is shown to people, for example `The room is full`",
        ));
    }
    let shorter = "say it in fewer words; a handler can add details to the error message";
    CloseReason::new(text.to_owned()).map(drop).map_err(|long| Complaint::new(long.to_string(), shorter))
}

/// A secret: nothing prints it, and nothing serializes it.
#[derive(Clone, Deserialize, JsonSchema)]
#[schemars(extend("writeOnly" = true))]
pub(crate) struct Secret(String);

impl Secret {
    /// The secret itself, for the one place that compares or signs with it.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }

    /// The value of an environment variable.
    pub(super) fn from_env(name: &str) -> Option<Self> {
        std::env::var(name).ok().filter(|secret| !secret.is_empty()).map(Self)
    }

    /// A secret of at least `least` characters.
    pub(super) fn new(text: &str, least: usize) -> Result<Self, Complaint> {
        let there = text.chars().count();
        if there >= least {
            return Ok(Self(text.to_owned()));
        }
        Err(Complaint::new(
            format!("the secret has {there} characters, and needs {least}"),
            format!("`openssl rand -base64 {least}` makes one"),
        ))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Stars, and not as many as the secret has characters.
impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is right, and what is suggested in place of what is not.
    fn table(check: fn(&str) -> Result<(), Complaint>, right: &[&str], better: &[(&str, Option<&str>)]) {
        for text in right {
            assert_eq!(check(text), Ok(()), "{text}");
        }
        for (text, better) in better {
            let hint = check(text).expect_err(text).hint;
            assert_eq!(hint.strip_prefix("did you mean `").and_then(|hint| hint.strip_suffix("`?")), *better, "{text}");
            assert!(better.is_none_or(|better| check(better).is_ok()), "the suggestion for {text} is wrong itself");
        }
    }

    #[test]
    fn origins() {
        table(
            origin,
            &[
                "https://app.example",
                "http://localhost:3000",
                "http://[::1]:3000",
                "https://10.0.0.1:8443",
                "capacitor://localhost",
                "chrome-extension://abcdef",
            ],
            &[
                ("https://app.example/", Some("https://app.example")),
                ("https://app.example/a?b#c", Some("https://app.example")),
                ("HTTPS://App.Example", Some("https://app.example")),
                ("https://app.example:443", Some("https://app.example")),
                ("http://app.example:80", Some("http://app.example")),
                ("wss://app.example", Some("https://app.example")),
                ("https://me:pw@app.example", Some("https://app.example")),
                ("http://[0:0:0::1]", Some("http://[::1]")),
                ("app.example", None),
                ("https://*.example", None),
                ("https://app.example:0", None),
                ("https://app.example:70000", None),
                ("https://müller.example", None),
                ("https://", None),
                ("null", None),
                ("", None),
            ],
        );
        assert!(origin("*").is_err());
    }

    #[test]
    fn networks() {
        table(
            network,
            &["10.0.0.0/8", "127.0.0.1", "::1", "2001:db8::/32", "0.0.0.0/0"],
            &[("10.0.0.0/33", None), ("10.0.0/8", None), ("localhost", None), ("*", None), ("", None)],
        );
    }

    #[test]
    fn paths() {
        table(
            path,
            &["/", "/ws", "/a/b-c/~d"],
            &[
                ("ws", Some("/ws")),
                ("/ws/", Some("/ws")),
                ("//ws", Some("/ws")),
                ("/a/../b", Some("/a/b")),
                ("", Some("/")),
                ("/ws?x", None),
                ("/w s", None),
                ("/%77s", None),
                ("/wś", None),
            ],
        );
    }

    #[test]
    fn upstreams() {
        table(
            upstream,
            &["ws://127.0.0.1:9000", "wss://back.example/ws", "ws://[::1]:9000/"],
            &[
                ("http://back:9000", Some("ws://back:9000")),
                ("https://back", Some("wss://back")),
                ("127.0.0.1:9000", Some("ws://127.0.0.1:9000")),
                ("ws://me:pw@back/ws", Some("ws://back/ws")),
                ("ws://back/ws#x", Some("ws://back/ws")),
                ("ws://back/ws?a=b", Some("ws://back/ws")),
                ("redis://back", None),
                ("ws://", None),
                ("ws://back/a b", None),
            ],
        );
    }

    #[test]
    fn whom_to_ask() {
        table(
            http_url,
            &["http://back:9000/admit", "https://back/admit?key=x", "http://[::1]:9000/"],
            &[
                ("back:9000/admit", Some("http://back:9000/admit")),
                ("ws://back/admit", None),
                ("http://back", None),
                ("http://me:pw@back/admit", Some("http://back/admit")),
            ],
        );
    }

    #[test]
    fn published_keys() {
        table(
            jwks_url,
            &[
                "https://login.example/keys",
                "https://a:8443/k?x=y",
                "http://127.0.0.1:9/k",
                "http://[::1]/k",
                "http://localhost/k",
            ],
            &[
                ("http://login.example/keys", Some("https://login.example/keys")),
                ("login.example/keys", Some("https://login.example/keys")),
                ("https://me:pw@login.example/keys", Some("https://login.example/keys")),
                ("https://login.example/keys#x", Some("https://login.example/keys")),
                ("https://login.example", None),
                ("file:///etc/keys", None),
                ("https://login.example/a b", None),
                ("", None),
            ],
        );
    }

    #[test]
    fn addresses() {
        table(
            |text| socket_address(text).map(drop),
            &["127.0.0.1:80", "[::]:80"],
            &[
                ("localhost:80", Some("127.0.0.1:80")),
                (":8080", Some("127.0.0.1:8080")),
                ("8080", Some("127.0.0.1:8080")),
                ("example.com:80", None),
                ("127.0.0.1", None),
            ],
        );
    }

    #[test]
    fn a_secret_is_not_printed() {
        let secret = Secret::new("correct horse battery staple", 16).unwrap();
        assert_eq!(format!("{secret} {secret:?} {:?}", Some(&secret)), "*** Secret Some(Secret)");
        let short = Secret::new("tooshort", 16).unwrap_err();
        assert!(!short.to_string().contains("tooshort"), "{short}");
    }
}
