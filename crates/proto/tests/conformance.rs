//! Each case of `conformance/violations`, in both directions and however the bytes are cut: the machine says the same.

#[path = "../../../conformance/violations/cases.rs"]
mod cases;

use cases::{Case, Cases};
use saywhy_codes::{EndCause, Role};
use saywhy_proto::frame::{self, Header, Opcode};
use saywhy_proto::session::{Mute, Step};
use saywhy_proto::{Limits, Session};
use std::sync::Arc;
use std::time::Duration;

const NOW: Duration = Duration::from_secs(5);
const PROBE: &[u8] = b"still there?";

#[test]
fn a_server_answers_each_case_however_it_is_cut() {
    for_each_case(Role::Server);
}

#[test]
fn a_client_answers_each_case_however_it_is_cut() {
    for_each_case(Role::Client);
}

#[test]
#[should_panic = "a reason that is wrong"]
fn another_reason_is_noticed() {
    let cases = Cases::read();
    let mut case = cases.of(Role::Server).next().unwrap().clone();
    case.answer.reason = "a reason that is wrong".to_owned();
    Play::new(Role::Client, &cases).run(&case, 1);
}

fn for_each_case(us: Role) {
    let cases = Cases::read();
    let mut count = 0;
    for case in cases.of(peer(us)) {
        let len = case.bytes(peer(us)).len();
        let steps = if len < 300 { (1..=len).collect() } else { vec![1, 7, 1_000, len] };
        for step in steps {
            Play::new(us, &cases).run(case, step);
        }
        count += 1;
    }
    assert!(count >= 80, "{count} cases");
}

fn peer(us: Role) -> Role {
    match us {
        Role::Client => Role::Server,
        Role::Server => Role::Client,
    }
}

struct Play {
    us: Role,
    machine: Session,
    out: Vec<u8>,
}

impl Play {
    fn new(us: Role, cases: &Cases) -> Self {
        let limits = Arc::new(Limits { message_bytes: cases.message_bytes, ..Limits::default() });
        let mut machine = match us {
            Role::Client => Session::client(limits, || [7, 6, 5, 4], NOW),
            Role::Server => Session::server(limits, NOW),
        };
        machine.ready(NOW);
        Self { us, machine, out: Vec::new() }
    }

    fn run(mut self, case: &Case, step: usize) {
        let what = format!("{}, cut every {step} bytes", case.name);
        self.hear(&case.bytes(peer(self.us)), step);
        if case.answer.goes_on {
            self.say(Opcode::Ping, PROBE);
            assert_eq!(self.written().last(), Some(&(Opcode::Pong, PROBE.to_vec())), "{what}");
            return;
        }
        let Some((Opcode::Close, close)) = self.written().pop() else { panic!("no Close: {what}") };
        assert_eq!(close, payload(case), "{what}: {:?} instead of {:?}", text(&close), case.answer.reason);
        let waits = self.us == Role::Client || !case.closes();
        assert_eq!(self.machine.step(), if waits { Step::Continue } else { Step::Finish }, "{what}");
        if !case.closes() && !case.is_cut() {
            self.say(Opcode::Close, &close[..2]);
        }
        if case.is_cut() || self.us == Role::Client {
            self.machine.end_of_input();
        }
        assert_eq!(self.machine.step(), Step::Finish, "{what}");
        assert!(self.written().is_empty(), "something follows the Close: {what}");
        if let Some(row) = &case.answer.row {
            let EndCause::Error(error) = self.machine.take_ending(NOW).cause else { panic!("no error: {what}") };
            assert_eq!(error.name, row, "{what}");
        }
    }

    fn hear(&mut self, bytes: &[u8], step: usize) {
        for chunk in bytes.chunks(step) {
            let mut chunk = chunk.to_vec();
            let mut at = 0;
            while at < chunk.len() {
                at += self.machine.receive(&mut chunk[at..], NOW).0;
            }
            self.machine.transmit(true, &Mute, NOW, &mut self.out);
            self.machine.wrote(false, true, NOW);
        }
    }

    fn say(&mut self, opcode: Opcode, payload: &[u8]) {
        let mut bytes = Vec::new();
        frame::write(opcode, payload, (self.us == Role::Server).then_some([1, 2, 3, 4]), &mut bytes);
        self.hear(&bytes, bytes.len());
    }

    /// The frames that were written since the last time, which are all legal.
    fn written(&mut self) -> Vec<(Opcode, Vec<u8>)> {
        let mut frames = Vec::new();
        while let Some((header, used)) = Header::parse(&self.out, self.us, false).unwrap() {
            let mut payload: Vec<u8> = self.out.drain(..used + header.len as usize).skip(used).collect();
            if let Some(key) = header.mask {
                frame::mask(&mut payload, key, 0);
            }
            frames.push((header.opcode, payload));
        }
        frames
    }
}

fn payload(case: &Case) -> Vec<u8> {
    let code = case.answer.code.map(u16::to_be_bytes);
    [code.as_ref().map_or(&[][..], |code| code), case.answer.reason.as_bytes()].concat()
}

fn text(close: &[u8]) -> String {
    String::from_utf8_lossy(close.get(2..).unwrap_or_default()).into_owned()
}
