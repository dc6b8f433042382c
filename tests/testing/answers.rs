//! Answers to queries that a test sets in place of the backend's.

use std::sync::mpsc;

use pgbell::proto::wire::TransactionStatus;
use pgbell::testing::{Answer, Backend, Link};

use super::{ready, result, run, texts};

/// The only value of the only row.
fn value(link: &mut Link, backend: &mut Backend, sql: &str) -> Option<String> {
    let rows = run(link, backend, sql).unwrap();
    rows[0].get(0).unwrap().get(0).map(str::to_owned)
}

#[test]
fn a_query_is_answered_by_its_text_with_rows_a_tag_or_an_error() {
    let mut backend = Backend::default();
    let mut link = ready(&mut backend, &[3]);
    let rows = Answer::rows(["id", "name"]).types([23, 25]).row(["1", "é"]).row([Some("2"), None]);
    backend.answer("SELECT id, name FROM t WHERE f(X'1f') -- all\n;", rows);
    backend.answer("DELETE FROM t", Answer::command("DELETE 2"));
    backend.answer("INSERT INTO t …", Answer::rows(["id"]).row(["3"]).tag("INSERT 0 1"));
    backend.answer("SELECT 1", Answer::error("42P01", "relation \"t\" does not exist"));

    let sql = "/* x */ SELECT id, name FROM t WHERE f(X'1f')  ";
    // The backend does not parse the prefix of the literal: the text counts as it is.
    assert!(run(&mut link, &mut backend, sql).is_err());
    let sql = "SELECT id, name FROM t WHERE f(X'1f') -- all\n";
    let found = run(&mut link, &mut backend, sql).unwrap();
    let columns: Vec<_> =
        found[0].columns().iter().map(|column| (column.name(), column.type_oid())).collect();
    assert_eq!(columns, [("id", 23), ("name", 25)]);
    let row = |index| {
        let row = found[0].get(index).unwrap();
        [row.get(0).map(str::to_owned), row.get(1).map(str::to_owned)]
    };
    assert_eq!(row(0), [Some("1".into()), Some("é".into())]);
    assert_eq!(row(1), [Some("2".into()), None]);
    assert_eq!(found[0].command_tag(), "SELECT 2");

    let found = run(&mut link, &mut backend, " DELETE FROM t ; /* c */ INSERT INTO t …").unwrap();
    assert_eq!([found[0].command_tag(), found[1].command_tag()], ["DELETE 2", "INSERT 0 1"]);
    let error = run(&mut link, &mut backend, "BEGIN; SELECT 1").unwrap_err();
    assert_eq!(error.db_error().unwrap().message(), "relation \"t\" does not exist");
    assert_eq!(link.session().transaction_status(), TransactionStatus::Failed);
    run(&mut link, &mut backend, "ROLLBACK").unwrap();

    backend.answer("SELECT 1", Answer::rows(["x"]).row(["another"]));
    assert_eq!(value(&mut link, &mut backend, "SELECT 1").as_deref(), Some("another"));
    backend.forget_answers();
    assert_eq!(value(&mut link, &mut backend, "SELECT 1").as_deref(), Some("1"));
    let error = run(&mut link, &mut backend, "DELETE FROM t").unwrap_err();
    assert_eq!(error.sqlstate(), Some("0A000"));
}

#[test]
fn a_function_gets_the_statement_and_its_parameters_and_the_newest_is_called_first() {
    let mut backend = Backend::default();
    let mut link = ready(&mut backend, &[]);
    let pid = link.session().process_id().unwrap();
    let (sender, asked) = mpsc::channel();
    backend.answer_with(|query| {
        query.sql().starts_with("SELECT").then(|| Answer::rows(["x"]).row(["older"]))
    });
    backend.answer_with(move |query| {
        if !query.sql().contains("FROM t") {
            return None;
        }
        let parameters = query.parameters().to_vec();
        sender.send((query.is_executed(), parameters.clone(), query.process_id())).unwrap();
        let mut answer = Answer::rows(["x"]);
        for parameter in &parameters {
            answer = answer.row([parameter.as_deref()]);
        }
        Some(answer)
    });
    let now = link.now();
    link.session()
        .query(now, "SELECT x FROM t WHERE $2 = $1", &[(0, Some("a'")), (0, None)])
        .unwrap();
    let rows = result(&mut link, &mut backend).unwrap();
    let values: Vec<_> = rows[0].iter().map(|row| row.get(0).map(str::to_owned)).collect();
    assert_eq!(values, [Some("a'".into()), None]);
    let expected = [(false, vec![], pid), (true, vec![Some("a'".into()), None], pid)];
    assert_eq!(asked.try_iter().collect::<Vec<_>>(), expected);
    assert_eq!(value(&mut link, &mut backend, "SELECT 1").as_deref(), Some("older"));
}

#[test]
fn a_query_that_notifies_sends_at_its_commit() {
    let mut backend = Backend::default();
    let (mut listener, mut link) = (ready(&mut backend, &[]), ready(&mut backend, &[]));
    run(&mut listener, &mut backend, "LISTEN a").unwrap();
    backend.answer("UPDATE t", Answer::command("UPDATE 1").notify("a", "1").notify("a", "2"));
    for (sql, expected) in [
        ("BEGIN; UPDATE t", &[][..]),
        ("COMMIT", &["a=1", "a=2"]),
        ("BEGIN; UPDATE t; ROLLBACK", &[]),
        ("UPDATE t", &["a=1", "a=2"]),
    ] {
        run(&mut link, &mut backend, sql).unwrap();
        assert_eq!(texts(&mut listener, &mut backend), expected, "{sql}");
    }
    backend.answer("UPDATE t", Answer::command("UPDATE 1").notify("", ""));
    assert_eq!(run(&mut link, &mut backend, "UPDATE t").unwrap_err().sqlstate(), Some("22023"));
}

#[test]
fn statements_of_the_backend_can_be_answered_too() {
    let mut backend = Backend::default();
    let mut link = ready(&mut backend, &[]);
    backend.answer("LISTEN \"a\"", Answer::error("42501", "not this one"));
    let now = link.now();
    link.session().listen(now, &["a"]).unwrap();
    assert_eq!(result(&mut link, &mut backend).unwrap_err().sqlstate(), Some("42501"));
    link.session().listen(now, &["b"]).unwrap();
    result(&mut link, &mut backend).unwrap();
    assert_eq!(backend.channels(link.id()).collect::<Vec<_>>(), ["b"]);
}

#[test]
fn an_answer_that_changes_between_preparation_and_execution_is_an_error() {
    let mut backend = Backend::default();
    let mut link = ready(&mut backend, &[]);
    backend.answer_with(|query| match (query.sql(), query.is_executed()) {
        ("SELECT a", false) => Some(Answer::rows(["a"])),
        ("SELECT a", true) => Some(Answer::rows(["a", "b"])),
        ("SELECT b", false) => Some(Answer::rows(["a"])),
        _ => None,
    });
    for (sql, code) in [("SELECT a", "0A000"), ("SELECT b", "XX000")] {
        let now = link.now();
        link.session().query(now, sql, &[]).unwrap();
        let error = result(&mut link, &mut backend).unwrap_err();
        assert_eq!(error.sqlstate(), Some(code), "{sql}");
        assert!(link.session().is_ready());
    }
}

#[test]
fn an_invalid_answer_is_refused_where_it_is_built() {
    let cases: [fn() -> Answer; 5] = [
        || Answer::rows(["a"]).row(["1", "2"]),
        || Answer::command("SELECT 1").row(["1"]),
        || Answer::rows(["a"]).types([]),
        || Answer::error("42p01", "x"),
        || Answer::error("", "x"),
    ];
    for case in cases {
        assert!(std::panic::catch_unwind(case).is_err());
    }
}
