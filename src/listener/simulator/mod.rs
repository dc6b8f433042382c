//! A world in one thread, in which a listener lives: servers, a network, a clock, writers, a user, a consumer,
//! and what breaks. All of it follows from a seed.
//!
//! ```text
//! user ─ requests ─▶ Task(Supervisor) ─ Sink ─▶ queue ─▶ Listener ─ recv, recv_batch ─▶ consumer
//!                     ▲      │ clock, timer, hook
//!                     │      ▼
//!                    our sockets ◀─ packets ─▶ network ◀─▶ servers (testing::Backend) ◀─ writers
//! ```
//! The task, the supervisor, the sessions, the queue and the consuming half of the listener are the real ones. The
//! task is polled as a runtime does it: when it was woken, and only then. The [shell](shell) is what it finds
//! outside. The [oracle](oracle) knows what every server sent to whom and what the user was told, and looks at
//! each thing that the listener does.
//!
//! `PGBELL_SEED=n` replays one run and shows what happened; `PGBELL_SEEDS=n` runs so many.

mod alarms;
mod backoff;
mod chaos;
mod clock;
mod connection;
mod consumer;
mod coverage;
mod deliveries;
mod hook;
mod lives;
mod network;
mod oracle;
mod outages;
mod plan;
mod proxy;
mod random;
mod script;
mod server;
mod shell;
mod sockets;
mod subscriptions;
mod tests;
mod told;
mod trace;
mod user;
mod witness;
mod writers;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use self::alarms::Set;
use self::backoff::Backoff;
use self::clock::{Clock, Event, Micros, SECOND};
use self::connection::Connection;
use self::consumer::{Bell, Consumer};
use self::hook::Hook;
use self::plan::Plan;
use self::random::Random;
use self::script::Script;
use self::server::{Server, Status};
use self::shell::Inside;
use self::subscriptions::Subscriptions;
use self::trace::{Trace, say};
use self::user::Asked;
use self::witness::Witness;
use super::Listener;
use super::current::Current;
use super::handle::{ListenerHandle, Request};
use super::shared::Shared;
use super::sink::RingSink;
use super::task::Task;
use crate::Error;
use crate::notification::Stamp;
use crate::ring::{self, Pins};
use crate::supervisor::{LinkId, Reply, State, Supervisor};
use crate::testing::SessionId;

/// More is no run but a storm.
const EVENTS_MAX: u64 = 1_000_000;

type Answer = oneshot::Receiver<Result<Reply, Error>>;

struct World {
    plan: Plan,
    random: Random,
    /// Where all that a proxy does comes from.
    proxy: Random,
    clock: Clock,
    trace: Trace,
    script: Script,
    // ---- outside ----
    servers: Vec<Server>,
    primary: usize,
    connections: Vec<Connection>,
    sessions: BTreeMap<(usize, SessionId), usize>,
    commits: u64,
    /// Until when commits follow each other closely.
    busy_until: Micros,
    // ---- our process ----
    sink: Witness,
    shared: Arc<Shared>,
    links: BTreeMap<LinkId, usize>,
    /// Our ends that the task has dropped.
    dropped: Rc<RefCell<Vec<usize>>>,
    /// The connection that notifications are taken from.
    delivering: Option<usize>,
    /// It was closed, and what became of that which was read from it was not looked at.
    unchecked: Option<usize>,
    hook: Hook,
    backoff: Backoff,
    requests: mpsc::UnboundedSender<Request>,
    /// How many commands the task has looked at.
    accepted: u64,
    consumer: Consumer,
    /// Wakes the task.
    bell: Arc<Bell>,
    /// It was woken and will be polled.
    is_scheduled: bool,
    alarms: Vec<Set>,
    /// At which moment so many calls were made.
    calls: (Micros, u32),
    asleep_until: Micros,
    is_called_for_nothing: bool,
    // ---- the user ----
    channels: Subscriptions,
    commands: BTreeMap<u64, Asked>,
    next_command: u64,
    /// Where answers are to come, and those that should be there, with whether they are good ones.
    answers: BTreeMap<u64, Answer>,
    answered: Vec<(u64, bool, Answer)>,
    /// Whether the listener is connected for the first time.
    connected: Option<oneshot::Receiver<()>>,
    is_closing: bool,
    /// The task has looked at that.
    is_end_known: bool,
    close_at: Option<Micros>,
    // ---- what is known ----
    state: State,
    /// How often each state was entered.
    entered: [u64; 5],
    epochs: u32,
    lost_sessions: u32,
    told_sessions: u32,
    /// Most notifications that waited for the consumer.
    most_unread: u64,
    handovers: u32,
    /// How many notifications the servers have dropped and said so, and how many gaps told of one.
    drops: u32,
    told_drops: u32,
    /// Until when a file that attempts read is wrong.
    files_wrong_until: Micros,
    /// An attempt to connect has failed, or will.
    is_hindered: bool,
    /// How often one was asked for, of a listener that could do it.
    rotations: u32,
    /// When each gap was told.
    gaps_at: Vec<Micros>,
    /// Of each server, the newest commit that was taken in.
    last_taken: Vec<Option<usize>>,
    is_calm: bool,
    /// When the listener must be well again, at the latest.
    judgement: Micros,
    /// The last commits were made.
    has_all: bool,
    done: Option<Result<(), Error>>,
    done_at: Micros,
    /// The task was dropped before it had ended.
    is_dropped: bool,
    /// A drain was not over then.
    is_drain_cut: bool,
    /// The task has ended.
    is_gone: bool,
    is_over: bool,
    failure: Option<String>,
}

impl World {
    fn new(seed: u64, is_traced: bool) -> (Self, Inside) {
        let mut random = Random::new(seed);
        let plan = Plan::new(&mut random);
        Self::with(plan, random, is_traced)
    }

    fn with(plan: Plan, mut random: Random, is_traced: bool) -> (Self, Inside) {
        let clock = Clock::new();
        let channels = Subscriptions::new(plan.channels, plan.initial);
        let initial: Vec<usize> = (0..plan.initial).collect();
        let policy = plan.policy(channels.names(&initial));
        let (producer, consumer) = ring::channel(plan.capacity + 16);
        let pins = Pins::new(0);
        let shared = Arc::new(Shared::new(pins.clone()));
        let ring =
            RingSink::new(producer, plan.capacity, plan.bytes, plan.overflow, shared.clone());
        let (sender, requests) = mpsc::unbounded_channel();
        let (tells, connected) = oneshot::channel();
        let mut secret = [0; 32];
        secret[..8].copy_from_slice(&random.number().to_be_bytes());
        let supervisor = Supervisor::new(clock.instant(), clock.wall(), secret, policy);
        let inside = Inside { supervisor, requests, connected: tells };
        let listener = Listener {
            consumer,
            current: Current::new(pins),
            loss: None,
            stamp: Stamp { received_at: clock.wall(), epoch: 1 },
            told: false,
            is_terminated: false,
            handle: ListenerHandle::new(sender.clone(), shared.clone()),
            task: None,
        };
        let world = Self {
            servers: (0..plan.servers).map(|index| Server::new(index, plan.is_proxied)).collect(),
            last_taken: vec![None; plan.servers],
            proxy: random.apart(),
            random,
            clock,
            trace: Trace::new(is_traced),
            script: Script::default(),
            primary: 0,
            connections: Vec::new(),
            sessions: BTreeMap::new(),
            commits: 0,
            busy_until: 0,
            rotations: 0,
            files_wrong_until: 0,
            is_hindered: false,
            sink: Witness::new(ring, shared.clone(), plan.overflow),
            shared,
            links: BTreeMap::new(),
            dropped: Rc::default(),
            delivering: None,
            unchecked: None,
            hook: Hook::default(),
            backoff: Backoff::default(),
            is_called_for_nothing: false,
            handovers: 0,
            drops: 0,
            told_drops: 0,
            requests: sender,
            accepted: 0,
            consumer: Consumer::new(listener),
            bell: Arc::default(),
            is_scheduled: true,
            alarms: Vec::new(),
            calls: (0, 0),
            asleep_until: 0,
            channels,
            commands: BTreeMap::new(),
            next_command: 0,
            answers: BTreeMap::new(),
            answered: Vec::new(),
            connected: Some(connected),
            is_closing: false,
            is_end_known: false,
            close_at: None,
            state: State::Connecting,
            entered: [0; 5],
            epochs: 0,
            lost_sessions: 0,
            told_sessions: 0,
            most_unread: 0,
            gaps_at: Vec::new(),
            is_calm: false,
            judgement: plan.calm + plan.recovery(),
            has_all: false,
            done: None,
            done_at: 0,
            is_dropped: false,
            is_drain_cut: false,
            is_gone: false,
            is_over: false,
            failure: None,
            plan,
        };
        (world, inside)
    }

    fn run(&mut self, inside: Inside) {
        say!(self, "{:?}", self.plan);
        self.clock.at(0, Event::Task, &mut self.random);
        self.schedule_consumer();
        self.schedule_user();
        self.clock.at(0, Event::Commit, &mut self.random);
        self.schedule_script();
        if self.plan.chaos > 0 {
            let first = self.random.range(0, self.plan.chaos);
            self.clock.at(first, Event::Chaos, &mut self.random);
        }
        if self.plan.begins || self.plan.ends_with_error {
            let first = self.proxy.range(0, 6 * SECOND);
            self.clock.at(first, Event::Meddle, &mut self.random);
        }
        self.clock.at(self.plan.calm, Event::Calm, &mut self.random);
        if let Some(at) = self.plan.drops_at {
            self.clock.at(at, Event::Drop, &mut self.random);
        }
        if let Some(at) = self.plan.ends_at {
            self.clock.at(at, Event::Leave, &mut self.random);
        }
        let run = catch_unwind(AssertUnwindSafe(|| self.run_with_task(inside)));
        match run {
            Err(panic) if self.failure.is_none() => resume_unwind(panic),
            _ => self.gone(),
        }
        while let Some(event) = self.next() {
            match event {
                Event::Judge => self.come_to_judgement(None),
                event => self.handle(event),
            }
            self.look_at_bells(event);
            self.check_memory();
        }
    }

    /// Until the task has ended.
    fn run_with_task(&mut self, inside: Inside) {
        let Inside { supervisor, requests, connected } = inside;
        let shared = self.shared.clone();
        let mut task = Task::new(self, supervisor, requests, shared, connected);
        while let Some(event) = task.outside.next() {
            match event {
                Event::Task if !shell::poll(&mut task) => return,
                Event::Task => {}
                Event::Drop => {
                    say!(task.outside, "the runtime ends, and the task is dropped");
                    task.outside.is_dropped = true;
                    return;
                }
                Event::Judge => task.outside.come_to_judgement(Some(&task.supervisor)),
                event => task.outside.handle(event),
            }
            if std::mem::take(&mut task.outside.is_called_for_nothing) {
                shell::call_for_nothing(&mut task);
            }
            task.outside.look_at_bells(event);
            task.outside.check_sleep(&mut task.supervisor, task.requests.len());
            task.outside.check_memory();
        }
    }

    /// What happens next.
    fn next(&mut self) -> Option<Event> {
        while !self.is_over && self.failure.is_none() {
            let Some(event) = self.clock.next() else {
                self.fail("nothing is left to happen");
                break;
            };
            if self.clock.count() > EVENTS_MAX {
                self.fail(format!("more than {EVENTS_MAX} events"));
                break;
            }
            if event.is_ours() && self.clock.now() < self.asleep_until {
                self.clock.at(self.asleep_until, event, &mut self.random);
                continue;
            }
            return Some(event);
        }
        None
    }

    fn come_to_judgement(&mut self, supervisor: Option<&Supervisor>) {
        self.judge(supervisor);
        if !self.is_closing && self.failure.is_none() {
            self.end_by_choice();
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Connected(index) => self.connected(index),
            Event::ToServer(index) => self.arrive_at_server(index),
            Event::ToClient(index) => self.arrive_at_client(index),
            Event::Commit => self.commit_something(),
            Event::Burst => self.burst(),
            Event::Trouble => self.trouble(),
            Event::Whim => self.act_as_user(),
            Event::Chaos => self.chaos(),
            Event::Meddle => self.meddle(),
            Event::Undo(index) => self.undo(index),
            Event::Act(number) => self.act(number),
            Event::Stop(server) => self.stop(server),
            Event::Up(server) => self.come_up(server),
            Event::Mend(index) => self.mend(index),
            Event::Write(index) => self.unblock(index),
            Event::Alarm(number, turn) => self.ring(number, turn),
            Event::Consume(turn) => self.consume(turn),
            Event::User => self.user(),
            Event::Leave => self.leave(),
            Event::Overdue(index) => self.is_overdue(index),
            Event::Flap(index) => self.flap(index),
            Event::Hook(number) => self.hook_returns(number),
            Event::Calm => self.calm(),
            Event::Look => self.look(),
            // Those are of whoever has the task.
            Event::Task | Event::Judge | Event::Drop => {}
            Event::End => self.end(),
        }
    }

    /// Nothing breaks from here on; what is broken without our knowing stays so.
    fn calm(&mut self) {
        say!(self, "calm");
        self.is_calm = true;
        for server in &mut self.servers {
            server.status = Status::Up;
        }
        for connection in &mut self.connections {
            connection.drops_next = false;
            connection.begin = None;
        }
        self.schedule_consumer();
        self.clock.after(SECOND, Event::Look, &mut self.random);
    }
}
