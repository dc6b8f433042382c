//! Listening that is enabled, disabled or automatic.

use std::time::{Duration, Instant};

use pgbell::{ErrorKind, Listen, Wake, WakeTask, Wakeups, WakeupsStatus};
use pgbell_testkit::{PgBouncer, PoolMode};

use super::{NEVER, OFTEN, builder, jobs, wake};
use crate::support::{Server, run, until, until_gone, value};

/// Returns a URL with a name by which the sessions of the wake-ups are found.
fn named(url: &str) -> String {
    format!("{url}?application_name=wakeups")
}

const SESSIONS: &str = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'wakeups'";

#[test]
fn r1_wake_ups_that_are_disabled_open_no_session_and_poll() {
    let server = Server::start();
    run(async {
        let mut connection = server.connection().await;
        let disabled = builder(&named(&server.url())).task(jobs(OFTEN)).listen(Listen::Disabled);
        let wakeups = disabled.connect().await.unwrap();
        let worker = wakeups.worker("jobs").unwrap();
        for _ in 0..3 {
            assert!(matches!(wake(&worker).await, Wake::Poll));
            assert_eq!(value(&mut connection, SESSIONS).await, "0");
        }
        assert_eq!(wakeups.process_id(), None);
        // The same with a session, so that the query is known to find it.
        let enabled = builder(&named(&server.url())).task(jobs(OFTEN)).connect().await.unwrap();
        assert_eq!(value(&mut connection, SESSIONS).await, "1");
        enabled.close().await;
        wakeups.close().await;
    });
}

#[test]
fn r1_automatic_wake_ups_listen_on_a_server_and_through_a_pooler_in_session_mode() {
    let server = Server::start();
    let cluster = &server.cluster;
    let pooler = PgBouncer::start(cluster, PoolMode::Session).unwrap();
    let pooled = pooler.url(cluster.superuser(), cluster.superuser_password(), "postgres");
    run(async {
        for url in [server.url(), pooled] {
            let automatic = builder(&url).task(jobs(NEVER)).listen(Listen::Automatic);
            let wakeups = automatic.connect().await.unwrap();
            assert!(wakeups.status().is_listening(), "{}", wakeups.status());
            let worker = wakeups.worker("jobs").unwrap();
            assert!(matches!(wake(&worker).await, Wake::Poll));
            server.notifier().await.notify("jobs", "7").await.unwrap();
            let notified = wake(&worker).await;
            assert_eq!(notified.keys().unwrap().iter().collect::<Vec<_>>(), ["7"]);
            wakeups.close().await;
        }
    });
}

/// LISTEN succeeds there, and no notification would ever arrive.
#[test]
fn r1_automatic_wake_ups_poll_through_a_pooler_in_transaction_mode_and_say_why() {
    let server = Server::start();
    let cluster = &server.cluster;
    let pooler = PgBouncer::start(cluster, PoolMode::Transaction).unwrap();
    let url = pooler.url(cluster.superuser(), cluster.superuser_password(), "postgres");
    run(async {
        let begin = Instant::now();
        let automatic = Wakeups::builder(&url).task(jobs(OFTEN)).listen(Listen::Automatic);
        let wakeups = automatic.connect().await.unwrap();
        assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
        let WakeupsStatus::Polling(reason) = wakeups.status() else { panic!("{wakeups:?}") };
        assert_eq!(reason.kind(), ErrorKind::Pooler, "{reason:#}");
        assert!(reason.hint().is_some_and(|hint| hint.contains("pool_mode = session")), "{reason}");
        let worker = wakeups.worker("jobs").unwrap();
        for _ in 0..3 {
            assert!(matches!(wake(&worker).await, Wake::Poll));
        }
        wakeups.close().await;

        let error = Wakeups::builder(&url).task(jobs(OFTEN)).connect().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Pooler, "{error}");
    });
}

/// LISTEN is refused there. When the server is promoted, listening begins.
#[test]
fn r1_automatic_wake_ups_poll_on_a_standby_and_listen_after_its_promotion() {
    let server = Server::start();
    let standby = server.cluster.standby().unwrap_or_else(|error| panic!("{error}"));
    standby.wait_caught_up(&server.cluster).unwrap();
    run(async {
        let url = standby.url_for_superuser();
        let automatic = builder(&url).task(jobs(NEVER)).listen(Listen::Automatic);
        let wakeups = automatic.connect().await.unwrap();
        let WakeupsStatus::Polling(reason) = wakeups.status() else { panic!("{wakeups:?}") };
        assert_eq!(reason.kind(), ErrorKind::Standby, "{reason:#}");
        let worker = wakeups.worker("jobs").unwrap();
        assert!(matches!(wake(&worker).await, Wake::Poll));
        standby.promote().unwrap();
        assert!(matches!(wake(&worker).await, Wake::Poll));
        until("it listens", || wakeups.status().is_listening()).await;
        wakeups.close().await;
    });
}

#[test]
fn r9_a_close_ends_the_session_and_every_worker() {
    let server = Server::start();
    run(async {
        let mut connection = server.connection().await;
        let wakeups = builder(&server.url())
            .task(jobs(NEVER))
            .task(WakeTask::new("timers").interval(NEVER))
            .connect()
            .await
            .unwrap();
        let workers = ["jobs", "timers"].map(|name| wakeups.worker(name).unwrap());
        let waits =
            workers.map(|worker| tokio::spawn(async move { while worker.changed().await {} }));
        let process_id = wakeups.process_id();
        let begin = Instant::now();
        wakeups.close().await;
        assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
        until_gone(&mut connection, process_id).await;
        for worker in waits {
            worker.await.unwrap();
        }
    });
}
