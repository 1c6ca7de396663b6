//! Rooms: one member says something, all of them hear it.

use crate::Target;
use crate::client::{self, Client};
use crate::crowd::{Crowd, Work};
use crate::window::Window;
use clap::{Args, ValueEnum};
use saywhy_proto::frame::{Opcode, Piece};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::io;

#[derive(Args)]
pub(crate) struct Settings {
    /// What the server speaks.
    #[arg(long, value_enum)]
    protocol: Protocol,
    #[arg(long, default_value_t = 1)]
    rooms: usize,
    /// Members of each room.
    #[arg(long, default_value_t = 1_000)]
    members: usize,
    /// Messages that are said at once; the next come when all have heard these.
    #[arg(long, default_value_t = 1)]
    burst: usize,
    /// Rooms in which something is said at a time, in turn.
    #[arg(long, default_value_t = 1)]
    active: usize,
    /// Bytes of what is said.
    #[arg(long, default_value_t = 128)]
    bytes: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Protocol {
    /// The envelope: `join`, `send`.
    Saywhy,
    /// The path is the room, and a message is what is said in it.
    Plain,
}

pub(crate) fn run(target: &Target, settings: &Settings) -> io::Result<Value> {
    let members = settings.rooms * settings.members;
    let mut rooms = Rooms::new(settings);
    let mut crowd = Crowd::new(target.address)?;
    let request = |member: usize| {
        let path = match settings.protocol {
            Protocol::Saywhy => target.path.clone(),
            Protocol::Plain => format!("/{}", name(member / settings.members)),
        };
        client::request(target.address, &path, "")
    };
    crowd.open(members, request, &mut rooms)?;
    while rooms.joined < members {
        crowd.turn(&mut rooms)?;
    }
    rooms.start(settings.active, &mut crowd.clients)?;
    let mut window = Window::new(target)?;
    let measured = loop {
        crowd.turn(&mut rooms)?;
        if let Some(measured) = window.look(rooms.heard) {
            break measured;
        }
    };
    let mut result = measured.json();
    let attempts = rooms.said * settings.members as u64;
    result["said"] = json!(rooms.said);
    result["bytes_per_delivery"] = json!(rooms.bytes as f64 / rooms.heard as f64);
    result["attempts"] = json!(attempts);
    result["returned"] = json!(rooms.heard);
    result["under_way"] = json!(attempts - rooms.heard);
    Ok(result)
}

fn name(room: usize) -> String {
    format!("room-{room}")
}

struct Rooms {
    protocol: Protocol,
    members_each: usize,
    burst: usize,
    bytes_each: usize,
    members: Vec<Member>,
    rooms: Vec<Room>,
    joined: usize,
    /// Rooms in which nothing is being said, the longest silent first.
    silent: VecDeque<usize>,
    /// Counts.
    said: u64,
    heard: u64,
    bytes: u64,
}

#[derive(Default)]
struct Member {
    /// Messages on the way in: `ready`, and the answer to `join`.
    greetings: usize,
    asked: bool,
    /// Messages of this burst.
    heard: usize,
    /// A message whose rest has not arrived.
    partial: Vec<u8>,
}

#[derive(Default)]
struct Room {
    said: u64,
    /// What is being said, and how it came: everyone has to hear the same.
    words: Vec<String>,
    came: Vec<Vec<u8>>,
    /// Deliveries that are under way.
    left: usize,
}

impl Rooms {
    fn new(settings: &Settings) -> Self {
        let members = settings.rooms * settings.members;
        Self {
            protocol: settings.protocol,
            members_each: settings.members,
            burst: settings.burst,
            bytes_each: settings.bytes,
            members: (0..members).map(|_| Member::default()).collect(),
            rooms: (0..settings.rooms).map(|_| Room::default()).collect(),
            joined: if settings.protocol == Protocol::Plain { members } else { 0 },
            silent: (0..settings.rooms).collect(),
            said: 0,
            heard: 0,
            bytes: 0,
        }
    }

    fn start(&mut self, active: usize, clients: &mut [Client]) -> io::Result<()> {
        (0..active).try_for_each(|_| self.say(clients))
    }

    /// The first member of the next room says the next burst.
    fn say(&mut self, clients: &mut [Client]) -> io::Result<()> {
        let Some(index) = self.silent.pop_front() else { return Ok(()) };
        let room = &mut self.rooms[index];
        room.came.clear();
        room.words.clear();
        let mut wire = Vec::new();
        for _ in 0..self.burst {
            room.said += 1;
            // What is said has so many bytes as it is written: in JSON with quotes.
            let quotes = if self.protocol == Protocol::Saywhy { 2 } else { 0 };
            let words = format!("message {} of {}; ", room.said, name(index));
            let words: String = words.chars().cycle().take(self.bytes_each - quotes).collect();
            let message = match self.protocol {
                Protocol::Saywhy => format!(r#"{{"type":"send","data":{{"room":"{}","body":"{words}"}}}}"#, name(index)),
                Protocol::Plain => words.clone(),
            };
            room.words.push(words);
            wire.extend(client::data(Opcode::Text, message.as_bytes()));
        }
        room.left = self.burst * self.members_each;
        self.said += self.burst as u64;
        clients[index * self.members_each].send(&wire.into())
    }

    fn message(&mut self, client: usize, message: &[u8]) -> io::Result<()> {
        if self.joined < self.members.len() {
            return self.greeting(client, message);
        }
        let (member, room) = (&mut self.members[client], &mut self.rooms[client / self.members_each]);
        match (room.came.get(member.heard), room.words.get(member.heard)) {
            (Some(first), _) if first == message => {}
            (None, Some(words)) if message.windows(words.len()).any(|part| part == words.as_bytes()) => {
                room.came.push(message.to_vec());
            }
            _ => return Err(io::Error::other(format!("heard {:?}", String::from_utf8_lossy(message)))),
        }
        member.heard += 1;
        room.left -= 1;
        self.heard += 1;
        self.bytes += message.len() as u64;
        Ok(())
    }

    fn greeting(&mut self, client: usize, message: &[u8]) -> io::Result<()> {
        let text = String::from_utf8_lossy(message);
        let member = &mut self.members[client];
        member.greetings += 1;
        match member.greetings {
            1 if text.starts_with(r#"{"type":"ready""#) => Ok(()),
            2 if text.starts_with(r#"{"type":"ok""#) => {
                self.joined += 1;
                Ok(())
            }
            _ => Err(io::Error::other(format!("heard {text:?} on the way in"))),
        }
    }
}

impl Work for Rooms {
    fn piece(&mut self, client: usize, piece: &Piece<'_>) -> io::Result<()> {
        let is_whole = piece.is_first && piece.is_last() && piece.header.fin;
        if piece.header.opcode == Opcode::Close {
            return Err(io::Error::other(format!("closed: {:?}", String::from_utf8_lossy(piece.payload))));
        }
        if is_whole {
            return self.message(client, piece.payload);
        }
        let mut partial = std::mem::take(&mut self.members[client].partial);
        partial.extend_from_slice(piece.payload);
        if piece.is_last() && piece.header.fin {
            self.message(client, &partial)?;
            partial.clear();
        }
        self.members[client].partial = partial;
        Ok(())
    }

    fn after(&mut self, client: usize, clients: &mut [Client]) -> io::Result<()> {
        let index = client / self.members_each;
        let member = &mut self.members[client];
        if self.protocol == Protocol::Saywhy && member.greetings == 1 && !std::mem::replace(&mut member.asked, true) {
            let join = format!(r#"{{"type":"join","data":{{"room":"{}"}},"meta":{{"request_id":"1"}}}}"#, name(index));
            return clients[client].send(&client::data(Opcode::Text, join.as_bytes()).into());
        }
        let room = &self.rooms[index];
        if room.left > 0 || room.words.is_empty() || member.heard < self.burst {
            return Ok(());
        }
        for member in &mut self.members[index * self.members_each..][..self.members_each] {
            member.heard = 0;
        }
        self.silent.push_back(index);
        self.rooms[index].words.clear();
        self.say(clients)
    }
}
