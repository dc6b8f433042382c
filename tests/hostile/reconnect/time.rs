//! Years and days of the paused clock: what a listener does when nothing happens, and when no server answers.

use std::time::Duration;

use pgbell::{ErrorKind, Listener};
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::host::{Host, QUIET, close, gap, paused_clock, payload, soon};
use super::peer::{Peer, note};

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(24 * 3_600);

/// The number of times that this thread had no task to run.
fn parks() -> u64 {
    Handle::current().metrics().worker_park_count(0)
}

/// Runs an idle session for this time. One heartbeat is sent at every interval, and nothing else is done.
fn idle(time: Duration, every: Duration) {
    paused_clock().block_on(async {
        let host = Host::start(|_, peer| peer.serve_listener()).await;
        let builder = host.builder().heartbeat(every, Duration::from_secs(8));
        let mut listener = builder.connect().await.unwrap();
        let before = parks();
        let begin = Instant::now();
        // The timer wheel of the runtime holds two years.
        tokio::time::sleep(time).await;
        assert!(begin.elapsed() >= time);
        let (stats, parks) = (listener.stats(), parks() - before);
        // Each interval may be rounded up to a millisecond.
        let most = time.as_millis() / every.as_millis();
        let least = time.as_millis() / (every.as_millis() + 2);
        assert!(
            (least..=most).contains(&stats.heartbeats.into()),
            "{} heartbeats",
            stats.heartbeats
        );
        // Send, receive, answer, read: each takes one or two polls.
        assert!(parks <= stats.heartbeats * 8, "{parks} wakes, {} heartbeats", stats.heartbeats);
        assert_eq!((stats.gaps, stats.sessions, host.accepted().len()), (0, 1, 1));
        assert!(listener.try_recv().unwrap().is_none());
        close(listener).await;
        host.ends().await;
    });
}

#[test]
fn c3_an_idle_year_is_a_heartbeat_at_every_interval_and_nothing_else() {
    idle(DAY * 365, HOUR);
}

#[test]
fn c3_a_day_with_the_default_interval_is_a_heartbeat_every_ten_seconds() {
    idle(DAY, Duration::from_secs(10));
}

/// Without a heartbeat no task is woken at all.
#[test]
fn c3_an_idle_listener_without_heartbeats_does_nothing() {
    paused_clock().block_on(async {
        let host = Host::start(|_, peer| peer.serve_listener()).await;
        let builder = host.builder().heartbeat(DAY * 600, DAY);
        let listener = builder.connect().await.unwrap();
        tokio::time::sleep(HOUR).await;
        let before = parks();
        tokio::time::sleep(DAY * 365).await;
        assert!(parks() - before <= 64, "{} wakes", parks() - before);
        close(listener).await;
        host.ends().await;
    });
}

/// A year with a notification a day, and with a session that is lost every week.
#[test]
fn c3_a_year_with_losses_is_a_gap_for_each_and_every_notification_between() {
    paused_clock().block_on(async {
        let host = Host::start(|_, mut peer: Peer| async move {
            peer.listening().await;
            for day in 0..7 {
                if tokio::time::timeout(DAY, peer.serve()).await.is_ok() {
                    return;
                }
                peer.send(note(&day.to_string())).await;
            }
            // The session has ended.
        })
        .await;
        let builder = host.builder().heartbeat(HOUR, Duration::from_secs(8));
        let mut listener = builder.connect().await.unwrap();
        let begin = Instant::now();
        for _ in 0..52 {
            for day in 0..7 {
                let event = tokio::time::timeout(DAY * 2, listener.recv()).await.unwrap();
                let pgbell::Event::Notification(n) = event.unwrap() else { panic!("no {day}") };
                assert_eq!(n.payload(), day.to_string());
            }
            let gap = gap(&mut listener).await;
            assert_eq!((gap.sessions(), gap.attempts()), (1, 1));
        }
        // After a session that was stable the delay is short again. The times of a gap are those of the system's clock, which
        // continues while the paused clock stops.
        for visits in host.accepted().windows(2) {
            let week = visits[1] - visits[0];
            assert!(week <= DAY * 7 + Duration::from_millis(50), "{week:?}");
        }
        assert!(begin.elapsed() <= DAY * 52 * 7 + HOUR, "{:?}", begin.elapsed());
        close(listener).await;
        host.ends().await;
    });
}

/// The delays are the default ones: up to half a minute, at random.
#[test]
fn r6_a_day_of_refused_connections_is_a_bounded_number_of_attempts_an_hour() {
    paused_clock().block_on(async {
        let mut host = Host::start(|_, peer| peer.serve_listener()).await;
        let builder = Listener::builder(&*host.url()).channels(["a"]);
        let mut listener = builder.connect().await.unwrap();
        tokio::time::sleep(HOUR).await;
        host.stop().await;
        // The first delays are short.
        tokio::time::sleep(HOUR).await;
        let (parked, first) = (parks(), listener.stats().attempts);
        let mut before = first;
        for hour in 0..23 {
            tokio::time::sleep(HOUR).await;
            let attempts = listener.stats().attempts;
            // 240 on average, and seven standard deviations.
            assert!((175..=310).contains(&(attempts - before)), "{hour}: {}", attempts - before);
            before = attempts;
        }
        let parked = parks() - parked;
        assert!(parked <= (before - first) * 8, "{parked} wakes, {} attempts", before - first);
        let error = listener.last_error().unwrap();
        assert_eq!(error.kind(), ErrorKind::Connect, "{error}");
        assert!(listener.try_recv().unwrap().is_none(), "a gap before its outage is over");
        host.start_again(|_, mut peer| async move {
            peer.listening().await;
            peer.send(note("back")).await;
            peer.serve().await;
        });
        let begin = Instant::now();
        let gap = gap(&mut listener).await;
        assert!(begin.elapsed() <= Duration::from_secs(31), "{:?}", begin.elapsed());
        assert_eq!((gap.sessions(), gap.epoch()), (1, 2));
        assert_eq!(u64::from(gap.attempts()), listener.stats().attempts - 1);
        assert_eq!(payload(&mut listener).await, "back");
        close(listener).await;
        host.ends().await;
    });
}

/// A server that closes the socket at once counts like one that refuses the connection.
#[test]
fn r6_connections_that_are_closed_at_once_cause_no_more_attempts_an_hour_than_refusals() {
    paused_clock().block_on(async {
        let host = Host::start(|number, mut peer| async move {
            if number == 1 {
                peer.listening().await;
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
        let builder = Listener::builder(&*host.url()).channels(["a"]).heartbeat(QUIET, QUIET);
        let listener = builder.connect().await.unwrap();
        tokio::time::sleep(HOUR * 6).await;
        let accepted = host.accepted().len();
        // 240 an hour on average, and seven standard deviations.
        assert!((1_280..1_610).contains(&accepted), "{accepted} calls");
        let end = soon("the end", async {
            close(listener).await;
            host.accepted().len()
        });
        assert_eq!(end.await, accepted);
        host.ends().await;
    });
}
