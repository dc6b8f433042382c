//! LISTEN, NOTIFY and transactions between sessions.

use pgbell::proto::wire::TransactionStatus;
use pgbell::testing::{Backend, BackendConfig, Link};

use super::{ready, received, run, texts};
use crate::queries::{HEARTBEAT_ANSWER_SQL, HEARTBEAT_COUNT_SQL, HEARTBEAT_SQL};

/// The tags of all statements of a query.
fn tags(rows: &[pgbell::proto::session::Rows]) -> Vec<&str> {
    rows.iter().map(pgbell::proto::session::Rows::command_tag).collect()
}

#[test]
fn every_chunk_size_gives_the_same_session() {
    for size in 1..=17 {
        let mut backend = Backend::default();
        let mut listener = ready(&mut backend, &[size]);
        let mut notifier = ready(&mut backend, &[size, 1, 5]);
        run(&mut listener, &mut backend, "LISTEN a; LISTEN \"B \"\"c\"").unwrap();
        let rows = run(&mut notifier, &mut backend, "NOTIFY A, 'it''s'; NOTIFY \"B \"\"c\"");
        assert_eq!(tags(&rows.unwrap()), ["NOTIFY", "NOTIFY"]);
        let pid = notifier.session().process_id().unwrap();
        let expected = [(pid, "a".into(), "it's".into()), (pid, "B \"c".into(), String::new())];
        assert_eq!(received(&mut listener, &mut backend), expected, "{size}");
        assert_eq!(received(&mut notifier, &mut backend), []);
        let count = backend.count("a");
        assert_eq!((count.committed, count.delivered), (1, 1));
        assert_eq!(backend.channels(listener.id()).collect::<Vec<_>>(), ["B \"c", "a"]);
    }
}

#[test]
fn a_session_receives_its_own_notification_before_ready_for_query() {
    let mut backend = Backend::default();
    let mut link = ready(&mut backend, &[]);
    run(&mut link, &mut backend, "LISTEN a; NOTIFY a, '1'; SELECT pg_notify('a', '2')").unwrap();
    let pid = link.session().process_id().unwrap();
    assert_eq!(
        received(&mut link, &mut backend),
        [(pid, "a".into(), "1".into()), (pid, "a".into(), "2".into())]
    );
}

#[test]
fn notifications_of_a_transaction_arrive_only_if_it_commits() {
    let mut backend = Backend::default();
    let (mut listener, mut notifier) = (ready(&mut backend, &[]), ready(&mut backend, &[]));
    run(&mut listener, &mut backend, "LISTEN a").unwrap();
    for (sql, expected) in [
        ("BEGIN; NOTIFY a, '1'", &[][..]),
        ("NOTIFY a, '2'", &[]),
        ("COMMIT", &["a=1", "a=2"]),
        ("BEGIN; NOTIFY a, '3'; ROLLBACK", &[]),
        ("NOTIFY a, '4'; ROLLBACK; NOTIFY a, '5'", &["a=5"]),
        ("NOTIFY a, '6'; BEGIN; NOTIFY a, '7'; COMMIT", &["a=6", "a=7"]),
    ] {
        run(&mut notifier, &mut backend, sql).unwrap();
        assert_eq!(texts(&mut listener, &mut backend), expected, "{sql}");
    }
    assert_eq!(backend.count("a").committed, 5);
}

#[test]
fn a_listener_in_a_transaction_receives_when_it_ends() {
    let mut backend = Backend::default();
    let (mut listener, mut notifier) = (ready(&mut backend, &[]), ready(&mut backend, &[]));
    run(&mut listener, &mut backend, "LISTEN a; LISTEN b").unwrap();
    run(&mut listener, &mut backend, "BEGIN; UNLISTEN b; LISTEN c").unwrap();
    run(&mut notifier, &mut backend, "NOTIFY a; NOTIFY b; NOTIFY c").unwrap();
    assert_eq!(texts(&mut listener, &mut backend), [""; 0]);
    run(&mut listener, &mut backend, "SELECT 1").unwrap();
    assert_eq!(texts(&mut listener, &mut backend), [""; 0]);
    run(&mut listener, &mut backend, "COMMIT").unwrap();
    assert_eq!(texts(&mut listener, &mut backend), ["a="]);
    run(&mut notifier, &mut backend, "NOTIFY b; NOTIFY c").unwrap();
    assert_eq!(texts(&mut listener, &mut backend), ["c="]);
}

#[test]
fn listen_takes_effect_with_its_transaction() {
    let mut backend = Backend::default();
    let mut link = ready(&mut backend, &[]);
    run(&mut link, &mut backend, "BEGIN; LISTEN a; ROLLBACK; LISTEN b").unwrap();
    let rows = run(&mut link, &mut backend, "SELECT pg_listening_channels()").unwrap();
    let channels: Vec<_> = rows[0].iter().map(|row| row.get(0).unwrap().to_owned()).collect();
    assert_eq!(channels, ["b"]);
    run(&mut link, &mut backend, "UNLISTEN *; BEGIN; NOTIFY b; LISTEN b; COMMIT").unwrap();
    assert_eq!(texts(&mut link, &mut backend), ["b="]);
}

#[test]
fn equal_notifications_of_one_transaction_are_sent_once_at_the_first_position() {
    let mut backend = Backend::default();
    let mut link = ready(&mut backend, &[]);
    run(&mut link, &mut backend, "LISTEN a; LISTEN b").unwrap();
    let twice = "NOTIFY a, '1'; NOTIFY b, '1'; NOTIFY a, '2'; NOTIFY a, '1'; NOTIFY b, '1'";
    run(&mut link, &mut backend, twice).unwrap();
    assert_eq!(texts(&mut link, &mut backend), ["a=1", "b=1", "a=2"]);
    // Never across transactions.
    run(&mut link, &mut backend, "NOTIFY a, '1'").unwrap();
    run(&mut link, &mut backend, "NOTIFY a, '1'; COMMIT; NOTIFY a, '1'").unwrap();
    assert_eq!(texts(&mut link, &mut backend), ["a=1", "a=1", "a=1"]);
}

/// Q13.
#[test]
fn five_thousand_channels_in_one_query_are_all_or_none() {
    let mut backend = Backend::default();
    let mut link = ready(&mut backend, &[]);
    let channels: Vec<_> = (0..5_000).map(|n| format!("channel {n}")).collect();
    let now = link.now();
    link.session().listen(now, &channels).unwrap();
    super::result(&mut link, &mut backend).unwrap();
    assert_eq!(backend.channels(link.id()).count(), 5_000);
    let sql: String = channels.iter().map(|name| format!("UNLISTEN \"{name}\";")).collect();
    run(&mut link, &mut backend, &format!("{sql} UNLISTEN")).unwrap_err();
    assert_eq!(backend.channels(link.id()).count(), 5_000);
}

#[test]
fn notifications_have_the_order_of_the_commits() {
    let mut backend = Backend::default();
    let mut links = [(); 3].map(|()| ready(&mut backend, &[3]));
    let [listener, early, late] = &mut links;
    run(listener, &mut backend, "LISTEN a").unwrap();
    run(early, &mut backend, "BEGIN; NOTIFY a, 'begun first'").unwrap();
    run(late, &mut backend, "NOTIFY a, 'committed first'").unwrap();
    run(early, &mut backend, "COMMIT").unwrap();
    assert_eq!(texts(listener, &mut backend), ["a=committed first", "a=begun first"]);
}

#[test]
fn pipelined_commands_are_answered_in_order() {
    let mut backend = Backend::default();
    let mut link = ready(&mut backend, &[2]);
    let now = link.now();
    let ids = [
        link.session().listen(now, &["a", "b"]).unwrap(),
        link.session().notify(now, "a", "1").unwrap(),
        link.session().simple_query(now, "SELEC").unwrap(),
        link.session().notify(now, "b", "2").unwrap(),
        link.session().unlisten_all(now).unwrap(),
        link.session().notify(now, "b", "3").unwrap(),
    ];
    assert!(link.settle(&mut backend).is_none());
    let done = link.take_events().into_iter().map(|event| match event {
        pgbell::proto::session::SessionEvent::Done { id, result, .. } => (id, result.is_ok()),
        other => panic!("{other:?}"),
    });
    let expected: Vec<_> = ids.into_iter().zip([true, true, false, true, true, true]).collect();
    assert_eq!(done.collect::<Vec<_>>(), expected);
    assert_eq!(texts(&mut link, &mut backend), ["a=1", "b=2"]);
}

#[test]
fn refusals_have_the_message_and_the_code_of_the_server() {
    let mut backend = Backend::default();
    let mut link = ready(&mut backend, &[]);
    let long_name = "x".repeat(64);
    let long_payload = "x".repeat(8_000);
    for (sql, code, message) in [
        ("SELECT pg_notify('', 'x')", "22023", "channel name cannot be empty"),
        ("SELECT pg_notify(NULL, 'x')", "22023", "channel name cannot be empty"),
        (&format!("SELECT pg_notify('{long_name}', '')"), "22023", "channel name too long"),
        (&format!("NOTIFY a, '{long_payload}'"), "22023", "payload string too long"),
        ("LISTEN \"\"", "42601", "zero-length delimited identifier at or near \"\"\"\""),
        ("SELEC 1", "42601", "syntax error at or near \"SELEC\""),
        ("NOTIFY a; LISTEN", "42601", "syntax error at end of input"),
        ("COPY t FROM STDIN", "0A000", "COPY is not understood by the testing backend"),
        ("SELECT now()", "0A000", "the function now is not understood by the testing backend"),
        ("SELECT 1 + 1", "0A000", "\"+\" here is not understood by the testing backend"),
        ("SELECT x", "42703", "column \"x\" does not exist"),
        ("SHOW a.b", "42704", "unrecognized configuration parameter \"a.b\""),
        ("SHOW a", "0A000", "the parameter a is not understood by the testing backend"),
        ("SELECT 'x'::int4", "22P02", "invalid input syntax for type integer: \"x\""),
    ] {
        let error = run(&mut link, &mut backend, sql).unwrap_err();
        let error = error.db_error().unwrap();
        assert_eq!((error.code(), error.message()), (code, message), "{sql}");
        assert!(link.session().is_ready());
    }
    let cut = format!("LISTEN {long_name}");
    run(&mut link, &mut backend, &cut).unwrap();
    assert_eq!(link.session().notices().1.unwrap().code(), "42622");
    assert_eq!(backend.channels(link.id()).collect::<Vec<_>>(), ["x".repeat(63)]);
    assert_eq!(backend.count("a").committed, 0);
}

/// As in PostgreSQL: dollar-quoted strings and strings with escapes are accepted everywhere.
#[test]
fn a_payload_may_be_written_in_every_notation() {
    let mut backend = Backend::default();
    let mut link = ready(&mut backend, &[1]);
    run(&mut link, &mut backend, "LISTEN ch").unwrap();
    for (sql, payload) in [
        ("NOTIFY ch, $$x$$", "x"),
        ("NOTIFY ch, $a$it's; $$ $a$", "it's; $$ "),
        ("NOTIFY ch, E'a\\nb\\'\\u00e9'", "a\nb'é"),
        ("NOTIFY ch, 'a'\n'b'", "ab"),
        ("SELECT pg_notify('ch', $$y$$)", "y"),
    ] {
        run(&mut link, &mut backend, sql).unwrap();
        assert_eq!(texts(&mut link, &mut backend), [format!("ch={payload}")], "{sql}");
    }
}

#[test]
fn an_error_undoes_the_query_and_fails_a_block() {
    let mut backend = Backend::default();
    let mut link = ready(&mut backend, &[]);
    let bad = "LISTEN a; NOTIFY a; SELECT pg_notify('', '')";
    run(&mut link, &mut backend, bad).unwrap_err();
    assert_eq!(backend.channels(link.id()).count(), 0);

    run(&mut link, &mut backend, "BEGIN; LISTEN a").unwrap();
    assert_eq!(link.session().transaction_status(), TransactionStatus::InTransaction);
    run(&mut link, &mut backend, bad).unwrap_err();
    assert_eq!(link.session().transaction_status(), TransactionStatus::Failed);
    let error = run(&mut link, &mut backend, "SELECT 1").unwrap_err();
    assert_eq!(error.sqlstate(), Some("25P02"));
    let rows = run(&mut link, &mut backend, "COMMIT").unwrap();
    assert_eq!(tags(&rows), ["ROLLBACK"]);
    assert_eq!(link.session().transaction_status(), TransactionStatus::Idle);
    assert_eq!((backend.channels(link.id()).count(), backend.count("a").committed), (0, 0));
}

#[test]
fn small_queries_of_tests_and_pools_are_answered() {
    let mut backend = Backend::new(BackendConfig::new().server_version("17.2"));
    let mut link = ready(&mut backend, &[]);
    let pid = link.session().process_id().unwrap().to_string();
    for (sql, expected) in [
        ("SELECT 1", Some("1")),
        ("select 'a' as x", Some("a")),
        ("SELECT NULL", None),
        ("SELECT pg_catalog.pg_backend_pid()", Some(pid.as_str())),
        ("SHOW Server_Version", Some("17.2")),
        ("SET Application_Name = 'x'; SHOW application_name", Some("x")),
    ] {
        let rows = run(&mut link, &mut backend, sql).unwrap();
        let value = rows.last().unwrap().get(0).unwrap();
        assert_eq!(value.get(0), expected, "{sql}");
    }
    for empty in ["", ";", " -- nothing"] {
        let rows = run(&mut link, &mut backend, empty).unwrap();
        assert_eq!(tags(&rows), [""], "{empty:?}");
    }
    assert_eq!(link.session().parameter("application_name"), Some("x"));
    let rows = run(&mut link, &mut backend, "COMMIT").unwrap();
    assert_eq!(tags(&rows), ["COMMIT"]);
    assert_eq!(link.session().notices().1.unwrap().code(), "25P01");
}

#[test]
fn a_standby_refuses_to_listen() {
    let mut backend = Backend::new(BackendConfig::new().parameter("in_hot_standby", "on"));
    let mut link = ready(&mut backend, &[]);
    for sql in ["LISTEN a", "NOTIFY a", "SELECT pg_notify('a', '')"] {
        let error = run(&mut link, &mut backend, sql).unwrap_err();
        assert_eq!(error.kind(), pgbell::ErrorKind::Standby, "{sql}");
    }
    run(&mut link, &mut backend, "UNLISTEN a").unwrap();
}

/// A listener looks for the primary before it listens.
#[test]
fn a_standby_says_that_it_is_in_recovery() {
    let mut backend = Backend::new(BackendConfig::new().parameter("in_hot_standby", "on"));
    let mut link = ready(&mut backend, &[]);
    let sql = "SELECT pg_is_in_recovery(), current_setting('transaction_read_only')";
    let rows = run(&mut link, &mut backend, sql).unwrap();
    let row = rows[0].get(0).unwrap();
    assert_eq!((row.get(0), row.get(1)), (Some("t"), Some("on")));
}

/// E1.
#[test]
fn a_terminated_session_gets_the_reason() {
    let mut backend = Backend::default();
    let mut link = ready(&mut backend, &[1]);
    backend.terminate(link.id());
    assert_eq!(backend.poll_wake(), Some(link.id()));
    let error = link.settle(&mut backend).unwrap();
    assert_eq!(error.sqlstate(), Some("57P01"));
    assert_eq!(backend.sessions().count(), 0);
}

#[test]
fn a_client_that_does_not_read_is_ended_behind_its_unread_messages() {
    let mut backend = Backend::new(BackendConfig::new().output_bytes_max(1_000));
    let (mut listener, mut notifier) = (ready(&mut backend, &[]), ready(&mut backend, &[]));
    run(&mut listener, &mut backend, "LISTEN a").unwrap();
    let mut sent = 0;
    while !backend.is_closed(listener.id()) {
        run(&mut notifier, &mut backend, &format!("NOTIFY a, '{sent}'")).unwrap();
        sent += 1;
    }
    run(&mut notifier, &mut backend, "NOTIFY a, 'too late'").unwrap();
    let error = listener.settle(&mut backend).unwrap();
    assert_eq!(error.sqlstate(), Some("08006"));
    let expected: Vec<_> = (0..sent).map(|n| format!("a={n}")).collect();
    assert_eq!(texts(&mut listener, &mut backend), expected);
    assert_eq!(backend.count("a").delivered, sent);
}

#[test]
fn the_transaction_of_a_client_that_disconnects_is_rolled_back() {
    let mut backend = Backend::default();
    let (mut listener, mut notifier) = (ready(&mut backend, &[]), ready(&mut backend, &[]));
    run(&mut listener, &mut backend, "LISTEN a").unwrap();
    run(&mut notifier, &mut backend, "BEGIN; NOTIFY a").unwrap();
    notifier.cut(&mut backend);
    assert_eq!(notifier.error().unwrap().kind(), pgbell::ErrorKind::Connect);
    assert_eq!(texts(&mut listener, &mut backend), [""; 0]);
    assert_eq!(backend.sessions().collect::<Vec<_>>(), [listener.id()]);
    listener.session().terminate();
    assert!(listener.settle(&mut backend).is_none());
    assert_eq!(backend.sessions().count(), 0);
}

#[test]
fn a_commit_of_another_process_is_received_with_its_process_id() {
    let mut backend = Backend::default();
    let mut link = ready(&mut backend, &[]);
    run(&mut link, &mut backend, "LISTEN a").unwrap();
    backend.commit(77, [("a", "1"), ("b", "2"), ("a", "1"), ("a", "3")]);
    assert_eq!(backend.poll_wake(), Some(link.id()));
    let received = received(&mut link, &mut backend);
    assert_eq!(received, [(77, "a".into(), "1".into()), (77, "a".into(), "3".into())]);
    assert_eq!((backend.count("a").committed, backend.count("b").committed), (2, 1));
}

#[test]
fn a_refused_channel_fails_its_query_and_nothing_else() {
    let mut backend = Backend::default();
    let mut link = ready(&mut backend, &[]);
    run(&mut link, &mut backend, "LISTEN a").unwrap();
    backend.refuse_channels(["a", "b"]);
    let error = run(&mut link, &mut backend, "LISTEN c; LISTEN b").unwrap_err();
    assert_eq!(error.sqlstate(), Some("42501"));
    // A session that already listens continues; a later one is refused too.
    assert_eq!(backend.channels(link.id()).collect::<Vec<_>>(), ["a"]);
    let mut other = ready(&mut backend, &[]);
    assert!(run(&mut other, &mut backend, "LISTEN a").is_err());
    backend.refuse_channels(["c"]);
    run(&mut other, &mut backend, "LISTEN a; LISTEN b").unwrap();
}

#[test]
fn a_session_whose_channels_are_forgotten_receives_no_notification_and_no_error() {
    let mut backend = Backend::default();
    let mut link = ready(&mut backend, &[]);
    run(&mut link, &mut backend, "LISTEN a").unwrap();
    backend.forget_channels(link.id());
    backend.commit(77, [("a", "1")]);
    assert_eq!(backend.poll_wake(), None);
    assert!(texts(&mut link, &mut backend).is_empty());
}

#[test]
fn the_answer_to_a_heartbeat_has_the_number_of_channels_and_the_digest_of_their_names() {
    let mut backend = Backend::default();
    let mut link = ready(&mut backend, &[]);
    let proof = |link: &mut Link, backend: &mut Backend| {
        let rows = run(link, backend, HEARTBEAT_SQL).unwrap();
        let row = rows[0].get(0).unwrap();
        (row.get(0).map(str::to_owned), row.get(1).map(str::to_owned))
    };
    assert_eq!(proof(&mut link, &mut backend), (Some("0".into()), None));
    run(&mut link, &mut backend, "LISTEN b; LISTEN a").unwrap();
    // sha256('a,b')
    let digest = "1eb7c54d52831bbfe8942af0b1c56b7409523a59ed6ca99c1174fef7eb32c1b5";
    assert_eq!(proof(&mut link, &mut backend), (Some("2".into()), Some(digest.into())));
    for (sql, answer) in [(HEARTBEAT_COUNT_SQL, "2"), (HEARTBEAT_ANSWER_SQL, "pgbell")] {
        let rows = run(&mut link, &mut backend, sql).unwrap();
        let row = rows[0].get(0).unwrap();
        assert_eq!((row.len(), row.get(0)), (1, Some(answer)));
    }
}
