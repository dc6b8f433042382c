//! [`LaneKey`]: what a lane receives.

use std::fmt;
use std::sync::Arc;

/// A channel, or a topic of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LaneKey {
    pub(super) channel: Arc<str>,
    pub(super) topic: Option<Arc<str>>,
}

/// Writes the channel, and the topic if there is one: `orders`, `messages, topic 42`.
impl fmt::Display for LaneKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.channel)?;
        match &self.topic {
            Some(topic) => write!(f, ", topic {topic}"),
            None => Ok(()),
        }
    }
}
