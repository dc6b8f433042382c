//! `pgbell outbox` as a process, against a real server.

mod common;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{Running, cluster, connected, pgbell, run};
use pgbell::Connection;
use serde_json::Value;

/// Runs `pgbell outbox` with these arguments: exit code, stdout, stderr.
fn outbox(arguments: &[&str]) -> (i32, String, String) {
    run(connected().arg("outbox").args(arguments))
}

/// Runs a command that must succeed. Returns stdout.
fn ok(arguments: &[&str]) -> String {
    let (code, out, err) = outbox(arguments);
    assert_eq!(code, 0, "{arguments:?}: {out} {err}");
    out
}

/// Runs statements. Returns the first value of the first one, or an empty text.
fn sql(text: &str) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let value = runtime.block_on(async {
        let mut connection = Connection::connect(cluster().url_for_superuser()).await?;
        let results = connection.simple_query(text).await?;
        connection.close().await;
        let value = results
            .first()
            .and_then(|rows| rows.get(0))
            .and_then(|row| row.get(0).map(str::to_owned));
        Ok::<_, pgbell::Error>(value.unwrap_or_default())
    });
    value.unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// Creates a log whose payloads are text, with these records.
fn log(name: &str, payloads: &[&str]) {
    ok(&["init", name, "--payload", "text"]);
    for payload in payloads {
        add(name, payload);
    }
}

fn add(name: &str, payload: &str) {
    sql(&format!("INSERT INTO {name} (key, payload) VALUES ('k', '{payload}')"));
}

/// Reads with a cursor, and acknowledges. Returns the payloads.
fn payloads(name: &str, cursor: &str, more: &[&str]) -> Vec<String> {
    let arguments = [&["read", name, "-c", cursor, "--format", "json"], more].concat();
    let out = ok(&arguments);
    out.lines().map(|line| json(line)["payload"].as_str().unwrap().to_owned()).collect()
}

fn json(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"))
}

fn status(name: &str) -> Value {
    json(&ok(&["status", name, "--json"]))
}

#[test]
fn a_log_is_created_checked_and_deleted() {
    let (code, out, err) = outbox(&["init", "made", "--payload", "text", "--max-age", "7d"]);
    assert_eq!((code, out.as_str()), (0, ""), "{err}");
    let insert = r#"INSERT INTO "public"."made" (key, payload) VALUES ($1, $2)"#;
    assert_eq!(err, format!("the log public.made is ready: {insert}\n"));
    let checked = outbox(&["check", "made"]);
    let expected = "public.made: as expected, payloads text, 0 cursors\n";
    assert_eq!(checked, (0, expected.to_owned(), String::new()));
    assert_eq!(status("made")["max_age_seconds"], 604_800.0);

    // The settings are those of the last call.
    ok(&["init", "made", "--payload", "text", "--max-bytes", "2GB", "--notify-on-commit"]);
    let found = status("made");
    assert_eq!(found["max_age_seconds"], Value::Null);
    assert_eq!(found["max_bytes"], 2_147_483_648_u64);
    let triggers = "SELECT count(*) FROM pg_trigger WHERE tgname = 'pgbell_notify' AND tgrelid = 'made'::regclass";
    assert_eq!(sql(triggers), "1");

    let (code, _, err) = outbox(&["init", "made", "--payload", "bytea"]);
    assert_eq!(code, 7, "{err}");
    assert!(err.contains("payloads of the type text\nhint: "), "{err}");

    assert_eq!(outbox(&["drop", "made", "--yes"]), (0, String::new(), String::new()));
    let (code, out, err) = outbox(&["check", "made"]);
    assert_eq!((code, out.as_str()), (7, ""));
    assert!(
        err.ends_with("hint: create the log with Outbox::init, or with `pgbell outbox init`\n"),
        "{err}"
    );
}

#[test]
fn the_settings_of_a_partition_are_stored() {
    ok(&["init", "parts", "--partition-age", "90s", "--partition-bytes", "1MB"]);
    let stored =
        "SELECT date_part('epoch', slot_age)::int || ' ' || slot_bytes FROM parts_settings";
    assert_eq!(sql(stored), "90 1048576");
}

#[test]
fn the_status_is_a_table_and_one_object() {
    log("shown", &["one", "two"]);
    assert_eq!(payloads("shown", "billing", &["--from", "beginning", "--ack", "-n", "1"]), ["one"]);
    let out = ok(&["status", "shown"]);
    let lines: Vec<_> = out.lines().collect();
    assert_eq!(lines[0], "log            public.shown", "{out}");
    assert_eq!(lines[3], "highest id     2", "{out}");
    let headings: Vec<_> = lines[8].split_whitespace().collect();
    let expected = ["CURSOR", "LAG", "TIME", "IDLE", "READER", "LEASE", "TOKEN", "LOST"];
    assert_eq!(headings, expected, "{out}");
    assert!(lines[9].starts_with("billing  1    "), "{out}");
    assert_eq!(lines.len(), 10, "{out}");

    let found = status("shown");
    assert_eq!((&found["log"], &found["payload"]), (&"public.shown".into(), &"text".into()));
    assert_eq!((&found["highest_id"], &found["problems"]), (&2.into(), &Value::Array(vec![])));
    assert!(found["bytes"].as_u64() > Some(0) && found["oldest_seconds"].as_f64() > Some(0.0));
    let cursor = &found["cursors"][0];
    assert_eq!((&cursor["name"], &cursor["lag"]), (&"billing".into(), &1.into()));
    assert!(cursor["lag_seconds"].as_f64() > Some(0.0), "{cursor}");
    assert_eq!((&cursor["reader"], &cursor["lease_seconds"]), (&Value::Null, &Value::Null));
    assert_eq!((&cursor["lost"], &cursor["is_of_this_cluster"]), (&0.into(), &true.into()));
    assert!(cursor["position"].as_str().unwrap().contains(':'), "{cursor}");
}

#[test]
fn a_name_from_the_database_controls_no_terminal() {
    log("hidden", &[]);
    payloads("hidden", "a\x1b[2J\nb", &["--from", "now"]);
    let out = ok(&["status", "hidden"]);
    assert!(out.contains("a\\u{1b}[2J\\nb  0"), "{out}");
    assert!(!ok(&["status", "hidden", "--json"]).contains('\x1b'));
}

#[test]
fn a_cursor_beyond_a_limit_is_a_failed_check() {
    log("late", &["one", "two"]);
    payloads("late", "slow", &["--from", "beginning"]);
    payloads("late", "quick", &["--from", "now"]);
    for (limits, expected) in [
        (&["--max-lag", "2"][..], 0),
        (&["--max-lag", "1"], 7),
        (&["--max-lag", "1", "-c", "quick"], 0),
        (&["--max-lag", "1", "-c", "slow"], 7),
        (&["--max-lag-time", "1h"], 0),
        (&["--max-lag-time", "1ms"], 7),
        (&["--max-lag-time", "1ms", "-c", "quick"], 0),
        (&["--max-size", "1GB"], 0),
        (&["--max-size", "1kB"], 7),
        (&["-c", "slow", "-c", "gone"], 7),
        (&["--fail-on-loss"], 0),
    ] {
        let (code, out, err) = outbox(&[&["status", "late"], limits].concat());
        assert_eq!((code, err.is_empty()), (expected, expected == 0), "{limits:?}: {err}");
        assert!(out.starts_with("log "), "{out}");
    }
    let (_, out, err) = outbox(&["status", "late", "--json", "--max-lag", "1"]);
    assert_eq!(err, "pgbell: the cursor slow has a lag of 2, above 1\n");
    assert_eq!(
        json(&out)["problems"],
        serde_json::json!(["the cursor slow has a lag of 2, above 1"])
    );
    let (_, out, err) = outbox(&["status", "late", "-c", "gone", "--json"]);
    assert_eq!(json(&out)["problems"][0], "the log public.late has no cursor gone");
    assert_eq!(err, "pgbell: the log public.late has no cursor gone\n");
}

#[test]
fn a_log_from_another_cluster_is_a_failed_check_until_it_is_rebased() {
    log("moved", &["one"]);
    payloads("moved", "reader", &["--from", "beginning"]);
    sql("UPDATE moved_settings SET system_identifier = 1");
    let hint = "hint: run `pgbell outbox rebase` while no other program uses the log\n";
    for command in ["check", "status"] {
        let (code, _, err) = outbox(&[command, "moved"]);
        let expected =
            format!("pgbell: the cursor reader has a position of another cluster\n{hint}");
        assert_eq!((code, err), (7, expected));
    }
    let (code, _, err) = outbox(&["read", "moved", "-c", "reader"]);
    assert!(code == 7 && err.contains("rebase"), "{err}");
    ok(&["rebase", "moved"]);
    ok(&["check", "moved"]);
    assert_eq!(payloads("moved", "reader", &[]), ["one"]);
}

#[test]
fn without_ack_the_same_records_are_printed_again() {
    log("peek", &["one", "two", "three"]);
    for more in [&["--from", "beginning"][..], &[]] {
        assert_eq!(payloads("peek", "c", more), ["one", "two", "three"]);
    }
    assert_eq!(payloads("peek", "c", &["-n", "2"]), ["one", "two"]);
    assert_eq!(payloads("peek", "c", &["-n", "2", "--ack"]), ["one", "two"]);
    assert_eq!(payloads("peek", "c", &["--ack"]), ["three"]);
    assert_eq!(payloads("peek", "c", &["--ack"]), [""; 0]);
}

#[test]
fn a_count_above_a_page_acknowledges_exactly_as_many() {
    log("pages", &[]);
    sql("INSERT INTO pages (payload) SELECT n::text FROM generate_series(1, 2500) AS n");
    let found = payloads("pages", "c", &["--from", "beginning", "--ack", "-n", "2100"]);
    assert_eq!((found.len(), found[2_099].as_str()), (2_100, "2100"));
    let found = payloads("pages", "c", &["--ack"]);
    assert_eq!((found.len(), found[0].as_str()), (400, "2101"));
}

#[test]
fn a_cursor_is_created_only_where_it_shall_begin() {
    log("starts", &["one"]);
    let (code, out, err) = outbox(&["read", "starts", "-c", "typo"]);
    assert_eq!((code, out.as_str()), (7, ""));
    assert!(
        err.starts_with("pgbell: the log public.starts has no cursor typo\nhint: --from "),
        "{err}"
    );
    assert_eq!(status("starts")["cursors"], serde_json::json!([]));
    sql("UPDATE starts SET written_at = '2026-01-01T00:00:00Z'");
    add("starts", "two");
    for (from, expected) in [
        ("beginning", &["one", "two"][..]),
        ("2026-01-01T00:00:00Z", &["one", "two"]),
        ("2026-01-01T01:00:01+01:00", &["two"]),
        ("1h", &["two"]),
        ("now", &[]),
    ] {
        assert_eq!(payloads("starts", from, &["--from", from]), expected, "{from}");
    }
}

#[test]
fn records_are_one_line_in_both_formats() {
    ok(&["init", "lines", "--payload", "text"]);
    sql(
        "INSERT INTO lines (key, payload, headers) VALUES ('a b', E'x\\n\\u202e\\\\', '{\"n\": 1}')",
    );
    ok(&["read", "lines", "-c", "c", "--from", "beginning"]);
    let line = ok(&["read", "lines", "-c", "c"]);
    let (time, rest) = line.split_once(' ').unwrap();
    assert_eq!(time.len(), "2026-11-21T12:00:01.123Z".len());
    assert_eq!(rest, "a\\u{20}b #1 x\\n\\u{202e}\\\\\n");

    let line = ok(&["read", "lines", "-c", "c", "--format", "json"]);
    let keys = ["id", "key", "payload", "headers", "written_at"];
    let places: Vec<_> =
        keys.iter().map(|key| line.find(&format!("\"{key}\":")).unwrap()).collect();
    assert!(places.is_sorted(), "{line}");
    let record = json(&line);
    assert_eq!(record.as_object().unwrap().len(), keys.len());
    assert_eq!((&record["id"], &record["key"]), (&1.into(), &"a b".into()));
    assert_eq!(record["payload"], "x\n\u{202e}\\");
    assert_eq!(record["headers"], "{\"n\": 1}");
    assert!(!line.contains('\u{202e}'), "{line}");
}

#[test]
fn payloads_of_the_other_types_are_text() {
    ok(&["init", "documents"]);
    ok(&["init", "blobs", "--payload", "bytea"]);
    sql(
        "INSERT INTO documents (payload) VALUES ('{\"id\":1}'); INSERT INTO blobs (payload) VALUES ('\\x00ff')",
    );
    assert_eq!(payloads("documents", "c", &["--from", "beginning"]), ["{\"id\": 1}"]);
    assert_eq!(payloads("blobs", "c", &["--from", "beginning"]), ["00ff"]);
}

#[test]
fn follow_prints_what_comes_and_acknowledges_it_before_a_signal_ends_it() {
    log("followed", &["one"]);
    ok(&["init", "followed", "--payload", "text", "--notify-on-commit"]);
    let mut command = connected();
    command.args([
        "outbox",
        "read",
        "followed",
        "-c",
        "c",
        "--from",
        "beginning",
        "--ack",
        "--follow",
    ]);
    let mut read = Running::start(&mut command);
    let line = read.error_line();
    assert!(line.starts_with("reading c of public.followed on 127.0.0.1:"), "{line}");
    assert!(read.line().ends_with(" k #1 one"));
    add("followed", "two");
    assert!(read.line().ends_with(" k #2 two"));
    // Its reader is shown, and a second one waits.
    let reader = status("followed")["cursors"][0]["reader"].as_str().unwrap().to_owned();
    assert!(reader.starts_with("pgbell outbox read, process "), "{reader}");
    let (code, out, err) = outbox(&["read", "followed", "-c", "c", "--wait", "500ms"]);
    assert_eq!((code, out.as_str()), (5, ""));
    assert!(err.starts_with(&format!("waiting for the cursor c: {reader} has it, ")), "{err}");
    read.signal("INT");
    assert_eq!(read.end(), (130, String::new(), String::new()));
    // The lease has ended with it.
    assert_eq!(payloads("followed", "c", &["--ack", "--wait", "1m"]), [""; 0]);
}

#[test]
fn the_time_of_wait_ends_a_read_that_follows() {
    log("timed", &["one"]);
    for (more, expected) in [(&["-n", "2"][..], 5), (&[], 5)] {
        let arguments =
            ["read", "timed", "-c", "c", "--from", "beginning", "--ack", "-fq", "-W", "2s"];
        let (code, _, err) = outbox(&[&arguments[..], more].concat());
        assert_eq!((code, err.as_str()), (expected, ""), "{more:?}");
    }
}

#[test]
fn a_reader_that_is_replaced_ends_with_an_error() {
    log("taken", &["one"]);
    let mut command = connected();
    command.args(["outbox", "read", "taken", "-c", "c", "--from", "beginning", "--ack", "-fq"]);
    let mut read = Running::start(&mut command);
    assert!(read.line().ends_with(" one"));
    ok(&["read", "taken", "-c", "c", "--take-over"]);
    sql("SELECT pg_notify('public.taken', '')");
    let (code, out, err) = read.end();
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.contains("another reader has taken over the cursor\nhint: "), "{err}");
}

/// A reader that takes over waits for it without a limit: it must not do so in silence.
#[test]
fn a_take_over_that_waits_for_an_open_acknowledgement_says_so() {
    log("waited", &["one"]);
    payloads("waited", "c", &["--from", "beginning"]);
    let transaction = std::thread::spawn(|| {
        // It stores the position after the newest one, as an acknowledgement does.
        sql("BEGIN; \
             INSERT INTO waited_acks (cursor_id, seq, token, slot, lower, high, next) \
             SELECT cursor_id, seq + 1, token, slot, lower, high, next FROM waited_acks \
             ORDER BY seq DESC LIMIT 1; \
             SELECT pg_sleep(6); ROLLBACK");
    });
    let is_open = "SELECT count(*) FROM pg_stat_activity \
                   WHERE wait_event = 'PgSleep' AND query LIKE '%waited_acks%'";
    let until = Instant::now() + Duration::from_secs(30);
    while sql(is_open) != "1" {
        assert!(Instant::now() < until);
        std::thread::sleep(Duration::from_millis(20));
    }
    let (code, out, err) = outbox(&["read", "waited", "-c", "c", "--take-over"]);
    assert_eq!((code, out.lines().count()), (0, 1), "{err}");
    assert_eq!(
        err,
        "waiting for the cursor c: an acknowledgement is in a transaction that is still open\n"
    );
    transaction.join().unwrap();
}

#[test]
fn a_schema_that_does_not_exist_is_not_a_failed_check() {
    let (code, out, err) = outbox(&["init", "nowhere.log"]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.contains("nowhere") && err.contains("\nhint: "), "{err}");
}

#[test]
fn what_the_reader_of_the_output_did_not_get_is_not_acknowledged() {
    log("closed", &[]);
    sql("INSERT INTO closed (payload) SELECT repeat('x', 1000) FROM generate_series(1, 900)");
    let mut command = connected();
    command.args(["outbox", "read", "closed", "-c", "c", "--from", "beginning", "--ack"]);
    let mut read = Running::start(&mut command);
    assert!(read.line().contains(" #1 "));
    read.close_stdout();
    let (code, _, err) = read.end();
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(payloads("closed", "c", &["--ack"]).len(), 900);
}

#[test]
fn records_that_were_removed_are_a_gap_and_a_loss() {
    log("trimmed", &["one", "two"]);
    payloads("trimmed", "c", &["--from", "beginning"]);
    ok(&["init", "trimmed", "--payload", "text", "--partition-age", "1ms", "--max-age", "1ms"]);
    let out = ok(&["rotate", "trimmed"]);
    assert_eq!(out, "emptied 0 partitions, began the next one\n");
    add("trimmed", "three");
    let (code, out, err) = outbox(&["rotate", "trimmed", "--json"]);
    assert_eq!(code, 0, "{err}");
    let done = json(&out);
    assert_eq!((&done["truncated"], &done["lost"]), (&1.into(), &2.into()), "{out}");
    let warning = "pgbell: warning: 2 records were removed unread, because of a limit of the log\n";
    assert_eq!(err, warning);

    assert_eq!(outbox(&["status", "trimmed", "--max-lag", "100"]).0, 0);
    let (code, _, err) = outbox(&["status", "trimmed", "--max-lag", "0", "--fail-on-loss"]);
    assert_eq!(code, 6, "{err}");
    assert!(err.ends_with("pgbell: the cursor c has lost 2 records\n"), "{err}");

    let gap = "gap: 2 records were removed unread, with ids from 1 to 2";
    for _ in 0..2 {
        let (code, out, err) = outbox(&["read", "trimmed", "-c", "c", "--ack", "--fail-on-loss"]);
        assert_eq!((code, err), (6, format!("pgbell: {gap}\n")));
        assert!(out.ends_with(&format!(" ~ {gap}\n")), "{out}");
    }
    let out = ok(&["read", "trimmed", "-c", "c", "--ack", "--format", "json"]);
    let lines: Vec<_> = out.lines().collect();
    assert_eq!(lines[0], r#"{"event":"gap","first_id":1,"last_id":2,"records":2}"#);
    assert_eq!((lines.len(), &json(lines[1])["payload"]), (2, &"three".into()));
    assert_eq!(outbox(&["status", "trimmed", "--fail-on-loss"]).0, 0);
}

#[test]
fn a_cursor_is_deleted_once() {
    log("cursors", &[]);
    payloads("cursors", "c", &["--from", "now"]);
    let deleted = outbox(&["drop-cursor", "cursors", "c"]);
    assert_eq!(deleted, (0, String::new(), String::new()));
    let (code, _, err) = outbox(&["drop-cursor", "cursors", "c"]);
    assert_eq!((code, err.as_str()), (7, "pgbell: the log public.cursors has no cursor c\n"));
}

#[test]
fn without_a_terminal_a_log_is_deleted_only_with_yes() {
    log("kept", &[]);
    let (code, out, err) = outbox(&["drop", "kept"]);
    assert_eq!((code, out.as_str()), (2, ""));
    let expected =
        "pgbell: drop deletes the log public.kept with its records and cursors\nhint: add --yes: ";
    assert!(err.starts_with(expected), "{err}");
    ok(&["check", "kept"]);
}

/// Runs `pgbell outbox drop` on a terminal of its own, with this input: exit code, and what is on the terminal.
#[cfg(target_os = "linux")]
fn drop_on_a_terminal(name: &str, input: &[u8]) -> (i32, String) {
    let program = env!("CARGO_BIN_EXE_pgbell");
    let mut command = common::without_server(Command::new("script"));
    command.args(["-qec", &format!("{program} outbox drop {name}"), "/dev/null"]);
    command.env("DATABASE_URL", cluster().url_for_superuser()).stdin(Stdio::piped());
    let (code, out, _) = common::run_with_input(&mut command, input);
    (code, out)
}

#[cfg(target_os = "linux")]
#[test]
fn on_a_terminal_a_log_is_deleted_after_a_yes() {
    log("asked", &[]);
    for (input, expected) in [(&b"n\n"[..], 1), (b"\n", 1), (b"y\n", 0)] {
        ok(&["check", "asked"]);
        let (code, screen) = drop_on_a_terminal("asked", input);
        assert_eq!(code, expected, "{screen}");
        assert!(
            screen.contains("delete the log public.asked with its records and cursors ("),
            "{screen}"
        );
        assert!(screen.contains(", 0 cursors)? [y/N] "), "{screen}");
        assert_eq!(screen.contains("nothing was deleted"), expected == 1, "{screen}");
    }
    assert_eq!(outbox(&["check", "asked"]).0, 7);
}

#[test]
fn wrong_arguments_are_a_usage_error() {
    for arguments in [
        &[][..],
        &["dance"],
        &["init", "no-name"],
        &["init", "a.b.c"],
        &["init", "--payload", "xml"],
        &["init", "--max-age", "forever"],
        &["init", "--max-bytes", "much"],
        &["status", "--max-lag", "-1"],
        &["read"],
        &["read", "-c", ""],
        &["read", "-c", "c", "--follow"],
        &["read", "-c", "c", "-n", "0"],
        &["read", "-c", "c", "--from", "yesterday"],
        &["drop-cursor", "outbox"],
        &["drop-cursor", "outbox", ""],
    ] {
        let (code, out, err) = outbox(arguments);
        assert_eq!((code, out.as_str()), (2, ""), "{arguments:?}: {err}");
        assert!(!err.is_empty(), "{arguments:?}");
    }
}

#[test]
fn each_command_connects_as_listen_does() {
    let nowhere = "postgres://bob:hunter2@127.0.0.1:1/shop";
    let wrong = cluster().url("postgres", "hunter2", "postgres");
    for arguments in [
        &["init"][..],
        &["check"],
        &["status"],
        &["read", "-c", "c"],
        &["rotate"],
        &["rebase"],
        &["drop-cursor", "outbox", "c"],
        &["drop", "--yes"],
    ] {
        for (url, expected) in [(nowhere, 3), (wrong.as_str(), 4), ("postgres://h:port/", 2)] {
            let mut command = pgbell();
            let (code, out, err) =
                run(command.env("DATABASE_URL", url).arg("outbox").args(arguments));
            assert_eq!((code, out.as_str()), (expected, ""), "{arguments:?}: {err}");
            assert!(err.starts_with("pgbell: ") && !err.contains("hunter2"), "{err}");
        }
        let (code, _, err) = run(pgbell().arg("outbox").args(arguments).args(["--url", nowhere]));
        assert_eq!(code, 3, "{err}");
        assert!(err.starts_with("pgbell: warning: the password in --url is visible"), "{err}");
        assert_eq!(err.matches("warning").count(), 1, "{err}");
    }
}
