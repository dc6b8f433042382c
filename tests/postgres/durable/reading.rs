//! What a cursor receives, with transactions that commit late.

use pgbell::durable::Start;
use pgbell::{ErrorKind, Notifier};

use super::support::{Log, add, look, nothing, sql, take, text};
use crate::matrix::on_every_version;
use crate::support::{Server, poll_once, run, value};

on_every_version! {
    records_of_transactions_that_commit_late_are_received_once
    a_transaction_above_the_xmax_of_a_snapshot_is_not_missed
    a_transaction_that_is_open_elsewhere_delays_nothing
    a_prepared_transaction_is_received_when_it_is_committed
    records_of_a_savepoint_that_was_rolled_back_are_not_received
    pages_of_one_record_return_everything_in_order
    a_column_has_its_default_before_the_column_after_it
    a_cursor_that_is_new_begins_at_its_start
    a_trigger_wakes_the_cursor_at_the_commit
    payloads_of_every_type_arrive_unchanged
}

/// An id is assigned at the INSERT, and visible at the COMMIT: a reader that remembers the highest id skips the first record.
fn records_of_transactions_that_commit_late_are_received_once(major: u32) {
    let server = Server::of(major);
    run(async {
        let log = Log::new(server).await;
        let (mut early, mut late) = (log.session().await, log.session().await);
        let mut cursor = log.open("reader").await;
        sql(&mut late, "BEGIN").await;
        add(&mut late, "a", "late").await;
        add(&mut early, "b", "early").await;
        assert_eq!(take(&mut cursor).await, ["early"]);
        nothing(&mut cursor).await;
        sql(&mut late, "COMMIT").await;
        assert_eq!(cursor.try_next().await.unwrap().unwrap().iter().next().unwrap().id(), 1);
        assert_eq!(take(&mut cursor).await, ["late"]);
        nothing(&mut cursor).await;
        cursor.close().await;
    });
}

/// The xmax of a snapshot is the xid after the last one that has ended. Here the transaction with the next xid is in progress already, with an
/// id below one that is visible.
fn a_transaction_above_the_xmax_of_a_snapshot_is_not_missed(major: u32) {
    let server = Server::of(major);
    run(async {
        let log = Log::new(server).await;
        let (mut first, mut second) = (log.session().await, log.session().await);
        let mut cursor = log.open("reader").await;
        sql(&mut first, "BEGIN; SELECT pg_current_xact_id()").await;
        sql(&mut second, "BEGIN").await;
        add(&mut second, "a", "in progress").await;
        add(&mut first, "b", "ended").await;
        sql(&mut first, "COMMIT").await;
        let xmax = "SELECT pg_snapshot_xmax(pg_current_snapshot())";
        let xid = value(&mut second, "SELECT pg_current_xact_id()").await;
        assert_eq!(value(&mut first, xmax).await, xid, "the snapshot must not list the second");

        assert_eq!(take(&mut cursor).await, ["ended"]);
        sql(&mut second, "COMMIT").await;
        nothing_or(&mut cursor, &["in progress"]).await;
        nothing(&mut cursor).await;
        cursor.close().await;
    });
}

/// Takes what is there at once.
async fn nothing_or(cursor: &mut pgbell::durable::Cursor, expected: &[&str]) {
    let batch = cursor.try_next().await.unwrap().expect("there is something");
    assert_eq!(super::support::payloads(&batch), expected);
    batch.ack().await.unwrap();
}

/// A reader that waits for the oldest transaction in progress receives nothing meanwhile.
fn a_transaction_that_is_open_elsewhere_delays_nothing(major: u32) {
    let server = Server::of(major);
    run(async {
        let log = Log::new(server).await;
        let mut elsewhere = log.session().await;
        let mut writer = log.session().await;
        let mut cursor = log.open("reader").await;
        sql(&mut elsewhere, "BEGIN; SELECT pg_current_xact_id()").await;
        for number in 0..5 {
            add(&mut writer, "", &number.to_string()).await;
            nothing_or(&mut cursor, &[&number.to_string()]).await;
        }
        sql(&mut elsewhere, "ROLLBACK").await;
        nothing(&mut cursor).await;
        cursor.close().await;
    });
}

fn a_prepared_transaction_is_received_when_it_is_committed(major: u32) {
    let server = Server::with(|builder| {
        builder
            .installation(crate::support::installation(major))
            .setting("max_prepared_transactions", "5")
    });
    run(async {
        let log = Log::new(server).await;
        let mut writer = log.session().await;
        let mut cursor = log.open("reader").await;
        sql(&mut writer, "BEGIN").await;
        add(&mut writer, "", "prepared").await;
        sql(&mut writer, "PREPARE TRANSACTION 'one'").await;
        add(&mut writer, "", "plain").await;
        nothing_or(&mut cursor, &["plain"]).await;
        nothing(&mut cursor).await;
        sql(&mut writer, "COMMIT PREPARED 'one'").await;
        nothing_or(&mut cursor, &["prepared"]).await;
        nothing(&mut cursor).await;
        cursor.close().await;
    });
}

fn records_of_a_savepoint_that_was_rolled_back_are_not_received(major: u32) {
    let server = Server::of(major);
    run(async {
        let log = Log::new(server).await;
        let mut writer = log.session().await;
        let mut cursor = log.open("reader").await;
        sql(&mut writer, "BEGIN; SAVEPOINT one").await;
        add(&mut writer, "", "kept").await;
        sql(&mut writer, "SAVEPOINT two").await;
        add(&mut writer, "", "undone").await;
        sql(&mut writer, "ROLLBACK TO two").await;
        add(&mut writer, "", "kept too").await;
        nothing(&mut cursor).await;
        sql(&mut writer, "COMMIT").await;
        nothing_or(&mut cursor, &["kept", "kept too"]).await;
        sql(&mut writer, "BEGIN").await;
        add(&mut writer, "", "rolled back").await;
        sql(&mut writer, "ROLLBACK").await;
        nothing(&mut cursor).await;
        cursor.close().await;
    });
}

/// Late records, of transactions with several records, come first, and each page begins after the one before.
fn pages_of_one_record_return_everything_in_order(major: u32) {
    let server = Server::of(major);
    run(async {
        let log = Log::new(server).await;
        let (mut one, mut two, mut other) =
            (log.session().await, log.session().await, log.session().await);
        let mut cursor = log.cursor("reader").page_size(1).open().await.unwrap();
        sql(&mut one, "BEGIN").await;
        sql(&mut two, "BEGIN").await;
        for number in 1..=3 {
            add(&mut one, "", &format!("one {number}")).await;
            add(&mut two, "", &format!("two {number}")).await;
        }
        add(&mut other, "", "other 1").await;
        nothing_or(&mut cursor, &["other 1"]).await;
        nothing(&mut cursor).await;
        sql(&mut two, "COMMIT").await;
        add(&mut other, "", "other 2").await;
        sql(&mut one, "COMMIT").await;
        add(&mut other, "", "other 3").await;
        let mut found = Vec::new();
        while let Some(batch) = cursor.try_next().await.unwrap() {
            assert_eq!(batch.len(), 1);
            found.extend(super::support::payloads(&batch));
            batch.ack().await.unwrap();
        }
        let expected = ["one 1", "two 1", "one 2", "two 2", "one 3", "two 3", "other 2", "other 3"];
        assert_eq!(found, expected);
        cursor.close().await;
    });
}

/// The order of the columns of a log ensures that a transaction has its xid before its records have their ids.
fn a_column_has_its_default_before_the_column_after_it(major: u32) {
    let server = Server::of(major);
    run(async {
        let mut session = server.connection().await;
        let create = "CREATE SEQUENCE tick; SELECT nextval('tick');
            CREATE TABLE t (before bigint DEFAULT pg_sequence_last_value('tick'), id bigint DEFAULT nextval('tick'),
                after bigint DEFAULT pg_sequence_last_value('tick'), part int DEFAULT 0) PARTITION BY LIST (part);
            CREATE TABLE t_0 PARTITION OF t FOR VALUES IN (0);";
        sql(&mut session, create).await;
        sql(&mut session, "INSERT INTO t (part) VALUES (0), (0)").await;
        sql(&mut session, "INSERT INTO t (part) SELECT 0 FROM generate_series(1, 3)").await;
        let wrong = "SELECT count(*) || ' of ' || (SELECT count(*) FROM t) FROM t WHERE before <> id - 1 OR after <> id";
        assert_eq!(value(&mut session, wrong).await, "0 of 5");
    });
}

fn a_cursor_that_is_new_begins_at_its_start(major: u32) {
    let server = Server::of(major);
    run(async {
        let log = Log::new(server).await;
        let (mut writer, mut late) = (log.session().await, log.session().await);
        sql(&mut late, "BEGIN").await;
        add(&mut late, "", "late").await;
        add(&mut writer, "", "one").await;
        let middle = std::time::SystemTime::now();
        add(&mut writer, "", "two").await;
        let now = log.cursor("now").start(Start::Now);
        let mut now = now.open().await.unwrap();
        nothing(&mut now).await;
        let mut at = log.cursor("at").start(Start::At(middle)).open().await.unwrap();
        let mut beginning = log.open("beginning").await;
        add(&mut writer, "", "three").await;
        nothing_or(&mut now, &["three"]).await;
        nothing_or(&mut at, &["two"]).await;
        nothing_or(&mut at, &["three"]).await;
        nothing_or(&mut beginning, &["one", "two", "three"]).await;
        sql(&mut late, "COMMIT").await;
        for mut cursor in [now, at, beginning] {
            nothing_or(&mut cursor, &["late"]).await;
            nothing(&mut cursor).await;
            cursor.close().await;
        }
        // One that exists continues where it is.
        let mut again = log.cursor("now").start(Start::Beginning).open().await.unwrap();
        nothing(&mut again).await;
        again.close().await;
    });
}

fn a_trigger_wakes_the_cursor_at_the_commit(major: u32) {
    let server = Server::of(major);
    run(async {
        let log = Log::with(server, &text().notify_on_commit(true)).await;
        let mut writer = log.session().await;
        let mut cursor = log.open("reader").await;
        nothing(&mut cursor).await;
        sql(&mut writer, "BEGIN").await;
        add(&mut writer, "", "one").await;
        {
            let mut next = std::pin::pin!(take(&mut cursor));
            assert!(poll_once(next.as_mut()).await.is_none());
            sql(&mut writer, "COMMIT").await;
            assert_eq!(next.await, ["one"]);
        }
        cursor.close().await;
    });
}

fn payloads_of_every_type_arrive_unchanged(major: u32) {
    use pgbell::durable::{Outbox, OutboxSettings, PayloadType};
    let server = Server::of(major);
    run(async {
        let mut writer = server.connection().await;
        sql(&mut writer, "ALTER ROLE postgres SET bytea_output = 'escape'; CREATE SCHEMA shop")
            .await;
        for (kind, written, expected) in [
            (PayloadType::Text, "a\u{1F514}\\x00\n", "a\u{1F514}\\x00\n"),
            (PayloadType::Json, "{\"b\":1, \"a\": null}", "{\"a\": null, \"b\": 1}"),
            (PayloadType::Bytea, "\\x00ff5c", "00ff5c"),
        ] {
            let outbox = Outbox::new(server.url(), &format!("shop.{kind}_log")).unwrap();
            outbox.init(&OutboxSettings::new().payload(kind)).await.unwrap();
            assert_eq!(outbox.check().await.unwrap(), kind);
            let sql = format!("SELECT shop.{kind}_log_add($1, $2, $3)");
            let arguments = [Some("k\u{e9}y"), Some(written), Some("{\"trace\": 7}")];
            let rows = writer.query(&sql, &arguments).await.unwrap();
            assert_eq!(rows.get(0).unwrap().get(0), Some("1"));
            let mut cursor = outbox.cursor("reader").open().await.unwrap();
            let batch = cursor.next().await.unwrap();
            let record = batch.get(0).unwrap();
            assert_eq!((record.key(), record.payload()), ("k\u{e9}y", expected));
            assert_eq!(record.headers(), Some("{\"trace\": 7}"));
            let age = std::time::SystemTime::now().duration_since(record.written_at());
            assert!(age.unwrap() < crate::support::TEST_TIMEOUT);
            if kind == PayloadType::Bytea {
                assert_eq!(record.payload_bytea(), Some(vec![0, 0xff, 0x5c]));
            }
            batch.ack().await.unwrap();
            cursor.close().await;
            outbox.drop_log().await.unwrap();
            assert_eq!(outbox.check().await.unwrap_err().kind(), ErrorKind::Schema);
        }
        let left = "SELECT count(*) FROM pg_class WHERE relnamespace = 'shop'::regnamespace";
        assert_eq!(value(&mut writer, left).await, "0");
        let left = "SELECT count(*) FROM pg_proc WHERE pronamespace = 'shop'::regnamespace";
        assert_eq!(value(&mut writer, left).await, "0");
    });
}

/// The cursor waits for its notification: its interval is ten minutes.
#[test]
fn a_nudge_wakes_the_cursor() {
    let server = Server::start();
    run(async {
        let log = Log::new(server).await;
        let mut writer = log.session().await;
        let notifier = Notifier::connect(log.server.url()).await.unwrap();
        let mut cursor = log.open("reader").await;
        for number in 0..3 {
            nothing(&mut cursor).await;
            add(&mut writer, "", &number.to_string()).await;
            notifier.nudge(log.outbox.channel(), "");
            assert_eq!(take(&mut cursor).await, [number.to_string()]);
        }
        assert_eq!(cursor.stats().acknowledged, 3);
        assert_eq!(look_is_pending(&mut cursor).await, None);
        cursor.close().await;
        notifier.close().await;
    });
}

/// Polls `next` once.
async fn look_is_pending(cursor: &mut pgbell::durable::Cursor) -> Option<Vec<String>> {
    let mut next = std::pin::pin!(look(cursor));
    poll_once(next.as_mut()).await.map(|(found, _)| found)
}

/// The server converts nothing in such a database, and checks what it sends.
#[test]
fn a_record_that_is_not_utf8_is_an_error_until_it_is_corrected() {
    use pgbell::durable::{Outbox, OutboxSettings, PayloadType};
    let server = Server::start();
    run(async {
        let mut admin = server.connection().await;
        sql(&mut admin, "CREATE DATABASE bytes ENCODING 'SQL_ASCII' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'").await;
        let url = server.cluster.url("postgres", server.cluster.superuser_password(), "bytes");
        let outbox = Outbox::new(url.as_str(), "outbox").unwrap();
        outbox.init(&OutboxSettings::new().payload(PayloadType::Text)).await.unwrap();
        let mut writer = pgbell::Connection::connect(url.as_str()).await.unwrap();
        add(&mut writer, "", "one").await;
        sql(&mut writer, "INSERT INTO outbox (payload) VALUES (E'\\xff')").await;
        let mut cursor = outbox.cursor("reader").open().await.unwrap();
        let error = cursor.next().await.unwrap_err();
        assert_eq!((error.kind(), error.sqlstate()), (ErrorKind::Server, Some("22021")), "{error}");
        sql(&mut writer, "UPDATE outbox SET payload = 'two' WHERE id = 2").await;
        assert_eq!(take(&mut cursor).await, ["one", "two"]);
        cursor.close().await;
    });
}
