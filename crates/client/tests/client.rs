//! The client against the server, over loopback: each way in, out and back.

mod support;

use saywhy::catalogue::{FORBIDDEN, KICKED, OVERLOADED};
use saywhy::{DrainPlan, Limits, RefusalForm};
use saywhy_client::{Client, Connect, Error, Event, Events, Incoming, Retry, Source, State, TokenReason};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use support::{Cut, House, Proxy, soon, token};

/// The first event that `what` makes something of; the others are passed over.
async fn event<T>(events: &mut Events, mut what: impl FnMut(Event) -> Option<T>) -> T {
    soon(async {
        loop {
            let event = events.next().await.expect("the client is over");
            if let Some(found) = what(event) {
                return found;
            }
        }
    })
    .await
}

async fn waiting(events: &mut Events) -> Error {
    event(events, |event| if let Event::Waiting { cause, .. } = event { Some(cause) } else { None }).await
}

async fn said(events: &mut Events) -> Value {
    event(events, |event| if let Event::Message(message) = event { Some(message.body) } else { None }).await
}

// ---- one connection ----------------------------------------------------------------------------------------------

#[tokio::test]
async fn a_connection_is_open_when_the_server_says_so() {
    let house = House::open().await;
    let mut connection = house.connect("alice").open().await.unwrap();
    assert_eq!(connection.ready().user.as_deref(), Some("alice"));
    assert!(connection.ready().message_bytes > 0);
    let id = connection.request("join", &json!({ "room": "lobby" })).unwrap();
    let Incoming::Answer { id: of, answer } = connection.next().await.unwrap() else { panic!("an answer") };
    assert_eq!((of, answer.unwrap()["room"].as_str()), (id, Some("lobby")));
    connection.request("join", &json!({ "room": "nowhere" })).unwrap();
    let Incoming::Answer { answer, .. } = connection.next().await.unwrap() else { panic!("an answer") };
    let error = answer.unwrap_err();
    assert_eq!(
        (error.name(), error.code(), error.is_fatal(), error.said_by()),
        ("not_found", Some(4001), false, Source::Server)
    );
    assert!(!error.help().is_empty());
    let too_big = connection.request("send", &"x".repeat(100_000)).unwrap_err();
    assert_eq!(too_big.name(), "message_too_big");
    let closed = soon(connection.close(4321, "done")).await.unwrap().unwrap();
    assert_eq!((closed.code, &*closed.reason), (4321, ""));
    assert_eq!(connection.next().await.unwrap_err().close().unwrap().code, 4321, "the same from then on");
}

#[tokio::test]
async fn a_refusal_says_why_in_both_forms() {
    let house = House::open().await;
    let refused = Connect::to(&house.url()).unwrap().open().await.unwrap_err();
    assert_eq!((refused.name(), refused.code(), refused.is_fatal()), ("unauthorized", Some(4003), true));
    assert_eq!((refused.retry(), refused.close().unwrap().code), (Retry::Reauthenticate, 4003));
    assert_eq!(refused.request_id().unwrap().len(), 32, "the operator finds it by this");
    house.change(|settings| settings.refuse = RefusalForm::Http).await;
    let refused = Connect::to(&house.url()).unwrap().open().await.unwrap_err();
    assert_eq!((refused.name(), refused.status(), refused.said_by()), ("unauthorized", Some(401), Source::Http));
    assert_eq!(refused.request_id().unwrap().len(), 32);
}

#[tokio::test]
async fn a_plain_server_is_open_at_once_and_its_close_is_understood() {
    let house = House::open().await;
    let mut connection = Connect::to(&house.at("/echo")).unwrap().plain(["chat"]).open().await.unwrap();
    connection.send_text("hello").unwrap();
    connection.send_binary(b"bytes").unwrap();
    assert!(matches!(connection.next().await, Ok(Incoming::Text(text)) if text == "hello"));
    assert!(matches!(connection.next().await, Ok(Incoming::Binary(bytes)) if bytes == b"bytes"));
    connection.send_text("close").unwrap();
    let end = soon(connection.next()).await.unwrap_err();
    assert_eq!((end.name(), end.said_by(), end.retry()), ("overloaded", Source::Close, OVERLOADED.retry));
}

#[tokio::test]
async fn tls_is_checked() {
    let house = House::open_with_tls().await;
    let distrusted = house.connect("alice").open().await.unwrap_err();
    assert_eq!(distrusted.name(), "connection_lost");
    assert!(distrusted.to_string().contains("certificate"), "{distrusted}");
    let connection = house.connect("alice").tls(house.trusting().unwrap()).open().await.unwrap();
    assert_eq!(connection.ready().user.as_deref(), Some("alice"));
}

#[tokio::test]
async fn whatever_answers_the_handshake_is_explained() {
    let answers: [(&[u8], &str); 8] = [
        (b"", "connection_lost"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "connection_lost"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "not_a_websocket"),
        (b"HTTP/1.1 302 Found\r\nLocation: /login?token=secret\r\nContent-Length: 0\r\n\r\n", "not_a_websocket"),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "not_found"),
        (b"HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n", "overloaded"),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "not_a_websocket"),
        (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: AAAA\r\n\r\n",
            "not_a_websocket",
        ),
    ];
    for (answer, name) in answers {
        let at = support::answering(answer).await;
        let error = soon(Connect::to(&format!("ws://{at}")).unwrap().open()).await.unwrap_err();
        assert_eq!(error.name(), name, "{}: {error}", answer.escape_ascii());
        assert!(!format!("{error} {error:?}").contains("secret"), "{error}");
        if name == "not_a_websocket" {
            assert_eq!(error.retry(), Retry::Backoff, "it may be one tomorrow");
        }
        if name == "overloaded" {
            assert_eq!(error.retry(), Retry::after_ms(7_000, 0));
        }
    }
}

#[tokio::test]
async fn a_server_that_says_nothing_any_more_is_given_up() {
    let house = House::open().await;
    let proxy = Proxy::to(house.address()).await;
    let limits = Limits { heartbeat: Duration::from_millis(50), ..Limits::default() };
    let connect = Connect::to(&proxy.url()).unwrap().token(token("alice", 600)).limits(limits);
    let mut connection = connect.open().await.unwrap();
    proxy.cut(Cut::Silence);
    let end = soon(connection.next()).await.unwrap_err();
    assert_eq!(
        (end.name(), end.message()),
        ("connection_lost", "The connection was given up: Nothing was heard from you in time")
    );
}

// ---- a connection that comes back --------------------------------------------------------------------------------

#[tokio::test]
async fn without_a_token_it_is_refused_for_good() {
    let house = House::open().await;
    let (chat, mut events) = Client::start(Connect::to(&house.url()).unwrap());
    let refused = soon(chat.ready()).await.unwrap_err();
    assert_eq!((refused.name(), refused.is_fatal()), ("unauthorized", true));
    assert_eq!(soon(chat.closed()).await.name(), "unauthorized");
    assert_eq!(chat.state(), State::Closed);
    assert!(soon(events.next()).await.is_none());
    assert_eq!(chat.request("ping", &json!({})).await.unwrap_err().name(), "unauthorized");
    assert_eq!(house.asked(), 1);
}

#[tokio::test]
async fn a_token_that_is_refused_is_asked_for_once_more() {
    let house = House::open().await;
    let reasons = Arc::new(Mutex::new(Vec::new()));
    let asked = Arc::clone(&reasons);
    let connect = Connect::to(&house.url()).unwrap().token_from(move |reason| {
        asked.lock().unwrap().push(reason);
        let good = reason == TokenReason::Refused;
        async move { Ok::<_, Error>(if good { token("alice", 600) } else { "stale".to_owned() }) }
    });
    let (chat, _events) = Client::start(connect);
    assert_eq!(soon(chat.ready()).await.unwrap().user.as_deref(), Some("alice"));
    assert_eq!(*reasons.lock().unwrap(), [TokenReason::Connect, TokenReason::Refused]);
}

#[tokio::test]
async fn a_token_that_runs_out_is_renewed_in_place() {
    let house = House::open().await;
    let (renewed, mut renewals) = tokio::sync::mpsc::unbounded_channel();
    let connect = Connect::to(&house.url()).unwrap().token_from(move |reason| {
        renewed.send(reason).unwrap();
        let seconds = if reason == TokenReason::Connect { 2 } else { 600 };
        async move { Ok::<_, Error>(token("alice", seconds)) }
    });
    let (chat, _events) = Client::start(connect);
    soon(chat.ready()).await.unwrap();
    assert_eq!(soon(renewals.recv()).await, Some(TokenReason::Connect));
    assert_eq!(soon(renewals.recv()).await, Some(TokenReason::Expiring));
    // The server has it when it answers what was asked after it.
    soon(chat.request("join", &json!({ "room": "lobby" }))).await.unwrap();
    assert_eq!(house.asked(), 1, "the same connection");
}

#[tokio::test]
async fn a_restart_is_survived_with_everything_that_was_said_meanwhile() {
    let house = House::open().await;
    let (alice, mut events) = Client::start(house.connect("alice"));
    let (bob, _others) = Client::start(house.connect("bob"));
    for chat in [&alice, &bob] {
        soon(chat.request("join", &json!({ "room": "lobby" }))).await.unwrap();
    }
    soon(bob.send("lobby", "before").unwrap().position()).await.unwrap();
    assert_eq!(said(&mut events).await, "before");
    let plan = DrainPlan { window: Duration::from_millis(50), ..DrainPlan::default() };
    let drained = tokio::spawn(house.drain(plan));
    let goodbye = event(&mut events, |event| if let Event::Goodbye(error) = event { Some(error) } else { None }).await;
    assert_eq!((goodbye.name(), goodbye.is_fatal()), ("service_restart", true));
    let cause = waiting(&mut events).await;
    assert!(matches!(cause.retry(), Retry::After { .. }), "{cause:?}");
    assert_eq!(cause.close().unwrap().code, 1012);
    soon(drained).await.unwrap();
    house.say("lobby", "meanwhile").await;
    house.restart().await;
    // Asked for while there was nobody to ask.
    let sending = bob.send("lobby", "after").unwrap();
    let recovered =
        event(&mut events, |event| if let Event::Rejoined { recovered, .. } = event { Some(recovered) } else { None });
    assert!(recovered.await);
    assert_eq!(said(&mut events).await, "meanwhile");
    assert_eq!(said(&mut events).await, "after");
    soon(sending.position()).await.unwrap();
}

#[tokio::test]
async fn whatever_cuts_it_off_nothing_is_lost_or_doubled() {
    let house = House::open().await;
    let proxy = Proxy::to(house.address()).await;
    let limits = Limits { heartbeat: Duration::from_millis(100), ..Limits::default() };
    let (chat, mut events) = Client::start(proxy.connect("alice").limits(limits));
    soon(chat.request("join", &json!({ "room": "lobby" }))).await.unwrap();
    for (n, cut) in [Cut::Fin, Cut::Reset, Cut::Silence, Cut::Fin].into_iter().enumerate() {
        // Its answer may be lost; it is sent again, and is one message all the same.
        let sending = chat.send("lobby", &json!(format!("{n} own"))).unwrap();
        proxy.cut(cut);
        house.say("lobby", &format!("{n} others")).await;
        let mut both = [said(&mut events).await, said(&mut events).await].map(|body| body.as_str().unwrap().to_owned());
        both.sort();
        assert_eq!(both, [format!("{n} others"), format!("{n} own")]);
        soon(sending.position()).await.unwrap();
    }
    house.say("lobby", "the end").await;
    assert_eq!(said(&mut events).await, "the end", "and nothing came twice");
}

#[tokio::test]
async fn what_nobody_can_know_is_said() {
    let house = House::open().await;
    let proxy = Proxy::to(house.address()).await;
    let (chat, mut events) = Client::start(proxy.connect("alice"));
    soon(chat.ready()).await.unwrap();
    proxy.swallow();
    let members = tokio::spawn({
        let chat = chat.clone();
        async move { chat.request("members", &json!({ "room": "lobby" })).await }
    });
    soon(proxy.swallowed()).await;
    proxy.cut(Cut::Reset);
    let unknown = soon(members).await.unwrap().unwrap_err();
    assert_eq!((unknown.name(), unknown.is_fatal()), ("connection_lost", false));
    assert_eq!(waiting(&mut events).await.retry(), Retry::Backoff);
}

#[tokio::test]
async fn a_room_whose_history_is_gone_says_so_and_goes_on() {
    let house = House::open().await;
    let proxy = Proxy::to(house.address()).await;
    let (chat, mut events) = Client::start(proxy.connect("alice"));
    soon(chat.request("join", &json!({ "room": "lobby" }))).await.unwrap();
    house.say("lobby", "one").await;
    assert_eq!(said(&mut events).await, "one");
    house.forget("lobby").await;
    proxy.cut(Cut::Fin);
    let lost = event(&mut events, |event| {
        if let Event::HistoryLost { room, reason, error } = event { Some((room, reason, error)) } else { None }
    });
    let (room, reason, error) = lost.await;
    assert_eq!((&*room, error.name()), ("lobby", "history_lost"));
    assert!(reason.is_some(), "{error:?}");
    event(&mut events, |event| matches!(event, Event::Rejoined { recovered: false, .. }).then_some(())).await;
    house.say("lobby", "two").await;
    assert_eq!(said(&mut events).await, "two");
}

#[tokio::test]
async fn kicked_is_kicked() {
    let house = House::open().await;
    let (chat, _events) = Client::start(house.connect("alice"));
    soon(chat.ready()).await.unwrap();
    house.end_all(KICKED.say("Be nice"));
    let end = soon(chat.closed()).await;
    assert_eq!((end.name(), end.message(), end.close().unwrap().code), ("kicked", "Be nice", 4008));
    house.end_all(FORBIDDEN.message());
    assert_eq!(house.asked(), 1);
}

#[tokio::test]
async fn it_is_closed_in_every_state() {
    // Connecting: a server that never answers.
    let silent = support::silent().await;
    let (chat, _events) = Client::start(Connect::to(&format!("ws://{silent}")).unwrap());
    assert_eq!(soon(chat.close(1000, "")).await.name(), "closed");
    // Waiting: nobody is there.
    let nobody = support::nobody().await;
    let (chat, mut events) = Client::start(Connect::to(&format!("ws://{nobody}")).unwrap());
    let cause = waiting(&mut events).await;
    assert_eq!((cause.name(), cause.retry(), chat.state()), ("connection_lost", Retry::Backoff, State::Waiting));
    assert!(cause.to_string().contains("refused"), "{cause}");
    assert_eq!(soon(chat.close(1000, "")).await.name(), "closed");
    // Authenticating: a source of tokens that takes its time.
    let house = House::open().await;
    let connect = Connect::to(&house.url()).unwrap().token_from(|reason| async move {
        if reason == TokenReason::Refused {
            std::future::pending::<()>().await;
        }
        Ok::<_, Error>("stale".to_owned())
    });
    let (chat, _events) = Client::start(connect);
    let mut states = 0;
    soon(async {
        while chat.state() != State::Authenticating {
            states += 1;
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(states > 0);
    assert_eq!(soon(chat.close(1000, "")).await.name(), "closed");
    // Ready, and the server hears the code.
    let (chat, _events) = Client::start(house.connect("alice"));
    soon(chat.ready()).await.unwrap();
    assert_eq!(soon(chat.close(4000, "off")).await.name(), "closed");
    // Dropped is closed too.
    let (chat, mut events) = Client::start(house.connect("bob"));
    soon(chat.ready()).await.unwrap();
    drop(chat);
    soon(async { while events.next().await.is_some() {} }).await;
}

#[tokio::test]
async fn who_does_not_read_stands_still_and_misses_nothing() {
    let house = House::open().await;
    let (chat, mut events) = Client::start(house.connect("alice"));
    soon(chat.request("join", &json!({ "room": "lobby" }))).await.unwrap();
    // More than the client keeps, and no more than the server gives to one who comes back.
    let all = 1_500;
    for n in 0..all {
        house.say("lobby", &n.to_string()).await;
        // As fast as a client that reads could follow.
        if n % 100 == 99 {
            soon(chat.request("ping", &json!({}))).await.unwrap();
        }
    }
    for n in 0..all {
        assert_eq!(said(&mut events).await, n.to_string());
    }
}

#[tokio::test]
async fn more_than_is_kept_is_not_dropped_in_silence() {
    let nobody = support::nobody().await;
    let (chat, _events) = Client::start(Connect::to(&format!("ws://{nobody}")).unwrap());
    let sent: Vec<_> = (0..10_000).map(|n| chat.send("lobby", &n)).collect();
    let refused = sent.iter().filter_map(|sent| sent.as_ref().err()).next().expect("there is a limit");
    assert_eq!((refused.name(), refused.is_fatal()), ("queue_full", false));
    soon(chat.close(1000, "")).await;
    for sending in sent.into_iter().flatten() {
        assert_eq!(
            soon(sending.position()).await.unwrap_err().name(),
            "closed",
            "who was taken is not turned away later"
        );
    }
}

#[tokio::test]
async fn what_is_said_while_a_connection_ends_is_said_over_the_next() {
    let house = House::open().await;
    let proxy = Proxy::to(house.address()).await;
    let limits = Limits { heartbeat: Duration::from_millis(50), close: Duration::from_secs(1), ..Limits::default() };
    let (chat, mut events) = Client::start(proxy.connect("alice").limits(limits));
    soon(chat.request("join", &json!({ "room": "lobby" }))).await.unwrap();
    proxy.cut(Cut::Silence);
    // Before the silence is noticed, while the Close waits for its answer, and between two connections.
    let sent: Vec<_> = keeps_talking(&chat, 30).await;
    for (n, sending) in sent.into_iter().enumerate() {
        soon(sending.position()).await.unwrap_or_else(|error| panic!("{n}: {error}"));
    }
    let mut heard = Vec::new();
    for _ in 0..30 {
        heard.push(said(&mut events).await.as_u64().unwrap());
    }
    assert_eq!(heard, (0..30).collect::<Vec<_>>(), "each once, and in the order in which they were said");
}

/// Says something every 50 ms.
async fn keeps_talking(chat: &Client, count: u64) -> Vec<saywhy_client::Sending> {
    let mut sent = Vec::new();
    for n in 0..count {
        sent.push(chat.send("lobby", &n).unwrap());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    sent
}

#[tokio::test]
async fn a_last_word_without_a_close_is_one_all_the_same() {
    let refusal =
        r#"{"type":"error","data":{"code":4008,"name":"kicked","message":"Out","fatal":true,"retry":"never"}}"#;
    let at = support::upgrading(refusal, false).await;
    let error = soon(Connect::to(&format!("ws://{at}")).unwrap().open()).await.unwrap_err();
    assert_eq!((error.name(), error.message(), error.close()), ("kicked", "Out", None));
    let at = support::upgrading(refusal, true).await;
    let (chat, _events) = Client::start(Connect::to(&format!("ws://{at}")).unwrap());
    assert_eq!(soon(chat.closed()).await.name(), "kicked");
}

#[tokio::test]
async fn places_are_given_back() {
    let nobody = support::nobody().await;
    let (chat, _events) = Client::start(Connect::to(&format!("ws://{nobody}")).unwrap());
    for _ in 0..10 {
        let sent: Vec<_> = (0..256).map(|n| chat.send("lobby", &n).unwrap()).collect();
        assert_eq!(chat.send("lobby", &1).unwrap_err().name(), "queue_full", "there is a limit of number");
        drop(sent);
    }
    let long = "x".repeat(400_000);
    let sent = [chat.send("lobby", &long).unwrap(), chat.send("lobby", &long).unwrap()];
    assert_eq!(chat.send("lobby", &long).unwrap_err().name(), "queue_full", "and one of bytes");
    drop(sent);
    chat.send("lobby", &long).unwrap();
}

#[tokio::test]
async fn what_is_sent_is_sent_before_the_close() {
    let house = House::open().await;
    let mut connection = Connect::to(&house.at("/echo")).unwrap().plain(["chat"]).open().await.unwrap();
    let long = "x".repeat(60_000);
    for _ in 0..100 {
        connection.send_text(&long).unwrap();
    }
    assert!(connection.backlog() > 5_000_000);
    let mut drained = false;
    let mut came = 0;
    soon(async {
        while !drained {
            match connection.next_or_drained(1_000_000).await.unwrap() {
                Some(_) => came += 1,
                None => drained = true,
            }
        }
    })
    .await;
    assert!(connection.backlog() < 1_000_000 && came < 100);
    // What the server sends meanwhile is not waited for, and what was said to it is heard.
    let close = soon(connection.close(1000, "")).await.unwrap().unwrap();
    assert_eq!((close.code, connection.backlog()), (1000, 0));
}
