//! [`Source`]: where a cursor reads.

use super::batch::Receipt;
use super::page::{Newest, Page};
use super::position::Position;
use super::rotation::Rotation;
use super::server::ServerCursor;
use crate::error::Error;

/// Where a cursor reads: a server, or a log in memory.
#[derive(Debug)]
pub(super) enum Source {
    Server(Box<ServerCursor>),
}

impl Source {
    pub(super) fn cursor_id(&self) -> i64 {
        match self {
            Self::Server(server) => server.id,
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
        }
    }

    /// Returns the stored position.
    pub(super) async fn position(&mut self) -> Result<Newest, Error> {
        match self {
            Self::Server(server) => server.position().await,
        }
    }

    pub(super) async fn ack(&mut self, receipt: &Receipt) -> Result<(), Error> {
        match self {
            Self::Server(server) => server.ack(receipt).await,
        }
    }

    /// Extends the lease. Returns false if another reader has the cursor.
    pub(super) async fn renew(&mut self, token: i64) -> Result<bool, Error> {
        match self {
            Self::Server(server) => server.renew(token).await,
        }
    }

    pub(super) async fn rotate(&mut self) -> Result<Rotation, Error> {
        match self {
            Self::Server(server) => server.rotate().await,
        }
    }

    /// Waits for a wake-up, or for the interval.
    pub(super) async fn wait(&mut self) {
        match self {
            Self::Server(server) => server.wait().await,
        }
    }

    pub(super) async fn close(self, token: i64) {
        match self {
            Self::Server(server) => server.close(token).await,
        }
    }
}
