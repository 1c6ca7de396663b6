//! The HTTP API for back ends: publish, open and close rooms, look, and kick with a reason. Errors are
//! `application/problem+json`.
//!
//! | request | does |
//! |---|---|
//! | `GET /rooms?after=NAME` | lists rooms |
//! | `PUT /rooms/{room}` `{"state":"open"}` or `"closed"` | opens or closes one |
//! | `DELETE /rooms/{room}` | forgets one and its history |
//! | `GET /rooms/{room}/members` | who is there |
//! | `POST /rooms/{room}/messages` `{"body":…, "from"?, "idempotency_key"?}` | says something |
//! | `GET /connections?after=ID` | lists sessions, the oldest first |
//! | `POST /revocations` `{"user": …}` or `{"token_id": …}`, `"expires_at"?` | ends every session of an identity, or of a token (`jti`), and refuses it until then, in seconds since 1970 |
//! | `GET /revocations?after=NEXT` | lists those in force |
//! | `DELETE /revocations?user=…` or `?token_id=…` | takes one back |
//! | `DELETE /connections/{id}` `{"message"?, "name"?}` | removes a peer, with words for it, and a row of the catalogue other than `kicked` |

use crate::broker::{Publication, RoomState};
use crate::member::WirePosition;
use crate::service::{Rooms, check_name, failure};
use axum::body::Bytes;
use axum::extract::{Path, Query, Request, State};
use axum::http::StatusCode;
use axum::http::header::{ALLOW, AUTHORIZATION, CONTENT_TYPE};
use axum::middleware::{Next, from_fn_with_state, map_response};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{delete, get, post, put};
use axum::{Json, Router};
use saywhy::catalogue::{BAD_REQUEST, KICKED, NOT_FOUND, OVERLOADED, UNAUTHORIZED};
use saywhy::{Catalogue, Explain as _, Failure, Gate, NotRevoked, Outbox, Refusal, Revocation, Revoked};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;
use subtle::ConstantTimeEq as _;
use uuid::Uuid;

/// Rooms, or sessions, in one answer.
const PAGE: usize = 1_000;

/// What the API acts on, and the key that lets one in.
#[derive(Clone)]
pub struct Api {
    rooms: Rooms,
    gate: Gate,
    catalogue: Arc<Catalogue>,
    key: Arc<str>,
}

impl Api {
    /// An API to these rooms and to all sessions behind the gates of this server.
    pub fn new(rooms: Rooms, gate: Gate, catalogue: Arc<Catalogue>, key: &str) -> Self {
        Self { rooms, gate, catalogue, key: key.into() }
    }

    /// Its routes. Every request needs `Authorization: Bearer <key>`.
    pub fn router(self) -> Router {
        Router::new()
            .route("/rooms", get(list_rooms))
            .route("/rooms/{room}", put(turn_room).delete(remove_room))
            .route("/rooms/{room}/members", get(list_members))
            .route("/rooms/{room}/messages", post(publish))
            .route("/revocations", get(list_revocations).post(revoke).delete(restore))
            .route("/connections", get(list_connections))
            .route("/connections/{id}", delete(kick))
            .fallback(|| async { Refusal::new(NOT_FOUND.say("The API has no such path")) })
            .layer(map_response(explained))
            .layer(from_fn_with_state(self.clone(), authorize))
            .with_state(self)
    }
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api").field("rooms", &self.rooms).finish_non_exhaustive()
    }
}

async fn authorize(State(api): State<Api>, request: Request, next: Next) -> Response {
    let header = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let bearer =
        header.and_then(|value| value.split_once(' ')).filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    let key = bearer.map_or("", |(_, key)| key.trim());
    if key.as_bytes().ct_eq(api.key.as_bytes()).into() {
        return next.run(request).await;
    }
    Refusal::new(UNAUTHORIZED.say("The API needs its key: Authorization: Bearer …")).into_response()
}

/// What the framework refuses by itself (a method, a body past its limit, a path that is no text), said like the rest.
async fn explained(response: Response) -> Response {
    let status = response.status();
    let is_said = response.headers().get(CONTENT_TYPE).is_some_and(|kind| kind == "application/problem+json");
    if is_said || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let row = Catalogue::by_http_status(status.as_u16());
    let error = match status {
        StatusCode::METHOD_NOT_ALLOWED => row.say("The API does not know this method at this path"),
        StatusCode::PAYLOAD_TOO_LARGE => row.say("The body is bigger than the API takes"),
        _ => row.say("The API cannot read this request"),
    };
    let mut explained = Refusal::new(error).status(status).into_response();
    if let Some(allowed) = response.headers().get(ALLOW) {
        explained.headers_mut().insert(ALLOW, allowed.clone());
    }
    explained
}

#[derive(Deserialize)]
struct After<T> {
    after: Option<T>,
}

#[derive(Serialize)]
struct Listed {
    room: Arc<str>,
    state: &'static str,
    members: usize,
}

async fn list_rooms(
    State(api): State<Api>,
    Query(After { after }): Query<After<String>>,
) -> Result<Json<Value>, Refusal> {
    let listed = api.rooms.broker().list(after.as_deref(), PAGE).await.map_err(failure).map_err(refusal)?;
    let rooms: Vec<_> = listed
        .into_iter()
        .map(|(room, state)| Listed { members: api.rooms.members(&room).len(), state: state_name(state), room })
        .collect();
    let next = if rooms.len() == PAGE { rooms.last().map(|last| Arc::clone(&last.room)) } else { None };
    Ok(Json(json!({ "rooms": rooms, "next": next })))
}

fn state_name(state: RoomState) -> &'static str {
    match state {
        RoomState::Open => "open",
        RoomState::Closed => "closed",
        RoomState::Absent => "absent",
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Turn {
    Open,
    Closed,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TurnRoom {
    state: Turn,
}

async fn turn_room(State(api): State<Api>, Path(room): Path<String>, body: Bytes) -> Result<Json<Value>, Refusal> {
    let TurnRoom { state } = read(&body)?;
    check_name(&room).map_err(refusal)?;
    let (turned, state) = match state {
        Turn::Open => (api.rooms.broker().open(&room).await, RoomState::Open),
        Turn::Closed => (api.rooms.broker().close(&room).await, RoomState::Closed),
    };
    turned.map_err(failure).map_err(refusal)?;
    Ok(Json(json!({ "room": room, "state": state_name(state) })))
}

async fn remove_room(State(api): State<Api>, Path(room): Path<String>) -> Result<StatusCode, Refusal> {
    api.rooms.broker().remove(&room).await.map_err(failure).map_err(refusal)?;
    Ok(StatusCode::NO_CONTENT)
}

async fn list_members(State(api): State<Api>, Path(room): Path<String>) -> Result<Json<Value>, Refusal> {
    api.rooms.broker().top(&room).await.map_err(failure).map_err(refusal)?;
    Ok(Json(json!({ "room": room, "members": api.rooms.members(&room) })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Say {
    body: Box<RawValue>,
    from: Option<String>,
    idempotency_key: Option<String>,
}

async fn publish(
    State(api): State<Api>,
    Path(room): Path<String>,
    body: Bytes,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    let Say { body, from, idempotency_key } = read(&body)?;
    let key_rule = BAD_REQUEST.say("idempotency_key is 1 to 64 visible ASCII characters");
    let idempotency_key = idempotency_key.map(|key| key.parse().or_refuse(key_rule)).transpose()?;
    let from = from.as_deref().unwrap_or("api").into();
    let publication = Publication { from, body: body.get().to_owned().into(), at: SystemTime::now(), idempotency_key };
    let position = api.rooms.publish(&room, publication).await.map_err(refusal)?;
    Ok((StatusCode::CREATED, Json(json!({ "room": room, "position": WirePosition::from(position) }))))
}

async fn list_connections(State(api): State<Api>, Query(After { after }): Query<After<Uuid>>) -> Json<Value> {
    let mut sessions = api.gate.sessions();
    let total = sessions.len();
    // Ids are in the order of time.
    sessions.sort_unstable_by_key(Outbox::id);
    let id = |session: &Outbox| session.id().simple().to_string();
    let page: Vec<_> =
        sessions.iter().filter(|session| after.is_none_or(|after| session.id() > after)).take(PAGE).collect();
    let next = if page.len() == PAGE { page.last().map(|last| id(last)) } else { None };
    let listed: Vec<_> = page
        .into_iter()
        .map(|session| json!({ "id": id(session), "user": session.user(), "path": session.path() }))
        .collect();
    Json(json!({ "connections": listed, "total": total, "next": next }))
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kick {
    name: Option<String>,
    message: Option<String>,
}

async fn kick(State(api): State<Api>, Path(id): Path<String>, body: Bytes) -> Result<StatusCode, Refusal> {
    let Kick { name, message } = if body.is_empty() { Kick::default() } else { read(&body)? };
    let id: Uuid = id.parse().or_refuse(BAD_REQUEST.say("That is not the id of a connection"))?;
    let unknown = BAD_REQUEST.say("The catalogue has no row of that name");
    let row = name.map_or(Ok(KICKED), |name| api.catalogue.by_name(&name).or_refuse(unknown))?;
    let session = api.gate.session(id).or_refuse(NOT_FOUND.say("There is no such connection"))?;
    session.close_now(message.map_or_else(|| row.message(), |words| row.say(words)));
    Ok(StatusCode::NO_CONTENT)
}

/// An identity or a token, as callers name it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    user: Option<String>,
    token_id: Option<String>,
    expires_at: Option<u64>,
}

impl Named {
    fn revoked(self) -> Result<Revoked, Refusal> {
        match (self.user, self.token_id) {
            (Some(user), None) => Ok(Revoked::User(user)),
            (None, Some(id)) => Ok(Revoked::Token(id)),
            (None, None) | (Some(_), Some(_)) => {
                Err(Refusal::new(BAD_REQUEST.say("A revocation has either user or token_id")))
            }
        }
    }
}

fn shown(Revocation { revoked, since, until }: Revocation) -> Value {
    match revoked {
        Revoked::User(user) => json!({ "user": user, "revoked_at": since, "expires_at": until }),
        Revoked::Token(id) => json!({ "token_id": id, "revoked_at": since, "expires_at": until }),
    }
}

async fn revoke(State(api): State<Api>, body: Bytes) -> Result<(StatusCode, Json<Value>), Refusal> {
    let named: Named = read(&body)?;
    let until = named.expires_at;
    let (revocation, sessions) = api.gate.revoke(named.revoked()?, until).map_err(|not_revoked| match not_revoked {
        NotRevoked::Full => {
            let cause = "limits.revocations is reached; hint: raise it, or revoke with expires_at";
            Refusal::new(OVERLOADED.say("There are as many revocations as are kept")).because(cause)
        }
        NotRevoked::TooLong { most_s } => {
            let words =
                format!("Revocations are kept for {most_s} s at most, and expires_at is later: nothing was revoked");
            Refusal::new(BAD_REQUEST.say(words).detail("field", "expires_at"))
        }
        NotRevoked::NoId => Refusal::new(BAD_REQUEST.say("user and token_id have 1 to 256 bytes")),
    })?;
    let mut answer = shown(revocation);
    answer["sessions"] = json!(sessions);
    Ok((StatusCode::CREATED, Json(answer)))
}

async fn list_revocations(
    State(api): State<Api>,
    Query(After { after }): Query<After<String>>,
) -> Result<Json<Value>, Refusal> {
    let after = after.map(|after| {
        let named = after.split_once(':').and_then(|(kind, id)| match kind {
            "user" => Some(Revoked::User(id.to_owned())),
            "token_id" => Some(Revoked::Token(id.to_owned())),
            _ => None,
        });
        named.or_refuse(BAD_REQUEST.say("after is the next of an answer"))
    });
    let listed = api.gate.revocations(after.transpose()?.as_ref(), PAGE);
    let last = listed.last().filter(|_| listed.len() == PAGE);
    let next = last.map(|last| match &last.revoked {
        Revoked::User(user) => format!("user:{user}"),
        Revoked::Token(id) => format!("token_id:{id}"),
    });
    Ok(Json(json!({ "revocations": listed.into_iter().map(shown).collect::<Vec<_>>(), "next": next })))
}

async fn restore(State(api): State<Api>, Query(named): Query<Named>) -> Result<StatusCode, Refusal> {
    let known = api.gate.restore(&named.revoked()?);
    known.then_some(StatusCode::NO_CONTENT).or_refuse(NOT_FOUND.say("There is no such revocation"))
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|error| {
        // The caller is a back end of the same operator, and the text speaks of nothing but its own JSON.
        Refusal::new(BAD_REQUEST.say(format!("The body is not what this request takes: {error}")))
    })
}

fn refusal(failure: Failure) -> Refusal {
    match failure {
        Failure::Reply { error, cause } | Failure::Close { error, cause } => match cause {
            Some(cause) => Refusal::new(error).because(cause),
            None => Refusal::new(error),
        },
    }
}
