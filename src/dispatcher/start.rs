//! Starts the tasks of a dispatcher.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;

use super::Dispatcher;
use super::barrier::Barrier;
use super::control::{Control, Origin};
use super::handle::DispatcherHandle;
use super::handler::Handler;
use super::key::LaneKey;
use super::lane::Lane;
use super::reader::Reader;
use super::router::Router;
use super::running::RunningDispatcher;
use super::shared::DispatcherShared;
use super::source::{Item, Source};
use super::stopped::Stopped;
use crate::error::{Error, ErrorKind};
use crate::hub::Hub;
use crate::listener::Listener;
use crate::notification::TopicOf;
use crate::proto::wire;

/// A dispatcher whose settings were checked.
struct Checked {
    lanes: BTreeMap<LaneKey, Vec<Handler>>,
    lane_capacity: usize,
    topic_of: TopicOf,
    shared: Arc<DispatcherShared>,
    stopped: watch::Sender<Option<Stopped>>,
}

pub(super) async fn over_listener(
    dispatcher: Dispatcher,
    listener: Listener,
) -> Result<RunningDispatcher, Error> {
    check_topics(&dispatcher)?;
    let Checked { lanes: wanted, lane_capacity, topic_of, shared, stopped } = check(dispatcher)?;
    listener.listen_all(channels(&wanted)).await?;
    let barrier = Arc::new(Barrier::default());
    let mut router = Router::new(topic_of);
    let mut lanes = JoinSet::new();
    let mut start = |key: Option<LaneKey>, handlers, capacity: usize| {
        let (queue, source) = mpsc::channel::<Item>(capacity.min(Semaphore::MAX_PERMITS));
        let source = Source::Queue(source, barrier.clone());
        lanes.spawn(Lane::new(key, handlers, source, shared.clone()).run());
        queue
    };
    for (key, handlers) in wanted {
        let queue = start(Some(key.clone()), handlers, lane_capacity);
        router.add(&key, queue);
    }
    let losses = start(None, Vec::new(), 1);
    let handle = listener.handle();
    let reader = Reader { listener, router, losses, barrier, shared: shared.clone() };
    let origin = Origin::Listener(handle, tokio::spawn(reader.run()));
    Ok(running(shared, lanes, origin, stopped))
}

pub(super) async fn over_hub(
    dispatcher: Dispatcher,
    hub: &Hub,
) -> Result<RunningDispatcher, Error> {
    let Checked { lanes: wanted, lane_capacity, topic_of: _, shared, stopped } = check(dispatcher)?;
    // All channels in one round trip. Then each subscription of a lane joins at once.
    let all = hub.subscribe_many(channels(&wanted)).queue_capacity(1).await?;
    let mut sources = Vec::with_capacity(wanted.len());
    for (key, handlers) in wanted {
        let subscribe = match &key.topic {
            Some(topic) => hub.subscribe_topic(&key.channel, topic),
            None => hub.subscribe(&key.channel),
        };
        let subscription = subscribe.queue_capacity(lane_capacity).await?;
        sources.push((key, handlers, Source::subscription(subscription)));
    }
    drop(all);
    let mut lanes = JoinSet::new();
    for (key, handlers, source) in sources {
        lanes.spawn(Lane::new(Some(key), handlers, source, shared.clone()).run());
    }
    Ok(running(shared, lanes, Origin::Hub(hub.handle()), stopped))
}

fn running(
    shared: Arc<DispatcherShared>,
    lanes: JoinSet<Option<Error>>,
    origin: Origin,
    stopped: watch::Sender<Option<Stopped>>,
) -> RunningDispatcher {
    let control = Control { shared: shared.clone(), lanes, origin, stopped };
    tokio::spawn(control.run());
    RunningDispatcher::new(DispatcherHandle { shared })
}

/// Returns each channel once.
fn channels(lanes: &BTreeMap<LaneKey, Vec<Handler>>) -> BTreeSet<Arc<str>> {
    lanes.keys().map(|key| key.channel.clone()).collect()
}

/// Checks the settings, without those of topics.
fn check(dispatcher: Dispatcher) -> Result<Checked, Error> {
    let Dispatcher { mut lanes, reports, topic_of, concurrency, lane_capacity, retry } = dispatcher;
    if lanes.is_empty() {
        return Err(Error::new(ErrorKind::Misuse, "the dispatcher has no handler"));
    }
    at_least_one("concurrency", concurrency)?;
    at_least_one("lane_capacity", lane_capacity)?;
    for (key, handlers) in &mut lanes {
        wire::check_channel(&key.channel)?;
        for handler in handlers {
            if let Handler::Batch(limit, _) = handler {
                at_least_one("the limit of a batch", *limit)?;
                // While a batch is taken out of its queue, more may arrive.
                *limit = lane_capacity.min(*limit);
            }
        }
    }
    retry.check()?;
    let (stopped, report) = watch::channel(None);
    let shared = DispatcherShared::new(concurrency, retry, reports, lanes.len(), report);
    let shared = Arc::new(shared);
    Ok(Checked { lanes, lane_capacity, topic_of, shared, stopped })
}

/// Checks the topics that are found by the dispatcher itself.
fn check_topics(dispatcher: &Dispatcher) -> Result<(), Error> {
    dispatcher.topic_of.check()?;
    let mut topics = dispatcher.lanes.keys().filter_map(|key| key.topic.as_deref());
    topics.try_for_each(|topic| dispatcher.topic_of.check_topic(topic))
}

fn at_least_one(what: &str, found: usize) -> Result<(), Error> {
    if found == 0 {
        let message = format!("{what} is 0, at least 1 is needed");
        return Err(Error::new(ErrorKind::Config, message));
    }
    Ok(())
}
