//! Single decisions.

use std::time::{Duration, Instant};

use super::super::machine::{Answer, Command, ConsumerMachine, Effect, End, Failed};
use super::{VISIBILITY, claim, machine, message, read, settings, start};

const SECOND: Duration = Duration::from_secs(1);

fn failed(reason: &str) -> End {
    End::Failed(reason.to_owned())
}

/// Answers the command that is being executed: these were changed.
fn changed(machine: &mut ConsumerMachine, now: Instant, ids: &[i64]) -> Vec<Effect> {
    machine.handle_answer(now, Answer::Changed(ids.to_vec()))
}

#[test]
fn it_reads_until_a_batch_is_short_and_no_more_than_it_may_have() {
    let (mut machine, now) = (machine(), Instant::now());
    read(&mut machine, now, vec![message(1, 1), message(2, 1), message(3, 1)]);
    // A full batch: there may be more. One job waits, so there is no room.
    assert_eq!(start(&mut machine, now), [1, 2]);
    assert_eq!(machine.poll_command(now), None);
    machine.handle_ended(1, End::Done);
    assert_eq!(start(&mut machine, now), [3]);
    assert_eq!(machine.poll_command(now), Some(Command::Finish(vec![claim(1, 1)])));
    changed(&mut machine, now, &[1]);
    read(&mut machine, now, vec![message(4, 1)]);
    for id in [2, 3] {
        machine.handle_ended(id, End::Done);
    }
    let both = vec![claim(2, 1), claim(3, 1)];
    assert_eq!(machine.poll_command(now), Some(Command::Finish(both)));
    changed(&mut machine, now, &[2, 3]);
    assert_eq!(start(&mut machine, now), [4]);
    // The last batch was short.
    assert_eq!(machine.poll_command(now), None);
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
    assert_eq!(machine.poll_command(now), Some(Command::FinishAndRead(all.clone(), 3)));
    // It is not known whether it was executed: each part is repeated alone, with what that says of the other.
    machine.handle_failed(Failed::InDoubt);
    assert_eq!(machine.poll_command(now), Some(Command::Finish(all)));
    changed(&mut machine, now, &[1, 2, 3]);
    read(&mut machine, now, vec![message(4, 1), message(5, 1), message(6, 1)]);
    start(&mut machine, now);
    for id in [4, 5] {
        machine.handle_ended(id, End::Done);
    }
    start(&mut machine, now);
    machine.handle_ended(6, End::Done);
    assert!(matches!(machine.poll_command(now), Some(Command::FinishAndRead(..))));
    let (changed, messages) = (vec![4, 6], vec![message(7, 1)]);
    let answer = Answer::FinishedAndRead { changed, messages, is_full: false };
    let effects = machine.handle_answer(now, answer);
    assert_eq!(effects, [Effect::Overtaken { msg_id: 5 }]);
    assert_eq!(start(&mut machine, now), [7]);
    machine.handle_ended(7, End::Done);
    // The batch was short.
    assert_eq!(machine.poll_command(now), Some(Command::Finish(vec![claim(7, 1)])));
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
    assert!(matches!(machine.poll_command(now), Some(Command::FinishAndRead(..))));
    machine.handle_failed(Failed::Refused);
    for id in 1..=3 {
        assert_eq!(machine.poll_command(now), Some(Command::Finish(vec![claim(id, 1)])));
        changed(&mut machine, now, &[id]);
    }
    assert_eq!(machine.poll_command(now), Some(Command::Read(3)));
}

/// G5: what wakes while a read is being executed is one more read.
#[test]
fn a_burst_of_wake_ups_is_one_more_read() {
    let (mut machine, now) = (machine(), Instant::now());
    assert!(machine.poll_command(now).is_some());
    for _ in 0..10_000 {
        machine.handle_woken(now);
    }
    machine.handle_answer(now, Answer::Read { messages: Vec::new(), is_full: false });
    read(&mut machine, now, Vec::new());
    assert_eq!(machine.poll_command(now), None);
    assert_eq!(machine.next_time(), None);
}

/// G7: a message that was sent within the throttle has no notification. A later notification is followed by a read of its own.
#[test]
fn it_reads_once_more_when_the_throttle_of_the_last_notification_has_passed() {
    let (mut machine, now) = (machine(), Instant::now());
    let throttle = Duration::from_millis(250);
    machine.set_throttle(Some(throttle));
    machine.handle_woken(now);
    read(&mut machine, now, Vec::new());
    assert_eq!(machine.next_time(), Some(now + throttle));
    let later = now + throttle * 4 / 5;
    assert_eq!(machine.poll_command(later), None);
    machine.handle_woken(later);
    read(&mut machine, later, Vec::new());
    assert_eq!(machine.poll_command(now + throttle), None);
    read(&mut machine, later + throttle, Vec::new());
    assert_eq!((machine.poll_command(later + 2 * throttle), machine.next_time()), (None, None));
}

/// An earlier version computed an instant that does not exist, and the panic ended the consumer.
#[test]
fn a_handler_can_ask_for_the_longest_time() {
    let (mut machine, now) = (machine(), Instant::now());
    read(&mut machine, now, vec![message(1, 1)]);
    assert_eq!(start(&mut machine, now), [1]);
    assert_eq!(machine.handle_wanted(1, Duration::MAX, now), Some(false));
    let Some(Command::SetVisibility(jobs)) = machine.poll_command(now) else { panic!() };
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
    assert_eq!(machine.next_time(), Some(now + VISIBILITY / 3));
    assert_eq!(machine.poll_command(now + VISIBILITY / 3 - SECOND), None);
    let due = now + VISIBILITY / 3;
    let both = vec![(claim(1, 1), VISIBILITY), (claim(2, 1), VISIBILITY)];
    assert_eq!(machine.poll_command(due), Some(Command::SetVisibility(both)));
    changed(&mut machine, due, &[1, 2]);
    assert_eq!((machine.next_time(), machine.stats().extended), (Some(due + VISIBILITY / 3), 2));

    // More time than usual, for one of them.
    assert_eq!(machine.handle_wanted(1, SECOND, due), Some(true));
    let long = VISIBILITY * 4;
    assert_eq!(machine.handle_wanted(1, long, due), Some(false));
    assert_eq!(machine.handle_wanted(9, long, due), None);
    let one = vec![(claim(1, 1), long)];
    assert_eq!(machine.poll_command(due), Some(Command::SetVisibility(one)));
    let effects = changed(&mut machine, due, &[1]);
    assert_eq!(effects, [Effect::Extended { msg_id: 1, is_held: true }]);
    let next = due + VISIBILITY / 3;
    let other = vec![(claim(2, 1), VISIBILITY)];
    assert_eq!(machine.poll_command(next), Some(Command::SetVisibility(other)));
    // It was taken by another reader: what this one does with it later has no effect.
    let effects = changed(&mut machine, next, &[]);
    assert_eq!(effects[0], Effect::Extended { msg_id: 2, is_held: false });
    assert_eq!(machine.stats().overtaken, 1);
    machine.handle_ended(2, End::Done);
    assert_eq!(machine.poll_command(next), None);
}

#[test]
fn a_failed_attempt_is_read_again_after_a_delay_and_the_last_one_is_put_aside() {
    let (mut machine, now) = (machine(), Instant::now());
    for attempt in 1..=2 {
        machine.handle_woken(now);
        read(&mut machine, now, vec![message(1, attempt)]);
        assert_eq!(start(&mut machine, now), [1]);
        machine.handle_ended(1, failed("no"));
        let Some(Command::SetVisibility(jobs)) = machine.poll_command(now) else { panic!() };
        let [(one, delay)] = jobs[..] else { panic!("{jobs:?}") };
        assert_eq!(one, claim(1, attempt));
        let limit = SECOND * attempt;
        assert!(delay >= limit / 2 && delay <= limit, "{delay:?}");
        // The server counts from a later time than when the statement was sent.
        let answered = now + SECOND / 10;
        changed(&mut machine, answered, &[1]);
        assert_eq!(machine.next_time(), Some(answered + delay));
        assert_eq!(machine.poll_command(answered + delay - SECOND / 100), None);
        read(&mut machine, answered + delay, Vec::new());
    }
    machine.handle_woken(now);
    read(&mut machine, now, vec![message(1, 3)]);
    start(&mut machine, now);
    machine.handle_ended(1, failed("at last"));
    let reason: std::sync::Arc<str> = "at last".into();
    let bury = Command::Bury(vec![(claim(1, 3), reason.clone())]);
    assert_eq!(machine.poll_command(now), Some(bury));
    let effects = changed(&mut machine, now, &[1]);
    assert_eq!(effects, [Effect::Dead { msg_id: 1, attempts: 3, reason }]);
    let stats = machine.stats();
    assert_eq!((stats.failures, stats.dead), (3, 1));
    assert!(machine.is_idle());
}

/// A job that ends its process in each attempt never returns an error.
#[test]
fn a_job_that_was_read_too_often_is_put_aside_without_an_attempt() {
    let (mut machine, now) = (machine(), Instant::now());
    read(&mut machine, now, vec![message(1, 4)]);
    assert_eq!(start(&mut machine, now), [] as [i64; 0]);
    let Some(Command::Bury(jobs)) = machine.poll_command(now) else { panic!() };
    assert_eq!((jobs[0].0, &*jobs[0].1), (claim(1, 4), "it was read 3 times and did not end"));
}

#[test]
fn a_finished_job_whose_answer_is_lost_is_finished_again() {
    let (mut machine, now) = (machine(), Instant::now());
    read(&mut machine, now, vec![message(1, 1), message(2, 1)]);
    start(&mut machine, now);
    machine.handle_ended(1, End::Done);
    let finish = Some(Command::Finish(vec![claim(1, 1)]));
    assert_eq!(machine.poll_command(now), finish);
    machine.handle_failed(Failed::InDoubt);
    machine.handle_ended(2, End::Done);
    let both = Some(Command::Finish(vec![claim(1, 1), claim(2, 1)]));
    assert_eq!(machine.poll_command(now), both);
    // The first statement was executed. The second job is gone for another reason.
    let effects = changed(&mut machine, now, &[]);
    assert_eq!(effects, [Effect::Overtaken { msg_id: 2 }]);
    assert_eq!(machine.poll_command(now), Some(Command::Find(vec![1])));
    assert_eq!(changed(&mut machine, now, &[]), []);
    assert!(machine.is_idle());
    let stats = machine.stats();
    assert_eq!((stats.finished, stats.overtaken, stats.retries), (1, 1, 1));
}

/// An earlier version reported such a job as put aside, although another reader had it.
#[test]
fn a_job_in_doubt_that_another_reader_has_is_not_put_aside() {
    let (mut machine, now) = (machine(), Instant::now());
    read(&mut machine, now, vec![message(1, 3)]);
    start(&mut machine, now);
    machine.handle_ended(1, failed("no"));
    for _ in 0..2 {
        assert!(matches!(machine.poll_command(now), Some(Command::Bury(_))));
        machine.handle_failed(Failed::InDoubt);
    }
    assert!(matches!(machine.poll_command(now), Some(Command::Bury(_))));
    assert_eq!(changed(&mut machine, now, &[]), []);
    assert_eq!(machine.poll_command(now), Some(Command::Find(vec![1])));
    machine.handle_failed(Failed::Undone);
    assert_eq!(machine.poll_command(now), Some(Command::Find(vec![1])));
    assert_eq!(changed(&mut machine, now, &[1]), [Effect::Overtaken { msg_id: 1 }]);
    let stats = machine.stats();
    assert_eq!((stats.dead, stats.overtaken), (0, 1));
}

/// One batch would be tried for ever.
#[test]
fn a_job_that_the_server_refuses_to_finish_does_not_keep_the_others_from_it() {
    let (mut machine, now) = (machine(), Instant::now());
    read(&mut machine, now, vec![message(1, 1), message(2, 1)]);
    start(&mut machine, now);
    for id in [1, 2] {
        machine.handle_ended(id, End::Done);
    }
    let Some(Command::Finish(both)) = machine.poll_command(now) else { panic!() };
    assert_eq!(both.len(), 2);
    machine.handle_failed(Failed::Refused);
    assert_eq!(machine.poll_command(now), Some(Command::Finish(vec![claim(1, 1)])));
    machine.handle_failed(Failed::Refused);
    assert_eq!(machine.poll_command(now), Some(Command::Finish(vec![claim(2, 1)])));
    changed(&mut machine, now, &[2]);
    let stats = machine.stats();
    assert_eq!((stats.finished, stats.refused), (1, 1));
    assert!(machine.is_idle());
}

#[test]
fn a_stop_gives_back_what_was_not_started_and_lets_the_rest_end() {
    let (mut machine, now) = (machine(), Instant::now());
    read(&mut machine, now, vec![message(1, 1), message(2, 1), message(3, 1)]);
    assert_eq!(start(&mut machine, now), [1, 2]);
    machine.handle_ended(1, End::Done);
    machine.handle_stop();
    assert_eq!(start(&mut machine, now), [] as [i64; 0]);
    assert_eq!(machine.poll_command(now), Some(Command::Finish(vec![claim(1, 1)])));
    changed(&mut machine, now, &[1]);
    assert_eq!(machine.poll_command(now), Some(Command::Release(vec![claim(3, 1)])));
    changed(&mut machine, now, &[3]);
    assert_eq!((machine.poll_command(now), machine.is_idle()), (None, false));
    // An attempt that was cancelled has begun: it counts.
    machine.handle_ended(2, End::Cancelled);
    let again = vec![(claim(2, 1), Duration::ZERO)];
    assert_eq!(machine.poll_command(now), Some(Command::SetVisibility(again)));
    changed(&mut machine, now, &[2]);
    assert!(machine.is_idle());
    assert_eq!(machine.stats().released, 1);
}

/// A release gives the next read the same number, so a second one could be that of another reader.
#[test]
fn a_release_in_doubt_is_not_repeated() {
    let (mut machine, now) = (machine(), Instant::now());
    assert!(machine.poll_command(now).is_some());
    machine.handle_stop();
    machine.handle_answer(now, Answer::Read { messages: vec![message(1, 1)], is_full: false });
    assert_eq!(machine.poll_command(now), Some(Command::Release(vec![claim(1, 1)])));
    machine.handle_failed(Failed::InDoubt);
    assert_eq!((machine.poll_command(now), machine.is_idle()), (None, true));
}

#[test]
fn a_job_that_is_read_again_while_its_handler_runs_is_not_started_again() {
    let (mut machine, now) = (machine(), Instant::now());
    read(&mut machine, now, vec![message(1, 1)]);
    start(&mut machine, now);
    // The session was lost for longer than the timeout.
    let late = now + VISIBILITY * 2;
    assert!(matches!(machine.poll_command(late), Some(Command::SetVisibility(_))));
    machine.handle_failed(Failed::Undone);
    machine.handle_woken(late);
    assert!(matches!(machine.poll_command(late), Some(Command::SetVisibility(_))));
    machine.handle_failed(Failed::Undone);
    // A read that was sent before.
    let mut machine = machine_with_a_run(now);
    machine.handle_woken(now);
    assert!(machine.poll_command(now).is_some());
    let again = vec![message(1, 2)];
    machine.handle_answer(late, Answer::Read { messages: again, is_full: false });
    assert_eq!(start(&mut machine, late), [] as [i64; 0]);
    machine.handle_ended(1, End::Done);
    assert_eq!(machine.poll_command(now), Some(Command::Finish(vec![claim(1, 2)])));
    assert_eq!(machine.stats().lapsed, 1);
}

fn machine_with_a_run(now: Instant) -> ConsumerMachine {
    let mut machine = machine();
    read(&mut machine, now, vec![message(1, 1)]);
    assert_eq!(start(&mut machine, now), [1]);
    machine
}

#[test]
fn a_job_whose_timeout_has_passed_before_it_starts_is_given_back() {
    let (mut machine, now) = (machine(), Instant::now());
    read(&mut machine, now, vec![message(1, 1)]);
    let late = now + VISIBILITY;
    assert_eq!(start(&mut machine, late), [] as [i64; 0]);
    assert_eq!(machine.poll_command(late), Some(Command::Release(vec![claim(1, 1)])));
    changed(&mut machine, late, &[1]);
    read(&mut machine, late, vec![message(1, 1)]);
    assert_eq!(start(&mut machine, late), [1]);
}

#[test]
fn delays_double_up_to_the_longest_one_and_spread() {
    let mut delays = Vec::new();
    for seed in 0..50 {
        let mut limits = settings();
        limits.max_attempts = 100;
        let mut machine = ConsumerMachine::new(limits, seed);
        let now = Instant::now();
        read(&mut machine, now, vec![message(1, 20)]);
        start(&mut machine, now);
        machine.handle_ended(1, failed(""));
        let Some(Command::SetVisibility(jobs)) = machine.poll_command(now) else { panic!() };
        delays.push(jobs[0].1);
    }
    let (least, most) = (delays.iter().min().unwrap(), delays.iter().max().unwrap());
    assert!(*least >= 4 * SECOND && *most <= 8 * SECOND, "{least:?} {most:?}");
    assert!(*least < 5 * SECOND && *most > 7 * SECOND, "no jitter: {least:?} {most:?}");
}
