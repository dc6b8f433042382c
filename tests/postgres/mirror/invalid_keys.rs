//! Payloads and arguments that the type of the key column does not have.

use pgbell::ErrorKind;
use pgbell::durable::MirrorSource;

use super::support::{NEVER, Shop, status, until_is};
use crate::support::{Server, poll_once, run, until};

/// The keys of their read waited for the load, for up to a second.
#[test]
fn an_invalid_payload_does_not_delay_the_other_keys_of_its_read() {
    let server = Server::start();
    run(async {
        let mut shop = Shop::new(server).await;
        // What is read is read by its key.
        let mirror = shop.orders().load_pause(NEVER, NEVER).load(status).await.unwrap();
        for (round, invalid) in [(1, 1), (2, 1), (3, 20)] {
            let new = format!("packed {round}");
            let payloads: String =
                (0..invalid).map(|n| format!("NOTIFY orders, 'no key {n}';")).collect();
            let before = mirror.stats().invalid_keys;
            shop.sql(&format!(
                "BEGIN; UPDATE orders SET status = '{new}'; NOTIFY orders, '1'; {payloads} NOTIFY orders, '2'; COMMIT"
            ))
            .await;
            until_is(&mirror, "1", Some(new.clone())).await;
            until_is(&mirror, "2", Some(new)).await;
            until("each is counted", || mirror.stats().invalid_keys == before + invalid).await;
        }
        assert_eq!((mirror.stats().loads, mirror.stats().failures), (1, 0));
        let error = mirror.last_error().unwrap();
        assert_eq!(error.sqlstate(), Some("22P02"), "{error}");
        // All rows are to be read: what such a payload is for is not known.
        assert!(mirror.status().stale_since.is_some());
        // A call that asks for such a key has its answer after that load. One that does not has it at once, although the load waits.
        shop.sql("UPDATE orders SET status = 'lost'").await;
        let mut waiting = Box::pin(mirror.refresh(["no key", "3"]));
        assert!(poll_once(waiting.as_mut()).await.is_none());
        mirror.refresh(["3"]).await.unwrap();
        assert_eq!(mirror.get("3").unwrap().as_str(), "lost");
        assert!(poll_once(waiting.as_mut()).await.is_none());
        mirror.reload().await.unwrap();
        waiting.await.unwrap();
        mirror.close().await;
    });
}

/// More than a read looks for: the load that follows reads the rows of the other keys.
#[test]
fn many_invalid_payloads_at_once_lose_no_key() {
    let server = Server::start();
    run(async {
        let mut shop = Shop::new(server).await;
        let mirror = shop.mirror().await;
        let payloads: String = (0..200).map(|n| format!("NOTIFY orders, '{n}x';")).collect();
        shop.sql(&format!(
            "BEGIN; UPDATE orders SET status = 'paid'; {payloads} NOTIFY orders, '1'; NOTIFY orders, '2'; COMMIT"
        ))
        .await;
        until_is(&mirror, "1", Some("paid".to_owned())).await;
        until_is(&mirror, "2", Some("paid".to_owned())).await;
        mirror.close().await;
    });
}

/// The key is valid, and an expression of the source has no value for its row: the same class of errors.
#[test]
fn an_error_of_a_row_is_not_taken_for_an_invalid_key() {
    let server = Server::start();
    run(async {
        let mut shop = Shop::new(server).await;
        shop.sql("CREATE TABLE boxes (id int PRIMARY KEY, n int); INSERT INTO boxes VALUES (1, 1), (2, 2)").await;
        let source = MirrorSource::query("SELECT id, 10 / n AS status FROM boxes", "id");
        let mirror = shop.builder(source).load(status).await.unwrap();
        shop.sql("UPDATE boxes SET n = 0 WHERE id = 2").await;
        let error = mirror.refresh(["1", "2"]).await.unwrap_err();
        assert_eq!((error.kind(), error.sqlstate()), (ErrorKind::Server, Some("22012")), "{error}");
        assert_eq!(mirror.stats().invalid_keys, 0);
        assert!(mirror.stats().failures > 0);
        shop.sql("UPDATE boxes SET n = 5 WHERE id = 2").await;
        until_is(&mirror, "2", Some("2".to_owned())).await;
        mirror.close().await;
    });
}

/// The comparison has the type of the domain's values, so it does not refuse what the domain refuses.
#[test]
fn a_payload_that_a_domain_refuses_is_an_invalid_key_and_causes_no_load() {
    let server = Server::start();
    run(async {
        let mut shop = Shop::new(server).await;
        shop.sql("CREATE DOMAIN positive AS int CHECK (value > 0)").await;
        shop.sql("CREATE TABLE stock (id positive PRIMARY KEY, status text); INSERT INTO stock VALUES (1, 'new')").await;
        let source = MirrorSource::table("stock", "id");
        let mirror = shop.builder(source).load(status).await.unwrap();
        let keys = "SELECT pg_notify('orders', (-n)::text) FROM generate_series(0, 9) AS n";
        shop.sql(&format!(
            "BEGIN; UPDATE stock SET status = 'paid'; NOTIFY orders, '1'; {keys}; COMMIT"
        ))
        .await;
        until("the key is refreshed", || mirror.get("1").is_some_and(|one| *one == "paid")).await;
        until("each is counted", || mirror.stats().invalid_keys == 10).await;
        assert_eq!(mirror.stats().loads, 1);
        mirror.close().await;
    });
}
