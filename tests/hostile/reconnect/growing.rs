//! Texts of the greatest length, in every place where some of them are kept.

use std::time::Duration;

use pgbell::testing::Script;
use pgbell::{Listener, State};

use super::super::attack::{hex, message};
use super::host::{BACKOFF, Host, close, gap, paused_clock, payload, soon};
use super::peer::{READY, note, rows};
use crate::queries::HEARTBEAT_SQL;

/// The documented memory limit of a listener with the default settings whose server sends messages longer than a buffer, and
/// the memory of the test itself.
const MEMORY: usize = (32 + 16) * 1024 * 1024;

/// A diagnostic of the greatest allowed length.
fn longest(severity: &str, code: &str) -> Vec<u8> {
    let begin = format!("S{severity}\0V{severity}\0C{code}\0M");
    let text = vec![b'x'; 1024 * 1024 - 4 - begin.len() - 2];
    message(b'E', &[begin.as_bytes(), &text, b"\0\0"].concat())
}

fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 4_096
}

#[test]
fn repeated_fatal_errors_with_long_texts_take_no_memory_for_each() {
    paused_clock().block_on(async {
        let host = Host::start(|number, mut peer| async move {
            if number > 200 {
                return peer.serve_listener().await;
            }
            peer.listening().await;
            tokio::time::sleep(Duration::from_millis(1)).await;
            peer.send(note("x")).await;
            peer.send(longest("FATAL", "57P01")).await;
        })
        .await;
        let before = resident();
        let mut listener = host.builder().connect().await.unwrap();
        soon("the last session", async {
            while host.accepted().len() <= 200 || listener.state() != State::Connected {
                tokio::time::sleep(BACKOFF.0).await;
            }
        })
        .await;
        let grown = resident().saturating_sub(before);
        assert!(grown < MEMORY, "{grown} bytes");
        assert_eq!(payload(&mut listener).await, "x");
        assert_eq!(gap(&mut listener).await.sessions(), 1);
        close(listener).await;
        host.ends().await;
    });
}

#[test]
fn refusals_of_channels_with_long_texts_take_no_memory_for_each() {
    paused_clock().block_on(async {
        let host = Host::start(|number, mut peer| async move {
            peer.ready().await;
            while let Some(query) = peer.query().await {
                if number == 1 {
                    let count = query.matches("LISTEN ").count();
                    let complete = message(b'C', b"LISTEN\0").repeat(count);
                    peer.send([complete, hex(READY)].concat()).await;
                    if query.contains("a199") {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                        return;
                    }
                } else {
                    peer.send([longest("ERROR", "42501"), hex(READY)].concat()).await;
                }
            }
        })
        .await;
        let before = resident();
        let channels = (0..200).map(|n| format!("a{n:03}"));
        let builder = Listener::builder(&*host.url()).channels(channels);
        let mut listener = builder.backoff(BACKOFF.0, BACKOFF.1).connect().await.unwrap();
        let gap = gap(&mut listener).await;
        assert_eq!(gap.refused().len(), 200);
        let grown = resident().saturating_sub(before);
        assert!(grown < MEMORY, "{grown} bytes");
        close(listener).await;
        host.ends().await;
    });
}

#[test]
fn a_heartbeat_answer_of_the_greatest_length_takes_no_memory() {
    paused_clock().block_on(async {
        let value = "x".repeat(1024 * 512);
        let row: &[Option<&str>] = &[Some("1"), Some(&value)];
        let mut answer = rows(2, &vec![row; 120]);
        // Without the end of the message: all of it is buffered.
        answer.truncate(answer.len() - Script::ACK.len());
        let answer = std::sync::Arc::new(answer);
        let before = resident();
        let host = Host::start(move |_, mut peer| {
            let answer = answer.clone();
            async move {
                peer.listening().await;
                while let Some(query) = peer.query().await {
                    assert_eq!(query, HEARTBEAT_SQL);
                    peer.send(&answer[..]).await;
                    peer.wait_for_end().await;
                }
            }
        })
        .await;
        let builder = host.builder().heartbeat(Duration::from_secs(1), Duration::from_secs(30));
        let listener = builder.connect().await.unwrap();
        tokio::time::sleep(Duration::from_secs(10)).await;
        let grown = resident().saturating_sub(before);
        assert!(grown < MEMORY, "{grown} bytes");
        close(listener).await;
        host.ends().await;
    });
}

/// Each of the gaps names all refused channels.
#[test]
fn many_refused_channels_take_no_memory_for_each_gap_that_names_them() {
    paused_clock().block_on(async {
        let host = Host::start(|number, mut peer| async move {
            peer.ready().await;
            let mut listened = 0;
            while let Some(query) = peer.query().await {
                let count = query.matches("LISTEN ").count();
                listened += count;
                match number {
                    1 => {
                        let complete = message(b'C', b"LISTEN\0").repeat(count);
                        peer.send([complete, hex(READY)].concat()).await;
                        if listened == 20_000 {
                            tokio::time::sleep(Duration::from_millis(1)).await;
                            return;
                        }
                    }
                    2..70 => {
                        peer.send(note("x")).await;
                        tokio::time::sleep(Duration::from_millis(1)).await;
                        return;
                    }
                    _ => {
                        let refused = super::attacks::diagnostic(b'E', "ERROR", "42501");
                        peer.send([refused, hex(READY)].concat()).await;
                    }
                }
            }
        })
        .await;
        let channels = (0..20_000).map(|n| format!("a{n:05}"));
        let builder = Listener::builder(&*host.url()).channels(channels);
        let mut listener = builder.backoff(BACKOFF.0, BACKOFF.1).connect().await.unwrap();
        let before = resident();
        let first = gap(&mut listener).await;
        assert_eq!(first.refused().len(), 20_000);
        let grown = resident().saturating_sub(before);
        assert!(grown < MEMORY, "{grown} bytes");
        close(listener).await;
        host.ends().await;
    });
}
