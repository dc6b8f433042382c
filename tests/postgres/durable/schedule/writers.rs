//! [`Writers`]: sessions with transactions, of which some write the log, and prepared transactions.

use pgbell::Connection;

use super::cases::ScheduleCases;
use super::fault::RunFailure;
use super::model::{KEYS, ModelLog, Written};
use crate::dice::Dice;

/// The number of sessions.
const SESSIONS: usize = 5;

/// A transaction in progress.
#[derive(Debug)]
struct Transaction {
    number: u64,
    records: Vec<Written>,
    /// It only has an xid, and writes no record.
    is_foreign: bool,
}

/// A session, with its transaction if it has one.
struct Session {
    connection: Connection,
    open: Option<Transaction>,
}

/// A table that foreign transactions write to.
pub(super) const OTHER: &str = "CREATE TABLE IF NOT EXISTS public.other (n bigint)";

pub(super) struct Writers {
    /// The table of the log, with its schema.
    table: String,
    sessions: Vec<Session>,
    prepared: Vec<Transaction>,
    /// The transaction that has each key: the others would wait for it.
    locks: [Option<u64>; KEYS],
    begun: u64,
    written: u64,
    /// The highest xid of those that were asked for.
    pub(super) highest_xid: u64,
}

impl Writers {
    pub(super) fn new(table: String, connections: Vec<Connection>) -> Self {
        let sessions =
            connections.into_iter().map(|connection| Session { connection, open: None }).collect();
        let (prepared, locks) = (Vec::new(), [None; KEYS]);
        Self { table, sessions, prepared, locks, begun: 0, written: 0, highest_xid: 0 }
    }

    /// The number of connections that are needed.
    pub(super) fn sessions() -> usize {
        SESSIONS
    }

    /// The ids and xids of the records of transactions in progress.
    pub(super) fn open_records(&self) -> impl Iterator<Item = (i64, u64)> {
        let open = self.sessions.iter().filter_map(|session| session.open.as_ref());
        let records = open.chain(&self.prepared).flat_map(|transaction| &transaction.records);
        records.map(|record| (record.id, record.xid))
    }

    /// One step of a random transaction. Returns what it did.
    pub(super) async fn step(
        &mut self,
        dice: &mut Dice,
        log: &mut ModelLog,
        cases: &mut ScheduleCases,
    ) -> Result<String, RunFailure> {
        if !self.prepared.is_empty() && dice.chance(8) {
            return self.end_prepared(dice, log).await;
        }
        let index = dice.index(self.sessions.len());
        let Some(transaction) = &self.sessions[index].open else {
            let other = self.sessions.iter().rposition(|session| session.open.is_none());
            return match other.filter(|other| *other != index && dice.chance(25)) {
                Some(other) => self.overtake(index, other, dice, log).await,
                None => self.begin(index, dice).await,
            };
        };
        let (number, is_foreign) = (transaction.number, transaction.is_foreign);
        match dice.below(100) {
            0..62 if is_foreign => self.crowd(index, dice, cases).await,
            0..50 => self.write(index, dice).await,
            50..62 => self.write_in_savepoint(index, dice).await,
            62..84 => {
                self.sessions[index].connection.simple_query("COMMIT").await?;
                self.commit(index, log);
                Ok(format!("{number} commits"))
            }
            84..92 => {
                self.sessions[index].connection.simple_query("ROLLBACK").await?;
                self.take(index);
                Ok(format!("{number} is rolled back"))
            }
            _ if self.prepared.len() < 3 => {
                let sql = format!("PREPARE TRANSACTION '{number}'");
                self.sessions[index].connection.simple_query(&sql).await?;
                self.prepared.extend(self.sessions[index].open.take());
                cases.prepared += 1;
                Ok(format!("{number} is prepared"))
            }
            _ => Ok("nothing".to_owned()),
        }
    }

    async fn begin(&mut self, index: usize, dice: &mut Dice) -> Result<String, RunFailure> {
        self.begun += 1;
        let (number, is_foreign) = (self.begun, dice.chance(15));
        let has_xid = is_foreign || dice.chance(40);
        let level = if dice.chance(20) { "REPEATABLE READ" } else { "READ COMMITTED" };
        let begin = format!("BEGIN ISOLATION LEVEL {level}");
        let connection = &mut self.sessions[index].connection;
        connection.simple_query(&begin).await?;
        if has_xid {
            let rows = connection.simple_query("SELECT pg_current_xact_id()").await?;
            let xid = rows[0].get(0).unwrap().get(0).unwrap().parse().unwrap();
            self.highest_xid = self.highest_xid.max(xid);
        }
        self.sessions[index].open = Some(Transaction { number, records: Vec::new(), is_foreign });
        Ok(format!("{number} begins, has an xid: {has_xid}, foreign: {is_foreign}"))
    }

    /// A transaction commits whose xid is lower than that of one in progress, and whose ids are higher: a snapshot does not list the latter.
    async fn overtake(
        &mut self,
        first: usize,
        second: usize,
        dice: &mut Dice,
        log: &mut ModelLog,
    ) -> Result<String, RunFailure> {
        let mut text = Vec::new();
        text.push(self.begin(first, dice).await?);
        let connection = &mut self.sessions[first].connection;
        connection.simple_query("SELECT pg_current_xact_id()").await?;
        text.push(self.begin(second, dice).await?);
        text.push(self.write(second, dice).await?);
        text.push(self.write(first, dice).await?);
        self.sessions[first].connection.simple_query("COMMIT").await?;
        self.commit(first, log);
        Ok(format!("{}; the first one commits", text.join("; ")))
    }

    /// Writes one to three records with a key that no other transaction has.
    async fn write(&mut self, index: usize, dice: &mut Dice) -> Result<String, RunFailure> {
        let (records, text) = self.insert(index, dice, ["", ""]).await?;
        let number = self.add(index, records);
        Ok(format!("{number} writes {text}"))
    }

    /// Writes records behind a savepoint, and undoes them or not.
    async fn write_in_savepoint(
        &mut self,
        index: usize,
        dice: &mut Dice,
    ) -> Result<String, RunFailure> {
        let is_undone = dice.chance(60);
        let end = if is_undone { "; ROLLBACK TO one" } else { "; RELEASE one" };
        let (records, text) = self.insert(index, dice, ["SAVEPOINT one; ", end]).await?;
        let records = if is_undone { Vec::new() } else { records };
        let number = self.add(index, records);
        Ok(format!("{number} writes {text} in a savepoint, undone: {is_undone}"))
    }

    async fn insert(
        &mut self,
        index: usize,
        dice: &mut Dice,
        [before, after]: [&str; 2],
    ) -> Result<(Vec<Written>, String), RunFailure> {
        let Session { connection, open } = &mut self.sessions[index];
        let number = open.as_ref().expect("a transaction").number;
        let key = dice.index(KEYS);
        if *self.locks[key].get_or_insert(number) != number {
            return Ok((Vec::new(), "nothing".to_owned()));
        }
        let count = 1 + dice.below(3);
        let payloads: Vec<String> =
            (0..count).map(|one| (self.written + one).to_string()).collect();
        self.written += count;
        let values: Vec<String> =
            payloads.iter().map(|payload| format!("('{key}', '{payload}')")).collect();
        let sql = format!(
            "{before}INSERT INTO {} (key, payload) VALUES {} RETURNING id, xid{after}",
            self.table,
            values.join(", ")
        );
        let results = connection.simple_query(&sql).await?;
        let rows = results.iter().find(|rows| !rows.is_empty()).expect("rows of RETURNING");
        let mut records = Vec::new();
        for (row, payload) in rows.iter().zip(payloads) {
            let id = row.get(0).unwrap().parse().unwrap();
            let xid = row.get(1).unwrap().parse().unwrap();
            self.highest_xid = self.highest_xid.max(xid);
            records.push(Written { id, xid, key, payload });
        }
        let ids: Vec<i64> = records.iter().map(|record| record.id).collect();
        Ok((records, format!("{ids:?} of key {key}")))
    }

    /// Adds records to a transaction. Returns its number.
    fn add(&mut self, index: usize, records: Vec<Written>) -> u64 {
        let transaction = self.sessions[index].open.as_mut().expect("a transaction");
        transaction.records.extend(records);
        transaction.number
    }

    /// Assigns many xids, those of subtransactions: a later snapshot does not list them, and they end with this transaction.
    async fn crowd(
        &mut self,
        index: usize,
        dice: &mut Dice,
        cases: &mut ScheduleCases,
    ) -> Result<String, RunFailure> {
        let Session { connection, open } = &mut self.sessions[index];
        let number = open.as_ref().expect("a transaction").number;
        // More than 64 do not fit into the shared memory of a session.
        let count = [3, 30, 300][dice.index(3)];
        let sql = format!(
            "DO $$BEGIN FOR n IN 1..{count} LOOP
                BEGIN INSERT INTO public.other VALUES (n); EXCEPTION WHEN others THEN NULL; END;
            END LOOP; END$$"
        );
        connection.simple_query(&sql).await?;
        cases.crowds += 1;
        Ok(format!("{number} has {count} subtransactions"))
    }

    async fn end_prepared(
        &mut self,
        dice: &mut Dice,
        log: &mut ModelLog,
    ) -> Result<String, RunFailure> {
        let index = dice.index(self.prepared.len());
        let transaction = self.prepared.swap_remove(index);
        let end = if dice.chance(75) { "COMMIT" } else { "ROLLBACK" };
        let number = transaction.number;
        // A session in a transaction cannot do that.
        let session = self.sessions.iter_mut().find(|session| session.open.is_none());
        let Some(Session { connection, .. }) = session else {
            self.prepared.push(transaction);
            return Ok("nothing".to_owned());
        };
        connection.simple_query(&format!("{end} PREPARED '{number}'")).await?;
        self.unlock(number);
        if end == "COMMIT" {
            log.commit(transaction.records);
        }
        Ok(format!("{number}, which was prepared: {end}"))
    }

    /// Takes the transaction of a session that has ended, and releases its locks.
    fn take(&mut self, index: usize) -> Transaction {
        let transaction = self.sessions[index].open.take().expect("a transaction");
        self.unlock(transaction.number);
        transaction
    }

    fn commit(&mut self, index: usize, log: &mut ModelLog) {
        let records = self.take(index).records;
        log.commit(records);
    }

    fn unlock(&mut self, number: u64) {
        for lock in &mut self.locks {
            *lock = lock.filter(|holder| *holder != number);
        }
    }

    /// Ends all transactions, in any order.
    pub(super) async fn end_all(
        &mut self,
        dice: &mut Dice,
        log: &mut ModelLog,
    ) -> Result<(), RunFailure> {
        for index in 0..self.sessions.len() {
            if self.sessions[index].open.is_some() {
                self.sessions[index].connection.simple_query("COMMIT").await?;
                self.commit(index, log);
            }
        }
        while !self.prepared.is_empty() {
            self.end_prepared(dice, log).await?;
        }
        Ok(())
    }

    /// Ends all transactions of a run that has failed, and returns the connections.
    pub(super) async fn into_connections(mut self) -> Vec<Connection> {
        for Session { connection, open } in &mut self.sessions {
            if open.is_some() {
                connection.simple_query("ROLLBACK").await.unwrap();
            }
        }
        for transaction in &self.prepared {
            let sql = format!("ROLLBACK PREPARED '{}'", transaction.number);
            self.sessions[0].connection.simple_query(&sql).await.unwrap();
        }
        self.sessions.into_iter().map(|session| session.connection).collect()
    }
}
