//! Starts the tasks of a dispatcher.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::Dispatcher;
use super::barrier::Barrier;
use super::control::{Control, Origin};
use super::handle::DispatcherHandle;
use super::handler::{Handler, Reports};
use super::key::LaneKey;
use super::lane::Lane;
use super::lane_queue::lane_queue;
use super::reader::Reader;
use super::router::Router;
use super::running::RunningDispatcher;
use super::shared::DispatcherShared;
use super::source::Source;
use super::stopped::Stopped;
use crate::error::{Error, ErrorKind};
use crate::hub::{HubHandle, QUEUE_BYTES_MIN};
use crate::listener::Listener;
use crate::notification::TopicOf;
use crate::proto::wire;

/// A dispatcher whose settings were checked.
struct Checked {
    lanes: BTreeMap<LaneKey, Vec<Handler>>,
    reports: Arc<Reports>,
    lane_capacity: usize,
    lane_bytes: usize,
    topic_of: TopicOf,
    shared: Arc<DispatcherShared>,
    stopped: watch::Sender<Option<Stopped>>,
}

pub(super) async fn over_listener(
    dispatcher: Dispatcher,
    listener: Listener,
) -> Result<RunningDispatcher, Error> {
    check_topics(&dispatcher)?;
    let Checked { lanes: wanted, reports, lane_capacity, lane_bytes, topic_of, shared, stopped } =
        check(dispatcher)?;
    listener.listen_all(channels(&wanted)).await?;
    let barrier = Arc::new(Barrier::default());
    let mut router = Router::new(topic_of);
    let mut lanes = JoinSet::new();
    let mut start = |key: Option<LaneKey>, handlers, capacity: usize| {
        let (queue, source) = lane_queue(capacity, lane_bytes);
        let source = Source::Queue(source, barrier.clone());
        lanes.spawn(Lane::new(key, handlers, reports.clone(), source, shared.clone()).run());
        queue
    };
    for (key, handlers) in wanted {
        let queue = start(Some(key.clone()), handlers, lane_capacity);
        router.add(&key, queue);
    }
    let losses = start(None, Vec::new(), 1);
    // The last lane drops them.
    drop(reports);
    let handle = listener.handle();
    let reader = Reader { listener, router, losses, barrier, shared: shared.clone() };
    let origin = Origin::Listener(handle, tokio::spawn(reader.run()));
    Ok(running(shared, lanes, origin, stopped))
}

pub(super) async fn over_hub(
    dispatcher: Dispatcher,
    hub: HubHandle,
) -> Result<RunningDispatcher, Error> {
    let Checked { lanes: wanted, reports, lane_capacity, lane_bytes, topic_of, shared, stopped } =
        check(dispatcher)?;
    // It is not used, and its function is of the user.
    shared.drop_contained(topic_of);
    // All channels in one round trip. Then each subscription of a lane joins at once.
    let all = hub.subscribe_many(channels(&wanted)).queue_capacity(1).await?;
    let mut sources = Vec::with_capacity(wanted.len());
    for (key, handlers) in wanted {
        let subscribe = match &key.topic {
            Some(topic) => hub.subscribe_topic(&key.channel, topic),
            None => hub.subscribe(&key.channel),
        };
        let subscribe = subscribe.queue_capacity(lane_capacity).queue_bytes(lane_bytes);
        let subscription = subscribe.await?;
        sources.push((key, handlers, Source::subscription(subscription)));
    }
    drop(all);
    let mut lanes = JoinSet::new();
    for (key, handlers, source) in sources {
        let lane = Lane::new(Some(key), handlers, reports.clone(), source, shared.clone());
        lanes.spawn(lane.run());
    }
    // The last lane drops them.
    drop(reports);
    Ok(running(shared, lanes, Origin::Hub(hub), stopped))
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
    let Dispatcher { mut lanes, reports, topic_of, concurrency, lane_capacity, lane_bytes, retry } =
        dispatcher;
    if lanes.is_empty() {
        return Err(Error::new(ErrorKind::Misuse, "the dispatcher has no handler"));
    }
    at_least("concurrency", concurrency, 1)?;
    at_least("lane_capacity", lane_capacity, 1)?;
    at_least("lane_bytes", lane_bytes, QUEUE_BYTES_MIN)?;
    for (key, handlers) in &mut lanes {
        wire::check_channel(&key.channel)?;
        for handler in handlers {
            if let Handler::Batch(limit, _) = handler {
                at_least("the limit of a batch", *limit, 1)?;
                // While a batch is taken out of its queue, more may arrive.
                *limit = lane_capacity.min(*limit);
            }
        }
    }
    retry.check()?;
    let (stopped, report) = watch::channel(None);
    let shared = DispatcherShared::new(concurrency, retry, lanes.len(), lane_bytes, report);
    let (shared, reports) = (Arc::new(shared), Arc::new(reports));
    Ok(Checked { lanes, reports, lane_capacity, lane_bytes, topic_of, shared, stopped })
}

/// Checks the topics that are found by the dispatcher itself.
fn check_topics(dispatcher: &Dispatcher) -> Result<(), Error> {
    dispatcher.topic_of.check()?;
    let mut topics = dispatcher.lanes.keys().filter_map(|key| key.topic.as_deref());
    topics.try_for_each(|topic| dispatcher.topic_of.check_topic(topic))
}

fn at_least(what: &str, found: usize, least: usize) -> Result<(), Error> {
    if found < least {
        let message = format!("{what} is {found}, at least {least} is needed");
        return Err(Error::new(ErrorKind::Config, message));
    }
    Ok(())
}
