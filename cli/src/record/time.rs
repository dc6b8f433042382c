//! Times in records.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::ValueEnum;
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Decimals of a second in text.
pub(crate) const TEXT_DECIMALS: usize = 3;

/// Decimals of a second in JSON: the precision of common system clocks.
pub(crate) const JSON_DECIMALS: usize = 6;

/// How times are written in text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TimeStyle {
    /// `2026-11-21T12:00:01.123Z`
    Utc,
    /// `2026-11-21T13:00:01.123+01:00`, in the time zone of this machine, or of TZ
    Local,
    /// `+12.345s`, from the moment at which the channels are active
    Relative,
    /// No time
    None,
}

/// Formats times in one style.
#[derive(Debug, Clone)]
pub(crate) struct Clock {
    style: TimeStyle,
    zone: TimeZone,
    began: SystemTime,
}

impl Clock {
    pub(crate) fn new(style: TimeStyle) -> Self {
        let zone = if style == TimeStyle::Local { TimeZone::system() } else { TimeZone::UTC };
        Self { style, zone, began: SystemTime::now() }
    }

    /// Returns the text of a time, empty without one.
    pub(crate) fn text(&self, at: SystemTime) -> String {
        match self.style {
            TimeStyle::None => String::new(),
            TimeStyle::Utc => timestamp(at, TEXT_DECIMALS),
            TimeStyle::Relative => {
                let since = at.duration_since(self.began).unwrap_or_default();
                format!("+{}.{:03}s", since.as_secs(), since.subsec_millis())
            }
            TimeStyle::Local => {
                let local = instant(at).to_zoned(self.zone.clone());
                local.strftime("%Y-%m-%dT%H:%M:%S%.3f%:z").to_string()
            }
        }
    }
}

/// Formats a time as RFC 3339 in UTC: `2026-11-21T12:00:01.123Z`. A time before 1970 becomes the beginning of 1970.
pub(crate) fn timestamp(at: SystemTime, decimals: usize) -> String {
    let at = instant(at);
    let text = if decimals == TEXT_DECIMALS {
        at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ")
    } else {
        at.strftime("%Y-%m-%dT%H:%M:%S%.6fZ")
    };
    text.to_string()
}

fn instant(at: SystemTime) -> Timestamp {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    // What is too late for a calendar is its end.
    Timestamp::try_from(UNIX_EPOCH + since).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_gregorian_calendar() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (1_735_689_600, "2025-01-01T00:00:00.000Z"),
            (1_795_262_401, "2026-11-21T12:00:01.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
        ] {
            let at = UNIX_EPOCH + Duration::from_secs(seconds);
            assert_eq!(timestamp(at, TEXT_DECIMALS), expected, "{seconds}");
        }
        assert_eq!(timestamp(UNIX_EPOCH - Duration::from_secs(9), 3), "1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn fractions_are_truncated_not_rounded() {
        let at = UNIX_EPOCH + Duration::new(1, 123_999_999);
        assert_eq!(timestamp(at, TEXT_DECIMALS), "1970-01-01T00:00:01.123Z");
        assert_eq!(timestamp(at, JSON_DECIMALS), "1970-01-01T00:00:01.123999Z");
        assert_eq!(timestamp(UNIX_EPOCH, JSON_DECIMALS), "1970-01-01T00:00:00.000000Z");
    }

    #[test]
    fn each_style_has_its_form() {
        let began = UNIX_EPOCH + Duration::from_secs(1_795_262_400);
        let clock = |style| {
            let zone = TimeZone::fixed(jiff::tz::offset(1));
            Clock { zone, began, ..Clock::new(style) }
        };
        let at = began + Duration::from_millis(12_345);
        for (style, expected) in [
            (TimeStyle::Utc, "2026-11-21T12:00:12.345Z"),
            (TimeStyle::Local, "2026-11-21T13:00:12.345+01:00"),
            (TimeStyle::Relative, "+12.345s"),
            (TimeStyle::None, ""),
        ] {
            assert_eq!(clock(style).text(at), expected);
        }
        // A clock that was set back.
        assert_eq!(clock(TimeStyle::Relative).text(UNIX_EPOCH), "+0.000s");
    }
}
