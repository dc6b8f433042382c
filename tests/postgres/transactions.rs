//! The effect of a transaction on notifications: all on COMMIT, none on ROLLBACK, equal ones once.

use std::pin::pin;

use pgbell::proto::wire::TransactionStatus;
use pgbell::{Connection, ErrorKind};

use crate::support::{
    Server, expect_numbers, poll_once, receive, run, send_numbers, up_to_end, value,
};

fn payloads(found: &[(String, String)]) -> Vec<&str> {
    found.iter().map(|(_, payload)| payload.as_str()).collect()
}

/// D1: inside a transaction of the user, `notify` is delivered only on COMMIT.
#[test]
fn notify_in_a_transaction_is_delivered_on_commit_only() {
    let server = Server::start();
    run(async {
        let mut listener = server.listener(&["ch"]).await;
        let mut sender = server.connection().await;
        let mut other = server.connection().await;
        sender.simple_query("BEGIN").await.unwrap();
        assert_eq!(sender.transaction_status(), TransactionStatus::InTransaction);
        sender.notify("ch", "first").await.unwrap();
        sender.notify("ch", "second").await.unwrap();
        // A later commit is delivered first, so the first two were not sent before.
        other.notify("ch", "overtakes").await.unwrap();
        sender.simple_query("COMMIT").await.unwrap();
        assert_eq!(sender.transaction_status(), TransactionStatus::Idle);

        sender.simple_query("BEGIN").await.unwrap();
        sender.notify("ch", "never").await.unwrap();
        sender.simple_query("ROLLBACK").await.unwrap();

        sender.simple_query("BEGIN").await.unwrap();
        sender.notify("ch", "kept").await.unwrap();
        sender.simple_query("SAVEPOINT s").await.unwrap();
        sender.notify("ch", "undone").await.unwrap();
        sender.simple_query("ROLLBACK TO s").await.unwrap();
        sender.simple_query("COMMIT").await.unwrap();

        // A failed commit sends nothing.
        sender.simple_query("BEGIN").await.unwrap();
        sender.notify("ch", "failed").await.unwrap();
        sender.simple_query("SELECT 1 / 0").await.unwrap_err();
        assert_eq!(sender.transaction_status(), TransactionStatus::Failed);
        assert_eq!(sender.notify("ch", "failed").await.unwrap_err().sqlstate(), Some("25P02"));
        sender.simple_query("COMMIT").await.unwrap();
        sender.notify("ch", "end").await.unwrap();
        let found = up_to_end(&mut listener).await;
        assert_eq!(payloads(&found), ["overtakes", "first", "second", "kept"]);
    });
}

/// D1: a connection that is itself in a transaction receives nothing before the end of the transaction.
#[test]
fn a_session_in_a_transaction_receives_notifications_after_its_end() {
    let server = Server::start();
    run(async {
        let mut inline = server.connection().await;
        inline.listen("ch").await.unwrap();
        let mut other = server.connection().await;
        inline.simple_query("BEGIN").await.unwrap();
        inline.notify("ch", "own").await.unwrap();
        other.notify("ch", "other").await.unwrap();
        assert_eq!(value(&mut inline, "SELECT 1").await, "1");
        inline.simple_query("COMMIT").await.unwrap();
        let found = receive(&mut inline, 2).await;
        let found: Vec<_> = found.iter().map(|n| n.payload()).collect();
        assert_eq!(found, ["other", "own"]);
        assert_eq!(inline.transaction_status(), TransactionStatus::Idle);
    });
}

/// A transaction that a query leaves open on the listening session would stop all delivery: it is rolled
/// back, and the query returns an error.
#[test]
fn a_transaction_left_open_through_a_handle_is_rolled_back() {
    let server = Server::start();
    run(async {
        let mut listener = server.listener(&["ch"]).await;
        let handle = listener.handle();
        let mut other = server.connection().await;
        other.simple_query("CREATE TABLE t (a int)").await.unwrap();
        let mut last = 0;
        for sql in [
            "BEGIN",
            "BEGIN; INSERT INTO t VALUES (1)",
            "BEGIN; SELECT pg_notify('ch', 'never')",
            "START TRANSACTION READ ONLY",
            "BEGIN; SELECT 1 / 0",
            "COMMIT; BEGIN",
        ] {
            let error = handle.simple_query(sql).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Misuse, "{sql}: {error}");
            assert!(format!("{error:#}").contains("rolled back"), "{sql}: {error}");
            let cause = std::error::Error::source(&error);
            let cause = cause.and_then(|cause| cause.downcast_ref::<pgbell::Error>()?.sqlstate());
            assert_eq!(cause, sql.contains("1 / 0").then_some("22012"), "{sql}: {error}");
            // Delivery continues.
            send_numbers(&mut other, "ch", last + 1, last + 10).await;
            expect_numbers(&mut listener, last + 1, last + 10).await;
            last += 10;
        }
        assert_eq!(value(&mut other, "SELECT count(*) FROM t").await, "0");
        handle.simple_query("BEGIN; INSERT INTO t VALUES (1); COMMIT").await.unwrap();
        assert_eq!(value(&mut other, "SELECT count(*) FROM t").await, "1");
        // The session still listens.
        handle.listen("more").await.unwrap();
        other.notify("more", "1").await.unwrap();
        expect_numbers(&mut listener, 1, 1).await;
    });
}

/// S8: the trigger of the documentation. A JSON payload after commit, none after rollback, equal pairs once.
#[test]
fn a_trigger_notifies_of_each_change_after_commit() {
    let server = Server::start();
    run(async {
        let mut listener = server.listener(&["Changes"]).await;
        let mut writer = server.connection().await;
        writer
            .simple_query(
                "CREATE TABLE item (id int PRIMARY KEY, name text);
                 CREATE FUNCTION notify_change() RETURNS trigger LANGUAGE plpgsql AS $$
                 BEGIN
                     PERFORM pg_notify('Changes', json_build_object(
                         'op', TG_OP, 'id', COALESCE(NEW.id, OLD.id), 'name', NEW.name)::text);
                     RETURN NULL;
                 END $$;
                 CREATE TRIGGER notify_change AFTER INSERT OR UPDATE OR DELETE ON item
                 FOR EACH ROW EXECUTE FUNCTION notify_change()",
            )
            .await
            .unwrap();
        let quoted = "q\"u\\o";
        let insert = "INSERT INTO item VALUES ($1::int, $2)";
        writer.query(insert, &[Some("1"), Some(quoted)]).await.unwrap();
        writer.simple_query("BEGIN; INSERT INTO item VALUES (2, 'never'); ROLLBACK").await.unwrap();
        writer.simple_query("INSERT INTO item VALUES (1, 'twice')").await.unwrap_err();
        writer.query("UPDATE item SET name = $1", &[Some("new")]).await.unwrap();
        writer.query("DELETE FROM item WHERE id = $1::int", &[Some("1")]).await.unwrap();
        // Equal pairs arrive once in one transaction, and twice in two transactions.
        let again = "INSERT INTO item VALUES (3, 'a'); UPDATE item SET name = 'b'; \
                     UPDATE item SET name = 'b'; DELETE FROM item";
        writer.simple_query(again).await.unwrap();
        for statement in again.split("; ") {
            writer.simple_query(statement).await.unwrap();
        }
        writer.notify("Changes", "end").await.unwrap();
        let json = |op: &str, id: u32, name: &str| {
            format!("{{\"op\" : \"{op}\", \"id\" : {id}, \"name\" : {name}}}")
        };
        let (insert, update, delete) =
            (json("INSERT", 3, "\"a\""), json("UPDATE", 3, "\"b\""), json("DELETE", 3, "null"));
        let expect = [
            json("INSERT", 1, r#""q\"u\\o""#),
            json("UPDATE", 1, "\"new\""),
            json("DELETE", 1, "null"),
            insert.clone(),
            update.clone(),
            delete.clone(),
            insert,
            update.clone(),
            update,
            delete,
        ];
        assert_eq!(payloads(&up_to_end(&mut listener).await), expect);
    });
}

/// S8: the longest payload has 7,999 bytes. With one more byte the writing transaction fails.
#[test]
fn a_payload_that_is_too_long_fails_the_writer_alone() {
    let server = Server::start();
    run(async {
        let mut listener = server.listener(&["ch"]).await;
        let mut writer: Connection = server.connection().await;
        let sql = "SELECT pg_notify('ch', 'lost'), pg_notify('ch', repeat('x', $1::int))";
        let error = writer.query(sql, &[Some("8000")]).await.unwrap_err();
        assert_eq!(error.sqlstate(), Some("22023"), "{error}");
        writer.query(sql, &[Some("7999")]).await.unwrap();
        writer.notify("ch", "end").await.unwrap();
        let found = up_to_end(&mut listener).await;
        assert_eq!(payloads(&found), ["lost", &"x".repeat(7_999)]);
    });
}

/// Returns the channels of a session.
async fn listening(connection: &mut Connection) -> Vec<String> {
    let rows = connection.simple_query("SELECT pg_listening_channels() ORDER BY 1").await.unwrap();
    rows[0].iter().map(|row| row.get(0).unwrap().to_owned()).collect()
}

/// A LISTEN that a ROLLBACK undoes must not be reported as successful.
#[test]
fn a_listen_inside_a_transaction_of_the_user_is_refused_and_nothing_is_sent() {
    let server = Server::logging();
    run(async {
        let mut inline = server.connection().await;
        inline.listen("before").await.unwrap();
        for open in ["BEGIN", "BEGIN; SELECT 1 / 0"] {
            let _ = inline.simple_query(open).await;
            for command in 0..4 {
                let refused = match command {
                    0 => inline.listen("a").await,
                    1 => inline.listen_all(["a", "b"]).await,
                    2 => inline.unlisten("before").await,
                    _ => inline.unlisten_all().await,
                };
                let error = refused.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Misuse, "{open}: {error}");
                assert!(format!("{error:#}").contains("a transaction is open"), "{error}");
            }
            inline.simple_query("ROLLBACK").await.unwrap();
        }
        assert_eq!(listening(&mut inline).await, ["before"]);
        let statements = server.statements_of(inline.process_id());
        let is_listen = |sql: &&String| sql.contains("LISTEN ");
        let sent: Vec<_> = statements.iter().filter(is_listen).collect();
        assert_eq!(sent, [r#"LISTEN "before""#]);
        // Outside a transaction it succeeds.
        inline.listen("a").await.unwrap();
        inline.unlisten("before").await.unwrap();
        assert_eq!(listening(&mut inline).await, ["a"]);
    });
}

/// The transaction was opened by a query whose future was dropped: only its answer reports the transaction.
#[test]
fn a_listen_after_a_dropped_begin_is_refused_too() {
    let server = Server::start();
    run(async {
        let mut inline = server.connection().await;
        assert!(poll_once(pin!(inline.simple_query("BEGIN"))).await.is_none());
        assert_eq!(inline.transaction_status(), TransactionStatus::Idle);
        let error = inline.listen("a").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misuse, "{error}");
        inline.simple_query("ROLLBACK").await.unwrap();
        assert!(listening(&mut inline).await.is_empty());
        // A transaction that was ended this way is no longer open.
        inline.simple_query("BEGIN").await.unwrap();
        assert!(poll_once(pin!(inline.simple_query("COMMIT"))).await.is_none());
        inline.listen("a").await.unwrap();
        assert_eq!(listening(&mut inline).await, ["a"]);
    });
}
