//! A mutex for the models, whose `try_lock` can fail.
//!
//! With the mutex of loom it never fails: loom switches to no other thread while the mutex is locked, and a thread that is
//! about to call `try_lock` waits until it is free. The mutex here is an atomic flag, as the mutexes of operating systems are,
//! so loom can switch to the other thread between the lock and the unlock.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, TryLockError, TryLockResult};

use loom::cell::Cell;
use loom::sync::atomic::{AtomicBool, Ordering};

pub(in crate::proto::ring) struct TryMutex<T> {
    locked: AtomicBool,
    /// Set at every lock: loom fails if one access does not happen before the next.
    access: Cell<()>,
    content: Mutex<T>,
}

impl<T> TryMutex<T> {
    pub(in crate::proto::ring) fn new(content: T) -> Self {
        Self { locked: AtomicBool::new(false), access: Cell::new(()), content: Mutex::new(content) }
    }

    pub(in crate::proto::ring) fn try_lock(&self) -> TryLockResult<TryMutexGuard<'_, T>> {
        match self.locked.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed) {
            Ok(_) => {
                self.access.set(());
                let content = self.content.try_lock().expect("the flag admits one thread");
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

pub(in crate::proto::ring) struct TryMutexGuard<'a, T> {
    lock: &'a TryMutex<T>,
    content: Option<MutexGuard<'a, T>>,
}

impl<T> Deref for TryMutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.content.as_ref().expect("locked until it is dropped")
    }
}

impl<T> DerefMut for TryMutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.content.as_mut().expect("locked until it is dropped")
    }
}

impl<T> Drop for TryMutexGuard<'_, T> {
    fn drop(&mut self) {
        self.content = None;
        self.lock.locked.store(false, Ordering::Release);
    }
}
