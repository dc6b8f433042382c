//! Attempts to reconnect that fail at every step of a login: their number, their delays, and the reported cause.

use std::time::Duration;

use pgbell::{Config, ErrorKind, Listener, State};

use super::super::attack::hex;
use super::super::client::check_text;
use super::attacks::{self, Attack};
use super::host::{BACKOFF, Host, QUIET, close, gap, paused_clock, payload, soon};
use super::peer::{OK, Peer, note};

/// The step at which an attempt is attacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    /// In place of the answer to the startup packet.
    Startup,
    /// Behind AuthenticationOk.
    Authenticated,
    /// In place of the answer to the query for the facts of the server.
    Facts,
    /// In place of the answer to LISTEN.
    Listen,
}

const MOMENTS: [Moment; 4] =
    [Moment::Startup, Moment::Authenticated, Moment::Facts, Moment::Listen];

/// The number of attempts that fail.
const FAILURES: u32 = 3;

async fn conversation(number: u32, mut peer: Peer, attack: Attack, moment: Moment) {
    match number {
        1 => {
            peer.listening().await;
            tokio::time::sleep(Duration::from_millis(1)).await;
            peer.send(note("before")).await;
        }
        number if number > FAILURES + 1 => {
            peer.listening().await;
            peer.send(note("after")).await;
            peer.serve().await;
        }
        _ => {
            match moment {
                Moment::Startup => drop(peer.packet().await),
                Moment::Authenticated => {
                    peer.packet().await;
                    peer.send(hex(OK)).await;
                }
                Moment::Facts => {
                    peer.let_in().await;
                    peer.query().await;
                }
                Moment::Listen => {
                    peer.ready().await;
                    peer.read_listen().await;
                }
            }
            // The server closes the socket behind it: some of the attacks are valid messages at this step.
            peer.send(attack.bytes).await;
        }
    }
}

async fn start(attack: &Attack, moment: Moment) -> Host {
    let attack = attack.clone();
    Host::start(move |number, peer| conversation(number, peer, attack.clone(), moment)).await
}

/// The longest delay before an attempt, counted from 0.
fn longest(attempt: u32) -> Duration {
    BACKOFF.0.saturating_mul(2 << attempt).min(BACKOFF.1)
}

async fn run(attack: &Attack, moment: Moment) {
    let what = format!("{}, {moment:?}", attack.name);
    let host = start(attack, moment).await;
    let config: Config = host.url().parse().unwrap();
    let builder = Listener::builder(config.password("another")).channels(["a"]);
    let builder = builder.retry_refusals(true).heartbeat(QUIET, QUIET);
    let mut listener = builder.backoff(BACKOFF.0, BACKOFF.1).connect().await.unwrap();
    assert_eq!(payload(&mut listener).await, "before", "{what}");
    let gap = gap(&mut listener).await;
    assert_eq!(payload(&mut listener).await, "after", "{what}");
    assert_eq!(listener.state(), State::Connected, "{what}");
    // The gap has the first cause, not the errors of the attempts.
    assert_eq!(gap.cause().kind(), ErrorKind::Connect, "{what}: {:#}", gap.cause());
    assert_eq!(gap.attempts(), FAILURES + 1, "{what}");
    // A session whose LISTEN was sent counts as a lost one.
    let lost = if moment == Moment::Listen { FAILURES + 1 } else { 1 };
    assert_eq!((gap.sessions(), gap.epoch()), (lost, lost + 1), "{what}");
    let stats = listener.stats();
    assert_eq!((stats.gaps, stats.sessions_lost), (1, u64::from(lost)), "{what}");
    assert_eq!(stats.attempts, u64::from(FAILURES + 2), "{what}");
    let error = listener.last_error().unwrap();
    check_text(&error);
    let pauses = host.pauses();
    assert_eq!(pauses.len(), FAILURES as usize + 1, "{what}");
    for (attempt, pause) in (0..).zip(&pauses) {
        // The clock rounds up to a millisecond; the first session lasted two.
        let most = longest(attempt) + Duration::from_millis(5);
        assert!((BACKOFF.0..=most).contains(pause), "{what}: attempt {attempt}, {pause:?}");
    }
    close(listener).await;
    host.ends().await;
}

#[test]
fn attempts_that_fail_in_every_way_are_delayed_and_end_in_one_gap() {
    for attack in attacks::all() {
        for moment in MOMENTS {
            paused_clock().block_on(run(&attack, moment));
        }
    }
}

/// There is no password provider and no other host, so a login that was refused will be refused again.
#[test]
fn a_refused_login_ends_the_listener_with_its_reason_behind_the_gap() {
    let refusal = |code: &str| attacks::diagnostic(b'E', "FATAL", code);
    for (bytes, kind) in [
        (refusal("28000"), ErrorKind::Auth),
        (refusal("28P01"), ErrorKind::Auth),
        (refusal("3D000"), ErrorKind::Server),
        (hex("52 00000008 00000007"), ErrorKind::Unsupported),
    ] {
        paused_clock().block_on(async {
            let name = bytes.escape_ascii().to_string();
            let attack = Attack { name, bytes, closes: true, kind, text: String::new() };
            let host = start(&attack, Moment::Startup).await;
            let mut listener = host.builder().connect().await.unwrap();
            assert_eq!(payload(&mut listener).await, "before");
            assert_eq!(gap(&mut listener).await.sessions(), 1);
            let end = soon("the end", listener.recv()).await.unwrap_err();
            check_text(&end);
            assert_eq!(end.kind(), kind, "{end}");
            let closed = soon("the end", listener.recv()).await.unwrap_err();
            assert_eq!(closed.kind(), ErrorKind::Closed, "{closed}");
            assert_eq!(listener.state(), State::Closed);
            assert_eq!(host.accepted().len(), 2);
            close(listener).await;
            host.ends().await;
        });
    }
}

/// A server that starts up, is full or shuts down accepts the login later.
#[test]
fn a_server_that_has_no_room_yet_is_tried_again() {
    for code in ["57P03", "53300", "57P01"] {
        let bytes = attacks::diagnostic(b'E', "FATAL", code);
        paused_clock().block_on(async {
            let (name, kind) = (code.to_owned(), ErrorKind::Server);
            let attack = Attack { name, bytes, closes: true, kind, text: String::new() };
            let host = start(&attack, Moment::Startup).await;
            let mut listener = host.builder().connect().await.unwrap();
            assert_eq!(payload(&mut listener).await, "before");
            assert_eq!(gap(&mut listener).await.attempts(), FAILURES + 1);
            assert_eq!(payload(&mut listener).await, "after");
            close(listener).await;
            host.ends().await;
        });
    }
}
