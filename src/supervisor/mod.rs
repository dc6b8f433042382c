//! One listener, without any I/O: what it wants, what it has, and what to do next.
//!
//! A [`Supervisor`] owns the [sessions](crate::session) of a listener and decides everything: when to connect
//! and to come back, what to subscribe, what to tell of a loss, how to prove that a session lives, when to
//! replace it, when to stall the socket, how to close. A shell carries bytes, time and [`Action`]s between it
//! and the world, and decides nothing; so a simulator can take the shell's place.
//!
//! ```text
//!                              hook, if there is one
//! Connecting ── LISTEN active ──▶ CatchingUp ──▶ Connected ◀┐ handover
//!     │                             ▲                │  └───┘
//!     │                             │                │ session lost
//!     │                             │                ▼
//!     │ any failure                 └──────────── Reconnecting ◀┐ backoff, attempt
//!     ▼       every LISTEN active or refused         │  └───────┘
//!   Closed ◀─────────────────────────────────────────┘ refused for good
//!     ▲
//!     └─ from every state: close, drain; a failure before it was Connected; a loss, if it does not reconnect
//! ```
//!
//! At most three links live: the current one, whose notifications are delivered; during a
//! handover its successor; and one that is being closed.
//!
//! The shell goes round in this order: give it commands, link events, bytes, room and time; then carry
//! out [`poll_action`](Supervisor::poll_action) until there is none, write
//! [`transmit`](Supervisor::transmit), and sleep until something happens or
//! [`poll_timeout`](Supervisor::poll_timeout).

mod action;
mod backoff;
mod close;
mod commands;
mod doubt;
mod echo;
mod flow;
mod handover;
mod hook;
mod input;
mod link;
mod nonces;
mod outage;
mod policy;
mod probe;
mod proof;
mod rest;
mod restore;
mod search;
mod sink;
#[cfg(test)]
mod tests;
mod transaction;
mod wall;

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant, SystemTime};

use bytes::BytesMut;

pub(crate) use self::backoff::Backoff;
use self::close::Draining;
use self::flow::Flow;
use self::handover::Handover;
use self::hook::Hook;
use self::link::{Link, Stage};
use self::nonces::Nonces;
use self::outage::Outages;
use self::probe::Probe;
use self::wall::Wall;
use crate::notification::Gap;
use crate::route::Shuffle;
use crate::session::Session;
use crate::{Error, ErrorKind};

pub use crate::notification::Stamp;
pub use action::{
    Action, CHANNELS_WARNED, ChannelState, Close, Command, CommandId, Incident, LinkEvent, LinkId,
    Listening, Live, Reply, State,
};
pub use flow::Overflow;
pub use policy::{Heartbeat, HookPolicy, Policy, Reconnect};
pub use proof::{PROOF_COUNT_SQL, PROOF_OF_LIFE_SQL, PROOF_SQL, names_only};
pub use sink::Sink;

/// One listener. See the [module](self).
#[derive(Debug)]
pub struct Supervisor {
    policy: Policy,
    state: State,
    /// Its notifications are delivered.
    current: Option<Link>,
    /// Takes the place of the current one.
    next: Option<Link>,
    /// Was replaced, and is being closed.
    old: Option<Link>,
    links: u32,
    epoch: u32,
    wanted: BTreeSet<String>,
    /// Commands whose turn has not come. A query runs alone, because it may open a transaction: what the
    /// server does inside it does not last. N66.
    waiting: VecDeque<(CommandId, Command)>,
    flow: Flow,
    outages: Outages,
    /// Gaps that are over and not in the queue yet, each with its position.
    gaps: Vec<(u64, Gap)>,
    /// Number of the [`Action::Release`] that is on its way. `None`: something was lost since, or there is none.
    release: Option<u64>,
    /// How many there were.
    releases: u64,
    backoff: Option<Backoff>,
    retry_at: Option<Instant>,
    probe: Probe,
    handover: Handover,
    handover_backoff: Backoff,
    hook: Hook,
    draining: Option<Draining>,
    /// The first session listens to everything, and the hook has succeeded: from here on a loss is followed by another
    /// session.
    has_begun: bool,
    /// The end was asked for, or has come.
    ending: bool,
    /// Why it has come, if it was not asked for. It is reported when the session is closed.
    cause: Option<Error>,
    /// For what may be guessed: when the next handover is due.
    random: Shuffle,
    /// For what must not: the fence of a handover, and the name of its channel.
    nonces: Nonces,
    wall: Wall,
    actions: VecDeque<Action>,
    figures: Figures,
}

/// What a supervisor has counted since it began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Figures {
    /// Notifications taken from the sessions.
    pub received: u64,
    /// Gaps put into the stream. A queue may merge those that lie in one place.
    pub gaps: u64,
    /// Sessions begun.
    pub sessions: u64,
    /// Sessions lost.
    pub sessions_lost: u64,
    /// Attempts to open a session.
    pub attempts: u64,
    /// Proofs of the subscription asked for.
    pub proofs: u64,
    /// Sessions that took the place of another one without a gap.
    pub handovers: u64,
    /// How often the hook was run.
    pub hooks: u64,
    /// How often it failed.
    pub hook_failures: u64,
    /// How often the socket was left unread because the queue was full.
    pub stalls: u64,
}

/// Which of the links one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Current,
    Next,
    Old,
}

/// Longest time for a connect or a close: a deadline that cannot be told is at once.
const TIMEOUT_MAX: Duration = Duration::from_secs(24 * 3600);

/// Between attempts of handovers and hooks, when nothing is said of the delays of reconnecting.
const DELAYS: Reconnect = Reconnect {
    min: Duration::from_millis(50),
    max: Duration::from_secs(30),
    retry_refusals: false,
};

impl Supervisor {
    /// A listener that wants to open its first connection. `time` is the time of day at `now`; what is left
    /// to chance follows from `secret`: 32 bytes from the operating system, which no other listener has.
    #[must_use]
    pub fn new(now: Instant, time: SystemTime, secret: [u8; 32], mut policy: Policy) -> Self {
        for timeout in [&mut policy.connect_timeout, &mut policy.close_timeout] {
            *timeout = TIMEOUT_MAX.min(*timeout);
        }
        let mut nonces = Nonces::new(secret);
        let mut random = Shuffle::new(nonces.seed());
        let delays = policy.reconnect.unwrap_or(DELAYS);
        let mut supervisor = Self {
            state: State::Connecting,
            current: None,
            next: None,
            old: None,
            links: 0,
            epoch: 0,
            wanted: policy.channels.iter().cloned().collect(),
            waiting: VecDeque::new(),
            flow: Flow::new(policy.overflow),
            outages: Outages::default(),
            gaps: Vec::new(),
            release: None,
            releases: 0,
            backoff: policy.reconnect.map(|delays| Backoff::new(&delays, random.number())),
            retry_at: None,
            probe: Probe::new(policy.heartbeat),
            handover: Handover::default(),
            handover_backoff: Backoff::new(&delays, random.number()),
            hook: Hook::new(Backoff::new(&delays, random.number()), random.number()),
            draining: None,
            has_begun: false,
            ending: false,
            cause: None,
            random,
            nonces,
            wall: Wall::new(now, time),
            actions: VecDeque::new(),
            figures: Figures::default(),
            policy,
        };
        supervisor.warn_of_channels(0);
        supervisor.current = Some(supervisor.open(now));
        supervisor
    }

    /// It is `time` of the day at `now`. Said before anything else that happens then, or what is told of losses is as
    /// late as the last time that it was said.
    pub fn set_time(&mut self, now: Instant, time: SystemTime) {
        self.wall.set(now, time);
    }

    // ---- output ----

    /// What to do next, in order.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// What is to be written to a link. The caller removes from its front what it has written.
    pub fn transmit(&mut self, link: LinkId) -> Option<&mut BytesMut> {
        let links = [&mut self.current, &mut self.next, &mut self.old];
        let link = links.into_iter().flatten().find(|found| found.id == link)?;
        match &mut link.stage {
            Stage::Open(session) | Stage::Closing { session, .. } => Some(session.transmit()),
            Stage::Opening { .. } => None,
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let elsewhere = [
            self.next.as_ref().and_then(Link::deadline),
            self.old.as_ref().and_then(Link::deadline),
            self.draining.as_ref().and_then(|draining| draining.deadline),
            self.hook.timeout(),
            self.retry_at,
        ];
        // A stalled socket brings no answer: no deadline runs on it but the stall's own.
        let here = match self.flow.is_stalled() {
            true => [self.flow.deadline(), None, None, None, None],
            false => [
                self.current.as_ref().and_then(Link::deadline),
                self.probe_timeout(),
                self.echo_deadline(),
                self.handover.due(),
                self.handover_deadline(),
            ],
        };
        elsewhere.into_iter().chain(here).flatten().min()
    }

    // ---- getters ----

    /// The state of the listener.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// Whether the first session listens to everything, and the hook has succeeded once. A failure before that ends the
    /// listener.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// Process id of the server's end.
    #[must_use]
    pub fn process_id(&self) -> Option<i32> {
        self.session().and_then(Session::process_id)
    }

    /// Number of the current session, from 1; of the last one while there is none.
    #[must_use]
    pub fn epoch(&self) -> u32 {
        let current = self.current.as_ref().map(|link| link.epoch).filter(|epoch| *epoch > 0);
        current.unwrap_or(self.epoch)
    }

    /// What was counted.
    #[must_use]
    pub fn figures(&self) -> Figures {
        Figures { stalls: self.flow.stalls(), ..self.figures }
    }

    /// The wanted channels, sorted, and how far each has come.
    pub fn channels(&self) -> impl Iterator<Item = (&str, ChannelState)> {
        let confirmed: BTreeSet<&str> =
            self.session().into_iter().flat_map(Session::channels).collect();
        let refused = self.current.as_ref().map(|link| &link.refused);
        self.wanted.iter().map(move |name| {
            let refusal = refused.and_then(|refused| refused.get(name));
            let state = match refusal {
                _ if confirmed.contains(name.as_str()) => ChannelState::Active,
                Some(error) => ChannelState::Refused(error.clone()),
                None => ChannelState::Pending,
            };
            (name.as_str(), state)
        })
    }

    /// Whether there is a session: logging in, or further.
    #[must_use]
    pub fn has_session(&self) -> bool {
        self.current.as_ref().is_some_and(Link::is_open)
    }

    fn session(&self) -> Option<&Session> {
        self.current.as_ref().and_then(Link::session)
    }

    fn role(&self, id: LinkId) -> Option<Role> {
        let is = |link: &Option<Link>| link.as_ref().is_some_and(|link| link.id == id);
        match () {
            () if is(&self.current) => Some(Role::Current),
            () if is(&self.next) => Some(Role::Next),
            () if is(&self.old) => Some(Role::Old),
            () => None,
        }
    }

    /// The current link or the next, without borrowing the rest.
    fn find<'a>(
        current: &'a mut Option<Link>,
        next: &'a mut Option<Link>,
        id: LinkId,
    ) -> Option<&'a mut Link> {
        [current, next].into_iter().flatten().find(|link| link.id == id)
    }

    // ---- transitions ----

    fn open(&mut self, now: Instant) -> Link {
        self.handover.attempt_begins();
        self.links = self.links.saturating_add(1);
        self.figures.attempts = self.figures.attempts.saturating_add(1);
        let id = LinkId(self.links);
        let deadline = now.checked_add(self.policy.connect_timeout).unwrap_or(now);
        self.actions.push_back(Action::Open { link: id });
        Link::opening(now, id, deadline)
    }

    /// The current link is broken, or could not be opened.
    fn lose(&mut self, now: Instant, error: Error, sink: &mut impl Sink) {
        if self.flow.is_stalled() {
            return self.end_behind(now, LinkEvent::Failed(error));
        }
        let Some(link) = self.current.take() else { return };
        if let Stage::Closing { .. } = link.stage {
            self.current = Some(link);
            return self.finish(Ok(()));
        }
        // A login that goes on in the session is an attempt still.
        let (was_open, live_since) = (link.was_ready, link.live_since);
        // Before what follows from it, as the answers to commands in flight.
        if was_open {
            self.figures.sessions_lost = self.figures.sessions_lost.saturating_add(1);
            self.actions.push_back(Action::Tell(Incident::Lost { error: error.clone() }));
        } else {
            self.actions.push_back(Action::Tell(Incident::AttemptFailed { error: error.clone() }));
        }
        self.abandon(link, error.clone());
        let refused = !was_open && is_refusal(&error) && !self.retries_refusals();
        if !self.goes_on() || refused {
            return self.finish(Err(error));
        }
        if was_open {
            self.hold(now, error.clone(), 1, sink);
            self.flow.resume(now);
            self.cancel_hook();
            self.probe.stop();
            self.handover.due = None;
        }
        self.enter(State::Reconnecting);
        if let (Some(since), Some(backoff)) = (live_since, &mut self.backoff) {
            backoff.was_live(now.saturating_duration_since(since));
        }
        if !self.succeed(now, sink) {
            self.retry_later(now, error);
        }
        self.start_waiting(now);
    }

    /// What was read of the current link and waits for room stands before its end: it is delivered first.
    fn end_behind(&mut self, now: Instant, end: LinkEvent) {
        self.resume(now);
        if let Some(link) = &mut self.current {
            link.end.get_or_insert(end);
        }
    }

    fn retries_refusals(&self) -> bool {
        self.policy.reconnect.is_some_and(|reconnect| reconnect.retry_refusals)
    }

    fn retry_later(&mut self, now: Instant, error: Error) {
        let Some(backoff) = &mut self.backoff else { return };
        let delay = backoff.next();
        self.retry_at = now.checked_add(delay);
        self.actions.push_back(Action::Tell(Incident::Reconnecting { error, delay }));
    }

    fn retry(&mut self, now: Instant) {
        if self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
            self.outages.count_attempt();
            self.current = Some(self.open(now));
        }
    }

    fn resume(&mut self, now: Instant) {
        if let Some(stalled) = self.flow.resume(now)
            && let Some(link) = &mut self.current
        {
            // What was not read was not waited for.
            link.was_unread(now, stalled);
            self.handover.was_unread(now, stalled);
            self.actions.push_back(Action::Read { link: link.id, on: true });
        }
    }

    fn enter(&mut self, state: State) {
        self.has_begun |= state == State::Connected;
        if self.state != state {
            self.state = state;
            self.actions.push_back(Action::State(state));
        }
    }
}

/// Whether the next attempt would fail as this one did, unless another host or another password helps. What was read
/// outside is read anew: it may be another by then.
fn is_refusal(error: &Error) -> bool {
    match error.kind() {
        _ if error.is_passing() => false,
        ErrorKind::Auth | ErrorKind::Config | ErrorKind::Misuse | ErrorKind::Unsupported => true,
        // The database does not exist, or was dropped. N31.
        _ => matches!(error.sqlstate(), Some("3D000" | "57P04")),
    }
}

#[cold]
fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the listener is closed")
}
