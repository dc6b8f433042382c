//! The result of the demo, for people and as JSON.

use std::time::Duration;

use serde::Serialize;

use super::receiver::Received;
use super::writer::{Counted, Session};
use super::{BATCH, Plan};
use crate::numbers::{counted, grouped, per_second, rate, seconds};

/// The object that `--json` prints. Later versions keep these keys and may add others.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// `PostgreSQL 15.18` or `loopback`.
    server: String,
    /// The version that the server reports.
    server_version: Option<String>,
    pgbell_version: &'static str,
    sent: u64,
    received: u64,
    /// The count of the writer's table, or of the loopback backend. `null` if the rows of the table are not those
    /// that were written.
    committed: Option<u64>,
    lost: u64,
    duplicated: u64,
    out_of_order: u64,
    /// Notifications that arrived and were never sent.
    unexpected: u64,
    lagged: u64,
    gaps: u64,
    /// From the first send to the last receipt.
    seconds: f64,
    notifications_per_second: f64,
    latency_us: Latency,
    batches: Batches,
    /// The authentication method, with its name in `pg_hba.conf`.
    auth: Option<String>,
}

/// The time from before the send to after the receipt, of the notifications that were sent one by one.
#[derive(Debug, Serialize)]
struct Latency {
    p50: f64,
    p99: f64,
    max: f64,
    /// The number of these notifications.
    samples: u64,
}

/// The notifications that were sent many in one transaction.
#[derive(Debug, Serialize)]
struct Batches {
    notifications: u64,
    per_transaction: u64,
    seconds: f64,
    notifications_per_second: f64,
}

impl Report {
    pub(crate) fn new(
        server: String,
        session: Session,
        plan: &Plan,
        sent: &Counted,
        received: &Received,
    ) -> Self {
        let (time, batches_time) = sent.times(received.last);
        let (tally, latency) = (&received.tally, &received.latency);
        let in_batches = plan.count - plan.singles;
        let micros = |nanos: u64| rounded(Duration::from_nanos(nanos).as_secs_f64() * 1e6, 1);
        let batches_time = if in_batches == 0 { Duration::ZERO } else { batches_time };
        Self {
            server,
            server_version: session.version,
            pgbell_version: env!("CARGO_PKG_VERSION"),
            sent: plan.count,
            received: tally.received(),
            committed: sent.committed,
            lost: tally.lost(),
            duplicated: tally.duplicated(),
            out_of_order: tally.out_of_order(),
            unexpected: tally.unexpected(),
            lagged: received.lagged,
            gaps: received.gaps,
            seconds: rounded(time.as_secs_f64(), 6),
            notifications_per_second: rounded(per_second(tally.received(), time), 1),
            latency_us: Latency {
                p50: micros(latency.value_at_quantile(0.5)),
                p99: micros(latency.value_at_quantile(0.99)),
                max: micros(latency.max()),
                samples: latency.len(),
            },
            batches: Batches {
                notifications: in_batches,
                per_transaction: BATCH,
                seconds: rounded(batches_time.as_secs_f64(), 6),
                notifications_per_second: rounded(per_second(in_batches, batches_time), 1),
            },
            auth: session.auth.map(|method| method.to_string()),
        }
    }

    /// Returns whether everything that was sent arrived once and in order, by both counts.
    pub(crate) fn is_good(&self) -> bool {
        let defects = [
            self.lost,
            self.duplicated,
            self.out_of_order,
            self.unexpected,
            self.lagged,
            self.gaps,
        ];
        defects.iter().all(|count| *count == 0)
            && self.received == self.sent
            && self.committed == Some(self.sent)
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        let batches = &self.batches;
        let committed = self.committed.map_or("not the rows that were sent".to_owned(), grouped);
        let counter = if self.server == "loopback" {
            "counted by the backend"
        } else {
            "counted by the writer in a table of the database"
        };
        let mut lines = vec![
            format!(
                "sent       {}: {} one by one, then {} in transactions of {}",
                grouped(self.sent),
                grouped(self.sent - batches.notifications),
                grouped(batches.notifications),
                grouped(batches.per_transaction)
            ),
            format!("committed  {committed}, {counter}"),
            format!(
                "received   {}: {} lost, {} duplicated, {} out of order, {} lagged, {}",
                grouped(self.received),
                grouped(self.lost),
                grouped(self.duplicated),
                grouped(self.out_of_order),
                grouped(self.lagged),
                counted(self.gaps, "gap", "gaps")
            ),
            format!(
                "rate       {} in {}; {} in the transactions alone",
                rate(self.notifications_per_second),
                seconds(Duration::from_secs_f64(self.seconds)),
                rate(batches.notifications_per_second)
            ),
            format!(
                "latency    p50 {} µs, p99 {} µs, max {} µs, from send to receipt, of {} one by one",
                self.latency_us.p50,
                self.latency_us.p99,
                self.latency_us.max,
                grouped(self.latency_us.samples)
            ),
        ];
        if let Some(auth) = &self.auth {
            lines.push(format!("login      {auth}"));
        }
        if self.unexpected > 0 {
            lines.push(format!("unexpected {} that were never sent", grouped(self.unexpected)));
        }
        if self.is_good() {
            lines.push("result     every notification arrived once and in order".to_owned());
        }
        lines
    }
}

fn rounded(value: f64, decimals: i32) -> f64 {
    let scale = 10_f64.powi(decimals);
    (value * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        Report {
            server: "PostgreSQL 15.18".to_owned(),
            server_version: None,
            pgbell_version: "",
            sent: 10,
            received: 10,
            committed: Some(10),
            lost: 0,
            duplicated: 0,
            out_of_order: 0,
            unexpected: 0,
            lagged: 0,
            gaps: 0,
            seconds: 1.0,
            notifications_per_second: 10.0,
            latency_us: Latency { p50: 1.0, p99: 1.0, max: 1.0, samples: 2 },
            batches: Batches {
                notifications: 8,
                per_transaction: 4,
                seconds: 0.5,
                notifications_per_second: 16.0,
            },
            auth: None,
        }
    }

    #[test]
    fn any_defect_makes_it_bad() {
        assert!(report().is_good());
        let defects: [fn(&mut Report); 9] = [
            |report| report.lost = 1,
            |report| report.duplicated = 1,
            |report| report.out_of_order = 1,
            |report| report.unexpected = 1,
            |report| report.lagged = 1,
            |report| report.gaps = 1,
            |report| report.received = 9,
            |report| report.committed = Some(11),
            |report| report.committed = None,
        ];
        for (i, defect) in defects.into_iter().enumerate() {
            let mut report = report();
            defect(&mut report);
            assert!(!report.is_good(), "{i}");
            let lines = report.lines().join("\n");
            assert!(!lines.contains("every notification arrived"), "{i}: {lines}");
        }
    }
}
