//! The start of a listener, from the first attempt until it is connected.

use super::*;

#[test]
fn the_first_session_listens_to_every_channel_before_the_listener_is_connected() {
    let policy = Policy { channels: vec!["b\"".into(), "a".into(), "a".into()], ..policy() };
    let mut driver = TestDriver::opened(policy);
    assert_eq!(driver.take_sent(), ["startup"]);
    assert_eq!(driver.supervisor.state(), State::Connecting);
    assert_eq!(driver.channels(), ["a Pending", "b\" Pending"]);
    driver.read(PRELUDE);
    assert_eq!(driver.take_sent(), [r#"LISTEN "a";LISTEN "b""""#]);
    assert_eq!(driver.supervisor.process_id(), Some(7));
    driver.read(&[LISTEN, A1, LISTEN].concat());
    assert_eq!(driver.take_log(), [""; 0]);
    driver.read(READY);
    assert_eq!(driver.take_log(), ["Connected"]);
    assert_eq!(driver.channels(), ["a Active", "b\" Active"]);
    assert_eq!(driver.take_queue(), ["1 notifications"]);
    assert_eq!(driver.supervisor.epoch(), 1);
    assert_eq!(driver.supervisor.poll_timeout(), None);
}

#[test]
fn a_listener_without_channels_is_connected_as_soon_as_the_server_is_ready() {
    let mut driver = TestDriver::opened(Policy { channels: Vec::new(), ..policy() });
    driver.read(PRELUDE);
    assert_eq!(driver.take_log(), ["Connected"]);
    assert_eq!(driver.take_sent(), ["startup"]);
}

#[test]
fn a_first_attempt_that_fails_ends_the_listener_with_its_error() {
    let end = |text: &str| ["close 1 Abort", "Closed", &format!("done: {text}")].map(str::to_owned);

    let mut driver = TestDriver::new(policy());
    driver.event(LinkEvent::Failed(Error::new(ErrorKind::Connect, "refused")));
    assert_eq!(driver.take_log(), end("connection: refused"));
    assert_eq!(driver.supervisor.poll_timeout(), None);

    let mut driver = TestDriver::new(policy());
    driver.pass(Duration::from_secs(9));
    assert_eq!(driver.take_log(), [""; 0]);
    driver.pass_until_due();
    assert_eq!(driver.take_log(), end("timeout: no connection within 10s"));

    let mut driver = TestDriver::opened(policy());
    driver.pass_until_due();
    let text = "timeout: the server did not complete authentication in time";
    assert_eq!(driver.take_log(), end(text));

    let mut driver = TestDriver::opened(policy());
    driver.event(LinkEvent::Eof);
    let text = "connection: the server closed the connection before it was ready";
    assert_eq!(driver.take_log(), end(text));

    let mut driver = TestDriver::opened(policy());
    driver.read(FATAL);
    let text = "server error: the server refused the connection: FATAL: no (SQLSTATE 57P01)";
    assert_eq!(driver.take_log(), end(text));

    let mut driver = TestDriver::opened(policy());
    driver.read(PRELUDE);
    driver.read(&[ERROR, READY].concat());
    assert_eq!(driver.take_log(), end(NOT_LISTENED));

    let mut driver = TestDriver::opened(policy());
    driver.read(PRELUDE);
    driver.pass_until_due();
    assert_eq!(driver.take_log(), end("timeout: the server did not answer LISTEN within 5s"));

    let mut driver = TestDriver::new(Policy { channels: vec!["x\0".into()], ..policy() });
    driver.event(LinkEvent::Opened(session(driver.now)));
    driver.read(PRELUDE);
    let text = "misuse: channel name has a NUL at byte 1";
    assert_eq!(driver.take_log(), end(text));
}

#[test]
fn commands_before_the_first_session_are_applied_by_it() {
    let mut driver = TestDriver::new(policy());
    driver.command(listen(&["b", "c"]));
    driver.command(unlisten(&["b"]));
    driver.event(LinkEvent::Opened(session(driver.now)));
    driver.command(listen(&["d"]));
    driver.command(listen(&["e", ""]));
    driver.command(listen(&[]));
    driver.command(query("SELECT 1"));
    assert_eq!(
        driver.take_log(),
        [
            "0: Pending",
            "1: Unlistened",
            "2: Pending",
            "3: misuse: channel name is empty: 1 to 63 bytes",
            "4: misuse: no channel was named",
            "5: connection: no session is up (hint: the listener reconnects by itself: try again when its \
             state is Connected)",
        ]
    );
    driver.read(PRELUDE);
    assert_eq!(driver.take_sent(), ["startup", r#"LISTEN "a";LISTEN "c";LISTEN "d""#]);
    driver.read(&[LISTEN, LISTEN, LISTEN, READY].concat());
    assert_eq!(driver.take_log(), ["Connected"]);
    assert_eq!(driver.channels(), ["a Active", "c Active", "d Active"]);

    let mut driver = TestDriver::opened(policy());
    driver.command(Command::UnlistenAll);
    driver.read(PRELUDE);
    assert_eq!(driver.take_log(), ["0: Unlistened", "Connected"]);
    assert_eq!(driver.take_sent(), ["startup"]);
}

#[test]
fn events_of_a_link_that_does_not_exist_are_ignored() {
    let mut driver = TestDriver::connected(policy());
    let current = std::mem::replace(&mut driver.link, LinkId(7));
    for event in [
        LinkEvent::Eof,
        LinkEvent::Closed,
        LinkEvent::Failed(Error::new(ErrorKind::Connect, "late")),
        LinkEvent::Opened(session(driver.now)),
    ] {
        driver.event(event);
    }
    driver.read(FATAL);
    assert!(driver.wire().input.is_empty());
    assert!(driver.supervisor.transmit(LinkId(7)).is_none());
    assert_eq!(driver.take_log(), [""; 0]);
    driver.link = current;
    driver.event(LinkEvent::Opened(session(driver.now)));
    assert_eq!(driver.take_sent(), [""; 0]);
    driver.read(A1);
    assert_eq!(driver.take_queue(), ["1 notifications"]);

    // After the end everything is ignored.
    driver.event(LinkEvent::Eof);
    driver.take_log();
    for event in [LinkEvent::Eof, LinkEvent::Opened(session(driver.now)), LinkEvent::Closed] {
        driver.event(event);
    }
    driver.read(A1);
    driver.pass(Duration::from_secs(100));
    driver.consume(1);
    assert_eq!(driver.take_log(), [""; 0]);
    assert_eq!(driver.take_queue(), [""; 0]);
}
