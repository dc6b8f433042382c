//! Everything that was committed before, and then the end.

use super::*;

const WITHIN: Duration = Duration::from_secs(3);

fn drain() -> Command {
    Command::Drain { within: WITHIN }
}

/// The commands before it have the numbers up to `id`.
fn drained(id: u64) -> String {
    format!("{id}: Drained")
}

#[test]
fn what_was_committed_before_is_delivered_and_the_end_is_clean() {
    let mut shell = Shell::up(lasting());
    shell.command(drain());
    assert_eq!(shell.take_sent(), ["proof"]);
    shell.read(&note("1"));
    let proof = shell.answer("proof");
    shell.read(&proof);
    assert_eq!(shell.take_sent(), ["UNLISTEN *"]);
    shell.read(&note("2"));
    assert_eq!(shell.take_log(), NOTHING);
    shell.read(&[UNLISTEN, READY].concat());
    assert_eq!(shell.take_log(), [drained(0), "close 1 Graceful".into()]);
    assert_eq!(shell.take_sent(), ["Terminate"]);
    assert_eq!(shell.seen(), ["1", "2"]);
    shell.event(LinkEvent::Closed);
    assert_eq!(shell.take_log(), ["close 1 Abort", "Closed", "done"]);
    assert_eq!(shell.supervisor.poll_timeout(), None);
}

#[test]
fn commands_before_it_come_first_and_those_after_it_too_late() {
    let mut shell = Shell::up(lasting());
    shell.command(query("SELECT 1"));
    shell.command(listen(&["b"]));
    shell.command(drain());
    shell.command(listen(&["c"]));
    shell.command(drain());
    shell.command(Command::Rotate);
    let late: Vec<String> = (3..6).map(|id| format!("{id}: {OVER}")).collect();
    assert_eq!(shell.take_log(), late);
    assert_eq!(shell.serve(), ["SELECT 1"]);
    assert_eq!(shell.serve(), [r#"LISTEN "b""#]);
    assert_eq!(shell.serve(), ["proof"]);
    assert_eq!(shell.take_sent(), ["UNLISTEN *"]);
}

/// The proof behind a LISTEN in flight counts its channel too.
#[test]
fn a_drain_behind_a_listen_in_flight_is_not_taken_for_a_pooler() {
    let mut shell = Shell::up(lasting());
    shell.command(listen(&["b"]));
    shell.command(unlisten(&["a"]));
    shell.command(drain());
    shell.serve_all();
    assert_eq!(shell.take_log(), ["0: Active", "1: Unlistened", "2: Drained", "close 1 Graceful"]);
}

#[test]
fn draining_without_a_session_is_done_at_once_and_the_loss_is_told() {
    // Backoff, the socket being opened, and the first of all.
    for stage in 0..3 {
        let mut shell = if stage == 2 { Shell::new(lasting()) } else { Shell::up(lasting()) };
        if stage < 2 {
            shell.event(broken());
        }
        if stage == 1 {
            shell.pass_until_due();
        }
        shell.take_log();
        shell.command(drain());
        let mut log = vec![drained(0)];
        match stage {
            1 => log.push("close 2 Abort".into()),
            2 => log.push("close 1 Abort".into()),
            _ => {}
        }
        log.extend(["Closed".into(), "done".into()]);
        assert_eq!(shell.take_log(), log);
        assert_eq!(shell.seen(), if stage < 2 { &["GAP"][..] } else { &[] });
        assert_eq!(shell.supervisor.poll_timeout(), None);
    }
}

#[test]
fn a_session_that_is_restored_is_drained_when_it_is() {
    let mut shell = Shell::up(lasting());
    shell.come_back();
    shell.forget();
    shell.command(drain());
    assert_eq!(shell.serve(), [r#"LISTEN "a""#]);
    assert_eq!(shell.seen(), ["GAP"]);
    assert_eq!(shell.serve(), ["proof"]);
    assert_eq!(shell.serve(), ["UNLISTEN *"]);
    assert_eq!(shell.take_log(), ["Connected", "0: Drained", "close 2 Graceful"]);
}

#[test]
fn a_drain_waits_for_a_handover_and_none_begins_after_it() {
    let policy = Policy { max_lifetime: Some(Duration::from_secs(1)), ..lasting() };
    let mut shell = Shell::up(policy);
    shell.pass_until_due();
    shell.on(2).open();
    shell.command(drain());
    shell.on(1).serve();
    shell.on(2).serve();
    shell.exchange(1);
    assert_eq!(shell.on(2).serve(), [r#"UNLISTEN "private""#]);
    assert_eq!(shell.serve(), ["proof"]);
    assert_eq!(shell.serve(), ["UNLISTEN *"]);
    let log = shell.take_log();
    assert_eq!(log[log.len() - 3..], ["0: Drained", "close 1 Abort", "close 2 Graceful"]);

    // The new one is not there yet: it is not waited for.
    let mut shell = Shell::up(lasting());
    shell.command(Command::Rotate);
    shell.command(drain());
    shell.on(2).open();
    assert_eq!(shell.on(1).serve(), ["proof"]);
    assert_eq!(shell.serve(), ["UNLISTEN *"]);
    let log = ["open 2", "0: Rotating", "close 2 Abort", "1: Drained", "close 1 Graceful"];
    let mut found = shell.take_log();
    found.sort();
    let mut log = log.map(str::to_owned);
    log.sort();
    assert_eq!(found, log);

    let mut shell = Shell::up(Policy { max_lifetime: Some(Duration::from_secs(1)), ..lasting() });
    shell.command(drain());
    shell.pass(Duration::from_secs(1));
    assert_eq!(shell.take_log(), NOTHING);
}

/// What comes before a drain, and how often the server answers then.
type Stage = (fn(&mut Shell), usize);

#[test]
fn a_drain_that_takes_too_long_says_so_and_is_the_end() {
    let stages: [Stage; 5] = [
        (|_| {}, 0),
        (|_| {}, 1),
        (|shell| shell.command(query("SELECT 1")), 0),
        (Shell::come_back, 0),
        (|shell| shell.rotate_to(2), 0),
    ];
    for (stage, answers) in stages {
        let mut shell = Shell::up(lasting());
        stage(&mut shell);
        shell.forget();
        let id = shell.commands;
        shell.command(drain());
        for _ in 0..answers {
            shell.serve();
        }
        assert_eq!(shell.take_log(), NOTHING);
        shell.pass(WITHIN - Duration::from_millis(1));
        assert_eq!(shell.take_log(), NOTHING);
        shell.pass_until_due();
        let text = "timeout: not everything that was committed before could be delivered in time";
        let log = shell.take_log();
        assert_eq!(log[0], format!("{id}: {text}"));
        assert!(log.last().unwrap().ends_with("Graceful"), "{log:?}");
        assert_eq!(shell.due_in(), Duration::from_secs(2));
        shell.pass_until_due();
        assert_eq!(shell.take_log().last().unwrap(), "done");
    }
}

#[test]
fn a_session_that_is_lost_while_it_is_drained_is_the_end_with_its_cause() {
    let stages: [Stage; 4] = [
        (|_| {}, 0),
        (|_| {}, 1),
        (|shell| shell.command(query("SELECT 1")), 0),
        (Shell::come_back, 0),
    ];
    for (stage, answers) in stages {
        let mut shell = Shell::up(lasting());
        stage(&mut shell);
        let id = shell.commands;
        shell.command(drain());
        for _ in 0..answers {
            shell.serve();
        }
        shell.take_log();
        shell.read(FATAL);
        let log = shell.take_log();
        let answers: Vec<&String> =
            log.iter().filter(|line| line.starts_with(&format!("{id}: "))).collect();
        assert!(answers.len() == 1 && answers[0].contains(ENDED), "{log:?}");
        assert_eq!(log[log.len() - 2..], ["Closed".to_owned(), format!("done: {ENDED}")]);
        assert_eq!(shell.supervisor.poll_timeout(), None);
    }
}

/// A pooler that took the session away: what was to be drained was perhaps never heard.
#[test]
fn a_drain_of_a_session_that_does_not_listen_is_no_success() {
    let mut shell = Shell::up(lasting());
    shell.command(drain());
    shell.read(&proof(&BTreeSet::new()));
    let log = shell.take_log();
    assert!(log[1].starts_with("0: pooler"), "{log:?}");
    assert!(log.last().unwrap().starts_with("done: pooler"), "{log:?}");
}

#[test]
fn a_refused_drain_is_told_and_is_the_end() {
    let mut shell = Shell::up(lasting());
    shell.command(drain());
    let proof = shell.answer("proof");
    shell.read(&proof);
    shell.read(&[ERROR, READY].concat());
    let refused = REFUSED.replace("LISTEN", "UNLISTEN");
    assert_eq!(shell.take_log(), [format!("0: {refused}"), "close 1 Graceful".into()]);
}

#[test]
fn closing_ends_a_drain_and_a_drain_after_it_is_too_late() {
    let mut shell = Shell::up(lasting());
    shell.command(drain());
    shell.command(Command::Close);
    let log = shell.take_log();
    assert!(log[0].starts_with("0: closed: "), "{log:?}");
    assert_eq!(log[1..], ["close 1 Graceful"]);
    shell.command(drain());
    assert_eq!(shell.take_log(), [format!("2: {OVER}")]);

    // And one that waits.
    let mut shell = Shell::up(lasting());
    shell.command(query("SELECT 1"));
    shell.command(drain());
    shell.command(Command::Close);
    let log = shell.take_log();
    assert!(log[0].starts_with("0: in doubt") && log[1].starts_with("1: closed: "), "{log:?}");
}

/// The consumer need not take anything: what stands in the queue counts as delivered.
#[test]
fn a_drain_is_not_held_up_by_a_full_queue() {
    let mut shell = Shell::up(lasting());
    shell.read(&A1.repeat(6));
    assert_eq!(shell.take_log(), ["read 1 false"]);
    shell.command(drain());
    shell.serve();
    shell.serve();
    assert_eq!(shell.take_log(), ["read 1 true", "0: Drained", "close 1 Graceful"]);
    assert_eq!((shell.queue.taken, shell.queue.lost), (6, 0));
}

/// It was called drained, though the server had not said that it listens.
#[test]
fn a_drain_whose_question_is_refused_asks_a_simpler_one_first() {
    let refused = diagnostic(b'E', "ERROR", "42501");
    let mut shell = Shell::up(lasting());
    shell.command(drain());
    assert_eq!(shell.take_sent(), ["proof"]);
    shell.read(&[&refused, READY].concat());
    assert_eq!(shell.take_sent(), ["count"]);
    // And so a session that does not listen any more is found.
    shell.read(&[&row(&[Some("0")]), READY].concat());
    let log = shell.take_log();
    assert!(log[1].starts_with("0: pooler"), "{log:?}");

    let mut shell = Shell::up(lasting());
    shell.command(drain());
    shell.take_sent();
    shell.read(&[&refused, READY].concat());
    assert_eq!(shell.serve(), ["count"]);
    assert_eq!(shell.serve(), ["UNLISTEN *"]);
    assert_eq!(shell.take_log(), [drained(0), "close 1 Graceful".into()]);
}

#[test]
fn a_drain_that_nothing_proves_delivers_everything_and_says_so() {
    // Refused for good, and cancelled.
    for (code, questions) in [("42501", 3), ("57014", 1)] {
        let refused = [&diagnostic(b'E', "ERROR", code), READY].concat();
        let mut shell = Shell::up(lasting());
        shell.command(drain());
        for _ in 0..questions {
            assert_eq!(shell.take_sent().len(), 1);
            shell.read(&refused);
        }
        shell.read(&note("1"));
        assert_eq!(shell.serve(), ["UNLISTEN *"]);
        let log = shell.take_log();
        assert!(log[0].starts_with(&format!("0: {UNPROVEN}")), "{log:?}");
        assert!(log[0].contains(code), "{log:?}");
        assert_eq!(log[1..], ["close 1 Graceful"]);
        assert_eq!(shell.seen(), ["1"]);
        shell.event(LinkEvent::Closed);
        assert_eq!(shell.take_log().last().unwrap(), "done");
    }
}

const UNPROVEN: &str = "server error: what arrived was delivered, but the server refused to prove that the session \
    listened to its channels until the drain";
