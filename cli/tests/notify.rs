//! `pgbell notify` as a process, against a real server.

mod common;

use common::{Running, connected, run, run_with_input};

/// Payloads that a listener gets while `send` runs.
fn received(channel: &str, count: usize, send: impl FnOnce()) -> Vec<String> {
    let count = count.to_string();
    let arguments = ["listen", channel, "--format", "json", "-n", &count];
    let listen = Running::listening(connected().args(arguments));
    let out = std::thread::scope(|scope| {
        let ended = scope.spawn(|| listen.end());
        send();
        let (code, out, err) = ended.join().unwrap();
        assert_eq!(code, 0);
        assert!(err.starts_with("received ") && err.lines().count() == 1, "{err}");
        out
    });
    out.lines()
        .map(|line| {
            let record: serde_json::Value = serde_json::from_str(line).unwrap();
            record["payload"].as_str().unwrap().to_owned()
        })
        .collect()
}

#[test]
fn a_payload_is_sent_as_it_is_and_none_is_the_empty_one() {
    let payloads = received("one", 3, || {
        for arguments in [&["one", "it's \"é\" \\ $1"][..], &["one"], &["one", "--", "-v"]] {
            let ended = run(connected().arg("notify").args(arguments));
            assert_eq!(ended, (0, String::new(), String::new()));
        }
    });
    assert_eq!(payloads, ["it's \"é\" \\ $1", "", "-v"]);
}

#[test]
fn every_line_of_stdin_is_sent_in_order() {
    let lines: Vec<_> = (0..10_000).map(|number| number.to_string()).collect();
    let payloads = received("lines", lines.len(), || {
        let input = lines.join("\n");
        let ended =
            run_with_input(connected().args(["notify", "lines", "-", "-v"]), input.as_bytes());
        assert_eq!((ended.0, ended.1.as_str()), (0, ""));
        assert!(ended.2.starts_with("sent 10,000 in "), "{}", ended.2);
        assert!(ended.2.ends_with("/s)\n"), "{}", ended.2);
    });
    assert_eq!(payloads, lines);
}

#[test]
fn equal_lines_are_all_delivered() {
    let payloads = received("equal", 500, || {
        let ended =
            run_with_input(connected().args(["notify", "equal", "-"]), &b"same\n".repeat(500));
        assert_eq!(ended, (0, String::new(), String::new()));
    });
    assert!(payloads.iter().all(|payload| payload == "same"));
}

#[test]
fn a_line_is_sent_when_it_is_there_not_when_the_input_ends() {
    use std::io::Write;
    let mut listen = Running::listening(connected().args(["listen", "slow", "-n", "2"]));
    let mut notify = connected();
    notify.args(["notify", "slow", "-"]).stdin(std::process::Stdio::piped());
    let mut notify = notify.spawn().unwrap();
    let mut stdin = notify.stdin.take().unwrap();
    for payload in ["one", "two"] {
        writeln!(stdin, "{payload}").unwrap();
        let line = listen.line();
        assert!(line.ends_with(payload), "{line}");
    }
    drop(stdin);
    assert!(notify.wait().unwrap().success());
    assert_eq!(listen.end().0, 0);
}

#[test]
fn what_the_server_would_refuse_is_refused_before_anything_is_sent() {
    // There is no server at this address, and pgbell does not connect to it.
    let url = "postgres://nobody@127.0.0.1:1/none";
    let long = "x".repeat(8_000);
    let table = "hint: store the payload in a table, and send its key";
    for (channel, payload, expected, hint) in [
        ("", "x", "channel name is empty", None),
        (&"c".repeat(64), "x", "channel name is 64 bytes long", None),
        ("c", &long, "payload is 8000 bytes long, 7999 bytes are the limit", Some(table)),
    ] {
        let arguments = ["notify", "--url", url, channel, payload];
        let (code, out, err) = run(common::pgbell().args(arguments));
        assert_eq!((code, out.as_str()), (2, ""));
        assert!(err.starts_with("pgbell: ") && err.contains(expected), "{err}");
        // One line, and one for the hint.
        assert_eq!(err.lines().skip(1).collect::<Vec<_>>(), Vec::from_iter(hint), "{err}");
    }
}

#[test]
fn a_line_that_cannot_be_sent_is_named_by_its_number() {
    let input = [b"good\n".repeat(2), b"x".repeat(8_000), b"\nnever\n".to_vec()].concat();
    let payloads = received("number", 2, || {
        let (code, out, err) = run_with_input(connected().args(["notify", "number", "-"]), &input);
        assert_eq!((code, out.as_str()), (2, ""));
        assert!(err.starts_with("sent 2 in "), "{err}");
        assert!(err.ends_with("\npgbell: line 3: payload is longer than 7,999 bytes\n"), "{err}");
    });
    assert_eq!(payloads, ["good", "good"]);
}

#[test]
fn a_file_and_the_whole_input_can_be_payloads() {
    let scratch = common::ScratchDir::new("notify");
    let path = scratch.path().join("report.txt");
    std::fs::write(&path, "two\nlines\n").unwrap();
    let path = path.to_str().unwrap();
    let payloads = received("whole", 6, || {
        for arguments in [
            &["whole", "--whole", "--file", path][..],
            &["whole", "--whole", "--file", path, "--repeat", "2"],
            &["whole", "--file", path],
        ] {
            let ended = run(connected().arg("notify").args(arguments));
            assert_eq!(ended, (0, String::new(), String::new()));
        }
        let ended = run_with_input(connected().args(["notify", "whole", "--whole"]), b"stdin\n");
        assert_eq!(ended, (0, String::new(), String::new()));
    });
    assert_eq!(
        payloads,
        ["two\nlines\n", "two\nlines\n", "two\nlines\n", "two", "lines", "stdin\n"]
    );
    let (code, _, err) = run(connected().args(["notify", "whole", "--file", "/nowhere"]));
    assert_eq!(code, 2);
    assert!(err.starts_with("pgbell: cannot open /nowhere: "), "{err}");
}

#[test]
fn a_payload_can_be_repeated_at_an_even_pace() {
    let payloads = received("pace", 25, || {
        let begun = std::time::Instant::now();
        let arguments = ["notify", "pace", "tick", "--repeat", "25", "--rate", "50", "-v"];
        let (code, out, err) = run(connected().args(arguments));
        assert_eq!((code, out.as_str()), (0, ""));
        assert!(err.starts_with("sent 25 in "), "{err}");
        // The first is sent at once.
        assert!(begun.elapsed() >= std::time::Duration::from_millis(24 * 20), "{err}");
    });
    assert!(payloads.iter().all(|payload| payload == "tick"));
    for arguments in [&["-", "--repeat", "2"][..], &["x", "--rate", "0"], &["x", "--topic", "a:b"]]
    {
        let (code, _, err) = run(connected().args(["notify", "pace"]).args(arguments));
        assert_eq!(code, 2, "{err}");
    }
}

#[test]
fn records_of_losses_are_left_out_and_counted() {
    let records = concat!(
        "{\"event\":\"gap\",\"cause\":\"x\"}\n",
        "{\"channel\":\"elsewhere\",\"payload\":\"one\",\"process_id\":1,\"sequence\":0,\"epoch\":1}\n",
        "{\"event\":\"lagged\",\"count\":3,\"first_sequence\":1}\n",
    );
    let payloads = received("records", 1, || {
        let arguments = ["notify", "records", "--json-records"];
        let ended = run_with_input(connected().args(arguments), records.as_bytes());
        let err = "pgbell: 2 records of losses were left out\n".to_owned();
        assert_eq!(ended, (0, String::new(), err));
    });
    assert_eq!(payloads, ["one"]);
}

/// Every line arrives once, or is counted as in doubt.
#[test]
fn a_restart_of_the_server_is_survived_and_what_is_in_doubt_is_counted() {
    use std::io::Write;
    let server = pgbell_testkit::Cluster::builder().start().unwrap();
    let url = server.url_for_superuser();
    let mut listen = common::pgbell();
    let mut first =
        Running::listening(listen.args(["listen", "restart"]).env("DATABASE_URL", &url));
    let mut command = common::pgbell();
    command.args(["notify", "restart", "-", "-v", "--rate", "200"]).env("DATABASE_URL", &url);
    command.stdin(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let lines: String = (0..400).map(|number| format!("{number}\n")).collect();
    stdin.write_all(lines.as_bytes()).unwrap();
    // Some are sent, and most are not.
    assert!(first.line().ends_with(|c: char| c.is_ascii_digit()));
    server.stop(pgbell_testkit::Mode::Immediate).unwrap();
    server.restart().unwrap();
    drop(stdin);
    let (code, _, err) = Running::of(child).end();
    let summary = err.lines().last().unwrap();
    let number = |before: &str, after: &str| -> u64 {
        let text = summary.split_once(before).map_or("0", |(_, rest)| rest);
        text.split_once(after).map_or(0, |(number, _)| number.trim().parse().unwrap())
    };
    let sent = number("sent ", " in ");
    let in_doubt = number("/s), ", " in doubt");
    assert_eq!(sent + in_doubt, 400, "{err}");
    assert_eq!(code, if in_doubt > 0 { 8 } else { 0 }, "{err}");
}

#[test]
fn the_first_attempt_is_repeated_for_the_time_of_retry() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("postgres://postgres@127.0.0.1:{port}/postgres");
    let begun = std::time::Instant::now();
    let arguments = ["notify", "a", "x", "--retry", "2s", "--url", &url];
    let (code, _, err) = run(common::pgbell().args(arguments));
    assert_eq!(code, 3);
    assert!(begun.elapsed() >= std::time::Duration::from_secs(1), "{err}");
    assert!(
        err.starts_with("pgbell: cannot connect: ") && err.contains("; trying again\n"),
        "{err}"
    );
}

/// The end waited for an answer that could not come.
#[test]
fn a_signal_during_an_outage_ends_it_at_once() {
    let server = pgbell_testkit::Cluster::builder().start().unwrap();
    let url = server.url_for_superuser();
    let mut command = common::pgbell();
    let arguments = ["notify", "outage", "x", "--repeat", "1000000", "--rate", "50"];
    command.args(arguments).env("DATABASE_URL", &url);
    let mut listen = common::pgbell();
    let mut first = Running::listening(listen.args(["listen", "outage"]).env("DATABASE_URL", &url));
    let notify = Running::start(&mut command);
    first.line();
    server.stop(pgbell_testkit::Mode::Immediate).unwrap();
    assert!(first.error_line().starts_with("pgbell: session lost: "));
    let begun = std::time::Instant::now();
    notify.signal("INT");
    let (code, _, err) = notify.end();
    assert_eq!(code, 130, "{err}");
    assert!(begun.elapsed() < std::time::Duration::from_secs(15), "{err}");
    assert!(err.contains("sent "), "{err}");
}
