//! One set of names for the atomics of the standard library and of the loom model checker.

#[cfg(all(test, loom))]
pub(super) use super::loom::lock::{TryMutex, TryMutexGuard};
#[cfg(all(test, loom))]
pub(super) use loom::sync::{
    Arc, Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicU64, Ordering},
};
#[cfg(not(all(test, loom)))]
pub(super) use std::sync::{
    Arc, Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicU64, Ordering},
};
/// A mutex that is only tried, never waited for.
#[cfg(not(all(test, loom)))]
pub(super) use std::sync::{Mutex as TryMutex, MutexGuard as TryMutexGuard};

/// A value alone on its cache lines, so that one side's writes do not evict what the other reads.
///
/// 128 bytes: x86-64 prefetches lines in pairs, and Apple's cores have lines of that size.
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
