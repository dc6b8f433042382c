//! The only file that reads environment variables.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::files::{self, Access, FileFault};
use crate::config::{ConfigError, ServiceFile};
use crate::{Config, Error, ErrorKind};

/// Directories of `pg_service.conf` for all users, where `PGSYSCONFDIR` names none: what the
/// packages of Debian and of PostgreSQL's own repository for Red Hat are built with.
const SYSTEM_DIRECTORIES: [&str; 2] = ["/etc/postgresql-common", "/etc/sysconfig/pgsql"];

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

/// What is used for one attempt to connect. Unset parameters are taken from the service, then from
/// the environment, then have their default.
///
/// # Errors
/// [`ErrorKind::Config`]: the service is not found, a source has a wrong value, or two parameters
/// contradict each other.
pub(crate) async fn resolve(config: Config) -> Result<Config, Error> {
    let variable = |name: &str| env::var_os(name);
    resolve_in(config, variable).await
}

/// The same for these variables.
pub(super) async fn resolve_in(
    config: Config,
    variable: impl Fn(&str) -> Option<OsString> + Send + Sync,
) -> Result<Config, Error> {
    match service_name(&config, &variable)? {
        Some(name) => {
            let service = find_service(&name, service_files(&config, &variable)).await?;
            complete(config.with_service(&service), variable).map_err(Error::passing)
        }
        None => complete(config, variable),
    }
}

/// Whether a part of what [`resolve`] makes of it comes from a service file. What is wrong with the parameters may be
/// wrong in that file alone.
pub(super) fn has_service(config: &Config) -> bool {
    service_name(config, |name| env::var_os(name)).is_ok_and(|name| name.is_some())
}

/// With what the environment has.
fn complete(config: Config, variable: impl Fn(&str) -> Option<OsString>) -> Result<Config, Error> {
    let config =
        config.with_environment(|name| variable(name).map(OsString::into_encoded_bytes))?;
    let config = match config.get_user() {
        Some(_) => config,
        // libpq asks the operating system for the name of the user; a login sets these to it.
        None => match ["USER", "LOGNAME"].iter().find_map(|name| given(&variable, name)) {
            Some(user) => config.set("user", &utf8("USER", user)?)?,
            None => {
                return Err(Error::new(ErrorKind::Config, "no user is given, and USER is not set")
                    .with_hint("set `user` in the connection string, or PGUSER"));
            }
        },
    };
    config.check_complete()?;
    Ok(config)
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

async fn find_service(name: &str, candidates: Vec<Candidate>) -> Result<Config, Error> {
    let refused = |path: &Path, fault: &dyn std::fmt::Display| {
        Error::new(ErrorKind::Config, format!("the service file {path:?} {fault}")).passing()
    };
    let mut looked = Vec::new();
    for Candidate { path, named } in candidates {
        let text = match files::read(path.clone(), Access::Any).await {
            Ok(text) => text,
            Err(FileFault::Missing) if !named => continue,
            Err(fault) => return Err(refused(&path, &fault)),
        };
        match ServiceFile::new(&text).service(name) {
            Ok(Some(service)) => return Ok(service),
            Ok(None) => looked.push(format!("{path:?}")),
            Err(error) => {
                let message = format!("the service file {path:?} is wrong");
                return Err(Error::caused(ErrorKind::Config, message, error).passing());
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
