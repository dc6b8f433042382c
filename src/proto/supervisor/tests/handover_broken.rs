//! Handovers that fail.

use super::*;

/// Returns a driver whose sessions are prepared. The fence was sent and not carried out.
fn prepared() -> TestDriver {
    let mut driver = TestDriver::up(lasting());
    driver.prepare(1, 2);
    driver.clear_logs();
    driver
}

#[test]
fn a_handover_whose_fence_does_not_arrive_times_out() {
    // Neither session brings it: the new one is given up.
    let mut driver = prepared();
    assert_eq!(driver.due_in(), HEARTBEAT.timeout);
    driver.pass_until_due();
    assert_eq!(driver.take_log(), ["close 2 Abort"]);
    assert_eq!(driver.supervisor.state(), State::Connected);
    let [LogEvent::HandoverFailed { error, .. }] = &driver.logged[..] else {
        panic!("{:?}", driver.logged)
    };
    let hint = "its connection is half-open, or it is on another server than the other session";
    assert_eq!((error.kind(), error.hint()), (ErrorKind::Timeout, Some(hint)));
    // Only the new session brings it: the old one is lost.
    let mut driver = prepared();
    driver.serve();
    let fence = driver.fence();
    driver.read(&fence);
    driver.pass_until_due();
    let log = ["read 2 false", "close 1 Abort", "Reconnecting", "read 2 true", "Connected"];
    assert_eq!(driver.take_log(), log);
    assert_eq!(driver.seen(), ["GAP"]);
    // Only the old session brings it: it is closed, and the new one is lost.
    let mut driver = prepared();
    driver.serve();
    driver.on(1).read(&fence);
    let log = ["close 1 Graceful", "read 2 true", "close 1 Abort", "close 2 Abort", "Reconnecting"];
    driver.pass(seconds(2));
    driver.pass_until_due();
    assert_eq!(driver.take_log(), log);
    assert_eq!(driver.seen(), NOTHING);
}

/// The fence arrived, and the rest of the answer to NOTIFY did not. An earlier version had no deadline for that rest.
#[test]
fn a_new_session_that_dies_behind_its_fence_is_noticed_in_time() {
    let mut driver = prepared();
    assert_eq!(driver.take_sent(), ["notify"]);
    let fence = driver.fence();
    driver.on(1).read(&fence);
    driver.event(LinkEvent::Closed);
    driver.on(2).read(&fence);
    assert_eq!(driver.supervisor.counters().handovers, 1);
    driver.clear_logs();
    assert_eq!(driver.due_in(), HEARTBEAT.timeout);
    driver.pass_until_due();
    assert_eq!(driver.take_log(), ["close 2 Abort", "Reconnecting"]);
    // A session that is alive goes on.
    let mut driver = prepared();
    assert_eq!(driver.take_sent(), ["notify"]);
    let fence = driver.fence();
    driver.on(1).read(&fence);
    driver.event(LinkEvent::Closed);
    driver.on(2).read(&[fence, notified()].concat());
    driver.serve_all();
    assert_eq!(driver.supervisor.poll_timeout(), None);
}

/// The new session waits for the old one, and is not read during this time.
#[test]
fn a_new_session_that_waited_has_all_the_time_for_the_rest_of_its_answer() {
    let mut driver = prepared();
    assert_eq!(driver.take_sent(), ["notify"]);
    let fence = driver.fence();
    driver.on(2).read(&fence);
    driver.pass(seconds(7));
    driver.on(1).read(&fence);
    driver.event(LinkEvent::Closed);
    assert_eq!(driver.supervisor.counters().handovers, 1);
    assert_eq!(driver.due_in(), HEARTBEAT.timeout);
}

#[test]
fn commands_wait_at_most_half_a_minute_even_if_data_arrives() {
    let mut driver = prepared();
    driver.command(listen(&["b"]));
    for _ in 0..29 {
        driver.pass(seconds(1));
        driver.on(1).read(A1);
        driver.consume(1);
    }
    assert_eq!(driver.take_log(), NOTHING);
    driver.pass(seconds(1));
    assert_eq!(driver.take_log(), ["close 2 Abort"]);
    driver.serve_all();
    assert_eq!(driver.take_log(), ["1: Active"]);
}

#[test]
fn a_fence_that_comes_after_the_handover_was_given_up_is_not_delivered() {
    let mut driver = prepared();
    assert_eq!(driver.take_sent(), ["notify"]);
    driver.event(broken());
    let fence = driver.fence();
    driver.on(1).read(&[notification("1"), fence, notification("2")].concat());
    assert_eq!(driver.serve(), [r#"UNLISTEN "private""#]);
    assert_eq!(driver.seen(), ["1", "2"]);
}

/// An earlier version delivered again, from the new session, what the old one had delivered.
#[test]
fn an_old_session_that_dies_before_the_fence_is_sent_is_a_gap_and_nothing_is_delivered_twice() {
    let mut driver = TestDriver::up(lasting());
    driver.rotate_to(2);
    driver.on(1).read(&notification("1"));
    driver.event(broken());
    // The old session listened already; its answer is late.
    driver.on(2).read(&[LISTEN, &notification("1"), READY].concat());
    driver.read(&[LISTEN, &notification("2"), READY].concat());
    assert_eq!(driver.seen(), ["1"]);
    assert_eq!(driver.supervisor.state(), State::Reconnecting);
    driver.take_sent();
    assert_eq!(driver.wire().sent.len(), 0);
    let fence = driver.fence();
    driver.read(&[fence, notified(), notification("3")].concat());
    assert_eq!(driver.seen(), ["GAP", "3"]);
    let gap = &driver.take_gaps()[0];
    assert_eq!((gap.sessions(), gap.attempts(), gap.epoch()), (1, 1, 2));
    assert_eq!(driver.supervisor.counters().handovers, 0, "not without a gap");
}

#[test]
fn after_a_new_session_has_died_the_old_one_goes_on_and_the_handover_is_tried_again() {
    let mut driver = TestDriver::up(lasting());
    driver.command(Command::Rotate);
    for link in 2..5 {
        let is_open = link > 2;
        if is_open {
            driver.on(link).open();
            driver.on(1).serve();
        }
        if link > 3 {
            driver.on(link).serve();
        }
        driver.take_log();
        driver.on(link).event(broken());
        assert_eq!(driver.take_log(), [format!("close {link} Abort")]);
        driver.on(1).read(&notification("1"));
        driver.consume(1);
        assert_eq!(driver.seen(), ["1"]);
        assert_eq!(driver.serve(), if is_open { &[r#"UNLISTEN "private""#][..] } else { &[] });
        driver.pass_until_due();
        assert_eq!(driver.take_log(), [format!("open {}", link + 1)]);
    }
    assert_eq!(driver.supervisor.sink.gaps.len(), 0);
}

/// In an earlier version the refusal ended a session that was alive.
#[test]
fn a_private_channel_that_is_refused_after_the_handover_was_given_up_has_no_effect() {
    let mut driver = TestDriver::up(lasting());
    driver.rotate_to(2);
    driver.event(broken());
    let private = driver.on(1).take_sent();
    assert_eq!(private, [r#"LISTEN "private""#, "heartbeat", r#"UNLISTEN "private""#]);
    driver.read(&[ERROR, READY].concat());
    assert_eq!(driver.supervisor.state(), State::Connected);
    // The heartbeat expected the refused channel.
    let answer = driver.answer("heartbeat");
    driver.read(&[&answer, UNLISTEN, READY].concat());
    assert_eq!(driver.supervisor.state(), State::Connected);
    // Refused during the handover.
    let mut driver = TestDriver::up(lasting());
    driver.rotate_to(2);
    driver.on(1).take_sent();
    driver.read(&[ERROR, READY].concat());
    let answer = driver.answer("heartbeat");
    driver.read(&answer);
    driver.serve();
    assert_eq!(driver.take_log(), ["open 2", "0: Rotating", "close 2 Abort"]);
    assert_eq!(driver.supervisor.counters().sessions_lost, 0);
}

#[test]
fn a_private_channel_whose_unlisten_is_refused_has_no_effect() {
    let mut driver = prepared();
    driver.serve();
    let fence = driver.fence();
    driver.on(1).read(&fence);
    driver.on(2).read(&fence);
    driver.clear_logs();
    for _ in 0..=3 {
        assert_eq!(driver.take_sent(), [r#"UNLISTEN "private""#]);
        driver.read(&[ERROR, READY].concat());
    }
    // To listen to it does no harm.
    assert_eq!(driver.serve(), NOTHING);
    assert_eq!(driver.take_log(), NOTHING);
    assert_eq!(driver.supervisor.counters().sessions_lost, 0);
}

/// An earlier version counted only data on the old session, and none arrived there.
#[test]
fn a_new_session_that_is_slow_to_listen_is_not_given_up() {
    let channels = (0..300).map(|n| format!("{n:03}")).collect();
    let mut driver = TestDriver::up(Policy { channels, ..lasting() });
    driver.rotate_to(2);
    driver.on(1).serve();
    let sent = driver.on(2).take_sent();
    assert_eq!(sent.len(), 6);
    driver.clear_logs();
    for line in &sent {
        driver.pass(seconds(4));
        let answer = driver.answer(line);
        driver.read(&answer);
    }
    assert_eq!(driver.take_log(), NOTHING);
    assert_eq!(driver.take_sent(), ["notify"]);
}

/// An earlier version ended that session itself.
#[test]
fn an_old_session_that_lives_is_not_lost_to_a_handover_that_takes_too_long() {
    let mut driver = prepared();
    for second in 0..30 {
        if second == 28 {
            driver.on(2).serve();
            let fence = driver.fence();
            driver.read(&fence);
        }
        driver.pass(seconds(1));
        driver.on(1).read(A1);
        driver.consume(1);
        driver.on(2).read(A1);
    }
    assert_eq!(driver.take_log(), ["read 2 false", "close 2 Abort"]);
    assert_eq!(driver.supervisor.state(), State::Connected);
    assert_eq!(driver.supervisor.counters().sessions_lost, 0);
}

/// The old session is lost, and only the new one has the notifications, so its timeout begins again.
#[test]
fn a_new_session_that_is_alone_has_half_a_minute_of_its_own() {
    let mut driver = prepared();
    assert_eq!(driver.take_sent(), ["notify"]);
    let fence = driver.fence();
    for second in 0..57 {
        driver.pass(seconds(1));
        if second < 28 {
            driver.on(1).read(A1);
            driver.consume(1);
        } else if second == 28 {
            driver.on(1).read(&fence);
            driver.event(LinkEvent::Closed);
        }
        driver.on(2).read(A1);
    }
    assert_eq!(driver.supervisor.counters().sessions_lost, 0);
    driver.on(2).read(&fence);
    assert_eq!(driver.supervisor.counters().handovers, 1);
}

#[test]
fn a_channel_that_only_the_old_session_was_refused_has_its_gap() {
    let mut driver = TestDriver::up(lasting());
    driver.refused.insert("a".to_owned());
    driver.reconnect();
    driver.serve_all();
    assert_eq!(driver.seen(), ["GAP"]);
    driver.refused.clear();
    driver.prepare(2, 3);
    driver.serve();
    let fence = driver.fence();
    driver.clear_logs();
    driver.on(3).read(
        &[notification("unheard by the old one"), fence.clone(), notification("after")].concat(),
    );
    driver.on(2).read(&fence);
    assert_eq!(driver.seen(), ["GAP", "after"]);
    let gap = &driver.supervisor.sink.gaps[0];
    assert_eq!((gap.sessions(), gap.refused().len()), (0, 0));
    // The counter does not include handovers with a gap.
    assert_eq!(driver.supervisor.counters().handovers, 0);
}

/// The answers follow what is not read. Their timeouts begin when the socket is read again, and nothing is dropped.
#[test]
fn a_handover_waits_for_a_consumer_that_stalls_the_socket() {
    let overflow = Overflow::Block { max_stall: seconds(100) };
    for is_given_up in [true, false] {
        let mut driver = TestDriver::up(Policy { overflow, ..lasting() });
        driver.command(Command::Rotate);
        if is_given_up {
            driver.on(2).open();
            driver.on(1).serve();
        }
        driver.on(1).read(&A1.repeat(5));
        assert!(!driver.wire().reading());
        if is_given_up {
            driver.on(2).event(broken());
        } else {
            driver.on(2).open();
            driver.serve();
        }
        driver.pass(seconds(60));
        assert!(!driver.on(1).wire().reading());
        driver.consume(5);
        assert!(driver.wire().reading());
        driver.pass(seconds(4));
        driver.serve();
        assert_eq!(driver.supervisor.state(), State::Connected);
        assert_eq!(
            (driver.supervisor.sink.lost, driver.supervisor.counters().sessions_lost),
            (0, 0)
        );
    }
}

/// The time of the next handover comes during the wait. An earlier version ignored it.
#[test]
fn a_handover_is_tried_again_even_if_the_old_session_is_slow_to_leave_the_private_channel() {
    let mut driver = prepared();
    driver.event(broken());
    driver.on(1).take_sent();
    driver.pass(seconds(1));
    assert_eq!(driver.take_log(), ["close 2 Abort"]);
    driver.read(&[UNLISTEN, READY].concat());
    driver.pass(Duration::ZERO);
    assert_eq!(driver.take_log(), ["open 3"]);
}

#[test]
fn a_channel_that_both_sessions_are_refused_does_not_end_the_handover() {
    let mut driver = TestDriver::up(lasting());
    driver.refused.insert("a".to_owned());
    driver.reconnect();
    driver.serve();
    driver.prepare(2, 3);
    assert_eq!(driver.take_sent(), ["notify"]);
}

/// As [`prepared`], with servers that send stray errors.
fn prepared_on_old_servers() -> TestDriver {
    let mut driver = prepared();
    driver.on(1).read(OLD);
    driver.on(2).read(OLD);
    driver
}

/// Returns a stray error of a server before 18.2, which has dropped a notification.
fn dropped() -> Vec<u8> {
    [diagnostic(b'E', "ERROR", "58P01"), READY.to_vec()].concat()
}

/// An earlier version waited for the fence without a limit. It discarded everything that arrived, and reported no gap.
#[test]
fn a_server_that_drops_what_may_be_the_fence_of_the_new_session_ends_the_session_with_a_gap() {
    for is_lost in [false, true] {
        let mut driver = prepared_on_old_servers();
        assert_eq!(driver.on(2).serve(), ["notify"]);
        let fence = driver.fence();
        if is_lost {
            driver.on(1).event(broken());
        } else {
            driver.on(1).read(&[notification("1"), fence].concat());
        }
        driver.on(1).event(LinkEvent::Closed);
        driver.take_log();
        // The new session is behind, and the fence never arrives.
        driver.on(2).read(&[notification("1"), dropped(), notification("2")].concat());
        assert_eq!(driver.take_log()[0], "close 2 Abort");
        assert_eq!(driver.supervisor.state(), State::Reconnecting);
        driver.reopen();
        driver.serve_all();
        driver.read(&notification("3"));
        assert_eq!(driver.supervisor.state(), State::Connected);
        let first = if is_lost { vec![] } else { vec!["1"] };
        assert_eq!(driver.seen(), [first, vec!["GAP", "3"]].concat());
        let gap = &driver.take_gaps()[0];
        assert_eq!(gap.sessions(), 1 + u32::from(is_lost));
    }
}

/// Any data counts as a sign of life. So an earlier version waited for the fence without a limit.
#[test]
fn a_new_session_that_never_brings_the_fence_is_lost_after_half_a_minute_even_if_data_arrives() {
    for is_lost in [false, true] {
        let mut driver = prepared();
        driver.on(2).serve();
        if is_lost {
            driver.on(1).event(broken());
        } else {
            driver.pass(seconds(7));
            let fence = driver.fence();
            driver.on(1).read(&fence);
            driver.event(LinkEvent::Closed);
        }
        driver.command(listen(&["b"]));
        driver.take_log();
        for _ in 0..29 {
            driver.pass(seconds(1));
            driver.on(2).read(A1);
        }
        assert_eq!(driver.take_log(), NOTHING);
        assert_eq!(driver.due_in(), seconds(1));
        driver.pass_until_due();
        assert_eq!(driver.take_log()[0], "close 2 Abort");
        assert_eq!(driver.supervisor.state(), State::Reconnecting);
        driver.reopen();
        driver.serve_all();
        assert_eq!(driver.take_log().last().unwrap(), "Connected");
        assert_eq!(driver.channels(), ["a Active", "b Active"]);
        assert_eq!(driver.seen(), ["GAP"]);
    }
}

/// The timeout of a heartbeat may be unlimited. That of a fence is not.
#[test]
fn a_silent_session_does_not_block_a_handover_where_heartbeats_have_no_timeout() {
    let never = Heartbeat { interval: Duration::MAX, timeout: Duration::MAX };
    let mut driver = TestDriver::up(Policy { heartbeat: never, ..lasting() });
    driver.prepare(1, 2);
    driver.serve();
    let fence = driver.fence();
    driver.on(1).read(&fence);
    driver.event(LinkEvent::Closed);
    driver.clear_logs();
    assert_eq!(driver.due_in(), seconds(30));
    driver.pass_until_due();
    assert_eq!(driver.take_log(), ["close 2 Abort", "Reconnecting"]);
}

/// The dropped notification may have been the fence. An earlier version then waited for it for half a minute.
#[test]
fn a_notification_dropped_on_the_old_session_ends_the_handover_and_is_a_gap() {
    for is_fenced in [false, true] {
        let mut driver = TestDriver::up(lasting());
        driver.rotate_to(2);
        driver.on(1).serve();
        if is_fenced {
            driver.on(2).serve();
            assert_eq!(driver.serve(), ["notify"]);
        }
        driver.on(1).read(OLD);
        driver.take_log();
        driver.read(&[notification("1"), dropped()].concat());
        let log = driver.take_log();
        assert_eq!(log[..2], ["CatchingUp", "close 2 Abort"]);
        assert_eq!(driver.serve(), [r#"UNLISTEN "private""#]);
        driver.read(&notification("2"));
        assert_eq!(driver.seen(), ["1", "GAP", "2"]);
        assert_eq!(driver.take_gaps()[0].sessions(), 0);
        assert_eq!(driver.supervisor.state(), State::Connected);
        // The handover is tried again.
        driver.take_log();
        driver.pass_until_due();
        assert_eq!(driver.take_log(), ["open 3"]);
    }
}

/// An earlier version took the command as refused, and did not report the gap.
#[test]
fn an_internal_error_of_an_old_server_is_not_the_answer_to_a_command_of_a_handover() {
    // LISTEN for the private channel.
    let mut driver = TestDriver::up(lasting());
    driver.read(OLD);
    driver.rotate_to(2);
    driver.on(1).take_sent();
    driver.clear_logs();
    driver.read(&dropped());
    assert_eq!(driver.take_log(), ["close 1 Abort", "Reconnecting", "read 2 true"]);
    // UNLISTEN for it.
    let mut driver = prepared_on_old_servers();
    driver.event(broken());
    driver.clear_logs();
    driver.on(1).read(&dropped());
    assert_eq!(driver.take_log(), ["close 1 Abort", "Reconnecting"]);
    // NOTIFY with the fence, on a session that is alone.
    let mut driver = prepared_on_old_servers();
    driver.on(1).event(broken());
    driver.clear_logs();
    driver.on(2).read(&dropped());
    assert_eq!(driver.take_log(), ["close 2 Abort"]);
    assert_eq!(driver.supervisor.state(), State::Reconnecting);
}

/// An earlier version took the true answer to UNLISTEN for the answer to the user's query.
#[test]
fn an_error_of_an_old_server_in_answer_to_the_end_of_a_handover_is_followed_by_a_heartbeat() {
    let mut driver = prepared_on_old_servers();
    driver.event(broken());
    driver.command(query("SELECT 1"));
    assert_eq!(driver.on(1).take_sent(), [r#"UNLISTEN "private""#]);
    driver.read(&[ERROR, READY].concat());
    assert_eq!(driver.take_sent(), [r#"UNLISTEN "private""#]);
    driver.read(&[UNLISTEN, READY].concat());
    assert_eq!(driver.take_sent(), ["heartbeat"]);
    // The answer to the second one.
    driver.read(&[UNLISTEN, READY].concat());
    assert_eq!(driver.supervisor.state(), State::Reconnecting);
}

/// An earlier version gave up the handover after the stall, in which nothing was read.
#[test]
fn the_time_of_a_stall_does_not_count_for_the_timeout_of_a_handover() {
    let overflow = Overflow::Block { max_stall: seconds(100) };
    let mut driver = TestDriver::up(Policy { overflow, ..lasting() });
    driver.prepare(1, 2);
    driver.serve();
    driver.clear_logs();
    let goes_on = |driver: &mut TestDriver, time: u64| {
        for _ in 0..time {
            driver.pass(seconds(1));
            driver.on(2).read(A1);
            driver.on(1).read(A1);
            driver.consume(1);
        }
    };
    goes_on(&mut driver, 20);
    driver.on(1).read(&A1.repeat(6));
    assert!(!driver.wire().reading());
    driver.pass(seconds(60));
    driver.consume(6);
    assert!(driver.wire().reading());
    goes_on(&mut driver, 9);
    assert_eq!(driver.take_log(), ["read 1 false", "read 1 true"]);
    driver.pass(seconds(1));
    assert_eq!(driver.take_log(), ["close 2 Abort"]);
}

/// Very many channels are restored in groups. The timeout applies to the time between two groups.
#[test]
fn a_handover_of_very_many_channels_may_take_longer_than_its_timeout() {
    let channels = (0..640).map(|n| format!("c{n:03}")).collect();
    let mut driver = TestDriver::up(Policy { channels, ..lasting() });
    driver.rotate_to(2);
    driver.on(1).serve();
    driver.clear_logs();
    let began = driver.now;
    for line in driver.on(2).take_sent() {
        driver.pass(seconds(4));
        let answer = driver.answer(&line);
        driver.read(&answer);
    }
    assert_eq!(driver.now - began, seconds(44));
    driver.exchange(1);
    assert_eq!(driver.supervisor.counters().handovers, 1);
    // A handover that makes no progress is given up.
    let mut driver = TestDriver::up(lasting());
    driver.rotate_to(2);
    driver.on(1).serve();
    driver.clear_logs();
    driver.pass_until_due();
    assert_eq!(driver.take_log(), ["close 2 Abort"]);
}

/// An earlier version showed nothing, so the consumer made no room, and the answer that ends this state was never read.
#[test]
fn a_full_queue_that_is_held_back_does_not_block_the_end_of_a_handover() {
    let overflow = Overflow::Block { max_stall: Duration::MAX };
    let mut driver = TestDriver::up(Policy { overflow, ..lasting() });
    driver.prepare(1, 2);
    driver.on(1).read(OLD);
    driver.read(&dropped());
    assert_eq!(driver.supervisor.state(), State::CatchingUp);
    let more = driver.supervisor.sink.capacity + 1;
    driver.read(&(0..more).map(|_| notification("1")).collect::<Vec<_>>().concat());
    assert_eq!(driver.supervisor.counters().stalls, 0);
    driver.serve();
    assert_eq!(driver.supervisor.state(), State::Connected);
    assert_eq!(driver.seen()[0], "GAP");
}

/// In an earlier version the gap named the session that was opened last, which was never live.
#[test]
fn a_gap_that_is_reported_by_a_close_names_the_session_that_goes_on() {
    let mut driver = TestDriver::up(Policy { hook: Some(HOOK), ..lasting() });
    driver.rotate_to(2);
    driver.event(broken());
    driver.on(1).serve_all();
    driver.read(OLD);
    driver.read(&dropped());
    assert_eq!(driver.supervisor.state(), State::CatchingUp);
    driver.command(Command::Close);
    driver.read(&notification("1"));
    assert_eq!(driver.seen(), ["GAP", "1"]);
    assert_eq!(driver.take_gaps()[0].epoch(), 1);
}

/// The new session waits without being read. Its data is no sign of life of the old one.
#[test]
fn data_of_the_new_session_is_no_sign_of_life_of_the_old_one() {
    let mut driver = TestDriver::up(lasting());
    driver.prepare(1, 2);
    assert_eq!(driver.serve(), ["notify"]);
    driver.pass(Duration::from_secs(5));
    let fence = driver.fence();
    driver.read(&fence);
    assert_eq!(driver.due_in(), HEARTBEAT.timeout - Duration::from_secs(5));
    driver.pass_until_due();
    assert_eq!(driver.supervisor.counters().sessions_lost, 1);
}

/// After each notification that the consumer took, an earlier version searched all the others again.
#[test]
fn a_run_without_room_is_searched_once_for_the_fence() {
    let mut driver = prepared();
    driver.serve();
    let fence = driver.fence();
    driver.read(&fence);
    let looked_at = looked_at_in_a_run_without_room(driver.on(1));
    assert!(looked_at <= 500, "{looked_at}");
    // The same for a run with the fence in it.
    let mut driver = prepared();
    driver.serve();
    driver.read(&fence);
    driver.on(1).read(&[&A1.repeat(6), &fence[..], A1].concat());
    assert_eq!((driver.supervisor.sink.taken, driver.wire().reading()), (4, false));
    driver.consume(4);
    assert_eq!((driver.supervisor.sink.taken, driver.supervisor.counters().handovers), (6, 1));
}

/// An earlier version did not count refusals as progress. With many of them it gave up the handover.
#[test]
fn a_handover_with_many_refused_channels_may_take_longer_than_its_timeout() {
    let channels: Vec<String> = (0..10).map(|n| format!("c{n}")).collect();
    let mut driver = TestDriver::up(Policy { channels: channels.clone(), ..lasting() });
    driver.refused.extend(channels);
    driver.reconnect();
    driver.serve_all();
    driver.rotate_to(3);
    driver.on(2).serve();
    let began = driver.now;
    for _ in 0..2 {
        for line in driver.on(3).take_sent() {
            driver.pass(seconds(4));
            let answer = driver.answer(&line);
            driver.read(&answer);
        }
    }
    assert_eq!(driver.now - began, seconds(48));
    driver.exchange(2);
    assert_eq!(driver.supervisor.counters().handovers, 1);
}

/// Nothing is delivered between the two outages.
#[test]
fn a_loss_right_after_an_accepted_channel_is_one_gap_that_names_the_next_session() {
    let mut driver = TestDriver::up(Policy { hook: Some(HookPolicy::default()), ..lasting() });
    driver.refused.insert("a".to_owned());
    driver.reconnect();
    driver.serve_all();
    driver.hook(Ok(()));
    driver.refused.clear();
    driver.prepare(2, 3);
    driver.exchange(2);
    driver.on(3).serve_all();
    assert_eq!(driver.supervisor.state(), State::CatchingUp);
    driver.clear_logs();
    driver.seen();
    driver.event(broken());
    driver.reopen();
    driver.read(&notification("held back"));
    driver.reconnect();
    driver.serve_all();
    driver.hook(Ok(()));
    let epochs: Vec<u32> = driver.take_gaps().iter().map(Gap::epoch).collect();
    assert_eq!(driver.seen(), ["GAP", "held back", "GAP"]);
    assert_eq!(epochs, [4, 5]);
}
