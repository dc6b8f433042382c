//! Users' commands and their answers.

use super::*;

#[test]
fn commands_are_answered_when_the_server_has_answered_them() {
    let mut driver = TestDriver::connected(policy());
    driver.command(listen(&["b", "c"]));
    driver.command(unlisten(&["a"]));
    driver.command(Command::UnlistenAll);
    assert_eq!(driver.take_sent(), [r#"LISTEN "b";LISTEN "c""#, r#"UNLISTEN "a""#, "UNLISTEN *"]);
    assert_eq!(driver.take_log(), [""; 0]);
    driver.read(&[LISTEN, LISTEN, A1, READY].concat());
    assert_eq!(driver.take_log(), ["0: Active"]);
    assert_eq!(driver.channels(), ["a Active", "b Active", "c Active"]);
    driver.read(&[UNLISTEN, READY].concat());
    assert_eq!(driver.take_log(), ["1: Unlistened"]);
    assert_eq!(driver.channels(), ["b Active", "c Active"]);
    driver.read(&[UNLISTEN, READY].concat());
    assert_eq!(driver.take_log(), ["2: Unlistened"]);
    assert_eq!(driver.channels(), [""; 0]);
    driver.command(query("SELECT 1"));
    driver.read(&[SELECT, SELECT, READY].concat());
    assert_eq!(driver.take_log(), ["3: 2 results"]);
}

#[test]
fn after_a_refused_listen_the_session_goes_on_and_the_channel_is_not_wanted() {
    let mut driver = TestDriver::connected(policy());
    driver.command(listen(&["b"]));
    driver.read(&[ERROR, READY].concat());
    assert_eq!(driver.take_log(), [format!("0: {REFUSED}")]);
    assert_eq!(driver.channels(), ["a Active"]);
    assert_eq!(driver.supervisor.state(), State::Connected);
    driver.command(listen(&["b", "\0"]));
    let refused = "1: misuse: channel name has a NUL at byte 0";
    assert_eq!(driver.take_log(), [refused]);
    assert_eq!(driver.take_sent(), [r#"LISTEN "b""#]);
}

/// An earlier version took the report of a dropped notification for the answer to a command, and the true answer for that to the
/// next command. So the session listened to a channel that was not wanted.
#[test]
fn an_internal_error_of_an_old_server_is_not_the_answer_to_a_listen() {
    for code in ["58P01", "XX000", "53200"] {
        let mut driver = TestDriver::connected(lasting());
        driver.read(OLD);
        driver.command(listen(&["b"]));
        driver.command(unlisten(&["a"]));
        driver.read(&[&diagnostic(b'E', "ERROR", code)[..], READY].concat());
        let log = driver.take_log();
        assert_eq!(log[..3], ["0: Pending", "1: Unlistened", "close 1 Abort"], "{code}: {log:?}");
        assert_eq!(driver.channels(), ["b Pending"]);
        driver.reopen();
        driver.serve_all();
        assert_eq!(driver.channels(), ["b Active"]);
        let hint = "this error may be unrelated to the command: a server of this version sends it when it drops a \
                    notification";
        let cause = format!("{:#}", driver.supervisor.sink.gaps[0].cause());
        assert!(cause.contains(hint), "{cause}");
    }
}

#[test]
fn an_answer_after_a_stray_error_is_rejected() {
    let mut driver = TestDriver::connected(lasting());
    driver.read(OLD);
    driver.command(listen(&["b"]));
    driver.command(listen(&["c"]));
    driver.read(&[&diagnostic(b'E', "ERROR", "58P01")[..], READY, LISTEN, READY].concat());
    assert_eq!(driver.take_log()[..2], ["0: Pending", "1: Pending"]);
}

/// The error may be a stray error, and the next command would get the true answer.
#[test]
fn after_an_error_of_an_old_server_a_heartbeat_is_sent_before_the_next_command() {
    for (code, first) in [("58P01", query("SELECT nothing")), ("22021", listen(&["c"]))] {
        let mut driver = TestDriver::connected(lasting());
        driver.read(OLD);
        driver.command(first);
        driver.command(query("SELECT 2"));
        driver.take_sent();
        driver.read(&[&diagnostic(b'E', "ERROR", code)[..], READY].concat());
        assert_eq!(driver.take_sent(), ["heartbeat"], "{code}");
        // The error was the answer.
        let mut accepted = driver;
        let answer = accepted.answer("heartbeat");
        accepted.read(&answer);
        assert_eq!(accepted.take_sent(), ["SELECT 2"], "{code}");
        accepted.read(&[SELECT, READY].concat());
        assert_eq!(accepted.take_log().last().unwrap(), "1: 1 results", "{code}");
    }
    // It was a stray error, so the next answer is that of the command.
    for answer in [[ERROR, READY].concat(), [SELECT, READY].concat()] {
        let mut driver = TestDriver::connected(lasting());
        driver.read(OLD);
        driver.command(query("SELECT 1"));
        driver.command(query("SELECT 2"));
        driver.read(&[&diagnostic(b'E', "ERROR", "58P01")[..], READY].concat());
        let heartbeat = driver.answer("heartbeat");
        driver.read(&[answer, heartbeat].concat());
        assert_eq!(driver.supervisor.state(), State::Reconnecting);
        assert!(!driver.take_log().iter().any(|line| line.contains("results")));
    }
}

/// The error may be the report of a dropped notification.
#[test]
fn an_error_of_an_old_server_in_answer_to_a_heartbeat_is_a_stray_error() {
    let mut driver = TestDriver::connected(lasting());
    driver.read(OLD);
    driver.command(query("SELECT 1"));
    driver.read(&[ERROR, READY].concat());
    assert_eq!(driver.take_sent().last().unwrap(), "heartbeat");
    driver.read(&[&diagnostic(b'E', "ERROR", "22021")[..], READY].concat());
    assert_eq!(driver.supervisor.state(), State::Reconnecting);
}

#[test]
fn a_transaction_that_a_query_leaves_open_is_rolled_back_and_reported() {
    for status in [IN_TRANSACTION, b"Z\0\0\0\x05E"] {
        let answer = if status == IN_TRANSACTION { SELECT } else { ERROR };
        let mut driver = TestDriver::connected(policy());
        driver.command(query("BEGIN"));
        driver.read(&[answer, status].concat());
        assert_eq!(driver.take_sent(), ["BEGIN", "ROLLBACK"]);
        assert_eq!(driver.take_log(), [""; 0]);
        driver.read(&[b"C\0\0\0\x0dROLLBACK\0", READY].concat());
        let log = driver.take_log();
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
    let mut driver = TestDriver::connected(policy());
    driver.command(listen(&["b"]));
    driver.command(query("BEGIN"));
    driver.command(listen(&["c"]));
    driver.command(query("SELECT 1"));
    assert_eq!(driver.take_sent(), [r#"LISTEN "b""#]);
    driver.read(&[LISTEN, READY].concat());
    assert_eq!(driver.take_sent(), ["BEGIN"]);
    driver.read(&[SELECT, IN_TRANSACTION].concat());
    assert_eq!(driver.take_sent(), ["ROLLBACK"]);
    driver.read(&[SELECT, READY].concat());
    assert_eq!(driver.take_sent(), [r#"LISTEN "c""#]);
    driver.read(&[LISTEN, READY].concat());
    assert_eq!(driver.take_sent(), ["SELECT 1"]);
    driver.command(unlisten(&["c"]));
    assert_eq!(driver.take_sent(), [""; 0]);
    driver.read(&[SELECT, READY].concat());
    assert_eq!(driver.take_sent(), [r#"UNLISTEN "c""#]);
    driver.read(&[UNLISTEN, READY].concat());
    assert_eq!(
        driver.take_log(),
        [
            "0: Active",
            &format!("1: {OPEN_TRANSACTION}"),
            "2: Active",
            "3: 1 results",
            "4: Unlistened",
        ]
    );
    assert_eq!(driver.channels(), ["a Active", "b Active"]);
}

/// An earlier version listened to the channel again, without a command for it.
#[test]
fn a_channel_unlistened_during_the_first_restore_is_not_listened_to_again() {
    let mut driver = TestDriver::opened(policy());
    driver.read(PRELUDE);
    driver.command(unlisten(&["a"]));
    driver.command(listen(&["b"]));
    driver.take_sent();
    assert_eq!(driver.take_log(), [""; 0]);
    driver.read(&[LISTEN, READY].concat());
    assert_eq!(driver.take_sent(), [r#"UNLISTEN "a""#, r#"LISTEN "b""#]);
    driver.read(&[UNLISTEN, READY, LISTEN, READY].concat());
    assert_eq!(driver.take_log(), ["Connected", "0: Unlistened", "1: Active"]);
    assert_eq!(driver.channels(), ["b Active"]);
}

#[test]
fn a_command_after_a_refused_first_listen_gets_an_answer() {
    let mut driver = TestDriver::opened(policy());
    driver.read(PRELUDE);
    driver.command(listen(&["b"]));
    driver.command(query("SELECT 1"));
    driver.read(&[ERROR, READY].concat());
    assert_eq!(
        driver.take_log(),
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
    type Loss = (fn(&mut TestDriver), String);
    let lost: [Loss; 3] = [
        (
            |driver| driver.event(LinkEvent::Eof),
            "connection: the server closed the connection".into(),
        ),
        (|driver| driver.read(FATAL), ENDED.into()),
        (
            |driver| {
                let broken = Error::new(ErrorKind::Connect, "broken pipe");
                driver.event(LinkEvent::Failed(broken));
            },
            "connection: broken pipe".into(),
        ),
    ];
    let in_doubt = "in doubt: the connection was lost before the server answered, and the query may \
                    have been carried out";
    for (lose, text) in lost {
        let mut driver = TestDriver::connected(policy());
        driver.command(listen(&["b"]));
        lose(&mut driver);
        assert_eq!(
            driver.take_log(),
            [&format!("0: {text}"), "close 1 Abort", "Closed", &format!("done: {text}")]
        );
        let mut driver = TestDriver::connected(policy());
        driver.command(query("DELETE FROM t"));
        driver.command(listen(&["b"]));
        lose(&mut driver);
        assert_eq!(
            driver.take_log(),
            [
                &format!("0: {in_doubt}: {text}"),
                "close 1 Abort",
                &format!("1: {UNSENT}: {text}"),
                "Closed",
                &format!("done: {text}"),
            ]
        );
        driver.command(listen(&["c"]));
        driver.command(query("SELECT 1"));
        driver.command(Command::Close);
        assert_eq!(driver.take_log(), [format!("2: {OVER}"), format!("3: {OVER}")]);
        assert_eq!(driver.supervisor.poll_timeout(), None);
    }
}

/// For the first LISTEN of a session the server reads its whole queue and sends nothing, so its timeout is longer.
#[test]
fn a_first_listen_without_answer_ends_at_its_own_deadline() {
    let heartbeat = Heartbeat { timeout: Duration::from_secs(2), ..HEARTBEAT };
    let mut driver = TestDriver::up(Policy { channels: Vec::new(), heartbeat, ..policy() });
    driver.command(listen(&["b"]));
    driver.pass(Duration::from_millis(4_999));
    assert_eq!(driver.take_log(), [""; 0]);
    driver.pass_until_due();
    let text = "timeout: the server did not answer LISTEN within 5s";
    assert_eq!(
        driver.take_log(),
        [&format!("0: {text}"), "close 1 Abort", "Closed", &format!("done: {text}")]
    );
}

#[test]
fn a_notification_that_the_server_dropped_is_a_gap_at_its_position() {
    let mut driver = TestDriver::connected(policy());
    driver.read(&[A1, ERROR, READY, A1, A1].concat());
    assert_eq!(
        driver.take_queue(),
        [
            "1 notifications",
            "hold",
            "2 notifications",
            "gap at 1: notifications may be missing here: server error: the server dropped a notification: \
         ERROR: no (SQLSTATE 42501) (no session was lost)",
        ]
    );
    assert_eq!(driver.supervisor.counters().gaps, 1);
    assert_eq!(driver.take_log(), [""; 0]);
}

/// Item L1 of the catalogue.
#[test]
fn no_debug_shows_a_password_or_a_query() {
    let alter = || query("ALTER ROLE bob PASSWORD 'plugh'");
    let mut driver = TestDriver::new(policy());
    let mut seen = format!("{:?} {:?}", alter(), LinkEvent::Opened(session(driver.now)));
    driver.event(LinkEvent::Opened(session(driver.now)));
    seen += &format!("{:?}", driver.supervisor);
    // The server asks for the password.
    driver.read(b"R\0\0\0\x08\0\0\0\x03");
    assert_eq!(driver.take_sent(), ["startup", "PasswordMessage"]);
    driver.read(PRELUDE);
    seen += &format!("{:?}", driver.supervisor);
    driver.command(alter());
    driver.command(alter());
    seen += &format!("{:?}", driver.supervisor);
    driver.read(FATAL);
    let log = driver.take_log();
    seen += &format!("{:?} {log:?}", driver.supervisor);
    assert!(seen.contains("SimpleQuery(31 bytes)"), "{seen}");
    for secret in ["secret", "plugh", "115, 101, 99, 114"] {
        assert!(!seen.contains(secret), "{secret}: {seen}");
    }
}

/// In a database with another encoding the error of a conversion may report a notification that was dropped after the
/// query. A heartbeat does not detect that.
#[test]
fn a_query_that_is_answered_with_an_error_of_a_conversion_by_an_old_server_may_be_a_gap() {
    for (code, encoding, is_gap) in [
        ("22021", "SQL_ASCII", true),
        ("22P05", "EUC_JP", true),
        ("22P05", "UTF8", false),
        ("22012", "EUC_JP", false),
    ] {
        let mut driver = TestDriver::up(lasting());
        driver.read(OLD);
        driver.read(&message(b'S', format!("server_encoding\0{encoding}\0").as_bytes()));
        driver.command(query("SELECT 1"));
        driver.take_sent();
        let answer = [SELECT, &diagnostic(b'E', "ERROR", code), READY].concat();
        driver.read(&[notification("1"), answer, notification("2")].concat());
        assert_eq!(driver.serve_all().len(), 1, "a heartbeat");
        let seen = if is_gap { vec!["1", "GAP", "2"] } else { vec!["1", "2"] };
        assert_eq!(driver.seen(), seen, "{code} {encoding}");
    }
}

/// The report of a dropped notification arrives while a query is on its way. An earlier version reported it as the refusal of
/// the query, which the server then carried out.
#[test]
fn a_query_that_is_crossed_by_the_report_of_a_dropped_notification_is_in_doubt() {
    let is_in_doubt = |line: &str, code: &str| {
        line.starts_with("0: in doubt: the server may have carried out the command")
            && line.contains(
                "(hint: a server of this version sends this error when it drops a notification, and it cannot be \
                 distinguished from an answer)",
            )
            && line.contains(code)
    };
    for code in ["53200", "58P01", "XX000"] {
        let report = [&diagnostic(b'E', "ERROR", code)[..], READY].concat();
        let refused = format!("the server refused the query: ERROR: no (SQLSTATE {code})");
        for command in [query("INSERT INTO t VALUES (1)"), Command::QueueUsage] {
            for is_old in [true, false] {
                // The result is the same if the session ends in the same read.
                for end in [&b""[..], FATAL] {
                    let mut driver = TestDriver::up(lasting());
                    if is_old {
                        driver.read(OLD);
                    }
                    driver.command(command.clone());
                    driver.read(&[&report[..], end].concat());
                    let reply = driver.first_reply();
                    match is_old {
                        true => assert!(is_in_doubt(&reply, &refused), "{reply}"),
                        false => assert_eq!(reply, format!("0: server error: {refused}")),
                    }
                }
            }
        }
        // The report follows the answer.
        let mut driver = TestDriver::up(lasting());
        driver.read(OLD);
        driver.command(query("SELECT 1"));
        driver.read(&[SELECT, &report].concat());
        let reply = driver.first_reply();
        assert!(is_in_doubt(&reply, &refused), "{reply}");
    }
    // This error cannot be a report.
    let mut driver = TestDriver::up(lasting());
    driver.read(OLD);
    driver.command(query("SELECT 1"));
    driver.read(&[ERROR, READY].concat());
    let refused = "0: server error: the server refused the query: ERROR: no (SQLSTATE 42501)";
    assert_eq!(driver.first_reply(), refused);
}

/// The last heartbeat of a drain is before its UNLISTEN, and the heartbeat after another UNLISTEN detects nothing.
#[test]
fn an_unlisten_that_is_crossed_by_the_report_of_a_dropped_notification_is_a_gap() {
    let report = |code| [&diagnostic(b'E', "ERROR", code)[..], READY].concat();
    for (code, is_old) in [("53200", true), ("22021", true), ("53200", false)] {
        let mut driver = TestDriver::up(lasting());
        if is_old {
            driver.read(OLD);
        }
        driver.command(Command::Drain { timeout: Duration::from_secs(3) });
        let answer = driver.answer("heartbeat");
        driver.read(&answer);
        assert_eq!(driver.take_sent(), ["heartbeat", "UNLISTEN *"]);
        driver.read(&[notification("1"), report(code)].concat());
        let reply = driver.first_reply();
        assert!(reply.starts_with("0: server error") && reply.contains(code), "{reply}");
        driver.event(LinkEvent::Eof);
        assert_eq!(driver.seen(), if is_old { vec!["1", "GAP"] } else { vec!["1"] }, "{code}");
    }
    // A channel that is not listened to, in a database that is not UTF-8.
    let mut driver = TestDriver::up(lasting());
    driver.read(OLD);
    driver.command(unlisten(&["b"]));
    driver.take_sent();
    driver
        .read(&[notification("1"), UNLISTEN.to_vec(), report("22021"), notification("2")].concat());
    driver.serve_all();
    assert_eq!(driver.seen(), ["1", "GAP", "2"]);
    assert_eq!(driver.supervisor.state(), State::Connected);
}

/// A server drops no notification inside a transaction.
#[test]
fn an_error_of_an_old_server_inside_a_transaction_is_the_answer_and_no_gap() {
    let failed = [&diagnostic(b'E', "ERROR", "53200")[..], b"Z\0\0\0\x05E"].concat();
    let mut driver = TestDriver::up(lasting());
    driver.read(OLD);
    driver.command(query("BEGIN; INSERT INTO t VALUES (1)"));
    driver.take_sent();
    driver.read(&[notification("1"), SELECT.to_vec(), failed, notification("2")].concat());
    assert_eq!(driver.take_sent(), ["ROLLBACK"]);
    driver.read(&[SELECT, READY].concat());
    driver.serve_all();
    let refused = "server error: the server refused the query: ERROR: no (SQLSTATE 53200)";
    assert_eq!(driver.first_reply(), format!("0: {OPEN_TRANSACTION}: {refused}"));
    assert_eq!(driver.seen(), ["1", "2"]);
}

/// The error reports a notification that was dropped after the query. An earlier version reported only an error of the query.
#[test]
fn a_query_that_is_answered_with_an_internal_error_of_an_old_server_may_be_a_gap() {
    let trouble = [SELECT, &diagnostic(b'E', "ERROR", "58P01"), READY].concat();
    for is_old in [true, false] {
        let mut driver = TestDriver::up(lasting());
        if is_old {
            driver.read(OLD);
        }
        driver.command(query("SELECT 1"));
        driver.take_sent();
        driver.read(&[notification("1"), trouble.clone(), notification("2")].concat());
        assert_eq!(driver.serve_all().len(), usize::from(is_old), "a heartbeat");
        assert_eq!(driver.supervisor.state(), State::Connected);
        let seen = if is_old { vec!["1", "GAP", "2"] } else { vec!["1", "2"] };
        assert_eq!(driver.seen(), seen);
        // An error of the client.
        driver.command(query("SELECT 1"));
        driver.take_sent();
        driver.read(&[SELECT, IN_TRANSACTION].concat());
        assert_eq!(driver.take_sent(), ["ROLLBACK"]);
        driver.read(&trouble);
        driver.serve_all();
        assert_eq!(driver.seen(), if is_old { vec!["GAP"] } else { vec![] });
    }
}

#[test]
fn very_many_channels_are_reported_once_when_the_server_is_slow_with_them() {
    let names = |count: usize| (0..count).map(|n| format!("c{n}")).collect::<Vec<_>>();
    let warned = |driver: &mut TestDriver| {
        let logged = std::mem::take(&mut driver.logged);
        let many = |event: &LogEvent| match event {
            LogEvent::ManyChannels { channels } => Some(*channels),
            _ => None,
        };
        logged.iter().filter_map(many).collect::<Vec<_>>()
    };
    let mut driver = TestDriver::up(Policy { channels: names(CHANNELS_WARNED), ..policy() });
    assert_eq!(warned(&mut driver), [0; 0]);
    for (command, expected) in [
        (listen(&["c0"]), vec![]),
        (listen(&["more"]), vec![CHANNELS_WARNED + 1]),
        (listen(&["and more"]), vec![]),
        (unlisten(&["more", "and more"]), vec![]),
        (listen(&["again", "twice"]), vec![]),
    ] {
        driver.command(command);
        driver.serve();
        assert_eq!(warned(&mut driver), expected);
    }
    assert_eq!(driver.supervisor.counters().channel_warnings, 1);
    for (version, expected) in [("18.7", vec![CHANNELS_WARNED + 1]), ("19.0", vec![])] {
        let mut driver =
            TestDriver::new(Policy { channels: names(CHANNELS_WARNED + 1), ..policy() });
        driver.open();
        driver.read(&message(b'S', format!("server_version\0{version}\0").as_bytes()));
        assert_eq!(warned(&mut driver), [0; 0]);
        driver.serve_all();
        assert_eq!(warned(&mut driver), expected);
    }
}
