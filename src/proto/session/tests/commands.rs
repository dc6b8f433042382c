//! The bytes and the results of commands.

use super::*;
use crate::proto::session::CommandId;
use crate::proto::wire::TransactionStatus;

/// Returns the messages after the startup packet.
fn sent(scene: &Scene) -> Vec<Vec<u8>> {
    scene.begin().sent_messages().split_off(1)
}

fn query(sql: &str) -> Vec<u8> {
    message(b'Q', [sql.as_bytes(), b"\0"].concat().as_slice())
}

/// I1, I2, I7.
#[test]
fn channel_names_are_quoted_and_not_changed() {
    for (name, quoted) in [
        (r#"a"; DROP TABLE x; --"#, r#""a""; DROP TABLE x; --""#),
        (r#"""#, r#""""""#),
        (r#""""#, r#""""""""#),
        (r#"a""b"#, r#""a""""b""#),
        ("Select", r#""Select""#),
        (" lead", r#"" lead""#),
        ("new\nline", "\"new\nline\""),
        (r"\", r#""\""#),
        (r#"U&"x""#, r#""U&""x""""#),
        ("$1", r#""$1""#),
        ("'", r#""'""#),
        ("caf\u{e9}\u{1f514}", "\"caf\u{e9}\u{1f514}\""),
    ] {
        let mut play = Scene::idle().begin();
        play.session.listen(play.now, &[name]).unwrap();
        play.session.unlisten(play.now, &[name]).unwrap();
        play.session.notify(play.now, name, "").unwrap();
        play.write();
        let sent = play.sent_messages();
        assert_eq!(sent[1], query(&format!("LISTEN {quoted}")));
        assert_eq!(sent[2], query(&format!("UNLISTEN {quoted}")));
        // A bound value is sent as it is.
        assert!(sent[4].windows(name.len()).any(|bytes| bytes == name.as_bytes()), "{name}");
    }
    let both = Scene::after(|session, now| {
        session.listen(now, &["a", "B\"c"]).unwrap();
        session.unlisten_all(now).unwrap();
    });
    assert_eq!(sent(&both), [query(r#"LISTEN "a";LISTEN "B""c""#), query("UNLISTEN *")]);
}

/// I3, I5.
#[test]
fn a_refused_command_sends_nothing_and_leaves_the_session_as_it_was() {
    let mut play = Scene::idle().begin();
    let before = play.sent.clone();
    let (now, session) = (play.now, &mut play.session);
    let long = "x".repeat(64);
    for name in ["", "\0a", "a\0b", "a\0", &long] {
        for refused in [
            session.listen(now, &["fine", name]),
            session.unlisten(now, &["fine", name]),
            session.notify(now, name, ""),
        ] {
            assert_eq!(refused.unwrap_err().kind(), ErrorKind::Misuse, "{name:?}");
        }
    }
    for refused in [
        session.listen(now, &[""; 0]),
        session.unlisten(now, &[""; 0]),
        session.notify(now, "a", &"x".repeat(8_000)),
        session.notify(now, "a", "\0"),
        session.simple_query(now, "SELECT '\0'"),
        session.query(now, "SELECT $1", &[(25, Some("x")), (25, None)].repeat(40_000)),
        session.query(now, "SELECT '\0'", &[]),
    ] {
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Misuse);
    }
    assert!(session.transmit().is_empty());
    assert_eq!((session.commands_in_flight(), session.poll_timeout()), (0, None));
    play.write();
    assert_eq!(play.sent, before);
    play.session.listen(now, &["x".repeat(63)]).unwrap();
    play.session.notify(now, "a", &"x".repeat(7_999)).unwrap();
}

#[test]
fn no_command_is_taken_before_the_server_is_ready() {
    for scene in [Scene::new(), Scene::authenticated()] {
        let mut play = scene.begin();
        let error = play.session.listen(play.now, &["a"]).unwrap_err();
        assert_eq!(error.to_string(), "closed: the session is not ready");
        assert!(play.session.transmit().is_empty());
    }
}

#[test]
fn parameters_are_bound_in_text_with_their_types() {
    let scene = Scene::after(|session, now| {
        session.query(now, "SELECT $1, $2", &[(25, Some("x")), (0, None)]).unwrap();
    });
    assert_eq!(
        sent(&scene),
        [
            message(b'P', b"\0SELECT $1, $2\0\0\x02\0\0\0\x19\0\0\0\0"),
            message(b'B', b"\0\0\0\0\0\x02\0\0\0\x01x\xff\xff\xff\xff\0\0"),
            message(b'D', b"P\0"),
            message(b'E', b"\0\0\0\0\0"),
            message(b'S', b""),
        ]
    );
    let notify = Scene::after(|session, now| {
        session.notify(now, "a\"", "it's").unwrap();
    });
    assert_eq!(
        sent(&notify)[..2],
        [
            message(b'P', b"\0SELECT pg_catalog.pg_notify($1, $2)\0\0\x02\0\0\0\x19\0\0\0\x19"),
            message(b'B', b"\0\0\0\0\0\x02\0\0\0\x02a\"\0\0\0\x04it's\0\0"),
        ]
    );
}

#[test]
fn pipelined_commands_get_their_own_answers_even_if_an_earlier_one_is_ignored() {
    let scene = Scene::after(|session, now| {
        session.simple_query(now, "SELECT 1").unwrap();
        // The caller does not wait for this one any more. Its answer is still matched.
        let _ = session.simple_query(now, "SELECT 2").unwrap();
        session.listen(now, &["a"]).unwrap();
    });
    check(
        &scene,
        &[COLUMN, ROW, SELECT_1, READY, ERROR, READY, A1, LISTEN, READY],
        &[
            "done 0: SELECT 1 [x]",
            "done 1: server error: the server refused the query: ERROR: no (SQLSTATE 42501)",
            "A 1 a b",
            "done 2: ",
        ],
    );
}

#[test]
fn the_confirmed_channels_follow_the_answers_and_not_the_commands() {
    let mut play = Scene::after(|session, now| {
        session.listen(now, &["b", "a"]).unwrap();
        session.listen(now, &["c"]).unwrap();
        session.unlisten(now, &["a"]).unwrap();
        session.unlisten_all(now).unwrap();
    })
    .begin();
    let unlisten = "43 0000000d 554e4c495354454e00";
    let channels =
        |play: &Play| play.session.channels().map(str::to_owned).collect::<Vec<_>>().join(" ");
    for (answer, expect) in
        [(LISTEN, ""), (LISTEN, ""), (READY, "a b"), (LISTEN, "a b"), (ERROR, "a b")]
    {
        // The second LISTEN is refused after its completion: the commit failed.
        play.feed(&hex(answer));
        assert_eq!(channels(&play), expect);
    }
    for (answer, expect) in
        [(READY, "a b"), (unlisten, "a b"), (READY, "b"), (unlisten, "b"), (READY, "")]
    {
        play.feed(&hex(answer));
        assert_eq!(channels(&play), expect);
    }
}

/// Inside a transaction LISTEN and UNLISTEN change nothing before COMMIT, and ROLLBACK undoes them.
#[test]
fn a_listen_that_is_answered_inside_a_transaction_is_not_confirmed() {
    let mut play = Scene::after(|session, now| {
        session.listen(now, &["a"]).unwrap();
        session.listen(now, &["b"]).unwrap();
        session.unlisten_all(now).unwrap();
    })
    .begin();
    for status in ["54", "45"] {
        play.feed(&join(&[LISTEN, "5a 00000005", status]));
        assert_eq!(play.session.channels().count(), 0);
    }
    assert_eq!(play.session.commands_in_flight(), 1);
}

#[test]
fn the_transaction_status_is_that_of_the_last_ready() {
    let begin = "43 0000000a 424547494e00";
    let mut play = Scene::querying().begin();
    assert_eq!(play.session.transaction_status(), TransactionStatus::Idle);
    play.feed(&join(&[begin, "5a 00000005 54"]));
    assert_eq!(play.session.transaction_status(), TransactionStatus::InTransaction);
    play.session.simple_query(play.now, "SELECT 1/0").unwrap();
    play.feed(&join(&[ERROR, "5a 00000005 45"]));
    assert_eq!(play.session.transaction_status(), TransactionStatus::Failed);
    play.session.simple_query(play.now, "ROLLBACK").unwrap();
    play.feed(&join(&[SELECT_1, READY]));
    assert_eq!(play.session.transaction_status(), TransactionStatus::Idle);
    check(
        &Scene::querying(),
        &[begin, "5a 00000005 58"],
        &["done 0: in doubt: …", "over: protocol violation: …"],
    );
}

#[test]
fn a_clean_end_sends_terminate_after_the_queued_bytes_and_answers_every_command() {
    let mut play = Scene::idle().begin();
    play.session.listen(play.now, &["a"]).unwrap();
    play.session.simple_query(play.now, "SELECT 1").unwrap();
    play.session.terminate();
    play.write();
    let sent = play.sent_messages();
    assert_eq!(sent[1..], [query("LISTEN \"a\""), query("SELECT 1"), hex("58 00000004")]);
    play.take_events();
    assert_eq!(play.log.len(), 2);
    assert_eq!(play.log[0], "done 0: closed: the connection was closed");
    assert!(play.log[1].starts_with("done 1: in doubt: "));
    // All further messages are skipped, except notifications.
    play.feed(&join(&[A1, LISTEN, READY, A1, A1, ERROR, A1, "00000000 ff"]));
    assert!(play.input.is_empty());
    play.session.terminate();
    play.write();
    assert_eq!(play.sent_messages().len(), 4);
    assert_eq!(play.log[2..], ["A 1 a b"; 4]);
    assert_eq!(play.session.poll_timeout(), None);
    assert_eq!(play.session.listen(play.now, &["a"]).unwrap_err().kind(), ErrorKind::Closed);
    play.eof();
}

/// Notifications that the server sends before it has read Terminate arrive, with any split of the bytes and any other
/// messages between them.
#[test]
fn after_terminate_only_notifications_are_reported() {
    let fatal = join(&["45 00000017 53464154414c00 43353750303100 4d6e6f00 00"]);
    let stream = [
        hex(A1),
        // No answers, and no messages that are allowed in this state.
        join(&[LISTEN, READY, SELECT_1, COLUMN, ROW, ERROR, READY, PRELUDE[0], KEY]),
        message(b'S', b"client_encoding\0LATIN1\0"),
        message(b'N', b"\0"),
        hex(A1),
        fatal,
        message(b'd', &[b'x'; 100_000]),
        // Longer than the limit of a row.
        message(b'D', &vec![0; 1_100_000]),
        hex(A1),
    ]
    .concat();
    for step in [997, 100_000, stream.len()] {
        let mut play = Scene::querying().begin();
        play.session.terminate();
        play.take_events();
        play.log.clear();
        stream.chunks(step).for_each(|bytes| play.feed(bytes));
        assert_eq!(play.log, ["A 1 a b"; 3], "{step}");
        assert!(play.input.is_empty(), "{step}");
    }
}

/// A type that does not exist, a length below the minimum, and a malformed notification.
#[test]
fn malformed_bytes_after_terminate_end_the_notifications_without_an_error() {
    for malformed in ["00 00000004", "5a 00000003", "41 00000003", "41 0000000c 00000001 6100 6262"]
    {
        let mut play = Scene::idle().begin();
        play.session.terminate();
        play.feed(&join(&[A1, malformed, A1]));
        assert_eq!(play.log, ["A 1 a b"], "{malformed}");
        play.feed(&hex(A1));
        assert_eq!(play.log.len(), 1, "{malformed}");
        assert!(play.input.is_empty(), "{malformed}");
    }
}

#[test]
fn terminate_is_not_sent_before_the_server_is_ready() {
    for scene in [Scene::new(), Scene::authenticated()] {
        let mut play = scene.begin();
        play.session.terminate();
        play.write();
        assert_eq!(play.sent_messages().len(), 1);
        assert!(play.session.transmit().is_empty());
        play.feed(&join(&PRELUDE));
        assert_eq!(play.log, [""; 0]);
    }
}

#[test]
fn a_failed_session_has_nothing_to_send() {
    let mut play = Scene::idle().begin();
    play.session.simple_query(play.now, "SELECT 1").unwrap();
    let error = play.session.fail(Error::new(ErrorKind::Connect, "gone"));
    assert!(play.session.transmit().is_empty());
    play.session.terminate();
    assert!(play.session.transmit().is_empty());
    play.take_events();
    play.end(&error);
}

/// The commands were sent before the first answer arrived.
#[test]
fn the_queues_of_very_many_commands_are_freed_when_all_are_answered() {
    const COMMANDS: usize = 5_000;
    let mut play = Scene::idle().begin();
    for _ in 0..COMMANDS {
        play.session.simple_query(play.now, "SELECT 1").unwrap();
    }
    play.write();
    play.feed(&join(&[SELECT_1, READY]).repeat(COMMANDS));
    assert_eq!(play.log.len(), COMMANDS);
    let Session { pending, events, .. } = &play.session;
    let room = (pending.capacity(), events.capacity());
    assert!(room.0 <= 64 && room.1 <= 64, "{room:?}");
}

/// Names are cut to 63 bytes in the encoding of the database, and the notice does not name the channel.
#[test]
fn a_listen_whose_name_the_server_cuts_is_refused_and_undone() {
    let mut play = Scene::idle().begin();
    play.session.listen(play.now, &["a"]).unwrap();
    play.feed(&join(&[LISTEN, READY]));
    play.session.listen(play.now, &["a", "b", "long"]).unwrap();
    play.session.listen(play.now, &["c"]).unwrap();
    let notice = message(b'N', b"SNOTICE\0C42622\0Mcut\0\0");
    play.feed(&[notice, join(&[LISTEN, LISTEN, LISTEN, READY])].concat());
    play.write();
    let sent = play.sent_messages();
    assert_eq!(sent.last().unwrap(), &query("UNLISTEN \"b\";UNLISTEN \"long\""));
    let unlisten = "43 0000000d 554e4c495354454e00";
    play.feed(&join(&[LISTEN, READY, unlisten, unlisten, READY]));
    assert!(
        play.log[1].starts_with("done 1: server error: the server cuts the name"),
        "{:?}",
        play.log
    );
    let hint =
        "a name may have 63 bytes in the encoding of the database, which are more than in UTF-8";
    assert!(play.log[1].ends_with(&format!("(hint: {hint})")), "{:?}", play.log);
    assert_eq!(play.session.channels().collect::<Vec<_>>(), ["a", "c"]);
}

/// A role can have settings that hide the notice. An earlier version then took a LISTEN whose name the server had cut for active.
#[test]
fn notices_are_asked_for_before_a_name_that_the_server_may_cut() {
    let (long, fitting) = ("\u{e9}".repeat(16), "\u{e9}".repeat(15));
    let (ascii, set) = ("x".repeat(63), query("SET client_min_messages = notice"));
    for (encoding, name, is_asked) in [
        (Some("EUC_JP"), &long, true),
        (None, &long, true),
        (Some("EUC_JP"), &fitting, false),
        (Some("EUC_JP"), &ascii, false),
        (Some("UTF8"), &long, false),
    ] {
        let mut play = Scene::idle().begin();
        if let Some(encoding) = encoding {
            play.feed(&message(b'S', format!("server_encoding\0{encoding}\0").as_bytes()));
        }
        let before = play.sent_messages().len();
        play.session.listen(play.now, &["a", name]).unwrap();
        play.write();
        let listen = query(&format!("LISTEN \"a\";LISTEN \"{name}\""));
        let expected = if is_asked { vec![set.clone(), listen] } else { vec![listen] };
        assert_eq!(play.sent_messages()[before..], expected, "{encoding:?} {name}");
    }
}

/// In an earlier version the timeout of the LISTEN began when the SET was answered, and the SET had no timeout.
#[test]
fn a_listen_after_the_setting_for_notices_has_a_deadline() {
    let mut play = Scene::idle().begin();
    play.session.listen(play.now, &["\u{e9}".repeat(16)]).unwrap();
    play.write();
    let deadline = play.session.poll_timeout().expect("a deadline");
    assert_eq!(deadline, play.now + login().command_timeout);
    play.session.handle_timeout(deadline).unwrap_err();
    play.take_events();
    let text = "timeout: the server did not answer SET client_min_messages = notice within 5s";
    assert_eq!(play.log, [format!("done 0: {text}"), format!("done 1: {text}")]);
}

/// The server cuts the name of an UNLISTEN too. So in an earlier version the UNLISTEN ended the channel whose name is the cut one.
#[test]
fn an_unlisten_whose_name_the_server_may_cut_ends_no_other_channel() {
    let (cut, long) = ("\u{e9}".repeat(21), "\u{e9}".repeat(30));
    for (encoding, is_kept) in [("EUC_JP", true), ("UTF8", false)] {
        let mut play = Scene::idle().begin();
        play.feed(&message(b'S', format!("server_encoding\0{encoding}\0").as_bytes()));
        play.session.listen(play.now, &["a", &cut]).unwrap();
        play.session.unlisten(play.now, &[&long, "a"]).unwrap();
        play.write();
        let listen = if is_kept { format!(";LISTEN \"{cut}\"") } else { String::new() };
        let expected = query(&format!("UNLISTEN \"{long}\";UNLISTEN \"a\"{listen}"));
        assert_eq!(play.sent_messages().last().unwrap(), &expected, "{encoding}");
        if is_kept {
            // The answer to the SET is skipped.
            let set = message(b'C', b"SET\0");
            play.feed(&[set, join(&[READY, LISTEN, LISTEN, READY])].concat());
            let unlisten = "43 0000000d 554e4c495354454e00";
            play.feed(&join(&[unlisten, unlisten, LISTEN, READY]));
            assert_eq!(play.session.channels().collect::<Vec<_>>(), [&cut]);
        }
    }
}

#[test]
fn a_long_name_is_listened_to_even_if_the_setting_for_notices_is_refused() {
    let mut play = Scene::idle().begin();
    let long = "\u{e9}".repeat(16);
    play.session.listen(play.now, &[&long]).unwrap();
    play.write();
    let refused = message(b'E', b"SERROR\0VERROR\0C42501\0Mno\0\0");
    play.feed(&[refused, join(&[READY, LISTEN, READY])].concat());
    assert_eq!(play.session.channels().collect::<Vec<_>>(), [&long]);
    assert_eq!(play.session.commands_in_flight(), 0);
}

/// In an earlier version the UNLISTEN that undid it also ended the channel of another LISTEN in flight.
#[test]
fn undoing_a_cut_listen_ends_no_other_channel() {
    let notice = message(b'N', b"SNOTICE\0C42622\0Mcut\0\0");
    let mut play = Scene::idle().begin();
    // The server cuts "longest" to "long".
    play.session.listen(play.now, &["long"]).unwrap();
    play.feed(&join(&[LISTEN, READY]));
    play.session.listen(play.now, &["a", "b", "longest"]).unwrap();
    play.session.listen(play.now, &["a", "b"]).unwrap();
    play.session.unlisten(play.now, &["b"]).unwrap();
    play.feed(&[notice, join(&[LISTEN, LISTEN, LISTEN, READY])].concat());
    play.write();
    let undo = r#"UNLISTEN "a";UNLISTEN "b";UNLISTEN "longest";LISTEN "a";LISTEN "long""#;
    assert_eq!(play.sent_messages().last().unwrap(), &query(undo));
    let unlisten = "43 0000000d 554e4c495354454e00";
    play.feed(&join(&[LISTEN, LISTEN, READY, unlisten, READY]));
    play.feed(&join(&[unlisten, unlisten, unlisten, LISTEN, LISTEN, READY]));
    assert_eq!(play.session.channels().collect::<Vec<_>>(), ["a", "long"]);
    assert_eq!(play.session.commands_in_flight(), 0);
}

#[test]
fn more_rows_than_an_internal_statement_can_return_end_the_session() {
    let (no_columns, empty_row) = (hex("54 00000006 0000"), hex("44 00000006 0000"));
    let fed = |rows: usize, ask: fn(&mut Session, Instant) -> CommandId| {
        let mut play = Scene::idle().begin();
        ask(&mut play.session, play.now);
        play.feed(&[no_columns.clone(), empty_row.repeat(rows)].concat());
        play.over
    };
    let notify: fn(&mut Session, Instant) -> CommandId =
        |session, now| session.notify(now, "a", "").unwrap();
    let limited: fn(&mut Session, Instant) -> CommandId = |session, now| {
        let id = session.simple_query(now, "SELECT").unwrap();
        session.limit_rows(id, 100);
        id
    };
    for (ask, enough, too_many) in [(notify, 1, 20), (limited, 100, 120)] {
        assert!(!fed(enough, ask));
        assert!(fed(too_many, ask));
    }
    // A user's query has no such limit.
    assert!(!fed(1_000, |session, now| session.simple_query(now, "SELECT").unwrap()));
}

#[test]
fn a_prepared_statement_is_replaced_and_run_by_one_command_and_then_only_bound() {
    let mut play = Scene::idle().begin();
    play.session.query_prepared(play.now, "s", Some("SELECT $1"), &[Some("x")]).unwrap();
    play.session.query_prepared(play.now, "s", None, &[Some("x")]).unwrap();
    play.write();
    let sent = play.sent_messages().split_off(1);
    let bound = [
        message(b'B', b"\0s\0\0\0\0\x01\0\0\0\x01x\0\0"),
        message(b'D', b"P\0"),
        message(b'E', b"\0\0\0\0\0"),
        message(b'S', b""),
    ];
    let prepared = [message(b'C', b"Ss\0"), message(b'P', b"s\0SELECT $1\0\0\0")];
    let both: Vec<_> = prepared.iter().chain(&bound).chain(&bound).cloned().collect();
    assert_eq!(sent, both);
    let error = play.session.query_prepared(play.now, "s\0", None, &[]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misuse);
    play.write();
    assert_eq!(play.sent_messages().len(), 11, "something was sent");
}

/// CloseComplete and ParseComplete come before the first BindComplete.
#[test]
fn the_answers_to_a_prepared_statement_are_its_rows() {
    let scene = Scene::after(|session, now| {
        session.query_prepared(now, "s", Some("SELECT 1"), &[]).unwrap();
        session.query_prepared(now, "s", None, &[]).unwrap();
    });
    let bound = ["32 00000004", COLUMN, ROW, SELECT_1, READY].concat();
    let parsed = "33 00000004 31 00000004";
    check(&scene, &[parsed, &bound, &bound], &["done 0: SELECT 1 [x]", "done 1: SELECT 1 [x]"]);
}
