//! [`Stats`]: the statistics of a listener, and the [`Counters`] that they are read from.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::proto::supervisor::{SupervisorCounters, supervisor_counters};
use crate::queue::QueueCounters;

/// Declares the statistics: the counters of the supervisor, which are listed there, and those below. The fields of [`Stats`], the
/// [`Counters`] and the metrics are made of these lists. A field without a metric has no `=`.
macro_rules! statistics {
    ($($supervisor:tt)+) => {
        declare! {
            supervisor { $($supervisor)+ }
            task {
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
            }
            queue {
                /// Notifications received from the server.
                received = "pgbell_notifications_received_total";
                /// Notifications delivered to the consumer. The rest of `received` is queued, or dropped. Of a hub: notifications for
                /// its subscriptions, each counted once for every subscription that it is for.
                delivered = "pgbell_notifications_delivered_total";
                /// Notifications that were dropped because the queue was full. Of a hub: those that the queues of subscriptions have
                /// dropped, each counted once for every subscription that has lost it. They are in `delivered` too.
                dropped = "pgbell_notifications_dropped_total";
                /// Those of the dropped notifications that were reported to the consumer. The rest is reported when it receives. Of a
                /// hub: as `dropped`.
                lagged = "pgbell_notifications_lagged_total";
                /// Gaps without a lost session: the server reported a dropped notification, or a channel that it had refused
                /// is active since a [handover](crate::ListenerHandle::rotate), or the listener was closed during a handover
                /// before the old session had received the notifications that the new one had.
                dropped_by_server = "pgbell_dropped_by_server_total";
            }
            gauge {
                /// Notifications in the queue. Of a hub: 0, because only its subscriptions have queues.
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
        queue { $($(#[doc = $queue_doc:literal])+ $queue:ident = $queue_metric:literal;)+ }
        gauge { $($(#[doc = $gauge_doc:literal])+ $gauge:ident = $gauge_metric:literal;)+ }
    ) => {
        /// The statistics of a listener at one moment, or those of the connection of a hub: [`HubStats`](crate::HubStats).
        ///
        /// With the feature `metrics` they are also counters and gauges of the `metrics` crate, by the names below and with the
        /// label `application`: the `application_name` of the sessions. Listeners, hubs and [wake-ups](crate::Wakeups) with the same name are
        /// summed. One more gauge, `pgbell_connected`, is the number of those that have a session which listens.
        ///
        /// The counters `delivered`, `dropped` and `lagged` of a hub are sums over its subscriptions. To compare them with `received`, give
        /// the hub an `application_name` of its own.
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
                $(#[doc = $queue_doc])+
                #[doc = concat!("\n\nMetric: `", $queue_metric, "`.")]
                pub $queue: u64,
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

        /// The counters of a listener. Each has one writer. Loads are acquiring.
        #[derive(Debug, Default)]
        pub(super) struct Counters {
            $(pub(super) $task: AtomicU64,)+
            $($from: AtomicU64,)+
            pub(super) queue: Arc<QueueCounters>,
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
                // First, because it reads the counters of the consumer.
                let queue = self.queue.stats();
                $(let $task = get(&self.$task);)+
                $(let $from = get(&self.$from);)+
                Stats {
                    $($queue: queue.$queue,)+
                    $($task,)+
                    $($from,)+
                    queued: queue.queued,
                    queued_bytes: queue.queued_bytes,
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
            $(($queue_metric, |stats| stats.$queue),)+
            $($(($task_metric, |stats| stats.$task),)?)+
            $(($from_metric, |stats| stats.$from),)+
        ];

        /// The name and the value of each gauge.
        #[cfg(feature = "metrics")]
        pub(super) const GAUGE_METRICS: &[(&str, Statistic)] = &[$(($gauge_metric, |stats| stats.$gauge),)+];
    };
}

supervisor_counters!(statistics);
