//! Visibility timeouts that pass, or do not.

use std::time::Duration;

use pgbell::ErrorKind;
use pgbell::durable::pgmq::Job;

use super::support::{Jobs, sql, start};
use crate::support::{Server, TEST_TIMEOUT, run, until, until_sql, value};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn the_visibility_of_a_job_is_extended_while_its_handler_runs() {
    let server = Server::start();
    run(async {
        let jobs = Jobs::new(server).await;
        let mut session = jobs.session().await;
        jobs.send(&mut session, 1).await;
        let (running, mut calls) =
            start(jobs.consumer().visibility_timeout(SECOND).interval(SECOND / 5)).await;
        let call = calls.next().await;
        // Longer than two timeouts.
        until("it was extended", || running.stats().extended >= 7).await;
        assert!(jobs.queue.read(&mut session, SECOND, 1).await.unwrap().is_empty());
        assert!(calls.is_empty());
        call.succeed();
        until("it is finished", || running.stats().finished == 1).await;
        let stats = running.stats();
        assert_eq!((stats.jobs, stats.lapsed, stats.overtaken), (1, 0, 0));
        running.stop(SECOND).await;
    });
}

/// G4: its consumer has ended with its process.
#[test]
fn a_job_that_was_not_finished_is_delivered_again_after_its_timeout() {
    let server = Server::start();
    let (jobs, visible) = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let found = runtime.block_on(async {
            let jobs = Jobs::new(server).await;
            let mut session = jobs.session().await;
            jobs.send(&mut session, 1).await;
            let builder = jobs.consumer().visibility_timeout(4 * SECOND);
            let (running, mut calls) = start(builder).await;
            let call = calls.next().await;
            assert_eq!(call.attempts, 1);
            let visible = value(&mut session, "SELECT vt FROM pgmq.q_jobs").await;
            // Nothing of it runs any more.
            std::mem::forget((running, call));
            (jobs, visible)
        });
        runtime.shutdown_background();
        found
    })
    .join()
    .unwrap();
    run(async {
        let (running, mut calls) = start(jobs.consumer().interval(SECOND / 4)).await;
        let call = calls.next().await;
        assert_eq!((call.msg_id, call.attempts), (1, 2));
        let mut session = jobs.session().await;
        let is_late = format!("SELECT clock_timestamp() >= '{visible}'::timestamptz");
        assert_eq!(value(&mut session, &is_late).await, "t");
        call.succeed();
        running.stop(TEST_TIMEOUT).await;
    });
}

/// A handler outlives its visibility timeout, because the session is lost and no other one can be opened.
#[test]
fn a_job_that_another_reader_has_taken_is_not_removed() {
    let server = Server::start();
    run(async {
        let jobs = Jobs::new(server).await;
        let mut session = jobs.session().await;
        sql(&mut session, "CREATE ROLE worker LOGIN SUPERUSER").await;
        jobs.send(&mut session, 2).await;
        let url = jobs.server.cluster.url("worker", None, "v1_13");
        let builder = jobs.queue.consumer(url).visibility_timeout(SECOND).interval(600 * SECOND);
        let builder = builder.reconnect(SECOND / 100, SECOND / 10);
        let (running, mut calls) = start(builder).await;
        let mut both = [calls.next().await, calls.next().await];
        // Handlers are tasks: the order of the calls is not certain.
        both.sort_by_key(|call| call.msg_id);
        let [first, second] = both;
        sql(&mut session, "ALTER ROLE worker NOLOGIN; SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'worker'").await;
        until_sql(&mut session, "SELECT bool_and(vt < clock_timestamp()) FROM pgmq.q_jobs").await;
        // One is taken by another reader, which keeps it. The other one is not.
        let taken = jobs.queue.read(&mut session, 600 * SECOND, 1).await.unwrap();
        assert_eq!((taken[0].msg_id(), taken[0].read_count()), (1, 2));
        first.succeed();
        second.succeed();
        sql(&mut session, "ALTER ROLE worker LOGIN").await;
        until("both have ended", || {
            let stats = running.stats();
            stats.overtaken == 1 && stats.finished == 1
        })
        .await;
        assert_eq!(jobs.ids(&mut session).await, ("1".to_owned(), "2".to_owned()));
        let left = value(
            &mut session,
            "SELECT vt > clock_timestamp() + interval '5 minutes' FROM pgmq.q_jobs",
        )
        .await;
        assert_eq!(left, "t");
        let stats = running.stats();
        assert!(stats.lapsed >= 1 && stats.retries >= 1, "{stats:?}");
        assert!(running.last_error().is_some());
        running.stop(SECOND).await;
    });
}

#[test]
fn a_handler_can_ask_for_more_time() {
    let server = Server::start();
    run(async {
        let jobs = Jobs::new(server).await;
        let mut session = jobs.session().await;
        jobs.send(&mut session, 2).await;
        let (sender, mut asked) = tokio::sync::mpsc::unbounded_channel();
        let running = jobs
            .consumer()
            .run(move |job: Job| {
                let sender = sender.clone();
                async move {
                    let first = job.extend(600 * SECOND).await;
                    // It has that already.
                    let second = job.extend(SECOND).await;
                    let (end, ended) = tokio::sync::oneshot::channel::<()>();
                    sender.send((job.msg_id(), first, second, end)).unwrap();
                    let _ = ended.await;
                    // The second one was taken from the queue meanwhile.
                    let last = job.extend(6_000 * SECOND).await;
                    sender
                        .send((job.msg_id(), last, Ok(()), tokio::sync::oneshot::channel().0))
                        .unwrap();
                }
            })
            .await
            .unwrap();
        let mut ends = Vec::new();
        for _ in 0..2 {
            let (_, first, second, end) = asked.recv().await.unwrap();
            assert!(first.is_ok() && second.is_ok(), "{first:?} {second:?}");
            ends.push(end);
        }
        let moved =
            "SELECT bool_and(vt > clock_timestamp() + interval '9 minutes') FROM pgmq.q_jobs";
        assert_eq!(value(&mut session, moved).await, "t");
        assert_eq!(jobs.queue.delete(&mut session, &[2]).await.unwrap(), [2]);
        drop(ends);
        for _ in 0..2 {
            let (msg_id, last, ..) = asked.recv().await.unwrap();
            match msg_id {
                1 => assert!(last.is_ok(), "{last:?}"),
                _ => assert_eq!(last.unwrap_err().kind(), ErrorKind::Fenced),
            }
        }
        until("both have ended", || {
            (running.stats().finished, running.stats().overtaken) == (1, 1)
        })
        .await;
        running.stop(SECOND).await;
    });
}

/// The job is removed, or the queue is dropped, while a statement extends it. A handler that asked for more time meanwhile waited for ever, and so did
/// the end of the consumer.
#[test]
fn a_handler_that_asks_for_more_time_is_answered_also_if_its_job_is_gone() {
    let server = Server::start();
    run(async {
        let jobs = Jobs::new(server).await;
        for end in ["DELETE FROM pgmq.q_jobs", "DROP TABLE pgmq.q_jobs"] {
            let (mut session, mut watch) = (jobs.session().await, jobs.session().await);
            jobs.send(&mut session, 1).await;
            let (ask, asked) = tokio::sync::watch::channel(false);
            let (sender, mut answers) = tokio::sync::mpsc::unbounded_channel();
            let running = jobs.consumer().visibility_timeout(3 * SECOND).run(move |job: Job| {
                let (mut asked, sender) = (asked.clone(), sender.clone());
                async move {
                    sender.send(None).unwrap();
                    asked.wait_for(|is_time| *is_time).await.unwrap();
                    sender.send(Some(job.extend(600 * SECOND).await)).unwrap();
                }
            });
            let running = running.await.unwrap();
            assert!(answers.recv().await.unwrap().is_none());
            // The next extension waits for the table.
            sql(&mut session, "BEGIN; LOCK TABLE pgmq.q_jobs IN ACCESS EXCLUSIVE MODE").await;
            until_sql(&mut watch, "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)").await;
            ask.send(true).unwrap();
            // The request is with the consumer.
            tokio::time::sleep(SECOND / 5).await;
            sql(&mut session, &format!("{end}; COMMIT")).await;
            let answer = tokio::time::timeout(TEST_TIMEOUT, answers.recv()).await.unwrap();
            assert!(answer.unwrap().unwrap().is_err(), "{end}");
            if end.starts_with("DROP") {
                let ended = tokio::time::timeout(TEST_TIMEOUT, running.wait()).await.unwrap();
                assert_eq!(ended.unwrap_err().kind(), ErrorKind::Schema);
            } else {
                running.stop(SECOND).await;
            }
        }
    });
}
