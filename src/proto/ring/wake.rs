//! [`WakeCell`]: the waker of a side that sleeps until the other side has changed something.
//!
//! ```text
//! sleeper: store waker; sleeping.swap(true); check again     waking side: publish; sleeping.swap(false)? wake
//! ```
//! The atomic is accessed only with read-modify-write operations, and these have one order. If the swap of the sleeper
//! comes first, the other side finds `true` and wakes. If the other side comes first, the swap of the sleeper acquires
//! what was published before, and the second check finds it. So no wake-up is lost, and `AcqRel` is strong enough.
//! (Models: `ring::loom::sleep::a_sleeper_is_woken`, `ring::loom::sleep::a_sleeper_is_woken_every_time`.)

use std::task::{Context, Waker};

use super::sync::{AtomicBool, Ordering, TryMutex};

/// The waker of one side, and whether that side sleeps.
#[derive(Debug)]
pub(super) struct WakeCell {
    sleeping: AtomicBool,
    /// Its lock is only tried: neither side waits for the other.
    waker: TryMutex<Option<Waker>>,
}

impl WakeCell {
    pub(super) fn new() -> Self {
        Self { sleeping: AtomicBool::new(false), waker: TryMutex::new(None) }
    }

    /// Stores the waker of `cx` and marks the caller as sleeping. The caller must then check its condition again, and
    /// may return `Pending` only after that.
    pub(super) fn prepare(&self, cx: &Context<'_>) {
        match self.waker.try_lock() {
            Ok(mut waker) => match &mut *waker {
                Some(known) => known.clone_from(cx.waker()),
                None => *waker = Some(cx.waker().clone()),
            },
            // The other side takes the old waker at this moment: poll again.
            Err(_) => cx.waker().wake_by_ref(),
        }
        // AcqRel: acquires what the other side published before its swap in `wake`, and releases the waker to it.
        self.sleeping.swap(true, Ordering::AcqRel);
    }

    /// Cancels [`WakeCell::prepare`], if the second check succeeded.
    pub(super) fn cancel(&self) {
        // Acquire, and a read-modify-write: between the two checks the other side may have published more, and not
        // woken this side, because it was awake. A plain store would hide that swap from the next swap of this side,
        // whose check could then miss what was published. A wake-up in spite of this call is spurious and harmless.
        self.sleeping.swap(false, Ordering::Acquire);
    }

    /// Drops the waker: the caller ends.
    pub(super) fn clear(&self) {
        self.sleeping.swap(false, Ordering::AcqRel);
        // If the lock fails, the other side takes the waker at this moment.
        let waker = match self.waker.try_lock() {
            Ok(mut waker) => waker.take(),
            Err(_) => None,
        };
        drop(waker);
    }

    /// Wakes the sleeping side, if it sleeps. Call this after the change that it waits for was published.
    pub(super) fn wake(&self) {
        // AcqRel: see `prepare`.
        if !self.sleeping.swap(false, Ordering::AcqRel) {
            return;
        }
        // If the lock fails, the sleeper is in `prepare` again, and checks its condition after that.
        let waker = match self.waker.try_lock() {
            Ok(mut waker) => waker.take(),
            Err(_) => None,
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}
