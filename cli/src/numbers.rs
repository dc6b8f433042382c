//! Numbers in a form for people.

use std::time::Duration;

/// `12345` as `12,345`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 gap`, `2 gaps`.
pub(crate) fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", grouped(number), if number == 1 { one } else { many })
}

/// `0.41 s`, `10.2 s`.
pub(crate) fn seconds(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds < 9.995 { format!("{seconds:.2} s") } else { format!("{seconds:.1} s") }
}

/// `0.41 s`, `10.2 s`, `3 min 12 s`, `2 h 5 min`, `7 d 3 h`.
pub(crate) fn age(time: Duration) -> String {
    let whole = time.as_secs();
    let (days, hours, minutes) = (whole / 86_400, whole / 3_600 % 24, whole / 60 % 60);
    match whole {
        0..60 => seconds(time),
        60..3_600 => format!("{minutes} min {} s", whole % 60),
        3_600..86_400 => format!("{hours} h {minutes} min"),
        _ => format!("{} d {hours} h", grouped(days)),
    }
}

/// `512 B`, `16.4 MiB`.
pub(crate) fn bytes(number: u64) -> String {
    // Exact up to 2^53, which is enough for a display.
    #[allow(clippy::cast_precision_loss)]
    let mut size = number as f64;
    if number < 1_024 {
        return format!("{number} B");
    }
    let mut unit = "B";
    for larger in ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"] {
        // What would be shown as 1024.0 of a unit is 1.0 of the next one.
        if size < 1_023.95 {
            break;
        }
        (size, unit) = (size / 1_024.0, larger);
    }
    format!("{size:.1} {unit}")
}

/// Returns the number per second. Zero if no time passed.
pub(crate) fn per_second(number: u64, time: Duration) -> f64 {
    let seconds = time.as_secs_f64();
    // Exact up to 2^53, which is enough for a display.
    #[allow(clippy::cast_precision_loss)]
    let number = number as f64;
    if seconds > 0.0 { number / seconds } else { 0.0 }
}

/// `24.4 k/s`.
pub(crate) fn rate(per_second: f64) -> String {
    if per_second >= 1e6 {
        format!("{:.1} M/s", per_second / 1e6)
    } else if per_second >= 1e3 {
        format!("{:.1} k/s", per_second / 1e3)
    } else {
        format!("{per_second:.0} /s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_grouped() {
        for (number, text) in
            [(0, "0"), (999, "999"), (1_000, "1,000"), (12_345, "12,345"), (1_234_567, "1,234,567")]
        {
            assert_eq!(grouped(number), text);
        }
        assert_eq!(counted(1, "gap", "gaps"), "1 gap");
        assert_eq!(counted(0, "gap", "gaps"), "0 gaps");
    }

    #[test]
    fn ages_and_sizes_have_the_unit_that_fits() {
        for (seconds, text) in [
            (0, "0.00 s"),
            (59, "59.0 s"),
            (60, "1 min 0 s"),
            (3_599, "59 min 59 s"),
            (3_600, "1 h 0 min"),
            (86_399, "23 h 59 min"),
            (86_400, "1 d 0 h"),
            (123_456_789, "1,428 d 21 h"),
        ] {
            assert_eq!(age(Duration::from_secs(seconds)), text);
        }
        for (number, text) in [
            (0, "0 B"),
            (1_023, "1023 B"),
            (1_024, "1.0 KiB"),
            (1_048_575, "1.0 MiB"),
            (17_196_646, "16.4 MiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(bytes(number), text);
        }
    }

    #[test]
    fn times_and_rates_keep_three_digits() {
        assert_eq!(seconds(Duration::from_millis(412)), "0.41 s");
        assert_eq!(seconds(Duration::from_millis(10_249)), "10.2 s");
        assert_eq!(rate(per_second(10_000, Duration::from_millis(410))), "24.4 k/s");
        assert_eq!(rate(per_second(5, Duration::from_secs(1))), "5 /s");
        assert_eq!(rate(per_second(5, Duration::ZERO)), "0 /s");
        assert_eq!(rate(2.5e6), "2.5 M/s");
    }
}
