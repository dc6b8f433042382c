//! How much memory a listener takes, in bytes, that all of it is given back, and how much reading a long text takes.

mod bound;
mod consumer;
mod hostile;
mod meter;
mod notifier;
mod peer;
mod shrink;
mod texts;

use std::alloc::System;
use std::future::Future;
use std::sync::{Mutex, PoisonError};

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// The bytes belong to the whole process: one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// Runs a test on this thread, while no other one runs.
fn alone<T>(test: impl Future<Output = T>) -> T {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut builder = tokio::runtime::Builder::new_current_thread();
    // The test gets its turn after each one of the reader's, so that nothing is freed between two looks.
    builder.event_interval(1).enable_all().build().unwrap().block_on(test)
}
