//! A connection pooler before a cluster.

use std::env;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::auth::Auth;
use crate::cluster::Cluster;
use crate::error::{Error, NotFound};
use crate::files::write_private;
use crate::guard::{Scratch, wait};
use crate::log::Log;
use crate::port;
use crate::signal::Signal;
use crate::tls::Tls;
use crate::url::{self, HOST};
use crate::user::User;

/// Directories that are looked into beside those of `PATH`: ordinary users often do without them.
const SYSTEM_DIRS: [&str; 3] = ["/usr/sbin", "/usr/local/sbin", "/usr/local/bin"];

/// What PgBouncer logs when it takes connections.
const READY: &str = "process up: PgBouncer";

/// What it logs when somebody else has its port.
const PORT_TAKEN: &str = "Address already in use";

/// How long it may take to die of SIGTERM before SIGKILL.
const TERM_MAX: Duration = Duration::from_secs(5);

/// Parameters that clients send when they log in, and that a pooler refuses unless it is told not to.
const IGNORED: &str = "extra_float_digits, options, search_path, statement_timeout, lock_timeout, \
                       idle_in_transaction_session_timeout, idle_session_timeout";

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

/// Describes a [`PgBouncer`]. Made by [`PgBouncer::builder`].
#[derive(Clone)]
pub struct PgBouncerBuilder {
    server_port: u16,
    mode: PoolMode,
    auth: Auth,
    users: Vec<(String, String)>,
    settings: Vec<(String, String)>,
    tls: Option<Tls>,
    patience: Duration,
}

impl PgBouncerBuilder {
    /// How clients log in to the pooler. [`Auth::Trust`] by default: the pooler knows the passwords that the
    /// server wants.
    #[must_use]
    pub fn auth(mut self, auth: Auth) -> Self {
        self.auth = auth;
        self
    }

    /// A user that may log in, with the password that the pooler checks and gives to the server. The
    /// cluster's superuser is one already.
    #[must_use]
    pub fn user(mut self, name: impl Into<String>, password: impl Into<String>) -> Self {
        self.users.push((name.into(), password.into()));
        self
    }

    /// A setting of `pgbouncer.ini`, section `pgbouncer`. The last one of a name counts.
    #[must_use]
    pub fn setting(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.push((name.into(), value.into()));
        self
    }

    /// Offers TLS to clients. Connections without it stay possible. The versions of a [`Tls`] and its list of
    /// what is revoked do not count here.
    #[must_use]
    pub fn tls(mut self, tls: impl Into<Tls>) -> Self {
        self.tls = Some(tls.into());
        self
    }

    /// Starts the pooler on a free port and waits until it takes connections.
    ///
    /// # Errors
    /// [`Error::is_not_found`] when PgBouncer is not installed: the text says how to get it. Else what
    /// failed, with the end of its log.
    pub fn start(self) -> Result<PgBouncer, Error> {
        let program = program()?;
        let scratch = Scratch::new(&User::detect()?, None)?;
        let mut process =
            Process { scratch, program, port: 0, patience: self.patience, running: None };
        let mut attempt = 1;
        loop {
            process.port = port::free()?;
            self.configure(&process)?;
            match process.launch() {
                Ok(()) => {
                    let port = process.port;
                    return Ok(PgBouncer { port, mode: self.mode, process: Mutex::new(process) });
                }
                Err(error)
                    if attempt < port::ATTEMPTS_MAX && error.to_string().contains(PORT_TAKEN) =>
                {
                    attempt += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn configure(&self, process: &Process) -> Result<(), Error> {
        let method = if self.auth == Auth::Password { "plain" } else { self.auth.method() };
        let port = process.port.to_string();
        let users = process.file("users.txt");
        let mut settings: Vec<(&str, &str)> = vec![
            ("listen_addr", HOST),
            ("listen_port", &port),
            ("unix_socket_dir", ""),
            ("pool_mode", self.mode.name()),
            ("auth_type", method),
            ("auth_file", path(&users)?),
            ("admin_users", "postgres"),
            ("ignore_startup_parameters", IGNORED),
            // 15 s by default: so long it would not notice that its server is there again.
            ("server_login_retry", "0.1"),
        ];
        let tls = ["tls.crt", "tls.key", "tls-ca.crt"].map(|name| process.file(name));
        let [certificate, key, authorities] = &tls;
        if let Some(tls) = &self.tls {
            process.write("tls.crt", tls.chain())?;
            process.write("tls.key", tls.key())?;
            process.write("tls-ca.crt", tls.authorities())?;
            settings.push(("client_tls_sslmode", "allow"));
            settings.push(("client_tls_cert_file", path(certificate)?));
            settings.push(("client_tls_key_file", path(key)?));
            if tls.asks_clients() {
                settings.push(("client_tls_ca_file", path(authorities)?));
            }
        }
        settings.extend(self.settings.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let mut ini =
            format!("[databases]\n* = host={HOST} port={}\n[pgbouncer]\n", self.server_port);
        for (name, value) in settings {
            if [name, value].iter().any(|text| text.contains(['\n', '\r', '\0'])) {
                return Err(Error::new(format!("setting {name:?} has more than one line")));
            }
            ini.push_str(&format!("{name} = {value}\n"));
        }
        let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
        let users = self.users.iter();
        let users =
            users.map(|(name, password)| format!("{} {}\n", quoted(name), quoted(password)));
        process.write("users.txt", &users.collect::<String>())?;
        process.write("pgbouncer.ini", &ini)
    }
}

impl fmt::Debug for PgBouncerBuilder {
    // Without the passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PgBouncerBuilder")
            .field("server_port", &self.server_port)
            .field("mode", &self.mode)
            .field("auth", &self.auth)
            .field("settings", &self.settings)
            .field("tls", &self.tls)
            .finish_non_exhaustive()
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
    /// A pooler that lets everybody in whom it knows: the cluster's superuser.
    ///
    /// # Errors
    /// As [`PgBouncerBuilder::start`].
    pub fn start(cluster: &Cluster, mode: PoolMode) -> Result<Self, Error> {
        Self::builder(cluster, mode).start()
    }

    /// Describes a pooler before this cluster.
    #[must_use]
    pub fn builder(cluster: &Cluster, mode: PoolMode) -> PgBouncerBuilder {
        let superuser = (cluster.superuser().to_owned(), cluster.superuser_password().to_owned());
        PgBouncerBuilder {
            server_port: cluster.port(),
            mode,
            auth: Auth::Trust,
            users: vec![superuser],
            settings: Vec::new(),
            tls: None,
            patience: cluster.patience(),
        }
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

/// The program in a directory with its files.
struct Process {
    scratch: Scratch,
    program: PathBuf,
    port: u16,
    patience: Duration,
    running: Option<Child>,
}

impl Process {
    fn log(&self) -> Log {
        Log::of(&self.scratch)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.scratch.dir().join(name)
    }

    fn write(&self, name: &str, text: &str) -> Result<(), Error> {
        let path = self.file(name);
        write_private(&path, text.as_bytes())?;
        self.scratch.user().give(&path)
    }

    fn is_running(&mut self) -> bool {
        let runs = matches!(self.running.as_mut().map(Child::try_wait), Some(Ok(None)));
        if !runs && self.running.take().is_some() {
            self.scratch.forget_process();
        }
        runs
    }

    fn launch(&mut self) -> Result<(), Error> {
        let log = self.log();
        let mut command = self.scratch.command(&self.program);
        command.arg(self.file("pgbouncer.ini"));
        let begin = log.attach(&self.scratch, &mut command)?;
        let spawned = command.spawn().map_err(|cause| Error::io("cannot run pgbouncer", cause))?;
        self.running = Some(spawned);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let deadline = Instant::now() + self.patience;
        loop {
            let runs = self.is_running();
            let ready = log.since(begin).is_ok_and(|said| said.contains(READY));
            if runs && ready && TcpStream::connect(address).is_ok() {
                return Ok(());
            }
            if !runs || Instant::now() >= deadline {
                self.stop();
                let reason = if runs { "was not ready in time" } else { "ended while it started" };
                let error = Error::new(format!("PgBouncer on port {} {reason}", self.port));
                return Err(error.with_log(log.tail(begin)));
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn stop(&mut self) {
        let Some(child) = self.running.as_mut() else { return };
        // A process that a test froze would not hear the rest.
        for signal in [Signal::Cont, Signal::Term] {
            let _ = signal.send(child.id());
        }
        if wait(child, TERM_MAX).is_none() {
            let _ = child.kill();
            let _ = child.wait();
        }
        self.running = None;
        self.scratch.forget_process();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
    }
}

/// `PGBELL_PGBOUNCER`, else the first in `PATH` and the directories of system programs.
fn program() -> Result<PathBuf, NotFound> {
    if let Some(program) = env::var_os("PGBELL_PGBOUNCER").filter(|path| !path.is_empty()) {
        let program = PathBuf::from(program);
        if program.is_file() {
            return Ok(program);
        }
        return Err(NotFound::pgbouncer(format!("there is no program {}", program.display())));
    }
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(SYSTEM_DIRS.map(PathBuf::from))
        .map(|dir| dir.join("pgbouncer"))
        .find(|program| program.is_file())
        .ok_or_else(|| {
            NotFound::pgbouncer(format!("no `pgbouncer` on PATH or in {}", SYSTEM_DIRS.join(", ")))
        })
}

fn path(path: &Path) -> Result<&str, Error> {
    path.to_str().ok_or_else(|| Error::new(format!("{} is not UTF-8", path.display())))
}
