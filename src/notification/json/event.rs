//! [`JsonEvent`]: an event whose payload was decoded.

use std::fmt;

use serde_core::de::DeserializeOwned;

use super::super::{Event, Gap, Lagged, Loss, Notification};
use super::error::JsonError;

/// One element of the stream of a listener or a subscription, with the payload decoded as JSON. A [`JsonStream`](crate#features) returns it,
/// and it can be made of every [`Event`]:
///
/// ```
/// use pgbell::{Event, JsonEvent};
///
/// #[derive(serde::Deserialize)]
/// struct UserEvent {
///     user_id: i64,
/// }
///
/// fn handle(event: Event) {
///     match JsonEvent::<UserEvent>::from(event) {
///         JsonEvent::Value(event, _) => println!("user {}", event.user_id),
///         JsonEvent::Invalid(error) => println!("{error}"),
///         loss => println!("read the users again: {loss}"),
///     }
/// }
/// ```
#[derive(Clone)]
#[non_exhaustive]
#[cfg_attr(docsrs, doc(cfg(feature = "json")))]
pub enum JsonEvent<T> {
    /// The value of the payload, and the notification.
    Value(T, Notification),
    /// The payload is not JSON, or is not a `T`. The error contains the notification.
    Invalid(JsonError),
    /// The server may have sent notifications that were not received.
    Gap(Gap),
    /// The queue was full, and an exact number of notifications was dropped.
    Lagged(Lagged),
}

impl<T> JsonEvent<T> {
    /// Returns the value, if the event has one.
    #[must_use]
    pub fn value(&self) -> Option<&T> {
        match self {
            Self::Value(value, _) => Some(value),
            Self::Invalid(_) | Self::Gap(_) | Self::Lagged(_) => None,
        }
    }

    /// Returns the value by value, if the event has one.
    #[must_use]
    pub fn into_value(self) -> Option<T> {
        match self {
            Self::Value(value, _) => Some(value),
            Self::Invalid(_) | Self::Gap(_) | Self::Lagged(_) => None,
        }
    }

    /// Returns the notification, decoded or not, unless the event is a loss.
    #[must_use]
    pub fn notification(&self) -> Option<&Notification> {
        match self {
            Self::Value(_, notification) => Some(notification),
            Self::Invalid(error) => Some(error.notification()),
            Self::Gap(_) | Self::Lagged(_) => None,
        }
    }

    /// Returns the notification by value, decoded or not, unless the event is a loss.
    #[must_use]
    pub fn into_notification(self) -> Option<Notification> {
        match self {
            Self::Value(_, notification) => Some(notification),
            Self::Invalid(error) => Some(error.into_notification()),
            Self::Gap(_) | Self::Lagged(_) => None,
        }
    }

    /// Returns the loss, unless the event is a notification. It is a copy: that of a [`Gap`] allocates.
    #[must_use]
    pub fn loss(&self) -> Option<Loss> {
        match self {
            Self::Value(..) | Self::Invalid(_) => None,
            Self::Gap(gap) => Some(Loss::Gap(gap.clone())),
            Self::Lagged(lagged) => Some(Loss::Lagged(*lagged)),
        }
    }
}

/// Decodes the payload of a notification. A loss stays what it is.
impl<T: DeserializeOwned> From<Event> for JsonEvent<T> {
    fn from(event: Event) -> Self {
        match event {
            Event::Notification(notification) => match notification.json() {
                Ok(value) => Self::Value(value, notification),
                Err(error) => Self::Invalid(error),
            },
            Event::Gap(gap) => Self::Gap(gap),
            Event::Lagged(lagged) => Self::Lagged(lagged),
        }
    }
}

/// Writes one line, without the value: it is the application's data.
impl<T> fmt::Display for JsonEvent<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(_, notification) => notification.fmt(f),
            Self::Invalid(error) => error.fmt(f),
            Self::Gap(gap) => gap.fmt(f),
            Self::Lagged(lagged) => lagged.fmt(f),
        }
    }
}

/// Writes no value: it is the application's data.
impl<T> fmt::Debug for JsonEvent<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, content): (_, &dyn fmt::Debug) = match self {
            Self::Value(_, notification) => ("Value", notification),
            Self::Invalid(error) => ("Invalid", error),
            Self::Gap(gap) => ("Gap", gap),
            Self::Lagged(lagged) => ("Lagged", lagged),
        };
        f.debug_tuple(name).field(content).finish()
    }
}
