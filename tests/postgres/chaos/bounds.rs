//! A consumer that never reads harms nobody else.

use pgbell::{Listener, Overflow};

use crate::support::{Server, next, run_for, until, value};

/// S1. How many of 8 kB: 50,000, or as many as the environment says.
fn messages() -> u64 {
    std::env::var("PGBELL_BIG_MESSAGES")
        .map_or(50_000, |n| n.parse().expect("PGBELL_BIG_MESSAGES: a number"))
}

#[test]
fn s1_a_consumer_that_never_polls_leaves_the_servers_queue_empty_and_others_unaffected() {
    let server = Server::start();
    run_for(std::time::Duration::from_secs(600), async {
        let sleeper = Listener::builder(server.url()).channels(["a"]);
        let sleeper = sleeper.overflow(Overflow::DropOldest).connect().await.unwrap();
        let mut other = server.listener(&["a", "b"]).await;
        let mut writer = server.connection().await;
        let sql =
            "SELECT count(pg_notify('a', repeat('x', 7990) || i)) FROM generate_series(1, 1000) i";
        let mut received = 0;
        for _ in 0..messages() / 1000 {
            writer.simple_query(sql).await.unwrap();
            for _ in 0..1000 {
                next(&mut other).await;
                received += 1;
            }
        }
        assert_eq!(received, messages());
        until("the sleeper's socket is drained", || sleeper.stats().received == messages()).await;
        let stats = sleeper.stats();
        assert!(stats.queued_bytes <= 8 * 1024 * 1024, "{stats:?}");
        assert_eq!(stats.sessions, 1);
        // Both ways to ask.
        crate::support::until_sql(&mut writer, "SELECT pg_notification_queue_usage() = 0").await;
        let usage = sleeper.handle().notification_queue_usage().await.unwrap();
        assert_eq!(
            usage.to_string(),
            value(&mut writer, "SELECT pg_notification_queue_usage()").await
        );
        writer.notify("b", "unaffected").await.unwrap();
        assert_eq!(next(&mut other).await.payload(), b"unaffected");
    });
}
