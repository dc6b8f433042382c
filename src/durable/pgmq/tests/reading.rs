//! Reads, and the time in which a job is this consumer's.

use std::time::{Duration, Instant};

use super::super::found::Found;
use super::super::machine::{Answer, Command, Effect, End, Failed};
use super::{
    SECOND, VISIBILITY, changed, claim, fates, found, machine, machine_with_a_run, message, poll,
    read, start,
};

#[test]
fn it_reads_until_a_batch_is_short_and_no_more_than_it_may_have() {
    let (mut machine, now) = (machine(), Instant::now());
    read(&mut machine, now, vec![message(1, 1), message(2, 1), message(3, 1)]);
    // A full batch: there may be more. One job waits, so there is no room.
    assert_eq!(start(&mut machine, now), [1, 2]);
    assert_eq!(poll(&mut machine, now), None);
    machine.handle_ended(1, End::Done);
    assert_eq!(start(&mut machine, now), [3]);
    assert_eq!(poll(&mut machine, now), Some(Command::Finish(vec![claim(1, 1)])));
    changed(&mut machine, now, &[1]);
    read(&mut machine, now, vec![message(4, 1)]);
    for id in [2, 3] {
        machine.handle_ended(id, End::Done);
    }
    let both = vec![claim(2, 1), claim(3, 1)];
    assert_eq!(poll(&mut machine, now), Some(Command::Finish(both)));
    changed(&mut machine, now, &[2, 3]);
    assert_eq!(start(&mut machine, now), [4]);
    // The last batch was short.
    assert_eq!(poll(&mut machine, now), None);
    machine.handle_woken(now);
    read(&mut machine, now, Vec::new());
    let stats = machine.stats();
    assert_eq!((stats.reads, stats.jobs, stats.finished, stats.running), (3, 4, 3, 1));
}

#[test]
fn a_full_batch_that_has_ended_is_finished_by_the_statement_that_reads_the_next_one() {
    let (mut machine, now) = (machine(), Instant::now());
    read(&mut machine, now, vec![message(1, 1), message(2, 1), message(3, 1)]);
    start(&mut machine, now);
    for id in [1, 2] {
        machine.handle_ended(id, End::Done);
    }
    assert_eq!(start(&mut machine, now), [3]);
    machine.handle_ended(3, End::Done);
    let all = vec![claim(1, 1), claim(2, 1), claim(3, 1)];
    assert_eq!(poll(&mut machine, now), Some(Command::FinishAndRead(all.clone(), 3)));
    // It is not known whether it was executed: each part is repeated alone, with what that says of the other.
    machine.handle_failed(now, Failed::InDoubt);
    assert_eq!(poll(&mut machine, now), Some(Command::Finish(all)));
    changed(&mut machine, now, &[1, 2, 3]);
    read(&mut machine, now, vec![message(4, 1), message(5, 1), message(6, 1)]);
    start(&mut machine, now);
    for id in [4, 5] {
        machine.handle_ended(id, End::Done);
    }
    start(&mut machine, now);
    machine.handle_ended(6, End::Done);
    assert!(matches!(poll(&mut machine, now), Some(Command::FinishAndRead(..))));
    let next = Found { messages: vec![message(7, 1)], ..Found::default() };
    let answer = Answer::FinishedAndRead(fates(&[4, 6]), next);
    let effects = machine.handle_answer(now, answer);
    assert_eq!(effects, [Effect::Overtaken { msg_id: 5 }]);
    assert_eq!(start(&mut machine, now), [7]);
    machine.handle_ended(7, End::Done);
    // The batch was short.
    assert_eq!(poll(&mut machine, now), Some(Command::Finish(vec![claim(7, 1)])));
    let stats = machine.stats();
    assert_eq!((stats.reads, stats.jobs, stats.finished, stats.overtaken), (3, 7, 5, 1));
}

#[test]
fn a_refused_finish_does_not_undo_reads_again_and_again() {
    let (mut machine, now) = (machine(), Instant::now());
    read(&mut machine, now, vec![message(1, 1), message(2, 1), message(3, 1)]);
    start(&mut machine, now);
    machine.handle_ended(1, End::Done);
    start(&mut machine, now);
    for id in [2, 3] {
        machine.handle_ended(id, End::Done);
    }
    assert!(matches!(poll(&mut machine, now), Some(Command::FinishAndRead(..))));
    machine.handle_failed(now, Failed::Refused);
    for id in 1..=3 {
        assert_eq!(poll(&mut machine, now), Some(Command::Finish(vec![claim(id, 1)])));
        changed(&mut machine, now, &[id]);
    }
    assert_eq!(poll(&mut machine, now), Some(Command::Read(3)));
}

/// G5: what wakes while a read is being executed is one more read.
#[test]
fn a_burst_of_wake_ups_is_one_more_read() {
    let (mut machine, now) = (machine(), Instant::now());
    assert!(poll(&mut machine, now).is_some());
    for _ in 0..10_000 {
        machine.handle_woken(now);
    }
    machine.handle_answer(now, found(Vec::new(), false));
    read(&mut machine, now, Vec::new());
    assert_eq!(poll(&mut machine, now), None);
    assert_eq!(machine.next_time(), None);
}

/// G7: a message that was sent within the throttle has no notification. A later notification is followed by a read of its own.
#[test]
fn it_reads_once_more_when_the_throttle_of_the_last_notification_has_passed() {
    let (mut machine, now) = (machine(), Instant::now());
    let throttle = Duration::from_millis(250);
    machine.set_throttle(now, Some(throttle));
    machine.handle_woken(now);
    read(&mut machine, now, Vec::new());
    assert_eq!(poll(&mut machine, now), None);
    assert_eq!(machine.next_time(), Some(now + throttle));
    let later = now + throttle * 4 / 5;
    assert_eq!(poll(&mut machine, later), None);
    machine.handle_woken(later);
    read(&mut machine, later, Vec::new());
    assert_eq!(poll(&mut machine, now + throttle), None);
    read(&mut machine, later + throttle, Vec::new());
    assert_eq!((poll(&mut machine, now + SECOND), machine.next_time()), (None, None));
}

/// An earlier version computed an instant that does not exist, and the panic ended the consumer.
#[test]
fn a_handler_can_ask_for_the_longest_time() {
    let (mut machine, now) = (machine(), Instant::now());
    read(&mut machine, now, vec![message(1, 1)]);
    assert_eq!(start(&mut machine, now), [1]);
    assert_eq!(machine.handle_wanted(1, Duration::MAX, now), Some(false));
    let Some(Command::SetVisibility(jobs)) = poll(&mut machine, now) else { panic!() };
    assert!(jobs[0].1 < Duration::MAX);
    assert_eq!(changed(&mut machine, now, &[1]), [Effect::Extended { msg_id: 1, is_held: true }]);
    // It has that already.
    assert_eq!(machine.handle_wanted(1, Duration::MAX, now), Some(true));
}

#[test]
fn visibility_is_extended_when_a_third_of_it_has_passed_and_never_shortened() {
    let (mut machine, now) = (machine(), Instant::now());
    read(&mut machine, now, vec![message(1, 1), message(2, 4 - 3)]);
    assert_eq!(start(&mut machine, now), [1, 2]);
    assert_eq!(poll(&mut machine, now), None);
    assert_eq!(machine.next_time(), Some(now + VISIBILITY / 3));
    assert_eq!(poll(&mut machine, now + VISIBILITY / 3 - SECOND), None);
    let due = now + VISIBILITY / 3;
    let both = vec![(claim(1, 1), VISIBILITY), (claim(2, 1), VISIBILITY)];
    assert_eq!(poll(&mut machine, due), Some(Command::SetVisibility(both)));
    changed(&mut machine, due, &[1, 2]);
    assert_eq!((machine.next_time(), machine.stats().extended), (Some(due + VISIBILITY / 3), 2));

    // More time than usual, for one of them.
    assert_eq!(machine.handle_wanted(1, SECOND, due), Some(true));
    let long = VISIBILITY * 4;
    assert_eq!(machine.handle_wanted(1, long, due), Some(false));
    assert_eq!(machine.handle_wanted(9, long, due), None);
    let one = vec![(claim(1, 1), long)];
    assert_eq!(poll(&mut machine, due), Some(Command::SetVisibility(one)));
    let effects = changed(&mut machine, due, &[1]);
    assert_eq!(effects, [Effect::Extended { msg_id: 1, is_held: true }]);
    let next = due + VISIBILITY / 3;
    let other = vec![(claim(2, 1), VISIBILITY)];
    assert_eq!(poll(&mut machine, next), Some(Command::SetVisibility(other)));
    // It was taken by another reader: what this one does with it later has no effect.
    let effects = changed(&mut machine, next, &[]);
    assert_eq!(effects[0], Effect::Extended { msg_id: 2, is_held: false });
    assert_eq!(machine.stats().overtaken, 1);
    machine.handle_ended(2, End::Done);
    assert_eq!(poll(&mut machine, next), None);
}

/// A job that ends its process in each attempt never returns an error.
#[test]
fn a_job_that_was_read_too_often_is_put_aside_without_an_attempt() {
    let (mut machine, now) = (machine(), Instant::now());
    read(&mut machine, now, vec![message(1, 4)]);
    assert_eq!(start(&mut machine, now), [] as [i64; 0]);
    let Some(Command::Bury(jobs)) = poll(&mut machine, now) else { panic!() };
    assert_eq!((jobs[0].0, &*jobs[0].1), (claim(1, 4), "it was read 3 times and did not end"));
}

#[test]
fn a_job_that_is_read_again_while_its_handler_runs_is_not_started_again() {
    let (mut machine, now) = (machine(), Instant::now());
    read(&mut machine, now, vec![message(1, 1)]);
    start(&mut machine, now);
    // The session was lost for longer than the timeout.
    let late = now + VISIBILITY * 2;
    assert!(matches!(poll(&mut machine, late), Some(Command::SetVisibility(_))));
    machine.handle_failed(now, Failed::Undone);
    machine.handle_woken(late);
    assert!(matches!(poll(&mut machine, late), Some(Command::SetVisibility(_))));
    machine.handle_failed(now, Failed::Undone);
    // A read that was sent before.
    let mut machine = machine_with_a_run(now);
    machine.handle_woken(now);
    assert!(poll(&mut machine, now).is_some());
    let again = vec![message(1, 2)];
    machine.handle_answer(late, found(again, false));
    assert_eq!(start(&mut machine, late), [] as [i64; 0]);
    machine.handle_ended(1, End::Done);
    assert_eq!(poll(&mut machine, now), Some(Command::Finish(vec![claim(1, 2)])));
    assert_eq!(machine.stats().lapsed, 1);
}

#[test]
fn a_job_whose_timeout_has_passed_before_it_starts_is_given_back() {
    let (mut machine, now) = (machine(), Instant::now());
    read(&mut machine, now, vec![message(1, 1)]);
    let late = now + VISIBILITY;
    assert_eq!(start(&mut machine, late), [] as [i64; 0]);
    assert_eq!(poll(&mut machine, late), Some(Command::Release(vec![claim(1, 1)])));
    changed(&mut machine, late, &[1]);
    read(&mut machine, late, vec![message(1, 1)]);
    assert_eq!(start(&mut machine, late), [1]);
}

/// An earlier version extended it for as long as the handlers were busy, and no other consumer could read it.
#[test]
fn a_job_that_waits_for_a_handler_is_given_back_after_a_third_of_its_timeout() {
    let (mut machine, now) = (machine(), Instant::now());
    read(&mut machine, now, (1..=3).map(|id| message(id, 1)).collect());
    assert_eq!(start(&mut machine, now), [1, 2]);
    let due = now + VISIBILITY / 3;
    let both = vec![(claim(1, 1), VISIBILITY), (claim(2, 1), VISIBILITY)];
    assert_eq!(poll(&mut machine, due), Some(Command::SetVisibility(both)));
    changed(&mut machine, due, &[1, 2]);
    assert_eq!(poll(&mut machine, due), Some(Command::Release(vec![claim(3, 1)])));
    changed(&mut machine, due, &[3]);
    // It is not read again before a handler is free, and not more than can be started.
    assert_eq!(poll(&mut machine, due), None);
    machine.handle_ended(1, End::Done);
    assert!(matches!(poll(&mut machine, due), Some(Command::Finish(_))));
    changed(&mut machine, due, &[1]);
    assert_eq!(poll(&mut machine, due), Some(Command::Read(1)));
    machine.handle_answer(due, found(vec![message(3, 1)], true));
    assert_eq!(start(&mut machine, due), [3]);
    // A short run: whole batches are read again, so that the handlers are busy between two reads.
    machine.handle_ended(3, End::Done);
    assert!(matches!(poll(&mut machine, due), Some(Command::Finish(_))));
    changed(&mut machine, due, &[3]);
    assert_eq!(poll(&mut machine, due), Some(Command::Read(3)));
}

/// An earlier version started it with any time that was left, so another reader could have it a moment later.
#[test]
fn a_job_with_less_than_a_third_of_its_timeout_is_extended_before_it_starts() {
    let (mut machine, now) = (machine(), Instant::now());
    assert!(poll(&mut machine, now).is_some());
    // The answer has taken long.
    let late = now + VISIBILITY * 3 / 4;
    machine.handle_answer(late, found(vec![message(1, 1), message(2, 1)], false));
    assert_eq!(start(&mut machine, late), [] as [i64; 0]);
    let both = vec![(claim(1, 1), VISIBILITY), (claim(2, 1), VISIBILITY)];
    assert_eq!(poll(&mut machine, late), Some(Command::SetVisibility(both)));
    changed(&mut machine, late, &[1, 2]);
    assert_eq!(start(&mut machine, late), [1, 2]);
}

/// What does not fit into a result was read nevertheless. An earlier version read it again and again, until the attempts were used up.
#[test]
fn messages_that_do_not_fit_into_a_result_are_given_back_or_put_aside() {
    let (mut machine, now) = (machine(), Instant::now());
    assert!(poll(&mut machine, now).is_some());
    let reason: std::sync::Arc<str> = "too large".into();
    machine.handle_answer(
        now,
        Answer::Read(Found {
            messages: vec![message(1, 1)],
            left_out: vec![claim(3, 1)],
            too_large: vec![(claim(2, 1), reason.clone())],
            is_full: true,
        }),
    );
    assert_eq!(start(&mut machine, now), [1]);
    let bury = Command::Bury(vec![(claim(2, 1), reason.clone())]);
    assert_eq!(poll(&mut machine, now), Some(bury));
    let effects = changed(&mut machine, now, &[2]);
    assert_eq!(effects, [Effect::Dead { msg_id: 2, attempts: 1, reason }]);
    assert_eq!(poll(&mut machine, now), Some(Command::Release(vec![claim(3, 1)])));
    changed(&mut machine, now, &[3]);
    read(&mut machine, now, vec![message(3, 1)]);
    assert_eq!(start(&mut machine, now), [3]);
}

/// Its data is with the handler already.
#[test]
fn a_running_job_that_is_read_again_and_left_out_runs_on() {
    let (now, late) = (Instant::now(), Instant::now() + VISIBILITY * 2);
    let mut machine = machine_with_a_run(now);
    machine.handle_woken(now);
    assert!(poll(&mut machine, now).is_some());
    let left_out = vec![claim(1, 2)];
    machine.handle_answer(late, Answer::Read(Found { left_out, ..Found::default() }));
    machine.handle_ended(1, End::Done);
    assert_eq!(poll(&mut machine, late), Some(Command::Finish(vec![claim(1, 2)])));
}

#[test]
fn what_a_lost_read_has_taken_is_read_when_its_timeout_has_passed() {
    let (mut machine, now) = (machine(), Instant::now());
    assert_eq!(poll(&mut machine, now), Some(Command::Read(3)));
    machine.handle_failed(now, Failed::InDoubt);
    read(&mut machine, now, Vec::new());
    assert_eq!(poll(&mut machine, now), None);
    let visible = now + VISIBILITY + SECOND;
    assert_eq!(machine.next_time(), Some(visible));
    assert_eq!(poll(&mut machine, visible), Some(Command::Read(3)));
}

/// An earlier version waited for the poll.
#[test]
fn a_hidden_message_is_read_when_it_becomes_visible() {
    let (mut machine, now) = (machine(), Instant::now());
    read(&mut machine, now, vec![message(1, 1)]);
    let asked = Command::LookAhead { held: vec![1], since: SECOND };
    assert_eq!(machine.poll_command(now + SECOND), Some(asked));
    machine.handle_answer(now + SECOND, Answer::VisibleIn(Some(5 * SECOND)));
    assert_eq!(start(&mut machine, now + SECOND), [1]);
    machine.handle_ended(1, End::Done);
    assert_eq!(machine.poll_command(now + SECOND), Some(Command::Finish(vec![claim(1, 1)])));
    changed(&mut machine, now + SECOND, &[1]);
    assert_eq!(machine.next_time(), Some(now + 6 * SECOND));
    assert_eq!(machine.poll_command(now + 5 * SECOND), None);
    assert_eq!(machine.poll_command(now + 6 * SECOND), Some(Command::Read(3)));
    // The time that is over is not used again, and the next read asks anew.
    machine.handle_answer(now + 7 * SECOND, found(vec![], false));
    let asked = Command::LookAhead { held: vec![], since: SECOND };
    assert_eq!(machine.poll_command(now + 7 * SECOND), Some(asked));
    machine.handle_failed(now + 7 * SECOND, Failed::InDoubt);
    assert_eq!(machine.poll_command(now + 60 * SECOND), None);
    // A stop asks nothing.
    machine.handle_woken(now + 60 * SECOND);
    read(&mut machine, now + 60 * SECOND, vec![]);
    machine.handle_stop();
    assert_eq!(machine.poll_command(now + 90 * SECOND), None);
    assert_eq!(machine.next_time(), None);
}
