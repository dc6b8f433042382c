//! Sleeping and waking with one read of a flag that is rarely written.
//!
//! ```text
//! sleeper: store waker; sleeping := true; look again       waker: make visible; sleeping? wake
//! ```
//! All four accesses to the flag and to the position are sequentially consistent, so
//! one side sees the other. In the steady state neither side writes the flag, and its line stays in both caches.
//! The library uses read-modify-writes instead, which loom can model; it cannot model this.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Waker};

#[derive(Debug, Default)]
pub struct Doze {
    sleeping: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Doze {
    /// Marks the caller as asleep. The caller then checks again, by a `SeqCst` load, and returns `Pending`.
    pub fn prepare(&self, cx: &Context<'_>) {
        match self.waker.try_lock() {
            Ok(mut waker) => match &mut *waker {
                Some(known) => known.clone_from(cx.waker()),
                None => *waker = Some(cx.waker().clone()),
            },
            Err(_) => cx.waker().wake_by_ref(),
        }
        self.sleeping.store(true, Ordering::SeqCst);
    }

    pub fn cancel(&self) {
        self.sleeping.store(false, Ordering::Relaxed);
    }

    /// Must be called after a `SeqCst` store of the value that the sleeper checks.
    pub fn wake(&self) {
        if self.sleeping.load(Ordering::SeqCst) && self.sleeping.swap(false, Ordering::AcqRel) {
            let waker = match self.waker.try_lock() {
                Ok(mut waker) => waker.take(),
                Err(_) => None,
            };
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }
}
