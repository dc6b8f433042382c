//! [`Cursor`]: reads a log from its own position.

use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout};

use super::batch::{Batch, Delivery, Receipt};
use super::cursor_builder::PAGE_SIZE_MAX;
use super::cursor_handle::CursorHandle;
use super::gap::LogGap;
use super::page::{Newest, Page};
use super::position::Position;
use super::refusal::{fenced, is_retried, stale};
use super::rewinds::Rewinds;
use super::source::Source;
use super::stats::CursorStats;
use super::telemetry;
use crate::error::{Error, ErrorKind};
use crate::proto::supervisor::Backoff;

/// The shortest time between two rotations by one cursor.
const ROTATION_INTERVAL: Duration = Duration::from_secs(60);

/// The longest time of the rotation when a cursor is closed.
const LAST_ROTATION: Duration = Duration::from_secs(5);

/// A reader of a log with a name, and the position up to which its records are acknowledged.
///
/// ```text
///          ┌──────── not acknowledged, or rolled back ────────┐
///          ▼                                                  │
/// open ─▶ read ── no record ─▶ wait ── woken, interval ─▶ read
///          │                                                  ▲
///          └─▶ Batch ── ack, or the receipt in a transaction ─┘
///
/// session lost ─▶ delay ─▶ read        another reader takes over ─▶ ended
/// ```
///
/// Only one reader at a time has a cursor. Another one waits in [`open`](crate::durable::CursorBuilder::open) until it is closed, or until its
/// [lease](crate::durable::CursorBuilder::lease) has passed. What a reader acknowledges after that is refused.
///
/// Dropping a cursor ends its sessions; its lease stays, so the next reader waits for the rest of it. [`close`](Self::close) ends it.
#[derive(Debug)]
pub struct Cursor {
    name: String,
    source: Source,
    token: i64,
    page_size: usize,
    /// The position that is stored in the log, as far as it is known.
    stored: Position,
    /// Its nonce. None if an acknowledgement has stored it since the last read.
    nonce: Option<String>,
    /// From where the next page is read: `stored`, or later if what is between has no records.
    place: Position,
    /// The batch that was handed out, until it is known whether it was acknowledged.
    pending: Option<Pending>,
    /// Something may be there that was not read.
    must_read: bool,
    backoff: Backoff,
    rewinds: Rewinds,
    /// The error after which nothing is read any more.
    ended: Option<Error>,
    last_error: Option<Error>,
    rotates: bool,
    rotated: Instant,
    /// Something was acknowledged, and the log was not empty after the last rotation.
    has_progressed: bool,
    handle: CursorHandle,
}

/// A batch that was handed out.
#[derive(Debug)]
struct Pending {
    /// The number of the position from which it was read.
    seq: i64,
    /// The position after it.
    position: Position,
    gap: Option<LogGap>,
}

impl Pending {
    /// Returns whether a stored position is the one after the batch. A later change, such as a gap, has a higher number and the same position.
    fn is_stored(&self, seq: i64, position: &Position, gap: Option<LogGap>) -> bool {
        // A gap that was not acknowledged only grows. The position after a batch without records is that before it.
        let has_gap = self.gap.is_some_and(|old| {
            gap.is_some_and(|new| new.first() <= old.first() && new.records() >= old.records())
        });
        self.seq < seq && self.position == *position && !has_gap
    }
}

impl Cursor {
    pub(super) fn new(
        name: String,
        source: Source,
        token: i64,
        page_size: usize,
        rotates: bool,
        (backoff, rewind_backoff): (Backoff, Backoff),
    ) -> Self {
        telemetry::opened(&name, token);
        Self {
            name,
            source,
            token,
            page_size,
            // The first read returns the stored position, and begins again there.
            stored: Position::beginning(),
            nonce: None,
            place: Position::beginning(),
            pending: None,
            must_read: true,
            backoff,
            rewinds: Rewinds::new(rewind_backoff),
            ended: None,
            last_error: None,
            rotates,
            rotated: Instant::now(),
            has_progressed: false,
            handle: CursorHandle::default(),
        }
    }

    /// Waits for the next records: those after the position of the cursor.
    ///
    /// If the last batch was not acknowledged, or its transaction was rolled back, it is returned again: the first time at once, then after a
    /// growing [delay](crate::durable::CursorBuilder::backoff), until a batch is acknowledged. A lost session is opened again, with a growing delay too,
    /// and the position is read again then; [`last_error`](Self::last_error) returns why.
    ///
    /// # Errors
    /// - [`ErrorKind::Fenced`] if another reader has taken over the cursor. Every later call returns it too.
    /// - [`ErrorKind::Schema`] if the cursor or the log was deleted, if the tables are not as expected, or if the log was copied to another cluster.
    /// - [`ErrorKind::Unsupported`] if one record is larger than [`Config::result_limit_bytes`](crate::Config::result_limit_bytes).
    /// - The error of the server if it refuses the statement for another reason than a passing one. The next call tries again.
    ///
    /// # Panics
    /// Outside of a tokio runtime, and in a runtime without timers or I/O.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Result<Batch<'_>, Error> {
        loop {
            if !self.must_read {
                self.source.wait().await;
                self.must_read = true;
            }
            self.rewinds.wait().await;
            match self.read().await {
                Ok(Some(delivery)) => return Ok(Batch::new(self, delivery)),
                Ok(None) => {}
                Err(error) => self.wait_after(error).await?,
            }
        }
    }

    /// Returns the next records if there are any at the moment, without a delay after a batch that was not acknowledged. See [`next`](Self::next).
    ///
    /// # Errors
    /// As [`next`](Self::next); and the error of the session if it is lost. The next call opens another one.
    ///
    /// # Panics
    /// As [`next`](Self::next).
    ///
    /// # Cancel safety
    /// As [`next`](Self::next).
    pub async fn try_next(&mut self) -> Result<Option<Batch<'_>>, Error> {
        self.must_read = true;
        while self.must_read {
            match self.read().await {
                Ok(Some(delivery)) => return Ok(Some(Batch::new(self, delivery))),
                Ok(None) => {}
                Err(error) => {
                    self.failed(&error);
                    return Err(error);
                }
            }
        }
        Ok(None)
    }

    /// Reads once. If `must_read` is still set, it must be called again.
    async fn read(&mut self) -> Result<Option<Delivery>, Error> {
        if let Some(error) = &self.ended {
            return Err(error.clone());
        }
        if self.has_progressed && self.rotated.elapsed() >= ROTATION_INTERVAL {
            self.rotate().await;
        }
        // Whether the last batch was acknowledged is in the answer.
        let place = self.pending.as_ref().map_or(&self.place, |pending| &pending.position);
        let (page, limit) = self.source.read(self.token, place, self.page_size).await?;
        self.succeeded();
        Ok(self.handle_page(page, limit))
    }

    /// Rotates the log. If records are left, it is due again after a minute.
    async fn rotate(&mut self) {
        self.rotated = Instant::now();
        if !self.rotates {
            return;
        }
        match self.source.rotate().await {
            Ok(rotation) => {
                telemetry::rotated(&self.name, &rotation);
                self.has_progressed = !rotation.is_empty;
            }
            // A role may have no right to rotate; another reader may do it.
            Err(error) => {
                self.has_progressed = false;
                telemetry::not_rotated(&self.name, &error);
                self.failed(&error);
            }
        }
    }

    /// Decides what follows from a page.
    fn handle_page(&mut self, page: Page, limit: usize) -> Option<Delivery> {
        let Page { newest, upper, records } = page;
        let Newest { seq, token, nonce, position, gap } = newest;
        if token != self.token {
            telemetry::fenced(&self.name);
            self.ended = Some(fenced());
            return None;
        }
        let is_as_expected = match self.pending.take() {
            Some(pending) if pending.is_stored(seq, &position, gap) => {
                self.handle_acknowledged(pending);
                true
            }
            Some(_) => {
                telemetry::rewound(&self.name);
                self.handle.count(|stats| stats.rewinds += 1);
                self.rewinds.delay();
                false
            }
            // After a crash or a failover the nonce is another one: the server may have lost what the place, which is not stored, is after.
            None => {
                let is_same = self.nonce.get_or_insert_with(|| nonce.clone()) == &nonce;
                position == self.stored && (is_same || self.place == self.stored)
            }
        };
        if !is_as_expected {
            // The page began elsewhere.
            (self.stored, self.place) = (position.clone(), position);
            self.nonce = Some(nonce);
            return None;
        }
        self.nonce = Some(nonce.clone());
        let is_full = records.len() >= limit;
        let after = match &upper {
            Some(upper) => self.place.after_page(upper, records.last_id(), is_full),
            None => self.place.clone(),
        };
        if records.is_empty() && gap.is_none() {
            // A window without further records is followed by the next one.
            self.must_read = self.place.window.is_some();
            self.place = after;
            return None;
        }
        self.handle.count(|stats| {
            stats.batches += 1;
            stats.records += u64::try_from(records.len()).unwrap_or(u64::MAX);
        });
        if let Some(gap) = gap {
            telemetry::lost(&self.name, gap);
        }
        self.pending = Some(Pending { seq, position: after.clone(), gap });
        let receipt =
            Receipt { cursor: self.source.cursor_id(), seq, token, nonce, position: after };
        Some(Delivery { records, gap, receipt, is_full })
    }

    fn handle_acknowledged(&mut self, Pending { position, gap, .. }: Pending) {
        let lost = gap.map_or(0, |gap| gap.records());
        self.handle.count(|stats| {
            stats.acknowledged += 1;
            stats.lost = stats.lost.saturating_add(lost);
        });
        self.has_progressed = true;
        self.rewinds.reset();
        self.nonce = None;
        (self.stored, self.place) = (position.clone(), position);
    }

    /// Acknowledges the batch that was handed out.
    pub(super) async fn acknowledge(
        &mut self,
        receipt: Receipt,
        is_full: bool,
    ) -> Result<(), Error> {
        let gap = self.pending.as_ref().and_then(|pending| pending.gap);
        let after = Pending { seq: receipt.seq, position: receipt.position.clone(), gap };
        let mut is_in_doubt = false;
        while let Err(error) = self.source.ack(&receipt).await {
            // The call before may be committed at any time, also while this one waits for it.
            if !(is_retried(&error) || is_in_doubt && error.kind() == ErrorKind::Fenced) {
                return Err(self.refused(error));
            }
            if is_retried(&error) {
                self.wait_after(error).await?;
            }
            is_in_doubt = true;
            let newest = self.newest().await?;
            if newest.token != receipt.token {
                return Err(self.refused(fenced()));
            } else if after.is_stored(newest.seq, &newest.position, newest.gap) {
                break;
            } else if (newest.seq, &newest.nonce) != (receipt.seq, &receipt.nonce) {
                // Another change, or the server has lost the end of its log meanwhile.
                return Err(self.refused(stale()));
            }
        }
        self.succeeded();
        if let Some(pending) = self.pending.take() {
            self.handle_acknowledged(pending);
        }
        // What is committed after the page was read wakes the cursor.
        self.must_read = is_full;
        Ok(())
    }

    /// Returns the stored position, as soon as the server answers.
    async fn newest(&mut self) -> Result<Newest, Error> {
        loop {
            match self.source.position().await {
                Err(error) => self.wait_after(error).await?,
                Ok(newest) => return Ok(newest),
            }
        }
    }

    /// Takes the refusal of an acknowledgement: the next read finds the stored position, and whether another reader has the cursor.
    fn refused(&mut self, error: Error) -> Error {
        self.must_read = true;
        error
    }

    fn failed(&mut self, error: &Error) {
        self.last_error = Some(error.clone().brief());
        self.handle.failed(error);
    }

    /// The server has answered.
    fn succeeded(&mut self) {
        self.backoff.reset();
        self.handle.retrying(false);
    }

    /// Waits before the next attempt, if the error may pass.
    ///
    /// # Errors
    /// The error, if it does not pass.
    async fn wait_after(&mut self, error: Error) -> Result<(), Error> {
        self.failed(&error);
        if self.ended.is_some() || !is_retried(&error) {
            self.handle.retrying(false);
            return Err(error);
        }
        self.handle.count(|stats| stats.retries += 1);
        self.handle.retrying(true);
        let delay = self.backoff.next();
        telemetry::retrying(&self.name, &error, delay);
        sleep(delay).await;
        Ok(())
    }

    pub(super) async fn renew(&mut self) -> Result<(), Error> {
        if self.source.renew(self.token).await? { Ok(()) } else { Err(fenced()) }
    }

    /// Sets the highest number of records of the next batches, from one to 1,000,000: see [`CursorBuilder::page_size`](crate::durable::CursorBuilder::page_size).
    pub fn set_page_size(&mut self, records: usize) {
        self.page_size = records.clamp(1, PAGE_SIZE_MAX);
    }

    /// Returns the name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the counters.
    #[must_use]
    pub fn stats(&self) -> CursorStats {
        self.handle.stats()
    }

    /// Returns a handle, which shows the counters and the last error also while a call of the cursor waits.
    #[must_use]
    pub fn handle(&self) -> CursorHandle {
        self.handle.clone()
    }

    /// Returns the last error of a call of the server, also if the call was made again and succeeded then.
    #[must_use]
    pub fn last_error(&self) -> Option<&Error> {
        self.last_error.as_ref()
    }

    /// Ends the lease, so that another reader need not wait for it, [rotates](crate::durable::Outbox::rotate) the log if something was acknowledged since
    /// the last time, for at most 5 s, and ends the sessions.
    ///
    /// # Cancel safety
    /// If the future is dropped, the sessions end, and the lease may stay.
    pub async fn close(mut self) {
        self.source.release(self.token).await;
        if self.has_progressed && self.ended.is_none() && self.source.is_open() {
            // If it takes longer, another reader may do it.
            let _ = timeout(LAST_ROTATION, self.rotate()).await;
        }
        self.source.close().await;
    }
}
