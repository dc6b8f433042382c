//! [`KeptSubscriptions`]: subscriptions of browsers that have gone, for the case that they reconnect.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pgbell::Subscription;
use tokio::time::Instant;

/// The highest number of kept subscriptions. The oldest one is dropped when there are more.
const KEPT_MAX: usize = 1_000;

/// The time for which a browser can continue a kept subscription.
const KEPT_TIME: Duration = Duration::from_secs(30);

/// The interval at which subscriptions that were kept too long are dropped.
pub(super) const EXPIRY_INTERVAL: Duration = Duration::from_secs(5);

/// A subscription with its position. The queue of the subscription keeps what arrives while no browser is connected.
#[derive(Debug)]
pub(super) struct Kept {
    room: String,
    /// A random number, which no other subscription has.
    token: u64,
    /// The number of messages that were handed to the connection.
    sent: u64,
    pub(super) subscription: Subscription,
}

impl Kept {
    pub(super) fn new(room: &str, subscription: Subscription) -> Self {
        // The hasher of std has random keys.
        let token = RandomState::new().hash_one(Instant::now());
        Self { room: room.to_owned(), token, sent: 0, subscription }
    }

    /// Counts a message, and returns its id.
    pub(super) fn next_id(&mut self) -> String {
        self.sent += 1;
        self.id()
    }

    /// The id of the last message.
    fn id(&self) -> String {
        format!("{:016x}-{}", self.token, self.sent)
    }
}

#[derive(Debug, Default)]
pub(super) struct KeptSubscriptions(Mutex<VecDeque<(Instant, Kept)>>);

impl KeptSubscriptions {
    pub(super) fn keep(&self, kept: Kept) {
        let mut all = self.current();
        if all.len() == KEPT_MAX {
            all.pop_front();
        }
        all.push_back((Instant::now(), kept));
    }

    /// Returns the subscription of the browser that has received `last_id`, if that was the last message. Otherwise the server does not know
    /// what the browser has received: the subscription is dropped.
    pub(super) fn take(&self, room: &str, last_id: &str) -> Option<Kept> {
        let token =
            last_id.split_once('-').map(|(token, _)| u64::from_str_radix(token, 16))?.ok()?;
        let mut all = self.current();
        let index = all.iter().position(|(_, kept)| kept.token == token && kept.room == room)?;
        let (_, kept) = all.remove(index)?;
        (kept.id() == last_id).then_some(kept)
    }

    /// Drops those that were kept too long. Without this a subscription would stay until the next request.
    pub(super) fn expire(&self) {
        drop(self.current());
    }

    /// Removes those that were kept too long.
    fn current(&self) -> MutexGuard<'_, VecDeque<(Instant, Kept)>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while all.front().is_some_and(|(since, _)| since.elapsed() > KEPT_TIME) {
            all.pop_front();
        }
        all
    }
}
