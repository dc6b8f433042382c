//! The counters of a supervisor.

/// Calls a macro with the counters of a supervisor: the documentation, the name, and the name of the metric of each one. They
/// are listed here only. [`SupervisorCounters`] is made of them, and the statistics of a listener contain them.
macro_rules! supervisor_counters {
    ($callback:ident) => {
        $callback! {
            /// Gaps put into the stream, when the next session listens to every channel, or at the end of the listener. Losses
            /// until then at one position of the stream are one gap. A consumer may receive fewer gaps: two unread gaps become
            /// one if no notification is between them, or if 64 gaps are unread.
            gaps = "pgbell_gaps_total";
            /// Times at which reading stopped because the queue was full.
            stalls = "pgbell_stalls_total";
            /// Reads that were delayed because data arrived densely: see [`read_delay`](crate::ListenerBuilder::read_delay).
            reads_delayed = "pgbell_reads_delayed_total";
            /// Sessions begun, the current one included.
            sessions = "pgbell_sessions_total";
            /// Sessions lost. Sessions that were closed or handed over do not count.
            sessions_lost = "pgbell_sessions_lost_total";
            /// Attempts to open a session, those for a handover included.
            attempts = "pgbell_attempts_total";
            /// Heartbeats sent.
            heartbeats = "pgbell_heartbeats_total";
            /// Handovers that succeeded: a new session replaced the old one without a gap.
            handovers = "pgbell_handovers_total";
            /// 1 after the listener has warned of more than 1,000 channels, which are slow on a server before version 19.
            channel_warnings = "pgbell_channel_warnings_total";
            /// Runs of the `on_live` hook.
            hooks = "pgbell_hooks_total";
            /// Runs of the hook that failed.
            hook_failures = "pgbell_hook_failures_total";
        }
    };
}

#[allow(unused_imports, reason = "only a listener uses it")]
pub(crate) use supervisor_counters;

macro_rules! declare {
    ($($(#[doc = $doc:literal])+ $name:ident = $metric:literal;)+) => {
        /// The counters of a supervisor.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct SupervisorCounters {
            /// Notifications received.
            pub received: u64,
            $($(#[doc = $doc])+ pub $name: u64,)+
        }
    };
}

supervisor_counters!(declare);
