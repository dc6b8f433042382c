//! The log events of nudges.
//!
//! A subscriber is code of the user: a panic in it is contained.

use crate::error::Error;
#[cfg(feature = "tracing")]
use crate::error::contain;

/// Keys are the application's data: the event has none.
#[cfg_attr(not(feature = "tracing"), allow(unused_variables, reason = "nothing is logged"))]
pub(super) fn nudge_dropped(error: &Error) {
    #[cfg(feature = "tracing")]
    let _ = contain(|| {
        let error = format_args!("{error:#}");
        tracing::warn!(error = %error, "a nudge was dropped; further ones are only counted");
    });
}

#[cfg_attr(not(feature = "tracing"), allow(unused_variables, reason = "nothing is logged"))]
pub(super) fn nudges_ended(cause: &Error) {
    #[cfg(feature = "tracing")]
    let _ = contain(|| {
        let error = format_args!("{cause:#}");
        tracing::warn!(error = %error, "the nudges have ended; further ones are dropped");
    });
}
