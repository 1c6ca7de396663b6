//! An application that does what its client asks for, be it to fail.

use super::SECRET;
use axum::Router;
use axum::extract::Query;
use axum::response::Response;
use axum::routing::any;
use saywhy::{Admission, Catalogue, Cause, ErrorCode, Failure, Handler, Outbox, Refusal};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::Notify;

/// What a client may ask of it.
#[derive(Deserialize)]
#[serde(tag = "type", content = "data", rename_all = "snake_case")]
pub enum Command {
    Echo {
        text: String,
    },
    Count {
        n: u32,
        ratio: Option<f64>,
    },
    Any {
        value: Value,
    },
    /// Fails with a row, and the session goes on.
    Reply {
        row: String,
    },
    /// Fails with a row, and the session ends.
    Close {
        row: String,
    },
    Panic {},
    /// Says the same often.
    Repeat {
        times: usize,
    },
    /// Waits until the test rings.
    Wait {},
}

/// By which a test knows what a handler does, and lets it go on where it waits.
#[derive(Clone, Default)]
pub struct Desk {
    pub asked: Arc<AtomicUsize>,
    pub waits: Arc<Notify>,
    pub go: Arc<Notify>,
}

impl Handler for Desk {
    type Command = Command;
    type Event = Value;

    async fn on_open(&mut self, outbox: &Outbox) -> Result<(), Failure> {
        match outbox.path() {
            "/panics-on-open" => panic!("{SECRET} in on_open"),
            "/fails-on-open" => Err(Failure::Reply { error: row("invalid_action").into(), cause: cause() }),
            _ => Ok(()),
        }
    }

    async fn on_message(&mut self, command: Command) -> Result<Value, Failure> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        match command {
            Command::Echo { text } => Ok(json!({ "text": text })),
            Command::Count { n, ratio } => Ok(json!({ "n": n, "ratio": ratio })),
            Command::Any { value } => Ok(value),
            Command::Reply { row: name } => Err(Failure::Reply { error: row(&name).into(), cause: cause() }),
            Command::Close { row: name } => Err(Failure::Close { error: row(&name).into(), cause: cause() }),
            Command::Repeat { times } => Ok(json!("x".repeat(times))),
            Command::Panic {} => panic!("{SECRET} in on_message"),
            Command::Wait {} => {
                self.waits.notify_one();
                self.go.notified().await;
                Ok(json!("waited"))
            }
        }
    }
}

/// The router of a [`Desk`], on every path; `?user=` identifies.
pub fn desk(desk: &Desk) -> Router {
    let desk = desk.clone();
    let ws = async move |admission: Admission, Query(query): Query<HashMap<String, String>>| {
        if let Some(user) = query.get("user") {
            admission.identify(user)?;
        }
        Ok::<Response, Refusal>(admission.accept(move |session| session.serve(desk)))
    };
    let paths = ["/ws", "/panics-on-open", "/fails-on-open"];
    paths.iter().fold(Router::new(), |router, path| router.route(path, any(ws.clone())))
}

/// The row of this name.
pub fn row(name: &str) -> ErrorCode {
    Catalogue::builtin().by_name(name).unwrap()
}

/// What no peer may hear.
pub fn cause() -> Option<Cause> {
    Some(Cause::from(format!("INSERT INTO users VALUES ('{SECRET}'): duplicate key, /srv/{SECRET}/users.db")))
}
