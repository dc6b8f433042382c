//! A primary that fails, and its standby that is promoted.

use std::time::Duration;

use pgbell::Connection;
use pgbell::durable::{Mirror, MirrorSource};
use pgbell_testkit::Mode;

use super::support::{NEVER, Shop, status, until_is};
use crate::failover::conninfo;
use crate::support::{Server, run, until};

/// G6: what the new primary has is in the mirror, also what no notification has named.
#[test]
fn g6_a_mirror_is_right_after_a_failover() {
    let server = Server::start();
    run(async {
        let mut shop = Shop::new(server).await;
        let cluster = &shop.server.cluster;
        let standby = cluster.standby().unwrap_or_else(|error| panic!("{error}"));
        standby.wait_caught_up(cluster).unwrap();
        // A server that gets its first standby is started again.
        shop.session = shop.server.connection().await;
        let cluster = &shop.server.cluster;
        let both = conninfo([cluster, &standby], "");
        let mirror = Mirror::builder(both.as_str(), MirrorSource::table("orders", "id"))
            .channel("orders")
            .interval(NEVER)
            .backoff(Duration::from_millis(10), Duration::from_millis(200))
            .load(status)
            .await
            .unwrap();
        let mut first = mirror.watch_key("1");
        shop.sql(
            "UPDATE orders SET status = 'shipped' WHERE id = 1; DELETE FROM orders WHERE id = 3",
        )
        .await;
        standby.wait_caught_up(&shop.server.cluster).unwrap();
        shop.server.cluster.stop(Mode::Immediate).unwrap();
        until("the loss is seen", || !mirror.status().is_current()).await;
        // The content stays.
        assert_eq!(mirror.len(), 3);
        standby.promote().unwrap();
        until_is(&mirror, "1", Some("shipped".to_owned())).await;
        assert_eq!(first.changed().await.unwrap().unwrap().as_str(), "shipped");
        until_is(&mirror, "3", None).await;
        until("it is current", || mirror.status().is_current()).await;
        let mut writer = Connection::connect(standby.url_for_superuser()).await.unwrap();
        writer
            .simple_query(
                "BEGIN; UPDATE orders SET status = 'paid' WHERE id = 2; NOTIFY orders, '2'; COMMIT",
            )
            .await
            .unwrap();
        until_is(&mirror, "2", Some("paid".to_owned())).await;
        mirror.close().await;
    });
}
