//! [`JsonStream`]: a stream of events whose payloads are decoded.

use std::fmt;
use std::future::poll_fn;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::{FusedStream, Stream};
use serde_core::de::DeserializeOwned;

use super::super::Event;
use super::event::JsonEvent;
use crate::error::{Error, ErrorKind};

/// Decodes the payloads of a stream of events as JSON. Returned by [`Listener::json`](crate::Listener::json),
/// [`ListenScope::json`](crate::ListenScope::json) and [`Subscription::json`](crate::Subscription::json).
///
/// Losses stay at their places. A payload that cannot be decoded is a [`JsonEvent::Invalid`] at its place, with its notification, and the
/// stream continues.
///
/// ```no_run
/// # async fn example() -> Result<(), pgbell::Error> {
/// use pgbell::{JsonEvent, Listener};
///
/// #[derive(serde::Deserialize)]
/// struct UserEvent {
///     user_id: i64,
///     action: String,
/// }
///
/// let listener = Listener::builder("postgres://localhost/shop").channels(["user_updates"]).connect().await?;
/// let mut events = listener.json::<UserEvent>();
/// loop {
///     match events.recv().await? {
///         JsonEvent::Value(event, _) => println!("user {}: {}", event.user_id, event.action),
///         JsonEvent::Invalid(error) => println!("{error}"),
///         loss => println!("read the users again: {loss}"),
///     }
/// }
/// # }
/// ```
///
/// It has no queue of its own: [`get_mut`](Self::get_mut) and [`into_inner`](Self::into_inner) skip nothing. [`new`](Self::new) also takes
/// a reference, such as `&mut Listener`, and any other stream of events.
#[cfg_attr(docsrs, doc(cfg(feature = "json")))]
pub struct JsonStream<S, T> {
    events: S,
    /// The events have ended. Most streams must not be polled again then.
    is_terminated: bool,
    // It has no `T`.
    values: PhantomData<fn() -> T>,
}

/// A stream of events that can be received from without waiting: a [`Listener`](crate::Listener), a [`ListenScope`](crate::ListenScope), a
/// [`Subscription`](crate::Subscription), or a reference to one. Implement it for a stream of your own to call [`JsonStream::try_recv`].
///
/// ```no_run
/// use pgbell::{Error, Event, JsonEvent, JsonStream, Listener, TryRecv};
///
/// /// The events of a listener, without the notifications that one session sent.
/// struct FromOthers {
///     listener: Listener,
///     process_id: i32,
/// }
///
/// impl TryRecv for FromOthers {
///     fn try_recv(&mut self) -> Result<Option<Event>, Error> {
///         loop {
///             match self.listener.try_recv()? {
///                 Some(Event::Notification(own)) if own.process_id() == self.process_id => {}
///                 other => return Ok(other),
///             }
///         }
///     }
/// }
///
/// # fn example(listener: Listener, process_id: i32) -> Result<(), Error> {
/// let mut events = JsonStream::<_, u64>::new(FromOthers { listener, process_id });
/// while let Some(event) = events.try_recv()? {
///     match event {
///         JsonEvent::Value(id, _) => println!("order {id}"),
///         other => println!("{other}"),
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[cfg_attr(docsrs, doc(cfg(feature = "json")))]
pub trait TryRecv {
    /// Returns the next event, if one is queued.
    ///
    /// # Errors
    /// See [`Listener::try_recv`](crate::Listener::try_recv).
    fn try_recv(&mut self) -> Result<Option<Event>, Error>;
}

impl<S: TryRecv + ?Sized> TryRecv for &mut S {
    fn try_recv(&mut self) -> Result<Option<Event>, Error> {
        (**self).try_recv()
    }
}

impl<S, T> JsonStream<S, T> {
    /// Decodes the payloads of these events.
    #[must_use]
    pub fn new(events: S) -> Self {
        Self { events, is_terminated: false, values: PhantomData }
    }

    /// Returns the stream of events.
    #[must_use]
    pub fn get_ref(&self) -> &S {
        &self.events
    }

    /// Returns the stream of events, to receive from it without decoding, or to leave it.
    #[must_use]
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.events
    }

    /// Returns the stream of events by value.
    #[must_use]
    pub fn into_inner(self) -> S {
        self.events
    }
}

impl<S, T> JsonStream<S, T>
where
    S: Stream<Item = Result<Event, Error>> + Unpin,
    T: DeserializeOwned,
{
    /// Waits for the next event.
    ///
    /// # Errors
    /// - The error that the listener or the hub ended with, once, when everything that was received is delivered.
    /// - [`ErrorKind::Closed`] after that, and after a close, as [`Listener::recv`](crate::Listener::recv): the stream has ended.
    ///
    /// A payload that cannot be decoded is no error, but an event.
    ///
    /// # Panics
    /// Where the implementation of `T` panics. The notification of that payload is lost.
    ///
    /// # Cancel safety
    /// A dropped future loses nothing.
    pub async fn recv(&mut self) -> Result<JsonEvent<T>, Error> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await.unwrap_or_else(|| Err(ended()))
    }
}

impl<S: TryRecv, T: DeserializeOwned> JsonStream<S, T> {
    /// Returns the next event, if one is queued.
    ///
    /// # Errors
    /// Those of the listener, the scope or the subscription: see [`Listener::try_recv`](crate::Listener::try_recv).
    ///
    /// # Panics
    /// Where the implementation of `T` panics. The notification of that payload is lost.
    pub fn try_recv(&mut self) -> Result<Option<JsonEvent<T>>, Error> {
        Ok(self.events.try_recv()?.map(JsonEvent::from))
    }
}

#[cold]
fn ended() -> Error {
    Error::new(ErrorKind::Closed, "the stream of events has ended")
}

impl<S, T> Stream for JsonStream<S, T>
where
    S: Stream<Item = Result<Event, Error>> + Unpin,
    T: DeserializeOwned,
{
    type Item = Result<JsonEvent<T>, Error>;

    /// Ends as the stream of events.
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let own = self.get_mut();
        if own.is_terminated {
            return Poll::Ready(None);
        }
        let polled = Pin::new(&mut own.events).poll_next(cx);
        own.is_terminated = matches!(polled, Poll::Ready(None));
        polled.map(|item| item.map(|event| event.map(JsonEvent::from)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.events.size_hint()
    }
}

impl<S, T> FusedStream for JsonStream<S, T>
where
    S: FusedStream<Item = Result<Event, Error>> + Unpin,
    T: DeserializeOwned,
{
    fn is_terminated(&self) -> bool {
        self.is_terminated || self.events.is_terminated()
    }
}

impl<S: fmt::Debug, T> fmt::Debug for JsonStream<S, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("JsonStream").field(&self.events).finish()
    }
}
