//! [`ListenerMetrics`]: the counters and gauges of a listener, through the facade of the `metrics` crate.

use metrics::{Counter, Gauge, counter, gauge};

use super::stats::Stats;
use crate::supervisor::LogEvent;

/// Counters and gauges, labelled with the name of the application. Listeners with the same name are summed.
pub(super) struct ListenerMetrics {
    counters: [Counter; COUNTERS.len()],
    queued: Gauge,
    queued_bytes: Gauge,
    connected: Gauge,
    is_connected: bool,
    last: Stats,
}

type CounterValue = fn(&Stats) -> u64;

/// The name and the value of each counter. The documentation of the crate lists them.
const COUNTERS: [(&str, CounterValue); 17] = [
    ("pgbell_notifications_received_total", |stats| stats.received),
    ("pgbell_notifications_delivered_total", |stats| stats.delivered),
    ("pgbell_notifications_lagged_total", |stats| stats.lagged),
    ("pgbell_bytes_read_total", |stats| stats.bytes_read),
    ("pgbell_gaps_total", |stats| stats.gaps),
    ("pgbell_stalls_total", |stats| stats.stalls),
    ("pgbell_sessions_total", |stats| stats.sessions),
    ("pgbell_sessions_lost_total", |stats| stats.sessions_lost),
    ("pgbell_attempts_total", |stats| stats.attempts),
    ("pgbell_attempts_failed_total", |stats| stats.attempts_failed),
    ("pgbell_proofs_total", |stats| stats.proofs),
    ("pgbell_proofs_refused_total", |stats| stats.proofs_refused),
    ("pgbell_handovers_total", |stats| stats.handovers),
    ("pgbell_handover_failures_total", |stats| stats.handover_failures),
    ("pgbell_dropped_by_server_total", |stats| stats.dropped_by_server),
    ("pgbell_hooks_total", |stats| stats.hooks),
    ("pgbell_hook_failures_total", |stats| stats.hook_failures),
];

impl ListenerMetrics {
    pub(super) fn new(application: &str) -> Self {
        let label = || application.to_owned();
        Self {
            counters: COUNTERS.map(|(name, _)| counter!(name, "application" => label())),
            queued: gauge!("pgbell_queued_notifications", "application" => label()),
            queued_bytes: gauge!("pgbell_queued_bytes", "application" => label()),
            connected: gauge!("pgbell_connected", "application" => label()),
            is_connected: false,
            last: Stats::default(),
        }
    }

    /// Updates the gauge of connected listeners.
    pub(super) fn record(&mut self, event: &LogEvent) {
        match event {
            LogEvent::Established { .. } => self.set_connected(true),
            LogEvent::Lost { .. } => self.set_connected(false),
            _ => {}
        }
    }

    fn set_connected(&mut self, connected: bool) {
        let change = f64::from(u8::from(connected)) - f64::from(u8::from(self.is_connected));
        self.connected.increment(change);
        self.is_connected = connected;
    }

    /// Adds the changes since the last call. It is called at most once for each read.
    pub(super) fn update(&mut self, stats: &Stats) {
        for (counter, (_, value)) in self.counters.iter().zip(COUNTERS) {
            let more = value(stats).saturating_sub(value(&self.last));
            if more > 0 {
                counter.increment(more);
            }
        }
        // Several listeners share a gauge: each adds its own difference.
        #[allow(clippy::cast_precision_loss, reason = "a gauge is a float")]
        let change = |now: u64, before: u64| now as f64 - before as f64;
        self.queued.increment(change(stats.queued, self.last.queued));
        self.queued_bytes.increment(change(stats.queued_bytes, self.last.queued_bytes));
        self.last = *stats;
    }
}

impl Drop for ListenerMetrics {
    fn drop(&mut self) {
        self.set_connected(false);
        // The queue of a listener that has ended does not count.
        let stats = Stats { queued: 0, queued_bytes: 0, ..self.last };
        self.update(&stats);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_documented() {
        let documentation = include_str!("../lib.rs");
        let gauges = ["pgbell_queued_notifications", "pgbell_queued_bytes", "pgbell_connected"];
        for name in COUNTERS.iter().map(|(name, _)| *name).chain(gauges) {
            assert!(documentation.contains(&format!("`{name}`")), "{name}");
        }
        assert_eq!(documentation.matches("`pgbell_").count(), COUNTERS.len() + gauges.len() + 1);
    }
}
