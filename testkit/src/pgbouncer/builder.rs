//! The description of a pooler.

use std::fmt;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use super::process::Process;
use super::{PgBouncer, PoolMode};
use crate::auth::Auth;
use crate::cluster::Cluster;
use crate::error::Error;
use crate::port;
use crate::tls::Tls;
use crate::url::HOST;

/// What PgBouncer logs if its port is in use.
const PORT_TAKEN: &str = "Address already in use";

/// Parameters that clients send when they log in, and that a pooler refuses by default.
const IGNORED: &str = "extra_float_digits, options, search_path, statement_timeout, lock_timeout, \
                       idle_in_transaction_session_timeout, idle_session_timeout";

/// Describes a [`PgBouncer`]. Made by [`PgBouncer::builder`].
#[derive(Clone)]
pub struct PgBouncerBuilder {
    server_port: u16,
    mode: PoolMode,
    auth: Auth,
    users: Vec<(String, String)>,
    settings: Vec<(String, String)>,
    tls: Option<Tls>,
    timeout: Duration,
}

impl PgBouncerBuilder {
    /// Sets how clients log in to the pooler. [`Auth::ScramSha256`] by default. The pooler has the passwords for the
    /// server: with [`Auth::Trust`] every user of this machine can connect to the server as the superuser.
    #[must_use]
    pub fn auth(mut self, auth: Auth) -> Self {
        self.auth = auth;
        self
    }

    /// Adds a user that may log in, with the password that the pooler checks and sends to the server. The
    /// cluster's superuser is one by default.
    #[must_use]
    pub fn user(mut self, name: impl Into<String>, password: impl Into<String>) -> Self {
        self.users.push((name.into(), password.into()));
        self
    }

    /// Adds a setting of `pgbouncer.ini`, section `pgbouncer`. Of several with one name the last is used.
    #[must_use]
    pub fn setting(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.push((name.into(), value.into()));
        self
    }

    /// Offers TLS to clients. Connections without TLS stay possible. The versions of a [`Tls`] and its
    /// revocation list are not used here.
    #[must_use]
    pub fn tls(mut self, tls: impl Into<Tls>) -> Self {
        self.tls = Some(tls.into());
        self
    }

    pub(super) fn new(cluster: &Cluster, mode: PoolMode) -> Self {
        let superuser = (cluster.superuser().to_owned(), cluster.superuser_password().to_owned());
        Self {
            server_port: cluster.port(),
            mode,
            auth: Auth::ScramSha256,
            users: vec![superuser],
            settings: Vec::new(),
            tls: None,
            timeout: cluster.timeout(),
        }
    }

    /// Starts the pooler on a free port and waits until it accepts connections.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if PgBouncer is not installed: the text says how to install it. Otherwise the step that
    /// failed, with the end of its log.
    pub fn start(self) -> Result<PgBouncer, Error> {
        let mut process = Process::new(self.timeout)?;
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
            // With the default, 15 s, it would notice late that its server runs again.
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

fn path(path: &Path) -> Result<&str, Error> {
    path.to_str().ok_or_else(|| Error::new(format!("{} is not UTF-8", path.display())))
}
