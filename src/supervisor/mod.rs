//! One listener, without any I/O: what it wants, what it has, and what to do next.
//!
//! A [`Supervisor`] owns the [sessions](crate::session) of a listener, at most one at a time, and decides
//! everything: when to connect, what to subscribe, when to stall the socket, how to close. A shell
//! carries bytes, time and [`Action`]s between it and the world, and decides nothing; so a simulator
//! can take the shell's place.
//!
//! ```text
//! Connecting ── opened, logged in, LISTEN active ──▶ Connected ──▶ Closed
//!     └───────── any failure ─────────────────────────────┴──▶ Closed, with the cause
//! ```
//!
//! The shell goes round in this order: give it commands, link events, bytes, room and time; then carry
//! out [`poll_action`](Supervisor::poll_action) until there is none, write
//! [`transmit`](Supervisor::transmit), and sleep until something happens or
//! [`poll_timeout`](Supervisor::poll_timeout).

mod action;
mod commands;
mod flow;
mod link;
mod sink;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use bytes::BytesMut;

use self::commands::Purpose;
use self::flow::Flow;
use self::link::{Link, Stage};
use crate::notification::Gap;
use crate::session::{self, Progress, Session, SessionEvent};
use crate::wire::Run;
use crate::{Error, ErrorKind};

pub use crate::notification::Stamp;
pub use action::{Action, Close, Command, CommandId, LinkEvent, LinkId, Listening, Reply, State};
pub use flow::Overflow;
pub use sink::Sink;

/// What a supervisor must know before it begins.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Channels to be active before the listener counts as connected.
    pub channels: Vec<String>,
    /// What to do when the queue is full.
    pub overflow: Overflow,
    /// How long an attempt to connect may take, from the name to the first ReadyForQuery.
    pub connect_timeout: Duration,
    /// How long a clean close may take.
    pub close_timeout: Duration,
}

/// One listener. See the [module](self).
#[derive(Debug)]
pub struct Supervisor {
    policy: Policy,
    state: State,
    link: Option<Link>,
    links: u32,
    wanted: BTreeSet<String>,
    in_flight: BTreeMap<session::CommandId, Purpose>,
    /// Commands that come after a query, and a query that comes after commands. A query runs alone,
    /// because it may open a transaction: what the server does inside it does not last. N66.
    waiting: VecDeque<(CommandId, Command)>,
    flow: Flow,
    actions: VecDeque<Action>,
    received: u64,
    gaps: u64,
}

impl Supervisor {
    /// A listener that wants to open its first connection.
    #[must_use]
    pub fn new(now: Instant, policy: Policy) -> Self {
        let mut supervisor = Self {
            state: State::Connecting,
            link: None,
            links: 0,
            wanted: policy.channels.iter().cloned().collect(),
            in_flight: BTreeMap::new(),
            waiting: VecDeque::new(),
            flow: Flow::new(policy.overflow),
            actions: VecDeque::new(),
            received: 0,
            gaps: 0,
            policy,
        };
        supervisor.open(now);
        supervisor
    }

    // ---- input ----

    /// A user wants something. The answer is an [`Action::Reply`], except to `Close`, whose answer is
    /// [`Action::Done`].
    pub fn handle_command(&mut self, now: Instant, id: CommandId, command: Command) {
        if command == Command::Close {
            return self.close(now);
        }
        self.waiting.push_back((id, command));
        self.start_waiting(now);
        // The answer lies behind unread notifications: read on.
        self.resume(now);
    }

    /// Something happened to a link. A link that is gone is passed over.
    pub fn handle_link(&mut self, now: Instant, link: LinkId, event: LinkEvent) {
        let Some(current) = self.link.as_mut().filter(|current| current.id == link) else { return };
        match event {
            LinkEvent::Opened(session) => {
                // A second one would take the place of a session whose commands wait for answers.
                if let Stage::Opening { .. } = current.stage {
                    let is_ready = session.is_ready();
                    current.stage = Stage::Open(session);
                    if is_ready {
                        self.subscribe(now);
                    }
                }
            }
            LinkEvent::Failed(error) => self.lose(error),
            LinkEvent::Eof => {
                let error = match &mut current.stage {
                    Stage::Open(session) => session.handle_eof(&[]),
                    Stage::Opening { .. } | Stage::Closing { .. } => closed(),
                };
                self.lose(error);
            }
            LinkEvent::Closed => self.lose(closed()),
        }
    }

    /// Bytes arrived: `input` is all that was read and not yet handled. What is handled is removed.
    pub fn handle_bytes(
        &mut self,
        now: Instant,
        stamp: Stamp,
        link: LinkId,
        input: &mut BytesMut,
        sink: &mut impl Sink,
    ) {
        while self.handle_some(now, stamp, link, input, sink) {}
        sink.publish();
    }

    /// Handles one run of notifications, or the messages before it. Returns whether to go on.
    fn handle_some(
        &mut self,
        now: Instant,
        stamp: Stamp,
        link: LinkId,
        input: &mut BytesMut,
        sink: &mut impl Sink,
    ) -> bool {
        if self.flow.is_stalled() {
            return false;
        }
        let Some(current) = self.link.as_mut().filter(|current| current.id == link) else {
            input.clear();
            return false;
        };
        let measured = std::mem::take(&mut current.measured);
        let Stage::Open(session) = &mut current.stage else {
            // Closing: nothing is delivered any more.
            input.clear();
            return false;
        };
        let progress = match measured.count {
            0 => session.handle_input(now, input),
            _ => Ok(Progress::Notifications(measured)),
        };
        self.handle_events(now, stamp, sink);
        match progress {
            Ok(Progress::NeedMore) => false,
            Ok(Progress::Notifications(run)) => {
                let surplus = self.awaits_answer();
                // Asked for every run: an empty queue that the run does not fill counts too.
                let may_stall = self.flow.may_stall(sink.is_empty());
                let fits = sink.fits(input, run, surplus);
                let take = if fits.count < run.count && !surplus && may_stall {
                    self.flow.stall(now);
                    self.actions.push_back(Action::Read { link, on: false });
                    self.keep_measured(run, fits);
                    fits
                } else {
                    run
                };
                self.received = self.received.saturating_add(take.count as u64);
                if take.count > 0 {
                    sink.notifications(input, take, stamp, surplus);
                }
                true
            }
            Err(error) => {
                self.lose(error);
                false
            }
        }
    }

    /// Of `run`, `taken` is taken off the input now; the rest stays at its head.
    fn keep_measured(&mut self, run: Run, taken: Run) {
        if let Some(link) = &mut self.link {
            link.measured = Run {
                count: run.count.saturating_sub(taken.count),
                bytes: run.bytes.saturating_sub(taken.bytes),
            };
        }
    }

    /// Whether something that somebody waits for lies behind the notifications: the end of the login,
    /// or the answer to a command, which an event may have sent just now.
    fn awaits_answer(&self) -> bool {
        self.session()
            .is_some_and(|session| !session.is_ready() || session.commands_in_flight() > 0)
    }

    /// The consumer has taken something, or went away.
    pub fn handle_room(&mut self, now: Instant) {
        self.resume(now);
    }

    /// Time has come to look at the deadlines.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.flow.deadline().is_some_and(|deadline| deadline <= now) {
            self.resume(now);
        }
        let Some(link) = &mut self.link else { return };
        match &mut link.stage {
            Stage::Opening { deadline } if *deadline <= now => {
                let error = Error::new(
                    ErrorKind::Timeout,
                    format!("no connection within {:?}", self.policy.connect_timeout),
                );
                self.lose(error);
            }
            Stage::Closing { deadline, .. } if *deadline <= now => self.finish(Ok(())),
            Stage::Open(session) => {
                if let Err(error) = session.handle_timeout(now) {
                    self.lose(error);
                }
            }
            Stage::Opening { .. } | Stage::Closing { .. } => {}
        }
    }

    /// Whether a login waits for [`compute`](Self::compute).
    #[must_use]
    pub fn is_computing(&self) -> bool {
        self.session().is_some_and(Session::is_computing)
    }

    /// A bounded step of a login's key derivation. Let others run in between.
    pub fn compute(&mut self) {
        if let Some(Link { stage: Stage::Open(session), .. }) = &mut self.link
            && let Err(error) = session.compute()
        {
            self.lose(error);
        }
    }

    // ---- output ----

    /// What to do next, in order.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// What is to be written to a link. The caller removes from its front what it has written.
    pub fn transmit(&mut self, link: LinkId) -> Option<&mut BytesMut> {
        let current = self.link.as_mut().filter(|current| current.id == link)?;
        match &mut current.stage {
            Stage::Open(session) | Stage::Closing { session, .. } => Some(session.transmit()),
            Stage::Opening { .. } => None,
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let link = match &self.link.as_ref()?.stage {
            Stage::Opening { deadline } | Stage::Closing { deadline, .. } => Some(*deadline),
            Stage::Open(session) => session.poll_timeout(),
        };
        // A stalled socket brings no answer: no deadline runs on it but the stall's own.
        self.flow.deadline().or(link)
    }

    // ---- getters ----

    /// The state of the listener.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// Process id of the server's end.
    #[must_use]
    pub fn process_id(&self) -> Option<i32> {
        self.session().and_then(Session::process_id)
    }

    /// Number of the current session, from 1.
    #[must_use]
    pub fn epoch(&self) -> u32 {
        self.links
    }

    /// How many notifications were taken from the sessions.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received
    }

    /// How many gaps were reported.
    #[must_use]
    pub fn gaps(&self) -> u64 {
        self.gaps
    }

    /// How often the socket was left unread because the queue was full.
    #[must_use]
    pub fn stalls(&self) -> u64 {
        self.flow.stalls()
    }

    /// The wanted channels, and whether the server has confirmed each.
    pub fn channels(&self) -> impl Iterator<Item = (&str, Listening)> {
        let confirmed: BTreeSet<&str> =
            self.session().into_iter().flat_map(Session::channels).collect();
        self.wanted.iter().map(move |name| {
            let active = confirmed.contains(name.as_str());
            (name.as_str(), if active { Listening::Active } else { Listening::Pending })
        })
    }

    fn session(&self) -> Option<&Session> {
        match &self.link.as_ref()?.stage {
            Stage::Open(session) | Stage::Closing { session, .. } => Some(session),
            Stage::Opening { .. } => None,
        }
    }

    // ---- transitions ----

    fn open(&mut self, now: Instant) {
        self.links = self.links.saturating_add(1);
        let id = LinkId(self.links);
        let deadline = now.checked_add(self.policy.connect_timeout).unwrap_or(now);
        self.link = Some(Link::new(id, Stage::Opening { deadline }));
        self.actions.push_back(Action::Open { link: id });
    }

    fn handle_events(&mut self, now: Instant, stamp: Stamp, sink: &mut impl Sink) {
        while let Some(Link { stage: Stage::Open(session), .. }) = &mut self.link
            && let Some(event) = session.poll_event()
        {
            match event {
                SessionEvent::Ready => self.subscribe(now),
                SessionEvent::Done { id, result } => self.done(now, id, result),
                SessionEvent::NotificationDropped(cause) => {
                    self.gaps = self.gaps.saturating_add(1);
                    sink.gap(Gap::within_session(cause, stamp.received_at, stamp.epoch));
                }
            }
        }
    }

    /// Everything that is wanted and not active, in one transaction.
    fn subscribe(&mut self, now: Instant) {
        if self.wanted.is_empty() {
            return self.enter(State::Connected);
        }
        let Some(Link { stage: Stage::Open(session), .. }) = &mut self.link else { return };
        let channels: Vec<&String> = self.wanted.iter().collect();
        match session.listen(now, &channels) {
            Ok(id) => drop(self.in_flight.insert(id, Purpose::Subscribe)),
            Err(error) => self.finish(Err(error)),
        }
    }

    fn close(&mut self, now: Instant) {
        let deadline = now.checked_add(self.policy.close_timeout).unwrap_or(now);
        self.resume(now);
        match self.link.take() {
            Some(Link { id, stage: Stage::Open(mut session), .. }) => {
                session.terminate();
                self.answer_all(&mut session, &closed());
                self.link = Some(Link::new(id, Stage::Closing { session, deadline }));
                self.actions.push_back(Action::Close { link: id, how: Close::Graceful });
            }
            Some(link @ Link { stage: Stage::Closing { .. }, .. }) => self.link = Some(link),
            other => {
                self.link = other;
                self.finish(Ok(()));
            }
        }
    }

    /// The link is broken, and with it the listener: it does not reconnect.
    fn lose(&mut self, error: Error) {
        let closing = matches!(self.link, Some(Link { stage: Stage::Closing { .. }, .. }));
        if let Some(Link { stage: Stage::Open(session), .. }) = &mut self.link {
            session.fail(error.clone());
        }
        self.finish(if closing { Ok(()) } else { Err(error) });
    }

    fn finish(&mut self, result: Result<(), Error>) {
        if self.state == State::Closed {
            return;
        }
        if let Some(Link { id, stage, .. }) = self.link.take() {
            if let Stage::Open(mut session) = stage {
                session.fail(closed());
                let cause = match &result {
                    Ok(()) => closed(),
                    Err(cause) => Error::caused(
                        ErrorKind::Closed,
                        "the listener has ended before this was sent",
                        cause.clone(),
                    ),
                };
                self.answer_all(&mut session, &cause);
            }
            self.actions.push_back(Action::Close { link: id, how: Close::Abort });
        }
        self.enter(State::Closed);
        self.actions.push_back(Action::Done(result));
    }

    fn resume(&mut self, now: Instant) {
        if self.flow.resume(now)
            && let Some(link) = &self.link
        {
            self.actions.push_back(Action::Read { link: link.id, on: true });
        }
    }

    fn enter(&mut self, state: State) {
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
