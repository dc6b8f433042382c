//! From the first attempt to the first subscription.

use super::*;

#[test]
fn the_first_session_subscribes_before_it_counts_as_connected() {
    let policy = Policy { channels: vec!["b\"".into(), "a".into(), "a".into()], ..policy() };
    let mut shell = Shell::opened(policy);
    assert_eq!(shell.take_sent(), ["startup"]);
    assert_eq!(shell.supervisor.state(), State::Connecting);
    assert_eq!(shell.channels(), ["a Pending", "b\" Pending"]);
    shell.read(PRELUDE);
    assert_eq!(shell.take_sent(), [r#"LISTEN "a";LISTEN "b""""#]);
    assert_eq!(shell.supervisor.process_id(), Some(7));
    shell.read(&[LISTEN, A1, LISTEN].concat());
    assert_eq!(shell.take_log(), [""; 0]);
    shell.read(READY);
    assert_eq!(shell.take_log(), ["Connected"]);
    assert_eq!(shell.channels(), ["a Active", "b\" Active"]);
    assert_eq!(shell.take_queue(), ["1 notifications"]);
    assert_eq!(shell.supervisor.epoch(), 1);
    assert_eq!(shell.supervisor.poll_timeout(), None);
}

#[test]
fn a_listener_without_channels_is_connected_as_soon_as_the_server_is_ready() {
    let mut shell = Shell::opened(Policy { channels: Vec::new(), ..policy() });
    shell.read(PRELUDE);
    assert_eq!(shell.take_log(), ["Connected"]);
    assert_eq!(shell.take_sent(), ["startup"]);
}

#[test]
fn a_first_attempt_that_fails_is_the_end_and_says_why() {
    let end = |text: &str| ["close 1 Abort", "Closed", &format!("done: {text}")].map(str::to_owned);

    let mut shell = Shell::new(policy());
    shell.event(LinkEvent::Failed(Error::new(ErrorKind::Connect, "refused")));
    assert_eq!(shell.take_log(), end("connection: refused"));
    assert_eq!(shell.supervisor.poll_timeout(), None);

    let mut shell = Shell::new(policy());
    shell.pass(Duration::from_secs(9));
    assert_eq!(shell.take_log(), [""; 0]);
    shell.pass_until_due();
    assert_eq!(shell.take_log(), end("timeout: no connection within 10s"));

    let mut shell = Shell::opened(policy());
    shell.pass_until_due();
    let text = "timeout: the server did not complete authentication in time";
    assert_eq!(shell.take_log(), end(text));

    let mut shell = Shell::opened(policy());
    shell.event(LinkEvent::Eof);
    let text = "connection: the server closed the connection before it was ready";
    assert_eq!(shell.take_log(), end(text));

    let mut shell = Shell::opened(policy());
    shell.read(FATAL);
    let text = "server error: the server refused the connection: FATAL: no (SQLSTATE 57P01)";
    assert_eq!(shell.take_log(), end(text));

    let mut shell = Shell::opened(policy());
    shell.read(PRELUDE);
    shell.read(&[ERROR, READY].concat());
    assert_eq!(shell.take_log(), end(NOT_LISTENED));

    let mut shell = Shell::opened(policy());
    shell.read(PRELUDE);
    shell.pass_until_due();
    assert_eq!(shell.take_log(), end("timeout: the server did not answer LISTEN within 5s"));

    let mut shell = Shell::new(Policy { channels: vec!["x\0".into()], ..policy() });
    shell.event(LinkEvent::Opened(session(shell.now)));
    shell.read(PRELUDE);
    let text = "misuse: channel name has a NUL at byte 1";
    assert_eq!(shell.take_log(), end(text));
}

#[test]
fn wishes_of_the_time_before_are_kept_and_subscribed_with_the_first() {
    let mut shell = Shell::new(policy());
    shell.command(listen(&["b", "c"]));
    shell.command(unlisten(&["b"]));
    shell.event(LinkEvent::Opened(session(shell.now)));
    shell.command(listen(&["d"]));
    shell.command(listen(&["e", ""]));
    shell.command(listen(&[]));
    shell.command(query("SELECT 1"));
    assert_eq!(
        shell.take_log(),
        [
            "0: Pending",
            "1: Unlistened",
            "2: Pending",
            "3: misuse: channel name is empty: 1 to 63 bytes",
            "4: misuse: no channel was named",
            "5: connection: no session is up (hint: the listener comes back by itself: ask again when its \
             state is Connected)",
        ]
    );
    shell.read(PRELUDE);
    assert_eq!(shell.take_sent(), ["startup", r#"LISTEN "a";LISTEN "c";LISTEN "d""#]);
    shell.read(&[LISTEN, LISTEN, LISTEN, READY].concat());
    assert_eq!(shell.take_log(), ["Connected"]);
    assert_eq!(shell.channels(), ["a Active", "c Active", "d Active"]);

    let mut shell = Shell::opened(policy());
    shell.command(Command::UnlistenAll);
    shell.read(PRELUDE);
    assert_eq!(shell.take_log(), ["0: Unlistened", "Connected"]);
    assert_eq!(shell.take_sent(), ["startup"]);
}

#[test]
fn events_of_a_link_that_is_gone_or_never_was_are_passed_over() {
    let mut shell = Shell::connected(policy());
    let current = std::mem::replace(&mut shell.link, LinkId(7));
    for event in [
        LinkEvent::Eof,
        LinkEvent::Closed,
        LinkEvent::Failed(Error::new(ErrorKind::Connect, "late")),
        LinkEvent::Opened(session(shell.now)),
    ] {
        shell.event(event);
    }
    shell.read(FATAL);
    assert!(shell.wire().input.is_empty());
    assert!(shell.supervisor.transmit(LinkId(7)).is_none());
    assert_eq!(shell.take_log(), [""; 0]);
    shell.link = current;
    shell.event(LinkEvent::Opened(session(shell.now)));
    assert_eq!(shell.take_sent(), [""; 0]);
    shell.read(A1);
    assert_eq!(shell.take_queue(), ["1 notifications"]);

    // After the end, everything is late.
    shell.event(LinkEvent::Eof);
    shell.take_log();
    for event in [LinkEvent::Eof, LinkEvent::Opened(session(shell.now)), LinkEvent::Closed] {
        shell.event(event);
    }
    shell.read(A1);
    shell.pass(Duration::from_secs(100));
    shell.consume(1);
    assert_eq!(shell.take_log(), [""; 0]);
    assert_eq!(shell.take_queue(), [""; 0]);
}
