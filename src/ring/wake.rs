//! Putting one side to sleep until the other side has something for it.
//!
//! ```text
//! sleeper: store waker; sleeping.swap(true); look again      waker: make visible; sleeping.swap(false)? wake
//! ```
//! Nothing but read-modify-writes ever touches the atomic, and they are ordered. Sleeper first: the waker
//! sees `true` and wakes. Waker first: the sleeper's swap acquires what was made visible before the
//! waker's swap, so its second look finds it. No wake-up is lost, and no stronger ordering than `AcqRel`
//! is needed. (Models: `ring::loom::sleep::a_sleeper_is_woken`, `ring::loom::sleep::a_sleeper_is_woken_every_time`.)

use std::task::{Context, Waker};

use super::sync::{AtomicBool, Ordering, TryMutex};

/// The place where one side leaves its waker before it sleeps.
#[derive(Debug)]
pub(super) struct WakeCell {
    sleeping: AtomicBool,
    /// Neither side waits for the other.
    waker: TryMutex<Option<Waker>>,
}

impl WakeCell {
    pub(super) fn new() -> Self {
        Self { sleeping: AtomicBool::new(false), waker: TryMutex::new(None) }
    }

    /// Leaves the waker of `cx` and declares the caller asleep. The caller must look once more
    /// for what it waits for, and only then return `Pending`.
    pub(super) fn prepare(&self, cx: &Context<'_>) {
        match self.waker.try_lock() {
            Ok(mut waker) => match &mut *waker {
                Some(known) => known.clone_from(cx.waker()),
                None => *waker = Some(cx.waker().clone()),
            },
            // The other side is taking our old waker out at this moment: be polled again.
            Err(_) => cx.waker().wake_by_ref(),
        }
        // AcqRel: acquires what the other side made visible before its own swap in `wake`,
        // releases the waker to it.
        self.sleeping.swap(true, Ordering::AcqRel);
    }

    /// Takes back [`WakeCell::prepare`] after the second look found something.
    pub(super) fn cancel(&self) {
        // Acquire, and a read-modify-write: between the two looks the other side may have made more
        // visible, found us awake, and woken nobody. A plain store would hide its swap from our next
        // one, and that one's look could miss what came before it. A wake that comes anyway is a
        // spurious one, and harmless.
        self.sleeping.swap(false, Ordering::Acquire);
    }

    /// Wakes the other side if it sleeps. Call after making visible what it waits for.
    pub(super) fn wake(&self) {
        // AcqRel: see `prepare`.
        if !self.sleeping.swap(false, Ordering::AcqRel) {
            return;
        }
        // A held lock means that the sleeper is in `prepare` again: it will look once more.
        let waker = match self.waker.try_lock() {
            Ok(mut waker) => waker.take(),
            Err(_) => None,
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}
