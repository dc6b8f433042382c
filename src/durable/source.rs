//! [`Source`]: where a cursor reads.

use super::batch::Receipt;
use super::memory::{AckRefusal, MemoryCursor, MemoryPage, StoredPosition};
use super::page::{Newest, Page};
use super::position::Position;
use super::record::Records;
use super::refusal::{fenced, no_cursor, stale};
use super::rotation::Rotation;
use super::server::ServerCursor;
use crate::error::Error;

/// Where a cursor reads: a server, or a log in memory.
#[derive(Debug)]
pub(super) enum Source {
    Server(Box<ServerCursor>),
    Memory(MemoryCursor),
}

impl Source {
    pub(super) fn cursor_id(&self) -> i64 {
        match self {
            Self::Server(server) => server.id,
            Self::Memory(cursor) => cursor.id,
        }
    }

    /// Reads a page of at most `limit` records. Returns the limit that was used too.
    pub(super) async fn read(
        &mut self,
        token: i64,
        place: &Position,
        limit: usize,
    ) -> Result<(Page, usize), Error> {
        match self {
            Self::Server(server) => server.read(token, place, limit).await,
            Self::Memory(cursor) => {
                let MemoryPage { newest, upper, records } =
                    cursor.read(place, limit).ok_or_else(no_cursor)?;
                let records = Records::Memory(records);
                Ok((Page { newest: newest.into(), upper, records }, limit))
            }
        }
    }

    /// Returns the stored position.
    pub(super) async fn position(&mut self) -> Result<Newest, Error> {
        match self {
            Self::Server(server) => server.position().await,
            Self::Memory(cursor) => Ok(cursor.newest().ok_or_else(no_cursor)?.into()),
        }
    }

    pub(super) async fn ack(&mut self, receipt: &Receipt) -> Result<(), Error> {
        match self {
            Self::Server(server) => server.ack(receipt).await,
            Self::Memory(cursor) => Ok(cursor.ack(&receipt.into()).await?),
        }
    }

    /// Extends the lease. Returns false if another reader has the cursor.
    pub(super) async fn renew(&mut self, token: i64) -> Result<bool, Error> {
        match self {
            Self::Server(server) => server.renew(token).await,
            Self::Memory(cursor) => Ok(cursor.renew(token)),
        }
    }

    /// Returns whether it can be reached without another session.
    pub(super) fn is_open(&self) -> bool {
        match self {
            Self::Server(server) => server.is_open(),
            Self::Memory(_) => true,
        }
    }

    /// Rotates the log. One in memory keeps everything.
    pub(super) async fn rotate(&mut self) -> Result<Rotation, Error> {
        match self {
            Self::Server(server) => server.rotate().await,
            Self::Memory(_) => Ok(Rotation { is_empty: true, ..Rotation::default() }),
        }
    }

    /// Waits for a wake-up, or for the interval.
    pub(super) async fn wait(&mut self) {
        match self {
            Self::Server(server) => server.wait().await,
            Self::Memory(cursor) => cursor.wait().await,
        }
    }

    /// Ends the lease.
    pub(super) async fn release(&mut self, token: i64) {
        match self {
            Self::Server(server) => server.release(token).await,
            Self::Memory(cursor) => cursor.release(token),
        }
    }

    pub(super) async fn close(self) {
        match self {
            Self::Server(server) => server.close().await,
            Self::Memory(_) => {}
        }
    }
}

impl From<StoredPosition> for Newest {
    fn from(stored: StoredPosition) -> Self {
        let StoredPosition { seq, token, position } = stored;
        Self { seq, token, nonce: "-".to_owned(), position, gap: None }
    }
}

impl From<&Receipt> for StoredPosition {
    fn from(receipt: &Receipt) -> Self {
        let Receipt { cursor: _, seq, token, nonce: _, position } = receipt.clone();
        Self { seq, token, position }
    }
}

impl From<AckRefusal> for Error {
    fn from(refusal: AckRefusal) -> Self {
        match refusal {
            AckRefusal::Fenced => fenced(),
            AckRefusal::Stale => stale(),
            AckRefusal::NoCursor => no_cursor(),
        }
    }
}
