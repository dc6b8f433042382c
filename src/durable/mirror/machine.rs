//! [`Machine`]: decides what a mirror reads, without I/O.
//!
//! ```text
//! keys ────────────────▶ read these keys ── done ─▶ idle
//! poll, loss, too many ─▶ read all ──────── done ─▶ idle
//!                          ▲    │
//!                          │    └─ failure ─▶ delay ─┐
//!                          ├─────────────────────────┤
//!                          └── no key: after 1 s ◀───┘
//! ```
//! While a read runs, nothing is taken from the wake-ups, which are bounded and coalesced. So at most one read follows for all of them.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::proto::supervisor::Backoff;
use crate::wakeups::Wake;

/// The highest number of keys of one read. Beyond it all rows are read. It is the limit of the keys of a wake-up.
pub(super) const KEYS_MAX: usize = 1_024;

/// The shortest time between two loads because of notifications that name no row.
const INVALID_KEY_INTERVAL: Duration = Duration::from_secs(1);

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

#[derive(Debug)]
pub(super) struct Machine {
    keys: BTreeSet<String>,
    /// When all rows are to be read. `None`: they need not be.
    load_at: Option<Instant>,
    /// The next load is in a new session.
    reopens: bool,
    /// When the last read failed. `None` if it succeeded.
    failed_at: Option<Instant>,
    /// When the last load because of a key that is not valid was to begin.
    invalid_at: Option<Instant>,
    backoff: Backoff,
    /// The shortest delay after a failure.
    delay_min: Duration,
}

impl Machine {
    pub(super) fn new(backoff: Backoff, delay_min: Duration) -> Self {
        Self {
            keys: BTreeSet::new(),
            load_at: None,
            reopens: false,
            failed_at: None,
            invalid_at: None,
            backoff,
            delay_min,
        }
    }

    /// Returns whether everything is read that is to be read.
    pub(super) fn is_idle(&self) -> bool {
        self.keys.is_empty() && self.load_at.is_none()
    }

    pub(super) fn handle_wake(&mut self, wake: &Wake, now: Instant) {
        match (wake, wake.keys()) {
            (_, Some(keys)) => self.add_keys(keys.iter().cloned(), now),
            (Wake::Resync(_), None) => {
                // Listening works again, so the primary can be reached.
                self.backoff.reset();
                self.reopens = true;
                self.load_at = Some(now);
            }
            (_, None) => self.handle_poll(now),
        }
    }

    /// All rows are to be read, as soon as the delay after a failure has passed.
    pub(super) fn handle_poll(&mut self, now: Instant) {
        if self.failed_at.is_none() {
            self.load_at = Some(now);
        }
    }

    /// The user asks for the rows of these keys.
    pub(super) fn handle_keys(&mut self, keys: impl IntoIterator<Item = String>, now: Instant) {
        self.add_keys(keys, now);
        self.hasten(now);
    }

    /// The user asks for all rows.
    pub(super) fn handle_reload(&mut self, now: Instant) {
        self.handle_poll(now);
        self.hasten(now);
    }

    /// Begins the next attempt without the rest of a delay, but not within the shortest one.
    fn hasten(&mut self, now: Instant) {
        if let Some((failed_at, load_at)) = self.failed_at.zip(self.load_at) {
            self.load_at = Some(load_at.min(now.max(after(failed_at, self.delay_min))));
        }
    }

    fn add_keys(&mut self, keys: impl IntoIterator<Item = String>, now: Instant) {
        // All rows are read in any case, and not before this moment.
        if self.failed_at.is_some() || self.load_at.is_some_and(|at| at <= now) {
            return;
        }
        for key in keys {
            self.keys.insert(key);
            if self.keys.len() > KEYS_MAX {
                self.keys.clear();
                self.load_at = Some(now);
                return;
            }
        }
    }

    /// Returns what follows. A read must be followed by one of the methods below.
    pub(super) fn next(&mut self, now: Instant) -> Step {
        if self.load_at.is_some_and(|at| at <= now) {
            self.keys.clear();
            self.load_at = None;
            return Step::Read(Read::All { reopens: std::mem::take(&mut self.reopens) });
        }
        if self.failed_at.is_none() && !self.keys.is_empty() {
            return Step::Read(Read::Keys(std::mem::take(&mut self.keys)));
        }
        Step::Wait(self.load_at)
    }

    /// The read has succeeded.
    pub(super) fn handle_done(&mut self) {
        self.failed_at = None;
        self.backoff.reset();
    }

    /// One of the keys was not valid: all rows are read, but not more often than once in a second. Rows of other keys are read meanwhile.
    pub(super) fn handle_invalid_key(&mut self, now: Instant) {
        let at = match self.invalid_at {
            // It is to begin already.
            Some(next) if next > now => next,
            Some(last) => now.max(after(last, INVALID_KEY_INTERVAL)),
            None => now,
        };
        self.invalid_at = Some(at);
        self.load_at = Some(self.load_at.map_or(at, |load_at| load_at.min(at)));
    }

    /// The read has failed. All rows are read after the delay that is returned.
    pub(super) fn handle_failure(&mut self, now: Instant) -> Duration {
        let delay = self.backoff.next();
        self.failed_at = Some(now);
        self.keys.clear();
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

    fn machine() -> Machine {
        let reconnect = Reconnect { min: MIN, max: MAX, ..Reconnect::default() };
        Machine::new(Backoff::new(&reconnect, 7), MIN)
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
        machine.handle_done();
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
        machine.handle_done();
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
        machine.handle_done();
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
                        machine.handle_done();
                    }
                    Read::Keys(found) if found.contains("bad") => machine.handle_invalid_key(now),
                    Read::Keys(_) => machine.handle_done(),
                }
            }
            machine.handle_wake(&notified(&["good"]), now);
            assert_eq!(machine.next(now), keys(&["good"]));
            machine.handle_done();
        }
        assert_eq!(loads, 10);
    }

    #[test]
    fn delays_that_no_instant_can_represent_do_not_panic() {
        let reconnect =
            Reconnect { min: Duration::MAX, max: Duration::MAX, ..Reconnect::default() };
        let mut machine = Machine::new(Backoff::new(&reconnect, 7), Duration::MAX);
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

    proptest! {
        /// A row of which the mirror was notified is read later by a read that succeeds, whatever fails before.
        #[test]
        fn nothing_that_was_notified_is_forgotten(
            inputs in prop::collection::vec((input(), 0..4_u8), 1..60)
        ) {
            let (mut machine, mut now) = (machine(), Instant::now());
            let mut unread = BTreeSet::new();
            let run = |machine: &mut Machine, unread: &mut BTreeSet<String>, now, result| {
                let Step::Read(read) = machine.next(now) else { return false };
                match (result, read) {
                    (0, _) => drop(machine.handle_failure(now)),
                    (1, Read::Keys(_)) => machine.handle_invalid_key(now),
                    (_, Read::Keys(keys)) => {
                        unread.retain(|key| !keys.contains(key));
                        machine.handle_done();
                    }
                    (_, Read::All { .. }) => {
                        unread.clear();
                        machine.handle_done();
                    }
                }
                true
            };
            for (input, result) in inputs {
                match input {
                    Input::Notified(key) => {
                        unread.insert(key.to_string());
                        machine.handle_wake(&notified(&[&key.to_string()]), now);
                    }
                    Input::Refresh(key) => {
                        unread.insert(key.to_string());
                        machine.handle_keys([key.to_string()], now);
                    }
                    Input::Poll | Input::Resync | Input::Reload => {
                        unread.insert("any".to_owned());
                        match input {
                            Input::Poll => machine.handle_wake(&Wake::Poll, now),
                            Input::Resync => machine.handle_wake(&resync(), now),
                            _ => machine.handle_reload(now),
                        }
                    }
                    Input::Tick(ms) => now += Duration::from_millis(ms.into()),
                }
                run(&mut machine, &mut unread, now, result);
                prop_assert!(unread.is_empty() || !machine.is_idle());
            }
            now += MAX;
            while run(&mut machine, &mut unread, now, 3) {}
            prop_assert!(unread.is_empty() && machine.is_idle(), "{unread:?}");
        }
    }
}
