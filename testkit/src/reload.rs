//! Changes while the server runs.

use std::thread;
use std::time::Instant;

use crate::cluster::Cluster;
use crate::error::Error;
use crate::files::{read_as, write_as};
use crate::server::Server;
use crate::session::{self, PAUSE, Session, unanswered};
use crate::setting::setting_line;
use crate::signal::Signal;
use crate::tls::Tls;

/// What the server logs if it refuses one of its files.
const REFUSALS: [&str; 2] = [" contains errors", " was not reloaded"];

impl Cluster {
    /// Changes a setting for all sessions that begin from now on. Present sessions use it from
    /// their next command on. A server that does not run uses it when it starts.
    ///
    /// # Errors
    /// If the server refuses the value, or the setting needs a restart: then the setting is not changed.
    /// To change a setting that needs a restart, stop the server first.
    pub fn set(&self, name: &str, value: &str) -> Result<(), Error> {
        self.server().configure(&setting_line(name, value)?)
    }

    /// Makes every transaction read-only by default (`default_transaction_read_only`), as on a primary shortly before a
    /// switchover. Clients see it during the login.
    ///
    /// # Errors
    /// As [`set`](Self::set).
    pub fn set_read_only(&self, read_only: bool) -> Result<(), Error> {
        self.set("default_transaction_read_only", if read_only { "on" } else { "off" })
    }

    /// Changes the certificate, the key and the other files of TLS for all connections that begin from now on. To switch TLS
    /// off, use `set("ssl", "off")`.
    ///
    /// # Errors
    /// If the server refuses them. It then continues with the files before.
    pub fn set_tls(&self, tls: impl Into<Tls>) -> Result<(), Error> {
        let tls = tls.into();
        let mut server = self.server();
        server.write_tls(&tls)?;
        server.configure(&tls.settings()?)
    }

    /// Writes a file in the data directory as the server's user, and replaces an existing one. Only that user can read it.
    /// The server reads it after a [`reload`](Self::reload).
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write_file(&self, name: &str, contents: impl AsRef<[u8]>) -> Result<(), Error> {
        self.server().write_file(name, contents.as_ref())
    }

    /// Makes the server read its files again, and waits until they apply to every new connection.
    ///
    /// # Errors
    /// If the server refuses one of them, with what it logged.
    pub fn reload(&self) -> Result<(), Error> {
        self.server().reload()
    }

    /// Waits until the server accepts connections: after [`signal_backend`](Self::signal_backend) with
    /// [`Signal::Kill`] it restarts all of its processes.
    ///
    /// # Errors
    /// If it takes longer than the builder's timeout.
    pub fn wait_ready(&self) -> Result<(), Error> {
        session::until_true(&self.socket, "SELECT true", self.timeout())
            .map_err(|last| Error::new(format!("the server on port {}: {last}", self.port())))
    }
}

impl Server {
    /// Writes the files of TLS in the data directory, which only the server's user can read.
    pub(crate) fn write_tls(&self, tls: &Tls) -> Result<(), Error> {
        tls.files().iter().try_for_each(|(name, text)| self.write_file(name, text.as_bytes()))
    }

    /// Adds lines to `postgresql.conf`, and removes them again if the server refuses them.
    fn configure(&mut self, lines: &str) -> Result<(), Error> {
        let path = self.data().join("postgresql.conf");
        let user = self.scratch.user().clone();
        let before = read_as(&user, &path)?;
        write_as(&user, &path, &[before.as_slice(), lines.as_bytes()].concat())?;
        if !self.is_running() {
            return Ok(());
        }
        self.reload().or_else(|error| {
            write_as(&user, &path, &before)?;
            Err(error)
        })
    }

    fn reload(&mut self) -> Result<(), Error> {
        let socket = self.socket();
        let open = || Session::open(&socket).map_err(unanswered(&socket));
        let before = open()?.ask("SELECT pg_conf_load_time()");
        let before = before.map_err(unanswered(&socket))?;
        let begin = self.log().length();
        self.signal(Signal::Hup)?;
        // A new session gets the time of the last reload from the postmaster, which keeps the old time if it refuses the files.
        let sql = format!("SELECT pg_conf_load_time() > '{before}'");
        let deadline = Instant::now() + self.timeout;
        while let Err(last) = session::is_true(&socket, &sql) {
            self.refusal(begin)?;
            if Instant::now() >= deadline {
                let seconds = self.timeout.as_secs();
                return Err(Error::new(format!(
                    "the server did not reload its files within {seconds} s: {last}"
                )));
            }
            thread::sleep(PAUSE);
        }
        // The postmaster accepts no connection before it has read all of them.
        drop(open()?);
        self.refusal(begin)
    }

    /// Returns an error if the server has logged one since `begin`.
    fn refusal(&self, begin: u64) -> Result<(), Error> {
        let said = self.log().since(begin).unwrap_or_default();
        if REFUSALS.iter().any(|words| said.contains(words)) {
            return Err(Error::new("the server does not take the change").with_log(said.trim()));
        }
        Ok(())
    }
}
