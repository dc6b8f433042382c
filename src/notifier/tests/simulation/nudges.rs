//! Simulated runs of the machine of nudges: nudges, refusals, a full notification queue, lost sessions, silence, and clocks that jump.
//! A naive list of the nudges says afterwards which of them must have been committed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};

use super::super::server::{Executed, INVALID, Mood, ServerSession};
use super::super::session;
use super::{ClientLink, TIMEOUT};
use crate::error::{Error, ErrorKind};
use crate::notifier::nudge::{
    Added, NudgeAction, NudgeLimits, NudgeMachine, NudgePolicy, PendingNudges,
};
use crate::notifier::waiting::GroupLimits;
use crate::proto::supervisor::Reconnect;
use crate::simulator::SimulatorRandom;

const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// How often the cases of a run have happened.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct NudgeCases {
    pub(super) nudges: u64,
    pub(super) coalesced: u64,
    pub(super) committed: u64,
    pub(super) dropped: u64,
    pub(super) no_room: u64,
    pub(super) without_key: u64,
    pub(super) refused: u64,
    pub(super) repeated: u64,
    pub(super) cancelled: u64,
    pub(super) sessions: u64,
}

impl NudgeCases {
    pub(super) fn add(&mut self, more: &Self) {
        for (sum, more) in [
            (&mut self.nudges, more.nudges),
            (&mut self.coalesced, more.coalesced),
            (&mut self.committed, more.committed),
            (&mut self.dropped, more.dropped),
            (&mut self.no_room, more.no_room),
            (&mut self.without_key, more.without_key),
            (&mut self.refused, more.refused),
            (&mut self.repeated, more.repeated),
            (&mut self.cancelled, more.cancelled),
            (&mut self.sessions, more.sessions),
        ] {
            *sum += more;
        }
    }

    pub(super) fn rarest(&self) -> u64 {
        let Self { coalesced, committed, dropped, no_room, without_key, refused, .. } = *self;
        let of_sessions = [self.repeated, self.cancelled];
        let cases = [coalesced, committed, dropped, no_room, without_key, refused];
        cases.into_iter().chain(of_sessions).min().unwrap_or(0)
    }
}

/// A run.
pub(super) struct NudgeSimulation {
    random: SimulatorRandom,
    machine: NudgeMachine,
    pending: PendingNudges,
    limits: (NudgeLimits, GroupLimits),
    window: Duration,
    now: Instant,
    begin: Instant,
    link: Option<ClientLink>,
    is_opening: bool,
    orphans: Vec<ServerSession>,
    mood: Mood,
    /// The accepted nudges, each with the number of transactions that were executed before.
    accepted: Vec<((String, String), usize)>,
    executed: Vec<Executed>,
    last_flush: Option<Instant>,
    /// The session was left because its server was silent, and that is not cancelled yet.
    is_left_silent: bool,
    /// The server has refused nudges for a time, since the last flush.
    is_retrying: bool,
    is_healing: bool,
    is_closed: bool,
    end: Option<Result<(), Error>>,
    pub(super) cases: NudgeCases,
    pub(super) trace: Option<Vec<String>>,
}

impl NudgeSimulation {
    pub(super) fn new(seed: u64, is_traced: bool) -> Self {
        let mut random = SimulatorRandom::new(seed);
        let group = GroupLimits { calls: random.pick(&[1, 3, 1_000]), bytes: 1_000 };
        let nudge = NudgeLimits {
            channels: random.pick(&[2, 4, 1_024]),
            keys: random.pick(&[2, 8, 1_024]),
            bytes: random.pick(&[300, 1024 * 1024]),
        };
        let window = Duration::from_millis(random.pick(&[1, 10, 1_000]));
        let policy = NudgePolicy {
            window,
            answer_timeout: TIMEOUT,
            limits: group,
            connect_timeout: Duration::from_secs(10),
            delays: Reconnect {
                min: Duration::from_millis(50),
                max: BACKOFF_MAX,
                // Nudges do not have it.
                retry_refusals: random.chance(50),
            },
            reconnects: random.chance(90),
        };
        let now = Instant::now();
        Self {
            machine: NudgeMachine::new(policy, seed),
            pending: PendingNudges::new(nudge),
            limits: (nudge, group),
            window,
            random,
            now,
            begin: now,
            link: None,
            is_opening: false,
            orphans: Vec::new(),
            mood: Mood::Normal,
            accepted: Vec::new(),
            executed: Vec::new(),
            last_flush: None,
            is_left_silent: false,
            is_retrying: false,
            is_healing: false,
            is_closed: false,
            end: None,
            cases: NudgeCases::default(),
            trace: is_traced.then(Vec::new),
        }
    }

    fn note(&mut self, what: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:?} {}", self.now - self.begin, what()));
        }
    }

    pub(super) fn run(&mut self) -> Result<(), String> {
        for _ in 0..self.random.range(20, 250) {
            self.step()?;
        }
        self.heal()?;
        self.check()
    }

    fn step(&mut self) -> Result<(), String> {
        match self.random.below(100) {
            0..=34 => self.nudge()?,
            35..=54 => self.execute(),
            55..=72 => self.read(),
            73..=86 => self.pass_time(),
            87..=91 => self.open(),
            92..=94 => self.lose(),
            95..=97 => self.change_mood(),
            98 => self.execute_orphan(),
            _ if self.random.chance(10) => self.close(),
            _ => {}
        }
        self.settle()
    }

    /// Everything works from now on, and it is closed: every nudge must end.
    fn heal(&mut self) -> Result<(), String> {
        (self.is_healing, self.mood) = (true, Mood::Normal);
        self.close();
        for _ in 0..10_000 {
            self.settle()?;
            if self.end.is_some() {
                break;
            }
            self.open();
            self.execute();
            self.read();
            self.settle()?;
            if self.link.as_mut().is_none_or(|link| link.session.is_idle()) {
                self.pass_to_deadline();
            }
        }
        while self.orphans.iter().any(ServerSession::has_work) {
            self.execute_orphan();
        }
        if self.end.is_none() { Err("it does not end".to_owned()) } else { Ok(()) }
    }

    fn nudge(&mut self) -> Result<(), String> {
        if self.end.is_some() || self.is_closed {
            return Ok(());
        }
        for _ in 0..self.random.pick(&[1, 1, 1, 5, 30]) {
            let channel = self.random.pick(&["a", "b", "c", "d", "e"]).to_owned();
            let key = match self.random.below(20) {
                0 => String::new(),
                1 => format!("{INVALID} {}", self.random.below(3)),
                2 => format!("{} {}", "x".repeat(100), self.random.below(9)),
                _ => self.random.below(12).to_string(),
            };
            let is_lone = self.is_idle_and_open();
            self.note(|| format!("nudge {channel}:{key}"));
            match self.pending.add(&channel, &key) {
                Added::New => {}
                Added::Coalesced(count) => {
                    self.cases.without_key += u64::from(count > 1);
                    self.cases.coalesced += count;
                }
                Added::NoRoom => {
                    self.cases.no_room += 1;
                    continue;
                }
            }
            self.cases.nudges += 1;
            self.accepted.push(((channel, key), self.executed.len()));
            let before = self.machine.counts.transactions;
            self.settle()?;
            if is_lone && self.machine.counts.transactions == before {
                return Err("a lone nudge waits".to_owned());
            }
        }
        Ok(())
    }

    /// Returns whether the next nudge must be sent at once.
    fn is_idle_and_open(&mut self) -> bool {
        let is_open = self.link.as_mut().is_some_and(|link| link.session.is_ready());
        let has_passed = self.last_flush.is_none_or(|last| last + self.window <= self.now);
        is_open
            && has_passed
            && !self.machine.is_flushing()
            && !self.is_retrying
            && self.pending.is_empty()
    }

    fn execute(&mut self) {
        let mood = self.mood;
        let Some(link) = &mut self.link else { return };
        let out = link.session.transmit();
        link.server.take(out);
        let bytes = out.len();
        out.advance(bytes);
        let executed = link.server.execute(mood);
        self.note(|| format!("executed: {executed:?}"));
        self.executed.extend(executed);
    }

    fn execute_orphan(&mut self) {
        if let Some(orphan) = self.orphans.last_mut() {
            match orphan.execute(Mood::Normal) {
                Some(executed) => self.executed.push(executed),
                None => drop(self.orphans.pop()),
            }
        }
    }

    fn read(&mut self) {
        let Some(link) = &mut self.link else { return };
        let arrived = link.server.output.len();
        let bytes = if self.is_healing || self.random.chance(50) {
            arrived
        } else {
            self.random.index(arrived + 1)
        };
        link.input.extend(link.server.output.drain(..bytes));
        loop {
            let result = link.session.handle_input(self.now, &mut link.input);
            let mut has_event = false;
            let mut end = None;
            while let Some(event) = link.session.poll_event() {
                has_event = true;
                end = self.machine.handle_event(self.now, event, &mut self.pending).or(end);
            }
            if let Some(error) = end {
                let error = link.session.fail(error);
                return self.lost(error);
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
        if self.random.chance(30) {
            return self.pass_to_deadline();
        }
        // A jump may pass several deadlines.
        let limit = self.random.pick(&[1, 20, 500, 40_000]) * 1_000;
        self.now += Duration::from_micros(self.random.below(limit));
        self.handle_timeout();
    }

    fn pass_to_deadline(&mut self) {
        let Some(deadline) = self.machine.poll_timeout(&self.pending) else { return };
        self.now = self.now.max(deadline);
        self.note(|| "a deadline".to_owned());
        self.handle_timeout();
    }

    fn handle_timeout(&mut self) {
        if self.machine.poll_timeout(&self.pending).is_none_or(|deadline| deadline > self.now) {
            return;
        }
        if let Some(error) = self.machine.handle_timeout(self.now, &mut self.pending)
            && let Some(link) = &mut self.link
        {
            self.is_left_silent = link.session.commands_in_flight() > 0;
            let error = link.session.fail(error);
            self.lost(error);
        }
    }

    /// An attempt ends.
    fn open(&mut self) {
        if !self.is_opening {
            return;
        }
        if self.is_healing || self.random.chance(60) {
            self.is_opening = false;
            let server = ServerSession::new(self.cases.sessions);
            self.cases.sessions += 1;
            let link = ClientLink {
                session: session(self.now),
                written: 0,
                input: BytesMut::new(),
                server,
            };
            self.note(|| "a session".to_owned());
            self.link = Some(link);
            self.machine.handle_opened(self.now);
        } else if self.random.chance(40) {
            self.is_opening = false;
            let kind = if self.random.chance(3) { ErrorKind::Auth } else { ErrorKind::Connect };
            let error = Error::new(kind, "no session");
            self.machine.handle_open_failed(self.now, error, &mut self.pending);
        }
    }

    fn lose(&mut self) {
        let Some(link) = &mut self.link else { return };
        if self.random.chance(30) {
            return link.server.terminate();
        }
        let error = link.session.handle_eof(!link.input.is_empty());
        self.lost(error);
    }

    fn lost(&mut self, error: Error) {
        self.note(|| format!("lost: {error}"));
        if let Some(mut link) = self.link.take() {
            // Any part of what was not written may have arrived.
            if self.random.chance(50) {
                link.server.take(link.session.transmit());
            }
            self.orphans.push(link.server);
        }
        self.machine.handle_lost(self.now, error, &mut self.pending);
    }

    fn change_mood(&mut self) {
        self.mood = match self.random.below(8) {
            0..=1 => Mood::Full,
            2..=3 => Mood::Silent,
            4 => Mood::Standby,
            _ => Mood::Normal,
        };
    }

    fn close(&mut self) {
        self.is_closed = true;
        self.machine.close(self.now);
    }

    /// Gives the session what can be sent, performs the actions, and checks what is true at every moment.
    fn settle(&mut self) -> Result<(), String> {
        let was_flushing = self.machine.is_flushing();
        let session = self.link.as_mut().map(|link| &mut link.session);
        self.machine.start(self.now, session, &mut self.pending);
        while let Some(action) = self.machine.poll_action(&self.pending) {
            self.note(|| format!("{action:?}"));
            match action {
                NudgeAction::Open => self.is_opening = true,
                NudgeAction::CancelOpening => self.is_opening = false,
                NudgeAction::CancelCommand => {
                    let is_needed = std::mem::take(&mut self.is_left_silent);
                    self.cases.cancelled += 1;
                    // The server has what was written, and cancels what it executes.
                    if let Some(left) = self.orphans.last_mut().filter(|_| is_needed) {
                        left.cancel();
                    } else {
                        return Err("nothing is left to cancel".to_owned());
                    }
                }
                NudgeAction::Sent { nudges, is_repeat } => {
                    self.cases.repeated += u64::from(is_repeat);
                    if nudges.len() > self.limits.1.calls {
                        return Err(format!("{} nudges in one transaction", nudges.len()));
                    }
                    if !was_flushing {
                        self.check_window()?;
                    }
                }
                NudgeAction::Refused(_) => self.cases.refused += 1,
                NudgeAction::Dropped(_) => {}
                NudgeAction::Failed(error) => {
                    self.is_retrying |= error.sqlstate() == Some("54000");
                }
                NudgeAction::End(result) => {
                    self.is_opening = false;
                    if let Some(link) = self.link.take() {
                        self.orphans.push(link.server);
                    }
                    self.end = Some(result);
                }
            }
        }
        self.check_cancelled()?;
        self.check_liveness()
    }

    /// A session that is left, and whose server was silent, is cancelled.
    fn check_cancelled(&self) -> Result<(), String> {
        if self.is_left_silent {
            Err("a silent session was not cancelled".to_owned())
        } else {
            Ok(())
        }
    }

    /// A flush begins.
    fn check_window(&mut self) -> Result<(), String> {
        let last = self.last_flush.replace(self.now);
        self.is_retrying = false;
        match last {
            Some(last) if !self.is_closed && self.now < last + self.window => {
                Err(format!("a flush begins {:?} after the last one", self.now - last))
            }
            _ => Ok(()),
        }
    }

    /// What waits is in flight, or waits for a deadline that is near.
    fn check_liveness(&mut self) -> Result<(), String> {
        let (nudge, _) = self.limits;
        let unconfirmed = self.unconfirmed();
        if unconfirmed > 2 * (nudge.channels * nudge.keys) as u64 {
            return Err(format!("{unconfirmed} nudges wait"));
        }
        if self.end.is_some() || (self.pending.is_empty() && !self.machine.is_flushing()) {
            return Ok(());
        }
        if let Some(link) = self.link.as_mut().filter(|link| !link.session.is_ready()) {
            // Its loss follows.
            return link.session.failure().map(drop).ok_or("the session is not ready".to_owned());
        }
        let limit = BACKOFF_MAX.max(TIMEOUT).max(self.window);
        match self.machine.poll_timeout(&self.pending) {
            Some(at) if at <= self.now + limit => Ok(()),
            None if self.is_opening => Ok(()),
            found => Err(format!("nudges wait until {found:?}")),
        }
    }

    fn unconfirmed(&self) -> u64 {
        let counts = &self.machine.counts;
        let ended = self.cases.coalesced + counts.coalesced + counts.committed + counts.dropped;
        self.cases.nudges.saturating_sub(ended)
    }

    /// Checks every nudge against what the server did.
    fn check(&mut self) -> Result<(), String> {
        let counts = self.machine.counts;
        if self.cases.nudges
            != self.cases.coalesced + counts.coalesced + counts.committed + counts.dropped
        {
            return Err(format!("{} nudges, but {:?}, {counts:?}", self.cases.nudges, self.cases));
        }
        // The last transaction in which each pair was committed.
        let mut last: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        for (index, one) in self.executed.iter().enumerate() {
            let pairs = one.delivered();
            if pairs.len() < one.pairs.len() && one.is_committed {
                return Err(format!("a transaction has equal nudges: {one:?}"));
            }
            last.extend(pairs.iter().map(|(channel, key)| ((&**channel, &**key), index)));
        }
        let is_committed = |channel: &str, key: &str, before: usize| {
            last.get(&(channel, key)).is_some_and(|index| *index >= before)
        };
        let has_failed = matches!(self.end, Some(Err(_)));
        for ((channel, key), before) in &self.accepted {
            let is_invalid = key.starts_with(INVALID);
            if !is_committed(channel, key, *before)
                && !is_committed(channel, "", *before)
                && !((is_invalid || has_failed) && counts.dropped > 0)
            {
                return Err(format!("{channel}:{key} is not committed"));
            }
        }
        self.cases.coalesced += counts.coalesced;
        self.cases.committed = counts.committed;
        self.cases.dropped = counts.dropped;
        Ok(())
    }
}
