//! The HTTP API by which a test tells the proxy what to break, and learns what was broken.

use crate::fault::grammar::{Complaint, parse};
use crate::fault::proxy::{House, Proxy};
use crate::fault::{Kind, Spec};
use axum::Json;
use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Path, Query, Request, State};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, ORIGIN};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures_core::Stream;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

/// Bytes of a request.
const BODY_BYTES: usize = 64 * 1024;
/// Faults of a request.
const FAULTS_MOST: usize = 64;
/// Lines that wait for who follows the events.
const LINES_MOST: usize = 64;

impl Proxy {
    /// Answers requests about this proxy, for as long as it is polled.
    ///
    /// # Errors
    /// The listener's.
    pub async fn control(&self, listener: TcpListener) -> std::io::Result<()> {
        let api = Router::new()
            .route("/faults", get(faults).put(set_faults).delete(heal))
            .route("/connections", get(connections))
            .route("/connections/{id}/fault", post(break_now))
            .route("/events", get(events))
            .fallback(unknown)
            .layer(DefaultBodyLimit::max(BODY_BYTES))
            .layer(middleware::from_fn(no_pages))
            .with_state(Arc::clone(&self.0));
        axum::serve(listener, api).await
    }
}

/// A page somewhere in the web could reach this machine through the browser of whoever tests here.
async fn no_pages(request: Request, next: Next) -> Response {
    if request.headers().contains_key(ORIGIN) {
        let hint = "call it from the program that runs the test, not from a page";
        return refused(StatusCode::FORBIDDEN, Complaint::new("pages may not call this", hint));
    }
    next.run(request).await
}

async fn unknown() -> Response {
    let hint = "there are /faults, /connections, /connections/{id}/fault and /events";
    refused(StatusCode::NOT_FOUND, Complaint::new("there is nothing here", hint))
}

fn refused(status: StatusCode, complaint: Complaint) -> Response {
    (status, Json(complaint)).into_response()
}

/// One fault, or a list.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    One(String),
    Several(Vec<String>),
}

impl Written {
    fn read(body: &str) -> Result<Vec<Arc<Spec>>, Complaint> {
        let hint = r#"it is text in JSON, or a list of that: ["cut=rst,after=5s", "latency=200ms"]"#;
        let written = serde_json::from_str(body).map_err(|_| Complaint::new("the body is no fault", hint))?;
        let texts = match written {
            Self::One(text) => vec![text],
            Self::Several(texts) => texts,
        };
        let mut all = Vec::new();
        for text in texts {
            all.extend(parse(&text)?);
        }
        if all.len() > FAULTS_MOST {
            return Err(Complaint::new(format!("there are more than {FAULTS_MOST} faults"), "leave some out"));
        }
        Ok(all)
    }
}

#[derive(Serialize)]
struct Faults {
    seed: u64,
    faults: Vec<String>,
}

async fn faults(State(house): State<Arc<House>>) -> Json<Faults> {
    let faults = house.faults().iter().map(ToString::to_string).collect();
    Json(Faults { seed: house.seed, faults })
}

async fn set_faults(State(house): State<Arc<House>>, body: String) -> Response {
    match Written::read(&body) {
        Ok(specs) => {
            house.set_faults(specs);
            faults(State(house)).await.into_response()
        }
        Err(complaint) => refused(StatusCode::BAD_REQUEST, complaint),
    }
}

async fn heal(State(house): State<Arc<House>>) -> StatusCode {
    house.heal();
    StatusCode::NO_CONTENT
}

async fn connections(State(house): State<Arc<House>>) -> Response {
    Json(json!({ "connections": house.shown() })).into_response()
}

async fn break_now(State(house): State<Arc<House>>, Path(id): Path<String>, body: String) -> Response {
    let connection = match id.as_str() {
        "all" => None,
        id => match id.parse() {
            Ok(id) => Some(id),
            Err(_) => return no_connection(),
        },
    };
    let specs = match Written::read(&body) {
        Ok(specs) => specs,
        Err(complaint) => return refused(StatusCode::BAD_REQUEST, complaint),
    };
    if let Some(spec) = specs.iter().find(|spec| spec.entry.kind == Kind::Handshake) {
        let message = format!("`{}` is about handshakes, and these connections are past theirs", spec.entry.name);
        return refused(StatusCode::BAD_REQUEST, Complaint::new(message, "PUT it to /faults, for those to come"));
    }
    match (connection, house.break_now(connection, &specs)) {
        (Some(_), 0) => no_connection(),
        (_, told) => Json(json!({ "connections": told })).into_response(),
    }
}

fn no_connection() -> Response {
    let hint = "GET /connections lists them; `all` stands for every one";
    refused(StatusCode::NOT_FOUND, Complaint::new("there is no such connection", hint))
}

#[derive(Deserialize)]
struct Asked {
    /// Only lines with a higher number.
    #[serde(default)]
    after: u64,
    /// Go on as things happen.
    #[serde(default)]
    follow: Option<String>,
}

async fn events(State(house): State<Arc<House>>, Query(asked): Query<Asked>) -> Response {
    let kind = [(CONTENT_TYPE, "application/x-ndjson")];
    if asked.follow.is_none() {
        return (kind, house.journal.since(asked.after).0.concat()).into_response();
    }
    let (sender, receiver) = mpsc::channel(LINES_MOST);
    tokio::spawn(async move {
        let mut news = house.journal.news();
        let mut after = asked.after;
        loop {
            let (lines, last) = house.journal.since(after);
            after = last;
            for line in lines {
                if sender.send(line).await.is_err() {
                    return;
                }
            }
            tokio::select! {
                changed = news.changed() => if changed.is_err() { return },
                () = sender.closed() => return,
            }
        }
    });
    (kind, Body::from_stream(Lines(receiver))).into_response()
}

struct Lines(mpsc::Receiver<Arc<str>>);

impl Stream for Lines {
    type Item = Result<String, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(cx).map(|line| line.map(|line| Ok(line.to_string())))
    }
}
