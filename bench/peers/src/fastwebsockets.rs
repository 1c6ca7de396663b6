//! fastwebsockets on hyper, after `examples/echo_server.rs`. It has no way to put frames together before it writes.

use crate::LIMIT;
use fastwebsockets::upgrade::{UpgradeFut, upgrade};
use fastwebsockets::{FragmentCollector, OpCode, WebSocketError};
use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::unconstrained;

/// Its own default for the size of a message.
const DEFAULT: usize = 64 << 20;

pub(crate) async fn serve(tcp: TcpStream) {
    serve_with(DEFAULT, tcp).await;
}

pub(crate) async fn serve_limited(tcp: TcpStream) {
    serve_with(LIMIT, tcp).await;
}

async fn serve_with(limit: usize, tcp: TcpStream) {
    let answer = service_fn(move |request| answer(limit, request));
    // A client that goes is no news.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(tcp), answer).with_upgrades().await;
}

async fn answer(limit: usize, mut request: Request<Incoming>) -> Result<Response<Empty<Bytes>>, WebSocketError> {
    let (response, upgraded) = upgrade(&mut request)?;
    tokio::spawn(unconstrained(async move { drop(echo(limit, upgraded).await) }));
    Ok(response)
}

async fn echo(limit: usize, upgraded: UpgradeFut) -> Result<(), WebSocketError> {
    let mut ws = upgraded.await?;
    ws.set_max_message_size(limit);
    let mut ws = FragmentCollector::new(ws);
    loop {
        let frame = ws.read_frame().await?;
        match frame.opcode {
            OpCode::Close => return Ok(()),
            OpCode::Text | OpCode::Binary => ws.write_frame(frame).await?,
            OpCode::Continuation | OpCode::Ping | OpCode::Pong => {}
        }
    }
}
