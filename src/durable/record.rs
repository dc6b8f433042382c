//! [`Record`]: one row of a log. [`Records`]: those of a batch.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::memory::MemoryRecord;
use super::refusal::malformed;
use crate::error::Error;
use crate::proto::session::Rows;

/// The records of a batch, in the order of their ids.
#[derive(Debug, Clone)]
pub(super) enum Records {
    /// The rows of the server's answer, and the numbers of those that are records.
    Rows { rows: Arc<Rows>, order: Vec<u32> },
    /// Those of an in-memory log.
    Memory(Arc<[MemoryRecord]>),
}

impl Records {
    /// Takes those of an answer: at most `limit`, by their ids.
    ///
    /// # Errors
    /// If one of them has no id, or is not UTF-8, which the server checks before.
    pub(super) fn from_rows(rows: Rows, range: Range<usize>, limit: usize) -> Result<Self, Error> {
        let row = |index: u32| usize::try_from(index).ok().and_then(|index| rows.get(index));
        let id = |index: u32| row(index)?.get(0)?.parse::<i64>().ok();
        let mut order = Vec::with_capacity(range.len());
        let (mut is_sorted, mut before) = (true, i64::MIN);
        for index in range {
            let index = u32::try_from(index).map_err(|_| malformed())?;
            let id = id(index).ok_or_else(malformed)?;
            if row(index).is_none_or(|row| (1..3).any(|column| row.get(column).is_none())) {
                return Err(malformed());
            }
            is_sorted &= before < id;
            before = id;
            order.push(index);
        }
        if !is_sorted {
            // Two branches of the query returned records. Each of them is sorted, and has up to `limit` of them.
            order.sort_by_key(|index| id(*index));
        }
        order.truncate(limit);
        Ok(Self::Rows { rows: Arc::new(rows), order })
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Rows { order, .. } => order.len(),
            Self::Memory(records) => records.len(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn get(&self, index: usize) -> Option<Record<'_>> {
        match self {
            Self::Rows { rows, order } => {
                let row = rows.get(usize::try_from(*order.get(index)?).ok()?)?;
                let micros = row.get(4).and_then(|micros| micros.parse::<i64>().ok());
                Some(Record {
                    id: row.get(0)?.parse().ok()?,
                    key: row.get(1).unwrap_or_default(),
                    payload: row.get(2).unwrap_or_default(),
                    headers: row.get(3),
                    written_at: time(micros.unwrap_or_default()),
                })
            }
            Self::Memory(records) => records.get(index).map(|record| Record {
                id: record.id,
                key: &record.key,
                payload: &record.payload,
                headers: record.headers.as_deref(),
                written_at: record.written_at,
            }),
        }
    }

    pub(super) fn last_id(&self) -> Option<i64> {
        Some(self.get(self.len().checked_sub(1)?)?.id)
    }
}

/// Returns a time of the server, which counts microseconds since 1970.
pub(super) fn time(micros: i64) -> SystemTime {
    let distance = Duration::from_micros(micros.unsigned_abs());
    let time = if micros < 0 {
        UNIX_EPOCH.checked_sub(distance)
    } else {
        UNIX_EPOCH.checked_add(distance)
    };
    time.unwrap_or(UNIX_EPOCH)
}

/// A record of a log: a view of the batch that contains it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    id: i64,
    key: &'a str,
    payload: &'a str,
    headers: Option<&'a str>,
    written_at: SystemTime,
}

impl<'a> Record<'a> {
    /// A record in the place of one that does not exist.
    pub(super) fn missing() -> Self {
        Self { id: 0, key: "", payload: "", headers: None, written_at: UNIX_EPOCH }
    }

    /// Returns the id. Within a batch ids ascend. A later batch can have lower ids: those of transactions that committed late.
    #[must_use]
    pub fn id(&self) -> i64 {
        self.id
    }

    /// Returns the key. It is empty if the writer set none.
    ///
    /// Records of one key are in order, if each of their writers began to write after the commit of the one before, which the lock of a row that
    /// they both update ensures.
    #[must_use]
    pub fn key(&self) -> &'a str {
        self.key
    }

    /// Returns the payload: text, JSON as text, or the hexadecimal digits of a bytea.
    #[must_use]
    pub fn payload(&self) -> &'a str {
        self.payload
    }

    /// Returns the bytes of a payload of the type bytea. `None` if the payload is of another type and is not an even number of hexadecimal digits.
    #[must_use]
    pub fn payload_bytea(&self) -> Option<Vec<u8>> {
        let digits = self.payload.as_bytes();
        let digit =
            |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let pairs = digits.chunks(2).map(|pair| match pair {
            [high, low] => Some(digit(high)? << 4 | digit(low)?),
            _ => None,
        });
        pairs.collect()
    }

    /// Decodes the payload from JSON.
    ///
    /// # Errors
    /// If it is not JSON of this type.
    #[cfg(feature = "json")]
    pub fn json<T: serde_core::Deserialize<'a>>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(self.payload)
    }

    /// Returns the headers, JSON as text, if the writer set any.
    #[must_use]
    pub fn headers(&self) -> Option<&'a str> {
        self.headers
    }

    /// Returns when the record was written, by the clock of the server: before the commit, and not in the order of the ids.
    #[must_use]
    pub fn written_at(&self) -> SystemTime {
        self.written_at
    }
}

/// Shows the id and the sizes, because the rest is data of the application.
impl fmt::Debug for Record<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("id", &self.id)
            .field("key_len", &self.key.len())
            .field("payload_len", &self.payload.len())
            .finish_non_exhaustive()
    }
}
