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
        assert_eq!((code, err.as_str()), (0, ""));
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
        assert_eq!(err, "pgbell: line 3: payload is longer than 7,999 bytes\n");
    });
    assert_eq!(payloads, ["good", "good"]);
}
