//! Another session takes the place of the current one, and nobody notices.

use super::*;

/// The new socket is to be opened.
fn begun(policy: Policy) -> Shell {
    let mut shell = Shell::up(policy);
    shell.queue.capacity = 100;
    shell.command(Command::Rotate);
    assert_eq!(shell.take_log(), ["open 2", "0: Rotating"]);
    shell
}

/// The fence was sent, and carried out.
fn fenced() -> Shell {
    let mut shell = begun(lasting());
    shell.open();
    shell.on(1).serve();
    shell.on(2).serve();
    assert_eq!(shell.serve(), ["notify"]);
    shell
}

/// Both came to the fence.
fn handed_over() -> Shell {
    let mut shell = fenced();
    let fence = shell.fence();
    shell.on(1).read(&fence);
    shell.on(2).read(&fence);
    shell
}

fn payloads(texts: &[&str]) -> Vec<u8> {
    texts.iter().flat_map(|text| note(text)).collect()
}

#[test]
fn the_new_session_listens_to_everything_before_the_old_one_is_left() {
    let mut shell = begun(Policy { channels: vec!["a".into(), "b".into()], ..lasting() });
    assert_eq!(shell.on(1).take_sent(), NOTHING);
    shell.on(2).open();
    assert_eq!(shell.on(1).serve(), [r#"LISTEN "private""#, "proof"]);
    assert_eq!(shell.private.len(), "pgbell_".len() + 32);
    // Not before the new one listens to all.
    assert_eq!(shell.on(2).take_sent(), [r#"LISTEN "a";LISTEN "b""#, r#"LISTEN "private""#]);
    shell.read(&[LISTEN, LISTEN, READY].concat());
    assert_eq!(shell.take_sent(), NOTHING);
    shell.read(&[LISTEN, READY].concat());
    assert_eq!(shell.take_sent(), ["notify"]);
    assert_eq!(shell.take_log(), NOTHING);
    let fence = shell.fence();
    shell.read(&[note("x"), fence.clone(), notified()].concat());
    assert_eq!(shell.take_log(), ["read 2 false"]);
    assert_eq!(shell.on(1).take_sent(), NOTHING);
    shell.read(&[note("x"), fence].concat());
    assert_eq!(shell.take_log(), ["close 1 Graceful", "read 2 true"]);
    assert_eq!(shell.take_sent(), ["Terminate"]);
    assert_eq!(shell.on(2).take_sent(), [r#"UNLISTEN "private""#]);
    assert!(matches!(
        shell.told[..],
        [Incident::HandedOver { epoch: 2 }, Incident::Established { epoch: 2, .. }]
    ));
    assert_eq!(shell.supervisor.figures().handovers, 1);
    assert_eq!((shell.supervisor.epoch(), shell.supervisor.state()), (2, State::Connected));
    assert_eq!(shell.seen(), ["x"]);
    // The old one ends cleanly.
    shell.on(1).event(LinkEvent::Closed);
    assert_eq!(shell.take_log(), ["close 1 Abort"]);
}

#[test]
fn equal_payloads_on_both_sides_of_the_fence_arrive_once_each() {
    for old_first in [true, false] {
        let mut shell = fenced();
        let fence = shell.fence();
        let stream = [payloads(&["x", "x"]), fence, payloads(&["x", "y"])].concat();
        let links = if old_first { [1, 2] } else { [2, 1] };
        for link in links {
            shell.on(link).read(&stream);
        }
        assert_eq!(shell.seen(), ["x", "x", "x", "y"]);
        shell.read(&payloads(&["z"]));
        shell.on(1).read(&payloads(&["x", "y"]));
        shell.on(2).serve();
        assert_eq!(shell.queue.gaps.len(), 0);
        shell.read(&payloads(&["w"]));
        let more = if old_first { vec!["z", "w"] } else { vec!["w"] };
        assert_eq!(shell.seen(), more);
    }
}

#[test]
fn what_stands_before_the_fence_is_discarded_after_the_old_session_has_come_to_it() {
    let mut shell = fenced();
    let fence = shell.fence();
    shell.on(2).read(&payloads(&["1"]));
    shell.on(1).read(&[payloads(&["1", "2"]), fence.clone(), payloads(&["3"])].concat());
    assert_eq!(shell.seen(), ["1", "2"]);
    assert_eq!(shell.take_log(), ["close 1 Graceful", "read 2 true"]);
    // Not handed over before.
    assert_eq!(shell.told.len(), 0);
    shell.on(2).read(&payloads(&["2"]));
    assert_eq!(shell.seen(), NOTHING);
    shell.read(&[fence, payloads(&["3"])].concat());
    assert_eq!(shell.seen(), ["3"]);
    assert_eq!(shell.supervisor.figures().handovers, 1);
}

#[test]
fn a_handover_works_however_the_bytes_come() {
    let mut shell = begun(lasting());
    shell.open();
    let slowly = |shell: &mut Shell, link: u32, bytes: &[u8]| {
        for byte in bytes {
            shell.on(link).read(std::slice::from_ref(byte));
        }
    };
    for link in [1, 2, 2] {
        for line in shell.on(link).take_sent() {
            let answer = shell.on(link).answer(&line);
            slowly(&mut shell, link, &answer);
        }
    }
    let fence = shell.fence();
    let stream = [payloads(&["1"]), fence, payloads(&["2"])].concat();
    slowly(&mut shell, 2, &stream);
    slowly(&mut shell, 1, &stream);
    assert_eq!(shell.seen(), ["1", "2"]);
}

#[test]
fn commands_wait_for_the_end_of_a_handover() {
    let mut shell = begun(lasting());
    // While the socket is opened the old session is there for them.
    shell.command(listen(&["b"]));
    assert_eq!(shell.on(1).serve(), [r#"LISTEN "b""#]);
    shell.command(query("SELECT 1"));
    shell.on(2).open();
    shell.command(listen(&["c"]));
    // The one that runs comes first.
    assert_eq!(shell.on(1).serve(), ["SELECT 1"]);
    assert_eq!(shell.take_log(), ["1: Active", "2: 1 results"]);
    shell.on(1).serve();
    shell.command(unlisten(&["a"]));
    assert_eq!(shell.on(2).serve(), [r#"LISTEN "a";LISTEN "b""#, r#"LISTEN "private""#]);
    shell.serve();
    let fence = shell.fence();
    shell.on(2).read(&fence);
    shell.on(1).read(&fence);
    assert_eq!(shell.on(2).serve(), [r#"UNLISTEN "private""#, r#"LISTEN "c""#, r#"UNLISTEN "a""#]);
    assert_eq!(shell.take_log()[3..], ["3: Active", "4: Unlistened"]);
    assert_eq!(shell.channels(), ["b Active", "c Active"]);
}

#[test]
fn rotating_without_a_live_session_is_done_by_the_next_one() {
    let mut shell = Shell::up(lasting());
    shell.event(broken());
    shell.command(Command::Rotate);
    assert_eq!(shell.take_log(), ["close 1 Abort", "Reconnecting", "0: Rotating"]);
    shell.reopen();
    shell.serve();
    assert_eq!(shell.take_log(), ["open 2", "Connected"]);
    assert!(shell.supervisor.poll_timeout().is_none());
}

/// The whole of a handover to the session that is being opened.
fn exchange(shell: &mut Shell, old: u32) {
    shell.on(old + 1).open();
    shell.on(old).serve();
    shell.on(old + 1).serve();
    shell.serve();
    let fence = shell.fence();
    shell.read(&fence);
    shell.on(old).read(&fence);
    shell.event(LinkEvent::Closed);
    shell.on(old + 1).serve_all();
    shell.take_log();
}

/// The attempt may have read the password that was changed since: it was answered with "rotating", and forgotten.
#[test]
fn rotating_during_an_attempt_replaces_the_session_that_comes_of_it() {
    for is_logging_in in [false, true] {
        let mut shell = Shell::up(lasting());
        shell.break_and_reopen();
        if is_logging_in {
            shell.event(LinkEvent::Opened(session(shell.now)));
        }
        shell.take_log();
        shell.command(Command::Rotate);
        shell.command(Command::Rotate);
        assert_eq!(shell.take_log(), ["0: Rotating", "1: Rotating"]);
        if is_logging_in {
            shell.read(PRELUDE);
        } else {
            shell.open();
        }
        shell.serve_all();
        assert_eq!(shell.take_log(), ["Connected"]);
        shell.pass_until_due();
        assert_eq!(shell.take_log(), ["open 3"]);
        exchange(&mut shell, 2);
        assert_eq!(shell.supervisor.figures().handovers, 1);
        // Once for all of them.
        assert!(shell.supervisor.poll_timeout().is_none());
    }
    // The attempt fails: the next one begins after all was changed.
    let mut shell = Shell::up(lasting());
    shell.break_and_reopen();
    shell.command(Command::Rotate);
    shell.come_back();
    shell.serve_all();
    assert_eq!(shell.take_log().last().unwrap(), "Connected");
    assert!(shell.supervisor.poll_timeout().is_none());
}

#[test]
fn rotating_while_a_session_is_restored_begins_when_it_is_live() {
    let mut shell = Shell::up(lasting());
    shell.come_back();
    shell.take_log();
    shell.command(Command::Rotate);
    assert_eq!(shell.take_log(), NOTHING);
    shell.serve();
    assert_eq!(shell.take_log(), ["Connected", "open 3", "0: Rotating"]);
}

/// Whose opening began before the second call is not what that call asks for.
#[test]
fn rotating_during_a_handover_is_followed_by_one_more() {
    let mut shell = begun(lasting());
    shell.command(Command::Rotate);
    shell.command(Command::Rotate);
    assert_eq!(shell.take_log(), ["1: Rotating", "2: Rotating"]);
    exchange(&mut shell, 1);
    shell.pass_until_due();
    assert_eq!(shell.take_log(), ["open 3"]);
    shell.on(3).open();
    // Two sessions share their subscriptions: it waits.
    shell.command(Command::Rotate);
    assert_eq!(shell.take_log(), NOTHING);
    shell.on(2).serve();
    shell.on(3).serve();
    shell.exchange(2);
    shell.on(2).event(LinkEvent::Closed);
    shell.on(3).serve_all();
    let log = shell.take_log();
    assert_eq!(log[3..], ["open 4", "3: Rotating", "close 2 Abort"]);
    exchange(&mut shell, 3);
    assert_eq!(shell.supervisor.figures().handovers, 3);
    assert!(shell.supervisor.poll_timeout().is_none());
}

#[test]
fn rotating_while_a_listener_drains_is_refused() {
    let mut shell = Shell::up(lasting());
    shell.command(Command::Drain { within: Duration::from_secs(1) });
    shell.command(Command::Rotate);
    assert_eq!(shell.take_log(), [format!("1: {OVER}")]);
}

/// Where a generator of the SplitMix64 kind stands whose last number this is.
fn state_after(number: u64) -> u64 {
    let unshift = |number: u64, by: u32| (0..64 / by).fold(number, |x, _| number ^ (x >> by));
    let divide = |number: u64, by: u64| {
        let inverse =
            (0..6).fold(by, |x, _| x.wrapping_mul(2_u64.wrapping_sub(by.wrapping_mul(x))));
        number.wrapping_mul(inverse)
    };
    let number = divide(unshift(number, 31), 0x94D0_49BB_1331_11EB);
    unshift(divide(unshift(number, 27), 0xBF58_476D_1CE4_E5B9), 30)
}

/// The name shows in `pg_stat_activity`, and what comes next of a generator with one word of state follows from it.
#[test]
fn the_fence_of_a_handover_does_not_follow_from_the_name_of_its_channel() {
    let mut generator = Shuffle::new(7);
    let mut same = Shuffle::new(state_after(generator.number()));
    assert_eq!(same.number(), generator.number());

    let shell = fenced();
    let last = u64::from_str_radix(&shell.private[shell.private.len() - 16..], 16).unwrap();
    let mut generator = Shuffle::new(state_after(last));
    let guess = format!("{:016x}{:016x}", generator.number(), generator.number());
    assert_ne!(shell.nonce, guess);
}

#[test]
fn a_session_is_replaced_within_the_last_tenth_of_its_lifetime() {
    let mut shell =
        Shell::up(Policy { max_lifetime: Some(Duration::from_secs(1_000)), ..lasting() });
    let mut delays = BTreeSet::new();
    for link in [1, 2, 3, 4] {
        let delay = shell.due_in();
        assert!(
            delay >= Duration::from_secs(900) && delay <= Duration::from_secs(1_000),
            "{delay:?}"
        );
        delays.insert(delay);
        shell.pass_until_due();
        assert_eq!(shell.take_log(), [format!("open {}", link + 1)]);
        shell.open();
        shell.on(link).serve();
        shell.on(link + 1).serve();
        shell.serve();
        let fence = shell.fence();
        shell.read(&fence);
        shell.on(link).read(&fence);
        shell.event(LinkEvent::Closed);
        shell.on(link + 1).serve();
        shell.forget();
    }
    assert_eq!(delays.len(), 4, "not all at once");
    assert_eq!(shell.supervisor.figures().handovers, 4);
}

#[test]
fn an_old_session_that_does_not_end_is_aborted_in_time_or_by_the_next_one() {
    let mut shell = handed_over();
    shell.serve();
    shell.forget();
    assert_eq!(shell.due_in(), Duration::from_secs(2));
    shell.pass_until_due();
    assert_eq!(shell.take_log(), ["close 1 Abort"]);

    // It was forgotten, with its socket.
    let mut shell = handed_over();
    shell.serve();
    shell.prepare(2, 3);
    shell.serve();
    shell.forget();
    let fence = shell.fence();
    shell.read(&fence);
    shell.on(2).read(&fence);
    let log = shell.take_log();
    assert_eq!(log, ["read 3 false", "close 2 Graceful", "close 1 Abort", "read 3 true"]);
}

#[test]
fn a_channel_that_only_the_new_session_is_refused_ends_the_handover_and_not_the_old_one() {
    let mut shell = begun(lasting());
    shell.refused.insert("a".to_owned());
    shell.open();
    shell.on(2).serve();
    shell.on(1).serve();
    assert_eq!(shell.take_log(), ["close 2 Abort"]);
    assert!(matches!(shell.told[..], [Incident::HandoverFailed { .. }]));
    assert_eq!(shell.channels(), ["a Active"]);
    assert_eq!(shell.serve(), [r#"UNLISTEN "private""#]);
    shell.pass_until_due();
    assert_eq!(shell.take_log(), ["open 3"]);
}
