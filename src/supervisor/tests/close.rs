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
    let not_rolled_back = format!("0: {NOT_ROLLED_BACK}: {CLOSED}");
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
            &[&not_rolled_back],
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
            // What was notified before the server knows of it still comes, once there was a session.
            let before = shell.queue.taken;
            assert_eq!(before - taken, if stage == "stalled" { 2 } else { 0 }, "{stage}");
            shell.read(&[LISTEN, READY, A1, A1].concat());
            assert!(shell.wire().input.is_empty());
            let is_up = sent.last() == Some(&"Terminate");
            assert_eq!(shell.queue.taken - before, if is_up { 2 } else { 0 }, "{stage}");
            // A second close changes nothing.
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

fn payloads(texts: &[&str]) -> Vec<u8> {
    texts.iter().flat_map(|text| note(text)).collect()
}

/// The queue holds four.
#[test]
fn a_stalled_listener_that_is_closed_delivers_what_it_has_read() {
    let mut shell = Shell::up(lasting());
    shell.read(&[payloads(&["1", "2", "3", "4", "5", "6"]), note("7")].concat());
    // Behind an answer, another run.
    shell.read(&[message(b'S', b"TimeZone\0UTC\0"), note("8")].concat());
    assert_eq!(shell.seen(), ["1", "2", "3", "4"]);
    shell.command(Command::Close);
    assert_eq!(shell.take_log(), ["read 1 false", "read 1 true", "close 1 Graceful"]);
    assert_eq!(shell.seen(), ["5", "6", "7", "8"]);
    // Until the server has read Terminate it sends more.
    shell.read(&payloads(&["9", "10"]));
    assert_eq!(shell.seen(), ["9", "10"]);
    assert_eq!((shell.queue.taken, shell.queue.lost), (10, 0));
    assert_eq!(shell.queue.last_stamp().epoch, 1);
    assert_eq!(shell.supervisor.figures().received, 10);
    shell.event(LinkEvent::Eof);
    assert_eq!(shell.take_log(), ["close 1 Abort", "Closed", "done"]);
}

#[test]
fn a_drain_that_takes_too_long_delivers_what_a_stall_has_left() {
    let mut shell = Shell::up(lasting());
    shell.command(query("SELECT 1"));
    shell.command(Command::Drain { within: Duration::from_secs(3) });
    // The answer to the query never comes.
    shell.read(&payloads(&["1", "2", "3", "4", "5", "6"]));
    shell.pass(Duration::from_secs(3));
    shell.read(&note("7"));
    assert_eq!(shell.seen(), ["1", "2", "3", "4", "5", "6", "7"]);
    assert_eq!(shell.queue.lost, 0);
}

/// A query that the user has given up is not waited for, however much comes before its answer.
#[test]
fn answers_behind_a_close_are_answers_to_nobody() {
    let mut shell = Shell::up(lasting());
    shell.command(query("SELECT 1"));
    shell.read(&note("1"));
    shell.command(Command::Close);
    let taken = shell.take_log().len();
    shell.read(&[&row(&[Some("x")])[..], READY, &note("2"), FATAL, &note("3")].concat());
    assert_eq!(shell.take_log(), NOTHING);
    assert_eq!((taken, shell.seen()), (2, vec!["1".into(), "2".into(), "3".into()]));
    // What is malformed ends what is read, and not the time for a clean end.
    shell.read(&[&b"\xff"[..], &note("4")].concat());
    assert_eq!(shell.take_log(), NOTHING);
    assert_eq!(shell.seen(), NOTHING);
    shell.event(LinkEvent::Eof);
    assert_eq!(shell.take_log(), ["close 1 Abort", "Closed", "done"]);
}

/// A handover that has come to each of its steps. The old session is link 1, the new one link 2; both streams have
/// `1`, `2`, the fence, `3`, and `1` has arrived on both.
fn handover(step: &str) -> Shell {
    let mut shell = Shell::up(lasting());
    shell.queue.capacity = 100;
    shell.command(Command::Rotate);
    if step == "opening" {
        shell.on(1).read(&note("1"));
        return shell;
    }
    shell.on(2).open();
    if step == "preparing" {
        shell.on(1).read(&note("1"));
        return shell;
    }
    shell.on(1).serve();
    if step == "alone" {
        shell.on(1).read(&note("1"));
        shell.event(broken());
        return shell;
    }
    shell.on(2).serve();
    assert_eq!(shell.serve(), ["notify"]);
    let fence = shell.fence();
    shell.on(1).read(&note("1"));
    shell.on(2).read(&note("1"));
    match step {
        "fenced" => {}
        "the new one has come to it" => shell.on(2).read(&[note("2"), fence].concat()),
        "following" => shell.on(1).read(&[note("2"), fence].concat()),
        "the old one is lost" => shell.on(1).event(broken()),
        "forgetting" => shell.on(2).event(broken()),
        _ => {
            shell.on(1).read(&[note("2"), fence.clone()].concat());
            shell.on(2).read(&[note("2"), fence].concat());
        }
    }
    shell
}

/// Wherever a handover stands, what comes after `close` arrives once, and nothing of the handover's own does.
#[test]
fn a_handover_that_is_closed_delivers_the_rest_once_and_without_the_fence() {
    for (step, link, rest, expect) in [
        ("opening", 1, "2 3", "1 2 3"),
        ("preparing", 1, "2 3", "1 2 3"),
        // Which of them the old one has delivered is not known: its gap stands for all of them.
        ("alone", 2, "1 2 3", "1 GAP"),
        ("fenced", 1, "2 fence 3", "1 2 3"),
        ("the new one has come to it", 1, "2 fence 3", "1 2 3"),
        ("following", 2, "2 fence 3 4", "1 2 3 4"),
        ("the old one is lost", 2, "2 fence 3 4", "1 GAP 3 4"),
        ("forgetting", 1, "2 fence 3 fence 4", "1 2 3 4"),
        ("done", 2, "3 4", "1 2 3 4"),
    ] {
        for split in [false, true] {
            let mut shell = handover(step);
            let fence = shell.fence();
            shell.command(Command::Close);
            let log = shell.take_log();
            assert!(log.contains(&format!("close {link} Graceful")), "{step}: {log:?}");
            shell.on(link);
            let stream: Vec<Vec<u8>> = rest
                .split(' ')
                .map(|word| if word == "fence" { fence.clone() } else { note(word) })
                .collect();
            match split {
                true => stream.iter().for_each(|bytes| shell.read(bytes)),
                false => shell.read(&stream.concat()),
            }
            assert_eq!(shell.seen().join(" "), expect, "{step}");
            assert_eq!(shell.queue.lost, 0, "{step}");
            shell.event(LinkEvent::Eof);
            assert_eq!(shell.take_log().last().unwrap(), "done", "{step}");
        }
    }
}

/// What was read of the new one is not delivered: the old one brings it, or a gap stands for it.
#[test]
fn a_close_during_a_handover_is_a_gap_when_the_old_session_does_not_bring_what_the_new_one_has() {
    for (rest, expect) in [
        ("2 fence 3 4", "1 2 3 4"),
        ("2 fence 3 4 5", "1 2 3 4 5"),
        ("2 fence 3", "1 2 3 GAP"),
        ("2 fence", "1 2 GAP"),
        ("2", "1 2 GAP"),
        // Anyone may send to a channel.
        ("2 forged 3 4", "1 2 3 4 GAP"),
    ] {
        for end in ["eof", "time", "drop"] {
            let mut shell = handover("fenced");
            let fence = shell.fence();
            let channel = shell.private.clone();
            let stream = |words: &str| -> Vec<u8> {
                let bytes = words.split(' ').flat_map(|word| match word {
                    "fence" => fence.clone(),
                    "forged" => note_on(&channel, "x"),
                    word => note(word),
                });
                bytes.collect()
            };
            shell.on(2).read(&[stream("2 fence 3"), notified(), stream("4")].concat());
            assert_eq!(shell.take_log().last().unwrap(), "read 2 false");
            shell.command(Command::Close);
            shell.on(1).read(&stream(rest));
            match end {
                "eof" => shell.event(LinkEvent::Eof),
                "time" => shell.pass_until_due(),
                _ => {
                    shell.supervisor.finish(Ok(()));
                    shell.act();
                }
            }
            assert_eq!(shell.take_log().last().unwrap(), "done", "{rest}, {end}");
            assert_eq!(shell.seen().join(" "), expect, "{rest}, {end}");
            for gap in shell.take_gaps() {
                assert_eq!(gap.sessions(), 0);
                assert!(format!("{:#}", gap.cause()).contains("during a handover"), "{gap}");
            }
        }
    }
}

/// It was replaced: all that it still says comes from its successor.
#[test]
fn an_old_session_delivers_nothing_after_a_close() {
    let mut shell = handover("done");
    shell.command(Command::Close);
    shell.on(1).read(&note("3"));
    shell.on(2).read(&note("3"));
    assert_eq!(shell.seen(), ["1", "2", "3"]);
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
