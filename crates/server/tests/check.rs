//! The application's own check, asked over HTTP: a real server that says yes, no, nothing, or nonsense.

mod support;

use axum::Router;
use axum::extract::{Json, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{any, post};
use saywhy::{Admission, Check, Refusal};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use support::*;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;

/// What the application was asked, and what it answers next.
#[derive(Clone, Default)]
struct Application(Arc<Mutex<(Vec<Value>, Option<Response>)>>);

impl Application {
    async fn listen(&self) -> String {
        let answer = async |State(Self(both)): State<Self>, Json(question): Json<Value>| {
            let mut both = both.lock().unwrap();
            both.0.push(question);
            both.1.take().unwrap_or_else(|| StatusCode::NO_CONTENT.into_response())
        };
        let router = Router::new().route("/admit", post(answer)).with_state(self.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/admit", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        url
    }

    fn answers(&self, answer: impl axum::response::IntoResponse) {
        self.0.lock().unwrap().1 = Some(answer.into_response());
    }

    fn asked(&self) -> Vec<Value> {
        std::mem::take(&mut self.0.lock().unwrap().0)
    }
}

/// A door whose check is put in while the test runs: only then is it known where to ask.
type Door = Arc<Mutex<Option<Arc<Check>>>>;

fn door(door: &Door) -> Router {
    let door = Arc::clone(door);
    let enter = async move |admission: Admission| {
        admission.identify("alice")?;
        let check = door.lock().unwrap().clone().unwrap();
        check.ask(&admission).await?;
        Ok::<_, Refusal>(admission.accept(|session| session.each(|message| Some(message))))
    };
    Router::new().route("/ws", any(enter))
}

fn check(url: &str, time: Duration, at_once: usize) -> Option<Arc<Check>> {
    Some(Arc::new(Check::new(url.parse().unwrap(), time, at_once).unwrap()))
}

const LONG: Duration = Duration::from_secs(20);

/// A test of one door and the application behind it.
fn application(test: impl AsyncFnOnce(&House, &Door, &Application, &str)) {
    let (open, application) = (Door::default(), Application::default());
    // No task of a server may be left behind, and the application is one of them: it has a runtime of its own.
    let elsewhere = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let url = elsewhere.block_on(application.listen());
    house(tireless(), door(&open), async |house| {
        *open.lock().unwrap() = check(&url, LONG, 8);
        test(house, &open, &application, &url).await;
        // The connection to the application is kept for the next question.
        *open.lock().unwrap() = None;
    });
}

#[test]
fn the_application_is_told_who_it_is_and_its_yes_is_enough() {
    application(async |house, _, application, _| {
        for yes in [StatusCode::OK, StatusCode::CREATED, StatusCode::NO_CONTENT] {
            application.answers((yes, SECRET));
            let session = house.open_session("/ws?access_token=hidden").await;
            let question = json!({
                "connection_id": session.id, "path": "/ws", "user": "alice", "address": "127.0.0.1",
            });
            assert_eq!(application.asked(), [question], "the query may hold a token");
            session.leave().await;
        }
    });
}

#[test]
fn its_no_is_the_row_that_stands_for_its_status_and_its_words_are_nobodys() {
    application(async |house, _, application, _| {
        for (status, name, http) in [
            (400, "bad_request", 400),
            (401, "unauthorized", 401),
            (403, "forbidden", 403),
            (404, "not_found", 404),
            (409, "invalid_action", 409),
            (418, "bad_request", 400),
            (429, "rate_limited", 429),
            (500, "internal_error", 500),
            (502, "bad_gateway", 502),
            (503, "overloaded", 503),
            (504, "gateway_timeout", 504),
            (599, "internal_error", 500),
        ] {
            let no = || (StatusCode::from_u16(status).unwrap(), [("x-debug", SECRET)], SECRET);
            application.answers(no());
            let (head, problem) = house.ask("/ws", PROGRAM).await.problem().await;
            assert_eq!((head.status, &problem["name"]), (http, &json!(name)));
            assert_eq!(problem["details"], json!({ "http_status": status, "source": "application" }));
            let ending = house.ending().await;
            assert!(ending.get("private").starts_with(&format!("the application's check answered {status}")));
            application.answers(no());
            let mut browser = house.ask("/ws", BROWSER).await;
            assert_eq!(browser.head().await.get("saywhy-refused"), name);
            assert_eq!(browser.last_word().await.error["data"]["details"]["http_status"], status);
            house.ending().await;
        }
        application.answers((StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "7")]));
        let (head, problem) = house.ask("/ws", PROGRAM).await.problem().await;
        assert_eq!((head.get("retry-after"), &problem["retry_after_ms"]), ("7", &json!(7_000)));
    });
}

#[test]
fn what_is_no_answer_is_the_gateway_s_fault() {
    application(async |house, door, application, _| {
        let refused = async |name: &str, cause: &str| {
            let (_, problem) = house.ask("/ws", PROGRAM).await.problem().await;
            assert_eq!(problem["name"], name);
            let ending = house.ending().await;
            assert!(ending.get("private").contains(cause), "{}", ending.get("private"));
        };
        // A redirection is not followed: nobody is asked but whom the operator named.
        application.answers((StatusCode::FOUND, [("location", "http://127.0.0.1:1/elsewhere")]));
        refused("bad_gateway", "hint: it has to be a 2xx, a 4xx or a 5xx").await;
        // Nobody is there.
        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let nobody = format!("http://{}/admit", gone.local_addr().unwrap());
        drop(gone);
        *door.lock().unwrap() = check(&nobody, LONG, 8);
        refused("bad_gateway", "no connection").await;
        // It does not speak HTTP, or says nothing.
        let (silent, rude) =
            (TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap());
        *door.lock().unwrap() = check(&format!("http://{}/", rude.local_addr().unwrap()), LONG, 8);
        let answer = async {
            let (mut asked, _) = rude.accept().await.unwrap();
            asked.read_u8().await.unwrap();
            tokio::io::AsyncWriteExt::write_all(&mut asked, b"what?\r\n\r\n").await.unwrap();
        };
        tokio::join!(answer, refused("bad_gateway", "did not answer"));
        *door.lock().unwrap() =
            check(&format!("http://{}/", silent.local_addr().unwrap()), Duration::from_millis(50), 8);
        refused("gateway_timeout", "no answer within 50ms").await;
    });
}

#[test]
fn about_no_more_than_so_many_is_it_asked_at_once() {
    application(async |house, door, _, url| {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        *door.lock().unwrap() = check(&format!("http://{}/", silent.local_addr().unwrap()), LONG, 1);
        let first = house.ask("/ws", PROGRAM).await;
        let (_asked, _) = silent.accept().await.unwrap();
        let (head, problem) = house.ask("/ws", PROGRAM).await.problem().await;
        assert_eq!((head.status, &problem["name"]), (503, &json!("overloaded")));
        // Who waits for an answer and leaves is asked about no more.
        drop(first);
        house.ending().await;
        house.ending().await;
        *door.lock().unwrap() = check(url, LONG, 1);
        house.open_session("/ws").await.leave().await;
    });
}
