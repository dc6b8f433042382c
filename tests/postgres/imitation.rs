//! The server of `testing` compared with a real one: the same answers, or the error that a statement is not supported.

use pgbell::testing::{self, BackendConfig};
use pgbell::{Connection, Error};

use crate::support::{Server, run};

/// Statements that both must support, with the same notifications.
const UNDERSTOOD: &[&str] = &[
    "LISTEN a",
    "LISTEN \"A b\"",
    "UNLISTEN b",
    "NOTIFY a",
    "NOTIFY a, 'text'",
    "NOTIFY \"A b\", ''",
    "NOTIFY a, 'it''s \\n'",
    "NOTIFY a, 'two'\n  'parts'",
    "NOTIFY a, 'two'  'parts'",
    "NOTIFY a, 'two' -- comment\n 'parts'",
    "NOTIFY a, $$x$$",
    "NOTIFY a, $$it's \"x\" \\n$$",
    "NOTIFY a, $tag$x $$ y $tag$",
    "NOTIFY a, $é1$x$é1$",
    "NOTIFY a, $$x",
    "NOTIFY a, $a$x$b$",
    "NOTIFY a, $1",
    "NOTIFY a, $1$x$1$",
    "NOTIFY a$$x$$",
    "NOTIFY a,$$x$$ ; NOTIFY a, $$y$$",
    "NOTIFY $$a$$",
    "LISTEN $$a$$",
    "NOTIFY a, E'\\x61\\142\\u0063\\U00000064\\'\\n\\\\'",
    "NOTIFY a, e'two'\n'\\x61'",
    "NOTIFY a, E'\\u00zz'",
    "NOTIFY a, E'\\xff'",
    "NOTIFY a, E'\\000'",
    "NOTIFY a, E'\\ud83d\\ude00'",
    "NOTIFY a, E'\\ud83d'",
    "NOTIFY a, E'\\ud83d\\u0041'",
    "NOTIFY a, E'\\U00110000'",
    "NOTIFY a, 'two'\n/* comment */'parts'",
    "NOTIFY a, 'x",
    "NOTIFY a, E'x\\'",
    "NOTIFY a /* x",
    "NOTIFY a, 'x' 'y'",
    "NOTIFY a, x",
    "NOTIFY a, NULL",
    "NOTIFY a, 1",
    "NOTIFY 'a'",
    "NOTIFY",
    "NOTIFY a, ",
    "LISTEN a, b",
    "LISTEN *",
    "LISTEN select",
    "LISTEN notify",
    "LISTEN \"\"",
    "UNLISTEN *",
    "LISTEN a",
    "SELECT pg_notify('a', $$x$$)",
    "SELECT pg_notify('a', NULL)",
    "SELECT pg_notify('', 'x')",
    "SELECT pg_notify(NULL, 'x')",
    "SELECT pg_catalog.pg_notify('a', E'\\x61') AS done",
    "SELECT 1",
    "SELECT 1, 'x', true, NULL, '7'::int4, '{1,2}'::int[]",
    "SELECT 'x'::int4",
    "SELECT '{'::text[]",
    "SELECT $1",
    "SELECT nothing",
    "SELECT 1 FROM",
    "SELECT pg_notify('a', 'x'",
    "SELEC 1",
    "SELECT current_setting('pgbell.nothing')",
    "SELECT current_setting('pgbell.nothing', true)",
    "SELECT set_config('pgbell.kept', 'x', false)",
    "SHOW pgbell.kept",
    "SHOW pgbell.nothing",
    "SHOW server_encoding",
    "SELECT version(), current_database()",
    "SET application_name = 'x'",
    "SET application_name TO DEFAULT",
    "SET SESSION TIME ZONE 'UTC'",
    "SET client_encoding TO 'UTF8'",
    "SET NAMES 'UTF8'",
    "SET a",
    "RESET application_name",
    "RESET ALL",
    "DISCARD ALL",
    "BEGIN ISOLATION LEVEL SERIALIZABLE, READ ONLY DEFERRABLE",
    "BEGIN TRANSACTION READ WRITE",
    "START TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY",
    "BEGIN; NOTIFY a, 'never'; ROLLBACK",
    "BEGIN; NOTIFY a, 'once'; NOTIFY a, 'once'; COMMIT",
    "BEGIN; SELEC 1; COMMIT",
    "BEGIN; DISCARD ALL",
    "BEGIN; BEGIN; COMMIT",
    "COMMIT",
    "END WORK",
    "ABORT TRANSACTION",
    "START",
    "DEALLOCATE nothing",
    "DEALLOCATE PREPARE ALL",
    "CLOSE nothing",
    "CLOSE ALL",
    "SELECT pg_advisory_unlock_all()",
    "",
    " ; -- nothing",
    "42",
];

/// Statements that a server supports, and for which the test server may return 0A000, but nothing else.
const OTHERS: &[&str] = &[
    "SELECT '{{1},{2}}'::int[]",
    "SELECT '[0:1]={1,2}'::int[]",
    "(",
    "BEGIN READ",
    "SHOW TRANSACTION ISOLATION LEVEL",
    "SELECT pg_notify('a', )",
    "NOTIFY a, U&'\\0061'",
    "NOTIFY a, B'1'",
    "NOTIFY a, X'1f'",
    "LISTEN U&\"\\0061\"",
    "SELECT",
    "SELECT ALL 1",
    "SELECT DISTINCT 1",
    "SELECT 1 one",
    "SELECT 1 + 1",
    "SELECT 1.5, .5, 1e3",
    "SELECT -1",
    "SELECT 9999999999",
    "SELECT 'a' || 'b'",
    "SELECT pg_notify('a', 'x' || 'y')",
    "SELECT pg_notify('a', upper('x'))",
    "SELECT pg_notify(payload => 'x', channel => 'a')",
    "SELECT pg_notify(VARIADIC ARRAY['a', 'x'])",
    "SELECT (pg_notify('a', 'x'))",
    "SELECT CURRENT_USER",
    "SELECT CAST('1' AS int)",
    "SELECT int '1'",
    "SELECT CASE WHEN true THEN 1 END",
    "SELECT NOT true",
    "SELECT ARRAY[1]",
    "SELECT 1 WHERE false",
    "SELECT 1 LIMIT 0",
    "SELECT 1 UNION ALL SELECT 2",
    "SELECT x.* FROM unnest('{1}'::int[]) AS x",
    "SELECT a FROM unnest('{1}'::int[]) AS t(a) WHERE a = 2",
    "SELECT unnest('{1}'::int[])",
    "SELECT count(*) FROM unnest('{1}'::int[])",
    "SELECT '1'::varchar(10), '1'::numeric(3, 1), 'x'::char(3)",
    "SELECT '2026-01-01'::date, 'x'::date",
    "SELECT now(), current_schema()",
    "SELECT current_setting('search_path')",
    "SELECT set_config('search_path', 'public', true)",
    "TABLE pg_class",
    "VALUES (1)",
    "WITH x AS (SELECT 1) SELECT * FROM x",
    "SHOW search_path",
    "SHOW statement_timeout",
    "SELECT current_setting('statement_timeout')",
    "RESET statement_timeout",
    "(SELECT 1)",
    "SHOW ALL",
    "SHOW nothing_of_the_kind",
    "RESET search_path",
    "RESET nothing_of_the_kind",
    "RESET SESSION AUTHORIZATION",
    "SET search_path = public, \"$user\"",
    "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
    "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
    "SET LOCAL statement_timeout = '1s'",
    "SET TIME ZONE INTERVAL '1' HOUR TO MINUTE",
    "SET ROLE NONE",
    "SET SESSION AUTHORIZATION DEFAULT",
    "SET CONSTRAINTS ALL DEFERRED",
    "SET XML OPTION DOCUMENT",
    "SET a.b FROM CURRENT",
    "DISCARD PLANS",
    "DISCARD nothing",
    "BEGIN; SAVEPOINT a; RELEASE a; ROLLBACK TO a; COMMIT",
    "BEGIN; ROLLBACK AND CHAIN",
    "COMMIT AND NO CHAIN",
    "COMMIT PREPARED 'x'",
    "PREPARE TRANSACTION 'x'",
    "PREPARE p AS SELECT 1",
    "EXECUTE p",
    "DECLARE c CURSOR FOR SELECT 1",
    "FETCH c",
    "CREATE TEMP TABLE imitated (a int)",
    "INSERT INTO imitated VALUES (1)",
    "DO $$BEGIN NULL; END$$",
    "EXPLAIN SELECT 1",
    "VACUUM nothing",
    "ANALYSE nothing",
    "CHECKPOINT",
    "LOCK imitated",
];

/// Returns the tags or the SQLSTATE.
fn outcome(result: Result<Vec<pgbell::Rows>, Error>) -> Result<Vec<String>, String> {
    match result {
        Ok(results) => Ok(results.iter().map(|rows| rows.command_tag().to_owned()).collect()),
        Err(error) => Err(error.sqlstate().unwrap_or_else(|| panic!("{error}")).to_owned()),
    }
}

/// Returns the answer of one of the servers to a statement outside a transaction, and the notifications it sends.
async fn answer(
    connection: &mut Connection,
    sql: &str,
) -> (Result<Vec<String>, String>, Vec<(String, String)>) {
    connection.simple_query("ROLLBACK; LISTEN a; LISTEN \"A b\"; LISTEN \"end\"").await.unwrap();
    let outcome = outcome(connection.simple_query(sql).await);
    connection.simple_query("ROLLBACK; LISTEN \"end\"; NOTIFY \"end\"").await.unwrap();
    let mut notified = Vec::new();
    loop {
        let batch = connection.recv_batch().await.unwrap();
        for one in batch.iter() {
            if one.channel() == "end" {
                return (outcome, notified);
            }
            let payload = String::from_utf8_lossy(one.payload_bytes()).into_owned();
            notified.push((one.channel().to_owned(), payload));
        }
    }
}

/// N183.
#[test]
fn the_server_of_testing_answers_like_postgresql_or_reports_an_unsupported_statement() {
    let real = Server::start();
    run(async {
        let mut real = real.connection().await;
        let imitation = testing::Server::start(BackendConfig::new()).await.unwrap();
        let mut imitation = Connection::connect(imitation.url()).await.unwrap();
        let mut wrong = Vec::new();
        for (sql, must_know) in
            UNDERSTOOD.iter().map(|sql| (sql, true)).chain(OTHERS.iter().map(|sql| (sql, false)))
        {
            let expected = answer(&mut real, sql).await;
            let found = answer(&mut imitation, sql).await;
            let does_not_know = found == (Err("0A000".to_owned()), Vec::new());
            if found != expected && (must_know || !does_not_know) {
                wrong.push(format!("{sql:?}: expected {expected:?}, found {found:?}"));
            }
        }
        assert!(wrong.is_empty(), "{} wrong answers\n{}", wrong.len(), wrong.join("\n"));
    });
}
