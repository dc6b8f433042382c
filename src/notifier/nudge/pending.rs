//! [`PendingNudges`]: the nudges that were not sent, each (channel, key) once. Bounded, without I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::sync::Arc;

/// The bytes that a key takes in addition to its length: for the text's header and its place in a set.
const KEY_BYTES: usize = 64;

/// The limits of what waits.
#[derive(Debug, Clone, Copy)]
pub(in crate::notifier) struct NudgeLimits {
    /// Of channels, those of the current flush included.
    pub(in crate::notifier) channels: usize,
    /// Of the keys of one channel.
    pub(in crate::notifier) keys: usize,
    /// Of the bytes of all keys, with [`KEY_BYTES`] for each.
    pub(in crate::notifier) bytes: usize,
}

impl Default for NudgeLimits {
    /// 1,024 keys are the most that a consumer gets one by one, too. 1 MiB is enough for 10,000 keys of 32 bytes.
    fn default() -> Self {
        Self { channels: 1_024, keys: 1_024, bytes: 1024 * 1024 }
    }
}

/// A channel and a key. The empty key is a nudge without a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Nudge {
    pub(crate) channel: Arc<str>,
    pub(crate) key: Arc<str>,
}

/// The nudges that were not sent.
#[derive(Debug)]
pub(in crate::notifier) struct PendingNudges {
    channels: BTreeMap<Arc<str>, PendingKeys>,
    /// Of the keys.
    bytes: usize,
    /// The channels of the current flush. They may be put back.
    taken: BTreeSet<Arc<str>>,
    /// How many of them have nudges that wait, too.
    in_both: usize,
    limits: NudgeLimits,
}

#[derive(Debug)]
enum PendingKeys {
    Set(BTreeSet<Arc<str>>),
    /// One nudge without a key, instead of many keys.
    All,
}

/// What has become of a nudge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::notifier) enum Added {
    /// It waits.
    New,
    /// So many nudges have become part of others, this one or earlier ones.
    Coalesced(u64),
    /// There are too many channels.
    NoRoom,
}

impl PendingNudges {
    pub(in crate::notifier) fn new(limits: NudgeLimits) -> Self {
        Self { channels: BTreeMap::new(), bytes: 0, taken: BTreeSet::new(), in_both: 0, limits }
    }

    pub(in crate::notifier) fn is_empty(&self) -> bool {
        self.channels.is_empty()
    }

    /// Adds a nudge.
    pub(in crate::notifier) fn add(&mut self, channel: &str, key: &str) -> Added {
        let cost = key.len().saturating_add(KEY_BYTES);
        let is_taken = self.taken.contains(channel);
        let has_channel_room = is_taken || self.channel_count() < self.limits.channels;
        let fits = self.bytes.saturating_add(cost) <= self.limits.bytes;
        match self.channels.get_mut(channel) {
            Some(PendingKeys::All) => return Added::Coalesced(1),
            Some(PendingKeys::Set(keys)) if keys.contains(key) => return Added::Coalesced(1),
            Some(PendingKeys::Set(keys)) if fits && keys.len() < self.limits.keys => {
                keys.insert(key.into());
            }
            Some(all @ PendingKeys::Set(_)) => {
                let PendingKeys::Set(keys) = mem::replace(all, PendingKeys::All) else {
                    return Added::Coalesced(1);
                };
                self.bytes -= keys.iter().map(|key| key.len() + KEY_BYTES).sum::<usize>();
                return Added::Coalesced(keys.len() as u64);
            }
            None if !has_channel_room => return Added::NoRoom,
            None => {
                let keys = match fits {
                    true => PendingKeys::Set(BTreeSet::from([key.into()])),
                    false => PendingKeys::All,
                };
                self.channels.insert(channel.into(), keys);
                self.in_both += usize::from(is_taken);
                if !fits {
                    return Added::New;
                }
            }
        }
        self.bytes += cost;
        Added::New
    }

    /// Returns the number of channels, those of the current flush included.
    fn channel_count(&self) -> usize {
        self.channels.len() + self.taken.len() - self.in_both
    }

    /// Takes all nudges, as one flush. [`settle`](Self::settle) follows.
    pub(in crate::notifier) fn take(&mut self) -> Vec<Nudge> {
        let channels = mem::take(&mut self.channels);
        (self.bytes, self.in_both) = (0, 0);
        self.taken = channels.keys().cloned().collect();
        let mut nudges = Vec::new();
        for (channel, keys) in channels {
            match keys {
                PendingKeys::All => nudges.push(Nudge { channel, key: "".into() }),
                PendingKeys::Set(keys) => {
                    let nudge = |key| Nudge { channel: channel.clone(), key };
                    nudges.extend(keys.into_iter().map(nudge));
                }
            }
        }
        nudges
    }

    /// Ends the current flush, and puts back what was not confirmed. Returns how many of them have become part of others.
    pub(in crate::notifier) fn settle(&mut self, unconfirmed: impl Iterator<Item = Nudge>) -> u64 {
        // There is room for its channels: no other channel got it.
        self.taken.clear();
        self.in_both = 0;
        let added = unconfirmed.map(|Nudge { channel, key }| self.add(&channel, &key));
        added.map(|added| if let Added::Coalesced(count) = added { count } else { 0 }).sum()
    }

    /// Discards all nudges. Returns their number.
    pub(in crate::notifier) fn discard(&mut self) -> u64 {
        (self.bytes, self.in_both) = (0, 0);
        let count = |keys: &PendingKeys| match keys {
            PendingKeys::All => 1,
            PendingKeys::Set(keys) => keys.len() as u64,
        };
        mem::take(&mut self.channels).values().map(count).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn pending(channels: usize, keys: usize, bytes: usize) -> PendingNudges {
        PendingNudges::new(NudgeLimits { channels, keys, bytes })
    }

    fn texts(nudges: &[Nudge]) -> Vec<String> {
        nudges.iter().map(|nudge| format!("{}:{}", nudge.channel, nudge.key)).collect()
    }

    #[test]
    fn equal_nudges_are_one() {
        let mut pending = pending(9, 9, 9_999);
        assert_eq!(pending.add("a", "1"), Added::New);
        assert_eq!(pending.add("a", "1"), Added::Coalesced(1));
        assert_eq!(pending.add("a", ""), Added::New);
        assert_eq!(pending.add("b", "1"), Added::New);
        assert_eq!(texts(&pending.take()), ["a:", "a:1", "b:1"]);
        assert!(pending.is_empty());
    }

    #[test]
    fn more_keys_than_the_limit_are_one_nudge_without_a_key() {
        let mut pending = pending(9, 3, 9_999);
        for key in ["1", "2", "3"] {
            assert_eq!(pending.add("a", key), Added::New);
        }
        assert_eq!(pending.add("a", "2"), Added::Coalesced(1), "it needs no room");
        // Of the four nudges one is left.
        assert_eq!(pending.add("a", "4"), Added::Coalesced(3));
        assert_eq!(pending.add("a", "5"), Added::Coalesced(1));
        assert_eq!(pending.add("b", "1"), Added::New);
        assert_eq!(texts(&pending.take()), ["a:", "b:1"]);
    }

    #[test]
    fn keys_that_are_too_long_together_are_one_nudge_without_a_key() {
        let (mut pending, long) = (pending(9, 9, 2 * KEY_BYTES + 100), "x".repeat(90));
        assert_eq!(pending.add("a", &long), Added::New);
        assert_eq!(pending.add("b", &long), Added::New, "as one without a key");
        assert_eq!(pending.add("a", "0123456789"), Added::New);
        assert_eq!(pending.add("a", "y"), Added::Coalesced(2));
        // The bytes of its keys are free again.
        assert_eq!(pending.add("c", &long), Added::New);
        assert_eq!(texts(&pending.take()), ["a:".to_owned(), "b:".to_owned(), format!("c:{long}")]);
    }

    #[test]
    fn there_is_always_room_for_the_channels_of_a_flush_that_is_put_back() {
        let mut pending = pending(3, 9, 9_999);
        for channel in ["a", "b"] {
            pending.add(channel, "1");
        }
        let flush = pending.take();
        assert_eq!(pending.add("c", "1"), Added::New);
        assert_eq!(pending.add("d", "1"), Added::NoRoom);
        assert_eq!(pending.add("b", "1"), Added::New, "there is room for its channel");
        assert_eq!(pending.settle(flush.into_iter()), 1);
        assert_eq!(pending.add("d", "1"), Added::NoRoom);
        assert_eq!(texts(&pending.take()), ["a:1", "b:1", "c:1"]);
    }

    /// A channel was counted twice, so 600 channels left room for no nudge of the last 176.
    #[test]
    fn channels_in_flight_that_are_nudged_again_are_not_dropped() {
        let mut pending = PendingNudges::new(NudgeLimits::default());
        for round in 0..3 {
            for channel in 0..600 {
                assert_eq!(pending.add(&channel.to_string(), ""), Added::New, "{round} {channel}");
            }
            let flush = pending.take();
            for channel in 0..600 {
                assert_eq!(pending.add(&channel.to_string(), ""), Added::New, "{round} {channel}");
            }
            for channel in 600..1_024 {
                assert_eq!(pending.add(&channel.to_string(), ""), Added::New, "{round} {channel}");
            }
            assert_eq!(pending.add("another", ""), Added::NoRoom);
            assert_eq!(pending.settle(flush.into_iter()), 600);
            assert_eq!(pending.take().len(), 1_024);
            assert_eq!(pending.settle(std::iter::empty()), 0);
        }
    }

    #[derive(Debug, Clone)]
    enum Step {
        Add(u8, u16),
        Take,
        /// So many of the flush are confirmed.
        Settle(usize),
        Discard,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            20 => (0..6_u8, 0..40_u16).prop_map(|(channel, key)| Step::Add(channel, key)),
            2 => Just(Step::Take),
            2 => (0..20_usize).prop_map(Step::Settle),
            1 => Just(Step::Discard),
        ]
    }

    proptest! {
        /// Each accepted nudge is taken afterwards, with its key or without one. The limits are kept, and every nudge is counted
        /// once.
        #[test]
        fn every_accepted_nudge_is_taken(steps in prop::collection::vec(step(), 0..300)) {
            let mut pending = pending(4, 5, 1_200);
            let (mut flush, mut is_taken) = (Vec::<Nudge>::new(), false);
            let (mut added, mut coalesced, mut ended) = (0_u64, 0_u64, 0_u64);
            // Nudges that are not taken yet.
            let mut expected: HashMap<(String, String), ()> = HashMap::new();
            for step in steps {
                match step {
                    Step::Add(channel, key) => {
                        let (channel, key) = (channel.to_string(), "k".repeat(usize::from(key)));
                        match pending.add(&channel, &key) {
                            Added::NoRoom => continue,
                            Added::New => {}
                            Added::Coalesced(count) => coalesced += count,
                        }
                        added += 1;
                        expected.insert((channel, key), ());
                    }
                    Step::Take if !is_taken => {
                        flush = pending.take();
                        is_taken = true;
                        for (channel, key) in expected.drain().map(|(nudge, ())| nudge) {
                            let is_there = flush.iter().any(|nudge| {
                                *nudge.channel == *channel && (*nudge.key == *key || nudge.key.is_empty())
                            });
                            prop_assert!(is_there, "{channel}:{key} is lost");
                        }
                    }
                    Step::Settle(confirmed) if is_taken => {
                        let confirmed = confirmed.min(flush.len());
                        ended += confirmed as u64;
                        let rest = flush.split_off(confirmed);
                        for nudge in &rest {
                            expected.insert((nudge.channel.to_string(), nudge.key.to_string()), ());
                        }
                        coalesced += pending.settle(rest.into_iter());
                        flush = Vec::new();
                        is_taken = false;
                    }
                    Step::Take | Step::Settle(_) => {}
                    Step::Discard => {
                        ended += pending.discard();
                        expected.clear();
                    }
                }
                let both = pending.channels.keys().chain(&pending.taken);
                let channels = both.collect::<BTreeSet<_>>().len();
                prop_assert_eq!(channels, pending.channel_count());
                prop_assert!(channels <= 4);
                prop_assert!(pending.bytes <= 1_200);
            }
            ended += flush.len() as u64 + pending.discard();
            prop_assert_eq!(added, coalesced + ended);
        }
    }
}
