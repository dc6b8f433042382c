//! [`Failure`]: what a handler has failed to handle.

use std::error::Error;
use std::fmt;

use super::handler::BoxError;
use super::key::LaneKey;
use crate::notification::{Loss, Notification};

/// A failure for good: a handler has panicked, or has returned an error in its last attempt, or its payload could not be decoded. [`Dispatcher::on_failure`] gets it.
///
/// [`Dispatcher::on_failure`]: crate::Dispatcher::on_failure
///
/// ```no_run
/// use pgbell::{Dispatcher, Failure, FailureCause};
///
/// let dispatcher = Dispatcher::new().on_failure(|failure: Failure| async move {
///     for notification in failure.notifications() {
///         println!("not handled: {notification}");
///     }
///     match failure.cause() {
///         FailureCause::Panic(text) => println!("a panic: {text}"),
///         other => println!("{other:?} in {} attempts", failure.attempts()),
///     }
/// });
/// ```
#[derive(Debug)]
pub struct Failure {
    pub(super) key: Option<LaneKey>,
    pub(super) handler: Option<usize>,
    pub(super) input: FailedInput,
    pub(super) attempts: u32,
    pub(super) cause: FailureCause,
}

/// What a handler had to handle.
#[derive(Debug, Clone)]
pub(super) enum FailedInput {
    Notifications(Vec<Notification>),
    Loss(Loss),
}

/// Why a handler has failed.
///
/// ```
/// use pgbell::{Failure, FailureCause};
///
/// fn text(failure: &Failure) -> String {
///     match failure.cause() {
///         FailureCause::Error(error) => error.to_string(),
///         FailureCause::Panic(message) => format!("a panic: {message}"),
///         other => format!("{other:?}"),
///     }
/// }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum FailureCause {
    /// The error of the last attempt, or of the payload that could not be decoded.
    Error(Box<dyn Error + Send + Sync>),
    /// The message of the panic. A panic is not tried again.
    Panic(String),
}

impl Failure {
    /// Returns the channel. `None` if the loss handler has failed over a [`Listener`](crate::Listener).
    #[must_use]
    pub fn channel(&self) -> Option<&str> {
        self.key.as_ref().map(|key| &*key.channel)
    }

    /// Returns the topic, if the handler is one of a topic.
    #[must_use]
    pub fn topic(&self) -> Option<&str> {
        self.key.as_ref()?.topic.as_deref()
    }

    /// Returns the number of the handler among those of its channel or topic, from 0, in the order in which they were added. `None` for the
    /// loss handler.
    #[must_use]
    pub fn handler(&self) -> Option<usize> {
        self.handler
    }

    /// Returns the notifications of the run: one, or those of a batch. Empty if the loss handler has failed.
    #[must_use]
    pub fn notifications(&self) -> &[Notification] {
        match &self.input {
            FailedInput::Notifications(notifications) => notifications,
            FailedInput::Loss(_) => &[],
        }
    }

    /// Returns the loss, if the loss handler has failed.
    #[must_use]
    pub fn loss(&self) -> Option<&Loss> {
        match &self.input {
            FailedInput::Notifications(_) => None,
            FailedInput::Loss(loss) => Some(loss),
        }
    }

    /// Returns the number of attempts, from 1. It is 1 if the payload could not be decoded.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Returns the error or the panic.
    #[must_use]
    pub fn cause(&self) -> &FailureCause {
        &self.cause
    }

    /// Returns the error or the panic by value.
    #[must_use]
    pub fn into_cause(self) -> FailureCause {
        self.cause
    }
}

impl From<BoxError> for FailureCause {
    fn from(error: BoxError) -> Self {
        Self::Error(error)
    }
}

/// Writes the error, or the message of the panic.
impl fmt::Display for FailureCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Error(error) => error.fmt(f),
            Self::Panic(message) => write!(f, "the handler panicked: {message}"),
        }
    }
}

/// Writes one line, without payloads: the channel and the topic, what was not handled, the number of attempts and the cause.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(key) = &self.key {
            write!(f, "{key}: ")?;
        }
        match (self.loss().is_some(), self.notifications().len()) {
            (true, _) => f.write_str("a loss was not handled")?,
            (_, 1) => f.write_str("1 notification was not handled")?,
            (_, more) => write!(f, "{more} notifications were not handled")?,
        }
        let plural = if self.attempts == 1 { "" } else { "s" };
        write!(f, " in {} attempt{plural}: {}", self.attempts, self.cause)
    }
}
