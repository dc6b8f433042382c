//! Live sessions whose commands are not answered, not read, or answered without a limit.

use std::time::Duration;

use pgbell::testing::Delivery;
use pgbell::{ErrorKind, Event, Listening, State};
use tokio::time::Instant;

use super::host::{BACKOFF, Host, close, gap, paused_clock, payload, soon};
use super::peer::{Peer, heartbeat_answer, note};
use super::stalling::{COMMAND, MARGIN, drip};

/// The timeout of a heartbeat, whatever else arrives.
const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(300);

/// A live session that sends nothing, something else, or a byte now and then, while a heartbeat is unanswered.
#[test]
fn a_live_session_that_does_not_answer_ends_in_time_whatever_else_it_sends() {
    #[derive(Debug, Clone, Copy)]
    enum Silence {
        Complete,
        HalfOfTheProof,
        DripOfNotices,
        DripOfOneNotification,
        Notifications,
    }
    let (every, deadline) = (Duration::from_secs(5), Duration::from_secs(4));
    for (silence, within) in [
        (Silence::Complete, every + deadline),
        (Silence::HalfOfTheProof, every + deadline),
        (Silence::DripOfNotices, every + HEARTBEAT_TIMEOUT),
        (Silence::DripOfOneNotification, every + HEARTBEAT_TIMEOUT),
        (Silence::Notifications, every + HEARTBEAT_TIMEOUT),
    ] {
        paused_clock().block_on(async {
            let host = Host::start(move |number, mut peer| async move {
                if number > 1 {
                    return peer.serve_listener().await;
                }
                peer.listening().await;
                match silence {
                    Silence::Complete => {}
                    Silence::HalfOfTheProof => {
                        peer.query().await;
                        peer.send(&heartbeat_answer()[..30]).await;
                    }
                    Silence::DripOfNotices => drip(&mut peer).await,
                    Silence::DripOfOneNotification => {
                        let longest = note(&"x".repeat(200_000));
                        for byte in longest {
                            tokio::time::sleep(Duration::from_millis(500)).await;
                            if !peer.send([byte]).await {
                                return;
                            }
                        }
                    }
                    Silence::Notifications => loop {
                        tokio::time::sleep(Duration::from_millis(500)).await;
                        if !peer.send(note("x")).await {
                            return;
                        }
                    },
                }
                peer.wait_for_end().await;
            })
            .await;
            let builder = host.builder().heartbeat(every, deadline);
            let mut listener = builder.connect().await.unwrap();
            let begin = Instant::now();
            let gap = loop {
                match soon("a gap", listener.recv()).await.unwrap() {
                    Event::Notification(_) => {}
                    Event::Gap(gap) => break gap,
                    other => panic!("{other:?}"),
                }
            };
            let took = begin.elapsed();
            assert!(took <= within + BACKOFF.1 + MARGIN, "{silence:?}: {took:?}");
            assert!(took >= within - deadline, "{silence:?}: {took:?}");
            assert_eq!(gap.cause().kind(), ErrorKind::Timeout, "{silence:?}");
            let text = format!("{:#}", gap.cause());
            let expected = if within > HEARTBEAT_TIMEOUT {
                "did not answer within 300s"
            } else {
                "while a command was unanswered"
            };
            assert!(text.contains(expected), "{silence:?}: {text}");
            close(listener).await;
            host.ends().await;
        });
    }
}

/// A slow and valid stream is not a loss.
#[test]
fn slow_answers_before_the_deadline_cause_no_loss() {
    paused_clock().block_on(async {
        let slow = Delivery::ByteEvery(Duration::from_millis(20));
        let host = Host::start(move |_, mut peer| async move {
            peer.listening().await;
            while let Some(query) = peer.query().await {
                for piece in slow.pieces(0, &Peer::answer(&query)) {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    peer.send(piece).await;
                }
            }
        })
        .await;
        let builder = host.builder().heartbeat(Duration::from_secs(5), Duration::from_secs(1));
        let mut listener = builder.connect().await.unwrap();
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert!(listener.try_recv().unwrap().is_none());
        let stats = listener.stats();
        assert!((70..120).contains(&stats.heartbeats), "{}", stats.heartbeats);
        assert_eq!((stats.gaps, host.accepted().len()), (0, 1));
        close(listener).await;
        host.ends().await;
    });
}

/// The buffers of the kernel are full.
#[test]
fn h5_a_session_whose_server_stops_reading_ends_in_time_and_the_wanted_channel_is_kept() {
    paused_clock().block_on(async {
        let host = Host::start(|number, mut peer| async move {
            if number == 1 {
                peer.listening().await;
                return tokio::time::sleep(COMMAND * 3).await;
            }
            peer.ready().await;
            peer.serve().await;
        })
        .await;
        let mut listener = host.builder().connect().await.unwrap();
        let begin = Instant::now();
        let names: Vec<String> = (0..20_000).map(|n| format!("a{n:060}")).collect();
        let listening = soon("an answer", listener.listen_all(names)).await.unwrap();
        assert_eq!(listening, Listening::Pending);
        // A server needs longer for this many channels: 20 ns for each pair of them.
        let most = COMMAND + Duration::from_secs(8) + MARGIN;
        assert!(begin.elapsed() <= most, "{:?}", begin.elapsed());
        // The first group has another text than this host's next session expects.
        soon("a loss", listener.handle().wait_state(State::Reconnecting)).await.unwrap();
        soon("the reconnect", listener.handle().wait_state(State::Connected)).await.unwrap();
        let gap = gap(&mut listener).await;
        assert_eq!((gap.sessions(), gap.refused().len()), (1, 0));
        assert_eq!(gap.cause().kind(), ErrorKind::Timeout, "{}", gap.cause());
        assert_eq!(soon("channels", listener.handle().channels()).await.unwrap().len(), 20_001);
        close(listener).await;
        host.ends().await;
    });
}

/// Reading continues meanwhile: notifications arrive while the client cannot write.
#[test]
fn n5_notifications_arrive_while_a_query_cannot_be_written() {
    paused_clock().block_on(async {
        let host = Host::start(|number, mut peer| async move {
            peer.listening().await;
            if number == 1 {
                for _ in 0..100 {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    peer.send(note("x").repeat(100)).await;
                }
            }
            peer.serve().await;
        })
        .await;
        let mut listener = host.builder().connect().await.unwrap();
        let handle = listener.handle();
        let names: Vec<String> = (0..20_000).map(|n| format!("a{n:060}")).collect();
        let listening = tokio::spawn(async move { handle.listen_all(names).await });
        for _ in 0..10_000 {
            assert_eq!(payload(&mut listener).await, "x");
        }
        // Then the query is read too.
        assert_eq!(soon("an answer", listening).await.unwrap().unwrap(), Listening::Active);
        assert_eq!((listener.stats().gaps, listener.stats().lagged), (0, 0));
        close(listener).await;
        host.ends().await;
    });
}
