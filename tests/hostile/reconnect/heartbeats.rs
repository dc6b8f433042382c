//! Servers whose answers to heartbeats do not show that the session listens to its channels.

use std::time::Duration;

use pgbell::{ErrorKind, State};

use super::super::attack::{hex, message};
use super::super::client::check_text;
use super::attacks::diagnostic;
use super::host::{Host, close, gap, paused_clock, payload};
use super::peer::{DIGEST, READY, heartbeat_answer, note, rows};
use crate::queries::{HEARTBEAT_ANSWER_SQL, HEARTBEAT_COUNT_SQL, HEARTBEAT_SQL};

const INTERVAL: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_secs(2);

/// The expected outcome of a false answer.
#[derive(Debug, Clone, Copy)]
enum Expected {
    /// The session continues, and a notification arrives.
    Harmless,
    /// A gap with a cause of this kind, whose text contains this.
    Gap(ErrorKind, &'static str),
}

use Expected::{Gap, Harmless};

/// The first session answers every heartbeat query with these bytes, the next ones with the valid answer.
async fn check_answer(answer: Vec<u8>, expect: Expected, what: &str) {
    let is_refused = what == "refused";
    let host = Host::start(move |number, mut peer| {
        let answer = answer.clone();
        async move {
            if number > 1 {
                return peer.serve_listener().await;
            }
            peer.listening().await;
            let mut heartbeats = 0;
            while let Some(query) = peer.query().await {
                // A session that refuses the query gets a simpler one.
                let is_easier =
                    [HEARTBEAT_COUNT_SQL, HEARTBEAT_ANSWER_SQL].contains(&query.as_str());
                assert!(query == HEARTBEAT_SQL || is_refused && is_easier, "{query}");
                peer.send(&answer).await;
                heartbeats += 1;
                if heartbeats == 5 {
                    peer.send(note("after the heartbeats")).await;
                }
            }
        }
    })
    .await;
    let builder = host.builder().heartbeat(INTERVAL, TIMEOUT);
    let mut listener = builder.connect().await.unwrap();
    let begin = tokio::time::Instant::now();
    match expect {
        Harmless => {
            assert_eq!(payload(&mut listener).await, "after the heartbeats", "{what}");
            assert_eq!((listener.stats().gaps, host.accepted().len()), (0, 1), "{what}");
            // A refused query is counted.
            assert_eq!(listener.stats().heartbeats_refused > 0, what == "refused", "{what}");
        }
        Gap(kind, text) => {
            let gap = gap(&mut listener).await;
            // At the first heartbeat.
            assert!(begin.elapsed() < INTERVAL + Duration::from_millis(100), "{what}");
            check_text(gap.cause());
            assert_eq!(gap.cause().kind(), kind, "{what}: {:#}", gap.cause());
            assert!(format!("{:#}", gap.cause()).contains(text), "{what}: {:#}", gap.cause());
            // The next session is accepted.
            tokio::time::sleep(INTERVAL * 10).await;
            assert_eq!(listener.state(), State::Connected, "{what}");
            assert_eq!(listener.stats().gaps, 1, "{what}");
            assert_eq!(host.accepted().len(), 2, "{what}");
        }
    }
    let stats = listener.stats();
    assert!((5..=12).contains(&stats.heartbeats), "{what}: {} heartbeats", stats.heartbeats);
    close(listener).await;
    host.ends().await;
}

#[test]
fn a_wrong_answer_to_a_heartbeat_is_a_gap() {
    let right: &[Option<&str>] = &[Some("1"), Some(DIGEST)];
    let wrong = "the session does not listen to its 1 channels: the server names";
    let pooler = Gap(ErrorKind::Pooler, wrong);
    let long = Gap(ErrorKind::Pooler, "larger than 4096 bytes");
    let endless = Gap(ErrorKind::Protocol, "more rows than this statement can return");
    let long_number = "1".repeat(5_000);
    let ready = hex(READY);
    let one = |count: Option<&str>, digest: Option<&str>| rows(2, &[&[count, digest]]);
    let digest_of_b = "3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d";
    let tag = |tag: &str| [&message(b'C', format!("{tag}\0").as_bytes())[..], &ready].concat();
    let many: Vec<&[Option<&str>]> = vec![right; 100_000];
    let mut many_wrong = many.clone();
    many_wrong[0] = &[Some("0"), None];
    let cases: Vec<(&str, Vec<u8>, Expected)> = vec![
        ("none", one(Some("0"), None), pooler),
        ("two", one(Some("2"), Some(DIGEST)), pooler),
        ("minus one", one(Some("-1"), Some(DIGEST)), pooler),
        ("no number", one(Some("x"), Some(DIGEST)), pooler),
        ("an empty number", one(Some(""), Some(DIGEST)), pooler),
        ("too large a number", one(Some("18446744073709551617"), Some(DIGEST)), pooler),
        ("NULL", one(None, Some(DIGEST)), pooler),
        ("another channel", one(Some("1"), Some(digest_of_b)), pooler),
        ("no digest", one(Some("1"), None), pooler),
        ("a digest and more", one(Some("1"), Some(&format!("{DIGEST}0"))), pooler),
        ("no row", rows(2, &[]), pooler),
        ("one column", rows(1, &[&[Some("1")]]), pooler),
        ("no column", rows(0, &[&[]]), pooler),
        ("no result", tag("LISTEN"), pooler),
        ("nothing to do", [hex("49 00000004"), ready.clone()].concat(), pooler),
        ("a wrong one and a right one", rows(2, &[&[Some("0"), None], right]), pooler),
        ("a long number", one(Some(&long_number), None), long),
        ("a wrong row and 99,999 right ones", rows(2, &many_wrong), endless),
        // The answer contains at least what it must.
        ("three columns", rows(3, &[&[Some("1"), Some(DIGEST), Some("x")]]), Harmless),
        ("two rows", rows(2, &[right, right]), Harmless),
        ("100,000 rows", rows(2, &many), endless),
        (
            "with notices",
            [diagnostic(b'N', "NOTICE", "00000"), heartbeat_answer()].concat(),
            Harmless,
        ),
        // A role may not be allowed to run the query, or a timeout may cancel it: at least the server is alive.
        ("refused", [diagnostic(b'E', "ERROR", "42501"), ready.clone()].concat(), Harmless),
        (
            "no answer but readiness",
            ready.clone(),
            Gap(ErrorKind::Protocol, "ReadyForQuery came before the answer"),
        ),
        (
            "twice",
            [heartbeat_answer(), heartbeat_answer()].concat(),
            Gap(ErrorKind::Protocol, "does not belong to an idle session"),
        ),
        (
            "another row than its description",
            [&rows(2, &[])[..], &message(b'D', b"\0\0")].concat(),
            Gap(ErrorKind::Protocol, "does not belong to an idle session"),
        ),
    ];
    for (what, answer, expect) in cases {
        paused_clock().block_on(check_answer(answer, expect, what));
    }
}

/// An answer that is wrong in every session is one gap per heartbeat, and no more.
#[test]
fn a_listener_reconnects_no_more_often_than_its_heartbeat_if_every_answer_is_wrong() {
    paused_clock().block_on(async {
        let host = Host::start(|_, mut peer| async move {
            peer.listening().await;
            while peer.query().await.is_some() {
                peer.send(rows(2, &[&[Some("0"), None]])).await;
            }
        })
        .await;
        let builder = host.builder().heartbeat(INTERVAL, TIMEOUT);
        let mut listener = builder.connect().await.unwrap();
        for _ in 0..200 {
            assert_eq!(gap(&mut listener).await.sessions(), 1);
        }
        assert!(host.pauses().iter().all(|pause| *pause >= INTERVAL), "{:?}", host.pauses());
        close(listener).await;
        host.ends().await;
    });
}
