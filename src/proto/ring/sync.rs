//! Atomics and locks, of the standard library or of the loom model checker.

#[cfg(all(test, loom))]
pub(super) use super::loom::lock::{TryMutex, TryMutexGuard};
#[cfg(all(test, loom))]
pub(super) use loom::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};
#[cfg(not(all(test, loom)))]
pub(super) use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};
// A mutex that is tried, and never waited for: that of the models has no `lock`.
#[cfg(not(all(test, loom)))]
pub(super) use std::sync::{Mutex as TryMutex, MutexGuard as TryMutexGuard};

/// A value on cache lines of its own, so that stores of one side do not slow down loads of the other.
///
/// 128 bytes: x86-64 prefetches cache lines in pairs, and Apple processors have lines of this size.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Pad<T>(T);

impl<T> Pad<T> {
    pub(super) fn new(value: T) -> Self {
        Self(value)
    }
}

impl<T> std::ops::Deref for Pad<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}
