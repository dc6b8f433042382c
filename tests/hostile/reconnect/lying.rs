//! Servers whose answers are well formed and wrong: what they say does no harm, or it is a gap.

use std::time::Duration;

use pgbell::supervisor::PROOF_SQL;
use pgbell::testing::Script;
use pgbell::{ErrorKind, State};

use super::super::attack::{hex, message};
use super::super::client::check_text;
use super::attacks::diagnostic;
use super::host::{Host, close, gap, payload, soon, timeless};
use super::peer::{DIGEST, OK, READY, note, proof, rows};

const EVERY: Duration = Duration::from_secs(1);
const DEADLINE: Duration = Duration::from_secs(2);

/// What must come of a lie.
#[derive(Debug, Clone, Copy)]
enum Outcome {
    /// The session goes on, and what is sent arrives.
    Harmless,
    /// A gap with a cause of this kind, which says this.
    Gap(ErrorKind, &'static str),
}

use Outcome::{Gap, Harmless};

/// The first session answers every question for a proof with these bytes, the next ones as they should.
async fn proves(answer: Vec<u8>, expect: Outcome, what: &str) {
    let host = Host::start(move |number, mut peer| {
        let answer = answer.clone();
        async move {
            if number > 1 {
                return peer.behave().await;
            }
            peer.listening().await;
            let mut proofs = 0;
            while let Some(query) = peer.query().await {
                assert_eq!(query, PROOF_SQL);
                peer.send(&answer).await;
                proofs += 1;
                if proofs == 5 {
                    peer.send(note("still here")).await;
                }
            }
        }
    })
    .await;
    let builder = host.builder().heartbeat(EVERY, DEADLINE);
    let mut listener = builder.connect().await.unwrap();
    let begin = tokio::time::Instant::now();
    match expect {
        Harmless => {
            assert_eq!(payload(&mut listener).await, "still here", "{what}");
            assert_eq!((listener.stats().gaps, host.accepted().len()), (0, 1), "{what}");
        }
        Gap(kind, says) => {
            let gap = gap(&mut listener).await;
            // At the first proof.
            assert!(begin.elapsed() < EVERY + Duration::from_millis(100), "{what}");
            check_text(gap.cause());
            assert_eq!(gap.cause().kind(), kind, "{what}: {}", gap.cause());
            assert!(gap.cause().to_string().contains(says), "{what}: {}", gap.cause());
            // The next session is believed.
            tokio::time::sleep(EVERY * 10).await;
            assert_eq!(listener.state(), State::Connected, "{what}");
            assert_eq!(listener.stats().gaps, 1, "{what}");
            assert_eq!(host.accepted().len(), 2, "{what}");
        }
    }
    let stats = listener.stats();
    assert!((5..=12).contains(&stats.proofs), "{what}: {} proofs", stats.proofs);
    close(listener).await;
    host.is_left().await;
}

#[test]
fn a_proof_with_another_answer_than_the_right_one_is_a_gap() {
    let right: &[Option<&str>] = &[Some("1"), Some(DIGEST)];
    let wrong = "the session does not listen to its 1 channels: the server names";
    let pooler = Gap(ErrorKind::Pooler, wrong);
    let ready = hex(READY);
    let one = |count: Option<&str>, digest: Option<&str>| rows(2, &[&[count, digest]]);
    let md5_of_b = "92eb5ffee6ae2fec3ad71c777531578f";
    let tag = |tag: &str| [&message(b'C', format!("{tag}\0").as_bytes())[..], &ready].concat();
    let many: Vec<&[Option<&str>]> = vec![right; 100_000];
    let mut many_wrong = many.clone();
    many_wrong[0] = &[Some("0"), None];
    let lies: Vec<(&str, Vec<u8>, Outcome)> = vec![
        ("none", one(Some("0"), None), pooler),
        ("two", one(Some("2"), Some(DIGEST)), pooler),
        ("minus one", one(Some("-1"), Some(DIGEST)), pooler),
        ("no number", one(Some("x"), Some(DIGEST)), pooler),
        ("an empty number", one(Some(""), Some(DIGEST)), pooler),
        ("too large a number", one(Some("18446744073709551617"), Some(DIGEST)), pooler),
        ("NULL", one(None, Some(DIGEST)), pooler),
        ("another channel", one(Some("1"), Some(md5_of_b)), pooler),
        ("no digest", one(Some("1"), None), pooler),
        ("a digest and more", one(Some("1"), Some(&format!("{DIGEST}0"))), pooler),
        ("no row", rows(2, &[]), pooler),
        ("one column", rows(1, &[&[Some("1")]]), pooler),
        ("no column", rows(0, &[&[]]), pooler),
        ("no result", tag("LISTEN"), pooler),
        ("nothing to do", [hex("49 00000004"), ready.clone()].concat(), pooler),
        ("a wrong one and a right one", rows(2, &[&[Some("0"), None], right]), pooler),
        ("a wrong row and 99,999 right ones", rows(2, &many_wrong), pooler),
        // It says at least what it should.
        ("three columns", rows(3, &[&[Some("1"), Some(DIGEST), Some("x")]]), Harmless),
        ("two rows", rows(2, &[right, right]), Harmless),
        ("100,000 rows", rows(2, &many), Harmless),
        ("with notices", [diagnostic(b'N', "NOTICE", "00000"), proof()].concat(), Harmless),
        // A role may be refused the question, or a limit of time may cut it off: the server is there at least.
        ("refused", [diagnostic(b'E', "ERROR", "42501"), ready.clone()].concat(), Harmless),
        (
            "no answer but readiness",
            ready.clone(),
            Gap(ErrorKind::Protocol, "ReadyForQuery came before the answer"),
        ),
        (
            "twice",
            [proof(), proof()].concat(),
            Gap(ErrorKind::Protocol, "does not belong to an idle session"),
        ),
        (
            "another row than its description",
            [&rows(2, &[])[..], &message(b'D', b"\0\0")].concat(),
            Gap(ErrorKind::Protocol, "does not belong to an idle session"),
        ),
    ];
    for (what, answer, expect) in lies {
        timeless().block_on(proves(answer, expect, what));
    }
}

/// A proof that is wrong in every session is a gap for each, no more often than proofs are asked for.
#[test]
fn a_server_that_never_proves_anything_is_come_back_to_no_more_often_than_it_is_asked() {
    timeless().block_on(async {
        let host = Host::start(|_, mut peer| async move {
            peer.listening().await;
            while peer.query().await.is_some() {
                peer.send(rows(2, &[&[Some("0"), None]])).await;
            }
        })
        .await;
        let builder = host.builder().heartbeat(EVERY, DEADLINE);
        let mut listener = builder.connect().await.unwrap();
        for _ in 0..200 {
            assert_eq!(gap(&mut listener).await.sessions(), 1);
        }
        assert!(host.pauses().iter().all(|pause| *pause >= EVERY), "{:?}", host.pauses());
        close(listener).await;
        host.is_left().await;
    });
}

/// The second session answers LISTEN with these bytes, over and over in new sessions, until the sixth.
#[test]
fn an_answer_to_listen_that_is_none_is_never_taken_for_one() {
    let tag = |tag: &str| message(b'C', format!("{tag}\0").as_bytes());
    let ready = hex(READY);
    for answer in [
        tag("SELECT 1"),
        tag("UNLISTEN"),
        tag("listen"),
        tag(""),
        tag("NOTIFY"),
        hex("49 00000004"),
        Vec::new(),
        rows(1, &[]),
        [tag("LISTEN"), tag("LISTEN")].concat(),
    ] {
        let what = answer.escape_ascii().to_string();
        let bytes = [answer, ready.clone()].concat();
        timeless().block_on(async {
            let host = Host::start(move |number, mut peer| {
                let bytes = bytes.clone();
                async move {
                    match number {
                        1 => {
                            peer.listening().await;
                            tokio::time::sleep(Duration::from_millis(1)).await;
                        }
                        2..6 => {
                            peer.ready().await;
                            peer.subscribes().await;
                            peer.send(bytes).await;
                            peer.leaves().await;
                        }
                        _ => peer.behave().await,
                    }
                }
            })
            .await;
            let mut listener = host.builder().connect().await.unwrap();
            let gap = gap(&mut listener).await;
            assert_eq!((gap.sessions(), gap.attempts()), (5, 5), "{what}");
            assert_eq!(gap.cause().kind(), ErrorKind::Connect, "{what}");
            let last = listener.last_error().unwrap();
            assert_eq!(last.kind(), ErrorKind::Protocol, "{what}: {last}");
            assert!(last.to_string().contains("LISTEN"), "{what}: {last}");
            close(listener).await;
            host.is_left().await;
        });
    }
}

/// Bytes before the first ReadyForQuery of the second session: it is let in, or the third one is.
async fn logs_in(before: Vec<u8>, sessions: usize, what: &str) {
    let host = Host::start(move |number, mut peer| {
        let before = before.clone();
        async move {
            match number {
                1 => {
                    peer.listening().await;
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                2 => {
                    peer.packet().await;
                    peer.send(before).await;
                    if peer.query().await.is_some() {
                        peer.send(Script::FACTS).await;
                        peer.subscribes().await;
                        peer.send([Script::ACK, &note("heard")].concat()).await;
                        peer.serve().await;
                    }
                }
                _ => {
                    peer.listening().await;
                    peer.send(note("heard")).await;
                    peer.serve().await;
                }
            }
        }
    })
    .await;
    let mut listener = host.builder().connect().await.unwrap();
    let gap = gap(&mut listener).await;
    assert_eq!((gap.sessions(), gap.attempts() as usize), (1, sessions - 1), "{what}");
    assert_eq!(payload(&mut listener).await, "heard", "{what}");
    assert_eq!(host.accepted().len(), sessions, "{what}");
    close(listener).await;
    host.is_left().await;
}

#[test]
fn what_a_server_says_of_itself_while_it_lets_us_in_is_harmless_or_a_failed_attempt() {
    let status = |name: &str, value: &str| message(b'S', format!("{name}\0{value}\0").as_bytes());
    let utf8 = status("client_encoding", "UTF8");
    let key = hex("4b 0000000c 00000007 00000001");
    let (ok, ready) = (hex(OK), hex(READY));
    let with = |more: &[&[u8]]| [&ok[..], &utf8, &more.concat(), &key, &ready].concat();
    let long = "9".repeat(10_000);
    for version in ["13.0", "18.4", "0", "", "-1", "nonsense", "\u{202e}", "18.4\x1b[2J", &long] {
        let bytes = with(&[&status("server_version", version)]);
        timeless().block_on(logs_in(bytes, 2, &format!("server_version {version:.20}")));
    }
    for (what, bytes, sessions) in [
        ("a notification", with(&[&note("too early")]), 2),
        ("a notification of another channel", with(&[Script::A1]), 2),
        ("a parameter again and again", with(&[&status("TimeZone", "UTC").repeat(500)]), 2),
        ("the encoding twice", with(&[&utf8]), 2),
        ("the encoding, spelled otherwise", with(&[&status("client_encoding", "utf-8")]), 2),
        ("the key twice", with(&[&key]), 3),
        ("a notification before it has authenticated us", note("too early"), 3),
        ("more notifications than a startup may have", with(&[&note("x").repeat(200_000)]), 2),
    ] {
        timeless().block_on(logs_in(bytes, sessions, what));
    }
}

#[test]
fn what_a_live_session_says_unasked_does_no_harm() {
    let status = |name: &str, value: &str| message(b'S', format!("{name}\0{value}\0").as_bytes());
    let said = [
        status("application_name", "x\u{202e}"),
        status("server_version", "13.0"),
        status("server_version", "nonsense"),
        status("client_encoding", "UTF8"),
        status("client_encoding", "unicode"),
        status("in_hot_standby", "on"),
        status("default_transaction_read_only", "on"),
        status("is_superuser", "on"),
        diagnostic(b'N', "WARNING", "01000"),
        diagnostic(b'N', "WARNING", "57P01"),
        diagnostic(b'N', "PANIC", "XX000"),
    ];
    timeless().block_on(async {
        let bytes = [said.concat(), note("1"), said.concat().repeat(100), note("2")].concat();
        let host = Host::start(move |_, mut peer| {
            let bytes = bytes.clone();
            async move {
                peer.listening().await;
                peer.send(bytes).await;
                peer.serve().await;
            }
        })
        .await;
        let builder = host.builder().heartbeat(EVERY, DEADLINE);
        let mut listener = builder.connect().await.unwrap();
        for expected in ["1", "2"] {
            assert_eq!(payload(&mut listener).await, expected);
        }
        tokio::time::sleep(EVERY * 10).await;
        assert_eq!((listener.stats().gaps, host.accepted().len()), (0, 1));
        close(listener).await;
        host.is_left().await;
    });
}

/// It is the server's word: what it sends is shown as it came.
#[test]
fn a_notification_of_a_channel_that_nobody_asked_for_is_shown_as_what_it_is() {
    timeless().block_on(async {
        let host = Host::start(|_, mut peer| async move {
            peer.listening().await;
            let foreign = message(b'A', b"\xff\xff\xff\xffa\"; DROP\0x\0");
            peer.send([&foreign[..], &note("mine")].concat()).await;
            peer.serve().await;
        })
        .await;
        let mut listener = host.builder().connect().await.unwrap();
        let event = soon("an event", listener.recv()).await.unwrap();
        let pgbell::Event::Notification(foreign) = event else { panic!("{event:?}") };
        assert_eq!((foreign.channel(), foreign.process_id()), ("a\"; DROP", -1));
        assert_eq!(payload(&mut listener).await, "mine");
        close(listener).await;
        host.is_left().await;
    });
}
