//! Heartbeats: the periodic check that the session is alive and listens to every wanted channel.
//!
//! ```text
//!          restart                  due, no command in flight        answered
//! stopped ─────────▶ due later ─────────────────────────────▶ sent ───────────▶ due later
//!    ▲                  │ due, a command is in flight          ▲ │ refused: a simpler query is due at once
//!    │                  └─────────▶ overdue ───────────────────┘ │ no data in time, or it names other channels
//!    │                     (later commands wait)                 ▼
//!    └───────────────────────────────────────────────── the session is lost
//! ```
//! A handover and a drain send one at once. After an error that may be a stray error one is required: commands wait for it,
//! and if it is refused, the session is lost.
//!
//! A refused query is followed by a simpler one ([`heartbeat_query`](super::heartbeat_query)). A session whose server
//! cannot name its channels notifies itself ([`self_notification`](super::self_notification)).

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::action::LogEvent;
use super::common::Common;
use super::effect::{Effect, Effects, NONE};
use super::heartbeat_query::{self, ExpectedChannels, HeartbeatQuery};
use super::link::{ListenerLink, Unanswered};
use super::policy::{ANSWER_TIME_MAX, Heartbeat, SILENCE_TIME_MAX};
use super::purpose::CommandPurpose;
use super::restore::is_temporary;
use super::self_notification::{self, SelfNotification};
use crate::error::{Error, ErrorKind};
use crate::proto::session::{Answer, Rows, Session};

/// The largest answer to a heartbeat in bytes: one row with a number and a digest.
const HEARTBEAT_ANSWER_BYTES_MAX: usize = 4 * 1024;

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
    /// True if it decides whether the last error was an answer or a stray error. If the server refuses it, the session is lost.
    is_required: bool,
    /// True if a starved task has already got more time.
    was_late: bool,
    /// The number of heartbeats so far.
    count: u64,
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
            count: 0,
        }
    }

    /// Returns the number of heartbeats so far.
    pub(super) fn count(&self) -> u64 {
        self.count
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
        *self = Self { count: self.count, ..Self::new(self.policy) };
    }

    /// Makes the next heartbeat due at once.
    pub(super) fn repeat(&mut self, now: Instant) {
        self.due = Some(now);
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

    /// Returns the time of the next heartbeat, or the deadline of an unanswered command.
    pub(super) fn timeout_of(&self, link: &ListenerLink, may_send: bool) -> Option<Instant> {
        let due = self.due.filter(|_| !self.is_sent && !self.is_overdue && may_send);
        let unanswered = link.unanswered().and_then(|unanswered| self.deadline(unanswered));
        [due, unanswered, self.self_notification_deadline(link)].into_iter().flatten().min()
    }

    /// Returns the instant at which the self-notification must have come back.
    fn self_notification_deadline(&self, link: &ListenerLink) -> Option<Instant> {
        let is_busy = link.in_flight.values().any(CommandPurpose::is_query);
        let sent = link.self_notification.as_ref().filter(|_| link.is_live() && !is_busy)?;
        let quiet_time = link.session().map(Session::quiet_time).unwrap_or_default();
        sent.deadline(self.policy.timeout.saturating_add(quiet_time))
    }

    /// Ends the session if the deadline of an unanswered command, or of the self-notification, has passed.
    pub(super) fn check(&mut self, common: &mut Common) -> Effects {
        let now = common.now;
        let Some(link) = &mut common.links.current else { return NONE };
        let unanswered = link.unanswered();
        let deadline = unanswered.and_then(|unanswered| self.deadline(unanswered));
        if let (Some(unanswered), Some(deadline)) = (unanswered, deadline)
            && deadline <= now
        {
            return match self.excuses_delay(now, deadline, link) {
                true => NONE,
                false => vec![Effect::Fail(link.id, self.unanswered_too_long(now, unanswered))],
            };
        }
        match self.self_notification_deadline(link) {
            Some(deadline) if deadline <= now && !self.excuses_delay(now, deadline, link) => {
                let error = self_notification::missed(self.policy.timeout);
                vec![Effect::Fail(link.id, error)]
            }
            _ => NONE,
        }
    }

    /// Restarts the timeouts and returns true if this task was starved, once per heartbeat. The answer may have arrived
    /// long ago, and was not read.
    fn excuses_delay(&mut self, now: Instant, deadline: Instant, link: &mut ListenerLink) -> bool {
        let is_late = now.saturating_duration_since(deadline) >= STARVED_DELAY && !self.was_late;
        if is_late {
            self.was_late = true;
            link.restart_timeouts(now);
        }
        is_late
    }

    /// Returns the error of a session whose answer did not arrive in time.
    fn unanswered_too_long(&self, now: Instant, unanswered: Unanswered) -> Error {
        let message = match now.saturating_duration_since(unanswered.since) {
            time if time >= ANSWER_TIME_MAX => {
                format!("the server did not answer within {time:.0?}")
            }
            _ => format!(
                "no data from the server for {:?} while a command was unanswered",
                self.timeout(unanswered)
            ),
        };
        Error::new(ErrorKind::Timeout, message)
            .with_hint("the connection is half-open, or the server or a proxy is stuck")
    }

    /// Sends a heartbeat if it is due and no command is in flight. With `may_send` it can be sent at once, or as soon as
    /// the commands in flight are answered.
    pub(super) fn send_due(&mut self, common: &mut Common, may_send: bool) -> Effects {
        let is_due = self.due.is_some_and(|due| due <= common.now);
        let Some(link) = common.links.current.as_ref().filter(|_| is_due && may_send) else {
            return NONE;
        };
        if self.is_sent {
            return NONE;
        }
        self.is_overdue = !link.in_flight.is_empty();
        if self.is_overdue {
            return NONE;
        }
        vec![Effect::SendHeartbeat { listening_to: None }]
    }

    /// Sends a heartbeat on the current session. `listening_to` is a channel whose LISTEN is in flight.
    pub(super) fn send(
        &mut self,
        common: &mut Common,
        listening_to: Option<&str>,
    ) -> Result<(), Error> {
        let now = common.now;
        let Some(link) = &mut common.links.current else { return Ok(()) };
        match link.private.clone() {
            None => send_channel_query(now, link, listening_to)?,
            Some(private) => {
                let sent = SelfNotification::new(now, common.nonces.hex());
                link.start(now, CommandPurpose::SelfNotify, |session| {
                    session.notify(now, &private, sent.nonce())
                })?;
                link.self_notification = Some(sent);
            }
        }
        self.count = self.count.saturating_add(1);
        (self.is_sent, self.is_overdue) = (true, false);
        Ok(())
    }

    /// Handles the answer to a heartbeat.
    pub(super) fn answered(
        &mut self,
        common: &mut Common,
        query: HeartbeatQuery,
        expected: Option<ExpectedChannels>,
        result: Answer,
    ) -> Effects {
        let is_required = self.is_required;
        self.restart(common.now);
        let error = match (expected, result) {
            (Some(expected), Ok(rows)) if !expected.matches(query, &rows) => {
                other_channels(expected.count, &rows)
            }
            (Some(_), Ok(_)) => return vec![Effect::OldConfirmed],
            (None, Ok(_)) => return NONE,
            // A PostgreSQL server does not answer like this.
            (_, Err(error)) if error.db_error().is_none() => {
                let message = "the session does not answer as a PostgreSQL server does";
                Error::caused(ErrorKind::Pooler, message, error)
            }
            (_, Err(error)) => {
                let simpler = query.simpler().filter(|_| !is_temporary(&error));
                if simpler.is_some() || !is_required {
                    return refused(common, query, simpler, error, is_required);
                }
                // The error may be the answer to an earlier command.
                error
            }
        };
        common.links.current_id().map(|link| Effect::Fail(link, error)).into_iter().collect()
    }
}

/// Handles a heartbeat query that was cancelled or refused. This shows at least that the server is alive.
fn refused(
    common: &mut Common,
    query: HeartbeatQuery,
    simpler: Option<HeartbeatQuery>,
    error: Error,
    is_required: bool,
) -> Effects {
    common.log(LogEvent::HeartbeatRefused { error: error.clone() });
    let Some(simpler) = simpler else { return vec![Effect::HeartbeatRefused(error)] };
    if let Some(link) = common.links.current.as_mut().filter(|link| link.heartbeat_query == query) {
        link.heartbeat_query = simpler;
    }
    vec![Effect::SimplerHeartbeat { is_required }]
}

fn send_channel_query(
    now: Instant,
    link: &mut ListenerLink,
    listening_to: Option<&str>,
) -> Result<(), Error> {
    let confirmed = link.session().into_iter().flat_map(Session::channels);
    let expected = match listening_to {
        None => ExpectedChannels::of(confirmed),
        Some(_) => {
            ExpectedChannels::of(confirmed.chain(listening_to).collect::<BTreeSet<_>>().into_iter())
        }
    };
    let query = link.heartbeat_query;
    let purpose = CommandPurpose::Heartbeat { query, expected: Some(expected) };
    link.start(now, purpose, |session| {
        let id = session.simple_query(now, query.sql())?;
        session.limit_answer(id, HEARTBEAT_ANSWER_BYTES_MAX);
        session.limit_rows(id, 1);
        Ok(id)
    })
}

/// Returns the error of a session that does not listen to the expected channels.
fn other_channels(count: usize, found: &[Rows]) -> Error {
    let found = heartbeat_query::number(found);
    let found = found.map_or_else(|| "an unknown number of".to_owned(), |n| n.to_string());
    Error::new(
        ErrorKind::Pooler,
        format!("the session does not listen to its {count} channels: the server names {found}"),
    )
    .with_hint(
        "LISTEN, UNLISTEN or DISCARD were sent in a query, or by a pooler that shares sessions: \
         use listen and unlisten, and connect to the server itself",
    )
}
