//! Notifications that arrive while the listening session itself is busy.
//!
//! The session waits for an advisory lock that another one holds: unlike with `pg_sleep`, the test decides how long
//! it is busy.

use std::pin::pin;

use pgbell::Connection;

use crate::support::{
    Server, expect_numbers, lagged, number, poll_once, receive, run, send_numbers, until_blocked,
    until_received, value,
};

const BUSY: &str = "SELECT 'done' FROM pg_advisory_xact_lock(1)";

async fn hold(connection: &mut Connection) {
    connection.simple_query("SELECT pg_advisory_lock(1)").await.unwrap();
}

async fn release(connection: &mut Connection) {
    assert_eq!(value(connection, "SELECT pg_advisory_unlock(1)").await, "t");
}

/// S4: no notification is delivered while the listening session runs a statement, and all are delivered after it.
#[test]
fn a_busy_listener_gets_all_notifications_afterwards() {
    let server = Server::start();
    run(async {
        let mut listener = server.listener(&["ch"]).await;
        let mut other = server.connection().await;
        hold(&mut other).await;
        let handle = listener.handle();
        let busy = tokio::spawn(async move { handle.simple_query(BUSY).await });
        until_blocked(&mut other, listener.process_id()).await;
        for i in 0..200 {
            send_numbers(&mut other, "ch", 10 * i + 1, 10 * (i + 1)).await;
        }
        assert_eq!(listener.stats().received, 0);
        release(&mut other).await;
        let rows = busy.await.unwrap().unwrap();
        assert_eq!(rows[0].get(0).unwrap().get(0), Some("done"));
        send_numbers(&mut other, "ch", 2_001, 2_100).await;
        expect_numbers(&mut listener, 1, 2_100).await;
        assert_eq!(listener.stats().lagged, 0);
    });
}

/// S4 with `pg_sleep`.
#[test]
fn a_sleeping_listener_gets_all_notifications_afterwards() {
    let server = Server::start();
    run(async {
        let mut listener = server.listener(&["ch"]).await;
        let mut other = server.connection().await;
        let handle = listener.handle();
        let asleep = tokio::spawn(async move { handle.simple_query("SELECT pg_sleep(1)").await });
        send_numbers(&mut other, "ch", 1, 1_000).await;
        asleep.await.unwrap().unwrap();
        send_numbers(&mut other, "ch", 1_001, 2_000).await;
        expect_numbers(&mut listener, 1, 2_000).await;
    });
}

/// S4: a connection keeps the notifications that arrive with the answer of its own query.
#[test]
fn a_busy_connection_keeps_what_arrives() {
    let server = Server::start();
    run(async {
        let mut inline = server.connection().await;
        inline.listen("ch").await.unwrap();
        let mut other = server.connection().await;
        for round in 0..3 {
            hold(&mut other).await;
            let process_id = inline.process_id();
            let busy = tokio::spawn(async move {
                let done = match round {
                    0 => value(&mut inline, BUSY).await,
                    1 => inline
                        .query(BUSY, &[])
                        .await
                        .unwrap()
                        .get(0)
                        .unwrap()
                        .get(0)
                        .unwrap()
                        .to_owned(),
                    _ => {
                        inline.simple_query(&format!("{BUSY}; SELECT 1 / 0")).await.unwrap_err();
                        "done".to_owned()
                    }
                };
                assert_eq!(done, "done");
                inline
            });
            until_blocked(&mut other, process_id).await;
            for i in 0..100 {
                send_numbers(&mut other, "ch", 10 * i + 1, 10 * (i + 1)).await;
            }
            release(&mut other).await;
            inline = busy.await.unwrap();
            // Two more commands before the first receive.
            inline.listen("ch").await.unwrap();
            assert_eq!(value(&mut inline, "SELECT 1").await, "1");
            send_numbers(&mut other, "ch", 1_001, 1_010).await;
            let found = receive(&mut inline, 1_010).await;
            assert!(found.iter().map(|n| number(n.payload_bytes())).eq(1..=1_010));
            let sequences = found.iter().map(|n| n.sequence());
            assert!(sequences.eq(1_010 * round..1_010 * (round + 1)));
        }
    });
}

/// S4: notifications beyond the backlog's limit are counted, exactly and at their position.
#[test]
fn notifications_beyond_the_backlog_of_a_busy_connection_are_counted() {
    let server = Server::start();
    run(async {
        let mut inline = server.connection().await;
        inline.listen("ch").await.unwrap();
        let mut other = server.connection().await;
        hold(&mut other).await;
        let process_id = inline.process_id();
        let busy = tokio::spawn(async move {
            assert_eq!(value(&mut inline, BUSY).await, "done");
            inline
        });
        until_blocked(&mut other, process_id).await;
        // 14 MB, which is more than the limit of 8 MiB.
        let sql = "SELECT count(pg_notify('ch', lpad(i::text, 7000, '0'))) FROM generate_series(1, 2000) i";
        assert_eq!(value(&mut other, sql).await, "2000");
        release(&mut other).await;
        let mut inline = busy.await.unwrap();
        send_numbers(&mut other, "ch", 2_001, 2_001).await;
        let (mut found, mut lost) = (0, 0);
        while found + lost < 2_001 {
            let batch = inline.recv_batch().await.unwrap();
            lost += lagged(&batch);
            for notification in batch {
                assert_eq!(notification.sequence(), found + lost);
                found += 1;
                assert_eq!(number(notification.payload_bytes()), found + lost);
            }
        }
        assert_eq!(found + lost, 2_001);
        assert!(found > 1_100, "8 MiB hold more than {found}");
        assert!(lost > 700, "8 MiB hold fewer than {found}");
    });
}

/// If the future of a query is dropped, its answer is discarded; the next query gets its own answer.
#[test]
fn an_orphaned_query_does_not_disturb_the_next() {
    let server = Server::start();
    run(async {
        let mut inline = server.connection().await;
        inline.listen("ch").await.unwrap();
        let mut other = server.connection().await;
        for _ in 0..10 {
            hold(&mut other).await;
            assert!(poll_once(pin!(inline.simple_query(BUSY))).await.is_none());
            assert!(poll_once(pin!(inline.query("SELECT $1", &[Some("a")]))).await.is_none());
            assert!(poll_once(pin!(inline.notify("ch", "own"))).await.is_none());
            assert!(poll_once(pin!(inline.simple_query("SELECT 1 / 0"))).await.is_none());
            assert!(poll_once(pin!(inline.listen("more"))).await.is_none());
            until_blocked(&mut other, inline.process_id()).await;
            other.notify("ch", "other").await.unwrap();
            release(&mut other).await;
            assert_eq!(value(&mut inline, "SELECT 'mine'").await, "mine");
            let found = receive(&mut inline, 2).await;
            let found: Vec<_> = found.iter().map(|n| n.payload()).collect();
            assert_eq!(found, ["other", "own"]);
        }
    });
}

/// The same through a handle: the listener continues.
#[test]
fn an_orphaned_command_of_a_handle_does_not_disturb_the_next() {
    let server = Server::start();
    run(async {
        let mut listener = server.listener(&["ch"]).await;
        let handle = listener.handle();
        let mut other = server.connection().await;
        hold(&mut other).await;
        assert!(poll_once(pin!(handle.simple_query(BUSY))).await.is_none());
        until_blocked(&mut other, listener.process_id()).await;
        assert!(poll_once(pin!(handle.listen("later"))).await.is_none());
        let third = handle.clone();
        let third = tokio::spawn(async move { third.simple_query("SELECT 'mine'").await });
        send_numbers(&mut other, "ch", 1, 10).await;
        release(&mut other).await;
        let rows = third.await.unwrap().unwrap();
        assert_eq!(rows[0].get(0).unwrap().get(0), Some("mine"));
        // The dropped command still takes effect.
        other.notify("later", "11").await.unwrap();
        until_received(&listener, 11).await;
        expect_numbers(&mut listener, 1, 11).await;
    });
}
