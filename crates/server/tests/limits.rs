//! How many may be here at once, and who makes room for whom.

mod support;

use axum::Router;
use axum::extract::Query;
use axum::routing::any;
use saywhy::catalogue::NOT_FOUND;
use saywhy::{Admission, Gate, Rate, Refusal, Settings};
use serde_json::json;
use std::collections::HashMap;
use std::sync::Arc;
use support::*;
use tokio::sync::Semaphore;

/// The row with which the next one is refused.
async fn refused(house: &House, target: &str) -> String {
    house.ask(target, PROGRAM).await.problem().await.1["name"].as_str().unwrap().to_owned()
}

#[test]
fn past_a_limit_of_connections_the_next_is_refused_until_one_leaves() {
    let few = |change: fn(&mut Settings)| {
        let mut settings = Settings::default();
        change(&mut settings);
        settings
    };
    let cases = [
        (few(|settings| settings.connections = 2), "overloaded", 1013, "Too busy at the moment"),
        (
            few(|settings| settings.connections_per_address = 2),
            "rate_limited",
            4005,
            "Too many connections from your address",
        ),
        (
            few(|settings| settings.connections_per_identity = 2),
            "rate_limited",
            4005,
            "Too many connections of the same identity",
        ),
    ];
    for (settings, name, code, words) in cases {
        house(settings, desk(&Desk::default()), async |house| {
            let first = house.open_session("/ws?user=alice").await;
            let _second = house.open_session("/ws?user=alice").await;
            let mut third = house.ask("/ws?user=alice", BROWSER).await;
            assert_eq!(third.head().await.get("saywhy-refused"), name);
            let word = third.last_word().await;
            assert_eq!((word.code, &*word.reason), (code, words));
            assert_eq!(word.error["data"]["retry"], "after");
            let (head, problem) = house.ask("/ws?user=alice", PROGRAM).await.problem().await;
            assert_eq!((&problem["name"], head.get("retry-after").is_empty()), (&json!(name), false));
            first.leave().await;
            house.open_session("/ws?user=alice").await;
        });
    }
}

#[test]
fn past_a_rate_of_connections_the_next_is_refused_until_later() {
    let seldom = Rate { per_s: 1, burst: 2 };
    let often = |change: fn(&mut Settings, Rate)| {
        let mut settings = Settings::default();
        change(&mut settings, seldom);
        settings
    };
    let cases = [
        (often(|settings, rate| settings.connects = rate), "overloaded", "Too busy at the moment", true),
        (
            often(|settings, rate| settings.connects_per_address = rate),
            "rate_limited",
            "Your address asks for connections too often",
            false,
        ),
        (
            often(|settings, rate| settings.connects_per_identity = rate),
            "rate_limited",
            "The same identity asks for connections too often",
            false,
        ),
    ];
    for (settings, name, words, for_everyone) in cases {
        house(settings, desk(&Desk::default()), async |house| {
            for _ in 0..2 {
                // It does not matter how long they stay.
                house.open_session("/ws?user=alice").await.leave().await;
            }
            let mut third = house.ask("/ws?user=alice", BROWSER).await;
            assert_eq!(third.head().await.get("saywhy-refused"), name);
            let word = third.last_word().await;
            assert_eq!((&*word.reason, &word.error["data"]["retry"]), (words, &json!("after")));
            assert!(word.error["data"]["retry_after_ms"].as_u64().unwrap() > 0);
            let (_, problem) = house.ask("/ws?user=alice", PROGRAM).await.problem().await;
            assert_eq!(problem["name"], name);
            let mut other = house.ask_from(OTHER_ADDRESS, "/ws?user=bob", PROGRAM).await;
            assert_eq!(other.head().await.status, if for_everyone { 503 } else { 101 });
        });
    }
}

#[test]
fn another_identity_has_connections_of_its_own() {
    house(Settings { connections_per_identity: 1, ..Settings::default() }, desk(&Desk::default()), async |house| {
        let _alice = house.open_session("/ws?user=alice").await;
        let _bob = house.open_session("/ws?user=bob").await;
        let _nobody = house.open_session("/ws").await;
        let _nobody_else = house.open_session("/ws").await;
        assert_eq!(refused(house, "/ws?user=alice").await, "rate_limited");
    });
}

/// A crowd that arrives at once must not get past a limit while the application thinks about each.
#[test]
fn those_who_are_not_decided_upon_yet_count_too() {
    let few = |change: fn(&mut Settings)| {
        let mut settings = Settings::default();
        change(&mut settings);
        settings
    };
    let cases = [
        few(|settings| settings.connections = 2),
        few(|settings| settings.connections_per_address = 2),
        few(|settings| settings.connections_per_identity = 2),
    ];
    for settings in cases {
        let (thinking, decided) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let (thinks, decides) = (Arc::clone(&thinking), Arc::clone(&decided));
        let ws = async move |admission: Admission| {
            admission.identify("alice")?;
            thinks.add_permits(1);
            decides.acquire().await.unwrap().forget();
            Ok::<_, Refusal>(admission.accept(|session| session.serve(Desk::default())))
        };
        house(settings, Router::new().route("/ws", any(ws)), async |house| {
            let mut crowd = Vec::new();
            for _ in 0..2 {
                crowd.push(house.ask("/ws", PROGRAM).await);
                thinking.acquire().await.unwrap().forget();
            }
            assert!(matches!(&*refused(house, "/ws").await, "overloaded" | "rate_limited"));
            // One of them gives up, and another may come.
            drop(crowd.pop());
            assert!(house.ending().await.get("cause").len() > 1, "the refused one");
            assert!(house.ending().await.get("cause").starts_with("lost"));
            crowd.push(house.ask("/ws", PROGRAM).await);
            thinking.acquire().await.unwrap().forget();
            decided.add_permits(2);
            for client in &mut crowd {
                assert_eq!(client.head().await.status, 101);
            }
        });
    }
}

#[test]
fn those_who_linger_after_a_refusal_do_not_count() {
    let no = async |admission: Admission| {
        admission.identify("alice")?;
        Err::<(), _>(admission.refuse(NOT_FOUND))
    };
    let (connections, connections_per_address, connections_per_identity) = (1, 1, 1);
    let settings = Settings { connections, connections_per_address, connections_per_identity, ..Settings::default() };
    house(settings, desk(&Desk::default()).route("/no", any(no)), async |house| {
        let mut lingering = Vec::new();
        for _ in 0..3 {
            let mut client = house.ask("/no", BROWSER).await;
            assert_eq!(client.head().await.get("saywhy-refused"), "not_found");
            lingering.push(client);
        }
        let _alice = house.open_session("/ws?user=alice").await;
    });
}

#[test]
fn limits_are_shared_by_all_gates_of_a_server() {
    let outer = Settings { connections: 1, ..Settings::default() };
    let gate = Gate::new(outer.clone());
    let router = desk(&Desk::default()).layer(gate.with(Settings { connections: 1, ..outer }));
    let other = desk(&Desk::default()).layer(gate.with(Settings { connections: 1_000, ..Settings::default() }));
    let router = Router::new().nest("/few", router).nest("/many", other);
    house(Settings::default(), router, async |house| {
        let _one = house.open_session("/many/ws").await;
        assert_eq!(refused(house, "/few/ws").await, "overloaded");
        let _two = house.open_session("/many/ws").await;
        assert_eq!(gate.sessions().len(), 2);
        assert_eq!(house.gate.sessions().len(), 0, "the outer gate let the inner one decide");
    });
}

// ---- one connection per identity --------------------------------------------------------------------------------

#[test]
fn a_newer_connection_of_an_identity_replaces_the_older() {
    house(Settings { one_per_identity: true, ..Settings::default() }, desk(&Desk::default()), async |house| {
        let mut older = house.open_session("/ws?user=alice").await;
        let mut bob = house.open_session("/ws?user=bob").await;
        let mut newer = house.open_session("/ws?user=alice").await;
        let word = older.last_word().await;
        assert_eq!((word.code, &*word.reason), (4006, "A newer connection took over"));
        assert_eq!((&word.error["data"]["name"], &word.error["data"]["retry"]), (&json!("replaced"), &json!("never")));
        assert_eq!(house.ending().await.get("cause"), "replaced");
        for client in [&mut bob, &mut newer] {
            assert_eq!(client.request(r#"{"type":"ping"}"#).await["type"], "pong");
        }
    });
}

#[test]
fn a_connection_that_is_refused_in_the_end_replaces_nobody() {
    let ws = async |admission: Admission, Query(query): Query<HashMap<String, String>>| {
        admission.identify("alice")?;
        if query.contains_key("bad") {
            return Err(admission.refuse(NOT_FOUND));
        }
        Ok::<_, Refusal>(admission.accept(|session| session.serve(Desk::default())))
    };
    let settings = Settings { one_per_identity: true, ..Settings::default() };
    house(settings, Router::new().route("/ws", any(ws)), async |house| {
        let mut older = house.open_session("/ws").await;
        assert_eq!(refused(house, "/ws?bad").await, "not_found");
        older.is_quiet().await;
        assert_eq!(older.request(r#"{"type":"ping"}"#).await["type"], "pong");
    });
}

#[test]
fn of_two_that_arrive_together_one_is_left() {
    let (thinking, decided) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (thinks, decides) = (Arc::clone(&thinking), Arc::clone(&decided));
    let ws = async move |admission: Admission| {
        admission.identify("alice")?;
        thinks.add_permits(1);
        decides.acquire().await.unwrap().forget();
        Ok::<_, Refusal>(admission.accept(|session| session.serve(Desk::default())))
    };
    let settings = Settings { one_per_identity: true, ..Settings::default() };
    house(settings, Router::new().route("/ws", any(ws)), async |house| {
        let mut one = house.ask("/ws", PROGRAM).await;
        let mut two = house.ask("/ws", PROGRAM).await;
        thinking.acquire_many(2).await.unwrap().forget();
        decided.add_permits(2);
        for client in [&mut one, &mut two] {
            assert_eq!(client.head().await.status, 101);
            assert_eq!(client.message().await["type"], "ready");
        }
        // Which of them is the older is not for us to say; the one of them that is told so.
        assert_eq!(house.log.until(|_| (house.gate.sessions().len() <= 2).then_some(())).await, ());
        let told = tokio::select! { seen = one.next() => seen, seen = two.next() => seen };
        assert!(matches!(told, Seen::Text(error) if error["data"]["name"] == "replaced"));
    });
}
