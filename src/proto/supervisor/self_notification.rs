//! Self-notifications: the heartbeat of a session whose server cannot name its channels.
//!
//! Behind a proxy that listens for its clients, `pg_listening_channels()` returns nothing. Such a session sends
//! notifications to a private channel that it listens to.

use std::time::{Duration, Instant};

use bytes::BytesMut;

use super::heartbeat::ANSWER_TIME_MAX;
use super::heartbeat_query::HeartbeatQuery;
use super::link::ListenerLink;
use super::{LinkId, Sink, Supervisor, search};
use crate::error::{Error, ErrorKind};
use crate::proto::session::{Answer, Session};
use crate::proto::wire::{self, RawNotification, Run};

/// A notification that the session has sent to itself.
#[derive(Debug)]
pub(super) struct SelfNotification {
    /// Its payload, which no other client can guess.
    nonce: String,
    /// True if it has come back.
    is_received: bool,
    /// The time when NOTIFY was answered.
    answered_at: Option<Instant>,
    /// The time of the last notification: others may arrive before this one.
    silent_since: Instant,
}

impl SelfNotification {
    pub(super) fn new(now: Instant, nonce: String) -> Self {
        Self { nonce, is_received: false, answered_at: None, silent_since: now }
    }

    pub(super) fn nonce(&self) -> &str {
        &self.nonce
    }

    /// Restarts the timeout, because nothing could arrive until now.
    pub(super) fn restart_timeout(&mut self, now: Instant) {
        self.silent_since = now;
        self.answered_at = self.answered_at.map(|_| now);
    }

    /// Extends the timeout by a time in which nothing could arrive.
    pub(super) fn add_unread_time(&mut self, now: Instant, time: Duration) {
        for moment in
            [Some(&mut self.silent_since), self.answered_at.as_mut()].into_iter().flatten()
        {
            *moment = moment.checked_add(time).map_or(now, |later| later.min(now));
        }
    }

    /// Returns the instant at which it must have come back, unless it has.
    pub(super) fn deadline(&self, timeout: Duration) -> Option<Instant> {
        let answered_at = self.answered_at.filter(|_| !self.is_received)?;
        let silence = self.silent_since.checked_add(timeout);
        silence.into_iter().chain(answered_at.checked_add(ANSWER_TIME_MAX.max(timeout))).min()
    }
}

impl Supervisor {
    /// Removes the notifications on the private channel from a run of the current session, and returns the rest of the run.
    /// With `is_searched` the run was searched before and contains none.
    pub(super) fn take_private_notifications(
        &mut self,
        now: Instant,
        input: &mut BytesMut,
        run: Run,
        is_searched: bool,
        sink: &mut impl Sink,
    ) -> Run {
        let Some(ListenerLink { private: Some(private), self_notification: sent, .. }) =
            &mut self.current
        else {
            return run;
        };
        let is_private = |one: RawNotification<'_>| one.channel == private.as_bytes();
        let frames = input.get(..run.bytes).unwrap_or_default();
        if is_searched || search::position(frames, is_private).is_none() {
            if let Some(sent) = sent {
                sent.silent_since = now;
            }
            return run;
        }
        let nonce = sent.as_ref().map(|sent| sent.nonce.as_bytes());
        let mut is_received = false;
        let rest = wire::extract(input, run, |one| {
            is_received |= is_private(one) && Some(one.payload) == nonce;
            is_private(one)
        });
        if let Some(sent) = sent.as_mut().filter(|_| is_received) {
            sent.is_received = true;
            self.check_self_notification(now, sink);
        }
        rest
    }

    /// Handles the answer to the NOTIFY of a self-notification.
    pub(super) fn self_notification_answered(
        &mut self,
        now: Instant,
        result: Answer,
        sink: &mut impl Sink,
    ) {
        let Some(link) = &mut self.current else { return };
        match result {
            Ok(_) => {
                if let Some(sent) = &mut link.self_notification {
                    (sent.answered_at, sent.silent_since) = (Some(now), now);
                }
                self.check_self_notification(now, sink);
            }
            Err(error) => {
                link.self_notification = None;
                self.heartbeat_answered(now, HeartbeatQuery::Answer, None, Err(error), sink);
            }
        }
    }

    /// Completes the heartbeat if NOTIFY was answered and the notification has come back.
    fn check_self_notification(&mut self, now: Instant, sink: &mut impl Sink) {
        let Some(link) = &mut self.current else { return };
        let is_complete =
            |sent: &mut SelfNotification| sent.is_received && sent.answered_at.is_some();
        if link.self_notification.take_if(is_complete).is_some() {
            self.self_notification_delivered(now, sink);
            self.proceed(now, sink);
        }
    }

    fn self_notification_delivered(&mut self, now: Instant, sink: &mut impl Sink) {
        self.restart_heartbeat(now);
        self.old_session_confirmed(now, sink);
    }

    /// Returns the instant at which the self-notification must have come back.
    pub(super) fn self_notification_deadline(&self) -> Option<Instant> {
        let link = self.current.as_ref().filter(|link| link.is_live())?;
        let is_busy = link.in_flight.values().any(super::commands::CommandPurpose::is_query);
        let sent = link.self_notification.as_ref().filter(|_| !is_busy)?;
        let quiet_time = link.session().map(Session::quiet_time).unwrap_or_default();
        sent.deadline(self.policy.heartbeat.timeout.saturating_add(quiet_time))
    }

    /// Ends the session, because the self-notification did not come back in time.
    pub(super) fn self_notification_missed(&mut self, now: Instant, sink: &mut impl Sink) {
        let timeout = self.policy.heartbeat.timeout;
        let message = format!(
            "a notification that the session sent to itself did not come back within {timeout:?}"
        );
        let error = Error::new(ErrorKind::Pooler, message).with_hint(
            "UNLISTEN or DISCARD were sent in a query, or a pooler that shares sessions is before the server: use listen \
             and unlisten, and connect to the server itself",
        );
        self.lose(now, error, sink);
    }

    /// Handles the answer to LISTEN for the private channel, after UNLISTEN of all channels.
    pub(super) fn private_relistened(
        &mut self,
        now: Instant,
        id: LinkId,
        result: Answer,
        sink: &mut impl Sink,
    ) {
        if let Err(error) = result {
            self.fail(now, id, error, sink);
        }
    }
}
