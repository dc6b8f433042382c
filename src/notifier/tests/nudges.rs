//! When nudges are sent, and what follows from the answer to them.

use super::server::ServerSession;
use super::*;
use crate::notifier::nudge::{
    Added, NudgeAction, NudgeLimits, NudgeMachine, NudgePolicy, PendingNudges,
};

const REFUSED: &[u8] = b"E\0\0\0\x17SERROR\0C22P05\0Mno\0\0Z\0\0\0\x05I";
const FULL: &[u8] = b"E\0\0\0\x17SERROR\0C54000\0Mno\0\0Z\0\0\0\x05I";
const FORBIDDEN: &[u8] = b"E\0\0\0\x17SERROR\0C42501\0Mno\0\0Z\0\0\0\x05I";
const STANDBY: &[u8] = b"E\0\0\0\x17SERROR\0C25006\0Mno\0\0Z\0\0\0\x05I";

const WINDOW: Duration = Duration::from_millis(10);

const DELAYS: Reconnect = Reconnect {
    min: Duration::from_millis(50),
    max: Duration::from_secs(30),
    retry_refusals: false,
};

fn nudge_policy(reconnects: bool) -> NudgePolicy {
    NudgePolicy {
        window: WINDOW,
        answer_timeout: TIMEOUT,
        limits: GroupLimits { calls: 5, bytes: 100 },
        connect_timeout: Duration::from_secs(10),
        delays: DELAYS,
        reconnects,
    }
}

/// A machine, what waits, and its session.
struct NudgeScene {
    machine: NudgeMachine,
    pending: PendingNudges,
    session: Option<Session>,
    now: Instant,
    nudges: u64,
    coalesced: u64,
    /// The actions, in short.
    actions: Vec<String>,
}

impl NudgeScene {
    fn new() -> Self {
        Self::with(true)
    }

    fn with(reconnects: bool) -> Self {
        let limits = NudgeLimits { channels: 4, keys: 8, bytes: 4_000 };
        Self {
            machine: NudgeMachine::new(nudge_policy(reconnects), 1),
            pending: PendingNudges::new(limits),
            session: None,
            now: Instant::now(),
            nudges: 0,
            coalesced: 0,
            actions: Vec::new(),
        }
    }

    /// A scene with an open session.
    fn open() -> Self {
        let mut scene = Self::new();
        scene.nudge("first");
        assert_eq!(scene.actions(), ["open"]);
        scene.opened();
        assert_eq!(scene.sent(), ["a:first"]);
        scene.receive(&[RESULT, READY].concat());
        scene.actions();
        scene
    }

    fn opened(&mut self) {
        self.session = Some(session(self.now));
        self.machine.handle_opened(self.now);
        self.start();
    }

    /// A nudge on the channel `a`.
    fn nudge(&mut self, key: &str) {
        self.nudge_on("a", key);
    }

    fn nudge_on(&mut self, channel: &str, key: &str) {
        match self.pending.add(channel, key) {
            Added::New => {}
            Added::Coalesced(count) => self.coalesced += count,
            Added::NoRoom => panic!("no room"),
        }
        self.nudges += 1;
        self.start();
    }

    fn start(&mut self) {
        self.machine.start(self.now, self.session.as_mut(), &mut self.pending);
        while let Some(action) = self.machine.poll_action(&self.pending) {
            self.actions.push(match action {
                NudgeAction::Open => "open".to_owned(),
                NudgeAction::CancelOpening => "cancel".to_owned(),
                NudgeAction::CancelCommand => "cancel the command".to_owned(),
                NudgeAction::Sent { nudges, is_repeat } => {
                    format!("{} {}", if is_repeat { "again" } else { "sent" }, nudges.len())
                }
                NudgeAction::Refused(nudges) => format!("refused {}", nudges.len()),
                NudgeAction::Dropped(error) => format!("dropped: {:?}", error.kind()),
                NudgeAction::Failed(error) => format!("failed: {:?}", error.kind()),
                NudgeAction::End(result) => {
                    format!("end: {:?}", result.map_err(|error| error.kind()))
                }
            });
        }
    }

    /// Returns the actions since the last call.
    fn actions(&mut self) -> Vec<String> {
        std::mem::take(&mut self.actions)
    }

    /// Writes everything. Returns the nudges of each transaction that was sent.
    fn sent(&mut self) -> Vec<String> {
        let Some(session) = &mut self.session else { return Vec::new() };
        let transactions = ServerSession::new(1).take(session.transmit());
        session.transmit().clear();
        let texts = |pairs: Vec<(String, String)>| {
            let texts: Vec<_> = pairs.iter().map(|(c, key)| format!("{c}:{key}")).collect();
            texts.join(" ")
        };
        transactions.into_iter().map(texts).collect()
    }

    fn receive(&mut self, bytes: &[u8]) {
        let Some(session) = &mut self.session else { panic!("no session") };
        let _ = session.handle_input(self.now, &mut BytesMut::from(bytes)).unwrap();
        while let Some(event) = session.poll_event() {
            let error = match self.machine.stray_error(&event, session) {
                None => self.machine.handle_event(self.now, event, &mut self.pending),
                stray => stray,
            };
            if let Some(error) = error {
                let error = session.fail(error);
                self.session = None;
                self.machine.handle_lost(self.now, error, &mut self.pending);
                break;
            }
        }
        self.start();
    }

    fn confirm(&mut self) {
        self.receive(&[RESULT, READY].concat());
    }

    fn lose(&mut self) {
        let error = self.session.take().unwrap().handle_eof(false);
        self.machine.handle_lost(self.now, error, &mut self.pending);
        self.start();
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        self.pass();
    }

    /// Time passes until the next deadline. Returns how long.
    fn wait_for_the_deadline(&mut self) -> Duration {
        let deadline = self.machine.poll_timeout(&self.pending).expect("there is a deadline");
        let time = deadline.saturating_duration_since(self.now);
        self.now += time;
        self.pass();
        time
    }

    fn pass(&mut self) {
        if let Some(error) = self.machine.handle_timeout(self.now, &mut self.pending) {
            let error = self.session.take().unwrap().fail(error);
            self.machine.handle_lost(self.now, error, &mut self.pending);
        }
        self.start();
    }

    /// Checks that every nudge was counted, and returns how many are committed and dropped.
    fn ends(&self) -> (u64, u64) {
        let counts = &self.machine.counts;
        let coalesced = self.coalesced + counts.coalesced;
        assert_eq!(self.nudges, coalesced + counts.committed + counts.dropped);
        (counts.committed, counts.dropped)
    }
}

#[test]
fn there_is_no_session_before_the_first_nudge() {
    let mut scene = NudgeScene::new();
    scene.start();
    assert!(scene.actions().is_empty());
    assert_eq!(scene.machine.poll_timeout(&scene.pending), None);
    scene.nudge("1");
    assert_eq!(scene.actions(), ["open"]);
    // They wait for it together.
    scene.nudge("2");
    assert!(scene.actions().is_empty());
    scene.opened();
    assert_eq!(scene.sent(), ["a:1 a:2"]);
    scene.confirm();
    assert_eq!(scene.ends(), (2, 0));
    assert_eq!(scene.machine.counts.sessions, 1);
}

#[test]
fn a_lone_nudge_is_sent_at_once_and_later_ones_together_when_the_window_has_passed() {
    let mut scene = NudgeScene::open();
    scene.wait(WINDOW);
    scene.nudge("1");
    assert_eq!(scene.sent(), ["a:1"]);
    scene.confirm();
    for key in ["2", "3", "2", ""] {
        scene.nudge(key);
    }
    assert!(scene.sent().is_empty());
    assert_eq!(scene.wait_for_the_deadline(), WINDOW);
    assert_eq!(scene.sent(), ["a: a:2 a:3"]);
    scene.confirm();
    assert_eq!(scene.ends(), (5, 0));
    assert_eq!(scene.machine.poll_timeout(&scene.pending), None, "nothing waits");
}

/// The notification that is in flight may have been delivered before the row of the later nudge was committed.
#[test]
fn a_nudge_of_a_key_that_is_in_flight_is_sent_again() {
    let mut scene = NudgeScene::open();
    scene.wait(WINDOW);
    scene.nudge("1");
    assert_eq!(scene.sent(), ["a:1"]);
    scene.nudge("1");
    scene.wait(3 * WINDOW);
    assert!(scene.sent().is_empty(), "one transaction at a time");
    scene.confirm();
    assert_eq!(scene.sent(), ["a:1"]);
    scene.confirm();
    assert_eq!(scene.ends(), (3, 0));
}

#[test]
fn a_flush_that_is_too_large_is_sent_in_parts_without_a_window_between_them() {
    let mut scene = NudgeScene::open();
    for key in 0..7 {
        scene.nudge(&key.to_string());
    }
    scene.wait(WINDOW);
    assert_eq!(scene.sent(), ["a:0 a:1 a:2 a:3 a:4"]);
    scene.confirm();
    assert_eq!(scene.sent(), ["a:5 a:6"]);
    let long = "x".repeat(95);
    for channel in ["b", "c"] {
        scene.nudge_on(channel, &long);
    }
    scene.confirm();
    scene.wait(WINDOW);
    assert_eq!(scene.sent(), [format!("b:{long}")]);
    scene.confirm();
    assert_eq!(scene.sent(), [format!("c:{long}")]);
    scene.confirm();
    assert_eq!(scene.ends(), (10, 0));
}

#[test]
fn a_nudge_that_is_in_doubt_is_sent_again_by_the_next_session() {
    let mut scene = NudgeScene::open();
    scene.wait(WINDOW);
    scene.nudge("1");
    assert_eq!(scene.sent(), ["a:1"]);
    scene.nudge("1");
    scene.nudge("2");
    scene.actions();
    scene.lose();
    assert_eq!(scene.actions(), ["failed: Connect"]);
    scene.wait_for_the_deadline();
    assert_eq!(scene.actions(), ["open"]);
    scene.opened();
    assert_eq!(scene.sent(), ["a:1 a:2"]);
    assert_eq!(scene.actions(), ["again 2"]);
    scene.confirm();
    scene.wait(WINDOW);
    scene.nudge("3");
    assert_eq!(scene.actions(), ["sent 1"]);
    scene.sent();
    scene.confirm();
    assert_eq!(scene.ends(), (4, 0));
    assert_eq!(scene.machine.counts.sessions, 2);
}

/// A lost session has sent nothing of these: their notifications come once.
#[test]
fn nudges_that_were_not_sent_are_no_repetition_after_a_loss() {
    let mut scene = NudgeScene::open();
    scene.nudge("1");
    scene.lose();
    scene.actions();
    scene.wait_for_the_deadline();
    scene.opened();
    assert_eq!(scene.actions(), ["open", "sent 1"]);
}

#[test]
fn a_refused_nudge_is_dropped_and_the_others_are_sent() {
    let mut scene = NudgeScene::open();
    for key in ["1", "2", "3", "4", "5"] {
        scene.nudge(key);
    }
    scene.wait(WINDOW);
    assert_eq!(scene.sent(), ["a:1 a:2 a:3 a:4 a:5"]);
    scene.receive(REFUSED);
    assert_eq!(scene.sent(), ["a:1 a:2 a:3"]);
    scene.confirm();
    assert_eq!(scene.sent(), ["a:4 a:5"]);
    scene.receive(REFUSED);
    assert_eq!(scene.sent(), ["a:4"]);
    scene.actions();
    scene.receive(REFUSED);
    assert_eq!(scene.actions(), ["refused 1", "dropped: Server", "sent 1"]);
    assert_eq!(scene.sent(), ["a:5"]);
    scene.confirm();
    assert_eq!(scene.ends(), (5, 1));
}

#[test]
fn nudges_are_kept_while_the_notification_queue_is_full() {
    let mut scene = NudgeScene::open();
    for key in 0..7 {
        scene.nudge(&key.to_string());
    }
    scene.wait(WINDOW);
    assert_eq!(scene.sent().len(), 1);
    scene.actions();
    scene.receive(FULL);
    assert_eq!(scene.actions(), ["refused 5", "failed: Server"]);
    scene.nudge("7");
    assert!(scene.sent().is_empty(), "it waits for the delay");
    let mut longest = Duration::ZERO;
    for _ in 0..12 {
        longest = longest.max(scene.wait_for_the_deadline());
        assert_eq!(scene.sent(), ["a:0 a:1 a:2 a:3 a:4"]);
        scene.receive(FULL);
    }
    assert!(longest > Duration::from_secs(1) && longest <= DELAYS.max, "{longest:?}");
    scene.wait_for_the_deadline();
    scene.sent();
    scene.confirm();
    assert_eq!(scene.sent(), ["a:5 a:6 a:7"]);
    scene.confirm();
    assert_eq!(scene.ends(), (9, 0));
}

#[test]
fn an_error_that_concerns_every_nudge_drops_them() {
    let mut scene = NudgeScene::open();
    scene.wait(WINDOW);
    scene.nudge("1");
    scene.sent();
    scene.actions();
    scene.receive(FORBIDDEN);
    assert_eq!(scene.actions(), ["refused 1", "dropped: Server"]);
    assert_eq!(scene.ends(), (1, 1));
}

#[test]
fn a_silent_server_loses_the_session_and_no_nudge() {
    let mut scene = NudgeScene::open();
    scene.wait(WINDOW);
    scene.nudge("1");
    scene.sent();
    scene.actions();
    assert_eq!(scene.wait_for_the_deadline(), TIMEOUT);
    assert_eq!(scene.actions(), ["cancel the command", "failed: Timeout"]);
    scene.wait_for_the_deadline();
    scene.opened();
    assert_eq!(scene.sent(), ["a:1"]);
    scene.confirm();
    assert_eq!(scene.ends(), (2, 0));
}

/// The answer timeout is as long as the longest delay, so each silent session has counted as one that was live for long. The next one
/// followed at once, and left one more process of the server that waits.
#[test]
fn silent_sessions_follow_each_other_with_growing_delays() {
    let mut scene = NudgeScene::open();
    scene.wait(WINDOW);
    scene.nudge("1");
    let mut delays = Vec::new();
    for _ in 0..20 {
        scene.actions();
        scene.wait_for_the_deadline();
        assert_eq!(scene.actions(), ["cancel the command", "failed: Timeout"]);
        delays.push(scene.wait_for_the_deadline());
        scene.opened();
        assert_eq!(scene.sent().last().unwrap(), "a:1");
    }
    let late: Duration = delays[12..].iter().sum();
    assert!(late > 8 * DELAYS.max / 4, "{delays:?}");
    // A session that was of use for long makes the next delay short again, also if it is silent at last.
    scene.confirm();
    scene.wait(2 * DELAYS.max);
    scene.nudge("2");
    scene.wait_for_the_deadline();
    assert!(scene.wait_for_the_deadline() <= 2 * DELAYS.min);
}

/// The server was restarted as a standby, or the name of the host is that of one. An earlier version sent the nudges to it again and
/// again: the primary never got them.
#[test]
fn nudges_that_a_standby_refuses_go_to_the_next_session() {
    let mut scene = NudgeScene::open();
    scene.wait(WINDOW);
    scene.nudge("1");
    scene.nudge("2");
    scene.sent();
    scene.actions();
    scene.receive(STANDBY);
    assert_eq!(scene.actions(), ["failed: Standby"]);
    assert!(scene.session.is_none());
    scene.wait_for_the_deadline();
    assert_eq!(scene.actions(), ["open"]);
    scene.opened();
    assert_eq!(scene.sent(), ["a:1 a:2"]);
    assert_eq!(scene.actions(), ["sent 2"], "nothing was committed");
    scene.confirm();
    assert_eq!(scene.ends(), (3, 0));
}

/// For example an answer that is too large. It may have been committed.
#[test]
fn nudges_with_an_answer_that_is_none_to_them_are_sent_again_by_the_next_session() {
    let mut scene = NudgeScene::open();
    scene.wait(WINDOW);
    scene.nudge("1");
    scene.sent();
    scene.actions();
    // The row has 70,000 bytes.
    let (head, row) = RESULT.split_at(RESULT.windows(2).position(|tag| tag == b"D\0").unwrap());
    let long =
        [&70_010_u32.to_be_bytes()[..], b"\0\x01", &70_000_u32.to_be_bytes(), &[b'x'; 70_000]];
    scene.receive(&[head, b"D", &long.concat(), &row[11..], READY].concat());
    assert_eq!(scene.actions(), ["failed: Unsupported"]);
    scene.wait_for_the_deadline();
    scene.opened();
    assert_eq!(scene.sent(), ["a:1"]);
    assert_eq!(scene.actions(), ["open", "again 1"]);
    scene.confirm();
    assert_eq!(scene.ends(), (2, 0));
}

/// `lock_timeout` or `statement_timeout` of the role, or a cancel. An earlier version dropped up to 1,000 nudges then.
#[test]
fn nudges_that_wait_too_long_for_a_lock_are_kept_and_sent_after_a_delay() {
    for code in ["55P03", "57014"] {
        let mut scene = NudgeScene::open();
        scene.wait(WINDOW);
        scene.nudge("1");
        scene.nudge("2");
        scene.sent();
        scene.actions();
        let refused = String::from_utf8(FORBIDDEN.to_vec()).unwrap().replace("42501", code);
        scene.receive(refused.as_bytes());
        assert_eq!(scene.actions(), ["refused 1", "failed: Server"], "{code}");
        assert!(scene.sent().is_empty());
        assert!(scene.wait_for_the_deadline() >= DELAYS.min);
        assert_eq!(scene.sent(), ["a:1 a:2"]);
        scene.confirm();
        assert_eq!(scene.ends(), (3, 0), "{code}");
    }
}

/// They were sent together again and again, and refused each time.
#[test]
fn nudges_that_take_longer_than_a_statement_timeout_are_sent_in_smaller_parts() {
    let timed_out = String::from_utf8(FORBIDDEN.to_vec()).unwrap().replace("42501", "57014");
    let mut scene = NudgeScene::open();
    for key in ["1", "2", "3", "4"] {
        scene.nudge(key);
    }
    scene.wait(WINDOW);
    assert_eq!(scene.sent(), ["a:1 a:2 a:3 a:4"]);
    // Once, as after the wait for a lock.
    scene.receive(timed_out.as_bytes());
    assert!(scene.sent().is_empty());
    scene.wait_for_the_deadline();
    assert_eq!(scene.sent(), ["a:1 a:2 a:3 a:4"]);
    scene.actions();
    scene.receive(timed_out.as_bytes());
    assert_eq!(scene.actions(), ["refused 4", "sent 2"]);
    assert_eq!(scene.sent(), ["a:1 a:2"]);
    scene.receive(timed_out.as_bytes());
    assert_eq!(scene.sent(), ["a:1"]);
    // Alone it waits again.
    scene.receive(timed_out.as_bytes());
    assert!(scene.sent().is_empty());
    scene.wait_for_the_deadline();
    assert_eq!(scene.sent(), ["a:1 a:2 a:3 a:4"]);
    scene.receive(timed_out.as_bytes());
    for part in ["a:1 a:2", "a:3 a:4"] {
        assert_eq!(scene.sent(), [part]);
        scene.confirm();
    }
    assert_eq!(scene.ends(), (5, 0));
}

#[test]
fn a_close_sends_what_waits_without_the_window() {
    let mut scene = NudgeScene::open();
    scene.nudge("1");
    scene.machine.close(scene.now);
    scene.start();
    assert_eq!(scene.sent(), ["a:1"]);
    assert_eq!(scene.actions(), ["sent 1"]);
    scene.confirm();
    assert_eq!(scene.actions(), ["end: Ok(())"]);
    assert_eq!(scene.ends(), (2, 0));
}

#[test]
fn what_is_not_confirmed_in_time_after_a_close_is_dropped_and_counted() {
    for is_open in [true, false] {
        let mut scene = NudgeScene::open();
        scene.wait(WINDOW);
        scene.nudge("1");
        scene.nudge("2");
        scene.sent();
        if !is_open {
            scene.lose();
        }
        let begin = scene.now;
        scene.machine.close(begin);
        scene.actions();
        while !scene.actions.iter().any(|action| action.starts_with("end")) {
            scene.wait_for_the_deadline();
        }
        assert_eq!(scene.now - begin, TIMEOUT, "{:?}", scene.actions);
        assert_eq!(scene.actions.last().unwrap(), "end: Err(Timeout)");
        assert!(scene.actions.contains(&"dropped: Closed".to_owned()));
        let cancels = scene.actions.iter().filter(|action| *action == "cancel the command");
        assert_eq!(cancels.count(), usize::from(is_open), "only what is unanswered");
        assert_eq!(scene.ends(), (1, 2));
        assert_eq!(scene.machine.poll_timeout(&scene.pending), None);
    }
}

#[test]
fn a_notifier_that_does_not_reconnect_ends_the_nudges() {
    for kind in [ErrorKind::Auth, ErrorKind::Connect] {
        let mut scene = NudgeScene::with(false);
        scene.nudge("1");
        let error = Error::new(kind, "no");
        scene.machine.handle_open_failed(scene.now, error, &mut scene.pending);
        scene.start();
        let end = format!("end: Err({kind:?})");
        assert_eq!(scene.actions(), ["open", "dropped: Closed", &end]);
        assert_eq!(scene.ends(), (0, 1));
    }
}

/// The session is opened at the first nudge, which may be long after the notifier has connected: while a password is changed, for
/// example. An earlier version dropped all nudges from then on.
#[test]
fn a_refused_login_delays_the_nudges_and_does_not_end_them() {
    let mut scene = NudgeScene::new();
    scene.nudge("1");
    assert_eq!(scene.actions(), ["open"]);
    for _ in 0..5 {
        let error = Error::new(ErrorKind::Auth, "no");
        scene.machine.handle_open_failed(scene.now, error, &mut scene.pending);
        scene.start();
        assert_eq!(scene.actions(), ["failed: Auth"]);
        scene.wait_for_the_deadline();
        assert_eq!(scene.actions(), ["open"]);
    }
    scene.opened();
    assert_eq!(scene.sent(), ["a:1"]);
    scene.confirm();
    assert_eq!(scene.ends(), (1, 0));
    assert_eq!(scene.machine.counts.attempts_failed, 5);
}

/// Behind a pooler, another client may have executed LISTEN in the same server session: an old server reports a notification that it
/// drops with an error that looks like an answer.
#[test]
fn an_error_that_may_report_a_dropped_notification_drops_no_nudge() {
    const ERROR: &[u8] = b"E\0\0\0\x17SERROR\0CXX000\0Mno\0\0Z\0\0\0\x05I";
    let mut scene = NudgeScene::open();
    scene.machine.handle_notifications();
    scene.wait(WINDOW);
    scene.nudge("1");
    scene.sent();
    scene.actions();
    scene.receive(ERROR);
    assert_eq!(scene.actions(), ["failed: Connect"]);
    scene.wait_for_the_deadline();
    scene.opened();
    assert_eq!(scene.sent(), ["a:1"]);
    // No notification has arrived on this session: there it is an answer.
    scene.receive(ERROR);
    assert_eq!(scene.ends(), (1, 1));
}
