//! The writers of a log: each commits records of a key with the counter of that key.

use std::sync::atomic::Ordering;
use std::time::Duration;

use pgbell::{Connection, Error};
use tokio::time::sleep;

use super::{KEYS, Run};
use crate::dice::Dice;

/// The counter of each key is in the same transactions as its records, and its lock orders them. `seen` and `losses` are of readers.
pub(super) fn tables() -> String {
    format!(
        "CREATE TABLE counters (key text PRIMARY KEY, written bigint NOT NULL, applied bigint NOT NULL);
        INSERT INTO counters SELECT i::text, 0, 0 FROM generate_series(0, {KEYS} - 1) i;
        CREATE TABLE written (id bigint PRIMARY KEY);
        CREATE TABLE seen (id bigint PRIMARY KEY);
        CREATE TABLE losses (first bigint, last bigint, records bigint)"
    )
}

/// Commits records until it is calm.
pub(super) async fn write(run: &Run, dice: &mut Dice) -> Result<(), Error> {
    let mut session = Connection::connect(run.url.as_str()).await?;
    if run.plan.is_asynchronous {
        session.simple_query("SET synchronous_commit = off").await?;
    }
    while !run.is_calm.load(Ordering::Acquire) {
        session.simple_query("BEGIN").await?;
        let key = dice.below(KEYS).to_string();
        for _ in 0..=dice.below(3) {
            let sql = "WITH counted AS (UPDATE counters SET written = written + 1 WHERE key = $1 RETURNING written), \
                added AS (INSERT INTO outbox (key, payload) SELECT $1, written::text FROM counted RETURNING id) \
                INSERT INTO written SELECT id FROM added";
            session.query(sql, &[Some(&key)]).await?;
        }
        if dice.below(4) == 0 {
            let undone = "SAVEPOINT one; INSERT INTO outbox (key, payload) VALUES ('undone', ''); ROLLBACK TO one";
            session.simple_query(undone).await?;
        }
        sleep(Duration::from_millis(dice.below(15))).await;
        let is_undone = dice.below(10) == 0;
        if run.plan.prepares && dice.below(3) == 0 {
            let name = run.prepared.fetch_add(1, Ordering::Relaxed);
            session.simple_query(&format!("PREPARE TRANSACTION 'p{name}'")).await?;
            sleep(Duration::from_millis(dice.below(15))).await;
            let end = if is_undone { "ROLLBACK" } else { "COMMIT" };
            session.simple_query(&format!("{end} PREPARED 'p{name}'")).await?;
        } else {
            session.simple_query(if is_undone { "ROLLBACK" } else { "COMMIT" }).await?;
        }
        run.committed.fetch_add(1, Ordering::Release);
    }
    Ok(())
}

/// Ends prepared transactions whose sessions were killed: those that are older than a second.
pub(super) async fn resolve(run: &Run) -> Result<(), Error> {
    let mut session = Connection::connect(run.url.as_str()).await?;
    while !run.is_over.load(Ordering::Acquire) {
        let sql = "SELECT gid FROM pg_prepared_xacts WHERE prepared < clock_timestamp() - interval '1 second'";
        let rows = session.query(sql, &[]).await?;
        for row in rows.iter() {
            let gid = row.get(0).unwrap();
            let end = if gid.ends_with('0') { "ROLLBACK" } else { "COMMIT" };
            // The session that has prepared it may have ended it meanwhile.
            let result = session.simple_query(&format!("{end} PREPARED '{gid}'")).await;
            if let Err(error) = result
                && error.sqlstate() != Some("42704")
            {
                return Err(error);
            }
            run.orphans.fetch_add(1, Ordering::Relaxed);
        }
        sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}
