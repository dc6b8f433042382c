//! A log that is read by position: nothing that was committed is missed.

#[allow(
    dead_code,
    unused_imports,
    reason = "the cursor that reads a log in memory is not there yet"
)]
mod memory;
#[allow(dead_code, reason = "the cursor that reads positions is not there yet")]
mod position;
#[allow(dead_code, reason = "the cursor that reads positions is not there yet")]
mod snapshot;

pub use self::memory::{MemoryOutbox, MemoryTransaction};
