//! Which calls are sent together, and what follows from the answer to a group.

use super::server::{Pair, ServerSession};
use super::*;

const REFUSED: &[u8] = b"E\0\0\0\x17SERROR\0C22P05\0Mno\0\0Z\0\0\0\x05I";
const FULL: &[u8] = b"E\0\0\0\x17SERROR\0C54000\0Mno\0\0Z\0\0\0\x05I";
const CANCELLED: &[u8] = b"E\0\0\0\x17SERROR\0C57014\0Mno\0\0Z\0\0\0\x05I";

impl NotifierScene {
    /// Writes everything. Returns the payloads of each transaction that was sent.
    pub(super) fn sent(&mut self) -> Vec<String> {
        let transactions = ServerSession::new(1).take(self.session.transmit());
        self.write_all();
        let payloads = |pairs: Vec<Pair>| pairs.into_iter().map(|(_, payload)| payload);
        transactions
            .into_iter()
            .map(|pairs| payloads(pairs).collect::<Vec<_>>().join(" "))
            .collect()
    }

    /// Makes a call and returns the calls of `payloads`, which wait for its answer.
    fn gathered(&mut self, payloads: &[&str]) -> (Call, Vec<Call>) {
        let first = self.notify("first");
        assert_eq!(self.sent(), ["first"]);
        let calls = payloads.iter().map(|payload| self.notify(payload)).collect();
        assert_eq!(self.unwritten(), 0, "they wait for the answer");
        (first, calls)
    }
}

fn kinds(calls: &mut [Call]) -> Vec<Option<Result<(), ErrorKind>>> {
    calls.iter_mut().map(kind).collect()
}

#[test]
fn calls_that_are_made_while_one_is_unanswered_are_sent_as_one_transaction() {
    let mut scene = NotifierScene::new();
    let (mut first, mut calls) = scene.gathered(&["b", "c", "d"]);
    scene.answer();
    assert_eq!(kind(&mut first), Some(Ok(())));
    assert_eq!(scene.sent(), ["b c d"]);
    assert_eq!(kinds(&mut calls), [None, None, None]);
    scene.answer();
    assert_eq!(kinds(&mut calls), [Some(Ok(())); 3]);
    assert!(scene.machine.is_idle());
    let stats = scene.machine.stats();
    assert_eq!((stats.calls, stats.committed, stats.unanswered), (4, 4, 0));
    assert_eq!((stats.transactions, stats.groups), (2, 1));
}

/// The server delivers equal notifications of one transaction once.
#[test]
fn equal_notifications_go_into_different_transactions_of_one_flush() {
    let mut scene = NotifierScene::new();
    let (_first, mut calls) = scene.gathered(&["x", "y", "x", "z", "x"]);
    scene.answer();
    assert_eq!(scene.sent(), ["x y", "x z", "x"]);
    for _ in 0..3 {
        scene.answer();
    }
    assert_eq!(kinds(&mut calls), [Some(Ok(())); 5]);
}

#[test]
fn a_group_is_limited_in_number_and_in_bytes() {
    let mut scene = NotifierScene::new();
    let (_first, _calls) = scene.gathered(&["1", "2", "3", "4", "5", "6"]);
    scene.answer();
    assert_eq!(scene.sent(), ["1 2 3 4 5", "6"]);
    scene.answer();
    scene.answer();
    let long: Vec<String> = (b'a'..=b'd').map(|c| char::from(c).to_string().repeat(48)).collect();
    let (_first, _calls) = scene.gathered(&[&long[0], &long[1], &long[2], &long[3]]);
    scene.answer();
    let pair = |a: &str, b: &str| format!("{a} {b}");
    assert_eq!(scene.sent(), [pair(&long[0], &long[1]), pair(&long[2], &long[3])]);
}

/// Several notifications of one call are one transaction: they wait for no group, and are not part of one.
#[test]
fn a_call_of_many_waits_for_no_group_and_overtakes_no_call() {
    let mut scene = NotifierScene::new();
    let (mut first, mut calls) = scene.gathered(&["1", "2"]);
    let mut many = scene.call();
    let mut later = scene.notify("3");
    assert_eq!(scene.sent(), ["1 2", "b"]);
    for call in [&mut first, &mut calls[0]] {
        scene.answer();
        assert_eq!(kind(call), Some(Ok(())));
    }
    assert_eq!(kind(&mut many), None);
    assert_eq!(scene.sent(), ["3"], "it waits for groups only");
    scene.answer();
    scene.answer();
    assert_eq!((kind(&mut many), kind(&mut later)), (Some(Ok(())), Some(Ok(()))));
}

#[test]
fn a_refused_group_is_halved_until_the_invalid_notification_is_refused_alone() {
    let mut scene = NotifierScene::new();
    let (_first, mut calls) = scene.gathered(&["1", "2", "3", "4", "5"]);
    scene.answer();
    assert_eq!(scene.sent(), ["1 2 3 4 5"]);
    let mut later = scene.notify("6");
    assert!(scene.receive(REFUSED).is_none());
    assert_eq!(kinds(&mut calls), [None; 5]);
    // What waits is not added to a half.
    assert_eq!(scene.sent(), ["1 2 3", "4 5"]);
    scene.answer();
    assert_eq!(kinds(&mut calls[..3]), [Some(Ok(())); 3]);
    assert!(scene.receive(REFUSED).is_none());
    assert_eq!(scene.sent(), ["4", "5"]);
    assert!(scene.receive(REFUSED).is_none());
    scene.answer();
    assert_eq!(scene.sent(), ["6"]);
    scene.answer();
    assert_eq!(kinds(&mut calls[3..]), [Some(Err(ErrorKind::Server)), Some(Ok(()))]);
    assert_eq!(kind(&mut later), Some(Ok(())));
    let stats = scene.machine.stats();
    assert_eq!((stats.halved, stats.refused, stats.committed), (2, 1, 6));
}

#[test]
fn a_full_notification_queue_fails_the_whole_group_with_a_transient_error() {
    let mut scene = NotifierScene::new();
    let (_first, calls) = scene.gathered(&["1", "2", "3"]);
    scene.answer();
    assert_eq!(scene.sent().len(), 1);
    assert!(scene.receive(FULL).is_none());
    assert_eq!(scene.unwritten(), 0, "nothing is sent again");
    for mut call in calls {
        let error = call.try_recv().unwrap().unwrap_err();
        assert_eq!((error.kind(), error.sqlstate()), (ErrorKind::Server, Some("54000")));
        let hint = "a session that executed LISTEN is inside a transaction or does not read: see \
                    pg_notification_queue_usage()";
        assert!(error.is_transient() && error.hint() == Some(hint), "{error}");
    }
}

/// Halves would be cancelled too.
#[test]
fn an_error_that_concerns_every_notification_is_the_answer_to_the_whole_group() {
    let mut scene = NotifierScene::new();
    let (_first, mut calls) = scene.gathered(&["1", "2", "3"]);
    scene.answer();
    assert_eq!(scene.sent().len(), 1);
    assert!(scene.receive(CANCELLED).is_none());
    assert_eq!(scene.unwritten(), 0);
    assert_eq!(kinds(&mut calls), [Some(Err(ErrorKind::Server)); 3]);
}

/// Its caller may have made it again.
#[test]
fn a_call_that_has_returned_in_doubt_is_not_sent_again_with_a_half() {
    let mut scene = NotifierScene::new();
    let _sent = [scene.notify("first"), scene.call(), scene.call()];
    let mut old = scene.notify("old");
    scene.write_all();
    scene.wait(Duration::from_secs(20));
    let mut young = scene.notify("young");
    for seconds in [5, 25, 9] {
        scene.wait(Duration::from_secs(seconds));
        scene.answer();
        scene.write_all();
    }
    scene.wait(Duration::from_secs(1));
    assert!(scene.machine.handle_timeout(scene.now).is_none());
    scene.answers();
    assert_eq!(kind(&mut old), Some(Err(ErrorKind::InDoubt)));
    assert!(scene.receive(REFUSED).is_none());
    assert_eq!(scene.sent(), ["young"]);
    scene.answer();
    assert_eq!(kind(&mut young), Some(Ok(())));
}

/// In an earlier version only the first transaction in flight was looked at.
#[test]
fn the_deadline_of_a_half_that_was_sent_behind_a_later_call_is_kept() {
    let mut scene = NotifierScene::new();
    let _first = scene.notify("first");
    let begin = scene.now;
    let mut calls = ["1", "2"].map(|payload| scene.notify(payload));
    scene.write_all();
    scene.wait(Duration::from_secs(20));
    scene.answer();
    scene.write_all();
    scene.wait(Duration::from_secs(15));
    let _many = scene.call();
    assert!(scene.receive(REFUSED).is_none());
    scene.write_all();
    scene.wait(Duration::from_secs(20));
    let _later = scene.call();
    scene.write_all();
    let deadline = begin + 2 * TIMEOUT;
    assert_eq!(scene.machine.poll_timeout(), Some(deadline));
    scene.now = deadline;
    assert!(scene.machine.handle_timeout(scene.now).is_none());
    scene.answers();
    assert_eq!(kinds(&mut calls), [Some(Err(ErrorKind::InDoubt)); 2]);
}

/// In an earlier version every class that was not listed halved the group, so that each call was made again.
#[test]
fn only_a_data_exception_is_looked_for_in_the_halves_of_a_group() {
    for (code, is_halved) in [
        ("22021", true),
        ("22023", true),
        ("22P05", true),
        ("0A000", false),
        ("08P01", false),
        ("26000", false),
        ("34000", false),
        ("53200", false),
        ("P0001", false),
        ("XX000", false),
    ] {
        let mut scene = NotifierScene::new();
        let (_first, mut calls) = scene.gathered(&["1", "2"]);
        scene.answer();
        assert_eq!(scene.sent().len(), 1);
        let refusal = String::from_utf8(REFUSED.to_vec()).unwrap().replace("22P05", code);
        assert!(scene.receive(refusal.as_bytes()).is_none());
        assert_eq!(scene.sent().len(), if is_halved { 2 } else { 0 }, "{code}");
        let expected = (!is_halved).then_some(Err(ErrorKind::Server));
        assert_eq!(kinds(&mut calls), [expected; 2], "{code}");
    }
}
