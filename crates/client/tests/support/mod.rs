//! A server with rooms in this process, a proxy that cuts, and servers that are none.

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::any;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use saywhy::catalogue::OVERLOADED;
use saywhy::{
    Admission, DrainPlan, Drained, ErrorMessage, Gate, Listening, Message, Refusal, Session, Settings, Tls, TokenKeys,
    TokenSigner,
};
use saywhy_client::Connect;
use saywhy_rooms::broker::{Broker as _, MemoryBroker, MemoryLimits, Publication};
use saywhy_rooms::{Authenticate, Claims, Permission, Rooms, RoomsSettings};
use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, oneshot, watch};

const SECRET: &[u8] = b"a secret of the tests, of 32 characters or more";

/// What does not happen in this time does not happen at all.
const SOON: Duration = Duration::from_secs(20);

pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, future).await.expect("it did not happen in time")
}

/// A token that permits everything.
pub(crate) fn token(sub: &str, seconds: u64) -> String {
    let all = vec![Permission::Join, Permission::Send, Permission::History, Permission::Members, Permission::Manage];
    let exp = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + seconds;
    let claims = Claims { sub: sub.to_owned(), exp, rooms: BTreeMap::from([("*".to_owned(), all)]) };
    TokenSigner::hs256(SECRET).sign(&claims).unwrap()
}

#[derive(Clone)]
struct Served {
    rooms: Rooms,
    keys: Arc<TokenKeys>,
    authenticate: Authenticate,
    asked: Arc<AtomicUsize>,
}

async fn enter(admission: Admission, State(served): State<Served>) -> Result<Response, Refusal> {
    served.asked.fetch_add(1, Ordering::Relaxed);
    let claims: Claims = admission.authenticate(&served.keys).await?;
    let member = served.rooms.member(claims, Arc::clone(&served.authenticate));
    Ok(admission.accept(|session: Session| session.serve(member)))
}

/// Sends back what it hears, and at "close" is too busy.
async fn echo(admission: Admission) -> Response {
    admission.accept(|mut session: Session| async move {
        while let Some(message) = session.next().await {
            if matches!(&message, Message::Text(text) if text == "close") {
                return session.close(OVERLOADED.message()).await;
            }
            session.send(message);
        }
    })
}

struct Running {
    address: SocketAddr,
    gate: Gate,
    stop: Option<oneshot::Sender<()>>,
}

pub(crate) struct House {
    broker: Arc<MemoryBroker>,
    rooms: Rooms,
    asked: Arc<AtomicUsize>,
    tls: Option<(Tls, CertificateDer<'static>)>,
    running: Mutex<Running>,
}

impl House {
    pub(crate) async fn open() -> Self {
        Self::start(None).await
    }

    pub(crate) async fn open_with_tls() -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("client-tls-{}", std::process::id()));
        let [certificate, key] = ["cert.pem", "key.pem"].map(|name| folder.join(name));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(&certificate, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        let tls = Tls::from_files(&certificate, &key).unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        Self::start(Some((tls, made.cert.der().clone()))).await
    }

    async fn start(tls: Option<(Tls, CertificateDer<'static>)>) -> Self {
        let broker = Arc::new(MemoryBroker::new(MemoryLimits { history_entries: 10_000, ..MemoryLimits::default() }));
        broker.open("lobby").await.unwrap();
        let settings = RoomsSettings { replay_entries: 10_000, ..RoomsSettings::default() };
        let rooms = Rooms::new(Arc::clone(&broker) as _, settings);
        let asked = Arc::new(AtomicUsize::new(0));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let running =
            Mutex::new(serve(listener, settings_of_tests(), &rooms, &asked, tls.as_ref().map(|(tls, _)| tls.clone())));
        Self { broker, rooms, asked, tls, running }
    }

    /// The same rooms behind another gate, at the same address.
    pub(crate) async fn restart(&self) {
        self.change(|_| {}).await;
    }

    pub(crate) async fn change(&self, change: impl FnOnce(&mut Settings)) {
        let (address, stop) = {
            let mut running = self.running.lock().unwrap();
            (running.address, running.stop.take())
        };
        drop(stop);
        let listener = soon(async {
            loop {
                match TcpListener::bind(address).await {
                    Ok(listener) => return listener,
                    Err(_) => tokio::task::yield_now().await,
                }
            }
        })
        .await;
        let mut settings = settings_of_tests();
        change(&mut settings);
        *self.running.lock().unwrap() =
            serve(listener, settings, &self.rooms, &self.asked, self.tls.as_ref().map(|(tls, _)| tls.clone()));
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.running.lock().unwrap().address
    }

    pub(crate) fn at(&self, path: &str) -> String {
        match self.tls {
            Some(_) => format!("wss://localhost:{}{path}", self.address().port()),
            None => format!("ws://{}{path}", self.address()),
        }
    }

    pub(crate) fn url(&self) -> String {
        self.at("/ws")
    }

    pub(crate) fn connect(&self, who: &str) -> Connect {
        Connect::to(&self.url()).unwrap().token(token(who, 600))
    }

    /// What trusts the certificate of this house.
    pub(crate) fn trusting(&self) -> Option<Arc<ClientConfig>> {
        let (_, certificate) = self.tls.as_ref()?;
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        Some(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
    }

    /// How often somebody asked to come in.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    pub(crate) fn drain(&self, plan: DrainPlan) -> impl Future<Output = Drained> + use<> {
        let gate = self.running.lock().unwrap().gate.clone();
        async move { gate.drain(plan).await }
    }

    pub(crate) fn end_all(&self, error: ErrorMessage) {
        for session in self.running.lock().unwrap().gate.sessions() {
            session.close_now(error.clone());
        }
    }

    /// Somebody else says something.
    pub(crate) async fn say(&self, room: &str, words: &str) {
        let body = serde_json::to_string(words).unwrap().into();
        let publication = Publication { from: "somebody".into(), body, at: SystemTime::now(), idempotency_key: None };
        self.broker.publish(room, publication).await.unwrap();
    }

    /// The room begins anew.
    pub(crate) async fn forget(&self, room: &str) {
        self.broker.remove(room).await.unwrap();
        self.broker.open(room).await.unwrap();
    }
}

fn settings_of_tests() -> Settings {
    let limits = saywhy::Limits { messages_per_s: 0, ..saywhy::Limits::default() };
    Settings { limits: Arc::new(limits), ..Settings::default() }
}

fn serve(
    listener: TcpListener,
    settings: Settings,
    rooms: &Rooms,
    asked: &Arc<AtomicUsize>,
    tls: Option<Tls>,
) -> Running {
    let gate = Gate::new(settings.clone());
    let keys = Arc::new(TokenKeys::hs256(SECRET));
    let authenticate: Authenticate = {
        let (keys, gate) = (Arc::clone(&keys), gate.clone());
        Arc::new(move |session, token| {
            let (keys, gate) = (Arc::clone(&keys), gate.clone());
            Box::pin(async move { gate.renew(&session, &keys, &token).await })
        })
    };
    let served = Served { rooms: rooms.clone(), keys, authenticate, asked: Arc::clone(asked) };
    let plain = gate.with(Settings { envelope: false, subprotocols: vec!["chat".to_owned()], ..settings });
    let app = Router::new()
        .route("/ws", any(enter))
        .with_state(served)
        .layer(gate.clone())
        .merge(Router::new().route("/echo", any(echo)).layer(plain));
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let listening = Listening { tls, ..Listening::default() };
    tokio::spawn(saywhy::serve_with(listening, listener, app, async move {
        let _: Result<(), _> = stopped.await;
    }));
    Running { address, gate, stop: Some(stop) }
}

// ---- what stands in between --------------------------------------------------------------------------------------

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Nothing at present.
    No,
    Fin,
    Reset,
    /// Nothing goes through any more, and nobody is told.
    Silence,
}

/// Passes bytes on, until it is told to cut all connections off; the next ones go through.
pub(crate) struct Proxy {
    address: SocketAddr,
    cut: watch::Sender<(u64, Cut)>,
    swallows: Arc<AtomicBool>,
    swallowed: Arc<Notify>,
}

impl Proxy {
    pub(crate) async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let cut = watch::Sender::new((0, Cut::No));
        let (swallows, swallowed) = (Arc::new(AtomicBool::new(false)), Arc::new(Notify::new()));
        let proxy =
            Self { address, cut: cut.clone(), swallows: Arc::clone(&swallows), swallowed: Arc::clone(&swallowed) };
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(upstream) = TcpStream::connect(server).await else { continue };
                swallows.store(false, Ordering::Relaxed);
                let (swallows, swallowed) = (Arc::clone(&swallows), Arc::clone(&swallowed));
                tokio::spawn(pass(client, upstream, cut.subscribe(), swallows, swallowed));
            }
        });
        proxy
    }

    pub(crate) fn url(&self) -> String {
        format!("ws://{}/ws", self.address)
    }

    pub(crate) fn connect(&self, who: &str) -> Connect {
        Connect::to(&self.url()).unwrap().token(token(who, 600))
    }

    pub(crate) fn cut(&self, how: Cut) {
        self.cut.send_modify(|(count, cut)| (*count, *cut) = (*count + 1, how));
    }

    /// What a client says from now on is not passed on.
    pub(crate) fn swallow(&self) {
        self.swallows.store(true, Ordering::Relaxed);
    }

    pub(crate) async fn swallowed(&self) {
        self.swallowed.notified().await;
    }
}

async fn pass(
    mut client: TcpStream,
    mut upstream: TcpStream,
    mut cut: watch::Receiver<(u64, Cut)>,
    swallows: Arc<AtomicBool>,
    swallowed: Arc<Notify>,
) {
    cut.mark_unchanged();
    let (mut up, mut down) = ([0; 4096], [0; 4096]);
    loop {
        tokio::select! {
            read = client.read(&mut up) => match read {
                Ok(bytes) if bytes > 0 && swallows.load(Ordering::Relaxed) => swallowed.notify_one(),
                Ok(bytes) if bytes > 0 => if upstream.write_all(&up[..bytes]).await.is_err() { return },
                _ => return,
            },
            read = upstream.read(&mut down) => match read {
                Ok(bytes) if bytes > 0 => if client.write_all(&down[..bytes]).await.is_err() { return },
                _ => return,
            },
            _ = cut.changed() => break,
        }
    }
    let how = cut.borrow().1;
    match how {
        Cut::No | Cut::Fin => {}
        // With it, closing is a reset.
        Cut::Reset => client.set_zero_linger().unwrap(),
        Cut::Silence => {
            drop(upstream);
            tokio::time::sleep(SOON).await;
        }
    }
}

/// A server that gives this answer to everybody.
pub(crate) async fn answering(answer: &[u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let answer = answer.to_vec();
    tokio::spawn(async move {
        while let Ok((mut tcp, _)) = listener.accept().await {
            let mut head = [0; 4096];
            let _ = tcp.read(&mut head).await;
            let _ = tcp.write_all(&answer).await;
            let _ = tcp.shutdown().await;
        }
    });
    address
}

/// A server that takes connections, and says nothing.
pub(crate) async fn silent() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok(tcp) = listener.accept().await {
            held.push(tcp);
        }
    });
    address
}

/// Where nobody listens.
pub(crate) async fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

/// A server that takes every handshake, says this, perhaps after a `ready`, and nothing any more.
pub(crate) async fn upgrading(text: &'static str, ready: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((mut tcp, _)) = listener.accept().await {
            let mut head = [0; 4096];
            let read = tcp.read(&mut head).await.unwrap();
            let head = String::from_utf8_lossy(&head[..read]).into_owned();
            let key = head.lines().find_map(|line| line.strip_prefix("sec-websocket-key: ")).unwrap();
            let accept = accept_of(key);
            let head = format!(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
            );
            tcp.write_all(head.as_bytes()).await.unwrap();
            let said = ready.then_some(r#"{"type":"ready","data":{}}"#).into_iter().chain([text]);
            for text in said {
                let mut frame = vec![0x81, u8::try_from(text.len()).unwrap()];
                if text.len() > 125 {
                    frame = [&[0x81, 126][..], &u16::try_from(text.len()).unwrap().to_be_bytes()].concat();
                }
                frame.extend(text.as_bytes());
                tcp.write_all(&frame).await.unwrap();
            }
            held.push(tcp);
        }
    });
    address
}

fn accept_of(key: &str) -> String {
    use base64::Engine as _;
    use sha1::Digest as _;
    let digest = sha1::Sha1::digest(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11"));
    base64::engine::general_purpose::STANDARD.encode(digest)
}
