//! Simulated runs of the machine, each determined by a seed: calls, groups, refusals, lost sessions, silence, and a server whose
//! bytes are cut anywhere. A naive list of the calls says afterwards how each one may have ended.
//!
//! ```text
//! calls ─▶ NotifierMachine ─▶ Session ─ bytes ─▶ ServerSession ─▶ executed transactions ─▶ check
//! ```

mod calls;
mod nudges;
mod tests;

use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use tokio::sync::oneshot;

use self::calls::{Calls, ModelCall};
use super::server::{INVALID, Mood, Pair, ServerSession};
use super::session;
use crate::error::{Error, ErrorKind};
use crate::notifier::group::Group;
use crate::notifier::machine::{NotifierAction, NotifierMachine, NotifierPolicy};
use crate::notifier::request::{Message, Reply, Request};
use crate::notifier::waiting::GroupLimits;
use crate::proto::session::Session;
use crate::proto::supervisor::{Reconnect, State};
use crate::simulator::SimulatorRandom;

const TIMEOUT: Duration = Duration::from_secs(30);

/// A run.
struct NotifierSimulation {
    random: SimulatorRandom,
    machine: NotifierMachine,
    limits: GroupLimits,
    now: Instant,
    begin: Instant,
    link: Option<ClientLink>,
    /// An attempt to connect is running.
    is_opening: bool,
    sessions: u64,
    /// Sessions that the client has lost: the server still executes what it has received.
    orphans: Vec<ServerSession>,
    mood: Mood,
    calls: Calls,
    /// No further calls are made, and nothing fails.
    is_healing: bool,
    is_closed: bool,
    state: State,
    end: Option<Result<(), Error>>,
    trace: Option<Vec<String>>,
}

/// A session, and what is between it and the server.
struct ClientLink {
    session: Session,
    written: u64,
    input: BytesMut,
    server: ServerSession,
}

impl NotifierSimulation {
    fn new(seed: u64, is_traced: bool) -> Self {
        let mut random = SimulatorRandom::new(seed);
        let now = Instant::now();
        let limits = GroupLimits {
            calls: random.pick(&[1, 2, 4, 16, 1_000]),
            bytes: random.pick(&[20, 60, 1_000, 256 * 1024]),
        };
        let reconnect = random.chance(85).then_some(Reconnect {
            min: Duration::from_millis(50),
            max: Duration::from_secs(30),
            retry_refusals: random.chance(50),
        });
        let connect_timeout = Duration::from_secs(10);
        let policy = NotifierPolicy { answer_timeout: TIMEOUT, limits, connect_timeout, reconnect };
        let machine = NotifierMachine::new(&policy, now, 0, seed);
        let server = ServerSession::new(1);
        let link = ClientLink { session: session(now), written: 0, input: BytesMut::new(), server };
        Self {
            random,
            machine,
            limits,
            now,
            begin: now,
            link: Some(link),
            is_opening: false,
            sessions: 1,
            orphans: Vec::new(),
            mood: Mood::Normal,
            calls: Calls::default(),
            is_healing: false,
            is_closed: false,
            state: State::Connected,
            end: None,
            trace: is_traced.then(Vec::new),
        }
    }

    fn note(&mut self, what: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:?} {}", self.now - self.begin, what()));
        }
    }

    /// Runs to the end, and checks it.
    fn run(&mut self) -> Result<(), String> {
        let steps = self.random.range(20, 250);
        for _ in 0..steps {
            self.step()?;
        }
        self.heal()?;
        let stats = self.machine.stats();
        self.calls.check(&stats, (self.limits.calls, self.limits.bytes))
    }

    fn step(&mut self) -> Result<(), String> {
        match self.random.below(100) {
            0..=24 => self.call(),
            25..=44 => self.write(),
            45..=62 => self.execute(),
            63..=80 => self.read(),
            81..=88 => self.pass_time(),
            89..=92 => self.open(),
            93..=94 => self.lose(),
            95 => self.cancel(),
            96..=97 => self.change_mood(),
            98 => self.execute_orphan(),
            _ if self.random.chance(5) => self.close(),
            _ => {}
        }
        self.settle()
    }

    /// Everything works from now on: every call must end.
    fn heal(&mut self) -> Result<(), String> {
        self.is_healing = true;
        self.mood = Mood::Normal;
        if self.random.chance(10) {
            // The task is dropped, with everything that was not executed.
            self.note(|| "the task is dropped".to_owned());
            self.machine.end(Error::new(ErrorKind::Closed, "dropped"));
            self.settle()?;
        }
        for _ in 0..10_000 {
            if self.calls.unanswered() == 0 {
                break;
            }
            self.open();
            self.write_all();
            self.execute();
            self.execute_orphan();
            self.read_all();
            if self.link.is_none() {
                self.pass_to_deadline();
            }
            self.settle()?;
        }
        while self.orphans.iter().any(ServerSession::has_work) {
            self.execute_orphan();
        }
        match self.calls.unanswered() {
            0 => Ok(()),
            count => Err(format!("{count} calls never end")),
        }
    }

    fn call(&mut self) {
        if self.is_closed {
            return;
        }
        let size = if self.random.chance(20) { self.random.range(3, 20) } else { 1 };
        for _ in 0..size {
            let is_many = self.random.chance(10);
            let count = if is_many { self.random.range(1, 3) } else { 1 };
            let number = self.calls.all.len();
            // Pairs of a call of many are never those of another call.
            let pairs: Vec<Pair> =
                (0..count).map(|index| self.pair(number, index, is_many)).collect();
            let message = message(&pairs, is_many);
            let (reply, answer) = oneshot::channel();
            let reply = Reply::new(reply);
            self.note(|| format!("call {number}: {pairs:?}{}", if is_many { " many" } else { "" }));
            let called_at = self.now - self.time_without_room();
            self.machine.accept(Request { message, called_at, room: None, reply });
            let reply = Some(answer);
            self.calls.all.push(ModelCall { pairs, is_many, called_at, reply, end: None });
        }
    }

    /// Returns how long a call has waited for room before it was accepted: at most one answer timeout.
    fn time_without_room(&mut self) -> Duration {
        if self.random.chance(80) {
            return Duration::ZERO;
        }
        let limit = self.random.pick(&[TIMEOUT, TIMEOUT / 100]);
        Duration::from_micros(self.random.below(u64::try_from(limit.as_micros()).unwrap() + 1))
    }

    fn pair(&mut self, number: usize, index: u64, is_many: bool) -> Pair {
        let channel = self.random.pick(&["a", "b"]).to_owned();
        let payload = match self.random.below(10) {
            0..=2 if !is_many => format!("equal {}", self.random.below(3)),
            3 => format!("{INVALID} {number} {index}"),
            _ => format!("{number} {index}"),
        };
        (channel, payload)
    }

    fn write(&mut self) {
        let Some(link) = &mut self.link else { return };
        let unwritten = link.session.transmit().len();
        let bytes = match self.random.below(3) {
            0 => unwritten,
            _ => self.random.index(unwritten + 1),
        };
        self.write_bytes(bytes);
    }

    fn write_all(&mut self) {
        if let Some(link) = &mut self.link {
            let bytes = link.session.transmit().len();
            self.write_bytes(bytes);
        }
    }

    fn write_bytes(&mut self, bytes: usize) {
        let Some(link) = &mut self.link else { return };
        let out = link.session.transmit();
        let complete = link.server.take(&out[..bytes]);
        out.advance(bytes);
        link.written += bytes as u64;
        self.machine.wrote(self.now, link.written);
        self.note(|| format!("{bytes} bytes written, complete: {complete:?}"));
        self.calls.received(complete);
    }

    fn execute(&mut self) {
        let Some(link) = &mut self.link else { return };
        let executed = link.server.execute(self.mood);
        self.note(|| format!("executed: {executed:?}"));
        self.calls.executed.extend(executed);
    }

    fn execute_orphan(&mut self) {
        if self.orphans.is_empty() {
            return;
        }
        let index = self.random.index(self.orphans.len());
        if let Some(executed) = self.orphans[index].execute(Mood::Normal) {
            self.note(|| format!("executed after the loss: {executed:?}"));
            self.calls.executed.push(executed);
        } else {
            self.orphans.swap_remove(index);
        }
    }

    fn read(&mut self) {
        let Some(link) = &mut self.link else { return };
        let arrived = link.server.output.len();
        let bytes = match self.random.below(3) {
            0 => arrived,
            _ => self.random.index(arrived + 1),
        };
        self.read_bytes(bytes);
    }

    fn read_all(&mut self) {
        if let Some(link) = &mut self.link {
            let bytes = link.server.output.len();
            self.read_bytes(bytes);
        }
    }

    fn read_bytes(&mut self, bytes: usize) {
        let Some(link) = &mut self.link else { return };
        link.input.extend(link.server.output.drain(..bytes));
        // As the driver: each event is handled before the next message.
        loop {
            let result = link.session.handle_input(self.now, &mut link.input);
            let mut has_event = false;
            while let Some(event) = link.session.poll_event() {
                has_event = true;
                self.machine.handle_event(self.now, event);
                self.machine.start(self.now, &mut link.session);
            }
            if let Err(error) = result {
                return self.lost(error);
            }
            if !has_event {
                return;
            }
        }
    }

    fn pass_time(&mut self) {
        if self.random.chance(20) {
            return self.pass_to_deadline();
        }
        let time = Duration::from_millis(self.random.pick(&[1, 20, 500, 5_000]));
        let time =
            Duration::from_micros(self.random.below(u64::try_from(time.as_micros()).unwrap()));
        let until = self.now + time;
        while self.machine.poll_timeout().is_some_and(|deadline| deadline <= until)
            && self.end.is_none()
        {
            self.pass_to_deadline();
            self.act();
        }
        self.now = self.now.max(until);
    }

    /// Time passes until the next deadline.
    fn pass_to_deadline(&mut self) {
        let Some(deadline) = self.machine.poll_timeout() else { return };
        self.now = self.now.max(deadline);
        self.note(|| "a deadline".to_owned());
        if let Some(error) = self.machine.handle_timeout(self.now)
            && let Some(link) = &mut self.link
        {
            let error = link.session.fail(error);
            self.lost(error);
        }
    }

    /// An attempt ends.
    fn open(&mut self) {
        if !self.is_opening {
            return;
        }
        if self.is_healing || self.random.chance(50) {
            self.is_opening = false;
            self.sessions += 1;
            let server = ServerSession::new(self.sessions);
            let (session, input) = (session(self.now), BytesMut::new());
            // The login has written some bytes.
            let written = self.random.below(1_000);
            self.note(|| "a new session".to_owned());
            self.link = Some(ClientLink { session, written, input, server });
            self.machine.handle_opened(self.now, written);
        } else if self.random.chance(40) {
            self.is_opening = false;
            let kind = if self.random.chance(3) { ErrorKind::Auth } else { ErrorKind::Connect };
            self.note(|| format!("no session: {kind}"));
            self.machine.handle_open_failed(self.now, Error::new(kind, "no session"));
        }
    }

    /// The connection breaks, or the server ends the session.
    fn lose(&mut self) {
        let Some(link) = &mut self.link else { return };
        if self.random.chance(30) {
            link.server.terminate();
            self.note(|| "the server ends the session".to_owned());
            return;
        }
        let error = link.session.handle_eof(!link.input.is_empty());
        self.lost(error);
    }

    fn lost(&mut self, error: Error) {
        self.note(|| format!("lost: {error}"));
        if let Some(link) = self.link.take() {
            self.orphans.push(link.server);
        }
        self.machine.handle_lost(self.now, error);
    }

    /// The future of a call is dropped.
    fn cancel(&mut self) {
        if self.calls.all.is_empty() {
            return;
        }
        let index = self.random.index(self.calls.all.len());
        let call = &mut self.calls.all[index];
        if call.end.is_none() {
            call.reply = None;
            self.note(|| format!("call {index} is cancelled"));
        }
    }

    fn change_mood(&mut self) {
        self.mood = match self.random.below(6) {
            0 => Mood::Full,
            1 => Mood::Silent,
            _ => Mood::Normal,
        };
    }

    fn close(&mut self) {
        self.note(|| "close".to_owned());
        self.is_closed = true;
        self.machine.close(self.now);
        self.machine.drained();
    }

    /// Gives the session what can be sent, and takes the answers.
    fn settle(&mut self) -> Result<(), String> {
        if let Some(link) = &mut self.link {
            self.machine.start(self.now, &mut link.session);
        }
        self.act();
        while let Some((reply, answer)) = self.machine.poll_answer() {
            reply.send(answer);
        }
        self.calls.take_answers(self.now, 2 * TIMEOUT)?;
        let is_open = self.link.as_ref().is_some_and(|link| link.session.is_ready());
        if is_open != (self.state == State::Connected) && self.end.is_none() && self.link.is_none()
        {
            return Err(format!("the state is {}", self.state));
        }
        // Nothing waits while nothing is on its way.
        if let Some(link) = self.link.as_mut().filter(|_| is_open)
            && self.calls.unanswered() > 0
            && link.session.transmit().is_empty()
            && link.session.is_idle()
        {
            return Err("a call waits, and nothing is in flight".to_owned());
        }
        Ok(())
    }

    /// Performs the actions of the machine.
    fn act(&mut self) {
        while let Some(action) = self.machine.poll_action() {
            match action {
                NotifierAction::Open => self.is_opening = true,
                NotifierAction::CancelOpening => self.is_opening = false,
                NotifierAction::State(state) => self.state = state,
                NotifierAction::Failed(_) => {}
                NotifierAction::End(result) => {
                    self.is_opening = false;
                    if let Some(link) = self.link.take() {
                        self.orphans.push(link.server);
                    }
                    self.end = Some(result);
                }
            }
        }
    }
}

fn message(pairs: &[Pair], is_many: bool) -> Message {
    match pairs {
        [(channel, payload)] if !is_many => {
            Message::Notify { channel: channel.clone(), payload: payload.clone() }
        }
        pairs => {
            let mut group = Group::new();
            for (channel, payload) in pairs {
                group.push(channel, payload).unwrap();
            }
            let (channels, payloads) = group.finish();
            Message::Many { channels, payloads }
        }
    }
}
