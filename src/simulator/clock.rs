//! [`Clock`]: the simulated time, with the queue of future events.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant, SystemTime};

use super::random::SimulatorRandom;

/// A time of a run, in microseconds from its start.
pub(super) type Micros = u64;

pub(super) const MILLI: Micros = 1_000;
pub(super) const SECOND: Micros = 1_000_000;

/// An event of a run. Numbers are indices of connections, servers or timers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum SimulatorEvent {
    // ---- the network and the servers ----
    /// A TCP connect succeeds or fails.
    Connected(usize),
    /// A packet of the client arrives at the server.
    ToServer(usize),
    /// A packet of the server arrives at the client.
    ToClient(usize),
    /// A writer commits something.
    Commit,
    /// One of many commits in a short time.
    Burst,
    /// One of the writes of a dense flow.
    Dense(u32),
    /// Something breaks.
    Chaos,
    /// A proxy begins a transaction, or ends a session with an error.
    Proxy,
    /// A proxy rolls back its transaction.
    ProxyRollback(usize),
    /// A step of a script.
    Act(usize),
    /// Something breaks during a handover.
    FailDuringHandover,
    /// A former primary stops.
    Stop(usize),
    /// A server begins to start, or has started.
    Up(usize),
    /// A stopped backend continues.
    Resume(usize),
    /// The kernel gives up a dead connection.
    Overdue(usize),
    /// A live session is ended.
    Flap(usize),
    /// A socket of the client accepts bytes again.
    Write(usize),
    /// A deadline of the task has passed.
    Alarm(usize, u64),
    // ---- the client's process: these wait while it is suspended ----
    /// The task was woken and is polled.
    Task,
    /// The consumer runs.
    Consume(u64),
    /// The user sends a command.
    User,
    /// The user sends a command while a message is on its way.
    ExtraCommand,
    /// The user drops the future of a call.
    DropCall(u64),
    /// The user calls `drain` and `close` while the listener drains.
    EndAgain,
    /// The user ends the listener.
    UserEnds,
    /// The runtime of the listener ends: its task is dropped.
    Drop,
    /// The hook returns.
    Hook(u64),
    /// The keeper of a hub was woken and is polled.
    Keeper,
    /// The user of a hub subscribes or leaves.
    HubUser,
    /// A subscription of a hub is polled.
    Subscriber(usize),
    /// A subscriber of a hub leaves.
    Leave(usize),
    // ---- the run ----
    /// From here on nothing breaks.
    Calm,
    /// Check whether the listener has recovered.
    CheckRecovery,
    /// The listener must have recovered.
    FinalCheck,
    /// The end of the run.
    End,
}

impl SimulatorEvent {
    /// Returns whether it happens in the client's process.
    pub(super) fn is_ours(self) -> bool {
        matches!(
            self,
            Self::Connected(_)
                | Self::Task
                | Self::Consume(_)
                | Self::User
                | Self::DropCall(_)
                | Self::EndAgain
                | Self::UserEnds
                | Self::Hook(_)
                | Self::Keeper
                | Self::HubUser
                | Self::Subscriber(_)
                | Self::Leave(_)
        )
    }
}

/// A clock that moves from event to event.
pub(super) struct Clock {
    base: Instant,
    now: Micros,
    events: BinaryHeap<Reverse<(Micros, u64, SimulatorEvent)>>,
    count: u64,
}

impl Clock {
    pub(super) fn new() -> Self {
        Self { base: Instant::now(), now: 0, events: BinaryHeap::new(), count: 0 }
    }

    pub(super) fn now(&self) -> Micros {
        self.now
    }

    pub(super) fn instant(&self) -> Instant {
        self.base + Duration::from_micros(self.now)
    }

    pub(super) fn wall_time(&self) -> SystemTime {
        self.wall_at(self.now)
    }

    pub(super) fn wall_at(&self, at: Micros) -> SystemTime {
        // Not the Unix epoch, so that a forgotten value is detected.
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000) + Duration::from_micros(at)
    }

    /// Returns the first time that is not before `instant`.
    pub(super) fn micros(&self, instant: Instant) -> Micros {
        let passed = instant.saturating_duration_since(self.base).as_nanos();
        Micros::try_from(passed.div_ceil(1_000)).unwrap_or(Micros::MAX)
    }

    /// Returns the number of events so far.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Schedules an event. Events at the same time have a random order.
    pub(super) fn at(&mut self, at: Micros, event: SimulatorEvent, random: &mut SimulatorRandom) {
        self.events.push(Reverse((at.max(self.now), random.number(), event)));
    }

    pub(super) fn after(
        &mut self,
        delay: Micros,
        event: SimulatorEvent,
        random: &mut SimulatorRandom,
    ) {
        self.at(self.now.saturating_add(delay), event, random);
    }

    pub(super) fn next(&mut self) -> Option<SimulatorEvent> {
        let Reverse((at, _, event)) = self.events.pop()?;
        self.now = at;
        self.count += 1;
        Some(event)
    }
}
