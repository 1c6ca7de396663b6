//! Connecting from many addresses and ports, so that neither runs out.
//!
//! A port that was used a moment ago cannot be used again for a while (TIME_WAIT). So each connection takes the next
//! of some three million pairs of address and port, from a place that is another in each run.

use mio::net::TcpStream;
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::SystemTime;

const ADDRESSES: u64 = 64;
const FIRST_PORT: u64 = 10_000;
const PORTS: u64 = 50_000;
/// So many pairs in a row may be taken by others.
const TRIES: usize = 1_000;

pub(crate) struct Sources {
    next: u64,
}

impl Sources {
    pub(crate) fn new() -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self { next: now.as_millis() as u64 * 40_503 }
    }

    /// Begins to connect.
    pub(crate) fn connect(&mut self, to: SocketAddr) -> io::Result<TcpStream> {
        for _ in 0..TRIES {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
            socket.set_nonblocking(true)?;
            socket.set_reuse_address(true)?;
            socket.set_tcp_nodelay(true)?;
            match socket.bind(&self.next().into()).and_then(|()| begin(&socket, to)) {
                Ok(()) => return Ok(TcpStream::from_std(socket.into())),
                Err(error) if matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::AddrNotAvailable) => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::other("no free pair of address and port"))
    }

    /// Addresses take turns, so that each has as many connections as any other.
    fn next(&mut self) -> SocketAddr {
        self.next += 1;
        let address = Ipv4Addr::new(127, 0, 0, 2 + (self.next % ADDRESSES) as u8);
        let port = FIRST_PORT + self.next / ADDRESSES % PORTS;
        SocketAddr::new(address.into(), port as u16)
    }
}

fn begin(socket: &Socket, to: SocketAddr) -> io::Result<()> {
    match socket.connect(&to.into()) {
        // EINPROGRESS: it is under way.
        Err(error) if error.raw_os_error() == Some(115) => Ok(()),
        done => done,
    }
}
