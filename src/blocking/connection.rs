//! [`Connection`]: the connection of a thread.

use std::fmt;
use std::future::{Future, poll_fn};
use std::mem;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use super::reactor::Reactor;
use crate::config::Config;
use crate::error::{Error, ErrorKind};
use crate::notification::Batch;
use crate::proto::auth::AuthMethod;
use crate::proto::session::Rows;
use crate::proto::wire::TransactionStatus;

/// A [`Connection`](crate::Connection) for threads without async: the thread that calls reads the socket.
///
/// It has no background thread, unless it is used [inside of a tokio runtime](crate::blocking#inside-of-a-tokio-runtime). Each method
/// does what the method of the same name of [`pgbell::Connection`](crate::Connection) does. It has no queue and does not reconnect, and
/// a connection that listens must always be read.
///
/// ```no_run
/// # fn example() -> Result<(), pgbell::Error> {
/// use pgbell::blocking::Connection;
///
/// let mut connection = Connection::connect("postgres://localhost/shop")?;
/// connection.listen("orders")?;
/// loop {
///     for notification in connection.recv_batch()? {
///         println!("{}: {:?}", notification.channel(), notification.payload());
///     }
/// }
/// # }
/// ```
///
/// # Errors
/// Besides those of the asynchronous methods, every method that waits returns [`ErrorKind::Misuse`](crate::ErrorKind::Misuse) where
/// it [cannot wait](crate::blocking#where-a-call-cannot-wait). Nothing is sent then.
///
/// Dropping a connection closes its socket, without Terminate. In a process that was forked since it was opened, a drop does nothing: the
/// socket is that of the parent, which continues to use it.
pub struct Connection {
    /// Dropped before its runtime. `None` only after that, and after a close.
    connection: Option<crate::Connection>,
    reactor: Reactor,
}

impl Connection {
    /// Connects and logs in. See [`pgbell::Connection::connect`](crate::Connection::connect).
    ///
    /// Blocks until the login has succeeded or failed, at most `connect_timeout`, 10 s by default.
    ///
    /// # Errors
    /// See there. [`ErrorKind::Connect`](crate::ErrorKind::Connect) if the system has no file descriptors or threads left.
    pub fn connect(config: impl TryInto<Config, Error: Into<Error>>) -> Result<Self, Error> {
        let config = config.try_into().map_err(Into::into)?;
        let mut reactor = Reactor::new()?;
        let connection = reactor.run(Box::pin(crate::Connection::connect(config)))?;
        Ok(Self::new(connection, reactor))
    }

    pub(super) fn new(connection: crate::Connection, reactor: Reactor) -> Self {
        Self { connection: Some(connection), reactor }
    }

    /// Waits for a call of the asynchronous connection.
    fn run<'a, T, F>(
        &'a mut self,
        call: impl FnOnce(&'a mut crate::Connection) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        match &mut self.connection {
            Some(connection) => self.reactor.run(call(connection)),
            None => Err(Error::new(ErrorKind::Closed, "the connection is closed")),
        }
    }

    /// Waits for notifications. See [`pgbell::Connection::recv_batch`](crate::Connection::recv_batch).
    ///
    /// Blocks without a time limit.
    ///
    /// # Errors
    /// See there.
    pub fn recv_batch(&mut self) -> Result<Batch<'_>, Error> {
        self.run(|connection| connection.recv_batch())
    }

    /// Waits for notifications for this time. Returns `None` if none has arrived. Zero reads what is there.
    ///
    /// Blocks for `timeout`, rounded up to whole milliseconds. Zero does not wait.
    ///
    /// # Errors
    /// See [`recv_batch`](Self::recv_batch).
    pub fn recv_batch_timeout(&mut self, timeout: Duration) -> Result<Option<Batch<'_>>, Error> {
        self.run(|connection| async move {
            if timeout.is_zero() {
                return now(connection.recv_batch()).await.transpose();
            }
            tokio::time::timeout(timeout, connection.recv_batch()).await.ok().transpose()
        })
    }

    /// Listens to a channel. See [`pgbell::Connection::listen`](crate::Connection::listen).
    ///
    /// Blocks until the server has answered.
    ///
    /// # Errors
    /// See there.
    pub fn listen(&mut self, channel: impl AsRef<str>) -> Result<(), Error> {
        self.run(|connection| connection.listen(channel))
    }

    /// Listens to channels. See [`pgbell::Connection::listen_all`](crate::Connection::listen_all).
    ///
    /// Blocks until the server has answered.
    ///
    /// # Errors
    /// See there.
    pub fn listen_all(
        &mut self,
        channels: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Result<(), Error> {
        self.run(|connection| connection.listen_all(channels))
    }

    /// Stops listening to a channel. See [`pgbell::Connection::unlisten`](crate::Connection::unlisten).
    ///
    /// Blocks until the server has answered.
    ///
    /// # Errors
    /// See there.
    pub fn unlisten(&mut self, channel: impl AsRef<str>) -> Result<(), Error> {
        self.run(|connection| connection.unlisten(channel))
    }

    /// Stops listening to every channel. See [`pgbell::Connection::unlisten_all`](crate::Connection::unlisten_all).
    ///
    /// Blocks until the server has answered.
    ///
    /// # Errors
    /// See there.
    pub fn unlisten_all(&mut self) -> Result<(), Error> {
        self.run(|connection| connection.unlisten_all())
    }

    /// Sends a notification. See [`pgbell::Connection::notify`](crate::Connection::notify).
    ///
    /// Blocks until the server has answered.
    ///
    /// # Errors
    /// See there.
    pub fn notify(
        &mut self,
        channel: impl AsRef<str>,
        payload: impl AsRef<str>,
    ) -> Result<(), Error> {
        self.run(|connection| connection.notify(channel, payload))
    }

    /// Runs one or more statements. See [`pgbell::Connection::simple_query`](crate::Connection::simple_query).
    ///
    /// Blocks until the server has answered, without a time limit: set `statement_timeout` in the server if a query needs one.
    ///
    /// # Errors
    /// See there.
    pub fn simple_query(&mut self, sql: &str) -> Result<Vec<Rows>, Error> {
        self.run(|connection| connection.simple_query(sql))
    }

    /// Runs one statement with parameters. See [`pgbell::Connection::query`](crate::Connection::query).
    ///
    /// Blocks as [`simple_query`](Self::simple_query).
    ///
    /// # Errors
    /// See there.
    pub fn query(&mut self, sql: &str, parameters: &[Option<&str>]) -> Result<Rows, Error> {
        self.run(|connection| connection.query(sql, parameters))
    }

    /// Runs one statement with parameters of given types. See
    /// [`pgbell::Connection::query_typed`](crate::Connection::query_typed).
    ///
    /// Blocks as [`simple_query`](Self::simple_query).
    ///
    /// # Errors
    /// See there.
    pub fn query_typed(&mut self, sql: &str, parameters: &[(u32, &str)]) -> Result<Rows, Error> {
        self.run(|connection| connection.query_typed(sql, parameters))
    }

    /// Ends the session with a Terminate message. See [`pgbell::Connection::close`](crate::Connection::close).
    ///
    /// Blocks for at most a second. Where it [cannot wait](crate::blocking#where-a-call-cannot-wait), the socket is closed.
    pub fn close(mut self) {
        if self.reactor.waiter().is_in_fork() {
            return;
        }
        if let Some(connection) = self.connection.take() {
            let _ = self.reactor.run(async {
                connection.close().await;
                Ok(())
            });
        }
    }

    /// See [`pgbell::Connection::set_read_delay`](crate::Connection::set_read_delay).
    pub fn set_read_delay(&mut self, limit: Duration) {
        if let Some(connection) = &mut self.connection {
            connection.set_read_delay(limit);
        }
    }

    /// See [`pgbell::Connection::reads_delayed`](crate::Connection::reads_delayed).
    #[must_use]
    pub fn reads_delayed(&self) -> u64 {
        self.connection.as_ref().map_or(0, crate::Connection::reads_delayed)
    }

    /// See [`pgbell::Connection::process_id`](crate::Connection::process_id).
    #[must_use]
    pub fn process_id(&self) -> Option<i32> {
        self.connection.as_ref()?.process_id()
    }

    /// See [`pgbell::Connection::auth_method`](crate::Connection::auth_method).
    #[must_use]
    pub fn auth_method(&self) -> Option<AuthMethod> {
        self.connection.as_ref()?.auth_method()
    }

    /// See [`pgbell::Connection::transaction_status`](crate::Connection::transaction_status).
    #[must_use]
    pub fn transaction_status(&self) -> TransactionStatus {
        let connection = self.connection.as_ref();
        connection.map_or(TransactionStatus::Idle, crate::Connection::transaction_status)
    }

    /// See [`pgbell::Connection::parameter`](crate::Connection::parameter).
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.connection.as_ref()?.parameter(name)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // The file descriptors are shared with the parent. The drop of a socket takes it out of the epoll instance of its runtime, which is that
        // of the parent too: the parent would wait forever.
        if self.reactor.waiter().is_in_fork() {
            mem::forget(self.connection.take());
            self.reactor.keep_runtime();
        }
        // Before its runtime.
        self.connection = None;
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.connection {
            Some(connection) => connection.fmt(f),
            None => f.write_str("Connection"),
        }
    }
}

/// Returns the output of a future if it is ready, or is ready when the runtime has looked at its sockets. That takes no time, unlike a
/// timer, which would wait for its next tick.
async fn now<F: Future>(future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    for is_last in [false, true] {
        let polled = poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await;
        match polled {
            Poll::Ready(output) => return Some(output),
            Poll::Pending if is_last => {}
            // In the thread that drives the runtime, which may be another one.
            Poll::Pending => drop(tokio::spawn(tokio::task::yield_now()).await),
        }
    }
    None
}
