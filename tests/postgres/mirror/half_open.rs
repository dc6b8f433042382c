//! Reads whose session is dead, without a sign of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pgbell::durable::{Mirror, MirrorSource};
use pgbell::{WakeTask, Wakeups};
use pgbell_testkit::{Direction, Flow, Proxy};

use super::support::{NEVER, Shop, status, until_is};
use crate::support::{Server, run, until, until_sql};

/// The time from the new listening session to the right content. It was the statement timeout, 60 s by default.
const RIGHT_AGAIN: Duration = Duration::from_secs(5);

/// What the server sends is lost, and neither side notices it.
#[test]
fn a_mirror_whose_read_is_half_open_is_right_as_soon_as_the_listening_session_is_there_again() {
    let server = Server::start();
    let proxy = Proxy::start(server.cluster.port()).unwrap();
    run(async {
        let mut shop = Shop::new(server).await;
        let cluster = &shop.server.cluster;
        let url = proxy.url(cluster.superuser(), cluster.superuser_password(), "postgres");
        let wakeups = Wakeups::builder(url.as_str())
            .task(WakeTask::new("orders").channel("orders").interval(NEVER))
            .heartbeat(Duration::from_millis(300), Duration::from_millis(500))
            .backoff(Duration::from_millis(10), Duration::from_millis(100))
            .connect()
            .await
            .unwrap();
        let mirror = Mirror::builder(url.as_str(), MirrorSource::table("orders", "id"))
            .woken_by(wakeups.worker("orders").unwrap())
            // No test waits for it.
            .statement_timeout(NEVER)
            .load(status)
            .await
            .unwrap();
        let mirror = Arc::new(mirror);
        for (round, is_load) in [false, true].into_iter().enumerate() {
            let lost = wakeups.stats().connection.sessions_lost;
            proxy.handle().set(Direction::ToClient, Flow::Swallow);
            let swallowed = proxy.handle().swallowed(Direction::ToClient);
            let reading = tokio::spawn({
                let mirror = mirror.clone();
                async move {
                    match is_load {
                        true => mirror.reload().await,
                        false => mirror.refresh(["1"]).await,
                    }
                }
            });
            until("the answer is lost", || {
                proxy.handle().swallowed(Direction::ToClient) > swallowed
            })
            .await;
            let new = format!("packed {round}");
            shop.sql(&format!("UPDATE orders SET status = '{new}' WHERE id = 2")).await;
            until("the loss is noticed", || wakeups.stats().connection.sessions_lost > lost).await;
            proxy.handle().set_both(Flow::Forward);
            until("it listens again", || wakeups.status().is_listening()).await;
            let begun = Instant::now();
            until_is(&mirror, "2", Some(new)).await;
            let took = begun.elapsed();
            assert!(took < RIGHT_AGAIN, "{took:?}: {mirror:?}");
            // The call has its answer from the load that follows.
            reading.await.unwrap().unwrap();
        }
        let stats = mirror.stats();
        assert_eq!((stats.given_up, stats.failures), (2, 0));
        mirror.close().await;
    });
}

/// A notification is no loss: the read that runs is completed.
#[test]
fn a_notification_does_not_give_a_read_up() {
    let server = Server::start();
    run(async {
        let mut shop = Shop::new(server).await;
        let wakeups = Wakeups::builder(shop.server.url())
            .task(WakeTask::new("orders").channel("orders").interval(NEVER));
        let wakeups = wakeups.connect().await.unwrap();
        let worker = wakeups.worker("orders").unwrap();
        let locked = "SELECT id, status, pg_advisory_xact_lock_shared(7) FROM orders";
        let builder = Mirror::builder(shop.server.url(), MirrorSource::query(locked, "id"));
        let mirror = Arc::new(builder.woken_by(worker.clone()).load(status).await.unwrap());
        shop.sql("SELECT pg_advisory_lock(7)").await;
        let reading = tokio::spawn({
            let mirror = mirror.clone();
            async move { mirror.refresh(["3"]).await }
        });
        let mut other = shop.server.connection().await;
        until_sql(&mut other, "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)").await;
        shop.change(1, "paid").await;
        shop.sql("NOTIFY orders").await;
        until("both have arrived during the read", || worker.stats().notifications == 2).await;
        shop.sql("SELECT pg_advisory_unlock(7)").await;
        reading.await.unwrap().unwrap();
        until_is(&mirror, "1", Some("paid".to_owned())).await;
        assert_eq!((mirror.stats().given_up, mirror.stats().failures), (0, 0));
        mirror.close().await;
    });
}
