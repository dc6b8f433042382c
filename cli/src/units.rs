//! Ages and sizes in arguments.

use std::time::Duration;

use crate::args::duration;

/// The longest age, in days: a hundred years.
const AGE_DAYS_MAX: u64 = 36_500;

/// What [`duration`] parses, and days: `7d`.
pub(crate) fn age(text: &str) -> Result<Duration, String> {
    let expected = || "expected a time above zero such as 30s, 10m, 1h or 7d".to_owned();
    let age = match text.strip_suffix('d') {
        Some(days) => {
            let days: u64 = days.parse().map_err(|_| expected())?;
            Duration::from_secs(days.saturating_mul(86_400))
        }
        None => duration(text).map_err(|_| expected())?,
    };
    if age < Duration::from_millis(1) || age > Duration::from_secs(AGE_DAYS_MAX * 86_400) {
        return Err(expected());
    }
    Ok(age)
}

/// `4096`, `64MB`, `64MiB`: in both spellings a unit is 1,024 of the one before, as in the settings of PostgreSQL.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let expected = || "expected a size above zero such as 4096, 64MB or 1GB".to_owned();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit {
        "" | "B" => 0,
        "kB" | "KiB" => 10,
        "MB" | "MiB" => 20,
        "GB" | "GiB" => 30,
        "TB" | "TiB" => 40,
        _ => return Err(expected()),
    };
    let number: u64 = number.parse().map_err(|_| expected())?;
    // The server has a bigint.
    let size = number.checked_mul(1 << shift).filter(|size| i64::try_from(*size).is_ok());
    size.filter(|size| *size > 0).ok_or_else(expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_can_have_days() {
        for (text, seconds) in [("10", 10), ("2m", 120), ("1d", 86_400), ("36500d", 3_153_600_000)]
        {
            assert_eq!(age(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "d", "0d", "1.5d", "-1d", "36501d", "0.0001ms", "1w"] {
            assert!(age(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_size_has_the_units_of_postgresql() {
        for (text, bytes) in [
            ("1", 1),
            ("4096B", 4_096),
            ("8kB", 8_192),
            ("64MB", 64 << 20),
            ("64MiB", 64 << 20),
            ("1GB", 1 << 30),
            ("8388607TB", 8_388_607 << 40),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "MB", "0", "0MB", "1.5GB", "-1", "1 MB", "1mb", "8388608TB"] {
            assert!(size(text).is_err(), "{text}");
        }
    }
}
