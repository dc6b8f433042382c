//! Messages that are longer than the limit up to which a session buffers a whole message, from real servers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pgbell::{Connection, ErrorKind, Listener};

use crate::support::{Server, next, run, value};

/// The number of bytes, or the kind and SQLSTATE of an error.
type Expected = Result<usize, (ErrorKind, Option<&'static str>)>;

/// Queries with answers that are longer than any other message.
const ANSWERS: &[(&str, Expected)] = &[
    ("SELECT repeat('x', 1100000)", Ok(1_100_000)),
    ("SELECT repeat('x', 60000000)", Ok(60_000_000)),
    ("SELECT repeat('x', 70000000)", Err((ErrorKind::Unsupported, None))),
    (
        "SELECT repeat('x', 40000000) FROM generate_series(1, 3)",
        Err((ErrorKind::Unsupported, None)),
    ),
    (
        "DO $$ BEGIN RAISE EXCEPTION '%', repeat('x', 5000000); END $$",
        Err((ErrorKind::Server, Some("P0001"))),
    ),
    (
        "DO $$ BEGIN RAISE EXCEPTION USING MESSAGE = 'no', DETAIL = repeat('é', 3000000), HINT = 'h'; END $$",
        Err((ErrorKind::Server, Some("P0001"))),
    ),
    ("DO $$ BEGIN RAISE NOTICE '%', repeat('x', 5000000); END $$", Ok(0)),
    (
        "COPY (SELECT repeat('x', 10000) FROM generate_series(1, 10000)) TO STDOUT",
        Err((ErrorKind::Unsupported, None)),
    ),
    (
        "COPY (SELECT repeat('x', 2000000) FROM generate_series(1, 50)) TO STDOUT",
        Err((ErrorKind::Unsupported, None)),
    ),
    // PostgreSQL reports this parameter since version 18.
    ("SELECT set_config('search_path', repeat('a,', 30000) || 'b', false) IS NULL", Ok(1)),
    ("RESET search_path", Ok(0)),
];

fn check(sql: &str, answer: Result<Vec<pgbell::Rows>, pgbell::Error>, expect: Expected) {
    match (answer, expect) {
        (Ok(results), Ok(bytes)) => {
            let found = results[0].get(0).map_or(0, |row| row.get(0).unwrap().len());
            assert_eq!(found, bytes, "{sql}");
        }
        (Err(error), Err((kind, code))) => {
            assert_eq!((error.kind(), error.sqlstate()), (kind, code), "{sql}: {error}");
            assert!(format!("{error:#}").len() < 16 * 1024, "{sql}");
        }
        (found, expect) => panic!("{sql}: {found:?}, expected {expect:?}"),
    }
}

/// N163, N164.
#[test]
fn a_long_message_fails_at_most_its_own_command_and_loses_no_session() {
    let server = Server::of(18);
    run(async {
        let mut connection = server.connection().await;
        connection.listen("ch").await.unwrap();
        let process_id = connection.process_id();
        let mut listener = server.listener(&["ch"]).await;
        for (sql, expect) in ANSWERS {
            check(sql, connection.simple_query(sql).await, *expect);
            check(sql, listener.simple_query(*sql).await, *expect);
            // Nothing is lost, and the next command succeeds.
            assert_eq!(value(&mut connection, "SELECT 1").await, "1", "{sql}");
            connection.notify("ch", sql).await.unwrap();
            let batch = connection.recv_batch().await.unwrap();
            assert!(batch.loss().is_none() && batch.len() == 1, "{sql}");
            assert_eq!(next(&mut listener).await.payload_bytes(), sql.as_bytes());
        }
        assert_eq!(connection.process_id(), process_id);
        let stats = listener.stats();
        assert_eq!((stats.gaps, stats.sessions), (0, 1));
        let bound = connection.query("SELECT repeat('x', $1::int)", &[Some("2000000")]).await;
        check("bound", bound.map(|rows| vec![rows]), Ok(2_000_000));
    });
}

#[test]
fn the_limit_of_results_is_a_setting_of_every_session() {
    let server = Server::start();
    run(async {
        let config: pgbell::Config = server.url().parse().unwrap();
        let config = config.result_limit_bytes(2_000_000);
        let refused = Err((ErrorKind::Unsupported, None));
        let mut connection = Connection::connect(&config).await.unwrap();
        let received = Arc::new(AtomicU64::new(0));
        let hook = {
            let received = received.clone();
            move |mut connection: Connection, _| {
                let received = received.clone();
                async move {
                    let sql = "SELECT repeat('x', 2100000)";
                    check(sql, connection.simple_query(sql).await, refused);
                    received.fetch_add(1, Ordering::Relaxed);
                    connection.close().await;
                    Ok(())
                }
            }
        };
        let listener = Listener::builder(&config).channels(["ch"]).on_live(hook);
        let mut listener = listener.connect().await.unwrap();
        for (bytes, expect) in [(1_900_000, Ok(1_900_000)), (2_100_000, refused)] {
            let sql = format!("SELECT repeat('x', {bytes})");
            check(&sql, connection.simple_query(&sql).await, expect);
            check(&sql, listener.simple_query(&*sql).await, expect);
        }
        connection.notify("ch", "end").await.unwrap();
        assert_eq!(next(&mut listener).await.payload(), "end");
        assert_eq!(received.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn a_hook_can_read_a_result_of_more_than_a_megabyte() {
    let server = Server::start();
    run(async {
        let read = Arc::new(AtomicU64::new(0));
        let hook = {
            let read = read.clone();
            move |mut connection: Connection, _| {
                let read = read.clone();
                async move {
                    let sql = "SELECT json_agg(repeat('j', 100)) FROM generate_series(1, 13000)";
                    let rows = connection.simple_query(sql).await?;
                    let bytes = rows[0].get(0).unwrap().get(0).unwrap().len();
                    read.fetch_add(bytes as u64, Ordering::Relaxed);
                    connection.close().await;
                    Ok(())
                }
            }
        };
        let builder = Listener::builder(server.url()).channels(["ch"]).on_live(hook);
        let mut listener = builder.connect().await.unwrap();
        let mut connection = server.connection().await;
        connection.notify("ch", "first").await.unwrap();
        assert_eq!(next(&mut listener).await.payload(), "first");
        assert!(read.load(Ordering::Relaxed) > 1_300_000);
        assert_eq!(listener.stats().gaps, 0);
    });
}

/// The highest number of columns of a table, each with the longest name.
#[test]
fn a_result_with_the_highest_number_of_columns_is_returned() {
    let server = Server::start();
    run(async {
        let mut connection = server.connection().await;
        let names: Vec<_> =
            (0..1_600).map(|n| format!("{n} AS {}{n:04}", "c".repeat(59))).collect();
        let sql = format!("SELECT {}", names.join(", "));
        let rows = connection.simple_query(&sql).await.unwrap();
        let columns = rows[0].columns();
        assert_eq!((columns.len(), columns[1_599].name().len()), (1_600, 63));
        assert_eq!(rows[0].get(0).unwrap().get(1_599), Some("1599"));
    });
}
