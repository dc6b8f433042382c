//! The log events of a mirror. Its sessions log themselves.
//!
//! A subscriber is code of the user: a panic in it is contained. Rows are data of the application: only the key of one that was not decoded is
//! logged.

use std::time::Duration;

use crate::error::Error;
#[cfg(feature = "tracing")]
use crate::error::contain;

#[cfg_attr(not(feature = "tracing"), allow(unused_variables, reason = "nothing is logged"))]
pub(super) fn loaded(mirror: &str, rows: usize, time: Duration) {
    #[cfg(feature = "tracing")]
    let _ = contain(|| tracing::info!(mirror, rows, ?time, "mirror loaded"));
}

#[cfg_attr(not(feature = "tracing"), allow(unused_variables, reason = "nothing is logged"))]
pub(super) fn reloaded(mirror: &str, rows: usize, changes: usize, time: Duration) {
    #[cfg(feature = "tracing")]
    let _ = contain(|| tracing::debug!(mirror, rows, changes, ?time, "all rows were read again"));
}

#[cfg_attr(not(feature = "tracing"), allow(unused_variables, reason = "nothing is logged"))]
pub(super) fn undecodable(mirror: &str, error: &Error, rows: u64) {
    #[cfg(feature = "tracing")]
    let _ = contain(|| {
        let error = format_args!("{error:#}");
        tracing::warn!(mirror, rows, error = %error, "rows were left out because they were not decoded");
    });
}

#[cfg_attr(not(feature = "tracing"), allow(unused_variables, reason = "nothing is logged"))]
pub(super) fn invalid_keys(mirror: &str, error: &Error) {
    #[cfg(feature = "tracing")]
    let _ = contain(|| {
        let error = format_args!("{error:#}");
        tracing::warn!(mirror, error = %error, "a notification or a call names a key that is not valid: all rows are read");
    });
}

#[cfg_attr(not(feature = "tracing"), allow(unused_variables, reason = "nothing is logged"))]
pub(super) fn failed(mirror: &str, error: &Error, delay: Duration) {
    #[cfg(feature = "tracing")]
    let _ = contain(|| {
        let error = format_args!("{error:#}");
        tracing::warn!(mirror, error = %error, ?delay, "a mirror is stale: its rows were not read");
    });
}

#[cfg_attr(not(feature = "tracing"), allow(unused_variables, reason = "nothing is logged"))]
pub(super) fn given_up(mirror: &str) {
    #[cfg(feature = "tracing")]
    let _ = contain(|| {
        tracing::info!(
            mirror,
            "a read was given up after a loss: all rows are read in a new session"
        );
    });
}

#[cfg_attr(not(feature = "tracing"), allow(unused_variables, reason = "nothing is logged"))]
pub(super) fn closed(mirror: &str) {
    #[cfg(feature = "tracing")]
    let _ = contain(|| tracing::info!(mirror, "mirror closed"));
}
