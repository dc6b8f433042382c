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

/// What the server logs when it does not take all of its files.
const REFUSALS: [&str; 2] = [" contains errors", " was not reloaded"];

impl Cluster {
    /// Changes a setting for all sessions that begin from now on; those that are there take it over with
    /// their next command. A server that does not run takes it when it starts.
    ///
    /// # Errors
    /// When the server refuses the value, or the setting needs a restart: then the setting stays as it was.
    /// To change one of those stop the server first.
    pub fn set(&self, name: &str, value: &str) -> Result<(), Error> {
        self.server().configure(&setting_line(name, value)?)
    }

    /// Makes every transaction read-only unless it says otherwise (`default_transaction_read_only`): what
    /// clients see of a primary that is about to be switched over. They see that before they log in.
    ///
    /// # Errors
    /// As [`set`](Self::set).
    pub fn set_read_only(&self, read_only: bool) -> Result<(), Error> {
        self.set("default_transaction_read_only", if read_only { "on" } else { "off" })
    }

    /// Changes certificate, key and the rest for all connections that begin from now on. The end of TLS is
    /// `set("ssl", "off")`.
    ///
    /// # Errors
    /// When the server refuses them: it goes on with what it had.
    pub fn set_tls(&self, tls: impl Into<Tls>) -> Result<(), Error> {
        let tls = tls.into();
        let mut server = self.server();
        server.write_tls(&tls)?;
        server.configure(&tls.settings()?)
    }

    /// Writes a file in the data directory as the server's user, in the place of what is there. It is readable by that user
    /// only. The server reads it when it is told to: see [`reload`](Self::reload).
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_file(&self, name: &str, contents: impl AsRef<[u8]>) -> Result<(), Error> {
        self.server().write_file(name, contents.as_ref())
    }

    /// Makes the server read its files again, and waits until every new connection is served by them.
    ///
    /// # Errors
    /// When the server refuses one of them, with what it logged.
    pub fn reload(&self) -> Result<(), Error> {
        self.server().reload()
    }

    /// Waits until the server lets somebody in: after [`signal_backend`](Self::signal_backend) with
    /// [`Signal::Kill`] it restarts all of its processes.
    ///
    /// # Errors
    /// When it takes longer than the builder's timeout.
    pub fn wait_ready(&self) -> Result<(), Error> {
        session::until_true(&self.socket, "SELECT true", self.patience())
            .map_err(|last| Error::new(format!("the server on port {}: {last}", self.port())))
    }
}

impl Server {
    /// Files of the data directory, for the server's user only.
    pub(crate) fn write_tls(&self, tls: &Tls) -> Result<(), Error> {
        tls.files().iter().try_for_each(|(name, text)| self.write_file(name, text.as_bytes()))
    }

    /// Adds lines to `postgresql.conf`, and takes them away again when the server does not want them.
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
        // A new session has the time from the postmaster, which keeps the old one when it takes nothing.
        let sql = format!("SELECT pg_conf_load_time() > '{before}'");
        let deadline = Instant::now() + self.patience;
        while let Err(last) = session::is_true(&socket, &sql) {
            self.refusal(begin)?;
            if Instant::now() >= deadline {
                let seconds = self.patience.as_secs();
                return Err(Error::new(format!(
                    "the server did not reload its files within {seconds} s: {last}"
                )));
            }
            thread::sleep(PAUSE);
        }
        // The postmaster has let nobody in before it was done with all of them.
        drop(open()?);
        self.refusal(begin)
    }

    /// An error when the server has logged one since.
    fn refusal(&self, begin: u64) -> Result<(), Error> {
        let said = self.log().since(begin).unwrap_or_default();
        if REFUSALS.iter().any(|words| said.contains(words)) {
            return Err(Error::new("the server does not take the change").with_log(said.trim()));
        }
        Ok(())
    }
}
