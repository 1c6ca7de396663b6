//! A server on several threads, where everything happens at once.

mod support;

use saywhy::catalogue::{KICKED, OVERLOADED};
use saywhy::{DrainPlan, Settings};
use serde_json::json;
use std::time::Duration;
use support::*;
use tokio::task::LocalSet;

const CLIENTS: usize = 60;

/// Talks until it is told to go, and then vanishes or confirms; the code that it was told.
async fn talk(mut client: Client, vanishes: bool) -> Option<u16> {
    let echo = json!({ "type": "echo", "data": { "text": "x" }, "meta": { "request_id": "1" } });
    for turn in 0.. {
        if client.send_raw(&wire_text(&echo.to_string())).await.is_err() {
            return None;
        }
        if vanishes && turn == 20 {
            client.reset();
            return None;
        }
        // Whatever comes: answers, messages of others, and errors that it survives.
        let code = match client.next().await {
            Seen::Close(code, _) => code,
            Seen::Text(_) => continue,
            other => panic!("{other:?}"),
        };
        client.close(code, "").await;
        assert_eq!(client.next().await, Seen::Fin);
        return Some(code);
    }
    None
}

#[test]
fn kicks_floods_losses_and_a_drain_at_once_leave_one_ending_each() {
    let settings = Settings { connections_per_address: 1_000, ..limits(|limits| limits.messages_per_s = 0) };
    house_on_threads(3, settings, desk(&Desk::default()), async |house| {
        let local = LocalSet::new();
        let mut talks = Vec::new();
        for n in 0..CLIENTS {
            let client = house.open_session("/ws").await;
            talks.push(local.spawn_local(talk(client, n % 3 == 0)));
        }
        let sessions = house.gate.sessions();
        assert_eq!(sessions.len(), CLIENTS);
        let kicked: Vec<_> = sessions.iter().step_by(2).cloned().collect();
        let flood = tokio::spawn(async move {
            for n in 0..200 {
                for session in &sessions {
                    let _ = session.send("message", &n);
                }
                tokio::task::yield_now().await;
            }
        });
        let kick = tokio::spawn(async move {
            for session in &kicked {
                session.tell(&OVERLOADED.message());
                session.close_now(KICKED);
                tokio::task::yield_now().await;
            }
        });
        let gate = house.gate.clone();
        let drain = tokio::spawn(async move {
            kick.await.unwrap();
            let plan = DrainPlan { deadline: Duration::from_secs(20), ..DrainPlan::default() };
            gate.drain(plan).await
        });
        local.await;
        flood.await.unwrap();
        assert_eq!(drain.await.unwrap().cut, 0);
        for talk in talks {
            assert!(matches!(talk.await.unwrap(), None | Some(1012 | 4007 | 4008)));
        }
    });
}
