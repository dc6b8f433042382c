//! The forms in which `pgbell listen` writes notifications, which of them it writes, and its commands.

mod common;

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use common::{Running, ScratchDir, connected, notify, run};

/// Runs `listen CHANNEL -n COUNT` with more arguments while `lines` are sent. Returns stdout.
fn listened(channel: &str, count: usize, more: &[&str], lines: &str) -> String {
    let count = count.to_string();
    let mut command = connected();
    command.args(["listen", channel, "-n", &count]).args(more);
    let listen = Running::listening(&mut command);
    notify(channel, lines);
    let (code, out, err) = listen.end();
    assert_eq!(code, 0, "{err}");
    assert!(err.starts_with("received "), "{err}");
    out
}

#[test]
fn a_template_has_places_for_parts_and_for_values_in_json() {
    let out = listened(
        "template",
        2,
        &["--template", "{channel}|{/order/id}|{sequence}\\t{payload}"],
        "{\"order\":{\"id\":7}}\nplain \x1b[2J\n",
    );
    assert_eq!(out, "template|7|0\t{\"order\":{\"id\":7}}\ntemplate||1\tplain \\u{1b}[2J\n");
}

#[test]
fn payloads_alone_are_escaped_in_text_and_as_they_are_in_raw_and_nul() {
    let lines = "a\\b \x1b[2J\nc\n";
    for (more, expected) in [
        (&["--payload-only"][..], "a\\\\b \\u{1b}[2J\nc\n"),
        (&["--format", "raw"], "a\\b \x1b[2J\nc\n"),
        (&["--format", "nul"], "a\\b \x1b[2J\0c\0"),
    ] {
        assert_eq!(listened("alone", 2, more, lines), expected, "{more:?}");
    }
}

/// What `listen --format nul` writes can be sent again, also with line ends.
#[test]
fn nul_and_records_can_be_sent_again() {
    let payload = "two\nlines";
    let listen =
        Running::listening(connected().args(["listen", "again", "-n", "1", "--format", "nul"]));
    assert!(connected().args(["notify", "again", payload]).status().unwrap().success());
    let (_, out, _) = listen.end();
    let listen =
        Running::listening(connected().args(["listen", "again", "-n", "1", "--format", "json"]));
    let sent =
        common::run_with_input(connected().args(["notify", "again", "--null"]), out.as_bytes());
    assert_eq!(sent, (0, String::new(), String::new()));
    let (_, records, _) = listen.end();
    let listen =
        Running::listening(connected().args(["listen", "again", "-n", "1", "--format", "nul"]));
    let sent =
        common::run_with_input(connected().args(["notify", "--json-records"]), records.as_bytes());
    assert_eq!(sent, (0, String::new(), String::new()));
    assert_eq!(listen.end().1, format!("{payload}\0"));
}

#[test]
fn times_have_a_style() {
    for (style, expected) in [("none", "styled #"), ("relative", "+0."), ("utc", "20")] {
        let out = listened("styled", 1, &["--time", style], "x\n");
        assert!(out.starts_with(expected), "{out}");
    }
    let mut command = connected();
    command.args(["listen", "styled", "-n", "1", "--time", "local"]).env("TZ", "<+05>-5");
    let listen = Running::listening(&mut command);
    notify("styled", "x\n");
    let out = listen.end().1;
    assert_eq!(out.split(' ').next().unwrap().get(23..), Some("+05:00"), "{out}");
}

#[test]
fn colours_and_indents_are_for_people() {
    let out = listened("painted", 1, &["--color", "always", "--time", "none"], "x\x1b[2J\n");
    assert!(out.starts_with("\x1b[1;36mpainted\x1b[0m \x1b[2m#"), "{out:?}");
    assert!(out.ends_with("\x1b[0m x\\u{1b}[2J\n"), "{out:?}");
    let out = listened("painted", 1, &["--pretty", "--time", "none"], "{\"a\":[1,2]}\n");
    assert!(out.ends_with(" {\n  \"a\": [\n    1,\n    2\n  ]\n}\n"), "{out}");
    let out = listened("painted", 1, &["--pretty", "--format", "json"], "x\n");
    assert!(out.starts_with("{\n  \"channel\": \"painted\",\n  \"payload\": \"x\","), "{out}");
}

#[test]
fn filters_and_topics_choose() {
    let lines =
        "{\"type\":\"paid\",\"id\":1}\n{\"type\":\"new\",\"id\":2}\n{\"type\":\"paid\",\"id\":3}\n";
    let more = ["--filter", "/type=paid", "--filter", "!/id=1", "--template", "{/id}"];
    assert_eq!(listened("chosen", 1, &more, lines), "3\n");

    let arguments = [
        "listen",
        "topics",
        "-n",
        "2",
        "--topic",
        "eu",
        "--topic",
        "us",
        "--template",
        "{topic}|{payload}",
    ];
    let listen = Running::listening(connected().args(arguments));
    for (topic, payload) in [("eu", "1"), ("asia", "2"), ("us", "3:4")] {
        let sent =
            connected().args(["notify", "topics", payload, "--topic", topic]).status().unwrap();
        assert!(sent.success());
    }
    let (code, out, err) = listen.end();
    assert_eq!((code, out.as_str()), (0, "eu|1\nus|3:4\n"));
    assert!(err.starts_with("received 3, of which 2 matched in "), "{err}");
}

#[test]
fn the_numbers_are_printed_at_an_interval() {
    let mut listen =
        Running::listening(connected().args(["listen", "numbers", "--stats", "200ms"]));
    let line = listen.error_line();
    assert!(
        line.starts_with("stats: received 0, 0 /s, 0 gaps, 0 lagged, 0 in the queue, "),
        "{line}"
    );
    notify("numbers", "1\n2\n");
    let until = Instant::now() + Duration::from_secs(30);
    while !listen.error_line().starts_with("stats: received 2, ") {
        assert!(Instant::now() < until);
    }
    listen.signal("INT");
    assert_eq!(listen.end().0, 130);
}

#[test]
fn a_command_gets_the_payload_on_stdin_and_the_rest_in_its_environment() {
    let script = r#"printf '%s|%s|%s|%s|' "$PGBELL_CHANNEL" "$PGBELL_SEQUENCE" "$PGBELL_TOPIC" "${PGBELL_RECEIVED_AT%%-*}"; cat; echo"#;
    let out = listened("exec", 2, &["--exec", script], "$(touch never) 'a'\nb\n");
    let year = out.split('|').nth(3).unwrap().to_owned();
    assert_eq!(out, format!("exec|0||{year}|$(touch never) 'a'\nexec|1||{year}|b\n"));
    assert_eq!(year.len(), 4);
}

#[test]
fn commands_run_one_at_a_time_in_order_unless_there_are_more_jobs() {
    let lines: String = (0..20).map(|number| format!("{number}\n")).collect();
    let out = listened("serial", 20, &["--exec", "cat; echo; sleep 0.01"], &lines);
    assert_eq!(out, lines);
    // Each waits for the other one.
    let meet = ScratchDir::new("jobs");
    let script = format!(
        "cd {}; read -r me; : > \"$me\"; for i in $(seq 500); do [ -e a ] && [ -e b ] && exit 0; sleep 0.02; done; exit 1",
        meet.path().display()
    );
    let mut command = connected();
    command.args(["listen", "parallel", "-n", "2", "--jobs", "2", "--exec", &script]);
    let listen = Running::listening(&mut command);
    notify("parallel", "a\nb\n");
    let (code, _, err) = listen.end();
    assert_eq!(code, 0);
    assert!(err.contains("; commands: 2 run, 0 failed"), "{err}");
}

#[test]
fn a_command_that_fails_is_reported_and_counted_and_can_end_the_program() {
    let script = "read -r code; exit $code";
    let mut command = connected();
    command.args(["listen", "failing", "-n", "2", "--exec", script]);
    let listen = Running::listening(&mut command);
    notify("failing", "3\n0\n");
    let (code, _, err) = listen.end();
    assert_eq!(code, 0);
    assert!(
        err.starts_with("pgbell: the command for failing #0 failed: exit status: 3\n"),
        "{err}"
    );
    assert!(err.contains("; commands: 2 run, 1 failed"), "{err}");

    let mut command = connected();
    command.args(["listen", "failing", "--exec", script, "--exec-fail-fast"]);
    let listen = Running::listening(&mut command);
    notify("failing", "7\n");
    let (code, _, err) = listen.end();
    assert_eq!(code, 1);
    assert!(err.ends_with("pgbell: the command for failing #0 failed: exit status: 7\n"), "{err}");
}

/// A command that never ends would keep the program for ever, and one that reads nothing would block it with a long payload.
#[test]
fn a_signal_gives_commands_some_seconds_and_then_kills_them_with_what_they_started() {
    let mark = ScratchDir::new("exec");
    let script = format!(
        "sleep 1000 & echo $! > {0}/pid; mv {0}/pid {0}/started; wait",
        mark.path().display()
    );
    let mut command = connected();
    command.args(["listen", "endless", "--exec", &script]);
    let listen = Running::listening(&mut command);
    notify("endless", &format!("{}\n", "x".repeat(7_999)));
    let until = Instant::now() + Duration::from_secs(30);
    while !mark.path().join("started").exists() {
        assert!(Instant::now() < until);
        std::thread::sleep(Duration::from_millis(20));
    }
    let pid = fs::read_to_string(mark.path().join("started")).unwrap();
    listen.signal("TERM");
    let (code, _, err) = listen.end();
    assert_eq!(code, 143);
    assert!(err.contains("1 command did not end within 5 s, killed"), "{err}");
    let process = format!("/proc/{}/stat", pid.trim());
    let is_running = || fs::read_to_string(&process).is_ok_and(|stat| !stat.contains(") Z"));
    while is_running() {
        assert!(Instant::now() < until + Duration::from_secs(30));
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The deadline waited for it without a limit.
#[test]
fn a_command_that_does_not_end_is_killed_after_the_time_of_wait() {
    let mut command = connected();
    command.args(["listen", "overdue", "-W", "2s", "--exec", "sleep 1000"]);
    let listen = Running::listening(&mut command);
    notify("overdue", "x\n");
    let (code, _, err) = listen.end();
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("1 command did not end within 5 s, killed"), "{err}");
}

/// What the reader of a pipe does not take fills the queue. Nothing may be missing without a record.
#[test]
fn a_reader_that_pauses_loses_nothing_silently() {
    for (channel, overflow) in [("oldest", "drop-oldest"), ("newest", "drop-newest")] {
        let mut command = connected();
        let arguments =
            ["listen", channel, "--queue", "100", "--overflow", overflow, "--format", "json"];
        command.args(arguments).stderr(Stdio::piped());
        let mut listen = Running::listening(&mut command);
        // More than a pipe, the buffer and the queue take.
        let lines: String = (0..20_000).map(|number| format!("{number:0100}\n")).collect();
        notify(channel, &lines);
        notify(channel, "end\n");
        let (mut received, mut lagged) = (0_u64, 0);
        while received + lagged < 20_001 {
            let record: serde_json::Value = serde_json::from_str(&listen.line()).unwrap();
            match record["event"] == "lagged" {
                true => lagged += record["count"].as_u64().unwrap(),
                false => received += 1,
            }
        }
        assert!(lagged > 0, "{overflow}");
        assert_eq!(received + lagged, 20_001, "{overflow}");
        listen.signal("INT");
        listen.end();
    }
}

#[test]
fn a_full_disk_is_an_error_with_its_reason() {
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let mut command = connected();
    command.args(["listen", "full", "-n", "1"]).stdout(full).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let until = Instant::now() + Duration::from_secs(30);
    let mut status = None;
    while status.is_none() {
        assert!(Instant::now() < until);
        notify("full", "x\n");
        status = child.try_wait().unwrap();
    }
    assert_eq!(status.unwrap().code(), Some(1));
    let (_, _, err) = Running::of(child).end();
    assert!(err.contains("pgbell: cannot write to stdout: "), "{err}");
}

#[test]
fn wrong_values_say_what_is_expected() {
    for (arguments, expected) in [
        (&["--backoff", "2s..1s"][..], "expected two times such as 100ms..10s"),
        (&["--queue", "0"], "expected a number of notifications such as 10000"),
        (&["--overflow", "drop"], "expected block, block:5s, drop-newest or drop-oldest"),
        (&["--filter", ""], "expected a prefix of the payload"),
        (&["--jobs", "2"], "--exec"),
        (&["--exec", "true", "--format", "json"], "cannot be used with"),
        (&["--template", "{"], "expected } after {"),
    ] {
        let (code, out, err) = run(connected().args(["listen", "a"]).args(arguments));
        assert_eq!((code, out.as_str()), (2, ""), "{arguments:?}");
        assert!(err.contains(expected), "{err}");
    }
}
