//! What the server's operator sees: log lines and counters.

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::Notify;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// A log line: where it comes from, and its fields.
#[derive(Clone, Debug)]
pub struct Line {
    pub target: &'static str,
    fields: BTreeMap<&'static str, String>,
}

impl Line {
    /// A field; empty where there is none.
    pub fn get(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.target, self.fields)
    }
}

/// All that was logged, at every level.
#[derive(Clone, Default)]
pub struct Log(Arc<(Mutex<Vec<Line>>, Notify)>);

impl Log {
    pub fn lines(&self) -> Vec<Line> {
        self.0.0.lock().unwrap().clone()
    }

    /// Waits until `found` finds what it looks for.
    pub async fn until<R>(&self, mut found: impl FnMut(&[Line]) -> Option<R>) -> R {
        loop {
            let mut news = pin!(self.0.1.notified());
            news.as_mut().enable();
            if let Some(found) = found(&self.lines()) {
                return found;
            }
            news.await;
        }
    }
}

/// Its end.
impl fmt::Display for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = self.lines();
        lines[lines.len().saturating_sub(10)..].iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

impl<S: Subscriber> Layer<S> for Log {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut line = Line { target: event.metadata().target(), fields: BTreeMap::new() };
        event.record(&mut line);
        self.0.0.lock().unwrap().push(line);
        self.0.1.notify_waiters();
    }
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.fields.insert(field.name(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.fields.insert(field.name(), format!("{value:?}"));
    }
}

/// Counters by name and labels; nothing else is measured.
#[derive(Default)]
pub struct Counters(Mutex<HashMap<String, Arc<AtomicU64>>>);

impl Counters {
    /// All counts of a name, whatever their labels.
    pub fn sum(&self, name: &str) -> u64 {
        let counters = self.0.lock().unwrap();
        let named = counters.iter().filter(|(key, _)| key.split(' ').next() == Some(name));
        named.map(|(_, count)| count.load(Ordering::Relaxed)).sum()
    }
}

impl Recorder for Counters {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let name = format!("{} {:?}", key.name(), key.labels().collect::<Vec<_>>());
        Counter::from_arc(Arc::clone(self.0.lock().unwrap().entry(name).or_default()))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}
