//! [`Stats`]: the statistics of a listener, and the [`Counters`] that they are read from.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::proto::supervisor::{SupervisorCounters, supervisor_counters};

/// Declares the statistics: the counters of the supervisor, which are listed there, and those below. The fields of [`Stats`], the
/// [`Counters`] and the metrics are made of these lists. A field without a metric has no `=`.
macro_rules! statistics {
    ($($supervisor:tt)+) => {
        declare! {
            supervisor { $($supervisor)+ }
            task {
                /// Notifications received from the server.
                received = "pgbell_notifications_received_total";
                /// Reads of the socket that returned data.
                reads;
                /// Bytes read from the socket.
                bytes_read = "pgbell_bytes_read_total";
                /// Attempts to reconnect that failed.
                attempts_failed = "pgbell_attempts_failed_total";
                /// Heartbeats that the server answered with an error: the session is alive, but it is unknown whether it
                /// listens to every channel. [`last_error`](crate::ListenerHandle::last_error) returns the error.
                heartbeats_refused = "pgbell_heartbeats_refused_total";
                /// Handovers that failed, each of which is tried again.
                /// [`last_error`](crate::ListenerHandle::last_error) returns the reason.
                handover_failures = "pgbell_handover_failures_total";
                /// Gaps without a lost session: the server reported a dropped notification, or a channel that it had refused
                /// is active since a [handover](crate::ListenerHandle::rotate), or the listener was closed during a handover
                /// before the old session had received the notifications that the new one had.
                dropped_by_server = "pgbell_dropped_by_server_total";
            }
            consumer {
                /// Notifications delivered to the consumer. The rest of `received` is queued, or lagged.
                delivered = "pgbell_notifications_delivered_total";
                /// Notifications that were dropped because the queue was full, and were reported to the consumer.
                lagged = "pgbell_notifications_lagged_total";
            }
            gauge {
                /// Notifications in the queue.
                queued = "pgbell_queued_notifications";
                /// Bytes of the notifications in the queue.
                queued_bytes = "pgbell_queued_bytes";
                /// Bytes of the receive buffers that are pinned by [shared batches](crate::SharedBatch) and
                /// [retained](crate::NotificationRef::retain) notifications: 256 KiB for each buffer, which counts once. At
                /// most [`pin_limit_bytes`](crate::ListenerBuilder::pin_limit_bytes).
                pinned_bytes = "pgbell_pinned_bytes";
            }
        }
    };
}

macro_rules! declare {
    (
        supervisor { $($(#[doc = $from_doc:literal])+ $from:ident = $from_metric:literal;)+ }
        task { $($(#[doc = $task_doc:literal])+ $task:ident $(= $task_metric:literal)?;)+ }
        consumer { $($(#[doc = $consumer_doc:literal])+ $consumer:ident = $consumer_metric:literal;)+ }
        gauge { $($(#[doc = $gauge_doc:literal])+ $gauge:ident = $gauge_metric:literal;)+ }
    ) => {
        /// The statistics of a listener at one moment.
        ///
        /// With the feature `metrics` they are also counters and gauges of the `metrics` crate, by the names below and with the
        /// label `application`: the `application_name` of the sessions. Listeners with the same name are summed. One more
        /// gauge, `pgbell_connected`, is the number of listeners that have a session which listens.
        ///
        /// # Example
        /// ```no_run
        /// # async fn example(listener: pgbell::Listener) {
        /// let stats = listener.stats();
        /// println!("{} delivered, {} gaps, {} in the queue", stats.delivered, stats.gaps, stats.queued);
        /// # }
        /// ```
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Stats {
            $(
                $(#[doc = $consumer_doc])+
                #[doc = concat!("\n\nMetric: `", $consumer_metric, "`.")]
                pub $consumer: u64,
            )+
            $(
                $(#[doc = $task_doc])+
                $(#[doc = concat!("\n\nMetric: `", $task_metric, "`.")])?
                pub $task: u64,
            )+
            $(
                $(#[doc = $gauge_doc])+
                #[doc = concat!("\n\nMetric: `", $gauge_metric, "`.")]
                pub $gauge: u64,
            )+
            $(
                $(#[doc = $from_doc])+
                #[doc = concat!("\n\nMetric: `", $from_metric, "`.")]
                pub $from: u64,
            )+
        }

        /// The counters of a listener. Each has one writer. Loads and stores are relaxed, except that of a counter of errors.
        #[derive(Debug, Default)]
        pub(super) struct Counters {
            /// Notifications put into the queue, and their bytes.
            pub(super) kept: AtomicU64,
            pub(super) kept_bytes: AtomicU64,
            $(pub(super) $task: AtomicU64,)+
            $($from: AtomicU64,)+
            pub(super) consumer: Arc<ConsumerCounters>,
        }

        /// The counters that the consumer writes, on cache lines of their own: it writes one of them for every notification.
        #[derive(Debug, Default)]
        #[repr(align(128))]
        pub(super) struct ConsumerCounters {
            /// Notifications taken from the queue, and their bytes.
            pub(super) taken: AtomicU64,
            pub(super) taken_bytes: AtomicU64,
            $(pub(super) $consumer: AtomicU64,)+
        }

        impl Counters {
            /// Copies the counters of the supervisor. Release: a user that loads a count also finds the error that was stored
            /// before.
            pub(super) fn set_from_supervisor(&self, from: &SupervisorCounters) {
                $(self.$from.store(from.$from, Ordering::Release);)+
            }

            /// Reads all counters. `pinned_bytes` are counted elsewhere.
            pub(super) fn stats(&self, pinned_bytes: u64) -> Stats {
                let get = |counter: &AtomicU64| counter.load(Ordering::Acquire);
                // In this order, those of the consumer first: see `RingSink::publish`.
                $(let $consumer = get(&self.consumer.$consumer);)+
                $(let $task = get(&self.$task);)+
                $(let $from = get(&self.$from);)+
                // The consumer may have counted a notification as taken that the task has not counted as kept yet.
                let difference = |kept, taken| get(kept).saturating_sub(get(taken));
                Stats {
                    $($consumer,)+
                    $($task,)+
                    $($from,)+
                    queued: difference(&self.kept, &self.consumer.taken),
                    queued_bytes: difference(&self.kept_bytes, &self.consumer.taken_bytes),
                    pinned_bytes,
                }
            }
        }

        /// Returns one of the statistics.
        #[cfg(feature = "metrics")]
        pub(super) type Statistic = fn(&Stats) -> u64;

        /// The name and the value of each counter that is a metric.
        #[cfg(feature = "metrics")]
        pub(super) const COUNTER_METRICS: &[(&str, Statistic)] = &[
            $(($consumer_metric, |stats| stats.$consumer),)+
            $($(($task_metric, |stats| stats.$task),)?)+
            $(($from_metric, |stats| stats.$from),)+
        ];

        /// The name and the value of each gauge.
        #[cfg(feature = "metrics")]
        pub(super) const GAUGE_METRICS: &[(&str, Statistic)] = &[$(($gauge_metric, |stats| stats.$gauge),)+];
    };
}

supervisor_counters!(statistics);

impl Counters {
    #[inline]
    pub(super) fn set(counter: &AtomicU64, value: u64) {
        counter.store(value, Ordering::Relaxed);
    }

    #[inline]
    pub(super) fn add(counter: &AtomicU64, more: u64) {
        // There is one writer: a load and a store are enough.
        counter.store(counter.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
    }
}
