//! The known races between subscribe, unsubscribe, their commands and the loss of the session.

use super::super::mailbox::Place;
use super::support::{Driven, frames, info};
use crate::error::ErrorKind;
use crate::proto::supervisor::Listening;

#[test]
fn a_subscription_joins_a_listen_in_flight_that_is_behind_a_queued_unlisten() {
    let mut hub = Driven::new();
    let first = hub.subscribed(&["a"]);
    hub.leave(&first);
    hub.sends_unlisten(&["a"]);
    // UNLISTEN is in flight: LISTEN must not overtake it, and must not be left out.
    let mut second = hub.subscribe(&["a"]);
    hub.sends_nothing();
    assert_eq!(second.result(), None);
    hub.unlistened(&["a"]);
    hub.sends_listen(&["a"]);
    let mut third = hub.subscribe(&["a"]);
    hub.sends_nothing();
    assert_eq!((second.result(), third.result()), (None, None));
    hub.listened(&["a"]);
    let active = Some(Ok(Listening::Active));
    assert_eq!((second.result(), third.result()), (active, active));
    hub.leave(&second);
    hub.sends_nothing();
    hub.leave(&third);
    hub.sends_unlisten(&["a"]);
    hub.unlistened(&["a"]);
    hub.is_empty();
}

#[test]
fn a_failed_first_listen_fails_every_waiting_subscription_and_leaves_nothing_behind() {
    let mut hub = Driven::new();
    let mut waiting: Vec<_> = (0..3).map(|_| hub.subscribe(&["a"])).collect();
    hub.sends_listen(&["a"]);
    waiting.push(hub.subscribe(&["a"]));
    hub.is_refused(&["a"]);
    for one in &mut waiting {
        assert_eq!(one.result(), Some(Err(ErrorKind::Server)));
    }
    hub.is_empty();
    // The next one asks the server again.
    let last = hub.subscribed(&["a"]);
    hub.leave(&last);
    hub.sends_unlisten(&["a"]);
}

#[test]
fn the_last_drop_during_a_reconnect_sends_unlisten_and_leaves_nothing_behind() {
    let mut hub = Driven::new();
    let last = hub.subscribed(&["a"]);
    hub.session_is_lost();
    hub.leave(&last);
    hub.sends_unlisten(&["a"]);
    // The supervisor answers at once: the next session does not listen to it.
    hub.unlistened(&["a"]);
    hub.is_empty();
    hub.session_is_restored(0, &[]);
    hub.is_empty();
}

#[test]
fn the_last_drop_during_a_reconnect_is_forgotten_if_another_subscription_comes() {
    let mut hub = Driven::new();
    let last = hub.subscribed(&["a"]);
    hub.session_is_lost();
    hub.leave(&last);
    let mut next = hub.subscribe(&["a"]);
    assert_eq!(next.result(), Some(Ok(Listening::Pending)));
    hub.sends_nothing();
    hub.session_is_restored(0, &[]);
    assert_eq!(next.take(), "gap 1");
}

#[test]
fn a_subscription_between_a_loss_and_the_resync_begins_with_the_gap() {
    let mut hub = Driven::new();
    let before = hub.subscribed(&["a"]);
    hub.session_is_lost();
    // One joins at once, the other one with the answer to LISTEN.
    let mut joined = hub.subscribe(&["a"]);
    let mut waited = hub.subscribe(&["b"]);
    hub.sends_listen(&["b"]);
    hub.listened(&["b"]);
    let pending = Some(Ok(Listening::Pending));
    assert_eq!((joined.result(), waited.result()), (pending, pending));
    // The new session delivers before the gap is released.
    let (bytes, run) = frames("a", 2, "new");
    let place = Place { at: 5, is_held: hub.0.is_held, hold: hub.0.hold };
    for one in [&before, &joined] {
        assert!(one.mailbox.put(bytes.clone(), run, info(), place).1.is_none());
        assert_eq!(one.take(), "empty");
    }
    hub.session_is_restored(5, &[]);
    for one in [&before, &joined] {
        assert_eq!(one.take(), "gap 1");
        assert_eq!(one.take(), "item 2 from 0");
    }
    assert_eq!((waited.take(), waited.take()), ("gap 1".to_owned(), "empty".to_owned()));
}

/// An earlier version counted it as one that had joined, and left twice.
#[test]
fn a_subscribe_that_is_dropped_with_an_unseen_refusal_leaves_once() {
    let mut hub = Driven::new();
    let refused = hub.subscribe(&["a"]);
    hub.sends_listen(&["a"]);
    hub.is_refused(&["a"]);
    let other = hub.subscribed(&["a"]);
    hub.leave(&refused);
    assert_eq!(hub.0.subscriptions, 1);
    hub.sends_nothing();
    hub.leave(&other);
    hub.sends_unlisten(&["a"]);
    hub.unlistened(&["a"]);
    hub.is_empty();
}

/// The first UNLISTEN has not changed anything, so the channel stays known, and is tried again with the next command.
#[test]
fn a_refused_unlisten_is_sent_again_with_the_next_command() {
    let mut hub = Driven::new();
    let (first, second) = (hub.subscribed(&["a"]), hub.subscribed(&["b"]));
    hub.leave(&first);
    hub.sends_unlisten(&["a"]);
    hub.0.unlistened(&["a".into()], &Err(super::support::refusal()));
    assert!(!hub.0.has_changes(), "it is sent again and again");
    hub.leave(&second);
    hub.sends_unlisten(&["a", "b"]);
    hub.unlistened(&["a", "b"]);
    hub.is_empty();
}
