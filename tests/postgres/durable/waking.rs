//! How a cursor learns of records without its notifications: by the resync of a new session, and by polls.

use std::pin::pin;
use std::time::{Duration, Instant};

use pgbell::Connection;
use pgbell::durable::Outbox;
use pgbell_testkit::{PgBouncer, PoolMode};

use super::support::{Log, add, look, nothing, sql, take, text};
use crate::support::{Server, poll_once, run};

/// Its notification is lost with the session that listens, and the poll is ten minutes away.
#[test]
fn a_record_that_is_committed_while_the_listening_session_is_lost_is_found_by_the_resync() {
    let server = Server::start();
    run(async {
        let log = Log::with(server, &text().notify_on_commit(true)).await;
        let mut writer = log.session().await;
        let cursor =
            log.cursor("reader").backoff(Duration::from_millis(1), Duration::from_millis(50));
        let mut cursor = cursor.open().await.unwrap();
        let begun = Instant::now();
        for round in 1..=10 {
            let expected = round.to_string();
            let mut next = pin!(take(&mut cursor));
            assert!(poll_once(next.as_mut()).await.is_none());
            let others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'";
            sql(&mut writer, others).await;
            add(&mut writer, "", &expected).await;
            assert_eq!(next.await, [expected]);
        }
        assert!(begun.elapsed() < Duration::from_secs(300), "it was polled");
        nothing(&mut cursor).await;
        cursor.close().await;
    });
}

/// The listening session is refused there, so the cursor polls. Each of its statements is one transaction.
#[test]
fn a_cursor_behind_a_pooler_in_transaction_mode_polls_and_acknowledges() {
    let server = Server::start();
    let cluster = &server.cluster;
    let pooler = PgBouncer::start(cluster, PoolMode::Transaction).unwrap();
    let url = pooler.url(cluster.superuser(), cluster.superuser_password(), "postgres");
    run(async {
        let log = Log::with(server, &text().notify_on_commit(true)).await;
        let mut writer = log.session().await;
        let outbox = Outbox::new(url.as_str(), "outbox").unwrap();
        let interval = Duration::from_millis(100);
        let settings = || outbox.cursor("reader").interval(interval);
        let mut cursor = settings().open().await.unwrap();
        for number in 1..=3 {
            let expected = number.to_string();
            let mut next = pin!(take(&mut cursor));
            assert!(poll_once(next.as_mut()).await.is_none());
            add(&mut writer, "", &expected).await;
            assert_eq!(next.await, [expected]);
        }
        // In transactions through the pooler, too.
        let mut user = Connection::connect(&*url).await.unwrap();
        add(&mut user, "", "four").await;
        for end in ["ROLLBACK", "COMMIT"] {
            let (found, receipt) = look(&mut cursor).await;
            assert_eq!(found, ["four"]);
            sql(&mut user, "BEGIN").await;
            user.query(&outbox.ack_sql(), &[Some(&receipt.to_string())]).await.unwrap();
            sql(&mut user, end).await;
        }
        nothing(&mut cursor).await;
        cursor.close().await;
        let mut again = settings().open().await.unwrap();
        add(&mut user, "", "five").await;
        assert_eq!(take(&mut again).await, ["five"]);
        outbox.rotate().await.unwrap();
        again.close().await;
    });
}
