//! tokio-websockets, after `examples/echo_server.rs`, but that it writes up to 64 KiB at once instead of 8.

use crate::{LIMIT, echo, echo_past_errors};
use tokio::net::TcpStream;
use tokio_websockets::{Config, Limits, Message, ServerBuilder};

pub(crate) async fn serve(tcp: TcpStream) {
    let config = Config::default().flush_threshold(64 * 1024);
    let Ok((_request, ws)) = ServerBuilder::new().config(config).accept(tcp).await else { return };
    echo(ws, is_data).await;
}

pub(crate) async fn serve_limited(tcp: TcpStream) {
    let limits = Limits::default().max_payload_len(Some(LIMIT));
    let Ok((_request, ws)) = ServerBuilder::new().limits(limits).accept(tcp).await else { return };
    echo_past_errors(ws, is_data).await;
}

fn is_data(message: &Message) -> bool {
    message.is_text() || message.is_binary()
}
