//! Self-notifications: the heartbeat of a session whose server cannot name its channels.
//!
//! Behind a proxy that listens for its clients, `pg_listening_channels()` returns nothing. Such a session sends
//! notifications to a private channel that it listens to.
//!
//! ```text
//!          NOTIFY sent            NOTIFY answered            notification received
//! (none) ─────────────▶ pending ──────────────────▶ awaited ────────────────────────▶ complete
//!                          │ notification received             NOTIFY answered           ▲
//!                          └──────────────────────▶ received ────────────────────────────┘
//! ```

use std::time::{Duration, Instant};

use bytes::BytesMut;

use super::policy::ANSWER_TIME_MAX;
use super::search;
use crate::error::{Error, ErrorKind};
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

    /// Removes the notifications on the private channel from a run. Returns the rest of the run, and whether the
    /// self-notification (`sent`) has come back.
    pub(super) fn take(
        sent: &mut Option<Self>,
        private: &str,
        now: Instant,
        input: &mut BytesMut,
        run: Run,
    ) -> (Run, bool) {
        let is_private = |one: RawNotification<'_>| one.channel == private.as_bytes();
        let frames = input.get(..run.bytes).unwrap_or_default();
        if search::position(frames, is_private).is_none() {
            if let Some(sent) = sent {
                sent.notification_arrived(now);
            }
            return (run, false);
        }
        let nonce = sent.as_ref().map(|sent| sent.nonce.as_bytes());
        let mut is_received = false;
        let rest = wire::extract(input, run, |one| {
            is_received |= is_private(one) && Some(one.payload) == nonce;
            is_private(one)
        });
        if let Some(sent) = sent.as_mut().filter(|_| is_received) {
            sent.is_received = true;
        }
        (rest, is_received)
    }

    /// Handles that another notification has arrived: this one comes later.
    pub(super) fn notification_arrived(&mut self, now: Instant) {
        self.silent_since = now;
    }

    /// Handles the answer to NOTIFY.
    pub(super) fn answered(&mut self, now: Instant) {
        (self.answered_at, self.silent_since) = (Some(now), now);
    }

    /// Returns true if NOTIFY was answered and the notification has come back.
    pub(super) fn is_complete(&self) -> bool {
        self.is_received && self.answered_at.is_some()
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

/// Returns the error of a session whose self-notification did not come back in time.
pub(super) fn missed(timeout: Duration) -> Error {
    let message = format!(
        "a notification that the session sent to itself did not come back within {timeout:?}"
    );
    Error::new(ErrorKind::Pooler, message).with_hint(
        "UNLISTEN or DISCARD were sent in a query, or a pooler that shares sessions is before the server: use listen \
         and unlisten, and connect to the server itself",
    )
}
