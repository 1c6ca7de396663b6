//! One connection through the proxy, without its sockets: bytes and the time in; bytes, times and endings out.
//!
//! | state of a connection | what arrives | ends with |
//! |---|---|---|
//! | passing | goes on, past the faults | the end of either side, which is passed on; a cut |
//! | farewell: the client was sent a Close of ours | is thrown away, but for the client's Close | that, or 3 s |
//! | leaving: both sides were told that it is over | is thrown away | the ends of both sides, or 3 s |
//! | a side is muted: silence | for it, is thrown away, and so is the other's end | the ends of both sides, or 5 min after the first |

use crate::fault::head::{self, Malformed};
use crate::fault::lane::{Lane, Next};
use crate::fault::when::{Progress, Schedule};
use crate::fault::{Answer, Cut, Draws, Effect, Fault, Frames, Moment, Pace, Place, Side, Spec, To};
use saywhy_proto::frame::{Header, Opcode};
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;

/// For the Close of a client, and for the end of whoever was told that it is over.
const LAST_WORD_TIME: Duration = Duration::from_secs(3);
/// For the other side, after one is gone and the other cannot know.
const LONELY_TIME: Duration = Duration::from_secs(5 * 60);

/// Something that a fault did.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Done {
    /// As it was written.
    pub(crate) fault: String,
    pub(crate) to: To,
    /// What had come for that side by then.
    pub(crate) bytes: u64,
    pub(crate) messages: u64,
    /// What was drawn for it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) draws: Vec<f64>,
}

/// A part of a frame on its way past the faults.
pub(crate) struct Piece<'a> {
    pub(crate) header: Header,
    /// The header's own bytes: there with the first part.
    pub(crate) head: &'a [u8],
    /// As it arrived: masked where it came from a client.
    pub(crate) payload: &'a mut [u8],
    /// Where in the frame's payload it starts.
    pub(crate) offset: u64,
    /// Of its frame.
    pub(crate) is_first: bool,
    pub(crate) is_last: bool,
    pub(crate) begins_message: bool,
    pub(crate) ends_message: bool,
    pub(crate) fate: Fate,
}

/// What becomes of a part of a frame.
#[derive(Default)]
pub(crate) struct Fate {
    /// It does not pass.
    pub(crate) is_gone: bool,
    /// These bytes pass before it, and these behind it.
    pub(crate) before: Vec<u8>,
    pub(crate) behind: Vec<u8>,
    /// The connection is reset in its place.
    pub(crate) is_reset: bool,
}

/// Which of the frames of a lane a fault strikes.
#[derive(Clone, Copy, Default)]
struct Struck {
    message: bool,
    control: bool,
}

/// A fault, at work in this connection.
struct Armed {
    spec: Arc<Spec>,
    schedule: Schedule,
    draws: [Draws; 2],
    /// Due, and waiting for its place.
    pending: Option<Vec<f64>>,
    work: Work,
}

enum Work {
    Moment(Box<dyn Moment>),
    Frames(Box<Frame>),
    Pace { pace: Pace, is_on: bool },
}

/// For each side a fault of its own, as each is in the middle of something else.
struct Frame {
    faults: [Box<dyn Frames>; 2],
    struck: [Struck; 2],
    schedules: [Schedule; 2],
}

/// What we do to a side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Out {
    #[default]
    Open,
    /// FIN, when all is written.
    Finishing,
    Finished,
    /// RST, when all is written.
    Resetting,
    Gone,
}

#[derive(Default)]
struct End {
    out: Out,
    /// Nothing more comes from it.
    is_silent: bool,
    /// Nothing more goes to it.
    is_muted: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Passing,
    Farewell { until: Duration },
    Leaving { until: Duration },
}

/// One connection.
pub(crate) struct Line {
    seed: u64,
    connection: u64,
    lanes: [Lane; 2],
    ends: [End; 2],
    armed: Vec<Armed>,
    /// How many faults there ever were: each draws for itself.
    faults: u64,
    /// The answer to the handshake, as far as it has come; `None` when it has passed.
    answer: Option<Vec<u8>>,
    opened: Option<Duration>,
    state: State,
    lonely_until: Option<Duration>,
    done: Vec<Done>,
}

impl Line {
    pub(crate) fn new(seed: u64, connection: u64) -> Self {
        Self {
            seed,
            connection,
            lanes: Side::BOTH.map(Lane::new),
            ends: Default::default(),
            armed: Vec::new(),
            faults: 0,
            answer: Some(Vec::new()),
            opened: None,
            state: State::Passing,
            lonely_until: None,
            done: Vec::new(),
        }
    }

    /// What becomes of the handshake, by the first fault that has a say in it; `None`: it passes. The other faults are armed.
    pub(crate) fn handshake(&mut self, specs: &[Arc<Spec>], now: Duration) -> Option<Answer> {
        for spec in specs {
            if let Some(answer) = self.arm(Arc::clone(spec), now) {
                return Some(answer);
            }
        }
        None
    }

    /// A fault for a connection that is there.
    pub(crate) fn add(&mut self, spec: Arc<Spec>, now: Duration) {
        // Whoever is past the handshake cannot be refused any more.
        let _ = self.arm(spec, now);
        self.settle(now);
    }

    /// No faults any more. What was cut stays cut.
    pub(crate) fn heal(&mut self) {
        self.armed.clear();
        self.set_pace();
    }

    /// What is not for faults: a request that is no handshake, and its answer.
    pub(crate) fn stop_reading(&mut self) {
        self.answer = None;
        self.lanes.iter_mut().for_each(Lane::stop_reading);
    }

    /// The head of the request, for the server.
    pub(crate) fn request(&mut self, head: &[u8], now: Duration) {
        self.delay(Side::Server);
        self.lane(Side::Server).push(head, now);
    }

    /// Both sides are told that it is over.
    pub(crate) fn leave(&mut self, now: Duration) {
        for side in Side::BOTH {
            self.finish(side);
            self.end(side).is_muted = true;
        }
        self.state = State::Leaving { until: now + LAST_WORD_TIME };
    }

    // ---- in ---------------------------------------------------------------------------------------------------------

    /// Bytes came from `from`.
    ///
    /// # Errors
    /// The server's answer is no HTTP.
    pub(crate) fn receive(&mut self, from: Side, bytes: &mut [u8], now: Duration) -> Result<(), Malformed> {
        if from == Side::Server && self.answer.is_some() {
            return self.receive_answer(bytes, now);
        }
        self.pass(from, bytes, now);
        Ok(())
    }

    fn receive_answer(&mut self, bytes: &[u8], now: Duration) -> Result<(), Malformed> {
        let Some(answer) = &mut self.answer else { return Ok(()) };
        answer.extend_from_slice(bytes);
        let Some(response) = head::response(answer)? else { return Ok(()) };
        let mut all = self.answer.take().unwrap_or_default();
        let (head, rest) = all.split_at_mut(response.len);
        self.delay(Side::Client);
        self.lane(Side::Client).push(head, now);
        if response.is_switch {
            if response.is_compressed {
                self.lanes.iter_mut().for_each(Lane::allow_compression);
            }
            self.opened = Some(now);
            for armed in &mut self.armed {
                let when = &armed.spec.when;
                match &mut armed.work {
                    Work::Pace { is_on: true, .. } => {}
                    Work::Pace { .. } | Work::Moment(_) => {
                        armed.schedule = Schedule::new(when, Progress::default(), now);
                    }
                    Work::Frames(work) => {
                        work.schedules = [(); 2].map(|()| Schedule::of_frames(when, Progress::default(), now));
                    }
                }
            }
            self.settle(now);
        } else {
            self.stop_reading();
        }
        self.pass(Side::Server, rest, now);
        Ok(())
    }

    /// Nothing more comes from `from`.
    pub(crate) fn end_of_input(&mut self, from: Side, now: Duration) {
        if std::mem::replace(&mut self.end(from).is_silent, true) {
            return;
        }
        self.lonely_until.get_or_insert(now + LONELY_TIME);
        let to = from.other();
        match self.state {
            State::Passing if !self.ends[to as usize].is_muted => {
                let head = self.lane(to).unfinished_head();
                self.lane(to).push(&head, now);
                self.finish(to);
            }
            State::Farewell { .. } if from == Side::Client => self.leave(now),
            State::Passing | State::Farewell { .. } | State::Leaving { .. } => {}
        }
    }

    /// `side` is there no more: reset, or taken away by us.
    pub(crate) fn gone(&mut self, side: Side, now: Duration) {
        let is_ours = self.ends[side as usize].out == Out::Resetting;
        self.end(side).out = Out::Gone;
        self.end(side).is_silent = true;
        self.lonely_until.get_or_insert(now + LONELY_TIME);
        let other = side.other();
        match self.state {
            State::Passing if !is_ours && !self.ends[other as usize].is_muted => self.reset(other),
            State::Farewell { .. } if side == Side::Client => self.leave(now),
            State::Passing | State::Farewell { .. } | State::Leaving { .. } => {}
        }
    }

    // ---- past the faults --------------------------------------------------------------------------------------------

    fn pass(&mut self, from: Side, mut bytes: &mut [u8], now: Duration) {
        let to = from.other();
        while !bytes.is_empty() {
            // Up to the byte at which something is due.
            let left = usize::try_from(self.bytes_left(to)).unwrap_or(usize::MAX).clamp(1, bytes.len());
            let (part, rest) = bytes.split_at_mut(left);
            self.pass_part(to, part, now);
            self.settle(now);
            bytes = rest;
        }
    }

    fn pass_part(&mut self, to: Side, mut bytes: &mut [u8], now: Duration) {
        while !bytes.is_empty() {
            if self.state != State::Passing || self.ends[to as usize].is_muted {
                return self.overhear(to, bytes, now);
            }
            let mut head = Vec::new();
            let lane = self.lane(to);
            let (taken, next) = lane.next(bytes, &mut head);
            lane.bytes += taken as u64;
            match next {
                Next::Piece(piece) => self.pass_piece(to, piece, now),
                Next::Bytes(bytes) => self.lane(to).push(&bytes, now),
                Next::Nothing => {}
            }
            bytes = std::mem::take(&mut bytes).get_mut(taken..).unwrap_or_default();
        }
    }

    fn pass_piece(&mut self, to: Side, mut piece: Piece<'_>, now: Duration) {
        if piece.is_first {
            self.delay(to);
            self.choose(to, &piece, now);
        }
        for armed in self.armed.iter_mut().filter(|armed| armed.spec.to.has(to)) {
            let Work::Frames(work) = &mut armed.work else { continue };
            let struck = work.struck[to as usize];
            let is_struck = if piece.header.opcode.is_control() { struck.control } else { struck.message };
            work.faults[to as usize].pass(&mut piece, is_struck);
            if piece.fate.is_gone {
                break;
            }
        }
        let fate = std::mem::take(&mut piece.fate);
        let inside = if fate.is_gone { None } else { self.cut_inside(to, &piece) };
        let lane = &mut self.lanes[to as usize];
        lane.push(&fate.before, now);
        if let Some((fault, head_bytes, payload_bytes)) = inside {
            let head = piece.head.get(..head_bytes).unwrap_or(piece.head);
            let payload = piece.payload.get(..payload_bytes).unwrap_or(piece.payload);
            lane.bytes -= (piece.head.len() - head.len() + piece.payload.len() - payload.len()) as u64;
            lane.push(head, now);
            lane.push(payload, now);
            return self.strike(fault, now);
        }
        lane.messages += u64::from(piece.ends_message);
        if !fate.is_gone {
            lane.push(piece.head, now);
            lane.push(piece.payload, now);
        }
        lane.push(&fate.behind, now);
        if fate.is_reset {
            let only = if to == Side::Client { To::Client } else { To::Server };
            return self.cut(Cut::Reset, only, now);
        }
        self.settle(now);
    }

    /// Which faults of frames strike what begins here.
    fn choose(&mut self, to: Side, piece: &Piece<'_>, now: Duration) {
        let is_control = piece.header.opcode.is_control();
        if !is_control && !piece.begins_message {
            return;
        }
        let mut progress = self.progress_of(to, now);
        // Up to where it begins, however much of it is there.
        progress.bytes -= (piece.head.len() + piece.payload.len()) as u64;
        for armed in self.armed.iter_mut().filter(|armed| armed.spec.to.has(to)) {
            let Work::Frames(work) = &mut armed.work else { continue };
            let Frame { faults, struck, schedules } = &mut **work;
            let (fault, schedule) = (&mut faults[to as usize], &mut schedules[to as usize]);
            let draws = &mut armed.draws[to as usize];
            let mut is_struck = false;
            if fault.concerns(&piece.header) && schedule.is_due(progress) {
                if !schedule.is_standing() {
                    schedule.advance(progress);
                }
                is_struck = happens(&armed.spec, draws);
            }
            if is_struck {
                fault.strike(draws);
                self.done.push(Done {
                    fault: armed.spec.text.clone(),
                    to: if to == Side::Client { To::Client } else { To::Server },
                    bytes: progress.bytes,
                    messages: progress.messages,
                    draws: draws.take(),
                });
            }
            let kind = &mut struck[to as usize];
            *(if is_control { &mut kind.control } else { &mut kind.message }) = is_struck;
        }
    }

    /// The fault that waits for a frame to be inside of, and how much of this piece passes before it.
    fn cut_inside(&self, to: Side, piece: &Piece<'_>) -> Option<(usize, usize, usize)> {
        if piece.header.opcode.is_control() {
            return None;
        }
        let fault = self.armed.iter().position(|armed| {
            let Work::Moment(moment) = &armed.work else { return false };
            armed.pending.is_some() && armed.spec.to.has(to) && moment.place() == Place::InsideFrame
        })?;
        let half = piece.header.len / 2;
        if half == 0 {
            return Some((fault, 1, 0));
        }
        let passes = usize::try_from(half.checked_sub(piece.offset)?).ok()?;
        (passes <= piece.payload.len()).then_some((fault, piece.head.len(), passes))
    }

    /// What is thrown away, but for the Close that is waited for.
    fn overhear(&mut self, to: Side, mut bytes: &mut [u8], now: Duration) {
        self.lane(to).bytes += bytes.len() as u64;
        while to == Side::Server && matches!(self.state, State::Farewell { .. }) && !bytes.is_empty() {
            let mut head = Vec::new();
            let (taken, next) = self.lane(to).next(bytes, &mut head);
            match next {
                Next::Piece(piece) if piece.header.opcode == Opcode::Close && piece.is_last => self.leave(now),
                Next::Bytes(_) => return,
                Next::Piece(_) | Next::Nothing => {}
            }
            bytes = std::mem::take(&mut bytes).get_mut(taken..).unwrap_or_default();
        }
    }

    // ---- faults -----------------------------------------------------------------------------------------------------

    fn arm(&mut self, spec: Arc<Spec>, now: Duration) -> Option<Answer> {
        let number = self.faults;
        self.faults += 1;
        let mut draws = Side::BOTH.map(|side| Draws::new(self.seed, self.connection, number, side));
        let since = self.opened.unwrap_or(now);
        let schedule = Schedule::new(&spec.when, self.progress(spec.to, now), since);
        let work = match spec.make() {
            Fault::Handshake(answer) => {
                let [draws, _] = &mut draws;
                if self.opened.is_some() || !happens(&spec, draws) {
                    return None;
                }
                let draws = draws.take();
                self.done.push(Done { fault: spec.text.clone(), to: spec.to, bytes: 0, messages: 0, draws });
                return Some(answer);
            }
            Fault::Moment(moment) => Work::Moment(moment),
            Fault::Frames(fault) => {
                let Fault::Frames(other) = spec.make() else { return None };
                let schedules =
                    Side::BOTH.map(|side| Schedule::of_frames(&spec.when, self.progress_of(side, now), since));
                Work::Frames(Box::new(Frame { faults: [fault, other], struck: Default::default(), schedules }))
            }
            Fault::Pace(pace) => Work::Pace { pace, is_on: false },
        };
        self.armed.push(Armed { spec, schedule, draws, pending: None, work });
        self.settle(now);
        None
    }

    /// Whatever is due happens, as far as it is in its place.
    fn settle(&mut self, now: Duration) {
        for at in 0..self.armed.len() {
            if self.state != State::Passing {
                return;
            }
            self.settle_one(at, now);
        }
    }

    fn settle_one(&mut self, at: usize, now: Duration) {
        let Some(to) = self.armed.get(at).map(|armed| armed.spec.to) else { return };
        let progress = self.progress(to, now);
        let is_open = self.opened.is_some();
        let Some(armed) = self.armed.get_mut(at) else { return };
        let [draws, _] = &mut armed.draws;
        match &mut armed.work {
            Work::Frames(_) => {}
            Work::Pace { is_on, .. } => {
                if *is_on || !armed.schedule.is_due(progress) {
                    return;
                }
                armed.schedule.advance(progress);
                *is_on = happens(&armed.spec, draws);
                if *is_on {
                    let (fault, draws) = (armed.spec.text.clone(), draws.take());
                    self.done.push(Done { fault, to, bytes: progress.bytes, messages: progress.messages, draws });
                    self.set_pace();
                }
            }
            Work::Moment(moment) => {
                if is_open && armed.schedule.is_due(progress) {
                    armed.schedule.advance(progress);
                    if happens(&armed.spec, draws) {
                        armed.pending = Some(draws.take());
                    }
                }
                let place = moment.place();
                if armed.pending.is_some() && self.is_in_place(place, to) {
                    self.strike(at, now);
                }
            }
        }
    }

    fn is_in_place(&self, place: Place, to: To) -> bool {
        let mut lanes = Side::BOTH.into_iter().filter(|side| to.has(*side)).map(|side| &self.lanes[side as usize]);
        match place {
            Place::Anywhere => true,
            Place::InsideFrame => lanes.any(Lane::is_past_half),
            Place::BetweenMessages => !lanes.any(Lane::is_in_message),
        }
    }

    fn strike(&mut self, at: usize, now: Duration) {
        let Some(armed) = self.armed.get_mut(at) else { return };
        let Work::Moment(moment) = &mut armed.work else { return };
        let effect = moment.strike();
        let (fault, to, draws) = (armed.spec.text.clone(), armed.spec.to, armed.pending.take().unwrap_or_default());
        let Progress { bytes, messages, .. } = self.progress(to, now);
        self.done.push(Done { fault, to, bytes, messages, draws });
        match effect {
            Effect::Write(frames) => {
                for (side, frame) in Side::BOTH.into_iter().zip(frames).filter(|(side, _)| to.has(*side)) {
                    self.forge(side, &frame, now);
                }
            }
            Effect::Cut(cut) => self.cut(cut, to, now),
            Effect::Close { frame, abrupt } => {
                self.forge(Side::Client, &frame, now);
                if abrupt {
                    return self.leave(now);
                }
                self.finish(Side::Server);
                self.state = State::Farewell { until: now + LAST_WORD_TIME };
            }
        }
    }

    /// Writes what nobody sent. Silence stays silence, and who does not read gets no more of it.
    fn forge(&mut self, to: Side, frame: &[u8], now: Duration) {
        if !self.ends[to as usize].is_muted && !self.lanes[to as usize].is_full() {
            self.lane(to).push(frame, now);
        }
    }

    fn cut(&mut self, cut: Cut, to: To, now: Duration) {
        for lane in &mut self.lanes {
            let head = lane.unfinished_head();
            lane.push(&head, now);
        }
        match cut {
            Cut::Fin => self.leave(now),
            Cut::Reset => {
                self.leave(now);
                for side in Side::BOTH.into_iter().filter(|side| to.has(*side)) {
                    self.reset(side);
                }
            }
            Cut::Silence => {
                for side in Side::BOTH.into_iter().filter(|side| to.has(*side)) {
                    self.end(side).is_muted = true;
                }
            }
            Cut::HalfOpen => {
                self.reset(if to == To::Server { Side::Client } else { Side::Server });
                self.ends.iter_mut().for_each(|end| end.is_muted = true);
            }
        }
    }

    fn set_pace(&mut self) {
        for side in Side::BOTH {
            let paces =
                self.armed.iter().filter(|armed| armed.spec.to.has(side)).filter_map(|armed| match armed.work {
                    Work::Pace { pace, is_on: true } => Some(pace),
                    Work::Pace { .. } | Work::Moment(_) | Work::Frames(_) => None,
                });
            let (mut rate, mut slice) = (None::<u64>, None::<usize>);
            for pace in paces {
                match pace {
                    Pace::Delay(..) => {}
                    Pace::Rate(bytes) => rate = Some(rate.unwrap_or(bytes).min(bytes)),
                    Pace::Slice(bytes) => slice = Some(slice.unwrap_or(bytes).min(bytes)),
                }
            }
            let lane = &mut self.lanes[side as usize];
            (lane.bytes_per_s, lane.slice_bytes, lane.delay) = (rate, slice, Duration::ZERO);
        }
    }

    /// How long what begins to pass now is held up.
    fn delay(&mut self, to: Side) {
        let mut delay = Duration::ZERO;
        for armed in self.armed.iter_mut().filter(|armed| armed.spec.to.has(to)) {
            if let Work::Pace { pace: Pace::Delay(least, most), is_on: true } = armed.work {
                let draws = &mut armed.draws[to as usize];
                delay += least + (most - least).mul_f64(if least < most { draws.next() } else { 0.0 });
                draws.take();
            }
        }
        self.lane(to).delay = delay;
    }

    fn progress(&self, to: To, now: Duration) -> Progress {
        let mut all = Progress::default();
        for side in Side::BOTH.into_iter().filter(|side| to.has(*side)) {
            let one = self.progress_of(side, now);
            let (bytes, messages) = (all.bytes + one.bytes, all.messages + one.messages);
            all = Progress { time: one.time, bytes, messages };
        }
        all
    }

    fn progress_of(&self, side: Side, now: Duration) -> Progress {
        let time = self.opened.map_or(Duration::ZERO, |opened| now.saturating_sub(opened));
        let lane = &self.lanes[side as usize];
        Progress { time, bytes: lane.bytes, messages: lane.messages }
    }

    fn bytes_left(&self, side: Side) -> u64 {
        let now = self.opened.unwrap_or_default();
        let of_side = self.armed.iter().filter(|armed| armed.spec.to.has(side));
        let left = of_side.filter_map(|armed| armed.schedule.bytes_left(self.progress(armed.spec.to, now)));
        left.min().unwrap_or(u64::MAX)
    }

    // ---- out --------------------------------------------------------------------------------------------------------

    /// What may be written to a side now.
    pub(crate) fn due(&self, to: Side, now: Duration) -> Option<&[u8]> {
        self.lanes[to as usize].due(now)
    }

    /// So much of it was.
    pub(crate) fn wrote(&mut self, to: Side, bytes: usize, now: Duration) {
        self.lane(to).wrote(bytes, now);
    }

    /// Whether bytes of a side are taken.
    pub(crate) fn reads(&self, from: Side) -> bool {
        !self.ends[from as usize].is_silent && !self.lanes[from.other() as usize].is_full()
    }

    /// Whether everything was written, and the end is next.
    pub(crate) fn wants_fin(&self, to: Side) -> bool {
        self.ends[to as usize].out == Out::Finishing && self.lanes[to as usize].is_empty()
    }

    /// It was told.
    pub(crate) fn told_fin(&mut self, to: Side) {
        self.end(to).out = Out::Finished;
    }

    /// Whether everything was written, and a reset is next.
    pub(crate) fn wants_reset(&self, to: Side) -> bool {
        self.ends[to as usize].out == Out::Resetting && self.lanes[to as usize].is_empty()
    }

    /// When [`Self::expire`] is to be called, or something can be written.
    pub(crate) fn deadline(&self, now: Duration) -> Option<Duration> {
        let opened = self.opened.filter(|_| self.state == State::Passing);
        let faults = self.armed.iter().filter_map(|armed| opened?.checked_add(armed.schedule.time()?));
        let state = match self.state {
            State::Passing => None,
            State::Farewell { until } | State::Leaving { until } => Some(until),
        };
        let lanes = self.lanes.iter().filter_map(Lane::deadline);
        // What is due already waits for its place, or for its socket.
        faults.chain(state).chain(self.lonely_until).chain(lanes).filter(|deadline| *deadline > now).min()
    }

    /// Time has passed.
    pub(crate) fn expire(&mut self, now: Duration) {
        if matches!(self.state, State::Farewell { until } if until <= now) {
            self.leave(now);
        }
        self.settle(now);
    }

    /// Whether nothing is left to do.
    pub(crate) fn is_over(&self, now: Duration) -> bool {
        let is_late = matches!(self.state, State::Leaving { until } if until <= now)
            || self.lonely_until.is_some_and(|until| until <= now);
        is_late
            || self.ends.iter().all(|end| match end.out {
                Out::Gone => true,
                Out::Finished => end.is_silent,
                Out::Open => end.is_silent && end.is_muted,
                Out::Finishing | Out::Resetting => false,
            })
    }

    /// What the faults did since this was last asked.
    pub(crate) fn take_done(&mut self) -> Vec<Done> {
        std::mem::take(&mut self.done)
    }

    /// Bytes and messages that came for a side.
    pub(crate) fn count(&self, to: Side) -> (u64, u64) {
        let lane = &self.lanes[to as usize];
        (lane.bytes, lane.messages)
    }

    fn lane(&mut self, to: Side) -> &mut Lane {
        &mut self.lanes[to as usize]
    }

    fn end(&mut self, side: Side) -> &mut End {
        &mut self.ends[side as usize]
    }

    fn finish(&mut self, side: Side) {
        if self.ends[side as usize].out == Out::Open {
            self.end(side).out = Out::Finishing;
        }
    }

    fn reset(&mut self, side: Side) {
        if self.ends[side as usize].out != Out::Gone {
            self.end(side).out = Out::Resetting;
        }
    }
}

/// Whether it happens, now that it is due.
fn happens(spec: &Spec, draws: &mut Draws) -> bool {
    // What was drawn for a decision not to is of no use any more.
    draws.take();
    spec.when.p.is_none_or(|p| draws.next() < p) && spec.when.once_more()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::{ALL, parse};
    use proptest::prelude::*;
    use saywhy_proto::frame;

    const REQUEST: &[u8] = b"GET /ws HTTP/1.1\r\nUpgrade: websocket\r\n\r\n";
    const SWITCH: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\n\r\n";
    const KEY: Option<[u8; 4]> = Some([9, 8, 7, 6]);

    /// A line, its clock, and what was written to each side.
    struct Rig {
        line: Line,
        now: Duration,
        wrote: [Vec<u8>; 2],
        done: Vec<Done>,
    }

    impl Rig {
        /// Past the handshake.
        fn open(faults: &str, seed: u64) -> Self {
            let specs = if faults.is_empty() { Vec::new() } else { parse(faults).unwrap() };
            let mut line = Line::new(seed, 1);
            assert_eq!(line.handshake(&specs, Duration::ZERO), None);
            line.request(REQUEST, Duration::ZERO);
            let mut rig = Self { line, now: Duration::ZERO, wrote: Default::default(), done: Vec::new() };
            rig.hear(Side::Server, SWITCH);
            let [client, server] = &mut rig.wrote;
            assert!(client.starts_with(SWITCH) && server.starts_with(REQUEST));
            client.drain(..SWITCH.len());
            server.drain(..REQUEST.len());
            rig
        }

        fn hear(&mut self, from: Side, bytes: &[u8]) {
            self.line.receive(from, &mut bytes.to_vec(), self.now).unwrap();
            self.flush();
        }

        /// Everything is written as soon as it may be; an end is told.
        fn flush(&mut self) {
            for side in Side::BOTH {
                while let Some(bytes) = self.line.due(side, self.now).map(<[u8]>::to_vec) {
                    self.line.wrote(side, bytes.len(), self.now);
                    self.wrote[side as usize].extend(bytes);
                }
                if self.line.wants_reset(side) {
                    self.line.gone(side, self.now);
                }
                if self.line.wants_fin(side) {
                    self.line.told_fin(side);
                }
            }
            self.done.extend(self.line.take_done());
        }

        fn end(&mut self, from: Side) {
            self.line.end_of_input(from, self.now);
            self.flush();
        }

        fn wait(&mut self, time: Duration) {
            self.now += time;
            self.line.expire(self.now);
            self.flush();
        }

        fn is_over(&self) -> bool {
            self.line.is_over(self.now)
        }

        fn out(&self, to: Side) -> Out {
            self.line.ends[to as usize].out
        }
    }

    fn text(words: &str) -> Vec<u8> {
        message(Opcode::Text, words.as_bytes(), None)
    }

    fn message(opcode: Opcode, payload: &[u8], key: Option<[u8; 4]>) -> Vec<u8> {
        let mut out = Vec::new();
        frame::write(opcode, payload, key, &mut out);
        out
    }

    /// What a client gets when the server says this, in pieces of `cuts` bytes.
    fn heard(faults: &str, said: &[u8], mut cuts: impl Iterator<Item = usize>) -> (Vec<u8>, Vec<Done>) {
        let mut rig = Rig::open(faults, 7);
        let mut rest = said;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(cuts.next().unwrap().clamp(1, rest.len()));
            rig.hear(Side::Server, now);
            rest = later;
        }
        rig.end(Side::Server);
        (rig.wrote[0].clone(), rig.done)
    }

    fn whole(faults: &str, said: &[u8]) -> Vec<u8> {
        heard(faults, said, std::iter::repeat(usize::MAX)).0
    }

    fn texts(words: &[&str]) -> Vec<u8> {
        words.iter().flat_map(|word| text(word)).collect()
    }

    /// Messages in one frame or several, with Pings between, and perhaps a Close.
    fn conversation(key: Option<[u8; 4]>) -> impl Strategy<Value = Vec<u8>> {
        let part = (0..4u8, prop::collection::vec(any::<u8>(), 0..200));
        (prop::collection::vec(part, 0..12), any::<bool>()).prop_map(move |(parts, closes)| {
            let mut out = Vec::new();
            for (kind, payload) in parts {
                match kind {
                    0 => out.extend(message(Opcode::Text, &payload, key)),
                    1 => out.extend(message(Opcode::Ping, &payload[..payload.len().min(125)], key)),
                    _ => {
                        let half = payload.len() / 2;
                        for (opcode, fin, part) in
                            [(Opcode::Binary, false, &payload[..half]), (Opcode::Continuation, true, &payload[half..])]
                        {
                            let len = part.len() as u64;
                            Header { fin, compressed: false, opcode, mask: key, len }.write(&mut out);
                            let start = out.len();
                            out.extend_from_slice(part);
                            if let Some(key) = key {
                                frame::mask(&mut out[start..], key, 0);
                            }
                        }
                    }
                }
            }
            if closes {
                out.extend(message(Opcode::Close, &[], key));
            }
            out
        })
    }

    proptest! {
        #[test]
        fn without_faults_every_byte_passes_however_it_is_cut(
            to_client in conversation(None),
            to_server in conversation(KEY),
            garbage in prop::collection::vec(any::<u8>(), 0..100),
            cuts in prop::collection::vec(1usize..40, 1..50),
        ) {
            // Also with faults that are never due, and so look at everything.
            for faults in ["", "corrupt,p=0,cut=rst,inside,after=1000msg,lose,to=both,after=9MB,reorder,p=0"] {
                let mut rig = Rig::open(faults, 7);
                let said = [[&*to_client, &garbage].concat(), [&*to_server, &garbage].concat()];
                for (side, said) in Side::BOTH.into_iter().zip(&said) {
                    let mut cuts = cuts.iter().cycle();
                    let mut rest = &said[..];
                    while !rest.is_empty() {
                        let (now, later) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
                        rig.hear(side.other(), now);
                        rest = later;
                    }
                }
                rig.end(Side::Client);
                rig.end(Side::Server);
                prop_assert_eq!(&rig.wrote, &said);
                prop_assert!(rig.is_over());
                prop_assert_eq!(&rig.done, &[]);
            }
        }

        #[test]
        fn what_a_fault_does_is_the_same_however_bytes_are_cut(
            said in conversation(None),
            cuts in prop::collection::vec(1usize..40, 1..50),
        ) {
            for faults in [
                "lose,p=0.5", "duplicate,every=2msg", "reorder,p=0.5", "corrupt", "no-close", "no-pong", "drop-before-close",
                "cut=rst,after=100B", "cut=fin,inside,after=1msg", "close=1013,after=2msg", "bad-utf8,every=1msg",
                "lose,p=0.3,duplicate,p=0.3,corrupt,p=0.3,reorder,p=0.3",
            ] {
                let (bytes, done) = heard(faults, &said, std::iter::repeat(usize::MAX));
                let (cut_bytes, cut_done) = heard(faults, &said, cuts.iter().copied().cycle());
                prop_assert_eq!(bytes, cut_bytes, "{}", faults);
                let decisions = |done: Vec<Done>| done.into_iter().map(|done| (done.fault, done.bytes, done.messages, done.draws)).collect::<Vec<_>>();
                prop_assert_eq!(decisions(done), decisions(cut_done), "{}", faults);
            }
        }

        #[test]
        fn whatever_arrives_nothing_panics_and_it_ends(
            to_client in prop::collection::vec(any::<u8>(), 0..200),
            to_server in prop::collection::vec(any::<u8>(), 0..200),
            seed: u64,
        ) {
            for example in ALL.iter().flat_map(|entry| entry.examples) {
                let specs = parse(example.fault).unwrap();
                let mut line = Line::new(seed, 1);
                if line.handshake(&specs, Duration::ZERO).is_some() {
                    continue;
                }
                let mut rig = Rig { line, now: Duration::ZERO, wrote: Default::default(), done: Vec::new() };
                rig.hear(Side::Server, SWITCH);
                for bytes in [&to_client[..], &text("a")] {
                    rig.hear(Side::Server, bytes);
                }
                rig.hear(Side::Client, &to_server);
                rig.end(Side::Client);
                rig.wait(Duration::from_secs(1));
                rig.end(Side::Server);
                for _ in 0..1_000 {
                    rig.wait(Duration::from_secs(1));
                }
                prop_assert!(rig.is_over(), "{}", example.fault);
            }
        }
    }

    #[test]
    fn messages_are_lost_doubled_and_swapped() {
        let said = texts(&["a", "b", "c", "d"]);
        assert_eq!(whole("lose,after=1msg,times=2", &said), texts(&["a", "d"]));
        assert_eq!(whole("lose,every=2msg", &said), texts(&["a", "c"]));
        assert_eq!(whole("duplicate,after=2msg", &said), texts(&["a", "b", "c", "c", "d", "d"]));
        assert_eq!(whole("reorder", &said), texts(&["b", "a", "d", "c"]));
        assert_eq!(whole("reorder,after=2msg,times=1", &said), texts(&["a", "b", "d", "c"]));
        // There is no next one, and the Close would be the last word.
        let close = message(Opcode::Close, &[], None);
        assert_eq!(whole("reorder", &[text("a"), close.clone()].concat()), [text("a"), close].concat());
    }

    #[test]
    fn one_bit_flips() {
        let said = text("hello");
        let heard = whole("corrupt", &said);
        let changed: Vec<_> = said.iter().zip(&heard).filter(|(a, b)| a != b).map(|(a, b)| a ^ b).collect();
        assert_eq!((heard.len(), changed), (said.len(), vec![1]));
    }

    #[test]
    fn closes_and_pongs_are_swallowed() {
        let (close, pong) = (message(Opcode::Close, &[], None), message(Opcode::Pong, b"x", None));
        let said = [text("a"), pong.clone(), close.clone()].concat();
        assert_eq!(whole("no-close", &said), [text("a"), pong].concat());
        assert_eq!(whole("no-pong", &said), [text("a"), close].concat());
        assert_eq!(whole("no-close,to=server", &said), said);
    }

    #[test]
    fn a_reset_stands_where_the_close_was() {
        let mut rig = Rig::open("drop-before-close", 7);
        rig.hear(Side::Server, &[text("a"), message(Opcode::Close, &[], None)].concat());
        assert_eq!(rig.wrote[0], text("a"));
        assert_eq!((rig.out(Side::Client), rig.out(Side::Server)), (Out::Gone, Out::Finished));
        assert!(!rig.is_over());
        rig.end(Side::Server);
        assert!(rig.is_over());
    }

    #[test]
    fn a_cut_is_where_it_was_said_to_be() {
        let said = texts(&["a", "bcdefg", "h"]);
        for bytes in 1..said.len() {
            let mut rig = Rig::open(&format!("cut=rst,to=client,after={bytes}B"), 7);
            rig.hear(Side::Server, &said);
            assert_eq!((&*rig.wrote[0], rig.out(Side::Client)), (&said[..bytes], Out::Gone), "{bytes}");
        }
        assert_eq!(whole("cut=fin,to=client,after=2msg", &said), texts(&["a", "bcdefg"]));
        // Inside: the header, and half of the payload.
        assert_eq!(whole("cut=fin,inside,to=client,after=1msg", &said), said[..3 + 2 + 3]);
        assert_eq!(whole("cut=fin,inside,to=client", &said), said[..1]);
    }

    #[test]
    fn time_cuts_when_it_has_passed() {
        let mut rig = Rig::open("cut=fin,after=5s", 7);
        assert_eq!(rig.line.deadline(rig.now), Some(Duration::from_secs(5)));
        rig.wait(Duration::from_secs(4));
        assert_eq!(rig.out(Side::Client), Out::Open);
        rig.wait(Duration::from_secs(1));
        assert_eq!((rig.out(Side::Client), rig.out(Side::Server)), (Out::Finished, Out::Finished));
        rig.wait(Duration::from_secs(3));
        assert!(rig.is_over());
    }

    #[test]
    fn a_restart_is_for_all_at_once() {
        let ends = |opened: u64| {
            let opened = Duration::from_secs(opened);
            let mut line = Line::new(7, 1);
            assert_eq!(line.handshake(&parse("restart=3s,every=30s").unwrap(), opened), None);
            line.receive(Side::Server, &mut SWITCH.to_vec(), opened).unwrap();
            line.deadline(opened).map(|at| at.as_secs())
        };
        assert_eq!([0, 10, 29, 33, 95].map(ends), [30, 30, 30, 60, 120].map(Some));
        let mut rig = Rig::open("restart=3s,every=30s", 7);
        rig.wait(Duration::from_secs(30));
        assert_eq!(rig.wrote[0], message(Opcode::Close, b"\x03\xF4restarting", None));
    }

    #[test]
    fn silence_tells_nobody_anything() {
        let mut rig = Rig::open("cut=silence", 7);
        rig.hear(Side::Server, &text("a"));
        rig.end(Side::Server);
        assert_eq!((rig.wrote[0].len(), rig.out(Side::Client)), (0, Out::Open));
        assert!(!rig.is_over());
        rig.end(Side::Client);
        assert!(rig.is_over());
    }

    #[test]
    fn who_does_not_read_is_not_written_to_for_ever() {
        let mut rig = Rig::open("bad-utf8,every=1ms", 7);
        let forged = |rig: &mut Rig, count: u64| {
            for _ in 0..count {
                rig.now += Duration::from_millis(1);
                rig.line.expire(rig.now);
            }
            let waiting = rig.line.lanes[0].deadline().is_some();
            rig.flush();
            (waiting, rig.wrote[0].len())
        };
        assert_eq!(forged(&mut rig, 10), (true, 10 * 4));
        let (_, bytes) = forged(&mut rig, 1_000_000);
        assert!((1_000_000..1_100_000).contains(&bytes), "{bytes}");
        let now = rig.now;
        rig.line.add(parse("cut=silence").unwrap().remove(0), now);
        rig.wrote[0].clear();
        assert_eq!(forged(&mut rig, 10), (false, 0));
    }

    #[test]
    fn half_open_is_a_server_that_is_gone_and_a_client_that_does_not_know() {
        let mut rig = Rig::open("cut=half-open,after=1msg,to=client", 7);
        rig.hear(Side::Server, &texts(&["a", "b"]));
        assert_eq!((&rig.wrote[0], rig.out(Side::Client), rig.out(Side::Server)), (&text("a"), Out::Open, Out::Gone));
        rig.wait(LONELY_TIME);
        assert!(rig.is_over());
    }

    #[test]
    fn a_close_of_ours_waits_for_the_client_s() {
        let mut rig = Rig::open("close=4003:out,after=1msg", 7);
        rig.hear(Side::Server, &texts(&["a", "b"]));
        let close = message(Opcode::Close, b"\x0F\xA3out", None);
        assert_eq!(rig.wrote[0], [text("a"), close.clone()].concat());
        assert_eq!((rig.out(Side::Client), rig.out(Side::Server)), (Out::Open, Out::Finished));
        rig.hear(Side::Client, &message(Opcode::Text, b"late", KEY));
        assert_eq!(rig.out(Side::Client), Out::Open);
        rig.hear(Side::Client, &message(Opcode::Close, &[], KEY));
        assert_eq!(rig.out(Side::Client), Out::Finished);
        assert_eq!(rig.wrote[1].len(), 0);

        let mut rig = Rig::open("close=4003:out,abrupt", 7);
        assert_eq!((&rig.wrote[0], rig.out(Side::Client)), (&close, Out::Finished));
        rig.flush();

        let mut rig = Rig::open("close=4003", 7);
        rig.wait(LAST_WORD_TIME);
        assert_eq!(rig.out(Side::Client), Out::Finished);
    }

    #[test]
    fn a_forged_frame_waits_for_the_end_of_a_message() {
        let mut rig = Rig::open("bad-opcode,after=1s", 7);
        let said = text("abc");
        rig.hear(Side::Server, &said[..3]);
        rig.wait(Duration::from_secs(1));
        assert_eq!(rig.wrote[0], said[..3]);
        rig.hear(Side::Server, &said[3..]);
        assert_eq!(rig.wrote[0], [&said[..], &[0x83, 1, b'?']].concat());
    }

    #[test]
    fn forged_frames_are_what_they_are_called() {
        for (fault, bytes) in [
            ("bad-utf8", [0x81, 2, 0xC3, 0x28].as_slice()),
            ("rsv", &[0xA1, 1, b'?']),
            ("bad-opcode,to=server", &[0x83, 0x81, 0x37, 0xFA, 0x21, 0x3D, b'?' ^ 0x37]),
            ("masked", &[0x81, 0x81, 0x37, 0xFA, 0x21, 0x3D, b'?' ^ 0x37]),
            ("masked,to=server", &[0x81, 1, b'?']),
            ("reserved-code", &[0x88, 2, 3, 238]),
            ("reserved-code=999", &[0x88, 2, 3, 231]),
        ] {
            let rig = Rig::open(fault, 7);
            let side = if fault.ends_with("server") { Side::Server } else { Side::Client };
            assert_eq!(
                (&*rig.wrote[side as usize], &*rig.wrote[side.other() as usize]),
                (bytes, [].as_slice()),
                "{fault}"
            );
        }
    }

    #[test]
    fn a_seed_decides() {
        let lost = |seed| {
            let mut rig = Rig::open("lose,p=0.5", seed);
            for _ in 0..50 {
                rig.hear(Side::Server, &text("a"));
            }
            rig.done
        };
        assert_eq!(lost(1), lost(1));
        assert_ne!(lost(1), lost(2));
        assert!((10..40).contains(&lost(1).len()));
        assert!(lost(1).iter().all(|done| done.draws.len() == 1 && done.draws[0] < 0.5));
    }

    #[test]
    fn the_handshake_is_refused_so_often() {
        let specs = parse("refuse=503,times=2").unwrap();
        let refused = [1, 2, 3].map(|id| Line::new(7, id).handshake(&specs, Duration::ZERO).is_some());
        assert_eq!(refused, [true, true, false]);
    }

    #[test]
    fn slow_from_the_handshake_on() {
        let specs = parse("latency=100ms,slice=2").unwrap();
        let mut line = Line::new(7, 1);
        line.handshake(&specs, Duration::ZERO);
        line.request(REQUEST, Duration::ZERO);
        assert_eq!(line.due(Side::Server, Duration::from_millis(99)), None);
        assert_eq!(line.due(Side::Server, Duration::from_millis(100)), Some(b"GE".as_slice()));
    }

    #[test]
    fn before_it_is_open_nothing_is_waited_for() {
        for example in ALL.iter().flat_map(|entry| entry.examples) {
            let mut line = Line::new(7, 1);
            line.handshake(&parse(example.fault).unwrap(), Duration::ZERO);
            assert_eq!(line.deadline(Duration::ZERO), None, "{}", example.fault);
        }
    }

    #[test]
    fn one_who_is_healed_is_whole() {
        let mut rig = Rig::open("lose", 7);
        rig.hear(Side::Server, &text("a"));
        rig.line.heal();
        rig.hear(Side::Server, &text("b"));
        assert_eq!(rig.wrote[0], text("b"));
        let now = rig.now;
        rig.line.add(parse("cut=fin").unwrap().remove(0), now);
        rig.flush();
        assert_eq!(rig.out(Side::Client), Out::Finished);
    }
}
