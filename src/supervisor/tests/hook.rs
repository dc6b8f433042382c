//! The user's hook: nothing is delivered before it is done.

use super::*;

fn hooked() -> Policy {
    Policy { hook: Some(HOOK), ..lasting() }
}

fn failed() -> Result<(), Error> {
    Err(Error::new(ErrorKind::Misuse, "no"))
}

/// What was reported last: why a run has failed, and when the next one comes.
fn take_failure(shell: &mut Shell) -> (Error, Duration) {
    match shell.told.pop() {
        Some(Incident::HookFailed { error, delay }) => (error, delay),
        other => panic!("{other:?}"),
    }
}

/// The first subscription is active, the hook runs.
fn started() -> Shell {
    let mut shell = Shell::new(hooked());
    shell.open();
    shell.serve();
    assert_eq!(shell.take_log(), ["CatchingUp", "hook"]);
    shell
}

/// The session was lost and restored, the hook runs.
fn restored() -> Shell {
    let mut shell = Shell::up(hooked());
    shell.come_back();
    shell.serve();
    let after = "hook after notifications may be missing here: connection: broken (1 session lost";
    assert!(shell.take_log().last().unwrap().starts_with(after));
    shell
}

#[test]
fn nothing_is_delivered_before_the_hook_of_the_start_is_done() {
    let mut shell = Shell::new(hooked());
    shell.open();
    shell.read(&[LISTEN, A1, READY].concat());
    assert_eq!(shell.take_log(), ["CatchingUp", "hook"]);
    shell.read(A1);
    assert_eq!(shell.seen(), NOTHING);
    shell.hook(Ok(()));
    assert_eq!(shell.take_log(), ["Connected"]);
    assert_eq!(shell.seen(), ["b", "b"]);
    shell.read(A1);
    assert_eq!(shell.seen(), ["b"]);
    assert_eq!(shell.supervisor.figures().hooks, 1);
    // One that nobody waits for.
    shell.hook(failed());
    assert_eq!((shell.take_log(), shell.supervisor.poll_timeout()), (Vec::new(), None));
}

#[test]
fn the_gap_comes_after_the_hook_and_before_what_arrived_meanwhile() {
    let mut shell = restored();
    shell.read(&note("1"));
    assert_eq!(shell.seen(), NOTHING);
    shell.hook(Ok(()));
    assert_eq!(shell.seen(), ["GAP", "1"]);
    shell.read(&note("2"));
    assert_eq!(shell.seen(), ["2"]);
    assert_eq!(shell.supervisor.figures().hooks, 2);
}

#[test]
fn commands_do_not_wait_for_the_hook() {
    let mut shell = restored();
    shell.command(listen(&["b"]));
    shell.command(query("SELECT 1"));
    shell.serve_all();
    assert_eq!(shell.take_log(), ["0: Active", "1: 1 results"]);
}

#[test]
fn a_hook_that_fails_runs_again_after_a_delay_and_nothing_is_delivered_meanwhile() {
    let mut shell = restored();
    shell.read(&note("1"));
    let mut limit = Duration::from_millis(100);
    for failures in 1..10 {
        shell.hook(failed());
        assert_eq!(shell.take_log(), NOTHING);
        let (_, delay) = take_failure(&mut shell);
        assert_eq!(delay, shell.due_in());
        assert!(delay >= Duration::from_millis(50) && delay <= limit, "{failures}: {delay:?}");
        assert_eq!(shell.supervisor.state(), State::CatchingUp);
        limit *= 2;
        shell.pass_until_due();
        assert!(shell.take_log().concat().starts_with("hook"));
    }
    assert_eq!(shell.seen(), NOTHING);
    shell.hook(Ok(()));
    assert_eq!(shell.take_log(), ["Connected"]);
    assert_eq!(shell.seen(), ["GAP", "1"]);
    assert_eq!(shell.supervisor.figures().hook_failures, 9);
    assert_eq!(shell.supervisor.poll_timeout(), None);
}

/// It was retried for ever, and whoever waited for the listener did not learn of it.
#[test]
fn a_hook_that_fails_at_the_start_ends_the_listener() {
    let mut shell = started();
    shell.hook(failed());
    assert_eq!(shell.take_log(), ["close 1 Graceful"]);
    assert_eq!(shell.take_sent(), ["Terminate"]);
    shell.event(LinkEvent::Closed);
    assert_eq!(shell.take_log(), ["close 1 Abort", "Closed", "done: misuse: no"]);
    assert_eq!(shell.supervisor.figures().hook_failures, 1);
}

#[test]
fn a_hook_that_takes_too_long_is_cancelled_and_has_failed() {
    let mut shell = started();
    assert_eq!(shell.due_in(), HOOK.timeout);
    shell.pass_until_due();
    assert_eq!(shell.take_log(), ["cancel hook", "close 1 Graceful"]);
    shell.event(LinkEvent::Closed);
    let done = "done: timeout: the on_live hook was not done within 30s";
    assert_eq!(shell.take_log(), ["close 1 Abort", "Closed", done]);

    let mut shell = restored();
    shell.pass_until_due();
    assert_eq!(shell.take_log(), ["cancel hook"]);
    assert_eq!(shell.supervisor.state(), State::CatchingUp);
    let (error, _) = take_failure(&mut shell);
    assert_eq!(error.kind(), ErrorKind::Timeout);
    // What it says afterwards comes too late.
    shell.hook(Ok(()));
    assert_eq!(shell.seen(), NOTHING);
    shell.pass_until_due();
    assert!(shell.take_log().concat().starts_with("hook after"));
    shell.hook(Ok(()));
    assert_eq!(shell.seen(), ["GAP"]);
}

/// Its time went by while it waited, so that it was cancelled as soon as it ran.
#[test]
fn a_run_that_waits_for_the_end_of_the_last_one_has_all_of_its_time() {
    let mut shell = restored();
    shell.come_back();
    shell.is_hook_late = true;
    shell.serve();
    shell.pass(HOOK.timeout - Duration::from_secs(1));
    shell.forget();
    shell.supervisor.handle_hook_begun(shell.now);
    shell.pass(HOOK.timeout - Duration::from_secs(1));
    assert_eq!(shell.take_log(), NOTHING);
    shell.hook(Ok(()));
    assert_eq!(shell.supervisor.state(), State::Connected);
    // The wait has a limit, too. A report of a run that is not wanted changes nothing.
    shell.supervisor.handle_hook_begun(shell.now);
    shell.come_back();
    shell.serve();
    shell.forget();
    assert_eq!(shell.due_in(), HOOK.timeout);
    shell.pass_until_due();
    assert_eq!(shell.take_log(), ["cancel hook"]);
    let (error, _) = take_failure(&mut shell);
    assert!(error.to_string().contains("could not begin within 30s"), "{error}");
}

#[test]
fn a_listener_ends_after_so_many_failures_of_its_hook_in_a_row() {
    let policy = Policy { hook: Some(HookPolicy { failures_max: Some(3), ..HOOK }), ..lasting() };
    let mut shell = Shell::up(policy);
    for round in 0..2 {
        shell.come_back();
        shell.serve();
        for _ in 0..2 {
            shell.hook(failed());
            assert_eq!(shell.supervisor.state(), State::CatchingUp);
            shell.pass_until_due();
        }
        if round == 0 {
            shell.hook(Ok(()));
            assert_eq!(shell.supervisor.state(), State::Connected);
        }
    }
    shell.read(&note("1"));
    shell.forget();
    shell.hook(failed());
    assert_eq!(shell.take_log(), ["close 3 Graceful"]);
    // What has arrived is shown, behind its gap.
    assert_eq!(shell.seen(), ["GAP", "GAP", "1"]);
    shell.event(LinkEvent::Closed);
    assert_eq!(shell.take_log(), ["close 3 Abort", "Closed", "done: misuse: no"]);
}

/// It was dropped without a count: the consumer saw the end, and not that something is missing before it.
#[test]
fn what_a_stall_held_back_is_delivered_when_the_hook_fails_for_the_last_time() {
    let limited = HookPolicy { failures_max: Some(1), ..HOOK };
    let end: [fn(&mut Shell); 2] = [|shell| shell.hook(failed()), |shell| shell.pass(HOOK.timeout)];
    for (end, is_started) in end.into_iter().flat_map(|end| [(end, true), (end, false)]) {
        let overflow = Overflow::Block { max_stall: Duration::MAX };
        let policy = Policy { hook: Some(limited), overflow, ..lasting() };
        let mut shell = if is_started { Shell::new(policy) } else { Shell::up(policy) };
        if !is_started {
            shell.break_and_reopen();
        }
        shell.open();
        shell.serve();
        shell.read(&A1.repeat(6));
        assert_eq!((shell.queue.taken, shell.wire().reading()), (4, false));
        shell.forget();
        end(&mut shell);
        let link = shell.link.0;
        assert_eq!(shell.take_log().last().unwrap(), &format!("close {link} Graceful"));
        assert_eq!((shell.queue.taken, shell.queue.held), (6, false));
        assert_eq!(shell.seen().len(), 6 + usize::from(!is_started));
        // What comes until the server has read Terminate, too.
        shell.read(&note("last"));
        assert_eq!(shell.seen(), ["last"]);
        shell.event(LinkEvent::Eof);
        let log = shell.take_log();
        assert_eq!(log[..2], [format!("close {link} Abort"), "Closed".to_owned()]);
        assert!(log[2].starts_with("done: "), "{log:?}");
    }
}

/// Whatever the user does meanwhile, the cause of the end stays the same, and commands are answered with it.
#[test]
fn the_failure_of_a_hook_is_the_cause_of_the_end_whatever_ends_the_session() {
    let ends: [fn(&mut Shell); 5] = [
        |shell| shell.event(LinkEvent::Closed),
        |shell| shell.event(broken()),
        |shell| shell.event(LinkEvent::Eof),
        Shell::pass_until_due,
        |shell| shell.supervisor.finish(Ok(())),
    ];
    for end in ends {
        let mut shell = started();
        shell.command(listen(&["b"]));
        shell.command(query("SELECT 1"));
        shell.hook(failed());
        shell.command(listen(&["c"]));
        shell.command(Command::Close);
        shell.hook(Ok(()));
        end(&mut shell);
        shell.act();
        let log = shell.take_log();
        let unsent = format!("{UNSENT}: misuse: no");
        assert!(log.contains(&format!("1: {unsent}")), "{log:?}");
        assert!(log.contains(&format!("2: {unsent}")), "{log:?}");
        assert_eq!(log[log.len() - 2..], ["Closed", "done: misuse: no"]);
        assert!(!shell.supervisor.has_begun());
        assert_eq!(shell.supervisor.poll_timeout(), None);
    }
}

#[test]
fn a_loss_cancels_the_hook_and_the_next_session_runs_it_for_both_losses() {
    let mut shell = restored();
    shell.read(&note("1"));
    shell.event(LinkEvent::Eof);
    assert_eq!(shell.take_log(), ["close 2 Abort", "cancel hook", "Reconnecting"]);
    // It ends all the same: too late.
    shell.hook(Ok(()));
    assert_eq!(shell.seen(), NOTHING);
    shell.reopen();
    shell.serve();
    let log = shell.take_log();
    assert_eq!(log[..2], ["open 3", "CatchingUp"]);
    assert!(log[2].starts_with("hook after"));
    shell.read(&note("2"));
    shell.hook(Ok(()));
    assert_eq!(shell.seen(), ["GAP", "1", "GAP", "2"]);
}

#[test]
fn a_session_that_is_lost_while_the_first_hook_runs_is_the_end() {
    let mut shell = started();
    shell.read(&note("1"));
    shell.event(broken());
    let done = "done: connection: broken";
    assert_eq!(shell.take_log(), ["close 1 Abort", "cancel hook", "Closed", done]);
}

#[test]
fn a_hook_that_waits_to_run_again_is_not_run_without_a_session() {
    let mut shell = restored();
    shell.hook(failed());
    shell.event(broken());
    assert_eq!(shell.take_log(), ["close 2 Abort", "Reconnecting"]);
    shell.pass_until_due();
    assert_eq!(shell.take_log(), ["open 3"]);
    shell.pass(Duration::from_secs(9));
    assert_eq!(shell.take_log(), NOTHING);
    shell.open();
    shell.serve();
    assert_eq!(shell.take_log()[0], "CatchingUp");
}

/// What the hook has read may be older than what was dropped since.
#[test]
fn a_loss_that_is_noticed_while_the_hook_runs_makes_it_run_again() {
    let mut shell = restored();
    shell.read(&[&note("1")[..], ERROR, READY, &note("2")].concat());
    assert_eq!(shell.take_log(), NOTHING, "one at a time");
    shell.hook(Ok(()));
    // Not at once: a server that drops something every time would make it run without end.
    assert_eq!(shell.take_log(), NOTHING);
    shell.pass_until_due();
    assert!(shell.take_log()[0].starts_with("hook after"));
    assert_eq!(shell.seen(), NOTHING);
    shell.hook(Ok(()));
    assert_eq!(shell.seen(), ["GAP", "1", "GAP", "2"]);
    assert_eq!(shell.take_log(), ["Connected"]);
}

#[test]
fn closing_or_draining_does_not_wait_for_the_hook_and_shows_what_has_arrived() {
    for mut shell in [started(), restored()] {
        shell.read(&note("1"));
        shell.command(Command::Close);
        let link = shell.link.0;
        assert_eq!(shell.take_log(), ["cancel hook", &format!("close {link} Graceful")]);
        assert_eq!(shell.seen().last().unwrap(), "1");
    }
    for mut shell in [started(), restored()] {
        shell.read(&note("1"));
        shell.command(Command::Drain { within: Duration::from_secs(3) });
        assert_eq!(shell.serve(), ["proof"]);
        assert_eq!(shell.serve(), ["UNLISTEN *"]);
        let link = shell.link.0;
        let log = ["0: Drained", "cancel hook", &format!("close {link} Graceful")];
        assert_eq!(shell.take_log(), log);
        assert_eq!(shell.seen().last().unwrap(), "1");
        shell.event(LinkEvent::Closed);
        assert_eq!(shell.take_log().last().unwrap(), "done");
    }
    // And one that has failed.
    let mut shell = restored();
    shell.hook(failed());
    shell.command(Command::Close);
    assert_eq!(shell.take_log(), ["close 2 Graceful"]);
    assert_eq!(shell.seen(), ["GAP"]);
}

#[test]
fn a_handover_runs_no_hook_because_nothing_is_missing() {
    let mut shell = Shell::up(hooked());
    shell.prepare(1, 2);
    shell.exchange(1);
    assert_eq!((shell.supervisor.figures().handovers, shell.supervisor.figures().hooks), (1, 1));
    shell.on(2).read(&note("1"));
    assert_eq!(shell.seen(), ["1"]);
}

/// It ran as often as the server said so, and with long delays nothing was delivered.
#[test]
fn errors_without_end_do_not_make_the_hook_run_without_end() {
    for between in [1, 5_000] {
        let mut shell = restored();
        shell.hook(Ok(()));
        shell.forget();
        let before = shell.supervisor.figures().hooks;
        let (mut held, mut time) = (Duration::ZERO, Duration::ZERO);
        for _ in 0..(40_000_u64.min(200_000 / between)) {
            shell.read(&[ERROR, READY].concat());
            let mut left = Duration::from_millis(between);
            while !left.is_zero() {
                let step = Duration::from_millis(1).min(left);
                let was_held = shell.queue.held;
                shell.pass(step);
                (left, time) = (left.saturating_sub(step), time + step);
                held += if was_held { step } else { Duration::ZERO };
                if shell.take_log().iter().any(|line| line.starts_with("hook after")) {
                    shell.hook(Ok(()));
                }
            }
        }
        let hooks = shell.supervisor.figures().hooks - before;
        let seconds = time.as_secs().max(1);
        assert!((1..=seconds * 4).contains(&hooks), "{hooks} runs in {seconds} s");
        assert!(between < 5_000 || held < time / 20, "held for {held:?} of {time:?}");
    }
}
