//! [`CursorSimulation`]: a run.

use super::cases::CursorCases;
use super::fault::{Fault, RunFailure};
use super::journal::Journal;
use super::reader::{Method, PendingPage, SimulatedReader};
use super::writers::{Content, WriterStep, Writers};
use crate::durable::memory::store::{FIRST_XID, Store};
use crate::durable::position::Position;
use crate::simulator::SimulatorRandom;

/// The highest number of rows in a page.
const LIMIT_MAX: u64 = 5;

/// The highest number of pages of a drain. More mean that it does not end.
const PAGES_MAX: u32 = 1_000;

pub(super) struct CursorSimulation {
    random: SimulatorRandom,
    store: Store<Content>,
    writers: Writers,
    journal: Journal,
    readers: Vec<SimulatedReader>,
    pub(super) cases: CursorCases,
    /// The steps, if they are recorded.
    pub(super) trace: Option<Vec<String>>,
}

impl CursorSimulation {
    pub(super) fn new(seed: u64, method: Method, is_traced: bool) -> Self {
        let mut random = SimulatorRandom::new(seed);
        // A young cluster, and some that are near the end of an epoch of 32 bits.
        let xid = random.pick(&[FIRST_XID, 9, 99_999, (1 << 32) - 9, (7 << 32) - 30, 1 << 62]);
        let readers = (0..random.range(1, 2)).map(|_| SimulatedReader::new(method)).collect();
        Self {
            random,
            store: Store::new(xid),
            writers: Writers::default(),
            journal: Journal::default(),
            readers,
            cases: CursorCases::default(),
            trace: is_traced.then(Vec::new),
        }
    }

    fn trace(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(line());
        }
    }

    pub(super) fn run(&mut self) -> Result<(), RunFailure> {
        for _ in 0..self.random.range(20, 110) {
            let reader = self.random.index(self.readers.len());
            match self.random.below(100) {
                0..66 => self.write(),
                66..82 => self.read(reader),
                82..91 => self.acknowledge(reader)?,
                91..94 => self.rewind(reader),
                94..97 => self.truncate(),
                _ => self.drain(reader)?,
            }
        }
        // What has committed must not wait for what has not.
        for reader in 0..self.readers.len() {
            self.drain(reader)?;
        }
        self.end_all();
        for reader in 0..self.readers.len() {
            self.drain(reader)?;
        }
        Ok(())
    }

    fn end_all(&mut self) {
        self.writers.end_all(&mut self.random, &mut self.store, &mut self.journal);
        self.trace(|| "every transaction ends".to_owned());
    }

    fn write(&mut self) {
        let step = self.writers.step(&mut self.random, &mut self.store, &mut self.journal);
        match step {
            WriterStep::Waits { .. } => self.cases.locked += 1,
            WriterStep::Aborted { records, .. } => self.cases.aborted += records as u64,
            _ => {}
        }
        self.trace(|| format!("writer: {step:?}"));
    }

    /// Reads a page. Other transactions continue between the snapshot of the statement and the xid that it assigns.
    fn read(&mut self, reader: usize) {
        let limit = usize::try_from(self.random.size(LIMIT_MAX)).unwrap();
        let page = self.readers[reader].read(&self.store, limit, &mut self.cases);
        let is_from_snapshot = page.needs_next();
        self.trace(|| format!("reader {reader}: at most {limit}: {page:?}"));
        if is_from_snapshot && self.random.chance(50) {
            self.cases.torn_reads += 1;
            for _ in 0..self.random.range(1, 4) {
                self.write();
            }
        }
        let mut next = 0;
        if is_from_snapshot {
            next = self.store.assign_xid();
            if self.random.chance(50) {
                // The transaction of the statement ends later than it could.
                self.writers.begin(next, false);
            } else {
                self.store.commit(next);
            }
        }
        self.readers[reader].take(page, next);
        self.trace(|| format!("reader {reader}: next {next}"));
    }

    /// Acknowledges some of the pages, as the acknowledgement of a later one does for those before it.
    fn acknowledge(&mut self, reader: usize) -> Result<(), RunFailure> {
        let pages = self.readers[reader].pending.len() as u64;
        if pages > 0 {
            let pages = self.random.range(1, pages);
            self.acknowledge_pages(reader, usize::try_from(pages).unwrap())?;
        }
        Ok(())
    }

    fn acknowledge_pages(&mut self, reader: usize, pages: usize) -> Result<(), RunFailure> {
        let SimulatedReader { acknowledged, position, pending, .. } = &mut self.readers[reader];
        let mut read = Vec::new();
        for PendingPage { after, records, late } in pending.drain(..pages) {
            self.journal.acknowledge(acknowledged, records.iter().copied())?;
            self.cases.acknowledged += records.len() as u64;
            self.cases.listed += late[0];
            self.cases.unlisted += late[1];
            *position = after;
            read.extend(records);
        }
        self.trace(|| format!("reader {reader}: acknowledged {read:?}"));
        Ok(())
    }

    /// The reader ends, and another one continues at the acknowledged position: as it is stored, as a text.
    fn rewind(&mut self, reader: usize) {
        let SimulatedReader { position, pending, .. } = &mut self.readers[reader];
        self.cases.rewinds += u64::from(!pending.is_empty());
        self.cases.rewinds_to_window += u64::from(!pending.is_empty() && position.window.is_some());
        pending.clear();
        *position = Position::parse(&position.to_string()).unwrap();
        self.trace(|| format!("reader {reader}: rewinds"));
    }

    /// Removes the oldest rows, if every reader has acknowledged them.
    fn truncate(&mut self) {
        let is_acknowledged =
            |xid| self.readers.iter().all(|reader| reader.position.lower.contains(xid));
        let kept = self.store.iter().find(|(_, xid, _)| !is_acknowledged(*xid));
        let below = kept.map_or(i64::MAX, |(id, ..)| id);
        let acknowledged = self.store.iter().take_while(|(id, ..)| *id < below).count() as u64;
        let removed = self.random.below(acknowledged + 1);
        let Some((below, ..)) = self.store.iter().nth(usize::try_from(removed).unwrap()) else {
            self.cases.truncated += removed;
            return self.store.truncate(i64::MAX);
        };
        self.store.truncate(below);
        self.cases.truncated += removed;
        self.trace(|| format!("truncated below {below}"));
    }

    /// Reads and acknowledges all there is. No transaction ends meanwhile, and those in progress must not keep back what has committed.
    fn drain(&mut self, reader: usize) -> Result<(), RunFailure> {
        self.cases.drains_beside_writers += u64::from(self.writers.has_open_records());
        self.cases.drains_beside_foreign += u64::from(self.writers.has_foreign());
        self.read_all(reader)?;
        let Some(missing) = self.missing(reader) else { return Ok(()) };
        let text = format!("record {missing} does not arrive in a drain of reader {reader}");
        self.end_all();
        self.read_all(reader)?;
        let fault = match self.missing(reader) {
            Some(_) => Fault::Missed,
            None => Fault::Stalled,
        };
        Err(RunFailure::new(fault, text))
    }

    fn missing(&self, reader: usize) -> Option<i64> {
        self.journal.missing(&self.readers[reader].acknowledged)
    }

    fn read_all(&mut self, reader: usize) -> Result<(), RunFailure> {
        for _ in 0..PAGES_MAX {
            let limit = usize::try_from(self.random.size(LIMIT_MAX)).unwrap();
            let page = self.readers[reader].read(&self.store, limit, &mut self.cases);
            let is_last = self.readers[reader].place().window.is_none() && page.is_empty();
            let next = if page.needs_next() { self.store.assign_xid() } else { 0 };
            self.trace(|| {
                format!("reader {reader}: drains, at most {limit}, next {next}: {page:?}")
            });
            self.readers[reader].take(page, next);
            if next > 0 {
                self.store.commit(next);
            }
            self.acknowledge_pages(reader, self.readers[reader].pending.len())?;
            if is_last {
                return Ok(());
            }
        }
        Err(RunFailure::new(Fault::Endless, format!("a drain of reader {reader} does not end")))
    }
}
