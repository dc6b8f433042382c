//! [`Finding`]: what one check has found.

/// How bad a finding is. What is known to be wrong counts more than what is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Severity {
    Ok,
    /// Worth knowing, and no fault by itself.
    Note,
    /// The check could not be made.
    Unknown,
    Warning,
    Critical,
}

impl Severity {
    /// Returns the name in reports.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Unknown => "unknown",
            Self::Critical => "critical",
        }
    }

    /// Returns the exit code of a monitoring plugin.
    pub(super) fn code(self) -> u8 {
        match self {
            Self::Ok | Self::Note => 0,
            Self::Warning => 1,
            Self::Critical => 2,
            Self::Unknown => 3,
        }
    }
}

/// A number that a check has measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Metric {
    /// With its unit at the end, as Prometheus wants it: `queue_usage_ratio`.
    pub(super) name: &'static str,
    pub(super) value: f64,
    /// The values from which it is a warning, and critical.
    pub(super) limits: Option<(f64, f64)>,
}

/// The texts of metrics for Prometheus.
const HELP: [(&str, &str); 14] = [
    ("certificate_validity_seconds", "Rest of the validity of the server's certificates."),
    ("queue_usage_ratio", "Share of the notification queue that is in use."),
    ("queue_pages_max", "The setting max_notify_queue_pages."),
    ("stalled_readers", "Clients that listen and do not read."),
    ("commit_lock_waiting", "Commits that wait for the lock of NOTIFY."),
    ("commit_lock_wait_seconds", "The longest wait for the lock of NOTIFY."),
    ("transaction_age_seconds", "Age of the oldest transaction."),
    ("notifying_triggers", "Functions of triggers that send notifications."),
    ("slot_retained_bytes", "The most WAL that a replication slot retains."),
    ("outbox_lag_seconds", "Age of the oldest record of an outbox that waits for a cursor."),
    ("pgmq_oldest_message_seconds", "Age of the oldest message in a queue of pgmq."),
    ("delivery_seconds", "Time from a NOTIFY to its receipt, the median of some."),
    ("slru_reads_total", "Pages of the notification queue that were read from disk."),
    ("slru_writes_total", "Pages of the notification queue that were written to disk."),
];

impl Metric {
    pub(super) fn help(&self) -> &'static str {
        let found = HELP.iter().find(|(name, _)| *name == self.name);
        found.map_or("A number of the report.", |(_, help)| help)
    }
}

/// What one check has found.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Finding {
    pub(super) check: &'static str,
    pub(super) severity: Severity,
    /// One line.
    pub(super) summary: String,
    /// Why it is so, and what follows.
    pub(super) cause: Option<String>,
    pub(super) cure: Option<String>,
    pub(super) metrics: Vec<Metric>,
}

impl Finding {
    pub(super) fn new(check: &'static str, severity: Severity, summary: impl Into<String>) -> Self {
        let (cause, cure, metrics) = (None, None, Vec::new());
        Self { check, severity, summary: summary.into(), cause, cure, metrics }
    }

    pub(super) fn ok(check: &'static str, summary: impl Into<String>) -> Self {
        Self::new(check, Severity::Ok, summary)
    }

    pub(super) fn because(mut self, cause: impl Into<String>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    pub(super) fn cure(mut self, cure: impl Into<String>) -> Self {
        self.cure = Some(cure.into());
        self
    }

    pub(super) fn metric(self, name: &'static str, value: f64) -> Self {
        self.push(Metric { name, value, limits: None })
    }

    pub(super) fn metric_with_limits(
        self,
        name: &'static str,
        value: f64,
        limits: (f64, f64),
    ) -> Self {
        self.push(Metric { name, value, limits: Some(limits) })
    }

    fn push(mut self, metric: Metric) -> Self {
        self.metrics.push(metric);
        self
    }
}
