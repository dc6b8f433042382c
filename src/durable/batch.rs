//! [`Batch`]: records that are received together, and [`Receipt`]: what acknowledges them.

use std::fmt;

use super::cursor::Cursor;
use super::gap::LogGap;
use super::position::Position;
use super::record::{Record, Records};
use crate::error::Error;

/// Acknowledges a batch.
///
/// Its text is the only argument of the function `…_ack` of the log, which acknowledges the batch in a transaction of any driver:
///
/// ```sql
/// BEGIN;
/// UPDATE accounts SET balance = balance + 5 WHERE id = 7;
/// SELECT shop.outbox_ack($1);
/// COMMIT;
/// ```
///
/// The function raises if another reader has taken over the cursor (`PGB01`), or if the batch was acknowledged already (`PGB02`). It raises that also
/// for a batch that was received before a restart, a crash or a failover of the server, which may have lost it. Then the whole transaction fails: its effects
/// happen exactly once. If the transaction is rolled back, the cursor returns the records again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    pub(super) cursor: i64,
    pub(super) seq: i64,
    pub(super) token: i64,
    /// That of the position from which the batch was read.
    pub(super) nonce: String,
    /// The position after the batch.
    pub(super) position: Position,
}

/// Writes the argument of the function `…_ack`.
impl fmt::Display for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cursor, seq, token, nonce, position } = self;
        write!(f, "{cursor} {seq} {token} {nonce} {position}")
    }
}

/// Records that a [`Cursor`] has received, in the order of their ids.
///
/// They are the first ones after the position of the cursor, so the next call of [`Cursor::next`] returns the same records again if the batch was not
/// acknowledged: with [`ack`](Self::ack), or with the [`receipt`](Self::receipt) in a transaction of the user.
#[derive(Debug)]
#[must_use = "records that are not acknowledged are received again"]
pub struct Batch<'a> {
    cursor: &'a mut Cursor,
    delivery: Delivery,
}

/// What a batch contains.
#[derive(Debug)]
pub(super) struct Delivery {
    pub(super) records: Records,
    pub(super) gap: Option<LogGap>,
    pub(super) receipt: Receipt,
    /// There may be more records.
    pub(super) is_full: bool,
}

impl<'a> Batch<'a> {
    pub(super) fn new(cursor: &'a mut Cursor, delivery: Delivery) -> Self {
        Self { cursor, delivery }
    }

    fn records(&self) -> &Records {
        &self.delivery.records
    }

    /// Returns the number of records. It can be zero only if there is a [gap](Self::gap).
    #[must_use]
    pub fn len(&self) -> usize {
        self.records().len()
    }

    /// Returns true if there are no records.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the records.
    #[must_use]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Record<'_>> {
        let records = self.records();
        // Each record was parsed when the page was received.
        (0..records.len()).map(|index| records.get(index).unwrap_or_else(Record::missing))
    }

    /// Returns a record by its number in the batch, from 0.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<Record<'_>> {
        self.records().get(index)
    }

    /// Returns the loss that happened before these records, if there is one. It is reported until the batch is acknowledged.
    #[must_use]
    pub fn gap(&self) -> Option<LogGap> {
        self.delivery.gap
    }

    /// Returns what acknowledges the batch in a transaction of the user. Within that transaction call the function `…_ack` with it: see
    /// [`Receipt`].
    #[must_use]
    pub fn receipt(&self) -> Receipt {
        self.delivery.receipt.clone()
    }

    /// Acknowledges the batch, and waits until that is committed.
    ///
    /// If the session is lost meanwhile, it is opened again, and the position says whether the acknowledgement was committed. This is tried
    /// until it succeeds, with a delay between the attempts.
    ///
    /// # Errors
    /// - [`ErrorKind::Fenced`](crate::ErrorKind::Fenced) if another reader has taken over the cursor, if the position of the cursor has changed, or if the
    ///   server was restarted, or replaced by a standby, after the batch was received: it may have lost what the batch contains.
    ///   The records were not acknowledged by this call: they are received again, by that reader or by the next call.
    /// - [`ErrorKind::Schema`](crate::ErrorKind::Schema) if the cursor was deleted, or the log is not as expected.
    /// - The error of the server if it refuses the statement for another reason than a passing one.
    ///
    /// # Cancel safety
    /// If the future is dropped, the batch may be acknowledged or not. The next call of [`Cursor::next`] finds that out.
    pub async fn ack(self) -> Result<(), Error> {
        let Delivery { receipt, is_full, .. } = self.delivery;
        self.cursor.acknowledge(receipt, is_full).await
    }

    /// Extends the lease of the cursor, for a batch that takes long. See [`CursorBuilder::lease`](crate::durable::CursorBuilder::lease).
    ///
    /// # Errors
    /// [`ErrorKind::Fenced`](crate::ErrorKind::Fenced) if another reader has taken over the cursor; otherwise the error of the session.
    ///
    /// # Cancel safety
    /// If the future is dropped, the lease may be extended or not.
    pub async fn renew(&mut self) -> Result<(), Error> {
        self.cursor.renew().await
    }
}
