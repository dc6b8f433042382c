//! The statements of a consumer: kept by the server, and cancelled when they take too long.

use std::time::Duration;

use pgbell::Connection;
use pgbell_testkit::{PgBouncer, PoolMode};

use super::support::{Jobs, sql, start};
use crate::support::{Server, run, until, until_sql, value};

/// Behind a pooler, the statements that one client has prepared are those of another one, or are gone.
#[test]
fn a_consumer_goes_on_when_its_prepared_statements_are_gone() {
    let server = Server::start();
    let cluster = &server.cluster;
    // All clients share one session of the server.
    let pooler = PgBouncer::builder(cluster, PoolMode::Transaction);
    let pooler = pooler.setting("default_pool_size", "1").start().unwrap();
    let url = pooler.url(cluster.superuser(), cluster.superuser_password(), "v1_13");
    run(async {
        let jobs = Jobs::new(server).await;
        let mut other = Connection::connect(&*url).await.unwrap();
        let consumer = jobs.queue.consumer(url.as_str()).interval(Duration::from_millis(20));
        let (running, mut calls) = start(consumer).await;
        let kept = "SELECT count(*) > 0 FROM pg_prepared_statements WHERE name LIKE 'pgbell%'";
        until_sql(&mut other, kept).await;
        for expected in 1..=20 {
            sql(&mut other, "DEALLOCATE ALL").await;
            jobs.send(&mut other, 1).await;
            let call = calls.next().await;
            assert_eq!((call.msg_id, call.attempts), (expected, 1));
            call.succeed();
            until("it is finished", || running.stats().finished == expected.unsigned_abs()).await;
        }
        assert_eq!(value(&mut other, kept).await, "f", "it prepares statements again and again");
        assert_eq!(running.stats().retries, 0, "{:?}", running.last_error());
        running.stop(Duration::from_secs(30)).await;
        other.close().await;
    });
}

#[test]
fn statements_of_a_consumer_that_take_too_long_do_not_pile_up_on_the_server() {
    let server = Server::start();
    run(async {
        let jobs = Jobs::new(server).await;
        let (mut blocker, mut admin) = (jobs.session().await, jobs.session().await);
        let consumer = jobs.consumer().statement_timeout(Duration::from_millis(200));
        // A statement that is not cancelled in time may take the job once.
        let consumer = consumer.visibility_timeout(Duration::from_secs(1));
        let consumer = consumer.reconnect(Duration::from_millis(1), Duration::from_millis(10));
        sql(&mut blocker, "BEGIN; LOCK TABLE pgmq.q_jobs IN ACCESS EXCLUSIVE MODE").await;
        jobs.send(&mut blocker, 1).await;
        let (running, mut calls) = start(consumer).await;
        until("twelve have taken too long", || running.stats().retries >= 12).await;
        // The last one waits, and some may not be cancelled yet.
        let waiting = "SELECT count(*) FROM pg_locks WHERE relation = 'pgmq.q_jobs'::regclass AND NOT granted";
        let waiting: u32 = value(&mut admin, waiting).await.parse().unwrap();
        assert!(waiting <= 6, "{waiting} statements wait");
        sql(&mut blocker, "COMMIT").await;
        calls.succeed(1).await;
        running.stop(Duration::from_secs(30)).await;
    });
}
