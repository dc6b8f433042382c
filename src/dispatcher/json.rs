//! Handlers of values that are sent as JSON.

use std::future::{Future, ready};

use serde_core::de::DeserializeOwned;

use super::Dispatcher;
use super::contained::{Outcome, contained};
use super::handler::{Function, Handler, HandlerOutput, RunFuture};
use crate::notification::Notification;

#[cfg_attr(docsrs, doc(cfg(feature = "json")))]
impl Dispatcher {
    /// Adds a handler for a channel that gets the payload decoded as JSON. See [`on`](Self::on).
    ///
    /// A payload that cannot be decoded is a [failure](Self::on_failure) with a [`JsonError`](crate::JsonError): the handler is not called, and
    /// nothing is tried again, because the same payload would fail again. A handler that needs more than the value, such as the process id of the
    /// sender, is added with [`on`](Self::on), and calls [`Notification::json`]. So does one for batches, added with
    /// [`on_batch`](Self::on_batch), for each notification.
    ///
    /// ```
    /// use pgbell::{Dispatcher, Failure, FailureCause, JsonError};
    ///
    /// #[derive(serde::Deserialize)]
    /// struct TimerRegistered {
    ///     timer_id: String,
    ///     expires_at: String,
    /// }
    ///
    /// let dispatcher = Dispatcher::new()
    ///     .on_json("timers", |timer: TimerRegistered| async move {
    ///         println!("{} expires at {}", timer.timer_id, timer.expires_at);
    ///     })
    ///     .on_failure(|failure: Failure| async move {
    ///         let invalid = match failure.cause() {
    ///             FailureCause::Error(error) => error.downcast_ref::<JsonError>(),
    ///             _ => None,
    ///         };
    ///         println!("{failure}, wrong payload: {}", invalid.is_some());
    ///     });
    /// ```
    pub fn on_json<T, F, Fut>(self, channel: impl AsRef<str>, handler: F) -> Self
    where
        T: DeserializeOwned + 'static,
        F: Fn(T) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: HandlerOutput> + Send + 'static,
    {
        self.with(channel.as_ref(), None, Handler::Single(decoding(handler)))
    }

    /// Adds a handler for a topic of a channel that gets the payload decoded as JSON. See [`on_json`](Self::on_json) and
    /// [`on_topic`](Self::on_topic).
    pub fn on_topic_json<T, F, Fut>(
        self,
        channel: impl AsRef<str>,
        topic: impl AsRef<str>,
        handler: F,
    ) -> Self
    where
        T: DeserializeOwned + 'static,
        F: Fn(T) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: HandlerOutput> + Send + 'static,
    {
        self.with(channel.as_ref(), Some(topic.as_ref()), Handler::Single(decoding(handler)))
    }
}

/// Erases the types of a function of the value. Each attempt decodes it again.
fn decoding<T, F, Fut>(function: F) -> Function<Notification>
where
    T: DeserializeOwned + 'static,
    F: Fn(T) -> Fut + Send + Sync + 'static,
    Fut: Future<Output: HandlerOutput> + Send + 'static,
{
    Box::new(move |notification: Notification| -> RunFuture {
        match notification.json() {
            Ok(value) => Box::pin(contained(function(value))),
            Err(error) => Box::pin(ready(Outcome::Undecodable(error.into()))),
        }
    })
}
