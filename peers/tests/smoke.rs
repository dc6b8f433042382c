//! The whole program with very few notifications: every contestant receives all of them, from both sources.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// The contestants that read a socket.
const CLIENTS: [&str; 10] = [
    "libpq",
    "pgbell-inline",
    "pgbell-listener-1t",
    "pgbell-listener-2t",
    "pgbell-recv",
    "raw",
    "raw-touch",
    "sqlx",
    "tokio-postgres",
    "tokio-postgres-chan",
];

/// The contestants that support TLS.
const TLS_CLIENTS: [&str; 9] = [
    "libpq",
    "pgbell-inline",
    "pgbell-listener-1t",
    "pgbell-listener-2t",
    "pgbell-recv",
    "raw-rustls",
    "raw-touch",
    "sqlx",
    "tokio-postgres",
];

fn peers(arguments: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_peers")).args(arguments).output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.success(), if printed.is_empty() { complaint } else { printed })
}

fn array<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value[name].as_array().unwrap()
}

#[test]
fn every_contestant_receives_what_was_sent() {
    let (right, printed) = peers(&["--quick", "--json"]);
    let results: Value = serde_json::from_str(&printed).unwrap_or_else(|_| panic!("{printed}"));
    let mut origins = BTreeSet::new();
    for ran in array(&results, "heats") {
        let origin = ran["heat"]["origin"].as_str().unwrap();
        origins.insert(origin);
        let mut ran_here = BTreeSet::new();
        for sample in array(ran, "samples") {
            let contestant = sample["contestant"].as_str().unwrap();
            ran_here.insert(contestant);
            assert!(sample["void"].is_null(), "{sample}");
            let (report, sent) = (&sample["report"], &sample["sent"]);
            assert_eq!(report["notifications"], sent["count"], "{sample}");
            if !contestant.starts_with("raw") {
                assert_eq!(report["bytes"], sent["bytes"], "{sample}");
                assert_eq!(report["checksum"], sent["checksum"], "{sample}");
            }
        }
        match origin {
            "memory" => {}
            "tls" => assert_eq!(ran_here, BTreeSet::from(TLS_CLIENTS)),
            _ => assert_eq!(ran_here, BTreeSet::from(CLIENTS), "{origin}"),
        }
    }
    assert_eq!(origins, BTreeSet::from(["memory", "postgres", "replay", "tls"]));
    assert_eq!(array(&results, "latency").len(), 5);
    for rally in array(&results, "latency") {
        assert_eq!(array(rally, "voids"), [Value::Null; 0], "{rally}");
    }
    let slept = &results["sleeper"]["slept"];
    let count = |name: &str| slept[name].as_u64().unwrap();
    assert_eq!(count("delivered") + count("lagged"), results["sleeper"]["sent"].as_u64().unwrap());
    assert!(count("lagged") > 0, "{slept}");
    assert!(right);
}

#[test]
fn the_tables_and_the_plots_name_every_contestant() {
    let dir = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("peers-smoke");
    let plots = dir.to_str().unwrap();
    let load = ["--quick", "--size", "51,127", "--markdown", "--plot", plots, "--save", plots];
    let (right, printed) = peers(&load);
    assert!(right, "{printed}");
    let read = |name: &str| std::fs::read_to_string(dir.join(name)).unwrap();
    for shown in [printed, read("throughput.svg"), read("cpu.svg"), read("results.txt")] {
        for contestant in CLIENTS {
            assert!(shown.contains(contestant), "{contestant} is missing: {shown}");
        }
    }
}

#[test]
fn tls_is_measured_with_other_writes_and_many_channels_too() {
    let load = ["--quick", "--json", "--scenario", "tls", "--size", "1031", "--channels", "1000"];
    let (right, printed) = peers(&[&load[..], &["--write-bytes", "65536"]].concat());
    assert!(right, "{printed}");
    let results: Value = serde_json::from_str(&printed).unwrap_or_else(|_| panic!("{printed}"));
    let [ran] = array(&results, "heats") else { panic!("{printed}") };
    assert_eq!(ran["heat"]["origin"], "tls");
    assert_eq!(array(ran, "samples").len(), TLS_CLIENTS.len());
}

#[test]
fn moderation_compares_reads_with_and_without_delays() {
    // This build is its own older build.
    let before = ["--before", env!("CARGO_BIN_EXE_peers")];
    for before in [&before[..], &[]] {
        let run = ["--quick", "--scenario", "moderation", "--json"];
        let (right, printed) = peers(&[&run[..], before].concat());
        assert!(right, "{printed}");
        let results: Value = serde_json::from_str(&printed).unwrap_or_else(|_| panic!("{printed}"));
        let targets = array(&results, "targets");
        // The target against an older build is left out if there is none.
        assert_eq!(targets.len(), if before.is_empty() { 11 } else { 12 }, "{targets:#?}");
        let ping_pong = |target: &&Value| target["what"].as_str().unwrap().contains("ping-pong");
        assert!(targets.iter().filter(ping_pong).all(|target| target["met"] == true));
    }
}

#[test]
fn blocking_compares_threads_without_async_with_the_loop_of_libpq() {
    let (right, printed) = peers(&["--quick", "--json", "--scenario", "blocking"]);
    assert!(right, "{printed}");
    let results: Value = serde_json::from_str(&printed).unwrap_or_else(|_| panic!("{printed}"));
    let [ran] = array(&results, "heats") else { panic!("{printed}") };
    assert_eq!(array(ran, "samples").len(), 5);
    assert_eq!(array(&results, "latency").len(), 3);
    let targets: Vec<_> = array(&results, "targets").iter().map(|one| &one["what"]).collect();
    assert_eq!(targets.len(), 4, "{targets:?}");
}

#[test]
fn an_impossible_measurement_is_an_error() {
    for load in [["--size", "3"], ["--channels", "0"], ["--size", "8074"], ["--cores", "3"]] {
        let (right, printed) = peers(&["--quick", load[0], load[1]]);
        assert!(!right, "{load:?}: {printed}");
    }
}

#[test]
fn a_load_that_the_sender_cannot_send_voids_the_run() {
    // 12 bytes have no room for a payload: the notifications would all be equal.
    let (right, printed) =
        peers(&["--quick", "--size", "12", "--source", "postgres", "--only", "pgbell-inline"]);
    assert!(!right && printed.contains("VOID"), "{printed}");
}

/// Runs a scenario with many subscribers, and returns how often each kind was measured.
fn many(scenario: &str) -> BTreeMap<String, usize> {
    let (right, printed) = peers(&["--quick", "--json", "--scenario", scenario]);
    assert!(right, "{printed}");
    let results: Value = serde_json::from_str(&printed).unwrap_or_else(|_| panic!("{printed}"));
    let (mut kinds, mut targets) = (BTreeMap::new(), 0);
    for matchup in array(&results, "many") {
        let kind = matchup["kind"].as_object().unwrap().keys().next().unwrap();
        *kinds.entry(kind.clone()).or_insert(0) += 1;
        let names = array(matchup, "names").len();
        for round in array(matchup, "rounds") {
            let values = round.as_array().unwrap();
            assert_eq!(values.len(), names, "{matchup}");
            assert!(values.iter().all(|value| value.as_f64().unwrap() > 0.0), "{matchup}");
        }
        targets += match &**kind {
            "commits-to-all" | "subscribe-under-load" => 0,
            "idle" | "subscribe" | "server" => 2,
            _ => 1,
        };
    }
    assert_eq!(array(&results, "targets").len(), targets);
    kinds
}

#[test]
fn a_hub_is_compared_with_sessions_and_with_broadcast() {
    let kinds = many("hub");
    let expected = [
        ("commits-to-all", 1),
        ("commits-to-one", 1),
        ("fan-out", 2),
        ("idle", 1),
        ("subscribe", 1),
        ("subscribe-under-load", 1),
    ];
    assert_eq!(kinds, expected.map(|(kind, count)| (kind.to_owned(), count)).into());
}

#[test]
fn topics_are_compared_with_a_map_of_senders_and_measured_on_servers() {
    let kinds = many("topics");
    assert_eq!(kinds["topics"], 1);
    assert!(kinds["server"] >= 1, "{kinds:?}");
}

/// Runs a scenario of publishing, and returns its kinds and the number of its targets.
fn publishing(scenario: &str) -> (Vec<String>, usize) {
    matchups(scenario, "publishing")
}

/// Runs a scenario, and returns the kinds that are in this part of the results, and the number of its targets.
fn matchups(scenario: &str, part: &str) -> (Vec<String>, usize) {
    let (right, printed) = peers(&["--quick", "--json", "--scenario", scenario]);
    assert!(right, "{printed}");
    let results: Value = serde_json::from_str(&printed).unwrap_or_else(|_| panic!("{printed}"));
    let mut kinds = Vec::new();
    for matchup in array(&results, part) {
        let kind = &matchup["kind"];
        // A kind without values is a string.
        let name = kind.as_str().or_else(|| Some(kind.as_object()?.keys().next()?.as_str()));
        kinds.push(name.unwrap().to_owned());
        let names = array(matchup, "names").len();
        for round in array(matchup, "rounds") {
            let values = round.as_array().unwrap();
            assert_eq!(values.len(), names, "{matchup}");
            assert!(values.iter().all(Value::is_f64), "{matchup}");
        }
    }
    (kinds, array(&results, "targets").len())
}

#[test]
fn nudges_and_group_commit_are_compared_with_notifications_in_transactions() {
    let (kinds, targets) = publishing("publish");
    assert_eq!(kinds, ["flush", "writers", "nudge-delay", "calls", "asleep"]);
    assert_eq!(targets, 2 + 2 + 2 + 4);
}

#[test]
fn wake_ups_are_timed_and_the_statements_of_the_server_are_counted() {
    let (kinds, targets) = publishing("wake");
    assert_eq!(kinds, ["wake", "statements"]);
    assert_eq!(targets, 3 + 2);
}

#[test]
fn a_log_is_written_read_and_compared_with_a_plain_table() {
    let (kinds, targets) = matchups("log", "log");
    let expected = [
        "log-writers",
        "log-backlog",
        "log-backlog",
        "log-backlog",
        "log-handler",
        "log-idle",
        "log-steady",
        "log-inserts",
        "log-inserts",
    ];
    assert_eq!(kinds, expected);
    assert_eq!(targets, 4 + 2 + 1 + 1 + 4 + 2);
}

#[test]
fn a_queue_is_drained_and_compared_with_sqlx_and_a_table_is_mirrored() {
    let (kinds, targets) = matchups("queue", "queue");
    let expected = [
        "queue-drain",
        "queue-drain",
        "queue-start",
        "queue-burst",
        "mirror-refresh",
        "mirror-reload",
    ];
    assert_eq!(kinds, expected);
    assert_eq!(targets, 2 + 2 + 1 + 2 + 2);
}
