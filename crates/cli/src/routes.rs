//! The routes of the configuration, as an HTTP service: a gate in front of each, rooms behind it.

use crate::config::{self, Config, Target, TokenPolicy};
use crate::keys::Keyring;
use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::any;
use saywhy::{
    Admission, Applicant, Check, Compression, DrainPlan, ForwardedHeader, Gate, HttpLimits, Limits, Origin, Proxies,
    Rate, Refusal, RefusalForm, Session, Settings,
};
use saywhy_gateway::{Address, Gateway, Options};
use saywhy_rooms::broker::{Broker as _, MemoryBroker, MemoryLimits};
use saywhy_rooms::{Authenticate, Claims, Create, Member, Permission, Rooms, RoomsSettings};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use uuid::Uuid;

/// A route, ready to be served.
pub(crate) struct Served {
    pub(crate) path: String,
    pub(crate) gate: Gate,
    behind: Behind,
}

/// What stands behind a route.
enum Behind {
    Rooms(Arc<Hall>),
    Upstream(Arc<Desk>),
}

/// Rooms, and the way in.
struct Hall {
    door: Door,
    rooms: Rooms,
    /// What was asked for when they were made.
    made_of: config::Rooms,
    /// Who brings no token may do so in the first message.
    asks: bool,
    authenticate: Authenticate,
}

/// An upstream, and the way to it.
struct Desk {
    door: Door,
    gateway: Gateway,
}

/// Who may come in.
struct Door {
    keys: Keyring,
    policy: TokenPolicy,
    /// The application's own word.
    check: Option<Check>,
}

/// From the first byte to the last of a message that is passed on as it comes.
const LONG_MESSAGE: Duration = Duration::from_secs(24 * 60 * 60);

/// Anyone's claims where no token is asked for are good for this long.
const GUEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

impl Served {
    /// A route of the configuration, behind a gate of `house`. Rooms that were `before` at this path are the same ones.
    ///
    /// # Errors
    /// When its check or its upstream is to be asked over TLS, and the machine has no certificates to trust.
    pub(crate) async fn new(
        route: &config::Route,
        policy: TokenPolicy,
        keys: &Keyring,
        house: &Gate,
        before: Option<&Self>,
    ) -> io::Result<Self> {
        let gate = house.with(gate_settings(route, house.settings()));
        let check = route.check.as_ref().map(check).transpose()?;
        let door = Door { keys: keys.clone(), policy, check };
        let behind = match &route.target {
            Target::Rooms(settings) => {
                let authenticate = authenticate(keys.clone(), gate.clone());
                let (rooms, made_of) = match before.map(|before| &before.behind) {
                    Some(Behind::Rooms(hall)) => {
                        let made_of = hall.made_of.clone();
                        let settings = config::Rooms { presence: made_of.presence, ..settings.clone() };
                        (hall.rooms.with(rooms_settings(&settings, route)), made_of)
                    }
                    _ => (rooms(settings, route).await, settings.clone()),
                };
                let asks = route.token_in_first_message;
                Behind::Rooms(Arc::new(Hall { door, rooms, made_of, asks, authenticate }))
            }
            Target::Upstream(first) => {
                let gateway = gateway(first, route, &gate.settings().limits)?;
                Behind::Upstream(Arc::new(Desk { door, gateway }))
            }
        };
        Ok(Self { path: route.path.to_string(), gate, behind })
    }

    /// Its rooms, if that is what stands behind it.
    pub(crate) fn rooms(&self) -> Option<&Rooms> {
        match &self.behind {
            Behind::Rooms(hall) => Some(&hall.rooms),
            Behind::Upstream(_) => None,
        }
    }

    /// What its rooms were made of.
    pub(crate) fn rooms_made_of(&self) -> Option<&config::Rooms> {
        match &self.behind {
            Behind::Rooms(hall) => Some(&hall.made_of),
            Behind::Upstream(_) => None,
        }
    }

    /// Its path and everything below.
    pub(crate) fn router(&self) -> Router {
        self.router_at(&self.path, self.gate.clone())
    }

    /// The same at another path, behind another gate.
    pub(crate) fn router_at(&self, path: &str, gate: Gate) -> Router {
        let below = format!("{}/{{*below}}", path.trim_end_matches('/'));
        let router = match &self.behind {
            Behind::Rooms(hall) => {
                Router::new().route(path, any(enter)).route(&below, any(enter)).with_state(Arc::clone(hall))
            }
            Behind::Upstream(desk) => {
                Router::new().route(path, any(relay)).route(&below, any(relay)).with_state(Arc::clone(desk))
            }
        };
        router.layer(gate)
    }
}

async fn enter(admission: Admission, State(hall): State<Arc<Hall>>) -> Result<Response, Refusal> {
    if hall.asks && admission.token().is_none() {
        return Ok(admission.ask_for_token(async move |applicant| {
            let member = hall.member(&applicant).await?;
            Ok(|session: Session| session.serve(member))
        }));
    }
    let member = hall.member(&admission).await?;
    Ok(admission.accept(|session| session.serve(member)))
}

impl Hall {
    async fn member(&self, applicant: &Applicant) -> Result<Member, Refusal> {
        let claims = match self.door.opens_to(applicant).await? {
            Some(claims) => claims,
            None => {
                let claims = guest(applicant.id());
                applicant.identify(&claims.sub)?;
                claims
            }
        };
        Ok(self.rooms.member(claims, Arc::clone(&self.authenticate)))
    }
}

async fn relay(admission: Admission, State(desk): State<Arc<Desk>>, request: Request) -> Result<Response, Refusal> {
    desk.door.opens_to(&admission).await?;
    desk.gateway.relay(admission, &request.into_parts().0).await
}

impl Door {
    /// What a token says, where there is one to be looked at.
    async fn opens_to(&self, applicant: &Applicant) -> Result<Option<Claims>, Refusal> {
        let claims = match (self.policy, applicant.token()) {
            (TokenPolicy::None, _) | (TokenPolicy::Optional, None) => None,
            (TokenPolicy::Required | TokenPolicy::Optional, _) => {
                Some(applicant.authenticate::<Claims>(&self.keys.current()).await?)
            }
        };
        if let Some(check) = &self.check {
            check.ask(applicant).await?;
        }
        Ok(claims)
    }
}

fn check(check: &config::Check) -> io::Result<Check> {
    let url = check.url.parse().map_err(io::Error::other)?;
    Check::new(url, Duration::from_millis(check.timeout_ms.into()), check.at_once as usize)
}

/// Someone without a token: may take part, and manage nothing.
fn guest(id: Uuid) -> Claims {
    let permissions = vec![Permission::Join, Permission::Send, Permission::History, Permission::Members];
    let exp = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() + GUEST;
    let name = id.simple().to_string();
    let sub = format!("guest-{}", &name[name.len() - 8..]);
    Claims { sub, exp: exp.as_secs(), rooms: BTreeMap::from([("*".to_owned(), permissions)]) }
}

fn authenticate(keys: Keyring, gate: Gate) -> Authenticate {
    Arc::new(move |session, token| {
        let (keys, gate) = (keys.current(), gate.clone());
        Box::pin(async move { gate.renew(&session, &keys, &token).await })
    })
}

fn gateway(first: &config::Upstream, route: &config::Route, limits: &Limits) -> io::Result<Gateway> {
    let relay = &route.relay;
    let upstreams = std::iter::once(first).chain(&relay.more).map(|upstream| upstream.parse());
    let upstreams: Vec<Address> = upstreams.collect::<Result<_, _>>().map_err(io::Error::other)?;
    let limits = Limits {
        message_bytes: relay.message_bytes as usize,
        early_message_bytes: relay.message_bytes as usize,
        // A back end is as fast as it is, and may have nothing to say; and nothing is kept of what takes long.
        messages_per_s: 0,
        idle: Duration::ZERO,
        message: LONG_MESSAGE,
        ..limits.clone()
    };
    let answer = Duration::from_millis(relay.answer_ms.into());
    let (route, limits) = (route.path.to_string(), Arc::new(limits));
    Gateway::new(upstreams, Options { route, answer, limits, reasons: relay.reasons })
}

async fn rooms(settings: &config::Rooms, route: &config::Route) -> Rooms {
    let history = &settings.history;
    let limits = MemoryLimits {
        rooms: settings.max_rooms as usize,
        history_entries: history.entries as usize,
        history_bytes: history.bytes as usize,
        ..MemoryLimits::default()
    };
    let broker = MemoryBroker::new(limits);
    for room in &settings.open {
        // The memory broker has room for more than a configuration can name.
        if let Err(error) = broker.open(room).await {
            tracing::error!(room = %&**room, %error, "a room of the configuration was not opened");
        }
    }
    Rooms::new(Arc::new(broker), rooms_settings(settings, route))
}

fn rooms_settings(settings: &config::Rooms, route: &config::Route) -> RoomsSettings {
    let history = &settings.history;
    RoomsSettings {
        create: match settings.create {
            config::Create::Manage => Create::Manage,
            config::Create::Join => Create::Join,
        },
        presence: settings.presence,
        rooms_per_connection: route.limits.rooms_per_connection as usize,
        // Half of the queue, so that what is said meanwhile has a place too.
        replay_entries: history.entries.min(route.limits.outbound_messages / 2) as usize,
        replay_bytes: route.limits.outbound_bytes as usize / 2,
        // In the queue of a member a message is longer than it was when it came.
        message_bytes: route.limits.message_bytes.min(route.limits.outbound_bytes - 1_024) as usize,
    }
}

fn gate_settings(route: &config::Route, server: &Settings) -> Settings {
    let limits = &route.limits;
    let ms = |ms: u32| Duration::from_millis(ms.into());
    Settings {
        refuse: refusal_form(route.refuse),
        dialect: route.dialect.clone(),
        origins: origins([route]),
        any_subprotocol: matches!(route.target, Target::Upstream(_)),
        one_per_identity: route.one_per_identity,
        replacements: limits.replacements,
        compression: route.compression.as_ref().map(|ours| Compression {
            context_takeover: ours.context_takeover,
            window_bits: ours.window_bits,
            level: ours.level,
            min_bytes: ours.min_bytes as usize,
        }),
        limits: Arc::new(Limits {
            message_bytes: limits.message_bytes as usize,
            messages_per_s: limits.messages_per_s,
            message_burst: limits.message_burst,
            errors: limits.errors,
            heartbeat: ms(limits.heartbeat_ms),
            idle: ms(limits.idle_ms),
            write: ms(limits.write_ms),
            close: ms(limits.close_ms),
            message: match route.target {
                Target::Rooms(_) => server.limits.message,
                Target::Upstream(_) => LONG_MESSAGE,
            },
            ..Limits::clone(&server.limits)
        }),
        outbound_bytes: limits.outbound_bytes as usize,
        outbound_messages: limits.outbound_messages as usize,
        connections_per_identity: limits.connections_per_identity as usize,
        ..server.clone()
    }
}

fn refusal_form(refuse: config::Refuse) -> RefusalForm {
    match refuse {
        config::Refuse::Auto => RefusalForm::Auto,
        config::Refuse::Close => RefusalForm::Close,
        config::Refuse::Http => RefusalForm::Http,
    }
}

/// The configuration was checked: all of them are origins.
fn origins<'a>(routes: impl IntoIterator<Item = &'a config::Route>) -> Vec<Origin> {
    routes.into_iter().flat_map(|route| &route.origins).filter_map(|origin| origin.parse().ok()).collect()
}

/// What holds for the whole server, behind its first gate, from which all others are made. By itself that stands where no route
/// does, such as at a mistyped path, and there speaks as the first route does, to the pages of every route.
pub(crate) fn house_settings(config: &Config) -> Settings {
    let limits = &config.limits;
    let first = config.routes.first();
    Settings {
        refuse: first.map_or(RefusalForm::Auto, |route| refusal_form(route.refuse)),
        dialect: first.map(|route| route.dialect.clone()).unwrap_or_default(),
        origins: origins(&config.routes),
        limits: Arc::new(Limits {
            early_message_bytes: limits.handshake_bytes as usize,
            ready: Duration::from_millis(limits.handshake_ms.into()),
            ..Limits::default()
        }),
        connections: limits.connections as usize,
        connections_per_address: limits.connections_per_address as usize,
        connects: Rate { per_s: limits.connects_per_s, burst: limits.connect_burst },
        connects_per_address: Rate { per_s: limits.address_connects_per_s, burst: limits.address_connect_burst },
        connects_per_identity: Rate { per_s: limits.identity_connects_per_s, burst: limits.identity_connect_burst },
        refusals_per_address: Rate { per_s: limits.address_refusals_per_s, burst: limits.address_refusal_burst },
        refusal_delay: Duration::from_millis(limits.refusal_delay_ms.into()),
        lingering: limits.lingering as usize,
        lingering_per_address: limits.lingering_per_address as usize,
        unauthenticated: limits.unauthenticated as usize,
        unauthenticated_per_address: limits.unauthenticated_per_address as usize,
        failed_tokens: limits.failed_tokens,
        revocations: limits.revocations as usize,
        revocation: Duration::from_millis(limits.revocation_ms.into()),
        ..Settings::default()
    }
}

pub(crate) fn http_limits(config: &Config) -> HttpLimits {
    HttpLimits {
        head: Duration::from_millis(config.limits.handshake_ms.into()),
        head_bytes: config.limits.handshake_bytes as usize,
        waiting: config.limits.waiting as usize,
        waiting_per_address: config.limits.waiting_per_address as usize,
        streams: config.limits.http2_streams,
        ..HttpLimits::default()
    }
}

/// The configuration was checked: all of them are networks.
pub(crate) fn proxies(config: &Config) -> Proxies {
    Proxies {
        trusted: config.proxies.trusted.iter().filter_map(|network| network.parse().ok()).collect(),
        proxy_protocol: config.proxies.proxy_protocol,
        header: match config.proxies.header {
            config::ForwardedHeader::XForwardedFor => ForwardedHeader::XForwardedFor,
            config::ForwardedHeader::Forwarded => ForwardedHeader::Forwarded,
            config::ForwardedHeader::None => ForwardedHeader::None,
        },
    }
}

pub(crate) fn drain_plan(config: &Config) -> DrainPlan {
    DrainPlan {
        window: Duration::from_millis(config.drain.window_ms.into()),
        deadline: Duration::from_millis(config.drain.deadline_ms.into()),
        ..DrainPlan::default()
    }
}
