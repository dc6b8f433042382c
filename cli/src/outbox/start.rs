//! Where a new cursor begins: the argument of `--from`.

use std::time::SystemTime;

use jiff::Timestamp;
use pgbell::durable::Start;

use crate::units::age;

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
    let time: Timestamp = text.parse().ok()?;
    (time >= Timestamp::UNIX_EPOCH).then(|| time.into())
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
            // A leap second is the second before it.
            ("2026-12-31T23:59:60Z", "2026-12-31T23:59:59.000000Z"),
        ] {
            assert_eq!(timestamp(time(text).unwrap(), 6), expected, "{text}");
        }
    }

    #[test]
    fn what_is_not_a_time_is_refused() {
        for text in [
            "",
            "yesterday",
            "2026-11-21",
            "2026-11-21T12:00:00",
            "2026-02-29T12:00:00Z",
            "2026-13-01T12:00:00Z",
            "2026-00-01T12:00:00Z",
            "2026-11-31T12:00:00Z",
            "2026-11-21T24:00:00Z",
            "2026-11-21T12:60:00Z",
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
