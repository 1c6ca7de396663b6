//! tokio-tungstenite, after `examples/echo-server.rs`; and once more with the smaller read buffer that its documentation
//! has for many connections, because it clears the whole of its buffer before each read.

use crate::{LIMIT, echo, echo_past_errors};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::{accept_async, accept_async_with_config};

pub(crate) async fn serve(tcp: TcpStream) {
    let Ok(ws) = accept_async(tcp).await else { return };
    echo(ws, is_data).await;
}

pub(crate) async fn serve_with_small_buffer(tcp: TcpStream) {
    let config = WebSocketConfig::default().read_buffer_size(4 * 1024);
    let Ok(ws) = accept_async_with_config(tcp, Some(config)).await else { return };
    echo(ws, is_data).await;
}

pub(crate) async fn serve_limited(tcp: TcpStream) {
    let config = WebSocketConfig::default().max_message_size(Some(LIMIT)).max_frame_size(Some(LIMIT));
    let Ok(ws) = accept_async_with_config(tcp, Some(config)).await else { return };
    echo_past_errors(ws, is_data).await;
}

fn is_data(message: &Message) -> bool {
    message.is_text() || message.is_binary()
}

/// What an application writes by hand to refuse so that a browser can read it.
pub(crate) async fn refuse(tcp: TcpStream) {
    let Ok(mut ws) = accept_async(tcp).await else { return };
    let words = r#"{"type":"error","data":{"code":4003,"message":"A token is needed: sign in","name":"unauthorized","fatal":true,"retry":"reauthenticate"},"meta":{"request_id":"0190b3f2a97c7a3e8f5d1c2b3a4d5e6f","timestamp":"2026-11-20T12:00:00Z"}}"#;
    let close = CloseFrame { code: 4003.into(), reason: "A token is needed: sign in".into() };
    if ws.feed(Message::text(words)).await.is_ok() && ws.close(Some(close)).await.is_ok() {
        // Until the client's Close: otherwise it may lose ours.
        while let Some(Ok(_)) = ws.next().await {}
    }
}
