//! Queries: results, parameters, errors, and refused commands.

use std::pin::pin;

use pgbell::{Connection, ErrorKind};

use crate::support::{Server, TEST_TIMEOUT, next, poll_once, run, until_blocked, value};

/// The results have rows, NULL, several statements and tags.
#[test]
fn simple_queries_return_a_result_for_each_statement() {
    let server = Server::start();
    run(async {
        let mut connection = server.connection().await;
        let results = connection
            .simple_query(
                "CREATE TEMP TABLE t (a int, b text); INSERT INTO t VALUES (1, 'x'), (2, NULL), (3, ''); \
                 SELECT a, b AS \"B b\" FROM t ORDER BY a; DELETE FROM t WHERE a > 1; SELECT FROM t; ;",
            )
            .await
            .unwrap();
        let tags: Vec<_> = results.iter().map(|rows| rows.command_tag()).collect();
        assert_eq!(tags, ["CREATE TABLE", "INSERT 0 3", "SELECT 3", "DELETE 2", "SELECT 1"]);
        let affected: Vec<_> = results.iter().map(|rows| rows.rows_affected()).collect();
        assert_eq!(affected, [None, Some(3), Some(3), Some(2), Some(1)]);
        let rows = &results[2];
        let names: Vec<_> = rows.columns().iter().map(|column| column.name()).collect();
        assert_eq!(names, ["a", "B b"]);
        let oids: Vec<_> = rows.columns().iter().map(|column| column.type_oid()).collect();
        assert_eq!(oids, [23, 25]);
        let values: Vec<_> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        assert_eq!(values, [(Some("1"), Some("x")), (Some("2"), None), (Some("3"), Some(""))]);
        assert_eq!(rows.get(3).map(|row| row.len()), None);
        assert_eq!(rows.get(0).unwrap().get(2), None);

        let long = value(&mut connection, "SELECT repeat('é', 300000)").await;
        assert_eq!(long, "é".repeat(300_000));
        let many =
            connection.simple_query("SELECT i FROM generate_series(1, 20000) i").await.unwrap();
        assert_eq!(many[0].len(), 20_000);
        assert_eq!(many[0].get(19_999).unwrap().get(0), Some("20000"));
        let empty = connection.simple_query("").await.unwrap();
        assert!(empty.iter().all(|rows| rows.is_empty() && rows.command_tag().is_empty()));
    });
}

/// D1: values are parameters, with any content. NULL is one too.
#[test]
fn parameters_are_bound_and_never_text() {
    let server = Server::start();
    run(async {
        let mut connection = server.connection().await;
        let evil = "'; DROP TABLE x; --\"\\ \u{1} é";
        let rows = connection
            .query(
                "SELECT $1::text, $2::text, $3::int + 1, $4",
                &[Some(evil), None, Some("41"), Some("")],
            )
            .await
            .unwrap();
        let row = rows.get(0).unwrap();
        let found = [row.get(0), row.get(1), row.get(2), row.get(3)];
        assert_eq!(found, [Some(evil), None, Some("42"), Some("")]);
        // 20: int8. Without it the server would use text for the argument of pg_typeof.
        let rows = connection.query_typed("SELECT pg_typeof($1)", &[(20, "7")]).await.unwrap();
        assert_eq!(rows.get(0).unwrap().get(0), Some("bigint"));
        let rows = connection.query("SELECT 1 WHERE false", &[]).await.unwrap();
        assert_eq!((rows.len(), rows.columns().len(), rows.command_tag()), (0, 1, "SELECT 0"));
        let rows = connection.query("SET application_name = 'x'", &[]).await.unwrap();
        assert_eq!((rows.command_tag(), rows.columns().len()), ("SET", 0));

        let error = connection.query("SELECT $1::int", &[Some("seven")]).await.unwrap_err();
        assert_eq!(error.sqlstate(), Some("22P02"), "{error}");
        let error = connection.query("SELECT $1::int", &[]).await.unwrap_err();
        assert_eq!(error.sqlstate(), Some("08P01"), "{error}");
        // A parameter has its own length: only the server can refuse a NUL in it.
        let error = connection.query("SELECT $1", &[Some("a\0b")]).await.unwrap_err();
        assert_eq!(error.sqlstate(), Some("22021"), "{error}");
        assert_eq!(value(&mut connection, "SELECT 1").await, "1");
    });
}

/// An ERROR is the answer to one command: the connection continues.
#[test]
fn an_error_leaves_the_connection_usable() {
    let server = Server::start();
    run(async {
        let mut connection = server.connection().await;
        let listener = server.listener(&["ch"]).await;
        connection.listen("ch").await.unwrap();
        for (sql, code) in [
            ("SELEC 1", "42601"),
            ("SELECT 1 / 0", "22012"),
            ("SELECT * FROM nowhere", "42P01"),
            ("SELECT 1; SELECT pg_notify('', 'x')", "22023"),
        ] {
            for error in [
                connection.simple_query(sql).await.unwrap_err(),
                listener.simple_query(sql).await.unwrap_err(),
            ] {
                assert_eq!(error.kind(), ErrorKind::Server, "{sql}: {error}");
                assert_eq!(error.sqlstate(), Some(code), "{sql}: {error}");
                assert!(!error.db_error().unwrap().message().is_empty());
                assert!(!error.is_transient());
            }
        }
        connection.notify("ch", "still").await.unwrap();
        assert_eq!(connection.recv_batch().await.unwrap().len(), 1);
        let mut listener = listener;
        assert_eq!(next(&mut listener).await.payload(), "still");
    });
}

/// COPY in both directions is refused, and the session continues.
#[test]
fn copy_is_refused_and_the_session_continues() {
    let server = Server::start();
    run(async {
        let mut connection = server.connection().await;
        let mut listener = server.listener(&["ch"]).await;
        connection.simple_query("CREATE TABLE t (a int)").await.unwrap();
        for sql in [
            "COPY (SELECT generate_series(1, 100000)) TO STDOUT",
            "COPY t FROM STDIN",
            "SELECT 1; COPY t FROM STDIN; SELECT 2",
            "COPY t TO STDOUT; SELECT 1",
        ] {
            for error in [
                connection.simple_query(sql).await.unwrap_err(),
                listener.simple_query(sql).await.unwrap_err(),
            ] {
                // For COPY FROM STDIN the server itself reports that no data was sent.
                let to_stdout = sql.contains("STDOUT");
                let kind = if to_stdout { ErrorKind::Unsupported } else { ErrorKind::Server };
                assert_eq!(error.kind(), kind, "{sql}: {error}");
                assert!(format!("{error:#}").contains("is not supported"), "{error}");
            }
        }
        let sql = "COPY (SELECT 1) TO STDOUT";
        assert_eq!(connection.query(sql, &[]).await.unwrap_err().kind(), ErrorKind::Unsupported);
        let error = connection.query("COPY t FROM STDIN", &[]).await.unwrap_err();
        assert_eq!(error.sqlstate(), Some("57014"), "{error}");
        assert_eq!(value(&mut connection, "SELECT count(*) FROM t").await, "0");
        connection.notify("ch", "still").await.unwrap();
        assert_eq!(next(&mut listener).await.payload(), "still");
    });
}

/// A result that is too long is an error. Memory stays limited and the session continues.
#[test]
fn a_result_that_is_too_long_is_refused() {
    let server = Server::start();
    run(async {
        let mut connection: Connection = server.connection().await;
        let sql = "SELECT repeat('x', 1000) FROM generate_series(1, 100000)";
        let error = connection.simple_query(sql).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert_eq!(value(&mut connection, "SELECT 1").await, "1");
    });
}

/// COPY FROM STDIN with another command sent after it: the server takes that command for data of the wrong kind, and
/// ends the session. Every call returns.
#[test]
fn a_copy_with_a_command_after_it_leaves_no_call_waiting() {
    let server = Server::start();
    run(async {
        let mut other = server.connection().await;
        other.simple_query("CREATE TABLE t (a int)").await.unwrap();
        other.simple_query("SELECT pg_advisory_lock(1)").await.unwrap();
        let mut inline = server.connection().await;
        let process_id = inline.process_id();
        let copy = "SELECT pg_advisory_xact_lock(1); COPY t FROM STDIN";
        assert!(poll_once(pin!(inline.simple_query(copy))).await.is_none());
        let mut behind = pin!(inline.simple_query("SELECT 2"));
        assert!(poll_once(behind.as_mut()).await.is_none());
        until_blocked(&mut other, process_id).await;
        assert_eq!(value(&mut other, "SELECT pg_advisory_unlock(1)").await, "t");
        let answer = tokio::time::timeout(TEST_TIMEOUT, behind).await.expect("no answer");
        let error = answer.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InDoubt, "{error}");
        assert!(format!("{error:#}").contains("08P01"), "{error}");
    });
}

/// A server message can have any length. Only a part of it is shown.
#[test]
fn an_error_with_very_long_fields_is_shown_in_part_and_kept_whole() {
    const LONG: usize = 1_000_000;
    let server = Server::start();
    run(async {
        let mut connection = server.connection().await;
        let listener = server.listener(&["ch"]).await;
        for field in
            ["MESSAGE", "DETAIL", "HINT", "COLUMN", "CONSTRAINT", "DATATYPE", "TABLE", "SCHEMA"]
        {
            // Another field needs a message of its own.
            let message = if field == "MESSAGE" { "" } else { "MESSAGE = 'short', " };
            let sql = format!(
                "DO $$ BEGIN RAISE USING {message}{field} = repeat(E'\\x1b', {LONG}); END $$"
            );
            for error in [
                connection.simple_query(&sql).await.unwrap_err(),
                listener.simple_query(&*sql).await.unwrap_err(),
            ] {
                let words = error.db_error().unwrap();
                assert_eq!(words.code(), "P0001", "{field}");
                let kept = pgbell::proto::wire::Diagnostic::from(words)
                    .fields()
                    .any(|(_, value)| value.len() == LONG);
                assert!(kept, "{field}");
                if field == "HINT" {
                    assert_eq!(error.hint().map(str::len), Some(LONG));
                }
                for shown in [
                    format!("{error:#}"),
                    format!("{error:?}"),
                    words.to_string(),
                    format!("{words:?}"),
                ] {
                    assert!(shown.len() < 32 * 1024, "{field}: {} bytes", shown.len());
                    assert!(!shown.contains('\u{1b}'), "{field}");
                }
            }
        }
        assert_eq!(value(&mut connection, "SELECT 1").await, "1");
        let names: Vec<_> = (0..1_600).map(|n| format!("1 AS {}_{n:04}", "c".repeat(58))).collect();
        let rows = connection.simple_query(&format!("SELECT {}", names.join(","))).await.unwrap();
        assert_eq!(rows[0].columns().len(), 1_600);
        let shown = format!("{rows:?}");
        assert!(shown.len() < 16 * 1024, "{} bytes", shown.len());
    });
}
