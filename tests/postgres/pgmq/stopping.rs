//! The end of a consumer.

use std::time::{Duration, Instant};

use pgbell::ErrorKind;
use pgbell::durable::pgmq::Message;

use super::support::{Jobs, sql, start};
use crate::support::{Server, TEST_TIMEOUT, poll_once, run, until};

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn a_stop_lets_the_running_job_end_and_gives_the_others_back() {
    let server = Server::start();
    run(async {
        let jobs = Jobs::new(server).await;
        let mut session = jobs.session().await;
        jobs.send(&mut session, 3).await;
        let (running, mut calls) = start(jobs.consumer().concurrency(1)).await;
        let call = calls.next().await;
        until("the others wait", || running.stats().waiting == 2).await;
        let mut stop = std::pin::pin!(running.stop(TEST_TIMEOUT));
        assert!(poll_once(stop.as_mut()).await.is_none());
        until("they are given back", || running.stats().released == 2).await;
        // At once, and without an attempt.
        let found = jobs.queue.read(&mut session, MINUTE, 10).await.unwrap();
        let found: Vec<_> = found.iter().map(|one| (one.msg_id(), one.read_count())).collect();
        assert_eq!(found, [(2, 1), (3, 1)]);
        assert!(poll_once(stop.as_mut()).await.is_none());
        call.succeed();
        let stopped = stop.await;
        assert_eq!((stopped.cancelled, stopped.blocked, stopped.unstored), (0, 0, 0));
        assert_eq!(jobs.ids(&mut session).await, ("2 3".to_owned(), "1".to_owned()));
        assert!(running.wait().await.is_ok());
    });
}

#[test]
fn a_stop_cancels_what_has_not_ended_in_time_and_gives_it_back() {
    let server = Server::start();
    run(async {
        let jobs = Jobs::new(server).await;
        let mut session = jobs.session().await;
        jobs.send(&mut session, 1).await;
        // A handler whose call is dropped fails, which could be before it is cancelled.
        let mut kept = Vec::new();
        for is_dropped in [false, true] {
            let (running, mut calls) = start(jobs.consumer()).await;
            let call = calls.next().await;
            if is_dropped {
                drop(running);
            } else {
                let begun = Instant::now();
                let stopped = running.stop(Duration::from_millis(50)).await;
                assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
                assert_eq!((stopped.cancelled, stopped.blocked, stopped.unstored), (1, 0, 0));
            }
            // It is given back without an attempt: it has not failed.
            assert_eq!(call.attempts, 1);
            kept.push(call);
        }
        // After the drop it is given back in the background.
        let begun = Instant::now();
        let found: Vec<Message> = loop {
            let found = jobs.queue.read(&mut session, MINUTE, 1).await.unwrap();
            if !found.is_empty() {
                break found;
            }
            assert!(begun.elapsed() < Duration::from_secs(15), "it is not given back");
            tokio::task::yield_now().await;
        };
        assert_eq!(found[0].read_count(), 1);
    });
}

/// A thread that is blocked cannot be cancelled.
#[test]
fn a_stop_does_not_wait_for_a_handler_that_blocks_its_thread() {
    let server = Server::start();
    run(async {
        let jobs = Jobs::new(server).await;
        let mut session = jobs.session().await;
        jobs.send(&mut session, 1).await;
        let (begin, begun) = std::sync::mpsc::channel();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let ended = std::sync::Mutex::new(ended);
        let running = jobs
            .consumer()
            .run(move |_| {
                begin.send(()).unwrap();
                let _ = ended.lock().unwrap().recv();
                async {}
            })
            .await
            .unwrap();
        tokio::task::spawn_blocking(move || begun.recv().unwrap()).await.unwrap();
        let stopped = running.stop(Duration::ZERO).await;
        assert_eq!((stopped.cancelled, stopped.blocked, stopped.unstored), (0, 1, 0));
        drop(end);
    });
}

/// It would never pass.
#[test]
fn a_queue_that_is_dropped_ends_its_consumer() {
    let server = Server::start();
    run(async {
        let jobs = Jobs::new(server).await;
        let mut session = jobs.session().await;
        jobs.send(&mut session, 1).await;
        let (running, mut calls) = start(jobs.consumer()).await;
        let call = calls.next().await;
        jobs.queue.drop_queue(&mut session).await.unwrap();
        call.succeed();
        let error = running.wait().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Schema);
        assert_eq!(running.stopped().await.unstored, 1);
    });
}

/// An earlier version gave it back without a notification, so another consumer found it at its next poll.
#[test]
fn a_job_that_is_given_back_wakes_another_consumer() {
    let server = Server::start();
    run(async {
        let jobs = Jobs::new(server).await;
        let mut session = jobs.session().await;
        jobs.send(&mut session, 2).await;
        let (first, mut calls) = start(jobs.consumer().concurrency(1)).await;
        let call = calls.next().await;
        until("the other waits", || first.stats().waiting == 1).await;
        let (second, mut others) = start(jobs.consumer()).await;
        until("it listens", || second.status().is_some_and(|one| one.is_listening())).await;
        until("it has polled", || second.stats().reads > 1).await;
        let begun = Instant::now();
        first.request_stop(TEST_TIMEOUT);
        assert_eq!(others.succeed(1).await, [2]);
        call.succeed();
        assert_eq!(first.stopped().await.unstored, 0);
        assert!(begun.elapsed() < TEST_TIMEOUT, "{:?}", begun.elapsed());
        second.stop(TEST_TIMEOUT).await;
        assert_eq!(jobs.ids(&mut session).await, (String::new(), "1 2".to_owned()));
    });
}

/// An earlier version ended at the first refusal.
#[test]
fn a_stop_stores_the_other_ends_if_the_server_refuses_one() {
    let server = Server::start();
    run(async {
        let jobs = Jobs::new(server).await;
        let mut session = jobs.session().await;
        jobs.send(&mut session, 3).await;
        let handler = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$; \
            CREATE TRIGGER refuse BEFORE UPDATE ON pgmq.q_jobs FOR EACH ROW WHEN (OLD.msg_id = 2 AND NEW.read_ct < OLD.read_ct) EXECUTE FUNCTION refuse()";
        sql(&mut session, handler).await;
        let (running, mut calls) = start(jobs.consumer()).await;
        let all = [calls.next().await, calls.next().await, calls.next().await];
        // All are cancelled, and given back.
        let stopped = running.stop(Duration::ZERO).await;
        assert_eq!((stopped.cancelled, stopped.blocked, stopped.unstored), (3, 0, 0));
        drop(all);
        let found = jobs.queue.read(&mut session, MINUTE, 10).await.unwrap();
        let found: Vec<_> = found.iter().map(|one| (one.msg_id(), one.read_count())).collect();
        assert_eq!(found, [(1, 1), (3, 1)]);
        let stats = running.stats();
        assert_eq!((stats.released, stats.refused), (2, 1));
    });
}
