//! Sending notifications from many tasks over one connection.

mod builder;
mod gate;
mod pairs;
mod pipeline;
mod request;
mod task;
#[cfg(test)]
mod tests;

use std::fmt;

pub use self::builder::NotifierBuilder;
use self::gate::Gate;
use self::pairs::Pairs;
use self::request::Message;
use crate::{Config, Error, wire};

/// Sends notifications. Cheap to clone; all clones share one connection, over which commands are
/// pipelined: no call waits for the answer to another one.
///
/// Every notification is committed when its future resolves. Values are bound parameters; sizes are
/// checked before anything is sent. How long everything may take, and how much memory:
/// [`NotifierBuilder`].
///
/// The connection is not replaced when it is lost: from then on every call is
/// [`ErrorKind::Closed`](crate::ErrorKind::Closed), with the cause.
///
/// ```no_run
/// # async fn example() -> Result<(), pgbell::Error> {
/// use pgbell::Notifier;
///
/// let notifier = Notifier::connect("postgres://localhost/shop").await?;
/// notifier.notify("orders", "{\"id\": 1}").await?;
/// notifier.notify_many([("orders", "2"), ("stock", "3")]).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Notifier {
    gate: Gate,
}

impl Notifier {
    /// Connects, and starts the task that drives the connection.
    ///
    /// Where the server ends idle sessions (`idle_session_timeout`), that is switched off for this session, unless a
    /// pooler stands between.
    ///
    /// # Errors
    /// As [`NotifierBuilder::connect`].
    ///
    /// # Panics
    /// Outside a tokio runtime, and in one without timers or without I/O: `enable_all` of
    /// [`tokio::runtime::Builder`] gives both.
    ///
    /// # Cancel safety
    /// Dropping the future closes the socket.
    pub async fn connect(config: impl TryInto<Config, Error: Into<Error>>) -> Result<Self, Error> {
        Self::builder(config).connect().await
    }

    /// A notifier with other than the default settings.
    pub fn builder(config: impl TryInto<Config, Error: Into<Error>>) -> NotifierBuilder {
        NotifierBuilder::new(config.try_into().map_err(Into::into))
    }

    /// Sends one notification. It is committed when this returns.
    ///
    /// It waits while the [queue](NotifierBuilder::queue_bytes) is full. In all it takes at most twice the
    /// [answer timeout](NotifierBuilder::answer_timeout), 60 s by default, whatever the server does.
    ///
    /// # Errors
    /// Nothing was sent, or nothing was committed:
    /// [`ErrorKind::Misuse`](crate::ErrorKind::Misuse) for a channel that is empty, longer than 63 bytes or holds a
    /// NUL, and for a payload longer than 7,999 bytes or with a NUL; what the server refuses;
    /// [`ErrorKind::Timeout`](crate::ErrorKind::Timeout) when it could not be sent within one answer timeout;
    /// [`ErrorKind::Closed`](crate::ErrorKind::Closed) when the connection ended before it was sent.
    ///
    /// [`ErrorKind::InDoubt`](crate::ErrorKind::InDoubt) when it was sent and its commit is not confirmed: the connection
    /// ended, two answer timeouts are over, the runtime of the notifier ended, or the server answered inside a
    /// transaction of another client, with too many bytes, or with something that is no answer to a notification.
    ///
    /// # Cancel safety
    /// A dropped future does not take it back once it was accepted.
    pub async fn notify(&self, channel: &str, payload: impl AsRef<str>) -> Result<(), Error> {
        let payload = payload.as_ref();
        wire::check_channel(channel)?;
        wire::check_payload(payload)?;
        let message =
            || Message::Notify { channel: channel.to_owned(), payload: payload.to_owned() };
        self.gate.ask(channel.len() + payload.len(), message).await
    }

    /// Sends notifications in one transaction, in this order: all of them or none. Returns how many.
    ///
    /// PostgreSQL delivers equal pairs of channel and payload of one transaction once. None at all is
    /// no error, and sends nothing.
    ///
    /// It takes as long as [`notify`](Self::notify), and that includes the transfer: raise the
    /// [answer timeout](NotifierBuilder::answer_timeout) for very many bytes.
    ///
    /// # Errors
    /// As [`notify`](Self::notify), for the first pair that is refused; all of them together longer than
    /// 1 GiB are [`ErrorKind::Misuse`](crate::ErrorKind::Misuse).
    ///
    /// # Cancel safety
    /// A dropped future does not take them back once they were accepted.
    pub async fn notify_many(
        &self,
        notifications: impl IntoIterator<Item = (impl AsRef<str>, impl AsRef<str>)>,
    ) -> Result<u64, Error> {
        let mut pairs = Pairs::new();
        for (channel, payload) in notifications {
            pairs.push(channel.as_ref(), payload.as_ref())?;
        }
        let count = pairs.count();
        if count == 0 {
            return Ok(0);
        }
        let bytes = pairs.bytes();
        let message = || {
            let (channels, payloads) = pairs.finish();
            Message::Many { channels, payloads }
        };
        self.gate.ask(bytes, message).await?;
        Ok(count)
    }

    /// Ends the session cleanly, after everything that was accepted before has its answer. Other calls, those that
    /// wait for room in the queue among them, get [`ErrorKind::Closed`](crate::ErrorKind::Closed) from then on.
    ///
    /// Takes at most the [answer timeout](NotifierBuilder::answer_timeout) and one second, 31 s by default, however
    /// full the queue is and whatever the server does. What has no answer then is
    /// [`ErrorKind::InDoubt`](crate::ErrorKind::InDoubt) if it was sent, else
    /// [`ErrorKind::Closed`](crate::ErrorKind::Closed). When the last clone is dropped the same happens in the
    /// background.
    ///
    /// # Errors
    /// None at present.
    ///
    /// # Cancel safety
    /// A dropped future does not take it back.
    pub async fn close(self) -> Result<(), Error> {
        self.gate.close().await;
        Ok(())
    }

    /// Process id of the server's end: the
    /// [`process_id`](crate::Notification::process_id) of what this notifier sends.
    #[must_use]
    pub fn process_id(&self) -> Option<i32> {
        self.gate.process_id()
    }
}

impl fmt::Debug for Notifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notifier").field("process_id", &self.process_id()).finish_non_exhaustive()
    }
}
