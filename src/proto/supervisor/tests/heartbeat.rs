//! Heartbeats.

use super::*;

const EVERY: Duration = Duration::from_secs(10);
const DEADLINE: Duration = Duration::from_secs(8);

fn proving() -> Policy {
    Policy { heartbeat: Heartbeat { interval: EVERY, timeout: DEADLINE }, ..lasting() }
}

/// Returns a driver that has just sent a heartbeat.
fn asked() -> TestDriver {
    let mut driver = TestDriver::up(proving());
    driver.pass(EVERY);
    assert_eq!(driver.take_sent(), ["heartbeat"]);
    driver
}

fn is_lost(driver: &TestDriver) -> bool {
    driver.supervisor.state() == State::Reconnecting
}

fn cause(driver: &TestDriver) -> String {
    let error = driver.logged.iter().find_map(|event| match event {
        LogEvent::Lost { error } => Some(format!("{error:#}")),
        _ => None,
    });
    error.unwrap_or_default()
}

#[test]
fn a_heartbeat_is_sent_at_every_interval() {
    let mut driver = TestDriver::up(proving());
    for n in 1..4 {
        assert_eq!(driver.due_in(), EVERY);
        driver.pass(EVERY - Duration::from_millis(1));
        assert_eq!(driver.take_sent(), NOTHING);
        driver.pass_until_due();
        assert_eq!(driver.due_in(), DEADLINE);
        assert_eq!(driver.serve(), ["heartbeat"]);
        assert_eq!(driver.supervisor.counters().heartbeats, n);
    }
    assert_eq!(driver.take_log(), NOTHING);
    // Without a channel the server returns NULL.
    driver.command(Command::UnlistenAll);
    driver.serve();
    driver.pass_until_due();
    assert_eq!(driver.serve(), ["heartbeat"]);
    assert_eq!(driver.take_log(), ["0: Unlistened"]);
}

#[test]
fn a_silent_session_is_lost_at_the_deadline_and_not_before() {
    let mut driver = asked();
    driver.pass(DEADLINE - Duration::from_millis(1));
    assert!(!is_lost(&driver));
    driver.pass_until_due();
    assert!(is_lost(&driver));
    let cause = cause(&driver);
    assert!(cause.starts_with("timeout: no data from the server for 8s while"), "{cause}");
    let hint = "the connection is half-open, or the server or a proxy is stuck";
    assert!(cause.ends_with(&format!("(hint: {hint})")), "{cause}");
}

#[test]
fn any_data_extends_the_deadline() {
    let mut driver = asked();
    for _ in 0..21 {
        driver.pass(seconds(7));
        // Half of a notification is enough.
        driver.read(&A1[..6]);
        driver.pass(seconds(7));
        driver.read(&A1[6..]);
        driver.consume(1);
    }
    assert_eq!(driver.due_in(), seconds(6), "five minutes in all");
    assert!(!is_lost(&driver));
    let answer = driver.answer("heartbeat");
    driver.read(&answer);
    assert_eq!(driver.due_in(), EVERY);
}

/// The time without data counts from the heartbeat, because nothing had to arrive before it.
#[test]
fn a_session_that_was_silent_before_has_the_whole_timeout_for_its_answer() {
    let mut driver = TestDriver::up(Policy {
        heartbeat: Heartbeat { interval: seconds(600), timeout: DEADLINE },
        ..lasting()
    });
    driver.pass_until_due();
    assert_eq!(driver.due_in(), DEADLINE);
}

#[test]
fn a_flood_without_an_answer_ends_after_five_minutes() {
    let mut driver = asked();
    for _ in 0..299 {
        driver.pass(seconds(1));
        driver.read(A1);
        driver.consume(1);
    }
    assert!(!is_lost(&driver));
    assert_eq!(driver.due_in(), seconds(1));
    driver.pass_until_due();
    assert!(is_lost(&driver));
    assert_eq!(cause(&driver).split(" (hint").next().unwrap(), ANSWER_LATE);
}

const ANSWER_LATE: &str = "timeout: the server did not answer within 300s";

#[test]
fn a_starved_task_restarts_the_timeout_once() {
    for asleep in [DEADLINE + seconds(1), seconds(301), seconds(3_600)] {
        // What has arrived is read only after the timer was checked.
        let mut driver = asked();
        driver.pass(asleep);
        assert!(!is_lost(&driver), "{asleep:?}");
        assert_eq!(driver.due_in(), DEADLINE);
        let answer = driver.answer("heartbeat");
        driver.read(&answer);
        assert_eq!(driver.due_in(), EVERY);

        let mut driver = asked();
        driver.pass(asleep);
        driver.pass_until_due();
        assert!(is_lost(&driver), "one");

        // And the heartbeat is sent, if it was not.
        let mut driver = TestDriver::up(proving());
        driver.pass(asleep + EVERY);
        assert_eq!(driver.take_sent(), ["heartbeat"]);
        assert_eq!(driver.due_in(), DEADLINE);
        // The next heartbeat may restart its timeout too.
        let mut driver = asked();
        driver.pass(asleep);
        let answer = driver.answer("heartbeat");
        driver.read(&answer);
        driver.pass(EVERY);
        driver.pass(asleep);
        assert!(!is_lost(&driver));
    }
}

#[test]
fn a_wrong_count_or_a_wrong_digest_ends_the_session() {
    let set = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    let null = [row(&[None, None]), READY.to_vec()].concat();
    let nothing = [SELECT, READY].concat();
    let answers = [
        (heartbeat_answer(&set(&[])), "names 0"),
        (heartbeat_answer(&set(&["a", "b"])), "names 2"),
        (heartbeat_answer(&set(&["b"])), "names 1"),
        (null, "names an unknown number of"),
        (nothing, "names an unknown number of"),
    ];
    for (answer, text) in answers {
        let mut driver = asked();
        driver.read(&answer);
        assert!(is_lost(&driver), "{text}");
        let cause = cause(&driver);
        assert!(cause.contains("pooler") && cause.contains(text), "{cause}");
        let hint = "LISTEN, UNLISTEN or DISCARD were sent in a query, or by a pooler that shares sessions: use listen \
                    and unlisten, and connect to the server itself";
        assert!(cause.ends_with(&format!("(hint: {hint})")), "{cause}");
        driver.reopen();
        assert_eq!(driver.serve(), [r#"LISTEN "a""#]);
        assert_eq!(driver.seen(), ["GAP"]);
    }
}

#[test]
fn a_cancelled_heartbeat_is_a_sign_of_life() {
    let mut driver = asked();
    driver.read(&[diagnostic(b'E', "ERROR", "57014"), READY.to_vec()].concat());
    assert!(!is_lost(&driver));
    assert_eq!(driver.due_in(), EVERY);
    // It does not show that the session listens, so it is logged.
    assert!(matches!(driver.logged[..], [LogEvent::HeartbeatRefused { .. }]));
    // The next heartbeat uses the same query.
    driver.pass(EVERY);
    assert_eq!(driver.take_sent(), ["heartbeat"]);
}

/// If a function does not exist, or the role may not execute it, the server refuses the query. In an earlier version each
/// heartbeat and every handover failed then.
#[test]
fn after_a_refused_heartbeat_query_a_session_uses_a_simpler_one() {
    let refused = [ERROR, READY].concat();
    let mut driver = asked();
    driver.read(&refused);
    assert_eq!(driver.serve(), ["count"]);
    assert_eq!(driver.due_in(), EVERY);
    assert!(matches!(driver.logged[..], [LogEvent::HeartbeatRefused { .. }]));
    driver.pass(EVERY);
    assert_eq!(driver.serve(), ["count"]);
    driver.pass(EVERY);
    assert_eq!(driver.take_sent(), ["count"]);
    driver.read(&refused);
    assert_eq!(driver.serve(), ["life"]);
    assert_eq!(driver.due_in(), EVERY);
    driver.pass(EVERY);
    assert_eq!(driver.take_sent(), ["life"]);
    // There is no simpler query.
    driver.read(&refused);
    assert_eq!(driver.take_sent(), NOTHING);
    assert_eq!(driver.due_in(), EVERY);
    assert_eq!(driver.logged.len(), 3);
    assert!(!is_lost(&driver));
    // Another session may have another role.
    driver.reconnect();
    driver.serve();
    driver.pass_until_due();
    assert_eq!(driver.take_sent(), ["heartbeat"]);
}

#[test]
fn a_wrong_answer_to_a_simpler_heartbeat_query_ends_the_session() {
    let set = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    let one = |value| [row(&[Some(value)]), READY.to_vec()].concat();
    let answers = [
        (vec!["count"], one("2")),
        (vec!["count"], one("pgbell")),
        // The answer to the query before.
        (vec!["count"], heartbeat_answer(&set(&["a"]))),
        (vec!["count", "life"], one("1")),
        (vec!["count", "life"], [SELECT, READY].concat()),
    ];
    for (questions, answer) in answers {
        let mut driver = asked();
        for heartbeat_query in questions {
            driver.read(&[ERROR, READY].concat());
            assert_eq!(driver.take_sent(), [heartbeat_query]);
        }
        driver.read(&answer);
        assert!(is_lost(&driver), "{answer:?}");
    }
}

/// An earlier version lost the session because of it.
#[test]
fn a_heartbeat_after_an_error_of_an_old_server_may_be_refused_too() {
    let mut driver = TestDriver::up(lasting());
    driver.read(OLD);
    driver.command(query("SELECT 1"));
    driver.take_sent();
    driver.read(&[ERROR, READY].concat());
    assert_eq!(driver.take_sent(), ["heartbeat"]);
    driver.command(query("SELECT 1"));
    driver.read(&[ERROR, READY].concat());
    assert_eq!(driver.take_sent(), ["count"]);
    // Nothing is sent before a heartbeat has succeeded.
    let answer = driver.answer("count");
    driver.read(&answer);
    assert_eq!(driver.serve(), ["SELECT 1"]);
    assert!(!is_lost(&driver));
}

/// An earlier version never replaced a session whose heartbeat queries were all refused.
#[test]
fn a_refused_heartbeat_does_not_end_a_handover() {
    let cut_off = [diagnostic(b'E', "ERROR", "57014"), READY.to_vec()].concat();
    let refused = [ERROR, READY].concat();
    for (questions, answer) in [
        (vec!["heartbeat"], cut_off),
        (vec!["heartbeat", "count"], Vec::new()),
        (vec!["heartbeat", "count", "life"], Vec::new()),
        (vec!["heartbeat", "count", "life"], refused.clone()),
    ] {
        let mut driver = TestDriver::up(lasting());
        driver.rotate_to(2);
        driver.on(2).serve();
        let sent = driver.on(1).take_sent();
        let listened = driver.answer(&sent[0]);
        driver.read(&listened);
        let (last, others) = questions.split_last().unwrap();
        for (n, heartbeat_query) in others.iter().enumerate() {
            assert_eq!(*heartbeat_query, questions[n]);
            driver.read(&refused);
        }
        assert_eq!(driver.on(2).take_sent(), NOTHING);
        let answer = if answer.is_empty() { driver.on(1).answer(last) } else { answer };
        driver.on(1).read(&answer);
        assert_eq!(driver.on(2).serve(), ["notify"], "{questions:?}");
        let fence = driver.fence();
        driver.read(&fence);
        driver.on(1).read(&fence);
        assert_eq!(driver.supervisor.counters().handovers, 1);
        assert_eq!(driver.supervisor.sink.gaps.len(), 0);
    }
}

#[test]
fn no_heartbeat_is_sent_while_a_command_runs_whose_deadline_counts() {
    let mut driver = TestDriver::up(proving());
    driver.command(query("SELECT 1"));
    driver.pass(EVERY * 10);
    assert_eq!(driver.supervisor.poll_timeout(), None);
    assert_eq!(driver.serve(), ["SELECT 1"]);
    // As soon as the command is answered.
    assert_eq!(driver.serve(), ["heartbeat"]);
    driver.command(listen(&["b"]));
    assert_eq!(driver.due_in(), DEADLINE);
    driver.pass_until_due();
    assert!(cause(&driver).starts_with("timeout: no data from the server for 8s while"));
}

#[test]
fn no_heartbeat_is_sent_while_the_socket_is_not_read() {
    let overflow = Overflow::Block { max_stall: seconds(100) };
    let mut driver = TestDriver::up(Policy { overflow, ..proving() });
    driver.read(&A1.repeat(5));
    assert_eq!(driver.due_in(), seconds(100));
    driver.pass(seconds(99));
    assert_eq!(driver.take_sent(), NOTHING);
    driver.consume(4);
    driver.pass(Duration::ZERO);
    assert_eq!(driver.take_sent(), ["heartbeat"]);
    assert_eq!(driver.due_in(), DEADLINE);
    assert!(!is_lost(&driver));
}

/// The answer would not be read.
#[test]
fn the_end_of_a_hook_sends_no_heartbeat_on_a_socket_that_is_not_read() {
    let overflow = Overflow::Block { max_stall: seconds(100) };
    let mut driver = TestDriver::up(Policy { overflow, hook: Some(HOOK), ..proving() });
    driver.read(&A1.repeat(5));
    driver.pass(EVERY);
    driver.hook(Ok(()));
    assert_eq!(driver.take_sent(), NOTHING);
}

/// A command ends the stall. The time of the stall does not count.
#[test]
fn the_timeout_restarts_after_a_stall() {
    let overflow = Overflow::Block { max_stall: seconds(100) };
    let mut driver = TestDriver::up(Policy { overflow, hook: Some(HOOK), ..proving() });
    driver.hook(Ok(()));
    driver.pass(EVERY - seconds(1));
    driver.read(&A1.repeat(5));
    driver.pass(seconds(50));
    driver.command(listen(&["b"]));
    assert_eq!(driver.serve(), [r#"LISTEN "b""#]);
    assert_eq!(driver.serve(), ["heartbeat"]);
    assert_eq!(driver.due_in(), EVERY);
    assert!(!is_lost(&driver));
}

/// Only the first LISTEN of a session has a longer timeout. This one has that of a heartbeat.
#[test]
fn an_answer_to_a_user_has_the_timeout_of_a_heartbeat() {
    let heartbeat = Heartbeat { interval: EVERY, timeout: seconds(2) };
    let mut driver = TestDriver::up(Policy { heartbeat, ..lasting() });
    driver.pass(seconds(5));
    driver.command(listen(&["b"]));
    driver.pass(seconds(1));
    driver.command(listen(&["c"]));
    assert_eq!(driver.due_in(), seconds(1));
    driver.read(A1);
    assert_eq!(driver.due_in(), seconds(2));
    driver.pass_until_due();
    assert!(is_lost(&driver));
    assert_eq!(driver.take_log()[..2], ["0: Pending", "1: Pending"]);
    // A query has no timeout.
    let mut driver = TestDriver::up(Policy { heartbeat, ..lasting() });
    driver.command(query("SELECT 1"));
    assert_eq!(driver.supervisor.poll_timeout(), None);
}

/// A command is always in flight. An earlier version never sent a heartbeat then.
#[test]
fn a_constant_flow_of_commands_does_not_block_the_heartbeat() {
    let mut driver = TestDriver::up(proving());
    driver.pass(EVERY - seconds(1));
    driver.command(listen(&["b"]));
    driver.pass(seconds(1));
    assert_eq!(driver.take_sent(), [r#"LISTEN "b""#]);
    driver.command(listen(&["c"]));
    assert_eq!(driver.take_sent(), NOTHING);
    driver.read(&[LISTEN, READY].concat());
    assert_eq!(driver.take_sent(), ["heartbeat", r#"LISTEN "c""#]);
    assert_eq!(driver.take_log(), ["0: Active"]);
}

/// An earlier version dropped notifications every ten seconds, although the stall had time left.
#[test]
fn a_heartbeat_in_flight_does_not_make_a_blocking_queue_drop() {
    let overflow = Overflow::Block { max_stall: seconds(100) };
    let mut driver = TestDriver::up(Policy { overflow, ..proving() });
    driver.pass(EVERY);
    assert_eq!(driver.take_sent(), ["heartbeat"]);
    driver.read(&A1.repeat(10));
    assert_eq!((driver.supervisor.sink.lost, driver.wire().reading()), (0, false));
    driver.pass(seconds(99));
    driver.consume(10);
    driver.consume(10);
    assert_eq!((driver.supervisor.sink.lost, driver.supervisor.sink.taken), (0, 10));
    assert_eq!(driver.due_in(), DEADLINE);
}

/// In an earlier version a deadline that was due and not checked woke the task in a loop.
#[test]
fn a_stall_without_a_limit_leaves_no_deadline_due() {
    let overflow = Overflow::Block { max_stall: Duration::MAX };
    let mut driver =
        TestDriver::up(Policy { overflow, max_lifetime: Some(seconds(100)), ..proving() });
    driver.read(&A1.repeat(6));
    driver.pass(seconds(101));
    assert_eq!(driver.supervisor.poll_timeout(), None);
}

#[test]
fn a_heartbeat_answer_that_is_much_too_long_ends_the_session() {
    let mut driver = asked();
    let long = "x".repeat(5_000);
    driver.read(&[row(&[Some("1"), Some(&long)]), READY.to_vec()].concat());
    assert!(is_lost(&driver));
    assert!(cause(&driver).contains("larger than 4096 bytes"), "{}", cause(&driver));
}

/// A server that is behind answers when it has caught up. An earlier version gave it up after half a minute.
#[test]
fn a_flood_extends_the_deadline_of_a_listen_too() {
    let mut driver = TestDriver::up(proving());
    driver.command(listen(&["b"]));
    for _ in 0..60 {
        driver.pass(seconds(1));
        driver.read(A1);
        driver.consume(1);
    }
    assert!(!is_lost(&driver));
    driver.read(&[LISTEN, READY].concat());
    assert_eq!(driver.take_log(), ["0: Active"]);
}

/// An earlier version added the time of the stall to the timeout of a command that was sent at its end.
#[test]
fn a_command_that_is_sent_at_the_end_of_a_stall_has_the_usual_timeout() {
    let overflow = Overflow::Block { max_stall: seconds(100) };
    let mut driver = TestDriver::up(Policy { overflow, ..proving() });
    driver.read(&A1.repeat(6));
    driver.pass(seconds(90));
    driver.command(listen(&["b"]));
    // The heartbeat was due long ago, and waits for the command.
    driver.pass(Duration::ZERO);
    assert_eq!(driver.due_in(), DEADLINE);
}

#[test]
fn a_listen_has_a_timeout_where_heartbeats_are_disabled() {
    let never = Heartbeat { interval: Duration::MAX, timeout: Duration::MAX };
    let mut driver = TestDriver::up(Policy { heartbeat: never, ..lasting() });
    driver.command(listen(&["b"]));
    assert_eq!(driver.due_in(), seconds(30));
    driver.pass_until_due();
    assert!(is_lost(&driver));
}

/// The task is late for every deadline, as a starved one is. An earlier version restarted the timeout each time.
#[test]
fn a_task_that_is_always_late_notices_a_half_open_connection() {
    let late = DEADLINE + seconds(1);
    let mut driver = asked();
    driver.pass(late);
    assert!(!is_lost(&driver));
    driver.pass(late);
    assert!(is_lost(&driver));
}

/// The server commits LISTEN in quadratic time and sends nothing meanwhile. An earlier version gave up the session after 8 s.
#[test]
fn a_listen_to_very_many_channels_is_waited_for_as_long_as_it_takes() {
    let many = |count: usize| Command::Listen((0..count).map(|n| format!("c{n}")).collect());
    for (count, seconds) in [(1, 0), (3_000, 0), (30_000, 17), (100_000, 199), (200_000, 300)] {
        let mut driver = TestDriver::up(lasting());
        driver.command(many(count));
        let quiet = driver.due_in() - HEARTBEAT.timeout;
        assert_eq!(quiet.as_secs(), seconds, "{count}");
        // There is a limit: a half-open connection is noticed.
        driver.pass_until_due();
        assert!(is_lost(&driver), "{count}");
        // The first LISTEN of a session has its own deadline.
        let mut driver = TestDriver::up(Policy { channels: Vec::new(), ..lasting() });
        driver.command(many(count));
        assert_eq!((driver.due_in() - Duration::from_secs(5)).as_secs(), seconds, "{count}");
    }
}
