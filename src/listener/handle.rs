//! Acting on a listener while another task receives.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, oneshot};

use super::shared::{Shared, Stats};
use crate::session::Rows;
use crate::supervisor::{ChannelState, Command, Listening, Reply, State};
use crate::{Error, ErrorKind};

/// What a handle asks of the task.
#[derive(Debug)]
pub(super) enum Request {
    /// To be decided by the supervisor.
    Command(Command, Option<oneshot::Sender<Result<Reply, Error>>>),
    /// The wanted channels, and how far each is.
    Channels(oneshot::Sender<Vec<(String, ChannelState)>>),
}

/// A handle to a [`Listener`](super::Listener): subscribe, query, look and close, from any task, while
/// another one receives.
#[derive(Debug, Clone)]
pub struct ListenerHandle {
    requests: mpsc::UnboundedSender<Request>,
    shared: Arc<Shared>,
}

impl ListenerHandle {
    pub(super) fn new(requests: mpsc::UnboundedSender<Request>, shared: Arc<Shared>) -> Self {
        Self { requests, shared }
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Listens to a channel. `Active`: the server has committed it, what is committed from now on
    /// arrives. `Pending`: no session is up, the wish is kept.
    ///
    /// In a database whose encoding is not UTF-8 the server cuts a name that is too long there, and says so in a notice
    /// only. Before a name of more than 31 bytes that is not ASCII, `client_min_messages` of the session is therefore set to
    /// `notice`.
    ///
    /// # Errors
    /// [`ErrorKind::Misuse`] for a name that is empty, longer than 63 bytes or holds a NUL: nothing is
    /// sent. What the server refuses; [`ErrorKind::Closed`] when the listener is over.
    ///
    /// # Cancel safety
    /// A dropped future does not take the wish back.
    pub async fn listen(&self, channel: impl Into<String>) -> Result<Listening, Error> {
        self.listen_all([channel]).await
    }

    /// Listens to channels in one transaction and one round trip: to all of them or, when the server
    /// refuses one, to none.
    ///
    /// Keep the channels of a listener below 1,000. PostgreSQL up to 18 compares every notification of the database with each
    /// of them (2 ns), and each LISTEN too: the time for all of them grows with the square of their number, and the
    /// server says nothing meanwhile: 30,000 in one call took a second, 200,000 took 73. It is waited for,
    /// for up to five minutes beyond the usual time; meanwhile a dead connection is not noticed. A handover restores them
    /// in groups, and commands wait for its end. With the feature `tracing` a warning is logged when there are more.
    ///
    /// # Errors
    /// As [`listen`](Self::listen); no channel at all is [`ErrorKind::Misuse`].
    ///
    /// # Cancel safety
    /// As [`listen`](Self::listen).
    pub async fn listen_all(
        &self,
        channels: impl IntoIterator<Item = impl Into<String>>,
    ) -> Result<Listening, Error> {
        let channels = channels.into_iter().map(Into::into).collect();
        match self.command(Command::Listen(channels)).await? {
            Reply::Listening(listening) => Ok(listening),
            reply => Err(mismatch(&reply)),
        }
    }

    /// Stops listening to a channel. Nothing that is committed after this returns arrives on it; what is
    /// queued already is still delivered.
    ///
    /// # Errors
    /// As [`listen`](Self::listen).
    ///
    /// # Cancel safety
    /// As [`listen`](Self::listen).
    pub async fn unlisten(&self, channel: impl Into<String>) -> Result<(), Error> {
        self.command(Command::Unlisten(vec![channel.into()])).await.map(drop)
    }

    /// Stops listening to every channel.
    ///
    /// # Errors
    /// As [`listen`](Self::listen).
    ///
    /// # Cancel safety
    /// As [`listen`](Self::listen).
    pub async fn unlisten_all(&self) -> Result<(), Error> {
        self.command(Command::UnlistenAll).await.map(drop)
    }

    /// Runs SQL on the listening session. Nothing is delivered until it is done, so keep it short; a
    /// transaction that it leaves open is rolled back, and is an error.
    /// A query may take as long as the server likes: put a time limit around it where that matters.
    /// While it runs TCP keepalive alone watches the connection, and a server process that is stopped is not
    /// noticed. Channels are the business of [`listen`](Self::listen) and [`unlisten`](Self::unlisten): if a
    /// query changes them, the next [proof](crate::ListenerBuilder::heartbeat) finds the subscription wrong, and the
    /// session is replaced, with a [`Gap`](crate::Gap).
    ///
    /// # Errors
    /// What the server refuses, a result larger than
    /// [`Config::result_limit_bytes`](crate::Config::result_limit_bytes) (64 MiB by default; the statement was carried
    /// out), COPY; [`ErrorKind::Misuse`] when the SQL holds a NUL (nothing is sent), and when the query left a transaction open:
    /// that was rolled back, what the query had committed before lasts, and what the server refused of it is the
    /// [`source`](std::error::Error::source) of the error; [`ErrorKind::Connect`], which is
    /// transient, when no session is up, or it was lost before all of the query was sent; [`ErrorKind::InDoubt`] when it
    /// was lost before the answer, or before a transaction that the query left open was rolled back, or the runtime of the
    /// listener ended; [`ErrorKind::Closed`] when the listener is over.
    ///
    /// [`ErrorKind::InDoubt`] too when the error may be the report of a dropped notification, which cannot be told from the
    /// answer: the server may carry out the query. That is an error of class 53, 58 or XX outside a transaction, and 22021 or
    /// 22P05 if the database is not UTF-8, of a server before 18.2, 17.8, 16.12, 15.16 and 14.21. The consumer receives a
    /// [`Gap`](crate::Gap) in any case.
    ///
    /// # Cancel safety
    /// A dropped future does not take the query back.
    pub async fn simple_query(&self, sql: impl Into<String>) -> Result<Vec<Rows>, Error> {
        match self.command(Command::SimpleQuery(sql.into())).await? {
            Reply::Rows(rows) => Ok(rows),
            reply => Err(mismatch(&reply)),
        }
    }

    /// How full the server's notification queue is, from 0 to 1: `pg_notification_queue_usage()`. It is one
    /// queue for all databases of the server; when it is full, NOTIFY fails. N37.
    ///
    /// # Errors
    /// As [`simple_query`](Self::simple_query), [`ErrorKind::InDoubt`] included: the query changes nothing, and can be asked
    /// again.
    ///
    /// # Cancel safety
    /// Nothing is changed.
    pub async fn notification_queue_usage(&self) -> Result<f64, Error> {
        let results = match self.command(Command::QueueUsage).await? {
            Reply::Rows(results) => results,
            reply => return Err(mismatch(&reply)),
        };
        let usage = results.first().and_then(|rows| rows.get(0)?.get(0)?.parse().ok());
        usage.ok_or_else(|| {
            Error::new(ErrorKind::Protocol, "the server does not say its queue usage")
        })
    }

    /// Lets another session take the place of the current one: listening first, then exchanged, without a
    /// gap and without anything delivered twice. For a password that has changed, or to move to another
    /// server process. Returns when it was begun;
    /// [`Stats::handovers`] says when it is done. If it fails, the current session goes on, and it is tried
    /// again after a delay: [`Stats::handover_failures`] and [`last_error`](Self::last_error) tell of that.
    ///
    /// Whenever it is called, what follows is a session whose opening began after the call:
    ///
    /// - Between two attempts to connect it returns at once: the next attempt reads password and parameters anew.
    /// - While an attempt is under way, or another session is being opened to take the place of the current one, that
    ///   attempt may have read the old password. It is not broken off: its session becomes the current one and is
    ///   replaced in its turn at once. However many calls come meanwhile, that is one more exchange.
    /// - While two sessions are being exchanged, or a session that was opened is being subscribed, the call waits for the end
    ///   of that, and then begins.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`] when the listener is over.
    ///
    /// # Cancel safety
    /// A dropped future does not take it back.
    pub async fn rotate(&self) -> Result<(), Error> {
        self.command(Command::Rotate).await.map(drop)
    }

    /// The wanted channels, sorted, and how far each has come.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`] when the listener is over.
    ///
    /// # Cancel safety
    /// Nothing is changed.
    pub async fn channels(&self) -> Result<Vec<(String, ChannelState)>, Error> {
        let (reply, answer) = oneshot::channel();
        self.send(Request::Channels(reply))?;
        answer.await.map_err(|_| self.shared.closed())
    }

    /// The state of the listener.
    #[must_use]
    pub fn state(&self) -> State {
        self.shared.state()
    }

    /// Waits until the listener is in this state, or was while this waited. Returns at once when it is.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`] when it never will be: the listener is over.
    ///
    /// # Cancel safety
    /// Nothing is changed.
    pub async fn wait_state(&self, state: State) -> Result<(), Error> {
        let mut watch = self.shared.watch();
        let before = watch.borrow().times(state);
        loop {
            let current = *watch.borrow_and_update();
            if current.state == state || current.times(state) != before {
                return Ok(());
            }
            if current.state == State::Closed || watch.changed().await.is_err() {
                return Err(self.shared.closed());
            }
        }
    }

    /// The last trouble there was: why the last session was lost, an attempt, a handover or a hook failed.
    #[must_use]
    pub fn last_error(&self) -> Option<Error> {
        self.last_error_at().map(|(_, error)| error)
    }

    /// As [`last_error`](Self::last_error), with when that was. It stays when the trouble is over.
    #[must_use]
    pub fn last_error_at(&self) -> Option<(SystemTime, Error)> {
        self.shared.last_error()
    }

    /// Figures as of now.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// Process id of the server's end.
    #[must_use]
    pub fn process_id(&self) -> Option<i32> {
        self.shared.process_id()
    }

    /// Stops listening to every channel and, when everything that was committed before stands in the queue,
    /// ends the session and the listener as [`close`](Self::close) does. The consumer goes on to receive
    /// meanwhile, and afterwards what is queued, then [`ErrorKind::Closed`].
    ///
    /// Before it stops, the server is asked to prove that the session listens to its channels, as for a
    /// [`heartbeat`](crate::ListenerBuilder::heartbeat). If the server refuses that query, a simpler one is sent.
    ///
    /// If no session is up, the loss is told as a [`Gap`](crate::Gap), and that is the end.
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`] when it takes longer than `deadline`; what the session was lost by; the refusal, usually
    /// [`ErrorKind::Server`], when the server refused every proof. Then what arrived was delivered, but whether the session
    /// listened until the end is not known. The listener is over in any case. [`ErrorKind::Closed`] when it was before.
    ///
    /// # Cancel safety
    /// A dropped future does not take it back.
    pub async fn drain(&self, deadline: Duration) -> Result<(), Error> {
        let drained = self.command(Command::Drain { within: deadline }).await.map(drop);
        let _ = self.wait_state(State::Closed).await;
        drained
    }

    /// Ends the session and the listener. What is queued is still delivered, then `recv` returns
    /// [`ErrorKind::Closed`]. Takes at most a second, or what
    /// [`close_timeout`](crate::ListenerBuilder::close_timeout) says.
    ///
    /// The socket is read until the server has ended the session. Every notification that was read is delivered, also those
    /// that a full queue has [held up](crate::Overflow::Block). The queue may exceed
    /// [`queue_capacity`](crate::ListenerBuilder::queue_capacity) for that, but not
    /// [`queue_bytes`](crate::ListenerBuilder::queue_bytes). Notifications that do not fit are reported as
    /// [`Lagged`](crate::Lagged).
    ///
    /// During a [handover](Self::rotate) this holds for the old session, until the new one takes its place. If the new session
    /// has received the notification at which the sessions are exchanged, and the old one ends before it has brought what
    /// was read of the new one, the last event is a [`Gap`](crate::Gap). What was read of the new session before that
    /// notification is not counted.
    ///
    /// # Errors
    /// None at present: to close twice is no error.
    ///
    /// # Cancel safety
    /// A dropped future does not take it back.
    pub async fn close(&self) -> Result<(), Error> {
        if self.send_close() {
            let _ = self.wait_state(State::Closed).await;
        }
        Ok(())
    }

    /// Asks for the end without waiting. Returns whether there is a task to ask.
    pub(super) fn send_close(&self) -> bool {
        self.requests.send(Request::Command(Command::Close, None)).is_ok()
    }

    async fn command(&self, command: Command) -> Result<Reply, Error> {
        let (reply, answer) = oneshot::channel();
        // LISTEN and the like can be asked for again. A query may have been carried out.
        let leaves_doubt = matches!(command, Command::SimpleQuery(_) | Command::QueueUsage);
        self.send(Request::Command(command, Some(reply)))?;
        answer.await.unwrap_or_else(|_| {
            let closed = self.shared.closed();
            Err(if leaves_doubt { in_doubt(closed) } else { closed })
        })
    }

    fn send(&self, request: Request) -> Result<(), Error> {
        self.requests.send(request).map_err(|_| self.shared.closed())
    }
}

/// The task ended with the query in hand.
#[cold]
fn in_doubt(cause: Error) -> Error {
    Error::caused(
        ErrorKind::InDoubt,
        "the listener's task ended before the server answered, it may have carried out the query",
        cause,
    )
}

/// The supervisor answered another command than the one that was given.
#[cold]
fn mismatch(reply: &Reply) -> Error {
    Error::new(ErrorKind::Closed, format!("the answer does not belong to the command: {reply:?}"))
}
