//! The same over TCP, with the real clock, and a case that only TCP has: a connection that is reset.

use std::time::Duration;

use pgbell::testing::{Delivery, Script};
use pgbell::{ErrorKind, Event, Listener, State};

use super::super::attack::{no_task_is_left, runtime};
use super::super::client::{check_text, soon, url};
use super::attacks;
use super::host::{BACKOFF, QUIET};
use super::peer::note;

/// Serves up to a live session that has received one notification. Then the client sends a query, so that what follows arrives
/// when the session is live.
fn live() -> Script {
    Script::listening().send(note("1")).expect_message(b'Q').send(Script::ACK)
}

fn second() -> Script {
    let script = Script::listening().send(note("2"));
    script.expect_hex("58 00000004").wait_for_eof()
}

/// The first session ends as its script decides.
async fn run(what: &str, script: Script, kind: ErrorKind, text: &str) {
    let served = Script::serve_in_turn([script, second()], Delivery::Whole).await;
    let (address, task) = served.unwrap();
    let builder = Listener::builder(&*url(address)).channels(["a"]).heartbeat(QUIET, QUIET);
    let builder = builder.backoff(BACKOFF.0, BACKOFF.1);
    let mut listener = soon("connect", builder.connect()).await.unwrap();
    soon("an answer", listener.listen("a")).await.unwrap();
    let mut received = Vec::new();
    while received.len() < 3 {
        match soon("an event", listener.recv()).await.unwrap() {
            Event::Notification(n) => received.push(n.payload().to_owned()),
            Event::Gap(gap) => {
                check_text(gap.cause());
                assert_eq!(gap.cause().kind(), kind, "{what}: {:#}", gap.cause());
                assert!(format!("{:#}", gap.cause()).contains(text), "{what}: {:#}", gap.cause());
                assert_eq!((gap.sessions(), gap.attempts()), (1, 1), "{what}");
                received.push("gap".to_owned());
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(received, ["1", "gap", "2"], "{what}");
    assert_eq!(listener.state(), State::Connected, "{what}");
    soon("close", listener.close()).await;
    let played = soon("script", task).await.unwrap();
    assert_eq!(played, Ok(()), "{what}");
    no_task_is_left().await;
}

#[test]
fn whatever_ends_a_live_session_over_tcp_is_one_gap_too() {
    for attack in attacks::all() {
        let script = live().send(&attack.bytes);
        let script = if attack.closes { script.close() } else { script.wait_for_eof() };
        runtime().block_on(run(&attack.name, script, attack.kind, &attack.text));
    }
}

#[test]
fn r1_a_connection_that_is_reset_is_one_gap() {
    for bytes in [&b""[..], b"A", b"A\0\0\0\x0c\0\0\0\x01a"] {
        let script = live().send(bytes).reset();
        runtime().block_on(run("reset", script, ErrorKind::Connect, "reset"));
    }
}

/// The flood is as fast as possible: the runtime always has a task to run, so timers may starve. Notifications are kept, so their
/// number ends the attempt. Notices are not kept, so the timeout ends it.
#[test]
fn a_flood_during_the_login_does_not_delay_the_timeout_of_the_attempt() {
    let login = Script::new().expect_startup().send_hex("52 00000008 00000000");
    let facts = Script::let_in().expect_message(b'Q');
    let notice = attacks::diagnostic(b'N', "NOTICE", "00000");
    for (script, flood, least, kind) in [
        (login, note("x"), 0, ErrorKind::Protocol),
        (facts.clone(), note("x"), 0, ErrorKind::Protocol),
        (facts, notice, 1, ErrorKind::Timeout),
    ] {
        runtime().block_on(async {
            let scripts = [live().close(), script.flood(flood.repeat(4_000)), second()];
            let (address, task) = Script::serve_in_turn(scripts, Delivery::Whole).await.unwrap();
            let url = format!("{}&connect_timeout=1", url(address));
            let builder = Listener::builder(&*url).channels(["a"]).heartbeat(QUIET, QUIET);
            let builder = builder.backoff(BACKOFF.0, BACKOFF.1);
            let mut listener = soon("connect", builder.connect()).await.unwrap();
            soon("an answer", listener.listen("a")).await.unwrap();
            soon("a loss", listener.handle().wait_state(State::Reconnecting)).await.unwrap();
            let begin = std::time::Instant::now();
            soon("the reconnect", listener.handle().wait_state(State::Connected)).await.unwrap();
            let took = begin.elapsed();
            // And a margin for a busy machine.
            assert!(
                took >= Duration::from_secs(least) && took < Duration::from_secs(5),
                "{took:?}"
            );
            let error = listener.last_error().unwrap();
            assert_eq!(error.kind(), kind, "{error}");
            let mut events = Vec::new();
            while events.len() < 3 {
                events.push(soon("an event", listener.recv()).await.unwrap());
            }
            assert!(matches!(&events[1], Event::Gap(gap) if gap.attempts() == 2), "{events:?}");
            soon("close", listener.close()).await;
            soon("script", task).await.unwrap().unwrap();
            no_task_is_left().await;
        });
    }
}
