//! The watches of a mirror and of its rows.

use tokio::time::timeout;

use super::support::{Shop, changed, until_is};
use crate::support::{Server, TEST_TIMEOUT, poll_once, run};

#[test]
fn several_changes_before_a_call_are_one_and_the_value_is_the_newest() {
    let server = Server::start();
    run(async {
        let mut shop = Shop::new(server).await;
        let mirror = shop.mirror().await;
        let (mut key, mut whole) = (mirror.watch_key("1"), mirror.watch());
        let mut second = mirror.watch_key("1");
        for status in ["paid", "packed", "shipped"] {
            shop.change(1, status).await;
            until_is(&mirror, "1", Some(status.to_owned())).await;
        }
        assert_eq!(changed(&mut key).await.unwrap().as_str(), "shipped");
        assert_eq!(timeout(TEST_TIMEOUT, whole.changed()).await.unwrap().unwrap(), 4);
        // Nothing is left.
        assert!(poll_once(std::pin::pin!(key.changed())).await.is_none());
        assert!(poll_once(std::pin::pin!(whole.changed())).await.is_none());
        // Each watch has seen what it has seen.
        assert_eq!(second.current().unwrap().as_str(), "shipped");
        assert!(poll_once(std::pin::pin!(second.changed())).await.is_none());
        mirror.close().await;
    });
}

#[test]
fn a_watch_of_a_row_does_not_fire_for_other_rows_and_not_for_a_load_without_a_change() {
    let server = Server::start();
    run(async {
        let mut shop = Shop::new(server).await;
        let mirror = shop.mirror().await;
        let (mut first, mut missing) = (mirror.watch_key("1"), mirror.watch_key("9"));
        assert_eq!((first.key(), missing.key()), ("1", "9"));
        shop.sql("UPDATE orders SET status = 'paid' WHERE id = 2").await;
        mirror.reload().await.unwrap();
        mirror.refresh(["1", "9"]).await.unwrap();
        assert_eq!(mirror.version(), 2);
        assert!(poll_once(std::pin::pin!(first.changed())).await.is_none());
        assert!(poll_once(std::pin::pin!(missing.changed())).await.is_none());
        // A load fires for each row that it changes, and for one that vanishes and one that appears.
        shop.sql("UPDATE orders SET id = 9 WHERE id = 1").await;
        mirror.reload().await.unwrap();
        assert!(changed(&mut first).await.is_none());
        assert_eq!(changed(&mut missing).await.unwrap().as_str(), "new");
        mirror.close().await;
    });
}

#[test]
fn watches_end_with_the_mirror_after_the_last_change() {
    let server = Server::start();
    run(async {
        let mut shop = Shop::new(server).await;
        let mirror = shop.mirror().await;
        let (mut key, mut whole) = (mirror.watch_key("1"), mirror.watch());
        let mut waiting = mirror.watch_key("2");
        let waiting = tokio::spawn(async move { waiting.changed().await });
        shop.change(1, "shipped").await;
        until_is(&mirror, "1", Some("shipped".to_owned())).await;
        mirror.close().await;
        let closed = waiting.await.unwrap().unwrap_err();
        assert_eq!(closed.kind(), pgbell::ErrorKind::Closed);
        assert_eq!(key.changed().await.unwrap().unwrap().as_str(), "shipped");
        assert_eq!(whole.changed().await.unwrap(), 2);
        assert_eq!(key.changed().await.unwrap_err().kind(), pgbell::ErrorKind::Closed);
        assert_eq!(whole.changed().await.unwrap_err().kind(), pgbell::ErrorKind::Closed);
        // One that begins later ends too.
        assert!(mirror.watch_key("1").changed().await.is_err());
        assert!(mirror.watch().changed().await.is_err());
    });
}
