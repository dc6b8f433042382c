//! Servers that never stop to talk.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pgbell::{ErrorKind, Event, Overflow};
use tokio::time::{Instant, timeout};

use super::super::attack::{hex, message, runtime};
use super::attacks::diagnostic;
use super::host::{BACKOFF, Host, QUIET, close, gap, soon, timeless};
use super::peer::{OK, Peer, READY, note};

/// What is said over and over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flood {
    Notices,
    /// Each of another parameter.
    Parameters,
    Notifications,
    /// Errors that answer nothing: the server says that it dropped a notification.
    Drops,
    /// The same, with a notification between each two.
    DropsBetween,
}

use Flood::*;

impl Flood {
    /// The `number`th 64 KiB of it, or somewhat more, in whole messages.
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

/// Bytes of this process that lie in memory.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 4_096
}

/// Most that a listener may take by default, what a flood of errors in its gaps takes, and what else lies about.
const MEMORY: usize = 64 * 1024 * 1024;

/// Floods until the client leaves. Between two chunks it answers what it is asked, if it answers at all.
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

/// Half a second of it, of the real clock, as fast as it comes, and nobody reads.
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
        // An error beside a proof that is under way would be taken for its answer. The machine may be busy.
        let drops = matches!(kind, Drops | DropsBetween);
        let every = if drops { QUIET } else { Duration::from_millis(50) };
        let builder = builder.heartbeat(every, Duration::from_secs(20));
        let mut listener = builder.connect().await.unwrap();
        tokio::time::sleep(Duration::from_millis(500)).await;
        // Whatever that takes on a busy machine.
        soon("a flood, and proofs in it", async {
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
fn a_flood_of_notices_takes_no_memory_and_does_not_keep_from_proofs_and_closing() {
    unread(Notices, Overflow::default());
}

#[test]
fn e8_a_flood_of_ever_new_parameters_takes_no_memory_and_does_not_keep_from_closing() {
    unread(Parameters, Overflow::default());
}

#[test]
fn s1_a_flood_of_notifications_that_nobody_reads_takes_what_the_queue_may_hold() {
    unread(Notifications, Overflow::DropNewest);
    unread(Notifications, Overflow::DropOldest);
}

#[test]
fn a_flood_of_errors_that_answer_nothing_is_a_bounded_number_of_gaps() {
    unread(Drops, Overflow::default());
    unread(DropsBetween, Overflow::DropNewest);
}

/// Who floods and answers nothing is stuck, or lies.
#[test]
fn a_flood_that_does_not_hold_the_proof_is_a_gap_in_time() {
    let (every, deadline) = (Duration::from_secs(5), Duration::from_secs(4));
    for kind in [Notices, Parameters, Notifications] {
        timeless().block_on(async {
            let host = Host::start(move |number, mut peer| async move {
                if number > 1 {
                    return peer.behave().await;
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

/// In the second, third and fourth session: 1,000 messages or 1 MiB before the first ReadyForQuery are enough.
#[test]
fn t26_a_flood_during_every_attempt_costs_an_attempt_each_and_little_is_read_of_it() {
    for kind in [Notices, Parameters] {
        timeless().block_on(async {
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
                        _ => peer.behave().await,
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
            // What the kernel holds comes on top.
            let each = sent.load(Ordering::Relaxed) / 3;
            assert!(each < 2 * 1024 * 1024, "{kind:?}: {each} bytes");
            close(listener).await;
            host.ends().await;
        });
    }
}

/// Before the session is set up they are kept, and more than 1 MiB end the attempt. Behind LISTEN they are delivered, and
/// the attempt ends when its time is over.
#[test]
fn a_flood_of_notifications_instead_of_an_answer_ends_the_attempt() {
    #[derive(Debug, Clone, Copy)]
    enum Instead {
        Readiness,
        Facts,
        Listen,
    }
    for (instead, least, most, kind) in [
        (Instead::Readiness, 0, 2, ErrorKind::Protocol),
        (Instead::Facts, 0, 2, ErrorKind::Protocol),
        (Instead::Listen, 30, 30, ErrorKind::Timeout),
    ] {
        timeless().block_on(async {
            let before = resident();
            let host = Host::start(move |number, mut peer| async move {
                match (number, instead) {
                    (1, _) => {
                        peer.listening().await;
                        return tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                    (3.., _) => return peer.behave().await,
                    (_, Instead::Readiness) => {
                        peer.packet().await;
                        peer.send(hex(OK)).await;
                    }
                    (_, Instead::Facts) => peer.let_in().await,
                    (_, Instead::Listen) => {
                        peer.ready().await;
                        peer.subscribes().await;
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
            // What was sent before LISTEN was answered lies between two losses: each has its place.
            let attempts = if matches!(instead, Instead::Listen) { 1 } else { 2 };
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

/// In one write, a hundred thousand times.
#[test]
fn errors_that_answer_nothing_and_nobody_reads_are_merged() {
    for (kind, most) in [(Drops, 1), (DropsBetween, 64)] {
        timeless().block_on(async {
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
