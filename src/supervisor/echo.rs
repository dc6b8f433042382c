//! The heartbeat of a session whose server cannot name its channels: a notification that comes back.
//!
//! A proxy that listens in place of its clients leaves nothing for `pg_listening_channels()` to name. Such a session
//! notifies a private channel that it listens to itself. N168.

use std::time::{Duration, Instant};

use bytes::BytesMut;

use super::link::Link;
use super::probe::LONGEST;
use super::proof::Question;
use super::{LinkId, Sink, Supervisor, search};
use crate::session::{Answer, Session};
use crate::wire::{self, RawNotification, Run};
use crate::{Error, ErrorKind};

/// A notification that the session has sent to itself.
#[derive(Debug)]
pub(super) struct Echo {
    /// Its payload, which cannot be guessed.
    nonce: String,
    /// It has come back.
    is_heard: bool,
    /// Since when the server says that it has sent it.
    answered_at: Option<Instant>,
    /// When a notification came last: others may stand before it.
    silent_since: Instant,
}

impl Echo {
    pub(super) fn new(now: Instant, nonce: String) -> Self {
        Self { nonce, is_heard: false, answered_at: None, silent_since: now }
    }

    pub(super) fn nonce(&self) -> &str {
        &self.nonce
    }

    /// Until then nothing could come.
    pub(super) fn waits_from(&mut self, now: Instant) {
        self.silent_since = now;
        self.answered_at = self.answered_at.map(|_| now);
    }

    /// For so long it could not come.
    pub(super) fn was_unread(&mut self, now: Instant, time: Duration) {
        for moment in
            [Some(&mut self.silent_since), self.answered_at.as_mut()].into_iter().flatten()
        {
            *moment = moment.checked_add(time).map_or(now, |later| later.min(now));
        }
    }

    /// When it must have come, unless it has.
    pub(super) fn deadline(&self, patience: Duration) -> Option<Instant> {
        let answered_at = self.answered_at.filter(|_| !self.is_heard)?;
        let silence = self.silent_since.checked_add(patience);
        silence.into_iter().chain(answered_at.checked_add(LONGEST.max(patience))).min()
    }
}

impl Supervisor {
    /// Takes the notifications of the private channel out of a run of the current session: they are not the user's.
    /// Returns the rest of the run. What is left of a run that was searched is not searched again.
    pub(super) fn hear_echo(
        &mut self,
        now: Instant,
        input: &mut BytesMut,
        run: Run,
        is_searched: bool,
        sink: &mut impl Sink,
    ) -> Run {
        let Some(Link { private: Some(private), echo, .. }) = &mut self.current else { return run };
        let is_private = |one: RawNotification<'_>| one.channel == private.as_bytes();
        let frames = input.get(..run.bytes).unwrap_or_default();
        if is_searched || search::position(frames, is_private).is_none() {
            if let Some(echo) = echo {
                echo.silent_since = now;
            }
            return run;
        }
        let nonce = echo.as_ref().map(|echo| echo.nonce.as_bytes());
        let mut is_heard = false;
        let rest = wire::extract(input, run, |one| {
            is_heard |= is_private(one) && Some(one.payload) == nonce;
            is_private(one)
        });
        if let Some(echo) = echo.as_mut().filter(|_| is_heard) {
            echo.is_heard = true;
            self.check_echo(now, sink);
        }
        rest
    }

    /// The answer to the command that sent the notification.
    pub(super) fn sign_answered(&mut self, now: Instant, result: Answer, sink: &mut impl Sink) {
        let Some(link) = &mut self.current else { return };
        match result {
            Ok(_) => {
                if let Some(echo) = &mut link.echo {
                    (echo.answered_at, echo.silent_since) = (Some(now), now);
                }
                self.check_echo(now, sink);
            }
            Err(error) => {
                link.echo = None;
                self.proof_answered(now, Question::Life, None, Err(error), sink);
            }
        }
    }

    /// Whether the notification was sent and has come back.
    fn check_echo(&mut self, now: Instant, sink: &mut impl Sink) {
        let Some(link) = &mut self.current else { return };
        let is_complete = |echo: &mut Echo| echo.is_heard && echo.answered_at.is_some();
        if link.echo.take_if(is_complete).is_some() {
            self.sign_given(now, sink);
            self.proceed(now, sink);
        }
    }

    fn sign_given(&mut self, now: Instant, sink: &mut impl Sink) {
        self.restart_probe(now);
        self.old_is_proven(now, sink);
    }

    /// When the notification must have come back.
    pub(super) fn echo_deadline(&self) -> Option<Instant> {
        let link = self.current.as_ref().filter(|link| link.is_live())?;
        let is_busy = link.in_flight.values().any(super::commands::Purpose::is_query);
        let echo = link.echo.as_ref().filter(|_| !is_busy)?;
        let quiet_time = link.session().map(Session::quiet_time).unwrap_or_default();
        echo.deadline(self.policy.heartbeat.deadline.saturating_add(quiet_time))
    }

    /// It did not come back in time.
    pub(super) fn miss_echo(&mut self, now: Instant, sink: &mut impl Sink) {
        let patience = self.policy.heartbeat.deadline;
        let message = format!(
            "a notification that the session sent to itself did not come back within {patience:?}"
        );
        let error = Error::new(ErrorKind::Pooler, message).with_hint(
            "UNLISTEN or DISCARD were sent in a query, or a pooler that does not keep sessions stands before the server",
        );
        self.lose(now, error, sink);
    }

    /// What came of LISTEN to the private channel, after UNLISTEN of everything.
    pub(super) fn private_again(
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
