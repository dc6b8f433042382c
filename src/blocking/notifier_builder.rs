//! [`NotifierBuilder`]: the settings of a blocking notifier.

use std::time::Duration;

use super::notifier::{self, Notifier};
use crate::config::Config;
use crate::error::Error;

/// The settings of a blocking [`Notifier`]. Made by [`Notifier::builder`].
///
/// Its methods set what those of [`pgbell::NotifierBuilder`](crate::NotifierBuilder) set, with the same defaults and limits.
///
/// ```no_run
/// # fn example() -> Result<(), pgbell::Error> {
/// use std::time::Duration;
/// use pgbell::blocking::Notifier;
///
/// let notifier = Notifier::builder("postgres://localhost/shop")
///     .answer_timeout(Duration::from_secs(5))
///     .connect()?;
/// notifier.notify("orders", "7")?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use = "nothing happens before connect"]
pub struct NotifierBuilder {
    builder: crate::NotifierBuilder,
}

impl NotifierBuilder {
    pub(super) fn new(config: impl TryInto<Config, Error: Into<Error>>) -> Self {
        Self { builder: crate::Notifier::builder(config) }
    }

    fn map(self, set: impl FnOnce(crate::NotifierBuilder) -> crate::NotifierBuilder) -> Self {
        Self { builder: set(self.builder) }
    }

    /// See [`answer_timeout`](crate::NotifierBuilder::answer_timeout).
    pub fn answer_timeout(self, timeout: Duration) -> Self {
        self.map(|builder| builder.answer_timeout(timeout))
    }

    /// See [`queue_bytes`](crate::NotifierBuilder::queue_bytes).
    pub fn queue_bytes(self, bytes: usize) -> Self {
        self.map(|builder| builder.queue_bytes(bytes))
    }

    /// See [`nudge_window`](crate::NotifierBuilder::nudge_window).
    pub fn nudge_window(self, window: Duration) -> Self {
        self.map(|builder| builder.nudge_window(window))
    }

    /// See [`topic_separator`](crate::NotifierBuilder::topic_separator).
    pub fn topic_separator(self, separator: u8) -> Self {
        self.map(|builder| builder.topic_separator(separator))
    }

    /// See [`reconnect`](crate::NotifierBuilder::reconnect).
    pub fn reconnect(self, reconnect: bool) -> Self {
        self.map(|builder| builder.reconnect(reconnect))
    }

    /// See [`retry_refusals`](crate::NotifierBuilder::retry_refusals).
    pub fn retry_refusals(self, retry: bool) -> Self {
        self.map(|builder| builder.retry_refusals(retry))
    }

    /// See [`backoff`](crate::NotifierBuilder::backoff).
    pub fn backoff(self, min: Duration, max: Duration) -> Self {
        self.map(|builder| builder.backoff(min, max))
    }

    /// Connects, and starts the background thread. See [`connect`](crate::NotifierBuilder::connect).
    ///
    /// Blocks until the login has succeeded or failed, at most `connect_timeout`, 10 s by default.
    ///
    /// # Errors
    /// See there.
    /// - [`ErrorKind::Misuse`](crate::ErrorKind::Misuse) where a call [cannot wait](crate::blocking#where-a-call-cannot-wait).
    /// - [`ErrorKind::Connect`](crate::ErrorKind::Connect) if the system has no threads or file descriptors left.
    pub fn connect(self) -> Result<Notifier, Error> {
        notifier::connect(self.builder)
    }
}
