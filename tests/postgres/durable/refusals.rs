//! What is refused by name: other tables, other clusters, standbys, roles without rights.

use std::time::Duration;

use pgbell::durable::{Outbox, OutboxSettings, PayloadType};
use pgbell::{Connection, Error, ErrorKind};

use super::support::{Log, add, look, nothing, payloads, sql, take, text};
use crate::matrix::on_every_version;
use crate::support::{Server, run, until_blocked, value};

on_every_version! {
    a_log_that_was_changed_is_refused
    a_log_that_was_copied_to_a_younger_cluster_is_refused_until_it_is_rebased
    a_session_that_has_an_xid_cannot_read
    a_role_without_rights_is_refused_with_their_names
}

/// The error of a check, which must have the kind `Schema` and a hint.
async fn refusal(log: &Log) -> String {
    let error = log.outbox.check().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Schema, "{error}");
    let hint = error.hint().unwrap();
    let is_changed =
        hint.starts_with("run Outbox::init, or `pgbell outbox init`, with the same version");
    assert!(is_changed || hint.starts_with("create the log with Outbox::init"), "{hint}");
    let opened = log.cursor("reader").open().await.unwrap_err();
    assert_eq!(opened.to_string(), error.to_string());
    error.to_string()
}

fn a_log_that_was_changed_is_refused(major: u32) {
    let server = Server::of(major);
    run(async {
        let log = Log::new(server).await;
        let mut owner = log.session().await;
        for (change, undo, expected) in [
            (
                "ALTER SEQUENCE outbox_id_seq CACHE 100",
                "ALTER SEQUENCE outbox_id_seq CACHE 1",
                "CACHE 100, and need CACHE 1",
            ),
            (
                "ALTER TABLE outbox ADD COLUMN more int",
                "ALTER TABLE outbox DROP COLUMN more",
                "its columns are",
            ),
            (
                "UPDATE outbox_settings SET version = 2",
                "UPDATE outbox_settings SET version = 1",
                "it has the version 2",
            ),
            (
                "ALTER TABLE outbox_settings RENAME TO away",
                "ALTER TABLE away RENAME TO outbox_settings",
                "outbox_settings\" does not exist",
            ),
        ] {
            sql(&mut owner, change).await;
            let found = refusal(&log).await;
            assert!(found.contains(expected), "{found}");
            sql(&mut owner, undo).await;
        }
        assert_eq!(log.outbox.check().await.unwrap(), PayloadType::Text);
        // Another type of payloads.
        let error = log.outbox.init(&OutboxSettings::new()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Schema);
        assert!(error.to_string().contains("payloads of the type text"), "{error}");
        assert_eq!(error.hint(), Some("use that type, or another name for a new log"));
        // The same again changes only the settings.
        log.outbox.init(&text().max_bytes(5_000_000)).await.unwrap();
        assert_eq!(log.outbox.status().await.unwrap().max_bytes, Some(5_000_000));

        // A cursor that is deleted while it is read, and then the log.
        let mut cursor = log.open("reader").await;
        add(&mut owner, "", "one").await;
        let batch = cursor.next().await.unwrap();
        assert!(log.outbox.drop_cursor("reader").await.unwrap());
        assert!(!log.outbox.drop_cursor("reader").await.unwrap());
        let error = batch.ack().await.unwrap_err();
        assert_eq!((error.kind(), error.sqlstate()), (ErrorKind::Schema, Some("PGB03")));
        for _ in 0..2 {
            let error = cursor.next().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Schema);
            assert!(error.to_string().contains("does not exist any more"), "{error}");
        }
        let mut again = log.open("reader").await;
        assert_eq!(take(&mut again).await, ["one"]);
        log.outbox.drop_log().await.unwrap();
        assert_eq!(again.try_next().await.unwrap_err().kind(), ErrorKind::Schema);
    });
}

/// Copies the tables of a log, as a dump and its restore do.
async fn copy(from: &mut Connection, to: &mut Connection) {
    for (columns, table) in [
        ("xid, id, slot, written_at, key, headers, payload", "outbox"),
        ("cursor_id, name, system_identifier, token", "outbox_cursors"),
        (
            "cursor_id, seq, token, slot, lower, high, next, upper, upper_high, upper_next, last",
            "outbox_acks",
        ),
    ] {
        let values: Vec<_> =
            columns.split(", ").map(|column| format!("quote_nullable({column}::text)")).collect();
        let rows = format!(
            "SELECT coalesce(string_agg('(' || concat_ws(', ', {}) || ')', ', '), '') FROM {table}",
            values.join(", ")
        );
        let values = value(from, &rows).await;
        if !values.is_empty() {
            sql(
                to,
                &format!("INSERT INTO {table} ({columns}) OVERRIDING SYSTEM VALUE VALUES {values}"),
            )
            .await;
        }
    }
    let last = value(from, "SELECT last_value FROM outbox_id_seq").await;
    sql(to, &format!("SELECT setval('outbox_id_seq', {last}); SELECT setval('outbox_cursors_cursor_id_seq', 100)")).await;
}

/// Its xids are lower than those of the positions, so everything new would count as acknowledged.
fn a_log_that_was_copied_to_a_younger_cluster_is_refused_until_it_is_rebased(major: u32) {
    let (old, young) = (Server::of(major), Server::of(major));
    run(async {
        let (old, young) = (Log::new(old).await, Log::new(young).await);
        let mut writer = old.session().await;
        let mut late = old.session().await;
        // An older cluster.
        sql(&mut writer, "DO $$ BEGIN FOR i IN 1..3000 LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$").await;
        add(&mut writer, "", "acknowledged").await;
        sql(&mut late, "BEGIN").await;
        add(&mut late, "", "late").await;
        add(&mut writer, "", "acknowledged too").await;
        let mut cursor = old.open("reader").await;
        let mut half = old.cursor("half").page_size(1).open().await.unwrap();
        assert_eq!(take(&mut half).await, ["acknowledged"]);
        assert_eq!(take(&mut cursor).await, ["acknowledged", "acknowledged too"]);
        sql(&mut late, "COMMIT").await;
        add(&mut writer, "", "unread").await;
        cursor.close().await;
        half.close().await;

        let mut restored = young.session().await;
        copy(&mut writer, &mut restored).await;
        add(&mut restored, "", "young").await;
        let error = young.cursor("reader").open().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Schema);
        let hint = "run Outbox::rebase, or `pgbell outbox rebase`, while nothing else uses the log";
        assert_eq!(error.hint(), Some(hint));
        let status = young.outbox.status().await.unwrap();
        assert!(status.cursors.iter().all(|cursor| !cursor.is_of_this_cluster), "{status:?}");

        // It waits for writers.
        let mut open = young.session().await;
        sql(&mut open, "BEGIN").await;
        add(&mut open, "", "open").await;
        let rebase = tokio::spawn({
            let outbox = young.outbox.clone();
            async move { outbox.rebase().await }
        });
        let waiting = "SELECT pid FROM pg_locks WHERE NOT granted";
        let pid = loop {
            let rows = restored.query(waiting, &[]).await.unwrap();
            if let Some(row) = rows.get(0) {
                break row.get(0).unwrap().parse().unwrap();
            }
        };
        until_blocked(&mut restored, Some(pid)).await;
        sql(&mut open, "COMMIT").await;
        rebase.await.unwrap().unwrap();

        let mut cursor = young.open("reader").await;
        assert_eq!(
            take(&mut cursor).await,
            ["late", "acknowledged too", "unread", "young", "open"]
        );
        let mut half = young.cursor("half").page_size(10).open().await.unwrap();
        assert_eq!(take(&mut half).await, ["late", "acknowledged too", "unread", "young", "open"]);
        add(&mut restored, "", "new").await;
        assert_eq!(look(&mut cursor).await.0, ["new"]);
        nothing(&mut half_next(half).await).await;
        cursor.close().await;
    });
}

/// Takes what is there.
async fn half_next(mut cursor: pgbell::durable::Cursor) -> pgbell::durable::Cursor {
    let batch = cursor.try_next().await.unwrap().unwrap();
    assert_eq!(payloads(&batch), ["new"]);
    batch.ack().await.unwrap();
    cursor
}

/// A snapshot does not list the xid of its own transaction: what the transaction wrote later would never be read.
fn a_session_that_has_an_xid_cannot_read(major: u32) {
    let server = Server::of(major);
    run(async {
        let log = Log::new(server).await;
        let mut session = log.session().await;
        log.open("reader").await.close().await;
        let read =
            "SELECT * FROM outbox_read(1, 1, false, 10, '1:1:', 0, '1', NULL, NULL, NULL, NULL)";
        sql(&mut session, read).await;
        for (call, state) in [
            (read, "25001"),
            ("SELECT * FROM outbox_take('other', 'now', 'me', '1s', false)", "25001"),
        ] {
            sql(&mut session, "BEGIN; SELECT pg_current_xact_id()").await;
            let error = session.simple_query(call).await.unwrap_err();
            assert_eq!(error.sqlstate(), Some(state), "{error}");
            sql(&mut session, "ROLLBACK").await;
        }
        // With an older snapshot a lock does not show what was committed before it.
        for call in [
            "SELECT * FROM outbox_rotate()",
            "SELECT * FROM outbox_take('other', 'now', 'me', '1s', false)",
        ] {
            sql(&mut session, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1").await;
            let error = session.simple_query(call).await.unwrap_err();
            assert_eq!(error.sqlstate(), Some("25001"), "{error}");
            sql(&mut session, "ROLLBACK").await;
        }
    });
}

fn a_role_without_rights_is_refused_with_their_names(major: u32) {
    let server = Server::of(major);
    run(async {
        let log = Log::new(server).await;
        let mut owner = log.session().await;
        sql(&mut owner, "CREATE ROLE reader LOGIN; CREATE ROLE writer LOGIN").await;
        let url = |role: &str| log.server.cluster.url(role, "", "postgres");
        let outbox = Outbox::new(url("reader").as_str(), "outbox").unwrap();
        let denied = |error: Error| {
            assert_eq!(error.sqlstate(), Some("42501"), "{error}");
            let hint =
                "grant the role the rights that the chapter about durability of the guide lists";
            assert_eq!(error.hint(), Some(hint));
        };
        denied(outbox.check().await.unwrap_err());
        sql(
            &mut owner,
            "GRANT SELECT ON outbox, outbox_positions, outbox_settings, outbox_cursors TO reader",
        )
        .await;
        let error = outbox.cursor("a").open().await.unwrap_err().to_string();
        let lacks = "the role lacks SELECT on public.outbox_acks, INSERT on public.outbox_acks, SELECT on public.outbox_ack_slot, ";
        assert!(error.contains(lacks), "{error}");
        // The lists of the guide.
        sql(&mut owner, "GRANT SELECT, INSERT ON outbox_acks TO reader; GRANT SELECT, INSERT, UPDATE ON outbox_cursors TO reader; GRANT SELECT ON SEQUENCE outbox_ack_slot TO reader").await;
        sql(&mut owner, "GRANT INSERT (key, payload, headers) ON outbox TO writer; GRANT SELECT ON SEQUENCE outbox_slot TO writer").await;
        let mut writer = Connection::connect(url("writer").as_str()).await.unwrap();
        add(&mut writer, "", "one").await;
        for column in ["xid", "slot", "written_at"] {
            let insert = format!("INSERT INTO outbox ({column}, payload) VALUES (DEFAULT, 'x')");
            let error = writer.simple_query(&insert).await.unwrap_err();
            assert_eq!(error.sqlstate(), Some("42501"), "{error}");
        }
        let mut cursor =
            outbox.cursor("a").interval(Duration::from_secs(600)).open().await.unwrap();
        assert_eq!(take(&mut cursor).await, ["one"]);
        denied(outbox.rotate().await.unwrap_err());
        denied(outbox.init(&text()).await.unwrap_err());
        cursor.close().await;
    });
}

/// Its snapshots list no transactions in progress, so records that commit late would be skipped.
#[test]
fn a_standby_is_refused() {
    let server = Server::start();
    run(async {
        let log = Log::new(server).await;
        log.open("reader").await.close().await;
        let standby = log.server.cluster.standby().unwrap();
        let outbox = Outbox::new(standby.url_for_superuser().as_str(), "outbox").unwrap();
        for error in
            [outbox.cursor("reader").open().await.unwrap_err(), outbox.status().await.unwrap_err()]
        {
            assert_eq!(error.kind(), ErrorKind::Standby, "{error}");
            assert!(error.hint().unwrap().contains("a cursor needs the primary"), "{error}");
        }
        let mut session = Connection::connect(standby.url_for_superuser()).await.unwrap();
        let read =
            "SELECT * FROM outbox_read(1, 1, false, 10, '1:1:', 0, '1', NULL, NULL, NULL, NULL)";
        assert_eq!(session.simple_query(read).await.unwrap_err().sqlstate(), Some("25006"));
    });
}
