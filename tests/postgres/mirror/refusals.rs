//! What is wrong at the first load is an error that names the cure. What becomes wrong later leaves the mirror as it is, stale, until it is right again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pgbell::durable::{Mirror, MirrorRow, MirrorSource};
use pgbell::{Error, ErrorKind};

use super::support::{Shop, content, status, until_is};
use crate::support::{Server, TEST_TIMEOUT, run, until};

#[test]
fn a_first_load_that_is_not_possible_names_the_cure() {
    let server = Server::start();
    run(async {
        let mut shop = Shop::new(server).await;
        shop.sql(
            "CREATE TABLE twins (id int, other int); INSERT INTO twins VALUES (1, 7), (2, 7), (NULL, 8);
            CREATE TABLE documents (id json); CREATE SEQUENCE numbers",
        )
        .await;
        let table = MirrorSource::table;
        let query = |sql: &str| MirrorSource::query(sql, "id");
        let key = "must be one column of its table or of the result";
        for (source, kind, hint) in [
            (
                table("nothing", "id"),
                ErrorKind::Schema,
                "create the table, or correct its name in the source",
            ),
            (
                table("nowhere.orders", "id"),
                ErrorKind::Schema,
                "create the table, or correct its name",
            ),
            (table("orders", "key"), ErrorKind::Schema, key),
            (table("orders", "id").columns(["price"]), ErrorKind::Schema, key),
            (query("SELECT 1 AS id, 2 AS id"), ErrorKind::Schema, key),
            (
                table("twins", "other"),
                ErrorKind::Schema,
                "choose a key column that is unique, such as the primary key",
            ),
            (
                table("twins", "id"),
                ErrorKind::Schema,
                "exclude such rows in the query of the mirror, or declare",
            ),
            (
                table("documents", "id"),
                ErrorKind::Schema,
                "needs a type with an operator =, such as bigint",
            ),
            (
                query("SELECT 1 AS id; SELECT 2"),
                ErrorKind::Schema,
                "must be one SELECT without a semicolon",
            ),
            (
                query("DELETE FROM orders RETURNING id"),
                ErrorKind::Schema,
                "must be one SELECT without a semicolon",
            ),
            (
                query("SELECT nextval('numbers') AS id"),
                ErrorKind::Schema,
                "must not write: its transaction is read-only",
            ),
        ] {
            let text = format!("{source:?}");
            let error = shop.builder(source).load(status).await.unwrap_err();
            assert_eq!(error.kind(), kind, "{text}: {error}");
            assert!(error.hint().is_some_and(|found| found.contains(hint)), "{text}: {error}");
        }
        let error = shop.orders().max_rows(2).load(status).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(error.to_string().contains("more than 2 rows"), "{error}");
        assert!(error.hint().unwrap().contains("or mirror a query that has fewer rows"), "{error}");
        shop.orders().max_rows(3).load(status).await.unwrap();
    });
}

#[test]
fn a_role_without_the_right_to_read_the_table_gets_a_hint() {
    let server = Server::start();
    run(async {
        let mut shop = Shop::new(server).await;
        shop.sql("CREATE ROLE guest LOGIN").await;
        let url = shop.server.cluster.url("guest", "", "postgres");
        let builder = Mirror::builder(url.as_str(), MirrorSource::table("orders", "id"));
        let error = builder.load(status).await.unwrap_err();
        assert_eq!(error.sqlstate(), Some("42501"), "{error}");
        assert!(error.hint().unwrap().contains("SELECT on what the mirror reads"), "{error}");
    });
}

#[test]
fn a_mirror_of_a_standby_is_refused() {
    let server = Server::start();
    run(async {
        let shop = Shop::new(server).await;
        let standby = shop.server.cluster.standby().unwrap_or_else(|error| panic!("{error}"));
        standby.wait_caught_up(&shop.server.cluster).unwrap();
        let url = standby.url_for_superuser();
        let error = Mirror::builder(url.as_str(), MirrorSource::table("orders", "id"))
            .load(status)
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Standby, "{error}");
        assert!(error.hint().unwrap().contains("a mirror reads from the primary"), "{error}");
    });
}

fn pieces(row: MirrorRow<'_>) -> Result<i32, Error> {
    match row.get("status") {
        Some("panic") => panic!("no such status"),
        _ => row.parse("status"),
    }
}

#[test]
fn a_row_that_is_not_decoded_fails_the_first_load_with_its_key_and_is_left_out_later() {
    let server = Server::start();
    run(async {
        let mut shop = Shop::new(server).await;
        for broken in ["new", "panic"] {
            shop.sql("UPDATE orders SET status = id").await;
            shop.sql(&format!("UPDATE orders SET status = '{broken}' WHERE id = 2")).await;
            let error = shop.orders().load(pieces).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Decode, "{error}");
            assert!(
                error.to_string().contains("the row with the key \"2\" was not decoded"),
                "{error}"
            );
        }
        shop.change(2, "2").await;
        let mirror = shop.orders().load(pieces).await.unwrap();
        let mut watch = mirror.watch_key("2");
        for (n, broken) in [(1, "new"), (2, "panic")] {
            shop.change(2, broken).await;
            until_is(&mirror, "2", None).await;
            // The count follows the content.
            until("it is counted", || mirror.stats().undecodable == n).await;
            assert_eq!((mirror.len(), mirror.status().left_out), (2, 1));
            until("it is reported", || {
                mirror.last_error().is_some_and(|error| error.to_string().contains("the key \"2\""))
            })
            .await;
        }
        assert!(watch.changed().await.unwrap().is_none());
        // It is not decoded again before it changes.
        mirror.reload().await.unwrap();
        assert_eq!(mirror.stats().undecodable, 2);
        assert_eq!((mirror.len(), mirror.status().left_out, mirror.stats().failures), (2, 1, 0));
        shop.change(2, "7").await;
        assert_eq!(watch.changed().await.unwrap().as_deref(), Some(&7));
        assert_eq!((mirror.len(), mirror.status().left_out), (3, 0));
        // One that is left out vanishes.
        shop.change(2, "new").await;
        until_is(&mirror, "2", None).await;
        shop.sql("BEGIN; DELETE FROM orders WHERE id = 2; NOTIFY orders, '2'; COMMIT").await;
        until("it has vanished", || mirror.status().left_out == 0).await;
        mirror.close().await;
    });
}

/// For example a payload of JSON on the same channel. It may mean that a row has changed, so all rows are read, once in a second.
#[test]
fn a_flood_of_payloads_that_are_no_keys_is_one_load_in_a_second_and_other_keys_are_read_meanwhile()
{
    let server = Server::start();
    run(async {
        let mut shop = Shop::new(server).await;
        let mirror = shop.mirror().await;
        let begun = Instant::now();
        let is_over = Arc::new(AtomicBool::new(false));
        let flood = tokio::spawn({
            let (mut session, is_over) = (shop.server.connection().await, is_over.clone());
            async move {
                let mut n = 0;
                while !is_over.load(Ordering::Relaxed) {
                    n += 1;
                    session.simple_query(&format!("NOTIFY orders, 'no key {n}'")).await.unwrap();
                }
                n
            }
        });
        until("there were some", || mirror.stats().invalid_keys > 50).await;
        // Whatever comes together with such a payload is in the next load.
        for status in ["paid", "shipped"] {
            shop.change(1, status).await;
            until_is(&mirror, "1", Some(status.to_owned())).await;
        }
        is_over.store(true, Ordering::Relaxed);
        assert!(flood.await.unwrap() > 50);
        let (stats, seconds) = (mirror.stats(), begun.elapsed().as_secs());
        assert!(stats.loads <= 1 + 1 + seconds + 1, "{stats:?} in {seconds} s");
        assert_eq!((stats.failures, mirror.status().left_out), (0, 0));
        let error = mirror.last_error().unwrap();
        assert_eq!(error.sqlstate(), Some("22P02"), "{error}");
        // A call with such a key has its answer after that load.
        shop.sql("UPDATE orders SET status = 'found' WHERE id = 3").await;
        mirror.refresh(["no key"]).await.unwrap();
        assert_eq!(mirror.get("3").unwrap().as_str(), "found");
        mirror.close().await;
    });
}

#[test]
fn a_table_that_is_altered_makes_the_mirror_stale_until_it_is_as_before() {
    let server = Server::start();
    run(async {
        let mut shop = Shop::new(server).await;
        let mirror = shop.mirror().await;
        let before = content(&mirror);
        for (alter, back, kind, text) in [
            (
                "ALTER TABLE orders RENAME TO old_orders",
                "ALTER TABLE old_orders RENAME TO orders",
                ErrorKind::Schema,
                "42P01",
            ),
            (
                "ALTER TABLE orders RENAME id TO key",
                "ALTER TABLE orders RENAME key TO id",
                ErrorKind::Schema,
                "id",
            ),
            (
                "ALTER TABLE orders DROP CONSTRAINT orders_pkey; INSERT INTO orders VALUES (1, 'twin')",
                "DELETE FROM orders WHERE status = 'twin'",
                ErrorKind::Schema,
                "two rows of a mirror have the key \"1\"",
            ),
        ] {
            shop.sql(alter).await;
            let since = std::time::SystemTime::now();
            shop.sql("NOTIFY orders, '1'").await;
            until(alter, || mirror.status().stale_since.is_some_and(|stale| stale >= since)).await;
            let error = mirror.reload().await.unwrap_err();
            assert_eq!(error.kind(), kind, "{alter}: {error}");
            assert!(error.to_string().contains(text), "{alter}: {error}");
            assert_eq!(mirror.last_error().unwrap().kind(), kind);
            assert!(!mirror.status().is_current());
            assert_eq!(content(&mirror), before, "{alter}");
            let failures = mirror.stats().failures;
            until("it is tried again", || mirror.stats().failures > failures).await;
            shop.sql(back).await;
            until("it is right again", || mirror.status().is_current()).await;
            assert_eq!(content(&mirror), before, "{back}");
        }
        // Other columns: the rows are decoded again.
        shop.sql("ALTER TABLE orders RENAME status TO state").await;
        mirror.reload().await.unwrap();
        assert_eq!((mirror.len(), mirror.status().left_out), (0, 3));
        shop.sql("ALTER TABLE orders RENAME state TO status").await;
        mirror.reload().await.unwrap();
        assert_eq!(content(&mirror), before);
        mirror.close().await;
    });
}

#[test]
fn more_rows_than_the_limit_make_the_mirror_stale_until_there_are_fewer() {
    let server = Server::start();
    run(async {
        let mut shop = Shop::new(server).await;
        let mirror = shop.orders().max_rows(4).load(status).await.unwrap();
        shop.sql("INSERT INTO orders VALUES (4, 'new')").await;
        mirror.refresh(["4"]).await.unwrap();
        shop.sql("INSERT INTO orders VALUES (5, 'new')").await;
        for _ in 0..2 {
            // By its key, and by the load that follows.
            let error = mirror.refresh(["5"]).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
            assert!(error.to_string().contains("more than 4 rows"), "{error}");
        }
        assert_eq!(mirror.len(), 4);
        assert!(mirror.status().stale_since.is_some());
        shop.sql("DELETE FROM orders WHERE id = 1").await;
        until("it is right again", || mirror.get("5").is_some()).await;
        assert!(mirror.get("1").is_none());
        mirror.close().await;
    });
}

/// The statement timeout of the mirror, and that of the server.
#[test]
fn a_read_that_takes_too_long_fails_and_is_repeated() {
    let server = Server::start();
    run(async {
        let mut shop = Shop::new(server).await;
        let mirror =
            shop.orders().statement_timeout(Duration::from_millis(300)).load(status).await.unwrap();
        shop.sql("BEGIN; LOCK TABLE orders").await;
        let error = tokio::time::timeout(TEST_TIMEOUT, mirror.reload()).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        shop.sql("UPDATE orders SET status = 'paid' WHERE id = 1; COMMIT").await;
        until_is(&mirror, "1", Some("paid".to_owned())).await;
        mirror.close().await;
    });
}
