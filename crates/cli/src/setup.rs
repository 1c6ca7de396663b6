//! What a configuration comes to: routes behind gates, and the API. It can be read again while sessions go on.

use crate::config::{self, Config, Target};
use crate::dev;
use crate::keys::{self, Keyring};
use crate::routes::{self, Served};
use axum::Router;
use axum::extract::Request;
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;
use saywhy::catalogue::NOT_FOUND;
use saywhy::{Catalogue, Gate, Limits, Refusal, Settings, TokenSigner};
use saywhy_rooms::api::Api;
use std::io;
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll};
use tower_service::Service;

/// Where the HTTP API stands.
pub(crate) const API: &str = "/api/v1";

/// Why a configuration, in which nothing is wrong, cannot be served.
pub(crate) struct Unserved {
    pub(crate) what: &'static str,
    pub(crate) error: io::Error,
    pub(crate) hint: &'static str,
}

/// What is made once for a run, whatever is read later.
pub(crate) struct Run {
    /// What development mode signs tokens with, which nothing else accepts.
    token_secret: String,
    api_key: String,
    metrics: PrometheusHandle,
    /// What holds until a restart, whatever is read later.
    fixed: Vec<(&'static str, String)>,
}

impl Run {
    pub(crate) fn new(config: &Config, metrics: PrometheusHandle) -> Self {
        Self { token_secret: dev::secret(), api_key: dev::secret(), metrics, fixed: fixed(config) }
    }
}

/// What of a configuration is taken at the start only, by its name in the file.
fn fixed(config: &Config) -> Vec<(&'static str, String)> {
    let limits = &config.limits;
    vec![
        ("listen", config.listen.to_string()),
        ("[api] listen", format!("{:?}", config.api.as_ref().map(|api| api.listen))),
        ("[tls]", format!("{:?}", config.tls)),
        ("[proxies]", format!("{:?}", config.proxies)),
        ("[log]", format!("{:?}", config.log)),
        ("limits.handshake_bytes", limits.handshake_bytes.to_string()),
        ("limits.handshake_ms", limits.handshake_ms.to_string()),
        ("limits.waiting", limits.waiting.to_string()),
        ("limits.waiting_per_address", limits.waiting_per_address.to_string()),
        ("limits.http2_streams", limits.http2_streams.to_string()),
    ]
}

/// A configuration, ready to be served.
pub(crate) struct Setup {
    pub(crate) config: Config,
    pub(crate) house: Gate,
    pub(crate) routes: Vec<Served>,
    keys: Keyring,
    catalogue: Arc<Catalogue>,
    run: Arc<Run>,
}

impl Setup {
    /// The first one of a run.
    pub(crate) async fn new(config: Config, run: Arc<Run>) -> Result<Self, Unserved> {
        let house = Gate::new(routes::house_settings(&config));
        let keys = Keyring::new(config.token.as_ref(), &run.token_secret).map_err(no_keys)?;
        keys.begin();
        let setup = Self::of(config, run, house, keys, None).await?;
        if setup.config.is_development() {
            dev::furnish(&setup.routes).await;
        }
        Ok(setup)
    }

    /// The next one: new connections are treated as `config` says. Sessions stay, and so do rooms whose path stays.
    ///
    /// All of it is ready before anything of it holds.
    pub(crate) async fn next(&self, mut config: Config) -> Result<Ready, Unserved> {
        // The listener of the API stays, and so does its key.
        if config.api.is_none() {
            config.api = self.config.api.clone();
        }
        let keys = config.token.as_ref().map(|token| self.keys.next(token)).transpose().map_err(no_keys)?;
        let house = self.house.with(self.next_settings(&config));
        let setup = Self::of(config, Arc::clone(&self.run), house, self.keys.clone(), Some(self)).await?;
        Ok(Ready { main: setup.service(), api: setup.api_service(), keys, setup })
    }

    /// What holds for the whole server, but for what is named as [`fixed`].
    fn next_settings(&self, config: &Config) -> Settings {
        let (now, next) = (self.house.settings(), routes::house_settings(config));
        let (ready, early_message_bytes) = (now.limits.ready, now.limits.early_message_bytes);
        let limits = Limits { ready, early_message_bytes, ..Limits::clone(&next.limits) };
        Settings { limits: Arc::new(limits), ..next }
    }

    async fn of(
        config: Config,
        run: Arc<Run>,
        house: Gate,
        keys: Keyring,
        before: Option<&Self>,
    ) -> Result<Self, Unserved> {
        let mut routes = Vec::new();
        for route in &config.routes {
            let before = before.and_then(|before| before.at(&route.path));
            let served = Served::new(route, config.token_policy(route), &keys, &house, before).await;
            routes.push(served.map_err(|error| Unserved {
                what: "failed to find certificates to trust, for the check or the upstream of a route",
                error,
                hint: keys::NO_CERTIFICATES.1,
            })?);
        }
        let catalogue = Arc::new(config.catalogue.clone());
        Ok(Self { config, house, routes, keys, catalogue, run })
    }

    fn at(&self, path: &str) -> Option<&Served> {
        self.routes.iter().find(|route| route.path == path)
    }

    /// What of `next` is not taken before a restart, by its name in the file.
    pub(crate) fn fixed_changes(&self, next: &Config) -> Vec<String> {
        let changed = self.run.fixed.iter().zip(fixed(next)).filter(|(before, now)| **before != *now);
        let mut names: Vec<_> = changed.map(|((name, _), _)| (*name).to_owned()).collect();
        for route in &next.routes {
            let Target::Rooms(asked) = &route.target else { continue };
            let made_of = self.at(&route.path).and_then(Served::rooms_made_of);
            // Who may open one can change.
            let same = |made_of: &config::Rooms| *made_of == config::Rooms { create: made_of.create, ..asked.clone() };
            if !made_of.is_none_or(same) {
                names.push(format!("the rooms of {}", &*route.path));
            }
        }
        names
    }

    /// Whether the page of development mode is there: for rooms, and where nothing else is.
    pub(crate) fn has_page(&self) -> bool {
        self.has_own_api() && self.root_is_free()
    }

    /// Whether development mode has an API without `[api]`: the page needs one.
    pub(crate) fn has_own_api(&self) -> bool {
        self.config.is_development() && self.routes.iter().any(|route| route.rooms().is_some())
    }

    fn root_is_free(&self) -> bool {
        self.routes.iter().all(|route| route.path != "/")
    }

    pub(crate) fn api_key(&self) -> &str {
        let configured = self.config.api.as_ref().and_then(|api| api.key.as_ref());
        configured.map_or(&self.run.api_key, |key| key.expose())
    }

    /// Everything that stands on the main address.
    pub(crate) fn service(&self) -> Router {
        let mut rest = Router::new();
        let root_is_free = self.root_is_free();
        if self.config.is_development() && root_is_free {
            let signer = Arc::new(TokenSigner::hs256(self.run.token_secret.as_bytes()));
            rest = rest.merge(dev::router(&self.house, &self.routes, &signer, &self.catalogue, self.api_key(), API));
        }
        if self.has_own_api() && (self.config.api.is_none() || root_is_free) {
            rest = rest.nest(API, self.api());
        }
        if root_is_free {
            rest = rest.fallback(|| async { Refusal::new(NOT_FOUND.say("There is nothing at this path")) });
        }
        // An unknown path is refused as readably as a known one.
        let mut rest = rest.layer(self.house.clone());
        if self.config.is_development() && root_is_free {
            rest = rest.merge(dev::usual(&self.house));
        }
        self.routes.iter().fold(rest, |all, route| all.merge(route.router()))
    }

    /// Everything that stands on the address of the API.
    pub(crate) fn api_service(&self) -> Router {
        let run = Arc::clone(&self.run);
        Router::new()
            .nest(API, self.api())
            .route("/metrics", get(move || std::future::ready(run.metrics.render())))
            .fallback(|| async { Refusal::new(NOT_FOUND.say("The API has no such path; it begins at /api/v1")) })
    }

    /// Sessions of all routes; the rooms of the first route that has some at `/rooms`, those of each at `/at/<path>/rooms`.
    fn api(&self) -> Router {
        let api = Api::new(self.house.clone(), Arc::clone(&self.catalogue), self.api_key());
        let with_rooms = || self.routes.iter().filter_map(|route| Some((&*route.path, route.rooms()?)));
        let first = with_rooms().next();
        let mut all = first.map_or_else(|| api.clone(), |(_, rooms)| api.clone().with_rooms(rooms.clone())).router();
        for (path, rooms) in with_rooms().filter(|(path, _)| *path != "/") {
            all = all.nest(&format!("/at{path}"), api.clone().with_rooms(rooms.clone()).router());
        }
        all
    }
}

fn no_keys(error: io::Error) -> Unserved {
    let (what, hint) = keys::NO_CERTIFICATES;
    Unserved { what, error, hint }
}

/// A configuration that was read again, with nothing left that could fail.
pub(crate) struct Ready {
    setup: Setup,
    main: Router,
    api: Router,
    keys: Option<keys::Keys>,
}

impl Ready {
    /// From here on it holds.
    pub(crate) fn set(self, main: &Current, api: &Current) -> Setup {
        let Self { setup, main: main_router, api: api_router, keys } = self;
        if let Some(keys) = keys {
            setup.keys.set(keys);
        }
        setup.house.set();
        main.change(main_router);
        api.change(api_router);
        setup
    }
}

/// What is served at present. A request goes on with what it began with.
#[derive(Clone)]
pub(crate) struct Current(Arc<RwLock<Router>>);

impl Current {
    pub(crate) fn new(router: Router) -> Self {
        Self(Arc::new(RwLock::new(router)))
    }

    pub(crate) fn change(&self, router: Router) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = router;
    }
}

impl Service<Request> for Current {
    type Response = <Router as Service<Request>>::Response;
    type Error = <Router as Service<Request>>::Error;
    type Future = <Router as Service<Request>>::Future;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        // A router always is.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let mut router = self.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        router.call(request)
    }
}
