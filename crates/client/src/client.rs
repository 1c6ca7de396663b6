//! One connection after the other, as far as the server permits.
//!
//! ```text
//! connecting ─► ready ─► waiting ─► connecting …        any of them, at the end ─► closed
//!                  └───► authenticating ─► waiting      a token was refused, and there may be another
//! ```
//!
//! The retry machine alone decides whether and when there is another connection; the task in this file obeys it.

use crate::connect::{Connect, TokenReason as Reason};
use crate::connection::{Connection, Incoming};
use crate::error::Error;
use crate::pace::Pace;
use crate::rooms::{Heard, Rooms};
use crate::wire::{self, Position, Ready, RoomMessage, RoomNews};
use rand::RngExt as _;
use saywhy_codes::{CloseCode, Observed, Retry, Role};
use saywhy_proto::retry::{Decision, Event as Happened, RetryMachine};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// Requests that wait or are under way, at most.
const MOST_REQUESTS: usize = 256;
/// Bytes of them.
const MOST_REQUEST_BYTES: usize = 1024 * 1024;
/// Events that wait to be read. The last of these places are not for messages of rooms, which can be asked for again.
const EVENTS: usize = 1_024;
const NOT_FOR_ROOMS: usize = 64;
/// For so long a server knows an idempotency key.
const KEY: Duration = Duration::from_secs(300);
/// How long a request may take, the time without a connection included.
const REQUEST: Duration = Duration::from_secs(30);
/// How long a source of tokens may take.
const TOKEN: Duration = Duration::from_secs(30);
/// What a join that the server cannot take now waits, when the server does not say.
const REJOIN: Duration = Duration::from_secs(1);
/// Bytes that may wait for the network before the next request does.
const BACKLOG_BYTES: usize = 64 * 1024;

/// Where a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// A connection is being made, up to `ready`.
    Connecting,
    /// A token was refused, and another is asked for.
    Authenticating,
    /// Open.
    Ready,
    /// There will be another attempt.
    Waiting,
    /// It is over for good.
    Closed,
}

/// What a client tells.
#[derive(Clone, Debug)]
pub enum Event {
    /// A connection is open.
    Ready(Ready),
    /// There is none, and there will be another attempt.
    Waiting {
        /// How the last one ended.
        cause: Error,
        /// When the next one is.
        delay: Duration,
        /// How many that makes since one lasted; 1 is the first.
        attempt: u32,
    },
    /// The server is about to end the connection. What is asked for meanwhile waits for the next one.
    Goodbye(Error),
    /// An error that answers no request. The session goes on.
    Error(Error),
    /// Something was said in a room: each room's messages in order and once, across connections.
    Message(RoomMessage),
    /// Messages of the room are missing, and cannot be had: load what you need from elsewhere. Newer ones follow.
    HistoryLost {
        /// Which room.
        room: String,
        /// Why, in the server's word.
        reason: Option<String>,
        /// The whole of it.
        error: Error,
    },
    /// Back in the room over a new connection.
    Rejoined {
        /// Which.
        room: String,
        /// Whether everything that was missed follows.
        recovered: bool,
    },
    /// No longer in the room: coming back to it was refused.
    RoomLost {
        /// Which.
        room: String,
        /// Why.
        error: Error,
    },
    /// Somebody came.
    Joined {
        /// To which room.
        room: String,
        /// Who.
        member: String,
    },
    /// Somebody left.
    Left {
        /// Which room.
        room: String,
        /// Who.
        member: String,
    },
    /// Something happened to a room.
    Room {
        /// Which.
        room: String,
        /// What.
        news: RoomNews,
    },
    /// A message of an application's own.
    Other {
        /// Its `type`.
        kind: String,
        /// Its `data`.
        data: Value,
    },
    /// Text that is no envelope; from a plain server all text.
    Text(String),
    /// A binary message.
    Binary(Vec<u8>),
}

/// What a client tells, in order. Read it: with 1,024 events unread the connection stands still, but for messages of rooms,
/// which stay with the server until they are asked for. Dropped, nobody is told.
#[derive(Debug)]
pub struct Events(mpsc::Receiver<Event>);

impl Events {
    /// The next one; `None` when the client is closed. Cancel-safe.
    pub async fn next(&mut self) -> Option<Event> {
        self.0.recv().await
    }
}

/// A connection that comes back. Cheap to clone; with the last one dropped it is closed with 1000.
#[derive(Clone)]
pub struct Client {
    requests: mpsc::UnboundedSender<Request>,
    places: Places,
    leave: watch::Sender<Option<(u16, String)>>,
    seen: watch::Receiver<Seen>,
}

#[derive(Clone, Debug)]
struct Seen {
    state: State,
    ready: Option<Ready>,
    ended: Option<Error>,
}

/// Places for requests, in number and in bytes: taken when one is made, given back when it is settled or given up.
#[derive(Clone)]
struct Places {
    requests: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
}

/// A request's place. Whoever asked holds it too: to give up is to give it back.
type Place = Arc<Mutex<Option<[OwnedSemaphorePermit; 2]>>>;

impl Places {
    fn new() -> Self {
        let places = |most| Arc::new(Semaphore::new(most));
        Self { requests: places(MOST_REQUESTS), bytes: places(MOST_REQUEST_BYTES) }
    }

    fn take(&self, bytes: usize) -> Option<Place> {
        let request = Arc::clone(&self.requests).try_acquire_owned().ok()?;
        let bytes = Arc::clone(&self.bytes).try_acquire_many_owned(u32::try_from(bytes).ok()?).ok()?;
        Some(Arc::new(Mutex::new(Some([request, bytes]))))
    }
}

fn give_back(place: &Place) {
    drop(place.lock().unwrap_or_else(PoisonError::into_inner).take());
}

/// The answer to a request, for whoever asked.
struct Answer {
    answer: oneshot::Receiver<Result<Value, Error>>,
    /// Of a request that is not sent once nobody waits for it.
    place: Option<Place>,
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.place.iter().for_each(give_back);
    }
}

struct Request {
    kind: String,
    /// JSON.
    data: String,
    room: Option<String>,
    since: Option<Position>,
    reply: oneshot::Sender<Result<Value, Error>>,
    sent_at: Option<Instant>,
    place: Place,
}

impl Request {
    fn settle(self, answer: Result<Value, Error>) {
        give_back(&self.place);
        let _ = self.reply.send(answer);
    }

    /// Whether it does no harm to send it a second time.
    fn may_repeat(&self) -> bool {
        match &*self.kind {
            "send" => self.sent_at.is_none_or(|at| at.elapsed() < KEY),
            "join" => true,
            _ => false,
        }
    }

    /// Nobody waits for it. Whether one is in a room has to be known all the same.
    fn is_forgotten(&self) -> bool {
        self.reply.is_closed() && self.kind != "join"
    }
}

impl Client {
    /// Connects, and comes back as often and as soon as the server permits. On the runtime that it is called on.
    pub fn start(connect: Connect) -> (Self, Events) {
        // Bounded by the places that there are.
        let (requests, asked_for) = mpsc::unbounded_channel();
        let (events, read) = mpsc::channel(EVENTS);
        let (leave, left) = watch::channel(None);
        let (shown, seen) = watch::channel(Seen { state: State::Connecting, ready: None, ended: None });
        let task = Task {
            connect,
            token: None,
            retry: RetryMachine::default(),
            epoch: Instant::now(),
            rooms: Rooms::default(),
            own: VecDeque::new(),
            coming_back: 0,
            later: Vec::new(),
            waiting: VecDeque::new(),
            asked: HashMap::new(),
            requests: asked_for,
            events,
            left,
            shown,
            renewing: None,
        };
        tokio::spawn(task.run());
        (Self { requests, places: Places::new(), leave, seen }, Events(read))
    }

    /// Where it is.
    pub fn state(&self) -> State {
        self.seen.borrow().state
    }

    /// Resolves as soon as the server says `ready`, at once when it has. Cancel-safe.
    ///
    /// # Errors
    /// When the connection is refused for good. While there will be another attempt it waits, and [`Event::Waiting`] says why.
    pub async fn ready(&self) -> Result<Ready, Error> {
        let mut seen = self.seen.clone();
        let Ok(seen) = seen.wait_for(|seen| seen.ready.is_some() || seen.ended.is_some()).await else {
            return Err(Error::closed_here());
        };
        match (&seen.ready, &seen.ended) {
            (Some(ready), _) => Ok(ready.clone()),
            (None, error) => Err(error.clone().unwrap_or_else(Error::closed_here)),
        }
    }

    /// Asks the server for something, and waits for the answer for at most 30 s; without a connection it waits for one. Dropped
    /// before it was sent, it is not sent.
    ///
    /// A `join` or a `send` whose answer was lost with the connection is sent again, a `send` with a key that makes it one
    /// message.
    ///
    /// # Errors
    /// The server's, of which those that are not fatal leave the connection as it is; `connection_lost` when nobody knows
    /// whether it was done; `no_answer`, `queue_full`, `message_too_big`, `bad_request` on data that is not JSON.
    pub async fn request(&self, kind: &str, data: &(impl Serialize + ?Sized)) -> Result<Value, Error> {
        let mut asked = self.submit(kind, data)?;
        let answer = timeout(REQUEST, &mut asked.answer).await;
        answer.map_err(|_| Error::no_answer(REQUEST.as_millis()))?.unwrap_or_else(|_| Err(self.why_over()))
    }

    /// Says something in a room, once, however long it takes: it waits for a connection, and is sent again when its answer was
    /// lost with one.
    ///
    /// # Errors
    /// When it cannot even be queued, so that nothing is dropped in silence.
    pub fn send(&self, room: &str, body: &(impl Serialize + ?Sized)) -> Result<Sending, Error> {
        let body = serde_json::to_value(body).map_err(Error::not_json)?;
        let answer = self.submit("send", &json!({ "room": room, "body": body }))?;
        Ok(Sending { answer, seen: self.seen.clone() })
    }

    fn submit(&self, kind: &str, data: &(impl Serialize + ?Sized)) -> Result<Answer, Error> {
        let mut data = serde_json::to_value(data).map_err(Error::not_json)?;
        let field = |name: &str| data.get(name).cloned();
        let room = field("room").and_then(|room| room.as_str().map(str::to_owned));
        let since = field("since").and_then(|since| serde_json::from_value(since).ok());
        if kind == "send"
            && let Value::Object(fields) = &mut data
        {
            fields.entry("idempotency_key").or_insert_with(|| format!("{:032x}", rand::rng().random::<u128>()).into());
        }
        let (kind, data) = (kind.to_owned(), data.to_string());
        if self.requests.is_closed() {
            return Err(self.why_over());
        }
        let place = self.places.take(kind.len() + data.len()).ok_or_else(Error::queue_full)?;
        let (reply, answer) = oneshot::channel();
        // Whether one is in a room has to be known, also when nobody waits to hear it.
        let answer = Answer { answer, place: (kind != "join").then(|| Arc::clone(&place)) };
        let request = Request { kind, data, room, since, reply, sent_at: None, place };
        self.requests.send(request).map_err(|_| self.why_over())?;
        Ok(answer)
    }

    fn why_over(&self) -> Error {
        why_over(&self.seen)
    }

    /// Ends the connection for good: 1000 or 3000 to 4999 by custom, and at most 123 bytes of reason. Resolves when the server
    /// has confirmed it, or has had its time.
    pub async fn close(&self, code: u16, reason: &str) -> Error {
        // The first one stands.
        self.leave.send_if_modified(|leave| leave.is_none() && leave.replace((code, reason.to_owned())).is_none());
        self.closed().await
    }

    /// Resolves when it is over for good, to how.
    pub async fn closed(&self) -> Error {
        let mut seen = self.seen.clone();
        let _ = seen.wait_for(|seen| seen.ended.is_some()).await;
        why_over(&seen)
    }
}

/// A message on its way to a room. Dropped before it was sent, it is not sent.
pub struct Sending {
    answer: Answer,
    seen: watch::Receiver<Seen>,
}

impl Sending {
    /// Its place in the room, as soon as the server says that it has one.
    ///
    /// # Errors
    /// The server's, or how the client was closed before.
    pub async fn position(mut self) -> Result<Position, Error> {
        let data = (&mut self.answer.answer).await.unwrap_or_else(|_| Err(why_over(&self.seen)))?;
        wire::position(&data).ok_or_else(|| Error::bad_answer("send"))
    }
}

impl fmt::Debug for Sending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sending").finish_non_exhaustive()
    }
}

fn why_over(seen: &watch::Receiver<Seen>) -> Error {
    seen.borrow().ended.clone().unwrap_or_else(Error::closed_here)
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("state", &self.state()).finish_non_exhaustive()
    }
}

/// Whose request is under way.
enum Asked {
    Somebody(Request),
    /// Ours, to come back to a room: over a new connection, or to mend a gap.
    Rejoin {
        room: String,
        is_news: bool,
    },
    /// Ours, with a new token.
    Renewal,
}

type Renewing = Pin<Box<dyn Future<Output = Result<String, Error>> + Send>>;

struct Task {
    connect: Connect,
    token: Option<String>,
    retry: RetryMachine,
    epoch: Instant,
    rooms: Rooms,
    /// Requests of ours: ahead of what waits, as fast as the server permits, and never sent twice.
    own: VecDeque<(&'static str, Value, Asked)>,
    /// Rooms that were not answered for yet: until then nobody's requests go out.
    coming_back: usize,
    /// Joins to be tried again.
    later: Vec<(Instant, String)>,
    waiting: VecDeque<Request>,
    asked: HashMap<String, Asked>,
    requests: mpsc::UnboundedReceiver<Request>,
    events: mpsc::Sender<Event>,
    left: watch::Receiver<Option<(u16, String)>>,
    shown: watch::Sender<Seen>,
    /// A token for the session that is open.
    renewing: Option<Renewing>,
}

/// Resolves when somebody has called `close`, or nobody can any more.
async fn left(left: &mut watch::Receiver<Option<(u16, String)>>) {
    let _ = left.wait_for(Option::is_some).await;
}

/// Without one it never resolves.
async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

async fn half_empty(events: &mpsc::Sender<Event>) {
    drop(events.reserve_many(EVENTS / 2).await);
}

async fn renewed(renewing: &mut Option<Renewing>) -> Result<String, Error> {
    match renewing {
        Some(renewing) => renewing.as_mut().await,
        None => std::future::pending().await,
    }
}

impl Task {
    async fn run(mut self) {
        let error = self.life().await;
        self.requests.close();
        while let Ok(request) = self.requests.try_recv() {
            self.waiting.push_back(request);
        }
        let asked = self.asked.drain().filter_map(|(_, asked)| match asked {
            Asked::Somebody(request) => Some(request),
            Asked::Rejoin { .. } | Asked::Renewal => None,
        });
        for request in asked.chain(self.waiting.drain(..)) {
            request.settle(Err(error.clone()));
        }
        self.shown.send_modify(|seen| *seen = Seen { state: State::Closed, ready: None, ended: Some(error) });
    }

    async fn life(&mut self) -> Error {
        loop {
            self.show(State::Connecting, None);
            self.happened(Happened::Started);
            let mut gone = self.left.clone();
            let opened = tokio::select! {
                opened = self.open() => opened,
                () = left(&mut gone) => return Error::closed_here(),
            };
            let error = match opened {
                Ok(connection) => self.live(connection).await,
                Err(error) => error,
            };
            if self.left.borrow().is_some() || self.left.has_changed().is_err() || error.is_final() {
                return error;
            }
            if let Err(error) = self.until_the_next(error).await {
                return error;
            }
        }
    }

    async fn open(&mut self) -> Result<Connection, Error> {
        if self.token.is_none() {
            self.renew_token(Reason::Connect).await?;
        }
        self.connect.open_with(self.token.as_deref()).await
    }

    async fn renew_token(&mut self, reason: Reason) -> Result<(), Error> {
        let Some(source) = &self.connect.token else { return Ok(()) };
        let token = timeout(TOKEN, source.ask(reason)).await;
        self.token = Some(token.unwrap_or_else(|_| Err(Error::no_token("none came in time")))?);
        Ok(())
    }

    fn show(&self, state: State, ready: Option<Ready>) {
        self.shown.send_modify(|seen| *seen = Seen { state, ready, ended: None });
    }

    fn happened(&mut self, event: Happened<'_>) -> Option<Decision> {
        self.retry.handle(self.epoch.elapsed(), event, rand::rng().random())
    }

    async fn tell(&mut self, event: Event) {
        // Whoever leaves need not read any more; and without a reader nobody is told.
        tokio::select! {
            _ = self.events.send(event) => {}
            () = left(&mut self.left) => {}
        }
    }

    /// Returns when it is time for the next connection.
    ///
    /// # Errors
    /// When there is none.
    async fn until_the_next(&mut self, error: Error) -> Result<(), Error> {
        if let Some(said) = error.asks() {
            self.retry.handle(self.epoch.elapsed(), Happened::Error { said, fatal: true }, 0.0);
        }
        let code =
            error.close().map_or(Observed::Abnormal, |close| Observed::from_wire(Some(close.code), Role::Server));
        let mut error = error;
        let mut decision = self.happened(Happened::Ended(code));
        loop {
            match decision {
                Some(Decision::Wait { delay, attempt, because }) => {
                    let cause = error.decided(because.retry);
                    self.show(State::Waiting, None);
                    self.tell(Event::Waiting { cause, delay, attempt }).await;
                    tokio::select! {
                        () = sleep(delay) => return Ok(()),
                        () = left(&mut self.left) => return Err(Error::closed_here()),
                    }
                }
                Some(Decision::Reauthenticate { because }) => {
                    if self.connect.token.is_none() {
                        // Nobody to ask: the same again would be refused again.
                        return Err(error.decided(because.retry));
                    }
                    self.show(State::Authenticating, None);
                    let mut gone = self.left.clone();
                    let renewed = tokio::select! {
                        renewed = self.renew_token(Reason::Refused) => renewed,
                        () = left(&mut gone) => return Err(Error::closed_here()),
                    };
                    decision = match renewed {
                        Ok(()) => self.happened(Happened::TokenRenewed),
                        Err(failure) => {
                            error = failure;
                            self.happened(Happened::TokenFailed)
                        }
                    };
                }
                Some(Decision::GiveUp { because }) => return Err(error.decided(because.retry)),
                // An attempt ends once, so the machine has an answer.
                None => return Err(error),
            }
        }
    }

    // ---- a session -------------------------------------------------------------------------------------------

    /// Returns how it ended.
    async fn live(&mut self, mut connection: Connection) -> Error {
        let ready = connection.ready().clone();
        self.happened(Happened::Open);
        self.happened(Happened::Ready);
        let mut pace = Pace::new(&ready, connection.now());
        self.show(State::Ready, Some(ready.clone()));
        self.tell(Event::Ready(ready)).await;
        let rooms = self.rooms.granted();
        self.coming_back = rooms.len();
        for room in rooms {
            self.rejoin(room, true);
        }
        let error = loop {
            let pause = self.flush(&mut connection, &mut pace);
            let later = self.later.iter().map(|(at, _)| *at).min();
            let behind = self.rooms.behind();
            tokio::select! {
                incoming = connection.next_or_drained(BACKLOG_BYTES) => match incoming {
                    Ok(Some(incoming)) => self.heard(incoming).await,
                    // There is space for more.
                    Ok(None) => {}
                    Err(error) => break error,
                },
                request = self.requests.recv() => match request {
                    Some(request) => self.waiting.push_back(request),
                    None => break self.leave(&mut connection).await,
                },
                () = left(&mut self.left) => break self.leave(&mut connection).await,
                () = at(pause.map(|pause| Instant::now() + pause)) => {}
                () = at(later) => self.try_again(),
                () = half_empty(&self.events), if !behind.is_empty() => {
                    for room in behind {
                        self.rejoin(room, false);
                    }
                }
                token = renewed(&mut self.renewing) => {
                    self.renewing = None;
                    match token {
                        Ok(token) => self.renew(token),
                        Err(error) => self.tell(Event::Error(error)).await,
                    }
                }
            }
        };
        self.rewind();
        error
    }

    async fn leave(&mut self, connection: &mut Connection) -> Error {
        let (code, reason) = self.left.borrow().clone().unwrap_or((CloseCode::NORMAL.as_u16(), String::new()));
        match connection.close(code, &reason).await {
            Ok(_) => Error::closed_here(),
            Err(error) => error,
        }
    }

    /// Sends what waits, as fast as the server permits; returns how long it has to wait, if it has to.
    fn flush(&mut self, connection: &mut Connection, pace: &mut Pace) -> Option<Duration> {
        self.waiting.retain(|request| !request.is_forgotten());
        while !connection.is_ending() && connection.backlog() < BACKLOG_BYTES {
            if self.own.is_empty() && (self.coming_back > 0 || self.waiting.is_empty()) {
                return None;
            }
            let pause = pace.pause(connection.now());
            if !pause.is_zero() {
                return Some(pause);
            }
            if let Some((kind, data, asked)) = self.own.pop_front() {
                let id = connection.next_id();
                // Where it is too late, the connection says so by itself.
                if connection.send_text(&wire::request(kind, &data.to_string(), Some(&id))).is_ok() {
                    pace.sent();
                    self.asked.insert(id, asked);
                }
            } else if let Some(request) = self.waiting.pop_front() {
                self.send(request, connection, pace);
            }
        }
        None
    }

    fn send(&mut self, mut request: Request, connection: &mut Connection, pace: &mut Pace) {
        let id = connection.next_id();
        if let Err(error) = connection.send_text(&wire::request(&request.kind, &request.data, Some(&id))) {
            // Too late for this connection is not too late for the next.
            return if connection.is_ending() { self.waiting.push_front(request) } else { request.settle(Err(error)) };
        }
        pace.sent();
        request.sent_at.get_or_insert_with(Instant::now);
        match (&*request.kind, &request.room) {
            ("join", Some(room)) => self.rooms.joining(room, request.since.clone()),
            ("leave", Some(room)) => self.rooms.left(room),
            _ => {}
        }
        self.asked.insert(id, Asked::Somebody(request));
    }

    fn rejoin(&mut self, room: String, is_news: bool) {
        let since = self.rooms.rejoining(&room);
        let data = match since {
            Some(since) => json!({ "room": room, "since": since }),
            None => json!({ "room": room }),
        };
        self.own.push_back(("join", data, Asked::Rejoin { room, is_news }));
    }

    fn try_again(&mut self) {
        let now = Instant::now();
        let due: Vec<_> = self.later.extract_if(.., |(at, _)| *at <= now).collect();
        for (_, room) in due {
            if self.rooms.is_in(&room) {
                self.coming_back += 1;
                self.rejoin(room, true);
            }
        }
    }

    fn renew(&mut self, token: String) {
        self.own.push_back(("authenticate", json!({ "token": token }), Asked::Renewal));
        self.token = Some(token);
    }

    async fn heard(&mut self, incoming: Incoming) {
        let event = match incoming {
            Incoming::Answer { id, answer } => return self.answered(&id, answer).await,
            Incoming::Message(message) => {
                let has_space = self.events.is_closed() || self.events.capacity() > NOT_FOR_ROOMS;
                match self.rooms.hear(message, has_space) {
                    Heard::Nothing => return,
                    Heard::Rejoin(room) => return self.rejoin(room, false),
                    Heard::Take(message) => Event::Message(message),
                    Heard::TakeAfterLoss(message) => {
                        let (room, error) = (message.room.clone(), Error::history_lost());
                        self.tell(Event::HistoryLost { room, reason: None, error }).await;
                        Event::Message(message)
                    }
                }
            }
            Incoming::Error(error) => match (error.name(), error.details().get("room").and_then(Value::as_str)) {
                ("history_lost", Some(room)) => {
                    self.rooms.may_jump(room);
                    lost(room.to_owned(), error)
                }
                _ => Event::Error(error),
            },
            Incoming::AuthExpiring(_) => {
                let Some(source) = self.connect.token.clone() else { return };
                self.renewing = Some(Box::pin(async move {
                    let token = timeout(TOKEN, source.ask(Reason::Expiring)).await;
                    token.unwrap_or_else(|_| Err(Error::no_token("none came in time")))
                }));
                return;
            }
            Incoming::Goodbye(error) => Event::Goodbye(error),
            Incoming::Joined { room, member } => Event::Joined { room, member },
            Incoming::Left { room, member } => Event::Left { room, member },
            Incoming::Room { room, news } => Event::Room { room, news },
            Incoming::Other { kind, data } => Event::Other { kind, data },
            Incoming::Text(text) => Event::Text(text),
            Incoming::Binary(bytes) => Event::Binary(bytes),
        };
        self.tell(event).await;
    }

    async fn answered(&mut self, id: &str, answer: Result<Value, Error>) {
        match self.asked.remove(id) {
            Some(Asked::Somebody(request)) => {
                let answer = self.noted(&request, answer);
                request.settle(answer);
            }
            Some(Asked::Rejoin { room, is_news }) => self.back(room, is_news, answer).await,
            Some(Asked::Renewal) => match answer {
                // A fatal one is told with how the connection ended.
                Err(error) if !error.is_fatal() => self.tell(Event::Error(error)).await,
                Ok(_) | Err(_) => {}
            },
            None => {}
        }
    }

    /// What somebody's request was answered with, once it is known what that means for the rooms.
    fn noted(&mut self, request: &Request, answer: Result<Value, Error>) -> Result<Value, Error> {
        let (true, Some(room)) = (request.kind == "join", &request.room) else { return answer };
        match &answer {
            Ok(data) => {
                let position = wire::position(data).ok_or_else(|| Error::bad_answer("join"))?;
                self.rooms.joined(room, position);
            }
            Err(error) => self.rooms.refused(room, error),
        }
        answer
    }

    /// What became of coming back to a room.
    async fn back(&mut self, room: String, is_news: bool, answer: Result<Value, Error>) {
        let event = match answer {
            Ok(data) => match wire::position(&data) {
                Some(position) => {
                    self.rooms.joined(&room, position);
                    let recovered = data.get("recovered").and_then(Value::as_bool).unwrap_or(false);
                    // Nobody has to know that a gap was mended.
                    is_news.then_some(Event::Rejoined { room, recovered })
                }
                None => Some(self.lose(room, Error::bad_answer("join"))),
            },
            Err(error) if error.name() == "history_lost" && self.rooms.forget_position(&room) => {
                self.tell(lost(room.clone(), error)).await;
                return self.rejoin(room, is_news);
            }
            Err(error) => match error.retry() {
                Retry::Never | Retry::Reauthenticate => Some(self.lose(room, error)),
                retry => {
                    let delay = if let Retry::After { delay, .. } = retry { delay } else { REJOIN };
                    let delay = delay + REJOIN.mul_f64(rand::rng().random());
                    self.later.push((Instant::now() + delay, room));
                    None
                }
            },
        };
        self.coming_back = self.coming_back.saturating_sub(usize::from(is_news));
        if let Some(event) = event {
            self.tell(event).await;
        }
    }

    fn lose(&mut self, room: String, error: Error) -> Event {
        self.rooms.left(&room);
        Event::RoomLost { room, error }
    }

    /// The connection is gone: what can be sent again waits for the next one, ahead of the rest.
    fn rewind(&mut self) {
        (self.coming_back, self.renewing) = (0, None);
        self.later.clear();
        self.own.clear();
        let mut again: Vec<_> = self.asked.drain().collect();
        // In the order in which they were sent: ids are numbers.
        again.sort_by_key(|(id, _)| std::cmp::Reverse(id.parse::<u64>().unwrap_or_default()));
        for (_, asked) in again {
            let Asked::Somebody(request) = asked else { continue };
            if request.may_repeat() {
                self.waiting.push_front(request);
                continue;
            }
            // With the connection gone, one has left.
            let answer = match (&*request.kind, &request.room) {
                ("leave", Some(room)) => Ok(json!({ "room": room })),
                _ => Err(Error::unanswered()),
            };
            request.settle(answer);
        }
    }
}

/// Tells of entries that are gone.
fn lost(room: String, error: Error) -> Event {
    let reason = error.details().get("reason").and_then(Value::as_str).map(str::to_owned);
    Event::HistoryLost { room, reason, error }
}
