//! A live session is ended, in every way: one gap, at its position, with its cause.

use std::time::Duration;

use pgbell::testing::Delivery;
use pgbell::testing::Script;

use super::super::attack::message;
use super::super::client::check_text;
use super::attacks::{self, Attack};
use super::host::{Host, Log, close, gap, paused_clock, payload, watch};
use super::peer::{Peer, note};

/// The first session is attacked right behind two notifications. The second one answers LISTEN late, and sends one notification
/// before the answer.
async fn conversation(number: u32, mut peer: Peer, attack: Attack, delivery: Delivery, log: Log) {
    if number > 1 {
        peer.ready().await;
        peer.read_listen().await;
        peer.send(note("early")).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        log.add("LISTEN is answered");
        peer.send([Script::ACK, &note("late")].concat()).await;
        return peer.serve().await;
    }
    peer.listening().await;
    // Until the client is idle.
    tokio::time::sleep(Duration::from_millis(1)).await;
    let bytes = [note("1"), note("2"), attack.bytes].concat();
    peer.send_in_pieces(&bytes, delivery).await;
    if !attack.closes {
        peer.wait_for_end().await;
    }
}

async fn run(attack: &Attack, delivery: Delivery) {
    let what = format!("{}, {delivery:?}", attack.name);
    let log = Log::default();
    let (scripted, shared) = (attack.clone(), log.clone());
    let host = Host::start(move |number, peer| {
        conversation(number, peer, scripted.clone(), delivery, shared.clone())
    })
    .await;
    let mut listener = host.builder().connect().await.unwrap();
    let states = watch(listener.handle(), log.clone());
    for expected in ["1", "2"] {
        assert_eq!(payload(&mut listener).await, expected, "{what}");
    }
    let gap = gap(&mut listener).await;
    log.add("gap");
    for expected in ["early", "late"] {
        assert_eq!(payload(&mut listener).await, expected, "{what}");
    }
    states.await.unwrap();
    let logged = log.take();
    let places = ["Connected", "Reconnecting", "LISTEN is answered"];
    assert_eq!(logged[..3], places, "{what}");
    assert!(logged[3..].iter().any(|line| line == "gap"), "{what}: {logged:?}");
    assert!(logged[3..].iter().any(|line| line == "Connected"), "{what}: {logged:?}");
    let cause = gap.cause();
    check_text(cause);
    assert_eq!(cause.kind(), attack.kind, "{what}: {cause}");
    assert!(format!("{cause:#}").contains(&attack.text), "{what}: {cause}");
    assert_eq!((gap.sessions(), gap.attempts(), gap.epoch()), (1, 1, 2), "{what}");
    assert!(gap.refused().is_empty() && gap.restored_at() >= gap.lost_at(), "{what}");
    let stats = listener.stats();
    assert_eq!((stats.gaps, stats.sessions, stats.sessions_lost), (1, 2, 1), "{what}");
    assert_eq!((stats.received, stats.delivered, stats.lagged), (4, 4, 0), "{what}");
    assert_eq!(host.accepted().len(), 2, "{what}");
    close(listener).await;
    host.ends().await;
}

/// The bytes arrive in one write with the notifications before them, and also byte by byte.
#[test]
fn whatever_ends_a_live_session_is_one_gap_with_its_reason_and_then_the_next_session() {
    for attack in attacks::all() {
        for delivery in [Delivery::Whole, Delivery::ByteByByte] {
            paused_clock().block_on(run(&attack, delivery));
        }
    }
}

/// The stream is split in the hostile bytes, and in the end of the notification before them.
#[test]
fn the_gap_is_the_same_wherever_the_hostile_bytes_are_split() {
    let before = note("1").len();
    for attack in attacks::all().into_iter().filter(|attack| !attack.closes) {
        let total = 2 * before + attack.bytes.len();
        // Long ones are split at some positions only.
        let step = (attack.bytes.len() / 6).max(1);
        for at in (2 * before - 3..total).step_by(step) {
            paused_clock().block_on(run(&attack, Delivery::SplitAt(at)));
        }
    }
}

/// The error is one line of a log.
#[test]
fn an_error_of_the_greatest_length_is_shortened_when_it_is_shown() {
    let begin = "SFATAL\0VFATAL\0C57P01\0M";
    let text = "x".repeat(1024 * 1024 - 4 - begin.len() - 2);
    let longest = message(b'E', format!("{begin}{text}\0\0").as_bytes());
    paused_clock().block_on(async {
        let host = Host::start(move |number, mut peer| {
            let longest = longest.clone();
            async move {
                if number > 1 {
                    return peer.serve_listener().await;
                }
                peer.listening().await;
                tokio::time::sleep(Duration::from_millis(1)).await;
                peer.send(longest).await;
            }
        })
        .await;
        let mut listener = host.builder().connect().await.unwrap();
        let text = format!("{:#}", gap(&mut listener).await.cause());
        assert!(text.contains("FATAL: xxx") && text.len() < 64 * 1024, "{}", text.len());
        close(listener).await;
        host.ends().await;
    });
}
