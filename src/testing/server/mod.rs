//! The testing backend on a local socket.

mod client_task;
mod port;
mod shared;
mod waiting;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
#[cfg(unix)]
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use self::port::Port;
use self::shared::Shared;
use super::{Answer, Backend, BackendConfig, Count, Query, SessionId};
use crate::error::Error;
use crate::proto::wire;

/// The time that sessions have to send their last message when the server halts.
const HALT_TIMEOUT: Duration = Duration::from_secs(1);

/// The process id in the notifications of [`Server::notify`]. No session has it unless the configuration says so.
const NOTIFIER_PROCESS_ID: i32 = 1;

/// A [`Backend`] that listens on 127.0.0.1, on a port that the system chose.
///
/// It runs in the tokio runtime in which it was started, which must have I/O and time enabled. When it is
/// dropped, the port and all sockets are closed, and no task is left. It is for tests and demonstrations:
/// every program that can reach the port can use it, and its salts and nonces are predictable.
///
/// ```
/// # #[cfg(feature = "tokio")]
/// # async fn demo() -> std::io::Result<()> {
/// use pgbell::testing::{BackendConfig, Server};
///
/// let server = Server::start(BackendConfig::new()).await?;
/// println!("{}", server.url());
/// # Ok(())
/// # }
/// ```
///
/// # Testing your own handler
///
/// ```
/// # #[cfg(feature = "tokio")]
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use pgbell::testing::{Answer, BackendConfig, Server};
/// use pgbell::{Event, Listener};
///
/// let mut server = Server::start(BackendConfig::new()).await?;
/// server.answer("SELECT id FROM orders", Answer::rows(["id"]).row(["1"]).row(["2"]));
///
/// let mut listener = Listener::builder(server.url())
///     .channels(["orders"])
///     .on_live(|mut connection, _| async move {
///         let orders = connection.simple_query("SELECT id FROM orders").await?;
///         assert_eq!(orders[0].len(), 2);
///         connection.close().await;
///         Ok(())
///     })
///     .connect()
///     .await?;
///
/// server.wait_for_listener("orders", Duration::from_secs(10)).await?;
/// server.notify("orders", "3")?;
/// assert!(matches!(listener.recv().await?, Event::Notification(_)));
///
/// server.restart().await?;
/// assert!(matches!(listener.recv().await?, Event::Gap(_)));
/// # Ok(())
/// # }
/// # #[cfg(not(feature = "tokio"))]
/// # fn main() {}
/// ```
///
#[doc = include_str!("clients.md")]
#[derive(Debug)]
pub struct Server {
    shared: Arc<Shared>,
    address: SocketAddr,
    user: String,
    ports: Vec<Port>,
}

impl Server {
    /// Starts a server on TCP.
    ///
    /// # Errors
    /// The error of the system, if no port is available.
    pub async fn start(config: BackendConfig) -> io::Result<Self> {
        let user = config.any_user().to_owned();
        // The keys of SCRAM are derived here, once.
        let shared = Arc::new(Shared::new(Backend::new(config)));
        let port = Port::tcp(&shared, (Ipv4Addr::LOCALHOST, 0).into()).await?;
        let address = port.address().ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(Self { shared, address, user, ports: vec![port] })
    }

    /// Starts a server on TCP and on a Unix socket in `directory`, named as PostgreSQL names it.
    /// The socket file is removed when the server is dropped.
    ///
    /// # Errors
    /// The error of the system, if no port is available or the file cannot be created.
    #[cfg(unix)]
    pub async fn start_in(config: BackendConfig, directory: &Path) -> io::Result<Self> {
        let mut server = Self::start(config).await?;
        let path = directory.join(format!(".s.PGSQL.{}", server.port()));
        server.ports.push(Port::unix(&server.shared, path)?);
        Ok(server)
    }

    /// Returns the address at which it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the port number of TCP, which is also in the name of the Unix socket.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Returns a connection string with an existing role, without its password.
    #[must_use]
    pub fn url(&self) -> String {
        format!("postgresql://{}@127.0.0.1:{}/postgres?sslmode=disable", self.user, self.port())
    }

    /// Returns the number of notifications that went through a channel.
    #[must_use]
    pub fn count(&self, channel: &str) -> Count {
        self.shared.backend().count(channel)
    }

    /// Returns the number of connected clients.
    #[must_use]
    pub fn clients(&self) -> usize {
        self.shared.backend().sessions().count()
    }

    /// Answers every statement with exactly this text with `answer`. See [`Backend::answer`].
    ///
    /// ```
    /// # #[cfg(feature = "tokio")]
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use pgbell::Connection;
    /// use pgbell::testing::{Answer, BackendConfig, Server};
    ///
    /// let server = Server::start(BackendConfig::new()).await?;
    /// server.answer("SELECT name FROM stock", Answer::rows(["name"]).row(["ink"]).row([None]));
    /// server.answer("DELETE FROM stock", Answer::command("DELETE 2").notify("stock", "empty"));
    /// server.answer("SELECT * FROM typo", Answer::error("42P01", "there is no such table"));
    ///
    /// let mut connection = Connection::connect(server.url()).await?;
    /// let names = connection.simple_query("SELECT name FROM stock").await?;
    /// assert_eq!(names[0].get(0).unwrap().get(0), Some("ink"));
    /// let error = connection.simple_query("SELECT * FROM typo").await.unwrap_err();
    /// assert_eq!(error.sqlstate(), Some("42P01"));
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "tokio"))]
    /// # fn main() {}
    /// ```
    pub fn answer(&self, sql: &str, answer: Answer) {
        self.shared.backend().answer(sql, answer);
    }

    /// Calls `function` for every statement that has no answer by its text. See [`Backend::answer_with`].
    ///
    /// The backend is locked during the call: the function must not call methods of this server. To notify, it
    /// returns an answer with [`Answer::notify`].
    ///
    /// ```
    /// # #[cfg(feature = "tokio")]
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use pgbell::Connection;
    /// use pgbell::testing::{Answer, BackendConfig, Server};
    ///
    /// let server = Server::start(BackendConfig::new()).await?;
    /// server.answer_with(|query| {
    ///     let answer = Answer::rows(["name"]);
    ///     match (query.sql(), query.parameters()) {
    ///         ("SELECT name FROM stock WHERE id = $1", [Some(id)]) => Some(answer.row([&*format!("number {id}")])),
    ///         // The statement is prepared: only the columns matter.
    ///         (sql, []) if sql.starts_with("SELECT name FROM stock") => Some(answer),
    ///         _ => None,
    ///     }
    /// });
    ///
    /// let mut connection = Connection::connect(server.url()).await?;
    /// let names = connection.query("SELECT name FROM stock WHERE id = $1", &[Some("7")]).await?;
    /// assert_eq!(names.get(0).unwrap().get(0), Some("number 7"));
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "tokio"))]
    /// # fn main() {}
    /// ```
    pub fn answer_with(&self, function: impl FnMut(&Query<'_>) -> Option<Answer> + Send + 'static) {
        self.shared.backend().answer_with(function);
    }

    /// Removes all answers and functions.
    pub fn forget_answers(&self) {
        self.shared.backend().forget_answers();
    }

    /// Sends a notification, as a session that commits a NOTIFY. Returns the number of sessions that listen to the channel.
    ///
    /// # Errors
    /// [`ErrorKind::Misuse`](crate::ErrorKind::Misuse) if a server would refuse the name or the payload, or one of
    /// them contains a NUL.
    ///
    /// ```
    /// # #[cfg(feature = "tokio")]
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use pgbell::Connection;
    /// use pgbell::testing::{BackendConfig, Server};
    ///
    /// let server = Server::start(BackendConfig::new()).await?;
    /// let mut connection = Connection::connect(server.url()).await?;
    /// connection.listen("orders").await?;
    /// assert_eq!(server.notify("orders", "1")?, 1);
    /// assert_eq!(connection.recv_batch().await?.len(), 1);
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "tokio"))]
    /// # fn main() {}
    /// ```
    pub fn notify(&self, channel: &str, payload: &str) -> Result<usize, Error> {
        wire::check_channel(channel)?;
        wire::check_payload(payload)?;
        let mut backend = self.shared.backend();
        let listening = backend.sessions().filter(|&id| listens(&backend, id, channel)).count();
        backend.commit(NOTIFIER_PROCESS_ID, [(channel, payload)]);
        self.shared.wake(&mut backend);
        Ok(listening)
    }

    /// Waits until a session listens to a channel: until its LISTEN is committed.
    ///
    /// # Errors
    /// [`TimedOut`](io::ErrorKind::TimedOut), with the channels of every session.
    ///
    /// # Cancel safety
    /// Dropping the future has no effect.
    ///
    /// ```
    /// # #[cfg(feature = "tokio")]
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    /// use pgbell::testing::{BackendConfig, Server};
    ///
    /// let server = Server::start(BackendConfig::new()).await?;
    /// let url = server.url();
    /// // The program under test.
    /// tokio::spawn(async move {
    ///     let mut listener = pgbell::Listener::connect(url).await?;
    ///     listener.listen("orders").await?;
    ///     listener.recv().await
    /// });
    /// server.wait_for_listener("orders", Duration::from_secs(10)).await?;
    /// server.wait_until(Duration::from_secs(10), |backend| backend.sessions().count() > 0).await?;
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "tokio"))]
    /// # fn main() {}
    /// ```
    pub async fn wait_for_listener(&self, channel: &str, timeout: Duration) -> io::Result<()> {
        let waited =
            waiting::until(&self.shared, timeout, |backend| has_listener(backend, channel));
        waited.await.ok_or_else(|| self.no_listener(channel, timeout))
    }

    /// Like [`wait_for_listener`](Self::wait_for_listener), for a thread outside the runtime.
    ///
    /// # Errors
    /// [`TimedOut`](io::ErrorKind::TimedOut), with the channels of every session;
    /// [`Other`](io::ErrorKind::Other) in a runtime with one thread, which this call could block.
    pub fn blocking_wait_for_listener(&self, channel: &str, timeout: Duration) -> io::Result<()> {
        waiting::refuse_to_block()?;
        waiting::blocking_until(&self.shared, timeout, |backend| has_listener(backend, channel))
            .ok_or_else(|| self.no_listener(channel, timeout))
    }

    /// Waits until a condition of the backend is true. It is evaluated at once, and after everything that a client sends.
    ///
    /// The backend is locked during the evaluation: the condition must not call methods of this server.
    ///
    /// # Errors
    /// [`TimedOut`](io::ErrorKind::TimedOut), with the channels of every session.
    ///
    /// # Cancel safety
    /// Dropping the future has no effect.
    pub async fn wait_until(
        &self,
        timeout: Duration,
        condition: impl FnMut(&Backend) -> bool,
    ) -> io::Result<()> {
        let waited = waiting::until(&self.shared, timeout, condition).await;
        waited.ok_or_else(|| self.not_true(timeout))
    }

    /// Like [`wait_until`](Self::wait_until), for a thread outside the runtime.
    ///
    /// # Errors
    /// [`TimedOut`](io::ErrorKind::TimedOut), with the channels of every session;
    /// [`Other`](io::ErrorKind::Other) in a runtime with one thread, which this call could block.
    pub fn blocking_wait_until(
        &self,
        timeout: Duration,
        condition: impl FnMut(&Backend) -> bool,
    ) -> io::Result<()> {
        waiting::refuse_to_block()?;
        let waited = waiting::blocking_until(&self.shared, timeout, condition);
        waited.ok_or_else(|| self.not_true(timeout))
    }

    fn no_listener(&self, channel: &str, timeout: Duration) -> io::Error {
        let what = format!("no session listens to {channel:?}");
        waiting::timed_out(&what, timeout, &self.shared.backend())
    }

    fn not_true(&self, timeout: Duration) -> io::Error {
        let what = "the condition did not become true";
        waiting::timed_out(what, timeout, &self.shared.backend())
    }

    /// Ends the session with this process id as `pg_terminate_backend` does.
    pub fn terminate(&self, process_id: i32) {
        self.end(Some(process_id), Backend::terminate);
    }

    /// Ends every session as `pg_terminate_backend` does.
    pub fn terminate_all(&self) {
        self.end(None, Backend::terminate);
    }

    /// Ends the session with this process id without a message: the client sees the end of the stream.
    pub fn kill(&self, process_id: i32) {
        self.end(Some(process_id), Backend::kill);
    }

    /// Ends every session without a message.
    pub fn kill_all(&self) {
        self.end(None, Backend::kill);
    }

    fn end(&self, process_id: Option<i32>, how: fn(&mut Backend, SessionId)) {
        let mut backend = self.shared.backend();
        let wanted =
            |id: &SessionId| process_id.is_none_or(|it| backend.process_id(*id) == Some(it));
        let ids: Vec<_> = backend.sessions().filter(wanted).collect();
        for id in ids {
            how(&mut backend, id);
        }
        self.shared.wake(&mut backend);
    }

    /// Ends every session as a shutdown does, and refuses clients until [`resume`](Self::resume). Takes at most a second.
    ///
    /// The port stays reserved. Answers, counts and the configuration stay; the channels of the sessions are lost.
    ///
    /// # Cancel safety
    /// If it is dropped, some sessions may still run. Call it again.
    ///
    /// ```
    /// # #[cfg(feature = "tokio")]
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use pgbell::Connection;
    /// use pgbell::testing::{BackendConfig, Server};
    ///
    /// let mut server = Server::start(BackendConfig::new()).await?;
    /// let mut connection = Connection::connect(server.url()).await?;
    /// server.halt().await;
    /// assert_eq!(connection.recv_batch().await.unwrap_err().sqlstate(), Some("57P01"));
    /// assert!(Connection::connect(server.url()).await.is_err());
    /// server.resume().await?;
    /// Connection::connect(server.url()).await?;
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "tokio"))]
    /// # fn main() {}
    /// ```
    pub async fn halt(&mut self) {
        let mut tasks = Vec::with_capacity(self.ports.len());
        for port in &mut self.ports {
            tasks.push(port.close().await);
        }
        self.terminate_all();
        let last_messages = async {
            for tasks in &mut tasks {
                while tasks.join_next().await.is_some() {}
            }
        };
        // Sessions that take longer are aborted.
        let _ = tokio::time::timeout(HALT_TIMEOUT, last_messages).await;
        drop(tasks);
        self.forget_sessions().await;
    }

    /// Accepts clients again, on the same port.
    ///
    /// # Errors
    /// The error of the system, if the port is no longer available or the socket file cannot be created.
    pub async fn resume(&mut self) -> io::Result<()> {
        for port in &mut self.ports {
            port.open(&self.shared).await?;
        }
        Ok(())
    }

    /// Calls [`halt`](Self::halt) and [`resume`](Self::resume).
    ///
    /// # Errors
    /// See [`resume`](Self::resume).
    pub async fn restart(&mut self) -> io::Result<()> {
        self.halt().await;
        self.resume().await
    }

    /// Ends the server, and waits until its tasks have ended.
    pub async fn stop(mut self) {
        for port in &mut self.ports {
            port.abort().await;
        }
        self.forget_sessions().await;
    }

    /// Waits until the aborted tasks of the sessions are dropped: each removes its session from the backend.
    async fn forget_sessions(&self) {
        while self.clients() > 0 {
            tokio::task::yield_now().await;
        }
    }
}

fn has_listener(backend: &Backend, channel: &str) -> bool {
    backend.sessions().any(|id| listens(backend, id, channel))
}

fn listens(backend: &Backend, id: SessionId, channel: &str) -> bool {
    backend.channels(id).any(|one| one == channel)
}
