//! [`Page`]: what one read of a log returns.

use super::gap::LogGap;
use super::position::{Position, Upper};
use super::record::Records;
use super::refusal::malformed;
use super::snapshot::Snapshot;
use crate::error::Error;
use crate::proto::session::{Row, Rows};

/// The current position of a cursor, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Newest {
    /// Each change of the position or the token has the next number.
    pub(super) seq: i64,
    /// Each reader that takes the cursor has the next number.
    pub(super) token: i64,
    /// Names this change among all that ever had its number, and what the server has not lost since. A log in memory has none.
    pub(super) nonce: String,
    pub(super) position: Position,
    pub(super) gap: Option<LogGap>,
}

impl Newest {
    /// Parses the thirteen fields that the function `read` returns.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut fields = text.splitn(4, ' ');
        let (seq, token) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        let nonce = fields.next()?.to_owned();
        let rest = fields.next()?;
        let mut from_end = rest.rsplitn(4, ' ');
        let (records, last, first) = (from_end.next()?, from_end.next()?, from_end.next()?);
        let position = Position::parse(from_end.next()?)?;
        let gap = if [records, last, first] == ["-"; 3] {
            None
        } else {
            let (first, last) = (first.parse().ok()?, last.parse().ok()?);
            Some(LogGap { first, last, records: records.parse().ok()? })
        };
        Some(Self { seq, token, nonce, position, gap })
    }
}

/// What one read returns.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) newest: Newest,
    /// Up to where records were read. `None` if there are none, and no id is higher than those before.
    pub(super) upper: Option<Upper>,
    pub(super) records: Records,
}

impl Page {
    /// Takes the result of the function `read`. `place` is the position from which it read. Returns `None` if there is no such cursor.
    pub(super) fn from_rows(
        rows: Rows,
        place: &Position,
        limit: usize,
    ) -> Result<Option<Self>, Error> {
        let about = rows.get(0).ok_or_else(malformed)?;
        if about.get(0).is_some() {
            return Err(malformed());
        }
        let Some(newest) = about.get(1) else { return Ok(None) };
        let newest = Newest::parse(newest).ok_or_else(malformed)?;
        let last = rows.len().checked_sub(1).and_then(|index| rows.get(index));
        let next = last.filter(|row| rows.len() > 1 && row.get(0).is_none());
        let upper = match &place.window {
            Some(window) => Some(Upper::from(window.clone())),
            None => match next.and_then(|row| row.get(1)) {
                Some(next) => Some(parse_upper(about, next).ok_or_else(malformed)?),
                None => None,
            },
        };
        let records = 1..rows.len() - usize::from(next.is_some());
        if upper.is_none() && !records.is_empty() {
            return Err(malformed());
        }
        let records = Records::from_rows(rows, records, limit)?;
        Ok(Some(Self { newest, upper, records }))
    }
}

fn parse_upper(about: Row<'_>, next: &str) -> Option<Upper> {
    let snapshot = Snapshot::parse(about.get(2)?)?;
    let (high, next) = (about.get(4)?.parse().ok()?, next.parse().ok()?);
    (snapshot.xmax() <= next).then_some(Upper { snapshot, high, next })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_current_position_is_parsed_with_and_without_a_gap() {
        let newest = Newest::parse("5 2 n1 900:901: 7 901 - - - - - - -").unwrap();
        assert_eq!((newest.seq, newest.token, newest.gap), (5, 2, None));
        assert_eq!(newest.nonce, "n1");
        assert_eq!(newest.position.to_string(), "900:901: 7 901 - - - -");
        let newest = Newest::parse("6 2 n2 1:1: 0 1 900:901: 7 901 3 4 6 2").unwrap();
        assert_eq!(newest.gap, Some(LogGap { first: 4, last: 6, records: 2 }));
        assert_eq!(newest.position.to_string(), "1:1: 0 1 900:901: 7 901 3");
        for text in [
            "",
            "5",
            "5 2",
            "5 2 n - - -",
            "x 2 n 1:1: 0 1 - - - - - - -",
            "5 2 n 1:1: 0 1 - - - - - - 1",
        ] {
            assert_eq!(Newest::parse(text), None, "{text:?}");
        }
    }
}
