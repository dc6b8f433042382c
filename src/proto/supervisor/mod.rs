//! The state machine of one listener, without I/O.
//!
//! A [`Supervisor`] owns the [sessions](crate::proto::session) of a listener and makes every decision: when to connect and to
//! reconnect, which channels to listen to, where to report a gap, when to send heartbeats, when to begin a handover, when
//! to stall the socket, and how to close. A driver carries bytes, time and [`Action`]s between the supervisor and the
//! sockets, and decides nothing. So a simulator can replace the driver.
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
//! There are at most three links: the current one, whose notifications are delivered; during a handover the link of the
//! new session; and one that is being closed.
//!
//! The driver repeats these steps: it passes in commands, link events, bytes, room and time; it carries out each action
//! of [`poll_action`](Supervisor::poll_action); it writes [`transmit`](Supervisor::transmit); and it sleeps until
//! something happens or [`poll_timeout`](Supervisor::poll_timeout) is reached.

mod action;
mod backoff;
mod close;
mod closing_delivery;
mod commands;
mod counters;
mod flow;
mod gap;
mod handover;
mod heartbeat;
mod heartbeat_query;
mod hook;
mod input;
mod link;
mod nonces;
mod outage;
mod policy;
mod reading;
mod reconnect;
mod rejected;
mod restore;
mod search;
mod self_notification;
mod sink;
#[cfg(test)]
mod tests;
mod transaction;
mod wall_clock;

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant, SystemTime};

use bytes::BytesMut;

pub(crate) use self::backoff::Backoff;
use self::close::Draining;
use self::flow::Flow;
use self::handover::Handover;
use self::heartbeat::HeartbeatTimer;
use self::hook::HookState;
use self::link::{LinkStage, ListenerLink};
use self::nonces::Nonces;
use self::outage::Outages;
use self::wall_clock::WallClock;
use crate::error::{Error, ErrorKind};
use crate::notification::Gap;
use crate::proto::route::PseudoRandom;
use crate::proto::session::Session;

pub use crate::notification::ReceiveInfo;
pub use action::{
    Action, CHANNELS_WARNED, ChannelState, Close, Command, CommandNumber, LinkEvent, LinkId,
    Listening, Live, LogEvent, Reply, State,
};
pub use counters::SupervisorCounters;
#[allow(unused_imports, reason = "only a listener uses it")]
pub(crate) use counters::supervisor_counters;
pub use flow::Overflow;
#[allow(unused_imports, reason = "only the delivery proof uses it")]
pub(crate) use heartbeat_query::{HEARTBEAT_SQL, names_only};
pub use policy::{Heartbeat, HookPolicy, Policy, Reconnect};
pub use sink::Sink;

/// The state machine of one listener. See the [module](self).
#[derive(Debug)]
pub struct Supervisor {
    policy: Policy,
    state: State,
    /// The link whose notifications are delivered.
    current: Option<ListenerLink>,
    /// The link of the new session of a handover.
    next: Option<ListenerLink>,
    /// The link of the old session of a handover, which is being closed.
    old: Option<ListenerLink>,
    links: u32,
    epoch: u32,
    wanted: BTreeSet<String>,
    /// Commands that are not sent yet. A query runs alone, because it may open a transaction, and LISTEN takes effect only
    /// when a transaction is committed.
    waiting: VecDeque<(CommandNumber, Command)>,
    flow: Flow,
    outages: Outages,
    /// Gaps of ended outages that are not in the queue yet, each with its position.
    gaps: Vec<(u64, Gap)>,
    /// The number of the [`Action::Release`] that is not carried out yet. `None`: there is none, or it was withdrawn
    /// because of another loss.
    release: Option<u64>,
    /// The number of releases so far.
    releases: u64,
    backoff: Option<Backoff>,
    retry_at: Option<Instant>,
    heartbeat: HeartbeatTimer,
    handover: Handover,
    handover_backoff: Backoff,
    hook: HookState,
    draining: Option<Draining>,
    /// True after the first session was live and the hook has succeeded. Before that a loss ends the listener.
    has_begun: bool,
    /// True if the listener is ending.
    ending: bool,
    /// The cause of the end, if the user did not ask for it. It is reported when the session is closed.
    cause: Option<Error>,
    /// Random numbers that are not secret: for the time of the next handover.
    random: PseudoRandom,
    /// Secret random values: for the fence notification of a handover and the name of its channel.
    nonces: Nonces,
    wall_clock: WallClock,
    actions: VecDeque<Action>,
    counters: SupervisorCounters,
}

/// The role of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Current,
    Next,
    Old,
}

/// The longest timeout of a connect or a close. Without it `now + timeout` could overflow, and the deadline would be `now`.
const TIMEOUT_MAX: Duration = Duration::from_secs(24 * 3600);

impl Supervisor {
    /// Creates a supervisor, whose first action is to open a link.
    ///
    /// `time` is the time of day at `now`. All random values are computed from `secret`: 32 random bytes from the operating
    /// system, which no other listener may use.
    #[must_use]
    pub fn new(now: Instant, time: SystemTime, secret: [u8; 32], mut policy: Policy) -> Self {
        for timeout in [&mut policy.connect_timeout, &mut policy.close_timeout] {
            *timeout = TIMEOUT_MAX.min(*timeout);
        }
        let mut nonces = Nonces::new(secret);
        let mut random = PseudoRandom::new(nonces.seed());
        // Handovers and hooks are tried again even if reconnecting is disabled.
        let delays = policy.reconnect.unwrap_or_default();
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
            heartbeat: HeartbeatTimer::new(policy.heartbeat),
            handover: Handover::default(),
            handover_backoff: Backoff::new(&delays, random.number()),
            hook: HookState::new(Backoff::new(&delays, random.number()), random.number()),
            draining: None,
            has_begun: false,
            ending: false,
            cause: None,
            random,
            nonces,
            wall_clock: WallClock::new(now, time),
            actions: VecDeque::new(),
            counters: SupervisorCounters::default(),
            policy,
        };
        supervisor.log_many_channels(0);
        supervisor.current = Some(supervisor.open(now));
        supervisor
    }

    /// Sets the time of day at `now`. It must be called before the other inputs at `now`, because gaps contain the time of
    /// day.
    pub fn set_time(&mut self, now: Instant, time: SystemTime) {
        self.wall_clock.set(now, time);
    }

    // ---- output ----

    /// Returns the next action. Actions must be carried out in this order.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Returns the bytes to be written to a link. The caller removes from the front what it has written.
    pub fn transmit(&mut self, link: LinkId) -> Option<&mut BytesMut> {
        let links = [&mut self.current, &mut self.next, &mut self.old];
        let link = links.into_iter().flatten().find(|found| found.id == link)?;
        match &mut link.stage {
            LinkStage::Open(session) | LinkStage::Closing { session, .. } => {
                Some(session.transmit())
            }
            LinkStage::Opening { .. } => None,
        }
    }

    /// Returns the instant at which [`handle_timeout`](Self::handle_timeout) must be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let elsewhere = [
            self.next.as_ref().and_then(ListenerLink::deadline),
            self.old.as_ref().and_then(ListenerLink::deadline),
            self.draining.as_ref().and_then(|draining| draining.deadline),
            self.hook.timeout(),
            self.retry_at,
        ];
        // A stalled socket is not read, so no answer can arrive: only the deadline of the stall counts.
        let here = match self.flow.is_stalled() {
            true => [self.flow.deadline(), None, None, None, None],
            false => [
                self.current.as_ref().and_then(ListenerLink::deadline),
                self.heartbeat_deadline(),
                self.self_notification_deadline(),
                self.handover.due(),
                self.handover_deadline(),
            ],
        };
        elsewhere.into_iter().chain(here).flatten().min()
    }

    // ---- getters ----

    /// Returns the state of the listener.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// Returns true after the first session was live and the hook has succeeded once. A failure before that ends the
    /// listener.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// Returns the process id of the backend.
    #[must_use]
    pub fn process_id(&self) -> Option<i32> {
        self.session().and_then(Session::process_id)
    }

    /// Returns the number of the current session, or of the last one while there is none. The first is 1.
    #[must_use]
    pub fn epoch(&self) -> u32 {
        let current = self.current.as_ref().map(|link| link.epoch).filter(|epoch| *epoch > 0);
        current.unwrap_or(self.epoch)
    }

    /// Returns the counters.
    #[must_use]
    pub fn counters(&self) -> SupervisorCounters {
        SupervisorCounters { stalls: self.flow.stalls(), ..self.counters }
    }

    /// Returns the wanted channels, sorted, each with its state.
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

    /// Returns true if there is a current session, which may still be logging in.
    #[must_use]
    pub fn has_session(&self) -> bool {
        self.current.as_ref().is_some_and(ListenerLink::is_open)
    }

    fn session(&self) -> Option<&Session> {
        self.current.as_ref().and_then(ListenerLink::session)
    }

    fn role(&self, id: LinkId) -> Option<Role> {
        let is = |link: &Option<ListenerLink>| link.as_ref().is_some_and(|link| link.id == id);
        match () {
            () if is(&self.current) => Some(Role::Current),
            () if is(&self.next) => Some(Role::Next),
            () if is(&self.old) => Some(Role::Old),
            () => None,
        }
    }

    /// Returns the current or the next link, without a borrow of the other fields.
    fn find<'a>(
        current: &'a mut Option<ListenerLink>,
        next: &'a mut Option<ListenerLink>,
        id: LinkId,
    ) -> Option<&'a mut ListenerLink> {
        [current, next].into_iter().flatten().find(|link| link.id == id)
    }

    // ---- transitions ----

    fn open(&mut self, now: Instant) -> ListenerLink {
        self.handover.attempt_begins();
        self.links = self.links.saturating_add(1);
        self.counters.attempts = self.counters.attempts.saturating_add(1);
        let id = LinkId(self.links);
        let deadline = now.checked_add(self.policy.connect_timeout).unwrap_or(now);
        self.actions.push_back(Action::Open { link: id });
        ListenerLink::opening(now, id, deadline, self.policy.read_delay)
    }

    fn resume(&mut self, now: Instant) {
        if let Some(stalled) = self.flow.resume(now)
            && let Some(link) = &mut self.current
        {
            // Nothing could arrive while the socket was not read.
            link.add_unread_time(now, stalled);
            self.handover.add_unread_time(now, stalled);
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

#[cold]
fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the listener is closed")
}
