//! Runs the examples that need no server, and compares what they print.

mod cargo;

use std::env;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use pgbell::testing::{BackendConfig, Server};
use tokio::task::block_in_place;

use crate::cargo::cargo_example;

/// Long enough to build an example on a busy machine.
const LONG: Duration = Duration::from_secs(300);

/// Runs cargo with an example, and returns the lines that are printed.
fn lines_of(command: &str, example: &str, url: &str) -> Vec<String> {
    cargo_example(command, example, url).lines().map(str::to_owned).collect()
}

/// Returns the lines that an example prints.
fn output(example: &str) -> Vec<String> {
    lines_of("run", example, "")
}

/// Builds an example, and returns the path of its program.
fn built(example: &str) -> PathBuf {
    lines_of("build", example, "");
    // This test is in `deps`, and the examples are in `examples` beside it.
    let test = env::current_exe().unwrap();
    let profile = test.ancestors().nth(2).unwrap();
    profile.join("examples").join(example).with_extension(env::consts::EXE_EXTENSION)
}

/// A program that does not end by itself.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_of_a_listener_prints_what_arrives_on_the_channels_that_its_command_names() {
    let server = Server::start(BackendConfig::new()).await.unwrap();
    let program = block_in_place(|| built("listen"));
    let mut command = Command::new(program);
    command.args(["orders", "stock"]).env("DATABASE_URL", server.url()).stdout(Stdio::piped());
    let mut program = Running(command.spawn().unwrap());
    for channel in ["orders", "stock"] {
        server.wait_for_listener(channel, LONG).await.unwrap();
    }
    server.notify("news", "not for it").unwrap();
    server.notify("orders", "7").unwrap();
    server.notify("stock", "a\tb").unwrap();
    let output = BufReader::new(program.0.stdout.take().unwrap());
    let mut lines = output.lines();
    for (channel, payload) in [("orders", "7"), ("stock", "a\\tb")] {
        let line = block_in_place(|| lines.next().unwrap().unwrap());
        let words: Vec<_> = line.split(' ').collect();
        assert_eq!((words[0], words[2]), (channel, payload), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_of_a_round_trip_receives_everything_that_it_sends() {
    let server = Server::start(BackendConfig::new()).await.unwrap();
    let lines = block_in_place(|| lines_of("run", "round_trip", &server.url()));
    assert_eq!(lines, ["sent 1000, received 1000, 2890 bytes of payload"]);
}

#[test]
fn the_example_without_io_receives_its_notification_and_the_end_of_each_command() {
    let lines = output("sans_io");
    let has = |words: &str| lines.iter().filter(|line| line.contains(words)).count();
    assert_eq!(has("notification: \"hello\""), 1, "{lines:?}");
    assert_eq!(has(" done: Ok"), 2, "{lines:?}");
}

#[cfg(feature = "blocking")]
#[test]
fn the_example_of_threads_reads_the_state_before_it_handles_what_follows() {
    let expected = [
        "hook: 2 articles at the start",
        "stock: 2 of ink",
        "hook: 3 articles after a gap",
        "stock: a loss",
        "stock: 8 of pen",
        "news: nothing in 3 of 3 waits",
        "stock: closed",
        "end: 2 notifications, 1 gap",
    ];
    assert_eq!(output("blocking"), expected);
}

/// The channels run at once, so only the lines of one channel have an order.
#[test]
fn the_example_of_handlers_prints_what_each_channel_does() {
    let lines = output("handlers");
    let of = |channel: &str| -> Vec<&str> {
        let parts = lines.iter().filter_map(|line| line.split_once(": "));
        parts.filter(|(name, _)| *name == channel).map(|(_, rest)| rest).collect()
    };
    let orders = [
        "1 is stored",
        "1 is in the log",
        "two is in the log",
        "3 is stored",
        "3 is in the log",
        "4 is stored",
        "4 is in the log",
    ];
    assert_eq!(of("orders"), orders);
    assert_eq!(of("mail"), [1, 2, 3].map(|attempt| format!("attempt {attempt} for welcome")));
    assert_eq!(of("thumbnails"), ["cat.png is done", "dog.png is done"]);
    assert_eq!(of("messages"), ["for ann: hello"]);
    let batches = of("stock").into_iter().map(|line| line.strip_suffix(" in one batch").unwrap());
    let batches: Vec<Vec<&str>> = batches.map(|items| items.split(' ').collect()).collect();
    assert!(batches.iter().all(|items| items.len() <= 4), "{batches:?}");
    assert_eq!(batches.concat(), ["ink", "pen", "pad", "cup", "mug", "bag"]);
    let mut failures = of("failure");
    failures.sort_unstable();
    let expected = [
        "orders: 1 notification was not handled in 3 attempts: invalid digit found in string",
        "thumbnails: 1 notification was not handled in 1 attempt: the handler panicked: letter.txt is no image",
    ];
    assert_eq!(failures, expected);
    assert_eq!(of("loss").len(), 1);
    assert!(of("loss")[0].starts_with("notifications may be missing here"));
    let at = |words: &str| lines.iter().position(|line| line.contains(words)).unwrap();
    assert!(
        at("loss: ") > at("orders: 3 is in the log") && at("loss: ") < at("orders: 4 is stored")
    );
    let end = "15 handled, 0 unhandled, 4 retries, 2 failures, 1 panics, 1 without a handler";
    assert_eq!(of("end"), [end]);
}

#[test]
fn the_example_of_json_prints_values_a_wrong_payload_and_a_loss_in_their_order() {
    let lines = output("json");
    let expected = [
        "user 41: login",
        "user 42: login",
        "invalid: the payload on channel user_updates, 37 bytes, cannot be decoded: found a string, expected i64, line 1 column 16",
        "invalid: the payload on channel user_updates, 5 bytes, cannot be decoded: expected value, line 1 column 1",
        "loss: 1 notification was dropped: the queue was full",
        "of 42: login",
        "of 42: logout",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn the_example_of_wake_ups_does_all_work_also_without_notifications() {
    let lines = output("workflow_wakeups");
    let of = |name: &str| -> Vec<&str> {
        let parts = lines.iter().filter_map(|line| line.split_once(": "));
        let parts = parts.filter(|(task, _)| *task == name).map(|(_, rest)| rest);
        parts.filter(|rest| !rest.starts_with("read again: ")).collect()
    };
    let (batches, resumed): (Vec<_>, Vec<_>) =
        of("workflows").into_iter().partition(|line| line.starts_with("batch of "));
    let expected: Vec<_> = (1..=7).map(|number| format!("wf_{number} resumes")).collect();
    assert_eq!(resumed, expected);
    assert_eq!(batches, ["batch of 3", "batch of 3", "batch of 1"]);
    for (name, expected) in [
        ("timers", vec!["timer:sleep_1 has expired", "timer:sleep_2 has expired"]),
        ("messages", vec!["message 42 is delivered"]),
        ("outbox", vec!["evt_123 is relayed", "evt_124 is relayed"]),
    ] {
        let handled: Vec<_> =
            of(name).into_iter().filter(|line| !line.starts_with("batch of ")).collect();
        assert_eq!(handled, expected, "{name}");
    }
    let status = of("status");
    assert_eq!((status[0], status[2]), ("listening", "listening"));
    assert!(status[1].starts_with("polling only: "), "{status:?}");
    for end in [
        "messages: 1 notifications, 1 losses",
        "outbox: 1 notifications, 1 losses",
        "timers: 0 notifications, 1 losses",
        "workflows: 1 notifications, 1 losses",
    ] {
        assert!(of("end").contains(&end), "{end} in {lines:?}");
    }
}

#[test]
fn the_example_of_a_notifier_sends_calls_in_groups_and_each_nudge_once() {
    let lines = output("notify");
    assert_eq!(lines[0], "2 in one transaction");
    assert!(lines[1].starts_with("refused: ") && lines[1].contains("7999 bytes"), "{lines:?}");
    let number = |line: &str, from: &str| -> u64 {
        let (_, rest) = line.split_once(from).unwrap();
        rest.split(' ').next().unwrap().parse().unwrap()
    };
    assert!(lines[2].starts_with("102 calls in "), "{lines:?}");
    assert!((3..=102).contains(&number(&lines[2], "calls in ")), "{lines:?}");
    assert!(lines[3].starts_with("1000 nudges in "), "{lines:?}");
    assert!((1..10).contains(&number(&lines[3], "nudges in ")), "{lines:?}");
    assert_eq!(lines[4], "all of them were received: true");
}

#[test]
fn the_example_of_a_timeout_ends_each_batch_at_its_deadline() {
    let lines = output("select_timeout");
    assert_eq!(lines.len(), 3, "{lines:?}");
    for line in lines {
        let numbers: Vec<u64> = line.split(' ').filter_map(|word| word.parse().ok()).collect();
        let [clicks, milliseconds] = numbers[..] else { panic!("{line}") };
        // More than one: a timeout that traffic restarts would not have ended.
        assert!(clicks > 1 && milliseconds >= 100, "{line}");
    }
}

#[test]
fn the_example_of_a_cache_has_what_was_inserted_during_the_outage() {
    let expected = [
        "at the start: 1=new",
        "after 1=paid: 1=paid",
        "the orders are read again",
        "after the gap: 1=paid 2=new",
        "after 2=paid: 1=paid 2=paid",
    ];
    assert_eq!(output("catch_up"), expected);
}

#[cfg(unix)]
#[test]
fn the_example_of_a_shutdown_does_everything_that_was_sent_before_the_signal() {
    assert_eq!(output("graceful_shutdown"), ["SIGTERM", "100 jobs done, 0 gaps, 0 dropped"]);
}

#[test]
fn the_example_of_tests_passes_them() {
    let expected = [
        "ok: a notification changes the price",
        "ok: the price is read again after an outage",
        "ok: a refused login is returned",
        "ok: a payload that is no number is an error",
    ];
    assert_eq!(output("test_your_code"), expected);
}

#[test]
fn the_example_of_passwords_that_expire_asks_for_one_at_each_attempt() {
    let lines = output("iam_password");
    let expected = [
        "request 1 for app at 127.0.0.1",
        "connected",
        "request 2 for app at 127.0.0.1",
        "request 3 for app at 127.0.0.1",
        "connected again after 2 attempts",
    ];
    assert_eq!(lines[..5], expected);
    assert!(lines[5].ends_with("the identity service is not available"), "{lines:?}");
}

#[test]
fn the_example_of_two_tasks_receives_only_what_is_sent_between_listen_and_unlisten() {
    let mut lines = output("split_tasks");
    assert_eq!(lines.pop().as_deref(), Some("2 received, 2 delivered"));
    lines.sort_unstable();
    assert_eq!(lines, ["hall: hello", "kitchen: hello"]);
}

#[test]
fn the_example_of_a_state_and_its_changes_ignores_the_change_that_is_in_the_state() {
    let expected = ["state: ink has 10 pieces in version 2", "version 2: known", "version 3: new"];
    assert_eq!(output("state_and_stream"), expected);
}

#[test]
fn the_example_of_metrics_serves_a_page_and_a_readiness_probe() {
    let lines = output("metrics");
    assert!(lines[0].starts_with("notifications may be missing here: "), "{lines:?}");
    let pages = lines.iter().filter(|line| *line == "HTTP/1.1 200 OK").count();
    assert_eq!(pages, 2, "{lines:?}");
    assert!(lines.iter().any(|line| line == "connected"), "{lines:?}");
    for (metric, value) in [
        ("pgbell_notifications_received_total", 4),
        ("pgbell_sessions_total", 2),
        ("pgbell_sessions_lost_total", 1),
        ("pgbell_gaps_total", 1),
        ("pgbell_connected", 1),
    ] {
        let line = format!("{metric}{{application=\"shop\"}} {value}");
        assert!(lines.contains(&line), "{line} in {lines:?}");
    }
}
