//! [`Limits`]: the values from which a finding is a warning, and critical.

use std::str::FromStr;
use std::time::Duration;

use super::finding::Severity;
use crate::units;

/// Two values of one option: `5s,1m`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Limits<T> {
    pub(super) warning: T,
    pub(super) critical: T,
}

impl<T: PartialOrd + Copy> Limits<T> {
    pub(super) fn severity(&self, value: T) -> Severity {
        if value >= self.critical {
            Severity::Critical
        } else if value >= self.warning {
            Severity::Warning
        } else {
            Severity::Ok
        }
    }

    /// Like [`severity`](Self::severity), for a value that is worse the lower it is.
    pub(super) fn severity_below(&self, value: T) -> Severity {
        if value < self.critical {
            Severity::Critical
        } else if value < self.warning {
            Severity::Warning
        } else {
            Severity::Ok
        }
    }

    fn parse(text: &str, one: impl Fn(&str) -> Result<T, String>) -> Result<Self, String> {
        let (warning, critical) =
            text.split_once(',').ok_or("expected two values, WARNING,CRITICAL")?;
        let limits = Self { warning: one(warning)?, critical: one(critical)? };
        if limits.warning > limits.critical {
            return Err("the first value, of a warning, is above the second one".to_owned());
        }
        Ok(limits)
    }
}

impl Limits<Duration> {
    pub(super) fn seconds(&self) -> (f64, f64) {
        (self.warning.as_secs_f64(), self.critical.as_secs_f64())
    }
}

/// `10,50`: percentages.
pub(super) fn percents(text: &str) -> Result<Limits<f64>, String> {
    Limits::parse(text, |text| {
        let number = f64::from_str(text.trim_end_matches('%')).ok();
        let number = number.filter(|number| (0.0..=100.0).contains(number));
        number.ok_or_else(|| "expected a percentage such as 10".to_owned())
    })
}

/// `5s,1m`, `30d,7d`.
pub(super) fn times(text: &str) -> Result<Limits<Duration>, String> {
    Limits::parse(text, units::age)
}

/// `30d,7d`: the first value is the higher one.
pub(super) fn falling_times(text: &str) -> Result<Limits<Duration>, String> {
    let (warning, critical) =
        text.split_once(',').ok_or("expected two values, WARNING,CRITICAL")?;
    let limits = Limits { warning: units::age(warning)?, critical: units::age(critical)? };
    if limits.warning < limits.critical {
        return Err("the first value, of a warning, is below the second one".to_owned());
    }
    Ok(limits)
}

/// `1GB,10GB`.
pub(super) fn sizes(text: &str) -> Result<Limits<u64>, String> {
    Limits::parse(text, units::size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_value_is_that_of_a_warning() {
        let limits = times("5s,1m").unwrap();
        for (seconds, severity) in [
            (4, Severity::Ok),
            (5, Severity::Warning),
            (59, Severity::Warning),
            (60, Severity::Critical),
        ] {
            assert_eq!(limits.severity(Duration::from_secs(seconds)), severity, "{seconds}");
        }
        let limits = falling_times("30d,7d").unwrap();
        for (days, severity) in
            [(31, Severity::Ok), (29, Severity::Warning), (6, Severity::Critical)]
        {
            assert_eq!(
                limits.severity_below(Duration::from_secs(days * 86_400)),
                severity,
                "{days}"
            );
        }
        assert!(falling_times("7d,30d").is_err() && falling_times("7d").is_err());
        assert_eq!(percents("10,50%").unwrap(), Limits { warning: 10.0, critical: 50.0 });
        assert_eq!(sizes("1kB,1MB").unwrap(), Limits { warning: 1 << 10, critical: 1 << 20 });
    }

    #[test]
    fn wrong_limits_are_refused() {
        for text in ["", "5s", "1m,5s", "5s,", "5s,1m,2m", "x,y"] {
            assert!(times(text).is_err(), "{text}");
        }
        for text in ["1,101", "-1,5", "nan,5"] {
            assert!(percents(text).is_err(), "{text}");
        }
    }
}
