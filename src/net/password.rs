//! The password of one attempt: from the provider, the configuration or the password file.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;

use super::files::{self, Access, FileFault};
use crate::config::{Config, PassFile, PasswordRequest, Server};
use crate::error::{Error, ErrorKind};
use crate::proto::auth::{AuthError, Password};

/// Returns the password for this server, at every attempt again: that of the provider, otherwise that of the
/// configuration, otherwise that of the password file.
///
/// # Errors
/// [`ErrorKind::Auth`]: the provider failed. A password file that cannot be used is ignored:
/// [`password_hint`] contains the reason if the password is missing.
///
/// # Cancel safety
/// Dropping it drops the provider's future.
pub(crate) async fn password(config: &Config, server: &Server) -> Result<Option<Password>, Error> {
    if let Some(provider) = config.get_password_provider() {
        let password = provider.call(PasswordRequest::new(config, server)).await?;
        return match password.expose() {
            [] => {
                let message = "the password provider gave an empty password";
                Err(Error::new(ErrorKind::Auth, message).passing())
            }
            _ => Ok(Some(password)),
        };
    }
    if let Some(password) = config.get_password() {
        return Ok(Some(Password::new(password)));
    }
    let found = File::of(config, |name| env::var_os(name));
    let password = match &found {
        Some(file) => file.password(config, server).await.ok().flatten(),
        None => None,
    };
    Ok(password.filter(|password| !password.expose().is_empty()))
}

/// Marks the error as [transient](Error::passing) if the password was missing or could not be sent, and the next attempt may
/// have another one, from a provider or a password file.
///
/// An error of the server that refuses a password is not marked here.
pub(crate) fn blame_password(error: Error, config: &Config) -> Error {
    let fault = error.reason().and_then(|reason| reason.downcast_ref::<AuthError>());
    let is_fault = fault.is_some_and(AuthError::is_about_password);
    if is_fault && is_read_again(config) { error.passing() } else { error }
}

/// Returns whether every attempt gets the password again, from a provider or a password file.
fn is_read_again(config: &Config) -> bool {
    let has_file = || File::of(config, |name| env::var_os(name)).is_some();
    config.has_password_provider() || config.get_password().is_none() && has_file()
}

/// Returns the hint for a missing or wrong password: where it came from, and why a password file was not used. It
/// contains no part of the file.
///
/// `None` if the password is in the configuration.
pub(crate) async fn password_hint(config: &Config, server: &Server) -> Option<String> {
    password_hint_with(config, server, |name| env::var_os(name)).await
}

/// Does the same, with other environment variables.
pub(super) async fn password_hint_with(
    config: &Config,
    server: &Server,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Option<String> {
    if config.has_password_provider() {
        let hint = "the password came from the password_provider, which is called at every attempt: \
                    is it still valid, and is it for this user?";
        return Some(hint.to_owned());
    }
    if config.get_password().is_some() {
        return None;
    }
    let remedy = "set `password`, PGPASSWORD or a password_provider";
    let Some(file) = File::of(config, variable) else {
        return Some(format!("no password is given: {remedy}"));
    };
    let path = &file.path;
    Some(match file.password(config, server).await {
        Ok(Some(password)) if password.expose().is_empty() => {
            format!("the line for this server in the password file {path:?} has an empty password")
        }
        Ok(Some(_)) => format!("the password came from the password file {path:?}"),
        Ok(None) => {
            let login = PasswordRequest::new(config, server);
            format!(
                "the password file {path:?} has no line for {:?}:{}:{:?}:{:?}",
                login.host(),
                login.port(),
                login.dbname(),
                login.user()
            )
        }
        Err(FileFault::Missing) if !file.named => {
            format!("no password is given: {remedy}, or a line in {path:?}")
        }
        Err(fault) => format!("the password file {path:?} was ignored: it {fault}"),
    })
}

/// The password file of a configuration.
struct File {
    path: PathBuf,
    /// True if the user named it.
    named: bool,
}

impl File {
    /// `None` if no file is named and there is no home directory.
    fn of(config: &Config, variable: impl Fn(&str) -> Option<OsString>) -> Option<Self> {
        match config.get_passfile() {
            Some(path) => Some(Self { path: PathBuf::from(path), named: true }),
            None => {
                let path = files::default_passfile(files::home(variable).as_deref())?;
                Some(Self { path, named: false })
            }
        }
    }

    async fn password(
        &self,
        config: &Config,
        server: &Server,
    ) -> Result<Option<Password>, FileFault> {
        let mut text = files::read(self.path.clone(), Access::Owner).await?;
        let user = config.get_user().unwrap_or_default();
        let dbname = config.get_dbname().unwrap_or(user);
        let file = PassFile::new(std::mem::take(&mut *text));
        #[cfg(unix)]
        return Ok(file.password_in(super::dial::default_directory(), server, dbname, user));
        #[cfg(not(unix))]
        Ok(file.password(server, dbname, user))
    }
}
