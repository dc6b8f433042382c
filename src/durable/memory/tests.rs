//! Tests of a log in memory.

#[cfg(feature = "testing")]
mod simulation;
