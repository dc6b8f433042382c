//! From a new session to one that listens to everything that is wanted.

use std::time::Instant;

use super::action::{Action, Incident};
use super::commands::Purpose;
use super::{LinkId, Role, Sink, State, Supervisor};
use crate::Error;
use crate::session::Answer;

/// How many channels one Query subscribes to: a refused one spoils this many, which then go one by one.
const GROUP: usize = 64;

impl Supervisor {
    /// A session is ready: subscribes to everything, in pipelined groups. N141.
    pub(super) fn restore(&mut self, now: Instant, id: LinkId, sink: &mut impl Sink) {
        if self.policy.hook.is_some() && !self.has_begun {
            // The hook comes first.
            sink.hold();
        }
        let wanted: Vec<&String> = self.wanted.iter().collect();
        let private = self.handover.private_channel().filter(|_| self.role(id) == Some(Role::Next));
        let private = private.map(str::to_owned);
        let Some(link) = Self::find(&mut self.current, &mut self.next, id) else { return };
        for group in wanted.chunks(GROUP) {
            let channels = group.iter().map(|&name| name.clone()).collect();
            let sent =
                link.start(now, Purpose::Restore(channels), |session| session.listen(now, group));
            if let Err(error) = sent {
                return self.fail(now, id, error, sink);
            }
        }
        if let Some(channel) = private {
            let sent = link.start(now, Purpose::Private, |session| session.listen(now, &[channel]));
            if let Err(error) = sent {
                return self.fail(now, id, error, sink);
            }
        }
        self.check_restored(now, id, sink);
    }

    /// The answer to a group.
    pub(super) fn restore_answered(
        &mut self,
        now: Instant,
        id: LinkId,
        channels: Vec<String>,
        result: Answer,
        sink: &mut impl Sink,
    ) {
        if self.role(id) == Some(Role::Next) {
            // A refusal is progress, too.
            self.handover.progresses(now);
        }
        match result {
            Ok(_) => {}
            // It is not the channel that is refused: a standby, a server that ends, a time limit.
            Err(error) if is_passing(&error) => self.fail(now, id, error, sink),
            Err(error) => self.restore_one_by_one(now, id, channels, error, sink),
        }
    }

    /// The server refused a group: its channels again, one by one, so that only the bad one is left out.
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
            let sent =
                link.start(now, Purpose::Restore(one), |session| session.listen(now, &[channel]));
            if let Err(error) = sent {
                return self.fail(now, id, error, sink);
            }
        }
    }

    /// Whether every wanted channel is active or refused by now; then the session is live.
    pub(super) fn check_restored(&mut self, now: Instant, id: LinkId, sink: &mut impl Sink) {
        let role = self.role(id);
        let Some(link) = Self::find(&mut self.current, &mut self.next, id) else { return };
        let is_restoring = link.live_since.is_none() && link.ready().is_some();
        let waits = |purpose: &Purpose| matches!(purpose, Purpose::Restore(_) | Purpose::Private);
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

    /// The current session is delivered from here on.
    pub(super) fn restored(&mut self, now: Instant, sink: &mut impl Sink) {
        if self.state == State::Connecting
            && let Some((channel, error)) =
                self.current.as_mut().and_then(|link| link.refused.pop_first())
        {
            let message = format!("the channel {channel:?} cannot be listened to");
            return self.finish(Err(error.within(&message)));
        }
        self.probe.restart(now);
        self.plan_handover(now);
        self.tell_established();
        self.run_hook(now);
        self.proceed(now, sink);
    }

    fn tell_established(&mut self) {
        let Some(link) = &self.current else { return };
        let refused = link.refused.len();
        let channels = self.wanted.len().saturating_sub(refused);
        let established = Incident::Established { epoch: link.epoch, channels, refused };
        self.actions.push_back(Action::Tell(established));
    }
}

/// Whether another session may be told otherwise a moment later. 57014 and 55P03 are time limits. N31.
pub(super) fn is_passing(error: &Error) -> bool {
    error.is_transient() || matches!(error.sqlstate(), Some("57014" | "55P03"))
}
