//! Symptoms that were found by a server that attacks a listener which comes back.

use pgbell::ErrorKind;
use pgbell::testing::Script;

use super::attacks;
use super::host::{Host, close, gap, payload, soon, timeless};
use super::peer::note;

/// What came with the answer to LISTEN was a notification, and then the end: it was connected, and that it lost its
/// session at once is told as any loss is; or at least the reason is told.
#[test]
fn a_session_that_is_lost_in_the_moment_it_is_live_is_no_listener_without_a_reason() {
    timeless().block_on(async {
        let host = Host::start(|number, mut peer| async move {
            if number > 1 {
                return peer.behave().await;
            }
            peer.ready().await;
            peer.subscribes().await;
            let fatal = attacks::diagnostic(b'E', "FATAL", "57P01");
            peer.send([Script::ACK, &note("1"), &fatal].concat()).await;
            peer.leaves().await;
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

/// A `Connection` says so too.
#[test]
fn the_end_in_the_middle_of_a_message_is_called_that() {
    timeless().block_on(async {
        let host = Host::start(|number, mut peer| async move {
            if number > 1 {
                return peer.behave().await;
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
