//! [`DispatchLoss`]: a loss, and the lane that it concerns.

use std::fmt;

use super::key::LaneKey;
use crate::notification::Loss;

/// What a [loss handler](crate::Dispatcher::on_loss) gets: a loss, and the channel or topic whose notifications may be missing.
///
/// ```no_run
/// use pgbell::{DispatchLoss, Dispatcher};
///
/// let dispatcher = Dispatcher::new().on_loss(|loss: DispatchLoss| async move {
///     match loss.channel() {
///         Some(channel) => println!("read again what {channel} reports: {}", loss.loss()),
///         None => println!("read everything again: {}", loss.loss()),
///     }
/// });
/// ```
#[derive(Debug, Clone)]
pub struct DispatchLoss {
    loss: Loss,
    key: Option<LaneKey>,
}

impl DispatchLoss {
    pub(super) fn new(loss: Loss, key: Option<LaneKey>) -> Self {
        Self { loss, key }
    }

    /// Returns the loss.
    #[must_use]
    pub fn loss(&self) -> &Loss {
        &self.loss
    }

    /// Returns the channel. `None` over a [`Listener`](crate::Listener): the loss concerns all channels of the dispatcher.
    #[must_use]
    pub fn channel(&self) -> Option<&str> {
        self.key.as_ref().map(|key| &*key.channel)
    }

    /// Returns the topic. `None` if the loss concerns the whole channel, or all channels.
    #[must_use]
    pub fn topic(&self) -> Option<&str> {
        self.key.as_ref()?.topic.as_deref()
    }
}

/// Writes one line: the channel and the topic, if there are any, and the loss.
impl fmt::Display for DispatchLoss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(key) = &self.key {
            write!(f, "{key}: ")?;
        }
        self.loss.fmt(f)
    }
}
