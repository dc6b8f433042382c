//! What a consumer reads for.

use std::time::{Duration, Instant};

use pgbell::durable::pgmq::{Finish, Queue};
use pgbell::{Listen, Notifier, WakeTask, Wakeups, WakeupsStatus};

use super::support::{Jobs, Pgmq, sql, start};
use crate::matrix::on_every_version;
use crate::support::{Server, run, until, until_blocked, value};

on_every_version! {
    a_consumer_reads_at_the_start_and_is_woken_by_pgmq
    a_message_within_the_throttle_is_read_when_it_has_passed
}

/// G2 and G7: it drains the queue once, then waits, and archives or deletes after success.
fn a_consumer_reads_at_the_start_and_is_woken_by_pgmq(major: u32) {
    let server = Server::of(major);
    run(async {
        let jobs = Jobs::with(server, Pgmq::V1_11).await;
        check_waking(&jobs, Finish::Archive).await;
        let jobs = Jobs::with(jobs.server, Pgmq::V1_13).await;
        check_waking(&jobs, Finish::Delete).await;
    });
}

async fn check_waking(jobs: &Jobs, finish: Finish) {
    let mut session = jobs.session().await;
    jobs.queue.enable_notifications(&mut session, Duration::ZERO).await.unwrap();
    let before = jobs.send(&mut session, 25).await;
    let (running, mut calls) = start(jobs.consumer().finish(finish).concurrency(1)).await;
    // With one handler at a time the order is that of the ids.
    assert_eq!(calls.succeed(25).await, before);
    until("it is idle", || running.stats().finished == 25).await;
    assert!(running.status().unwrap().is_listening(), "{:?}", running.status());
    let more = jobs.send(&mut session, 1).await;
    assert_eq!(calls.succeed(1).await, more);
    until("it is finished", || running.stats().finished == 26).await;
    let all: Vec<_> = (1..=26).map(|id| id.to_string()).collect();
    let archived = if finish == Finish::Archive { all.join(" ") } else { String::new() };
    assert_eq!(jobs.ids(&mut session).await, (String::new(), archived));
    let stopped = running.stop(Duration::from_secs(30)).await;
    assert!(stopped.error.is_none());
    assert_eq!((stopped.cancelled, stopped.blocked, stopped.unstored), (0, 0, 0));
    let stats = running.stats();
    assert_eq!((stats.jobs, stats.failures, stats.overtaken, stats.lapsed), (26, 0, 0, 0));
}

/// G7: pgmq sends no notification for it, and the poll is far.
fn a_message_within_the_throttle_is_read_when_it_has_passed(major: u32) {
    let server = Server::of(major);
    run(async {
        let jobs = Jobs::new(server).await;
        let mut session = jobs.session().await;
        let throttle = Duration::from_secs(2);
        jobs.queue.enable_notifications(&mut session, throttle).await.unwrap();
        let (running, mut calls) = start(jobs.consumer()).await;
        until("it has read", || running.stats().reads > 0).await;
        let first = jobs.send(&mut session, 1).await;
        assert_eq!(calls.succeed(1).await, first);
        let begun = Instant::now();
        let second = jobs.send(&mut session, 1).await;
        assert_eq!(calls.succeed(1).await, second);
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
        running.stop(Duration::from_secs(30)).await;
    });
}

/// G5: the consumer reads when the burst arrives, and once more.
#[test]
fn a_burst_of_notifications_causes_at_most_one_more_read() {
    let server = Server::start();
    run(async {
        let jobs = Jobs::new(server).await;
        let (mut session, mut locker) = (jobs.session().await, jobs.session().await);
        let (wakeups, worker) = jobs.wakeups().await;
        let (running, mut calls) = start(jobs.consumer().woken_by(worker.clone())).await;
        assert!(running.status().is_none());
        let received = || worker.stats().notifications;
        until("it has polled", || worker.stats().polls > 0 && running.stats().reads > 1).await;
        let reads = running.stats().reads;

        // A read waits while the burst arrives.
        sql(&mut locker, "BEGIN; LOCK TABLE pgmq.q_jobs IN ACCESS EXCLUSIVE MODE").await;
        session.notify("jobs_channel", "").await.unwrap();
        let reader =
            "SELECT pid FROM pg_locks WHERE NOT granted AND pid <> pg_backend_pid() LIMIT 1";
        until("it is notified", || received() >= 1).await;
        crate::support::until_sql(&mut session, &format!("SELECT EXISTS ({reader})")).await;
        let pid: i32 = value(&mut session, reader).await.parse().unwrap();
        until_blocked(&mut session, Some(pid)).await;
        let burst =
            "SELECT count(pg_notify('jobs_channel', i::text)) FROM generate_series(1, 10000) i";
        sql(&mut session, burst).await;
        until("the burst has arrived", || received() == 10_001).await;
        sql(&mut locker, "COMMIT").await;
        until("it has read", || running.stats().reads == reads + 2).await;

        // Nudges of the same process wake it too. There was no third read before.
        let notifier = Notifier::connect(jobs.url.as_str()).await.unwrap();
        wakeups.attach(&notifier);
        until("it has polled", || running.stats().reads == reads + 3).await;
        let sent = jobs.send(&mut session, 1).await;
        notifier.nudge("jobs_channel", "");
        assert_eq!(calls.succeed(1).await, sent);
        assert_eq!(running.stats().reads, reads + 4);
        running.stop(Duration::from_secs(30)).await;
        wakeups.close().await;
    });
}

/// G3: the listening session is dead, and no other one begins.
#[test]
fn a_job_is_done_within_one_poll_interval_while_the_listener_is_dead() {
    let server = Server::start();
    run(async {
        let jobs = Jobs::new(server).await;
        let mut session = jobs.session().await;
        let interval = Duration::from_secs(3);
        let far = Duration::from_secs(3_000);
        let builder = jobs.queue.consumer(jobs.url.as_str()).channel("jobs_channel");
        let (running, mut calls) = start(
            builder.interval(interval).listen(Listen::Enabled).reconnect(far, far).max_attempts(5),
        )
        .await;
        until("it has read", || running.stats().reads > 0).await;
        sql(
            &mut session,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'",
        )
        .await;
        until("it polls", || matches!(running.status(), Some(WakeupsStatus::Polling(_)))).await;
        let begun = Instant::now();
        let sent = jobs.send(&mut session, 1).await;
        session.notify("jobs_channel", "").await.unwrap();
        assert_eq!(calls.succeed(1).await, sent);
        assert!(begun.elapsed() < interval + Duration::from_secs(15), "{:?}", begun.elapsed());
        running.stop(Duration::from_secs(30)).await;
    });
}

/// G3: also with LISTEN switched off, and after the wake-ups of the user were closed.
#[test]
fn a_job_is_done_within_one_poll_interval_without_a_listener() {
    let server = Server::start();
    run(async {
        let jobs = Jobs::new(server).await;
        let mut session = jobs.session().await;
        let interval = Duration::from_secs(1);
        let builder = || jobs.queue.consumer(jobs.url.as_str()).interval(interval);
        let task = WakeTask::new("jobs").interval(Duration::from_secs(600));
        let wakeups = Wakeups::builder(jobs.url.as_str()).task(task).listen(Listen::Disabled);
        let wakeups = wakeups.connect().await.unwrap();
        let worker = wakeups.worker("jobs").unwrap();
        wakeups.close().await;
        for builder in [builder().listen(Listen::Disabled), builder().woken_by(worker)] {
            let (running, mut calls) = start(builder).await;
            until("it has read", || running.stats().reads > 0).await;
            for _ in 0..2 {
                let begun = Instant::now();
                let sent = jobs.send(&mut session, 1).await;
                assert_eq!(calls.succeed(1).await, sent);
                assert!(begun.elapsed() < interval + Duration::from_secs(15));
            }
            running.stop(Duration::from_secs(30)).await;
        }
    });
}

/// G2: a notification of the application wakes it, with a queue for which pgmq sends none.
#[test]
fn a_notification_of_the_application_wakes_the_consumer() {
    let server = Server::start();
    run(async {
        let jobs = Jobs::new(server).await;
        let mut session = jobs.session().await;
        let (running, mut calls) = start(jobs.consumer().channel("jobs_channel")).await;
        until("it listens", || running.status().is_some_and(|one| one.is_listening())).await;
        until("it has read", || running.stats().reads > 1).await;
        let statement = format!(
            "BEGIN; {}; NOTIFY jobs_channel; COMMIT",
            "SELECT * FROM pgmq.send('jobs', '{\"job_id\": 123}', 0)"
        );
        sql(&mut session, &statement).await;
        let call = calls.next().await;
        assert_eq!((call.attempts, &*call.message), (1, "{\"job_id\": 123}"));
        call.succeed();
        running.stop(Duration::from_secs(30)).await;
        assert_eq!(
            Queue::send_sql(),
            "SELECT * FROM pgmq.send($1::text, $2::text::jsonb, $3::integer)"
        );
    });
}

/// An earlier version read the throttle only when its session began.
#[test]
fn a_throttle_that_is_set_later_is_used_after_the_next_poll() {
    let server = Server::start();
    run(async {
        let jobs = Jobs::new(server).await;
        let mut session = jobs.session().await;
        let (wakeups, worker) = jobs.wakeups().await;
        let (running, _calls) = start(jobs.consumer().woken_by(worker.clone())).await;
        until("it has polled", || worker.stats().polls > 0 && running.stats().reads > 1).await;
        let reads = running.stats().reads;
        session.notify("jobs_channel", "").await.unwrap();
        until("it has read", || running.stats().reads == reads + 1).await;
        let throttle = Duration::from_millis(100);
        jobs.queue.enable_notifications(&mut session, throttle).await.unwrap();
        let polls = worker.stats().polls;
        worker.retry_in(Duration::ZERO);
        until("it has polled", || worker.stats().polls > polls).await;
        until("it has read", || running.stats().reads == reads + 2).await;
        // A message that is sent within the throttle has no notification.
        session.notify("jobs_channel", "").await.unwrap();
        until("it has read twice", || running.stats().reads == reads + 4).await;

        jobs.queue.disable_notifications(&mut session).await.unwrap();
        worker.retry_in(Duration::ZERO);
        // This poll is followed by the throttle that was known before it.
        until("it has polled", || running.stats().reads == reads + 6).await;
        session.notify("jobs_channel", "").await.unwrap();
        until("it has read once", || running.stats().reads == reads + 7).await;
        running.stop(Duration::from_secs(30)).await;
        assert_eq!(running.stats().reads, reads + 7);
        wakeups.close().await;
    });
}

/// An earlier version looked for the throttle only at a poll.
#[test]
fn notifications_that_are_enabled_while_a_consumer_runs_have_their_throttle() {
    let server = Server::start();
    run(async {
        let jobs = Jobs::new(server).await;
        let mut session = jobs.session().await;
        // Its poll is ten minutes away.
        let (running, mut calls) = start(jobs.consumer()).await;
        until("it has read", || running.stats().reads > 0).await;
        jobs.queue.enable_notifications(&mut session, Duration::from_secs(1)).await.unwrap();
        // Only the first of them is notified.
        for _ in 0..3 {
            jobs.send(&mut session, 1).await;
        }
        let mut ids = calls.succeed(3).await;
        ids.sort_unstable();
        assert_eq!(ids, [1, 2, 3]);
        running.stop(Duration::from_secs(30)).await;
    });
}

/// An earlier version found it at the next poll, of 30 s by default.
#[test]
fn a_message_that_is_hidden_is_read_when_it_becomes_visible() {
    let server = Server::start();
    run(async {
        let jobs = Jobs::new(server).await;
        let mut session = jobs.session().await;
        // A consumer that crashes has read it.
        let crashed = jobs.send(&mut session, 1).await;
        let taken = jobs.queue.read(&mut session, Duration::from_secs(3), 1).await.unwrap();
        assert_eq!(taken.len(), 1);
        // The poll is ten minutes away.
        let begun = Instant::now();
        let (running, mut calls) = start(jobs.consumer()).await;
        assert_eq!(calls.succeed(1).await, crashed);
        assert!(begun.elapsed() < Duration::from_secs(60));
        // A message with a delay: its notification is sent when it is inserted.
        let reads = running.stats().reads;
        let send = "SELECT pgmq.send('jobs', '{}', 2), pg_notify('pgmq.q_jobs.INSERT', '')";
        let delayed = value(&mut session, send).await;
        let call = calls.next().await;
        assert_eq!(call.msg_id.to_string(), delayed);
        assert!(begun.elapsed() < Duration::from_secs(120));
        call.succeed();
        until("it is finished", || running.stats().finished == 2).await;
        // It does not ask again and again.
        assert!(running.stats().reads - reads <= 4, "{:?}", running.stats());
        running.stop(Duration::from_secs(30)).await;
    });
}
