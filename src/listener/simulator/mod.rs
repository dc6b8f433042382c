//! A world in one thread, in which a listener lives: servers, a network, a clock, writers, a user, a consumer,
//! and what breaks. All of it follows from a seed.
//!
//! ```text
//! user ─ commands ─▶ Supervisor ─ Sink ─▶ queue ─▶ Listener ─ recv, recv_batch ─▶ consumer
//!                     ▲      │ actions
//!                     │      ▼
//!                    the shell ◀─ packets ─▶ network ◀─▶ servers (testing::Backend) ◀─ writers
//! ```
//! The supervisor, the sessions, the queue and the consuming half of the listener are the real ones; the
//! [shell](shell) takes the place of the task and its sockets. The [oracle](oracle) knows what every server
//! sent to whom and what the user was told, and looks at each thing that the listener does.
//!
//! `PGBELL_SEED=n` replays one run and shows what happened; `PGBELL_SEEDS=n` runs so many.

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
mod random;
mod server;
mod shell;
mod sockets;
mod subscriptions;
mod tests;
mod trace;
mod user;
mod witness;
mod writers;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::BytesMut;
use tokio::sync::mpsc;

use self::backoff::Backoff;
use self::clock::{Clock, Event, Micros, SECOND};
use self::connection::Connection;
use self::consumer::{Bell, Consumer};
use self::hook::Hook;
use self::plan::Plan;
use self::random::Random;
use self::server::{Server, Status};
use self::subscriptions::Subscriptions;
use self::trace::{Trace, say};
use self::user::Asked;
use self::witness::Witness;
use super::Listener;
use super::current::Current;
use super::handle::{ListenerHandle, Request};
use super::shared::Shared;
use super::sink::RingSink;
use crate::Error;
use crate::notification::Stamp;
use crate::ring::{self, Pins};
use crate::supervisor::{LinkId, State, Supervisor};
use crate::testing::SessionId;

/// More is no run but a storm.
const EVENTS_MAX: u64 = 1_000_000;

struct World {
    plan: Plan,
    random: Random,
    clock: Clock,
    trace: Trace,
    // ---- outside ----
    servers: Vec<Server>,
    primary: usize,
    connections: Vec<Connection>,
    sessions: BTreeMap<(usize, SessionId), usize>,
    commits: u64,
    /// Until when commits follow each other closely.
    busy_until: Micros,
    // ---- our process ----
    supervisor: Supervisor,
    sink: Witness,
    links: BTreeMap<LinkId, usize>,
    /// The connection that notifications are taken from, and what was read of it and not handled.
    delivering: Option<usize>,
    buffer: BytesMut,
    hook: Hook,
    backoff: Backoff,
    requests: mpsc::UnboundedReceiver<Request>,
    consumer: Consumer,
    /// Wakes the reading side when the queue has room.
    reader: Arc<Bell>,
    /// It looks for room.
    is_in_room: bool,
    /// It was woken and will look.
    is_room_told: bool,
    timer: u64,
    timer_at: Option<Micros>,
    /// At which moment so many calls were made.
    calls: (Micros, u32),
    asleep_until: Micros,
    /// How often a deadline was due still after it had been looked at.
    late_calls: u32,
    // ---- the user ----
    channels: Subscriptions,
    commands: BTreeMap<u64, Asked>,
    next_command: u64,
    is_closing: bool,
    close_at: Option<Micros>,
    // ---- what is known ----
    state: State,
    epochs: u32,
    lost_sessions: u32,
    told_sessions: u32,
    /// Most notifications that waited for the consumer.
    most_unread: u64,
    handovers: u32,
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
    is_over: bool,
    failure: Option<String>,
}

impl World {
    fn new(seed: u64, is_traced: bool) -> Self {
        let mut random = Random::new(seed);
        let plan = Plan::new(&mut random);
        let clock = Clock::new();
        let channels = Subscriptions::new(plan.channels, plan.initial);
        let initial: Vec<usize> = (0..plan.initial).collect();
        let policy = plan.policy(channels.names(&initial));
        let (producer, consumer) = ring::channel(plan.capacity + 16);
        let pins = Pins::new(0);
        let shared = Arc::new(Shared::new(pins.clone()));
        let mut ring =
            RingSink::new(producer, plan.capacity, plan.bytes, plan.overflow, shared.clone());
        let buffer = ring.first_buffer();
        let (sender, requests) = mpsc::unbounded_channel();
        let listener = Listener {
            consumer,
            current: Current::new(pins),
            loss: None,
            stamp: Stamp { received_at: clock.wall(), epoch: 1 },
            told: false,
            handle: ListenerHandle::new(sender, shared),
            task: None,
        };
        Self {
            servers: (0..plan.servers).map(Server::new).collect(),
            supervisor: shell::supervisor(&clock, &mut random, policy),
            last_taken: vec![None; plan.servers],
            random,
            clock,
            trace: Trace::new(is_traced),
            primary: 0,
            connections: Vec::new(),
            sessions: BTreeMap::new(),
            commits: 0,
            busy_until: 0,
            rotations: 0,
            is_hindered: false,
            sink: Witness::new(ring),
            links: BTreeMap::new(),
            delivering: None,
            buffer,
            hook: Hook::default(),
            backoff: Backoff::default(),
            late_calls: 0,
            handovers: 0,
            requests,
            consumer: Consumer::new(listener),
            reader: Arc::default(),
            is_in_room: false,
            is_room_told: false,
            timer: 0,
            timer_at: None,
            calls: (0, 0),
            asleep_until: 0,
            channels,
            commands: BTreeMap::new(),
            next_command: 0,
            is_closing: false,
            close_at: None,
            state: State::Connecting,
            epochs: 0,
            lost_sessions: 0,
            told_sessions: 0,
            most_unread: 0,
            gaps_at: Vec::new(),
            is_calm: false,
            judgement: plan.calm + plan.recovery(),
            has_all: false,
            done: None,
            is_over: false,
            failure: None,
            plan,
        }
    }

    fn run(&mut self) {
        say!(self, "{:?}", self.plan);
        self.act();
        self.schedule_consumer();
        self.schedule_user();
        self.clock.at(0, Event::Commit, &mut self.random);
        if self.plan.chaos > 0 {
            let first = self.random.range(0, self.plan.chaos);
            self.clock.at(first, Event::Chaos, &mut self.random);
        }
        self.clock.at(self.plan.calm, Event::Calm, &mut self.random);
        if let Some(at) = self.plan.ends_at {
            self.clock.at(at, Event::Leave, &mut self.random);
        }
        while !self.is_over && self.failure.is_none() {
            let Some(event) = self.clock.next() else {
                return self.fail("nothing is left to happen");
            };
            if self.clock.count() > EVENTS_MAX {
                return self.fail(format!("more than {EVENTS_MAX} events"));
            }
            if event.is_ours() && self.clock.now() < self.asleep_until {
                self.clock.at(self.asleep_until, event, &mut self.random);
                continue;
            }
            self.handle(event);
            self.look_at_requests();
            self.look_at_bells();
            self.check_memory();
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
            Event::Stop(server) => self.stop(server),
            Event::Up(server) => self.come_up(server),
            Event::Mend(index) => self.mend(index),
            Event::Read(index) => self.read(index),
            Event::Write(index) => {
                self.connections[index].is_blocked = false;
                self.write_all();
            }
            Event::Timer(number) => self.timer(number),
            Event::Room => {
                self.is_room_told = false;
                self.room();
            }
            Event::Consume(turn) => self.consume(turn),
            Event::User => self.user(),
            Event::Leave => self.leave(),
            Event::Overdue(index) => self.is_overdue(index),
            Event::Flap(index) => self.flap(index),
            Event::Hook(number) => self.hook_returns(number),
            Event::Calm => self.calm(),
            Event::Look => self.look(),
            Event::Judge => {
                self.judge();
                if !self.is_closing && self.failure.is_none() {
                    self.end_by_choice();
                }
            }
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
        self.schedule_consumer();
        self.clock.after(SECOND, Event::Look, &mut self.random);
    }
}
