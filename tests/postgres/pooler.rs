//! Through a real PgBouncer: it works or it says why not, and is never silent.

use std::time::{Duration, Instant};

use pgbell::{Connection, ErrorKind, Listener, Notifier};
use pgbell_testkit::{PgBouncer, PoolMode};

use crate::support::{Server, next, number, receive, run, send_numbers, value};

/// A pooler before the server, and the URL to go through it.
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
        assert_eq!(next(&mut listener).await.payload(), b"x");
        let batch = inline.recv_batch().await.unwrap();
        assert_eq!(batch.iter().map(|n| n.payload().to_vec()).collect::<Vec<_>>(), [b"x"]);
        // The proof left nothing behind.
        let rows = inline.simple_query("SELECT pg_listening_channels()").await.unwrap();
        assert_eq!(
            rows[0].iter().map(|row| row.get(0).unwrap().to_owned()).collect::<Vec<_>>(),
            ["a"]
        );
    });
}

/// It takes LISTEN without an error there, and nothing would ever arrive.
#[test]
fn through_a_pooler_that_keeps_no_sessions_listening_is_refused_with_the_cause() {
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

            // A connection may have other uses; where it listens, it is refused.
            let mut connection = Connection::connect(&url).await.unwrap();
            connection.simple_query("SELECT 1").await.unwrap();
            let error = connection.listen("a").await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Pooler, "{error}");

            // Sending needs no session.
            let mut direct = server.listener(&["a"]).await;
            let notifier = Notifier::connect(&url).await.unwrap();
            notifier.notify("a", "x").await.unwrap();
            assert_eq!(next(&mut direct).await.payload(), b"x");
        });
    }
}

/// What arrives while delivery is proven belongs to the user: LISTEN may have been sent in a query.
#[test]
fn a_notification_that_arrives_while_listen_proves_delivery_is_kept() {
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
            assert_eq!((n.sequence(), number(n.payload())), (index, index + 1));
            assert_eq!(n.channel(), if index < 100 { "a" } else { "b" });
        }
    });
}

/// A SET would stay with a server process that serves another client next.
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
        assert_eq!(next(&mut direct).await.payload(), b"x");
        let mut other = Connection::connect(&url).await.unwrap();
        assert_eq!(value(&mut other, "SHOW idle_session_timeout").await, "1h");
        notifier.notify_many([("a", "y"), ("a", "z")]).await.unwrap();
        assert_eq!(next(&mut direct).await.payload(), b"y");
        assert_eq!(value(&mut other, "SHOW idle_session_timeout").await, "1h");
    });
}
