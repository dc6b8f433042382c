//! The files of the chapter `triggers`, as programs run them.

use pgbell::{Connection, Listener, Notifier, WakeTask, Wakeups};

use super::on_every_version;
use crate::support::{Server, next, poll_once, run, up_to_end, value};

on_every_version! {
    s8_notify_change_sends_each_change_after_its_commit
    s8_notify_row_sends_the_id_if_the_row_is_too_long
    g1_record_change_records_without_a_notification_and_a_nudge_wakes_the_worker
    g1_record_change_records_if_the_writer_has_another_search_path_a_table_of_the_same_name_or_few_rights
    s8_notify_row_notifies_if_the_writer_has_another_search_path_or_a_table_of_the_same_name
    s10_take_changes_takes_each_change_for_one_consumer
    s10_take_changes_takes_no_more_than_its_limit_if_the_table_was_nearly_empty_when_it_was_analyzed
    s7_notify_values_is_one_statement_with_parameters
    d1_update_and_notify_are_committed_together
}

const NOTIFY_CHANGE: &str = include_str!("../../../src/guide/recipes/notify_change.sql");
const NOTIFY_ROW: &str = include_str!("../../../src/guide/recipes/notify_row.sql");
const NOTIFY_VALUES: &str = include_str!("../../../src/guide/recipes/notify_values.sql");
const RECORD_CHANGE: &str = include_str!("../../../src/guide/recipes/record_change.sql");
const TAKE_CHANGES: &str = include_str!("../../../src/guide/recipes/take_changes.sql");
const UPDATE_AND_NOTIFY: &str = include_str!("../../../src/guide/recipes/update_and_notify.sql");

const USERS: &str = "CREATE TABLE users (id bigint PRIMARY KEY, name text)";

/// Returns the payloads that are committed before this call, all of them on one channel.
async fn payloads(listener: &mut Listener, writer: &mut Connection, channel: &str) -> Vec<String> {
    writer.notify(channel, "end").await.unwrap();
    up_to_end(listener).await.into_iter().map(|(_, payload)| payload).collect()
}

/// S8: a JSON payload after the commit, none after a rollback, equal ones of a transaction once.
fn s8_notify_change_sends_each_change_after_its_commit(major: u32) {
    let server = Server::of(major);
    run(async {
        let mut listener = server.listener(&["user_updates"]).await;
        let mut writer = server.connection().await;
        writer.simple_query(USERS).await.unwrap();
        writer.simple_query(NOTIFY_CHANGE).await.unwrap();
        let transactions = [
            "INSERT INTO users VALUES (7, 'a')",
            "BEGIN; INSERT INTO users VALUES (8, 'a'); ROLLBACK",
            "BEGIN; SAVEPOINT s; INSERT INTO users VALUES (9, 'a'); ROLLBACK TO s; COMMIT",
            "BEGIN; UPDATE users SET name = 'b'; UPDATE users SET name = 'c'; COMMIT",
            "UPDATE users SET name = 'd'",
            "DELETE FROM users",
        ];
        for transaction in transactions {
            writer.simple_query(transaction).await.unwrap();
        }
        let found = payloads(&mut listener, &mut writer, "user_updates").await;
        let start = |action: &str| {
            format!("{{\"user_id\" : 7, \"action\" : \"{action}\", \"timestamp\" : \"20")
        };
        let expected = ["INSERT", "UPDATE", "UPDATE", "DELETE"].map(start);
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for (found, start) in found.iter().zip(&expected) {
            assert!(found.starts_with(start), "{found}");
        }
    });
}

/// S8: a row whose payload exceeds 7,999 bytes does not fail its writer.
fn s8_notify_row_sends_the_id_if_the_row_is_too_long(major: u32) {
    let server = Server::of(major);
    run(async {
        let mut listener = server.listener(&["documents"]).await;
        let mut writer = server.connection().await;
        let table = "CREATE TABLE documents (id bigint PRIMARY KEY, body text)";
        writer.simple_query(table).await.unwrap();
        writer.simple_query(NOTIFY_ROW).await.unwrap();
        // The limit is within this range, in bytes: each character has two.
        let insert = "INSERT INTO documents \
                      SELECT 100 + n, repeat('é', 3900) || repeat('x', n) FROM generate_series(0, 199) n";
        writer.simple_query(insert).await.unwrap();
        let found = payloads(&mut listener, &mut writer, "documents").await;
        assert_eq!(found.len(), 200);
        let whole = found.iter().take_while(|payload| payload.contains("\"document\"")).count();
        assert_eq!(found[whole - 1].len(), 7_999);
        for (id, payload) in (100..).zip(&found).skip(whole) {
            assert_eq!(*payload, format!("{{\"id\" : {id}, \"action\" : \"INSERT\"}}"));
        }
        writer.simple_query("DELETE FROM documents WHERE id = 100").await.unwrap();
        let found = payloads(&mut listener, &mut writer, "documents").await;
        assert!(found[0].starts_with("{\"id\" : 100, \"action\" : \"DELETE\", \"document\" : {"));
    });
}

/// G1: the trigger sends nothing. A change that is rolled back is not recorded. After the commit a nudge wakes the worker.
fn g1_record_change_records_without_a_notification_and_a_nudge_wakes_the_worker(major: u32) {
    let server = Server::of(major);
    run(async {
        let mut listener = server.listener(&["user_changes"]).await;
        let mut writer = server.connection().await;
        let mut reader = server.connection().await;
        writer.simple_query(USERS).await.unwrap();
        writer.simple_query(RECORD_CHANGE).await.unwrap();
        let task = WakeTask::new("changes").channel("user_changes");
        let hour = std::time::Duration::from_secs(3_600);
        let wakeups =
            Wakeups::builder(server.url()).task(task.interval(hour)).connect().await.unwrap();
        let worker = wakeups.worker("changes").unwrap();
        assert!(worker.changed().await);

        let transactions = [
            "INSERT INTO users VALUES (7, 'a')",
            "BEGIN; INSERT INTO users VALUES (8, 'a'); ROLLBACK",
            "BEGIN; UPDATE users SET name = 'b'; DELETE FROM users; COMMIT",
        ];
        for transaction in transactions {
            writer.simple_query(transaction).await.unwrap();
        }
        let changed = worker.changed();
        let mut changed = std::pin::pin!(changed);
        assert_eq!(poll_once(changed.as_mut()).await, None);
        let notifier = Notifier::connect(server.url()).await.unwrap();
        notifier.nudge("user_changes", "7");
        assert!(changed.await);
        let limit = worker.batch_size().to_string();
        let rows = reader.query(TAKE_CHANGES, &[Some(&limit)]).await.unwrap();
        let found: Vec<_> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        let actions = ["INSERT", "UPDATE", "DELETE"];
        assert_eq!(found, actions.map(|action| (Some("7"), Some(action))));
        worker.found(rows.len());
        // The nudge is the only notification.
        assert_eq!(next(&mut listener).await.payload(), "7");
        assert_eq!(payloads(&mut listener, &mut writer, "user_changes").await, [""; 0]);
    });
}

/// S10: consumers take different changes at the same time, the oldest first, and a rollback returns them.
fn s10_take_changes_takes_each_change_for_one_consumer(major: u32) {
    let server = Server::of(major);
    run(async {
        let mut writer = server.connection().await;
        let (mut first, mut second) = (server.connection().await, server.connection().await);
        writer.simple_query(USERS).await.unwrap();
        writer.simple_query(RECORD_CHANGE).await.unwrap();
        writer.simple_query("INSERT INTO users SELECT generate_series(1, 10), 'a'").await.unwrap();
        let mut taken = Vec::new();
        for consumer in [&mut first, &mut second] {
            consumer.simple_query("BEGIN").await.unwrap();
            let rows = consumer.query(TAKE_CHANGES, &[Some("4")]).await.unwrap();
            let users = rows.iter().map(|row| row.get(0).unwrap().parse().unwrap());
            taken.push(users.collect::<Vec<u32>>());
        }
        assert_eq!(taken, [[1, 2, 3, 4], [5, 6, 7, 8]]);
        first.simple_query("ROLLBACK").await.unwrap();
        second.simple_query("COMMIT").await.unwrap();
        let left = "SELECT string_agg(user_id::text, ' ' ORDER BY id) FROM user_changes";
        assert_eq!(value(&mut writer, left).await, "1 2 3 4 9 10");
    });
}

/// S10: a plan for one row, which the statistics promise, must not choose the rows again for each of the fifty that were inserted since.
fn s10_take_changes_takes_no_more_than_its_limit_if_the_table_was_nearly_empty_when_it_was_analyzed(
    major: u32,
) {
    let server = Server::of(major);
    run(async {
        let mut writer = server.connection().await;
        writer.simple_query(USERS).await.unwrap();
        writer.simple_query(RECORD_CHANGE).await.unwrap();
        writer.simple_query("INSERT INTO users VALUES (1, 'a')").await.unwrap();
        writer.simple_query("ANALYZE user_changes").await.unwrap();
        writer.simple_query("INSERT INTO users SELECT generate_series(2, 51), 'a'").await.unwrap();
        for first in [1, 4] {
            let rows = writer.query(TAKE_CHANGES, &[Some("3")]).await.unwrap();
            let users: Vec<u32> =
                rows.iter().map(|row| row.get(0).unwrap().parse().unwrap()).collect();
            assert_eq!(users, [first, first + 1, first + 2]);
        }
        assert_eq!(value(&mut writer, "SELECT count(*) FROM user_changes").await, "45");
    });
}

/// G1: the trigger runs with the `search_path`, the temporary tables and the rights of the session that writes.
fn g1_record_change_records_if_the_writer_has_another_search_path_a_table_of_the_same_name_or_few_rights(
    major: u32,
) {
    let server = Server::of(major);
    run(async {
        let mut owner = server.connection().await;
        owner.simple_query(USERS).await.unwrap();
        owner.simple_query(RECORD_CHANGE).await.unwrap();
        let role = "CREATE ROLE clerk; GRANT INSERT ON public.users, public.user_changes TO clerk";
        owner.simple_query(role).await.unwrap();
        let same_name = "CREATE TEMPORARY TABLE user_changes \
                         (id bigint GENERATED ALWAYS AS IDENTITY, user_id bigint, action text)";
        for (id, writes_as) in
            [(1, "SET search_path = pg_catalog"), (2, same_name), (3, "SET ROLE clerk")]
        {
            let mut writer = server.connection().await;
            writer.simple_query(writes_as).await.unwrap();
            let insert = format!("INSERT INTO public.users VALUES ({id}, 'a')");
            writer.simple_query(&insert).await.unwrap();
        }
        // The consumer has a table of the same name, too.
        owner.simple_query(same_name).await.unwrap();
        let rows = owner.query(TAKE_CHANGES, &[Some("9")]).await.unwrap();
        let found: Vec<_> = rows.iter().map(|row| row.get(0).unwrap()).collect();
        assert_eq!(found, ["1", "2", "3"]);
    });
}

/// S8: the trigger runs with the `search_path` and the temporary tables of the session that writes.
fn s8_notify_row_notifies_if_the_writer_has_another_search_path_or_a_table_of_the_same_name(
    major: u32,
) {
    let server = Server::of(major);
    run(async {
        let mut listener = server.listener(&["documents"]).await;
        let mut owner = server.connection().await;
        let table = "CREATE TABLE documents (id bigint PRIMARY KEY, body text)";
        owner.simple_query(table).await.unwrap();
        owner.simple_query(NOTIFY_ROW).await.unwrap();
        for (id, writes_as) in [
            (1, "SET search_path = pg_catalog"),
            (2, "CREATE TEMPORARY TABLE documents (other point)"),
        ] {
            let mut writer = server.connection().await;
            writer.simple_query(writes_as).await.unwrap();
            let insert = format!("INSERT INTO public.documents VALUES ({id}, 'a')");
            writer.simple_query(&insert).await.unwrap();
        }
        let document = |id| {
            format!(
                "{{\"id\" : {id}, \"action\" : \"INSERT\", \"document\" : {{\"id\":{id},\"body\":\"a\"}}}}"
            )
        };
        let found = payloads(&mut listener, &mut owner, "documents").await;
        assert_eq!(found, [1, 2].map(document));
    });
}

/// S7: three notifications of one statement arrive together, on channels that keep their case.
fn s7_notify_values_is_one_statement_with_parameters(major: u32) {
    let server = Server::of(major);
    run(async {
        let mut listener = server.listener(&["chan0", "Chan1", "CHAN2"]).await;
        let mut sender = server.connection().await;
        let values = ["1", "-2", "9223372036854775807"].map(Some);
        sender.query(NOTIFY_VALUES, &values).await.unwrap();
        sender.notify("chan0", "end").await.unwrap();
        let expected = [
            ("chan0", "{\"payload\" : 1}"),
            ("Chan1", "{\"payload\" : -2}"),
            ("CHAN2", "{\"payload\" : 9223372036854775807}"),
        ];
        let expected = expected.map(|(channel, payload)| (channel.to_owned(), payload.to_owned()));
        assert_eq!(up_to_end(&mut listener).await, expected);
    });
}

/// D1: in a transaction the notification is delivered on its COMMIT only. Without a changed row there is none.
fn d1_update_and_notify_are_committed_together(major: u32) {
    let server = Server::of(major);
    run(async {
        let mut listener = server.listener(&["orders_channel"]).await;
        let mut writer = server.connection().await;
        let orders =
            "CREATE TABLE orders AS SELECT i AS id, 'new' AS status FROM generate_series(1, 3) i";
        writer.simple_query(orders).await.unwrap();
        for (id, end) in [("1", "ROLLBACK"), ("2", "COMMIT"), ("99", "COMMIT"), ("3", "COMMIT")] {
            writer.simple_query("BEGIN").await.unwrap();
            let values = [Some(id), Some("shipped")];
            let rows = writer.query(UPDATE_AND_NOTIFY, &values).await.unwrap();
            assert_eq!(rows.len(), usize::from(id != "99"), "{id}");
            // Neither in the table nor delivered before the end of the transaction.
            let mut other = server.connection().await;
            let shipped =
                format!("SELECT count(*) FROM orders WHERE id = {id} AND status = 'shipped'");
            assert_eq!(value(&mut other, &shipped).await, "0");
            writer.simple_query(end).await.unwrap();
        }
        let found = payloads(&mut listener, &mut writer, "orders_channel").await;
        assert_eq!(found, ["2", "3"]);
        let shipped =
            "SELECT string_agg(id::text, ' ' ORDER BY id) FROM orders WHERE status = 'shipped'";
        assert_eq!(value(&mut writer, shipped).await, "2 3");
    });
}
