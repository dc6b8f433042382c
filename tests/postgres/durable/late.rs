//! Transactions that commit late: many of them, and one with many records.

use super::support::{Log, add, drain, nothing, payloads, sql};
use crate::matrix::on_every_version;
use crate::support::{Server, run, until_sql, value};

on_every_version! {
    records_of_many_transactions_that_commit_late_are_received_in_the_order_of_their_ids
}

/// From fifty transactions on they are read in another way.
fn records_of_many_transactions_that_commit_late_are_received_in_the_order_of_their_ids(
    major: u32,
) {
    let server = Server::with(|builder| {
        builder
            .installation(crate::support::installation(major))
            .setting("max_prepared_transactions", "60")
    });
    run(async {
        let log = Log::new(server).await;
        let mut writer = log.session().await;
        for count in [49, 50, 51] {
            let mut cursor = log.cursor("reader").page_size(7).open().await.unwrap();
            // Their ids are between those of the prepared transactions, and their xids are below.
            let mut open = Vec::new();
            for _ in 0..3 {
                let mut session = log.session().await;
                sql(&mut session, "BEGIN; SELECT pg_current_xact_id()").await;
                open.push(session);
            }
            for number in 0..count - 3 {
                sql(
                    &mut writer,
                    &format!(
                        "BEGIN; INSERT INTO outbox (payload) VALUES ('a{number}'), ('b{number}');
                        PREPARE TRANSACTION 'p{number}'"
                    ),
                )
                .await;
                let session = &mut open[number % 3];
                add(session, "", &format!("c{number}")).await;
            }
            add(&mut writer, "", "early").await;
            assert_eq!(drain(&mut cursor).await, ["early"]);
            for number in (0..count - 3).rev() {
                sql(&mut writer, &format!("COMMIT PREPARED 'p{number}'")).await;
            }
            for session in &mut open {
                sql(session, "COMMIT").await;
            }
            // Beyond those of the first snapshot.
            add(&mut writer, "", "last").await;
            let mut ids = Vec::new();
            let mut found = Vec::new();
            while let Some(batch) = cursor.try_next().await.unwrap() {
                assert!(batch.len() <= 7);
                ids.extend(batch.iter().map(|record| record.id()));
                found.extend(payloads(&batch));
                batch.ack().await.unwrap();
            }
            assert!(ids.is_sorted(), "{ids:?}");
            let mut expected = Vec::new();
            for number in 0..count - 3 {
                expected.extend(["a", "b", "c"].map(|letter| format!("{letter}{number}")));
            }
            expected.push("last".to_owned());
            assert_eq!(found, expected);
            nothing(&mut cursor).await;
            cursor.close().await;
        }
    });
}

/// Each poll would read all records of a large transaction in progress, only to find that they are not visible.
#[test]
fn polls_do_not_read_the_records_of_an_open_transaction_again_and_again() {
    let server = Server::start();
    run(async {
        let log = Log::new(server).await;
        let (mut writer, mut bulk) = (log.session().await, log.session().await);
        let mut cursor = log.open("reader").await;
        add(&mut writer, "", "before").await;
        assert_eq!(drain(&mut cursor).await, ["before"]);
        sql(
            &mut bulk,
            "BEGIN; INSERT INTO outbox (payload) SELECT 'bulk' FROM generate_series(1, 20000)",
        )
        .await;
        for _ in 0..20 {
            nothing(&mut cursor).await;
        }
        add(&mut writer, "", "after").await;
        assert_eq!(drain(&mut cursor).await, ["after"]);
        sql(&mut bulk, "COMMIT").await;
        let read = "SELECT coalesce(sum(idx_tup_read), 0) FROM pg_stat_user_indexes WHERE relname LIKE 'outbox_0'";
        assert_eq!(drain(&mut cursor).await.len(), 20_000);
        // A session reports its counts when it ends.
        cursor.close().await;
        until_sql(&mut writer, &format!("SELECT ({read}) >= 20000")).await;
        let read: u64 = value(&mut writer, read).await.parse().unwrap();
        assert!(read < 3 * 20_000, "{read}");
    });
}
