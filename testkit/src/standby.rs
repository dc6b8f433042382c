//! Streaming replication: make a standby, wait until it has caught up, promote it.

use std::path::Path;
use std::ptr;

use crate::cluster::Cluster;
use crate::error::Error;
use crate::files::{append_as, write_as};
use crate::guard::Scratch;
use crate::proxy::Proxy;
use crate::server::Server;
use crate::session::{self, ROLE, ROLE_STREAMS_SQL, Session};
use crate::setting::setting_line;
use crate::signal::Mode;
use crate::url::HOST;

/// The file that makes a server a standby. The server removes it at its promotion.
const SIGNAL: &str = "standby.signal";

impl Cluster {
    /// Starts a standby that streams from this server: a copy of its data directory, on a port of its own.
    ///
    /// This server is stopped ([`Mode::Fast`]) for the copy and started again, so its sessions end. The
    /// standby logs in as the testkit's own role, over the Unix socket, which lets that role stream from now on.
    ///
    /// # Errors
    /// If stopping, copying or starting fails.
    pub fn standby(&self) -> Result<Self, Error> {
        self.make_standby(None)
    }

    /// Starts a standby as [`standby`](Self::standby) does, which streams through a proxy in front of this server. So
    /// the network between the two can be disturbed, and a commit that waits for the standby takes as long as the proxy delays.
    ///
    /// The standby logs in as the superuser, over TCP and with the password, which [`Auth::Cert`](crate::Auth::Cert) does not accept.
    /// Commits wait for it when `synchronous_commit` is `on` and `synchronous_standby_names` is `*`. [Set](Self::set) the latter when the
    /// standby is there: commits wait for ever while it is not connected.
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// use pgbell_testkit::{Cluster, Direction, Flow, Proxy};
    ///
    /// let primary = Cluster::builder()
    ///     .setting("synchronous_commit", "on")
    ///     .start()?;
    /// let proxy = Proxy::start(primary.port())?;
    /// let standby = primary.standby_through(&proxy)?;
    /// primary.set("synchronous_standby_names", "*")?;
    /// // Soon each commit takes at least 2 ms:
    /// proxy.handle().set(Direction::ToServer, Flow::Delay(Duration::from_millis(2)));
    /// # drop(standby);
    /// # Ok::<(), pgbell_testkit::Error>(())
    /// ```
    ///
    /// # Errors
    /// If stopping, copying or starting fails. A standby that cannot log in starts nevertheless, and never catches up:
    /// see [`wait_caught_up`](Self::wait_caught_up).
    pub fn standby_through(&self, proxy: &Proxy) -> Result<Self, Error> {
        let user =
            format!("user={} password={}", self.superuser(), quoted(self.superuser_password()));
        self.make_standby(Some(&format!("host={HOST} port={} {user}", proxy.port())))
    }

    /// Starts a standby with this `primary_conninfo`, by default that of the testkit's own role.
    fn make_standby(&self, conninfo: Option<&str>) -> Result<Self, Error> {
        let mut primary = self.server();
        let scratch = Scratch::new(
            primary.scratch.user(),
            // In the parent of the primary's directory, which its user can enter.
            primary.scratch.home().parent(),
        )?;
        let mut standby = Server {
            scratch,
            bin: primary.bin.clone(),
            port: 0,
            unix_socket: primary.unix_socket,
            timeout: primary.timeout,
            running: None,
        };
        copy(&mut primary, &standby, conninfo)?;
        standby.start_somewhere()?;
        let (installation, password) = (self.installation(), self.superuser_password());
        Ok(Self::new(standby, installation.clone(), password.to_owned()))
    }

    /// Makes this server a standby of another one, on its own port, as an old primary after a
    /// failover. Its data are replaced by a copy, for which the other server is stopped ([`Mode::Fast`]) and
    /// started again.
    ///
    /// # Errors
    /// If both are the same or of different major versions, or stopping, copying or starting fails.
    pub fn follow(&self, primary: &Self) -> Result<(), Error> {
        if ptr::eq(self, primary) {
            return Err(Error::new("a server cannot be its own standby"));
        }
        if self.major() != primary.major() {
            let (own, other) = (self.major(), primary.major());
            return Err(Error::new(format!(
                "version {own} cannot be a standby of version {other}"
            )));
        }
        let mut server = self.server();
        let mut primary = primary.server();
        server.stop(Mode::Immediate)?;
        server.scratch.empty_data()?;
        copy(&mut primary, &server, None)?;
        server.start_again()
    }

    /// Waits until this standby has everything that is committed on its primary.
    ///
    /// # Errors
    /// If one of them does not answer, or it takes longer than the builder's timeout.
    pub fn wait_caught_up(&self, primary: &Self) -> Result<(), Error> {
        let target = position(&primary.socket).map_err(session::unanswered(&primary.socket))?;
        let sql = format!("SELECT coalesce(pg_last_wal_replay_lsn() >= '{target}', false)");
        session::until_true(&self.socket, &sql, self.timeout())
            .map_err(|last| Error::new(format!("the standby did not reach {target}: {last}")))
    }

    /// Promotes a standby and waits until it is a primary.
    ///
    /// # Errors
    /// If the server is not a standby, or does not become a primary within the builder's timeout.
    pub fn promote(&self) -> Result<(), Error> {
        let server = self.server();
        let mut promote = server.scratch.user().command(server.bin.join("pg_ctl"));
        let seconds = server.timeout.as_secs().max(1).to_string();
        promote.args(["promote", "-w", "-t", &seconds, "-D"]).arg(server.data());
        let output =
            promote.output().map_err(|cause| Error::io("cannot run pg_ctl promote", cause))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(Error::new(format!("the server cannot be promoted: {}", said.trim())))
    }
}

/// Returns the end of the write-ahead log, after everything that is committed.
///
/// With `synchronous_commit` off a commit may not be in the log yet. One more commit, which waits for the
/// disk but for no other standby, writes all commits before it too.
fn position(socket: &Path) -> std::io::Result<String> {
    let mut session = Session::open(socket)?;
    if session.ask("SELECT pg_is_in_recovery()")? == "t" {
        return session.ask("SELECT pg_last_wal_replay_lsn()");
    }
    session.ask(
        "SET synchronous_commit = local; SELECT pg_logical_emit_message(true, 'pgbell-testkit', '')",
    )?;
    session.ask("SELECT pg_current_wal_flush_lsn()")
}

/// Fills the standby's data directory, which is empty, and leaves the primary running. Without a `primary_conninfo` the standby
/// streams over the Unix socket.
fn copy(primary: &mut Server, standby: &Server, conninfo: Option<&str>) -> Result<(), Error> {
    primary.stop(Mode::Fast)?;
    // A standby gets the role from its primary, and executes no SQL.
    if !primary.data().join(SIGNAL).exists() {
        primary.run_alone([ROLE_STREAMS_SQL].into_iter())?;
    }
    let mut copy = standby.scratch.command(Path::new("/bin/cp"));
    copy.arg("-Rp").arg(primary.data().join(".")).arg(standby.data());
    let copied = standby.scratch.run("cp", &mut copy);
    primary.start_again()?;
    copied?;

    let (host, port) = (primary.scratch.socket_dir(), primary.port);
    let own = || format!("host={} port={port} user={ROLE}", host.display());
    let conninfo = conninfo.map_or_else(own, str::to_owned);
    let data = standby.data();
    let settings = [
        setting_line("primary_conninfo", &conninfo)?,
        // With the default, 5 s, it would notice late that its primary runs again.
        setting_line("wal_retrieve_retry_interval", "100ms")?,
    ];
    let user = standby.scratch.user();
    append_as(user, &data.join("postgresql.conf"), &settings.concat())?;
    write_as(user, &data.join(SIGNAL), b"")
}

/// Returns a value of a `key=value` string.
fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\\', r"\\").replace('\'', r"\'"))
}
