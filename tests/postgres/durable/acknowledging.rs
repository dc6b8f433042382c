//! Acknowledgements: alone, in transactions of the user, and by readers that have lost the cursor.

use pgbell::ErrorKind;

use super::support::{Log, add, look, nothing, sql, take, text};
use crate::matrix::on_every_version;
use crate::support::{Server, run, value};

on_every_version! {
    what_was_not_acknowledged_is_received_again
    an_acknowledgement_in_a_transaction_is_undone_with_it
    a_reader_that_lost_the_cursor_cannot_acknowledge
    a_receipt_of_a_position_that_a_failover_has_lost_is_refused
}

fn what_was_not_acknowledged_is_received_again(major: u32) {
    let server = Server::of(major);
    run(async {
        let log = Log::new(server).await;
        let mut writer = log.session().await;
        let mut cursor = log.open("reader").await;
        add(&mut writer, "", "one").await;
        assert_eq!(look(&mut cursor).await.0, ["one"]);
        add(&mut writer, "", "two").await;
        assert_eq!(look(&mut cursor).await.0, ["one", "two"]);
        assert_eq!(take(&mut cursor).await, ["one", "two"]);
        nothing(&mut cursor).await;
        assert_eq!((cursor.stats().rewinds, cursor.stats().acknowledged), (2, 1));
        add(&mut writer, "", "three").await;
        assert_eq!(look(&mut cursor).await.0, ["three"]);
        // Another reader begins there, too.
        cursor.close().await;
        let mut again = log.open("reader").await;
        assert_eq!(take(&mut again).await, ["three"]);
        nothing(&mut again).await;
        again.close().await;
    });
}

fn an_acknowledgement_in_a_transaction_is_undone_with_it(major: u32) {
    let server = Server::of(major);
    run(async {
        let log = Log::with(server, &text().notify_on_commit(true)).await;
        let mut user = log.session().await;
        let mut cursor = log.open("reader").await;
        sql(&mut user, "CREATE TABLE effects (n int)").await;
        add(&mut user, "", "one").await;
        let ack = log.outbox.ack_sql();
        for (end, isolation) in [
            ("ROLLBACK", "READ COMMITTED"),
            ("ROLLBACK", "SERIALIZABLE"),
            ("COMMIT", "SERIALIZABLE"),
        ] {
            let (found, receipt) = look(&mut cursor).await;
            assert_eq!(found, ["one"]);
            sql(
                &mut user,
                &format!("BEGIN ISOLATION LEVEL {isolation}; INSERT INTO effects VALUES (1)"),
            )
            .await;
            user.query(&ack, &[Some(&receipt.to_string())]).await.unwrap();
            sql(&mut user, end).await;
        }
        nothing(&mut cursor).await;
        assert_eq!(value(&mut user, "SELECT count(*) FROM effects").await, "1");
        let stats = cursor.stats();
        assert_eq!((stats.batches, stats.acknowledged, stats.rewinds), (3, 1, 2));

        // A commit that was in doubt, and is made again.
        add(&mut user, "", "two").await;
        let (_, receipt) = look(&mut cursor).await;
        let receipt = receipt.to_string();
        user.query(&ack, &[Some(&receipt)]).await.unwrap();
        for isolation in ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"] {
            sql(&mut user, &format!("BEGIN ISOLATION LEVEL {isolation}")).await;
            let error = user.query(&ack, &[Some(&receipt)]).await.unwrap_err();
            assert_eq!(error.sqlstate(), Some("PGB02"), "{error}");
            sql(&mut user, "ROLLBACK").await;
        }
        nothing(&mut cursor).await;

        // A snapshot from before the batch shows no acknowledgement of others, so it cannot be used.
        add(&mut user, "", "three").await;
        sql(&mut user, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1").await;
        let mut other = log.session().await;
        let (_, receipt) = look(&mut cursor).await;
        other.query(&ack, &[Some(&receipt.to_string())]).await.unwrap();
        let error = user.query(&ack, &[Some(&receipt.to_string())]).await.unwrap_err();
        assert_eq!(error.sqlstate(), Some("40001"), "{error}");
        sql(&mut user, "ROLLBACK").await;
        for wrong in ["", "1 2 3", "a b c d e f g h i j", "a b c d e f g h i j k"] {
            assert!(user.query(&ack, &[Some(wrong)]).await.is_err(), "{wrong:?}");
        }
        nothing(&mut cursor).await;
        cursor.close().await;
    });
}

fn a_reader_that_lost_the_cursor_cannot_acknowledge(major: u32) {
    let server = Server::of(major);
    run(async {
        let log = Log::new(server).await;
        let mut user = log.session().await;
        add(&mut user, "", "one").await;
        let mut first = log.open("reader").await;
        let (_, receipt) = look(&mut first).await;
        let batch = first.next().await.unwrap();
        let mut second = log.cursor("reader").take_over().open().await.unwrap();
        let error = batch.ack().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Fenced, "{error}");
        let ack = log.outbox.ack_sql();
        sql(&mut user, "BEGIN").await;
        let error = user.query(&ack, &[Some(&receipt.to_string())]).await.unwrap_err();
        assert_eq!(error.sqlstate(), Some("PGB01"), "{error}");
        sql(&mut user, "ROLLBACK").await;
        for _ in 0..2 {
            assert_eq!(first.next().await.unwrap_err().kind(), ErrorKind::Fenced);
        }
        assert_eq!(take(&mut second).await, ["one"]);
        // The lease of the second one stays.
        first.close().await;
        let status = log.outbox.status().await.unwrap();
        assert!(status.cursors[0].is_leased, "{status:?}");
        second.close().await;
        let status = log.outbox.status().await.unwrap();
        assert!(!status.cursors[0].is_leased, "{status:?}");
    });
}

/// The position after the failover has the same number, and another one follows it. The xids of the lost one are assigned again.
fn a_receipt_of_a_position_that_a_failover_has_lost_is_refused(major: u32) {
    let server = Server::of(major);
    run(async {
        let log = Log::with(server, &text().notify_on_commit(true)).await;
        let mut user = log.session().await;
        let mut cursor = log.open("reader").await;
        let ack = log.outbox.ack_sql();
        add(&mut user, "", "one").await;
        let first = look(&mut cursor).await.1.to_string();
        user.query(&ack, &[Some(&first)]).await.unwrap();
        add(&mut user, "", "two").await;
        let (found, lost) = look(&mut cursor).await;
        assert_eq!(found, ["two"]);
        // The end of the log of the server is lost.
        sql(&mut user, "DELETE FROM outbox_acks WHERE seq = (SELECT max(seq) FROM outbox_acks)")
            .await;
        user.query(&ack, &[Some(&first)]).await.unwrap();
        let error = user.query(&ack, &[Some(&lost.to_string())]).await.unwrap_err();
        assert_eq!(error.sqlstate(), Some("PGB02"), "{error}");
        assert_eq!(take(&mut cursor).await, ["two"]);
        cursor.close().await;
    });
}
