//! Tests of the hub without a server.

mod boxes;
#[cfg(feature = "testing")]
pub(crate) mod probe;
mod races;
mod refusals;
mod sink;
mod support;
