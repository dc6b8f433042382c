//! [`ScheduledReader`]: a cursor, with the one of the model.

use pgbell::ErrorKind;
use pgbell::durable::{Cursor, Outbox, Start};
use pgbell::{Connection, Listen};

use super::cases::ScheduleCases;
use super::fault::{Fault, RunFailure};
use super::model::{ModelCursor, ModelLog, ModelPage, Written};
use super::position::StoredPosition;
use super::writers::Writers;
use crate::dice::Dice;

/// The highest number of records in a page.
const PAGE_SIZE_MAX: u64 = 6;

/// The most receipts that are kept for later.
const RECEIPTS_MAX: usize = 4;

/// A receipt, and the cursor after its acknowledgement.
struct KeptReceipt {
    text: String,
    /// The reader and the position that it is for.
    reader: u64,
    version: u64,
    after: ModelCursor,
}

/// What belongs to all readers of a run.
pub(super) struct Context<'a> {
    pub(super) outbox: &'a Outbox,
    /// A session that acknowledges in transactions.
    pub(super) session: &'a mut Connection,
    pub(super) writers: &'a Writers,
    pub(super) log: &'a ModelLog,
    pub(super) dice: &'a mut Dice,
    pub(super) cases: &'a mut ScheduleCases,
    /// Compare positions too, and not only what is delivered.
    pub(super) checks_positions: bool,
}

pub(super) struct ScheduledReader {
    name: String,
    /// `None` only while it is opened again.
    cursor: Option<Cursor>,
    model: ModelCursor,
    /// The position that is stored, if it is known.
    stored: Option<StoredPosition>,
    /// Changes with each reader, and with each position.
    reader: u64,
    version: u64,
    receipts: Vec<KeptReceipt>,
}

async fn open(
    outbox: &Outbox,
    name: &str,
    start: Start,
    takes: bool,
) -> Result<Cursor, RunFailure> {
    let builder = outbox.cursor(name).start(start).listen(Listen::Disabled).rotate(false);
    let builder = if takes { builder.take_over() } else { builder };
    Ok(builder.open().await?)
}

impl ScheduledReader {
    pub(super) async fn new(
        outbox: &Outbox,
        name: &str,
        start: Start,
        log: &ModelLog,
    ) -> Result<Self, RunFailure> {
        let model = match start {
            Start::Now => ModelCursor::now(log),
            _ => ModelCursor::default(),
        };
        let cursor = Some(open(outbox, name, start, false).await?);
        let (name, receipts) = (name.to_owned(), Vec::new());
        Ok(Self { name, cursor, model, stored: None, reader: 0, version: 0, receipts })
    }

    /// Receives once, and acknowledges in one of several ways or not. Returns what it did, or none if there was nothing to receive.
    pub(super) async fn read(
        &mut self,
        context: &mut Context<'_>,
        acknowledges: bool,
    ) -> Result<Option<String>, RunFailure> {
        let Context { outbox, session, writers, log, dice, cases, checks_positions } = context;
        let limit = usize::try_from(1 + dice.below(PAGE_SIZE_MAX)).unwrap();
        let page = self.model.page(log, limit);
        let cursor = self.cursor.as_mut().expect("an open cursor");
        cursor.set_page_size(limit);
        let batch = cursor.try_next().await?;
        let Some(batch) = batch else {
            self.model.compare(log, page.as_ref().map_or(&[][..], |page| &page.ids), &[])?;
            return Ok(None);
        };
        let found: Vec<i64> = batch.iter().map(|record| record.id()).collect();
        let expected = page.as_ref().map_or(&[][..], |page| &page.ids);
        self.model.compare(log, expected, &found)?;
        let ModelPage { after, .. } = page.expect("an empty page is not delivered");
        for record in batch.iter() {
            let Written { id, xid, key, payload } = log.get(record.id()).expect("it was compared");
            if record.key() != key.to_string() || record.payload() != payload {
                return Err(RunFailure::new(Fault::Changed, format!("record {id}")));
            }
            cases.received += 1;
            let stored = self.stored.as_ref().filter(|stored| *id <= stored.high);
            cases.listed += u64::from(stored.is_some_and(|stored| stored.lists(*xid)));
            cases.unlisted += u64::from(stored.is_some_and(|stored| stored.xmax <= *xid));
        }
        let receipt = batch.receipt().to_string();
        let position = StoredPosition::of_receipt(&receipt)
            .ok_or_else(|| RunFailure::new(Fault::Position, receipt.clone()))?;
        let is_new_window = !self.model.is_in_window() || self.model.upper() != after.upper();
        cases.further_pages += u64::from(!is_new_window);
        cases.empty_pages += u64::from(self.model.is_in_window() && is_new_window);
        if *checks_positions {
            let highest_xid = if is_new_window { writers.highest_xid } else { 0 };
            position.check(&after, log, writers.open_records(), highest_xid)?;
        }
        let way = if acknowledges { 0 } else { dice.below(100) };
        let ack = outbox.ack_sql();
        let is_acknowledged = match way {
            0..50 => {
                batch.ack().await.map_err(|error| refused(&error))?;
                true
            }
            50..75 => {
                let is_commit = way < 65;
                session.simple_query("BEGIN").await?;
                session.query(&ack, &[Some(&receipt)]).await.map_err(|error| refused(&error))?;
                session.simple_query(if is_commit { "COMMIT" } else { "ROLLBACK" }).await?;
                cases.in_transaction += u64::from(is_commit);
                cases.rolled_back += u64::from(!is_commit);
                is_commit
            }
            75..80 => {
                // Twice.
                session.query(&ack, &[Some(&receipt)]).await.map_err(|error| refused(&error))?;
                match batch.ack().await {
                    Err(error) if error.kind() == ErrorKind::Fenced => {}
                    Err(error) => return Err(error.into()),
                    Ok(()) => return Err(RunFailure::new(Fault::Accepted, receipt)),
                }
                true
            }
            _ => {
                cases.left += 1;
                false
            }
        };
        if self.receipts.len() == RECEIPTS_MAX {
            self.receipts.remove(dice.index(RECEIPTS_MAX));
        }
        let (reader, version) = (self.reader, self.version);
        self.receipts.push(KeptReceipt { text: receipt, reader, version, after: after.clone() });
        if is_acknowledged {
            self.stored = Some(position);
            self.acknowledged(after, log)?;
        }
        Ok(Some(format!(
            "{} receives {found:?} with the limit {limit}, acknowledged: {is_acknowledged}",
            self.name
        )))
    }

    fn acknowledged(&mut self, after: ModelCursor, log: &ModelLog) -> Result<(), RunFailure> {
        self.model = after;
        self.version += 1;
        self.model.check_order(log)
    }

    /// Uses a receipt of before. It is valid if nothing has changed since.
    pub(super) async fn use_receipt(
        &mut self,
        context: &mut Context<'_>,
    ) -> Result<String, RunFailure> {
        let Context { outbox, session, log, dice, cases, .. } = context;
        if self.receipts.is_empty() {
            return Ok("nothing".to_owned());
        }
        // The last one is still valid if its batch was not acknowledged.
        let count = self.receipts.len();
        let index = if dice.chance(50) { count - 1 } else { dice.index(count) };
        let KeptReceipt { text, reader, version, after } = self.receipts.swap_remove(index);
        let (is_of_reader, is_valid) =
            (reader == self.reader, (reader, version) == (self.reader, self.version));
        let result = session.query(&outbox.ack_sql(), &[Some(&text)]).await;
        let expected = if is_of_reader { "PGB02" } else { "PGB01" };
        match result {
            Ok(_) if is_valid => {
                self.stored = StoredPosition::of_receipt(&text);
                self.acknowledged(after, log)?;
                cases.late_receipts += 1;
            }
            Ok(_) => return Err(RunFailure::new(Fault::Accepted, text)),
            Err(error) if !is_valid && error.sqlstate() == Some(expected) => {
                cases.stale_receipts += u64::from(is_of_reader);
                cases.fenced_receipts += u64::from(!is_of_reader);
            }
            Err(error) => return Err(refused(&error)),
        }
        Ok(format!("a receipt of {}, valid: {is_valid}", self.name))
    }

    /// Gives the cursor to another reader, which begins at the stored position.
    pub(super) async fn reopen(&mut self, context: &mut Context<'_>) -> Result<String, RunFailure> {
        let Context { outbox, dice, cases, .. } = context;
        let takes = dice.chance(50);
        let old = self.cursor.take().expect("an open cursor");
        let old = if takes {
            Some(old)
        } else {
            old.close().await;
            None
        };
        self.cursor = Some(open(outbox, &self.name, Start::Beginning, takes).await?);
        self.reader += 1;
        cases.reopened += u64::from(!takes);
        if let Some(mut old) = old {
            cases.taken += 1;
            match old.try_next().await {
                Err(error) if error.kind() == ErrorKind::Fenced => {}
                Err(error) => return Err(error.into()),
                Ok(_) => {
                    let text = "a reader that has lost its cursor receives";
                    return Err(RunFailure::new(Fault::Accepted, text));
                }
            }
        }
        Ok(format!("{} has another reader, taken over: {takes}", self.name))
    }

    /// Receives and acknowledges all there is.
    pub(super) async fn drain(&mut self, context: &mut Context<'_>) -> Result<String, RunFailure> {
        while self.read(context, true).await?.is_some() {}
        match self.model.missing(context.log) {
            Some(id) => Err(RunFailure::new(Fault::Missed, format!("{id} by {}", self.name))),
            None => Ok(format!("{} has received everything", self.name)),
        }
    }

    pub(super) async fn close(mut self) {
        if let Some(cursor) = self.cursor.take() {
            cursor.close().await;
        }
    }
}

/// The error of a receipt that should be accepted.
fn refused(error: &pgbell::Error) -> RunFailure {
    let is_refusal = error.kind() == ErrorKind::Fenced
        || matches!(error.sqlstate(), Some("PGB01" | "PGB02" | "PGB03" | "PGB04"));
    let fault = if is_refusal { Fault::Refused } else { Fault::Failed };
    RunFailure::new(fault, format!("{error:#}"))
}
