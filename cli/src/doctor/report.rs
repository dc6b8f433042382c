//! The findings as text, JSON, and for monitoring systems.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::{Map, Value};

use super::args::Format;
use super::finding::{Finding, Metric, Severity};
use crate::numbers::counted;
use crate::record;

/// What was found at which server.
pub(super) struct Report {
    pub(super) place: String,
    /// `None` if there is no session.
    pub(super) version: Option<String>,
    pub(super) findings: Vec<Finding>,
    pub(super) is_verbose: bool,
}

#[derive(Serialize)]
struct JsonReport<'a> {
    server: &'a str,
    version: Option<&'a str>,
    status: &'static str,
    findings: Vec<JsonFinding<'a>>,
}

#[derive(Serialize)]
struct JsonFinding<'a> {
    check: &'static str,
    status: &'static str,
    summary: &'a str,
    cause: Option<&'a str>,
    cure: Option<&'a str>,
    metrics: Map<String, Value>,
}

impl Report {
    /// Returns the severity of the worst finding.
    pub(super) fn severity(&self) -> Severity {
        self.findings.iter().map(|one| one.severity).max().unwrap_or(Severity::Ok)
    }

    pub(super) fn write(&self, format: Format) -> Vec<u8> {
        match format {
            Format::Text => self.text(),
            Format::Json => self.json(),
            Format::Nagios => self.nagios(),
            Format::Prometheus => self.prometheus(),
        }
    }

    fn text(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut line = |text: &str| {
            record::push_visible(text, &mut out);
            out.push(b'\n');
        };
        let version = self.version.as_ref().map(|version| format!(", PostgreSQL {version}"));
        line(&format!("{}{}", self.place, version.unwrap_or_default()));
        for finding in &self.findings {
            if finding.severity == Severity::Ok && !self.is_verbose {
                continue;
            }
            let Finding { severity, check, summary, .. } = finding;
            line(&format!("{:<9} {check}: {summary}", severity.name()));
            for (name, text) in [("cause", &finding.cause), ("cure", &finding.cure)] {
                if let Some(text) = text {
                    line(&format!("{:<9} {name}: {text}", ""));
                }
            }
        }
        line(&self.counts());
        out
    }

    /// `1 critical, 2 warnings, 1 note, 11 ok`.
    fn counts(&self) -> String {
        let count =
            |severity| self.findings.iter().filter(|one| one.severity == severity).count() as u64;
        let mut parts = Vec::new();
        for (severity, many) in [
            (Severity::Critical, "critical"),
            (Severity::Unknown, "unknown"),
            (Severity::Warning, "warnings"),
            (Severity::Note, "notes"),
        ] {
            if count(severity) > 0 {
                parts.push(counted(count(severity), severity.name(), many));
            }
        }
        parts.push(format!("{} ok", count(Severity::Ok)));
        parts.join(", ")
    }

    fn json(&self) -> Vec<u8> {
        let findings = self.findings.iter().map(|one| JsonFinding {
            check: one.check,
            status: one.severity.name(),
            summary: &one.summary,
            cause: one.cause.as_deref(),
            cure: one.cure.as_deref(),
            metrics: one
                .metrics
                .iter()
                .map(|one| (one.name.to_owned(), number(one.value)))
                .collect(),
        });
        let report = JsonReport {
            server: &self.place,
            version: self.version.as_deref(),
            status: self.severity().name(),
            findings: findings.collect(),
        };
        let mut out = Vec::new();
        record::push_json(&report, &mut out);
        out
    }

    /// One line: `PGBELL WARNING - queue: … | queue_usage_ratio=0.2;0.1;0.5`.
    fn nagios(&self) -> Vec<u8> {
        let severity = self.severity();
        let status = if severity == Severity::Note { "ok" } else { severity.name() };
        let found = self.findings.iter().filter(|one| one.severity > Severity::Note);
        let found: Vec<_> = found.map(|one| format!("{}: {}", one.check, one.summary)).collect();
        let found = if found.is_empty() { self.counts() } else { found.join("; ") };
        // A bar begins the performance data.
        let found = found.replace('|', "/");
        let metrics = self.metrics().map(|metric| {
            let Metric { name, value, limits } = *metric;
            let limits = limits.map(|(warning, critical)| format!(";{warning};{critical}"));
            format!(" {name}={value}{}", limits.unwrap_or_default())
        });
        let mut out = Vec::new();
        let line =
            format!("PGBELL {} - {found} |{}", status.to_uppercase(), metrics.collect::<String>());
        record::push_visible(&line, &mut out);
        out.push(b'\n');
        out
    }

    fn prometheus(&self) -> Vec<u8> {
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ =
            writeln!(text, "# HELP pgbell_doctor_status 0 ok, 1 warning, 2 critical, 3 unknown.");
        let _ = writeln!(text, "# TYPE pgbell_doctor_status gauge");
        let mut checks: Vec<&str> = self.findings.iter().map(|one| one.check).collect();
        checks.dedup();
        for check in checks {
            let of_check = self.findings.iter().filter(|one| one.check == check);
            let worst = of_check.map(|one| one.severity).max().unwrap_or(Severity::Ok);
            let _ = writeln!(text, "pgbell_doctor_status{{check=\"{check}\"}} {}", worst.code());
        }
        for metric in self.metrics() {
            let kind = if metric.name.ends_with("_total") { "counter" } else { "gauge" };
            let _ = writeln!(text, "# HELP pgbell_doctor_{} {}", metric.name, metric.help());
            let _ = writeln!(text, "# TYPE pgbell_doctor_{} {kind}", metric.name);
            let _ = writeln!(text, "pgbell_doctor_{} {}", metric.name, metric.value);
        }
        text.into_bytes()
    }

    fn metrics(&self) -> impl Iterator<Item = &Metric> {
        self.findings.iter().flat_map(|one| &one.metrics)
    }
}

/// Returns a whole number without decimals.
fn number(value: f64) -> Value {
    #[allow(clippy::cast_possible_truncation, reason = "it is a whole number below 2^53")]
    let whole = (value.fract() == 0.0 && value.abs() < 9e15).then_some(value as i64);
    whole.map_or_else(|| value.into(), Value::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let warning = Finding::new("queue", Severity::Warning, "20.0 % | full\n")
            .because("a reader")
            .cure("end it")
            .metric_with_limits("queue_usage_ratio", 0.2, (0.1, 0.5));
        let ok = Finding::ok("slru", "nothing").metric("slru_reads_total", 3.0);
        let note = Finding::new("version", Severity::Note, "old");
        let findings = vec![note, warning, ok];
        let version = Some("18.1".to_owned());
        Report { place: "db:5432".to_owned(), version, findings, is_verbose: false }
    }

    fn written(format: Format) -> String {
        String::from_utf8(report().write(format)).unwrap()
    }

    #[test]
    fn text_shows_what_is_not_in_order_with_its_cause_and_its_cure() {
        let expected = "db:5432, PostgreSQL 18.1\n\
            note      version: old\n\
            warning   queue: 20.0 % | full\\n\n\
            \u{20}         cause: a reader\n\
            \u{20}         cure: end it\n\
            1 warning, 1 note, 1 ok\n";
        assert_eq!(written(Format::Text), expected);
    }

    #[test]
    fn nagios_is_one_line_with_one_bar() {
        let expected = "PGBELL WARNING - queue: 20.0 % / full\\n | queue_usage_ratio=0.2;0.1;0.5 slru_reads_total=3\n";
        assert_eq!(written(Format::Nagios), expected);
    }

    #[test]
    fn prometheus_has_a_status_for_each_check_and_all_metrics() {
        let expected = "# HELP pgbell_doctor_status 0 ok, 1 warning, 2 critical, 3 unknown.\n\
            # TYPE pgbell_doctor_status gauge\n\
            pgbell_doctor_status{check=\"version\"} 0\n\
            pgbell_doctor_status{check=\"queue\"} 1\n\
            pgbell_doctor_status{check=\"slru\"} 0\n\
            # HELP pgbell_doctor_queue_usage_ratio Share of the notification queue that is in use.\n\
            # TYPE pgbell_doctor_queue_usage_ratio gauge\n\
            pgbell_doctor_queue_usage_ratio 0.2\n\
            # HELP pgbell_doctor_slru_reads_total Pages of the notification queue that were read from disk.\n\
            # TYPE pgbell_doctor_slru_reads_total counter\n\
            pgbell_doctor_slru_reads_total 3\n";
        assert_eq!(written(Format::Prometheus), expected);
    }

    #[test]
    fn json_has_all_findings() {
        let value: Value = serde_json::from_str(&written(Format::Json)).unwrap();
        assert_eq!(value["status"], "warning");
        assert_eq!(value["findings"][1]["metrics"]["queue_usage_ratio"], 0.2);
        assert_eq!(value["findings"][1]["summary"], "20.0 % | full\n");
    }
}
