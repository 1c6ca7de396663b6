//! Flags and environment, on top of the file.

use super::problem::Failure;
use super::values::{Complaint, Secret, Upstream, socket_address};
use super::{
    API_KEY_LEAST, Config, HS256_SECRET_LEAST, LogFormat, LogLevel, Refuse, Rooms, Route, Target, TlsFiles, TokenKeys,
    TokenPolicy,
};
use super::{read, rules};
use clap::Args;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// What `saywhy serve` takes from flags and from the environment. A flag takes precedence over its variable.
///
/// Secrets have a variable and no flag, as everyone on a machine can read its command lines.
#[derive(Debug, Default, Args)]
#[command(after_help = "Secrets come from a file or from the environment: SAYWHY_TOKEN_SECRET checks tokens (HS256), \
    SAYWHY_API_KEY opens the API.")]
pub(crate) struct ServeArgs {
    /// The configuration; without one the defaults hold
    #[arg(long, value_name = "FILE", env = "SAYWHY_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// Where clients connect [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS", env = "SAYWHY_LISTEN", value_parser = socket_address)]
    pub(crate) listen: Option<SocketAddr>,
    /// The certificate of that address, in PEM
    #[arg(long, value_name = "FILE", env = "SAYWHY_TLS_CERT", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// The private key of the certificate, in PEM
    #[arg(long, value_name = "FILE", env = "SAYWHY_TLS_KEY", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
    /// Serve the HTTP API for back ends here
    #[arg(long, value_name = "ADDRESS", env = "SAYWHY_API_LISTEN", value_parser = socket_address)]
    pub(crate) api_listen: Option<SocketAddr>,
    /// How much is logged [default: info]
    #[arg(long, value_name = "LEVEL", env = "SAYWHY_LOG")]
    pub(crate) log: Option<LogLevel>,
    /// How the log is written [default: text]
    #[arg(long, value_name = "FORMAT", env = "SAYWHY_LOG_FORMAT")]
    pub(crate) log_format: Option<LogFormat>,
    /// Relay every path to this back end, such as ws://127.0.0.1:9000
    #[arg(long, value_name = "URL", env = "SAYWHY_UPSTREAM")]
    pub(crate) upstream: Option<Upstream>,
    /// How connections are refused, on every route [default: auto]
    #[arg(long, value_name = "FORM", env = "SAYWHY_REFUSE")]
    pub(crate) refuse: Option<Refuse>,
    /// The close codes that clients know, on every route [default: app]
    #[arg(long, value_name = "NAME", env = "SAYWHY_DIALECT")]
    pub(crate) dialect: Option<String>,
    /// `SAYWHY_API_KEY`.
    #[arg(skip = Secret::from_env("SAYWHY_API_KEY"))]
    pub(crate) api_key: Option<Secret>,
    /// `SAYWHY_TOKEN_SECRET`.
    #[arg(skip = Secret::from_env("SAYWHY_TOKEN_SECRET"))]
    pub(crate) token_secret: Option<Secret>,
}

impl Config {
    /// What `saywhy serve` goes by: flags > environment > file > defaults.
    ///
    /// # Errors
    /// [`Failure`] when the file cannot be read or has problems, or when what it all comes to cannot be served.
    pub(crate) fn load(args: &ServeArgs) -> Result<Self, Failure> {
        let mut config = match &args.config {
            Some(file) => read(file)?,
            None => Self::default(),
        };
        config.overlay(args).map_err(Failure::Unservable)?;
        config.unservable().map_or(Ok(config), |complaint| Err(Failure::Unservable(complaint)))
    }

    /// `[token]` alone, with the secret of the environment on top of it: keys are keys, also of what is not served.
    ///
    /// # Errors
    /// As [`Config::load`], but for what cannot be served.
    pub(crate) fn token(file: Option<&Path>) -> Result<Option<TokenKeys>, Failure> {
        let args = ServeArgs { token_secret: Secret::from_env("SAYWHY_TOKEN_SECRET"), ..ServeArgs::default() };
        let mut config = file.map_or_else(|| Ok(Self::default()), read)?;
        config.overlay(&args).map_err(Failure::Unservable)?;
        Ok(config.token)
    }

    /// Puts flags and environment, between which clap has decided, on top of the file and the defaults.
    fn overlay(&mut self, args: &ServeArgs) -> Result<(), Complaint> {
        self.listen = args.listen.unwrap_or(self.listen);
        if let (Some(certificate), Some(key)) = (&args.tls_cert, &args.tls_key) {
            self.tls = Some(TlsFiles { certificate_file: certificate.clone(), key_file: key.clone() });
        }
        self.log.level = args.log.unwrap_or(self.log.level);
        self.log.format = args.log_format.unwrap_or(self.log.format);
        if let Some(listen) = args.api_listen {
            self.api.get_or_insert_default().listen = listen;
        }
        if let Some(key) = &args.api_key {
            self.api.get_or_insert_default().key = Some(long_enough(key, "SAYWHY_API_KEY", API_KEY_LEAST)?);
        }
        if let Some(secret) = &args.token_secret {
            let secret = long_enough(secret, "SAYWHY_TOKEN_SECRET", HS256_SECRET_LEAST)?;
            self.token.get_or_insert_default().hs256_secret = Some(secret);
        }
        self.default_route(args.upstream.as_ref())?;
        let dialect = args.dialect.as_deref().map(|name| rules::known_dialect(name, &self.dialects)).transpose()?;
        for route in &mut self.routes {
            route.refuse = args.refuse.unwrap_or(route.refuse);
            route.dialect = dialect.as_ref().unwrap_or(&route.dialect).clone();
        }
        Ok(())
    }

    fn default_route(&mut self, upstream: Option<&Upstream>) -> Result<(), Complaint> {
        let (path, target) = match upstream {
            Some(_) if !self.routes.is_empty() => {
                return Err(Complaint::new(
                    "`--upstream` stands for the one route, and the file has routes of its own",
                    "write `upstream` into a `[[route]]`, or leave `--config` out",
                ));
            }
            Some(upstream) => ("/", Target::Upstream(upstream.clone())),
            None if !self.routes.is_empty() => return Ok(()),
            None => ("/ws", Target::Rooms(Rooms::default())),
        };
        self.routes.push(Route::to(path, target, &self.limits.session)?);
        Ok(())
    }

    /// Why this configuration, in which each part is right, is not served all the same.
    pub(crate) fn unservable(&self) -> Option<Complaint> {
        if self.token.is_some() && !self.has_token_key() {
            // A variable that was forgotten must not turn production into development mode.
            let hint =
                "set SAYWHY_TOKEN_SECRET, or `hs256_secret_file`, a `[[token.key]]` or `jwks_url` under `[token]`";
            return Some(Complaint::new("`[token]` has no key to check tokens with", hint));
        }
        let open = !self.routes.is_empty() && self.routes.iter().all(|route| route.token == Some(TokenPolicy::None));
        if !self.listen.ip().is_loopback() && !self.has_token_key() && !open {
            return Some(Complaint::new(
                format!("{} can be reached by others, and there is no key to check tokens with", self.listen),
                "set SAYWHY_TOKEN_SECRET, or `hs256_secret_file`, a `[[token.key]]` or `jwks_url` under `[token]`; for a \
                 service that is open to all, \
                 write `token = \"none\"` into every `[[route]]`; to try things out, listen on 127.0.0.1",
            ));
        }
        let api = self.api.as_ref().filter(|api| api.key.is_none())?;
        let private = self.is_development() && api.listen.ip().is_loopback();
        let message = format!("the API on {} has no key", api.listen);
        (!private).then(|| Complaint::new(message, "set SAYWHY_API_KEY, or `key_file` under `[api]`"))
    }
}

fn long_enough(secret: &Secret, variable: &str, least: usize) -> Result<Secret, Complaint> {
    Secret::new(secret.expose(), least)
        .map_err(|complaint| Complaint { message: format!("{variable}: {}", complaint.message), ..complaint })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{CommandFactory, Parser};

    #[derive(Parser)]
    struct Serve {
        #[command(flatten)]
        args: ServeArgs,
    }

    fn args(flags: &[&str]) -> ServeArgs {
        Serve::try_parse_from([&["serve"], flags].concat()).unwrap().args
    }

    fn secret(text: &str) -> Option<Secret> {
        Some(Secret::new(text, 0).unwrap())
    }

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    fn refused(args: &ServeArgs) -> String {
        Config::load(args).unwrap_err().render(false)
    }

    #[test]
    fn without_anything_it_is_in_development_mode() {
        let config = Config::load(&args(&[])).unwrap();
        assert!(config.is_development());
        assert_eq!((config.listen.to_string(), config.routes.len()), ("127.0.0.1:8080".to_owned(), 1));
        assert!(matches!(&config.routes[0].target, Target::Rooms(rooms) if &*rooms.open[0] == "lobby"));
        assert_eq!(config.token_policy(&config.routes[0]), TokenPolicy::Required);
    }

    #[test]
    fn a_flag_is_above_the_file_and_the_file_above_the_default() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config/whole.toml");
        let file = file.to_str().unwrap();
        let config = read(Path::new(file)).unwrap();
        assert_eq!((config.listen.port(), config.log.level, config.limits.session.errors), (9000, LogLevel::Debug, 5));
        assert_eq!((config.limits.handshake_ms, config.limits.session.close_ms), (10_000, 3_000));
        let flags =
            ["--config", file, "--listen", "127.0.0.1:9999", "--log", "warn", "--refuse", "http", "--dialect", "mine"];
        let mut config = read(Path::new(file)).unwrap();
        config.overlay(&args(&flags)).unwrap();
        assert_eq!((config.listen.port(), config.log.level, config.limits.session.errors), (9999, LogLevel::Warn, 5));
        assert!(config.routes.iter().all(|route| route.refuse == Refuse::Http && route.dialect.name() == "mine"));
    }

    #[test]
    fn the_limits_of_a_route_are_above_those_of_the_server() {
        let config = read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config/whole.toml")).unwrap();
        let limits = |i: usize| (&config.routes[i].limits.message_bytes, config.routes[i].limits.errors);
        assert_eq!(limits(0), (&32_768, 50), "its own errors, the server's message_bytes");
        assert_eq!(limits(1), (&32_768, 5), "all of the server's");
    }

    #[test]
    fn what_others_can_reach_needs_a_key() {
        let open = args(&["--listen", "0.0.0.0:8080"]);
        assert!(refused(&open).contains("no key to check tokens with"), "{}", refused(&open));
        let keyed = ServeArgs { token_secret: secret(SECRET), ..args(&["--listen", "0.0.0.0:8080"]) };
        let config = Config::load(&keyed).unwrap();
        assert!(!config.is_development());
        assert_eq!(config.token_policy(&config.routes[0]), TokenPolicy::Required);
        assert!(refused(&args(&["--api-listen", "0.0.0.0:8081"])).contains("has no key"));
        let api = Config::load(&args(&["--api-listen", "127.0.0.1:8082"])).unwrap().api.unwrap();
        assert_eq!(api.listen.port(), 8082);
        let keyed = ServeArgs { token_secret: secret(SECRET), ..args(&["--api-listen", "127.0.0.1:8081"]) };
        assert!(refused(&keyed).contains("has no key"), "not in development any more");
    }

    #[test]
    fn a_secret_is_long_enough_and_never_printed() {
        let short = ServeArgs { api_key: secret("hunter2"), ..ServeArgs::default() };
        assert!(refused(&short).starts_with("error: SAYWHY_API_KEY: the secret has 7 characters, and needs 16"));
        assert!(!refused(&short).contains("hunter2") && !format!("{short:?}").contains("hunter2"));
    }

    #[test]
    fn upstreams_are_read() {
        let err = Serve::try_parse_from(["serve", "--upstream", "http://back"]).err().unwrap().to_string();
        assert!(err.contains("did you mean `ws://back`?"), "{err}");
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config/whole.toml");
        assert!(
            refused(&args(&["--config", file.to_str().unwrap(), "--upstream", "ws://b"])).contains("routes of its own")
        );
        assert!(refused(&args(&["--dialect", "ap"])).contains("did you mean `app`?"));
    }

    #[test]
    fn every_flag_and_variable_is_documented() {
        let docs = include_str!("../../../../docs/config.md");
        let command = Serve::command();
        let flags =
            command.get_arguments().filter_map(|flag| Some((flag.get_long()?, flag.get_env()?.to_str()?, flag)));
        for (long, variable, flag) in flags {
            let value = &flag.get_value_names().unwrap()[0];
            let row = format!("| `--{long} {value}` | `{variable}` |");
            assert!(docs.contains(&row), "{row}");
        }
    }
}
