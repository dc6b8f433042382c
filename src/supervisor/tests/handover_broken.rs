//! A handover in which something breaks.

use super::*;

/// Both are prepared, and the fence was sent and not carried out.
fn prepared() -> Shell {
    let mut shell = Shell::up(lasting());
    shell.prepare(1, 2);
    shell.forget();
    shell
}

#[test]
fn a_fence_that_does_not_come_ends_the_wait_of_whoever_waits_for_it() {
    // Neither brings it: the new one is of no use.
    let mut shell = prepared();
    assert_eq!(shell.due_in(), HEARTBEAT.deadline);
    shell.pass_until_due();
    assert_eq!(shell.take_log(), ["close 2 Abort"]);
    assert_eq!(shell.supervisor.state(), State::Connected);
    // Only the new one does: the old one is dead.
    let mut shell = prepared();
    shell.serve();
    let fence = shell.fence();
    shell.read(&fence);
    shell.pass_until_due();
    let log = ["read 2 false", "close 1 Abort", "Reconnecting", "read 2 true", "Connected"];
    assert_eq!(shell.take_log(), log);
    assert_eq!(shell.seen(), ["GAP"]);
    // Only the old one does: the new one is dead, and the old one is closed.
    let mut shell = prepared();
    shell.serve();
    shell.on(1).read(&fence);
    let log = ["close 1 Graceful", "read 2 true", "close 1 Abort", "close 2 Abort", "Reconnecting"];
    shell.pass(seconds(2));
    shell.pass_until_due();
    assert_eq!(shell.take_log(), log);
    assert_eq!(shell.seen(), NOTHING);
}

/// Its fence came, and the rest of the answer to it never did: nothing had a deadline any more.
#[test]
fn a_new_session_that_dies_behind_its_fence_is_noticed_in_time() {
    let mut shell = prepared();
    assert_eq!(shell.take_sent(), ["notify"]);
    let fence = shell.fence();
    shell.on(1).read(&fence);
    shell.event(LinkEvent::Closed);
    shell.on(2).read(&fence);
    assert_eq!(shell.supervisor.figures().handovers, 1);
    shell.forget();
    assert_eq!(shell.due_in(), HEARTBEAT.deadline);
    shell.pass_until_due();
    assert_eq!(shell.take_log(), ["close 2 Abort", "Reconnecting"]);
    // One that lives has nothing to fear.
    let mut shell = prepared();
    assert_eq!(shell.take_sent(), ["notify"]);
    let fence = shell.fence();
    shell.on(1).read(&fence);
    shell.event(LinkEvent::Closed);
    shell.on(2).read(&[fence, notified()].concat());
    shell.serve_all();
    assert_eq!(shell.supervisor.poll_timeout(), None);
}

/// It waited for the old one, and nobody read what it had said.
#[test]
fn a_new_session_that_waited_has_all_the_time_for_the_rest_of_its_answer() {
    let mut shell = prepared();
    assert_eq!(shell.take_sent(), ["notify"]);
    let fence = shell.fence();
    shell.on(2).read(&fence);
    shell.pass(seconds(7));
    shell.on(1).read(&fence);
    shell.event(LinkEvent::Closed);
    assert_eq!(shell.supervisor.figures().handovers, 1);
    assert_eq!(shell.due_in(), HEARTBEAT.deadline);
}

#[test]
fn commands_do_not_wait_longer_than_half_a_minute_however_much_comes() {
    let mut shell = prepared();
    shell.command(listen(&["b"]));
    for _ in 0..29 {
        shell.pass(seconds(1));
        shell.on(1).read(A1);
        shell.consume(1);
    }
    assert_eq!(shell.take_log(), NOTHING);
    shell.pass(seconds(1));
    assert_eq!(shell.take_log(), ["close 2 Abort"]);
    shell.serve_all();
    assert_eq!(shell.take_log(), ["1: Active"]);
}

#[test]
fn a_fence_that_comes_after_the_handover_was_given_up_is_not_delivered() {
    let mut shell = prepared();
    assert_eq!(shell.take_sent(), ["notify"]);
    shell.event(broken());
    let fence = shell.fence();
    shell.on(1).read(&[note("1"), fence, note("2")].concat());
    assert_eq!(shell.serve(), [r#"UNLISTEN "private""#]);
    assert_eq!(shell.seen(), ["1", "2"]);
}

/// Both were told: what the old one has delivered came again from the new one.
#[test]
fn an_old_session_that_dies_before_the_fence_is_sent_is_a_gap_and_nothing_comes_twice() {
    let mut shell = Shell::up(lasting());
    shell.rotate_to(2);
    shell.on(1).read(&note("1"));
    shell.event(broken());
    // It listened already, and says so late.
    shell.on(2).read(&[LISTEN, &note("1"), READY].concat());
    shell.read(&[LISTEN, &note("2"), READY].concat());
    assert_eq!(shell.seen(), ["1"]);
    assert_eq!(shell.supervisor.state(), State::Reconnecting);
    shell.take_sent();
    assert_eq!(shell.wire().sent.len(), 0);
    let fence = shell.fence();
    shell.read(&[fence, notified(), note("3")].concat());
    assert_eq!(shell.seen(), ["GAP", "3"]);
    let gap = &shell.take_gaps()[0];
    assert_eq!((gap.sessions(), gap.attempts(), gap.epoch()), (1, 1, 2));
    assert_eq!(shell.supervisor.figures().handovers, 0, "not without a gap");
}

#[test]
fn a_new_session_that_dies_leaves_the_old_one_as_it_was_and_another_one_is_tried() {
    let mut shell = Shell::up(lasting());
    shell.command(Command::Rotate);
    for link in 2..5 {
        let is_open = link > 2;
        if is_open {
            shell.on(link).open();
            shell.on(1).serve();
        }
        if link > 3 {
            shell.on(link).serve();
        }
        shell.take_log();
        shell.on(link).event(broken());
        assert_eq!(shell.take_log(), [format!("close {link} Abort")]);
        shell.on(1).read(&note("1"));
        shell.consume(1);
        assert_eq!(shell.seen(), ["1"]);
        assert_eq!(shell.serve(), if is_open { &[r#"UNLISTEN "private""#][..] } else { &[] });
        shell.pass_until_due();
        assert_eq!(shell.take_log(), [format!("open {}", link + 1)]);
    }
    assert_eq!(shell.queue.gaps.len(), 0);
}

/// The refusal was laid at the door of a session that is well.
#[test]
fn a_private_channel_refused_after_the_handover_was_given_up_costs_nothing() {
    let mut shell = Shell::up(lasting());
    shell.rotate_to(2);
    shell.event(broken());
    let private = shell.on(1).take_sent();
    assert_eq!(private, [r#"LISTEN "private""#, "proof", r#"UNLISTEN "private""#]);
    shell.read(&[ERROR, READY].concat());
    assert_eq!(shell.supervisor.state(), State::Connected);
    // It counted on the channel that was refused.
    let answer = shell.answer("proof");
    shell.read(&[&answer, UNLISTEN, READY].concat());
    assert_eq!(shell.supervisor.state(), State::Connected);
    // Refused while it is under way.
    let mut shell = Shell::up(lasting());
    shell.rotate_to(2);
    shell.on(1).take_sent();
    shell.read(&[ERROR, READY].concat());
    let answer = shell.answer("proof");
    shell.read(&answer);
    shell.serve();
    assert_eq!(shell.take_log(), ["open 2", "0: Rotating", "close 2 Abort"]);
    assert_eq!(shell.supervisor.figures().sessions_lost, 0);
}

#[test]
fn a_private_channel_that_cannot_be_left_costs_nothing() {
    let mut shell = prepared();
    shell.serve();
    let fence = shell.fence();
    shell.on(1).read(&fence);
    shell.on(2).read(&fence);
    shell.forget();
    for _ in 0..=3 {
        assert_eq!(shell.take_sent(), [r#"UNLISTEN "private""#]);
        shell.read(&[ERROR, READY].concat());
    }
    // To be on it still does no harm.
    assert_eq!(shell.serve(), NOTHING);
    assert_eq!(shell.take_log(), NOTHING);
    assert_eq!(shell.supervisor.figures().sessions_lost, 0);
}

/// Only what came on the old session counted, and it had nothing to say.
#[test]
fn a_successor_that_takes_its_time_to_subscribe_is_not_given_up() {
    let channels = (0..300).map(|n| format!("{n:03}")).collect();
    let mut shell = Shell::up(Policy { channels, ..lasting() });
    shell.rotate_to(2);
    shell.on(1).serve();
    let sent = shell.on(2).take_sent();
    assert_eq!(sent.len(), 6);
    shell.forget();
    for line in &sent {
        shell.pass(seconds(4));
        let answer = shell.answer(line);
        shell.read(&answer);
    }
    assert_eq!(shell.take_log(), NOTHING);
    assert_eq!(shell.take_sent(), ["notify"]);
}

/// It was lost, by our own hand.
#[test]
fn an_old_session_that_lives_is_not_lost_to_a_handover_that_takes_too_long() {
    let mut shell = prepared();
    for second in 0..30 {
        if second == 28 {
            shell.on(2).serve();
            let fence = shell.fence();
            shell.read(&fence);
        }
        shell.pass(seconds(1));
        shell.on(1).read(A1);
        shell.consume(1);
        shell.on(2).read(A1);
    }
    assert_eq!(shell.take_log(), ["read 2 false", "close 2 Abort"]);
    assert_eq!(shell.supervisor.state(), State::Connected);
    assert_eq!(shell.supervisor.figures().sessions_lost, 0);
}

/// The old one is gone, and nobody else has what the new one has: it has all the time from then on.
#[test]
fn a_new_session_that_is_alone_and_lives_has_half_a_minute_of_its_own() {
    let mut shell = prepared();
    assert_eq!(shell.take_sent(), ["notify"]);
    let fence = shell.fence();
    for second in 0..57 {
        shell.pass(seconds(1));
        if second < 28 {
            shell.on(1).read(A1);
            shell.consume(1);
        } else if second == 28 {
            shell.on(1).read(&fence);
            shell.event(LinkEvent::Closed);
        }
        shell.on(2).read(A1);
    }
    assert_eq!(shell.supervisor.figures().sessions_lost, 0);
    shell.on(2).read(&fence);
    assert_eq!(shell.supervisor.figures().handovers, 1);
}

#[test]
fn a_channel_that_the_new_session_is_not_refused_any_more_has_its_gap() {
    let mut shell = Shell::up(lasting());
    shell.refused.insert("a".to_owned());
    shell.come_back();
    shell.serve_all();
    assert_eq!(shell.seen(), ["GAP"]);
    shell.refused.clear();
    shell.prepare(2, 3);
    shell.serve();
    let fence = shell.fence();
    shell.forget();
    shell.on(3).read(&[note("unheard by the old one"), fence.clone(), note("after")].concat());
    shell.on(2).read(&fence);
    assert_eq!(shell.seen(), ["GAP", "after"]);
    let gap = &shell.queue.gaps[0];
    assert_eq!((gap.sessions(), gap.refused().len()), (0, 0));
    // Those are without a gap.
    assert_eq!(shell.supervisor.figures().handovers, 0);
}

/// Its answers lie behind what is not read: they have their time from when it is read again, and nothing is dropped for them.
#[test]
fn a_handover_waits_for_a_consumer_that_blocks_the_socket() {
    let overflow = Overflow::Block { max_stall: seconds(100) };
    for is_given_up in [true, false] {
        let mut shell = Shell::up(Policy { overflow, ..lasting() });
        shell.command(Command::Rotate);
        if is_given_up {
            shell.on(2).open();
            shell.on(1).serve();
        }
        shell.on(1).read(&A1.repeat(5));
        assert!(!shell.wire().reading());
        if is_given_up {
            shell.on(2).event(broken());
        } else {
            shell.on(2).open();
            shell.serve();
        }
        shell.pass(seconds(60));
        assert!(!shell.on(1).wire().reading());
        shell.consume(5);
        assert!(shell.wire().reading());
        shell.pass(seconds(4));
        shell.serve();
        assert_eq!(shell.supervisor.state(), State::Connected);
        assert_eq!((shell.queue.lost, shell.supervisor.figures().sessions_lost), (0, 0));
    }
}

/// The retry was due in between, and forgotten.
#[test]
fn a_handover_is_tried_again_even_if_the_old_session_is_slow_to_leave_the_private_channel() {
    let mut shell = prepared();
    shell.event(broken());
    shell.on(1).take_sent();
    shell.pass(seconds(1));
    assert_eq!(shell.take_log(), ["close 2 Abort"]);
    shell.read(&[UNLISTEN, READY].concat());
    shell.pass(Duration::ZERO);
    assert_eq!(shell.take_log(), ["open 3"]);
}

#[test]
fn a_channel_that_both_are_refused_does_not_stand_in_the_way() {
    let mut shell = Shell::up(lasting());
    shell.refused.insert("a".to_owned());
    shell.come_back();
    shell.serve();
    shell.prepare(2, 3);
    assert_eq!(shell.take_sent(), ["notify"]);
}

/// As [`prepared`], and the servers report errors that are no answers.
fn prepared_on_old_servers() -> Shell {
    let mut shell = prepared();
    shell.on(1).read(OLD);
    shell.on(2).read(OLD);
    shell
}

/// A server before 18.2 cannot absorb a notification: nobody asked for this error.
fn dropped() -> Vec<u8> {
    [diagnostic(b'E', "ERROR", "58P01"), READY.to_vec()].concat()
}

/// It was waited for without end: everything that came was discarded, and no gap was told.
#[test]
fn a_server_that_drops_what_may_be_the_fence_of_the_new_session_ends_the_session_with_a_gap() {
    for is_lost in [false, true] {
        let mut shell = prepared_on_old_servers();
        assert_eq!(shell.on(2).serve(), ["notify"]);
        let fence = shell.fence();
        if is_lost {
            shell.on(1).event(broken());
        } else {
            shell.on(1).read(&[note("1"), fence].concat());
        }
        shell.on(1).event(LinkEvent::Closed);
        shell.take_log();
        // It is behind, and the fence never comes.
        shell.on(2).read(&[note("1"), dropped(), note("2")].concat());
        assert_eq!(shell.take_log()[0], "close 2 Abort");
        assert_eq!(shell.supervisor.state(), State::Reconnecting);
        shell.reopen();
        shell.serve_all();
        shell.read(&note("3"));
        assert_eq!(shell.supervisor.state(), State::Connected);
        let first = if is_lost { vec![] } else { vec!["1"] };
        assert_eq!(shell.seen(), [first, vec!["GAP", "3"]].concat());
        let gap = &shell.take_gaps()[0];
        assert_eq!(gap.sessions(), 1 + u32::from(is_lost));
    }
}

/// Whatever comes counts as a sign of life: it was waited for without end.
#[test]
fn a_new_session_that_never_brings_the_fence_is_lost_after_half_a_minute_however_much_comes() {
    for is_lost in [false, true] {
        let mut shell = prepared();
        shell.on(2).serve();
        if is_lost {
            shell.on(1).event(broken());
        } else {
            shell.pass(seconds(7));
            let fence = shell.fence();
            shell.on(1).read(&fence);
            shell.event(LinkEvent::Closed);
        }
        shell.command(listen(&["b"]));
        shell.take_log();
        for _ in 0..29 {
            shell.pass(seconds(1));
            shell.on(2).read(A1);
        }
        assert_eq!(shell.take_log(), NOTHING);
        assert_eq!(shell.due_in(), seconds(1));
        shell.pass_until_due();
        assert_eq!(shell.take_log()[0], "close 2 Abort");
        assert_eq!(shell.supervisor.state(), State::Reconnecting);
        shell.reopen();
        shell.serve_all();
        assert_eq!(shell.take_log().last().unwrap(), "Connected");
        assert_eq!(shell.channels(), ["a Active", "b Active"]);
        assert_eq!(shell.seen(), ["GAP"]);
    }
}

/// The time for a proof may be without end. That for a fence is not.
#[test]
fn a_silent_session_does_not_hold_up_a_handover_where_proofs_may_take_for_ever() {
    let never = Heartbeat { every: Duration::MAX, deadline: Duration::MAX };
    let mut shell = Shell::up(Policy { heartbeat: never, ..lasting() });
    shell.prepare(1, 2);
    shell.serve();
    let fence = shell.fence();
    shell.on(1).read(&fence);
    shell.event(LinkEvent::Closed);
    shell.forget();
    assert_eq!(shell.due_in(), seconds(30));
    shell.pass_until_due();
    assert_eq!(shell.take_log(), ["close 2 Abort", "Reconnecting"]);
}

/// It may have been the fence, for which the handover then waited half a minute.
#[test]
fn a_server_that_drops_something_on_the_old_session_ends_the_handover_and_the_gap_is_told() {
    for is_fenced in [false, true] {
        let mut shell = Shell::up(lasting());
        shell.rotate_to(2);
        shell.on(1).serve();
        if is_fenced {
            shell.on(2).serve();
            assert_eq!(shell.serve(), ["notify"]);
        }
        shell.on(1).read(OLD);
        shell.take_log();
        shell.read(&[note("1"), dropped()].concat());
        let log = shell.take_log();
        assert_eq!(log[..2], ["CatchingUp", "close 2 Abort"]);
        assert_eq!(shell.serve(), [r#"UNLISTEN "private""#]);
        shell.read(&note("2"));
        assert_eq!(shell.seen(), ["1", "GAP", "2"]);
        assert_eq!(shell.take_gaps()[0].sessions(), 0);
        assert_eq!(shell.supervisor.state(), State::Connected);
        // And it is tried again.
        shell.take_log();
        shell.pass_until_due();
        assert_eq!(shell.take_log(), ["open 3"]);
    }
}

/// The server was taken to have refused it, and the loss was not told.
#[test]
fn an_error_of_the_server_itself_is_no_answer_to_a_command_of_a_handover() {
    // To listen to the private channel.
    let mut shell = Shell::up(lasting());
    shell.read(OLD);
    shell.rotate_to(2);
    shell.on(1).take_sent();
    shell.forget();
    shell.read(&dropped());
    assert_eq!(shell.take_log(), ["close 1 Abort", "Reconnecting", "read 2 true"]);
    // To leave it.
    let mut shell = prepared_on_old_servers();
    shell.event(broken());
    shell.forget();
    shell.on(1).read(&dropped());
    assert_eq!(shell.take_log(), ["close 1 Abort", "Reconnecting"]);
    // To send the fence, on a session that is alone.
    let mut shell = prepared_on_old_servers();
    shell.on(1).event(broken());
    shell.forget();
    shell.on(2).read(&dropped());
    assert_eq!(shell.take_log(), ["close 2 Abort"]);
    assert_eq!(shell.supervisor.state(), State::Reconnecting);
}

/// Its true answer was taken for that to the user's query.
#[test]
fn an_error_of_an_old_server_in_answer_to_the_end_of_a_handover_is_followed_by_a_proof() {
    let mut shell = prepared_on_old_servers();
    shell.event(broken());
    shell.command(query("SELECT 1"));
    assert_eq!(shell.on(1).take_sent(), [r#"UNLISTEN "private""#]);
    shell.read(&[ERROR, READY].concat());
    assert_eq!(shell.take_sent(), [r#"UNLISTEN "private""#]);
    shell.read(&[UNLISTEN, READY].concat());
    assert_eq!(shell.take_sent(), ["proof"]);
    // The answer to the second one.
    shell.read(&[UNLISTEN, READY].concat());
    assert_eq!(shell.supervisor.state(), State::Reconnecting);
}

/// Nothing of it was read meanwhile, and it was given up when the consumer had room again.
#[test]
fn the_time_of_a_stall_is_no_time_of_a_handover() {
    let overflow = Overflow::Block { max_stall: seconds(100) };
    let mut shell = Shell::up(Policy { overflow, ..lasting() });
    shell.prepare(1, 2);
    shell.serve();
    shell.forget();
    let goes_on = |shell: &mut Shell, time: u64| {
        for _ in 0..time {
            shell.pass(seconds(1));
            shell.on(2).read(A1);
            shell.on(1).read(A1);
            shell.consume(1);
        }
    };
    goes_on(&mut shell, 20);
    shell.on(1).read(&A1.repeat(6));
    assert!(!shell.wire().reading());
    shell.pass(seconds(60));
    shell.consume(6);
    assert!(shell.wire().reading());
    goes_on(&mut shell, 9);
    assert_eq!(shell.take_log(), ["read 1 false", "read 1 true"]);
    shell.pass(seconds(1));
    assert_eq!(shell.take_log(), ["close 2 Abort"]);
}

/// Of very many channels the new session gets a group at a time: the limit is for the silence between them.
#[test]
fn a_handover_of_very_many_channels_takes_longer_than_its_limit() {
    let channels = (0..640).map(|n| format!("c{n:03}")).collect();
    let mut shell = Shell::up(Policy { channels, ..lasting() });
    shell.rotate_to(2);
    shell.on(1).serve();
    shell.forget();
    let began = shell.now;
    for line in shell.on(2).take_sent() {
        shell.pass(seconds(4));
        let answer = shell.answer(&line);
        shell.read(&answer);
    }
    assert_eq!(shell.now - began, seconds(44));
    shell.exchange(1);
    assert_eq!(shell.supervisor.figures().handovers, 1);
    // One that stops in between is given up.
    let mut shell = Shell::up(lasting());
    shell.rotate_to(2);
    shell.on(1).serve();
    shell.forget();
    shell.pass_until_due();
    assert_eq!(shell.take_log(), ["close 2 Abort"]);
}

/// Nothing was shown, so nothing made room, so the answer that would have ended this was never read.
#[test]
fn a_full_queue_that_is_held_back_does_not_keep_the_end_of_a_handover_from_being_read() {
    let overflow = Overflow::Block { max_stall: Duration::MAX };
    let mut shell = Shell::up(Policy { overflow, ..lasting() });
    shell.prepare(1, 2);
    shell.on(1).read(OLD);
    shell.read(&dropped());
    assert_eq!(shell.supervisor.state(), State::CatchingUp);
    let more = shell.queue.capacity + 1;
    shell.read(&(0..more).map(|_| note("1")).collect::<Vec<_>>().concat());
    assert_eq!(shell.supervisor.figures().stalls, 0);
    shell.serve();
    assert_eq!(shell.supervisor.state(), State::Connected);
    assert_eq!(shell.seen()[0], "GAP");
}

/// It named the session that was opened last, which never came to be.
#[test]
fn a_gap_that_is_told_by_a_close_names_the_session_that_goes_on() {
    let mut shell = Shell::up(Policy { hook: Some(HOOK), ..lasting() });
    shell.rotate_to(2);
    shell.event(broken());
    shell.on(1).serve_all();
    shell.read(OLD);
    shell.read(&dropped());
    assert_eq!(shell.supervisor.state(), State::CatchingUp);
    shell.command(Command::Close);
    shell.read(&note("1"));
    assert_eq!(shell.seen(), ["GAP", "1"]);
    assert_eq!(shell.take_gaps()[0].epoch(), 1);
}

/// The new session waits, unread: that it has spoken says nothing of the old one.
#[test]
fn the_silence_of_the_old_session_is_its_own() {
    let mut shell = Shell::up(lasting());
    shell.prepare(1, 2);
    assert_eq!(shell.serve(), ["notify"]);
    shell.pass(Duration::from_secs(5));
    let fence = shell.fence();
    shell.read(&fence);
    assert_eq!(shell.due_in(), HEARTBEAT.deadline - Duration::from_secs(5));
    shell.pass_until_due();
    assert_eq!(shell.supervisor.figures().sessions_lost, 1);
}

/// With each one that the consumer took, all the others were searched again.
#[test]
fn a_run_without_room_is_searched_once_for_the_fence() {
    let mut shell = prepared();
    shell.serve();
    let fence = shell.fence();
    shell.read(&fence);
    let looked_at = looked_at_in_a_run_without_room(shell.on(1));
    assert!(looked_at <= 500, "{looked_at}");
    // The same for a run with the fence in it.
    let mut shell = prepared();
    shell.serve();
    shell.read(&fence);
    shell.on(1).read(&[&A1.repeat(6), &fence[..], A1].concat());
    assert_eq!((shell.queue.taken, shell.wire().reading()), (4, false));
    shell.consume(4);
    assert_eq!((shell.queue.taken, shell.supervisor.figures().handovers), (6, 1));
}

/// They were no progress: with many of them the handover was given up.
#[test]
fn a_handover_with_many_refused_channels_takes_longer_than_its_limit() {
    let channels: Vec<String> = (0..10).map(|n| format!("c{n}")).collect();
    let mut shell = Shell::up(Policy { channels: channels.clone(), ..lasting() });
    shell.refused.extend(channels);
    shell.come_back();
    shell.serve_all();
    shell.rotate_to(3);
    shell.on(2).serve();
    let began = shell.now;
    for _ in 0..2 {
        for line in shell.on(3).take_sent() {
            shell.pass(seconds(4));
            let answer = shell.answer(&line);
            shell.read(&answer);
        }
    }
    assert_eq!(shell.now - began, seconds(48));
    shell.exchange(2);
    assert_eq!(shell.supervisor.figures().handovers, 1);
}
