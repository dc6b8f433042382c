//! Time, and what is to happen when.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant, SystemTime};

use super::random::Random;

/// Time of a run, in microseconds from its start.
pub(super) type Micros = u64;

pub(super) const MILLI: Micros = 1_000;
pub(super) const SECOND: Micros = 1_000_000;

/// What happens. Connections are named by their index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Event {
    // ---- the network and the servers ----
    /// The socket of a connection is open, or will not be.
    Connected(usize),
    /// A packet of ours arrives at the server.
    ToServer(usize),
    /// A packet of the server arrives at our socket.
    ToClient(usize),
    /// Somebody commits something.
    Commit,
    /// One of many commits in a short time.
    Burst,
    /// Something breaks.
    Chaos,
    /// A proxy meddles with a session.
    Meddle,
    /// A proxy rolls back what it has begun.
    Undo(usize),
    /// What a script says.
    Act(usize),
    /// Something breaks while a session takes the place of another one.
    Trouble,
    /// A server stops that is not the primary one any more.
    Stop(usize),
    /// A server comes up by one step.
    Up(usize),
    /// A stopped backend goes on.
    Mend(usize),
    /// The kernel gives up a dead connection.
    Overdue(usize),
    /// A session that is live is ended.
    Flap(usize),
    /// A socket of ours takes bytes again.
    Write(usize),
    /// A deadline of the task is due.
    Alarm(usize, u64),
    // ---- our process: nothing of it happens while it is suspended ----
    /// The task was woken and is polled.
    Task,
    /// The consumer runs.
    Consume(u64),
    /// The user gives a command.
    User,
    /// And another one, while something else is on its way.
    Whim,
    /// He has had enough.
    Leave,
    /// The runtime of the listener ends: its task is dropped.
    Drop,
    /// The hook returns.
    Hook(u64),
    // ---- the run ----
    /// Nothing breaks from here on.
    Calm,
    /// Is the listener well again?
    Look,
    /// Everything must be in order by now.
    Judge,
    /// The end of the run.
    End,
}

impl Event {
    /// Whether our process does it.
    pub(super) fn is_ours(self) -> bool {
        matches!(
            self,
            Self::Connected(_)
                | Self::Task
                | Self::Consume(_)
                | Self::User
                | Self::Leave
                | Self::Hook(_)
        )
    }
}

/// A clock that goes from event to event.
pub(super) struct Clock {
    base: Instant,
    now: Micros,
    events: BinaryHeap<Reverse<(Micros, u64, Event)>>,
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

    pub(super) fn wall(&self) -> SystemTime {
        self.wall_at(self.now)
    }

    pub(super) fn wall_at(&self, at: Micros) -> SystemTime {
        // Not the epoch of Unix: what is forgotten shall not look right.
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000) + Duration::from_micros(at)
    }

    /// The first moment that is not before `instant`.
    pub(super) fn micros(&self, instant: Instant) -> Micros {
        let passed = instant.saturating_duration_since(self.base).as_nanos();
        Micros::try_from(passed.div_ceil(1_000)).unwrap_or(Micros::MAX)
    }

    /// How many events there were.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Events of one moment come in any order.
    pub(super) fn at(&mut self, at: Micros, event: Event, random: &mut Random) {
        self.events.push(Reverse((at.max(self.now), random.number(), event)));
    }

    pub(super) fn after(&mut self, delay: Micros, event: Event, random: &mut Random) {
        self.at(self.now.saturating_add(delay), event, random);
    }

    pub(super) fn next(&mut self) -> Option<Event> {
        let Reverse((at, _, event)) = self.events.pop()?;
        self.now = at;
        self.count += 1;
        Some(event)
    }
}
