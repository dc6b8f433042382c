//! [`Writer`]: a session with transactions of every kind.

use std::time::Duration;

use pgbell::durable::Outbox;
use tokio::time::sleep;
use tokio_postgres::{Client, Statement};

use super::ledger::Entry;
use crate::outcome::Outcome;
use crate::publishing::sessions;

/// The keys that all writers have in common.
pub(super) const KEYS: u64 = 64;

/// The longest time between the last record of a transaction and its end.
const LATE_MAX_MS: u64 = 100;

/// How a transaction ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Commit,
    Rollback,
    /// In two phases.
    CommitPrepared,
    RollbackPrepared,
}

/// A session that writes.
pub(super) struct Writer {
    client: Client,
    lock: Statement,
    count: Statement,
    insert: Statement,
    number: u64,
    serial: u64,
    random: Random,
}

impl Writer {
    /// Opens the session. `number` is different for each writer.
    pub(super) async fn open(conninfo: &str, log: &Outbox, number: u64) -> Outcome<Self> {
        let client = sessions::open(conninfo).await?;
        let lock = client.prepare("SELECT counter FROM keys WHERE key = $1 FOR UPDATE").await?;
        let count = client.prepare("UPDATE keys SET counter = counter + 1 WHERE key = $1").await?;
        let insert = client.prepare(&log.insert_sql()).await?;
        Ok(Self { client, lock, count, insert, number, serial: 0, random: Random::new(number) })
    }

    /// Runs one transaction. Returns what it has committed.
    pub(super) async fn transact(&mut self) -> Outcome<Vec<Entry>> {
        self.client.batch_execute("BEGIN").await?;
        let mut written = Vec::new();
        let count = 1 + self.random.below(3);
        let mut keys: Vec<u64> = (0..count).map(|_| self.random.below(KEYS)).collect();
        // In this order there are no deadlocks. The same key twice is two records.
        keys.sort_unstable();
        for key in keys {
            match self.random.below(5) {
                0 => {
                    self.client.batch_execute("SAVEPOINT one").await?;
                    self.write(key).await?;
                    self.client.batch_execute("ROLLBACK TO one").await?;
                }
                1 => {
                    self.client.batch_execute("SAVEPOINT one").await?;
                    written.push(self.write(key).await?);
                    self.client.batch_execute("RELEASE one").await?;
                }
                _ => written.push(self.write(key).await?),
            }
        }
        let (is_late, end) = match self.random.below(20) {
            0..10 => (false, End::Commit),
            10..14 => (true, End::Commit),
            14 => (false, End::Rollback),
            15 => (true, End::Rollback),
            16..19 => (true, End::CommitPrepared),
            _ => (true, End::RollbackPrepared),
        };
        self.end(end, is_late).await?;
        if matches!(end, End::Rollback | End::RollbackPrepared) {
            written.clear();
        }
        Ok(written)
    }

    async fn write(&mut self, key: u64) -> Outcome<Entry> {
        self.serial += 1;
        let name = key.to_string();
        let counter: i64 = self.client.query_one(&self.lock, &[&name]).await?.get(0);
        self.client.execute(&self.count, &[&name]).await?;
        let serial = self.number << 32 | self.serial;
        let entry = Entry { key, counter: u64::try_from(counter)? + 1, serial };
        self.client.execute(&self.insert, &[&name, &entry.payload()]).await?;
        Ok(entry)
    }

    async fn end(&mut self, end: End, is_late: bool) -> Outcome<()> {
        let late = Duration::from_millis(5 + self.random.below(LATE_MAX_MS - 5));
        if is_late && matches!(end, End::Commit | End::Rollback) {
            sleep(late).await;
        }
        let name = format!("{} {}", self.number, self.serial);
        let sql = match end {
            End::Commit => return Ok(self.client.batch_execute("COMMIT").await?),
            End::Rollback => return Ok(self.client.batch_execute("ROLLBACK").await?),
            End::CommitPrepared => format!("COMMIT PREPARED '{name}'"),
            End::RollbackPrepared => format!("ROLLBACK PREPARED '{name}'"),
        };
        self.client.batch_execute(&format!("PREPARE TRANSACTION '{name}'")).await?;
        sleep(late).await;
        Ok(self.client.batch_execute(&sql).await?)
    }
}

/// Numbers that are the same in each run: xorshift.
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    /// Returns a number below `limit`.
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }
}
