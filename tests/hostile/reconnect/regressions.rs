//! Regressions that a hostile server found in a listener that reconnects.

use pgbell::ErrorKind;
use pgbell::testing::Script;

use super::attacks;
use super::host::{Host, close, gap, paused_clock, payload, soon};
use super::peer::note;

/// A notification arrives with the answer to LISTEN, and then the end of the stream. The listener was connected, so the loss is
/// reported as a gap, or at least its cause is returned.
#[test]
fn a_session_that_is_lost_as_soon_as_it_is_live_is_reported_with_its_cause() {
    paused_clock().block_on(async {
        let host = Host::start(|number, mut peer| async move {
            if number > 1 {
                return peer.serve_listener().await;
            }
            peer.ready().await;
            peer.read_listen().await;
            let fatal = attacks::diagnostic(b'E', "FATAL", "57P01");
            peer.send([Script::ACK, &note("1"), &fatal].concat()).await;
            peer.wait_for_end().await;
        })
        .await;
        match soon("the first session", host.builder().connect()).await {
            Ok(mut listener) => {
                assert_eq!(payload(&mut listener).await, "1");
                assert_eq!(gap(&mut listener).await.cause().sqlstate(), Some("57P01"));
                close(listener).await;
            }
            Err(error) => assert_eq!(error.sqlstate(), Some("57P01"), "{error}"),
        }
        host.ends().await;
    });
}

/// A `Connection` reports it too.
#[test]
fn the_end_of_the_stream_in_the_middle_of_a_message_is_reported_as_such() {
    paused_clock().block_on(async {
        let host = Host::start(|number, mut peer| async move {
            if number > 1 {
                return peer.serve_listener().await;
            }
            peer.listening().await;
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            peer.send(&note("1")[..8]).await;
        })
        .await;
        let mut listener = host.builder().connect().await.unwrap();
        let gap = gap(&mut listener).await;
        assert_eq!(gap.cause().kind(), ErrorKind::Connect);
        let text = format!("{:#}", gap.cause());
        assert!(text.contains("in the middle of a message"), "{text}");
        close(listener).await;
        host.ends().await;
    });
}
