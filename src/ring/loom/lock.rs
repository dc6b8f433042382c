//! A mutex that is only tried, so that the models meet it locked.
//!
//! loom's own does not show that: between taking and leaving it nothing is interleaved, and whoever is about to
//! try it while it is held is made to wait. This one is a flag, as the system's are, with a place on either side
//! of what is done behind it where the other side may come.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, TryLockError, TryLockResult};

use loom::cell::Cell;
use loom::sync::atomic::{AtomicBool, Ordering};

pub(in crate::ring) struct TryMutex<T> {
    locked: AtomicBool,
    /// Written by everybody who comes in: loom fails where one does not happen before the next.
    access: Cell<()>,
    content: Mutex<T>,
}

impl<T> TryMutex<T> {
    pub(in crate::ring) fn new(content: T) -> Self {
        Self { locked: AtomicBool::new(false), access: Cell::new(()), content: Mutex::new(content) }
    }

    pub(in crate::ring) fn try_lock(&self) -> TryLockResult<TryMutexGuard<'_, T>> {
        match self.locked.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed) {
            Ok(_) => {
                self.access.set(());
                let content = self.content.try_lock().expect("the flag lets one in");
                Ok(TryMutexGuard { lock: self, content: Some(content) })
            }
            Err(_) => Err(TryLockError::WouldBlock),
        }
    }
}

impl<T> fmt::Debug for TryMutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TryMutex").finish_non_exhaustive()
    }
}

pub(in crate::ring) struct TryMutexGuard<'a, T> {
    lock: &'a TryMutex<T>,
    content: Option<MutexGuard<'a, T>>,
}

impl<T> Deref for TryMutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.content.as_ref().expect("held until the end")
    }
}

impl<T> DerefMut for TryMutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.content.as_mut().expect("held until the end")
    }
}

impl<T> Drop for TryMutexGuard<'_, T> {
    fn drop(&mut self) {
        self.content = None;
        self.lock.locked.store(false, Ordering::Release);
    }
}
