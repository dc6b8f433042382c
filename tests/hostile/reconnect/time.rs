//! Years and days that pass in seconds: what a listener does when nothing happens, and when nobody is there.

use std::time::Duration;

use pgbell::{ErrorKind, Listener};
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::host::{Host, QUIET, close, gap, payload, soon, timeless};
use super::peer::{Peer, note};

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(24 * 3_600);

/// How often this thread has had nothing to do.
fn parks() -> u64 {
    Handle::current().metrics().worker_park_count(0)
}

/// A sane server for that long. One proof at every interval, and nothing else is done.
fn idle(time: Duration, every: Duration) {
    timeless().block_on(async {
        let host = Host::start(|_, peer| peer.behave()).await;
        let builder = host.builder().heartbeat(every, Duration::from_secs(8));
        let mut listener = builder.connect().await.unwrap();
        let before = parks();
        let begin = Instant::now();
        // The clock has wheels of two years.
        tokio::time::sleep(time).await;
        assert!(begin.elapsed() >= time);
        let (stats, parks) = (listener.stats(), parks() - before);
        // A clock of milliseconds may round each of them up.
        let most = time.as_millis() / every.as_millis();
        let least = time.as_millis() / (every.as_millis() + 2);
        assert!((least..=most).contains(&stats.heartbeats.into()), "{} proofs", stats.heartbeats);
        // Asked, heard, answered, read: each takes a turn or two.
        assert!(parks <= stats.heartbeats * 8, "{parks} wakes, {} proofs", stats.heartbeats);
        assert_eq!((stats.gaps, stats.sessions, host.accepted().len()), (0, 1, 1));
        assert!(listener.try_recv().unwrap().is_none());
        close(listener).await;
        host.ends().await;
    });
}

#[test]
fn c3_a_year_without_a_word_is_a_proof_at_every_interval_and_nothing_else() {
    idle(DAY * 365, HOUR);
}

#[test]
fn c3_a_day_with_the_default_interval_is_a_proof_every_ten_seconds() {
    idle(DAY, Duration::from_secs(10));
}

/// Without a heartbeat nobody is woken at all.
#[test]
fn c3_a_listener_with_nothing_to_do_does_nothing() {
    timeless().block_on(async {
        let host = Host::start(|_, peer| peer.behave()).await;
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
    timeless().block_on(async {
        let host = Host::start(|_, mut peer: Peer| async move {
            peer.listening().await;
            for day in 0..7 {
                if tokio::time::timeout(DAY, peer.serve()).await.is_ok() {
                    return;
                }
                peer.send(note(&day.to_string())).await;
            }
            // And it is gone.
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
        // goes on while this one is paused.
        for visits in host.accepted().windows(2) {
            let week = visits[1] - visits[0];
            assert!(week <= DAY * 7 + Duration::from_millis(50), "{week:?}");
        }
        assert!(begin.elapsed() <= DAY * 52 * 7 + HOUR, "{:?}", begin.elapsed());
        close(listener).await;
        host.ends().await;
    });
}

/// With the default delays: anything up to half a minute, at random.
#[test]
fn r6_a_day_of_refused_connections_is_a_bounded_number_of_attempts_an_hour() {
    timeless().block_on(async {
        let mut host = Host::start(|_, peer| peer.behave()).await;
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
            // 240 on average, and seven deviations.
            assert!((175..=310).contains(&(attempts - before)), "{hour}: {}", attempts - before);
            before = attempts;
        }
        let parked = parks() - parked;
        assert!(parked <= (before - first) * 8, "{parked} wakes, {} attempts", before - first);
        let error = listener.last_error().unwrap();
        assert_eq!(error.kind(), ErrorKind::Connect, "{error}");
        assert!(listener.try_recv().unwrap().is_none(), "told before it is over");
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

/// A server that hangs up at once is as good as none.
#[test]
fn r6_calls_that_are_hung_up_are_no_more_attempts_an_hour_than_refusals() {
    timeless().block_on(async {
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
        // 240 an hour on average, and seven deviations.
        assert!((1_280..1_610).contains(&accepted), "{accepted} calls");
        let end = soon("the end", async {
            close(listener).await;
            host.accepted().len()
        });
        assert_eq!(end.await, accepted);
        host.ends().await;
    });
}
