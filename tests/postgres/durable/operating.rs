//! What an operator sees and sets.

use std::time::Duration;

use super::support::{Log, add, nothing, take};
use crate::matrix::on_every_version;
use crate::support::{Server, run, value};

on_every_version! {
    the_status_has_the_stored_position_and_the_rest_of_the_lease
    a_page_size_that_is_changed_is_that_of_the_next_batch
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
