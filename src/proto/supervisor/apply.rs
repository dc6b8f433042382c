//! The loop that applies the effects of an input, and the effects that concern several parts.

use super::action::{Action, Close, LinkEvent, LinkId, Live, LogEvent, State};
use super::common::Common;
use super::effect::{Effect, Effects, NONE};
use super::hook::{HookDue, HookEnd};
use super::link::{LinkStage, ListenerLink};
use super::links::Role;
use super::sink::Scope;
use super::{Sink, Supervisor, restore};
use crate::error::Error;
use crate::notification::Gap;

impl<S: Sink> Supervisor<S> {
    /// Applies effects, and the effects of each one before the next one. No effect is left afterwards.
    pub(super) fn run(&mut self, effects: Effects) {
        let mut left: Vec<Effect> = effects.into_iter().rev().collect();
        while let Some(effect) = left.pop() {
            left.extend(self.apply(effect).into_iter().rev());
        }
    }

    fn apply(&mut self, effect: Effect) -> Effects {
        let common = &mut self.common;
        match effect {
            Effect::Fail(link, error) => return self.fail(link, error),
            Effect::Abandon(link, error) => self.abandon(*link, error),
            Effect::SessionReady(link) => return self.session_ready(link),
            Effect::Restore { link, private } => {
                let is_current = common.links.role(link) == Some(Role::Current);
                if is_current && self.hook.exists() && !self.attempts.have_succeeded() {
                    // Nothing is shown before the hook has succeeded.
                    self.sink.hold(&Scope::All);
                }
                return restore::begin(common, self.channels.wanted(), link, private);
            }
            Effect::CheckLive(link) => {
                return restore::check_live(common, link, self.handover.is_running());
            }
            Effect::Live => return self.live(),

            Effect::Answer(answered) => return self.handle_answer(*answered),
            // The heartbeat first, because otherwise a constant flow of commands would delay it without a limit.
            Effect::Proceed => {
                return vec![
                    Effect::SendDueHeartbeat,
                    Effect::StartWaiting,
                    Effect::PrepareHandover,
                ];
            }
            Effect::StartWaiting => self.start_waiting(),

            Effect::SendDueHeartbeat => {
                let may_send = self.may_send_heartbeat();
                return self.heartbeat.send_due(&mut self.common, may_send);
            }
            Effect::SendHeartbeat { listening_to } => {
                if let Err(error) = self.heartbeat.send(common, listening_to.as_deref()) {
                    return self.lose(error);
                }
            }
            // While a handover is prepared, it waits for this heartbeat. Otherwise the next check sends it.
            Effect::SimplerHeartbeat { is_required } => {
                let private =
                    self.handover.private_channel().filter(|_| common.links.next.is_some());
                match private.map(str::to_owned) {
                    Some(private) => {
                        return vec![Effect::SendHeartbeat { listening_to: Some(private) }];
                    }
                    None if is_required => self.heartbeat.require(common.now),
                    None => self.heartbeat.repeat(common.now),
                }
            }
            Effect::HeartbeatRefused(error) => {
                self.ending.heartbeat_is_refused(error);
                // A handover need not fail because of it.
                return vec![Effect::OldConfirmed];
            }
            Effect::CheckSelfNotification => {
                let Some(link) = &mut common.links.current else { return NONE };
                if link.self_notification.take_if(|sent| sent.is_complete()).is_some() {
                    self.heartbeat.restart(common.now);
                    return vec![Effect::OldConfirmed, Effect::Proceed];
                }
            }

            Effect::PrepareHandover => return self.handover.prepare(common),
            Effect::OldConfirmed => return self.handover.old_confirmed(),
            Effect::SendFence => return self.handover.send_fence(common),
            Effect::OldPassed => return self.handover.old_passed(common),
            Effect::NewPassed => return self.handover.new_passed(),
            Effect::EndHandover { private } => {
                return self.handover.finish(common, private, self.outages.is_empty());
            }
            Effect::GiveUpHandover(error) => return self.give_up_handover(error),
            Effect::ReportDropped => {
                let is_live = common.links.live().is_some();
                if is_live && !self.outages.is_empty() && !self.handover.is_running() {
                    self.schedule_hook();
                }
            }

            Effect::NotificationDropped(link, cause) => {
                return self.notification_dropped(link, cause);
            }
            Effect::Outage { cause, sessions, scope } => self.begin_outage(cause, sessions, scope),
            Effect::CatchUp => self.catch_up(),

            Effect::CloseBecause(cause) => self.close_because(cause),
        }
        NONE
    }

    // ---- links ----

    /// Opens a link, whose attempt has begun.
    pub(super) fn open(&mut self, deadline: std::time::Instant) -> ListenerLink {
        self.handover.attempt_begins();
        let link = self.common.links.new_id();
        self.common.act(Action::Open { link });
        let Common { owner, now, .. } = self.common;
        ListenerLink::opening(owner, now, link, deadline, self.read_delay)
    }

    /// Handles the failure of a link, by its role.
    fn fail(&mut self, id: LinkId, error: Error) -> Effects {
        match self.common.links.role(id) {
            Some(Role::Current) => return self.lose(error),
            Some(Role::Next) => return self.give_up_handover(error),
            Some(Role::Old) => {
                self.common.links.old = None;
                self.common.close(id, Close::Abort);
            }
            None => {}
        }
        NONE
    }

    /// Ends the current link, which is broken or could not be opened, and prepares the next attempt.
    fn lose(&mut self, error: Error) -> Effects {
        let now = self.common.now;
        if self.flow.is_stalled() {
            self.end_after_buffered(LinkEvent::Failed(error));
            return NONE;
        }
        let Some(link) = self.common.links.current.take() else { return NONE };
        if let LinkStage::Closing { .. } = link.stage {
            self.common.links.current = Some(link);
            self.finish(Ok(()));
            return NONE;
        }
        // A session that is still logging in counts as an attempt.
        let (was_open, live_since) = (link.was_ready, link.live_since);
        // The log event comes before the consequences of the loss, as the answers to commands in flight.
        if was_open {
            let lost = &mut self.common.counters.sessions_lost;
            *lost = lost.saturating_add(1);
            self.common.log(LogEvent::Lost { error: error.clone() });
        } else {
            self.common.log(LogEvent::AttemptFailed { error: error.clone() });
        }
        self.abandon(link, error.clone());
        if !self.attempts.goes_on_after(&error, !was_open) {
            self.finish(Err(error));
            return NONE;
        }
        if was_open {
            self.begin_outage(error.clone(), 1, Scope::All);
            self.flow.resume(now);
            self.cancel_hook();
            self.heartbeat.stop();
            self.handover.unplan();
        }
        self.enter(State::Reconnecting);
        if let Some(since) = live_since {
            self.attempts.was_live(now.saturating_duration_since(since));
        }
        let mut effects = match self.handover.promote_next(&mut self.common) {
            Some(effects) => {
                self.outages.count_attempt();
                effects
            }
            None => {
                if let Some(delay) = self.attempts.wait(now) {
                    self.common.log(LogEvent::Reconnecting { error, delay });
                }
                NONE
            }
        };
        effects.push(Effect::StartWaiting);
        effects
    }

    /// Ends a stall, and handles the end of the current link after what was read from it is delivered.
    pub(super) fn end_after_buffered(&mut self, end: LinkEvent) {
        self.resume();
        if let Some(link) = &mut self.common.links.current {
            link.end.get_or_insert(end);
        }
    }

    /// Restores the wanted channels on a link, or prepares the handover to it, if its session is ready.
    fn session_ready(&mut self, id: LinkId) -> Effects {
        let Some(link) = self.common.links.find(id) else { return NONE };
        if !link.is_ready() || link.live_since.is_some() {
            return NONE;
        }
        link.was_ready = true;
        match self.common.links.role(id) {
            Some(Role::Current) => vec![Effect::Restore { link: id, private: None }],
            _ => vec![Effect::PrepareHandover],
        }
    }

    /// Starts the hook and the heartbeats of a live session, or ends the listener if its first session has a refused
    /// channel.
    fn live(&mut self) -> Effects {
        let now = self.common.now;
        let Some(link) = &mut self.common.links.current else { return NONE };
        if self.state == State::Connecting
            && let Some((channel, error)) = link.refused.pop_first()
        {
            let message = format!("the channel {channel:?} cannot be listened to");
            self.finish(Err(error.within(&message)));
            return NONE;
        }
        let (epoch, refused) = (link.epoch, link.refused.len());
        let channels = self.channels.wanted().len().saturating_sub(refused);
        self.heartbeat.restart(now);
        self.handover.plan(now);
        self.common.log(LogEvent::Established { epoch, channels, refused });
        self.channels.warn(&mut self.common);
        self.run_hook();
        vec![Effect::Proceed]
    }

    // ---- handover ----

    /// Begins a handover, if there is a live session and no handover.
    pub(super) fn begin_handover(&mut self) {
        if self.handover.begin(&self.common.links, !self.ending.is_draining()) {
            let deadline = self.attempts.begin(self.common.now);
            self.common.links.next = Some(self.open(deadline));
        }
    }

    /// Gives the handover up: the old session goes on, and the handover is tried again later.
    fn give_up_handover(&mut self, error: Error) -> Effects {
        let Some(next) = self.common.links.next.take() else { return NONE };
        self.abandon(next, error.clone());
        self.handover.give_up(&mut self.common, error)
    }

    // ---- losses ----

    /// Handles the report that the server dropped a notification in a session that goes on.
    fn notification_dropped(&mut self, id: LinkId, cause: Error) -> Effects {
        match self.common.links.role(id) {
            // It may have been the fence notification. Then everything that follows would be discarded.
            Some(Role::Current) if self.handover.is_following() => {
                let message = "the server dropped a notification while the handover waited for the fence notification";
                self.lose(cause.within(message))
            }
            Some(Role::Current) => {
                self.begin_outage(cause.clone(), 0, Scope::All);
                if self.common.links.live().is_some() && !self.handover.is_running() {
                    self.schedule_hook();
                    return NONE;
                }
                // It is reported with the outage or the handover that is in progress.
                self.catch_up();
                match self.handover.is_running() && self.common.links.next.is_some() {
                    // It may have been the fence notification, for which the old session would wait.
                    true => vec![Effect::GiveUpHandover(cause)],
                    false => NONE,
                }
            }
            // The new session may have missed other notifications too.
            _ => vec![Effect::GiveUpHandover(cause)],
        }
    }

    /// Begins an outage: notifications may be missing here. What follows is not shown before the outage is over.
    pub(super) fn begin_outage(&mut self, cause: Error, sessions: u32, scope: Scope) {
        let scope = self.outages.widened(scope);
        let position = self.sink.hold(&scope);
        let lost_at = self.common.time_of_day();
        self.outages.begin((position, scope), cause, lost_at, sessions);
    }

    /// Ends the outages: releases their gaps and everything that is held back.
    fn end_outages(&mut self) {
        // First, because a consumer that has read the gap must find this state.
        self.enter(State::Connected);
        self.release_gaps();
    }

    /// Makes the action that puts the gaps into the queue and shows what was held back.
    pub(super) fn release_gaps(&mut self) {
        self.update_refusals();
        let number = self.outages.end(self.common.time_of_day(), self.epoch());
        self.common.act(Action::Release { number });
    }

    /// Updates the refused channels that gaps report. Without a session the last list is kept.
    fn update_refusals(&self) {
        if let Some(link) = self.common.links.current.as_ref().filter(|_| !self.outages.is_empty())
        {
            self.outages.set_refused(link.refused.iter());
        }
    }

    /// Enters the state for a live session whose notifications are held back, if they are.
    fn catch_up(&mut self) {
        if self.state == State::Connected && !self.outages.is_empty() {
            self.enter(State::CatchingUp);
        }
    }

    // ---- the hook ----

    /// Returns the gap of all outages together, for the hook.
    fn gap_of_outages(&self) -> Option<Gap> {
        self.update_refusals();
        self.outages.sum(self.common.time_of_day(), self.epoch())
    }

    /// Returns true while the session leaves a transaction that is not ours. Its channels are not known any more, and the next
    /// session runs the hook and ends the outages.
    fn is_leaving(&self) -> bool {
        self.common.links.current.as_ref().is_some_and(ListenerLink::is_leaving)
    }

    /// Runs the hook if there is one and it has a reason to run, else ends the outages. Every wanted channel is active or
    /// refused, or the session is about to be replaced.
    fn run_hook(&mut self) {
        if !self.hook.is_idle() || self.is_leaving() {
            return;
        }
        let live = match self.gap_of_outages() {
            _ if !self.hook.exists() => return self.end_outages(),
            _ if !self.attempts.have_succeeded() => Live::Start,
            Some(gap) => Live::AfterGap(gap),
            None => return self.end_outages(),
        };
        self.hook.start(self.common.now, self.outages.count());
        let hooks = &mut self.common.counters.hooks;
        *hooks = hooks.saturating_add(1);
        self.enter(State::CatchingUp);
        self.common.act(Action::RunHook(live));
    }

    /// Runs the hook after a delay, or ends the outages if there is no hook: the server has dropped a notification in a
    /// session that goes on.
    fn schedule_hook(&mut self) {
        if self.is_leaving() {
            return self.catch_up();
        }
        if !self.hook.exists() {
            return self.end_outages();
        }
        self.hook.schedule(self.common.now);
        self.enter(State::CatchingUp);
    }

    /// Handles the end of a run of the hook. After a failure it runs again after a delay, and nothing is delivered
    /// until then.
    pub(super) fn hook_ended(&mut self, end: HookEnd) -> Effects {
        match end {
            HookEnd::Failed(error) => return self.hook_failed(error),
            HookEnd::UpToDate if !self.is_leaving() => {
                self.attempts.succeeded();
                self.end_outages();
            }
            HookEnd::UpToDate | HookEnd::Outdated => {
                self.attempts.succeeded();
                self.schedule_hook();
            }
        }
        vec![Effect::Proceed]
    }

    fn hook_failed(&mut self, error: Error) -> Effects {
        let failures = &mut self.common.counters.hook_failures;
        *failures = failures.saturating_add(1);
        match self.hook.retry(self.common.now) {
            Some(delay) if self.attempts.have_succeeded() => {
                self.common.log(LogEvent::HookFailed { error, delay });
                NONE
            }
            _ => vec![Effect::CloseBecause(error)],
        }
    }

    /// Starts the hook after its delay, or cancels it at its deadline.
    pub(super) fn check_hook(&mut self) -> Effects {
        match self.hook.take_due(self.common.now, self.common.owner) {
            Some(HookDue::Run) => self.run_hook(),
            Some(HookDue::Failed(error)) => {
                self.common.act(Action::CancelHook);
                return self.hook_failed(error);
            }
            None => {}
        }
        NONE
    }

    /// Cancels the hook, because the session is lost or the listener ends.
    pub(super) fn cancel_hook(&mut self) {
        if self.hook.cancel() {
            self.common.act(Action::CancelHook);
        }
    }

    // ---- everywhere ----

    /// Ends a stall of the socket.
    pub(super) fn resume(&mut self) {
        let now = self.common.now;
        if let Some(stalled) = self.flow.resume(now)
            && let Some(link) = &mut self.common.links.current
        {
            // Nothing could arrive while the socket was not read.
            link.add_unread_time(now, stalled);
            let link = link.id;
            self.handover.add_unread_time(now, stalled);
            self.common.act(Action::Read { link, on: true });
        }
    }

    pub(super) fn enter(&mut self, state: State) {
        if state == State::Connected {
            self.attempts.succeeded();
        }
        if self.state != state {
            self.state = state;
            self.common.act(Action::State(state));
        }
    }

    /// Returns true if a heartbeat can be sent, at once or as soon as the commands in flight are answered.
    pub(super) fn may_send_heartbeat(&self) -> bool {
        let Some(link) = self.common.links.live() else { return false };
        let is_free = link.in_flight.first_key_value().is_none_or(|(_, oldest)| !oldest.is_query());
        is_free && !self.handover.is_running() && !self.flow.is_stalled()
    }
}
