//! Sending notifications from many tasks over one connection.

mod builder;
mod call;
mod group;
#[cfg(feature = "json")]
mod json;
mod link;
mod machine;
mod nudge;
mod outcome;
mod pipeline;
mod queue;
mod request;
mod session_state;
mod stats;
mod task;
mod telemetry;
#[cfg(test)]
mod tests;
mod transaction;
mod waiting;

use std::fmt;
use std::sync::Weak;

pub use self::builder::NotifierBuilder;
use self::group::Group;
use self::nudge::Nudges;
#[allow(unused_imports, reason = "only wake-ups use it")]
pub(crate) use self::nudge::{Nudge, NudgeSource, NudgeTarget};
use self::queue::RequestQueue;
use self::request::Message;
pub use self::stats::NotifierStats;
use crate::config::Config;
use crate::error::Error;
use crate::net::SessionProcessId;
use crate::notification::topic;
use crate::proto::supervisor::State;
use crate::proto::wire;

/// Sends notifications. Cheap to clone; all clones share one connection.
///
/// A notification is committed when its future resolves. Channels and payloads are bound parameters; their sizes are
/// checked before anything is sent. The limits of time and memory are described at [`NotifierBuilder`].
///
/// # Group commit
/// A lone call is sent at once. Calls of many tasks that are made while it is unanswered are sent together, as one transaction, when
/// the answer arrives: at most 1,000 calls and 256 KiB in each. Each call still has its own answer:
/// - If the server refuses a group because of one invalid notification, the group is sent again in halves until that one is refused
///   alone. An error that concerns all of them, such as a full notification queue, is the answer to all.
/// - PostgreSQL delivers equal notifications of one transaction only once. Therefore a group never has two calls with the same
///   channel and payload: the second one goes into the next transaction, which waits for no answer.
///
/// One session commits notifications in the order in which the calls were accepted: that is the order in which they got room in the
/// [queue](NotifierBuilder::queue_bytes), and calls of several tasks may be accepted in another order than they were made. There are two
/// exceptions: the notifications of a group that was refused, and those that are in doubt after their session was lost. The server may
/// commit the latter after later calls on the next session. A call of [`notify_many`](Self::notify_many) is one transaction of its own, and
/// waits for no answer to another one.
///
/// # Reconnecting
/// After its session is lost, a notifier connects again, with [delays](NotifierBuilder::backoff). Calls whose notifications were sent
/// and not confirmed return [`ErrorKind::InDoubt`](crate::ErrorKind::InDoubt), and are not sent again. What was not sent waits for
/// the next session, at most one answer timeout after the call. [`state`](Self::state) says whether there is a session.
/// [`reconnect(false)`](NotifierBuilder::reconnect) switches it off: then every later call returns
/// [`ErrorKind::Closed`](crate::ErrorKind::Closed), with the cause. A refusal, such as a password that is no longer valid, has the same
/// effect, unless [`retry_refusals`](NotifierBuilder::retry_refusals) is set.
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
    queue: RequestQueue,
    nudges: Nudges,
    /// The byte between topic and payload.
    separator: u8,
}

impl Notifier {
    /// Connects, and starts the task that drives the connection.
    ///
    /// If the server ends idle sessions (`idle_session_timeout`), that is switched off for this session, except behind a
    /// pooler.
    ///
    /// # Errors
    /// As [`NotifierBuilder::connect`].
    ///
    /// # Panics
    /// Outside a tokio runtime, and in a runtime without timers or I/O: use `#[tokio::main]`, or `enable_all` of the runtime's
    /// [`Builder`](tokio::runtime::Builder).
    ///
    /// # Cancel safety
    /// Dropping the future closes the socket.
    pub async fn connect(config: impl TryInto<Config, Error: Into<Error>>) -> Result<Self, Error> {
        Self::builder(config).connect().await
    }

    /// Returns a builder, to change the default settings.
    pub fn builder(config: impl TryInto<Config, Error: Into<Error>>) -> NotifierBuilder {
        NotifierBuilder::new(config.try_into().map_err(Into::into))
    }

    /// Sends one notification. It is committed when this returns.
    ///
    /// It waits while the [queue](NotifierBuilder::queue_bytes) is full. Altogether it takes at most twice the
    /// [answer timeout](NotifierBuilder::answer_timeout), 60 s by default, whatever the server does.
    ///
    /// # Errors
    /// After these errors, nothing was committed:
    /// - [`ErrorKind::Misuse`](crate::ErrorKind::Misuse) for a channel that is empty, longer than 63 bytes or contains a
    ///   NUL, and for a payload longer than 7,999 bytes or with a NUL,
    /// - the error of the server, if it refuses the notification: [transient](crate::Error::is_transient) if its notification queue
    ///   is full,
    /// - [`ErrorKind::Timeout`](crate::ErrorKind::Timeout) when it could not be sent within one answer timeout; the source is the error
    ///   by which the session was lost, if there is none,
    /// - [`ErrorKind::Closed`](crate::ErrorKind::Closed) when the notifier is closed, or has ended before it was sent.
    ///
    /// [`ErrorKind::InDoubt`](crate::ErrorKind::InDoubt) when it was sent and its commit is not confirmed: the connection
    /// ended, two answer timeouts passed, the runtime of the notifier ended, or the server answered inside a
    /// transaction of another client, with too many bytes, or with something that is not the answer to a notification.
    ///
    /// # Cancel safety
    /// Dropping the future does not withdraw a notification that was accepted.
    pub async fn notify(
        &self,
        channel: impl AsRef<str>,
        payload: impl AsRef<str>,
    ) -> Result<(), Error> {
        let (channel, payload) = (channel.as_ref(), payload.as_ref());
        wire::check_channel(channel)?;
        wire::check_payload(payload)?;
        let message =
            || Message::Notify { channel: channel.to_owned(), payload: payload.to_owned() };
        self.queue.send(channel.len() + payload.len(), message).await
    }

    /// Sends one notification to a topic of a channel: the payload is `topic`, the separator, and `payload`. It is committed when this
    /// returns.
    ///
    /// Subscriptions of a [`Hub`](crate::Hub) to the topic receive `payload`; those to the channel, and a
    /// [`Listener`](crate::Listener), receive all of it, and [`TopicOf::split`](crate::TopicOf::split) takes it apart. The separator is
    /// `:`, unless [`topic_separator`](NotifierBuilder::topic_separator) sets another one.
    ///
    /// # Errors
    /// - [`ErrorKind::Misuse`](crate::ErrorKind::Misuse) if the topic is empty or contains the separator, and if topic, separator and payload
    ///   have more than 7,999 bytes together.
    /// - As [`notify`](Self::notify).
    ///
    /// # Cancel safety
    /// As [`notify`](Self::notify).
    pub async fn notify_topic(
        &self,
        channel: impl AsRef<str>,
        topic: impl AsRef<str>,
        payload: impl AsRef<str>,
    ) -> Result<(), Error> {
        let (topic, payload) = (topic.as_ref(), payload.as_ref());
        topic::check_topic(topic, self.separator)?;
        let separator = char::from(self.separator);
        self.notify(channel, format!("{topic}{separator}{payload}")).await
    }

    /// Sends notifications in one transaction, in this order: all of them or none. Returns their number.
    ///
    /// PostgreSQL delivers notifications of one transaction that have the same channel and payload only once. Without any
    /// notification nothing is sent, and 0 is returned.
    ///
    /// The same timeouts apply as to [`notify`](Self::notify), and they include the transfer: raise the
    /// [answer timeout](NotifierBuilder::answer_timeout) for a very large group.
    ///
    /// # Errors
    /// As [`notify`](Self::notify), for the first notification that is refused;
    /// [`ErrorKind::Misuse`](crate::ErrorKind::Misuse) if they are longer than 1 GiB together.
    ///
    /// # Cancel safety
    /// Dropping the future does not withdraw notifications that were accepted.
    pub async fn notify_many(
        &self,
        notifications: impl IntoIterator<Item = (impl AsRef<str>, impl AsRef<str>)>,
    ) -> Result<u64, Error> {
        let mut group = Group::new();
        for (channel, payload) in notifications {
            group.push(channel.as_ref(), payload.as_ref())?;
        }
        let count = group.count();
        if count == 0 {
            return Ok(0);
        }
        let bytes = group.bytes();
        let message = || {
            let (channels, payloads) = group.finish();
            Message::Many { channels, payloads }
        };
        self.queue.send(bytes, message).await?;
        Ok(count)
    }

    /// Wakes the consumers of a channel, outside of any transaction: sends a notification with `key` as its payload. An empty key is a nudge
    /// without a key.
    ///
    /// Call it after the COMMIT of what the consumers must read. It returns at once: it waits for nothing, and reports no error. A nudge can
    /// be lost, if this process ends before it is sent, or if it is [dropped](NotifierStats::nudges_dropped). Therefore a consumer must
    /// also read at an interval, as those of [`Wakeups`](crate::Wakeups) do.
    ///
    /// A `pg_notify` in the transaction of the writer makes all such transactions wait for each other until each of them is on disk. A nudge
    /// makes none of them wait: it has a transaction of its own, with `synchronous_commit` off. The chapter
    /// [`publishing`](crate::guide::publishing) has measurements and recipes.
    ///
    /// - The first nudge is sent at once. Those that are made within a [window](NotifierBuilder::nudge_window) of 10 ms are sent together, each
    ///   channel and key once.
    /// - Nudges have a session of their own, on a primary, which is opened by the first one, and reconnects as the notifier does, also after a
    ///   refused login. A nudge is kept until the server has confirmed it. If that is in doubt, it is sent again.
    /// - If the server does not answer within the [answer timeout](NotifierBuilder::answer_timeout), the command is cancelled with a
    ///   CancelRequest, and the next session is opened.
    /// - [`Wakeups`](crate::Wakeups) of this process that are [attached](crate::Wakeups::attach) are woken at once, without the server.
    /// - A channel that is empty, longer than 63 bytes or contains a NUL, and a key that is longer than 7,999 bytes or contains a NUL, are
    ///   dropped. So are nudges that the server refuses. They are kept, and sent again with the delays of
    ///   [`backoff`](NotifierBuilder::backoff), while its notification queue is full, and after every other error that may pass:
    ///   [`is_transient`](Error::is_transient), a lock timeout (55P03), a statement timeout or a cancel (57014). After a repeated statement
    ///   timeout fewer are sent together.
    /// - If more than 1,024 keys of a channel wait, or 1 MiB of keys of all channels, those of the channel become one nudge without a key:
    ///   everything must be read. If nudges for 1,024 channels wait, those for others are dropped.
    ///
    /// [`stats`](Self::stats) counts nudges, [`last_nudge_error`](Self::last_nudge_error) has the last error, and with the feature `tracing` the
    /// first nudge that is dropped is logged, and so is the end of all nudges: by [`reconnect(false)`](NotifierBuilder::reconnect) after a lost
    /// session or a failed attempt to open it, also the first one, or with the runtime.
    ///
    /// ```no_run
    /// # async fn insert_job(_: &str) -> Result<i64, pgbell::Error> { Ok(1) }
    /// # async fn example(notifier: pgbell::Notifier) -> Result<(), pgbell::Error> {
    /// // BEGIN; INSERT …; COMMIT
    /// let id = insert_job("mail").await?;
    /// notifier.nudge("jobs", &id.to_string());
    /// # Ok(())
    /// # }
    /// ```
    pub fn nudge(&self, channel: &str, key: &str) {
        self.nudges.nudge(channel, key);
    }

    /// Returns the error of the last nudge that was dropped, or of the session of the nudges: of the last one that was lost, of the last
    /// attempt to open one, or of the last time that the server refused nudges and they were kept.
    #[must_use]
    pub fn last_nudge_error(&self) -> Option<Error> {
        self.nudges.last_error()
    }

    /// Waits for the answers to all accepted calls and nudges, and ends the sessions. Other calls, also those that
    /// wait for room in the queue, return [`ErrorKind::Closed`](crate::ErrorKind::Closed) from now on.
    ///
    /// Takes at most the [answer timeout](NotifierBuilder::answer_timeout) and one second, 31 s by default, however
    /// full the queue is and whatever the server does. Calls that are unanswered then return
    /// [`ErrorKind::InDoubt`](crate::ErrorKind::InDoubt) if they were sent, otherwise
    /// [`ErrorKind::Closed`](crate::ErrorKind::Closed), and nudges are dropped and counted. When the last clone is dropped, the same
    /// happens in the background.
    ///
    /// # Cancel safety
    /// The close begins with the call, not when the future is polled first. Dropping the future does not cancel it.
    pub fn close(self) -> impl Future<Output = ()> {
        let (calls, nudges) = (self.queue.close(), self.nudges.close());
        async move {
            calls.await;
            nudges.await;
        }
    }

    /// Returns the process id of the server process: the
    /// [`process_id`](crate::Notification::process_id) of notifications that this notifier sends. `None` if the server sent
    /// none in the login (BackendKeyData). It changes with the session. While there is none, it is that of the last one.
    #[must_use]
    pub fn process_id(&self) -> Option<i32> {
        self.queue.process_id()
    }

    /// Returns the state: [`Connected`](State::Connected), [`Reconnecting`](State::Reconnecting) or [`Closed`](State::Closed).
    #[must_use]
    pub fn state(&self) -> State {
        self.queue.state()
    }

    /// Waits until the notifier is in this state, or was in it since the call. Returns at once if it is in this state.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`](crate::ErrorKind::Closed) if the notifier has ended and cannot enter this state.
    ///
    /// # Cancel safety
    /// It changes nothing.
    pub fn wait_state(&self, state: State) -> impl Future<Output = Result<(), Error>> {
        self.queue.wait_state(state)
    }

    /// Returns the statistics. A call is counted before it returns.
    #[must_use]
    pub fn stats(&self) -> NotifierStats {
        self.nudges.counts().add_to(self.queue.stats())
    }

    /// Returns the error of the last lost session or failed attempt to connect. It stays after the notifier has reconnected.
    #[must_use]
    pub fn last_error(&self) -> Option<Error> {
        self.queue.last_error()
    }

    /// Wakes `target` by all further nudges.
    pub(crate) fn attach(&self, target: &Weak<dyn NudgeTarget>) {
        self.nudges.attach(target);
    }

    /// Returns the process id of the session while there is one.
    pub(crate) fn session_process_id(&self) -> &SessionProcessId {
        self.queue.session()
    }
}

impl fmt::Debug for Notifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notifier").field("process_id", &self.process_id()).finish_non_exhaustive()
    }
}
