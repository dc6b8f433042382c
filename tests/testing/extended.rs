//! Bound parameters, prepared statements and portals.

use bytes::BytesMut;
use pgbell::testing::Backend;
use pgbell::wire::{BackendMessage, Framer, FrontendMessage, Oids, Target, Values};

use super::{ready, result, run, texts};

const MANY: &str = "SELECT pg_notify(c, p) FROM unnest($1::text[], $2::text[]) AS t(c, p)";

#[test]
fn bound_values_are_never_sql() {
    let mut backend = Backend::default();
    let mut link = ready(&mut backend, &[7]);
    run(&mut link, &mut backend, "LISTEN \"a'; $1 \\\"").unwrap();
    let now = link.now();
    link.session().notify(now, "a'; $1 \\", "'); NOTIFY b; --").unwrap();
    result(&mut link, &mut backend).unwrap();
    assert_eq!(texts(&mut link, &mut backend), ["a'; $1 \\='); NOTIFY b; --"]);
    assert_eq!(backend.count("b").committed, 0);
}

#[test]
fn two_arrays_are_notifications_in_their_order() {
    for sql in [MANY, &MANY.replace("pg_notify(c, p)", "count(pg_notify(c, p))")] {
        let mut backend = Backend::default();
        let mut link = ready(&mut backend, &[]);
        run(&mut link, &mut backend, "LISTEN a; LISTEN b").unwrap();
        let now = link.now();
        let parameters = [(1009, Some("{a,b,a,\"a\"}")), (1009, Some(r#"{"x,\"y",NULL,1,1}"#))];
        link.session().query(now, sql, &parameters).unwrap();
        let rows = result(&mut link, &mut backend).unwrap();
        assert_eq!(rows[0].len(), if sql == MANY { 4 } else { 1 });
        assert_eq!(texts(&mut link, &mut backend), ["a=x,\"y", "b=", "a=1"], "{sql}");

        link.session().query(now, sql, &[(1009, Some("{a}")), (1009, Some("{"))]).unwrap();
        let error = result(&mut link, &mut backend).unwrap_err();
        assert_eq!(error.sqlstate(), Some("22P02"));
        assert_eq!(texts(&mut link, &mut backend), [""; 0]);
    }
}

#[test]
fn parameters_come_back_as_they_went() {
    let mut backend = Backend::default();
    let mut link = ready(&mut backend, &[]);
    let now = link.now();
    let values = [(0, Some("é'\"\\")), (0, None), (25, Some(""))];
    link.session().query(now, "SELECT $1, $2::text AS b, $3", &values).unwrap();
    let rows = result(&mut link, &mut backend).unwrap();
    let row = rows[0].get(0).unwrap();
    assert_eq!([row.get(0), row.get(1), row.get(2)], [Some("é'\"\\"), None, Some("")]);
    assert_eq!(rows[0].columns()[1].name(), "b");

    link.session().query(now, "SELECT $1, $2", &[(0, None)]).unwrap();
    let error = result(&mut link, &mut backend).unwrap_err();
    assert_eq!(error.sqlstate(), Some("08P01"));
    link.session().query(now, "SELECT 1; SELECT 2", &[]).unwrap();
    let error = result(&mut link, &mut backend).unwrap_err();
    assert_eq!(error.sqlstate(), Some("42601"));
}

/// The type bytes of all that the backend answers to these messages.
fn answers(messages: &[FrontendMessage<'_>]) -> String {
    let mut backend = Backend::default();
    let link = ready(&mut backend, &[]);
    let mut input = BytesMut::new();
    for message in messages {
        message.encode(&mut input).unwrap();
    }
    backend.handle_input(link.id(), &mut input);
    assert!(input.is_empty());
    let output = backend.transmit(link.id());
    let mut tags = String::new();
    while let Some(frame) = Framer::established().next(output).unwrap() {
        let bytes = frame.wire_len();
        BackendMessage::decode(frame).unwrap();
        tags.push(char::from(output[0]));
        bytes::Buf::advance(output, bytes);
    }
    tags
}

#[test]
fn messages_are_answered_one_by_one_and_skipped_after_an_error() {
    let parse = |statement, query| FrontendMessage::Parse {
        statement,
        query,
        parameter_types: Oids::new(&[]),
    };
    let bind = |portal, statement| FrontendMessage::Bind {
        portal,
        statement,
        parameters: Values::new(&[]),
    };
    let describe = |target, name| FrontendMessage::Describe { target, name };
    let execute = |max_rows| FrontendMessage::Execute { portal: "", max_rows };
    let close = |target, name| FrontendMessage::Close { target, name };
    let query = FrontendMessage::Query("LISTEN a");
    let sync = FrontendMessage::Sync;
    let cases = [
        (
            &[
                parse("s", "SELECT 1"),
                describe(Target::Statement, "s"),
                bind("", "s"),
                describe(Target::Portal, ""),
                execute(0),
                close(Target::Portal, ""),
                close(Target::Statement, "s"),
                sync,
            ][..],
            "1tT2TDC33Z",
        ),
        // Own notifications come with the commit, which is Sync's.
        (
            &[
                query,
                parse("", "NOTIFY a"),
                bind("", ""),
                describe(Target::Portal, ""),
                execute(0),
                sync,
            ],
            "CZ12nCAZ",
        ),
        (&[parse("", ""), bind("", ""), execute(0), sync], "12IZ"),
        (&[parse("", "SELECT 1"), bind("", ""), execute(1), execute(1), sync], "12DsCZ"),
        (&[parse("", "SELEC"), bind("", ""), execute(0), query, sync, query], "EZCZ"),
        (&[bind("", "unknown"), sync, execute(0), sync], "EZEZ"),
        (&[parse("s", "SELECT 1"), parse("s", "SELECT 1"), sync], "1EZ"),
        // A portal does not outlive its transaction.
        (&[parse("", "SELECT 1"), bind("", ""), sync, execute(0), sync], "12ZEZ"),
        (&[FrontendMessage::Flush, FrontendMessage::CopyDone, sync], "Z"),
    ];
    for (messages, expected) in cases {
        assert_eq!(answers(messages), expected, "{messages:?}");
    }
}
