//! Work that is found although its notification was lost.

use std::time::Duration;

use pgbell::{Wake, WakeupsStatus};
use pgbell_testkit::Mode;

use super::{NEVER, OFTEN, add_jobs, builder, create_jobs, do_jobs, jobs, until_done, wake, work};
use crate::support::{Server, run, until};

/// G2, G3. A job without a notification is found by the poll.
#[test]
fn r3_a_poll_finds_what_was_not_notified() {
    let server = Server::start();
    run(async {
        let mut connection = server.connection().await;
        create_jobs(&mut connection).await;
        let wakeups = builder(&server.url()).task(jobs(OFTEN)).connect().await.unwrap();
        let worker = wakeups.worker("jobs").unwrap();
        let working = tokio::spawn(work(worker.clone(), server.connection().await, "a".into()));
        until("the first poll is made", || worker.stats().polls > 0).await;
        for job in 1..=3 {
            add_jobs(&mut connection, job, job, false).await;
            until_done(&mut connection, job).await;
        }
        let stats = worker.stats();
        assert_eq!((stats.notifications, stats.notified), (0, 0));
        assert!(stats.polls >= 3, "{stats:?}");
        wakeups.close().await;
        assert_eq!(working.await.unwrap().unwrap(), 3);
    });
}

#[test]
fn r3_polls_continue_while_the_server_is_down_and_the_work_is_found_afterwards() {
    let server = Server::start();
    run(async {
        let mut connection = server.connection().await;
        create_jobs(&mut connection).await;
        let wakeups = builder(&server.url()).task(jobs(OFTEN)).connect().await.unwrap();
        let worker = wakeups.worker("jobs").unwrap();
        assert!(matches!(wake(&worker).await, Wake::Poll));
        server.cluster.stop(Mode::Fast).unwrap();
        until("the loss is noticed", || !wakeups.status().is_listening()).await;
        for _ in 0..3 {
            assert!(matches!(wake(&worker).await, Wake::Poll));
        }
        let WakeupsStatus::Polling(reason) = wakeups.status() else { panic!("{wakeups:?}") };
        assert!(reason.is_transient(), "{reason}");
        server.cluster.start_again().unwrap();
        let mut connection = server.connection().await;
        add_jobs(&mut connection, 1, 1, false).await;
        while do_jobs(&mut connection, "a", 10).await.unwrap() == 0 {
            let _ = wake(&worker).await;
        }
        until("it listens", || wakeups.status().is_listening()).await;
        wakeups.close().await;
    });
}

/// The notification of a job is lost with the session. The interval is too long to find it.
#[test]
fn r10_a_job_that_is_committed_while_the_session_is_lost_is_found_by_the_resync() {
    let server = Server::start();
    run(async {
        let mut connection = server.connection().await;
        create_jobs(&mut connection).await;
        let wakeups = builder(&server.url()).task(jobs(NEVER)).connect().await.unwrap();
        let worker = wakeups.worker("jobs").unwrap();
        let working = tokio::spawn(work(worker.clone(), server.connection().await, "a".into()));
        for round in 1..=20 {
            server.cluster.terminate_backend(wakeups.process_id().unwrap()).unwrap();
            add_jobs(&mut connection, round, round, true).await;
            until_done(&mut connection, round).await;
            let gaps = u64::from(round);
            until("the session is replaced", || {
                wakeups.stats().connection.gaps == gaps && wakeups.status().is_listening()
            })
            .await;
        }
        let stats = worker.stats();
        assert!(stats.resyncs > 0 && stats.polls == 1, "{stats:?}");
        wakeups.close().await;
        assert_eq!(working.await.unwrap().unwrap(), 20);
    });
}

/// R8: status, statistics and the last error can be asked for at any time.
#[test]
fn r8_the_status_says_that_the_session_is_lost_and_why() {
    let server = Server::start();
    run(async {
        let delay = Duration::from_secs(60);
        let wakeups = builder(&server.url()).task(jobs(NEVER)).backoff(delay, delay);
        let wakeups = wakeups.connect().await.unwrap();
        assert_eq!(wakeups.status().to_string(), "listening");
        assert!(wakeups.last_error().is_none());
        server.cluster.terminate_backend(wakeups.process_id().unwrap()).unwrap();
        // R2: the next attempt waits for the delay, so that the status stays.
        until("the loss is noticed", || !wakeups.status().is_listening()).await;
        let WakeupsStatus::Polling(reason) = wakeups.status() else { panic!("{wakeups:?}") };
        assert_eq!(reason.sqlstate(), Some("57P01"), "{reason}");
        assert_eq!(wakeups.last_error().unwrap().to_string(), reason.to_string());
        assert!(wakeups.status().to_string().starts_with("polling only: "));
        wakeups.close().await;
    });
}
