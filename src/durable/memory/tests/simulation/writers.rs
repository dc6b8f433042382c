//! [`Writers`]: transactions that write the log, and foreign ones that only have an xid.

use super::journal::Journal;
use crate::durable::memory::store::Store;
use crate::simulator::SimulatorRandom;

/// The number of keys. There are few, so that writers meet.
pub(super) const KEYS: usize = 4;

/// What the store has of a record: the xid and the key.
pub(super) type Content = (u64, usize);

/// A record that a transaction has written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) id: i64,
    pub(super) key: usize,
}

/// A transaction with an xid.
#[derive(Debug)]
struct Writer {
    xid: u64,
    records: Vec<Written>,
    /// It ends only at the end of the run: a forgotten session, or a prepared transaction.
    is_forgotten: bool,
}

/// The transactions in progress.
#[derive(Debug, Default)]
pub(super) struct Writers {
    writers: Vec<Writer>,
    /// The transaction that has the lock of each key.
    locks: [Option<u64>; KEYS],
}

/// What one step of a writer did.
#[derive(Debug, Clone, Copy)]
#[allow(dead_code, reason = "the journal of a failed run shows them")]
pub(super) enum WriterStep {
    Begun { xid: u64, is_forgotten: bool },
    Wrote { xid: u64, record: Written },
    Waits { xid: u64, key: usize },
    Committed { xid: u64 },
    Aborted { xid: u64, records: usize },
    Nothing,
}

impl Writers {
    /// One step of a random transaction.
    pub(super) fn step(
        &mut self,
        random: &mut SimulatorRandom,
        store: &mut Store<Content>,
        journal: &mut Journal,
    ) -> WriterStep {
        if self.writers.len() < 2 || self.writers.len() < 6 && random.chance(20) {
            return self.begin(store.assign_xid(), random.chance(6));
        }
        let index = random.index(self.writers.len());
        if random.chance(55) {
            self.write(index, random, store)
        } else {
            self.end(index, random, store, journal)
        }
    }

    /// Adds a transaction that has got its xid by a write elsewhere. It is a foreign one until it writes here.
    pub(super) fn begin(&mut self, xid: u64, is_forgotten: bool) -> WriterStep {
        self.writers.push(Writer { xid, records: Vec::new(), is_forgotten });
        WriterStep::Begun { xid, is_forgotten }
    }

    fn write(
        &mut self,
        index: usize,
        random: &mut SimulatorRandom,
        store: &mut Store<Content>,
    ) -> WriterStep {
        let Writer { xid, records, .. } = &mut self.writers[index];
        let (xid, key) = (*xid, random.index(KEYS));
        if *self.locks[key].get_or_insert(xid) != xid {
            return WriterStep::Waits { xid, key };
        }
        let record = Written { id: store.insert(xid, (xid, key)), key };
        records.push(record);
        WriterStep::Wrote { xid, record }
    }

    fn end(
        &mut self,
        index: usize,
        random: &mut SimulatorRandom,
        store: &mut Store<Content>,
        journal: &mut Journal,
    ) -> WriterStep {
        if self.writers[index].is_forgotten {
            return WriterStep::Nothing;
        }
        let Writer { xid, records, .. } = self.writers.swap_remove(index);
        // Locks are released after the transaction has ended in every snapshot.
        let is_aborted = random.chance(25);
        if is_aborted {
            store.abort(xid);
        } else {
            store.commit(xid);
            journal.commit(&records);
        }
        for lock in &mut self.locks {
            *lock = lock.filter(|holder| *holder != xid);
        }
        if is_aborted {
            WriterStep::Aborted { xid, records: records.len() }
        } else {
            WriterStep::Committed { xid }
        }
    }

    /// Ends all transactions, in any order.
    pub(super) fn end_all(
        &mut self,
        random: &mut SimulatorRandom,
        store: &mut Store<Content>,
        journal: &mut Journal,
    ) {
        while !self.writers.is_empty() {
            let index = random.index(self.writers.len());
            self.writers[index].is_forgotten = false;
            self.end(index, random, store, journal);
        }
    }

    pub(super) fn has_open_records(&self) -> bool {
        self.writers.iter().any(|writer| !writer.records.is_empty())
    }

    pub(super) fn has_foreign(&self) -> bool {
        self.writers.iter().any(|writer| writer.records.is_empty())
    }
}
