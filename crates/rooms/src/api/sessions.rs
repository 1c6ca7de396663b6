//! Sessions, of rooms and of upstreams alike, and whose tokens are good no more.

use super::{After, Api, PAGE, read};
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::routing::{delete, get};
use axum::{Json, Router};
use saywhy::catalogue::{BAD_REQUEST, KICKED, NOT_FOUND, OVERLOADED};
use saywhy::{Explain as _, NotRevoked, Outbox, Refusal, Revocation, Revoked};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

pub(super) fn router(api: Api) -> Router {
    Router::new()
        .route("/connections", get(list_connections))
        .route("/connections/{id}", delete(kick))
        .route("/revocations", get(list_revocations).post(revoke).delete(restore))
        .with_state(api)
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
