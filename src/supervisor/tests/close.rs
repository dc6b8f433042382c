//! The end that was asked for, at every stage.

use super::*;

const CLOSED: &str = "closed: the connection was closed";

#[test]
fn closing_before_the_socket_is_open_is_done_at_once() {
    let mut shell = Shell::new(policy());
    shell.command(listen(&["b"]));
    shell.command(Command::Close);
    assert_eq!(shell.take_log(), ["0: Pending", "close 1 Abort", "Closed", "done"]);
    // The socket opens all the same.
    shell.event(LinkEvent::Opened(session(shell.now)));
    assert_eq!(shell.take_log(), [""; 0]);
    assert_eq!(shell.take_sent(), [""; 0]);
}

/// Every stage with a socket: nothing is sent but Terminate, every command is answered at once, and the
/// end comes when the link is closed, or after two seconds.
#[test]
fn closing_is_bounded_and_answers_every_command_at_every_stage() {
    let sasl = b"R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0";
    let first = b"R\0\0\0\x3f\0\0\0\x0br=BwcHBwcHBwcHBwcHBwcHBwcHx,s=c2FsdA==,i=100000";
    let first = [&first[..1], &u32::try_from(first.len() - 1).unwrap().to_be_bytes(), &first[5..]];
    let first = first.concat();
    type Stage<'a> = (&'a str, Box<dyn Fn() -> Shell>, &'a [&'a str], &'a [&'a str]);
    let in_doubt = "in doubt: the connection was lost before the server answered, it may have \
                    carried out the query";
    let stages: [Stage<'_>; 8] = [
        ("logging in", Box::new(|| Shell::opened(policy())), &["startup"], &[]),
        (
            "computing",
            Box::new(move || {
                let mut shell = Shell::opened(policy());
                shell.read(sasl);
                shell.read(&first);
                assert!(shell.supervisor.is_computing());
                shell.supervisor.compute(shell.now, &mut shell.queue);
                shell
            }),
            &["startup", "PasswordMessage"],
            &[],
        ),
        (
            "subscribing",
            Box::new(|| {
                let mut shell = Shell::opened(policy());
                shell.read(PRELUDE);
                shell
            }),
            &["startup", r#"LISTEN "a""#, "Terminate"],
            &[],
        ),
        ("connected", Box::new(|| Shell::connected(policy())), &["Terminate"], &[]),
        (
            "stalled",
            Box::new(|| {
                let mut shell = Shell::connected(policy());
                shell.read(&A1.repeat(6));
                shell
            }),
            &["Terminate"],
            &["read 1 true"],
        ),
        (
            "LISTEN in flight",
            Box::new(|| {
                let mut shell = Shell::connected(policy());
                shell.command(listen(&["b"]));
                shell
            }),
            &[r#"LISTEN "b""#, "Terminate"],
            &["0: closed: the connection was closed"],
        ),
        (
            "query in flight, more behind it",
            Box::new(|| {
                let mut shell = Shell::connected(policy());
                shell.command(query("SELECT 1"));
                shell.command(listen(&["b"]));
                shell.command(query("SELECT 2"));
                shell
            }),
            &["SELECT 1", "Terminate"],
            &[
                "0: IN DOUBT",
                "1: closed: the listener is closed",
                "2: closed: the listener is closed",
            ],
        ),
        (
            "rolling back",
            Box::new(|| {
                let mut shell = Shell::connected(policy());
                shell.command(query("BEGIN"));
                shell.read(&[SELECT, IN_TRANSACTION].concat());
                shell
            }),
            &["BEGIN", "ROLLBACK", "Terminate"],
            &["0: IN DOUBT"],
        ),
    ];
    for (stage, begin, sent, answers) in stages {
        for end in ["closed", "eof", "broken", "time"] {
            let mut shell = begin();
            shell.take_log();
            let taken = shell.queue.taken;
            shell.command(Command::Close);
            let mut expect: Vec<String> = answers
                .iter()
                .map(|line| line.replace("IN DOUBT", &format!("{in_doubt}: {CLOSED}")))
                .collect();
            expect.push("close 1 Graceful".into());
            assert_eq!(shell.take_log(), expect, "{stage}");
            assert_eq!(shell.take_sent(), sent, "{stage}");
            assert_eq!(
                shell.supervisor.poll_timeout(),
                Some(shell.now + Duration::from_secs(2)),
                "{stage}"
            );
            // Nothing is delivered or taken any more, and a second close changes nothing.
            let before = shell.queue.taken;
            shell.read(&[LISTEN, READY, A1, A1].concat());
            assert!(shell.wire().input.is_empty());
            assert_eq!(shell.queue.taken, before);
            assert!(before == taken || stage == "stalled");
            shell.command(Command::Close);
            shell.command(listen(&["x"]));
            let late = shell.take_log();
            assert!(late.len() == 1 && late[0].ends_with(OVER), "{stage}: {late:?}");
            shell.pass(Duration::from_millis(1_999));
            match end {
                "closed" => shell.event(LinkEvent::Closed),
                "eof" => shell.event(LinkEvent::Eof),
                "broken" => shell.event(LinkEvent::Failed(Error::new(ErrorKind::Connect, "x"))),
                _ => shell.pass_until_due(),
            }
            assert_eq!(shell.take_log(), ["close 1 Abort", "Closed", "done"], "{stage}, {end}");
            assert_eq!(shell.supervisor.poll_timeout(), None);
            assert!(shell.supervisor.transmit(shell.link).is_none());
        }
    }
}

#[test]
fn closing_twice_or_after_the_end_is_done_once() {
    let mut shell = Shell::connected(policy());
    shell.read(FATAL);
    assert_eq!(shell.take_log().last().unwrap(), &format!("done: {ENDED}"));
    shell.command(Command::Close);
    shell.pass(Duration::from_secs(60));
    assert_eq!(shell.take_log(), [""; 0]);
}
