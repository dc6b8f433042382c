//! Tests of the sink of a hub.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock};

use bytes::{Bytes, BytesMut};
use tokio::sync::{mpsc, oneshot};

use super::super::filter::Filter;
use super::super::mailbox::{Limits, Mailbox};
use super::super::routes::Route;
use super::super::shared::HubShared;
use super::super::sink::HubSink;
use super::super::topic_rules::TopicRules;
use super::support::{frames, info, placed, take};
use crate::listener::ListenerHandle;
use crate::listener::shared::ListenerShared;
use crate::notification::TopicOf;
use crate::proto::ring::Pins;
use crate::proto::supervisor::{Owner, PlacedGap, Scope, Sink, StreamPosition};
use crate::proto::wire::Run;

/// A hub whose sink is driven by hand.
struct DrivenSink {
    shared: Arc<HubShared>,
    listener: ListenerHandle,
    sink: HubSink,
}

impl DrivenSink {
    fn new() -> Self {
        Self::with(TopicRules::default())
    }

    fn with(topics: TopicRules) -> Self {
        let listener = Arc::new(ListenerShared::new(Owner::Hub, Pins::new(0)));
        let shared = Arc::new(HubShared::new(topics, listener.clone()));
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

/// A hub whose topics are found by `function`.
fn with_function(
    function: impl for<'a> Fn(&'a str) -> Option<Cow<'a, str>> + Send + Sync + 'static,
) -> DrivenSink {
    let topic_of = TopicOf::function(function);
    DrivenSink::with(TopicRules { topic_of, ..TopicRules::default() })
}

/// An earlier version called it while the hub was locked, and every thread that used the hub waited for ever.
#[test]
fn a_topic_function_can_use_the_hub() {
    let used = Arc::new(OnceLock::<Arc<HubShared>>::new());
    let hub = used.clone();
    let mut sink = with_function(move |payload| {
        let is_unlocked = hub.get().is_some_and(|hub| hub.is_unlocked());
        is_unlocked.then(|| payload.into())
    });
    assert!(used.set(sink.shared.clone()).is_ok());
    let topic = sink.subscribe_topic("a", "xxxxx");
    sink.receive("a", 2);
    assert_eq!(take(&topic), "item 2 from 0");
}

#[test]
fn topics_of_functions_are_delivered_at_their_places_in_a_read_of_several_channels() {
    let of_prefix = TopicOf::Prefix(b':');
    let by_function = TopicOf::function(|payload| Some(payload.split(':').next()?.into()));
    let topics_of = HashMap::from([("p".to_owned(), of_prefix)]);
    let mut hub = DrivenSink::with(TopicRules { topic_of: by_function, topics_of });
    let of_f = hub.subscribe_topic("f", "t");
    let of_p = hub.subscribe_topic("p", "t");
    let of_g = hub.subscribe_topic("g", "t");
    let _other = hub.subscribe(&["h"], Limits::default());
    let mut bytes = Vec::new();
    let mut run = Run::default();
    let parts = [
        ("f", 2, "t:1"),
        ("h", 1, "t:2"),
        ("p", 3, "t:3"),
        ("g", 1, "u:4"),
        ("g", 2, "t:5"),
        ("f", 1, "t"),
    ];
    for (channel, count, payload) in parts {
        let (more, part) = frames(channel, count, payload);
        bytes.extend_from_slice(&more);
        run = Run { count: run.count + part.count, bytes: bytes.len() };
    }
    let at = hub.sink.hold(&Scope::All);
    hub.put(&bytes, run);
    // A second loss behind the first two notifications of the read.
    let second = PlacedGap { position: StreamPosition(at.0 + 2), ..placed(0, Scope::All, &[]) };
    // And a third one behind all of them.
    let third = hub.sink.hold(&Scope::All);
    let (first, third) = (placed(at.0, Scope::All, &[]), placed(third.0, Scope::All, &[]));
    hub.sink.release(vec![first, second, third]);
    let all = |mailbox: &Arc<Mailbox>| (0..5).map(|_| take(mailbox)).collect::<Vec<_>>().join(", ");
    assert_eq!(all(&of_f), "gap 1, item 2 from 0, gap 1, item 1 from 2, gap 1");
    assert_eq!(all(&of_p), "gap 2, item 3 from 0, gap 1, empty, empty");
    assert_eq!(all(&of_g), "gap 2, item 2 from 0, gap 1, empty, empty");
    assert_eq!(hub.shared.counters.unclaimed_count(), 0);
}

#[cfg(feature = "json")]
#[test]
fn topics_of_fields_of_json_are_delivered_at_their_places_and_other_payloads_only_to_the_channel() {
    let topic_of = TopicOf::json_field("id");
    let topics_of = HashMap::from([("p".to_owned(), TopicOf::Prefix(b':'))]);
    let mut hub = DrivenSink::with(TopicRules { topic_of, topics_of });
    let of_7 = hub.subscribe_topic("a", "7");
    let of_8 = hub.subscribe_topic("a", "8");
    let of_p = hub.subscribe_topic("p", "7");
    let whole = hub.subscribe(&["a"], Limits::default());
    let mut bytes = Vec::new();
    let mut run = Run::default();
    for (channel, count, payload) in [
        ("a", 2, r#"{"id":7}"#),
        ("a", 1, "no JSON"),
        ("a", 1, r#"{"id":null}"#),
        ("p", 1, "7:x"),
        ("a", 1, r#"{"id":"8"}"#),
        ("a", 1, r#"{"x":1,"id":"7"}"#),
        ("p", 1, r#"{"id":7}"#),
    ] {
        let (more, part) = frames(channel, count, payload);
        bytes.extend_from_slice(&more);
        run = Run { count: run.count + part.count, bytes: bytes.len() };
    }
    let at = hub.sink.hold(&Scope::All);
    hub.put(&bytes, run);
    // A second loss behind the first five notifications of the read.
    let second = PlacedGap { position: StreamPosition(at.0 + 5), ..placed(0, Scope::All, &[]) };
    hub.sink.release(vec![placed(at.0, Scope::All, &[]), second]);
    let all = |mailbox: &Arc<Mailbox>| (0..4).map(|_| take(mailbox)).collect::<Vec<_>>().join(", ");
    assert_eq!(all(&of_7), "gap 1, item 2 from 0, gap 1, item 1 from 2");
    assert_eq!(all(&of_8), "gap 2, item 1 from 0, empty, empty");
    assert_eq!(all(&of_p), "gap 1, item 1 from 0, gap 1, empty");
    assert_eq!(all(&whole), "gap 1, item 4 from 0, gap 1, item 2 from 4");
}

/// An earlier version dropped the payload outside, and that panic ended the hub.
#[test]
fn a_panic_of_a_topic_function_whose_payload_panics_means_no_topic() {
    struct PanicsInDrop;
    impl Drop for PanicsInDrop {
        fn drop(&mut self) {
            panic!("in the drop of a payload");
        }
    }
    let mut hub = with_function(|_| std::panic::panic_any(PanicsInDrop));
    let (topic, whole) = (hub.subscribe_topic("a", "t"), hub.subscribe(&["a"], Limits::default()));
    hub.receive("a", 2);
    assert_eq!((take(&topic), take(&whole)), ("empty".to_owned(), "item 2 from 0".to_owned()));
    let stats = hub.shared.stats(hub.listener.stats());
    assert_eq!((stats.topic_panics, stats.unclaimed), (2, 0));
}

/// An earlier version counted only those of channels that it had forgotten.
#[test]
fn what_arrives_between_the_last_drop_and_the_answer_to_unlisten_is_unclaimed() {
    let mut hub = DrivenSink::new();
    let mailbox = hub.subscribe(&["a"], Limits::default());
    let routes = [Route { channel: "a".into(), topic: None }];
    hub.shared.lock().leave(&mailbox, &routes, None);
    hub.receive("a", 2);
    hub.receive("never subscribed", 1);
    assert_eq!(hub.shared.counters.unclaimed_count(), 3);
}

/// An earlier version counted them neither as dropped nor as queued.
#[test]
fn what_is_held_back_when_the_hub_ends_counts_as_dropped() {
    let mut hub = DrivenSink::new();
    let mailbox = hub.subscribe(&["a"], Limits::default());
    hub.receive("a", 1);
    hub.sink.hold(&Scope::All);
    hub.receive("a", 3);
    let DrivenSink { shared, listener, sink } = hub;
    drop(sink);
    let stats = mailbox.stats();
    assert_eq!((stats.received, stats.queued, stats.dropped), (4, 1, 3));
    assert_eq!(shared.stats(listener.stats()).connection.dropped, 3);
    assert_eq!((take(&mailbox), take(&mailbox)), ("item 1 from 0".to_owned(), "closed".to_owned()));
}

/// Two channels of one read, `f` and `g`, whose function calls `call` once, at the first notification of `f`.
fn while_topics_are_found(call: impl Fn(&HubShared) + Send + Sync + 'static) -> DrivenSink {
    let used = Arc::new(OnceLock::<Arc<HubShared>>::new());
    let (hub, call) = (used.clone(), Mutex::new(Some(call)));
    let sink = with_function(move |payload| {
        let call = call.lock().unwrap().take();
        if let (Some(call), Some(hub)) = (call, hub.get()) {
            call(hub);
        }
        Some(payload.into())
    });
    assert!(used.set(sink.shared.clone()).is_ok());
    sink
}

fn receive_f_and_g(hub: &mut DrivenSink) {
    let ((f, in_f), (g, in_g)) = (frames("f", 2, "t"), frames("g", 3, "t"));
    let run = Run { count: in_f.count + in_g.count, bytes: in_f.bytes + in_g.bytes };
    hub.put(&[f, g].concat(), run);
}

/// Without the check of the position, the runs of `f` would be delivered to `g`.
#[test]
fn the_topics_of_a_channel_that_was_left_while_they_were_found_reach_no_other_channel() {
    let left = Arc::new(OnceLock::<Arc<Mailbox>>::new());
    let leaves = left.clone();
    let mut hub = while_topics_are_found(move |hub| {
        let routes = [Route { channel: "f".into(), topic: Some("t".into()) }];
        hub.lock().leave(leaves.get().unwrap(), &routes, None);
    });
    let of_f = hub.subscribe_topic("f", "t");
    let of_g = hub.subscribe_topic("g", "t");
    assert!(left.set(of_f.clone()).is_ok());
    receive_f_and_g(&mut hub);
    assert_eq!((take(&of_g), take(&of_g)), ("item 3 from 0".to_owned(), "empty".to_owned()));
    assert_eq!(take(&of_f), "empty");
    assert_eq!(hub.shared.counters.unclaimed_count(), 2);
}

#[test]
fn a_subscription_that_joins_while_topics_are_found_receives_what_follows() {
    let joined = Arc::new(OnceLock::<Arc<Mailbox>>::new());
    let joins = joined.clone();
    let mut hub = while_topics_are_found(move |hub| {
        let mailbox = Arc::new(Mailbox::new(Limits::default(), None, false));
        let routes = [Route { channel: "g".into(), topic: Some("t".into()) }].into();
        let (reply, _) = oneshot::channel();
        hub.lock().subscribe(&mailbox, &routes, reply).unwrap();
        assert!(joins.set(mailbox).is_ok());
    });
    let of_f = hub.subscribe_topic("f", "t");
    let _whole = hub.subscribe(&["g"], Limits::default());
    receive_f_and_g(&mut hub);
    receive_f_and_g(&mut hub);
    let late = joined.get().unwrap();
    assert_eq!((take(late), take(late)), ("item 3 from 0".to_owned(), "empty".to_owned()));
    assert_eq!(
        (take(&of_f), take(&of_f)),
        ("item 2 from 0".to_owned(), "item 2 from 2".to_owned())
    );
}

#[test]
fn a_read_of_very_many_topics_is_delivered_whole_and_in_order() {
    let mut hub = with_function(|payload| Some(payload[..1].into()));
    let (of_a, of_b) = (hub.subscribe_topic("c", "a"), hub.subscribe_topic("c", "b"));
    let ((a, in_a), (b, in_b)) = (frames("c", 1, "a"), frames("c", 1, "b"));
    let bytes = [&a[..], &b[..]].concat().repeat(700);
    hub.put(&bytes, Run { count: 1_400, bytes: 700 * (in_a.bytes + in_b.bytes) });
    for mailbox in [of_a, of_b] {
        for number in 0..700 {
            assert_eq!(take(&mailbox), format!("item 1 from {number}"));
        }
        assert_eq!(take(&mailbox), "empty");
    }
}

/// An earlier version kept up to twice the bytes that it counted.
#[test]
fn a_filtered_copy_takes_no_more_memory_than_its_bytes() {
    let prefix = Box::from(&b"x"[..]);
    let filter = Filter { prefix, ..Filter::default() };
    let ((x, in_x), (y, in_y)) = (frames("a", 1, &"x".repeat(1_600)), frames("a", 1, "y"));
    let bytes = Bytes::from([&x[..], &y[..]].concat().repeat(5));
    let run = Run { count: 10, bytes: 5 * (in_x.bytes + in_y.bytes) };
    let (copy, accepted) = filter.apply(bytes, run);
    assert_eq!(accepted, Run { count: 5, bytes: 5 * in_x.bytes });
    assert_eq!(&copy[..], x.repeat(5));
    let copy = copy.try_into_mut().unwrap();
    assert_eq!(copy.capacity(), accepted.bytes);
}

/// The hook of a loss of this channel still runs. An earlier version forgot that with the channel, and delivered before the gap.
#[test]
fn a_channel_that_is_left_and_joined_again_during_its_loss_is_still_held_back() {
    let mut hub = DrivenSink::new();
    let first = hub.subscribe(&["a"], Limits::default());
    let scope = Scope::Channels(vec!["a".to_owned()]);
    let at = hub.sink.hold(&scope);
    {
        let mut routes = hub.shared.lock();
        routes.leave(&first, &[Route { channel: "a".into(), topic: None }], None);
        let changes = routes.changes();
        assert_eq!(changes.unlisten.len(), 1);
        routes.unlistened(&changes.unlisten, &Ok(()));
        assert!(routes.channels.is_empty());
    }
    let second = hub.subscribe(&["a", "b"], Limits::default());
    hub.receive("b", 1);
    assert_eq!(take(&second), "empty");
    hub.sink.release(vec![placed(at.0, scope, &[])]);
    let taken: Vec<String> = (0..3).map(|_| take(&second)).collect();
    assert_eq!(taken, ["gap 1", "item 1 from 0", "empty"]);
}
