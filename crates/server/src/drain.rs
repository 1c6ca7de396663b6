//! Draining: ending all sessions so that their clients come back at a pace of our choice.

use crate::gate::Gate;
use crate::outbox::Outbox;
use rand::seq::SliceRandom;
use saywhy_codes::Retry;
use saywhy_codes::catalogue::SERVICE_RESTART;
use saywhy_proto::Farewell;
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until};

/// How to drain.
#[derive(Clone, Copy, Debug)]
pub struct DrainPlan {
    /// When the first clients may come back.
    pub retry_after: Duration,
    /// Over how long they are spread: each is told a time of its own within it.
    pub window: Duration,
    /// When what is left is cut.
    pub deadline: Duration,
}

impl Default for DrainPlan {
    fn default() -> Self {
        // Kubernetes kills after 30 s.
        Self { retry_after: Duration::from_secs(1), window: Duration::from_secs(10), deadline: Duration::from_secs(25) }
    }
}

/// How a drain went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Sessions that were open when it began.
    pub sessions: usize,
    /// Those that were still open at the deadline. What the application does with them was dropped; they are given
    /// their goodbye, if they have not had it, and the time to answer it.
    pub cut: usize,
}

impl Gate {
    /// Refuses new connections from now on with `service_restart`; tells each session to come back at a time of its
    /// own; lets work that is under way finish; and waits until all have left, or the deadline.
    ///
    /// Cancel-safe: what was begun goes on.
    pub async fn drain(&self, plan: DrainPlan) -> Drained {
        let spread = |window: Duration| Retry::After { delay: plan.retry_after, spread: window };
        self.house().begin_draining(spread(plan.window));
        let mut sessions = self.house().everyone();
        // In no order that clients could be sorted by: those that came together must not come back together.
        sessions.shuffle(&mut rand::rng());
        let count = sessions.len();
        let step = plan.window / u32::try_from(count.max(1)).unwrap_or(u32::MAX);
        let nth = move |place: usize| step * u32::try_from(place).unwrap_or(u32::MAX);
        let (relayed, told): (Vec<_>, Vec<_>) =
            sessions.into_iter().enumerate().partition(|(_, session)| session.0.is_relayed());
        for (place, session) in told {
            session.restart(plan.retry_after + nth(place), step);
        }
        // Whoever talks to an upstream cannot be told when to come back, only be let go of at a time of its own.
        let begun = Instant::now();
        tokio::spawn(async move {
            for (place, session) in relayed {
                sleep_until(begun + nth(place)).await;
                session.restart(plan.retry_after, step);
            }
        });
        let deadline = Instant::now() + plan.deadline;
        // Leaving is no event that anyone waits for but us, here, once: looking now and then is enough.
        while self.house().count() > 0 && Instant::now() < deadline {
            sleep(Duration::from_millis(20)).await;
        }
        let left = self.house().everyone();
        for session in &left {
            // In case its time had not come.
            session.restart(plan.retry_after, plan.window);
            session.cut();
        }
        Drained { sessions: count, cut: left.len() }
    }
}

impl Outbox {
    /// Says goodbye with 1012: the client may come back after `delay` and a random part of `spread`. What is queued,
    /// and the reply to what is being worked on, go out before.
    pub fn restart(&self, delay: Duration, spread: Duration) {
        self.0.close(Farewell::error(SERVICE_RESTART.message().retry_after(delay, spread)));
    }

    /// Drops what the application does with the session; the session's own drop says the goodbye that waits.
    fn cut(&self) {
        if let Some(task) = self.0.task.get() {
            task.abort();
        }
    }
}
