//! Joining while others talk, and leaving in every way: over real frames, on brokers that choose the worst moment.

use proptest::prelude::*;
use saywhy::testing::{Client, pipe_with};
use saywhy::{Limits, Settings};
use saywhy_rooms::broker::{
    Answer, Broker, BrokerError, MemoryBroker, MemoryLimits, Position, Publication, Replay, RoomState, Sink,
    Subscription,
};
use saywhy_rooms::{Authenticated, Claims, Create, Permission, Rooms, RoomsSettings};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::future::{Future, pending};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};
use tokio::sync::{Barrier, Semaphore, oneshot};

const ROOM: &str = "lobby";

// ---- joining ---------------------------------------------------------------------------------------------------

proptest! {
    /// Whatever is said before, while and after a member reads what it missed, it hears each of it once, in order.
    #[test]
    fn who_joins_misses_nothing_and_hears_nothing_twice(
        before in 0..20_usize,
        seen in proptest::option::of(any::<proptest::sample::Index>()),
        ahead in 0..20_usize,
        behind in 0..20_usize,
        after in 1..5_usize,
    ) {
        run(async {
            let stage = Stage::open(RoomsSettings::default()).await;
            let mut positions = vec![stage.broker.top(ROOM).await.unwrap()];
            for _ in 0..before {
                positions.push(stage.say().await);
            }
            stage.broker.plan(Plan { ahead, behind, ..Plan::default() });
            let mut alice = stage.enter("alice").await;
            let since = seen.map(|index| positions[index.index(positions.len())]);
            let joined = alice.ok("join", json!({ "room": ROOM, "since": since.map(wire) })).await;
            stage.broker.plan(Plan::default());
            let mut last = 0;
            for _ in 0..after {
                last = stage.say().await.offset;
            }
            alice.hear(last).await;
            let first = since.map_or(joined["position"]["offset"].as_u64().unwrap(), |since| since.offset) + 1;
            assert_eq!(joined["recovered"], since.is_some());
            assert_eq!(alice.offsets(), (first..=last).collect::<Vec<_>>());
        });
    }
}

#[test]
fn who_resumes_while_others_publish_on_other_threads_misses_nothing() {
    run(async {
        let stage = Stage::open(RoomsSettings { replay_entries: 10_000, ..RoomsSettings::default() }).await;
        let mut since = stage.broker.top(ROOM).await.unwrap();
        // So much may be said in a round: more at once, and who listens would be slow.
        let words = Arc::new(Semaphore::new(0));
        for _ in 0..2 {
            let (stage, words) = (stage.clone(), Arc::clone(&words));
            tokio::spawn(async move {
                while let Ok(word) = words.acquire().await {
                    word.forget();
                    stage.say().await;
                }
            });
        }
        for round in 0..400 {
            let mut alice = stage.enter("alice").await;
            words.add_permits(25);
            let start = if round % 5 == 4 {
                let joined = alice.ok("join", json!({ "room": ROOM })).await;
                joined["position"]["offset"].as_u64().unwrap()
            } else {
                alice.ok("join", json!({ "room": ROOM, "since": wire(since) })).await;
                since.offset
            };
            words.add_permits(25);
            alice.hear(start + 1 + round % 20).await;
            let heard = alice.offsets();
            assert_eq!(heard, (start + 1..).take(heard.len()).collect::<Vec<_>>(), "round {round}");
            since = alice.last_position();
        }
    });
}

#[test]
fn who_is_overrun_while_it_joins_is_told_so_and_is_outside() {
    run(async {
        let stage = Stage::open(RoomsSettings::default()).await;
        let mut alice = stage.enter("alice").await;
        stage.broker.plan(Plan { behind: 2_000, ..Plan::default() });
        let error = alice.error("join", json!({ "room": ROOM })).await;
        assert_eq!(
            (error["name"].as_str(), &error["details"]["reason"]),
            (Some("history_lost"), &json!("too_many_missed"))
        );
        stage.broker.plan(Plan::default());
        assert_eq!(stage.broker.subscriptions(), 0);
        stage.say().await;
        alice.ok("join", json!({ "room": ROOM })).await;
        let last = stage.say().await.offset;
        alice.hear(last).await;
        assert_eq!(alice.offsets(), [last]);
    });
}

#[test]
fn a_room_that_begins_anew_while_one_joins_is_not_joined_by_half() {
    run(async {
        let stage = Stage::open(RoomsSettings::default()).await;
        let (mut alice, mut bob) = (stage.enter("alice").await, stage.enter("bob").await);
        stage.broker.plan(Plan { begin_anew: true, ..Plan::default() });
        assert_eq!(alice.error("join", json!({ "room": ROOM })).await["name"], "not_found");
        stage.broker.plan(Plan::default());
        assert_eq!(stage.rooms.members(ROOM).len(), 0);
        for member in [&mut alice, &mut bob] {
            member.ok("join", json!({ "room": ROOM })).await;
        }
        let last = stage.say().await.offset;
        for member in [&mut alice, &mut bob] {
            member.hear(last).await;
            assert_eq!(member.offsets(), [last]);
        }
        assert_eq!(stage.broker.subscriptions(), 1, "the old one is not kept");
    });
}

#[test]
fn what_is_left_of_a_removed_room_is_not_in_the_way_of_its_successor() {
    run(async {
        let stage = Stage::open(RoomsSettings::default()).await;
        let (mut alice, mut bob, mut carol) =
            (stage.enter("alice").await, stage.enter("bob").await, stage.enter("carol").await);
        for member in [&mut bob, &mut carol] {
            member.ok("join", json!({ "room": ROOM })).await;
        }
        stage.broker.remove(ROOM).await.unwrap();
        stage.broker.open(ROOM).await.unwrap();
        alice.ok("join", json!({ "room": ROOM })).await;
        assert_eq!(stage.broker.subscriptions(), 1, "the old one has ended");
        assert_eq!(stage.rooms.members(ROOM), ["alice".into()]);
        // Neither who leaves the old one by going, nor who leaves it by joining the new one, leaves the new one.
        bob.leave().await;
        carol.ok("join", json!({ "room": ROOM })).await;
        assert_eq!(stage.broker.subscriptions(), 1);
        let last = stage.say().await.offset;
        for member in [&mut alice, &mut carol] {
            member.hear(last).await;
            assert_eq!(member.offsets(), [1]);
        }
        alice.leave().await;
        carol.leave().await;
        stage.until_empty("all have left").await;
    });
}

#[test]
fn who_joins_a_room_together_with_others_hears_it_once() {
    run(async {
        let stage = Stage::open(RoomsSettings { create: Create::Join, ..RoomsSettings::default() }).await;
        for round in 0..100 {
            let room = format!("room-{round}");
            let mut members = Vec::new();
            for n in 0..4 {
                members.push(stage.enter(&format!("user-{n}")).await);
            }
            stage.broker.plan(Plan { together_to_subscribe: Some(Arc::new(Barrier::new(4))), ..Plan::default() });
            let joining = members.into_iter().map(|mut member| {
                let room = room.clone();
                tokio::spawn(async move {
                    member.ok("join", json!({ "room": room })).await;
                    member
                })
            });
            let mut joined = Vec::new();
            for member in joining.collect::<Vec<_>>() {
                joined.push(member.await.unwrap());
            }
            assert_eq!(stage.broker.subscriptions(), 1);
            stage.broker.publish(&room, publication()).await.unwrap();
            for mut member in joined {
                member.hear(1).await;
                member.ok("leave", json!({ "room": room })).await;
                assert_eq!(member.offsets(), [1]);
            }
            assert_eq!(stage.broker.subscriptions(), 0);
        }
    });
}

// ---- presence --------------------------------------------------------------------------------------------------

#[test]
fn two_connections_of_one_person_that_join_at_once_are_seen_once() {
    run(async {
        let stage = Stage::open(RoomsSettings::default()).await;
        let mut bob = stage.enter("bob").await;
        bob.ok("join", json!({ "room": ROOM })).await;
        for _ in 0..20 {
            stage.broker.plan(Plan { together_to_read: Some(Arc::new(Barrier::new(2))), ..Plan::default() });
            let (mut one, mut two) = (stage.enter("alice").await, stage.enter("alice").await);
            let both = async |member: &mut Peer| member.ok("join", json!({ "room": ROOM })).await;
            tokio::join!(both(&mut one), both(&mut two));
            stage.broker.plan(Plan::default());
            assert_eq!(bob.sees().await, "joined alice");
            one.leave().await;
            two.leave().await;
            assert_eq!(bob.sees().await, "left alice");
        }
    });
}

#[test]
fn who_still_joins_is_not_there_yet() {
    run(async {
        let stage = Stage::open(RoomsSettings::default()).await;
        let (mut bob, mut one) = (stage.enter("bob").await, stage.enter("alice").await);
        bob.ok("join", json!({ "room": ROOM })).await;
        one.ok("join", json!({ "room": ROOM })).await;
        assert_eq!(bob.sees().await, "joined alice");

        // The other connection of the same person comes in while the first one goes.
        let (begun, go) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
        stage.broker.plan(Plan { stages: Some((Arc::clone(&begun), Arc::clone(&go))), ..Plan::default() });
        let mut two = stage.enter("alice").await;
        let joining = tokio::spawn(async move {
            two.ok("join", json!({ "room": ROOM })).await;
            two
        });
        begun.wait().await;
        stage.broker.plan(Plan::default());
        one.leave().await;
        assert_eq!(bob.sees().await, "left alice");
        assert_eq!(stage.rooms.members(ROOM), ["bob".into()]);
        go.wait().await;
        let _two = joining.await.unwrap();
        assert_eq!(bob.sees().await, "joined alice");
    });
}

// ---- leaving ---------------------------------------------------------------------------------------------------

#[test]
fn a_membership_ends_with_its_session_however_that_ends() {
    run(async {
        let stage = Stage::open(RoomsSettings::default()).await;
        for (how, end) in ENDS {
            let mut alice = stage.enter("alice").await;
            alice.ok("join", json!({ "room": ROOM })).await;
            alice.ok("join", json!({ "room": "other" })).await;
            assert_eq!((stage.broker.subscriptions(), stage.rooms.members(ROOM).len()), (2, 1), "{how}");
            end(alice).await;
            stage.until_empty(how).await;
        }
    });
}

type End = fn(Peer) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

/// The ways in which a session ends.
const ENDS: [(&str, End); 5] = [
    ("the client closes", |alice| Box::pin(alice.leave())),
    ("the connection is lost", |alice| Box::pin(async { drop(alice) })),
    ("it is removed", |mut alice| {
        Box::pin(async move {
            for outbox in alice.client.gate().sessions() {
                outbox.close_now(saywhy::catalogue::KICKED);
            }
            while alice.client.next().await.is_some() {}
        })
    }),
    ("it breaks the protocol", |mut alice| {
        Box::pin(async move {
            alice.client.send(&"x".repeat(100_000)).await;
            while alice.client.next().await.is_some() {}
        })
    }),
    ("the handler panics", |mut alice| {
        Box::pin(async move {
            alice.client.send(r#"{"type":"authenticate","data":{"token":"panic"}}"#).await;
            while alice.client.next().await.is_some() {}
        })
    }),
];

#[test]
fn a_join_that_never_ends_is_undone_with_its_session() {
    run(async {
        let stage = Stage::open(RoomsSettings::default()).await;
        let (begun, never) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(usize::MAX)));
        stage.broker.plan(Plan { stages: Some((Arc::clone(&begun), never)), ..Plan::default() });
        let mut alice = stage.enter("alice").await;
        alice.client.send(r#"{"type":"join","data":{"room":"lobby"}}"#).await;
        begun.wait().await;
        assert_eq!(stage.broker.subscriptions(), 1);
        for outbox in alice.client.gate().sessions() {
            outbox.close_now(saywhy::catalogue::KICKED);
        }
        stage.until_empty("kicked while it joins").await;
    });
}

#[test]
fn leaving_again_and_again_while_others_do_keeps_count() {
    run(async {
        let stage = Stage::open(RoomsSettings::default()).await;
        let members = (0..8).map(|n| {
            let stage = stage.clone();
            tokio::spawn(async move {
                let mut member = stage.enter(&format!("user-{n}")).await;
                for round in 0..200 {
                    member.ok("join", json!({ "room": ROOM })).await;
                    if round % 3 > 0 {
                        member.ok("leave", json!({ "room": ROOM })).await;
                    }
                }
                member
            })
        });
        for member in members.collect::<Vec<_>>() {
            member.await.unwrap().leave().await;
        }
        stage.until_empty("all have left").await;
    });
}

// ---- the stage -------------------------------------------------------------------------------------------------

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(60), test).await.expect("it hangs") });
}

/// Rooms on a broker that is told when to be a nuisance.
#[derive(Clone)]
struct Stage {
    broker: Arc<Nuisance>,
    rooms: Rooms,
}

impl Stage {
    async fn open(settings: RoomsSettings) -> Self {
        let limits = MemoryLimits { history_entries: 10_000, ..MemoryLimits::default() };
        let broker = Arc::new(Nuisance { inner: MemoryBroker::new(limits), ..Nuisance::default() });
        for room in [ROOM, "other"] {
            broker.open(room).await.unwrap();
        }
        Self { rooms: Rooms::new(Arc::clone(&broker) as _, settings), broker }
    }

    async fn say(&self) -> Position {
        self.broker.publish(ROOM, publication()).await.unwrap()
    }

    async fn enter(&self, user: &str) -> Peer {
        let all = [Permission::Join, Permission::Send, Permission::History, Permission::Members, Permission::Manage];
        let rooms = BTreeMap::from([("*".to_owned(), all.to_vec())]);
        let claims = Claims { sub: user.to_owned(), exp: u64::from(u32::MAX), rooms };
        let authenticate = Arc::new(|_, token| -> Authenticated { panic!("asked to: {token}") });
        let member = self.rooms.member(claims, authenticate);
        let limits = Limits {
            messages_per_s: 1_000_000,
            message_burst: 1_000_000,
            close: Duration::from_millis(50),
            ..Limits::default()
        };
        let settings = Settings { limits: Arc::new(limits), ..Settings::default() };
        let (done, ended) = oneshot::channel();
        let mut client = pipe_with(settings, |session| async move {
            session.serve(member).await;
            let _ = done.send(());
        });
        assert_eq!(client.next().await.unwrap()["type"], "ready");
        Peer { client, ended, heard: Vec::new(), requests: 0 }
    }

    /// The last steps of a session are taken on a task of its own.
    async fn until_empty(&self, why: &str) {
        while self.broker.subscriptions() > 0 || !self.rooms.members(ROOM).is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!(self.rooms.members("other").len(), 0, "{why}");
    }
}

fn publication() -> Publication {
    Publication { from: "talker".into(), body: "1".into(), at: SystemTime::now(), idempotency_key: None }
}

fn wire(Position { epoch, offset, tag }: Position) -> Value {
    json!({ "epoch": format!("{epoch:016x}"), "offset": offset, "tag": format!("{tag:016x}") })
}

/// A client that keeps what it hears.
struct Peer {
    client: Client,
    ended: oneshot::Receiver<()>,
    heard: Vec<Value>,
    requests: usize,
}

impl Peer {
    async fn ask(&mut self, kind: &str, data: Value) -> Value {
        self.requests += 1;
        let id = self.requests.to_string();
        self.client.send(&json!({ "type": kind, "data": data, "meta": { "request_id": id } }).to_string()).await;
        loop {
            let message = self.client.next().await.expect("the session has ended");
            if message["meta"]["request_id"] == id {
                return message;
            }
            self.heard.push(message);
        }
    }

    async fn ok(&mut self, kind: &str, data: Value) -> Value {
        let mut answer = self.ask(kind, data).await;
        assert_eq!(answer["type"], "ok", "{answer}");
        answer["data"].take()
    }

    async fn error(&mut self, kind: &str, data: Value) -> Value {
        let mut answer = self.ask(kind, data).await;
        assert_eq!(answer["type"], "error", "{answer}");
        answer["data"].take()
    }

    /// Reads until the message at `offset` has come, and what the server has ready by then.
    async fn hear(&mut self, offset: u64) {
        while self.offsets().last().is_none_or(|last| *last < offset) {
            let message = self.client.next().await.expect("the session has ended");
            self.heard.push(message);
        }
        self.ask("ping", json!({})).await;
    }

    fn said(&self) -> impl Iterator<Item = &Value> {
        self.heard.iter().filter(|message| message["type"] == "message").map(|message| &message["data"]["position"])
    }

    fn offsets(&self) -> Vec<u64> {
        self.said().map(|position| position["offset"].as_u64().unwrap()).collect()
    }

    fn last_position(&self) -> Position {
        let position = self.said().last().unwrap();
        let text = |key: &str| position[key].as_str().unwrap();
        format!("{}:{}:{}", text("epoch"), position["offset"], text("tag")).parse().unwrap()
    }

    /// Who comes or goes next.
    async fn sees(&mut self) -> String {
        loop {
            let heard = std::mem::take(&mut self.heard);
            for (at, message) in heard.iter().enumerate() {
                if let ("joined" | "left", Some(member)) =
                    (message["type"].as_str().unwrap(), message["data"]["member"].as_str())
                {
                    self.heard = heard[at + 1..].to_vec();
                    return format!("{} {member}", message["type"].as_str().unwrap());
                }
            }
            self.heard.extend(self.client.next().await);
            assert!(!self.heard.is_empty(), "the session has ended");
        }
    }

    /// Closes, and returns when its handler is gone.
    async fn leave(self) {
        self.client.leave().await;
        self.ended.await.unwrap();
    }
}

/// A memory broker that answers late, and lets things happen meanwhile.
#[derive(Default)]
struct Nuisance {
    inner: MemoryBroker,
    plan: Mutex<Plan>,
    subscriptions: Arc<AtomicUsize>,
}

/// What happens while one joins.
#[derive(Clone, Default)]
struct Plan {
    /// So much is said right before it reads what it missed.
    ahead: usize,
    /// So much is said after that, before it hears of it.
    behind: usize,
    /// The room is removed and opened again.
    begin_anew: bool,
    /// Nobody subscribes before all do.
    together_to_subscribe: Option<Arc<Barrier>>,
    /// Nobody reads before all do.
    together_to_read: Option<Arc<Barrier>>,
    /// Somebody waits at the first until it begins, and at the second to let it go on.
    stages: Option<(Arc<Barrier>, Arc<Barrier>)>,
}

impl Nuisance {
    fn plan(&self, plan: Plan) {
        *self.plan.lock().unwrap() = plan;
    }

    fn subscriptions(&self) -> usize {
        self.subscriptions.load(Ordering::SeqCst)
    }

    /// `read` is done in the middle: a memory broker has its answer as soon as it is asked.
    async fn meddle<'a, T>(&self, room: &str, read: impl FnOnce() -> Answer<'a, T>) -> Result<T, BrokerError> {
        let plan = self.plan.lock().unwrap().clone();
        if let Some(together) = plan.together_to_read {
            together.wait().await;
        }
        if let Some((begun, go)) = plan.stages {
            begun.wait().await;
            // `Barrier::new(usize::MAX)` is never complete.
            tokio::select! { _ = go.wait() => {} () = pending() => {} }
        }
        for _ in 0..plan.ahead {
            self.inner.publish(room, publication()).await?;
        }
        if plan.begin_anew {
            self.inner.remove(room).await?;
            self.inner.open(room).await?;
        }
        let answer = read().await;
        for _ in 0..plan.behind {
            self.inner.publish(room, publication()).await?;
            tokio::task::yield_now().await;
        }
        answer
    }
}

impl Broker for Nuisance {
    fn open<'a>(&'a self, room: &'a str) -> Answer<'a, ()> {
        self.inner.open(room)
    }

    fn close<'a>(&'a self, room: &'a str) -> Answer<'a, ()> {
        self.inner.close(room)
    }

    fn remove<'a>(&'a self, room: &'a str) -> Answer<'a, ()> {
        self.inner.remove(room)
    }

    fn state<'a>(&'a self, room: &'a str) -> Answer<'a, RoomState> {
        self.inner.state(room)
    }

    fn list<'a>(&'a self, after: Option<&'a str>, limit: usize) -> Answer<'a, Vec<(Arc<str>, RoomState)>> {
        self.inner.list(after, limit)
    }

    fn publish<'a>(&'a self, room: &'a str, publication: Publication) -> Answer<'a, Position> {
        self.inner.publish(room, publication)
    }

    fn read<'a>(&'a self, room: &'a str, since: Option<Position>, limit: usize) -> Answer<'a, Replay> {
        Answer::later(self.meddle(room, move || self.inner.read(room, since, limit)))
    }

    fn top<'a>(&'a self, room: &'a str) -> Answer<'a, Position> {
        Answer::later(self.meddle(room, || self.inner.top(room)))
    }

    fn subscribe<'a>(&'a self, room: &'a str, sink: Arc<dyn Sink>) -> Answer<'a, Subscription> {
        Answer::later(async move {
            let together = self.plan.lock().unwrap().together_to_subscribe.clone();
            let inner = self.inner.subscribe(room, sink).await?;
            if let Some(together) = together {
                together.wait().await;
            }
            self.subscriptions.fetch_add(1, Ordering::SeqCst);
            let subscriptions = Arc::clone(&self.subscriptions);
            Ok(Subscription::new(inner.start(), move || {
                drop(inner);
                subscriptions.fetch_sub(1, Ordering::SeqCst);
            }))
        })
    }
}
