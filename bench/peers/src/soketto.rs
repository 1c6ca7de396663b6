//! soketto, after `examples/autobahn_server.rs`. It is not measured: for `conformance/violations` only.

use crate::LIMIT;
use futures_util::io::{BufReader, BufWriter};
use soketto::Data;
use soketto::handshake::Server;
use soketto::handshake::server::Response;
use tokio::net::TcpStream;
use tokio_util::compat::TokioAsyncReadCompatExt as _;

pub(crate) async fn serve_limited(tcp: TcpStream) {
    // A client that goes is no news.
    let _ = echo(tcp).await;
}

async fn echo(tcp: TcpStream) -> Result<(), soketto::BoxedError> {
    let mut server = Server::new(BufReader::new(BufWriter::new(tcp.compat())));
    let key = server.receive_request().await?.key();
    server.send_response(&Response::Accept { key, protocol: None }).await?;
    let mut ws = server.into_builder();
    ws.set_max_message_size(LIMIT);
    ws.set_max_frame_size(LIMIT);
    let (mut sender, mut receiver) = ws.finish();
    let mut message = Vec::new();
    loop {
        message.clear();
        match receiver.receive_data(&mut message).await? {
            Data::Binary(_) => sender.send_binary_mut(&mut message).await?,
            Data::Text(_) => sender.send_text(std::str::from_utf8(&message)?).await?,
        }
        sender.flush().await?;
    }
}
