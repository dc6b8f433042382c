//! Restoring: LISTEN for every wanted channel on a new session.

use std::time::Instant;

use super::action::{Action, LogEvent};
use super::commands::CommandPurpose;
use super::{LinkId, Role, Sink, State, Supervisor};
use crate::error::Error;
use crate::proto::session::Answer;

/// The number of channels in one query. If one of them is refused, these are sent again one by one.
const GROUP_CHANNELS: usize = 64;

impl Supervisor {
    /// Sends LISTEN for every wanted channel on a new session, in pipelined groups.
    pub(super) fn restore(&mut self, now: Instant, id: LinkId, sink: &mut impl Sink) {
        if self.policy.hook.is_some() && !self.has_begun {
            // Nothing is shown before the hook has succeeded.
            sink.hold();
        }
        let wanted: Vec<&String> = self.wanted.iter().collect();
        let private = self.handover.private_channel().filter(|_| self.role(id) == Some(Role::Next));
        let private = private.map(str::to_owned);
        let Some(link) = Self::find(&mut self.current, &mut self.next, id) else { return };
        for group in wanted.chunks(GROUP_CHANNELS) {
            let channels = group.iter().map(|&name| name.clone()).collect();
            let sent = link.start(now, CommandPurpose::Restore(channels), |session| {
                session.listen(now, group)
            });
            if let Err(error) = sent {
                return self.fail(now, id, error, sink);
            }
        }
        if let Some(channel) = private {
            let sent = link.start(now, CommandPurpose::ListenPrivate, |session| {
                session.listen(now, &[channel])
            });
            if let Err(error) = sent {
                return self.fail(now, id, error, sink);
            }
        }
        self.check_restored(now, id, sink);
    }

    /// Handles the answer to a group.
    pub(super) fn restore_answered(
        &mut self,
        now: Instant,
        id: LinkId,
        channels: Vec<String>,
        result: Answer,
        sink: &mut impl Sink,
    ) {
        if self.role(id) == Some(Role::Next) {
            // A refusal is progress too.
            self.handover.progresses(now);
        }
        match result {
            Ok(_) => {}
            // The error is not about a channel: a standby, a shutdown, a timeout.
            Err(error) if is_temporary(&error) => self.fail(now, id, error, sink),
            Err(error) => self.restore_one_by_one(now, id, channels, error, sink),
        }
    }

    /// Sends the channels of a refused group one by one, so that only the bad ones are refused.
    fn restore_one_by_one(
        &mut self,
        now: Instant,
        id: LinkId,
        channels: Vec<String>,
        error: Error,
        sink: &mut impl Sink,
    ) {
        let Some(link) = Self::find(&mut self.current, &mut self.next, id) else { return };
        if let [channel] = channels.as_slice() {
            link.refused.insert(channel.clone(), error.brief());
            return;
        }
        for channel in channels {
            let one = vec![channel.clone()];
            let sent = link.start(now, CommandPurpose::Restore(one), |session| {
                session.listen(now, &[channel])
            });
            if let Err(error) = sent {
                return self.fail(now, id, error, sink);
            }
        }
    }

    /// Makes the session live, if every wanted channel is active or refused by now.
    pub(super) fn check_restored(&mut self, now: Instant, id: LinkId, sink: &mut impl Sink) {
        let role = self.role(id);
        let Some(link) = Self::find(&mut self.current, &mut self.next, id) else { return };
        let is_restoring = link.live_since.is_none() && link.ready().is_some();
        let waits = |purpose: &CommandPurpose| {
            matches!(purpose, CommandPurpose::Restore(_) | CommandPurpose::ListenPrivate)
        };
        if !is_restoring || link.in_flight.values().any(waits) {
            return;
        }
        link.live_since = Some(now);
        if self.handover.is_running() {
            self.send_fence(now, sink);
        } else if role == Some(Role::Current) {
            self.restored(now, sink);
        }
    }

    /// Starts the hook and the heartbeats of a live session, or ends the listener if its first session has a refused
    /// channel.
    pub(super) fn restored(&mut self, now: Instant, sink: &mut impl Sink) {
        if self.state == State::Connecting
            && let Some((channel, error)) =
                self.current.as_mut().and_then(|link| link.refused.pop_first())
        {
            let message = format!("the channel {channel:?} cannot be listened to");
            return self.finish(Err(error.within(&message)));
        }
        self.heartbeat.restart(now);
        self.plan_handover(now);
        self.log_established();
        self.run_hook(now);
        self.proceed(now, sink);
    }

    fn log_established(&mut self) {
        let Some(link) = &self.current else { return };
        let refused = link.refused.len();
        let channels = self.wanted.len().saturating_sub(refused);
        let established = LogEvent::Established { epoch: link.epoch, channels, refused };
        self.actions.push_back(Action::Log(established));
    }
}

/// Returns true if a later attempt may succeed. 57014 and 55P03 are timeouts.
pub(super) fn is_temporary(error: &Error) -> bool {
    error.is_transient() || matches!(error.sqlstate(), Some("57014" | "55P03"))
}
