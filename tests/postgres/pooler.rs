//! Sessions through a real PgBouncer: they work, or the error names the reason; they are never silent.

use std::time::{Duration, Instant};

use pgbell::{Config, Connection, DeliveryProof, ErrorKind, Event, Listener, Notifier};
use pgbell_testkit::{PgBouncer, PoolMode};

use crate::support::{
    Server, expect_numbers, next, number, receive, run, send_numbers, until, value,
};

/// A pooler in front of the server, and a URL for it.
fn pooler(server: &Server, mode: PoolMode) -> (PgBouncer, String) {
    let cluster = &server.cluster;
    let pooler = PgBouncer::start(cluster, mode).unwrap_or_else(|error| panic!("{error}"));
    let url = pooler.url(cluster.superuser(), cluster.superuser_password(), "postgres");
    (pooler, url)
}

#[test]
fn through_a_pooler_in_session_mode_everything_works() {
    let server = Server::start();
    let (_pooler, url) = pooler(&server, PoolMode::Session);
    run(async {
        let mut listener = Listener::builder(&url).channels(["a"]).connect().await.unwrap();
        let mut inline = Connection::connect(&url).await.unwrap();
        inline.listen("a").await.unwrap();
        let notifier = Notifier::connect(&url).await.unwrap();
        notifier.notify("a", "x").await.unwrap();
        assert_eq!(next(&mut listener).await.payload(), "x");
        let batch = inline.recv_batch().await.unwrap();
        assert_eq!(batch.iter().map(|n| n.payload_bytes().to_vec()).collect::<Vec<_>>(), [b"x"]);
        // The delivery proof left no channel.
        let rows = inline.simple_query("SELECT pg_listening_channels()").await.unwrap();
        assert_eq!(
            rows[0].iter().map(|row| row.get(0).unwrap().to_owned()).collect::<Vec<_>>(),
            ["a"]
        );
    });
}

/// LISTEN succeeds there, but no notification would ever arrive.
#[test]
fn a_pooler_without_sessions_is_refused_with_the_cause() {
    let server = Server::start();
    for mode in [PoolMode::Transaction, PoolMode::Statement] {
        let (_pooler, url) = pooler(&server, mode);
        run(async {
            let begin = Instant::now();
            let error = Listener::connect(&url).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Pooler, "{error}");
            assert!(
                error.hint().is_some_and(|hint| hint.contains("pool_mode = session")),
                "{error}"
            );
            assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());

            // A connection may have other uses: only its LISTEN is refused.
            let mut connection = Connection::connect(&url).await.unwrap();
            connection.simple_query("SELECT 1").await.unwrap();
            let error = connection.listen("a").await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Pooler, "{error}");

            // Publishing needs no session of its own.
            let mut direct = server.listener(&["a"]).await;
            let notifier = Notifier::connect(&url).await.unwrap();
            notifier.notify("a", "x").await.unwrap();
            assert_eq!(next(&mut direct).await.payload(), "x");
        });
    }
}

/// A notification that arrives during the delivery proof belongs to the user: LISTEN may have been sent in a query.
#[test]
fn a_notification_that_arrives_during_the_delivery_proof_is_kept() {
    let server = Server::start();
    let (_pooler, url) = pooler(&server, PoolMode::Session);
    run(async {
        let mut direct = server.connection().await;
        let mut inline = Connection::connect(&url).await.unwrap();
        inline.simple_query("LISTEN a").await.unwrap();
        send_numbers(&mut direct, "a", 1, 100).await;
        inline.listen("b").await.unwrap();
        send_numbers(&mut direct, "b", 101, 200).await;
        let found = receive(&mut inline, 200).await;
        for (index, n) in (0..).zip(&found) {
            assert_eq!((n.sequence(), number(n.payload_bytes())), (index, index + 1));
            assert_eq!(n.channel(), if index < 100 { "a" } else { "b" });
        }
    });
}

/// A SET would remain in a server session that another client uses next.
#[test]
fn a_notifier_through_a_pooler_leaves_no_setting_behind() {
    let server = Server::start();
    run(async {
        let mut direct = server.listener(&["a"]).await;
        let sql = "ALTER ROLE postgres SET idle_session_timeout = '1h'";
        server.connection().await.simple_query(sql).await.unwrap();
        let (_pooler, url) = pooler(&server, PoolMode::Transaction);
        let notifier = Notifier::connect(&url).await.unwrap();
        notifier.notify("a", "x").await.unwrap();
        assert_eq!(next(&mut direct).await.payload(), "x");
        let mut other = Connection::connect(&url).await.unwrap();
        assert_eq!(value(&mut other, "SHOW idle_session_timeout").await, "1h");
        notifier.notify_many([("a", "y"), ("a", "z")]).await.unwrap();
        assert_eq!(next(&mut direct).await.payload(), "y");
        assert_eq!(value(&mut other, "SHOW idle_session_timeout").await, "1h");
    });
}

/// A pooler that does not reset sessions may pass on a session that listens to channels of another client. A heartbeat that
/// compared the channels would fail each time.
#[test]
fn a_session_that_already_listens_to_other_channels_can_be_used() {
    let server = Server::start();
    let cluster = &server.cluster;
    for count in [1_100, 1] {
        let builder = PgBouncer::builder(cluster, PoolMode::Session);
        let pooler = builder.setting("server_reset_query", "").start();
        let pooler = pooler.unwrap_or_else(|error| panic!("{error}"));
        let url = pooler.url(cluster.superuser(), cluster.superuser_password(), "postgres");
        run(async {
            let mut before = Connection::connect(&url).await.unwrap();
            let listen: String = (0..count).map(|number| format!("LISTEN c{number};")).collect();
            before.simple_query(&listen).await.unwrap();
            before.close().await;

            let builder = Listener::builder(&url).channels(["a"]);
            let builder = builder.heartbeat(Duration::from_millis(50), Duration::from_secs(10));
            let mut listener = builder.connect().await.unwrap();
            let sql = "SELECT count(*) FROM pg_listening_channels() AS c WHERE c LIKE 'c%'";
            let rows = listener.handle().simple_query(sql).await.unwrap();
            assert_eq!(rows[0].get(0).unwrap().get(0).unwrap(), count.to_string());
            until("heartbeats", || listener.stats().heartbeats > 3).await;
            send_numbers(&mut server.connection().await, "a", 1, 100).await;
            expect_numbers(&mut listener, 1, 100).await;
            let stats = listener.stats();
            assert_eq!((stats.gaps, stats.sessions), (0, 1));
        });
    }
}

/// A pooler with one free slot: the first session gets it, and a second one would wait for its end.
fn pool_of_one(server: &Server) -> (PgBouncer, Config) {
    let cluster = &server.cluster;
    let builder = PgBouncer::builder(cluster, PoolMode::Session);
    let pooler = builder.setting("default_pool_size", "1").start();
    let pooler = pooler.unwrap_or_else(|error| panic!("{error}"));
    let url = pooler.url(cluster.superuser(), cluster.superuser_password(), "postgres");
    (pooler, url.parse().unwrap())
}

#[test]
fn a_pool_without_a_second_free_slot_is_not_reported_as_one_without_notifications() {
    let server = Server::start();
    let (_pooler, config) = pool_of_one(&server);
    run(async {
        let begin = Instant::now();
        let error = Listener::builder(&config).channels(["a"]).connect().await.unwrap_err();
        assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
        assert_eq!(error.kind(), ErrorKind::Pooler, "{error}");
        assert!(error.is_transient(), "{error}");
        let text = format!("{error:#}");
        assert!(text.contains("no second session could be opened within 3"), "{text}");
        assert!(
            text.contains("no free slot") && !text.contains("no notification arrives"),
            "{text}"
        );
        assert!(text.contains("delivery_proof"), "{text}");
        assert!(text.contains("give the pool one more connection"), "{text}");

        let mut inline = Connection::connect(&config).await.unwrap();
        let begin = Instant::now();
        let error = inline.listen("a").await.unwrap_err();
        assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
        assert!(format!("{error:#}").contains("no free slot"), "{error}");
        // The connection can be used for everything else, and the session listens to no channel.
        let rows = inline.simple_query("SELECT pg_listening_channels()").await.unwrap();
        assert!(rows[0].is_empty());
    });
}

#[test]
fn a_pool_without_a_second_free_slot_can_be_used_with_heartbeat_as_the_delivery_proof() {
    let server = Server::start();
    for proof in [DeliveryProof::Heartbeat, DeliveryProof::Skip] {
        let (_pooler, config) = pool_of_one(&server);
        let config = config.delivery_proof(proof);
        run(async {
            let heartbeat = (Duration::from_millis(50), Duration::from_secs(10));
            let builder = Listener::builder(&config).channels(["a"]);
            let mut listener = builder.heartbeat(heartbeat.0, heartbeat.1).connect().await.unwrap();
            let mut direct = server.connection().await;
            // The private channel is invisible, and `unlisten_all` does not end it.
            listener.unlisten_all().await.unwrap();
            listener.listen("b").await.unwrap();
            let before = listener.stats().heartbeats;
            until("more heartbeats", || listener.stats().heartbeats > before + 3).await;
            send_numbers(&mut direct, "b", 1, 100).await;
            expect_numbers(&mut listener, 1, 100).await;
            let stats = listener.stats();
            assert_eq!((stats.received, stats.gaps, stats.sessions), (100, 0, 1), "{proof:?}");
            // A drain ends after everything that was committed before.
            send_numbers(&mut direct, "b", 101, 200).await;
            listener.handle().drain(Duration::from_secs(30)).await.unwrap();
            expect_numbers(&mut listener, 101, 200).await;
            listener.close().await;

            let mut inline = Connection::connect(&config).await.unwrap();
            inline.listen("a").await.unwrap();
            send_numbers(&mut direct, "a", 1, 10).await;
            assert_eq!(receive(&mut inline, 10).await.len(), 10);
        });
    }
}

/// With a second session the delivery proof is made, so a pool without sessions is refused, whatever the heartbeat setting is.
#[test]
fn a_pooler_without_sessions_is_refused_with_heartbeat_as_the_delivery_proof_too() {
    let server = Server::start();
    let (_pooler, url) = pooler(&server, PoolMode::Transaction);
    let config: Config = url.parse().unwrap();
    let config = config.delivery_proof(DeliveryProof::Heartbeat);
    run(async {
        let begin = Instant::now();
        let error = Listener::connect(&config).await.unwrap_err();
        assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
        assert_eq!(error.kind(), ErrorKind::Pooler, "{error}");
        assert!(format!("{error:#}").contains("no notification arrives"), "{error}");
        assert!(!error.is_transient(), "{error}");
        let mut inline = Connection::connect(&config).await.unwrap();
        let error = inline.listen("a").await.unwrap_err();
        assert!(format!("{error:#}").contains("no notification arrives"), "{error}");
    });
}

/// If a self-notification does not arrive, the session is replaced. Here the test ends the LISTEN of the server session.
#[test]
fn a_self_notification_that_does_not_arrive_ends_the_session_with_the_cause() {
    let server = Server::start();
    let config: Config = server.url().parse().unwrap();
    let config = config.delivery_proof(DeliveryProof::Heartbeat);
    run(async {
        let builder = Listener::builder(&config).channels(["a"]);
        let every = Duration::from_millis(50);
        let mut listener =
            builder.heartbeat(every, Duration::from_secs(1)).connect().await.unwrap();
        until("a heartbeat", || listener.stats().heartbeats > 2).await;
        listener.handle().simple_query("UNLISTEN *").await.unwrap();
        let Event::Gap(gap) = listener.recv().await.unwrap() else { panic!("no gap") };
        assert_eq!(gap.cause().kind(), ErrorKind::Pooler, "{gap}");
        assert!(format!("{:#}", gap.cause()).contains("did not come back within 1s"), "{gap}");
        let mut direct = server.connection().await;
        send_numbers(&mut direct, "a", 1, 10).await;
        expect_numbers(&mut listener, 1, 10).await;
        // The next session has its own self-notification.
        let before = listener.stats().heartbeats;
        until("more heartbeats", || listener.stats().heartbeats > before + 3).await;
        assert_eq!(listener.stats().gaps, 1);
        // It also continues after a handover.
        listener.handle().rotate().await.unwrap();
        until("the handover", || listener.stats().handovers == 1).await;
        let before = listener.stats().heartbeats;
        until("more heartbeats", || listener.stats().heartbeats > before + 3).await;
        send_numbers(&mut direct, "a", 11, 20).await;
        expect_numbers(&mut listener, 11, 20).await;
        assert_eq!((listener.stats().gaps, listener.stats().received), (1, 20));
    });
}
