//! [`ListenerHandle`]: commands to a listener from any task, while another one receives.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, oneshot};

use super::command_queue::{CommandQueue, HandleCall, QueuedCall};
use super::shared::ListenerShared;
use super::stats::Stats;
use crate::error::{Error, ErrorKind};
use crate::proto::session::{Rows, channel_name, channel_names};
use crate::proto::supervisor::{ChannelState, Command, Listening, Owner, Reply, State};

/// A handle to a [`Listener`](super::Listener): it listens, queries, reads the state and closes, from any task, while another
/// task receives.
///
/// # The command queue
/// Commands of all handles go to the listener's task through one queue, which holds them until they are answered: those that
/// were sent, and those that wait for a query, a heartbeat or a handover. Its limit is 1 MiB. Each call takes 512 bytes, the
/// SQL of its query, and 64 bytes and the name for each channel. A call that is larger than the queue takes all of it.
///
/// While the queue is full, [`listen`](Self::listen), [`listen_all`](Self::listen_all), [`unlisten`](Self::unlisten),
/// [`unlisten_all`](Self::unlisten_all), [`simple_query`](Self::simple_query),
/// [`notification_queue_usage`](Self::notification_queue_usage), [`rotate`](Self::rotate) and [`channels`](Self::channels) wait
/// for room. They get it in the order in which they were first polled, and their commands are sent in this order. There is no
/// time limit.
///
/// - If the future of a call that waits for room is dropped, the call is withdrawn: nothing is sent, and nothing changes.
/// - When the listener drains, closes or ends, calls that wait for room return [`ErrorKind::Closed`]. They were not sent.
/// - [`close`](Self::close), [`drain`](Self::drain) and the drop of a [`ListenScope`](crate::ListenScope#other-calls-of-listen) never wait for
///   room, so they overtake calls that do.
/// - The methods that are not `async` do not use the queue, and never block.
///
/// ```no_run
/// # async fn example(listener: &pgbell::Listener) -> Result<(), pgbell::Error> {
/// use pgbell::State;
///
/// let handle = listener.handle();
/// tokio::spawn(async move {
///     handle.wait_state(State::Connected).await?;
///     handle.listen("orders").await?;
///     for (channel, state) in handle.channels().await? {
///         println!("{channel}: {state:?}");
///     }
///     println!("the queue of the server: {}", handle.notification_queue_usage().await?);
///     Ok::<_, pgbell::Error>(())
/// });
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct ListenerHandle {
    queue: CommandQueue,
}

impl ListenerHandle {
    pub(crate) fn new(
        requests: mpsc::UnboundedSender<QueuedCall>,
        shared: Arc<ListenerShared>,
    ) -> Self {
        Self { queue: CommandQueue::new(requests, shared) }
    }

    pub(crate) fn shared(&self) -> &ListenerShared {
        self.queue.shared()
    }

    /// Listens to a channel.
    ///
    /// Returns `Active` if the server has committed the LISTEN: notifications that are committed from now on arrive. Returns
    /// `Pending` if there is no session, or if the session is lost before the answer: the next session will listen to the
    /// channel.
    ///
    /// In a database whose encoding is not UTF-8, a server truncates a name that is too long in that encoding, and reports
    /// this only with a notice. So before the LISTEN of a name with more than 31 bytes that is not ASCII,
    /// `client_min_messages` of the session is set to `notice`.
    ///
    /// # Errors
    /// - [`ErrorKind::Misuse`] if the name is empty, longer than 63 bytes, or contains a NUL. Nothing is sent.
    /// - The error of the server, if it refuses the channel.
    /// - [`ErrorKind::Closed`] if the listener has ended.
    ///
    /// # Cancel safety
    /// The listener listens to the channel even if the future is dropped, unless it waits for [room](Self#the-command-queue).
    pub async fn listen(&self, channel: impl AsRef<str>) -> Result<Listening, Error> {
        self.listen_all([channel]).await
    }

    /// Listens to channels in one transaction and one round trip: to all of them or, if the server refuses one, to none.
    ///
    /// Keep the number of channels of a listener below 1,000. PostgreSQL up to 18 compares every notification of the database
    /// with each of them (2 ns), and every LISTEN too, so that the time to listen to all of them grows with the square of their
    /// number. The server sends nothing during that time: 30,000 channels in one call took 1 s, 200,000 took 73 s. The
    /// listener waits up to five minutes longer than usual for the answer, and does not detect a dead connection during that
    /// time. A handover listens to them in groups, and commands wait for its end. With the feature `tracing` a warning is logged
    /// if there are more than 1,000.
    ///
    /// # Errors
    /// See [`listen`](Self::listen). An empty list is [`ErrorKind::Misuse`].
    ///
    /// # Cancel safety
    /// See [`listen`](Self::listen).
    pub async fn listen_all(
        &self,
        channels: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Result<Listening, Error> {
        // A wrong name does not wait for room.
        match self.command(Command::Listen(channel_names(channels)?)).await? {
            Reply::Listening(listening) => Ok(listening),
            reply => Err(mismatch(&reply)),
        }
    }

    /// Stops listening to a channel. Notifications that are committed after this has returned do not arrive. Notifications
    /// that are queued are still delivered.
    ///
    /// # Errors
    /// See [`listen`](Self::listen).
    ///
    /// # Cancel safety
    /// The listener stops listening even if the future is dropped, unless it waits for [room](Self#the-command-queue).
    pub async fn unlisten(&self, channel: impl AsRef<str>) -> Result<(), Error> {
        self.command(Command::Unlisten(vec![channel_name(channel.as_ref())?])).await.map(drop)
    }

    /// Stops listening to these channels, in one round trip.
    pub(crate) async fn unlisten_many(&self, channels: &[Arc<str>]) -> Result<(), Error> {
        let channels = channels.iter().map(|channel| channel.to_string()).collect();
        self.command(Command::Unlisten(channels)).await.map(drop)
    }

    /// Stops listening to these channels, without waiting for room. Returns the answer, which is dropped if the listener has ended.
    pub(super) fn leave(&self, channels: &[Arc<str>]) -> oneshot::Receiver<Result<Reply, Error>> {
        let (reply, answer) = oneshot::channel();
        self.queue.leave(channels.iter().map(|channel| channel.to_string()).collect(), reply);
        answer
    }

    /// Stops listening to every channel.
    ///
    /// # Errors
    /// See [`listen`](Self::listen).
    ///
    /// # Cancel safety
    /// The listener stops listening even if the future is dropped, unless it waits for [room](Self#the-command-queue).
    pub async fn unlisten_all(&self) -> Result<(), Error> {
        self.command(Command::UnlistenAll).await.map(drop)
    }

    /// Runs SQL on the listening session with the simple query protocol.
    ///
    /// - Notifications are not delivered until the query has ended, so keep it short.
    /// - A transaction that it leaves open is rolled back, and an error is returned.
    /// - The listener sets no time limit: add one if you need it. While the query runs, only TCP keepalive checks the connection,
    ///   and a server process that is stopped is not detected.
    /// - Use [`listen`](Self::listen) and [`unlisten`](Self::unlisten) for channels. If a query changes the channels of the
    ///   session, the next [heartbeat](crate::ListenerBuilder::heartbeat) detects it, and the session is replaced, with a
    ///   [`Gap`](crate::Gap).
    ///
    /// # Errors
    /// - The error of the server.
    /// - A result larger than [`Config::result_limit_bytes`](crate::Config::result_limit_bytes), by default 64 MiB. The statement
    ///   was executed.
    /// - COPY.
    /// - [`ErrorKind::Misuse`] if the SQL contains a NUL: nothing is sent.
    /// - [`ErrorKind::Misuse`] if the query left a transaction open, which was rolled back. Transactions that the query had
    ///   already committed stay committed. If the server refused a part of the query, its error is the
    ///   [`source`](std::error::Error::source).
    /// - [`ErrorKind::Connect`], which is transient, if there is no session, or it was lost before the query was sent completely.
    /// - [`ErrorKind::InDoubt`] if the session was lost before the answer, or before an open transaction was rolled back, or if
    ///   the runtime of the listener ended.
    /// - [`ErrorKind::InDoubt`] if the error may be the report of a dropped notification, which looks like an answer: the server
    ///   may execute the query, and the error of the server is the [`source`](std::error::Error::source). These are errors of
    ///   class 53, 58 or XX outside of a transaction, and 22021 or 22P05 if the database is not UTF-8, of a server before 18.2,
    ///   17.8, 16.12, 15.16 and 14.21. The consumer receives a [`Gap`](crate::Gap) in any case.
    /// - [`ErrorKind::Closed`] if the listener has ended.
    ///
    /// # Cancel safety
    /// The query is executed even if the future is dropped, unless it waits for [room](Self#the-command-queue).
    pub async fn simple_query(&self, sql: impl Into<String>) -> Result<Vec<Rows>, Error> {
        match self.command(Command::SimpleQuery(sql.into())).await? {
            Reply::Rows(rows) => Ok(rows),
            reply => Err(mismatch(&reply)),
        }
    }

    /// Returns how full the notification queue of the server is, from 0 to 1: `pg_notification_queue_usage()`.
    ///
    /// All databases of a server share one queue. If it is full, NOTIFY fails.
    ///
    /// # Errors
    /// See [`simple_query`](Self::simple_query). After [`ErrorKind::InDoubt`] it can be called again, because it changes nothing.
    ///
    /// # Cancel safety
    /// It changes nothing.
    pub async fn notification_queue_usage(&self) -> Result<f64, Error> {
        // One queue for all databases: N37.
        let results = match self.command(Command::QueueUsage).await? {
            Reply::Rows(results) => results,
            reply => return Err(mismatch(&reply)),
        };
        let usage = results.first().and_then(|rows| rows.get(0)?.get(0)?.parse().ok());
        usage.ok_or_else(|| {
            Error::new(ErrorKind::Protocol, "the server did not return its queue usage")
        })
    }

    /// Begins a handover: a new session replaces the current one, without a gap and without duplicates.
    ///
    /// Use it when a password has changed, or to move to another server process. It returns when the handover has begun.
    /// [`Stats::handovers`] counts those that have succeeded. If the handover fails, the current session continues, and the
    /// handover is tried again after a delay; see [`Stats::handover_failures`] and [`last_error`](Self::last_error).
    ///
    /// After every call there will be a session whose opening began after the call:
    ///
    /// - Between two attempts to connect it returns at once: the next attempt reads the password and the parameters again.
    /// - An attempt to connect that is in progress, also that of a handover, may have read the old password. It is not cancelled:
    ///   its session becomes the current one, and is then replaced at once. Several calls during the attempt cause only one
    ///   more handover.
    /// - While two sessions are exchanged, or a new session begins to listen to its channels, the call waits for the end of
    ///   that, and then begins.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`] if the listener has ended.
    ///
    /// # Cancel safety
    /// The handover begins even if the future is dropped, unless it waits for [room](Self#the-command-queue).
    pub async fn rotate(&self) -> Result<(), Error> {
        self.command(Command::Rotate).await.map(drop)
    }

    /// Returns the wanted channels, sorted, with their states. A channel that is being left is one of them until the server has answered.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`] if the listener has ended.
    ///
    /// # Cancel safety
    /// It changes nothing.
    pub async fn channels(&self) -> Result<Vec<(String, ChannelState)>, Error> {
        let (reply, answer) = oneshot::channel();
        let _waits = self.queue.send(HandleCall::Channels(reply))?;
        answer.await.map_err(|_| self.shared().closed())
    }

    /// Returns the state of the listener.
    #[must_use]
    pub fn state(&self) -> State {
        self.shared().state()
    }

    /// Waits until the listener is in this state, or was in it since the call. Returns at once if it is in this state.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`] if the listener has ended and cannot enter this state.
    ///
    /// # Cancel safety
    /// It changes nothing.
    pub async fn wait_state(&self, state: State) -> Result<(), Error> {
        if self.shared().state.wait(state).await { Ok(()) } else { Err(self.shared().closed()) }
    }

    /// Returns the last error: of a lost session, or a failed attempt, heartbeat, handover or hook.
    #[must_use]
    pub fn last_error(&self) -> Option<Error> {
        self.last_error_at().map(|(_, error)| error)
    }

    /// Returns the last error and its time. The error stays after the listener has recovered.
    #[must_use]
    pub fn last_error_at(&self) -> Option<(SystemTime, Error)> {
        self.shared().last_error()
    }

    /// Returns the statistics of the listener.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared().stats()
    }

    /// Returns the process id of the session in the server. `None` while there is no session, after the end, and if the server
    /// sent none in the login (BackendKeyData).
    #[must_use]
    pub fn process_id(&self) -> Option<i32> {
        self.shared().process_id()
    }

    /// Stops listening to every channel, waits until all notifications that were committed before are in the queue, and ends
    /// the listener as [`close`](Self::close) does.
    ///
    /// The consumer continues to receive: all queued notifications, and then [`ErrorKind::Closed`]. What the full queue cannot
    /// take is dropped and reported as [`Lagged`](crate::Lagged); `drain` still returns `Ok`. Receive in another task while it
    /// drains.
    ///
    /// Before the listener stops listening, it checks with a [`heartbeat`](crate::ListenerBuilder::heartbeat) that the session
    /// listens to every wanted channel. If the server refuses that query, a simpler one is sent.
    ///
    /// If there is no session, the outage is reported as a [`Gap`](crate::Gap), and the listener ends.
    ///
    /// # Errors
    /// - [`ErrorKind::Timeout`] if it takes longer than `timeout`.
    /// - The error by which the session was lost.
    /// - The error of the server, usually [`ErrorKind::Server`], if it refused every heartbeat. Notifications that arrived were
    ///   delivered, but it is unknown whether the session listened until the end.
    /// - [`ErrorKind::Closed`] if the listener had ended before, or was draining: the first call decides, and this one returns at
    ///   once.
    ///
    /// After each of the others the listener has ended.
    ///
    /// # Cancel safety
    /// The listener drains even if the future is dropped.
    pub async fn drain(&self, timeout: Duration) -> Result<(), Error> {
        let (reply, answer) = oneshot::channel();
        let drained = match self.queue.drain(Command::Drain { timeout }, reply) {
            Ok(()) => answer.await.unwrap_or_else(|_| Err(self.shared().closed())).map(drop),
            // The first drain has its own timeout.
            Err(refusal) => return Err(refusal),
        };
        let _ = self.wait_state(State::Closed).await;
        drained
    }

    /// Ends the session and the listener. Queued notifications are still delivered, and then `recv` returns
    /// [`ErrorKind::Closed`].
    ///
    /// This takes at most [`close_timeout`](crate::ListenerBuilder::close_timeout), by default a second.
    ///
    /// The socket is read until the server has ended the session. Every notification that was read is delivered, also after a
    /// [stall](crate::Overflow::Block). For this the queue may exceed
    /// [`queue_capacity`](crate::ListenerBuilder::queue_capacity), but not
    /// [`queue_bytes`](crate::ListenerBuilder::queue_bytes). Notifications that do not fit are reported as
    /// [`Lagged`](crate::Lagged).
    ///
    /// During a [handover](Self::rotate) this is true for the old session, until the new session replaces it. If the new session
    /// has received the fence notification, at which the sessions are exchanged, and the old session ends before it has received
    /// the notifications that the new one has read, the last event is a [`Gap`](crate::Gap). Notifications that the new session
    /// read before the fence are not counted.
    ///
    /// It returns at once if the listener has ended.
    ///
    /// # Cancel safety
    /// The listener closes even if the future is dropped.
    pub async fn close(&self) {
        if self.send_close() {
            let _ = self.wait_state(State::Closed).await;
        }
    }

    /// Requests the end without waiting. Returns whether there is a task.
    pub(crate) fn send_close(&self) -> bool {
        self.queue.close()
    }

    async fn command(&self, command: Command) -> Result<Reply, Error> {
        let (reply, answer) = oneshot::channel();
        // Other commands can be repeated, but a query may have been executed.
        let is_query = matches!(command, Command::SimpleQuery(_) | Command::QueueUsage);
        let _waits = self.queue.send(HandleCall::Command(command, Some(reply)))?;
        answer.await.unwrap_or_else(|_| {
            let closed = self.shared().closed();
            Err(if is_query { in_doubt(self.shared().owner(), closed) } else { closed })
        })
    }
}

/// Returns the error of a query whose answer had not arrived when the task ended.
#[cold]
fn in_doubt(owner: Owner, cause: Error) -> Error {
    Error::caused(
        ErrorKind::InDoubt,
        format!(
            "the {owner}'s task ended before the server answered, and the query may have been carried out"
        ),
        cause,
    )
}

/// Returns the error for a reply of the wrong kind.
#[cold]
fn mismatch(reply: &Reply) -> Error {
    Error::new(ErrorKind::Closed, format!("the reply does not belong to the command: {reply:?}"))
}
