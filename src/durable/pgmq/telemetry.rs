//! The log events of a consumer. Its sessions log themselves.
//!
//! A subscriber is code of the user: a panic in it is contained. Messages are data of the application, and are not logged; the reason of a failure is.

use std::time::Duration;

use super::stats::ConsumerStats;
use crate::error::Error;
#[cfg(feature = "tracing")]
use crate::error::contain;

#[cfg_attr(not(feature = "tracing"), allow(unused_variables, reason = "nothing is logged"))]
pub(super) fn started(queue: &str) {
    #[cfg(feature = "tracing")]
    let _ = contain(|| tracing::info!(queue, "consumer started"));
}

#[cfg_attr(not(feature = "tracing"), allow(unused_variables, reason = "nothing is logged"))]
pub(super) fn not_notified(queue: &str, has_trigger: bool) {
    #[cfg(feature = "tracing")]
    let _ = contain(|| {
        if has_trigger {
            let why = "the table of the throttles has no row for it, for example after a crash of the server";
            tracing::warn!(
                queue,
                why,
                "pgmq sends no notifications of inserts until they are enabled again"
            );
        } else {
            // The producers may send a nudge.
            tracing::info!(queue, "pgmq sends no notifications of inserts: they are not enabled");
        }
    });
}

#[cfg_attr(not(feature = "tracing"), allow(unused_variables, reason = "nothing is logged"))]
pub(super) fn failed(queue: &str, msg_id: i64, reason: &str) {
    #[cfg(feature = "tracing")]
    let _ = contain(|| tracing::debug!(queue, msg_id, reason, "an attempt of a job failed"));
}

#[cfg_attr(not(feature = "tracing"), allow(unused_variables, reason = "nothing is logged"))]
pub(super) fn dead(queue: &str, msg_id: i64, attempts: u32, reason: &str) {
    #[cfg(feature = "tracing")]
    let _ = contain(|| {
        tracing::warn!(
            queue,
            msg_id,
            attempts,
            reason,
            "a job was put aside after its last attempt"
        );
    });
}

#[cfg_attr(not(feature = "tracing"), allow(unused_variables, reason = "nothing is logged"))]
pub(super) fn overtaken(queue: &str, msg_id: i64) {
    #[cfg(feature = "tracing")]
    let _ = contain(|| {
        tracing::warn!(queue, msg_id, "another reader has taken or removed a job of this consumer");
    });
}

#[cfg_attr(not(feature = "tracing"), allow(unused_variables, reason = "nothing is logged"))]
pub(super) fn refused(queue: &str, msg_id: i64, error: Option<&Error>) {
    #[cfg(feature = "tracing")]
    let _ = contain(|| {
        let error = error.map(|error| format!("{error:#}"));
        tracing::warn!(queue, msg_id, error, "the server refuses to store the end of a job");
    });
}

#[cfg_attr(not(feature = "tracing"), allow(unused_variables, reason = "nothing is logged"))]
pub(super) fn retrying(queue: &str, error: &Error, delay: Duration) {
    #[cfg(feature = "tracing")]
    let _ = contain(|| {
        let error = format_args!("{error:#}");
        tracing::warn!(queue, error = %error, ?delay, "a statement of a consumer failed, and is tried again");
    });
}

#[cfg_attr(not(feature = "tracing"), allow(unused_variables, reason = "nothing is logged"))]
pub(super) fn stopped(queue: &str, stats: &ConsumerStats, error: Option<&Error>) {
    #[cfg(feature = "tracing")]
    let _ = contain(|| {
        let ConsumerStats { finished, failures, dead, .. } = *stats;
        match error {
            None => tracing::info!(queue, finished, failures, dead, "consumer stopped"),
            Some(error) => {
                let error = format_args!("{error:#}");
                tracing::error!(queue, finished, failures, dead, error = %error, "consumer ended");
            }
        }
    });
}
