//! tokio-websockets, after `examples/echo_server.rs`, but that it writes up to 64 KiB at once instead of 8.

use crate::echo;
use tokio::net::TcpStream;
use tokio_websockets::{Config, Message, ServerBuilder};

pub(crate) async fn serve(tcp: TcpStream) {
    let config = Config::default().flush_threshold(64 * 1024);
    let Ok((_request, ws)) = ServerBuilder::new().config(config).accept(tcp).await else { return };
    echo(ws, |message: &Message| message.is_text() || message.is_binary()).await;
}
