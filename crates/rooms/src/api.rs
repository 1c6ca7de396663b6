//! The HTTP API for back ends: publish, open and close rooms, look, and kick with a reason. Errors are
//! `application/problem+json`.
//!
//! | request | does | |
//! |---|---|---|
//! | `GET /rooms?after=NAME` | lists rooms | `rooms.rs` |
//! | `PUT /rooms/{room}` `{"state":"open"}` or `"closed"` | opens or closes one | |
//! | `DELETE /rooms/{room}` | forgets one and its history | |
//! | `GET /rooms/{room}/members` | who is there | |
//! | `POST /rooms/{room}/messages` `{"body":…, "from"?, "idempotency_key"?}` | says something | |
//! | `GET /connections?after=ID` | lists sessions, the oldest first | `sessions.rs` |
//! | `DELETE /connections/{id}` `{"message"?, "name"?}` | removes a peer, with words for it, and a row of the catalogue other than `kicked` | |
//! | `POST /revocations` `{"user": …}` or `{"token_id": …}`, `"expires_at"?` | ends every session of an identity, or of a token (`jti`), and refuses it until then, in seconds since 1970 | |
//! | `GET /revocations?after=NEXT` | lists those in force | |
//! | `DELETE /revocations?user=…` or `?token_id=…` | takes one back | |

mod rooms;
mod sessions;

use crate::service::Rooms;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::{ALLOW, AUTHORIZATION, CONTENT_TYPE};
use axum::middleware::{Next, from_fn_with_state, map_response};
use axum::response::{IntoResponse as _, Response};
use saywhy::catalogue::{BAD_REQUEST, NOT_FOUND, UNAUTHORIZED};
use saywhy::{Catalogue, Gate, Refusal};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::sync::Arc;
use subtle::ConstantTimeEq as _;

/// Rooms, or sessions, in one answer.
const PAGE: usize = 1_000;

/// What the API acts on, and the key that lets one in.
#[derive(Clone)]
pub struct Api {
    gate: Gate,
    catalogue: Arc<Catalogue>,
    key: Arc<str>,
    rooms: Option<Rooms>,
}

impl Api {
    /// An API to all sessions behind the gates of this server.
    pub fn new(gate: Gate, catalogue: Arc<Catalogue>, key: &str) -> Self {
        Self { gate, catalogue, key: key.into(), rooms: None }
    }

    /// And to these rooms.
    #[must_use]
    pub fn with_rooms(self, rooms: Rooms) -> Self {
        Self { rooms: Some(rooms), ..self }
    }

    /// Its routes. Every request needs `Authorization: Bearer <key>`.
    pub fn router(self) -> Router {
        let rooms = self.rooms.clone().map_or_else(Router::new, rooms::router);
        sessions::router(self.clone())
            .merge(rooms)
            .fallback(|| async { Refusal::new(NOT_FOUND.say("The API has no such path")) })
            .layer(map_response(explained))
            .layer(from_fn_with_state(self, authorize))
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

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|error| {
        // The caller is a back end of the same operator, and the text speaks of nothing but its own JSON.
        Refusal::new(BAD_REQUEST.say(format!("The body is not what this request takes: {error}")))
    })
}
