//! [`TopicOf`]: how the topic of a notification is found in its payload.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

#[cfg(feature = "json")]
use super::json::field::field;
use crate::error::{Error, ErrorKind};

/// The byte between topic and payload, unless another one is chosen.
pub(crate) const SEPARATOR: u8 = b':';

type TopicFn = dyn for<'a> Fn(&'a str) -> Option<Cow<'a, str>> + Send + Sync;

/// How a hub finds the topic of a notification: a key in its payload, by which the hub chooses the subscriptions.
///
/// With topics, any number of subscriptions need only one channel of the server. Each channel costs the server time for every
/// notification of the database; a topic costs it nothing.
///
/// ```
/// use pgbell::TopicOf;
///
/// let topics = TopicOf::default();
/// assert_eq!(topics.split("42:paid").unwrap(), ("42".into(), "paid"));
/// assert_eq!(topics.split("no separator"), None);
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub enum TopicOf {
    /// The payload up to the first byte of this value, an ASCII character. A subscription to a topic receives the rest as
    /// payload. This is the envelope of [`Notifier::notify_topic`](crate::Notifier::notify_topic), by default with `:`.
    Prefix(u8),
    /// A function of the payload: see [`TopicOf::function`]. A subscription receives the payload unchanged.
    Fn(TopicFunction),
    /// A field of a payload that is a JSON object: see [`TopicOf::json_field`]. A subscription receives the payload unchanged.
    #[cfg(feature = "json")]
    #[cfg_attr(docsrs, doc(cfg(feature = "json")))]
    JsonField(Arc<str>),
}

/// The function of [`TopicOf::function`].
///
/// ```
/// use pgbell::TopicOf;
///
/// let function = TopicOf::function(|payload| Some(payload.get(..2)?.into()));
/// assert!(matches!(function, TopicOf::Fn(_)));
/// ```
#[derive(Clone)]
pub struct TopicFunction(Arc<TopicFn>);

impl TopicOf {
    /// Returns the topic that `function` finds in a payload. `None` and an empty topic mean that the notification has none.
    ///
    /// The function runs in the task of the hub, for each notification of a channel with subscriptions to topics: it must be short
    /// and must not block. If it panics, the notification has no topic; [`HubStats::topic_panics`](crate::HubStats) counts it.
    ///
    /// ```
    /// use pgbell::TopicOf;
    ///
    /// // The first word.
    /// let topics = TopicOf::function(|payload| Some(payload.split(' ').next()?.into()));
    /// assert_eq!(topics.split("orders 7").unwrap(), ("orders".into(), "orders 7"));
    /// ```
    pub fn function(
        function: impl for<'a> Fn(&'a str) -> Option<Cow<'a, str>> + Send + Sync + 'static,
    ) -> Self {
        Self::Fn(TopicFunction(Arc::new(function)))
    }

    /// Returns the topic that is in the field `name` of a JSON object.
    ///
    /// The topic is the content of a string, or a number, `true` or `false` as it is written: `42` and `42.0` are two topics. A payload that is
    /// not a JSON object, and one whose field is missing, is an empty string, a null, an array or an object, has no topic. Fields of inner
    /// objects are not found. If the object has several fields with this name, the last one counts.
    ///
    /// ```
    /// use pgbell::TopicOf;
    ///
    /// let topics = TopicOf::json_field("order");
    /// let payload = r#"{"order": 42, "state": "paid"}"#;
    /// assert_eq!(topics.split(payload).unwrap(), ("42".into(), payload));
    /// assert_eq!(topics.split("42:paid"), None);
    /// ```
    ///
    /// The whole payload is the envelope: it is sent with [`notify_json`](crate::Notifier::notify_json), with
    /// [`notify`](crate::Notifier::notify) or by a trigger. What [`notify_topic`](crate::Notifier::notify_topic) sends has no topic here,
    /// because a topic and a separator before the object are not JSON.
    ///
    /// The payload is read in the task of the hub, for each notification of a channel with subscriptions to topics. Only this field is decoded;
    /// in the rest only the syntax is checked.
    #[cfg(feature = "json")]
    #[cfg_attr(docsrs, doc(cfg(feature = "json")))]
    pub fn json_field(name: impl Into<Arc<str>>) -> Self {
        Self::JsonField(name.into())
    }

    /// Returns the topic of a payload, and the payload that a subscription to the topic receives. `None` if it has no topic. A
    /// consumer of the whole channel can use it to take a payload apart.
    ///
    /// # Panics
    /// Where the function of [`TopicOf::function`] panics.
    #[must_use]
    pub fn split<'a>(&self, payload: &'a str) -> Option<(Cow<'a, str>, &'a str)> {
        let (topic, rest) = match self {
            Self::Prefix(separator) => {
                let (topic, rest) = payload.split_once(char::from(*separator))?;
                (Cow::Borrowed(topic), rest)
            }
            Self::Fn(TopicFunction(function)) => (function(payload)?, payload),
            #[cfg(feature = "json")]
            Self::JsonField(name) => (field(payload, name)?, payload),
        };
        (!topic.is_empty()).then_some((topic, rest))
    }

    /// Returns whether the topic is at the beginning of the payload, with a separator behind it.
    pub(crate) fn is_prefix(&self) -> bool {
        matches!(self, Self::Prefix(_))
    }

    /// Checks the separator, or the name of the field.
    pub(crate) fn check(&self) -> Result<(), Error> {
        match self {
            Self::Prefix(separator) => check_separator(*separator),
            Self::Fn(_) => Ok(()),
            #[cfg(feature = "json")]
            Self::JsonField(name) if name.is_empty() => {
                Err(Error::new(ErrorKind::Config, "the name of the field with the topic is empty"))
            }
            #[cfg(feature = "json")]
            Self::JsonField(_) => Ok(()),
        }
    }

    /// Checks the name of a topic.
    pub(crate) fn check_topic(&self, topic: &str) -> Result<(), Error> {
        match self {
            Self::Prefix(separator) => check_topic(topic, *separator),
            _ if topic.is_empty() => Err(empty()),
            _ => Ok(()),
        }
    }
}

impl Default for TopicOf {
    /// Returns `Prefix(b':')`.
    fn default() -> Self {
        Self::Prefix(SEPARATOR)
    }
}

impl fmt::Debug for TopicOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prefix(separator) => {
                f.debug_tuple("Prefix").field(&char::from(*separator)).finish()
            }
            Self::Fn(_) => f.write_str("Fn"),
            #[cfg(feature = "json")]
            Self::JsonField(name) => f.debug_tuple("JsonField").field(name).finish(),
        }
    }
}

impl fmt::Debug for TopicFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TopicFunction")
    }
}

/// Checks a separator: an ASCII character that is not NUL.
pub(crate) fn check_separator(separator: u8) -> Result<(), Error> {
    match separator {
        1..=0x7f => Ok(()),
        _ => {
            let message =
                format!("the topic separator is {separator:#04x}: use an ASCII character");
            Err(Error::new(ErrorKind::Config, message))
        }
    }
}

/// Checks a topic that is written before `separator`.
pub(crate) fn check_topic(topic: &str, separator: u8) -> Result<(), Error> {
    if topic.is_empty() {
        return Err(empty());
    }
    let separator = char::from(separator);
    if topic.contains(separator) {
        let message = format!("the topic contains the separator {separator:?}");
        return Err(Error::new(ErrorKind::Misuse, message));
    }
    Ok(())
}

fn empty() -> Error {
    Error::new(ErrorKind::Misuse, "the topic is empty")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_the_payload_up_to_the_first_separator() {
        let topics = TopicOf::default();
        assert_eq!(topics.split("a:b:c"), Some(("a".into(), "b:c")));
        assert_eq!(topics.split("a:"), Some(("a".into(), "")));
        assert_eq!(topics.split(":b"), None);
        assert_eq!(topics.split("ab"), None);
        assert_eq!(topics.split(""), None);
        assert_eq!(TopicOf::Prefix(b'/').split("ä/ö:ü"), Some(("ä".into(), "ö:ü")));
    }

    #[test]
    fn a_topic_that_is_empty_or_contains_the_separator_is_refused() {
        let topics = TopicOf::default();
        assert!(topics.check_topic("42").is_ok());
        for wrong in ["", "a:b", ":"] {
            assert_eq!(topics.check_topic(wrong).unwrap_err().kind(), ErrorKind::Misuse);
        }
        let by_function = TopicOf::function(|payload| Some(payload.into()));
        assert!(by_function.check_topic("a:b").is_ok() && by_function.check_topic("").is_err());
    }

    #[test]
    fn a_separator_that_is_not_ascii_is_refused() {
        for wrong in [0, 0x80, 0xff] {
            assert_eq!(TopicOf::Prefix(wrong).check().unwrap_err().kind(), ErrorKind::Config);
        }
        assert!(TopicOf::Prefix(b' ').check().is_ok());
    }
}
