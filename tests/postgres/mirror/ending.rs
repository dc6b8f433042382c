//! The end of a mirror.

use pgbell::ErrorKind;
use pgbell_testkit::Mode;

use super::support::{Shop, content};
use crate::support::{Server, run, until_sql};

const NO_SESSIONS: &str = "SELECT count(*) = 0 FROM pg_stat_activity \
    WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";

#[test]
fn a_close_ends_the_sessions_and_the_content_stays() {
    let server = Server::start();
    run(async {
        let mut shop = Shop::new(server).await;
        let mirror = shop.mirror().await;
        assert_eq!(shop.sessions().await, 2);
        mirror.close().await;
        until_sql(&mut shop.session, NO_SESSIONS).await;
        assert_eq!(content(&mirror).len(), 3);
        let status = mirror.status();
        assert!(status.is_closed && !status.is_current());
        for error in [mirror.refresh(["1"]).await.unwrap_err(), mirror.reload().await.unwrap_err()]
        {
            assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
        }
        mirror.close().await;
    });
}

#[test]
fn a_mirror_that_is_dropped_leaves_no_session_also_if_its_watch_stays() {
    let server = Server::start();
    run(async {
        let mut shop = Shop::new(server).await;
        let mirror = shop.mirror().await;
        let mut watch = mirror.watch_key("1");
        drop(mirror);
        until_sql(&mut shop.session, NO_SESSIONS).await;
        assert!(watch.changed().await.is_err());
    });
}

/// A statement that runs is given up.
#[test]
fn a_close_does_not_wait_for_a_read() {
    let server = Server::start();
    run(async {
        let mut shop = Shop::new(server).await;
        let mirror = std::sync::Arc::new(shop.mirror().await);
        shop.sql("BEGIN; LOCK TABLE orders").await;
        let reading = tokio::spawn({
            let mirror = mirror.clone();
            async move { mirror.reload().await }
        });
        let mut other = shop.server.connection().await;
        until_sql(&mut other, "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)").await;
        mirror.close().await;
        assert_eq!(reading.await.unwrap().unwrap_err().kind(), ErrorKind::Closed);
        // The server would read Terminate after the statement, so it is cancelled.
        until_sql(&mut other, "SELECT NOT EXISTS (SELECT FROM pg_locks WHERE NOT granted)").await;
        shop.sql("COMMIT").await;
    });
}

/// Its task ends with the runtime, and nothing waits for it for ever.
#[test]
fn a_mirror_whose_runtime_has_ended_is_closed() {
    let server = Server::start();
    let first = tokio::runtime::Runtime::new().unwrap();
    let mirror = first.block_on(async {
        let shop = Shop::new(server).await;
        let mirror = shop.mirror().await;
        shop.server.cluster.stop(Mode::Fast).unwrap();
        mirror
    });
    drop(first);
    run(async {
        assert!(mirror.status().is_closed);
        assert_eq!(mirror.reload().await.unwrap_err().kind(), ErrorKind::Closed);
        assert!(mirror.watch().changed().await.is_err());
        mirror.close().await;
        assert_eq!(mirror.len(), 3);
    });
}
