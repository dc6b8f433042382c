//! The user's hook: nothing is delivered before it is done.

use super::*;

fn hooked() -> Policy {
    Policy { hook: Some(HOOK), ..lasting() }
}

fn failed() -> Result<(), Error> {
    Err(Error::new(ErrorKind::Misuse, "no"))
}

/// Returns the last log event: the error of the hook, and the delay until its next run.
fn take_failure(driver: &mut TestDriver) -> (Error, Duration) {
    match driver.logged.pop() {
        Some(LogEvent::HookFailed { error, delay }) => (error, delay),
        other => panic!("{other:?}"),
    }
}

/// Returns a driver whose first session is live and whose hook runs.
fn started() -> TestDriver {
    let mut driver = TestDriver::new(hooked());
    driver.open();
    driver.serve();
    assert_eq!(driver.take_log(), ["CatchingUp", "hook"]);
    driver
}

/// Returns a driver whose session was lost and restored, and whose hook runs.
fn restored() -> TestDriver {
    let mut driver = TestDriver::up(hooked());
    driver.reconnect();
    driver.serve();
    let after = "hook after notifications may be missing here: connection: broken (1 session lost";
    assert!(driver.take_log().last().unwrap().starts_with(after));
    driver
}

#[test]
fn nothing_is_delivered_before_the_first_hook_is_done() {
    let mut driver = TestDriver::new(hooked());
    driver.open();
    driver.read(&[LISTEN, A1, READY].concat());
    assert_eq!(driver.take_log(), ["CatchingUp", "hook"]);
    driver.read(A1);
    assert_eq!(driver.seen(), NOTHING);
    driver.hook(Ok(()));
    assert_eq!(driver.take_log(), ["Connected"]);
    assert_eq!(driver.seen(), ["b", "b"]);
    driver.read(A1);
    assert_eq!(driver.seen(), ["b"]);
    assert_eq!(driver.supervisor.counters().hooks, 1);
    // The end of a hook that does not run is ignored.
    driver.hook(failed());
    assert_eq!((driver.take_log(), driver.supervisor.poll_timeout()), (Vec::new(), None));
}

#[test]
fn the_gap_comes_after_the_hook_and_before_what_arrived_meanwhile() {
    let mut driver = restored();
    driver.read(&notification("1"));
    assert_eq!(driver.seen(), NOTHING);
    driver.hook(Ok(()));
    assert_eq!(driver.seen(), ["GAP", "1"]);
    driver.read(&notification("2"));
    assert_eq!(driver.seen(), ["2"]);
    assert_eq!(driver.supervisor.counters().hooks, 2);
}

#[test]
fn commands_do_not_wait_for_the_hook() {
    let mut driver = restored();
    driver.command(listen(&["b"]));
    driver.command(query("SELECT 1"));
    driver.serve_all();
    assert_eq!(driver.take_log(), ["0: Active", "1: 1 results"]);
}

#[test]
fn a_hook_that_fails_runs_again_after_a_delay_and_nothing_is_delivered_meanwhile() {
    let mut driver = restored();
    driver.read(&notification("1"));
    let mut limit = Duration::from_millis(100);
    for failures in 1..10 {
        driver.hook(failed());
        assert_eq!(driver.take_log(), NOTHING);
        let (_, delay) = take_failure(&mut driver);
        assert_eq!(delay, driver.due_in());
        assert!(delay >= Duration::from_millis(50) && delay <= limit, "{failures}: {delay:?}");
        assert_eq!(driver.supervisor.state(), State::CatchingUp);
        limit *= 2;
        driver.pass_until_due();
        assert!(driver.take_log().concat().starts_with("hook"));
    }
    assert_eq!(driver.seen(), NOTHING);
    driver.hook(Ok(()));
    assert_eq!(driver.take_log(), ["Connected"]);
    assert_eq!(driver.seen(), ["GAP", "1"]);
    assert_eq!(driver.supervisor.counters().hook_failures, 9);
    assert_eq!(driver.supervisor.poll_timeout(), None);
}

/// An earlier version ran the hook again without a limit, and the first connect returned no error.
#[test]
fn a_hook_that_fails_at_the_start_ends_the_listener() {
    let mut driver = started();
    driver.hook(failed());
    assert_eq!(driver.take_log(), ["close 1 Graceful"]);
    assert_eq!(driver.take_sent(), ["Terminate"]);
    driver.event(LinkEvent::Closed);
    assert_eq!(driver.take_log(), ["close 1 Abort", "Closed", "done: misuse: no"]);
    assert_eq!(driver.supervisor.counters().hook_failures, 1);
}

#[test]
fn a_hook_that_times_out_is_cancelled_and_has_failed() {
    let mut driver = started();
    assert_eq!(driver.due_in(), HOOK.timeout);
    driver.pass_until_due();
    assert_eq!(driver.take_log(), ["cancel hook", "close 1 Graceful"]);
    driver.event(LinkEvent::Closed);
    let done = "done: timeout: the on_live hook was not done within 30s";
    assert_eq!(driver.take_log(), ["close 1 Abort", "Closed", done]);

    let mut driver = restored();
    driver.pass_until_due();
    assert_eq!(driver.take_log(), ["cancel hook"]);
    assert_eq!(driver.supervisor.state(), State::CatchingUp);
    let (error, _) = take_failure(&mut driver);
    assert_eq!(error.kind(), ErrorKind::Timeout);
    // Its result comes too late.
    driver.hook(Ok(()));
    assert_eq!(driver.seen(), NOTHING);
    driver.pass_until_due();
    assert!(driver.take_log().concat().starts_with("hook after"));
    driver.hook(Ok(()));
    assert_eq!(driver.seen(), ["GAP"]);
}

/// In an earlier version the timeout of the run began while it waited, so it was cancelled as soon as it began.
#[test]
fn a_run_that_waits_for_the_end_of_the_last_one_has_its_whole_timeout() {
    let mut driver = restored();
    driver.reconnect();
    driver.is_hook_late = true;
    driver.serve();
    driver.pass(HOOK.timeout - Duration::from_secs(1));
    driver.clear_logs();
    driver.input().handle_hook_begun();
    driver.pass(HOOK.timeout - Duration::from_secs(1));
    assert_eq!(driver.take_log(), NOTHING);
    driver.hook(Ok(()));
    assert_eq!(driver.supervisor.state(), State::Connected);
    // The wait has a limit too. The begin of a run that is not expected is ignored.
    driver.input().handle_hook_begun();
    driver.reconnect();
    driver.serve();
    driver.clear_logs();
    assert_eq!(driver.due_in(), HOOK.timeout);
    driver.pass_until_due();
    assert_eq!(driver.take_log(), ["cancel hook"]);
    let (error, _) = take_failure(&mut driver);
    assert!(error.to_string().contains("did not begin within 30s"), "{error}");
}

#[test]
fn a_listener_ends_after_the_highest_number_of_failures_of_its_hook_in_a_row() {
    let policy = Policy { hook: Some(HookPolicy { failures_max: Some(3), ..HOOK }), ..lasting() };
    let mut driver = TestDriver::up(policy);
    for round in 0..2 {
        driver.reconnect();
        driver.serve();
        for _ in 0..2 {
            driver.hook(failed());
            assert_eq!(driver.supervisor.state(), State::CatchingUp);
            driver.pass_until_due();
        }
        if round == 0 {
            driver.hook(Ok(()));
            assert_eq!(driver.supervisor.state(), State::Connected);
        }
    }
    driver.read(&notification("1"));
    driver.clear_logs();
    driver.hook(failed());
    assert_eq!(driver.take_log(), ["close 3 Graceful"]);
    // What has arrived is shown, after its gap.
    assert_eq!(driver.seen(), ["GAP", "GAP", "1"]);
    driver.event(LinkEvent::Closed);
    assert_eq!(driver.take_log(), ["close 3 Abort", "Closed", "done: misuse: no"]);
}

/// An earlier version dropped the notifications without counting them: the consumer saw the end, but no loss before it.
#[test]
fn what_was_read_during_a_stall_is_delivered_when_the_hook_fails_for_the_last_time() {
    let limited = HookPolicy { failures_max: Some(1), ..HOOK };
    let end: [fn(&mut TestDriver); 2] =
        [|driver| driver.hook(failed()), |driver| driver.pass(HOOK.timeout)];
    for (end, is_started) in end.into_iter().flat_map(|end| [(end, true), (end, false)]) {
        let overflow = Overflow::Block { max_stall: Duration::MAX };
        let policy = Policy { hook: Some(limited), overflow, ..lasting() };
        let mut driver = if is_started { TestDriver::new(policy) } else { TestDriver::up(policy) };
        if !is_started {
            driver.break_and_reopen();
        }
        driver.open();
        driver.serve();
        driver.read(&A1.repeat(6));
        assert_eq!((driver.supervisor.sink.taken, driver.wire().reading()), (4, false));
        driver.clear_logs();
        end(&mut driver);
        let link = driver.link.0;
        assert_eq!(driver.take_log().last().unwrap(), &format!("close {link} Graceful"));
        assert_eq!((driver.supervisor.sink.taken, driver.supervisor.sink.held), (6, false));
        assert_eq!(driver.seen().len(), 6 + usize::from(!is_started));
        // What arrives until the server has read Terminate is delivered too.
        driver.read(&notification("last"));
        assert_eq!(driver.seen(), ["last"]);
        driver.event(LinkEvent::Eof);
        let log = driver.take_log();
        assert_eq!(log[..2], [format!("close {link} Abort"), "Closed".to_owned()]);
        assert!(log[2].starts_with("done: "), "{log:?}");
    }
}

/// The cause of the end stays the same after any command of the user, and commands are answered with it.
#[test]
fn the_failure_of_a_hook_is_the_cause_of_the_end_in_every_case() {
    let ends: [fn(&mut TestDriver); 5] = [
        |driver| driver.event(LinkEvent::Closed),
        |driver| driver.event(broken()),
        |driver| driver.event(LinkEvent::Eof),
        TestDriver::pass_until_due,
        |driver| driver.input().finish(Ok(())),
    ];
    for end in ends {
        let mut driver = started();
        driver.command(listen(&["b"]));
        driver.command(query("SELECT 1"));
        driver.hook(failed());
        driver.command(listen(&["c"]));
        driver.command(Command::Close);
        driver.hook(Ok(()));
        end(&mut driver);
        driver.act();
        let log = driver.take_log();
        let unsent = format!("{UNSENT}: misuse: no");
        assert!(log.contains(&format!("1: {unsent}")), "{log:?}");
        assert!(log.contains(&format!("2: {unsent}")), "{log:?}");
        assert_eq!(log[log.len() - 2..], ["Closed", "done: misuse: no"]);
        assert!(!driver.supervisor.has_begun());
        assert_eq!(driver.supervisor.poll_timeout(), None);
    }
}

#[test]
fn a_loss_cancels_the_hook_and_the_next_session_runs_it_for_both_losses() {
    let mut driver = restored();
    driver.read(&notification("1"));
    driver.event(LinkEvent::Eof);
    assert_eq!(driver.take_log(), ["close 2 Abort", "cancel hook", "Reconnecting"]);
    // The cancelled run ends too late.
    driver.hook(Ok(()));
    assert_eq!(driver.seen(), NOTHING);
    driver.reopen();
    driver.serve();
    let log = driver.take_log();
    assert_eq!(log[..2], ["open 3", "CatchingUp"]);
    assert!(log[2].starts_with("hook after"));
    driver.read(&notification("2"));
    driver.hook(Ok(()));
    assert_eq!(driver.seen(), ["GAP", "1", "GAP", "2"]);
}

#[test]
fn a_loss_while_the_first_hook_runs_ends_the_listener() {
    let mut driver = started();
    driver.read(&notification("1"));
    driver.event(broken());
    let done = "done: connection: broken";
    assert_eq!(driver.take_log(), ["close 1 Abort", "cancel hook", "Closed", done]);
}

#[test]
fn a_hook_that_waits_to_run_again_is_not_run_without_a_session() {
    let mut driver = restored();
    driver.hook(failed());
    driver.event(broken());
    assert_eq!(driver.take_log(), ["close 2 Abort", "Reconnecting"]);
    driver.pass_until_due();
    assert_eq!(driver.take_log(), ["open 3"]);
    driver.pass(Duration::from_secs(9));
    assert_eq!(driver.take_log(), NOTHING);
    driver.open();
    driver.serve();
    assert_eq!(driver.take_log()[0], "CatchingUp");
}

/// The hook may have read the state before the notification was dropped.
#[test]
fn a_loss_that_is_noticed_while_the_hook_runs_makes_it_run_again() {
    let mut driver = restored();
    driver.read(&[&notification("1")[..], ERROR, READY, &notification("2")].concat());
    assert_eq!(driver.take_log(), NOTHING, "one at a time");
    driver.hook(Ok(()));
    // Not at once: a server that drops a notification each time would run it in a loop.
    assert_eq!(driver.take_log(), NOTHING);
    driver.pass_until_due();
    assert!(driver.take_log()[0].starts_with("hook after"));
    assert_eq!(driver.seen(), NOTHING);
    driver.hook(Ok(()));
    assert_eq!(driver.seen(), ["GAP", "1", "GAP", "2"]);
    assert_eq!(driver.take_log(), ["Connected"]);
}

#[test]
fn a_close_or_drain_does_not_wait_for_the_hook_and_shows_what_has_arrived() {
    for mut driver in [started(), restored()] {
        driver.read(&notification("1"));
        driver.command(Command::Close);
        let link = driver.link.0;
        assert_eq!(driver.take_log(), ["cancel hook", &format!("close {link} Graceful")]);
        assert_eq!(driver.seen().last().unwrap(), "1");
    }
    for mut driver in [started(), restored()] {
        driver.read(&notification("1"));
        driver.command(Command::Drain { timeout: Duration::from_secs(3) });
        assert_eq!(driver.serve(), ["heartbeat"]);
        assert_eq!(driver.serve(), ["UNLISTEN *"]);
        let link = driver.link.0;
        let log = ["0: Drained", "cancel hook", &format!("close {link} Graceful")];
        assert_eq!(driver.take_log(), log);
        assert_eq!(driver.seen().last().unwrap(), "1");
        driver.event(LinkEvent::Closed);
        assert_eq!(driver.take_log().last().unwrap(), "done");
    }
    // The same after the hook has failed.
    let mut driver = restored();
    driver.hook(failed());
    driver.command(Command::Close);
    assert_eq!(driver.take_log(), ["close 2 Graceful"]);
    assert_eq!(driver.seen(), ["GAP"]);
}

#[test]
fn a_handover_runs_no_hook_because_nothing_is_missing() {
    let mut driver = TestDriver::up(hooked());
    driver.prepare(1, 2);
    driver.exchange(1);
    assert_eq!(
        (driver.supervisor.counters().handovers, driver.supervisor.counters().hooks),
        (1, 1)
    );
    driver.on(2).read(&notification("1"));
    assert_eq!(driver.seen(), ["1"]);
}

/// In an earlier version the hook ran for every report of the server. With long delays nothing was delivered.
#[test]
fn a_constant_flow_of_errors_does_not_run_the_hook_in_a_loop() {
    for between in [1, 5_000] {
        let mut driver = restored();
        driver.hook(Ok(()));
        driver.clear_logs();
        let before = driver.supervisor.counters().hooks;
        let (mut held, mut time) = (Duration::ZERO, Duration::ZERO);
        for _ in 0..(40_000_u64.min(200_000 / between)) {
            driver.read(&[ERROR, READY].concat());
            let mut left = Duration::from_millis(between);
            while !left.is_zero() {
                let step = Duration::from_millis(1).min(left);
                let was_held = driver.supervisor.sink.held;
                driver.pass(step);
                (left, time) = (left.saturating_sub(step), time + step);
                held += if was_held { step } else { Duration::ZERO };
                if driver.take_log().iter().any(|line| line.starts_with("hook after")) {
                    driver.hook(Ok(()));
                }
            }
        }
        let hooks = driver.supervisor.counters().hooks - before;
        let seconds = time.as_secs().max(1);
        assert!((1..=seconds * 4).contains(&hooks), "{hooks} runs in {seconds} s");
        assert!(between < 5_000 || held < time / 20, "held for {held:?} of {time:?}");
    }
}
