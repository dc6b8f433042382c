//! A session is lost, another one comes, and what may be missing is told in its place.

use super::*;

/// The session was lost, the next socket is to be opened.
fn down() -> Shell {
    let mut shell = Shell::up(lasting());
    shell.break_and_reopen();
    shell.forget();
    shell
}

#[test]
fn every_cause_of_a_loss_is_named_in_the_gap_and_followed_by_another_session() {
    type Loss = Box<dyn Fn(&mut Shell)>;
    let after = |severity: &str, code: &str| {
        let tag = if severity == "WARNING" { b'N' } else { b'E' };
        let bytes = diagnostic(tag, severity, code);
        Box::new(move |shell: &mut Shell| {
            shell.read(&bytes);
            shell.event(LinkEvent::Eof);
        })
    };
    let causes: [(Loss, &str); 8] = [
        (Box::new(|shell| shell.event(broken())), "connection: broken"),
        (
            Box::new(|shell| shell.event(LinkEvent::Eof)),
            "connection: the server closed the connection",
        ),
        (Box::new(|shell| shell.event(LinkEvent::Closed)), OVER),
        (after("FATAL", "57P01"), "server error: the server ended the session: FATAL: no"),
        (after("PANIC", "XX000"), "server error: the server ended the session: PANIC: no"),
        (
            after("WARNING", "57P02"),
            "server error: the server closed the connection: WARNING: no (SQLSTATE 57P02)",
        ),
        (Box::new(|shell| shell.read(b"nonsense")), "protocol violation: "),
        (
            Box::new(|shell| {
                shell.command(listen(&["b"]));
                shell.pass_until_due();
            }),
            "timeout: nothing came from the server for 8s",
        ),
    ];
    for (lose, cause) in causes {
        let mut shell = Shell::up(lasting());
        lose(&mut shell);
        assert_eq!(shell.supervisor.state(), State::Reconnecting, "{cause}");
        shell.reopen();
        shell.serve();
        assert_eq!(shell.seen(), ["GAP"]);
        let found = format!("{:#}", shell.take_gaps()[0].cause());
        assert!(found.starts_with(cause), "{found}");
        assert_eq!(shell.supervisor.figures().sessions_lost, 1);
    }
}

/// The statistics said that a session was lost, and `last_error` did not know of it yet.
#[test]
fn the_error_of_a_lost_session_is_reported_before_all_that_follows_from_the_loss() {
    let mut shell = Shell::up(lasting());
    shell.command(query("SELECT 1"));
    shell.supervisor.handle_link(shell.now, shell.link, broken(), &mut shell.queue);
    assert_eq!(shell.supervisor.figures().sessions_lost, 1);
    let first = shell.supervisor.poll_action();
    assert!(matches!(first, Some(Action::Tell(Incident::Lost { .. }))), "{first:?}");
    shell.act();
    let log = shell.take_log();
    assert!(log.iter().any(|line| line.starts_with("0: in doubt: ")), "{log:?}");
}

#[test]
fn a_gap_says_when_and_why_and_what_it_took() {
    let mut shell = Shell::up(lasting());
    shell.pass(seconds(100));
    shell.read(&note("1"));
    shell.pass(seconds(10));
    let lost_at = shell.wall();
    shell.event(broken());
    for _ in 0..3 {
        shell.pass_until_due();
        shell.event(broken());
    }
    shell.pass_until_due();
    // An attempt that hangs.
    shell.pass_until_due();
    shell.pass_until_due();
    shell.refused.insert("a".to_owned());
    shell.open();
    shell.pass(seconds(1));
    assert_eq!(shell.seen(), ["1"]);
    shell.serve();
    let restored_at = shell.wall();
    assert_eq!(shell.seen(), ["GAP"]);
    let gap = &shell.take_gaps()[0];
    assert_eq!(format!("{:#}", gap.cause()), "connection: broken");
    assert_eq!((gap.lost_at(), gap.restored_at()), (lost_at, restored_at));
    assert_eq!((gap.attempts(), gap.epoch(), gap.sessions()), (5, 2, 1));
    assert_eq!(gap.refused().len(), 1);
}

#[test]
fn the_gap_comes_after_the_last_listen_and_before_what_arrived_with_it() {
    let mut shell = down();
    shell.command(listen(&["b"]));
    shell.open();
    shell.read(&[LISTEN, &note("1")].concat());
    shell.read(&[LISTEN, &note("2")].concat());
    assert_eq!(shell.seen(), NOTHING);
    assert_eq!(shell.supervisor.state(), State::Reconnecting);
    shell.read(&[READY, &note("3")].concat());
    assert_eq!(shell.seen(), ["GAP", "1", "2", "3"]);
}

#[test]
fn losses_with_nothing_between_are_one_gap() {
    let mut shell = Shell::up(lasting());
    for _ in 0..3 {
        shell.come_back();
        assert_eq!(shell.take_sent(), [r#"LISTEN "a""#]);
    }
    shell.read(&[LISTEN, READY].concat());
    assert_eq!(shell.seen(), ["GAP"]);
    let gap = &shell.take_gaps()[0];
    assert_eq!((gap.sessions(), gap.attempts(), gap.epoch()), (3, 3, 4));
    assert_eq!(shell.supervisor.figures().gaps, 1);
}

#[test]
fn each_gap_names_the_session_of_the_notification_behind_it() {
    let mut shell = down();
    shell.open();
    shell.read(&note("1"));
    shell.event(LinkEvent::Eof);
    shell.reopen();
    shell.read(&note("2"));
    assert_eq!(shell.seen(), NOTHING);
    shell.serve();
    assert_eq!(shell.seen(), ["GAP", "1", "GAP", "2"]);
    let gaps = shell.take_gaps();
    assert_eq!((gaps[0].sessions(), gaps[1].sessions()), (1, 1));
    assert_eq!((gaps[0].epoch(), gaps[1].epoch()), (2, 3));
    assert_eq!(format!("{:#}", gaps[1].cause()), "connection: the server closed the connection");
}

/// However often it does so, memory stays small and nothing is silent.
#[test]
fn a_server_that_flaps_is_told_of_in_a_bounded_number_of_gaps() {
    let mut shell = down();
    shell.queue.capacity = 10_000;
    for _ in 0..200 {
        shell.open();
        shell.read(&note("x"));
        shell.break_and_reopen();
    }
    shell.open();
    shell.serve();
    let gaps = shell.take_gaps();
    assert_eq!(gaps.len(), 64);
    assert_eq!(gaps.iter().map(|gap| gap.sessions()).sum::<u32>(), 201);
    let seen = shell.seen();
    assert_eq!(seen.len(), 264);
    assert_eq!(seen[..4], ["GAP", "x", "GAP", "x"]);
}

#[test]
fn a_dropped_notification_is_a_gap_in_a_session_that_goes_on() {
    let mut shell = Shell::up(lasting());
    shell.read(&[&note("1")[..], ERROR, READY, &note("2")].concat());
    assert_eq!(shell.seen(), ["1", "GAP", "2"]);
    let gap = &shell.take_gaps()[0];
    assert_eq!((gap.sessions(), gap.attempts(), gap.epoch()), (0, 0, 1));
    assert_eq!(gap.lost_at(), gap.restored_at());
    assert!(
        format!("{:#}", gap.cause()).starts_with("server error: the server dropped a notification")
    );
    assert_eq!(shell.take_log(), NOTHING);
}

/// It was shown as soon as the shell came to release what the session before had held back.
#[test]
fn a_session_that_is_lost_in_the_read_that_makes_it_live_holds_back_what_follows() {
    let mut shell = down();
    shell.open();
    assert_eq!(shell.take_sent(), [r#"LISTEN "a""#]);
    shell.read(&[LISTEN, READY, &note("1"), FATAL].concat());
    assert_eq!(shell.seen(), NOTHING);
    shell.reopen();
    shell.read(&note("2"));
    assert_eq!(shell.seen(), NOTHING);
    shell.serve();
    assert_eq!(shell.seen(), ["GAP", "1", "GAP", "2"]);
    let gaps = shell.take_gaps();
    assert_eq!((gaps[0].epoch(), gaps[1].epoch()), (2, 3));
}

/// The first of the two named the session that was lost right behind it, of which nothing was delivered any more.
#[test]
fn two_gaps_with_nothing_between_name_the_session_that_goes_on() {
    let mut shell = Shell::up(lasting());
    shell.read(OLD);
    shell.read(&[&diagnostic(b'E', "ERROR", "58P01"), READY, FATAL].concat());
    shell.reopen();
    shell.serve_all();
    shell.read(&note("1"));
    assert_eq!(shell.seen(), ["GAP", "GAP", "1"]);
    let epochs: Vec<u32> = shell.take_gaps().iter().map(|gap| gap.epoch()).collect();
    assert_eq!(epochs, [2, 2]);
}

/// As Pgpool-II does to an idle client: there were two gaps, and the first spoke of a dropped notification.
#[test]
fn an_error_right_before_the_end_is_one_gap_that_carries_it() {
    for is_old in [false, true] {
        let mut shell = Shell::up(lasting());
        if is_old {
            shell.read(OLD);
        }
        shell.read(&[&note("1"), ERROR].concat());
        shell.event(LinkEvent::Eof);
        shell.reopen();
        shell.serve_all();
        shell.read(&note("2"));
        assert_eq!(shell.seen(), ["1", "GAP", "2"]);
        let [gap] = &shell.queue.gaps[..] else { panic!("{:?}", shell.queue.gaps) };
        assert_eq!((gap.sessions(), gap.cause().sqlstate()), (1, Some("42501")), "{gap}");
        assert!(!format!("{:#}", gap.cause()).contains("dropped"), "{gap}");
    }
}

/// A gap is counted when it is put into the stream. Losses before that, in one place, are one gap.
#[test]
fn gaps_are_counted_as_they_are_put_into_the_stream() {
    let mut shell = down();
    shell.come_back();
    shell.come_back();
    shell.serve_all();
    let figures = shell.supervisor.figures();
    assert_eq!((figures.sessions_lost, figures.gaps), (2, 1));
    assert_eq!(shell.take_gaps()[0].sessions(), 2);
    // The consumer may have taken the first one or not: if not, it gets both as one.
    shell.come_back();
    shell.serve_all();
    let figures = shell.supervisor.figures();
    assert_eq!((figures.sessions_lost, figures.gaps), (3, 2));
}
