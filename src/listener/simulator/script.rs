//! Runs in which it is written down what breaks, and when.
//!
//! They keep what a seed has shown: a seed means something else as soon as the world can do one thing more.

use std::collections::BTreeSet;

use super::World;
use super::clock::{Event, MILLI, Micros, SECOND};
use super::plan::Plan;
use super::proxy::Begin;
use super::random::Random;

/// What happens then. Connections are named by their index: in the order in which they were begun.
#[derive(Debug, Clone, Copy)]
pub(super) enum Act {
    /// The backend does nothing any more. The kernel looks at the connection when it should be over.
    Stop(usize),
    /// The backend goes on.
    Mend(usize),
    /// The administrator ends the session.
    Terminate(usize),
    /// Nothing arrives any more: at the server, and at our end.
    Cut { index: usize, up: bool, down: bool },
    /// What the server sends from here on is so much later.
    Slow(usize, Micros),
    /// The server cannot absorb the next notification of it, and says so.
    Drop(usize),
    /// The fence of a handover does not come to it, and nothing is said.
    Swallow(usize),
    /// A proxy begins a transaction at the next command of such a kind.
    Begin(usize, Begin),
    /// A proxy says why in an ERROR, and ends the connection so much later.
    EndWithError(usize, Micros),
    /// The user asks for another session.
    Rotate,
    /// The user asks for all channels, again.
    Listen,
    /// The user asks for the end of all channels.
    UnlistenAll,
    /// The user leaves a transaction open.
    BeginByUser,
}

#[derive(Debug, Default)]
pub(super) struct Script(Vec<(Micros, Act)>);

impl World {
    pub(super) fn schedule_script(&mut self) {
        for (number, (at, _)) in self.script.0.iter().enumerate() {
            self.clock.at(*at, Event::Act(number), &mut self.random);
        }
    }

    pub(super) fn act(&mut self, number: usize) {
        let act = self.script.0[number].1;
        self.is_hindered |= !matches!(act, Act::Rotate);
        match act {
            Act::Stop(index) => self.stop_backend(index),
            Act::Mend(index) => self.mend(index),
            Act::Terminate(index) => self.terminate(index),
            Act::Cut { index, up, down } => {
                self.connections[index].is_faulty = true;
                self.cut_ways(index, up, down);
            }
            Act::Slow(index, late) => self.slow_down(index, late),
            Act::Drop(index) => self.drop_next(index),
            Act::Swallow(index) => self.swallow_fence(index),
            Act::Begin(index, begin) => self.begin_transaction(index, begin),
            Act::EndWithError(index, late) => self.end_with_error(index, "57000", late),
            Act::Rotate => self.rotate(),
            Act::Listen => self.listen(&self.channels.all()),
            Act::UnlistenAll => self.unlisten_all(),
            Act::BeginByUser => self.ask("BEGIN"),
        }
    }
}

/// A world in which nothing is left to chance but how long packets are on their way. Each act comes so many milliseconds
/// after the start.
fn play(plan: Plan, acts: &[(u64, Act)]) -> World {
    let (mut world, inside) = World::with(plan, Random::new(0), true);
    world.script = Script(acts.iter().map(|&(at, act)| (at * MILLI, act)).collect());
    world.run(inside);
    assert_eq!(world.failure, None, "{}", world.trace.text());
    world
}

/// Seeds 520890, 2237907 and 7596549 as they were: the time of the stopped backend ran on after it had gone on, and ended
/// while only our direction was cut.
#[test]
fn a_connection_that_is_only_cut_on_our_way_up_has_all_its_time_after_a_stop() {
    let plan = Plan::quiet();
    let acts = [
        (1_000, Act::Stop(0)),
        (1_200, Act::Mend(0)),
        (6_000, Act::Cut { index: 0, up: true, down: false }),
    ];
    let world = play(plan, &acts);
    // It is noticed all the same: by the listener, and not by the kernel.
    assert_eq!(world.lost_sessions, 1);
    assert!(!world.trace.text().contains("given up by the kernel"));
}

/// Seed 5355804 as it was: while the old session was well the new one was dead, and took its place after it had been said
/// that all was well.
#[test]
fn a_session_that_dies_while_it_takes_the_place_of_another_one_is_not_well() {
    let plan = Plan { delay: 50 * MILLI, deadline: SECOND, ..Plan::quiet() };
    let acts = [
        (5_000, Act::Rotate),
        // Its LISTEN is done, and the fence is on its way.
        (5_105, Act::Stop(1)),
        (5_200, Act::Cut { index: 1, up: false, down: true }),
        (7_850, Act::Mend(1)),
    ];
    let world = play(plan, &acts);
    assert_eq!((world.lost_sessions, world.handovers), (1, 0));
}

/// The server drops the fence of a handover, or a notification next to it: on the old session, on the new session, or on
/// a new session that lags behind. The listener waited for the fence without a limit and discarded all notifications.
#[test]
fn a_fence_that_is_dropped_ends_the_handover_or_the_session_and_nothing_is_missing() {
    let mut outcomes = BTreeSet::new();
    for (name, dropped, late) in [("old", 0, 0), ("new", 1, 0), ("new and behind", 1, 2 * SECOND)] {
        for at in 0..30 {
            let plan = Plan { delay: 50 * MILLI, ..Plan::quiet() };
            let at = 1_060 + 5 * at;
            let acts = [(1_000, Act::Rotate), (at, Act::Slow(1, late)), (at, Act::Drop(dropped))];
            let world = play(plan, &acts);
            outcomes.insert((name, world.lost_sessions, world.handovers, world.sink.gaps.len()));
        }
    }
    // Given up and done later, with a gap; lost with a gap. What else there is hangs on a millisecond.
    for expected in [("old", 0, 1, 1), ("new and behind", 1, 0, 1)] {
        assert!(outcomes.contains(&expected), "{outcomes:?}");
    }
    assert!(outcomes.iter().all(|(_, lost, _, gaps)| *lost <= 1 && *gaps <= 1), "{outcomes:?}");
}

/// The new session is alone, and its fence never comes though everything else does. It was waited for without end, and all
/// that came was discarded.
#[test]
fn a_fence_that_never_comes_is_waited_for_half_a_minute() {
    let acts = [(1_000, Act::Rotate), (1_010, Act::Swallow(1))];
    let world = play(Plan { delay: 50 * MILLI, ..Plan::quiet() }, &acts);
    assert_eq!((world.lost_sessions, world.handovers, world.sink.gaps.len()), (1, 0, 1));
}

/// A task that never runs in time was late for each of its deadlines, and gave the server one more chance each time.
#[test]
fn a_task_that_is_always_late_notices_a_dead_connection_all_the_same() {
    let plan = Plan { lateness: 1_200 * MILLI, ..Plan::quiet() };
    let world = play(plan, &[(3_000, Act::Cut { index: 0, up: true, down: true })]);
    assert_eq!((world.lost_sessions, world.sink.gaps.len()), (1, 1));
}

/// What was answered inside a transaction that a proxy has begun was believed, and undone by the ROLLBACK of the proxy: a
/// channel that was said to be active was not listened to, and all that was notified on it was missing without a gap.
#[test]
fn a_session_that_a_proxy_keeps_inside_a_transaction_is_replaced() {
    for is_before in [false, true] {
        for is_failed in [false, true] {
            for times in [1, 2] {
                let begin = |command| {
                    let begin = Begin { command, is_before, is_failed, times };
                    (1_000, Act::Begin(0, begin))
                };
                let kinds: [&[(u64, Act)]; 4] = [
                    // The heartbeat.
                    &[begin("SELECT")],
                    &[begin("LISTEN"), (1_500, Act::Listen)],
                    &[begin("ROLLBACK"), (1_500, Act::BeginByUser)],
                    // In the middle of a handover.
                    &[begin(""), (1_500, Act::Rotate)],
                ];
                for acts in kinds {
                    let world = play(Plan::quiet(), acts);
                    let found = (world.lost_sessions, world.sink.gaps.len());
                    assert_eq!(found, (1, 1), "{acts:?}\n{}", world.trace.text());
                }
                // The heartbeat that comes back.
                let world = play(Plan { is_proxied: true, ..Plan::quiet() }, &[begin("")]);
                assert_eq!((world.lost_sessions, world.sink.gaps.len()), (1, 1));
            }
        }
    }
}

/// Seed 1730696 as it was: a LISTEN was answered inside the transaction, and the session was lost before the answer to the
/// UNLISTEN behind it. The channels were listened to again.
#[test]
fn channels_that_were_given_up_in_a_session_inside_a_transaction_stay_given_up() {
    let begin = Begin { command: "LISTEN", is_before: true, is_failed: true, times: 1 };
    let acts = [
        (1_000, Act::Begin(0, begin)),
        (1_000, Act::Slow(0, SECOND)),
        (1_500, Act::Listen),
        (1_600, Act::Cut { index: 0, up: true, down: false }),
        (1_700, Act::UnlistenAll),
        (3_000, Act::Terminate(0)),
    ];
    let world = play(Plan { commits: 100 * MILLI, ..Plan::quiet() }, &acts);
    let trace = world.trace.text();
    assert!(trace.contains("inside a transaction of the proxy"), "{trace}");
    assert_eq!(world.lost_sessions, 1, "{trace}");
}

/// Seed 2226260 as it was: what an attempt to connect has sent was answered inside a transaction, after the session was live.
/// The listener does not see that answer. A later transaction was its first, and the rule counted two.
#[test]
fn an_answer_to_an_attempt_is_none_for_the_listener_however_late_it_comes() {
    let begin = Begin { command: "LISTEN", is_before: false, is_failed: false, times: 1 };
    let mut late = 0;
    for at in 17..40 {
        let acts = [
            (5 * at, Act::Begin(0, begin)),
            (2_000, Act::BeginByUser),
            (3_000, Act::Begin(0, begin)),
            (3_100, Act::Listen),
        ];
        let plan = Plan { delay: 50 * MILLI, is_proxied: true, initial: 0, ..Plan::quiet() };
        let world = play(plan, &acts);
        let trace = world.trace.text();
        late += usize::from(trace.contains("at \"LISTEN"));
        assert_eq!(world.lost_sessions, 1, "{trace}");
    }
    assert!(late > 0);
}

/// Seed 943667 as it was: our direction is cut when the answer from inside the transaction is on its way. The ROLLBACK does
/// not arrive, and the server goes on sending notifications: that is noticed as late as without the transaction.
#[test]
fn a_rollback_that_does_not_arrive_is_waited_for_as_long_as_any_answer_while_the_server_sends() {
    let begin = Begin { command: "LISTEN", is_before: true, is_failed: false, times: 1 };
    let acts = [
        (1_000, Act::Begin(0, begin)),
        (1_000, Act::Slow(0, SECOND)),
        (1_500, Act::Listen),
        (1_900, Act::Cut { index: 0, up: true, down: false }),
    ];
    let plan = Plan { commits: 200 * MILLI, deadline: 6 * SECOND, ..Plan::quiet() };
    let world = play(plan, &acts);
    assert_eq!((world.lost_sessions, world.sink.gaps.len()), (1, 1), "{}", world.trace.text());
    assert!(world.trace.text().contains("inside a transaction of the proxy"));
    assert!(!world.trace.text().contains("given up by the kernel"));
}

/// An ERROR was told as a dropped notification as soon as it came, and the end that it announced as another loss.
#[test]
fn an_error_that_a_proxy_sends_before_it_ends_a_session_is_one_gap_that_carries_it() {
    for late in [0, 10 * MILLI, SECOND] {
        let world = play(Plan::quiet(), &[(2_000, Act::EndWithError(0, late))]);
        let [told] = &world.sink.gaps[..] else { panic!("{}", world.trace.text()) };
        let (sessions, cause) = (told.gap.sessions(), told.gap.cause());
        assert_eq!((sessions, cause.sqlstate()), (1, Some("57000")), "{cause}");
    }
}

/// A notification of the next session was shown, and the gap before it was not: the task was dropped while the hook ran.
#[test]
fn a_task_that_is_dropped_while_the_hook_runs_shows_the_gap_before_what_follows() {
    let mut held = 0;
    for drops_at in 0..50 {
        let drops_at = Some((2_100 + 20 * drops_at) * MILLI);
        let plan = Plan { commits: 20 * MILLI, has_hook: true, drops_at, ..Plan::quiet() };
        let world = play(plan, &[(2_000, Act::EndWithError(0, 0))]);
        let Some(gap) = world.sink.gaps.first() else { continue };
        held += usize::from(world.is_dropped && world.sink.taken.len() as u64 > gap.position);
    }
    assert!(held > 10, "{held}");
}

/// What the new session of a handover had read while it waited for the old one was neither delivered nor told as missing: the
/// listener was closed, and the old session said nothing more, or too late.
#[test]
fn a_close_while_a_new_session_waits_for_the_old_one_loses_nothing_that_was_read() {
    let (mut gaps, mut read) = (0, 0);
    for late in [0, 500 * MILLI, 3 * SECOND] {
        for step in 0..40 {
            let ends_at = Some((1_300 + 10 * step) * MILLI);
            let (delay, commits) = (50 * MILLI, 5 * MILLI);
            let plan = Plan { delay, commits, ends_at, ..Plan::quiet() };
            let dies = match late {
                0 => Act::Cut { index: 0, up: false, down: true },
                late => Act::Slow(0, late),
            };
            let world = play(plan, &[(1_000, Act::Rotate), (1_020 + 5 * step, dies)]);
            let left = world.connections.iter().filter(|connection| connection.is_left);
            read += left.map(|connection| connection.behind_fence().len()).sum::<usize>();
            gaps += world.sink.gaps.len();
        }
    }
    assert!(read > 10 && gaps > 10, "{read} read, {gaps} gaps");
}
