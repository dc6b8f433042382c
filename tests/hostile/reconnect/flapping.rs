//! Servers that let a listener in, let it go live, and end it at once, again and again.

use std::time::Duration;

use pgbell::{Event, Listener, Overflow, State};

use super::host::{Host, close, gap, payload, soon, timeless};
use super::peer::{Peer, note};

const MIN: Duration = Duration::from_millis(10);
const MAX: Duration = Duration::from_millis(100);

/// Ends so many sessions as soon as they are live, behind these notifications; then none.
async fn flapping(sessions: u32, notifications: &'static [&'static str]) -> Host {
    Host::start(move |number, mut peer| async move {
        if number > sessions {
            return peer.behave().await;
        }
        peer.listening().await;
        // Until it is live.
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

/// Everything that is there, by count: notifications, gaps and the sessions that they name, lagged.
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
fn a_server_that_flaps_is_come_back_to_at_the_pace_of_the_backoff_and_each_loss_is_counted() {
    timeless().block_on(async {
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
        // No session was stable: after the first few the delay is anything up to the longest, half of it on average.
        // Where it was short again each time it would be 15 ms.
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

/// What nobody reads is merged: nothing was delivered between the losses.
#[test]
fn ten_thousand_flaps_that_nobody_reads_are_one_gap_that_counts_them() {
    timeless().block_on(async {
        let host = flapping(10_000, &[]).await;
        let mut listener = host.builder().backoff(MIN, MAX).connect().await.unwrap();
        until_stable(&host, &listener, 10_000).await;
        assert_eq!(drain(&mut listener), (0, 1, 10_000, 0));
        assert_eq!(listener.stats().sessions_lost, 10_000);
        close(listener).await;
        host.ends().await;
    });
}

/// A gap has its place between notifications, dropped ones too. There are 64 such places, however small the queue is.
#[test]
fn flaps_with_notifications_between_that_nobody_reads_take_what_the_queue_may_hold() {
    let capacity = 16;
    for overflow in [
        Overflow::DropNewest,
        Overflow::DropOldest,
        Overflow::Block { max_stall: Duration::from_millis(1) },
    ] {
        timeless().block_on(async {
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

/// Every attempt comes as far as the answer to LISTEN and no further: nothing is told before it is over, and
/// what waits to be told is bounded.
#[test]
fn sessions_that_are_lost_before_they_are_live_are_told_when_one_is() {
    timeless().block_on(async {
        let host = Host::start(|number, mut peer: Peer| async move {
            match number {
                1 => peer.listening().await,
                2..=1_000 => {
                    peer.ready().await;
                    peer.subscribes().await;
                    // In front of the answer that never comes: each loss has a place of its own.
                    peer.send(note("x")).await;
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                _ => peer.behave().await,
            }
        })
        .await;
        let mut listener = host.builder().backoff(MIN, MAX).connect().await.unwrap();
        soon("a loss", listener.handle().wait_state(State::Reconnecting)).await.unwrap();
        for _ in 0..100 {
            tokio::time::sleep(MAX).await;
            assert!(listener.try_recv().unwrap().is_none(), "told before it is over");
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
fn a_listener_is_closed_in_time_whenever_that_is_while_its_server_flaps() {
    for moment in 0..60 {
        timeless().block_on(async {
            let host = flapping(u32::MAX, &["x"]).await;
            let listener = host.builder().backoff(MIN, MAX).connect().await.unwrap();
            tokio::time::sleep(Duration::from_millis(moment * 7)).await;
            close(listener).await;
            host.ends().await;
        });
    }
}
