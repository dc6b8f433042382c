//! The payloads of a run of a hub, which have topics, and the topics as a naive reader finds them.

use std::borrow::Cow;
use std::panic;

use super::super::Simulation;
use super::super::server;
use super::super::subscriptions::{ChannelId, Subscriptions};
use crate::notification::TopicOf;

/// The channel whose topics are found by a function: the first character. It panics at some payloads, which then have no topic.
const FUNCTION_CHANNEL: ChannelId = 2;

const PANICS_AT: char = 'b';

/// Topics of payloads, and some that occur in no payload, or only if another server is the primary.
pub(super) const TOPICS: [&str; 7] = ["a", "b", "ab", "ä", "0", "1", "none"];

/// Returns the channels with another rule for topics.
pub(super) fn topics_of(channels: &Subscriptions) -> impl Iterator<Item = (String, TopicOf)> {
    let topic_of = TopicOf::function(|payload| {
        if payload.starts_with(PANICS_AT) {
            // Without the message that `panic!` prints.
            panic::resume_unwind(Box::new("the topic function (simulated)"));
        }
        let end = payload.chars().next()?.len_utf8();
        Some(Cow::Borrowed(&payload[..end]))
    });
    let channel = channels.0.get(FUNCTION_CHANNEL).map(|channel| channel.name.clone());
    channel.map(|name| (name, topic_of)).into_iter()
}

/// Returns the topic of a payload, and what a subscription to it receives.
pub(super) fn split(channel: ChannelId, payload: &str) -> Option<(&str, &str)> {
    if channel == FUNCTION_CHANNEL {
        if payload.starts_with(PANICS_AT) {
            return None;
        }
        let end = payload.chars().next()?.len_utf8();
        return Some((&payload[..end], payload));
    }
    payload.split_once(':').filter(|(topic, _)| !topic.is_empty())
}

impl Simulation {
    /// Returns the payload of a commit.
    pub(crate) fn payload(&self, server: usize, number: usize) -> String {
        let payload = server::payload(server, number);
        match number % 9 {
            _ if self.hub.is_none() => payload,
            0 => payload,
            1 => format!(":{payload}"),
            // Some neighbours have the same topic.
            _ => format!("{}:{payload}", TOPICS[number / 3 % 4]),
        }
    }
}
