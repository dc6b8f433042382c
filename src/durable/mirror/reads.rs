//! [`Reads`]: a read, from its statements to what the store shows.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use super::draft::{Changes, Draft, LeftOut};
use super::machine::Read;
use super::reader::{Reader, Refreshed};
use super::rules::Rules;
use super::shared::Shared;
use super::telemetry;
use crate::error::Error;

pub(super) struct Reads<V> {
    shared: Arc<Shared<V>>,
    rules: Rules<V>,
    reader: Reader,
}

/// What a read that has succeeded has read.
#[derive(Debug)]
pub(super) struct Done {
    /// The keys whose rows were read. `None`: all rows.
    pub(super) keys: Option<BTreeSet<String>>,
    /// The error of a key that was not valid.
    pub(super) invalid: Option<Error>,
}

impl<V> Reads<V> {
    pub(super) fn new(shared: Arc<Shared<V>>, rules: Rules<V>, reader: Reader) -> Self {
        Self { shared, rules, reader }
    }

    /// Loads all rows, of which each must be decoded.
    pub(super) async fn first_load(&mut self) -> Result<(), Error> {
        let begun = Instant::now();
        // What a refresh needs and is not there is an error now, and not at the first notification.
        self.reader.refresh(BTreeSet::new()).await?;
        self.load(true).await?;
        telemetry::loaded(&self.shared.name, self.shared.store.rows(), begun.elapsed());
        Ok(())
    }

    /// Ends the session with Terminate.
    pub(super) async fn close(&mut self) {
        self.reader.close().await;
    }

    /// Reads. If the future is dropped, the next read must be in a new session.
    pub(super) async fn run(&mut self, read: Read) -> Result<Done, Error> {
        match read {
            Read::Keys(keys) => self.refresh(keys).await,
            Read::All { reopens } => {
                if reopens {
                    self.reader.reopen();
                }
                self.load(false).await?;
                Ok(Done { keys: None, invalid: None })
            }
        }
    }

    /// Reads all rows.
    async fn load(&mut self, is_first: bool) -> Result<(), Error> {
        let (begun, started) = (SystemTime::now(), Instant::now());
        let store = &self.shared.store;
        let draft = loop {
            let mut draft = Draft::new(&self.rules, store);
            let add = |rows: &_| {
                let bytes = draft.add(rows)?;
                match draft.error().filter(|_| is_first) {
                    Some(error) => Err(error.clone()),
                    None => Ok(bytes),
                }
            };
            match self.reader.load(add).await {
                Ok(()) => break draft,
                Err(_) if self.reader.fetches_less() => {}
                Err(error) => return Err(error),
            }
        };
        let (rows, changes, left_out) = draft.replace();
        telemetry::reloaded(&self.shared.name, rows, changes, started.elapsed());
        {
            let mut facts = self.shared.facts();
            (facts.loaded_at, facts.read_at) = (begun, begun);
            facts.stats.loads += 1;
        }
        self.handle_read(rows, changes, &left_out);
        Ok(())
    }

    /// Reads the rows of some keys.
    async fn refresh(&mut self, keys: BTreeSet<String>) -> Result<Done, Error> {
        let begun = SystemTime::now();
        let Refreshed { answers, keys, mut invalid } = self.reader.refresh(keys).await?;
        let store = &self.shared.store;
        let changes = Changes::new(&self.rules, store, &answers)?;
        let (mut vanished, unknown) = changes.missing(store, &keys);
        if !unknown.is_empty() {
            let (canonical, refused) = self.reader.canonical(unknown.into_iter().collect()).await?;
            let canonical: BTreeSet<String> = canonical.into_iter().collect();
            invalid.count += refused.count;
            invalid.error = invalid.error.or(refused.error);
            vanished.extend(changes.missing(store, &canonical).0);
        }
        let rows = changes.rows;
        let (changed, left_out) = changes.show(store, &vanished);
        {
            let mut facts = self.shared.facts();
            if !keys.is_empty() {
                facts.read_at = begun;
                facts.stats.refreshes += 1;
            }
            facts.stats.keys += count(keys.len());
            facts.stats.invalid_keys += count(invalid.count);
        }
        self.handle_read(rows, changed, &left_out);
        Ok(Done { keys: Some(keys), invalid: invalid.error })
    }

    fn handle_read(&self, rows: usize, changes: usize, left_out: &LeftOut) {
        {
            let stats = &mut self.shared.facts().stats;
            stats.rows += count(rows);
            stats.changes += count(changes);
            stats.undecodable += left_out.count;
        }
        if let Some(error) = &left_out.error {
            telemetry::undecodable(&self.shared.name, error, left_out.count);
            self.shared.set_last_error(error);
        }
    }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
