//! Tests of the hub without a server.

#[cfg(feature = "testing")]
pub(crate) mod probe;
