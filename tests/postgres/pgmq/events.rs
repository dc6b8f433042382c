//! The log events of a consumer.

use std::time::Duration;

use pgbell::durable::pgmq::Queue;

use super::support::{Jobs, sql, start};
use crate::log::Log;
use crate::support::{Server, until};

#[test]
fn the_log_has_what_a_consumer_does_with_jobs_that_do_not_succeed() {
    let server = Server::start();
    let log = Log::default();
    log.run(async {
        let jobs = Jobs::new(server).await;
        let mut session = jobs.session().await;
        jobs.queue.enable_notifications(&mut session, Duration::from_millis(250)).await.unwrap();
        // As after a crash of the server.
        sql(&mut session, "DELETE FROM pgmq.notify_insert_throttle").await;
        let dead = Queue::new("jobs_dead").unwrap();
        dead.create(&mut session).await.unwrap();
        jobs.send(&mut session, 3).await;
        let builder = jobs.consumer().max_attempts(1).dead_letter(dead);
        let (running, mut calls) = start(builder).await;
        let mut all = vec![calls.next().await, calls.next().await, calls.next().await];
        all.sort_by_key(|call| call.msg_id);
        let mut next = || all.remove(0);
        next().fail("there is no such address");
        until("it is put aside", || running.stats().dead == 1).await;
        // Another reader takes it.
        sql(&mut session, "UPDATE pgmq.q_jobs SET read_ct = read_ct + 1 WHERE msg_id = 2").await;
        next().succeed();
        until("it is overtaken", || running.stats().overtaken == 1).await;
        sql(&mut session, "DROP TABLE pgmq.q_jobs_dead").await;
        next().fail("no");
        until("it is refused", || running.stats().refused == 1).await;
        sql(&mut session, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%read_ct%' AND pid <> pg_backend_pid()").await;
        let sent = jobs.send(&mut session, 1).await;
        session.notify(jobs.queue.channel(), "").await.unwrap();
        assert_eq!(calls.succeed(1).await, sent);
        until("it is finished", || running.stats().finished == 1).await;
        running.stop(Duration::from_secs(30)).await;
    });
    let text = log.text();
    let mut lines = text.lines();
    for (level, expected) in [
        (
            "WARN",
            "pgmq sends no notifications of inserts until they are enabled again queue=\"jobs\" why=",
        ),
        ("INFO", "consumer started queue=\"jobs\""),
        (
            "WARN",
            "a job was put aside after its last attempt queue=\"jobs\" msg_id=1 attempts=1 reason=\"there is no such address\"",
        ),
        (
            "WARN",
            "another reader has taken or removed a job of this consumer queue=\"jobs\" msg_id=2",
        ),
        ("WARN", "the server refuses to store the end of a job queue=\"jobs\" msg_id=3 error="),
        ("WARN", "a statement of a consumer failed, and is tried again queue=\"jobs\" error="),
        ("INFO", "consumer stopped queue=\"jobs\" finished=1 failures=2 dead=1"),
    ] {
        let found = lines.find(|line| line.contains(expected));
        let line = found.unwrap_or_else(|| panic!("{expected} is not in its place:\n{text}"));
        assert!(line.contains(level), "{line}");
        assert!(!line.contains("error=\"\""), "{line}");
    }
}

/// The consumer listened, which `status` shows, and there was nothing to be heard.
#[test]
fn whether_pgmq_notifies_is_shown_and_logged() {
    let server = Server::start();
    let log = Log::default();
    log.run(async {
        let jobs = Jobs::new(server).await;
        let mut session = jobs.session().await;
        let (wakeups, worker) = jobs.wakeups().await;
        let (running, _calls) = start(jobs.consumer().woken_by(worker.clone())).await;
        assert!(!running.is_notified());
        jobs.queue.enable_notifications(&mut session, Duration::from_secs(1)).await.unwrap();
        worker.retry_in(Duration::ZERO);
        until("it is found", || running.is_notified()).await;
        jobs.queue.disable_notifications(&mut session).await.unwrap();
        worker.retry_in(Duration::ZERO);
        until("it is found", || !running.is_notified()).await;
        running.stop(Duration::from_secs(30)).await;
        wakeups.close().await;
    });
    let text = log.text();
    let line = "pgmq sends no notifications of inserts: they are not enabled queue=\"jobs\"";
    assert_eq!(text.matches(line).count(), 2, "{text}");
}
