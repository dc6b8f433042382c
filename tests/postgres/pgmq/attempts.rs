//! Failed attempts, and jobs that are put aside.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use pgbell::durable::pgmq::{DeadJob, Finish, Job, Queue};

use super::support::{Jobs, Pgmq, sql, start};
use crate::matrix::on_every_version;
use crate::support::{Server, run, until, value};

on_every_version! {
    a_job_is_sent_to_the_dead_letter_queue_after_its_last_attempt
}

/// G8: attempts are counted, and after the last one the job is put aside with the reason.
fn a_job_is_sent_to_the_dead_letter_queue_after_its_last_attempt(major: u32) {
    let server = Server::of(major);
    run(async {
        let jobs = Jobs::with(server, Pgmq::V1_11).await;
        check_dead_letter(&jobs, Finish::Archive).await;
        let jobs = Jobs::with(jobs.server, Pgmq::V1_13).await;
        check_dead_letter(&jobs, Finish::Delete).await;
    });
}

async fn check_dead_letter(jobs: &Jobs, finish: Finish) {
    let mut session = jobs.session().await;
    let dead_letter = Queue::new("jobs_dead").unwrap();
    dead_letter.create(&mut session).await.unwrap();
    let (message, headers) = (r#"{"order": 7}"#, r#"{"trace": "x"}"#);
    let send = jobs.queue.send_with_headers(&mut session, message, headers, Duration::ZERO);
    let msg_id = send.await.unwrap();
    let reported = Arc::new(Mutex::new(Vec::<DeadJob>::new()));
    let report = reported.clone();
    let builder = jobs
        .consumer()
        .finish(finish)
        .max_attempts(3)
        .backoff(Duration::ZERO, Duration::ZERO)
        .dead_letter(dead_letter.clone())
        .on_dead(move |job| report.lock().unwrap().push(job));
    let (running, mut calls) = start(builder).await;
    for attempt in 1..=3 {
        let call = calls.next().await;
        assert_eq!((call.msg_id, call.attempts), (msg_id, attempt));
        call.fail(&format!("attempt \"{attempt}\" \\ failed"));
    }
    until("it is put aside", || running.stats().dead == 1).await;
    let reported = reported.lock().unwrap().clone();
    let [job] = &reported[..] else { panic!("{reported:?}") };
    let expected = (msg_id, 3, "attempt \"3\" \\ failed");
    assert_eq!((job.msg_id(), job.attempts(), job.reason()), expected);

    let found = dead_letter.read(&mut session, Duration::from_secs(60), 10).await.unwrap();
    assert_eq!(found.len(), 1);
    let of = "SELECT message - 'enqueued_at' = jsonb_build_object('queue', 'jobs', 'msg_id', 1, 'attempts', 3, \
        'reason', 'attempt \"3\" \\ failed', 'message', '{\"order\": 7}'::jsonb, 'headers', '{\"trace\": \"x\"}'::jsonb) FROM pgmq.q_jobs_dead";
    assert_eq!(value(&mut session, of).await, "t", "{}", found[0].message());
    let archived = if finish == Finish::Archive { "1" } else { "" };
    assert_eq!(jobs.ids(&mut session).await, (String::new(), archived.to_owned()));
    let stats = running.stats();
    assert_eq!((stats.failures, stats.panics, stats.finished), (3, 0, 0));
    running.stop(Duration::from_secs(30)).await;
}

#[test]
fn a_panic_is_a_failed_attempt_and_a_panic_of_on_dead_ends_nothing() {
    let server = Server::start();
    run(async {
        let jobs = Jobs::new(server).await;
        let mut session = jobs.session().await;
        jobs.send(&mut session, 2).await;
        let reported = Arc::new(Mutex::new(Vec::new()));
        let report = reported.clone();
        let running = jobs
            .consumer()
            .finish(Finish::Delete)
            .max_attempts(2)
            .backoff(Duration::ZERO, Duration::ZERO)
            .on_dead(move |job| {
                report.lock().unwrap().push((job.msg_id(), job.reason().to_owned()));
                panic!("on_dead");
            })
            .run(|job: Job| async move {
                assert!(job.msg_id() != 1, "job {} panics", job.msg_id());
            })
            .await
            .unwrap();
        until("both have ended", || running.stats().dead == 1 && running.stats().finished == 1)
            .await;
        let expected = [(1, "the handler panicked: job 1 panics".to_owned())];
        assert_eq!(*reported.lock().unwrap(), expected);
        // Without a dead-letter queue it is archived, although finished jobs are deleted.
        assert_eq!(jobs.ids(&mut session).await, (String::new(), "1".to_owned()));
        let stats = running.stats();
        assert_eq!((stats.failures, stats.panics), (2, 2));
        running.stop(Duration::from_secs(30)).await;
    });
}

/// A poison job that ends its process in each attempt reports no error.
#[test]
fn a_job_that_was_read_too_often_is_put_aside_without_an_attempt() {
    let server = Server::start();
    run(async {
        let jobs = Jobs::new(server).await;
        let mut session = jobs.session().await;
        jobs.send(&mut session, 1).await;
        for _ in 0..3 {
            assert_eq!(jobs.queue.read(&mut session, Duration::ZERO, 1).await.unwrap().len(), 1);
        }
        jobs.send(&mut session, 1).await;
        let (running, mut calls) = start(jobs.consumer().max_attempts(3)).await;
        assert_eq!(calls.succeed(1).await, [2]);
        until("both have ended", || running.stats().dead == 1 && running.stats().finished == 1)
            .await;
        assert!(calls.is_empty());
        assert_eq!(running.stats().failures, 0);
        running.stop(Duration::from_secs(30)).await;
    });
}

/// The archive has a row with the id already: an operator has restored a message with its id.
#[test]
fn a_job_that_cannot_be_archived_does_not_keep_others_from_it() {
    let server = Server::start();
    run(async {
        let jobs = Jobs::new(server).await;
        let mut session = jobs.session().await;
        jobs.send(&mut session, 4).await;
        sql(&mut session, "INSERT INTO pgmq.a_jobs (msg_id, vt, message) VALUES (2, now(), '{}')")
            .await;
        let (running, mut calls) =
            start(jobs.consumer().reconnect(Duration::from_millis(1), Duration::from_millis(10)))
                .await;
        calls.succeed(4).await;
        until("three are finished", || running.stats().finished == 3).await;
        until("one is refused", || running.stats().refused == 1).await;
        assert_eq!(running.last_error().unwrap().sqlstate(), Some("23505"));
        assert_eq!(jobs.ids(&mut session).await, ("2".to_owned(), "1 2 3 4".to_owned()));
        running.stop(Duration::from_secs(30)).await;
    });
}
