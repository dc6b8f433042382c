//! [`ListenerMetrics`]: the counters and gauges of a listener or a hub, through the facade of the `metrics` crate.

use metrics::{Counter, Gauge, counter, gauge};

use super::stats::{COUNTER_METRICS, GAUGE_METRICS, Statistic, Stats};
use crate::proto::supervisor::LogEvent;

/// Counters and gauges, labelled with the name of the application. Listeners and hubs with the same name are summed.
pub(super) struct ListenerMetrics {
    counters: Vec<(Counter, Statistic)>,
    gauges: Vec<(Gauge, Statistic)>,
    connected: Gauge,
    is_connected: bool,
    last: Stats,
}

impl ListenerMetrics {
    pub(super) fn new(application: &str) -> Self {
        let label = || application.to_owned();
        Self {
            counters: COUNTER_METRICS
                .iter()
                .map(|(name, statistic)| (counter!(*name, "application" => label()), *statistic))
                .collect(),
            gauges: GAUGE_METRICS
                .iter()
                .map(|(name, statistic)| (gauge!(*name, "application" => label()), *statistic))
                .collect(),
            connected: gauge!("pgbell_connected", "application" => label()),
            is_connected: false,
            last: Stats::default(),
        }
    }

    /// Updates the gauge of connected listeners and hubs.
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
        for (counter, statistic) in &self.counters {
            let more = statistic(stats).saturating_sub(statistic(&self.last));
            if more > 0 {
                counter.increment(more);
            }
        }
        // Several listeners share a gauge: each adds its own difference.
        #[allow(clippy::cast_precision_loss, reason = "a gauge is a float")]
        let change = |now: u64, before: u64| now as f64 - before as f64;
        for (gauge, statistic) in &self.gauges {
            gauge.increment(change(statistic(stats), statistic(&self.last)));
        }
        self.last = *stats;
    }
}

impl Drop for ListenerMetrics {
    fn drop(&mut self) {
        self.set_connected(false);
        // The queue and the pins of a listener that has ended do not count.
        let stats = Stats { queued: 0, queued_bytes: 0, pinned_bytes: 0, ..self.last };
        self.update(&stats);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_metric_has_a_name_of_its_own() {
        let names = COUNTER_METRICS.iter().chain(GAUGE_METRICS).map(|(name, _)| *name);
        let distinct: BTreeSet<&str> = names.clone().collect();
        assert_eq!(distinct.len(), names.count());
        assert!(distinct.iter().all(|name| name.starts_with("pgbell_")), "{distinct:?}");
        assert!(COUNTER_METRICS.iter().all(|(name, _)| name.ends_with("_total")), "{distinct:?}");
    }
}
