//! A deterministic simulator of a listener and its environment, in one thread: servers, a network, a clock, writers, a user,
//! a consumer, and failures. A seed determines the whole run.
//!
//! ```text
//! user ─ CommandQueue ─▶ ListenerTask(Supervisor) ─ Sink ─▶ queue ─▶ Listener ─ recv, recv_batch ─▶ consumer
//!                     ▲      │ clock, timer, hook
//!                     │      ▼
//!                        sockets ◀─ packets ─▶ network ◀─▶ servers (testing::Backend) ◀─ writers
//! ```
//! The task, the supervisor, the sessions, the queue and the consumer's half of the listener are the real ones. As in a
//! runtime, the task is polled only after it was woken. Its [environment](environment) is simulated. The [oracle](oracle)
//! records what every server sent and what was reported to the user, and checks every action of the listener.
//!
//! `PGBELL_SEED=n` replays one run and prints its trace; `PGBELL_SEEDS=n` runs `n` seeds.

mod actions;
mod alarms;
mod backoff;
mod call_future;
mod calls;
mod chaos;
mod clock;
mod command_queue;
mod connection;
mod consumer;
mod coverage;
mod deliveries;
mod dense;
mod ending;
mod environment;
mod hook;
mod hub;
mod network;
mod oracle;
mod outages;
mod plan;
mod proxy;
mod random;
mod recording_sink;
mod script;
mod server;
mod sockets;
mod subscriptions;
mod tests;
mod trace;
mod user;
mod writers;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use self::alarms::AlarmState;
use self::backoff::BackoffCheck;
use self::calls::Calls;
use self::clock::{Clock, Micros, SECOND, SimulatorEvent};
use self::connection::SimulatedConnection;
use self::consumer::{FlagWaker, SimulatedConsumer};
use self::environment::TaskParts;
use self::hook::SimulatedHook;
use self::hub::SimulatedHub;
use self::plan::Plan;
pub(crate) use self::random::SimulatorRandom;
use self::recording_sink::{RecordingSink, SharedSink};
use self::script::Scenario;
use self::server::{SimulatedServer, Status};
use self::subscriptions::Subscriptions;
pub(crate) use self::tests::number;
use self::trace::{Trace, log_line};
use crate::error::Error;
use crate::listener::command_queue::CommandQueue;
use crate::listener::shared::ListenerShared;
use crate::listener::task::ListenerTask;
use crate::listener::{Listener, ListenerHandle, RunningTask};
use crate::proto::ring::{self, Pins};
use crate::proto::supervisor::{LinkId, State, Supervisor};
use crate::queue::{QueueCounters, RingSink};
use crate::testing::SessionId;

/// The highest number of events of a run. More events mean an endless loop.
const EVENTS_MAX: u64 = 1_000_000;

/// The state of a run.
struct Simulation {
    plan: Plan,
    random: SimulatorRandom,
    /// The random generator for the actions of proxies.
    proxy: SimulatorRandom,
    clock: Clock,
    trace: Trace,
    script: Scenario,
    // ---- the servers and the network ----
    servers: Vec<SimulatedServer>,
    primary: usize,
    connections: Vec<SimulatedConnection>,
    sessions: BTreeMap<(usize, SessionId), usize>,
    commits: u64,
    /// Commits are frequent until then.
    busy_until: Micros,
    // ---- the client's process ----
    sink: SharedSink,
    shared: Arc<ListenerShared>,
    links: BTreeMap<LinkId, usize>,
    /// The client's sockets that the task has dropped.
    dropped: Rc<RefCell<Vec<usize>>>,
    /// The connection that delivers notifications.
    delivering: Option<usize>,
    /// That connection after it was closed, while its last notifications are not checked.
    unchecked: Option<usize>,
    hook: SimulatedHook,
    backoff: BackoffCheck,
    consumer: SimulatedConsumer,
    /// The waker of the task.
    waker: Arc<FlagWaker>,
    /// The task was woken and will be polled.
    is_scheduled: bool,
    alarms: Vec<AlarmState>,
    /// The last time at which the task was called, and the number of calls at that time.
    task_calls: (Micros, u32),
    /// The process is suspended until then.
    asleep_until: Micros,
    /// The supervisor gets calls without an effect.
    has_useless_calls: bool,
    /// The hub, if the run is one of a hub. The listener is then beside it, and receives everything too.
    hub: Option<SimulatedHub>,
    // ---- the user ----
    channels: Subscriptions,
    calls: Calls,
    /// Receives a message when the listener is connected for the first time.
    connected: Option<oneshot::Receiver<()>>,
    is_closing: bool,
    /// The task has received the command that ends it.
    is_end_known: bool,
    close_at: Option<Micros>,
    // ---- what was observed ----
    state: State,
    /// How often each state was entered.
    entered: [u64; 5],
    epochs: u32,
    lost_sessions: u32,
    reported_sessions: u32,
    /// The number of reads that were delayed.
    delayed: u64,
    /// The highest number of notifications that were in the queue at one time.
    most_unread: u64,
    handovers: u32,
    /// The number of dropped notifications that the servers have reported, and the number of gaps that report one.
    drops: u32,
    reported_drops: u32,
    /// A file that every attempt reads is wrong until then.
    files_wrong_until: Micros,
    /// An attempt to connect has failed, or will fail.
    had_failures: bool,
    /// The number of `rotate` calls that must lead to a handover.
    rotations: u32,
    /// The time at which each gap was reported.
    gaps_at: Vec<Micros>,
    /// How often the final check may still be delayed because of the state `CatchingUp`.
    final_checks_left: u32,
    /// The newest commit of each server that was received.
    last_taken: Vec<Option<usize>>,
    is_calm: bool,
    /// The latest time at which the listener must have recovered.
    recovery_at: Micros,
    /// The last commits were made.
    has_all: bool,
    done: Option<Result<(), Error>>,
    done_at: Micros,
    /// The task was dropped before it had ended.
    is_dropped: bool,
    /// A drain was in progress when the task was dropped.
    is_drain_interrupted: bool,
    /// The task has ended.
    has_task_ended: bool,
    is_over: bool,
    failure: Option<String>,
}

impl Simulation {
    fn new(seed: u64, is_traced: bool) -> (Self, TaskParts) {
        let mut random = SimulatorRandom::new(seed);
        let plan = Plan::new(&mut random);
        Self::with(plan, random, is_traced)
    }

    /// Creates a run of a hub.
    fn of_hub(seed: u64, is_traced: bool) -> (Self, TaskParts) {
        let mut random = SimulatorRandom::new(seed);
        let plan = Plan::of_hub(&mut random);
        Self::with(plan, random, is_traced)
    }

    fn with(plan: Plan, mut random: SimulatorRandom, is_traced: bool) -> (Self, TaskParts) {
        let is_hub = plan.is_hub;
        let clock = Clock::new();
        let channels = Subscriptions::new(plan.channels, plan.initial);
        let initial: Vec<usize> = (0..plan.initial).collect();
        let policy = plan.policy(channels.names(&initial));
        let (producer, consumer) = ring::channel(plan.capacity + 16);
        let pins = Pins::new(0);
        let shared = Arc::new(ListenerShared::with_queue_limit(pins.clone(), plan.queue_bytes));
        let capacity = plan.capacity;
        // A hub sets the counters itself.
        let queue = if is_hub { Arc::new(QueueCounters::default()) } else { shared.queue() };
        let ring = RingSink::new(producer, capacity, plan.bytes, plan.overflow, pins, queue);
        let (sender, requests) = mpsc::unbounded_channel();
        let (tells, connected) = oneshot::channel();
        let mut secret = [0; 32];
        secret[..8].copy_from_slice(&random.number().to_be_bytes());
        let sink = SharedSink::new(RecordingSink::new(ring, shared.clone(), plan.overflow));
        let now = (clock.instant(), clock.wall_time());
        let supervisor = Supervisor::new(sink.clone(), now, secret, policy);
        let parts = TaskParts { supervisor, requests, connected: tells };
        let handle = ListenerHandle::new(sender.clone(), shared.clone());
        let listener = Listener::new(consumer, RunningTask::without_task(handle.clone()));
        let queue = CommandQueue::new(sender, shared.clone());
        let proxy = random.apart();
        let hub = is_hub.then(|| {
            let (hub, hub_sink) =
                SimulatedHub::new(handle, shared.clone(), &channels, proxy.apart());
            sink.get_mut().hub = Some(hub_sink);
            hub
        });
        let calls = Calls::new(queue, plan.queue_bytes, proxy.apart());
        let simulation = Self {
            servers: (0..plan.servers)
                .map(|index| SimulatedServer::new(index, plan.is_proxied))
                .collect(),
            last_taken: vec![None; plan.servers],
            proxy,
            random,
            clock,
            trace: Trace::new(is_traced),
            script: Scenario::default(),
            primary: 0,
            connections: Vec::new(),
            sessions: BTreeMap::new(),
            commits: 0,
            busy_until: 0,
            rotations: 0,
            files_wrong_until: 0,
            had_failures: false,
            sink,
            shared,
            links: BTreeMap::new(),
            dropped: Rc::default(),
            delivering: None,
            unchecked: None,
            hook: SimulatedHook::default(),
            backoff: BackoffCheck::default(),
            has_useless_calls: false,
            handovers: 0,
            drops: 0,
            reported_drops: 0,
            consumer: SimulatedConsumer::new(listener),
            waker: Arc::default(),
            is_scheduled: true,
            alarms: Vec::new(),
            task_calls: (0, 0),
            asleep_until: 0,
            hub,
            channels,
            calls,
            connected: Some(connected),
            is_closing: false,
            is_end_known: false,
            close_at: None,
            state: State::Connecting,
            entered: [0; 5],
            epochs: 0,
            lost_sessions: 0,
            reported_sessions: 0,
            delayed: 0,
            most_unread: 0,
            gaps_at: Vec::new(),
            final_checks_left: 3,
            is_calm: false,
            recovery_at: plan.calm + plan.recovery(),
            has_all: false,
            done: None,
            done_at: 0,
            is_dropped: false,
            is_drain_interrupted: false,
            has_task_ended: false,
            is_over: false,
            failure: None,
            plan,
        };
        (simulation, parts)
    }

    fn run(&mut self, parts: TaskParts) {
        log_line!(self, "{:?}", self.plan);
        self.clock.at(0, SimulatorEvent::Task, &mut self.random);
        self.schedule_consumer();
        self.schedule_user();
        self.schedule_hub();
        self.clock.at(0, SimulatorEvent::Commit, &mut self.random);
        self.schedule_script();
        if self.plan.chaos > 0 {
            let first = self.random.range(0, self.plan.chaos);
            self.clock.at(first, SimulatorEvent::Chaos, &mut self.random);
        }
        if self.plan.begins || self.plan.ends_with_error {
            let first = self.proxy.range(0, 6 * SECOND);
            self.clock.at(first, SimulatorEvent::Proxy, &mut self.random);
        }
        if self.plan.is_dense {
            let first = self.proxy.range(0, self.plan.calm);
            self.clock.at(first, SimulatorEvent::Dense(0), &mut self.random);
        }
        self.clock.at(self.plan.calm, SimulatorEvent::Calm, &mut self.random);
        if let Some(at) = self.plan.drops_at {
            self.clock.at(at, SimulatorEvent::Drop, &mut self.random);
        }
        if let Some(at) = self.plan.ends_at {
            self.clock.at(at, SimulatorEvent::UserEnds, &mut self.random);
        }
        let run = catch_unwind(AssertUnwindSafe(|| self.run_with_task(parts)));
        match run {
            Err(panic) if self.failure.is_none() => resume_unwind(panic),
            _ => self.task_ended(),
        }
        while let Some(event) = self.next() {
            match event {
                SimulatorEvent::FinalCheck => self.check_at_the_end(None),
                event => self.handle(event),
            }
            self.poll_woken(event);
            self.poll_woken_of_hub(event);
            self.check_memory();
            self.check_room();
        }
    }

    /// Runs until the task has ended.
    fn run_with_task(&mut self, parts: TaskParts) {
        let TaskParts { supervisor, requests, connected } = parts;
        let shared = self.shared.clone();
        let mut task = ListenerTask::new(self, supervisor, requests, shared, connected);
        while let Some(event) = task.environment.next() {
            match event {
                SimulatorEvent::Task if !environment::poll(&mut task) => return,
                SimulatorEvent::Task => {}
                SimulatorEvent::Drop => {
                    log_line!(task.environment, "the runtime ends, and the task is dropped");
                    task.environment.is_dropped = true;
                    return;
                }
                SimulatorEvent::FinalCheck => {
                    task.environment.check_at_the_end(Some(&task.supervisor));
                }
                event => task.environment.handle(event),
            }
            if std::mem::take(&mut task.environment.has_useless_calls) {
                environment::make_useless_calls(&mut task);
            }
            task.environment.poll_woken(event);
            task.environment.poll_woken_of_hub(event);
            task.environment.check_sleep(&mut task.supervisor, task.requests.len());
            task.environment.check_memory();
            task.environment.check_room();
        }
    }

    /// Returns the next event.
    fn next(&mut self) -> Option<SimulatorEvent> {
        while !self.is_over && self.failure.is_none() {
            let Some(event) = self.clock.next() else {
                self.fail("there are no more events");
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

    fn check_at_the_end(&mut self, supervisor: Option<&Supervisor<SharedSink>>) {
        // A handover may have replaced the session just now, and a channel that was refused before is active: that is a gap
        // without a lost session.
        let is_catching_up = self.state == State::CatchingUp && self.done.is_none();
        if is_catching_up && !self.is_closing && self.final_checks_left > 0 {
            self.final_checks_left -= 1;
            return self.clock.after(SECOND, SimulatorEvent::FinalCheck, &mut self.random);
        }
        self.check_recovered(supervisor);
        self.check_hub_at_the_end(supervisor);
        if !self.is_closing && self.failure.is_none() {
            self.end_by_choice();
        }
    }

    fn handle(&mut self, event: SimulatorEvent) {
        match event {
            SimulatorEvent::Connected(index) => self.connected(index),
            SimulatorEvent::ToServer(index) => self.arrive_at_server(index),
            SimulatorEvent::ToClient(index) => self.arrive_at_client(index),
            SimulatorEvent::Commit => self.commit_something(),
            SimulatorEvent::Burst => self.burst(),
            SimulatorEvent::Dense(number) => self.write_densely(number),
            SimulatorEvent::FailDuringHandover => self.fail_during_handover(),
            SimulatorEvent::ExtraCommand => self.act_as_user(),
            SimulatorEvent::Chaos => self.chaos(),
            SimulatorEvent::Proxy => self.act_as_proxy(),
            SimulatorEvent::ProxyRollback(index) => self.undo(index),
            SimulatorEvent::Act(number) => self.act(number),
            SimulatorEvent::Stop(server) => self.stop(server),
            SimulatorEvent::Up(server) => self.come_up(server),
            SimulatorEvent::Resume(index) => self.resume_backend(index),
            SimulatorEvent::Write(index) => self.unblock(index),
            SimulatorEvent::Alarm(number, turn) => self.fire_alarm(number, turn),
            SimulatorEvent::Consume(turn) => self.consume(turn),
            SimulatorEvent::User => self.user(),
            SimulatorEvent::UserEnds => self.end_by_user(),
            SimulatorEvent::EndAgain => self.end_again(),
            SimulatorEvent::DropCall(id) => self.drop_call(id),
            SimulatorEvent::Overdue(index) => self.is_overdue(index),
            SimulatorEvent::Flap(index) => self.flap(index),
            SimulatorEvent::Hook(number) => self.hook_returns(number),
            SimulatorEvent::Keeper => self.poll_keeper(),
            SimulatorEvent::HubUser => self.use_hub(),
            SimulatorEvent::Subscriber(number) => self.poll_subscriber(number),
            SimulatorEvent::Leave(number) => self.leave(number),
            SimulatorEvent::Calm => self.calm(),
            SimulatorEvent::CheckRecovery => self.check_recovery(),
            // The caller, which owns the task, handles these.
            SimulatorEvent::Task | SimulatorEvent::FinalCheck | SimulatorEvent::Drop => {}
            SimulatorEvent::End => self.end(),
        }
    }

    /// From here on nothing new breaks. Connections that are half-open stay so.
    fn calm(&mut self) {
        log_line!(self, "calm");
        self.is_calm = true;
        for server in &mut self.servers {
            server.status = Status::Up;
        }
        for connection in &mut self.connections {
            connection.drops_next = false;
            connection.begin = None;
        }
        self.schedule_consumer();
        self.clock.after(SECOND, SimulatorEvent::CheckRecovery, &mut self.random);
    }
}
