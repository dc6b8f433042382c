//! Single decisions.

use std::time::{Duration, Instant};

use super::super::fate::{Fate, Fates};
use super::super::found::Found;
use super::super::machine::{Answer, Command, ConsumerMachine, Effect, End, Failed};
use super::{Claim, VISIBILITY, claim, fates, found, machine, message, read, settings, start};

const SECOND: Duration = Duration::from_secs(1);

fn failed(reason: &str) -> End {
    End::Failed(reason.to_owned())
}

/// Answers the command that is being executed: these were changed.
fn changed(machine: &mut ConsumerMachine, now: Instant, ids: &[i64]) -> Vec<Effect> {
    machine.handle_answer(now, Answer::Changed(fates(ids)))
}

/// Answers the command that is being executed: this is what it has done with the jobs.
fn fated(machine: &mut ConsumerMachine, now: Instant, fates: &[(i64, Fate)]) -> Vec<Effect> {
    machine.handle_answer(now, Answer::Changed(Fates::new(fates.iter().copied())))
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
    machine.handle_failed(now, Failed::InDoubt);
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
    let next = Found { messages: vec![message(7, 1)], ..Found::default() };
    let answer = Answer::FinishedAndRead(fates(&[4, 6]), next);
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
    machine.handle_failed(now, Failed::Refused);
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
    machine.handle_answer(now, found(Vec::new(), false));
    read(&mut machine, now, Vec::new());
    assert_eq!(machine.poll_command(now), None);
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
    machine.handle_failed(now, Failed::InDoubt);
    machine.handle_ended(2, End::Done);
    let both = Some(Command::Finish(vec![claim(1, 1), claim(2, 1)]));
    assert_eq!(machine.poll_command(now), both);
    // The first statement was executed. The second job has another reader.
    let answer = [(1, Fate::Removed), (2, Fate::Taken)];
    assert_eq!(fated(&mut machine, now, &answer), [Effect::Overtaken { msg_id: 2 }]);
    assert!(machine.is_idle());
    let stats = machine.stats();
    assert_eq!((stats.finished, stats.overtaken, stats.retries), (1, 1, 1));
}

/// An earlier version reported such a job as put aside, although another reader had it.
#[test]
fn a_job_in_doubt_that_another_reader_has_is_not_put_aside() {
    let (mut machine, mut now) = (machine(), Instant::now());
    read(&mut machine, now, vec![message(1, 3)]);
    start(&mut machine, now);
    machine.handle_ended(1, failed("no"));
    for _ in 0..2 {
        assert!(matches!(machine.poll_command(now), Some(Command::Bury(_))));
        machine.handle_failed(now, Failed::InDoubt);
        now += SECOND;
    }
    assert!(matches!(machine.poll_command(now), Some(Command::Bury(_))));
    let effects = fated(&mut machine, now, &[(1, Fate::Taken)]);
    assert_eq!(effects, [Effect::Overtaken { msg_id: 1 }]);
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
    machine.handle_failed(now, Failed::Refused);
    assert_eq!(machine.poll_command(now), Some(Command::Finish(vec![claim(1, 1)])));
    machine.handle_failed(now, Failed::Refused);
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
    // One that was cancelled has not failed.
    machine.handle_ended(2, End::Cancelled);
    assert_eq!(machine.poll_command(now), Some(Command::Release(vec![claim(2, 1)])));
    changed(&mut machine, now, &[2]);
    assert!(machine.is_idle());
    assert_eq!(machine.stats().released, 2);
}

/// A release gives the next read the same number, so a second one could be that of another reader.
#[test]
fn a_release_in_doubt_is_not_repeated() {
    let (mut machine, now) = (machine(), Instant::now());
    assert!(machine.poll_command(now).is_some());
    machine.handle_stop();
    machine.handle_answer(now, found(vec![message(1, 1)], false));
    assert_eq!(machine.poll_command(now), Some(Command::Release(vec![claim(1, 1)])));
    machine.handle_failed(now, Failed::InDoubt);
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
    machine.handle_failed(now, Failed::Undone);
    machine.handle_woken(late);
    assert!(matches!(machine.poll_command(late), Some(Command::SetVisibility(_))));
    machine.handle_failed(now, Failed::Undone);
    // A read that was sent before.
    let mut machine = machine_with_a_run(now);
    machine.handle_woken(now);
    assert!(machine.poll_command(now).is_some());
    let again = vec![message(1, 2)];
    machine.handle_answer(late, found(again, false));
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

/// An earlier version waited for the lock, and all other jobs lapsed meanwhile.
#[test]
fn a_job_that_a_transaction_has_locked_does_not_let_the_others_lapse() {
    let (mut machine, now) = (machine(), Instant::now());
    read(&mut machine, now, vec![message(1, 1), message(2, 1)]);
    start(&mut machine, now);
    let due = now + VISIBILITY / 3;
    assert!(matches!(machine.poll_command(due), Some(Command::SetVisibility(_))));
    let effects = fated(&mut machine, due, &[(1, Fate::Locked), (2, Fate::Changed)]);
    let expected = [Effect::Locked { msg_id: 1 }, Effect::Extended { msg_id: 2, is_held: true }];
    assert_eq!(effects, expected);
    // Soon again, and not at once.
    assert_eq!(machine.poll_command(due), None);
    let again = machine.next_time().unwrap();
    assert!(again > due && again <= due + SECOND, "{:?}", again - due);
    let one = vec![(claim(1, 1), VISIBILITY)];
    assert_eq!(machine.poll_command(again), Some(Command::SetVisibility(one)));
    fated(&mut machine, again, &[(1, Fate::Locked)]);

    // Its end waits for the lock too, and the end of the other one and reads do not.
    for id in [1, 2] {
        machine.handle_ended(id, End::Done);
    }
    let both = vec![claim(1, 1), claim(2, 1)];
    assert_eq!(machine.poll_command(again), Some(Command::Finish(both)));
    fated(&mut machine, again, &[(1, Fate::Locked), (2, Fate::Changed)]);
    machine.handle_woken(again);
    read(&mut machine, again, vec![message(3, 1)]);
    assert_eq!(start(&mut machine, again), [3]);
    machine.handle_ended(3, End::Done);
    assert_eq!(machine.poll_command(again), Some(Command::Finish(vec![claim(3, 1)])));
    changed(&mut machine, again, &[3]);
    let mut time = again;
    for _ in 0..20 {
        let next = machine.next_time().unwrap();
        assert!(next > time && next <= time + SECOND, "{:?}", next - time);
        time = next;
        assert_eq!(machine.poll_command(time), Some(Command::Finish(vec![claim(1, 1)])));
        fated(&mut machine, time, &[(1, Fate::Locked)]);
    }
    time = machine.next_time().unwrap();
    assert!(machine.poll_command(time).is_some());
    changed(&mut machine, time, &[1]);
    let stats = machine.stats();
    assert_eq!((stats.finished, stats.overtaken, stats.locked), (3, 0, 23));
    assert!(machine.is_idle());
}

/// An earlier version counted it as overtaken, although this is how its effects and its end are one transaction.
#[test]
fn a_job_that_its_handler_has_removed_itself_is_not_overtaken() {
    let (mut machine, now) = (machine(), Instant::now());
    read(&mut machine, now, vec![message(1, 1), message(2, 1)]);
    start(&mut machine, now);
    machine.handle_ended(1, End::Done);
    assert!(machine.poll_command(now).is_some());
    assert_eq!(fated(&mut machine, now, &[(1, Fate::Removed)]), []);
    // The other one runs on after that.
    let due = now + VISIBILITY / 3;
    assert!(matches!(machine.poll_command(due), Some(Command::SetVisibility(_))));
    let effects = fated(&mut machine, due, &[(2, Fate::Removed)]);
    assert_eq!(effects, [Effect::Extended { msg_id: 2, is_held: false }]);
    assert_eq!((machine.poll_command(due), machine.next_time()), (None, None));
    machine.handle_ended(2, End::Done);
    assert!(machine.poll_command(due).is_some());
    assert_eq!(fated(&mut machine, due, &[(2, Fate::Removed)]), []);
    let stats = machine.stats();
    assert_eq!((stats.removed, stats.overtaken, stats.finished), (2, 0, 0));
    assert!(machine.is_idle());
}

#[test]
fn a_job_that_is_removed_while_another_reader_could_have_it_is_overtaken() {
    let (mut machine, now) = (machine(), Instant::now());
    read(&mut machine, now, vec![message(1, 1), message(2, 1)]);
    start(&mut machine, now);
    machine.handle_ended(1, failed("no"));
    assert!(machine.poll_command(now).is_some());
    // It has failed, so it has not finished its job.
    let effects = fated(&mut machine, now, &[(1, Fate::Removed)]);
    assert_eq!(effects, [Effect::Overtaken { msg_id: 1 }]);
    let late = now + VISIBILITY;
    machine.handle_ended(2, End::Done);
    assert!(matches!(machine.poll_command(late), Some(Command::Finish(_))));
    let effects = fated(&mut machine, late, &[(2, Fate::Removed)]);
    assert_eq!(effects, [Effect::Overtaken { msg_id: 2 }]);
}

/// An earlier version tried it for ever, and read nothing.
#[test]
fn a_dead_letter_queue_that_refuses_does_not_stop_other_jobs() {
    let (mut machine, now) = (machine(), Instant::now());
    read(&mut machine, now, vec![message(1, 3), message(2, 1)]);
    start(&mut machine, now);
    machine.handle_ended(1, failed("the reason"));
    assert!(matches!(machine.poll_command(now), Some(Command::Bury(_))));
    assert!(machine.is_storing() && machine.is_burying());
    let effects = machine.handle_failed(now, Failed::Refused);
    assert_eq!(effects, [Effect::Refused { msg_id: 1 }]);
    machine.handle_woken(now);
    read(&mut machine, now, vec![message(3, 1)]);
    assert_eq!((start(&mut machine, now), machine.stats().refused), (vec![3], 1));
    // After its timeout it is read again. It is put aside for the reason that it had.
    machine.handle_woken(now);
    assert!(machine.poll_command(now).is_some());
    machine.handle_answer(now, found(vec![message(1, 4)], false));
    let bury = Command::Bury(vec![(claim(1, 4), "the reason".into())]);
    assert_eq!(machine.poll_command(now), Some(bury));
    changed(&mut machine, now, &[1]);
    assert_eq!(machine.stats().dead, 1);
}

#[test]
fn an_end_that_fails_again_and_again_does_not_keep_others_from_it() {
    let (mut machine, now) = (machine(), Instant::now());
    read(&mut machine, now, vec![message(1, 1), message(2, 1)]);
    start(&mut machine, now);
    machine.handle_ended(1, End::Done);
    for _ in 0..2 {
        assert_eq!(machine.poll_command(now), Some(Command::Finish(vec![claim(1, 1)])));
        machine.handle_failed(now, Failed::Undone);
    }
    machine.handle_ended(2, failed("no"));
    assert!(matches!(machine.poll_command(now), Some(Command::SetVisibility(_))));
    changed(&mut machine, now, &[2]);
    machine.handle_woken(now);
    read(&mut machine, now, vec![message(3, 1)]);
    assert_eq!(start(&mut machine, now), [3]);
    let again = machine.next_time().unwrap();
    assert!(again > now && again <= now + SECOND);
    assert_eq!(machine.poll_command(again), Some(Command::Finish(vec![claim(1, 1)])));
}

/// An earlier version extended it for as long as the handlers were busy, and no other consumer could read it.
#[test]
fn a_job_that_waits_for_a_handler_is_given_back_after_a_third_of_its_timeout() {
    let (mut machine, now) = (machine(), Instant::now());
    read(&mut machine, now, (1..=3).map(|id| message(id, 1)).collect());
    assert_eq!(start(&mut machine, now), [1, 2]);
    let due = now + VISIBILITY / 3;
    let both = vec![(claim(1, 1), VISIBILITY), (claim(2, 1), VISIBILITY)];
    assert_eq!(machine.poll_command(due), Some(Command::SetVisibility(both)));
    changed(&mut machine, due, &[1, 2]);
    assert_eq!(machine.poll_command(due), Some(Command::Release(vec![claim(3, 1)])));
    changed(&mut machine, due, &[3]);
    // It is not read again before a handler is free, and not more than can be started.
    assert_eq!(machine.poll_command(due), None);
    machine.handle_ended(1, End::Done);
    assert!(matches!(machine.poll_command(due), Some(Command::Finish(_))));
    changed(&mut machine, due, &[1]);
    assert_eq!(machine.poll_command(due), Some(Command::Read(1)));
    machine.handle_answer(due, found(vec![message(3, 1)], true));
    assert_eq!(start(&mut machine, due), [3]);
    // A short run: whole batches are read again, so that the handlers are busy between two reads.
    machine.handle_ended(3, End::Done);
    assert!(matches!(machine.poll_command(due), Some(Command::Finish(_))));
    changed(&mut machine, due, &[3]);
    assert_eq!(machine.poll_command(due), Some(Command::Read(3)));
}

/// An earlier version started it with any time that was left, so another reader could have it a moment later.
#[test]
fn a_job_with_less_than_a_third_of_its_timeout_is_extended_before_it_starts() {
    let (mut machine, now) = (machine(), Instant::now());
    assert!(machine.poll_command(now).is_some());
    // The answer has taken long.
    let late = now + VISIBILITY * 3 / 4;
    machine.handle_answer(late, found(vec![message(1, 1), message(2, 1)], false));
    assert_eq!(start(&mut machine, late), [] as [i64; 0]);
    let both = vec![(claim(1, 1), VISIBILITY), (claim(2, 1), VISIBILITY)];
    assert_eq!(machine.poll_command(late), Some(Command::SetVisibility(both)));
    changed(&mut machine, late, &[1, 2]);
    assert_eq!(start(&mut machine, late), [1, 2]);
}

/// What does not fit into a result was read nevertheless. An earlier version read it again and again, until the attempts were used up.
#[test]
fn messages_that_do_not_fit_into_a_result_are_given_back_or_put_aside() {
    let (mut machine, now) = (machine(), Instant::now());
    assert!(machine.poll_command(now).is_some());
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
    assert_eq!(machine.poll_command(now), Some(bury));
    let effects = changed(&mut machine, now, &[2]);
    assert_eq!(effects, [Effect::Dead { msg_id: 2, attempts: 1, reason }]);
    assert_eq!(machine.poll_command(now), Some(Command::Release(vec![claim(3, 1)])));
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
    assert!(machine.poll_command(now).is_some());
    let left_out = vec![claim(1, 2)];
    machine.handle_answer(late, Answer::Read(Found { left_out, ..Found::default() }));
    machine.handle_ended(1, End::Done);
    assert_eq!(machine.poll_command(late), Some(Command::Finish(vec![claim(1, 2)])));
}

#[test]
fn what_an_end_leaves_unstored_is_counted_once() {
    let (mut machine, now) = (machine(), Instant::now());
    read(&mut machine, now, vec![message(1, 1), message(2, 1), message(3, 1)]);
    assert_eq!(start(&mut machine, now), [1, 2]);
    machine.handle_stop();
    // A release in doubt is not repeated.
    assert_eq!(machine.poll_command(now), Some(Command::Release(vec![claim(3, 1)])));
    machine.handle_failed(now, Failed::InDoubt);
    assert_eq!(machine.unstored(), 1);
    // One is cancelled, which is counted as such, and one has ended.
    machine.handle_ended(1, End::Cancelled);
    machine.handle_ended(2, End::Done);
    machine.handle_abandoned();
    assert_eq!((machine.unstored(), machine.is_idle()), (2, true));

    // The queue was dropped while two ran: one ends before it is cancelled.
    let mut machine = super::machine();
    read(&mut machine, now, vec![message(1, 1), message(2, 1)]);
    assert_eq!(start(&mut machine, now), [1, 2]);
    machine.handle_abandoned();
    machine.handle_ended(1, End::Done);
    machine.handle_ended(2, End::Cancelled);
    assert_eq!((machine.unstored(), machine.is_idle()), (1, true));
}

/// The edges of the statement that finishes and reads: a job that is locked is held, and is no reason for two statements.
#[test]
fn a_locked_job_does_not_keep_the_others_from_one_statement_for_finish_and_read() {
    let (mut machine, now) = (machine(), Instant::now());
    read(&mut machine, now, vec![message(1, 1), message(2, 1), message(3, 1)]);
    for id in start(&mut machine, now) {
        machine.handle_ended(id, End::Done);
    }
    assert_eq!(start(&mut machine, now), [3]);
    machine.handle_ended(3, End::Done);
    let all = vec![claim(1, 1), claim(2, 1), claim(3, 1)];
    assert_eq!(machine.poll_command(now), Some(Command::FinishAndRead(all, 3)));
    let own = Fates::new([(1, Fate::Locked), (2, Fate::Removed), (3, Fate::Changed)]);
    let next = Found {
        messages: vec![message(4, 1)],
        left_out: vec![claim(5, 1), claim(6, 1)],
        is_full: true,
        ..Found::default()
    };
    assert_eq!(machine.handle_answer(now, Answer::FinishedAndRead(own, next)), []);
    assert_eq!(start(&mut machine, now), [4]);
    machine.handle_ended(4, End::Done);
    // What did not fit is given back before anything is read.
    let finish = Command::Finish(vec![claim(4, 1)]);
    assert_eq!(machine.poll_command(now), Some(finish));
    changed(&mut machine, now, &[4]);
    let release = Command::Release(vec![claim(5, 1), claim(6, 1)]);
    assert_eq!(machine.poll_command(now), Some(release));
    changed(&mut machine, now, &[5, 6]);
    read(&mut machine, now, vec![message(5, 1), message(6, 1)]);
    for id in start(&mut machine, now) {
        machine.handle_ended(id, End::Done);
    }
    machine.handle_woken(now);
    let both = vec![claim(5, 1), claim(6, 1)];
    assert_eq!(machine.poll_command(now), Some(Command::FinishAndRead(both, 3)));
    let answer = Answer::FinishedAndRead(fates(&[5, 6]), Found::default());
    machine.handle_answer(now, answer);
    let again = machine.next_time().unwrap();
    assert_eq!(machine.poll_command(again), Some(Command::Finish(vec![claim(1, 1)])));
    changed(&mut machine, again, &[1]);
    let stats = machine.stats();
    assert_eq!((stats.finished, stats.removed, stats.released, stats.overtaken), (5, 1, 2, 0));
    assert!(machine.is_idle());
}

/// A send to a dead-letter queue can wait for a lock until its timeout, each time.
#[test]
fn a_dead_letter_queue_that_is_too_slow_does_not_stop_other_jobs() {
    let (mut machine, mut now) = (machine(), Instant::now());
    read(&mut machine, now, vec![message(1, 4)]);
    for _ in 0..3 {
        machine.handle_woken(now);
        let mut is_read = false;
        for _ in 0..3 {
            match machine.poll_command(now).unwrap() {
                Command::Bury(_) => {
                    now += Duration::from_secs(10);
                    machine.handle_failed(now, Failed::InDoubt);
                }
                Command::Read(_) => {
                    is_read = true;
                    machine.handle_answer(now, found(Vec::new(), false));
                    break;
                }
                other => panic!("{other:?}"),
            }
        }
        assert!(is_read, "nothing is read");
    }
}

/// The read of the statement that finishes and reads can be what the server refuses.
#[test]
fn a_job_that_has_succeeded_is_finished_when_the_read_beside_it_is_refused() {
    let (mut machine, now) = (machine(), Instant::now());
    read(&mut machine, now, vec![message(1, 1)]);
    for id in start(&mut machine, now) {
        machine.handle_ended(id, End::Done);
    }
    machine.handle_woken(now);
    let both = Command::FinishAndRead(vec![claim(1, 1)], 3);
    assert_eq!(machine.poll_command(now), Some(both));
    assert_eq!(machine.handle_failed(now, Failed::Refused), []);
    assert_eq!(machine.poll_command(now), Some(Command::Finish(vec![claim(1, 1)])));
    changed(&mut machine, now, &[1]);
    assert_eq!((machine.stats().finished, machine.stats().refused), (1, 0));
    assert_eq!(machine.poll_command(now), Some(Command::Read(3)));
}

/// Jobs whose rows stay locked are held. With a finish beside them, as without, there is a limit.
#[test]
fn jobs_that_stay_locked_do_not_grow_without_limit() {
    let (mut machine, now) = (machine(), Instant::now());
    let mut next = 4;
    read(&mut machine, now, (1..=3).map(|id| message(id, 1)).collect());
    for _ in 0..10_000 {
        for id in start(&mut machine, now) {
            machine.handle_ended(id, End::Done);
        }
        match machine.poll_command(now) {
            None => break,
            Some(Command::Read(quantity)) => {
                let ids = next..next + i64::try_from(quantity).unwrap();
                next = ids.end;
                machine.handle_answer(now, found(ids.map(|id| message(id, 1)).collect(), true));
            }
            Some(Command::Finish(claims)) => {
                let fates = claims.iter().enumerate().map(locked_but_the_first);
                machine.handle_answer(now, Answer::Changed(Fates::new(fates)));
            }
            Some(Command::FinishAndRead(claims, quantity)) => {
                let fates = Fates::new(claims.iter().enumerate().map(locked_but_the_first));
                let ids = next..next + i64::try_from(quantity).unwrap();
                next = ids.end;
                let messages = ids.map(|id| message(id, 1)).collect();
                let found = Found { messages, is_full: true, ..Found::default() };
                machine.handle_answer(now, Answer::FinishedAndRead(fates, found));
            }
            Some(other) => panic!("{other:?}"),
        }
    }
    let held = machine.stats().jobs - machine.stats().finished;
    assert!((1_000..1_100).contains(&held), "{held} jobs are held");
}

fn locked_but_the_first((index, claim): (usize, &Claim)) -> (i64, Fate) {
    (claim.msg_id, if index == 0 { Fate::Changed } else { Fate::Locked })
}

#[test]
fn what_a_lost_read_has_taken_is_read_when_its_timeout_has_passed() {
    let (mut machine, now) = (machine(), Instant::now());
    assert_eq!(machine.poll_command(now), Some(Command::Read(3)));
    machine.handle_failed(now, Failed::InDoubt);
    read(&mut machine, now, Vec::new());
    assert_eq!(machine.poll_command(now), None);
    let visible = now + VISIBILITY + SECOND;
    assert_eq!(machine.next_time(), Some(visible));
    assert_eq!(machine.poll_command(visible), Some(Command::Read(3)));
}
