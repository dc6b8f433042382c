//! The inline path: one task owns the socket and drives it.

mod arrivals;
mod doubt;
mod kept;

use std::fmt;
use std::time::Duration;

use bytes::Buf;

use self::arrivals::Arrivals;
use crate::auth::AuthMethod;
use crate::net::{self, Established, Meanwhile, Place, Purpose, Step};
use crate::notification::{Batch, Loss, ReceiveInfo};
use crate::session::{Answer, CommandId, Rows, SessionEvent};
use crate::wire::TransactionStatus;
use crate::{Config, Error, ErrorKind};

/// Capacity of the receive buffer, in bytes. Dense traffic comes in reads of this size.
const INPUT_BYTES: usize = 256 * 1024;

/// Most time for the proof that notifications come through a pooler.
const PROOF_TIMEOUT: Duration = Duration::from_secs(5);

/// Most bytes of notifications that are kept while a command waits for its answer, by default: 8 MiB.
const QUEUE_BYTES: usize = 8 * 1024 * 1024;

/// A connection has one session.
const EPOCH: u32 = 1;

/// A connection whose socket is read by whoever waits on it: no task, no queue, no reconnecting.
///
/// It is the fastest path: [`recv_batch`](Self::recv_batch) parses in place and lends views into the
/// receive buffer. In exchange somebody must wait on it: a connection that listens and is not read
/// holds up the server's notification queue, for the whole cluster. Where that cannot be promised, use
/// a [`Listener`](crate::Listener).
///
/// A server before 18.2, 17.8, 16.12, 15.16 and 14.21 that cannot read or convert a notification drops it, reports an error,
/// and goes on: the next batch carries a [`Gap`](crate::Gap). If the report comes while a command waits, it cannot be told
/// from the answer. So on a connection to such a server that has listened, outside a transaction, an error of class 53, 58 or
/// XX ends the connection, and so does 22021 or 22P05 if the database is not UTF-8. The command is
/// [`InDoubt`](crate::ErrorKind::InDoubt), [`recv_batch`](Self::recv_batch) returns a gap and then the end.
/// A LISTEN in a function or a DO block is not seen: until the first notification has arrived, such a connection counts as one
/// that has not listened. Use [`listen`](Self::listen).
///
/// ```no_run
/// # async fn example() -> Result<(), pgbell::Error> {
/// use pgbell::Connection;
///
/// let mut connection = Connection::connect("postgres://localhost/shop").await?;
/// connection.listen("orders").await?;
/// loop {
///     for notification in connection.recv_batch().await? {
///         println!("{}: {:?}", notification.channel(), notification.payload_str());
///     }
/// }
/// # }
/// ```
pub struct Connection {
    established: Established,
    /// Bytes at the head of the input that the last batch lent.
    lent: usize,
    /// Whether the last batch lent the oldest kept run.
    lent_kept: bool,
    /// What has arrived, and how much of it was handed out.
    arrivals: Arrivals,
    /// What the last batch lent.
    loss: Option<Loss>,
    stamp: ReceiveInfo,
    /// The end of the connection, told by the next call.
    failed: Option<Error>,
    /// LISTEN was called. It stays so.
    listens: bool,
    /// Why answers may be those of other commands.
    doubt: Option<Error>,
}

impl Connection {
    /// Connects and logs in.
    ///
    /// `config` is a URL, a `key=value` string or a [`Config`]. What it leaves open is taken from the
    /// `PG*` environment variables. The attempt ends after `connect_timeout`, 10 s by default.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for parameters that cannot work,
    /// [`Connect`](crate::ErrorKind::Connect) when no server answers,
    /// [`Auth`](crate::ErrorKind::Auth) and [`Server`](crate::ErrorKind::Server) when it refuses,
    /// [`Timeout`](crate::ErrorKind::Timeout).
    ///
    /// # Panics
    /// Outside a tokio runtime, and in one without timers or without I/O: `enable_all` of
    /// [`tokio::runtime::Builder`] gives both.
    ///
    /// # Cancel safety
    /// Dropping the future closes the socket.
    pub async fn connect(config: impl TryInto<Config, Error: Into<Error>>) -> Result<Self, Error> {
        net::check_runtime();
        let config = config.try_into().map_err(Into::into)?;
        Ok(Self::new(net::establish(config, Purpose::Connect).await?))
    }

    /// On the server that a listener's session is on, and no other.
    pub(crate) async fn beside(config: Config, place: &Place) -> Result<Self, Error> {
        Ok(Self::new(net::establish_at(config, Purpose::Read, place).await?))
    }

    fn new(mut established: Established) -> Self {
        established.driver.set_input_bytes(INPUT_BYTES);
        let driver = &established.driver;
        Self {
            stamp: ReceiveInfo { received_at: driver.received_at, epoch: EPOCH },
            established,
            lent: 0,
            lent_kept: false,
            arrivals: Arrivals::new(QUEUE_BYTES),
            loss: None,
            failed: None,
            listens: false,
            doubt: None,
        }
    }

    /// Waits for notifications and lends all that one read of the socket brought.
    ///
    /// The batch may carry a [loss](Batch::loss), and may be empty but for it. A malformed message
    /// ends the batch before it, and is the next call's error.
    ///
    /// # Errors
    /// The connection is over: the server ended it, it broke, or the server broke the protocol.
    ///
    /// # Cancel safety
    /// A dropped future loses nothing.
    pub async fn recv_batch(&mut self) -> Result<Batch<'_>, Error> {
        self.release();
        let found = loop {
            if let Some(kept) = self.arrivals.kept.front() {
                break Some((kept.first, kept.run, Some(kept.stamp)));
            }
            // Before an error: what was lost or dropped earlier comes first.
            if self.arrivals.has_loss() {
                break None;
            }
            if let Some(error) = &self.failed {
                return Err(error.clone());
            }
            match self.established.driver.step().await {
                Ok(Step::Run(run)) => break Some((self.arrivals.arrived(), run, None)),
                Ok(Step::Event(event)) => self.handle_event(event, None),
                Ok(Step::Private) => {}
                Err(error) => self.failed = Some(error),
            }
        };
        // The place before which losses are told: the first notification found, or all that arrived.
        let until = found.map_or(self.arrivals.arrived(), |(first, ..)| first);
        if let Some(loss) = self.arrivals.take_loss(until) {
            // What was found stays where it is, for the next call.
            let loss = self.loss.insert(loss);
            return Ok(Batch::new(&[], 0, self.arrivals.next(), &self.stamp).after(loss));
        }
        let Some((first, run, kept)) = found else {
            return Ok(Batch::new(&[], 0, self.arrivals.next(), &self.stamp));
        };
        if let Some(stamp) = kept {
            self.arrivals.hand_out(first, run);
            self.stamp = stamp;
            self.lent_kept = true;
            return Ok(Batch::new(self.arrivals.kept.frames(), run.count, first, &self.stamp));
        }
        self.arrivals.pass(run);
        self.stamp.received_at = self.established.driver.received_at;
        self.lent = run.bytes;
        let frames = self.established.driver.input.get(..run.bytes).unwrap_or_default();
        Ok(Batch::new(frames, run.count, first, &self.stamp))
    }

    /// Listens to a channel. Returns when the server has committed it: what is committed from now on
    /// arrives.
    ///
    /// Commands whose futures were dropped are waited for first: one of them may have opened a transaction.
    ///
    /// In a database whose encoding is not UTF-8 the server cuts a name that is too long there, and says so in a notice
    /// only. Before a name of more than 31 bytes that is not ASCII, `client_min_messages` of the session is therefore set to
    /// `notice`.
    ///
    /// # Errors
    /// [`ErrorKind::Misuse`](crate::ErrorKind::Misuse) for a name that is empty, longer than 63 bytes
    /// or holds a NUL, and inside a transaction, where LISTEN has no effect before COMMIT, and none at all after
    /// ROLLBACK: nothing is sent. Else what the server refuses, or the end of the connection.
    /// [`ErrorKind::InDoubt`](crate::ErrorKind::InDoubt) when the error may be the report of a dropped notification: see
    /// [`Connection`].
    ///
    /// # Cancel safety
    /// A dropped future does not take the command back; its answer is passed over.
    pub async fn listen(&mut self, channel: &str) -> Result<(), Error> {
        self.listen_all([channel]).await
    }

    /// Listens to channels in one transaction and one round trip: to all of them or, when the server
    /// refuses one, to none.
    ///
    /// # Errors
    /// As [`listen`](Self::listen); no channel at all is
    /// [`ErrorKind::Misuse`](crate::ErrorKind::Misuse).
    ///
    /// # Cancel safety
    /// As [`listen`](Self::listen).
    pub async fn listen_all(
        &mut self,
        channels: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Result<(), Error> {
        let channels: Vec<_> = channels.into_iter().collect();
        self.outside_transaction("LISTEN").await?;
        let until = net::now() + PROOF_TIMEOUT;
        self.listens = true;
        if let Err(error) = self.established.prove_delivery(until, &mut self.arrivals).await {
            let status = self.transaction_status();
            let may_be_none = self.may_report_a_drop(&error, status);
            return Err(if may_be_none { self.doubt(error) } else { error });
        }
        let id = self.established.driver.session.listen(net::now(), &channels)?;
        self.commit("LISTEN", id).await
    }

    /// Stops listening to a channel. What was committed before may still arrive.
    ///
    /// # Errors
    /// As [`listen`](Self::listen).
    ///
    /// # Cancel safety
    /// As [`listen`](Self::listen).
    pub async fn unlisten(&mut self, channel: &str) -> Result<(), Error> {
        self.outside_transaction("UNLISTEN").await?;
        let id = self.established.driver.session.unlisten(net::now(), &[channel])?;
        self.commit("UNLISTEN", id).await
    }

    /// Stops listening to every channel.
    ///
    /// # Errors
    /// [`ErrorKind::Misuse`](crate::ErrorKind::Misuse) inside a transaction, as [`listen`](Self::listen); else what the
    /// server refuses, or the end of the connection. [`ErrorKind::InDoubt`](crate::ErrorKind::InDoubt) when the error may be
    /// the report of a dropped notification: see [`Connection`].
    ///
    /// # Cancel safety
    /// As [`listen`](Self::listen).
    pub async fn unlisten_all(&mut self) -> Result<(), Error> {
        self.outside_transaction("UNLISTEN").await?;
        let id = self.established.driver.session.unlisten_all(net::now())?;
        self.commit("UNLISTEN", id).await
    }

    /// Sends a notification, both values bound. Inside a transaction of yours it is delivered when that
    /// commits, and never when it rolls back.
    ///
    /// # Errors
    /// [`ErrorKind::Misuse`](crate::ErrorKind::Misuse) for a channel that is empty, longer than 63
    /// bytes or holds a NUL, and for a payload longer than 7,999 bytes or with a NUL: nothing is sent.
    /// [`ErrorKind::InDoubt`](crate::ErrorKind::InDoubt) when the connection broke before the answer, or an error may be the
    /// report of a dropped notification: see [`Connection`];
    /// [`ErrorKind::Connect`](crate::ErrorKind::Connect) when it broke before all of it was sent.
    ///
    /// # Cancel safety
    /// A dropped future does not take the command back.
    pub async fn notify(&mut self, channel: &str, payload: impl AsRef<str>) -> Result<(), Error> {
        let id = self.established.driver.session.notify(net::now(), channel, payload.as_ref())?;
        self.complete(id).await.map(drop)
    }

    /// Runs one or more statements, separated by semicolons. Returns a result for each.
    ///
    /// Never put values into the text: use [`query`](Self::query).
    /// A query may take as long as the server likes: put a time limit around it where that matters.
    ///
    /// # Errors
    /// What the server refuses, a result larger than
    /// [`Config::result_limit_bytes`](crate::Config::result_limit_bytes) (64 MiB by default; the statement was carried
    /// out), COPY, the end of the connection: [`ErrorKind::InDoubt`](crate::ErrorKind::InDoubt) when the statements were
    /// sent, else [`ErrorKind::Connect`](crate::ErrorKind::Connect), and nothing was carried out. `InDoubt` too when an error
    /// may be the report of a dropped notification: see [`Connection`].
    ///
    /// # Cancel safety
    /// A dropped future does not take the query back; its answer is passed over.
    pub async fn simple_query(&mut self, sql: &str) -> Result<Vec<Rows>, Error> {
        let id = self.established.driver.session.simple_query(net::now(), sql)?;
        self.complete(id).await
    }

    /// Runs one statement with parameters `$1`, `$2` … in text format. `None` is NULL.
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

    /// As [`query`](Self::query), with the object id of each parameter's type, where the server cannot
    /// derive it.
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

    /// Ends the session cleanly: the server sees Terminate. Takes at most a second. Notifications that were not taken
    /// with [`recv_batch`](Self::recv_batch) before are discarded.
    ///
    /// # Errors
    /// None at present.
    ///
    /// # Cancel safety
    /// Dropping the future closes the socket.
    pub async fn close(self) -> Result<(), Error> {
        self.established.driver.close().await;
        Ok(())
    }

    /// Process id of the server's end, the [`process_id`](crate::Notification::process_id) of
    /// notifications that this connection itself sends. Behind a pooler it may be another one's.
    #[must_use]
    pub fn process_id(&self) -> Option<i32> {
        self.established.driver.session.process_id()
    }

    /// How the server let us in.
    #[must_use]
    pub fn auth_method(&self) -> Option<AuthMethod> {
        self.established.driver.session.auth_method()
    }

    /// Whether a transaction is open. Nothing is delivered inside one.
    #[must_use]
    pub fn transaction_status(&self) -> TransactionStatus {
        self.established.driver.session.transaction_status()
    }

    /// Value of a parameter that the server reported, `server_version` for example.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.established.driver.session.parameter(name)
    }

    async fn run(&mut self, sql: &str, parameters: &[(u32, Option<&str>)]) -> Result<Rows, Error> {
        let id = self.established.driver.session.query(net::now(), sql, parameters)?;
        Ok(self.complete(id).await?.pop().unwrap_or_default())
    }

    /// Waits until the answers to all commands are there, those whose futures were dropped too. Then no transaction
    /// may be open.
    async fn outside_transaction(&mut self, command: &'static str) -> Result<(), Error> {
        self.release();
        while self.failed.is_none() && self.established.driver.session.commands_in_flight() > 0 {
            self.advance(None).await;
        }
        match self.transaction_status() {
            TransactionStatus::Idle => Ok(()),
            // It is over: the command itself says why.
            _ if self.failed.is_some() => Ok(()),
            _ => Err(inside_transaction(command)),
        }
    }

    /// Drives the connection until a LISTEN or UNLISTEN is committed.
    async fn commit(&mut self, command: &'static str, id: CommandId) -> Result<(), Error> {
        self.complete(id).await?;
        match self.transaction_status() {
            TransactionStatus::Idle => Ok(()),
            // It was sent outside one.
            _ => {
                let message = format!(
                    "the answer to {command} was given inside a transaction, so it is not committed"
                );
                let hint = "a pooler or a proxy has begun one: connect to the server itself";
                Err(Error::new(ErrorKind::Pooler, message).with_hint(hint))
            }
        }
    }

    /// Takes one step, on the way to the answer to a command.
    async fn advance(&mut self, waiting: Option<(CommandId, &mut Option<Answer>)>) {
        match self.established.driver.step().await {
            Ok(Step::Run(run)) => self.arrivals.take(&mut self.established.driver, run),
            Ok(Step::Event(event)) => self.handle_event(event, waiting),
            Ok(Step::Private) => {}
            Err(error) => self.failed = Some(error),
        }
    }

    /// Drives the connection until the command is complete. Notifications meanwhile are kept.
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
                // The command's own error comes as an event, before this.
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
            SessionEvent::Done { id, result, status } => {
                let result = self.believe(result, status);
                // Else the answer to a command whose future was dropped.
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

    /// Takes back what the last batch lent.
    fn release(&mut self) {
        let lent = std::mem::take(&mut self.lent);
        self.established.driver.input.advance(lent.min(self.established.driver.input.len()));
        if std::mem::take(&mut self.lent_kept) {
            self.arrivals.kept.pop();
        }
    }
}

#[cold]
fn inside_transaction(command: &'static str) -> Error {
    let message = format!(
        "a transaction is open, in which {command} takes effect when it commits and is undone by ROLLBACK"
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
