//! Sending values as JSON.

use serde_core::ser::Serialize;

use super::Notifier;
use crate::error::{Error, ErrorKind};

#[cfg_attr(docsrs, doc(cfg(feature = "json")))]
impl Notifier {
    /// Sends one notification whose payload is the value as JSON, without white space. It is committed when this returns.
    ///
    /// [`Notification::json`](crate::Notification::json) decodes it. For several values in one transaction, write each with
    /// `serde_json::to_string`, and send them with [`notify_many`](Self::notify_many).
    ///
    /// ```no_run
    /// # async fn example(notifier: pgbell::Notifier) -> Result<(), pgbell::Error> {
    /// #[derive(serde::Serialize)]
    /// struct UserEvent {
    ///     user_id: i64,
    ///     action: String,
    /// }
    ///
    /// let event = UserEvent { user_id: 42, action: "login".to_owned() };
    /// notifier.notify_json("user_updates", &event).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// - [`ErrorKind::Misuse`] if the value cannot be written as JSON, such as a map whose keys are not strings. Nothing was sent. The
    ///   [source](std::error::Error::source) is the error of serde_json, whose text can contain a value if the implementation of `T` writes one
    ///   into it.
    /// - As [`notify`](Self::notify): a value of more than 7,999 bytes as JSON is a payload that is too long.
    ///
    /// # Panics
    /// Where the implementation of `T` panics. Nothing was sent.
    ///
    /// # Cancel safety
    /// As [`notify`](Self::notify).
    pub async fn notify_json<T>(&self, channel: impl AsRef<str>, value: &T) -> Result<(), Error>
    where
        T: Serialize + ?Sized,
    {
        self.notify(channel, written(value)?).await
    }

    /// Sends one notification to a topic of a channel, as [`notify_topic`](Self::notify_topic) does, with the value as JSON behind the separator.
    ///
    /// A subscription of a [`Hub`](crate::Hub) to the topic receives only the JSON. If the topic is a field of the value, use
    /// [`notify_json`](Self::notify_json) and [`TopicOf::json_field`](crate::TopicOf::json_field): then every subscription receives JSON.
    ///
    /// # Errors
    /// As [`notify_json`](Self::notify_json) and [`notify_topic`](Self::notify_topic).
    ///
    /// # Panics
    /// As [`notify_json`](Self::notify_json).
    ///
    /// # Cancel safety
    /// As [`notify`](Self::notify).
    pub async fn notify_topic_json<T>(
        &self,
        channel: impl AsRef<str>,
        topic: impl AsRef<str>,
        value: &T,
    ) -> Result<(), Error>
    where
        T: Serialize + ?Sized,
    {
        self.notify_topic(channel, topic, written(value)?).await
    }
}

/// Returns the value as JSON.
fn written(value: &(impl Serialize + ?Sized)) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|cause| {
        Error::caused(ErrorKind::Misuse, "the value cannot be written as JSON", cause)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn a_value_that_is_no_json_is_misuse_with_the_cause() {
        let error = written(&HashMap::from([((1, 2), 3)])).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misuse);
        assert_eq!(error.to_string(), "misuse: the value cannot be written as JSON");
        assert!(format!("{error:#}").ends_with(": key must be a string"), "{error:#}");
        assert_eq!(written("a\0\"").unwrap(), r#""a\u0000\"""#);
    }
}
