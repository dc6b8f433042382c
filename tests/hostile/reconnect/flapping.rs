//! Servers that log a listener in, let its session become live, and end it at once, again and again.

use std::time::Duration;

use pgbell::{Event, Listener, Overflow, State};

use super::host::{Host, close, gap, paused_clock, payload, soon};
use super::peer::{Peer, note};

const MIN: Duration = Duration::from_millis(10);
const MAX: Duration = Duration::from_millis(100);

/// Ends this many sessions as soon as they are live, behind these notifications; then none.
async fn flapping(sessions: u32, notifications: &'static [&'static str]) -> Host {
    Host::start(move |number, mut peer| async move {
        if number > sessions {
            return peer.serve_listener().await;
        }
        peer.listening().await;
        // Until the session is live.
        tokio::time::sleep(Duration::from_millis(1)).await;
        for payload in notifications {
            peer.send(note(payload)).await;
        }
    })
    .await
}

async fn until_stable(host: &Host, listener: &Listener, sessions: u32) {
    soon("the last session", async {
        while host.accepted().len() <= sessions as usize || listener.state() != State::Connected {
            tokio::time::sleep(MIN).await;
        }
    })
    .await;
}

/// Takes all events, and counts them: notifications, gaps and the outages in them, lagged ones.
fn drain(listener: &mut Listener) -> (usize, usize, u32, u64) {
    let (mut notifications, mut gaps, mut sessions, mut lagged) = (0, 0, 0, 0);
    while let Some(event) = listener.try_recv().unwrap() {
        match event {
            Event::Notification(_) => notifications += 1,
            Event::Gap(gap) => {
                gaps += 1;
                sessions += gap.sessions();
            }
            Event::Lagged(some) => lagged += some.count(),
            other => panic!("{other:?}"),
        }
    }
    (notifications, gaps, sessions, lagged)
}

#[test]
fn a_listener_reconnects_to_a_server_that_flaps_as_slowly_as_the_backoff_and_counts_each_loss() {
    paused_clock().block_on(async {
        let host = flapping(200, &["x"]).await;
        let mut listener = host.builder().backoff(MIN, MAX).connect().await.unwrap();
        for _ in 0..200 {
            assert_eq!(payload(&mut listener).await, "x");
            let gap = gap(&mut listener).await;
            assert_eq!((gap.sessions(), gap.attempts()), (1, 1));
        }
        until_stable(&host, &listener, 200).await;
        let stats = listener.stats();
        assert_eq!((stats.gaps, stats.sessions_lost, stats.attempts), (200, 200, 201));
        let pauses = host.pauses();
        assert!(pauses.iter().all(|pause| (MIN..MAX + MIN).contains(pause)), "{pauses:?}");
        // No session was stable: after the first few the delay is up to the longest one, half of it on average. If the backoff
        // began again each time, it would be 15 ms.
        let later = &pauses[5..];
        let mean = later.iter().sum::<Duration>() / u32::try_from(later.len()).unwrap();
        assert!((45..70).contains(&mean.as_millis()), "{mean:?}");
        let accepted = host.accepted();
        let most = accepted.iter().map(|from| {
            let within = |at: &&tokio::time::Instant| **at >= *from && **at - *from < MAX * 10;
            accepted.iter().filter(within).count()
        });
        assert!(most.max().unwrap() <= 45, "{pauses:?} in a second");
        close(listener).await;
        host.ends().await;
    });
}

/// Unread gaps are merged if no notification was delivered between the losses.
#[test]
fn ten_thousand_unread_flaps_are_one_gap_that_counts_them() {
    paused_clock().block_on(async {
        let host = flapping(10_000, &[]).await;
        let mut listener = host.builder().backoff(MIN, MAX).connect().await.unwrap();
        until_stable(&host, &listener, 10_000).await;
        assert_eq!(drain(&mut listener), (0, 1, 10_000, 0));
        assert_eq!(listener.stats().sessions_lost, 10_000);
        close(listener).await;
        host.ends().await;
    });
}

/// A gap has its position between notifications, dropped ones too. There are 64 such positions, however small the queue is.
#[test]
fn unread_flaps_with_notifications_between_take_no_more_than_the_queue_limit() {
    let capacity = 16;
    for overflow in [
        Overflow::DropNewest,
        Overflow::DropOldest,
        Overflow::Block { max_stall: Duration::from_millis(1) },
    ] {
        paused_clock().block_on(async {
            let host = flapping(1_500, &["x", "y"]).await;
            let builder = host.builder().backoff(MIN, MAX).queue_capacity(capacity);
            let mut listener = builder.overflow(overflow).connect().await.unwrap();
            until_stable(&host, &listener, 1_500).await;
            let stats = listener.stats();
            let (notifications, gaps, sessions, lagged) = drain(&mut listener);
            assert!(notifications <= capacity, "{overflow:?}: {notifications}");
            assert!(gaps <= 64, "{overflow:?}: {gaps} gaps");
            assert_eq!((sessions, stats.sessions_lost), (1_500, 1_500), "{overflow:?}");
            assert_eq!(notifications as u64 + lagged, stats.received, "{overflow:?}");
            assert_eq!(stats.received, 3_000, "{overflow:?}");
            close(listener).await;
            host.ends().await;
        });
    }
}

/// Every attempt gets as far as the answer to LISTEN: a gap is delivered only when its outage is over, and the number of
/// outages that wait is bounded.
#[test]
fn sessions_that_are_lost_before_they_are_live_are_reported_when_the_next_one_is_live() {
    paused_clock().block_on(async {
        let host = Host::start(|number, mut peer: Peer| async move {
            match number {
                1 => peer.listening().await,
                2..=1_000 => {
                    peer.ready().await;
                    peer.read_listen().await;
                    // Before the answer that never comes: each loss has a position of its own.
                    peer.send(note("x")).await;
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                _ => peer.serve_listener().await,
            }
        })
        .await;
        let mut listener = host.builder().backoff(MIN, MAX).connect().await.unwrap();
        soon("a loss", listener.handle().wait_state(State::Reconnecting)).await.unwrap();
        for _ in 0..100 {
            tokio::time::sleep(MAX).await;
            assert!(listener.try_recv().unwrap().is_none(), "a gap before its outage is over");
        }
        until_stable(&host, &listener, 1_000).await;
        let (notifications, gaps, sessions, lagged) = drain(&mut listener);
        assert_eq!((notifications, sessions, lagged), (999, 1_000, 0));
        assert!((2..=64).contains(&gaps), "{gaps}");
        close(listener).await;
        host.ends().await;
    });
}

#[test]
fn a_listener_is_closed_in_time_at_every_moment_while_its_server_flaps() {
    for moment in 0..60 {
        paused_clock().block_on(async {
            let host = flapping(u32::MAX, &["x"]).await;
            let listener = host.builder().backoff(MIN, MAX).connect().await.unwrap();
            tokio::time::sleep(Duration::from_millis(moment * 7)).await;
            close(listener).await;
            host.ends().await;
        });
    }
}
