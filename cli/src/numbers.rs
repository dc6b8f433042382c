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
    fn times_and_rates_keep_three_digits() {
        assert_eq!(seconds(Duration::from_millis(412)), "0.41 s");
        assert_eq!(seconds(Duration::from_millis(10_249)), "10.2 s");
        assert_eq!(rate(per_second(10_000, Duration::from_millis(410))), "24.4 k/s");
        assert_eq!(rate(per_second(5, Duration::from_secs(1))), "5 /s");
        assert_eq!(rate(per_second(5, Duration::ZERO)), "0 /s");
        assert_eq!(rate(2.5e6), "2.5 M/s");
    }
}
