//! A running cluster and what a test does to it.

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

/// A real PostgreSQL server with a data directory of its own. Both are gone when this is dropped, or when the
/// process ends.
///
/// All methods take `&self`: one thread may restart the server while others use it.
pub struct Cluster {
    installation: Installation,
    superuser_password: String,
    port: u16,
    socket_dir: Option<std::path::PathBuf>,
    /// For the testkit's own sessions.
    pub(crate) socket: std::path::PathBuf,
    server: Mutex<Server>,
}

impl Cluster {
    /// Describes a cluster: SCRAM, a random password of the superuser, the installation that is found first.
    #[must_use]
    pub fn builder() -> ClusterBuilder {
        ClusterBuilder::new()
    }

    /// A cluster as the builder makes it by default.
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
        // A panic of another thread leaves nothing half done that the next call would not see.
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long a start, a stop or a wait may take.
    pub(crate) fn patience(&self) -> Duration {
        self.server().patience
    }

    /// The address of the server, `127.0.0.1`.
    #[must_use]
    pub fn host(&self) -> &str {
        HOST
    }

    /// The TCP port. It stays the same over restarts, and names the Unix socket too.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The directory of the Unix socket, to be used as a host. `None` when the cluster has none.
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

    /// A connection URL over the Unix socket, over TCP when the cluster has no such socket.
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

    /// Everything that the server has logged, of all its starts.
    #[must_use]
    pub fn log(&self) -> String {
        self.server().log().all()
    }

    /// The installation that the server is of.
    #[must_use]
    pub fn installation(&self) -> &Installation {
        &self.installation
    }

    /// Version as in [`Installation::version`].
    #[must_use]
    pub fn version(&self) -> &str {
        self.installation.version()
    }

    /// Major version, as 15.
    #[must_use]
    pub fn major(&self) -> u32 {
        self.installation.major()
    }

    /// Process number of the postmaster. `None` when it does not run.
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

    /// Stops the server and waits for its end. Nothing happens when it does not run.
    ///
    /// # Errors
    /// When it has not ended after the builder's timeout, as with [`Mode::Smart`] while a client stays.
    pub fn stop(&self, mode: Mode) -> Result<(), Error> {
        self.server().stop(mode)
    }

    /// Starts the server again, on the same port, and waits until it takes connections.
    ///
    /// # Errors
    /// When it runs already, or does not come up.
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

    /// Sends a signal to the postmaster: [`Signal::Hup`] after a change of its files, [`Signal::Stop`] to
    /// freeze it.
    ///
    /// # Errors
    /// When it does not run.
    pub fn signal_postmaster(&self, signal: Signal) -> Result<(), Error> {
        self.server().signal(signal)
    }

    /// Ends a session as `pg_terminate_backend` does: the client is told 57P01.
    ///
    /// # Errors
    /// As [`signal_backend`](Self::signal_backend).
    pub fn terminate_backend(&self, pid: i32) -> Result<(), Error> {
        self.signal_backend(pid, Signal::Term)
    }

    /// Sends a signal to a backend of this server, by the process number that a client knows it under. It may
    /// be another child of the postmaster, as a WAL sender.
    ///
    /// After [`Signal::Stop`] the peer sees silence, and no keepalive of TCP notices. After [`Signal::Kill`]
    /// the server ends all sessions and starts anew: see [`wait_ready`](Self::wait_ready).
    ///
    /// # Errors
    /// When that process is not a child of this postmaster.
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
