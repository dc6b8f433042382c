//! Losses: the next session, and the gap at its position.

use super::*;

/// Returns a driver whose session was lost, and whose next attempt has begun.
fn down() -> TestDriver {
    let mut driver = TestDriver::up(lasting());
    driver.break_and_reopen();
    driver.clear_logs();
    driver
}

#[test]
fn every_cause_of_a_loss_is_named_in_the_gap_and_followed_by_another_session() {
    type Loss = Box<dyn Fn(&mut TestDriver)>;
    let after = |severity: &str, code: &str| {
        let tag = if severity == "WARNING" { b'N' } else { b'E' };
        let bytes = diagnostic(tag, severity, code);
        Box::new(move |driver: &mut TestDriver| {
            driver.read(&bytes);
            driver.event(LinkEvent::Eof);
        })
    };
    let causes: [(Loss, &str); 8] = [
        (Box::new(|driver| driver.event(broken())), "connection: broken"),
        (
            Box::new(|driver| driver.event(LinkEvent::Eof)),
            "connection: the server closed the connection",
        ),
        (Box::new(|driver| driver.event(LinkEvent::Closed)), OVER),
        (after("FATAL", "57P01"), "server error: the server ended the session: FATAL: no"),
        (after("PANIC", "XX000"), "server error: the server ended the session: PANIC: no"),
        (
            after("WARNING", "57P02"),
            "server error: the server closed the connection: WARNING: no (SQLSTATE 57P02)",
        ),
        (Box::new(|driver| driver.read(b"nonsense")), "protocol violation: "),
        (
            Box::new(|driver| {
                driver.command(listen(&["b"]));
                driver.pass_until_due();
            }),
            "timeout: no data from the server for 8s",
        ),
    ];
    for (lose, cause) in causes {
        let mut driver = TestDriver::up(lasting());
        lose(&mut driver);
        assert_eq!(driver.supervisor.state(), State::Reconnecting, "{cause}");
        driver.reopen();
        driver.serve();
        assert_eq!(driver.seen(), ["GAP"]);
        let found = format!("{:#}", driver.take_gaps()[0].cause());
        assert!(found.starts_with(cause), "{found}");
        assert_eq!(driver.supervisor.counters().sessions_lost, 1);
    }
}

/// In an earlier version the statistics counted a lost session while `last_error` was still empty.
#[test]
fn the_error_of_a_lost_session_is_logged_before_the_consequences_of_the_loss() {
    let mut driver = TestDriver::up(lasting());
    driver.command(query("SELECT 1"));
    let link = driver.link;
    driver.input().handle_link(link, broken());
    assert_eq!(driver.supervisor.counters().sessions_lost, 1);
    let first = driver.supervisor.poll_action();
    assert!(matches!(first, Some(Action::Log(LogEvent::Lost { .. }))), "{first:?}");
    driver.act();
    let log = driver.take_log();
    assert!(log.iter().any(|line| line.starts_with("0: in doubt: ")), "{log:?}");
}

#[test]
fn a_gap_has_the_time_and_the_cause_of_the_loss_and_the_number_of_attempts() {
    let mut driver = TestDriver::up(lasting());
    driver.pass(seconds(100));
    driver.read(&notification("1"));
    driver.pass(seconds(10));
    let lost_at = driver.wall_clock();
    driver.event(broken());
    for _ in 0..3 {
        driver.pass_until_due();
        driver.event(broken());
    }
    driver.pass_until_due();
    // An attempt that hangs.
    driver.pass_until_due();
    driver.pass_until_due();
    driver.refused.insert("a".to_owned());
    driver.open();
    driver.pass(seconds(1));
    assert_eq!(driver.seen(), ["1"]);
    driver.serve();
    let restored_at = driver.wall_clock();
    assert_eq!(driver.seen(), ["GAP"]);
    let gap = &driver.take_gaps()[0];
    assert_eq!(format!("{:#}", gap.cause()), "connection: broken");
    assert_eq!((gap.lost_at(), gap.restored_at()), (lost_at, restored_at));
    assert_eq!((gap.attempts(), gap.epoch(), gap.sessions()), (5, 2, 1));
    assert_eq!(gap.refused().len(), 1);
}

#[test]
fn the_gap_comes_after_the_last_listen_and_before_what_arrived_with_it() {
    let mut driver = down();
    driver.command(listen(&["b"]));
    driver.open();
    driver.read(&[LISTEN, &notification("1")].concat());
    driver.read(&[LISTEN, &notification("2")].concat());
    assert_eq!(driver.seen(), NOTHING);
    assert_eq!(driver.supervisor.state(), State::Reconnecting);
    driver.read(&[READY, &notification("3")].concat());
    assert_eq!(driver.seen(), ["GAP", "1", "2", "3"]);
}

#[test]
fn losses_with_nothing_between_are_one_gap() {
    let mut driver = TestDriver::up(lasting());
    for _ in 0..3 {
        driver.reconnect();
        assert_eq!(driver.take_sent(), [r#"LISTEN "a""#]);
    }
    driver.read(&[LISTEN, READY].concat());
    assert_eq!(driver.seen(), ["GAP"]);
    let gap = &driver.take_gaps()[0];
    assert_eq!((gap.sessions(), gap.attempts(), gap.epoch()), (3, 3, 4));
    assert_eq!(driver.supervisor.counters().gaps, 1);
}

/// Opens the next session. The session before it was lost after it had received `1`. Returns the gaps, one before `1` and one
/// before `2`.
fn reopen_between_two_gaps(driver: &mut TestDriver) -> Vec<Gap> {
    driver.reopen();
    driver.read(&notification("2"));
    assert_eq!(driver.seen(), NOTHING);
    driver.serve();
    assert_eq!(driver.seen(), ["GAP", "1", "GAP", "2"]);
    driver.take_gaps()
}

#[test]
fn each_gap_names_the_session_of_the_next_notification() {
    let mut driver = down();
    driver.open();
    driver.read(&notification("1"));
    driver.event(LinkEvent::Eof);
    let gaps = reopen_between_two_gaps(&mut driver);
    assert_eq!((gaps[0].sessions(), gaps[1].sessions()), (1, 1));
    assert_eq!((gaps[0].epoch(), gaps[1].epoch()), (2, 3));
    assert_eq!(format!("{:#}", gaps[1].cause()), "connection: the server closed the connection");
}

/// The memory is bounded, and every loss is reported.
#[test]
fn a_server_that_loses_session_after_session_makes_a_bounded_number_of_gaps() {
    let mut driver = down();
    driver.supervisor.sink.capacity = 10_000;
    for _ in 0..200 {
        driver.open();
        driver.read(&notification("x"));
        driver.break_and_reopen();
    }
    driver.open();
    driver.serve();
    let gaps = driver.take_gaps();
    assert_eq!(gaps.len(), 64);
    assert_eq!(gaps.iter().map(|gap| gap.sessions()).sum::<u32>(), 201);
    let seen = driver.seen();
    assert_eq!(seen.len(), 264);
    assert_eq!(seen[..4], ["GAP", "x", "GAP", "x"]);
}

#[test]
fn a_dropped_notification_is_a_gap_in_a_session_that_goes_on() {
    let mut driver = TestDriver::up(lasting());
    driver.read(&[&notification("1")[..], ERROR, READY, &notification("2")].concat());
    assert_eq!(driver.seen(), ["1", "GAP", "2"]);
    let gap = &driver.take_gaps()[0];
    assert_eq!((gap.sessions(), gap.attempts(), gap.epoch()), (0, 0, 1));
    assert_eq!(gap.lost_at(), gap.restored_at());
    assert!(
        format!("{:#}", gap.cause()).starts_with("server error: the server dropped a notification")
    );
    assert_eq!(driver.take_log(), NOTHING);
}

/// An earlier version showed what follows the loss when the driver carried out the release of the session before.
#[test]
fn a_session_that_is_lost_in_the_read_that_makes_it_live_holds_back_what_follows() {
    let mut driver = down();
    driver.open();
    assert_eq!(driver.take_sent(), [r#"LISTEN "a""#]);
    driver.read(&[LISTEN, READY, &notification("1"), FATAL].concat());
    assert_eq!(driver.seen(), NOTHING);
    let gaps = reopen_between_two_gaps(&mut driver);
    assert_eq!((gaps[0].epoch(), gaps[1].epoch()), (2, 3));
}

/// In an earlier version the first gap named the session that was lost next, of which nothing was delivered.
#[test]
fn two_gaps_with_nothing_between_name_the_session_that_goes_on() {
    let mut driver = TestDriver::up(lasting());
    driver.read(OLD);
    driver.read(&[&diagnostic(b'E', "ERROR", "58P01"), READY, FATAL].concat());
    driver.reopen();
    driver.serve_all();
    driver.read(&notification("1"));
    assert_eq!(driver.seen(), ["GAP", "GAP", "1"]);
    let epochs: Vec<u32> = driver.take_gaps().iter().map(|gap| gap.epoch()).collect();
    assert_eq!(epochs, [2, 2]);
}

/// Pgpool-II sends this to an idle client. An earlier version reported two gaps, the first one as a dropped notification.
#[test]
fn an_error_right_before_the_end_is_one_gap_that_carries_it() {
    for is_old in [false, true] {
        let mut driver = TestDriver::up(lasting());
        if is_old {
            driver.read(OLD);
        }
        driver.read(&[&notification("1"), ERROR].concat());
        driver.event(LinkEvent::Eof);
        driver.reopen();
        driver.serve_all();
        driver.read(&notification("2"));
        assert_eq!(driver.seen(), ["1", "GAP", "2"]);
        let [gap] = &driver.supervisor.sink.gaps[..] else {
            panic!("{:?}", driver.supervisor.sink.gaps)
        };
        assert_eq!((gap.sessions(), gap.cause().sqlstate()), (1, Some("42501")), "{gap}");
        assert!(!format!("{:#}", gap.cause()).contains("dropped"), "{gap}");
    }
}

/// A gap is counted when it is put into the stream. Earlier losses at the same position are one gap.
#[test]
fn gaps_are_counted_as_they_are_put_into_the_stream() {
    let mut driver = down();
    driver.reconnect();
    driver.reconnect();
    driver.serve_all();
    let counters = driver.supervisor.counters();
    assert_eq!((counters.sessions_lost, counters.gaps), (2, 1));
    assert_eq!(driver.take_gaps()[0].sessions(), 2);
    // If the consumer has not taken the first gap, it gets both as one.
    driver.reconnect();
    driver.serve_all();
    let counters = driver.supervisor.counters();
    assert_eq!((counters.sessions_lost, counters.gaps), (3, 2));
}
