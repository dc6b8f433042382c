//! The log events of wake-ups. The listener logs its sessions itself.
//!
//! A subscriber is code of the user: a panic in it is contained.

use std::time::Duration;

use super::listen::Listen;
use crate::error::Error;
#[cfg(feature = "tracing")]
use crate::error::contain;

#[cfg_attr(not(feature = "tracing"), allow(unused_variables, reason = "nothing is logged"))]
pub(super) fn configured(tasks: usize, channels: usize, listen: Listen) {
    #[cfg(feature = "tracing")]
    let _ = contain(|| {
        tracing::info!(tasks, channels, ?listen, "wake-ups configured");
        if listen == Listen::Disabled {
            tracing::info!("wake-ups poll only: listening is disabled");
        }
    });
}

#[cfg_attr(not(feature = "tracing"), allow(unused_variables, reason = "nothing is logged"))]
pub(super) fn polling(error: &Error, delay: Duration) {
    #[cfg(feature = "tracing")]
    let _ = contain(|| {
        let error = format_args!("{error:#}");
        tracing::warn!(error = %error, ?delay, "wake-ups poll only until the next attempt to listen");
    });
}

#[cfg_attr(not(feature = "tracing"), allow(unused_variables, reason = "nothing is logged"))]
pub(super) fn listening() {
    #[cfg(feature = "tracing")]
    let _ = contain(|| tracing::info!("wake-ups listen: notifications arrive"));
}
