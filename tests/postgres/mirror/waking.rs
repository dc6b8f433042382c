//! What wakes a mirror beside its own listening session.

use std::time::Duration;

use pgbell::durable::{Mirror, MirrorSource};
use pgbell::{ErrorKind, Listen, Notifier, WakeTask, Wakeups};

use super::support::{NEVER, Shop, status, until_is};
use crate::support::{Server, run, until};

/// Without a listening session: a nudge of the same process.
#[test]
fn g6_a_nudge_names_the_row_that_is_read() {
    let server = Server::start();
    run(async {
        let mut shop = Shop::new(server).await;
        let mirror = shop.orders().listen(Listen::Disabled).load(status).await.unwrap();
        let notifier = Notifier::connect(shop.server.url()).await.unwrap();
        mirror.attach(&notifier);
        // An attachment reads all rows once.
        until("all rows are read", || mirror.stats().loads == 2).await;
        shop.sql("UPDATE orders SET status = 'paid'").await;
        notifier.nudge("orders", "2");
        until_is(&mirror, "2", Some("paid".to_owned())).await;
        assert_eq!(mirror.get("1").unwrap().as_str(), "new");
        mirror.close().await;
    });
}

/// A cache that asks for each row that it does not have. An earlier version read nothing else meanwhile.
#[test]
fn notifications_are_not_starved_by_calls_that_follow_each_other_without_a_pause() {
    let server = Server::start();
    run(async {
        let mut shop = Shop::new(server).await;
        let mirror = std::sync::Arc::new(shop.mirror().await);
        let callers: Vec<_> = (0..2)
            .map(|_| {
                let mirror = mirror.clone();
                tokio::spawn(async move { while mirror.refresh(["3"]).await.is_ok() {} })
            })
            .collect();
        until("the calls run", || mirror.stats().refreshes > 10).await;
        shop.change(1, "paid").await;
        until_is(&mirror, "1", Some("paid".to_owned())).await;
        mirror.close().await;
        for caller in callers {
            caller.await.unwrap();
        }
    });
}

#[test]
fn mirrors_share_the_listening_session_of_the_user_and_poll_after_its_end() {
    let server = Server::start();
    run(async {
        let mut shop = Shop::new(server).await;
        let task = |name: &str| WakeTask::new(name).channel("orders").interval(NEVER);
        let wakeups = Wakeups::builder(shop.server.url())
            .task(task("one"))
            .task(task("two"))
            .connect()
            .await
            .unwrap();
        let mut mirrors = Vec::new();
        for name in ["one", "two"] {
            let source = MirrorSource::table("orders", "id");
            let builder =
                Mirror::builder(shop.server.url(), source).woken_by(wakeups.worker(name).unwrap());
            mirrors.push(builder.interval(Duration::from_millis(200)).load(status).await.unwrap());
        }
        assert_eq!(shop.sessions().await, 3);
        assert!(mirrors[0].status().wakeups.is_none() && mirrors[0].status().is_current());
        shop.change(1, "paid").await;
        for mirror in &mirrors {
            until_is(mirror, "1", Some("paid".to_owned())).await;
            assert_eq!(mirror.stats().loads, 1);
        }
        wakeups.close().await;
        for status in ["shipped", "lost"] {
            shop.sql(&format!("UPDATE orders SET status = '{status}'")).await;
            for mirror in &mirrors {
                until_is(mirror, "2", Some(status.to_owned())).await;
            }
        }
    });
}

#[test]
fn settings_that_contradict_each_other_are_refused() {
    let server = Server::start();
    run(async {
        let shop = Shop::new(server).await;
        let wakeups = Wakeups::builder(shop.server.url())
            .task(WakeTask::new("one").channel("a"))
            .await
            .unwrap();
        let url = shop.server.url();
        let builder = || Mirror::builder(url.as_str(), MirrorSource::table("orders", "id"));
        for builder in [
            builder().channel("orders").woken_by(wakeups.worker("one").unwrap()),
            builder().listen(Listen::Disabled).woken_by(wakeups.worker("one").unwrap()),
            builder().listen(Listen::Enabled),
            builder().max_rows(0),
            builder().interval(Duration::ZERO),
            builder().statement_timeout(Duration::ZERO),
            builder().backoff(Duration::from_secs(2), Duration::from_secs(1)),
            builder().load_pause(Duration::from_secs(2), Duration::from_secs(1)),
            Mirror::builder("host=", MirrorSource::table("", "id")),
        ] {
            let text = format!("{builder:?}");
            let error = builder.load(status).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{text}: {error}");
        }
    });
}
