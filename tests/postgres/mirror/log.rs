//! The log events of a mirror.

use std::time::Duration;

use pgbell::Error;
use pgbell::durable::MirrorRow;
use tracing::Level;

use super::support::{NEVER, Shop, until_is};
use crate::log::Log;
use crate::support::{Server, poll_once, until, until_sql};

fn pieces(row: MirrorRow<'_>) -> Result<i32, Error> {
    row.parse("status")
}

#[test]
fn the_log_has_what_a_mirror_reads_leaves_out_and_fails_to_read() {
    let server = Server::start();
    let log = Log::default();
    log.run_at(Level::DEBUG, async {
        let mut shop = Shop::new(server).await;
        shop.sql("UPDATE orders SET status = '7'").await;
        let builder = shop.orders().name("shop").load_pause(Duration::ZERO, Duration::ZERO);
        let mirror = builder.load(pieces).await.unwrap();
        shop.change(1, "a pl4nted value").await;
        until_is(&mirror, "1", None).await;
        until("it is counted", || mirror.stats().undecodable == 1).await;
        shop.sql("NOTIFY orders, 'no key'").await;
        until("all rows are read", || mirror.stats().loads == 2).await;
        shop.sql("ALTER TABLE orders RENAME TO old").await;
        mirror.reload().await.unwrap_err();
        shop.sql("ALTER TABLE old RENAME TO orders").await;
        until("it is right again", || mirror.status().is_current()).await;
        mirror.close().await;
    });
    let text = log.text();
    let mut lines = text.lines().filter(|line| line.contains("mirror=\"shop\""));
    for (level, expected, field) in [
        ("INFO", "mirror loaded", "rows=3 time="),
        ("WARN", "rows were left out because they were not decoded", "the row with the key \"1\""),
        ("WARN", "names a key that is not valid: all rows are read", "22P02"),
        ("DEBUG", "all rows were read again", "rows=3 changes=0 time="),
        ("WARN", "a mirror is stale: its rows were not read", "42P01"),
        ("DEBUG", "all rows were read again", "rows=3 changes=0 time="),
        ("INFO", "mirror closed", ""),
    ] {
        let found = lines.find(|line| line.contains(expected));
        let line = found.unwrap_or_else(|| panic!("{expected} is not in its place:\n{text}"));
        assert!(line.contains(level) && line.contains(field), "{line}");
    }
    assert!(!text.contains("a pl4nted value"), "{text}");
}

/// The session of the reads waits for a lock, so a read runs when the listening session is lost.
#[test]
fn the_log_has_a_read_that_was_given_up() {
    let server = Server::start();
    let log = Log::default();
    log.run(async {
        let mut shop = Shop::new(server).await;
        let mirror = shop.orders().name("shop").interval(NEVER).load(|row: MirrorRow<'_>| {
            row.parse::<String>("status")
        });
        let mirror = mirror.await.unwrap();
        shop.sql("BEGIN; LOCK TABLE orders; NOTIFY orders, '1'").await;
        let mut other = shop.server.connection().await;
        let mut reload = Box::pin(mirror.reload());
        assert!(poll_once(reload.as_mut()).await.is_none());
        until_sql(&mut other, "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)").await;
        // The listening session: the others are in a transaction, or run this statement.
        let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend' AND state = 'idle'";
        assert_eq!(other.simple_query(kill).await.unwrap()[0].len(), 1);
        until("the read is given up", || mirror.stats().given_up == 1).await;
        shop.sql("COMMIT").await;
        reload.await.unwrap();
        mirror.close().await;
    });
    let text = log.text();
    let expected = "a read was given up after a loss: all rows are read in a new session";
    let line =
        text.lines().find(|line| line.contains(expected)).unwrap_or_else(|| panic!("{text}"));
    assert!(line.contains("INFO") && line.contains("mirror=\"shop\""), "{line}");
}
