//! Two of the journeys that must stay short: refuse or accept with reasons, and errors that a session survives or not.
//!
//! `cargo run -p saywhy --example journeys`, then from a page on the same host:
//! `new WebSocket("ws://127.0.0.1:3000/ws?content_id=1", ["saywhy.v1", "saywhy.bearer.alice"])`.

use axum::Router;
use axum::extract::{Query, State};
use axum::response::Response;
use axum::routing::any;
use saywhy::catalogue::{INTERNAL_ERROR, NOT_FOUND, OVERLOADED, UNAUTHORIZED};
use saywhy::{Admission, Explain, Failure, Gate, Handler, Refusal, Settings};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::Arc;
use tokio::net::TcpListener;

// ---- 1. refuse or accept, with reasons --------------------------------------------------------------------------

async fn ws(admission: Admission, Query(q): Query<Params>, State(app): State<Arc<App>>) -> Result<Response, Refusal> {
    let user = app.verify(admission.token()).await.or_refuse(UNAUTHORIZED)?;
    let content = app.content(&q.content_id).or_refuse(NOT_FOUND.say("invalid or non-existing contentId"))?;
    Ok(admission.accept(move |session| session.serve(Reader::new(user, content))))
}

// ---- 2. recoverable or fatal: the author says which -------------------------------------------------------------

impl Handler for Reader {
    type Command = Command;
    type Event = Event;

    async fn on_message(&mut self, command: Command) -> Result<Event, Failure> {
        match command {
            Command::Say { room, text } => {
                let room = self.rooms.get(&room).or_reply(NOT_FOUND.say("Room not found"))?; // the session lives
                Ok(Event::Said(room.publish(text).await.or_reply(OVERLOADED)?))
            }
            // 5000 in the message, 1011 in the Close
            Command::Pay(order) => Ok(Event::Paid(self.ledger.charge(order).await.or_close(INTERNAL_ERROR)?)),
        }
    }
}

// ---- the application that they belong to ------------------------------------------------------------------------

#[derive(Deserialize)]
struct Params {
    content_id: String,
}

#[derive(Deserialize)]
#[serde(tag = "type", content = "data", rename_all = "snake_case")]
enum Command {
    Say { room: String, text: String },
    Pay(Order),
}

#[derive(Deserialize)]
struct Order {
    amount: u64,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Event {
    Said(u64),
    Paid(u64),
}

struct App {
    contents: HashMap<String, Arc<str>>,
}

impl App {
    async fn verify(&self, token: Option<&str>) -> Result<String, &'static str> {
        token.filter(|token| token.chars().all(char::is_alphanumeric)).map(str::to_owned).ok_or("no such token")
    }

    fn content(&self, id: &str) -> Option<Arc<str>> {
        self.contents.get(id).cloned()
    }
}

struct Reader {
    rooms: HashMap<String, Room>,
    ledger: Ledger,
}

impl Reader {
    fn new(user: String, content: Arc<str>) -> Self {
        tracing::info!(user, %content, "reading");
        Self { rooms: HashMap::from([("lobby".to_owned(), Room)]), ledger: Ledger { balance: 100 } }
    }
}

struct Room;

impl Room {
    async fn publish(&self, text: String) -> Result<u64, &'static str> {
        if text.len() > 1_000 { Err("the log is full") } else { Ok(text.len() as u64) }
    }
}

struct Ledger {
    balance: u64,
}

impl Ledger {
    async fn charge(&mut self, order: Order) -> Result<u64, &'static str> {
        self.balance = self.balance.checked_sub(order.amount).ok_or("UPDATE ledger: CHECK constraint failed")?;
        Ok(self.balance)
    }
}

pub(crate) fn router() -> Router {
    let app = App { contents: HashMap::from([("1".to_owned(), "a book".into())]) };
    Router::new().route("/ws", any(ws)).with_state(Arc::new(app))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:3000").await?;
    saywhy::serve(listener, router().layer(Gate::new(Settings::default())), std::future::pending()).await
}
