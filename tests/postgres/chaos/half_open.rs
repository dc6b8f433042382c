//! Half-open connections.

use std::time::{Duration, Instant};

use pgbell::{ErrorKind, Event, Listener};
use pgbell_testkit::{Direction, Flow, Proxy, Signal};

use crate::support::{Server, TEST_TIMEOUT, next, run, until};

const EVERY: Duration = Duration::from_millis(300);
const DEADLINE: Duration = Duration::from_millis(500);

/// The heartbeat's limit with a margin for a busy machine.
const NOTICED: Duration = Duration::from_secs(3);

async fn listener(url: &str) -> Listener {
    let builder = Listener::builder(url).channels(["a"]).heartbeat(EVERY, DEADLINE);
    builder.backoff(Duration::from_millis(10), Duration::from_millis(100)).connect().await.unwrap()
}

/// H1.
#[test]
fn a_half_open_connection_in_one_or_both_directions_is_noticed_in_time() {
    let server = Server::start();
    let cluster = &server.cluster;
    run(async {
        let both = [Direction::ToServer, Direction::ToClient];
        for directions in [&both[..], &both[..1], &both[1..]] {
            for flow in [Flow::Swallow, Flow::Hold] {
                let proxy = Proxy::start(cluster.port()).unwrap();
                let url = proxy.url(cluster.superuser(), cluster.superuser_password(), "postgres");
                let mut listener = listener(&url).await;
                server.notifier().await.notify("a", "before").await.unwrap();
                assert_eq!(next(&mut listener).await.payload(), "before");
                let begin = Instant::now();
                for direction in directions {
                    proxy.handle().set(*direction, flow);
                }
                until("it is noticed", || listener.stats().sessions_lost == 1).await;
                let took = begin.elapsed();
                assert!(took < NOTICED, "{directions:?} {flow:?}: {took:?}");
                assert_eq!(listener.last_error().unwrap().kind(), ErrorKind::Timeout);
                proxy.handle().set_both(Flow::Forward);
                let event =
                    tokio::time::timeout(TEST_TIMEOUT, listener.recv()).await.unwrap().unwrap();
                let Event::Gap(gap) = event else { panic!("{event:?}") };
                assert_eq!(gap.cause().kind(), ErrorKind::Timeout, "{gap}");
                report!(
                    "{directions:?} {flow:?}: noticed after {took:?}, {} attempts",
                    gap.attempts()
                );
                server.notifier().await.notify("a", "after").await.unwrap();
                assert_eq!(next(&mut listener).await.payload(), "after");
                listener.close().await;
            }
        }
    });
}

/// H3: TCP keepalive does not notice it: the kernel of the server still answers.
#[test]
fn a_stopped_backend_is_noticed_in_time() {
    let server = Server::start();
    run(async {
        let mut listener = listener(&server.url()).await;
        let process_id = listener.process_id().unwrap();
        let begin = Instant::now();
        server.cluster.signal_backend(process_id, Signal::Stop).unwrap();
        until("it is noticed", || listener.stats().sessions_lost == 1).await;
        assert!(begin.elapsed() < NOTICED, "{:?}", begin.elapsed());
        server.cluster.signal_backend(process_id, Signal::Cont).unwrap();
        let event = tokio::time::timeout(TEST_TIMEOUT, listener.recv()).await.unwrap().unwrap();
        assert!(
            matches!(&event, Event::Gap(gap) if gap.cause().kind() == ErrorKind::Timeout),
            "{event:?}"
        );
        listener.close().await;
    });
}

/// Heartbeats are answered correctly, whatever the encoding of the database is.
#[test]
fn heartbeats_succeed_in_every_encoding() {
    let server = Server::start();
    run(async {
        let mut admin = server.connection().await;
        for encoding in ["UTF8", "LATIN1", "SQL_ASCII", "EUC_JP"] {
            let sql = format!(
                "CREATE DATABASE {encoding} ENCODING '{encoding}' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'"
            );
            admin.simple_query(&sql).await.unwrap();
            let cluster = &server.cluster;
            let database = encoding.to_lowercase();
            let url = cluster.url(cluster.superuser(), cluster.superuser_password(), &database);
            let builder =
                Listener::builder(&url).heartbeat(Duration::from_millis(20), TEST_TIMEOUT);
            let listener = builder.channels(["z", "A", "a,b", "\"x\""]).connect().await.unwrap();
            // Characters that the encoding supports.
            let more = match encoding {
                "LATIN1" => ["é", "ÿ"],
                "EUC_JP" => ["あ", "漢"],
                _ => ["é", "𝄞"],
            };
            listener.listen_all(more).await.unwrap();
            let before = listener.stats().heartbeats;
            until("more heartbeats", || listener.stats().heartbeats > before + 3).await;
            assert_eq!(listener.stats().sessions, 1, "{encoding}: {:?}", listener.last_error());
            listener.unlisten_all().await.unwrap();
            let before = listener.stats().heartbeats;
            until("more heartbeats", || listener.stats().heartbeats > before + 3).await;
            assert_eq!(listener.stats().sessions, 1, "{encoding}: {:?}", listener.last_error());
            listener.close().await;
        }
    });
}

/// A pooler may do this, or a query of the user.
#[test]
fn a_session_that_lost_its_channels_is_replaced_and_the_gap_names_the_reason() {
    let server = Server::start();
    run(async {
        let mut listener = listener(&server.url()).await;
        listener.simple_query("UNLISTEN *").await.unwrap();
        let event = tokio::time::timeout(TEST_TIMEOUT, listener.recv()).await.unwrap().unwrap();
        let Event::Gap(gap) = event else { panic!("{event:?}") };
        assert_eq!(gap.cause().kind(), ErrorKind::Pooler, "{gap}");
        server.notifier().await.notify("a", "received").await.unwrap();
        assert_eq!(next(&mut listener).await.payload(), "received");
        listener.close().await;
    });
}

/// S4: there is no false alarm during a long query.
#[test]
fn a_query_that_takes_longer_than_the_heartbeat_is_no_loss() {
    let server = Server::start();
    run(async {
        let mut listener = listener(&server.url()).await;
        let handle = listener.handle();
        let slow = tokio::spawn(async move { handle.simple_query("SELECT pg_sleep(2)").await });
        server.notifier().await.notify("a", "meanwhile").await.unwrap();
        slow.await.unwrap().unwrap();
        assert_eq!(next(&mut listener).await.payload(), "meanwhile");
        assert_eq!(listener.stats().sessions, 1);
        listener.close().await;
    });
}

/// A flood of notifications delays the answer, but bytes still arrive.
#[test]
fn a_flood_of_notifications_causes_no_false_alarm() {
    let server = Server::start();
    run(async {
        let builder = Listener::builder(server.url()).channels(["a"]).heartbeat(EVERY, DEADLINE);
        let listener = builder.overflow(pgbell::Overflow::DropOldest).connect().await.unwrap();
        let mut writer = server.connection().await;
        for _ in 0..4 {
            crate::support::send_numbers(&mut writer, "a", 1, 300_000).await;
        }
        until("all was read", || listener.stats().received == 1_200_000).await;
        assert_eq!(listener.stats().sessions, 1, "{:?}", listener.last_error());
        listener.close().await;
    });
}
