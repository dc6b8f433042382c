//! Ends of jobs, and how they are stored.

use std::time::{Duration, Instant};

use super::super::fate::{Fate, Fates};
use super::super::found::Found;
use super::super::machine::{Answer, Command, ConsumerMachine, Effect, End, Failed};
use super::super::settings::ConsumerSettings;
use super::{
    SECOND, VISIBILITY, changed, claim, failed, fated, fates, found, locked_but_the_first, machine,
    message, next_command, poll, read, settings, start,
};

#[test]
fn a_failed_attempt_is_read_again_after_a_delay_and_the_last_one_is_put_aside() {
    let (mut machine, mut now) = (machine(), Instant::now());
    for attempt in 1..=2 {
        machine.handle_woken(now);
        read(&mut machine, now, vec![message(1, attempt)]);
        assert_eq!(start(&mut machine, now), [1]);
        machine.handle_ended(1, failed("no"));
        let Some(Command::SetVisibility(jobs)) = poll(&mut machine, now) else { panic!() };
        let [(one, delay)] = jobs[..] else { panic!("{jobs:?}") };
        assert_eq!(one, claim(1, attempt));
        let limit = SECOND * attempt;
        assert!(delay >= limit / 2 && delay <= limit, "{delay:?}");
        // The server counts from a later time than when the statement was sent.
        let answered = now + SECOND / 10;
        changed(&mut machine, answered, &[1]);
        assert_eq!(poll(&mut machine, answered), None);
        assert_eq!(machine.next_time(), Some(answered + delay));
        assert_eq!(poll(&mut machine, answered + delay - SECOND / 100), None);
        read(&mut machine, answered + delay, Vec::new());
        now += 10 * SECOND;
    }
    machine.handle_woken(now);
    read(&mut machine, now, vec![message(1, 3)]);
    start(&mut machine, now);
    machine.handle_ended(1, failed("at last"));
    let reason: std::sync::Arc<str> = "at last".into();
    let bury = Command::Bury(vec![(claim(1, 3), reason.clone())]);
    assert_eq!(poll(&mut machine, now), Some(bury));
    let effects = changed(&mut machine, now, &[1]);
    assert_eq!(effects, [Effect::Dead { msg_id: 1, attempts: 3, reason }]);
    let stats = machine.stats();
    assert_eq!((stats.failures, stats.dead), (3, 1));
    assert!(machine.is_idle());
}

#[test]
fn a_finished_job_whose_answer_is_lost_is_finished_again() {
    let (mut machine, now) = (machine(), Instant::now());
    read(&mut machine, now, vec![message(1, 1), message(2, 1)]);
    start(&mut machine, now);
    machine.handle_ended(1, End::Done);
    let finish = Some(Command::Finish(vec![claim(1, 1)]));
    assert_eq!(poll(&mut machine, now), finish);
    machine.handle_failed(now, Failed::InDoubt);
    machine.handle_ended(2, End::Done);
    let both = Some(Command::Finish(vec![claim(1, 1), claim(2, 1)]));
    assert_eq!(poll(&mut machine, now), both);
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
        assert!(matches!(poll(&mut machine, now), Some(Command::Bury(_))));
        machine.handle_failed(now, Failed::InDoubt);
        now += SECOND;
    }
    assert!(matches!(poll(&mut machine, now), Some(Command::Bury(_))));
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
    let Some(Command::Finish(both)) = poll(&mut machine, now) else { panic!() };
    assert_eq!(both.len(), 2);
    machine.handle_failed(now, Failed::Refused);
    assert_eq!(poll(&mut machine, now), Some(Command::Finish(vec![claim(1, 1)])));
    machine.handle_failed(now, Failed::Refused);
    assert_eq!(poll(&mut machine, now), Some(Command::Finish(vec![claim(2, 1)])));
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
    assert_eq!(poll(&mut machine, now), Some(Command::Finish(vec![claim(1, 1)])));
    changed(&mut machine, now, &[1]);
    assert_eq!(poll(&mut machine, now), Some(Command::Release(vec![claim(3, 1)])));
    changed(&mut machine, now, &[3]);
    assert_eq!((poll(&mut machine, now), machine.is_idle()), (None, false));
    // One that was cancelled has not failed.
    machine.handle_ended(2, End::Cancelled);
    assert_eq!(poll(&mut machine, now), Some(Command::Release(vec![claim(2, 1)])));
    changed(&mut machine, now, &[2]);
    assert!(machine.is_idle());
    assert_eq!(machine.stats().released, 2);
}

/// A release gives the next read the same number, so a second one could be that of another reader.
#[test]
fn a_release_in_doubt_is_not_repeated() {
    let (mut machine, now) = (machine(), Instant::now());
    assert!(poll(&mut machine, now).is_some());
    machine.handle_stop();
    machine.handle_answer(now, found(vec![message(1, 1)], false));
    assert_eq!(poll(&mut machine, now), Some(Command::Release(vec![claim(1, 1)])));
    machine.handle_failed(now, Failed::InDoubt);
    assert_eq!((poll(&mut machine, now), machine.is_idle()), (None, true));
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
        let Some(Command::SetVisibility(jobs)) = poll(&mut machine, now) else { panic!() };
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
    assert!(matches!(poll(&mut machine, due), Some(Command::SetVisibility(_))));
    let effects = fated(&mut machine, due, &[(1, Fate::Locked), (2, Fate::Changed)]);
    let expected = [Effect::Locked { msg_id: 1 }, Effect::Extended { msg_id: 2, is_held: true }];
    assert_eq!(effects, expected);
    // Soon again, and not at once.
    assert_eq!(poll(&mut machine, due), None);
    let again = machine.next_time().unwrap();
    assert!(again > due && again <= due + SECOND, "{:?}", again - due);
    let one = vec![(claim(1, 1), VISIBILITY)];
    assert_eq!(poll(&mut machine, again), Some(Command::SetVisibility(one)));
    fated(&mut machine, again, &[(1, Fate::Locked)]);

    // Its end waits for the lock too, and the end of the other one and reads do not.
    for id in [1, 2] {
        machine.handle_ended(id, End::Done);
    }
    let both = vec![claim(1, 1), claim(2, 1)];
    assert_eq!(poll(&mut machine, again), Some(Command::Finish(both)));
    fated(&mut machine, again, &[(1, Fate::Locked), (2, Fate::Changed)]);
    machine.handle_woken(again);
    read(&mut machine, again, vec![message(3, 1)]);
    assert_eq!(start(&mut machine, again), [3]);
    machine.handle_ended(3, End::Done);
    assert_eq!(poll(&mut machine, again), Some(Command::Finish(vec![claim(3, 1)])));
    changed(&mut machine, again, &[3]);
    let mut time = again;
    for _ in 0..20 {
        let (next, command) = next_command(&mut machine);
        assert!(next > time && next <= time + SECOND, "{:?}", next - time);
        time = next;
        assert_eq!(command, Command::Finish(vec![claim(1, 1)]));
        fated(&mut machine, time, &[(1, Fate::Locked)]);
    }
    time = next_command(&mut machine).0;
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
    assert!(poll(&mut machine, now).is_some());
    assert_eq!(fated(&mut machine, now, &[(1, Fate::Removed)]), []);
    // The other one runs on after that.
    let due = now + VISIBILITY / 3;
    assert!(matches!(poll(&mut machine, due), Some(Command::SetVisibility(_))));
    let effects = fated(&mut machine, due, &[(2, Fate::Removed)]);
    assert_eq!(effects, [Effect::Extended { msg_id: 2, is_held: false }]);
    assert_eq!((poll(&mut machine, due), machine.next_time()), (None, None));
    machine.handle_ended(2, End::Done);
    assert!(poll(&mut machine, due).is_some());
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
    assert!(poll(&mut machine, now).is_some());
    // It has failed, so it has not finished its job.
    let effects = fated(&mut machine, now, &[(1, Fate::Removed)]);
    assert_eq!(effects, [Effect::Overtaken { msg_id: 1 }]);
    let late = now + VISIBILITY;
    machine.handle_ended(2, End::Done);
    assert!(matches!(poll(&mut machine, late), Some(Command::Finish(_))));
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
    assert!(matches!(poll(&mut machine, now), Some(Command::Bury(_))));
    assert!(machine.is_storing() && machine.is_burying());
    let effects = machine.handle_failed(now, Failed::Refused);
    assert_eq!(effects, [Effect::Refused { msg_id: 1 }]);
    machine.handle_woken(now);
    read(&mut machine, now, vec![message(3, 1)]);
    assert_eq!((start(&mut machine, now), machine.stats().refused), (vec![3], 1));
    // After its timeout it is read again. It is put aside for the reason that it had.
    machine.handle_woken(now);
    assert!(poll(&mut machine, now).is_some());
    machine.handle_answer(now, found(vec![message(1, 4)], false));
    let bury = Command::Bury(vec![(claim(1, 4), "the reason".into())]);
    assert_eq!(poll(&mut machine, now), Some(bury));
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
        assert_eq!(poll(&mut machine, now), Some(Command::Finish(vec![claim(1, 1)])));
        machine.handle_failed(now, Failed::Undone);
    }
    machine.handle_ended(2, failed("no"));
    assert!(matches!(poll(&mut machine, now), Some(Command::SetVisibility(_))));
    changed(&mut machine, now, &[2]);
    machine.handle_woken(now);
    read(&mut machine, now, vec![message(3, 1)]);
    assert_eq!(start(&mut machine, now), [3]);
    let (again, command) = next_command(&mut machine);
    assert!(again > now && again <= now + SECOND);
    assert_eq!(command, Command::Finish(vec![claim(1, 1)]));
}

#[test]
fn what_an_end_leaves_unstored_is_counted_once() {
    let (mut machine, now) = (machine(), Instant::now());
    read(&mut machine, now, vec![message(1, 1), message(2, 1), message(3, 1)]);
    assert_eq!(start(&mut machine, now), [1, 2]);
    machine.handle_stop();
    // A release in doubt is not repeated.
    assert_eq!(poll(&mut machine, now), Some(Command::Release(vec![claim(3, 1)])));
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
    assert_eq!(poll(&mut machine, now), Some(Command::FinishAndRead(all, 3)));
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
    assert_eq!(poll(&mut machine, now), Some(finish));
    changed(&mut machine, now, &[4]);
    let release = Command::Release(vec![claim(5, 1), claim(6, 1)]);
    assert_eq!(poll(&mut machine, now), Some(release));
    changed(&mut machine, now, &[5, 6]);
    read(&mut machine, now, vec![message(5, 1), message(6, 1)]);
    for id in start(&mut machine, now) {
        machine.handle_ended(id, End::Done);
    }
    machine.handle_woken(now);
    let both = vec![claim(5, 1), claim(6, 1)];
    assert_eq!(poll(&mut machine, now), Some(Command::FinishAndRead(both, 3)));
    let answer = Answer::FinishedAndRead(fates(&[5, 6]), Found::default());
    machine.handle_answer(now, answer);
    let (again, command) = next_command(&mut machine);
    assert_eq!(command, Command::Finish(vec![claim(1, 1)]));
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
            match poll(&mut machine, now).unwrap() {
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

/// Jobs that die one after the other were tried one after the other too, and nothing else was done any more.
#[test]
fn several_dead_jobs_whose_queue_is_locked_leave_time_for_reads() {
    for visibility in [2, 9, 30] {
        let limits = ConsumerSettings { visibility: SECOND * visibility, ..settings() };
        let (mut machine, begin) = (ConsumerMachine::new(limits, 7), Instant::now());
        let (mut now, mut last_read, mut sent) = (begin, begin, 0);
        while now < begin + 60 * SECOND {
            machine.handle_woken(now);
            match poll(&mut machine, now) {
                // It waits for the lock, and is undone.
                Some(Command::Bury(_)) => {
                    now += SECOND / 2;
                    machine.handle_failed(now, Failed::Undone);
                }
                Some(Command::Read(_)) => {
                    last_read = now;
                    sent += 1;
                    // Each has been read too often.
                    let one = if sent <= 8 { vec![message(sent, 4)] } else { Vec::new() };
                    machine.handle_answer(now, found(one, false));
                    now += SECOND / 3;
                }
                Some(other) => panic!("{other:?}"),
                None => now += SECOND / 20,
            }
            assert!(now - last_read <= 3 * SECOND, "nothing is read with {sent} jobs");
        }
        assert!(sent > 20, "{sent}");
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
    assert_eq!(poll(&mut machine, now), Some(both));
    assert_eq!(machine.handle_failed(now, Failed::Refused), []);
    assert_eq!(poll(&mut machine, now), Some(Command::Finish(vec![claim(1, 1)])));
    changed(&mut machine, now, &[1]);
    assert_eq!((machine.stats().finished, machine.stats().refused), (1, 0));
    assert_eq!(poll(&mut machine, now), Some(Command::Read(3)));
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
        match poll(&mut machine, now) {
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
