//! The log events of a cursor. Its sessions log themselves.
//!
//! A subscriber is code of the user: a panic in it is contained. Records are data of the application, and are not logged.

use std::time::Duration;

use super::cursor_wait::CursorWait;
use super::gap::LogGap;
use super::rotation::Rotation;
use crate::error::Error;
#[cfg(feature = "tracing")]
use crate::error::contain;

#[cfg_attr(not(feature = "tracing"), allow(unused_variables, reason = "nothing is logged"))]
pub(super) fn waiting(cursor: &str, reason: CursorWait) {
    #[cfg(feature = "tracing")]
    let _ = contain(|| {
        let reason = reason.to_string();
        tracing::info!(cursor, reason, "waiting for a cursor");
    });
}

#[cfg_attr(not(feature = "tracing"), allow(unused_variables, reason = "nothing is logged"))]
pub(super) fn opened(cursor: &str, token: i64) {
    #[cfg(feature = "tracing")]
    let _ = contain(|| tracing::info!(cursor, token, "cursor opened"));
}

#[cfg_attr(not(feature = "tracing"), allow(unused_variables, reason = "nothing is logged"))]
pub(super) fn rewound(cursor: &str) {
    #[cfg(feature = "tracing")]
    let _ = contain(|| {
        tracing::debug!(cursor, "the last batch was not acknowledged, and is received again");
    });
}

#[cfg_attr(not(feature = "tracing"), allow(unused_variables, reason = "nothing is logged"))]
pub(super) fn lost(cursor: &str, gap: LogGap) {
    #[cfg(feature = "tracing")]
    let _ = contain(|| {
        let LogGap { first, last, records } = gap;
        tracing::warn!(
            cursor,
            records,
            first,
            last,
            "records were removed unread by a limit of the log"
        );
    });
}

#[cfg_attr(not(feature = "tracing"), allow(unused_variables, reason = "nothing is logged"))]
pub(super) fn fenced(cursor: &str) {
    #[cfg(feature = "tracing")]
    let _ = contain(|| tracing::warn!(cursor, "another reader has taken over the cursor"));
}

#[cfg_attr(not(feature = "tracing"), allow(unused_variables, reason = "nothing is logged"))]
pub(super) fn retrying(cursor: &str, error: &Error, delay: Duration) {
    #[cfg(feature = "tracing")]
    let _ = contain(|| {
        let error = format_args!("{error:#}");
        tracing::warn!(cursor, error = %error, ?delay, "a call of the log failed, and is made again");
    });
}

#[cfg_attr(not(feature = "tracing"), allow(unused_variables, reason = "nothing is logged"))]
pub(super) fn rotated(cursor: &str, rotation: &Rotation) {
    #[cfg(feature = "tracing")]
    let _ = contain(|| {
        let Rotation { truncated, lost, advanced, waits_for, is_empty: _ } = rotation;
        let waits_for = waits_for.as_deref();
        tracing::debug!(cursor, truncated, lost, advanced, waits_for, "log rotated");
    });
}

#[cfg_attr(not(feature = "tracing"), allow(unused_variables, reason = "nothing is logged"))]
pub(super) fn not_rotated(cursor: &str, error: &Error) {
    #[cfg(feature = "tracing")]
    let _ = contain(|| {
        let error = format_args!("{error:#}");
        tracing::warn!(cursor, error = %error, "the log was not rotated");
    });
}
