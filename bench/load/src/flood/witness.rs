//! The client next to the one that means harm: it sends messages, and waits for each to come back.

use super::read_head;
use crate::{Target, client};
use saywhy_proto::frame::Opcode;
use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

const MESSAGE: &[u8] = b"Am I still heard?";
/// Between two messages, so that no limit on how many a second is reached.
const PAUSE: Duration = Duration::from_millis(100);

pub(super) struct Witness {
    tcp: TcpStream,
    sends: Vec<u8>,
}

impl Witness {
    pub(super) fn enter(target: &Target, patience: Duration) -> io::Result<Self> {
        let mut tcp = TcpStream::connect(target.address)?;
        tcp.set_nodelay(true)?;
        tcp.write_all(&client::request(target.address, &target.path, ""))?;
        read_head(&mut tcp)?;
        tcp.set_read_timeout(Some(patience))?;
        Ok(Self { tcp, sends: client::data(Opcode::Text, MESSAGE) })
    }

    pub(super) fn echo(&mut self) -> io::Result<()> {
        self.tcp.write_all(&self.sends).map_err(lost)?;
        let mut answer = [0; 2 + MESSAGE.len()];
        self.tcp.read_exact(&mut answer).map_err(lost)?;
        if &answer[2..] != MESSAGE {
            return Err(io::Error::other("the other client got something else"));
        }
        Ok(())
    }

    /// Has one message after the other come back, until `done`; how many. The first is sent when the flood begins.
    pub(super) fn echo_until(&mut self, done: &Receiver<()>) -> io::Result<u64> {
        for echoes in 1.. {
            self.echo()?;
            if done.recv_timeout(PAUSE) != Err(RecvTimeoutError::Timeout) {
                return Ok(echoes);
            }
        }
        unreachable!("it has an end")
    }
}

fn lost(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => io::Error::other("the other client got no echo"),
        _ => io::Error::other(format!("the other client was cut: {error}")),
    }
}
