//! Attempts to reconnect: when, how often, and when they stop.

use super::*;

fn delays(driver: &mut TestDriver) -> Vec<Duration> {
    let logged = std::mem::take(&mut driver.logged);
    let delay = |event| match event {
        LogEvent::Reconnecting { delay, .. } => Some(delay),
        _ => None,
    };
    logged.into_iter().filter_map(delay).collect()
}

fn refused(kind: ErrorKind, text: &str) -> LinkEvent {
    LinkEvent::Failed(Error::new(kind, text.to_owned()))
}

/// Returns the event of a login that the server refuses with this SQLSTATE.
fn server_refuses(code: &str) -> LinkEvent {
    let mut session = session(Instant::now());
    let mut bytes = BytesMut::from(&diagnostic(b'E', "FATAL", code)[..]);
    LinkEvent::Failed(session.handle_input(Instant::now(), &mut bytes).unwrap_err())
}

/// Returns a driver whose session was lost, and whose next attempt has begun.
fn down() -> TestDriver {
    let mut driver = TestDriver::up(lasting());
    driver.pass(seconds(1));
    driver.break_and_reopen();
    driver.clear_logs();
    driver
}

#[test]
fn delays_follow_from_the_seed_and_are_short_again_only_after_a_stable_session() {
    let run = |lived: Duration| {
        let mut driver = TestDriver::up(lasting());
        for _ in 0..12 {
            driver.break_and_reopen();
            driver.event(refused(ErrorKind::Connect, "no server there"));
            driver.reopen();
            driver.serve();
            driver.pass(lived);
        }
        delays(&mut driver)
    };
    let unstable = run(seconds(30) - Duration::from_millis(1));
    assert_eq!(unstable.len(), 24);
    assert_eq!(unstable, run(seconds(29)));
    assert!(unstable[12..].iter().any(|delay| *delay > seconds(10)), "{unstable:?}");
    // There are two attempts each time, so no delay is more than four times the shortest one.
    let stable = run(seconds(30));
    assert!(stable.iter().all(|delay| *delay <= Duration::from_millis(200)), "{stable:?}");
}

#[test]
fn a_refused_login_ends_the_listener_unless_another_attempt_may_succeed() {
    let refusals: [fn() -> LinkEvent; 6] = [
        || refused(ErrorKind::Auth, "wrong password"),
        || refused(ErrorKind::Config, "no such file"),
        || refused(ErrorKind::Misuse, "x"),
        || refused(ErrorKind::Unsupported, "x"),
        || server_refuses("3D000"),
        || server_refuses("57P04"),
    ];
    for refusal in refusals {
        let mut driver = down();
        driver.event(refusal());
        let log = driver.take_log();
        assert_eq!(log[..2], ["close 2 Abort", "Closed"]);
        assert!(log[2].starts_with("done: "), "{log:?}");
        assert_eq!(driver.seen(), ["GAP"]);
        let gap = &driver.take_gaps()[0];
        assert!(gap.restored_at() >= gap.lost_at());
        assert_eq!(driver.supervisor.poll_timeout(), None);

        let mut policy = lasting();
        policy.reconnect.as_mut().unwrap().retry_refusals = true;
        let mut driver = TestDriver::up(policy);
        driver.break_and_reopen();
        driver.clear_logs();
        driver.event(refusal());
        assert_eq!(driver.take_log(), ["close 2 Abort"]);
        driver.reopen();
        driver.serve();
        assert_eq!(driver.seen(), ["GAP"]);
    }
    // A server that starts or has no free connection may accept the login later.
    for code in ["57P03", "53300"] {
        let mut driver = down();
        driver.event(server_refuses(code));
        driver.pass_until_due();
        assert_eq!(driver.take_log(), ["close 2 Abort", "open 3"]);
    }
}

/// A file, the password provider or the operating system may work again at the next attempt.
#[test]
fn an_attempt_that_fails_because_of_a_file_or_a_provider_is_tried_again() {
    let faults: [fn() -> Error; 5] = [
        || Error::new(ErrorKind::Config, "the file is empty").passing(),
        || Error::new(ErrorKind::Unsupported, "the key is encrypted").passing(),
        || Error::caused(ErrorKind::Auth, "the provider failed", "sealed").passing(),
        || Error::panicked("the attempt to connect", &Panic::new(Box::new("the vault is closed"))),
        || Error::new(ErrorKind::Other, "in code of the caller"),
    ];
    for fault in faults {
        let mut driver = down();
        for link in 2..5 {
            driver.event(LinkEvent::Failed(fault()));
            assert_eq!(driver.take_log(), [format!("close {link} Abort")], "{}", fault());
            assert_eq!(driver.supervisor.state(), State::Reconnecting);
            driver.pass_until_due();
            assert_eq!(driver.take_log(), [format!("open {}", link + 1)]);
        }
        driver.open();
        driver.serve();
        assert_eq!(driver.seen(), ["GAP"]);
        assert_eq!(driver.take_gaps()[0].attempts(), 4);
        // Before the first success there is one attempt.
        let mut driver = TestDriver::new(lasting());
        driver.event(LinkEvent::Failed(fault()));
        assert_eq!(driver.supervisor.state(), State::Closed);
    }
}

/// If the database of a live session is dropped, the loss of the session comes first.
#[test]
fn a_listener_whose_database_was_dropped_ends_after_one_more_attempt() {
    let mut driver = TestDriver::up(lasting());
    driver.read(&diagnostic(b'E', "FATAL", "57P04"));
    assert_eq!(driver.supervisor.state(), State::Reconnecting);
    driver.pass_until_due();
    driver.event(server_refuses("3D000"));
    assert_eq!(driver.supervisor.state(), State::Closed);
}

#[test]
fn without_reconnecting_a_loss_ends_the_listener_with_its_cause() {
    let mut driver = TestDriver::up(policy());
    driver.command(listen(&["b"]));
    driver.read(&notification("1"));
    driver.event(broken());
    let log = ["0: connection: broken", "close 1 Abort", "Closed", "done: connection: broken"];
    assert_eq!(driver.take_log(), log);
    assert_eq!(driver.seen(), ["1"]);
}

#[test]
fn a_loss_before_the_listener_was_connected_ends_it() {
    let mut driver = TestDriver::new(lasting());
    driver.open();
    driver.event(broken());
    assert_eq!(driver.take_log(), ["close 1 Abort", "Closed", "done: connection: broken"]);
    let mut driver = TestDriver::new(lasting());
    driver.event(broken());
    assert_eq!(driver.supervisor.state(), State::Closed);
}

#[test]
fn an_attempt_that_hangs_is_aborted_and_followed_by_another() {
    let mut driver = down();
    assert_eq!(driver.due_in(), seconds(10));
    driver.pass_until_due();
    driver.pass_until_due();
    assert_eq!(driver.take_log(), ["close 2 Abort", "open 3"]);
    driver.on(2).open();
    assert_eq!(driver.take_sent(), NOTHING);
    assert_eq!(driver.supervisor.counters().attempts, 3);
}

/// The driver may open a link whose session is still logging in.
#[test]
fn a_login_that_is_refused_in_the_session_is_a_refusal_too() {
    let mut driver = down();
    driver.event(LinkEvent::Opened(session(driver.now)));
    driver.read(&diagnostic(b'E', "FATAL", "3D000"));
    assert_eq!(driver.supervisor.state(), State::Closed);
    assert_eq!(driver.supervisor.counters().sessions_lost, 1);
    assert_eq!(driver.take_gaps()[0].sessions(), 1);
    // After a successful login LISTEN is sent.
    let mut driver = down();
    driver.event(LinkEvent::Opened(session(driver.now)));
    driver.read(PRELUDE);
    assert_eq!(driver.serve(), ["startup", r#"LISTEN "a""#]);
    assert_eq!(driver.seen(), ["GAP"]);
}
