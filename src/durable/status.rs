//! [`OutboxStatus`]: the sizes of a log, and where its cursors are.

use std::time::Duration;

use super::check::check;
use super::names::Names;
use super::payload_type::PayloadType;
use super::refusal::malformed;
use super::session::LogSession;
use crate::error::Error;
use crate::proto::session::Row;

/// The sizes of a log, and where its cursors are: what an operator looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct OutboxStatus {
    /// The type of the payloads.
    pub payload: PayloadType,
    /// The size of all partitions with their indexes, in bytes.
    pub bytes: u64,
    /// The size of the stored positions with their indexes, in bytes. Beyond 256 KiB they are rotated.
    pub position_bytes: u64,
    /// The highest id.
    pub highest_id: i64,
    /// The age of the oldest record, by the clock of the server.
    pub oldest: Option<Duration>,
    /// The limits: see [`OutboxSettings::max_age`](crate::durable::OutboxSettings::max_age).
    pub max_age: Option<Duration>,
    /// See [`max_age`](Self::max_age).
    pub max_bytes: Option<u64>,
    /// The cursors, by name.
    pub cursors: Vec<CursorStatus>,
}

/// Where a cursor is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CursorStatus {
    /// Its name.
    pub name: String,
    /// The name of its reader.
    pub reader: Option<String>,
    /// Its lease has not passed.
    pub is_leased: bool,
    /// The rest of its lease, if that has not passed.
    pub lease_left: Option<Duration>,
    /// How many readers have taken it.
    pub token: i64,
    /// The time since it has acknowledged something, or was taken.
    pub idle: Duration,
    /// The number of ids above its position: at least as many as the records that it will receive, because transactions that were rolled back
    /// use ids too. Records of transactions that commit late are not counted.
    pub lag: u64,
    /// The age of the oldest record above its position.
    pub lag_time: Option<Duration>,
    /// Records that were removed unread, if that has not been acknowledged yet.
    pub lost: u64,
    /// Its position is of this cluster. If not, the log must be [rebased](crate::durable::Outbox::rebase).
    pub is_of_this_cluster: bool,
    /// Its position as it is stored: for a report of a fault, in no documented form. `None` if none is stored.
    pub position: Option<String>,
}

impl OutboxStatus {
    pub(super) async fn read(session: &mut LogSession, names: &Names) -> Result<Self, Error> {
        let payload = check(session, names).await?;
        let log = session.query(&names.fill(include_str!("sql/status.sql")), &[]).await?;
        let cursors = session.query(&names.fill(include_str!("sql/cursors.sql")), &[]).await?;
        let row = log.get(0).ok_or_else(malformed)?;
        Ok(Self {
            payload,
            bytes: number(row, 0).unwrap_or_default(),
            position_bytes: number(row, 6).unwrap_or_default(),
            highest_id: number(row, 1).unwrap_or_default(),
            oldest: micros(row, 2),
            max_age: micros(row, 4),
            max_bytes: number(row, 5),
            cursors: cursors.iter().map(CursorStatus::from_row).collect(),
        })
    }
}

impl CursorStatus {
    fn from_row(row: Row<'_>) -> Self {
        let is_leased = row.get(2) == Some("t");
        Self {
            name: row.get(0).unwrap_or_default().to_owned(),
            reader: row.get(1).map(str::to_owned),
            is_leased,
            lease_left: micros(row, 9).filter(|_| is_leased),
            token: number(row, 3).unwrap_or_default(),
            idle: micros(row, 4).unwrap_or_default(),
            lag: number::<i64>(row, 5).and_then(|lag| u64::try_from(lag).ok()).unwrap_or_default(),
            lag_time: micros(row, 6),
            lost: number(row, 7).unwrap_or_default(),
            is_of_this_cluster: row.get(8) == Some("t"),
            position: row.get(10).map(str::to_owned),
        }
    }
}

fn number<T: std::str::FromStr>(row: Row<'_>, column: usize) -> Option<T> {
    row.get(column)?.parse().ok()
}

/// Returns a time in microseconds. A clock that was set back makes it zero.
fn micros(row: Row<'_>, column: usize) -> Option<Duration> {
    let micros: i64 = number(row, column)?;
    Some(Duration::from_micros(u64::try_from(micros).unwrap_or(0)))
}
