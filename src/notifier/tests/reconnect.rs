//! What follows the loss of a session.

use super::*;
use crate::notifier::machine::NotifierAction;
use crate::proto::supervisor::State;

const DELAYS: Reconnect = Reconnect {
    min: Duration::from_millis(50),
    max: Duration::from_secs(30),
    retry_refusals: false,
};

impl NotifierScene {
    fn reconnecting() -> Self {
        let mut scene = Self::new();
        scene.machine = NotifierMachine::new(&policy(Some(DELAYS)), scene.now, 0, 1);
        scene
    }

    /// Returns the actions in words.
    fn actions(&mut self) -> Vec<String> {
        let mut actions = Vec::new();
        while let Some(action) = self.machine.poll_action() {
            actions.push(match action {
                NotifierAction::State(state) => state.to_string(),
                NotifierAction::Failed(error) => format!("failed: {}", error.kind()),
                NotifierAction::End(Ok(())) => "end".to_owned(),
                NotifierAction::End(Err(error)) => format!("end: {}", error.kind()),
                NotifierAction::Open => "open".to_owned(),
                NotifierAction::CancelOpening => "cancel".to_owned(),
            });
        }
        actions
    }

    fn lose(&mut self) {
        let error = self.session.handle_eof(false);
        self.written_at_loss();
        self.machine.handle_lost(self.now, error);
        self.answers();
    }

    fn written_at_loss(&mut self) {
        self.machine.wrote(self.now, self.written);
    }

    /// The delay passes, and an attempt begins.
    fn begin_attempt(&mut self) {
        self.now = self.machine.poll_timeout().unwrap();
        assert!(self.machine.handle_timeout(self.now).is_none());
        self.answers();
    }

    fn reopen(&mut self) {
        self.session = session(self.now);
        self.written = 1_000;
        self.machine.handle_opened(self.now, self.written);
        self.start();
    }
}

#[test]
fn after_a_loss_what_was_written_is_in_doubt_and_the_rest_goes_out_on_the_next_session() {
    let mut scene = NotifierScene::reconnecting();
    let mut written = scene.notify("written");
    scene.write_all();
    let mut gathered = scene.notify("gathered");
    let mut many = scene.call();
    let all_but_one = scene.unwritten() - 1;
    scene.write(all_but_one);
    scene.lose();
    assert_eq!(kind(&mut written), Some(Err(ErrorKind::InDoubt)));
    assert_eq!(kind(&mut many), None, "its last byte was not written");
    // The transaction before it was written as a whole.
    assert_eq!(kind(&mut gathered), Some(Err(ErrorKind::InDoubt)));
    assert_eq!(scene.actions(), ["failed: connection", "reconnecting"]);
    let mut during = scene.notify("during");
    scene.begin_attempt();
    assert_eq!(scene.actions(), ["open"]);
    scene.reopen();
    assert_eq!(scene.actions(), [State::Connected.to_string()]);
    assert_eq!(scene.sent(), ["b", "during"]);
    scene.answer();
    scene.answer();
    assert_eq!((kind(&mut many), kind(&mut during)), (Some(Ok(())), Some(Ok(()))));
    let stats = scene.machine.stats();
    assert_eq!((stats.sessions, stats.in_doubt, stats.committed), (2, 2, 2));
}

/// The calls of a group that was not written completely keep their order.
#[test]
fn an_unwritten_group_is_sent_again_before_later_calls() {
    let mut scene = NotifierScene::reconnecting();
    let _first = scene.notify("first");
    scene.write_all();
    let _group: Vec<Call> = ["1", "2"].map(|payload| scene.notify(payload)).into();
    scene.answer();
    scene.write(3);
    let _later = scene.notify("3");
    scene.lose();
    scene.begin_attempt();
    scene.reopen();
    assert_eq!(scene.sent(), ["1 2 3"]);
}

#[test]
fn calls_wait_for_the_next_session_at_most_one_answer_timeout() {
    let mut scene = NotifierScene::reconnecting();
    scene.lose();
    let mut waiting = scene.notify("1");
    let begin = scene.now;
    while kind_is_pending(&mut waiting) {
        scene.begin_attempt();
        scene.machine.handle_open_failed(scene.now, Error::new(ErrorKind::Connect, "no server"));
        assert!(scene.now <= begin + TIMEOUT);
    }
    assert_eq!(scene.now, begin + TIMEOUT);
    let mut late = scene.notify("2");
    scene.now += TIMEOUT;
    assert!(scene.machine.handle_timeout(scene.now).is_none());
    scene.answers();
    let error = late.try_recv().unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    let text = format!("{error:#}");
    assert!(text.contains("was not sent") && text.contains("no server"), "{text}");
    assert_eq!(scene.machine.stats().not_sent, 2);
}

fn kind_is_pending(call: &mut Call) -> bool {
    // A call that was answered is terminated after the answer was taken.
    !matches!(call.try_recv(), Ok(Err(_)))
}

#[test]
fn an_attempt_that_never_ends_is_cancelled_and_another_one_follows() {
    let mut scene = NotifierScene::reconnecting();
    scene.lose();
    scene.actions();
    scene.begin_attempt();
    assert_eq!(scene.actions(), ["open"]);
    scene.begin_attempt();
    assert_eq!(scene.actions(), ["cancel", "failed: timeout"]);
    scene.begin_attempt();
    assert_eq!(scene.actions(), ["open"]);
    assert_eq!(scene.machine.stats().attempts_failed, 1);
}

#[test]
fn a_refusal_ends_a_notifier_and_every_call_has_the_cause() {
    let mut scene = NotifierScene::reconnecting();
    scene.lose();
    let mut waiting = scene.notify("1");
    scene.begin_attempt();
    scene.actions();
    scene.machine.handle_open_failed(scene.now, Error::new(ErrorKind::Auth, "wrong password"));
    assert_eq!(scene.actions(), ["failed: authentication", "end: authentication"]);
    let mut later = scene.notify("2");
    for call in [&mut waiting, &mut later] {
        let error = call.try_recv().unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Closed);
        assert!(format!("{error:#}").contains("wrong password"), "{error:#}");
    }
    assert_eq!(scene.machine.poll_timeout(), None);
}

#[test]
fn a_close_without_a_session_ends_at_once_if_no_call_waits_and_else_within_one_timeout() {
    let mut idle = NotifierScene::reconnecting();
    idle.lose();
    idle.machine.close(idle.now);
    idle.machine.drained();
    assert_eq!(idle.actions(), ["failed: connection", "reconnecting", "end"]);
    let mut scene = NotifierScene::reconnecting();
    scene.lose();
    scene.wait(Duration::from_secs(1));
    let mut waiting = scene.notify("1");
    scene.wait(Duration::from_secs(1));
    let begin = scene.now;
    scene.machine.close(begin);
    scene.machine.drained();
    while !scene.actions().iter().any(|action| action == "end: timeout") {
        scene.begin_attempt();
        scene.machine.handle_open_failed(scene.now, Error::new(ErrorKind::Connect, "no server"));
        assert!(scene.now <= begin + TIMEOUT);
    }
    scene.answers();
    assert_eq!(kind(&mut waiting), Some(Err(ErrorKind::Closed)));
}

/// In an earlier version such a call had the deadline of the close only.
#[test]
fn a_close_extends_no_call_beyond_twice_the_timeout() {
    let mut scene = NotifierScene::reconnecting();
    let mut call = scene.call();
    let begin = scene.now;
    scene.write(1);
    scene.wait(TIMEOUT + Duration::from_secs(5));
    scene.lose();
    scene.machine.close(scene.now);
    scene.machine.drained();
    while kind_is_pending(&mut call) {
        scene.begin_attempt();
        scene.machine.handle_open_failed(scene.now, Error::new(ErrorKind::Connect, "no server"));
        assert!(scene.now <= begin + 2 * TIMEOUT);
    }
}

/// Behind a pooler, another client may have executed LISTEN in the same server session, and an old server reports each
/// notification that it drops with an error that looks like an answer. In an earlier version the notifications before it were
/// returned as refused, and those after it had the answers of others.
#[test]
fn an_error_that_may_report_a_dropped_notification_is_not_taken_for_an_answer() {
    const ERROR: &[u8] = b"E\0\0\0\x17SERROR\0CXX000\0Mno\0\0Z\0\0\0\x05I";
    let mut scene = NotifierScene::reconnecting();
    scene.machine.handle_notifications();
    let (mut first, mut second) = (scene.call(), scene.call());
    scene.write_all();
    let mut unwritten = scene.call();
    let error = scene.receive(ERROR).expect("the session ends");
    assert!(format!("{error:#}").contains("may not be the answer"), "{error:#}");
    let hint = "another client of a pooler has executed LISTEN in this session: let the notifier connect to the server \
                without the pooler";
    assert!(format!("{error:#}").contains(hint), "{error:#}");
    for call in [&mut first, &mut second] {
        assert_eq!(kind(call), Some(Err(ErrorKind::InDoubt)));
    }
    assert_eq!(kind(&mut unwritten), None);
    // No notification has arrived on the next session: there it is an answer.
    scene.begin_attempt();
    scene.reopen();
    scene.write_all();
    assert!(scene.receive(ERROR).is_none());
    assert_eq!(kind(&mut unwritten), Some(Err(ErrorKind::Server)));
    // This error is never such a report.
    scene.machine.handle_notifications();
    let mut refused = scene.call();
    scene.write_all();
    let permission = b"E\0\0\0\x17SERROR\0C42501\0Mno\0\0Z\0\0\0\x05I";
    assert!(scene.receive(permission).is_none());
    assert_eq!(kind(&mut refused), Some(Err(ErrorKind::Server)));
}
