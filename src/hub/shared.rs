//! [`HubShared`]: what a hub, its subscriptions and its task share.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::routes::Routes;
use super::topic_rules::TopicRules;
use crate::error::{Error, Panic};
use crate::listener::shared::ListenerShared;
use crate::queue::End;

#[derive(Debug)]
pub(super) struct HubShared {
    routes: Mutex<Routes>,
    pub(super) topics: TopicRules,
    /// There are changes to send, or the hub has ended.
    pub(super) changed: Notify,
    listener: Arc<ListenerShared>,
    pub(super) counters: HubCounters,
}

/// The counters of the task. It is their only writer.
#[derive(Debug, Default)]
pub(super) struct HubCounters {
    pub(super) delivered: AtomicU64,
    pub(super) dropped: AtomicU64,
    pub(super) unclaimed: AtomicU64,
    pub(super) topic_panics: AtomicU64,
}

impl HubCounters {
    /// Counts notifications for subscriptions, and those of them that were dropped, now or earlier.
    pub(super) fn count(&self, count: u64, dropped: u64) {
        add(&self.delivered, count);
        add(&self.dropped, dropped);
    }

    pub(super) fn unclaimed_count(&self) -> u64 {
        self.unclaimed.load(Ordering::Relaxed)
    }

    pub(super) fn topic_panic_count(&self) -> u64 {
        self.topic_panics.load(Ordering::Relaxed)
    }

    pub(super) fn unclaimed(&self, count: usize) {
        add(&self.unclaimed, count as u64);
    }
}

fn add(counter: &AtomicU64, more: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
}

impl HubShared {
    pub(super) fn new(topics: TopicRules, listener: Arc<ListenerShared>) -> Self {
        let (routes, changed) = (Mutex::default(), Notify::new());
        Self { routes, topics, changed, listener, counters: HubCounters::default() }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Routes> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn is_unlocked(&self) -> bool {
        self.routes.try_lock().is_ok()
    }

    pub(super) fn end(&self) -> Arc<End> {
        self.listener.end.clone()
    }

    /// Sets the number of notifications received.
    pub(super) fn set_received(&self, count: u64) {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (delivered, dropped) = (get(&self.counters.delivered), get(&self.counters.dropped));
        self.listener.set_passed_on(count, delivered, dropped);
    }

    /// Counts a panic of a function of the user, and stores it as the last error.
    #[cold]
    pub(super) fn topic_panicked(&self, panic: &Panic) {
        self.listener.set_last_error(Error::panicked("the topic function", panic));
        add(&self.counters.topic_panics, 1);
    }

    /// Ends the stream of every subscription: the task has ended, after this number of notifications.
    pub(super) fn close(&self, received: u64) {
        let closed = self.listener.closed();
        let (dropped, mut woken) = self.lock().close(&closed);
        self.counters.count(0, dropped);
        self.set_received(received);
        woken.wake();
        self.changed.notify_one();
    }
}
