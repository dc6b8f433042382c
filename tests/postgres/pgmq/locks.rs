//! Jobs whose rows are locked by other transactions.

use std::time::Duration;

use pgbell::Connection;
use pgbell::durable::pgmq::{Job, Queue};

use super::support::{Jobs, sql, start};
use crate::matrix::on_every_version;
use crate::support::{Server, TEST_TIMEOUT, run, until, value};

const SECOND: Duration = Duration::from_secs(1);

on_every_version! {
    a_job_that_its_handler_has_locked_does_not_let_the_others_lapse
}

/// An earlier version waited for the lock in the statement that extends all jobs.
fn a_job_that_its_handler_has_locked_does_not_let_the_others_lapse(major: u32) {
    let server = Server::of(major);
    run(async {
        let jobs = Jobs::new(server).await;
        let mut session = jobs.session().await;
        let mut handler = jobs.session().await;
        jobs.send(&mut session, 5).await;
        let builder = jobs.consumer().visibility_timeout(SECOND).max_attempts(1);
        let dead = Queue::new("jobs_dead").unwrap();
        dead.create(&mut session).await.unwrap();
        let (running, mut calls) = start(builder.dead_letter(dead)).await;
        let mut all = Vec::new();
        for _ in 0..5 {
            all.push(calls.next().await);
        }
        all.sort_by_key(|call| call.msg_id);
        let mut all = all.into_iter();
        // Each has a different end.
        let (first, second, third) =
            (all.next().unwrap(), all.next().unwrap(), all.next().unwrap());
        sql(&mut handler, "BEGIN; SELECT pgmq.archive('jobs', ARRAY[1, 3]::bigint[])").await;
        let lapsed =
            "SELECT bool_and(vt < clock_timestamp()) FROM pgmq.q_jobs WHERE msg_id IN (1, 3)";
        crate::support::until_sql(&mut session, lapsed).await;
        until("it is locked", || running.stats().locked > 4).await;
        let others =
            "SELECT bool_and(vt > clock_timestamp()) FROM pgmq.q_jobs WHERE msg_id NOT IN (1, 3)";
        assert_eq!(value(&mut session, others).await, "t");
        // No other reader gets it.
        assert!(jobs.queue.read(&mut session, SECOND, 10).await.unwrap().is_empty());

        // The ends of the others are stored while it is locked.
        first.succeed();
        second.succeed();
        third.fail("no");
        until("the second is finished", || running.stats().finished == 1).await;
        all.next().unwrap().fail("no");
        until("the fourth is put aside", || running.stats().dead == 1).await;
        assert!(jobs.queue.read(&mut session, SECOND, 10).await.unwrap().is_empty());
        let more = jobs.send(&mut session, 1).await;
        session.notify(jobs.queue.channel(), "").await.unwrap();
        assert_eq!(calls.succeed(1).await, more);
        sql(&mut handler, "COMMIT").await;
        // The handler of the third has failed after it was archived.
        until("the others have ended", || {
            (running.stats().removed, running.stats().overtaken) == (1, 1)
        })
        .await;
        all.next().unwrap().succeed();
        let stopped = running.stop(TEST_TIMEOUT).await;
        assert_eq!((stopped.cancelled, stopped.unstored), (0, 0));
        let stats = running.stats();
        assert_eq!((stats.finished, stats.lapsed, stats.retries), (3, 0, 0));
        assert_eq!(jobs.ids(&mut session).await, (String::new(), "1 2 3 4 5 6".to_owned()));
    });
}

/// Its effect and its end are one transaction: exactly once.
#[test]
fn a_handler_can_finish_its_job_in_its_own_transaction() {
    let server = Server::start();
    run(async {
        let jobs = Jobs::new(server).await;
        let mut session = jobs.session().await;
        sql(&mut session, "CREATE TABLE effects (msg_id bigint PRIMARY KEY)").await;
        jobs.send(&mut session, 10).await;
        let url = jobs.url.clone();
        let running = jobs
            .consumer()
            .run(move |job: Job| {
                let url = url.clone();
                async move {
                    let msg_id = job.msg_id().to_string();
                    let mut own = Connection::connect(url.as_str()).await?;
                    own.simple_query("BEGIN").await?;
                    let effect = "INSERT INTO effects VALUES ($1)";
                    own.query(effect, &[Some(&msg_id)]).await?;
                    let ids = format!("{{{msg_id}}}");
                    own.query(Queue::archive_sql(), &[Some("jobs"), Some(&ids)]).await?;
                    own.simple_query("COMMIT").await.map(drop)
                }
            })
            .await
            .unwrap();
        until("all have ended", || running.stats().removed == 10).await;
        running.stop(TEST_TIMEOUT).await;
        let stats = running.stats();
        assert_eq!((stats.overtaken, stats.finished, stats.failures), (0, 0, 0));
        assert_eq!(value(&mut session, "SELECT count(*) FROM effects").await, "10");
        assert_eq!(jobs.ids(&mut session).await.0, "");
    });
}

/// A handler that waits for its own transaction would wait for ever.
#[test]
fn a_request_for_more_time_for_a_locked_job_is_answered() {
    let server = Server::start();
    run(async {
        let jobs = Jobs::new(server).await;
        let mut session = jobs.session().await;
        let mut handler = jobs.session().await;
        jobs.send(&mut session, 1).await;
        sql(&mut handler, "BEGIN").await;
        let (sender, mut answers) = tokio::sync::mpsc::unbounded_channel();
        let (lock, locked) = tokio::sync::oneshot::channel::<()>();
        let locked = std::sync::Mutex::new(Some(locked));
        let running = jobs
            .consumer()
            .run(move |job: Job| {
                let (sender, locked) = (sender.clone(), locked.lock().unwrap().take());
                async move {
                    sender.send(Ok(())).unwrap();
                    if let Some(locked) = locked {
                        let _ = locked.await;
                    }
                    sender.send(job.extend(600 * SECOND).await).unwrap();
                }
            })
            .await
            .unwrap();
        assert!(answers.recv().await.unwrap().is_ok());
        sql(&mut handler, "SELECT pgmq.archive('jobs', 1)").await;
        lock.send(()).unwrap();
        let error = answers.recv().await.unwrap().unwrap_err();
        assert_eq!(error.kind(), pgbell::ErrorKind::Misuse, "{error}");
        let hint = "the lock keeps other readers from the job; extend it before the transaction";
        assert_eq!(error.hint(), Some(hint));
        sql(&mut handler, "COMMIT").await;
        until("it has ended", || running.stats().removed == 1).await;
        running.stop(TEST_TIMEOUT).await;
    });
}

/// pgmq's trigger for notifications updates a row, so a second send to the same queue waits for the end of the first one's transaction.
#[test]
fn an_open_send_to_the_dead_letter_queue_does_not_stop_other_jobs() {
    let server = Server::start();
    run(async {
        let jobs = Jobs::new(server).await;
        let (mut session, mut sender) = (jobs.session().await, jobs.session().await);
        let dead = Queue::new("dead").unwrap();
        dead.create(&mut session).await.unwrap();
        dead.enable_notifications(&mut session, Duration::from_millis(1)).await.unwrap();
        let consumer = jobs.consumer().dead_letter(dead.clone()).max_attempts(1).concurrency(1);
        let (running, mut calls) = start(consumer).await;
        sql(&mut sender, "BEGIN; SELECT pgmq.send('dead', '{}')").await;
        jobs.queue.enable_notifications(&mut session, Duration::ZERO).await.unwrap();
        jobs.send(&mut session, 2).await;
        calls.next().await.fail("on purpose");
        for expected in 2..=6 {
            // Each is read while the first one cannot be put aside.
            let call = calls.next().await;
            assert_eq!((call.msg_id, call.attempts), (expected, 1));
            if expected < 6 {
                jobs.send(&mut session, 1).await;
            }
            call.succeed();
        }
        assert_eq!(running.stats().dead, 0);
        sql(&mut sender, "COMMIT").await;
        until("it is put aside", || running.stats().dead == 1).await;
        running.stop(Duration::from_secs(30)).await;
    });
}
