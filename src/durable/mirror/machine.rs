//! [`Machine`]: decides what a mirror reads, without I/O.
//!
//! ```text
//! keys ─────────────────▶ read these keys ── done ─▶ idle
//! poll, too many: pause ─▶ read all ──────── done ─▶ idle
//! loss, reload ───────────▶ │    │
//!                           ▲    ├─ a loss meanwhile: given up ─▶ read all, in a new session
//!                           │    └─ failure ─▶ delay ─┐
//!                           ├─────────────────────────┤
//!                           └── no key: after 1 s ◀───┘
//! ```
//! What arrives while a read runs is for the next one. So at most one read follows for all of it.

use std::collections::BTreeSet;
use std::mem;
use std::time::{Duration, Instant};

use super::pace::Pace;
use crate::proto::supervisor::Backoff;
use crate::wakeups::Wake;

/// The highest number of keys of one read that notifications name, and of those that calls name. Beyond it all rows are read. It is the limit of the
/// keys of a wake-up.
pub(super) const KEYS_MAX: usize = 1_024;

/// The shortest time between two loads because of notifications that name no row.
const INVALID_KEY_INTERVAL: Duration = Duration::from_secs(1);

/// For how long a read runs in any case after the first one that was given up because of a loss. It doubles with each further one, so that a load is
/// completed although the listening session is lost again and again.
const PATIENCE: Duration = Duration::from_millis(100);

/// What must be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Read {
    /// The rows of these keys.
    Keys(BTreeSet<String>),
    /// All rows. `reopens`: in a new session, because a loss may mean that another server is the primary now.
    All { reopens: bool },
}

/// What follows.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    Read(Read),
    /// Nothing, until this instant or until something happens.
    Wait(Option<Instant>),
}

/// A read that was begun.
#[derive(Debug, Clone, Copy)]
struct Running {
    began: Instant,
    is_load: bool,
}

#[derive(Debug)]
pub(super) struct Machine {
    /// Those that notifications have named.
    keys: BTreeSet<String>,
    /// Those that calls of the user have named.
    asked: BTreeSet<String>,
    /// When all rows are to be read, whatever the pace is. `None`: they need not be.
    load_at: Option<Instant>,
    /// Since when all rows are to be read as soon as the pace allows it.
    wanted_since: Option<Instant>,
    pace: Pace,
    /// The next load is in a new session.
    reopens: bool,
    running: Option<Running>,
    /// When the read that runs is given up.
    give_up_at: Option<Instant>,
    /// How many reads were given up since the last one that ended.
    given_up: u32,
    /// When the last read failed, until the next one begins.
    failed_at: Option<Instant>,
    /// When the last load because of a key that is not valid was to begin.
    invalid_at: Option<Instant>,
    backoff: Backoff,
    /// The shortest delay after a failure.
    delay_min: Duration,
}

impl Machine {
    pub(super) fn new(backoff: Backoff, delay_min: Duration, pace: Pace) -> Self {
        Self {
            keys: BTreeSet::new(),
            asked: BTreeSet::new(),
            load_at: None,
            wanted_since: None,
            pace,
            reopens: false,
            running: None,
            give_up_at: None,
            given_up: 0,
            failed_at: None,
            invalid_at: None,
            backoff,
            delay_min,
        }
    }

    /// Returns whether everything is read that is to be read.
    pub(super) fn is_idle(&self) -> bool {
        self.keys.is_empty() && self.asked.is_empty() && self.load_due().is_none()
    }

    /// Returns when all rows are to be read.
    fn load_due(&self) -> Option<Instant> {
        let wanted = self.wanted_since.map(|since| self.pace.not_before(since));
        self.load_at.into_iter().chain(wanted).min()
    }

    // ---- what happens ----

    pub(super) fn handle_wake(&mut self, wake: &Wake, now: Instant) {
        match (wake, wake.keys()) {
            (_, Some(keys)) => self.handle_notified(keys, now),
            (Wake::Resync(_), None) => self.handle_resync(now),
            (_, None) => self.handle_poll(now),
        }
    }

    /// Notifications are lost, and arrive again: in a new session, perhaps of another server.
    fn handle_resync(&mut self, now: Instant) {
        // Listening works again, so the primary can be reached.
        self.backoff.reset();
        self.reopens = true;
        self.load_at = Some(now);
        // The session of a read that runs may be dead, without a sign of it.
        if let Some(running) = self.running {
            let doublings = self.given_up.checked_sub(1);
            let patience = doublings
                .map_or(Duration::ZERO, |n| PATIENCE.saturating_mul(2_u32.saturating_pow(n)));
            self.give_up_at.get_or_insert(after(running.began, patience));
        }
    }

    /// All rows are to be read, as soon as the pace allows it and the delay after a failure has passed.
    pub(super) fn handle_poll(&mut self, now: Instant) {
        // A load follows a failure in any case.
        if self.failed_at.is_none() {
            self.wanted_since.get_or_insert(now);
        }
    }

    fn handle_notified(&mut self, keys: &BTreeSet<String>, now: Instant) {
        if self.reads_all_before_keys(now) {
            return;
        }
        self.keys.extend(keys.iter().cloned());
        if self.keys.len() > KEYS_MAX {
            self.keys.clear();
            self.handle_poll(now);
        }
    }

    /// The user asks for the rows of these keys.
    pub(super) fn handle_keys(&mut self, keys: impl IntoIterator<Item = String>, now: Instant) {
        if !self.reads_all_before_keys(now) {
            self.asked.extend(keys);
            if self.asked.len() > KEYS_MAX {
                self.asked.clear();
                self.load_at = Some(now);
            }
        }
        self.hasten(now);
    }

    /// The user asks for all rows. The pace is that of the user.
    pub(super) fn handle_reload(&mut self, now: Instant) {
        if self.failed_at.is_none() {
            self.load_at = Some(now);
        }
        self.hasten(now);
    }

    /// Begins the next attempt without the rest of a delay, but not within the shortest one.
    fn hasten(&mut self, now: Instant) {
        if let Some((failed_at, load_at)) = self.failed_at.zip(self.load_at) {
            self.load_at = Some(load_at.min(now.max(after(failed_at, self.delay_min))));
        }
    }

    /// Returns whether all rows are read in any case before the rows of keys, and not before this moment.
    fn reads_all_before_keys(&self, now: Instant) -> bool {
        self.failed_at.is_some() || self.load_due().is_some_and(|at| at <= now)
    }

    // ---- what follows ----

    /// Returns what follows. A read must be followed by one of the methods below.
    pub(super) fn next(&mut self, now: Instant) -> Step {
        self.give_up_at = None;
        if self.load_due().is_some_and(|at| at <= now) {
            self.keys.clear();
            self.asked.clear();
            (self.load_at, self.wanted_since, self.failed_at) = (None, None, None);
            self.running = Some(Running { began: now, is_load: true });
            return Step::Read(Read::All { reopens: mem::take(&mut self.reopens) });
        }
        let mut keys = BTreeSet::new();
        if self.failed_at.is_none() {
            keys.append(&mut self.keys);
            keys.append(&mut self.asked);
        }
        if keys.is_empty() {
            return Step::Wait(self.load_due());
        }
        self.running = Some(Running { began: now, is_load: false });
        Step::Read(Read::Keys(keys))
    }

    /// Returns when the read that runs is to be given up, because of a loss since its begin.
    pub(super) fn gives_up_at(&self) -> Option<Instant> {
        self.give_up_at
    }

    /// The read was given up. All rows are read, at once.
    pub(super) fn handle_given_up(&mut self) {
        self.given_up = self.given_up.saturating_add(1);
        self.running = None;
    }

    /// The read has succeeded.
    pub(super) fn handle_done(&mut self, now: Instant) {
        if let Some(Running { began, is_load: true }) = self.running.take() {
            self.handle_loaded(began, now);
        }
        self.given_up = 0;
        self.backoff.reset();
    }

    /// All rows were read.
    pub(super) fn handle_loaded(&mut self, began: Instant, now: Instant) {
        self.pace.handle_load(began, now);
    }

    /// One of the keys was not valid: all rows are read, but not more often than once in a second. Rows of other keys are read meanwhile. Returns whether
    /// that is another load than the one that is to begin already.
    pub(super) fn handle_invalid_key(&mut self, now: Instant) -> bool {
        let (at, is_new) = match self.invalid_at {
            Some(next) if next > now => (next, false),
            Some(last) => (self.pace.not_before(now.max(after(last, INVALID_KEY_INTERVAL))), true),
            None => (self.pace.not_before(now), true),
        };
        self.invalid_at = Some(at);
        self.load_at = Some(self.load_at.map_or(at, |load_at| load_at.min(at)));
        is_new
    }

    /// The read has failed. All rows are read after the delay that is returned.
    pub(super) fn handle_failure(&mut self, now: Instant) -> Duration {
        let delay = self.backoff.next();
        self.failed_at = Some(now);
        (self.running, self.wanted_since) = (None, None);
        self.keys.clear();
        self.asked.clear();
        self.load_at = Some(after(now, delay));
        delay
    }
}

/// Returns a later instant. One that cannot be represented is in a century.
pub(super) fn after(now: Instant, delay: Duration) -> Instant {
    const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 3_600);
    now.checked_add(delay).or_else(|| now.checked_add(CENTURY)).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use proptest::prelude::*;

    use super::*;
    use crate::error::{Error, ErrorKind};
    use crate::notification::Gap;
    use crate::proto::supervisor::Reconnect;
    use crate::wakeups::Keys;

    const MIN: Duration = Duration::from_millis(50);
    const MAX: Duration = Duration::from_secs(30);
    const SECOND: Duration = Duration::from_secs(1);
    const PAUSE_MIN: Duration = Duration::from_millis(100);
    const PAUSE_MAX: Duration = Duration::from_secs(10);

    fn machine() -> Machine {
        let reconnect = Reconnect { min: MIN, max: MAX, ..Reconnect::default() };
        Machine::new(Backoff::new(&reconnect, 7), MIN, Pace::new(PAUSE_MIN, PAUSE_MAX))
    }

    fn notified(keys: &[&str]) -> Wake {
        let keys = Keys::Set(keys.iter().map(|&key| key.to_owned()).collect());
        Wake::Notified { count: 1, keys }
    }

    fn resync() -> Wake {
        let lost = Error::new(ErrorKind::Connect, "lost");
        Wake::Resync(Gap::new(lost, SystemTime::UNIX_EPOCH, 1))
    }

    fn keys(keys: &[&str]) -> Step {
        Step::Read(Read::Keys(keys.iter().map(|&key| key.to_owned()).collect()))
    }

    const ALL: Step = Step::Read(Read::All { reopens: false });
    const ALL_ANEW: Step = Step::Read(Read::All { reopens: true });
    const IDLE: Step = Step::Wait(None);

    #[test]
    fn keys_that_arrive_before_a_read_are_one_read() {
        let (mut machine, now) = (machine(), Instant::now());
        assert_eq!(machine.next(now), IDLE);
        machine.handle_wake(&notified(&["b", "a"]), now);
        machine.handle_keys(["c".to_owned(), "a".to_owned()], now);
        assert!(!machine.is_idle());
        assert_eq!(machine.next(now), keys(&["a", "b", "c"]));
        machine.handle_done(now);
        assert_eq!(machine.next(now), IDLE);
        assert!(machine.is_idle());
    }

    #[test]
    fn a_load_replaces_the_keys_before_it_and_not_those_after_it() {
        let (mut machine, now) = (machine(), Instant::now());
        machine.handle_wake(&notified(&["a"]), now);
        machine.handle_wake(&Wake::Poll, now);
        machine.handle_wake(&notified(&["b"]), now);
        assert_eq!(machine.next(now), ALL);
        machine.handle_wake(&notified(&["c"]), now);
        machine.handle_done(now);
        assert_eq!(machine.next(now), keys(&["c"]));
    }

    #[test]
    fn whatever_names_no_keys_reads_all_rows() {
        let now = Instant::now();
        let all_keys = Wake::Notified { count: 9, keys: Keys::All };
        for wake in [Wake::Poll, all_keys, notified(&["", "a"])] {
            let mut machine = machine();
            machine.handle_wake(&wake, now);
            assert_eq!(machine.next(now), ALL, "{wake:?}");
        }
        let mut machine = machine();
        machine.handle_wake(&resync(), now);
        assert_eq!(machine.next(now), ALL_ANEW);
        machine.handle_reload(now);
        assert_eq!(machine.next(now), ALL);
    }

    #[test]
    fn more_keys_than_the_limit_are_a_load() {
        for (count, is_load) in [(KEYS_MAX, false), (KEYS_MAX + 1, true)] {
            let (mut machine, now) = (machine(), Instant::now());
            machine.handle_keys((0..count).map(|key| key.to_string()), now);
            assert_eq!(machine.next(now) == ALL, is_load, "{count}");
        }
    }

    /// The keys of a read that failed are not known any more, so all rows are read.
    #[test]
    fn a_failure_is_followed_by_loads_with_growing_delays_whatever_arrives_meanwhile() {
        let (mut machine, mut now) = (machine(), Instant::now());
        machine.handle_wake(&notified(&["a"]), now);
        assert_eq!(machine.next(now), keys(&["a"]));
        let mut longest = Duration::ZERO;
        for _ in 0..12 {
            let delay = machine.handle_failure(now);
            longest = longest.max(delay);
            machine.handle_wake(&notified(&["b"]), now);
            machine.handle_wake(&Wake::Poll, now);
            assert_eq!(machine.next(now), Step::Wait(Some(now + delay)));
            assert!(!machine.is_idle());
            now += delay;
            assert_eq!(machine.next(now), ALL);
        }
        assert!(longest > SECOND && longest <= MAX, "{longest:?}");
        machine.handle_done(now);
        let delay = machine.handle_failure(now);
        assert!(delay <= 2 * MIN, "{delay:?}");
    }

    /// An earlier draft waited for the rest of the delay, up to 30 s, although the server was there again.
    #[test]
    fn a_session_that_listens_again_ends_the_delay() {
        let (mut machine, now) = (machine(), Instant::now());
        for _ in 0..12 {
            machine.handle_failure(now);
        }
        machine.handle_wake(&resync(), now);
        assert_eq!(machine.next(now), ALL_ANEW);
        assert!(machine.handle_failure(now) <= 2 * MIN);
    }

    #[test]
    fn a_call_of_the_user_shortens_a_delay_to_the_shortest_one() {
        for is_reload in [false, true] {
            let (mut machine, now) = (machine(), Instant::now());
            for _ in 0..12 {
                machine.handle_failure(now);
            }
            let delay = machine.handle_failure(now);
            assert!(delay > MIN);
            match is_reload {
                true => machine.handle_reload(now),
                false => machine.handle_keys(["a".to_owned()], now),
            }
            assert_eq!(machine.next(now), Step::Wait(Some(now + MIN)));
            assert_eq!(machine.next(now + MIN), ALL);
        }
    }

    #[test]
    fn payloads_that_are_no_keys_cause_one_load_in_a_second_and_other_keys_do_not_wait() {
        let (mut machine, start) = (machine(), Instant::now());
        let mut loads = 0;
        for tick in 0..10_000 {
            let now = start + Duration::from_millis(tick);
            machine.handle_wake(&notified(&["bad"]), now);
            while let Step::Read(read) = machine.next(now) {
                match read {
                    Read::All { .. } => {
                        loads += 1;
                        machine.handle_done(now);
                    }
                    Read::Keys(found) if found.contains("bad") => {
                        machine.handle_done(now);
                        machine.handle_invalid_key(now);
                    }
                    Read::Keys(_) => machine.handle_done(now),
                }
            }
            machine.handle_wake(&notified(&["good"]), now);
            assert_eq!(machine.next(now), keys(&["good"]));
            machine.handle_done(now);
        }
        assert_eq!(loads, 10);
    }

    /// Notifications without a key arrive in each millisecond. Returns the number of loads within 30 s, if each takes this time.
    fn loads_of_a_flood(took: Duration) -> u32 {
        let (mut machine, start) = (machine(), Instant::now());
        let all_keys = Wake::Notified { count: 9, keys: Keys::All };
        let (mut loads, mut ends) = (0, start);
        for tick in 0..30_000 {
            let now = start + Duration::from_millis(tick);
            if machine.running.is_some() && now >= ends {
                machine.handle_done(now);
            }
            machine.handle_wake(&all_keys, now);
            if machine.running.is_none() && machine.next(now) == ALL {
                (loads, ends) = (loads + 1, now + took);
            }
        }
        loads
    }

    /// An earlier version began the next load as soon as one had ended.
    #[test]
    fn a_flood_of_notifications_without_a_key_does_not_load_without_a_pause() {
        // At once, and after each pause. 30 s are 272 times 10 ms and 100 ms.
        assert_eq!(loads_of_a_flood(Duration::from_millis(10)), 273);
        assert_eq!(loads_of_a_flood(SECOND), 15);
        // The longest pause.
        assert_eq!(loads_of_a_flood(Duration::from_secs(15)), 2);
    }

    #[test]
    fn only_notifications_and_polls_wait_for_the_pause_and_keys_are_read_in_it() {
        let now = Instant::now();
        let paused = || {
            let mut machine = machine();
            machine.handle_loaded(now, now + SECOND);
            machine
        };
        let (mut machine, after_load) = (paused(), now + SECOND);
        machine.handle_wake(&Wake::Poll, after_load);
        machine.handle_wake(&notified(&["a"]), after_load);
        assert_eq!(machine.next(after_load), keys(&["a"]));
        machine.handle_done(after_load);
        assert!(!machine.is_idle());
        assert_eq!(machine.next(after_load), Step::Wait(Some(now + 2 * SECOND)));
        assert_eq!(machine.next(now + 2 * SECOND), ALL);
        // Later than the pause, it is not delayed.
        let mut machine = paused();
        machine.handle_wake(&Wake::Poll, now + 2 * SECOND);
        assert_eq!(machine.next(now + 2 * SECOND), ALL);
        let mut machine = paused();
        machine.handle_reload(after_load);
        assert_eq!(machine.next(after_load), ALL);
        machine.handle_done(after_load);
        machine.handle_wake(&resync(), after_load);
        assert_eq!(machine.next(after_load), ALL_ANEW);
    }

    /// A read waited for its statement timeout, although the listening session had found the primary again.
    #[test]
    fn a_read_is_given_up_when_the_listening_session_was_lost_and_is_there_again() {
        for begin in [notified(&["a"]), Wake::Poll] {
            let (mut machine, now) = (machine(), Instant::now());
            machine.handle_wake(&begin, now);
            assert!(matches!(machine.next(now), Step::Read(_)));
            for wake in [notified(&["b"]), Wake::Poll] {
                machine.handle_wake(&wake, now);
                assert_eq!(machine.gives_up_at(), None, "{begin:?} {wake:?}");
            }
            machine.handle_wake(&resync(), now + SECOND);
            assert_eq!(machine.gives_up_at(), Some(now), "{begin:?}");
            machine.handle_given_up();
            assert_eq!(machine.next(now + SECOND), ALL_ANEW);
            assert_eq!(machine.gives_up_at(), None);
        }
    }

    /// Each loss begins a load anew, and none would be long enough.
    #[test]
    fn a_load_is_completed_although_the_listening_session_is_lost_again_and_again() {
        let (mut machine, start) = (machine(), Instant::now());
        let (mut began, mut given_up) = (None, 0);
        for tick in 0..60_000 {
            let now = start + Duration::from_millis(tick);
            if tick % 150 == 0 {
                machine.handle_wake(&resync(), now);
            }
            if machine.gives_up_at().is_some_and(|at| at <= now) {
                machine.handle_given_up();
                (began, given_up) = (None, given_up + 1);
            }
            if began.is_some_and(|began| now >= began + 2 * SECOND) {
                machine.handle_done(now);
                assert!((2..=8).contains(&given_up), "{given_up}");
                // The next loss is as the first one.
                assert!(matches!(machine.next(now), Step::Read(_)));
                machine.handle_wake(&resync(), now + SECOND);
                assert_eq!(machine.gives_up_at(), Some(now));
                return;
            }
            if began.is_none() && matches!(machine.next(now), Step::Read(_)) {
                began = Some(now);
            }
        }
        panic!("no load was completed: {machine:?}");
    }

    #[test]
    fn a_key_that_arrives_during_the_attempt_after_a_failure_is_read_after_it() {
        let (mut machine, now) = (machine(), Instant::now());
        machine.handle_failure(now);
        assert_eq!(machine.next(now + SECOND), ALL);
        machine.handle_wake(&notified(&["a"]), now + SECOND);
        machine.handle_done(now + SECOND);
        assert_eq!(machine.next(now + SECOND), keys(&["a"]));
    }

    /// A burst must not let a call wait for the pause.
    #[test]
    fn keys_of_calls_are_read_at_once_although_too_many_keys_were_notified() {
        let (mut machine, now) = (machine(), Instant::now());
        machine.handle_loaded(now, now);
        machine.handle_keys(["a".to_owned()], now);
        for first in [0, 1_000] {
            let many: Vec<_> = (first..first + 1_000).map(|key| key.to_string()).collect();
            machine.handle_wake(&notified(&many.iter().map(|key| &**key).collect::<Vec<_>>()), now);
        }
        assert_eq!(machine.next(now), keys(&["a"]));
        machine.handle_done(now);
        assert_eq!(machine.next(now), Step::Wait(Some(now + PAUSE_MIN)));
    }

    #[test]
    fn delays_that_no_instant_can_represent_do_not_panic() {
        let reconnect =
            Reconnect { min: Duration::MAX, max: Duration::MAX, ..Reconnect::default() };
        let mut machine = Machine::new(
            Backoff::new(&reconnect, 7),
            Duration::MAX,
            Pace::new(Duration::MAX, Duration::MAX),
        );
        let now = Instant::now();
        machine.handle_failure(now);
        machine.handle_reload(now);
        assert!(matches!(machine.next(now), Step::Wait(Some(at)) if at > now));
    }

    #[derive(Debug, Clone)]
    enum Input {
        Notified(u8),
        Poll,
        Resync,
        Refresh(u8),
        Reload,
        Tick(u16),
    }

    fn input() -> impl Strategy<Value = Input> {
        prop_oneof![
            4 => (0..6_u8).prop_map(Input::Notified),
            1 => Just(Input::Poll),
            1 => Just(Input::Resync),
            2 => (0..6_u8).prop_map(Input::Refresh),
            1 => Just(Input::Reload),
            2 => any::<u16>().prop_map(Input::Tick),
        ]
    }

    /// What was notified and not read, with the number of the step that has notified it.
    type Unread = std::collections::BTreeMap<String, usize>;

    fn apply(machine: &mut Machine, unread: &mut Unread, step: usize, input: &Input, now: Instant) {
        match input {
            Input::Notified(key) => {
                unread.insert(key.to_string(), step);
                machine.handle_wake(&notified(&[&key.to_string()]), now);
            }
            Input::Refresh(key) => {
                unread.insert(key.to_string(), step);
                machine.handle_keys([key.to_string()], now);
            }
            Input::Poll | Input::Resync | Input::Reload => {
                unread.insert("any".to_owned(), step);
                match input {
                    Input::Poll => machine.handle_wake(&Wake::Poll, now),
                    Input::Resync => machine.handle_wake(&resync(), now),
                    _ => machine.handle_reload(now),
                }
            }
            Input::Tick(_) => {}
        }
    }

    proptest! {
        /// A row of which the mirror was notified is read later by a read that succeeds, whatever fails before, also if it was notified during a read.
        #[test]
        fn nothing_that_was_notified_is_forgotten(
            steps in prop::collection::vec((input(), input(), 0..5_u8), 1..60)
        ) {
            let (mut machine, mut now) = (machine(), Instant::now());
            let mut unread = Unread::new();
            let run = |machine: &mut Machine, unread: &mut Unread, now, step, during: Option<&Input>, result| {
                let Step::Read(read) = machine.next(now) else { return false };
                if let Some(during) = during {
                    apply(machine, unread, step + 1, during, now);
                }
                match (result, read) {
                    (0, _) => drop(machine.handle_failure(now)),
                    (1, Read::Keys(_)) => drop(machine.handle_invalid_key(now)),
                    (2, _) if machine.gives_up_at().is_some() => machine.handle_given_up(),
                    (_, Read::Keys(keys)) => {
                        unread.retain(|key, since| *since > step || !keys.contains(key));
                        machine.handle_done(now);
                    }
                    (_, Read::All { .. }) => {
                        unread.retain(|_, since| *since > step);
                        machine.handle_done(now);
                    }
                }
                true
            };
            let mut step = 0;
            for (input, during, result) in &steps {
                step += 2;
                if let Input::Tick(ms) = input {
                    now += Duration::from_millis((*ms).into());
                }
                apply(&mut machine, &mut unread, step, input, now);
                run(&mut machine, &mut unread, now, step, Some(during), *result);
                prop_assert!(unread.is_empty() || !machine.is_idle());
            }
            for _ in 0..3 {
                now += MAX;
                while run(&mut machine, &mut unread, now, step + 2, None, 3) {}
            }
            prop_assert!(unread.is_empty() && machine.is_idle(), "{unread:?}");
        }
    }
}
