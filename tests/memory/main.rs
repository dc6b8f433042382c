//! The memory of a listener in bytes, that all of it is freed, and the memory for parsing a long text.

mod bound;
mod consumer;
mod hostile;
mod hub;
mod meter;
mod notifier;
mod peer;
mod shrink;
mod sleepers;
mod texts;
mod wakeups;

use std::alloc::System;
use std::future::Future;
use std::sync::{Mutex, PoisonError};

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// The counters are those of the whole process: one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// Runs a test on this thread, while no other test runs.
fn alone<T>(test: impl Future<Output = T>) -> T {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut builder = tokio::runtime::Builder::new_current_thread();
    // The test runs after each poll of the reader, so that no memory is freed unnoticed between two measurements.
    builder.event_interval(1).enable_all().build().unwrap().block_on(test)
}
