//! Tests of the sink of a hub.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::BytesMut;
use tokio::sync::{mpsc, oneshot};

use super::super::mailbox::{Limits, Mailbox};
use super::super::routes::{Route, Routes};
use super::super::shared::HubShared;
use super::super::sink::HubSink;
use super::support::{frames, info, placed, take};
use crate::listener::ListenerHandle;
use crate::listener::shared::ListenerShared;
use crate::notification::TopicOf;
use crate::proto::ring::Pins;
use crate::proto::supervisor::{Owner, Scope, Sink};
use crate::proto::wire::Run;

/// A hub whose sink is driven by hand.
struct DrivenSink {
    shared: Arc<HubShared>,
    listener: ListenerHandle,
    sink: HubSink,
}

impl DrivenSink {
    fn new() -> Self {
        let listener = Arc::new(ListenerShared::new(Owner::Hub, Pins::new(0)));
        let routes = Routes::new(TopicOf::default(), HashMap::new());
        let shared = Arc::new(HubShared::new(routes, listener.clone()));
        let sink = HubSink::new(shared.clone());
        let listener = ListenerHandle::new(mpsc::unbounded_channel().0, listener);
        Self { shared, listener, sink }
    }

    /// Adds a subscription to these channels.
    fn subscribe(&self, channels: &[&str], limits: Limits) -> Arc<Mailbox> {
        let route = |name: &&str| Route { channel: (*name).into(), topic: None };
        self.add(&channels.iter().map(route).collect(), limits)
    }

    fn subscribe_topic(&self, channel: &str, topic: &str) -> Arc<Mailbox> {
        let route = Route { channel: channel.into(), topic: Some(topic.into()) };
        self.add(&[route].into(), Limits::default())
    }

    fn add(&self, routes: &Arc<[Route]>, limits: Limits) -> Arc<Mailbox> {
        let mailbox = Arc::new(Mailbox::new(limits, None, routes.len() > 1));
        let (reply, _) = oneshot::channel();
        let mut locked = self.shared.lock();
        locked.subscribe(&mailbox, routes, reply).unwrap();
        let changes = locked.changes();
        locked.listened(changes.listen, Ok(())).wake();
        mailbox
    }

    fn receive(&mut self, channel: &str, count: usize) {
        let (bytes, run) = frames(channel, count, "xxxxx");
        self.put(&bytes, run);
    }

    fn put(&mut self, bytes: &[u8], run: Run) {
        self.sink.notifications(&mut BytesMut::from(bytes), run, info(), false);
        self.sink.publish();
    }
}

/// An earlier version subtracted them from those of the same run, and the counter wrapped around.
#[test]
fn a_queue_that_drops_the_oldest_counts_all_and_what_was_dropped() {
    for drop_oldest in [true, false] {
        let mut hub = DrivenSink::new();
        let limits = Limits { capacity: 2, drop_oldest, ..Limits::default() };
        let _mailbox = hub.subscribe(&["a"], limits);
        for count in [2, 1, 4] {
            hub.receive("a", count);
        }
        let stats = hub.shared.stats(hub.listener.stats()).connection;
        assert_eq!((stats.received, stats.delivered, stats.dropped), (7, 7, 5));
    }
}

/// A gap within the session was put in while everything was held back. An earlier version gave it the last position of all, so that
/// the gap of a later loss came before notifications that were received before that loss.
#[test]
fn a_gap_behind_another_gap_that_is_held_back_keeps_its_place() {
    let mut hub = DrivenSink::new();
    let mailbox = hub.subscribe(&["a"], Limits::default());
    let first = hub.sink.hold(&Scope::All);
    let within = Arc::new(placed(0, Scope::All, &[]).gap);
    assert!(mailbox.mark_here(&within, true).is_none());
    hub.receive("a", 3);
    let second = hub.sink.hold(&Scope::All);
    hub.receive("a", 1);
    hub.sink.release(vec![placed(first.0, Scope::All, &[]), placed(second.0, Scope::All, &[])]);
    let taken: Vec<String> = (0..5).map(|_| take(&mailbox)).collect();
    assert_eq!(taken, ["gap 2", "item 3 from 0", "gap 1", "item 1 from 3", "empty"]);
}

/// A subscription to several channels is held back if a loss concerns one of them. An earlier version showed what was held back when
/// another one of its channels was accepted again.
#[test]
fn a_gap_within_the_session_does_not_show_what_is_held_back_for_another_channel() {
    let mut hub = DrivenSink::new();
    let mailbox = hub.subscribe(&["a", "b"], Limits::default());
    let at = hub.sink.hold(&Scope::Channels(vec!["a".to_owned()]));
    hub.receive("a", 1);
    let within = Arc::new(placed(0, Scope::All, &[]).gap);
    assert!(mailbox.mark_here(&within, false).is_none());
    assert_eq!(take(&mailbox), "empty");
    hub.sink.release(vec![placed(at.0, Scope::Channels(vec!["a".to_owned()]), &[])]);
    let taken: Vec<String> = (0..4).map(|_| take(&mailbox)).collect();
    assert_eq!(taken, ["gap 1", "item 1 from 0", "gap 1", "empty"]);
}

#[test]
fn a_loss_of_a_channel_holds_back_its_topics() {
    let mut hub = DrivenSink::new();
    let topic = hub.subscribe_topic("a", "t");
    let scope = Scope::Channels(vec!["a".to_owned()]);
    let at = hub.sink.hold(&scope);
    let (bytes, run) = frames("a", 2, "t:rest");
    hub.put(&bytes, run);
    assert_eq!(take(&topic), "empty");
    hub.sink.release(vec![placed(at.0, scope, &[])]);
    let taken: Vec<String> = (0..3).map(|_| take(&topic)).collect();
    assert_eq!(taken, ["gap 1", "item 2 from 0", "empty"]);
}

#[test]
fn a_loss_of_some_channels_reaches_their_subscriptions_once_and_no_others() {
    let mut hub = DrivenSink::new();
    let of_a = hub.subscribe(&["a"], Limits::default());
    let of_both = hub.subscribe(&["a", "b"], Limits::default());
    let of_c = hub.subscribe(&["c"], Limits::default());
    let scope = Scope::Channels(vec!["a".to_owned(), "b".to_owned()]);
    let at = hub.sink.hold(&scope);
    hub.receive("c", 1);
    assert_eq!(take(&of_c), "item 1 from 0");
    hub.receive("b", 1);
    assert_eq!((take(&of_a), take(&of_both)), ("empty".to_owned(), "empty".to_owned()));
    hub.sink.release(vec![placed(at.0, scope, &[])]);
    assert_eq!((take(&of_a), take(&of_a)), ("gap 1".to_owned(), "empty".to_owned()));
    let taken: Vec<String> = (0..3).map(|_| take(&of_both)).collect();
    assert_eq!(taken, ["gap 1", "item 1 from 0", "empty"]);
    assert_eq!(take(&of_c), "empty");
}
