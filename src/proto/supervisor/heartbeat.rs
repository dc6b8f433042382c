//! Heartbeats: the periodic check that the session is alive and listens to every wanted channel.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::action::{Action, LogEvent};
use super::commands::CommandPurpose;
use super::heartbeat_query::{self, ExpectedChannels, HeartbeatQuery};
use super::link::{ListenerLink, Unanswered};
use super::restore::is_temporary;
use super::self_notification::SelfNotification;
use super::{Heartbeat, Sink, Supervisor};
use crate::error::{Error, ErrorKind};
use crate::proto::session::{Answer, Rows, Session};

/// The largest answer to a heartbeat in bytes: one row with a number and a digest.
const HEARTBEAT_ANSWER_BYTES_MAX: usize = 4 * 1024;

/// The longest wait for an answer, even if other data arrives. A proxy may block our direction alone, which the timeouts of
/// TCP do not notice. It is long, because a server that sends very many notifications answers after them.
pub(super) const ANSWER_TIME_MAX: Duration = Duration::from_secs(300);

/// The longest time without data while a LISTEN or UNLISTEN is unanswered or a fence notification is awaited, even if the
/// timeout of heartbeats is longer.
pub(super) const SILENCE_TIME_MAX: Duration = Duration::from_secs(30);

/// If a deadline is noticed this much too late, our own task was starved, and the peer is not to blame.
const STARVED_DELAY: Duration = Duration::from_secs(1);

/// The state of the heartbeats of one session.
#[derive(Debug)]
pub(super) struct HeartbeatTimer {
    policy: Heartbeat,
    /// The time of the next heartbeat.
    due: Option<Instant>,
    /// True if it was sent and is unanswered.
    is_sent: bool,
    /// True if it waits for the commands in flight. Later commands wait for it.
    is_overdue: bool,
    /// True if it decides whether the last error was an answer or a stray error. It must not be refused.
    is_required: bool,
    /// True if a starved task has already got more time.
    was_late: bool,
}

impl HeartbeatTimer {
    pub(super) fn new(policy: Heartbeat) -> Self {
        Self {
            policy,
            due: None,
            is_sent: false,
            is_overdue: false,
            is_required: false,
            was_late: false,
        }
    }

    /// Plans the next heartbeat of a live session.
    pub(super) fn restart(&mut self, now: Instant) {
        self.stop();
        self.due = now.checked_add(self.policy.interval);
    }

    /// Requires a heartbeat at once, because the last error may have been a stray error.
    pub(super) fn require(&mut self, now: Instant) {
        self.due = Some(now);
        self.is_required = true;
    }

    /// Stops the heartbeats.
    pub(super) fn stop(&mut self) {
        *self = Self::new(self.policy);
    }

    /// Returns true if commands must wait for the heartbeat.
    pub(super) fn must_come_first(&self) -> bool {
        self.is_overdue || self.is_required
    }

    /// Returns the longest time without data while this command is unanswered.
    fn timeout(&self, unanswered: Unanswered) -> Duration {
        let timeout = match unanswered.is_heartbeat {
            true => self.policy.timeout,
            // A user may wait for the answer.
            false => self.policy.timeout.min(SILENCE_TIME_MAX),
        };
        timeout.saturating_add(unanswered.quiet_time)
    }

    /// Returns the deadline of the answer.
    fn deadline(&self, unanswered: Unanswered) -> Option<Instant> {
        let timeout = self.timeout(unanswered);
        let longest = unanswered.since.checked_add(ANSWER_TIME_MAX.max(timeout));
        let silence = unanswered.silent_since.checked_add(timeout);
        longest.into_iter().chain(silence).min()
    }
}

impl Supervisor {
    /// Returns the time of the next heartbeat, or the deadline of an unanswered command.
    pub(super) fn heartbeat_deadline(&self) -> Option<Instant> {
        let is_waiting =
            self.heartbeat.is_sent || self.heartbeat.is_overdue || !self.may_send_heartbeat();
        let due = self.heartbeat.due.filter(|_| !is_waiting);
        let unanswered = self.current.as_ref().and_then(ListenerLink::unanswered);
        due.into_iter()
            .chain(unanswered.and_then(|unanswered| self.heartbeat.deadline(unanswered)))
            .min()
    }

    /// Returns true if a heartbeat can be sent, at once or as soon as the commands in flight are answered.
    fn may_send_heartbeat(&self) -> bool {
        let Some(link) = self.current.as_ref().filter(|link| link.is_live()) else { return false };
        let is_free = link.in_flight.first_key_value().is_none_or(|(_, oldest)| !oldest.is_query());
        is_free && !self.handover.is_running() && !self.flow.is_stalled()
    }

    /// Ends the session if the deadline of an unanswered command has passed.
    pub(super) fn check_unanswered(&mut self, now: Instant, sink: &mut impl Sink) {
        if let Some(unanswered) = self.current.as_ref().and_then(ListenerLink::unanswered)
            && self.heartbeat.deadline(unanswered).is_some_and(|deadline| deadline <= now)
        {
            return self.answer_missed(now, unanswered, sink);
        }
        if let Some(deadline) =
            self.self_notification_deadline().filter(|deadline| *deadline <= now)
            && !self.excuses_delay(now, deadline)
        {
            self.self_notification_missed(now, sink);
        }
    }

    /// Plans the next heartbeat, after one has succeeded.
    pub(super) fn restart_heartbeat(&mut self, now: Instant) {
        self.heartbeat.restart(now);
    }

    /// Restarts the timeouts and returns true if this task was starved, once per heartbeat. The answer may have arrived
    /// long ago, and was not read.
    fn excuses_delay(&mut self, now: Instant, deadline: Instant) -> bool {
        let is_late =
            now.saturating_duration_since(deadline) >= STARVED_DELAY && !self.heartbeat.was_late;
        if is_late {
            self.heartbeat.was_late = true;
            if let Some(link) = &mut self.current {
                link.restart_timeouts(now);
            }
        }
        is_late
    }

    /// Sends a heartbeat if it is due and no command is in flight.
    pub(super) fn send_due_heartbeat(&mut self, now: Instant, sink: &mut impl Sink) {
        let is_due = self.heartbeat.due.is_some_and(|due| due <= now);
        if !is_due || self.heartbeat.is_sent || !self.may_send_heartbeat() {
            return;
        }
        let is_idle = self.current.as_ref().is_some_and(|link| link.in_flight.is_empty());
        self.heartbeat.is_overdue = !is_idle;
        if is_idle && let Err(error) = self.send_heartbeat(now, None) {
            self.lose(now, error, sink);
        }
    }

    /// Sends a heartbeat on the current session. `more` is a channel whose LISTEN is in flight.
    pub(super) fn send_heartbeat(&mut self, now: Instant, more: Option<&str>) -> Result<(), Error> {
        let Some(link) = &mut self.current else { return Ok(()) };
        match link.private.clone() {
            None => self.send_channel_query(now, more)?,
            Some(private) => {
                let sent = SelfNotification::new(now, self.nonces.hex());
                link.start(now, CommandPurpose::SelfNotify, |session| {
                    session.notify(now, &private, sent.nonce())
                })?;
                link.self_notification = Some(sent);
            }
        }
        self.counters.heartbeats = self.counters.heartbeats.saturating_add(1);
        (self.heartbeat.is_sent, self.heartbeat.is_overdue) = (true, false);
        Ok(())
    }

    fn send_channel_query(&mut self, now: Instant, more: Option<&str>) -> Result<(), Error> {
        let Some(link) = &mut self.current else { return Ok(()) };
        let confirmed = link.session().into_iter().flat_map(Session::channels);
        let expected = match more {
            None => ExpectedChannels::of(confirmed),
            Some(_) => {
                ExpectedChannels::of(confirmed.chain(more).collect::<BTreeSet<_>>().into_iter())
            }
        };
        let query = link.heartbeat_query;
        let purpose = CommandPurpose::Heartbeat { query, expected: Some(expected) };
        let sql = query.sql();
        link.start(now, purpose, |session| {
            let id = session.simple_query(now, sql)?;
            session.limit_answer(id, HEARTBEAT_ANSWER_BYTES_MAX);
            session.limit_rows(id, 1);
            Ok(id)
        })
    }

    /// Ends the session, because an answer did not arrive in time.
    fn answer_missed(&mut self, now: Instant, unanswered: Unanswered, sink: &mut impl Sink) {
        let Some(deadline) = self.heartbeat.deadline(unanswered) else { return };
        if self.excuses_delay(now, deadline) {
            return;
        }
        let message = match now.saturating_duration_since(unanswered.since) {
            time if time >= ANSWER_TIME_MAX => {
                format!("the server did not answer within {time:.0?}")
            }
            _ => format!(
                "no data from the server for {:?} while a command was unanswered",
                self.heartbeat.timeout(unanswered)
            ),
        };
        let error = Error::new(ErrorKind::Timeout, message)
            .with_hint("the connection is half-open, or the server or a proxy is stuck");
        self.lose(now, error, sink);
    }

    /// Handles the answer to a heartbeat.
    pub(super) fn heartbeat_answered(
        &mut self,
        now: Instant,
        query: HeartbeatQuery,
        expected: Option<ExpectedChannels>,
        result: Answer,
        sink: &mut impl Sink,
    ) {
        let is_required = self.heartbeat.is_required;
        self.heartbeat.restart(now);
        match (expected, result) {
            (Some(expected), Ok(rows)) => self.check_heartbeat(now, query, &expected, &rows, sink),
            (None, Ok(_)) => {}
            // A PostgreSQL server does not answer like this.
            (_, Err(error)) if error.db_error().is_none() => {
                let message = "the session does not answer as a PostgreSQL server does";
                self.lose(now, Error::caused(ErrorKind::Pooler, message, error), sink);
            }
            (_, Err(error)) => self.heartbeat_refused(now, query, error, is_required, sink),
        }
    }

    /// Handles a heartbeat query that was cancelled or refused. This shows at least that the server is alive.
    fn heartbeat_refused(
        &mut self,
        now: Instant,
        query: HeartbeatQuery,
        error: Error,
        is_required: bool,
        sink: &mut impl Sink,
    ) {
        let simpler = query.simpler().filter(|_| !is_temporary(&error));
        if simpler.is_none() && is_required {
            // The error may be the answer to an earlier command.
            return self.lose(now, error, sink);
        }
        self.actions.push_back(Action::Log(LogEvent::HeartbeatRefused { error: error.clone() }));
        let Some(simpler) = simpler else {
            if let Some(draining) = &mut self.draining {
                draining.refusal = Some(error);
            }
            // A handover need not fail because of it.
            return self.old_session_confirmed(now, sink);
        };
        if let Some(link) = self.current.as_mut().filter(|link| link.heartbeat_query == query) {
            link.heartbeat_query = simpler;
        }
        let private = self.handover.private_channel().filter(|_| self.next.is_some());
        if let Some(private) = private.map(str::to_owned) {
            if let Err(error) = self.send_heartbeat(now, Some(&private)) {
                self.lose(now, error, sink);
            }
        } else if is_required {
            self.heartbeat.require(now);
        } else {
            self.heartbeat.due = Some(now);
        }
    }

    fn check_heartbeat(
        &mut self,
        now: Instant,
        query: HeartbeatQuery,
        expected: &ExpectedChannels,
        found: &[Rows],
        sink: &mut impl Sink,
    ) {
        if expected.matches(query, found) {
            return self.old_session_confirmed(now, sink);
        }
        let count = expected.count;
        let found = heartbeat_query::number(found);
        let found = found.map_or_else(|| "an unknown number of".to_owned(), |n| n.to_string());
        let error = Error::new(
            ErrorKind::Pooler,
            format!("the session does not listen to its {count} channels: the server names {found}"),
        )
        .with_hint(
            "LISTEN, UNLISTEN or DISCARD were sent in a query, or by a pooler that shares sessions: \
             use listen and unlisten, and connect to the server itself",
        );
        self.lose(now, error, sink);
    }
}
