//! The pause between loads.

use std::time::{Duration, Instant};

use super::support::{NEVER, Shop, status, until_is};
use crate::support::{Server, run};

/// Each notification without a payload asks for all rows. An earlier version began a load as soon as the last one had ended.
#[test]
fn a_flood_of_notifications_without_a_payload_does_not_load_without_a_pause() {
    let server = Server::start();
    run(async {
        let mut shop = Shop::new(server).await;
        let pause = Duration::from_millis(250);
        let mirror = shop.orders().load_pause(pause, pause).load(status).await.unwrap();
        let begun = Instant::now();
        let mut sent = 0;
        while begun.elapsed() < 8 * pause {
            shop.sql("NOTIFY orders").await;
            sent += 1;
        }
        let (loads, time) = (mirror.stats().loads, begun.elapsed());
        assert!(sent > 100, "{sent}");
        // The first load, and one after each pause.
        let most = 2 + time.as_millis() / pause.as_millis();
        assert!((3..=most).contains(&loads.into()), "{loads} loads in {time:?}, expected {most}");
        // The last one is not forgotten.
        shop.sql("BEGIN; UPDATE orders SET status = 'paid'; NOTIFY orders; COMMIT").await;
        until_is(&mirror, "2", Some("paid".to_owned())).await;
        mirror.close().await;
    });
}

#[test]
fn keys_calls_and_losses_do_not_wait_for_the_pause() {
    let server = Server::start();
    run(async {
        let mut shop = Shop::new(server).await;
        let mirror = shop.orders().load_pause(NEVER, NEVER).load(status).await.unwrap();
        // It waits.
        shop.sql("BEGIN; UPDATE orders SET status = 'lost' WHERE id = 3; NOTIFY orders; COMMIT")
            .await;
        shop.change(1, "paid").await;
        until_is(&mirror, "1", Some("paid".to_owned())).await;
        assert_eq!((mirror.stats().loads, mirror.get("3").unwrap().as_str()), (1, "paid"));
        assert!(mirror.status().stale_since.is_some());
        mirror.reload().await.unwrap();
        assert_eq!((mirror.stats().loads, mirror.get("3").unwrap().as_str()), (2, "lost"));
        shop.sql("UPDATE orders SET status = 'found' WHERE id = 3").await;
        shop.kill_all().await;
        until_is(&mirror, "3", Some("found".to_owned())).await;
        mirror.close().await;
    });
}
