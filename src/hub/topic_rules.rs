//! [`TopicRules`]: how the topics of each channel are found.

use std::collections::HashMap;

use crate::error::Error;
use crate::notification::TopicOf;
use crate::proto::wire;

/// How the topics of each channel are found. They do not change while the hub runs, so they need no lock.
#[derive(Debug, Clone, Default)]
pub(super) struct TopicRules {
    /// For every channel that has no rule of its own.
    pub(super) topic_of: TopicOf,
    pub(super) topics_of: HashMap<String, TopicOf>,
}

impl TopicRules {
    /// Returns the rule of a channel.
    pub(super) fn of(&self, channel: &str) -> &TopicOf {
        self.topics_of.get(channel).unwrap_or(&self.topic_of)
    }

    /// Returns whether one of them is a function, of the user or of a JSON payload.
    pub(super) fn has_functions(&self) -> bool {
        let mut all = self.topics_of.values().chain([&self.topic_of]);
        all.any(|topic_of| !topic_of.is_prefix())
    }

    /// Checks the names of channels, the separators and the names of fields.
    pub(super) fn check(&self) -> Result<(), Error> {
        self.topic_of.check()?;
        for (channel, topic_of) in &self.topics_of {
            wire::check_channel(channel)?;
            topic_of.check()?;
        }
        Ok(())
    }
}
