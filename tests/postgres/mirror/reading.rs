//! What a mirror has after changes, losses and loads.

use std::time::Duration;

use pgbell::durable::{Mirror, MirrorRow, MirrorSource};
use pgbell::{Config, Error, Listen};

use super::support::{Shop, changed, content, status, until_is};
use crate::matrix::on_every_version;
use crate::support::{Server, run, until};

on_every_version! {
    g6_a_notification_reads_the_row_that_it_names
    keys_of_every_type_name_their_rows
    the_trigger_of_the_guide_names_every_row_that_changes
}

const NOTIFY_KEY: &str = include_str!("../../../src/guide/recipes/notify_key.sql");

/// An UPDATE that changes the key, and TRUNCATE, too.
fn the_trigger_of_the_guide_names_every_row_that_changes(major: u32) {
    let server = Server::of(major);
    run(async {
        let mut shop = Shop::new(server).await;
        shop.sql(NOTIFY_KEY).await;
        let mirror = shop.orders().channel("orders_channel").load(status).await.unwrap();
        for (sql, expected) in [
            ("UPDATE orders SET status = 'paid' WHERE id < 3", "1 paid, 2 paid, 3 paid"),
            ("INSERT INTO orders VALUES (4, 'new')", "1 paid, 2 paid, 3 paid, 4 new"),
            ("UPDATE orders SET id = id + 10 WHERE id > 2", "1 paid, 13 paid, 14 new, 2 paid"),
            ("DELETE FROM orders WHERE id = 14", "1 paid, 13 paid, 2 paid"),
        ] {
            shop.sql(sql).await;
            let page = || {
                let rows: Vec<_> = content(&mirror)
                    .iter()
                    .map(|(key, status)| format!("{key} {status}"))
                    .collect();
                rows.join(", ")
            };
            until(sql, || page() == expected).await;
        }
        assert_eq!((mirror.stats().loads, mirror.stats().invalid_keys), (1, 0));
        shop.sql("TRUNCATE orders").await;
        until("TRUNCATE", || mirror.is_empty()).await;
        mirror.close().await;
    });
}

/// G6: an UPDATE, an INSERT and a DELETE with the key as the payload. Only the rows of the keys are read.
fn g6_a_notification_reads_the_row_that_it_names(major: u32) {
    let server = Server::of(major);
    run(async {
        let mut shop = Shop::new(server).await;
        let mirror = shop.mirror().await;
        assert_eq!((mirror.len(), mirror.version()), (3, 1));
        let mut first = mirror.watch_key("1");
        shop.change(1, "shipped").await;
        assert_eq!(changed(&mut first).await.unwrap().as_str(), "shipped");

        let mut fourth = mirror.watch_key("4");
        assert!(fourth.current().is_none());
        shop.sql("BEGIN; INSERT INTO orders VALUES (4, 'new'); NOTIFY orders, '4'; COMMIT").await;
        assert_eq!(changed(&mut fourth).await.unwrap().as_str(), "new");

        shop.sql("BEGIN; DELETE FROM orders WHERE id IN (1, 4); NOTIFY orders, '1'; NOTIFY orders, '4'; COMMIT").await;
        assert!(changed(&mut first).await.is_none());
        assert!(changed(&mut fourth).await.is_none());
        assert_eq!(mirror.len(), 2);
        assert!(mirror.get("1").is_none());
        // The counters follow the content.
        until("each change is counted", || mirror.stats().changes == 3 + 4).await;
        assert_eq!((mirror.stats().loads, mirror.stats().failures), (1, 0));
        mirror.close().await;
    });
}

/// The server infers the type of the keys: the column is not converted, so its index is used. A row that has vanished is found by another text of its key.
fn keys_of_every_type_name_their_rows(major: u32) {
    let server = Server::of(major);
    run(async {
        let mut shop = Shop::new(server).await;
        shop.sql(
            "CREATE TYPE mood AS ENUM ('sad', 'it''s \"ok\"'); CREATE DOMAIN short AS varchar(40)",
        )
        .await;
        let uuid = "6f1c0a52-0000-4000-8000-00000000abcd";
        for (column_type, key, other_text) in [
            ("bigint", "7", " 07 "),
            ("numeric(9,2)", "7.00", "7.00"),
            ("uuid", uuid, "6F1C0A52-0000-4000-8000-00000000ABCD"),
            ("text", "a \"quoted\\, {key}\" NULL ü", "a \"quoted\\, {key}\" NULL ü"),
            ("short", "null", "null"),
            ("date", "2026-02-28", "20260228"),
            ("boolean", "t", "true"),
            ("mood", "it's \"ok\"", "it's \"ok\""),
        ] {
            shop.sql("DROP TABLE IF EXISTS \"Odd\"").await;
            shop.sql(&format!(
                "CREATE TABLE \"Odd\" (\"the \"\"Key\" {column_type} PRIMARY KEY, n int)"
            ))
            .await;
            let insert = format!("INSERT INTO \"Odd\" VALUES ($1::text::{column_type}, 1)");
            shop.session.query(&insert, &[Some(key)]).await.unwrap();
            let source = MirrorSource::table("public.Odd", "the \"Key").columns(["n"]);
            let number = |row: MirrorRow<'_>| -> Result<i32, Error> { row.parse("n") };
            let mirror = shop.builder(source).load(number).await.unwrap();
            assert_eq!(content(&mirror), [(key.to_owned(), 1)].into(), "{column_type}");
            shop.sql("UPDATE \"Odd\" SET n = 2").await;
            mirror.refresh([key]).await.unwrap();
            assert_eq!(content(&mirror), [(key.to_owned(), 2)].into(), "{column_type}");
            shop.sql("DELETE FROM \"Odd\"").await;
            mirror.refresh([other_text]).await.unwrap();
            assert_eq!(content(&mirror), [].into(), "{column_type}");
            let stats = mirror.stats();
            assert_eq!((stats.loads, stats.invalid_keys), (1, 0), "{column_type}");
            mirror.close().await;
        }
    });
}

/// G6: a loss is followed by a load, in a new session. The change was not notified.
#[test]
fn g6_after_a_gap_all_rows_are_read() {
    let server = Server::start();
    run(async {
        let mut shop = Shop::new(server).await;
        let mirror = shop.mirror().await;
        shop.sql("UPDATE orders SET status = 'lost' WHERE id = 2; DELETE FROM orders WHERE id = 3; INSERT INTO orders VALUES (4, 'new')").await;
        shop.kill_all().await;
        until("the loss is repaired", || mirror.stats().loads > 1).await;
        let expected = [("1", "new"), ("2", "lost"), ("4", "new")];
        assert_eq!(
            content(&mirror),
            expected.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
        );
        // And the notifications of the next session.
        shop.change(1, "shipped").await;
        until_is(&mirror, "1", Some("shipped".to_owned())).await;
        until("the mirror is current", || mirror.status().is_current()).await;
        mirror.close().await;
    });
}

/// What is committed between LISTEN and the end of the first load is read after it.
#[test]
fn a_row_that_changes_during_the_first_load_is_read_after_it() {
    let server = Server::start();
    run(async {
        let mut shop = Shop::new(server).await;
        // The load waits for the lock after it has its snapshot.
        let source = MirrorSource::query(
            "SELECT id, status, pg_advisory_xact_lock_shared(7) FROM orders",
            "id",
        );
        shop.sql("SELECT pg_advisory_lock(7)").await;
        let builder = shop.builder(source);
        let loading = tokio::spawn(builder.load(status));
        let mut other = shop.server.connection().await;
        crate::support::until_sql(
            &mut other,
            "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted)",
        )
        .await;
        shop.change(1, "shipped").await;
        shop.sql("SELECT pg_advisory_unlock(7)").await;
        let mirror = loading.await.unwrap().unwrap();
        until_is(&mirror, "1", Some("shipped".to_owned())).await;
        assert_eq!(mirror.stats().loads, 1);
        mirror.close().await;
    });
}

#[test]
fn a_load_shows_the_rows_of_one_moment() {
    let server = Server::start();
    run(async {
        let mut shop = Shop::new(server).await;
        shop.sql(
            "CREATE TABLE accounts AS SELECT id, 100 AS balance FROM generate_series(1, 5000) id",
        )
        .await;
        let source = MirrorSource::table("accounts", "id");
        let balance = |row: MirrorRow<'_>| -> Result<i64, Error> { row.parse("balance") };
        let mirror = shop.builder(source).load(balance).await.unwrap();
        let mut writer = shop.server.connection().await;
        let writing = tokio::spawn(async move {
            for n in 1..=400 {
                // Far from each other, so that they are in different parts of a load.
                let (from, to) = (n, 5_001 - n);
                let transfer = format!(
                    "UPDATE accounts SET balance = balance + CASE id WHEN {from} THEN -7 ELSE 7 END WHERE id IN ({from}, {to})"
                );
                writer.simple_query(&transfer).await.unwrap();
            }
        });
        let mut versions = 0;
        while !writing.is_finished() {
            let before = mirror.version();
            mirror.reload().await.unwrap();
            versions += mirror.version() - before;
            let snapshot = mirror.snapshot();
            assert_eq!(snapshot.len(), 5_000);
            assert_eq!(snapshot.iter().map(|(_, balance)| **balance).sum::<i64>(), 500_000);
        }
        writing.await.unwrap();
        assert!(versions > 1, "{versions}");
        mirror.close().await;
    });
}

/// A value is kept if its row is the same, so a watch does not fire.
#[test]
fn rows_that_have_not_changed_keep_their_values_and_change_no_version() {
    let server = Server::start();
    run(async {
        let mut shop = Shop::new(server).await;
        let source = MirrorSource::table("orders", "id").columns(["status"]);
        let mirror = shop.builder(source).load(status).await.unwrap();
        let before = mirror.get("1").unwrap();
        // A column that is not read.
        shop.sql("UPDATE orders SET note = 'urgent'").await;
        mirror.reload().await.unwrap();
        mirror.refresh(["1", "2", "99"]).await.unwrap();
        assert!(std::sync::Arc::ptr_eq(&before, &mirror.get("1").unwrap()));
        assert_eq!((mirror.version(), mirror.stats().changes), (1, 3));
        // A NULL is not an empty text, and a value in another column is another row.
        let source = MirrorSource::query("SELECT id, status, note FROM orders", "id");
        let both = |row: MirrorRow<'_>| -> Result<(Option<String>, Option<String>), Error> {
            Ok((row.get("status").map(str::to_owned), row.values().get(2).map(str::to_owned)))
        };
        let mirror = shop.builder(source).load(both).await.unwrap();
        for (status, note) in [
            (Some(""), None),
            (None, Some("")),
            (None, None),
            (Some("ab"), Some("c")),
            (Some("a"), Some("bc")),
        ] {
            let update = "UPDATE orders SET status = $1, note = $2 WHERE id = 1";
            shop.session.query(update, &[status, note]).await.unwrap();
            mirror.reload().await.unwrap();
            let owned = |text: Option<&str>| text.map(str::to_owned);
            assert_eq!(*mirror.get("1").unwrap(), (owned(status), owned(note)));
        }
    });
}

#[test]
fn a_query_with_groups_is_mirrored_by_the_key_of_the_group() {
    let server = Server::start();
    run(async {
        let mut shop = Shop::new(server).await;
        let source = MirrorSource::query(
            "SELECT status AS s, count(*) AS n FROM orders GROUP BY status -- by state",
            "s",
        );
        let number = |row: MirrorRow<'_>| -> Result<i64, Error> { row.parse("n") };
        let mirror = shop.builder(source).load(number).await.unwrap();
        assert_eq!(content(&mirror), [("new".to_owned(), 2), ("paid".to_owned(), 1)].into());
        shop.sql("UPDATE orders SET status = 'paid'").await;
        mirror.refresh(["new", "paid"]).await.unwrap();
        assert_eq!(content(&mirror), [("paid".to_owned(), 3)].into());
        mirror.close().await;
    });
}

/// Without notifications, at the interval.
#[test]
fn a_mirror_that_does_not_listen_reads_all_rows_at_its_interval() {
    let server = Server::start();
    run(async {
        let mut shop = Shop::new(server).await;
        let source = MirrorSource::table("orders", "id");
        // One is disabled, the other one has no channel.
        for channel in [Some("orders"), None] {
            let mut builder = Mirror::builder(shop.server.url().as_str(), source.clone());
            if let Some(channel) = channel {
                builder = builder.channel(channel).listen(Listen::Disabled);
            }
            let mirror = builder.interval(Duration::from_millis(100)).load(status).await.unwrap();
            assert_eq!(shop.sessions().await, 1);
            assert!(!mirror.status().is_current());
            assert!(mirror.status().stale_since.is_none());
            for status in ["paid", "new"] {
                shop.change(1, status).await;
                until_is(&mirror, "1", Some(status.to_owned())).await;
            }
            mirror.close().await;
        }
    });
}

/// Rows of 20 kB, of which a result of 1 MB has only some.
#[test]
fn rows_that_are_too_large_for_one_result_are_read_in_several() {
    let server = Server::start();
    run(async {
        let mut shop = Shop::new(server).await;
        shop.sql("CREATE TABLE pages AS SELECT id, repeat(id::text, 20000 / length(id::text)) AS text FROM generate_series(1, 1500) id").await;
        let config: Config = shop.server.url().parse().unwrap();
        let config = config.result_limit_bytes(1_000_000);
        let length = |row: MirrorRow<'_>| -> Result<usize, Error> {
            Ok(row.get("text").unwrap_or("").len())
        };
        let builder = Mirror::builder(config, MirrorSource::table("pages", "id"));
        let mirror = builder.load(length).await.unwrap();
        assert_eq!(mirror.len(), 1_500);
        shop.sql("UPDATE pages SET text = ''").await;
        shop.sql("UPDATE pages SET text = repeat('x', 20000) WHERE id <= 1000").await;
        mirror.refresh((1..=1_000).map(|id| id.to_string())).await.unwrap();
        let sum: usize = mirror.snapshot().iter().map(|(_, length)| **length).sum();
        assert!(sum > 1_000 * 20_000, "{sum}");
        assert!(
            (1..=1_000)
                .all(|id| mirror.get(&id.to_string()).is_some_and(|length| *length == 20_000))
        );
        assert_eq!((mirror.stats().loads, mirror.stats().failures), (1, 0));
        mirror.close().await;
    });
}

/// Far more keys than one read has: all rows are read, and what is committed after that too.
#[test]
fn a_flood_of_notifications_ends_with_the_content_of_the_table() {
    let server = Server::start();
    run(async {
        let mut shop = Shop::new(server).await;
        shop.sql("INSERT INTO orders SELECT id, 'new' FROM generate_series(4, 20000) id").await;
        let mirror = shop.mirror().await;
        shop.sql("BEGIN; UPDATE orders SET status = 'paid'; SELECT count(pg_notify('orders', id::text)) FROM orders; COMMIT").await;
        shop.change(20_000, "shipped").await;
        until_is(&mirror, "20000", Some("shipped".to_owned())).await;
        let snapshot = mirror.snapshot();
        assert!(
            snapshot
                .iter()
                .all(|(key, status)| **status == if key == "20000" { "shipped" } else { "paid" })
        );
        assert!(mirror.stats().loads <= 1 + 20, "{:?}", mirror.stats());
        mirror.close().await;
    });
}
