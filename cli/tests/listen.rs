//! `pgbell listen` as a process, against a real server.

mod common;

use common::{Running, cluster, connected, notify, pgbell, run};
use pgbell_testkit::{Cluster, Mode, Signal};
use serde_json::Value;

/// Waits for the end: exit code and stdout. On stderr there is the summary alone.
fn summed_up(listen: Running) -> (i32, String) {
    let (code, out, err) = listen.end();
    assert!(err.starts_with("received ") && err.ends_with(", 0 gaps, 0 lagged\n"), "{err}");
    (code, out)
}

#[test]
fn json_records_have_the_documented_keys_and_count_ends_them() {
    let mut listen =
        Running::listening(connected().args(["listen", "json a", "-n", "2", "--format", "json"]));
    notify("json a", "{\"id\":1}\nzwei\ndrei\n");
    let (first, second) = (listen.line(), listen.line());
    assert_eq!(summed_up(listen), (0, String::new()));

    let keys = ["channel", "payload", "process_id", "received_at", "sequence", "epoch"];
    let places: Vec<_> =
        keys.iter().map(|key| first.find(&format!("\"{key}\":")).unwrap()).collect();
    assert!(places.is_sorted(), "{first}");
    let record: Value = serde_json::from_str(&first).unwrap();
    assert_eq!(record.as_object().unwrap().len(), keys.len());
    assert_eq!(record["channel"], "json a");
    assert_eq!(record["payload"], "{\"id\":1}");
    assert!(record["process_id"].as_i64().unwrap() > 0);
    assert_eq!((&record["sequence"], &record["epoch"]), (&0.into(), &1.into()));
    let received_at = record["received_at"].as_str().unwrap();
    assert_eq!((received_at.len(), received_at.ends_with('Z')), (27, true), "{received_at}");
    let record: Value = serde_json::from_str(&second).unwrap();
    assert_eq!((&record["payload"], &record["sequence"]), (&"zwei".into(), &1.into()));
}

#[test]
fn a_text_record_stays_one_line() {
    let mut listen = Running::listening(connected().args(["listen", "text", "-n", "2"]));
    let sent = connected().args(["notify", "text", "a\nb\x1b[2J"]).status().unwrap();
    assert!(sent.success());
    notify("text", "plain");
    let line = listen.line();
    let (received_at, rest) = line.split_once(' ').unwrap();
    assert_eq!(received_at.len(), "2026-11-21T12:00:01.123Z".len());
    let (channel, rest) = rest.split_once(" #").unwrap();
    let (process_id, payload) = rest.split_once(' ').unwrap();
    assert_eq!((channel, payload), ("text", "a\\nb\\u{1b}[2J"));
    assert!(process_id.parse::<u32>().is_ok(), "{line}");
    assert!(listen.line().ends_with(" plain"));
    assert_eq!(summed_up(listen), (0, String::new()));
}

/// C1 controls, DEL, bidirectional marks, separators, characters without width, tags.
#[test]
fn what_cannot_be_seen_is_written_out_in_both_formats() {
    let hidden = ['\u{9b}', '\u{7f}', '\u{202e}', '\u{2028}', '\u{200b}', '\u{e0041}', '\u{feff}'];
    let channel: String = "hidden".chars().chain(hidden).collect();
    let payload: String = hidden.iter().flat_map(|c| ['x', *c]).collect();
    for format in ["json", "text"] {
        let arguments = ["listen", &channel, "-n", "1", "--format", format];
        let mut listen = Running::listening(connected().args(arguments));
        assert!(connected().args(["notify", &channel, &payload]).status().unwrap().success());
        let line = listen.line();
        assert!(line.is_ascii() && !line.contains('\x7f'), "{}", line.escape_debug());
        if format == "json" {
            let record: Value = serde_json::from_str(&line).unwrap();
            assert_eq!(
                (&record["channel"], &record["payload"]),
                (&channel.as_str().into(), &payload.as_str().into())
            );
            assert!(line.contains("x\\udb40\\udc41x\\ufeff"), "{line}");
        } else {
            assert!(line.ends_with("x\\u{e0041}x\\u{feff}"), "{line}");
        }
        assert_eq!(summed_up(listen), (0, String::new()));
    }
}

#[test]
fn it_says_where_it_listens_unless_quiet() {
    let mut listen = Running::start(connected().args(["listen", "a", "b"]));
    let expected = format!("listening to a, b on 127.0.0.1:{}", cluster().port());
    assert_eq!(listen.error_line(), expected);
    drop(listen);
    let ended = run(connected().args(["listen", "quiet", "-q", "-W", "1ms"]));
    assert_eq!(ended, (5, String::new(), String::new()));
}

#[test]
fn a_reader_that_closes_the_output_ends_it_without_an_error() {
    // As `| head -1` does: with nothing more to write, and with a lot to write.
    for more in [0, 20_000] {
        let channel = format!("head{more}");
        let mut listen = Running::listening(connected().args(["listen", &channel]));
        notify(&channel, "first\n");
        assert!(listen.line().ends_with(" first"));
        listen.close_stdout();
        let lines: String = (0..more).map(|number| format!("{number}\n")).collect();
        notify(&channel, &lines);
        assert_eq!(summed_up(listen), (0, String::new()), "{more}");
    }
}

#[test]
fn in_a_real_pipeline_too() {
    let script = r#"("$0" listen pipe; echo "code $?" >&2) | head -1"#;
    let program = connected();
    let mut command = std::process::Command::new("sh");
    command.args(["-c", script]).arg(program.get_program());
    command.env("DATABASE_URL", cluster().url_for_superuser());
    let mut pipe = Running::listening(&mut command);
    notify("pipe", "first\n");
    assert!(pipe.line().ends_with(" first"));
    let (code, out, err) = pipe.end();
    assert_eq!((code, out.as_str()), (0, ""));
    assert!(err.starts_with("received 1 in ") && err.ends_with("lagged\ncode 0\n"), "{err}");
}

#[test]
fn a_signal_ends_it_with_a_summary() {
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let mut listen = Running::listening(connected().args(["listen", signal]));
        notify(signal, "1\n2\n3\n");
        for _ in 0..3 {
            listen.line();
        }
        listen.signal(signal);
        let (ended, out, err) = listen.end();
        assert_eq!((ended, out.as_str()), (code, ""));
        assert!(err.starts_with("received 3 in "), "{err}");
        assert!(err.ends_with(" s, 0 gaps, 0 lagged\n"), "{err}");
    }
}

#[test]
fn a_reader_that_stalls_does_not_keep_it_from_ending() {
    let listen = Running::listening(connected().args(["listen", "stall"]));
    // Several times the size of a pipe, which is not read.
    let line = "x".repeat(1_000) + "\n";
    notify("stall", &(0..1_000).map(|number| format!("{number}{line}")).collect::<String>());
    listen.signal("INT");
    let (code, _, err) = listen.end();
    assert_eq!(code, 130, "{err}");
}

/// Sends more than fits in the queue to a `pgbell listen` whose output is not read, until the server has sent all of it:
/// what arrived after the stall was dropped.
fn flooded(channel: &str, more: &[&str]) -> Running {
    let arguments = ["listen", channel, "--format", "json"];
    let listen = Running::listening(connected().args(arguments).args(more));
    let padding = "x".repeat(1_000);
    notify(channel, &(0..FLOOD).map(|number| format!("{number}{padding}\n")).collect::<String>());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut connection =
            pgbell::Connection::connect(cluster().url_for_superuser()).await.unwrap();
        let sql = format!(
            "SELECT wait_event FROM pg_stat_activity WHERE query LIKE 'LISTEN \"{channel}\"%'"
        );
        loop {
            let rows = connection.simple_query(&sql).await.unwrap();
            if rows[0].get(0).expect("the listening session").get(0) == Some("ClientRead") {
                return;
            }
        }
    });
    listen
}

const FLOOD: u64 = 40_000;

#[test]
fn what_a_stalled_reader_missed_is_counted_exactly_and_reported_at_its_position() {
    let mut listen = flooded("flood", &[]);
    // On a thread of its own, so that it is sent after everything else.
    let after = std::thread::spawn(|| notify("flood", "end\n"));
    let (mut delivered, mut lagged) = (0, 0);
    loop {
        let record: Value = serde_json::from_str(&listen.line()).unwrap();
        if record["event"] == "lagged" {
            assert_eq!(record["first_sequence"], delivered + lagged);
            lagged += record["count"].as_u64().unwrap();
        } else if record["payload"] == "end" {
            break;
        } else {
            assert_eq!(record["sequence"], delivered + lagged);
            delivered += 1;
        }
    }
    after.join().unwrap();
    assert!(lagged > 0);
    assert_eq!(delivered + lagged, FLOOD);
    listen.signal("INT");
    let (code, _, err) = listen.end();
    assert_eq!(code, 130);
    assert!(err.contains("pgbell: lagged: "), "{err}");
    assert!(err.contains(" s, 0 gaps, "), "{err}");
}

#[test]
fn a_loss_is_a_failure_when_asked_for() {
    let listen = flooded("strict", &["--fail-on-loss"]);
    let (code, out, err) = listen.end();
    assert_eq!(code, 6, "{err}");
    let last: Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
    assert_eq!(last["event"], "lagged");
}

#[test]
fn time_without_the_wanted_number_is_a_timeout() {
    let ended = run(connected().args(["listen", "silence", "-q", "-W", "10ms", "-n", "1"]));
    assert_eq!(ended, (5, String::new(), String::new()));
}

#[test]
fn many_arrive_all_and_in_order() {
    let arguments = ["listen", "many", "-n", "50000", "--format", "json"];
    let listen = Running::listening(connected().args(arguments));
    let lines: String = (0..50_000).map(|number| format!("{number}\n")).collect();
    let sender = std::thread::spawn(move || notify("many", &lines));
    let (code, out) = summed_up(listen);
    sender.join().unwrap();
    assert_eq!(code, 0);
    let mut records = 0;
    for (number, line) in out.lines().enumerate() {
        let record: Value = serde_json::from_str(line).unwrap();
        assert_eq!(record["payload"], number.to_string());
        records += 1;
    }
    assert_eq!(records, 50_000);
}

/// Ends the session that listens to `channel` with a SIGTERM to its backend.
fn kill(channel: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let process_id = runtime.block_on(async {
        let mut connection =
            pgbell::Connection::connect(cluster().url_for_superuser()).await.unwrap();
        let sql =
            format!("SELECT pid FROM pg_stat_activity WHERE query LIKE 'LISTEN \"{channel}\"%'");
        let rows = connection.simple_query(&sql).await.unwrap();
        let row = rows[0].get(0).expect("the listening session");
        row.get(0).unwrap().parse().unwrap()
    });
    cluster().signal_backend(process_id, Signal::Term).unwrap();
}

#[test]
fn a_lost_session_is_followed_by_another_one_and_a_gap_in_its_place() {
    let mut listen =
        Running::listening(connected().args(["listen", "kept", "--format", "json", "-n", "2"]));
    notify("kept", "before\n");
    let record: Value = serde_json::from_str(&listen.line()).unwrap();
    assert_eq!(record["payload"], "before");
    kill("kept");
    let gap: Value = serde_json::from_str(&listen.line()).unwrap();
    assert_eq!((&gap["event"], &gap["sessions"]), (&"gap".into(), &1.into()));
    assert!(gap["cause"].as_str().unwrap().contains("57P01"), "{gap}");
    notify("kept", "after\n");
    let record: Value = serde_json::from_str(&listen.line()).unwrap();
    assert_eq!((&record["payload"], &record["epoch"]), (&"after".into(), &2.into()));
    let (code, out, err) = listen.end();
    assert_eq!((code, out.as_str()), (0, ""), "{err}");
}

#[test]
fn without_reconnecting_a_lost_session_is_a_failure_with_a_summary() {
    let listen = ["listen", "lost", "--format", "json", "--no-reconnect"];
    let mut listen = Running::listening(connected().args(listen));
    notify("lost", "last words\n");
    listen.line();
    kill("lost");
    let (code, out, err) = listen.end();
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.contains("received 1 in "), "{err}");
    assert!(err.contains("57P01"), "{err}");
    assert_eq!(err.lines().filter(|line| line.starts_with("pgbell: ")).count(), 1, "{err}");
}

#[test]
fn while_the_server_is_away_stderr_says_when_the_session_was_lost_and_restored() {
    let cluster = Cluster::start().unwrap();
    let url = cluster.url_for_superuser();
    let arguments = ["listen", "away", "--format", "json"];
    let mut listen = Running::listening(pgbell().args(arguments).env("DATABASE_URL", &url));
    cluster.stop(Mode::Fast).unwrap();
    let mut lines: Vec<String> = Vec::new();
    while !lines.iter().any(|line| line.starts_with("pgbell: still connecting: ")) {
        lines.push(listen.error_line());
        assert!(lines.len() < 10, "{lines:?}");
    }
    cluster.start_again().unwrap();
    while !lines.iter().any(|line| line.starts_with("pgbell: gap: ")) {
        lines.push(listen.error_line());
        assert!(lines.len() < 20, "{lines:?}");
    }
    let lost = lines.iter().position(|line| line.starts_with("pgbell: session lost: ")).unwrap();
    assert!(lines[lost].contains("57P01"), "{lines:?}");
    assert!(lines[lost].ends_with("; connecting again"), "{lines:?}");
    let restored = "pgbell: session restored after ";
    assert!(lines[lines.len() - 2].starts_with(restored), "{lines:?}");
}

#[test]
fn with_retry_connect_a_server_that_starts_later_is_waited_for() {
    let cluster = Cluster::start().unwrap();
    let url = cluster.url_for_superuser();
    cluster.stop(Mode::Fast).unwrap();
    let listen = |arguments: &[&str]| {
        let mut command = pgbell();
        command.args(["listen", "late"]).args(arguments).env("DATABASE_URL", &url);
        command
    };
    assert_eq!(run(&mut listen(&[])).0, 3);
    assert_eq!(run(&mut listen(&["--retry-connect", "100ms"])).0, 3);
    let mut late = Running::start(&mut listen(&["--retry-connect", "5m", "-n", "1"]));
    // It prints why it waits, and after some time where it connects to.
    let server = format!("127.0.0.1:{}", cluster.port());
    let reason = late.error_line();
    let begin = format!("pgbell: cannot connect: connection: {server}: Connection refused");
    assert!(reason.starts_with(&begin) && reason.ends_with("; trying again"), "{reason}");
    assert_eq!(late.error_line(), format!("connecting to {server}"));
    cluster.start_again().unwrap();
    while !late.error_line().starts_with("listening to late on ") {}
}

/// Before, the records ended without the gap.
#[test]
fn a_signal_or_the_time_limit_while_the_server_is_away_ends_the_records_with_a_gap() {
    let ends = |more: &[&str], signal: Option<&str>| {
        let cluster = Cluster::start().unwrap();
        let url = cluster.url_for_superuser();
        let mut command = pgbell();
        command.args(["listen", "gone", "--format", "json"]).args(more).env("DATABASE_URL", &url);
        let mut listen = Running::listening(&mut command);
        let mut notify = pgbell();
        notify.args(["notify", "gone", "1"]).env("DATABASE_URL", &url);
        assert_eq!(run(&mut notify).0, 0);
        assert!(listen.line().contains("\"payload\":\"1\""));
        cluster.stop(Mode::Fast).unwrap();
        assert!(listen.error_line().starts_with("pgbell: session lost: "));
        if let Some(signal) = signal {
            listen.signal(signal);
        }
        let (code, out, err) = listen.end();
        let record: Value = serde_json::from_str(out.trim_end()).unwrap();
        assert_eq!((&record["event"], &record["sessions"]), (&"gap".into(), &1.into()));
        assert!(err.contains("pgbell: gap: "), "{err}");
        code
    };
    assert_eq!(ends(&[], Some("INT")), 130);
    assert_eq!(ends(&["--fail-on-loss"], Some("TERM")), 6);
    assert_eq!(ends(&["-W", "10s"], None), 0);
}
