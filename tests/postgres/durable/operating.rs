//! What an operator sees and sets.

use std::time::Duration;

use super::support::{Log, add, nothing, sql, take, text};
use crate::matrix::on_every_version;
use crate::support::{Server, run, value};

on_every_version! {
    the_status_has_the_stored_position_and_the_rest_of_the_lease
    a_page_size_that_is_changed_is_that_of_the_next_batch
    a_rotation_before_a_rebase_removes_no_unread_record
}

fn the_status_has_the_stored_position_and_the_rest_of_the_lease(major: u32) {
    let server = Server::of(major);
    run(async {
        let log = Log::new(server).await;
        let mut session = log.session().await;
        let lease = Duration::from_secs(3_000);
        let mut cursor = log.cursor("reader").lease(lease).open().await.unwrap();
        add(&mut session, "", "one").await;
        let before = log.outbox.status().await.unwrap().cursors.remove(0);
        let left = before.lease_left.unwrap();
        assert!(left <= lease && left > lease / 2, "{left:?}");
        assert_eq!(take(&mut cursor).await, ["one"]);
        let after = log.outbox.status().await.unwrap().cursors.remove(0);
        assert_ne!(before.position, after.position);
        let stored = "SELECT text FROM outbox_positions WHERE name = 'reader'";
        assert_eq!(after.position, Some(value(&mut session, stored).await));
        cursor.close().await;
        let closed = log.outbox.status().await.unwrap().cursors.remove(0);
        assert_eq!((closed.is_leased, closed.lease_left), (false, None));
    });
}

fn a_page_size_that_is_changed_is_that_of_the_next_batch(major: u32) {
    let server = Server::of(major);
    run(async {
        let log = Log::new(server).await;
        let mut session = log.session().await;
        for payload in ["one", "two", "three", "four", "five"] {
            add(&mut session, "", payload).await;
        }
        let mut cursor = log.cursor("reader").page_size(2).open().await.unwrap();
        assert_eq!(take(&mut cursor).await, ["one", "two"]);
        cursor.set_page_size(0);
        assert_eq!(take(&mut cursor).await, ["three"]);
        cursor.set_page_size(9);
        assert_eq!(take(&mut cursor).await, ["four", "five"]);
        nothing(&mut cursor).await;
        cursor.close().await;
    });
}

/// A position of a cluster with higher xids seems to include whatever this one writes.
fn a_rotation_before_a_rebase_removes_no_unread_record(major: u32) {
    const COPY: &str = "INSERT INTO outbox_acks (cursor_id, seq, token, slot, lower, high, next)
        SELECT cursor_id, seq + 1, token, slot, '1000000:1000000:', 0, '1000000' FROM outbox_positions;
        UPDATE outbox_settings SET system_identifier = 1";
    let server = Server::of(major);
    run(async {
        let log = Log::with(server, &text().partition_age(Duration::ZERO)).await;
        let mut session = log.session().await;
        log.open("reader").await.close().await;
        sql(&mut session, COPY).await;
        add(&mut session, "", "one").await;
        // The first one would begin the next partition, and the second one empty the one before.
        let mut rotation = log.outbox.rotate().await.unwrap();
        for _ in 0..2 {
            rotation = log.outbox.rotate().await.unwrap();
            assert_eq!(rotation.truncated, 0, "{rotation:?}");
        }
        assert!(rotation.waits_for.unwrap().starts_with("a rebase"));
        log.outbox.rebase().await.unwrap();
        let mut cursor = log.open("reader").await;
        assert_eq!(take(&mut cursor).await, ["one"]);
        log.outbox.rotate().await.unwrap();
        assert_eq!(log.outbox.rotate().await.unwrap().truncated, 1);
        cursor.close().await;
    });
}

/// The positions of a deleted cursor were left, and its number was assigned again.
#[test]
fn a_new_cursor_does_not_begin_at_the_position_of_a_deleted_one() {
    let server = Server::start();
    run(async {
        let log = Log::new(server).await;
        let mut writer = log.session().await;
        add(&mut writer, "", "1").await;
        for round in 0..2 {
            let mut cursor = log.cursor("old").rotate(false).open().await.unwrap();
            assert_eq!(take(&mut cursor).await, ["1"]);
            cursor.close().await;
            match round {
                0 => assert!(log.outbox.drop_cursor("old").await.unwrap()),
                // As an earlier version did, and a role without the right to delete positions.
                _ => sql(&mut writer, "DELETE FROM outbox_cursors").await,
            }
            log.outbox.rebase().await.unwrap();
            let left = "SELECT count(*) FROM outbox_acks";
            assert_eq!(value(&mut writer, left).await, "0");
        }
        let mut cursor = log.open("new").await;
        assert_eq!(take(&mut cursor).await, ["1"]);
        cursor.close().await;
    });
}
