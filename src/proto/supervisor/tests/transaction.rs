//! Sessions that a pooler or a proxy keeps inside a transaction.

use super::*;

/// ReadyForQuery inside a failed transaction.
const FAILED: &[u8] = b"Z\0\0\0\x05E";
const INSIDE: &str = "inside a transaction that the listener has not begun";
const HINT: &str = "a pooler or a proxy may have begun it: connect to the server itself";

/// Checks that the listener sends one ROLLBACK after an answer inside a transaction, and then replaces the session.
fn is_replaced(driver: &mut TestDriver, what: &str) -> Vec<String> {
    assert_eq!(driver.take_sent(), ["ROLLBACK"], "{what}");
    // The server sends the notifications that it held back until then.
    driver.read(&[SELECT, READY].concat());
    driver.serve();
    let log = driver.take_log();
    let lost = log.windows(2).any(|two| two == ["close 1 Abort", "Reconnecting"]);
    assert!(lost, "{what}: {log:?}");
    assert!(driver.logged.iter().any(|event| match event {
        LogEvent::Lost { error } => {
            error.kind() == ErrorKind::Pooler
                && error.to_string().contains(INSIDE)
                && error.hint() == Some(HINT)
        }
        _ => false,
    }));
    driver.reopen();
    driver.serve_all();
    log
}

#[test]
fn a_listen_that_is_answered_inside_a_transaction_is_not_active() {
    for inside in [IN_TRANSACTION, FAILED] {
        let mut driver = TestDriver::up(lasting());
        driver.command(listen(&["b"]));
        driver.command(unlisten(&["a"]));
        assert_eq!(driver.take_sent(), [r#"LISTEN "b""#, r#"UNLISTEN "a""#]);
        driver.read(&[if inside == FAILED { ERROR } else { LISTEN }, inside].concat());
        assert_eq!(driver.channels(), ["a Active"]);
        // No other command is sent.
        driver.command(listen(&["c"]));
        driver.command(query("SELECT 1"));
        driver.read(&[UNLISTEN, inside].concat());
        assert_eq!(driver.take_log(), NOTHING);
        let log = is_replaced(&mut driver, "LISTEN");
        assert_eq!(log[..2], ["0: Pending", "1: Unlistened"]);
        assert_eq!(driver.channels(), ["b Active", "c Active"]);
        assert_eq!(driver.seen(), ["GAP"]);
    }
}

#[test]
fn a_heartbeat_or_an_unlisten_that_is_answered_inside_a_transaction_does_not_count() {
    for inside in [IN_TRANSACTION, FAILED] {
        let heartbeat = Heartbeat { interval: Duration::from_secs(30), ..HEARTBEAT };
        let mut driver = TestDriver::up(Policy { heartbeat, ..lasting() });
        driver.pass_until_due();
        assert_eq!(driver.take_sent(), ["heartbeat"]);
        let mut answer = driver.answer("heartbeat");
        answer.truncate(answer.len() - READY.len());
        driver.read(&[&answer, inside].concat());
        is_replaced(&mut driver, "heartbeat");

        let mut driver = TestDriver::up(lasting());
        driver.command(unlisten(&["a"]));
        driver.take_sent();
        driver.read(&[UNLISTEN, inside].concat());
        let log = is_replaced(&mut driver, "UNLISTEN");
        assert_eq!(log[0], "0: Unlistened");
        assert_eq!(driver.channels(), NOTHING);
    }
}

#[test]
fn a_rollback_that_is_answered_inside_a_transaction_ends_the_session() {
    let mut driver = TestDriver::up(lasting());
    driver.command(query("BEGIN"));
    driver.read(&[SELECT, IN_TRANSACTION].concat());
    assert_eq!(driver.take_sent(), ["BEGIN", "ROLLBACK"]);
    assert_eq!(driver.take_log(), NOTHING);
    driver.read(&[SELECT, IN_TRANSACTION].concat());
    let log = driver.take_log();
    assert!(log[0].starts_with("0: in doubt") && log[0].contains(INSIDE), "{log:?}");
    assert_eq!(log[1..], ["close 1 Abort", "Reconnecting"]);
}

/// The query may end with COMMIT AND CHAIN: it was carried out, and must not be reported as not sent.
#[test]
fn a_query_that_was_answered_is_in_doubt_when_the_session_is_lost_before_the_rollback() {
    let answered = [SELECT, IN_TRANSACTION].concat();
    let refused = [ERROR, FAILED].concat();
    let refusal = "server error: the server refused the query: ERROR: no (SQLSTATE 42501)";
    // After a notification the answer is handled when the ROLLBACK is queued and not written.
    for (answer, behind, cause) in [
        (&answered, FATAL.to_vec(), ENDED),
        (&answered, [A1, FATAL].concat(), ENDED),
        (&refused, FATAL.to_vec(), refusal),
        (&refused, [A1, FATAL].concat(), refusal),
    ] {
        for is_one_read in [true, false] {
            let mut driver = TestDriver::up(lasting());
            driver.command(query("BEGIN; INSERT INTO t VALUES (1); COMMIT AND CHAIN"));
            driver.take_sent();
            if is_one_read {
                driver.read(&[&answer[..], &behind].concat());
            } else {
                driver.read(answer);
                driver.read(&behind);
            }
            let expected = format!("0: {NOT_ROLLED_BACK}: {cause}");
            assert_eq!(driver.take_log()[0], expected, "{is_one_read} {}", behind.escape_ascii());
        }
    }
    // The socket breaks before the ROLLBACK is written, or after.
    for is_written in [false, true] {
        let mut driver = TestDriver::up(lasting());
        driver.command(query("BEGIN"));
        let (wall_clock, link) = (driver.wall_clock(), driver.link);
        let mut input = BytesMut::from(&answered[..]);
        driver.input().handle_bytes(wall_clock, link, &mut input);
        if is_written {
            driver.act();
        }
        driver.event(broken());
        let expected = format!("0: {NOT_ROLLED_BACK}: connection: broken");
        assert_eq!(driver.take_log()[0], expected, "{is_written}");
    }
}

/// The end of the session undoes what was answered inside the transaction.
#[test]
fn an_answer_inside_a_transaction_right_before_the_end_of_the_session_does_not_count() {
    let mut driver = TestDriver::up(lasting());
    driver.command(listen(&["b"]));
    driver.read(&[LISTEN, IN_TRANSACTION, FATAL].concat());
    assert_eq!(driver.take_log()[0], "0: Pending");

    let mut driver = TestDriver::up(lasting());
    driver.command(query("BEGIN"));
    driver.read(&[SELECT, IN_TRANSACTION].concat());
    driver.read(&[SELECT, IN_TRANSACTION, FATAL].concat());
    let log = driver.take_log();
    assert!(log[0].starts_with("0: in doubt") && log[0].contains(INSIDE), "{log:?}");

    let mut driver = TestDriver::up(lasting());
    driver.command(Command::Drain { timeout: seconds(3) });
    let answer = driver.answer("heartbeat");
    driver.read(&answer);
    driver.read(&[UNLISTEN, IN_TRANSACTION, FATAL].concat());
    let log = driver.take_log();
    assert!(log[0].starts_with("0: pooler") && log[0].contains(INSIDE), "{log:?}");
}

/// The error reports a notification that was dropped after the ROLLBACK. An earlier version reported it as the failure of the
/// ROLLBACK.
#[test]
fn an_error_in_answer_to_a_rollback_does_not_say_that_the_transaction_goes_on() {
    let rolled_back: &[u8] = b"C\0\0\0\x0dROLLBACK\0";
    let trouble = diagnostic(b'E', "ERROR", "53200");
    let refused = format!(
        "{OPEN_TRANSACTION}: server error: the server refused the query: ERROR: no (SQLSTATE 42501)"
    );
    let answers: [(&[u8], &[u8]); 4] =
        [(rolled_back, b""), (b"", b""), (rolled_back, FATAL), (b"", FATAL)];
    for (answer, expected) in
        [([SELECT, IN_TRANSACTION], OPEN_TRANSACTION), ([ERROR, FAILED], &*refused)]
    {
        for (completed, end) in answers {
            for is_old in [true, false] {
                let mut driver = TestDriver::up(lasting());
                if is_old {
                    driver.read(OLD);
                }
                driver.command(query("BEGIN"));
                driver.read(&answer.concat());
                driver.read(&[completed, &trouble, READY, end].concat());
                assert_eq!(driver.first_reply(), format!("0: {expected}"));
            }
        }
    }
}

/// What arrives until then was read, so it is delivered.
#[test]
fn what_arrives_while_a_session_leaves_a_transaction_is_delivered_before_the_gap() {
    let mut driver = TestDriver::up(lasting());
    driver.command(unlisten(&["b"]));
    driver.take_sent();
    driver.read(&[UNLISTEN, IN_TRANSACTION, &notification("1")].concat());
    driver.read(&[&notification("2"), SELECT, READY].concat());
    driver.reopen();
    driver.serve_all();
    assert_eq!(driver.seen(), ["1", "2", "GAP"]);
}

/// An earlier version answered the UNLISTEN before the earlier LISTEN, so it listened to the channel again.
#[test]
fn an_unlisten_after_a_listen_inside_a_transaction_removes_its_channel_when_the_session_is_lost() {
    for (command, sent, rest) in [
        (Command::UnlistenAll, "UNLISTEN *", Vec::new()),
        (unlisten(&["b"]), r#"UNLISTEN "b""#, vec!["a Active"]),
    ] {
        for is_said in [false, true] {
            let mut driver = TestDriver::up(lasting());
            driver.command(listen(&["b"]));
            driver.command(command.clone());
            assert_eq!(driver.take_sent(), [r#"LISTEN "b""#, sent]);
            driver.read(&[LISTEN, IN_TRANSACTION].concat());
            assert_eq!(driver.take_sent(), ["ROLLBACK"]);
            match is_said {
                true => driver.read(FATAL),
                false => driver.event(LinkEvent::Eof),
            }
            let log = driver.take_log();
            assert_eq!(log[..2], ["0: Pending", "1: Unlistened"], "{log:?}");
            driver.reopen();
            driver.serve_all();
            assert_eq!(driver.channels(), rest);
        }
    }
}

/// The drain does not wait for a rollback.
#[test]
fn a_drain_that_is_answered_inside_a_transaction_ends_the_listener_at_once() {
    for status in [READY, IN_TRANSACTION] {
        let mut driver = TestDriver::up(lasting());
        driver.command(Command::Drain { timeout: Duration::from_secs(3) });
        let mut answer = driver.answer("heartbeat");
        answer.truncate(answer.len() - READY.len());
        driver.read(&[&answer[..], status].concat());
        driver.read(&[UNLISTEN, IN_TRANSACTION].concat());
        let mut log = driver.take_log();
        log[..2].sort();
        assert!(log[0].starts_with("0: pooler") && log[0].contains(INSIDE), "{log:?}");
        assert_eq!(log[1..3], ["close 1 Abort", "Closed"]);
    }
}

#[test]
fn a_session_that_does_not_answer_the_rollback_is_lost_in_time() {
    let mut driver = TestDriver::up(lasting());
    driver.command(unlisten(&["b"]));
    driver.read(&[UNLISTEN, IN_TRANSACTION].concat());
    assert_eq!(driver.due_in(), HEARTBEAT.timeout);
    driver.pass_until_due();
    assert_eq!(driver.take_log(), ["0: Unlistened", "close 1 Abort", "Reconnecting"]);
}

/// Nothing was delivered yet, so there is no ROLLBACK.
#[test]
fn a_session_that_is_restored_inside_a_transaction_is_given_up_at_once() {
    let mut driver = TestDriver::opened(policy());
    driver.read(PRELUDE);
    driver.read(&[LISTEN, IN_TRANSACTION].concat());
    let log = driver.take_log();
    assert_eq!(log[..2], ["close 1 Abort", "Closed"]);
    assert!(log[2].starts_with("done: pooler") && log[2].contains(INSIDE), "{log:?}");

    let mut driver = TestDriver::up(lasting());
    driver.reconnect();
    driver.clear_logs();
    driver.read(&[LISTEN, IN_TRANSACTION].concat());
    assert_eq!(driver.take_log(), ["close 2 Abort"]);
    assert_eq!(driver.supervisor.state(), State::Reconnecting);
    assert_eq!(driver.seen(), NOTHING);
}

/// The test does this on each of the two sessions, and with each command of a handover.
#[test]
fn a_handover_whose_command_is_answered_inside_a_transaction_fails() {
    // The new session, with its channels or with the fence.
    for answers in [0, 2] {
        let mut driver = TestDriver::up(lasting());
        driver.rotate_to(2);
        driver.on(1).serve();
        driver.on(2).read(&[LISTEN, READY].repeat(answers).concat());
        let last: &[u8] = if answers == 0 { LISTEN } else { SELECT };
        let inside = match answers {
            0 => [last, IN_TRANSACTION].concat(),
            _ => {
                let notified = notified();
                [&notified[..notified.len() - READY.len()], IN_TRANSACTION].concat()
            }
        };
        driver.read(&inside);
        let log = driver.take_log();
        assert_eq!(log.last().unwrap(), "close 2 Abort", "{log:?}");
        assert_eq!(driver.supervisor.state(), State::Connected);
        assert_eq!(driver.on(1).serve(), [r#"UNLISTEN "private""#]);
    }
    // The old session.
    let mut driver = TestDriver::up(lasting());
    driver.rotate_to(2);
    driver.on(1).take_sent();
    driver.read(&[LISTEN, IN_TRANSACTION].concat());
    assert_eq!(driver.take_sent(), ["ROLLBACK"]);
    let answer = driver.answer("heartbeat");
    driver.read(&[&answer[..], SELECT, READY].concat());
    let log = driver.take_log();
    assert!(log.contains(&"Reconnecting".to_owned()), "{log:?}");
    driver.on(2).serve();
    let sent = driver.serve();
    assert_eq!(sent, ["notify"]);
    let fence = driver.fence();
    driver.read(&[fence, notification("1")].concat());
    assert_eq!(driver.seen(), ["GAP", "1"]);
}

/// Brings the session into a transaction that the listener leaves. It does not listen to the wanted channel "a" any more.
fn is_left(driver: &mut TestDriver) {
    driver.command(listen(&["b"]));
    driver.command(unlisten(&["a"]));
    assert_eq!(driver.take_sent(), [r#"LISTEN "b""#, r#"UNLISTEN "a""#]);
    driver.read(&[LISTEN, IN_TRANSACTION, UNLISTEN, READY].concat());
    assert_eq!(driver.channels(), ["a Pending"]);
}

/// The hook ends while the session is being replaced. In an earlier version the listener was connected then and showed the gap,
/// and a channel whose UNLISTEN waited for its answer was not active.
#[test]
fn the_end_of_a_hook_shows_nothing_while_the_session_leaves_a_transaction() {
    let mut driver = TestDriver::new(Policy { hook: Some(HOOK), ..lasting() });
    driver.open();
    driver.serve();
    driver.hook(Ok(()));
    driver.read(&[&notification("1")[..], ERROR, READY, &notification("2")].concat());
    driver.pass_until_due();
    driver.take_log();
    is_left(&mut driver);
    driver.hook(Ok(()));
    assert_eq!(driver.take_log(), NOTHING);
    assert_eq!(driver.seen(), ["1"]);
    // It does not run for this session any more.
    driver.pass(seconds(1));
    assert_eq!(driver.take_log(), NOTHING);

    let log = is_replaced(&mut driver, "LISTEN and UNLISTEN");
    assert_eq!(log[..2], ["0: Pending", "1: Unlistened"]);
    assert!(driver.take_log().last().unwrap().starts_with("hook after"));
    driver.hook(Ok(()));
    assert_eq!(driver.take_log(), ["Connected"]);
    assert_eq!(driver.seen(), ["GAP", "2", "GAP"]);
}

/// The same while the hook waits for its next run.
#[test]
fn a_hook_does_not_run_while_the_session_leaves_a_transaction() {
    let mut driver = TestDriver::up(Policy { hook: Some(HOOK), ..lasting() });
    driver.read(&[ERROR, READY, &notification("1")].concat());
    is_left(&mut driver);
    driver.take_log();
    driver.pass(seconds(1));
    assert_eq!((driver.take_log(), driver.seen()), (Vec::new(), Vec::new()));
    is_replaced(&mut driver, "LISTEN and UNLISTEN");
    assert!(driver.take_log().last().unwrap().starts_with("hook after"));
}
