//! A connection pooler before a cluster.

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

/// For how long a client has a server connection for itself. The names of `pool_mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PoolMode {
    /// Until it leaves. LISTEN works.
    Session,
    /// Until its transaction ends. LISTEN seems to work, and nothing arrives.
    Transaction,
    /// Until its statement ends.
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

/// A PgBouncer on a free port of 127.0.0.1, before a cluster. It runs as an ordinary user, and it is gone
/// when the value is dropped or when the process that holds it ends in any way.
pub struct PgBouncer {
    port: u16,
    mode: PoolMode,
    process: Mutex<Process>,
}

impl PgBouncer {
    /// A pooler that lets the cluster's superuser in, with the password.
    ///
    /// # Errors
    /// As [`PgBouncerBuilder::start`].
    pub fn start(cluster: &Cluster, mode: PoolMode) -> Result<Self, Error> {
        Self::builder(cluster, mode).start()
    }

    /// Describes a pooler before this cluster.
    #[must_use]
    pub fn builder(cluster: &Cluster, mode: PoolMode) -> PgBouncerBuilder {
        PgBouncerBuilder::new(cluster, mode)
    }

    fn process(&self) -> MutexGuard<'_, Process> {
        // A panic of another thread leaves nothing half done that the next call would not see.
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The TCP port. It stays the same over restarts.
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

    /// Everything that it has logged, of all its starts.
    #[must_use]
    pub fn log(&self) -> String {
        self.process().log().all()
    }

    /// Process number. `None` when it does not run.
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

    /// Ends it at once (SIGTERM) and waits. Nothing happens when it does not run.
    pub fn stop(&self) {
        self.process().stop();
    }

    /// Starts it again on the same port, and waits until it takes connections.
    ///
    /// # Errors
    /// When it runs already, or does not come up.
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
