//! [`Ledger`]: what was committed to a log, and what was received.

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use serde::{Deserialize, Serialize};

/// A record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Entry {
    pub(super) key: u64,
    /// The number of the record within its key. A rolled-back transaction takes none.
    pub(super) counter: u64,
    /// Different for each attempt to write a record.
    pub(super) serial: u64,
}

impl Entry {
    pub(super) fn payload(&self) -> String {
        format!("{} {}", self.counter, self.serial)
    }

    pub(super) fn parse(key: &str, payload: &str) -> Option<Self> {
        let (counter, serial) = payload.split_once(' ')?;
        Some(Self {
            key: key.parse().ok()?,
            counter: counter.parse().ok()?,
            serial: serial.parse().ok()?,
        })
    }
}

/// Collects the records of the writers and of the readers.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    committed: HashMap<Entry, Instant>,
    received: Vec<(Entry, Instant)>,
}

/// What was found.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Findings {
    pub(super) committed: u64,
    pub(super) missed: u64,
    /// After a later one of the same key.
    pub(super) reordered: u64,
    pub(super) twice: u64,
    /// Of transactions that were rolled back.
    pub(super) not_committed: u64,
    /// Milliseconds from each commit to the handler.
    pub(super) lags_ms: Vec<f64>,
}

impl Ledger {
    /// Takes the records of a transaction whose commit has returned.
    pub(super) fn committed(&mut self, entries: &[Entry], at: Instant) {
        self.committed.extend(entries.iter().map(|entry| (*entry, at)));
    }

    pub(super) fn received(&mut self, entry: Entry, at: Instant) {
        self.received.push((entry, at));
    }

    /// Compares both.
    pub(super) fn compare(&self) -> Findings {
        let mut found = Findings { committed: self.committed.len() as u64, ..Findings::default() };
        let mut seen = HashSet::new();
        let mut highest = HashMap::new();
        for (entry, at) in &self.received {
            let Some(committed_at) = self.committed.get(entry) else {
                found.not_committed += 1;
                continue;
            };
            if !seen.insert(entry) {
                found.twice += 1;
                continue;
            }
            let highest = highest.entry(entry.key).or_insert(0);
            if entry.counter < *highest {
                found.reordered += 1;
            }
            *highest = entry.counter.max(*highest);
            // A handler can be faster than the answer to the commit.
            let lag = at.saturating_duration_since(*committed_at);
            found.lags_ms.push(lag.as_secs_f64() * 1e3);
        }
        found.missed = found.committed - seen.len() as u64;
        found
    }

    /// Returns the number of committed records that are not in `serials`.
    pub(super) fn missing(&self, serials: &HashSet<u64>) -> u64 {
        self.committed.keys().filter(|entry| !serials.contains(&entry.serial)).count() as u64
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn every_fault_of_a_reader_is_counted() {
        let (begin, mut ledger) = (Instant::now(), Ledger::default());
        let entry = |key, counter, serial| Entry { key, counter, serial };
        let all = [entry(1, 1, 10), entry(1, 2, 11), entry(2, 1, 12), entry(2, 2, 13)];
        ledger.committed(&all, begin + Duration::from_millis(4));
        let rolled_back = entry(3, 1, 14);
        for (received, at) in
            [(all[1], 6), (all[0], 3), (all[2], 9), (all[2], 12), (rolled_back, 12)]
        {
            let parsed = Entry::parse(&received.key.to_string(), &received.payload());
            ledger.received(parsed.unwrap(), begin + Duration::from_millis(at));
        }
        let found = ledger.compare();
        let expected = Findings {
            committed: 4,
            missed: 1,
            reordered: 1,
            twice: 1,
            not_committed: 1,
            lags_ms: vec![2.0, 0.0, 5.0],
        };
        assert_eq!(found, expected);
        assert_eq!(ledger.missing(&[10, 12].into()), 2);
        assert_eq!(Entry::parse("a", "1 2"), None);
        assert_eq!(Entry::parse("1", "1"), None);
    }
}
