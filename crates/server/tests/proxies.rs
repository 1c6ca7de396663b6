//! Proxies in front: whose word counts about where a connection comes from, over real sockets.

mod support;

use axum::Router;
use axum::response::Response;
use axum::routing::any;
use saywhy::{Admission, ForwardedHeader, HttpLimits, Listening, Proxies, Refusal, Settings};
use std::time::Duration;
use support::*;

/// Connections come from 127.0.0.1, which is a proxy or is not.
fn front(trusted: &str, proxy_protocol: bool, header: ForwardedHeader) -> Front {
    let proxies = Proxies { trusted: vec![trusted.parse().unwrap()], proxy_protocol, header };
    Front::Listening(Listening { proxies, ..Listening::default() })
}

const OURS: &str = "127.0.0.0/8";
const OTHERS: &str = "10.0.0.0/8";
const V1: &str = "PROXY TCP4 203.0.113.9 127.0.0.1 4711 80\r\n";

/// Tells its client where it comes from.
fn mirror() -> Router {
    let peer = async |admission: Admission| {
        let peer = admission.peer().unwrap().to_string();
        Ok::<Response, Refusal>(admission.accept(async move |session| {
            session.outbox().send("peer", &peer).unwrap();
            session.each(|_| None).await;
        }))
    };
    Router::new().route("/ws", any(peer))
}

/// Where the application, and the log, see a connection come from.
async fn peer(house: &House, before: &str, headers: &[(&str, &str)]) -> String {
    let mut client = house.ask_raw(&(before.to_owned() + &handshake("/ws", headers))).await;
    assert_eq!(client.head().await.status, 101);
    let said = loop {
        let message = client.message().await;
        if message["type"] == "peer" {
            break message["data"].as_str().unwrap().to_owned();
        }
    };
    client.leave().await;
    assert_eq!(house.ending().await.get("peer"), said);
    said
}

#[test]
fn headers_of_a_trusted_proxy_count_and_those_of_others_do_not() {
    let headers = [("X-Forwarded-For", "198.51.100.1, 203.0.113.9"), ("Forwarded", "for=192.0.2.1")];
    let cases = [
        (OURS, ForwardedHeader::XForwardedFor, "203.0.113.9"),
        (OURS, ForwardedHeader::Forwarded, "192.0.2.1"),
        (OURS, ForwardedHeader::None, "127.0.0.1"),
        (OTHERS, ForwardedHeader::XForwardedFor, "127.0.0.1"),
        (OTHERS, ForwardedHeader::Forwarded, "127.0.0.1"),
    ];
    for (trusted, header, expected) in cases {
        house_with(front(trusted, false, header), Settings::default(), mirror(), async |house| {
            assert_eq!(peer(house, "", &headers).await, expected);
        });
    }
    // By default nobody is believed.
    house(Settings::default(), mirror(), async |house| assert_eq!(peer(house, "", &headers).await, "127.0.0.1"));
}

#[test]
fn the_proxy_protocol_is_spoken_with_trusted_proxies_only() {
    let header = ForwardedHeader::XForwardedFor;
    house_with(front(OURS, true, header), Settings::default(), mirror(), async |house| {
        assert_eq!(peer(house, V1, &[]).await, "203.0.113.9");
        assert_eq!(peer(house, "PROXY TCP6 2001:db8::9 ::1 4711 80\r\n", &[]).await, "2001:db8::9");
        assert_eq!(peer(house, "PROXY UNKNOWN\r\n", &[]).await, "127.0.0.1", "a health check of its own");
        // The client is no proxy of ours, whatever it says.
        assert_eq!(peer(house, V1, &[("X-Forwarded-For", "192.0.2.1")]).await, "203.0.113.9");
        // But a proxy behind a proxy is.
        let inner = "PROXY TCP4 127.0.0.2 127.0.0.1 4711 80\r\n";
        assert_eq!(peer(house, inner, &[("X-Forwarded-For", "192.0.2.1")]).await, "192.0.2.1");
        for bad in [handshake("/ws", &[]).as_bytes(), b"PROXY TCP4 nobody 127.0.0.1 1 2\r\n", &[b'P'; 300]] {
            let mut client = house.raw(bad).await;
            assert!(matches!(client.next().await, Seen::Fin | Seen::Reset), "it is ended");
        }
    });
    for proxies in [front(OTHERS, true, header), front(OURS, false, header), Front::Saywhy] {
        house_with(proxies, Settings::default(), mirror(), async |house| {
            let mut client = house.raw((V1.to_owned() + &handshake("/ws", &[])).as_bytes()).await;
            assert_eq!(client.head().await.status, 400);
            assert_eq!(peer(house, "", &[]).await, "127.0.0.1", "it is not asked for");
        });
    }
}

#[test]
fn the_proxy_protocol_comes_before_tls() {
    let certificate = Certificate::new();
    let proxies = Proxies { trusted: vec![OURS.parse().unwrap()], proxy_protocol: true, ..Proxies::default() };
    let front = Front::Listening(Listening { tls: Some(certificate.tls()), proxies, ..Listening::default() });
    house_with(front, Settings::default(), mirror(), async |house| {
        house.another();
        let mut client = house.tls_after(V1.as_bytes(), &certificate).await;
        client.raw(handshake("/ws", &[]).as_bytes()).await;
        client.head().await;
        assert_eq!(client.message().await["type"], "ready");
        assert_eq!(client.message().await["data"], "203.0.113.9");
        client.leave().await;
    });
}

#[test]
fn a_header_that_never_ends_is_cut_at_the_deadline_of_the_head() {
    let limits = HttpLimits { head: Duration::from_millis(20), ..HttpLimits::default() };
    let proxies = Proxies { trusted: vec![OURS.parse().unwrap()], proxy_protocol: true, ..Proxies::default() };
    let front = Front::Listening(Listening { limits, proxies, tls: None });
    house_with(front, Settings::default(), mirror(), async |house| {
        for beginning in ["", "PROXY", "PROXY TCP4 203.0.113.9 127.0.0.1 4711", "\r\n\r\n\0\r\nQUIT\n\x21\x11\x0f\x00"]
        {
            let mut client = house.raw(beginning.as_bytes()).await;
            assert_eq!(client.next().await, Seen::Fin, "{beginning:?}");
        }
    });
}

#[test]
fn the_address_that_counts_is_the_one_that_is_limited() {
    let settings = Settings { connections_per_address: 1, ..Settings::default() };
    house_with(front(OURS, false, ForwardedHeader::XForwardedFor), settings, mirror(), async |house| {
        let mut clients = Vec::new();
        for address in ["203.0.113.1", "203.0.113.2"] {
            let mut client = house.ask("/ws", &[("X-Forwarded-For", address)]).await;
            assert_eq!(client.head().await.status, 101, "each of them has one");
            assert_eq!(client.message().await["type"], "ready");
            clients.push(client);
        }
        let mut third = house.ask("/ws", &[("X-Forwarded-For", "203.0.113.2")]).await;
        let (head, problem) = third.problem().await;
        assert_eq!((head.status, problem["name"].as_str()), (429, Some("rate_limited")));
        for client in clients {
            client.leave().await;
        }
    });
}

#[test]
fn behind_a_proxy_that_ends_tls_a_page_of_the_same_origin_came_over_tls() {
    house_with(front(OURS, false, ForwardedHeader::XForwardedFor), Settings::default(), mirror(), async |house| {
        let cases = [
            ("https://app.test", "https", 101, ""),
            ("http://app.test", "http", 101, ""),
            ("http://app.test", "https", 101, "forbidden"),
            ("https://app.test", "http", 101, "forbidden"),
            ("https://app.test", "unknown", 101, ""),
        ];
        for (origin, proto, status, refused) in cases {
            let mut client = house.ask("/ws", &[("Origin", origin), ("X-Forwarded-Proto", proto)]).await;
            let head = client.head().await;
            assert_eq!((head.status, head.get("saywhy-refused")), (status, refused), "{origin} {proto}");
            match refused {
                "" => client.leave().await,
                _ => drop(client.last_word().await),
            }
        }
    });
    // Of someone else it is not looked at.
    house_with(front(OTHERS, false, ForwardedHeader::XForwardedFor), Settings::default(), mirror(), async |house| {
        let mut client = house.ask("/ws", &[("Origin", "http://app.test"), ("X-Forwarded-Proto", "https")]).await;
        assert_eq!(client.head().await.get("saywhy-refused"), "");
        client.leave().await;
    });
}
