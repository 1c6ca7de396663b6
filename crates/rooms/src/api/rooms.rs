//! Rooms: who is in them, what is said, and whether they are open.

use super::{After, PAGE, read};
use crate::broker::{Publication, RoomState};
use crate::member::WirePosition;
use crate::service::{Rooms, check_name, failure};
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::routing::{get, post, put};
use axum::{Json, Router};
use saywhy::catalogue::BAD_REQUEST;
use saywhy::{Explain as _, Failure, Refusal};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::SystemTime;

pub(super) fn router(rooms: Rooms) -> Router {
    Router::new()
        .route("/rooms", get(list_rooms))
        .route("/rooms/{room}", put(turn_room).delete(remove_room))
        .route("/rooms/{room}/members", get(list_members))
        .route("/rooms/{room}/messages", post(publish))
        .with_state(rooms)
}

#[derive(Serialize)]
struct Listed {
    room: Arc<str>,
    state: &'static str,
    members: usize,
}

async fn list_rooms(
    State(rooms): State<Rooms>,
    Query(After { after }): Query<After<String>>,
) -> Result<Json<Value>, Refusal> {
    let listed = rooms.broker().list(after.as_deref(), PAGE).await.map_err(failure).map_err(refusal)?;
    let listed: Vec<_> = listed
        .into_iter()
        .map(|(room, state)| Listed { members: rooms.members(&room).len(), state: state_name(state), room })
        .collect();
    let next = if listed.len() == PAGE { listed.last().map(|last| Arc::clone(&last.room)) } else { None };
    Ok(Json(json!({ "rooms": listed, "next": next })))
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

async fn turn_room(State(rooms): State<Rooms>, Path(room): Path<String>, body: Bytes) -> Result<Json<Value>, Refusal> {
    let TurnRoom { state } = read(&body)?;
    check_name(&room).map_err(refusal)?;
    let (turned, state) = match state {
        Turn::Open => (rooms.broker().open(&room).await, RoomState::Open),
        Turn::Closed => (rooms.broker().close(&room).await, RoomState::Closed),
    };
    turned.map_err(failure).map_err(refusal)?;
    Ok(Json(json!({ "room": room, "state": state_name(state) })))
}

async fn remove_room(State(rooms): State<Rooms>, Path(room): Path<String>) -> Result<StatusCode, Refusal> {
    rooms.broker().remove(&room).await.map_err(failure).map_err(refusal)?;
    Ok(StatusCode::NO_CONTENT)
}

async fn list_members(State(rooms): State<Rooms>, Path(room): Path<String>) -> Result<Json<Value>, Refusal> {
    rooms.broker().top(&room).await.map_err(failure).map_err(refusal)?;
    Ok(Json(json!({ "room": room, "members": rooms.members(&room) })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Say {
    body: Box<RawValue>,
    from: Option<String>,
    idempotency_key: Option<String>,
}

async fn publish(
    State(rooms): State<Rooms>,
    Path(room): Path<String>,
    body: Bytes,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    let Say { body, from, idempotency_key } = read(&body)?;
    let key_rule = BAD_REQUEST.say("idempotency_key is 1 to 64 visible ASCII characters");
    let idempotency_key = idempotency_key.map(|key| key.parse().or_refuse(key_rule)).transpose()?;
    let from = from.as_deref().unwrap_or("api").into();
    let publication = Publication { from, body: body.get().to_owned().into(), at: SystemTime::now(), idempotency_key };
    let position = rooms.publish(&room, publication).await.map_err(refusal)?;
    Ok((StatusCode::CREATED, Json(json!({ "room": room, "position": WirePosition::from(position) }))))
}

fn refusal(failure: Failure) -> Refusal {
    match failure {
        Failure::Reply { error, cause } | Failure::Close { error, cause } => match cause {
            Some(cause) => Refusal::new(error).because(cause),
            None => Refusal::new(error),
        },
    }
}
