//! The keeper of a hub: it is polled after it was woken, and its calls are recorded as those of a user.

use std::collections::BTreeSet;
use std::task::{Context, Poll, Waker};

use super::super::calls::OpenCall;
use super::super::user::Request;
use super::super::{Simulation, log_line};
use crate::listener::command_queue::MadeCall;

impl Simulation {
    pub(in super::super) fn poll_keeper(&mut self) {
        self.follow_stream();
        let Some(hub) = &mut self.hub else { return };
        hub.is_keeper_scheduled = false;
        let Some(mut keeper) = hub.keeper.take() else { return };
        let before = hub.probe.channels();
        drop(self.calls.queue.room().take_made());
        let waker = Waker::from(hub.keeper_waker.clone());
        match keeper.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Pending => hub.keeper = Some(keeper),
            Poll::Ready(()) if hub.is_refusing || self.has_task_ended => {}
            Poll::Ready(()) => self.fail("the keeper returns, and the hub is not closed"),
        }
        for made in self.calls.queue.room().take_made() {
            self.record_call_of_keeper(made);
        }
        self.record_sent_calls();
        self.record_answers_of_keeper(&before);
    }

    fn record_call_of_keeper(&mut self, made: MadeCall) {
        let MadeCall { number, is_listen, channels } = made;
        let bytes: usize = 512 + channels.iter().map(|name| 64 + name.len()).sum::<usize>();
        let ids = channels.iter().filter_map(|name| self.channels.find(name)).collect();
        let id = self.calls.next_id();
        log_line!(self, "command {id} of the keeper: listen {is_listen}, {channels:?}");
        let request = if is_listen { Request::Listen(ids) } else { Request::Unlisten(ids) };
        if let Some(hub) = &mut self.hub {
            hub.counts.listens += u64::from(is_listen);
            hub.counts.unlistens += u64::from(!is_listen);
            hub.counts.groups += u64::from(channels.len() > 1);
        }
        let queued = Some((number, bytes.min(self.plan.queue_bytes)));
        let call = OpenCall { request, queued, position: None, future: None };
        self.calls.open.insert(id, call);
    }

    /// Records which subscribers have joined or failed, and which get a gap because the server listens to a channel again
    /// that it had refused.
    fn record_answers_of_keeper(
        &mut self,
        before: &std::collections::BTreeMap<String, crate::hub::tests::probe::ChannelView>,
    ) {
        let Some(hub) = &mut self.hub else { return };
        let after = hub.probe.channels();
        let is_healed = |(name, was): &(&String, &crate::hub::tests::probe::ChannelView)| {
            was.is_refused && after.get(*name).is_some_and(|is| !is.is_refused && is.is_active)
        };
        let healed =
            before.iter().filter(is_healed).filter_map(|(name, _)| self.channels.find(name));
        let healed: BTreeSet<usize> = healed.collect();
        let (position, gaps) = (self.sink.get().taken.len(), self.sink.get().gaps.len());
        let is_held = self.sink.get().is_held;
        hub.refused.retain(|channel, _| !healed.contains(channel));
        for subscriber in hub.subscribers.values_mut() {
            if subscriber.joined.is_some() {
                let is_concerned = subscriber.choice.channels.iter().any(|id| healed.contains(id));
                if is_concerned {
                    hub.counts.accepted_again += 1;
                    subscriber.model.lost(position, 0, !is_held);
                }
            } else if !subscriber.is_receiving() && subscriber.waker.is_woken() {
                subscriber.joined = Some(gaps);
            }
        }
    }
}
