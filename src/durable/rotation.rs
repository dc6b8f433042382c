//! [`Rotation`]: what a rotation of a log did.

use super::refusal::malformed;
use crate::error::Error;
use crate::proto::session::Rows;

/// What a [rotation](crate::durable::Outbox::rotate) did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Rotation {
    /// The number of partitions that were truncated.
    pub truncated: u32,
    /// The number of records that were removed before a cursor acknowledged them, because of a limit of the
    /// [settings](crate::durable::OutboxSettings), counted once for each cursor.
    pub lost: u64,
    /// New records are written to another partition from now on.
    pub advanced: bool,
    /// What a partition waits for that could not be truncated.
    pub waits_for: Option<String>,
    /// The log has no records any more. Until then there is something to rotate later.
    pub is_empty: bool,
}

impl Rotation {
    pub(super) const SQL: &str =
        "SELECT truncated, lost, advanced, waits_for, is_empty FROM {rotate}()";

    pub(super) fn from_rows(rows: &Rows) -> Result<Self, Error> {
        let row = rows.get(0).ok_or_else(malformed)?;
        let number = |column| row.get(column).and_then(|text| text.parse::<u64>().ok());
        let truncated = number(0).and_then(|number| u32::try_from(number).ok());
        Ok(Self {
            truncated: truncated.ok_or_else(malformed)?,
            lost: number(1).ok_or_else(malformed)?,
            advanced: row.get(2) == Some("t"),
            waits_for: row.get(3).map(str::to_owned),
            is_empty: row.get(4) == Some("t"),
        })
    }
}
