//! Servers that stop to answer, to read, or answer for ever, at every step of a session.

use std::time::Duration;

use bytes::Bytes;
use pgbell::session::FACTS_SQL;
use pgbell::testing::{Delivery, Script};
use pgbell::{ErrorKind, Event, Listener, Listening, State};
use tokio::time::Instant;

use super::super::attack::hex;
use super::super::client::check_text;
use super::super::scram;
use super::attacks::diagnostic;
use super::host::{BACKOFF, Host, close, gap, payload, soon, timeless};
use super::peer::{OK, Peer, note};

/// What an attempt may take.
const ATTEMPT: Duration = Duration::from_secs(2);

/// What a command may take, and a proof whatever else comes.
const COMMAND: Duration = Duration::from_secs(30);
const PROOF: Duration = Duration::from_secs(60);

/// For rounding, and for the pause of a session that had to become live.
const MARGIN: Duration = Duration::from_millis(20);

/// Where an attempt stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    NothingIsRead,
    NothingIsSaid,
    HalfOfAuthentication,
    ScramIsOffered,
    HalfOfServerFirst,
    AfterServerFirst,
    Authenticated,
    HalfOfAParameter,
    NotReady,
    Facts,
    HalfOfFacts,
    Listen,
    HalfOfListen,
    /// A notice without an end, a byte at a time.
    DripAtLogin,
    DripAtListen,
}

use Step::*;

const STEPS: [Step; 15] = [
    NothingIsRead,
    NothingIsSaid,
    HalfOfAuthentication,
    ScramIsOffered,
    HalfOfServerFirst,
    AfterServerFirst,
    Authenticated,
    HalfOfAParameter,
    NotReady,
    Facts,
    HalfOfFacts,
    Listen,
    HalfOfListen,
    DripAtLogin,
    DripAtListen,
];

impl Step {
    /// In a session that was ready, and so one that is lost.
    fn is_in_session(self) -> bool {
        matches!(self, Listen | HalfOfListen | DripAtListen)
    }
}

async fn stall(mut peer: Peer, step: Step) {
    let prelude = Script::PRELUDE;
    match step {
        NothingIsRead => tokio::time::sleep(COMMAND).await,
        NothingIsSaid => {}
        HalfOfAuthentication => drop(peer.send(&prelude[..5]).await),
        ScramIsOffered | HalfOfServerFirst | AfterServerFirst => {
            let startup = peer.packet().await.unwrap();
            peer.send(hex(scram::SASL)).await;
            let (tag, body) = peer.message().await.unwrap();
            assert_eq!(tag, b'p');
            let first = super::super::attack::message(tag, &body);
            let heard = [Bytes::from(startup), Bytes::from(first)];
            let answer = scram::first(&scram::verifier(4_096))(&heard);
            match step {
                HalfOfServerFirst => drop(peer.send(&answer[..answer.len() / 2]).await),
                AfterServerFirst => drop(peer.send(&answer).await),
                _ => {}
            }
        }
        Authenticated => drop(peer.send(hex(OK)).await),
        HalfOfAParameter => drop(peer.send(&prelude[..20]).await),
        NotReady => drop(peer.send(&prelude[..prelude.len() - 6]).await),
        Facts | HalfOfFacts => {
            peer.let_in().await;
            assert_eq!(peer.query().await.unwrap(), FACTS_SQL);
            let half = if step == Facts { 0 } else { Script::FACTS.len() / 2 };
            peer.send(&Script::FACTS[..half]).await;
        }
        Listen | HalfOfListen | DripAtListen => {
            peer.ready().await;
            peer.subscribes().await;
            let half = if step == HalfOfListen { 12 } else { 0 };
            peer.send(&Script::ACK[..half]).await;
        }
        DripAtLogin => drop(peer.send(hex(OK)).await),
    }
    if let DripAtLogin | DripAtListen = step {
        drip(&mut peer).await;
    }
    peer.leaves().await;
}

/// Complete notices, a byte every half a second, until the client leaves.
async fn drip(peer: &mut Peer) {
    let notice = diagnostic(b'N', "NOTICE", "00000");
    for byte in notice.iter().cycle() {
        tokio::time::sleep(Duration::from_millis(500)).await;
        if !peer.send([*byte]).await {
            return;
        }
    }
}

/// The first session is lost, three more attempts get as far as this step, the next one is let in.
async fn stalled_at(step: Step) -> Host {
    Host::start(move |number, mut peer| async move {
        match number {
            1 => {
                peer.listening().await;
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            2..5 => stall(peer, step).await,
            _ => peer.behave().await,
        }
    })
    .await
}

async fn connect(host: &Host) -> Listener {
    let url = format!("{} connect_timeout={}", host.url(), ATTEMPT.as_secs());
    let builder = Listener::builder(&*url).channels(["a"]).backoff(BACKOFF.0, BACKOFF.1);
    builder.connect().await.unwrap()
}

#[test]
fn an_attempt_that_stalls_at_any_step_is_given_up_in_time_and_followed_by_another() {
    for step in STEPS {
        timeless().block_on(async {
            let host = stalled_at(step).await;
            let mut listener = connect(&host).await;
            let gap = gap(&mut listener).await;
            let lost = if step.is_in_session() { 4 } else { 1 };
            assert_eq!((gap.sessions(), gap.attempts()), (lost, 4), "{step:?}");
            let error = listener.last_error().unwrap();
            check_text(&error);
            assert_eq!(error.kind(), ErrorKind::Timeout, "{step:?}: {error}");
            let limit = if step.is_in_session() { COMMAND } else { ATTEMPT };
            for pause in &host.pauses()[1..] {
                assert!(*pause >= limit, "{step:?}: {pause:?}");
                assert!(*pause <= limit + BACKOFF.1 + MARGIN, "{step:?}: {pause:?}");
            }
            close(listener).await;
            host.is_left().await;
        });
    }
}

/// Whatever the other end does not do.
#[test]
fn a_listener_is_closed_in_time_whatever_step_its_attempt_stalls_at() {
    for step in STEPS {
        timeless().block_on(async {
            let host = stalled_at(step).await;
            let listener = connect(&host).await;
            soon("a loss", listener.handle().wait_state(State::Reconnecting)).await.unwrap();
            soon("an attempt", async {
                while host.accepted().len() < 2 {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            })
            .await;
            tokio::time::sleep(ATTEMPT / 2).await;
            close(listener).await;
            assert_eq!(host.accepted().len(), 2);
            host.is_left().await;
        });
    }
}

/// A live session that says nothing, something else, or a byte now and then, while it is to prove that it listens.
#[test]
fn a_live_session_that_does_not_answer_is_given_up_in_time_whatever_else_it_says() {
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
        (Silence::DripOfNotices, every + PROOF),
        (Silence::DripOfOneNotification, every + PROOF),
        (Silence::Notifications, every + PROOF),
    ] {
        timeless().block_on(async {
            let host = Host::start(move |number, mut peer| async move {
                if number > 1 {
                    return peer.behave().await;
                }
                peer.listening().await;
                match silence {
                    Silence::Complete => {}
                    Silence::HalfOfTheProof => {
                        peer.query().await;
                        peer.send(&super::peer::proof()[..30]).await;
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
                peer.leaves().await;
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
            let text = gap.cause().to_string();
            assert!(text.contains("prove the subscription"), "{silence:?}: {text}");
            close(listener).await;
            host.is_left().await;
        });
    }
}

/// A stream that is slow, and right: nobody is given up for that.
#[test]
fn answers_that_drip_in_before_the_deadline_are_no_loss() {
    timeless().block_on(async {
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
        assert!((70..120).contains(&stats.proofs), "{}", stats.proofs);
        assert_eq!((stats.gaps, host.accepted().len()), (0, 1));
        close(listener).await;
        host.is_left().await;
    });
}

/// H5: the kernel takes no more of it.
#[test]
fn a_server_that_stops_reading_what_we_write_is_given_up_in_time_and_the_wish_is_kept() {
    timeless().block_on(async {
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
        assert!(begin.elapsed() <= COMMAND + MARGIN, "{:?}", begin.elapsed());
        // The first group has another text than this host's next session expects.
        soon("a loss", listener.handle().wait_state(State::Reconnecting)).await.unwrap();
        soon("the return", listener.handle().wait_state(State::Connected)).await.unwrap();
        let gap = gap(&mut listener).await;
        assert_eq!((gap.sessions(), gap.refused().len()), (1, 0));
        assert_eq!(gap.cause().kind(), ErrorKind::Timeout, "{}", gap.cause());
        assert_eq!(soon("channels", listener.handle().channels()).await.unwrap().len(), 20_001);
        close(listener).await;
        host.is_left().await;
    });
}

/// Beside it, what is read goes on: notifications come while we cannot write.
#[test]
fn n5_notifications_arrive_while_our_own_query_cannot_be_written() {
    timeless().block_on(async {
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
        let wish = tokio::spawn(async move { handle.listen_all(names).await });
        for _ in 0..10_000 {
            assert_eq!(payload(&mut listener).await, "x");
        }
        // And then it is read too.
        assert_eq!(soon("an answer", wish).await.unwrap().unwrap(), Listening::Active);
        assert_eq!((listener.stats().gaps, listener.stats().lagged), (0, 0));
        close(listener).await;
        host.is_left().await;
    });
}
