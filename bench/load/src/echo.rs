//! Echoes: each connection sends a batch of messages, waits until all have come back, and sends it again.

use crate::Target;
use crate::client::{self, Client};
use crate::crowd::{Crowd, Work};
use crate::window::Window;
use clap::Args;
use saywhy_proto::frame::{Opcode, Piece};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;

#[derive(Args)]
pub(crate) struct Settings {
    /// How many; of several numbers, one after the other, each measured.
    #[arg(long, value_delimiter = ',', default_value = "64")]
    connections: Vec<usize>,
    /// Of these, so many have a batch under way at a time, in turn.
    #[arg(long)]
    active: Option<usize>,
    /// Always the same ones: the others are there, and idle.
    #[arg(long)]
    same: bool,
    /// Messages in a batch, written at once.
    #[arg(long, default_value_t = 1)]
    batch: usize,
    /// Bytes in a message.
    #[arg(long, default_value_t = 64)]
    bytes: usize,
    /// Binary messages, not text.
    #[arg(long)]
    binary: bool,
}

pub(crate) fn run(target: &Target, settings: &Settings) -> io::Result<Value> {
    let mut crowd = Crowd::new(target.address)?;
    let mut echo = Echo::new(settings.batch, settings.bytes, settings.binary, false);
    let request = client::request(target.address, &target.path, "");
    let mut stages = Vec::new();
    for &count in &settings.connections {
        let had = crowd.clients.len();
        crowd.open(count, |_| Rc::clone(&request), &mut echo)?;
        for client in had..count {
            echo.join(client);
        }
        echo.same = settings.same;
        let active = settings.active.unwrap_or(count);
        echo.start(active, &mut crowd.clients)?;
        let mut window = Window::new(target)?;
        let measured = loop {
            crowd.turn(&mut echo)?;
            if let Some(measured) = window.look(echo.returned) {
                break measured;
            }
        };
        let mut stage = measured.json();
        stage["connections"] = json!(count);
        stages.push(stage);
    }
    let mut result = stages.first().cloned().unwrap_or_default();
    result["attempts"] = json!(echo.sent);
    result["returned"] = json!(echo.returned);
    result["under_way"] = json!(echo.sent - echo.returned);
    result["stages"] = json!(stages);
    Ok(result)
}

/// The messages of each connection, and what has come back of them.
pub(crate) struct Echo {
    batch: usize,
    bytes: usize,
    opcode: Opcode,
    talkers: Vec<Talker>,
    /// Each connection has its turn once only.
    once: bool,
    /// Those who have nothing under way, the longest idle first.
    idle: VecDeque<usize>,
    /// Who was last has the next turn as well.
    same: bool,
    /// How many may have something under way, and how many do.
    active: usize,
    talking: usize,
    pub(crate) sent: u64,
    returned: u64,
}

/// No two messages of a connection's batch are alike, and no two connections have the same ones.
struct Talker {
    wire: Rc<[u8]>,
    payloads: Vec<Vec<u8>>,
    /// Messages of the batch that are back, and bytes of the next.
    back: usize,
    offset: usize,
}

impl Echo {
    pub(crate) fn new(batch: usize, bytes: usize, binary: bool, once: bool) -> Self {
        let opcode = if binary { Opcode::Binary } else { Opcode::Text };
        let (talkers, idle) = (Vec::new(), VecDeque::new());
        Self { batch, bytes, opcode, talkers, once, idle, same: false, active: 0, talking: 0, sent: 0, returned: 0 }
    }

    /// One more connection takes part.
    pub(crate) fn join(&mut self, client: usize) {
        let payloads: Vec<_> = (0..self.batch).map(|message| self.payload(client, message)).collect();
        let wire: Vec<u8> = payloads.iter().flat_map(|payload| client::data(self.opcode, payload)).collect();
        self.idle.push_back(self.talkers.len());
        self.talkers.push(Talker { wire: wire.into(), payloads, back: 0, offset: 0 });
    }

    fn payload(&self, client: usize, message: usize) -> Vec<u8> {
        let name = format!("message {message} of connection {client}; ");
        name.bytes().cycle().take(self.bytes).collect()
    }

    /// Lets `active` connections have a batch under way.
    pub(crate) fn start(&mut self, active: usize, clients: &mut [Client]) -> io::Result<()> {
        self.active = active;
        self.talk(clients)
    }

    /// Nothing is under way, and nobody waits for a turn.
    pub(crate) fn is_quiet(&self) -> bool {
        self.talking == 0 && self.idle.is_empty()
    }

    fn talk(&mut self, clients: &mut [Client]) -> io::Result<()> {
        while self.talking < self.active {
            let Some(next) = self.idle.pop_front() else { break };
            self.talking += 1;
            self.sent += self.batch as u64;
            clients[next].send(&self.talkers[next].wire)?;
        }
        Ok(())
    }
}

impl Work for Echo {
    fn piece(&mut self, client: usize, piece: &Piece<'_>) -> io::Result<()> {
        let Some(talker) = self.talkers.get_mut(client) else { return Err(wrong("a message before any was sent")) };
        let Some(expected) = talker.payloads.get(talker.back) else { return Err(wrong("a message too many")) };
        let opcode = if talker.offset == 0 { self.opcode } else { Opcode::Continuation };
        if piece.is_first && piece.header.opcode != opcode {
            return Err(wrong("a frame of another kind"));
        }
        let end = talker.offset + piece.payload.len();
        if expected.get(talker.offset..end) != Some(&*piece.payload) {
            return Err(wrong("an echo that differs from what was sent"));
        }
        talker.offset = end;
        if piece.is_last() && piece.header.fin {
            if end != expected.len() {
                return Err(wrong("an echo that is too short"));
            }
            talker.offset = 0;
            talker.back += 1;
            self.returned += 1;
        }
        Ok(())
    }

    fn after(&mut self, client: usize, clients: &mut [Client]) -> io::Result<()> {
        let Some(talker) = self.talkers.get_mut(client) else { return Ok(()) };
        if talker.back < self.batch {
            return Ok(());
        }
        talker.back = 0;
        self.talking -= 1;
        match (self.once, self.same) {
            (true, _) => {}
            (false, true) => self.idle.push_front(client),
            (false, false) => self.idle.push_back(client),
        }
        self.talk(clients)
    }
}

fn wrong(what: &str) -> io::Error {
    io::Error::other(format!("the server sent {what}"))
}
