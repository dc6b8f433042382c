//! A connection without a background task: the caller owns the socket and drives it.

mod arrivals;
mod backlog;
mod stray;

use std::fmt;
use std::time::Duration;

use bytes::Buf;

use self::arrivals::Arrivals;
use crate::config::Config;
use crate::error::{Error, ErrorKind};
use crate::net::{
    self, DriverEvent, Established, NotificationSink, ServerLocation, SessionPurpose,
};
use crate::notification::{Batch, Loss, ReceiveInfo};
use crate::proto::auth::AuthMethod;
use crate::proto::session::{Answer, CommandId, READ_DELAY_MAX, Rows, SessionEvent};
use crate::proto::wire::TransactionStatus;

/// Capacity of the receive buffer, in bytes. Under load one read fills it.
const INPUT_BYTES: usize = 256 * 1024;

/// The timeout of the delivery proof.
const DELIVERY_PROOF_TIMEOUT: Duration = Duration::from_secs(5);

/// The largest backlog, in bytes: 8 MiB.
const BACKLOG_BYTES_MAX: usize = 8 * 1024 * 1024;

/// The epoch of all notifications: a connection has one session.
const EPOCH: u32 = 1;

/// A connection that reads its socket only while a method is awaited: it has no task and no queue, and does not reconnect.
///
/// It is the fastest way to receive: [`recv_batch`](Self::recv_batch) parses in place and returns views into the
/// receive buffer. In exchange the program must always wait on it: a connection that listens and is not read
/// keeps the server from shortening its notification queue, which all databases of the server share. If the program does
/// other things in between, use a [`Listener`](crate::Listener).
///
/// # Servers that drop notifications
/// Servers before 18.2, 17.8, 16.12, 15.16 and 14.21 drop a notification that they cannot read or convert, send an error, and
/// continue. The next batch carries a [`Gap`](crate::Gap) then.
///
/// While a command runs, such an error looks like the answer to the command. On a connection to such a server that has
/// listened, an error outside a transaction therefore ends the connection if its SQLSTATE has class 53, 58 or XX, or is 22021
/// or 22P05 and the database is not UTF-8. The command returns [`InDoubt`](crate::ErrorKind::InDoubt), and
/// [`recv_batch`](Self::recv_batch) returns a gap and then the error.
///
/// A LISTEN inside a function or a DO block is not recognized: until the first notification arrives, such a connection counts
/// as one that has not listened. Use [`listen`](Self::listen).
///
/// ```no_run
/// # async fn example() -> Result<(), pgbell::Error> {
/// use pgbell::Connection;
///
/// let mut connection = Connection::connect("postgres://localhost/shop").await?;
/// connection.listen("orders").await?;
/// loop {
///     for notification in connection.recv_batch().await? {
///         println!("{}: {:?}", notification.channel(), notification.payload());
///     }
/// }
/// # }
/// ```
pub struct Connection {
    established: Established,
    /// Bytes at the front of the receive buffer that belong to the last batch.
    lent: usize,
    /// The last batch is the oldest run of the backlog.
    lends_backlog: bool,
    arrivals: Arrivals,
    /// The loss that the last batch carries.
    loss: Option<Loss>,
    /// When the notifications of the last batch were received.
    stamp: ReceiveInfo,
    /// The error that ended the connection. The next call returns it.
    failed: Option<Error>,
    /// A LISTEN was sent. Never set back.
    listens: bool,
    /// The possible stray error because of which all later answers are rejected.
    stray_error: Option<Error>,
}

impl Connection {
    /// Connects and logs in.
    ///
    /// `config` is a URL, a `key=value` string or a [`Config`]. Parameters that it does not set are taken from the
    /// `PG*` environment variables. The attempt ends after `connect_timeout`, 10 s by default.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for invalid parameters,
    /// [`Connect`](crate::ErrorKind::Connect) when no server answers,
    /// [`Auth`](crate::ErrorKind::Auth) and [`Server`](crate::ErrorKind::Server) when the server refuses the login,
    /// [`Timeout`](crate::ErrorKind::Timeout) after `connect_timeout`.
    ///
    /// # Panics
    /// Outside a tokio runtime, and in a runtime without timers or I/O: use `#[tokio::main]`, or `enable_all` of the runtime's
    /// [`Builder`](tokio::runtime::Builder).
    ///
    /// # Cancel safety
    /// Dropping the future closes the socket.
    pub async fn connect(config: impl TryInto<Config, Error: Into<Error>>) -> Result<Self, Error> {
        net::check_runtime();
        let config = config.try_into().map_err(Into::into)?;
        Ok(Self::new(net::establish(config, SessionPurpose::Connect).await?))
    }

    /// Connects to the server that a listener's session is on, and to no other one.
    pub(crate) async fn connect_to_same_server(
        config: Config,
        location: &ServerLocation,
    ) -> Result<Self, Error> {
        Ok(Self::new(net::establish_at(config, SessionPurpose::Read, location).await?))
    }

    /// Connects to a primary, for the cursor of a log.
    #[cfg(feature = "durable")]
    pub(crate) async fn connect_to_primary(config: Config) -> Result<Self, Error> {
        Ok(Self::new(net::establish(config, SessionPurpose::Cursor).await?))
    }

    fn new(mut established: Established) -> Self {
        established.driver.set_input_bytes(INPUT_BYTES);
        established.driver.set_read_delay(READ_DELAY_MAX);
        let driver = &established.driver;
        Self {
            stamp: ReceiveInfo { received_at: driver.received_at, epoch: EPOCH },
            established,
            lent: 0,
            lends_backlog: false,
            arrivals: Arrivals::new(BACKLOG_BYTES_MAX),
            loss: None,
            failed: None,
            listens: false,
            stray_error: None,
        }
    }

    /// Waits for notifications, and returns all that one read of the socket received.
    ///
    /// The batch may carry a [loss](Batch::loss), and may have no notifications then. A malformed message
    /// ends the batch before it; the next call returns the error.
    ///
    /// # Errors
    /// When the connection has ended: the server closed it, the network failed, or the server violated the protocol.
    ///
    /// # Cancel safety
    /// No notification is lost when the future is dropped.
    pub async fn recv_batch(&mut self) -> Result<Batch<'_>, Error> {
        self.release();
        let found = loop {
            if let Some(oldest) = self.arrivals.backlog.front() {
                break Some((oldest.first, oldest.run, Some(oldest.stamp)));
            }
            // Losses come before the error: they happened earlier.
            if self.arrivals.has_loss() {
                break None;
            }
            if let Some(error) = &self.failed {
                return Err(error.clone());
            }
            match self.established.driver.step().await {
                Ok(DriverEvent::Run(run)) => break Some((self.arrivals.arrived(), run, None)),
                Ok(DriverEvent::Event(event)) => self.handle_event(event, None),
                Ok(DriverEvent::Private) => {}
                Err(error) => self.failed = Some(error),
            }
        };
        // Losses before this position are reported first: before the run, or before everything that arrives later.
        let until = found.map_or(self.arrivals.arrived(), |(first, ..)| first);
        if let Some(loss) = self.arrivals.take_loss(until) {
            // The run stays where it is, for the next call.
            let loss = self.loss.insert(loss);
            return Ok(Batch::new(&[], 0, self.arrivals.next(), &self.stamp).after(loss));
        }
        let Some((first, run, stamp)) = found else {
            return Ok(Batch::new(&[], 0, self.arrivals.next(), &self.stamp));
        };
        if let Some(stamp) = stamp {
            self.arrivals.deliver_backlog(first, run);
            self.stamp = stamp;
            self.lends_backlog = true;
            return Ok(Batch::new(self.arrivals.backlog.frames(), run.count, first, &self.stamp));
        }
        self.arrivals.deliver_arrived(run);
        self.stamp.received_at = self.established.driver.received_at;
        self.lent = run.bytes;
        let frames = self.established.driver.input.get(..run.bytes).unwrap_or_default();
        Ok(Batch::new(frames, run.count, first, &self.stamp))
    }

    /// Listens to a channel. Returns when the server has committed the LISTEN: notifications that are committed from now on
    /// arrive.
    ///
    /// First it waits for commands whose futures were dropped: one of them may have begun a transaction.
    ///
    /// If the database encoding is not UTF-8, the server may truncate a long name, and reports that only with a notice.
    /// Before a name of more than 31 bytes that is not ASCII, `client_min_messages` of the session is therefore set to
    /// `notice`.
    ///
    /// # Errors
    /// [`ErrorKind::Misuse`](crate::ErrorKind::Misuse) for a name that is empty, longer than 63 bytes
    /// or contains a NUL, and inside a transaction, where LISTEN has no effect before COMMIT, and none after
    /// ROLLBACK: nothing is sent. Otherwise the error of the server, or the error that ended the connection.
    /// [`ErrorKind::InDoubt`](crate::ErrorKind::InDoubt) when the error may be the report of a dropped notification: see
    /// [`Connection`](Self#servers-that-drop-notifications).
    ///
    /// # Cancel safety
    /// Dropping the future does not undo the command; its answer is ignored.
    pub async fn listen(&mut self, channel: impl AsRef<str>) -> Result<(), Error> {
        self.listen_all([channel]).await
    }

    /// Listens to channels in one transaction and one round trip: to all of them or, if the server
    /// refuses one, to none.
    ///
    /// # Errors
    /// As [`listen`](Self::listen); [`ErrorKind::Misuse`](crate::ErrorKind::Misuse) if there is no channel.
    ///
    /// # Cancel safety
    /// As [`listen`](Self::listen).
    pub async fn listen_all(
        &mut self,
        channels: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Result<(), Error> {
        let channels: Vec<_> = channels.into_iter().collect();
        self.outside_transaction("LISTEN").await?;
        let until = net::now() + DELIVERY_PROOF_TIMEOUT;
        self.listens = true;
        if let Err(error) = self.established.prove_delivery(until, &mut self.arrivals).await {
            let status = self.transaction_status();
            let may_be_stray = self.may_report_a_drop(&error, status);
            return Err(if may_be_stray { self.end_in_doubt(error) } else { error });
        }
        let id = self.established.driver.session.listen(net::now(), &channels)?;
        self.commit("LISTEN", id).await
    }

    /// Stops listening to a channel. Notifications that were committed before may still arrive.
    ///
    /// # Errors
    /// As [`listen`](Self::listen).
    ///
    /// # Cancel safety
    /// As [`listen`](Self::listen).
    pub async fn unlisten(&mut self, channel: impl AsRef<str>) -> Result<(), Error> {
        self.outside_transaction("UNLISTEN").await?;
        let id = self.established.driver.session.unlisten(net::now(), &[channel])?;
        self.commit("UNLISTEN", id).await
    }

    /// Stops listening to every channel.
    ///
    /// # Errors
    /// [`ErrorKind::Misuse`](crate::ErrorKind::Misuse) inside a transaction, as [`listen`](Self::listen); otherwise the error
    /// of the server, or the error that ended the connection. [`ErrorKind::InDoubt`](crate::ErrorKind::InDoubt) when the error
    /// may be the report of a dropped notification: see [`Connection`](Self#servers-that-drop-notifications).
    ///
    /// # Cancel safety
    /// As [`listen`](Self::listen).
    pub async fn unlisten_all(&mut self) -> Result<(), Error> {
        self.outside_transaction("UNLISTEN").await?;
        let id = self.established.driver.session.unlisten_all(net::now())?;
        self.commit("UNLISTEN", id).await
    }

    /// Sends a notification, with channel and payload as bound parameters. Inside a transaction it is delivered when the
    /// transaction commits, and never if it is rolled back.
    ///
    /// # Errors
    /// [`ErrorKind::Misuse`](crate::ErrorKind::Misuse) for a channel that is empty, longer than 63
    /// bytes or contains a NUL, and for a payload longer than 7,999 bytes or with a NUL: nothing is sent.
    /// [`ErrorKind::InDoubt`](crate::ErrorKind::InDoubt) when the connection failed before the answer, or an error may be the
    /// report of a dropped notification: see [`Connection`](Self#servers-that-drop-notifications);
    /// [`ErrorKind::Connect`](crate::ErrorKind::Connect) when it failed before all of it was sent.
    ///
    /// # Cancel safety
    /// Dropping the future does not undo the command.
    pub async fn notify(
        &mut self,
        channel: impl AsRef<str>,
        payload: impl AsRef<str>,
    ) -> Result<(), Error> {
        let (channel, payload) = (channel.as_ref(), payload.as_ref());
        let id = self.established.driver.session.notify(net::now(), channel, payload)?;
        self.complete(id).await.map(drop)
    }

    /// Runs one or more statements, separated by semicolons. Returns a result for each.
    ///
    /// Never put values into the text: use [`query`](Self::query).
    /// A query has no timeout: wrap the call in `tokio::time::timeout` if it needs one.
    ///
    /// # Errors
    /// - The error of the server.
    /// - [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for a result larger than
    ///   [`Config::result_limit_bytes`](crate::Config::result_limit_bytes), 64 MiB by default (the statement was executed),
    ///   and for COPY.
    /// - [`ErrorKind::InDoubt`](crate::ErrorKind::InDoubt) when the connection ended after the statements were sent, and when
    ///   an error may be the report of a dropped notification: see [`Connection`](Self#servers-that-drop-notifications).
    /// - [`ErrorKind::Connect`](crate::ErrorKind::Connect) when the connection ended before they were sent, and
    ///   [`ErrorKind::Closed`](crate::ErrorKind::Closed) when an earlier call has reported its end: nothing was executed.
    ///
    /// # Cancel safety
    /// Dropping the future does not undo the query; its answer is ignored.
    pub async fn simple_query(&mut self, sql: &str) -> Result<Vec<Rows>, Error> {
        let id = self.established.driver.session.simple_query(net::now(), sql)?;
        self.complete(id).await
    }

    /// Runs one statement with the parameters `$1`, `$2` … in text format. `None` is NULL.
    ///
    /// # Errors
    /// As [`simple_query`](Self::simple_query).
    ///
    /// # Cancel safety
    /// As [`simple_query`](Self::simple_query).
    pub async fn query(&mut self, sql: &str, parameters: &[Option<&str>]) -> Result<Rows, Error> {
        let parameters: Vec<_> = parameters.iter().map(|value| (0, *value)).collect();
        self.run(sql, &parameters).await
    }

    /// Runs one statement like [`query`](Self::query), with the object id of each parameter's type: for statements in which
    /// the server cannot infer the types.
    ///
    /// # Errors
    /// As [`simple_query`](Self::simple_query).
    ///
    /// # Cancel safety
    /// As [`simple_query`](Self::simple_query).
    pub async fn query_typed(
        &mut self,
        sql: &str,
        parameters: &[(u32, &str)],
    ) -> Result<Rows, Error> {
        let parameters: Vec<_> =
            parameters.iter().map(|(oid, value)| (*oid, Some(*value))).collect();
        self.run(sql, &parameters).await
    }

    /// Runs a statement that the server keeps under `name`. With `sql`, one of this name is replaced before.
    ///
    /// The name must determine the text: behind a pooler, another client may have prepared a statement of the same name in the
    /// session of the server.
    #[cfg(feature = "durable")]
    pub(crate) async fn query_prepared(
        &mut self,
        name: &str,
        sql: Option<&str>,
        parameters: &[Option<&str>],
    ) -> Result<Rows, Error> {
        let session = &mut self.established.driver.session;
        let id = session.query_prepared(net::now(), name, sql, parameters)?;
        Ok(self.complete(id).await?.pop().unwrap_or_default())
    }

    /// Returns whether the server has not answered a command. Its future was dropped.
    #[cfg(feature = "durable")]
    pub(crate) fn is_executing(&self) -> bool {
        self.failed.is_none() && self.established.driver.session.commands_in_flight() > 0
    }

    /// Gives the session up. If a command is being executed, the server is asked to cancel it, in a task of its own.
    #[cfg(feature = "durable")]
    pub(crate) fn abandon(self) {
        if self.is_executing()
            && let Some(cancellation) = net::Cancellation::of(&self.established)
            && tokio::runtime::Handle::try_current().is_ok()
        {
            cancellation.start(self);
        }
    }

    /// Ends the session with a Terminate message. Takes at most a second, while the runtime of `connect` runs. Notifications
    /// that were not received with [`recv_batch`](Self::recv_batch) before are discarded.
    ///
    /// # Cancel safety
    /// Dropping the future closes the socket.
    pub async fn close(self) {
        self.established.driver.close().await;
    }

    /// Turns the delay of reads while notifications arrive densely on or off: a millisecond or more, by default, turns it on, and
    /// delays a read by up to a millisecond; less turns it off. The rules are those of [`ListenerBuilder::read_delay`](crate::ListenerBuilder::read_delay). No read is
    /// delayed while a command waits for its answer, and none in another runtime than that of `connect`.
    pub fn set_read_delay(&mut self, limit: Duration) {
        self.established.driver.set_read_delay(net::whole_ticks(limit));
    }

    /// Returns the number of reads that were delayed because notifications arrived densely: see
    /// [`set_read_delay`](Self::set_read_delay).
    #[must_use]
    pub fn reads_delayed(&self) -> u64 {
        self.established.driver.reads_delayed
    }

    /// Returns the process id of the server process: the [`process_id`](crate::Notification::process_id) of
    /// notifications that this connection sends. Behind a pooler it may be that of another session. `None` if the server
    /// sent none in the login (BackendKeyData). It stays the same after the end of the session.
    #[must_use]
    pub fn process_id(&self) -> Option<i32> {
        self.established.driver.session.process_id()
    }

    /// Returns the method by which the server authenticated us.
    #[must_use]
    pub fn auth_method(&self) -> Option<AuthMethod> {
        self.established.driver.session.auth_method()
    }

    /// Returns the certificates that the server has sent in the TLS handshake, each as DER, its own first. None without TLS. With a `sslmode` below
    /// `verify-ca` they were not verified.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), pgbell::Error> {
    /// let connection = pgbell::Connection::connect("postgres://db.example.com/shop?sslmode=verify-full").await?;
    /// let own = connection.peer_certificates().first().map(|der| der.len());
    /// println!("the certificate has {own:?} bytes");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn peer_certificates(&self) -> Vec<&[u8]> {
        self.established.driver.peer_certificates()
    }

    /// Returns whether a transaction is open. The server delivers no notifications inside one.
    #[must_use]
    pub fn transaction_status(&self) -> TransactionStatus {
        self.established.driver.session.transaction_status()
    }

    /// Returns the value of a parameter that the server reported, for example `server_version`.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.established.driver.session.parameter(name)
    }

    async fn run(&mut self, sql: &str, parameters: &[(u32, Option<&str>)]) -> Result<Rows, Error> {
        let id = self.established.driver.session.query(net::now(), sql, parameters)?;
        Ok(self.complete(id).await?.pop().unwrap_or_default())
    }

    /// Waits for the answers to all commands, also to those whose futures were dropped. Fails if a transaction is open
    /// then.
    async fn outside_transaction(&mut self, command: &'static str) -> Result<(), Error> {
        self.release();
        while self.failed.is_none() && self.established.driver.session.commands_in_flight() > 0 {
            self.advance(None).await;
        }
        match self.transaction_status() {
            TransactionStatus::Idle => Ok(()),
            // The connection has ended: the command itself returns the cause.
            _ if self.failed.is_some() => Ok(()),
            _ => Err(inside_transaction(command)),
        }
    }

    /// Drives the connection until a LISTEN or UNLISTEN is committed.
    async fn commit(&mut self, command: &'static str, id: CommandId) -> Result<(), Error> {
        self.complete(id).await?;
        match self.transaction_status() {
            TransactionStatus::Idle => Ok(()),
            // It was sent outside a transaction.
            _ => {
                let message = format!(
                    "the answer to {command} was given inside a transaction, so it is not committed"
                );
                let hint = "a pooler or a proxy has begun one: connect directly to the server";
                Err(Error::new(ErrorKind::Pooler, message).with_hint(hint))
            }
        }
    }

    /// Handles one event of the driver while a command runs.
    async fn advance(&mut self, waiting: Option<(CommandId, &mut Option<Answer>)>) {
        match self.established.driver.step().await {
            Ok(DriverEvent::Run(run)) => self.arrivals.take(&mut self.established.driver, run),
            Ok(DriverEvent::Event(event)) => self.handle_event(event, waiting),
            Ok(DriverEvent::Private) => {}
            Err(error) => self.failed = Some(error),
        }
    }

    /// Drives the connection until the command is complete. Notifications that arrive meanwhile go to the backlog.
    async fn complete(&mut self, id: CommandId) -> Answer {
        self.release();
        let mut answer = None;
        loop {
            self.advance(Some((id, &mut answer))).await;
            if let Some(answer) = answer.take() {
                return answer;
            }
            if let Some(error) = &self.failed
                && self.established.driver.session.commands_in_flight() == 0
            {
                // An event with the command's own error may be waiting.
                let error = error.clone();
                while let Some(event) = self.established.driver.session.poll_event() {
                    self.handle_event(event, Some((id, &mut answer)));
                }
                return answer.unwrap_or(Err(error));
            }
        }
    }

    fn handle_event(
        &mut self,
        event: SessionEvent,
        waiting: Option<(CommandId, &mut Option<Answer>)>,
    ) {
        match event {
            SessionEvent::Done { id, result, status, .. } => {
                let result = self.check_answer(result, status);
                // Otherwise it is the answer to a command whose future was dropped.
                if let Some((awaited, answer)) = waiting
                    && id == awaited
                {
                    *answer = Some(result);
                }
            }
            SessionEvent::Ready => {}
            SessionEvent::NotificationDropped(cause) => {
                self.arrivals.miss(&self.established.driver, cause);
            }
        }
    }

    /// Releases the buffer of the last batch.
    fn release(&mut self) {
        let lent = std::mem::take(&mut self.lent);
        self.established.driver.input.advance(lent.min(self.established.driver.input.len()));
        if std::mem::take(&mut self.lends_backlog) {
            self.arrivals.backlog.pop();
        }
    }
}

#[cold]
fn inside_transaction(command: &'static str) -> Error {
    let message = format!(
        "a transaction is open, in which {command} takes effect at COMMIT and is undone by ROLLBACK"
    );
    Error::new(ErrorKind::Misuse, message).with_hint("end the transaction first")
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("session", &self.established.driver.session)
            .finish_non_exhaustive()
    }
}
