//! [`Doorbell`]: what a task is to be woken by, without I/O and without a clock.
//!
//! ```text
//! ring ─▶ held, until release ─▶ shown ┐
//! nudge ───────────────────────▶ shown ┤
//! release(gap) ────────────────────────┼─ take(now) ─▶ one wake-up, and nothing is pending
//! a full batch, the interval ──────────┘
//! ```
//! Gaps are merged into one, notifications into a count and a bounded set of keys. So the memory does not depend on the workers, and nothing
//! here is ever full.

use std::collections::BTreeSet;
use std::mem;
use std::time::{Duration, Instant};

use super::stats::WakeTaskStats;
use super::wake::{KEYS_BYTES_MAX, KEYS_MAX, Keys, Wake};
use crate::notification::Gap;

#[derive(Debug)]
pub(super) struct Doorbell {
    interval: Duration,
    batch_size: usize,
    shown: Arrived,
    /// What arrived while a loss is not reported yet. No worker may see it before the loss.
    held: Arrived,
    is_held: bool,
    gap: Option<Gap>,
    /// Everything is to be read, and it does not wait for the interval.
    again: bool,
    /// The next poll. `None`: the instant is too far in the future to be represented.
    due: Option<Instant>,
    /// The poll that a worker has asked for. Wake-ups before it do not replace it: what it is for may not be found by them yet.
    retry: Option<Instant>,
    pub(super) counts: WakeTaskStats,
}

/// Notifications that were not taken.
#[derive(Debug)]
struct Arrived {
    count: u64,
    keys: Keys,
    /// The bytes of the keys.
    bytes: usize,
}

impl Default for Arrived {
    fn default() -> Self {
        Self { count: 0, keys: Keys::Set(BTreeSet::new()), bytes: 0 }
    }
}

impl Arrived {
    fn add_key(&mut self, key: &str) {
        let Keys::Set(keys) = &mut self.keys else { return };
        if keys.contains(key) {
            return;
        }
        if keys.len() == KEYS_MAX || self.bytes + key.len() > KEYS_BYTES_MAX {
            (self.keys, self.bytes) = (Keys::All, 0);
            return;
        }
        self.bytes += key.len();
        keys.insert(key.to_owned());
    }

    fn add(&mut self, later: Self) {
        self.count += later.count;
        match later.keys {
            Keys::Set(keys) => keys.iter().for_each(|key| self.add_key(key)),
            Keys::All => (self.keys, self.bytes) = (Keys::All, 0),
        }
    }
}

impl Doorbell {
    /// Creates it with a poll that is due at once.
    pub(super) fn new(interval: Duration, batch_size: usize) -> Self {
        Self {
            interval,
            batch_size,
            shown: Arrived::default(),
            held: Arrived::default(),
            is_held: false,
            gap: None,
            again: true,
            due: None,
            retry: None,
            counts: WakeTaskStats::default(),
        }
    }

    /// Adds a notification.
    pub(super) fn ring(&mut self, key: &str) {
        let arrived = if self.is_held { &mut self.held } else { &mut self.shown };
        arrived.count += 1;
        arrived.add_key(key);
        self.counts.notifications += 1;
    }

    /// Adds a nudge of the same process. It is shown at once: it is not part of the stream of the session that may be lost.
    pub(super) fn nudge(&mut self, key: &str) {
        self.shown.count += 1;
        self.shown.add_key(key);
        self.counts.nudges += 1;
    }

    /// Holds back what follows.
    pub(super) fn hold(&mut self) {
        self.is_held = true;
    }

    /// Adds a gap, which is merged into one that was not taken.
    pub(super) fn add_gap(&mut self, gap: Gap) {
        match &mut self.gap {
            Some(last) => last.merge(gap),
            None => self.gap = Some(gap),
        }
    }

    /// Shows what was held back.
    pub(super) fn release(&mut self) {
        self.is_held = false;
        self.shown.add(mem::take(&mut self.held));
    }

    /// Discards what was held back: its session is not used.
    pub(super) fn discard_held(&mut self) {
        self.is_held = false;
        self.held = Arrived::default();
    }

    /// Requests that everything is read.
    pub(super) fn poll_now(&mut self) {
        self.again = true;
    }

    /// A worker has found this number of items. Returns whether that is a full batch: then there may be more.
    pub(super) fn found(&mut self, count: usize) -> bool {
        let is_full = count >= self.batch_size;
        if is_full {
            self.again = true;
            self.counts.full_batches += 1;
        }
        is_full
    }

    /// Adds a poll at `at`, or before it if another one was asked for. Returns whether it is the next one.
    pub(super) fn retry_at(&mut self, at: Option<Instant>) -> bool {
        let Some(at) = at else { return false };
        let is_next = self.due().is_none_or(|due| at < due);
        self.retry = Some(self.retry.map_or(at, |retry| retry.min(at)));
        is_next
    }

    /// Returns whether there is a wake-up without the interval.
    pub(super) fn is_rung(&self) -> bool {
        self.again || self.gap.is_some() || self.shown.count > 0
    }

    /// Returns the instant of the next poll.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due.into_iter().chain(self.retry).min()
    }

    /// Takes everything that is pending, as one wake-up.
    pub(super) fn take(&mut self, now: Instant) -> Option<Wake> {
        let is_due = self.due().is_some_and(|due| due <= now);
        if !is_due && !self.is_rung() {
            return None;
        }
        let reads_all = mem::take(&mut self.again) || is_due;
        let Arrived { count, keys, .. } = mem::take(&mut self.shown);
        let wake = match self.gap.take() {
            Some(gap) => Wake::Resync(gap),
            None if count == 0 => Wake::Poll,
            None => Wake::Notified { count, keys: if reads_all { Keys::All } else { keys } },
        };
        match wake {
            Wake::Notified { .. } => self.counts.notified += 1,
            Wake::Poll => self.counts.polls += 1,
            Wake::Resync(_) => self.counts.resyncs += 1,
        }
        // A stream of keys must not delay the poll that finds what was not notified.
        if wake.keys().is_none() {
            self.due = now.checked_add(self.interval);
        }
        self.retry = self.retry.filter(|retry| *retry > now);
        Some(wake)
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use proptest::prelude::*;

    use super::*;
    use crate::error::{Error, ErrorKind};

    const INTERVAL: Duration = Duration::from_secs(10);

    /// A task whose first poll was taken.
    fn doorbell(now: Instant) -> Doorbell {
        let mut doorbell = Doorbell::new(INTERVAL, 100);
        assert!(matches!(doorbell.take(now), Some(Wake::Poll)));
        doorbell
    }

    fn gap(sessions: u32) -> Gap {
        Gap::new(Error::new(ErrorKind::Connect, "lost"), SystemTime::UNIX_EPOCH, sessions)
    }

    fn set<'a>(keys: impl IntoIterator<Item = &'a str>) -> Keys {
        Keys::Set(keys.into_iter().map(str::to_owned).collect())
    }

    #[test]
    fn the_first_poll_is_due_at_once_and_the_next_one_after_the_interval() {
        let now = Instant::now();
        let mut doorbell = doorbell(now);
        assert_eq!(doorbell.due(), Some(now + INTERVAL));
        assert!(doorbell.take(now + INTERVAL - Duration::from_nanos(1)).is_none());
        assert!(matches!(doorbell.take(now + INTERVAL), Some(Wake::Poll)));
        assert!(doorbell.take(now + INTERVAL).is_none());
        assert_eq!(doorbell.due(), Some(now + 2 * INTERVAL));
    }

    #[test]
    fn a_read_that_failed_is_repeated_after_its_delay_and_not_later_than_the_interval() {
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let mut doorbell = doorbell(now);
        assert!(doorbell.retry_at(Some(now + second)));
        assert!(!doorbell.retry_at(Some(now + 2 * second)));
        assert!(doorbell.take(now + second - Duration::from_nanos(1)).is_none());
        assert!(matches!(doorbell.take(now + second), Some(Wake::Poll)));
        assert_eq!(doorbell.due(), Some(now + second + INTERVAL));
        assert!(!doorbell.retry_at(Some(now + 20 * second)) && !doorbell.retry_at(None));
    }

    /// Every other run of the example `skip_locked_queue` took 30 s: a full batch of another worker replaced the poll for the item that had failed.
    #[test]
    fn a_wake_up_for_everything_does_not_replace_a_later_retry() {
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let mut doorbell = doorbell(now);
        assert!(doorbell.retry_at(Some(now + 2 * second)));
        assert!(doorbell.found(100));
        assert!(matches!(doorbell.take(now + second), Some(Wake::Poll)));
        assert_eq!(doorbell.due(), Some(now + 2 * second));
        assert!(matches!(doorbell.take(now + 2 * second), Some(Wake::Poll)));
        assert_eq!(doorbell.due(), Some(now + 2 * second + INTERVAL));
        // One that is later than the interval is kept, too.
        assert!(!doorbell.retry_at(Some(now + 14 * second)));
        assert!(matches!(doorbell.take(now + 12 * second), Some(Wake::Poll)));
        assert_eq!(doorbell.due(), Some(now + 14 * second));
    }

    #[test]
    fn a_missed_poll_is_made_once() {
        let now = Instant::now();
        let mut doorbell = doorbell(now);
        assert!(matches!(doorbell.take(now + 7 * INTERVAL), Some(Wake::Poll)));
        assert!(doorbell.take(now + 7 * INTERVAL).is_none());
        assert_eq!(doorbell.due(), Some(now + 8 * INTERVAL));
    }

    #[test]
    fn the_longest_interval_never_polls() {
        let now = Instant::now();
        let mut doorbell = Doorbell::new(Duration::MAX, 1);
        assert!(matches!(doorbell.take(now), Some(Wake::Poll)));
        assert_eq!(doorbell.due(), None);
        doorbell.ring("a");
        assert!(doorbell.take(now).is_some());
    }

    #[test]
    fn a_burst_is_one_wake_up_with_each_key_once() {
        let now = Instant::now();
        let mut doorbell = doorbell(now);
        for number in 0..1_000 {
            doorbell.ring(["a", "b", ""][number % 3]);
        }
        let Some(Wake::Notified { count, keys }) = doorbell.take(now) else { panic!() };
        assert_eq!((count, keys), (1_000, set(["", "a", "b"])));
        assert!(doorbell.take(now).is_none());
    }

    #[test]
    fn more_keys_than_the_limit_are_all_keys() {
        let now = Instant::now();
        let mut doorbell = doorbell(now);
        for extra in [0, 1] {
            (0..KEYS_MAX + extra).for_each(|key| doorbell.ring(&key.to_string()));
            // A key that is in the set already needs no room.
            doorbell.ring("0");
            let Some(Wake::Notified { count, keys }) = doorbell.take(now) else { panic!() };
            assert_eq!(count, (KEYS_MAX + extra + 1) as u64);
            assert_eq!(matches!(keys, Keys::All), extra == 1);
        }
        let long = "x".repeat(KEYS_BYTES_MAX / 2);
        for (key, is_all) in [(format!("{long}a"), false), (format!("{long}b"), true)] {
            doorbell.ring(&key);
            assert_eq!(doorbell.shown.keys == Keys::All, is_all);
        }
    }

    #[test]
    fn keys_that_arrive_all_the_time_do_not_delay_the_poll() {
        let now = Instant::now();
        let mut doorbell = doorbell(now);
        for second in 1..10 {
            doorbell.ring("a");
            let wake = doorbell.take(now + Duration::from_secs(second)).unwrap();
            assert!(wake.keys().is_some());
        }
        doorbell.ring("a");
        let Some(Wake::Notified { count: 1, keys }) = doorbell.take(now + INTERVAL) else {
            panic!()
        };
        assert_eq!(keys, Keys::All);
        assert_eq!(doorbell.due(), Some(now + 2 * INTERVAL));
    }

    #[test]
    fn a_full_batch_is_followed_by_one_more_pass() {
        let now = Instant::now();
        let mut doorbell = doorbell(now);
        assert!(!doorbell.found(99));
        assert!(doorbell.take(now).is_none());
        assert!(doorbell.found(100));
        assert!(matches!(doorbell.take(now), Some(Wake::Poll)));
        assert!(doorbell.take(now).is_none());
        // The rest of the batch may have other keys than the notifications.
        doorbell.found(101);
        doorbell.ring("a");
        assert!(matches!(doorbell.take(now), Some(Wake::Notified { count: 1, keys: Keys::All })));
    }

    #[test]
    fn what_arrives_before_a_gap_is_reported_is_part_of_the_resync() {
        let now = Instant::now();
        let mut doorbell = doorbell(now);
        doorbell.ring("before");
        doorbell.hold();
        doorbell.ring("after");
        let Some(Wake::Notified { count: 1, keys }) = doorbell.take(now) else { panic!() };
        assert_eq!(keys, set(["before"]));
        assert!(doorbell.take(now).is_none());
        // Polls continue meanwhile.
        assert!(matches!(doorbell.take(now + INTERVAL), Some(Wake::Poll)));
        doorbell.add_gap(gap(1));
        doorbell.add_gap(gap(2));
        doorbell.release();
        let Some(Wake::Resync(gap)) = doorbell.take(now) else { panic!() };
        assert_eq!(gap.sessions(), 3);
        assert!(doorbell.take(now).is_none());
    }

    /// It is the only wake-up while the listening session is lost.
    #[test]
    fn a_nudge_of_the_same_process_wakes_also_during_an_outage() {
        let now = Instant::now();
        let mut doorbell = doorbell(now);
        doorbell.hold();
        doorbell.ring("held");
        doorbell.nudge("a");
        let Some(Wake::Notified { count: 1, keys }) = doorbell.take(now) else { panic!() };
        assert_eq!(keys, set(["a"]));
        doorbell.nudge("b");
        doorbell.discard_held();
        let Some(Wake::Notified { count: 1, keys }) = doorbell.take(now) else { panic!() };
        assert_eq!(keys, set(["b"]));
        assert_eq!((doorbell.counts.nudges, doorbell.counts.notifications), (2, 1));
    }

    #[test]
    fn what_a_session_held_back_that_is_not_used_wakes_nothing() {
        let now = Instant::now();
        let mut doorbell = doorbell(now);
        doorbell.hold();
        doorbell.ring("a");
        doorbell.discard_held();
        assert!(doorbell.take(now).is_none());
        doorbell.ring("b");
        let Some(Wake::Notified { count: 1, keys }) = doorbell.take(now) else { panic!() };
        assert_eq!(keys, set(["b"]));
    }

    #[derive(Debug, Clone)]
    enum Step {
        Ring(u16),
        /// So many different keys.
        RingMany(usize),
        Hold,
        Release {
            has_gap: bool,
        },
        DiscardHeld,
        Found(usize),
        Advance(u64),
        Take,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (0..2_000_u16).prop_map(Step::Ring),
            1 => (0..700_usize).prop_map(Step::RingMany),
            1 => Just(Step::Hold),
            1 => any::<bool>().prop_map(|has_gap| Step::Release { has_gap }),
            1 => prop_oneof![3 => Just(Step::Take), 1 => Just(Step::DiscardHeld)],
            1 => (0..200_usize).prop_map(Step::Found),
            2 => (0..15_u64).prop_map(Step::Advance),
            3 => Just(Step::Take),
        ]
    }

    proptest! {
        /// A worker that does what the wake-ups say misses nothing, sees nothing before the loss that precedes it, and is never polled
        /// later than the interval.
        #[test]
        fn what_was_rung_is_read(steps in prop::collection::vec(step(), 0..400)) {
            let mut now = Instant::now();
            let mut doorbell = doorbell(now);
            let (mut shown, mut held) = (BTreeSet::new(), BTreeSet::new());
            let (mut is_held, mut has_gap, mut again) = (false, false, false);
            let (mut rung, mut shown_count, mut held_count) = (0, 0, 0);
            let mut last_full = now;
            for step in steps {
                match step {
                    Step::Ring(_) | Step::RingMany(_) => {
                        let keys = match step {
                            Step::Ring(key) => vec![key.to_string()],
                            Step::RingMany(count) => (0..count).map(|key| format!("k{key}")).collect(),
                            _ => Vec::new(),
                        };
                        let count = if is_held { &mut held_count } else { &mut shown_count };
                        *count += keys.len() as u64;
                        rung += keys.len() as u64;
                        keys.iter().for_each(|key| doorbell.ring(key));
                        (if is_held { &mut held } else { &mut shown }).extend(keys);
                    }
                    Step::DiscardHeld => {
                        doorbell.discard_held();
                        held.clear();
                        (is_held, held_count) = (false, 0);
                    }
                    Step::Hold => {
                        doorbell.hold();
                        is_held = true;
                    }
                    Step::Release { has_gap: with_gap } => {
                        if with_gap {
                            doorbell.add_gap(gap(1));
                        }
                        doorbell.release();
                        (is_held, has_gap) = (false, has_gap || with_gap);
                        shown.append(&mut held);
                        shown_count += mem::take(&mut held_count);
                    }
                    Step::Found(count) => again |= doorbell.found(count),
                    Step::Advance(seconds) => now += Duration::from_secs(seconds),
                    Step::Take => {
                        let is_due = now >= last_full + INTERVAL;
                        let Some(wake) = doorbell.take(now) else {
                            prop_assert!(shown.is_empty() && !has_gap && !again && !is_due);
                            continue;
                        };
                        prop_assert_eq!(matches!(wake, Wake::Resync(_)), has_gap);
                        let reads_all = has_gap || again || is_due || shown.len() > KEYS_MAX;
                        match wake.keys() {
                            Some(keys) => {
                                prop_assert!(!reads_all);
                                prop_assert_eq!(keys, &shown);
                            }
                            None => {
                                prop_assert!(reads_all);
                                last_full = now;
                            }
                        }
                        if let Wake::Notified { count, .. } = wake {
                            prop_assert_eq!(count, shown_count);
                        } else {
                            prop_assert!(has_gap || shown_count == 0);
                        }
                        shown.clear();
                        shown_count = 0;
                        (has_gap, again) = (false, false);
                    }
                }
            }
            prop_assert_eq!(doorbell.counts.notifications, rung);
        }
    }
}
