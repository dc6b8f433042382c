//! A hub in place of a listener: the real sink, routes, mailboxes, keeper and subscriptions, on the same task, servers and network.
//!
//! ```text
//! user ─ Subscribe ─▶ routes ─▶ keeper ─ CommandQueue ─▶ ListenerTask(Supervisor) ─ HubSink ─▶ mailboxes ─▶ subscriptions
//!                                                                                └▶ ring ─▶ the listener beside it
//! ```
//! The listener beside the hub receives the same stream, so that all checks of a listener are made too. What is put into the
//! stream is recorded there. A [model](model) of each subscription says from this record what it must receive.

mod checks;
mod counts;
mod keeper;
mod model;
mod payloads;
mod receive;
mod subscriber;
mod tests;
mod user;

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

pub(super) use self::counts::HubCounts;
use self::subscriber::Subscriber;
use super::call_future::{CallEnd, CallFuture};
use super::clock::{MILLI, Micros, SimulatorEvent};
use super::consumer::FlagWaker;
use super::random::SimulatorRandom;
use super::subscriptions::{ChannelId, Subscriptions};
use super::{Simulation, log_line};
use crate::hub::HubHandle;
use crate::hub::tests::probe::{HubParts, HubProbe, HubSinkParts};
use crate::listener::ListenerHandle;
use crate::listener::shared::ListenerShared;

/// A hub and its users.
pub(super) struct SimulatedHub {
    handle: HubHandle,
    probe: HubProbe,
    random: SimulatorRandom,
    /// `None` after it has returned.
    keeper: Option<Pin<Box<dyn Future<Output = ()>>>>,
    keeper_waker: Arc<FlagWaker>,
    is_keeper_scheduled: bool,
    /// Those that have neither left nor failed, by their numbers.
    subscribers: BTreeMap<usize, Subscriber>,
    next_subscriber: usize,
    /// The mean time between two actions of the user.
    actions: Micros,
    /// The share of polls of the keeper that are late, in percent.
    lateness: u64,
    /// The highest number of subscribers.
    subscribers_max: usize,
    /// The longest time from a wake-up of a subscriber to its poll.
    laziness: Micros,
    /// The channels that the server refuses, each with the index of the gap that has reported it.
    refused: BTreeMap<ChannelId, usize>,
    /// How much of the record the models have seen: notifications and gaps.
    seen: (usize, usize),
    /// The calls of drain and close.
    ends: Vec<CallFuture>,
    /// A drain or close was called on the hub.
    is_refusing: bool,
    pub(super) counts: HubCounts,
}

impl SimulatedHub {
    /// Creates a hub and its sink.
    pub(super) fn new(
        listener: ListenerHandle,
        shared: Arc<ListenerShared>,
        channels: &Subscriptions,
        mut random: SimulatorRandom,
    ) -> (Self, Box<dyn HubSinkParts>) {
        let topics_of: HashMap<_, _> = payloads::topics_of(channels).collect();
        let HubParts { handle, sink, keeper, probe } = HubParts::new(listener, shared, topics_of);
        let hub = Self {
            handle,
            probe,
            keeper: Some(keeper),
            keeper_waker: Arc::default(),
            is_keeper_scheduled: false,
            subscribers: BTreeMap::new(),
            next_subscriber: 0,
            actions: random.pick(&[20, 100, 300, 1_000]) * MILLI,
            lateness: random.pick(&[0, 10, 50]),
            subscribers_max: random.pick(&[2, 6, 12, 40]),
            laziness: random.pick(&[10, MILLI, 50 * MILLI, 500 * MILLI]),
            refused: BTreeMap::new(),
            seen: (0, 0),
            ends: Vec::new(),
            is_refusing: false,
            counts: HubCounts::default(),
            random,
        };
        (hub, sink)
    }

    /// Records a gap that reports these channels as refused.
    pub(super) fn are_refused(&mut self, refused: &[ChannelId], gap: usize) {
        self.refused = refused.iter().map(|&channel| (channel, gap)).collect();
    }

    /// Returns the future of a drain.
    pub(super) fn drain(&self, timeout: Duration) -> CallFuture {
        let handle = self.handle.clone();
        CallFuture::new(async move { CallEnd::of(handle.drain(timeout).await) })
    }
}

impl Simulation {
    pub(super) fn schedule_hub(&mut self) {
        if self.hub.is_some() {
            self.clock.at(0, SimulatorEvent::Keeper, &mut self.random);
            self.clock.at(0, SimulatorEvent::HubUser, &mut self.random);
        }
    }

    /// Closes the hub, if there is one.
    pub(super) fn close_hub(&mut self) -> bool {
        let Some(hub) = &mut self.hub else { return false };
        hub.is_refusing = true;
        hub.counts.closed += 1;
        let handle = hub.handle.clone();
        let mut close = CallFuture::new(async move {
            handle.close().await;
            CallEnd::Done
        });
        if close.poll().is_none() {
            hub.ends.push(close);
        }
        true
    }

    /// Keeps the future of a drain, which ends when the hub has ended, and not when the drain is answered.
    pub(super) fn keep_drain_of_hub(&mut self, id: u64) {
        let Some(hub) = &mut self.hub else { return };
        hub.is_refusing = true;
        if let Some(drain) = self.calls.open.get_mut(&id).and_then(|call| call.future.take()) {
            hub.counts.drained += 1;
            hub.ends.push(drain);
        }
    }

    /// Runs after every event: schedules what was woken, and checks that nothing sleeps that has something to do.
    pub(super) fn poll_woken_of_hub(&mut self, event: SimulatorEvent) {
        // Nothing that happens in a server or on the network has an effect before the process runs.
        if self.hub.is_none() || self.failure.is_some() || !event.is_ours() {
            return;
        }
        self.follow_stream();
        let Some(hub) = &mut self.hub else { return };
        if hub.keeper.is_some() && !hub.is_keeper_scheduled && hub.keeper_waker.take() {
            hub.is_keeper_scheduled = true;
            // Sometimes so late that the session is lost and restored before it runs.
            let most =
                if !self.is_calm && hub.random.chance(hub.lateness) { 4_000 * MILLI } else { 50 };
            let delay = hub.random.below(most);
            self.clock.after(delay, SimulatorEvent::Keeper, &mut hub.random);
        }
        let most = if self.is_calm { 100 } else { hub.laziness };
        for (&number, subscriber) in &mut hub.subscribers {
            if subscriber.is_asleep && subscriber.waker.take() {
                subscriber.is_asleep = false;
                let nap = !self.is_calm && subscriber.naps && hub.random.chance(20);
                let delay = hub.random.range(1, if nap { 5_000 * MILLI } else { most });
                self.clock.after(delay, SimulatorEvent::Subscriber(number), &mut hub.random);
            }
        }
        self.check_hub();
    }

    /// Ends everything of the hub after its task has ended.
    pub(super) fn end_hub(&mut self) {
        if self.hub.is_none() {
            return;
        }
        self.poll_keeper();
        self.end_subscribers();
        let Some(hub) = &mut self.hub else { return };
        hub.counts.topic_panics += hub.handle.stats().topic_panics;
        let has_keeper = hub.keeper.is_some();
        let all_ended = hub.ends.iter_mut().all(|end| end.end().is_some());
        if has_keeper {
            self.fail("the hub has ended, and its keeper has not");
        } else if !all_ended {
            self.fail("the hub has ended, and a drain or close has not returned");
        }
        log_line!(self, "the hub has ended");
    }
}
