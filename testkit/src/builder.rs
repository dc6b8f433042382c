//! The description of a cluster, and the steps that make it.

use std::env;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::auth::Auth;
use crate::cluster::Cluster;
use crate::error::Error;
use crate::files::{append_as, write_as};
use crate::guard::Scratch;
use crate::installation::Installation;
use crate::reach;
use crate::server::Server;
use crate::session::{ROLE_HBA, ROLE_SQL};
use crate::setting::setting_line;
use crate::template::Template;
use crate::tls::Tls;
use crate::user::User;

/// Name of the superuser of every cluster.
pub(crate) const SUPERUSER: &str = "postgres";

/// The beginning of the superuser's password if the test does not set one. The check for secrets in the output of tests
/// searches for this word.
const PASSWORD_WORD: &str = "pl4nted";
/// The number of random bytes after it.
const PASSWORD_BYTES: usize = 16;

/// Settings for a fast server that is alone. The test's own settings come after these.
const SETTINGS: [(&str, &str); 7] = [
    ("listen_addresses", "127.0.0.1"),
    ("fsync", "off"),
    ("full_page_writes", "off"),
    ("synchronous_commit", "off"),
    // In the data directory, so that no file stays in /dev/shm when the server is killed.
    ("dynamic_shared_memory_type", "mmap"),
    ("lc_messages", "C"),
    ("timezone", "UTC"),
];

/// Describes a [`Cluster`]. Made by [`Cluster::builder`].
#[derive(Clone)]
pub struct ClusterBuilder {
    installation: Option<Installation>,
    auth: Option<Auth>,
    superuser_password: Option<String>,
    settings: Vec<(String, String)>,
    hba: Vec<String>,
    ident: Vec<String>,
    tls: Option<Tls>,
    files: Vec<(String, Vec<u8>)>,
    init_sql: Vec<String>,
    encoding: String,
    unix_socket: bool,
    data_parent: Option<PathBuf>,
    template_dir: Option<PathBuf>,
    timeout: Duration,
}

impl ClusterBuilder {
    pub(crate) fn new() -> Self {
        Self {
            installation: None,
            auth: None,
            superuser_password: None,
            settings: Vec::new(),
            hba: Vec::new(),
            ident: Vec::new(),
            tls: None,
            files: Vec::new(),
            init_sql: Vec::new(),
            encoding: "UTF8".to_owned(),
            unix_socket: true,
            data_parent: None,
            template_dir: None,
            timeout: Duration::from_secs(60),
        }
    }

    /// Sets the installation of the server. [`Installation::find`] by default.
    #[must_use]
    pub fn installation(mut self, installation: Installation) -> Self {
        self.installation = Some(installation);
        self
    }

    /// Sets how clients log in, over TCP and over the Unix socket. By default it is [`Auth::ScramSha256`] over TCP, and there
    /// is no authentication over the socket, whose directory only the server's user and root can enter.
    #[must_use]
    pub fn auth(mut self, auth: Auth) -> Self {
        self.auth = Some(auth);
        self
    }

    /// Sets the password of the superuser `postgres`. Random by default, with `pl4nted` at its beginning.
    #[must_use]
    pub fn superuser_password(mut self, password: impl Into<String>) -> Self {
        self.superuser_password = Some(password.into());
        self
    }

    /// Adds a line of `postgresql.conf`, without quotes: `setting("max_connections", "50")`. Of several with one name the
    /// last is used. `port` and `unix_socket_directories` cannot be set.
    #[must_use]
    pub fn setting(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.push((name.into(), value.into()));
        self
    }

    /// Adds a line of `pg_hba.conf`, before those of [`auth`](Self::auth). The first line that matches is used.
    /// `hostnossl all all all reject` refuses connections without TLS.
    #[must_use]
    pub fn hba(mut self, line: impl Into<String>) -> Self {
        self.hba.push(line.into());
        self
    }

    /// Adds a line of `pg_ident.conf`: with this map a user that the method has authenticated as `system_user`
    /// may log in as `role`. A line of [`hba`](Self::hba) uses it: `hostssl all all all cert map=people`.
    #[must_use]
    pub fn ident(mut self, map: &str, system_user: &str, role: &str) -> Self {
        let quoted =
            [map, system_user, role].map(|word| format!("\"{}\"", word.replace('"', "\"\"")));
        self.ident.push(quoted.join(" "));
        self
    }

    /// Offers TLS, with a certificate or with the options of [`Tls`]. Connections without TLS stay possible.
    #[must_use]
    pub fn tls(mut self, tls: impl Into<Tls>) -> Self {
        self.tls = Some(tls.into());
        self
    }

    /// Adds a file in the data directory, which only the server's user can read.
    #[must_use]
    pub fn file(mut self, name: impl Into<String>, contents: impl Into<Vec<u8>>) -> Self {
        self.files.push((name.into(), contents.into()));
        self
    }

    /// Adds SQL that the server executes in the database `postgres` before it listens, in the order of
    /// the calls. The server encrypts a password in it, as the settings say.
    ///
    /// The text is read in the cluster's encoding: if that is not UTF8, use only ASCII.
    #[must_use]
    pub fn init_sql(mut self, sql: impl Into<String>) -> Self {
        self.init_sql.push(sql.into());
        self
    }

    /// Sets the encoding of the databases. `UTF8` by default, and always the locale `C`.
    #[must_use]
    pub fn encoding(mut self, encoding: impl Into<String>) -> Self {
        self.encoding = encoding.into();
        self
    }

    /// Sets whether clients can log in over a Unix socket too. They can by default. The testkit's own role always
    /// can.
    #[must_use]
    pub fn unix_socket(mut self, listen: bool) -> Self {
        self.unix_socket = listen;
        self
    }

    /// Sets the directory in which the cluster's directory is made: `TMPDIR`, else `/tmp`, by default.
    ///
    /// The server's user must be able to enter it. If the caller is root, it and all directories above it must belong to
    /// root. Others may write there only if it is sticky, as `/tmp` is: otherwise another user could exchange directories.
    #[must_use]
    pub fn data_parent(mut self, dir: impl Into<PathBuf>) -> Self {
        self.data_parent = Some(dir.into());
        self
    }

    /// Sets the directory in which new data directories are kept, so that `initdb` runs once for each version and encoding
    /// and not for each cluster. `PGBELL_TEMPLATE_DIR` by default; if that is not set either, none is kept.
    ///
    /// The directory must belong to the caller with mode 0700, and the caller must remove it. Many processes can use it at
    /// once. Each archive in it has about 40 MB. Clusters from the same archive have the same system identifier.
    ///
    /// If the caller is root, the directories above it must be as for [`data_parent`](Self::data_parent).
    #[must_use]
    pub fn template_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.template_dir = Some(dir.into());
        self
    }

    /// Sets the time after which a start or a stop is an error. 60 s by default.
    #[must_use]
    pub fn timeout(mut self, longest: Duration) -> Self {
        self.timeout = longest;
        self
    }

    /// Makes the cluster, starts its server and waits until it accepts connections.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is no PostgreSQL: the text says how to install one. Otherwise the step that failed,
    /// with the end of the server's log.
    pub fn start(self) -> Result<Cluster, Error> {
        let user = User::detect()?;
        let installation = match &self.installation {
            Some(installation) => installation.clone(),
            None => Installation::find()?,
        };
        let bin = reach::programs(installation.bin(), &user)?;
        let scratch = Scratch::new(&user, self.data_parent.as_deref())?;
        let mut server = Server {
            scratch,
            bin,
            port: 0,
            unix_socket: self.unix_socket,
            timeout: self.timeout,
            running: None,
        };
        let password = match &self.superuser_password {
            Some(password) => password.clone(),
            None => random_password()?,
        };
        self.initialize(&server, &installation, &password)?;
        server.start_somewhere()?;
        Ok(Cluster::new(server, installation, password))
    }

    fn initialize(
        &self,
        server: &Server,
        installation: &Installation,
        password: &str,
    ) -> Result<(), Error> {
        if self.auth == Some(Auth::Cert) && !self.tls.as_ref().is_some_and(Tls::asks_clients) {
            return Err(Error::new(
                "Auth::Cert needs a Tls with a client_authority: no client could log in",
            ));
        }
        self.fill(server, installation.version())?;
        let data = server.data();
        let user = server.scratch.user();
        append_as(user, &data.join("postgresql.conf"), &self.postgresql_conf()?)?;
        write_as(user, &data.join("pg_hba.conf"), self.pg_hba_conf().as_bytes())?;
        append_as(user, &data.join("pg_ident.conf"), &lines(&self.ident))?;
        if let Some(tls) = &self.tls {
            server.write_tls(tls)?;
        }
        for (name, contents) in &self.files {
            server.write_file(name, contents)?;
        }
        self.run_sql(server, password)
    }

    /// Makes the contents of the data directory, as `initdb` does.
    fn fill(&self, server: &Server, version: &str) -> Result<(), Error> {
        let encoding = format!("--encoding={}", self.encoding);
        let options = ["-U", SUPERUSER, "-A", "trust", "--no-sync", "--locale=C", &encoding];
        let initdb = || server.scratch.run("initdb", server.command("initdb").args(options));
        let named = env::var_os("PGBELL_TEMPLATE_DIR").filter(|dir| !dir.is_empty());
        let Some(dir) = self.template_dir.clone().or(named.map(PathBuf::from)) else {
            return initdb();
        };
        let template = Template::new(&dir, server, version, &options)?;
        if template.unpack(server)? {
            return Ok(());
        }
        initdb()?;
        template.pack(server)
    }

    fn postgresql_conf(&self) -> Result<String, Error> {
        let stored = self.auth.unwrap_or(Auth::ScramSha256).stored();
        let stored = [("password_encryption", stored)];
        let ours = SETTINGS.iter().chain(&stored).copied();
        let theirs = self.settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let mut text = String::from("\n");
        if let Some(tls) = &self.tls {
            text.push_str(&tls.settings()?);
        }
        for (name, value) in ours.chain(theirs) {
            text.push_str(&setting_line(name, value)?);
        }
        Ok(text)
    }

    fn pg_hba_conf(&self) -> String {
        let others = if self.unix_socket { "" } else { "local all all reject\n" };
        [ROLE_HBA, others, &lines(&self.hba), &Auth::hba(self.auth)].concat()
    }

    fn run_sql(&self, server: &Server, password: &str) -> Result<(), Error> {
        let password = password.replace('\'', "''").replace('\\', "\\\\");
        let password = format!("ALTER ROLE {SUPERUSER} PASSWORD E'{password}'");
        let own = [password.as_str(), ROLE_SQL].into_iter();
        server.run_alone(own.chain(self.init_sql.iter().map(String::as_str)))
    }
}

/// A random password.
fn random_password() -> Result<String, Error> {
    let mut bytes = [0; PASSWORD_BYTES];
    let path = Path::new("/dev/urandom");
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut bytes));
    read.map_err(Error::on("read", path))?;
    let digits = bytes.iter().map(|byte| format!("{byte:02x}"));
    Ok(format!("{PASSWORD_WORD}-{}", digits.collect::<String>()))
}

impl fmt::Debug for ClusterBuilder {
    // Without the passwords: that of the superuser, and those in the SQL.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterBuilder")
            .field("installation", &self.installation)
            .field("auth", &self.auth)
            .field("settings", &self.settings)
            .field("tls", &self.tls)
            .field("encoding", &self.encoding)
            .field("unix_socket", &self.unix_socket)
            .field("data_parent", &self.data_parent)
            .field("template_dir", &self.template_dir)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

fn lines(lines: &[String]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_another_one_each_time() {
        let [one, two] = [random_password().unwrap(), random_password().unwrap()];
        assert_ne!(one, two);
        assert!(one.starts_with("pl4nted-") && one.len() == "pl4nted-".len() + 32, "{}", one.len());
    }

    #[test]
    fn no_password_is_shown() {
        let builder = ClusterBuilder::new()
            .superuser_password("quiet-one")
            .init_sql("CREATE ROLE a PASSWORD 'quiet-two'");
        assert!(!format!("{builder:?}").contains("quiet"));
    }
}
