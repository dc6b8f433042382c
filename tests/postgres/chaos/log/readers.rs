//! The readers of a log, and the usual wrong ways to read one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pgbell::durable::Cursor;
use pgbell::{Connection, Error};
use tokio::time::{sleep, timeout};

use super::{LEASE, Run};
use crate::dice::Dice;

async fn open(run: &Run, name: &str) -> Result<Cursor, Error> {
    run.outbox
        .cursor(name)
        .page_size(50)
        .interval(Duration::from_millis(200))
        .lease(LEASE)
        .backoff(Duration::from_millis(1), Duration::from_millis(200))
        .open()
        .await
}

/// Receives, with effects in the same database. Sometimes it is suspended beyond its lease, and then goes on; sometimes it is killed, and its
/// lease stays.
pub(super) async fn apply(run: &Run, dice: &mut Dice) -> Result<(), Error> {
    let mut cursor = open(run, "applying").await?;
    let mut session = Connection::connect(run.url.as_str()).await?;
    while !run.is_over.load(Ordering::Acquire) {
        let Some(batch) = cursor.try_next().await? else {
            sleep(Duration::from_millis(5)).await;
            continue;
        };
        if !run.is_calm.load(Ordering::Acquire) && dice.below(60) == 0 {
            sleep(LEASE + Duration::from_secs(2)).await;
        }
        session.simple_query("BEGIN").await?;
        let mut is_right = true;
        for record in batch.iter() {
            // Only the next number of the key is accepted.
            let sql = "UPDATE counters SET applied = applied + 1 WHERE key = $1 AND applied = $2::bigint - 1";
            let arguments = [Some(record.key()), Some(record.payload())];
            is_right &= session.query(sql, &arguments).await?.rows_affected() == Some(1);
        }
        let receipt = batch.receipt().to_string();
        if let Err(error) = session.query(&run.outbox.ack_sql(), &[Some(&receipt)]).await {
            run.fenced.fetch_add(u64::from(error.sqlstate() == Some("PGB01")), Ordering::Relaxed);
            return Err(error);
        }
        assert!(is_right, "records that were applied already, or not in order, were acknowledged");
        session.simple_query("COMMIT").await?;
        if !run.is_calm.load(Ordering::Acquire) && dice.below(50) == 0 {
            return Ok(());
        }
    }
    cursor.close().await;
    Ok(())
}

/// Receives at least once: a number may come again, but none is left out.
pub(super) async fn follow(run: &Run, seen: &Mutex<BTreeMap<String, u64>>) -> Result<(), Error> {
    let mut cursor = open(run, "following").await?;
    while !run.is_over.load(Ordering::Acquire) {
        let Ok(batch) = timeout(Duration::from_millis(100), cursor.next()).await else { continue };
        let batch = batch?;
        for record in batch.iter() {
            let number: u64 = record.payload().parse().unwrap();
            let mut seen = seen.lock().unwrap();
            let last = seen.entry(record.key().to_owned()).or_default();
            assert!(number <= *last + 1, "{} {number} after {last}", record.key());
            *last = number.max(*last);
        }
        batch.ack().await?;
    }
    cursor.close().await;
    Ok(())
}

/// Stores the ids that it receives, and its losses, in the transaction that acknowledges them. Often it is slower than the limit of the log.
pub(super) async fn account(run: &Run, dice: &mut Dice) -> Result<(), Error> {
    let mut cursor = open(run, "accounting").await?;
    let mut session = Connection::connect(run.url.as_str()).await?;
    while !run.is_over.load(Ordering::Acquire) {
        if !run.is_calm.load(Ordering::Acquire) && dice.chance(10) {
            sleep(Duration::from_millis(700)).await;
        }
        let Some(batch) = cursor.try_next().await? else {
            sleep(Duration::from_millis(5)).await;
            continue;
        };
        session.simple_query("BEGIN").await?;
        let ids: Vec<String> = batch.iter().map(|record| format!("({})", record.id())).collect();
        let mut added = Some(0);
        if !ids.is_empty() {
            let sql = format!("INSERT INTO seen VALUES {} ON CONFLICT DO NOTHING", ids.join(", "));
            added = session.query(&sql, &[]).await?.rows_affected();
        }
        if let Some(gap) = batch.gap() {
            let values = [gap.first(), gap.last(), gap.records().try_into().unwrap()];
            let [first, last, records] = values.map(|value: i64| value.to_string());
            let sql = "INSERT INTO losses VALUES ($1::bigint, $2::bigint, $3::bigint)";
            session.query(sql, &[Some(&first), Some(&last), Some(&records)]).await?;
        }
        let receipt = batch.receipt().to_string();
        session.query(&run.outbox.ack_sql(), &[Some(&receipt)]).await?;
        assert_eq!(added, Some(ids.len() as u64), "records were acknowledged twice");
        session.simple_query("COMMIT").await?;
    }
    cursor.close().await;
    Ok(())
}

/// A wrong way to read: `WHERE id > last`.
pub(super) async fn read_by_id(run: &Run, found: &Mutex<BTreeSet<i64>>) -> Result<(), Error> {
    let mut session = Connection::connect(run.url.as_str()).await?;
    while !run.is_over.load(Ordering::Acquire) {
        let last = found.lock().unwrap().last().copied().unwrap_or(0).to_string();
        let sql = "SELECT id FROM outbox WHERE id > $1::bigint ORDER BY id LIMIT 50";
        let rows = session.query(sql, &[Some(&last)]).await?;
        found
            .lock()
            .unwrap()
            .extend(rows.iter().map(|row| row.get(0).unwrap().parse::<i64>().unwrap()));
        if rows.is_empty() {
            sleep(Duration::from_millis(5)).await;
        }
    }
    Ok(())
}

/// Another wrong way: to wait for the oldest transaction in progress.
pub(super) async fn read_behind_xmin(
    run: &Run,
    found: &Mutex<BTreeSet<(u64, i64)>>,
) -> Result<(), Error> {
    let mut session = Connection::connect(run.url.as_str()).await?;
    while !run.is_over.load(Ordering::Acquire) {
        let (xid, id) = found.lock().unwrap().last().copied().unwrap_or((0, 0));
        let sql = "SELECT xid, id FROM outbox WHERE xid < pg_snapshot_xmin(pg_current_snapshot())
            AND (xid, id) > ($1::xid8, $2::bigint) ORDER BY xid, id LIMIT 50";
        let rows = session.query(sql, &[Some(&xid.to_string()), Some(&id.to_string())]).await?;
        found.lock().unwrap().extend(rows.iter().map(|row| {
            let number = |column| row.get(column).unwrap();
            (number(0).parse::<u64>().unwrap(), number(1).parse::<i64>().unwrap())
        }));
        if rows.is_empty() {
            sleep(Duration::from_millis(5)).await;
        }
    }
    Ok(())
}
