//! The `on_live` hook, when a server causes gap after gap.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::super::attack::hex;
use super::attacks::diagnostic;
use super::host::{BACKOFF, Host, close, paused_clock};
use super::peer::{Peer, READY};
use crate::queries::FACTS_SQL;

/// Each stray error is a gap, and each gap runs the hook. But a server must not be able to make a client connect as fast as it
/// can.
#[test]
fn a_flood_of_stray_errors_runs_the_hook_no_more_often_than_the_backoff_allows() {
    paused_clock().block_on(async {
        let host = Host::start(|_, mut peer: Peer| async move {
            peer.ready().await;
            let Some(query) = peer.query().await else { return };
            if query == FACTS_SQL || !query.starts_with("LISTEN") {
                return peer.serve().await;
            }
            peer.send(Peer::answer(&query)).await;
            let dropped = [diagnostic(b'E', "ERROR", "XX000"), hex(READY)].concat();
            while peer.send(&dropped).await {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
        let runs = Arc::new(AtomicU32::new(0));
        let counter = runs.clone();
        let builder = host.builder().on_live(move |connection, _| {
            counter.fetch_add(1, Ordering::Relaxed);
            async move {
                connection.close().await;
                Ok(())
            }
        });
        let listener = builder.connect().await.unwrap();
        tokio::time::sleep(Duration::from_secs(10)).await;
        let runs = runs.load(Ordering::Relaxed);
        let most = 10_000 / BACKOFF.0.as_millis();
        assert!(u128::from(runs) <= most + 1, "{runs} runs in 10 s");
        close(listener).await;
        host.ends().await;
    });
}
