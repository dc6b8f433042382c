//! Servers whose answers are well formed and wrong: a wrong answer is harmless, or it causes a gap.

use std::time::Duration;

use pgbell::testing::Script;
use pgbell::{ChannelState, ErrorKind, Event, Listening};

use super::super::attack::{hex, message};
use super::attacks::diagnostic;
use super::host::{Host, close, gap, paused_clock, payload, soon};
use super::peer::{OK, READY, note, rows};

const INTERVAL: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_secs(2);

/// The second session answers LISTEN with these bytes, and each new session does too, until the sixth.
#[test]
fn an_invalid_answer_to_listen_is_never_accepted() {
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
        paused_clock().block_on(async {
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
                            peer.read_listen().await;
                            peer.send(bytes).await;
                            peer.wait_for_end().await;
                        }
                        _ => peer.serve_listener().await,
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
            host.ends().await;
        });
    }
}

/// Sends these bytes before the first ReadyForQuery of the second session. The second login succeeds, or the third one does.
/// The first notification is `first`.
async fn check_login(before: Vec<u8>, sessions: usize, first: &str, what: &str) {
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
                        peer.read_listen().await;
                        peer.send([Script::ACK, &note("received")].concat()).await;
                        peer.serve().await;
                    }
                }
                _ => {
                    peer.listening().await;
                    peer.send(note("received")).await;
                    peer.serve().await;
                }
            }
        }
    })
    .await;
    let mut listener = host.builder().connect().await.unwrap();
    let gap = gap(&mut listener).await;
    assert_eq!((gap.sessions(), gap.attempts() as usize), (1, sessions - 1), "{what}");
    if first != "received" {
        assert_eq!(payload(&mut listener).await, first, "{what}");
    }
    assert_eq!(payload(&mut listener).await, "received", "{what}");
    assert_eq!(host.accepted().len(), sessions, "{what}");
    close(listener).await;
    host.ends().await;
}

#[test]
fn unexpected_messages_during_the_login_are_harmless_or_fail_the_attempt() {
    let status = |name: &str, value: &str| message(b'S', format!("{name}\0{value}\0").as_bytes());
    let utf8 = status("client_encoding", "UTF8");
    let key = hex("4b 0000000c 00000007 00000001");
    let (ok, ready) = (hex(OK), hex(READY));
    let with = |more: &[&[u8]]| [&ok[..], &utf8, &more.concat(), &key, &ready].concat();
    let long = "9".repeat(10_000);
    for version in ["13.0", "18.4", "0", "", "-1", "nonsense", "\u{202e}", "18.4\x1b[2J", &long] {
        let bytes = with(&[&status("server_version", version)]);
        paused_clock().block_on(check_login(
            bytes,
            2,
            "received",
            &format!("server_version {version:.20}"),
        ));
    }
    for (what, bytes, sessions, first) in [
        ("a notification", with(&[&note("too early")]), 2, "too early"),
        ("a notification of another channel", with(&[Script::A1]), 2, "b"),
        (
            "a parameter again and again",
            with(&[&status("TimeZone", "UTC").repeat(500)]),
            2,
            "received",
        ),
        ("the encoding twice", with(&[&utf8]), 2, "received"),
        (
            "the encoding, spelled otherwise",
            with(&[&status("client_encoding", "utf-8")]),
            2,
            "received",
        ),
        ("the key twice", with(&[&key]), 3, "received"),
        ("a notification before AuthenticationOk", note("too early"), 3, "received"),
        ("more notifications than are kept", with(&[&note("x").repeat(200_000)]), 3, "received"),
    ] {
        paused_clock().block_on(check_login(bytes, sessions, first, what));
    }
}

#[test]
fn unsolicited_messages_of_a_live_session_are_harmless() {
    let status = |name: &str, value: &str| message(b'S', format!("{name}\0{value}\0").as_bytes());
    let messages = [
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
    paused_clock().block_on(async {
        let bytes =
            [messages.concat(), note("1"), messages.concat().repeat(100), note("2")].concat();
        let host = Host::start(move |_, mut peer| {
            let bytes = bytes.clone();
            async move {
                peer.listening().await;
                peer.send(bytes).await;
                peer.serve().await;
            }
        })
        .await;
        let builder = host.builder().heartbeat(INTERVAL, TIMEOUT);
        let mut listener = builder.connect().await.unwrap();
        for expected in ["1", "2"] {
            assert_eq!(payload(&mut listener).await, expected);
        }
        tokio::time::sleep(INTERVAL * 10).await;
        assert_eq!((listener.stats().gaps, host.accepted().len()), (0, 1));
        close(listener).await;
        host.ends().await;
    });
}

/// A notification is delivered as the server sent it, with any sender and channel.
#[test]
fn n7_a_notification_of_an_unwanted_channel_is_delivered_as_it_was_sent() {
    paused_clock().block_on(async {
        let host = Host::start(|_, mut peer| async move {
            peer.listening().await;
            for process_id in ["00000000", "80000000", "ffffffff"] {
                let body = [&hex(process_id)[..], b"a\"; DROP\0\xc3\xa4\0"].concat();
                peer.send(message(b'A', &body)).await;
            }
            peer.send(note("mine")).await;
            peer.serve().await;
        })
        .await;
        let mut listener = host.builder().connect().await.unwrap();
        for process_id in [0, i32::MIN, -1] {
            let event = soon("an event", listener.recv()).await.unwrap();
            let Event::Notification(foreign) = event else { panic!("{event:?}") };
            assert_eq!((foreign.channel(), foreign.process_id()), ("a\"; DROP", process_id));
            assert_eq!(foreign.payload_bytes(), "ä".as_bytes());
        }
        assert_eq!(payload(&mut listener).await, "mine");
        close(listener).await;
        host.ends().await;
    });
}

/// This happens behind a pooler that begins a transaction for every statement of its client.
#[test]
fn a_listen_inside_a_transaction_of_a_pooler_is_not_active() {
    let inside = hex("5a 00000005 54");
    paused_clock().block_on(async {
        let host = Host::start(move |number, mut peer| {
            let inside = inside.clone();
            async move {
                if number > 1 {
                    peer.ready().await;
                    return peer.serve().await;
                }
                peer.listening().await;
                assert_eq!(peer.query().await.unwrap(), "LISTEN \"b\"");
                peer.send([message(b'C', b"LISTEN\0"), inside].concat()).await;
                assert_eq!(peer.query().await.unwrap(), "ROLLBACK");
                peer.send([note("held back"), message(b'C', b"ROLLBACK\0"), hex(READY)].concat())
                    .await;
                peer.wait_for_end().await;
            }
        })
        .await;
        let mut listener = host.builder().connect().await.unwrap();
        assert_eq!(listener.listen("b").await.unwrap(), Listening::Pending);
        assert_eq!(payload(&mut listener).await, "held back");
        let gap = gap(&mut listener).await;
        assert_eq!((gap.sessions(), gap.cause().kind()), (1, ErrorKind::Pooler), "{gap}");
        let active = listener.handle().channels().await.unwrap();
        assert!(
            active.iter().all(|(_, state)| matches!(state, ChannelState::Active)),
            "{active:?}"
        );
        close(listener).await;
        host.ends().await;
    });
}
