//! Acting on a listener while another task receives.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::shared::{Shared, Stats};
use crate::session::Rows;
use crate::supervisor::{Command, Listening, Reply, State};
use crate::{Error, ErrorKind};

/// What a handle asks of the task.
#[derive(Debug)]
pub(super) enum Request {
    /// To be decided by the supervisor.
    Command(Command, Option<oneshot::Sender<Result<Reply, Error>>>),
    /// The wanted channels, and how far each is.
    Channels(oneshot::Sender<Vec<(String, Listening)>>),
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
    ///
    /// # Errors
    /// What the server refuses, a result of more than 64 MiB, COPY; [`ErrorKind::Closed`] when no
    /// session is up, [`ErrorKind::InDoubt`] when it was lost before the answer.
    ///
    /// # Cancel safety
    /// A dropped future does not take the query back.
    pub async fn simple_query(&self, sql: impl Into<String>) -> Result<Vec<Rows>, Error> {
        match self.command(Command::SimpleQuery(sql.into())).await? {
            Reply::Rows(rows) => Ok(rows),
            reply => Err(mismatch(&reply)),
        }
    }

    /// The wanted channels, and whether the server has confirmed each.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`] when the listener is over.
    ///
    /// # Cancel safety
    /// Nothing is changed.
    pub async fn channels(&self) -> Result<Vec<(String, Listening)>, Error> {
        let (reply, answer) = oneshot::channel();
        self.send(Request::Channels(reply))?;
        answer.await.map_err(|_| self.shared.closed())
    }

    /// The state of the listener.
    #[must_use]
    pub fn state(&self) -> State {
        self.shared.state()
    }

    /// Waits until the listener is in this state. Returns at once when it is.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`] when it never will be: the listener is over.
    ///
    /// # Cancel safety
    /// Nothing is changed.
    pub async fn wait_state(&self, state: State) -> Result<(), Error> {
        let mut watch = self.shared.watch();
        loop {
            let current = *watch.borrow_and_update();
            if current == state {
                return Ok(());
            }
            if current == State::Closed || watch.changed().await.is_err() {
                return Err(self.shared.closed());
            }
        }
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

    /// Ends the session and the listener. What is queued is still delivered, then `recv` returns
    /// [`ErrorKind::Closed`]. Takes at most a second.
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
        self.send(Request::Command(command, Some(reply)))?;
        answer.await.map_err(|_| self.shared.closed())?
    }

    fn send(&self, request: Request) -> Result<(), Error> {
        self.requests.send(request).map_err(|_| self.shared.closed())
    }
}

/// The supervisor answered another command than the one that was given.
#[cold]
fn mismatch(reply: &Reply) -> Error {
    Error::new(ErrorKind::Closed, format!("the answer does not belong to the command: {reply:?}"))
}
