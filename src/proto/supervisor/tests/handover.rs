//! Handover: a new session replaces the current one without a gap.

use super::*;

/// Returns a driver that opens the new socket.
fn begun(policy: Policy) -> TestDriver {
    let mut driver = TestDriver::up(policy);
    driver.supervisor.sink.capacity = 100;
    driver.command(Command::Rotate);
    assert_eq!(driver.take_log(), ["open 2", "0: Rotating"]);
    driver
}

/// Returns a driver whose fence was sent, and carried out.
fn fenced() -> TestDriver {
    let mut driver = begun(lasting());
    driver.open();
    driver.on(1).serve();
    driver.on(2).serve();
    assert_eq!(driver.serve(), ["notify"]);
    driver
}

/// Returns a driver whose sessions have both reached the fence.
fn handed_over() -> TestDriver {
    let mut driver = fenced();
    let fence = driver.fence();
    driver.on(1).read(&fence);
    driver.on(2).read(&fence);
    driver
}

fn payloads(texts: &[&str]) -> Vec<u8> {
    texts.iter().flat_map(|text| notification(text)).collect()
}

#[test]
fn the_new_session_listens_to_everything_before_the_old_one_is_closed() {
    let mut driver = begun(Policy { channels: vec!["a".into(), "b".into()], ..lasting() });
    assert_eq!(driver.on(1).take_sent(), NOTHING);
    driver.on(2).open();
    assert_eq!(driver.on(1).serve(), [r#"LISTEN "private""#, "heartbeat"]);
    assert_eq!(driver.private.len(), "pgbell_".len() + 32);
    // Not before the new one listens to every channel.
    assert_eq!(driver.on(2).take_sent(), [r#"LISTEN "a";LISTEN "b""#, r#"LISTEN "private""#]);
    driver.read(&[LISTEN, LISTEN, READY].concat());
    assert_eq!(driver.take_sent(), NOTHING);
    driver.read(&[LISTEN, READY].concat());
    assert_eq!(driver.take_sent(), ["notify"]);
    assert_eq!(driver.take_log(), NOTHING);
    let fence = driver.fence();
    driver.read(&[notification("x"), fence.clone(), notified()].concat());
    assert_eq!(driver.take_log(), ["read 2 false"]);
    assert_eq!(driver.on(1).take_sent(), NOTHING);
    driver.read(&[notification("x"), fence].concat());
    assert_eq!(driver.take_log(), ["close 1 Graceful", "read 2 true"]);
    assert_eq!(driver.take_sent(), ["Terminate"]);
    assert_eq!(driver.on(2).take_sent(), [r#"UNLISTEN "private""#]);
    assert!(matches!(
        driver.logged[..],
        [LogEvent::HandedOver { epoch: 2 }, LogEvent::Established { epoch: 2, .. }]
    ));
    assert_eq!(driver.supervisor.counters().handovers, 1);
    assert_eq!((driver.supervisor.epoch(), driver.supervisor.state()), (2, State::Connected));
    assert_eq!(driver.seen(), ["x"]);
    // The old session is closed cleanly.
    driver.on(1).event(LinkEvent::Closed);
    assert_eq!(driver.take_log(), ["close 1 Abort"]);
}

#[test]
fn equal_payloads_on_both_sides_of_the_fence_arrive_once_each() {
    for old_first in [true, false] {
        let mut driver = fenced();
        let fence = driver.fence();
        let stream = [payloads(&["x", "x"]), fence, payloads(&["x", "y"])].concat();
        let links = if old_first { [1, 2] } else { [2, 1] };
        for link in links {
            driver.on(link).read(&stream);
        }
        assert_eq!(driver.seen(), ["x", "x", "x", "y"]);
        driver.read(&payloads(&["z"]));
        driver.on(1).read(&payloads(&["x", "y"]));
        driver.on(2).serve();
        assert_eq!(driver.supervisor.sink.gaps.len(), 0);
        driver.read(&payloads(&["w"]));
        let more = if old_first { vec!["z", "w"] } else { vec!["w"] };
        assert_eq!(driver.seen(), more);
    }
}

#[test]
fn notifications_before_the_fence_are_discarded_after_the_old_session_has_reached_it() {
    let mut driver = fenced();
    let fence = driver.fence();
    driver.on(2).read(&payloads(&["1"]));
    driver.on(1).read(&[payloads(&["1", "2"]), fence.clone(), payloads(&["3"])].concat());
    assert_eq!(driver.seen(), ["1", "2"]);
    assert_eq!(driver.take_log(), ["close 1 Graceful", "read 2 true"]);
    // Not handed over yet.
    assert_eq!(driver.logged.len(), 0);
    driver.on(2).read(&payloads(&["2"]));
    assert_eq!(driver.seen(), NOTHING);
    driver.read(&[fence, payloads(&["3"])].concat());
    assert_eq!(driver.seen(), ["3"]);
    assert_eq!(driver.supervisor.counters().handovers, 1);
}

#[test]
fn a_handover_works_with_any_split_of_the_bytes() {
    let mut driver = begun(lasting());
    driver.open();
    let slowly = |driver: &mut TestDriver, link: u32, bytes: &[u8]| {
        for byte in bytes {
            driver.on(link).read(std::slice::from_ref(byte));
        }
    };
    for link in [1, 2, 2] {
        for line in driver.on(link).take_sent() {
            let answer = driver.on(link).answer(&line);
            slowly(&mut driver, link, &answer);
        }
    }
    let fence = driver.fence();
    let stream = [payloads(&["1"]), fence, payloads(&["2"])].concat();
    slowly(&mut driver, 2, &stream);
    slowly(&mut driver, 1, &stream);
    assert_eq!(driver.seen(), ["1", "2"]);
}

#[test]
fn commands_wait_for_the_end_of_a_handover() {
    let mut driver = begun(lasting());
    // While the socket is opened the old session carries them out.
    driver.command(listen(&["b"]));
    assert_eq!(driver.on(1).serve(), [r#"LISTEN "b""#]);
    driver.command(query("SELECT 1"));
    driver.on(2).open();
    driver.command(listen(&["c"]));
    // The command in flight comes first.
    assert_eq!(driver.on(1).serve(), ["SELECT 1"]);
    assert_eq!(driver.take_log(), ["1: Active", "2: 1 results"]);
    driver.on(1).serve();
    driver.command(unlisten(&["a"]));
    assert_eq!(driver.on(2).serve(), [r#"LISTEN "a";LISTEN "b""#, r#"LISTEN "private""#]);
    driver.serve();
    let fence = driver.fence();
    driver.on(2).read(&fence);
    driver.on(1).read(&fence);
    assert_eq!(driver.on(2).serve(), [r#"UNLISTEN "private""#, r#"LISTEN "c""#, r#"UNLISTEN "a""#]);
    assert_eq!(driver.take_log()[3..], ["3: Active", "4: Unlistened"]);
    assert_eq!(driver.channels(), ["b Active", "c Active"]);
}

#[test]
fn without_a_live_session_the_next_one_answers_a_rotate() {
    let mut driver = TestDriver::up(lasting());
    driver.event(broken());
    driver.command(Command::Rotate);
    assert_eq!(driver.take_log(), ["close 1 Abort", "Reconnecting", "0: Rotating"]);
    driver.reopen();
    driver.serve();
    assert_eq!(driver.take_log(), ["open 2", "Connected"]);
    assert!(driver.supervisor.poll_timeout().is_none());
}

/// Carries out a handover to the session that is being opened.
fn exchange(driver: &mut TestDriver, old: u32) {
    driver.on(old + 1).open();
    driver.on(old).serve();
    driver.on(old + 1).serve();
    driver.serve();
    let fence = driver.fence();
    driver.read(&fence);
    driver.on(old).read(&fence);
    driver.event(LinkEvent::Closed);
    driver.on(old + 1).serve_all();
    driver.take_log();
}

/// The attempt may have read a password that was changed since. In an earlier version the rotate was answered and had no effect.
#[test]
fn a_rotate_during_an_attempt_replaces_the_session_of_that_attempt() {
    for is_logging_in in [false, true] {
        let mut driver = TestDriver::up(lasting());
        driver.break_and_reopen();
        if is_logging_in {
            driver.event(LinkEvent::Opened(session(driver.now)));
        }
        driver.take_log();
        driver.command(Command::Rotate);
        driver.command(Command::Rotate);
        assert_eq!(driver.take_log(), ["0: Rotating", "1: Rotating"]);
        if is_logging_in {
            driver.read(PRELUDE);
        } else {
            driver.open();
        }
        driver.serve_all();
        assert_eq!(driver.take_log(), ["Connected"]);
        driver.pass_until_due();
        assert_eq!(driver.take_log(), ["open 3"]);
        exchange(&mut driver, 2);
        assert_eq!(driver.supervisor.counters().handovers, 1);
        // One handover for all of them.
        assert!(driver.supervisor.poll_timeout().is_none());
    }
    // The attempt fails. The next one begins after the change.
    let mut driver = TestDriver::up(lasting());
    driver.break_and_reopen();
    driver.command(Command::Rotate);
    driver.reconnect();
    driver.serve_all();
    assert_eq!(driver.take_log().last().unwrap(), "Connected");
    assert!(driver.supervisor.poll_timeout().is_none());
}

#[test]
fn a_rotate_while_a_session_is_restored_begins_when_it_is_live() {
    let mut driver = TestDriver::up(lasting());
    driver.reconnect();
    driver.take_log();
    driver.command(Command::Rotate);
    assert_eq!(driver.take_log(), NOTHING);
    driver.serve();
    assert_eq!(driver.take_log(), ["Connected", "open 3", "0: Rotating"]);
}

/// The attempt of the first handover began before the second call.
#[test]
fn a_rotate_during_a_handover_is_followed_by_another_handover() {
    let mut driver = begun(lasting());
    driver.command(Command::Rotate);
    driver.command(Command::Rotate);
    assert_eq!(driver.take_log(), ["1: Rotating", "2: Rotating"]);
    exchange(&mut driver, 1);
    driver.pass_until_due();
    assert_eq!(driver.take_log(), ["open 3"]);
    driver.on(3).open();
    // It waits, because both sessions listen to the wanted channels.
    driver.command(Command::Rotate);
    assert_eq!(driver.take_log(), NOTHING);
    driver.on(2).serve();
    driver.on(3).serve();
    driver.exchange(2);
    driver.on(2).event(LinkEvent::Closed);
    driver.on(3).serve_all();
    let log = driver.take_log();
    assert_eq!(log[3..], ["open 4", "3: Rotating", "close 2 Abort"]);
    exchange(&mut driver, 3);
    assert_eq!(driver.supervisor.counters().handovers, 3);
    assert!(driver.supervisor.poll_timeout().is_none());
}

#[test]
fn a_rotate_during_a_drain_is_refused() {
    let mut driver = TestDriver::up(lasting());
    driver.command(Command::Drain { timeout: Duration::from_secs(1) });
    driver.command(Command::Rotate);
    assert_eq!(driver.take_log(), [format!("1: {OVER}")]);
}

/// Returns the state of a SplitMix64 generator after it has generated this number.
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

/// The name is visible in `pg_stat_activity`. The next number of a generator with one word of state follows from it.
#[test]
fn the_fence_of_a_handover_does_not_follow_from_the_name_of_its_channel() {
    let mut generator = PseudoRandom::new(7);
    let mut same = PseudoRandom::new(state_after(generator.number()));
    assert_eq!(same.number(), generator.number());

    let driver = fenced();
    let last = u64::from_str_radix(&driver.private[driver.private.len() - 16..], 16).unwrap();
    let mut generator = PseudoRandom::new(state_after(last));
    let guess = format!("{:016x}{:016x}", generator.number(), generator.number());
    assert_ne!(driver.nonce, guess);
}

#[test]
fn a_session_is_replaced_within_the_last_tenth_of_its_lifetime() {
    let mut driver =
        TestDriver::up(Policy { max_lifetime: Some(Duration::from_secs(1_000)), ..lasting() });
    let mut delays = BTreeSet::new();
    for link in [1, 2, 3, 4] {
        let delay = driver.due_in();
        assert!(
            delay >= Duration::from_secs(900) && delay <= Duration::from_secs(1_000),
            "{delay:?}"
        );
        delays.insert(delay);
        driver.pass_until_due();
        assert_eq!(driver.take_log(), [format!("open {}", link + 1)]);
        driver.open();
        driver.on(link).serve();
        driver.on(link + 1).serve();
        driver.serve();
        let fence = driver.fence();
        driver.read(&fence);
        driver.on(link).read(&fence);
        driver.event(LinkEvent::Closed);
        driver.on(link + 1).serve();
        driver.clear_logs();
    }
    assert_eq!(delays.len(), 4, "not all at once");
    assert_eq!(driver.supervisor.counters().handovers, 4);
}

#[test]
fn an_old_session_that_does_not_end_is_aborted_in_time_or_by_the_next_one() {
    let mut driver = handed_over();
    driver.serve();
    driver.clear_logs();
    assert_eq!(driver.due_in(), Duration::from_secs(2));
    driver.pass_until_due();
    assert_eq!(driver.take_log(), ["close 1 Abort"]);

    // The link and its socket were forgotten.
    let mut driver = handed_over();
    driver.serve();
    driver.prepare(2, 3);
    driver.serve();
    driver.clear_logs();
    let fence = driver.fence();
    driver.read(&fence);
    driver.on(2).read(&fence);
    let log = driver.take_log();
    assert_eq!(log, ["read 3 false", "close 2 Graceful", "read 3 true", "close 1 Abort"]);
}

#[test]
fn a_channel_that_is_refused_only_to_the_new_session_ends_the_handover_and_not_the_old_session() {
    let mut driver = begun(lasting());
    driver.refused.insert("a".to_owned());
    driver.open();
    driver.on(2).serve();
    driver.on(1).serve();
    assert_eq!(driver.take_log(), ["close 2 Abort"]);
    assert!(matches!(driver.logged[..], [LogEvent::HandoverFailed { .. }]));
    assert_eq!(driver.channels(), ["a Active"]);
    assert_eq!(driver.serve(), [r#"UNLISTEN "private""#]);
    driver.pass_until_due();
    assert_eq!(driver.take_log(), ["open 3"]);
}
