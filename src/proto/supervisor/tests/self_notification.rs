//! Self-notifications: the heartbeat of a session whose server cannot name its channels.

use super::*;
use crate::proto::session::Evidence;

const EVERY: Duration = Duration::from_secs(10);
const DEADLINE: Duration = Duration::from_secs(8);
const PRIVATE: &str = "private_1";

/// Returns a listener to `a` whose session has this evidence of delivery.
fn with_evidence(evidence: Evidence) -> TestDriver {
    let heartbeat = Heartbeat { interval: EVERY, timeout: DEADLINE };
    let mut driver = TestDriver::new(Policy { heartbeat, ..lasting() });
    let mut session = ready(driver.now);
    session.set_evidence(evidence);
    driver.event(LinkEvent::Opened(session));
    assert_eq!(driver.serve_all(), [[r#"LISTEN "a""#]]);
    driver.clear_logs();
    driver
}

/// Returns a driver that has just sent a heartbeat.
pub(super) fn asked() -> TestDriver {
    let mut driver = with_evidence(Evidence::SelfNotification(PRIVATE.to_owned()));
    driver.pass(EVERY);
    assert_eq!(driver.take_sent(), ["notify"]);
    assert_eq!(driver.private, PRIVATE);
    driver
}

fn cause(driver: &TestDriver) -> String {
    let error = driver.logged.iter().find_map(|event| match event {
        LogEvent::Lost { error } => Some(format!("{error:#}")),
        _ => None,
    });
    error.unwrap_or_default()
}

const SWALLOWED: &str = "pooler: a notification that the session sent to itself did not come back within 8s (hint: UNLISTEN or DISCARD were \
     sent in a query, or a pooler that shares sessions is before the server: use listen and unlisten, and connect to the \
     server itself)";

#[test]
fn a_self_notification_that_comes_back_is_not_delivered() {
    for answer_is_first in [true, false] {
        let mut driver = asked();
        for n in 1..4 {
            let (fence, answer) = (driver.fence(), notified());
            let both = if answer_is_first { [answer, fence] } else { [fence, answer] };
            // Together with others, and by itself.
            let [first, second] = both;
            driver.read(&[A1, &first, A1, A1].concat());
            driver.read(&second);
            assert_eq!(driver.supervisor.counters().received, 3 * n);
            driver.consume(3);
            assert_eq!(driver.due_in(), EVERY);
            driver.pass_until_due();
            assert_eq!(driver.take_sent(), ["notify"]);
            assert_eq!(driver.supervisor.counters().heartbeats, n + 1);
        }
        assert_eq!(driver.take_log(), NOTHING);
    }
}

#[test]
fn a_self_notification_that_does_not_come_back_ends_the_session() {
    let mut driver = asked();
    driver.pass(Duration::from_secs(3));
    driver.read(&notified());
    assert_eq!(driver.due_in(), DEADLINE);
    driver.pass(DEADLINE - Duration::from_millis(1));
    // That of another heartbeat does not count, and answers to commands do not show that notifications arrive.
    let other = notification_on(PRIVATE, "other");
    driver.read(&other);
    driver.command(listen(&["b"]));
    driver.serve();
    assert_eq!(driver.take_log(), ["0: Active"]);
    driver.pass_until_due();
    assert_eq!(driver.supervisor.state(), State::Reconnecting);
    assert!(cause(&driver).starts_with(SWALLOWED), "{}", cause(&driver));
    assert_eq!(driver.supervisor.counters().received, 0);
}

#[test]
fn a_self_notification_after_others_is_waited_for_but_not_without_a_limit() {
    let mut driver = asked();
    driver.read(&notified());
    for _ in 0..42 {
        driver.pass(Duration::from_secs(7));
        driver.read(A1);
        driver.consume(1);
    }
    assert_eq!(driver.supervisor.state(), State::Connected);
    assert_eq!(driver.due_in(), Duration::from_secs(6), "five minutes in all");
    driver.pass_until_due();
    assert!(cause(&driver).starts_with(SWALLOWED), "{}", cause(&driver));
}

#[test]
fn a_self_notification_without_an_answer_ends_the_session() {
    let mut driver = asked();
    driver.read(&driver.fence());
    driver.pass(DEADLINE);
    assert!(cause(&driver).starts_with("timeout: no data"), "{}", cause(&driver));
}

#[test]
fn the_private_channel_survives_unlisten_all() {
    let mut driver = with_evidence(Evidence::SelfNotification(PRIVATE.to_owned()));
    driver.command(Command::UnlistenAll);
    let sent = driver.serve();
    assert_eq!(sent, ["UNLISTEN *", r#"LISTEN "private_1""#]);
    assert_eq!(driver.take_log(), ["0: Unlistened"]);
    // It waits for a self-notification in flight, which would not arrive after UNLISTEN.
    driver.pass(EVERY);
    assert_eq!(driver.take_sent(), ["notify"]);
    driver.read(&notified());
    driver.command(Command::UnlistenAll);
    assert_eq!(driver.take_sent(), NOTHING);
    driver.read(&driver.fence());
    assert_eq!(driver.serve(), ["UNLISTEN *", r#"LISTEN "private""#]);
    // If the channel is refused, the session ends.
    driver.command(Command::UnlistenAll);
    driver.refused.insert(PRIVATE.to_owned());
    driver.serve();
    assert_eq!(driver.supervisor.state(), State::Reconnecting);
}

/// What was committed before arrives before the self-notification, even through a proxy.
#[test]
fn a_drain_ends_when_its_self_notification_has_come_back() {
    let mut driver = asked();
    driver.read(&notified());
    driver.command(Command::Drain { timeout: Duration::from_secs(60) });
    // The drain sends another one after the one in flight.
    assert_eq!(driver.take_sent(), NOTHING);
    driver.read(&driver.fence());
    assert_eq!(driver.serve(), ["notify"]);
    driver.read(A1);
    assert_eq!(driver.take_sent(), NOTHING);
    driver.read(&driver.fence());
    assert_eq!(driver.serve(), ["UNLISTEN *"]);
    assert_eq!(driver.take_sent(), ["Terminate"]);
    assert_eq!(driver.take_log(), ["0: Drained", "close 1 Graceful"]);
    assert_eq!(driver.supervisor.counters().received, 1);
}

#[test]
fn a_handover_waits_for_the_self_notification_and_checks_the_old_session_with_another_one() {
    let mut driver = asked();
    driver.read(&notified());
    driver.command(Command::Rotate);
    let mut session = ready(driver.now);
    session.set_evidence(Evidence::SelfNotification("private_2".to_owned()));
    assert_eq!(driver.take_log(), ["open 2", "0: Rotating"]);
    driver.event(LinkEvent::Opened(session));
    assert_eq!((driver.on(1).take_sent(), driver.on(2).take_sent()), (vec![], vec![]));
    driver.private = PRIVATE.to_owned();
    let fence = driver.fence();
    driver.on(1).read(&fence);
    let sent = driver.on(1).serve();
    assert_eq!(sent, [r#"LISTEN "private""#, "notify"]);
    let heartbeat = driver.fence();
    driver.on(2).serve_all();
    assert_eq!(driver.on(2).take_sent(), NOTHING);
    driver.on(1).read(&heartbeat);
    // The fence follows.
    assert_eq!(driver.on(2).serve(), ["notify"]);
    let fence = driver.fence();
    driver.on(1).read(&[A1, &fence].concat());
    driver.on(2).read(&fence);
    driver.serve_all();
    assert_eq!(driver.supervisor.counters().handovers, 1);
    assert_eq!(driver.supervisor.counters().received, 1);
    // The new session has a channel of its own.
    driver.pass(EVERY);
    assert_eq!(driver.take_sent(), ["notify"]);
    assert_eq!(driver.private, "private_2");
}

#[test]
fn without_evidence_of_delivery_a_heartbeat_asks_only_for_an_answer() {
    let mut driver = with_evidence(Evidence::Answer);
    driver.wire().listening.clear();
    for _ in 0..3 {
        driver.pass(EVERY);
        assert_eq!(driver.serve(), ["life"]);
        assert_eq!(driver.due_in(), EVERY);
    }
    driver.command(Command::UnlistenAll);
    assert_eq!(driver.serve(), ["UNLISTEN *"]);
    driver.pass(EVERY);
    assert_eq!(driver.take_sent(), ["life"]);
    driver.pass(DEADLINE);
    assert!(cause(&driver).starts_with("timeout: no data"), "{}", cause(&driver));
}

/// In an earlier version each query delayed the deadline, so that a loss was never noticed.
#[test]
fn queries_do_not_delay_the_deadline_of_a_self_notification() {
    let mut driver = asked();
    driver.read(&notified());
    for _ in 0..3 {
        driver.pass(Duration::from_secs(2));
        driver.command(query("SELECT 1"));
        driver.serve();
    }
    assert_eq!(driver.take_log(), NOTHING, "they wait for it");
    driver.pass(DEADLINE - Duration::from_secs(6));
    assert_eq!(driver.supervisor.state(), State::Reconnecting);
    assert!(cause(&driver).starts_with(SWALLOWED), "{}", cause(&driver));
}

/// In an earlier version the payload was a counter: every client that may notify the channel could send it instead of the session.
#[test]
fn a_self_notification_cannot_be_guessed() {
    let mut driver = asked();
    let mut seen = BTreeSet::new();
    for _ in 0..3 {
        assert!(driver.nonce.len() == 32 && seen.insert(driver.nonce.clone()), "{}", driver.nonce);
        let both = [notified(), driver.fence()].concat();
        driver.read(&both);
        driver.pass_until_due();
        assert_eq!(driver.take_sent(), ["notify"]);
    }
}

/// After each notification that the consumer took, an earlier version searched all the others again.
#[test]
fn a_run_without_room_is_searched_once_for_the_self_notification() {
    let mut driver = asked();
    let looked_at = looked_at_in_a_run_without_room(&mut driver);
    assert!(looked_at <= 500, "{looked_at}");
    let both = [notified(), driver.fence()].concat();
    driver.read(&both);
    assert_eq!(driver.due_in(), EVERY);
}
