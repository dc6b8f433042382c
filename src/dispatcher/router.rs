//! [`Router`]: finds the lanes of a notification that a listener has received.

use std::collections::HashMap;
use std::sync::Arc;

use super::contained::contain;
use super::key::LaneKey;
use super::lane_queue::LaneSender;
use crate::notification::{Notification, NotificationRef, ReceiveInfo, TopicOf};
use crate::proto::wire::RawNotification;

/// The lanes of a dispatcher, by channel and topic.
#[derive(Debug)]
pub(super) struct Router {
    channels: HashMap<Arc<str>, ChannelLanes>,
    topic_of: TopicOf,
}

#[derive(Debug, Default)]
struct ChannelLanes {
    whole: Option<LaneSender>,
    topics: HashMap<Arc<str>, LaneSender>,
}

/// The lanes of one notification, and what each of them receives.
#[derive(Debug, Default)]
pub(super) struct Targets<'a> {
    pub(super) whole: Option<(&'a LaneSender, Notification)>,
    pub(super) topic: Option<(&'a LaneSender, Notification)>,
    /// The topic function has panicked.
    pub(super) has_panicked: bool,
}

impl Targets<'_> {
    /// Returns the number of lanes.
    pub(super) fn lanes(&self) -> u64 {
        u64::from(self.whole.is_some()) + u64::from(self.topic.is_some())
    }
}

impl Router {
    pub(super) fn new(topic_of: TopicOf) -> Self {
        Self { channels: HashMap::new(), topic_of }
    }

    pub(super) fn add(&mut self, key: &LaneKey, queue: LaneSender) {
        let lanes = self.channels.entry(key.channel.clone()).or_default();
        match &key.topic {
            Some(topic) => drop(lanes.topics.insert(topic.clone(), queue)),
            None => lanes.whole = Some(queue),
        }
    }

    /// Removes the lanes of topics: the function that finds topics is not called any more.
    pub(super) fn forget_topics(&mut self) {
        for lanes in self.channels.values_mut() {
            lanes.topics.clear();
        }
    }

    /// Returns the lanes of a notification.
    pub(super) fn targets(&self, notification: Notification) -> Targets<'_> {
        let mut targets = Targets::default();
        let Some(lanes) = self.channels.get(notification.channel()) else { return targets };
        if !lanes.topics.is_empty() {
            let found = contain(|| {
                let (topic, payload) = self.topic_of.split(notification.payload())?;
                let queue = lanes.topics.get(&*topic)?;
                Some((queue, with_payload(&notification, payload)))
            });
            targets.has_panicked = found.is_err();
            targets.topic = found.ok().flatten();
        }
        targets.whole = lanes.whole.as_ref().map(|queue| (queue, notification));
        targets
    }
}

/// Returns the notification with a part of its payload, as a subscription to a topic receives it.
fn with_payload(notification: &Notification, payload: &str) -> Notification {
    if payload.len() == notification.payload_bytes().len() {
        return notification.clone();
    }
    let raw = RawNotification {
        process_id: notification.process_id(),
        channel: notification.channel_bytes(),
        payload: payload.as_bytes(),
    };
    let info = ReceiveInfo::new(notification.received_at(), notification.epoch());
    NotificationRef::new(raw, notification.sequence(), &info, None).to_owned()
}
