//! Answers to commands that a server may send, and that it may not.

use super::*;
use crate::proto::session::RESULT_BYTES_MAX;

const BROKEN: &str = "protocol violation: ";

/// Checks that the command and the session fail with this error.
fn check_broken(scene: &Scene, parts: &[&str], why: &str) {
    let repeatable = scene.begin().session.pending.front().is_none_or(|p| p.kind.is_repeatable());
    let in_doubt = "in doubt: the connection was lost before the server answered, and the query may \
                    have been carried out: ";
    let error = format!("{BROKEN}{why}");
    let over = format!("over: {error}");
    let done = format!("done 0: {}{error}", if repeatable { "" } else { in_doubt });
    let expect = [done.as_str(), over.as_str()];
    let idle = scene.begin().session.commands_in_flight() == 0;
    check(scene, parts, if idle { &expect[1..] } else { &expect });
}

fn unexpected(message: &str, during: &str) -> String {
    format!("{message} does not belong to {during}")
}

/// Q1.
#[test]
fn copy_from_stdin_is_refused_once_and_the_session_goes_on() {
    let copy_in = "47 00000007 00 0000";
    let fail = message(b'f', b"COPY FROM STDIN is not supported\0");
    let done = "done 0: server error: the server refused the query: ERROR: no (SQLSTATE 42501)";
    check(&Scene::querying(), &[copy_in, ERROR, READY, A1], &[done, "A 1 a b"]);
    check(&Scene::binding(), &[copy_in, ERROR, READY], &[done]);
    let last = |scene: &Scene, n: usize| {
        let mut play = scene.begin();
        play.feed(&hex(copy_in));
        let sent = play.sent_messages();
        sent[sent.len() - n..].to_vec()
    };
    assert_eq!(last(&Scene::querying(), 1), [fail]);
    // A server that completes the command without an error has not copied anything.
    let unsupported = "done 0: unsupported: COPY FROM STDIN is not supported";
    check(&Scene::querying(), &[copy_in, READY], &[unsupported]);
    check_broken(&Scene::listening(), &[copy_in], &unexpected("CopyInResponse", "LISTEN"));
}

/// The server has read the Sync after the command as a part of the COPY data.
#[test]
fn copy_from_stdin_with_parameters_sends_a_second_sync() {
    let mut play = Scene::binding().begin();
    play.feed(&hex("31 00000004 32 00000004 6e 00000004 47 00000007 00 0000"));
    let sent = play.sent_messages();
    let tags: Vec<u8> = sent[1..].iter().map(|message| message[0]).collect();
    assert_eq!(tags.escape_ascii().to_string(), "PBDESfS");
}

/// The peer does not read, and asks for data again and again.
#[test]
fn repeated_copy_requests_do_not_fill_the_memory() {
    let copy_in = "47 00000007 00 0000";
    check_broken(&Scene::querying(), &[copy_in, copy_in], &unexpected("CopyInResponse", "a query"));
    let mut play = Scene::querying().begin();
    play.feed(&hex(copy_in).repeat(100_000));
    assert!(play.over);
    assert!(play.sent.len() < 200);
}

/// Q2.
#[test]
fn copied_data_is_skipped_and_not_kept() {
    let scene = Scene::querying();
    let copy_out = "48 00000007 00 0000";
    let rest = ["63 00000004", SELECT_1, READY].concat();
    check(
        &scene,
        &[copy_out, "64 00000006 780a", "64 00000004", &rest],
        &["done 0: unsupported: COPY TO STDOUT is not supported"],
    );
    let mut play = scene.begin();
    play.feed(&hex(copy_out));
    let data = message(b'd', &vec![b'x'; 1_000_000]);
    for _ in 0..RESULT_BYTES_MAX / 500_000 {
        play.feed(&data);
        assert!(!play.over && play.input.is_empty());
    }
    for (message, name) in [("64 00000004", "CopyData"), ("63 00000004", "CopyDone")] {
        check_broken(&scene, &[message], &unexpected(name, "a query"));
        let tag = [copy_out, SELECT_1, message];
        check_broken(&scene, &tag, &unexpected(name, "a query"));
    }
    check_broken(&Scene::listening(), &[copy_out], &unexpected("CopyOutResponse", "LISTEN"));
}

/// Q3.
#[test]
fn replication_is_not_supported() {
    for scene in [Scene::querying(), Scene::listening(), Scene::idle(), Scene::binding()] {
        let during = match scene.begin().session.pending.front() {
            Some(pending) => pending.kind.name(),
            None => "an idle session",
        };
        let why = unexpected("CopyBothResponse", during);
        check_broken(&scene, &["57 00000007 00 0000"], &why);
    }
}

/// Q5.
#[test]
fn a_row_of_another_shape_than_described_is_refused() {
    let two = "54 0000002e 0002 6300 00000000 0000 00000019 ffff ffffffff 0000 \
               6300 00000000 0000 00000019 ffff ffffffff 0000";
    for (row, values) in
        [("44 00000006 0000", 0), (ROW, 1), ("44 00000012 0003 ffffffff ffffffff ffffffff", 3)]
    {
        let why = format!("DataRow has {values} values, RowDescription 2 columns");
        check_broken(&Scene::querying(), &[two, row], &why);
    }
    let full = "44 0000000f 0002 ffffffff 00000001 78";
    let done = "done 0: SELECT 1 [NULL|x]";
    check(&Scene::querying(), &[two, full, SELECT_1, READY], &[done]);
    check_broken(&Scene::querying(), &[ROW], &unexpected("DataRow", "a query"));
    check_broken(&Scene::listening(), &[two], &unexpected("RowDescription", "LISTEN"));
    let twice = unexpected("RowDescription", "a query");
    check_broken(&Scene::querying(), &[two, two], &twice);
}

/// Q6.
#[test]
fn a_value_of_negative_length_is_refused() {
    for row in ["44 0000000a 0001 fffffffe", "44 0000000a 0001 80000000", "44 00000006 ffff"] {
        let mut play = Scene::querying().begin();
        play.feed(&join(&[COLUMN, row]));
        let error = play.eof();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{row}");
        let done = "done 0: in doubt: …";
        check(&Scene::querying(), &[COLUMN, row], &[done, &format!("over: {error}")]);
    }
}

/// Q7.
#[test]
fn a_completion_that_is_not_of_listen_is_refused() {
    let scene = Scene::listening();
    let empty_tag = "43 00000005 00";
    let why = unexpected("CommandComplete", "LISTEN");
    check_broken(&scene, &["49 00000004"], &unexpected("EmptyQueryResponse", "LISTEN"));
    check_broken(&scene, &[SELECT_1], &why);
    check_broken(&scene, &[empty_tag], &why);
    check_broken(&scene, &[LISTEN, LISTEN], &why);
    let incomplete = "ReadyForQuery came before the answer to LISTEN was complete";
    check_broken(&scene, &[READY], incomplete);
    let long = message(b'C', &[&vec![b'x'; 25_000][..], b"\0"].concat());
    let (log, _) = play(&scene, &[&long]);
    assert_eq!(log[1], format!("over: {BROKEN}{why}"));
    let two = Scene::after(|session, now| {
        session.listen(now, &["a", "b"]).unwrap();
    });
    check_broken(&two, &[LISTEN, READY], incomplete);
    check(&scene, &["43 0000000a 4c495354454e"], &["done 0: …", "over: protocol violation: …"]);
    let unlistening = Scene::after(|session, now| {
        session.unlisten_all(now).unwrap();
    });
    check_broken(&unlistening, &[LISTEN], &unexpected("CommandComplete", "UNLISTEN"));
}

/// Q8.
#[test]
fn a_listen_without_an_answer_fails_at_the_deadline() {
    let mut play = Scene::listening().begin();
    let deadline = play.now + Duration::from_secs(5);
    play.feed(&hex(LISTEN));
    assert_eq!(play.session.poll_timeout(), Some(deadline));
    assert!(play.session.handle_timeout(deadline - Duration::from_nanos(1)).is_ok());
    let error = play.session.handle_timeout(deadline).unwrap_err();
    play.take_events();
    play.end(&error);
    let text = "timeout: the server did not answer LISTEN within 5s";
    assert_eq!(play.log, [format!("done 0: {text}"), format!("over: {text}")]);
}

#[test]
fn the_timeout_of_a_command_begins_when_it_is_the_oldest_and_a_query_has_none() {
    let mut play = Scene::after(|session, now| {
        session.simple_query(now, "SELECT pg_sleep(60)").unwrap();
        session.listen(now, &["a"]).unwrap();
        session.unlisten(now, &["b"]).unwrap();
    })
    .begin();
    assert_eq!(play.session.poll_timeout(), None);
    play.now += Duration::from_secs(60);
    play.feed(&join(&[SELECT_1, READY]));
    assert_eq!(play.session.poll_timeout(), Some(play.now + Duration::from_secs(5)));
    play.now += Duration::from_secs(4);
    play.feed(&join(&[LISTEN, READY]));
    assert_eq!(play.session.poll_timeout(), Some(play.now + Duration::from_secs(5)));
}

/// Q9.
#[test]
fn a_completion_without_a_command_is_refused() {
    let ready = unexpected("ReadyForQuery", "an idle session");
    check_broken(&Scene::idle(), &[READY], &ready);
    let complete = unexpected("CommandComplete", "an idle session");
    check_broken(&Scene::idle(), &[LISTEN], &complete);
    let over = format!("over: {BROKEN}{ready}");
    check(&Scene::listening(), &[LISTEN, READY, READY], &["done 0: ", &over]);
    check(&Scene::querying(), &[SELECT_1, READY, READY], &["done 0: SELECT 1", &over]);
    // With another query after it, it would have been taken for the empty answer to that query.
    let both = Scene::after(|session, now| {
        session.simple_query(now, "SELECT 1").unwrap();
        session.simple_query(now, "SELECT 1").unwrap();
    });
    let incomplete = "ReadyForQuery came before the answer to a query was complete";
    check(
        &both,
        &[SELECT_1, READY, READY],
        &["done 0: SELECT 1", "done 1: in doubt: …", &format!("over: {BROKEN}{incomplete}")],
    );
    for (scene, answer) in
        [(Scene::querying(), ""), (Scene::binding(), "31 00000004"), (Scene::querying(), COLUMN)]
    {
        let mut play = scene.begin();
        play.feed(&join(&[answer, READY]));
        // The command without a complete answer gets its error, as every other one.
        assert!(play.log[0].starts_with("done 0: in doubt: "), "{:?}", play.log);
        assert!(play.log[1].contains("complete"), "{:?}", play.log);
    }
}

/// Q10.
#[test]
fn a_refused_listen_refuses_all_its_channels_and_the_session_goes_on() {
    let scene = Scene::after(|session, now| {
        session.listen(now, &["a", "b", "c"]).unwrap();
    });
    let done = "done 0: server error: the server refused LISTEN: ERROR: no (SQLSTATE 42501)";
    check(&scene, &[LISTEN, ERROR, READY, A1], &[done, "A 1 a b"]);
    let mut play = scene.begin();
    play.feed(&join(&[LISTEN, ERROR, READY]));
    assert!(play.session.is_ready());
    assert_eq!(play.session.channels().count(), 0);
    check_broken(&scene, &[ERROR, LISTEN], &unexpected("CommandComplete", "LISTEN"));
}

/// Q14.
#[test]
fn messages_of_the_extended_protocol_do_not_answer_a_simple_query() {
    for (bytes, name) in [
        ("31 00000004", "ParseComplete"),
        ("32 00000004", "BindComplete"),
        ("33 00000004", "CloseComplete"),
        ("6e 00000004", "NoData"),
        ("73 00000004", "PortalSuspended"),
        ("74 00000006 0000", "ParameterDescription"),
        ("56 00000008 ffffffff", "FunctionCallResponse"),
        ("64 00000004", "CopyData"),
        ("63 00000004", "CopyDone"),
        ("52 00000008 00000000", "Authentication"),
        ("76 0000000c 00030000 00000000", "NegotiateProtocolVersion"),
    ] {
        check_broken(&Scene::querying(), &[bytes], &unexpected(name, "a query"));
        check_broken(&Scene::listening(), &[bytes], &unexpected(name, "LISTEN"));
        check_broken(&Scene::idle(), &[bytes], &unexpected(name, "an idle session"));
    }
    // A part of the rows is never requested, so it would be taken for all of them.
    let suspended = unexpected("PortalSuspended", "a query with parameters");
    check_broken(&Scene::binding(), &[COLUMN, ROW, "73 00000004"], &suspended);
}

#[test]
fn an_empty_query_is_complete() {
    check(&Scene::querying(), &["49 00000004", READY], &["done 0: "]);
    let both = unexpected("EmptyQueryResponse", "a query");
    check_broken(&Scene::querying(), &[COLUMN, "49 00000004"], &both);
}

/// The memory for an answer is bounded, with any kind of messages.
#[test]
fn an_answer_that_is_too_large_is_refused_and_the_session_goes_on() {
    let large = format!("done 0: unsupported: the result is larger than {RESULT_BYTES_MAX} bytes");
    let value = vec![b'x'; 1_000_000];
    let length = u32::try_from(value.len()).unwrap().to_be_bytes();
    let row = message(b'D', &[&[0, 1][..], &length, &value].concat());
    let mut play = Scene::querying().begin();
    play.feed(&hex(COLUMN));
    for _ in 0..70 {
        play.feed(&row);
    }
    play.feed(&join(&[SELECT_1, COLUMN, ROW, SELECT_1, READY, A1]));
    assert_eq!(play.log, [large.as_str(), "A 1 a b"]);
    assert!(play.session.is_ready());

    // Descriptions and command tags count as rows do.
    let columns = 20_000_u16;
    let column = hex("00 00000000 0000 00000019 ffff ffffffff 0000").repeat(columns.into());
    let description = message(b'T', &[&columns.to_be_bytes()[..], &column].concat());
    let tag = message(b'C', &[&[b'x'; 25_000][..], b"\0"].concat());
    for (part, repeat) in [([description, hex(SELECT_1)].concat(), 120), (tag, 2_700)] {
        let mut play = Scene::querying().begin();
        for _ in 0..repeat {
            play.feed(&part);
        }
        play.feed(&hex(READY));
        assert_eq!(play.log, [large.as_str()]);
    }
}
