//! Draining: everything that was committed before is delivered, then the listener ends.

use super::*;

const WITHIN: Duration = Duration::from_secs(3);

fn drain() -> Command {
    Command::Drain { timeout: WITHIN }
}

/// Returns the answer to a drain with the number `id`.
fn drained(id: u64) -> String {
    format!("{id}: Drained")
}

#[test]
fn a_drain_delivers_what_was_committed_before_and_ends_cleanly() {
    let mut driver = TestDriver::up(lasting());
    driver.command(drain());
    assert_eq!(driver.take_sent(), ["heartbeat"]);
    driver.read(&notification("1"));
    let answer = driver.answer("heartbeat");
    driver.read(&answer);
    assert_eq!(driver.take_sent(), ["UNLISTEN *"]);
    driver.read(&notification("2"));
    assert_eq!(driver.take_log(), NOTHING);
    driver.read(&[UNLISTEN, READY].concat());
    assert_eq!(driver.take_log(), [drained(0), "close 1 Graceful".into()]);
    assert_eq!(driver.take_sent(), ["Terminate"]);
    assert_eq!(driver.seen(), ["1", "2"]);
    driver.event(LinkEvent::Closed);
    assert_eq!(driver.take_log(), ["close 1 Abort", "Closed", "done"]);
    assert_eq!(driver.supervisor.poll_timeout(), None);
}

#[test]
fn commands_before_a_drain_are_carried_out_and_later_ones_fail() {
    let mut driver = TestDriver::up(lasting());
    driver.command(query("SELECT 1"));
    driver.command(listen(&["b"]));
    driver.command(drain());
    driver.command(listen(&["c"]));
    driver.command(drain());
    driver.command(Command::Rotate);
    let late: Vec<String> = (3..6).map(|id| format!("{id}: {OVER}")).collect();
    assert_eq!(driver.take_log(), late);
    assert_eq!(driver.serve(), ["SELECT 1"]);
    assert_eq!(driver.serve(), [r#"LISTEN "b""#]);
    assert_eq!(driver.serve(), ["heartbeat"]);
    assert_eq!(driver.take_sent(), ["UNLISTEN *"]);
}

/// The heartbeat after a LISTEN in flight counts its channel too.
#[test]
fn a_drain_after_a_listen_in_flight_expects_its_channel() {
    let mut driver = TestDriver::up(lasting());
    driver.command(listen(&["b"]));
    driver.command(unlisten(&["a"]));
    driver.command(drain());
    driver.serve_all();
    assert_eq!(driver.take_log(), ["0: Active", "1: Unlistened", "2: Drained", "close 1 Graceful"]);
}

#[test]
fn a_drain_without_a_session_is_done_at_once_and_the_gap_is_reported() {
    // During the delay, while the socket is opened, and at the first attempt.
    for stage in 0..3 {
        let mut driver =
            if stage == 2 { TestDriver::new(lasting()) } else { TestDriver::up(lasting()) };
        if stage < 2 {
            driver.event(broken());
        }
        if stage == 1 {
            driver.pass_until_due();
        }
        driver.take_log();
        driver.command(drain());
        let mut log = vec![drained(0)];
        match stage {
            1 => log.push("close 2 Abort".into()),
            2 => log.push("close 1 Abort".into()),
            _ => {}
        }
        log.extend(["Closed".into(), "done".into()]);
        assert_eq!(driver.take_log(), log);
        assert_eq!(driver.seen(), if stage < 2 { &["GAP"][..] } else { &[] });
        assert_eq!(driver.supervisor.poll_timeout(), None);
    }
}

#[test]
fn a_drain_waits_until_the_session_is_restored() {
    let mut driver = TestDriver::up(lasting());
    driver.reconnect();
    driver.clear_logs();
    driver.command(drain());
    assert_eq!(driver.serve(), [r#"LISTEN "a""#]);
    assert_eq!(driver.seen(), ["GAP"]);
    assert_eq!(driver.serve(), ["heartbeat"]);
    assert_eq!(driver.serve(), ["UNLISTEN *"]);
    assert_eq!(driver.take_log(), ["Connected", "0: Drained", "close 2 Graceful"]);
}

#[test]
fn a_drain_waits_for_a_handover_and_none_begins_after_it() {
    let policy = Policy { max_lifetime: Some(Duration::from_secs(1)), ..lasting() };
    let mut driver = TestDriver::up(policy);
    driver.pass_until_due();
    driver.on(2).open();
    driver.command(drain());
    driver.on(1).serve();
    driver.on(2).serve();
    driver.exchange(1);
    assert_eq!(driver.on(2).serve(), [r#"UNLISTEN "private""#]);
    assert_eq!(driver.serve(), ["heartbeat"]);
    assert_eq!(driver.serve(), ["UNLISTEN *"]);
    let log = driver.take_log();
    assert_eq!(log[log.len() - 3..], ["0: Drained", "close 1 Abort", "close 2 Graceful"]);

    // The drain does not wait for a new session that is not open yet.
    let mut driver = TestDriver::up(lasting());
    driver.command(Command::Rotate);
    driver.command(drain());
    driver.on(2).open();
    assert_eq!(driver.on(1).serve(), ["heartbeat"]);
    assert_eq!(driver.serve(), ["UNLISTEN *"]);
    let log = ["open 2", "0: Rotating", "close 2 Abort", "1: Drained", "close 1 Graceful"];
    let mut found = driver.take_log();
    found.sort();
    let mut log = log.map(str::to_owned);
    log.sort();
    assert_eq!(found, log);

    let mut driver =
        TestDriver::up(Policy { max_lifetime: Some(Duration::from_secs(1)), ..lasting() });
    driver.command(drain());
    driver.pass(Duration::from_secs(1));
    assert_eq!(driver.take_log(), NOTHING);
}

/// The command before a drain, and the number of answers of the server.
type Stage = (fn(&mut TestDriver), usize);

#[test]
fn a_drain_that_times_out_fails_and_ends_the_listener() {
    let stages: [Stage; 5] = [
        (|_| {}, 0),
        (|_| {}, 1),
        (|driver| driver.command(query("SELECT 1")), 0),
        (TestDriver::reconnect, 0),
        (|driver| driver.rotate_to(2), 0),
    ];
    for (stage, answers) in stages {
        let mut driver = TestDriver::up(lasting());
        stage(&mut driver);
        driver.clear_logs();
        let id = driver.commands;
        driver.command(drain());
        for _ in 0..answers {
            driver.serve();
        }
        assert_eq!(driver.take_log(), NOTHING);
        driver.pass(WITHIN - Duration::from_millis(1));
        assert_eq!(driver.take_log(), NOTHING);
        driver.pass_until_due();
        let text = "timeout: not everything that was committed before could be delivered in time";
        let log = driver.take_log();
        assert_eq!(log[0], format!("{id}: {text}"));
        assert!(log.last().unwrap().ends_with("Graceful"), "{log:?}");
        assert_eq!(driver.due_in(), Duration::from_secs(2));
        driver.pass_until_due();
        assert_eq!(driver.take_log().last().unwrap(), "done");
    }
}

#[test]
fn a_loss_during_a_drain_ends_the_listener_with_its_cause() {
    let stages: [Stage; 4] = [
        (|_| {}, 0),
        (|_| {}, 1),
        (|driver| driver.command(query("SELECT 1")), 0),
        (TestDriver::reconnect, 0),
    ];
    for (stage, answers) in stages {
        let mut driver = TestDriver::up(lasting());
        stage(&mut driver);
        let id = driver.commands;
        driver.command(drain());
        for _ in 0..answers {
            driver.serve();
        }
        driver.take_log();
        driver.read(FATAL);
        let log = driver.take_log();
        let answers: Vec<&String> =
            log.iter().filter(|line| line.starts_with(&format!("{id}: "))).collect();
        assert!(answers.len() == 1 && answers[0].contains(ENDED), "{log:?}");
        assert_eq!(log[log.len() - 2..], ["Closed".to_owned(), format!("done: {ENDED}")]);
        assert_eq!(driver.supervisor.poll_timeout(), None);
    }
}

/// A pooler has exchanged the session, so notifications may be missing.
#[test]
fn a_drain_of_a_session_that_does_not_listen_fails() {
    let mut driver = TestDriver::up(lasting());
    driver.command(drain());
    driver.read(&heartbeat_answer(&BTreeSet::new()));
    let log = driver.take_log();
    assert!(log[1].starts_with("0: pooler"), "{log:?}");
    assert!(log.last().unwrap().starts_with("done: pooler"), "{log:?}");
}

#[test]
fn a_refused_drain_fails_and_ends_the_listener() {
    let mut driver = TestDriver::up(lasting());
    driver.command(drain());
    let answer = driver.answer("heartbeat");
    driver.read(&answer);
    driver.read(&[ERROR, READY].concat());
    let refused = REFUSED.replace("LISTEN", "UNLISTEN");
    assert_eq!(driver.take_log(), [format!("0: {refused}"), "close 1 Graceful".into()]);
}

#[test]
fn a_close_ends_a_drain_and_a_later_drain_fails() {
    let mut driver = TestDriver::up(lasting());
    driver.command(drain());
    driver.command(Command::Close);
    let log = driver.take_log();
    assert!(log[0].starts_with("0: closed: "), "{log:?}");
    assert_eq!(log[1..], ["close 1 Graceful"]);
    driver.command(drain());
    assert_eq!(driver.take_log(), [format!("2: {OVER}")]);

    // A drain that waits ends too.
    let mut driver = TestDriver::up(lasting());
    driver.command(query("SELECT 1"));
    driver.command(drain());
    driver.command(Command::Close);
    let log = driver.take_log();
    assert!(log[0].starts_with("0: in doubt") && log[1].starts_with("1: closed: "), "{log:?}");
}

/// The consumer need not take anything: what is in the queue counts as delivered.
#[test]
fn a_drain_is_not_delayed_by_a_full_queue() {
    let mut driver = TestDriver::up(lasting());
    driver.read(&A1.repeat(6));
    assert_eq!(driver.take_log(), ["read 1 false"]);
    driver.command(drain());
    driver.serve();
    driver.serve();
    assert_eq!(driver.take_log(), ["read 1 true", "0: Drained", "close 1 Graceful"]);
    assert_eq!((driver.supervisor.sink.taken, driver.supervisor.sink.lost), (6, 0));
}

/// In an earlier version the drain succeeded, although the server had not confirmed that the session listens.
#[test]
fn a_drain_whose_heartbeat_query_is_refused_sends_a_simpler_one() {
    let refused = diagnostic(b'E', "ERROR", "42501");
    let mut driver = TestDriver::up(lasting());
    driver.command(drain());
    assert_eq!(driver.take_sent(), ["heartbeat"]);
    driver.read(&[&refused, READY].concat());
    assert_eq!(driver.take_sent(), ["count"]);
    // So a session that does not listen any more is detected.
    driver.read(&[&row(&[Some("0")]), READY].concat());
    let log = driver.take_log();
    assert!(log[1].starts_with("0: pooler"), "{log:?}");

    let mut driver = TestDriver::up(lasting());
    driver.command(drain());
    driver.take_sent();
    driver.read(&[&refused, READY].concat());
    assert_eq!(driver.serve(), ["count"]);
    assert_eq!(driver.serve(), ["UNLISTEN *"]);
    assert_eq!(driver.take_log(), [drained(0), "close 1 Graceful".into()]);
}

#[test]
fn a_drain_whose_heartbeats_are_all_refused_delivers_everything_and_fails() {
    // Refused, and cancelled.
    for (code, questions) in [("42501", 3), ("57014", 1)] {
        let refused = [&diagnostic(b'E', "ERROR", code), READY].concat();
        let mut driver = TestDriver::up(lasting());
        driver.command(drain());
        for _ in 0..questions {
            assert_eq!(driver.take_sent().len(), 1);
            driver.read(&refused);
        }
        driver.read(&notification("1"));
        assert_eq!(driver.serve(), ["UNLISTEN *"]);
        let log = driver.take_log();
        assert!(log[0].starts_with(&format!("0: {UNCONFIRMED}")), "{log:?}");
        assert!(log[0].contains(code), "{log:?}");
        assert_eq!(log[1..], ["close 1 Graceful"]);
        assert_eq!(driver.seen(), ["1"]);
        driver.event(LinkEvent::Closed);
        assert_eq!(driver.take_log().last().unwrap(), "done");
    }
}

const UNCONFIRMED: &str = "server error: what arrived was delivered, but the server refused every heartbeat query, so it \
    is unknown whether the session listened to its channels until the drain";
