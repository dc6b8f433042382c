//! Channels that a server refuses for a while, and the answers to LISTEN that are handled late.

use super::support::{Driven, take_epoch};
use crate::error::ErrorKind;
use crate::proto::supervisor::Listening;

/// The keeper runs late: in between, the session was lost, and the next one is refused the channel. An earlier version let the
/// subscription join, which then received nothing, without a report.
#[test]
fn an_answer_to_listen_of_an_earlier_session_does_not_hide_a_refusal() {
    let mut hub = Driven::new();
    let mut waiting = hub.subscribe(&["a"]);
    hub.sends_listen(&["a"]);
    hub.session_is_lost();
    hub.session_is_restored(0, &["a"]);
    hub.listened(&["a"]);
    assert_eq!(waiting.result(), None);
    hub.sends_listen(&["a"]);
    hub.is_refused(&["a"]);
    assert_eq!(waiting.result(), Some(Err(ErrorKind::Server)));
    // The supervisor wants the channel since the first answer.
    hub.sends_unlisten(&["a"]);
    hub.unlistened(&["a"]);
    hub.is_empty();
}

/// An earlier version sent nothing more for it.
#[test]
fn a_subscription_that_waits_for_a_refused_channel_is_not_left_behind_by_a_session_that_accepts_it()
{
    let mut hub = Driven::new();
    let member = hub.subscribed(&["a"]);
    hub.session_is_lost();
    hub.session_is_restored(0, &["a"]);
    let mut waiting = hub.subscribe(&["a"]);
    hub.session_is_lost();
    hub.session_is_restored(0, &[]);
    hub.sends_listen(&["a"]);
    hub.listened(&["a"]);
    assert_eq!(waiting.result(), Some(Ok(Listening::Active)));
    assert_eq!((member.take(), waiting.take()), ("gap 2".to_owned(), "empty".to_owned()));
}

/// The refusal is that of an earlier session. An earlier version forgot that the current one listens to the channel.
#[test]
fn a_late_refusal_of_a_second_listen_does_not_forget_that_the_session_listens() {
    let mut hub = Driven::new();
    let member = hub.subscribed(&["a"]);
    hub.session_is_lost();
    hub.session_is_restored(0, &["a"]);
    let mut waiting = hub.subscribe(&["a"]);
    hub.sends_listen(&["a"]);
    hub.session_is_lost();
    hub.session_is_restored(0, &[]);
    hub.leave(&member);
    hub.is_refused(&["a"]);
    assert_eq!(waiting.result(), Some(Err(ErrorKind::Server)));
    hub.sends_unlisten(&["a"]);
    hub.unlistened(&["a"]);
    hub.is_empty();
}

/// It has not got the gap that reports the refusal, because it waits. An earlier version let it join.
#[test]
fn a_subscription_to_several_channels_does_not_join_while_one_of_them_is_refused() {
    let mut hub = Driven::new();
    let _member = hub.subscribed(&["a"]);
    let mut waiting = hub.subscribe(&["a", "b"]);
    hub.sends_listen(&["b"]);
    hub.session_is_lost();
    hub.session_is_restored(0, &["a"]);
    hub.listened(&["b"]);
    assert_eq!(waiting.result(), None);
    hub.sends_listen(&["a"]);
    hub.is_refused(&["a"]);
    assert_eq!(waiting.result(), Some(Err(ErrorKind::Server)));
    hub.sends_unlisten(&["b"]);
}

#[test]
fn a_channel_that_is_accepted_again_is_a_gap_for_the_subscriptions_that_had_joined_it() {
    let mut hub = Driven::new();
    let (member, other) = (hub.subscribed(&["a"]), hub.subscribed(&["b"]));
    hub.session_is_lost();
    hub.session_is_restored(0, &["a"]);
    assert_eq!((member.take(), other.take()), ("gap 1".to_owned(), "gap 1".to_owned()));
    let mut waiting = hub.subscribe(&["a"]);
    hub.sends_listen(&["a"]);
    hub.listened(&["a"]);
    assert_eq!(waiting.result(), Some(Ok(Listening::Active)));
    assert_eq!(member.take(), "gap 0");
    assert_eq!((waiting.take(), other.take()), ("empty".to_owned(), "empty".to_owned()));
}

/// An earlier version named the session of the last notification.
#[test]
fn a_gap_within_a_session_that_has_sent_nothing_yet_names_that_session() {
    let mut hub = Driven::new();
    let member = hub.subscribed(&["a"]);
    hub.session_is_lost();
    hub.session_is_restored(0, &["a"]);
    assert_eq!(take_epoch(&member.mailbox), 2);
    let _waiting = hub.subscribe(&["a"]);
    hub.sends_listen(&["a"]);
    hub.listened(&["a"]);
    assert_eq!(take_epoch(&member.mailbox), 2);
}

/// One refused channel of a group must not fail the others.
#[test]
fn a_refused_group_is_sent_again_in_parts() {
    let mut hub = Driven::new();
    let mut waiting: Vec<_> = ["a", "b", "c"].map(|name| hub.subscribe(&[name])).into();
    hub.sends_listen(&["a", "b", "c"]);
    let mut sent = vec![vec!["a", "b", "c"]];
    while let Some(group) = sent.pop() {
        if group.contains(&"b") {
            hub.is_refused(&group);
        } else {
            hub.listened(&group);
        }
        let (listen, unlisten) = hub.commands();
        assert!(unlisten.is_empty());
        if !listen.is_empty() {
            sent.push(
                ["a", "b", "c"]
                    .into_iter()
                    .filter(|name| listen.iter().any(|l| l == name))
                    .collect(),
            );
        }
    }
    let results: Vec<_> =
        waiting.iter_mut().map(|one| one.result().map(|result| result.is_ok())).collect();
    assert_eq!(results, [Some(true), Some(false), Some(true)]);
}

/// An earlier version sent 1,999 commands for 1,000 channels that a server without memory had refused.
#[test]
fn a_group_that_is_refused_because_of_the_state_of_the_server_is_not_divided() {
    let mut hub = Driven::new();
    let mut waiting: Vec<_> = ["a", "b"].map(|name| hub.subscribe(&[name])).into();
    hub.sends_listen(&["a", "b"]);
    hub.is_refused_with(&["a", "b"], "53200");
    for one in &mut waiting {
        assert_eq!(one.result(), Some(Err(ErrorKind::Server)));
    }
    hub.is_empty();
}

/// An earlier version returned the error of the session, as if the server had refused a channel.
#[test]
fn a_subscription_that_waits_when_the_server_ends_the_only_session_fails_as_the_hub_ends() {
    for sqlstate in ["57P01", "XX000"] {
        let mut hub = Driven::new();
        let mut waiting: Vec<_> = ["a", "b"].map(|name| hub.subscribe(&[name])).into();
        hub.sends_listen(&["a", "b"]);
        hub.ends_with(&["a", "b"], sqlstate);
        for one in &mut waiting {
            assert_eq!(one.result(), Some(Err(ErrorKind::Closed)));
        }
        hub.is_empty();
    }
}

/// An earlier version sent all parts first.
#[test]
fn a_new_subscription_waits_for_one_part_of_a_refused_group_at_most() {
    let mut hub = Driven::new();
    let names = ["a", "b", "c", "d"];
    let _waiting: Vec<_> = names.map(|name| hub.subscribe(&[name])).into();
    hub.sends_listen(&names);
    hub.is_refused(&names);
    let _late = hub.subscribe(&["late"]);
    hub.sends_listen(&["a", "b"]);
    hub.sends_listen(&["late"]);
    hub.sends_listen(&["c", "d"]);
    hub.sends_nothing();
}

/// An earlier version answered all of them with the error.
#[test]
fn a_group_that_takes_longer_than_the_statement_timeout_is_divided() {
    let mut hub = Driven::new();
    let _waiting: Vec<_> = ["a", "b"].map(|name| hub.subscribe(&[name])).into();
    hub.sends_listen(&["a", "b"]);
    hub.is_refused_with(&["a", "b"], "57014");
    hub.sends_listen(&["a"]);
    hub.sends_listen(&["b"]);
}

/// An earlier version kept the name until the next command, once for every attempt.
#[test]
fn a_subscribe_that_is_dropped_while_another_command_is_sent_leaves_nothing_behind() {
    let mut hub = Driven::new();
    let first = hub.subscribe(&["a"]);
    hub.sends_listen(&["a"]);
    for attempt in 0..100 {
        let waiting = hub.subscribe(&[&format!("b{}", attempt % 2)]);
        hub.leave(&waiting);
    }
    assert!(!hub.0.has_changes());
    hub.listened(&["a"]);
    hub.leave(&first);
    hub.sends_unlisten(&["a"]);
    hub.unlistened(&["a"]);
    hub.is_empty();
}

/// An earlier version returned the error by which the session was lost, or `Closed`, as it happened.
#[test]
fn a_subscribe_that_waits_while_the_hub_ends_with_an_error_returns_closed() {
    let mut hub = Driven::new();
    let mut waiting = [hub.subscribe(&["a"]), hub.subscribe(&["b"])];
    hub.sends_listen(&["a", "b"]);
    hub.ends(&["a", "b"], ErrorKind::Timeout);
    for one in &mut waiting {
        assert_eq!(one.result(), Some(Err(ErrorKind::Closed)));
    }
}
