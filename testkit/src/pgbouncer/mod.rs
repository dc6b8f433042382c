//! A connection pooler in front of a cluster.

mod builder;
mod process;

use std::fmt;
use std::process::Child;
use std::sync::{Mutex, MutexGuard, PoisonError};

pub use builder::PgBouncerBuilder;

use crate::cluster::Cluster;
use crate::error::Error;
use crate::signal::Signal;
use crate::url;
use process::Process;

/// The time for which a client keeps a server connection. The names are those of `pool_mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PoolMode {
    /// It ends when the client disconnects. LISTEN works.
    Session,
    /// It ends with each transaction. LISTEN seems to work, but no notification arrives.
    Transaction,
    /// It ends with each statement.
    Statement,
}

impl PoolMode {
    fn name(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Transaction => "transaction",
            Self::Statement => "statement",
        }
    }
}

/// A PgBouncer on a free port of 127.0.0.1, in front of a cluster. It runs as an ordinary user, and it is removed
/// when the value is dropped or when its process ends in any way.
pub struct PgBouncer {
    port: u16,
    mode: PoolMode,
    process: Mutex<Process>,
}

impl PgBouncer {
    /// Starts a pooler to which the cluster's superuser can log in, with the password.
    ///
    /// # Errors
    /// As [`PgBouncerBuilder::start`].
    pub fn start(cluster: &Cluster, mode: PoolMode) -> Result<Self, Error> {
        Self::builder(cluster, mode).start()
    }

    /// Describes a pooler in front of this cluster.
    #[must_use]
    pub fn builder(cluster: &Cluster, mode: PoolMode) -> PgBouncerBuilder {
        PgBouncerBuilder::new(cluster, mode)
    }

    fn process(&self) -> MutexGuard<'_, Process> {
        // A panic of another thread leaves no state that the next call does not check.
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the TCP port. It stays the same after restarts.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A connection URL. User, password and database are percent-encoded.
    #[must_use]
    pub fn url<'a>(
        &self,
        user: &str,
        password: impl Into<Option<&'a str>>,
        database: &str,
    ) -> String {
        url::tcp(self.port, user, password.into(), database)
    }

    /// Returns everything that it has logged since its first start.
    #[must_use]
    pub fn log(&self) -> String {
        self.process().log().all()
    }

    /// Returns the process id. `None` if it does not run.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        let mut process = self.process();
        if process.is_running() { process.running.as_ref().map(Child::id) } else { None }
    }

    /// Sends it a signal: [`Signal::Stop`] to freeze it, [`Signal::Int`] to let transactions end first.
    ///
    /// # Errors
    /// When it does not run.
    pub fn signal(&self, signal: Signal) -> Result<(), Error> {
        let pid = self.pid().ok_or_else(|| Error::new("PgBouncer does not run"))?;
        signal.send(pid)
    }

    /// Ends it at once (SIGTERM) and waits. Does nothing if it does not run.
    pub fn stop(&self) {
        self.process().stop();
    }

    /// Starts it again on the same port, and waits until it accepts connections.
    ///
    /// # Errors
    /// If it runs already, or does not become ready.
    pub fn start_again(&self) -> Result<(), Error> {
        let mut process = self.process();
        if process.is_running() {
            return Err(Error::new("PgBouncer runs already"));
        }
        process.launch()
    }
}

impl fmt::Debug for PgBouncer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PgBouncer")
            .field("port", &self.port)
            .field("mode", &self.mode)
            .finish_non_exhaustive()
    }
}
