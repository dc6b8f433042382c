//! What a user asks for, and the answers.

use super::*;

#[test]
fn commands_are_answered_when_the_server_has_answered_them() {
    let mut shell = Shell::connected(policy());
    shell.command(listen(&["b", "c"]));
    shell.command(unlisten(&["a"]));
    shell.command(Command::UnlistenAll);
    assert_eq!(shell.take_sent(), [r#"LISTEN "b";LISTEN "c""#, r#"UNLISTEN "a""#, "UNLISTEN *"]);
    assert_eq!(shell.take_log(), [""; 0]);
    shell.read(&[LISTEN, LISTEN, A1, READY].concat());
    assert_eq!(shell.take_log(), ["0: Active"]);
    assert_eq!(shell.channels(), ["a Active", "b Active", "c Active"]);
    shell.read(&[UNLISTEN, READY].concat());
    assert_eq!(shell.take_log(), ["1: Unlistened"]);
    assert_eq!(shell.channels(), ["b Active", "c Active"]);
    shell.read(&[UNLISTEN, READY].concat());
    assert_eq!(shell.take_log(), ["2: Unlistened"]);
    assert_eq!(shell.channels(), [""; 0]);
    shell.command(query("SELECT 1"));
    shell.read(&[SELECT, SELECT, READY].concat());
    assert_eq!(shell.take_log(), ["3: 2 results"]);
}

#[test]
fn a_refused_listen_leaves_the_session_up_and_the_channel_unwanted() {
    let mut shell = Shell::connected(policy());
    shell.command(listen(&["b"]));
    shell.read(&[ERROR, READY].concat());
    assert_eq!(shell.take_log(), [format!("0: {REFUSED}")]);
    assert_eq!(shell.channels(), ["a Active"]);
    assert_eq!(shell.supervisor.state(), State::Connected);
    shell.command(listen(&["b", "\0"]));
    let refused = "1: misuse: channel name has a NUL at byte 0";
    assert_eq!(shell.take_log(), [refused]);
    assert_eq!(shell.take_sent(), [r#"LISTEN "b""#]);
}

/// A server that drops a notification says so in between, and whose answer it is cannot be seen. The next command got the
/// true answer, and a channel was heard that nobody wanted. N38.
#[test]
fn an_error_of_the_server_itself_is_no_answer_to_a_listen() {
    for code in ["58P01", "XX000", "53200"] {
        let mut shell = Shell::connected(lasting());
        shell.read(OLD);
        shell.command(listen(&["b"]));
        shell.command(unlisten(&["a"]));
        shell.read(&[&diagnostic(b'E', "ERROR", code)[..], READY].concat());
        let log = shell.take_log();
        assert_eq!(log[..3], ["0: Pending", "1: Unlistened", "close 1 Abort"], "{code}: {log:?}");
        assert_eq!(shell.channels(), ["b Pending"]);
        shell.reopen();
        shell.serve_all();
        assert_eq!(shell.channels(), ["b Active"]);
        assert!(format!("{:#}", shell.queue.gaps[0].cause()).contains("drops a notification"));
    }
}

#[test]
fn an_answer_behind_a_doubtful_one_is_not_believed() {
    let mut shell = Shell::connected(lasting());
    shell.read(OLD);
    shell.command(listen(&["b"]));
    shell.command(listen(&["c"]));
    shell.read(&[&diagnostic(b'E', "ERROR", "58P01")[..], READY, LISTEN, READY].concat());
    assert_eq!(shell.take_log()[..2], ["0: Pending", "1: Pending"]);
}

/// It may be one that strays, and the next command would get the true one.
#[test]
fn an_error_of_an_old_server_is_followed_by_a_proof_and_nothing_else_before() {
    for (code, first) in [("58P01", query("SELECT nothing")), ("22021", listen(&["c"]))] {
        let mut shell = Shell::connected(lasting());
        shell.read(OLD);
        shell.command(first);
        shell.command(query("SELECT 2"));
        shell.take_sent();
        shell.read(&[&diagnostic(b'E', "ERROR", code)[..], READY].concat());
        assert_eq!(shell.take_sent(), ["proof"], "{code}");
        // It was the answer.
        let mut shell_in_luck = shell;
        let answer = shell_in_luck.answer("proof");
        shell_in_luck.read(&answer);
        assert_eq!(shell_in_luck.take_sent(), ["SELECT 2"], "{code}");
        shell_in_luck.read(&[SELECT, READY].concat());
        assert_eq!(shell_in_luck.take_log().last().unwrap(), "1: 1 results", "{code}");
    }
    // It was none: what comes first is the answer of the command, whatever that is.
    for answer in [[ERROR, READY].concat(), [SELECT, READY].concat()] {
        let mut shell = Shell::connected(lasting());
        shell.read(OLD);
        shell.command(query("SELECT 1"));
        shell.command(query("SELECT 2"));
        shell.read(&[&diagnostic(b'E', "ERROR", "58P01")[..], READY].concat());
        let proof = shell.answer("proof");
        shell.read(&[answer, proof].concat());
        assert_eq!(shell.supervisor.state(), State::Reconnecting);
        assert!(!shell.take_log().iter().any(|line| line.contains("results")));
    }
}

/// As one may that drops a notification.
#[test]
fn an_error_of_an_old_server_in_answer_to_a_proof_is_none() {
    let mut shell = Shell::connected(lasting());
    shell.read(OLD);
    shell.command(query("SELECT 1"));
    shell.read(&[ERROR, READY].concat());
    assert_eq!(shell.take_sent().last().unwrap(), "proof");
    shell.read(&[&diagnostic(b'E', "ERROR", "22021")[..], READY].concat());
    assert_eq!(shell.supervisor.state(), State::Reconnecting);
}

#[test]
fn a_transaction_that_a_query_leaves_open_is_rolled_back_and_told() {
    for status in [IN_TRANSACTION, b"Z\0\0\0\x05E"] {
        let answer = if status == IN_TRANSACTION { SELECT } else { ERROR };
        let mut shell = Shell::connected(policy());
        shell.command(query("BEGIN"));
        shell.read(&[answer, status].concat());
        assert_eq!(shell.take_sent(), ["BEGIN", "ROLLBACK"]);
        assert_eq!(shell.take_log(), [""; 0]);
        shell.read(&[b"C\0\0\0\x0dROLLBACK\0", READY].concat());
        let log = shell.take_log();
        match status == IN_TRANSACTION {
            true => assert_eq!(log, [format!("0: {OPEN_TRANSACTION}")]),
            // The error of the query itself is the cause.
            false => {
                let refused = "the server refused the query: ERROR: no (SQLSTATE 42501)";
                assert_eq!(log, [format!("0: {OPEN_TRANSACTION}: server error: {refused}")]);
            }
        }
    }
}

/// A LISTEN inside the transaction would be undone with it, after it was reported as active.
#[test]
fn a_listen_given_while_a_query_runs_is_sent_after_its_transaction_is_over() {
    let mut shell = Shell::connected(policy());
    shell.command(listen(&["b"]));
    shell.command(query("BEGIN"));
    shell.command(listen(&["c"]));
    shell.command(query("SELECT 1"));
    assert_eq!(shell.take_sent(), [r#"LISTEN "b""#]);
    shell.read(&[LISTEN, READY].concat());
    assert_eq!(shell.take_sent(), ["BEGIN"]);
    shell.read(&[SELECT, IN_TRANSACTION].concat());
    assert_eq!(shell.take_sent(), ["ROLLBACK"]);
    shell.read(&[SELECT, READY].concat());
    assert_eq!(shell.take_sent(), [r#"LISTEN "c""#]);
    shell.read(&[LISTEN, READY].concat());
    assert_eq!(shell.take_sent(), ["SELECT 1"]);
    shell.command(unlisten(&["c"]));
    assert_eq!(shell.take_sent(), [""; 0]);
    shell.read(&[SELECT, READY].concat());
    assert_eq!(shell.take_sent(), [r#"UNLISTEN "c""#]);
    shell.read(&[UNLISTEN, READY].concat());
    assert_eq!(
        shell.take_log(),
        [
            "0: Active",
            &format!("1: {OPEN_TRANSACTION}"),
            "2: Active",
            "3: 1 results",
            "4: Unlistened",
        ]
    );
    assert_eq!(shell.channels(), ["a Active", "b Active"]);
}

/// It was subscribed again, behind the back of the one who left.
#[test]
fn a_channel_unlistened_during_the_first_subscription_is_not_subscribed_again() {
    let mut shell = Shell::opened(policy());
    shell.read(PRELUDE);
    shell.command(unlisten(&["a"]));
    shell.command(listen(&["b"]));
    shell.take_sent();
    assert_eq!(shell.take_log(), [""; 0]);
    shell.read(&[LISTEN, READY].concat());
    assert_eq!(shell.take_sent(), [r#"UNLISTEN "a""#, r#"LISTEN "b""#]);
    shell.read(&[UNLISTEN, READY, LISTEN, READY].concat());
    assert_eq!(shell.take_log(), ["Connected", "0: Unlistened", "1: Active"]);
    assert_eq!(shell.channels(), ["b Active"]);
}

#[test]
fn a_command_behind_a_refused_subscription_gets_an_answer() {
    let mut shell = Shell::opened(policy());
    shell.read(PRELUDE);
    shell.command(listen(&["b"]));
    shell.command(query("SELECT 1"));
    shell.read(&[ERROR, READY].concat());
    assert_eq!(
        shell.take_log(),
        [
            "close 1 Abort",
            &format!("0: {UNSENT}: {NOT_LISTENED}"),
            &format!("1: {UNSENT}: {NOT_LISTENED}"),
            "Closed",
            &format!("done: {NOT_LISTENED}"),
        ]
    );
}

#[test]
fn a_lost_session_answers_every_command_and_ends_the_listener() {
    type Loss = (fn(&mut Shell), String);
    let lost: [Loss; 3] = [
        (
            |shell| shell.event(LinkEvent::Eof),
            "connection: the server closed the connection".into(),
        ),
        (|shell| shell.read(FATAL), ENDED.into()),
        (
            |shell| {
                let broken = Error::new(ErrorKind::Connect, "broken pipe");
                shell.event(LinkEvent::Failed(broken));
            },
            "connection: broken pipe".into(),
        ),
    ];
    let in_doubt = "in doubt: the connection was lost before the server answered, it may have \
                    carried out the query";
    for (lose, text) in lost {
        let mut shell = Shell::connected(policy());
        shell.command(listen(&["b"]));
        lose(&mut shell);
        assert_eq!(
            shell.take_log(),
            [&format!("0: {text}"), "close 1 Abort", "Closed", &format!("done: {text}")]
        );
        let mut shell = Shell::connected(policy());
        shell.command(query("DELETE FROM t"));
        shell.command(listen(&["b"]));
        lose(&mut shell);
        assert_eq!(
            shell.take_log(),
            [
                &format!("0: {in_doubt}: {text}"),
                "close 1 Abort",
                &format!("1: {UNSENT}: {text}"),
                "Closed",
                &format!("done: {text}"),
            ]
        );
        shell.command(listen(&["c"]));
        shell.command(query("SELECT 1"));
        shell.command(Command::Close);
        assert_eq!(shell.take_log(), [format!("2: {OVER}"), format!("3: {OVER}")]);
        assert_eq!(shell.supervisor.poll_timeout(), None);
    }
}

/// The first of a session reads the whole queue of the server, without a word: it has more time than any other.
#[test]
fn a_first_listen_without_answer_ends_at_its_own_deadline() {
    let heartbeat = Heartbeat { deadline: Duration::from_secs(2), ..HEARTBEAT };
    let mut shell = Shell::up(Policy { channels: Vec::new(), heartbeat, ..policy() });
    shell.command(listen(&["b"]));
    shell.pass(Duration::from_millis(4_999));
    assert_eq!(shell.take_log(), [""; 0]);
    shell.pass_until_due();
    let text = "timeout: the server did not answer LISTEN within 5s";
    assert_eq!(
        shell.take_log(),
        [&format!("0: {text}"), "close 1 Abort", "Closed", &format!("done: {text}")]
    );
}

#[test]
fn a_notification_that_the_server_dropped_is_a_gap_in_its_place() {
    let mut shell = Shell::connected(policy());
    shell.read(&[A1, ERROR, READY, A1, A1].concat());
    assert_eq!(
        shell.take_queue(),
        [
            "1 notifications",
            "hold",
            "2 notifications",
            "gap at 1: notifications may be missing here: server error: the server dropped a notification: \
         ERROR: no (SQLSTATE 42501) (no session was lost)",
        ]
    );
    assert_eq!(shell.supervisor.figures().gaps, 1);
    assert_eq!(shell.take_log(), [""; 0]);
}

/// L1.
#[test]
fn no_debug_shows_a_password_or_a_query() {
    let alter = || query("ALTER ROLE bob PASSWORD 'plugh'");
    let mut shell = Shell::new(policy());
    let mut seen = format!("{:?} {:?}", alter(), LinkEvent::Opened(session(shell.now)));
    shell.event(LinkEvent::Opened(session(shell.now)));
    seen += &format!("{:?}", shell.supervisor);
    // The server asks for it.
    shell.read(b"R\0\0\0\x08\0\0\0\x03");
    assert_eq!(shell.take_sent(), ["startup", "PasswordMessage"]);
    shell.read(PRELUDE);
    seen += &format!("{:?}", shell.supervisor);
    shell.command(alter());
    shell.command(alter());
    seen += &format!("{:?}", shell.supervisor);
    shell.read(FATAL);
    let log = shell.take_log();
    seen += &format!("{:?} {log:?}", shell.supervisor);
    assert!(seen.contains("SimpleQuery(31 bytes)"), "{seen}");
    for secret in ["secret", "plugh", "115, 101, 99, 114"] {
        assert!(!seen.contains(secret), "{secret}: {seen}");
    }
}

/// In a database of another encoding the error of a conversion may report a notification that was dropped behind the
/// query. A proof finds nothing wrong then.
#[test]
fn a_query_that_is_answered_with_an_error_of_a_conversion_by_an_old_server_may_be_a_gap() {
    for (code, encoding, is_gap) in [
        ("22021", "SQL_ASCII", true),
        ("22P05", "EUC_JP", true),
        ("22P05", "UTF8", false),
        ("22012", "EUC_JP", false),
    ] {
        let mut shell = Shell::up(lasting());
        shell.read(OLD);
        shell.read(&message(b'S', format!("server_encoding\0{encoding}\0").as_bytes()));
        shell.command(query("SELECT 1"));
        shell.take_sent();
        let answer = [SELECT, &diagnostic(b'E', "ERROR", code), READY].concat();
        shell.read(&[note("1"), answer, note("2")].concat());
        assert_eq!(shell.serve_all().len(), 1, "a proof");
        let seen = if is_gap { vec!["1", "GAP", "2"] } else { vec!["1", "2"] };
        assert_eq!(shell.seen(), seen, "{code} {encoding}");
    }
}

/// The server drops a notification, and its report crosses a query: it was told as the refusal of the query, which the
/// server then carries out.
#[test]
fn a_query_that_is_crossed_by_the_report_of_a_dropped_notification_is_in_doubt() {
    let is_in_doubt = |line: &str, code: &str| {
        line.starts_with("0: in doubt: the server may have carried out the command")
            && line.contains(code)
    };
    for code in ["53200", "58P01", "XX000"] {
        let report = [&diagnostic(b'E', "ERROR", code)[..], READY].concat();
        let refused = format!("the server refused the query: ERROR: no (SQLSTATE {code})");
        for command in [query("INSERT INTO t VALUES (1)"), Command::QueueUsage] {
            for is_old in [true, false] {
                // The end of the session in the same read changes nothing.
                for end in [&b""[..], FATAL] {
                    let mut shell = Shell::up(lasting());
                    if is_old {
                        shell.read(OLD);
                    }
                    shell.command(command.clone());
                    shell.read(&[&report[..], end].concat());
                    let reply = shell.first_reply();
                    match is_old {
                        true => assert!(is_in_doubt(&reply, &refused), "{reply}"),
                        false => assert_eq!(reply, format!("0: server error: {refused}")),
                    }
                }
            }
        }
        // Right behind the answer.
        let mut shell = Shell::up(lasting());
        shell.read(OLD);
        shell.command(query("SELECT 1"));
        shell.read(&[SELECT, &report].concat());
        let reply = shell.first_reply();
        assert!(is_in_doubt(&reply, &refused), "{reply}");
    }
    // The error of a query that reports no drop.
    let mut shell = Shell::up(lasting());
    shell.read(OLD);
    shell.command(query("SELECT 1"));
    shell.read(&[ERROR, READY].concat());
    let refused = "0: server error: the server refused the query: ERROR: no (SQLSTATE 42501)";
    assert_eq!(shell.first_reply(), refused);
}

/// The last proof before a drain lies before its UNLISTEN, and the proof behind another UNLISTEN finds nothing wrong.
#[test]
fn an_unlisten_that_is_crossed_by_the_report_of_a_dropped_notification_is_a_gap() {
    let report = |code| [&diagnostic(b'E', "ERROR", code)[..], READY].concat();
    for (code, is_old) in [("53200", true), ("22021", true), ("53200", false)] {
        let mut shell = Shell::up(lasting());
        if is_old {
            shell.read(OLD);
        }
        shell.command(Command::Drain { within: Duration::from_secs(3) });
        let proof = shell.answer("proof");
        shell.read(&proof);
        assert_eq!(shell.take_sent(), ["proof", "UNLISTEN *"]);
        shell.read(&[note("1"), report(code)].concat());
        let reply = shell.first_reply();
        assert!(reply.starts_with("0: server error") && reply.contains(code), "{reply}");
        shell.event(LinkEvent::Eof);
        assert_eq!(shell.seen(), if is_old { vec!["1", "GAP"] } else { vec!["1"] }, "{code}");
    }
    // To a channel that is not listened to, in a database that is not UTF-8.
    let mut shell = Shell::up(lasting());
    shell.read(OLD);
    shell.command(unlisten(&["b"]));
    shell.take_sent();
    shell.read(&[note("1"), UNLISTEN.to_vec(), report("22021"), note("2")].concat());
    shell.serve_all();
    assert_eq!(shell.seen(), ["1", "GAP", "2"]);
    assert_eq!(shell.supervisor.state(), State::Connected);
}

/// A server drops nothing there.
#[test]
fn an_error_of_an_old_server_inside_a_transaction_is_the_answer_and_no_gap() {
    let failed = [&diagnostic(b'E', "ERROR", "53200")[..], b"Z\0\0\0\x05E"].concat();
    let mut shell = Shell::up(lasting());
    shell.read(OLD);
    shell.command(query("BEGIN; INSERT INTO t VALUES (1)"));
    shell.take_sent();
    shell.read(&[note("1"), SELECT.to_vec(), failed, note("2")].concat());
    assert_eq!(shell.take_sent(), ["ROLLBACK"]);
    shell.read(&[SELECT, READY].concat());
    shell.serve_all();
    let refused = "server error: the server refused the query: ERROR: no (SQLSTATE 53200)";
    assert_eq!(shell.first_reply(), format!("0: {OPEN_TRANSACTION}: {refused}"));
    assert_eq!(shell.seen(), ["1", "2"]);
}

/// It told of a notification that was dropped behind the query, and nothing but the error of the query was told.
#[test]
fn a_query_that_is_answered_with_trouble_of_an_old_server_may_be_a_gap() {
    let trouble = [SELECT, &diagnostic(b'E', "ERROR", "58P01"), READY].concat();
    for is_old in [true, false] {
        let mut shell = Shell::up(lasting());
        if is_old {
            shell.read(OLD);
        }
        shell.command(query("SELECT 1"));
        shell.take_sent();
        shell.read(&[note("1"), trouble.clone(), note("2")].concat());
        assert_eq!(shell.serve_all().len(), usize::from(is_old), "a proof");
        assert_eq!(shell.supervisor.state(), State::Connected);
        let seen = if is_old { vec!["1", "GAP", "2"] } else { vec!["1", "2"] };
        assert_eq!(shell.seen(), seen);
        // Of ours.
        shell.command(query("SELECT 1"));
        shell.take_sent();
        shell.read(&[SELECT, IN_TRANSACTION].concat());
        assert_eq!(shell.take_sent(), ["ROLLBACK"]);
        shell.read(&trouble);
        shell.serve_all();
        assert_eq!(shell.seen(), if is_old { vec!["GAP"] } else { vec![] });
    }
}

#[test]
fn very_many_channels_are_reported_when_they_become_so_many() {
    let names = |count: usize| (0..count).map(|n| format!("c{n}")).collect::<Vec<_>>();
    let warned = |shell: &mut Shell| {
        let told = std::mem::take(&mut shell.told);
        let many = |incident: &Incident| match incident {
            Incident::ManyChannels { channels } => Some(*channels),
            _ => None,
        };
        told.iter().filter_map(many).collect::<Vec<_>>()
    };
    let mut shell = Shell::up(Policy { channels: names(CHANNELS_WARNED), ..policy() });
    assert_eq!(warned(&mut shell), []);
    for (command, expected) in [
        (listen(&["c0"]), vec![]),
        (listen(&["more"]), vec![CHANNELS_WARNED + 1]),
        (listen(&["and more"]), vec![]),
        (unlisten(&["more", "and more"]), vec![]),
        (listen(&["again", "twice"]), vec![CHANNELS_WARNED + 2]),
    ] {
        shell.command(command);
        shell.serve();
        assert_eq!(warned(&mut shell), expected);
    }
    let mut shell = Shell::new(Policy { channels: names(CHANNELS_WARNED + 1), ..policy() });
    assert_eq!(warned(&mut shell), [CHANNELS_WARNED + 1]);
}
