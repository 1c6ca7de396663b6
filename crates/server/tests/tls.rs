//! TLS: the same server, and the last word all the same.

mod support;

use rustls::version::{TLS12, TLS13};
use saywhy::{HttpLimits, Listening, Settings, Tls, TlsProblem};
use saywhy_proto::frame::Opcode;
use serde_json::json;
use std::time::Duration;
use support::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// The page that may connect: it came over TLS too.
const PAGE: &[(&str, &str)] = &[("Origin", "https://app.test")];

fn front(certificate: &Certificate) -> Front {
    Front::Listening(Listening { tls: Some(certificate.tls()), ..Listening::default() })
}

async fn ask(house: &House, certificate: &Certificate, target: &str, headers: &[(&str, &str)]) -> Client {
    house.another();
    let mut client = house.tls(certificate, &["http/1.1"]).await;
    client.raw(handshake(target, headers).as_bytes()).await;
    client
}

#[test]
fn a_session_and_a_refusal_with_each_version() {
    let certificate = Certificate::new();
    house_with(front(&certificate), Settings::default(), desk(&Desk::default()), async |house| {
        for version in [&TLS12, &TLS13] {
            let tcp = TcpStream::connect(house.addr).await.unwrap();
            let tls = certificate.connect_by(&[version], tcp, &[]).await.unwrap();
            assert_eq!(tls.get_ref().1.protocol_version(), Some(version.version));
        }
        let mut client = ask(house, &certificate, "/ws", PAGE).await;
        assert_eq!(client.head().await.status, 101);
        assert_eq!(client.message().await["type"], "ready");
        client.text(json!({ "type": "echo", "data": { "text": "hello" }, "meta": { "request_id": "1" } })).await;
        assert_eq!(client.message().await["data"]["text"], "hello");
        client.leave().await;
        let mut client = ask(house, &certificate, "/nowhere", PAGE).await;
        let head = client.head().await;
        assert_eq!((head.status, head.get("saywhy-refused")), (101, "not_found"));
        // FIN here is a close_notify before it: without one rustls reports an error.
        let word = client.last_word().await;
        assert_eq!((word.code, &*word.reason), (4001, "There is nothing of that name"));
    });
}

#[test]
fn long_messages_go_both_ways_and_a_slow_reader_gets_all() {
    let certificate = Certificate::new();
    house_with(front(&certificate), Settings::default(), desk(&Desk::default()), async |house| {
        let mut client = ask(house, &certificate, "/ws", &[]).await;
        assert_eq!(client.head().await.status, 101);
        client.message().await;
        // More than the socket, TLS and we hold together, and nobody reads meanwhile.
        let times = 4_000_000;
        for n in 0..4 {
            client
                .text(json!({ "type": "repeat", "data": { "times": times }, "meta": { "request_id": n.to_string() } }))
                .await;
        }
        for n in 0..4 {
            let answer = client.message().await;
            assert_eq!(answer["meta"]["request_id"], n.to_string());
            assert_eq!(answer["data"].as_str().unwrap().len(), times);
        }
        let long = "y".repeat(60_000);
        client.text(json!({ "type": "echo", "data": { "text": long }, "meta": { "request_id": "l" } })).await;
        assert_eq!(client.message().await["data"]["text"], long);
        client.leave().await;
    });
}

#[test]
fn a_reader_that_stopped_is_cut_at_the_write_deadline() {
    let certificate = Certificate::new();
    let settings = limits(|limits| limits.write = Duration::from_millis(50));
    house_with(front(&certificate), settings, desk(&Desk::default()), async |house| {
        let mut client = ask(house, &certificate, "/ws", &[]).await;
        client.head().await;
        client.text(json!({ "type": "repeat", "data": { "times": 20_000_000 }, "meta": { "request_id": "1" } })).await;
        let ending = house.ending().await;
        assert_eq!(ending.get("cause"), "write_timed_out", "{ending}");
    });
}

#[test]
fn whoever_ends_without_a_close_notify_is_lost_like_anyone() {
    let certificate = Certificate::new();
    house_with(front(&certificate), Settings::default(), desk(&Desk::default()), async |house| {
        house.another();
        let tcp = TcpStream::connect(house.addr).await.unwrap();
        let mut tls = certificate.connect(tcp, &[]).await.unwrap();
        tls.write_all(handshake("/ws", &[]).as_bytes()).await.unwrap();
        let mut some = [0; 64];
        tls.read_exact(&mut some).await.unwrap();
        // After the Close, as some do: it is confirmed, and ended by both.
        tls.write_all(&wire(true, Opcode::Close, &1000_u16.to_be_bytes())).await.unwrap();
        tls.get_mut().0.shutdown().await.unwrap();
        let ending = house.ending().await;
        assert_eq!((ending.get("cause"), ending.get("confirmed")), ("peer_closed", "true"), "{ending}");

        let tcp = TcpStream::connect(house.addr).await.unwrap();
        let mut tls = certificate.connect(tcp, &[]).await.unwrap();
        house.another();
        tls.write_all(handshake("/ws", &[]).as_bytes()).await.unwrap();
        tls.read_exact(&mut some).await.unwrap();
        tls.get_mut().0.shutdown().await.unwrap();
        assert_eq!(house.ending().await.get("cause"), "lost_eof");
    });
}

/// A thread that reads as soon as there is anything sees all of it, or it was not one write.
#[test]
fn the_101_the_message_and_the_close_leave_in_one_write() {
    let certificate = Certificate::new();
    house_with(front(&certificate), tireless(), desk(&Desk::default()), async |house| {
        for _ in 0..50 {
            let mut client = ask(house, &certificate, "/nowhere", PAGE).await;
            client.fill().await.unwrap();
            assert!(client.has(b"HTTP/1.1 101 ") && client.has(b"There is nothing of that name"));
            client.head().await;
            client.last_word().await;
        }
    });
}

#[test]
fn a_page_without_tls_is_of_another_origin() {
    let certificate = Certificate::new();
    house_with(front(&certificate), Settings::default(), desk(&Desk::default()), async |house| {
        let mut client = ask(house, &certificate, "/ws", &[("Origin", "http://app.test")]).await;
        assert_eq!(client.head().await.get("saywhy-refused"), "forbidden");
        client.last_word().await;
    });
}

#[test]
fn plain_http_is_told_what_is_spoken_here() {
    let certificate = Certificate::new();
    house_with(front(&certificate), Settings::default(), desk(&Desk::default()), async |house| {
        for request in [handshake("/ws", PAGE), "GET / HTTP/1.1\r\nHost: app.test\r\n\r\n".to_owned()] {
            let mut client = house.raw(request.as_bytes()).await;
            let (head, problem) = client.problem().await;
            assert_eq!((head.status, head.get("connection")), (400, "close"));
            assert_eq!(problem["detail"], "This port speaks TLS: connect with wss:// or https://");
            assert_eq!(client.next().await, Seen::Fin);
            if request.contains("websocket") {
                house.another();
                let ending = house.ending().await;
                assert_eq!(
                    (ending.get("stage"), ending.get("connection_id")),
                    ("handshake", problem["request_id"].as_str().unwrap())
                );
            }
        }
    });
}

#[test]
fn what_is_neither_tls_nor_http_is_ended() {
    let certificate = Certificate::new();
    house_with(front(&certificate), Settings::default(), desk(&Desk::default()), async |house| {
        for garbage in
            [&b"\x16\x03\x01\x00\x05hello"[..], b"\x16garbage that is long enough to be judged", b"\0\0\0\0\r\n\r\n"]
        {
            let mut client = house.raw(garbage).await;
            while client.fill().await.is_ok_and(|read| read > 0) {}
        }
    });
}

#[test]
fn a_handshake_that_never_ends_is_cut_at_the_deadline_of_the_head() {
    let certificate = Certificate::new();
    let limits = HttpLimits { head: Duration::from_millis(20), ..HttpLimits::default() };
    let front = Front::Listening(Listening { limits, tls: Some(certificate.tls()), ..Listening::default() });
    house_with(front, Settings::default(), desk(&Desk::default()), async |house| {
        for beginning in [&b""[..], b"\x16", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"] {
            let mut client = house.raw(beginning).await;
            while client.fill().await.is_ok_and(|read| read > 0) {}
        }
        // One deadline over all of it: a head that is begun is told.
        let mut client = house.tls(&certificate, &[]).await;
        client.raw(b"GET /ws HTTP/1.1\r\nHost: app").await;
        let (head, problem) = client.problem().await;
        assert_eq!((head.status, problem["name"].as_str()), (408, Some("timeout")));
        assert_eq!(client.next().await, Seen::Fin);
    });
}

#[test]
fn a_new_certificate_is_for_new_connections_and_a_bad_one_for_nobody() {
    let mut certificate = Certificate::new();
    let tls = certificate.tls();
    let front = Front::Listening(Listening { tls: Some(tls.clone()), ..Listening::default() });
    house_with(front, Settings::default(), desk(&Desk::default()), async |house| {
        let mut standing = ask(house, &certificate, "/ws", &[]).await;
        standing.head().await;
        assert_eq!(standing.message().await["type"], "ready");
        let old = Certificate { folder: "/nowhere".into(), der: certificate.der.clone() };
        let shown = async |certificate: &Certificate| {
            let tcp = TcpStream::connect(house.addr).await.unwrap();
            certificate.connect(tcp, &[]).await.is_ok()
        };

        // Half of it: the key of another.
        let key = std::fs::read(certificate.key()).unwrap();
        certificate.renew();
        let new_key = std::fs::read(certificate.key()).unwrap();
        std::fs::write(certificate.key(), key).unwrap();
        assert!(tls.has_changed());
        let problem = tls.reload().unwrap_err();
        assert!(matches!(problem, TlsProblem::Mismatch { .. }), "{problem}");
        assert!(shown(&old).await && !shown(&certificate).await, "the old one is kept");

        std::fs::write(certificate.key(), new_key).unwrap();
        tls.reload().unwrap();
        assert!(!tls.has_changed());
        assert!(shown(&certificate).await && !shown(&old).await, "the new one is shown");

        // Whoever was there has noticed nothing.
        standing.text(json!({ "type": "echo", "data": { "text": "still here" }, "meta": { "request_id": "1" } })).await;
        assert_eq!(standing.message().await["data"]["text"], "still here");
        standing.leave().await;
    });
}

#[test]
fn what_is_wrong_with_the_files_is_said() {
    let (certificate, other) = (Certificate::new(), Certificate::new());
    let said = |cert: &std::path::Path, key: &std::path::Path| Tls::from_files(cert, key).unwrap_err().to_string();
    let nowhere = certificate.folder.join("nowhere.pem");
    assert!(said(&nowhere, &certificate.key()).starts_with("cannot read "));
    assert!(said(&certificate.key(), &certificate.key()).starts_with("there is no certificate in PEM in "));
    assert!(said(&certificate.file(), &certificate.file()).starts_with("there is no private key in PEM in "));
    assert!(said(&certificate.file(), &other.key()).contains(" is not that of the certificate in "));
    let large = certificate.folder.join("large.pem");
    std::fs::write(&large, vec![b'x'; 2 << 20]).unwrap();
    assert!(said(&large, &certificate.key()).ends_with("it is larger than 1 MiB"));
}
