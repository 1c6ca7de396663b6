//! Many clients on one thread.

use crate::client::Client;
use crate::sources::Sources;
use mio::{Events, Interest, Poll, Token};
use saywhy_proto::frame::Piece;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

/// What the clients do.
pub(crate) trait Work {
    /// A part of a message, or of a Close, has arrived.
    fn piece(&mut self, client: usize, piece: &Piece<'_>) -> io::Result<()>;

    /// All that had arrived at a client has been handed out.
    fn after(&mut self, client: usize, clients: &mut [Client]) -> io::Result<()>;
}

pub(crate) struct Crowd {
    address: SocketAddr,
    poll: Poll,
    events: Events,
    sources: Sources,
    pub(crate) clients: Vec<Client>,
    buffer: Vec<u8>,
    silent_turns: u32,
}

/// Connections that are opened at once: fewer than any server's backlog.
const OPENING: usize = 128;
const BUFFER_BYTES: usize = 256 * 1024;
const TURN: Duration = Duration::from_millis(100);
/// Nothing has happened for so many turns: the server is stuck.
const MAX_SILENT_TURNS: u32 = 200;

impl Crowd {
    pub(crate) fn new(address: SocketAddr) -> io::Result<Self> {
        Ok(Self {
            address,
            poll: Poll::new()?,
            events: Events::with_capacity(1024),
            sources: Sources::new(),
            clients: Vec::new(),
            buffer: vec![0; BUFFER_BYTES],
            silent_turns: 0,
        })
    }

    /// Opens connections until there are `count`.
    pub(crate) fn open(
        &mut self,
        count: usize,
        request: impl Fn(usize) -> Rc<[u8]>,
        work: &mut impl Work,
    ) -> io::Result<()> {
        let mut opened = self.clients.len();
        while opened < count {
            while self.clients.len() < count.min(opened + OPENING) {
                let index = self.clients.len();
                let mut client = Client::new(self.sources.connect(self.address)?);
                client.send_later(request(index));
                let both = Interest::READABLE | Interest::WRITABLE;
                self.poll.registry().register(&mut client.tcp, Token(index), both)?;
                self.clients.push(client);
            }
            self.turn(work)?;
            // In the order in which they began, nearly.
            while self.clients.get(opened).is_some_and(Client::is_open) {
                opened += 1;
            }
        }
        Ok(())
    }

    /// Waits for events and serves them. A connection that ends is a failure.
    pub(crate) fn turn(&mut self, work: &mut impl Work) -> io::Result<()> {
        if let Err(error) = self.poll.poll(&mut self.events, Some(TURN))
            && error.kind() != io::ErrorKind::Interrupted
        {
            return Err(error);
        }
        self.silent_turns = if self.events.is_empty() { self.silent_turns + 1 } else { 0 };
        if self.silent_turns > MAX_SILENT_TURNS {
            return Err(io::Error::other("the server is silent"));
        }
        for event in &self.events {
            let index = event.token().0;
            let Some(client) = self.clients.get_mut(index) else { continue };
            let failed = |error| named(index, error);
            if event.is_writable() {
                client.flush().map_err(failed)?;
            }
            if event.is_readable() || event.is_read_closed() {
                let take = |piece: &Piece<'_>| work.piece(index, piece);
                client.receive(&mut self.buffer, event.is_read_closed(), take).map_err(failed)?;
                if client.ended {
                    return Err(named(index, io::Error::other("the server ended it")));
                }
                work.after(index, &mut self.clients).map_err(failed)?;
            }
        }
        Ok(())
    }
}

fn named(client: usize, error: io::Error) -> io::Error {
    io::Error::other(format!("connection {client}: {error}"))
}
