//! Errors and notices of the server, and the end of a session.

use super::*;
use bytes::Buf;

const ENDED: &str = "server error: the server ended the session: ";

/// Returns a message `E` or `N` with these fields, each a code and a value.
fn diagnostic(tag: u8, fields: &[&str]) -> Vec<u8> {
    let mut body: Vec<u8> =
        fields.iter().flat_map(|field| [field.as_bytes(), b"\0"].concat()).collect();
    body.push(0);
    message(tag, &body)
}

fn error(fields: &[&str]) -> Vec<u8> {
    diagnostic(b'E', fields)
}

/// E1, E10, E12.
#[test]
fn a_fatal_error_ends_the_session_at_once() {
    let hint = " (hint: set idle_session_timeout = 0 for the role that listens)";
    for (fields, shown) in [
        (["SFATAL", "VFATAL", "C57P01", "Mterminating"], "FATAL: terminating (SQLSTATE 57P01)"),
        (["SFATAL", "VFATAL", "C57P05", "Midle"], "FATAL: idle (SQLSTATE 57P05)"),
        (["SPANIC", "VPANIC", "CXX000", "Mgone"], "PANIC: gone (SQLSTATE XX000)"),
        (["SXYZ", "VXYZ", "C42501", "Mno"], "XYZ: no (SQLSTATE 42501)"),
    ] {
        let hint = if fields[2] == "C57P05" { hint } else { "" };
        let text = format!("{ENDED}{shown}{hint}");
        check_bytes(&Scene::idle(), &error(&fields), &[&format!("over: {text}")]);
        let expect = [format!("done 0: {text}"), format!("over: {text}")];
        check_bytes(&Scene::listening(), &error(&fields), &[&expect[0], &expect[1]]);
    }
}

/// E2.
#[test]
fn a_warning_about_the_shutdown_is_the_cause_of_the_end() {
    for code in ["57P01", "57P02"] {
        let warning =
            diagnostic(b'N', &["SWARNING", "VWARNING", &format!("C{code}"), "Mcrash of another"]);
        let mut play = Scene::listening().begin();
        play.feed(&warning);
        assert!(!play.over);
        let error = play.eof();
        assert_eq!(error.sqlstate(), Some(code));
        let text = format!(
            "server error: the server closed the connection: WARNING: crash of another (SQLSTATE {code})"
        );
        assert_eq!(play.log, [format!("done 0: {text}"), format!("over: {text}")]);
        assert!(error.is_transient());
    }
    // Another warning is not the cause.
    let mut play = Scene::idle().begin();
    play.feed(&diagnostic(b'N', &["SWARNING", "VWARNING", "C01000", "Mx"]));
    assert_eq!(play.eof().to_string(), "connection: the server closed the connection");
}

/// E4, E5.
#[test]
fn an_error_without_fields_is_accepted_and_a_truncated_one_is_not() {
    check(&Scene::idle(), &["45 00000005 00"], &[&format!("over: {ENDED}…")]);
    let malformed = "over: protocol violation: …";
    for bytes in [
        "45 00000004",
        "45 0000000d 53 4552524f5200 4d 78",
        "45 00000005 53",
        "45 00000006 53 00",
        "4e 00000006 0000",
    ] {
        check(&Scene::idle(), &[bytes], &[malformed]);
    }
}

/// E7.
#[test]
fn the_text_of_an_error_is_shown_escaped_and_kept_unchanged() {
    let hostile = b"SERROR\0C42501\0Ma\x1b[2J\r\n\xe2\x80\xae\xff\xe9\0\0";
    let bytes = [message(b'E', hostile), hex(READY)].concat();
    let shown = "ERROR: a\\u{1b}[2J\\r\\n\\u{202e}\u{fffd}\u{fffd} (SQLSTATE 42501)";
    let done = format!("done 0: server error: the server refused LISTEN: {shown}");
    check_bytes(&Scene::listening(), &bytes, &[&done]);
    let mut play = Scene::new().begin();
    play.feed(&bytes);
    let error = play.eof();
    let kept = error.db_error().unwrap().field(b'M').unwrap();
    assert_eq!(kept, b"a\x1b[2J\r\n\xe2\x80\xae\xff\xe9");
    assert!(!format!("{error:?}").contains('\x1b'));
}

/// E8.
#[test]
fn notices_are_counted_and_only_the_last_is_kept() {
    let mut play = Scene::idle().begin();
    let notice = diagnostic(b'N', &["SNOTICE", "C00000", "Mone"]);
    let last = diagnostic(b'N', &["SNOTICE", "C00000", "Mlast"]);
    let flood = notice.repeat(1_000);
    for _ in 0..100 {
        play.feed(&flood);
    }
    play.feed(&last);
    let (count, kept) = play.session.notices();
    assert_eq!((count, kept.map(|notice| notice.message())), (100_001, Some("last")));
    assert_eq!(play.log, [""; 0]);
    assert!(play.sent_messages().len() == 1);
}

/// Each is kept until the caller takes it, or until the next one: a megabyte, and three more if it is not
/// UTF-8.
#[test]
fn an_error_or_a_notice_that_answers_no_command_is_kept_in_a_kilobyte() {
    let long = [b"SERROR\0C42501\0M", &vec![0xe9; 900_000][..], b"\0Dwhy\0\0"].concat();
    let mut play = Scene::idle().begin();
    play.feed(&message(b'N', &long));
    let notice = play.session.notices().1.unwrap();
    assert_eq!((notice.code(), notice.field(b'M').unwrap().len()), ("42501", 512));
    let mut input = BytesMut::from(&[message(b'E', &long), hex(READY)].concat()[..]);
    assert_eq!(play.session.handle_input(play.now, &mut input).unwrap(), Progress::NeedMore);
    let Some(SessionEvent::NotificationDropped(error)) = play.session.poll_event() else {
        panic!("no event")
    };
    let error = error.db_error().unwrap();
    assert_eq!((error.code(), error.field(b'M').unwrap().len()), ("42501", 512));
    assert_eq!(error.severity(), wire::Severity::Error);
    // An error of usual length is kept whole.
    play.feed(&diagnostic(b'N', &["SNOTICE", "C00000", "Mone", "Dwhy"]));
    assert_eq!(play.session.notices().1.unwrap().detail(), Some("why"));
}

/// One read may contain twenty thousand of them.
#[test]
fn stray_errors_without_a_notification_between_them_are_reported_once() {
    let mut play = Scene::idle().begin();
    let dropped =
        "dropped: server error: the server dropped a notification: ERROR: no (SQLSTATE 42501)";
    play.feed(
        &[join(&[ERROR, READY]).repeat(1_000), hex(A1), join(&[ERROR, ERROR, READY])].concat(),
    );
    assert_eq!(play.log, [dropped, "A 1 a b", dropped]);
}

/// E11.
#[test]
fn a_translated_severity_is_judged_by_the_sqlstate() {
    let refused = error(&["SFEHLER", "C42501", "Mnein"]);
    let done = "done 0: server error: the server refused LISTEN: FEHLER: nein (SQLSTATE 42501)";
    check_bytes(&Scene::listening(), &[refused, hex(READY)].concat(), &[done]);
    let ended = error(&["SFATAL_ABER_ANDERS", "C57P01", "Mende"]);
    let over = format!("over: {ENDED}FATAL_ABER_ANDERS: ende (SQLSTATE 57P01)");
    check_bytes(&Scene::idle(), &ended, &[&over]);
}

/// Before 18.2 and the releases of the same day: a stray error with a ReadyForQuery of its own.
#[test]
fn a_dropped_notification_is_reported_and_its_ready_is_not_an_answer() {
    let dropped =
        "dropped: server error: the server dropped a notification: ERROR: no (SQLSTATE 42501)";
    check(&Scene::idle(), &[A1, ERROR, READY, A1], &["A 1 a b", dropped, "A 1 a b"]);
    // A command that is sent in between gets its own answer.
    let mut play = Scene::idle().begin();
    play.feed(&hex(ERROR));
    play.session.listen(play.now, &["a"]).unwrap();
    play.feed(&join(&[READY, LISTEN, READY]));
    assert_eq!(play.log, [dropped, "done 0: "]);
    assert_eq!(play.session.channels().collect::<Vec<_>>(), ["a"]);
}

/// A pooler that disconnects an idle client sends an ERROR and closes. A server that drops a notification sends
/// ReadyForQuery.
#[test]
fn an_error_right_before_the_end_of_the_stream_is_its_cause() {
    let reason = "over: server error: the server closed the connection: ERROR: no (SQLSTATE 42501)";
    let dropped =
        "dropped: server error: the server dropped a notification: ERROR: no (SQLSTATE 42501)";
    for (bytes, expect) in [
        (vec![ERROR], vec![reason]),
        (vec![ERROR, ERROR], vec![reason]),
        (vec![A1, ERROR], vec!["A 1 a b", reason]),
        // A message has followed, so the session went on.
        (vec![ERROR, READY], vec![dropped, "over: connection: the server closed the connection"]),
        (
            vec![ERROR, A1],
            vec![dropped, "A 1 a b", "over: connection: the server closed the connection"],
        ),
        (vec![ERROR, READY, A1, ERROR], vec![dropped, "A 1 a b", reason]),
    ] {
        let stream = join(&bytes);
        for step in [1, stream.len()] {
            let mut play = Scene::idle().begin();
            stream.chunks(step).for_each(|bytes| play.feed(bytes));
            play.eof();
            assert_eq!(play.log, expect, "{bytes:?}");
        }
    }
}

/// An earlier version took the ReadyForQuery of the answer for that of the error, so the command never ended.
#[test]
fn a_stray_error_without_a_ready_does_not_use_the_ready_of_an_answer() {
    let mut play = Scene::idle().begin();
    play.feed(&hex(ERROR));
    play.session.listen(play.now, &["a"]).unwrap();
    play.feed(&join(&[LISTEN, READY]));
    assert_eq!(play.log.last().unwrap(), "done 0: ");
    assert_eq!(play.log.len(), 2);
}

#[test]
fn a_query_is_in_doubt_when_the_connection_is_lost_and_listen_is_not() {
    let mut play = Scene::after(|session, now| {
        session.listen(now, &["a"]).unwrap();
        session.simple_query(now, "DELETE FROM t").unwrap();
        session.query(now, "DELETE FROM t", &[]).unwrap();
        session.notify(now, "a", "b").unwrap();
        session.unlisten(now, &["a"]).unwrap();
        session.unlisten_all(now).unwrap();
    })
    .begin();
    let (error, kinds) = lose(&mut play);
    let (lost, in_doubt) = (ErrorKind::Connect, ErrorKind::InDoubt);
    assert_eq!(kinds, [lost, in_doubt, in_doubt, in_doubt, lost, lost]);
    play.end(&error);
}

/// Breaks the connection. Returns the error of the session, and the kinds of the errors of its commands.
fn lose(play: &mut Play) -> (Error, Vec<ErrorKind>) {
    let error = play.session.fail(Error::new(ErrorKind::Connect, "broken pipe"));
    let mut kinds = Vec::new();
    while let Some(event) = play.session.poll_event() {
        let SessionEvent::Done { result: Err(error), .. } = event else { panic!("{event:?}") };
        assert!(format!("{error:#}").contains("broken pipe"), "{error:#}");
        kinds.push(error.kind());
    }
    (error, kinds)
}

/// The server carries out a query when it has its last byte. For one with parameters it does not need the Sync.
#[test]
fn a_query_that_was_not_sent_is_not_in_doubt() {
    const SYNC_BYTES: usize = 5;
    for (is_bound, unwritten, kind) in [
        (false, 0, ErrorKind::InDoubt),
        (false, 1, ErrorKind::Connect),
        (true, 0, ErrorKind::InDoubt),
        (true, SYNC_BYTES, ErrorKind::InDoubt),
        (true, SYNC_BYTES + 1, ErrorKind::Connect),
    ] {
        let mut play = Scene::idle().begin();
        play.session.simple_query(play.now, "DELETE FROM t").unwrap();
        play.session.transmit().clear();
        match is_bound {
            false => play.session.simple_query(play.now, "DELETE FROM t").unwrap(),
            true => play.session.query(play.now, "DELETE FROM t", &[]).unwrap(),
        };
        let bytes = play.session.transmit().len();
        play.session.notify(play.now, "a", "b").unwrap();
        play.session.transmit().advance(bytes - unwritten);
        let (_, kinds) = lose(&mut play);
        assert_eq!(kinds, [ErrorKind::InDoubt, kind, ErrorKind::Connect], "{is_bound} {unwritten}");
    }
}
