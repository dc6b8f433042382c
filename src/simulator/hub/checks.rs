//! The checks of a hub while it runs and at the end.

use super::super::recording_sink::SharedSink;
use super::super::subscriptions::ChannelId;
use super::super::user::Request;
use super::super::{Simulation, log_line};
use super::subscriber::{Subscriber, SubscriberStage};
use crate::error::ErrorKind;
use crate::proto::supervisor::Supervisor;

impl Simulation {
    /// Returns the subscriptions that must receive a notification of this channel that is committed now, or a report of its loss.
    pub(in super::super) fn subscribers_of(&self, channel: ChannelId) -> Vec<usize> {
        let Some(hub) = self.hub.as_ref().filter(|_| !self.is_closing && self.done.is_none())
        else {
            return Vec::new();
        };
        let refused = hub.refused.get(&channel);
        let must_receive = |subscriber: &Subscriber| {
            let was_told = |&gap: &usize| subscriber.joined.is_some_and(|joined| gap >= joined);
            subscriber.is_receiving()
                && subscriber.choice.channels.contains(&channel)
                && !refused.is_some_and(was_told)
        };
        let all = hub.subscribers.iter();
        all.filter(|(_, subscriber)| must_receive(subscriber)).map(|(&number, _)| number).collect()
    }

    /// Returns whether it is a run of a hub, and all of these subscriptions have left.
    pub(in super::super) fn have_left(&self, subscribers: &[usize]) -> bool {
        self.hub.as_ref().is_some_and(|hub| {
            subscribers.iter().all(|number| !hub.subscribers.contains_key(number))
        })
    }

    /// Returns whether the hub has nothing to do.
    pub(in super::super) fn hub_is_quiet(&self) -> bool {
        self.hub.as_ref().is_none_or(|hub| {
            !hub.is_keeper_scheduled && !hub.probe.has_changes() && hub.probe.waiting() == 0
        })
    }

    /// Adds what was put into the stream since the last call to the models of all subscriptions.
    pub(super) fn follow_stream(&mut self) {
        let Some(hub) = &self.hub else { return };
        let sink = self.sink.get();
        let (taken, gaps) = (sink.taken.len(), sink.gaps.len());
        let is_shown = !sink.is_held;
        let mut news = Vec::new();
        for position in hub.seen.0..taken {
            let one = sink.taken[position];
            let server = self.connections[one.connection].server;
            let Some(number) = super::super::server::SimulatedServer::number(one.process_id) else {
                continue;
            };
            let channel = self.servers[server].log[number].channel;
            news.push((
                position,
                (channel, one.process_id, one.epoch),
                self.payload(server, number),
            ));
        }
        let lost = sink.gaps[hub.seen.1..gaps].to_vec();
        drop(sink);
        let Some(hub) = &mut self.hub else { return };
        hub.seen = (taken, gaps);
        if news.is_empty() && lost.is_empty() && !is_shown {
            return;
        }
        for subscriber in hub.subscribers.values_mut() {
            if subscriber.joined.is_none() {
                continue;
            }
            for (position, id, payload) in &news {
                if let Some(payload) = subscriber.choice.receives(id.0, id.1, payload) {
                    subscriber.model.notified(*position, *id, payload);
                }
            }
            for gap in lost.iter().filter(|gap| subscriber.choice.is_concerned(&gap.scope)) {
                let position = usize::try_from(gap.position).unwrap();
                subscriber.model.lost(position, gap.gap.sessions(), true);
            }
            if is_shown {
                subscriber.model.show();
            }
        }
    }

    /// Checks after an event that nothing of the hub sleeps that has something to do, and the inner state.
    pub(super) fn check_hub(&mut self) {
        let Some(hub) = &mut self.hub else { return };
        let sink = self.sink.get();
        let mut wrong = None;
        for (number, subscriber) in &hub.subscribers {
            let is_asleep = subscriber.is_asleep && subscriber.is_receiving();
            if is_asleep && subscriber.model.has_visible(subscriber.choice.shown(&sink)) {
                let next = subscriber.model.expected.front();
                wrong = Some(format!(
                    "subscriber {number} sleeps and was not woken, and next is {next:?}"
                ));
            }
        }
        drop(sink);
        let is_command =
            |request: &Request| matches!(request, Request::Listen(_) | Request::Unlisten(_));
        let has_call = self.calls.open.values().any(|call| is_command(&call.request));
        let is_asleep = hub.keeper.is_some() && !hub.is_keeper_scheduled && !has_call;
        if is_asleep && hub.probe.has_changes() {
            wrong = Some("the keeper sleeps and was not woken, and there are changes".to_owned());
        }
        let wrong = wrong.or_else(|| hub.probe.wrong());
        wrong.into_iter().for_each(|wrong| self.fail(wrong));
    }

    /// Checks at a quiet moment that everything was received, and that the session listens to the channels of the subscriptions
    /// and to no others.
    pub(in super::super) fn check_hub_at_the_end(
        &mut self,
        supervisor: Option<&Supervisor<SharedSink>>,
    ) {
        let Some(hub) = self.hub.as_ref().filter(|_| !self.is_closing && self.done.is_none())
        else {
            return;
        };
        let waiting = hub.probe.waiting();
        if waiting > 0 {
            return self.fail(format!("nothing is broken, and {waiting} subscriptions wait"));
        }
        for number in hub.subscribers.keys().copied().collect::<Vec<_>>() {
            self.poll_until_it_sleeps(number);
        }
        let Some((hub, supervisor)) = self.hub.as_ref().zip(supervisor) else { return };
        let left = hub.subscribers.iter().find(|(_, subscriber)| {
            !subscriber.is_receiving() || !subscriber.model.expected.is_empty()
        });
        if let Some((number, subscriber)) = left {
            let (joined, expected) = (subscriber.joined, &subscriber.model.expected);
            let wrong = format!(
                "nothing is broken, and subscriber {number} ({joined:?}) must receive {expected:?}"
            );
            return self.fail(wrong);
        }
        for (number, subscriber) in &hub.subscribers {
            let SubscriberStage::Receiving(subscription) = &subscriber.stage else { continue };
            let (stats, model) = (subscription.stats(), &subscriber.model);
            let counted = (stats.received, stats.delivered + stats.lagged, stats.queued);
            if counted != (model.matched, model.next, 0) || stats.lagged != stats.dropped {
                return self
                    .fail(format!("the statistics of subscriber {number} are wrong: {stats:?}"));
            }
        }
        let stats = hub.handle.stats();
        if stats.subscriptions != hub.subscribers.len() as u64 {
            let count = hub.subscribers.len();
            return self.fail(format!(
                "{count} are subscribed, and the statistics of the hub are {stats:?}"
            ));
        }
        let wanted: Vec<&str> = supervisor.channels().map(|(name, _)| name).collect();
        let views = hub.probe.channels();
        let is_settled = views.values().all(|view| view.is_active && view.subscriptions > 0);
        if !is_settled || !views.keys().map(String::as_str).eq(wanted.iter().copied()) {
            let wrong = format!("the session listens to {wanted:?}, and the hub has {views:?}");
            return self.fail(wrong);
        }
        log_line!(self, "the hub is in order: {} subscribers", hub.subscribers.len());
    }

    /// Polls a subscriber until it sleeps, or has ended.
    fn poll_until_it_sleeps(&mut self, number: usize) {
        for _ in 0..1_000 {
            let Some(hub) = self.hub.as_ref().filter(|_| self.failure.is_none()) else { return };
            match hub.subscribers.get(&number) {
                None => return,
                Some(subscriber) if subscriber.is_asleep && !subscriber.waker.is_woken() => return,
                Some(_) => self.poll_subscriber(number),
            }
        }
    }

    /// Lets every subscriber receive the rest and the end. Afterwards there are none, and a subscribe is refused.
    pub(super) fn end_subscribers(&mut self) {
        self.follow_stream();
        let Some(hub) = &self.hub else { return };
        for number in hub.subscribers.keys().copied().collect::<Vec<_>>() {
            self.poll_until_it_sleeps(number);
        }
        let Some(hub) = &self.hub else { return };
        if let Some(number) = hub.subscribers.keys().next() {
            return self.fail(format!("the hub has ended, and subscriber {number} has not"));
        }
        let name = self.channels.0[0].name.clone();
        let refused = super::super::call_future::CallFuture::new({
            let subscribe = hub.handle.subscribe(name);
            async move { super::super::call_future::CallEnd::of(subscribe.await) }
        })
        .poll();
        let closed = super::super::call_future::CallEnd::Failed(ErrorKind::Closed);
        if refused != Some(closed) {
            self.fail(format!("the hub has ended, and a subscribe returns {refused:?}"));
        }
    }
}
