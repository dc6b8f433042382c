//! Wake-ups by the nudges of a notifier of the same process.

use std::time::Duration;

use pgbell::{Config, Keys, Listen, Notifier, Wake, WakeTask, WakeWorker, Wakeups};
use pgbell_testkit::{PgBouncer, PoolMode};

use super::{NEVER, builder, wake};
use crate::support::{Server, run, until, value};

/// Wake-ups of the task `jobs` with the channel `jobs`, attached to a notifier, whose first polls were taken.
async fn attached(server: &Server, notifier: &Notifier, listen: Listen) -> (Wakeups, WakeWorker) {
    let task = WakeTask::new("jobs").channel("jobs").interval(NEVER);
    let wakeups = builder(&server.url()).task(task).listen(listen).connect().await.unwrap();
    let worker = wakeups.worker("jobs").unwrap();
    assert!(matches!(wake(&worker).await, Wake::Poll));
    wakeups.attach(notifier);
    assert!(matches!(wake(&worker).await, Wake::Poll), "for earlier nudges");
    (wakeups, worker)
}

/// Returns the keys of a wake-up by `count` notifications or nudges.
fn keys(wake: Wake, count: u64) -> Vec<String> {
    match wake {
        Wake::Notified { count: found, keys: Keys::Set(keys) } if found == count => {
            keys.into_iter().collect()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_nudge_of_the_same_process_wakes_at_once_and_its_notification_does_not_wake_again() {
    let server = Server::start();
    run(async {
        let notifier = server.notifier().await;
        let (wakeups, worker) = attached(&server, &notifier, Listen::Enabled).await;
        for round in 1..=20_u64 {
            notifier.nudge("jobs", &round.to_string());
            assert_eq!(keys(wake(&worker).await, 1), [round.to_string()]);
            // Its notification has arrived.
            until("the echo arrives", || worker.stats().echoes == round).await;
        }
        // A notification of another session wakes, also with the key of a nudge.
        let mut other = server.connection().await;
        other.notify("jobs", "20").await.unwrap();
        assert_eq!(keys(wake(&worker).await, 1), ["20"]);
        let stats = worker.stats();
        assert_eq!((stats.nudges, stats.echoes, stats.notifications), (20, 20, 1));
        assert_eq!((stats.notified, stats.polls), (21, 2));
        wakeups.close().await;
    });
}

/// The nudges of the other notifier come through the server: its process is another one for these wake-ups.
#[test]
fn nudges_of_a_notifier_that_is_not_attached_wake_by_their_notifications() {
    let server = Server::start();
    run(async {
        let (attached_to, other) = (server.notifier().await, server.notifier().await);
        let (_wakeups, worker) = attached(&server, &attached_to, Listen::Enabled).await;
        for round in 0..5 {
            let key = round.to_string();
            attached_to.nudge("jobs", &key);
            assert_eq!(keys(wake(&worker).await, 1), [key.as_str()]);
            until("the echo arrives", || worker.stats().echoes == round + 1).await;
            other.nudge("jobs", &key);
            assert_eq!(keys(wake(&worker).await, 1), [key.as_str()]);
        }
    });
}

/// R1: no notification arrives there.
#[test]
fn a_nudge_wakes_workers_of_the_same_process_without_a_listening_session() {
    let server = Server::start();
    run(async {
        let notifier = server.notifier().await;
        let (wakeups, worker) = attached(&server, &notifier, Listen::Disabled).await;
        notifier.nudge("jobs", "1");
        notifier.nudge("other", "2");
        notifier.nudge("jobs", "1");
        assert_eq!(keys(wake(&worker).await, 2), ["1"]);
        drop(wakeups);
        notifier.nudge("jobs", "3");
        assert_eq!(worker.stats().nudges, 2, "dropped wake-ups are not called");
        until("it is committed", || notifier.stats().nudges_unconfirmed == 0).await;
        assert_eq!(notifier.stats().nudges_dropped, 0);
    });
}

/// The notification may be that of another client of the pooler.
#[test]
fn the_notification_of_a_nudge_through_a_pooler_wakes_too() {
    let server = Server::start();
    let cluster = &server.cluster;
    let pooler = PgBouncer::start(cluster, PoolMode::Transaction).unwrap();
    let url = pooler.url(cluster.superuser(), cluster.superuser_password(), "postgres");
    run(async {
        let notifier = Notifier::connect(&url).await.unwrap();
        let (_wakeups, worker) = attached(&server, &notifier, Listen::Enabled).await;
        notifier.nudge("jobs", "1");
        assert_eq!(keys(wake(&worker).await, 1), ["1"], "the nudge");
        assert_eq!(keys(wake(&worker).await, 1), ["1"], "its notification");
        assert_eq!(worker.stats().echoes, 0);
    });
}

/// After the loss of a session it is not certain what is an echo: another process may have the process id. A nudge that is sent again
/// wakes again.
#[test]
fn no_wake_up_is_lost_while_the_sessions_of_both_are_killed() {
    let server = Server::start();
    run(async {
        let url = server.url().parse::<Config>().unwrap().application_name("nudging");
        let delays = (Duration::from_millis(10), Duration::from_millis(50));
        let notifier = Notifier::builder(url).backoff(delays.0, delays.1).await.unwrap();
        let (wakeups, worker) = attached(&server, &notifier, Listen::Enabled).await;
        let (mut other, mut watch) = (server.connection().await, server.connection().await);
        for round in 0..30 {
            let key = format!("{}", round % 3);
            notifier.nudge("jobs", &key);
            // This one must wake after it was sent, whatever is in doubt.
            let sql = format!("SELECT pg_notify('jobs', 'other {round}')");
            if round % 3 == 1 {
                let pid = format!(
                    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                     WHERE application_name = 'nudging' AND pid <> {}",
                    notifier.process_id().unwrap()
                );
                value(&mut watch, &pid).await;
            }
            if round % 3 == 2
                && let Some(process_id) = wakeups.process_id()
            {
                let _ = server.cluster.terminate_backend(process_id);
            }
            other.simple_query(&sql).await.unwrap();
            let wanted = format!("other {round}");
            loop {
                let woken = wake(&worker).await;
                // A loss is a wake-up for everything.
                if woken.keys().is_none_or(|keys| keys.contains(&wanted)) {
                    break;
                }
            }
        }
        until("all are committed", || notifier.stats().nudges_unconfirmed == 0).await;
        let stats = worker.stats();
        assert_eq!((stats.nudges, notifier.stats().nudges_dropped), (30, 0));
    });
}
