//! Closing a listener in every state.

use super::*;

const CLOSED: &str = "closed: the connection was closed";

#[test]
fn a_close_before_the_socket_is_open_is_done_at_once() {
    let mut driver = TestDriver::new(policy());
    driver.command(listen(&["b"]));
    driver.command(Command::Close);
    assert_eq!(driver.take_log(), ["0: Pending", "close 1 Abort", "Closed", "done"]);
    // The socket is opened after that.
    driver.event(LinkEvent::Opened(session(driver.now)));
    assert_eq!(driver.take_log(), [""; 0]);
    assert_eq!(driver.take_sent(), [""; 0]);
}

/// In every state with a socket: only Terminate is sent, every command is answered at once, and the listener ends
/// when the link is closed, or after two seconds.
#[test]
fn a_close_ends_in_time_and_answers_every_command_in_every_state() {
    let sasl = b"R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0";
    let first = b"R\0\0\0\x3f\0\0\0\x0br=BwcHBwcHBwcHBwcHBwcHBwcHx,s=c2FsdA==,i=100000";
    let first = [&first[..1], &u32::try_from(first.len() - 1).unwrap().to_be_bytes(), &first[5..]];
    let first = first.concat();
    type Stage<'a> = (&'a str, Box<dyn Fn() -> TestDriver>, &'a [&'a str], &'a [&'a str]);
    let in_doubt = "in doubt: the connection was lost before the server answered, and the query may \
                    have been carried out";
    let not_rolled_back = format!("0: {NOT_ROLLED_BACK}: {CLOSED}");
    let stages: [Stage<'_>; 8] = [
        ("logging in", Box::new(|| TestDriver::opened(policy())), &["startup"], &[]),
        (
            "computing",
            Box::new(move || {
                let mut driver = TestDriver::opened(policy());
                driver.read(sasl);
                driver.read(&first);
                assert!(driver.supervisor.is_computing());
                driver.input().compute();
                driver
            }),
            &["startup", "PasswordMessage"],
            &[],
        ),
        (
            "restoring",
            Box::new(|| {
                let mut driver = TestDriver::opened(policy());
                driver.read(PRELUDE);
                driver
            }),
            &["startup", r#"LISTEN "a""#, "Terminate"],
            &[],
        ),
        ("connected", Box::new(|| TestDriver::connected(policy())), &["Terminate"], &[]),
        (
            "stalled",
            Box::new(|| {
                let mut driver = TestDriver::connected(policy());
                driver.read(&A1.repeat(6));
                driver
            }),
            &["Terminate"],
            &["read 1 true"],
        ),
        (
            "LISTEN in flight",
            Box::new(|| {
                let mut driver = TestDriver::connected(policy());
                driver.command(listen(&["b"]));
                driver
            }),
            &[r#"LISTEN "b""#, "Terminate"],
            &["0: closed: the connection was closed"],
        ),
        (
            "query in flight, more behind it",
            Box::new(|| {
                let mut driver = TestDriver::connected(policy());
                driver.command(query("SELECT 1"));
                driver.command(listen(&["b"]));
                driver.command(query("SELECT 2"));
                driver
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
                let mut driver = TestDriver::connected(policy());
                driver.command(query("BEGIN"));
                driver.read(&[SELECT, IN_TRANSACTION].concat());
                driver
            }),
            &["BEGIN", "ROLLBACK", "Terminate"],
            &[&not_rolled_back],
        ),
    ];
    for (stage, begin, sent, answers) in stages {
        for end in ["closed", "eof", "broken", "time"] {
            let mut driver = begin();
            driver.take_log();
            let taken = driver.supervisor.sink.taken;
            driver.command(Command::Close);
            let mut expect: Vec<String> = answers
                .iter()
                .map(|line| line.replace("IN DOUBT", &format!("{in_doubt}: {CLOSED}")))
                .collect();
            expect.push("close 1 Graceful".into());
            assert_eq!(driver.take_log(), expect, "{stage}");
            assert_eq!(driver.take_sent(), sent, "{stage}");
            assert_eq!(
                driver.supervisor.poll_timeout(),
                Some(driver.now + Duration::from_secs(2)),
                "{stage}"
            );
            // If there was a session, notifications that the server sends before it reads Terminate are still delivered.
            let before = driver.supervisor.sink.taken;
            assert_eq!(before - taken, if stage == "stalled" { 2 } else { 0 }, "{stage}");
            driver.read(&[LISTEN, READY, A1, A1].concat());
            assert!(driver.wire().input.is_empty());
            let is_up = sent.last() == Some(&"Terminate");
            assert_eq!(driver.supervisor.sink.taken - before, if is_up { 2 } else { 0 }, "{stage}");
            // A second close changes nothing.
            driver.command(Command::Close);
            driver.command(listen(&["x"]));
            let late = driver.take_log();
            assert!(late.len() == 1 && late[0].ends_with(OVER), "{stage}: {late:?}");
            driver.pass(Duration::from_millis(1_999));
            match end {
                "closed" => driver.event(LinkEvent::Closed),
                "eof" => driver.event(LinkEvent::Eof),
                "broken" => driver.event(LinkEvent::Failed(Error::new(ErrorKind::Connect, "x"))),
                _ => driver.pass_until_due(),
            }
            assert_eq!(driver.take_log(), ["close 1 Abort", "Closed", "done"], "{stage}, {end}");
            assert_eq!(driver.supervisor.poll_timeout(), None);
            assert!(driver.supervisor.transmit(driver.link).is_none());
        }
    }
}

fn payloads(texts: &[&str]) -> Vec<u8> {
    texts.iter().flat_map(|text| notification(text)).collect()
}

/// The queue has four slots.
#[test]
fn a_stalled_listener_that_is_closed_delivers_what_it_has_read() {
    let mut driver = TestDriver::up(lasting());
    driver.read(&[payloads(&["1", "2", "3", "4", "5", "6"]), notification("7")].concat());
    // Another run follows an answer.
    driver.read(&[message(b'S', b"TimeZone\0UTC\0"), notification("8")].concat());
    assert_eq!(driver.seen(), ["1", "2", "3", "4"]);
    driver.command(Command::Close);
    assert_eq!(driver.take_log(), ["read 1 false", "read 1 true", "close 1 Graceful"]);
    assert_eq!(driver.seen(), ["5", "6", "7", "8"]);
    // The server sends more notifications until it has read Terminate.
    driver.read(&payloads(&["9", "10"]));
    assert_eq!(driver.seen(), ["9", "10"]);
    assert_eq!((driver.supervisor.sink.taken, driver.supervisor.sink.lost), (10, 0));
    assert_eq!(driver.supervisor.sink.last_stamp().epoch, 1);
    assert_eq!(driver.supervisor.counters().received, 10);
    driver.event(LinkEvent::Eof);
    assert_eq!(driver.take_log(), ["close 1 Abort", "Closed", "done"]);
}

#[test]
fn a_drain_that_times_out_delivers_what_was_read_during_a_stall() {
    let mut driver = TestDriver::up(lasting());
    driver.command(query("SELECT 1"));
    driver.command(Command::Drain { timeout: Duration::from_secs(3) });
    // The answer to the query never comes.
    driver.read(&payloads(&["1", "2", "3", "4", "5", "6"]));
    driver.pass(Duration::from_secs(3));
    driver.read(&notification("7"));
    assert_eq!(driver.seen(), ["1", "2", "3", "4", "5", "6", "7"]);
    assert_eq!(driver.supervisor.sink.lost, 0);
}

/// The answer to a query of a closed listener is not waited for, even if much data comes before it.
#[test]
fn answers_after_a_close_are_discarded() {
    let mut driver = TestDriver::up(lasting());
    driver.command(query("SELECT 1"));
    driver.read(&notification("1"));
    driver.command(Command::Close);
    let taken = driver.take_log().len();
    driver.read(
        &[&row(&[Some("x")])[..], READY, &notification("2"), FATAL, &notification("3")].concat(),
    );
    assert_eq!(driver.take_log(), NOTHING);
    assert_eq!((taken, driver.seen()), (2, vec!["1".into(), "2".into(), "3".into()]));
    // A malformed message ends the reading, but not the timeout of a clean close.
    driver.read(&[&b"\xff"[..], &notification("4")].concat());
    assert_eq!(driver.take_log(), NOTHING);
    assert_eq!(driver.seen(), NOTHING);
    driver.event(LinkEvent::Eof);
    assert_eq!(driver.take_log(), ["close 1 Abort", "Closed", "done"]);
    // Notifications may have been among the bytes that were discarded.
    assert_eq!(driver.seen(), ["GAP"]);
    let cause = driver.take_gaps()[0].cause().clone();
    assert_eq!(cause.kind(), ErrorKind::Protocol, "{cause}");
}

/// An earlier version discarded notifications after one that is not UTF-8, and reported no gap.
#[test]
fn what_follows_a_malformed_notification_during_a_close_is_a_gap() {
    let mut driver = TestDriver::up(lasting());
    driver.command(Command::Close);
    let malformed = b"A\0\0\0\x0c\0\0\0\x01a\0\xe9\0";
    driver.read(&[&notification("1")[..], malformed, &notification("2")].concat());
    driver.event(LinkEvent::Eof);
    assert_eq!(driver.seen(), ["1", "GAP"]);
}

/// Returns a driver whose handover is at this step. The old session is link 1, the new one link 2. Both streams contain
/// `1`, `2`, the fence notification and `3`; `1` has arrived on both.
fn handover(step: &str) -> TestDriver {
    let mut driver = TestDriver::up(lasting());
    driver.supervisor.sink.capacity = 100;
    driver.command(Command::Rotate);
    if step == "opening" {
        driver.on(1).read(&notification("1"));
        return driver;
    }
    driver.on(2).open();
    if step == "preparing" {
        driver.on(1).read(&notification("1"));
        return driver;
    }
    driver.on(1).serve();
    if step == "alone" {
        driver.on(1).read(&notification("1"));
        driver.event(broken());
        return driver;
    }
    driver.on(2).serve();
    assert_eq!(driver.serve(), ["notify"]);
    let fence = driver.fence();
    driver.on(1).read(&notification("1"));
    driver.on(2).read(&notification("1"));
    match step {
        "fenced" => {}
        "the new one has come to it" => driver.on(2).read(&[notification("2"), fence].concat()),
        "following" => driver.on(1).read(&[notification("2"), fence].concat()),
        "the old one is lost" => driver.on(1).event(broken()),
        "forgetting" => driver.on(2).event(broken()),
        _ => {
            driver.on(1).read(&[notification("2"), fence.clone()].concat());
            driver.on(2).read(&[notification("2"), fence].concat());
        }
    }
    driver
}

/// At every step of a handover, what arrives after `close` is delivered once, without the fence notification.
#[test]
fn a_handover_that_is_closed_delivers_the_rest_once_and_without_the_fence() {
    for (step, link, rest, expect) in [
        ("opening", 1, "2 3", "1 2 3"),
        ("preparing", 1, "2 3", "1 2 3"),
        // It is not known which of them the old session has delivered, so its gap covers all of them.
        ("alone", 2, "1 2 3", "1 GAP"),
        ("fenced", 1, "2 fence 3", "1 2 3"),
        ("the new one has come to it", 1, "2 fence 3", "1 2 3"),
        ("following", 2, "2 fence 3 4", "1 2 3 4"),
        ("the old one is lost", 2, "2 fence 3 4", "1 GAP 3 4"),
        ("forgetting", 1, "2 fence 3 fence 4", "1 2 3 4"),
        ("done", 2, "3 4", "1 2 3 4"),
    ] {
        for split in [false, true] {
            let mut driver = handover(step);
            let fence = driver.fence();
            driver.command(Command::Close);
            let log = driver.take_log();
            assert!(log.contains(&format!("close {link} Graceful")), "{step}: {log:?}");
            driver.on(link);
            let stream: Vec<Vec<u8>> = rest
                .split(' ')
                .map(|word| if word == "fence" { fence.clone() } else { notification(word) })
                .collect();
            match split {
                true => stream.iter().for_each(|bytes| driver.read(bytes)),
                false => driver.read(&stream.concat()),
            }
            assert_eq!(driver.seen().join(" "), expect, "{step}");
            assert_eq!(driver.supervisor.sink.lost, 0, "{step}");
            driver.event(LinkEvent::Eof);
            assert_eq!(driver.take_log().last().unwrap(), "done", "{step}");
        }
    }
}

/// What was read from the new session is not delivered: the old one brings it, or a gap covers it.
#[test]
fn a_close_during_a_handover_is_a_gap_when_the_old_session_does_not_bring_what_the_new_one_has() {
    for (rest, expect) in [
        ("2 fence 3 4", "1 2 3 4"),
        ("2 fence 3 4 5", "1 2 3 4 5"),
        ("2 fence 3", "1 2 3 GAP"),
        ("2 fence", "1 2 GAP"),
        ("2", "1 2 GAP"),
        // Another client may send to the private channel.
        ("2 forged 3 4", "1 2 3 4 GAP"),
    ] {
        for end in ["eof", "time", "drop"] {
            let mut driver = handover("fenced");
            let fence = driver.fence();
            let channel = driver.private.clone();
            let stream = |words: &str| -> Vec<u8> {
                let bytes = words.split(' ').flat_map(|word| match word {
                    "fence" => fence.clone(),
                    "forged" => notification_on(&channel, "x"),
                    word => notification(word),
                });
                bytes.collect()
            };
            driver.on(2).read(&[stream("2 fence 3"), notified(), stream("4")].concat());
            assert_eq!(driver.take_log().last().unwrap(), "read 2 false");
            driver.command(Command::Close);
            driver.on(1).read(&stream(rest));
            match end {
                "eof" => driver.event(LinkEvent::Eof),
                "time" => driver.pass_until_due(),
                _ => {
                    driver.input().finish(Ok(()));
                    driver.act();
                }
            }
            assert_eq!(driver.take_log().last().unwrap(), "done", "{rest}, {end}");
            assert_eq!(driver.seen().join(" "), expect, "{rest}, {end}");
            for gap in driver.take_gaps() {
                assert_eq!(gap.sessions(), 0);
                assert!(format!("{:#}", gap.cause()).contains("during a handover"), "{gap}");
            }
        }
    }
}

/// The new session brings everything that the old one still sends.
#[test]
fn an_old_session_delivers_nothing_after_a_close() {
    let mut driver = handover("done");
    driver.command(Command::Close);
    driver.on(1).read(&notification("3"));
    driver.on(2).read(&notification("3"));
    assert_eq!(driver.seen(), ["1", "2", "3"]);
}

#[test]
fn closing_twice_or_after_the_end_is_done_once() {
    let mut driver = TestDriver::connected(policy());
    driver.read(FATAL);
    assert_eq!(driver.take_log().last().unwrap(), &format!("done: {ENDED}"));
    driver.command(Command::Close);
    driver.pass(Duration::from_secs(60));
    assert_eq!(driver.take_log(), [""; 0]);
}

#[test]
fn a_listen_in_flight_at_the_end_of_a_listener_that_reconnects_has_failed() {
    let ends: [fn(&mut TestDriver); 2] = [
        |driver| driver.command(Command::Close),
        |driver| {
            driver.input().finish(Ok(()));
            driver.act();
        },
    ];
    for end in ends {
        let mut driver = TestDriver::up(lasting());
        driver.command(listen(&["b"]));
        end(&mut driver);
        let reply = driver.first_reply();
        assert!(reply.starts_with("0: closed: "), "{reply}");
    }
}
