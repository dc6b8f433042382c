//! The buffers of the notification queue: a read from disk means that a listener is far behind.

use pgbell::Error;

use crate::doctor::client::Client;
use crate::doctor::finding::{Finding, Severity};
use crate::doctor::sql::Values as _;
use crate::numbers::counted;

const CHECK: &str = "slru";

/// What the server has counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::doctor) struct Slru {
    pub(in crate::doctor) reads: u64,
    pub(in crate::doctor) writes: u64,
}

impl Slru {
    pub(in crate::doctor) async fn read(client: &mut Client) -> Result<Self, Error> {
        // The name is `Notify` before 17.
        let sql = "SELECT blks_read, blks_written FROM pg_catalog.pg_stat_slru WHERE lower(name) = 'notify'";
        let rows = client.query(sql).await?;
        let row = rows.get(0);
        Ok(Self { reads: row.number(0).unwrap_or(0), writes: row.number(1).unwrap_or(0) })
    }

    /// Compares with what was counted when the program began.
    pub(in crate::doctor) fn check(self, begin: Self) -> Vec<Finding> {
        let now = self.reads.saturating_sub(begin.reads);
        let (severity, reads, since) = match (now, self.reads) {
            (0, 0) => (Severity::Ok, 0, ""),
            (0, total) => (Severity::Note, total, "since the statistics were reset"),
            (now, _) => (Severity::Warning, now, "while this program ran"),
        };
        let finding = match severity {
            Severity::Ok => {
                Finding::ok(CHECK, "no page of the notification queue was read from disk")
            }
            _ => {
                let pages = counted(
                    reads,
                    "page of the notification queue was",
                    "pages of the notification queue were",
                );
                Finding::new(CHECK, severity, format!("{pages} read from disk {since}"))
                    .because("a listener was so far behind that its notifications were not in memory any more")
                    .cure("see `readers` and `transactions`; from 17 on, a higher notify_buffers helps against short delays. SELECT pg_stat_reset_slru(NULL) sets the counts back")
            }
        };
        let (total, written) = (self.reads as f64, self.writes as f64);
        vec![finding.metric("slru_reads_total", total).metric("slru_writes_total", written)]
    }
}
