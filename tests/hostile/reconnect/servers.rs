//! Servers that a listener may find when it reconnects: standbys, servers whose facts change, and a thousand other listeners
//! that reconnect too.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use pgbell::testing::Script;
use pgbell::{ErrorKind, Listener, State};
use tokio::time::Instant;

use super::super::attack::hex;
use super::attacks::diagnostic;
use super::host::{BACKOFF, Host, QUIET, close, gap, paused_clock, payload, soon};
use super::peer::{Peer, READY, note};

/// The answer to the query for the facts of the server, with `value` replaced by `other`, which has the same length.
fn facts(value: &[u8], other: &[u8]) -> Vec<u8> {
    let mut facts = Script::FACTS.to_vec();
    let at = facts.windows(value.len()).rposition(|part| part == value).unwrap();
    facts[at..at + value.len()].copy_from_slice(other);
    facts
}

/// What three attempts in a row find.
#[derive(Debug, Clone)]
enum Refusal {
    /// The server sends these facts.
    Facts(Vec<u8>),
    /// The server answers LISTEN with this.
    Answer(Vec<u8>),
}

async fn refuse(peer: &mut Peer, case: Refusal) {
    match case {
        Refusal::Facts(facts) => {
            peer.let_in().await;
            peer.query().await;
            peer.send(facts).await;
        }
        Refusal::Answer(answer) => {
            peer.ready().await;
            peer.read_listen().await;
            peer.send(answer).await;
        }
    }
    peer.wait_for_end().await;
}

/// R5 and similar: the server is up, and does not accept LISTEN now.
#[test]
fn r5_a_server_that_does_not_accept_listen_now_is_tried_again_and_no_channel_is_given_up() {
    let refusal = |code| [diagnostic(b'E', "ERROR", code), hex(READY)].concat();
    for (case, kind) in [
        (Refusal::Facts(facts(b"\x01f\0", b"\x01t\0")), ErrorKind::Standby),
        (Refusal::Answer(refusal("25006")), ErrorKind::Standby),
        (Refusal::Answer(refusal("57014")), ErrorKind::Server),
        (Refusal::Answer(refusal("55P03")), ErrorKind::Server),
        (Refusal::Answer(refusal("53200")), ErrorKind::Server),
    ] {
        paused_clock().block_on(async {
            let what = format!("{case:?}");
            let host = Host::start(move |number, mut peer| {
                let case = case.clone();
                async move {
                    match number {
                        1 => {
                            peer.listening().await;
                            tokio::time::sleep(Duration::from_millis(1)).await;
                        }
                        2..5 => refuse(&mut peer, case).await,
                        _ => peer.serve_listener().await,
                    }
                }
            })
            .await;
            let mut listener = host.builder().connect().await.unwrap();
            let gap = gap(&mut listener).await;
            assert_eq!((gap.attempts(), gap.refused().len()), (4, 0), "{what}");
            let error = listener.last_error().unwrap();
            assert_eq!(error.kind(), kind, "{what}: {error}");
            assert!(host.pauses().iter().all(|pause| *pause >= BACKOFF.0), "{what}");
            assert_eq!(host.accepted().len(), 5, "{what}");
            close(listener).await;
            host.ends().await;
        });
    }
}

/// R15: a server process id that differs from the key's shows that a pooler is between. Then a second session must prove
/// delivery. The notification never arrives, so no session becomes live.
#[test]
fn r15_a_listener_is_never_connected_to_a_server_that_drops_notifications() {
    paused_clock().block_on(async {
        let attempts = Arc::new(AtomicU32::new(0));
        let host = Host::start(move |number, mut peer: Peer| {
            let attempts = attempts.clone();
            async move {
                if number == 1 {
                    peer.listening().await;
                    return tokio::time::sleep(Duration::from_millis(1)).await;
                }
                peer.let_in().await;
                // Two kinds of connections: one queries the facts of the server, the other notifies, and its notification is
                // dropped.
                if matches!(peer.message().await, Some((b'Q', _))) {
                    let is_direct = attempts.fetch_add(1, Ordering::Relaxed) == 3;
                    let pid = if is_direct { b"\x017" } else { b"\x018" };
                    peer.send(facts(b"\x017", pid)).await;
                    let Some(query) = peer.query().await else { return };
                    assert_eq!(query.starts_with("LISTEN \"pgbell_"), !is_direct, "{query}");
                    peer.send(Script::ACK).await;
                    if is_direct {
                        return peer.serve().await;
                    }
                }
                peer.wait_for_end().await;
            }
        })
        .await;
        let mut listener = host.builder().connect().await.unwrap();
        let gap = gap(&mut listener).await;
        assert_eq!((gap.sessions(), gap.attempts()), (1, 4));
        let error = listener.last_error().unwrap();
        assert_eq!(error.kind(), ErrorKind::Pooler, "{error}");
        assert_eq!(host.accepted().len(), 1 + 3 * 2 + 1);
        close(listener).await;
        host.ends().await;
    });
}

/// R8.
#[test]
fn r8_two_hundred_listeners_reconnect_to_a_restarted_server_one_after_the_other() {
    paused_clock().block_on(async {
        let mut host = Host::start(|_, peer| peer.serve_listener()).await;
        let mut listeners = Vec::new();
        for _ in 0..200 {
            let builder = Listener::builder(&*host.url()).channels(["a"]).heartbeat(QUIET, QUIET);
            listeners.push(builder.connect().await.unwrap());
        }
        host.stop().await;
        tokio::time::sleep(Duration::from_secs(20)).await;
        host.start_again(|_, mut peer| async move {
            peer.listening().await;
            peer.send(note("back")).await;
            peer.serve().await;
        });
        let begin = Instant::now();
        for listener in &mut listeners {
            assert_eq!(gap(listener).await.sessions(), 1);
            assert_eq!(payload(listener).await, "back");
        }
        assert!(begin.elapsed() <= Duration::from_secs(31), "{:?}", begin.elapsed());
        let mut seconds = [0_u32; 32];
        for at in &host.accepted()[200..] {
            seconds[usize::try_from((*at - begin).as_secs()).unwrap()] += 1;
        }
        assert_eq!(seconds.iter().sum::<u32>(), 200);
        // Fifteen on average.
        assert!(*seconds.iter().max().unwrap() <= 50, "{seconds:?}");
        for listener in listeners {
            assert_eq!(listener.state(), State::Connected);
            soon("the end", listener.close()).await;
        }
        host.ends().await;
    });
}
