//! Where a new cursor begins: the argument of `--from`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pgbell::durable::Start;

use super::units::age;

/// `beginning`, `now`, a time in RFC 3339, or an age.
pub(super) fn start(text: &str) -> Result<Start, String> {
    let ago = || SystemTime::now().checked_sub(age(text).ok()?);
    match text {
        "beginning" => Ok(Start::Beginning),
        "now" => Ok(Start::Now),
        _ => time(text).or_else(ago).map(Start::At).ok_or_else(|| {
            "expected beginning, now, a time such as 2026-11-21T12:00:00Z or \
             2026-11-21T14:00:00+02:00, or a duration ago such as 10m"
                .to_owned()
        }),
    }
}

/// Parses a time in RFC 3339, from 1970 on.
fn time(text: &str) -> Option<SystemTime> {
    let (date, rest) = text.split_once(['T', 't', ' '])?;
    let zone_at = rest.find(['Z', 'z', '+', '-'])?;
    let (clock, zone) = rest.split_at(zone_at);
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let [hour, minute, second] = numbers(clock, ':', [2, 2, 2])?;
    let is_fraction = (1..=9).contains(&fraction.len()) && is_digits(fraction);
    let nanos: u32 = format!("{fraction:0<9}").parse().ok().filter(|_| is_fraction)?;
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        4 | 6 | 9 | 11 => 30,
        2 if is_leap => 29,
        2 => 28,
        1..=12 => 31,
        _ => return None,
    };
    // A leap second is the first one of the next minute, as in PostgreSQL.
    if !(1..=days).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let offset = match zone.split_at(1) {
        ("Z" | "z", "") => 0,
        (sign, zone) => {
            let [hours, minutes] = numbers(zone, ':', [2, 2])?;
            let offset = hours * 3_600 + minutes * 60;
            let is_valid = hours < 24 && minutes < 60;
            is_valid.then_some(if sign == "-" { -offset } else { offset })?
        }
    };
    let seconds = days_before(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second;
    let since = Duration::new(u64::try_from(seconds - offset).ok()?, nanos);
    UNIX_EPOCH.checked_add(since)
}

/// Parses numbers of these lengths.
fn numbers<const N: usize>(text: &str, separator: char, lengths: [usize; N]) -> Option<[i64; N]> {
    let mut parts = text.split(separator);
    let mut found = [0; N];
    for (number, length) in found.iter_mut().zip(lengths) {
        let part = parts.next().filter(|part| part.len() == length && is_digits(part))?;
        *number = part.parse().ok()?;
    }
    parts.next().is_none().then_some(found)
}

fn is_digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Returns the number of days from 1970-01-01, in the Gregorian calendar.
fn days_before(year: i64, month: i64, day: i64) -> i64 {
    // Years that begin on 1 March have the leap day as their last day.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    365 * year + leap_days + (153 * month + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::timestamp;

    #[test]
    fn a_time_is_parsed_in_every_zone() {
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00.000000Z"),
            ("2000-02-29T23:59:59.5z", "2000-02-29T23:59:59.500000Z"),
            ("2026-11-21 12:00:01.123456Z", "2026-11-21T12:00:01.123456Z"),
            ("2026-11-21T14:00:00+02:00", "2026-11-21T12:00:00.000000Z"),
            ("2026-12-31T22:30:00-05:30", "2027-01-01T04:00:00.000000Z"),
            ("2026-12-31T23:59:60Z", "2027-01-01T00:00:00.000000Z"),
        ] {
            assert_eq!(timestamp(time(text).unwrap(), 6), expected, "{text}");
        }
    }

    #[test]
    fn every_day_is_the_one_that_is_printed() {
        for day in 0..200_000 {
            let at = UNIX_EPOCH + Duration::from_secs(day * 86_400);
            assert_eq!(time(&timestamp(at, 3)), Some(at));
        }
    }

    #[test]
    fn what_is_not_a_time_is_refused() {
        for text in [
            "",
            "yesterday",
            "2026-11-21",
            "2026-11-21T12:00:00",
            "2026-11-21T12:00Z",
            "2026-02-29T12:00:00Z",
            "2026-13-01T12:00:00Z",
            "2026-00-01T12:00:00Z",
            "2026-11-31T12:00:00Z",
            "2026-11-21T24:00:00Z",
            "2026-11-21T12:60:00Z",
            "2026-11-21T12:00:00+2",
            "2026-11-21T12:00:00+24:00",
            "2026-11-21T12:00:00Zulu",
            "2026-11-21T12:00:00.Z",
            "2026-11-21T12:00:00.1234567890Z",
            "1969-12-31T23:59:59Z",
            "1970-01-01T00:00:00+00:01",
            "+026-11-21T12:00:00Z",
            "2026-11-21T12:00:00é",
        ] {
            assert!(start(text).is_err(), "{text}");
        }
        assert_eq!(start("now"), Ok(Start::Now));
        assert_eq!(start("beginning"), Ok(Start::Beginning));
        let Ok(Start::At(at)) = start("10m") else { panic!("10m") };
        let ago = SystemTime::now().duration_since(at).unwrap();
        assert!((600..660).contains(&ago.as_secs()), "{ago:?}");
    }
}
