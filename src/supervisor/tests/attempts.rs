//! Attempts to come back: when, how often, and when no more.

use super::*;

fn delays(shell: &mut Shell) -> Vec<Duration> {
    let told = std::mem::take(&mut shell.told);
    let delay = |incident| match incident {
        Incident::Reconnecting { delay, .. } => Some(delay),
        _ => None,
    };
    told.into_iter().filter_map(delay).collect()
}

fn refused(kind: ErrorKind, text: &str) -> LinkEvent {
    LinkEvent::Failed(Error::new(kind, text.to_owned()))
}

/// The server refuses the login with this code.
fn server_refuses(code: &str) -> LinkEvent {
    let mut session = session(Instant::now());
    let mut bytes = BytesMut::from(&diagnostic(b'E', "FATAL", code)[..]);
    LinkEvent::Failed(session.handle_input(Instant::now(), &mut bytes).unwrap_err())
}

/// The session was lost, the next socket is to be opened.
fn down() -> Shell {
    let mut shell = Shell::up(lasting());
    shell.pass(seconds(1));
    shell.break_and_reopen();
    shell.forget();
    shell
}

#[test]
fn delays_follow_from_the_seed_and_are_short_again_only_after_a_stable_session() {
    let run = |lived: Duration| {
        let mut shell = Shell::up(lasting());
        for _ in 0..12 {
            shell.break_and_reopen();
            shell.event(refused(ErrorKind::Connect, "nobody there"));
            shell.reopen();
            shell.serve();
            shell.pass(lived);
        }
        delays(&mut shell)
    };
    let unstable = run(seconds(30) - Duration::from_millis(1));
    assert_eq!(unstable.len(), 24);
    assert_eq!(unstable, run(seconds(29)));
    assert!(unstable[12..].iter().any(|delay| *delay > seconds(10)), "{unstable:?}");
    // Two attempts each time: never more than four times the shortest delay.
    let stable = run(seconds(30));
    assert!(stable.iter().all(|delay| *delay <= Duration::from_millis(200)), "{stable:?}");
}

#[test]
fn a_refused_login_is_the_end_unless_another_try_may_help() {
    let refusals: [fn() -> LinkEvent; 6] = [
        || refused(ErrorKind::Auth, "wrong password"),
        || refused(ErrorKind::Config, "no such file"),
        || refused(ErrorKind::Misuse, "x"),
        || refused(ErrorKind::Unsupported, "x"),
        || server_refuses("3D000"),
        || server_refuses("57P04"),
    ];
    for refusal in refusals {
        let mut shell = down();
        shell.event(refusal());
        let log = shell.take_log();
        assert_eq!(log[..2], ["close 2 Abort", "Closed"]);
        assert!(log[2].starts_with("done: "), "{log:?}");
        assert_eq!(shell.seen(), ["GAP"]);
        let gap = &shell.take_gaps()[0];
        assert!(gap.restored_at() >= gap.lost_at());
        assert_eq!(shell.supervisor.poll_timeout(), None);

        let mut policy = lasting();
        policy.reconnect.as_mut().unwrap().retry_refusals = true;
        let mut shell = Shell::up(policy);
        shell.break_and_reopen();
        shell.forget();
        shell.event(refusal());
        assert_eq!(shell.take_log(), ["close 2 Abort"]);
        shell.reopen();
        shell.serve();
        assert_eq!(shell.seen(), ["GAP"]);
    }
    // A server that starts or is full may let us in later.
    for code in ["57P03", "53300"] {
        let mut shell = down();
        shell.event(server_refuses(code));
        shell.pass_until_due();
        assert_eq!(shell.take_log(), ["close 2 Abort", "open 3"]);
    }
}

/// A file, the password provider or the operating system may be well again at the next attempt.
#[test]
fn an_attempt_that_fails_because_of_something_outside_is_tried_again() {
    let faults: [fn() -> Error; 5] = [
        || Error::new(ErrorKind::Config, "the file is empty").passing(),
        || Error::new(ErrorKind::Unsupported, "the key is encrypted").passing(),
        || Error::caused(ErrorKind::Auth, "the provider failed", "sealed").passing(),
        || Error::panicked("the attempt to connect", &"the vault is closed"),
        || Error::new(ErrorKind::Other, "in code of the caller"),
    ];
    for fault in faults {
        let mut shell = down();
        for link in 2..5 {
            shell.event(LinkEvent::Failed(fault()));
            assert_eq!(shell.take_log(), [format!("close {link} Abort")], "{}", fault());
            assert_eq!(shell.supervisor.state(), State::Reconnecting);
            shell.pass_until_due();
            assert_eq!(shell.take_log(), [format!("open {}", link + 1)]);
        }
        shell.open();
        shell.serve();
        assert_eq!(shell.seen(), ["GAP"]);
        assert_eq!(shell.take_gaps()[0].attempts(), 4);
        // There is one attempt before the first success.
        let mut shell = Shell::new(lasting());
        shell.event(LinkEvent::Failed(fault()));
        assert_eq!(shell.supervisor.state(), State::Closed);
    }
}

/// The database was dropped under a live session: that is a loss first.
#[test]
fn a_live_session_that_ends_with_a_dropped_database_is_tried_once_more() {
    let mut shell = Shell::up(lasting());
    shell.read(&diagnostic(b'E', "FATAL", "57P04"));
    assert_eq!(shell.supervisor.state(), State::Reconnecting);
    shell.pass_until_due();
    shell.event(server_refuses("3D000"));
    assert_eq!(shell.supervisor.state(), State::Closed);
}

#[test]
fn without_reconnecting_a_loss_is_the_end_with_its_cause() {
    let mut shell = Shell::up(policy());
    shell.command(listen(&["b"]));
    shell.read(&note("1"));
    shell.event(broken());
    let log = ["0: connection: broken", "close 1 Abort", "Closed", "done: connection: broken"];
    assert_eq!(shell.take_log(), log);
    assert_eq!(shell.seen(), ["1"]);
}

#[test]
fn a_loss_before_the_listener_was_connected_is_the_end() {
    let mut shell = Shell::new(lasting());
    shell.open();
    shell.event(broken());
    assert_eq!(shell.take_log(), ["close 1 Abort", "Closed", "done: connection: broken"]);
    let mut shell = Shell::new(lasting());
    shell.event(broken());
    assert_eq!(shell.supervisor.state(), State::Closed);
}

#[test]
fn an_attempt_that_hangs_is_aborted_and_followed_by_another() {
    let mut shell = down();
    assert_eq!(shell.due_in(), seconds(10));
    shell.pass_until_due();
    shell.pass_until_due();
    assert_eq!(shell.take_log(), ["close 2 Abort", "open 3"]);
    shell.on(2).open();
    assert_eq!(shell.take_sent(), NOTHING);
    assert_eq!(shell.supervisor.figures().attempts, 3);
}

/// The shell may hand over a socket on which the session still logs in.
#[test]
fn a_login_that_is_refused_in_the_session_is_a_refusal_too() {
    let mut shell = down();
    shell.event(LinkEvent::Opened(session(shell.now)));
    shell.read(&diagnostic(b'E', "FATAL", "3D000"));
    assert_eq!(shell.supervisor.state(), State::Closed);
    assert_eq!(shell.supervisor.figures().sessions_lost, 1);
    assert_eq!(shell.take_gaps()[0].sessions(), 1);
    // And one that goes well subscribes when it is done.
    let mut shell = down();
    shell.event(LinkEvent::Opened(session(shell.now)));
    shell.read(PRELUDE);
    assert_eq!(shell.serve(), ["startup", r#"LISTEN "a""#]);
    assert_eq!(shell.seen(), ["GAP"]);
}
