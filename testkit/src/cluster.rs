//! A running cluster, and the operations of tests on it.

use std::fmt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::builder::{ClusterBuilder, SUPERUSER};
use crate::error::Error;
use crate::installation::Installation;
use crate::server::Server;
use crate::signal::{Mode, Signal, process_stat};
use crate::url::{self, HOST};

/// A real PostgreSQL server with a data directory of its own. Both are removed when this is dropped, and when the
/// process ends.
///
/// All methods take `&self`: one thread may restart the server while others use it.
pub struct Cluster {
    installation: Installation,
    superuser_password: String,
    port: u16,
    socket_dir: Option<std::path::PathBuf>,
    /// The socket for the testkit's own sessions.
    pub(crate) socket: std::path::PathBuf,
    server: Mutex<Server>,
}

impl Cluster {
    /// Returns a builder with the defaults: SCRAM, a random password of the superuser, the first installation that is found.
    #[must_use]
    pub fn builder() -> ClusterBuilder {
        ClusterBuilder::new()
    }

    /// Starts a cluster with the defaults of the builder.
    ///
    /// # Errors
    /// As [`ClusterBuilder::start`].
    pub fn start() -> Result<Self, Error> {
        Self::builder().start()
    }

    pub(crate) fn new(server: Server, installation: Installation, password: String) -> Self {
        Self {
            installation,
            superuser_password: password,
            port: server.port,
            socket: server.socket(),
            socket_dir: server.unix_socket.then(|| server.scratch.socket_dir()),
            server: Mutex::new(server),
        }
    }

    pub(crate) fn server(&self) -> MutexGuard<'_, Server> {
        // A panic of another thread leaves no state that the next call does not check.
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the longest time of a start, a stop or a wait.
    pub(crate) fn timeout(&self) -> Duration {
        self.server().timeout
    }

    /// The address of the server, `127.0.0.1`.
    #[must_use]
    pub fn host(&self) -> &str {
        HOST
    }

    /// Returns the TCP port, which is in the name of the Unix socket too. It stays the same after restarts.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the directory of the Unix socket, for use as a host. `None` if the cluster has none.
    #[must_use]
    pub fn socket_dir(&self) -> Option<&Path> {
        self.socket_dir.as_deref()
    }

    /// Name of the superuser, `postgres`.
    #[must_use]
    pub fn superuser(&self) -> &str {
        SUPERUSER
    }

    /// Password of the superuser.
    #[must_use]
    pub fn superuser_password(&self) -> &str {
        &self.superuser_password
    }

    /// A connection URL over TCP. User, password and database are percent-encoded.
    #[must_use]
    pub fn url<'a>(
        &self,
        user: &str,
        password: impl Into<Option<&'a str>>,
        database: &str,
    ) -> String {
        url::tcp(self.port, user, password.into(), database)
    }

    /// Returns a connection URL over the Unix socket, or over TCP if the cluster has no such socket.
    #[must_use]
    pub fn socket_url<'a>(
        &self,
        user: &str,
        password: impl Into<Option<&'a str>>,
        database: &str,
    ) -> String {
        let Some(dir) = &self.socket_dir else { return self.url(user, password, database) };
        url::socket(&dir.to_string_lossy(), self.port, user, password.into(), database)
    }

    /// The URL of the superuser in the database `postgres`, with the password.
    #[must_use]
    pub fn url_for_superuser(&self) -> String {
        self.url(SUPERUSER, self.superuser_password.as_str(), "postgres")
    }

    /// Returns everything that the server has logged since its first start.
    #[must_use]
    pub fn log(&self) -> String {
        self.server().log().all()
    }

    /// Returns the installation of the server.
    #[must_use]
    pub fn installation(&self) -> &Installation {
        &self.installation
    }

    /// Returns the version, as [`Installation::version`] does.
    #[must_use]
    pub fn version(&self) -> &str {
        self.installation.version()
    }

    /// Returns the major version, such as 15.
    #[must_use]
    pub fn major(&self) -> u32 {
        self.installation.major()
    }

    /// Returns the process id of the postmaster. `None` if it does not run.
    #[must_use]
    pub fn postmaster_pid(&self) -> Option<u32> {
        let mut server = self.server();
        if server.is_running() { server.pid() } else { None }
    }

    /// The data directory. It belongs to the server's user.
    #[must_use]
    pub fn data_dir(&self) -> std::path::PathBuf {
        self.server().data()
    }

    /// Stops the server and waits for its end. Does nothing if it does not run.
    ///
    /// # Errors
    /// If it has not ended after the builder's timeout, for example with [`Mode::Smart`] while a client is connected.
    pub fn stop(&self, mode: Mode) -> Result<(), Error> {
        self.server().stop(mode)
    }

    /// Starts the server again, on the same port, and waits until it accepts connections.
    ///
    /// # Errors
    /// If it runs already, or does not become ready.
    pub fn start_again(&self) -> Result<(), Error> {
        self.server().start_again()
    }

    /// Stops ([`Mode::Fast`]) and starts again.
    ///
    /// # Errors
    /// As [`stop`](Self::stop) and [`start_again`](Self::start_again).
    pub fn restart(&self) -> Result<(), Error> {
        let mut server = self.server();
        server.stop(Mode::Fast)?;
        server.start_again()
    }

    /// Ends the postmaster with SIGKILL. Its backends end by themselves when they notice.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill_postmaster(&self) -> Result<(), Error> {
        let mut server = self.server();
        if !server.is_running() {
            return Err(Error::new("the server does not run"));
        }
        server.kill();
        Ok(())
    }

    /// Sends a signal to the postmaster, such as [`Signal::Hup`] after a change of its files, or [`Signal::Stop`] to
    /// freeze it.
    ///
    /// # Errors
    /// When it does not run.
    pub fn signal_postmaster(&self, signal: Signal) -> Result<(), Error> {
        self.server().signal(signal)
    }

    /// Ends a session as `pg_terminate_backend` does: the client gets the error 57P01.
    ///
    /// # Errors
    /// As [`signal_backend`](Self::signal_backend).
    pub fn terminate_backend(&self, pid: i32) -> Result<(), Error> {
        self.signal_backend(pid, Signal::Term)
    }

    /// Sends a signal to a backend of this server, by the process id that its client has got. It may also
    /// be another child of the postmaster, such as a WAL sender.
    ///
    /// After [`Signal::Stop`] the client receives nothing, and TCP keepalive does not detect it. After [`Signal::Kill`]
    /// the server ends all sessions and restarts: see [`wait_ready`](Self::wait_ready).
    ///
    /// # Errors
    /// If that process is not a child of this postmaster.
    pub fn signal_backend(&self, pid: i32, signal: Signal) -> Result<(), Error> {
        let mut server = self.server();
        let postmaster = if server.is_running() { server.pid() } else { None };
        let foreign = || Error::new(format!("process {pid} is not a backend of this server"));
        let backend = u32::try_from(pid).map_err(|_| foreign())?;
        match (postmaster, process_stat(backend)) {
            (Some(postmaster), Some(stat)) if postmaster == stat.parent => signal.send(backend),
            _ => Err(foreign()),
        }
    }
}

impl fmt::Debug for Cluster {
    // Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster")
            .field("installation", &self.installation)
            .field("port", &self.port)
            .field("socket_dir", &self.socket_dir)
            .finish_non_exhaustive()
    }
}
