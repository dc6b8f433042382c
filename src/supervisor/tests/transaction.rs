//! A session that a pooler or a proxy keeps inside a transaction: what is said there does not last.

use super::*;

/// Inside one that has failed.
const FAILED: &[u8] = b"Z\0\0\0\x05E";
const INSIDE: &str = "inside a transaction that the listener has not begun";

/// What the listener does when something is answered from inside a transaction: one ROLLBACK, and then another session.
fn is_replaced(shell: &mut Shell, what: &str) -> Vec<String> {
    assert_eq!(shell.take_sent(), ["ROLLBACK"], "{what}");
    // What it is told of now was held back until then.
    shell.read(&[SELECT, READY].concat());
    shell.serve();
    let log = shell.take_log();
    let lost = log.windows(2).any(|two| two == ["close 1 Abort", "Reconnecting"]);
    assert!(lost, "{what}: {log:?}");
    assert!(shell.told.iter().any(|told| match told {
        Incident::Lost { error } => {
            error.kind() == ErrorKind::Pooler && error.to_string().contains(INSIDE)
        }
        _ => false,
    }));
    shell.reopen();
    shell.serve_all();
    log
}

#[test]
fn a_listen_that_is_answered_inside_a_transaction_is_not_active() {
    for inside in [IN_TRANSACTION, FAILED] {
        let mut shell = Shell::up(lasting());
        shell.command(listen(&["b"]));
        shell.command(unlisten(&["a"]));
        assert_eq!(shell.take_sent(), [r#"LISTEN "b""#, r#"UNLISTEN "a""#]);
        shell.read(&[if inside == FAILED { ERROR } else { LISTEN }, inside].concat());
        assert_eq!(shell.channels(), ["a Active"]);
        // Nothing new is asked of it.
        shell.command(listen(&["c"]));
        shell.command(query("SELECT 1"));
        shell.read(&[UNLISTEN, inside].concat());
        assert_eq!(shell.take_log(), NOTHING);
        let log = is_replaced(&mut shell, "LISTEN");
        assert_eq!(log[..2], ["0: Pending", "1: Unlistened"]);
        assert_eq!(shell.channels(), ["b Active", "c Active"]);
        assert_eq!(shell.seen(), ["GAP"]);
    }
}

#[test]
fn a_proof_or_an_unlisten_that_is_answered_inside_a_transaction_is_none() {
    for inside in [IN_TRANSACTION, FAILED] {
        let heartbeat = Heartbeat { every: Duration::from_secs(30), ..HEARTBEAT };
        let mut shell = Shell::up(Policy { heartbeat, ..lasting() });
        shell.pass_until_due();
        assert_eq!(shell.take_sent(), ["proof"]);
        let mut answer = shell.answer("proof");
        answer.truncate(answer.len() - READY.len());
        shell.read(&[&answer, inside].concat());
        is_replaced(&mut shell, "proof");

        let mut shell = Shell::up(lasting());
        shell.command(unlisten(&["a"]));
        shell.take_sent();
        shell.read(&[UNLISTEN, inside].concat());
        let log = is_replaced(&mut shell, "UNLISTEN");
        assert_eq!(log[0], "0: Unlistened");
        assert_eq!(shell.channels(), NOTHING);
    }
}

#[test]
fn a_rollback_that_is_answered_inside_a_transaction_ends_the_session() {
    let mut shell = Shell::up(lasting());
    shell.command(query("BEGIN"));
    shell.read(&[SELECT, IN_TRANSACTION].concat());
    assert_eq!(shell.take_sent(), ["BEGIN", "ROLLBACK"]);
    assert_eq!(shell.take_log(), NOTHING);
    shell.read(&[SELECT, IN_TRANSACTION].concat());
    let log = shell.take_log();
    assert!(log[0].starts_with("0: in doubt") && log[0].contains(INSIDE), "{log:?}");
    assert_eq!(log[1..], ["close 1 Abort", "Reconnecting"]);
}

/// The query has COMMIT AND CHAIN at its end, for example: it was carried out, and was to be asked again.
#[test]
fn a_query_that_was_answered_is_in_doubt_when_the_session_is_lost_before_the_rollback() {
    let answered = [SELECT, IN_TRANSACTION].concat();
    let refused = [ERROR, FAILED].concat();
    let refusal = "server error: the server refused the query: ERROR: no (SQLSTATE 42501)";
    // Behind a notification it is handled when the ROLLBACK is queued and not written.
    for (answer, behind, cause) in [
        (&answered, FATAL.to_vec(), ENDED),
        (&answered, [A1, FATAL].concat(), ENDED),
        (&refused, FATAL.to_vec(), refusal),
        (&refused, [A1, FATAL].concat(), refusal),
    ] {
        for is_one_read in [true, false] {
            let mut shell = Shell::up(lasting());
            shell.command(query("BEGIN; INSERT INTO t VALUES (1); COMMIT AND CHAIN"));
            shell.take_sent();
            if is_one_read {
                shell.read(&[&answer[..], &behind].concat());
            } else {
                shell.read(answer);
                shell.read(&behind);
            }
            let expected = format!("0: {NOT_ROLLED_BACK}: {cause}");
            assert_eq!(shell.take_log()[0], expected, "{is_one_read} {}", behind.escape_ascii());
        }
    }
    // The socket breaks before the ROLLBACK is written, and after.
    for is_written in [false, true] {
        let mut shell = Shell::up(lasting());
        shell.command(query("BEGIN"));
        let (now, wall, link) = (shell.now, shell.wall(), shell.link);
        let mut input = BytesMut::from(&answered[..]);
        shell.supervisor.handle_bytes(now, wall, link, &mut input, &mut shell.queue);
        if is_written {
            shell.act();
        }
        shell.event(broken());
        let expected = format!("0: {NOT_ROLLED_BACK}: connection: broken");
        assert_eq!(shell.take_log()[0], expected, "{is_written}");
    }
}

/// What was answered there is undone with the session.
#[test]
fn an_answer_inside_a_transaction_right_before_the_end_of_the_session_is_none() {
    let mut shell = Shell::up(lasting());
    shell.command(listen(&["b"]));
    shell.read(&[LISTEN, IN_TRANSACTION, FATAL].concat());
    assert_eq!(shell.take_log()[0], "0: Pending");

    let mut shell = Shell::up(lasting());
    shell.command(query("BEGIN"));
    shell.read(&[SELECT, IN_TRANSACTION].concat());
    shell.read(&[SELECT, IN_TRANSACTION, FATAL].concat());
    let log = shell.take_log();
    assert!(log[0].starts_with("0: in doubt") && log[0].contains(INSIDE), "{log:?}");

    let mut shell = Shell::up(lasting());
    shell.command(Command::Drain { within: seconds(3) });
    let proof = shell.answer("proof");
    shell.read(&proof);
    shell.read(&[UNLISTEN, IN_TRANSACTION, FATAL].concat());
    let log = shell.take_log();
    assert!(log[0].starts_with("0: pooler") && log[0].contains(INSIDE), "{log:?}");
}

/// The report of a notification that was dropped right behind it was told as the failure of the ROLLBACK.
#[test]
fn an_error_in_answer_to_a_rollback_does_not_say_that_the_transaction_goes_on() {
    let rolled_back: &[u8] = b"C\0\0\0\x0dROLLBACK\0";
    let trouble = diagnostic(b'E', "ERROR", "53200");
    let refused = format!(
        "{OPEN_TRANSACTION}: server error: the server refused the query: ERROR: no (SQLSTATE 42501)"
    );
    let answers: [(&[u8], &[u8]); 4] =
        [(rolled_back, b""), (b"", b""), (rolled_back, FATAL), (b"", FATAL)];
    for (answer, told) in
        [([SELECT, IN_TRANSACTION], OPEN_TRANSACTION), ([ERROR, FAILED], &*refused)]
    {
        for (completed, end) in answers {
            for is_old in [true, false] {
                let mut shell = Shell::up(lasting());
                if is_old {
                    shell.read(OLD);
                }
                shell.command(query("BEGIN"));
                shell.read(&answer.concat());
                shell.read(&[completed, &trouble, READY, end].concat());
                assert_eq!(shell.first_reply(), format!("0: {told}"));
            }
        }
    }
}

/// What is told of it until then is delivered: it was read.
#[test]
fn what_comes_while_a_session_leaves_a_transaction_is_delivered_before_the_gap() {
    let mut shell = Shell::up(lasting());
    shell.command(unlisten(&["b"]));
    shell.take_sent();
    shell.read(&[UNLISTEN, IN_TRANSACTION, &note("1")].concat());
    shell.read(&[&note("2"), SELECT, READY].concat());
    shell.reopen();
    shell.serve_all();
    assert_eq!(shell.seen(), ["1", "2", "GAP"]);
}

/// The UNLISTEN had its answer first, and then the LISTEN before it: the channel was listened to again.
#[test]
fn an_unlisten_behind_a_listen_inside_a_transaction_ends_its_channel_when_the_session_is_lost() {
    for (command, sent, rest) in [
        (Command::UnlistenAll, "UNLISTEN *", Vec::new()),
        (unlisten(&["b"]), r#"UNLISTEN "b""#, vec!["a Active"]),
    ] {
        for is_said in [false, true] {
            let mut shell = Shell::up(lasting());
            shell.command(listen(&["b"]));
            shell.command(command.clone());
            assert_eq!(shell.take_sent(), [r#"LISTEN "b""#, sent]);
            shell.read(&[LISTEN, IN_TRANSACTION].concat());
            assert_eq!(shell.take_sent(), ["ROLLBACK"]);
            match is_said {
                true => shell.read(FATAL),
                false => shell.event(LinkEvent::Eof),
            }
            let log = shell.take_log();
            assert_eq!(log[..2], ["0: Pending", "1: Unlistened"], "{log:?}");
            shell.reopen();
            shell.serve_all();
            assert_eq!(shell.channels(), rest);
        }
    }
}

/// It has its deadline, and nothing is waited for beyond that.
#[test]
fn a_drain_that_is_answered_inside_a_transaction_is_the_end_at_once() {
    for status in [READY, IN_TRANSACTION] {
        let mut shell = Shell::up(lasting());
        shell.command(Command::Drain { within: Duration::from_secs(3) });
        let mut proof = shell.answer("proof");
        proof.truncate(proof.len() - READY.len());
        shell.read(&[&proof[..], status].concat());
        shell.read(&[UNLISTEN, IN_TRANSACTION].concat());
        let mut log = shell.take_log();
        log[..2].sort();
        assert!(log[0].starts_with("0: pooler") && log[0].contains(INSIDE), "{log:?}");
        assert_eq!(log[1..3], ["close 1 Abort", "Closed"]);
    }
}

#[test]
fn a_session_that_does_not_answer_the_rollback_is_lost_in_time() {
    let mut shell = Shell::up(lasting());
    shell.command(unlisten(&["b"]));
    shell.read(&[UNLISTEN, IN_TRANSACTION].concat());
    assert_eq!(shell.due_in(), HEARTBEAT.deadline);
    shell.pass_until_due();
    assert_eq!(shell.take_log(), ["0: Unlistened", "close 1 Abort", "Reconnecting"]);
}

/// Nothing was delivered yet: there is nothing to be rolled back for.
#[test]
fn a_session_that_is_restored_inside_a_transaction_is_given_up_at_once() {
    let mut shell = Shell::opened(policy());
    shell.read(PRELUDE);
    shell.read(&[LISTEN, IN_TRANSACTION].concat());
    let log = shell.take_log();
    assert_eq!(log[..2], ["close 1 Abort", "Closed"]);
    assert!(log[2].starts_with("done: pooler") && log[2].contains(INSIDE), "{log:?}");

    let mut shell = Shell::up(lasting());
    shell.come_back();
    shell.forget();
    shell.read(&[LISTEN, IN_TRANSACTION].concat());
    assert_eq!(shell.take_log(), ["close 2 Abort"]);
    assert_eq!(shell.supervisor.state(), State::Reconnecting);
    assert_eq!(shell.seen(), NOTHING);
}

/// Whichever of both sessions it is, and whatever of a handover it answers.
#[test]
fn a_handover_inside_a_transaction_is_none() {
    // The new one, with its channels or with the fence.
    for answers in [0, 2] {
        let mut shell = Shell::up(lasting());
        shell.rotate_to(2);
        shell.on(1).serve();
        shell.on(2).read(&[LISTEN, READY].repeat(answers).concat());
        let last: &[u8] = if answers == 0 { LISTEN } else { SELECT };
        let inside = match answers {
            0 => [last, IN_TRANSACTION].concat(),
            _ => {
                let notified = notified();
                [&notified[..notified.len() - READY.len()], IN_TRANSACTION].concat()
            }
        };
        shell.read(&inside);
        let log = shell.take_log();
        assert_eq!(log.last().unwrap(), "close 2 Abort", "{log:?}");
        assert_eq!(shell.supervisor.state(), State::Connected);
        assert_eq!(shell.on(1).serve(), [r#"UNLISTEN "private""#]);
    }
    // The old one.
    let mut shell = Shell::up(lasting());
    shell.rotate_to(2);
    shell.on(1).take_sent();
    shell.read(&[LISTEN, IN_TRANSACTION].concat());
    assert_eq!(shell.take_sent(), ["ROLLBACK"]);
    let proof = shell.answer("proof");
    shell.read(&[&proof[..], SELECT, READY].concat());
    let log = shell.take_log();
    assert!(log.contains(&"Reconnecting".to_owned()), "{log:?}");
    shell.on(2).serve();
    let sent = shell.serve();
    assert_eq!(sent, ["notify"]);
    let fence = shell.fence();
    shell.read(&[fence, note("1")].concat());
    assert_eq!(shell.seen(), ["GAP", "1"]);
}
