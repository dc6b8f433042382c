//! A full queue. It has four slots.

use super::*;

fn second() -> Duration {
    Duration::from_secs(1)
}

#[test]
fn a_full_queue_stalls_the_socket_until_there_is_room() {
    let mut driver = TestDriver::connected(policy());
    driver.read(&A1.repeat(6));
    assert_eq!(driver.take_log(), ["read 1 false"]);
    assert_eq!(driver.take_queue(), ["4 notifications"]);
    assert_eq!(driver.wire().input, A1.repeat(2));
    assert_eq!(driver.supervisor.counters().stalls, 1);
    // More may have been read already.
    driver.read(A1);
    assert_eq!(driver.take_queue(), [""; 0]);
    driver.pass(second() / 2);
    driver.consume(3);
    assert_eq!(driver.take_log(), ["read 1 true"]);
    assert_eq!(driver.take_queue(), ["2 notifications", "1 notifications"]);
    assert!(driver.wire().input.is_empty());
    assert_eq!((driver.supervisor.sink.lost, driver.supervisor.counters().received), (0, 7));
    assert_eq!(driver.supervisor.poll_timeout(), None);
}

/// A consumer of single notifications makes room for one at a time. An earlier version measured the rest of the run each time,
/// which took twenty times as long for 40,000 notifications.
#[test]
fn a_run_that_waits_for_room_is_not_measured_again() {
    let mut driver = TestDriver::connected(policy());
    driver.read(&A1.repeat(6));
    driver.read(&A1.repeat(3));
    assert_eq!(driver.take_queue(), ["4 notifications"]);
    driver.consume(1);
    assert_eq!(driver.take_queue(), ["1 notifications"]);
    // The rest of the six is one run, and what arrived later is another.
    driver.consume(4);
    assert_eq!(driver.take_queue(), ["1 notifications", "3 notifications"]);
    assert_eq!((driver.supervisor.sink.taken, driver.supervisor.sink.lost), (9, 0));
}

#[test]
fn after_a_stall_has_timed_out_the_next_one_begins_only_when_the_queue_was_empty() {
    let mut driver = TestDriver::connected(policy());
    driver.read(&A1.repeat(6));
    driver.take_queue();
    driver.pass(second() - Duration::from_nanos(1));
    assert_eq!(driver.take_log(), ["read 1 false"]);
    driver.pass_until_due();
    assert_eq!(driver.take_log(), ["read 1 true"]);
    assert_eq!(driver.take_queue(), ["2 notifications were dropped: the queue was full"]);
    // With some room there is no new stall.
    driver.consume(1);
    driver.read(&A1.repeat(3));
    assert_eq!(driver.take_log(), [""; 0]);
    assert_eq!(
        driver.take_queue(),
        ["1 notifications", "2 notifications were dropped: the queue was full"]
    );
    driver.consume(4);
    driver.read(&A1.repeat(5));
    assert_eq!(driver.take_log(), ["read 1 false"]);
    assert_eq!(driver.take_queue(), ["4 notifications"]);
    assert_eq!(driver.supervisor.counters().stalls, 2);
}

#[test]
fn short_stalls_use_up_one_budget() {
    let mut driver = TestDriver::connected(policy());
    driver.read(&A1.repeat(8));
    for _ in 0..3 {
        driver.pass(second() * 3 / 10);
        driver.consume(1);
    }
    // Nine tenths are used, and one of eight notifications is still unread.
    assert_eq!(
        driver.take_log(),
        [
            "read 1 false",
            "read 1 true",
            "read 1 false",
            "read 1 true",
            "read 1 false",
            "read 1 true",
            "read 1 false",
        ]
    );
    let due = driver.supervisor.poll_timeout().unwrap();
    assert_eq!(due, driver.now + second() / 10);
    driver.pass_until_due();
    assert_eq!(driver.supervisor.sink.lost, 1);
}

#[test]
fn dropping_never_stalls() {
    for overflow in [Overflow::DropNewest, Overflow::Block { max_stall: Duration::ZERO }] {
        let mut driver = TestDriver::connected(Policy { overflow, ..policy() });
        driver.read(&A1.repeat(6));
        assert_eq!(driver.take_log(), [""; 0]);
        assert_eq!(
            driver.take_queue(),
            ["4 notifications", "2 notifications were dropped: the queue was full"]
        );
    }
}

#[test]
fn a_stall_without_limit_waits_for_room_alone() {
    let overflow = Overflow::Block { max_stall: Duration::MAX };
    let mut driver = TestDriver::connected(Policy { overflow, ..policy() });
    driver.read(&A1.repeat(6));
    driver.pass(Duration::from_secs(1_000_000));
    assert_eq!(driver.take_log(), ["read 1 false"]);
    driver.consume(4);
    assert_eq!(driver.take_log(), ["read 1 true"]);
    assert_eq!(driver.supervisor.sink.lost, 0);
}

#[test]
fn a_command_during_a_stall_reads_on_beyond_the_limit_until_it_is_answered() {
    let mut driver = TestDriver::connected(policy());
    driver.read(&A1.repeat(6));
    driver.take_queue();
    driver.command(listen(&["b"]));
    assert_eq!(driver.take_log(), ["read 1 false", "read 1 true"]);
    assert_eq!(driver.take_queue(), ["2 notifications"]);
    driver.read(&[&A1.repeat(3)[..], LISTEN, A1, READY].concat());
    assert_eq!(driver.take_log(), ["0: Active"]);
    assert_eq!(driver.take_queue(), ["3 notifications", "1 notifications"]);
    // From here on the limit applies again.
    driver.read(A1);
    assert_eq!(driver.take_log(), ["read 1 false"]);
    assert_eq!(driver.supervisor.sink.lost, 0);
}

#[test]
fn answers_behind_a_stall_are_in_time() {
    let mut driver = TestDriver::connected(policy());
    driver.command(listen(&["b"]));
    driver.read(&[&A1.repeat(6)[..], LISTEN, READY, A1].concat());
    assert_eq!(driver.take_log(), ["0: Active", "read 1 false"]);
    driver.pass(second() / 2);
    driver.consume(7);
    assert_eq!(driver.take_log(), ["read 1 true"]);
    assert_eq!((driver.supervisor.sink.taken, driver.supervisor.sink.lost), (7, 0));
}

#[test]
fn a_link_that_breaks_during_a_stall_leaves_no_deadline_behind() {
    let mut driver = TestDriver::connected(policy());
    driver.read(&A1.repeat(6));
    driver.event(LinkEvent::Failed(Error::new(ErrorKind::Connect, "broken")));
    assert_eq!(
        driver.take_log(),
        ["read 1 false", "read 1 true", "close 1 Abort", "Closed", "done: connection: broken"]
    );
    assert_eq!(driver.supervisor.poll_timeout(), None);
    driver.consume(4);
    driver.pass(second());
    assert_eq!(driver.take_log(), [""; 0]);
}

/// The budget is restored when the queue is empty, even if nothing overflows then.
#[test]
fn a_consumer_that_has_emptied_the_queue_gets_the_whole_budget_again() {
    let mut driver = TestDriver::connected(policy());
    driver.read(&A1.repeat(6));
    driver.pass_until_due();
    assert_eq!((driver.supervisor.sink.lost, driver.supervisor.counters().stalls), (2, 1));
    driver.consume(4);
    driver.take_log();
    for _ in 0..5 {
        driver.read(A1);
    }
    assert_eq!(driver.take_log(), ["read 1 false"]);
    assert_eq!((driver.supervisor.sink.lost, driver.supervisor.counters().stalls), (2, 2));
}

/// The command is sent because of an answer that was read together with the notifications behind it.
#[test]
fn a_command_that_waited_for_a_query_does_not_wait_for_the_consumer() {
    let mut driver = TestDriver::connected(policy());
    driver.command(query("SELECT 1"));
    driver.command(listen(&["b"]));
    driver.read(&[SELECT, READY, &A1.repeat(6)[..]].concat());
    assert_eq!(driver.take_sent(), ["SELECT 1", r#"LISTEN "b""#]);
    assert_eq!(driver.take_log(), ["0: 1 results"]);
    assert_eq!((driver.supervisor.sink.taken, driver.supervisor.sink.lost), (6, 0));
    driver.read(&[LISTEN, READY].concat());
    assert_eq!(driver.take_log(), ["1: Active"]);
}

/// A user cannot receive before the listener is connected, so a stall would only last until the deadline.
#[test]
fn notifications_before_the_server_is_ready_do_not_stall_the_login() {
    let overflow = Overflow::Block { max_stall: Duration::from_secs(600) };
    let mut driver = TestDriver::opened(Policy { overflow, ..policy() });
    driver.read(&[&PRELUDE[..9], &A1.repeat(6)[..]].concat());
    assert_eq!(driver.take_log(), [""; 0]);
    assert_eq!(driver.supervisor.poll_timeout(), Some(driver.now + Duration::from_secs(10)));
}

/// What was read before the end was noticed is delivered before the gap.
#[test]
fn a_session_that_is_lost_during_a_stall_delivers_what_was_read_before_its_gap() {
    for event in [broken(), LinkEvent::Eof, LinkEvent::Closed] {
        let mut driver = TestDriver::up(lasting());
        let numbers: Vec<u8> = (1..=6).flat_map(|n| notification(&n.to_string())).collect();
        driver.read(&numbers);
        driver.read(&[message(b'S', b"TimeZone\0UTC\0"), notification("7")].concat());
        assert_eq!(driver.take_log(), ["read 1 false"]);
        driver.event(event);
        assert_eq!(driver.take_log(), ["read 1 true", "close 1 Abort", "Reconnecting"]);
        driver.reopen();
        driver.serve();
        assert_eq!(driver.seen(), ["1", "2", "3", "4", "5", "6", "7", "GAP"]);
        assert_eq!((driver.supervisor.sink.taken, driver.supervisor.sink.lost), (7, 0));
    }
}

/// The server reported the cause before the socket broke. This is the cause of the gap.
#[test]
fn a_session_that_is_lost_during_a_stall_is_lost_once() {
    let mut driver = TestDriver::connected(policy());
    driver.read(&A1.repeat(6));
    driver.read(FATAL);
    driver.event(broken());
    let log = ["read 1 false", "read 1 true", "close 1 Abort", "Closed", &format!("done: {ENDED}")];
    assert_eq!(driver.take_log(), log);
    assert_eq!((driver.supervisor.sink.taken, driver.supervisor.sink.lost), (6, 0));
    assert_eq!(driver.supervisor.counters().sessions_lost, 1);
}
