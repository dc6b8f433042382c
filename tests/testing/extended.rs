//! Bound parameters, prepared statements and portals.

use bytes::BytesMut;
use pgbell::proto::wire::{BackendMessage, Formats, Framer, FrontendMessage, Oids, Target, Values};
use pgbell::testing::Backend;

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
fn parameters_are_returned_unchanged() {
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

/// The type bytes of the backend's answers to these messages.
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
        parameter_formats: Formats::new(&[]),
        parameters: Values::new(&[]),
        result_formats: Formats::new(&[]),
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
        // Own notifications arrive with the commit, which Sync causes.
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
        // A portal ends with its transaction.
        (&[parse("", "SELECT 1"), bind("", ""), sync, execute(0), sync], "12ZEZ"),
        // A completed portal has no more rows; a statement that returns none cannot be run again.
        (&[parse("", "SELECT 1"), bind("", ""), execute(0), execute(0), sync], "12DCCZ"),
        (&[parse("", "NOTIFY a"), bind("", ""), execute(0), execute(0), sync], "12CEZ"),
        // SQL can close prepared statements too.
        (
            &[
                parse("s", "SELECT 1"),
                FrontendMessage::Query("DEALLOCATE s"),
                FrontendMessage::Query("DEALLOCATE s"),
                parse("s", ""),
                FrontendMessage::Query("DEALLOCATE ALL"),
                bind("", "s"),
                sync,
            ],
            "1CZEZ1CZEZ",
        ),
        (&[FrontendMessage::Flush, FrontendMessage::CopyDone, sync], "Z"),
    ];
    for (messages, expected) in cases {
        assert_eq!(answers(messages), expected, "{messages:?}");
    }
}

/// The bodies of all DataRows, and the codes of all errors, in the backend's answers to these messages.
fn values(backend: &mut Backend, messages: &[FrontendMessage<'_>]) -> Vec<Vec<u8>> {
    let link = ready(backend, &[]);
    let mut input = BytesMut::new();
    for message in messages {
        message.encode(&mut input).unwrap();
    }
    backend.handle_input(link.id(), &mut input);
    assert!(!backend.is_closed(link.id()));
    let output = backend.transmit(link.id());
    let mut found = Vec::new();
    while let Some(frame) = Framer::established().next(output).unwrap() {
        let bytes = frame.wire_len();
        match BackendMessage::decode(frame).unwrap() {
            BackendMessage::DataRow { values } => {
                found.extend(values.iter().map(|value| value.unwrap_or(b"NULL").to_vec()));
            }
            BackendMessage::ErrorResponse(error) => {
                found.push(error.field(b'C').unwrap().to_vec());
            }
            _ => {}
        }
        bytes::Buf::advance(output, bytes);
    }
    found
}

/// Sends the messages of tokio-postgres. An earlier version of the backend ended the session at the first binary format code.
#[test]
fn binary_parameters_and_results_do_not_end_the_session() {
    let mut backend = Backend::default();
    let mut listener = ready(&mut backend, &[]);
    run(&mut listener, &mut backend, "LISTEN a").unwrap();
    let case = |sql: &'static str,
                types: &'static [u32],
                formats: &'static [i16],
                values: &'static [Option<&'static [u8]>],
                result: &'static [i16]| {
        [
            FrontendMessage::Parse { statement: "", query: sql, parameter_types: Oids::new(types) },
            FrontendMessage::Bind {
                portal: "",
                statement: "",
                parameter_formats: Formats::new(formats),
                parameters: Values::new(values),
                result_formats: Formats::new(result),
            },
            FrontendMessage::Describe { target: Target::Portal, name: "" },
            FrontendMessage::Execute { portal: "", max_rows: 0 },
            FrontendMessage::Sync,
        ]
    };
    let cases = [
        (
            case("SELECT pg_notify($1, $2)", &[], &[1], &[Some(b"a"), Some(b"1")], &[1]),
            vec![&b""[..]],
        ),
        (case("SELECT pg_notify($1, $2)", &[], &[1, 0], &[Some(b"a"), None], &[]), vec![b""]),
        (
            case(
                "SELECT $1, $2::int8",
                &[23],
                &[1],
                &[Some(&[0, 0, 1, 0]), Some(&[0, 0, 0, 0, 0, 0, 0, 7])],
                &[0, 1],
            ),
            vec![b"256", &[0, 0, 0, 0, 0, 0, 0, 7]],
        ),
        (
            case("SELECT $1::bool, pg_backend_pid()", &[], &[0], &[Some(b"yes")], &[1, 0]),
            vec![&[1], b"1001"],
        ),
        (case("SELECT $1", &[], &[0], &[None], &[1]), vec![b"NULL"]),
        // Refused, each with its code.
        (case("SELECT $1", &[1184], &[1], &[Some(&[0; 8])], &[]), vec![b"0A000"]),
        (case("SELECT $1", &[1184], &[0], &[Some(b"now")], &[1]), vec![b"0A000"]),
        (case("SELECT $1", &[23], &[1], &[Some(&[0])], &[]), vec![b"22P03"]),
        (case("SELECT $1", &[], &[2], &[Some(b"")], &[]), vec![b"22023"]),
        (case("SELECT $1", &[], &[0, 0], &[Some(b"")], &[]), vec![b"08P01"]),
        (case("SELECT $1", &[], &[], &[Some(b"")], &[0, 0]), vec![b"08P01"]),
        (case("SELECT $1", &[], &[1], &[Some(b"\xff")], &[]), vec![b"22021"]),
    ];
    for (messages, expected) in cases {
        let mut found = values(&mut backend, &messages);
        for value in found.iter_mut().filter(|value| value.starts_with(b"10")) {
            // The process id.
            *value = b"1001".to_vec();
        }
        assert_eq!(found, expected, "{messages:?}");
    }
    assert_eq!(texts(&mut listener, &mut backend), ["a=1", "a="]);
}

/// The error names what is not supported.
#[test]
fn an_unsupported_message_is_an_error_and_the_session_continues() {
    let raw = |bytes: &[u8]| {
        let mut backend = Backend::default();
        let link = ready(&mut backend, &[]);
        let mut input = BytesMut::from(bytes);
        input.extend_from_slice(b"S\0\0\0\x04");
        backend.handle_input(link.id(), &mut input);
        let output = backend.transmit(link.id()).split();
        assert!(!backend.is_closed(link.id()) && output.ends_with(b"Z\0\0\0\x05I"));
        String::from_utf8_lossy(&output).into_owned()
    };
    for (message, code) in [
        // FunctionCall, a Query without NUL, a Query that is not UTF-8, a Describe of an unknown kind.
        (&b"F\0\0\0\x0e\0\0\0\x01\0\0\0\0\0\0"[..], "C0A000"),
        (b"Q\0\0\0\x08abcd", "C08P01"),
        (b"Q\0\0\0\x07a\xff\0", "C22021"),
        (b"D\0\0\0\x06X\0", "C08P01"),
        (b"Q\0\0\0\x10SAVEPOINT a\0", "C0A000"),
    ] {
        assert!(raw(message).contains(code), "{message:?}");
    }
}

#[test]
fn expressions_inside_each_other_are_refused_before_the_stack_ends() {
    let mut backend = Backend::default();
    let mut link = ready(&mut backend, &[]);
    for (part, end, code) in [("f(", "", "54001"), ("", "1", "0A000")] {
        let sql = format!("SELECT {}{end} +", part.repeat(400_000));
        assert_eq!(run(&mut link, &mut backend, &sql).unwrap_err().sqlstate(), Some(code));
    }
    let sql = format!("SELECT 1{}", "::text".repeat(400_000));
    assert_eq!(run(&mut link, &mut backend, &sql).unwrap_err().sqlstate(), Some("54001"));
    let sql = format!("SELECT 1{}", "::text".repeat(50));
    run(&mut link, &mut backend, &sql).unwrap();
}

/// The query selects one value of a megabyte a thousand times.
#[test]
fn a_small_query_has_no_huge_result() {
    let mut backend = Backend::default();
    let mut link = ready(&mut backend, &[]);
    let sql = format!("SELECT $1{}", ", $1".repeat(999));
    let value = "x".repeat(1 << 20);
    let now = link.now();
    link.session().query(now, &sql, &[(25, Some(&value))]).unwrap();
    assert_eq!(result(&mut link, &mut backend).unwrap_err().sqlstate(), Some("53200"));
    let sql = format!("SET a = '{}'", "x".repeat(1 << 17));
    assert_eq!(run(&mut link, &mut backend, &sql).unwrap_err().sqlstate(), Some("53200"));
}

/// Messages of a few megabytes that would become gigabytes.
#[test]
fn a_small_query_takes_no_huge_memory() {
    let mut backend = Backend::default();
    let mut link = ready(&mut backend, &[]);
    let array = |elements: usize| format!("{{1{}}}", ",1".repeat(elements - 1));
    let million = array(1_000_000);
    for (sql, value, code) in [
        // A million rows of a hundred columns, or of a thousand.
        (format!("SELECT 1 FROM unnest($1{}) AS t(a)", ", $1".repeat(99)), &million, "53200"),
        (format!("SELECT NULL{} FROM unnest($1)", ", NULL".repeat(999)), &million, "53200"),
        ("SELECT 1 FROM unnest($1)".to_owned(), &array(2_000_001), "53200"),
        (format!("SELECT $1{}", ", 1".repeat(1_664)), &million, "54011"),
        (format!("SELECT count($1{})", ", 1".repeat(100)), &million, "54023"),
        (format!("SELECT $1 {}", ", ".repeat(1_000_000)), &million, "53200"),
    ] {
        let now = link.now();
        link.session().query(now, &sql, &[(25, Some(value))]).unwrap();
        let error = result(&mut link, &mut backend).unwrap_err();
        assert_eq!(error.sqlstate(), Some(code), "{}", &sql[..40.min(sql.len())]);
    }
}

/// A statement of a few bytes that has 65,535 parameters, over and over.
#[test]
fn prepared_statements_have_a_limit() {
    let mut backend = Backend::default();
    let names: Vec<String> = (0..100).map(|number| format!("s{number}")).collect();
    let mut messages = Vec::new();
    for statement in &names {
        let query = "SELECT $65535";
        messages.push(FrontendMessage::Parse { statement, query, parameter_types: Oids::new(&[]) });
        messages.push(FrontendMessage::Sync);
    }
    let refused = values(&mut backend, &messages);
    assert!(!refused.is_empty() && refused.len() < 100);
    assert!(refused.iter().all(|code| code == b"53200"));
}

#[test]
fn the_cleanup_of_a_pool_leaves_no_state() {
    let mut backend = Backend::default();
    let mut link = ready(&mut backend, &[]);
    for cleaning in
        ["DISCARD ALL", "SELECT pg_advisory_unlock_all(); CLOSE ALL; UNLISTEN *; RESET ALL"]
    {
        run(&mut link, &mut backend, "LISTEN a; SET application_name = 'x'; SET b.c = 1").unwrap();
        assert_eq!(link.session().parameter("application_name"), Some("x"));
        run(&mut link, &mut backend, cleaning).unwrap();
        assert_eq!(backend.channels(link.id()).count(), 0, "{cleaning}");
        assert_eq!(link.session().parameter("application_name"), Some("test"));
        assert!(run(&mut link, &mut backend, "SHOW b.c").is_err());
    }
    let error = run(&mut link, &mut backend, "BEGIN; DISCARD ALL").unwrap_err();
    assert_eq!(error.sqlstate(), Some("25001"));
}
