//! The state machine of one listener, without I/O.
//!
//! A [`Supervisor`] owns the [sessions](crate::proto::session) of a listener and makes every decision: when to connect and to
//! reconnect, which channels to listen to, where to report a gap, when to send heartbeats, when to begin a handover, when
//! to stall the socket, and how to close. A driver carries bytes, time and [`Action`]s between the supervisor and the
//! sockets, and decides nothing. So a simulator can replace the driver.
//!
//! | state | what happens | next state |
//! |---|---|---|
//! | `Connecting` | every channel is active | `CatchingUp` if there is a hook, else `Connected` |
//! | | any failure | `Closed` |
//! | `CatchingUp` | the hook is done, or the handover during which the server dropped a notification | `Connected` |
//! | | the session is lost | `Reconnecting` |
//! | `Connected` | the session is lost | `Reconnecting` |
//! | | the server has dropped a notification, and there is a hook or a handover | `CatchingUp` |
//! | `Reconnecting` | every channel is active or refused | `CatchingUp` if there is a hook, else `Connected` |
//! | | refused for good, or reconnecting is disabled | `Closed` |
//! | any | close, drain | `Closed` |
//!
//! There are at most three links: the current one, whose notifications are delivered; during a handover the link of the
//! new session; and one that is being closed.
//!
//! Each part has its own state and its own state machine, which its module draws: `attempts`, `restore` for the `channels`,
//! `heartbeat`, `handover`, `outages`, `flow`, `hook`, `commands` and `ending`. A part takes inputs and returns effects. One
//! loop, in `apply`, applies them, so that no part calls another one.
//!
//! ```text
//!              ┌───────────────────────────── Supervisor ─────────────────────────────┐
//! command ────▶│ input ─▶ part ─▶ effects ─▶ apply ─▶ part ─▶ effects ─▶ …            │─▶ actions
//! bytes, time ▶│                               │                                      │─▶ transmit
//! link, hook ─▶│                               └─▶ sink: notifications, hold, release │─▶ queue
//!              └──────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! The driver repeats these steps: it sets the time; it passes in commands, link events, bytes, room and timeouts; it
//! carries out each action of [`poll_action`](Supervisor::poll_action); it writes [`transmit`](Supervisor::transmit); and
//! it sleeps until something happens or [`poll_timeout`](Supervisor::poll_timeout) is reached.

mod action;
mod answer;
mod apply;
mod attempts;
mod backoff;
mod channels;
mod closing_delivery;
mod commands;
mod common;
mod counters;
mod effect;
mod end;
mod ending;
mod fence;
mod flow;
mod handover;
mod heartbeat;
mod heartbeat_query;
mod hook;
mod input;
mod link;
mod links;
mod nonces;
mod outages;
mod owner;
mod policy;
mod purpose;
mod reading;
mod rejected;
mod restore;
mod search;
mod self_notification;
mod sink;
#[cfg(test)]
mod tests;
mod transaction;

use std::time::{Duration, Instant, SystemTime};

use bytes::BytesMut;

pub(crate) use self::attempts::Attempts;
use self::attempts::TIMEOUT_MAX;
pub(crate) use self::backoff::Backoff;
use self::channels::Channels;
use self::commands::WaitingCommands;
use self::common::Common;
use self::ending::Ending;
use self::flow::Flow;
use self::handover::Handover;
use self::heartbeat::HeartbeatTimer;
use self::hook::Hook;
use self::link::{LinkStage, ListenerLink};
use self::nonces::Nonces;
use self::outages::Outages;
use crate::error::Error;
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
#[allow(unused_imports, reason = "only a listener uses it")]
pub(crate) use owner::Owner;
pub use policy::{Heartbeat, HookPolicy, Policy, Reconnect};
pub use sink::{PlacedGap, Scope, Sink, StreamPosition};

/// The state machine of one listener. See the [module](self).
#[derive(Debug)]
pub struct Supervisor<S> {
    sink: S,
    state: State,
    /// The number of sessions so far.
    epoch: u32,
    close_timeout: Duration,
    read_delay: Duration,
    common: Common,
    attempts: Attempts,
    channels: Channels,
    waiting: WaitingCommands,
    heartbeat: HeartbeatTimer,
    handover: Handover,
    outages: Outages,
    hook: Hook,
    flow: Flow,
    ending: Ending,
    /// Gaps that [`release`](Supervisor::release) puts into the queue.
    released: Vec<PlacedGap>,
}

impl<S: Sink> Supervisor<S> {
    /// Creates a supervisor, whose first action is to open a link. It puts notifications into `sink`.
    ///
    /// `time` is the time of day at `now`. All random values are computed from `secret`: 32 random bytes from the operating
    /// system, which no other listener may use.
    #[must_use]
    pub fn new(
        sink: S,
        (now, time): (Instant, SystemTime),
        secret: [u8; 32],
        mut policy: Policy,
    ) -> Self {
        policy.close_timeout = policy.close_timeout.min(TIMEOUT_MAX);
        let mut nonces = Nonces::new(secret);
        let mut random = PseudoRandom::new(nonces.seed());
        // Handovers and hooks are tried again even if reconnecting is disabled.
        let delays = policy.reconnect.unwrap_or_default();
        let attempts = Attempts::new(policy.connect_timeout, policy.reconnect, random.number());
        let handover_backoff = Backoff::new(&delays, random.number());
        let hook_backoff = Backoff::new(&delays, random.number());
        let hook = Hook::new(policy.hook, hook_backoff, random.number());
        let common = Common::new(policy.owner, now, time, nonces);
        let mut supervisor = Self {
            sink,
            state: State::Connecting,
            epoch: 0,
            close_timeout: policy.close_timeout,
            read_delay: policy.read_delay,
            channels: Channels::new(policy.channels.iter().cloned()),
            common,
            attempts,
            waiting: WaitingCommands::new(),
            heartbeat: HeartbeatTimer::new(policy.heartbeat),
            handover: Handover::new(&policy, random, handover_backoff),
            outages: Outages::default(),
            hook,
            flow: Flow::new(policy.overflow),
            ending: Ending::new(policy.owner),
            released: Vec::new(),
        };
        let deadline = supervisor.attempts.begin(now);
        supervisor.common.links.current = Some(supervisor.open(deadline));
        supervisor
    }

    // ---- output ----

    /// Returns the next action. Actions must be carried out in this order.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.common.next_action()
    }

    /// Returns the bytes to be written to a link. The caller removes from the front what it has written.
    pub fn transmit(&mut self, link: LinkId) -> Option<&mut BytesMut> {
        let link = self.common.links.all().find(|found| found.id == link)?;
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
        let links = &self.common.links;
        let elsewhere = [
            links.next.as_ref().and_then(ListenerLink::deadline),
            links.old.as_ref().and_then(ListenerLink::deadline),
            self.ending.deadline(),
            self.hook.timeout(),
            self.attempts.timeout(),
        ];
        // A stalled socket is not read, so no answer can arrive: only the deadline of the stall counts.
        let here = match self.flow.is_stalled() {
            true => [self.flow.deadline(), None, None, None],
            false => {
                let may_send = self.may_send_heartbeat();
                let current = links.current.as_ref();
                [
                    current.and_then(ListenerLink::deadline),
                    current.and_then(|link| self.heartbeat.timeout_of(link, may_send)),
                    self.handover.due(),
                    self.handover.timeout(links),
                ]
            }
        };
        elsewhere.into_iter().chain(here).flatten().min()
    }

    /// Prepares a release, for [`Action::Release`]. Returns false if it was withdrawn, because another outage has begun
    /// since. Nothing may be shown then. A later action releases the gaps of both outages.
    ///
    /// After true, the counters must be visible to the user before [`release`](Self::release) is called.
    #[must_use]
    pub fn prepare_release(&mut self, number: u64) -> bool {
        let Some(gaps) = self.outages.take_release(number) else { return false };
        let count = &mut self.common.counters.gaps;
        *count = count.saturating_add(gaps.len() as u64);
        self.released.extend(gaps);
        true
    }

    /// Shows the consumer what is held back, with the gaps. Only after [`prepare_release`](Self::prepare_release) has
    /// returned true: otherwise it would be shown too early.
    pub fn release(&mut self) {
        self.sink.release(std::mem::take(&mut self.released));
    }

    /// Returns the sink, for the code that reads the socket.
    pub fn sink(&mut self) -> &mut S {
        &mut self.sink
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
        self.attempts.have_succeeded()
    }

    /// Returns true if the listener is ending: after a close, an answered drain, or an error. During a drain it is
    /// false: an error that ends the listener then is the cause of the end.
    #[must_use]
    pub fn is_ending(&self) -> bool {
        self.ending.is_ending()
    }

    /// Returns the answer to every further command except `Close`, if the listener drains or is ending. Such a command is
    /// not sent.
    #[must_use]
    pub fn refusal(&self) -> Option<Error> {
        self.ending.refusal()
    }

    /// Returns the process id of the backend.
    #[must_use]
    pub fn process_id(&self) -> Option<i32> {
        self.common.links.session().and_then(Session::process_id)
    }

    /// Returns the number of the current session, or of the last one while there is none. The first is 1.
    #[must_use]
    pub fn epoch(&self) -> u32 {
        let current = self.common.links.current.as_ref().map(|link| link.epoch);
        current.filter(|epoch| *epoch > 0).unwrap_or(self.epoch)
    }

    /// Returns the counters.
    #[must_use]
    pub fn counters(&self) -> SupervisorCounters {
        SupervisorCounters {
            stalls: self.flow.stalls(),
            attempts: self.attempts.count(),
            heartbeats: self.heartbeat.count(),
            handovers: self.handover.count(),
            ..self.common.counters
        }
    }

    /// Returns the wanted channels, sorted, each with its state.
    pub fn channels(&self) -> impl Iterator<Item = (&str, ChannelState)> {
        self.channels.states(self.common.links.current.as_ref())
    }

    /// Returns true if there is a current session, which may still be logging in.
    #[must_use]
    pub fn has_session(&self) -> bool {
        self.common.links.current.as_ref().is_some_and(ListenerLink::is_open)
    }
}
