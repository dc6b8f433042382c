//! [`Mailbox`]: the queue of one subscription.
//!
//! ```text
//!             taken                                 put
//! consumer ◀──────── run  loss  run  gap │ run  gap ◀──── sink
//!                    visible               held back
//! ```
//! A run is a shared block of notifications: all subscriptions of a channel or a topic get the same bytes. What is held back is
//! shown when the sink releases it, with each gap at its position. A mailbox that has nothing unread takes no memory for entries.
//!
//! Both sides lock it for the time of one entry. The sink never waits for a consumer that does not receive, and no code of the user
//! runs while it is locked.

use std::collections::VecDeque;
use std::mem;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use super::filter::Filter;
use crate::notification::{Gap, ReceiveInfo};
use crate::proto::ring::Taken;
use crate::proto::wire::{self, Run};
use crate::queue::{Chunk, Source};

/// The number of unread gaps that are kept apart. A later one is merged into the last one.
const GAPS_MAX: usize = 16;

/// The number of entries for which an empty mailbox keeps memory while its consumer sleeps: usually there is one when it wakes.
const IDLE_ENTRIES: usize = 1;

/// A part of a block that is shorter than this part of it is copied, so that it does not keep much more than itself.
const PART_DIVISOR: usize = 2;

/// The limits of a mailbox, and its policy.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// The highest number of unread notifications.
    pub(super) capacity: u64,
    /// The highest number of bytes of unread notifications.
    pub(super) bytes: u64,
    /// The oldest notifications are dropped, and not the newest.
    pub(super) drop_oldest: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self { capacity: 1_024, bytes: 1024 * 1024, drop_oldest: false }
    }
}

/// The queue of one subscription.
#[derive(Debug)]
pub(super) struct Mailbox {
    limits: Limits,
    pub(super) filter: Option<Box<Filter>>,
    /// It receives from several channels.
    pub(super) has_several_routes: bool,
    content: Mutex<Content>,
    /// Notifications delivered. Written only by the consumer.
    delivered: AtomicU64,
}

#[derive(Debug, Default)]
struct Content {
    /// Oldest first.
    entries: VecDeque<Entry>,
    /// The number of entries that the consumer can take. The others are held back.
    visible: usize,
    /// What follows is held back.
    is_held: bool,
    /// Unread notifications and their bytes.
    unread: u64,
    unread_bytes: u64,
    /// The sequence number of the next notification: the number of those that were put in or dropped.
    next: u64,
    dropped: u64,
    /// The dropped ones that were reported.
    lagged: u64,
    gaps: u64,
    is_closed: bool,
    /// The waker of the consumer, if it sleeps.
    waker: Option<Waker>,
}

#[derive(Debug)]
struct Entry {
    /// The position in the stream of the hub.
    at: u64,
    /// The number of the last hold before it.
    hold: u32,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Run(UnreadRun),
    /// Dropped notifications: the sequence number of the first, and their number.
    Lost(u64, u64),
    Gap(Arc<Gap>),
}

/// Notifications that are consecutive in this mailbox.
#[derive(Debug)]
struct UnreadRun {
    frames: Bytes,
    count: usize,
    first: u64,
    info: ReceiveInfo,
    /// The size of the block that the frames keep in memory.
    block_bytes: usize,
}

/// Where a run is in the stream of the hub.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// The position of its first notification.
    pub(super) at: u64,
    /// Everything is held back.
    pub(super) is_held: bool,
    /// The number of the last hold. A gap may be put between two entries with different numbers, if they are held back.
    pub(super) hold: u32,
}

impl Place {
    /// Returns the place behind the first `count` notifications.
    pub(super) fn behind(self, count: usize) -> Self {
        Self { at: self.at + count as u64, ..self }
    }
}

/// The statistics of a subscription at one moment.
///
/// ```no_run
/// # fn example(subscription: &pgbell::Subscription) {
/// let stats = subscription.stats();
/// println!("{} of {} delivered, {} dropped", stats.delivered, stats.received, stats.dropped);
/// # }
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SubscriptionStats {
    /// Notifications for this subscription, with those that were dropped.
    pub received: u64,
    /// Notifications delivered.
    pub delivered: u64,
    /// Notifications that were dropped because the queue was full, or because the hub ended while it held them back.
    pub dropped: u64,
    /// Those of the dropped ones that were reported as [`Lagged`](crate::Lagged). The rest is reported when it is received. What is
    /// dropped because the hub has ended is not reported.
    pub lagged: u64,
    /// Gaps put into the queue.
    pub gaps: u64,
    /// Notifications in the queue.
    pub queued: u64,
    /// Bytes of the notifications in the queue.
    pub queued_bytes: u64,
}

impl Mailbox {
    pub(super) fn new(
        limits: Limits,
        filter: Option<Box<Filter>>,
        has_several_routes: bool,
    ) -> Self {
        let (content, delivered) = (Mutex::default(), AtomicU64::new(0));
        Self { limits, filter, has_several_routes, content, delivered }
    }

    fn lock(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // ---- the sink ----

    /// Puts a run into the mailbox. What has no room is dropped by the policy. Returns the number of dropped notifications, and
    /// the waker of a consumer that sleeps.
    pub(super) fn put(
        &self,
        frames: Bytes,
        run: Run,
        info: ReceiveInfo,
        place: Place,
    ) -> (u64, Option<Waker>) {
        let mut content = self.lock();
        let before = content.dropped;
        match self.limits.drop_oldest {
            true => {
                let block_bytes = frames.len();
                content.push((frames, block_bytes), run, info, place);
                content.trim(&self.limits);
            }
            false => {
                let room = |limit: u64, used: u64| {
                    usize::try_from(limit.saturating_sub(used)).unwrap_or(usize::MAX)
                };
                let count = room(self.limits.capacity, content.unread);
                let bytes = room(self.limits.bytes, content.unread_bytes);
                let mut fits = run;
                if fits.count > count {
                    fits = Run::first(count, &frames);
                }
                if fits.bytes > bytes {
                    fits = Run::within(bytes, &frames);
                }
                if fits.count > 0 {
                    let block_bytes = frames.len();
                    let (part, block_bytes) = match fits.bytes == block_bytes {
                        true => (frames, block_bytes),
                        false => part(&frames, 0..fits.bytes, block_bytes),
                    };
                    content.push((part, block_bytes), fits, info, place);
                }
                content.drop_newest((run.count - fits.count) as u64, place);
            }
        }
        let waker = if content.visible > 0 { content.waker.take() } else { None };
        (content.dropped - before, waker)
    }

    /// Holds back what follows.
    pub(super) fn hold(&self) {
        self.lock().is_held = true;
    }

    /// Puts a gap at this position of the stream of the hub, and after what the consumer can take already. The consumer can take it
    /// after [`release`](Self::release).
    pub(super) fn mark(&self, position: u64, gap: &Arc<Gap>) {
        self.lock().mark(position, gap);
    }

    /// Puts a gap behind everything. The consumer can take it at once, unless something is held back: `is_held` says whether that is true
    /// for all mailboxes. Returns the waker of a consumer that sleeps.
    pub(super) fn mark_here(&self, gap: &Arc<Gap>, is_held: bool) -> Option<Waker> {
        let mut content = self.lock();
        content.mark_here(gap);
        if is_held || content.is_held {
            return None;
        }
        content.visible = content.entries.len();
        content.waker.take()
    }

    /// Shows everything. Returns the waker of a consumer that sleeps.
    pub(super) fn release(&self) -> Option<Waker> {
        let mut content = self.lock();
        content.is_held = false;
        content.visible = content.entries.len();
        if content.visible > 0 { content.waker.take() } else { None }
    }

    /// Ends the stream. What is held back is dropped. Returns the number of dropped notifications, and the waker of a consumer that sleeps.
    pub(super) fn close(&self) -> (u64, Option<Waker>) {
        let mut content = self.lock();
        content.is_closed = true;
        (content.drop_hidden(), content.waker.take())
    }

    // ---- the consumer ----

    /// Frees what is unread: the consumer is gone.
    pub(super) fn clear(&self) {
        let mut content = self.lock();
        let (entries, waker) = (mem::take(&mut content.entries), content.waker.take());
        (content.visible, content.unread, content.unread_bytes) = (0, 0, 0);
        drop(content);
        drop((entries, waker));
    }

    pub(super) fn stats(&self) -> SubscriptionStats {
        let content = self.lock();
        SubscriptionStats {
            received: content.next,
            delivered: self.delivered.load(Ordering::Relaxed),
            dropped: content.dropped,
            lagged: content.lagged,
            gaps: content.gaps,
            queued: content.unread,
            queued_bytes: content.unread_bytes,
        }
    }
}

impl Content {
    /// Adds an entry at the end.
    fn add(&mut self, kind: Kind, place: Place) {
        let is_held = self.is_held || place.is_held;
        if self.entries.capacity() == 0 {
            self.entries.reserve_exact(IDLE_ENTRIES);
        }
        self.entries.push_back(Entry { at: place.at, hold: place.hold, kind });
        if !is_held {
            self.visible = self.entries.len();
        }
    }

    /// Adds a run: its frames, and the size of their block.
    fn push(
        &mut self,
        (frames, block_bytes): (Bytes, usize),
        run: Run,
        info: ReceiveInfo,
        place: Place,
    ) {
        self.unread += run.count as u64;
        self.unread_bytes += run.bytes as u64;
        let first = self.next;
        self.next += run.count as u64;
        self.add(
            Kind::Run(UnreadRun { frames, count: run.count, first, info, block_bytes }),
            place,
        );
    }

    /// Counts notifications as dropped, at the end.
    fn drop_newest(&mut self, count: u64, place: Place) {
        if count == 0 {
            return;
        }
        let first = self.next;
        self.next += count;
        self.dropped += count;
        let is_held = self.is_held || place.is_held;
        // If nothing is held back, every entry is visible.
        let last_is_hidden = self.entries.len() > self.visible;
        match self.entries.back_mut() {
            Some(Entry { kind: Kind::Lost(_, lost), hold, .. })
                if !is_held || last_is_hidden && *hold == place.hold =>
            {
                *lost += count;
            }
            _ => self.add(Kind::Lost(first, count), place),
        }
    }

    /// Drops the oldest notifications until the limits hold.
    fn trim(&mut self, limits: &Limits) {
        while self.unread > limits.capacity || self.unread_bytes > limits.bytes {
            let is_run = |entry: &Entry| matches!(entry.kind, Kind::Run(_));
            let Some(at) = self.entries.iter().position(is_run) else { return };
            let Some(Entry { kind: Kind::Run(run), .. }) = self.entries.get_mut(at) else { return };
            let count = self.unread.saturating_sub(limits.capacity);
            let bytes = self.unread_bytes.saturating_sub(limits.bytes);
            let cut = front(&run.frames, count, bytes);
            let (first, lost) = (run.first, cut.count as u64);
            self.unread -= lost;
            self.unread_bytes -= cut.bytes as u64;
            self.dropped += lost;
            let is_whole = cut.count >= run.count;
            if !is_whole {
                run.count -= cut.count;
                run.first += lost;
                let rest = cut.bytes..run.frames.len();
                (run.frames, run.block_bytes) = part(&run.frames, rest, run.block_bytes);
            }
            self.lose(at, first, lost, is_whole);
        }
    }

    /// Puts the loss of the first `lost` notifications of the run at `at` in the place of the run, if it is whole, or before it.
    fn lose(&mut self, at: usize, first: u64, lost: u64, is_whole: bool) {
        let Some(entry) = self.entries.get_mut(at) else { return };
        let (position, hold) = (entry.at, entry.hold);
        if is_whole {
            entry.kind = Kind::Lost(first, lost);
        } else {
            let loss = Entry { at: position, hold, kind: Kind::Lost(first, lost) };
            self.visible += usize::from(at < self.visible);
            self.entries.insert(at, loss);
        }
        self.merge_losses(at);
        if let Some(before) = at.checked_sub(1) {
            self.merge_losses(before);
        }
    }

    /// Merges the entry behind `at` into the one at `at`, if both are losses and no gap can be put between them later.
    fn merge_losses(&mut self, at: usize) {
        let next = at + 1;
        let (Some(here), Some(behind)) = (self.entries.get(at), self.entries.get(next)) else {
            return;
        };
        let is_hidden = next >= self.visible;
        if is_hidden && (at < self.visible || here.hold != behind.hold) {
            return;
        }
        let (Kind::Lost(first, count), Kind::Lost(_, more)) = (&here.kind, &behind.kind) else {
            return;
        };
        let merged = Kind::Lost(*first, count + more);
        self.entries.remove(next);
        self.visible -= usize::from(!is_hidden);
        if let Some(here) = self.entries.get_mut(at) {
            here.kind = merged;
        }
    }

    /// Puts a gap behind everything.
    fn mark_here(&mut self, gap: &Arc<Gap>) {
        // What follows has the same position or a later one, and so has a gap that is put there later.
        let position = self.entries.back().map_or(0, |last| last.at);
        self.insert_gap(self.entries.len(), position, gap);
    }

    fn mark(&mut self, position: u64, gap: &Arc<Gap>) {
        let held = self.entries.iter().skip(self.visible);
        let is_before = |entry: &&Entry| {
            entry.at < position || entry.at == position && matches!(entry.kind, Kind::Gap(_))
        };
        let at = self.visible + held.take_while(is_before).count();
        self.insert_gap(at, position, gap);
    }

    /// Inserts a gap, or merges it into the one before it.
    fn insert_gap(&mut self, at: usize, position: u64, gap: &Arc<Gap>) {
        self.gaps += 1;
        let before = self.entries.iter_mut().take(at);
        let mut unread = before.rev().filter_map(|entry| match &mut entry.kind {
            Kind::Gap(unread) => Some(unread),
            Kind::Run(_) | Kind::Lost(..) => None,
        });
        let last = unread.next();
        let is_full = unread.count() + 1 >= GAPS_MAX;
        if let Some(last) = last.filter(|_| is_full) {
            return Arc::make_mut(last).absorb(Gap::clone(gap));
        }
        match at.checked_sub(1).and_then(|before| self.entries.get_mut(before)) {
            Some(Entry { kind: Kind::Gap(last), .. }) => Arc::make_mut(last).merge(Gap::clone(gap)),
            _ => {
                let kind = Kind::Gap(gap.clone());
                self.entries.insert(at, Entry { at: position, hold: u32::MAX, kind });
            }
        }
    }

    /// Drops what is held back. Returns the number of notifications.
    fn drop_hidden(&mut self) -> u64 {
        let (mut count, mut bytes) = (0, 0);
        for hidden in self.entries.drain(self.visible..) {
            if let Kind::Run(run) = hidden.kind {
                count += run.count as u64;
                bytes += run.frames.len() as u64;
            }
        }
        self.unread -= count;
        self.unread_bytes -= bytes;
        self.dropped += count;
        count
    }

    fn take(&mut self) -> Taken<Chunk, Gap> {
        let next = match self.visible {
            0 => None,
            _ => self.entries.pop_front(),
        };
        let Some(entry) = next else {
            // The consumer will wait: an idle subscription takes no memory for entries.
            if self.entries.is_empty() && self.entries.capacity() > IDLE_ENTRIES {
                self.entries = VecDeque::new();
            }
            return if self.is_closed { Taken::Closed } else { Taken::Empty };
        };
        self.visible -= 1;
        match entry.kind {
            Kind::Run(UnreadRun { frames, count, first, info, .. }) => {
                self.unread -= count as u64;
                self.unread_bytes -= frames.len() as u64;
                Taken::Item { value: Chunk::shared(frames, count, info), first, skip: 0 }
            }
            Kind::Lost(first, count) => {
                self.lagged += count;
                Taken::Lost { first, count }
            }
            Kind::Gap(gap) => Taken::Mark(Arc::unwrap_or_clone(gap)),
        }
    }
}

/// Returns a part of frames whose block has `block_bytes`, and the size of the block of that part: it is shared, or copied if it is a
/// small part of the block.
fn part(frames: &Bytes, range: Range<usize>, block_bytes: usize) -> (Bytes, usize) {
    let length = range.len();
    match length < block_bytes / PART_DIVISOR {
        true => (Bytes::copy_from_slice(frames.get(range).unwrap_or_default()), length),
        false => (frames.slice(range), block_bytes),
    }
}

/// Returns the first frames that have at least this number and these bytes, or all.
fn front(frames: &[u8], count: u64, bytes: u64) -> Run {
    let mut run = Run::default();
    while (run.count as u64) < count || (run.bytes as u64) < bytes {
        let Some((_, length)) = frames.get(run.bytes..).and_then(wire::first) else { break };
        run = Run { count: run.count + 1, bytes: run.bytes + length };
    }
    run
}

/// The consuming end of a mailbox.
#[derive(Debug)]
pub(super) struct MailboxSource {
    pub(super) mailbox: Arc<Mailbox>,
    /// The sequence number of the next notification.
    next: u64,
}

impl MailboxSource {
    pub(super) fn new(mailbox: Arc<Mailbox>) -> Self {
        Self { mailbox, next: 0 }
    }

    fn took(&mut self, taken: &Taken<Chunk, Gap>) {
        match taken {
            Taken::Item { value, first, .. } => self.next = first + value.count() as u64,
            Taken::Lost { first, count } => self.next = first + count,
            Taken::Mark(_) | Taken::Empty | Taken::Closed => {}
        }
    }
}

impl Source for MailboxSource {
    fn try_take(&mut self) -> Taken<Chunk, Gap> {
        let taken = self.mailbox.lock().take();
        self.took(&taken);
        taken
    }

    fn poll_take(&mut self, cx: &mut Context<'_>) -> Poll<Taken<Chunk, Gap>> {
        // The clone and the drop of a waker are code of the user, and may use the hub: the mailbox is not locked then.
        let mut fresh: Option<Waker> = None;
        loop {
            let mut content = self.mailbox.lock();
            let taken = content.take();
            if !matches!(taken, Taken::Empty) {
                drop(content);
                self.took(&taken);
                return Poll::Ready(taken);
            }
            if content.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                return Poll::Pending;
            }
            match fresh.take() {
                Some(waker) => {
                    let last = content.waker.replace(waker);
                    drop(content);
                    drop(last);
                    return Poll::Pending;
                }
                None => {
                    drop(content);
                    fresh = Some(cx.waker().clone());
                }
            }
        }
    }

    fn sequence(&self) -> u64 {
        self.next
    }

    #[inline(always)]
    fn count_delivered(&self, count: u64) {
        let delivered = &self.mailbox.delivered;
        // The consumer is its only writer.
        delivered.store(delivered.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
    }
}

#[cfg(test)]
impl Mailbox {
    /// Returns the number of entries for which it has memory.
    pub(super) fn entry_capacity(&self) -> usize {
        self.lock().entries.capacity()
    }

    pub(super) fn is_unlocked(&self) -> bool {
        self.content.try_lock().is_ok()
    }

    /// Returns what is wrong with the content: the limits hold, and the counts are those of the entries.
    pub(super) fn wrong(&self) -> Option<&'static str> {
        let content = self.lock();
        let (mut count, mut bytes, mut gaps, mut losses) = (0, 0, 0, 0);
        for entry in &content.entries {
            match &entry.kind {
                Kind::Run(run) => {
                    count += run.count as u64;
                    bytes += run.frames.len() as u64;
                }
                Kind::Lost(..) => losses += 1,
                Kind::Gap(_) => gaps += 1,
            }
        }
        let wrong =
            if content.unread > self.limits.capacity || content.unread_bytes > self.limits.bytes {
                "has more unread than its limits"
            } else if (count, bytes) != (content.unread, content.unread_bytes) {
                "has other entries than it counts"
            } else if gaps > GAPS_MAX {
                "has too many gaps"
            } else if losses > 2 * usize::try_from(content.unread).unwrap() + 2 * GAPS_MAX + 70 {
                "has too many losses"
            } else if content.visible > content.entries.len() {
                "shows more entries than it has"
            } else {
                return None;
            };
        Some(wrong)
    }
}
