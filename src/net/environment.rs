//! The configuration of an attempt: its parameters completed from the service file, the environment variables of libpq and
//! the account of the process.
//!
//! The variables that are parameters (`PGHOST`, `PGPORT` …), `PGSERVICE`, `PGSERVICEFILE`, `PGSYSCONFDIR`, `USER` and
//! `LOGNAME` are read only here. The directory of the user's files is found with `HOME`, or `APPDATA` on Windows, by
//! `home` in `files.rs`, which is called here, by `password.rs` and by `tls/config.rs`. With `sslrootcert=system`, the crate
//! `rustls_native_certs` reads `SSL_CERT_FILE` and `SSL_CERT_DIR`.

use std::env;
use std::ffi::OsString;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio::time::timeout_at;

use super::files::{self, Access};
use crate::config::Config;
use crate::config::{ConfigError, ServiceFile};
use crate::error::{Error, ErrorKind};

/// The directories of `pg_service.conf` for all users, if `PGSYSCONFDIR` is not set: those of the packages of Debian and of
/// PostgreSQL's own repository for Red Hat.
const SYSTEM_DIRECTORIES: [&str; 2] = ["/etc/postgresql-common", "/etc/sysconfig/pgsql"];

/// The hint if no user is known.
const USER_HINT: &str = "set `user` in the connection string, or PGUSER";

impl Config {
    /// Returns the configuration of the `PG*` environment variables.
    ///
    /// A service that they name is looked up at each attempt to connect. Its parameters take precedence over the variables,
    /// as in libpq.
    ///
    /// # Errors
    /// If the value of a variable is not valid for its parameter.
    #[cfg_attr(docsrs, doc(cfg(feature = "tokio")))]
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::new().with_environment(|name| env::var_os(name).map(OsString::into_encoded_bytes))
    }
}

/// Returns the configuration for one attempt to connect, which began at `begin`. Parameters that are not set are taken from
/// the service, then from the environment, and otherwise have their default.
///
/// # Errors
/// [`ErrorKind::Config`]: the service is not found, a source has an invalid value, or two parameters
/// contradict each other. [`ErrorKind::Timeout`]: `connect_timeout` has passed.
pub(crate) async fn resolve(config: Config, begin: Instant) -> Result<Config, Error> {
    let variable = |name: &str| env::var_os(name);
    resolve_in(config, begin, variable, account).await
}

/// Does the same as [`resolve`], with these variables and this account of the process.
pub(super) async fn resolve_in<F: Future<Output = Option<OsString>> + Send>(
    config: Config,
    begin: Instant,
    variable: impl Fn(&str) -> Option<OsString> + Send + Sync,
    account: impl FnOnce() -> F + Send,
) -> Result<Config, Error> {
    let Some(name) = service_name(&config, &variable)? else {
        return complete(config, begin, variable, account).await;
    };
    let until = begin + service_timeout(&config, &variable);
    let service = find_service(&name, service_files(&config, &variable), until).await?;
    complete(config.with_service(&service), begin, variable, account).await.map_err(Error::passing)
}

/// Returns the timeout for reading a service file: `connect_timeout`, as far as it is known without the file.
fn service_timeout(config: &Config, variable: impl Fn(&str) -> Option<OsString>) -> Duration {
    const NAME: &str = "PGCONNECT_TIMEOUT";
    let of_environment = || {
        let lookup = |name: &str| variable(name).filter(|_| name == NAME);
        // An invalid value is an error later, unless the service sets the parameter.
        Config::new().with_environment(|name| lookup(name).map(OsString::into_encoded_bytes)).ok()
    };
    match config.get_connect_timeout() {
        Some(_) => config.effective().connect_timeout(),
        None => of_environment().unwrap_or_default().effective().connect_timeout(),
    }
}

/// Returns the name of the account of the process: that of its effective user id, as in libpq. `None` if the system has no
/// account with that id. The system may query a directory service over the network.
pub(super) async fn account() -> Option<OsString> {
    tokio::task::spawn_blocking(|| whoami::username_os().ok()).await.ok().flatten()
}

/// Returns whether [`resolve`] uses a service file. An error of the parameters may have its cause in that file, and pass
/// when the file is changed.
pub(super) fn has_service(config: &Config) -> bool {
    service_name(config, |name| env::var_os(name)).is_ok_and(|name| name.is_some())
}

/// Adds the parameters of the environment, and the user of the process. Looking up the account must not take longer than
/// `connect_timeout`.
async fn complete<F: Future<Output = Option<OsString>> + Send>(
    config: Config,
    begin: Instant,
    variable: impl Fn(&str) -> Option<OsString> + Send + Sync,
    account: impl FnOnce() -> F + Send,
) -> Result<Config, Error> {
    let config =
        config.with_environment(|name| variable(name).map(OsString::into_encoded_bytes))?;
    let config = match config.get_user() {
        Some(_) => config,
        None => {
            let until = begin + config.effective().connect_timeout();
            let found = timeout_at(until.into(), user(variable, account)).await;
            let late = "waited too long for the name of the account of this process";
            let late = |_| Error::new(ErrorKind::Timeout, late).with_hint(USER_HINT);
            config.set("user", &found.map_err(late)??)?
        }
    };
    config.check_complete()?;
    Ok(config)
}

/// Returns the user if no source names one.
async fn user<F: Future<Output = Option<OsString>> + Send>(
    variable: impl Fn(&str) -> Option<OsString> + Send + Sync,
    account: impl FnOnce() -> F + Send,
) -> Result<String, Error> {
    if let Some(name) = account().await.filter(|name| !name.is_empty()) {
        return utf8("the name of the account of this process", name);
    }
    // A container may run under an id without an account. libpq fails then.
    if let Some((name, value)) =
        ["USER", "LOGNAME"].iter().find_map(|name| Some((name, given(&variable, name)?)))
    {
        return utf8(name, value);
    }
    let message = "no user is given, this process has no account, and USER is not set";
    Err(Error::new(ErrorKind::Config, message).with_hint(USER_HINT))
}

/// Returns the value of a variable that is set and not empty.
fn given(variable: impl Fn(&str) -> Option<OsString>, name: &str) -> Option<OsString> {
    variable(name).filter(|value| !value.is_empty())
}

fn utf8(name: &'static str, value: OsString) -> Result<String, Error> {
    value
        .into_string()
        .map_err(|_| Error::new(ErrorKind::Config, format!("{name}: expected UTF-8")))
}

/// Returns the name of the service to look up, if there is one.
fn service_name(
    config: &Config,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Result<Option<String>, Error> {
    if let Some(name) = config.get_service() {
        return Ok(Some(name.to_owned()));
    }
    // Set to an empty value: no service, whatever the environment contains.
    if config.is_set("service") {
        return Ok(None);
    }
    given(variable, "PGSERVICE").map(|name| utf8("PGSERVICE", name)).transpose()
}

/// A file that may contain the service.
struct ServicePath {
    path: PathBuf,
    /// True if the user named it.
    named: bool,
}

/// Returns the files to search, in libpq's order.
fn service_files(config: &Config, variable: impl Fn(&str) -> Option<OsString>) -> Vec<ServicePath> {
    let named = |path: PathBuf| ServicePath { path, named: true };
    let usual = |path: PathBuf| ServicePath { path, named: false };
    let own = config
        .get_service_file()
        .map(PathBuf::from)
        .or_else(|| given(&variable, "PGSERVICEFILE").map(PathBuf::from))
        .map(named)
        .or_else(|| files::default_service_file(files::home(&variable).as_deref()).map(usual));
    let system = match given(&variable, "PGSYSCONFDIR") {
        Some(directory) => vec![PathBuf::from(directory)],
        None => SYSTEM_DIRECTORIES.map(PathBuf::from).to_vec(),
    };
    let system = system.iter().map(|directory| usual(directory.join("pg_service.conf")));
    own.into_iter().chain(system).collect()
}

async fn find_service(
    name: &str,
    candidates: Vec<ServicePath>,
    until: Instant,
) -> Result<Config, Error> {
    let refused = |path: &Path, fault: &dyn std::fmt::Display| {
        Error::new(ErrorKind::Config, format!("the service file {path:?} {fault}")).passing()
    };
    let mut looked = Vec::new();
    for ServicePath { path, named } in candidates {
        // A network file system may hang.
        let read = timeout_at(until.into(), files::read(path.clone(), Access::Any)).await;
        let late = || format!("waited too long for the service file {path:?}");
        let text = match read.map_err(|_| Error::new(ErrorKind::Timeout, late()))? {
            Ok(text) => text,
            Err(fault) if !named && fault.is_absence() => continue,
            Err(fault) => return Err(refused(&path, &fault)),
        };
        match ServiceFile::new(&text).service(name) {
            Ok(Some(service)) => return Ok(service),
            Ok(None) => looked.push(format!("{path:?}")),
            Err(error) => {
                let file = format!("the service file {path:?} is wrong");
                return Err(Error::from(error).within(&file).passing());
            }
        }
    }
    let message = match looked.is_empty() {
        true => format!("service {name:?} is given, but there is no service file"),
        false => format!("service {name:?} is not in {}", looked.join(", ")),
    };
    Err(Error::new(ErrorKind::Config, message).passing().with_hint(
        "services are looked for in servicefile, else PGSERVICEFILE, else ~/.pg_service.conf; \
         then in pg_service.conf of PGSYSCONFDIR",
    ))
}
