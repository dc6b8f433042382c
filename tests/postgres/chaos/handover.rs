//! A new session takes over from the old one, without a gap.

use std::time::Duration;

use pgbell::{Event, Listener};

use super::sequence::{CHANNEL, Receiver, Writer};
use crate::support::{Server, TEST_TIMEOUT, next, run, until};

#[test]
fn forty_handovers_during_writes_lose_and_repeat_nothing_and_report_no_gaps() {
    let server = Server::start();
    run(async {
        let builder = Listener::builder(server.url()).channels([CHANNEL]).queue_capacity(500_000);
        let listener = builder.connect().await.unwrap();
        let handle = listener.handle();
        let writer = Writer::start(server.url());
        writer.wait_for_commits(1).await;
        let receiver = Receiver::start(listener);
        for rotation in 1..=40 {
            writer.wait_for_commits(rotation % 5).await;
            let before = handle.process_id();
            handle.rotate().await.unwrap();
            until("it is handed over", || handle.stats().handovers == rotation).await;
            let rows = handle.simple_query("SELECT pg_backend_pid()").await.unwrap();
            let process_id = rows[0].get(0).unwrap().get(0).unwrap().parse().unwrap();
            assert_eq!(handle.process_id(), Some(process_id));
            assert_ne!(before, Some(process_id));
        }
        let (account, listener) = receiver.finish(writer).await;
        assert_eq!((account.gaps, account.missing, account.lagged), (0, 0, 0), "{account:?}");
        let stats = listener.stats();
        assert_eq!((stats.sessions, stats.sessions_lost, stats.handovers), (41, 0, 40));
        report!("40 handovers: {account:?}");
        // The private channels have ended.
        let rows = listener.simple_query("SELECT pg_listening_channels()").await.unwrap();
        assert_eq!(
            rows[0].iter().map(|row| row.get(0).unwrap().to_owned()).collect::<Vec<_>>(),
            [CHANNEL]
        );
        listener.close().await;
    });
}

/// Payloads are not compared: a notification that was sent twice arrives twice.
#[test]
fn equal_payloads_of_two_transactions_across_a_handover_both_arrive() {
    let server = Server::start();
    run(async {
        let mut listener = server.listener(&["a"]).await;
        let notifier = server.notifier().await;
        let handle = listener.handle();
        for handovers in 1..=10 {
            notifier.notify("a", "same").await.unwrap();
            let (rotated, sent) = tokio::join!(handle.rotate(), notifier.notify("a", "same"));
            rotated.and(sent).unwrap();
            until("it is handed over", || listener.stats().handovers == handovers).await;
            notifier.notify("a", "same").await.unwrap();
            for _ in 0..3 {
                assert_eq!(next(&mut listener).await.payload(), "same");
            }
        }
        notifier.notify("a", "end").await.unwrap();
        assert_eq!(next(&mut listener).await.payload(), "end");
        listener.close().await;
    });
}

#[test]
fn a_session_of_the_configured_age_is_replaced() {
    let server = Server::start();
    run(async {
        let builder = Listener::builder(server.url()).channels(["a"]);
        let mut listener = builder.max_lifetime(Duration::from_secs(1)).connect().await.unwrap();
        let notifier = server.notifier().await;
        for handovers in 1..=2 {
            until("it is handed over", || listener.stats().handovers == handovers).await;
            notifier.notify("a", "x").await.unwrap();
            assert_eq!(next(&mut listener).await.epoch() as u64, handovers + 1);
        }
        listener.close().await;
    });
}

#[test]
fn a_session_that_is_lost_during_a_handover_is_an_ordinary_gap() {
    let server = Server::start();
    run(async {
        let builder = Listener::builder(server.url()).channels([CHANNEL]).queue_capacity(500_000);
        let builder = builder.backoff(Duration::from_millis(10), Duration::from_millis(50));
        let listener = builder.connect().await.unwrap();
        let handle = listener.handle();
        let writer = Writer::start(server.url());
        writer.wait_for_commits(1).await;
        let receiver = Receiver::start(listener);
        for step in 0..20 {
            writer.wait_for_commits(1).await;
            let before = handle.stats();
            let process_id = handle.process_id().unwrap();
            handle.rotate().await.unwrap();
            // At some moment of the handover.
            tokio::time::sleep(Duration::from_micros(step * 400)).await;
            let _ = server.cluster.terminate_backend(process_id);
            until("it was lost, or handed over before", || {
                let stats = handle.stats();
                stats.sessions_lost > before.sessions_lost || stats.handovers > before.handovers
            })
            .await;
            let settled = handle.wait_state(pgbell::State::Connected);
            tokio::time::timeout(TEST_TIMEOUT, settled).await.unwrap().unwrap();
        }
        let (account, listener) = receiver.finish(writer).await;
        let stats = listener.stats();
        report!("{account:?} {stats:?}");
        assert_eq!(account.sessions, stats.sessions_lost, "{account:?}");
        // Some sessions were really lost during it.
        assert!(stats.sessions_lost >= 3, "{stats:?}");
        listener.close().await;
    });
}

#[test]
fn a_failed_handover_keeps_the_old_session() {
    let server = Server::start();
    run(async {
        let mut admin = server.connection().await;
        admin.simple_query("CREATE ROLE one LOGIN PASSWORD 'x' CONNECTION LIMIT 1").await.unwrap();
        let url = server.cluster.url("one", "x", "postgres");
        let builder = Listener::builder(&url).channels(["a"]);
        let builder = builder.backoff(Duration::from_millis(10), Duration::from_millis(50));
        let mut listener = builder.connect().await.unwrap();
        listener.handle().rotate().await.unwrap();
        until("it was tried", || listener.stats().attempts >= 3).await;
        let (at, error) = listener.last_error_at().unwrap();
        assert_eq!(error.sqlstate(), Some("53300"));
        assert!(at.elapsed().unwrap() < TEST_TIMEOUT, "{at:?}");
        let stats = listener.stats();
        assert!(stats.handover_failures >= 1, "{stats:?}");
        assert_eq!(stats.attempts_failed, 0);
        server.notifier().await.notify("a", "x").await.unwrap();
        let event = listener.recv().await.unwrap();
        assert!(matches!(&event, Event::Notification(n) if n.epoch() == 1), "{event:?}");
        admin.simple_query("ALTER ROLE one CONNECTION LIMIT 2").await.unwrap();
        until("it is handed over", || listener.stats().handovers == 1).await;
        assert_eq!(listener.stats().gaps, 0);
        listener.close().await;
    });
}
