//! What every broker promises, as clauses that run against each of them.
//!
//! A clause is a function over a [`Harness`], which makes a broker and lets its time pass. `clauses!` lists them all, and
//! `tests` makes a test of each for one broker. The negative controls at the end show that the clauses can fail.

use proptest::prelude::*;
use saywhy_rooms::broker::{
    Answer, Broker, BrokerError, Entry, IDEMPOTENCY_WINDOW, LostReason, MemoryBroker, MemoryLimits, Position,
    Publication, Replay, RoomState, Signal, Sink, Subscription,
};
use std::collections::{BTreeSet, HashSet};
use std::mem;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant, SystemTime};

macro_rules! clauses {
    ($then:ident $($argument:ident)*) => {
        $then! {
            [$($argument)*]
            offsets_count_from_one_and_everyone_agrees,
            concurrent_publishers_are_heard_once_and_in_order,
            who_joins_during_traffic_misses_nothing,
            a_dropped_subscription_is_silent,
            rooms_do_not_mix,
            a_key_is_published_once,
            concurrent_repetitions_are_published_once,
            a_key_is_forgotten_in_time,
            without_a_position_the_newest_are_read,
            every_position_can_be_resumed,
            trimming_ends_recovery_at_the_anchor,
            age_ends_recovery_but_not_at_the_top,
            a_room_that_begins_anew_has_another_epoch,
            a_forked_history_is_refused,
            too_many_missed_is_refused_as_a_whole,
            an_absent_room_does_nothing,
            a_closed_room_is_read_but_takes_nothing,
            a_removed_room_ends_its_subscriptions,
        }
    };
}

macro_rules! tests {
    ([$module:ident $harness:ident] $($clause:ident,)*) => {
        mod $module {
            $(#[test] fn $clause() { super::$clause::<super::$harness>() })*
        }
    };
}

macro_rules! table {
    ([$harness:ident] $($clause:ident,)*) => { [$((stringify!($clause), $clause::<$harness> as fn())),*] };
}

clauses!(tests memory Memory);

/// A broker under test, alone with its rooms.
trait Harness: Sized {
    type Broker: Broker;

    /// A new broker that keeps `entries` in a room, for `age`.
    fn new(entries: usize, age: Option<Duration>) -> Self;

    /// The broker, as one node sees it.
    fn broker(&self) -> &Self::Broker;

    /// The same broker, as another node sees it, where there can be one.
    fn elsewhere(&self) -> &Self::Broker {
        self.broker()
    }

    /// Lets time pass for the broker.
    fn pass(&self, time: Duration);
}

/// For clauses that are not about limits.
fn roomy<H: Harness>() -> H {
    H::new(10_000, None)
}

// ---------------------------------------------------------------------------------------------------------------------
// Order

fn offsets_count_from_one_and_everyone_agrees<H: Harness>() {
    let harness = roomy::<H>();
    let (broker, elsewhere) = (harness.broker(), harness.elsewhere());
    let start = open(broker, "lobby");
    assert_eq!(start, Position::start(start.epoch));
    let (recorder, subscription) = subscribe(elsewhere, "lobby");
    assert_eq!(subscription.start(), start);
    let published = publish_some(broker, "lobby", 5);
    let heard = entries(recorder.until(published[4]));
    assert_follow(start, &heard);
    assert_eq!(positions(&heard), published);
    assert_eq!(resume(broker, "lobby", start), heard);
    assert_eq!(resume(elsewhere, "lobby", start), heard);
    assert_eq!(wait(broker.top("lobby")).unwrap(), published[4]);
    assert_eq!(published.iter().map(|position| position.tag).collect::<HashSet<_>>().len(), 5);
    for (n, entry) in (1..).zip(heard) {
        assert_eq!((entry.position.offset, &*entry.from, &*entry.body), (n, "alice", n.to_string().as_bytes()));
    }
}

fn concurrent_publishers_are_heard_once_and_in_order<H: Harness>() {
    const PUBLISHERS: usize = 4;
    const EACH: usize = 250;
    let harness = roomy::<H>();
    let (broker, elsewhere) = (harness.broker(), harness.elsewhere());
    let start = open(broker, "lobby");
    let sinks = [subscribe(broker, "lobby"), subscribe(elsewhere, "lobby")];
    let published: Vec<_> = thread::scope(|scope| {
        let publish_all = |who| {
            let node = if who % 2 == 0 { broker } else { elsewhere };
            (0..EACH).map(|n| publish(node, "lobby", format!("{who} {n}"))).collect::<Vec<_>>()
        };
        let publishers: Vec<_> = (0..PUBLISHERS).map(|who| scope.spawn(move || publish_all(who))).collect();
        publishers.into_iter().map(|publisher| publisher.join().unwrap()).collect()
    });
    // What is heard twice is heard before this one.
    let last = publish(broker, "lobby", "last");
    let log = resume(broker, "lobby", start);
    assert_eq!(log.len(), PUBLISHERS * EACH + 1);
    assert_follow(start, &log);
    for (recorder, _subscription) in &sinks {
        assert_eq!(entries(recorder.until(last)), log);
    }
    for (who, published) in published.into_iter().enumerate() {
        let of_publisher = |entry: &&Entry| entry.body.starts_with(format!("{who} ").as_bytes());
        assert_eq!(positions(log.iter().filter(of_publisher)), published, "each publisher's own order");
    }
}

fn who_joins_during_traffic_misses_nothing<H: Harness>() {
    let harness = roomy::<H>();
    let (broker, elsewhere) = (harness.broker(), harness.elsewhere());
    let start = open(broker, "lobby");
    let done = AtomicBool::new(false);
    let (joined, last) = thread::scope(|scope| {
        let publisher = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                publish(broker, "lobby", "more");
            }
            publish(broker, "lobby", "last")
        });
        // As a room does it: first listen, then read; what comes twice is dropped below.
        let join = |_| (subscribe(elsewhere, "lobby"), resume(elsewhere, "lobby", None));
        let joined: Vec<_> = (0..20).map(join).collect();
        done.store(true, Ordering::Relaxed);
        (joined, publisher.join().unwrap())
    });
    for ((recorder, subscription), past) in joined {
        let live = entries(recorder.until(last));
        assert_follow(subscription.start(), &live);
        let top = past.last().map_or(start, |entry| entry.position);
        assert!(top.offset >= subscription.start().offset, "the log is older than the subscription");
        let new = live.into_iter().filter(|entry| entry.position.offset > top.offset);
        let all: Vec<_> = past.into_iter().chain(new).collect();
        assert_follow(all[0].position, &all[1..]);
        assert_eq!(all[all.len() - 1].position, last);
    }
}

fn a_dropped_subscription_is_silent<H: Harness>() {
    let harness = roomy::<H>();
    let broker = harness.broker();
    open(broker, "lobby");
    let (stays, _subscription) = subscribe(broker, "lobby");
    let (gone, subscription) = subscribe(broker, "lobby");
    let first = publish(broker, "lobby", "first");
    gone.until(first);
    drop(subscription);
    assert_eq!(Arc::strong_count(&gone), 1, "the broker kept the sink");
    publish(broker, "lobby", "second");
    wait(broker.close("lobby")).unwrap();
    assert_eq!(stays.until(Signal::Closed).len(), 3);
    assert_eq!(positions(&entries(gone.so_far())), [first]);
}

fn rooms_do_not_mix<H: Harness>() {
    let harness = roomy::<H>();
    let broker = harness.broker();
    let rooms: Vec<_> = (0..100).map(|n| format!("room {n}")).collect();
    let starts: Vec<_> = rooms.iter().map(|room| open(broker, room)).collect();
    assert_eq!(starts.iter().map(|start| start.epoch).collect::<HashSet<_>>().len(), rooms.len());
    let sinks: Vec<_> = rooms.iter().map(|room| subscribe(broker, room)).collect();
    let mut tops = starts.clone();
    for _ in 0..3 {
        for (room, top) in rooms.iter().zip(&mut tops) {
            *top = publish(broker, room, room);
        }
    }
    for (n, (recorder, _subscription)) in sinks.into_iter().enumerate() {
        let heard = entries(recorder.until(tops[n]));
        assert_eq!(heard.len(), 3);
        assert_follow(starts[n], &heard);
        assert!(heard.iter().all(|entry| entry.body == rooms[n]));
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Idempotency

fn a_key_is_published_once<H: Harness>() {
    let harness = H::new(1, None);
    let (broker, elsewhere) = (harness.broker(), harness.elsewhere());
    open(broker, "lobby");
    open(broker, "other");
    let (recorder, _subscription) = subscribe(broker, "lobby");
    let first = wait(broker.publish("lobby", keyed("alice", "once", "k"))).unwrap();
    let again = || wait(elsewhere.publish("lobby", keyed("alice", "twice", "k"))).unwrap();
    assert_eq!(again(), first);
    let other_key = wait(broker.publish("lobby", keyed("alice", "other key", "K"))).unwrap();
    let other_sender = wait(broker.publish("lobby", keyed("bob", "other sender", "k"))).unwrap();
    let other_room = wait(broker.publish("other", keyed("alice", "other room", "k"))).unwrap();
    assert_ne!(other_room.epoch, first.epoch);
    assert_eq!(again(), first, "trimmed, but not forgotten");
    let without_key = [publish(broker, "lobby", "again"), publish(broker, "lobby", "again")];
    wait(broker.close("lobby")).unwrap();
    assert_eq!(again(), first, "it was said, although the room was closed since");
    let mut heard = recorder.until(Signal::Closed);
    heard.pop();
    assert_eq!(positions(&entries(heard)), [&[first, other_key, other_sender], &without_key[..]].concat());
}

fn concurrent_repetitions_are_published_once<H: Harness>() {
    let harness = roomy::<H>();
    let (broker, elsewhere) = (harness.broker(), harness.elsewhere());
    let start = open(broker, "lobby");
    let (recorder, _subscription) = subscribe(broker, "lobby");
    let answers: HashSet<_> = thread::scope(|scope| {
        let again = |node: &H::Broker| wait(node.publish("lobby", keyed("alice", "once", "k"))).unwrap();
        let nodes = [broker, elsewhere, broker, elsewhere];
        nodes.map(|node| scope.spawn(move || again(node))).map(|publisher| publisher.join().unwrap()).into()
    });
    assert_eq!(answers.len(), 1);
    let last = publish(broker, "lobby", "last");
    let heard = entries(recorder.until(last));
    assert_eq!(heard.len(), 2);
    assert_eq!(resume(broker, "lobby", start), heard);
}

fn a_key_is_forgotten_in_time<H: Harness>() {
    let harness = roomy::<H>();
    let broker = harness.broker();
    open(broker, "lobby");
    let again = || wait(broker.publish("lobby", keyed("alice", "once", "k"))).unwrap();
    let first = again();
    harness.pass(IDEMPOTENCY_WINDOW - Duration::from_secs(5));
    assert_eq!(again(), first);
    harness.pass(Duration::from_secs(5));
    assert!(again().follows(first), "a repetition must not prolong the window");
}

// ---------------------------------------------------------------------------------------------------------------------
// Recovery

fn without_a_position_the_newest_are_read<H: Harness>() {
    let harness = H::new(4, None);
    let broker = harness.broker();
    let start = open(broker, "lobby");
    assert_eq!(read(broker, "lobby", None, 10), Replay::Whole { entries: vec![], top: start });
    let published = publish_some(broker, "lobby", 6);
    for (limit, expected) in [(0, &published[6..]), (1, &published[5..]), (4, &published[2..]), (9, &published[2..])] {
        let Replay::Whole { entries, top } = read(broker, "lobby", None, limit) else { panic!("nothing to refuse") };
        assert_eq!((&*positions(&entries), top), (expected, published[5]));
    }
}

fn every_position_can_be_resumed<H: Harness>() {
    let harness = roomy::<H>();
    let broker = harness.broker();
    let start = open(broker, "lobby");
    assert_eq!(resume(broker, "lobby", start), []);
    let published = publish_some(broker, "lobby", 10);
    let all = resume(broker, "lobby", start);
    assert_eq!(positions(&all), published);
    for since in published {
        let as_a_client_kept_it: Position = since.to_string().parse().unwrap();
        assert_eq!(resume(harness.elsewhere(), "lobby", as_a_client_kept_it), all[since.offset as usize..]);
    }
}

fn trimming_ends_recovery_at_the_anchor<H: Harness>() {
    let harness = H::new(4, None);
    let broker = harness.broker();
    let start = open(broker, "lobby");
    let mut published = publish_some(broker, "lobby", 4);
    assert_eq!(positions(&resume(broker, "lobby", start)), published, "full, but nothing is gone");
    published.push(publish(broker, "lobby", "5"));
    assert_eq!(refused(broker, "lobby", start, 10), LostReason::Trimmed);
    // All that came after the first is there, but nobody can tell any more whether it came after the client's first.
    assert_eq!(refused(broker, "lobby", published[0], 10), LostReason::Trimmed);
    assert_eq!(positions(&resume(broker, "lobby", published[1])), published[2..]);
    published.push(publish(broker, "lobby", "6"));
    assert_eq!(refused(broker, "lobby", published[1], 10), LostReason::Trimmed);
    assert_eq!(positions(&resume(broker, "lobby", published[2])), published[3..]);
    assert_eq!(resume(broker, "lobby", published[5]), []);
}

fn age_ends_recovery_but_not_at_the_top<H: Harness>() {
    const MINUTE: Duration = Duration::from_secs(60);
    let harness = H::new(100, Some(10 * MINUTE));
    let broker = harness.broker();
    let start = open(broker, "lobby");
    let first = publish(broker, "lobby", "first");
    harness.pass(5 * MINUTE);
    let second = publish(broker, "lobby", "second");
    harness.pass(4 * MINUTE);
    assert_eq!(positions(&resume(broker, "lobby", start)), [first, second]);
    harness.pass(MINUTE);
    assert_eq!(refused(broker, "lobby", start, 10), LostReason::Expired);
    assert_eq!(refused(broker, "lobby", first, 10), LostReason::Expired);
    assert_eq!(positions(&resume(broker, "lobby", None)), [second]);
    harness.pass(5 * MINUTE);
    assert_eq!(refused(broker, "lobby", first, 10), LostReason::Expired);
    assert_eq!(resume(broker, "lobby", None), [], "nothing is handed out past its age");
    assert_eq!(resume(broker, "lobby", second), [], "who saw the last one has missed nothing");
    let third = publish(broker, "lobby", "third");
    assert!(third.follows(second), "the room goes on");
    assert_eq!(refused(broker, "lobby", second, 10), LostReason::Expired);
}

fn a_room_that_begins_anew_has_another_epoch<H: Harness>() {
    let harness = roomy::<H>();
    let broker = harness.broker();
    let start = open(broker, "lobby");
    let published = publish_some(broker, "lobby", 3);
    assert_eq!(open(broker, "lobby"), published[2], "opening an open room changes nothing");
    wait(broker.remove("lobby")).unwrap();
    let fresh = open(broker, "lobby");
    assert_eq!(fresh, Position::start(fresh.epoch));
    for _ in 0..2 {
        for since in [start, published[0], published[2]] {
            assert_eq!(refused(broker, "lobby", since, 10), LostReason::EpochChanged);
        }
        publish_some(broker, "lobby", 3);
    }
}

/// What a client meets after the store was rolled back: its position has the offset of another entry, or of none yet.
fn a_forked_history_is_refused<H: Harness>() {
    let harness = roomy::<H>();
    let broker = harness.broker();
    let start = open(broker, "lobby");
    let published = publish_some(broker, "lobby", 3);
    for position in &published {
        let other = Position { tag: position.tag ^ 1, ..*position };
        assert_eq!(refused(broker, "lobby", other, 10), LostReason::HistoryForked);
    }
    for offset in [4, u64::MAX] {
        let ahead = Position { offset, ..published[2] };
        assert_eq!(refused(broker, "lobby", ahead, 10), LostReason::HistoryForked);
    }
    assert_eq!(refused(broker, "lobby", Position { tag: 1, ..start }, 10), LostReason::HistoryForked);
}

fn too_many_missed_is_refused_as_a_whole<H: Harness>() {
    let harness = roomy::<H>();
    let broker = harness.broker();
    let start = open(broker, "lobby");
    let published = publish_some(broker, "lobby", 5);
    for (since, missed) in [(start, 5), (published[0], 4), (published[3], 1)] {
        assert!(
            matches!(read(broker, "lobby", since, missed), Replay::Whole { entries, .. } if entries.len() == missed)
        );
        assert_eq!(refused(broker, "lobby", since, missed - 1), LostReason::TooManyMissed);
    }
    assert_eq!(read(broker, "lobby", published[4], 0), Replay::Whole { entries: vec![], top: published[4] });
}

// ---------------------------------------------------------------------------------------------------------------------
// Open, closed, absent

fn an_absent_room_does_nothing<H: Harness>() {
    let harness = roomy::<H>();
    let broker = harness.broker();
    let absent = |error| matches!(error, BrokerError::Absent);
    assert_eq!(wait(broker.state("lobby")).unwrap(), RoomState::Absent);
    assert!(absent(wait(broker.close("lobby")).unwrap_err()));
    assert!(absent(wait(broker.remove("lobby")).unwrap_err()));
    assert!(absent(wait(broker.publish("lobby", said("hello"))).unwrap_err()));
    assert!(absent(wait(broker.publish("lobby", keyed("alice", "hello", "k"))).unwrap_err()));
    assert!(absent(wait(broker.read("lobby", None, 10)).unwrap_err()));
    assert!(absent(wait(broker.top("lobby")).unwrap_err()));
    assert!(absent(wait(broker.subscribe("lobby", Arc::new(Recorder::default()))).unwrap_err()));
    assert_eq!(wait(broker.state("lobby")).unwrap(), RoomState::Absent);
}

fn a_closed_room_is_read_but_takes_nothing<H: Harness>() {
    let harness = roomy::<H>();
    let (broker, elsewhere) = (harness.broker(), harness.elsewhere());
    let start = open(broker, "lobby");
    let (recorder, _subscription) = subscribe(elsewhere, "lobby");
    let first = publish(broker, "lobby", "first");
    for _ in 0..2 {
        wait(broker.close("lobby")).unwrap();
        assert_eq!(wait(elsewhere.state("lobby")).unwrap(), RoomState::Closed);
    }
    assert!(matches!(wait(broker.publish("lobby", said("no"))), Err(BrokerError::Closed)));
    assert!(matches!(wait(elsewhere.publish("lobby", keyed("alice", "no", "k"))), Err(BrokerError::Closed)));
    assert_eq!(positions(&resume(broker, "lobby", start)), [first]);
    recorder.until(Signal::Closed);
    let (later, _later) = subscribe(elsewhere, "lobby");
    for _ in 0..2 {
        wait(broker.open("lobby")).unwrap();
        assert_eq!(wait(elsewhere.state("lobby")).unwrap(), RoomState::Open);
    }
    let second = wait(broker.publish("lobby", keyed("alice", "yes", "k"))).unwrap();
    assert!(second.follows(first), "a key that was refused is not used up");
    let log: Vec<_> = resume(broker, "lobby", start).into_iter().map(Heard::Entry).collect();
    let [closed, opened] = [Signal::Closed, Signal::Opened].map(Heard::Signal);
    assert_eq!(later.until(second), [opened.clone(), log[1].clone()]);
    assert_eq!(recorder.until(second), [log[0].clone(), closed, opened, log[1].clone()]);
}

fn a_removed_room_ends_its_subscriptions<H: Harness>() {
    let harness = roomy::<H>();
    let (broker, elsewhere) = (harness.broker(), harness.elsewhere());
    open(broker, "lobby");
    let (old, subscription) = subscribe(elsewhere, "lobby");
    let used = wait(broker.publish("lobby", keyed("alice", "once", "k"))).unwrap();
    wait(broker.remove("lobby")).unwrap();
    assert_eq!(old.until(Signal::Removed).len(), 2);
    assert_eq!(wait(elsewhere.state("lobby")).unwrap(), RoomState::Absent);
    open(broker, "lobby");
    let (new, _subscription) = subscribe(elsewhere, "lobby");
    let fresh = wait(broker.publish("lobby", keyed("alice", "once", "k"))).unwrap();
    assert_ne!(fresh.epoch, used.epoch);
    new.until(fresh);
    drop(subscription);
    let last = publish(broker, "lobby", "last");
    assert_eq!(new.until(last).len(), 2, "an old subscription must not end a new one");
    assert_eq!(old.so_far().len(), 2);
}

// ---------------------------------------------------------------------------------------------------------------------
// Memory

struct Memory {
    broker: MemoryBroker,
    clock_ms: Arc<AtomicU64>,
}

impl Memory {
    fn with(limits: MemoryLimits) -> Self {
        let (start, clock_ms) = (Instant::now(), Arc::new(AtomicU64::new(0)));
        let passed = clock_ms.clone();
        let now = move || start + Duration::from_millis(passed.load(Ordering::SeqCst));
        Self { broker: MemoryBroker::with(limits, now, numbers()), clock_ms }
    }
}

/// The same numbers in each run, no two alike: the steps of a Weyl sequence.
fn numbers() -> impl Fn() -> u64 + Send + Sync {
    let drawn = AtomicU64::new(1);
    move || drawn.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed)
}

impl Harness for Memory {
    type Broker = MemoryBroker;

    fn new(entries: usize, age: Option<Duration>) -> Self {
        Self::with(MemoryLimits { history_entries: entries, history_age: age, ..MemoryLimits::default() })
    }

    fn broker(&self) -> &MemoryBroker {
        &self.broker
    }

    fn pass(&self, time: Duration) {
        self.clock_ms.fetch_add(time.as_millis() as u64, Ordering::SeqCst);
    }
}

#[test]
fn memory_holds_no_more_rooms_than_it_may() {
    let broker = MemoryBroker::new(MemoryLimits { rooms: 2, ..MemoryLimits::default() });
    open(&broker, "a");
    open(&broker, "b");
    assert!(matches!(wait(broker.open("c")), Err(BrokerError::TooManyRooms)));
    assert_eq!(wait(broker.state("c")).unwrap(), RoomState::Absent);
    wait(broker.close("b")).unwrap();
    assert!(matches!(wait(broker.open("c")), Err(BrokerError::TooManyRooms)), "a closed room has its place");
    wait(broker.open("b")).unwrap();
    wait(broker.remove("a")).unwrap();
    open(&broker, "c");
}

#[test]
fn memory_counts_the_bytes_of_bodies_and_senders() {
    let limits = MemoryLimits { history_bytes: 3 * ("alice".len() + 10), ..MemoryLimits::default() };
    let broker = MemoryBroker::new(limits);
    let start = open(&broker, "lobby");
    let (recorder, _subscription) = subscribe(&broker, "lobby");
    let ten = "x".repeat(10);
    let mut published: Vec<_> = (0..3).map(|_| publish(&broker, "lobby", &ten)).collect();
    assert_eq!(positions(&resume(&broker, "lobby", start)), published);
    published.push(publish(&broker, "lobby", ""));
    assert_eq!(positions(&resume(&broker, "lobby", None)), published[1..]);
    published.push(publish(&broker, "lobby", &ten));
    assert_eq!(positions(&resume(&broker, "lobby", None)), published[2..]);
    // Larger than the whole history: it is heard, but not kept.
    published.push(publish(&broker, "lobby", ten.repeat(10)));
    assert_eq!(resume(&broker, "lobby", None), []);
    assert_eq!(resume(&broker, "lobby", published[5]), []);
    assert_eq!(refused(&broker, "lobby", published[4], 10), LostReason::Trimmed);
    assert_eq!(positions(&entries(recorder.until(published[5]))), published);
}

#[test]
fn memory_holds_no_more_keys_than_it_may() {
    let broker = MemoryBroker::new(MemoryLimits { keys: 2, ..MemoryLimits::default() });
    open(&broker, "lobby");
    let again = |key| wait(broker.publish("lobby", keyed("alice", "once", key))).unwrap();
    let [_, b, c] = ["a", "b", "c"].map(again);
    assert_eq!((again("b"), again("c")), (b, c));
    assert!(again("a").follows(c), "the oldest is forgotten");
}

#[test]
fn memory_holds_no_body_longer_than_it_may() {
    let harness = Memory::with(MemoryLimits {
        history_bytes: 200,
        history_age: Some(Duration::from_secs(60)),
        ..MemoryLimits::default()
    });
    let start = open(&harness.broker, "lobby");
    let [fits, large] = [100, 1_000].map(|size| bytes::Bytes::from(vec![b'x'; size]));
    let say = |body: &bytes::Bytes| {
        let publication =
            Publication { from: "alice".into(), body: body.clone(), at: SystemTime::UNIX_EPOCH, idempotency_key: None };
        wait(harness.broker.publish("lobby", publication)).unwrap()
    };
    say(&large);
    assert!(large.is_unique(), "the body is still held");
    let last = say(&fits);
    assert!(!fits.is_unique());
    harness.pass(Duration::from_secs(60));
    harness.broker.sweep();
    assert!(fits.is_unique(), "the body is still held");
    assert_eq!(refused(&harness.broker, "lobby", start, 10), LostReason::Expired);
    assert_eq!(resume(&harness.broker, "lobby", last), []);
}

#[test]
fn memory_goes_on_after_a_sink_that_panics() {
    struct Panics;
    impl Sink for Panics {
        fn deliver(&self, _: &Entry) {
            panic!("a defect");
        }
        fn signal(&self, _: Signal) {}
    }
    let broker = MemoryBroker::default();
    let start = open(&broker, "lobby");
    let subscription = wait(broker.subscribe("lobby", Arc::new(Panics))).unwrap();
    let publishing = thread::scope(|scope| scope.spawn(|| publish(&broker, "lobby", "first")).join());
    assert!(publishing.is_err());
    drop(subscription);
    let second = publish(&broker, "lobby", "second");
    let log = resume(&broker, "lobby", start);
    assert_follow(start, &log);
    assert_eq!((log.len(), log[1].position), (2, second));
}

/// Whoever subscribed to a room hears its end, and nothing after that, also when threads meet in the middle of it.
#[test]
fn memory_ends_a_room_once_for_everyone() {
    const THREADS: usize = 3;
    let broker = MemoryBroker::default();
    let comers = || {
        let mut sinks = Vec::new();
        for _ in 0..5_000 {
            wait(broker.open("lobby")).unwrap();
            let recorder = Arc::new(Recorder::default());
            if let Ok(subscription) = wait(broker.subscribe("lobby", recorder.clone())) {
                sinks.push((recorder, subscription));
            }
            let published = wait(broker.publish("lobby", said("hello")));
            assert!(matches!(published, Ok(_) | Err(BrokerError::Absent)), "{published:?}");
            let _ = wait(broker.remove("lobby"));
        }
        sinks
    };
    let sinks = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(comers)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    assert_eq!(wait(broker.state("lobby")).unwrap(), RoomState::Absent);
    for (recorder, _subscription) in sinks {
        let heard = recorder.so_far();
        assert_eq!(recorder.until(Signal::Removed), heard);
    }
}

#[test]
fn a_broker_is_chosen_when_the_process_runs() {
    fn spawnable<F: Future + Send>(future: F) -> F {
        future
    }
    let broker: Arc<dyn Broker> = Arc::new(MemoryBroker::default());
    let position = spawnable(async {
        broker.open("lobby").await?;
        broker.publish("lobby", said("hello")).await
    });
    assert_eq!(wait(position).unwrap().offset, 1);
}

#[derive(Clone, Debug)]
enum Event {
    Publish(usize),
    Pass(u64),
    BeginAnew,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        10 => (0..40_usize).prop_map(Event::Publish),
        3 => (1..30_u64).prop_map(Event::Pass),
        1 => Just(Event::BeginAnew),
    ]
}

proptest! {
    /// Whatever happens to a room, every position that it ever gave is resumed without a gap or refused; and it is
    /// resumed whenever its entry is still there.
    #[test]
    fn memory_recovers_all_or_nothing(events in proptest::collection::vec(event(), 0..50), limit in 0..8_usize) {
        let harness = Memory::with(MemoryLimits {
            history_entries: 6,
            history_bytes: 100,
            history_age: Some(Duration::from_secs(60)),
            ..MemoryLimits::default()
        });
        let broker = &harness.broker;
        let mut log = vec![open(broker, "lobby")];
        let mut given = log.clone();
        for event in events {
            match event {
                Event::Publish(bytes) => {
                    let position = publish(broker, "lobby", "x".repeat(bytes));
                    prop_assert!(position.follows(log[log.len() - 1]));
                    log.push(position);
                    given.push(position);
                }
                Event::Pass(seconds) => harness.pass(Duration::from_secs(seconds)),
                Event::BeginAnew => {
                    wait(broker.remove("lobby")).unwrap();
                    log = vec![open(broker, "lobby")];
                    given.push(log[0]);
                }
            }
            let kept = positions(&resume(broker, "lobby", None));
            let top = log[log.len() - 1];
            for &since in &given {
                let rest = log.iter().position(|position| *position == since).map(|at| &log[at + 1..]);
                let nothing_removed = kept.len() + 1 == log.len();
                let anchored = since == top || kept.contains(&since) || (since == log[0] && nothing_removed);
                match read(broker, "lobby", since, limit) {
                    Replay::Whole { entries, .. } => {
                        prop_assert!(anchored);
                        prop_assert_eq!(Some(&*positions(&entries)), rest);
                    }
                    Replay::Lost { reason, .. } => {
                        prop_assert!(!anchored || rest.is_some_and(|rest| rest.len() > limit), "{since}: {reason}");
                    }
                }
            }
        }
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Negative controls: brokers that are wrong in one way each, and must be caught

const OFFSET_ALONE: char = 'o';
const IN_PART: char = 'i';
const TWICE: char = 't';
const SWAPPED: char = 's';
const WITHOUT_KEYS: char = 'w';

#[test]
fn recovery_by_the_offset_alone_is_caught_by_the_clause_that_is_about_it() {
    type W = Wrong<OFFSET_ALONE>;
    let caught_by = clauses!(table W).into_iter().filter(|(_, clause)| fails(*clause)).map(|(name, _)| name);
    assert_eq!(caught_by.collect::<BTreeSet<_>>(), BTreeSet::from(["a_forked_history_is_refused"]));
}

#[test]
fn other_wrong_brokers_are_caught() {
    assert!(fails(too_many_missed_is_refused_as_a_whole::<Wrong<IN_PART>>));
    assert!(fails(concurrent_publishers_are_heard_once_and_in_order::<Wrong<TWICE>>));
    assert!(fails(concurrent_publishers_are_heard_once_and_in_order::<Wrong<SWAPPED>>));
    assert!(fails(a_key_is_published_once::<Wrong<WITHOUT_KEYS>>));
    assert!(fails(concurrent_repetitions_are_published_once::<Wrong<WITHOUT_KEYS>>));
}

fn fails(clause: fn()) -> bool {
    thread::spawn(clause).join().is_err()
}

struct Wrong<const HOW: char>(Memory);

impl<const HOW: char> Harness for Wrong<HOW> {
    type Broker = Self;

    fn new(entries: usize, age: Option<Duration>) -> Self {
        Self(Memory::new(entries, age))
    }

    fn broker(&self) -> &Self {
        self
    }

    fn pass(&self, time: Duration) {
        self.0.pass(time);
    }
}

impl<const HOW: char> Broker for Wrong<HOW> {
    fn open<'a>(&'a self, room: &'a str) -> Answer<'a, ()> {
        self.0.broker.open(room)
    }

    fn close<'a>(&'a self, room: &'a str) -> Answer<'a, ()> {
        self.0.broker.close(room)
    }

    fn remove<'a>(&'a self, room: &'a str) -> Answer<'a, ()> {
        self.0.broker.remove(room)
    }

    fn state<'a>(&'a self, room: &'a str) -> Answer<'a, RoomState> {
        self.0.broker.state(room)
    }

    fn list<'a>(&'a self, after: Option<&'a str>, limit: usize) -> Answer<'a, Vec<(Arc<str>, RoomState)>> {
        self.0.broker.list(after, limit)
    }

    fn publish<'a>(&'a self, room: &'a str, mut publication: Publication) -> Answer<'a, Position> {
        if HOW == WITHOUT_KEYS {
            publication.idempotency_key = None;
        }
        self.0.broker.publish(room, publication)
    }

    fn read<'a>(&'a self, room: &'a str, since: Option<Position>, limit: usize) -> Answer<'a, Replay> {
        let broker = &self.0.broker;
        Answer::later(async move {
            let Some(mut since) = since else { return broker.read(room, None, limit).await };
            let top = broker.top(room).await?;
            let Replay::Whole { entries, .. } = broker.read(room, None, usize::MAX).await? else { unreachable!() };
            if HOW == OFFSET_ALONE {
                // Whatever tag the log has at this offset, the client is believed to have seen it.
                since.offset = since.offset.min(top.offset);
                let kept = positions(&entries).into_iter().chain([top]).find(|kept| kept.offset == since.offset);
                since.tag = kept.map_or(0, |kept| kept.tag);
            }
            Ok(match broker.read(room, Some(since), limit).await? {
                Replay::Lost { reason: LostReason::TooManyMissed, .. } if HOW == IN_PART => {
                    Replay::Whole { entries: entries[entries.len() - limit..].to_vec(), top }
                }
                replay => replay,
            })
        })
    }

    fn top<'a>(&'a self, room: &'a str) -> Answer<'a, Position> {
        self.0.broker.top(room)
    }

    fn subscribe<'a>(&'a self, room: &'a str, sink: Arc<dyn Sink>) -> Answer<'a, Subscription> {
        match HOW {
            TWICE => self.0.broker.subscribe(room, Arc::new(Twice(sink))),
            SWAPPED => self.0.broker.subscribe(room, Arc::new(Swapped(sink, Mutex::default()))),
            _ => self.0.broker.subscribe(room, sink),
        }
    }
}

/// Repeats an entry.
struct Twice(Arc<dyn Sink>);

impl Sink for Twice {
    fn deliver(&self, entry: &Entry) {
        self.0.deliver(entry);
        if entry.position.offset == 7 {
            self.0.deliver(entry);
        }
    }

    fn signal(&self, signal: Signal) {
        self.0.signal(signal);
    }
}

/// Holds an entry back until after the next.
struct Swapped(Arc<dyn Sink>, Mutex<Option<Entry>>);

impl Sink for Swapped {
    fn deliver(&self, entry: &Entry) {
        let mut held = self.1.lock().unwrap();
        if entry.position.offset == 7 {
            *held = Some(entry.clone());
            return;
        }
        self.0.deliver(entry);
        if let Some(earlier) = mem::take(&mut *held) {
            self.0.deliver(&earlier);
        }
    }

    fn signal(&self, signal: Signal) {
        self.0.signal(signal);
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Short words for long calls

fn wait<T>(answer: impl Future<Output = T>) -> T {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut answer = pin!(answer);
    loop {
        match answer.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(answer) => return answer,
            Poll::Pending => thread::park(),
        }
    }
}

fn said(text: impl Into<String>) -> Publication {
    Publication { from: "alice".into(), body: text.into().into(), at: SystemTime::UNIX_EPOCH, idempotency_key: None }
}

fn keyed(from: &str, text: &str, key: &str) -> Publication {
    Publication { from: from.into(), idempotency_key: Some(key.parse().unwrap()), ..said(text) }
}

/// Opens a room and answers with its top.
fn open(broker: &impl Broker, room: &str) -> Position {
    wait(broker.open(room)).unwrap();
    wait(broker.top(room)).unwrap()
}

fn publish(broker: &impl Broker, room: &str, text: impl Into<String>) -> Position {
    wait(broker.publish(room, said(text))).unwrap()
}

fn publish_some(broker: &impl Broker, room: &str, count: usize) -> Vec<Position> {
    (1..=count).map(|n| publish(broker, room, n.to_string())).collect()
}

fn subscribe(broker: &impl Broker, room: &str) -> (Arc<Recorder>, Subscription) {
    let recorder = Arc::new(Recorder::default());
    let subscription = wait(broker.subscribe(room, recorder.clone())).unwrap();
    (recorder, subscription)
}

fn read(broker: &impl Broker, room: &str, since: impl Into<Option<Position>>, limit: usize) -> Replay {
    wait(broker.read(room, since.into(), limit)).unwrap()
}

/// Everything after `since`, which must be granted.
fn resume(broker: &impl Broker, room: &str, since: impl Into<Option<Position>>) -> Vec<Entry> {
    match read(broker, room, since, 100_000) {
        Replay::Whole { entries, top } => {
            assert!(entries.last().is_none_or(|last| last.position == top), "{top} is not the end of {entries:?}");
            entries
        }
        Replay::Lost { reason, .. } => panic!("refused: {reason}"),
    }
}

/// Why nothing is to be had after `since`.
fn refused(broker: &impl Broker, room: &str, since: Position, limit: usize) -> LostReason {
    match read(broker, room, since, limit) {
        Replay::Lost { reason, top } => {
            assert_eq!(top, wait(broker.top(room)).unwrap());
            reason
        }
        Replay::Whole { entries, .. } => panic!("{since} was granted, with {entries:?}"),
    }
}

fn positions<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Vec<Position> {
    entries.into_iter().map(|entry| entry.position).collect()
}

#[track_caller]
fn assert_follow(mut earlier: Position, entries: &[Entry]) {
    for entry in entries {
        assert!(entry.position.follows(earlier), "{} after {earlier}", entry.position);
        earlier = entry.position;
    }
}

/// What a sink heard.
#[derive(Clone, Debug, PartialEq)]
enum Heard {
    Entry(Entry),
    Signal(Signal),
}

impl PartialEq<Position> for Heard {
    fn eq(&self, position: &Position) -> bool {
        matches!(self, Self::Entry(entry) if entry.position == *position)
    }
}

impl PartialEq<Signal> for Heard {
    fn eq(&self, signal: &Signal) -> bool {
        matches!(self, Self::Signal(heard) if heard == signal)
    }
}

/// The entries, where a sink must have heard nothing else.
fn entries(heard: Vec<Heard>) -> Vec<Entry> {
    let entry = |heard| match heard {
        Heard::Entry(entry) => entry,
        Heard::Signal(signal) => panic!("unexpected: {signal:?}"),
    };
    heard.into_iter().map(entry).collect()
}

#[derive(Default)]
struct Recorder {
    heard: Mutex<Vec<Heard>>,
    more: Condvar,
}

impl Recorder {
    /// Everything up to the first of these, which may still be under way.
    #[track_caller]
    fn until<T>(&self, last: T) -> Vec<Heard>
    where
        Heard: PartialEq<T>,
    {
        const PATIENCE: Duration = Duration::from_secs(10);
        let missing = |heard: &mut Vec<Heard>| heard.iter().all(|heard| *heard != last);
        let (heard, _) = self.more.wait_timeout_while(self.heard.lock().unwrap(), PATIENCE, missing).unwrap();
        let end = heard.iter().position(|heard| *heard == last);
        heard[..=end.unwrap_or_else(|| panic!("the sink heard only {heard:?}"))].to_vec()
    }

    fn so_far(&self) -> Vec<Heard> {
        self.heard.lock().unwrap().clone()
    }

    fn hear(&self, heard: Heard) {
        self.heard.lock().unwrap().push(heard);
        self.more.notify_all();
    }
}

impl Sink for Recorder {
    fn deliver(&self, entry: &Entry) {
        self.hear(Heard::Entry(entry.clone()));
    }

    fn signal(&self, signal: Signal) {
        self.hear(Heard::Signal(signal));
    }
}
