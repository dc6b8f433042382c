//! Servers that prove something else than that the session listens to what it should.

use std::time::Duration;

use pgbell::{ErrorKind, State};

use super::super::attack::{hex, message};
use super::super::client::check_text;
use super::attacks::diagnostic;
use super::host::{Host, close, gap, payload, timeless};
use super::peer::{DIGEST, READY, note, proof, rows};
use crate::queries::{HEARTBEAT_ANSWER_SQL, HEARTBEAT_COUNT_SQL, HEARTBEAT_SQL};

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
    let is_refused = what == "refused";
    let host = Host::start(move |number, mut peer| {
        let answer = answer.clone();
        async move {
            if number > 1 {
                return peer.behave().await;
            }
            peer.listening().await;
            let mut proofs = 0;
            while let Some(query) = peer.query().await {
                // Who refuses one is asked for something easier.
                let is_easier =
                    [HEARTBEAT_COUNT_SQL, HEARTBEAT_ANSWER_SQL].contains(&query.as_str());
                assert!(query == HEARTBEAT_SQL || is_refused && is_easier, "{query}");
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
            // Who does not say what he listens to is known for it.
            assert_eq!(listener.stats().heartbeats_refused > 0, what == "refused", "{what}");
        }
        Gap(kind, says) => {
            let gap = gap(&mut listener).await;
            // At the first proof.
            assert!(begin.elapsed() < EVERY + Duration::from_millis(100), "{what}");
            check_text(gap.cause());
            assert_eq!(gap.cause().kind(), kind, "{what}: {:#}", gap.cause());
            assert!(format!("{:#}", gap.cause()).contains(says), "{what}: {:#}", gap.cause());
            // The next session is believed.
            tokio::time::sleep(EVERY * 10).await;
            assert_eq!(listener.state(), State::Connected, "{what}");
            assert_eq!(listener.stats().gaps, 1, "{what}");
            assert_eq!(host.accepted().len(), 2, "{what}");
        }
    }
    let stats = listener.stats();
    assert!((5..=12).contains(&stats.heartbeats), "{what}: {} proofs", stats.heartbeats);
    close(listener).await;
    host.ends().await;
}

#[test]
fn a_proof_with_another_answer_than_the_right_one_is_a_gap() {
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
    let lies: Vec<(&str, Vec<u8>, Outcome)> = vec![
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
        // It says at least what it should.
        ("three columns", rows(3, &[&[Some("1"), Some(DIGEST), Some("x")]]), Harmless),
        ("two rows", rows(2, &[right, right]), Harmless),
        ("100,000 rows", rows(2, &many), endless),
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
        host.ends().await;
    });
}
