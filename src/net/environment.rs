//! The only file that reads environment variables.

use std::env;
use std::ffi::OsString;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio::time::timeout_at;

use super::files::{self, Access};
use crate::config::{ConfigError, ServiceFile};
use crate::{Config, Error, ErrorKind};

/// Directories of `pg_service.conf` for all users, where `PGSYSCONFDIR` names none: what the
/// packages of Debian and of PostgreSQL's own repository for Red Hat are built with.
const SYSTEM_DIRECTORIES: [&str; 2] = ["/etc/postgresql-common", "/etc/sysconfig/pgsql"];

/// The cure where no user is known.
const USER_HINT: &str = "set `user` in the connection string, or PGUSER";

impl Config {
    /// The configuration that the `PG*` environment variables give.
    ///
    /// A service that they name is looked up when it is connected to; it wins over the variables,
    /// as it does in libpq.
    ///
    /// # Errors
    /// When a variable has a value that its parameter cannot have.
    #[cfg_attr(docsrs, doc(cfg(feature = "tokio")))]
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::new().with_environment(|name| env::var_os(name).map(OsString::into_encoded_bytes))
    }
}

/// What is used for one attempt to connect, which began at `begin`. Unset parameters are taken from the service, then
/// from the environment, then have their default.
///
/// # Errors
/// [`ErrorKind::Config`]: the service is not found, a source has a wrong value, or two parameters
/// contradict each other. [`ErrorKind::Timeout`]: `connect_timeout` is over.
pub(crate) async fn resolve(config: Config, begin: Instant) -> Result<Config, Error> {
    let variable = |name: &str| env::var_os(name);
    resolve_in(config, begin, variable, account).await
}

/// The same with these variables, and this account of the process.
pub(super) async fn resolve_in<F: Future<Output = Option<OsString>> + Send>(
    config: Config,
    begin: Instant,
    variable: impl Fn(&str) -> Option<OsString> + Send + Sync,
    account: impl FnOnce() -> F + Send,
) -> Result<Config, Error> {
    let Some(name) = service_name(&config, &variable)? else {
        return complete(config, begin, variable, account).await;
    };
    let until = begin + patience(&config, &variable);
    let service = find_service(&name, service_files(&config, &variable), until).await?;
    complete(config.with_service(&service), begin, variable, account).await.map_err(Error::passing)
}

/// How long a service file is waited for: as long as a connection, as far as that is known without the file.
fn patience(config: &Config, variable: impl Fn(&str) -> Option<OsString>) -> Duration {
    const NAME: &str = "PGCONNECT_TIMEOUT";
    let of_environment = || {
        let lookup = |name: &str| variable(name).filter(|_| name == NAME);
        // A wrong value is an error later, unless the service has another one.
        Config::new().with_environment(|name| lookup(name).map(OsString::into_encoded_bytes)).ok()
    };
    match config.get_connect_timeout() {
        Some(_) => config.effective_connect_timeout(),
        None => of_environment().unwrap_or_default().effective_connect_timeout(),
    }
}

/// The name of the account of the process: that of its effective user id, as libpq has it. `None` if the system has no
/// account of that id. A directory service may be asked over the network.
pub(super) async fn account() -> Option<OsString> {
    tokio::task::spawn_blocking(|| whoami::username_os().ok()).await.ok().flatten()
}

/// Whether a part of what [`resolve`] makes of it comes from a service file. What is wrong with the parameters may be
/// wrong in that file alone.
pub(super) fn has_service(config: &Config) -> bool {
    service_name(config, |name| env::var_os(name)).is_ok_and(|name| name.is_some())
}

/// With what the environment has, and the user of the process. The account is waited for as long as a
/// connection.
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
            let until = begin + config.effective_connect_timeout();
            let found = timeout_at(until.into(), user(variable, account)).await;
            let late = "waited too long for the name of the account of this process";
            let late = |_| Error::new(ErrorKind::Timeout, late).with_hint(USER_HINT);
            config.set("user", &found.map_err(late)??)?
        }
    };
    config.check_complete()?;
    Ok(config)
}

/// The user where no source names one.
async fn user<F: Future<Output = Option<OsString>> + Send>(
    variable: impl Fn(&str) -> Option<OsString> + Send + Sync,
    account: impl FnOnce() -> F + Send,
) -> Result<String, Error> {
    if let Some(name) = account().await.filter(|name| !name.is_empty()) {
        return utf8("the name of the account of this process", name);
    }
    // A container may run under an id without an account. libpq gives up there.
    if let Some((name, value)) =
        ["USER", "LOGNAME"].iter().find_map(|name| Some((name, given(&variable, name)?)))
    {
        return utf8(name, value);
    }
    let message = "no user is given, this process has no account, and USER is not set";
    Err(Error::new(ErrorKind::Config, message).with_hint(USER_HINT))
}

/// A variable that is set to something.
fn given(variable: impl Fn(&str) -> Option<OsString>, name: &str) -> Option<OsString> {
    variable(name).filter(|value| !value.is_empty())
}

fn utf8(name: &'static str, value: OsString) -> Result<String, Error> {
    value
        .into_string()
        .map_err(|_| Error::new(ErrorKind::Config, format!("{name}: expected UTF-8")))
}

/// The service to look up, if there is one.
fn service_name(
    config: &Config,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Result<Option<String>, Error> {
    if let Some(name) = config.get_service() {
        return Ok(Some(name.to_owned()));
    }
    // Given as empty: no service, whatever the environment says.
    if config.is_set("service") {
        return Ok(None);
    }
    given(variable, "PGSERVICE").map(|name| utf8("PGSERVICE", name)).transpose()
}

/// A file that may have the service.
struct Candidate {
    path: PathBuf,
    /// The user named it.
    named: bool,
}

/// Where to look, in libpq's order.
fn service_files(config: &Config, variable: impl Fn(&str) -> Option<OsString>) -> Vec<Candidate> {
    let named = |path: PathBuf| Candidate { path, named: true };
    let usual = |path: PathBuf| Candidate { path, named: false };
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
    candidates: Vec<Candidate>,
    until: Instant,
) -> Result<Config, Error> {
    let refused = |path: &Path, fault: &dyn std::fmt::Display| {
        Error::new(ErrorKind::Config, format!("the service file {path:?} {fault}")).passing()
    };
    let mut looked = Vec::new();
    for Candidate { path, named } in candidates {
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
