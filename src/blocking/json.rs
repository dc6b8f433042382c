//! Values as JSON: [`JsonStream`] receives them, and a [`Notifier`] sends them.

use std::fmt;
use std::iter::FusedIterator;
use std::marker::PhantomData;
use std::time::Duration;

use serde_core::Serialize;
use serde_core::de::DeserializeOwned;

use super::iter::next_event;
use super::listener::Listener;
use super::notifier::Notifier;
use super::scope::ListenScope;
use crate::error::Error;
use crate::notification::{Event, JsonEvent};

/// Decodes the payloads of the events of a blocking listener as JSON. Returned by [`Listener::json`] and [`ListenScope::json`].
///
/// It does what a [`pgbell::JsonStream`](crate::JsonStream) does: losses stay at their places, and a payload that cannot be decoded is a
/// [`JsonEvent::Invalid`] at its place. It has no queue of its own: [`get_mut`](Self::get_mut) and [`into_inner`](Self::into_inner) skip
/// nothing.
///
/// ```no_run
/// # fn example() -> Result<(), pgbell::Error> {
/// use pgbell::JsonEvent;
/// use pgbell::blocking::Listener;
///
/// #[derive(serde::Deserialize)]
/// struct UserEvent {
///     user_id: i64,
///     action: String,
/// }
///
/// let listener = Listener::builder("postgres://localhost/shop").channels(["user_updates"]).connect()?;
/// for event in listener.json::<UserEvent>() {
///     match event? {
///         JsonEvent::Value(event, _) => println!("user {}: {}", event.user_id, event.action),
///         JsonEvent::Invalid(error) => println!("{error}"),
///         loss => println!("read the users again: {loss}"),
///     }
/// }
/// # Ok(())
/// # }
/// ```
///
/// # Panics
/// Its methods panic where the implementation of `T` panics. The notification of that payload is lost.
#[cfg_attr(docsrs, doc(cfg(feature = "json")))]
pub struct JsonStream<S, T> {
    events: S,
    is_refused: bool,
    // It has no `T`.
    values: PhantomData<fn() -> T>,
}

/// What a [`JsonStream`] receives from: a [`Listener`], a [`ListenScope`], or a reference to one. It cannot be implemented outside of this
/// crate. It is the bound of a function that takes any of them:
///
/// ```no_run
/// use std::time::Duration;
///
/// use pgbell::blocking::EventSource;
/// use pgbell::{Error, Event};
///
/// /// Returns the events up to the first second without one.
/// fn up_to_a_pause(source: &mut impl EventSource) -> Result<Vec<Event>, Error> {
///     let mut events = Vec::new();
///     while let Some(event) = source.recv_timeout(Duration::from_secs(1))? {
///         events.push(event);
///     }
///     Ok(events)
/// }
/// ```
#[cfg_attr(docsrs, doc(cfg(feature = "json")))]
pub trait EventSource: sealed::Sealed {
    /// See [`Listener::recv`].
    ///
    /// Blocks as it does.
    ///
    /// # Errors
    /// See there.
    fn recv(&mut self) -> Result<Event, Error>;

    /// See [`Listener::recv_timeout`].
    ///
    /// Blocks as it does.
    ///
    /// # Errors
    /// See there.
    fn recv_timeout(&mut self, timeout: Duration) -> Result<Option<Event>, Error>;

    /// See [`Listener::try_recv`].
    ///
    /// # Errors
    /// See there.
    fn try_recv(&mut self) -> Result<Option<Event>, Error>;
}

mod sealed {
    use super::{Error, Event};

    pub trait Sealed {
        /// Returns the next event of an iterator.
        fn next_event(&mut self, is_refused: &mut bool) -> Option<Result<Event, Error>>;
    }
}

impl EventSource for Listener {
    fn recv(&mut self) -> Result<Event, Error> {
        self.recv()
    }

    fn recv_timeout(&mut self, timeout: Duration) -> Result<Option<Event>, Error> {
        self.recv_timeout(timeout)
    }

    fn try_recv(&mut self) -> Result<Option<Event>, Error> {
        self.try_recv()
    }
}

impl sealed::Sealed for Listener {
    fn next_event(&mut self, is_refused: &mut bool) -> Option<Result<Event, Error>> {
        let (listener, waiter) = self.parts();
        next_event(listener, waiter, is_refused)
    }
}

impl EventSource for ListenScope<'_> {
    fn recv(&mut self) -> Result<Event, Error> {
        self.recv()
    }

    fn recv_timeout(&mut self, timeout: Duration) -> Result<Option<Event>, Error> {
        self.recv_timeout(timeout)
    }

    fn try_recv(&mut self) -> Result<Option<Event>, Error> {
        self.try_recv()
    }
}

impl sealed::Sealed for ListenScope<'_> {
    fn next_event(&mut self, is_refused: &mut bool) -> Option<Result<Event, Error>> {
        let (listener, waiter) = self.parts();
        next_event(listener, waiter, is_refused)
    }
}

impl<S: EventSource + ?Sized> EventSource for &mut S {
    fn recv(&mut self) -> Result<Event, Error> {
        (**self).recv()
    }

    fn recv_timeout(&mut self, timeout: Duration) -> Result<Option<Event>, Error> {
        (**self).recv_timeout(timeout)
    }

    fn try_recv(&mut self) -> Result<Option<Event>, Error> {
        (**self).try_recv()
    }
}

impl<S: sealed::Sealed + ?Sized> sealed::Sealed for &mut S {
    fn next_event(&mut self, is_refused: &mut bool) -> Option<Result<Event, Error>> {
        (**self).next_event(is_refused)
    }
}

impl<S, T> JsonStream<S, T> {
    /// Decodes the payloads of these events.
    #[must_use]
    pub fn new(events: S) -> Self {
        Self { events, is_refused: false, values: PhantomData }
    }

    /// Returns the listener or the scope.
    #[must_use]
    pub fn get_ref(&self) -> &S {
        &self.events
    }

    /// Returns the listener or the scope, to receive from it without decoding.
    #[must_use]
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.events
    }

    /// Returns the listener or the scope by value.
    #[must_use]
    pub fn into_inner(self) -> S {
        self.events
    }
}

impl<S: EventSource, T: DeserializeOwned> JsonStream<S, T> {
    /// Waits for the next event. See [`Listener::recv`].
    ///
    /// Blocks without a time limit.
    ///
    /// # Errors
    /// See there. A payload that cannot be decoded is no error, but an event.
    pub fn recv(&mut self) -> Result<JsonEvent<T>, Error> {
        self.events.recv().map(JsonEvent::from)
    }

    /// Waits for the next event for this time. Returns `None` if there is none. See [`Listener::recv_timeout`].
    ///
    /// Blocks for at most `timeout`.
    ///
    /// # Errors
    /// See [`recv`](Self::recv).
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Option<JsonEvent<T>>, Error> {
        Ok(self.events.recv_timeout(timeout)?.map(JsonEvent::from))
    }

    /// Returns the next event, if one is queued.
    ///
    /// # Errors
    /// See [`recv`](Self::recv).
    pub fn try_recv(&mut self) -> Result<Option<JsonEvent<T>>, Error> {
        Ok(self.events.try_recv()?.map(JsonEvent::from))
    }
}

/// Each call of `next` blocks until there is an event. It ends as [`Iter`](super::Iter).
impl<S: EventSource, T: DeserializeOwned> Iterator for JsonStream<S, T> {
    type Item = Result<JsonEvent<T>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let event = self.events.next_event(&mut self.is_refused)?;
        Some(event.map(JsonEvent::from))
    }
}

impl<S: EventSource, T: DeserializeOwned> FusedIterator for JsonStream<S, T> {}

impl<S: fmt::Debug, T> fmt::Debug for JsonStream<S, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("JsonStream").field(&self.events).finish()
    }
}

#[cfg_attr(docsrs, doc(cfg(feature = "json")))]
impl Listener {
    /// Decodes the payloads as JSON. See [`pgbell::Listener::json`](crate::Listener::json).
    #[must_use = "dropping it ends the session"]
    pub fn json<T>(self) -> JsonStream<Self, T> {
        JsonStream::new(self)
    }
}

#[cfg_attr(docsrs, doc(cfg(feature = "json")))]
impl ListenScope<'_> {
    /// Decodes the payloads as JSON. See [`pgbell::ListenScope::json`](crate::ListenScope::json).
    #[must_use = "dropping it stops listening to the channels of the scope"]
    pub fn json<T>(self) -> JsonStream<Self, T> {
        JsonStream::new(self)
    }
}

#[cfg_attr(docsrs, doc(cfg(feature = "json")))]
impl Notifier {
    /// Sends a value as JSON. See [`pgbell::Notifier::notify_json`](crate::Notifier::notify_json).
    ///
    /// Blocks as [`notify`](Self::notify).
    ///
    /// # Errors
    /// See there.
    ///
    /// # Panics
    /// See there.
    pub fn notify_json<T>(&self, channel: impl AsRef<str>, value: &T) -> Result<(), Error>
    where
        T: Serialize + ?Sized,
    {
        self.wait(|notifier| notifier.notify_json(channel, value))
    }

    /// Sends a value as JSON to a topic of a channel. See [`pgbell::Notifier::notify_topic_json`](crate::Notifier::notify_topic_json).
    ///
    /// Blocks as [`notify`](Self::notify).
    ///
    /// # Errors
    /// See there.
    ///
    /// # Panics
    /// See there.
    pub fn notify_topic_json<T>(
        &self,
        channel: impl AsRef<str>,
        topic: impl AsRef<str>,
        value: &T,
    ) -> Result<(), Error>
    where
        T: Serialize + ?Sized,
    {
        self.wait(|notifier| notifier.notify_topic_json(channel, topic, value))
    }
}
