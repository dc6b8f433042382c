//! Workers that share the work of a table, in one process and in several.

use pgbell::{Wake, Wakeups};

use super::{NEVER, OFTEN, add_jobs, builder, create_jobs, do_jobs, jobs, until_done, wake, work};
use crate::examples::{example_output, numbers};
use crate::support::{Server, run, until, value};

/// S10, R10: three programs with four workers each, whose sessions are lost meanwhile.
#[test]
fn s10_of_twelve_workers_of_three_programs_one_does_each_job() {
    const JOBS: u32 = 1_000;
    let server = Server::start();
    run(async {
        let mut connection = server.connection().await;
        create_jobs(&mut connection).await;
        let mut programs: Vec<Wakeups> = Vec::new();
        let mut working = Vec::new();
        for program in 0..3 {
            let wakeups = builder(&server.url()).task(jobs(NEVER)).connect().await.unwrap();
            for number in 0..4 {
                let worker = wakeups.worker("jobs").unwrap();
                let name = format!("{program}/{number}");
                working.push(tokio::spawn(work(worker, server.connection().await, name)));
            }
            programs.push(wakeups);
        }
        for first in (1..=JOBS).step_by(10) {
            add_jobs(&mut connection, first, first + 9, true).await;
            if first % 200 == 101
                && let Some(process_id) = programs[0].process_id()
            {
                let _ = server.cluster.terminate_backend(process_id);
            }
        }
        until_done(&mut connection, JOBS).await;
        assert_eq!(value(&mut connection, "SELECT count(*) FROM job").await, "0");
        let sql = "SELECT max(batch) <= 10 AND count(DISTINCT worker) > 1 FROM done";
        assert_eq!(value(&mut connection, sql).await, "t");
        for wakeups in programs {
            wakeups.close().await;
        }
        let mut done = 0;
        // A job that is done twice violates the primary key.
        for worker in working {
            done += worker.await.unwrap().unwrap();
        }
        assert_eq!(done, JOBS as usize);
    });
}

/// S10. The example of the guide: the interval is too long to help, and one item fails at first.
#[test]
fn s10_in_the_example_of_a_queue_one_of_four_workers_does_each_item() {
    let server = Server::start();
    let text = example_output(&server, "skip_locked_queue");
    assert_eq!(numbers(&text, ": item ", " is done"), (1..=50).collect::<Vec<_>>(), "{text}");
    let failed = text.lines().filter(|line| line.ends_with(": item 13 failed, bad luck"));
    assert_eq!(failed.count(), 1, "{text}");
    assert!(text.contains("status: listening"), "{text}");
    assert!(text.ends_with("end: 50 items are done\n"), "{text}");
}

/// G2, G5. The interval is too long to help.
#[test]
fn r6_one_wake_up_does_a_batch_and_the_rest_follows_at_once() {
    let server = Server::start();
    run(async {
        let mut connection = server.connection().await;
        create_jobs(&mut connection).await;
        let wakeups = builder(&server.url()).task(jobs(NEVER)).connect().await.unwrap();
        let worker = wakeups.worker("jobs").unwrap();
        assert!(matches!(wake(&worker).await, Wake::Poll));
        add_jobs(&mut connection, 1, 35, true).await;
        until("the burst has arrived", || worker.stats().notifications == 35).await;
        let burst = wake(&worker).await;
        let Wake::Notified { count: 35, .. } = burst else { panic!("{burst}") };
        assert_eq!(burst.keys().unwrap().len(), 35);
        let mut batches = Vec::new();
        loop {
            let found = do_jobs(&mut connection, "a", worker.batch_size()).await.unwrap();
            batches.push(found);
            if !worker.found(found) {
                break;
            }
            assert!(matches!(wake(&worker).await, Wake::Poll));
        }
        assert_eq!(batches, [10, 10, 10, 5]);
        let stats = worker.stats();
        assert_eq!((stats.notified, stats.polls, stats.full_batches), (1, 4, 3));
        wakeups.close().await;
    });
}

/// R4: several channels with payloads, each with its workers.
#[test]
fn r11_each_task_has_its_channels_its_interval_and_its_batch_size() {
    let server = Server::start();
    run(async {
        let task = |name, channel, interval, size| {
            let task = pgbell::WakeTask::new(name).channel(channel);
            task.interval(interval).batch_size(size)
        };
        let wakeups = builder(&server.url())
            .task(task("workflows", "workflow_resumable", NEVER, 100))
            .task(task("timers", "timer_expired", OFTEN, 50))
            .task(task("outbox", "outbox_pending", NEVER, 10))
            .connect()
            .await
            .unwrap();
        let workers = ["workflows", "timers", "outbox"].map(|name| wakeups.worker(name).unwrap());
        assert_eq!(workers.each_ref().map(|worker| worker.batch_size()), [100, 50, 10]);
        for worker in &workers {
            assert!(matches!(wake(worker).await, Wake::Poll));
        }
        for _ in 0..3 {
            assert!(matches!(wake(&workers[1]).await, Wake::Poll));
        }
        let notifier = server.notifier().await;
        let payload = "{\"event_id\": \"evt_123\"}";
        notifier.notify("outbox_pending", payload).await.unwrap();
        let notified = wake(&workers[2]).await;
        assert_eq!(notified.keys().unwrap().iter().collect::<Vec<_>>(), [payload]);
        assert_eq!(workers[0].stats().polls + workers[0].stats().notified, 1);
        wakeups.close().await;
    });
}
