//! A full queue. It holds four.

use super::*;

fn second() -> Duration {
    Duration::from_secs(1)
}

#[test]
fn a_full_queue_stalls_the_socket_until_there_is_room() {
    let mut shell = Shell::connected(policy());
    shell.read(&A1.repeat(6));
    assert_eq!(shell.take_log(), ["read 1 false"]);
    assert_eq!(shell.take_queue(), ["4 notifications"]);
    assert_eq!(shell.wire().input, A1.repeat(2));
    assert_eq!(shell.supervisor.figures().stalls, 1);
    // The kernel may have handed over some more.
    shell.read(A1);
    assert_eq!(shell.take_queue(), [""; 0]);
    shell.pass(second() / 2);
    shell.consume(3);
    assert_eq!(shell.take_log(), ["read 1 true"]);
    assert_eq!(shell.take_queue(), ["2 notifications", "1 notifications"]);
    assert!(shell.wire().input.is_empty());
    assert_eq!((shell.queue.lost, shell.supervisor.figures().received), (0, 7));
    assert_eq!(shell.supervisor.poll_timeout(), None);
}

/// A queue of single notifications makes room for one at a time. To measure all that is behind it each time
/// took twenty times as long for 40,000 of them.
#[test]
fn a_run_that_waits_for_room_is_not_measured_again() {
    let mut shell = Shell::connected(policy());
    shell.read(&A1.repeat(6));
    shell.read(&A1.repeat(3));
    assert_eq!(shell.take_queue(), ["4 notifications"]);
    shell.consume(1);
    assert_eq!(shell.take_queue(), ["1 notifications"]);
    // The one that is left of the six is a run of its own, and what came later is another.
    shell.consume(4);
    assert_eq!(shell.take_queue(), ["1 notifications", "3 notifications"]);
    assert_eq!((shell.queue.taken, shell.queue.lost), (9, 0));
}

#[test]
fn a_stall_that_takes_too_long_gives_up_and_is_armed_again_only_when_the_queue_was_empty() {
    let mut shell = Shell::connected(policy());
    shell.read(&A1.repeat(6));
    shell.take_queue();
    shell.pass(second() - Duration::from_nanos(1));
    assert_eq!(shell.take_log(), ["read 1 false"]);
    shell.pass_until_due();
    assert_eq!(shell.take_log(), ["read 1 true"]);
    assert_eq!(shell.take_queue(), ["2 notifications were dropped: the queue was full"]);
    // Some room is no reason to stall again.
    shell.consume(1);
    shell.read(&A1.repeat(3));
    assert_eq!(shell.take_log(), [""; 0]);
    assert_eq!(
        shell.take_queue(),
        ["1 notifications", "2 notifications were dropped: the queue was full"]
    );
    shell.consume(4);
    shell.read(&A1.repeat(5));
    assert_eq!(shell.take_log(), ["read 1 false"]);
    assert_eq!(shell.take_queue(), ["4 notifications"]);
    assert_eq!(shell.supervisor.figures().stalls, 2);
}

#[test]
fn short_stalls_use_up_one_budget() {
    let mut shell = Shell::connected(policy());
    shell.read(&A1.repeat(8));
    for _ in 0..3 {
        shell.pass(second() * 3 / 10);
        shell.consume(1);
    }
    // Nine tenths are used up, and one notification of eight is still unread.
    assert_eq!(
        shell.take_log(),
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
    let due = shell.supervisor.poll_timeout().unwrap();
    assert_eq!(due, shell.now + second() / 10);
    shell.pass_until_due();
    assert_eq!(shell.queue.lost, 1);
}

#[test]
fn dropping_never_stalls() {
    for overflow in [Overflow::DropNewest, Overflow::Block { max_stall: Duration::ZERO }] {
        let mut shell = Shell::connected(Policy { overflow, ..policy() });
        shell.read(&A1.repeat(6));
        assert_eq!(shell.take_log(), [""; 0]);
        assert_eq!(
            shell.take_queue(),
            ["4 notifications", "2 notifications were dropped: the queue was full"]
        );
    }
}

#[test]
fn a_stall_without_limit_waits_for_room_alone() {
    let overflow = Overflow::Block { max_stall: Duration::MAX };
    let mut shell = Shell::connected(Policy { overflow, ..policy() });
    shell.read(&A1.repeat(6));
    shell.pass(Duration::from_secs(1_000_000));
    assert_eq!(shell.take_log(), ["read 1 false"]);
    shell.consume(4);
    assert_eq!(shell.take_log(), ["read 1 true"]);
    assert_eq!(shell.queue.lost, 0);
}

#[test]
fn a_command_during_a_stall_reads_on_beyond_the_limit_until_it_is_answered() {
    let mut shell = Shell::connected(policy());
    shell.read(&A1.repeat(6));
    shell.take_queue();
    shell.command(listen(&["b"]));
    assert_eq!(shell.take_log(), ["read 1 false", "read 1 true"]);
    assert_eq!(shell.take_queue(), ["2 notifications"]);
    shell.read(&[&A1.repeat(3)[..], LISTEN, A1, READY].concat());
    assert_eq!(shell.take_log(), ["0: Active"]);
    assert_eq!(shell.take_queue(), ["3 notifications", "1 notifications"]);
    // From here on the limit holds again.
    shell.read(A1);
    assert_eq!(shell.take_log(), ["read 1 false"]);
    assert_eq!(shell.queue.lost, 0);
}

#[test]
fn answers_behind_a_stall_are_in_time() {
    let mut shell = Shell::connected(policy());
    shell.command(listen(&["b"]));
    shell.read(&[&A1.repeat(6)[..], LISTEN, READY, A1].concat());
    assert_eq!(shell.take_log(), ["0: Active", "read 1 false"]);
    shell.pass(second() / 2);
    shell.consume(7);
    assert_eq!(shell.take_log(), ["read 1 true"]);
    assert_eq!((shell.queue.taken, shell.queue.lost), (7, 0));
}

#[test]
fn a_link_that_breaks_during_a_stall_leaves_no_deadline_behind() {
    let mut shell = Shell::connected(policy());
    shell.read(&A1.repeat(6));
    shell.event(LinkEvent::Failed(Error::new(ErrorKind::Connect, "broken")));
    assert_eq!(
        shell.take_log(),
        ["read 1 false", "read 1 true", "close 1 Abort", "Closed", "done: connection: broken"]
    );
    assert_eq!(shell.supervisor.poll_timeout(), None);
    shell.consume(4);
    shell.pass(second());
    assert_eq!(shell.take_log(), [""; 0]);
}

/// Nothing overflows at the moment when the queue is found empty: it is armed again all the same.
#[test]
fn a_consumer_that_has_caught_up_is_worth_a_stall_again() {
    let mut shell = Shell::connected(policy());
    shell.read(&A1.repeat(6));
    shell.pass_until_due();
    assert_eq!((shell.queue.lost, shell.supervisor.figures().stalls), (2, 1));
    shell.consume(4);
    shell.take_log();
    for _ in 0..5 {
        shell.read(A1);
    }
    assert_eq!(shell.take_log(), ["read 1 false"]);
    assert_eq!((shell.queue.lost, shell.supervisor.figures().stalls), (2, 2));
}

/// The command is sent because of an answer that was read together with the notifications behind it.
#[test]
fn a_command_that_waited_for_a_query_does_not_wait_for_the_consumer_too() {
    let mut shell = Shell::connected(policy());
    shell.command(query("SELECT 1"));
    shell.command(listen(&["b"]));
    shell.read(&[SELECT, READY, &A1.repeat(6)[..]].concat());
    assert_eq!(shell.take_sent(), ["SELECT 1", r#"LISTEN "b""#]);
    assert_eq!(shell.take_log(), ["0: 1 results"]);
    assert_eq!((shell.queue.taken, shell.queue.lost), (6, 0));
    shell.read(&[LISTEN, READY].concat());
    assert_eq!(shell.take_log(), ["1: Active"]);
}

/// Nobody can receive before the listener is connected, so a stall would only outlast the deadline.
#[test]
fn notifications_before_the_server_is_ready_do_not_stall_the_login() {
    let overflow = Overflow::Block { max_stall: Duration::from_secs(600) };
    let mut shell = Shell::opened(Policy { overflow, ..policy() });
    shell.read(&[&PRELUDE[..9], &A1.repeat(6)[..]].concat());
    assert_eq!(shell.take_log(), [""; 0]);
    assert_eq!(shell.supervisor.poll_timeout(), Some(shell.now + Duration::from_secs(10)));
}

/// It was read before the end was noticed, and stands before the gap.
#[test]
fn a_session_that_is_lost_during_a_stall_delivers_what_was_read_before_its_gap() {
    for event in [broken(), LinkEvent::Eof, LinkEvent::Closed] {
        let mut shell = Shell::up(lasting());
        let numbers: Vec<u8> = (1..=6).flat_map(|n| note(&n.to_string())).collect();
        shell.read(&numbers);
        shell.read(&[message(b'S', b"TimeZone\0UTC\0"), note("7")].concat());
        assert_eq!(shell.take_log(), ["read 1 false"]);
        shell.event(event);
        assert_eq!(shell.take_log(), ["read 1 true", "close 1 Abort", "Reconnecting"]);
        shell.reopen();
        shell.serve();
        assert_eq!(shell.seen(), ["1", "2", "3", "4", "5", "6", "7", "GAP"]);
        assert_eq!((shell.queue.taken, shell.queue.lost), (7, 0));
    }
}

/// The server has said why before the socket broke: that is the reason.
#[test]
fn a_session_that_is_lost_during_a_stall_is_lost_once() {
    let mut shell = Shell::connected(policy());
    shell.read(&A1.repeat(6));
    shell.read(FATAL);
    shell.event(broken());
    let log = ["read 1 false", "read 1 true", "close 1 Abort", "Closed", &format!("done: {ENDED}")];
    assert_eq!(shell.take_log(), log);
    assert_eq!((shell.queue.taken, shell.queue.lost), (6, 0));
    assert_eq!(shell.supervisor.figures().sessions_lost, 1);
}
