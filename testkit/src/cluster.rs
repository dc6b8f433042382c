//! A running cluster and what a test does to it.

use std::fmt;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::builder::{ClusterBuilder, SUPERUSER, setting_line};
use crate::error::Error;
use crate::files::append;
use crate::guard::Scratch;
use crate::installation::Installation;
use crate::server::Server;
use crate::signal::{Mode, Signal};

/// The address that every server listens on.
const HOST: &str = "127.0.0.1";

/// A real PostgreSQL server with a data directory of its own. Both are gone when this is dropped, or when the
/// process ends.
///
/// All methods take `&self`: one thread may restart the server while others use it.
pub struct Cluster {
    installation: Installation,
    superuser_password: String,
    port: u16,
    socket_dir: Option<std::path::PathBuf>,
    server: Mutex<Server>,
}

impl Cluster {
    /// Describes a cluster: trust login, the installation that is found first.
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
            socket_dir: server.unix_socket.then(|| server.scratch.socket_dir().to_owned()),
            server: Mutex::new(server),
        }
    }

    fn server(&self) -> MutexGuard<'_, Server> {
        // A panic of another thread leaves nothing half done that the next call would not see.
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
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
        let login = login(user, password.into());
        format!("postgresql://{login}@{HOST}:{}/{}", self.port, percent(database))
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
        let login = login(user, password.into());
        let (dir, database) = (percent(&dir.to_string_lossy()), percent(database));
        format!("postgresql://{login}@/{database}?host={dir}&port={}", self.port)
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

    /// Sends a signal to a backend of this server, by the process number that a client knows it under.
    ///
    /// # Errors
    /// When that process is not a child of this postmaster.
    pub fn signal_backend(&self, pid: i32, signal: Signal) -> Result<(), Error> {
        let mut server = self.server();
        let postmaster = if server.is_running() { server.pid() } else { None };
        let foreign = || Error::new(format!("process {pid} is not a backend of this server"));
        let backend = u32::try_from(pid).map_err(|_| foreign())?;
        match (postmaster, parent_of(backend)) {
            (Some(postmaster), Some(parent)) if postmaster == parent => signal.send(backend),
            _ => Err(foreign()),
        }
    }

    /// A standby that streams from this server: a copy of its data directory.
    ///
    /// This server is stopped ([`Mode::Fast`]) for the copy and started again, so that its sessions end.
    ///
    /// # Errors
    /// When stopping, copying or starting fails.
    pub fn standby(&self) -> Result<Self, Error> {
        let mut primary = self.server();
        let scratch = Scratch::new(
            primary.scratch.user(),
            // Beside the primary, where its user may write.
            primary.scratch.dir().parent(),
        )?;
        let mut standby = Server {
            scratch,
            bin: primary.bin.clone(),
            port: 0,
            unix_socket: primary.unix_socket,
            patience: primary.patience,
            running: None,
        };
        primary.stop(Mode::Fast)?;
        let mut copy = standby.scratch.command(Path::new("/bin/cp"));
        copy.arg("-Rp").arg(primary.data()).arg(standby.data());
        let copied = standby.scratch.run("cp", &mut copy);
        primary.start_again()?;
        copied?;

        let conninfo = format!(
            "host={HOST} port={} user={SUPERUSER} password={}",
            self.port,
            conninfo_value(&self.superuser_password)
        );
        let data = standby.data();
        append(&data.join("postgresql.conf"), &setting_line("primary_conninfo", &conninfo)?)?;
        let signal = data.join("standby.signal");
        fs::write(&signal, "").map_err(Error::on("write", &signal))?;
        standby.scratch.user().give(&signal)?;
        standby.start_somewhere()?;
        Ok(Self::new(standby, self.installation.clone(), self.superuser_password.clone()))
    }

    /// Makes a standby a primary and waits until it is one.
    ///
    /// # Errors
    /// When the server is not a standby, or does not become a primary within 60 s.
    pub fn promote(&self) -> Result<(), Error> {
        let server = self.server();
        let mut promote = server.scratch.user().command(server.bin.join("pg_ctl"));
        promote.args(["promote", "-w", "-t", "60", "-D"]).arg(server.data());
        let output =
            promote.output().map_err(|cause| Error::io("cannot run pg_ctl promote", cause))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(Error::new(format!("the server cannot be promoted: {}", said.trim())))
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

fn login(user: &str, password: Option<&str>) -> String {
    match password {
        Some(password) => format!("{}:{}", percent(user), percent(password)),
        None => percent(user),
    }
}

/// RFC 3986: everything but the unreserved characters is encoded.
fn percent(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// A value of a key=value connection string.
fn conninfo_value(value: &str) -> String {
    format!("'{}'", value.replace('\\', r"\\").replace('\'', r"\'"))
}

fn parent_of(pid: u32) -> Option<u32> {
    if let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) {
        // `pid (name) state parent …`, and the name may hold anything.
        let (_, rest) = stat.rsplit_once(')')?;
        return rest.split_whitespace().nth(1)?.parse().ok();
    }
    let mut ps = Command::new("ps");
    ps.args(["-o", "ppid=", "-p", &pid.to_string()]).stdin(Stdio::null());
    String::from_utf8(ps.output().ok()?.stdout).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_hold_any_character() {
        assert_eq!(login("bob", None), "bob");
        assert_eq!(login("a@b", Some("ß:/?")), "a%40b:%C3%9F%3A%2F%3F");
        assert_eq!(conninfo_value(r"it's \"), r"'it\'s \\'");
    }

    #[test]
    fn a_process_knows_its_parent() {
        let child = Command::new("/bin/sh").args(["-c", "echo $PPID"]).output().unwrap();
        assert_eq!(String::from_utf8(child.stdout).unwrap().trim(), std::process::id().to_string());
        assert_eq!(parent_of(std::process::id()), Some(std::os::unix::process::parent_id()));
    }
}
