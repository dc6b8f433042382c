//! Rotation: what is removed, what waits, and what is reported.

use std::time::Duration;

use pgbell::durable::OutboxSettings;

use super::support::{Log, add, drain, look, nothing, payloads, sql, take, text};
use crate::matrix::on_every_version;
use crate::support::{Server, run, until_sql, value};

on_every_version! {
    a_partition_that_every_cursor_has_acknowledged_is_truncated
    a_writer_that_is_open_delays_rotation_and_not_delivery
    records_beyond_a_limit_are_reported_as_a_gap_until_it_is_acknowledged
}

/// Each rotation begins a new partition.
fn eager() -> OutboxSettings {
    text().partition_age(Duration::ZERO)
}

const RECORDS: &str = "SELECT count(*) FROM outbox";

fn a_partition_that_every_cursor_has_acknowledged_is_truncated(major: u32) {
    let server = Server::of(major);
    run(async {
        let log = Log::with(server, &eager()).await;
        let mut writer = log.session().await;
        add(&mut writer, "", "1").await;
        // Without a cursor, everything is kept for the first one.
        for _ in 0..3 {
            let rotation = log.outbox.rotate().await.unwrap();
            assert_eq!((rotation.truncated, rotation.lost), (0, 0), "{rotation:?}");
        }
        let (mut quick, mut slow) = (log.open("quick").await, log.open("slow").await);
        for number in 2..=4 {
            add(&mut writer, "", &number.to_string()).await;
            assert_eq!(look(&mut slow).await.0[0], "1");
            drain(&mut quick).await;
            let rotation = log.outbox.rotate().await.unwrap();
            assert_eq!(rotation.truncated, 0, "{rotation:?}");
            assert_eq!(rotation.waits_for.as_deref(), Some("the cursor slow"));
        }
        assert_eq!(value(&mut writer, RECORDS).await, "4");
        assert_eq!(drain(&mut slow).await, ["1", "2", "3", "4"]);
        assert!(drain(&mut quick).await.is_empty());
        let truncated = log.outbox.rotate().await.unwrap().truncated
            + log.outbox.rotate().await.unwrap().truncated
            + log.outbox.rotate().await.unwrap().truncated;
        assert!(truncated >= 2, "{truncated}");
        let rotation = log.outbox.rotate().await.unwrap();
        assert_eq!((rotation.truncated, rotation.waits_for), (0, None));
        assert_eq!(value(&mut writer, RECORDS).await, "0");
        // Ids and positions go on.
        add(&mut writer, "", "5").await;
        assert_eq!(drain(&mut slow).await, ["5"]);
        assert_eq!(drain(&mut quick).await, ["5"]);
        slow.close().await;
        quick.close().await;
    });
}

fn a_writer_that_is_open_delays_rotation_and_not_delivery(major: u32) {
    let server = Server::of(major);
    run(async {
        let log = Log::with(server, &eager()).await;
        let (mut open, mut writer) = (log.session().await, log.session().await);
        let mut cursor = log.open("reader").await;
        sql(&mut open, "BEGIN").await;
        add(&mut open, "", "open").await;
        for number in 1..=4 {
            add(&mut writer, "", &number.to_string()).await;
            assert_eq!(drain(&mut cursor).await, [number.to_string()]);
            log.outbox.rotate().await.unwrap();
        }
        let rotation = log.outbox.rotate().await.unwrap();
        let waits_for = rotation.waits_for.unwrap();
        assert!(waits_for.contains("a transaction that uses"), "{waits_for}");
        sql(&mut open, "COMMIT").await;
        assert!(log.outbox.rotate().await.unwrap().waits_for.unwrap().contains("reader"));
        assert_eq!(drain(&mut cursor).await, ["open"]);
        for _ in 0..3 {
            log.outbox.rotate().await.unwrap();
        }
        assert_eq!(value(&mut writer, RECORDS).await, "0");
        nothing(&mut cursor).await;
        cursor.close().await;
    });
}

fn records_beyond_a_limit_are_reported_as_a_gap_until_it_is_acknowledged(major: u32) {
    let server = Server::of(major);
    run(async {
        let log = Log::with(server, &eager().max_age(Duration::ZERO)).await;
        let mut writer = log.session().await;
        let mut cursor = log.open("reader").await;
        for number in 1..=3 {
            add(&mut writer, "", &number.to_string()).await;
        }
        // In a window: the first record is acknowledged already.
        let mut half = log.cursor("half").page_size(1).open().await.unwrap();
        assert_eq!(take(&mut half).await, ["1"]);
        let (_, receipt) = look(&mut cursor).await;
        let first = log.outbox.rotate().await.unwrap();
        assert!(first.advanced && first.lost == 0, "{first:?}");
        add(&mut writer, "", "4").await;
        let second = log.outbox.rotate().await.unwrap();
        assert_eq!((second.truncated, second.lost), (1, 3 + 2), "{second:?}");

        // What was received before is not acknowledged any more: its loss would not be reported.
        let late = writer.query(&log.outbox.ack_sql(), &[Some(&receipt.to_string())]).await;
        assert_eq!(late.unwrap_err().sqlstate(), Some("PGB02"));
        for _ in 0..2 {
            let batch = cursor.next().await.unwrap();
            let gap = batch.gap().unwrap();
            assert_eq!((gap.first(), gap.last(), gap.records()), (1, 3, 3));
            assert_eq!(payloads(&batch), ["4"]);
        }
        let batch = half.next().await.unwrap();
        let gap = batch.gap().unwrap();
        assert_eq!((gap.first(), gap.last(), gap.records()), (2, 3, 2));
        assert_eq!(gap.to_string(), "2 records were removed unread, with ids from 2 to 3");
        batch.ack().await.unwrap();
        assert_eq!(half.stats().lost, 2);
        cursor.next().await.unwrap().ack().await.unwrap();
        assert_eq!(cursor.stats().lost, 3);
        add(&mut writer, "", "5").await;
        assert!(cursor.try_next().await.unwrap().unwrap().gap().is_none());
        cursor.close().await;
        half.close().await;
    });
}

/// What is lost is counted before the lock, so what is committed between the two must be counted too, and nothing twice.
#[test]
fn the_count_before_the_lock_and_the_one_since_are_the_whole() {
    let server = Server::start();
    run(async {
        let log = Log::new(server).await;
        let (mut early, mut late) = (log.session().await, log.session().await);
        let mut open = log.session().await;
        log.open("reader").await.close().await;
        sql(&mut late, "BEGIN; INSERT INTO outbox (payload) VALUES ('1'), ('2')").await;
        sql(&mut open, "BEGIN; INSERT INTO outbox (payload) VALUES ('3')").await;
        for payload in ["4", "5", "6"] {
            add(&mut early, "", payload).await;
        }
        let unread = |since: &str| {
            format!(
                "SELECT concat_ws(' ', first, unread.last, records) FROM outbox_positions AS p,
                LATERAL outbox_unread('outbox_0', p.lower, p.last, p.upper, {since}) AS unread"
            )
        };
        let snapshot = value(&mut early, "SELECT pg_current_snapshot()").await;
        assert_eq!(value(&mut early, &unread("NULL")).await, "4 6 3");
        let since = unread(&format!("'{snapshot}'"));
        assert_eq!(value(&mut early, &since).await, "0");
        sql(&mut late, "COMMIT").await;
        add(&mut early, "", "7").await;
        assert_eq!(value(&mut early, &since).await, "1 7 3");
        assert_eq!(value(&mut early, &unread("NULL")).await, "1 7 6");
        sql(&mut open, "ROLLBACK").await;
    });
}

/// What is lost is counted before the lock of the partition. An earlier version failed if the cursor moved meanwhile.
#[test]
fn a_cursor_that_moves_during_a_forced_rotation_loses_only_what_it_has_not_acknowledged() {
    let server = Server::start();
    run(async {
        let log = Log::with(server, &eager().max_age(Duration::ZERO)).await;
        let mut watch = log.session().await;
        let mut cursor = log.cursor("reader").page_size(2).open().await.unwrap();
        for payload in ["1", "2", "3"] {
            add(&mut watch, "", payload).await;
        }
        let batch = cursor.next().await.unwrap();
        assert_eq!(payloads(&batch), ["1", "2"]);
        assert!(log.outbox.rotate().await.unwrap().advanced);
        sql(&mut watch, "ALTER FUNCTION outbox_rotate SET lock_timeout = '30s'").await;

        let lock = "BEGIN; LOCK TABLE outbox_0 IN ROW EXCLUSIVE MODE";
        let waiting = |count| {
            format!(
                "SELECT count(*) = {count} FROM pg_locks WHERE relation = 'outbox_0'::regclass AND NOT granted"
            )
        };
        let mut first = log.session().await;
        sql(&mut first, lock).await;
        let outbox = log.outbox.clone();
        let rotation = tokio::spawn(async move { outbox.rotate().await });
        until_sql(&mut watch, &waiting(1)).await;
        // It gets its lock after the first attempt of the rotation, and before the second one.
        let mut second = log.session().await;
        let second = tokio::spawn(async move {
            sql(&mut second, lock).await;
            second
        });
        until_sql(&mut watch, &waiting(2)).await;
        sql(&mut first, "COMMIT").await;
        let mut second = second.await.unwrap();
        until_sql(&mut watch, &waiting(1)).await;
        batch.ack().await.unwrap();
        sql(&mut second, "COMMIT").await;

        let rotation = rotation.await.unwrap().unwrap();
        assert_eq!((rotation.truncated, rotation.lost), (1, 1), "{rotation:?}");
        let batch = cursor.next().await.unwrap();
        let gap = batch.gap().unwrap();
        assert_eq!((gap.first(), gap.last(), gap.records()), (3, 3, 1));
        batch.ack().await.unwrap();
        nothing(&mut cursor).await;
        cursor.close().await;
    });
}

/// Of two locks in another order than that of readers, one is a deadlock.
#[test]
fn a_rotation_locks_either_the_records_or_the_positions() {
    let server = Server::start();
    run(async {
        let log = Log::with(server, &eager()).await;
        let mut writer = log.session().await;
        let mut cursor = log.cursor("reader").rotate(false).open().await.unwrap();
        add(&mut writer, "", "1").await;
        assert_eq!(drain(&mut cursor).await, ["1"]);
        assert!(log.outbox.rotate().await.unwrap().advanced);
        add(&mut writer, "", "2").await;
        assert_eq!(drain(&mut cursor).await, ["2"]);
        // Old positions of the cursor.
        let many = "INSERT INTO outbox_acks (cursor_id, seq, token, slot, lower, high, next)
            SELECT cursor_id, -number, 0, slot, lower, high, next FROM outbox_positions, generate_series(1, 150000) AS number";
        sql(&mut writer, many).await;
        let before = log.outbox.status().await.unwrap().position_bytes;
        let rotation = log.outbox.rotate().await.unwrap();
        let after = log.outbox.status().await.unwrap().position_bytes;
        assert!(rotation.truncated == 0 && after < before / 10, "{rotation:?}, {before}, {after}");
        assert!(log.outbox.rotate().await.unwrap().truncated > 0);
        nothing(&mut cursor).await;
        cursor.close().await;
    });
}

/// A reader that runs for less than a minute, as a job of a scheduler, would never rotate.
#[test]
fn a_cursor_that_is_closed_rotates_what_it_has_acknowledged() {
    let server = Server::start();
    run(async {
        let log = Log::with(server, &eager()).await;
        let mut writer = log.session().await;
        add(&mut writer, "", "1").await;
        for _ in 0..3 {
            assert_ne!(value(&mut writer, RECORDS).await, "0");
            let mut cursor = log.open("reader").await;
            drain(&mut cursor).await;
            add(&mut writer, "", "next").await;
            drain(&mut cursor).await;
            cursor.close().await;
        }
        let mut cursor = log.cursor("reader").rotate(false).open().await.unwrap();
        add(&mut writer, "", "last").await;
        drain(&mut cursor).await;
        cursor.close().await;
        let left = value(&mut writer, RECORDS).await;
        assert!(["1", "2", "3"].contains(&left.as_str()), "{left}");
    });
}

/// The partitions of three thirds are the whole log: with larger ones it would not be smaller than its limit.
#[test]
fn partitions_are_no_larger_than_a_third_of_the_limit() {
    let server = Server::start();
    run(async {
        let log = Log::with(server, &text().max_bytes(600_000)).await;
        let mut writer = log.session().await;
        let fill =
            "INSERT INTO outbox (payload) SELECT repeat('x', 1000) FROM generate_series(1, 300)";
        for _ in 0..2 {
            assert!(!log.outbox.rotate().await.unwrap().advanced);
            sql(&mut writer, fill).await;
            assert!(log.outbox.rotate().await.unwrap().advanced);
        }
    });
}

/// A transaction that stays open keeps every dead row of the database from being removed.
#[test]
fn positions_leave_no_dead_rows_under_a_snapshot_that_is_held() {
    let server = Server::start();
    run(async {
        let log = Log::with(server, &eager()).await;
        let (mut held, mut writer) = (log.session().await, log.session().await);
        sql(&mut held, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT pg_current_xact_id()").await;
        let mut cursor = log.cursor("reader").page_size(1).open().await.unwrap();
        sql(
            &mut writer,
            "INSERT INTO outbox (payload) SELECT i::text FROM generate_series(1, 2500) i",
        )
        .await;
        assert_eq!(drain(&mut cursor).await.len(), 2_500);
        let before = value(&mut writer, "SELECT text FROM outbox_positions").await;
        let stored = "SELECT count(*) < 10 FROM outbox_acks";
        assert_eq!(value(&mut writer, stored).await, "f");
        for _ in 0..3 {
            log.outbox.rotate().await.unwrap();
        }
        assert_eq!(value(&mut writer, stored).await, "t", "the positions were rotated");
        assert_eq!(value(&mut writer, "SELECT text FROM outbox_positions").await, before);
        assert_eq!(value(&mut writer, RECORDS).await, "0");
        let dead = "SELECT coalesce(sum(n_dead_tup), 0) = 0 FROM pg_stat_user_tables
            WHERE relname LIKE 'outbox_acks%' OR relname ~ '^outbox_[0-9]$' OR relname = 'outbox'";
        until_sql(&mut writer, "SELECT sum(n_tup_ins) >= 2500 FROM pg_stat_user_tables WHERE relname LIKE 'outbox_acks%'").await;
        assert_eq!(value(&mut writer, dead).await, "t");
        // To the older snapshot the log is empty, and always was.
        assert_eq!(value(&mut held, RECORDS).await, "0");
        add(&mut writer, "", "after").await;
        assert_eq!(drain(&mut cursor).await, ["after"]);
        sql(&mut held, "COMMIT").await;
        cursor.close().await;
    });
}

/// A cursor that is never read keeps at most so many bytes, and what it has lost is a gap.
#[test]
fn a_limit_of_the_size_removes_the_oldest_partition_and_reports_a_gap() {
    const LIMIT: u64 = 600_000;
    // Twelve records of about 4 kB that cannot be compressed much.
    const WRITE: &str = "INSERT INTO outbox (key, payload) SELECT '', (SELECT string_agg(md5(random()::text || n || m), '') FROM generate_series(1, 120) AS m)
        FROM generate_series(1, 12) AS n";
    let server = Server::start();
    run(async {
        let settings = text().partition_bytes(100_000).max_bytes(LIMIT);
        let log = Log::with(server, &settings).await;
        let mut writer = log.session().await;
        let (mut quick, mut slow) = (log.open("quick").await, log.open("slow").await);
        let (mut lost, mut written) = (0, 0);
        for _ in 0..30 {
            sql(&mut writer, WRITE).await;
            written += 12;
            assert_eq!(drain(&mut quick).await.len(), 12);
            let rotation = log.outbox.rotate().await.unwrap();
            lost += rotation.lost;
            // The oldest partition was truncated because of the limit, and then more was written.
            let bytes = log.outbox.status().await.unwrap().bytes;
            assert!(bytes < LIMIT + 100_000, "{bytes} bytes after {rotation:?}");
        }
        assert!(lost > 0);
        let batch = slow.next().await.unwrap();
        let gap = batch.gap().expect("records were lost");
        assert_eq!((gap.first(), gap.records()), (1, lost));
        assert_eq!(gap.last(), i64::try_from(lost).unwrap());
        let first = batch.get(0).unwrap().id();
        assert_eq!((first, batch.len() as u64), (gap.last() + 1, written - lost));
        batch.ack().await.unwrap();
        nothing(&mut slow).await;
        // The one that has acknowledged everything has lost nothing.
        nothing(&mut quick).await;
        assert_eq!((quick.stats().lost, slow.stats().lost), (0, lost));
        quick.close().await;
        slow.close().await;
    });
}
