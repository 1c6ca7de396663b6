//! Development mode: the page, tokens for the asking, failures on demand, and a twin that fails the usual way.
//!
//! All of it is for this machine only. A request that names another host, or that a proxy passed on, gets none of it:
//! otherwise a page elsewhere could mint tokens by giving its own name our address.

use crate::routes::Served;
use axum::body::Bytes;
use axum::extract::{Path, Query, Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, FORWARDED, HOST, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use axum::{Json, Router};
use rand::distr::{Alphanumeric, SampleString as _};
use saywhy::catalogue::{BAD_REQUEST, FORBIDDEN, INTERNAL_ERROR, NOT_FOUND};
use saywhy::{
    Admission, Catalogue, CloseCode, Encoded, Explain as _, Failure, Gate, Handler, Limits, Outbox, PeerAddr, Refusal,
    RefusalForm, Settings, TokenSigner,
};
use saywhy_rooms::{Claims, Permission};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use uuid::Uuid;

/// A secret for one run.
pub(crate) fn secret() -> String {
    Alphanumeric.sample_string(&mut rand::rng(), 43)
}

/// What the development mode adds to the routes of the configuration.
pub(crate) fn router(
    house: &Gate,
    routes: &[Served],
    signer: &Arc<TokenSigner>,
    catalogue: &Arc<Catalogue>,
    api_key: &str,
    api: &str,
) -> Router {
    let mut all = Router::new();
    for (path, content_type, bytes) in PAGE {
        all = all.route(path, get(move || asset(content_type, bytes)));
    }
    let first = routes.iter().find(|route| route.rooms().is_some());
    let info = json!({
        "api": api,
        "key": api_key,
        "rooms": first.map(|route| &route.path),
        "version": env!("CARGO_PKG_VERSION"),
    });
    all = all
        .route("/dev/info", get(move || std::future::ready(Json(info.clone()))))
        .route("/dev/token", post(mint).with_state(Arc::clone(signer)))
        .route("/dev/restart", post(restart).with_state(house.clone()))
        .merge(failures(first.map_or(house, |first| &first.gate), catalogue));
    if let Some(first) = first {
        let single = Settings { one_per_identity: true, ..first.gate.settings().clone() };
        all = all.merge(first.router_at("/dev/single", house.with(single)));
    }
    all.layer(from_fn(this_machine_only))
}

/// Rooms for the page to fail in, besides those of the configuration.
pub(crate) async fn furnish(routes: &[Served]) {
    let Some(rooms) = routes.iter().find_map(Served::rooms) else { return };
    for room in ["lobby", "closed", "staff"] {
        let broker = rooms.broker();
        let opened = broker.open(room).await;
        let closed = if room == "closed" { broker.close(room).await } else { Ok(()) };
        if let Err(error) = opened.and(closed) {
            tracing::warn!(room, %error, "a room for the page was not opened");
        }
    }
}

async fn this_machine_only(request: Request, next: Next) -> Response {
    // Also as a proxy tells it that was told to be believed.
    let peer = request.extensions().get::<PeerAddr>();
    if is_local(request.headers()) && peer.is_none_or(|peer| peer.0.ip().to_canonical().is_loopback()) {
        return next.run(request).await;
    }
    let words = "Development mode answers this machine only, under a loopback name and without a proxy";
    Refusal::new(FORBIDDEN.say(words)).into_response()
}

fn is_local(headers: &HeaderMap) -> bool {
    let forwarded: HeaderName = HeaderName::from_static("x-forwarded-for");
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit())).map_or(host, |p| p.0);
    let loopback = name == "localhost"
        || name
            .trim_start_matches('[')
            .trim_end_matches(']')
            .parse()
            .is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
    loopback && !headers.contains_key(FORWARDED) && !headers.contains_key(forwarded)
}

// ---- the page ---------------------------------------------------------------------------------------------------

const HTML: &str = "text/html; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";

macro_rules! page {
    ($($path:literal $type:ident $file:literal)*) => {
        /// Path, type and contents of each file of the page.
        const PAGE: &[(&str, &str, &[u8])] = &[$(($path, $type, include_bytes!(concat!("../../../web/", $file)))),*];
    };
}

const CSS: &str = "text/css; charset=utf-8";
const SVG: &str = "image/svg+xml";

page! {
    "/" HTML "index.html"
    "/style.css" CSS "style.css"
    "/favicon.svg" SVG "favicon.svg"
    "/foreign.html" HTML "foreign.html"
    "/foreign.js" JS "foreign.js"
    "/board.js" JS "board.js"
    "/chat.js" JS "chat.js"
    "/client.js" JS "client.js"
    "/dom.js" JS "dom.js"
    "/failures.js" JS "failures.js"
    "/server.js" JS "server.js"
    "/talk.js" JS "talk.js"
    "/trial.js" JS "trial.js"
    "/witness.js" JS "witness.js"
    "/words.js" JS "words.js"
}

/// Nothing from elsewhere, and nothing inline.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
    connect-src 'self' ws: wss:; frame-src 'self'; base-uri 'none'; form-action 'none'";

async fn asset(content_type: &'static str, bytes: &'static [u8]) -> impl IntoResponse {
    let headers = [
        (CONTENT_TYPE, content_type),
        (CONTENT_SECURITY_POLICY, POLICY),
        (CACHE_CONTROL, "no-store"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, bytes)
}

// ---- tokens and restarts ----------------------------------------------------------------------------------------

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Mint {
    sub: String,
    expires_in_s: i64,
    #[serde(default)]
    rooms: BTreeMap<String, Vec<Permission>>,
}

async fn mint(State(signer): State<Arc<TokenSigner>>, body: Bytes) -> Result<Json<Value>, Refusal> {
    let Mint { sub, expires_in_s, rooms } = read(&body)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let claims = Claims { sub, exp: now.saturating_add_signed(expires_in_s), rooms };
    let token = signer.sign(&claims).or_refuse(INTERNAL_ERROR)?;
    Ok(Json(json!({ "token": token, "claims": claims })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Restart {
    connection_id: Uuid,
    retry_after_ms: u64,
    spread_ms: u64,
}

async fn restart(State(house): State<Gate>, body: Bytes) -> Result<StatusCode, Refusal> {
    let Restart { connection_id, retry_after_ms, spread_ms } = read(&body)?;
    let session = house.session(connection_id).or_refuse(NOT_FOUND.say("There is no such connection"))?;
    session.restart(Duration::from_millis(retry_after_ms), Duration::from_millis(spread_ms));
    Ok(StatusCode::NO_CONTENT)
}

fn read<T: for<'de> Deserialize<'de>>(body: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|error| Refusal::new(BAD_REQUEST.say(format!("The body is wrong: {error}"))))
}

// ---- failures on demand -----------------------------------------------------------------------------------------

/// Refused and ended as the first route does it.
fn failures(gate: &Gate, catalogue: &Arc<Catalogue>) -> Router {
    Router::new()
        .route("/dev/refuse/{name}", any(refuse).with_state(Arc::clone(catalogue)))
        .route("/dev/panic", any(panic_while_deciding))
        .route("/dev/faults", any(faults))
        .layer(gate.clone())
}

async fn refuse(
    admission: Admission,
    Path(name): Path<String>,
    State(catalogue): State<Arc<Catalogue>>,
) -> Result<Response, Refusal> {
    let row = catalogue.by_name(&name).or_refuse(NOT_FOUND.say("The catalogue has no row of that name"))?;
    Err(admission.refuse(row))
}

async fn panic_while_deciding(_admission: Admission) -> Response {
    panic!("asked to by /dev/panic")
}

async fn faults(admission: Admission) -> Response {
    admission.accept(|session| session.serve(Faults { outbox: None }))
}

/// Fails as it is told.
struct Faults {
    outbox: Option<Outbox>,
}

#[derive(Deserialize)]
#[serde(tag = "type", content = "data", rename_all = "snake_case")]
enum Fault {
    /// An error of ours that the session survives.
    Fail {},
    /// An error of ours that it does not.
    Break {},
    /// A defect.
    Panic {},
    /// So much for the client at once that it does not fit its queue, as if it did not read.
    Slow {},
}

impl Handler for Faults {
    type Command = Fault;
    type Event = ();

    async fn on_open(&mut self, outbox: &Outbox) -> Result<(), Failure> {
        self.outbox = Some(outbox.clone());
        Ok(())
    }

    async fn on_message(&mut self, fault: Fault) -> Result<(), Failure> {
        let cause = "connection to db-7.internal refused: password authentication failed for user \"app\"";
        match fault {
            Fault::Fail {} => Err(cause).or_reply(INTERNAL_ERROR),
            Fault::Break {} => Err(cause).or_close(INTERNAL_ERROR),
            Fault::Panic {} => panic!("{cause}"),
            Fault::Slow {} => {
                let Some(outbox) = &self.outbox else { return Ok(()) };
                let noise =
                    Encoded::message("noise", &json!({ "text": "x".repeat(1_000) })).or_close(INTERNAL_ERROR)?;
                // Nothing is written while this runs, so the queue fills up whatever the client does.
                while outbox.push(&noise).is_ok() {}
                Ok(())
            }
        }
    }
}

// ---- the usual way ----------------------------------------------------------------------------------------------

/// A server as they usually are: it refuses in HTTP, and ends sessions without a word. No other gate stands in front,
/// or that one would give its reasons.
pub(crate) fn usual(house: &Gate) -> Router {
    let limits = Limits { message_bytes: 1024 * 1024, ..Limits::clone(&house.settings().limits) };
    let settings =
        Settings { refuse: RefusalForm::Http, envelope: false, limits: Arc::new(limits), ..house.settings().clone() };
    let twin = Router::new().route("/usual", any(as_usual)).layer(house.with(settings));
    twin.layer(from_fn(this_machine_only))
}

#[derive(Deserialize)]
struct Usual {
    refuse: Option<u16>,
    then: Option<Then>,
    at: Option<String>,
}

#[derive(Clone, Copy, Deserialize)]
enum Then {
    #[serde(rename = "drop")]
    Drop,
    #[serde(rename = "empty")]
    Empty,
    #[serde(rename = "1003")]
    UnsupportedData,
    #[serde(rename = "1009")]
    MessageTooBig,
    #[serde(rename = "1011")]
    InternalError,
    #[serde(rename = "silence")]
    Silence,
}

async fn as_usual(admission: Admission, Query(usual): Query<Usual>) -> Response {
    if let Some(status) = usual.refuse {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
        return (status, status.canonical_reason().unwrap_or("no")).into_response();
    }
    let then = usual.then.unwrap_or(Then::Silence);
    let at_once = usual.at.as_deref() == Some("open");
    admission.accept(move |mut session| async move {
        if !at_once && session.next().await.is_none() {
            return;
        }
        match then {
            Then::Drop => session.abandon(),
            Then::Empty => session.leave(None).await,
            Then::UnsupportedData => session.leave(Some(CloseCode::UNSUPPORTED_DATA)).await,
            Then::MessageTooBig => session.leave(Some(CloseCode::MESSAGE_TOO_BIG)).await,
            Then::InternalError => session.leave(Some(CloseCode::INTERNAL_ERROR)).await,
            Then::Silence => while session.next().await.is_some() {},
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_page_is_served() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../web");
        for file in std::fs::read_dir(folder).unwrap() {
            let name = file.unwrap().file_name().into_string().unwrap();
            let path = if name == "index.html" { "/".to_owned() } else { format!("/{name}") };
            assert!(PAGE.iter().any(|(served, _, _)| *served == path), "web/{name} is not served");
        }
    }

    #[test]
    fn only_this_machine_under_a_loopback_name() {
        let local = |host: &str| is_local(&HeaderMap::from_iter([(HOST, host.parse().unwrap())]));
        for good in ["127.0.0.1:8080", "localhost", "localhost:8080", "[::1]:8080", "127.3.2.1"] {
            assert!(local(good), "{good}");
        }
        for bad in
            ["evil.example:8080", "127.0.0.1.evil.example", "localhost.evil.example", "192.168.1.7", "", "10.0.0.1"]
        {
            assert!(!local(bad), "{bad}");
        }
        let proxied = [(HOST, "localhost"), (FORWARDED, "for=203.0.113.9")];
        assert!(!is_local(&proxied.into_iter().map(|(name, value)| (name, value.parse().unwrap())).collect()));
    }
}
