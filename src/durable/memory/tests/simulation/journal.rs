//! [`Journal`]: what has committed, and the check of what is acknowledged.

use super::fault::{Fault, RunFailure};
use super::writers::{KEYS, Written};

/// The committed records of each key, in their order.
#[derive(Debug, Default)]
pub(super) struct Journal {
    committed: [Vec<i64>; KEYS],
}

/// How many records of each key a reader has acknowledged.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Acknowledged([usize; KEYS]);

impl Journal {
    /// Adds the records of a transaction that commits. No other one has written their keys since it began to.
    pub(super) fn commit(&mut self, records: &[Written]) {
        for record in records {
            self.committed[record.key].push(record.id);
        }
    }

    /// Checks that each record of a page is the next one of its key. So none is missed before it, none is repeated, and none is of a transaction
    /// that is in progress or aborted.
    pub(super) fn acknowledge(
        &self,
        reader: &mut Acknowledged,
        records: impl Iterator<Item = Written>,
    ) -> Result<(), RunFailure> {
        for Written { id, key } in records {
            let (before, after) = self.committed[key].split_at(reader.0[key]);
            if after.first() != Some(&id) {
                let fault = match (before.contains(&id), after.contains(&id)) {
                    (true, _) => Fault::Repeated,
                    (_, true) => Fault::Reordered,
                    _ => Fault::Uncommitted,
                };
                let what = format!("after {before:?} of key {key}, {id} arrives before {after:?}");
                return Err(RunFailure::new(fault, what));
            }
            reader.0[key] += 1;
        }
        Ok(())
    }

    /// Returns a committed record that is not acknowledged.
    pub(super) fn missing(&self, reader: &Acknowledged) -> Option<i64> {
        let keys = self.committed.iter().zip(reader.0);
        keys.filter_map(|(committed, acknowledged)| committed.get(acknowledged)).next().copied()
    }
}
