//! The deadlines of calls that have waited for room: they were made before calls that were accepted before them.

use super::*;

impl NotifierScene {
    /// A call that was made so long ago.
    fn called_before(&mut self, ago: Duration, payload: &str) -> Call {
        let now = self.now;
        self.now -= ago;
        let call = self.notify(payload);
        self.now = now;
        call
    }

    fn pass_to(&mut self, deadline: Instant) {
        assert_eq!(self.machine.poll_timeout(), Some(deadline));
        self.now = deadline;
        assert!(self.machine.handle_timeout(self.now).is_none());
        self.answers();
    }
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// In an earlier version only the first waiting call was looked at, so that such a call could take three answer timeouts.
#[test]
fn a_call_that_is_accepted_late_and_waits_to_be_sent_keeps_its_deadline() {
    let mut scene = NotifierScene::new();
    let begin = scene.now;
    scene.wait(TIMEOUT);
    let _first = scene.notify("first");
    scene.write_all();
    let mut young = scene.notify("young");
    let mut old = [seconds(29), seconds(25), seconds(29)]
        .map(|ago| scene.called_before(ago, &format!("{ago:?}")));
    scene.pass_to(begin + seconds(31));
    let timeout = Some(Err(ErrorKind::Timeout));
    assert_eq!(old.each_mut().map(kind), [timeout, None, timeout]);
    scene.pass_to(begin + seconds(35));
    assert_eq!(kind(&mut old[1]), timeout);
    assert_eq!(kind(&mut young), None);
    scene.answer();
    assert_eq!(scene.sent(), ["young"]);
    scene.answer();
    assert_eq!(kind(&mut young), Some(Ok(())));
    assert_eq!(scene.machine.poll_timeout(), None);
}

/// In an earlier version the first call of a transaction that was not overdue ended the search.
#[test]
fn a_call_that_is_accepted_late_and_is_part_of_a_group_keeps_its_deadline() {
    let mut scene = NotifierScene::new();
    let begin = scene.now;
    scene.wait(TIMEOUT);
    let _sent = [scene.notify("first"), scene.call(), scene.call()];
    scene.write_all();
    let mut young = scene.notify("young");
    let mut old = scene.called_before(seconds(29), "old");
    let mut middle = scene.called_before(seconds(20), "middle");
    scene.answer();
    assert_eq!(scene.sent(), ["young old middle"]);
    scene.wait(seconds(20));
    scene.answer();
    let in_doubt = Some(Err(ErrorKind::InDoubt));
    scene.pass_to(begin + seconds(61));
    assert_eq!((kind(&mut old), kind(&mut middle)), (in_doubt, None));
    scene.pass_to(begin + seconds(70));
    assert_eq!((kind(&mut middle), kind(&mut young)), (in_doubt, None));
    scene.answer();
    scene.answer();
    assert_eq!(kind(&mut young), Some(Ok(())));
}

/// In an earlier version each call of a lost session was inserted by itself, which moved the others each time.
#[test]
fn many_calls_are_put_back_in_their_order_and_each_is_moved_once() {
    const CALLS: u64 = 400_000;
    let now = Instant::now();
    let call = |number| {
        let (reply, _) = oneshot::channel();
        let message = Message::Notify { channel: "a".to_owned(), payload: format!("{number}") };
        let reply = Reply::new(reply);
        crate::notifier::call::Call::new(
            number,
            Request { message, called_at: now, room: None, reply },
        )
    };
    let mut waiting = WaitingCalls::new(GroupLimits { calls: usize::MAX, bytes: usize::MAX });
    for number in (0..CALLS).filter(|number| number % 2 == 0) {
        waiting.push(call(number));
    }
    let begin = Instant::now();
    // In the reverse order, and all but the last one are between others.
    waiting.put_back((0..CALLS).rev().filter(|number| number % 2 == 1).map(call).collect());
    // One of them moved up to 130,000 calls, and all of them took 20 s.
    assert!(begin.elapsed() < seconds(8), "{:?}", begin.elapsed());
    let calls = waiting.next_transaction(true).unwrap();
    assert!(calls.iter().map(|call| call.number).eq(0..CALLS));
    assert!(waiting.is_empty() && waiting.oldest().is_none());
}
