//! Servers that never stop sending.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pgbell::{ErrorKind, Event, Overflow};
use tokio::time::{Instant, timeout};

use super::super::attack::{hex, message, runtime};
use super::attacks::diagnostic;
use super::host::{BACKOFF, Host, QUIET, close, gap, paused_clock, soon};
use super::peer::{OK, Peer, READY, note};

/// What the server repeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flood {
    Notices,
    /// Each time a different parameter.
    Parameters,
    Notifications,
    /// Stray errors: the server reports that it dropped a notification.
    Drops,
    /// The same, with a notification between two of them.
    DropsBetween,
}

use Flood::*;

impl Flood {
    /// The chunk `number`: 64 KiB or somewhat more, in whole messages.
    fn chunk(self, number: usize) -> Vec<u8> {
        let drop = [diagnostic(b'E', "ERROR", "XX000"), hex(READY)].concat();
        let one = match self {
            Notices => diagnostic(b'N', "NOTICE", "00000"),
            Parameters => {
                let one = |n: usize| message(b'S', format!("p{number}_{n}\0{n}\0").as_bytes());
                return (0..4_000).flat_map(one).collect();
            }
            Notifications => note("x"),
            Drops => drop,
            DropsBetween => [drop, note("x")].concat(),
        };
        one.repeat(64 * 1024 / one.len() + 1)
    }
}

/// The resident memory of this process, in bytes.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 4_096
}

/// The memory limit of a listener by default, of a flood of errors in its gaps, and a margin.
const MEMORY: usize = 64 * 1024 * 1024;

/// Floods until the client disconnects. Between two chunks it answers queries, if `answers` is set.
async fn flood(peer: &mut Peer, flood: Flood, answers: bool, pause: Duration, sent: &AtomicUsize) {
    for number in 0.. {
        let chunk = flood.chunk(number);
        if !peer.send(&chunk).await {
            return;
        }
        sent.fetch_add(chunk.len(), Ordering::Relaxed);
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        } else {
            tokio::task::yield_now().await;
        }
        while answers && let Ok(query) = timeout(Duration::ZERO, peer.query()).await {
            match query {
                Some(query) => drop(peer.send(Peer::answer(&query)).await),
                None => return,
            }
        }
    }
}

/// Floods for half a second of real time, as fast as possible, while no event is read.
fn unread(kind: Flood, overflow: Overflow) {
    runtime().block_on(async {
        let sent = Arc::new(AtomicUsize::new(0));
        let counter = sent.clone();
        let host = Host::start(move |_, mut peer| {
            let sent = counter.clone();
            async move {
                peer.listening().await;
                flood(&mut peer, kind, true, Duration::ZERO, &sent).await;
            }
        })
        .await;
        let before = resident();
        let builder = host.builder().overflow(overflow);
        // An error while a heartbeat is unanswered would be taken as its answer. The machine may be busy.
        let drops = matches!(kind, Drops | DropsBetween);
        let every = if drops { QUIET } else { Duration::from_millis(50) };
        let builder = builder.heartbeat(every, Duration::from_secs(20));
        let mut listener = builder.connect().await.unwrap();
        tokio::time::sleep(Duration::from_millis(500)).await;
        // However long that takes on a busy machine.
        soon("a flood, and heartbeats in it", async {
            while sent.load(Ordering::Relaxed) < 4 * 1024 * 1024
                || !drops && listener.stats().heartbeats < 2
            {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
        let grown = resident().saturating_sub(before);
        assert!(grown < MEMORY, "{kind:?}, {overflow:?}: {grown} bytes");
        let stats = listener.stats();
        assert_eq!((stats.sessions_lost, host.accepted().len()), (0, 1), "{kind:?}");
        let (mut notifications, mut gaps) = (0_u64, 0);
        let end = Instant::now() + Duration::from_millis(100);
        while Instant::now() < end
            && let Some(event) = listener.try_recv().unwrap()
        {
            notifications += u64::from(matches!(event, Event::Notification(_)));
            gaps += u64::from(matches!(event, Event::Gap(_)));
        }
        assert_eq!(notifications > 0, matches!(kind, Notifications | DropsBetween), "{kind:?}");
        assert_eq!(gaps > 0, drops, "{kind:?}");
        let begin = Instant::now();
        soon("the end", listener.close()).await;
        // A second, and a margin for a busy machine.
        assert!(begin.elapsed() < Duration::from_millis(2_500), "{kind:?}: {:?}", begin.elapsed());
        host.ends().await;
    });
}

#[test]
fn a_flood_of_notices_takes_no_memory_and_does_not_prevent_heartbeats_and_close() {
    unread(Notices, Overflow::default());
}

#[test]
fn e8_a_flood_of_new_parameters_takes_no_memory_and_does_not_prevent_close() {
    unread(Parameters, Overflow::default());
}

#[test]
fn s1_a_flood_of_unread_notifications_takes_no_more_than_the_queue_limit() {
    unread(Notifications, Overflow::DropNewest);
    unread(Notifications, Overflow::DropOldest);
}

#[test]
fn a_flood_of_stray_errors_is_a_bounded_number_of_gaps() {
    unread(Drops, Overflow::default());
    unread(DropsBetween, Overflow::DropNewest);
}

/// A server that floods and answers nothing is stuck or hostile.
#[test]
fn a_flood_without_an_answer_to_the_heartbeat_is_a_gap_in_time() {
    let (every, deadline) = (Duration::from_secs(5), Duration::from_secs(4));
    for kind in [Notices, Parameters, Notifications] {
        paused_clock().block_on(async {
            let host = Host::start(move |number, mut peer| async move {
                if number > 1 {
                    return peer.serve_listener().await;
                }
                peer.listening().await;
                let pause = Duration::from_secs(1);
                flood(&mut peer, kind, false, pause, &AtomicUsize::new(0)).await;
            })
            .await;
            let builder = host.builder().heartbeat(every, deadline);
            let mut listener = builder.overflow(Overflow::DropNewest).connect().await.unwrap();
            let begin = Instant::now();
            let gap = loop {
                match soon("a gap", listener.recv()).await.unwrap() {
                    Event::Notification(_) | Event::Lagged(_) => {}
                    Event::Gap(gap) => break gap,
                    other => panic!("{other:?}"),
                }
            };
            assert_eq!(gap.cause().kind(), ErrorKind::Timeout, "{kind:?}: {}", gap.cause());
            let most = every + Duration::from_secs(300) + BACKOFF.1 * 2;
            assert!(begin.elapsed() <= most, "{kind:?}: {:?}", begin.elapsed());
            close(listener).await;
            host.ends().await;
        });
    }
}

/// In the second, third and fourth session, 1,000 messages or 1 MiB before the first ReadyForQuery end the attempt.
#[test]
fn t26_a_flood_during_an_attempt_ends_the_attempt_and_little_of_it_is_read() {
    for kind in [Notices, Parameters] {
        paused_clock().block_on(async {
            let sent = Arc::new(AtomicUsize::new(0));
            let counter = sent.clone();
            let host = Host::start(move |number, mut peer| {
                let sent = counter.clone();
                async move {
                    match number {
                        1 => {
                            peer.listening().await;
                            tokio::time::sleep(Duration::from_millis(1)).await;
                        }
                        2..5 => {
                            peer.packet().await;
                            peer.send(hex(OK)).await;
                            flood(&mut peer, kind, false, Duration::ZERO, &sent).await;
                        }
                        _ => peer.serve_listener().await,
                    }
                }
            })
            .await;
            let mut listener = host.builder().connect().await.unwrap();
            let gap = gap(&mut listener).await;
            assert_eq!((gap.sessions(), gap.attempts()), (1, 4), "{kind:?}");
            let error = listener.last_error().unwrap();
            assert_eq!(error.kind(), ErrorKind::Protocol, "{kind:?}: {error}");
            assert!(format!("{error:#}").contains("before the first ReadyForQuery"), "{error}");
            // The bytes in the buffers of the kernel are added.
            let each = sent.load(Ordering::Relaxed) / 3;
            assert!(each < 2 * 1024 * 1024, "{kind:?}: {each} bytes");
            close(listener).await;
            host.ends().await;
        });
    }
}

/// Before ReadyForQuery of the login they are kept, and more than 1 MiB end the attempt. After LISTEN was sent they are
/// delivered, and the attempt ends at its timeout.
#[test]
fn a_flood_of_notifications_instead_of_an_answer_ends_the_attempt() {
    #[derive(Debug, Clone, Copy)]
    enum Step {
        Readiness,
        Facts,
        Listen,
    }
    for (instead, least, most, kind) in [
        (Step::Readiness, 0, 2, ErrorKind::Protocol),
        (Step::Facts, 0, 2, ErrorKind::Protocol),
        (Step::Listen, 30, 30, ErrorKind::Timeout),
    ] {
        paused_clock().block_on(async {
            let before = resident();
            let host = Host::start(move |number, mut peer| async move {
                match (number, instead) {
                    (1, _) => {
                        peer.listening().await;
                        return tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                    (3.., _) => return peer.serve_listener().await,
                    (_, Step::Readiness) => {
                        peer.packet().await;
                        peer.send(hex(OK)).await;
                    }
                    (_, Step::Facts) => peer.let_in().await,
                    (_, Step::Listen) => {
                        peer.ready().await;
                        peer.read_listen().await;
                    }
                }
                let pause = Duration::from_millis(50);
                flood(&mut peer, Notifications, false, pause, &AtomicUsize::new(0)).await;
            })
            .await;
            let url = format!("{} connect_timeout=2", host.url());
            let builder = pgbell::Listener::builder(&*url).channels(["a"]);
            let builder = builder.backoff(BACKOFF.0, BACKOFF.1).overflow(Overflow::DropNewest);
            let mut listener = builder.connect().await.unwrap();
            let gap = gap(&mut listener).await;
            // Notifications before the answer to LISTEN are between two losses: each loss has its position.
            let attempts = if matches!(instead, Step::Listen) { 1 } else { 2 };
            assert_eq!((gap.sessions(), gap.attempts()), (1, attempts), "{instead:?}");
            let error = listener.last_error().unwrap();
            assert_eq!(error.kind(), kind, "{instead:?}: {error}");
            let pause = host.pauses()[1];
            let (least, most) = (Duration::from_secs(least), Duration::from_secs(most));
            assert!((least..=most + BACKOFF.1 * 2).contains(&pause), "{instead:?}: {pause:?}");
            let grown = resident().saturating_sub(before);
            assert!(grown < MEMORY, "{instead:?}: {grown} bytes");
            close(listener).await;
            host.ends().await;
        });
    }
}

/// The server sends them in one write, a hundred thousand times.
#[test]
fn unread_stray_errors_are_merged() {
    for (kind, most) in [(Drops, 1), (DropsBetween, 64)] {
        paused_clock().block_on(async {
            let host = Host::start(move |_, mut peer| async move {
                peer.listening().await;
                tokio::time::sleep(Duration::from_millis(1)).await;
                for number in 0..100 {
                    peer.send(kind.chunk(number)).await;
                }
                peer.serve().await;
            })
            .await;
            let builder = host.builder().queue_capacity(16).overflow(Overflow::DropNewest);
            let mut listener = builder.connect().await.unwrap();
            tokio::time::sleep(Duration::from_secs(10)).await;
            let mut gaps = 0;
            while let Some(event) = listener.try_recv().unwrap() {
                if let Event::Gap(gap) = event {
                    gaps += 1;
                    assert_eq!((gap.sessions(), gap.attempts()), (0, 0), "{kind:?}");
                    assert!(
                        format!("{:#}", gap.cause()).contains("dropped a notification"),
                        "{gap}"
                    );
                }
            }
            assert!((1..=most).contains(&gaps), "{kind:?}: {gaps}");
            assert_eq!(host.accepted().len(), 1, "{kind:?}");
            close(listener).await;
            host.ends().await;
        });
    }
}
