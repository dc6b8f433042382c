//! The proof that a session lives.

use super::*;

const EVERY: Duration = Duration::from_secs(10);
const DEADLINE: Duration = Duration::from_secs(8);

fn proving() -> Policy {
    Policy { heartbeat: Heartbeat { every: EVERY, deadline: DEADLINE }, ..lasting() }
}

/// A proof was sent just now.
fn asked() -> Shell {
    let mut shell = Shell::up(proving());
    shell.pass(EVERY);
    assert_eq!(shell.take_sent(), ["proof"]);
    shell
}

fn is_lost(shell: &Shell) -> bool {
    shell.supervisor.state() == State::Reconnecting
}

fn cause(shell: &Shell) -> String {
    let error = shell.told.iter().find_map(|incident| match incident {
        Incident::Lost { error } => Some(format!("{error:#}")),
        _ => None,
    });
    error.unwrap_or_default()
}

#[test]
fn a_live_session_is_proven_at_every_interval() {
    let mut shell = Shell::up(proving());
    for n in 1..4 {
        assert_eq!(shell.due_in(), EVERY);
        shell.pass(EVERY - Duration::from_millis(1));
        assert_eq!(shell.take_sent(), NOTHING);
        shell.pass_until_due();
        assert_eq!(shell.due_in(), DEADLINE);
        assert_eq!(shell.serve(), ["proof"]);
        assert_eq!(shell.supervisor.figures().proofs, n);
    }
    assert_eq!(shell.take_log(), NOTHING);
    // Of no channel too: the server says NULL.
    shell.command(Command::UnlistenAll);
    shell.serve();
    shell.pass_until_due();
    assert_eq!(shell.serve(), ["proof"]);
    assert_eq!(shell.take_log(), ["0: Unlistened"]);
}

#[test]
fn silence_loses_the_session_at_the_deadline_and_not_before() {
    let mut shell = asked();
    shell.pass(DEADLINE - Duration::from_millis(1));
    assert!(!is_lost(&shell));
    shell.pass_until_due();
    assert!(is_lost(&shell));
    assert!(cause(&shell).starts_with("timeout: nothing came from the server for 8s while"));
}

#[test]
fn whatever_comes_extends_the_deadline() {
    let mut shell = asked();
    for _ in 0..21 {
        shell.pass(seconds(7));
        // Half of a notification is enough.
        shell.read(&A1[..6]);
        shell.pass(seconds(7));
        shell.read(&A1[6..]);
        shell.consume(1);
    }
    assert_eq!(shell.due_in(), seconds(6), "five minutes in all");
    assert!(!is_lost(&shell));
    let answer = shell.answer("proof");
    shell.read(&answer);
    assert_eq!(shell.due_in(), EVERY);
}

/// Silence counts from the question: before it nothing had to come.
#[test]
fn a_session_that_was_quiet_before_has_all_the_time_for_its_answer() {
    let mut shell = Shell::up(Policy {
        heartbeat: Heartbeat { every: seconds(600), deadline: DEADLINE },
        ..lasting()
    });
    shell.pass_until_due();
    assert_eq!(shell.due_in(), DEADLINE);
}

#[test]
fn a_flood_without_an_answer_ends_after_five_minutes() {
    let mut shell = asked();
    for _ in 0..299 {
        shell.pass(seconds(1));
        shell.read(A1);
        shell.consume(1);
    }
    assert!(!is_lost(&shell));
    assert_eq!(shell.due_in(), seconds(1));
    shell.pass_until_due();
    assert!(is_lost(&shell));
    assert_eq!(cause(&shell).split(" (hint").next().unwrap(), PROOF_LATE);
}

const PROOF_LATE: &str = "timeout: the server did not answer within 300s";

#[test]
fn who_was_asleep_gives_the_server_one_more_chance() {
    for asleep in [DEADLINE + seconds(1), seconds(301), seconds(3_600)] {
        // What came meanwhile is read only after the timer was looked at.
        let mut shell = asked();
        shell.pass(asleep);
        assert!(!is_lost(&shell), "{asleep:?}");
        assert_eq!(shell.due_in(), DEADLINE);
        let answer = shell.answer("proof");
        shell.read(&answer);
        assert_eq!(shell.due_in(), EVERY);

        let mut shell = asked();
        shell.pass(asleep);
        shell.pass_until_due();
        assert!(is_lost(&shell), "one");

        // And it is asked for, when it was not.
        let mut shell = Shell::up(proving());
        shell.pass(asleep + EVERY);
        assert_eq!(shell.take_sent(), ["proof"]);
        assert_eq!(shell.due_in(), DEADLINE);
        // The next proof has a chance of its own.
        let mut shell = asked();
        shell.pass(asleep);
        let answer = shell.answer("proof");
        shell.read(&answer);
        shell.pass(EVERY);
        shell.pass(asleep);
        assert!(!is_lost(&shell));
    }
}

#[test]
fn a_wrong_count_or_a_wrong_digest_loses_the_session() {
    let set = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    let null = [row(&[None, None]), READY.to_vec()].concat();
    let nothing = [SELECT, READY].concat();
    let answers = [
        (proof(&set(&[])), "names 0"),
        (proof(&set(&["a", "b"])), "names 2"),
        (proof(&set(&["b"])), "names 1"),
        (null, "names an unknown number of"),
        (nothing, "names an unknown number of"),
    ];
    for (answer, text) in answers {
        let mut shell = asked();
        shell.read(&answer);
        assert!(is_lost(&shell), "{text}");
        let cause = cause(&shell);
        assert!(cause.contains("pooler") && cause.contains(text), "{cause}");
        shell.reopen();
        assert_eq!(shell.serve(), [r#"LISTEN "a""#]);
        assert_eq!(shell.seen(), ["GAP"]);
    }
}

#[test]
fn a_proof_that_was_cut_off_is_a_sign_of_life() {
    let mut shell = asked();
    shell.read(&[diagnostic(b'E', "ERROR", "57014"), READY.to_vec()].concat());
    assert!(!is_lost(&shell));
    assert_eq!(shell.due_in(), EVERY);
    // And of no more: that is told.
    assert!(matches!(shell.told[..], [Incident::ProofRefused { .. }]));
    // It is asked again as before.
    shell.pass(EVERY);
    assert_eq!(shell.take_sent(), ["proof"]);
}

/// Each heartbeat was refused, and with it every handover: where a function may not be executed, or does not exist.
#[test]
fn a_session_that_is_refused_a_proof_is_asked_for_an_easier_one_from_then_on() {
    let refused = [ERROR, READY].concat();
    let mut shell = asked();
    shell.read(&refused);
    assert_eq!(shell.serve(), ["count"]);
    assert_eq!(shell.due_in(), EVERY);
    assert!(matches!(shell.told[..], [Incident::ProofRefused { .. }]));
    shell.pass(EVERY);
    assert_eq!(shell.serve(), ["count"]);
    shell.pass(EVERY);
    assert_eq!(shell.take_sent(), ["count"]);
    shell.read(&refused);
    assert_eq!(shell.serve(), ["life"]);
    assert_eq!(shell.due_in(), EVERY);
    shell.pass(EVERY);
    assert_eq!(shell.take_sent(), ["life"]);
    // There is nothing easier.
    shell.read(&refused);
    assert_eq!(shell.take_sent(), NOTHING);
    assert_eq!(shell.due_in(), EVERY);
    assert_eq!(shell.told.len(), 3);
    assert!(!is_lost(&shell));
    // Another session may be another role's.
    shell.come_back();
    shell.serve();
    shell.pass_until_due();
    assert_eq!(shell.take_sent(), ["proof"]);
}

#[test]
fn an_easier_proof_with_another_answer_loses_the_session() {
    let set = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    let one = |value| [row(&[Some(value)]), READY.to_vec()].concat();
    let answers = [
        (vec!["count"], one("2")),
        (vec!["count"], one("pgbell")),
        // The answer to the one before.
        (vec!["count"], proof(&set(&["a"]))),
        (vec!["count", "life"], one("1")),
        (vec!["count", "life"], [SELECT, READY].concat()),
    ];
    for (questions, answer) in answers {
        let mut shell = asked();
        for question in questions {
            shell.read(&[ERROR, READY].concat());
            assert_eq!(shell.take_sent(), [question]);
        }
        shell.read(&answer);
        assert!(is_lost(&shell), "{answer:?}");
    }
}

/// The session was lost.
#[test]
fn a_proof_behind_an_error_of_an_old_server_may_be_refused_too() {
    let mut shell = Shell::up(lasting());
    shell.read(OLD);
    shell.command(query("SELECT 1"));
    shell.take_sent();
    shell.read(&[ERROR, READY].concat());
    assert_eq!(shell.take_sent(), ["proof"]);
    shell.command(query("SELECT 1"));
    shell.read(&[ERROR, READY].concat());
    assert_eq!(shell.take_sent(), ["count"]);
    // Nothing is sent before one was given.
    let answer = shell.answer("count");
    shell.read(&answer);
    assert_eq!(shell.serve(), ["SELECT 1"]);
    assert!(!is_lost(&shell));
}

/// A session that may not prove anything was never replaced.
#[test]
fn a_refused_proof_is_no_reason_against_a_handover() {
    let cut_off = [diagnostic(b'E', "ERROR", "57014"), READY.to_vec()].concat();
    let refused = [ERROR, READY].concat();
    for (questions, answer) in [
        (vec!["proof"], cut_off),
        (vec!["proof", "count"], Vec::new()),
        (vec!["proof", "count", "life"], Vec::new()),
        (vec!["proof", "count", "life"], refused.clone()),
    ] {
        let mut shell = Shell::up(lasting());
        shell.rotate_to(2);
        shell.on(2).serve();
        let sent = shell.on(1).take_sent();
        let listened = shell.answer(&sent[0]);
        shell.read(&listened);
        let (last, others) = questions.split_last().unwrap();
        for (n, question) in others.iter().enumerate() {
            assert_eq!(*question, questions[n]);
            shell.read(&refused);
        }
        assert_eq!(shell.on(2).take_sent(), NOTHING);
        let answer = if answer.is_empty() { shell.on(1).answer(last) } else { answer };
        shell.on(1).read(&answer);
        assert_eq!(shell.on(2).serve(), ["notify"], "{questions:?}");
        let fence = shell.fence();
        shell.read(&fence);
        shell.on(1).read(&fence);
        assert_eq!(shell.supervisor.figures().handovers, 1);
        assert_eq!(shell.queue.gaps.len(), 0);
    }
}

#[test]
fn none_is_asked_for_while_a_command_runs_whose_deadline_counts() {
    let mut shell = Shell::up(proving());
    shell.command(query("SELECT 1"));
    shell.pass(EVERY * 10);
    assert_eq!(shell.supervisor.poll_timeout(), None);
    assert_eq!(shell.serve(), ["SELECT 1"]);
    // As soon as it is over.
    assert_eq!(shell.serve(), ["proof"]);
    shell.command(listen(&["b"]));
    assert_eq!(shell.due_in(), DEADLINE);
    shell.pass_until_due();
    assert!(cause(&shell).starts_with("timeout: nothing came from the server for 8s while"));
}

#[test]
fn none_is_asked_for_while_the_socket_is_not_read() {
    let overflow = Overflow::Block { max_stall: seconds(100) };
    let mut shell = Shell::up(Policy { overflow, ..proving() });
    shell.read(&A1.repeat(5));
    assert_eq!(shell.due_in(), seconds(100));
    shell.pass(seconds(99));
    assert_eq!(shell.take_sent(), NOTHING);
    shell.consume(4);
    shell.pass(Duration::ZERO);
    assert_eq!(shell.take_sent(), ["proof"]);
    assert_eq!(shell.due_in(), DEADLINE);
    assert!(!is_lost(&shell));
}

/// Nobody would read the answer.
#[test]
fn the_end_of_a_hook_asks_for_no_proof_on_a_socket_that_is_not_read() {
    let overflow = Overflow::Block { max_stall: seconds(100) };
    let mut shell = Shell::up(Policy { overflow, hook: Some(HOOK), ..proving() });
    shell.read(&A1.repeat(5));
    shell.pass(EVERY);
    shell.hook(Ok(()));
    assert_eq!(shell.take_sent(), NOTHING);
}

/// A command makes the socket be read: what was not read before was not waited for.
#[test]
fn the_time_begins_anew_after_a_stall() {
    let overflow = Overflow::Block { max_stall: seconds(100) };
    let mut shell = Shell::up(Policy { overflow, hook: Some(HOOK), ..proving() });
    shell.hook(Ok(()));
    shell.pass(EVERY - seconds(1));
    shell.read(&A1.repeat(5));
    shell.pass(seconds(50));
    shell.command(listen(&["b"]));
    assert_eq!(shell.serve(), [r#"LISTEN "b""#]);
    assert_eq!(shell.serve(), ["proof"]);
    assert_eq!(shell.due_in(), EVERY);
    assert!(!is_lost(&shell));
}

/// A LISTEN has half a minute where it is the first of a session. Here it is a sign of life.
#[test]
fn an_answer_to_a_user_is_not_waited_for_longer_than_a_proof() {
    let heartbeat = Heartbeat { every: EVERY, deadline: seconds(2) };
    let mut shell = Shell::up(Policy { heartbeat, ..lasting() });
    shell.pass(seconds(5));
    shell.command(listen(&["b"]));
    shell.pass(seconds(1));
    shell.command(listen(&["c"]));
    assert_eq!(shell.due_in(), seconds(1));
    shell.read(A1);
    assert_eq!(shell.due_in(), seconds(2));
    shell.pass_until_due();
    assert!(is_lost(&shell));
    assert_eq!(shell.take_log()[..2], ["0: Pending", "1: Pending"]);
    // A query takes as long as it takes.
    let mut shell = Shell::up(Policy { heartbeat, ..lasting() });
    shell.command(query("SELECT 1"));
    assert_eq!(shell.supervisor.poll_timeout(), None);
}

/// There was always something in flight, and so there was never a proof.
#[test]
fn commands_without_end_let_the_proof_pass() {
    let mut shell = Shell::up(proving());
    shell.pass(EVERY - seconds(1));
    shell.command(listen(&["b"]));
    shell.pass(seconds(1));
    assert_eq!(shell.take_sent(), [r#"LISTEN "b""#]);
    shell.command(listen(&["c"]));
    assert_eq!(shell.take_sent(), NOTHING);
    shell.read(&[LISTEN, READY].concat());
    assert_eq!(shell.take_sent(), ["proof", r#"LISTEN "c""#]);
    assert_eq!(shell.take_log(), ["0: Active"]);
}

/// It was dropped, every ten seconds, though the consumer had time left.
#[test]
fn a_proof_in_flight_does_not_make_a_blocking_queue_drop() {
    let overflow = Overflow::Block { max_stall: seconds(100) };
    let mut shell = Shell::up(Policy { overflow, ..proving() });
    shell.pass(EVERY);
    assert_eq!(shell.take_sent(), ["proof"]);
    shell.read(&A1.repeat(10));
    assert_eq!((shell.queue.lost, shell.wire().reading()), (0, false));
    shell.pass(seconds(99));
    shell.consume(10);
    shell.consume(10);
    assert_eq!((shell.queue.lost, shell.queue.taken), (0, 10));
    assert_eq!(shell.due_in(), DEADLINE);
}

/// Whose queue is full for ever: a deadline that was due and not looked at woke the task without end.
#[test]
fn a_stall_without_an_end_leaves_nothing_due() {
    let overflow = Overflow::Block { max_stall: Duration::MAX };
    let mut shell = Shell::up(Policy { overflow, max_lifetime: Some(seconds(100)), ..proving() });
    shell.read(&A1.repeat(6));
    shell.pass(seconds(101));
    assert_eq!(shell.supervisor.poll_timeout(), None);
}

#[test]
fn a_proof_that_is_much_too_long_is_none() {
    let mut shell = asked();
    let long = "x".repeat(5_000);
    shell.read(&[row(&[Some("1"), Some(&long)]), READY.to_vec()].concat());
    assert!(is_lost(&shell));
    assert!(cause(&shell).contains("larger than 4096 bytes"), "{}", cause(&shell));
}

/// A server that is behind answers when it has caught up: it was given up after half a minute.
#[test]
fn a_flood_extends_the_deadline_of_a_listen_too() {
    let mut shell = Shell::up(proving());
    shell.command(listen(&["b"]));
    for _ in 0..60 {
        shell.pass(seconds(1));
        shell.read(A1);
        shell.consume(1);
    }
    assert!(!is_lost(&shell));
    shell.read(&[LISTEN, READY].concat());
    assert_eq!(shell.take_log(), ["0: Active"]);
}

/// The time of the stall was added to what was sent at its end.
#[test]
fn what_is_sent_at_the_end_of_a_stall_is_not_waited_for_longer() {
    let overflow = Overflow::Block { max_stall: seconds(100) };
    let mut shell = Shell::up(Policy { overflow, ..proving() });
    shell.read(&A1.repeat(6));
    shell.pass(seconds(90));
    shell.command(listen(&["b"]));
    // The proof was due long ago, and waits for it.
    shell.pass(Duration::ZERO);
    assert_eq!(shell.due_in(), DEADLINE);
}

#[test]
fn a_listen_is_not_waited_for_without_end_where_no_proof_is_asked_for() {
    let never = Heartbeat { every: Duration::MAX, deadline: Duration::MAX };
    let mut shell = Shell::up(Policy { heartbeat: never, ..lasting() });
    shell.command(listen(&["b"]));
    assert_eq!(shell.due_in(), seconds(30));
    shell.pass_until_due();
    assert!(is_lost(&shell));
}

/// It is late for every deadline, by as much as a task that did not run: the server was given one more chance each time.
#[test]
fn who_is_always_late_notices_a_dead_connection_all_the_same() {
    let late = DEADLINE + seconds(1);
    let mut shell = asked();
    shell.pass(late);
    assert!(!is_lost(&shell));
    shell.pass(late);
    assert!(is_lost(&shell));
}

/// The server commits LISTEN in quadratic time and says nothing meanwhile: the session was lost after 8 s.
#[test]
fn a_listen_to_very_many_channels_is_waited_for_as_long_as_it_takes() {
    let many = |count: usize| Command::Listen((0..count).map(|n| format!("c{n}")).collect());
    for (count, seconds) in [(1, 0), (3_000, 0), (30_000, 17), (100_000, 199), (200_000, 300)] {
        let mut shell = Shell::up(lasting());
        shell.command(many(count));
        let quiet = shell.due_in() - HEARTBEAT.deadline;
        assert_eq!(quiet.as_secs(), seconds, "{count}");
        // It is bounded: one that is dead is lost.
        shell.pass_until_due();
        assert!(is_lost(&shell), "{count}");
        // And the first LISTEN of a session has its own deadline.
        let mut shell = Shell::up(Policy { channels: Vec::new(), ..lasting() });
        shell.command(many(count));
        assert_eq!((shell.due_in() - Duration::from_secs(5)).as_secs(), seconds, "{count}");
    }
}
